//! The packets of the standard, one file for each, one type for all versions (§3).

mod auth;
mod connack;
mod connect;
mod disconnect;
mod kind;
mod puback;
mod publish;
mod said_order;
mod suback;
mod subscribe;
mod unsubscribe;

use std::fmt;

pub use auth::{Auth, AuthProperties};
pub use connack::{ConnAck, ConnAckProperties};
pub use connect::{Connect, ConnectProperties, Will, WillProperties};
pub use disconnect::{Disconnect, DisconnectProperties};
pub use kind::PacketKind;
pub use puback::{Ack, AckProperties};
pub use publish::{Publish, PublishProperties};
pub use said_order::SaidOrder;
pub use suback::{SubAck, UnsubAck};
pub use subscribe::{RetainHandling, Subscribe, SubscribeProperties, Subscription, SubscriptionOptions};
pub use unsubscribe::Unsubscribe;

/// A name and a value that travel with a packet; names may repeat and their order is kept (§2.2.2.2, §3.3.2.3.7).
pub type UserProperty = (String, String);

/// A control packet.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet {
    /// CONNECT (§3.1).
    Connect(Box<Connect>),
    /// CONNACK (§3.2).
    ConnAck(Box<ConnAck>),
    /// PUBLISH (§3.3).
    Publish(Publish),
    /// PUBACK (§3.4).
    PubAck(Ack),
    /// PUBREC (§3.5).
    PubRec(Ack),
    /// PUBREL (§3.6).
    PubRel(Ack),
    /// PUBCOMP (§3.7).
    PubComp(Ack),
    /// SUBSCRIBE (§3.8).
    Subscribe(Box<Subscribe>),
    /// SUBACK (§3.9).
    SubAck(Box<SubAck>),
    /// UNSUBSCRIBE (§3.10).
    Unsubscribe(Box<Unsubscribe>),
    /// UNSUBACK (§3.11).
    UnsubAck(Box<UnsubAck>),
    /// PINGREQ (§3.12).
    PingReq,
    /// PINGRESP (§3.13).
    PingResp,
    /// DISCONNECT (§3.14).
    Disconnect(Box<Disconnect>),
    /// AUTH (§3.15), 5.0 alone.
    Auth(Box<Auth>),
}

impl Packet {
    /// Which packet it is.
    #[must_use]
    pub const fn kind(&self) -> PacketKind {
        match self {
            Self::Connect(_) => PacketKind::Connect,
            Self::ConnAck(_) => PacketKind::ConnAck,
            Self::Publish(_) => PacketKind::Publish,
            Self::PubAck(_) => PacketKind::PubAck,
            Self::PubRec(_) => PacketKind::PubRec,
            Self::PubRel(_) => PacketKind::PubRel,
            Self::PubComp(_) => PacketKind::PubComp,
            Self::Subscribe(_) => PacketKind::Subscribe,
            Self::SubAck(_) => PacketKind::SubAck,
            Self::Unsubscribe(_) => PacketKind::Unsubscribe,
            Self::UnsubAck(_) => PacketKind::UnsubAck,
            Self::PingReq => PacketKind::PingReq,
            Self::PingResp => PacketKind::PingResp,
            Self::Disconnect(_) => PacketKind::Disconnect,
            Self::Auth(_) => PacketKind::Auth,
        }
    }
}

/// Stands in `Debug` for a secret: says that it is there, and neither its bytes nor how many.
struct Hidden;

impl Hidden {
    const fn new(_: &[u8]) -> Self {
        Self
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hidden")
    }
}
