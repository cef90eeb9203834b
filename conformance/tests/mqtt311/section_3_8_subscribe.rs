//! 3.8 SUBSCRIBE, 3.9 SUBACK.
use super::*;

scenes! { V311,
    /// [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-2.3.1-7]
    subscribe::suback_has_the_identifier_of_subscribe;
    /// [MQTT-3.8.4-4] [MQTT-3.8.4-5] [MQTT-3.9.3-1]
    subscribe::suback_has_a_code_for_each_filter_in_order;
    /// [MQTT-3.8.4-3]
    subscribe::subscribing_again_replaces_the_subscription;
    /// [MQTT-3.8.4-4]
    subscribe::the_same_filter_twice_in_one_packet_is_one_subscription;
    /// [MQTT-3.8.4-3]
    subscribe::replacing_a_subscription_loses_no_message;
    /// [MQTT-3.8.4-3]
    retained::subscribing_again_sends_it_again;
    /// [MQTT-3.8.4-6]
    delivery::the_lower_qos_of_publication_and_subscription_holds;
    /// 3.8.4 Only subscribers hear.
    subscribe::only_subscribers_hear;
}

/// [MQTT-3.9.3-2] Codes are 0, 1, 2 or 0x80, also for filters the broker will not have.
#[test]
fn suback_codes_are_those_of_the_standard() {
    let mut client = Client::fresh(V311);
    let topic = unique_topic();
    let mut rows = Rows::default();
    for filter in [topic.as_str(), "$SYS/#", "$share/g/a", "$queue/a", "+/+", "#", "$unknown/x"] {
        client.say(words::subscribe(V311, 3, &[(filter, 1)]));
        let answer = client.hear_kind(kind::SUBACK).codes(kind::SUBACK, V311);
        rows.check(filter, matches!(answer.codes[..], [0 | 1 | 2 | 0x80]), answer);
    }
    rows.finish();
}
