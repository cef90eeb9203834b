//! Retained messages: topics → messages, shared by all shards (§3.3.1.3).
//!
//! An ordered map of topics. A filter is answered by a scan that leaps: where a level cannot match, the scan seeks to the next
//! topic that could, so `+/state` costs a few steps per first level, not one per topic. Order rule: a
//! publisher stores before it routes, a subscriber subscribes before it looks here.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use quoll_mqtt::{TopicFilter, TopicName};

use crate::limits;
use crate::message::Message;
use crate::moment::Moment;

/// The retained messages of a node.
#[derive(Debug)]
pub struct Retained {
    inner: RwLock<Inner>,
    /// When the next one expires, in milliseconds; `u64::MAX`: never. Beside the lock, since each turn asks.
    next_expiry: AtomicU64,
    count: AtomicUsize,
    max_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    messages: BTreeMap<TopicKey, Arc<Message>>,
    /// What they weigh: see [`Message::size`].
    bytes: u64,
    expiries: BTreeSet<(Moment, TopicKey)>,
    /// Those whose publisher may not publish them any more.
    withheld: BTreeSet<TopicKey>,
}

/// A topic, findable by its text.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct TopicKey(TopicName);

impl std::borrow::Borrow<str> for TopicKey {
    fn borrow(&self) -> &str {
        self.0.as_str()
    }
}

impl Default for Retained {
    fn default() -> Self {
        Self {
            inner: RwLock::default(),
            next_expiry: AtomicU64::new(u64::MAX),
            count: AtomicUsize::new(0),
            max_bytes: AtomicU64::new(limits::RETAINED_BYTES),
        }
    }
}

