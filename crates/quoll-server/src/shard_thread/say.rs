//! Packets in the log, in Mosquitto's words (`log_type debug`, `-v`). Nothing here is called while nobody wants it.

use quoll_broker::vocabulary::{ConnId, Outgoing};
use quoll_mqtt::packet::{Packet, Publish};
use quoll_mqtt::{Delivery, ProtocolVersion, QoS};

use super::ShardThread;
use crate::log::{PACKETS, UNSUBSCRIBE, shown};

/// Whether somebody wants to see packets.
pub(super) fn is_wanted() -> bool {
    tracing::enabled!(target: PACKETS, tracing::Level::DEBUG)
}

impl ShardThread {
    /// A packet came from a client that is connected.
    pub(super) fn say_received(&mut self, client: &str, packet: &Packet) {
        let client = shown(client);
        match packet {
            Packet::Publish(publish) => {
                let words = publish_words(publish);
                tracing::debug!(target: PACKETS, "Received PUBLISH from {client} ({words})");
                // If it is denied, this is said once more.
                self.said_publish = Some(words);
            }
            Packet::PubAck(ack) | Packet::PubComp(ack) => {
                let (name, id, reason) = (packet.kind().name(), ack.packet_id.get(), ack.reason.0);
                tracing::debug!(target: PACKETS, "Received {name} from {client} (Mid: {id}, RC:{reason})");
            }
            Packet::PubRec(ack) | Packet::PubRel(ack) => {
                let (name, id) = (packet.kind().name(), ack.packet_id.get());
                tracing::debug!(target: PACKETS, "Received {name} from {client} (Mid: {id})");
            }
            Packet::Subscribe(subscribe) => {
                tracing::debug!(target: PACKETS, "Received SUBSCRIBE from {client}");
                for wish in &subscribe.subscriptions {
                    let (filter, qos) = (shown(wish.filter.as_str()), wish.options.qos as u8);
                    tracing::debug!(target: PACKETS, "\t{filter} (QoS {qos})");
                }
            }
            Packet::Unsubscribe(unsubscribe) => {
                tracing::debug!(target: PACKETS, "Received UNSUBSCRIBE from {client}");
                for filter in &unsubscribe.filters {
                    let filter = shown(filter.as_str());
                    tracing::debug!(target: PACKETS, "\t{filter}");
                    tracing::debug!(target: UNSUBSCRIBE, "{client} {filter}");
                }
            }
            other => tracing::debug!(target: PACKETS, "Received {} from {client}", other.kind().name()),
        }
    }

    /// A packet other than PUBLISH goes to a client.
    pub(super) fn say_sent(&mut self, conn: ConnId, packet: &Packet) {
        let Some(connection) = self.table.get_mut(conn) else { return };
        if connection.who.seat.is_none() {
            return;
        }
        let client = shown(&connection.who.client_id);
        let name = packet.kind().name();
        match packet {
            Packet::ConnAck(answer) => {
                let (present, reason) = (u8::from(answer.session_present), answer.reason);
                let code = match connection.version {
                    ProtocolVersion::V5 => reason.0,
                    ProtocolVersion::V31 | ProtocolVersion::V311 => reason.connect_return_code(),
                };
                let line = format!("Sending {name} to {client} ({present}, {code})");
                match &mut self.arriving {
                    // The greeting comes first.
                    Some(greeting) if !reason.is_failure() => greeting.answer = Some(line),
                    _ => tracing::debug!(target: PACKETS, "{line}"),
                }
            }
            Packet::PubRel(ack) | Packet::PubComp(ack) => {
                tracing::debug!(target: PACKETS, "Sending {name} to {client} (m{})", ack.packet_id.get());
            }
            Packet::PubAck(ack) | Packet::PubRec(ack) => {
                let (id, reason) = (ack.packet_id.get(), ack.reason.0);
                tracing::debug!(target: PACKETS, "Sending {name} to {client} (m{id}, rc{reason})");
            }
            Packet::Disconnect(farewell) => {
                tracing::debug!(target: PACKETS, "Sending {name} to {client} (rc{})", farewell.reason.0);
            }
            _ => tracing::debug!(target: PACKETS, "Sending {name} to {client}"),
        }
    }

    /// A PUBLISH goes to a client.
    pub(super) fn say_delivered(&mut self, conn: ConnId, outgoing: &Outgoing) {
        let Some(connection) = self.table.get_mut(conn) else { return };
        if connection.who.seat.is_some() {
            let client = shown(&connection.who.client_id);
            let words = publish_words(&outgoing.publish(connection.version));
            tracing::debug!(target: PACKETS, "Sending PUBLISH to {client} ({words})");
        }
    }
}

/// DUP, QoS, RETAIN, packet identifier, topic, and how many bytes of payload there are: never which.
fn publish_words(publish: &Publish) -> String {
    let id = match publish.delivery {
        Delivery::AtMostOnce => 0,
        Delivery::AtLeastOnce(id) | Delivery::ExactlyOnce(id) => id.get(),
    };
    let (dup, retain) = (u8::from(publish.dup), u8::from(publish.retain));
    let qos: QoS = publish.delivery.qos();
    let topic = publish.topic.as_ref().map_or("", |topic| topic.as_str());
    let bytes = publish.payload.len();
    format!("d{dup}, q{}, r{retain}, m{id}, '{}', ... ({bytes} bytes)", qos as u8, shown(topic))
}
