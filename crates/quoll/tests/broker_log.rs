//! The log, line against line: one story told to Debian's Mosquitto and to `quoll broker`, with `log_type all`. What differs
//! stands in tables here, with its reason; a row that nothing needs fails the test.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use support::folder::Folder;
use support::{PATIENCE, Up, free_port, tool};

/// A line of Mosquitto's (2.0.11), what we say in its place, and why.
const CHANGED: &[(&str, &str, &str)] = &[
    (
        "Sending CONNACK to 127.0.0.1 (0, 5)",
        "Sending CONNACK to wrong (0, 5)",
        "named, as by Mosquitto since 2.0.13",
    ),
    (
        "Client <unknown> disconnected, not authorised.",
        "Client wrong disconnected, not authorised.",
        "the same",
    ),
    ("Sending CONNACK to 127.0.0.1 (0, 135)", "Sending CONNACK to wrong5 (0, 135)", "the same"),
    (
        "Client <unknown> disconnected, not authorised.",
        "Client wrong5 disconnected, not authorised.",
        "the same",
    ),
    (
        "Sending PUBACK to denied (m5, rc135)",
        "Sending PUBACK to denied (m5, rc0)",
        "3.1.1 has no reason codes",
    ),
];

/// Beginnings of lines that are ours alone, and why.
const OURS: &[(&str, &str)] = &[
    ("listening listener=", "which listener is where (debug)"),
    ("refused client=", "why, and from where (debug)"),
    ("no CONNECT ", "why, and from where (debug)"),
    ("protocol error client=", "which rule was broken (debug)"),
    ("Received PUBLISH from denied", "all packets that came are shown, denied ones too (debug)"),
    ("Sending DISCONNECT to ", "5.0 clients are told why they have to go (debug)"),
    ("Config reloaded; ", "that it went well, and how many had to go"),
    ("Told to save: ", "that nothing is left to do"),
];

/// Beginnings of lines that are Mosquitto's alone, and why.
const THEIRS: &[(&str, &str)] = &[
    ("Received SUBSCRIBE from broken", "a packet is shown when it could be read (debug)"),
    ("Invalid subscription string from ", "which rule was broken stands in a line of our own"),
    ("Invalid QoS in PUBLISH from ", "which rule was broken stands in a line of our own"),
    ("Warning: Received PUBREC from ", "a peer could fill the log with it; the packet is shown (debug)"),
];

/// A broker at work, and its lines so far.
struct Stage {
    up: Up,
    port: u16,
    is_ours: bool,
}

impl Stage {
    fn wait(&mut self, last: &str) {
        // In their words or in ours.
        let is_it =
            |line: &str| line == last || CHANGED.iter().any(|(from, to, _)| (line, last) == (*from, *to));
        self.up.wait_for(|line| is_it(&plain(line)));
    }

    /// Says packets in turn, each when so many bytes came for the one before; leaves, and waits for the last line about it.
    fn scene(&mut self, said: &[(Vec<u8>, usize)], last: &str) {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        for (packet, answered) in said {
            speak(&mut socket, packet, *answered);
        }
        drop(socket);
        self.wait(last);
    }

    /// The same, but the broker ends the connection.
    fn ends(&mut self, said: &[(Vec<u8>, usize)], last: &str) {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        for (packet, answered) in said {
            speak(&mut socket, packet, *answered);
        }
        // Closed, or reset because more had come.
        let _ = socket.read_to_end(&mut Vec::new());
        self.wait(last);
    }
}

fn speak(socket: &mut TcpStream, packet: &[u8], answered: usize) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(packet).unwrap();
    let mut answer = vec![0; answered];
    socket.read_exact(&mut answer).unwrap_or_else(|error| panic!("{packet:02x?} is not answered: {error}"));
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let length = if length < 128 {
        vec![length as u8]
    } else {
        vec![(length % 128) as u8 | 128, (length / 128) as u8]
    };
    [&[first][..], &length, body].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

/// CONNECT of 3.1.1 or 5.0 with these flags; `more` stands behind the client identifier.
fn connect(id: &str, level: u8, flags: u8, keep_alive: u8, more: &[Vec<u8>]) -> Vec<u8> {
    let properties: &[u8] = if level == 5 { &[0] } else { &[] };
    let head = [text("MQTT"), vec![level, flags, 0, keep_alive], properties.to_vec(), text(id)];
    packet(0x10, &[head.concat(), more.concat()].concat())
}

/// A CONNECT that is welcome, and how many bytes the broker answers with.
fn hello(id: &str, level: u8, answered: usize) -> (Vec<u8>, usize) {
    (connect(id, level, 2, 60, &[]), answered)
}

fn publish(first: u8, topic: &str, id: Option<u8>, level: u8, payload: &str) -> Vec<u8> {
    let id = id.map(|id| vec![0, id]).unwrap_or_default();
    let properties: &[u8] = if level == 5 { &[0] } else { &[] };
    packet(first, &[text(topic), id, properties.to_vec(), payload.into()].concat())
}

