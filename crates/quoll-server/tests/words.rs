//! The log's words: the same conversation with us and with Debian's Mosquitto, line against line.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use quoll_mqtt::packet::{Ack, Disconnect, Packet};
use quoll_mqtt::{Delivery, PacketId, ProtocolVersion, QoS, ReasonCode};
use quoll_server::log::{CONNECTION, NOTICE, PACKETS, SUBSCRIBE, UNSUBSCRIBE};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// Keeps what a log that obeys the table of [`quoll_server::log`] would have written.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Vec<String>>>);

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            write!(self.0, "{value:?}").unwrap();
        }
    }
}

impl<S: Subscriber> Layer<S> for Ear {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        let kind = match (level, target) {
            (Level::ERROR, _) => "error",
            (Level::WARN, _) => "warning",
            (Level::INFO, CONNECTION | NOTICE) => "notice",
            (Level::INFO, _) => "information",
            (_, SUBSCRIBE) => "subscribe",
            (_, UNSUBSCRIBE) => "unsubscribe",
            (_, PACKETS) => "debug",
            // Ours alone.
            _ => return,
        };
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.lock().unwrap().push(format!("{kind}: {}", message.0));
    }
}

/// Waits until all of it is settled: an answer to a ping is behind everything.
fn settle() {
    std::thread::sleep(Duration::from_millis(100));
}

