//! What a session may publish and receive: compiled topic permissions, carried by the session as a value.
//!
//! A grant is a topic filter. Whoever compiles grants (an access list, a fleet) puts names in place of patterns first;
//! here nothing is asked of anybody.

use std::sync::{Arc, LazyLock};

use quoll_mqtt::topic::{covers, overlap};
use quoll_mqtt::{TopicFilter, TopicName};

use crate::ordered::OrderedRules;

/// Topic permissions of one identity. The default allows nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Grants {
    /// Asked in order; the first that says something is the answer, and without any it is no.
    layers: Box<[Layer]>,
    /// Whether a subscription may be wider than what may be received.
    wide: bool,
    /// Whether what is not allowed happens all the same, and is told.
    lenient: bool,
    /// In place of layers.
    ordered: Option<Box<OrderedRules>>,
}

/// Rules of which a denied one wins.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Layer {
    publish: Permission,
    subscribe: Permission,
}

/// One direction.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Permission {
    /// Everything, `$` topics included; `allowed` is not looked at.
    all: bool,
    allowed: Box<[TopicFilter]>,
    denied: Box<[TopicFilter]>,
}

impl Grants {
    /// Everything is allowed, topics that begin with `$` included.
    #[must_use]
    pub fn all() -> Self {
        let all = || Permission { all: true, ..Permission::default() };
        Self { layers: [Layer { publish: all(), subscribe: all() }].into(), ..Self::default() }
    }

    /// [`Self::all`], one for everybody: where no list is set up there are as many holders as connections.
    #[must_use]
    pub fn everything() -> Arc<Self> {
        static EVERYTHING: LazyLock<Arc<Grants>> = LazyLock::new(|| Arc::new(Grants::all()));
        Arc::clone(&EVERYTHING)
    }

    /// Nothing is allowed.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Topics that match one of `publish` may be published to, filters that one of `subscribe` covers may be
    /// subscribed to. The filter `#` does not speak for topics that begin with `$`, as everywhere [MQTT-4.7.2-1].
    #[must_use]
    pub fn new(publish: &[TopicFilter], subscribe: &[TopicFilter]) -> Self {
        let allowing =
            |filters: &[TopicFilter]| Permission { allowed: filters.into(), ..Permission::default() };
        Self {
            layers: [Layer { publish: allowing(publish), subscribe: allowing(subscribe) }].into(),
            ..Self::default()
        }
    }

    /// What ordered rules allow. They have an answer to everything: no layer is asked beside them.
    #[must_use]
    pub fn ordered(rules: OrderedRules) -> Self {
        Self { ordered: Some(Box::new(rules)), ..Self::default() }
    }

    /// The same but for these: a denied filter wins over an allowed one (`deny` of Mosquitto's access list). Of layered
    /// grants, over those of all layers.
    #[must_use]
    pub fn denying(mut self, publish: &[TopicFilter], subscribe: &[TopicFilter]) -> Self {
        if self.layers.is_empty() {
            self.layers = [Layer::default()].into();
        }
        if let Some(first) = self.layers.first_mut() {
            first.publish.denied = publish.into();
            first.subscribe.denied = subscribe.into();
        }
        self
    }

    /// These, and for what they say nothing about, `weaker` ones: an access list's section over its patterns, ordered
    /// rules of which the first that fits is the answer.
    #[must_use]
    pub fn over(self, weaker: Self) -> Self {
        let (wide, lenient) = (self.wide || weaker.wide, self.lenient || weaker.lenient);
        let ordered = self.ordered.or(weaker.ordered);
        Self { layers: self.layers.into_iter().chain(weaker.layers).collect(), wide, lenient, ordered }
    }

    /// The same, but any filter may be subscribed to; what may not be received is left out at delivery, as Mosquitto's
    /// access list does it.
    #[must_use]
    pub const fn with_wide_subscriptions(mut self) -> Self {
        self.wide = true;
        self
    }

    /// The same, but what they do not allow happens all the same and is told ([`crate::vocabulary::Event::Denied`]): to
    /// learn what a client needs before its list is enforced. Topics that are the server's own stay out of reach.
    #[must_use]
    pub const fn leniently(mut self) -> Self {
        self.lenient = true;
        self
    }

    /// Whether what they do not allow happens all the same.
    #[must_use]
    pub const fn is_lenient(&self) -> bool {
        self.lenient
    }

