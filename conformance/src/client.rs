//! The blocking test client: a socket, a version, and the verbs of the tests.
//!
//! Verbs panic when the broker does something else than the test expects; [`Client::ending`] and [`Client::listen`] only
//! tell. It never acknowledges by itself, except in [`Client::take`].

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::heard::{Codes, ConnAck, Packet, kind};
use crate::property::Property;
use crate::words::{self, Connect, PINGREQ, Publish, Version};

/// How long something expected may take, on a machine that does other things too.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long silence is listened to before it counts.
pub const QUIET: Duration = Duration::from_millis(150);

/// One connection.
#[derive(Debug)]
pub struct Client {
    /// Version it speaks.
    pub version: Version,
    /// The CONNACK it was greeted with, once connected.
    pub greeting: Option<ConnAck>,
    stream: TcpStream,
    inbox: Vec<u8>,
    aside: VecDeque<Packet>,
}

/// What [`Client::listen`] heard.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Heard {
    Packet(Packet),
    Closed,
    Nothing,
}

/// How a connection ended, or that it did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The broker closed the connection.
    pub closed: bool,
    /// Reason in its DISCONNECT (5.0).
    pub reason: Option<u8>,
    /// Other packets that came before.
    pub others: Vec<Packet>,
}

impl Client {
    /// A connection on which nothing was said yet.
    pub fn open(version: Version) -> Self {
        Self::open_at(crate::subject::address(), version)
    }

