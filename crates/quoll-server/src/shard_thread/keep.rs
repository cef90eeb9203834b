//! What must survive: facts of a turn, the gate that promises wait behind, and letters that must not get lost on their
//! way to another shard (see [`crate::journal::transit`]).

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use quoll_broker::change::Change;
use quoll_broker::vocabulary::{ConnId, Farewell, Input, Letter, ShardId};
use quoll_mqtt::ReasonCode;

use super::ShardThread;
use crate::connection::Phase;
use crate::journal::transit::{LetterKey, Transit};
use crate::journal::{Durable, Sequence, Turn};
use crate::out::Out;
use crate::post::{Post, To};

/// The first byte of a CONNACK.
const CONNACK: u8 = 0x20;

/// Which shards ever had a session that outlives its connection: letters to others need no care.
pub(crate) struct Keeping {
    shards: Box<[AtomicBool]>,
    /// Whether a shared subscription spans shards: then a letter may go on from its shard to another.
    groups: AtomicBool,
}

impl Keeping {
    pub(crate) fn new(shards: usize) -> Self {
        Self { shards: (0..shards).map(|_| AtomicBool::new(false)).collect(), groups: AtomicBool::new(false) }
    }

    /// A session that is kept lives on this shard.
    pub(crate) fn note(&self, shard: ShardId) {
        let keeps = &self.shards[usize::from(shard.0)];
        if !keeps.load(Ordering::Relaxed) {
            keeps.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a message for this shard may have to survive. The session was noted before its subscription was
    /// known to other shards, under a lock that they took since.
    fn concerns(&self, shard: ShardId) -> bool {
        let keeps = |it: &AtomicBool| it.load(Ordering::Relaxed);
        self.shards.get(usize::from(shard.0)).is_some_and(keeps)
            || (keeps(&self.groups) && self.shards.iter().any(keeps))
    }
}

impl ShardThread {
    /// Notes a fact; what promises it waits.
    pub(super) fn keep(&mut self, change: Change) {
        match &change {
            Change::Session { .. } => {
                self.common.keeping.note(self.id);
                self.behind_fact = true;
            }
            // It is waited for, but a disk that refuses must not lock out a device that has but a will.
            Change::WillLodged { .. } | Change::WillSettled { .. } => self.behind_will = true,
            _ => self.behind_fact = true,
        }
        self.facts.push(change);
    }

    /// Posts a letter. One that sessions which are kept may need is a fact until its shard has made its own of it.
    pub(super) fn send_letter(&mut self, shard: ShardId, letter: Letter) {
        if matches!(letter, Letter::Joined { .. }) {
            self.common.keeping.groups.store(true, Ordering::Relaxed);
        }
        if !self.common.immediate
            && self.common.keeping.concerns(shard)
            && let Some(key) = LetterKey::of(shard, &letter)
        {
            self.transits.push(Transit::Sent(key.clone(), letter.clone()));
            self.behind_fact = true;
            return self.post.send_kept(key, letter);
        }
        self.post.send(To::Shard(shard), letter);
    }

    /// Takes a letter that the journal knows of.
    pub(super) fn take_letter(&mut self, key: LetterKey, letter: Letter) {
        self.transits.push(Transit::Taken(key));
        self.guarded(None, |thread| thread.input(Input::Letter(letter)));
    }

    /// Appends this turn's facts and lets go what waited for older ones, or for these where they are durable at once.
    pub(super) fn journal_gate(&mut self) {
        let news = self.journal_moved && !self.gated.is_empty();
        let is_quiet = self.facts.is_empty() && self.transits.is_empty();
        if self.common.immediate || (is_quiet && !news && !self.crowded) {
            return;
        }
        self.journal_moved = false;
        let durable = {
            let mut journal = self.common.journal.lock().unwrap_or_else(PoisonError::into_inner);
            let durable = if is_quiet {
                journal.durable()
            } else {
                let (changes, transits) = (&mut self.facts, &mut self.transits);
                match journal.append_turn(Turn { shard: self.id, changes, transits }) {
                    Ok(sequence) => {
                        for conn in &self.gated {
                            if let Some(out) = self.table.get_mut(*conn).and_then(|it| it.out.as_deref_mut())
                            {
                                out.settle(sequence);
                            }
                        }
                        journal.durable()
                    }
                    Err(error) => Durable::Refused { upto: Sequence(0), why: error.to_string().into() },
                }
            };
            self.crowded = journal.is_crowded();
            durable
        };
        self.facts.clear();
        self.transits.clear();
        let (upto, refused) = match durable {
            Durable::UpTo(upto) => (upto, None),
            Durable::Refused { upto, why } => (upto, Some(why)),
        };
        let mut gated = std::mem::take(&mut self.gated);
        gated.retain(|conn| {
            let Some(out) = self.table.get_mut(*conn).and_then(|it| it.out.as_deref_mut()) else {
                return false;
            };
            out.release(upto);
            let gated = out.is_gated();
            self.mark_dirty(*conn);
            gated
        });
        if let Some(why) = refused {
            for conn in gated {
                self.take_back(conn, &why);
            }
        } else {
            gated.append(&mut self.gated);
            self.gated = gated;
        }
    }

    /// What a client was to be promised will not be: it is told so, as far as its version can, and let go.
    fn take_back(&mut self, conn: ConnId, why: &str) {
        let Some(connection) = self.table.get_mut(conn) else { return };
        if let Some(out) = connection.out.as_deref_mut()
            && out.waive()
        {
            return self.mark_dirty(conn);
        }
        let client = &connection.who.client_id;
        tracing::warn!(%client, %why, "what this client was to be promised cannot be kept; it is closed");
        let first = connection.out.as_deref_mut().and_then(Out::cut);
        if connection.phase != Phase::Open {
            return self.lose(conn);
        }
        let reason = ReasonCode::QUOTA_EXCEEDED;
        let farewell =
            if first == Some(CONNACK) { Farewell::Refuse(reason) } else { Farewell::Disconnect(reason) };
        self.close(conn, &farewell);
    }
}
