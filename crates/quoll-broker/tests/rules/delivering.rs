//! Windows, queues, retransmission, expiry (§3.3.2.3, §4.3, §4.4, §4.9).

use quoll_broker::ShardSettings;
use quoll_broker::vocabulary::{Event, Farewell, Input, Order};
use quoll_mqtt::packet::{Ack, Packet};
use quoll_mqtt::{Delivery, ReasonCode};

use crate::town::{Peer, Town, client, id, message, puback, pubcomp, pubrec, pubrel, said, subscribe};

/// A listener to `t` at this level, and a lamp.
fn pair(town: &mut Town, ears: crate::town::Caller, qos: u8) -> (Peer, Peer) {
    let ears = town.enter(ears);
    town.subscribe(ears, "t", qos);
    (ears, town.enter(client("lamp").v5()))
}

fn send(town: &mut Town, lamp: Peer, numbers: std::ops::RangeInclusive<u16>) {
    for number in numbers {
        town.send(lamp, message("t", &number.to_string()).qos2(number));
        town.send(lamp, pubrel(number));
    }
}

fn payloads(town: &mut Town, peer: Peer) -> Vec<u16> {
    town.publishes(peer).iter().map(|p| String::from_utf8_lossy(&p.payload).parse().unwrap()).collect()
}

/// [MQTT-3.3.4-9]; facts: mosquitto, max_inflight_messages
#[test]
fn at_most_twenty_messages_are_under_way_and_each_acknowledgement_lets_one_go() {
    let mut town = Town::new();
    let (ears, lamp) = pair(&mut town, client("ears"), 1);
    send(&mut town, lamp, 1..=30);
    let came = town.publishes(ears);
    assert_eq!(came.len(), 20);
    let first = came[0].delivery.packet_id().unwrap();
    town.send(ears, puback(first.get()));
    assert_eq!(payloads(&mut town, ears), [21]);
}

/// Facts: mosquitto, max_inflight_bytes: nothing more is sent once so many bytes are under way.
#[test]
fn bytes_under_way_are_bounded_too_and_what_comes_again_counts_again() {
    let settings = ShardSettings { max_inflight_bytes: 100, ..ShardSettings::default() };
    let mut town = Town::with(settings, 1);
    let (ears, lamp) = pair(&mut town, client("ears").v5().kept(1000), 2);
    let lengths = |town: &mut Town, peer: Peer| -> Vec<usize> {
        town.publishes(peer).iter().map(|it| it.payload.len()).collect()
    };
    for (number, length) in [(1, 60), (2, 60), (3, 500), (4, 1), (5, 1)] {
        town.send(lamp, message("t", &"x".repeat(length)).qos1(number));
    }
    assert_eq!(lengths(&mut town, ears), [60, 60], "the last may go beyond");
    town.send(ears, puback(1));
    assert_eq!(lengths(&mut town, ears), [500], "none is too large for ever");
    town.send(ears, puback(2));
    assert!(town.publishes(ears).is_empty());
    town.lose(ears);
    let ears = town.enter(client("ears").v5().kept(1000));
    assert_eq!(lengths(&mut town, ears), [500]);
    town.send(ears, puback(3));
    assert_eq!(lengths(&mut town, ears), [1, 1]);
    // Without the limit the next connection knows none.
    town.order(Order::Settings(Box::default()));
    town.lose(ears);
    let ears = town.enter(client("ears").v5().kept(1000));
    assert_eq!(lengths(&mut town, ears), [1, 1]);
    town.send(lamp, message("t", &"x".repeat(500)).qos1(6));
    town.send(lamp, message("t", &"x".repeat(500)).qos1(7));
    assert_eq!(lengths(&mut town, ears), [500, 500]);
}

/// Facts: mosquitto, upgrade_outgoing_qos
#[test]
fn a_delivery_has_the_lower_level_or_where_that_is_set_the_subscriptions() {
    for (upgrade, levels) in [(false, [0, 1, 1, 0]), (true, [1, 1, 1, 0])] {
        let settings = ShardSettings { upgrade_outgoing_qos: upgrade, ..ShardSettings::default() };
        let mut town = Town::with(settings, 1);
        let lamp = town.enter(client("lamp"));
        town.send(lamp, message("t", "kept").retained());
        let (ears, lamp) = pair(&mut town, client("ears").polite(), 1);
        town.send(lamp, message("t", "1").qos1(1));
        town.send(lamp, message("t", "2").qos2(2));
        town.send(lamp, pubrel(2));
        town.send(ears, subscribe(2, &["t"], 0));
        let came: Vec<u8> = town.publishes(ears).iter().map(|it| it.delivery.qos() as u8).collect();
        assert_eq!(came, levels, "{upgrade}");
    }
}

