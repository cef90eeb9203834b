//! 3.14 DISCONNECT.
use super::*;

scenes! { V5,
    /// 3.14.4 The broker lets go.
    subscribe::nothing_behind_disconnect_is_processed;
    /// [MQTT-3.14.1-1]
    broken::a_broken_disconnect_does_not_forget_the_will;
}

/// [MQTT-3.14.4-3] DISCONNECT of reason 0 forgets the will in each of its forms.
#[test]
fn a_normal_disconnect_in_any_form_forgets_the_will() {
    let topic = unique_topic();
    let mut witness = Client::fresh(V5);
    witness.must_subscribe(&topic, 0);
    for form in [
        vec![0xE0, 0],
        vec![0xE0, 1, 0],
        words::disconnect_with(0, &[]),
        words::disconnect_with(0, &[property::user("a", "b"), property::reason_string("bye")]),
    ] {
        let mut client =
            Client::connect(&Connect::new(V5, unique_id()).will(Will::new(topic.as_str(), "gone")));
        client.say(&form);
        assert_eq!(client.expect_closed(), None, "{form:02x?}");
    }
    witness.expect_quiet();
}

/// 3.14.2.2.2 The session expiry can be changed at the end.
#[test]
fn disconnect_can_change_the_session_expiry() {
    for (first, last, present) in
        [(600u32, 0u32, false), (1, 600, true), (600, 1200, true), (u32::MAX, 0, false)]
    {
        let id = unique_id();
        let mut client = Client::connect(&Connect::new(V5, id.clone()).with(property::session_expiry(first)));
        client.say(words::disconnect_with(0, &[property::session_expiry(last)]));
        client.expect_closed();
        std::thread::sleep(Duration::from_millis(if first == 1 { 2500 } else { 20 }));
        let (_client, answer) = Client::try_connect(&Connect::lasting(V5, id));
        assert_eq!(answer.session_present, present, "{first} then {last}");
    }
}

/// 3.14.2.2.2 But not from 0 to more: a protocol error; the session is not kept.
#[test]
fn disconnect_cannot_give_an_expiry_to_a_session_without() {
    let id = unique_id();
    let mut client = Client::connect(&Connect::new(V5, id.clone()));
    client.say(words::disconnect_with(0, &[property::session_expiry(600u32)]));
    let reason = client.expect_closed();
    assert!(matches!(reason, None | Some(0x82)), "{reason:02x?}");
    let (_client, answer) = Client::try_connect(&Connect::lasting(V5, id));
    assert!(!answer.session_present);
}

/// [MQTT-3.14.4-1] [MQTT-3.14.4-2] [MQTT-3.14.2-1] [MQTT-3.14.2-2] A DISCONNECT of the broker is its last packet, closes, has a reason of the table and
/// no session expiry.
#[test]
fn a_disconnect_of_the_broker_is_its_last_word() {
    let mut rows = Rows::default();
    for (row, bytes) in [
        ("malformed", vec![0x36, 0]),
        ("protocol error", words::subscribe(V5, 1, &[])),
        ("topic alias", publish("a", "x").with(property::topic_alias(0u16)).bytes(V5)),
    ] {
        let mut client = Client::connect(&Connect::lasting(V5, unique_id()));
        client.say(bytes);
        let first = client.listen(Duration::from_secs(5));
        if let Heard::Packet(packet) = &first {
            let (reason, properties) = packet.disconnect();
            rows.check(row, property::number(&properties, property::SESSION_EXPIRY).is_none(), packet);
            rows.check(row, matches!(reason, 0x80..=0x83 | 0x87..=0x99 | 0x9A..=0xA2), packet);
            rows.check(
                row,
                client.listen(Duration::from_secs(5)) == Heard::Closed,
                "more was said, or it stayed open",
            );
        } else {
            rows.check(row, first == Heard::Closed, first);
        }
    }
    rows.finish();
}

/// [MQTT-3.14.2-3] [MQTT-3.14.2-4] Its reason string and user properties keep to the client's packet size.
#[test]
fn a_disconnect_of_the_broker_keeps_to_the_packet_size() {
    let mut client =
        Client::connect(&Connect::new(V5, unique_id()).with(property::maximum_packet_size(20u32)));
    client.say(publish("a/#", "x").bytes(V5));
    match client.listen(Duration::from_secs(5)) {
        Heard::Packet(packet) => assert!(packet.body.len() + 2 <= 20, "{packet:?}"),
        heard => assert_eq!(heard, Heard::Closed),
    }
}

/// 3.14.2.1 Wrong contents of a client's DISCONNECT end the connection all the same, and the will is published.
#[test]
fn a_wrong_disconnect_is_an_error() {
    let mut rows = Rows::default();
    for (row, bytes) in [
        (
            "session expiry twice",
            words::disconnect_with(0, &[property::session_expiry(1u32), property::session_expiry(1u32)]),
        ),
        ("foreign property", words::disconnect_with(0, &[property::topic_alias(1u16)])),
        ("property beyond the end", vec![0xE0, 2, 0, 9]),
        ("unknown reason", words::disconnect_with(0x42, &[])),
        ("a byte too many", vec![0xE0, 3, 0, 0, 0]),
    ] {
        let topic = unique_topic();
        let mut witness = Client::fresh(V5);
        witness.must_subscribe(&topic, 0);
        let will =
            Connect::new(V5, unique_id()).with(property::session_expiry(2u32)).will(Will::new(topic, "gone"));
        let mut client = Client::connect(&will);
        client.say(bytes);
        let ending = client.ending();
        rows.check(row, ending.closed && matches!(ending.reason, None | Some(0x81 | 0x82)), ending);
        rows.check(row, matches!(witness.listen(Duration::from_secs(2)), Heard::Packet(_)), "no will");
    }
    rows.finish();
}
