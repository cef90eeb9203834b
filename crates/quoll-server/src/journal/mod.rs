//! What must survive a restart goes through here: small facts in, a durable sequence out.
//!
//! The rules emit facts, the shard thread appends a batch of them per turn, and holds back what promises them to a
//! peer until they are durable. An implementation gathers what was appended while its last sync ran and commits it in
//! one go (group commit); it never blocks a shard.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use quoll_broker::change::Change;
use quoll_broker::vocabulary::{Letter, ShardId};
use thiserror::Error;

pub mod memory;
pub mod sqlite;
pub mod transit;

pub use sqlite::{Durability, SqliteJournal, StoreError};
use transit::{LetterKey, Transit};

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

    /// Takes all that one turn of a shard has to say, as one: all of it survives, or nothing. Empties the lists.
    ///
    /// # Errors
    /// As [`Journal::append`].
    fn append_turn(&mut self, turn: Turn<'_>) -> Result<Sequence, JournalError> {
        let sequence = self.append(turn.changes)?;
        turn.changes.clear();
        turn.transits.clear();
        Ok(sequence)
    }

    /// Whether so much waits for the disk that shards should leave their sockets unread until it has caught up.
    fn is_crowded(&self) -> bool {
        false
    }

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

    /// What was on its way between two shards when the last run ended. Asked once, before [`Journal::recall`].
    ///
    /// # Errors
    /// Where the store cannot be read.
    fn underway(&mut self) -> Result<Underway, JournalError> {
        Ok(Underway::default())
    }

    /// Says which shard each recalled session lives on now. Called once, after [`Journal::recall`], where there are
    /// several shards.
    ///
    /// # Errors
    /// Where the store cannot be written.
    fn settle(&mut self, _homes: &[(Arc<str>, ShardId)]) -> Result<(), JournalError> {
        Ok(())
    }

    /// Replaces all facts by these, which say the same in fewer words.
    ///
    /// # Errors
    /// Where the store cannot be written.
    fn compact(&mut self, state: &mut dyn Iterator<Item = Change>) -> Result<(), JournalError>;
}

/// What one turn of a shard has to say.
#[derive(Debug)]
pub struct Turn<'a> {
    /// The shard.
    pub shard: ShardId,
    /// Its facts, in order.
    pub changes: &'a mut Vec<Change>,
    /// Letters that it sent, and letters whose facts are among the above.
    pub transits: &'a mut Vec<Transit>,
}

/// What was on its way when the last run ended.
#[derive(Debug, Default)]
pub struct Underway {
    /// Letters that no shard had taken, or whose facts did not survive.
    pub letters: Vec<(LetterKey, Letter)>,
    /// Where each session lived; known only where there are letters. A letter is for the sessions of its shard: those
    /// of others had the message already.
    pub homes: HashMap<Arc<str>, ShardId>,
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

impl JournalError {
    /// What to do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        self.source.get_ref()?.downcast_ref::<StoreError>()?.hint()
    }
}
