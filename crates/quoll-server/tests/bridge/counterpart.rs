//! The same configuration, the same messages: what Mosquitto's bridge says to the far end, and what ours says, packet by
//! packet.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use quoll_mqtt::client::Message;
use quoll_mqtt::packet::*;
use quoll_mqtt::{Delivery, PacketId, QoS, ReasonCode, TopicName};

use crate::fake::{Fake, Manners};
use crate::subject::{Mosquitto, Quoll, message, plain_client, runtime};

/// A message that stands for "messages flow": sent until it arrives, and left out of the comparison.
const SYNC: &str = "sync";

struct Row {
    name: &'static str,
    /// The block, without `connection` and `address`.
    block: &'static str,
    manners: Manners,
    /// Published here, in this order.
    here: Vec<Message>,
    /// Published by the far end.
    there: Vec<Publish>,
    /// Whether the link is cut in between, and the second connection compared too.
    cut: bool,
}

fn row(name: &'static str, block: &'static str) -> Row {
    Row { name, block, manners: Manners::default(), here: Vec::new(), there: Vec::new(), cut: false }
}

fn retained(topic: &str, payload: &'static str, qos: QoS) -> Message {
    Message { retain: true, ..message(topic, payload, qos) }
}

fn theirs(topic: &str, payload: &'static str, qos: QoS, id: u16, retain: bool) -> Publish {
    let id = PacketId::new(id).unwrap();
    let delivery = match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce(id),
        QoS::ExactlyOnce => Delivery::ExactlyOnce(id),
    };
    let (topic, payload) = (Some(TopicName::parse(topic).unwrap()), Bytes::from_static(payload.as_bytes()));
    Publish { dup: false, retain, delivery, topic, payload, properties: None }
}

const PATTERNS: &str = "topic out/# out 1 l/ r/\ntopic in/+/x in 2 \"\" rem/\ntopic both/# both 1\n\
    topic \"\" out 0 exact/local exact/remote\ntopic \"\" in 0 mine/one theirs/one\ntopic deep/+/# out 2 a/b/ c/\n";

