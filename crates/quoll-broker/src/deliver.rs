//! A message going out: to whom, in how many copies, at which level, now or later (§3.3.4, §4.4, §4.9).
//!
//! The hot path. Nothing is allocated for a delivery but what its kind needs: QoS 0 without properties of its own needs
//! a place in the outbox and a count on the message.

use std::sync::Arc;

use quoll_mqtt::packet::{Ack, Packet};
use quoll_mqtt::{Delivery, PacketId, ProtocolVersion, QoS, ReasonCode, TopicFilter};
use slab::Slab;

use crate::change::{Change, Parcel};
use crate::inflight::Slot;
use crate::limits;
use crate::message::{Message, encoded_len};
use crate::moment::Moment;
use crate::session::Session;
use crate::settings::{Overlapping, ShardSettings};
use crate::shard::Shard;
use crate::stats::Stats;
use crate::subscribe::Subscriber;
use crate::topic_tree::FilterId;
use crate::vocabulary::{Effect, Event, Outbox, Outgoing, OutgoingExtras};

impl Shard {
    /// Brings a message to the sessions here whose subscriptions match, and to the shared subscriptions whose members
    /// this shard chooses.
    pub(crate) fn deliver(&mut self, message: &Arc<Message>, out: &mut Outbox) {
        let mut matched = std::mem::take(&mut self.matched);
        matched.clear();
        self.tree.matching(message.topic.as_str(), &mut matched);
        if matched.len() > 1 && self.settings.overlapping == Overlapping::OneCopy {
            self.deliver_one_copy(&matched, message, out);
        } else {
            for id in &matched {
                self.deliver_each(*id, message, out);
            }
        }
        for id in &matched {
            let count = self.tree.value(*id).groups.len();
            for at in 0..count {
                // A member that takes the message changes nothing about which groups there are.
                let group = self.tree.value(*id).groups[at];
                self.hand_to_group(group, message, out);
            }
        }
        self.matched = matched;
    }

    /// One copy for each subscriber of a filter.
    fn deliver_each(&mut self, id: FilterId, message: &Arc<Message>, out: &mut Outbox) {
        let subscribers = self.tree.value(id).subscribers();
        let mut round = Round {
            sessions: &mut self.sessions,
            settings: &self.settings,
            stats: &mut self.stats,
            now: self.now,
            message,
            out,
        };
        for subscriber in subscribers {
            if round.is_for(subscriber) {
                let identifiers = identifiers(subscriber);
                let retain = subscriber.retain_as_published && message.retain;
                round.leave(subscriber.session, subscriber.qos, retain, identifiers, None);
            }
        }
    }

    /// One copy for each session, at the highest of the granted levels, with the identifiers of all the subscriptions
    /// that match (§3.3.4).
    fn deliver_one_copy(&mut self, matched: &[FilterId], message: &Arc<Message>, out: &mut Outbox) {
        let tree = &self.tree;
        let mut round = Round {
            sessions: &mut self.sessions,
            settings: &self.settings,
            stats: &mut self.stats,
            now: self.now,
            message,
            out,
        };
        let mut all: Vec<&Subscriber> = matched
            .iter()
            .flat_map(|id| tree.value(*id).subscribers())
            .filter(|subscriber| round.is_for(subscriber))
            .collect();
        all.sort_by_key(|subscriber| subscriber.session);
        for own in all.chunk_by(|one, other| one.session == other.session) {
            let numbers: Vec<u32> = own.iter().map(|s| s.identifier).filter(|number| *number != 0).collect();
            let granted = own.iter().map(|s| s.qos).max().unwrap_or_default();
            let retain = message.retain && own.iter().any(|s| s.retain_as_published);
            round.leave(own[0].session, granted, retain, &numbers, None);
        }
    }
}

fn identifiers(subscriber: &Subscriber) -> &[u32] {
    if subscriber.identifier == 0 { &[] } else { std::slice::from_ref(&subscriber.identifier) }
}

/// One message's way round the sessions.
pub(crate) struct Round<'a> {
    sessions: &'a mut Slab<Session>,
    settings: &'a ShardSettings,
    stats: &'a mut Stats,
    now: Moment,
    message: &'a Arc<Message>,
    out: &'a mut Outbox,
}

impl<'a> Round<'a> {
    pub(crate) const fn new(shard: &'a mut Shard, message: &'a Arc<Message>, out: &'a mut Outbox) -> Self {
        Self {
            sessions: &mut shard.sessions,
            settings: &shard.settings,
            stats: &mut shard.stats,
            now: shard.now,
            message,
            out,
        }
    }

