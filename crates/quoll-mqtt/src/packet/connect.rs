//! CONNECT: a client asks to be let in (§3.1).

use bytes::Bytes;

use super::UserProperty;
use crate::{ProtocolVersion, QoS, TopicName};

/// CONNECT (§3.1).
#[derive(Clone, Debug, PartialEq)]
pub struct Connect {
    /// The version that the protocol name and level ask for; all later packets of the connection are of it.
    pub version: ProtocolVersion,
    /// A bridge's mark: the top bit of the protocol level of 3.1 and 3.1.1, which mosquitto calls `try_private`.
    pub bridge: bool,
    /// Client identifier, empty where the broker is to choose one.
    pub client_id: String,
    /// Clean Start (5.0) or Clean Session (3.x).
    pub clean_start: bool,
    /// Keep alive in seconds, 0 for none.
    pub keep_alive: u16,
    /// The message to publish when the connection ends badly.
    pub will: Option<Will>,
    /// User name.
    pub username: Option<String>,
    /// Password: any bytes.
    pub password: Option<Bytes>,
    /// Properties, all-default below 5.0.
    pub properties: ConnectProperties,
}

/// Properties of CONNECT (§3.1.2.11).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectProperties {
    /// Session Expiry Interval in seconds; absent means 0.
    pub session_expiry_interval: Option<u32>,
    /// Receive Maximum; absent means 65,535; never 0.
    pub receive_maximum: Option<u16>,
    /// Maximum Packet Size in bytes; never 0.
    pub maximum_packet_size: Option<u32>,
    /// Topic Alias Maximum; absent means 0.
    pub topic_alias_maximum: Option<u16>,
    /// Request Response Information.
    pub request_response_information: Option<bool>,
    /// Request Problem Information; absent means true.
    pub request_problem_information: Option<bool>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
    /// Authentication Method.
    pub authentication_method: Option<String>,
    /// Authentication Data.
    pub authentication_data: Option<Bytes>,
}

/// A will message (§3.1.2.5).
#[derive(Clone, Debug, PartialEq)]
pub struct Will {
    /// Topic.
    pub topic: TopicName,
    /// Payload.
    pub payload: Bytes,
    /// Level.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// Properties, all-default below 5.0.
    pub properties: WillProperties,
}

/// Properties of a will (§3.1.3.2).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WillProperties {
    /// Will Delay Interval in seconds; absent means 0.
    pub will_delay_interval: Option<u32>,
    /// Payload Format Indicator: true for UTF-8.
    pub payload_format_indicator: Option<bool>,
    /// Message Expiry Interval in seconds.
    pub message_expiry_interval: Option<u32>,
    /// Content Type.
    pub content_type: Option<String>,
    /// Response Topic.
    pub response_topic: Option<TopicName>,
    /// Correlation Data.
    pub correlation_data: Option<Bytes>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
}
