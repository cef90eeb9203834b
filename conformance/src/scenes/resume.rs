//! What is sent again when a session resumes, and in which order.

use crate::prelude::*;

/// A session with five messages sent and none acknowledged, QoS by number.
fn unacknowledged(v: Version, qos_of: fn(u16) -> u8) -> (Connect, Vec<Publish>) {
    let topic = unique_topic();
    let connect = Connect::lasting(v, unique_id());
    let mut client = Client::connect(&connect);
    client.must_subscribe(&topic, 2);
    let mut publisher = Client::fresh(v);
    for number in 1..=5 {
        publisher.publish(&publish(topic.as_str(), number.to_string()).qos(qos_of(number), number));
    }
    let sent: Vec<Publish> = (0..5).map(|_| client.receive()).collect();
    client.vanish();
    (connect, sent)
}

/// Unacknowledged messages come again with DUP, their identifier, and in the order they were sent.
pub fn unacknowledged_messages_come_again_in_order_with_dup(v: Version) {
    for qos_of in [|_| 1, |_| 2, |number| 1 + (number % 2) as u8] {
        let (connect, sent) = unacknowledged(v, qos_of);
        let mut client = Client::connect(&connect);
        for before in sent {
            assert_eq!(client.receive(), before.again());
        }
        client.expect_quiet();
    }
}

/// They come again at every reconnect until they are acknowledged, and then no more.
pub fn they_come_again_until_acknowledged(v: Version) {
    let (connect, sent) = unacknowledged(v, |_| 1);
    let mut client = Client::connect(&connect);
    (0..5).for_each(|_| assert!(client.receive().dup));
    client.say(words::acknowledge(kind::PUBACK, sent[0].id));
    client.say(words::acknowledge(kind::PUBACK, sent[3].id));
    client.expect_quiet();
    client.vanish();
    let mut client = Client::connect(&connect);
    for place in [1, 2, 4] {
        assert_eq!(client.receive().id, sent[place].id);
        client.say(words::acknowledge(kind::PUBACK, sent[place].id));
    }
    client.expect_quiet();
    client.leave();
    Client::connect(&connect).expect_quiet();
}

/// After PUBREC it is PUBREL that comes again, not the message.
pub fn pubrel_comes_again_instead_of_the_message(v: Version) {
    let (connect, sent) = unacknowledged(v, |_| 2);
    let mut client = Client::connect(&connect);
    (0..5).for_each(|_| assert!(client.receive().dup));
    client.say(words::acknowledge(kind::PUBREC, sent[1].id));
    client.expect_ack(kind::PUBREL, sent[1].id);
    client.vanish();
    let mut client = Client::connect(&connect);
    let heard: Vec<Packet> = (0..5).map(|_| client.hear()).collect();
    let again: Vec<u16> =
        heard.iter().filter(|it| it.kind == kind::PUBLISH).map(|it| it.publish(v).id).collect();
    assert_eq!(again, [sent[0].id, sent[2].id, sent[3].id, sent[4].id]);
    let pubrel = heard.iter().find(|it| it.kind == kind::PUBREL).expect("PUBREL comes again");
    assert_eq!(pubrel.ack(kind::PUBREL, v).id, sent[1].id);
    client.say(words::acknowledge(kind::PUBCOMP, sent[1].id));
    client.expect_quiet();
}

/// New messages come behind those that come again.
pub fn newer_messages_come_behind(v: Version) {
    let (connect, sent) = unacknowledged(v, |_| 1);
    let mut publisher = Client::fresh(v);
    publisher.publish(&publish(sent[0].topic.as_str(), "newer").qos(1, 9));
    let mut client = Client::connect(&connect);
    (1..=5).for_each(|number: u8| assert_eq!(client.receive().text(), number.to_string()));
    let newer = client.receive();
    assert_eq!((newer.text().as_str(), newer.dup), ("newer", false));
    assert!(sent.iter().all(|it| it.id != newer.id), "an identifier in use was given again");
}

/// What was acknowledged is not sent again.
pub fn acknowledged_messages_do_not_come_again(v: Version) {
    let topic = unique_topic();
    let connect = Connect::lasting(v, unique_id());
    let mut client = Client::connect(&connect);
    client.must_subscribe(&topic, 2);
    let mut publisher = Client::fresh(v);
    for qos in [1, 2] {
        publisher.publish(&publish(topic.as_str(), "m").qos(qos, 1));
        client.expect_message("m");
    }
    client.expect_alive();
    client.vanish();
    Client::connect(&connect).expect_quiet();
}

/// Messages of QoS 0 are never sent again.
pub fn qos_0_does_not_come_again(v: Version) {
    let topic = unique_topic();
    let connect = Connect::lasting(v, unique_id());
    let mut client = Client::connect(&connect);
    client.must_subscribe(&topic, 0);
    Client::fresh(v).publish(&publish(topic.as_str(), "m"));
    client.expect_message("m");
    client.vanish();
    Client::connect(&connect).expect_quiet();
}

/// Messages sent while a client unsubscribes are carried to their end.
pub fn unsubscribing_ends_no_delivery_under_way(v: Version) {
    let topic = unique_topic();
    let connect = Connect::lasting(v, unique_id());
    let mut client = Client::connect(&connect);
    client.must_subscribe(&topic, 2);
    Client::fresh(v).publish(&publish(topic.as_str(), "under way").qos(2, 1));
    let message = client.receive();
    client.unsubscribe(&topic);
    client.vanish();
    let mut client = Client::connect(&connect);
    assert_eq!(client.receive(), message.clone().again());
    client.say(words::acknowledge(kind::PUBREC, message.id));
    client.expect_ack(kind::PUBREL, message.id);
    client.say(words::acknowledge(kind::PUBCOMP, message.id));
    client.expect_quiet();
}
