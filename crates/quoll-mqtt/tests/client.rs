//! The client machine against a server that the test plays, packet by packet.

#![allow(clippy::unwrap_used, reason = "what cannot be built fails the test")]

use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quoll_mqtt::ProtocolVersion::{V5, V31, V311};
use quoll_mqtt::client::{Client, ClientError, ClientOptions, Event, Message};
use quoll_mqtt::packet::*;
use quoll_mqtt::*;

/// A client, and the line to the server that the test is.
struct Line {
    client: Client,
    version: ProtocolVersion,
    now: Instant,
}

impl Line {
    fn new(options: ClientOptions) -> Self {
        Self { version: options.version, client: Client::new(options), now: Instant::now() }
    }

    /// A line whose client is let in.
    fn connected(options: ClientOptions, answer: ConnAckProperties) -> Self {
        let mut line = Self::new(options);
        line.dial();
        let (events, sent) = line.say(&[connack(false, ReasonCode::SUCCESS, answer)]);
        assert!(matches!(&events[..], [Event::Connected { .. }]), "{events:?}");
        assert_eq!(sent, []);
        line
    }

    fn dial(&mut self) -> Connect {
        let mut out = Vec::new();
        self.client.connect(self.now, &mut out).unwrap();
        let context = DecodeContext { version: None, maximum_packet_size: 10_000, role: Role::Server };
        match decode(&out, &context) {
            Ok(Decoded::Packet(Packet::Connect(connect), length)) if length == out.len() => *connect,
            other => panic!("no CONNECT: {other:?}"),
        }
    }

    /// The server says this: what the client tells, and what it answers.
    fn say(&mut self, packets: &[Packet]) -> (Vec<Event>, Vec<Packet>) {
        let (result, events, sent) = self.try_say(packets);
        result.unwrap();
        (events, sent)
    }

    fn try_say(&mut self, packets: &[Packet]) -> (Result<(), DecodeError>, Vec<Event>, Vec<Packet>) {
        let mut bytes = Vec::new();
        for packet in packets {
            encode(packet, self.version, &mut bytes).unwrap();
        }
        let (mut events, mut out) = (Vec::new(), Vec::new());
        let result = self.client.receive(&bytes, self.now, &mut events, &mut out);
        (result, events, self.read(&out))
    }

    fn publish(&mut self, message: &Message) -> (Option<PacketId>, Vec<Packet>) {
        let mut out = Vec::new();
        let id = self.client.publish(message, self.now, &mut out).unwrap();
        (id, self.read(&out))
    }

    fn refuse(&mut self, message: &Message) -> ClientError {
        let mut out = b"x".to_vec();
        let error = self.client.publish(message, self.now, &mut out).unwrap_err();
        assert_eq!(out, b"x");
        error
    }

    fn wait(&mut self, seconds: u64) -> (Option<Event>, Vec<Packet>) {
        self.now += Duration::from_secs(seconds);
        let mut out = Vec::new();
        let event = self.client.tick(self.now, &mut out);
        (event, self.read(&out))
    }

    /// What the client wrote, as a server reads it.
    fn read(&self, mut bytes: &[u8]) -> Vec<Packet> {
        let context =
            DecodeContext { version: Some(self.version), maximum_packet_size: 10_000, role: Role::Server };
        let mut packets = Vec::new();
        while !bytes.is_empty() {
            match decode(bytes, &context) {
                Ok(Decoded::Packet(packet, length)) => {
                    packets.push(packet);
                    bytes = &bytes[length..];
                }
                other => panic!("the client wrote nonsense: {other:?}"),
            }
        }
        packets
    }
}

#[test]
fn connecting_says_what_the_options_say() {
    for version in [V31, V311, V5] {
        let mut options = ClientOptions::new(version, "lamp");
        options.username = Some("user".into());
        options.password = Some(Bytes::from_static(b"secret"));
        options.keep_alive = 30;
        let mut line = Line::new(options.clone());
        let connect = line.dial();
        assert_eq!((connect.version, &connect.client_id[..], connect.keep_alive), (version, "lamp", 30));
        assert!(connect.clean_start && connect.will.is_none());
        assert_eq!(connect.password.as_deref(), Some(&b"secret"[..]));
        assert!(!format!("{options:?} {:?} {connect:?}", line.client).contains("secret"));
        assert!(!line.client.is_connected());
        assert_eq!(line.refuse(&message("a", QoS::AtMostOnce)), ClientError::NotConnected);
    }
}

