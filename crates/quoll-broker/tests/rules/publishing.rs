//! PUBLISH and its acknowledgements, aliases, limits (§3.3, §4.3).

use std::num::NonZeroU16;

use bytes::Bytes;
use quoll_broker::ShardSettings;
use quoll_broker::vocabulary::{Event, Farewell};
use quoll_mqtt::packet::{Ack, Packet};
use quoll_mqtt::{Delivery, QoS, ReasonCode, TopicName};

use crate::town::{
    Caller, Peer, Town, client, id, message, pubcomp, pubrec, pubrel, subscribe, subscribe_with, unsubscribe,
};

fn ears(town: &mut Town) -> Peer {
    let peer = town.enter(client("ears").polite());
    town.subscribe(peer, "#", 2);
    peer
}

fn failed(reason: ReasonCode) -> Farewell {
    Farewell::Disconnect(reason)
}

/// [MQTT-4.3.1-1] [MQTT-4.3.2-4] [MQTT-4.3.3-8]
#[test]
fn each_level_is_acknowledged_in_its_way() {
    let mut town = Town::new();
    let ears = ears(&mut town);
    let peer = town.enter(client("lamp"));
    town.send(peer, message("a", "0"));
    assert_eq!(town.next(peer), None);
    town.send(peer, message("a", "1").qos1(7));
    assert_eq!(town.next(peer), Some(Packet::PubAck(Ack::new(id(7), ReasonCode::SUCCESS))));
    town.send(peer, message("a", "2").qos2(8));
    assert_eq!(town.next(peer), Some(pubrec(8)));
    town.send(peer, pubrel(8));
    assert_eq!(town.next(peer), Some(pubcomp(8)));
    assert_eq!(town.messages(ears), ["a=0", "a=1", "a=2"]);
}

/// [MQTT-4.3.3-10]
#[test]
fn a_repeated_qos_2_message_is_acknowledged_again_and_routed_once() {
    let mut town = Town::new();
    let ears = ears(&mut town);
    let mut peer = town.enter(client("lamp").kept(0));
    town.send(peer, message("a", "x").qos2(8));
    town.send(peer, message("a", "x").qos2(8).dup());
    assert_eq!(town.heard(peer), [pubrec(8), pubrec(8)]);
    town.lose(peer);
    peer = town.enter(client("lamp").kept(0));
    town.send(peer, message("a", "x").qos2(8).dup());
    town.send(peer, pubrel(8));
    assert_eq!(town.heard(peer), [pubrec(8), pubcomp(8)]);
    town.send(peer, message("a", "y").qos2(8));
    town.send(peer, pubrel(8));
    assert_eq!(town.messages(ears), ["a=x", "a=y"], "a released identifier is a new message");
}

/// §4.3.3: as Mosquitto, so that who listens to himself sees the same order.
#[test]
fn a_qos_2_message_is_routed_and_retained_when_it_is_released() {
    let mut town = Town::new();
    let ears = ears(&mut town);
    let peer = town.enter(client("lamp"));
    town.send(peer, message("a", "x").qos2(8).retained());
    assert!(town.messages(ears).is_empty());
    let late = town.enter(client("late"));
    town.subscribe(late, "a", 0);
    assert!(town.messages(late).is_empty(), "not retained yet");
    town.send(peer, pubrel(8));
    assert_eq!((town.messages(ears), town.messages(late)), (vec!["a=x".into()], vec!["a=x".to_owned()]));
    town.send(peer, message("a", "y").qos2(9));
    town.lose(peer);
    assert!(town.messages(ears).is_empty(), "what is never released ends with its session");
}

#[test]
fn qos_2_messages_beyond_what_is_held_are_routed_at_once_and_only_once() {
    let mut town = Town::new();
    let ears = ears(&mut town);
    let peer = town.enter(client("lamp"));
    let held = u16::try_from(quoll_broker::limits::HELD_MESSAGES).unwrap();
    for number in 1..=held + 2 {
        town.send(peer, message("a", &number.to_string()).qos2(number));
    }
    let at_once = [format!("a={}", held + 1), format!("a={}", held + 2)];
    assert_eq!(town.messages(ears), at_once);
    town.send(peer, pubrel(held + 1));
    assert!(town.messages(ears).is_empty(), "not a second time");
    town.send(peer, pubrel(1));
    assert_eq!(town.messages(ears), ["a=1"]);
}

/// §3.6.2.1: 0x92 is no duty, and a PUBREL after a lost PUBCOMP is no fault.
#[test]
fn pubrel_of_an_unknown_identifier_is_answered_as_any_other() {
    let mut town = Town::new();
    for caller in [client("a"), client("b").v5()] {
        let peer = town.enter(caller);
        town.send(peer, pubrel(9));
        assert_eq!(town.next(peer), Some(pubcomp(9)));
    }
}

