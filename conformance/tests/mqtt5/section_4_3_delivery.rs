//! 4.3 Quality of service, 4.5 message receipt, 4.6 message ordering.
use super::*;

scenes! { V5,
    /// [MQTT-4.3.2-5]
    publish::a_qos_1_message_after_puback_is_a_new_one;
    /// [MQTT-4.3.3-10] [MQTT-4.3.3-12]
    publish::a_repeated_qos_2_message_is_delivered_once;
    /// [MQTT-4.3.3-11]
    publish::a_repeated_pubrel_is_answered_again;
    /// [MQTT-4.3.3-8] [MQTT-4.3.3-11]
    publish::open_qos_2_handshakes_are_kept_apart;
    /// [MQTT-4.3.3-4] [MQTT-4.3.3-3]
    delivery::pubrec_is_answered_by_pubrel;
    /// [MQTT-4.6.0-5] [MQTT-4.6.0-6]
    delivery::messages_arrive_in_order;
    /// [MQTT-4.6.0-5]
    delivery::a_burst_arrives_in_order;
    /// 4.3 Acknowledgements of nothing.
    publish::acknowledgements_of_nothing_do_no_harm;
}

/// [MQTT-4.3.2-3] A message of QoS 1 stays unacknowledged until its PUBACK; another identifier's does not count.
#[test]
fn another_identifiers_puback_does_not_count() {
    let topic = unique_topic();
    let connect = Connect::lasting(V5, unique_id());
    let mut client = Client::connect(&connect);
    client.must_subscribe(&topic, 1);
    Client::fresh(V5).publish(&publish(topic.as_str(), "m").qos(1, 1));
    let message = client.receive();
    client.say(words::acknowledge(kind::PUBACK, message.id ^ 0x0100));
    client.expect_alive();
    client.vanish();
    assert_eq!(Client::connect(&connect).receive(), message.again());
}

/// [MQTT-4.5.0-1] A message of QoS 0 to 2 is added to the session of every subscriber, away or not.
#[test]
fn every_subscriber_gets_its_copy_away_or_not() {
    let topic = unique_topic();
    let connects: Vec<Connect> = (0..3).map(|_| Connect::lasting(V5, unique_id())).collect();
    for connect in &connects {
        let mut client = Client::connect(connect);
        client.must_subscribe(&topic, 2);
        client.leave();
    }
    Client::fresh(V5).publish(&publish(topic.as_str(), "m").qos(2, 1));
    for connect in &connects {
        let mut client = Client::connect(connect);
        client.expect_message("m");
        client.expect_quiet();
    }
}

/// [MQTT-4.6.0-6] Order holds for each topic over a mixture of QoS: never a later one of the same QoS first.
#[test]
fn order_holds_within_each_qos_of_a_mixture() {
    let topic = unique_topic();
    let mut client = Client::fresh(V5);
    client.must_subscribe(&topic, 2);
    let mut publisher = Client::fresh(V5);
    for number in 0..45u16 {
        publisher.publish(&publish(topic.as_str(), number.to_string()).qos((number % 3) as u8, number + 1));
    }
    let mut last = [None; 3];
    for _ in 0..45 {
        let message = client.take();
        let number: u16 = message.text().parse().expect("payloads are numbers");
        let before = last[usize::from(message.qos)].replace(number);
        assert!(before < Some(number), "QoS {}: {before:?} before {number}", message.qos);
    }
}
