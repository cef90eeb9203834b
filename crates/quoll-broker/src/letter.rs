//! Mail between shards as bytes, for a shard on another machine. In one process letters travel as they are.

use crate::change::Parcel;
use crate::record::{Reader, RecordError, Writer};
use crate::vocabulary::{Letter, ShardId};

impl Letter {
    /// Its bytes, with version and checksum.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Message(message) => {
                let mut to = Writer::new(0);
                to.message(message);
                to.finish()
            }
            Self::Chosen { client_id, filter, message, offers, may_pass } => {
                let mut to = Writer::new(7);
                to.text(client_id);
                to.text(filter);
                to.message(message);
                to.short(*offers);
                to.flag(*may_pass);
                to.finish()
            }
            Self::Passed { client_id, filter, message, offers, is_full } => {
                let mut to = Writer::new(8);
                to.text(client_id);
                to.text(filter);
                to.message(message);
                to.short(*offers);
                to.flag(*is_full);
                to.finish()
            }
            Self::Joined { shard, client_id, filter, connected } => {
                let mut to = Writer::new(2);
                to.short(shard.0);
                to.text(client_id);
                to.text(filter);
                to.flag(*connected);
                to.finish()
            }
            Self::Left { client_id, filter } => {
                let mut to = Writer::new(3);
                to.text(client_id);
                to.text(filter);
                to.finish()
            }
            Self::Returned { parcel } => {
                let mut to = Writer::new(4);
                parcel.write(&mut to);
                to.finish()
            }
            Self::Asked { shard, ticket } => {
                let mut to = Writer::new(5);
                to.short(shard.0);
                to.long(*ticket);
                to.finish()
            }
            Self::Answered { ticket } => {
                let mut to = Writer::new(6);
                to.long(*ticket);
                to.finish()
            }
        }
    }

    /// Reads a letter; exact: every byte is used.
    ///
    /// # Errors
    /// Where the bytes are damaged or of an unknown version.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (kind, mut from) = Reader::open(bytes)?;
        let letter = match kind {
            0 => Self::Message(from.message()?),
            // Written by versions in which nobody passed a message over.
            1 => Self::Chosen {
                client_id: from.text("client id")?,
                filter: from.text("filter")?,
                message: from.message()?,
                offers: 1,
                may_pass: false,
            },
            2 => Self::Joined {
                shard: ShardId(from.short()?),
                client_id: from.text("client id")?,
                filter: from.text("filter")?,
                connected: from.flag("connected")?,
            },
            3 => Self::Left { client_id: from.text("client id")?, filter: from.text("filter")? },
            4 => Self::Returned { parcel: Box::new(Parcel::read(&mut from)?) },
            5 => Self::Asked { shard: ShardId(from.short()?), ticket: from.long()? },
            6 => Self::Answered { ticket: from.long()? },
            7 => Self::Chosen {
                client_id: from.text("client id")?,
                filter: from.text("filter")?,
                message: from.message()?,
                offers: from.short()?,
                may_pass: from.flag("may pass")?,
            },
            8 => Self::Passed {
                client_id: from.text("client id")?,
                filter: from.text("filter")?,
                message: from.message()?,
                offers: from.short()?,
                is_full: from.flag("full")?,
            },
            found => return Err(RecordError::Kind { found }),
        };
        from.close()?;
        Ok(letter)
    }
}
