//! Routing: which shards have sessions that want this topic?
//!
//! Knows filters and shards. Does not know sessions (see `deliver`). What all shards of a node share stands here: plain data
//! behind reader/writer locks, never held while anything else is done.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use ahash::RandomState;

use crate::limits;
use crate::moment::Anchor;
use crate::retained::Retained;
use crate::shard::Shard;
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
        // The time of the start is no secret, but no peer can prepare filters that collide under it.
        let interest = Interest::new(anchor.moment.0);
        Self { retained: Retained::default(), interest, anchor, shards }
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
    /// Grows when a filter of a shard comes or goes: what a shard remembered is then too old.
    epoch: AtomicU64,
    inner: RwLock<Inner>,
}

#[derive(Debug)]
struct Inner {
    tree: TopicTree<ShardSet>,
    /// Filters of each shard.
    filters: [u32; limits::SHARDS as usize],
}

impl Interest {
    fn new(seed: u64) -> Self {
        let inner = Inner { tree: TopicTree::new(seed), filters: [0; limits::SHARDS as usize] };
        Self { active: AtomicU64::new(0), epoch: AtomicU64::new(0), inner: RwLock::new(inner) }
    }

    /// The shards whose sessions may want this topic; perhaps too many, never too few.
    #[must_use]
    pub fn shards_for(&self, topic: &str) -> ShardSet {
        if self.is_one_active() {
            return ShardSet(self.active.load(Ordering::Acquire));
        }
        self.look_up(topic)
    }

    fn is_one_active(&self) -> bool {
        self.active.load(Ordering::Acquire).count_ones() <= 1
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
        self.epoch.fetch_add(1, Ordering::Release);
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
        self.epoch.fetch_add(1, Ordering::Release);
    }
}

/// What a shard remembers of the interest of all, by topic. Too old as soon as a filter came or went anywhere.
#[derive(Debug)]
pub(crate) struct KnownInterest {
    epoch: u64,
    by_topic: HashMap<Arc<str>, ShardSet, RandomState>,
}

impl KnownInterest {
    pub(crate) fn new(seed: u64) -> Self {
        Self { epoch: 0, by_topic: HashMap::with_hasher(RandomState::with_seeds(seed, 31, !seed, 32)) }
    }
}

impl Shard {
    /// The same as [`Shared::shards_for`], with what this shard asked before remembered: no lock and no tree for a
    /// topic that comes again.
    pub fn shards_for(&mut self, topic: &str) -> ShardSet {
        let interest = &self.shared.interest;
        if interest.is_one_active() {
            return interest.shards_for(topic);
        }
        let known = &mut self.known_interest;
        // Read before looking: a change in between makes the entry too old, not too new.
        let epoch = interest.epoch.load(Ordering::Acquire);
        if known.epoch != epoch || known.by_topic.len() >= limits::REMEMBERED_TOPICS {
            known.by_topic.clear();
            known.epoch = epoch;
        }
        if let Some(shards) = known.by_topic.get(topic) {
            return *shards;
        }
        let shards = interest.look_up(topic);
        if topic.len() > limits::REMEMBERED_TOPIC_BYTES {
            return shards;
        }
        known.by_topic.insert(topic.into(), shards);
        shards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shards_that_want_a_topic_are_named() {
        let interest = Interest::new(7);
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