#[test]
fn a_clients_smaller_receive_maximum_is_the_window() {
    let mut town = Town::new();
    let caller = client("ears").v5().asking(|ask| ask.receive_maximum = Some(2));
    let (ears, lamp) = pair(&mut town, caller, 2);
    send(&mut town, lamp, 1..=5);
    assert_eq!(payloads(&mut town, ears), [1, 2]);
    town.send(ears, pubrec(1));
    assert_eq!(town.heard(ears), [pubrel(1)], "PUBREC opens no room");
    town.send(ears, pubcomp(1));
    assert_eq!(payloads(&mut town, ears), [3]);
    let refusal = Ack::new(id(2), ReasonCode::UNSPECIFIED_ERROR);
    town.send(ears, Packet::PubRec(refusal));
    assert_eq!(payloads(&mut town, ears), [4], "a refusal does, and there is no PUBREL");
}

/// [MQTT-4.4.0-1] [MQTT-4.6.0-1]
#[test]
fn what_was_not_acknowledged_comes_again_in_order_with_dup_and_its_old_identifier() {
    let mut town = Town::new();
    let (ears, lamp) = pair(&mut town, client("ears").kept(0), 1);
    send(&mut town, lamp, 1..=3);
    let before = town.publishes(ears);
    town.send(ears, puback(2));
    town.lose(ears);
    send(&mut town, lamp, 4..=4);
    let ears = town.enter(client("ears").kept(0));
    let after = town.publishes(ears);
    assert_eq!(after.iter().map(said).collect::<Vec<_>>(), ["t=1", "t=3", "t=4"]);
    assert_eq!(after.iter().map(|p| p.dup).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!((after[0].delivery, after[1].delivery), (before[0].delivery, before[2].delivery));
}

/// [MQTT-4.4.0-1] [MQTT-4.3.3-6]
#[test]
fn after_pubrec_a_new_connection_hears_pubrel_and_not_the_message() {
    let mut town = Town::new();
    let (ears, lamp) = pair(&mut town, client("ears").kept(0), 2);
    send(&mut town, lamp, 1..=2);
    town.send(ears, pubrec(1));
    town.lose(ears);
    let ears = town.enter(client("ears").kept(0));
    let heard = town.heard(ears);
    assert_eq!(heard[0], pubrel(1));
    assert!(matches!(&heard[1..], [Packet::Publish(publish)] if publish.dup && said(publish) == "t=2"));
    town.send(ears, pubcomp(1));
    town.send(ears, pubrec(2));
    town.send(ears, pubcomp(2));
    assert_eq!(town.shard(0).stats().inflight, 0);
}

#[test]
fn a_smaller_window_after_a_reconnect_holds_for_retransmission_too() {
    let mut town = Town::new();
    let (ears, lamp) = pair(&mut town, client("ears").v5().kept(99), 1);
    send(&mut town, lamp, 1..=5);
    town.lose(ears);
    let ears = town.enter(client("ears").v5().kept(99).asking(|ask| ask.receive_maximum = Some(2)));
    assert_eq!(payloads(&mut town, ears), [1, 2]);
    town.send(ears, puback(1));
    assert_eq!(payloads(&mut town, ears), [3]);
    for number in 2..=4 {
        town.send(ears, puback(number));
    }
    assert_eq!(payloads(&mut town, ears), [4, 5]);
}

#[test]
fn acknowledgements_out_of_order_are_taken() {
    let mut town = Town::new();
    let (ears, lamp) = pair(&mut town, client("ears"), 1);
    send(&mut town, lamp, 1..=3);
    for number in [3, 1, 2] {
        town.send(ears, puback(number));
    }
    assert!(town.is_open(ears) && town.shard(0).stats().inflight == 0);
}

#[test]
fn an_acknowledgement_of_nothing_is_no_fault_but_one_of_the_wrong_kind_is() {
    let mut town = Town::new();
    let (ears, lamp) = pair(&mut town, client("ears").v5(), 1);
    for packet in [puback(9), pubcomp(9)] {
        town.send(ears, packet);
    }
    town.send(ears, pubrec(9));
    assert_eq!(town.heard(ears), [pubrel(9)]);
    send(&mut town, lamp, 1..=1);
    town.send(ears, pubrec(1));
    assert_eq!(town.last_word(ears), Some(&Farewell::Disconnect(ReasonCode::PROTOCOL_ERROR)));
}

#[test]
fn pubcomp_before_pubrec_is_a_protocol_error() {
    let mut town = Town::new();
    let (ears, lamp) = pair(&mut town, client("ears").v5(), 2);
    send(&mut town, lamp, 1..=1);
    town.send(ears, pubcomp(1));
    assert_eq!(town.last_word(ears), Some(&Farewell::Disconnect(ReasonCode::PROTOCOL_ERROR)));
}

/// facts: mosquitto, max_queued_messages and max_queued_bytes: seen with 2.0.11, payloads alone count, the one that crosses the
/// line is taken, and no message is too large for an empty queue
#[test]
fn a_full_queue_drops_what_comes_and_says_so() {
    let by_count = ShardSettings { max_queued_messages: 5, ..ShardSettings::default() };
    let bytes = |max_queued_bytes| ShardSettings { max_queued_bytes, ..ShardSettings::default() };
    let table: [(ShardSettings, &[usize], usize); 6] = [
        (by_count.clone(), &[1; 9], 5),
        (bytes(5), &[1; 9], 5),
        (bytes(20), &[3; 30], 7),
        (bytes(20), &[21; 4], 1),
        (bytes(20), &[10, 30, 5, 5], 2),
        (ShardSettings { max_queued_bytes: 4, ..by_count }, &[1; 9], 4),
    ];
    for (settings, sizes, taken) in table {
        let case = format!("{} bytes of {sizes:?}", settings.max_queued_bytes);
        let mut town = Town::with(settings, 1);
        let ears = town.enter(client("ears").kept(0));
        town.subscribe(ears, "a/topic/that/does/not/count", 1);
        town.lose(ears);
        let lamp = town.enter(client("lamp"));
        for (number, size) in sizes.iter().enumerate() {
            let payload = format!("{number:0size$}");
            let number = u16::try_from(number + 1).unwrap();
            town.send(lamp, message("a/topic/that/does/not/count", &payload).qos1(number));
        }
        let (kept, lost) = (taken as u64, (sizes.len() - taken) as u64);
        assert_eq!((town.shard(0).stats().queued, town.shard(0).stats().dropped), (kept, lost), "{case}");
        assert!(town.events.iter().any(|event| matches!(event, Event::Dropped { count: 1, .. })));
        let ears = town.enter(client("ears").kept(0).polite());
        assert_eq!(town.publishes(ears).len(), taken, "{case}");
    }
}

#[test]
fn drops_are_counted_and_told_now_and_then() {
    let mut town = Town::with(ShardSettings { max_queued_messages: 1, ..ShardSettings::default() }, 1);
    let (ears, lamp) = pair(&mut town, client("ears").kept(0), 1);
    town.lose(ears);
    send(&mut town, lamp, 1..=11);
    town.seconds(11);
    send(&mut town, lamp, 12..=12);
    let told = |event: &Event| if let Event::Dropped { count, .. } = event { Some(*count) } else { None };
    assert_eq!(town.events.iter().filter_map(told).collect::<Vec<_>>(), [1, 10]);
}

/// facts: mosquitto, queue_qos0_messages
#[test]
fn qos_0_waits_for_an_absent_client_only_where_the_operator_says_so() {
    for queue_qos0_messages in [false, true] {
        let mut town = Town::with(ShardSettings { queue_qos0_messages, ..ShardSettings::default() }, 1);
        let (ears, lamp) = pair(&mut town, client("ears").kept(0), 0);
        town.lose(ears);
        town.send(lamp, message("t", "1"));
        let ears = town.enter(client("ears").kept(0));
        town.send(lamp, message("t", "2"));
        let expected = if queue_qos0_messages { vec![1, 2] } else { vec![2] };
        assert_eq!(payloads(&mut town, ears), expected);
        assert_eq!(town.shard(0).stats().queued, 0);
    }
}

/// As with Mosquitto: identifiers count from 1 without a gap, whatever waited between them.
#[test]
fn what_waits_at_qos_0_takes_no_identifier() {
    let settings = ShardSettings { queue_qos0_messages: true, ..ShardSettings::default() };
    let mut town = Town::with(settings, 1);
    let (ears, lamp) = pair(&mut town, client("ears").kept(0), 1);
    town.lose(ears);
    town.send(lamp, message("t", "0"));
    town.send(lamp, message("t", "1").qos1(1));
    town.send(lamp, message("t", "2"));
    town.send(lamp, message("t", "3").qos1(2));
    let ears = town.enter(client("ears").kept(0));
    let ids: Vec<_> = town.publishes(ears).iter().map(|it| it.delivery.packet_id()).collect();
    assert_eq!(ids, [None, Some(id(1)), None, Some(id(2))]);
}

#[test]
fn a_slow_peer_loses_qos_0_and_nothing_else() {
    let mut town = Town::new();
    let (ears, lamp) = pair(&mut town, client("ears").polite(), 1);
    town.input(ears, |conn| Input::Congested(conn, true));
    town.send(lamp, message("t", "0"));
    send(&mut town, lamp, 1..=1);
    town.input(ears, |conn| Input::Congested(conn, false));
    town.send(lamp, message("t", "2"));
    assert_eq!(payloads(&mut town, ears), [1, 2]);
    assert_eq!(town.shard(0).stats().dropped, 1);
}

/// [MQTT-3.3.2-5] [MQTT-3.3.2-6]
#[test]
fn a_message_that_waited_too_long_is_not_sent_and_one_in_time_says_what_is_left() {
    let mut town = Town::new();
    let (ears, lamp) = pair(&mut town, client("ears").v5().kept(9999), 1);
    town.lose(ears);
    for (number, seconds) in [(1, 10), (2, 60)] {
        let own = message("t", &number.to_string()).qos1(number);
        town.send(lamp, own.saying(|say| say.message_expiry_interval = Some(seconds)));
    }
    town.seconds(20);
    let ears = town.enter(client("ears").v5().kept(9999));
    let came = town.publishes(ears);
    assert_eq!(came.iter().map(said).collect::<Vec<_>>(), ["t=2"]);
    assert_eq!(came[0].properties.as_ref().unwrap().message_expiry_interval, Some(40));
    assert_eq!(town.shard(0).stats().expired_messages, 1);
}

/// [MQTT-3.1.2-24] [MQTT-3.1.2-25]
#[test]
fn a_packet_larger_than_the_client_takes_is_dropped_as_if_delivered() {
    for qos in [0, 1] {
        let mut town = Town::new();
        let caller = client("ears").v5().asking(|ask| ask.maximum_packet_size = Some(30));
        let (ears, lamp) = pair(&mut town, caller, qos);
        let fits = "x".repeat(if qos == 0 { 24 } else { 22 });
        town.send(lamp, message("t", &fits).qos(qos, 1));
        town.send(lamp, message("t", &format!("{fits}x")).qos(qos, 2));
        assert_eq!(town.messages(ears), [format!("t={fits}")]);
        assert_eq!(town.shard(0).stats().dropped, 1);
        town.send(lamp, message("t", "y").qos(qos, 3));
        assert_eq!(town.messages(ears), ["t=y"]);
    }
}

/// [MQTT-3.1.2-26] [MQTT-3.1.2-27]
#[test]
fn topics_are_numbered_towards_clients_that_allow_it_as_far_as_they_do() {
    let mut town = Town::new();
    let ears = town.enter(client("ears").v5().asking(|ask| ask.topic_alias_maximum = Some(2)));
    town.subscribe(ears, "#", 0);
    let lamp = town.enter(client("lamp"));
    for topic in ["a", "b", "a", "c", "b"] {
        town.send(lamp, message(topic, topic));
    }
    let came = town.publishes(ears);
    let alias =
        |p: &quoll_mqtt::packet::Publish| p.properties.as_ref()?.topic_alias.map(std::num::NonZero::get);
    assert_eq!(came.iter().map(alias).collect::<Vec<_>>(), [Some(1), Some(2), Some(1), None, Some(2)]);
    assert_eq!(came.iter().map(said).collect::<Vec<_>>(), ["a=a", "b=b", "=a", "c=c", "=b"]);
}

/// [MQTT-3.3.4-3]
#[test]
fn a_subscription_identifier_comes_with_live_queued_and_retained_messages() {
    let mut town = Town::new();
    let lamp = town.enter(client("lamp"));
    town.send(lamp, message("t", "retained").retained().qos1(1));
    let ears = town.enter(client("ears").v5().kept(99));
    let wish = crate::town::subscribe_with(1, &["t"], Some(77), |o| o.qos = quoll_mqtt::QoS::AtLeastOnce);
    town.send(ears, wish);
    town.send(lamp, message("t", "live").qos1(2));
    let mut came = town.publishes(ears);
    town.lose(ears);
    town.send(lamp, message("t", "queued").qos1(3));
    let ears = town.enter(client("ears").v5().kept(99));
    came.extend(town.publishes(ears));
    assert_eq!(came.len(), 5);
    for publish in came {
        assert_eq!(publish.properties.unwrap().subscription_identifiers, [77], "{:?}", publish.payload);
    }
}

/// [MQTT-2.2.1-4]
#[test]
fn an_identifier_in_use_is_not_given_again() {
    let mut town = Town::new();
    let (ears, lamp) = pair(&mut town, client("ears"), 1);
    send(&mut town, lamp, 1..=1);
    town.heard(ears);
    for round in 0..65_600_u32 {
        town.send(lamp, message("t", "x").qos1(9));
        let came = town.publishes(ears);
        let Delivery::AtLeastOnce(own) = came[0].delivery else { panic!("{came:?}") };
        assert_ne!(own, id(1), "round {round}");
        town.send(ears, puback(own.get()));
        town.heard(lamp);
    }
}

fn town_with_2000_retained(ears: crate::town::Caller) -> (Town, Peer) {
    let mut town = Town::with(ShardSettings { max_queued_messages: 10, ..ShardSettings::default() }, 1);
    let lamp = town.enter(client("lamp"));
    for number in 1..=2000 {
        town.send(lamp, message(&format!("a/{number}"), "old").retained().qos1(number));
    }
    let peer = town.enter(ears);
    (town, peer)
}

#[test]
fn retained_messages_of_a_wide_filter_come_as_the_window_allows_and_none_is_dropped() {
    let (mut town, ears) = town_with_2000_retained(client("ears").v5());
    town.send(ears, subscribe(1, &["#"], 1));
    let mut came = town.publishes(ears);
    assert_eq!(came.len(), 20);
    let mut acknowledged = 0;
    while acknowledged < came.len() {
        let number = came[acknowledged].delivery.packet_id().unwrap().get();
        town.send(ears, puback(number));
        acknowledged += 1;
        came.extend(town.publishes(ears));
    }
    assert_eq!((came.len(), town.shard(0).stats().dropped), (2000, 0));
}

#[test]
fn retained_messages_at_qos_0_come_in_stretches_and_wait_for_a_slow_peer() {
    let (mut town, ears) = town_with_2000_retained(client("ears").keep_alive(60));
    town.send(ears, subscribe(1, &["#"], 0));
    assert_eq!(town.publishes(ears).len(), 500);
    town.input(ears, |conn| Input::Congested(conn, true));
    town.seconds(30);
    assert!(town.publishes(ears).is_empty());
    let other = town.enter(client("other"));
    town.send(other, message("a/999", "new").retained());
    town.send(other, message("a/998", "").retained());
    town.input(ears, |conn| Input::Congested(conn, false));
    town.seconds(1);
    let came = town.messages(ears);
    assert_eq!(came.len(), 1499, "one was cleared");
    assert!(came.contains(&"a/999=new".to_owned()) && !came.contains(&"a/999=old".to_owned()));
    town.seconds(100);
    assert!(!town.is_open(ears), "the keep alive is watched all the while");
}

#[test]
fn a_kept_session_that_goes_in_the_middle_of_a_replay_finds_what_its_queue_holds() {
    let (mut town, ears) = town_with_2000_retained(client("ears").kept(0));
    town.send(ears, subscribe(1, &["#"], 1));
    town.lose(ears);
    assert_eq!((town.shard(0).stats().inflight, town.shard(0).stats().queued), (20, 10));
}
