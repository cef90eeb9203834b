//! Where 3.1 differs from 3.1.1: its name, its answers, its client identifiers.
use super::*;
use conformance::scenes::refusal::refusal;

/// [3.1 §3.1 name] The name is `MQIsdp`, the level 3; other pairs of the two are not accepted.
#[test]
fn name_and_level_belong_together() {
    let mut rows = Rows::default();
    for (name, level) in [("MQIsdp", 4), ("MQIsdp", 5), ("MQTT", 3), ("mqisdp", 3), ("MQIsdp", 2)] {
        let mut connect = Connect::new(V31, unique_id());
        (connect.name, connect.level) = (name.into(), level);
        let outcome = refusal(&connect.bytes(), V31);
        rows.check(&format!("{name} {level}"), outcome.closed && outcome.accepted.is_none(), outcome);
    }
    rows.finish();
    Client::fresh(V31).expect_alive();
}

/// [3.1 §3.2 connack] The first byte of CONNACK's variable header is not used: no session present in 3.1.
#[test]
fn connack_knows_no_session_present() {
    let connect = Connect::lasting(V31, unique_id());
    let mut first = Client::connect(&connect);
    first.must_subscribe(&unique_topic(), 1);
    first.leave();
    let mut second = Client::open(V31);
    second.say(connect.bytes());
    second.expect_bytes(&[0x20, 2, 0, 0]);
}

/// [3.1 §3.2 connack] An unknown level is answered by return code 1.
#[test]
fn an_unknown_level_is_answered_by_return_code_1() {
    let mut connect = Connect::new(V31, unique_id());
    connect.level = 9;
    let outcome = refusal(&connect.bytes(), V31);
    assert!(outcome.closed && outcome.code == Some(1), "{outcome:?}");
}

/// [3.1 §3.1 client-id] An empty identifier is answered by return code 2; 3.1 knows no identifier of the broker's making.
#[test]
fn an_empty_client_id_is_rejected() {
    for clean in [true, false] {
        let mut connect = Connect::new(V31, "");
        connect.clean = clean;
        let outcome = refusal(&connect.bytes(), V31);
        assert!(outcome.closed && outcome.code == Some(2), "clean {clean}: {outcome:?}");
    }
}

/// [3.1 §3.1 client-id] More than 23 characters: 3.1 asks for return code 2. Devices of that time send more, so a
/// broker may accept; what it may not do is cut the identifier.
#[test]
fn a_long_client_id_is_rejected_or_whole() {
    let stem = format!("{}{}", unique_id(), "x".repeat(23));
    let one = Connect::new(V31, format!("{stem}a"));
    let two = Connect::new(V31, format!("{stem}b"));
    let (mut first, answer) = Client::try_connect(&one);
    if answer.code == 2 {
        first.expect_closed();
        return;
    }
    Client::connect(&two).expect_alive();
    first.expect_alive();
}

/// [3.1 §3.9 suback] SUBACK has granted QoS 0 to 2 only; there is no failure code.
#[test]
fn suback_has_no_failure_code() {
    let mut client = Client::fresh(V31);
    for (filter, qos) in [(unique_topic(), 0), (unique_topic() + "/#", 1), (unique_topic() + "/+", 2)] {
        client.say(words::subscribe(V31, 7, &[(&filter, qos)]));
        client.expect_bytes(&[0x90, 3, 0, 7, qos]);
    }
}

/// [3.1 §3.1 flags] User name and password may be missing although their flags are set: 3.1 allows it, and asks that
/// the broker go on. A broker that refuses is stricter than 3.1; one that hangs is wrong.
#[test]
fn missing_credentials_are_decided_at_once() {
    let outcome = refusal(&Connect::new(V31, unique_id()).flip(0xC0).bytes(), V31);
    assert!(outcome.closed || outcome.accepted.is_some(), "{outcome:?}");
}

/// [3.1 §3.1 flags] Will QoS and Will Retain are disregarded where the Will flag is not set.
#[test]
fn will_bits_without_a_will_are_disregarded() {
    for bits in [0x08, 0x10, 0x18, 0x20, 0x38] {
        Client::connect(&Connect::new(V31, unique_id()).flip(bits)).expect_alive();
    }
}

/// [3.1 §2.1 flags] Broken packets that 3.1 forbids too.
#[test]
fn broken_packets_end_the_connection() {
    let mut rows = Rows::default();
    for (row, bytes) in [
        ("QoS 3", vec![0x36, 6, 0, 1, b'a', 0, 1, b'x']),
        ("a topic with a wildcard", publish("a/+", "x").bytes(V31)),
        ("a topic beyond its end", vec![0x30, 3, 0, 9, b'a']),
        ("a length of five bytes", vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1]),
        ("SUBSCRIBE without filters", vec![0x82, 2, 0, 1]),
        ("CONNACK from a client", vec![0x20, 2, 0, 0]),
        ("type 0", vec![0, 0]),
        ("type 15", vec![0xF0, 0]),
        ("identifier 0", publish("a", "x").qos(1, 0).bytes(V31)),
    ] {
        let mut client = Client::fresh(V31);
        client.say(bytes);
        let ending = client.fate();
        rows.check(row, ending.closed && ending.others.is_empty(), ending);
    }
    rows.finish();
}
