//! Facts: their bytes, and a node that starts from them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::option::of as option;
use proptest::prelude::*;
use quoll_broker::change::{Parcel, SessionRecord, Subject};
use quoll_broker::message::MessageParts;
use quoll_broker::vocabulary::{Identity, Letter, ShardId};
use quoll_broker::{Change, Message, Moment};
use quoll_mqtt::packet::{Packet, PublishProperties, RetainHandling, SaidOrder, SubscriptionOptions};
use quoll_mqtt::{PacketId, QoS, TopicFilter, TopicName};

use crate::town::{
    Dice, Town, client, message, puback, pubcomp, pubrec, pubrel, said, subscribe, unsubscribe,
};

#[test]
fn a_kept_session_goes_on_after_a_crash_where_it_was() {
    for shards in 1..=2 {
        let mut town = Town::of(shards);
        let ears = town.enter(client("ears").kept(0));
        town.subscribe(ears, "t/+", 2);
        let lamp = town.enter(client("lamp").kept(0));
        town.send(lamp, message("t/1", "a").qos1(1));
        town.send(lamp, message("t/2", "b").qos2(2));
        town.send(lamp, pubrel(2));
        town.send(ears, pubrec(2));
        town.lose(ears);
        town.send(lamp, message("t/3", "c").qos2(3));
        town.send(lamp, pubrel(3));
        town.send(lamp, message("t/4", "d").qos2(4));
        town.crash();
        let ears = town.connect(client("ears").kept(0));
        assert!(town.connack(ears).session_present);
        let heard = town.heard(ears);
        assert!(matches!(&heard[0], Packet::Publish(p) if p.dup && said(p) == "t/1=a"), "{heard:?}");
        assert_eq!(heard[1], pubrel(2));
        assert!(matches!(&heard[2], Packet::Publish(p) if !p.dup && said(p) == "t/3=c"), "{heard:?}");
        let lamp = town.enter(client("lamp").kept(0));
        town.send(lamp, message("t/4", "d").qos2(4).dup());
        assert_eq!(town.heard(lamp), [pubrec(4)]);
        assert!(town.heard(ears).is_empty(), "a repeat is known after the crash");
        town.send(lamp, pubrel(4));
        assert_eq!(town.messages(ears), ["t/4=d"], "what was promised before the crash is routed after it");
    }
}

#[test]
fn what_is_not_to_be_kept_leaves_no_fact() {
    let mut town = Town::new();
    let ears = town.enter(client("ears"));
    town.subscribe(ears, "t", 2);
    let lamp = town.enter(client("lamp").v5());
    town.send(lamp, message("t", "x").qos2(1));
    town.send(ears, pubrec(1));
    town.lose(ears);
    assert!(town.journal[0].is_empty(), "{:?}", town.journal[0]);
}

#[test]
fn a_promise_follows_its_fact_in_the_outbox() {
    // The coat holds back what follows a `Keep`; so PUBREC, SUBACK and CONNACK must. Here: by the order in which the
    // theatre sees them, which it keeps apart, so the facts are compared with what a crash right then would leave.
    let mut town = Town::new();
    let lamp = town.enter(client("lamp").kept(0));
    assert!(matches!(town.journal[0][..], [Change::Session { .. }]));
    town.subscribe(lamp, "t", 1);
    assert!(matches!(town.journal[0].last(), Some(Change::Subscribed { .. })));
    town.send(lamp, message("x", "").qos2(4));
    assert!(matches!(town.journal[0].last(), Some(Change::Held { .. })));
    town.send(lamp, pubrel(4));
    assert!(matches!(town.journal[0].last(), Some(Change::Released { .. })));
}

#[test]
fn retained_messages_survive_a_crash() {
    let mut town = Town::of(2);
    let lamp = town.enter(client("lamp").v5());
    for (topic, payload) in [("a", "1"), ("b", "2"), ("a", "3"), ("b", "")] {
        town.send(lamp, message(topic, payload).retained());
    }
    town.send(lamp, message("c", "x").retained().saying(|say| say.message_expiry_interval = Some(10)));
    town.crash();
    town.seconds(11);
    let ears = town.enter(client("ears"));
    town.subscribe(ears, "#", 0);
    assert_eq!(town.messages(ears), ["a=3"]);
}

