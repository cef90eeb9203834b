//! MQTT over WebSocket, with and without TLS: RFC 6455 and MQTT 5.0 §6, over real sockets.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use common::web::{Web, frame, read_head, request};
use common::*;
use quoll_mqtt::packet::Packet;
use quoll_mqtt::{Delivery, ProtocolVersion, QoS, ReasonCode};
use quoll_server::tls::ClientAuth;
use quoll_server::{Listener, ServerEvent, Settings, Transport, WebSocketSettings};

/// Both listeners of the server speak WebSocket; clients need no certificate.
fn websocket(settings: &mut Settings) {
    for listener in &mut settings.listeners {
        listener.websocket = Some(WebSocketSettings::default());
        if let Transport::Tls(live) = &listener.transport {
            live.replace(pki().identity(ClientAuth::Optional, &[]));
        }
    }
}

fn dial_wss(server: &Server, device: Option<&str>) -> impl Stream + 'static {
    dial_tls(server.tls, device, &rustls::version::TLS13)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_over_websocket_tls_and_tcp_talk_with_each_other() {
    let server = serve(|settings| {
        websocket(settings);
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        settings.listeners.push(Listener::new("tcp", address, Transport::Tcp));
    })
    .await;
    let tcp = server.handle.addresses()[2].1;
    for version in [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5] {
        let mut peers = [
            Peer::connect(Web::open(dial(server.plain)), "ws", version),
            Peer::connect(Web::open(dial_wss(&server, Some("lamp"))), "wss", version),
            Peer::connect(dial(tcp), "tcp", version),
        ];
        for peer in &mut peers {
            peer.subscribe("t/#", QoS::AtLeastOnce);
        }
        for (number, size) in [(0, 0), (1, 100), (2, 3000), (0, 70_000), (1, 500_000)] {
            peers[number].send(&publish("t/x", vec![7; size], Delivery::AtMostOnce));
            for peer in &mut peers {
                let publish = peer.receive_publish();
                assert_eq!((publish.payload.len(), publish.payload.iter().all(|it| *it == 7)), (size, true));
            }
        }
    }
    server.handle.stop(LONG).await;
}

/// A proxy beside the broker says whom it serves, as Mosquitto hears it too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_behind_a_proxy_of_this_machine_is_known_by_its_own_address() {
    let server = serve(websocket).await;
    let mut stream = dial(server.plain);
    stream.write_all(request("X-Forwarded-For: 203.0.113.1, 192.0.2.7\r\n").as_bytes()).unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 101 "));
    let connect = Packet::Connect(Box::new(connect_packet("far", ProtocolVersion::V5)));
    stream.write_all(&frame(0x82, &bytes_of(&connect, ProtocolVersion::V5))).unwrap();
    eventually("it is there", async || {
        let connections = server.handle.snapshot().await.connections;
        connections.iter().any(|it| &*it.client_id == "far" && it.peer.ip().to_string() == "192.0.2.7")
    })
    .await;
    server.handle.stop(LONG).await;
}

