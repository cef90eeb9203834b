//! PUBLISH: a message on its way (§3.3).

use std::num::NonZeroU16;

use bytes::Bytes;

use super::UserProperty;
use crate::{Delivery, TopicName};

/// PUBLISH (§3.3).
#[derive(Clone, Debug, PartialEq)]
pub struct Publish {
    /// DUP: sent before, perhaps.
    pub dup: bool,
    /// RETAIN.
    pub retain: bool,
    /// Level and packet identifier.
    pub delivery: Delivery,
    /// Topic; absent where a 5.0 peer sends a topic alias in its place (§3.3.2.3.4).
    pub topic: Option<TopicName>,
    /// Payload.
    pub payload: Bytes,
    /// Properties; `None` below 5.0 and where there are none.
    pub properties: Option<Box<PublishProperties>>,
}

/// Properties of PUBLISH (§3.3.2.3).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PublishProperties {
    /// Payload Format Indicator: true for UTF-8.
    pub payload_format_indicator: Option<bool>,
    /// Message Expiry Interval in seconds.
    pub message_expiry_interval: Option<u32>,
    /// Topic Alias, never 0.
    pub topic_alias: Option<NonZeroU16>,
    /// Response Topic.
    pub response_topic: Option<TopicName>,
    /// Correlation Data.
    pub correlation_data: Option<Bytes>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
    /// Subscription Identifiers, 1 to 268,435,455; only a server sends them.
    pub subscription_identifiers: Vec<u32>,
    /// Content Type.
    pub content_type: Option<String>,
}