    /// Not the publisher's own where that is not wanted [MQTT-3.8.3-3], nothing it may not receive.
    fn is_for(&self, subscriber: &Subscriber) -> bool {
        if subscriber.is_vetted && !subscriber.no_local {
            return true;
        }
        let session = &self.sessions[subscriber.session as usize];
        let is_own = subscriber.no_local && session.client_id == self.message.publisher;
        !is_own && (subscriber.is_vetted || session.grants.may_receive(&self.message.topic))
    }

    /// Leaves a copy at a session: sent, queued or dropped.
    pub(crate) fn leave(
        &mut self,
        key: u32,
        granted: QoS,
        retain: bool,
        identifiers: &[u32],
        shared: Option<&TopicFilter>,
    ) {
        let session = &mut self.sessions[key as usize];
        let qos = self.settings.level(self.message.qos, granted);
        if qos == QoS::AtMostOnce {
            let waits = self.settings.queue_qos0_messages && session.is_kept();
            match session.conn {
                Some(conn) if !waits || session.queue.is_empty() => {
                    if session.is_congested {
                        return self.drop_copy(key);
                    }
                    let Ok(extras) = dress(session, self.message, qos, identifiers, self.now) else {
                        return self.drop_copy(key);
                    };
                    self.stats.publishes_sent += 1;
                    self.stats.payload_sent += self.message.payload.len() as u64;
                    let (message, delivery) = (self.message.clone(), Delivery::AtMostOnce);
                    let outgoing = Outgoing { message, delivery, dup: false, retain, extras };
                    return self.out.push(Effect::Deliver(conn, outgoing));
                }
                None if !waits => return,
                _ => {}
            }
        }
        let parcel = Parcel {
            message: self.message.clone(),
            qos,
            retain,
            identifiers: (!identifiers.is_empty()).then(|| identifiers.into()),
            shared: shared.cloned(),
        };
        self.leave_parcel(key, parcel);
    }

    /// What must not get lost: sent where the window allows, else queued where there is room.
    pub(crate) fn leave_parcel(&mut self, key: u32, parcel: Parcel) {
        let session = &mut self.sessions[key as usize];
        let place = session.next_place;
        let may_go = session.sends_at_once();
        if !may_go && !session.queue.has_room(self.settings) {
            return self.drop_copy(key);
        }
        if may_go && let Some(conn) = session.conn {
            let numbers = parcel.identifiers.as_deref().unwrap_or_default();
            let Ok(extras) = dress(session, &parcel.message, parcel.qos, numbers, self.now) else {
                return self.drop_copy(key);
            };
            let id = session.inflight.free_id();
            session.next_place += 1;
            if session.is_kept() {
                let client_id = session.client_id.clone();
                self.out.push(Effect::Keep(Change::Queued { client_id, place, parcel: parcel.clone() }));
                let client_id = session.client_id.clone();
                self.out.push(Effect::Keep(Change::Sent { client_id, place, packet_id: id }));
            }
            self.stats.publishes_sent += 1;
            self.stats.payload_sent += parcel.message.payload.len() as u64;
            let outgoing = send(&parcel, id, false, extras);
            session.inflight.push(Slot { place, id, parcel: Some(parcel), owed: false });
            return self.out.push(Effect::Deliver(conn, outgoing));
        }
        session.next_place += 1;
        if session.is_kept() {
            let client_id = session.client_id.clone();
            self.out.push(Effect::Keep(Change::Queued { client_id, place, parcel: parcel.clone() }));
        }
        session.queue.push(place, parcel);
    }

    fn drop_copy(&mut self, key: u32) {
        note_drop(&mut self.sessions[key as usize], self.stats, self.now, self.out);
    }
}

/// Counts a dropped delivery, and tells of it now and then.
fn note_drop(session: &mut Session, stats: &mut Stats, now: Moment, out: &mut Outbox) {
    stats.dropped += 1;
    session.dropped += 1;
    if session.dropped_told.after_millis(limits::DROPPED_REPORT) <= now {
        let (client_id, count) = (session.client_id.clone(), u64::from(session.dropped));
        out.push(Effect::Tell(Event::Dropped { client_id, count }));
        session.dropped = 0;
        session.dropped_told = now;
    }
}

/// The packet is larger than the peer takes: it is dropped as if it had been delivered [MQTT-3.1.2-25].
struct TooLarge;

