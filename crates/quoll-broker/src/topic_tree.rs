//! Topic filters → what hangs on them, found by topic (§4.7).
//!
//! Filters without a wildcard are found by one look into a map; the others live in a tree of levels, which is not walked
//! while it is empty. What matched a topic is remembered until a filter comes or goes; who hangs on a filter may
//! change without that.

use std::sync::Arc;

use ahash::RandomState;
use slab::Slab;

use crate::limits;

/// A filter's place in the tree.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FilterId(u32);

/// Filters, each with a `T`.
#[derive(Debug)]
pub struct TopicTree<T> {
    filters: Slab<Leaf<T>>,
    exact: std::collections::HashMap<Arc<str>, FilterId, RandomState>,
    nodes: Slab<Node>,
    /// Filters with a wildcard.
    wild: usize,
    children: std::collections::HashMap<(u32, Box<str>), u32, RandomState>,
    remembered: std::collections::HashMap<Arc<str>, Remembered, RandomState>,
    /// Grows when a filter comes or goes.
    epoch: u64,
}

#[derive(Debug)]
struct Leaf<T> {
    filter: Arc<str>,
    value: T,
}

/// A level below another one.
#[derive(Debug, Default)]
struct Node {
    /// Filter that ends here.
    here: Option<FilterId>,
    /// Filter that ends with `#` below.
    hash: Option<FilterId>,
    /// The node of `+` below.
    plus: Option<u32>,
    /// Named levels below; they are in `TopicTree::children`.
    named: u32,
}

#[derive(Debug)]
struct Remembered {
    epoch: u64,
    filters: Box<[FilterId]>,
}

