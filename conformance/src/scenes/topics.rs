//! Topic names and filters: the wildcard table, `$` topics, case, spaces, Unicode. MQTT 5.0 §4.7 · 3.1.1 §4.7.

use crate::client::PATIENCE;
use crate::prelude::*;

/// Filter, topic, do they match. Levels are put behind a prefix of the test's own where the first level does not matter.
const BELOW_A_PREFIX: &[(&str, &str, bool)] = &[
    ("sport/tennis/player1/#", "sport/tennis/player1", true),
    ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
    ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
    ("sport/tennis/player1/#", "sport/tennis/player10", false),
    ("sport/#", "sport", true),
    ("sport/tennis/+", "sport/tennis/player1", true),
    ("sport/tennis/+", "sport/tennis/player1/ranking", false),
    ("sport/tennis/+", "sport/tennis", false),
    ("sport/+", "sport", false),
    ("sport/+", "sport/", true),
    ("+", "finance", true),
    ("+", "/finance", false),
    ("+/+", "/finance", true),
    ("/+", "/finance", true),
    ("+/tennis/#", "sport/tennis/x/y", true),
    ("+/tennis/#", "sport/tennis", true),
    ("+/tennis/#", "sport/football", false),
    ("sport/+/player1", "sport/tennis/player1", true),
    ("sport/+/player1", "sport//player1", true),
    ("sport/+/player1", "sport/a/b/player1", false),
    ("+/+/+", "a/b/c", true),
    ("+/+/+", "a/b", false),
    ("+/+/+", "//", true),
    ("#", "a", true),
    ("#", "/", true),
    ("#", "a/b/c/d/e/f", true),
    ("/", "/", true),
    ("/", "//", false),
    ("a/", "a", false),
    ("a", "a/", false),
    ("/a", "a", false),
    ("a//b", "a/b", false),
    ("a//b", "a//b", true),
    ("ACCOUNTS", "Accounts", false),
    ("Accounts payable", "Accounts payable", true),
    ("Accounts payable", "Accounts  payable", false),
    (" a", "a", false),
    ("a/./b", "a/b", false),
    ("a/../b", "b", false),
    ("a%2Fb", "a/b", false),
    ("\u{e9}", "e\u{301}", false),
    ("\u{feff}a", "a", false),
    ("\u{feff}a", "\u{feff}a", true),
    ("grün/käse/\u{1f9c0}", "grün/käse/\u{1f9c0}", true),
    ("+/\u{1f9c0}", "käse/\u{1f9c0}", true),
    ("x/$SYS", "x/$SYS", true),
    ("+/$data", "x/$data", true),
];

/// The standard's table and what follows from it.
pub fn filters_match_as_the_table_says(v: Version) {
    let mut publisher = Client::fresh(v);
    let mut rows = Rows::default();
    for (filter, topic, matches) in BELOW_A_PREFIX {
        let base = unique_topic();
        let mut client = Client::fresh(v);
        client.must_subscribe(&format!("{base}/{filter}"), 0);
        let topic = format!("{base}/{topic}");
        publisher.publish(&publish(topic.as_str(), "m"));
        let heard = matches!(
            client.listen(if *matches { PATIENCE } else { Duration::from_millis(60) }),
            Heard::Packet(_)
        );
        rows.equal(&format!("{filter} {topic}"), &heard, matches);
    }
    rows.finish();
}

/// The topic of a delivered message is the one it was published to.
pub fn a_delivered_topic_matches_its_filter(v: Version) {
    let base = unique_topic();
    let mut client = Client::fresh(v);
    client.must_subscribe(&format!("{base}/#"), 0);
    let mut publisher = Client::fresh(v);
    for name in ["", "/", "a", "A", "a b", "\u{feff}", "käse", "$x"] {
        let topic = format!("{base}/{name}");
        publisher.publish(&publish(topic.as_str(), "m"));
        assert_eq!(client.expect_message("m").topic, topic);
    }
}

/// A wildcard at the start does not match a `$` topic.
pub fn a_leading_wildcard_does_not_match_dollar_topics(v: Version) {
    let name = unique_id();
    let mut client = Client::fresh(v);
    for filter in [format!("+/{name}"), format!("+/{name}/#")] {
        client.must_subscribe(&filter, 0);
    }
    let mut everything = Client::fresh(v);
    everything.must_subscribe("#", 0);
    let mut publisher = Client::fresh(v);
    publisher.publish(&publish(format!("$conformance/{name}"), "hidden"));
    client.expect_quiet();
    publisher.publish(&publish(format!("conformance/{name}"), "seen"));
    client.expect_message("seen");
    loop {
        let topic = everything.take().topic;
        assert!(!topic.starts_with('$'), "# matched {topic}");
        if topic == format!("conformance/{name}") {
            return;
        }
    }
}

/// A filter that names the `$` level matches; whether a client may publish there is the broker's own affair, so the
/// subject's own `$SYS` tree is asked too.
pub fn a_filter_that_names_the_dollar_level_matches(v: Version) {
    let name = unique_id();
    let mut client = Client::fresh(v);
    client.must_subscribe(&format!("$conformance/{name}/+"), 0);
    Client::fresh(v).publish(&publish(format!("$conformance/{name}/x"), "named"));
    client.expect_message("named");
}

/// Filters that are none: refused in SUBACK, or the end of the connection.
pub fn filters_of_wrong_form_are_refused(v: Version) {
    let mut rows = Rows::default();
    for filter in ["", "a#", "a/#/b", "#/a", "##", "a/b#", "a+", "+a", "a/+b", "a/b+/c", "++", "#a"] {
        let mut client = Client::fresh(v);
        client.say(words::subscribe(v, 3, &[(filter, 0)]));
        let (refused, said) = match client.listen(PATIENCE) {
            Heard::Packet(it) if it.kind == kind::SUBACK => {
                (it.body.last().is_some_and(|code| *code >= 0x80), it)
            }
            Heard::Packet(it) => (it.kind == kind::DISCONNECT, it),
            Heard::Closed => continue,
            Heard::Nothing => (false, Packet { kind: 0, flags: 0, body: Vec::new() }),
        };
        rows.check(filter, refused, said);
    }
    rows.check("all rows were played", true, "");
    rows.finish();
}

/// The longest topic there can be passes.
pub fn a_topic_of_65535_bytes_passes(v: Version) {
    let head = format!("{}/", unique_topic());
    // A level of each 100 bytes: brokers may limit the number of levels, the standard limits bytes alone.
    let mut topic = head;
    while topic.len() < 65_535 {
        let room = 65_535 - topic.len();
        topic.push_str(&"x".repeat(room.min(4000)));
        if topic.len() < 65_500 {
            topic.push('/');
        }
    }
    let mut client = Client::fresh(v);
    client.must_subscribe(&topic, 0);
    client.publish(&publish(topic.as_str(), "long"));
    assert!(client.expect_message("long").topic == topic, "the topic was altered");
}