fn rows() -> Vec<Row> {
    use QoS::{AtLeastOnce as One, AtMostOnce as Zero, ExactlyOnce as Two};
    let patterns = || {
        vec![
            message("l/out/1", "a", Zero),
            message("l/out/1/2", "b", One),
            message("l/out/2", "c", Two),
            retained("l/out/3", "d", One),
            message("both/x", "e", Two),
            message("exact/local", "f", Two),
            message("a/b/deep/1/2", "g", Two),
            message("a/b/deep/1", "h", Zero),
            message("out/elsewhere", "no", One),
            message("in/a/x", "no", Two),
        ]
    };
    let properties = PublishProperties {
        payload_format_indicator: Some(true),
        message_expiry_interval: Some(100_000),
        response_topic: Some(TopicName::parse("answer/here").unwrap()),
        correlation_data: Some(Bytes::from_static(b"\0\x01")),
        user_properties: vec![("b".into(), "2".into()), ("a".into(), "1".into()), ("a".into(), "1".into())],
        content_type: Some("text/plain".into()),
        ..PublishProperties::default()
    };
    let dressed =
        |qos| Message { properties: Some(Box::new(properties.clone())), ..message("out/p", "x", qos) };
    let incoming = || {
        vec![
            theirs("rem/in/a/x", "0", Zero, 1, false),
            theirs("rem/in/a/x", "1", One, 1, false),
            theirs("rem/in/a/x", "2", Two, 2, true),
            theirs("both/y", "3", One, 3, true),
            theirs("theirs/one", "4", Two, 4, false),
        ]
    };
    let mut rows = vec![
        Row { here: patterns(), ..row("patterns", PATTERNS) },
        Row { here: patterns(), ..row("patterns, 3.1", PATTERNS_31) },
        Row { here: patterns(), ..row("patterns, 5.0", PATTERNS_5) },
        Row { there: incoming(), ..row("incoming", PATTERNS) },
        Row { there: incoming(), ..row("incoming, 5.0", PATTERNS_5) },
        row("clean session", "topic # both 2\ncleansession true\n"),
        row("clean session, 5.0", "topic # both 2\ncleansession true\nbridge_protocol_version mqttv50\n"),
        row("not private", "topic a/# both 1\ntry_private false\n"),
        row("no notifications", "topic a/# both 1\nnotifications false\n"),
        row("notifications here alone", "topic a/# both 1\nnotifications_local_only true\n"),
        row("notification topic", "topic a/# in 1\nnotification_topic my/state\n"),
        row("no unsubscribe", "topic a/# out 1\ntopic b/# in\nbridge_attempt_unsubscribe false\n"),
        row("names", "topic a/# in\nremote_clientid far away\nlocal_clientid near\nkeepalive_interval 77\n"),
        row("old names", "topic a/# in\nclientid old\nusername u\npassword p\n"),
        row("login", "topic a/# in\nremote_username ann\nremote_password s e c r e t\n"),
        row("user name alone", "topic a/# in\nremote_username ann\n"),
        Row {
            here: vec![retained("out/r", "1", One), retained("out/r", "", One), retained("out/s", "1", Zero)],
            ..row("retain goes out", "topic out/# out 1\n")
        },
        Row {
            here: vec![retained("out/r", "1", One), message("out/r", "2", One)],
            ..row("retain stays", "topic out/# out 1\nbridge_outgoing_retain false\n")
        },
        Row {
            here: vec![dressed(Zero), dressed(One), dressed(Two)],
            ..row("properties, 5.0", "topic out/# out 2\nbridge_protocol_version mqttv50\n")
        },
        Row { here: vec![dressed(One)], ..row("properties, 3.1.1", "topic out/# out 2\n") },
        Row {
            manners: Manners {
                allows: ConnAckProperties { maximum_qos: Some(One), ..ConnAckProperties::default() },
                ..Manners::default()
            },
            here: vec![message("out/q", "x", One)],
            ..row(
                "at most QoS 1, 5.0",
                "topic out/# out 1\ntopic in/# in 2\nbridge_protocol_version mqttv50\n",
            )
        },
        Row {
            here: vec![
                message("out/1", "1", One),
                message("out/2", vec![b'x'; 2000], One),
                message("out/3", "3", One),
            ],
            ..row(
                "too large for us, 5.0",
                "topic out/# out 1\nbridge_protocol_version mqttv50\nbridge_max_packet_size 1000\n",
            )
        },
        Row {
            manners: Manners {
                allows: ConnAckProperties { maximum_packet_size: Some(1000), ..ConnAckProperties::default() },
                ..Manners::default()
            },
            here: vec![
                message("out/1", "1", One),
                message("out/2", vec![b'x'; 2000], One),
                message("out/3", "3", One),
            ],
            ..row("too large for them, 5.0", "topic out/# out 1\nbridge_protocol_version mqttv50\n")
        },
        row("a prefix twice", "topic a/# out 1 x/ y/\ntopic a/b out 2 x/ z/\ntopic a/# in 0 x/ y/\n"),
        Row {
            here: vec![message("x/a/b", "1", Two), message("x/a/c", "1", Two)],
            ..row("the first line decides", "topic a/c out 2 x/ z/\ntopic a/# out 2 x/ y/\n")
        },
    ];
    rows.push(Row {
        here: vec![retained("out/1", "kept", One), retained("out/2", "kept", Zero)],
        cut: true,
        ..row("retained messages at each connection", "topic out/# out 1\nrestart_timeout 1\n")
    });
    rows
}

const PATTERNS_31: &str = "bridge_protocol_version mqttv31\ntopic out/# out 1 l/ r/\ntopic in/+/x in 2 \"\" rem/\n\
    topic both/# both 1\ntopic \"\" out 0 exact/local exact/remote\ntopic deep/+/# out 2 a/b/ c/\n";
const PATTERNS_5: &str = "bridge_protocol_version mqttv50\ntopic out/# out 1 l/ r/\ntopic in/+/x in 2 \"\" rem/\n\
    topic both/# both 1\ntopic \"\" out 0 exact/local exact/remote\ntopic \"\" in 0 mine/one theirs/one\n\
    topic deep/+/# out 2 a/b/ c/\n";