impl<T: Default> TopicTree<T> {
    /// An empty tree whose maps hash by these seeds.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = |salt: u64| RandomState::with_seeds(seed, salt, !seed, salt.rotate_left(32));
        let mut nodes = Slab::new();
        nodes.insert(Node::default());
        Self {
            filters: Slab::new(),
            exact: std::collections::HashMap::with_hasher(state(1)),
            nodes,
            wild: 0,
            children: std::collections::HashMap::with_hasher(state(2)),
            remembered: std::collections::HashMap::with_hasher(state(3)),
            epoch: 0,
        }
    }

    /// The filter's place, made with a default value if it is new, and whether it is. `filter` is valid and without `$share/`.
    pub fn insert(&mut self, filter: &str) -> (FilterId, bool) {
        if let Some(id) = self.find(filter) {
            return (id, false);
        }
        self.epoch += 1;
        let filter: Arc<str> = filter.into();
        let leaf = Leaf { filter: filter.clone(), value: T::default() };
        let id = FilterId(u32::try_from(self.filters.insert(leaf)).expect("fewer filters than 2^32"));
        if filter.contains(['+', '#']) {
            self.wild += 1;
            self.plant(&filter, id);
        } else {
            self.exact.insert(filter, id);
        }
        (id, true)
    }

    /// The filter's place, if it has one.
    #[must_use]
    pub fn find(&self, filter: &str) -> Option<FilterId> {
        if !filter.contains(['+', '#']) {
            return self.exact.get(filter).copied();
        }
        let mut node = 0;
        for level in filter.split('/') {
            match level {
                "#" => return self.nodes[node as usize].hash,
                _ => node = self.child(node, level)?,
            }
        }
        self.nodes[node as usize].here
    }

    /// Takes a filter out; returns what hung on it.
    pub fn remove(&mut self, id: FilterId) -> T {
        self.epoch += 1;
        let leaf = self.filters.remove(id.0 as usize);
        if leaf.filter.contains(['+', '#']) {
            self.wild -= 1;
            self.uproot(&leaf.filter);
        } else {
            self.exact.remove(&*leaf.filter);
        }
        leaf.value
    }

    /// What hangs on a filter.
    #[must_use]
    pub fn value(&self, id: FilterId) -> &T {
        &self.filters[id.0 as usize].value
    }

    /// The same, to change.
    pub fn value_mut(&mut self, id: FilterId) -> &mut T {
        &mut self.filters[id.0 as usize].value
    }

    /// How many filters there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.filters.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// The filters that match a topic, appended to `found` and, if that is worth its room, remembered for the next time.
    pub fn matching(&mut self, topic: &str, found: &mut Vec<FilterId>) {
        if self.wild == 0 {
            found.extend(self.exact.get(topic));
            return;
        }
        if let Some(known) = self.remembered.get(topic)
            && known.epoch == self.epoch
        {
            found.extend_from_slice(&known.filters);
            return;
        }
        let before = found.len();
        self.find_matching(topic, found);
        if topic.len() > limits::REMEMBERED_TOPIC_BYTES || found.len() - before > limits::REMEMBERED_FILTERS {
            return;
        }
        if self.remembered.len() >= limits::REMEMBERED_TOPICS {
            self.remembered.clear();
        }
        let known = Remembered { epoch: self.epoch, filters: found[before..].into() };
        self.remembered.insert(topic.into(), known);
    }

    /// The filters that match a topic, appended to `found`, by walking. In Mosquitto's order, so that who has several of them
    /// gets its copies as from there: from left to right a name before `+` before `#`, which goes before what ends there.
    pub fn find_matching(&self, topic: &str, found: &mut Vec<FilterId>) {
        let first = found.len();
        found.extend(self.exact.get(topic));
        if self.wild == 0 {
            return;
        }
        // Only topics without `$` go by the first level's wildcards [MQTT-4.7.2-1].
        let dollar = topic.starts_with('$');
        self.walk(0, Some(topic), dollar, limits::TOPIC_LEVELS, found);
        if let [exact, next, ..] = &mut found[first..] {
            let head = self.filters[next.0 as usize].filter.strip_suffix("/#");
            if head == Some(topic) && *self.filters[exact.0 as usize].filter == *topic {
                std::mem::swap(exact, next);
            }
        }
    }

    fn walk(&self, node: u32, rest: Option<&str>, dollar: bool, depth: usize, found: &mut Vec<FilterId>) {
        let here = &self.nodes[node as usize];
        let Some(rest) = rest else {
            found.extend(here.hash);
            found.extend(here.here);
            return;
        };
        let Some(depth) = depth.checked_sub(1) else { return };
        let (level, below) = match rest.split_once('/') {
            Some((level, below)) => (level, Some(below)),
            None => (rest, None),
        };
        if here.named > 0
            && let Some(child) = self.named_child(node, level)
        {
            self.walk(child, below, false, depth, found);
        }
        if dollar {
            return;
        }
        if let Some(plus) = here.plus {
            self.walk(plus, below, false, depth, found);
        }
        found.extend(here.hash);
    }

    fn child(&self, node: u32, level: &str) -> Option<u32> {
        if level == "+" { self.nodes[node as usize].plus } else { self.named_child(node, level) }
    }

    fn named_child(&self, node: u32, level: &str) -> Option<u32> {
        self.children.get(&(node, level) as &dyn Step).copied()
    }

    fn plant(&mut self, filter: &str, id: FilterId) {
        let mut node = 0;
        for level in filter.split('/') {
            if level == "#" {
                self.nodes[node as usize].hash = Some(id);
                return;
            }
            node = match self.child(node, level) {
                Some(child) => child,
                None => self.grow(node, level),
            };
        }
        self.nodes[node as usize].here = Some(id);
    }

    fn grow(&mut self, parent: u32, level: &str) -> u32 {
        let child = u32::try_from(self.nodes.insert(Node::default())).expect("fewer levels than 2^32");
        if level == "+" {
            self.nodes[parent as usize].plus = Some(child);
        } else {
            self.nodes[parent as usize].named += 1;
            self.children.insert((parent, level.into()), child);
        }
        child
    }

    fn uproot(&mut self, filter: &str) {
        let mut path = Vec::new();
        let mut node = 0;
        for level in filter.split('/') {
            if level == "#" {
                self.nodes[node as usize].hash = None;
                return self.prune(&path, node);
            }
            path.push((node, level));
            node = self.child(node, level).expect("a filter in the tree has its levels");
        }
        self.nodes[node as usize].here = None;
        self.prune(&path, node);
    }

    /// Takes out the levels that nothing hangs on any more, from the last up.
    fn prune(&mut self, path: &[(u32, &str)], mut node: u32) {
        for (parent, level) in path.iter().rev() {
            let own = &self.nodes[node as usize];
            if own.here.is_some() || own.hash.is_some() || own.plus.is_some() || own.named > 0 {
                return;
            }
            self.nodes.remove(node as usize);
            if *level == "+" {
                self.nodes[*parent as usize].plus = None;
            } else {
                self.nodes[*parent as usize].named -= 1;
                self.children.remove(&(*parent, *level) as &dyn Step);
            }
            node = *parent;
        }
    }
}

