//! `$SYS` as a subscriber sees it, and the server's word to a service manager, over real sockets.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::time::Duration;

use common::*;
use quoll_mqtt::packet::Packet;
use quoll_mqtt::{Delivery, PacketId, ProtocolVersion, QoS};
use quoll_server::SysTopics;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_see_what_mosquitto_tells_about_itself() {
    let server = serve(two_shards).await;
    let _local = server.handle.attach(vec![quoll_mqtt::TopicFilter::parse("none").unwrap()], 1);
    let mut publisher = Peer::plain(&server, "publisher");
    for number in 1..=10 {
        publisher.send(&publish("t", vec![0; 100], Delivery::AtLeastOnce(PacketId::new(number).unwrap())));
        assert!(matches!(publisher.receive(), Some(Packet::PubAck(_))));
    }
    let mut watcher = Peer::connect(dial(server.plain), "watcher", ProtocolVersion::V311);
    watcher.ping();
    let (_interval, every_second) = tokio::sync::watch::channel(Some(Duration::from_secs(1)));
    let topics = SysTopics::new(&server.handle, every_second, "mosquitto version 2.1.2");
    let publishing = tokio::spawn(topics.run());
    watcher.subscribe("$SYS/#", QoS::AtMostOnce);
    let mut seen = HashMap::new();
    // Version, uptime, 25 figures, 27 of load, and 2 of memory where the system tells.
    let expected = if cfg!(target_os = "linux") { 56 } else { 54 };
    while seen.len() < expected {
        let publish = watcher.receive_publish();
        let text = String::from_utf8(publish.payload.to_vec()).unwrap();
        seen.insert(publish.topic.unwrap().as_str().to_owned(), text);
    }
    let told = |topic: &str| seen[&format!("$SYS/broker/{topic}")].as_str();
    assert_eq!(told("version"), "mosquitto version 2.1.2");
    assert_eq!(
        (told("clients/connected"), told("clients/active")),
        ("2", "2"),
        "local subscribers are no clients"
    );
    assert_eq!((told("clients/total"), told("clients/maximum")), ("2", "2"));
    assert_eq!((told("publish/messages/received"), told("publish/bytes/received")), ("10", "1000"));
    // Two CONNECT, ten PUBLISH, one PINGREQ; the watcher's own SUBSCRIBE may be among them.
    let (received, sent): (u64, u64) =
        (told("messages/received").parse().unwrap(), told("messages/sent").parse().unwrap());
    assert!((13..20).contains(&received) && (13..20).contains(&sent), "{received} {sent}");
    assert_eq!(told("connections/socket/count"), "2");
    assert!(told("uptime").ends_with(" seconds"));
    // Nobody but the server may publish there.
    publisher.send(&publish("$SYS/broker/uptime", "ages", Delivery::AtMostOnce));
    publisher.ping();
    // A change comes to those who are there.
    let mut third = Peer::plain(&server, "third");
    loop {
        let publish = watcher.receive_publish();
        assert_ne!(publish.payload, "ages");
        if publish.topic.unwrap().as_str() == "$SYS/broker/clients/connected" {
            assert_eq!(publish.payload, "3");
            break;
        }
    }
    third.ping();
    server.handle.stop(LONG).await;
    tokio::time::timeout(LONG, publishing).await.expect("it ends with the server").unwrap();
}

/// A service manager in miniature: opens the socket, hands it over, and listens to what is told.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watchdog_is_fed_while_all_shards_answer() {
    use std::os::unix::net::UnixDatagram;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(LONG)).unwrap();
    let server = serve(|_| {}).await;
    let notifier =
        quoll_server::Notifier::to(path.to_str().unwrap(), Some(Duration::from_millis(200))).unwrap();
    notifier.ready();
    let handle = server.handle.clone();
    let watching = tokio::spawn(async move { notifier.watch(&handle).await });
    let heard = tokio::task::spawn_blocking(move || {
        let mut words = Vec::new();
        for _ in 0..3 {
            let mut bytes = [0; 32];
            let length = manager.recv(&mut bytes).expect("a word comes");
            words.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
        words
    });
    assert_eq!(heard.await.unwrap(), ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]);
    server.handle.stop(LONG).await;
    tokio::time::timeout(LONG, watching).await.expect("it ends with the server").unwrap();
}
