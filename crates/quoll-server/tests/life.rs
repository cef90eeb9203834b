//! A server's life: what it promises and when, slow peers, orders, those who watch, and its end.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::*;
use quoll_broker::{Change, Grants};
use quoll_mqtt::packet::{ConnectProperties, Packet, SubscriptionOptions};
use quoll_mqtt::{Delivery, PacketId, ProtocolVersion, QoS, ReasonCode, TopicFilter};
use quoll_server::journal::{Bell, Durable, Journal, JournalError, Sequence};
use quoll_server::{ServerEvent, Settings};

/// A journal whose disk is as slow as the test wants it.
struct SlowJournal {
    last: u64,
    appended: Arc<Mutex<Vec<Change>>>,
    durable: Arc<AtomicU64>,
    refused: Arc<Mutex<Option<String>>>,
    bell: Arc<Mutex<Option<Bell>>>,
    told: Vec<Change>,
}

impl Journal for SlowJournal {
    fn ring(&mut self, bell: Bell) {
        *self.bell.lock().unwrap() = Some(bell);
    }
    fn append(&mut self, changes: &[Change]) -> Result<Sequence, JournalError> {
        self.last += changes.len() as u64;
        self.appended.lock().unwrap().extend_from_slice(changes);
        Ok(Sequence(self.last))
    }
    fn durable(&self) -> Durable {
        let upto = Sequence(self.durable.load(Ordering::SeqCst));
        match &*self.refused.lock().unwrap() {
            None => Durable::UpTo(upto),
            Some(why) => Durable::Refused { upto, why: why.as_str().into() },
        }
    }
    fn recall(&mut self, each: &mut dyn FnMut(Change)) -> Result<(), JournalError> {
        self.told.drain(..).for_each(each);
        Ok(())
    }
    fn compact(&mut self, _: &mut dyn Iterator<Item = Change>) -> Result<(), JournalError> {
        Ok(())
    }
}

