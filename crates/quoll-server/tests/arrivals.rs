//! From accept to a shard: patience, refusals, bytes that come early, and the hand-over.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::*;
use quoll_mqtt::packet::{Packet, Will, WillProperties};
use quoll_mqtt::{Delivery, ProtocolVersion, QoS, ReasonCode, TopicName};
use quoll_server::{
    ConnectFacts, Doorkeeper, Listener, MemoryJournal, ServerEvent, Settings, StartError, Terms, Transport,
    Verdict, start,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_drips_its_connect_is_cut_when_patience_is_over() {
    let server = serve(|settings| settings.limits.connect_patience = Duration::from_millis(600)).await;
    let mut events = server.handle.events();
    let connect = bytes_of(
        &Packet::Connect(Box::new(connect_packet("a-rather-long-client-identifier", ProtocolVersion::V311))),
        ProtocolVersion::V311,
    );
    // A TLS listener is dripped a hello, byte by byte.
    for (address, bytes) in
        [(server.plain, connect), (server.tls, b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc".to_vec())]
    {
        let mut socket = dial(address);
        let begun = Instant::now();
        let cut = bytes.iter().cycle().any(|byte| {
            std::thread::sleep(Duration::from_millis(90));
            socket.write_all(&[*byte]).is_err() || begun.elapsed() > LONG
        });
        assert!(cut && begun.elapsed() < LONG, "after {:?}", begun.elapsed());
        let event = tokio::time::timeout(LONG, events.recv()).await.unwrap().unwrap();
        assert!(matches!(event, ServerEvent::HandshakeFailed { .. }), "{event:?}");
    }
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_connect_is_closed_and_what_is_refused_is_told() {
    let server = serve(|_| {}).await;
    let mut unknown =
        bytes_of(&Packet::Connect(Box::new(connect_packet("new", ProtocolVersion::V5))), ProtocolVersion::V5);
    unknown[8] = 9;
    let mut evil = connect_packet("evil", ProtocolVersion::V311);
    evil.username = Some("evil".into());
    let evil_v3 = bytes_of(&Packet::Connect(Box::new(evil.clone())), ProtocolVersion::V311);
    evil.version = ProtocolVersion::V5;
    let evil_v5 = bytes_of(&Packet::Connect(Box::new(evil)), ProtocolVersion::V5);
    let table: [(&str, Vec<u8>, &[u8]); 6] = [
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), b""),
        ("PINGREQ first", vec![0xC0, 0], b""),
        ("a CONNECT that claims 256 MB", vec![0x10, 0xFF, 0xFF, 0xFF, 0x7F], b""),
        ("a version of the future", unknown, &[0x20, 2, 0, 1]),
        ("a refused 3.1.1 client", evil_v3, &[0x20, 2, 0, 5]),
        ("a refused 5.0 client", evil_v5, &[0x20, 3, 0, 0x87, 0]),
    ];
    for (what, bytes, expected) in table {
        let mut socket = dial(server.plain);
        socket.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(answer, expected, "{what}");
    }
    server.handle.stop(LONG).await;
}

/// Devices send CONNECT and what follows without waiting; bytes behind CONNECT, and half packets, travel with the
/// socket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_behind_connect_arrive_wherever_they_are_cut() {
    for shards in [(|_| {}) as fn(&mut Settings), two_shards] {
        let server = serve(shards).await;
        let version = ProtocolVersion::V311;
        let mut bytes = bytes_of(&Packet::Connect(Box::new(connect_packet("hasty", version))), version);
        bytes.extend(bytes_of(&subscribe("echo", QoS::AtMostOnce), version));
        for size in [10, 3000] {
            bytes.extend(bytes_of(&publish("echo", vec![b'x'; size], Delivery::AtMostOnce), version));
        }
        for cut in (0..60).chain([100, 1000, bytes.len()]) {
            for secure in [false, true] {
                let mut peer = if secure {
                    Peer::over(dial_tls(server.tls, Some("lamp"), &rustls::version::TLS13), version)
                } else {
                    Peer::over(dial(server.plain), version)
                };
                let (first, second) = bytes.split_at(cut);
                for part in [first, second] {
                    peer.stream.write_all(part).unwrap();
                    peer.stream.flush().unwrap();
                    std::thread::sleep(Duration::from_millis(2));
                }
                assert!(matches!(peer.receive(), Some(Packet::ConnAck(_))), "cut at {cut}, TLS {secure}");
                assert!(matches!(peer.receive(), Some(Packet::SubAck(_))), "cut at {cut}, TLS {secure}");
                for size in [10, 3000] {
                    assert_eq!(peer.receive_publish().payload.len(), size, "cut at {cut}, TLS {secure}");
                }
            }
        }
        server.handle.stop(LONG).await;
    }
}

/// The same client again and again, from two threads: each time the older connection ends, and nobody hangs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_connects_twice_at_a_time_ends_up_connected_once() {
    let server = serve(two_shards).await;
    let address: SocketAddr = server.plain;
    let rivals: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                for _ in 0..50 {
                    let mut peer = Peer::over(dial(address), ProtocolVersion::V5);
                    peer.send(&Packet::Connect(Box::new(connect_packet("rival", ProtocolVersion::V5))));
                    // It may be taken over at any moment.
                    let _ = peer.receive();
                }
            })
        })
        .collect();
    tokio::task::spawn_blocking(|| rivals.into_iter().for_each(|it| it.join().unwrap())).await.unwrap();
    let mut last = Peer::plain(&server, "rival");
    last.ping();
    let snapshot = server.handle.snapshot().await;
    assert_eq!(snapshot.connections.len(), 1);
    assert_eq!((snapshot.stats.rules.sessions, snapshot.stats.panics), (1, 0));
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_listener_closes_who_comes_and_has_room_when_one_leaves() {
    let server = serve(|settings| settings.listeners[0].max_connections = Some(1)).await;
    let mut only = Peer::plain(&server, "only");
    assert_eq!(dial(server.plain).read(&mut [0; 1]).unwrap_or(0), 0);
    only.ping();
    drop(only);
    eventually("there is room", async || {
        let mut peer = Peer::over(dial(server.plain), ProtocolVersion::V5);
        let connect = Packet::Connect(Box::new(connect_packet("next", ProtocolVersion::V5)));
        let sent = peer.stream.write_all(&bytes_of(&connect, ProtocolVersion::V5));
        sent.is_ok() && matches!(peer.receive(), Some(Packet::ConnAck(_)))
    })
    .await;
    server.handle.stop(LONG).await;
}

