//! SUBSCRIBE (§3.8).

use super::UserProperty;
use crate::{PacketId, QoS, TopicFilter};

/// SUBSCRIBE (§3.8).
#[derive(Clone, Debug, PartialEq)]
pub struct Subscribe {
    /// Packet identifier.
    pub packet_id: PacketId,
    /// At least one subscription [MQTT-3.8.3-2].
    pub subscriptions: Vec<Subscription>,
    /// Properties, all-default below 5.0.
    pub properties: SubscribeProperties,
}

/// One topic filter of a SUBSCRIBE with its options.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// The filter; a `$share/…` one is told apart by [`TopicFilter::share`].
    pub filter: TopicFilter,
    /// Its options.
    pub options: SubscriptionOptions,
}

/// Subscription options (§3.8.3.1).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SubscriptionOptions {
    /// The highest level at which the subscriber wants messages.
    pub qos: QoS,
    /// No Local: not the subscriber's own messages.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Retain Handling.
    pub retain_handling: RetainHandling,
}

/// When retained messages are sent at SUBSCRIBE (§3.8.3.1).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub enum RetainHandling {
    /// 0: at each subscribe.
    #[default]
    Send = 0,
    /// 1: only if the subscription did not exist.
    SendIfNew = 1,
    /// 2: never.
    DoNotSend = 2,
}

/// Properties of SUBSCRIBE (§3.8.2.1).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscribeProperties {
    /// Subscription Identifier, 1 to 268,435,455.
    pub subscription_identifier: Option<u32>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
}
