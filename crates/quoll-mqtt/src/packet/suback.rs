//! SUBACK and UNSUBACK (§3.9, §3.11).

use super::AckProperties;
use crate::{PacketId, ReasonCode};

/// SUBACK (§3.9).
#[derive(Clone, Debug, PartialEq)]
pub struct SubAck {
    /// Packet identifier of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// One reason for each subscription, in order; the granted level where it was accepted. To a 3.x peer a
    /// failure is 0x80.
    pub reasons: Vec<ReasonCode>,
    /// Properties; empty below 5.0.
    pub properties: AckProperties,
}

/// UNSUBACK (§3.11). Below 5.0 it carries no reasons.
#[derive(Clone, Debug, PartialEq)]
pub struct UnsubAck {
    /// Packet identifier of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// One reason for each filter, in order.
    pub reasons: Vec<ReasonCode>,
    /// Properties; empty below 5.0.
    pub properties: AckProperties,
}
