//! SUBSCRIBE, UNSUBSCRIBE, retained messages, overlapping subscriptions (§3.8 to §3.11, §3.3.1.3, §4.7).

use quoll_broker::vocabulary::{Farewell, Order};
use quoll_broker::{Overlapping, ShardSettings};
use quoll_mqtt::packet::{Packet, RetainHandling};
use quoll_mqtt::{QoS, ReasonCode};

use crate::town::{Peer, Town, client, message, pubrel, said, subscribe, subscribe_with, unsubscribe};

fn lamp_with(town: &mut Town, retained: &[(&str, &str)]) -> Peer {
    let lamp = town.enter(client("lamp").v5());
    for (topic, payload) in retained {
        town.send(lamp, message(topic, payload).retained());
    }
    lamp
}

/// [MQTT-3.8.4-1] [MQTT-3.8.4-6]
#[test]
fn each_filter_is_answered_in_its_place() {
    let settings = ShardSettings { max_qos: QoS::AtLeastOnce, ..ShardSettings::default() };
    let mut town = Town::with(settings, 1);
    let peer = town.enter(client("lamp").v5().granted(&[], &["a/#"]));
    town.send(peer, subscribe(5, &["a/b", "b", "a/#"], 2));
    let expected = [ReasonCode::GRANTED_QOS_1, ReasonCode::NOT_AUTHORIZED, ReasonCode::GRANTED_QOS_1];
    assert_eq!(town.suback(peer), expected);
}

/// [MQTT-3.10.4-1] [MQTT-3.11.3-1]
#[test]
fn unsubscribe_ends_what_there_was_and_says_what_there_was_not() {
    let mut town = Town::new();
    let peer = town.enter(client("lamp").v5());
    town.subscribe(peer, "a", 0);
    town.subscribe(peer, "b/+", 0);
    town.send(peer, unsubscribe(3, &["a", "x", "b/+"]));
    let expected = [ReasonCode::SUCCESS, ReasonCode::NO_SUBSCRIPTION_EXISTED, ReasonCode::SUCCESS];
    assert!(matches!(town.next(peer), Some(Packet::UnsubAck(ack)) if ack.reasons == expected));
    town.send(peer, message("a", "x"));
    town.send(peer, message("b/c", "x"));
    assert!(town.heard(peer).is_empty());
    assert_eq!(town.shard(0).stats().subscriptions, 0);
}

/// [MQTT-4.7.2-1]; the table of §4.7 in the tree's own tests
#[test]
fn a_wildcard_in_front_does_not_see_dollar_topics() {
    let mut town = Town::new();
    let peer = town.enter(client("ears"));
    for filter in ["#", "+/x"] {
        town.subscribe(peer, filter, 0);
    }
    let lamp = lamp_with(&mut town, &[]);
    town.send(lamp, message("$own/x", "x"));
    assert!(town.messages(peer).is_empty());
    town.subscribe(peer, "$own/#", 0);
    town.send(lamp, message("$own/x", "y"));
    assert_eq!(town.messages(peer), ["$own/x=y"]);
}

/// [MQTT-3.8.4-3]
#[test]
fn the_same_filter_again_replaces_the_subscription() {
    let mut town = Town::new();
    let peer = town.enter(client("ears").v5());
    town.subscribe(peer, "a", 0);
    town.subscribe(peer, "a", 1);
    let lamp = lamp_with(&mut town, &[]);
    town.send(lamp, message("a", "x").qos1(1));
    let came = town.publishes(peer);
    assert_eq!((came.len(), came[0].delivery.qos()), (1, QoS::AtLeastOnce));
    assert_eq!(town.shard(0).stats().subscriptions, 1);
}

/// [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT-3.3.1-8] [MQTT-3.3.1-9]
#[test]
fn the_last_retained_message_of_a_topic_meets_new_subscribers() {
    let mut town = Town::new();
    let lamp = lamp_with(&mut town, &[("a/1", "old"), ("a/1", "new"), ("a/2", "x"), ("b", "y"), ("a/2", "")]);
    let peer = town.enter(client("ears"));
    town.subscribe(peer, "a/#", 0);
    let came = town.publishes(peer);
    assert_eq!(came.iter().map(said).collect::<Vec<_>>(), ["a/1=new"]);
    assert!(came[0].retain);
    town.send(lamp, message("a/1", "live").retained());
    assert!(!town.publishes(peer)[0].retain, "live messages are not marked as retained");
}

