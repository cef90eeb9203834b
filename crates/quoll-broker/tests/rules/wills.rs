//! Wills (§3.1.2.5, §3.1.3.2.2, §3.14.4).

use quoll_broker::vocabulary::{Farewell, Order};
use quoll_broker::{Change, ShardSettings};
use quoll_mqtt::packet::Packet;
use quoll_mqtt::{QoS, ReasonCode, TopicName};

use crate::town::{Caller, Peer, Town, client, disconnect, goodbye, message, said};

fn ears(town: &mut Town) -> Peer {
    let peer = town.enter(client("ears").v5().polite());
    town.subscribe(peer, "will/#", 2);
    peer
}

fn testator(delay: u32) -> Caller {
    client("lamp").v5().kept(100).will("will/lamp", "gone", |will| {
        will.properties.will_delay_interval = Some(delay);
    })
}

/// [MQTT-3.1.2-8] [MQTT-3.14.4-3]
#[test]
fn a_will_is_said_unless_the_client_said_goodbye() {
    type End = fn(&mut Town, Peer);
    let table: [(&str, End, bool); 6] = [
        ("lost", |town, peer| town.lose(peer), true),
        ("goodbye", |town, peer| town.send(peer, goodbye()), false),
        ("with will", |town, peer| town.send(peer, disconnect(ReasonCode::DISCONNECT_WITH_WILL)), true),
        ("protocol error", |town, peer| town.send(peer, Packet::PingResp), true),
        ("keep alive", |town, _| town.seconds(100), true),
        ("shut down", |town, _| town.order(Order::ShutDown), false),
    ];
    for (how, end, is_said) in table {
        let mut town = Town::new();
        let ears = ears(&mut town);
        let peer = town.enter(testator(0).clean().keep_alive(10));
        end(&mut town, peer);
        assert_eq!(town.messages(ears), if is_said { vec!["will/lamp=gone"] } else { vec![] }, "{how}");
    }
}

/// [MQTT-3.1.3-9]
#[test]
fn a_delayed_will_is_said_after_its_delay_or_with_the_end_of_the_session() {
    for (delay, expiry, said_after) in [(50, 100, 50), (500, 100, 100), (50, 0, 0)] {
        let mut town = Town::new();
        let ears = ears(&mut town);
        let peer = town.enter(testator(delay).kept(expiry));
        town.lose(peer);
        if said_after > 0 {
            town.seconds(said_after - 1);
            assert!(town.messages(ears).is_empty(), "{delay} {expiry}");
            town.seconds(2);
        }
        assert_eq!(town.messages(ears), ["will/lamp=gone"], "{delay} {expiry}");
        town.seconds(1000);
        assert!(town.messages(ears).is_empty(), "once");
    }
}

/// [MQTT-3.1.3-9]
#[test]
fn a_client_that_comes_back_in_time_is_not_mourned() {
    let mut town = Town::new();
    let ears = ears(&mut town);
    let peer = town.enter(testator(50));
    town.lose(peer);
    town.seconds(40);
    let peer = town.enter(client("lamp").v5().kept(100));
    town.seconds(40);
    town.lose(peer);
    town.seconds(1000);
    assert!(town.messages(ears).is_empty(), "and the new connection brought no will");
}

/// §3.1.3.2.2: the session ends, so the will is due.
#[test]
fn a_clean_start_ends_the_old_session_and_says_its_waiting_will() {
    let mut town = Town::new();
    let ears = ears(&mut town);
    let peer = town.enter(testator(50));
    town.lose(peer);
    town.enter(client("lamp").v5());
    assert_eq!(town.messages(ears), ["will/lamp=gone"]);
}

/// §3.1.4: the old connection is closed without its DISCONNECT.
#[test]
fn a_takeover_says_a_will_without_delay_and_spares_one_with() {
    for (delay, expected) in [(0, vec!["will/lamp=gone"]), (50, vec![])] {
        let mut town = Town::new();
        let ears = ears(&mut town);
        town.enter(testator(delay));
        town.enter(testator(delay));
        assert_eq!(town.messages(ears), expected, "{delay}");
    }
}

/// [MQTT-3.2.0-1]: a client that listens to its own will and takes its older connection over is answered first.
#[test]
fn a_will_that_a_takeover_says_comes_behind_connack() {
    for (version_5, qos) in [(false, 0), (false, 1), (true, 0), (true, 2)] {
        let mut town = Town::new();
        let lamp = |qos: u8| {
            let lamp = if version_5 { client("lamp").v5().kept(99) } else { client("lamp").kept(0) };
            lamp.will("will/lamp", "gone", |will| will.qos = QoS::from_bits(qos).unwrap())
        };
        let first = town.enter(lamp(qos));
        town.subscribe(first, "will/#", 2);
        let second = town.connect(lamp(qos));
        assert!(town.connack(second).session_present);
        assert_eq!(town.messages(second), ["will/lamp=gone"], "5.0: {version_5}, QoS {qos}");
    }
}

