//! What the rules want done, carried out in order: frames into out buffers, letters, facts, farewells.

use std::sync::Arc;

use quoll_broker::Message;
use quoll_broker::vocabulary::{ConnId, Effect, Farewell, Input, Letter, Outbox, Outgoing};
use quoll_mqtt::encode::{publish_flags, publish_head};
use quoll_mqtt::packet::{ConnAck, ConnAckProperties, Disconnect, DisconnectProperties, Packet, Publish};
use quoll_mqtt::{Delivery, EncodeError, ProtocolVersion, TopicName, encode};
use tokio::sync::mpsc::error::TrySendError;

use super::ShardThread;
use crate::connection::{Line, Phase};
use crate::limits::{FLUSH_EARLY, SHARE_FROM};
use crate::out::Out;

/// Deliveries of one message that make a shared frame worth its allocation.
const WORTH_SHARING: usize = 4;

impl ShardThread {
    pub(super) fn carry_out(&mut self, outbox: &mut Outbox) {
        for effect in outbox.drain(..) {
            match effect {
                Effect::Deliver(conn, outgoing) => self.deliver(conn, &outgoing),
                Effect::Send(conn, packet) => self.send(conn, &packet),
                Effect::Route(message) => self.route(message),
                Effect::Mail(shard, letter) => {
                    if shard == self.id {
                        self.input(Input::Letter(letter));
                    } else {
                        self.send_letter(shard, letter);
                    }
                }
                Effect::Keep(change) => {
                    if !self.common.immediate {
                        self.keep(change);
                    }
                }
                Effect::Control(conn, message) => self.hand_in(conn, message),
                Effect::Close(conn, farewell) => self.close(conn, &farewell),
                Effect::Tell(event) => self.tell(event),
            }
        }
    }

    /// Brings a message to all shards that may want it: the others by mail, this one in place, so that facts about its
    /// sessions stand before the acknowledgement that promises them.
    fn route(&mut self, message: Arc<Message>) {
        let wanted = self.shard.shards_for(message.topic.as_str());
        for shard in wanted.without(self.id).iter() {
            self.send_letter(shard, Letter::Message(Arc::clone(&message)));
        }
        if wanted.contains(self.id) {
            self.input(Input::Letter(Letter::Message(message)));
        }
    }

    /// The out buffer, for one packet, of a connection that may still be written to, with its place in the turn's lists.
    /// `None` where it is gone, and for a local one. What stands behind a fact waits for it only if it promises it.
    pub(super) fn out(&mut self, conn: ConnId, is_promise: bool) -> Option<(&mut Out, ProtocolVersion)> {
        let connection = self.table.get_mut(conn)?;
        if connection.phase != Phase::Open || matches!(connection.line, Line::Local(_)) {
            return None;
        }
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(conn);
        }
        let out = connection.out.get_or_insert_with(|| self.pool.take());
        if (self.behind_fact || self.behind_will) && is_promise {
            out.gate(!self.behind_fact);
            if self.gated.last() != Some(&conn) {
                self.gated.push(conn);
            }
        }
        out.count();
        Some((out, connection.version))
    }

    fn send(&mut self, conn: ConnId, packet: &Packet) {
        if let Packet::ConnAck(answer) = packet
            && let Some(answer) = self.answer_at_edge(conn, answer)
        {
            return self.send_now(conn, &Packet::ConnAck(Box::new(answer)));
        }
        self.send_now(conn, packet);
    }

    pub(super) fn send_now(&mut self, conn: ConnId, packet: &Packet) {
        if self.verbose {
            self.say_sent(conn, packet);
        }
        let Some((out, version)) = self.out(conn, true) else { return };
        let encoded = encode(packet, version, out.bytes());
        self.packets_out += 1;
        if let Err(error) = encoded {
            self.cannot_encode(conn, &error);
        }
    }

    fn deliver(&mut self, conn: ConnId, outgoing: &Outgoing) {
        // A message at QoS 1 may come twice, so its receiver may have it before the disk has; and where it acknowledges
        // soon enough, the disk never needs to.
        let once = matches!(outgoing.delivery, Delivery::ExactlyOnce(_));
        if self.verbose {
            self.say_delivered(conn, outgoing);
        }
        if self.has_mounts && self.is_mounted(conn) {
            return self.deliver_unmounted(conn, outgoing, once);
        }
        self.packets_out += 1;
        let Some((out, version)) = self.out(conn, once) else {
            return self.deliver_locally(conn, outgoing);
        };
        match put(outgoing, version, out) {
            Ok(()) => {
                let waiting = out.waiting();
                if waiting >= FLUSH_EARLY {
                    self.is_brimming(conn, waiting);
                }
            }
            Err(error) => self.cannot_encode(conn, &error),
        }
    }

    /// One message may be for a hundred thousand subscriptions of one client: what is too much for it is too much at once, not
    /// only at the end of the turn.
    #[cold]
    fn is_brimming(&mut self, conn: ConnId, waiting: usize) {
        if waiting > self.common.limits.max_waiting {
            return self.flush_early(conn);
        }
        if self.brimming.last() != Some(&conn) {
            self.brimming.push(conn);
        }
    }

    fn deliver_locally(&mut self, conn: ConnId, outgoing: &Outgoing) {
        let Some(connection) = self.table.get_mut(conn) else { return };
        let Line::Local(messages) = &connection.line else { return };
        if let Err(TrySendError::Closed(_)) = messages.try_send(Arc::clone(&outgoing.message)) {
            // Its receiver is gone; the rules hear of it at the end of the turn.
            self.deserted.push(conn);
        }
    }

    /// The rules made a packet that no frame can hold: a bug of ours, but the peer must not wait for it.
    pub(super) fn cannot_encode(&self, conn: ConnId, error: &EncodeError) {
        tracing::error!(shard = self.id.0, conn = conn.index, %error, "a packet of our own cannot be written");
    }

    /// Writes the last words behind what waits and lets the connection go when all is written.
    pub(super) fn close(&mut self, conn: ConnId, farewell: &Farewell) {
        let Some(connection) = self.table.get_mut(conn) else { return };
        if connection.phase != Phase::Open {
            return;
        }
        self.closed_by_order += 1;
        let words = match (farewell, connection.version) {
            (Farewell::Disconnect(reason), ProtocolVersion::V5) => {
                let properties = DisconnectProperties::default();
                Some(Packet::Disconnect(Box::new(Disconnect { reason: *reason, properties })))
            }
            (Farewell::Refuse(reason), _) => {
                let properties = ConnAckProperties::default();
                Some(Packet::ConnAck(Box::new(ConnAck {
                    session_present: false,
                    reason: *reason,
                    properties,
                })))
            }
            (Farewell::Silent | Farewell::Disconnect(_), _) => None,
        };
        if let Some(words) = &words {
            self.send(conn, words);
        }
        self.mark_dirty(conn);
        if let Some(connection) = self.table.get_mut(conn) {
            connection.phase = Phase::Closing { words: words.is_some() };
        }
    }

    /// Puts a connection on the list of those to write to.
    pub(super) fn mark_dirty(&mut self, conn: ConnId) {
        if let Some(connection) = self.table.get_mut(conn)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(conn);
        }
    }
}

