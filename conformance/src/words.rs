//! Bytes of packets that a client says, right ones and wrong ones. MQTT 5.0 §2, §3 · 3.1.1 §2, §3.

use crate::property::{self, Property};

/// Protocol version; the number is the level in CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Version {
    V31 = 3,
    V311 = 4,
    V5 = 5,
}

/// A Variable Byte Integer in its shortest form (up to four bytes).
pub fn variable(mut number: u32) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (number & 0x7F) as u8;
        number >>= 7;
        out.push(if number > 0 { low | 0x80 } else { low });
        if number == 0 {
            return out;
        }
    }
}

/// Two bytes of length, then the bytes: strings and binary data.
pub fn counted(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let length = u16::try_from(bytes.len()).expect("tests keep strings under 64 KiB");
    [&length.to_be_bytes(), bytes].concat()
}

/// A Variable Byte Integer of length, then the bytes.
pub fn variable_counted(bytes: &[u8]) -> Vec<u8> {
    [variable(bytes.len() as u32).as_slice(), bytes].concat()
}

/// A packet of a first byte and a body.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first], variable_counted(body).as_slice()].concat()
}

/// CONNECT; every field can be set to something wrong.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are the packet's")]
pub struct Connect {
    pub version: Version,
    pub name: Vec<u8>,
    pub level: u8,
    pub clean: bool,
    pub keep_alive: u16,
    pub client_id: Vec<u8>,
    pub will: Option<Will>,
    pub user: Option<Vec<u8>>,
    pub password: Option<Vec<u8>>,
    pub properties: Vec<Property>,
    /// Bits to turn over in the connect flags after they were computed.
    pub flip: u8,
}

/// The will in a CONNECT.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are the packet's")]
pub struct Will {
    pub topic: Vec<u8>,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub properties: Vec<Property>,
}

impl Will {
    /// QoS 0, not retained, no properties.
    pub fn new(topic: impl Into<Vec<u8>>, payload: &str) -> Self {
        Self { topic: topic.into(), payload: payload.into(), qos: 0, retain: false, properties: Vec::new() }
    }
}

impl Connect {
    /// A clean start without keep alive.
    pub fn new(version: Version, client_id: impl Into<Vec<u8>>) -> Self {
        Self {
            version,
            name: if version == Version::V31 { b"MQIsdp".to_vec() } else { b"MQTT".to_vec() },
            level: version as u8,
            clean: true,
            keep_alive: 0,
            client_id: client_id.into(),
            will: None,
            user: None,
            password: None,
            properties: Vec::new(),
            flip: 0,
        }
    }

    /// A session that outlives its connection: clean session 0, and in 5.0 an expiry of ten minutes.
    pub fn lasting(version: Version, client_id: impl Into<Vec<u8>>) -> Self {
        let mut connect = Self::new(version, client_id);
        connect.clean = false;
        if version == Version::V5 {
            connect.properties.push(property::session_expiry(600u32));
        }
        connect
    }

