//! Properties of 5.0 that are misplaced, twice, of a wrong value or of wrong form: every property in every packet of a client.

use super::{Wrong, row};
use crate::client::unique_id;
use crate::property::{self, Property, Value};
use crate::words::{self, Connect, Version::*, Will, publish};

/// Every identifier with a value of its form, and 0x00, 0x04, 0x7F which are none.
fn each() -> Vec<Property> {
    let ids = [
        0x00, 0x01, 0x02, 0x03, 0x04, 0x08, 0x09, 0x0B, 0x11, 0x12, 0x13, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A,
        0x1C, 0x1F, 0x21, 0x22, 0x23, 0x24, 0x25, 0x27, 0x28, 0x29, 0x2A, 0x7F,
    ];
    ids.iter().map(|&id| Property { id, value: value(id) }).collect()
}

fn value(id: u8) -> Value {
    match id {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2A => Value::Byte(1),
        0x13 | 0x21..=0x23 => Value::Two(1),
        0x02 | 0x11 | 0x18 | 0x27 => Value::Four(1000),
        0x0B => Value::Variable(1),
        _ => Value::Bytes(b"x".to_vec()),
    }
}

/// A packet of this name with these properties. CONNECT is not here: it comes first.
type Packet = (&'static str, fn(&[Property]) -> Vec<u8>, &'static [u8]);

/// Name, how it is made, and what belongs there.
const PACKETS: [Packet; 7] = [
    ("PUBLISH", |it| publishing(it), &[0x01, 0x02, 0x03, 0x08, 0x09, 0x23]),
    ("PUBACK", |it| acknowledgement(0x40, it), &[0x1F]),
    ("PUBREC", |it| acknowledgement(0x50, it), &[0x1F]),
    ("PUBREL", |it| acknowledgement(0x62, it), &[0x1F]),
    ("PUBCOMP", |it| acknowledgement(0x70, it), &[0x1F]),
    ("SUBSCRIBE", |it| words::subscribe_with(V5, 1, it, &[("a", 0)]), &[0x0B]),
    ("DISCONNECT", |it| words::disconnect_with(0, it), &[0x11, 0x1F]),
];

/// All but CONNECT's.
pub fn all() -> Vec<Wrong> {
    let mut rows = Vec::new();
    for (name, make, own) in PACKETS {
        rows.extend(misplaced_and_twice(name, &make, own));
    }
    rows.extend(misplaced_and_twice("UNSUBSCRIBE", &unsubscribe, &[]));
    rows.extend(values());
    rows
}

/// CONNECT's and the will's.
pub fn of_connect() -> Vec<Wrong> {
    let connect = |it: &[Property]| {
        let mut connect = Connect::new(V5, unique_id());
        connect.properties = it.to_vec();
        connect.bytes()
    };
    let willing = |it: &[Property]| {
        let mut will = Will::new("conformance/will", "w");
        will.properties = it.to_vec();
        Connect::new(V5, unique_id()).will(will).bytes()
    };
    let mut rows =
        misplaced_and_twice("CONNECT", &connect, &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x27]);
    // Refused for what they are, whatever their number.
    rows.retain(|(name, _)| !name.contains("0x15") && !name.contains("0x16"));
    rows.extend(misplaced_and_twice("the will", &willing, &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18]));
    for (name, it) in [
        ("Receive Maximum 0", property::receive_maximum(0u16)),
        ("Maximum Packet Size 0", property::maximum_packet_size(0u32)),
        ("Request Problem Information 2", property::request_problem_information(2)),
        ("Request Response Information 2", property::request_response_information(2)),
        (
            "a user property that is not UTF-8",
            Property { id: property::USER, value: Value::Pair(vec![0xFF], vec![]) },
        ),
    ] {
        rows.push(row(format!("CONNECT with {name}"), connect(&[it])));
    }
    for (name, it) in [
        ("payload format 2", property::payload_format(2)),
        ("a response topic with +", property::response_topic("a/+")),
        ("an empty response topic", property::response_topic("")),
        ("a content type that is not UTF-8", property::content_type([0xFF])),
    ] {
        rows.push(row(format!("the will with {name}"), willing(&[it])));
    }
    rows
}

