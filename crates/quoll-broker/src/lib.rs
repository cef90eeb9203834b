//! The rules of the post office: decides what happens when a packet arrives. Pure: no clock, dice, socket, disk or await.
//!
//! Read [`vocabulary`] first, then [`shard`].
//!
//! | room | what is in it |
//! |---|---|
//! | [`vocabulary`] | everything that can happen to a shard, and everything it can want done |
//! | [`shard`] | owns sessions, hands an input to one verb; `next_deadline`, `expire` |
//! | `connect`, `publish`, `subscribe`, `deliver` | the four verbs; `acknowledge`, `pending` and `depart` are their other ends |
//! | `session`, `inflight`, `incoming`, `queue`, `will`, `alias`, `deadline` | the noun and its parts |
//! | [`message`] | an accepted PUBLISH, shared by everybody it goes to |
//! | [`topic_tree`], [`retained`], `share_group`, [`route`] | who wants a topic, here and on other shards |
//! | [`change`], [`letter`], `record` | facts for the journal and mail for other shards, and their bytes |
//! | [`view`] | what can be seen of sessions from outside |
//! | [`access`], [`ordered`], [`settings`], [`limits`], [`stats`], [`moment`] | permissions, settings, bounds, counters, time |

pub mod access;
pub mod change;
pub mod letter;
pub mod limits;
pub mod message;
pub mod moment;
pub mod ordered;
pub mod retained;
pub mod route;
pub mod settings;
pub mod shard;
pub mod stats;
pub mod topic_tree;
pub mod view;
pub mod vocabulary;

mod acknowledge;
mod alias;
mod connect;
mod deadline;
mod deliver;
mod depart;
mod dice;
mod incoming;
mod inflight;
mod order;
mod pending;
mod publish;
mod queue;
mod recall;
mod record;
mod replay;
mod session;
mod share_group;
mod subscribe;
mod will;

pub use access::Grants;
pub use change::Change;
pub use message::Message;
pub use moment::{Anchor, Moment};
pub use ordered::OrderedRules;
pub use retained::Retained;
pub use route::{Interest, ShardSet, Shared};
pub use settings::{Overlapping, ShardSettings};
pub use shard::Shard;
pub use stats::Stats;
pub use view::SessionView;