    /// With one more property.
    pub fn with(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    /// With a keep alive in seconds.
    pub fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    /// With a will.
    pub fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    /// With these bits of the connect flags turned over.
    pub fn flip(mut self, bits: u8) -> Self {
        self.flip ^= bits;
        self
    }

    /// The connect flags.
    pub fn flags(&self) -> u8 {
        let will = self.will.as_ref();
        let bits = u8::from(self.clean) << 1
            | will.map_or(0, |it| 0x04 | it.qos << 3 | u8::from(it.retain) << 5)
            | u8::from(self.password.is_some()) << 6
            | u8::from(self.user.is_some()) << 7;
        bits ^ self.flip
    }

    /// Everything behind the fixed header.
    pub fn body(&self) -> Vec<u8> {
        let five = self.version == Version::V5;
        let mut out = counted(&self.name);
        out.extend([self.level, self.flags()]);
        out.extend(self.keep_alive.to_be_bytes());
        if five {
            out.extend(property::field(&self.properties));
        }
        out.extend(counted(&self.client_id));
        if let Some(will) = &self.will {
            if five {
                out.extend(property::field(&will.properties));
            }
            out.extend(counted(&will.topic));
            out.extend(counted(&will.payload));
        }
        for text in [&self.user, &self.password].into_iter().flatten() {
            out.extend(counted(text));
        }
        out
    }

    /// The packet.
    pub fn bytes(&self) -> Vec<u8> {
        packet(0x10, &self.body())
    }
}

/// PUBLISH, said or heard.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the packet's")]
pub struct Publish {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    /// Sent with QoS 1 to 3 only.
    pub id: u16,
    pub retain: bool,
    pub dup: bool,
    pub properties: Vec<Property>,
}

/// A message of QoS 0.
pub fn publish(topic: impl Into<String>, payload: impl AsRef<[u8]>) -> Publish {
    Publish {
        topic: topic.into(),
        payload: payload.as_ref().to_vec(),
        qos: 0,
        id: 0,
        retain: false,
        dup: false,
        properties: Vec::new(),
    }
}

impl Publish {
    /// With QoS and packet identifier.
    pub fn qos(mut self, qos: u8, id: u16) -> Self {
        (self.qos, self.id) = (qos, id);
        self
    }

    /// With RETAIN.
    pub fn retained(mut self) -> Self {
        self.retain = true;
        self
    }

    /// With DUP.
    pub fn again(mut self) -> Self {
        self.dup = true;
        self
    }

    /// With one more property.
    pub fn with(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    /// The packet.
    pub fn bytes(&self, version: Version) -> Vec<u8> {
        let mut body = counted(&self.topic);
        if self.qos > 0 {
            body.extend(self.id.to_be_bytes());
        }
        if version == Version::V5 {
            body.extend(property::field(&self.properties));
        }
        body.extend(&self.payload);
        packet(0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain), &body)
    }

    /// The payload as text, for messages of tests.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

/// SUBSCRIBE with properties, which 3.x leaves out.
pub fn subscribe_with(version: Version, id: u16, properties: &[Property], filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.extend(property::field(properties));
    }
    for (filter, options) in filters {
        body.extend(counted(filter));
        body.push(*options);
    }
    packet(0x82, &body)
}

/// SUBSCRIBE.
pub fn subscribe(version: Version, id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    subscribe_with(version, id, &[], filters)
}

/// UNSUBSCRIBE.
pub fn unsubscribe(version: Version, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    for filter in filters {
        body.extend(counted(filter));
    }
    packet(0xA2, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP in the short form that all versions share.
pub fn acknowledge(kind: u8, id: u16) -> Vec<u8> {
    let flags = if kind == crate::heard::kind::PUBREL { 0x02 } else { 0x00 };
    packet(kind << 4 | flags, &id.to_be_bytes())
}

/// The same with a reason code (5.0).
pub fn acknowledge_with(kind: u8, id: u16, reason: u8) -> Vec<u8> {
    let flags = if kind == crate::heard::kind::PUBREL { 0x02 } else { 0x00 };
    packet(kind << 4 | flags, &[id.to_be_bytes().as_slice(), &[reason]].concat())
}

/// DISCONNECT with a reason and properties (5.0).
pub fn disconnect_with(reason: u8, properties: &[Property]) -> Vec<u8> {
    packet(0xE0, &[&[reason], property::field(properties).as_slice()].concat())
}

/// AUTH with a reason and properties (5.0).
pub fn auth(reason: u8, properties: &[Property]) -> Vec<u8> {
    packet(0xF0, &[&[reason], property::field(properties).as_slice()].concat())
}

/// PINGREQ.
pub const PINGREQ: [u8; 2] = [0xC0, 0x00];

/// DISCONNECT in the short form that all versions share.
pub const DISCONNECT: [u8; 2] = [0xE0, 0x00];
