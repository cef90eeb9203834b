//! What clients did beyond their lists, gathered until the next look at the files: a client that tries a thousand topics a
//! second costs the registry one transaction.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use quoll_broker::vocabulary;
use quoll_fleet::access_list::{Act, Observation};
use time::OffsetDateTime;

/// Topics gathered at once; of more, those that came first are kept.
const WAITING_MAX: usize = 4096;

/// Name, act and topic.
type Key = (Arc<str>, Act, Arc<str>);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<HashMap<Key, Observation>>);

impl Denials {
    /// Notes one act. Of an anonymous client nothing can be learned.
    pub(crate) fn note(&self, identity: &Arc<str>, act: vocabulary::Act, topic: &Arc<str>, refused: bool) {
        if identity.is_empty() {
            return;
        }
        let act = match act {
            vocabulary::Act::Publish => Act::Publish,
            vocabulary::Act::Subscribe => Act::Subscribe,
        };
        let now = OffsetDateTime::now_utc();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = waiting.len() >= WAITING_MAX;
        match waiting.get_mut(&(Arc::clone(identity), act, Arc::clone(topic))) {
            Some(known) => {
                known.times += 1;
                known.last = now;
                known.refused = refused;
            }
            None if is_full => {}
            None => {
                let (name, text) = (identity.to_string(), topic.to_string());
                let seen = Observation { name, act, topic: text, refused, times: 1, first: now, last: now };
                waiting.insert((Arc::clone(identity), act, Arc::clone(topic)), seen);
            }
        }
    }

    /// What was noted since the last time.
    pub(crate) fn take(&self) -> Vec<Observation> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *waiting).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_again_is_counted_and_the_flood_is_bounded() {
        let denials = Denials::default();
        let (name, nobody): (Arc<str>, Arc<str>) = ("lamp".into(), "".into());
        for refused in [true, false] {
            denials.note(&name, vocabulary::Act::Publish, &"a/b".into(), refused);
        }
        denials.note(&nobody, vocabulary::Act::Publish, &"a/b".into(), true);
        let seen = denials.take();
        assert_eq!((seen.len(), seen[0].times, seen[0].refused), (1, 2, false));
        for n in 0..2 * WAITING_MAX {
            denials.note(&name, vocabulary::Act::Subscribe, &format!("{n}").into(), true);
        }
        assert_eq!(denials.take().len(), WAITING_MAX);
        assert!(denials.take().is_empty());
    }
}
