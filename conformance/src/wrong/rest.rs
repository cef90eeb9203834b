//! PINGREQ, DISCONNECT, AUTH that are wrong, and packets out of place.

use super::{Wrong, row};
use crate::client::unique_id;
use crate::property;
use crate::scenes::broken;
use crate::words::{self, Connect, Version, Version::*};

/// All of them.
pub fn all(v: Version) -> Vec<Wrong> {
    let shared = [broken::pings_and_disconnects(v), broken::foreign(v)].concat();
    let mut rows: Vec<Wrong> = shared.into_iter().map(|(name, bytes, _)| row(name, bytes)).collect();
    rows.push(row("a second CONNECT", Connect::new(v, unique_id()).bytes()));
    rows.push(row("PINGREQ with its Remaining Length in a long form", vec![0xC0, 0x80, 0]));
    for bit in [1, 2, 4, 8] {
        rows.push(row(format!("PINGREQ with flag {bit}"), vec![0xC0 | bit, 0]));
        rows.push(row(format!("DISCONNECT with flag {bit}"), vec![0xE0 | bit, 0]));
    }
    if v != V5 {
        return rows;
    }
    for reason in
        [0x01, 0x10, 0x42, 0x80, 0x84, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x98, 0x9C, 0x9D, 0xA0, 0xA2, 0xFF]
    {
        rows.push(row(format!("DISCONNECT with reason {reason:#04x}"), words::packet(0xE0, &[reason])));
    }
    let expiry = [property::session_expiry(10u32)];
    rows.push(row(
        "DISCONNECT that gives an expiry to a session without",
        words::disconnect_with(0, &expiry),
    ));
    rows.push(row("DISCONNECT with properties beyond its end", words::packet(0xE0, &[0, 9])));
    rows.push(row("DISCONNECT with a byte too many", words::packet(0xE0, &[0, 0, 0])));
    let method = [property::authentication_method("M")];
    for reason in [0x00, 0x18, 0x19, 0x42] {
        rows.push(row(
            format!("AUTH {reason:#04x} without a method agreed on"),
            words::auth(reason, &method),
        ));
    }
    rows.push(row("AUTH without a reason", vec![0xF0, 0]));
    rows.push(row("AUTH with flags", vec![0xF1, 0]));
    rows
}