/// The answer comes first: clients expect it so.
#[test]
fn suback_comes_before_the_retained_messages() {
    let mut town = Town::new();
    lamp_with(&mut town, &[("a", "x")]);
    let peer = town.enter(client("ears"));
    town.send(peer, subscribe(1, &["a"], 0));
    let heard = town.heard(peer);
    assert!(matches!(heard[..], [Packet::SubAck(_), Packet::Publish(_)]), "{heard:?}");
}

/// [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
#[test]
fn retain_handling_says_when_retained_messages_come() {
    let table = [
        (RetainHandling::Send, [1, 1]),
        (RetainHandling::SendIfNew, [1, 0]),
        (RetainHandling::DoNotSend, [0, 0]),
    ];
    for (handling, expected) in table {
        let mut town = Town::new();
        lamp_with(&mut town, &[("a", "x")]);
        let peer = town.enter(client("ears").v5());
        let counts = [1, 2].map(|number| {
            town.send(
                peer,
                subscribe_with(number, &["a"], None, |options| options.retain_handling = handling),
            );
            town.publishes(peer).len()
        });
        assert_eq!(counts, expected, "{handling:?}");
    }
}

/// [MQTT-3.3.1-12] [MQTT-3.3.1-13]
#[test]
fn retain_as_published_keeps_the_flag_of_live_messages() {
    let mut town = Town::new();
    let peer = town.enter(client("ears").v5());
    town.send(peer, subscribe_with(1, &["a"], None, |options| options.retain_as_published = true));
    let lamp = lamp_with(&mut town, &[]);
    town.send(lamp, message("a", "x").retained());
    town.send(lamp, message("a", "y"));
    assert_eq!(town.publishes(peer).iter().map(|publish| publish.retain).collect::<Vec<_>>(), [true, false]);
}

/// 3.1.1's bridges ask by a bit in CONNECT for what 5.0 asks in SUBSCRIBE (facts: mosquitto, try_private).
#[test]
fn a_bridge_of_3_1_1_keeps_the_retain_flag_and_does_not_hear_itself() {
    let mut town = Town::new();
    let mut caller = client("bridge");
    caller.connect.bridge = true;
    let bridge = town.enter(caller);
    town.subscribe(bridge, "#", 0);
    town.send(bridge, message("a", "mine"));
    let lamp = lamp_with(&mut town, &[]);
    town.send(lamp, message("a", "x").retained());
    let came = town.publishes(bridge);
    assert!(came.len() == 1 && came[0].retain);
}

/// §3.3.2.3.3 for retained messages
#[test]
fn an_expired_retained_message_is_not_sent_and_is_forgotten() {
    let mut town = Town::new();
    let lamp = town.enter(client("lamp").v5());
    let short = message("a", "x").retained().saying(|say| say.message_expiry_interval = Some(10));
    town.send(lamp, short);
    let peer = town.enter(client("ears").v5());
    town.seconds(4);
    town.subscribe(peer, "a", 0);
    assert_eq!(town.publishes(peer)[0].properties.as_ref().unwrap().message_expiry_interval, Some(6));
    town.seconds(7);
    town.subscribe(peer, "a", 0);
    assert!(town.publishes(peer).is_empty() && town.shared.retained.is_empty());
}

#[test]
fn retained_messages_expire_where_the_operator_says_so() {
    let mut town = Town::with(ShardSettings { retain_expiry_interval: 60, ..ShardSettings::default() }, 1);
    lamp_with(&mut town, &[("a", "x")]);
    town.seconds(59);
    assert_eq!(town.shared.retained.len(), 1);
    town.seconds(2);
    assert!(town.shared.retained.is_empty());
}

#[test]
fn a_full_store_says_so_and_goes_on_routing() {
    let mut town = Town::with(ShardSettings { max_retained: 1, ..ShardSettings::default() }, 1);
    let peer = town.enter(client("ears"));
    town.subscribe(peer, "#", 0);
    let lamp = lamp_with(&mut town, &[("a", "x")]);
    town.send(lamp, message("b", "y").retained().qos1(1));
    assert!(matches!(town.next(lamp), Some(Packet::PubAck(ack)) if ack.reason == ReasonCode::QUOTA_EXCEEDED));
    assert_eq!(town.messages(peer), ["a=x", "b=y"]);
}