/// A step down the tree, so that a map of owned steps can be asked with a borrowed one.
trait Step {
    fn parts(&self) -> (u32, &str);
}

impl Step for (u32, Box<str>) {
    fn parts(&self) -> (u32, &str) {
        (self.0, &self.1)
    }
}

impl Step for (u32, &str) {
    fn parts(&self) -> (u32, &str) {
        (self.0, self.1)
    }
}

impl<'a> std::borrow::Borrow<dyn Step + 'a> for (u32, Box<str>) {
    fn borrow(&self) -> &(dyn Step + 'a) {
        self
    }
}

impl std::hash::Hash for dyn Step + '_ {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialEq for dyn Step + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn Step + '_ {}

/// A hash of a text that is the same on all shards of a node, for placing shared subscriptions.
#[must_use]
pub(crate) fn stable_hash(text: &str) -> u64 {
    RandomState::with_seeds(0x51, 0x75, 0x6f, 0x6c).hash_one(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quoll_mqtt::{TopicFilter, TopicName};

    use super::*;

    fn found(tree: &mut TopicTree<()>, topic: &str) -> Vec<String> {
        let mut ids = Vec::new();
        tree.matching(topic, &mut ids);
        let mut names: Vec<_> = ids.iter().map(|id| tree.filters[id.0 as usize].filter.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn wildcards_match_as_the_standard_says() {
        let mut tree = TopicTree::<()>::new(7);
        for filter in ["a/b", "a/+", "a/#", "#", "+/b", "$SYS/#", "$SYS/+", "/+", "+"] {
            tree.insert(filter);
        }
        let table = [
            ("a/b", vec!["#", "+/b", "a/#", "a/+", "a/b"]),
            ("a", vec!["#", "+", "a/#"]),
            ("$SYS/x", vec!["$SYS/#", "$SYS/+"]),
            ("$SYS", vec!["$SYS/#"]),
            ("/x", vec!["#", "/+"]),
            ("a/b/c", vec!["#", "a/#"]),
        ];
        for (topic, expected) in table {
            assert_eq!(found(&mut tree, topic), expected, "{topic}");
        }
    }

    /// Seen with Mosquitto 2.0.11, in whatever order the filters came.
    #[test]
    fn filters_are_found_in_mosquittos_order() {
        let expected = [
            "a/b/c/#", "a/b/c", "a/b/+", "a/b/#", "a/+/c", "a/+/+", "a/+/#", "a/#", "+/b/c", "+/b/#",
            "+/+/c", "+/+/+", "+/#", "#",
        ];
        for step in [1, 3, 5, 9] {
            for gap in 0..=expected.len() {
                let mut tree = TopicTree::<()>::new(7);
                for at in (0..expected.len()).map(|number| number * step % expected.len()) {
                    if at != gap {
                        tree.insert(expected[at]);
                    }
                }
                let mut ids = Vec::new();
                tree.find_matching("a/b/c", &mut ids);
                let names: Vec<_> = ids.iter().map(|id| &*tree.filters[id.0 as usize].filter).collect();
                let wanted: Vec<_> =
                    (0..).zip(expected).filter(|(at, _)| *at != gap).map(|it| it.1).collect();
                assert_eq!(names, wanted);
            }
        }
    }

    /// Else one client could fill memory by publishing to long topics, or by having many filters for each.
    #[test]
    fn what_is_remembered_is_bounded_in_bytes_and_found_all_the_same() {
        let mut tree = TopicTree::<()>::new(7);
        tree.insert("a/#");
        let remembered = |tree: &mut TopicTree<()>, topic: &str, count: usize| {
            for _ in 0..2 {
                let mut ids = Vec::new();
                tree.matching(topic, &mut ids);
                assert_eq!(ids.len(), count, "{topic}");
            }
            tree.remembered.contains_key(topic)
        };
        let of = |bytes: usize| format!("a/{}", "x".repeat(bytes - 2));
        assert!(remembered(&mut tree, &of(limits::REMEMBERED_TOPIC_BYTES), 1));
        assert!(!remembered(&mut tree, &of(limits::REMEMBERED_TOPIC_BYTES + 1), 1));
        // Ten levels, each by name or by a plus: 1,024 filters that match one topic.
        for number in 0..limits::REMEMBERED_FILTERS - 1 {
            let levels: Vec<_> = (0..10).map(|at| if number >> at & 1 == 0 { "+" } else { "b" }).collect();
            tree.insert(&levels.join("/"));
        }
        let topic = ["b"; 10].join("/");
        tree.insert("#");
        assert!(remembered(&mut tree, &topic, limits::REMEMBERED_FILTERS));
        tree.insert("b/#");
        tree.remembered.clear(); // what is too old stands there until its place is wanted
        assert!(!remembered(&mut tree, &topic, limits::REMEMBERED_FILTERS + 1));
    }

    #[test]
    fn a_tree_that_everything_left_is_empty_again() {
        let mut tree = TopicTree::<()>::new(7);
        let ids: Vec<_> = ["a/b/+", "a/#", "a/b", "+/+/c", "#"].map(|filter| tree.insert(filter).0).into();
        for id in ids {
            tree.remove(id);
        }
        assert_eq!((tree.len(), tree.nodes.len(), tree.children.len(), tree.wild), (0, 1, 0, 0));
    }

    fn level() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("a"), Just("b"), Just("$s"), Just("")]
    }

    fn filter() -> impl Strategy<Value = String> {
        let levels = proptest::collection::vec(prop_oneof![3 => level(), 2 => Just("+")], 1..4);
        (levels, any::<bool>()).prop_filter_map("empty", |(levels, hash)| {
            let text = levels.join("/") + if hash { "/#" } else { "" };
            TopicFilter::parse(&text).ok().map(|filter| filter.to_string())
        })
    }

    proptest! {
        #[test]
        fn a_tree_finds_what_matching_each_filter_finds(
            steps in proptest::collection::vec((filter(), any::<bool>()), 1..40),
            topic in proptest::collection::vec(level(), 1..5),
        ) {
            let topic = topic.join("/");
            prop_assume!(!topic.is_empty());
            let name = TopicName::parse(&topic).unwrap();
            let mut tree = TopicTree::<()>::new(7);
            let mut all = std::collections::BTreeSet::new();
            for (text, is_in) in steps {
                if is_in {
                    tree.insert(&text);
                    all.insert(text);
                } else if let Some(id) = tree.find(&text) {
                    tree.remove(id);
                    all.remove(&text);
                }
                let expected: Vec<_> =
                    all.iter().filter(|f| TopicFilter::parse(f).unwrap().matches(&name)).cloned().collect();
                prop_assert_eq!(found(&mut tree, &topic), expected);
            }
        }
    }
}
