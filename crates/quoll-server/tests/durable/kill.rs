//! Brokers that die at any moment, and clients that go on with the next: nothing acknowledged is lost, QoS 2 comes once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quoll_mqtt::decode::Role;
use quoll_mqtt::packet::*;
use quoll_mqtt::{DecodeContext, Decoded, Delivery, PacketId, ProtocolVersion, QoS, ReasonCode, decode};

use crate::broker::Broker;
use crate::common::*;
use crate::{ack, chance};

/// A client whose broker may die at any time: each operation may answer that the connection is over.
struct Line {
    socket: TcpStream,
    bytes: Vec<u8>,
    session_present: bool,
}

impl Line {
    /// Resumes the client's session.
    fn connect(address: SocketAddr, client_id: &str) -> Option<Self> {
        let socket = TcpStream::connect(address).ok()?;
        socket.set_read_timeout(Some(Duration::from_millis(50))).ok()?;
        socket.set_nodelay(true).ok()?;
        let mut line = Self { socket, bytes: Vec::new(), session_present: false };
        let mut connect = connect_packet(client_id, ProtocolVersion::V311);
        connect.clean_start = false;
        line.send(&Packet::Connect(Box::new(connect)))?;
        let until = Instant::now() + LONG;
        while Instant::now() < until {
            if let Some(packet) = line.receive()? {
                let Packet::ConnAck(ack) = packet else { panic!("{packet:?}") };
                assert_eq!(ack.reason, ReasonCode::SUCCESS);
                line.session_present = ack.session_present;
                return Some(line);
            }
        }
        panic!("no CONNACK within {LONG:?}")
    }

    fn send(&mut self, packet: &Packet) -> Option<()> {
        self.socket.write_all(&bytes_of(packet, ProtocolVersion::V311)).ok()
    }

    /// The next packet, `Some(None)` where there is none for now, `None` where the connection is over.
    fn receive(&mut self) -> Option<Option<Packet>> {
        let context = DecodeContext {
            version: Some(ProtocolVersion::V311),
            maximum_packet_size: u32::MAX,
            role: Role::Client,
        };
        loop {
            if let Decoded::Packet(packet, used) = decode(&self.bytes, &context).unwrap() {
                self.bytes.drain(..used);
                return Some(Some(packet));
            }
            let mut buffer = [0; 4096];
            match self.socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(read) => self.bytes.extend(&buffer[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Some(None);
                }
                Err(_) => return None,
            }
        }
    }
}

/// Publishes numbers at QoS 2 or 1, one at a time, across any number of brokers: a number counts as acknowledged with
/// its PUBREC or PUBACK.
struct Publisher {
    name: String,
    qos: QoS,
    number: u32,
    /// Whether the present number's PUBREC came.
    received: bool,
    /// Whether the present number was sent before.
    again: bool,
    acknowledged: u32,
}

impl Publisher {
    fn new(name: String, qos: QoS) -> Self {
        Self { name, qos, number: 1, received: false, again: false, acknowledged: 0 }
    }

    /// Publishes until the connection is over, or `enough` and nothing is owed any more.
    fn run(&mut self, address: SocketAddr, enough: &AtomicBool) {
        let Some(mut line) = Line::connect(address, &self.name) else { return };
        if self.again {
            assert!(line.session_present, "{}: the session is lost", self.name);
        }
        while self.next(&mut line, enough).is_some() {}
    }

    fn next(&mut self, line: &mut Line, enough: &AtomicBool) -> Option<()> {
        if !self.again && enough.load(Ordering::Relaxed) {
            return None;
        }
        let id = PacketId::new((self.number % 60_000 + 1) as u16).unwrap();
        if self.received {
            line.send(&Packet::PubRel(ack(id)))?;
        } else {
            let delivery = match self.qos {
                QoS::ExactlyOnce => Delivery::ExactlyOnce(id),
                _ => Delivery::AtLeastOnce(id),
            };
            let text = format!("{} {}", self.name, self.number);
            let Packet::Publish(mut publish) = publish("numbers", text, delivery) else { return None };
            publish.dup = self.again;
            self.again = true;
            line.send(&Packet::Publish(publish))?;
        }
        loop {
            match line.receive()? {
                Some(Packet::PubAck(_)) | Some(Packet::PubComp(_)) => break,
                Some(Packet::PubRec(_)) => {
                    self.received = true;
                    self.acknowledged = self.number;
                    line.send(&Packet::PubRel(ack(id)))?;
                }
                Some(other) => panic!("{other:?}"),
                None => {}
            }
        }
        self.acknowledged = self.number;
        self.number += 1;
        (self.received, self.again) = (false, false);
        Some(())
    }
}

