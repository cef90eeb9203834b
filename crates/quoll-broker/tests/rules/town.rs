//! The theatre: clients that speak in packets, shards that are handed them, letters carried between shards, a clock that
//! moves when told. It does what the coat does, without sockets, threads or disks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quoll_broker::vocabulary::{
    Admission, Arrival, ConnId, Effect, Event, Farewell, Identity, Input, Letter, Order, Outbox, ShardId,
};
use quoll_broker::{Anchor, Change, Grants, Moment, Shard, ShardSettings, Shared};
use quoll_mqtt::packet::*;
use quoll_mqtt::{Delivery, PacketId, ProtocolVersion, QoS, ReasonCode, TopicFilter, TopicName};

/// A client's connection in the town.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Peer(pub(crate) usize);

struct Line {
    shard: usize,
    conn: ConnId,
    version: ProtocolVersion,
    heard: VecDeque<Packet>,
    last_word: Option<Farewell>,
    /// Acknowledges whatever comes.
    polite: bool,
}

pub(crate) struct Town {
    pub(crate) settings: ShardSettings,
    shards: Vec<Shard>,
    pub(crate) shared: Arc<Shared>,
    lines: Vec<Line>,
    pub(crate) now: Instant,
    anchor: Anchor,
    /// What each shard wanted kept, in order.
    pub(crate) journal: Vec<Vec<Change>>,
    pub(crate) events: Vec<Event>,
    /// What was said to the server itself.
    pub(crate) commands: Vec<Arc<quoll_broker::Message>>,
    /// Letters under way, in order of posting.
    post: VecDeque<(ShardId, Letter)>,
    /// Posts are held back until told.
    pub(crate) post_is_slow: bool,
}

impl Town {
    pub(crate) fn new() -> Self {
        Self::with(ShardSettings::default(), 1)
    }

    pub(crate) fn of(shards: usize) -> Self {
        Self::with(ShardSettings::default(), shards)
    }

    pub(crate) fn with(settings: ShardSettings, shards: usize) -> Self {
        let now = Instant::now();
        let anchor = Anchor { instant: now, moment: Moment(1_800_000_000_000) };
        let mut town = Self {
            settings,
            shards: Vec::new(),
            shared: Arc::new(Shared::new(anchor, 1)),
            lines: Vec::new(),
            now,
            anchor,
            journal: vec![Vec::new(); shards],
            events: Vec::new(),
            commands: Vec::new(),
            post: VecDeque::new(),
            post_is_slow: false,
        };
        town.open_shards();
        town
    }

    fn open_shards(&mut self) {
        let count = u16::try_from(self.journal.len()).unwrap();
        self.shared = Arc::new(Shared::new(self.anchor, count));
        let shard =
            |id| Shard::new(self.settings.clone(), ShardId(id), self.shared.clone(), 7 + u64::from(id));
        self.shards = (0..count).map(shard).collect();
    }

    /// The node ends without a word and starts again from its journal.
    pub(crate) fn crash(&mut self) {
        self.open_shards();
        self.post.clear();
        for line in &mut self.lines {
            line.last_word.get_or_insert(Farewell::Silent);
        }
        for shard in 0..self.shards.len() {
            for change in self.journal[shard].clone() {
                let change = Change::decode(&change.encode()).expect("what was encoded can be decoded");
                self.handle(shard, Input::Recall(change));
            }
        }
    }

    pub(crate) fn facts(&self) -> Vec<Change> {
        self.shards.iter().flat_map(Shard::facts).collect()
    }

    pub(crate) fn shard(&self, at: usize) -> &Shard {
        &self.shards[at]
    }

    /// Where a client lives: by the sum of its bytes, so that tests can choose.
    fn home(&self, client_id: &str) -> usize {
        client_id.bytes().map(usize::from).sum::<usize>() % self.shards.len()
    }

