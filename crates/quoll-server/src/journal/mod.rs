//! What must survive a restart goes through here: small facts in, a durable sequence out.
//!
//! The rules emit facts, the shard thread appends a batch of them per turn, and holds back what promises them to a
//! peer until they are durable. An implementation gathers what was appended while its last sync ran and commits it in
//! one go (group commit); it never blocks a shard.

use std::fmt;
use std::sync::Arc;

use quoll_broker::change::Change;
use thiserror::Error;

pub mod memory;

/// A place in the journal, growing by each append.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Sequence(pub u64);

/// How far the journal's promises go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Durable {
    /// All up to here, inclusive, survives.
    UpTo(Sequence),
    /// Up to here survives; what comes after was refused and never will. Connections that wait for it are closed.
    Refused {
        /// The last that survives.
        upto: Sequence,
        /// Why.
        why: Arc<str>,
    },
}

/// Keeps facts.
pub trait Journal: Send {
    /// Called once, before anything else: ring the bell after each move of [`Journal::durable`].
    fn ring(&mut self, bell: Bell);

    /// Takes facts, in order, without waiting for the disk.
    ///
    /// # Errors
    /// Where they cannot be taken, for example because its queue is full or its thread has ended.
    fn append(&mut self, changes: &[Change]) -> Result<Sequence, JournalError>;

    /// Whether nothing ever has to be waited for, nor told: facts then do not even come here.
    fn is_immediate(&self) -> bool {
        false
    }

    /// How far promises go now.
    fn durable(&self) -> Durable;

    /// Tells all facts that survived, in order. Called once, at the start.
    ///
    /// # Errors
    /// Where the store cannot be read.
    fn recall(&mut self, each: &mut dyn FnMut(Change)) -> Result<(), JournalError>;

    /// Replaces all facts by these, which say the same in fewer words.
    ///
    /// # Errors
    /// Where the store cannot be written.
    fn compact(&mut self, state: &mut dyn Iterator<Item = Change>) -> Result<(), JournalError>;
}

/// Tells the shards that [`Journal::durable`] moved. Cheap; may be rung from any thread.
#[derive(Clone)]
pub struct Bell(Arc<dyn Fn() + Send + Sync>);

impl Bell {
    /// A bell that does this.
    pub fn new(ring: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(ring))
    }

    /// Rings it.
    pub fn ring(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bell")
    }
}

/// The journal cannot do what was asked: the disk's fault, or the operator's.
#[derive(Debug, Error)]
#[error("journal cannot {doing}: {source}")]
pub struct JournalError {
    /// What it was doing.
    pub doing: &'static str,
    /// Why it could not.
    #[source]
    pub source: std::io::Error,
}
