//! What the node saw at its door lately, for the doctor: who came from where, how far, and why not further.
//!
//! Bounded however many come: so many visitors, so many encounters of each, every text cut. A scanner pushes out other
//! strangers, never a device that was let in. In memory alone: what a node saw is gone with it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use quoll_broker::vocabulary::Departure;
use quoll_fleet::doctor::evidence::{Attribution, Encounter, Ending, Hello, Shown, Step};
use quoll_mqtt::{ProtocolVersion, ReasonCode};
use quoll_server::tls::{HelloFacts, PeerCertificate, PresentedCertificate};
use quoll_server::{ConnectFacts, Reached, ServerEvent};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Visitors remembered: an address, or an address with a name behind it. 200 devices need 200.
const VISITORS: usize = 4096;
/// Encounters of each.
const OF_EACH: usize = 6;
/// Characters of a text that came from outside.
const TEXT: usize = 120;
/// Cipher suites of a ClientHello. A device offers one or two, a browser seventeen.
const SUITES: usize = 24;
/// Connections of our own that are not to be taken for a device's.
const DISREGARDED: usize = 64;

/// The visitors' book.
#[derive(Default)]
pub(crate) struct Encounters(Mutex<Book>);

#[derive(Default)]
struct Book {
    visitors: HashMap<Key, Visitor>,
    /// The visitors in the order in which they are pushed out. Every CONNECT enters the book, so none may look through it.
    places: BTreeMap<Place, Key>,
    /// Counts what was entered.
    turn: u64,
    disregarded: VecDeque<String>,
}

/// An address; and the serial number or client id that came with it, where one did.
type Key = (IpAddr, Option<String>);

/// Whether it was let in once, and the turn in which it came last: strangers go first, the longest silent of them before.
type Place = (bool, u64);

struct Visitor {
    /// Each by itself: most visitors have one, and a queue makes room for four.
    encounters: VecDeque<Box<Encounter>>,
    place: Place,
}

/// Whose encounters are wanted.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Whose {
    /// The device's name: its certificate's common name.
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) serial: Option<String>,
    pub(crate) client_id: String,
}

impl Encounters {
    /// Notes what the broker tells.
    pub(crate) fn note(&self, event: &ServerEvent) {
        match event {
            ServerEvent::HandshakeFailed {
                peer,
                listener,
                reason,
                alert,
                hello,
                secure,
                reached,
                certificate,
            } => {
                let mut encounter = blank(*peer, listener);
                encounter.secure = *secure;
                encounter.reached = step(*reached);
                encounter.reason = cut(reason);
                encounter.alert = *alert;
                encounter.hello = hello.as_deref().map(said);
                encounter.certificate = certificate.as_deref().map(shown);
                let who =
                    encounter.certificate.as_ref().map(|it| it.serial.clone()).filter(|it| !it.is_empty());
                self.lock().enter((peer.ip(), who), encounter);
            }
            ServerEvent::Refused { peer, client_id, reason, .. } => {
                self.lock().refused(*peer, client_id, *reason)
            }
            ServerEvent::Disconnected { who, how } => {
                self.lock().departed(who.peer, &who.client_id, departure(how));
            }
            _ => {}
        }
    }

    /// Notes a CONNECT at the door, and what the doorkeeper said to it.
    pub(crate) fn note_connect(&self, facts: &ConnectFacts<'_>, refused: Option<(ReasonCode, &str)>) {
        let mut encounter = blank(facts.peer, facts.listener);
        encounter.secure = facts.hello.is_some();
        encounter.reached = Step::Connect;
        encounter.hello = facts.hello.map(said);
        encounter.certificate = facts.certificate.map(peer_shown);
        encounter.client_id = Some(cut(&facts.connect.client_id));
        encounter.username = facts.connect.username.as_deref().map(cut);
        encounter.ending = Ending::Admitted;
        if let Some((reason, why)) = refused {
            encounter.ending = Ending::Refused;
            encounter.reason = why.to_owned();
            encounter.code = Some(match facts.connect.version {
                ProtocolVersion::V5 => reason.0,
                ProtocolVersion::V31 | ProtocolVersion::V311 => reason.connect_return_code(),
            });
        }
        let key = (facts.peer.ip(), Some(cut(&facts.connect.client_id)));
        self.lock().enter(key, encounter);
    }

    /// A connection of our own is not a device's, before or after.
    pub(crate) fn disregard(&self, peer: SocketAddr) {
        let mut book = self.lock();
        let peer = peer.to_string();
        for visitor in book.visitors.values_mut() {
            visitor.encounters.retain(|encounter| encounter.peer != peer);
        }
        let Book { visitors, places, .. } = &mut *book;
        visitors.retain(|_, visitor| !visitor.encounters.is_empty());
        places.retain(|_, key| visitors.contains_key(key));
        if book.disregarded.len() == DISREGARDED {
            book.disregarded.pop_front();
        }
        book.disregarded.push_back(peer);
    }