/// Whoever compares bytes sees the same before and after.
#[test]
fn properties_keep_their_order_over_a_crash() {
    let mut town = Town::new();
    let ears = town.enter(client("ears").v5().kept(99));
    town.subscribe(ears, "t", 1);
    let lamp = town.enter(client("lamp").v5());
    // User Property, Response Topic, Content Type: the other way round than we would say them.
    let order = SaidOrder::numbered(0o235).unwrap();
    let dressed = |say: &mut PublishProperties| {
        say.user_properties.push(("name".into(), "value".into()));
        say.response_topic = Some(TopicName::parse("answer").unwrap());
        say.content_type = Some("text".into());
        say.order = order;
    };
    town.lose(ears);
    town.send(lamp, message("t", "queued").qos1(1).saying(dressed));
    town.send(lamp, message("u", "retained").retained().saying(dressed));
    town.crash();
    let ears = town.enter(client("ears").v5().kept(99));
    town.subscribe(ears, "u", 0);
    let came = town.publishes(ears);
    let orders: Vec<_> = came.iter().map(|it| it.properties.as_ref().map(|own| own.order)).collect();
    assert_eq!(orders, [Some(order), Some(order)]);
}

#[test]
fn a_message_for_many_is_in_memory_once_after_a_crash() {
    let mut town = Town::new();
    for name in ["a", "b"] {
        let peer = town.enter(client(name).kept(0));
        town.subscribe(peer, "t", 1);
        town.lose(peer);
    }
    let lamp = town.enter(client("lamp"));
    town.send(lamp, message("t", "x").qos1(1));
    town.crash();
    let messages: Vec<_> = town
        .facts()
        .into_iter()
        .filter_map(|fact| match fact {
            Change::Queued { parcel, .. } => Some(parcel.message),
            _ => None,
        })
        .collect();
    assert!(messages.len() == 2 && Arc::ptr_eq(&messages[0], &messages[1]));
}

#[test]
fn a_shared_subscription_survives_a_crash_on_every_shard() {
    for shards in 1..=3 {
        let mut town = Town::of(shards);
        for name in ["a", "b", "c"] {
            let peer = town.enter(client(name).kept(0));
            town.subscribe(peer, "$share/g/t", 1);
        }
        town.crash();
        let lamp = town.enter(client("lamp"));
        for number in 1..=6 {
            town.send(lamp, message("t", "x").qos1(number));
        }
        for name in ["a", "b", "c"] {
            let peer = town.enter(client(name).kept(0));
            assert_eq!(town.messages(peer).len(), 2, "{shards} shards, {name}");
        }
    }
}

/// Also where the answer waits for the group's shard, and where its client is gone before it comes.
#[test]
fn a_subscription_is_one_fact() {
    for shards in 1..=3 {
        for is_gone in [false, true] {
            let mut town = Town::of(shards);
            let filters = ["plain", "$share/g/t", "$share/h/t", "$share/i/t"];
            for name in ["a", "b", "c"] {
                let peer = town.enter(client(name).kept(0));
                town.post_is_slow = true;
                town.send(peer, subscribe(1, &filters, 1));
                if is_gone {
                    town.lose(peer);
                }
                town.post_is_slow = false;
                town.deliver_post();
            }
            let mut facts: Vec<_> = town.journal.iter().flatten().filter_map(subscribed).collect();
            facts.sort();
            let mut expected: Vec<_> = ["a", "b", "c"]
                .iter()
                .flat_map(|name| filters.map(|filter| ((*name).to_owned(), filter.to_owned())))
                .collect();
            expected.sort();
            assert_eq!(facts, expected, "{shards} shards, gone: {is_gone}");
            let before = absent(town.facts());
            town.crash();
            assert_eq!(absent(town.facts()), before, "{shards} shards, gone: {is_gone}");
        }
    }
}

fn subscribed(change: &Change) -> Option<(String, String)> {
    match change {
        Change::Subscribed { client_id, filter, .. } => {
            Some((client_id.to_string(), filter.as_str().to_owned()))
        }
        _ => None,
    }
}

/// What ended before its answer came is no fact afterwards.
#[test]
fn a_subscription_that_ends_before_its_answer_leaves_no_fact() {
    let mut town = Town::of(3);
    town.post_is_slow = true;
    for name in ["a", "b", "c"] {
        let peer = town.enter(client(name).kept(0));
        town.send(peer, subscribe(1, &["$share/g/t"], 1));
        town.send(peer, unsubscribe(2, &["$share/g/t"]));
    }
    town.post_is_slow = false;
    town.deliver_post();
    town.crash();
    assert_eq!(town.facts().iter().filter_map(subscribed).count(), 0);
}

