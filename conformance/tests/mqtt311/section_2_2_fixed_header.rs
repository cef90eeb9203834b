//! 2.2 Fixed header, 2.3 variable header.
use super::*;

scenes! { V311,
    /// [MQTT-2.2.2-1] The lengths the fixed header can have, around each edge.
    publish::lengths_at_the_edges_of_the_length_field_pass;
    /// [MQTT-2.3.1-4] [MQTT-2.3.1-1] [MQTT-4.3.2-1]
    delivery::open_messages_have_different_identifiers;
    /// [MQTT-2.3.1-6] [MQTT-2.3.1-2]
    publish::identifiers_of_the_two_directions_are_independent;
    /// 2.2 and 4.2: the transport is a stream.
    framing::several_packets_in_one_segment_are_all_served;
    /// 2.2 and 4.2
    framing::dripped_bytes_are_served;
    /// 2.2 and 4.2
    framing::a_cut_at_every_byte_is_served;
    /// 2.2 and 4.2
    framing::half_a_packet_has_no_effect;
}

/// [MQTT-2.3.1-5] A message of QoS 0 has no identifier: the payload follows the topic.
#[test]
fn a_qos_0_publish_has_no_identifier() {
    let topic = unique_topic();
    let mut client = Client::fresh(V311);
    client.must_subscribe(&topic, 0);
    let bytes = publish(topic.as_str(), "x").bytes(V311);
    client.say(&bytes);
    client.expect_bytes(&bytes);
}

/// [MQTT-2.2.2-1] Flags of what the broker sends are as the table lists, byte by byte.
#[test]
fn packets_of_the_broker_have_the_listed_flags() {
    let topic = unique_topic();
    let mut client = Client::open(V311);
    client.say(Connect::new(V311, unique_id()).bytes());
    client.expect_bytes(&[0x20, 2, 0, 0]);
    client.say(words::subscribe(V311, 0x1234, &[(&topic, 2)]));
    client.expect_bytes(&[0x90, 3, 0x12, 0x34, 2]);
    client.say(publish("elsewhere", "x").qos(1, 0x0102).bytes(V311));
    client.expect_bytes(&[0x40, 2, 1, 2]);
    client.say(publish("elsewhere", "x").qos(2, 0x0103).bytes(V311));
    client.expect_bytes(&[0x50, 2, 1, 3]);
    client.say(words::acknowledge(kind::PUBREL, 0x0103));
    client.expect_bytes(&[0x70, 2, 1, 3]);
    client.say(words::unsubscribe(V311, 0x1235, &[&topic]));
    client.expect_bytes(&[0xB0, 2, 0x12, 0x35]);
    client.say(words::PINGREQ);
    client.expect_bytes(&[0xD0, 0]);
    client.say(words::DISCONNECT);
    client.expect_closed();
}
