//! What stands between a socket and MQTT, broken in every way: WebSocket frames, TLS records, PROXY headers, and what was meant for
//! another port.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use quoll_mqtt::ProtocolVersion;
use quoll_mqtt::packet::Packet;

use crate::common::web::{Web, frame, request};
use crate::common::*;
use crate::siege::{Siege, all_at_once, connect_bytes, read_to_end, shove, tls_to};

/// The status of the Close frame at the end of what came.
fn close_status(bytes: &[u8]) -> Option<u16> {
    let at = bytes.windows(2).rposition(|it| it == [0x88, 2])?;
    Some(u16::from_be_bytes([*bytes.get(at + 2)?, *bytes.get(at + 3)?]))
}

pub(crate) fn frames_that_break_the_protocol_end_their_own_connection_with_its_status() {
    let siege = Siege::begin("");
    let unmasked = vec![0x82, 2, 0xC0, 0];
    let mut too_long = frame(0x89, &[0; 125]);
    too_long[1] = 0x80 | 126;
    let mut giant = vec![0x82, 0xff];
    giant.extend(u64::MAX.to_be_bytes());
    giant.extend([0; 4]);
    let rows: Vec<(&str, (Vec<u8>, u16))> = vec![
        ("no mask", (unmasked, 1002)),
        ("the bit that says compressed", (frame(0xC2, b"\xC0\0"), 1002)),
        ("the other reserved bits", (frame(0xB2, b"\xC0\0"), 1002)),
        ("text", (frame(0x81, b"\xC0\0"), 1003)),
        ("an unknown kind", (frame(0x83, b""), 1002)),
        ("an unknown control frame", (frame(0x8B, b""), 1002)),
        ("a fragment of nothing", (frame(0x80, b"x"), 1002)),
        ("a message within another", ([frame(0x02, b"\xC0"), frame(0x82, b"\0")].concat(), 1002)),
        ("a ping in fragments", (frame(0x09, b"x"), 1002)),
        ("a ping of 126 bytes", (too_long, 1002)),
        ("a length of 2^64 - 1", (giant, 1002)),
        ("a status that may not be", (frame(0x88, &1005_u16.to_be_bytes()), 1002)),
        ("half a status", (frame(0x88, b"\x03"), 1002)),
        ("a reason that is no text", (frame(0x88, b"\x03\xe8\xff"), 1007)),
        ("an end", (frame(0x88, &1001_u16.to_be_bytes()), 1001)),
    ];
    all_at_once(&rows, |what, (bytes, status)| {
        for connects in [false, true] {
            let mut socket = siege.dial("web");
            let mut first = request("").into_bytes();
            if connects {
                first.extend(frame(0x82, &connect_bytes(&format!("frames: {what}"))));
            }
            first.extend(bytes);
            shove(&mut socket, &first);
            let answer = read_to_end(&mut socket);
            assert_eq!(close_status(&answer), Some(*status), "{what}, connected: {connects}");
        }
    });
    siege.end("frames");
}

/// Each is allowed, and each could be said for ever.
pub(crate) fn empty_frames_fragments_without_end_and_pings_that_nobody_reads_cost_little() {
    let siege = Siege::begin("");
    let empty = frame(0x82, b"").repeat(10_000);
    let fragments = frame(0x00, b"").repeat(10_000);
    let pings = frame(0x89, &[b'x'; 125]).repeat(2_000);
    // What begins, what is said again and again, and whether the broker reads all of it.
    type Endless = (Vec<u8>, Vec<u8>, bool);
    let rows: Vec<(&str, Endless)> = vec![
        ("empty frames", (vec![], empty, true)),
        ("fragments", (frame(0x02, b""), fragments, true)),
        ("pings", (vec![], pings, false)),
    ];
    all_at_once(&rows, |what, (first, again, is_read)| {
        let mut peer = Peer::connect(Web::open(siege.dial("web")), what, ProtocolVersion::V5);
        peer.send(&Packet::PingReq);
        assert!(matches!(peer.receive(), Some(Packet::PingResp)));
        let mut raw = siege.dial("web");
        let mut start = request("").into_bytes();
        start.extend(frame(0x82, &connect_bytes(&format!("raw {what}"))));
        start.extend(first);
        raw.write_all(&start).unwrap();
        raw.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        for _ in 0..40 {
            // Where nothing is read the other side may stop reading too.
            if raw.write_all(again).is_err() {
                assert!(!is_read, "{what}: the broker does not read");
                break;
            }
        }
        if *is_read {
            // MQTT goes on, in a fragment of the message that never ends where there is one.
            let opcode = if first.is_empty() { 0x82 } else { 0x00 };
            raw.write_all(&frame(opcode, b"\xC0\0")).unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(&[0x82, 2, 0xD0, 0]) {
                let mut byte = [0];
                raw.read_exact(&mut byte).unwrap();
                seen.push(byte[0]);
            }
        }
        peer.ping();
    });
    siege.end("frames without end");
}

