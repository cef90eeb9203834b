//! What an operator may set about the rules, as understood; the defaults are Mosquitto 2.1's (facts: mosquitto §1).

use std::sync::Arc;
use std::time::Duration;

use quoll_mqtt::QoS;

use crate::limits;

/// How many copies a session gets of a message that several of its subscriptions match (§3.3.4).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Overlapping {
    /// One copy at the highest of the granted levels, with all subscription identifiers.
    OneCopy,
    /// One copy for each subscription; Mosquitto's default since 2.1 (`allow_duplicate_messages`).
    #[default]
    EachSubscription,
}

/// Settings of a shard; all shards of a node have the same.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShardSettings {
    /// QoS 1 and 2 messages under way to a client, which may ask for less, and the Receive Maximum that 5.0 clients
    /// are told (`max_inflight_messages`). 0 means 65,535.
    pub max_inflight_messages: u16,
    /// Payload bytes of them from which on no further one is sent (`max_inflight_bytes`): the last one may go beyond, so
    /// that no message is too large ever. 0: no limit.
    pub max_inflight_bytes: u32,
    /// QoS 1 and 2 messages waiting for a client beside those under way (`max_queued_messages`). 0: no limit.
    pub max_queued_messages: u32,
    /// Payload bytes of them from which on no further one waits (`max_queued_bytes`); the lower limit holds. 0: no limit.
    pub max_queued_bytes: u64,
    /// Whether QoS 0 messages wait for an absent client too (`queue_qos0_messages`).
    pub queue_qos0_messages: bool,
    /// Whether a message is delivered at the level of the subscription though it was published at a lower one
    /// (`upgrade_outgoing_qos`). The standard knows nothing of it; it makes nothing safe that the publisher lost.
    pub upgrade_outgoing_qos: bool,
    /// Largest payload accepted in PUBLISH, in bytes (`message_size_limit`). 0: no limit.
    pub message_size_limit: u32,
    /// Largest packet accepted, which 5.0 clients are told (`max_packet_size`). 0: not told. The coat's decoder obeys it.
    pub max_packet_size: u32,
    /// Longest keep alive in seconds (`max_keepalive`): 5.0 clients are told, 3.x clients above it or without one are
    /// refused. 0: no cap.
    pub max_keepalive: u16,
    /// Longest life of a session without a connection (`persistent_client_expiration`); `None`: for ever.
    pub persistent_client_expiration: Option<Duration>,
    /// Whether clients may leave their identifier empty and be given one (`allow_zero_length_clientid`).
    pub allow_zero_length_clientid: bool,
    /// What given identifiers begin with (`auto_id_prefix`).
    pub auto_id_prefix: Arc<str>,
    /// Whether there are retained messages at all (`retain_available`).
    pub retain_available: bool,
    /// Whether it is remembered who published a retained message, so that [`crate::Retained::judge`] can withhold those
    /// of publishers that may not any more (`check_retain_source`).
    pub check_retain_source: bool,
    /// Seconds after which any retained message is forgotten (`retain_expiry_interval`); 0: never.
    pub retain_expiry_interval: u32,
    /// The highest level (`max_qos`).
    pub max_qos: QoS,
    /// Topic aliases a 5.0 client may use (`max_topic_alias`).
    pub max_topic_alias: u16,
    /// Topic aliases we use towards a 5.0 client that allows them (`max_topic_alias_broker`).
    pub max_topic_alias_broker: u16,
    /// Copies for overlapping subscriptions (`allow_duplicate_messages`).
    pub overlapping: Overlapping,
    /// Sessions on one shard, absent clients included (`global_max_clients`).
    pub max_sessions: u32,
    /// Subscriptions of one session.
    pub max_subscriptions: u32,
    /// Bytes of their filters.
    pub max_subscription_bytes: usize,
    /// Members of a shared subscription.
    pub max_group_members: usize,
    /// Retained messages on the whole node.
    pub max_retained: usize,
}

impl Default for ShardSettings {
    fn default() -> Self {
        Self {
            max_inflight_messages: 20,
            max_inflight_bytes: 0,
            max_queued_messages: 1000,
            max_queued_bytes: 0,
            queue_qos0_messages: false,
            upgrade_outgoing_qos: false,
            message_size_limit: 0,
            max_packet_size: 2_000_000,
            max_keepalive: 0,
            persistent_client_expiration: None,
            allow_zero_length_clientid: true,
            auto_id_prefix: "auto-".into(),
            retain_available: true,
            check_retain_source: true,
            retain_expiry_interval: 0,
            max_qos: QoS::ExactlyOnce,
            max_topic_alias: 10,
            max_topic_alias_broker: 10,
            overlapping: Overlapping::default(),
            max_sessions: limits::SESSIONS,
            max_subscriptions: limits::SUBSCRIPTIONS,
            max_subscription_bytes: limits::SUBSCRIPTION_BYTES,
            max_group_members: limits::GROUP_MEMBERS,
            max_retained: limits::RETAINED,
        }
    }
}

impl ShardSettings {
    /// The level of a delivery: of a message, by a subscription.
    #[inline]
    pub(crate) fn level(&self, published: QoS, granted: QoS) -> QoS {
        if self.upgrade_outgoing_qos { granted } else { published.min(granted) }
    }

    /// The window of messages under way, 1 to 65,535.
    #[must_use]
    pub const fn window(&self) -> u16 {
        if self.max_inflight_messages == 0 { u16::MAX } else { self.max_inflight_messages }
    }
}