#[test]
fn a_refusal_ends_the_connection() {
    let mut line = Line::new(ClientOptions::new(V311, "lamp"));
    line.dial();
    let (events, _) =
        line.say(&[connack(false, ReasonCode::BAD_USER_NAME_OR_PASSWORD, ConnAckProperties::default())]);
    assert!(
        matches!(&events[..], [Event::Refused(it)] if it.reason == ReasonCode::BAD_USER_NAME_OR_PASSWORD)
    );
    assert_eq!(line.client.next_deadline(), None);
    let (events, sent) = line.say(&[Packet::PingResp]);
    assert_eq!((events, sent), (vec![], vec![]), "what comes later is ignored");
}

#[test]
fn an_assigned_client_identifier_is_kept_for_the_next_connection() {
    let answer =
        ConnAckProperties { assigned_client_identifier: Some("auto-1".into()), ..Default::default() };
    let mut line = Line::connected(ClientOptions::new(V5, ""), answer);
    assert_eq!(line.dial().client_id, "auto-1");
}

#[test]
fn a_message_of_each_level_is_acknowledged_and_told_once() {
    for version in [V31, V311, V5] {
        let mut line = Line::connected(ClientOptions::new(version, "lamp"), ConnAckProperties::default());
        let of = |delivery| publish("t", delivery);
        let (events, sent) = line.say(&[of(Delivery::AtMostOnce), of(Delivery::AtLeastOnce(id(7)))]);
        assert_eq!(events.len(), 2);
        assert_eq!(sent, [Packet::PubAck(Ack::new(id(7), ReasonCode::SUCCESS))]);
        let exactly = of(Delivery::ExactlyOnce(id(8)));
        let (events, sent) = line.say(&[exactly.clone(), exactly.clone()]);
        assert_eq!(events.len(), 1, "told once [MQTT-4.3.3-10]");
        let pubrec = Packet::PubRec(Ack::new(id(8), ReasonCode::SUCCESS));
        assert_eq!(sent, [pubrec.clone(), pubrec.clone()]);
        let (events, sent) = line.say(&[Packet::PubRel(Ack::new(id(8), ReasonCode::SUCCESS))]);
        assert_eq!((events.len(), sent), (0, vec![Packet::PubComp(Ack::new(id(8), ReasonCode::SUCCESS))]));
        let (events, _) = line.say(&[exactly]);
        assert_eq!(events.len(), 1, "after its release the identifier is free");
    }
}

#[test]
fn bytes_may_come_in_any_pieces() {
    let mut line = Line::connected(ClientOptions::new(V5, "lamp"), ConnAckProperties::default());
    let mut bytes = Vec::new();
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce(id(1))] {
        encode(&publish("a/topic", delivery), V5, &mut bytes).unwrap();
    }
    for piece in 1..bytes.len() {
        let (mut events, mut out) = (Vec::new(), Vec::new());
        for part in bytes.chunks(piece) {
            line.client.receive(part, line.now, &mut events, &mut out).unwrap();
        }
        assert_eq!(events.len(), 2, "in pieces of {piece}");
        assert_eq!(out, [0x40, 2, 0, 1], "in pieces of {piece}");
    }
}

#[test]
fn publishing_ends_with_the_servers_word() {
    for version in [V31, V311, V5] {
        let mut line = Line::connected(ClientOptions::new(version, "lamp"), ConnAckProperties::default());
        assert_eq!(line.publish(&message("t", QoS::AtMostOnce)).0, None);
        let (first, sent) = line.publish(&message("t", QoS::AtLeastOnce));
        let first = first.unwrap();
        assert!(
            matches!(&sent[..], [Packet::Publish(it)] if it.delivery == Delivery::AtLeastOnce(first) && !it.dup)
        );
        let second = line.publish(&message("t", QoS::ExactlyOnce)).0.unwrap();
        assert_ne!(first, second);
        let ok = ReasonCode::SUCCESS;
        let (events, _) = line.say(&[Packet::PubAck(Ack::new(first, ok))]);
        assert_eq!(events, [Event::Published { id: first, reason: ok }]);
        let (events, sent) = line.say(&[Packet::PubRec(Ack::new(second, ok))]);
        assert_eq!((events, sent), (vec![], vec![Packet::PubRel(Ack::new(second, ok))]));
        let (events, _) =
            line.say(&[Packet::PubComp(Ack::new(second, ok)), Packet::PubComp(Ack::new(second, ok))]);
        assert_eq!(events, [Event::Published { id: second, reason: ok }]);
        assert_eq!(line.client.requests(), 0);
    }
}

