//! SUBSCRIBE, UNSUBSCRIBE and PINGREQ.

use crate::prelude::*;

/// SUBACK has the identifier of its SUBSCRIBE.
pub fn suback_has_the_identifier_of_subscribe(v: Version) {
    let mut client = Client::fresh(v);
    for id in [1, 255, 256, 4660, 65535] {
        client.say(words::subscribe(v, id, &[(&unique_topic(), 1)]));
        let answer = client.hear().codes(kind::SUBACK, v);
        assert_eq!((answer.id, answer.codes), (id, vec![1]));
    }
}

/// One code for each filter, in order.
pub fn suback_has_a_code_for_each_filter_in_order(v: Version) {
    let base = unique_topic();
    let filters: Vec<String> = (0..12).map(|n| format!("{base}/{n}")).collect();
    let wanted: Vec<(&str, u8)> =
        filters.iter().zip([2, 0, 1].into_iter().cycle()).map(|(f, q)| (f.as_str(), q)).collect();
    let mut client = Client::fresh(v);
    client.say(words::subscribe(v, 5, &wanted));
    let answer = client.hear().codes(kind::SUBACK, v);
    let expected: Vec<u8> = wanted.iter().map(|(_, qos)| *qos).collect();
    assert_eq!((answer.id, answer.codes), (5, expected));
    let mut publisher = Client::fresh(v);
    for (filter, qos) in wanted {
        publisher.publish(&publish(filter, filter).qos(2, 1));
        assert_eq!(client.expect_message(filter).qos, qos);
    }
}

/// The same filter once more replaces the subscription: one copy, new QoS.
pub fn subscribing_again_replaces_the_subscription(v: Version) {
    let topic = unique_topic();
    let mut client = Client::fresh(v);
    let mut publisher = Client::fresh(v);
    for qos in [0, 2, 1] {
        client.must_subscribe(&topic, qos);
        publisher.publish(&publish(topic.as_str(), "m").qos(2, 1));
        assert_eq!(client.expect_message("m").qos, qos);
        client.expect_quiet();
    }
}

/// The same filter twice in one packet is as two packets.
pub fn the_same_filter_twice_in_one_packet_is_one_subscription(v: Version) {
    let topic = unique_topic();
    let mut client = Client::fresh(v);
    client.say(words::subscribe(v, 5, &[(&topic, 0), (&topic, 1)]));
    assert_eq!(client.hear().codes(kind::SUBACK, v).codes, [0, 1]);
    Client::fresh(v).publish(&publish(topic.as_str(), "m").qos(2, 1));
    assert_eq!(client.expect_message("m").qos, 1);
    client.expect_quiet();
}

/// No message is lost while a subscription is replaced.
pub fn replacing_a_subscription_loses_no_message(v: Version) {
    let topic = unique_topic();
    let mut client = Client::fresh(v);
    client.must_subscribe(&topic, 1);
    let mut publisher = Client::fresh(v);
    for number in 1..=12 {
        publisher.say(publish(topic.as_str(), number.to_string()).qos(1, number).bytes(v));
        client.say(words::subscribe(v, number, &[(&topic, 1)]));
    }
    for number in 1..=12u16 {
        client.expect_message(&number.to_string());
    }
}

/// Messages for a subscriber of a filter only.
pub fn only_subscribers_hear(v: Version) {
    let topic = unique_topic();
    let mut stranger = Client::fresh(v);
    stranger.must_subscribe(&unique_topic(), 0);
    let mut idle = Client::fresh(v);
    let mut subscriber = Client::fresh(v);
    subscriber.must_subscribe(&topic, 0);
    Client::fresh(v).publish(&publish(topic.as_str(), "m"));
    subscriber.expect_message("m");
    stranger.expect_quiet();
    idle.expect_quiet();
}

