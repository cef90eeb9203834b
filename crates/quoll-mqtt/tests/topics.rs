//! Topic names and filters against the standard's examples, and matching against a plain recursive oracle.

mod support;

use proptest::prelude::*;
use quoll_mqtt::topic::{TopicError, covers, matches, overlap};
use quoll_mqtt::{TopicFilter, TopicName};

#[test]
fn the_standards_examples_match_as_it_says() {
    for (filter, topic, wanted) in [
        // §4.7.1.2
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("sport/#", "sport", true),
        ("#", "sport", true),
        // §4.7.1.3
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        // §4.7.2
        ("#", "$SYS/broker", false),
        ("+/monitor/Clients", "$SYS/monitor/Clients", false),
        ("$SYS/#", "$SYS/broker", true),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
        // §4.7.3
        ("ACCOUNTS", "Accounts", false),
        ("/finance", "finance", false),
        ("a//b", "a//b", true),
        ("a/+/b", "a//b", true),
        ("sport", "sport/", false),
        ("sport/#", "sports", false),
    ] {
        let (name, filter) = (TopicName::parse(topic).unwrap(), TopicFilter::parse(filter).unwrap());
        assert_eq!(filter.matches(&name), wanted, "{filter} and {topic}");
        let shared = TopicFilter::parse(&format!("$share/group/{filter}")).unwrap();
        assert_eq!(shared.matches(&name), wanted, "{shared} and {topic}");
    }
}

#[test]
fn what_is_no_topic_name_is_refused() {
    let long = "x".repeat(65_536);
    for (text, wanted) in [
        ("", TopicError::Empty),
        ("a+", TopicError::Wildcard),
        ("a/#", TopicError::Wildcard),
        ("a\0", TopicError::Nul),
        (&long, TopicError::TooLong),
    ] {
        assert_eq!(TopicName::parse(text), Err(wanted), "{text:.9}");
    }
    assert!(TopicName::parse(&long[1..]).is_ok());
}

#[test]
fn what_is_no_topic_filter_is_refused() {
    let long = "x".repeat(65_536);
    for (text, wanted) in [
        ("", TopicError::Empty),
        ("sport/tennis#", TopicError::Wildcard),
        ("sport/tennis/#/ranking", TopicError::Wildcard),
        ("sport+", TopicError::Wildcard),
        ("+a/b", TopicError::Wildcard),
        ("##", TopicError::Wildcard),
        ("a\0", TopicError::Nul),
        (&long, TopicError::TooLong),
        ("$share/", TopicError::Share),
        ("$share/g", TopicError::Share),
        ("$share/g/", TopicError::Share),
        ("$share//a", TopicError::Share),
        ("$share/+/a", TopicError::Share),
        ("$share", TopicError::Share),
        ("$share/#/a", TopicError::Wildcard),
        ("$share/g+/a", TopicError::Wildcard),
        ("$share/g/a#", TopicError::Wildcard),
    ] {
        assert_eq!(TopicFilter::parse(text), Err(wanted), "{text:.30}");
    }
}

#[test]
fn a_shared_filter_has_a_name_and_a_filter() {
    let shared = TopicFilter::parse("$share/consumer1//finance").unwrap(); // §4.8.2
    let share = shared.share().unwrap();
    assert_eq!((share.name, share.filter), ("consumer1", "/finance"));
    assert_eq!(shared.unshared(), "/finance");
    assert_eq!(shared.levels().collect::<Vec<_>>(), ["", "finance"]);
    assert!(!shared.is_wildcard());
    assert_eq!(TopicFilter::parse("$shared/a/b").unwrap().share(), None);
}