/// What the far end heard of a row, and what was heard here of its messages.
fn play(row: &Row, far: &Fake, near: SocketAddr) -> Vec<Vec<String>> {
    let runtime = runtime();
    runtime.block_on(async {
        let mut client = plain_client(near, "the tester").await;
        sync(far, &mut client, 0).await;
        for message in &row.here {
            client.publish(message).await.unwrap();
        }
        for publish in &row.there {
            far.say(&Packet::Publish(publish.clone()));
        }
        let awaited: usize = row.there.iter().map(|it| it.delivery.qos() as usize).sum();
        let is_ack = |it: &&Packet| matches!(it, Packet::PubAck(_) | Packet::PubRec(_) | Packet::PubComp(_));
        far.wait(row.name, |heard| heard[0].iter().filter(is_ack).count() >= awaited);
        far.wait(row.name, |heard| all_released(&heard[0]));
        sync(far, &mut client, 0).await;
        if row.cut {
            far.cut();
            far.wait(row.name, |heard| heard.len() > 1);
            sync(far, &mut client, 1).await;
        }
    });
    far.heard().iter().map(|packets| told(packets)).collect()
}

/// Whether each QoS 2 message was released.
fn all_released(heard: &[Packet]) -> bool {
    let two = |it: &&Packet| matches!(it, Packet::Publish(it) if it.delivery.qos() == QoS::ExactlyOnce);
    let released = |it: &&Packet| matches!(it, Packet::PubRel(_));
    heard.iter().filter(two).count() == heard.iter().filter(released).count()
}

