//! Shared subscriptions (§4.8.2), on one shard and on several.

use quoll_broker::ShardSettings;
use quoll_broker::vocabulary::{Input, Order};
use quoll_mqtt::ReasonCode;
use quoll_mqtt::packet::{Ack, Packet};

use crate::town::{
    Caller, Peer, Town, client, grants, id, message, puback, subscribe, subscribe_with, unsubscribe,
};

const GROUP: &str = "$share/g/t/#";

fn members(town: &mut Town, names: &[&str], dress: impl Fn(Caller) -> Caller) -> Vec<Peer> {
    let enter = |name: &&str| {
        let peer = town.enter(dress(client(name)));
        town.subscribe(peer, GROUP, 1);
        peer
    };
    names.iter().map(enter).collect()
}

fn counts(town: &mut Town, peers: &[Peer]) -> Vec<usize> {
    peers.iter().map(|peer| town.messages(*peer).len()).collect()
}

/// [MQTT-4.8.2-4] and fair on top
#[test]
fn each_message_goes_to_one_member_and_they_take_turns() {
    for shards in 1..=3 {
        let mut town = Town::of(shards);
        let peers = members(&mut town, &["a", "b", "c"], Caller::polite);
        let lamp = town.enter(client("lamp"));
        for number in 1..=30 {
            town.send(lamp, message("t/x", "x").qos(u8::from(number % 2 == 0), number));
        }
        assert_eq!(counts(&mut town, &peers), [10, 10, 10], "{shards} shards");
    }
}

#[test]
fn groups_and_plain_subscriptions_do_not_take_each_others_messages() {
    for shards in 1..=3 {
        let mut town = Town::of(shards);
        let one = town.enter(client("a"));
        let two = town.enter(client("b"));
        let three = town.enter(client("c"));
        town.subscribe(one, "$share/g/t", 0);
        town.subscribe(two, "$share/h/t", 0);
        town.subscribe(three, "t", 0);
        let lamp = town.enter(client("lamp"));
        town.send(lamp, message("t", "x"));
        assert_eq!(counts(&mut town, &[one, two, three]), [1, 1, 1], "{shards} shards");
    }
}

/// §4.8.2: "no retained messages are sent"
#[test]
fn a_shared_subscription_gets_no_retained_messages() {
    let mut town = Town::new();
    let lamp = town.enter(client("lamp"));
    town.send(lamp, message("t/x", "x").retained());
    let peers = members(&mut town, &["a"], Caller::v5);
    assert_eq!(counts(&mut town, &peers), [0]);
}

#[test]
fn a_member_that_unsubscribes_or_goes_is_not_chosen_any_more() {
    for shards in 1..=3 {
        let mut town = Town::of(shards);
        let peers = members(&mut town, &["a", "b", "c"], Caller::polite);
        town.send(peers[0], unsubscribe(1, &[GROUP]));
        town.lose(peers[1]);
        let lamp = town.enter(client("lamp"));
        for _ in 0..4 {
            town.send(lamp, message("t", "x"));
        }
        assert_eq!(counts(&mut town, &peers), [0, 0, 4], "{shards} shards");
    }
}

#[test]
fn an_absent_member_is_chosen_only_where_nobody_is_connected() {
    for shards in 1..=3 {
        let mut town = Town::of(shards);
        let peers = members(&mut town, &["a", "b"], |caller| caller.polite().kept(0));
        town.lose(peers[0]);
        let lamp = town.enter(client("lamp"));
        for number in 1..=4 {
            town.send(lamp, message("t", "x").qos1(number));
        }
        assert_eq!(counts(&mut town, &peers[1..]), [4], "{shards} shards");
        town.lose(peers[1]);
        for number in 1..=4 {
            town.send(lamp, message("t", "x").qos1(number));
        }
        let back: Vec<_> = ["a", "b"].iter().map(|name| town.enter(client(name).polite().kept(0))).collect();
        assert_eq!(counts(&mut town, &back), [2, 2], "{shards} shards");
        town.send(lamp, message("t", "x"));
        town.send(lamp, message("t", "x"));
        assert_eq!(counts(&mut town, &back), [1, 1], "and is a full member when it is back");
    }
}

