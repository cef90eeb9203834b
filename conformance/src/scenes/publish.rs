//! PUBLISH towards the broker and its handshakes.

use crate::prelude::*;

fn pair(v: Version, qos: u8) -> (Client, Client, String) {
    let topic = unique_topic();
    let mut subscriber = Client::fresh(v);
    subscriber.must_subscribe(&topic, qos);
    (Client::fresh(v), subscriber, topic)
}

/// QoS 0 is not answered.
pub fn qos_0_is_delivered_without_an_answer(v: Version) {
    let (mut publisher, mut subscriber, topic) = pair(v, 0);
    publisher.say(publish(topic.as_str(), "zero").bytes(v));
    let message = subscriber.receive();
    assert_eq!((message.topic.as_str(), message.text().as_str(), message.qos), (topic.as_str(), "zero", 0));
    publisher.expect_quiet();
}

/// QoS 1 is answered by one PUBACK with its identifier.
pub fn qos_1_is_answered_by_puback(v: Version) {
    let (mut publisher, mut subscriber, topic) = pair(v, 1);
    for id in [1, 2, 255, 256, 65535] {
        publisher.say(publish(topic.as_str(), "one").qos(1, id).bytes(v));
        let ack = publisher.hear().ack(kind::PUBACK, v);
        assert_eq!((ack.id, ack.reason), (id, 0));
        subscriber.expect_message("one");
    }
    publisher.expect_quiet();
}

/// QoS 2 is answered by PUBREC, and PUBREL by PUBCOMP.
pub fn qos_2_is_answered_by_pubrec_and_pubcomp(v: Version) {
    let (mut publisher, mut subscriber, topic) = pair(v, 2);
    for id in [1, 256, 65535] {
        publisher.say(publish(topic.as_str(), "two").qos(2, id).bytes(v));
        publisher.expect_ack(kind::PUBREC, id);
        publisher.expect_quiet();
        publisher.say(words::acknowledge(kind::PUBREL, id));
        publisher.expect_ack(kind::PUBCOMP, id);
        subscriber.expect_message("two");
    }
    subscriber.expect_quiet();
}

/// The same QoS 2 packet said twice before PUBREL is answered twice and delivered once.
pub fn a_repeated_qos_2_message_is_delivered_once(v: Version) {
    let (mut publisher, mut subscriber, topic) = pair(v, 2);
    let message = publish(topic.as_str(), "once").qos(2, 7);
    publisher.say(message.bytes(v));
    publisher.expect_ack(kind::PUBREC, 7);
    publisher.say(message.clone().again().bytes(v));
    publisher.expect_ack(kind::PUBREC, 7);
    publisher.say(words::acknowledge(kind::PUBREL, 7));
    publisher.expect_ack(kind::PUBCOMP, 7);
    subscriber.expect_message("once");
    subscriber.expect_quiet();
    // After PUBCOMP the identifier stands for another message.
    publisher.publish(&message);
    subscriber.expect_message("once");
}

/// A repeated PUBREL is answered by PUBCOMP again and delivers nothing.
pub fn a_repeated_pubrel_is_answered_again(v: Version) {
    let (mut publisher, mut subscriber, topic) = pair(v, 2);
    publisher.publish(&publish(topic.as_str(), "once").qos(2, 7));
    subscriber.expect_message("once");
    publisher.say(words::acknowledge(kind::PUBREL, 7));
    let ack = publisher.hear().ack(kind::PUBCOMP, v);
    assert_eq!(ack.id, 7);
    assert!(matches!(ack.reason, 0 | 0x92), "{ack:?}");
    subscriber.expect_quiet();
}

/// After PUBACK the same identifier is a new message, whatever DUP says.
pub fn a_qos_1_message_after_puback_is_a_new_one(v: Version) {
    let (mut publisher, mut subscriber, topic) = pair(v, 1);
    publisher.publish(&publish(topic.as_str(), "first").qos(1, 7));
    publisher.publish(&publish(topic.as_str(), "second").qos(1, 7).again());
    subscriber.expect_message("first");
    subscriber.expect_message("second");
}