    /// Whether they allow publishing to this topic; of lenient ones, whether there is nothing to tell.
    #[must_use]
    pub fn may_publish(&self, topic: &TopicName) -> bool {
        if let Some(rules) = &self.ordered {
            return rules.may_publish(topic);
        }
        self.layers.iter().find_map(|layer| layer.publish.says(topic)).unwrap_or(false)
    }

    /// Whether a message of this topic may be delivered.
    #[must_use]
    pub fn may_receive(&self, topic: &TopicName) -> bool {
        if let Some(rules) = &self.ordered {
            return self.lenient || rules.may_receive(topic);
        }
        self.lenient || self.layers.iter().find_map(|layer| layer.subscribe.says(topic)).unwrap_or(false)
    }

    /// Whether this filter may be subscribed to; of a shared one the filter behind the share name counts. Of lenient
    /// grants, whether there is nothing to tell.
    #[must_use]
    pub fn may_subscribe(&self, filter: &TopicFilter) -> bool {
        if let Some(rules) = &self.ordered {
            return self.wide || rules.may_subscribe(filter);
        }
        self.wide || self.lists_all_of(filter) || self.lets_in_but_for_a_part(filter.unshared())
    }

    /// Whether this filter may be unsubscribed from; only ordered rules ever forbid it.
    #[must_use]
    pub fn may_unsubscribe(&self, filter: &TopicFilter) -> bool {
        self.lenient || self.ordered.as_ref().is_none_or(|rules| rules.may_unsubscribe(filter))
    }

    /// Whether all that this filter can match may be received, so that deliveries need no second look. May be `false`
    /// where only several filters together allow it all.
    #[must_use]
    pub fn covers(&self, filter: &TopicFilter) -> bool {
        self.lenient || self.lists_all_of(filter)
    }

    fn lists_all_of(&self, filter: &TopicFilter) -> bool {
        let filter = filter.unshared();
        if let Some(rules) = &self.ordered {
            return rules.covers(filter);
        }
        for (depth, layer) in self.layers.iter().enumerate() {
            let permission = &layer.subscribe;
            // What a stronger layer allows, this one cannot deny.
            let is_decided = |denied: &str| {
                self.layers[..depth].iter().any(|stronger| stronger.subscribe.allows_all_of(denied))
            };
            let mut denied = permission.denied.iter().map(TopicFilter::unshared);
            if denied.any(|denied| overlap(denied, filter) && !is_decided(denied)) {
                return false;
            }
            if permission.allows_all_of(filter) {
                return true;
            }
        }
        false
    }

    /// Whether everything is allowed but for parts of this filter.
    fn lets_in_but_for_a_part(&self, filter: &str) -> bool {
        for layer in &self.layers {
            if layer.subscribe.denies_all_of(filter) {
                return false;
            }
            if layer.subscribe.all {
                return true;
            }
        }
        false
    }
}

impl Permission {
    fn says(&self, topic: &TopicName) -> Option<bool> {
        if matches_any(&self.denied, topic) {
            return Some(false);
        }
        (self.all || matches_any(&self.allowed, topic)).then_some(true)
    }

    fn allows_all_of(&self, filter: &str) -> bool {
        self.all || self.allowed.iter().any(|granted| covers(granted.unshared(), filter))
    }

    fn denies_all_of(&self, filter: &str) -> bool {
        self.denied.iter().any(|denied| covers(denied.unshared(), filter))
    }
}