#[test]
fn compaction_loses_nothing() {
    let mut town = busy_town(7, 400);
    let facts = town.facts();
    town.journal = vec![Vec::new(); 1];
    town.journal[0] = facts.clone();
    town.crash();
    assert_eq!(absent(town.facts()), absent(facts));
}

/// A table from subject to newest record is enough of a journal.
#[test]
fn facts_of_one_subject_replace_each_other() {
    let mut town = busy_town(8, 400);
    let mut rows: Vec<(Subject, Vec<Change>)> = Vec::new();
    for change in &town.journal[0] {
        let subject = change.subject();
        if let (Change::SessionEnded { client_id }, true) = (change, change.is_end()) {
            rows.retain(|(_, row)| row[0].client_id() != Some(client_id));
            continue;
        }
        match rows.iter_mut().find(|(other, _)| *other == subject) {
            // The facts of a delivery complete each other.
            Some((_, row)) if matches!(subject, Subject::Delivery(..)) && !change.is_end() => {
                row.push(change.clone())
            }
            Some((_, row)) if !change.is_end() => *row = vec![change.clone()],
            Some(_) => rows.retain(|(other, _)| *other != subject),
            None if change.is_end() => {}
            None => rows.push((subject, vec![change.clone()])),
        }
    }
    let expected = absent(town.facts());
    town.journal[0] = rows.into_iter().flat_map(|(_, row)| row).collect();
    town.crash();
    let mut found = absent(town.facts());
    let mut expected = expected;
    let text = |change: &Change| format!("{change:?}");
    found.sort_by_key(text);
    expected.sort_by_key(text);
    assert_eq!(found, expected);
}

/// Sessions that were connected are absent after a crash; nothing else differs. The order in which sessions and their
/// subscriptions are listed means nothing.
fn absent(mut facts: Vec<Change>) -> Vec<Change> {
    for fact in &mut facts {
        if let Change::Session { record, .. } = fact {
            record.absent_since = None;
        }
    }
    facts.sort_by_key(|fact| {
        (fact.client_id().cloned(), matches!(fact, Change::Subscribed { .. }).then(|| format!("{fact:?}")))
    });
    facts
}

fn busy_town(seed: u64, steps: u32) -> Town {
    let mut town = Town::new();
    let mut dice = Dice::new(seed);
    let names = ["a", "b", "c", "d"];
    let mut peers = names.map(|name| town.enter(client(name).v5().kept(5000)));
    for step in 0..steps {
        let who = dice.pick(4);
        let number = dice.number(12) + 1;
        let topic = ["t/1", "t/2", "u"][dice.pick(3)];
        let peer = peers[who];
        match dice.roll(12) {
            0..=3 => town
                .send(peer, message(topic, &step.to_string()).qos(1 + u8::from(dice.roll(2) == 0), number)),
            4 => town.send(peer, pubrel(number)),
            5 => {
                let filter = ["t/+", "u", "#", "$share/g/u"][dice.pick(4)];
                town.subscribe(peer, filter, dice.number(3) as u8);
            }
            6 => town.send(peer, unsubscribe(1, &["#"])),
            7 => {
                town.lose(peer);
                peers[who] =
                    town.connect(client(names[who]).v5().kept(if dice.roll(9) == 0 { 0 } else { 5000 }));
            }
            8 => town.wait(Duration::from_millis(700)),
            9 => town.send(peer, message(topic, "r").retained()),
            _ => {
                let heard = town.heard(peer);
                for packet in heard {
                    match packet {
                        Packet::Publish(publish) => match publish.delivery.qos() {
                            QoS::AtMostOnce => {}
                            QoS::AtLeastOnce => {
                                town.send(peer, puback(publish.delivery.packet_id().unwrap().get()))
                            }
                            QoS::ExactlyOnce => {
                                town.send(peer, pubrec(publish.delivery.packet_id().unwrap().get()))
                            }
                        },
                        Packet::PubRel(ack) if dice.roll(2) == 0 => {
                            town.send(peer, pubcomp(ack.packet_id.get()))
                        }
                        _ => {}
                    }
                }
            }
        }
        for at in 0..4 {
            if !town.is_open(peers[at]) {
                peers[at] = town.connect(client(names[at]).v5().kept(5000));
            }
        }
    }
    town
}

fn text() -> impl Strategy<Value = String> {
    "[a-zé/]{0,12}"
}