/// A client whose session outlives its connection.
fn lasting(client_id: &str) -> quoll_mqtt::packet::Connect {
    let mut connect = connect_packet(client_id, ProtocolVersion::V5);
    connect.clean_start = false;
    connect.properties =
        ConnectProperties { session_expiry_interval: Some(3600), ..ConnectProperties::default() };
    connect
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_promises_a_fact_waits_until_it_is_durable_and_nothing_else_does() {
    let durable = Arc::new(AtomicU64::new(u64::MAX));
    let (refused, bell) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));
    let journal = SlowJournal {
        last: 0,
        appended: Arc::default(),
        durable: Arc::clone(&durable),
        refused: Arc::clone(&refused),
        bell: Arc::clone(&bell),
        told: Vec::new(),
    };
    let ring = || bell.lock().unwrap().as_ref().expect("a bell was given").ring();
    let server = serve_with(Box::new(journal), |_| {}).await;
    let mut keeper = Peer::connect_as(dial(server.plain), lasting("keeper"));
    keeper.subscribe("kept", QoS::AtLeastOnce);
    let socket = dial(server.plain);
    let mut publisher = Peer::connect(socket.try_clone().unwrap(), "publisher", ProtocolVersion::V5);
    let mut other = Peer::plain(&server, "other");

    durable.store(0, Ordering::SeqCst);
    let id = PacketId::new(1).unwrap();
    publisher.send(&publish("kept", "1", Delivery::AtLeastOnce(id)));
    // The disk has not said so yet: no acknowledgement, while others are served.
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let early = publisher.stream.read(&mut [0; 1]);
    assert!(matches!(&early, Err(error) if error.kind() == ErrorKind::WouldBlock), "{early:?}");
    other.ping();
    socket.set_read_timeout(Some(LONG)).unwrap();
    durable.store(u64::MAX, Ordering::SeqCst);
    ring();
    assert!(matches!(publisher.receive(), Some(Packet::PubAck(ack)) if ack.packet_id == id));
    assert_eq!(&keeper.receive_publish().payload[..], b"1");

    // And when the disk will never say so, the peer must not be told that it did.
    durable.store(0, Ordering::SeqCst);
    publisher.send(&publish("kept", "2", Delivery::AtLeastOnce(PacketId::new(2).unwrap())));
    *refused.lock().unwrap() = Some("disk full".into());
    ring();
    let told = publisher.receive();
    assert!(
        matches!(&told, Some(Packet::Disconnect(it)) if it.reason == ReasonCode::QUOTA_EXCEEDED),
        "{told:?}"
    );
    assert!(publisher.receive().is_none());
    *refused.lock().unwrap() = None;
    other.ping();
    server.handle.stop(Duration::from_millis(200)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_journal_kept_is_there_after_a_restart_on_any_number_of_shards() {
    let appended = Arc::new(Mutex::new(Vec::new()));
    let journal = |told| SlowJournal {
        last: 0,
        appended: Arc::clone(&appended),
        durable: Arc::new(AtomicU64::new(u64::MAX)),
        refused: Arc::default(),
        bell: Arc::default(),
        told,
    };
    let names = ["one", "two", "three"];
    let server = serve_with(Box::new(journal(Vec::new())), |_| {}).await;
    for name in names {
        Peer::connect_as(dial(server.plain), lasting(name)).subscribe("news", QoS::AtLeastOnce);
    }
    let mut publisher = Peer::plain(&server, "publisher");
    let Packet::Publish(mut kept) = publish("state", "on", Delivery::AtMostOnce) else { panic!() };
    kept.retain = true;
    publisher.send(&Packet::Publish(kept));
    eventually("all are away", async || server.handle.snapshot().await.connections.len() == 1).await;
    publisher.send(&publish("news", "while away", Delivery::AtLeastOnce(PacketId::new(1).unwrap())));
    assert!(matches!(publisher.receive(), Some(Packet::PubAck(_))));
    server.handle.stop(LONG).await;

    for shards in [(|_| {}) as fn(&mut Settings), two_shards] {
        let told = appended.lock().unwrap().clone();
        let server = serve_with(Box::new(journal(told)), shards).await;
        for name in names {
            let mut peer = Peer::over(dial(server.plain), ProtocolVersion::V5);
            peer.send(&Packet::Connect(Box::new(lasting(name))));
            assert!(matches!(peer.receive(), Some(Packet::ConnAck(it)) if it.session_present), "{name}");
            assert_eq!(&peer.receive_publish().payload[..], b"while away");
            peer.send(&subscribe("state", QoS::AtMostOnce));
            let (first, second) = (peer.receive(), peer.receive());
            assert!(matches!(first, Some(Packet::SubAck(_))));
            assert!(matches!(second, Some(Packet::Publish(it)) if it.retain && &it.payload[..] == b"on"));
        }
        server.handle.stop(LONG).await;
    }
}

/// A shard that is still busy with what the journal tells it is subscribed already: nobody may publish past it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_let_in_before_every_shard_knows_what_its_sessions_subscribed_to() {
    let session = |client: &str| Change::Session {
        client_id: client.into(),
        record: quoll_broker::change::SessionRecord {
            identity: quoll_broker::vocabulary::Identity { name: "".into(), credential: None },
            expiry: 3600,
            absent_since: None,
        },
    };
    let subscribed = |client: &str, filter: String| Change::Subscribed {
        client_id: client.into(),
        filter: TopicFilter::parse(&filter).unwrap(),
        options: SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() },
        identifier: 0,
    };
    // Dealt to two shards in turn; the second has much to do before it comes to the one that counts.
    let mut told = vec![session("near"), session("far"), subscribed("near", "elsewhere".into())];
    told.extend((0..60_000).map(|n| subscribed("far", format!("other/{n}"))));
    told.push(subscribed("far", "news".into()));
    let journal = SlowJournal {
        last: 0,
        appended: Arc::default(),
        durable: Arc::new(AtomicU64::new(u64::MAX)),
        refused: Arc::default(),
        bell: Arc::default(),
        told,
    };
    let server = serve_with(Box::new(journal), two_shards).await;
    let mut publisher = Peer::plain(&server, "publisher");
    publisher.send(&publish("news", "early", Delivery::AtLeastOnce(PacketId::new(1).unwrap())));
    assert!(matches!(publisher.receive(), Some(Packet::PubAck(_))));
    let mut far = Peer::connect_as(dial(server.plain), lasting("far"));
    assert_eq!(&far.receive_publish().payload[..], b"early");
    server.handle.stop(LONG).await;
}

