//! 3.3.2.3 PUBLISH properties that pass through, and expiry.
use super::*;

/// A topic and the three ways a message reaches a subscriber: live, waiting in a session, retained.
fn deliveries(message: impl Fn(&str) -> Publish) -> Vec<(&'static str, Publish)> {
    let topic = unique_topic();
    let waiting = Connect::lasting(V5, unique_id());
    let mut away = Client::connect(&waiting);
    away.must_subscribe(&topic, 1);
    away.leave();
    let mut live = Client::fresh(V5);
    live.must_subscribe(&topic, 1);
    let mut publisher = Client::fresh(V5);
    publisher.publish(&message(&topic).qos(1, 1).retained());
    let mut late = Client::fresh(V5);
    late.must_subscribe(&topic, 1);
    vec![("live", live.take()), ("waiting", Client::connect(&waiting).take()), ("retained", late.take())]
}

/// Each of these passes unaltered on each way.
fn expect_to_pass(properties: Vec<Property>) {
    for property in properties {
        for (way, heard) in deliveries(|topic| publish(topic, "m").with(property.clone())) {
            assert_eq!(heard.properties, std::slice::from_ref(&property), "{way}");
        }
    }
}

/// [MQTT-3.3.2-4]
#[test]
fn the_payload_format_passes_unaltered() {
    expect_to_pass(vec![property::payload_format(1)]);
    // 0 and nothing said mean the same: either may be passed on.
    for (way, heard) in deliveries(|topic| publish(topic, "m").with(property::payload_format(0))) {
        assert!(
            matches!(property::number(&heard.properties, property::PAYLOAD_FORMAT), None | Some(0)),
            "{way}"
        );
    }
}

/// [MQTT-3.3.2-15] [MQTT-3.3.2-13]
#[test]
fn the_response_topic_passes_unaltered() {
    expect_to_pass(vec![property::response_topic("answer/to/me"), property::response_topic("käse/\u{feff}")]);
}

/// [MQTT-3.3.2-16] Binary, also empty, also long.
#[test]
fn the_correlation_data_pass_unaltered() {
    let all: Vec<u8> = (0..=255).collect();
    expect_to_pass(vec![property::correlation_data(all), property::correlation_data(vec![7; 5000])]);
    for (way, heard) in deliveries(|topic| publish(topic, "m").with(property::correlation_data([]))) {
        assert!(heard.properties.len() <= 1, "{way}: {heard:?}");
    }
}

/// [MQTT-3.3.2-20] [MQTT-3.3.2-19]
#[test]
fn the_content_type_passes_unaltered() {
    expect_to_pass(vec![
        property::content_type("application/json; charset=utf-8"),
        property::content_type("ü"),
    ]);
}

/// [MQTT-3.3.2-17] [MQTT-3.3.2-18] All of them, in order, repeated names and empty texts included.
#[test]
fn user_properties_pass_in_order() {
    let properties: Vec<Property> =
        [("z", "1"), ("a", "2"), ("z", "1"), ("", ""), ("a", ""), ("ä", "\u{feff}"), ("z", "0")]
            .map(|(name, value)| property::user(name, value))
            .to_vec();
    for (way, heard) in deliveries(|topic| {
        let mut message = publish(topic, "m");
        message.properties = properties.clone();
        message
    }) {
        assert_eq!(heard.properties, properties, "{way}");
    }
}

/// [MQTT-3.3.2-17] Many of them.
#[test]
fn a_hundred_user_properties_pass() {
    let properties: Vec<Property> =
        (0..100).map(|n| property::user(&format!("name{n}"), &format!("value{n}"))).collect();
    for (way, heard) in deliveries(|topic| {
        let mut message = publish(topic, "m");
        message.properties = properties.clone();
        message
    }) {
        assert_eq!(heard.properties, properties, "{way}");
    }
}

/// [MQTT-3.3.2-6] What is left of the expiry is told: all of it live, less after waiting.
#[test]
fn the_expiry_that_is_left_is_told() {
    let topic = unique_topic();
    let waiting = Connect::lasting(V5, unique_id());
    let mut away = Client::connect(&waiting);
    away.must_subscribe(&topic, 1);
    away.leave();
    let mut live = Client::fresh(V5);
    live.must_subscribe(&topic, 1);
    let message = publish(topic.as_str(), "m").qos(1, 1).retained().with(property::message_expiry(100u32));
    Client::fresh(V5).publish(&message);
    let published = Instant::now();
    let left =
        |message: Publish| property::number(&message.properties, property::MESSAGE_EXPIRY).unwrap_or(0);
    assert!((99..=100).contains(&left(live.take())));
    std::thread::sleep(Duration::from_millis(2200));
    let (waited, mut late) = (Client::connect(&waiting).take(), Client::fresh(V5));
    late.must_subscribe(&topic, 1);
    let retained = left(late.take());
    // A second more or less for brokers that count whole ones, and whatever the machine took.
    let least = 100 - published.elapsed().as_secs() as u32 - 2;
    assert!((least..=98).contains(&left(waited)), "waiting");
    assert!((least..=98).contains(&retained), "retained: {retained}");
}