/// Takes messages, and remembers of QoS 2 what the standard says across any number of brokers.
struct Subscriber {
    name: String,
    qos: QoS,
    /// Identifiers whose PUBREL has not come.
    received: BTreeSet<PacketId>,
    /// How often each number of each publisher came, in the order of first arrival.
    heard: BTreeMap<String, Vec<(u32, u32)>>,
    known: bool,
}

impl Subscriber {
    fn new(name: &str, qos: QoS) -> Self {
        let (received, heard) = (BTreeSet::new(), BTreeMap::new());
        Self { name: name.into(), qos, received, heard, known: false }
    }

    /// Listens until the connection is over, or all came of which is known that it was said. Then it is waited for a
    /// while whether more comes than should.
    fn run(&mut self, address: SocketAddr, all: &OnceLock<Vec<Said>>) {
        let Some(mut line) = Line::connect(address, &self.name) else { return };
        if self.known {
            assert!(line.session_present, "{}: the session is lost", self.name);
        } else if line.send(&subscribe("numbers", self.qos)).is_none() {
            return;
        }
        let mut quiet = Instant::now();
        loop {
            if let Some(said) = all.get()
                && ((quiet.elapsed() > Duration::from_millis(700) && self.has(said))
                    || quiet.elapsed() > LONG)
            {
                return;
            }
            match line.receive() {
                None => return,
                Some(None) => continue,
                Some(Some(Packet::SubAck(_))) => self.known = true,
                Some(Some(Packet::Publish(publish))) => {
                    quiet = Instant::now();
                    let answer = match publish.delivery {
                        Delivery::AtMostOnce => panic!("QoS 0"),
                        Delivery::AtLeastOnce(id) => {
                            self.hear(&publish);
                            Packet::PubAck(ack(id))
                        }
                        Delivery::ExactlyOnce(id) => {
                            if self.received.insert(id) {
                                self.hear(&publish);
                            }
                            Packet::PubRec(ack(id))
                        }
                    };
                    if line.send(&answer).is_none() {
                        return;
                    }
                }
                Some(Some(Packet::PubRel(rel))) => {
                    self.received.remove(&rel.packet_id);
                    if line.send(&Packet::PubComp(ack(rel.packet_id))).is_none() {
                        return;
                    }
                }
                Some(Some(other)) => panic!("{other:?}"),
            }
        }
    }

    /// Whether it is subscribed, and each publisher's last message came. On a busy machine there may be long silences
    /// before that.
    fn has(&self, said: &[Said]) -> bool {
        let last = |name: &str| self.heard.get(name).and_then(|all| all.iter().map(|(it, _)| *it).max());
        self.known && said.iter().all(|(name, number)| last(name).unwrap_or(0) >= *number)
    }

    fn hear(&mut self, publish: &Publish) {
        let text = String::from_utf8(publish.payload.to_vec()).unwrap();
        let (name, number) = text.split_once(' ').unwrap();
        let (heard, number) = (self.heard.entry(name.into()).or_default(), number.parse().unwrap());
        match heard.iter_mut().rev().find(|(known, _)| *known == number) {
            Some((_, times)) => *times += 1,
            None => heard.push((number, 1)),
        }
    }

    fn check(&self, publisher: &Publisher) {
        let heard = self.heard.get(&publisher.name).map(Vec::as_slice).unwrap_or_default();
        let what = format!("{} of {}", self.name, publisher.name);
        let numbers: Vec<u32> = heard.iter().map(|(number, _)| *number).collect();
        let expected: Vec<u32> = (1..=publisher.acknowledged).collect();
        let missing: Vec<_> = expected.iter().filter(|number| !numbers.contains(number)).collect();
        assert!(missing.is_empty(), "{what}: of {} acknowledged: {missing:?} missing", expected.len());
        let misplaced = numbers.iter().zip(&expected).find(|(came, expected)| came != expected);
        assert!(misplaced.is_none(), "{what}: not in order: {misplaced:?}");
        // The last one may have come without its acknowledgement.
        assert!(numbers.len() <= expected.len() + 1, "{what}: {numbers:?}");
        if self.qos == QoS::ExactlyOnce && publisher.qos == QoS::ExactlyOnce {
            let twice: Vec<_> = heard.iter().filter(|(_, times)| *times > 1).collect();
            assert!(twice.is_empty(), "{what}: told more than once: {twice:?}");
        }
    }
}

