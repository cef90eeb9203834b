//! A far end that means harm: it can take its own link and nothing else.

use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quoll_mqtt::client::Event;
use quoll_mqtt::packet::*;
use quoll_mqtt::{Delivery, PacketId, ProtocolVersion, QoS, ReasonCode, TopicFilter, TopicName, encode};

use crate::fake::{Fake, Manners, PATIENCE};
use crate::subject::{Quoll, for_each, message, plain_client, runtime};

/// A client of the local broker sends itself a message, at each level.
async fn broker_is_well(quoll: &Quoll, what: &str) {
    let mut client = plain_client(quoll.server.plain, "witness").await;
    client.subscribe_to(TopicFilter::parse("well/#").unwrap(), QoS::ExactlyOnce).await.unwrap();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        client.publish(&message("well/x", what.to_owned(), qos)).await.unwrap();
        let until = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Event::Message(publish) = client.next().await.unwrap() {
                    return publish;
                }
            }
        });
        let heard = until.await.unwrap_or_else(|_| panic!("{what}: the broker does not answer"));
        assert_eq!(heard.payload, what.as_bytes());
    }
    assert_eq!(quoll.server.handle.is_well(Duration::from_secs(10)).await, Some(true), "{what}");
}

fn bytes_of(packet: &Packet, version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(packet, version, &mut bytes).unwrap();
    bytes
}

fn publish(topic: &str, delivery: Delivery, properties: Option<PublishProperties>) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        retain: false,
        delivery,
        topic: if topic.is_empty() { None } else { Some(TopicName::parse(topic).unwrap()) },
        payload: Bytes::from_static(b"x"),
        properties: properties.map(Box::new),
    })
}

fn alias(number: u16) -> Option<PublishProperties> {
    Some(PublishProperties { topic_alias: NonZeroU16::new(number), ..PublishProperties::default() })
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

/// What it says after CONNACK, and whether that costs it the link.
fn tricks() -> Vec<(&'static str, Vec<u8>, bool)> {
    let v5 = ProtocolVersion::V5;
    let ack = |number| Ack::new(id(number), ReasonCode::SUCCESS);
    let connack = ConnAck {
        session_present: false,
        reason: ReasonCode::SUCCESS,
        properties: ConnAckProperties::default(),
    };
    let long = format!("in/{}", "x".repeat(65_000));
    let deep = format!("in/{}", "a/".repeat(20_000));
    let of = |packet: Packet| bytes_of(&packet, v5);
    let mut flood = Vec::new();
    for number in 1..=300 {
        flood.extend(of(publish("elsewhere/x", Delivery::ExactlyOnce(id(number)), None)));
    }
    vec![
        ("garbage", vec![0xff; 100], true),
        ("a length without end", vec![0x30, 0xff, 0xff, 0xff, 0xff, 0xff], true),
        ("a giant packet", vec![0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1], true),
        ("CONNECT", of(Packet::PingReq), true),
        ("a second CONNACK", of(Packet::ConnAck(Box::new(connack))), true),
        ("AUTH", vec![0xf0, 0], true),
        ("NUL in a topic", vec![0x30, 6, 0, 3, b'a', 0, b'b', 0], true),
        ("a wildcard in a topic", vec![0x30, 6, 0, 3, b'a', b'/', b'#', 0], true),
        ("an alias that was never told", of(publish("", Delivery::AtMostOnce, alias(1))), true),
        ("an alias above the maximum", of(publish("in/x", Delivery::AtMostOnce, alias(11))), true),
        ("goodbye", of(Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::SERVER_BUSY)))), true),
        ("PUBCOMP for a message of QoS 1 that is under way", Vec::new(), false),
        (
            "acknowledgements of nothing",
            [of(Packet::PubAck(ack(9))), of(Packet::PubComp(ack(9)))].concat(),
            false,
        ),
        ("PUBREC of nothing", of(Packet::PubRec(ack(9))), false),
        ("PUBREL of nothing", of(Packet::PubRel(ack(9))), false),
        ("a long topic", of(publish(&long, Delivery::AtLeastOnce(id(1)), None)), false),
        ("a deep topic", of(publish(&deep, Delivery::AtLeastOnce(id(1)), None)), false),
        ("a message to $SYS", of(publish("$SYS/broker/version", Delivery::AtLeastOnce(id(1)), None)), false),
        ("what nobody asked for", flood, false),
    ]
}

