//! Enhanced authentication by wire (5.0 §4.12): SCRAM-SHA-256 over accounts of `quoll passwd --scram`, with `quoll broker`.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use quoll_mqtt::decode::Role;
use quoll_mqtt::packet::{Auth, AuthProperties, Connect, ConnectProperties, Packet};
use quoll_mqtt::{DecodeContext, Decoded, ProtocolVersion, ReasonCode, decode, encode};
use quoll_server::mosquitto::scram::client_final;
use support::folder::Folder;
use support::{PATIENCE, complaint};

const METHOD: &str = "SCRAM-SHA-256";

struct Peer {
    socket: TcpStream,
    input: Vec<u8>,
    /// The Maximum Packet Size that it says.
    largest: Option<u32>,
}

impl Peer {
    fn new(folder: &Folder) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", folder.port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, input: Vec::new(), largest: None }
    }

    fn send(&mut self, packet: &Packet) {
        let mut bytes = Vec::new();
        encode(packet, ProtocolVersion::V5, &mut bytes).unwrap();
        self.socket.write_all(&bytes).unwrap();
    }

    fn connect(&mut self, client_id: &str, method: Option<&str>, data: &str, username: Option<&str>) {
        self.send(&Packet::Connect(Box::new(Connect {
            version: ProtocolVersion::V5,
            bridge: false,
            client_id: client_id.into(),
            clean_start: true,
            keep_alive: 0,
            will: None,
            username: username.map(str::to_owned),
            password: None,
            properties: ConnectProperties {
                authentication_method: method.map(str::to_owned),
                authentication_data: (!data.is_empty()).then(|| data.to_owned().into()),
                maximum_packet_size: self.largest,
                ..ConnectProperties::default()
            },
        })));
    }

    fn auth(&mut self, reason: ReasonCode, method: &str, data: &str) {
        let properties = AuthProperties {
            authentication_method: Some(method.into()),
            authentication_data: (!data.is_empty()).then(|| data.to_owned().into()),
            ..AuthProperties::default()
        };
        self.send(&Packet::Auth(Box::new(Auth { reason, properties })));
    }

    /// The next packet; `None` at the end.
    fn receive(&mut self) -> Option<Packet> {
        let context = DecodeContext {
            version: Some(ProtocolVersion::V5),
            maximum_packet_size: u32::MAX,
            role: Role::Client,
        };
        loop {
            if let Decoded::Packet(packet, used) = decode(&self.input, &context).unwrap() {
                self.input.drain(..used);
                return Some(packet);
            }
            let mut bytes = [0; 4096];
            match self.socket.read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => self.input.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing comes: {error}"),
            }
        }
    }

    /// The data of the server's AUTH with this reason.
    fn asked(&mut self, reason: ReasonCode) -> String {
        let packet = self.receive();
        let Some(Packet::Auth(auth)) = packet else { panic!("AUTH is due, not {packet:?}") };
        assert_eq!(auth.reason, reason);
        assert_eq!(auth.properties.authentication_method.as_deref(), Some(METHOD));
        // Nothing that could make it larger than it has to be [MQTT-3.15.2-2] [MQTT-3.15.2-3].
        assert_eq!((auth.properties.reason_string, auth.properties.user_properties), (None, Vec::new()));
        String::from_utf8(auth.properties.authentication_data.unwrap_or_default().to_vec()).unwrap()
    }

    /// The reason that CONNACK or DISCONNECT gives, and CONNACK's data.
    fn told(&mut self) -> (ReasonCode, String) {
        match self.receive() {
            Some(Packet::ConnAck(ack)) => {
                let data = ack.properties.authentication_data.unwrap_or_default();
                let method = ack.properties.authentication_method;
                assert_eq!(method.is_some(), ack.reason == ReasonCode::SUCCESS && !data.is_empty());
                (ack.reason, String::from_utf8(data.to_vec()).unwrap())
            }
            Some(Packet::Disconnect(disconnect)) => (disconnect.reason, "DISCONNECT".into()),
            other => panic!("CONNACK or DISCONNECT is due, not {other:?}"),
        }
    }
}

fn first(name: &str) -> String {
    format!("n,,n={name},r=fyko+d2lbbFgONRv9qkxdawL")
}

