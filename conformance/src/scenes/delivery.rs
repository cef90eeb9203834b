//! From the broker to subscribers: QoS, order, identifiers, overlapping subscriptions.

use crate::prelude::*;

/// The QoS of delivery is the lower of both.
pub fn the_lower_qos_of_publication_and_subscription_holds(v: Version) {
    let mut rows = Rows::default();
    for granted in 0..3 {
        for published in 0..3 {
            let topic = unique_topic();
            let mut subscriber = Client::fresh(v);
            subscriber.must_subscribe(&topic, granted);
            Client::fresh(v).publish(&publish(topic.as_str(), "m").qos(published, 1));
            let found = subscriber.expect_message("m").qos;
            rows.equal(&format!("published {published}, granted {granted}"), &found, &granted.min(published));
        }
    }
    rows.finish();
}

/// Messages of one publisher on one topic arrive in order, per QoS.
pub fn messages_arrive_in_order(v: Version) {
    for qos in 0..3 {
        let topic = unique_topic();
        let mut subscriber = Client::fresh(v);
        subscriber.must_subscribe(&topic, qos);
        let mut publisher = Client::fresh(v);
        for number in 1..=60 {
            publisher.publish(&publish(topic.as_str(), number.to_string()).qos(qos, number));
        }
        for number in 1..=60 {
            subscriber.expect_message(&number.to_string());
        }
    }
}

/// Messages in one burst arrive in order too.
pub fn a_burst_arrives_in_order(v: Version) {
    let topic = unique_topic();
    let mut subscriber = Client::fresh(v);
    subscriber.must_subscribe(&topic, 1);
    let mut publisher = Client::fresh(v);
    let burst: Vec<u8> =
        (1..=15).flat_map(|id| publish(topic.as_str(), id.to_string()).qos(1, id).bytes(v)).collect();
    publisher.say(burst);
    (1..=15).for_each(|id| publisher.expect_ack(kind::PUBACK, id));
    (1..=15).for_each(|id: u16| assert_eq!(subscriber.take().text(), id.to_string()));
}

/// Unacknowledged messages have different identifiers, none of them 0.
pub fn open_messages_have_different_identifiers(v: Version) {
    let topic = unique_topic();
    let mut subscriber = Client::fresh(v);
    subscriber.must_subscribe(&topic, 2);
    let mut publisher = Client::fresh(v);
    for id in 1..=10 {
        publisher.publish(&publish(topic.as_str(), "m").qos(1 + (id % 2) as u8, id));
    }
    let mut ids: Vec<u16> = (0..10).map(|_| subscriber.receive().id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 10, "{ids:?}");
}

/// A first delivery has no DUP, at any QoS.
pub fn a_first_delivery_has_no_dup(v: Version) {
    for qos in 0..3 {
        let topic = unique_topic();
        let mut subscriber = Client::fresh(v);
        subscriber.must_subscribe(&topic, qos);
        Client::fresh(v).publish(&publish(topic.as_str(), "m").qos(qos, 1));
        assert!(!subscriber.receive().dup);
    }
}

/// PUBREC is answered by PUBREL with the same identifier.
pub fn pubrec_is_answered_by_pubrel(v: Version) {
    let topic = unique_topic();
    let mut subscriber = Client::fresh(v);
    subscriber.must_subscribe(&topic, 2);
    Client::fresh(v).publish(&publish(topic.as_str(), "m").qos(2, 1));
    let message = subscriber.receive();
    assert_eq!(message.qos, 2);
    subscriber.expect_quiet();
    subscriber.say(words::acknowledge(kind::PUBREC, message.id));
    let ack = subscriber.hear().ack(kind::PUBREL, v);
    assert_eq!((ack.id, ack.reason), (message.id, 0));
    subscriber.say(words::acknowledge(kind::PUBCOMP, message.id));
    subscriber.expect_quiet();
}

/// Nothing is sent again while the connection lasts, acknowledged or not.
pub fn nothing_is_sent_again_on_the_same_connection(v: Version) {
    let topic = unique_topic();
    let mut subscriber = Client::fresh(v);
    subscriber.must_subscribe(&topic, 2);
    let mut publisher = Client::fresh(v);
    publisher.publish(&publish(topic.as_str(), "one").qos(1, 1));
    publisher.publish(&publish(topic.as_str(), "two").qos(2, 1));
    assert_eq!((subscriber.receive().text(), subscriber.receive().text()), ("one".into(), "two".into()));
    subscriber.expect_nothing(Duration::from_millis(2500));
}

/// Overlapping subscriptions deliver at their highest QoS, in one copy or in one for each.
pub fn overlapping_subscriptions_respect_the_highest_qos(v: Version) {
    let base = unique_topic();
    let mut subscriber = Client::fresh(v);
    for (filter, qos) in [("#", 0), ("+/x", 2), ("a/x", 1)] {
        subscriber.must_subscribe(&format!("{base}/{filter}"), qos);
    }
    Client::fresh(v).publish(&publish(format!("{base}/a/x"), "m").qos(2, 1));
    let mut found = Vec::new();
    while let Heard::Packet(packet) = subscriber.listen(Duration::from_millis(300)) {
        found.push(packet.publish(v).qos);
    }
    assert_eq!(found.iter().max(), Some(&2), "{found:?}");
    assert!(found.len() == 1 || found.len() == 3, "one copy, or one for each subscription: {found:?}");
}

/// Every subscriber has its own copy and its own handshake.
pub fn every_subscriber_is_served(v: Version) {
    let topic = unique_topic();
    let mut subscribers: Vec<Client> = (0..5).map(|_| Client::fresh(v)).collect();
    for (number, subscriber) in subscribers.iter_mut().enumerate() {
        subscriber.must_subscribe(&topic, (number % 3) as u8);
    }
    Client::fresh(v).publish(&publish(topic.as_str(), "all").qos(2, 1));
    for (number, subscriber) in subscribers.iter_mut().enumerate() {
        assert_eq!(usize::from(subscriber.expect_message("all").qos), number % 3);
        subscriber.expect_quiet();
    }
}

/// The publisher hears its own message when it is subscribed.
pub fn a_publisher_hears_itself(v: Version) {
    let topic = unique_topic();
    let mut client = Client::fresh(v);
    client.must_subscribe(&topic, 1);
    client.publish(&publish(topic.as_str(), "echo").qos(1, 1));
    client.expect_message("echo");
}

/// A client that left hears nothing, and its leaving disturbs nobody.
pub fn messages_cross_versions(v: Version) {
    let mut rows = Rows::default();
    for other in [V31, V311, V5] {
        for qos in 0..3 {
            let topic = unique_topic();
            let mut subscriber = Client::fresh(other);
            subscriber.must_subscribe(&topic, qos);
            Client::fresh(v).publish(&publish(topic.as_str(), "m").qos(qos, 1));
            let message = subscriber.expect_message("m");
            rows.equal(&format!("{v:?} to {other:?} at {qos}"), &(message.qos, message.topic), &(qos, topic));
        }
    }
    rows.finish();
}
