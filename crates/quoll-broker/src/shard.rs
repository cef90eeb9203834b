//! A shard: owns sessions, hands each input to one verb.
//!
//! Pure: `now` comes with each input, chance from the seed. One shard alone is a complete broker; nothing here but the
//! group letters knows that there may be more.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use ahash::RandomState;
use quoll_mqtt::packet::Packet;
use quoll_mqtt::{DecodeError, ProtocolVersion, ReasonCode};
use slab::Slab;

use crate::change::Change;
use crate::deadline::Deadlines;
use crate::dice::Dice;
use crate::limits;
use crate::message::Message;
use crate::moment::Moment;
use crate::pending::Pending;
use crate::route::{KnownInterest, Shared};
use crate::session::Session;
use crate::settings::ShardSettings;
use crate::share_group::{Groups, Offer};
use crate::stats::Stats;
use crate::subscribe::Wanting;
use crate::topic_tree::{FilterId, TopicTree};
use crate::vocabulary::{ConnId, Departure, Effect, Farewell, Input, Letter, Outbox, ShardId};

/// A shard.
#[derive(Debug)]
pub struct Shard {
    pub(crate) settings: ShardSettings,
    pub(crate) id: ShardId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) seed: u64,
    pub(crate) dice: Dice,
    pub(crate) sessions: Slab<Session>,
    pub(crate) by_client: HashMap<Arc<str>, u32, RandomState>,
    /// By the coat's connection number.
    pub(crate) lines: Vec<Line>,
    pub(crate) tree: TopicTree<Wanting>,
    pub(crate) groups: Groups,
    pub(crate) deadlines: Deadlines,
    pub(crate) stats: Stats,
    /// The time of this input.
    pub(crate) now: Moment,
    /// The same as it was handed in: while that does not change, neither does `now`.
    instant: Option<Instant>,
    /// Filters that match the message in hand; kept for its memory.
    pub(crate) matched: Vec<FilterId>,
    pub(crate) known_interest: KnownInterest,
    /// Messages that facts of a recall named, so that one that waits for many is in memory once.
    pub(crate) recalled: HashMap<u64, Weak<Message>, RandomState>,
    /// Answers to SUBSCRIBE that wait for other shards.
    pub(crate) pending: Pending,
}

/// What a connection number means now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) generation: u32,
    /// Session key, or [`NOBODY`].
    pub(crate) session: u32,
}

/// No session.
pub(crate) const NOBODY: u32 = u32::MAX;

impl Shard {
    /// A shard without sessions. `seed` feeds generated client identifiers, message numbers and hashes: a running node
    /// takes a random one, a test a fixed one.
    #[must_use]
    pub fn new(settings: ShardSettings, id: ShardId, shared: Arc<Shared>, seed: u64) -> Self {
        let state = |salt: u64| RandomState::with_seeds(seed, salt, !seed, salt.rotate_left(32));
        Self {
            settings,
            id,
            now: shared.anchor.moment,
            shared,
            seed,
            dice: Dice::new(seed),
            sessions: Slab::new(),
            by_client: HashMap::with_hasher(state(11)),
            lines: Vec::new(),
            tree: TopicTree::new(seed),
            groups: Groups::new(seed),
            deadlines: Deadlines::default(),
            stats: Stats::default(),
            instant: None,
            matched: Vec::new(),
            known_interest: KnownInterest::new(seed),
            recalled: HashMap::with_hasher(state(12)),
            pending: Pending::default(),
        }
    }

    /// Deals with one input; what is to be done is appended to `out`, in order.
    pub fn handle(&mut self, input: Input, now: Instant, out: &mut Outbox) {
        self.turn_to(now);
        match input {
            Input::Packet(conn, packet) => self.packet(conn, packet, out),
            Input::Letter(letter) => self.letter(letter, out),
            Input::Connect(arrival) => self.connect(*arrival, out),
            Input::Malformed(conn, error) => self.malformed(conn, error, out),
            Input::Gone(conn) => {
                if let Some(key) = self.session_of(conn) {
                    self.depart(key, Departure::Lost, out);
                }
            }
            Input::Congested(conn, is_congested) => {
                if let Some(key) = self.session_of(conn) {
                    let session = &mut self.sessions[key as usize];
                    session.is_congested = is_congested;
                    self.deadlines.watch(key, session);
                    self.tell_of_room(key, out);
                }
            }
            Input::Recall(change) => self.recall(change, out),
            Input::Order(order) => self.order(order, out),
        }
    }

