//! TLS with devices: record sizes on the wire, refusals with the right alert, revocation to a dropped connection.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use common::*;
use quoll_mqtt::packet::Packet;
use quoll_mqtt::{Delivery, ProtocolVersion, QoS, ReasonCode};
use quoll_server::tls::ClientAuth;
use quoll_server::tls::hello::{self, Hello};
use quoll_server::{Reached, ServerEvent};

/// Bytes of an AES-GCM record beside its plaintext in TLS 1.2: explicit nonce and tag (RFC 5288 §3).
const GCM: usize = 24;

#[test]
fn the_hello_of_each_firmware_says_how_large_its_records_may_be() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/facts/vectors/client-hello.json");
    let text = std::fs::read_to_string(path).expect("the vectors are there");
    let vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
    let hellos = vectors["hellos"].as_array().unwrap();
    assert!(hellos.len() >= 5);
    for vector in hellos {
        let profile = vector["profile"].as_str().unwrap();
        let text = vector["record_hex"].as_str().unwrap();
        let bytes: Vec<u8> =
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect();
        let Hello::Whole(facts) = hello::read(&bytes) else { panic!("{profile} is a whole hello") };
        let extensions = vector["extensions"].as_array().unwrap();
        let said = extensions.iter().find(|it| it["type"] == 1).map(|it| it["data_hex"].as_str().unwrap());
        let expected = said.map(|hex| 256u16 << u8::from_str_radix(hex, 16).unwrap());
        assert_eq!(facts.max_fragment_length, expected, "{profile}");
        let suites: Vec<String> = facts.cipher_suites.iter().map(|it| format!("{it:04x}")).collect();
        assert_eq!(serde_json::json!(suites), vector["cipher_suites"], "{profile}");
        let host = if profile.contains("IP literal") { "192.168.1.10" } else { "broker.test" };
        assert_eq!(facts.server_name.as_deref(), Some(host), "{profile}");
        assert_eq!(facts.versions, [0x0303], "{profile}");
    }
}

/// Passes bytes on and notes the length of each application data record that the server sends.
fn tap(server: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let records = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&records);
    std::thread::spawn(move || {
        let (near, _) = listener.accept().unwrap();
        let far = TcpStream::connect(server).unwrap();
        let (mut up_from, mut up_to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut up_from, &mut up_to));
        let (mut from, mut to) = (far, near);
        let mut header = [0; 5];
        while from.read_exact(&mut header).is_ok() {
            let mut body = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
            if from.read_exact(&mut body).is_err() {
                break;
            }
            if header[0] == 23 {
                seen.lock().unwrap().push(body.len());
            }
            if to.write_all(&header).and_then(|()| to.write_all(&body)).is_err() {
                break;
            }
        }
    });
    (address, records)
}

fn device(port: u16, name: &str, more: &[&str]) -> Command {
    let mut command = Command::new(bearssl_device());
    let (ca, certificate, key) =
        (pki().path("ca.crt"), pki().path(&format!("{name}.crt")), pki().path(&format!("{name}.key")));
    command.args(["--port", &port.to_string(), "--name", "localhost", "--ca", &ca, "--client-id", name]);
    command.args(["--cert", &certificate, "--key", &key]).args(more);
    command
}

/// facts: §3.2: 1321 bytes of plaintext in a record are too much for an ESP8266, 2345 for an ESP32.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_record_is_larger_than_the_device_can_take() {
    let server = serve(|_| {}).await;
    let mut publisher = Peer::plain(&server, "publisher");
    for (profile, limit) in [("esp8266", 1024), ("esp32", 2048)] {
        let (port, records) = tap(server.tls);
        let mut command =
            device(port.port(), "lamp", &["--profile", profile, "--topic", "cmnd/#", "--count", "20"]);
        let waiting = tokio::task::spawn_blocking(move || command.output().unwrap());
        eventually("subscribed", async || server.handle.snapshot().await.stats.rules.subscriptions == 1)
            .await;
        // In one write: the server must cut what it batches, too.
        let mut bytes = Vec::new();
        for size in [1000, 700, 700, 5000, 20_000].into_iter().cycle().take(20) {
            bytes.extend(bytes_of(
                &publish("cmnd/lamp", vec![b'x'; size], Delivery::AtMostOnce),
                publisher.version,
            ));
        }
        publisher.stream.write_all(&bytes).unwrap();
        let output = waiting.await.unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && told.contains("result=ok received=20"), "{profile}: {told}");
        let records = records.lock().unwrap().clone();
        let largest = records.iter().max().copied().unwrap_or(0);
        assert_eq!(largest, limit + GCM, "{profile}: the largest record");
        eventually("gone", async || server.handle.snapshot().await.stats.rules.subscriptions == 0).await;
    }
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_certificate_is_told_so() {
    let server = serve(|_| {}).await;
    let mut events = server.handle.events();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut stream = dial_tls(server.tls, None, version);
        let error = match stream.write_all(b"x").and_then(|()| stream.flush()) {
            Ok(()) => stream.read(&mut [0; 1]).unwrap_err(),
            Err(error) => error,
        };
        assert!(error.to_string().contains("CertificateRequired"), "{error}");
        let event = tokio::time::timeout(LONG, events.recv()).await.unwrap().unwrap();
        let ServerEvent::HandshakeFailed { alert, hello, reached, certificate, secure, .. } = event else {
            panic!("{event:?}")
        };
        assert_eq!(alert, Some((true, 116)));
        assert_eq!((reached, certificate, secure), (Reached::Certificate, None, true));
        assert!(hello.is_some_and(|hello| hello.server_name.as_deref() == Some("localhost")));
    }
    server.handle.stop(LONG).await;
}

