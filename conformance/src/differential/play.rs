//! Doing a step to one broker, and hearing its answer in a form in which what the standard leaves free is equal.

use std::collections::{BTreeMap, HashMap};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::judge::Judgement;
use super::step::{Deed, Step};

/// How long an answer may take before silence is a finding of its own.
const PATIENCE: Duration = Duration::from_secs(4);

/// Packet identifier of the fence; nobody else uses it.
const FENCE: u16 = 0xFFFE;

/// What one broker did on one connection during one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// All but messages, in their order.
    pub answers: Vec<String>,
    /// Messages, in their order within a topic and QoS.
    pub messages: Vec<String>,
    /// The connection ended.
    pub closed: bool,
    /// The fence was not answered, and the connection did not end.
    pub silent: bool,
}

/// A message on its way to the client: its text without identifier, and how far its handshake is.
#[derive(Clone, Debug)]
struct UnderWay {
    text: String,
    qos: u8,
    /// The client has said PUBREC.
    received: bool,
    /// The broker has said PUBREL.
    released: bool,
}

struct Connection {
    stream: TcpStream,
    inbox: Vec<u8>,
    level: u8,
    client_id: Vec<u8>,
    aliases: HashMap<u16, String>,
    greeted: bool,
}

/// One broker with its two connections.
pub struct Player {
    address: SocketAddr,
    slots: [Option<Connection>; 2],
    /// By client identifier: messages under way, by packet identifier.
    sessions: HashMap<Vec<u8>, BTreeMap<u16, UnderWay>>,
    /// User name of the CONNECT that is said next.
    pub user: Option<Vec<u8>>,
    /// Client identifiers that the broker assigned, with their user names.
    pub assigned: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Player {
    /// For the broker at this address.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, slots: [None, None], sessions: HashMap::new(), user: None, assigned: Vec::new() }
    }

    /// Is there a connection, and of which level?
    pub fn level(&self, slot: usize) -> Option<u8> {
        self.slots[slot].as_ref().map(|it| it.level)
    }

    /// Client identifier of the connection there.
    pub fn client_id(&self, slot: usize) -> Option<&[u8]> {
        self.slots[slot].as_ref().map(|it| it.client_id.as_slice())
    }

    /// How many messages wait for the client's acknowledgement there.
    pub fn under_way(&self, slot: usize) -> usize {
        let id = self.slots[slot].as_ref().map(|it| &it.client_id);
        id.and_then(|id| self.sessions.get(id)).map_or(0, BTreeMap::len)
    }

    /// Says what the step says; `false` when it does not apply here (then nothing was said).
    pub fn say(&mut self, step: &Step, judgement: &Judgement) -> bool {
        let slot = step.slot;
        match &step.deed {
            Deed::Open(bytes) => {
                self.close(slot);
                let Ok(stream) = TcpStream::connect_timeout(&self.address, PATIENCE) else {
                    panic!("{} does not accept connections any more: the broker is gone", self.address);
                };
                let _ = stream.set_nodelay(true);
                let mut connection = Connection {
                    stream,
                    inbox: Vec::new(),
                    level: judgement.level.unwrap_or(4),
                    client_id: judgement.client_id.clone().unwrap_or_default(),
                    aliases: HashMap::new(),
                    greeted: false,
                };
                connection.write(bytes);
                if !judgement.complete {
                    connection.half_close();
                }
                self.slots[slot] = Some(connection);
            }
            Deed::Say(bytes) => {
                let Some(connection) = &mut self.slots[slot] else { return false };
                let mut all = bytes.clone();
                if judgement.complete && !judgement.leaves {
                    all.extend(connection.fence());
                }
                connection.write(&all);
                if !judgement.complete || judgement.leaves {
                    connection.half_close();
                }
            }
            Deed::Answer { place, kind, reason } => {
                let Some(mut bytes) = self.answer(slot, *place, *kind, *reason) else { return false };
                let Some(connection) = &mut self.slots[slot] else { return false };
                bytes.extend(connection.fence());
                connection.write(&bytes);
            }
            Deed::Drop => {
                let Some(connection) = &mut self.slots[slot] else { return false };
                connection.half_close();
            }
        }
        true
    }

    /// Asks the other connection to say what it heard.
    pub fn prompt(&mut self, slot: usize) {
        if let Some(connection) = &mut self.slots[slot] {
            let fence = connection.fence();
            connection.write(&fence);
        }
    }