#[tokio::test]
async fn settings_that_cannot_be_are_refused_with_a_reason_and_a_way_out() {
    let server = serve(|_| {}).await;
    let door = || Arc::new(Door { bolt: Arc::new(tokio::sync::Semaphore::new(0)) });
    let start = async |change: &dyn Fn(&mut Settings)| {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut settings = Settings::new(vec![Listener::new("one", address, Transport::Tcp)]);
        change(&mut settings);
        start(settings, door(), Box::new(MemoryJournal::default())).await.map(drop)
    };
    let taken = server.plain;
    let error = start(&|settings| settings.listeners[0].place = taken.into()).await.unwrap_err();
    assert!(matches!(&error, StartError::Bind { place, .. } if *place == taken.into()), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains(&taken.port().to_string())));
    assert!(matches!(start(&|settings| settings.shards = 0).await, Err(StartError::Shards { wanted: 0 })));
    assert!(matches!(start(&|settings| settings.listeners.clear()).await, Err(StartError::NoListener)));
    let twice = start(&|settings| settings.listeners.push(settings.listeners[0].clone())).await;
    assert!(matches!(twice, Err(StartError::ListenerTwice { name }) if name == "one"));
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_told_to_those_who_watch() {
    let server = serve(|_| {}).await;
    let mut events = server.handle.events();
    let mut connect = connect_packet("intruder", ProtocolVersion::V5);
    connect.username = Some("evil".into());
    let mut peer =
        Peer::over(dial_tls(server.tls, Some("lamp"), &rustls::version::TLS12), ProtocolVersion::V5);
    peer.send(&Packet::Connect(Box::new(connect)));
    assert!(matches!(peer.receive(), Some(Packet::ConnAck(it)) if it.reason == ReasonCode::NOT_AUTHORIZED));
    assert!(peer.receive().is_none());
    let event = tokio::time::timeout(LONG, events.recv()).await.unwrap().unwrap();
    let ServerEvent::Refused { listener, client_id, username, credential, reason, .. } = event else {
        panic!("{event:?}")
    };
    assert_eq!((&*listener, &*client_id, username.as_deref()), ("tls", "intruder", Some("evil")));
    assert_eq!((credential, reason), (Some(pki().credential("lamp")), ReasonCode::NOT_AUTHORIZED));
    server.handle.stop(LONG).await;
}

