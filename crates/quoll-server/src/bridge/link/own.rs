//! What is the bridge's own on its connection: CONNECT, the state topic, subscriptions at both ends.

use bytes::Bytes;
use quoll_mqtt::packet::{
    ConnAck, Connect, ConnectProperties, Packet, Publish, RetainHandling, Subscribe, SubscribeProperties,
    Subscription, SubscriptionOptions, Unsubscribe, Will, WillProperties,
};
use quoll_mqtt::{Delivery, PacketId, ProtocolVersion, QoS, ReasonCode, TopicName};

use super::{Ending, Link, Outs, Stage, State};
use crate::bridge::topics::comes_in;
use crate::log::PACKETS;

/// A request of ours at the other broker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Own {
    /// The state topic: PUBACK.
    State,
    /// This filter: SUBACK.
    Subscribe(String),
    /// UNSUBACK.
    Unsubscribe,
}

impl Link {
    /// CONNECT, as Mosquitto's bridges say it.
    pub(super) fn say_connect(&self, remote: &mut Vec<u8>) {
        let bridge = &self.bridge.configuration;
        let is_5 = bridge.version == ProtocolVersion::V5;
        let mut properties = ConnectProperties::default();
        if is_5 {
            let expiry = u32::try_from(bridge.session_expiry.as_secs()).unwrap_or(u32::MAX);
            properties.session_expiry_interval = Some(expiry).filter(|expiry| *expiry > 0);
            let window = bridge.receive_maximum.unwrap_or(self.bridge.window);
            properties.receive_maximum = Some(window).filter(|window| *window < u16::MAX);
            properties.topic_alias_maximum = Some(bridge.max_topic_alias).filter(|aliases| *aliases > 0);
        }
        let told_there = bridge.notifications.as_ref().filter(|it| !it.local_only);
        let connect = Connect {
            version: bridge.version,
            bridge: self.marked,
            client_id: bridge.remote.client_id.clone(),
            clean_start: bridge.remote.clean_session,
            keep_alive: u16::try_from(bridge.keep_alive.as_secs()).unwrap_or(u16::MAX),
            will: told_there.and_then(|it| TopicName::parse(&it.topic).ok()).map(|topic| Will {
                topic,
                payload: Bytes::from_static(b"0"),
                qos: QoS::AtLeastOnce,
                retain: bridge.outgoing_retain,
                properties: WillProperties::default(),
            }),
            username: bridge.remote.username.clone(),
            password: bridge
                .remote
                .password
                .as_ref()
                .map(|it| Bytes::copy_from_slice(it.reveal().as_bytes())),
            properties,
        };
        tracing::debug!(target: PACKETS, "Bridge {} sending CONNECT", bridge.remote.client_id);
        self.to_remote(&Packet::Connect(Box::new(connect)), remote);
    }

    /// The other broker's answer to CONNECT. Let in, it is told our state and our wishes at once, in Mosquitto's order.
    pub(super) fn take_connack(&mut self, answer: ConnAck, outs: &mut Outs<'_>) -> Result<(), Ending> {
        tracing::debug!(target: PACKETS, "Received CONNACK on connection {}.", self.local_id());
        if answer.reason.is_failure() {
            return Err(Ending::Refused(answer.reason));
        }
        self.allowed = answer.properties;
        self.stage = Stage::Half;
        self.tell_state(outs.remote);
        let lines = self.topics.lines().to_vec();
        for line in lines {
            if comes_in(&line) {
                self.subscribe_there(line.remote, line.qos, outs.remote);
            } else if self.bridge.configuration.attempt_unsubscribe {
                self.unsubscribe_there(line.remote, outs.remote);
            }
        }
        Ok(())
    }

    /// The retained 1; the will is its 0.
    fn tell_state(&mut self, remote: &mut Vec<u8>) {
        let told = self.bridge.configuration.notifications.as_ref().filter(|it| !it.local_only);
        let Some(topic) = told.and_then(|it| TopicName::parse(&it.topic).ok()) else { return };
        let qos = self.allowed.maximum_qos.unwrap_or(QoS::AtLeastOnce).min(QoS::AtLeastOnce);
        let delivery = match qos {
            _ if self.softly => Delivery::AtMostOnce,
            QoS::AtMostOnce => Delivery::AtMostOnce,
            _ => {
                self.state = State::Told;
                Delivery::AtLeastOnce(self.own_id(Own::State))
            }
        };
        let configuration = &self.bridge.configuration;
        let retain = configuration.outgoing_retain && self.allowed.retain_available != Some(false);
        let payload = Bytes::from_static(b"1");
        let state = Publish { dup: false, retain, delivery, topic: Some(topic), payload, properties: None };
        self.to_remote(&Packet::Publish(state), remote);
    }

