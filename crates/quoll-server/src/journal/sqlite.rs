//! The journal on SQLite: one file that always is the state, written by a thread of its own.
//!
//! Shards lay facts on a [`desk`] and go on. The [`writer`] takes all that lies there, strikes out what cancels itself
//! ([`pending`]), commits the rest in one transaction and says how far promises go; what came meanwhile is the next
//! batch. No timer makes anybody wait for company.
//!
//! | room | what is in it |
//! |---|---|
//! | here | opening, and the [`Journal`] that shards see |
//! | `desk` | what lies between shards and writer, bounded |
//! | `pending` | facts of a batch, the last of each subject only |
//! | `writer` | the thread: group commit, trouble with the disk, tidying up |
//! | `store`, `schema` | the file: rows, transactions |
//! | `recall` | reading back, damaged rows |
//! | `wal` | whether SQLite's log lost something |
//! | `error` | why it cannot be opened, and what to do |
//!
//! **What each [`Durability`] promises** once a client has its acknowledgement:
//!
//! | | process killed | machine loses power |
//! |---|---|---|
//! | power | kept | kept |
//! | process | kept | the last moments may be lost |
//! | none | the last moments may be lost | the file may be damaged, and is then refused |
//!
//! A full disk: what was acknowledged stays kept. For [`PATIENCE`] acknowledgements wait, after that they are refused;
//! it is tried again all the time, and nothing that memory holds is forgotten meanwhile.

mod desk;
mod error;
mod pending;
mod recall;
mod schema;
mod store;
#[cfg(test)]
mod tests;
mod wal;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use quoll_broker::change::Change;
use quoll_broker::vocabulary::ShardId;

use self::desk::{Desk, Piece};
pub use self::error::StoreError;
use self::store::Store;
use self::writer::Writer;
use super::{Bell, Durable, Journal, JournalError, Sequence, Turn, Underway};

/// Facts that may lie on the desk before shards leave their sockets unread. About 10 MB without payloads.
pub const MAX_WAITING_FACTS: usize = 50_000;

/// Bytes of payload that may lie there.
pub const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;

/// How long a disk that refuses is waited for before acknowledgements are refused. A log rotation may free space; and a
/// client that must send again later is better off than one whose connection hangs.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How often a disk that refuses is tried again.
pub const RETRY_EVERY: Duration = Duration::from_millis(500);

/// What an acknowledgement waits for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Durability {
    /// The disk has it: a power cut loses nothing that was acknowledged.
    #[default]
    Power,
    /// The operating system has it: a crash or kill of the broker loses nothing that was acknowledged.
    Process,
    /// Nothing: written soon, and promised never.
    None,
}

/// A journal in one SQLite file.
#[derive(Debug)]
pub struct SqliteJournal {
    durability: Durability,
    desk: Arc<Desk>,
    /// Until the writer has it.
    store: Option<Store>,
    /// Place of the next letter that is sent.
    next_letter: i64,
    writer: Option<JoinHandle<()>>,
}

impl SqliteJournal {
    /// Opens the file, or creates it with mode 0600 (its folder must exist); brings it to the newest schema; looks for
    /// damage, which takes time in proportion to its size. No other process can open it while this one has it.
    ///
    /// # Errors
    /// See [`StoreError`]. A file that is refused is not changed.
    pub fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        let store = Store::open(path, durability)?;
        let next_letter = store.next_letter().map_err(|error| StoreError::of(path, error))?;
        Ok(Self { durability, desk: Arc::new(Desk::new()), store: Some(store), next_letter, writer: None })
    }

    /// What it does while nobody else has the store.
    fn store(&mut self, doing: &'static str) -> Result<&mut Store, JournalError> {
        let taken = || JournalError { doing, source: std::io::Error::other("its writer has begun already") };
        self.store.as_mut().ok_or_else(taken)
    }

    /// Lets the writer begin, if it has not.
    fn begin(&mut self) -> Result<(), JournalError> {
        let Some(store) = self.store.take() else { return Ok(()) };
        let writer = Writer::new(store, Arc::clone(&self.desk), self.durability, self.next_letter);
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || writer.run());
        self.writer = Some(thread.map_err(|source| JournalError { doing: "start its writer", source })?);
        Ok(())
    }

    fn lay(&mut self, pieces: impl Iterator<Item = Piece>) -> Result<Sequence, JournalError> {
        self.begin()?;
        self.desk.lay(pieces).map_err(|why| JournalError {
            doing: "take facts",
            source: std::io::Error::other(why.to_string()),
        })
    }
}

fn trouble(doing: &'static str, error: StoreError) -> JournalError {
    JournalError { doing, source: std::io::Error::other(error) }
}

impl Journal for SqliteJournal {
    fn ring(&mut self, bell: Bell) {
        self.desk.hang_up(bell);
    }

    fn append(&mut self, changes: &[Change]) -> Result<Sequence, JournalError> {
        self.lay(changes.iter().map(|change| Piece::Change(ShardId(0), change.clone())))
    }

    fn append_turn(&mut self, turn: Turn<'_>) -> Result<Sequence, JournalError> {
        let Turn { shard, changes, transits } = turn;
        let facts = changes.drain(..).map(|change| Piece::Change(shard, change));
        self.lay(facts.chain(transits.drain(..).map(Piece::Transit)))
    }

    fn is_crowded(&self) -> bool {
        self.desk.is_crowded()
    }

    fn durable(&self) -> Durable {
        self.desk.durable(self.durability == Durability::None)
    }

    fn recall(&mut self, each: &mut dyn FnMut(Change)) -> Result<(), JournalError> {
        self.store("recall")?.recall(each).map_err(|error| trouble("recall", error))
    }

    fn underway(&mut self) -> Result<Underway, JournalError> {
        self.store("read letters")?.underway().map_err(|error| trouble("read letters", error))
    }

    fn settle(&mut self, homes: &[(Arc<str>, ShardId)]) -> Result<(), JournalError> {
        let doing = "note where sessions live";
        self.store(doing)?.settle(homes).map_err(|error| trouble(doing, error))
    }

    /// What is here already is the state; this makes it another one, with the next batch.
    fn compact(&mut self, state: &mut dyn Iterator<Item = Change>) -> Result<(), JournalError> {
        let state = state.collect();
        self.lay(std::iter::once(Piece::Instead(state))).map(drop)
    }
}

impl Drop for SqliteJournal {
    /// Waits until all that was appended is written, or the disk has refused it once more.
    fn drop(&mut self) {
        self.desk.stop();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the journal's writer ended with a panic");
        }
    }
}
