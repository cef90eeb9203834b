//! Session state: created, stored, discarded.

use crate::prelude::*;

/// Subscriptions and messages of QoS 1 and 2 wait for a client that is away.
pub fn messages_wait_for_a_lasting_session(v: Version) {
    let topic = unique_topic();
    let connect = Connect::lasting(v, unique_id());
    let mut client = Client::connect(&connect);
    client.must_subscribe(&topic, 2);
    client.leave();
    let mut publisher = Client::fresh(v);
    publisher.publish(&publish(topic.as_str(), "one").qos(1, 1));
    publisher.publish(&publish(topic.as_str(), "two").qos(2, 2));
    publisher.publish(&publish(topic.as_str(), "three").qos(1, 3));
    let mut client = Client::connect(&connect);
    for (payload, qos) in [("one", 1), ("two", 2), ("three", 1)] {
        let message = client.expect_message(payload);
        assert_eq!((message.qos, message.dup), (qos, false), "{payload}");
    }
    client.expect_quiet();
    client.leave();
    Client::connect(&connect).expect_quiet();
}

/// The same after a connection that broke.
pub fn messages_wait_after_a_broken_connection(v: Version) {
    let topic = unique_topic();
    let connect = Connect::lasting(v, unique_id());
    let mut client = Client::connect(&connect);
    client.must_subscribe(&topic, 1);
    client.vanish();
    Client::fresh(v).publish(&publish(topic.as_str(), "waited").qos(1, 1));
    Client::connect(&connect).expect_message("waited");
}

/// A clean start forgets subscriptions and waiting messages, for good.
pub fn a_clean_start_forgets_the_session(v: Version) {
    let topic = unique_topic();
    let mut connect = Connect::lasting(v, unique_id());
    let mut client = Client::connect(&connect);
    client.must_subscribe(&topic, 1);
    client.leave();
    let mut publisher = Client::fresh(v);
    publisher.publish(&publish(topic.as_str(), "waiting").qos(1, 1));
    connect.clean = true;
    let mut client = Client::connect(&connect);
    publisher.publish(&publish(topic.as_str(), "live").qos(1, 1));
    client.expect_quiet();
    client.leave();
    connect.clean = false;
    Client::connect(&connect).expect_quiet();
}

/// Without a session there is a new one.
pub fn a_session_is_created_when_there_is_none(v: Version) {
    let (mut client, answer) = Client::try_connect(&Connect::lasting(v, unique_id()));
    assert_eq!((answer.code, answer.session_present), (0, false));
    client.expect_quiet();
}

/// State of a clean session ends with its connection.
pub fn a_clean_session_ends_with_its_connection(v: Version) {
    let topic = unique_topic();
    let id = unique_id();
    let mut client = Client::connect(&Connect::new(v, id.clone()));
    client.must_subscribe(&topic, 1);
    client.leave();
    Client::fresh(v).publish(&publish(topic.as_str(), "nobody").qos(1, 1));
    let (mut client, answer) = Client::try_connect(&Connect::lasting(v, id));
    assert!(!answer.session_present);
    client.publish(&publish(topic.as_str(), "nobody").qos(1, 1));
    client.expect_quiet();
}

/// A second connection of the same session finds an open QoS 2 handshake inwards as it was.
pub fn an_open_qos_2_handshake_inwards_is_remembered(v: Version) {
    let topic = unique_topic();
    let mut subscriber = Client::fresh(v);
    subscriber.must_subscribe(&topic, 2);
    let connect = Connect::lasting(v, unique_id());
    let message = publish(topic.as_str(), "once").qos(2, 7);
    let mut client = Client::connect(&connect);
    client.say(message.bytes(v));
    client.expect_ack(kind::PUBREC, 7);
    client.vanish();
    let mut client = Client::connect(&connect);
    client.say(message.again().bytes(v));
    client.expect_ack(kind::PUBREC, 7);
    client.say(words::acknowledge(kind::PUBREL, 7));
    client.expect_ack(kind::PUBCOMP, 7);
    subscriber.expect_message("once");
    subscriber.expect_quiet();
}

/// An unsubscribed filter stays unsubscribed over reconnects.
pub fn an_unsubscription_is_remembered(v: Version) {
    let topic = unique_topic();
    let connect = Connect::lasting(v, unique_id());
    let mut client = Client::connect(&connect);
    client.must_subscribe(&topic, 1);
    let kept = unique_topic();
    client.must_subscribe(&kept, 1);
    client.unsubscribe(&topic);
    client.leave();
    let mut publisher = Client::fresh(v);
    publisher.publish(&publish(topic.as_str(), "m").qos(1, 1));
    publisher.publish(&publish(kept.as_str(), "kept").qos(1, 1));
    let mut client = Client::connect(&connect);
    client.expect_message("kept");
    client.expect_quiet();
}