impl Retained {
    /// From now on no more memory than this is taken: topics, payloads, properties, and [`limits::RETAINED_COST`] for each;
    /// what is there stays. [`limits::RETAINED_BYTES`] unless said otherwise.
    pub fn set_max_bytes(&self, bytes: u64) {
        self.max_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Keeps the message for its topic in place of an older one. Says no where the topic is new and there are
    /// `limit` already, and where it would grow beyond its bound of bytes; an older one stays then.
    pub fn store(&self, message: Arc<Message>, limit: usize) -> bool {
        let mut inner = self.write();
        let (old, new) = (inner.messages.get(message.topic.as_str()).map(|old| old.size()), message.size());
        let freed = old.unwrap_or(0);
        let is_crowded = old.is_none() && inner.messages.len() >= limit;
        let taken = inner.bytes + inner.messages.len() as u64 * limits::RETAINED_COST;
        let added = if old.is_some() { new } else { new + limits::RETAINED_COST };
        let is_heavy = added > freed && taken - freed + added > self.max_bytes.load(Ordering::Relaxed);
        if is_crowded || is_heavy {
            return false;
        }
        self.insert(&mut inner, message);
        true
    }

    /// As [`Self::store`], of one that was taken before the node ended: no bound that came since takes it away.
    pub(crate) fn restore(&self, message: Arc<Message>) {
        self.insert(&mut self.write(), message);
    }

    fn insert(&self, inner: &mut Inner, message: Arc<Message>) {
        let (topic, key) = (message.topic.clone(), TopicKey(message.topic.clone()));
        inner.bytes += message.size();
        if let Some(due) = message.expires {
            inner.expiries.insert((due, key.clone()));
        }
        if let Some(old) = inner.messages.insert(key.clone(), message.clone()) {
            inner.bytes -= old.size();
            if let Some(due) = old.expires
                && message.expires != Some(due)
            {
                inner.expiries.remove(&(due, key));
            }
        }
        inner.withheld.remove(topic.as_str());
        self.note(inner);
    }

    /// Asks of each message whose source is known whether that may still publish it; those that it may not are
    /// withheld from new subscriptions, until they are asked about again or another takes their place.
    pub fn judge(&self, mut may: impl FnMut(&Message) -> bool) {
        let judged: Vec<Arc<Message>> =
            self.read().messages.values().filter(|message| message.source().is_some()).cloned().collect();
        let withheld: Vec<Arc<Message>> = judged.into_iter().filter(|message| !may(message)).collect();
        let mut inner = self.write();
        inner.withheld.clear();
        for message in withheld {
            // A newer one may have come while it was asked.
            let is_there = |known: &Arc<Message>| Arc::ptr_eq(known, &message);
            if inner.messages.get(message.topic.as_str()).is_some_and(is_there) {
                inner.withheld.insert(TopicKey(message.topic.clone()));
            }
        }
    }

    /// The topic's message for a new subscription; `None` for one that is withheld.
    #[must_use]
    pub fn to_deliver(&self, topic: &str) -> Option<Arc<Message>> {
        let inner = self.read();
        let message = inner.messages.get(topic)?;
        (inner.withheld.is_empty() || !inner.withheld.contains(topic)).then(|| message.clone())
    }

    /// Forgets the topic's message; whether there was one.
    pub fn clear(&self, topic: &TopicName) -> bool {
        let mut inner = self.write();
        let old = inner.messages.remove(topic.as_str());
        inner.bytes -= old.as_ref().map_or(0, |old| old.size());
        inner.withheld.remove(topic.as_str());
        if let Some(due) = old.as_ref().and_then(|old| old.expires) {
            inner.expiries.remove(&(due, TopicKey(topic.clone())));
        }
        self.note(&inner);
        old.is_some()
    }

    /// The topic's message.
    #[must_use]
    pub fn of(&self, topic: &str) -> Option<Arc<Message>> {
        self.read().messages.get(topic).cloned()
    }

    /// The messages that a filter matches, by topic. A shared subscription gets none (§4.8.2), which is the caller's business.
    #[must_use]
    pub fn matching(&self, filter: &TopicFilter) -> Vec<Arc<Message>> {
        let inner = self.read();
        let filter = filter.unshared();
        if !filter.contains(['+', '#']) {
            return inner.messages.get(filter).cloned().into_iter().collect();
        }
        let levels: Vec<&str> = filter.split('/').collect();
        let mut found = Vec::new();
        let mut seek = literal_head(filter).to_owned();
        loop {
            let from = (Bound::Included(seek.as_str()), Bound::Unbounded);
            let mut next = None;
            for (key, message) in inner.messages.range::<str, _>(from) {
                match step(&levels, key.0.as_str()) {
                    Step::Match => found.push(message.clone()),
                    Step::Next => {}
                    Step::Seek(to) => {
                        next = Some(to);
                        break;
                    }
                    Step::End => break,
                }
            }
            match next {
                Some(to) => seek = to,
                None => return found,
            }
        }
    }

    /// All of them, by topic.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Message>> {
        self.read().messages.values().cloned().collect()
    }

    /// Bytes of their topics, payloads and properties.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.read().bytes
    }

    /// How many there are, expired ones that nobody swept yet included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When the next one expires.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Moment> {
        match self.next_expiry.load(Ordering::Relaxed) {
            u64::MAX => None,
            due => Some(Moment(due)),
        }
    }

    /// Forgets what has expired, at most `limit` of them; returns their topics.
    pub fn expire(&self, now: Moment, limit: usize) -> Vec<TopicName> {
        let mut inner = self.write();
        let mut gone = Vec::new();
        while gone.len() < limit
            && let Some((due, _)) = inner.expiries.first()
            && *due <= now
            && let Some((_, key)) = inner.expiries.pop_first()
        {
            let old = inner.messages.remove(key.0.as_str());
            inner.bytes -= old.map_or(0, |old| old.size());
            inner.withheld.remove(key.0.as_str());
            gone.push(key.0);
        }
        self.note(&inner);
        gone
    }

    fn note(&self, inner: &Inner) {
        let due = inner.expiries.first().map_or(u64::MAX, |(due, _)| due.0);
        self.next_expiry.store(due, Ordering::Relaxed);
        self.count.store(inner.messages.len(), Ordering::Relaxed);
    }

    // A panic between two writes here would have to be in the standard library's maps; the data is whole.
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a scan does after it looked at a topic.
enum Step {
    /// It is wanted.
    Match,
    /// It is not; look at the one after.
    Next,
    /// Nothing before this text can be wanted.
    Seek(String),
    /// Nothing after can be wanted.
    End,
}

