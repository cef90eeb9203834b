//! Ordered rules: the first that fits is the answer. How Mosquitto's dynamic security decides.
//!
//! Publishing, receiving, subscribing and unsubscribing have rules of their own here, unlike in an access list's layers
//! (see `access`): what may be subscribed to and what of it is delivered are two questions.

use quoll_mqtt::topic::{covers, overlap};
use quoll_mqtt::{TopicFilter, TopicName};

/// What rules never allow unless one of them says so.
const RESERVED: &str = "$CONTROL";

/// Permissions as rules in the order of asking.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OrderedRules {
    /// About topics that are published to.
    pub publish: Box<[TopicRule]>,
    /// About topics of messages that are delivered.
    pub receive: Box<[TopicRule]>,
    /// About filters that are subscribed to.
    pub subscribe: Box<[FilterRule]>,
    /// About filters that are unsubscribed from.
    pub unsubscribe: Box<[FilterRule]>,
    /// The answers where no rule fits. They do not speak for `$CONTROL`.
    pub usual: Usual,
}

/// A rule about topics.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicRule {
    /// The topics.
    pub filter: TopicFilter,
    /// Whether it allows or denies.
    pub allow: bool,
}

/// A rule about filters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FilterRule {
    /// About this very filter.
    Literal {
        /// The filter, without a share's name.
        filter: Box<str>,
        /// Whether it allows or denies.
        allow: bool,
    },
    /// About all filters that this one covers.
    Pattern {
        /// The filter.
        filter: TopicFilter,
        /// Whether it allows or denies.
        allow: bool,
    },
    /// Denies all filters with wildcards.
    NoWildcards,
}

/// Answers where no rule fits: whether it is allowed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usual {
    /// To publish.
    pub publish: bool,
    /// To receive.
    pub receive: bool,
    /// To subscribe.
    pub subscribe: bool,
    /// To unsubscribe.
    pub unsubscribe: bool,
}

impl OrderedRules {
    pub(crate) fn may_publish(&self, topic: &TopicName) -> bool {
        decide(&self.publish, self.usual.publish, topic)
    }

    pub(crate) fn may_receive(&self, topic: &TopicName) -> bool {
        decide(&self.receive, self.usual.receive, topic)
    }

    pub(crate) fn may_subscribe(&self, filter: &TopicFilter) -> bool {
        settle(&self.subscribe, self.usual.subscribe, filter)
    }

    pub(crate) fn may_unsubscribe(&self, filter: &TopicFilter) -> bool {
        settle(&self.unsubscribe, self.usual.unsubscribe, filter)
    }

    /// Whether all that this filter, without share, can match may be received.
    pub(crate) fn covers(&self, filter: &str) -> bool {
        for rule in &self.receive {
            let about = rule.filter.unshared();
            if rule.allow && covers(about, filter) {
                return true;
            }
            if !rule.allow && overlap(about, filter) {
                return false;
            }
        }
        self.usual.receive && !filter.starts_with(RESERVED)
    }
}

fn decide(rules: &[TopicRule], usual: bool, topic: &TopicName) -> bool {
    let rule = rules.iter().find(|rule| rule.filter.matches(topic));
    rule.map_or_else(|| usual && !topic.as_str().starts_with(RESERVED), |rule| rule.allow)
}

fn settle(rules: &[FilterRule], usual: bool, filter: &TopicFilter) -> bool {
    let text = filter.unshared();
    let says = |rule: &FilterRule| match rule {
        FilterRule::Literal { filter, allow } => (**filter == *text).then_some(*allow),
        FilterRule::Pattern { filter, allow } => covers(filter.unshared(), text).then_some(*allow),
        FilterRule::NoWildcards => filter.is_wildcard().then_some(false),
    };
    rules.iter().find_map(says).unwrap_or_else(|| usual && !text.starts_with(RESERVED))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::access::Grants;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    fn topic(text: &str) -> TopicName {
        TopicName::parse(text).unwrap()
    }

    fn topics(rules: &[(&str, bool)]) -> Box<[TopicRule]> {
        rules.iter().map(|(text, allow)| TopicRule { filter: filter(text), allow: *allow }).collect()
    }

    #[test]
    fn the_first_rule_that_fits_is_the_answer_for_each_kind_of_act() {
        let literal = |text: &str, allow| FilterRule::Literal { filter: text.into(), allow };
        let pattern = |text: &str, allow| FilterRule::Pattern { filter: filter(text), allow };
        let grants = Grants::ordered(OrderedRules {
            publish: topics(&[("a/no", false), ("a/+", true)]),
            receive: topics(&[("a/secret", false)]),
            subscribe: [literal("l/+", true), pattern("a/#", true), FilterRule::NoWildcards].into(),
            unsubscribe: [literal("a/keep", false)].into(),
            usual: Usual { publish: false, receive: true, subscribe: true, unsubscribe: true },
        });
        assert!(grants.may_publish(&topic("a/x")) && !grants.may_publish(&topic("a/no")));
        assert!(!grants.may_publish(&topic("b")) && grants.may_receive(&topic("b")));
        assert!(!grants.may_receive(&topic("a/secret")) && !grants.may_receive(&topic("$CONTROL/x")));
        for (wanted, expected) in [
            ("l/+", true),
            ("l/#", false),
            ("a/+/c", true),
            ("a/secret", true),
            ("$share/g/a/#", true),
            ("b", true),
            ("$CONTROL/x", false),
        ] {
            assert_eq!(grants.may_subscribe(&filter(wanted)), expected, "{wanted}");
        }
        assert!(!grants.may_unsubscribe(&filter("a/keep")) && grants.may_unsubscribe(&filter("a/other")));
        assert!(!grants.covers(&filter("a/#")) && grants.covers(&filter("b/#")));
    }

    fn any_filter() -> impl Strategy<Value = String> {
        let level = prop_oneof![Just("a"), Just("b"), Just("$s"), Just("+")];
        (proptest::collection::vec(level, 1..4), any::<bool>()).prop_map(|(levels, hash)| {
            let text = levels.join("/");
            if hash { format!("{text}/#") } else { text }
        })
    }

    proptest! {
        /// What is covered needs no second look: each topic of it may be received.
        #[test]
        fn what_ordered_rules_cover_they_allow(
            rules in proptest::collection::vec((any_filter(), any::<bool>()), 0..4),
            usual in any::<bool>(), wanted in any_filter(), topics in any_filter(),
        ) {
            let rule = |(text, allow): &(String, bool)| TopicRule { filter: filter(text), allow: *allow };
            let grants = Grants::ordered(OrderedRules {
                receive: rules.iter().map(rule).collect(),
                usual: Usual { receive: usual, ..Usual::default() },
                ..OrderedRules::default()
            });
            let wanted = filter(&wanted);
            let name = topic(&topics.replace(['+', '#'], "a"));
            if grants.covers(&wanted) && wanted.matches(&name) {
                prop_assert!(grants.may_receive(&name));
            }
        }
    }
}
