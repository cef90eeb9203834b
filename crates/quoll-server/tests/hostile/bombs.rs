//! Memory as the target: who does not read, subscriptions without number, what the broker has to keep.

use std::io::{Read as _, Write as _};

use quoll_mqtt::packet::*;
use quoll_mqtt::{Delivery, PacketId, ProtocolVersion, QoS, ReasonCode, TopicFilter, TopicName};
use quoll_server::limits;

use crate::common::*;
use crate::siege::{LEFT_BEHIND, Siege, connect_bytes, hear, reset};

/// More than the broker may hold for one who does not read (`limits::CONGESTED_FROM`), and some.
const HELD_FOR_ONE: u64 = 3 << 20;

fn subscribe_all(peer: &mut Peer, filters: &[String], qos: QoS) -> Vec<ReasonCode> {
    let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
    let subscriptions = filters
        .iter()
        .map(|filter| Subscription { filter: TopicFilter::parse(filter).unwrap(), options })
        .collect();
    peer.send(&Packet::Subscribe(Box::new(Subscribe {
        packet_id: PacketId::new(1).unwrap(),
        subscriptions,
        properties: SubscribeProperties::default(),
    })));
    loop {
        match peer.receive() {
            Some(Packet::SubAck(answer)) => return answer.reasons,
            Some(_) => {}
            None => panic!("thrown out"),
        }
    }
}

/// Publishes, at QoS 1, one after the other; so each was dealt with.
fn publish_each(peer: &mut Peer, topics: impl Iterator<Item = String>, payload: &[u8], retain: bool) {
    let one = PacketId::new(1).unwrap();
    for topic in topics {
        let Packet::Publish(mut packet) = publish(&topic, payload, Delivery::AtLeastOnce(one)) else {
            unreachable!()
        };
        packet.retain = retain;
        peer.send(&Packet::Publish(packet));
        loop {
            match peer.receive() {
                Some(Packet::PubAck(_)) => break,
                Some(_) => {}
                None => panic!("a publisher was thrown out"),
            }
        }
    }
}

/// Ten who subscribe to everything and never read a byte, one who reads a byte now and then; 100 MB are published.
pub(crate) fn who_does_not_read_has_his_share_and_no_more() {
    let siege = Siege::begin("queued=100");
    let mut deaf = Vec::new();
    for number in 0..10 {
        let mut peer = siege.client(&format!("deaf {number}"));
        let qos = if number % 2 == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        peer.subscribe("flood/#", qos);
        deaf.push(peer);
    }
    let mut socket = siege.dial("plain");
    let mut hears = siege.client("hears");
    hears.subscribe("flood/#", QoS::AtMostOnce);
    let mut bytes = connect_bytes("a byte now and then");
    bytes.extend(bytes_of(&subscribe("flood/#", QoS::AtMostOnce), ProtocolVersion::V311));
    socket.write_all(&bytes).unwrap();
    let mut loud = siege.client("loud");
    for number in 0..2000 {
        publish_each(&mut loud, std::iter::once(format!("flood/{}", number % 50)), &[b'x'; 50_000], false);
        assert_eq!(hears.receive_publish().payload.len(), 50_000, "who reads hears all of them");
        if number % 20 == 0 {
            socket.read_exact(&mut [0; 1]).unwrap();
        }
    }
    siege.is_well("those who do not read");
    // Eleven of them, 120 messages that those at QoS 1 have in common, and what the others share.
    let shared = (limits::CONGESTED_FROM * limits::SHARED_FOR_ONE) as u64;
    let limit = siege.began_with() + 11 * HELD_FOR_ONE + 120 * 50_000 + shared + LEFT_BEHIND;
    assert!(siege.peak() < limit, "{} bytes, {limit} at most", siege.peak());
    drop((deaf, hears, socket));
    siege.end("those who do not read");
}

/// A message is for each of them: a copy of a topic of 42 kB for every filter makes 5 MB of ten bytes, and many of those fit in
/// one read.
pub(crate) fn filters_that_overlap_multiply_no_message_beyond_measure() {
    let level = "l".repeat(6000);
    let topic = [&*level; 7].join("/");
    let filters: Vec<String> = (0..1 << 7)
        .map(|mask: u32| {
            let level = |n: u32| if mask >> n & 1 == 1 { "+" } else { &*level };
            (0..7).map(level).collect::<Vec<_>>().join("/")
        })
        .collect();
    Siege::begin("shards=1").twice("overlapping filters", |siege| {
        let mut greedy = siege.client("greedy");
        for part in filters.chunks(32) {
            assert!(subscribe_all(&mut greedy, part, QoS::AtMostOnce).iter().all(|it| !it.is_failure()));
        }
        let after = siege.memory();
        let mut loud = siege.client("loud");
        let alias = |topic: Option<&str>| {
            let topic_alias = std::num::NonZeroU16::new(1);
            let properties = PublishProperties { topic_alias, ..PublishProperties::default() };
            bytes_of(
                &Packet::Publish(Publish {
                    dup: false,
                    retain: false,
                    delivery: Delivery::AtMostOnce,
                    topic: topic.map(|topic| TopicName::parse(topic).unwrap()),
                    payload: bytes::Bytes::new(),
                    properties: Some(Box::new(properties)),
                }),
                ProtocolVersion::V5,
            )
        };
        let mut burst = alias(Some(&topic));
        burst.extend(alias(None).repeat(50));
        loud.stream.write_all(&burst).unwrap();
        loud.ping();
        siege.is_well("overlapping filters");
        // `limits::MAX_WAITING` is 64 MiB; a vector that grows has its old half beside it for a moment.
        assert!(siege.peak() < after + (160 << 20), "{} bytes after {after}", siege.peak());
    });
}

