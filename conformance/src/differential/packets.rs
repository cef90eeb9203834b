//! Packets of the generator: mostly right, some odd, some wrong.

use super::generate::Dice;
use crate::property::{self, Property, Value};
use crate::words::{self, Connect, Publish, Version, Will};

/// Topics that scenarios share, so that they meet.
const TOPICS: [&str; 10] = ["a", "b", "a/b", "a/b/c", "a//c", "/", "/a", "$d/a", "é/ü", "b/a"];

/// Topics that should not be.
const ODD_TOPICS: [&str; 8] = ["", "a/+", "#", "+", "$SYS/x", "$share/g/a", "$CONTROL/x", "a/\u{1}"];

/// Filters of right form.
const FILTERS: [&str; 17] = [
    "a", "b", "a/b", "a/#", "a/+", "+", "#", "+/b", "+/+", "/+", "/#", "$d/#", "+/a", "a/+/c", "é/#",
    "a/b/#", "$d/a",
];

/// Filters that should not be, or that are hard to tell.
const ODD_FILTERS: [&str; 13] = [
    "",
    "a#",
    "a/#/b",
    "+a",
    "a+/b",
    "##",
    "a/b#",
    "$share",
    "$share/",
    "$share/g",
    "$share/g/",
    "$share//a",
    "$share/+/a",
];

/// CONNECT of this version and identifier.
pub fn connect(dice: &mut Dice, version: Version, id: &str) -> Vec<u8> {
    let mut connect = Connect::new(version, id);
    connect.clean = dice.of(100) < 55;
    connect.keep_alive = *dice.pick(&[0, 60, 600, 65535]);
    if dice.one_in(3) {
        connect.will = Some(will(dice, version));
    }
    if dice.one_in(40) {
        connect.user = Some(dice.pick(&[&b"user"[..], b"", b"u\xC3\xA9", b"u\xFF"]).to_vec());
    }
    if dice.one_in(8) {
        connect.password = Some(dice.pick(&[&b"secret"[..], b"", b"\xFF\x00"]).to_vec());
    }
    if version == Version::V5 {
        connect.properties = connect_properties(dice, connect.clean);
    }
    if dice.one_in(60) {
        connect.flip = 1 << dice.of(8);
    }
    if dice.one_in(80) {
        connect.level = *dice.pick(&[0, 1, 2, 3, 4, 5, 6, 0x7F, 0x83, 0x84, 0x85, 0xFF]);
    }
    if dice.one_in(100) {
        connect.name = dice.pick(&[&b"MQTT"[..], b"MQIsdp", b"mqtt", b"MQTTX", b"", b"HTTP"]).to_vec();
    }
    connect.bytes()
}

fn connect_properties(dice: &mut Dice, clean: bool) -> Vec<Property> {
    let mut out = Vec::new();
    if dice.of(100) < if clean { 30 } else { 80 } {
        out.push(property::session_expiry(*dice.pick(&[1000u32, 1000, u32::MAX, 0])));
    }
    if dice.one_in(10) {
        out.push(property::receive_maximum(*dice.pick(&[1u16, 2, 5, 65535, 20, 0])));
    }
    if dice.one_in(12) {
        out.push(property::maximum_packet_size(*dice.pick(&[70u32, 100, 1000, u32::MAX, 0])));
    }
    if dice.one_in(6) {
        out.push(property::topic_alias_maximum(*dice.pick(&[0u16, 1, 3, 65535])));
    }
    if dice.one_in(10) {
        out.push(property::request_response_information(*dice.pick(&[0u8, 1, 1, 2])));
    }
    if dice.one_in(10) {
        out.push(property::request_problem_information(*dice.pick(&[0u8, 1, 0, 2])));
    }
    if dice.one_in(10) {
        out.push(property::user("k", "v"));
    }
    if dice.one_in(60) {
        out.push(property::authentication_method("M"));
    }
    if dice.one_in(60) {
        out.push(property::authentication_data("D"));
    }
    spice(dice, &mut out);
    out
}

fn will(dice: &mut Dice, version: Version) -> Will {
    let topic = topic(dice, 20);
    let payload = if dice.one_in(8) { String::new() } else { format!("will{}", dice.of(1000)) };
    let mut will = Will::new(topic, &payload);
    will.qos = dice.of(3) as u8;
    will.retain = dice.one_in(3);
    if dice.one_in(60) {
        will.qos = 3;
    }
    if version == Version::V5 {
        will.properties = message_properties(dice);
        if dice.one_in(4) {
            will.properties.push(property::will_delay(*dice.pick(&[0u32, 0, 1000])));
        }
        spice(dice, &mut will.properties);
    }
    will
}

