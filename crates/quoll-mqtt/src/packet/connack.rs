//! CONNACK: the answer to CONNECT (§3.2).

use bytes::Bytes;

use super::UserProperty;
use crate::{QoS, ReasonCode};

/// CONNACK (§3.2). To a 3.x peer only the session flag and the return code travel.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnAck {
    /// Whether the broker kept a session of this client.
    pub session_present: bool,
    /// The reason; a 3.x peer is told the nearest return code.
    pub reason: ReasonCode,
    /// Properties, empty below 5.0.
    pub properties: ConnAckProperties,
}

/// Properties of CONNACK (§3.2.2.3).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnAckProperties {
    /// Session Expiry Interval in seconds, where the server's differs from what was asked.
    pub session_expiry_interval: Option<u32>,
    /// Receive Maximum.
    pub receive_maximum: Option<u16>,
    /// Maximum QoS, 0 or 1; absent means 2.
    pub maximum_qos: Option<QoS>,
    /// Retain Available; absent means true.
    pub retain_available: Option<bool>,
    /// Maximum Packet Size in bytes.
    pub maximum_packet_size: Option<u32>,
    /// Assigned Client Identifier.
    pub assigned_client_identifier: Option<String>,
    /// Topic Alias Maximum.
    pub topic_alias_maximum: Option<u16>,
    /// Reason String.
    pub reason_string: Option<String>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
    /// Wildcard Subscription Available; absent means true.
    pub wildcard_subscription_available: Option<bool>,
    /// Subscription Identifiers Available; absent means true.
    pub subscription_identifiers_available: Option<bool>,
    /// Shared Subscription Available; absent means true.
    pub shared_subscription_available: Option<bool>,
    /// Server Keep Alive in seconds.
    pub server_keep_alive: Option<u16>,
    /// Response Information.
    pub response_information: Option<String>,
    /// Server Reference.
    pub server_reference: Option<String>,
    /// Authentication Method.
    pub authentication_method: Option<String>,
    /// Authentication Data.
    pub authentication_data: Option<Bytes>,
}