/// [MQTT-4.8.2-4] [MQTT-4.8.2-5]
#[test]
fn what_a_dead_member_never_acknowledged_goes_to_another() {
    for shards in 1..=3 {
        let mut town = Town::of(shards);
        let peers = members(&mut town, &["a", "b"], |caller| caller);
        let lamp = town.enter(client("lamp"));
        for number in 1..=60 {
            town.send(lamp, message("t", &number.to_string()).qos1(number));
        }
        let first = town.messages(peers[0]);
        assert_eq!(first.len(), 20, "the rest waits for the window");
        town.send(peers[0], puback(1));
        town.lose(peers[0]);
        let mut all = town.messages(peers[1]);
        let mut number = 1;
        while all.len() < 59 {
            town.send(peers[1], puback(number));
            number += 1;
            all.extend(town.messages(peers[1]));
            assert!(number < 100, "{shards} shards: {all:?}");
        }
        let mut expected: Vec<_> = (2..=60).map(|number| format!("t={number}")).collect();
        // The 1st was acknowledged; which one it was, the first member's list says.
        expected.insert(0, "t=1".to_owned());
        expected.retain(|said| *said != first[0]);
        all.sort();
        expected.sort();
        assert_eq!(all, expected, "{shards} shards");
    }
}

/// [MQTT-3.8.4-1] Whoever has heard of the SUBACK may publish at once, by whichever shard.
#[test]
fn a_member_is_answered_when_its_group_knows_it() {
    for shards in 2..=3 {
        let mut town = Town::of(shards);
        let lamp = town.enter(client("lamp"));
        town.send(lamp, message("plain", "kept").retained());
        town.post_is_slow = true;
        let names = ["a", "b", "c"];
        let peers: Vec<_> = names.iter().map(|name| town.enter(client(name).polite().kept(60))).collect();
        let mut waiting = 0;
        for peer in &peers {
            town.send(*peer, subscribe(1, &[GROUP, "plain"], 1));
            let heard = town.heard(*peer);
            if heard.is_empty() {
                waiting += 1;
                town.deliver_post();
                let heard = town.heard(*peer);
                assert!(matches!(heard[0], Packet::SubAck(_)), "{heard:?}");
                assert_eq!(heard.len(), 2, "and what is retained behind it");
            }
        }
        assert!(waiting > 0, "{shards} shards: one of three is not where the group is");
        town.send(lamp, message("t", "x").qos1(1));
        town.deliver_post();
        assert_eq!(counts(&mut town, &peers).iter().sum::<usize>(), 1, "{shards} shards");
        // Who goes before the answer is not written to, and is a member when it comes back.
        let gone = town.enter(client("b").polite().kept(60));
        town.send(gone, subscribe(2, &["$share/other/t"], 1));
        town.lose(gone);
        town.deliver_post();
        town.send(lamp, message("t", "y").qos1(2));
        town.deliver_post();
        let back = town.enter(client("b").polite().kept(60));
        town.deliver_post();
        assert!(town.messages(back).contains(&"t=y".to_owned()), "{shards} shards");
    }
}

/// A shard that has failed must not keep the others' memory, nor their clients without an answer for good.
#[test]
fn answers_that_wait_for_a_shard_that_never_answers_do_not_pile_up() {
    let mut town = Town::of(2);
    town.post_is_slow = true;
    let peers: Vec<_> = ["a", "b"].iter().map(|name| town.enter(client(name))).collect();
    for peer in peers {
        town.send(peer, subscribe(1, &[GROUP], 1));
        if !town.heard(peer).is_empty() {
            continue; // the group lives there
        }
        for _ in 0..4095 {
            town.send(peer, subscribe(1, &[GROUP], 1));
        }
        assert_eq!(town.heard(peer), []);
        town.send(peer, subscribe(1, &[GROUP], 1));
        assert_eq!(town.suback(peer), [ReasonCode::GRANTED_QOS_1]);
    }
}