    /// What was seen of a device, oldest first: under its certificate or its client id from wherever, and what came
    /// without a name from its addresses.
    pub(crate) fn of(&self, whose: &Whose) -> Vec<Encounter> {
        let book = self.lock();
        let common_name = format!("CN={}", whose.name);
        let mut found: Vec<Encounter> = Vec::new();
        for ((address, _), visitor) in &book.visitors {
            for encounter in &visitor.encounters {
                let known_by = if encounter.certificate.as_ref().is_some_and(|shown| {
                    Some(&shown.serial) == whose.serial.as_ref()
                        || shown.subject.split(',').any(|part| part == common_name)
                }) {
                    Attribution::Certificate
                } else if encounter.certificate.is_none()
                    && encounter.client_id.as_deref() == Some(whose.client_id.as_str())
                {
                    Attribution::ClientId
                } else if encounter.client_id.is_none() && whose.addresses.contains(address) {
                    // Without a certificate, or with one that is nobody's here: what the device has instead of its own.
                    Attribution::Address
                } else {
                    continue;
                };
                found.push(Encounter { known_by, ..Encounter::clone(encounter) });
            }
        }
        found.sort_by_key(|encounter| encounter.at);
        found
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn enter(&mut self, key: Key, encounter: Encounter) {
        if self.disregarded.contains(&encounter.peer) {
            return;
        }
        if !self.visitors.contains_key(&key) && self.visitors.len() >= VISITORS {
            self.make_room();
        }
        self.turn += 1;
        let new = || Visitor { encounters: VecDeque::new(), place: (false, self.turn) };
        let visitor = self.visitors.entry(key.clone()).or_insert_with(new);
        self.places.remove(&visitor.place);
        visitor.place = (visitor.place.0 || encounter.ending == Ending::Admitted, self.turn);
        self.places.insert(visitor.place, key);
        if visitor.encounters.len() == OF_EACH {
            visitor.encounters.pop_front();
        }
        visitor.encounters.push_back(Box::new(encounter));
    }

    /// The stranger that was silent longest goes; where there are none, whoever was.
    fn make_room(&mut self) {
        if let Some((_, key)) = self.places.pop_first() {
            self.visitors.remove(&key);
        }
    }

    /// The rules refused what the doorkeeper had let through.
    fn refused(&mut self, peer: SocketAddr, client_id: &str, reason: ReasonCode) {
        let Some(encounter) = self.find(peer, client_id).filter(|it| it.ending == Ending::Admitted) else {
            return;
        };
        encounter.ending = Ending::Refused;
        encounter.reason = reason.to_string();
        encounter.code = Some(reason.connect_return_code());
    }

    fn departed(&mut self, peer: SocketAddr, client_id: &str, how: String) {
        if let Some(encounter) = self.find(peer, client_id) {
            encounter.departure = Some(how);
        }
    }

    fn find(&mut self, peer: SocketAddr, client_id: &str) -> Option<&mut Encounter> {
        let visitor = self.visitors.get_mut(&(peer.ip(), Some(cut(client_id))))?;
        let peer = peer.to_string();
        visitor
            .encounters
            .iter_mut()
            .rev()
            .find(|encounter| encounter.peer == peer)
            .map(|encounter| &mut **encounter)
    }
}

fn blank(peer: SocketAddr, listener: &str) -> Encounter {
    Encounter {
        at: OffsetDateTime::now_utc().unix_timestamp(),
        peer: peer.to_string(),
        listener: listener.to_owned(),
        secure: false,
        known_by: Attribution::Address,
        ending: Ending::Failed,
        reached: Step::Socket,
        reason: String::new(),
        alert: None,
        hello: None,
        certificate: None,
        client_id: None,
        username: None,
        code: None,
        departure: None,
    }
}

fn step(reached: Reached) -> Step {
    match reached {
        Reached::Socket => Step::Socket,
        Reached::Hello => Step::Hello,
        Reached::Answered => Step::Answered,
        Reached::Certificate => Step::Certificate,
        Reached::Secured => Step::Secured,
    }
}

fn said(facts: &HelloFacts) -> Hello {
    Hello {
        versions: facts.versions.iter().copied().take(SUITES).collect(),
        suites: facts.cipher_suites.iter().copied().take(SUITES).collect(),
        max_fragment_length: facts.max_fragment_length,
        server_name: facts.server_name.as_deref().map(cut),
    }
}

fn shown(certificate: &PresentedCertificate) -> Shown {
    let seconds = |at| OffsetDateTime::from(at).unix_timestamp();
    Shown {
        subject: cut(&certificate.subject),
        issuer: cut(&certificate.issuer),
        serial: certificate.serial.clone(),
        not_before: seconds(certificate.not_before),
        not_after: seconds(certificate.not_after),
    }
}

/// One that was verified: its issuer is our CA.
fn peer_shown(certificate: &PeerCertificate) -> Shown {
    let seconds = |at| OffsetDateTime::from(at).unix_timestamp();
    Shown {
        subject: cut(&certificate.subject),
        issuer: String::new(),
        serial: certificate.serial.iter().take(32).map(|byte| format!("{byte:02X}")).collect(),
        not_before: seconds(certificate.not_before),
        not_after: seconds(certificate.not_after),
    }
}

fn departure(how: &Departure) -> String {
    match how {
        Departure::Disconnect(_) => "it said goodbye".into(),
        Departure::Lost => "the connection broke".into(),
        Departure::KeepAlive => "keep-alive: it was silent for longer than it had promised".into(),
        Departure::TakenOver => "taken over by another connection with its client id".into(),
        Departure::Error(error) => cut(&format!("it broke the protocol: {error}")),
        Departure::Closed(reason) => cut(&format!("the broker closed it: {reason}")),
    }
}

fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(peer: &str, serial: Option<&str>) -> ServerEvent {
        let certificate = serial.map(|serial| {
            std::sync::Arc::new(PresentedCertificate {
                subject: "CN=kitchen,O=home".into(),
                issuer: "CN=Other".into(),
                serial: serial.into(),
                not_before: std::time::SystemTime::UNIX_EPOCH,
                not_after: std::time::SystemTime::UNIX_EPOCH,
                size: 500,
            })
        });
        ServerEvent::HandshakeFailed {
            peer: peer.parse().unwrap(),
            listener: "tls".into(),
            reason: "no\u{1b}".repeat(200),
            alert: Some((true, 116)),
            hello: None,
            secure: true,
            reached: Reached::Certificate,
            certificate,
        }
    }

