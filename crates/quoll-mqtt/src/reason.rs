//! Reason codes (MQTT 5.0 §2.4), and what of them a 3.x peer is told.

use std::fmt;

use crate::packet::PacketKind;

/// A reason code of MQTT 5.0 §2.4: below 0x80 success, from 0x80 on failure.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ReasonCode(pub u8);

macro_rules! reasons {
    ($($code:literal $name:ident $text:literal;)*) => {
        impl ReasonCode {
            $(#[doc = $text] pub const $name: Self = Self($code);)*

            /// The standard's name, or `None` for a number that the standard does not use. 0x00 is named
            /// "Success" whatever the packet.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 { $($code => Some($text),)* _ => None }
            }
        }
    };
}

reasons! {
    0x00 SUCCESS "Success";
    0x01 GRANTED_QOS_1 "Granted QoS 1";
    0x02 GRANTED_QOS_2 "Granted QoS 2";
    0x04 DISCONNECT_WITH_WILL "Disconnect with Will Message";
    0x10 NO_MATCHING_SUBSCRIBERS "No matching subscribers";
    0x11 NO_SUBSCRIPTION_EXISTED "No subscription existed";
    0x18 CONTINUE_AUTHENTICATION "Continue authentication";
    0x19 REAUTHENTICATE "Re-authenticate";
    0x80 UNSPECIFIED_ERROR "Unspecified error";
    0x81 MALFORMED_PACKET "Malformed Packet";
    0x82 PROTOCOL_ERROR "Protocol Error";
    0x83 IMPLEMENTATION_SPECIFIC_ERROR "Implementation specific error";
    0x84 UNSUPPORTED_PROTOCOL_VERSION "Unsupported Protocol Version";
    0x85 CLIENT_IDENTIFIER_NOT_VALID "Client Identifier not valid";
    0x86 BAD_USER_NAME_OR_PASSWORD "Bad User Name or Password";
    0x87 NOT_AUTHORIZED "Not authorized";
    0x88 SERVER_UNAVAILABLE "Server unavailable";
    0x89 SERVER_BUSY "Server busy";
    0x8A BANNED "Banned";
    0x8B SERVER_SHUTTING_DOWN "Server shutting down";
    0x8C BAD_AUTHENTICATION_METHOD "Bad authentication method";
    0x8D KEEP_ALIVE_TIMEOUT "Keep Alive timeout";
    0x8E SESSION_TAKEN_OVER "Session taken over";
    0x8F TOPIC_FILTER_INVALID "Topic Filter invalid";
    0x90 TOPIC_NAME_INVALID "Topic Name invalid";
    0x91 PACKET_IDENTIFIER_IN_USE "Packet identifier in use";
    0x92 PACKET_IDENTIFIER_NOT_FOUND "Packet Identifier not found";
    0x93 RECEIVE_MAXIMUM_EXCEEDED "Receive Maximum exceeded";
    0x94 TOPIC_ALIAS_INVALID "Topic Alias invalid";
    0x95 PACKET_TOO_LARGE "Packet too large";
    0x96 MESSAGE_RATE_TOO_HIGH "Message rate too high";
    0x97 QUOTA_EXCEEDED "Quota exceeded";
    0x98 ADMINISTRATIVE_ACTION "Administrative action";
    0x99 PAYLOAD_FORMAT_INVALID "Payload format invalid";
    0x9A RETAIN_NOT_SUPPORTED "Retain not supported";
    0x9B QOS_NOT_SUPPORTED "QoS not supported";
    0x9C USE_ANOTHER_SERVER "Use another server";
    0x9D SERVER_MOVED "Server moved";
    0x9E SHARED_SUBSCRIPTIONS_NOT_SUPPORTED "Shared Subscriptions not supported";
    0x9F CONNECTION_RATE_EXCEEDED "Connection rate exceeded";
    0xA0 MAXIMUM_CONNECT_TIME "Maximum connect time";
    0xA1 SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED "Subscription Identifiers not supported";
    0xA2 WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED "Wildcard Subscriptions not supported";
}

impl ReasonCode {
    /// Whether it says that something failed: 0x80 and above.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        self.0 >= 0x80
    }

    /// The return code that a 3.x peer is told in CONNACK (3.1.1 §3.2.2.3): 0 accepted, 1 unacceptable protocol
    /// version, 2 identifier rejected, 3 server unavailable, 4 bad user name or password, 5 not authorized, which also
    /// stands for every failure that 3.x has no number for.
    #[must_use]
    pub const fn connect_return_code(self) -> u8 {
        match self {
            Self(..0x80) => 0,
            Self::UNSUPPORTED_PROTOCOL_VERSION => 1,
            Self::CLIENT_IDENTIFIER_NOT_VALID => 2,
            Self::SERVER_UNAVAILABLE | Self::SERVER_BUSY => 3,
            Self::BAD_USER_NAME_OR_PASSWORD => 4,
            _ => 5,
        }
    }

    /// The reason that a CONNACK return code of 3.x stands for; `None` for 6 and above, which are reserved.
    #[must_use]
    pub const fn from_connect_return_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::SUCCESS,
            1 => Self::UNSUPPORTED_PROTOCOL_VERSION,
            2 => Self::CLIENT_IDENTIFIER_NOT_VALID,
            3 => Self::SERVER_UNAVAILABLE,
            4 => Self::BAD_USER_NAME_OR_PASSWORD,
            5 => Self::NOT_AUTHORIZED,
            _ => return None,
        })
    }

    /// The byte that a 3.x peer is told in SUBACK (3.1.1 §3.9.3): the granted level, or 0x80 for any failure. 3.1 knew no
    /// failure; its peers are told 0x80 too, as by Mosquitto.
    #[must_use]
    pub const fn suback_return_code(self) -> u8 {
        match self {
            Self(level @ 0..=2) => level,
            _ => 0x80,
        }
    }

    /// Whether this packet may carry the code in 5.0 (§2.4, table 2-6). DISCONNECT's is not told apart by side:
    /// the connection ends with it either way. Packets without reason codes carry none.
    #[must_use]
    pub const fn is_allowed_in(self, packet: PacketKind) -> bool {
        match packet {
            PacketKind::ConnAck => {
                matches!(self.0, 0x00 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F)
            }
            // 0x95 is not among those of §3.4.2.1; Mosquitto has it there for a payload over `message_size_limit`, its
            // clients read it, and a bridge that took it for an error would meet it again after each reconnection.
            PacketKind::PubAck | PacketKind::PubRec => {
                matches!(self.0, 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x95 | 0x97 | 0x99)
            }
            PacketKind::PubRel | PacketKind::PubComp => matches!(self.0, 0x00 | 0x92),
            PacketKind::SubAck => {
                matches!(self.0, 0x00..=0x02 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2)
            }
            PacketKind::UnsubAck => matches!(self.0, 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91),
            PacketKind::Disconnect => matches!(
                self.0,
                0x00 | 0x04 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B | 0x8D..=0x90 | 0x93..=0xA2
            ),
            PacketKind::Auth => matches!(self.0, 0x00 | 0x18 | 0x19),
            _ => false,
        }
    }
}

impl fmt::Debug for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x} {}", self.0, self.name().unwrap_or("unknown"))
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "reason {:#04x}", self.0),
        }
    }
}
