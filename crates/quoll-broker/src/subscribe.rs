//! SUBSCRIBE and UNSUBSCRIBE, and the retained messages that a new subscription gets (§3.8 to §3.11).
//!
//! Order rule: a subscriber subscribes before it looks for retained messages; see `retained`.

use std::sync::Arc;

use quoll_mqtt::packet::{
    AckProperties, Packet, RetainHandling, SubAck, Subscribe, Subscription, UnsubAck, Unsubscribe,
};
use quoll_mqtt::{QoS, ReasonCode, TopicFilter};

use crate::change::Change;
use crate::limits;
use crate::pending::Unanswered;
use crate::session::Own;
use crate::shard::Shard;
use crate::vocabulary::{Act, ConnId, Effect, Event, Outbox};

/// Who wants what a filter matches.
#[derive(Debug, Default)]
pub(crate) struct Wanting {
    /// In the order of their session keys, so that one is found quickly and a broadcast walks memory forwards.
    subscribers: Vec<Subscriber>,
    /// Shared subscriptions whose members this shard chooses.
    pub(crate) groups: Vec<u32>,
}

/// A session's place at a filter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subscriber {
    pub(crate) session: u32,
    /// Subscription identifier; 0 for none.
    pub(crate) identifier: u32,
    pub(crate) qos: QoS,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    /// Its grants cover the whole filter: no look at each topic.
    pub(crate) is_vetted: bool,
}

impl Wanting {
    pub(crate) fn subscribers(&self) -> &[Subscriber] {
        &self.subscribers
    }

    pub(crate) fn is_unwanted(&self) -> bool {
        self.subscribers.is_empty() && self.groups.is_empty()
    }

    fn put(&mut self, subscriber: Subscriber) {
        match self.subscribers.binary_search_by_key(&subscriber.session, |other| other.session) {
            Ok(at) => self.subscribers[at] = subscriber,
            Err(at) => {
                if self.subscribers.is_empty() {
                    // Most filters are one device's own.
                    self.subscribers.reserve_exact(1);
                }
                self.subscribers.insert(at, subscriber);
            }
        }
    }

    fn take(&mut self, session: u32) {
        if let Ok(at) = self.subscribers.binary_search_by_key(&session, |other| other.session) {
            self.subscribers.remove(at);
        }
    }
}

impl Shard {
    /// Takes a SUBSCRIBE: each filter is answered for itself [MQTT-3.8.4-6].
    pub(crate) fn subscribe(&mut self, key: u32, conn: ConnId, subscribe: Subscribe, out: &mut Outbox) {
        let Subscribe { packet_id, subscriptions, properties } = subscribe;
        if subscriptions.len() > limits::FILTERS_PER_PACKET {
            return self.fail(key, ReasonCode::QUOTA_EXCEEDED, out);
        }
        if subscriptions.iter().any(|wish| limits::is_too_deep(wish.filter.as_str())) {
            return self.fail(key, ReasonCode::MALFORMED_PACKET, out); // As Mosquitto says it.
        }
        if subscriptions.iter().any(|wish| wish.options.no_local && wish.filter.share().is_some()) {
            return self.fail(key, ReasonCode::PROTOCOL_ERROR, out); // [MQTT-3.8.3-4]
        }
        let identifier = properties.subscription_identifier.unwrap_or(0);
        let (mut replays, mut groups) = (Vec::new(), Vec::new());
        let mut reasons = Vec::with_capacity(subscriptions.len());
        for wish in subscriptions {
            let filter = wish.filter.as_str().into();
            let reason = match self.subscribe_to(key, wish, identifier, out) {
                Ok((own, replay)) => {
                    let granted = ReasonCode(own.options.qos as u8);
                    if self.is_group_elsewhere(&own.filter) {
                        groups.push((reasons.len(), own.filter.clone()));
                    }
                    replays.extend(replay.then_some(own));
                    granted
                }
                Err(reason) => reason,
            };
            reasons.push(reason);
            let client_id = self.sessions[key as usize].client_id.clone();
            out.push(Effect::Tell(Event::Subscribed { client_id, filter, reason }));
        }
        let client_id = self.sessions[key as usize].client_id.clone();
        let ack = SubAck { packet_id, reasons, properties: AckProperties::default() };
        self.answer_when_known(Unanswered { conn, client_id, ack, replays, groups }, out);
    }

    /// Adds or replaces one subscription; says what it became and whether retained messages are due.
    fn subscribe_to(
        &mut self,
        key: u32,
        wish: Subscription,
        identifier: u32,
        out: &mut Outbox,
    ) -> Result<(Own, bool), ReasonCode> {
        let Subscription { filter, mut options } = wish;
        let session = &self.sessions[key as usize];
        if !session.grants.may_subscribe(&filter) {
            let refused = !session.grants.is_lenient();
            out.push(Effect::Tell(session.overstepped(Act::Subscribe, filter.as_str(), refused)));
            if refused {
                return Err(ReasonCode::NOT_AUTHORIZED);
            }
        }
        let own = &session.subscriptions;
        let is_full = own.len() >= self.settings.max_subscriptions as usize
            || own.bytes() + filter.as_str().len() > self.settings.max_subscription_bytes;
        let has_no_place = is_full || (filter.share().is_some() && self.is_group_full(&filter));
        if has_no_place && session.subscriptions.find(&filter).is_none() {
            return Err(ReasonCode::QUOTA_EXCEEDED);
        }
        options.qos = options.qos.min(self.settings.max_qos);
        let is_shared = filter.share().is_some();
        if session.is_bridge && !is_shared {
            options.no_local = true;
            options.retain_as_published = true;
        }
        let (client_id, is_kept) = (session.client_id.clone(), session.is_kept());
        let own = Own { filter, options, identifier };
        let is_new = self.plant(key, own.clone(), true, out);
        // One whose answer waits is a fact when it is answered.
        if is_kept && !self.is_group_elsewhere(&own.filter) {
            out.push(Effect::Keep(own.fact(client_id)));
        }
        let replay = !is_shared
            && match options.retain_handling {
                RetainHandling::Send => true,
                RetainHandling::SendIfNew => is_new,
                RetainHandling::DoNotSend => false,
            };
        Ok((own, replay))
    }