#[test]
fn a_refused_message_is_told_with_its_reason() {
    let mut line = Line::connected(ClientOptions::new(V5, "lamp"), ConnAckProperties::default());
    let reason = ReasonCode::NOT_AUTHORIZED;
    let id = line.publish(&message("t", QoS::ExactlyOnce)).0.unwrap();
    let (events, sent) = line.say(&[Packet::PubRec(Ack::new(id, reason))]);
    assert_eq!((events, sent), (vec![Event::Published { id, reason }], vec![]));
    let unknown = Packet::PubRec(Ack::new(id, ReasonCode::SUCCESS));
    let (_, sent) = line.say(&[unknown]);
    assert_eq!(sent, [Packet::PubRel(Ack::new(id, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND))]);
}

#[test]
fn what_the_server_does_not_take_is_not_sent() {
    let answer = ConnAckProperties {
        receive_maximum: Some(2),
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: Some(false),
        maximum_packet_size: Some(20),
        topic_alias_maximum: Some(3),
        ..Default::default()
    };
    let mut line = Line::connected(ClientOptions::new(V5, "lamp"), answer);
    assert_eq!(line.refuse(&message("t", QoS::ExactlyOnce)), ClientError::QoS { maximum: QoS::AtLeastOnce });
    assert_eq!(line.refuse(&Message { retain: true, ..message("t", QoS::AtMostOnce) }), ClientError::Retain);
    let large = message("a/long/topic/of/it", QoS::AtMostOnce);
    assert!(matches!(line.refuse(&large), ClientError::Encode(EncodeError::TooLarge { allowed: 20, .. })));
    let alias = PublishProperties { topic_alias: NonZeroU16::new(4), ..Default::default() };
    let aliased = Message { properties: Some(Box::new(alias)), ..message("t", QoS::AtMostOnce) };
    assert_eq!(line.refuse(&aliased), ClientError::TopicAlias { alias: 4, maximum: 3 });
    let first = line.publish(&message("t", QoS::AtLeastOnce)).0.unwrap();
    line.publish(&message("t", QoS::AtLeastOnce));
    assert_eq!(line.refuse(&message("t", QoS::AtLeastOnce)), ClientError::Busy { limit: 2 });
    line.say(&[Packet::PubAck(Ack::new(first, ReasonCode::SUCCESS))]);
    line.publish(&message("t", QoS::AtLeastOnce));
}

#[test]
fn subscribing_and_unsubscribing_are_answered() {
    let mut line = Line::connected(ClientOptions::new(V5, "lamp"), ConnAckProperties::default());
    let mut out = Vec::new();
    let filter = TopicFilter::parse("cmnd/lamp/#").unwrap();
    let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..Default::default() };
    let wanted = vec![Subscription { filter: filter.clone(), options }];
    let first = line.client.subscribe(wanted, SubscribeProperties::default(), line.now, &mut out).unwrap();
    let second = line.client.unsubscribe(vec![filter], line.now, &mut out).unwrap();
    assert!(matches!(&line.read(&out)[..], [Packet::Subscribe(_), Packet::Unsubscribe(_)]));
    let properties = AckProperties::default();
    let reasons = vec![ReasonCode::GRANTED_QOS_1];
    let suback = SubAck { packet_id: first, reasons: reasons.clone(), properties: properties.clone() };
    let unsuback = UnsubAck { packet_id: second, reasons: vec![ReasonCode::SUCCESS], properties };
    let (events, _) = line.say(&[Packet::SubAck(Box::new(suback)), Packet::UnsubAck(Box::new(unsuback))]);
    let removed = Event::Unsubscribed { id: second, reasons: vec![ReasonCode::SUCCESS] };
    assert_eq!(events, [Event::Subscribed { id: first, reasons }, removed]);
    let empty = line.client.subscribe(Vec::new(), SubscribeProperties::default(), line.now, &mut out);
    assert!(matches!(empty, Err(ClientError::Encode(_))));
}