    pub(crate) fn connect(&mut self, caller: Caller) -> Peer {
        let Caller { connect, admission, polite } = caller;
        let shard = self.home(admission.client_id.as_deref().unwrap_or(&connect.client_id));
        let index = u32::try_from(self.lines.len()).unwrap();
        let conn = ConnId { index, generation: 3 };
        let version = connect.version;
        self.lines.push(Line { shard, conn, version, heard: VecDeque::new(), last_word: None, polite });
        let arrival = Arrival { conn, connect, admission };
        self.handle(shard, Input::Connect(Box::new(arrival)));
        Peer(index as usize)
    }

    /// Connects and takes the CONNACK off the line; it must be an acceptance.
    pub(crate) fn enter(&mut self, caller: Caller) -> Peer {
        let peer = self.connect(caller);
        let ack = self.connack(peer);
        assert_eq!(ack.reason, ReasonCode::SUCCESS);
        peer
    }

    pub(crate) fn connack(&mut self, peer: Peer) -> ConnAck {
        match self.next(peer) {
            Some(Packet::ConnAck(ack)) => *ack,
            other => panic!("no CONNACK but {other:?}, last word {:?}", self.last_word(peer)),
        }
    }

    pub(crate) fn send(&mut self, peer: Peer, packet: impl Into<Packet>) {
        let line = &self.lines[peer.0];
        let (shard, conn) = (line.shard, line.conn);
        self.handle(shard, Input::Packet(conn, packet.into()));
    }

    pub(crate) fn input(&mut self, peer: Peer, input: impl FnOnce(ConnId) -> Input) {
        let line = &self.lines[peer.0];
        let (shard, conn) = (line.shard, line.conn);
        self.handle(shard, input(conn));
    }

    /// The socket breaks.
    pub(crate) fn lose(&mut self, peer: Peer) {
        self.lines[peer.0].last_word.get_or_insert(Farewell::Silent);
        self.input(peer, Input::Gone);
    }

    pub(crate) fn order(&mut self, order: Order) {
        for shard in 0..self.shards.len() {
            self.handle(shard, Input::Order(order.clone()));
        }
    }

    pub(crate) fn subscribe(&mut self, peer: Peer, filter: &str, qos: u8) -> ReasonCode {
        self.send(peer, subscribe(1, &[filter], qos));
        self.suback(peer)[0]
    }

    pub(crate) fn suback(&mut self, peer: Peer) -> Vec<ReasonCode> {
        let at = self.lines[peer.0].heard.iter().position(|packet| matches!(packet, Packet::SubAck(_)));
        match self.lines[peer.0].heard.remove(at.expect("a SUBACK")) {
            Some(Packet::SubAck(ack)) => ack.reasons,
            _ => unreachable!(),
        }
    }

    /// The next packet that the client heard.
    pub(crate) fn next(&mut self, peer: Peer) -> Option<Packet> {
        self.lines[peer.0].heard.pop_front()
    }

    pub(crate) fn heard(&mut self, peer: Peer) -> Vec<Packet> {
        self.lines[peer.0].heard.drain(..).collect()
    }

    pub(crate) fn publishes(&mut self, peer: Peer) -> Vec<Publish> {
        let publish = |packet| match packet {
            Packet::Publish(publish) => Some(publish),
            _ => None,
        };
        self.heard(peer).into_iter().filter_map(publish).collect()
    }

    /// What came, as `topic=payload`.
    pub(crate) fn messages(&mut self, peer: Peer) -> Vec<String> {
        self.publishes(peer).iter().map(said).collect()
    }

    pub(crate) fn last_word(&self, peer: Peer) -> Option<&Farewell> {
        self.lines[peer.0].last_word.as_ref()
    }

    pub(crate) fn is_open(&self, peer: Peer) -> bool {
        self.lines[peer.0].last_word.is_none()
    }

