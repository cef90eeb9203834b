//! A shard: owns sessions, hands each input to one verb.

use std::sync::Arc;
use std::time::Instant;

use crate::change::Change;
use crate::route::Shared;
use crate::settings::ShardSettings;
use crate::stats::Stats;
use crate::vocabulary::{Input, Outbox, ShardId};

/// A shard.
#[derive(Debug)]
pub struct Shard {
    settings: ShardSettings,
    id: ShardId,
    shared: Arc<Shared>,
    stats: Stats,
}

impl Shard {
    /// A shard without sessions. `seed` feeds generated client identifiers, message numbers and hashes.
    #[must_use]
    pub fn new(settings: ShardSettings, id: ShardId, shared: Arc<Shared>, seed: u64) -> Self {
        let _ = seed;
        Self { settings, id, shared, stats: Stats::default() }
    }

    /// Deals with one input; what is to be done is appended to `out`, in order.
    pub fn handle(&mut self, input: Input, now: Instant, out: &mut Outbox) {
        let _ = (input, now, out, &self.settings, self.id, &self.shared);
    }

    /// When [`Self::expire`] has something to do, or `None` while nothing is due ever.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Deals with what is due.
    pub fn expire(&mut self, now: Instant, out: &mut Outbox) {
        let _ = (now, out);
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Everything that a new shard must be told by [`Input::Recall`] to be equal to this one; what compaction keeps.
    /// Retained messages are the node's: see [`crate::Retained::all`].
    #[must_use]
    pub fn facts(&self) -> Vec<Change> {
        Vec::new()
    }
}
