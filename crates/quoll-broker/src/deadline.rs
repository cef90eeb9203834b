//! One ordered set of due dates: at most one for each session, its earliest.
//!
//! Lazy: a packet writes the time it was heard and nothing else. When a date comes, the session says what is due really, and if
//! that is later the date moves there. So a keep alive costs one look per 1.5 intervals, not one per packet.

use std::collections::BTreeSet;

use crate::moment::Moment;
use crate::session::Session;

/// No date.
pub(crate) const NEVER: Moment = Moment(u64::MAX);

/// Due dates by session key.
#[derive(Debug, Default)]
pub(crate) struct Deadlines(BTreeSet<(Moment, u32)>);

impl Deadlines {
    pub(crate) fn first(&self) -> Option<Moment> {
        self.0.first().map(|(due, _)| *due)
    }

    /// Makes sure that the session is looked at when something of it is due. A date that moved back stays as it is
    /// and is looked at in vain once.
    pub(crate) fn watch(&mut self, key: u32, session: &mut Session) {
        let due = session.next_due();
        if due < session.watched {
            if session.watched != NEVER {
                self.0.remove(&(session.watched, key));
            }
            self.0.insert((due, key));
            session.watched = due;
        }
    }

    pub(crate) fn forget(&mut self, key: u32, session: &mut Session) {
        if session.watched != NEVER {
            self.0.remove(&(session.watched, key));
            session.watched = NEVER;
        }
    }

    /// A session whose date has come; its date is taken out, and the caller watches it again.
    pub(crate) fn pop(&mut self, now: Moment) -> Option<u32> {
        self.0.first().filter(|(due, _)| *due <= now)?;
        self.0.pop_first().map(|(_, key)| key)
    }
}
