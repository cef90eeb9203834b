//! A broker by hand at the far end: answers as a broker has to, writes down what it hears, breaks when told to.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use quoll_mqtt::decode::Role;
use quoll_mqtt::packet::*;
use quoll_mqtt::{DecodeContext, Decoded, Delivery, ProtocolVersion, ReasonCode, decode, encode};

/// A test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How the broker answers.
#[derive(Clone, Debug)]
pub(crate) struct Manners {
    /// CONNECTs that are refused, the first ones, each with this reason.
    pub(crate) refusals: Vec<ReasonCode>,
    /// Properties of CONNACK.
    pub(crate) allows: ConnAckProperties,
    /// Whether messages are acknowledged.
    pub(crate) acknowledges: bool,
    /// Written in place of CONNACK.
    pub(crate) instead: Option<Vec<u8>>,
    /// Whether it closes after that.
    pub(crate) hangs_up: bool,
    pub(crate) session_present: bool,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            refusals: Vec::new(),
            allows: ConnAckProperties::default(),
            acknowledges: true,
            instead: None,
            hangs_up: false,
            session_present: false,
        }
    }
}

#[derive(Default)]
struct Notes {
    /// What was heard, by connection.
    heard: Vec<Vec<Packet>>,
    sockets: Vec<TcpStream>,
    version: Option<ProtocolVersion>,
    manners: Manners,
}

pub(crate) struct Fake {
    pub(crate) port: u16,
    notes: Arc<(Mutex<Notes>, Condvar)>,
}

impl Fake {
    pub(crate) fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let notes = Notes { manners, ..Notes::default() };
        let notes = Arc::new((Mutex::new(notes), Condvar::new()));
        let shared = Arc::clone(&notes);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let mut notes = shared.0.lock().unwrap();
                let number = notes.heard.len();
                notes.heard.push(Vec::new());
                notes.sockets.push(socket.try_clone().unwrap());
                drop(notes);
                shared.1.notify_all();
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(socket, number, &shared));
            }
        });
        Self { port, notes }
    }

    /// Waits until what was heard is as wanted, and returns it; panics with it otherwise.
    pub(crate) fn wait(&self, what: &str, is_so: impl Fn(&[Vec<Packet>]) -> bool) -> Vec<Vec<Packet>> {
        let until = Instant::now() + PATIENCE;
        let mut notes = self.notes.0.lock().unwrap();
        while !is_so(&notes.heard) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: heard {:#?}", notes.heard);
            notes = self.notes.1.wait_timeout(notes, left).unwrap().0;
        }
        notes.heard.clone()
    }

    /// Waits for a whole connection: the `number`th with at least so many packets.
    pub(crate) fn connection(&self, number: usize, packets: usize) -> Vec<Packet> {
        let what = format!("{packets} packets of connection {number}");
        let heard = self.wait(&what, |heard| heard.get(number).is_some_and(|it| it.len() >= packets));
        heard[number].clone()
    }

    pub(crate) fn heard(&self) -> Vec<Vec<Packet>> {
        self.notes.0.lock().unwrap().heard.clone()
    }

    /// Says something on the newest connection.
    pub(crate) fn say(&self, packet: &Packet) {
        let version = self.notes.0.lock().unwrap().version.expect("somebody said CONNECT");
        let mut bytes = Vec::new();
        encode(packet, version, &mut bytes).unwrap();
        self.say_bytes(&bytes);
    }

    pub(crate) fn say_bytes(&self, bytes: &[u8]) {
        let socket = self.notes.0.lock().unwrap().sockets.last().unwrap().try_clone().unwrap();
        // It may have been closed by the other side, which is what some tests want.
        let _ = (&socket).write_all(bytes);
    }

    /// Breaks the newest connection.
    pub(crate) fn cut(&self) {
        let notes = self.notes.0.lock().unwrap();
        if let Some(socket) = notes.sockets.last() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.notes.0.lock().unwrap().manners);
    }
}

fn serve(mut socket: TcpStream, number: usize, shared: &(Mutex<Notes>, Condvar)) {
    let mut bytes = Vec::new();
    let mut version = None;
    let mut buffer = [0; 16 * 1024];
    loop {
        let context = DecodeContext { version, maximum_packet_size: u32::MAX, role: Role::Server };
        while let Ok(Decoded::Packet(packet, used)) = decode(&bytes, &DecodeContext { version, ..context }) {
            bytes.drain(..used);
            if let Packet::Connect(connect) = &packet {
                version = Some(connect.version);
            }
            let (mut answer, mut is_over) = (Vec::new(), false);
            {
                let mut notes = shared.0.lock().unwrap();
                notes.version = version;
                if let Packet::Connect(_) = &packet {
                    is_over = answer_connect(&mut notes.manners, version.unwrap(), &mut answer);
                } else if let Some(packet) = answer_to(&packet, &notes.manners) {
                    encode(&packet, version.unwrap(), &mut answer).unwrap();
                }
                notes.heard[number].push(packet);
            }
            shared.1.notify_all();
            if socket.write_all(&answer).is_err() {
                return;
            }
            if is_over {
                let _ = socket.shutdown(Shutdown::Both);
                return;
            }
        }
        match socket.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}

/// Answers CONNECT; whether the connection is over.
fn answer_connect(manners: &mut Manners, version: ProtocolVersion, answer: &mut Vec<u8>) -> bool {
    if let Some(instead) = &manners.instead {
        answer.extend_from_slice(instead);
        return manners.hangs_up;
    }
    let reason = if manners.refusals.is_empty() { None } else { Some(manners.refusals.remove(0)) };
    let ack = ConnAck {
        session_present: manners.session_present,
        reason: reason.unwrap_or(ReasonCode::SUCCESS),
        properties: manners.allows.clone(),
    };
    encode(&Packet::ConnAck(Box::new(ack)), version, answer).unwrap();
    reason.is_some()
}

fn answer_to(packet: &Packet, manners: &Manners) -> Option<Packet> {
    let ack = |packet_id| Ack::new(packet_id, ReasonCode::SUCCESS);
    Some(match packet {
        Packet::Subscribe(subscribe) => Packet::SubAck(Box::new(SubAck {
            packet_id: subscribe.packet_id,
            reasons: subscribe.subscriptions.iter().map(|it| ReasonCode(it.options.qos as u8)).collect(),
            properties: AckProperties::default(),
        })),
        Packet::Unsubscribe(unsubscribe) => Packet::UnsubAck(Box::new(UnsubAck {
            packet_id: unsubscribe.packet_id,
            reasons: unsubscribe.filters.iter().map(|_| ReasonCode::SUCCESS).collect(),
            properties: AckProperties::default(),
        })),
        Packet::PingReq => Packet::PingResp,
        Packet::Publish(publish) if manners.acknowledges => match publish.delivery {
            Delivery::AtMostOnce => return None,
            Delivery::AtLeastOnce(id) => Packet::PubAck(ack(id)),
            Delivery::ExactlyOnce(id) => Packet::PubRec(ack(id)),
        },
        Packet::PubRel(release) => Packet::PubComp(ack(release.packet_id)),
        Packet::PubRec(received) => Packet::PubRel(ack(received.packet_id)),
        _ => return None,
    })
}
