//! The last that each device said, for those who watch.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use quoll_broker::message::Message;
use time::OffsetDateTime;

/// Of a payload, what fits on a line.
const SHOWN: usize = 160;
/// Topic prefixes remembered; more devices than a node serves.
const REMEMBERED: usize = 200_000;

/// A message in brief.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said {
    pub(crate) topic: String,
    pub(crate) text: String,
    pub(crate) at: OffsetDateTime,
}

/// Last message by the topic's levels above the last one: `tele/kitchen/`.
#[derive(Default)]
pub(crate) struct LastWords(Mutex<HashMap<String, Said>>);

impl LastWords {
    pub(crate) fn note(&self, message: &Message) {
        let topic = message.topic.as_str();
        let Some((prefix, _)) = topic.rsplit_once('/') else { return };
        let text: String = String::from_utf8_lossy(&message.payload)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(SHOWN)
            .collect();
        let at = OffsetDateTime::now_utc();
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = words.len() < REMEMBERED;
        match words.get_mut(prefix) {
            // LWT says less than what came before it.
            Some(_) if topic.ends_with("/LWT") => {}
            Some(old) => *old = Said { topic: topic.to_owned(), text, at },
            None if room => {
                words.insert(prefix.to_owned(), Said { topic: topic.to_owned(), text, at });
            }
            None => {}
        }
    }

    /// The last message under a prefix.
    pub(crate) fn of(&self, prefix: &str) -> Option<Said> {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        words.get(prefix.trim_end_matches('/')).cloned()
    }
}