/// A publisher's name, and the number of its last message that was acknowledged.
type Said = (String, u32);

/// When a life ends.
enum End {
    /// After so long, in the middle of everything.
    After(Duration),
    /// When all is said and all is heard, this before it included.
    Heard(Vec<Said>),
}

/// One life of a broker: all clients at it, and its end.
fn live(broker: Broker, publishers: &mut [Publisher], subscribers: &mut [Subscriber], end: End) {
    let (said, heard) = (AtomicBool::new(matches!(end, End::Heard(_))), OnceLock::new());
    let address = broker.address;
    // It outlives the clients, unless it is ended before.
    let mut broker = Some(broker);
    let publish = |publisher: &mut Publisher| {
        publisher.run(address, &said);
        (publisher.name.clone(), publisher.acknowledged)
    };
    std::thread::scope(|scope| {
        let publishing: Vec<_> =
            publishers.iter_mut().map(|publisher| scope.spawn(|| publish(publisher))).collect();
        for subscriber in subscribers {
            scope.spawn(|| subscriber.run(address, &heard));
        }
        match end {
            End::After(time) => {
                std::thread::sleep(time);
                let broker = broker.take().expect("it was not ended yet");
                if chance().is_multiple_of(4) { broker.terminate() } else { broker.kill() }
            }
            End::Heard(mut all) => {
                all.extend(publishing.into_iter().map(|thread| thread.join().unwrap()));
                heard.set(all).expect("once");
            }
        }
    });
}

fn kill_loop(shards: usize, durability: &str, rounds: u32) {
    let place = scratch(&format!("kill-{shards}-{durability}")).join("broker.db");
    let mut publishers: Vec<_> = (0..6)
        .map(|n| {
            Publisher::new(format!("publisher{n}"), if n < 4 { QoS::ExactlyOnce } else { QoS::AtLeastOnce })
        })
        .collect();
    let mut subscribers =
        [Subscriber::new("listener", QoS::ExactlyOnce), Subscriber::new("other", QoS::AtLeastOnce)];
    let mut absent = [Subscriber::new("absent", QoS::ExactlyOnce), Subscriber::new("gone", QoS::ExactlyOnce)];
    // All subscribe before anybody speaks.
    let broker = Broker::start(&place, shards, durability);
    for subscriber in subscribers.iter_mut().chain(&mut absent) {
        subscriber.run(broker.address, &OnceLock::from(Vec::new()));
        assert!(subscriber.known, "it never got its SUBACK");
    }
    broker.kill();
    for _ in 0..rounds {
        let broker = Broker::start(&place, shards, durability);
        let end = Duration::from_millis(50 + chance() % 250);
        live(broker, &mut publishers, &mut subscribers, End::After(end));
    }
    let broker = Broker::start(&place, shards, durability);
    live(broker, &mut publishers, &mut subscribers, End::Heard(Vec::new()));
    let said = publishers.iter().map(|it| (it.name.clone(), it.acknowledged)).collect();
    live(Broker::start(&place, shards, durability), &mut [], &mut absent, End::Heard(said));
    let acknowledged: u32 = publishers.iter().map(|publisher| publisher.acknowledged).sum();
    println!("{shards} shards, {durability}: {acknowledged} messages in {rounds} rounds");
    assert!(acknowledged > rounds, "hardly anything was said: {acknowledged}");
    for subscriber in subscribers.iter().chain(&absent) {
        publishers.iter().for_each(|publisher| subscriber.check(publisher));
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_qos_2_comes_once_however_often_the_broker_dies() {
    kill_loop(1, "power", 20);
}

#[test]
fn nor_between_two_shards() {
    kill_loop(2, "process", 20);
}