fn subscribe(filter: &str, qos: u8, level: u8) -> Vec<u8> {
    let properties: &[u8] = if level == 5 { &[0] } else { &[] };
    packet(0x82, &[&[0, 9], properties, &text(filter), &[qos]].concat())
}

const DISCONNECT: &[u8] = b"\xE0\0";
const PING: &[u8] = b"\xC0\0";

/// What both are told. `five` is how long the answer to a CONNECT of 5.0 is.
fn story(stage: &mut Stage, five: usize) {
    let closed = |id: &str| format!("Client {id} closed its connection.");
    let broke = |id: &str| format!("Client {id} disconnected due to protocol error.");
    let malformed = |id: &str| format!("Client {id} disconnected due to malformed packet.");
    let leave = (DISCONNECT.to_vec(), 0);
    stage.scene(&[hello("plain", 4, 4), (PING.to_vec(), 2), leave.clone()], "Client plain disconnected.");
    let will = connect("willing", 4, 0x2E, 60, &[text("w/t"), text("gone")]);
    stage.scene(&[(will, 4)], &closed("willing"));
    let lasting = || (connect("lasting", 4, 0, 0, &[]), 4);
    stage.scene(&[lasting(), (subscribe("a/#", 1, 4), 5), leave.clone()], "Client lasting disconnected.");
    let unsubscribe = packet(0xA2, &[&[0, 9][..], &text("a/#")].concat());
    stage.scene(&[lasting(), (unsubscribe, 4), leave.clone()], "Client lasting disconnected.");
    let ann = |password: &str| vec![text("ann"), text(password)];
    let named = connect("five", 5, 0xC2, 60, &ann("right"));
    // Her own message comes back: PUBREC; PUBCOMP and PUBLISH.
    let two = publish(0x34, "x", Some(4), 5, "hi");
    stage.scene(
        &[
            (named, five),
            (subscribe("x", 0, 5), 6),
            (two, 4),
            (b"\x62\x02\0\x04".to_vec(), 4 + 8),
            (publish(0x31, "y", None, 5, "kept"), 0),
            leave.clone(),
        ],
        "Client five disconnected.",
    );
    let wrong = |id: &str, level| connect(id, level, 0xC2, 60, &ann("wrong"));
    stage.ends(&[(wrong("wrong", 4), 4)], "Client wrong disconnected, not authorised.");
    stage.ends(&[(wrong("wrong5", 5), 5)], "Client wrong5 disconnected, not authorised.");
    stage.scene(&[(connect("", 4, 2, 60, &[]), 4)], &closed("AUTO"));
    stage.ends(&[(connect("", 4, 0, 60, &[]), 4)], &broke("<unknown>"));

    let mut first = TcpStream::connect(("127.0.0.1", stage.port)).unwrap();
    speak(&mut first, &hello("twin", 4, 4).0, 4);
    stage.scene(&[hello("twin", 4, 4)], &closed("twin"));
    drop(first);

    stage.ends(&[hello("twice", 4, 4), hello("twice", 4, 0)], &broke("twice"));
    let deny = |level| publish(0x32, "no/x", Some(5), level, "1");
    stage.scene(&[hello("denied", 4, 4), (deny(4), 4), leave.clone()], "Client denied disconnected.");
    stage.scene(&[hello("denied5", 5, five), (deny(5), 5), leave.clone()], "Client denied5 disconnected.");
    stage.ends(&[hello("broken1", 4, 4), (subscribe("a/#/b", 0, 4), 0)], &malformed("broken1"));
    stage.ends(&[hello("broken2", 4, 4), (b"\x82\x02\0\x01".to_vec(), 0)], &malformed("broken2"));
    stage.ends(&[hello("reserved", 4, 4), (b"\xF0\0".to_vec(), 0)], &broke("reserved"));
    stage.ends(&[hello("three", 4, 4), (b"\x36\x05\0\x01t\0\x01".to_vec(), 0)], &malformed("three"));
    let large = |id: &str| format!("Client {id} disconnected due to oversize packet.");
    stage.ends(&[hello("over", 4, 4), (publish(0x30, "o", None, 4, &"x".repeat(300)), 0)], &large("over"));
    stage.ends(
        &[hello("over5", 5, five), (publish(0x30, "o", None, 5, &"x".repeat(300)), 0)],
        &large("over5"),
    );
    stage.scene(&[hello("unknown5", 5, five), (b"\x50\x02\0\x07".to_vec(), 4)], &closed("unknown5"));
    stage.ends(&[(PING.to_vec(), 0)], &broke("<unknown>"));
    stage.ends(&[(b"\x10\x0c\0\x04MQTT\x07\x02\0\x3c\0\0".to_vec(), 4)], &broke("<unknown>"));
    let silent = (connect("silent", 4, 2, 1, &[]), 4);
    stage.ends(&[silent], "Client silent has exceeded timeout, disconnecting.");

    stage.up.signal("-HUP");
    stage.wait("Reloading config.");
    if stage.is_ours {
        stage.up.wait_for(|line| line.starts_with("Config reloaded; "));
    }
    stage.up.signal("-USR1");
    if stage.is_ours {
        stage.up.wait_for(|line| line.starts_with("Told to save: "));
    }
    stage.scene(&[hello("last", 4, 4), leave], "Client last disconnected.");
    stage.up.signal("-TERM");
    stage.wait("BROKER terminating");
}

