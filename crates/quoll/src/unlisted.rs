//! Certificates of our CA that are in no registry, as they come to the door: counted in memory, written down in batches.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use quoll_fleet::limits::UNLISTED_MAX;
use quoll_fleet::registry::unlisted::Visit;

use crate::directory::Credential;

/// Who came and is in no registry.
#[derive(Debug, Default)]
pub(crate) struct Strangers(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Visits since the last report.
    news: HashMap<Credential, Visit>,
    /// Everybody who was let in although nobody knows them.
    inside: HashMap<Credential, ()>,
}

impl Strangers {
    /// Notes a visit; whether it is the first since the last report.
    pub(crate) fn came(&self, credential: Credential, visit: Visit, admitted: bool) -> bool {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let most = UNLISTED_MAX as usize;
        if admitted && inner.inside.len() < most {
            inner.inside.insert(credential, ());
        }
        let full = inner.news.len() >= most;
        match inner.news.entry(credential) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                let times = known.times.saturating_add(visit.times);
                *known = Visit { times, ..visit };
                false
            }
            Entry::Vacant(_) if full => false,
            Entry::Vacant(free) => {
                free.insert(visit);
                true
            }
        }
    }

    /// What is to be written down.
    pub(crate) fn take(&self) -> Vec<Visit> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut inner.news).into_values().collect()
    }

    /// Those who were let in as strangers and are somebody now, or are to be out: each is told of once.
    pub(crate) fn no_more(&self, is_stranger: impl Fn(&Credential) -> bool) -> Vec<Credential> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<_> =
            inner.inside.keys().filter(|credential| !is_stranger(credential)).copied().collect();
        for credential in &gone {
            inner.inside.remove(credential);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    fn visit(client_id: &str) -> Visit {
        Visit {
            serial: "0A".into(),
            name: "lamp".into(),
            client_id: client_id.into(),
            address: "127.0.0.1:1".into(),
            at: OffsetDateTime::UNIX_EPOCH,
            times: 1,
        }
    }

    #[test]
    fn visits_are_counted_until_they_are_written_down() {
        let strangers = Strangers::default();
        assert!(strangers.came([1; 32], visit("a"), false));
        assert!(!strangers.came([1; 32], visit("b"), false));
        assert!(strangers.came([2; 32], visit("c"), true));
        let mut news = strangers.take();
        news.sort_by_key(|visit| visit.times);
        assert_eq!((news[0].times, news[1].times, news[1].client_id.as_str()), (1, 2, "b"));
        assert!(strangers.take().is_empty());
        assert!(strangers.came([1; 32], visit("a"), false), "after a report it is news again");
    }

    #[test]
    fn who_was_let_in_as_a_stranger_is_told_of_once_when_that_ends() {
        let strangers = Strangers::default();
        strangers.came([1; 32], visit("a"), true);
        strangers.came([2; 32], visit("b"), false);
        assert!(strangers.no_more(|_| true).is_empty());
        assert_eq!(strangers.no_more(|_| false), [[1; 32]]);
        assert!(strangers.no_more(|_| false).is_empty());
    }
}
