//! PUBLISH that is wrong, and acknowledgements that are wrong or of nothing.

use super::{UNENDING, Wrong, row, texts};
use crate::client::unique_topic;
use crate::scenes::broken;
use crate::words::{self, Version, Version::*, publish};

/// All of them.
pub fn all(v: Version) -> Vec<Wrong> {
    let topic = unique_topic();
    let shared =
        [broken::publishes(v, &topic), broken::dup_on_qos_0(v, &topic), broken::acknowledgements(v)].concat();
    let mut rows: Vec<Wrong> = shared.into_iter().map(|(name, bytes, _)| row(name, bytes)).collect();
    rows.extend(topics(v));
    rows.extend(sizes(v));
    rows.extend(acknowledgements(v));
    rows
}

fn to(v: Version, topic: &[u8]) -> Vec<u8> {
    let properties: &[u8] = if v == V5 { &[0] } else { &[] };
    words::packet(0x30, &[words::counted(topic).as_slice(), properties, b"x"].concat())
}

fn topics(v: Version) -> Vec<Wrong> {
    let mut rows = Vec::new();
    for (name, text) in texts() {
        rows.push(row(format!("PUBLISH to a topic with {name}"), to(v, &text)));
    }
    for topic in ["+", "#", "$SYS/x", "$SYS", "$share/g/a", "$share", "$shared/a", "$CONTROL/x"] {
        for qos in 0..3 {
            rows.push(row(format!("PUBLISH QoS {qos} to {topic}"), publish(topic, "x").qos(qos, 7).bytes(v)));
        }
    }
    for slashes in [199, 200, 201, 400] {
        let topic = "/".repeat(slashes);
        rows.push(row(
            format!("PUBLISH QoS 1 to a topic of {slashes} slashes"),
            publish(topic, "x").qos(1, 7).bytes(v),
        ));
    }
    rows
}

fn sizes(v: Version) -> Vec<Wrong> {
    let mut padded = publish("a", "x").bytes(v);
    padded[1] |= 0x80;
    padded.insert(2, 0);
    vec![
        row("PUBLISH with its Remaining Length in a long form", padded),
        row(
            format!("{UNENDING}2,000,001 bytes, its first ten"),
            [&[0x30][..], &words::variable(1_999_997), b"\0\x04a/b/"].concat(),
        ),
        row(
            format!("{UNENDING}268,435,455 bytes, its first ten"),
            [&[0x30][..], &words::variable(268_435_455), b"\0\x04a/b/"].concat(),
        ),
    ]
}

fn acknowledgements(v: Version) -> Vec<Wrong> {
    let names = [(0x40, "PUBACK"), (0x50, "PUBREC"), (0x62, "PUBREL"), (0x70, "PUBCOMP")];
    let mut rows = Vec::new();
    for (first, name) in names {
        rows.push(row(format!("{name} of identifier 0"), words::packet(first, &[0, 0])));
        rows.push(row(format!("{name} of an unknown identifier"), words::packet(first, &[0x12, 0x34])));
        for bit in [1, 2, 4, 8] {
            rows.push(row(
                format!("{name} with flag {bit} turned over"),
                words::packet(first ^ bit, &[0, 1]),
            ));
        }
        if v == V5 {
            for reason in [0x01, 0x10, 0x42, 0x80, 0x92, 0xFF] {
                rows.push(row(
                    format!("{name} with reason {reason:#04x}"),
                    words::packet(first, &[0, 1, reason]),
                ));
            }
            rows.push(row(format!("{name} with a byte too many"), words::packet(first, &[0, 1, 0, 0, 0])));
            rows.push(row(
                format!("{name} with properties beyond its end"),
                words::packet(first, &[0, 1, 0, 9]),
            ));
        } else {
            rows.push(row(format!("{name} with a byte too many"), words::packet(first, &[0, 1, 0])));
        }
    }
    if v == V5 {
        // A quick sender: one message more than the broker said it takes.
        let many = (1..=21).flat_map(|id| publish("flow", "x").qos(2, id).bytes(v)).collect();
        rows.push(row("PUBLISH QoS 2, one beyond the receive maximum of 20", many));
    }
    rows
}
