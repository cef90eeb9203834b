//! 4.9 Flow control: Receive Maximum in both directions.
use super::*;

/// A client that takes `maximum` at once, subscribed at QoS 2.
fn narrow(maximum: u16, topic: &str) -> Client {
    let mut client =
        Client::connect(&Connect::lasting(V5, unique_id()).with(property::receive_maximum(maximum)));
    client.must_subscribe(topic, 2);
    client
}

fn send(topic: &str, qos: u8, numbers: std::ops::RangeInclusive<u16>) {
    let mut publisher = Client::fresh(V5);
    numbers.for_each(|number| publisher.publish(&publish(topic, number.to_string()).qos(qos, number)));
}

/// [MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2] No more than the client's maximum is under way; each PUBACK lets one more come, in order.
#[test]
fn no_more_than_the_receive_maximum_is_under_way() {
    for maximum in [1, 2, 5] {
        let topic = unique_topic();
        let mut client = narrow(maximum, &topic);
        send(&topic, 1, 1..=12);
        let mut open: Vec<u16> = (0..maximum).map(|_| client.receive().id).collect();
        client.expect_quiet();
        for number in maximum + 1..=12 {
            client.say(words::acknowledge(kind::PUBACK, open.remove(0)));
            let message = client.receive();
            assert_eq!(message.text(), number.to_string());
            open.push(message.id);
            client.expect_nothing(Duration::from_millis(30));
        }
    }
}

/// [MQTT-4.9.0-2] Of QoS 2 it is PUBCOMP that frees the place, not PUBREC.
#[test]
fn a_qos_2_message_is_under_way_until_pubcomp() {
    let topic = unique_topic();
    let mut client = narrow(1, &topic);
    send(&topic, 2, 1..=2);
    let id = client.receive().id;
    client.say(words::acknowledge(kind::PUBREC, id));
    client.expect_ack(kind::PUBREL, id);
    client.expect_quiet();
    client.say(words::acknowledge(kind::PUBCOMP, id));
    assert_eq!(client.receive().text(), "2");
}

/// [MQTT-4.9.0-2] 4.9 A PUBREC of 0x80 or more frees the place, as there will be no PUBCOMP.
#[test]
fn a_refusing_pubrec_frees_the_place() {
    let topic = unique_topic();
    let mut client = narrow(1, &topic);
    send(&topic, 2, 1..=2);
    let id = client.receive().id;
    client.say(words::acknowledge_with(kind::PUBREC, id, 0x97));
    assert_eq!(client.receive().text(), "2");
}

/// 4.9 QoS 0 is not counted.
#[test]
fn qos_0_is_not_held_back() {
    let topic = unique_topic();
    let mut client = narrow(1, &topic);
    send(&topic, 1, 1..=2);
    assert_eq!(client.receive().text(), "1");
    send(&topic, 0, 7..=9);
    for number in 7..=9 {
        assert_eq!(client.receive().text(), number.to_string());
    }
    client.expect_quiet();
}

/// [MQTT-3.3.4-10] [MQTT-4.9.0-3] With nothing left to send, everything else goes on.
#[test]
fn everything_else_goes_on_while_the_window_is_full() {
    let topic = unique_topic();
    let mut client = narrow(1, &topic);
    send(&topic, 2, 1..=3);
    assert_eq!(client.receive().text(), "1");
    client.must_subscribe(&unique_topic(), 1);
    client.publish(&publish(unique_topic(), "x").qos(1, 5));
    client.publish(&publish(unique_topic(), "x").qos(2, 6));
    client.unsubscribe(&topic);
    client.expect_quiet();
}

/// [MQTT-4.9.0-1] The window starts anew with the connection, and what is repeated counts.
#[test]
fn the_window_holds_after_reconnecting() {
    let topic = unique_topic();
    let connect = Connect::lasting(V5, unique_id()).with(property::receive_maximum(4u16));
    let mut client = Client::connect(&connect);
    client.must_subscribe(&topic, 1);
    send(&topic, 1, 1..=9);
    (0..4).for_each(|_| drop(client.receive()));
    client.vanish();
    let mut narrower = connect;
    narrower.properties.retain(|it| it.id != property::RECEIVE_MAXIMUM);
    narrower.properties.push(property::receive_maximum(2u16));
    let mut client = Client::connect(&narrower);
    let mut open = vec![client.receive(), client.receive()];
    client.expect_quiet();
    assert!(open.iter().all(|it| it.dup));
    for number in 3..=9 {
        client.say(words::acknowledge(kind::PUBACK, open.remove(0).id));
        let message = client.receive();
        assert_eq!(message.text(), number.to_string());
        open.push(message);
    }
}

/// [MQTT-3.3.4-7] A client that sends more than the broker's maximum is let go with 0x93.
#[test]
fn a_client_beyond_the_brokers_maximum_is_let_go() {
    let mut client = Client::fresh(V5);
    let greeting = client.greeting.clone().expect("a fresh client is connected");
    let maximum = property::number(&greeting.properties, property::RECEIVE_MAXIMUM).unwrap_or(65_535) as u16;
    if maximum == 65_535 {
        return; // There is no identifier for one more.
    }
    for id in 1..=maximum {
        client.say(publish(unique_topic(), "open").qos(2, id).bytes(V5));
        client.expect_ack(kind::PUBREC, id);
    }
    client.expect_alive();
    client.say(publish(unique_topic(), "one too many").qos(2, maximum + 1).bytes(V5));
    let ending = client.ending();
    assert!(ending.closed && matches!(ending.reason, None | Some(0x93)), "{ending:?}");
}

/// 4.9 Handshakes that came to their end do not count: many times the maximum passes.
#[test]
fn finished_handshakes_do_not_count() {
    let mut client = Client::fresh(V5);
    for id in 1..=300 {
        client.publish(&publish(unique_topic(), "m").qos(1 + (id % 2) as u8, id));
    }
    client.expect_alive();
}

/// [MQTT-4.9.0-3] Nor are retained messages that come at QoS 0.
#[test]
fn retained_messages_of_qos_0_are_not_held_back() {
    let (topic, kept) = (unique_topic(), unique_topic());
    Client::fresh(V5).publish(&publish(kept.as_str(), "kept").qos(2, 1).retained());
    let mut client = narrow(1, &topic);
    send(&topic, 1, 1..=3);
    assert_eq!(client.receive().qos, 1);
    client.must_subscribe(&kept, 0);
    let message = client.expect_message("kept");
    assert_eq!((message.qos, message.retain), (0, true));
}
