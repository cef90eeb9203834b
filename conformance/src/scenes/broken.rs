//! Broken packets on a connection that was good: each ends it, and does nothing else. MQTT 5.0 §4.13 · 3.1.1 §4.8.

use crate::prelude::*;

/// Bytes that are no UTF-8 in MQTT's sense. U+0000 is well-formed but forbidden.
pub const ILL_FORMED: &[(&str, &[u8])] = &[
    ("NUL", b"a\0b"),
    ("lone continuation", b"a\x80"),
    ("cut sequence", b"a\xE2\x82"),
    ("overlong slash", b"a\xC0\xAFb"),
    ("overlong NUL", b"a\xC0\x80b"),
    ("surrogate", b"a\xED\xA0\x80"),
    ("surrogate pair (CESU-8)", b"\xED\xA0\xBD\xED\xB8\x80"),
    ("beyond U+10FFFF", b"\xF4\x90\x80\x80"),
    ("0xFF", b"a\xFFb"),
];

/// A broken packet: what is wrong, its bytes, the reasons 5.0 allows for it (the first is the standard's own).
pub type Broken = (String, Vec<u8>, &'static [u8]);

const MALFORMED: &[u8] = &[0x81];
const PROTOCOL: &[u8] = &[0x82];
const EITHER: &[u8] = &[0x81, 0x82];
const TOPIC: &[u8] = &[0x90, 0x81, 0x82];
const FILTER: &[u8] = &[0x81, 0x82, 0x8F];

/// All rows that the versions share. `topic` is where the wrong PUBLISH packets go.
pub fn packets(v: Version, topic: &str) -> Vec<Broken> {
    [
        publishes(v, topic),
        dup_on_qos_0(v, topic),
        acknowledgements(v),
        subscribes(v),
        unsubscribes(v),
        pings_and_disconnects(v),
        foreign(v),
        ill_formed_texts(v, topic),
    ]
    .concat()
}

fn rows<const N: usize>(rows: [(&str, Vec<u8>, &'static [u8]); N]) -> Vec<Broken> {
    rows.into_iter().map(|(name, bytes, reasons)| (name.into(), bytes, reasons)).collect()
}

/// No properties: a length of 0 in 5.0, nothing before.
fn none(v: Version) -> &'static [u8] {
    if v == V5 { &[0] } else { &[] }
}

/// A PUBLISH of QoS 0 to a topic of any bytes.
fn publish_to(v: Version, topic: &[u8]) -> Vec<u8> {
    words::packet(0x30, &[words::counted(topic).as_slice(), none(v), b"x"].concat())
}

/// SUBSCRIBE, UNSUBSCRIBE and their like: first byte, identifier, no properties, the rest.
fn request(v: Version, first: u8, id: u16, rest: &[u8]) -> Vec<u8> {
    words::packet(first, &[id.to_be_bytes().as_slice(), none(v), rest].concat())
}

pub(crate) fn publishes(v: Version, topic: &str) -> Vec<Broken> {
    let good = publish(topic, "broken").qos(1, 5).bytes(v);
    rows([
        ("PUBLISH with QoS 3", words::packet(0x36, &good[2..]), MALFORMED),
        ("PUBLISH QoS 1 with identifier 0", publish(topic, "x").qos(1, 0).bytes(v), EITHER),
        ("PUBLISH QoS 2 with identifier 0", publish(topic, "x").qos(2, 0).bytes(v), EITHER),
        ("PUBLISH to a topic with +", publish_to(v, format!("{topic}/+").as_bytes()), TOPIC),
        ("PUBLISH to a topic with #", publish_to(v, format!("{topic}/#").as_bytes()), TOPIC),
        ("PUBLISH to an empty topic", publish_to(v, b""), PROTOCOL),
        ("PUBLISH with a topic beyond its end", words::packet(0x30, b"\x00\x09abc"), MALFORMED),
        ("PUBLISH without a body", vec![0x30, 0x00], MALFORMED),
        ("PUBLISH with half a length", vec![0x30, 0x01, 0x00], MALFORMED),
        ("PUBLISH QoS 1 without identifier", words::packet(0x32, b"\x00\x01a"), MALFORMED),
        ("PUBLISH QoS 1 with half an identifier", words::packet(0x32, b"\x00\x01a\x00"), MALFORMED),
        ("a length of five bytes", vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], MALFORMED),
    ])
}

pub(crate) fn dup_on_qos_0(v: Version, topic: &str) -> Vec<Broken> {
    rows([("PUBLISH QoS 0 with DUP", publish(topic, "x").again().bytes(v), EITHER)])
}

pub(crate) fn acknowledgements(v: Version) -> Vec<Broken> {
    let mut all = rows([
        ("PUBACK with flags", vec![0x41, 2, 0, 1], MALFORMED),
        ("PUBACK without identifier", vec![0x40, 0], MALFORMED),
        ("PUBACK with half an identifier", vec![0x40, 1, 1], MALFORMED),
        ("PUBREC with flags", vec![0x52, 2, 0, 1], MALFORMED),
        ("PUBREC with half an identifier", vec![0x50, 1, 1], MALFORMED),
        ("PUBCOMP with flags", vec![0x78, 2, 0, 1], MALFORMED),
        ("PUBCOMP without identifier", vec![0x70, 0], MALFORMED),
    ]);
    all.extend(pubrels());
    if v != V5 {
        all.extend(rows([("PUBACK that is too long", vec![0x40, 3, 0, 1, 0], MALFORMED)]));
    }
    all
}

fn pubrels() -> Vec<Broken> {
    rows([
        ("PUBREL with flags 0", vec![0x60, 2, 0, 1], MALFORMED),
        ("PUBREL with flags 3", vec![0x63, 2, 0, 1], MALFORMED),
        ("PUBREL with half an identifier", vec![0x62, 1, 1], MALFORMED),
    ])
}

pub(crate) fn subscribes(v: Version) -> Vec<Broken> {
    let mut all = rows([
        ("SUBSCRIBE with flags 0", request(v, 0x80, 1, b"\x00\x01a\x00"), MALFORMED),
        ("SUBSCRIBE with flags 3", request(v, 0x83, 1, b"\x00\x01a\x00"), MALFORMED),
        ("SUBSCRIBE without filters", request(v, 0x82, 1, b""), EITHER),
        ("SUBSCRIBE with identifier 0", request(v, 0x82, 0, b"\x00\x01a\x00"), EITHER),
        ("SUBSCRIBE with QoS 3", request(v, 0x82, 1, b"\x00\x01a\x03"), EITHER),
        ("SUBSCRIBE with reserved bits", request(v, 0x82, 1, b"\x00\x01a\x40"), MALFORMED),
        ("SUBSCRIBE without options", request(v, 0x82, 1, b"\x00\x01a"), MALFORMED),
        ("SUBSCRIBE with a filter beyond its end", request(v, 0x82, 1, b"\x00\x09a\x00"), MALFORMED),
        ("SUBSCRIBE cut in its second filter", request(v, 0x82, 1, b"\x00\x01a\x00\x00"), MALFORMED),
        ("SUBSCRIBE without a body", vec![0x82, 0], MALFORMED),
    ]);
    if v != V5 {
        let options_of_5 = request(v, 0x82, 1, b"\x00\x01a\x04");
        all.extend(rows([("SUBSCRIBE with the option bits of 5.0", options_of_5, MALFORMED)]));
    }
    all
}

pub(crate) fn unsubscribes(v: Version) -> Vec<Broken> {
    rows([
        ("UNSUBSCRIBE with flags 0", request(v, 0xA0, 1, b"\x00\x01a"), MALFORMED),
        ("UNSUBSCRIBE without filters", request(v, 0xA2, 1, b""), EITHER),
        ("UNSUBSCRIBE with identifier 0", request(v, 0xA2, 0, b"\x00\x01a"), EITHER),
        ("UNSUBSCRIBE with a filter beyond its end", request(v, 0xA2, 1, b"\x00\x09a"), MALFORMED),
        ("UNSUBSCRIBE without a body", vec![0xA2, 0], MALFORMED),
    ])
}

pub(crate) fn pings_and_disconnects(v: Version) -> Vec<Broken> {
    let mut all = rows([
        ("PINGREQ with flags", vec![0xC1, 0], MALFORMED),
        ("PINGREQ with a body", vec![0xC0, 1, 0], MALFORMED),
        ("DISCONNECT with flags", vec![0xE1, 0], MALFORMED),
    ]);
    if v != V5 {
        all.extend(rows([("DISCONNECT with a body", vec![0xE0, 1, 0], MALFORMED)]));
    }
    all
}

/// Packets that clients never send.
pub(crate) fn foreign(v: Version) -> Vec<Broken> {
    let connack = if v == V5 { vec![0x20, 3, 0, 0, 0] } else { vec![0x20, 2, 0, 0] };
    let mut all = rows([
        ("CONNACK from a client", connack, EITHER),
        ("SUBACK from a client", request(v, 0x90, 1, b"\x00"), EITHER),
        ("UNSUBACK from a client", request(v, 0xB0, 1, b""), EITHER),
        ("PINGRESP from a client", vec![0xD0, 0], EITHER),
        ("type 0", vec![0x00, 0], EITHER),
    ]);
    if v != V5 {
        all.extend(rows([("type 15", vec![0xF0, 0], EITHER)]));
    }
    all
}

fn ill_formed_texts(v: Version, topic: &str) -> Vec<Broken> {
    let mut all = Vec::new();
    for (name, text) in ILL_FORMED {
        let text = [topic.as_bytes(), b"/", text].concat();
        let filter = words::counted(&text);
        let with_options = [filter.as_slice(), &[0]].concat();
        all.push((format!("PUBLISH to a topic with {name}"), publish_to(v, &text), TOPIC));
        all.push((format!("SUBSCRIBE to a filter with {name}"), request(v, 0x82, 1, &with_options), FILTER));
        all.push((format!("UNSUBSCRIBE from a filter with {name}"), request(v, 0xA2, 1, &filter), FILTER));
    }
    all
}

/// Plays each row on a connection of its own.
pub fn play(v: Version, rows: &[Broken]) -> Vec<Ending> {
    rows.iter()
        .map(|(_, bytes, _)| {
            let mut client = Client::fresh(v);
            client.say(bytes);
            client.fate()
        })
        .collect()
}

/// Each ends the connection, unanswered but for a DISCONNECT.
pub fn expect_each_to_end_the_connection(v: Version, packets: &[Broken]) {
    let mut rows = Rows::default();
    for ((row, ..), ending) in packets.iter().zip(play(v, packets)) {
        rows.check(row, ending.closed && ending.others.is_empty(), ending);
    }
    rows.finish();
}

/// PUBLISH of wrong form.
pub fn a_broken_publish_ends_the_connection(v: Version) {
    expect_each_to_end_the_connection(v, &publishes(v, &unique_topic()));
}

/// PUBLISH of QoS 0 with DUP.
pub fn dup_on_qos_0_ends_the_connection(v: Version) {
    expect_each_to_end_the_connection(v, &dup_on_qos_0(v, &unique_topic()));
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP of wrong form.
pub fn a_broken_acknowledgement_ends_the_connection(v: Version) {
    expect_each_to_end_the_connection(v, &acknowledgements(v));
}

/// PUBREL alone: its flags are not 0.
pub fn a_broken_pubrel_ends_the_connection(v: Version) {
    expect_each_to_end_the_connection(v, &pubrels());
}

/// SUBSCRIBE of wrong form.
pub fn a_broken_subscribe_ends_the_connection(v: Version) {
    expect_each_to_end_the_connection(v, &subscribes(v));
}

/// UNSUBSCRIBE of wrong form.
pub fn a_broken_unsubscribe_ends_the_connection(v: Version) {
    expect_each_to_end_the_connection(v, &unsubscribes(v));
}

/// PINGREQ and DISCONNECT of wrong form.
pub fn a_broken_ping_or_disconnect_ends_the_connection(v: Version) {
    expect_each_to_end_the_connection(v, &pings_and_disconnects(v));
}

/// Packets that clients never send, and types that are none.
pub fn a_foreign_packet_ends_the_connection(v: Version) {
    expect_each_to_end_the_connection(v, &foreign(v));
}

/// Topics and filters that are no UTF-8 strings.
pub fn an_ill_formed_text_ends_the_connection(v: Version) {
    expect_each_to_end_the_connection(v, &ill_formed_texts(v, &unique_topic()));
}

/// None has another effect: no message passes, and nobody else notices.
pub fn no_broken_packet_has_another_effect(v: Version) {
    let topic = unique_topic();
    let mut witness = Client::fresh(v);
    witness.must_subscribe(&format!("{topic}/#"), 2);
    let mut bystander = Client::fresh(v);
    let packets = packets(v, &topic);
    play(v, &packets);
    witness.expect_quiet();
    bystander.expect_alive();
    let mut late = Client::fresh(v);
    late.must_subscribe(&format!("{topic}/#"), 2);
    late.expect_quiet();
    bystander.publish(&publish(topic.as_str(), "good").qos(2, 1));
    witness.expect_message("good");
}

/// A good packet behind a broken one, in the same segment, is not acted on.
pub fn nothing_behind_a_broken_packet_is_processed(v: Version) {
    let topic = unique_topic();
    let mut witness = Client::fresh(v);
    witness.must_subscribe(&topic, 0);
    let mut client = Client::fresh(v);
    let behind = publish(topic.as_str(), "behind").bytes(v);
    client.say([vec![0x36, 0x02, 0x00, 0x00], behind].concat());
    assert!(client.ending().closed);
    witness.expect_quiet();
}

/// A DISCONNECT of wrong form is no DISCONNECT: the will is published.
pub fn a_broken_disconnect_does_not_forget_the_will(v: Version) {
    let topic = unique_topic();
    let mut witness = Client::fresh(v);
    witness.must_subscribe(&topic, 0);
    let mut client = Client::connect(&Connect::new(v, unique_id()).will(Will::new(topic, "gone")));
    client.say([0xE1, 0x00]);
    client.ending();
    witness.expect_message("gone");
}