fn misplaced_and_twice(name: &str, make: &dyn Fn(&[Property]) -> Vec<u8>, own: &[u8]) -> Vec<Wrong> {
    let mut rows = Vec::new();
    for it in each() {
        let id = it.id;
        if own.contains(&id) {
            rows.push(row(format!("{name} with property {id:#04x} twice"), make(&[it.clone(), it])));
        } else {
            rows.push(row(format!("{name} with property {id:#04x}"), make(&[it])));
        }
    }
    rows
}

fn publishing(properties: &[Property]) -> Vec<u8> {
    let mut message = publish("conformance/wrong", "x");
    message.properties = properties.to_vec();
    message.bytes(V5)
}

fn acknowledgement(first: u8, properties: &[Property]) -> Vec<u8> {
    words::packet(first, &[&[0, 1, 0], property::field(properties).as_slice()].concat())
}

fn unsubscribe(properties: &[Property]) -> Vec<u8> {
    words::packet(0xA2, &[&[0, 1], property::field(properties).as_slice(), &words::counted("a")].concat())
}

fn values() -> Vec<Wrong> {
    let one = |it: Property| publishing(&[it]);
    let unknown = |alias: u16| {
        let mut message = publish("", "x");
        message.properties = vec![property::topic_alias(alias)];
        message.bytes(V5)
    };
    let raw = |field: &[u8]| words::packet(0x30, &[words::counted("a").as_slice(), field].concat());
    let subscribe = |id: u32| words::subscribe_with(V5, 1, &[property::subscription_id(id)], &[("a", 0)]);
    let user = |name: &[u8]| Property { id: property::USER, value: Value::Pair(name.to_vec(), Vec::new()) };
    vec![
        row("PUBLISH with payload format 2", one(property::payload_format(2))),
        row("PUBLISH with a response topic with +", one(property::response_topic("a/+"))),
        row("PUBLISH with a response topic with #", one(property::response_topic("#"))),
        row("PUBLISH with an empty response topic", one(property::response_topic(""))),
        row("PUBLISH with a response topic that is not UTF-8", one(property::response_topic([0xFF]))),
        row("PUBLISH with a content type that is not UTF-8", one(property::content_type([0xC0, 0xAF]))),
        row("PUBLISH with a content type with NUL", one(property::content_type("a\0"))),
        row("PUBLISH with a user property that is not UTF-8", one(user(&[0xFF]))),
        row("PUBLISH with a user property with U+0001", one(user(&[1]))),
        row("PUBLISH with topic alias 0", one(property::topic_alias(0u16))),
        row("PUBLISH with topic alias 0 and no topic", unknown(0)),
        row("PUBLISH with a topic alias above the maximum", one(property::topic_alias(11u16))),
        row("PUBLISH with topic alias 65535", one(property::topic_alias(65535u16))),
        row("PUBLISH with a topic alias that was never told", unknown(3)),
        row("PUBLISH without property length", raw(&[])),
        row("PUBLISH with a property length beyond its end", raw(&[9, 1, 0])),
        row("PUBLISH with a property cut short", raw(&[3, 2, 0, 0])),
        row("PUBLISH with a text beyond its properties", raw(&[3, 3, 0, 9])),
        row("PUBLISH with a property length of five bytes", raw(&[0xFF, 0xFF, 0xFF, 0xFF, 1])),
        row("PUBLISH with a property length in a long form", raw(&[0x80, 0])),
        row("PUBLISH with an identifier of two bytes", raw(&[3, 0x80, 0x01, 0])),
        row("SUBSCRIBE with subscription identifier 0", subscribe(0)),
        row("SUBSCRIBE without property length", vec![0x82, 2, 0, 1]),
        row("SUBSCRIBE with a property length beyond its end", vec![0x82, 3, 0, 1, 9]),
        row("UNSUBSCRIBE without property length", vec![0xA2, 2, 0, 1]),
        row("UNSUBSCRIBE with a property length beyond its end", vec![0xA2, 3, 0, 1, 9]),
    ]
}