    /// When [`Self::expire`] has something to do, or `None` while nothing is due ever. May be in the past.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let own = self.deadlines.first();
        let retained = self.sweeps_retained().then(|| self.shared.retained.next_expiry()).flatten();
        let due = match (own, retained) {
            (Some(own), Some(retained)) => own.min(retained),
            (own, retained) => own.or(retained)?,
        };
        self.shared.anchor.instant(due)
    }

    /// Deals with what is due, at most [`limits::EXPIRED_PER_CALL`] of it; the rest stays due.
    pub fn expire(&mut self, now: Instant, out: &mut Outbox) {
        self.turn_to(now);
        for _ in 0..limits::EXPIRED_PER_CALL {
            let Some(key) = self.deadlines.pop(self.now) else { break };
            self.session_is_due(key, out);
        }
        if self.sweeps_retained() && self.shared.retained.next_expiry().is_some_and(|due| due <= self.now) {
            for topic in self.shared.retained.expire(self.now, limits::EXPIRED_PER_CALL) {
                out.push(Effect::Keep(Change::RetainedCleared { topic }));
            }
        }
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.stats;
        stats.sessions = self.sessions.len() as u64;
        for (_, session) in &self.sessions {
            stats.queued += session.queue.len() as u64;
            stats.inflight += session.inflight.len() as u64;
        }
        stats
    }

    /// Retained messages are the node's; the first shard looks after their expiry.
    fn sweeps_retained(&self) -> bool {
        self.id == ShardId(0)
    }

    fn turn_to(&mut self, now: Instant) {
        if self.instant != Some(now) {
            self.instant = Some(now);
            // The rules' time never goes back, whatever the caller's does.
            self.now = self.now.max(self.shared.anchor.moment(now));
        }
    }

    /// The session that a connection belongs to; `None` for one that was closed, by whomever.
    pub(crate) fn session_of(&self, conn: ConnId) -> Option<u32> {
        let line = self.lines.get(conn.index as usize)?;
        (line.generation == conn.generation && line.session != NOBODY).then_some(line.session)
    }

    fn packet(&mut self, conn: ConnId, packet: Packet, out: &mut Outbox) {
        let Some(key) = self.session_of(conn) else { return };
        let session = &mut self.sessions[key as usize];
        session.heard = self.now;
        self.stats.packets_received += 1;
        match packet {
            Packet::Publish(publish) => self.publish(key, conn, publish, out),
            Packet::PubAck(ack) => self.puback(key, &ack, out),
            Packet::PubRec(ack) => self.pubrec(key, conn, &ack, out),
            Packet::PubRel(ack) => self.pubrel(key, conn, &ack, out),
            Packet::PubComp(ack) => self.pubcomp(key, &ack, out),
            Packet::Subscribe(subscribe) => self.subscribe(key, conn, *subscribe, out),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(key, conn, *unsubscribe, out),
            Packet::PingReq => out.push(Effect::Send(conn, Packet::PingResp)),
            Packet::Disconnect(disconnect) => self.disconnect(key, &disconnect, out),
            // The coat has dealt with it; no client can say this one.
            Packet::Auth(auth) if auth.reason == ReasonCode::SUCCESS => {}
            // A second CONNECT [MQTT-3.1.0-2]; AUTH where no method was agreed (§4.12); packets that only a server sends.
            Packet::Connect(_)
            | Packet::Auth(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp => self.fail(key, ReasonCode::PROTOCOL_ERROR, out),
        }
    }

    fn malformed(&mut self, conn: ConnId, error: DecodeError, out: &mut Outbox) {
        if let Some(key) = self.session_of(conn) {
            out.push(Effect::Close(conn, Farewell::Disconnect(error.reason())));
            self.depart(key, Departure::Error(error), out);
        }
    }

    fn letter(&mut self, letter: Letter, out: &mut Outbox) {
        self.stats.letters += 1;
        match letter {
            Letter::Message(message) => self.deliver(&message, out),
            Letter::Chosen { client_id, filter, message, offers, may_pass } => {
                let offer = Offer { message: &message, offers };
                self.chosen(&client_id, &filter, offer, may_pass, out);
            }
            Letter::Passed { client_id, filter, message, offers, is_full } => {
                self.passed(&client_id, &filter, Offer { message: &message, offers }, is_full, out);
            }
            Letter::Joined { shard, client_id, filter, connected } => {
                if !self.joined(shard, &client_id, &filter, connected) {
                    out.push(Effect::Mail(shard, Letter::Left { client_id, filter }));
                }
            }
            Letter::Left { client_id, filter } if self.shared.home_of_group(&filter) == self.id => {
                self.left(&client_id, &filter);
            }
            Letter::Left { client_id, filter } => self.not_a_member(&client_id, &filter, out),
            Letter::Returned { parcel } => self.returned(*parcel, out),
            Letter::Asked { shard, ticket } => out.push(Effect::Mail(shard, Letter::Answered { ticket })),
            Letter::Answered { ticket } => self.answered(ticket, out),
        }
    }

    /// Ends a connection whose peer broke a rule: 5.0 is told which, 3.x is not (§4.13).
    pub(crate) fn fail(&mut self, key: u32, reason: ReasonCode, out: &mut Outbox) {
        self.close(key, Farewell::Disconnect(reason), Departure::Closed(reason), out);
    }

    pub(crate) fn close(&mut self, key: u32, farewell: Farewell, how: Departure, out: &mut Outbox) {
        if let Some(conn) = self.sessions[key as usize].conn {
            out.push(Effect::Close(conn, farewell));
            self.depart(key, how, out);
        }
    }

    pub(crate) fn speaks_5(&self, key: u32) -> bool {
        self.sessions[key as usize].version == ProtocolVersion::V5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An idle device costs its session, its identifier, a few subscriptions and its due date: below 600 bytes.
    #[test]
    fn what_there_are_many_of_is_small() {
        assert!(size_of::<Session>() <= 312, "session: {}", size_of::<Session>());
        assert!(size_of::<Effect>() <= 128, "effect: {}", size_of::<Effect>());
        assert!(size_of::<crate::inflight::Slot>() <= 64, "slot: {}", size_of::<crate::inflight::Slot>());
        assert!(size_of::<Message>() <= 192, "message: {}", size_of::<Message>());
    }
}
