//! What a strict reader finds in the bytes of a client: faults by name, and features that rules refer to.
//!
//! Written from the standards alone, shares nothing with either broker. A name stands for one clause or a few; rules in
//! `differences.toml` say for which of them the brokers differ and why.

use std::collections::BTreeSet;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// Names of faults and features.
    pub found: BTreeSet<String>,
    /// The bytes end with a whole packet: a further packet may follow.
    pub complete: bool,
    /// A DISCONNECT is among them, well-formed or not.
    pub leaves: bool,
    /// Packet identifiers that it uses or gives back.
    pub identifiers: Identifiers,
    /// Client identifier of a CONNECT, as far as it can be read.
    pub client_id: Option<Vec<u8>>,
    /// User name of a CONNECT.
    pub user: Option<Vec<u8>>,
    /// Protocol level of a CONNECT that names 3, 4 or 5.
    pub level: Option<u8>,
}

/// Packet identifiers that matter to the exchange of QoS 2.
#[derive(Clone, Debug, Default)]
pub struct Identifiers {
    /// Of new messages: QoS 2 without DUP, or QoS 1.
    pub new: Vec<u16>,
    /// Of messages with QoS 2.
    pub opened: Vec<u16>,
    /// Of PUBREL.
    pub released: Vec<u16>,
}

/// End of the packet before its end was due.
struct Short;

type Read<T> = Result<T, Short>;

struct Reader<'a, 'f> {
    rest: &'a [u8],
    found: &'f mut BTreeSet<String>,
}

impl Reader<'_, '_> {
    fn note(&mut self, name: impl Into<String>) {
        self.found.insert(name.into());
    }

    fn byte(&mut self) -> Read<u8> {
        let (first, rest) = self.rest.split_first().ok_or(Short)?;
        self.rest = rest;
        Ok(*first)
    }

    fn two(&mut self) -> Read<u16> {
        Ok(u16::from(self.byte()?) << 8 | u16::from(self.byte()?))
    }

    fn four(&mut self) -> Read<u32> {
        Ok(u32::from(self.two()?) << 16 | u32::from(self.two()?))
    }

    fn variable(&mut self) -> Read<u32> {
        let mut number = 0u32;
        for place in 0..4 {
            let byte = self.byte()?;
            number |= u32::from(byte & 0x7F) << (7 * place);
            if byte & 0x80 == 0 {
                if place > 0 && byte == 0 {
                    self.note("padded-integer");
                }
                return Ok(number);
            }
        }
        self.note("endless-integer");
        Err(Short)
    }

    fn counted(&mut self) -> Read<Vec<u8>> {
        let length = usize::from(self.two()?);
        if length > self.rest.len() {
            return Err(Short);
        }
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(text.to_vec())
    }

    fn text(&mut self, place: &str) -> Read<String> {
        let bytes = self.counted()?;
        match String::from_utf8(bytes) {
            Ok(text) => {
                if text.contains('\0') {
                    self.note(format!("nul:{place}"));
                }
                // U+0001..1F, U+007F..9F and the non-characters: allowed, though they SHOULD NOT be sent.
                let odd = |it: char| {
                    let number = u32::from(it);
                    (it.is_control() && it != '\0')
                        || number & 0xFFFE == 0xFFFE
                        || (0xFDD0..=0xFDEF).contains(&number)
                };
                if text.contains(odd) {
                    self.note("control-character");
                }
                Ok(text)
            }
            Err(_) => {
                self.note(format!("utf8:{place}"));
                Ok(String::new())
            }
        }
    }

    /// A property field; `allowed` are the identifiers that this packet may carry.
    fn properties(&mut self, allowed: &[u8], place: &str) -> Read<()> {
        let length = self.variable()? as usize;
        if length > self.rest.len() {
            return Err(Short);
        }
        let (field, rest) = self.rest.split_at(length);
        self.rest = rest;
        let mut inner = Reader { rest: field, found: self.found };
        let mut seen = BTreeSet::new();
        while !inner.rest.is_empty() {
            let id = inner.variable()?;
            let id = u8::try_from(id).unwrap_or(0);
            if !allowed.contains(&id) {
                inner.note(format!("property-misplaced:{place}"));
            }
            if !seen.insert(id) && id != 0x26 && !(id == 0x0B && place == "publish") {
                inner.note(format!("property-twice:{place}"));
            }
            inner.value(id, place)?;
        }
        let has = |id: u8| seen.contains(&id);
        if has(0x16) && !has(0x15) {
            self.note("authentication-data-without-method");
        }
        if has(0x15) {
            self.note("authentication");
        }
        if has(0x23) {
            self.note("alias");
        }
        Ok(())
    }