    fn kitchen(address: &str) -> Whose {
        Whose {
            name: "kitchen".into(),
            addresses: vec![address.parse().unwrap()],
            serial: Some("AA".into()),
            client_id: "DVES_1".into(),
        }
    }

    #[test]
    fn a_device_is_known_by_certificate_from_anywhere_and_by_address_without_one() {
        let book = Encounters::default();
        book.note(&failed("192.0.2.9:1000", Some("AA")));
        book.note(&failed("192.0.2.7:1000", None));
        book.note(&failed("192.0.2.8:1000", None));
        let found = book.of(&kitchen("192.0.2.7"));
        let known: Vec<_> = found.iter().map(|it| (it.peer.as_str(), it.known_by)).collect();
        assert!(known.contains(&("192.0.2.9:1000", Attribution::Certificate)), "{known:?}");
        assert!(known.contains(&("192.0.2.7:1000", Attribution::Address)), "{known:?}");
        assert_eq!(known.len(), 2);
        assert!(found[0].reason.len() <= TEXT && !found[0].reason.contains('\u{1b}'));
    }

    #[test]
    fn a_scanner_fills_neither_the_memory_nor_anothers_place() {
        let book = Encounters::default();
        for _ in 0..100 {
            book.note(&failed("192.0.2.7:1000", None));
        }
        assert_eq!(book.of(&kitchen("192.0.2.7")).len(), OF_EACH);
        let peer = "192.0.2.7:1000".parse().unwrap();
        let let_in = Encounter { ending: Ending::Admitted, ..blank(peer, "tls") };
        book.lock().enter((peer.ip(), None), let_in);
        for number in 0..VISITORS + 50 {
            let [a, b] = u16::try_from(number).unwrap().to_be_bytes();
            book.note(&failed(&format!("198.18.{a}.{b}:5"), None));
        }
        assert_eq!(book.lock().visitors.len(), VISITORS);
        assert_eq!(book.lock().places.len(), VISITORS, "each has one place");
        assert_eq!(book.of(&kitchen("192.0.2.7")).len(), OF_EACH, "who was let in once is not pushed out");
    }

    #[test]
    fn our_own_connections_are_nobodys() {
        let book = Encounters::default();
        book.note(&failed("127.0.0.1:7", None));
        book.note(&failed("127.0.0.1:8", None));
        book.disregard("127.0.0.1:7".parse().unwrap());
        book.note(&failed("127.0.0.1:7", None));
        let peers: Vec<_> = book.of(&kitchen("127.0.0.1")).into_iter().map(|it| it.peer).collect();
        assert_eq!(peers, ["127.0.0.1:8"]);
        book.disregard("127.0.0.1:8".parse().unwrap());
        assert!(book.lock().visitors.is_empty() && book.lock().places.is_empty(), "nothing is left of them");
    }
}
