//! What a client does with what the server sends.

use super::pending::Request;
use super::{Client, Event, Stage};
use crate::packet::{Ack, ConnAck, Publish};
use crate::{
    DecodeContext, DecodeError, Decoded, Delivery, Packet, PacketId, PacketKind, ProtocolVersion, QoS,
    ReasonCode, Role, decode, encode,
};

impl Client {
    pub(super) fn receive_all(
        &mut self,
        bytes: &[u8],
        events: &mut Vec<Event>,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        if self.stage == Stage::Closed {
            return Ok(());
        }
        let mut input = std::mem::take(&mut self.unfinished);
        input.extend_from_slice(bytes);
        let mut start = 0;
        while self.stage != Stage::Closed {
            match decode(&input[start..], &self.context())? {
                Decoded::Packet(packet, length) => {
                    start += length;
                    self.take(packet, events, out)?;
                }
                Decoded::Incomplete(_) => {
                    input.drain(..start);
                    self.unfinished = input;
                    break;
                }
            }
        }
        Ok(())
    }

    fn context(&self) -> DecodeContext {
        let announced = match self.options.version {
            ProtocolVersion::V5 => self.options.properties.maximum_packet_size.unwrap_or(u32::MAX),
            _ => u32::MAX,
        };
        DecodeContext {
            version: Some(self.options.version),
            maximum_packet_size: self.options.maximum_packet_size.min(announced),
            role: Role::Client,
        }
    }

    /// In 5.0 the server is told why the connection ends, if it has let us in [MQTT-4.13.1-1].
    pub(super) fn farewell(&mut self, reason: ReasonCode, out: &mut Vec<u8>) {
        if self.options.version == ProtocolVersion::V5 && self.stage == Stage::Connected {
            self.disconnect(reason, out);
        } else {
            self.connection_lost();
        }
    }

    fn take(
        &mut self,
        packet: Packet,
        events: &mut Vec<Event>,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        match (self.stage, packet) {
            (Stage::Connecting, Packet::ConnAck(answer)) => self.take_connack(answer, events, out),
            (_, Packet::Auth(auth)) => events.push(Event::Authenticate(auth)),
            (Stage::Connecting, other) => {
                return Err(protocol(other.kind(), "something else before CONNACK [MQTT-3.2.0-1]"));
            }
            (_, Packet::ConnAck(_)) => {
                return Err(protocol(PacketKind::ConnAck, "a second CONNACK [MQTT-3.2.0-2]"));
            }
            (_, Packet::Publish(publish)) => self.take_publish(publish, events, out)?,
            (_, Packet::PubAck(ack)) => self.take_puback(&ack, events),
            (_, Packet::PubRec(ack)) => self.take_pubrec(&ack, events, out),
            (_, Packet::PubRel(ack)) => self.take_pubrel(&ack, out),
            (_, Packet::PubComp(ack)) => self.take_pubcomp(&ack, events),
            (_, Packet::SubAck(ack)) => {
                if self.answers(ack.packet_id, &Request::Subscribe) {
                    events.push(Event::Subscribed { id: ack.packet_id, reasons: ack.reasons });
                }
            }
            (_, Packet::UnsubAck(ack)) => {
                if self.answers(ack.packet_id, &Request::Unsubscribe) {
                    events.push(Event::Unsubscribed { id: ack.packet_id, reasons: ack.reasons });
                }
            }
            (_, Packet::PingResp) => {
                self.answer_due = None;
                events.push(Event::Alive);
            }
            (_, Packet::Disconnect(disconnect)) => {
                self.connection_lost();
                events.push(Event::Disconnected(disconnect));
            }
            (_, other) => return Err(protocol(other.kind(), "a server does not send it (§2.1.2)")),
        }
        Ok(())
    }

    fn take_connack(&mut self, answer: Box<ConnAck>, events: &mut Vec<Event>, out: &mut Vec<u8>) {
        if answer.reason.is_failure() {
            self.connection_lost();
            events.push(Event::Refused(answer));
            return;
        }
        self.stage = Stage::Connected;
        self.answer_due = None;
        self.allowed = answer.properties.clone();
        if let Some(client_id) = &answer.properties.assigned_client_identifier {
            self.options.client_id.clone_from(client_id);
        }
        // 3.1 does not say whether it kept a session; where we asked for it, it did.
        let asked_31 = self.options.version == ProtocolVersion::V31 && !self.options.clean_start;
        let resumed = answer.session_present || asked_31;
        if !resumed {
            self.received.clear();
        }
        let mut lost = self.pending.forget(resumed);
        lost.extend(self.send_again(out));
        events.push(Event::Connected { answer, lost });
    }