/// The text before the first wildcard, without the `/` before a last `#`, which matches its parent too.
fn literal_head(filter: &str) -> &str {
    let head = &filter[..filter.find(['+', '#']).unwrap_or(filter.len())];
    if filter.ends_with("/#") && head.len() + 1 == filter.len() { &head[..head.len() - 1] } else { head }
}

/// `/` + 1: behind all topics below a level.
const AFTER_SLASH: char = '0';

fn step(levels: &[&str], topic: &str) -> Step {
    if topic.starts_with('$') && matches!(levels[0], "+" | "#") {
        return Step::Seek("%".to_owned()); // '$' + 1
    }
    let mut start = 0;
    for (depth, wanted) in levels.iter().enumerate() {
        if *wanted == "#" {
            return Step::Match;
        }
        let (level, end) = match topic[start..].find('/') {
            Some(length) => (&topic[start..start + length], Some(start + length)),
            None => (&topic[start..], None),
        };
        if *wanted != "+" && level != *wanted {
            return leap(levels, depth, topic, start, level < *wanted);
        }
        match end {
            Some(end) => start = end + 1,
            // The topic is at its end; so is the filter, but for a `#`, which matches the parent.
            None if depth + 1 == levels.len() || levels[depth + 1..] == ["#"] => return Step::Match,
            // Deeper ones follow somewhere after this one.
            None => return Step::Next,
        }
    }
    // Longer than the filter: nothing else below this level can match.
    Step::Seek(format!("{}{AFTER_SLASH}", &topic[..start - 1]))
}