    /// Hears everything up to the fence or to the end of the connection.
    pub fn hear(&mut self, slot: usize) -> Heard {
        let mut heard = Heard::default();
        let mut sorted: BTreeMap<(String, u8), Vec<Message>> = BTreeMap::new();
        let Some(connection) = &mut self.slots[slot] else { return heard };
        let until = Instant::now() + PATIENCE;
        loop {
            let Some((head, body)) = connection.cut() else {
                match connection.fill(until) {
                    Filled::Some => continue,
                    Filled::Closed => heard.closed = true,
                    Filled::Nothing => heard.silent = true,
                }
                break;
            };
            if head == 0xB0 && body.starts_with(&FENCE.to_be_bytes()) {
                break;
            }
            if let Some(id) = assigned_id(connection.level, head, &body) {
                connection.client_id = id.clone();
                self.assigned.push((id, self.user.clone()));
            }
            let session = self.sessions.entry(connection.client_id.clone()).or_default();
            if head >> 4 == 3 {
                let message = message(connection, session, head, &body);
                sorted.entry((message.topic.clone(), message.qos)).or_default().push(message);
                continue;
            }
            let text = answer_text(connection.level, session, head, &body);
            if head == 0x20 && body.get(1) == Some(&0) && !connection.greeted {
                connection.greeted = true;
                if body[0] & 1 == 0 {
                    session.clear();
                }
                let fence = connection.fence();
                connection.write(&fence);
            }
            heard.answers.push(text);
        }
        heard.messages = sorted.into_values().flat_map(in_order).collect();
        if heard.closed || heard.silent {
            self.close(slot);
        }
        heard
    }

    fn close(&mut self, slot: usize) {
        if let Some(mut connection) = self.slots[slot].take() {
            // The broker is to have noticed before anything else is done.
            connection.half_close();
            let until = Instant::now() + PATIENCE;
            while connection.fill(until) == Filled::Some {}
        }
    }

    /// Closes both connections and forgets what was under way.
    pub fn forget(&mut self) {
        self.close(0);
        self.close(1);
        self.sessions.clear();
    }

    fn answer(&mut self, slot: usize, place: usize, kind: u8, reason: u8) -> Option<Vec<u8>> {
        let connection = self.slots[slot].as_ref()?;
        let session = self.sessions.get_mut(&connection.client_id)?;
        let mut waiting: Vec<(&UnderWay, u16)> = session.iter().map(|(id, it)| (it, *id)).collect();
        waiting.sort_by(|a, b| (&a.0.text, a.0.received).cmp(&(&b.0.text, b.0.received)));
        let (message, id) = *waiting.get(place.checked_rem(waiting.len())?)?;
        let due = match (message.qos, message.released) {
            (1, _) => 4,
            (_, false) => 5,
            (_, true) => 7,
        };
        let kind = if kind == 0 { due } else { kind };
        let head = kind << 4 | if kind == 6 { 2 } else { 0 };
        let mut body = id.to_be_bytes().to_vec();
        if reason != 0 && connection.level == 5 {
            body.push(reason);
        }
        if kind == due {
            if kind == 5 && reason < 0x80 {
                if let Some(message) = session.get_mut(&id) {
                    message.received = true;
                }
            } else {
                session.remove(&id);
            }
        }
        Some(crate::words::packet(head, &body))
    }
}

#[derive(PartialEq, Eq)]
enum Filled {
    Some,
    Closed,
    Nothing,
}

impl Connection {
    fn write(&mut self, bytes: &[u8]) {
        // A broker that closed is noticed at reading.
        let _ = self.stream.write_all(bytes);
    }

    fn half_close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    fn fence(&self) -> Vec<u8> {
        let mut body = FENCE.to_be_bytes().to_vec();
        if self.level == 5 {
            body.push(0);
        }
        body.extend(crate::words::counted("fence"));
        crate::words::packet(0xA2, &body)
    }

    fn fill(&mut self, until: Instant) -> Filled {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let _ = self.stream.set_read_timeout(Some(left));
        let mut buffer = [0; 8 * 1024];
        loop {
            return match self.stream.read(&mut buffer) {
                Ok(0) => Filled::Closed,
                Ok(count) => {
                    self.inbox.extend(&buffer[..count]);
                    Filled::Some
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    Filled::Nothing
                }
                Err(_) => Filled::Closed,
            };
        }
    }

    /// The next whole packet.
    fn cut(&mut self) -> Option<(u8, Vec<u8>)> {
        let packet = crate::heard::Packet::cut(&mut self.inbox)?;
        Some((packet.kind << 4 | packet.flags, packet.body))
    }
}

/// Copies of one message, by several subscriptions, come in any order.
fn in_order(messages: Vec<Message>) -> Vec<String> {
    let copies = messages.chunk_by(|a, b| a.payload == b.payload);
    copies
        .flat_map(|copies| {
            let mut texts: Vec<String> = copies.iter().map(|it| it.text.clone()).collect();
            texts.sort();
            texts
        })
        .collect()
}

/// A message that came, as text.
struct Message {
    topic: String,
    qos: u8,
    payload: String,
    text: String,
}