/// UNSUBACK has the identifier of its UNSUBSCRIBE, also where nothing was subscribed.
pub fn unsuback_answers_every_unsubscribe(v: Version) {
    let topic = unique_topic();
    let mut client = Client::fresh(v);
    client.must_subscribe(&topic, 1);
    for id in [1, 256, 65535] {
        client.say(words::unsubscribe(v, id, &[&topic]));
        let answer = client.hear().codes(kind::UNSUBACK, v);
        assert_eq!(answer.id, id);
        assert_eq!(answer.codes.len(), usize::from(v == V5), "{answer:?}");
    }
}

/// After UNSUBACK nothing new comes.
pub fn after_unsubscribing_nothing_new_comes(v: Version) {
    let topic = unique_topic();
    let mut client = Client::fresh(v);
    let mut publisher = Client::fresh(v);
    client.must_subscribe(&topic, 1);
    publisher.publish(&publish(topic.as_str(), "heard").qos(1, 1));
    client.expect_message("heard");
    client.unsubscribe(&topic);
    publisher.publish(&publish(topic.as_str(), "unheard").qos(1, 1));
    client.expect_quiet();
}

/// Filters are compared character by character: no wildcard, no normalisation.
pub fn unsubscribing_compares_character_by_character(v: Version) {
    let base = unique_topic();
    let mut client = Client::fresh(v);
    let kept = format!("{base}/a");
    client.must_subscribe(&kept, 0);
    let others =
        [format!("{base}/+"), format!("{base}/#"), format!("{base}/A"), format!("{base}/a/"), "#".to_owned()];
    for other in &others {
        client.unsubscribe(other);
    }
    Client::fresh(v).publish(&publish(kept, "still"));
    client.expect_message("still");
}

/// Several filters in one UNSUBSCRIBE, one answer.
pub fn several_filters_are_unsubscribed_at_once(v: Version) {
    let base = unique_topic();
    let filters = [format!("{base}/a"), format!("{base}/b"), format!("{base}/c")];
    let mut client = Client::fresh(v);
    filters.iter().for_each(|filter| client.must_subscribe(filter, 0));
    client.say(words::unsubscribe(v, 8, &[&filters[0], &filters[2], "never/was"]));
    let answer = client.hear().codes(kind::UNSUBACK, v);
    assert_eq!(answer.id, 8);
    let mut publisher = Client::fresh(v);
    filters.iter().for_each(|topic| publisher.publish(&publish(topic.as_str(), topic.as_str())));
    client.expect_message(&filters[1]);
    client.expect_quiet();
}

/// Of overlapping subscriptions only the named one ends.
pub fn unsubscribing_leaves_overlapping_subscriptions(v: Version) {
    let base = unique_topic();
    let mut client = Client::fresh(v);
    client.must_subscribe(&format!("{base}/#"), 0);
    client.must_subscribe(&format!("{base}/a"), 0);
    client.unsubscribe(&format!("{base}/#"));
    let mut publisher = Client::fresh(v);
    publisher.publish(&publish(format!("{base}/b"), "b"));
    publisher.publish(&publish(format!("{base}/a"), "a"));
    client.expect_message("a");
    client.expect_quiet();
}

/// PINGREQ is answered by PINGRESP, each.
pub fn pingreq_is_answered_by_pingresp(v: Version) {
    let mut client = Client::fresh(v);
    client.say(words::PINGREQ);
    client.expect_bytes(&[0xD0, 0x00]);
    client.say([words::PINGREQ; 3].concat());
    (0..3).for_each(|_| client.expect_bytes(&[0xD0, 0x00]));
    client.expect_nothing(Duration::from_millis(150));
}

/// After DISCONNECT the broker closes and reads no further.
pub fn nothing_behind_disconnect_is_processed(v: Version) {
    let topic = unique_topic();
    let mut witness = Client::fresh(v);
    witness.must_subscribe(&topic, 0);
    let mut client = Client::fresh(v);
    client.say([words::DISCONNECT.to_vec(), publish(topic.as_str(), "behind").bytes(v)].concat());
    assert_eq!(client.expect_closed(), None);
    witness.expect_quiet();
    Client::fresh(v).publish(&publish(topic.as_str(), "control"));
    witness.expect_message("control");
}