/// [MQTT-3.1.2-14] [MQTT-3.1.2-15] [MQTT-3.1.2-17]; §3.1.3.2.3 to .7
#[test]
fn a_will_is_a_message_like_others_with_level_retain_and_properties() {
    let mut town = Town::new();
    let ears = ears(&mut town);
    let peer = town.enter(client("lamp").v5().will("will/lamp", "gone", |will| {
        will.qos = QoS::ExactlyOnce;
        will.retain = true;
        will.properties.message_expiry_interval = Some(30);
        will.properties.content_type = Some("text/plain".into());
        will.properties.response_topic = Some(TopicName::parse("r").unwrap());
        will.properties.user_properties = vec![("k".into(), "v".into())];
    }));
    town.seconds(1000);
    town.lose(peer);
    let came = town.publishes(ears);
    assert_eq!((said(&came[0]).as_str(), came[0].delivery.qos()), ("will/lamp=gone", QoS::ExactlyOnce));
    let own = came[0].properties.as_ref().unwrap();
    assert_eq!(own.message_expiry_interval, Some(30), "counted from when it is said");
    assert_eq!(own.content_type.as_deref(), Some("text/plain"));
    assert_eq!((own.response_topic.is_some(), own.user_properties.len()), (true, 1));
    assert_eq!(town.shared.retained.len(), 1);
}

/// [MQTT-3.2.2-12] [MQTT-3.2.2-13]
#[test]
fn a_will_beyond_what_there_is_refuses_the_connection() {
    let settings = ShardSettings {
        max_qos: QoS::AtLeastOnce,
        retain_available: false,
        message_size_limit: 3,
        ..ShardSettings::default()
    };
    type Ask = fn(&mut quoll_mqtt::packet::Will);
    let table: [(&str, Ask, ReasonCode); 3] = [
        ("x", |will| will.qos = QoS::ExactlyOnce, ReasonCode::QOS_NOT_SUPPORTED),
        ("x", |will| will.retain = true, ReasonCode::RETAIN_NOT_SUPPORTED),
        ("long", |_| {}, ReasonCode::PACKET_TOO_LARGE),
    ];
    for (payload, ask, reason) in table {
        let mut town = Town::with(settings.clone(), 1);
        let peer = town.connect(client("lamp").v5().will("w", payload, ask));
        assert_eq!(town.last_word(peer), Some(&Farewell::Refuse(reason)));
        // A 3.x client would be told that it is not authorised, and its owner would look in vain; Mosquitto closes.
        let has_a_code = reason == ReasonCode::PACKET_TOO_LARGE;
        let expected = if has_a_code { Farewell::Refuse(reason) } else { Farewell::Silent };
        for old in [client("lamp"), client("lamp").v31()] {
            let peer = town.connect(old.will("w", payload, ask));
            assert_eq!(town.last_word(peer), Some(&expected), "{reason:?}");
        }
    }
}

/// Permissions count when the will is said, not when it was made.
#[test]
fn a_will_to_a_forbidden_topic_is_not_said() {
    let mut town = Town::new();
    let ears = ears(&mut town);
    let peer = town.enter(client("lamp").granted(&["other/#"], &[]).will("will/lamp", "gone", |_| {}));
    town.lose(peer);
    let peer = town.enter(testator(0).named("alice", None).clean());
    let grants = std::sync::Arc::new(quoll_broker::Grants::none());
    town.order(Order::Regrant { identity: "alice".into(), grants });
    town.lose(peer);
    assert!(town.messages(ears).is_empty());
    assert_eq!(town.shard(0).stats().denied, 2);
}

#[test]
fn an_expelled_client_is_mourned_at_once() {
    let mut town = Town::of(2);
    let ears = ears(&mut town);
    let peer = town.enter(testator(50).named("alice", Some(1)));
    town.order(Order::Expel { credential: [1; 32], reason: ReasonCode::NOT_AUTHORIZED });
    assert_eq!(town.last_word(peer), Some(&Farewell::Disconnect(ReasonCode::NOT_AUTHORIZED)));
    assert_eq!(town.messages(ears), ["will/lamp=gone"]);
}

#[test]
fn a_will_that_waits_survives_a_crash_and_is_said_when_due() {
    let mut town = Town::new();
    let peer = town.enter(testator(50));
    town.lose(peer);
    town.seconds(30);
    town.crash();
    let ears = ears(&mut town);
    town.seconds(19);
    assert!(town.messages(ears).is_empty());
    town.seconds(2);
    assert_eq!(town.messages(ears), ["will/lamp=gone"]);
    let other = town.enter(client("other"));
    town.send(other, message("will/x", "y"));
    assert_eq!(town.messages(ears), ["will/x=y"]);
}

/// Somebody who hears even what is said while nobody is there.
fn kept_ears(town: &mut Town) {
    let peer = town.enter(client("ears").v5().kept(100_000).polite());
    town.subscribe(peer, "will/#", 2);
    town.lose(peer);
}

fn heard_meanwhile(town: &mut Town) -> Vec<String> {
    let peer = town.enter(client("ears").v5().kept(100_000).polite());
    let messages = town.messages(peer);
    town.lose(peer);
    messages
}