/// Chance, and who it is.
fn plain(line: &str) -> String {
    let words: Vec<String> = line.split(' ').map(plain_word).collect();
    let line = words.join(" ");
    if line.starts_with("Config loaded from ") {
        return "Config loaded.".to_owned();
    }
    let line = line.replace("mosquitto version N", "BROKER").replace("quoll version N", "BROKER");
    line.split_once(" port ").map_or_else(|| line.clone(), |(before, _)| format!("{before} port N."))
}

fn plain_word(word: &str) -> String {
    let dot = if word.ends_with('.') { "." } else { "" };
    if word.starts_with("127.0.0.1:") {
        return format!("ADDRESS{dot}");
    }
    if word.starts_with("auto-") {
        return format!("AUTO{dot}");
    }
    let is_version = word.split('.').count() == 3 && word.chars().all(|c| c == '.' || c.is_ascii_digit());
    if is_version { "N".to_owned() } else { word.to_owned() }
}

/// Tells the story; the lines, but for those about root.
fn tell(command: Command, port: u16, is_ours: bool) -> Vec<String> {
    let mut stage = Stage { up: Up::of(command), port, is_ours };
    stage.wait("BROKER running");
    story(&mut stage, 16);
    assert_eq!(stage.up.exit_code(), 0);
    let lines = stage.up.heard.iter().map(|line| plain(line));
    lines.filter(|line| !line.contains("should not be run as root")).collect()
}

#[test]
fn the_log_says_what_mosquittos_says_line_by_line() {
    let folder = Folder::new();
    let rival = free_port();
    let made =
        tool("mosquitto_passwd", &["-b", "-c", &folder.path("pw").display().to_string(), "ann", "right"]);
    assert!(made.status.success(), "mosquitto_passwd is needed (scripts/setup)");
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(folder.path("pw"), readable).unwrap();
    folder.write("acl", "topic readwrite #\ntopic deny no/#\nuser ann\ntopic readwrite #\n");
    for (name, port) in [("mosquitto.conf", folder.port), ("rival.conf", rival)] {
        let lines = "user root\nallow_anonymous true\npassword_file pw\nacl_file acl\nmax_packet_size 200\nsys_interval 0\n\
                     log_dest stderr\nlog_timestamp false\nlog_type all\n";
        folder.write(name, format!("listener {port} 127.0.0.1\n{lines}"));
    }
    let mut mosquitto = Command::new("mosquitto");
    mosquitto.args(["-c", "rival.conf"]).current_dir(folder.dir.path()).stdin(Stdio::null());
    let theirs = std::thread::spawn(move || tell(mosquitto, rival, false));
    let ours = tell(folder.command(&["broker", "-c", "mosquitto.conf"]), folder.port, true);
    let theirs = theirs.join().expect("Mosquitto, Debian's, is needed (scripts/setup), and hears the story");

    let mut changed: Vec<_> = CHANGED.iter().map(|(from, to, _)| Some((*from, *to))).collect();
    let expected: Vec<String> = theirs
        .iter()
        .filter(|line| !THEIRS.iter().any(|(start, _)| line.starts_with(start)))
        .map(|line| {
            let row = changed.iter_mut().find(|row| row.is_some_and(|(from, _)| from == line));
            row.and_then(Option::take).map_or_else(|| line.clone(), |(_, to)| to.to_owned())
        })
        .collect();
    let said: Vec<&String> =
        ours.iter().filter(|line| !OURS.iter().any(|(start, _)| line.starts_with(start))).collect();
    let first = expected.iter().zip(&said).position(|(theirs, ours)| theirs != *ours);
    let from = first.unwrap_or_else(|| expected.len().min(said.len())).saturating_sub(5);
    assert!(
        expected.iter().eq(said.iter().copied()),
        "from line {from} on\ntheirs: {:#?}\nours: {:#?}",
        expected.iter().skip(from).take(10).collect::<Vec<_>>(),
        said.iter().skip(from).take(10).collect::<Vec<_>>()
    );
    assert_eq!(
        changed.iter().flatten().collect::<Vec<_>>(),
        Vec::<&(&str, &str)>::new(),
        "rows that nothing needs"
    );
    for (lines, rows) in [(&ours, OURS), (&theirs, THEIRS)] {
        for (start, _) in rows {
            assert!(lines.iter().any(|line| line.starts_with(start)), "nothing needs the row {start:?}");
        }
    }
}
