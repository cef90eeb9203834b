//! Routing: which shards have sessions that want this topic?
//!
//! Knows filters and shards. Does not know sessions (see `deliver`). What all shards of a node share stands here: plain data
//! behind reader/writer locks, never held while anything else is done.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::limits;
use crate::moment::Anchor;
use crate::retained::Retained;
use crate::topic_tree::{TopicTree, stable_hash};
use crate::vocabulary::ShardId;

/// What the shards of a node share.
#[derive(Debug)]
pub struct Shared {
    /// Retained messages.
    pub retained: Retained,
    /// Which shards want what.
    pub interest: Interest,
    /// Which instant was which time.
    pub anchor: Anchor,
    shards: u16,
}

impl Shared {
    /// For a node of this many shards, 1 to [`limits::SHARDS`]; more or fewer count as the nearest.
    #[must_use]
    pub fn new(anchor: Anchor, shards: u16) -> Self {
        let shards = shards.clamp(1, limits::SHARDS);
        Self { retained: Retained::default(), interest: Interest::default(), anchor, shards }
    }

    /// How many shards there are.
    #[must_use]
    pub const fn shards(&self) -> u16 {
        self.shards
    }

    /// The shards whose sessions may want this topic: where [`crate::vocabulary::Effect::Route`] has to bring a message.
    #[must_use]
    pub fn shards_for(&self, topic: &str) -> ShardSet {
        self.interest.shards_for(topic)
    }

    /// The shard that chooses the members of a shared subscription, by the group's filter (§4.8.2).
    #[must_use]
    pub fn home_of_group(&self, filter: &str) -> ShardId {
        let place = stable_hash(filter) % u64::from(self.shards);
        ShardId(u16::try_from(place).expect("less than the number of shards"))
    }
}

/// A set of shards.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ShardSet(u64);

impl ShardSet {
    /// Whether it holds this shard.
    #[must_use]
    pub const fn contains(self, shard: ShardId) -> bool {
        self.0 >> shard.0 & 1 == 1
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The same without one shard.
    #[must_use]
    pub const fn without(self, shard: ShardId) -> Self {
        Self(self.0 & !(1 << shard.0))
    }

    /// Its shards, from the lowest.
    pub fn iter(self) -> impl Iterator<Item = ShardId> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let place = u16::try_from(rest.trailing_zeros()).expect("at most 64");
            rest &= rest.checked_sub(1)?;
            Some(ShardId(place))
        })
    }
}

/// Filters → shards.
#[derive(Debug)]
pub struct Interest {
    /// Shards that want anything at all. While that is one shard or none, nobody looks further.
    active: AtomicU64,
    inner: RwLock<Inner>,
}

#[derive(Debug)]
struct Inner {
    tree: TopicTree<ShardSet>,
    /// Filters of each shard.
    filters: [u32; limits::SHARDS as usize],
}

impl Default for Interest {
    fn default() -> Self {
        // No peer chooses which shard's filters collide, so a fixed seed will do; what clients can reach by topic
        // is hashed with the shard's own.
        let inner =
            Inner { tree: TopicTree::new(0x7175_6f6c_6c00_0001), filters: [0; limits::SHARDS as usize] };
        Self { active: AtomicU64::new(0), inner: RwLock::new(inner) }
    }
}

impl Interest {
    /// The shards whose sessions may want this topic; perhaps too many, never too few.
    #[must_use]
    pub fn shards_for(&self, topic: &str) -> ShardSet {
        let active = ShardSet(self.active.load(Ordering::Acquire));
        if active.0.count_ones() <= 1 {
            return active;
        }
        self.look_up(topic)
    }

    /// Whether another shard than this one has a filter that matches the topic.
    pub(crate) fn is_wanted_elsewhere(&self, topic: &str, shard: ShardId) -> bool {
        let others = ShardSet(self.active.load(Ordering::Acquire)).without(shard);
        !others.is_empty() && !self.look_up(topic).without(shard).is_empty()
    }

    fn look_up(&self, topic: &str) -> ShardSet {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        inner.tree.find_matching(topic, &mut found);
        ShardSet(found.iter().fold(0, |all, id| all | inner.tree.value(*id).0))
    }

    /// A shard wants a filter from now on. Once for each filter of the shard.
    pub(crate) fn add(&self, filter: &str, shard: ShardId) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let (id, _) = inner.tree.insert(filter);
        inner.tree.value_mut(id).0 |= 1 << shard.0;
        inner.filters[usize::from(shard.0)] += 1;
        self.active.fetch_or(1 << shard.0, Ordering::Release);
    }

    /// It does not any more.
    pub(crate) fn remove(&self, filter: &str, shard: ShardId) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let Some(id) = inner.tree.find(filter) else { return };
        let left = inner.tree.value(id).without(shard);
        *inner.tree.value_mut(id) = left;
        if left.is_empty() {
            inner.tree.remove(id);
        }
        let count = &mut inner.filters[usize::from(shard.0)];
        *count -= 1;
        if *count == 0 {
            self.active.fetch_and(!(1 << shard.0), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shards_that_want_a_topic_are_named() {
        let interest = Interest::default();
        let (one, two) = (ShardId(0), ShardId(63));
        interest.add("a/#", one);
        assert!(
            interest.shards_for("b").contains(one),
            "one shard alone is told everything, which costs nothing"
        );
        interest.add("b", two);
        interest.add("a/x", two);
        assert_eq!(interest.shards_for("a/x").iter().collect::<Vec<_>>(), [one, two]);
        assert_eq!(interest.shards_for("b").iter().collect::<Vec<_>>(), [two]);
        assert!(interest.shards_for("c").is_empty());
        interest.remove("a/#", one);
        assert!(!interest.shards_for("a/x").contains(one));
        interest.remove("a/x", two);
        interest.remove("b", two);
        assert!(interest.shards_for("b").is_empty());
    }
}
