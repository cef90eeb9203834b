//! Connected clients that send too much of something: lengths, levels, properties, filters, aliases, messages under way. What is
//! wrong by its form is in the conformance suite; here is what is too much.

use std::num::NonZeroU16;

use quoll_mqtt::packet::*;
use quoll_mqtt::{Delivery, PacketId, ProtocolVersion, QoS, ReasonCode, TopicFilter, TopicName};

use crate::common::*;
use crate::siege::{Siege, all_at_once, read_to_end, shove};

fn of(packet: &Packet) -> Vec<u8> {
    bytes_of(packet, ProtocolVersion::V5)
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn dressed(topic: Option<&str>, delivery: Delivery, properties: PublishProperties) -> Vec<u8> {
    of(&Packet::Publish(Publish {
        dup: false,
        retain: false,
        delivery,
        topic: topic.map(|topic| TopicName::parse(topic).unwrap()),
        payload: bytes::Bytes::from_static(b"x"),
        properties: Some(Box::new(properties)),
    }))
}

fn alias(topic: Option<&str>, number: u16) -> Vec<u8> {
    let properties =
        PublishProperties { topic_alias: NonZeroU16::new(number), ..PublishProperties::default() };
    dressed(topic, Delivery::AtMostOnce, properties)
}

fn pairs(count: usize) -> Vec<u8> {
    let user_properties = (0..count).map(|n| (format!("key {n}"), "value".to_owned())).collect();
    let properties = PublishProperties { user_properties, ..PublishProperties::default() };
    dressed(Some("a"), Delivery::AtLeastOnce(id(1)), properties)
}

fn filters(filters: impl Iterator<Item = String>) -> Vec<u8> {
    let subscriptions = filters.map(|filter| Subscription {
        filter: TopicFilter::parse(&filter).unwrap(),
        options: SubscriptionOptions::default(),
    });
    of(&Packet::Subscribe(Box::new(Subscribe {
        packet_id: id(1),
        subscriptions: subscriptions.collect(),
        properties: SubscribeProperties::default(),
    })))
}

/// What comes of it.
enum Fate {
    /// DISCONNECT with this reason, then the end.
    Ends(ReasonCode),
    /// PUBACK or SUBACK with this reason; the connection stays.
    Told(ReasonCode),
}
use Fate::{Ends, Told};

pub(crate) fn too_much_of_anything_ends_as_the_limits_say() {
    let siege = Siege::begin("");
    let slashes = "/".repeat(65_535);
    let levels = "a/".repeat(201);
    let mut unreleased = Vec::new();
    for number in 1..=21 {
        unreleased.extend(of(&publish("a", "x", Delivery::ExactlyOnce(id(number)))));
    }
    let at_once = Delivery::AtLeastOnce(id(1));
    let rows: Vec<(&str, (Vec<u8>, Fate))> = vec![
        (
            "a length of five bytes",
            (vec![0x30, 0xff, 0xff, 0xff, 0xff, 1], Ends(ReasonCode::MALFORMED_PACKET)),
        ),
        ("a PUBLISH of 268 MB", (vec![0x30, 0xff, 0xff, 0xff, 0x7f], Ends(ReasonCode::PACKET_TOO_LARGE))),
        (
            "a SUBSCRIBE of 2 MB and a byte",
            (vec![0x82, 0x81, 0x89, 0x7a], Ends(ReasonCode::PACKET_TOO_LARGE)),
        ),
        ("65,536 levels", (of(&publish(&slashes, "x", at_once)), Ends(ReasonCode::PROTOCOL_ERROR))),
        ("202 levels", (of(&publish(&levels, "x", at_once)), Ends(ReasonCode::PROTOCOL_ERROR))),
        (
            "a filter of 65,536 levels",
            (filters([slashes.clone()].into_iter()), Ends(ReasonCode::MALFORMED_PACKET)),
        ),
        (
            "a filter of 202 levels",
            (filters([format!("{levels}#")].into_iter()), Ends(ReasonCode::MALFORMED_PACKET)),
        ),
        ("1,000 user properties", (pairs(1000), Told(ReasonCode::NO_MATCHING_SUBSCRIBERS))),
        ("1,001 user properties", (pairs(1001), Told(ReasonCode::QUOTA_EXCEEDED))),
        (
            "10,001 filters at a time",
            (filters((0..10_001).map(|n| format!("f/{n}"))), Ends(ReasonCode::QUOTA_EXCEEDED)),
        ),
        ("an alias above the maximum", (alias(Some("a"), 11), Ends(ReasonCode::TOPIC_ALIAS_INVALID))),
        ("an alias of 65,535", (alias(Some("a"), 65_535), Ends(ReasonCode::TOPIC_ALIAS_INVALID))),
        ("an alias that was never told", (alias(None, 1), Ends(ReasonCode::PROTOCOL_ERROR))),
        ("21 messages of QoS 2", (unreleased, Ends(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED))),
    ];
    all_at_once(&rows, |what, (bytes, fate)| {
        let mut peer = siege.client(&format!("too much: {what}"));
        let _ = peer.stream.write_all(bytes);
        let (last, is_over) = loop {
            match peer.receive() {
                Some(Packet::PubAck(ack)) => break (Some(ack.reason), false),
                Some(Packet::SubAck(answer)) => break (answer.reasons.first().copied(), false),
                Some(Packet::Disconnect(farewell)) => break (Some(farewell.reason), true),
                Some(_) => {}
                None => break (None, true),
            }
        };
        let (expected, ends) = match fate {
            Ends(reason) => (*reason, true),
            Told(reason) => (*reason, false),
        };
        assert_eq!((last, is_over), (Some(expected), ends), "{what}");
        if ends {
            assert!(peer.receive().is_none(), "{what}: nothing comes after DISCONNECT");
        } else {
            peer.ping();
        }
    });
    siege.end("too much");
}

/// A CONNECT may not be larger than what a certificate chain's worth of bytes and a will need.
pub(crate) fn a_giant_connect_is_refused_by_its_length() {
    let siege = Siege::begin("");
    let mut will = connect_packet("giant will", ProtocolVersion::V311);
    will.will = Some(Will {
        topic: TopicName::parse("a").unwrap(),
        payload: bytes::Bytes::from(vec![b'x'; 60_000]),
        qos: QoS::AtMostOnce,
        retain: false,
        properties: WillProperties::default(),
    });
    Peer::connect_as(siege.dial("plain"), will).ping();
    for head in [
        &[0x10, 0xff, 0xff, 0xff, 0x7f][..],
        &[0x10, 0x80, 0x80, 0x80, 1],
        &[0x10, 0xff, 0xff, 0xff, 0xff, 1],
    ] {
        let mut socket = siege.dial("plain");
        shove(&mut socket, head);
        assert_eq!(read_to_end(&mut socket), b"", "{head:?}");
    }
    siege.end("a giant CONNECT");
}

/// A 3.1.1 client was told no Receive Maximum: it may leave as many open as there are identifiers.
pub(crate) fn messages_that_are_never_released_hold_up_nobody() {
    const OPEN: u16 = 5000;
    let siege = Siege::begin("");
    let version = ProtocolVersion::V311;
    let mut socket = siege.dial("plain");
    let mut peer = Peer::connect(socket.try_clone().unwrap(), "never releases", version);
    let mut hears = siege.client("hears");
    hears.subscribe("open", QoS::AtMostOnce);
    let listens = std::thread::spawn(move || {
        let mut heard = 0;
        while heard < OPEN - 100 {
            heard += u16::from(matches!(hears.receive(), Some(Packet::Publish(_))));
        }
    });
    let mut bytes = Vec::new();
    for number in 1..=OPEN {
        bytes.extend(bytes_of(&publish("open", "x", Delivery::ExactlyOnce(id(number))), version));
    }
    let writes = std::thread::spawn(move || std::io::Write::write_all(&mut socket, &bytes).unwrap());
    for received in 0..OPEN {
        assert!(matches!(peer.receive(), Some(Packet::PubRec(_))), "after {received}");
    }
    writes.join().unwrap();
    // The hundred that may be held wait for their release; all others were routed at once.
    listens.join().unwrap();
    siege.is_well("identifiers");
    drop(peer);
    siege.end("identifiers");
}

/// What costs the rules much: each repeat is looked for among thousands of others. The witnesses have their turn in between.
pub(crate) fn packets_that_take_long_hold_up_nobody() {
    const OPEN: u16 = 5000;
    let siege = Siege::begin("shards=1");
    let version = ProtocolVersion::V311;
    let socket = siege.dial("plain");
    let mut peer = Peer::connect(socket.try_clone().unwrap(), "repeats", version);
    let mut writes = socket.try_clone().unwrap();
    let publish = |number| bytes_of(&publish("open", "x", Delivery::ExactlyOnce(id(number))), version);
    let open: Vec<u8> = (1..=OPEN).flat_map(publish).collect();
    let again = publish(OPEN).repeat(300_000);
    let floods = std::thread::spawn(move || {
        shove(&mut writes, &open);
        shove(&mut writes, &again);
    });
    // It reads, or it would not be read.
    let reads = std::thread::spawn(move || while peer.receive().is_some() {});
    siege.has_rounds(60);
    // All of it ends, the other handles included.
    let _ = socket.shutdown(std::net::Shutdown::Both);
    let _ = (floods.join(), reads.join());
    siege.end("packets that take long");
}