/// Who has to find out why a device does not come in hears how far it came, and with what.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_handshake_is_told_with_its_last_step_and_the_certificate_that_was_refused() {
    let server = serve(|_| {}).await;
    let mut events = server.handle.events();
    let mut next = async || loop {
        if let ServerEvent::HandshakeFailed { alert, reached, certificate, secure, hello, .. } =
            tokio::time::timeout(LONG, events.recv()).await.unwrap().unwrap()
        {
            return (alert, reached, certificate, secure, hello);
        }
    };
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        assert!(server.handle.replace_identity("tls", pki().identity(ClientAuth::Required, &["lamp"])));
        let mut stream = dial_tls(server.tls, Some("lamp"), version);
        let _ = stream.write_all(b"x").and_then(|()| stream.flush());
        let (alert, reached, certificate, ..) = next().await;
        assert_eq!((alert, reached), (Some((true, 44)), Reached::Certificate), "{version:?}");
        let certificate = certificate.expect("the one that was refused");
        assert!(certificate.subject.contains("CN=lamp"), "{certificate:?}");
        assert!(certificate.not_before < certificate.not_after, "{certificate:?}");
    }
    // A device that does not like our certificate leaves without a word.
    let hello =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/facts/vectors/client-hello.json"));
    let vectors: serde_json::Value = serde_json::from_str(hello).unwrap();
    let hex = vectors["hellos"][0]["record_hex"].as_str().unwrap();
    let hello: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    let mut socket = TcpStream::connect(server.tls).unwrap();
    socket.write_all(&hello).unwrap();
    assert!(socket.read(&mut [0; 5]).unwrap() > 0, "it answers");
    drop(socket);
    let (alert, reached, certificate, secure, _) = next().await;
    assert_eq!((alert, reached, certificate, secure), (None, Reached::Answered, None, true));
    // TLS to the port without, and MQTT to the port with it.
    let mut socket = TcpStream::connect(server.plain).unwrap();
    socket.write_all(&hello).unwrap();
    let (_, reached, _, secure, said) = next().await;
    assert_eq!((reached, secure), (Reached::Hello, false));
    assert!(said.is_some_and(|said| said.versions == [0x0303]));
    let mut socket = TcpStream::connect(server.tls).unwrap();
    socket.write_all(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00").unwrap();
    let (_, reached, _, secure, said) = next().await;
    assert_eq!((reached, secure, said), (Reached::Socket, true, None));
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_come_without_a_certificate_where_it_is_optional() {
    let server = serve(|_| {}).await;
    assert!(server.handle.replace_identity("tls", pki().identity(ClientAuth::Optional, &["lamp"])));
    assert!(!server.handle.replace_identity("plain", pki().identity(ClientAuth::None, &[])), "no TLS there");
    let version = &rustls::version::TLS13;
    Peer::connect(dial_tls(server.tls, None, version), "nobody", ProtocolVersion::V311).ping();
    Peer::connect(dial_tls(server.tls, Some("plug"), version), "plug", ProtocolVersion::V311).ping();
    assert_refused_as_revoked("lamp", server.tls);
    server.handle.stop(LONG).await;
}

fn assert_refused_as_revoked(name: &str, address: SocketAddr) {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut stream = dial_tls(address, Some(name), version);
        let error = match stream.write_all(b"x").and_then(|()| stream.flush()) {
            Ok(()) => stream.read(&mut [0; 1]).unwrap_err(),
            Err(error) => error,
        };
        assert!(error.to_string().contains("CertificateRevoked"), "{error}");
    }
}

