//! Random towns against a naive model, all by seed.
//!
//! The model knows what was published and acknowledged, and who was subscribed at that time. It knows no windows, queues or
//! identifiers: it says only what MQTT promises. QoS 1 to a kept session: at least once; QoS 2: exactly once; both: in the
//! publisher's order (§4.3, §4.6), with crashes, takeovers and lost acknowledgements in between.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use quoll_broker::ShardSettings;
use quoll_mqtt::packet::{Ack, Packet, Publish};
use quoll_mqtt::{Delivery, PacketId, QoS, ReasonCode};

use crate::town::{Dice, Peer, Town, client, disconnect, goodbye, message, puback, pubcomp, pubrec, pubrel};
use crate::town::{subscribe, unsubscribe};

/// A subscriber as the standard wants it: it remembers QoS 2 identifiers over connections.
#[derive(Default)]
struct Ears {
    peer: Option<Peer>,
    /// Identifiers of QoS 2 messages taken and not completed.
    taken: BTreeSet<u16>,
    /// What the application heard, by topic: publisher's running numbers.
    heard: BTreeMap<String, Vec<u32>>,
    /// What it was promised, by topic.
    promised: BTreeMap<String, Vec<u32>>,
}

impl Ears {
    /// Takes what lies on the line; each answer may get lost with the connection.
    fn listen(&mut self, town: &mut Town, dice: &mut Dice, is_faithful: bool) {
        let Some(peer) = self.peer else { return };
        loop {
            let heard = town.heard(peer);
            if heard.is_empty() {
                return;
            }
            for packet in heard {
                match packet {
                    Packet::Publish(publish) => self.take(town, dice, peer, &publish, is_faithful),
                    Packet::PubRel(ack) => {
                        self.taken.remove(&ack.packet_id.get());
                        if is_faithful || dice.roll(4) > 0 {
                            town.send(peer, pubcomp(ack.packet_id.get()));
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    fn take(&mut self, town: &mut Town, dice: &mut Dice, peer: Peer, publish: &Publish, is_faithful: bool) {
        let topic = publish.topic.as_ref().map(ToString::to_string).unwrap_or_default();
        let number = String::from_utf8_lossy(&publish.payload).parse().unwrap();
        let is_answered = is_faithful || dice.roll(4) > 0;
        match publish.delivery {
            Delivery::AtMostOnce => {}
            Delivery::AtLeastOnce(own) => {
                self.heard.entry(topic).or_default().push(number);
                if is_answered {
                    town.send(peer, puback(own.get()));
                }
            }
            Delivery::ExactlyOnce(own) => {
                if self.taken.insert(own.get()) {
                    self.heard.entry(topic).or_default().push(number);
                }
                if is_answered {
                    town.send(peer, pubrec(own.get()));
                }
            }
        }
    }
}

fn run(seed: u64, shards: usize, steps: u32, crashes: bool) -> Result<(), TestCaseError> {
    let settings =
        ShardSettings { max_queued_messages: 0, max_inflight_messages: 5, ..ShardSettings::default() };
    let mut town = Town::with(settings, shards);
    let mut dice = Dice::new(seed);
    // Odd ones listen at QoS 2, even ones at QoS 1; publishers publish both levels to topics of their own.
    let names = ["a", "b", "c", "d"];
    let mut ears: Vec<Ears> = (0..4).map(|_| Ears::default()).collect();
    let filters = ["p0/#", "+/q2", "p1/q1", "#"];
    for (own, name) in ears.iter_mut().zip(names) {
        own.peer = Some(town.enter(client(name).kept(0)));
    }
    for (at, own) in ears.iter().enumerate() {
        town.subscribe(own.peer.unwrap(), filters[at], 1 + (at % 2) as u8);
    }
    let mut publishers = ["x", "y"].map(|name| town.enter(client(name).kept(0)));
    for step in 0..steps {
        match dice.roll(10) {
            0..=3 => {
                let who = dice.pick(2);
                let qos = 1 + dice.number(2) as u8;
                let topic = format!("p{who}/q{qos}");
                for (at, own) in ears.iter_mut().enumerate() {
                    if [who == 0, qos == 2, who == 1 && qos == 1, true][at] {
                        own.promised.entry(topic.clone()).or_default().push(step);
                    }
                }
                let sent = || message(&topic, &step.to_string()).qos(qos, 1);
                town.send(publishers[who], sent());
                if qos == 2 {
                    // The answer may get lost, and the publisher repeats itself.
                    if dice.roll(3) == 0 {
                        publishers[who] = town.enter(client(["x", "y"][who]).kept(0));
                        town.send(publishers[who], sent().dup());
                    }
                    town.send(publishers[who], pubrel(1));
                }
                town.heard(publishers[who]);
            }
            4..=6 => {
                let at = dice.pick(4);
                ears[at].listen(&mut town, &mut dice, false);
            }
            7 => {
                let at = dice.pick(4);
                if let Some(peer) = ears[at].peer.take() {
                    if dice.roll(2) == 0 { town.lose(peer) } else { town.send(peer, goodbye()) }
                }
            }
            8 => {
                let at = dice.pick(4);
                ears[at].peer = Some(town.enter(client(names[at]).kept(0)));
            }
            _ if crashes && dice.roll(8) == 0 => {
                town.crash();
                for own in &mut ears {
                    own.peer = None;
                }
                publishers = ["x", "y"].map(|name| town.enter(client(name).kept(0)));
            }
            _ => town.seconds(1),
        }
    }
    // In the end everybody comes back and answers everything.
    for (at, own) in ears.iter_mut().enumerate() {
        own.peer = Some(town.enter(client(names[at]).kept(0)));
        own.listen(&mut town, &mut dice, true);
    }
    for (at, own) in ears.iter().enumerate() {
        for (topic, promised) in &own.promised {
            let is_exact = at % 2 == 1 && topic.ends_with("q2");
            let heard = own.heard.get(topic).cloned().unwrap_or_default();
            if is_exact {
                prop_assert_eq!(&heard, promised, "exactly once, in order: {} {}", names[at], topic);
                continue;
            }
            let mut first: Vec<u32> = Vec::new();
            for number in heard {
                if !first.contains(&number) {
                    first.push(number);
                }
            }
            prop_assert_eq!(
                &first,
                promised,
                "at least once, first copies in order: {} {}",
                names[at],
                topic
            );
        }
        for topic in own.heard.keys() {
            prop_assert!(own.promised.contains_key(topic), "{} heard {}", names[at], topic);
        }
    }
    let left: u64 =
        (0..shards).map(|at| town.shard(at).stats().queued + town.shard(at).stats().inflight).sum();
    prop_assert_eq!(left, 0, "nothing is left over");
    Ok(())
}

/// Any packet, sensible or not, from a client's side or not.
fn any_packet(dice: &mut Dice) -> Packet {
    let number = dice.number(6) + 1;
    let reason = [ReasonCode::SUCCESS, ReasonCode::UNSPECIFIED_ERROR][usize::from(dice.roll(5) == 0)];
    let ack = Ack::new(PacketId::new(number).unwrap(), reason);
    let topic = ["a", "a/b", "$SYS/x", "b", ""][dice.pick(5)];
    let filter = ["a", "a/#", "+/b", "#", "$share/g/a", "$share/g/#"][dice.pick(6)];
    match dice.roll(20) {
        0..=5 => {
            let mut own = message(topic, ["", "x"][dice.pick(2)]).qos(dice.number(3) as u8, number);
            own.0.retain = dice.roll(4) == 0;
            if topic.is_empty() || dice.roll(3) == 0 {
                let alias = std::num::NonZeroU16::new(dice.number(12) + 1);
                own = own.saying(|say| say.topic_alias = alias);
            }
            if dice.roll(4) == 0 {
                let expiry = Some(u32::from(dice.number(20)));
                own = own.saying(|say| say.message_expiry_interval = expiry);
            }
            own.into()
        }
        6..=7 => Packet::PubAck(ack),
        8..=9 => Packet::PubRec(ack),
        10..=11 => Packet::PubRel(ack),
        12..=13 => Packet::PubComp(ack),
        14..=15 => subscribe(number, &[filter], dice.number(3) as u8),
        16 => unsubscribe(number, &[filter]),
        17 => Packet::PingReq,
        18 if dice.roll(3) == 0 => {
            disconnect([ReasonCode::SUCCESS, ReasonCode::DISCONNECT_WITH_WILL][dice.pick(2)])
        }
        19 if dice.roll(5) == 0 => Packet::Connect(Box::new(client("z").connect)),
        _ => Packet::PingReq,
    }
}

fn any_caller(dice: &mut Dice) -> crate::town::Caller {
    let mut caller = client(["a", "b", "c"][dice.pick(3)]);
    if dice.roll(3) > 0 {
        caller = caller.v5();
        let (window, size, aliases) = (dice.number(3) + 1, 20 + dice.number(40), dice.number(3));
        caller = caller.asking(|ask| {
            ask.receive_maximum = Some(window);
            ask.maximum_packet_size = Some(u32::from(size));
            ask.topic_alias_maximum = Some(aliases);
        });
    }
    if dice.roll(3) > 0 {
        caller = caller.kept(u32::from(dice.number(30)));
    }
    if dice.roll(3) == 0 {
        let delay = Some(u32::from(dice.number(10)));
        caller = caller.will("a", "will", |will| {
            will.qos = QoS::AtLeastOnce;
            will.properties.will_delay_interval = delay;
        });
    }
    let keep_alive = dice.number(20);
    let name = ["", "alice"][usize::from(dice.roll(6) == 0)];
    caller.keep_alive(keep_alive).named(name, None)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn one_shard_keeps_what_mqtt_promises(seed in any::<u64>(), steps in 1..400_u32) {
        run(seed, 1, steps, false)?;
    }

    #[test]
    fn two_shards_keep_what_mqtt_promises(seed in any::<u64>(), steps in 1..400_u32) {
        run(seed, 2, steps, false)?;
    }

    #[test]
    fn a_node_that_crashes_keeps_what_mqtt_promises(seed in any::<u64>(), steps in 1..400_u32) {
        run(seed, 2, steps, true)?;
    }

    /// The theatre itself asserts: nothing after a last word, one last word, letters that decode, no letter to oneself.
    #[test]
    fn packets_in_any_order_never_break_a_shard(seed in any::<u64>(), shards in 1..4_usize) {
        let mut dice = Dice::new(seed);
        let mut town = Town::with(ShardSettings { max_inflight_messages: 3, max_queued_messages: 4, ..ShardSettings::default() }, shards);
        let mut peers: Vec<Peer> = Vec::new();
        for _ in 0..300 {
            peers.retain(|peer| town.is_open(*peer));
            match dice.roll(12) {
                _ if peers.is_empty() => peers.push(town.connect(any_caller(&mut dice))),
                0 => peers.push(town.connect(any_caller(&mut dice))),
                1 => town.lose(peers[dice.pick(peers.len())]),
                2 => town.seconds(dice.roll(8)),
                3 => town.input(peers[dice.pick(peers.len())], |conn| {
                    quoll_broker::vocabulary::Input::Congested(conn, conn.index % 2 == 0)
                }),
                _ => {
                    let packet = any_packet(&mut dice);
                    town.send(peers[dice.pick(peers.len())], packet);
                }
            }
        }
        // Whoever is still there is served; whoever was closed is forgotten.
        peers.retain(|peer| town.is_open(*peer));
        let connections: u64 = (0..shards).map(|at| town.shard(at).stats().connections).sum();
        prop_assert_eq!(connections, peers.len() as u64);
        for peer in peers.iter().copied() {
            town.heard(peer);
            town.send(peer, Packet::PingReq);
            prop_assert!(town.heard(peer).contains(&Packet::PingResp));
        }
        // Everybody goes, everything expires, nothing is left but what is kept for ever.
        for peer in peers {
            town.lose(peer);
        }
        town.seconds(1000);
        for at in 0..shards {
            let kept = town.shard(at).facts().iter().filter(|fact| {
                matches!(fact, quoll_broker::Change::Session { record, .. } if record.expiry == u32::MAX)
            }).count() as u64;
            prop_assert_eq!(town.shard(at).stats().sessions, kept);
        }
    }
}
