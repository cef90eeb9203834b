//! UNSUBSCRIBE (§3.10).

use super::UserProperty;
use crate::{PacketId, TopicFilter};

/// UNSUBSCRIBE (§3.10).
#[derive(Clone, Debug, PartialEq)]
pub struct Unsubscribe {
    /// Packet identifier.
    pub packet_id: PacketId,
    /// At least one filter [MQTT-3.10.3-2].
    pub filters: Vec<TopicFilter>,
    /// User properties; empty below 5.0.
    pub user_properties: Vec<UserProperty>,
}
