//! Counters of a shard, for `$SYS`, metrics and the dashboard. Bytes on the wire are counted by the coat.

use std::ops::AddAssign;

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A snapshot of a shard's counters. Those of all shards add up to the node's.
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl AddAssign for Stats {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

stats! {
    /// Connections now.
    connections,
    /// Sessions now, absent clients included.
    sessions,
    /// Subscriptions now, shared ones included.
    subscriptions,
    /// Shared subscriptions now.
    shared_subscriptions,
    /// Messages waiting for clients now.
    queued,
    /// Messages under way to clients now: sent, not acknowledged.
    inflight,
    /// Connections let in since the start.
    connects,
    /// CONNECTs refused by the rules since the start.
    refusals,
    /// Sessions that expired since the start.
    expired_sessions,
    /// PUBLISH packets taken since the start.
    publishes_received,
    /// Payload bytes of those.
    payload_received,
    /// PUBLISH packets sent since the start.
    publishes_sent,
    /// Payload bytes of those.
    payload_sent,
    /// Deliveries dropped since the start: queue full, peer too slow, packet too large for it.
    dropped,
    /// Deliveries whose message expired before they were sent, since the start.
    expired_messages,
    /// PUBLISH packets to topics that the client may not publish to, since the start.
    denied,
    /// Packets taken since the start, PUBLISH included.
    packets_received,
    /// Letters from other shards and this one since the start.
    letters,
}