/// The publisher hears so, the subscribers hear it, the old value stays; a smaller one is taken always.
#[test]
fn a_store_that_is_full_by_bytes_says_so_and_goes_on_routing() {
    let mut town = Town::new();
    town.shared.retained.set_max_bytes(10 + quoll_broker::limits::RETAINED_COST);
    let peer = town.enter(client("ears"));
    town.subscribe(peer, "#", 0);
    let lamp = lamp_with(&mut town, &[]);
    let quota = ReasonCode::QUOTA_EXCEEDED;
    let rows = [("a", "12345", ReasonCode::SUCCESS), ("b", "1234", quota), ("a", "1234567890", quota)];
    for (topic, payload, reason) in rows {
        town.send(lamp, message(topic, payload).retained().qos1(1));
        assert!(matches!(town.next(lamp), Some(Packet::PubAck(ack)) if ack.reason == reason), "{topic}");
    }
    assert_eq!(town.messages(peer), ["a=12345", "b=1234", "a=1234567890"]);
    let late = town.enter(client("late"));
    town.subscribe(late, "#", 0);
    assert_eq!(town.messages(late), ["a=12345"]);
    town.send(lamp, message("a", "").retained().qos1(1));
    town.send(lamp, message("b", "1234").retained().qos1(2));
    assert_eq!(town.shared.retained.bytes(), 5);
    // What was taken and acknowledged outlives a restart, whatever the bound is then.
    town.shared.retained.set_max_bytes(10 + 2 * quoll_broker::limits::RETAINED_COST);
    let kept = town.enter(client("kept").kept(0));
    town.send(kept, message("c", "123").retained());
    town.crash();
    assert_eq!(town.shared.retained.bytes(), 9);
}

fn overlapping(overlapping: Overlapping) -> (Town, Peer) {
    let mut town = Town::with(ShardSettings { overlapping, ..ShardSettings::default() }, 1);
    let peer = town.enter(client("ears").v5().polite());
    for (filter, identifier, qos) in
        [("a/b", Some(1), QoS::AtMostOnce), ("a/+", Some(2), QoS::ExactlyOnce), ("#", None, QoS::AtLeastOnce)]
    {
        town.send(peer, subscribe_with(1, &[filter], identifier, |options| options.qos = qos));
    }
    town.heard(peer);
    let lamp = lamp_with(&mut town, &[]);
    town.send(lamp, message("a/b", "x").qos2(1));
    town.send(lamp, pubrel(1));
    (town, peer)
}

fn numbers(publish: &quoll_mqtt::packet::Publish) -> Vec<u32> {
    publish.properties.as_ref().map(|own| own.subscription_identifiers.clone()).unwrap_or_default()
}

/// [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4]
#[test]
fn overlapping_subscriptions_may_share_one_copy_with_all_identifiers() {
    let (mut town, peer) = overlapping(Overlapping::OneCopy);
    let came = town.publishes(peer);
    assert_eq!((came.len(), came[0].delivery.qos()), (1, QoS::ExactlyOnce));
    let mut numbers = numbers(&came[0]);
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
}

/// [MQTT-3.3.4-5]; Mosquitto's default since 2.1
#[test]
fn overlapping_subscriptions_get_a_copy_each_unless_told_otherwise() {
    let (mut town, peer) = overlapping(Overlapping::default());
    let mut came: Vec<_> =
        town.publishes(peer).iter().map(|p| (p.delivery.qos() as u8, numbers(p))).collect();
    came.sort();
    assert_eq!(came, [(0, vec![1]), (1, vec![]), (2, vec![2])]);
}

#[test]
fn subscriptions_are_bounded_and_replacing_one_is_not_adding() {
    let mut town = Town::with(ShardSettings { max_subscriptions: 40, ..ShardSettings::default() }, 1);
    let peer = town.enter(client("lamp").v5());
    for number in 0..40 {
        assert_eq!(town.subscribe(peer, &format!("a/{number}"), 0), ReasonCode::SUCCESS);
    }
    assert_eq!(town.subscribe(peer, "b", 0), ReasonCode::QUOTA_EXCEEDED);
    assert_eq!(town.subscribe(peer, "a/7", 1), ReasonCode::GRANTED_QOS_1);
    town.send(peer, unsubscribe(1, &["a/3", "a/39"]));
    assert_eq!(town.subscribe(peer, "b", 0), ReasonCode::SUCCESS);
}

