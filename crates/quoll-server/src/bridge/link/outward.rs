//! From the local broker to the other one.

use std::time::Instant;

use quoll_mqtt::packet::{Ack, Packet, Publish};
use quoll_mqtt::{Delivery, PacketId, ProtocolVersion, QoS, ReasonCode, encode};

use super::{Ending, Link, Outs};
use crate::log::{NOTICE, PACKETS, shown};

impl Link {
    pub(super) fn take_local(
        &mut self,
        packet: Packet,
        now: Instant,
        outs: &mut Outs<'_>,
    ) -> Result<(), Ending> {
        match packet {
            Packet::ConnAck(answer) => return self.take_local_connack(&answer, outs),
            Packet::Publish(publish) => {
                self.clock.used = now;
                self.take_local_publish(publish, outs);
            }
            Packet::PubRel(ack) => self.take_local_pubrel(ack, outs),
            // The local broker has a message of the other one.
            Packet::PubAck(ack) => self.to_remote(&Packet::PubAck(as_client(ack)), outs.remote),
            Packet::PubRec(ack) => {
                if ack.reason.is_failure() {
                    self.is_over_here(ack.packet_id, outs);
                }
                self.to_remote(&Packet::PubRec(as_client(ack)), outs.remote);
            }
            Packet::PubComp(ack) => {
                self.is_over_here(ack.packet_id, outs);
                self.to_remote(&Packet::PubComp(ack), outs.remote);
            }
            Packet::SubAck(answer) => {
                for (wanted, reason) in self.topics.wanted_here().iter().zip(&answer.reasons) {
                    if reason.is_failure() {
                        let (bridge, filter) = (&self.bridge.configuration.name, &wanted.0);
                        tracing::warn!("Bridge {bridge} may not subscribe to {filter} here: {reason}");
                    }
                }
            }
            Packet::Disconnect(farewell) => return Err(Ending::ClosedHere(farewell.reason.to_string())),
            _ => {}
        }
        Ok(())
    }

    fn take_local_publish(&mut self, publish: Publish, outs: &mut Outs<'_>) {
        match publish.delivery.packet_id() {
            Some(id) if self.must_wait(id) => self.held.push_back(publish),
            _ => self.send(publish, outs),
        }
    }

    /// Whether a message cannot be sent yet: the other broker has as many as it takes, or the identifier is in use for a
    /// request of our own.
    fn must_wait(&self, id: PacketId) -> bool {
        let most = self.allowed.receive_maximum.map_or(usize::MAX, usize::from);
        let under_way = self.out.len() + self.own.values().filter(|own| **own == super::Own::State).count();
        !self.held.is_empty() || self.own.contains_key(&id) || (under_way >= most && !self.out.contains(&id))
    }

    /// Sends what was held up and can go now.
    pub(super) fn send_held(&mut self, outs: &mut Outs<'_>) {
        let mut held = std::mem::take(&mut self.held);
        while let Some(publish) = held.pop_front() {
            if publish.delivery.packet_id().is_some_and(|id| self.must_wait(id)) {
                held.push_front(publish);
                break;
            }
            self.send(publish, outs);
        }
        self.held = held;
    }

    /// Sends a message under its other name, or ends it here.
    fn send(&mut self, mut publish: Publish, outs: &mut Outs<'_>) {
        let (came, id) = (publish.delivery.qos(), publish.delivery.packet_id());
        let Some(name) = publish.topic.take().and_then(|name| self.topics.outward(&name)) else {
            return self.end_here(id, came, outs);
        };
        let configuration = &self.bridge.configuration;
        publish.retain &= configuration.outgoing_retain && self.allowed.retain_available != Some(false);
        let goes = came.min(self.allowed.maximum_qos.unwrap_or(QoS::ExactlyOnce));
        publish.delivery = match (goes, id) {
            (QoS::AtLeastOnce, Some(id)) => Delivery::AtLeastOnce(id),
            (QoS::ExactlyOnce, Some(id)) => Delivery::ExactlyOnce(id),
            _ => Delivery::AtMostOnce,
        };
        publish.dup &= goes > QoS::AtMostOnce;
        if configuration.version != ProtocolVersion::V5 {
            publish.properties = None;
        }
        let words = format!(
            "(d{}, q{}, r{}, m{}, '{}', ... ({} bytes))",
            u8::from(publish.dup),
            goes as u8,
            u8::from(publish.retain),
            publish.delivery.packet_id().map_or(0, PacketId::get),
            shown(name.as_str()),
            publish.payload.len(),
        );
        publish.topic = Some(name);
        let start = outs.remote.len();
        let written = encode(&Packet::Publish(publish), configuration.version, outs.remote);
        let size = outs.remote.len() - start;
        if let Err(why) = written.map_err(|error| error.to_string()).and_then(|()| self.takes(size)) {
            outs.remote.truncate(start);
            let bridge = &configuration.name;
            tracing::info!(target: NOTICE, "Bridge {bridge}: a message is dropped: {why}: PUBLISH {words}");
            return self.end_here(id, came, outs);
        }
        tracing::debug!(target: PACKETS, "Sending PUBLISH to {} {words}", self.local_id());
        match (id, goes) {
            (Some(id), QoS::AtMostOnce) => self.end_here(Some(id), came, outs),
            (Some(id), _) => {
                self.out.insert(id);
                if goes < came {
                    self.lowered.insert(id);
                }
            }
            (None, _) => {}
        }
    }

    /// Whether the other broker takes a packet of this size [MQTT-3.2.2-15], and we want to send it.
    fn takes(&self, size: usize) -> Result<(), String> {
        let theirs = self.allowed.maximum_packet_size.map_or(usize::MAX, |most| most as usize);
        let ours = self.bridge.configuration.max_packet_size.map_or(usize::MAX, |most| most as usize);
        if size > theirs {
            return Err(format!("{size} bytes, the other broker takes {theirs}"));
        }
        if size > ours {
            return Err(format!("{size} bytes, bridge_max_packet_size is {ours}"));
        }
        Ok(())
    }

    /// The local broker is told that a message arrived, though it goes no further: else it would stand in the way of others.
    pub(super) fn end_here(&mut self, id: Option<PacketId>, qos: QoS, outs: &mut Outs<'_>) {
        match (id, qos) {
            (Some(id), QoS::AtLeastOnce) => {
                self.to_local(&Packet::PubAck(Ack::new(id, ReasonCode::SUCCESS)), outs.local);
            }
            (Some(id), QoS::ExactlyOnce) => {
                self.ended_here.insert(id);
                self.to_local(&Packet::PubRec(Ack::new(id, ReasonCode::SUCCESS)), outs.local);
            }
            _ => {}
        }
    }

    fn take_local_pubrel(&mut self, ack: Ack, outs: &mut Outs<'_>) {
        let id = ack.packet_id;
        if self.ended_here.remove(&id) {
            return self.to_local(&Packet::PubComp(Ack::new(id, ReasonCode::SUCCESS)), outs.local);
        }
        self.out.insert(id);
        tracing::debug!(target: PACKETS, "Sending PUBREL to {} (m{})", self.local_id(), id.get());
        self.to_remote(&Packet::PubRel(Ack::new(id, ReasonCode::SUCCESS)), outs.remote);
    }
}

/// An acknowledgement of a server, said by a client: whether somebody listens is a server's word alone (§3.4.2.1).
fn as_client(ack: Ack) -> Ack {
    let reason = match ack.reason {
        ReasonCode::NO_MATCHING_SUBSCRIBERS => ReasonCode::SUCCESS,
        other => other,
    };
    Ack::new(ack.packet_id, reason)
}
