//! What can be wrong with bytes from a peer, and with a packet of our own.

use thiserror::Error;

use crate::ReasonCode;

/// Why bytes are not a packet. The peer's fault, always.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum DecodeError {
    /// A packet larger than this connection allows (§3.1.2.11.4, §3.2.2.3.6).
    #[error("packet of {found} bytes, this connection allows {allowed}")]
    TooLarge {
        /// Bytes of the whole packet.
        found: u32,
        /// Bytes allowed.
        allowed: u32,
    },
    /// Bytes that break the form of a packet: reason 0x81.
    #[error("malformed {packet}: {what}")]
    Malformed {
        /// The packet's name.
        packet: &'static str,
        /// What is wrong, with the clause.
        what: &'static str,
    },
    /// Well formed, yet against the protocol: reason 0x82.
    #[error("protocol error in {packet}: {what}")]
    Protocol {
        /// The packet's name.
        packet: &'static str,
        /// What is wrong, with the clause.
        what: &'static str,
    },
    /// CONNECT of a version that we do not speak: reason 0x84 (§3.1.2.2).
    #[error("unsupported protocol version {level}")]
    UnsupportedVersion {
        /// The protocol level.
        level: u8,
    },
    /// PUBLISH with a topic alias that is 0 or over the maximum [MQTT-3.3.2-8] [MQTT-3.3.2-9]: reason 0x94.
    #[error("topic alias {alias} in PUBLISH, {maximum} allowed [MQTT-3.3.2-8]")]
    TopicAlias {
        /// The alias.
        alias: u16,
        /// The receiver's Topic Alias Maximum; 65,535 where only 0 is wrong.
        maximum: u16,
    },
    /// CONNECT whose client identifier this version does not allow: 3.1's limit, 3.1.1's rule for empty ones.
    #[error("client identifier not valid: {what}")]
    ClientIdentifier {
        /// What is wrong, with the clause.
        what: &'static str,
    },
}

impl DecodeError {
    /// The reason code that a 5.0 peer is told (§4.13).
    #[must_use]
    pub const fn reason(&self) -> ReasonCode {
        match self {
            Self::TooLarge { .. } => ReasonCode::PACKET_TOO_LARGE,
            Self::Malformed { .. } => ReasonCode::MALFORMED_PACKET,
            Self::Protocol { .. } => ReasonCode::PROTOCOL_ERROR,
            Self::TopicAlias { .. } => ReasonCode::TOPIC_ALIAS_INVALID,
            Self::UnsupportedVersion { .. } => ReasonCode::UNSUPPORTED_PROTOCOL_VERSION,
            Self::ClientIdentifier { .. } => ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
        }
    }
}

/// Why a packet cannot be written.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum EncodeError {
    /// Larger than [`crate::limits::MAX_REMAINING_LENGTH`], or than the peer said it takes.
    #[error("packet of {found} bytes, {allowed} allowed")]
    TooLarge {
        /// Bytes it would have.
        found: usize,
        /// Bytes allowed.
        allowed: usize,
    },
    /// A field longer than its two-byte length can say.
    #[error("{field} of {found} bytes, 65,535 allowed")]
    FieldTooLong {
        /// The field.
        field: &'static str,
        /// Its bytes.
        found: usize,
    },
    /// A value that the field must not have.
    #[error("{field}: {what}")]
    Value {
        /// The field.
        field: &'static str,
        /// What is wrong, with the clause.
        what: &'static str,
    },
    /// A packet that this version does not know, or that nobody may send in it.
    #[error("{packet} is not sent in this version of MQTT")]
    NotInVersion {
        /// The packet's name.
        packet: &'static str,
    },
}