/// The whole dialogue: the verdict, and whether the server proved itself.
fn come(folder: &Folder, name: &str, password: &str, username: Option<&str>) -> (Peer, ReasonCode, bool) {
    let mut peer = Peer::new(folder);
    peer.connect("id", Some(METHOD), &first(name), username);
    let question = peer.asked(ReasonCode::CONTINUE_AUTHENTICATION);
    let (last, expected) = client_final(password.as_bytes(), &first(name), &question).unwrap();
    peer.auth(ReasonCode::CONTINUE_AUTHENTICATION, METHOD, &last);
    let (reason, data) = peer.told();
    (peer, reason, data == expected)
}

fn record(folder: &Folder, user: &str, password: &str, more: &[&str]) {
    folder.write("typed", format!("{password}\n"));
    let create: &[&str] = if folder.path("passwords").exists() { &[] } else { &["-c"] };
    let words = [&["passwd", "--password-file", "typed"], more, create, &["passwords", user]].concat();
    let output = folder.run(&words);
    assert!(output.status.success(), "{}", complaint(&output));
}

#[test]
fn a_password_is_proven_without_being_sent_and_proven_again() {
    let folder = Folder::with("allow_anonymous false\npassword_file passwords\nacl_file access\n");
    folder.write("access", "user ann\ntopic readwrite t/#\n");
    record(&folder, "ann", "secret: of ann", &["--scram"]);
    record(&folder, "bob", "only hashed", &[]);
    let up = folder.start();
    let no = ReasonCode::NOT_AUTHORIZED;
    for (name, password, username, expected) in [
        ("ann", "secret: of ann", None, ReasonCode::SUCCESS),
        ("ann", "secret: of ann", Some("ann"), ReasonCode::SUCCESS),
        ("ann", "secret: of ann", Some("bob"), no),
        ("ann", "wrong", None, no),
        ("bob", "only hashed", None, no),
        ("nobody", "x", None, no),
    ] {
        let (_, reason, is_proven) = come(&folder, name, password, username);
        assert_eq!((reason, is_proven), (expected, expected == ReasonCode::SUCCESS), "{name} {password}");
    }
    // As Mosquitto does without a plugin for it.
    for method in ["SCRAM-SHA-1", "", "scram-sha-256"] {
        let mut peer = Peer::new(&folder);
        peer.connect("id", Some(method), &first("ann"), None);
        assert_eq!(peer.told().0, ReasonCode::BAD_AUTHENTICATION_METHOD, "{method}");
    }
    // The password itself goes on to be taken, and the access list is asked in any case.
    assert!(folder.publishes(&["-u", "ann", "-P", "secret: of ann", "-t", "t/x", "-m", "x"]));

    let (mut ann, ..) = come(&folder, "ann", "secret: of ann", None);
    for password in ["secret: of ann", "wrong"] {
        ann.auth(ReasonCode::REAUTHENTICATE, METHOD, &first("ann"));
        let question = ann.asked(ReasonCode::CONTINUE_AUTHENTICATION);
        // The session goes on meanwhile (§4.12.1).
        ann.send(&Packet::PingReq);
        assert_eq!(ann.receive(), Some(Packet::PingResp));
        let (last, expected) = client_final(password.as_bytes(), &first("ann"), &question).unwrap();
        ann.auth(ReasonCode::CONTINUE_AUTHENTICATION, METHOD, &last);
        if password == "wrong" {
            assert_eq!(ann.told(), (no, "DISCONNECT".into()));
            assert_eq!(ann.receive(), None);
        } else {
            assert_eq!(ann.asked(ReasonCode::SUCCESS), expected);
        }
    }
    assert_eq!(up.stop(), 0);
}