    fn subscribe_there(&mut self, filter: quoll_mqtt::TopicFilter, qos: QoS, remote: &mut Vec<u8>) {
        let is_5 = self.bridge.configuration.version == ProtocolVersion::V5;
        let options = SubscriptionOptions {
            qos,
            // 3.x says the same by the mark in CONNECT.
            no_local: is_5 && filter.share().is_none(),
            retain_as_published: is_5,
            retain_handling: RetainHandling::Send,
        };
        let packet_id = self.own_id(Own::Subscribe(filter.as_str().to_owned()));
        let bits = if is_5 { 0x0c } else { 0 };
        tracing::debug!(
            target: PACKETS,
            "Bridge {} sending SUBSCRIBE (Mid: {}, Topic: {filter}, QoS: {}, Options: 0x{bits:02x})",
            self.local_id(),
            packet_id.get(),
            options.qos as u8,
        );
        let subscriptions = vec![Subscription { filter, options }];
        let subscribe = Subscribe { packet_id, subscriptions, properties: SubscribeProperties::default() };
        self.to_remote(&Packet::Subscribe(Box::new(subscribe)), remote);
    }

    /// An earlier configuration may have subscribed to it, and its session may be there still.
    fn unsubscribe_there(&mut self, filter: quoll_mqtt::TopicFilter, remote: &mut Vec<u8>) {
        let packet_id = self.own_id(Own::Unsubscribe);
        tracing::debug!(
            target: PACKETS,
            "Bridge {} sending UNSUBSCRIBE (Mid: {}, Topic: {filter})",
            self.local_id(),
            packet_id.get()
        );
        let unsubscribe = Unsubscribe { packet_id, filters: vec![filter], user_properties: Vec::new() };
        self.to_remote(&Packet::Unsubscribe(Box::new(unsubscribe)), remote);
    }

    /// A packet identifier for a request of our own. The local broker draws its from below, so ours are drawn from above; should
    /// they meet, its message waits.
    fn own_id(&mut self, request: Own) -> PacketId {
        let is_free = |id: &PacketId| !self.own.contains_key(id) && !self.out.contains(id);
        let free = (1..=u16::MAX).rev().filter_map(PacketId::new).find(is_free);
        let id = free.unwrap_or(PacketId::new(u16::MAX).expect("not 0"));
        self.own.insert(id, request);
        id
    }

    /// Whether this answers a request of our own, which is then over.
    pub(super) fn answers_own(&mut self, id: PacketId, is_it: impl Fn(&Own) -> bool) -> Option<Own> {
        if self.own.get(&id).is_some_and(is_it) { self.own.remove(&id) } else { None }
    }

    /// The other broker's answers to our subscriptions.
    pub(super) fn take_suback(&mut self, id: PacketId, reasons: &[ReasonCode]) {
        tracing::debug!(target: PACKETS, "Received SUBACK from {}", self.local_id());
        let Some(Own::Subscribe(filter)) = self.answers_own(id, |own| matches!(own, Own::Subscribe(_)))
        else {
            return;
        };
        if let Some(reason) = reasons.iter().find(|reason| reason.is_failure()) {
            let bridge = &self.bridge.configuration.name;
            tracing::warn!(
                "Bridge {bridge}: the other broker refuses the subscription to {filter}: {reason}"
            );
        }
    }

    /// The local broker's answer to the local CONNECT: now it is asked for what goes out, retained messages included, as
    /// Mosquitto does at each connection.
    pub(super) fn take_local_connack(&mut self, answer: &ConnAck, outs: &mut Outs<'_>) -> Result<(), Ending> {
        if answer.reason.is_failure() {
            return Err(Ending::RefusedHere(answer.reason));
        }
        self.stage = Stage::Whole;
        self.here_at_most = answer.properties.receive_maximum.map_or(usize::MAX, usize::from);
        let most = self.allowed.maximum_qos.unwrap_or(QoS::ExactlyOnce);
        let wanted = self.topics.wanted_here();
        if wanted.is_empty() {
            return Ok(());
        }
        let subscribe = subscribe_here(wanted, most, RetainHandling::Send);
        self.to_local(&Packet::Subscribe(Box::new(subscribe)), outs.local);
        Ok(())
    }

    pub(super) fn local_id(&self) -> &str {
        &self.bridge.configuration.local.client_id
    }
}

/// SUBSCRIBE of a bridge's local half. No Local keeps what came over the bridge from going back.
pub(in crate::bridge) fn subscribe_here(
    wanted: Vec<(quoll_mqtt::TopicFilter, QoS)>,
    most: QoS,
    retain_handling: RetainHandling,
) -> Subscribe {
    let subscription = |(filter, qos): (quoll_mqtt::TopicFilter, QoS)| {
        let no_local = filter.share().is_none();
        let qos = qos.min(most);
        let options = SubscriptionOptions { qos, no_local, retain_as_published: true, retain_handling };
        Subscription { filter, options }
    };
    Subscribe {
        packet_id: PacketId::new(u16::MAX).expect("not 0"),
        subscriptions: wanted.into_iter().map(subscription).collect(),
        properties: SubscribeProperties::default(),
    }
}
