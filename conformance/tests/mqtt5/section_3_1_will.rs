//! 3.1.2.5 Will flag, 3.1.3.2 will properties.
use super::*;
use conformance::scenes::refusal::refusal;

scenes! { V5,
    /// [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-10]
    will::a_broken_connection_publishes_the_will_once;
    /// [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.14.4-3]
    will::disconnect_forgets_the_will;
    /// [MQTT-3.1.2-8]
    will::a_protocol_error_publishes_the_will;
    /// [MQTT-3.1.2-8] Its delay is 0.
    will::a_takeover_publishes_the_will_of_the_earlier_connection;
    /// 3.1.2.5 No will, nothing published.
    will::without_a_will_nothing_is_published;
    /// [MQTT-3.1.2-12]
    will::the_will_has_its_own_qos;
    /// [MQTT-3.1.2-14]
    will::a_will_without_retain_is_not_kept;
    /// [MQTT-3.1.2-15]
    will::a_will_with_retain_is_kept;
    /// [MQTT-3.1.2-9] Zero bytes are a will too.
    will::a_will_may_be_empty;
    /// [MQTT-3.1.2-8] [MQTT-4.5.0-1]
    will::a_will_waits_for_its_own_client;
}

fn delayed(topic: &str, delay: u32, expiry: u32) -> Connect {
    let mut will = Will::new(topic, "gone");
    will.properties.push(property::will_delay(delay));
    Connect::new(V5, unique_id()).with(property::session_expiry(expiry)).will(will)
}

fn witness() -> (Client, String) {
    let topic = unique_topic();
    let mut witness = Client::fresh(V5);
    witness.must_subscribe(&topic, 0);
    (witness, topic)
}

/// [MQTT-3.1.2-8] [MQTT-3.1.3-9] The will waits for its delay, then it is published.
#[test]
fn the_will_waits_for_its_delay() {
    let (mut witness, topic) = witness();
    let since = Instant::now();
    Client::connect(&delayed(&topic, 2, 60)).vanish();
    witness.expect_message("gone");
    let waited = since.elapsed();
    // Whole seconds are enough for a broker.
    assert!(waited > Duration::from_millis(1500), "published after {waited:?}");
}

/// [MQTT-3.1.3-9] Coming back to the session in time recalls it.
#[test]
fn coming_back_in_time_recalls_the_will() {
    let (mut witness, topic) = witness();
    let mut connect = delayed(&topic, 5, 60);
    Client::connect(&connect).vanish();
    connect.clean = false;
    connect.will = None;
    let (_client, answer) = Client::try_connect(&connect);
    assert!(answer.session_present);
    witness.expect_nothing(Duration::from_millis(6500));
}

/// [MQTT-3.1.2-8] The end of the session publishes it before its delay has passed.
#[test]
fn the_end_of_the_session_publishes_the_will_early() {
    let (mut witness, topic) = witness();
    for expiry in [1, 0] {
        Client::connect(&delayed(&topic, 60, expiry)).vanish();
        let heard = witness.listen(Duration::from_secs(20));
        assert!(matches!(heard, Heard::Packet(_)), "expiry {expiry}: {heard:?}");
    }
}

/// [MQTT-3.1.2-8] 3.1.4 A clean start ends the earlier session, so its will does not wait.
#[test]
fn a_clean_start_publishes_the_waiting_will() {
    let (mut witness, topic) = witness();
    let mut connect = delayed(&topic, 60, 60);
    Client::connect(&connect).vanish();
    witness.expect_quiet();
    connect.will = None;
    let _client = Client::connect(&connect);
    witness.expect_message("gone");
}

/// [MQTT-3.1.3-9] 3.1.4 Taking over without a clean start within the delay: no will.
#[test]
fn a_takeover_within_the_delay_publishes_no_will() {
    let (mut witness, topic) = witness();
    let mut connect = delayed(&topic, 2, 60);
    let _first = Client::connect(&connect);
    connect.clean = false;
    connect.will = None;
    let _second = Client::connect(&connect);
    witness.expect_nothing(Duration::from_millis(3000));
}

/// [MQTT-3.1.3-10] [MQTT-3.1.2-7] The will's properties are published with it, user properties in order, the delay not.
#[test]
fn the_will_has_its_properties() {
    let (mut witness, topic) = witness();
    let mut will = Will::new(topic, "gone");
    let passed = vec![
        property::payload_format(1),
        property::message_expiry(300u32),
        property::content_type("text/plain"),
        property::response_topic("answer/to"),
        property::correlation_data([1, 0, 255]),
        property::user("z", "1"),
        property::user("a", "2"),
        property::user("z", "0"),
    ];
    will.properties = [vec![property::will_delay(0u32)], passed.clone()].concat();
    Client::connect(&Connect::new(V5, unique_id()).will(will)).vanish();
    let heard = witness.expect_message("gone").properties;
    assert_eq!(property::users(&heard), property::users(&passed));
    for wanted in &passed[..5] {
        assert!(heard.contains(wanted), "{wanted:?} is not among {heard:?}");
    }
    assert_eq!(property::number(&heard, property::WILL_DELAY), None);
}

/// [MQTT-3.1.4-1] 3.1.3.2 Will properties with a wrong value, said twice, or of another packet.
#[test]
fn wrong_will_properties_are_refused() {
    let mut rows = Rows::default();
    let twice = |it: Property| vec![it.clone(), it];
    for (row, properties) in [
        ("will delay twice", twice(property::will_delay(1u32))),
        ("payload format twice", twice(property::payload_format(1))),
        ("message expiry twice", twice(property::message_expiry(1u32))),
        ("content type twice", twice(property::content_type("x"))),
        ("response topic twice", twice(property::response_topic("x"))),
        ("correlation data twice", twice(property::correlation_data("x"))),
        ("session expiry", vec![property::session_expiry(1u32)]),
        ("topic alias", vec![property::topic_alias(1u16)]),
        ("subscription identifier", vec![property::subscription_id(1u32)]),
        ("response topic with a wildcard", vec![property::response_topic("a/#")]),
        ("content type that is not UTF-8", vec![property::content_type([0xFF])]),
    ] {
        let mut will = Will::new("w", "w");
        will.properties = properties;
        let outcome = refusal(&Connect::new(V5, unique_id()).will(will).bytes(), V5);
        let told = matches!(outcome.code, None | Some(0x81 | 0x82 | 0x90));
        rows.check(row, outcome.closed && outcome.accepted.is_none() && told, outcome);
    }
    rows.finish();
}

/// [MQTT-3.14.4-3] A DISCONNECT with a reason other than 0 keeps the will (0x04 asks for it by name).
#[test]
fn a_disconnect_with_a_reason_publishes_the_will() {
    let mut rows = Rows::default();
    for reason in [0x04, 0x80, 0x81, 0x82, 0x83, 0x93, 0x97] {
        let (mut witness, topic) = witness();
        let mut client = Client::connect(&Connect::new(V5, unique_id()).will(Will::new(topic, "gone")));
        client.say(words::disconnect_with(reason, &[]));
        let ending = client.ending();
        rows.check(&format!("reason {reason:#x}"), ending.closed && ending.reason.is_none(), ending);
        let heard = witness.listen(Duration::from_secs(2));
        rows.check(&format!("reason {reason:#x}"), matches!(heard, Heard::Packet(_)), heard);
    }
    rows.finish();
}
