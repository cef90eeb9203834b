//! 3.10 UNSUBSCRIBE, 3.11 UNSUBACK, 3.12 PINGREQ, 3.13 PINGRESP.
use super::*;

scenes! { V5,
    /// [MQTT-3.10.4-1]
    subscribe::unsubscribing_compares_character_by_character;
    /// [MQTT-3.10.4-1] [MQTT-3.10.4-2]
    subscribe::after_unsubscribing_nothing_new_comes;
    /// [MQTT-3.10.4-1]
    subscribe::unsubscribing_leaves_overlapping_subscriptions;
    /// [MQTT-3.10.4-3]
    resume::unsubscribing_ends_no_delivery_under_way;
    /// [MQTT-3.10.4-4] [MQTT-3.10.4-5]
    subscribe::unsuback_answers_every_unsubscribe;
    /// [MQTT-3.10.4-6]
    subscribe::several_filters_are_unsubscribed_at_once;
    /// [MQTT-3.12.4-1]
    subscribe::pingreq_is_answered_by_pingresp;
}

/// [MQTT-3.11.3-1] [MQTT-3.11.3-2] A code for each filter, in order: 0x00 where there was one, 0x11 where there was none.
#[test]
fn unsuback_tells_of_each_filter_in_order() {
    let base = unique_topic();
    let [a, b, c] = ["a", "b", "c"].map(|name| format!("{base}/{name}"));
    let mut client = Client::fresh(V5);
    client.must_subscribe(&a, 0);
    client.must_subscribe(&c, 0);
    client.say(words::unsubscribe(V5, 9, &[&b, &a, &a, &c]));
    let answer = client.hear().codes(kind::UNSUBACK, V5);
    assert_eq!((answer.id, answer.codes), (9, vec![0x11, 0x00, 0x11, 0x00]));
}

/// 3.10.2.1 User properties of UNSUBSCRIBE are read past.
#[test]
fn user_properties_of_unsubscribe_are_read_past() {
    let mut client = Client::fresh(V5);
    let body =
        [&[0, 9], property::field(&[property::user("a", "b")]).as_slice(), &words::counted("x/y")].concat();
    client.say(words::packet(0xA2, &body));
    assert_eq!(client.hear().codes(kind::UNSUBACK, V5).codes, [0x11]);
}