    /// Time goes by; what is due happens when it is due.
    pub(crate) fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let due =
                self.shards.iter().enumerate().filter_map(|(at, shard)| Some((shard.next_deadline()?, at)));
            let Some((due, shard)) = due.min().filter(|(due, _)| *due <= until) else { break };
            self.now = self.now.max(due);
            let mut out = Outbox::new();
            self.shards[shard].expire(self.now, &mut out);
            self.carry_out(shard, out);
            self.deliver_post();
        }
        self.now = until;
    }

    pub(crate) fn seconds(&mut self, seconds: u64) {
        self.wait(Duration::from_secs(seconds));
    }

    fn handle(&mut self, shard: usize, input: Input) {
        let mut out = Outbox::new();
        self.shards[shard].handle(input, self.now, &mut out);
        self.carry_out(shard, out);
        if !self.post_is_slow {
            self.deliver_post();
        }
    }

    pub(crate) fn deliver_post(&mut self) {
        while let Some((shard, letter)) = self.post.pop_front() {
            // Letters to another machine travel as bytes; so do all of them here.
            let letter = Letter::decode(&letter.encode()).expect("what was encoded can be decoded");
            let mut out = Outbox::new();
            self.shards[usize::from(shard.0)].handle(Input::Letter(letter), self.now, &mut out);
            self.carry_out(usize::from(shard.0), out);
        }
    }

    fn carry_out(&mut self, shard: usize, out: Outbox) {
        for effect in out {
            match effect {
                Effect::Send(conn, packet) => self.write(shard, conn, packet),
                Effect::Deliver(conn, outgoing) => {
                    let version = self.lines[conn.index as usize].version;
                    let publish = outgoing.publish(version);
                    let mut bytes = Vec::new();
                    quoll_mqtt::encode(&Packet::Publish(publish.clone()), version, &mut bytes)
                        .expect("encodes");
                    assert_eq!(outgoing.encoded_len(version), bytes.len(), "{publish:?}");
                    self.write(shard, conn, Packet::Publish(publish));
                }
                Effect::Close(conn, farewell) => {
                    let line = &mut self.lines[conn.index as usize];
                    assert!(line.last_word.is_none(), "a connection is closed once");
                    line.last_word = Some(farewell);
                    self.handle_nested(shard, Input::Gone(conn));
                }
                Effect::Route(message) => {
                    let wanted = self.shared.shards_for(message.topic.as_str());
                    assert_eq!(self.shards[shard].shards_for(message.topic.as_str()), wanted);
                    for to in wanted.iter() {
                        if usize::from(to.0) == shard {
                            self.handle_nested(shard, Input::Letter(Letter::Message(message.clone())));
                        } else {
                            self.post.push_back((to, Letter::Message(message.clone())));
                        }
                    }
                }
                Effect::Mail(to, letter) => {
                    assert_ne!(usize::from(to.0), shard, "a shard does not write to itself");
                    self.post.push_back((to, letter));
                }
                Effect::Keep(change) => self.journal[shard].push(change),
                Effect::Tell(event) => self.events.push(event),
                Effect::Control(_, message) => self.commands.push(message),
            }
        }
    }

    fn handle_nested(&mut self, shard: usize, input: Input) {
        let mut out = Outbox::new();
        self.shards[shard].handle(input, self.now, &mut out);
        self.carry_out(shard, out);
    }

    fn write(&mut self, shard: usize, conn: ConnId, packet: Packet) {
        let line = &mut self.lines[conn.index as usize];
        assert!(line.last_word.is_none(), "nothing is written after the last word: {packet:?}");
        let answer = if line.polite { polite_answer(&packet) } else { None };
        line.heard.push_back(packet);
        if let Some(answer) = answer {
            self.handle_nested(shard, Input::Packet(conn, answer));
        }
    }
}

