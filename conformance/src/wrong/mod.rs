//! Every wrong packet there is, and what a broker does about it: each fault of each packet in each version by name.
//!
//! Not a judgement: the tests by chapter say what the standard asks for. Here is written down what Quoll and Debian's Mosquitto
//! do (`wrong-packets.tsv`), so that whoever relies on either can look it up, a change of either is noticed, and each
//! difference between them has a clause and a reason (`[[packet]]` in `differences.toml`).
//!
//! | file | is for |
//! |---|---|
//! | [`connects`] | the first packet |
//! | [`publishes`] | PUBLISH, and what is sent for one that came |
//! | [`requests`] | SUBSCRIBE and UNSUBSCRIBE |
//! | [`rest`] | PINGREQ, DISCONNECT, AUTH, packets out of place |
//! | [`properties`] | properties that are misplaced, twice, of wrong value (5.0) |
//! | [`record`] | the file, and the rules that explain a difference |

use std::time::Duration;

use crate::client::{Client, Heard, unique_id};
use crate::heard::{Packet, kind};
use crate::words::{Connect, PINGREQ, Version};

pub mod connects;
pub mod properties;
pub mod publishes;
pub mod record;
pub mod requests;
pub mod rest;

/// A wrong packet: what is wrong with it, and its bytes.
pub type Wrong = (String, Vec<u8>);

/// How long a broker that neither answers nor closes is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The same where the packet says that more is to come, so that silence is due.
const SILENCE: Duration = Duration::from_millis(700);

/// Beginnings of names of packets that never end.
pub const UNENDING: &str = "a packet of ";

/// All rows of a version: said in place of CONNECT, and said after it.
pub fn all(v: Version) -> (Vec<Wrong>, Vec<Wrong>) {
    let mut later = [publishes::all(v), requests::all(v), rest::all(v)].concat();
    if v == Version::V5 {
        later.extend(properties::all());
    }
    (connects::all(v), later)
}

/// Says a row on a new connection; what came back, in words.
pub fn outcome(v: Version, bytes: &[u8], first: bool, patience: Duration) -> String {
    let mut client = if first { Client::open(v) } else { Client::connect(&Connect::new(v, unique_id())) };
    client.say([bytes, &PINGREQ].concat());
    let mut said = Vec::new();
    loop {
        match client.listen(patience) {
            Heard::Packet(packet) if packet.kind == kind::PINGRESP => {
                said.push("goes on".to_owned());
                // What it subscribed to is no other row's affair.
                client.leave();
                break;
            }
            Heard::Packet(packet) => said.push(words(v, &packet)),
            Heard::Closed => {
                said.push("closes".to_owned());
                break;
            }
            Heard::Nothing => {
                said.push("waits".to_owned());
                break;
            }
        }
    }
    let runs = said.chunk_by(|one, other| one == other);
    let runs: Vec<String> = runs
        .map(|run| if run.len() > 1 { format!("{} × {}", run[0], run.len()) } else { run[0].clone() })
        .collect();
    runs.join(", ")
}

/// How long this row is listened to.
pub fn patience(name: &str) -> Duration {
    if name.starts_with(UNENDING) { SILENCE } else { PATIENCE }
}

/// What a broker says in answer to something wrong: the packet's name and its code.
fn words(v: Version, packet: &Packet) -> String {
    let body = &packet.body;
    let five = v == Version::V5;
    let code = |at: usize| body.get(at).copied().unwrap_or(0);
    match packet.kind {
        kind::CONNACK => format!("CONNACK {:#04x}", code(1)),
        kind::PUBLISH => "PUBLISH".into(),
        kind::PUBACK if five => format!("PUBACK {:#04x}", code(2)),
        kind::PUBREC if five => format!("PUBREC {:#04x}", code(2)),
        kind::PUBREL if five => format!("PUBREL {:#04x}", code(2)),
        kind::PUBCOMP if five => format!("PUBCOMP {:#04x}", code(2)),
        kind::PUBACK => "PUBACK".into(),
        kind::PUBREC => "PUBREC".into(),
        kind::PUBREL => "PUBREL".into(),
        kind::PUBCOMP => "PUBCOMP".into(),
        kind::SUBACK if body.len() <= 2 + usize::from(five) => "SUBACK of nothing".into(),
        kind::SUBACK => format!("SUBACK {:#04x}", body.last().copied().unwrap_or(0)),
        kind::UNSUBACK if five && body.len() > 3 => {
            format!("UNSUBACK {:#04x}", body.last().copied().unwrap_or(0))
        }
        kind::UNSUBACK => "UNSUBACK".into(),
        kind::DISCONNECT => format!("DISCONNECT {:#04x}", code(0)),
        kind::AUTH => format!("AUTH {:#04x}", code(0)),
        other => format!("packet {other}"),
    }
}

/// A row of a name and its bytes.
fn row(name: impl Into<String>, bytes: Vec<u8>) -> Wrong {
    (name.into(), bytes)
}

/// Texts that are no UTF-8 strings in MQTT's sense, and those that should not be one.
fn texts() -> Vec<(String, Vec<u8>)> {
    let ill =
        crate::scenes::broken::ILL_FORMED.iter().map(|(name, text)| ((*name).to_owned(), text.to_vec()));
    let odd = ['\u{1}', '\u{1F}', '\u{7F}', '\u{85}', '\u{FDD0}', '\u{FFFE}', '\u{1FFFF}'];
    ill.chain(odd.iter().map(|it| (format!("U+{:04X}", u32::from(*it)), format!("a{it}").into_bytes())))
        .collect()
}
