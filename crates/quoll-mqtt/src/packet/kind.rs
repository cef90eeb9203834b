//! The kinds of packet, and what their first byte must look like (§2.1.2, §2.1.3).

use crate::ProtocolVersion;

/// Which packet it is: the upper four bits of the first byte (§2.1.2).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum PacketKind {
    /// CONNECT.
    Connect = 1,
    /// CONNACK.
    ConnAck = 2,
    /// PUBLISH.
    Publish = 3,
    /// PUBACK.
    PubAck = 4,
    /// PUBREC.
    PubRec = 5,
    /// PUBREL.
    PubRel = 6,
    /// PUBCOMP.
    PubComp = 7,
    /// SUBSCRIBE.
    Subscribe = 8,
    /// SUBACK.
    SubAck = 9,
    /// UNSUBSCRIBE.
    Unsubscribe = 10,
    /// UNSUBACK.
    UnsubAck = 11,
    /// PINGREQ.
    PingReq = 12,
    /// PINGRESP.
    PingResp = 13,
    /// DISCONNECT.
    Disconnect = 14,
    /// AUTH, which below 5.0 is reserved.
    Auth = 15,
}

impl PacketKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::Connect,
        Self::ConnAck,
        Self::Publish,
        Self::PubAck,
        Self::PubRec,
        Self::PubRel,
        Self::PubComp,
        Self::Subscribe,
        Self::SubAck,
        Self::Unsubscribe,
        Self::UnsubAck,
        Self::PingReq,
        Self::PingResp,
        Self::Disconnect,
        Self::Auth,
    ];

    /// The kind that a first byte says; `None` for 0, which is forbidden.
    #[must_use]
    pub const fn of_first_byte(byte: u8) -> Option<Self> {
        match byte >> 4 {
            0 => None,
            number => Some(Self::ALL[number as usize - 1]),
        }
    }

    /// The standard's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::PubAck => "PUBACK",
            Self::PubRec => "PUBREC",
            Self::PubRel => "PUBREL",
            Self::PubComp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::UnsubAck => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        }
    }

    /// The first byte, for a kind other than PUBLISH, whose flags vary: the number and the fixed flags (§2.1.3).
    #[must_use]
    pub const fn first_byte(self) -> u8 {
        ((self as u8) << 4) | self.fixed_flags()
    }

    const fn fixed_flags(self) -> u8 {
        match self {
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        }
    }

    /// Whether the lower four bits are allowed [MQTT-2.1.3-1]. PUBLISH's have meanings, and QoS 3 [MQTT-3.3.1-4] and a
    /// repeated QoS 0 [MQTT-3.3.1-2] are none. 3.1 had "not used" in place of "reserved", and retries of PUBREL and
    /// SUBSCRIBE with DUP set: there flags are ignored, as Mosquitto does; CONNECT's, before the version is known, are looked
    /// at when it is, but for QoS 3, by which the first byte of TLS is told apart.
    pub(crate) const fn allows_flags(self, flags: u8, version: Option<ProtocolVersion>) -> bool {
        match (self, version) {
            (Self::Publish, _) => flags & 0b0110 != 0b0110 && flags & 0b1110 != 0b1000,
            (_, Some(ProtocolVersion::V31)) => true,
            (Self::Connect, None) => flags & 0b0110 != 0b0110,
            _ => flags == self.fixed_flags(),
        }
    }

    /// Whether a client may send it in this version (§2.1.2).
    pub(crate) const fn is_sent_by_client(self, version: ProtocolVersion) -> bool {
        match self {
            Self::ConnAck | Self::SubAck | Self::UnsubAck | Self::PingResp => false,
            Self::Auth => matches!(version, ProtocolVersion::V5),
            _ => true,
        }
    }

    /// Whether a server may send it in this version (§2.1.2). Below 5.0 it sends no DISCONNECT.
    pub(crate) const fn is_sent_by_server(self, version: ProtocolVersion) -> bool {
        match self {
            Self::Connect | Self::Subscribe | Self::Unsubscribe | Self::PingReq => false,
            Self::Disconnect | Self::Auth => matches!(version, ProtocolVersion::V5),
            _ => true,
        }
    }
}
