//! Retained messages.

use crate::prelude::*;

fn keep(v: Version, topic: &str, payload: &str, qos: u8) {
    Client::fresh(v).publish(&publish(topic, payload).qos(qos, 1).retained());
}

fn newcomer(v: Version, filter: &str) -> Client {
    let mut client = Client::fresh(v);
    client.must_subscribe(filter, 2);
    client
}

/// Kept with its QoS and handed to a new subscription with RETAIN set.
pub fn a_retained_message_is_kept_with_its_qos(v: Version) {
    for qos in 0..3 {
        let topic = unique_topic();
        keep(v, &topic, "kept", qos);
        let message = newcomer(v, &topic).expect_message("kept");
        assert_eq!((message.topic, message.qos, message.retain), (topic, qos, true));
    }
}

/// A newer one replaces it, whatever the QoS of either.
pub fn a_newer_retained_message_replaces_it(v: Version) {
    for (first, second) in [(1, 1), (2, 0), (0, 2)] {
        let topic = unique_topic();
        keep(v, &topic, "old", first);
        keep(v, &topic, "new", second);
        let mut client = newcomer(v, &topic);
        assert_eq!(client.expect_message("new").qos, second);
        client.expect_quiet();
    }
}

/// An empty payload removes it; those who are subscribed hear the empty message.
pub fn an_empty_payload_removes_the_retained_message(v: Version) {
    let topic = unique_topic();
    keep(v, &topic, "kept", 1);
    let mut old = newcomer(v, &topic);
    old.expect_message("kept");
    keep(v, &topic, "", 1);
    assert!(!old.expect_message("").retain, "RETAIN is for new subscriptions");
    newcomer(v, &topic).expect_quiet();
}

/// An empty one is not kept itself.
pub fn an_empty_retained_message_is_not_kept(v: Version) {
    let topic = unique_topic();
    keep(v, &topic, "", 0);
    newcomer(v, &topic).expect_quiet();
}

/// A message without RETAIN leaves the retained one alone.
pub fn a_message_without_retain_changes_nothing(v: Version) {
    let topic = unique_topic();
    keep(v, &topic, "kept", 0);
    let mut publisher = Client::fresh(v);
    publisher.publish(&publish(topic.as_str(), "passing").qos(1, 5));
    publisher.publish(&publish(topic.as_str(), ""));
    let mut client = newcomer(v, &topic);
    client.expect_message("kept");
    client.expect_quiet();
}

/// Not kept when it was not marked.
pub fn a_message_without_retain_is_not_kept(v: Version) {
    let topic = unique_topic();
    let mut witness = newcomer(v, &topic);
    Client::fresh(v).publish(&publish(topic.as_str(), "passing").qos(1, 5));
    witness.expect_message("passing");
    newcomer(v, &topic).expect_quiet();
}

/// Each matching topic's last one is handed to a new wildcard subscription.
pub fn a_wildcard_subscription_gets_each_matching_one(v: Version) {
    let base = unique_topic();
    for name in ["a", "b", "a/c"] {
        keep(v, &format!("{base}/{name}"), name, 0);
    }
    for (filter, expected) in [("#", "a,a/c,b"), ("+", "a,b"), ("+/c", "a/c"), ("a/#", "a,a/c"), ("x/#", "")]
    {
        let mut client = newcomer(v, &format!("{base}/{filter}"));
        let mut found = Vec::new();
        while let Heard::Packet(packet) = client.listen(Duration::from_millis(200)) {
            let message = packet.publish(v);
            assert!(message.retain);
            found.push(message.text());
        }
        found.sort();
        assert_eq!(found.join(","), expected, "filter {filter}");
    }
}

/// RETAIN is 0 towards a subscription that was there before.
pub fn an_established_subscription_gets_it_without_retain(v: Version) {
    let topic = unique_topic();
    let mut client = newcomer(v, &topic);
    for qos in 0..3 {
        keep(v, &topic, "live", qos);
        assert!(!client.expect_message("live").retain);
    }
}

/// It outlives the session of its publisher, also a clean one.
pub fn a_retained_message_outlives_its_publishers_session(v: Version) {
    let topic = unique_topic();
    let connect = Connect::new(v, unique_id());
    let mut publisher = Client::connect(&connect);
    publisher.publish(&publish(topic.as_str(), "kept").retained());
    publisher.leave();
    Client::connect(&connect).leave();
    newcomer(v, &topic).expect_message("kept");
}

/// Subscribing to the same filter once more sends it once more.
pub fn subscribing_again_sends_it_again(v: Version) {
    let topic = unique_topic();
    keep(v, &topic, "kept", 1);
    let mut client = newcomer(v, &topic);
    client.expect_message("kept");
    client.must_subscribe(&topic, 1);
    assert!(client.expect_message("kept").retain);
}

/// Coming back to a session is no new subscription.
pub fn resuming_a_session_sends_no_retained_message(v: Version) {
    let topic = unique_topic();
    let connect = Connect::lasting(v, unique_id());
    let mut client = Client::connect(&connect);
    client.must_subscribe(&topic, 1);
    client.leave();
    keep(v, &topic, "kept while away", 0);
    let mut client = Client::connect(&connect);
    // QoS 0 may or may not have been queued; what comes is no retained message of a new subscription.
    if let Heard::Packet(packet) = client.listen(Duration::from_millis(200)) {
        assert!(!packet.publish(v).retain, "{packet:?}");
    }
    client.expect_quiet();
}

/// The QoS of a retained message is lowered to what was granted.
pub fn its_qos_is_lowered_to_the_granted_one(v: Version) {
    let topic = unique_topic();
    keep(v, &topic, "kept", 2);
    for granted in 0..3 {
        let mut client = Client::fresh(v);
        client.must_subscribe(&topic, granted);
        assert_eq!(client.expect_message("kept").qos, granted);
    }
}