fn lasting(delay: u32, expiry: u32) -> Caller {
    client("lamp").v5().kept(expiry).will("will/lamp", "gone", |will| {
        will.qos = QoS::AtLeastOnce;
        will.properties.will_delay_interval = Some(delay);
    })
}

/// §3.1.2.5: a crash closes the connections of all who were there.
#[test]
fn who_was_connected_when_the_node_died_is_mourned_after_the_restart() {
    for shards in 1..=2 {
        // Delay, session expiry, and after how many seconds it is said.
        for (delay, expiry, after) in [(0, 0, 0), (50, 0, 0), (0, 100, 0), (50, 100, 50), (500, 100, 100)] {
            let mut town = Town::of(shards);
            kept_ears(&mut town);
            town.enter(lasting(delay, expiry));
            town.seconds(1000);
            town.crash();
            let case = format!("{shards} shards, delay {delay}, expiry {expiry}");
            if after > 0 {
                town.seconds(after - 1);
                assert!(heard_meanwhile(&mut town).is_empty(), "{case}");
            }
            town.seconds(2);
            assert_eq!(heard_meanwhile(&mut town), ["will/lamp=gone"], "{case}");
            town.crash();
            town.seconds(1000);
            assert!(heard_meanwhile(&mut town).is_empty(), "{case}: once");
            assert!(town.facts().iter().all(|fact| fact.client_id().is_none_or(|id| &**id == "ears")));
        }
    }
}

#[test]
fn who_left_or_came_back_in_time_is_not_mourned_after_a_crash() {
    type Act = fn(&mut Town, Peer);
    let table: [(&str, Caller, Act, u64); 5] = [
        ("goodbye", lasting(0, 0), |town, peer| town.send(peer, goodbye()), 0),
        ("goodbye of a kept one", lasting(0, 100), |town, peer| town.send(peer, goodbye()), 0),
        ("lost, and said before", lasting(0, 0), |town, peer| town.lose(peer), 1),
        ("lost, and said before, kept", lasting(0, 100), |town, peer| town.lose(peer), 1),
        (
            "back without a will",
            lasting(50, 100),
            |town, _| assert!(town.enter(client("lamp").v5().kept(100)) != Peer(0)),
            0,
        ),
    ];
    for (how, caller, act, times) in table {
        let mut town = Town::of(2);
        kept_ears(&mut town);
        let peer = town.enter(caller);
        act(&mut town, peer);
        town.crash();
        town.seconds(200);
        assert_eq!(heard_meanwhile(&mut town).len() as u64, times, "{how}");
    }
    // Back after the crash, before it was due.
    let mut town = Town::new();
    kept_ears(&mut town);
    town.enter(lasting(50, 100));
    town.crash();
    town.seconds(30);
    let peer = town.enter(client("lamp").v5().kept(100));
    town.send(peer, goodbye());
    town.crash();
    town.seconds(1000);
    assert!(heard_meanwhile(&mut town).is_empty());
}

/// A stop is no crash, and yet it closes connections: the standard lets the server say the wills after its next start.
#[test]
fn wills_of_those_who_were_there_at_a_stop_are_said_after_the_next_start() {
    let mut town = Town::new();
    kept_ears(&mut town);
    town.enter(lasting(0, 0));
    town.order(Order::ShutDown);
    town.crash();
    town.seconds(1);
    assert_eq!(heard_meanwhile(&mut town), ["will/lamp=gone"]);
}

/// Nobody could ask for the permission after the restart.
#[test]
fn a_will_that_its_client_may_not_publish_does_not_wait_for_a_crash() {
    use std::sync::Arc;
    let rights = |topics: &[&str]| Arc::new(crate::town::grants(topics, &[]));
    let mut town = Town::new();
    kept_ears(&mut town);
    town.enter(lasting(0, 0).granted(&["other/#"], &[]).named("alice", None));
    town.crash();
    town.seconds(1);
    assert!(heard_meanwhile(&mut town).is_empty());

    // Grants that come and go while it is there.
    for (changes, said) in [(&[&["will/#"][..]][..], true), (&[&["will/#"], &["other"]], false)] {
        let mut town = Town::new();
        kept_ears(&mut town);
        town.enter(lasting(0, 0).granted(&["other/#"], &[]).named("alice", None));
        for topics in changes {
            town.order(Order::Regrant { identity: "alice".into(), grants: rights(topics) });
        }
        town.crash();
        town.seconds(1);
        assert_eq!(!heard_meanwhile(&mut town).is_empty(), said, "{changes:?}");
    }
}

#[test]
fn a_client_without_a_will_leaves_no_fact_and_one_with_a_will_leaves_one_until_it_goes() {
    let mut town = Town::new();
    let peer = town.enter(client("plain").v5());
    town.send(peer, goodbye());
    assert!(town.journal[0].is_empty(), "{:?}", town.journal[0]);
    let peer = town.enter(lasting(0, 0));
    assert!(matches!(town.journal[0][..], [Change::WillLodged { .. }]), "{:?}", town.journal[0]);
    town.send(peer, goodbye());
    assert!(matches!(town.journal[0][..], [_, Change::WillSettled { .. }]), "{:?}", town.journal[0]);
}