#[test]
fn what_breaks_the_dialogue_ends_the_connection() {
    let folder = Folder::with("allow_anonymous true\npassword_file passwords\n");
    record(&folder, "ann", "secret", &["--scram"]);
    let up = folder.start();
    let broken = ReasonCode::PROTOCOL_ERROR;
    type Act = fn(&mut Peer);
    // Before CONNACK.
    let table: &[(&str, Act, Option<ReasonCode>)] = &[
        ("another method", |peer| peer.auth(ReasonCode::CONTINUE_AUTHENTICATION, "PLAIN", "x"), Some(broken)),
        ("again, before the first", |peer| peer.auth(ReasonCode::REAUTHENTICATE, METHOD, "x"), Some(broken)),
        (
            "no proof",
            |peer| peer.auth(ReasonCode::CONTINUE_AUTHENTICATION, METHOD, "x"),
            Some(ReasonCode::NOT_AUTHORIZED),
        ),
        (
            "no data",
            |peer| peer.auth(ReasonCode::CONTINUE_AUTHENTICATION, METHOD, ""),
            Some(ReasonCode::NOT_AUTHORIZED),
        ),
    ];
    for (what, act, expected) in table {
        let mut peer = Peer::new(&folder);
        peer.connect("id", Some(METHOD), &first("ann"), None);
        peer.asked(ReasonCode::CONTINUE_AUTHENTICATION);
        act(&mut peer);
        assert_eq!(Some(peer.told().0), *expected, "{what}");
        assert_eq!(peer.receive(), None, "{what}");
    }
    // No first message: it is asked for, but not for ever.
    let mut peer = Peer::new(&folder);
    peer.connect("id", Some(METHOD), "", None);
    for _ in 0..8 {
        assert_eq!(peer.asked(ReasonCode::CONTINUE_AUTHENTICATION), "");
        peer.auth(ReasonCode::CONTINUE_AUTHENTICATION, METHOD, "");
    }
    assert_eq!(peer.told().0, ReasonCode::NOT_AUTHORIZED);
    // A challenge that the client says it cannot take [MQTT-3.1.2-24].
    let mut peer = Peer { largest: Some(40), ..Peer::new(&folder) };
    peer.connect("small", Some(METHOD), &first("ann"), None);
    assert_eq!(peer.told().0, ReasonCode::PACKET_TOO_LARGE);
    // AUTH in place of CONNECT, and of who agreed on no method.
    let mut peer = Peer::new(&folder);
    peer.auth(ReasonCode::CONTINUE_AUTHENTICATION, METHOD, "x");
    assert!(!matches!(peer.receive(), Some(Packet::Auth(_))));
    let mut peer = Peer::new(&folder);
    peer.connect("plain", None, "", None);
    assert_eq!(peer.told().0, ReasonCode::SUCCESS);
    peer.auth(ReasonCode::REAUTHENTICATE, METHOD, &first("ann"));
    assert_eq!(peer.told().0, broken);
    // On a live connection.
    let table: &[(&str, Act)] = &[
        ("another method [MQTT-4.12.1-1]", |peer| peer.auth(ReasonCode::REAUTHENTICATE, "PLAIN", "x")),
        ("an answer without question", |peer| peer.auth(ReasonCode::CONTINUE_AUTHENTICATION, METHOD, "x")),
    ];
    for (what, act) in table {
        let (mut peer, reason, _) = come(&folder, "ann", "secret", None);
        assert_eq!(reason, ReasonCode::SUCCESS);
        act(&mut peer);
        assert_eq!(peer.told().0, broken, "{what}");
    }
    assert_eq!(up.stop(), 0);
}

#[test]
fn a_record_follows_its_password_whoever_changes_it() {
    let folder = Folder::with("allow_anonymous false\npassword_file passwords\n");
    record(&folder, "ann", "one", &["--scram"]);
    let comes = |password: &str| {
        let up = folder.start();
        let mut peer = Peer::new(&folder);
        peer.connect("id", Some(METHOD), &first("ann"), None);
        let reason = match peer.receive() {
            Some(Packet::ConnAck(ack)) => ack.reason,
            Some(Packet::Auth(auth)) => {
                let question = auth.properties.authentication_data.unwrap().to_vec();
                let question = String::from_utf8(question).unwrap();
                let (last, _) = client_final(password.as_bytes(), &first("ann"), &question).unwrap();
                peer.auth(ReasonCode::CONTINUE_AUTHENTICATION, METHOD, &last);
                peer.told().0
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(up.stop(), 0);
        reason
    };
    // The record there is kept up to date without being asked for.
    record(&folder, "ann", "two", &[]);
    assert_eq!(comes("two"), ReasonCode::SUCCESS);
    // Of mosquitto_passwd the record knows nothing: the old password is none any more.
    let done = std::process::Command::new("mosquitto_passwd")
        .args(["-b", "passwords", "ann", "three"])
        .current_dir(folder.dir.path())
        .status();
    assert!(done.expect("mosquitto_passwd is needed: scripts/setup installs it").success());
    assert_eq!(comes("two"), ReasonCode::NOT_AUTHORIZED);
    let output = folder.run(&["passwd", "-D", "passwords", "ann"]);
    assert!(output.status.success(), "{}", complaint(&output));
    assert_eq!(std::fs::read_to_string(folder.path("passwords.scram")).unwrap(), "");
    assert_eq!(comes("three"), ReasonCode::BAD_AUTHENTICATION_METHOD);
}
