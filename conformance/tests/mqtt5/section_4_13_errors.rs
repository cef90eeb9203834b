//! 4.13 Handling errors, with the forms of 2.1, 3.3, 3.6, 3.8, 3.10 and the properties of 2.2.2.
use super::*;
use conformance::scenes::broken::{Broken, expect_each_to_end_the_connection, packets, play};

scenes! { V5,
    /// [MQTT-4.13.1-1] [MQTT-3.3.1-4] [MQTT-3.3.2-2] [MQTT-4.7.0-1] [MQTT-4.7.3-1] [MQTT-2.2.1-3]
    broken::a_broken_publish_ends_the_connection;
    /// [MQTT-3.3.1-2]
    broken::dup_on_qos_0_ends_the_connection;
    /// [MQTT-2.1.3-1]
    broken::a_broken_acknowledgement_ends_the_connection;
    /// [MQTT-3.6.1-1]
    broken::a_broken_pubrel_ends_the_connection;
    /// [MQTT-3.8.1-1] [MQTT-3.8.3-2] [MQTT-3.8.3-5] [MQTT-2.2.1-3]
    broken::a_broken_subscribe_ends_the_connection;
    /// [MQTT-3.10.1-1] [MQTT-3.10.3-2] [MQTT-2.2.1-3]
    broken::a_broken_unsubscribe_ends_the_connection;
    /// [MQTT-2.1.3-1]
    broken::a_broken_ping_or_disconnect_ends_the_connection;
    /// [MQTT-4.13.1-1]
    broken::a_foreign_packet_ends_the_connection;
    /// [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-3.3.2-1] [MQTT-3.8.3-1] [MQTT-3.10.3-1] [MQTT-4.7.3-2]
    broken::an_ill_formed_text_ends_the_connection;
    /// [MQTT-4.13.1-1]
    broken::no_broken_packet_has_another_effect;
    /// [MQTT-4.13.1-1] [MQTT-4.13.2-1]
    broken::nothing_behind_a_broken_packet_is_processed;
}

/// Malformed, protocol error, either of them, and those of a wrong topic. Either, too, where chapter 3 has a protocol error
/// and Mosquitto, in all its versions and its own tests, says malformed: SUBSCRIBE with QoS 3, retain handling 3, nothing.
const M: &[u8] = &[0x81];
const P: &[u8] = &[0x82];
const E: &[u8] = &[0x81, 0x82];
const T: &[u8] = &[0x81, 0x82, 0x90];

