//! Those who never get so far as CONNECT: byte by byte, or not a byte; thousands at a time.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use quoll_mqtt::ProtocolVersion;
use quoll_mqtt::packet::{ConnectProperties, Packet};

use crate::common::web::request;
use crate::common::*;
use crate::siege::{Siege, all_at_once, connect_bytes, is_closed, reset, shove, tls_to};

/// `limits::CONNECT_PATIENCE`, from accept to a complete CONNECT.
const PATIENCE: Duration = Duration::from_secs(10);

/// A ClientHello of TLS 1.3, as rustls says it.
fn hello() -> Vec<u8> {
    let config = std::sync::Arc::new(pki().client_config(None, &rustls::version::TLS13));
    let mut connection = rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

const PROXY_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\0\x50\x07\x5b";

/// What is said at once, and what then comes byte by byte, again and again.
type Drip = (&'static str, Vec<u8>, Vec<u8>);

pub(crate) fn whoever_does_not_say_connect_within_ten_seconds_is_cut_though_he_says_something_all_the_time() {
    let siege = Siege::begin("");
    let connect = connect_bytes(&"a rather long identifier".repeat(20));
    let (head, rest) = connect.split_at(1);
    let mut ask = connect_packet("asks", ProtocolVersion::V5);
    ask.properties =
        ConnectProperties { authentication_method: Some("endless".into()), ..ConnectProperties::default() };
    let ask = bytes_of(&Packet::Connect(Box::new(ask)), ProtocolVersion::V5);
    let endless = request(&format!("X-Long: {}\r\n", "y".repeat(2000))).into_bytes();
    let pings = web::frame(0x89, b"x");
    let rows: Vec<(&str, Drip)> = vec![
        ("not a byte", ("plain", vec![], vec![])),
        ("CONNECT", ("plain", head.to_vec(), rest.to_vec())),
        ("not a byte at the TLS port", ("tls", vec![], vec![])),
        ("ClientHello", ("tls", vec![], hello())),
        ("nothing after ClientHello", ("tls", hello(), vec![])),
        ("a record that does not end", ("mutual", hello(), vec![0x17, 3, 3, 0x40, 0])),
        ("not a byte in place of a request", ("web", vec![], vec![])),
        ("a request", ("web", vec![], endless)),
        ("nothing after the request", ("web", request("").into_bytes(), vec![])),
        ("CONNECT in a frame", ("web", request("").into_bytes(), web::frame(0x82, &connect))),
        ("pings and no CONNECT", ("web", request("").into_bytes(), pings.repeat(50))),
        ("PROXY", ("proxy", vec![], PROXY_2.to_vec())),
        ("PROXY of version 1", ("proxy1", b"PROXY TCP4 ".to_vec(), b"000000000000".to_vec())),
        ("nothing after PROXY", ("proxy", PROXY_2.to_vec(), vec![])),
        ("an answer to AUTH that does not come", ("plain", ask, vec![])),
    ];
    all_at_once(&rows, |what, (place, first, then)| {
        let begun = Instant::now();
        let mut socket = siege.dial(place);
        shove(&mut socket, first);
        // No faster than that the bytes last beyond the patience.
        let mut drops = then.iter();
        while !is_closed(&socket) {
            assert!(begun.elapsed() < LONG, "{what}: still there");
            if let Some(byte) = drops.next() {
                shove(&mut socket, &[*byte]);
            }
            let pause = PATIENCE / (then.len().max(20) as u32);
            std::thread::sleep(pause + pause / 4);
        }
        let took = begun.elapsed();
        assert!(took > PATIENCE - Duration::from_millis(100), "{what}: cut after {took:?}");
        assert!(took < 2 * PATIENCE, "{what}: cut only after {took:?}");
    });
    siege.end("drips");
}

/// As many silent ones as there are places, and as many again: with a patience of a minute they would hold everybody up.
pub(crate) fn thousands_of_silent_connections_keep_nobody_from_coming_in() {
    let siege = Siege::begin("patience=60 arrivals=1000");
    let mut silent: Vec<TcpStream> = Vec::new();
    for number in 0..2000 {
        let (place, first): (_, &[u8]) = match number % 4 {
            0 => ("plain", b""),
            1 => ("plain", b"\x10\x20\0\x04MQ"),
            2 => ("tls", b"\x16\x03\x01"),
            _ => ("web", b"GET /mqtt HTTP/1.1\r\n"),
        };
        let mut socket = siege.dial(place);
        shove(&mut socket, first);
        silent.push(socket);
    }
    for place in ["plain", "tls", "web", "wss"] {
        siege.knock(place);
    }
    siege.is_well("silent ones");
    drop(silent);
    siege.end("silent ones");
}

/// More than there are places: in the middle of a request, and between two.
pub(crate) fn visitors_who_never_finish_their_request_keep_nobody_from_the_figures() {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let siege = Siege::begin("patience=60");
    let slow: Vec<TcpStream> = (0..100)
        .map(|number| {
            let mut socket = siege.dial("site");
            shove(&mut socket, if number % 2 == 0 { &REQUEST[..20] } else { REQUEST });
            socket
        })
        .collect();
    let mut honest = siege.dial("site");
    honest.set_read_timeout(Some(LONG)).unwrap();
    shove(&mut honest, REQUEST);
    let mut answer = [0; 15];
    honest.read_exact(&mut answer).expect("an answer, long before the others' minute is over");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    drop((slow, honest));
    siege.end("slow visitors");
}

/// The places are not taken away from those who are in the middle of their handshake.
pub(crate) fn who_has_said_hello_is_waited_for_though_others_wait_too() {
    let siege = Siege::begin("patience=20 arrivals=40");
    let mut slow = siege.dial("tls");
    let config = std::sync::Arc::new(pki().client_config(None, &rustls::version::TLS12));
    let mut connection = rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    connection.write_tls(&mut slow).unwrap();
    let silent: Vec<TcpStream> = (0..120).map(|_| siege.dial("plain")).collect();
    // By now all who came after it and said nothing were asked to go.
    siege.until("silent ones go", || silent.iter().filter(|socket| is_closed(socket)).count() > 60);
    let mut stream = rustls::StreamOwned::new(connection, slow);
    stream.write_all(&connect_bytes("slow device")).unwrap();
    stream.flush().unwrap();
    let mut peer = Peer::over(stream, ProtocolVersion::V311);
    assert!(matches!(peer.receive(), Some(Packet::ConnAck(_))), "the slow device is let in");
    drop((peer, silent));
    siege.end("a slow handshake");
}

/// A connection may break at any byte of the way in.
pub(crate) fn a_reset_at_any_place_costs_nothing() {
    let siege = Siege::begin("");
    let mut whole_web = request("").into_bytes();
    whole_web.extend(web::frame(0x82, &connect_bytes("web")));
    let mut whole_proxy = PROXY_2.to_vec();
    whole_proxy.extend(connect_bytes("proxied"));
    let rows: Vec<(&str, (&str, Vec<u8>))> = vec![
        ("plain", ("plain", connect_bytes("plain"))),
        ("tls", ("tls", hello())),
        ("mutual", ("mutual", hello())),
        ("web", ("web", whole_web)),
        ("proxy", ("proxy", whole_proxy)),
    ];
    all_at_once(&rows, |_, (place, bytes)| {
        for cut in (0..=bytes.len()).step_by((bytes.len() / 40).max(1)) {
            let mut socket = siege.dial(place);
            shove(&mut socket, &bytes[..cut]);
            reset(socket);
        }
        // In the middle of what comes after it, TLS included.
        for _ in 0..20 {
            let mut stream = tls_to(siege.address("tls"));
            let _ = stream.write_all(&connect_bytes("torn")[..9]);
            let _ = stream.flush();
            let (_, socket) = (stream.conn, stream.sock);
            reset(socket);
        }
    });
    siege.end("resets");
}