#[test]
fn a_hostile_broker_takes_nothing_but_its_own_link() {
    for_each(&tricks(), |(what, bytes, costs)| {
        let (far, runtime) = (Fake::start(Manners::default()), runtime());
        runtime.block_on(async {
            let block = format!(
                "connection bad\naddress 127.0.0.1:{}\nrestart_timeout 1\nbridge_protocol_version mqttv50\n\
                 topic in/# in 2\ntopic out/# out 1\n",
                far.port
            );
            let quoll = Quoll::start(&block).await;
            far.connection(0, 3);
            far.say_bytes(bytes);
            if *costs {
                far.wait(what, |heard| heard.get(1).is_some_and(|it| it.len() >= 3));
            }
            broker_is_well(&quoll, what).await;
            // And the bridge goes on.
            let mut client = plain_client(quoll.server.plain, "goes on").await;
            let is_it = |packet: &Packet| matches!(packet, Packet::Publish(it) if it.payload == "after");
            let until = Instant::now() + PATIENCE;
            while !far.heard().iter().flatten().any(is_it) {
                assert!(Instant::now() < until, "{what}: nothing goes over it any more");
                client.publish(&message("out/x", "after", QoS::AtLeastOnce)).await.unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            quoll.stop().await;
        });
    });
}

/// A topic that was never bridged does not come in, whatever the far end sends; nor does the broker's own word.
#[test]
fn only_what_a_topic_line_takes_comes_in() {
    let far = Fake::start(Manners::default());
    let runtime = runtime();
    runtime.block_on(async {
        let block = format!(
            "connection bad\naddress 127.0.0.1:{}\ntopic in/# in 2 here/ there/\ntopic $SYS/# in 0\n",
            far.port
        );
        let quoll = Quoll::start(&block).await;
        far.connection(0, 4);
        let mut client = plain_client(quoll.server.plain, "listens").await;
        for filter in ["#", "$SYS/broker/uptime"] {
            client.subscribe_to(TopicFilter::parse(filter).unwrap(), QoS::ExactlyOnce).await.unwrap();
        }
        for (number, topic) in
            [(1, "cmnd/lamp/POWER"), (2, "in/x"), (3, "$SYS/broker/uptime"), (4, "there/in/x")]
        {
            far.say(&publish(topic, Delivery::AtLeastOnce(id(number)), None));
        }
        let heard = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Event::Message(publish) = client.next().await.unwrap() {
                    return publish.topic.unwrap().as_str().to_owned();
                }
            }
        });
        assert_eq!(heard.await.unwrap(), "here/in/x", "the last one, and none before it");
        // They are acknowledged all the same: else they would come again for ever.
        far.wait("four PUBACKs", |heard| {
            heard[0].iter().filter(|it| matches!(it, Packet::PubAck(_))).count() == 4
        });
        quoll.stop().await;
    });
}

/// Each refusal, garbage in place of CONNACK, a silent one: the bridge comes again, the broker does not notice.
#[test]
fn a_broker_that_does_not_let_the_bridge_in_is_asked_again() {
    let mut rows: Vec<(&str, Manners)> = [
        ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
        ReasonCode::SERVER_UNAVAILABLE,
        ReasonCode::BAD_USER_NAME_OR_PASSWORD,
        ReasonCode::NOT_AUTHORIZED,
        ReasonCode::UNSUPPORTED_PROTOCOL_VERSION,
    ]
    .into_iter()
    .map(|reason| ("refused", Manners { refusals: vec![reason], ..Manners::default() }))
    .collect();
    let instead =
        |bytes: &[u8], hangs_up| Manners { instead: Some(bytes.to_vec()), hangs_up, ..Manners::default() };
    rows.push(("garbage", instead(b"HTTP/1.1 400 Bad Request\r\n\r\n", true)));
    rows.push(("a return code that there is not", instead(&[0x20, 2, 0, 99], false)));
    rows.push(("nothing", instead(&[], true)));
    rows.push(("a giant CONNACK", instead(&[0x20, 0xff, 0xff, 0x7f], false)));
    for_each(&rows, |(what, manners)| {
        let (far, runtime) = (Fake::start(manners.clone()), runtime());
        runtime.block_on(async {
            let block = format!(
                "connection bad\naddress 127.0.0.1:{}\nrestart_timeout 1\ntopic out/# out 1\n",
                far.port
            );
            let quoll = Quoll::start(&block).await;
            far.wait(what, |heard| !heard.is_empty() && !heard[0].is_empty());
            far.change(|manners| manners.instead = None);
            far.wait(what, |heard| heard.get(1).is_some_and(|it| it.len() >= 3));
            broker_is_well(&quoll, what).await;
            quoll.stop().await;
        });
    });
}

/// One that says nothing, or a byte now and then, costs one socket; meanwhile everything else goes on, and the end is prompt.
#[test]
fn a_broker_that_never_answers_holds_nobody_up() {
    let runtime = runtime();
    let far = Fake::start(Manners { instead: Some(vec![0x20]), ..Manners::default() });
    runtime.block_on(async {
        let block = format!("connection bad\naddress 127.0.0.1:{}\ntopic out/# out 1\n", far.port);
        let quoll = Quoll::start(&block).await;
        far.wait("CONNECT", |heard| !heard.is_empty() && !heard[0].is_empty());
        for _ in 0..5 {
            far.say_bytes(&[0x80]);
            broker_is_well(&quoll, "dripping").await;
        }
        let before = Instant::now();
        quoll.stop().await;
        assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
    });
}

/// It takes messages and never acknowledges one: the rest waits, within bounds, and nobody else does.
#[test]
fn a_broker_that_acknowledges_nothing_fills_its_own_window_alone() {
    let runtime = runtime();
    let far = Fake::start(Manners { acknowledges: false, ..Manners::default() });
    runtime.block_on(async {
        let block = format!("connection bad\naddress 127.0.0.1:{}\ntopic out/# out 1\n", far.port);
        let quoll = Quoll::start(&block).await;
        far.connection(0, 3);
        let mut client = plain_client(quoll.server.plain, "here").await;
        for number in 0..100 {
            client.publish(&message("out/x", number.to_string(), QoS::AtLeastOnce)).await.unwrap();
        }
        let messages = |heard: &[Vec<Packet>]| {
            heard[0].iter().filter(|it| matches!(it, Packet::Publish(it) if it.topic.as_ref().is_some_and(|t| t.as_str() == "out/x"))).count()
        };
        far.wait("a window", |heard| messages(heard) == 20);
        broker_is_well(&quoll, "no acknowledgement").await;
        assert_eq!(messages(&far.heard()), 20);
        quoll.stop().await;
    });
}