/// One that reads nothing must not cost the others' messages.
/// On whichever shard it, the others, the publisher and the group are.
#[test]
fn a_member_that_is_full_is_passed_over_while_another_has_room() {
    for (shards, full) in (1..=3).flat_map(|shards| ["a", "b", "c"].map(|full| (shards, full))) {
        let case = format!("{shards} shards, {full} is full");
        let settings = ShardSettings { max_queued_messages: 5, ..ShardSettings::default() };
        let mut town = Town::with(settings, shards);
        let stuck = members(&mut town, &[full], |caller| caller);
        let others: Vec<_> = ["a", "b", "c"].into_iter().filter(|name| *name != full).collect();
        let lively = members(&mut town, &others, Caller::polite);
        let lamp = town.enter(client("lamp"));
        for number in 1..=200 {
            town.send(lamp, message("t", &number.to_string()).qos1(number));
        }
        assert_eq!(counts(&mut town, &stuck), [20], "{case}: its window; 5 more wait behind it");
        assert_eq!(counts(&mut town, &lively).iter().sum::<usize>(), 175, "{case}");
        // It has room again, and its turn.
        for number in 1..=20 {
            town.send(stuck[0], puback(number));
        }
        assert_eq!(counts(&mut town, &stuck), [5], "{case}");
        for number in 1..=30 {
            town.send(lamp, message("t", "again").qos1(number));
        }
        assert_eq!(counts(&mut town, &stuck), [10], "{case}");
        assert_eq!(counts(&mut town, &lively).iter().sum::<usize>(), 20, "{case}");
        // QoS 0 is dropped where the peer takes bytes too slowly.
        town.input(stuck[0], |conn| Input::Congested(conn, true));
        for _ in 0..10 {
            town.send(lamp, message("t", "x"));
        }
        assert_eq!(counts(&mut town, &stuck), [0], "{case}");
        assert_eq!(counts(&mut town, &lively).iter().sum::<usize>(), 10, "{case}");
        town.input(stuck[0], |conn| Input::Congested(conn, false));
        for _ in 0..9 {
            town.send(lamp, message("t", "x"));
        }
        assert_eq!(counts(&mut town, &stuck), [3], "{case}");
        assert_eq!(counts(&mut town, &lively).iter().sum::<usize>(), 6, "{case}");
        // And what it has not acknowledged is not lost.
        town.lose(stuck[0]);
        assert_eq!(counts(&mut town, &lively).iter().sum::<usize>(), 15, "{case}");
    }
}

/// One that has gone and whose session waits is better than nobody.
#[test]
fn an_absent_member_with_room_has_what_those_that_are_there_cannot_take() {
    for shards in 1..=3 {
        let settings = ShardSettings { max_queued_messages: 5, ..ShardSettings::default() };
        let mut town = Town::with(settings, shards);
        let stuck = members(&mut town, &["a", "c"], |caller| caller);
        let away = members(&mut town, &["b"], |caller| caller.kept(60));
        town.lose(away[0]);
        let lamp = town.enter(client("lamp"));
        for number in 1..=55 {
            town.send(lamp, message("t", &number.to_string()).qos1(number));
        }
        assert_eq!(counts(&mut town, &stuck), [20, 20], "{shards} shards");
        let back = town.enter(client("b").kept(60));
        assert_eq!(counts(&mut town, &[back]), [5], "{shards} shards");
    }
}

