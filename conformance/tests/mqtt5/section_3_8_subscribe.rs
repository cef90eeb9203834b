//! 3.8 SUBSCRIBE, 3.9 SUBACK.
use super::*;

const NO_LOCAL: u8 = 0x04;

scenes! { V5,
    /// [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-2.2.1-6]
    subscribe::suback_has_the_identifier_of_subscribe;
    /// [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1]
    subscribe::suback_has_a_code_for_each_filter_in_order;
    /// [MQTT-3.8.4-3]
    subscribe::subscribing_again_replaces_the_subscription;
    /// [MQTT-3.8.4-5]
    subscribe::the_same_filter_twice_in_one_packet_is_one_subscription;
    /// [MQTT-3.8.4-4]
    subscribe::replacing_a_subscription_loses_no_message;
    /// [MQTT-3.8.4-8]
    delivery::the_lower_qos_of_publication_and_subscription_holds;
    /// 3.8.4 Only subscribers hear.
    subscribe::only_subscribers_hear;
}

/// [MQTT-3.8.3-3] No Local: one's own messages do not come back, those of others do.
#[test]
fn no_local_keeps_ones_own_messages_away() {
    for qos in 0..3 {
        let topic = unique_topic();
        let mut client = Client::fresh(V5);
        client.must_subscribe(&topic, qos | NO_LOCAL);
        client.publish(&publish(topic.as_str(), "mine").qos(qos, 1));
        client.expect_quiet();
        Client::fresh(V5).publish(&publish(topic.as_str(), "another's").qos(qos, 1));
        client.expect_message("another's");
    }
}

/// [MQTT-3.8.3-3] Whose message it is goes by client identifier, not by connection.
#[test]
fn no_local_goes_by_client_identifier() {
    let topic = unique_topic();
    let connect = Connect::lasting(V5, unique_id());
    let mut first = Client::connect(&connect);
    first.must_subscribe(&topic, 1 | NO_LOCAL);
    first.leave();
    let mut second = Client::connect(&connect);
    second.publish(&publish(topic.as_str(), "mine").qos(1, 1));
    second.expect_quiet();
    Client::fresh(V5).publish(&publish(topic.as_str(), "another's").qos(1, 1));
    second.expect_message("another's");
}

/// [MQTT-3.8.4-3] Subscribing again replaces the option.
#[test]
fn no_local_is_replaced_by_subscribing_again() {
    let topic = unique_topic();
    let mut client = Client::fresh(V5);
    for (option, heard) in [(NO_LOCAL, false), (0, true), (NO_LOCAL, false)] {
        client.must_subscribe(&topic, option);
        client.publish(&publish(topic.as_str(), "mine"));
        if heard {
            client.expect_message("mine");
        } else {
            client.expect_quiet();
        }
    }
}

/// [MQTT-3.8.3-3] Of two overlapping subscriptions only that with No Local keeps one's own message away.
#[test]
fn no_local_is_an_option_of_one_subscription() {
    let base = unique_topic();
    let mut client = Client::fresh(V5);
    client.must_subscribe(&format!("{base}/+"), NO_LOCAL);
    client.must_subscribe(&format!("{base}/a"), 0);
    client.publish(&publish(format!("{base}/a"), "mine"));
    client.expect_message("mine");
    client.expect_quiet();
    client.publish(&publish(format!("{base}/b"), "mine"));
    client.expect_quiet();
}

/// [MQTT-3.8.3-3] Read literally: a retained message of one's own does not come at subscribing with No Local.
#[test]
fn no_local_holds_for_ones_own_retained_message() {
    let topic = unique_topic();
    let mut client = Client::fresh(V5);
    client.publish(&publish(topic.as_str(), "mine").retained());
    client.must_subscribe(&topic, NO_LOCAL);
    client.expect_quiet();
    let mut other = Client::fresh(V5);
    other.must_subscribe(&topic, NO_LOCAL);
    other.expect_message("mine");
}

/// [MQTT-3.8.3-3] One's own will is one's own message.
#[test]
fn no_local_holds_for_ones_own_will() {
    let topic = unique_topic();
    let mut will = Will::new(topic.clone(), "my will");
    will.qos = 1;
    let mut connect = Connect::lasting(V5, unique_id()).will(will);
    let mut witness = Client::fresh(V5);
    witness.must_subscribe(&topic, 1);
    let mut client = Client::connect(&connect);
    client.must_subscribe(&topic, 1 | NO_LOCAL);
    client.vanish();
    witness.expect_message("my will");
    connect.will = None;
    Client::connect(&connect).expect_quiet();
}

/// [MQTT-3.8.3-4] No Local on a shared subscription is a protocol error.
#[test]
fn no_local_on_a_shared_subscription_ends_the_connection() {
    let mut client = Client::fresh(V5);
    client.say(words::subscribe(V5, 1, &[("$share/g/a", NO_LOCAL)]));
    let reason = client.expect_closed();
    assert!(matches!(reason, None | Some(0x82)), "{reason:02x?}");
}

/// [MQTT-3.9.3-2] [MQTT-3.8.4-7] Codes are those of the table, also for filters the broker will not have.
#[test]
fn suback_codes_are_those_of_the_table() {
    let topic = unique_topic();
    let mut rows = Rows::default();
    for filter in [topic.as_str(), "$SYS/#", "$share/g/a", "$queue/a", "+/+", "#", "$unknown/x"] {
        let mut client = Client::fresh(V5);
        client.say(words::subscribe(V5, 3, &[(filter, 1)]));
        let answer = client.hear_kind(kind::SUBACK).codes(kind::SUBACK, V5);
        let table = matches!(
            answer.codes[..],
            [0 | 1 | 2 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2]
        );
        rows.check(filter, table, answer);
    }
    rows.finish();
}

/// 3.8.2.1.3 User properties of SUBSCRIBE are read past.
#[test]
fn user_properties_of_subscribe_are_read_past() {
    let users = [property::user("a", "b"), property::user("a", "b")];
    assert_eq!(Client::fresh(V5).subscribe_with(&users, &unique_topic(), 1), 1);
}

/// [MQTT-3.8.4-5] A bad filter among good ones does not spoil their subscription, or ends the connection altogether.
#[test]
fn a_refused_filter_does_not_spoil_its_neighbours() {
    let topic = unique_topic();
    let mut client = Client::fresh(V5);
    client.say(words::subscribe(V5, 3, &[(&topic, 1), ("$share/g+/a", 1), (&topic, 2)]));
    match client.hear() {
        packet if packet.kind == kind::SUBACK => {
            let codes = packet.codes(kind::SUBACK, V5).codes;
            assert!(codes.len() == 3 && codes[0] == 1 && codes[1] >= 0x80 && codes[2] == 2, "{codes:02x?}");
            client.publish(&publish(topic.as_str(), "m").qos(1, 1));
            client.expect_message("m");
        }
        packet => assert!(packet.kind == kind::DISCONNECT && packet.disconnect().0 >= 0x80, "{packet:?}"),
    }
}