fn topic() -> impl Strategy<Value = TopicName> {
    "[a-zé/$]{1,12}".prop_map(|text| TopicName::parse(&text).unwrap())
}

fn filter() -> impl Strategy<Value = TopicFilter> {
    prop_oneof![Just("a/+/#"), Just("$share/g/x"), Just("é")]
        .prop_map(|text| TopicFilter::parse(text).unwrap())
}

fn bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..30).prop_map(Bytes::from)
}

fn qos() -> impl Strategy<Value = QoS> {
    (0..3_u8).prop_map(|bits| QoS::from_bits(bits).unwrap())
}

fn properties() -> impl Strategy<Value = PublishProperties> {
    let pairs = proptest::collection::vec((text(), text()), 0..3);
    let order = proptest::sample::select(vec![0, 0o12, 0o51, 0o54_321, 0o12_345]);
    (option(any::<bool>()), option(topic()), option(bytes()), option(text()), pairs, order).prop_map(
        |(
            payload_format_indicator,
            response_topic,
            correlation_data,
            content_type,
            user_properties,
            order,
        )| {
            PublishProperties {
                payload_format_indicator,
                response_topic,
                correlation_data,
                content_type,
                user_properties,
                order: SaidOrder::numbered(order).unwrap_or_default(),
                ..PublishProperties::default()
            }
        },
    )
}

fn any_message() -> impl Strategy<Value = Arc<Message>> {
    let parts = (
        any::<u64>(),
        text(),
        topic(),
        bytes(),
        qos(),
        any::<bool>(),
        option(properties()),
        option(any::<u64>()),
    );
    (parts, option(text())).prop_map(|(parts, source)| {
        let (number, publisher, topic, payload, qos, retain, properties, expires) = parts;
        let message = Message::new(MessageParts {
            number,
            publisher: publisher.into(),
            topic,
            payload,
            qos,
            retain,
            properties: properties.map(Box::new),
            expires: expires.map(Moment),
        });
        Arc::new(match source {
            Some(source) => message.of_source(source.into()),
            None => message,
        })
    })
}

fn parcel() -> impl Strategy<Value = Parcel> {
    let identifiers = option(proptest::collection::vec(any::<u32>(), 0..4));
    (any_message(), qos(), any::<bool>(), identifiers, option(filter())).prop_map(
        |(message, qos, retain, identifiers, shared)| Parcel {
            message,
            qos,
            retain,
            identifiers: identifiers.map(Vec::into_boxed_slice),
            shared,
        },
    )
}

fn change() -> impl Strategy<Value = Change> {
    let id = || (1..=u16::MAX).prop_map(|number| PacketId::new(number).unwrap());
    let client = || text().prop_map(Arc::<str>::from);
    let options =
        (qos(), any::<bool>(), any::<bool>(), 0..3_u8).prop_map(|(qos, no_local, rap, handling)| {
            let retain_handling = match handling {
                0 => RetainHandling::Send,
                1 => RetainHandling::SendIfNew,
                _ => RetainHandling::DoNotSend,
            };
            SubscriptionOptions { qos, no_local, retain_as_published: rap, retain_handling }
        });
    prop_oneof![
        (client(), text(), option(any::<[u8; 32]>()), any::<u32>(), option(any::<u64>())).prop_map(
            |(client_id, name, credential, expiry, absent)| Change::Session {
                client_id,
                record: SessionRecord {
                    identity: Identity { name: name.into(), credential },
                    expiry,
                    absent_since: absent.map(Moment),
                },
            }
        ),
        client().prop_map(|client_id| Change::SessionEnded { client_id }),
        (client(), filter(), options, any::<u32>()).prop_map(|(client_id, filter, options, identifier)| {
            Change::Subscribed { client_id, filter, options, identifier }
        }),
        (client(), filter()).prop_map(|(client_id, filter)| Change::Unsubscribed { client_id, filter }),
        (client(), any::<u64>(), parcel()).prop_map(|(client_id, place, parcel)| Change::Queued {
            client_id,
            place,
            parcel
        }),
        (client(), any::<u64>(), id()).prop_map(|(client_id, place, packet_id)| Change::Sent {
            client_id,
            place,
            packet_id
        }),
        (client(), any::<u64>(), id()).prop_map(|(client_id, place, packet_id)| Change::Received {
            client_id,
            place,
            packet_id
        }),
        (client(), any::<u64>()).prop_map(|(client_id, place)| Change::Delivered { client_id, place }),
        (client(), id()).prop_map(|(client_id, packet_id)| Change::Incoming { client_id, packet_id }),
        (client(), id()).prop_map(|(client_id, packet_id)| Change::Released { client_id, packet_id }),
        (client(), id(), any_message()).prop_map(|(client_id, packet_id, message)| Change::Held {
            client_id,
            packet_id,
            message
        }),
        (client(), any_message(), option(any::<u32>()), any::<u64>()).prop_map(
            |(client_id, message, expiry, due)| Change::WillPending {
                client_id,
                message,
                expiry,
                due: Moment(due)
            }
        ),
        client().prop_map(|client_id| Change::WillSettled { client_id }),
        (client(), text(), option(any::<[u8; 32]>()), any_message(), option(any::<u32>()), any::<u32>())
            .prop_map(|(client_id, name, credential, message, expiry, delay)| Change::WillLodged {
                client_id,
                identity: Box::new(Identity { name: name.into(), credential }),
                message,
                expiry,
                delay
            }),
        any_message().prop_map(|message| Change::Retained { message }),
        topic().prop_map(|topic| Change::RetainedCleared { topic }),
    ]
}