/// §3.4.2.1: only 5.0 publishers of QoS 1 hear it; of a QoS 2 message it is not known yet.
#[test]
fn a_5_0_publisher_is_told_that_nobody_listens() {
    let mut town = Town::new();
    let other = town.enter(client("ears"));
    town.subscribe(other, "b/+", 0);
    let three = town.enter(client("three"));
    let five = town.enter(client("five").v5());
    let answer = |town: &mut Town, peer, message: crate::town::Message| {
        town.send(peer, message);
        match town.next(peer) {
            Some(Packet::PubAck(ack) | Packet::PubRec(ack)) => ack.reason,
            packet => panic!("{packet:?}"),
        }
    };
    assert_eq!(answer(&mut town, five, message("a", "x").qos1(1)), ReasonCode::NO_MATCHING_SUBSCRIBERS);
    assert_eq!(answer(&mut town, five, message("a", "x").qos2(2)), ReasonCode::SUCCESS);
    assert_eq!(answer(&mut town, five, message("b/c", "x").qos1(3)), ReasonCode::SUCCESS);
    assert_eq!(answer(&mut town, three, message("a", "x").qos1(1)), ReasonCode::SUCCESS);
}

#[test]
fn a_listener_on_another_shard_counts_as_one() {
    let mut town = Town::of(2);
    let ears = town.enter(client("a"));
    town.subscribe(ears, "t", 0);
    let lamp = town.enter(client("b").v5());
    for (topic, reason) in [("t", ReasonCode::SUCCESS), ("u", ReasonCode::NO_MATCHING_SUBSCRIBERS)] {
        town.send(lamp, message(topic, "").qos1(1));
        assert_eq!(town.next(lamp), Some(Packet::PubAck(Ack::new(id(1), reason))), "{topic}");
    }
}

/// [MQTT-3.3.4-7] [MQTT-3.3.4-9]
#[test]
fn more_qos_2_messages_at_once_than_the_receive_maximum_end_a_5_0_connection() {
    let mut town = Town::new();
    let (three, five) = (town.enter(client("three")), town.enter(client("five").v5()));
    for number in 1..=20 {
        town.send(five, message("a", "x").qos2(number));
        town.send(three, message("a", "x").qos2(number));
    }
    town.send(five, pubrel(3));
    town.send(five, message("a", "x").qos2(21));
    assert!(town.is_open(five));
    town.send(five, message("a", "x").qos2(22));
    assert_eq!(town.last_word(five), Some(&failed(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED)));
    town.send(three, message("a", "x").qos2(22));
    assert!(town.is_open(three), "3.1.1 knows no such limit");
}

fn alias(number: u16) -> impl FnOnce(&mut quoll_mqtt::packet::PublishProperties) {
    move |say| say.topic_alias = NonZeroU16::new(number)
}

/// §3.3.2.3.4
#[test]
fn an_alias_stands_for_the_topic_it_was_last_given_with() {
    let mut town = Town::new();
    let ears = ears(&mut town);
    let peer = town.enter(client("lamp").v5());
    for (topic, payload) in [("a", "1"), ("", "2"), ("b", "3"), ("", "4")] {
        town.send(peer, message(topic, payload).saying(alias(10)));
    }
    assert_eq!(town.messages(ears), ["a=1", "a=2", "b=3", "b=4"]);
}

/// [MQTT-3.3.2-8] [MQTT-3.3.2-9]; §3.3.2.3.4 for the unknown one
#[test]
fn an_alias_out_of_range_or_unknown_ends_the_connection() {
    let table = [
        ("a", 11, ReasonCode::TOPIC_ALIAS_INVALID),
        ("", 11, ReasonCode::TOPIC_ALIAS_INVALID),
        ("", 3, ReasonCode::PROTOCOL_ERROR),
    ];
    for (topic, number, reason) in table {
        let mut town = Town::new();
        let peer = town.enter(client("lamp").v5());
        town.send(peer, message(topic, "x").saying(alias(number)));
        assert_eq!(town.last_word(peer), Some(&failed(reason)), "{topic:?} {number}");
    }
}

/// [MQTT-3.3.2-7]
#[test]
fn aliases_end_with_their_connection() {
    let mut town = Town::new();
    let peer = town.enter(client("lamp").v5().kept(9));
    town.send(peer, message("a", "x").saying(alias(1)));
    town.lose(peer);
    let peer = town.enter(client("lamp").v5().kept(9));
    town.send(peer, message("", "x").saying(alias(1)));
    assert_eq!(town.last_word(peer), Some(&failed(ReasonCode::PROTOCOL_ERROR)));
}