/// [MQTT-3.3.2-6] [MQTT-4.3.3-7] What was sent before comes again with what is left by then, be it nothing.
#[test]
fn a_message_that_comes_again_tells_what_is_left() {
    let topic = unique_topic();
    let connect = Connect::lasting(V5, unique_id());
    let mut client = Client::connect(&connect);
    client.must_subscribe(&topic, 1);
    let message = publish(topic.as_str(), "m").qos(1, 1).with(property::message_expiry(100u32));
    Client::fresh(V5).publish(&message);
    let published = Instant::now();
    let left =
        |message: &Publish| property::number(&message.properties, property::MESSAGE_EXPIRY).unwrap_or(0);
    let first = client.receive();
    assert!((99..=100).contains(&left(&first)));
    client.vanish();
    std::thread::sleep(Duration::from_millis(2200));
    let again = Client::connect(&connect).receive();
    assert_eq!((again.id, again.dup), (first.id, true));
    let least = 100 - published.elapsed().as_secs() as u32 - 2;
    assert!((least..=98).contains(&left(&again)), "{again:?}");
}

/// [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-20] All of them at once, and as long as each can be.
#[test]
fn the_longest_texts_pass() {
    let long = "x".repeat(65_535);
    let properties = vec![
        property::payload_format(1),
        property::content_type(long.as_str()),
        property::response_topic(long.as_str()),
        property::correlation_data(long.as_str()),
        property::user(&long, &long),
    ];
    for (way, heard) in deliveries(|topic| {
        let mut message = publish(topic, "m");
        message.properties = properties.clone();
        message
    }) {
        let mut found = heard.properties.clone();
        found.sort_by_key(|it| it.id);
        assert!(found == properties, "{way}: not what was said");
    }
}

/// [MQTT-3.3.2-5] A message whose time has passed is not delivered: not from a queue, not as retained.
#[test]
fn an_expired_message_is_not_delivered() {
    let topic = unique_topic();
    let waiting = Connect::lasting(V5, unique_id());
    let mut away = Client::connect(&waiting);
    away.must_subscribe(&topic, 2);
    away.leave();
    let mut publisher = Client::fresh(V5);
    for qos in [1, 2] {
        publisher.publish(
            &publish(topic.as_str(), "gone").qos(qos, 1).retained().with(property::message_expiry(1u32)),
        );
    }
    publisher.publish(&publish(topic.as_str(), "stays").qos(1, 1));
    std::thread::sleep(Duration::from_millis(2300));
    let mut back = Client::connect(&waiting);
    back.expect_message("stays");
    back.expect_quiet();
    let mut late = Client::fresh(V5);
    late.must_subscribe(&topic, 1);
    late.expect_quiet();
}

/// [MQTT-3.3.2-5] It expires for receivers of older versions as well.
#[test]
fn a_message_expires_for_older_versions_too() {
    let topic = unique_topic();
    let waiting = Connect::lasting(V311, unique_id());
    let mut away = Client::connect(&waiting);
    away.must_subscribe(&topic, 1);
    away.leave();
    Client::fresh(V5)
        .publish(&publish(topic.as_str(), "gone").qos(1, 1).with(property::message_expiry(1u32)));
    Client::fresh(V5).publish(&publish(topic.as_str(), "stays").qos(1, 1));
    std::thread::sleep(Duration::from_millis(2300));
    let mut back = Client::connect(&waiting);
    back.expect_message("stays");
    back.expect_quiet();
}

/// [MQTT-4.3.3-7] 4.4 A message that was sent once does not expire: its handshake is carried to the end.
#[test]
fn a_message_that_was_sent_does_not_expire() {
    let topic = unique_topic();
    let connect = Connect::lasting(V5, unique_id());
    let mut client = Client::connect(&connect);
    client.must_subscribe(&topic, 2);
    Client::fresh(V5)
        .publish(&publish(topic.as_str(), "sent").qos(2, 1).with(property::message_expiry(3u32)));
    let first = client.receive();
    client.vanish();
    std::thread::sleep(Duration::from_millis(4000));
    let mut client = Client::connect(&connect);
    let again = client.receive();
    assert_eq!((again.id, again.dup, again.text()), (first.id, true, "sent".into()));
}

/// [MQTT-4.3.3-13] The handshake inwards is carried to its end, expired or not.
#[test]
fn a_handshake_inwards_outlives_the_expiry() {
    let topic = unique_topic();
    let mut client = Client::fresh(V5);
    client.say(publish(topic.as_str(), "m").qos(2, 5).with(property::message_expiry(1u32)).bytes(V5));
    client.expect_ack(kind::PUBREC, 5);
    std::thread::sleep(Duration::from_millis(2000));
    client.say(words::acknowledge(kind::PUBREL, 5));
    client.expect_ack(kind::PUBCOMP, 5);
}

/// [MQTT-3.3.2-5] An expiry of 0 is one: who is there gets the message, nobody later.
#[test]
fn an_expiry_of_0_has_passed_at_once() {
    let topic = unique_topic();
    let mut live = Client::fresh(V5);
    live.must_subscribe(&topic, 1);
    let mut publisher = Client::fresh(V5);
    for qos in [0, 1] {
        let message =
            publish(topic.as_str(), "m").qos(qos, 1).retained().with(property::message_expiry(0u32));
        publisher.publish(&message);
        let heard = live.expect_message("m");
        assert_eq!(property::number(&heard.properties, property::MESSAGE_EXPIRY), Some(0));
    }
    let mut late = Client::fresh(V5);
    late.must_subscribe(&topic, 1);
    late.expect_quiet();
}
