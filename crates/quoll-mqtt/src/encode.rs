//! Encoding: a packet appended to a buffer; and, for a broker's outgoing PUBLISH, its bytes without a packet.

use crate::limits::MAX_REMAINING_LENGTH;
use crate::packet::{PacketKind, PublishProperties};
use crate::property::PropertySet;
use crate::writer::{self, remaining_length};
use crate::{EncodeError, Packet, PacketId, ProtocolVersion, QoS, integer};

/// Appends `packet` in `version`'s form to `out`. On an error `out` is as it was.
///
/// CONNECT is written in the version that it carries, whatever `version` says. What a version does not have (properties
/// and most reasons below 5.0) is left out.
///
/// # Errors
/// Where a field or the packet is too long, where a field has a value that it must not have, or where `version` has no
/// such packet.
pub fn encode(packet: &Packet, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match packet {
        Packet::Publish(publish) => publish.write(version, out),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            ack.write(packet.kind(), version, out)
        }
        Packet::Connect(connect) => connect.write(out),
        Packet::ConnAck(connack) => connack.write(version, out),
        Packet::Subscribe(subscribe) => subscribe.write(version, out),
        Packet::SubAck(suback) => suback.write(version, out),
        Packet::Unsubscribe(unsubscribe) => unsubscribe.write(version, out),
        Packet::UnsubAck(unsuback) => unsuback.write(version, out),
        Packet::Disconnect(disconnect) => disconnect.write(version, out),
        Packet::Auth(auth) => auth.write(version, out),
        Packet::PingReq | Packet::PingResp => {
            out.extend_from_slice(&[packet.kind().first_byte(), 0]);
            Ok(())
        }
    }
}

/// The flags of PUBLISH's first byte (§3.3.1): DUP, QoS, RETAIN.
#[must_use]
pub const fn publish_flags(dup: bool, qos: QoS, retain: bool) -> u8 {
    (dup as u8) << 3 | (qos as u8) << 1 | retain as u8
}

/// The bytes of the PUBLISH that [`publish_frame`] would write, fixed header included: what a peer's Maximum Packet
/// Size limits (§3.1.2.11.4). `with_id`: whether it is of QoS 1 or 2.
#[must_use]
pub fn publish_size(
    topic: &str,
    payload: &[u8],
    properties: Option<&PublishProperties>,
    version: ProtocolVersion,
    with_id: bool,
) -> usize {
    let body = publish_body_size(topic, payload.len(), properties, version, with_id);
    header_size(body) + body
}

/// Appends a PUBLISH, without a [`Packet`] being built. `flags` are of [`publish_flags`]; `packet_id` stands with QoS 1
/// and 2 and only there [MQTT-2.2.1-2]. On an error `out` is as it was.
///
/// # Errors
/// Where topic, a property or the packet is too long; where the topic is empty and no topic alias stands for it
/// (§3.3.2.1); where `flags` and `packet_id` do not fit.
pub fn publish_frame(
    topic: &str,
    payload: &[u8],
    properties: Option<&PublishProperties>,
    version: ProtocolVersion,
    flags: u8,
    packet_id: Option<PacketId>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    // Fixed header, lengths and identifier; properties are rare and find room by themselves.
    out.reserve(10 + topic.len() + payload.len());
    publish_head(topic, payload.len(), properties, version, flags, packet_id, out)?;
    out.extend_from_slice(payload);
    Ok(())
}

