//! 3.3.2.3.4 Topic alias, towards the broker.
use super::*;

fn maximum(client: &Client) -> u16 {
    let greeting = client.greeting.as_ref().expect("the client is connected");
    property::number(&greeting.properties, property::TOPIC_ALIAS_MAXIMUM).unwrap_or(0) as u16
}

/// A publisher that may use at least two aliases, and a subscriber to everything below a topic.
fn pair() -> Option<(Client, Client, String)> {
    let publisher = Client::fresh(V5);
    (maximum(&publisher) >= 2).then(|| {
        let topic = unique_topic();
        let mut subscriber = Client::fresh(V5);
        subscriber.must_subscribe(&format!("{topic}/#"), 2);
        (publisher, subscriber, topic)
    })
}

fn aliased(topic: impl Into<String>, alias: u16) -> Publish {
    publish(topic, "m").with(property::topic_alias(alias))
}

/// [MQTT-3.3.2-12] Every alias up to the announced maximum is understood, for every QoS.
#[test]
fn every_alias_up_to_the_maximum_is_understood() {
    let Some((mut publisher, mut subscriber, topic)) = pair() else { return };
    let highest = maximum(&publisher);
    let aliases: Vec<u16> = (1..=highest.min(50)).chain([highest]).collect();
    for alias in &aliases {
        publisher.publish(&aliased(format!("{topic}/{alias}"), *alias));
        subscriber.expect_message("m");
    }
    for (place, alias) in aliases.iter().enumerate() {
        publisher.publish(&aliased("", *alias).qos((place % 3) as u8, 1));
        assert_eq!(subscriber.expect_message("m").topic, format!("{topic}/{alias}"));
    }
}

/// 3.3.2.3.4 A topic with an alias in use gives it a new meaning.
#[test]
fn an_alias_can_be_given_a_new_meaning() {
    let Some((mut publisher, mut subscriber, topic)) = pair() else { return };
    for name in ["a", "b", "a"] {
        publisher.publish(&aliased(format!("{topic}/{name}"), 1));
        assert_eq!(subscriber.expect_message("m").topic, format!("{topic}/{name}"));
        publisher.publish(&aliased("", 1));
        assert_eq!(subscriber.expect_message("m").topic, format!("{topic}/{name}"));
    }
}

/// 3.3.2.3.4 Aliases of the publisher are not passed on: subscribers hear the topic.
#[test]
fn aliases_are_not_passed_on() {
    let Some((mut publisher, mut subscriber, topic)) = pair() else { return };
    publisher.publish(&aliased(format!("{topic}/x"), 2));
    publisher.publish(&aliased("", 2));
    for _ in 0..2 {
        let heard = subscriber.expect_message("m");
        assert_eq!((heard.topic, heard.properties), (format!("{topic}/x"), vec![]));
    }
}

/// 3.3.2.3.4 A retained message published by alias is kept under its topic.
#[test]
fn a_retained_message_by_alias_is_kept_under_its_topic() {
    let Some((mut publisher, _, topic)) = pair() else { return };
    publisher.publish(&aliased(format!("{topic}/x"), 1));
    publisher.publish(&aliased("", 1).retained());
    let mut late = Client::fresh(V5);
    late.must_subscribe(&format!("{topic}/x"), 0);
    let heard = late.expect_message("m");
    assert_eq!((heard.topic, heard.properties), (format!("{topic}/x"), vec![]));
}

/// [MQTT-3.3.2-7] Aliases end with their connection, also where the session goes on.
#[test]
fn aliases_end_with_their_connection() {
    let Some((_, mut subscriber, topic)) = pair() else { return };
    let connect = Connect::lasting(V5, unique_id());
    let mut first = Client::connect(&connect);
    first.publish(&aliased(format!("{topic}/x"), 1));
    subscriber.expect_message("m");
    first.leave();
    let mut second = Client::connect(&connect);
    second.say(aliased("", 1).bytes(V5));
    let reason = second.expect_closed();
    assert!(matches!(reason, None | Some(0x82 | 0x94)), "{reason:02x?}");
    subscriber.expect_quiet();
}

/// 3.3.2.3.4 Aliases of one client are not those of another.
#[test]
fn aliases_of_clients_are_apart() {
    let Some((mut one, mut subscriber, topic)) = pair() else { return };
    let mut two = Client::fresh(V5);
    one.publish(&aliased(format!("{topic}/one"), 1));
    two.publish(&aliased(format!("{topic}/two"), 1));
    one.publish(&aliased("", 1));
    let heard: Vec<String> = (0..3).map(|_| subscriber.take().topic).collect();
    assert_eq!(heard, ["one", "two", "one"].map(|name| format!("{topic}/{name}")));
}

/// [MQTT-3.3.2-8] [MQTT-3.3.2-9] [MQTT-3.2.2-17] [MQTT-3.2.2-18] Alias 0, one beyond the maximum, one never said: the end, with 0x94 or
/// (never said) 0x82.
#[test]
fn wrong_aliases_end_the_connection() {
    let topic = unique_topic();
    let mut witness = Client::fresh(V5);
    witness.must_subscribe(&topic, 0);
    let highest = maximum(&Client::fresh(V5));
    let mut rows = Rows::default();
    for (row, message, codes) in [
        ("alias 0", aliased(topic.as_str(), 0), vec![0x94, 0x82, 0x81]),
        ("alias 0 without topic", aliased("", 0), vec![0x94, 0x82, 0x81]),
        ("beyond the maximum", aliased(topic.as_str(), highest + 1), vec![0x94]),
        ("65535", aliased(topic.as_str(), 65_535), if highest == 65_535 { return } else { vec![0x94] }),
        ("never said", aliased("", highest.max(1)), vec![0x82, 0x94]),
        ("no topic, no alias", publish("", "m"), vec![0x82]),
        ("twice", aliased(topic.as_str(), 1).with(property::topic_alias(1u16)), vec![0x82]),
    ] {
        let mut client = Client::fresh(V5);
        client.say(message.bytes(V5));
        let ending = client.fate();
        let told = ending.reason.is_none_or(|it| codes.contains(&it));
        rows.check(row, ending.closed && told, ending);
    }
    rows.finish();
    witness.expect_quiet();
}