/// DUP of what came in says nothing about what goes out.
pub fn dup_is_not_passed_on(v: Version) {
    for qos in [1, 2] {
        let (mut publisher, mut subscriber, topic) = pair(v, qos);
        publisher.publish(&publish(topic.as_str(), "again?").qos(qos, 3).again());
        let message = subscriber.receive();
        assert_eq!((message.dup, message.qos), (false, qos));
    }
}

/// Identifiers of the two directions have nothing to do with each other.
pub fn identifiers_of_the_two_directions_are_independent(v: Version) {
    let topic = unique_topic();
    let mut client = Client::fresh(v);
    client.must_subscribe(&topic, 1);
    for id in [1, 1, 1] {
        client.publish(&publish(topic.as_str(), "mine").qos(1, id));
        client.expect_message("mine");
    }
    // An open QoS 2 handshake inwards under each small identifier does not disturb those outwards.
    for id in 1..=5 {
        client.say(publish(unique_topic(), "open").qos(2, id).bytes(v));
        client.expect_ack(kind::PUBREC, id);
    }
    client.publish(&publish(topic.as_str(), "between").qos(1, 9));
    client.expect_message("between");
    for id in 1..=5 {
        client.say(words::acknowledge(kind::PUBREL, id));
        client.expect_ack(kind::PUBCOMP, id);
    }
}

/// Payloads pass unaltered: empty, all bytes, long.
pub fn payloads_pass_unaltered(v: Version) {
    let (mut publisher, mut subscriber, topic) = pair(v, 1);
    let every: Vec<u8> = (0..=255).collect();
    for payload in [Vec::new(), every.clone(), every.repeat(40), vec![0; 100_000]] {
        publisher.publish(&publish(topic.as_str(), &payload).qos(1, 1));
        assert!(subscriber.take().payload == payload, "{} bytes were altered", payload.len());
    }
}

/// Lengths around the edges of the length field.
pub fn lengths_at_the_edges_of_the_length_field_pass(v: Version) {
    let (mut publisher, mut subscriber, topic) = pair(v, 0);
    let head = publish(topic.as_str(), "").bytes(v).len() - 2;
    for total in [127usize, 128, 129, 16_383, 16_384, 16_385] {
        let payload = vec![b'x'; total - head];
        publisher.say(publish(topic.as_str(), &payload).bytes(v));
        assert_eq!(subscriber.receive().payload.len(), payload.len(), "remaining length {total}");
    }
}

/// Acknowledgements of nothing do no harm.
pub fn acknowledgements_of_nothing_do_no_harm(v: Version) {
    let mut client = Client::fresh(v);
    client.say(words::acknowledge(kind::PUBACK, 77));
    client.say(words::acknowledge(kind::PUBCOMP, 78));
    client.expect_quiet();
    client.say(words::acknowledge(kind::PUBREL, 79));
    let ack = client.hear().ack(kind::PUBCOMP, v);
    assert!(ack.id == 79 && matches!(ack.reason, 0 | 0x92), "{ack:?}");
}

/// Several open QoS 2 handshakes are kept apart, and ended in another order than begun.
pub fn open_qos_2_handshakes_are_kept_apart(v: Version) {
    let (mut publisher, mut subscriber, topic) = pair(v, 2);
    for id in 1..=3 {
        publisher.say(publish(topic.as_str(), format!("m{id}")).qos(2, id).bytes(v));
    }
    (1..=3).for_each(|id| publisher.expect_ack(kind::PUBREC, id));
    for id in [3, 1, 2] {
        publisher.say(words::acknowledge(kind::PUBREL, id));
        publisher.expect_ack(kind::PUBCOMP, id);
    }
    let mut found: Vec<String> = (0..3).map(|_| subscriber.take().text()).collect();
    found.sort();
    assert_eq!(found, ["m1", "m2", "m3"]);
    subscriber.expect_quiet();
}