/// Data and the end of it in one go, more than one turn reads: the flagged end must not be forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_sends_much_and_closes_at_once_is_heard_to_the_end_and_forgotten() {
    let server = serve(|_| {}).await;
    let mut watcher = Peer::plain(&server, "watcher");
    watcher.subscribe("burst", QoS::AtMostOnce);
    for round in 0..5 {
        let mut burst = Peer::plain(&server, "burst");
        let mut bytes = Vec::new();
        for n in 0..40u8 {
            let mut payload = vec![n];
            payload.resize(50_000, b'x');
            bytes.extend(bytes_of(&publish("burst", payload, Delivery::AtMostOnce), ProtocolVersion::V5));
        }
        let writing = std::thread::spawn(move || {
            burst.stream.write_all(&bytes).unwrap();
            drop(burst);
        });
        for n in 0..40u8 {
            assert_eq!(watcher.receive_publish().payload[0], n, "round {round}");
        }
        writing.join().unwrap();
        eventually("it is gone", async || server.handle.snapshot().await.connections.len() == 1).await;
    }
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_reads_is_closed_and_costs_bounded_memory() {
    let server = serve(|settings| {
        settings.limits.congested_from = 256 * 1024;
        settings.limits.stall_patience = Duration::from_secs(2);
    })
    .await;
    let mut lazy = Peer::plain(&server, "lazy");
    lazy.subscribe("flood", QoS::AtMostOnce);
    let mut events = server.handle.events();
    let mut publisher = Peer::plain(&server, "publisher");
    let message = bytes_of(&publish("flood", vec![b'x'; 60_000], Delivery::AtMostOnce), publisher.version);
    // 120 MB, far more than socket buffers and our bound together.
    for _ in 0..2000 {
        publisher.stream.write_all(&message).unwrap();
    }
    publisher.ping();
    let dropped = server.handle.snapshot().await.stats.rules.dropped;
    assert!(dropped > 1000, "{dropped} dropped");
    let lost = tokio::time::timeout(LONG, async {
        loop {
            if let ServerEvent::Disconnected { who, .. } = events.recv().await.unwrap() {
                return who.client_id.to_string();
            }
        }
    });
    assert_eq!(lost.await.unwrap(), "lazy");
    publisher.ping();
    server.handle.stop(LONG).await;
}

