//! The WebSocket handshake, the server's side (RFC 6455 §4.2): an HTTP request in, its answer out. No socket in here.
//!
//! MQTT asks for the subprotocol `mqtt` [MQTT-6.0.0-3]; `mqttv3.1` is what clients of 3.1 say. Any path is taken, as in
//! Mosquitto. What is no upgrade is answered in words that a person with a browser understands.

use std::net::IpAddr;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::limits::HTTP_HEADERS;

/// Concatenated with the key before it is hashed (§1.3).
const SALT: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What we speak, the better first.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// How a listener does WebSocket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WebSocketSettings {
    /// Values of `Origin` that are let in, without regard to case; all if empty (`websockets_origin`). Programs that are
    /// no browsers send none: they are let in where the list is empty only.
    pub origins: Vec<String>,
    /// Most bytes of the request (`packet_buffer_size`, `websockets_headers_size`).
    pub max_request: usize,
}

impl Default for WebSocketSettings {
    fn default() -> Self {
        Self { origins: Vec::new(), max_request: 4096 }
    }
}

/// What becomes of a request.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Upgrade {
    /// It is not there whole.
    Incomplete,
    /// It is granted: the answer to send, how many bytes it was, and for whom a proxy says that it asks.
    Granted { answer: Vec<u8>, used: usize, forwarded: Option<IpAddr> },
    /// It is not: the answer to send before closing, and why, for the log.
    Refused { answer: Vec<u8>, why: String },
}

/// Reads the request at the front of `input`.
pub(crate) fn read(input: &[u8], settings: &WebSocketSettings) -> Upgrade {
    let mut headers = [httparse::EMPTY_HEADER; HTTP_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let used = match request.parse(input) {
        Ok(httparse::Status::Complete(used)) if used <= settings.max_request => used,
        Ok(httparse::Status::Partial) if input.len() < settings.max_request => return Upgrade::Incomplete,
        Err(httparse::Error::TooManyHeaders) | Ok(_) => {
            return refused("431 Request Header Fields Too Large", "", "the request is too long");
        }
        Err(_) => return refused("400 Bad Request", "", "this is no HTTP request"),
    };
    let header = |name: &str| single(request.headers, name);
    let lists =
        |name: &str, wanted: &str| words(request.headers, name).any(|word| word.eq_ignore_ascii_case(wanted));
    if request.method != Some("GET") {
        return refused("405 Method Not Allowed", "Allow: GET\r\n", "only GET leads to a WebSocket");
    }
    if request.version != Some(1) {
        return refused("505 HTTP Version Not Supported", "", "a WebSocket needs HTTP/1.1");
    }
    if !lists("Upgrade", "websocket") || !lists("Connection", "Upgrade") {
        let what = "this port speaks MQTT over WebSocket, so the request has to ask for that: connect with an MQTT client";
        return refused("426 Upgrade Required", "Upgrade: websocket\r\n", what);
    }
    if header("Sec-WebSocket-Version") != Some("13") {
        let version = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
        return refused("426 Upgrade Required", version, "only version 13 of WebSocket is spoken");
    }
    if header("Host").is_none() {
        return refused("400 Bad Request", "", "the request needs exactly one Host");
    }
    let key =
        header("Sec-WebSocket-Key").filter(|key| BASE64.decode(key).is_ok_and(|bytes| bytes.len() == 16));
    let Some(key) = key else {
        return refused("400 Bad Request", "", "Sec-WebSocket-Key has to be 16 bytes in Base64");
    };
    if !settings.origins.is_empty() {
        let origin = header("Origin").unwrap_or_default();
        if !settings.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) {
            return refused("403 Forbidden", "", "pages of this origin may not connect here");
        }
    }
    // Subprotocols are names to be compared exactly (§11.5); some clients write them in capitals all the same.
    let asked = |known: &&str| lists("Sec-WebSocket-Protocol", known);
    let Some(subprotocol) = SUBPROTOCOLS.iter().find(|known| asked(known)) else {
        return refused("400 Bad Request", "", "the subprotocol mqtt has to be asked for [MQTT-6.0.0-3]");
    };
    let salted = [key.as_bytes(), SALT].concat();
    let accept = BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &salted));
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    );
    // Each proxy writes whom it serves behind what it was told; the last is the one that talks to us.
    let forwarded = words(request.headers, "X-Forwarded-For").last().and_then(|text| text.parse().ok());
    Upgrade::Granted { answer: answer.into_bytes(), used, forwarded }
}

/// The header's value, where it stands there exactly once and is text.
fn single<'a>(headers: &[httparse::Header<'a>], name: &str) -> Option<&'a str> {
    let mut found = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    let (first, second) = (found.next()?, found.next());
    second.is_none().then(|| std::str::from_utf8(first.value).ok().map(str::trim)).flatten()
}

/// The words of a list, in however many headers.
pub(crate) fn words<'a>(headers: &'a [httparse::Header<'a>], name: &'a str) -> impl Iterator<Item = &'a str> {
    let all = headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    let lists = all.filter_map(|header| std::str::from_utf8(header.value).ok());
    lists.flat_map(|list| list.split(',').map(str::trim))
}