    /// What waited for an answer when the last connection ended [MQTT-4.4.0-1]. Dropped and returned is a message that
    /// the server does not take any more: too large, too many, of a higher level.
    fn send_again(&mut self, out: &mut Vec<u8>) -> Vec<PacketId> {
        let mut dropped = Vec::new();
        let mut room = self.receive_maximum();
        for (id, request) in self.pending.iter() {
            let written = match request {
                _ if room == 0 => false,
                Request::Publish(message) => {
                    self.check_message(message).is_ok()
                        && self.write_message(message, Some(*id), true, out).is_ok()
                }
                _ => {
                    self.send_ack(Packet::PubRel, *id, ReasonCode::SUCCESS, out); // nothing else is left by forget()
                    true
                }
            };
            if written {
                room -= 1;
            } else {
                dropped.push(*id);
            }
        }
        for id in &dropped {
            self.pending.remove(*id);
        }
        dropped
    }

    fn take_publish(
        &mut self,
        mut publish: Publish,
        events: &mut Vec<Event>,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        self.resolve_alias(&mut publish)?;
        match publish.delivery {
            Delivery::AtMostOnce => events.push(Event::Message(publish)),
            Delivery::AtLeastOnce(id) => {
                self.send_ack(Packet::PubAck, id, ReasonCode::SUCCESS, out);
                events.push(Event::Message(publish));
            }
            Delivery::ExactlyOnce(id) => {
                self.send_ack(Packet::PubRec, id, ReasonCode::SUCCESS, out);
                if self.received.insert(id) {
                    events.push(Event::Message(publish));
                }
            }
        }
        Ok(())
    }

    /// Notes or looks up the topic behind an alias (§3.3.2.3.4).
    fn resolve_alias(&mut self, publish: &mut Publish) -> Result<(), DecodeError> {
        let Some(alias) = publish.properties.as_ref().and_then(|properties| properties.topic_alias) else {
            return Ok(());
        };
        let maximum = self.options.properties.topic_alias_maximum.unwrap_or(0);
        if alias.get() > maximum {
            return Err(DecodeError::TopicAlias { alias: alias.get(), maximum });
        }
        let index = usize::from(alias.get()) - 1;
        if self.aliases.len() <= index {
            self.aliases.resize(index + 1, None);
        }
        match &publish.topic {
            Some(topic) => self.aliases[index] = Some(topic.clone()),
            None => {
                let known = self.aliases[index].clone();
                let unknown = || protocol(PacketKind::Publish, "topic alias without a topic (§3.3.2.3.4)");
                publish.topic = Some(known.ok_or_else(unknown)?);
            }
        }
        Ok(())
    }

    fn take_puback(&mut self, ack: &Ack, events: &mut Vec<Event>) {
        if self.waits_for(ack.packet_id, QoS::AtLeastOnce) {
            self.pending.remove(ack.packet_id);
            events.push(Event::Published { id: ack.packet_id, reason: ack.reason });
        }
    }

    /// A failure ends the exchange; else PUBREL follows, also to a PUBREC that comes again [MQTT-4.3.3-4]. 5.0 tells the
    /// server where we do not know the identifier (§3.6.2.1).
    fn take_pubrec(&mut self, ack: &Ack, events: &mut Vec<Event>, out: &mut Vec<u8>) {
        let id = ack.packet_id;
        let waits = self.waits_for(id, QoS::ExactlyOnce);
        if waits && ack.reason.is_failure() {
            self.pending.remove(id);
            events.push(Event::Published { id, reason: ack.reason });
            return;
        }
        if waits {
            self.pending.release(id);
        }
        let known = self.pending.get(id) == Some(&Request::Release);
        self.send_ack(Packet::PubRel, id, found(known), out);
    }

    fn take_pubrel(&mut self, ack: &Ack, out: &mut Vec<u8>) {
        let known = self.received.remove(&ack.packet_id);
        self.send_ack(Packet::PubComp, ack.packet_id, found(known), out);
    }

    fn take_pubcomp(&mut self, ack: &Ack, events: &mut Vec<Event>) {
        if self.answers(ack.packet_id, &Request::Release) {
            events.push(Event::Published { id: ack.packet_id, reason: ack.reason });
        }
    }

    /// Whether a message of this level waits under this identifier.
    fn waits_for(&self, id: PacketId, qos: QoS) -> bool {
        matches!(self.pending.get(id), Some(Request::Publish(message)) if message.qos == qos)
    }

    /// Whether this is the request under this identifier, which is then answered. An answer to nothing is ignored.
    fn answers(&mut self, id: PacketId, request: &Request) -> bool {
        let answers = self.pending.get(id) == Some(request);
        if answers {
            self.pending.remove(id);
        }
        answers
    }

    fn send_ack(&self, packet: fn(Ack) -> Packet, id: PacketId, reason: ReasonCode, out: &mut Vec<u8>) {
        // An acknowledgement without properties has no field that could be too long.
        let _ = encode(&packet(Ack::new(id, reason)), self.options.version, out);
    }
}

const fn found(known: bool) -> ReasonCode {
    if known { ReasonCode::SUCCESS } else { ReasonCode::PACKET_IDENTIFIER_NOT_FOUND }
}

const fn protocol(kind: PacketKind, what: &'static str) -> DecodeError {
    DecodeError::Protocol { packet: kind.name(), what }
}