/// The 5.0 properties that belong to this delivery.
fn dress(
    session: &mut Session,
    message: &Message,
    qos: QoS,
    identifiers: &[u32],
    now: Moment,
) -> Result<Option<Box<OutgoingExtras>>, TooLarge> {
    if session.version != ProtocolVersion::V5 {
        return Ok(None);
    }
    let mut extras: Option<Box<OutgoingExtras>> = None;
    if !identifiers.is_empty() {
        extras.get_or_insert_default().subscription_identifiers = identifiers.to_vec();
    }
    if let Some(due) = message.expires {
        extras.get_or_insert_default().expiry = Some(due.seconds_left(now));
    }
    if let Some(own) = session.extraordinary.as_deref_mut() {
        let alias = own.number(&message.topic);
        if alias.is_some() {
            extras.get_or_insert_default().alias = alias;
        }
        if own.maximum_packet_size < u32::MAX
            && encoded_len(message, qos, extras.as_deref(), session.version)
                > own.maximum_packet_size as usize
        {
            return Err(TooLarge);
        }
        if let Some((_, false)) = alias {
            own.told(&message.topic);
        }
    }
    Ok(extras)
}

fn send(parcel: &Parcel, id: PacketId, dup: bool, extras: Option<Box<OutgoingExtras>>) -> Outgoing {
    let delivery = match parcel.qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce(id),
        QoS::ExactlyOnce => Delivery::ExactlyOnce(id),
    };
    Outgoing { message: parcel.message.clone(), delivery, dup, retain: parcel.retain, extras }
}

/// Sends what the window allows: first what a new connection is owed, in its old order [MQTT-4.4.0-1] [MQTT-4.6.0-1],
/// then what waits.
pub(crate) fn pump(session: &mut Session, stats: &mut Stats, now: Moment, out: &mut Outbox) {
    while session.conn.is_some() && session.may_send() {
        if session.inflight.owes() {
            send_again(session, stats, now, out);
        } else if !send_next(session, stats, now, out) {
            return;
        }
    }
}

fn send_again(session: &mut Session, stats: &mut Stats, now: Moment, out: &mut Outbox) {
    let Some(conn) = session.conn else { return };
    let Some(slot) = session.inflight.settle_next() else { return };
    let (id, place) = (slot.id, slot.place);
    let Some(parcel) = slot.parcel.clone() else {
        return out.push(Effect::Send(conn, Packet::PubRel(Ack::new(id, ReasonCode::SUCCESS))));
    };
    let numbers = parcel.identifiers.as_deref().unwrap_or_default();
    if let Ok(extras) = dress(session, &parcel.message, parcel.qos, numbers, now) {
        stats.publishes_sent += 1;
        stats.payload_sent += parcel.message.payload.len() as u64;
        return out.push(Effect::Deliver(conn, send(&parcel, id, true, extras)));
    }
    // This connection takes less than the one before.
    if let Some(at) = session.inflight.find(id) {
        session.inflight.remove(at);
    }
    settle(session, place, out);
    note_drop(session, stats, now, out);
}

/// Sends the oldest waiting message; whether there was one.
fn send_next(session: &mut Session, stats: &mut Stats, now: Moment, out: &mut Outbox) -> bool {
    let Some(conn) = session.conn else { return false };
    let Some((place, parcel)) = session.queue.pop() else { return false };
    if parcel.message.is_expired(now) {
        stats.expired_messages += 1;
        settle(session, place, out);
        return true;
    }
    let numbers = parcel.identifiers.as_deref().unwrap_or_default();
    // Grants may have changed while it waited.
    let is_allowed = session.grants.may_receive(&parcel.message.topic);
    let dressed = dress(session, &parcel.message, parcel.qos, numbers, now);
    let Ok(extras) = dressed.and_then(|extras| if is_allowed { Ok(extras) } else { Err(TooLarge) }) else {
        settle(session, place, out);
        note_drop(session, stats, now, out);
        return true;
    };
    stats.publishes_sent += 1;
    stats.payload_sent += parcel.message.payload.len() as u64;
    let outgoing;
    if parcel.qos == QoS::AtMostOnce {
        // It has no identifier, and takes none from the others: they are counted from 1 without a gap.
        let (message, delivery) = (parcel.message, Delivery::AtMostOnce);
        outgoing = Outgoing { message, delivery, dup: false, retain: parcel.retain, extras };
        settle(session, place, out);
    } else {
        let id = session.inflight.free_id();
        outgoing = send(&parcel, id, false, extras);
        if session.is_kept() {
            let client_id = session.client_id.clone();
            out.push(Effect::Keep(Change::Sent { client_id, place, packet_id: id }));
        }
        session.inflight.push(Slot { place, id, parcel: Some(parcel), owed: false });
    }
    out.push(Effect::Deliver(conn, outgoing));
    true
}

/// A delivery is over: the journal may forget it.
pub(crate) fn settle(session: &Session, place: u64, out: &mut Outbox) {
    if session.is_kept() {
        let client_id = session.client_id.clone();
        out.push(Effect::Keep(Change::Delivered { client_id, place }));
    }
}