/// [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20] [MQTT-3.3.2-4]
#[test]
fn what_an_application_says_in_properties_reaches_5_0_subscribers_unaltered() {
    let mut town = Town::new();
    let five = town.enter(client("five").v5());
    let three = town.enter(client("three"));
    town.subscribe(five, "#", 0);
    town.subscribe(three, "#", 0);
    let peer = town.enter(client("lamp").v5());
    let say = |say: &mut quoll_mqtt::packet::PublishProperties| {
        say.payload_format_indicator = Some(true);
        say.response_topic = Some(TopicName::parse("answers/here").unwrap());
        say.correlation_data = Some(Bytes::from_static(&[0, 255, 1]));
        say.content_type = Some("text/plain".into());
        say.user_properties =
            vec![("b".into(), "1".into()), ("a".into(), "2".into()), ("b".into(), "1".into())];
    };
    let sent = message("ask", "?").saying(say);
    let expected = sent.0.properties.clone();
    town.send(peer, sent);
    assert_eq!(town.publishes(five)[0].properties, expected);
    assert_eq!(town.publishes(three)[0].properties, None);
}

/// [MQTT-3.2.2-11] [MQTT-3.2.2-14] [MQTT-3.3.4-6]
#[test]
fn a_publish_against_what_connack_said_ends_the_connection() {
    let settings =
        ShardSettings { max_qos: QoS::AtLeastOnce, retain_available: false, ..ShardSettings::default() };
    let table = [
        (message("a", "x").qos2(1), ReasonCode::QOS_NOT_SUPPORTED),
        (message("a", "x").retained(), ReasonCode::RETAIN_NOT_SUPPORTED),
        (message("a", "x").saying(|say| say.subscription_identifiers = vec![1]), ReasonCode::PROTOCOL_ERROR),
    ];
    for (message, reason) in table {
        let mut town = Town::with(settings.clone(), 1);
        let peer = town.enter(client("lamp").v5());
        town.send(peer, message);
        assert_eq!(town.last_word(peer), Some(&failed(reason)));
    }
}

#[test]
fn a_message_that_breaks_a_limit_is_not_routed_and_its_5_0_publisher_is_told() {
    let settings = ShardSettings { message_size_limit: 10, ..ShardSettings::default() };
    let many = vec![(String::new(), String::new()); 1001];
    let table = [
        (message("a", "12345678901"), ReasonCode::PACKET_TOO_LARGE),
        (message("a", "x").saying(|say| say.user_properties = many), ReasonCode::QUOTA_EXCEEDED),
    ];
    for (message, reason) in table {
        let mut town = Town::with(settings.clone(), 1);
        let ears = ears(&mut town);
        let peer = town.enter(client("lamp").v5());
        town.send(peer, message.qos1(1));
        assert_eq!(town.next(peer), Some(Packet::PubAck(Ack::new(id(1), reason))));
        assert!(town.messages(ears).is_empty() && town.is_open(peer));
    }
}

/// As Mosquitto 2.0.11 answers each of them, seen on the wire: 200 slashes are taken, 201 cost the connection.
#[test]
fn more_than_two_hundred_slashes_cost_the_connection() {
    let versions: [fn(Caller) -> Caller; 3] = [Caller::v31, |caller| caller, Caller::v5];
    let aliased = |topic: &str| message(topic, "x").saying(|say| say.topic_alias = NonZeroU16::new(1));
    for (version, dress) in versions.into_iter().enumerate() {
        for (slashes, is_taken) in [(199, true), (200, true), (201, false), (65_535, false)] {
            let topics = ["/".repeat(slashes), vec!["a"; slashes + 1].join("/")];
            for topic in topics.iter().filter(|topic| topic.len() <= 65_535) {
                let filters = ["ok", topic];
                let wrong = ReasonCode::PROTOCOL_ERROR;
                let mut rows: Vec<(&str, Packet, ReasonCode)> = vec![
                    ("at QoS 0", message(topic, "x").into(), wrong),
                    ("at QoS 1", message(topic, "x").retained().qos1(1).into(), wrong),
                    ("at QoS 2", message(topic, "x").qos2(1).into(), wrong),
                    ("SUBSCRIBE", subscribe(1, &filters, 1), ReasonCode::MALFORMED_PACKET),
                    ("UNSUBSCRIBE", unsubscribe(1, &filters), ReasonCode::MALFORMED_PACKET),
                ];
                if version == 2 {
                    rows.push(("with an alias", aliased(topic).into(), wrong));
                }
                for (what, packet, reason) in rows {
                    let mut town = Town::new();
                    let ears = ears(&mut town);
                    let peer = town.enter(dress(client("lamp")).polite());
                    town.subscribe(peer, "ok", 0);
                    town.send(peer, packet);
                    let heard = (town.messages(ears).len(), town.shared.retained.len());
                    let case = format!("{what}, version {version}, {slashes} slashes: {heard:?}");
                    assert_eq!(town.last_word(peer), (!is_taken).then_some(&failed(reason)), "{case}");
                    let is_publish = !what.ends_with("SCRIBE");
                    assert_eq!(heard.0, usize::from(is_taken && is_publish), "{case}");
                    assert_eq!(heard.1, usize::from(is_taken && what == "at QoS 1"), "{case}");
                }
                let mut town = Town::new();
                let peer = town.connect(dress(client("lamp")).will(topic, "gone", |_| {}));
                let expected = (!is_taken).then_some(&Farewell::Silent);
                assert_eq!(town.last_word(peer), expected, "a will, version {version}, {slashes} slashes");
            }
        }
    }
}

