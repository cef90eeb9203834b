//! Decoding: bytes in, one packet out.

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
/// Where the bytes break the standard; the connection must then be closed (§4.13).
pub fn decode(input: &[u8], context: &DecodeContext) -> Result<Decoded, DecodeError> {
    let _ = (input, context);
    Ok(Decoded::Incomplete(None))
}