fn refused(status: &str, headers: &str, what: &str) -> Upgrade {
    let answer = format!(
        "HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\n\r\n{what}\n",
        what.len() + 1
    );
    Upgrade::Refused { answer: answer.into_bytes(), why: format!("{what} ({status})") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 6455 §1.3, with MQTT's subprotocol.
    const GOOD: &str = "GET /mqtt HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
        Sec-WebSocket-Protocol: chat, mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n";

    fn with(change: &[(&str, &str)]) -> String {
        change.iter().fold(GOOD.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        })
    }

    #[test]
    fn a_request_for_mqtt_is_granted_with_the_answer_of_the_rfc() {
        let settings = WebSocketSettings::default();
        for cut in 0..GOOD.len() {
            assert_eq!(read(&GOOD.as_bytes()[..cut], &settings), Upgrade::Incomplete, "cut at {cut}");
        }
        let Upgrade::Granted { answer, used, .. } = read(format!("{GOOD}rest").as_bytes(), &settings) else {
            panic!("not granted")
        };
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(used, GOOD.len());
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        assert!(answer.contains("Sec-WebSocket-Protocol: mqtt\r\n"), "{answer}");
        for (asked, granted) in [("mqttv3.1", "mqttv3.1"), ("mqttv3.1, mqtt", "mqtt"), ("x,\tmqtt", "mqtt")] {
            let Upgrade::Granted { answer, .. } = read(with(&[("chat, mqtt", asked)]).as_bytes(), &settings)
            else {
                panic!("{asked}: not granted")
            };
            let line = format!("\r\nSec-WebSocket-Protocol: {granted}\r\n");
            assert!(String::from_utf8(answer).unwrap().contains(&line), "{asked}");
        }
        let lower = with(&[
            ("Connection: Upgrade", "connection: keep-alive, upgrade"),
            (": websocket", ": WebSocket"),
        ]);
        assert!(matches!(read(lower.as_bytes(), &settings), Upgrade::Granted { .. }));
    }

    #[test]
    fn the_last_proxy_says_for_whom_it_asks() {
        for (header, address) in [
            ("", None),
            ("X-Forwarded-For: 192.0.2.7\r\n", Some("192.0.2.7")),
            ("x-forwarded-for: 203.0.113.1, 2001:db8::7\r\n", Some("2001:db8::7")),
            ("X-Forwarded-For: 203.0.113.1\r\nX-Forwarded-For: 192.0.2.9\r\n", Some("192.0.2.9")),
            ("X-Forwarded-For: 203.0.113.1, unknown\r\n", None),
        ] {
            let host = "Host: server.example.com\r\n";
            let request = with(&[(host, &format!("{host}{header}"))]);
            let Upgrade::Granted { forwarded, .. } = read(request.as_bytes(), &WebSocketSettings::default())
            else {
                panic!("{header}: not granted")
            };
            assert_eq!(forwarded, address.map(|text| text.parse().unwrap()), "{header}");
        }
    }

    #[test]
    fn what_is_refused_is_told_by_its_status() {
        let settings = WebSocketSettings { origins: vec!["https://home.example".into()], max_request: 600 };
        let from_home = ("http://example.com", "https://HOME.example");
        let long = format!("Host: x\r\nX: {}", "y".repeat(600));
        let many = format!("{}Host: x", "A: b\r\n".repeat(70));
        type Changes<'a> = Vec<(&'a str, &'a str)>;
        let table: [(&str, &str, Changes<'_>); 16] = [
            ("a page of this origin", "101", vec![]),
            ("another origin", "403", vec![("https://HOME.example", "https://away.example")]),
            ("no origin", "403", vec![("Origin: https://HOME.example\r\n", "")]),
            ("two origins", "403", vec![("Origin:", "Origin: https://home.example\r\nOrigin:")]),
            ("POST", "405", vec![("GET", "POST")]),
            ("HTTP/1.0", "505", vec![("HTTP/1.1", "HTTP/1.0")]),
            ("a browser", "426", vec![("Upgrade: websocket\r\nConnection: Upgrade\r\n", "")]),
            ("an old version", "426", vec![("Version: 13", "Version: 8")]),
            ("no host", "400", vec![("Host: server.example.com\r\n", "")]),
            ("no key", "400", vec![("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "")]),
            ("a short key", "400", vec![("dGhlIHNhbXBsZSBub25jZQ==", "dGhl")]),
            ("no subprotocol", "400", vec![("Sec-WebSocket-Protocol: chat, mqtt\r\n", "")]),
            ("another subprotocol", "400", vec![("chat, mqtt", "chat")]),
            ("a long request", "431", vec![("Host: server.example.com", &long)]),
            ("many headers", "431", vec![("Host: server.example.com", &many)]),
            ("no HTTP", "400", vec![("GET /mqtt", "\x10\x0c\0\x04")]),
        ];
        for (what, status, mut changes) in table {
            changes.insert(0, from_home);
            let answer = match read(with(&changes).as_bytes(), &settings) {
                Upgrade::Granted { answer, .. } | Upgrade::Refused { answer, .. } => answer,
                Upgrade::Incomplete => panic!("{what}: waits for more"),
            };
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
        }
    }

    #[test]
    fn a_request_that_does_not_end_is_cut() {
        let settings = WebSocketSettings::default();
        let endless = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(5000));
        assert!(matches!(read(endless.as_bytes(), &settings), Upgrade::Refused { .. }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0..GOOD.len()) {
            let bytes = [&GOOD.as_bytes()[..cut], &bytes].concat();
            if let Upgrade::Granted { used, .. } = read(&bytes, &WebSocketSettings::default()) {
                prop_assert!(used <= bytes.len());
            }
        }
    }
}
