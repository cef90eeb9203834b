//! SUBSCRIBE and UNSUBSCRIBE that are wrong.

use super::{Wrong, row, texts};
use crate::scenes::broken;
use crate::words::{self, Version, Version::*};

/// Filters that are none, or that are hard to tell.
const FILTERS: [&str; 20] = [
    "",
    "a#",
    "a/#/b",
    "#/a",
    "##",
    "a/b#",
    "a+",
    "+a",
    "a/+b",
    "++",
    "#a",
    "$share",
    "$share/",
    "$share/g",
    "$share/g/",
    "$share//a",
    "$share/+/a",
    "$share/#/a",
    "$share/g+/a",
    "$share/g/a#",
];

/// All of them.
pub fn all(v: Version) -> Vec<Wrong> {
    let shared = [broken::subscribes(v), broken::unsubscribes(v)].concat();
    let mut rows: Vec<Wrong> = shared.into_iter().map(|(name, bytes, _)| row(name, bytes)).collect();
    let deep = ["/".repeat(199), "/".repeat(200), "/".repeat(201)];
    for filter in FILTERS.iter().copied().chain(deep.iter().map(String::as_str)) {
        let name =
            if filter.len() > 100 { format!("{} slashes", filter.len()) } else { format!("{filter:?}") };
        rows.push(row(format!("SUBSCRIBE to {name}"), words::subscribe(v, 1, &[(filter, 0)])));
        rows.push(row(format!("UNSUBSCRIBE from {name}"), words::unsubscribe(v, 1, &[filter])));
    }
    for bit in [1, 2, 4, 8] {
        rows.push(row(
            format!("SUBSCRIBE with flag {bit} turned over"),
            spoilt(words::subscribe(v, 1, &[("a", 0)]), bit),
        ));
        rows.push(row(
            format!("UNSUBSCRIBE with flag {bit} turned over"),
            spoilt(words::unsubscribe(v, 1, &["a"]), bit),
        ));
    }
    for options in [0x03, 0x04, 0x08, 0x10, 0x20, 0x30, 0x40, 0x80, 0xFF] {
        // 5.0 has a meaning for these.
        if v == V5 && matches!(options, 0x04 | 0x08 | 0x10 | 0x20) {
            continue;
        }
        rows.push(row(
            format!("SUBSCRIBE with options {options:#04x}"),
            words::subscribe(v, 1, &[("a", options)]),
        ));
    }
    let mut good_first = words::subscribe(v, 1, &[("a", 1), ("a/#/b", 1)]);
    rows.push(row("SUBSCRIBE to a right filter and a wrong one", good_first.clone()));
    good_first = words::unsubscribe(v, 1, &["a", "a/#/b"]);
    rows.push(row("UNSUBSCRIBE from a right filter and a wrong one", good_first));
    for (name, text) in texts() {
        let options = [words::counted(&text), vec![0]].concat();
        rows.push(row(format!("SUBSCRIBE to a filter with {name}"), request(v, 0x82, &options)));
        rows.push(row(
            format!("UNSUBSCRIBE from a filter with {name}"),
            request(v, 0xA2, &words::counted(&text)),
        ));
    }
    if v == V5 {
        rows.push(row(
            "SUBSCRIBE with No Local on a shared one",
            words::subscribe(v, 1, &[("$share/g/a", 0x04)]),
        ));
    }
    rows
}

fn request(v: Version, first: u8, rest: &[u8]) -> Vec<u8> {
    let properties: &[u8] = if v == V5 { &[0] } else { &[] };
    words::packet(first, &[&[0, 1], properties, rest].concat())
}

fn spoilt(mut bytes: Vec<u8>, bit: u8) -> Vec<u8> {
    bytes[0] ^= bit;
    bytes
}