fn polite_answer(packet: &Packet) -> Option<Packet> {
    match packet {
        Packet::Publish(publish) => match publish.delivery {
            Delivery::AtMostOnce => None,
            Delivery::AtLeastOnce(id) => Some(Packet::PubAck(Ack::new(id, ReasonCode::SUCCESS))),
            Delivery::ExactlyOnce(id) => Some(Packet::PubRec(Ack::new(id, ReasonCode::SUCCESS))),
        },
        Packet::PubRel(ack) => Some(Packet::PubComp(Ack::new(ack.packet_id, ReasonCode::SUCCESS))),
        Packet::PubRec(ack) if !ack.reason.is_failure() => {
            Some(Packet::PubRel(Ack::new(ack.packet_id, ReasonCode::SUCCESS)))
        }
        _ => None,
    }
}

/// `topic=payload`; of an aliased topic `=payload`.
pub(crate) fn said(publish: &Publish) -> String {
    let topic = publish.topic.as_ref().map_or("", TopicName::as_str);
    format!("{topic}={}", String::from_utf8_lossy(&publish.payload))
}

/// A CONNECT in the making; 3.1.1 with a clean session unless said otherwise.
pub(crate) struct Caller {
    pub(crate) connect: Connect,
    pub(crate) admission: Admission,
    polite: bool,
}

pub(crate) fn client(id: &str) -> Caller {
    let connect = Connect {
        version: ProtocolVersion::V311,
        bridge: false,
        client_id: id.to_owned(),
        clean_start: true,
        keep_alive: 0,
        will: None,
        username: None,
        password: None,
        properties: ConnectProperties::default(),
    };
    let identity = Identity { name: "".into(), credential: None };
    let admission = Admission { identity, grants: Arc::new(Grants::all()), client_id: None };
    Caller { connect, admission, polite: false }
}

impl Caller {
    pub(crate) fn v5(mut self) -> Self {
        self.connect.version = ProtocolVersion::V5;
        self
    }

    pub(crate) fn v31(mut self) -> Self {
        self.connect.version = ProtocolVersion::V31;
        self
    }

    /// Acknowledges whatever comes.
    pub(crate) fn polite(mut self) -> Self {
        self.polite = true;
        self
    }

    /// Goes on with its old session and keeps the new one: for ever, or in 5.0 for these seconds.
    pub(crate) fn kept(mut self, seconds: u32) -> Self {
        self.connect.clean_start = false;
        if self.connect.version == ProtocolVersion::V5 {
            self.connect.properties.session_expiry_interval = Some(seconds);
        }
        self
    }

    pub(crate) fn clean(mut self) -> Self {
        self.connect.clean_start = true;
        self
    }

    pub(crate) fn keep_alive(mut self, seconds: u16) -> Self {
        self.connect.keep_alive = seconds;
        self
    }

    pub(crate) fn named(mut self, name: &str, credential: Option<u8>) -> Self {
        self.admission.identity =
            Identity { name: name.into(), credential: credential.map(|byte| [byte; 32]) };
        self
    }

    pub(crate) fn granted(mut self, publish: &[&str], subscribe: &[&str]) -> Self {
        self.admission.grants = Arc::new(grants(publish, subscribe));
        self
    }

    pub(crate) fn asking(mut self, ask: impl FnOnce(&mut ConnectProperties)) -> Self {
        ask(&mut self.connect.properties);
        self
    }

    pub(crate) fn will(mut self, topic: &str, payload: &str, change: impl FnOnce(&mut Will)) -> Self {
        let mut will = Will {
            topic: TopicName::parse(topic).unwrap(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            qos: QoS::AtMostOnce,
            retain: false,
            properties: WillProperties::default(),
        };
        change(&mut will);
        self.connect.will = Some(will);
        self
    }
}

pub(crate) fn grants(publish: &[&str], subscribe: &[&str]) -> Grants {
    Grants::new(&filters(publish), &filters(subscribe))
}

pub(crate) fn filters(texts: &[&str]) -> Vec<TopicFilter> {
    texts.iter().map(|text| TopicFilter::parse(text).unwrap()).collect()
}

pub(crate) fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

/// A PUBLISH in the making: QoS 0, not retained.
pub(crate) struct Message(pub(crate) Publish);

pub(crate) fn message(topic: &str, payload: &str) -> Message {
    Message(Publish {
        dup: false,
        retain: false,
        delivery: Delivery::AtMostOnce,
        topic: (!topic.is_empty()).then(|| TopicName::parse(topic).unwrap()),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        properties: None,
    })
}

impl Message {
    pub(crate) fn qos1(mut self, number: u16) -> Self {
        self.0.delivery = Delivery::AtLeastOnce(id(number));
        self
    }