/// What one member may not receive another one may.
#[test]
fn a_member_that_may_not_receive_a_message_is_passed_over() {
    for (shards, barred) in (1..=3).flat_map(|shards| ["a", "b", "c"].map(|barred| (shards, barred))) {
        let mut town = Town::of(shards);
        let peers: Vec<_> = ["a", "b", "c"]
            .iter()
            .map(|name| {
                let mut caller = client(name).polite();
                if *name == barred {
                    let narrow = grants(&[], &["t/open"]).with_wide_subscriptions();
                    caller.admission.grants = std::sync::Arc::new(narrow);
                }
                let peer = town.enter(caller);
                town.subscribe(peer, GROUP, 1);
                peer
            })
            .collect();
        let lamp = town.enter(client("lamp"));
        for number in 1..=30 {
            town.send(lamp, message("t/closed", "x").qos1(number));
        }
        let had = counts(&mut town, &peers);
        assert_eq!(had.iter().sum::<usize>(), 30, "{shards} shards, {barred}: {had:?}");
        assert_eq!(had.iter().filter(|count| **count == 0).count(), 1, "{shards} shards: {had:?}");
        for number in 1..=30 {
            town.send(lamp, message("t/open", "x").qos1(number));
        }
        let had = counts(&mut town, &peers);
        assert_eq!(had, [10, 10, 10], "{shards} shards, {barred}: it is no less a member");
    }
}