/// `$share/NAME` is a part of the filter, in Mosquitto's count as well.
#[test]
fn the_slashes_of_a_shared_filter_count_whole() {
    for (slashes, is_taken) in [(198, true), (199, false)] {
        let mut town = Town::new();
        let peer = town.enter(client("lamp"));
        town.send(peer, subscribe(1, &[&format!("$share/g/{}", "/".repeat(slashes))], 1));
        assert_eq!(town.is_open(peer), is_taken, "{slashes}");
    }
}

/// `$SYS` is the server's; Mosquitto does the same.
#[test]
fn clients_do_not_publish_to_sys_and_not_to_share() {
    let mut town = Town::new();
    let ears = town.enter(client("ears"));
    town.subscribe(ears, "$SYS/#", 0);
    let peer = town.enter(client("lamp").v5());
    for (topic, reason) in [
        ("$SYS/x", ReasonCode::NOT_AUTHORIZED),
        ("$share/g/x", ReasonCode::NOT_AUTHORIZED),
        ("$SYSTEM", ReasonCode::NO_MATCHING_SUBSCRIBERS),
    ] {
        town.send(peer, message(topic, "x").qos1(1));
        assert_eq!(town.next(peer), Some(Packet::PubAck(Ack::new(id(1), reason))), "{topic}");
    }
    assert!(town.messages(ears).is_empty());
    assert!(
        town.events.iter().any(|event| matches!(event, Event::Denied { topic, .. } if **topic == *"$SYS/x"))
    );
}

/// [MQTT-3.3.5-1] and [MQTT-4.6.0-6]
#[test]
fn messages_of_a_publisher_arrive_in_their_order() {
    let mut town = Town::of(2);
    let ears = [town.enter(client("a").polite()), town.enter(client("b").polite())];
    for peer in ears {
        town.subscribe(peer, "t", 1);
    }
    let lamp = town.enter(client("c"));
    let sent: Vec<_> = (1..=50).map(|number| format!("t={number}")).collect();
    for number in 1..=50 {
        town.send(lamp, message("t", &number.to_string()).qos1(number));
    }
    for peer in ears {
        assert_eq!(town.messages(peer), sent);
    }
}

/// [MQTT-3.8.4-8]
#[test]
fn a_delivery_has_the_lower_of_the_two_levels() {
    for published in 0..=2 {
        for wanted in 0..=2 {
            let mut town = Town::new();
            let ears = town.enter(client("ears"));
            town.subscribe(ears, "a", wanted);
            let lamp = town.enter(client("lamp"));
            town.send(lamp, message("a", "x").qos(published, 1));
            if published == 2 {
                town.send(lamp, pubrel(1));
            }
            let came = town.publishes(ears)[0].delivery;
            assert_eq!(came.qos() as u8, published.min(wanted), "{published} to {wanted}");
            assert_eq!(came == Delivery::AtMostOnce, came.packet_id().is_none());
        }
    }
}

/// [MQTT-3.8.3-3]
#[test]
fn no_local_keeps_a_clients_own_messages_from_it() {
    let mut town = Town::of(2);
    let lamp = town.enter(client("lamp").v5());
    town.send(lamp, subscribe_with(1, &["a"], None, |options| options.no_local = true));
    let other = town.enter(client("other").v5());
    town.subscribe(other, "a", 0);
    town.heard(lamp);
    town.send(lamp, message("a", "mine"));
    town.send(other, message("a", "yours"));
    assert_eq!(town.messages(lamp), ["a=yours"]);
    assert_eq!(town.messages(other), ["a=mine", "a=yours"]);
}
