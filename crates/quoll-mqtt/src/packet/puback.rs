//! PUBACK, PUBREC, PUBREL and PUBCOMP: one shape (§3.4 to §3.7).

use super::UserProperty;
use crate::{PacketId, ReasonCode};

/// The body of PUBACK, PUBREC, PUBREL and PUBCOMP.
#[derive(Clone, Debug, PartialEq)]
pub struct Ack {
    /// Which PUBLISH it is about.
    pub packet_id: PacketId,
    /// The reason; does not travel to a 3.x peer.
    pub reason: ReasonCode,
    /// Properties; `None` below 5.0 and where there are none.
    pub properties: Option<Box<AckProperties>>,
}

impl Ack {
    /// An acknowledgement without properties.
    #[must_use]
    pub const fn new(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self { packet_id, reason, properties: None }
    }
}

/// Properties of the four acknowledgements, of SUBACK and of UNSUBACK.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AckProperties {
    /// Reason String.
    pub reason_string: Option<String>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
}