    fn value(&mut self, id: u8, place: &str) -> Read<()> {
        match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => {
                if self.byte()? > 1 {
                    self.note(format!("property-value:{id:#04x}:{place}"));
                }
            }
            0x13 | 0x22 => drop(self.two()?),
            0x21 | 0x23 => {
                let number = self.two()?;
                if number == 0 {
                    self.note(format!("property-value:{id:#04x}:{place}"));
                }
                if id == 0x21 {
                    self.note("receive-maximum");
                }
                if id == 0x23 && number > 10 {
                    self.note("alias-above-maximum");
                }
            }
            0x27 => {
                let number = self.four()?;
                if number == 0 {
                    self.note(format!("property-value:{id:#04x}:{place}"));
                }
                self.note("maximum-packet-size");
            }
            0x02 | 0x11 | 0x18 => {
                let number = self.four()?;
                if id == 0x18 && number > 0 {
                    self.note("will-delay");
                }
            }
            0x0B => {
                if self.variable()? == 0 {
                    self.note(format!("property-value:{id:#04x}:{place}"));
                }
                self.note("subscription-identifier");
            }
            0x09 | 0x16 => drop(self.counted()?),
            0x26 => {
                self.text("property")?;
                self.text("property")?;
            }
            0x08 => {
                let topic = self.text("property")?;
                if topic.contains(['+', '#']) {
                    self.note("response-topic-wildcard");
                }
                if topic.is_empty() {
                    self.note("response-topic-empty");
                }
            }
            0x03 | 0x12 | 0x15 | 0x1A | 0x1C | 0x1F => drop(self.text("property")?),
            _ => {
                self.note(format!("property-unknown:{place}"));
                return Err(Short);
            }
        }
        Ok(())
    }

    fn end(&mut self, place: &str) {
        if !self.rest.is_empty() {
            self.note(format!("trailing:{place}"));
        }
    }
}

/// Judges bytes of a client on a connection of this level; `None` before its CONNECT.
pub fn judge(level: Option<u8>, bytes: &[u8]) -> Judgement {
    let mut judgement = Judgement { complete: true, level, ..Judgement::default() };
    let mut rest = bytes;
    let mut first = level.is_none();
    while !rest.is_empty() {
        let Some((head, body, after)) = frame(rest, &mut judgement) else {
            judgement.complete = false;
            judgement.found.insert("incomplete".into());
            return judgement;
        };
        if first && head >> 4 != 1 {
            judgement.found.insert("first-not-connect".into());
        } else if !first && head >> 4 == 1 {
            judgement.found.insert("second-connect".into());
        }
        let mut found = std::mem::take(&mut judgement.found);
        let mut reader = Reader { rest: body, found: &mut found };
        let name = NAMES[usize::from(head >> 4)];
        reader.note(name);
        if packet(&mut reader, head, &mut judgement).is_err() {
            reader.note(format!("short:{name}"));
        }
        judgement.found = found;
        judgement.leaves |= head >> 4 == 14;
        first = false;
        rest = after;
    }
    judgement
}

const NAMES: [&str; 16] = [
    "reserved",
    "connect",
    "connack",
    "publish",
    "puback",
    "pubrec",
    "pubrel",
    "pubcomp",
    "subscribe",
    "suback",
    "unsubscribe",
    "unsuback",
    "pingreq",
    "pingresp",
    "disconnect",
    "auth",
];

/// First byte, body, and what follows.
fn frame<'a>(bytes: &'a [u8], judgement: &mut Judgement) -> Option<(u8, &'a [u8], &'a [u8])> {
    let mut reader = Reader { rest: &bytes[1..], found: &mut judgement.found };
    let length = reader.variable().ok()? as usize;
    if length > 2_000_000 {
        reader.note("too-large");
    }
    let rest = reader.rest;
    (length <= rest.len()).then(|| (bytes[0], &rest[..length], &rest[length..]))
}