/// Publishes until one arrives, and says when it has: everything before it has arrived too.
async fn sync(far: &Fake, client: &mut quoll_server::client::Client, connection: usize) {
    let count = || {
        let heard = far.heard();
        let is_it = |it: &&Packet| matches!(it, Packet::Publish(it) if it.topic.as_ref().is_some_and(|t| t.as_str() == SYNC));
        heard.get(connection).map_or(0, |it| it.iter().filter(is_it).count())
    };
    let before = count();
    for _ in 0..3_000 {
        client.publish(&message(SYNC, "", QoS::AtMostOnce)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        if count() > before {
            // Those that are still under way are to arrive before what comes next.
            tokio::time::sleep(Duration::from_millis(50)).await;
            return;
        }
    }
    panic!("nothing flows: {:#?}", far.heard());
}

/// The packets as texts, without what differs by nature: packet identifiers, and messages that only say that they flow.
fn told(packets: &[Packet]) -> Vec<String> {
    let nothing = PacketId::new(1).unwrap();
    let ack = |ack: &Ack| Ack { packet_id: nothing, ..ack.clone() };
    let mut told = Vec::new();
    for packet in packets {
        told.push(match packet {
            Packet::Publish(publish) => {
                let topic = publish.topic.as_ref().map(|it| it.as_str());
                if topic == Some(SYNC) {
                    continue;
                }
                let mut publish = publish.clone();
                publish.delivery = match publish.delivery {
                    Delivery::AtMostOnce => Delivery::AtMostOnce,
                    Delivery::AtLeastOnce(_) => Delivery::AtLeastOnce(nothing),
                    Delivery::ExactlyOnce(_) => Delivery::ExactlyOnce(nothing),
                };
                // Seconds pass.
                if let Some(expiry) =
                    publish.properties.as_mut().and_then(|it| it.message_expiry_interval.as_mut())
                {
                    *expiry = expiry.next_multiple_of(1000);
                }
                format!("{publish:?}")
            }
            Packet::Subscribe(it) => format!("{:?}", Subscribe { packet_id: nothing, ..(**it).clone() }),
            Packet::Unsubscribe(it) => format!("{:?}", Unsubscribe { packet_id: nothing, ..(**it).clone() }),
            Packet::PubRel(it) => format!("PUBREL {:?}", ack(it)),
            Packet::PubAck(it) => format!("PUBACK {:?}", as_client(it)),
            Packet::PubRec(it) => format!("PUBREC {:?}", as_client(it)),
            Packet::PubComp(it) => format!("PUBCOMP {it:?}"),
            Packet::Connect(it) => {
                let mut connect = (**it).clone();
                // Mosquitto has the option since 2.1, and 10 is its default there.
                connect.properties.topic_alias_maximum = None;
                format!("{connect:?} password {:?}", it.password)
            }
            other => format!("{other:?}"),
        });
    }
    told
}

/// Mosquitto's bridge says "no matching subscribers", which is a server's word alone (§3.4.2.1); ours does not.
fn as_client(ack: &Ack) -> Ack {
    let is_servers = ack.reason == ReasonCode::NO_MATCHING_SUBSCRIBERS;
    Ack { reason: if is_servers { ReasonCode::SUCCESS } else { ack.reason }, ..ack.clone() }
}

/// Acknowledgements of what came in may stand between others in another order: both are true.
fn sorted(told: &[String]) -> (Vec<&String>, Vec<&String>) {
    let is_ack = |it: &&String| {
        it.starts_with("PUBREL")
            || it.starts_with("PUBACK")
            || it.starts_with("PUBREC")
            || it.starts_with("PUBCOMP")
    };
    let (mut acks, rest): (Vec<_>, Vec<_>) = told.iter().partition(is_ack);
    acks.sort();
    (acks, rest)
}

fn compare(row: &Row) -> Result<(), String> {
    let block =
        |port: u16| format!("connection one\naddress 127.0.0.1:{port}\n{}topic {SYNC} out 0\n", row.block);
    let far = Fake::start(row.manners.clone());
    let mosquitto = Mosquitto::start(&block(far.port));
    let expected = play(row, &far, mosquitto.address());
    drop(mosquitto);
    let far = Fake::start(row.manners.clone());
    let runtime = runtime();
    let quoll = runtime.block_on(Quoll::start(&block(far.port)));
    let found = play(row, &far, quoll.server.plain);
    runtime.block_on(quoll.stop());
    let differ = |number: usize| {
        let (mut one, mut other) = (sorted(&expected[number]), sorted(&found[number]));
        if number > 0 {
            // Mosquitto 2.0 sends a retained message of QoS 1 twice when it comes again, which nobody can want.
            one.1.sort();
            other.1.sort();
            one.1.dedup();
            other.1.dedup();
        }
        one != other
    };
    if expected.len() != found.len() || (0..found.len()).any(differ) {
        return Err(format!("{}: Mosquitto says\n{expected:#?}\nQuoll says\n{found:#?}", row.name));
    }
    Ok(())
}

#[test]
fn each_configuration_says_on_the_wire_what_mosquittos_bridge_says() {
    let rows = rows();
    let next = std::sync::Mutex::new(rows.iter());
    let differences: Vec<String> = std::thread::scope(|scope| {
        let work = || {
            let mut differences = Vec::new();
            loop {
                let row = next.lock().unwrap().next();
                let Some(row) = row else { return differences };
                differences.extend(compare(row).err());
            }
        };
        let workers: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|it| it.join().unwrap()).collect()
    });
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// A refusal of the mark is followed by a try without it, which Mosquitto's documentation promises.
#[test]
fn a_broker_that_does_not_know_the_mark_is_called_without_it() {
    let refusals = vec![ReasonCode::UNSUPPORTED_PROTOCOL_VERSION];
    let far = Fake::start(Manners { refusals, ..Manners::default() });
    let runtime = runtime();
    let block = format!("connection one\naddress 127.0.0.1:{}\ntopic a\nrestart_timeout 1\n", far.port);
    let quoll = runtime.block_on(Quoll::start(&block));
    let heard = far.wait("a second try that goes well", |heard| heard.get(1).is_some_and(|it| it.len() > 2));
    let marks: Vec<bool> = heard
        .iter()
        .filter_map(|it| it.first())
        .map(|it| matches!(it, Packet::Connect(connect) if connect.bridge))
        .collect();
    assert_eq!(marks, [true, false]);
    runtime.block_on(quoll.stop());
}
