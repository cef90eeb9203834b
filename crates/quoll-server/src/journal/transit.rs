//! Letters between shards, as the journal sees them.
//!
//! A publisher is told that its message is safe as soon as the facts of **its** shard are. A message for another shard's
//! sessions is a letter by then, and no fact yet. So the letter itself is one: kept in the same breath as what the
//! publisher's shard keeps, and forgotten in the same breath as the facts that come of it. Most of the time both stand
//! in one batch and nothing is written. What is left after a crash is posted again at the start, so that an acknowledged
//! message is neither lost nor, at QoS 2, told twice.

use std::sync::Arc;

use quoll_broker::vocabulary::{Letter, ShardId};
use quoll_mqtt::QoS;

/// What happened to a letter.
#[derive(Clone, Debug)]
pub enum Transit {
    /// It was sent.
    Sent(LetterKey, Letter),
    /// Its shard took it; the facts that came of it are in the same turn.
    Taken(LetterKey),
}

/// Which letter is meant.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LetterKey {
    /// The shard it goes to.
    pub to: ShardId,
    /// The message's number.
    pub number: u64,
    /// The shared subscription that it travels for; empty for none.
    pub filter: Arc<str>,
    /// Whether it comes back from a member that never acknowledged it, or had no room.
    pub returned: bool,
}

impl LetterKey {
    /// The key of a letter that must not get lost; `None` for one that may: QoS 0, and what is no message.
    #[must_use]
    pub fn of(to: ShardId, letter: &Letter) -> Option<Self> {
        let (message, filter, returned): (_, Arc<str>, _) = match letter {
            Letter::Message(message) => (message, "".into(), false),
            Letter::Chosen { filter, message, .. } => (message, Arc::clone(filter), false),
            Letter::Passed { filter, message, .. } => (message, Arc::clone(filter), true),
            Letter::Returned { parcel } => {
                (&parcel.message, parcel.shared.as_ref().map_or("", |it| it.as_str()).into(), true)
            }
            Letter::Joined { .. } | Letter::Left { .. } | Letter::Asked { .. } | Letter::Answered { .. } => {
                return None;
            }
        };
        (message.qos > QoS::AtMostOnce).then(|| Self { to, number: message.number, filter, returned })
    }
}
