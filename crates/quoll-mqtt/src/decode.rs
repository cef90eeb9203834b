//! Decoding: bytes in, one packet out.
//!
//! Works from the start of a buffer: a packet that is not complete yet costs nothing but a look at its first bytes,
//! and what those already forbid (kind, flags, size) is refused before the rest has arrived. Allocates only what a
//! complete packet holds, so never more than a small multiple of bytes that are really there.

use crate::integer::{self, VarInt};
use crate::packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, PacketKind, Publish, SubAck, Subscribe, UnsubAck, Unsubscribe,
};
use crate::reader::Reader;
use crate::{DecodeError, Packet, ProtocolVersion};

/// What a decoder has to know of its connection.
#[derive(Clone, Copy, Debug)]
pub struct DecodeContext {
    /// The version agreed in CONNECT; `None` before it, when only CONNECT can be read.
    pub version: Option<ProtocolVersion>,
    /// The largest packet accepted, in bytes with its fixed header.
    pub maximum_packet_size: u32,
    /// Which side we are: a packet that only the other side may send is a protocol error.
    pub role: Role,
}

/// Which side of a connection decodes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// A server, reading what a client sent.
    Server,
    /// A client, reading what a server sent.
    Client,
}

/// What was found at the start of the bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// A packet, and how many bytes it took.
    Packet(Packet, usize),
    /// Not enough bytes yet; the packet's whole length where its fixed header is there.
    Incomplete(Option<usize>),
}

/// Reads one packet from the start of `input`.
///
/// # Errors
/// Where the bytes break the standard; the connection must then be closed (§4.13). Kind, flags, side and size are
/// judged from the fixed header, before the body has arrived.
pub fn decode(input: &[u8], context: &DecodeContext) -> Result<Decoded, DecodeError> {
    let Some(header) = FixedHeader::read(input, context)? else { return Ok(Decoded::Incomplete(None)) };
    let total = header.total();
    let Some(body) = input.get(header.length..total) else { return Ok(Decoded::Incomplete(Some(total))) };
    let packet = read_body(&header, body, context)?;
    Ok(Decoded::Packet(packet, total))
}

/// The whole length of the packet at the start of `input`, or `None` while its fixed header is incomplete. For a reader
/// that collects a frame before it decodes.
///
/// # Errors
/// As [`decode`] has them for a fixed header.
pub fn frame_length(input: &[u8], context: &DecodeContext) -> Result<Option<usize>, DecodeError> {
    Ok(FixedHeader::read(input, context)?.map(|header| header.total()))
}

/// The fixed header (§2.1).
struct FixedHeader {
    kind: PacketKind,
    flags: u8,
    /// Its own bytes, 2 to 5.
    length: usize,
    remaining: usize,
    /// Whether the Remaining Length took no more bytes than needed.
    minimal: bool,
}

impl FixedHeader {
    fn read(input: &[u8], context: &DecodeContext) -> Result<Option<Self>, DecodeError> {
        let Some((&first, rest)) = input.split_first() else { return Ok(None) };
        let kind = check_first_byte(first, context)?;
        let (remaining, length, minimal) = match integer::read(rest) {
            VarInt::Value { value, length, minimal } => (value, 1 + length, minimal),
            VarInt::Incomplete => return Ok(None),
            VarInt::TooLong => {
                return Err(malformed(kind, "Remaining Length of more than four bytes (§1.5.5)"));
            }
        };
        if !minimal && context.version == Some(ProtocolVersion::V5) {
            return Err(malformed(kind, "Remaining Length longer than needed [MQTT-1.5.5-1]"));
        }
        let found = remaining + length as u32;
        if found > context.maximum_packet_size {
            return Err(DecodeError::TooLarge { found, allowed: context.maximum_packet_size });
        }
        Ok(Some(Self { kind, flags: first & 0x0F, length, remaining: remaining as usize, minimal }))
    }

    const fn total(&self) -> usize {
        self.length + self.remaining
    }
}