    /// The same to another address.
    pub fn open_at(address: SocketAddr, version: Version) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the subject accepts connections");
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        Self { version, greeting: None, stream, inbox: Vec::new(), aside: VecDeque::new() }
    }

    /// Connects and is accepted.
    pub fn connect(connect: &Connect) -> Self {
        let (client, answer) = Self::try_connect(connect);
        assert_eq!(answer.code, 0, "CONNECT was refused: {answer:?}");
        client
    }

    /// Connects with a clean session and an identifier of its own.
    pub fn fresh(version: Version) -> Self {
        Self::connect(&Connect::new(version, unique_id()))
    }

    /// Connects and hears a CONNACK, whatever it says.
    pub fn try_connect(connect: &Connect) -> (Self, ConnAck) {
        let mut client = Self::open(connect.version);
        client.say(connect.bytes());
        let answer = client.hear().connack(connect.version);
        client.greeting = Some(answer.clone());
        (client, answer)
    }

    /// Sends bytes. A broker that already closed is noticed by the next verb that listens.
    pub fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Hears the next packet within [`PATIENCE`].
    pub fn hear(&mut self) -> Packet {
        match self.listen(PATIENCE) {
            Heard::Packet(packet) => packet,
            other => panic!("a packet was due, heard: {other:?}"),
        }
    }

    /// Hears a packet of this kind; others that come before are put aside and heard later.
    pub fn hear_kind(&mut self, wanted: u8) -> Packet {
        if let Some(place) = self.aside.iter().position(|it| it.kind == wanted) {
            return self.aside.remove(place).expect("the place was found a line above");
        }
        let mut skipped = Vec::new();
        let until = Instant::now() + PATIENCE;
        loop {
            match self.read(until.saturating_duration_since(Instant::now())) {
                Heard::Packet(packet) if packet.kind == wanted => {
                    self.aside.extend(skipped);
                    return packet;
                }
                Heard::Packet(packet) => skipped.push(packet),
                other => {
                    panic!("a packet of type {wanted} was due, heard: {other:?}, before it: {skipped:?}")
                }
            }
        }
    }

    /// What happens next, for at most this long.
    pub fn listen(&mut self, patience: Duration) -> Heard {
        match self.aside.pop_front() {
            Some(packet) => Heard::Packet(packet),
            None => self.read(patience),
        }
    }

    fn read(&mut self, patience: Duration) -> Heard {
        let until = Instant::now() + patience;
        loop {
            if let Some(packet) = Packet::cut(&mut self.inbox) {
                return Heard::Packet(packet);
            }
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).expect("a read timeout can be set");
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    assert!(self.inbox.is_empty(), "closed within a packet: {:02x?}", self.inbox);
                    return Heard::Closed;
                }
                Ok(count) => self.inbox.extend(&buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if Instant::now() >= until {
                        return Heard::Nothing;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Heard::Closed,
            }
        }
    }

    /// Hears exactly these bytes.
    pub fn expect_bytes(&mut self, expected: &[u8]) {
        let Packet { kind, flags, body } = self.hear();
        assert_eq!(words::packet(kind << 4 | flags, &body), expected, "other bytes were due");
    }

    /// Hears nothing for [`QUIET`], and the connection still serves.
    pub fn expect_quiet(&mut self) {
        self.expect_nothing(QUIET);
        self.expect_alive();
    }

    /// Hears nothing for so long.
    pub fn expect_nothing(&mut self, long: Duration) {
        let heard = self.listen(long);
        assert_eq!(heard, Heard::Nothing, "silence was due");
    }

    /// The connection still serves.
    pub fn expect_alive(&mut self) {
        self.say(PINGREQ);
        self.hear_kind(kind::PINGRESP);
    }

    /// The broker closes, without a packet but a DISCONNECT in 5.0, whose reason is returned.
    pub fn expect_closed(&mut self) -> Option<u8> {
        let ending = self.ending();
        assert!(ending.closed, "the connection should have ended: {ending:?}");
        assert!(ending.others.is_empty(), "only the end was due: {ending:?}");
        ending.reason
    }

    /// Listens until the connection ends or patience does.
    pub fn ending(&mut self) -> Ending {
        self.ending_within(PATIENCE)
    }

    /// The same with another patience.
    pub fn ending_within(&mut self, patience: Duration) -> Ending {
        let until = Instant::now() + patience;
        let mut ending = Ending { closed: false, reason: None, others: Vec::new() };
        loop {
            match self.listen(until.saturating_duration_since(Instant::now())) {
                Heard::Packet(packet) if packet.kind == kind::DISCONNECT && self.version == Version::V5 => {
                    assert_eq!(ending.reason, None, "a second DISCONNECT");
                    ending.reason = Some(packet.disconnect().0);
                }
                Heard::Packet(packet) => ending.others.push(packet),
                Heard::Closed => return Ending { closed: true, ..ending },
                Heard::Nothing => return ending,
            }
        }
    }

    /// Subscribes to one filter; the answer's code.
    pub fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.subscribe_with(&[], filter, options)
    }

    /// Subscribes to one filter with properties; the answer's code.
    pub fn subscribe_with(&mut self, properties: &[Property], filter: &str, options: u8) -> u8 {
        self.say(words::subscribe_with(self.version, 900, properties, &[(filter, options)]));
        let Codes { id, codes, .. } = self.hear_kind(kind::SUBACK).codes(kind::SUBACK, self.version);
        assert_eq!((id, codes.len()), (900, 1), "SUBACK does not fit its SUBSCRIBE");
        codes[0]
    }

    /// Subscribes to one filter and is granted what it asks.
    pub fn must_subscribe(&mut self, filter: &str, options: u8) {
        let code = self.subscribe(filter, options);
        assert_eq!(code, options & 3, "SUBSCRIBE {filter} was not granted");
    }

    /// Unsubscribes from one filter.
    pub fn unsubscribe(&mut self, filter: &str) {
        self.say(words::unsubscribe(self.version, 901, &[filter]));
        let answer = self.hear_kind(kind::UNSUBACK).codes(kind::UNSUBACK, self.version);
        assert_eq!(answer.id, 901, "UNSUBACK does not fit its UNSUBSCRIBE");
    }

    /// Publishes and goes through the whole handshake of its QoS.
    pub fn publish(&mut self, message: &Publish) {
        self.say(message.bytes(self.version));
        match message.qos {
            0 => self.expect_alive(),
            1 => self.expect_ack(kind::PUBACK, message.id),
            _ => {
                self.expect_ack(kind::PUBREC, message.id);
                self.say(words::acknowledge(kind::PUBREL, message.id));
                self.expect_ack(kind::PUBCOMP, message.id);
            }
        }
    }

    /// Hears an acknowledgement of this kind and identifier that is no refusal.
    pub fn expect_ack(&mut self, wanted: u8, id: u16) {
        let ack = self.hear_kind(wanted).ack(wanted, self.version);
        assert_eq!(ack.id, id, "another packet identifier was due");
        assert!(ack.reason < 0x80, "refused: {ack:?}");
    }

    /// Hears a message, without acknowledging.
    pub fn receive(&mut self) -> Publish {
        let packet = self.hear();
        packet.publish(self.version)
    }

    /// Hears a message and goes through the whole handshake of its QoS.
    pub fn take(&mut self) -> Publish {
        let message = self.hear_kind(kind::PUBLISH).publish(self.version);
        match message.qos {
            0 => {}
            1 => self.say(words::acknowledge(kind::PUBACK, message.id)),
            _ => {
                self.say(words::acknowledge(kind::PUBREC, message.id));
                self.expect_ack(kind::PUBREL, message.id);
                self.say(words::acknowledge(kind::PUBCOMP, message.id));
            }
        }
        message
    }

    /// Hears a message with this payload, and goes through its handshake.
    pub fn expect_message(&mut self, payload: &str) -> Publish {
        let message = self.take();
        assert_eq!(message.text(), payload, "another message was due");
        message
    }

    /// Leaves with DISCONNECT and waits until the broker let go.
    pub fn leave(mut self) {
        self.say(words::DISCONNECT);
        self.ending();
    }

    /// Goes without a word, and waits until the broker noticed: it closes its side too. A moment more is for what it then does.
    pub fn vanish(mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        self.ending_within(Duration::from_secs(5));
        drop(self);
        std::thread::sleep(Duration::from_millis(40));
    }

    /// How the connection ended, or that it goes on: asked by a PINGREQ behind what was said, so that nobody waits for silence.
    pub fn fate(&mut self) -> Ending {
        self.say(PINGREQ);
        let mut ending = Ending { closed: false, reason: None, others: Vec::new() };
        loop {
            match self.listen(PATIENCE) {
                Heard::Packet(packet) if packet.kind == kind::DISCONNECT && self.version == Version::V5 => {
                    ending.reason = Some(packet.disconnect().0);
                }
                Heard::Packet(packet) if packet.kind == kind::PINGRESP => return ending,
                Heard::Packet(packet) => ending.others.push(packet),
                Heard::Closed => return Ending { closed: true, ..ending },
                Heard::Nothing => return ending,
            }
        }
    }
}

/// A client identifier nobody used: letters and digits, under 23.
pub fn unique_id() -> String {
    format!("q{}n{}", run(), next())
}

/// A topic nobody used.
pub fn unique_topic() -> String {
    format!("conformance/{}/{}", run(), next())
}

fn next() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Differs between runs, for brokers that were there before us.
fn run() -> &'static str {
    static RUN: OnceLock<String> = OnceLock::new();
    RUN.get_or_init(|| {
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_millis());
        format!("{:x}x{:x}", millis & 0xFF_FFFF, std::process::id())
    })
}
