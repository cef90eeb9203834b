//! The thread that writes: whatever lies on the desk is the next batch.
//!
//! A disk that refuses is tried again every [`RETRY_EVERY`]. What was to be written stays and is written then, in one
//! piece with what came meanwhile, so that file and memory agree again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::ErrorCode;

use super::desk::{Desk, Piece, Taken};
use super::pending::Pending;
use super::store::Store;
use super::{Durability, PATIENCE, RETRY_EVERY};

/// How long letters between two shards are waited for before they are written: the other shard takes a tenth of it,
/// a sync ten times as long.
const LETTER_PATIENCE: Duration = Duration::from_millis(1);

/// Without work for so long, the file is tidied up.
const IDLE: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    store: Store,
    desk: Arc<Desk>,
    durability: Durability,
    pieces: Vec<Piece>,
    pending: Pending,
    trouble: Option<Trouble>,
    untidy: bool,
}

/// The disk refuses.
struct Trouble {
    since: Instant,
    next: Instant,
    refused: bool,
}

impl Writer {
    /// `next_letter`: see [`Pending::next_letter`].
    pub(super) fn new(store: Store, desk: Arc<Desk>, durability: Durability, next_letter: i64) -> Self {
        Self {
            store,
            desk,
            durability,
            pieces: Vec::new(),
            pending: Pending { next_letter, ..Pending::default() },
            trouble: None,
            untidy: false,
        }
    }

    /// Writes until told to stop.
    pub(super) fn run(mut self) {
        let desk = Arc::clone(&self.desk);
        if catch_unwind(AssertUnwindSafe(|| self.write_on())).is_err() {
            desk.end("the journal's writer panicked");
            tracing::error!(
                "the journal's writer panicked: nothing is acknowledged any more that would have to be kept. This is a bug: please \
                 report it, and restart the broker"
            );
            return;
        }
        desk.end("the journal is closed");
        if let Err(error) = self.store.close() {
            tracing::warn!(%error, "the journal's log was not worked into its file; the next start does it");
        }
    }

    fn write_on(&mut self) {
        loop {
            let mut taken = self.take(self.patience());
            let until = Instant::now() + LETTER_PATIENCE;
            while self.pending.open_letters > 0 && !taken.stopping && Instant::now() < until {
                taken = self.take(Some(until.saturating_duration_since(Instant::now())));
            }
            let is_time = self.trouble.as_ref().is_none_or(|it| it.next <= Instant::now());
            if is_time || taken.stopping {
                self.write(&taken);
            }
            if taken.stopping && self.pieces.is_empty() {
                return;
            }
        }
    }

    fn take(&mut self, patience: Option<Duration>) -> Taken {
        let taken = self.desk.take(&mut self.pieces, patience);
        for piece in self.pieces.drain(..) {
            self.pending.take_in(piece);
        }
        taken
    }

    fn patience(&self) -> Option<Duration> {
        match &self.trouble {
            Some(trouble) => Some(trouble.next.saturating_duration_since(Instant::now())),
            None => self.untidy.then_some(IDLE),
        }
    }

    fn write(&mut self, taken: &Taken) {
        if self.pending.is_empty() {
            self.pending.clear();
            self.relieve();
            if self.desk.is_news(taken.last) {
                self.desk.is_durable(taken.last);
            } else {
                self.tidy();
            }
            return;
        }
        match self.store.write(&self.pending) {
            Ok(()) => {
                self.pending.clear();
                self.untidy = true;
                self.relieve();
                self.desk.is_durable(taken.last);
            }
            Err(error) => self.note(&error, taken.stopping),
        }
    }

    fn tidy(&mut self) {
        if self.untidy {
            // A file that cannot be made smaller is no loss.
            self.untidy = self.store.tidy().unwrap_or(false);
        }
    }

    fn relieve(&mut self) {
        if let Some(trouble) = self.trouble.take() {
            tracing::warn!(
                "{} can be written again, after {} s: everything that memory holds is kept",
                self.store.path.display(),
                trouble.since.elapsed().as_secs()
            );
        }
    }

    fn note(&mut self, error: &rusqlite::Error, stopping: bool) {
        let now = Instant::now();
        let path = self.store.path.display();
        let is_new = self.trouble.is_none();
        let trouble = self.trouble.get_or_insert(Trouble { since: now, next: now, refused: false });
        trouble.next = now + RETRY_EVERY;
        if stopping {
            tracing::error!(
                "{path} cannot be written: {error}; what was not acknowledged is lost. {}",
                advice(error)
            );
            return;
        }
        if is_new {
            let waiting = match self.durability {
                Durability::None => "",
                _ => " Acknowledgements wait.",
            };
            tracing::error!("{path} cannot be written: {error}.{waiting} {}", advice(error));
        }
        if !trouble.refused
            && now.duration_since(trouble.since) >= PATIENCE
            && self.durability != Durability::None
        {
            trouble.refused = true;
            tracing::error!(
                "{path} still cannot be written: {error}. Clients that wait for an acknowledgement, and those with a lasting \
                 session, are refused until it can. {}",
                advice(error)
            );
            self.desk.refuse(format!("{path} cannot be written: {error}").into());
        }
    }
}

/// What to do about a disk that refuses.
fn advice(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            "Make room on its disk (df -h); nothing that was acknowledged is lost, and it is tried again all the time"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            "Give the broker's user the right to write it (was it mounted read-only after an error?); it is tried again all the time"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "The file is damaged: stop the broker, copy the file away, and look at the disk (dmesg, smartctl)"
        }
        _ => "Look at the disk (df -h, dmesg, smartctl); it is tried again all the time",
    }
}