    /// Takes an UNSUBSCRIBE; each filter is answered for itself [MQTT-3.10.4-6].
    pub(crate) fn unsubscribe(&mut self, key: u32, conn: ConnId, unsubscribe: Unsubscribe, out: &mut Outbox) {
        if unsubscribe.filters.len() > limits::FILTERS_PER_PACKET {
            return self.fail(key, ReasonCode::QUOTA_EXCEEDED, out);
        }
        if unsubscribe.filters.iter().any(|filter| limits::is_too_deep(filter.as_str())) {
            return self.fail(key, ReasonCode::MALFORMED_PACKET, out);
        }
        let mut reasons = Vec::with_capacity(unsubscribe.filters.len());
        for filter in unsubscribe.filters {
            let session = &mut self.sessions[key as usize];
            if !session.grants.may_unsubscribe(&filter) {
                reasons.push(ReasonCode::NOT_AUTHORIZED);
                continue;
            }
            let (client_id, is_kept) = (session.client_id.clone(), session.is_kept());
            let Some(own) = session.subscriptions.take(&filter) else {
                reasons.push(ReasonCode::NO_SUBSCRIPTION_EXISTED);
                continue;
            };
            self.unplant(key, &client_id, &own, out);
            if is_kept {
                out.push(Effect::Keep(Change::Unsubscribed { client_id, filter }));
            }
            reasons.push(ReasonCode::SUCCESS);
        }
        let packet_id = unsubscribe.packet_id;
        let ack = UnsubAck { packet_id, reasons, properties: AckProperties::default() };
        out.push(Effect::Send(conn, Packet::UnsubAck(Box::new(ack))));
    }

    /// Puts a subscription into the session and where messages find it; whether it is new.
    pub(crate) fn plant(&mut self, key: u32, own: Own, connected: bool, out: &mut Outbox) -> bool {
        let session = &mut self.sessions[key as usize];
        let is_new = session.subscriptions.put(own.clone(), self.seed);
        let is_shared = own.filter.share().is_some();
        if is_new {
            self.stats.subscriptions += 1;
            self.stats.shared_subscriptions += u64::from(is_shared);
        }
        if is_shared {
            if is_new {
                let client_id = session.client_id.clone();
                self.tell_group(&own.filter, client_id, Some(connected), out);
            }
            return is_new;
        }
        let subscriber = Subscriber {
            session: key,
            identifier: own.identifier,
            qos: own.options.qos,
            no_local: own.options.no_local,
            retain_as_published: own.options.retain_as_published,
            is_vetted: session.grants.covers(&own.filter),
        };
        let (id, is_first) = self.tree.insert(own.filter.as_str());
        self.tree.value_mut(id).put(subscriber);
        if is_first {
            self.shared.interest.add(own.filter.as_str(), self.id);
        }
        is_new
    }

    /// Takes a subscription, gone from its session already, out of where messages find it.
    pub(crate) fn unplant(&mut self, key: u32, client_id: &Arc<str>, own: &Own, out: &mut Outbox) {
        self.stats.subscriptions -= 1;
        if own.filter.share().is_some() {
            self.stats.shared_subscriptions -= 1;
            return self.tell_group(&own.filter, client_id.clone(), None, out);
        }
        if let Some(id) = self.tree.find(own.filter.as_str()) {
            self.tree.value_mut(id).take(key);
            self.drop_unwanted(own.filter.as_str());
        }
    }

    /// Forgets a filter that nobody wants any more.
    pub(crate) fn drop_unwanted(&mut self, filter: &str) {
        if let Some(id) = self.tree.find(filter)
            && self.tree.value(id).is_unwanted()
        {
            self.tree.remove(id);
            self.shared.interest.remove(filter, self.id);
        }
    }

    /// The session has other grants: what its subscriptions cover is settled anew. They stay, and deliveries are
    /// checked where grants are narrower.
    pub(crate) fn vet(&mut self, key: u32) {
        let session = &self.sessions[key as usize];
        for own in session.subscriptions.iter() {
            if let Some(id) = self.tree.find(own.filter.as_str()) {
                let subscribers = &mut self.tree.value_mut(id).subscribers;
                if let Ok(at) = subscribers.binary_search_by_key(&key, |other| other.session) {
                    subscribers[at].is_vetted = session.grants.covers(&own.filter);
                }
            }
        }
    }

    /// Tells the shared subscriptions of a session whether it is connected.
    pub(crate) fn tell_groups(&mut self, key: u32, connected: bool, out: &mut Outbox) {
        if self.stats.shared_subscriptions == 0 {
            return;
        }
        let session = &mut self.sessions[key as usize];
        session.is_passed_over = false;
        let client_id = session.client_id.clone();
        let filters = session.subscriptions.iter().map(|own| &own.filter);
        let shared: Vec<TopicFilter> = filters.filter(|filter| filter.share().is_some()).cloned().collect();
        for filter in shared {
            self.tell_group(&filter, client_id.clone(), Some(connected), out);
        }
    }
}