/// A message as text without its packet identifier: topic, QoS, and all that must agree.
fn message(
    connection: &mut Connection,
    session: &mut BTreeMap<u16, UnderWay>,
    head: u8,
    body: &[u8],
) -> Message {
    let rest = &mut &*body;
    let mut topic = String::from_utf8_lossy(&crate::heard::counted(rest)).into_owned();
    let (qos, dup, retain) = (head >> 1 & 3, head >> 3 & 1, head & 1);
    let id = if qos > 0 { crate::heard::two(rest) } else { 0 };
    let properties = if connection.level == 5 { crate::property::read(rest) } else { Vec::new() };
    if let Some(alias) = crate::property::number(&properties, crate::property::TOPIC_ALIAS) {
        let alias = alias as u16;
        if topic.is_empty() {
            topic = connection.aliases.get(&alias).cloned().unwrap_or_else(|| "(no such alias)".into());
        } else {
            connection.aliases.insert(alias, topic.clone());
        }
    }
    let payload = String::from_utf8_lossy(rest).into_owned();
    let shown = if payload.len() > 40 { format!("{} bytes", payload.len()) } else { payload.clone() };
    let bare = format!("{topic:?} q{qos} r{retain} {shown:?}{}", property_text(&properties));
    let mut text = format!("PUBLISH d{dup} {bare}");
    if qos > 0 {
        match session.get(&id) {
            Some(known) if known.text != bare => text += " (identifier in use)",
            Some(_) if dup == 0 => text += " (again without dup)",
            Some(_) => {}
            None if dup == 1 => text += " (dup with a new identifier)",
            None => {}
        }
        let received = session.get(&id).is_some_and(|it| it.received);
        session.insert(id, UnderWay { text: bare, qos, received, released: false });
    }
    Message { topic, qos, payload, text }
}

/// The client identifier that a CONNACK assigns.
fn assigned_id(level: u8, head: u8, body: &[u8]) -> Option<Vec<u8>> {
    if level != 5 || head != 0x20 || body.len() < 3 {
        return None;
    }
    let properties = crate::property::read(&mut &body[2..]);
    crate::property::text(&properties, crate::property::ASSIGNED_CLIENT_ID).map(String::into_bytes)
}

fn answer_text(level: u8, session: &mut BTreeMap<u16, UnderWay>, head: u8, body: &[u8]) -> String {
    let five = level == 5;
    let rest = &mut &*body;
    let properties = |rest: &mut &[u8]| {
        if five && !rest.is_empty() { property_text(&crate::property::read(rest)) } else { String::new() }
    };
    match head >> 4 {
        2 if body.len() >= 2 => {
            let (flags, code) = (crate::heard::byte(rest), crate::heard::byte(rest));
            format!("CONNACK {flags} {code:#04x}{}", properties(rest))
        }
        kind @ (4..=7) if body.len() >= 2 => {
            let name = ["PUBACK", "PUBREC", "PUBREL", "PUBCOMP"][usize::from(kind - 4)];
            let id = crate::heard::two(rest);
            let reason = if rest.is_empty() { 0 } else { crate::heard::byte(rest) };
            let about = if kind == 6 {
                match session.get_mut(&id) {
                    Some(message) => {
                        message.released = true;
                        message.received = true;
                        message.text.clone()
                    }
                    None => "of nothing".into(),
                }
            } else {
                id.to_string()
            };
            format!("{name} {about} {reason:#04x}{}", properties(rest))
        }
        kind @ (9 | 11) if body.len() >= 2 => {
            let id = crate::heard::two(rest);
            let said = properties(rest);
            format!("{} {id} {rest:02x?}{said}", if kind == 9 { "SUBACK" } else { "UNSUBACK" })
        }
        13 => "PINGRESP".into(),
        14 => {
            let reason = if rest.is_empty() { 0 } else { crate::heard::byte(rest) };
            format!("DISCONNECT {reason:#04x}{}", properties(rest))
        }
        kind => format!("packet {kind} {body:02x?}"),
    }
}

/// Properties in the order of their identifiers, but user properties in their own; reason strings and aliases are free.
fn property_text(properties: &[crate::property::Property]) -> String {
    use crate::property::{ASSIGNED_CLIENT_ID, MESSAGE_EXPIRY, REASON_STRING, TOPIC_ALIAS, Value};
    let mut sorted: Vec<_> =
        properties.iter().filter(|it| !matches!(it.id, TOPIC_ALIAS | REASON_STRING)).collect();
    sorted.sort_by_key(|it| (it.id, if it.id == 0x0B { it.number() } else { 0 }));
    let mut out = String::new();
    for property in sorted {
        out += &match &property.value {
            // A second may pass on its way.
            Value::Four(number) if property.id == MESSAGE_EXPIRY => {
                format!(" {:#04x}~{}", property.id, number.saturating_add(5) / 10 * 10)
            }
            Value::Bytes(text) if property.id == ASSIGNED_CLIENT_ID && text.starts_with(b"auto-") => {
                format!(" {:#04x}=auto-", property.id)
            }
            Value::Byte(number) => format!(" {:#04x}={number}", property.id),
            Value::Two(number) => format!(" {:#04x}={number}", property.id),
            Value::Four(number) | Value::Variable(number) => format!(" {:#04x}={number}", property.id),
            Value::Bytes(text) => format!(" {:#04x}={:?}", property.id, String::from_utf8_lossy(text)),
            Value::Pair(name, value) => format!(
                " {:#04x}={:?}:{:?}",
                property.id,
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(value)
            ),
        };
    }
    out
}
