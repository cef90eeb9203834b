//! The last that each device said, for those who watch.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use quoll_broker::message::Message;

/// Of a payload, what fits on a line.
const SHOWN: usize = 160;
/// Topic prefixes remembered; more devices than a node serves.
const REMEMBERED: usize = 200_000;

/// Last message by the topic's levels above the last one: `tele/kitchen/`.
#[derive(Default)]
pub(crate) struct LastWords(Mutex<HashMap<String, (String, String)>>);

impl LastWords {
    pub(crate) fn note(&self, message: &Message) {
        let topic = message.topic.as_str();
        let Some((prefix, _)) = topic.rsplit_once('/') else { return };
        let text: String = String::from_utf8_lossy(&message.payload)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(SHOWN)
            .collect();
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = words.len() < REMEMBERED;
        match words.get_mut(prefix) {
            // LWT says less than what came before it.
            Some(_) if topic.ends_with("/LWT") => {}
            Some(old) => *old = (topic.to_owned(), text),
            None if room => {
                words.insert(prefix.to_owned(), (topic.to_owned(), text));
            }
            None => {}
        }
    }

    /// Topic and text of the last message under a prefix (without its last `/`).
    pub(crate) fn of(&self, prefix: &str) -> Option<(String, String)> {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        words.get(prefix.trim_end_matches('/')).cloned()
    }
}