pub(crate) fn subscriptions_have_a_bound() {
    let names = |range: std::ops::Range<u32>| range.map(|n| format!("s/{n}/+/#")).collect::<Vec<_>>();
    Siege::begin("shards=1 subscriptions=20000").twice("subscriptions", |siege| {
        let mut greedy = siege.client("greedy");
        for start in (0..20_000).step_by(10_000) {
            let reasons = subscribe_all(&mut greedy, &names(start..start + 10_000), QoS::AtMostOnce);
            assert!(reasons.iter().all(|reason| !reason.is_failure()));
        }
        let reasons = subscribe_all(&mut greedy, &names(20_000..20_010), QoS::AtMostOnce);
        assert_eq!(reasons, vec![ReasonCode::QUOTA_EXCEEDED; 10]);
        greedy.ping();
        siege.is_well("subscriptions");
    });
}

pub(crate) fn retained_messages_wait_for_who_does_not_read_them_and_can_be_cleared() {
    Siege::begin("shards=1").twice("retained messages", |siege| {
        let mut keeper = siege.client("keeper");
        let topics = || (0..1000).map(|n| format!("kept/{n}"));
        publish_each(&mut keeper, topics(), &[b'x'; 20_000], true);
        let after = siege.memory();
        let mut deaf: Vec<Peer> = (0..5).map(|n| siege.client(&format!("deaf {n}"))).collect();
        deaf.iter_mut().for_each(|peer| peer.send(&subscribe("kept/#", QoS::AtMostOnce)));
        siege.is_well("retained messages");
        assert!(siege.memory() < after + HELD_FOR_ONE, "{} bytes after {after}", siege.memory());
        publish_each(&mut keeper, topics(), b"", true);
    });
}

pub(crate) fn wills_that_are_all_due_at_once_are_told_and_gone() {
    let siege = Siege::begin("");
    let mut heir = siege.client("heir");
    heir.subscribe("will/+", QoS::AtLeastOnce);
    let sockets: Vec<_> = (0..200)
        .map(|number| {
            let version = ProtocolVersion::V311;
            let mut connect = connect_packet(&format!("dies {number}"), version);
            connect.will = Some(Will {
                topic: TopicName::parse(&format!("will/{number}")).unwrap(),
                payload: bytes::Bytes::from(vec![b'x'; 60_000]),
                qos: QoS::AtLeastOnce,
                retain: false,
                properties: WillProperties::default(),
            });
            let mut socket = siege.dial("plain");
            let bytes = bytes_of(&Packet::Connect(Box::new(connect)), version);
            socket.write_all(&bytes).unwrap();
            socket.read_exact(&mut [0; 4]).unwrap();
            socket
        })
        .collect();
    let listens = std::thread::spawn(move || {
        for _ in 0..200 {
            assert_eq!(hear(&mut heir).payload.len(), 60_000);
        }
    });
    sockets.into_iter().for_each(reset);
    listens.join().unwrap();
    siege.end("wills");
}

/// With `global_max_clients`: who comes beyond is told so, who is there is not touched, and there is room when sessions end.
pub(crate) fn sessions_have_a_bound() {
    let siege = Siege::begin("sessions=200 shards=1");
    let come = |number: u32| {
        let mut connect = connect_packet(&format!("squatter {number}"), ProtocolVersion::V5);
        connect.clean_start = false;
        connect.properties.session_expiry_interval = Some(1);
        let mut peer = Peer::over(siege.dial("plain"), ProtocolVersion::V5);
        peer.send(&Packet::Connect(Box::new(connect)));
        match peer.receive() {
            Some(Packet::ConnAck(answer)) => (answer.reason, peer),
            other => panic!("{other:?}"),
        }
    };
    let squatters: Vec<_> = (0..400).map(come).collect();
    let refused: Vec<_> = squatters.iter().filter(|(reason, _)| reason.is_failure()).collect();
    assert!((200..=210).contains(&refused.len()), "{} of 400 are refused", refused.len());
    assert!(refused.iter().all(|(reason, _)| *reason == ReasonCode::SERVER_BUSY), "{:?}", refused[0].0);
    drop(squatters);
    siege.until("sessions end", || !come(1000).0.is_failure());
    siege.end("sessions");
}
