//! The bounds of the rules, each with its reason. What an operator may change is in [`crate::settings`], with the
//! values here as defaults or as what a setting cannot exceed.

/// Levels of a topic or a filter, `$share/NAME` included. A tree walk costs a step per level, and 65,535 slashes are an attack,
/// not a topic; Mosquitto draws its line at 200 slashes too, and ends the connection of whoever crosses it.
pub const TOPIC_LEVELS: usize = 201;

/// Whether a topic or a filter has more than [`TOPIC_LEVELS`].
#[must_use]
pub fn is_too_deep(topic: &str) -> bool {
    // A topic has at most one more level than bytes, so nearly all need no count.
    topic.len() >= TOPIC_LEVELS && topic.split('/').count() > TOPIC_LEVELS
}

/// Sessions on one shard. The design aims at 150,000 a node; ten times that is a mistake or an attack.
pub const SESSIONS: u32 = 2_000_000;

/// Subscriptions of one session. A bridge or a dashboard may list each device; at 100,000 it should use a wildcard.
pub const SUBSCRIPTIONS: u32 = 100_000;

/// Bytes of their filters: 335 each where there are as many as there may be. Without it one client could have 6.5 GB of
/// them; filters of devices have 30 to 100 bytes.
pub const SUBSCRIPTION_BYTES: usize = 32 << 20;

/// Filters in one SUBSCRIBE or UNSUBSCRIBE. The packet's size bounds them too; this bounds the work of one input.
pub const FILTERS_PER_PACKET: usize = 10_000;

/// Members of one shared subscription. Choosing one looks past those that are not connected.
pub const GROUP_MEMBERS: usize = 10_000;

/// Members of a shared subscription that are asked for room before one of them has to drop a message. Asking costs two
/// look-ups each; where so many in a row are full, the next ones hardly are not.
pub const MEMBERS_TRIED: usize = 16;

/// Retained messages on the node: the design aims at 5 million, some 1.5 kB each with their topics.
pub const RETAINED: usize = 10_000_000;

/// Memory that they may take: room for 5 million of 400 bytes each. Without it one client could keep as much as there is memory,
/// 2 MB a message. The server sets less where the machine has less than twice as much.
pub const RETAINED_BYTES: u64 = 4 << 30;

/// What each takes beside the bytes of its topic, payload and properties: 300 to 315 bytes as measured, with its place in the
/// map of topics. Without it small ones would take thirty times the bound.
pub const RETAINED_COST: u64 = 320;

/// User properties of one message. They are kept and sent to each subscriber; Mosquitto has no bound, the packet's
/// size is one, and 1,000 pairs are more than any application was seen to use.
pub const USER_PROPERTIES: usize = 1000;

/// Retained messages sent to a new subscriber in one go. The rest follows when there is room, others being served in between.
pub const REPLAY_STRETCH: usize = 500;

/// QoS 2 messages of one session that wait for their PUBREL. 5.0 clients are bound by the Receive Maximum; a 3.x client
/// that has more open has its further ones routed at once, which the standard leaves to the receiver (§4.3.3).
pub const HELD_MESSAGES: usize = 100;

/// Payload bytes of them. Two of the largest packets; what is beyond is routed at once.
pub const HELD_BYTES: usize = 4_000_000;

/// Topics whose matching filters are remembered. At about 100 bytes each, 0.4 MB a shard; a site with more live
/// topics pays for a tree walk, no more.
pub const REMEMBERED_TOPICS: usize = 4096;

/// The longest of them, in bytes: topics of 64 KiB would make it 270 MB. A longer one pays for its tree walk each time.
pub const REMEMBERED_TOPIC_BYTES: usize = 1024;

/// Filters that match one of them: a client may have 100,000 that all match the same topics, and 4,096 lists of these would be
/// 1.6 GB. A topic with more pays for its tree walk each time, which is less than the deliveries cost.
pub const REMEMBERED_FILTERS: usize = 1024;

/// Shards: a set of them is one machine word.
pub const SHARDS: u16 = 64;

/// Due dates dealt with by one `expire`, so that an outage of 20,000 devices does not hold up the living. The rest
/// stays due and the coat calls again.
pub const EXPIRED_PER_CALL: usize = 1000;

/// Milliseconds between two [`crate::vocabulary::Event::Dropped`] of one client.
pub const DROPPED_REPORT: u64 = 10_000;

/// Client identifiers, in bytes. The wire allows 65,535; each is kept in several maps and in the journal.
pub const CLIENT_ID: usize = 65_535;