pub(crate) fn what_was_meant_for_another_port_is_closed_at_once() {
    // With this patience a connection that is closed was not closed for its silence.
    let siege = Siege::begin("patience=60");
    let http = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    let hello = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03".to_vec();
    let mut old_hello = vec![0x80, 0x2e, 1, 0, 2];
    old_hello.extend([0; 40]);
    let mut oversize = vec![0x16, 3, 3, 0x48, 1];
    oversize.extend(vec![0; 0x4801]);
    let alert = vec![0x15, 3, 3, 0, 2, 2, 40];
    let noise: Vec<u8> = (0..3000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let proxied = |tail: &[u8]| [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), tail].concat();
    let rows: Vec<(&str, (&str, Vec<u8>))> = vec![
        ("HTTP at the MQTT port", ("plain", http.clone())),
        ("TLS at the MQTT port", ("plain", hello.clone())),
        ("noise at the MQTT port", ("plain", noise.clone())),
        ("MQTT at the TLS port", ("tls", connect_bytes("lost"))),
        ("HTTP at the TLS port", ("tls", http.clone())),
        ("noise at the TLS port", ("tls", noise.clone())),
        ("a hello of SSL 2", ("tls", old_hello)),
        ("a record of 18 kB", ("tls", oversize)),
        ("a record of no known kind", ("tls", vec![0x40, 3, 3, 0, 1, 0])),
        ("an alert first", ("mutual", alert)),
        ("application data first", ("tls", vec![0x17, 3, 3, 0, 1, 0])),
        ("MQTT at the WebSocket port", ("web", connect_bytes("lost"))),
        ("TLS at the WebSocket port", ("web", hello)),
        ("a page asked of the WebSocket port", ("web", http.clone())),
        ("a request without end", ("web", [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'y'; 5000]].concat())),
        ("MQTT without PROXY", ("proxy", connect_bytes("lost"))),
        ("PROXY 1 where 2 has to be", ("proxy", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec())),
        ("PROXY 2 where 1 has to be", ("proxy1", proxied(b"\x21\x11\0\x0c"))),
        ("PROXY 1 that does not end", ("proxy1", [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat())),
        ("PROXY 2 of 65,535 bytes", ("proxy", proxied(b"\x21\x11\xff\xff"))),
        ("PROXY 2 shorter than its addresses", ("proxy", proxied(b"\x21\x11\0\x04\x01\x02\x03\x04"))),
        ("PROXY 2 of version 3", ("proxy", proxied(b"\x31\x11\0\x0c"))),
        (
            "PROXY 2 with a value longer than itself",
            ("proxy", proxied(b"\x21\x11\0\x0f\x7f\0\0\x01\x7f\0\0\x01\0\x50\x07\x5b\x20\xff\xff")),
        ),
    ];
    all_at_once(&rows, |_, (place, bytes)| {
        let mut socket = siege.dial(place);
        shove(&mut socket, bytes);
        // The end within `LONG`, or this panics.
        let answer = read_to_end(&mut socket);
        assert!(!answer.starts_with(&[0x20]), "nobody is let in");
    });
    siege.end("wrong ports");
}

/// As OpenSSL asks for it: the connection ends or goes on, as TLS allows; the broker goes on.
pub(crate) fn a_renegotiation_is_not_done() {
    let siege = Siege::begin("");
    let address = siege.address("tls").to_string();
    for _ in 0..3 {
        let mut child = Command::new("openssl")
            .args(["s_client", "-connect", &address, "-tls1_2", "-quiet", "-no_ign_eof"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is needed for this test and cannot be run");
        let mut input = child.stdin.take().unwrap();
        let _ = input.write_all(b"R\n");
        drop(input);
        child.wait().unwrap();
    }
    siege.knock("tls");
    siege.end("renegotiation");
}

/// Encrypted noise: the record's seal is broken.
pub(crate) fn a_record_that_is_not_of_the_peer_ends_its_connection() {
    let siege = Siege::begin("");
    let broken_seal = [&[0x17, 3, 3, 0, 40][..], &[7; 40]].concat();
    let records =
        [broken_seal, vec![0xA7; 500], vec![0x15, 3, 3, 0, 2, 2, 40], vec![0x16, 3, 3, 0xFF, 0xFF, 1]];
    let whole = connect_bytes("broken seal");
    for (said, record) in [0, 1, whole.len()].into_iter().flat_map(|it| records.iter().map(move |r| (it, r)))
    {
        let mut stream = tls_to(siege.address("tls"));
        stream.write_all(&whole[..said]).unwrap();
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        if said == whole.len() {
            stream.read_exact(&mut [0; 4]).unwrap();
        }
        // The handshake's end has no answer; together with it, what follows would be the handshake's fault.
        std::thread::sleep(Duration::from_millis(50));
        let mut socket = stream.sock.try_clone().unwrap();
        shove(&mut socket, record);
        // An alert may come first, sealed.
        read_to_end(&mut socket);
    }
    siege.end("broken seals");
}
