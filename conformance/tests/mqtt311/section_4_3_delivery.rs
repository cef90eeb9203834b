//! 4.3 Quality of service, 4.5 message receipt, 4.6 message ordering.
use super::*;

scenes! { V311,
    /// [MQTT-4.3.2-2]
    publish::a_qos_1_message_after_puback_is_a_new_one;
    /// [MQTT-4.3.3-2]
    publish::a_repeated_qos_2_message_is_delivered_once;
    /// [MQTT-4.3.3-2]
    publish::a_repeated_pubrel_is_answered_again;
    /// [MQTT-4.3.3-2]
    publish::open_qos_2_handshakes_are_kept_apart;
    /// [MQTT-4.3.3-1]
    delivery::pubrec_is_answered_by_pubrel;
    /// [MQTT-4.6.0-5] [MQTT-4.6.0-6]
    delivery::messages_arrive_in_order;
    /// [MQTT-4.6.0-5] [MQTT-4.6.0-2]
    delivery::a_burst_arrives_in_order;
    /// 4.3 Acknowledgements of nothing.
    publish::acknowledgements_of_nothing_do_no_harm;
}

/// [MQTT-4.6.0-4] [MQTT-4.6.0-3] PUBREL packets come in the order of the PUBREC packets, PUBREC in that of the messages.
#[test]
fn handshake_packets_come_in_order() {
    let topic = unique_topic();
    let mut subscriber = Client::fresh(V311);
    subscriber.must_subscribe(&topic, 2);
    let mut publisher = Client::fresh(V311);
    let burst: Vec<u8> =
        [9, 3, 7].iter().flat_map(|id| publish(topic.as_str(), "m").qos(2, *id).bytes(V311)).collect();
    publisher.say(burst);
    [9, 3, 7].iter().for_each(|id| publisher.expect_ack(kind::PUBREC, *id));
    for id in [9, 3, 7] {
        publisher.say(words::acknowledge(kind::PUBREL, id));
    }
    [9, 3, 7].iter().for_each(|id| publisher.expect_ack(kind::PUBCOMP, *id));
    let ids: Vec<u16> = (0..3).map(|_| subscriber.receive().id).collect();
    for id in [ids[2], ids[0], ids[1]] {
        subscriber.say(words::acknowledge(kind::PUBREC, id));
    }
    [ids[2], ids[0], ids[1]].iter().for_each(|id| subscriber.expect_ack(kind::PUBREL, *id));
}