/// From a level that is not the wanted one: to the wanted one below the same parent, or past the parent.
fn leap(levels: &[&str], depth: usize, topic: &str, start: usize, is_before: bool) -> Step {
    // Comparing whole levels is not comparing texts (`a-b` sorts before `a/`), so only a seek that moves forward counts.
    let target = format!("{}{}", &topic[..start], levels[depth]);
    if target.as_str() > topic {
        return Step::Seek(target);
    }
    if !is_before && !topic[start..].starts_with(levels[depth]) {
        return if start == 0 || levels[..depth].iter().all(|level| *level != "+") {
            Step::End
        } else {
            Step::Seek(format!("{}{AFTER_SLASH}", &topic[..start - 1]))
        };
    }
    Step::Next
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use quoll_mqtt::QoS;

    use super::*;
    use crate::message::MessageParts;

    fn message(topic: &str, expires: Option<u64>) -> Arc<Message> {
        Arc::new(Message::new(MessageParts {
            number: 1,
            publisher: "".into(),
            topic: TopicName::parse(topic).unwrap(),
            payload: Bytes::from_static(b"x"),
            qos: QoS::AtMostOnce,
            retain: true,
            properties: None,
            expires: expires.map(Moment),
        }))
    }

    #[test]
    fn a_new_message_replaces_the_old_and_an_expiry_goes_with_it() {
        let retained = Retained::default();
        retained.store(message("a", Some(10)), 9);
        retained.store(message("a", None), 9);
        assert_eq!((retained.len(), retained.next_expiry()), (1, None));
        assert!(retained.expire(Moment(99), 9).is_empty());
        assert!(retained.clear(&TopicName::parse("a").unwrap()) && retained.is_empty());
    }

    #[test]
    fn what_is_expired_is_swept_in_order() {
        let retained = Retained::default();
        for (topic, due) in [("c", 30), ("a", 10), ("b", 20)] {
            retained.store(message(topic, Some(due)), 9);
        }
        assert_eq!(retained.next_expiry(), Some(Moment(10)));
        let gone: Vec<_> = retained.expire(Moment(20), 9).iter().map(ToString::to_string).collect();
        assert_eq!((gone, retained.len()), (vec!["a".to_owned(), "b".to_owned()], 1));
    }

    #[test]
    fn a_full_store_refuses_new_topics_and_takes_new_values() {
        let retained = Retained::default();
        assert!(retained.store(message("a", None), 1));
        assert!(!retained.store(message("b", None), 1));
        assert!(retained.store(message("a", None), 1));
    }

    #[test]
    fn bytes_are_bounded_and_a_value_may_always_shrink() {
        let retained = Retained::default();
        let of = |topic: &str, bytes: usize| {
            Arc::new(Message::new(MessageParts {
                number: 1,
                publisher: "".into(),
                topic: TopicName::parse(topic).unwrap(),
                payload: Bytes::from(vec![0; bytes]),
                qos: QoS::AtMostOnce,
                retain: true,
                properties: None,
                expires: (topic == "e").then_some(Moment(5)),
            }))
        };
        let store = |topic, bytes| retained.store(of(topic, bytes), 9);
        let bound = |bytes, count| retained.set_max_bytes(bytes + count * limits::RETAINED_COST);
        bound(100, 2);
        assert!(store("a", 59) && !store("b", 40) && store("b", 39), "60 and 40 are 100");
        assert!(!store("a", 60) && store("a", 59) && store("a", 49), "a larger value is no value");
        assert!(!store("e", 0), "each has its cost");
        bound(100, 3);
        assert!(store("e", 9) && !store("c", 0));
        bound(100, 4);
        assert!(!store("c", 0));
        assert_eq!(retained.bytes(), 100);
        bound(10, 1);
        assert!(store("a", 48) && !store("a", 49), "above a new bound only what shrinks is taken");
        retained.expire(Moment(5), 9);
        for topic in ["a", "b"] {
            retained.clear(&TopicName::parse(topic).unwrap());
        }
        assert_eq!((retained.bytes(), retained.len()), (0, 0), "nothing is left of what is gone");
    }

    #[test]
    fn properties_weigh_too() {
        use quoll_mqtt::packet::PublishProperties;
        let properties = PublishProperties {
            user_properties: vec![("k".repeat(50), "v".repeat(45))],
            ..PublishProperties::default()
        };
        let heavy = Arc::new(Message::new(MessageParts {
            number: 1,
            publisher: "".into(),
            topic: TopicName::parse("t").unwrap(),
            payload: Bytes::new(),
            qos: QoS::AtMostOnce,
            retain: true,
            properties: Some(Box::new(properties)),
            expires: None,
        }));
        let retained = Retained::default();
        retained.set_max_bytes(limits::RETAINED_COST + 100);
        assert!(!retained.store(heavy.clone(), 9));
        retained.set_max_bytes(limits::RETAINED_COST + 101);
        assert!(retained.store(heavy, 9));
    }

    fn level() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("a"), Just("a-b"), Just("b"), Just("$s"), Just(""), Just("a0")]
    }

    proptest! {
        #[test]
        fn a_leaping_scan_finds_what_matching_each_topic_finds(
            topics in proptest::collection::btree_set(proptest::collection::vec(level(), 1..5), 0..60),
            filter in proptest::collection::vec(prop_oneof![3 => level(), 2 => Just("+")], 1..4),
            hash in any::<bool>(),
        ) {
            let retained = Retained::default();
            let mut all = BTreeSet::new();
            for topic in topics {
                let topic = topic.join("/");
                if !topic.is_empty() {
                    retained.store(message(&topic, None), usize::MAX);
                    all.insert(topic);
                }
            }
            let mut filter = filter.join("/");
            if hash { filter.push_str("/#"); }
            prop_assume!(!filter.is_empty());
            let filter = TopicFilter::parse(&filter).unwrap();
            let expected: Vec<_> = all.into_iter()
                .filter(|topic| filter.matches(&TopicName::parse(topic).unwrap())).collect();
            let found: Vec<_> = retained.matching(&filter).iter().map(|m| m.topic.to_string()).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