#[test]
fn subscriptions_are_bounded_in_bytes_too() {
    // Few, and so many that they have an index.
    for count in [4, 40] {
        let settings = ShardSettings { max_subscription_bytes: 100 * count + 5, ..ShardSettings::default() };
        let mut town = Town::with(settings, 1);
        let filter = |number: usize| format!("{number:06}/{}", "x".repeat(93));
        let peer = town.enter(client("lamp").v5().kept(9));
        for number in 0..count {
            assert_eq!(town.subscribe(peer, &filter(number), 0), ReasonCode::SUCCESS, "{number}");
        }
        assert_eq!(town.subscribe(peer, &filter(count), 0), ReasonCode::QUOTA_EXCEEDED);
        assert_eq!(town.subscribe(peer, &filter(2), 1), ReasonCode::GRANTED_QOS_1, "replacing adds nothing");
        assert_eq!(town.subscribe(peer, "short", 0), ReasonCode::SUCCESS, "five bytes are left");
        town.send(peer, unsubscribe(1, &[&filter(3), "short"]));
        assert_eq!(town.subscribe(peer, &filter(count), 0), ReasonCode::SUCCESS);
        let other = town.enter(client("other"));
        assert_eq!(town.subscribe(other, &filter(3), 0), ReasonCode::SUCCESS, "each session has its own");
        town.crash();
        let peer = town.enter(client("lamp").v5().kept(9));
        assert_eq!(town.subscribe(peer, &filter(3), 0), ReasonCode::QUOTA_EXCEEDED, "also after a restart");
    }
}

#[test]
fn a_session_with_many_subscriptions_finds_and_loses_each() {
    let mut town = Town::new();
    let peer = town.enter(client("lamp"));
    let all: Vec<String> = (0..100).map(|number| format!("a/{number}/+")).collect();
    for filter in &all {
        town.subscribe(peer, filter, 0);
    }
    for filter in all.iter().step_by(2) {
        town.send(peer, unsubscribe(1, &[filter]));
    }
    town.heard(peer);
    for number in 0..100 {
        town.send(peer, message(&format!("a/{number}/x"), ""));
    }
    assert_eq!(town.messages(peer).len(), 50);
    town.lose(peer);
    assert_eq!(town.shard(0).stats().subscriptions, 0);
}

/// [MQTT-3.8.3-4]
#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    let mut town = Town::new();
    let peer = town.enter(client("lamp").v5());
    town.send(peer, subscribe_with(1, &["$share/g/a"], None, |options| options.no_local = true));
    assert_eq!(town.last_word(peer), Some(&Farewell::Disconnect(ReasonCode::PROTOCOL_ERROR)));
}

/// Facts: mosquitto, check_retain_source
#[test]
fn a_retained_message_is_withheld_while_its_publisher_may_not_publish_it() {
    let mut town = Town::new();
    for (name, topic) in [("alice", "t/a"), ("bob", "t/b")] {
        let lamp = town.enter(client(name).named(name, None));
        town.send(lamp, message(topic, "x").retained());
    }
    let new_one = |town: &mut Town| {
        let ears = town.enter(client("ears"));
        town.subscribe(ears, "t/#", 0);
        town.messages(ears)
    };
    let withhold = |town: &Town, name: &str| {
        town.shared.retained.judge(|it| it.source().is_some_and(|source| source != name));
    };
    assert_eq!(new_one(&mut town), ["t/a=x", "t/b=x"]);
    withhold(&town, "alice");
    assert_eq!(new_one(&mut town), ["t/b=x"]);
    withhold(&town, "nobody");
    assert_eq!(new_one(&mut town), ["t/a=x", "t/b=x"], "it is there again with the permission");
    withhold(&town, "alice");
    let bob = town.enter(client("bob").named("bob", None));
    town.send(bob, message("t/a", "y").retained());
    assert_eq!(new_one(&mut town), ["t/a=y", "t/b=x"], "another's takes its place");
    // The source is a fact like the rest of the message; the server's own messages have none and are never withheld.
    town.crash();
    withhold(&town, "bob");
    assert!(new_one(&mut town).is_empty());
    let settings = ShardSettings { check_retain_source: false, ..ShardSettings::default() };
    town.order(Order::Settings(Box::new(settings)));
    let bob = town.enter(client("bob").named("bob", None));
    town.send(bob, message("t/c", "z").retained());
    withhold(&town, "bob");
    assert_eq!(new_one(&mut town), ["t/c=z"], "whose source is not remembered cannot be asked about");
}