/// [MQTT-6.0.0-2]: packets may be split over frames, and frames may hold many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_are_read_wherever_frames_cut_them() {
    let server = serve(websocket).await;
    let version = ProtocolVersion::V5;
    let mut bytes = bytes_of(&Packet::Connect(Box::new(connect_packet("cut", version))), version);
    bytes.extend(bytes_of(&subscribe("echo", QoS::AtMostOnce), version));
    bytes.extend(bytes_of(&publish("echo", vec![b'x'; 300], Delivery::AtMostOnce), version));
    for size in [1, 2, 3, 7, 50, 1000] {
        for secure in [false, true] {
            let stream: Box<dyn Stream> =
                if secure { Box::new(dial_wss(&server, None)) } else { Box::new(dial(server.plain)) };
            let mut web = Web::open(stream);
            let mut all = Vec::new();
            for (place, part) in bytes.chunks(size).enumerate() {
                // Frames of their own, and messages in fragments with a ping between, in turn.
                match place % 3 {
                    0 => all.extend(frame(0x82, part)),
                    1 => all.extend([frame(0x02, part), frame(0x89, b"?"), frame(0x80, b"")].concat()),
                    _ => all.extend([frame(0x02, b""), frame(0x00, part), frame(0x80, b"")].concat()),
                }
            }
            // The handshake's answer is there, so all of it may come at once, or in pieces that cut heads.
            for piece in all.chunks(if size == 7 { 11 } else { all.len() }) {
                web.send(piece);
            }
            let mut peer = Peer::over(web, version);
            assert!(matches!(peer.receive(), Some(Packet::ConnAck(_))), "{size} bytes, TLS {secure}");
            assert!(matches!(peer.receive(), Some(Packet::SubAck(_))));
            assert_eq!(peer.receive_publish().payload.len(), 300);
        }
    }
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_are_answered_and_a_close_is_agreed_on() {
    let server = serve(websocket).await;
    for secure in [false, true] {
        let stream: Box<dyn Stream> =
            if secure { Box::new(dial_wss(&server, None)) } else { Box::new(dial(server.plain)) };
        let mut web = Web::open(stream);
        // Before CONNECT, which arrivals answer, and behind it, which the shard does.
        web.send(&frame(0x89, b"early"));
        assert!(web.read_frame().unwrap());
        let connect = Packet::Connect(Box::new(connect_packet("pinger", ProtocolVersion::V5)));
        web.send(&frame(0x82, &bytes_of(&connect, ProtocolVersion::V5)));
        assert!(web.read_frame().unwrap());
        web.send(&[frame(0x89, b"late"), frame(0x8A, b"nobody asked")].concat());
        assert!(web.read_frame().unwrap());
        assert_eq!(web.control, [(0x8A, b"early".to_vec()), (0x8A, b"late".to_vec())]);
        web.send(&frame(0x88, b"\x03\xE9going"));
        web.read_to_the_end();
        assert_eq!(web.control.last(), Some(&(0x88, b"\x03\xE9".to_vec())), "TLS {secure}");
        eventually("it is gone", async || server.handle.snapshot().await.connections.is_empty()).await;
    }
    server.handle.stop(LONG).await;
}

