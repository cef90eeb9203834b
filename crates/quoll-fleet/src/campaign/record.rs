//! What became of each device of a run, as the registry keeps it.

use quoll_tasmota::Mac;
use time::OffsetDateTime;

use crate::device::words;

/// A run over many devices.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Campaign {
    /// Its number.
    pub id: i64,
    /// What was ordered, in a form that the same command gives again.
    pub orders: String,
    /// When it began.
    pub began: OffsetDateTime,
    /// When it ended; `None` while it runs, and for one that was killed.
    pub ended: Option<OffsetDateTime>,
    /// Why it ended before all were done.
    pub why: Option<String>,
}

/// What became of a device.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Outcome {
    /// It has not been its turn.
    Waiting,
    /// It was begun; if nobody runs, that one was killed, and the same command goes on with it.
    UnderWay,
    /// The broker saw it with its certificate or password.
    Proven,
    /// It has its old settings back.
    RolledBack,
    /// It was not changed, or only its key was stored.
    Failed,
    /// It may have the new settings or the old ones.
    Unclear,
    /// It was held back by the plan.
    Held,
}

words!(Outcome {
    Waiting = "waiting",
    UnderWay = "under-way",
    Proven = "proven",
    RolledBack = "rolled-back",
    Failed = "failed",
    Unclear = "unclear",
    Held = "held",
});

impl Outcome {
    /// Whether nothing more is done with it in this run.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Waiting | Self::UnderWay)
    }

    /// Whether it counts as a failure.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::RolledBack | Self::Failed | Self::Unclear)
    }
}

/// One device of a run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Its hardware address.
    pub mac: Mac,
    /// Its name.
    pub name: String,
    /// Where its web console was.
    pub address: String,
    /// The rung it was to reach; empty for one that was held back.
    pub rung: String,
    /// What became of it.
    pub outcome: Outcome,
    /// How often it was tried.
    pub attempts: u32,
    /// What happened, in words.
    pub what: String,
    /// What to do next; empty where nothing is.
    pub next: String,
    /// When that was.
    pub at: OffsetDateTime,
}
