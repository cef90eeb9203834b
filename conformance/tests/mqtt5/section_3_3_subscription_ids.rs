//! 3.3.2.3.8 and 3.8.2.1.2 Subscription identifiers.
use super::*;

fn ids(message: &Publish) -> Vec<u32> {
    property::numbers(&message.properties, property::SUBSCRIPTION_ID)
}

fn available() -> bool {
    let client = Client::fresh(V5);
    let greeting = client.greeting.as_ref().expect("the client is connected");
    property::number(&greeting.properties, property::SUBSCRIPTION_IDS_AVAILABLE) != Some(0)
}

/// [MQTT-3.3.4-3] A message names the subscription it comes from, of any size of identifier.
#[test]
fn a_message_names_its_subscription() {
    if !available() {
        return;
    }
    for id in [1u32, 127, 128, 16_383, 16_384, 2_097_152, 268_435_455] {
        let topic = unique_topic();
        let mut client = Client::fresh(V5);
        assert_eq!(client.subscribe_with(&[property::subscription_id(id)], &topic, 1), 1);
        Client::fresh(V5).publish(&publish(topic.as_str(), "m").qos(1, 1));
        assert_eq!(ids(&client.expect_message("m")), [id]);
    }
}

/// [MQTT-3.3.4-4] [MQTT-3.3.4-5] [MQTT-3.3.4-3] Overlapping subscriptions: one copy with all identifiers, or one copy each with its own.
#[test]
fn overlapping_subscriptions_are_all_named() {
    if !available() {
        return;
    }
    let base = unique_topic();
    let mut client = Client::fresh(V5);
    for (filter, id) in [("#", Some(10)), ("+/x", Some(20)), ("a/#", None), ("a/x", Some(30))] {
        let properties: Vec<Property> = id.map(|it: u32| property::subscription_id(it)).into_iter().collect();
        client.subscribe_with(&properties, &format!("{base}/{filter}"), 0);
    }
    Client::fresh(V5).publish(&publish(format!("{base}/a/x"), "m"));
    let mut copies = Vec::new();
    while let Heard::Packet(packet) = client.listen(Duration::from_millis(300)) {
        copies.push(ids(&packet.publish(V5)));
    }
    copies.sort();
    let each: Vec<Vec<u32>> = vec![vec![], vec![10], vec![20], vec![30]];
    assert!(copies == [[10, 20, 30]] || copies == each, "{copies:?}");
}

/// [MQTT-3.3.4-3] One identifier for several filters of a packet, and for several packets.
#[test]
fn one_identifier_may_name_several_subscriptions() {
    if !available() {
        return;
    }
    let base = unique_topic();
    let mut client = Client::fresh(V5);
    let filters = [format!("{base}/a"), format!("{base}/b")];
    let wanted: Vec<(&str, u8)> = filters.iter().map(|it| (it.as_str(), 0)).collect();
    client.say(words::subscribe_with(V5, 3, &[property::subscription_id(7u32)], &wanted));
    assert_eq!(client.hear_kind(kind::SUBACK).codes(kind::SUBACK, V5).codes, [0, 0]);
    let mut publisher = Client::fresh(V5);
    for topic in &filters {
        publisher.publish(&publish(topic.as_str(), "m"));
        assert_eq!(ids(&client.expect_message("m")), [7]);
    }
}

/// [MQTT-3.8.4-3] 3.8.4 Subscribing again replaces or removes the identifier.
#[test]
fn subscribing_again_replaces_the_identifier() {
    if !available() {
        return;
    }
    let topic = unique_topic();
    let mut client = Client::fresh(V5);
    let mut publisher = Client::fresh(V5);
    for id in [Some(1u32), Some(2), None, Some(3)] {
        let properties: Vec<Property> = id.map(property::subscription_id).into_iter().collect();
        client.subscribe_with(&properties, &topic, 0);
        publisher.publish(&publish(topic.as_str(), "m"));
        assert_eq!(ids(&client.expect_message("m")), id.into_iter().collect::<Vec<_>>());
    }
}

/// [MQTT-3.3.4-3] Retained messages, messages that waited and repeated ones carry it too.
#[test]
fn the_identifier_is_part_of_the_session() {
    if !available() {
        return;
    }
    let topic = unique_topic();
    let connect = Connect::lasting(V5, unique_id());
    let mut publisher = Client::fresh(V5);
    publisher.publish(&publish(topic.as_str(), "kept").qos(1, 1).retained());
    let mut client = Client::connect(&connect);
    client.subscribe_with(&[property::subscription_id(77u32)], &topic, 1);
    let kept = client.receive();
    assert_eq!((kept.retain, ids(&kept)), (true, vec![77]));
    client.vanish();
    publisher.publish(&publish(topic.as_str(), "waited").qos(1, 1));
    let mut client = Client::connect(&connect);
    let again = client.take();
    assert_eq!((again.dup, ids(&again)), (true, vec![77]));
    assert_eq!(ids(&client.expect_message("waited")), [77]);
}

/// [MQTT-3.3.4-6] 3.8.2.1.2 Wrong ones: from a client in PUBLISH, the number 0, two in a SUBSCRIBE.
#[test]
fn wrong_subscription_identifiers_end_the_connection() {
    let topic = unique_topic();
    let mut witness = Client::fresh(V5);
    witness.must_subscribe(&topic, 0);
    let two = [property::subscription_id(1u32), property::subscription_id(2u32)];
    let mut rows = Rows::default();
    for (row, bytes) in [
        ("in PUBLISH", publish(topic.as_str(), "m").with(property::subscription_id(1u32)).bytes(V5)),
        ("number 0", words::subscribe_with(V5, 1, &[property::subscription_id(0u32)], &[("a", 0)])),
        ("two in SUBSCRIBE", words::subscribe_with(V5, 1, &two, &[("a", 0)])),
    ] {
        let mut client = Client::fresh(V5);
        client.say(bytes);
        let ending = client.fate();
        rows.check(row, ending.closed && matches!(ending.reason, None | Some(0x81 | 0x82)), ending);
    }
    rows.finish();
    witness.expect_quiet();
}
