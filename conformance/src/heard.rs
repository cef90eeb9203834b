//! Reading what the broker says. Strict: whatever a broker may not send is a panic that fails the test.

use crate::property::{self, Property};
use crate::words::{Publish, Version};

/// Packet types, as the upper half of a first byte.
#[allow(missing_docs, reason = "the names are the standard's")]
pub mod kind {
    pub const CONNACK: u8 = 2;
    pub const PUBLISH: u8 = 3;
    pub const PUBACK: u8 = 4;
    pub const PUBREC: u8 = 5;
    pub const PUBREL: u8 = 6;
    pub const PUBCOMP: u8 = 7;
    pub const SUBACK: u8 = 9;
    pub const UNSUBACK: u8 = 11;
    pub const PINGRESP: u8 = 13;
    pub const DISCONNECT: u8 = 14;
    pub const AUTH: u8 = 15;
}

/// A packet as it came: nothing is understood yet but its length.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the packet's")]
pub struct Packet {
    pub kind: u8,
    pub flags: u8,
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = [
            "0",
            "CONNECT",
            "CONNACK",
            "PUBLISH",
            "PUBACK",
            "PUBREC",
            "PUBREL",
            "PUBCOMP",
            "SUBSCRIBE",
            "SUBACK",
            "UNSUBSCRIBE",
            "UNSUBACK",
            "PINGREQ",
            "PINGRESP",
            "DISCONNECT",
            "AUTH",
        ];
        write!(f, "{} flags {:#x} body", names[usize::from(self.kind & 15)], self.flags)?;
        self.body.iter().take(80).try_for_each(|byte| write!(f, " {byte:02x}"))
    }
}

/// CONNACK.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the packet's")]
pub struct ConnAck {
    pub session_present: bool,
    pub code: u8,
    pub properties: Vec<Property>,
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP; the reason is 0 where it is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the packet's")]
pub struct Ack {
    pub id: u16,
    pub reason: u8,
    pub properties: Vec<Property>,
}

/// SUBACK and UNSUBACK.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the packet's")]
pub struct Codes {
    pub id: u16,
    pub codes: Vec<u8>,
    pub properties: Vec<Property>,
}

impl Packet {
    /// Takes a whole packet off the front of `inbox`.
    pub fn cut(inbox: &mut Vec<u8>) -> Option<Self> {
        let mut length = 0usize;
        for place in 0..4 {
            let byte = *inbox.get(1 + place)?;
            length |= usize::from(byte & 0x7F) << (7 * place);
            if byte & 0x80 == 0 {
                assert!(place == 0 || byte != 0, "the broker padded a length: {:02x?}", &inbox[..=1 + place]);
                let end = 2 + place + length;
                if inbox.len() < end {
                    return None;
                }
                let whole: Vec<u8> = inbox.drain(..end).collect();
                return Some(Self {
                    kind: whole[0] >> 4,
                    flags: whole[0] & 15,
                    body: whole[2 + place..].to_vec(),
                });
            }
        }
        panic!("the broker sent a length of five bytes: {:02x?}", &inbox[..5]);
    }

    /// Understood as CONNACK.
    pub fn connack(&self, version: Version) -> ConnAck {
        self.is(kind::CONNACK, 0);
        let rest = &mut self.body.as_slice();
        let flags = byte(rest);
        assert_eq!(flags & 0xFE, 0, "reserved connect acknowledge flags are set: {self:?}");
        let code = byte(rest);
        let properties = if version == Version::V5 { property::read(rest) } else { Vec::new() };
        self.at_end(rest);
        ConnAck { session_present: flags == 1, code, properties }
    }

    /// Understood as PUBLISH.
    pub fn publish(&self, version: Version) -> Publish {
        assert_eq!(self.kind, kind::PUBLISH, "not a PUBLISH: {self:?}");
        let rest = &mut self.body.as_slice();
        let topic = String::from_utf8(counted(rest)).expect("topics from the broker are UTF-8");
        let qos = self.flags >> 1 & 3;
        assert!(qos < 3, "QoS 3 from the broker: {self:?}");
        let id = if qos > 0 { two(rest) } else { 0 };
        assert!(qos == 0 || id > 0, "packet identifier 0 from the broker: {self:?}");
        let properties = if version == Version::V5 { property::read(rest) } else { Vec::new() };
        let dup = self.flags & 8 != 0;
        assert!(qos > 0 || !dup, "DUP on QoS 0 from the broker: {self:?}");
        Publish { topic, payload: rest.to_vec(), qos, id, retain: self.flags & 1 != 0, dup, properties }
    }

    /// Understood as PUBACK, PUBREC, PUBREL or PUBCOMP.
    pub fn ack(&self, wanted: u8, version: Version) -> Ack {
        self.is(wanted, if wanted == kind::PUBREL { 2 } else { 0 });
        let rest = &mut self.body.as_slice();
        let id = two(rest);
        let five = version == Version::V5;
        let reason = if five && !rest.is_empty() { byte(rest) } else { 0 };
        let properties = if five && !rest.is_empty() { property::read(rest) } else { Vec::new() };
        self.at_end(rest);
        Ack { id, reason, properties }
    }

    /// Understood as SUBACK or UNSUBACK.
    pub fn codes(&self, wanted: u8, version: Version) -> Codes {
        self.is(wanted, 0);
        let rest = &mut self.body.as_slice();
        let id = two(rest);
        let properties = if version == Version::V5 { property::read(rest) } else { Vec::new() };
        Codes { id, codes: rest.to_vec(), properties }
    }

    /// Understood as DISCONNECT (5.0): reason and properties.
    pub fn disconnect(&self) -> (u8, Vec<Property>) {
        self.is(kind::DISCONNECT, 0);
        let rest = &mut self.body.as_slice();
        let reason = if rest.is_empty() { 0 } else { byte(rest) };
        let properties = if rest.is_empty() { Vec::new() } else { property::read(rest) };
        self.at_end(rest);
        (reason, properties)
    }

    fn is(&self, kind: u8, flags: u8) {
        assert_eq!((self.kind, self.flags), (kind, flags), "another packet was due: {self:?}");
    }

    fn at_end(&self, rest: &[u8]) {
        assert!(rest.is_empty(), "bytes left over: {self:?}");
    }
}

/// Takes one byte.
pub fn byte(rest: &mut &[u8]) -> u8 {
    let (first, after) = rest.split_first().expect("the broker's packet ends too early");
    *rest = after;
    *first
}

/// Takes a Two Byte Integer.
pub fn two(rest: &mut &[u8]) -> u16 {
    u16::from(byte(rest)) << 8 | u16::from(byte(rest))
}

/// Takes a Four Byte Integer.
pub fn four(rest: &mut &[u8]) -> u32 {
    u32::from(two(rest)) << 16 | u32::from(two(rest))
}

/// Takes a Variable Byte Integer.
pub fn variable(rest: &mut &[u8]) -> u32 {
    let mut number = 0;
    for place in 0..4 {
        let next = byte(rest);
        number |= u32::from(next & 0x7F) << (7 * place);
        if next & 0x80 == 0 {
            assert!(place == 0 || next != 0, "the broker padded a Variable Byte Integer");
            return number;
        }
    }
    panic!("the broker sent a Variable Byte Integer of five bytes");
}

/// Takes two bytes of length and what they count.
pub fn counted(rest: &mut &[u8]) -> Vec<u8> {
    let length = usize::from(two(rest));
    assert!(length <= rest.len(), "a string of {length} bytes beyond the packet's end");
    let (text, after) = rest.split_at(length);
    *rest = after;
    text.to_vec()
}
