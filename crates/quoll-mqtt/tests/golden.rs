//! Bytes written down by hand from the figures of the standards, read and written back.

#![allow(clippy::unwrap_used, reason = "a row that cannot be built fails the test")]

use bytes::Bytes;
use quoll_mqtt::ProtocolVersion::{V5, V31, V311};
use quoll_mqtt::packet::*;
use quoll_mqtt::*;

/// Name, version, receiver, bytes, packet.
type Row = (&'static str, ProtocolVersion, Role, Vec<u8>, Packet);

#[test]
fn each_packet_has_the_bytes_of_the_standards_figures() {
    for (name, version, role, bytes, packet) in [connections(), messages(), subscriptions(), ends()].concat()
    {
        let is_connect = packet.kind() == PacketKind::Connect;
        let context =
            DecodeContext { version: (!is_connect).then_some(version), maximum_packet_size: 10_000, role };
        let mut written = Vec::new();
        encode(&packet, version, &mut written).unwrap();
        assert_eq!(written, bytes, "{name}: written");
        assert_eq!(decode(&bytes, &context), Ok(Decoded::Packet(packet, bytes.len())), "{name}: read");
    }
}

/// Properties, one behind the other.
type Said<'a> = &'a [&'a [u8]];

/// As Mosquitto does, seen with 2.0.11: what a delivery has of its own in front, then what the sender said in the sender's order,
/// then what is left of its time.
#[test]
fn properties_are_passed_on_in_the_order_in_which_they_were_said() {
    let (user, other, format, expiry) =
        (&b"\x26\0\x01k\0\x01v"[..], b"\x26\0\x01l\0\x01w", b"\x01\x01", b"\x02\0\0\0\x09");
    let (kind, answer, data, alias) = (b"\x03\0\x01c", b"\x08\0\x01r", b"\x09\0\x01d", b"\x23\0\x01");
    let seven = &b"\x0B\x07"[..];
    let rows: [(Said<'_>, Said<'_>); 6] = [
        (&[user, format, expiry, kind, data, answer], &[seven, user, format, kind, data, answer, expiry]),
        (&[format, user, kind, other, answer], &[seven, format, user, other, kind, answer]),
        (&[expiry, user], &[seven, user, expiry]),
        (&[alias, kind, format], &[seven, kind, format]),
        (&[data, answer], &[seven, data, answer]),
        (&[format, kind, answer, data, user], &[seven, format, kind, answer, data, user]),
    ];
    let packet = |properties: &[&[u8]]| {
        let properties = properties.concat();
        let body = [b"\0\x01t", &[properties.len() as u8][..], &properties, b"x"].concat();
        [&[0x30, body.len() as u8][..], &body].concat()
    };
    let context = DecodeContext { version: Some(V5), maximum_packet_size: 1000, role: Role::Server };
    for (said, passed) in rows {
        let bytes = packet(said);
        let Ok(Decoded::Packet(Packet::Publish(mut publish), _)) = decode(&bytes, &context) else {
            panic!("{bytes:02x?} is a PUBLISH");
        };
        let properties = publish.properties.as_mut().unwrap();
        properties.subscription_identifiers = vec![7];
        properties.topic_alias = None;
        let mut written = Vec::new();
        encode(&Packet::Publish(publish), V5, &mut written).unwrap();
        assert_eq!(written, packet(passed), "{bytes:02x?}");
    }
}

/// 3.x does not carry what 5.0 has: what is written is less than the packet says.
#[test]
fn what_a_3_x_peer_cannot_be_told_is_left_out() {
    let ack = Ack {
        packet_id: id(7),
        reason: ReasonCode::NOT_AUTHORIZED,
        properties: Some(Box::new(AckProperties { reason_string: Some("no".into()), ..Default::default() })),
    };
    let refused = ConnAck {
        session_present: true,
        reason: ReasonCode::SERVER_BUSY,
        properties: ConnAckProperties { receive_maximum: Some(9), ..Default::default() },
    };
    let resumed = ConnAck { reason: ReasonCode::SUCCESS, ..refused.clone() };
    let suback = SubAck {
        packet_id: id(7),
        reasons: vec![ReasonCode::GRANTED_QOS_1, ReasonCode::NOT_AUTHORIZED],
        properties: AckProperties::default(),
    };
    let publish = Publish {
        properties: Some(Box::new(PublishProperties {
            content_type: Some("x".into()),
            ..Default::default()
        })),
        ..publish("a", Delivery::AtMostOnce, b"b")
    };
    for (name, packet, version, bytes) in [
        ("PUBACK", Packet::PubAck(ack), V311, &[0x40, 2, 0, 7][..]),
        ("CONNACK, refusal", Packet::ConnAck(Box::new(refused)), V311, &[0x20, 2, 0, 3]),
        ("CONNACK, session", Packet::ConnAck(Box::new(resumed.clone())), V311, &[0x20, 2, 1, 0]),
        ("CONNACK, 3.1 has no session flag", Packet::ConnAck(Box::new(resumed)), V31, &[0x20, 2, 0, 0]),
        (
            "SUBACK, failure is 0x80",
            Packet::SubAck(Box::new(suback.clone())),
            V311,
            &[0x90, 4, 0, 7, 1, 0x80],
        ),
        ("SUBACK, 3.1 too", Packet::SubAck(Box::new(suback)), V31, &[0x90, 4, 0, 7, 1, 0x80]),
        ("PUBLISH", Packet::Publish(publish), V311, &[0x30, 4, 0, 1, b'a', b'b']),
        ("DISCONNECT", disconnect(ReasonCode::DISCONNECT_WITH_WILL), V311, &[0xE0, 0]),
    ] {
        let mut written = Vec::new();
        encode(&packet, version, &mut written).unwrap();
        assert_eq!(written, bytes, "{name}");
    }
}

#[test]
fn return_codes_of_3_x_are_the_nearest_reasons() {
    for (reason, code) in [
        (0x00, 0),
        (0x84, 1),
        (0x85, 2),
        (0x88, 3),
        (0x89, 3),
        (0x86, 4),
        (0x87, 5),
        (0x80, 5),
        (0x8A, 5),
        (0x95, 5),
        (0x9F, 5),
    ] {
        assert_eq!(ReasonCode(reason).connect_return_code(), code, "{:?}", ReasonCode(reason));
    }
    for code in 0..=5 {
        let reason = ReasonCode::from_connect_return_code(code).unwrap();
        assert_eq!(reason.connect_return_code(), code);
    }
    assert_eq!(ReasonCode::from_connect_return_code(6), None);
}

#[test]
fn a_packet_that_cannot_be_written_leaves_the_buffer_as_it_was() {
    let long = "x".repeat(65_536);
    let user = vec![("n".to_owned(), long.clone())];
    let subscription = |filter| Subscription {
        filter: TopicFilter::parse(filter).unwrap(),
        options: SubscriptionOptions::default(),
    };
    let no_topic = Publish { topic: None, ..publish("a", Delivery::AtMostOnce, b"") };
    let in_user = Publish {
        properties: Some(Box::new(PublishProperties { user_properties: user.clone(), ..Default::default() })),
        ..publish("a", Delivery::AtMostOnce, b"")
    };
    let dup_0 = Publish { dup: true, ..publish("a", Delivery::AtMostOnce, b"") };
    let identifier = |subscription_identifier| Subscribe {
        packet_id: id(1),
        subscriptions: vec![subscription("a")],
        properties: SubscribeProperties { subscription_identifier, ..Default::default() },
    };
    let too_large = publish("a", Delivery::AtMostOnce, &vec![0; 268_435_455 - 2]);
    let password = Connect { password: Some(Bytes::new()), ..connect(V311) };
    let receive = ConnAck {
        session_present: false,
        reason: ReasonCode::SUCCESS,
        properties: ConnAckProperties { receive_maximum: Some(0), ..Default::default() },
    };
    let qos_2 = ConnAck {
        properties: ConnAckProperties { maximum_qos: Some(QoS::ExactlyOnce), ..Default::default() },
        ..receive.clone()
    };
    let none = Subscribe { subscriptions: Vec::new(), ..identifier(None) };
    let unsubscribe = Unsubscribe { packet_id: id(1), filters: Vec::new(), user_properties: Vec::new() };
    let auth = Auth { reason: ReasonCode::SUCCESS, properties: AuthProperties::default() };
    for (name, packet, version) in [
        ("PUBLISH without topic or alias", Packet::Publish(no_topic.clone()), V5),
        ("PUBLISH without topic", Packet::Publish(no_topic), V311),
        ("PUBLISH with a long user property", Packet::Publish(in_user), V5),
        ("PUBLISH of QoS 0 with DUP", Packet::Publish(dup_0), V5),
        ("PUBLISH one byte too large", Packet::Publish(too_large), V311),
        ("SUBSCRIBE with identifier 0", Packet::Subscribe(Box::new(identifier(Some(0)))), V5),
        ("SUBSCRIBE with a large identifier", Packet::Subscribe(Box::new(identifier(Some(268_435_456)))), V5),
        ("SUBSCRIBE to nothing", Packet::Subscribe(Box::new(none)), V5),
        ("UNSUBSCRIBE of nothing", Packet::Unsubscribe(Box::new(unsubscribe)), V311),
        (
            "CONNECT with a long client id",
            Packet::Connect(Box::new(Connect { client_id: long, ..connect(V5) })),
            V5,
        ),
        ("CONNECT with a mere password", Packet::Connect(Box::new(password)), V311),
        (
            "CONNECT of a bridge in 5.0",
            Packet::Connect(Box::new(Connect { bridge: true, ..connect(V5) })),
            V5,
        ),
        ("CONNACK with Receive Maximum 0", Packet::ConnAck(Box::new(receive)), V5),
        ("CONNACK with Maximum QoS 2", Packet::ConnAck(Box::new(qos_2)), V5),
        ("AUTH in 3.1.1", Packet::Auth(Box::new(auth)), V311),
    ] {
        let mut out = b"before".to_vec();
        assert!(encode(&packet, version, &mut out).is_err(), "{name}");
        assert_eq!(out, b"before", "{name}");
    }
}

fn connections() -> Vec<Row> {
    let full_311 = Connect {
        client_id: "id".into(),
        clean_start: false,
        keep_alive: 10,
        will: Some(Will {
            topic: topic("w"),
            payload: Bytes::from_static(b"gone"),
            qos: QoS::AtLeastOnce,
            retain: true,
            properties: WillProperties::default(),
        }),
        username: Some("u".into()),
        password: Some(Bytes::from_static(b"p")),
        ..connect(V311)
    };
    let bytes_311 = b"\x10\x1D\x00\x04MQTT\x04\xEC\x00\x0A\x00\x02id\x00\x01w\x00\x04gone\x00\x01u\x00\x01p";
    let mut full_5 = Connect { version: V5, properties: connect_properties(), ..full_311.clone() };
    full_5.will.as_mut().unwrap().properties =
        WillProperties { will_delay_interval: Some(60), ..Default::default() };
    let bytes_5 = b"\x10\x38\x00\x04MQTT\x05\xEC\x00\x0A\x14\x11\x00\x00\x00\x0A\x21\x00\x14\x22\x00\x0A\x19\x01\x26\x00\x01a\x00\x01b\
        \x00\x02id\x05\x18\x00\x00\x00\x3C\x00\x01w\x00\x04gone\x00\x01u\x00\x01p";
    let ok = |properties| ConnAck { session_present: false, reason: ReasonCode::SUCCESS, properties };
    let plain = ConnAckProperties {
        topic_alias_maximum: Some(10),
        maximum_packet_size: Some(2_000_000),
        receive_maximum: Some(20),
        ..Default::default()
    };
    let full = ConnAckProperties {
        server_keep_alive: Some(20),
        assigned_client_identifier: Some("id".into()),
        retain_available: Some(false),
        maximum_qos: Some(QoS::AtLeastOnce),
        ..plain.clone()
    };
    let connect_row = |name, version, bytes: &[u8], packet: Connect| {
        (name, version, Role::Server, bytes.to_vec(), Packet::Connect(Box::new(packet)))
    };
    let connack = |name, version, bytes: &[u8], packet: ConnAck| {
        (name, version, Role::Client, bytes.to_vec(), Packet::ConnAck(Box::new(packet)))
    };
    vec![
        connect_row("CONNECT 3.1", V31, b"\x10\x0F\x00\x06MQIsdp\x03\x02\x00\x00\x00\x01c", connect(V31)),
        connect_row(
            "CONNECT 3.1 of a bridge",
            V31,
            b"\x10\x0F\x00\x06MQIsdp\x83\x02\x00\x00\x00\x01c",
            Connect { bridge: true, ..connect(V31) },
        ),
        connect_row(
            "CONNECT 3.1.1 of a bridge",
            V311,
            b"\x10\x0D\x00\x04MQTT\x84\x02\x00\x00\x00\x01c",
            Connect { bridge: true, ..connect(V311) },
        ),
        connect_row("CONNECT 3.1.1 with all fields", V311, bytes_311, full_311),
        connect_row(
            "CONNECT 5.0, least",
            V5,
            b"\x10\x0E\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01c",
            connect(V5),
        ),
        connect_row("CONNECT 5.0 with properties", V5, bytes_5, full_5),
        connack("CONNACK 3.1.1", V311, b"\x20\x02\x00\x00", ok(ConnAckProperties::default())),
        connack(
            "CONNACK 3.1.1, session present",
            V311,
            b"\x20\x02\x01\x00",
            ConnAck { session_present: true, ..ok(ConnAckProperties::default()) },
        ),
        connack("CONNACK 5.0", V5, b"\x20\x03\x00\x00\x00", ok(ConnAckProperties::default())),
        connack(
            "CONNACK 5.0 in Mosquitto's order",
            V5,
            b"\x20\x0E\x00\x00\x0B\x22\x00\x0A\x27\x00\x1E\x84\x80\x21\x00\x14",
            ok(plain),
        ),
        connack(
            "CONNACK 5.0 that takes much away, in Mosquitto's order",
            V5,
            b"\x20\x1A\x00\x00\x17\x22\x00\x0A\x13\x00\x14\x12\x00\x02id\x25\x00\x27\x00\x1E\x84\x80\x21\x00\x14\x24\x01",
            ok(full),
        ),
    ]
}

fn messages() -> Vec<Row> {
    let publish_row = |name, version, bytes: &[u8], packet| {
        (name, version, Role::Server, bytes.to_vec(), Packet::Publish(packet))
    };
    let alias = PublishProperties {
        payload_format_indicator: Some(true),
        message_expiry_interval: Some(2),
        topic_alias: std::num::NonZeroU16::new(3),
        ..Default::default()
    };
    let aliased = Publish {
        topic: None,
        properties: Some(Box::new(alias)),
        ..publish("x", Delivery::AtMostOnce, b"hi")
    };
    let flagged = Publish { dup: true, retain: true, ..publish("a/b", Delivery::ExactlyOnce(id(10)), b"") };
    let reason = |reason| Ack::new(id(0x1234), reason);
    let explained = Ack {
        properties: Some(Box::new(AckProperties { reason_string: Some("no".into()), ..Default::default() })),
        ..reason(ReasonCode::NOT_AUTHORIZED)
    };
    let ack = |name, version, bytes: &[u8], packet| (name, version, Role::Server, bytes.to_vec(), packet);
    let ok = reason(ReasonCode::SUCCESS);
    vec![
        publish_row(
            "PUBLISH 3.1.1, figure 3.11",
            V311,
            b"\x32\x07\x00\x03a/b\x00\x0A",
            publish("a/b", Delivery::AtLeastOnce(id(10)), b""),
        ),
        publish_row("PUBLISH 3.1.1, all flags", V311, b"\x3D\x07\x00\x03a/b\x00\x0A", flagged),
        publish_row("PUBLISH 3.1", V31, b"\x30\x05\x00\x01aok", publish("a", Delivery::AtMostOnce, b"ok")),
        publish_row(
            "PUBLISH 5.0, figure 3-9",
            V5,
            b"\x32\x08\x00\x03a/b\x00\x0A\x00",
            publish("a/b", Delivery::AtLeastOnce(id(10)), b""),
        ),
        publish_row(
            "PUBLISH 5.0 by alias",
            V5,
            b"\x30\x0F\x00\x00\x0A\x01\x01\x02\x00\x00\x00\x02\x23\x00\x03hi",
            aliased,
        ),
        ack("PUBACK 3.1.1", V311, b"\x40\x02\x12\x34", Packet::PubAck(ok.clone())),
        ack("PUBACK 5.0, success is left out", V5, b"\x40\x02\x12\x34", Packet::PubAck(ok.clone())),
        ack(
            "PUBACK 5.0, reason alone",
            V5,
            b"\x40\x03\x12\x34\x10",
            Packet::PubAck(reason(ReasonCode::NO_MATCHING_SUBSCRIBERS)),
        ),
        ack(
            "PUBACK 5.0 of Mosquitto's message_size_limit",
            V5,
            b"\x40\x03\x12\x34\x95",
            Packet::PubAck(reason(ReasonCode::PACKET_TOO_LARGE)),
        ),
        ack(
            "PUBREC 5.0 with a reason string",
            V5,
            b"\x50\x09\x12\x34\x87\x05\x1F\x00\x02no",
            Packet::PubRec(explained),
        ),
        ack("PUBREL 3.1.1", V311, b"\x62\x02\x12\x34", Packet::PubRel(ok.clone())),
        ack(
            "PUBREL 5.0",
            V5,
            b"\x62\x03\x12\x34\x92",
            Packet::PubRel(reason(ReasonCode::PACKET_IDENTIFIER_NOT_FOUND)),
        ),
        ack("PUBCOMP 3.1.1", V311, b"\x70\x02\x12\x34", Packet::PubComp(ok)),
    ]
}

fn subscriptions() -> Vec<Row> {
    let one = |filter, options| Subscription { filter: TopicFilter::parse(filter).unwrap(), options };
    let level = |qos| SubscriptionOptions { qos, ..Default::default() };
    let two = Subscribe {
        packet_id: id(10),
        subscriptions: vec![one("a/b", level(QoS::AtLeastOnce)), one("c/d", level(QoS::ExactlyOnce))],
        properties: SubscribeProperties::default(),
    };
    let all = SubscriptionOptions {
        qos: QoS::AtLeastOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
    };
    let with_options = Subscribe {
        packet_id: id(10),
        subscriptions: vec![one("a/#", all)],
        properties: SubscribeProperties { subscription_identifier: Some(200), ..Default::default() },
    };
    let unsubscribe = Unsubscribe {
        packet_id: id(10),
        filters: vec![TopicFilter::parse("a/b").unwrap(), TopicFilter::parse("c/d").unwrap()],
        user_properties: Vec::new(),
    };
    let reasons = vec![ReasonCode(0), ReasonCode(2), ReasonCode(0x80)];
    let suback = SubAck { packet_id: id(10), reasons, properties: AckProperties::default() };
    let unsuback = |reasons| {
        Packet::UnsubAck(Box::new(UnsubAck {
            packet_id: id(10),
            reasons,
            properties: AckProperties::default(),
        }))
    };
    let to_server =
        |name, version, bytes: &[u8], packet| (name, version, Role::Server, bytes.to_vec(), packet);
    let to_client =
        |name, version, bytes: &[u8], packet| (name, version, Role::Client, bytes.to_vec(), packet);
    vec![
        to_server(
            "SUBSCRIBE 3.1.1, figure 3.23",
            V311,
            b"\x82\x0E\x00\x0A\x00\x03a/b\x01\x00\x03c/d\x02",
            Packet::Subscribe(Box::new(two.clone())),
        ),
        to_server(
            "SUBSCRIBE 5.0",
            V5,
            b"\x82\x0F\x00\x0A\x00\x00\x03a/b\x01\x00\x03c/d\x02",
            Packet::Subscribe(Box::new(two)),
        ),
        to_server(
            "SUBSCRIBE 5.0 with all options",
            V5,
            b"\x82\x0C\x00\x0A\x03\x0B\xC8\x01\x00\x03a/#\x2D",
            Packet::Subscribe(Box::new(with_options)),
        ),
        to_client("SUBACK 3.1.1, figure 3.26", V311, b"\x90\x05\x00\x0A\x00\x02\x80", {
            Packet::SubAck(Box::new(suback.clone()))
        }),
        to_client("SUBACK 5.0", V5, b"\x90\x06\x00\x0A\x00\x00\x02\x80", Packet::SubAck(Box::new(suback))),
        to_server(
            "UNSUBSCRIBE 3.1.1, figure 3.30",
            V311,
            b"\xA2\x0C\x00\x0A\x00\x03a/b\x00\x03c/d",
            Packet::Unsubscribe(Box::new(unsubscribe.clone())),
        ),
        to_server(
            "UNSUBSCRIBE 5.0",
            V5,
            b"\xA2\x0D\x00\x0A\x00\x00\x03a/b\x00\x03c/d",
            Packet::Unsubscribe(Box::new(unsubscribe)),
        ),
        to_client("UNSUBACK 3.1.1", V311, b"\xB0\x02\x00\x0A", unsuback(Vec::new())),
        to_client(
            "UNSUBACK 5.0",
            V5,
            b"\xB0\x05\x00\x0A\x00\x00\x11",
            unsuback(vec![ReasonCode(0), ReasonCode(0x11)]),
        ),
    ]
}

fn ends() -> Vec<Row> {
    let moved = Disconnect {
        reason: ReasonCode::SERVER_MOVED,
        properties: DisconnectProperties { server_reference: Some("b".into()), ..Default::default() },
    };
    let auth = Auth {
        reason: ReasonCode::CONTINUE_AUTHENTICATION,
        properties: AuthProperties {
            authentication_method: Some("m".into()),
            authentication_data: Some(Bytes::from_static(&[0, 255])),
            ..Default::default()
        },
    };
    let nothing = Auth { reason: ReasonCode::SUCCESS, properties: AuthProperties::default() };
    vec![
        ("PINGREQ", V311, Role::Server, vec![0xC0, 0], Packet::PingReq),
        ("PINGRESP", V5, Role::Client, vec![0xD0, 0], Packet::PingResp),
        ("DISCONNECT 3.1.1", V311, Role::Server, vec![0xE0, 0], disconnect(ReasonCode::SUCCESS)),
        ("DISCONNECT 5.0, normal", V5, Role::Server, vec![0xE0, 0], disconnect(ReasonCode::SUCCESS)),
        ("DISCONNECT 5.0, reason alone", V5, Role::Client, vec![0xE0, 1, 0x8E], {
            disconnect(ReasonCode::SESSION_TAKEN_OVER)
        }),
        ("DISCONNECT 5.0 with properties", V5, Role::Client, b"\xE0\x06\x9D\x04\x1C\x00\x01b".to_vec(), {
            Packet::Disconnect(Box::new(moved))
        }),
        ("AUTH", V5, Role::Server, b"\xF0\x0B\x18\x09\x15\x00\x01m\x16\x00\x02\x00\xFF".to_vec(), {
            Packet::Auth(Box::new(auth))
        }),
        ("AUTH, success alone", V5, Role::Client, vec![0xF0, 0], Packet::Auth(Box::new(nothing))),
    ]
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn topic(text: &str) -> TopicName {
    TopicName::parse(text).unwrap()
}

fn publish(name: &str, delivery: Delivery, payload: &[u8]) -> Publish {
    let payload = Bytes::copy_from_slice(payload);
    Publish { dup: false, retain: false, delivery, topic: Some(topic(name)), payload, properties: None }
}

fn connect(version: ProtocolVersion) -> Connect {
    Connect {
        version,
        bridge: false,
        client_id: "c".into(),
        clean_start: true,
        keep_alive: 0,
        will: None,
        username: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

fn connect_properties() -> ConnectProperties {
    ConnectProperties {
        session_expiry_interval: Some(10),
        receive_maximum: Some(20),
        topic_alias_maximum: Some(10),
        request_response_information: Some(true),
        user_properties: vec![("a".into(), "b".into())],
        ..Default::default()
    }
}

fn disconnect(reason: ReasonCode) -> Packet {
    Packet::Disconnect(Box::new(Disconnect::new(reason)))
}