/// Appends what stands before the payload in the PUBLISH that [`publish_frame`] would write, for a caller that writes a large
/// payload without copying it. On an error `out` is as it was.
///
/// # Errors
/// As [`publish_frame`].
pub fn publish_head(
    topic: &str,
    payload_length: usize,
    properties: Option<&PublishProperties>,
    version: ProtocolVersion,
    flags: u8,
    packet_id: Option<PacketId>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    check_publish(topic, properties, version, flags, packet_id)?;
    let start = out.len();
    let body = publish_body_size(topic, payload_length, properties, version, packet_id.is_some());
    let remaining = remaining_length(body)?;
    out.push((PacketKind::Publish as u8) << 4 | flags);
    integer::write(remaining, out);
    let written = writer::text("Topic Name", topic, out).and_then(|()| {
        if let Some(id) = packet_id {
            writer::u16(id.get(), out);
        }
        match (version, properties) {
            (ProtocolVersion::V5, Some(properties)) => properties.write(out),
            (ProtocolVersion::V5, None) => {
                out.push(0);
                Ok(())
            }
            _ => Ok(()),
        }
    });
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn check_publish(
    topic: &str,
    properties: Option<&PublishProperties>,
    version: ProtocolVersion,
    flags: u8,
    packet_id: Option<PacketId>,
) -> Result<(), EncodeError> {
    let has_alias = version == ProtocolVersion::V5 && properties.is_some_and(|it| it.topic_alias.is_some());
    if topic.is_empty() && !has_alias {
        return Err(EncodeError::Value {
            field: "Topic Name", what: "empty without topic alias (§3.3.2.1)"
        });
    }
    if !PacketKind::Publish.allows_flags(flags, Some(version)) || flags > 0x0F {
        return Err(EncodeError::Value { field: "flags", what: "QoS 3, or DUP with QoS 0 (§3.3.1)" });
    }
    if (flags & 0b0110 != 0) != packet_id.is_some() {
        return Err(EncodeError::Value {
            field: "Packet Identifier",
            what: "with QoS 1 and 2 only [MQTT-2.2.1-2]",
        });
    }
    Ok(())
}

fn publish_body_size(
    topic: &str,
    payload_length: usize,
    properties: Option<&PublishProperties>,
    version: ProtocolVersion,
    with_id: bool,
) -> usize {
    2 + topic.len() + if with_id { 2 } else { 0 } + property_size(properties, version) + payload_length
}

/// Bytes of the properties with their length in front; none below 5.0.
fn property_size(properties: Option<&PublishProperties>, version: ProtocolVersion) -> usize {
    match (version, properties) {
        (ProtocolVersion::V5, Some(properties)) => {
            let size = properties.size();
            integer::size(u32::try_from(size).unwrap_or(u32::MAX)) + size
        }
        (ProtocolVersion::V5, None) => 1,
        _ => 0,
    }
}

/// Bytes of the fixed header before a body of this size.
fn header_size(body: usize) -> usize {
    1 + integer::size(u32::try_from(body).unwrap_or(u32::MAX))
}

/// A PUBLISH of QoS 0, encoded once for all subscribers of one version, and copied with a packet identifier in between
/// for those of QoS 1 and 2.
///
/// ```text
///  30 | remaining length | topic length, topic |      ·      | properties, payload
///  fixed header            head                packet id here   tail
/// ```
/// Fits where all subscribers are told the same properties; a subscription identifier or a topic alias needs
/// [`publish_frame`].
#[derive(Clone, Debug)]
pub struct SharedFrame {
    /// The frame of QoS 0, not retained.
    bytes: Box<[u8]>,
    /// Bytes of the fixed header, 2 to 5.
    header: u8,
    /// Where a packet identifier would stand.
    packet_id_at: u32,
}

impl SharedFrame {
    /// Encodes the frame.
    ///
    /// # Errors
    /// As [`publish_frame`]; also where the two bytes of a packet identifier would make it too large.
    pub fn new(
        topic: &str,
        payload: &[u8],
        properties: Option<&PublishProperties>,
        version: ProtocolVersion,
    ) -> Result<Self, EncodeError> {
        let body = publish_body_size(topic, payload.len(), properties, version, false);
        remaining_length(body.saturating_add(2))?;
        let header = header_size(body);
        let mut bytes = Vec::with_capacity(header + body);
        publish_frame(topic, payload, properties, version, 0, None, &mut bytes)?;
        let packet_id_at = header + 2 + topic.len();
        debug_assert!(packet_id_at <= bytes.len() && bytes.len() <= MAX_REMAINING_LENGTH as usize + 5);
        Ok(Self { bytes: bytes.into(), header: header as u8, packet_id_at: packet_id_at as u32 })
    }

    /// Bytes of the frame with a packet identifier (`with_id`) or without.
    #[must_use]
    pub fn size(&self, with_id: bool) -> usize {
        if !with_id {
            return self.bytes.len();
        }
        let body = self.body() + 2;
        header_size(body) + body
    }

    /// Appends the frame of QoS 0.
    pub fn append_qos0(&self, retain: bool, out: &mut Vec<u8>) {
        let first = out.len();
        out.extend_from_slice(&self.bytes);
        out[first] |= u8::from(retain);
    }

    /// Appends the frame of QoS 1 or 2. `qos` 0 is written as 1: a packet identifier has no place there.
    pub fn append_with_id(&self, dup: bool, qos: QoS, retain: bool, id: PacketId, out: &mut Vec<u8>) {
        let (head, tail) = self.bytes.split_at(self.packet_id_at as usize);
        out.reserve(self.size(true));
        out.push((PacketKind::Publish as u8) << 4 | publish_flags(dup, qos.max(QoS::AtLeastOnce), retain));
        integer::write(self.body() as u32 + 2, out);
        out.extend_from_slice(&head[usize::from(self.header)..]);
        writer::u16(id.get(), out);
        out.extend_from_slice(tail);
    }

    fn body(&self) -> usize {
        self.bytes.len() - usize::from(self.header)
    }
}
