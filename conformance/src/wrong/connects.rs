//! What is no CONNECT, or a wrong one, as the first packet.

use super::{Wrong, row, texts};
use crate::client::unique_id;
use crate::property;
use crate::scenes::refusal::malformed_connects;
use crate::words::{self, Connect, Version, Version::*, Will, publish};

/// All of them.
pub fn all(v: Version) -> Vec<Wrong> {
    let mut rows: Vec<Wrong> = malformed_connects(v)
        .into_iter()
        .map(|(name, bytes)| row(format!("CONNECT: {name}"), bytes))
        .collect();
    rows.extend(names_and_levels(v));
    rows.extend(identities(v));
    rows.extend(ill_formed(v));
    rows.extend(others(v));
    rows
}

fn good(v: Version) -> Connect {
    Connect::new(v, unique_id())
}

fn names_and_levels(v: Version) -> Vec<Wrong> {
    let mut rows = vec![row("CONNECT: reserved flag", good(v).flip(1).bytes())];
    for name in ["mqtt", "MQTTX", "HTTP", ""] {
        let mut connect = good(v);
        connect.name = name.into();
        rows.push(row(format!("CONNECT: protocol name {name:?}"), connect.bytes()));
    }
    for level in [0, 1, 2, 6, 7, 0x7F, 0xFF] {
        let mut connect = good(v);
        connect.level = level;
        rows.push(row(format!("CONNECT: level {level}"), connect.bytes()));
    }
    let mut swapped = good(v);
    swapped.name = if v == V31 { "MQTT".into() } else { "MQIsdp".into() };
    rows.push(row("CONNECT: the name of another version", swapped.bytes()));
    let mut padded = good(v).bytes();
    padded[1] |= 0x80;
    padded.insert(2, 0);
    rows.push(row("CONNECT: Remaining Length in a long form", padded));
    rows
}

fn identities(v: Version) -> Vec<Wrong> {
    let mut empty = Connect::new(v, "");
    let mut rows = vec![row("CONNECT: no client identifier, clean", empty.bytes())];
    empty.clean = false;
    rows.push(row("CONNECT: no client identifier, not clean", empty.bytes()));
    let long = format!("{}{}", unique_id(), "x".repeat(30));
    rows.push(row("CONNECT: a client identifier of more than 23 characters", Connect::new(v, long).bytes()));
    let mut secret = good(v);
    secret.password = Some("secret".into());
    rows.push(row("CONNECT: a password without a user name", secret.bytes()));
    for slashes in [200, 201] {
        let will = Will::new("/".repeat(slashes), "w");
        rows.push(row(format!("CONNECT: a will to {slashes} slashes"), good(v).will(will).bytes()));
    }
    for topic in ["$SYS/x", "$share/g/a", "$CONTROL/x"] {
        rows.push(row(format!("CONNECT: a will to {topic}"), good(v).will(Will::new(topic, "w")).bytes()));
    }
    rows
}

fn ill_formed(v: Version) -> Vec<Wrong> {
    let mut rows = Vec::new();
    for (name, text) in texts() {
        rows.push(row(
            format!("CONNECT: client identifier with {name}"),
            Connect::new(v, text.clone()).bytes(),
        ));
        rows.push(row(
            format!("CONNECT: will topic with {name}"),
            good(v).will(Will::new(text.clone(), "w")).bytes(),
        ));
        let mut named = good(v);
        named.user = Some(text);
        rows.push(row(format!("CONNECT: user name with {name}"), named.bytes()));
    }
    rows
}

/// Something else comes first.
fn others(v: Version) -> Vec<Wrong> {
    let mut rows = vec![
        row("PUBLISH before CONNECT", publish("a", "x").bytes(v)),
        row("SUBSCRIBE before CONNECT", words::subscribe(v, 1, &[("a", 0)])),
        row("PINGREQ before CONNECT", words::PINGREQ.to_vec()),
        row("DISCONNECT before CONNECT", words::DISCONNECT.to_vec()),
        row("CONNACK before CONNECT", vec![0x20, 2, 0, 0]),
        row("type 0 before CONNECT", vec![0, 0]),
        row("a request of HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        row("a hello of TLS", vec![0x16, 0x03, 0x01, 0x00, 0x05, 1, 2, 3, 4, 5]),
    ];
    if v == V5 {
        let method = property::authentication_method("M");
        rows.push(row("AUTH before CONNECT", words::auth(0x18, std::slice::from_ref(&method))));
        rows.push(row("CONNECT: an unknown authentication method", good(v).with(method).bytes()));
        let data = property::authentication_data("D");
        rows.push(row("CONNECT: authentication data without method", good(v).with(data).bytes()));
    }
    rows
}