fn topic(dice: &mut Dice, odd_in: u64) -> String {
    let from = if dice.one_in(odd_in) { &ODD_TOPICS[..] } else { &TOPICS[..] };
    (*dice.pick(from)).to_owned()
}

/// Properties that a message may have.
fn message_properties(dice: &mut Dice) -> Vec<Property> {
    let mut out = Vec::new();
    if !dice.one_in(3) {
        return out;
    }
    if dice.one_in(4) {
        out.push(property::payload_format(*dice.pick(&[0u8, 0, 1, 1, 1, 2])));
    }
    if dice.one_in(4) {
        out.push(property::message_expiry(*dice.pick(&[1000u32, 5000, u32::MAX])));
    }
    if dice.one_in(4) {
        out.push(property::content_type(*dice.pick(&["text", "", "é"])));
    }
    if dice.one_in(4) {
        out.push(property::response_topic(*dice.pick(&["r", "a/b", "r/x", "r/+"])));
    }
    if dice.one_in(4) {
        out.push(property::correlation_data(*dice.pick(&["1", "", "\0"])));
    }
    if dice.one_in(3) {
        out.extend([property::user("k", "v"), property::user("k", "w"), property::user("", "")]);
    }
    out
}

/// Now and then a property that has no business here, or one twice.
fn spice(dice: &mut Dice, properties: &mut Vec<Property>) {
    if !dice.one_in(60) {
        return;
    }
    if dice.one_in(3)
        && let Some(first) = properties.first().cloned()
    {
        properties.push(first);
        return;
    }
    let id = *dice.pick(&[
        0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x11, 0x12, 0x13, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1C, 0x1F,
        0x21, 0x22, 0x23, 0x24, 0x25, 0x27, 0x28, 0x29, 0x2A, 0x00, 0x04, 0x7F,
    ]);
    let value = match id {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2A => Value::Byte(1),
        0x13 | 0x21..=0x23 => Value::Two(1),
        0x02 | 0x11 | 0x18 | 0x27 => Value::Four(1000),
        0x0B => Value::Variable(1),
        _ => Value::Bytes(b"x".to_vec()),
    };
    properties.push(Property { id, value });
}

/// PUBLISH with a payload of its own.
pub fn publish(dice: &mut Dice, version: Version, payload: String) -> Vec<u8> {
    let mut qos = dice.of(3) as u8;
    if dice.one_in(150) {
        qos = 3;
    }
    let id = if dice.one_in(60) { 0 } else { 1 + dice.of(6) as u16 };
    let mut message = Publish {
        topic: topic(dice, 25),
        payload: payload.into_bytes(),
        qos,
        id,
        retain: dice.one_in(3),
        dup: dice.one_in(if qos == 0 { 100 } else { 8 }),
        properties: Vec::new(),
    };
    if dice.one_in(6) {
        message.payload.clear();
    } else if dice.one_in(12) {
        message.payload.resize(200, b'x');
    }
    if version == Version::V5 {
        message.properties = message_properties(dice);
        if dice.one_in(8) {
            message.properties.push(property::topic_alias(*dice.pick(&[1u16, 1, 2, 2, 3, 10, 11, 0, 65535])));
            if dice.one_in(2) {
                message.topic.clear();
            }
        }
        spice(dice, &mut message.properties);
    }
    message.bytes(version)
}

/// SUBSCRIBE of one to three filters.
pub fn subscribe(dice: &mut Dice, version: Version, id: &str) -> Vec<u8> {
    let filters: Vec<(String, u8)> = (0..1 + dice.of(3) * dice.of(2))
        .map(|_| {
            let filter = filter(dice, id);
            let mut options = dice.of(3) as u8;
            if version == Version::V5 {
                options |= u8::from(dice.one_in(6)) << 2
                    | u8::from(dice.one_in(3)) << 3
                    | (dice.of(3) as u8 * u8::from(dice.one_in(2))) << 4;
            }
            if dice.one_in(80) {
                options |= 1 << dice.of(8);
            }
            if dice.one_in(120) {
                options |= *dice.pick(&[3, 0x30]);
            }
            (filter, options)
        })
        .collect();
    let mut borrowed: Vec<(&str, u8)> =
        filters.iter().map(|(filter, options)| (filter.as_str(), *options)).collect();
    if dice.one_in(100) {
        borrowed.clear();
    }
    let mut properties = Vec::new();
    if dice.one_in(5) {
        properties.push(property::subscription_id(*dice.pick(&[1u32, 2, 127, 128, 268_435_455, 1, 2, 0])));
    }
    if dice.one_in(10) {
        properties.push(property::user("k", "v"));
    }
    spice(dice, &mut properties);
    words::subscribe_with(version, request_id(dice), &properties, &borrowed)
}

