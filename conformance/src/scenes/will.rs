//! The will: stored, published once when the connection fails, forgotten after DISCONNECT.

use crate::prelude::*;

/// A witness subscribed to a topic of its own.
fn witness(v: Version) -> (Client, String) {
    let topic = unique_topic();
    let mut witness = Client::fresh(v);
    witness.must_subscribe(&topic, 2);
    (witness, topic)
}

/// A connection that breaks publishes the will, exactly once.
pub fn a_broken_connection_publishes_the_will_once(v: Version) {
    let (mut witness, topic) = witness(v);
    let connect = Connect::lasting(v, unique_id()).will(Will::new(topic.clone(), "gone"));
    Client::connect(&connect).vanish();
    let will = witness.expect_message("gone");
    assert_eq!((will.topic, will.qos, will.retain), (topic, 0, false));
    let mut again = connect;
    again.will = None;
    Client::connect(&again).vanish();
    witness.expect_quiet();
}

/// DISCONNECT forgets the will.
pub fn disconnect_forgets_the_will(v: Version) {
    let (mut witness, topic) = witness(v);
    Client::connect(&Connect::new(v, unique_id()).will(Will::new(topic, "gone"))).leave();
    witness.expect_quiet();
}

/// A connection that the broker ends for a protocol error publishes the will.
pub fn a_protocol_error_publishes_the_will(v: Version) {
    let (mut witness, topic) = witness(v);
    let mut client = Client::connect(&Connect::new(v, unique_id()).will(Will::new(topic, "gone")));
    client.say([0x36, 0x00]);
    client.ending();
    witness.expect_message("gone");
}

/// Taking over closes the earlier connection, so its will is published.
pub fn a_takeover_publishes_the_will_of_the_earlier_connection(v: Version) {
    let (mut witness, topic) = witness(v);
    let mut connect = Connect::new(v, unique_id()).will(Will::new(topic, "gone"));
    let _first = Client::connect(&connect);
    connect.will = None;
    let _second = Client::connect(&connect);
    witness.expect_message("gone");
    witness.expect_quiet();
}

/// The will is published with its own QoS and, when new to a subscriber, without RETAIN.
pub fn the_will_has_its_own_qos(v: Version) {
    for qos in 0..3 {
        let (mut witness, topic) = witness(v);
        let mut will = Will::new(topic, "gone");
        will.qos = qos;
        Client::connect(&Connect::new(v, unique_id()).will(will)).vanish();
        assert_eq!(witness.expect_message("gone").qos, qos);
    }
}

/// Will retain 0: nobody who subscribes later hears it.
pub fn a_will_without_retain_is_not_kept(v: Version) {
    let (mut witness, topic) = witness(v);
    Client::connect(&Connect::new(v, unique_id()).will(Will::new(topic.clone(), "gone"))).vanish();
    witness.expect_message("gone");
    let mut late = Client::fresh(v);
    late.must_subscribe(&topic, 0);
    late.expect_quiet();
}

/// Will retain 1: it is kept as the topic's retained message.
pub fn a_will_with_retain_is_kept(v: Version) {
    let (mut witness, topic) = witness(v);
    let mut will = Will::new(topic.clone(), "gone");
    will.retain = true;
    Client::connect(&Connect::new(v, unique_id()).will(will)).vanish();
    assert!(!witness.expect_message("gone").retain, "RETAIN is for new subscriptions");
    let mut late = Client::fresh(v);
    late.must_subscribe(&topic, 0);
    assert!(late.expect_message("gone").retain);
}

/// A connection without will ends silently.
pub fn without_a_will_nothing_is_published(v: Version) {
    let (mut witness, _) = witness(v);
    Client::fresh(v).vanish();
    witness.expect_quiet();
}

/// A will may have an empty payload.
pub fn a_will_may_be_empty(v: Version) {
    let (mut witness, topic) = witness(v);
    Client::connect(&Connect::new(v, unique_id()).will(Will::new(topic, ""))).vanish();
    witness.expect_message("");
}

/// The will of a client reaches that client's own other session, and its own subscription does not keep it.
pub fn a_will_waits_for_its_own_client(v: Version) {
    let topic = unique_topic();
    let mut will = Will::new(topic.clone(), "my own");
    will.qos = 1;
    let mut connect = Connect::lasting(v, unique_id()).will(will);
    let mut client = Client::connect(&connect);
    client.must_subscribe(&topic, 1);
    client.vanish();
    connect.will = None;
    Client::connect(&connect).expect_message("my own");
}