fn packet(reader: &mut Reader<'_, '_>, head: u8, judgement: &mut Judgement) -> Read<()> {
    let kind = head >> 4;
    let name = NAMES[usize::from(kind)];
    let five = judgement.level == Some(5);
    let due = if matches!(kind, 6 | 8 | 10) { 2 } else { 0 };
    if kind != 3 && head & 15 != due {
        reader.note(format!("flags:{name}"));
    }
    match kind {
        1 => return connect(reader, judgement),
        3 => return publish(reader, head, five, &mut judgement.identifiers),
        4..=7 => return acknowledge(reader, kind, five, &mut judgement.identifiers),
        8 | 10 => return request(reader, kind, five),
        12 => {}
        14 if five => {
            if !reader.rest.is_empty() {
                let reason = reader.byte()?;
                if !matches!(
                    reason,
                    0 | 4 | 0x80..=0x83 | 0x87 | 0x90 | 0x93..=0x95 | 0x96 | 0x97 | 0x98 | 0x99
                ) {
                    reader.note("disconnect-reason");
                }
                if reason != 0 {
                    reader.note("disconnect-with-reason");
                }
                if !reader.rest.is_empty() {
                    reader.properties(&[0x11, 0x1F, 0x26], name)?;
                }
            }
        }
        14 => {}
        15 if five => {
            if !reader.rest.is_empty() {
                reader.byte()?;
                reader.properties(&[0x15, 0x16, 0x1F, 0x26], name)?;
            }
        }
        _ => {
            reader.note("foreign-packet");
            return Ok(());
        }
    }
    reader.end(name);
    Ok(())
}

fn connect(reader: &mut Reader<'_, '_>, judgement: &mut Judgement) -> Read<()> {
    let name = reader.counted()?;
    let level = reader.byte()?;
    match (name.as_slice(), level) {
        (b"MQIsdp", 3) | (b"MQTT", 4 | 5) => {}
        (b"MQIsdp", 0x83) | (b"MQTT", 0x84) => reader.note("bridge-bit"),
        (b"MQIsdp" | b"MQTT", _) => reader.note("protocol-level"),
        _ => reader.note("protocol-name"),
    }
    if judgement.level.is_none() && matches!(level & 0x7F, 3..=5) {
        judgement.level = Some(level & 0x7F);
    }
    let flags = reader.byte()?;
    let five = level == 5;
    let will = flags & 4 != 0;
    if flags & 1 != 0 {
        reader.note("connect-reserved-flag");
    }
    if !will && flags & 0x38 != 0 {
        reader.note("will-bits-without-will");
    }
    if flags & 0x18 == 0x18 {
        reader.note("will-qos-3");
    }
    if level & 0x7F < 5 && flags & 0xC0 == 0x40 {
        reader.note("password-without-user");
    }
    reader.two()?;
    if five {
        reader.properties(&[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27], "connect")?;
    }
    let id = reader.text("client-id")?;
    if id.is_empty() {
        reader.note(if flags & 2 == 0 { "empty-id-kept" } else { "empty-id" });
    }
    judgement.client_id = Some(id.into_bytes());
    if will {
        reader.note("will");
        if flags & 0x20 != 0 {
            reader.note("will-retain");
        }
        if five {
            reader.properties(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26], "will")?;
        }
        topic(reader, "will-topic")?;
        reader.counted()?;
    }
    if flags & 0x80 != 0 {
        reader.note("user");
        judgement.user = Some(reader.text("user")?.into_bytes());
    }
    if flags & 0x40 != 0 {
        reader.counted()?;
    }
    reader.end("connect");
    Ok(())
}

fn topic(reader: &mut Reader<'_, '_>, place: &str) -> Read<()> {
    let topic = reader.text(place)?;
    if topic.contains(['+', '#']) {
        reader.note(format!("{place}-wildcard"));
    }
    if topic.is_empty() {
        reader.note(format!("{place}-empty"));
    }
    if topic.starts_with('$') {
        reader.note(format!("{place}-dollar"));
        if topic.starts_with("$SYS") {
            reader.note(format!("{place}-sys"));
            if topic.len() > 4 && !topic.starts_with("$SYS/") {
                reader.note(format!("{place}-like-sys"));
            }
        }
        if topic.starts_with("$share") {
            reader.note(format!("{place}-share"));
        }
        if topic.starts_with("$CONTROL") {
            reader.note(format!("{place}-control"));
        }
    }
    Ok(())
}