/// Plays a client's part in all exchanges that are open, whoever began them, until they are over.
fn acknowledge(peer: &mut Peer) {
    // Each answer may bring another packet, four times at most.
    for _ in 0..5 {
        settle();
        peer.send(&Packet::PingReq);
        loop {
            match peer.receive() {
                Some(Packet::PingResp) => break,
                Some(Packet::Publish(publish)) => match publish.delivery {
                    Delivery::AtMostOnce => {}
                    Delivery::AtLeastOnce(id) => {
                        peer.send(&Packet::PubAck(Ack::new(id, ReasonCode::SUCCESS)));
                    }
                    Delivery::ExactlyOnce(id) => {
                        peer.send(&Packet::PubRec(Ack::new(id, ReasonCode::SUCCESS)));
                    }
                },
                Some(Packet::PubRec(ack)) => {
                    peer.send(&Packet::PubRel(Ack::new(ack.packet_id, ReasonCode::SUCCESS)));
                }
                Some(Packet::PubRel(ack)) => {
                    peer.send(&Packet::PubComp(Ack::new(ack.packet_id, ReasonCode::SUCCESS)));
                }
                Some(Packet::PubAck(_) | Packet::PubComp(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// What both brokers are told.
fn converse(address: SocketAddr) {
    let id = |number| PacketId::new(number).unwrap();
    let mut ann = connect_packet("ann", ProtocolVersion::V5);
    ann.username = Some("ann".into());
    let mut ann = Peer::connect_as(dial(address), ann);
    ann.send(&publish("x", "hi", Delivery::AtMostOnce));
    ann.send(&Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::SUCCESS))));
    assert!(ann.receive().is_none());
    // Every kind of packet.
    let mut bob = Peer::connect(dial(address), "bob", ProtocolVersion::V311);
    bob.subscribe("a/b", QoS::ExactlyOnce);
    for (topic, payload, delivery) in [
        ("a/b", "1", Delivery::AtLeastOnce(id(7))),
        ("q", "22", Delivery::ExactlyOnce(id(8))),
        ("a/b", "333", Delivery::ExactlyOnce(id(9))),
    ] {
        bob.send(&publish(topic, payload, delivery));
        acknowledge(&mut bob);
    }
    bob.send(&Packet::Unsubscribe(Box::new(quoll_mqtt::packet::Unsubscribe {
        packet_id: id(10),
        filters: vec![quoll_mqtt::TopicFilter::parse("a/b").unwrap()],
        user_properties: vec![],
    })));
    bob.receive();
    bob.ping();
    // Another with his name, who then just leaves.
    let mut again = Peer::connect(dial(address), "bob", ProtocolVersion::V31);
    again.ping();
    settle();
    drop(again);
    // Nothing tells that a broker has noticed; on a busy machine it may take its time.
    std::thread::sleep(Duration::from_secs(1));
    // Silence.
    let mut quiet = connect_packet("quiet", ProtocolVersion::V311);
    quiet.keep_alive = 1;
    let mut quiet = Peer::connect_as(dial(address), quiet);
    assert!(quiet.receive().is_none());
    settle();
    // Breakers of rules.
    let mut breaker = Peer::connect(dial(address), "breaker", ProtocolVersion::V311);
    breaker.stream.write_all(b"\x82\x06\0\0\0\x01ac").unwrap();
    assert!(breaker.receive().is_none());
    settle();
    for bytes in [&b"\xC0\0"[..], b"\x10\x0C\0\x04MQTT\x07\x02\0\x3C\0\0"] {
        let mut stranger = Peer::over(dial(address), ProtocolVersion::V311);
        stranger.stream.write_all(bytes).unwrap();
        while stranger.receive().is_some() {}
        settle();
    }
}

struct Mosquitto(Child);

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may be gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What Mosquitto's log says of these kinds.
fn mosquitto_says(kinds: &[&str]) -> Vec<String> {
    let folder = scratch("words");
    let port = free_port();
    let configuration = folder.join(format!("{}.conf", kinds.join("-")));
    let types: String = kinds.iter().map(|kind| format!("log_type {kind}\n")).collect();
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nlog_timestamp false\nlog_dest stdout\nsys_interval 0\n{types}"
    );
    std::fs::write(&configuration, text).unwrap();
    let mosquitto = Command::new("mosquitto")
        .arg("-c")
        .arg(&configuration)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("mosquitto is needed for this test and cannot be run: {error}"));
    let mut mosquitto = Mosquitto(mosquitto);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let start = std::time::Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        assert!(start.elapsed() < LONG, "mosquitto does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    settle();
    converse(address);
    run_well("kill", &["-TERM", &mosquitto.0.id().to_string()]);
    let mut said = String::new();
    std::io::Read::read_to_string(&mut mosquitto.0.stdout.take().unwrap(), &mut said).unwrap();
    let lines = said.lines().filter(|line| {
        // Its start and end; and a malformed packet is named before it is read, which we do not.
        let beside = ["mosquitto version", "Opening ", "Config loaded", "Received SUBSCRIBE from breaker"];
        !beside.iter().any(|words| line.starts_with(words))
    });
    // The first connection was ours, to see whether it listens.
    let first = "New connection from";
    let skip = lines.clone().position(|line| line.starts_with("New client")).unwrap_or(0);
    let before = lines.clone().take(skip).filter(|line| line.starts_with(first)).count();
    let mut skipped = before.saturating_sub(1);
    let mut kept = Vec::new();
    let mut unknown_closed = skipped;
    for line in lines {
        if line.starts_with(first) && skipped > 0 {
            skipped -= 1;
            continue;
        }
        if line.starts_with("Client <unknown> closed") && unknown_closed > 0 {
            unknown_closed -= 1;
            continue;
        }
        kept.push(line.to_owned());
    }
    kept
}

/// Ports are chance, and so is how a broker's own packet identifiers are.
fn plain(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("127.0.0.1:") {
        let (before, behind) = rest.split_at(at + "127.0.0.1:".len());
        out.push_str(before);
        rest = behind.trim_start_matches(|c: char| c.is_ascii_digit());
        out.push('P');
    }
    out.push_str(rest);
    if let Some(at) = out.find("on port ") {
        out.truncate(at);
        out.push_str("on port N.");
    }
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_log_says_what_mosquittos_says() {
    let ear = Ear::default();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(ear.clone())).unwrap();
    let server = serve(|settings| settings.listeners.truncate(2)).await;
    ear.0.lock().unwrap().clear();
    let address = server.plain;
    tokio::task::spawn_blocking(move || converse(address)).await.unwrap();
    server.handle.stop(LONG).await;
    let heard = ear.0.lock().unwrap().clone();
    let of = |kinds: &[&str]| -> Vec<String> {
        let lines = heard.iter().filter_map(|line| line.split_once(": "));
        lines.filter(|(kind, _)| kinds.contains(kind)).map(|(_, text)| plain(text)).collect()
    };
    // Notices and errors, in order; the others by themselves, since we say CONNACK before we greet.
    let kinds = [
        (&["notice", "error"][..], true),
        (&["debug"], false),
        (&["subscribe"], true),
        (&["unsubscribe"], true),
        (&["information"], true),
    ];
    let at_once = kinds.map(|(kinds, in_order)| {
        (kinds, in_order, tokio::task::spawn_blocking(move || mosquitto_says(kinds)))
    });
    for (kinds, in_order, said) in at_once {
        let said = said.await.unwrap();
        let mut theirs: Vec<String> = said.iter().map(|line| plain(line)).collect();
        let mut ours = of(kinds);
        if !in_order {
            theirs.sort();
            ours.sort();
        }
        assert_eq!(ours, theirs, "{kinds:?}");
    }
}