/// The third walk of the floor plan.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_device_is_gone_within_a_second_and_others_do_not_notice() {
    for shards in [(|_| {}) as fn(&mut quoll_server::Settings), two_shards] {
        let server = serve(shards).await;
        let mut lamp = Peer::secure(&server, "lamp");
        let mut old_lamp = Peer::connect(
            dial_tls(server.tls, Some("lamp"), &rustls::version::TLS13),
            "lamp-3.1.1",
            ProtocolVersion::V311,
        );
        let mut plug = Peer::secure(&server, "plug");
        plug.subscribe("news", QoS::AtLeastOnce);
        let mut events = server.handle.events();
        let begun = Instant::now();
        assert!(server.handle.replace_identity("tls", pki().identity(ClientAuth::Required, &["lamp"])));
        assert_eq!(server.handle.expel(pki().credential("lamp")).await, 2);
        let last = lamp.receive();
        assert!(
            matches!(&last, Some(Packet::Disconnect(it)) if it.reason == ReasonCode::NOT_AUTHORIZED),
            "{last:?}"
        );
        assert!(lamp.receive().is_none() && old_lamp.receive().is_none());
        // A second, on a machine that has nothing else to do.
        let took = begun.elapsed();
        assert!(took < LONG / 3, "{took:?}");
        let event = tokio::time::timeout(LONG, events.recv()).await.unwrap().unwrap();
        assert!(
            matches!(&event, ServerEvent::Disconnected { who, .. } if &*who.identity == "lamp"),
            "{event:?}"
        );
        assert_refused_as_revoked("lamp", server.tls);
        plug.ping();
        let mut stray = Peer::secure(&server, "stray");
        stray.send(&publish("news", "here", Delivery::AtMostOnce));
        assert_eq!(&plug.receive_publish().payload[..], b"here");
        server.handle.stop(LONG).await;
    }
}

/// The stand-in device reports BearSSL's name of the alert; it needs that we drain before we close.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_device_sees_alert_44_each_time() {
    let server = serve(|_| {}).await;
    server.live.replace(pki().identity(ClientAuth::Required, &["lamp"]));
    for round in 0..10 {
        let output = device(server.tls.port(), "lamp", &["--timeout", "5"]).output().unwrap();
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8_lossy(&told).into_owned();
        assert_eq!(output.status.code(), Some(3), "round {round}: {told}");
        assert!(told.contains("certificate_revoked") || told.contains("300"), "round {round}: {told}");
    }
    assert!(device(server.tls.port(), "plug", &["--tls-only"]).status().unwrap().success());
    server.handle.stop(LONG).await;
}

/// Between handshake and shard: the order to expel finds nobody, so the shard has to look again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_revoked_in_the_middle_of_arriving_does_not_slip_through() {
    let server = serve(|_| {}).await;
    let mut events = server.handle.events();
    let mut connect = connect_packet("lamp", ProtocolVersion::V5);
    connect.username = Some("slow".into());
    let mut stream = dial_tls(server.tls, Some("lamp"), &rustls::version::TLS12);
    stream.write_all(&bytes_of(&Packet::Connect(Box::new(connect)), ProtocolVersion::V5)).unwrap();
    stream.flush().unwrap();
    let mut lamp = Peer::over(stream, ProtocolVersion::V5);
    // The doorkeeper has the question once another, later one was let in.
    Peer::secure(&server, "plug").ping();
    server.handle.replace_identity("tls", pki().identity(ClientAuth::Required, &["lamp"]));
    assert_eq!(server.handle.expel(pki().credential("lamp")).await, 0, "nobody is on a shard yet");
    server.bolt.add_permits(1);
    assert!(lamp.receive().is_none(), "it is closed without CONNACK");
    loop {
        match tokio::time::timeout(LONG, events.recv()).await.unwrap().unwrap() {
            ServerEvent::Refused { client_id, reason, .. } => {
                assert_eq!((&*client_id, reason), ("lamp", ReasonCode::NOT_AUTHORIZED));
                break;
            }
            ServerEvent::Connected(who) => assert_ne!(&*who.client_id, "lamp"),
            _ => {}
        }
    }
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_pass_over_tls_in_both_directions() {
    let server = serve(|_| {}).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let stream = dial_tls(server.tls, Some("lamp"), version);
        let mut lamp = Peer::connect(stream, "lamp", ProtocolVersion::V311);
        lamp.subscribe("echo", QoS::AtMostOnce);
        for size in [0, 1, 2047, 2048, 16_383, 16_384, 16_385, 70_000, 1_500_000] {
            let payload: Vec<u8> = (0..size).map(|at: usize| (at % 251) as u8).collect();
            lamp.send(&publish("echo", payload.clone(), Delivery::AtMostOnce));
            assert!(lamp.receive_publish().payload == payload, "{size} bytes");
        }
    }
    server.handle.stop(LONG).await;
}