/// The kind, if this side may receive it now, with these flags.
fn check_first_byte(first: u8, context: &DecodeContext) -> Result<PacketKind, DecodeError> {
    // A type that must not be used is not a packet of wrong form; Mosquitto tells it apart alike.
    let reserved = DecodeError::Protocol { packet: "packet", what: "reserved packet type (§2.1.2)" };
    let kind = PacketKind::of_first_byte(first).ok_or_else(|| reserved.clone())?;
    match (context.version, context.role, kind) {
        (None, Role::Server, PacketKind::Connect) => {}
        (None, Role::Server, _) => return Err(protocol(kind, "not CONNECT comes first [MQTT-3.1.0-1]")),
        (None, Role::Client, _) => {
            return Err(protocol(kind, "nothing is sent before CONNECT [MQTT-3.1.0-1]"));
        }
        (Some(_), Role::Server, PacketKind::Connect) => {
            return Err(protocol(kind, "a second CONNECT [MQTT-3.1.0-2]"));
        }
        (Some(version), _, PacketKind::Auth) if version != ProtocolVersion::V5 => return Err(reserved),
        (Some(version), Role::Server, _) if !kind.is_sent_by_client(version) => {
            return Err(protocol(kind, "a client does not send it (§2.1.2)"));
        }
        (Some(version), Role::Client, _) if !kind.is_sent_by_server(version) => {
            return Err(protocol(kind, "a server does not send it (§2.1.2)"));
        }
        _ => {}
    }
    if !kind.allows_flags(first & 0x0F, context.version) {
        return Err(malformed(kind, flags_text(kind)));
    }
    Ok(kind)
}

const fn flags_text(kind: PacketKind) -> &'static str {
    match kind {
        PacketKind::Publish => "QoS 3 [MQTT-3.3.1-4], or DUP with QoS 0 [MQTT-3.3.1-2]",
        PacketKind::PubRel => "flags other than 0010 [MQTT-3.6.1-1]",
        PacketKind::Subscribe => "flags other than 0010 [MQTT-3.8.1-1]",
        PacketKind::Unsubscribe => "flags other than 0010 [MQTT-3.10.1-1]",
        _ => "reserved flags are set [MQTT-2.1.3-1]",
    }
}

fn read_body(header: &FixedHeader, body: &[u8], context: &DecodeContext) -> Result<Packet, DecodeError> {
    let mut reader = Reader::new(header.kind, body);
    let Some(version) = context.version else {
        let connect = Connect::read(&mut reader)?;
        // What 3.1 does not use may be anything: some of its clients ask for QoS 1 here.
        if header.flags != 0 && connect.version != ProtocolVersion::V31 {
            return Err(reader.malformed(flags_text(PacketKind::Connect)));
        }
        if connect.version == ProtocolVersion::V5 && !header.minimal {
            return Err(reader.malformed("Remaining Length longer than needed [MQTT-1.5.5-1]"));
        }
        reader.finish()?;
        return Ok(Packet::Connect(Box::new(connect)));
    };
    // PUBLISH first: it is most of the traffic, and has no end to check, since its payload takes the rest.
    if header.kind == PacketKind::Publish {
        return Publish::read(&mut reader, header.flags, version, context.role).map(Packet::Publish);
    }
    let packet = read_other(header.kind, &mut reader, version, context.role)?;
    reader.finish()?;
    Ok(packet)
}

/// All packets but CONNECT, which is read before there is a version, and PUBLISH.
fn read_other(
    kind: PacketKind,
    reader: &mut Reader<'_>,
    version: ProtocolVersion,
    role: Role,
) -> Result<Packet, DecodeError> {
    Ok(match kind {
        PacketKind::PubAck => Packet::PubAck(Ack::read(kind, reader, version)?),
        PacketKind::PubRec => Packet::PubRec(Ack::read(kind, reader, version)?),
        PacketKind::PubRel => Packet::PubRel(Ack::read(kind, reader, version)?),
        PacketKind::PubComp => Packet::PubComp(Ack::read(kind, reader, version)?),
        PacketKind::PingReq => Packet::PingReq,
        PacketKind::PingResp => Packet::PingResp,
        PacketKind::Subscribe => Packet::Subscribe(Box::new(Subscribe::read(reader, version)?)),
        PacketKind::SubAck => Packet::SubAck(Box::new(SubAck::read(reader, version)?)),
        PacketKind::Unsubscribe => Packet::Unsubscribe(Box::new(Unsubscribe::read(reader, version)?)),
        PacketKind::UnsubAck => Packet::UnsubAck(Box::new(UnsubAck::read(reader, version)?)),
        PacketKind::Disconnect => Packet::Disconnect(Box::new(Disconnect::read(reader, version, role)?)),
        PacketKind::ConnAck => Packet::ConnAck(Box::new(ConnAck::read(reader, version)?)),
        PacketKind::Auth => Packet::Auth(Box::new(Auth::read(reader, role)?)),
        PacketKind::Connect | PacketKind::Publish => {
            return Err(protocol(kind, "out of turn [MQTT-3.1.0-2]"));
        }
    })
}

const fn malformed(kind: PacketKind, what: &'static str) -> DecodeError {
    DecodeError::Malformed { packet: kind.name(), what }
}

const fn protocol(kind: PacketKind, what: &'static str) -> DecodeError {
    DecodeError::Protocol { packet: kind.name(), what }
}
