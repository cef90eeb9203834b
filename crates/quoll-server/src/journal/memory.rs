//! A journal for brokers without persistence: what is appended counts as durable at once, and is forgotten.

use quoll_broker::change::Change;

use super::{Bell, Durable, Journal, JournalError, Sequence};

/// Promises everything and keeps nothing: `durability = "none"`.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    last: Sequence,
}

impl Journal for MemoryJournal {
    fn ring(&mut self, _bell: Bell) {}

    fn append(&mut self, changes: &[Change]) -> Result<Sequence, JournalError> {
        self.last.0 += changes.len() as u64;
        Ok(self.last)
    }

    fn is_immediate(&self) -> bool {
        true
    }

    fn durable(&self) -> Durable {
        Durable::UpTo(self.last)
    }

    fn recall(&mut self, _each: &mut dyn FnMut(Change)) -> Result<(), JournalError> {
        Ok(())
    }

    fn compact(&mut self, _state: &mut dyn Iterator<Item = Change>) -> Result<(), JournalError> {
        Ok(())
    }
}