#[test]
fn what_was_under_way_is_sent_again_where_the_server_kept_the_session() {
    for version in [V31, V311, V5] {
        let mut options = ClientOptions::new(version, "lamp");
        options.clean_start = false;
        let mut line = Line::connected(options, ConnAckProperties::default());
        let first = line.publish(&message("a", QoS::AtLeastOnce)).0.unwrap();
        let second = line.publish(&message("b", QoS::ExactlyOnce)).0.unwrap();
        let filters = vec![TopicFilter::parse("x").unwrap()];
        let third = line.client.unsubscribe(filters, line.now, &mut Vec::new()).unwrap();
        line.say(&[Packet::PubRec(Ack::new(second, ReasonCode::SUCCESS))]);
        line.client.connection_lost();
        line.dial();
        let (events, sent) = line.say(&[connack(true, ReasonCode::SUCCESS, ConnAckProperties::default())]);
        assert!(matches!(&events[..], [Event::Connected { lost, .. }] if *lost == [third]), "{events:?}");
        let again = |it: &Publish| it.dup && it.delivery == Delivery::AtLeastOnce(first);
        let release = Ack::new(second, ReasonCode::SUCCESS);
        assert!(
            matches!(&sent[..], [Packet::Publish(it), Packet::PubRel(ack)] if again(it) && *ack == release),
            "{sent:?}"
        );
    }
}

#[test]
fn what_was_under_way_is_lost_where_the_server_kept_nothing() {
    let mut options = ClientOptions::new(V5, "lamp");
    options.clean_start = false;
    let mut line = Line::connected(options, ConnAckProperties::default());
    let first = line.publish(&message("a", QoS::AtLeastOnce)).0.unwrap();
    line.client.connection_lost();
    line.dial();
    let (events, sent) = line.say(&[connack(false, ReasonCode::SUCCESS, ConnAckProperties::default())]);
    assert!(matches!(&events[..], [Event::Connected { lost, .. }] if *lost == [first]), "{events:?}");
    assert_eq!(sent, []);
    assert_eq!(line.client.requests(), 0);
}

#[test]
fn a_quiet_line_is_kept_alive_and_a_dead_one_noticed() {
    let mut line = Line::connected(ClientOptions::new(V311, "lamp"), ConnAckProperties::default());
    assert_eq!(line.client.next_deadline(), Some(line.now + Duration::from_secs(45)));
    assert_eq!(line.wait(44), (None, vec![]));
    assert_eq!(line.wait(1), (None, vec![Packet::PingReq]));
    assert_eq!(line.say(&[Packet::PingResp]).0, [Event::Alive]);
    line.wait(30);
    line.publish(&message("t", QoS::AtMostOnce)); // counts as a sign of life
    assert_eq!(line.wait(44), (None, vec![]));
    assert_eq!(line.wait(1), (None, vec![Packet::PingReq]));
    assert_eq!(line.wait(19), (None, vec![]));
    assert_eq!(line.wait(1), (Some(Event::Silent), vec![]));
    assert_eq!((line.client.next_deadline(), line.client.is_connected()), (None, false));
}

#[test]
fn the_servers_keep_alive_wins_and_0_means_none() {
    let answer = |seconds| ConnAckProperties { server_keep_alive: Some(seconds), ..Default::default() };
    let line = Line::connected(ClientOptions::new(V5, "lamp"), answer(10));
    assert_eq!(line.client.next_deadline(), Some(line.now + Duration::from_millis(7_500)));
    let line = Line::connected(ClientOptions::new(V5, "lamp"), answer(0));
    assert_eq!(line.client.next_deadline(), None);
}

#[test]
fn a_server_that_does_not_answer_connect_is_given_up() {
    let mut line = Line::new(ClientOptions::new(V5, "lamp"));
    line.dial();
    assert_eq!(line.wait(19), (None, vec![]));
    assert_eq!(line.wait(1), (Some(Event::Silent), vec![]));
}