fn publish(reader: &mut Reader<'_, '_>, head: u8, five: bool, used: &mut Identifiers) -> Read<()> {
    let qos = head >> 1 & 3;
    if qos == 3 {
        reader.note("qos-3");
    }
    if qos == 0 && head & 8 != 0 {
        reader.note("dup-qos-0");
    }
    if head & 8 != 0 {
        reader.note("dup");
    }
    if head & 1 != 0 {
        reader.note("retain");
    }
    topic(reader, "topic")?;
    if qos > 0 {
        let id = reader.two()?;
        if id == 0 {
            reader.note("packet-id-0");
        }
        if qos == 2 {
            used.opened.push(id);
        }
        if qos == 1 || head & 8 == 0 {
            used.new.push(id);
        }
    }
    if five {
        if reader.rest.is_empty() {
            return Err(Short);
        }
        reader.properties(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26], "publish")?;
    }
    Ok(())
}

fn acknowledge(reader: &mut Reader<'_, '_>, kind: u8, five: bool, used: &mut Identifiers) -> Read<()> {
    let name = NAMES[usize::from(kind)];
    let id = reader.two()?;
    if id == 0 {
        reader.note("packet-id-0");
    }
    if kind == 6 {
        used.released.push(id);
    }
    if five && !reader.rest.is_empty() {
        let reason = reader.byte()?;
        let known = match kind {
            4 | 5 => matches!(reason, 0 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99),
            _ => matches!(reason, 0 | 0x92),
        };
        if !known {
            reader.note("acknowledgement-reason");
        }
        if !reader.rest.is_empty() {
            reader.properties(&[0x1F, 0x26], name)?;
        }
    }
    reader.end(name);
    Ok(())
}

fn request(reader: &mut Reader<'_, '_>, kind: u8, five: bool) -> Read<()> {
    let name = NAMES[usize::from(kind)];
    if reader.two()? == 0 {
        reader.note("packet-id-0");
    }
    if five {
        reader.properties(if kind == 8 { &[0x0B, 0x26] } else { &[0x26] }, name)?;
    }
    if reader.rest.is_empty() {
        reader.note(format!("no-filters:{name}"));
    }
    while !reader.rest.is_empty() {
        let filter = reader.text("filter")?;
        let shared = shape_of_filter(reader, &filter);
        if kind == 8 {
            let options = reader.byte()?;
            options_of(reader, options, five, shared);
        }
    }
    Ok(())
}

fn shape_of_filter(reader: &mut Reader<'_, '_>, filter: &str) -> bool {
    let shared = filter == "$share" || filter.starts_with("$share/");
    if filter == "$share" {
        reader.note("share-alone");
    }
    let topic = if shared {
        reader.note("share");
        let mut parts = filter.splitn(3, '/').skip(1);
        let (group, topic) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if group.is_empty() || group.contains(['+', '#']) || topic.is_empty() {
            reader.note("share-form");
        }
        topic
    } else {
        filter
    };
    if topic.is_empty() && !shared {
        reader.note("filter-empty");
    }
    if topic.starts_with('$') {
        reader.note("filter-dollar");
    }
    let levels: Vec<&str> = topic.split('/').collect();
    for (place, level) in levels.iter().enumerate() {
        let alone = level.len() == 1;
        let last = place + 1 == levels.len();
        if (level.contains('+') && !alone) || (level.contains('#') && !(alone && last)) {
            reader.note("filter-form");
        }
    }
    shared
}

fn options_of(reader: &mut Reader<'_, '_>, options: u8, five: bool, shared: bool) {
    if options & 3 == 3 {
        reader.note("subscribe-qos-3");
    }
    if !five {
        if options & 0xFC != 0 {
            reader.note("subscribe-reserved-bits");
        }
        return;
    }
    if options & 0xC0 != 0 {
        reader.note("subscribe-reserved-bits");
    }
    if options & 0x30 == 0x30 {
        reader.note("retain-handling-3");
    }
    if options & 0x08 != 0 {
        reader.note("retain-as-published");
    }
    if options & 0x04 != 0 {
        reader.note(if shared { "no-local-shared" } else { "no-local" });
    }
}
