//! What the rules cost, in nanoseconds for each delivered message: no sockets, no encoding, one thread.
//!
//! `cargo bench -p quoll-broker`. Goals: below 100 for fan-in at QoS 0, below 40 for each delivery of a fan-out. The best of
//! seven runs counts: on a shared machine the others measure the neighbours.

#![allow(clippy::unwrap_used, reason = "topics and filters here are literals")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quoll_broker::vocabulary::{
    Admission, Arrival, ConnId, Effect, Identity, Input, Letter, Outbox, ShardId,
};
use quoll_broker::{Anchor, Grants, Moment, Shard, ShardSettings, Shared};
use quoll_mqtt::packet::{
    Ack, Connect, ConnectProperties, Packet, Publish, Subscribe, SubscribeProperties, Subscription,
    SubscriptionOptions,
};
use quoll_mqtt::{Delivery, PacketId, ProtocolVersion, QoS, ReasonCode, TopicFilter, TopicName};

const RUNS: usize = 7;

fn main() {
    println!("{:<38}{:>10}{:>12}", "case", "ns each", "messages");
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        report("fan-in, 100 publishers", qos, 400_000, || Case::fan_in(qos, false));
        report("fan-in, wildcards all around", qos, 400_000, || Case::fan_in(qos, true));
        report("fan-out to 100", qos, 20_000, || Case::fan_out(100, qos));
        report("fan-out to 1000", qos, 2_000, || Case::fan_out(1000, qos));
        report("500 pairs", qos, 400_000, || Case::pairs(500, qos));
    }
}

fn report(name: &str, qos: QoS, publishes: usize, case: impl Fn() -> Case) {
    let name = format!("{name}, QoS {}", qos as u8);
    // `cargo bench -p quoll-broker -- fan-in` runs what has that in its name.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if !wanted.iter().all(|word| name.contains(word.as_str())) {
        return;
    }
    let mut best = f64::MAX;
    let mut delivered = 0;
    for _ in 0..RUNS {
        let mut case = case();
        case.run(publishes / 20);
        case.delivered = 0;
        let begin = Instant::now();
        case.run(publishes);
        let nanos = begin.elapsed().as_nanos() as f64;
        delivered = case.delivered;
        best = best.min(nanos / delivered as f64);
    }
    println!("{name:<38}{best:>10.1}{delivered:>12}");
}

struct Case {
    shard: Shard,
    now: Instant,
    out: Outbox,
    inner: Outbox,
    /// Who publishes what, in turn.
    publishers: Vec<(ConnId, TopicName)>,
    qos: QoS,
    payload: Bytes,
    delivered: usize,
    acks: Vec<(ConnId, PacketId)>,
}

impl Case {
    fn new(qos: QoS) -> Self {
        let now = Instant::now();
        let anchor = Anchor { instant: now, moment: Moment(1_800_000_000_000) };
        let shard = Shard::new(ShardSettings::default(), ShardId(0), Arc::new(Shared::new(anchor, 1)), 7);
        Self {
            shard,
            now,
            out: Outbox::new(),
            inner: Outbox::new(),
            publishers: Vec::new(),
            qos,
            payload: Bytes::from_static(&[b'x'; 100]),
            delivered: 0,
            acks: Vec::new(),
        }
    }

    /// Devices that publish each to a topic of its own, and one that listens to all.
    fn fan_in(qos: QoS, wildcards: bool) -> Self {
        let mut case = Self::new(qos);
        let ears = case.connect();
        case.subscribe(ears, "tele/#");
        for number in 0..100 {
            let device = case.connect();
            case.publishers.push((device, TopicName::parse(&format!("tele/plug_{number}/STATE")).unwrap()));
            if wildcards {
                case.subscribe(device, &format!("cmnd/plug_{number}/+"));
                case.subscribe(device, "cmnd/tasmotas/#");
            }
        }
        case
    }

    fn fan_out(subscribers: usize, qos: QoS) -> Self {
        let mut case = Self::new(qos);
        for _ in 0..subscribers {
            let ears = case.connect();
            case.subscribe(ears, "cmnd/tasmotas/POWER");
        }
        let lamp = case.connect();
        case.publishers.push((lamp, TopicName::parse("cmnd/tasmotas/POWER").unwrap()));
        case
    }

    fn pairs(count: usize, qos: QoS) -> Self {
        let mut case = Self::new(qos);
        for number in 0..count {
            let ears = case.connect();
            case.subscribe(ears, &format!("pair/{number}"));
            let lamp = case.connect();
            case.publishers.push((lamp, TopicName::parse(&format!("pair/{number}")).unwrap()));
        }
        case
    }

    fn connect(&mut self) -> ConnId {
        let index = self.shard.stats().connects as u32;
        let conn = ConnId { index, generation: 0 };
        let connect = Connect {
            version: ProtocolVersion::V311,
            bridge: false,
            client_id: format!("client-{index}"),
            clean_start: true,
            keep_alive: 60,
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties::default(),
        };
        let identity = Identity { name: "".into(), credential: None };
        let admission = Admission { identity, grants: Arc::new(Grants::all()), client_id: None };
        self.handle(Input::Connect(Box::new(Arrival { conn, connect, admission })));
        conn
    }

    fn subscribe(&mut self, conn: ConnId, filter: &str) {
        let options = SubscriptionOptions { qos: self.qos, ..SubscriptionOptions::default() };
        let subscription = Subscription { filter: TopicFilter::parse(filter).unwrap(), options };
        let subscribe = Subscribe {
            packet_id: PacketId::new(1).unwrap(),
            subscriptions: vec![subscription],
            properties: SubscribeProperties::default(),
        };
        self.handle(Input::Packet(conn, Packet::Subscribe(Box::new(subscribe))));
    }

    fn run(&mut self, publishes: usize) {
        let delivery = match self.qos {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            _ => Delivery::AtLeastOnce(PacketId::new(1).unwrap()),
        };
        for turn in 0..publishes {
            let (conn, topic) = &self.publishers[turn % self.publishers.len()];
            let publish = Publish {
                dup: false,
                retain: false,
                delivery,
                topic: Some(topic.clone()),
                payload: self.payload.clone(),
                properties: None,
            };
            // A turn of the coat handles a batch at one time.
            if turn % 16 == 0 {
                self.now += Duration::from_micros(10);
            }
            self.handle(Input::Packet(*conn, Packet::Publish(publish)));
        }
    }

    /// What the coat does with the effects, without writing: routes come back at once, deliveries are acknowledged.
    fn handle(&mut self, input: Input) {
        self.shard.handle(input, self.now, &mut self.out);
        for effect in self.out.drain(..) {
            match effect {
                Effect::Route(message) => {
                    let letter = Letter::Message(message);
                    self.shard.handle(Input::Letter(letter), self.now, &mut self.inner);
                }
                other => drop(black_box(other)),
            }
        }
        for effect in self.inner.drain(..) {
            if let Effect::Deliver(conn, outgoing) = effect {
                self.delivered += 1;
                if let Some(id) = outgoing.delivery.packet_id() {
                    self.acks.push((conn, id));
                }
                black_box(outgoing);
            }
        }
        for (conn, id) in self.acks.drain(..) {
            let ack = Ack::new(id, ReasonCode::SUCCESS);
            self.shard.handle(Input::Packet(conn, Packet::PubAck(ack)), self.now, &mut self.inner);
        }
    }
}