fn rows<const N: usize>(rows: [(&str, Vec<u8>, &'static [u8]); N]) -> Vec<Broken> {
    rows.into_iter().map(|(name, bytes, reasons)| (name.to_owned(), bytes, reasons)).collect()
}

/// A PUBLISH with these properties.
fn with(topic: &str, properties: &[Property]) -> Vec<u8> {
    let mut message = publish(topic, "x");
    message.properties = properties.to_vec();
    message.bytes(V5)
}

fn wrong_publish_properties(topic: &str) -> Vec<Broken> {
    let raw = |field: &[u8]| words::packet(0x30, &[words::counted(topic).as_slice(), field].concat());
    let one = |it: Property| with(topic, &[it]);
    let twice = |it: Property| with(topic, &[it.clone(), it]);
    rows([
        ("PUBLISH without property length", raw(&[]), M),
        ("PUBLISH with a property length beyond its end", raw(&[9, 1, 0]), M),
        ("PUBLISH with a property cut short", raw(&[3, 2, 0, 0]), M),
        ("PUBLISH with a text beyond its properties", raw(&[3, 3, 0, 9]), M),
        ("PUBLISH with identifier 0", raw(&[2, 0, 0]), M),
        ("PUBLISH with unknown identifier 4", raw(&[2, 4, 0]), M),
        ("PUBLISH with unknown identifier 0x7F", raw(&[2, 0x7F, 0]), M),
        ("PUBLISH with an identifier of two bytes", raw(&[3, 0x80, 0x01, 0]), M),
        ("PUBLISH with a session expiry", one(property::session_expiry(1u32)), M),
        ("PUBLISH with a reason string", one(property::reason_string("x")), M),
        ("PUBLISH with a will delay", one(property::will_delay(1u32)), M),
        ("PUBLISH with payload format twice", twice(property::payload_format(1)), P),
        ("PUBLISH with message expiry twice", twice(property::message_expiry(5u32)), P),
        ("PUBLISH with content type twice", twice(property::content_type("x")), P),
        ("PUBLISH with response topic twice", twice(property::response_topic("x")), P),
        ("PUBLISH with correlation data twice", twice(property::correlation_data("x")), P),
        ("PUBLISH with a response topic that is not UTF-8", one(property::response_topic([0xFF])), M),
        ("PUBLISH with a content type that is not UTF-8", one(property::content_type([0xC0, 0xAF])), M),
        ("PUBLISH with a content type with NUL", one(property::content_type("a\0")), M),
    ])
}

fn wrong_property_values(topic: &str) -> Vec<Broken> {
    rows([
        ("PUBLISH with payload format 2", with(topic, &[property::payload_format(2)]), E),
        ("PUBLISH with response topic a/+", with(topic, &[property::response_topic("a/+")]), T),
        ("PUBLISH with response topic #", with(topic, &[property::response_topic("#")]), T),
    ])
}

/// An acknowledgement of identifier 1 and what follows it.
fn acknowledgement(first: u8, tail: &[u8]) -> Vec<u8> {
    words::packet(first, &[&[0, 1], tail].concat())
}

fn wrong_acknowledgement_properties() -> Vec<Broken> {
    let reason = property::reason_string("x");
    let twice = [&[0], property::field(&[reason.clone(), reason]).as_slice()].concat();
    rows([
        ("PUBACK with a property beyond its end", acknowledgement(0x40, &[0, 9]), M),
        ("PUBACK with reason string twice", acknowledgement(0x40, &twice), P),
        ("PUBACK with a topic alias", acknowledgement(0x40, &[0, 3, 0x23, 0, 1]), M),
        ("PUBREC with reason string twice", acknowledgement(0x50, &twice), P),
        ("PUBREL with a property beyond its end", acknowledgement(0x62, &[0, 9]), M),
        ("PUBCOMP with a property beyond its end", acknowledgement(0x70, &[0, 9]), M),
    ])
}

fn wrong_acknowledgement_reasons() -> Vec<Broken> {
    rows([
        ("PUBACK with an unknown reason", acknowledgement(0x40, &[0x42]), E),
        ("PUBACK with a byte too many", acknowledgement(0x40, &[0, 0, 0]), M),
        ("PUBREC with an unknown reason", acknowledgement(0x50, &[0x42]), E),
        ("PUBREL with a reason of PUBREC", acknowledgement(0x62, &[0x80]), E),
        ("PUBCOMP with a reason of PUBREC", acknowledgement(0x70, &[0x80]), E),
    ])
}

fn wrong_requests() -> Vec<Broken> {
    let foreign = |it: Property| words::subscribe_with(V5, 1, &[it], &[("a", 0)]);
    rows([
        ("SUBSCRIBE without property length", vec![0x82, 2, 0, 1], M),
        ("SUBSCRIBE with retain handling 3", words::subscribe(V5, 1, &[("a", 0x30)]), E),
        ("SUBSCRIBE with reserved bit 7", words::subscribe(V5, 1, &[("a", 0x80)]), M),
        ("SUBSCRIBE with a message expiry", foreign(property::message_expiry(1u32)), M),
        ("SUBSCRIBE with a topic alias", foreign(property::topic_alias(1u16)), M),
        ("SUBSCRIBE with a reason string", foreign(property::reason_string("x")), M),
        ("UNSUBSCRIBE without property length", vec![0xA2, 2, 0, 1], M),
        ("UNSUBSCRIBE with a subscription identifier", vec![0xA2, 8, 0, 1, 2, 0x0B, 1, 0, 1, b'a'], M),
    ])
}

/// Everything that is wrong in 5.0.
fn everything(topic: &str) -> Vec<Broken> {
    [
        packets(V5, topic),
        wrong_publish_properties(topic),
        wrong_property_values(topic),
        wrong_acknowledgement_properties(),
        wrong_acknowledgement_reasons(),
        wrong_requests(),
    ]
    .concat()
}

/// Each ends the connection, and no message passes.
fn expect_each_to_end_unheard(packets: impl Fn(&str) -> Vec<Broken>) {
    let topic = unique_topic();
    let mut witness = Client::fresh(V5);
    witness.must_subscribe(&topic, 0);
    expect_each_to_end_the_connection(V5, &packets(&topic));
    witness.expect_quiet();
}

/// [MQTT-4.13.1-1] [MQTT-3.3.2-13] [MQTT-3.3.2-19] [MQTT-2.2.2-1] Properties of wrong form, said twice or of another packet.
#[test]
fn wrong_properties_of_publish_end_the_connection() {
    expect_each_to_end_unheard(wrong_publish_properties);
}

/// [MQTT-3.3.2-14] 3.3.2.3.2 Values that are none: a response topic with a wildcard, a payload format of 2.
#[test]
fn wrong_values_of_properties_end_the_connection() {
    expect_each_to_end_unheard(wrong_property_values);
}

/// [MQTT-4.13.1-1] 3.4.2 to 3.7.2
#[test]
fn wrong_properties_of_acknowledgements_end_the_connection() {
    expect_each_to_end_the_connection(V5, &wrong_acknowledgement_properties());
}

/// 3.4.2.1, 3.5.2.1, 3.6.2.1, 3.7.2.1 Reasons that are not in the table of their packet.
#[test]
fn wrong_reasons_of_acknowledgements_end_the_connection() {
    expect_each_to_end_the_connection(V5, &wrong_acknowledgement_reasons());
}

/// [MQTT-4.13.1-1] [MQTT-2.2.2-1] [MQTT-3.8.3-5] SUBSCRIBE and UNSUBSCRIBE with wrong properties and options.
#[test]
fn wrong_requests_end_the_connection() {
    expect_each_to_end_the_connection(V5, &wrong_requests());
}

/// 4.13.1 A broken packet's reason, where one is told, is the one the standard gives.
#[test]
fn a_reason_that_is_told_is_the_right_one() {
    let packets = everything(&unique_topic());
    let mut rows = Rows::default();
    for ((row, _, codes), ending) in packets.iter().zip(play(V5, &packets)) {
        let right = ending.reason.is_none_or(|it| codes.contains(&it));
        rows.check(row, right, format!("{:02x?}, due {codes:02x?}", ending.reason));
    }
    rows.finish();
}

/// 4.13.1 The reason of a broken packet should be told (a recommendation, not a duty).
#[test]
fn the_reason_of_a_broken_packet_is_told() {
    let packets = everything(&unique_topic());
    let mut rows = Rows::default();
    for ((row, ..), ending) in packets.iter().zip(play(V5, &packets)) {
        rows.check(row, ending.reason.is_some(), ending);
    }
    rows.finish();
}