fn letter() -> impl Strategy<Value = Letter> {
    let text = || text().prop_map(Arc::<str>::from);
    prop_oneof![
        any_message().prop_map(Letter::Message),
        (text(), text(), any_message(), any::<u16>(), any::<bool>()).prop_map(
            |(client_id, filter, message, offers, is_full)| Letter::Passed {
                client_id,
                filter,
                message,
                offers,
                is_full,
            }
        ),
        (text(), text(), any_message(), any::<u16>(), any::<bool>()).prop_map(
            |(client_id, filter, message, offers, may_pass)| Letter::Chosen {
                client_id,
                filter,
                message,
                offers,
                may_pass,
            }
        ),
        (any::<u16>(), text(), text(), any::<bool>()).prop_map(|(shard, client_id, filter, connected)| {
            Letter::Joined { shard: ShardId(shard), client_id, filter, connected }
        }),
        (text(), text()).prop_map(|(client_id, filter)| Letter::Left { client_id, filter }),
        parcel().prop_map(|parcel| Letter::Returned { parcel: Box::new(parcel) }),
        (any::<u16>(), any::<u64>())
            .prop_map(|(shard, ticket)| Letter::Asked { shard: ShardId(shard), ticket }),
        any::<u64>().prop_map(|ticket| Letter::Answered { ticket }),
    ]
}

proptest! {
    #[test]
    fn a_fact_comes_back_from_its_bytes(change in change()) {
        prop_assert_eq!(Change::decode(&change.encode()).unwrap(), change);
    }

    #[test]
    fn a_letter_comes_back_from_its_bytes(letter in letter()) {
        let bytes = letter.encode();
        let back = Letter::decode(&bytes).unwrap();
        prop_assert_eq!(format!("{back:?}"), format!("{letter:?}"));
        prop_assert_eq!(back.encode(), bytes);
    }

    #[test]
    fn a_damaged_record_is_refused(change in change(), at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let mut bytes = change.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(Change::decode(&bytes).is_err());
    }

    #[test]
    fn a_cut_or_lengthened_record_is_refused(change in change(), at in any::<prop::sample::Index>(), more in 0..9_u8) {
        let bytes = change.encode();
        prop_assert!(Change::decode(&bytes[..at.index(bytes.len())]).is_err());
        let mut longer = bytes.clone();
        longer.push(more);
        prop_assert!(Change::decode(&longer).is_err());
    }

    #[test]
    fn any_bytes_at_all_are_a_record_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = Change::decode(&bytes);
        let _ = Letter::decode(&bytes);
    }

    /// Random traffic, a crash in the middle, and the shard that starts from the journal equals the one that died.
    #[test]
    fn a_shard_from_its_journal_equals_the_one_that_wrote_it(seed in any::<u64>(), steps in 0..200_u32) {
        let mut town = busy_town(seed, steps);
        let before = absent(town.facts());
        let retained: Vec<_> = town.shared.retained.all().iter().map(|m| m.topic.to_string()).collect();
        town.crash();
        prop_assert_eq!(absent(town.facts()), before);
        let after: Vec<_> = town.shared.retained.all().iter().map(|m| m.topic.to_string()).collect();
        prop_assert_eq!(after, retained);
    }
}
