//! Nanoseconds for what a broker does with each PUBLISH: read it, and write it to a subscriber.
//!
//! `cargo bench -p quoll-mqtt`. The best of several rounds is shown, which is what the code can do; a loaded machine shows
//! itself in the spread. The last column is the same with mqtt-protocol-core, where it has the same thing to do.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mqtt_protocol_core::mqtt::packet::{v3_1_1, v5_0};
use quoll_mqtt::encode::{SharedFrame, publish_flags, publish_frame};
use quoll_mqtt::packet::{Publish, PublishProperties};
use quoll_mqtt::{
    DecodeContext, Decoded, Delivery, Packet, PacketId, ProtocolVersion, QoS, Role, TopicFilter, TopicName,
    decode, encode,
};

const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(20);

fn main() {
    println!("{:<44} {:>9} {:>9} {:>9}", "", "best ns", "median ns", "theirs ns");
    for (name, version, payload, properties) in [
        ("3.1.1, 24 bytes", ProtocolVersion::V311, 24, false),
        ("3.1.1, 1,500 bytes", ProtocolVersion::V311, 1_500, false),
        ("5.0, 24 bytes", ProtocolVersion::V5, 24, false),
        ("5.0, 24 bytes, four properties", ProtocolVersion::V5, 24, true),
    ] {
        publish(name, version, payload, properties);
    }
    let topic = TopicName::parse("tele/kitchen_plug/SENSOR").expect("a topic");
    let filter = TopicFilter::parse("tele/+/SENSOR").expect("a filter");
    row("match tele/+/SENSOR", measure(|| black_box(&filter).matches(black_box(&topic))), None);
}

fn publish(name: &str, version: ProtocolVersion, size: usize, properties: bool) {
    let id = PacketId::new(7).expect("not 0");
    let topic = TopicName::parse("tele/kitchen_plug/SENSOR").expect("a topic");
    let properties = properties.then(|| {
        Box::new(PublishProperties {
            message_expiry_interval: Some(60),
            content_type: Some("application/json".into()),
            user_properties: vec![("origin".into(), "plug".into())],
            payload_format_indicator: Some(true),
            ..Default::default()
        })
    });
    let publish = Publish {
        dup: false,
        retain: false,
        delivery: Delivery::AtLeastOnce(id),
        topic: Some(topic.clone()),
        payload: Bytes::from(vec![b'x'; size]),
        properties,
    };
    let packet = Packet::Publish(publish.clone());
    let mut bytes = Vec::new();
    encode(&packet, version, &mut bytes).expect("fits");

    let context = DecodeContext { version: Some(version), maximum_packet_size: 1 << 20, role: Role::Server };
    let ours = measure(|| match decode(black_box(&bytes), &context) {
        Ok(Decoded::Packet(packet, _)) => packet,
        other => panic!("{other:?}"),
    });
    let header = if bytes.len() < 130 { 2 } else { 3 };
    let theirs = if version == ProtocolVersion::V5 {
        measure(|| v5_0::Publish::parse(2, black_box(&bytes)[header..].into()).expect("well formed"))
    } else {
        measure(|| v3_1_1::Publish::parse(2, black_box(&bytes)[header..].into()).expect("well formed"))
    };
    row(&format!("decode {name}"), ours, Some(theirs));

    let mut out = Vec::with_capacity(4_096);
    let encoded = measure(|| {
        out.clear();
        encode(black_box(&packet), version, &mut out).expect("fits");
        out.len()
    });
    row(&format!("encode {name}"), encoded, None);
    let (flags, properties) = (publish_flags(false, QoS::AtLeastOnce, false), publish.properties.as_deref());
    let framed = measure(|| {
        out.clear();
        let payload = black_box(&publish.payload);
        publish_frame(topic.as_str(), payload, properties, version, flags, Some(id), &mut out).expect("fits");
        out.len()
    });
    row(&format!("publish_frame {name}"), framed, None);
    let shared = SharedFrame::new(topic.as_str(), &publish.payload, properties, version).expect("fits");
    let copied = measure(|| {
        out.clear();
        black_box(&shared).append_with_id(false, QoS::AtLeastOnce, false, id, &mut out);
        out.len()
    });
    row(&format!("shared frame {name}"), copied, None);
}

/// Nanoseconds for one call: the best round, and the median one.
fn measure<T>(mut call: impl FnMut() -> T) -> (f64, f64) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let (start, mut calls) = (Instant::now(), 0_u32);
            while start.elapsed() < ROUND {
                for _ in 0..256 {
                    black_box(call());
                }
                calls += 256;
            }
            start.elapsed().as_nanos() as f64 / f64::from(calls)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    (rounds[0], rounds[ROUNDS / 2])
}

fn row(name: &str, (best, median): (f64, f64), theirs: Option<(f64, f64)>) {
    let theirs = theirs.map_or_else(String::new, |(best, _)| format!("{best:.1}"));
    println!("{name:<44} {best:>9.1} {median:>9.1} {theirs:>9}");
}
