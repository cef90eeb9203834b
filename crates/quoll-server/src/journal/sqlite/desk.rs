//! What lies between shards and writer. Both hold its lock for as long as it takes to move a vector.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quoll_broker::change::Change;
use quoll_broker::vocabulary::ShardId;

use super::{MAX_WAITING_BYTES, MAX_WAITING_FACTS};
use crate::journal::transit::Transit;
use crate::journal::{Bell, Durable, Sequence};

/// Something to write.
#[derive(Debug)]
pub(super) enum Piece {
    /// A fact of a shard.
    Change(ShardId, Change),
    /// A letter's.
    Transit(Transit),
    /// Forget all and know this.
    Instead(Vec<Change>),
}

impl Piece {
    fn bytes(&self) -> usize {
        match self {
            Self::Change(_, Change::Queued { parcel, .. }) => parcel.message.payload.len(),
            Self::Change(
                _,
                Change::Retained { message }
                | Change::WillLodged { message, .. }
                | Change::Held { message, .. },
            ) => message.payload.len(),
            _ => 0,
        }
    }
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Desk {
    lying: Mutex<Lying>,
    work: Condvar,
}

#[derive(Debug, Default)]
struct Lying {
    pieces: Vec<Piece>,
    bytes: usize,
    last: Sequence,
    durable: Sequence,
    refused: Option<Arc<str>>,
    bell: Option<Bell>,
    stopping: bool,
    /// The writer is gone and will not be back.
    ended: bool,
}

/// What the writer took.
pub(super) struct Taken {
    /// All up to here is in what was taken, now or before.
    pub(super) last: Sequence,
    pub(super) stopping: bool,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn lying(&self) -> MutexGuard<'_, Lying> {
        self.lying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hang_up(&self, bell: Bell) {
        self.lying().bell = Some(bell);
    }

    /// Lays these down together: the writer takes all of them at once. Nothing is durable when all before it is.
    pub(super) fn lay(&self, pieces: impl Iterator<Item = Piece>) -> Result<Sequence, Arc<str>> {
        let mut lying = self.lying();
        if lying.ended {
            return Err(lying.refused.clone().unwrap_or_else(|| "its writer has ended".into()));
        }
        let was_empty = lying.pieces.is_empty();
        let before = lying.pieces.len();
        lying.pieces.extend(pieces);
        if lying.pieces.len() == before {
            return Ok(lying.last);
        }
        lying.bytes += lying.pieces[before..].iter().map(Piece::bytes).sum::<usize>();
        lying.last.0 += 1;
        let last = lying.last;
        drop(lying);
        if was_empty {
            self.work.notify_one();
        }
        Ok(last)
    }

    pub(super) fn is_crowded(&self) -> bool {
        let lying = self.lying();
        lying.pieces.len() >= MAX_WAITING_FACTS || lying.bytes >= MAX_WAITING_BYTES
    }

    /// How far promises go; with `at_once`, as far as facts do.
    pub(super) fn durable(&self, at_once: bool) -> Durable {
        let lying = self.lying();
        match &lying.refused {
            _ if at_once => Durable::UpTo(lying.last),
            None => Durable::UpTo(lying.durable),
            Some(why) => Durable::Refused { upto: lying.durable, why: Arc::clone(why) },
        }
    }

    pub(super) fn stop(&self) {
        self.lying().stopping = true;
        self.work.notify_one();
    }

    /// Takes all pieces into an empty vector. Waits for some for at most so long; without a limit until there is work.
    pub(super) fn take(&self, into: &mut Vec<Piece>, patience: Option<Duration>) -> Taken {
        let until = patience.map(|patience| Instant::now() + patience);
        let mut lying = self.lying();
        while lying.pieces.is_empty() && !lying.stopping {
            lying = match until {
                None => self.work.wait(lying).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    self.work.wait_timeout(lying, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        std::mem::swap(&mut lying.pieces, into);
        lying.bytes = 0;
        Taken { last: lying.last, stopping: lying.stopping }
    }

    /// Whether this was not said to be durable yet.
    pub(super) fn is_news(&self, upto: Sequence) -> bool {
        let lying = self.lying();
        upto > lying.durable || lying.refused.is_some()
    }

    /// All up to here survives.
    pub(super) fn is_durable(&self, upto: Sequence) {
        let mut lying = self.lying();
        lying.durable = upto;
        lying.refused = None;
        self.ring(lying);
    }

    /// What is not durable yet will not be, for this reason, until something is again.
    pub(super) fn refuse(&self, why: Arc<str>) {
        let mut lying = self.lying();
        lying.refused = Some(why);
        self.ring(lying);
    }

    /// Nothing will be written any more.
    pub(super) fn end(&self, why: &str) {
        let mut lying = self.lying();
        lying.ended = true;
        lying.refused = Some(why.into());
        self.ring(lying);
    }

    fn ring(&self, lying: MutexGuard<'_, Lying>) {
        let bell = lying.bell.clone();
        drop(lying);
        if let Some(bell) = bell {
            bell.ring();
        }
    }
}