/// Encodes one delivery into an out buffer. A large payload is pointed to; a small one is copied, for many out of one frame.
fn put(outgoing: &Outgoing, version: ProtocolVersion, out: &mut Out) -> Result<(), EncodeError> {
    let Outgoing { message, delivery, dup, retain, extras } = outgoing;
    let (flags, id) = (publish_flags(*dup, delivery.qos(), *retain), delivery.packet_id());
    let (topic, payload, properties) =
        (message.topic.as_str(), &message.payload, message.properties.as_deref());
    let is_dressed = extras.is_some() && version == ProtocolVersion::V5;
    let is_large = payload.len() >= SHARE_FROM;
    if !is_dressed && !is_large && Arc::strong_count(message) >= WORTH_SHARING {
        let frame = message.frame(version)?;
        match id {
            None => frame.append_qos0(*retain, out.bytes()),
            Some(id) => frame.append_with_id(*dup, delivery.qos(), *retain, id, out.bytes()),
        }
        return Ok(());
    }
    if is_dressed {
        let Publish { topic, properties, .. } = outgoing.publish(version);
        let topic = topic.as_ref().map_or("", TopicName::as_str);
        publish_head(topic, payload.len(), properties.as_deref(), version, flags, id, out.bytes())?;
    } else {
        publish_head(topic, payload.len(), properties, version, flags, id, out.bytes())?;
    }
    if is_large {
        out.share(payload.clone());
    } else {
        out.bytes().extend_from_slice(payload);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use bytes::Bytes;
    use quoll_broker::message::MessageParts;
    use quoll_mqtt::packet::PublishProperties;
    use quoll_mqtt::{PacketId, QoS};

    use super::*;
    use crate::out::SLICES;

    fn message(payload: usize, properties: Option<Box<PublishProperties>>) -> Arc<Message> {
        Arc::new(Message::new(MessageParts {
            number: 1,
            publisher: "p".into(),
            topic: TopicName::parse("tele/plug/SENSOR").unwrap(),
            payload: Bytes::from(vec![b'x'; payload]),
            qos: QoS::ExactlyOnce,
            retain: true,
            properties,
            expires: None,
        }))
    }

    #[test]
    fn shared_copied_and_pointed_to_frames_are_the_ones_that_encode_writes() {
        let id = PacketId::new(513).unwrap();
        let properties =
            PublishProperties { content_type: Some("text".into()), ..PublishProperties::default() };
        for payload in [0, 1, 100, 105, 120, 2047, 2048, 5000, 16_360, 16_384, 300_000] {
            for properties in [None, Some(Box::new(properties.clone()))] {
                for version in [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5] {
                    for delivery in
                        [Delivery::AtMostOnce, Delivery::AtLeastOnce(id), Delivery::ExactlyOnce(id)]
                    {
                        for (dup, retain, copies) in [(false, true, 0), (false, false, 9), (true, true, 9)] {
                            let dup = dup && delivery != Delivery::AtMostOnce;
                            let message = message(payload, properties.clone());
                            let _holders: Vec<_> = (0..copies).map(|_| Arc::clone(&message)).collect();
                            let outgoing = Outgoing { message, delivery, dup, retain, extras: None };
                            let mut expected = Vec::new();
                            encode(&Packet::Publish(outgoing.publish(version)), version, &mut expected)
                                .unwrap();
                            let mut out = Out::default();
                            put(&outgoing, version, &mut out).unwrap();
                            let mut slices = [IoSlice::new(&[]); SLICES];
                            let count = out.gather(&mut slices);
                            let written: Vec<u8> =
                                slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
                            assert!(
                                written == expected,
                                "{payload} bytes, {version:?}, {delivery:?}, {copies} copies"
                            );
                        }
                    }
                }
            }
        }
    }
}
