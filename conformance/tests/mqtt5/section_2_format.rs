//! 2 Control packet format: fixed header, packet identifiers, properties.
use super::*;

scenes! { V5,
    /// [MQTT-2.1.3-1] The lengths the fixed header can have, around each edge.
    publish::lengths_at_the_edges_of_the_length_field_pass;
    /// [MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1]
    delivery::open_messages_have_different_identifiers;
    /// [MQTT-2.2.1-5] [MQTT-2.2.1-3]
    publish::identifiers_of_the_two_directions_are_independent;
    /// [MQTT-4.2.0-1] The transport is a stream.
    framing::several_packets_in_one_segment_are_all_served;
    /// [MQTT-4.2.0-1]
    framing::dripped_bytes_are_served;
    /// [MQTT-4.2.0-1]
    framing::a_cut_at_every_byte_is_served;
    /// [MQTT-4.2.0-1]
    framing::half_a_packet_has_no_effect;
}

/// [MQTT-2.2.1-2] [MQTT-2.2.2-1] A message of QoS 0 has no identifier; no properties are a length of 0.
#[test]
fn a_qos_0_publish_passes_byte_by_byte() {
    let topic = unique_topic();
    let mut client = Client::fresh(V5);
    client.must_subscribe(&topic, 0);
    let bytes = publish(topic.as_str(), "x").bytes(V5);
    client.say(&bytes);
    client.expect_bytes(&bytes);
}

/// [MQTT-2.2.2-1] [MQTT-2.2.1-6] Answers carry a property length, also when there are none. (The short forms of PUBACK
/// and its kin may leave it out.)
#[test]
fn answers_have_a_property_length() {
    let mut client = Client::fresh(V5);
    client.say(words::subscribe(V5, 0x1234, &[(&unique_topic(), 2)]));
    let suback = client.hear();
    assert_eq!((&suback.body[..2], suback.body.last()), (&[0x12, 0x34][..], Some(&2)));
    assert!(suback.body.len() >= 4, "{suback:?}");
    suback.codes(kind::SUBACK, V5);
    client.say(words::unsubscribe(V5, 0x1235, &["never/was"]));
    let unsuback = client.hear();
    assert_eq!(&unsuback.body[..2], &[0x12, 0x35]);
    assert_eq!(unsuback.codes(kind::UNSUBACK, V5).codes.len(), 1);
}

/// 2.2.2.2 Properties come in any order.
#[test]
fn properties_come_in_any_order() {
    let properties = [
        property::user("b", "2"),
        property::content_type("text/plain"),
        property::correlation_data([0, 255]),
        property::payload_format(1),
        property::user("a", "1"),
        property::message_expiry(100u32),
        property::response_topic("answer/here"),
    ];
    let topic = unique_topic();
    let mut client = Client::fresh(V5);
    client.must_subscribe(&topic, 0);
    for shift in 0..properties.len() {
        let mut message = publish(topic.as_str(), "m");
        message.properties = properties.to_vec();
        message.properties.rotate_left(shift);
        client.publish(&message);
        let heard = client.expect_message("m");
        let sorted = |list: &[Property]| {
            let mut found: Vec<Vec<u8>> =
                list.iter().filter(|it| it.id != property::USER).map(Property::bytes).collect();
            found.sort();
            found
        };
        assert_eq!(sorted(&heard.properties), sorted(&message.properties));
        assert_eq!(property::users(&heard.properties), property::users(&message.properties));
    }
}