/// A listener with this `max_qos`.
fn at_most(max_qos: QoS) -> Listener {
    let terms = Terms { max_qos, ..Terms::default() };
    Listener {
        terms,
        ..Listener::new(
            format!("level {}", max_qos as u8),
            SocketAddr::from(([127, 0, 0, 1], 0)),
            Transport::Tcp,
        )
    }
}

fn will_at(qos: QoS) -> Will {
    let topic = TopicName::parse("w").unwrap();
    Will { topic, payload: "gone".into(), qos, retain: false, properties: WillProperties::default() }
}

/// The level comes before the question who it is, as in Mosquitto.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_above_the_level_of_its_listener_is_refused_as_mosquitto_does() {
    let settings = Settings::new([QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].map(at_most).into());
    let handle = start(settings, Arc::new(Nobody), Box::new(MemoryJournal::default())).await.unwrap();
    let addresses = handle.addresses();
    let [none, one, two] = [0, 1, 2];
    let (low, high) = (QoS::AtLeastOnce, QoS::ExactlyOnce);
    let (level, stranger) = (ReasonCode::QOS_NOT_SUPPORTED, ReasonCode::NOT_AUTHORIZED);
    for (listener, version, will, expected) in [
        (one, ProtocolVersion::V5, Some(high), Some((level, Some(QoS::AtLeastOnce)))),
        (none, ProtocolVersion::V5, Some(low), Some((level, Some(QoS::AtMostOnce)))),
        // The level is told with each refusal.
        (one, ProtocolVersion::V5, Some(low), Some((stranger, Some(QoS::AtLeastOnce)))),
        (none, ProtocolVersion::V5, None, Some((stranger, Some(QoS::AtMostOnce)))),
        (two, ProtocolVersion::V5, Some(high), Some((stranger, None))),
        // 3.x has no code for it.
        (one, ProtocolVersion::V311, Some(high), None),
        (none, ProtocolVersion::V31, Some(low), None),
        (one, ProtocolVersion::V311, Some(low), Some((stranger, None))),
    ] {
        let mut connect = connect_packet("c", version);
        connect.will = will.map(will_at);
        let mut peer = Peer::over(dial(addresses[listener].1), version);
        peer.send(&Packet::Connect(Box::new(connect)));
        let told = match peer.receive() {
            Some(Packet::ConnAck(answer)) => Some((answer.reason, answer.properties.maximum_qos)),
            None => None,
            other => panic!("{listener} {version:?} {will:?}: {other:?}"),
        };
        assert_eq!(told, expected, "{listener} {version:?} {will:?}");
    }
    handle.stop(LONG).await;
}

/// What the rules refuse is told with the level, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_of_the_rules_tells_the_level_of_the_listener() {
    let server = serve(|settings| {
        settings.rules.retain_available = false;
        settings.listeners.push(at_most(QoS::AtLeastOnce));
    })
    .await;
    let mut connect = connect_packet("c", ProtocolVersion::V5);
    connect.will = Some(Will { retain: true, ..will_at(QoS::AtMostOnce) });
    let mut peer = Peer::over(dial(server.handle.addresses()[2].1), ProtocolVersion::V5);
    peer.send(&Packet::Connect(Box::new(connect)));
    let Some(Packet::ConnAck(told)) = peer.receive() else { panic!("no CONNACK") };
    assert_eq!(told.reason, ReasonCode::RETAIN_NOT_SUPPORTED);
    assert_eq!(told.properties.maximum_qos, Some(QoS::AtLeastOnce));
    server.handle.stop(LONG).await;
}

/// Lets nobody in.
struct Nobody;

#[async_trait::async_trait]
impl Doorkeeper for Nobody {
    async fn admit(&self, _: &ConnectFacts<'_>) -> Verdict {
        Verdict::Refuse(ReasonCode::NOT_AUTHORIZED)
    }
}