fn request_id(dice: &mut Dice) -> u16 {
    if dice.one_in(60) { 0 } else { 10 + dice.of(5) as u16 }
}

fn filter(dice: &mut Dice, id: &str) -> String {
    if dice.one_in(30) {
        return (*dice.pick(&ODD_FILTERS)).to_owned();
    }
    let filter = *dice.pick(&FILTERS);
    // A group of its own for each client: who of several gets a message is free.
    if dice.one_in(15) && !id.is_empty() { format!("$share/{id}/{filter}") } else { filter.to_owned() }
}

/// UNSUBSCRIBE of one or two filters.
pub fn unsubscribe(dice: &mut Dice, version: Version, id: &str) -> Vec<u8> {
    let filters: Vec<String> = (0..1 + dice.of(2)).map(|_| filter(dice, id)).collect();
    let mut body = request_id(dice).to_be_bytes().to_vec();
    if version == Version::V5 {
        let mut properties = Vec::new();
        if dice.one_in(10) {
            properties.push(property::user("k", "v"));
        }
        spice(dice, &mut properties);
        body.extend(property::field(&properties));
    }
    if !dice.one_in(100) {
        for filter in &filters {
            body.extend(words::counted(filter));
        }
    }
    words::packet(0xA2, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP of an identifier that may or may not be in use, and what else a client can say.
pub fn other(dice: &mut Dice, version: Version) -> Vec<u8> {
    let five = version == Version::V5;
    match dice.of(20) {
        0..=10 => {
            let kind = *dice.pick(&[6, 6, 6, 6, 6, 6, 6, 6, 4, 5, 7]);
            let id = if dice.one_in(40) {
                0
            } else if kind == 6 {
                1 + dice.of(6) as u16
            } else {
                0x5000
            };
            let mut body = id.to_be_bytes().to_vec();
            if five && dice.one_in(6) {
                body.push(*dice.pick(&[0, 0, 0x92, 0x10, 0x80, 0x42]));
                if dice.one_in(3) {
                    let mut properties = vec![property::user("k", "v")];
                    spice(dice, &mut properties);
                    body.extend(property::field(&properties));
                }
            }
            words::packet(kind << 4 | if kind == 6 { 2 } else { 0 }, &body)
        }
        11..=16 => words::PINGREQ.to_vec(),
        17 if five => {
            let reason = *dice.pick(&[0x00, 0x18, 0x19, 0x42]);
            let mut properties = Vec::new();
            if dice.one_in(2) {
                properties.push(property::authentication_method("M"));
            }
            words::auth(reason, &properties)
        }
        // Packets that only brokers send, and those that nobody does.
        _ => match dice.of(6) {
            0 => words::packet(0x20, &[0, 0]),
            1 => words::packet(0x90, &[0, 1, 0]),
            2 => words::packet(0xB0, &[0, 1]),
            3 => words::packet(0xD0, &[]),
            4 => words::packet(0x00, &[]),
            _ => words::packet(0xF0, &[]),
        },
    }
}

/// DISCONNECT.
pub fn disconnect(dice: &mut Dice, version: Version) -> Vec<u8> {
    if version != Version::V5 || dice.one_in(2) {
        return words::DISCONNECT.to_vec();
    }
    let reason = *dice.pick(&[0x00, 0x00, 0x04, 0x04, 0x80, 0x81, 0x98, 0x42, 0x8B]);
    let mut properties = Vec::new();
    if dice.one_in(2) {
        properties.push(property::session_expiry(*dice.pick(&[0u32, 1000, u32::MAX])));
    }
    spice(dice, &mut properties);
    if properties.is_empty() && dice.one_in(2) {
        return words::packet(0xE0, &[reason]);
    }
    words::disconnect_with(reason, &properties)
}

/// Spoils bytes in one of several ways.
pub fn spoil(dice: &mut Dice, mut bytes: Vec<u8>) -> Vec<u8> {
    let place = dice.of(bytes.len() as u64) as usize;
    match dice.of(8) {
        0 | 1 => bytes[place] ^= 1 << dice.of(8),
        2 => bytes[0] ^= 1 << dice.of(4),
        3 => bytes.truncate(place.max(1)),
        4 => bytes.insert(place, dice.of(256) as u8),
        5 => drop(bytes.remove(place)),
        6 => {
            // One byte more inside the packet, with a length that counts it.
            bytes.push(dice.of(256) as u8);
            if bytes.len() > 2 && bytes[1] < 0x7F {
                bytes[1] += 1;
            }
        }
        _ => {
            // The same length in one byte more.
            if bytes.len() > 1 && bytes[1] < 0x80 {
                bytes[1] |= 0x80;
                bytes.insert(2, 0);
            }
        }
    }
    if bytes.is_empty() {
        bytes.push(0xC0);
    }
    bytes
}