/// Ten megabytes in one go at QoS 0 to a client that looks only then: none is lost, in clear and over TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_pictures_waits_for_a_slow_client() {
    let server = serve(|_| {}).await;
    for secure in [false, true] {
        let mut viewer = if secure { Peer::secure(&server, "lamp") } else { Peer::plain(&server, "viewer") };
        viewer.subscribe("camera", QoS::AtMostOnce);
        let mut camera = Peer::plain(&server, "camera");
        for n in 0..20u8 {
            camera.send(&publish("camera", vec![n; 500_000], Delivery::AtMostOnce));
        }
        camera.ping();
        for n in 0..20u8 {
            assert_eq!(viewer.receive_publish().payload, vec![n; 500_000], "TLS {secure}");
        }
    }
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_reads_slowly_gets_everything_of_qos_1_in_order() {
    let server = serve(|settings| settings.limits.congested_from = 64 * 1024).await;
    for secure in [false, true] {
        let name = if secure { "lamp" } else { "slow" };
        let mut slow = if secure { Peer::secure(&server, name) } else { Peer::plain(&server, name) };
        slow.subscribe("queue", QoS::AtLeastOnce);
        let mut publisher = Peer::plain(&server, "publisher");
        let publishing = std::thread::spawn(move || {
            for n in 0..300u16 {
                let mut payload = n.to_be_bytes().to_vec();
                payload.resize(50_000, b'x');
                publisher.send(&publish(
                    "queue",
                    payload,
                    Delivery::AtLeastOnce(PacketId::new(n + 1).unwrap()),
                ));
                assert!(matches!(publisher.receive(), Some(Packet::PubAck(_))));
            }
        });
        for n in 0..300u16 {
            if n % 100 == 0 {
                std::thread::sleep(Duration::from_millis(200));
            }
            let publish = slow.receive_publish();
            assert_eq!(publish.payload[..2], n.to_be_bytes(), "TLS {secure}");
            let Delivery::AtLeastOnce(id) = publish.delivery else { panic!("{:?}", publish.delivery) };
            slow.send(&Packet::PubAck(quoll_mqtt::packet::Ack::new(id, ReasonCode::SUCCESS)));
        }
        publishing.join().unwrap();
    }
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_stop_tells_peers_why_and_writes_what_waits() {
    for shards in [(|_| {}) as fn(&mut Settings), two_shards] {
        let server = serve(shards).await;
        let mut five = Peer::plain(&server, "five");
        let mut secure = Peer::secure(&server, "lamp");
        let mut three = Peer::connect(dial(server.plain), "three", ProtocolVersion::V311);
        secure.subscribe("last", QoS::AtMostOnce);
        five.send(&publish("last", vec![b'x'; 500_000], Delivery::AtMostOnce));
        five.ping();
        let (plain, begun) = (server.plain, Instant::now());
        let stopping = tokio::spawn(server.handle.stop(LONG));
        // Read in the background: the farewell must not depend on the order in which peers look.
        let reading = tokio::task::spawn_blocking(move || {
            assert_eq!(secure.receive_publish().payload.len(), 500_000);
            for peer in [&mut five, &mut secure] {
                let last = peer.receive();
                let why = matches!(&last, Some(Packet::Disconnect(it)) if it.reason == ReasonCode::SERVER_SHUTTING_DOWN);
                assert!(why && peer.receive().is_none(), "{last:?}");
            }
            assert!(three.receive().is_none());
        });
        reading.await.unwrap();
        stopping.await.unwrap();
        assert!(begun.elapsed() < LONG, "it waits for nobody: {:?}", begun.elapsed());
        assert!(std::net::TcpStream::connect(plain).is_err(), "nobody listens any more");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_waits_no_longer_than_its_grace_for_peers_that_do_not_read() {
    let server = serve(|_| {}).await;
    let mut lazy = Peer::plain(&server, "lazy");
    lazy.subscribe("flood", QoS::AtMostOnce);
    let mut publisher = Peer::plain(&server, "publisher");
    for _ in 0..200 {
        publisher.send(&publish("flood", vec![b'x'; 100_000], Delivery::AtMostOnce));
    }
    publisher.ping();
    let begun = Instant::now();
    server.handle.stop(Duration::from_millis(500)).await;
    assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_sees_clients_come_and_go_and_a_snapshot_says_who_is_there() {
    let server = serve(two_shards).await;
    let mut events = server.handle.events();
    let mut next = async || tokio::time::timeout(LONG, events.recv()).await.unwrap().unwrap();
    let mut lamp = Peer::secure(&server, "lamp");
    let ServerEvent::Connected(who) = next().await else { panic!() };
    assert_eq!((&*who.client_id, &*who.identity, &*who.listener), ("lamp", "lamp", "tls"));
    assert_eq!(who.credential, Some(pki().credential("lamp")));
    let mut other = Peer::plain(&server, "other");
    let ServerEvent::Connected(second) = next().await else { panic!() };
    assert_ne!(who.shard, second.shard, "they were dealt to two shards");
    let snapshot = server.handle.snapshot().await;
    let mut names: Vec<&str> = snapshot.connections.iter().map(|it| &*it.client_id).collect();
    names.sort_unstable();
    assert_eq!((names, snapshot.busy.len()), (vec!["lamp", "other"], 2));
    assert!(snapshot.connections.contains(&who));
    assert_eq!(server.handle.disconnect("other", ReasonCode::ADMINISTRATIVE_ACTION).await, 1);
    assert!(
        matches!(other.receive(), Some(Packet::Disconnect(it)) if it.reason == ReasonCode::ADMINISTRATIVE_ACTION)
    );
    loop {
        if let ServerEvent::Disconnected { who, .. } = next().await {
            assert_eq!(&*who.client_id, "other");
            break;
        }
    }
    lamp.ping();
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_of_this_process_hears_messages_and_drops_what_does_not_fit() {
    let server = serve(two_shards).await;
    let mut publishers = [Peer::plain(&server, "one"), Peer::plain(&server, "two")];
    let mut heard = server.handle.attach(vec![TopicFilter::parse("tele/#").unwrap()], 4);
    eventually("subscribed", async || server.handle.snapshot().await.stats.rules.subscriptions == 1).await;
    assert_eq!(server.handle.snapshot().await.connections.len(), 2, "it is nobody's client");
    for publisher in &mut publishers {
        publisher.send(&publish("tele/x", "hello", Delivery::AtMostOnce));
        let message = tokio::time::timeout(LONG, heard.recv()).await.unwrap().unwrap();
        assert_eq!((message.topic.as_str(), &message.payload[..]), ("tele/x", &b"hello"[..]));
    }
    for n in 0..20u8 {
        publishers[0].send(&publish("tele/x", [n], Delivery::AtMostOnce));
    }
    publishers[0].ping();
    eventually("all were routed", async || {
        server.handle.snapshot().await.stats.rules.publishes_received == 22
    })
    .await;
    // What was dealt to the other shard travels by letter; four wait, the rest was dropped.
    eventually("the first four wait", async || heard.len() == 4).await;
    assert_eq!(heard.recv().await.unwrap().payload[..], [0]);
    drop(heard);
    publishers[0].send(&publish("tele/x", "nobody", Delivery::AtMostOnce));
    eventually("the subscription ends", async || {
        server.handle.snapshot().await.stats.rules.subscriptions == 0
    })
    .await;
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_change_for_those_who_are_connected() {
    let server = serve(two_shards).await;
    let mut lamp = Peer::secure(&server, "lamp");
    let mut plug = Peer::secure(&server, "plug");
    plug.subscribe("state/#", QoS::AtMostOnce);
    server.handle.regrant("lamp", &Arc::new(Grants::new(&[TopicFilter::parse("state/lamp").unwrap()], &[])));
    // An order and its answer pass every shard, so what follows is handled under the new grants.
    server.handle.snapshot().await;
    lamp.send(&publish("state/other", "forged", Delivery::AtMostOnce));
    lamp.send(&publish("state/lamp", "own", Delivery::AtMostOnce));
    assert_eq!(plug.receive_publish().topic.unwrap().as_str(), "state/lamp");
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_the_rules_change_while_the_server_runs() {
    let server = serve(two_shards).await;
    let mut old = Peer::plain(&server, "old");
    let rules = quoll_broker::ShardSettings {
        message_size_limit: 10,
        max_packet_size: 200,
        max_keepalive: 60,
        ..quoll_broker::ShardSettings::default()
    };
    server.handle.set_rules(&rules, Some(2));
    // An order and its answer pass every shard.
    server.handle.snapshot().await;
    let publish_bytes = |peer: &mut Peer, bytes: usize| {
        peer.send(&publish("t", vec![b'x'; bytes], Delivery::AtLeastOnce(PacketId::new(1).unwrap())));
        match peer.receive() {
            Some(Packet::PubAck(ack)) => ack.reason,
            Some(Packet::Disconnect(it)) => it.reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(publish_bytes(&mut old, 10), ReasonCode::NO_MATCHING_SUBSCRIBERS);
    assert_eq!(publish_bytes(&mut old, 11), ReasonCode::PACKET_TOO_LARGE);
    // Told to those who come now, and held against all.
    let mut new = Peer::over(dial(server.plain), ProtocolVersion::V5);
    let mut connect = connect_packet("new", ProtocolVersion::V5);
    connect.keep_alive = 1000;
    new.send(&Packet::Connect(Box::new(connect)));
    let Some(Packet::ConnAck(ack)) = new.receive() else { panic!() };
    assert_eq!((ack.properties.maximum_packet_size, ack.properties.server_keep_alive), (Some(200), Some(60)));
    let third = Peer::over(dial(server.plain), ProtocolVersion::V5).receive();
    assert!(third.is_none(), "two are all there may be: {third:?}");
    assert_eq!(publish_bytes(&mut new, 300), ReasonCode::PACKET_TOO_LARGE);
    assert!(new.receive().is_none());
    old.ping();
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_client_is_gone_after_one_and_a_half_keep_alives() {
    let server = serve(|_| {}).await;
    let mut connect = connect_packet("silent", ProtocolVersion::V5);
    connect.keep_alive = 1;
    let begun = Instant::now();
    let mut silent = Peer::connect_as(dial(server.plain), connect);
    let last = silent.receive();
    assert!(
        matches!(&last, Some(Packet::Disconnect(it)) if it.reason == ReasonCode::KEEP_ALIVE_TIMEOUT),
        "{last:?}"
    );
    assert!(begun.elapsed() >= Duration::from_millis(1400), "{:?}", begun.elapsed());
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_packet_ends_one_connection_alone() {
    let server = serve(|_| {}).await;
    let mut good = Peer::plain(&server, "good");
    let mut bad = Peer::plain(&server, "bad");
    bad.stream.write_all(&[0x00, 0x00]).unwrap();
    let last = bad.receive();
    assert!(matches!(&last, Some(Packet::Disconnect(it)) if it.reason.is_failure()), "{last:?}");
    assert!(bad.receive().is_none());
    good.ping();
    server.handle.stop(LONG).await;
}