/// [MQTT-6.0.0-1] and RFC 6455 §7.1.7: before and behind CONNECT.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_and_broken_frames_end_the_connection_with_their_status() {
    let server = serve(websocket).await;
    let connect = Packet::Connect(Box::new(connect_packet("breaker", ProtocolVersion::V5)));
    let connect = frame(0x82, &bytes_of(&connect, ProtocolVersion::V5));
    for (what, bytes, status) in [
        ("text", frame(0x81, b"hello"), 1003_u16),
        ("no mask", vec![0x82, 2, 0xC0, 0], 1002),
        ("reserved bits", frame(0xF2, b""), 1002),
        ("a fragment of nothing", frame(0x80, b""), 1002),
    ] {
        for connected in [false, true] {
            let mut web = Web::open(dial(server.plain));
            if connected {
                web.send(&connect);
                assert!(web.read_frame().unwrap());
            }
            web.send(&bytes);
            web.read_to_the_end();
            assert_eq!(
                web.control,
                [(0x88, status.to_be_bytes().to_vec())],
                "{what}, connected: {connected}"
            );
        }
    }
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_ends_ends_with_a_close_frame() {
    let server = serve(websocket).await;
    let mut web = Web::open(dial(server.plain));
    let mut evil = connect_packet("evil", ProtocolVersion::V5);
    evil.username = Some("evil".into());
    web.send(&frame(0x82, &bytes_of(&Packet::Connect(Box::new(evil)), ProtocolVersion::V5)));
    let mut answer = Vec::new();
    web.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, [0x20, 3, 0, 0x87, 0]);
    assert_eq!(web.control, [(0x88, vec![0x03, 0xE8])]);
    let mut web = Web::open(dial(server.plain));
    let connect = Packet::Connect(Box::new(connect_packet("guest", ProtocolVersion::V5)));
    web.send(&frame(0x82, &bytes_of(&connect, ProtocolVersion::V5)));
    assert!(web.read_frame().unwrap());
    assert_eq!(server.handle.disconnect("guest", ReasonCode::ADMINISTRATIVE_ACTION).await, 1);
    let mut rest = Vec::new();
    web.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(&[0xE0, 1, 0x98]) || rest.ends_with(&[0xE0, 2, 0x98, 0]), "{rest:?}");
    assert_eq!(web.control, [(0x88, vec![0x03, 0xE8])]);
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_for_mqtt_is_answered_in_http() {
    let server = serve(|settings| {
        websocket(settings);
        settings.listeners[0].websocket =
            Some(WebSocketSettings { origins: vec!["https://home.example".into()], max_request: 1024 });
    })
    .await;
    let mut events = server.handle.events();
    let from_home = "Origin: https://home.example\r\n";
    for (what, text, status) in [
        ("a browser", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "426"),
        ("another origin", request("Origin: https://away.example\r\n"), "403"),
        ("no origin", request(""), "403"),
        ("too long", request(&format!("X: {}\r\n", "y".repeat(1024))), "431"),
        ("MQTT at once", "\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0".to_owned(), "400"),
        ("no subprotocol", request(from_home).replace(": mqtt", ": chat"), "400"),
    ] {
        let mut socket = dial(server.plain);
        socket.write_all(text.as_bytes()).unwrap();
        let head = read_head(&mut socket);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {head}");
        let mut body = String::new();
        socket.read_to_string(&mut body).unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{what}: {head}{body}");
        let event = tokio::time::timeout(LONG, events.recv()).await.unwrap().unwrap();
        assert!(matches!(event, ServerEvent::HandshakeFailed { .. }), "{what}: {event:?}");
    }
    let mut socket = dial(server.plain);
    socket.write_all(request(from_home).as_bytes()).unwrap();
    assert!(read_head(&mut socket).starts_with("HTTP/1.1 101 "));
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_drips_is_cut_when_patience_is_over() {
    let server = serve(|settings| {
        websocket(settings);
        settings.limits.connect_patience = Duration::from_millis(600);
    })
    .await;
    let mut socket = dial(server.plain);
    let begun = std::time::Instant::now();
    let cut = b"GET /".iter().chain(std::iter::repeat(&b'a')).any(|byte| {
        std::thread::sleep(Duration::from_millis(90));
        socket.write_all(&[*byte]).is_err() || begun.elapsed() > LONG
    });
    assert!(cut && begun.elapsed() < LONG, "after {:?}", begun.elapsed());
    server.handle.stop(LONG).await;
}

/// A peer that pings and never reads: neither memory nor others suffer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_pings_that_nobody_reads_the_answers_of_does_not_pile_up() {
    let server = serve(|settings| {
        websocket(settings);
        settings.limits.max_waiting = 1024 * 1024;
    })
    .await;
    let mut web = Web::open(dial(server.plain));
    let connect = Packet::Connect(Box::new(connect_packet("flood", ProtocolVersion::V5)));
    web.send(&frame(0x82, &bytes_of(&connect, ProtocolVersion::V5)));
    assert!(web.read_frame().unwrap());
    let pings = frame(0x89, &[b'p'; 125]).repeat(500);
    for _ in 0..200 {
        web.send(&pings);
    }
    // Not closed for having 1 MiB waiting: what is not read is not answered.
    let mut other = Peer::connect(Web::open(dial(server.plain)), "other", ProtocolVersion::V5);
    other.ping();
    assert_eq!(server.handle.snapshot().await.connections.len(), 2);
    server.handle.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_over_websocket_gets_everything_in_order() {
    let server = serve(websocket).await;
    let mut reader = Peer::connect(Web::open(dial_wss(&server, None)), "reader", ProtocolVersion::V311);
    reader.subscribe("t", QoS::AtLeastOnce);
    let mut writer = Peer::connect(Web::open(dial(server.plain)), "writer", ProtocolVersion::V311);
    for number in 0..200_u32 {
        let id = quoll_mqtt::PacketId::new(1 + number as u16).unwrap();
        let mut payload = vec![b'.'; 40_000];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        writer.send(&publish("t", payload, Delivery::AtLeastOnce(id)));
        assert!(matches!(writer.receive(), Some(Packet::PubAck(_))));
    }
    for number in 0..200_u32 {
        let publish = reader.receive_publish();
        assert_eq!(publish.payload[..4], number.to_be_bytes());
        let Delivery::AtLeastOnce(id) = publish.delivery else { panic!("{:?}", publish.delivery) };
        reader.send(&Packet::PubAck(quoll_mqtt::packet::Ack::new(id, ReasonCode::SUCCESS)));
    }
    server.handle.stop(LONG).await;
}
