//! What the journal is held to: the state it tells is the state it was told.
#![allow(clippy::unwrap_used)]

mod damage;
mod letters;
mod lost;
mod replay;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quoll_broker::change::{Change, Parcel, SessionRecord};
use quoll_broker::message::MessageParts;
use quoll_broker::vocabulary::Identity;
use quoll_broker::{Message, Moment};
use quoll_mqtt::packet::SubscriptionOptions;
use quoll_mqtt::{PacketId, QoS, TopicFilter, TopicName};

use super::*;

/// A file in a folder of its own, gone with the test.
pub(super) struct Place {
    pub(super) folder: tempfile::TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("broker.db")
    }

    pub(super) fn journal(&self) -> SqliteJournal {
        SqliteJournal::open(&self.path(), Durability::Process).unwrap()
    }

    /// Writes these and closes the file.
    pub(super) fn holding(changes: &[Change]) -> Self {
        let place = Self::new();
        place.journal().append(changes).unwrap();
        place
    }

    /// The file, seen by another program.
    pub(super) fn sql(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path()).unwrap()
    }

    pub(super) fn count(&self, table: &str) -> u32 {
        self.sql().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }
}

pub(super) fn recall(journal: &mut SqliteJournal) -> Result<Vec<Change>, JournalError> {
    let mut all = Vec::new();
    journal.recall(&mut |change| all.push(change))?;
    Ok(all)
}

pub(super) fn wait_until_durable(journal: &SqliteJournal, sequence: Sequence) {
    let begun = Instant::now();
    while !matches!(journal.durable(), Durable::UpTo(upto) if upto >= sequence) {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", journal.durable());
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(super) fn message(number: u64, topic: &str, qos: QoS) -> Arc<Message> {
    Arc::new(Message::new(MessageParts {
        number,
        publisher: "p".into(),
        topic: TopicName::parse(topic).unwrap(),
        payload: Bytes::from(number.to_string()),
        qos,
        retain: false,
        properties: None,
        expires: None,
    }))
}

pub(super) fn session(client: &str) -> Change {
    let identity = Identity { name: "somebody".into(), credential: Some([7; 32]) };
    let record = SessionRecord { identity, expiry: 3600, absent_since: Some(Moment(1_800_000_000_000)) };
    Change::Session { client_id: client.into(), record }
}

pub(super) fn subscribed(client: &str, filter: &str) -> Change {
    Change::Subscribed {
        client_id: client.into(),
        filter: TopicFilter::parse(filter).unwrap(),
        options: SubscriptionOptions { qos: QoS::ExactlyOnce, ..SubscriptionOptions::default() },
        identifier: 0,
    }
}

pub(super) fn queued(client: &str, place: u64, number: u64) -> Change {
    let message = message(number, "t", QoS::ExactlyOnce);
    let qos = QoS::ExactlyOnce;
    let parcel = Parcel { message, qos, retain: false, identifiers: None, shared: None };
    Change::Queued { client_id: client.into(), place, parcel }
}

pub(super) fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

pub(super) fn sent(client: &str, place: u64) -> Change {
    Change::Sent { client_id: client.into(), place, packet_id: id(place as u16 % 100 + 1) }
}

pub(super) fn lodged(client: &str, number: u64) -> Change {
    Change::WillLodged {
        client_id: client.into(),
        identity: Box::new(Identity { name: "somebody".into(), credential: Some([7; 32]) }),
        message: message(number, "will", QoS::AtLeastOnce),
        expiry: Some(60),
        delay: 5,
    }
}