    pub(crate) fn qos2(mut self, number: u16) -> Self {
        self.0.delivery = Delivery::ExactlyOnce(id(number));
        self
    }

    pub(crate) fn qos(self, qos: u8, number: u16) -> Self {
        match qos {
            0 => self,
            1 => self.qos1(number),
            _ => self.qos2(number),
        }
    }

    pub(crate) fn retained(mut self) -> Self {
        self.0.retain = true;
        self
    }

    pub(crate) fn dup(mut self) -> Self {
        self.0.dup = true;
        self
    }

    pub(crate) fn saying(mut self, say: impl FnOnce(&mut PublishProperties)) -> Self {
        say(self.0.properties.get_or_insert_default());
        self
    }
}

impl From<Message> for Packet {
    fn from(message: Message) -> Self {
        Self::Publish(message.0)
    }
}

pub(crate) fn subscribe(number: u16, filters: &[&str], qos: u8) -> Packet {
    subscribe_with(number, filters, None, |options| options.qos = QoS::from_bits(qos).unwrap())
}

pub(crate) fn subscribe_with(
    number: u16,
    filters: &[&str],
    identifier: Option<u32>,
    choose: impl Fn(&mut SubscriptionOptions),
) -> Packet {
    let wish = |text: &&str| {
        let mut options = SubscriptionOptions::default();
        choose(&mut options);
        Subscription { filter: TopicFilter::parse(text).unwrap(), options }
    };
    Packet::Subscribe(Box::new(Subscribe {
        packet_id: id(number),
        subscriptions: filters.iter().map(wish).collect(),
        properties: SubscribeProperties { subscription_identifier: identifier, user_properties: Vec::new() },
    }))
}

pub(crate) fn unsubscribe(number: u16, texts: &[&str]) -> Packet {
    let unsubscribe =
        Unsubscribe { packet_id: id(number), filters: filters(texts), user_properties: Vec::new() };
    Packet::Unsubscribe(Box::new(unsubscribe))
}

pub(crate) fn disconnect(reason: ReasonCode) -> Packet {
    Packet::Disconnect(Box::new(Disconnect { reason, properties: DisconnectProperties::default() }))
}

pub(crate) fn goodbye() -> Packet {
    disconnect(ReasonCode::SUCCESS)
}

pub(crate) fn puback(number: u16) -> Packet {
    Packet::PubAck(Ack::new(id(number), ReasonCode::SUCCESS))
}

pub(crate) fn pubrec(number: u16) -> Packet {
    Packet::PubRec(Ack::new(id(number), ReasonCode::SUCCESS))
}

pub(crate) fn pubrel(number: u16) -> Packet {
    Packet::PubRel(Ack::new(id(number), ReasonCode::SUCCESS))
}

pub(crate) fn pubcomp(number: u16) -> Packet {
    Packet::PubComp(Ack::new(id(number), ReasonCode::SUCCESS))
}

/// Chance from a seed, for scripts of random towns.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub(crate) fn roll(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// A small number below `bound`.
    pub(crate) fn pick(&mut self, bound: usize) -> usize {
        self.roll(bound as u64) as usize
    }

    pub(crate) fn number(&mut self, bound: u16) -> u16 {
        self.roll(u64::from(bound)) as u16
    }
}