/// Nobody but who is full costs a letter more: of a member that has no room the group hears once.
#[test]
fn a_group_asks_a_full_member_once() {
    let settings = ShardSettings { max_queued_messages: 5, ..ShardSettings::default() };
    let letters = |names: &[&str]| {
        let mut town = Town::with(settings.clone(), 3);
        let stuck = members(&mut town, names, |caller| caller);
        let lamp = town.enter(client("lamp"));
        let before: u64 = (0..3).map(|shard| town.shard(shard).stats().letters).sum();
        for number in 1..=1000 {
            town.send(lamp, message("t", "x").qos1(number));
        }
        assert_eq!(counts(&mut town, &stuck), vec![20; names.len()]);
        (0..3).map(|shard| town.shard(shard).stats().letters).sum::<u64>() - before
    };
    let names: Vec<String> = (0..30).map(|number| format!("member {number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // The message to the group, and from there to a member; thirty times back and on to another one.
    let most = 2 * 1000 + 2 * 30;
    assert!(letters(&names) <= most && letters(&names[..1]) <= most, "{}", letters(&names));
}

/// Wherever it lives, and the group: who has no place in it is told so.
#[test]
fn members_are_bounded_and_the_next_one_is_told() {
    for shards in 1..=3 {
        let settings = ShardSettings { max_group_members: 2, ..ShardSettings::default() };
        let mut town = Town::with(settings, shards);
        let quota = ReasonCode::QUOTA_EXCEEDED;
        let mut peers = Vec::new();
        for (number, name) in ["a", "b", "c", "d", "e", "f"].into_iter().enumerate() {
            let peer = town.enter(client(name).v5().polite().kept(60));
            town.send(peer, subscribe(1, &["own", GROUP, "$share/other/t"], 1));
            let granted = if number < 2 { ReasonCode::GRANTED_QOS_1 } else { quota };
            assert_eq!(town.suback(peer), [ReasonCode::GRANTED_QOS_1, granted, granted], "{shards} {name}");
            peers.push(peer);
        }
        let count =
            |town: &Town| (0..shards).map(|at| town.shard(at).stats().shared_subscriptions).sum::<u64>();
        assert_eq!(count(&town), 4, "{shards} shards");
        assert_eq!(town.subscribe(peers[0], GROUP, 0), ReasonCode::SUCCESS, "a member may say it again");
        let lamp = town.enter(client("lamp"));
        for number in 1..=4 {
            town.send(lamp, message("t", "x").qos1(number));
        }
        assert_eq!(counts(&mut town, &peers), [4, 4, 0, 0, 0, 0], "{shards} shards");
        town.send(peers[1], unsubscribe(2, &[GROUP]));
        assert_eq!(town.subscribe(peers[5], GROUP, 1), ReasonCode::GRANTED_QOS_1, "{shards} shards");
        town.crash();
        assert_eq!(count(&town), 4, "{shards} shards, after a restart");
    }
}

#[test]
fn a_full_group_drops_and_goes_on() {
    for shards in 1..=3 {
        let settings = ShardSettings { max_queued_messages: 1, ..ShardSettings::default() };
        let mut town = Town::with(settings, shards);
        let stuck = members(&mut town, &["a", "b"], |caller| caller);
        let lamp = town.enter(client("lamp"));
        for number in 1..=60 {
            town.send(lamp, message("t", "x").qos1(number));
        }
        assert_eq!(counts(&mut town, &stuck), [20, 20]);
        town.send(stuck[0], puback(1));
        town.send(stuck[1], puback(1));
        assert_eq!(counts(&mut town, &stuck), [1, 1]);
        town.send(lamp, message("t", "y").qos1(1));
        town.send(lamp, message("t", "y").qos1(2));
        for peer in &stuck {
            (2..=21).for_each(|number| town.send(*peer, puback(number)));
        }
        assert_eq!(counts(&mut town, &stuck), [1, 1], "each has one of the two that waited");
    }
}

/// [MQTT-4.8.2-6]
#[test]
fn a_message_that_a_member_refuses_is_not_tried_with_another() {
    let mut town = Town::new();
    let peers = members(&mut town, &["a", "b"], Caller::v5);
    let lamp = town.enter(client("lamp"));
    town.send(lamp, message("t", "x").qos1(1));
    let refusal = Ack::new(id(1), ReasonCode::UNSPECIFIED_ERROR);
    town.send(peers[0], Packet::PubAck(refusal));
    town.lose(peers[0]);
    assert_eq!(counts(&mut town, &peers[1..]), [0]);
}

#[test]
fn a_member_chosen_while_its_end_is_on_the_way_gives_the_message_back() {
    let mut town = Town::of(3);
    let names = ["a", "b", "c"];
    let peers = members(&mut town, &names, Caller::polite);
    let lamp = town.enter(client("lamp"));
    town.post_is_slow = true;
    for number in 1..=9 {
        town.send(lamp, message("t", "x").qos1(number));
    }
    town.lose(peers[0]);
    town.lose(peers[1]);
    town.post_is_slow = false;
    town.deliver_post();
    let counts = counts(&mut town, &peers);
    assert_eq!(counts.iter().sum::<usize>(), 9, "none is lost: {counts:?}");
}

/// [MQTT-3.3.4-3] for shared ones
#[test]
fn a_members_identifier_comes_with_its_messages() {
    for shards in 1..=3 {
        let mut town = Town::of(shards);
        let peer = town.enter(client("a").v5());
        town.send(peer, subscribe_with(1, &[GROUP], Some(5), |_| {}));
        let lamp = town.enter(client("lamp"));
        town.send(lamp, message("t", "x"));
        let came = town.publishes(peer);
        assert_eq!(came[0].properties.as_ref().unwrap().subscription_identifiers, [5], "{shards} shards");
    }
}

#[test]
fn the_last_member_takes_the_group_with_it() {
    for shards in 1..=3 {
        let mut town = Town::of(shards);
        let peers = members(&mut town, &["a", "b", "c"], Caller::polite);
        assert_eq!((0..shards).map(|at| town.shard(at).stats().shared_subscriptions).sum::<u64>(), 3);
        for peer in peers {
            town.lose(peer);
        }
        assert!(town.shared.shards_for("t").is_empty(), "{shards} shards");
    }
}

#[test]
fn a_member_that_is_expelled_is_no_member() {
    let mut town = Town::of(2);
    let peers = members(&mut town, &["a", "b"], |caller| caller.polite().kept(0).named("x", Some(1)));
    let other = members(&mut town, &["c"], Caller::polite)[0];
    town.order(Order::Expel { credential: [1; 32], reason: ReasonCode::NOT_AUTHORIZED });
    assert!(!town.is_open(peers[0]) && !town.is_open(peers[1]));
    let lamp = town.enter(client("lamp"));
    for number in 1..=3 {
        town.send(lamp, message("t", "x").qos1(number));
    }
    assert_eq!(counts(&mut town, &[other]), [3]);
}