fn matches_any(filters: &[TopicFilter], topic: &TopicName) -> bool {
    filters.iter().any(|filter| filter.matches(topic))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    fn topic(text: &str) -> TopicName {
        TopicName::parse(text).unwrap()
    }

    #[test]
    fn a_grant_covers_what_it_matches_and_nothing_wider() {
        let table = [
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "a/+/c", true),
            ("a/#", "#", false),
            ("a/+", "a/+", true),
            ("a/+", "a/#", false),
            ("a/+", "a/b/c", false),
            ("+/#", "#", true),
            ("#", "$SYS/#", false),
            ("$SYS/#", "$SYS/broker/+", true),
            ("+/b", "$SYS/b", false),
            ("a/+/#", "a/#", false),
            ("#", "$share/g/a", true),
            ("a", "$share/g/b", false),
        ];
        for (granted, wanted, expected) in table {
            let grants = Grants::new(&[], &[filter(granted)]);
            assert_eq!(grants.may_subscribe(&filter(wanted)), expected, "{granted} for {wanted}");
        }
    }

    #[test]
    fn all_allows_dollar_topics_too_and_none_allows_nothing() {
        assert!(
            Grants::all().may_publish(&topic("$SYS/x")) && Grants::all().may_subscribe(&filter("$SYS/#"))
        );
        assert!(!Grants::none().may_publish(&topic("a")) && !Grants::none().may_subscribe(&filter("a")));
    }

    #[test]
    fn what_is_denied_wins_over_what_is_allowed() {
        let grants = Grants::all().denying(&[filter("a/secret")], &[filter("a/secret/#")]);
        assert!(!grants.may_publish(&topic("a/secret")) && grants.may_publish(&topic("a/open")));
        assert!(grants.may_subscribe(&filter("a/#")) && !grants.covers(&filter("a/#")));
        assert!(!grants.may_receive(&topic("a/secret/x")) && !grants.may_subscribe(&filter("a/secret/x")));
    }

    #[test]
    fn a_wide_subscription_is_let_in_and_left_to_the_check_at_delivery() {
        let grants = Grants::new(&[], &[filter("a/#")]).with_wide_subscriptions();
        assert!(grants.may_subscribe(&filter("#")) && !grants.covers(&filter("#")));
        assert!(grants.may_receive(&topic("a/b")) && !grants.may_receive(&topic("b")));
    }

    #[test]
    fn lenient_grants_let_everything_through_and_still_tell_what_they_do_not_allow() {
        let grants = Grants::new(&[filter("a/#")], &[filter("a/#")]).leniently();
        assert!(grants.may_publish(&topic("a/b")) && !grants.may_publish(&topic("b")));
        assert!(grants.may_subscribe(&filter("a/+")) && !grants.may_subscribe(&filter("#")));
        assert!(
            grants.may_receive(&topic("b")) && grants.covers(&filter("#")),
            "it is delivered all the same"
        );
        assert!(Grants::none().over(grants).is_lenient());
    }

    #[test]
    fn a_layer_answers_where_the_stronger_one_says_nothing() {
        let strong =
            Grants::new(&[filter("a/+")], &[filter("a/+")]).denying(&[filter("a/no")], &[filter("a/no")]);
        let weak = Grants::new(&[filter("a/no"), filter("b")], &[filter("#")]).denying(&[], &[filter("a/x")]);
        let grants = strong.over(weak);
        assert!(!grants.may_publish(&topic("a/no")) && grants.may_publish(&topic("b")));
        assert!(grants.may_receive(&topic("a/x")), "the stronger layer allows it");
        assert!(grants.may_receive(&topic("c/d")) && !grants.may_receive(&topic("a/no")));
        assert!(
            grants.covers(&filter("c/#")) && grants.covers(&filter("a/x")) && !grants.covers(&filter("a/+"))
        );
        assert!(Grants::none().over(Grants::all()).may_subscribe(&filter("$SYS/#")));
        let nearly_all = Grants::none().denying(&[], &[filter("s/+")]).over(Grants::all());
        assert!(nearly_all.may_subscribe(&filter("s/#")) && !nearly_all.may_subscribe(&filter("s/1")));
    }

    fn level() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("a"), Just("b"), Just("$s"), Just("")]
    }

    fn any_filter() -> impl Strategy<Value = String> {
        let level = prop_oneof![3 => level(), 2 => Just("+")];
        (proptest::collection::vec(level, 1..4), any::<bool>()).prop_filter_map("empty", |(levels, hash)| {
            let mut text = levels.join("/");
            if hash {
                text.push_str(if text.is_empty() { "#" } else { "/#" });
            }
            TopicFilter::parse(&text).ok().map(|filter| filter.to_string())
        })
    }

    fn any_layer() -> impl Strategy<Value = Grants> {
        let filters = || proptest::collection::vec(any_filter(), 0..3);
        (filters(), filters()).prop_map(|(allowed, denied)| {
            let parsed = |texts: Vec<String>| texts.iter().map(|text| filter(text)).collect::<Vec<_>>();
            Grants::new(&[], &parsed(allowed)).denying(&[], &parsed(denied))
        })
    }

    proptest! {
        /// What is covered needs no second look: each topic of it may be received.
        #[test]
        fn what_layers_cover_they_allow(
            layers in proptest::collection::vec(any_layer(), 1..4), wanted in any_filter(), topics in any_filter(),
        ) {
            let grants = layers.into_iter().reduce(Grants::over).unwrap_or_default();
            let wanted = filter(&wanted);
            if let Ok(name) = TopicName::parse(&topics.replace(['+', '#'], "z"))
                && grants.covers(&wanted)
                && wanted.matches(&name)
            {
                prop_assert!(grants.may_receive(&name));
            }
        }
    }
}