#[test]
fn a_filter_covers_what_it_matches_and_nothing_wider() {
    for (outer, inner, covered, overlapping) in [
        ("a/#", "a", true, true),
        ("a/#", "a/b/c", true, true),
        ("a/#", "a/+/c", true, true),
        ("a/#", "#", false, true),
        ("a/+", "a/+", true, true),
        ("a/+", "a/#", false, true),
        ("a/+", "a/b/c", false, false),
        ("+/#", "#", true, true),
        ("#", "+/#", true, true),
        ("#", "$SYS/#", false, false),
        ("$SYS/#", "$SYS/broker/+", true, true),
        ("+/b", "$SYS/b", false, false),
        ("a/+/#", "a/#", false, true),
        ("a/+", "+/b", false, true),
        ("+", "/#", false, false), // no topic is empty
        ("/+/#", "/#", true, true),
        ("+/+/#", "/#", true, true),
        ("#", "$share/g/a", true, true),
        ("$share/g/a", "$share/h/a", true, true),
        ("a", "$share/g/b", false, false),
    ] {
        let (one, other) = (TopicFilter::parse(outer).unwrap(), TopicFilter::parse(inner).unwrap());
        let (one, other) = (one.unshared(), other.unshared());
        assert_eq!(covers(one, other), covered, "{outer} and {inner}");
        assert_eq!(overlap(one, other), overlapping, "{outer} and {inner}");
        assert_eq!(overlap(other, one), overlapping, "{inner} and {outer}");
    }
}

/// The rules of §4.7, said once more as plainly as possible.
fn naive(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) | ([], []) => true,
        (["+", filter @ ..], [_, topic @ ..]) => naive(filter, topic),
        ([wanted, filter @ ..], [level, topic @ ..]) => wanted == level && naive(filter, topic),
        _ => false,
    }
}

proptest! {
    #![proptest_config(support::cases(5_000))]

    #[test]
    fn matching_agrees_with_the_plain_rules(
        filter in "(\\+|[ab$]{0,2})(/(\\+|[ab$]{0,1})){0,4}(/#)?",
        topic in "[ab$]{0,2}(/[ab$]{0,1}){0,5}",
    ) {
        prop_assume!(!filter.is_empty() && !topic.is_empty());
        let levels: Vec<_> = topic.split('/').collect();
        let wanted: Vec<_> = filter.split('/').collect();
        let hidden = topic.starts_with('$') && matches!(wanted[0], "+" | "#");
        prop_assert_eq!(matches(&filter, &topic), !hidden && naive(&wanted, &levels));
    }

    /// Against the meaning: all topics of up to four levels of a small alphabet.
    #[test]
    fn covering_and_overlapping_agree_with_matching(
        outer in "(\\+|a|b|\\$s|)(/(\\+|a|b|\\$s|)){0,2}(/#)?|#", inner in "(\\+|a|b|\\$s|)(/(\\+|a|b|\\$s|)){0,2}(/#)?|#",
    ) {
        prop_assume!(!outer.is_empty() && !inner.is_empty());
        let alphabet = ["a", "b", "$s", "", "z"];
        let mut topics: Vec<String> = alphabet.iter().map(|it| (*it).to_owned()).collect();
        let mut last = topics.clone();
        for _ in 0..3 {
            last = last.iter().flat_map(|head| alphabet.iter().map(move |level| format!("{head}/{level}"))).collect();
            topics.extend(last.iter().cloned());
        }
        topics.retain(|topic| !topic.is_empty());
        let all = topics.iter().filter(|topic| matches(&inner, topic)).all(|topic| matches(&outer, topic));
        let some = topics.iter().any(|topic| matches(&inner, topic) && matches(&outer, topic));
        prop_assert_eq!(covers(&outer, &inner), all);
        prop_assert_eq!(overlap(&outer, &inner), some);
    }

    #[test]
    fn parsing_a_filter_never_panics_and_what_it_accepts_can_be_matched(text in "[$a-z+#/\0]{0,12}|\\$share/[a+]{0,2}/.{0,4}") {
        if let Ok(filter) = TopicFilter::parse(&text) {
            prop_assert_eq!(filter.as_str(), &text);
            let concrete = filter.unshared().replace(['+', '#'], "x");
            let name = TopicName::parse(&concrete).expect("no wildcard is left");
            prop_assert!(filter.matches(&name) || name.is_dollar(), "{} and {}", filter, name);
        }
    }
}