#[test]
fn topic_aliases_are_resolved() {
    let mut options = ClientOptions::new(V5, "lamp");
    options.properties.topic_alias_maximum = Some(2);
    let mut line = Line::connected(options, ConnAckProperties::default());
    let aliased = |topic: Option<&str>, alias| {
        let Packet::Publish(publish) = publish("x", Delivery::AtMostOnce) else {
            unreachable!("made as PUBLISH")
        };
        let properties = PublishProperties { topic_alias: NonZeroU16::new(alias), ..Default::default() };
        let topic = topic.map(|text| TopicName::parse(text).unwrap());
        Packet::Publish(Publish { topic, properties: Some(Box::new(properties)), ..publish })
    };
    let (events, _) = line.say(&[aliased(Some("a/b"), 2), aliased(None, 2)]);
    let topics: Vec<_> = events
        .iter()
        .map(|event| match event {
            Event::Message(publish) => publish.topic.as_ref().unwrap().as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(topics, ["a/b", "a/b"]);
    let (result, events, sent) = line.try_say(&[aliased(Some("a"), 3)]);
    assert_eq!(result.unwrap_err().reason(), ReasonCode::TOPIC_ALIAS_INVALID);
    assert_eq!(events, []);
    assert_eq!(sent, [Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::TOPIC_ALIAS_INVALID)))]);
}

#[test]
fn a_server_that_breaks_the_rules_is_left_after_what_came_before_is_told() {
    let again = connack(false, ReasonCode::SUCCESS, ConnAckProperties::default());
    for (version, farewell) in [
        (V5, vec![Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::PROTOCOL_ERROR)))]),
        (V311, vec![]),
    ] {
        let mut line = Line::connected(ClientOptions::new(version, "lamp"), ConnAckProperties::default());
        let (result, events, sent) = line.try_say(&[publish("t", Delivery::AtMostOnce), again.clone()]);
        assert_eq!(result.unwrap_err().reason(), ReasonCode::PROTOCOL_ERROR);
        assert!(matches!(&events[..], [Event::Message(_)]));
        assert_eq!(sent, farewell);
        assert!(!line.client.is_connected());
    }
    let mut line = Line::new(ClientOptions::new(V5, "lamp"));
    line.dial();
    let (result, ..) = line.try_say(&[publish("t", Delivery::AtMostOnce)]);
    assert!(result.unwrap_err().to_string().contains("MQTT-3.2.0-1"));
}

#[test]
fn leaving_says_so() {
    let mut line = Line::connected(ClientOptions::new(V5, "lamp"), ConnAckProperties::default());
    let mut out = Vec::new();
    line.client.disconnect(ReasonCode::DISCONNECT_WITH_WILL, &mut out);
    line.client.disconnect(ReasonCode::SUCCESS, &mut out);
    assert_eq!(out, [0xE0, 1, 4]);
    assert!(!line.client.is_connected());
}

#[test]
fn a_server_may_end_the_connection() {
    let mut line = Line::connected(ClientOptions::new(V5, "lamp"), ConnAckProperties::default());
    let goodbye = Disconnect::new(ReasonCode::SESSION_TAKEN_OVER);
    let (events, sent) = line.say(&[Packet::Disconnect(Box::new(goodbye.clone()))]);
    assert_eq!((events, sent), (vec![Event::Disconnected(Box::new(goodbye))], vec![]));
    assert!(!line.client.is_connected());
}

fn connack(session_present: bool, reason: ReasonCode, properties: ConnAckProperties) -> Packet {
    Packet::ConnAck(Box::new(ConnAck { session_present, reason, properties }))
}

fn publish(topic: &str, delivery: Delivery) -> Packet {
    let topic = Some(TopicName::parse(topic).unwrap());
    let payload = Bytes::from_static(b"hello");
    Packet::Publish(Publish { dup: false, retain: false, delivery, topic, payload, properties: None })
}

fn message(topic: &str, qos: QoS) -> Message {
    Message { qos, ..Message::new(TopicName::parse(topic).unwrap(), "hello") }
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}
