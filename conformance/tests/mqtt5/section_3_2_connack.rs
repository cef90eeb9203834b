//! 3.2 CONNACK.
use super::*;
use conformance::scenes::refusal::refusal;

scenes! { V5,
    /// [MQTT-3.2.2-2]
    connect::a_clean_session_is_never_present;
    /// [MQTT-3.2.2-3]
    connect::session_present_tells_of_stored_state;
}

/// [MQTT-3.2.2-1] [MQTT-3.2.0-2] One CONNACK, its reserved flags 0.
#[test]
fn connack_comes_once() {
    let (mut client, answer) = Client::try_connect(&Connect::new(V5, unique_id()));
    assert_eq!((answer.code, answer.session_present), (0, false));
    client.expect_quiet();
}

/// [MQTT-3.2.2-6] [MQTT-3.2.2-7] [MQTT-3.2.2-8] A refusal has session present 0, a code of the table, and ends the connection.
#[test]
fn a_refusal_has_no_session_present() {
    let connect = Connect::lasting(V5, unique_id());
    Client::connect(&connect).leave();
    let mut rows = Rows::default();
    for (row, wrong) in [
        ("receive maximum 0", connect.clone().with(property::receive_maximum(0u16))),
        ("unknown method", connect.clone().with(property::authentication_method("unknown"))),
        ("reserved flag", connect.clone().flip(1)),
    ] {
        // `refusal` itself fails on session present in a refusal.
        let outcome = refusal(&wrong.bytes(), V5);
        let table =
            matches!(outcome.code, None | Some(0x80..=0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F));
        rows.check(row, outcome.closed && table, outcome);
    }
    rows.finish();
    let (_client, answer) = Client::try_connect(&connect);
    assert!(answer.session_present, "a refused CONNECT leaves the session as it is");
}

/// 3.2.2.3 What CONNACK announces is within what the standard allows.
#[test]
fn announced_limits_are_possible() {
    let (_client, answer) = Client::try_connect(&Connect::new(V5, unique_id()));
    let mut rows = Rows::default();
    for (row, id, least, most) in [
        ("receive maximum", property::RECEIVE_MAXIMUM, 1, 65_535),
        ("maximum QoS", property::MAXIMUM_QOS, 0, 1),
        ("retain available", property::RETAIN_AVAILABLE, 0, 1),
        ("maximum packet size", property::MAXIMUM_PACKET_SIZE, 1, u32::MAX),
        ("wildcards available", property::WILDCARD_AVAILABLE, 0, 1),
        ("subscription identifiers available", property::SUBSCRIPTION_IDS_AVAILABLE, 0, 1),
        ("shared subscriptions available", property::SHARED_AVAILABLE, 0, 1),
        ("topic alias maximum", property::TOPIC_ALIAS_MAXIMUM, 0, 65_535),
    ] {
        let said = property::number(&answer.properties, id);
        rows.check(row, said.is_none_or(|it| (least..=most).contains(&it)), said);
        let often = answer.properties.iter().filter(|it| it.id == id).count();
        rows.check(row, often < 2, "said twice");
    }
    for id in
        [property::TOPIC_ALIAS, property::SESSION_EXPIRY, property::WILL_DELAY, property::SUBSCRIPTION_ID]
    {
        let said = property::number(&answer.properties, id);
        rows.check("foreign or uncalled for", id == property::SESSION_EXPIRY || said.is_none(), (id, said));
    }
    rows.finish();
}

/// [MQTT-3.2.2-16] [MQTT-3.1.3-6] [MQTT-3.1.3-7] An empty identifier is replaced by one that nobody has, and told.
#[test]
fn an_empty_client_id_is_assigned_and_told() {
    let mut seen = std::collections::HashSet::new();
    for clean in [true, false, true] {
        let mut connect = Connect::lasting(V5, "");
        connect.clean = clean;
        let (mut client, answer) = Client::try_connect(&connect);
        let id = property::text(&answer.properties, property::ASSIGNED_CLIENT_ID)
            .expect("an identifier was assigned");
        assert!(!id.is_empty() && !answer.session_present);
        assert!(seen.insert(id.clone()), "{id} was assigned twice");
        let topic = unique_topic();
        client.must_subscribe(&topic, 1);
        client.leave();
        // The assigned one is an identifier like any other.
        let (_client, answer) = Client::try_connect(&Connect::lasting(V5, id));
        assert!(answer.session_present);
    }
}

/// [MQTT-3.1.3-7] No identifier is assigned to a client that has one.
#[test]
fn a_client_id_that_was_said_is_not_replaced() {
    let (_client, answer) = Client::try_connect(&Connect::new(V5, unique_id()));
    assert_eq!(property::text(&answer.properties, property::ASSIGNED_CLIENT_ID), None);
}

/// [MQTT-3.2.2-19] [MQTT-3.2.2-20] CONNACK keeps to the client's packet size: reason string and user properties go first.
#[test]
fn connack_keeps_to_the_packet_size() {
    let limit = 40u32;
    for wrong in [None, Some(property::authentication_method("unknown"))] {
        let mut connect = Connect::new(V5, unique_id()).with(property::maximum_packet_size(limit));
        let good = wrong.is_none();
        connect.properties.extend(wrong);
        let mut client = Client::open(V5);
        client.say(connect.bytes());
        match client.listen(Duration::from_secs(5)) {
            Heard::Packet(packet) => assert!(packet.body.len() + 2 <= limit as usize, "{packet:?}"),
            heard => assert!(!good && heard == Heard::Closed, "{heard:?}"),
        }
    }
}

/// [MQTT-3.1.2-24] CONNACK is a packet like any other: a client that takes less hears none, or a smaller one.
#[test]
fn connack_is_never_larger_than_the_client_takes() {
    let mut rows = Rows::default();
    for limit in 1..=20u32 {
        let mut client = Client::open(V5);
        client.say(Connect::new(V5, unique_id()).with(property::maximum_packet_size(limit)).bytes());
        let heard = client.listen(Duration::from_secs(5));
        let fits = match &heard {
            Heard::Packet(packet) => packet.body.len() + 2 <= limit as usize,
            heard => *heard == Heard::Closed,
        };
        rows.check(&format!("limit {limit}"), fits, heard);
    }
    rows.finish();
}

/// [MQTT-3.2.2-15] 3.2.2.3.6 A packet larger than announced ends the connection with 0x95.
#[test]
fn a_packet_larger_than_announced_ends_the_connection() {
    let mut client = Client::fresh(V5);
    let greeting = client.greeting.clone().expect("a fresh client is connected");
    let Some(limit) = property::number(&greeting.properties, property::MAXIMUM_PACKET_SIZE) else {
        return; // No limit was announced, so there is none to break.
    };
    if limit > 64 << 20 {
        return; // Would take longer to send than it is worth.
    }
    client.say([&[0x30], words::variable(limit).as_slice(), &words::counted(unique_topic())].concat());
    let reason = client.expect_closed();
    assert!(matches!(reason, None | Some(0x95)), "{reason:02x?}");
}

/// 3.2.2.3.6 Up to the announced size everything passes.
#[test]
fn a_packet_of_the_announced_size_passes() {
    let topic = unique_topic();
    let mut client = Client::fresh(V5);
    client.must_subscribe(&topic, 0);
    let greeting = client.greeting.clone().expect("a fresh client is connected");
    let limit =
        property::number(&greeting.properties, property::MAXIMUM_PACKET_SIZE).unwrap_or(1 << 20).min(8 << 20);
    let head = publish(topic.as_str(), "").bytes(V5).len() - 2 + 1 + words::variable(limit).len();
    let message = publish(topic.as_str(), vec![b'x'; limit as usize - head]);
    assert_eq!(message.bytes(V5).len(), limit as usize);
    client.say(message.bytes(V5));
    assert_eq!(client.receive().payload.len(), limit as usize - head);
}

/// [MQTT-3.2.2-9] [MQTT-3.2.2-10] [MQTT-3.2.2-12] Either QoS 2 is served, or Maximum QoS says less, and then: subscriptions are
/// still answered, and a will beyond it is refused.
#[test]
fn qos_2_is_served_or_announced_as_missing() {
    let mut client = Client::fresh(V5);
    let greeting = client.greeting.clone().expect("a fresh client is connected");
    let topic = unique_topic();
    let Some(maximum) = property::number(&greeting.properties, property::MAXIMUM_QOS) else {
        client.must_subscribe(&topic, 2);
        client.publish(&publish(topic.as_str(), "m").qos(2, 1));
        assert_eq!(client.expect_message("m").qos, 2);
        return;
    };
    assert!(client.subscribe(&topic, 2) < 0x80, "SUBSCRIBE with QoS 2 must be accepted");
    let mut will = Will::new(topic, "w");
    will.qos = 2;
    let outcome = refusal(&Connect::new(V5, unique_id()).will(will).bytes(), V5);
    assert!(outcome.closed && outcome.accepted.is_none(), "maximum {maximum}: {outcome:?}");
}

/// [MQTT-3.2.2-13] Either messages are retained, or CONNACK says they are not, and then a retained will is refused.
#[test]
fn messages_are_retained_or_announced_as_not() {
    let mut client = Client::fresh(V5);
    let greeting = client.greeting.clone().expect("a fresh client is connected");
    let topic = unique_topic();
    if property::number(&greeting.properties, property::RETAIN_AVAILABLE) == Some(0) {
        let mut will = Will::new(topic, "w");
        will.retain = true;
        let outcome = refusal(&Connect::new(V5, unique_id()).will(will).bytes(), V5);
        assert!(outcome.closed && outcome.accepted.is_none(), "{outcome:?}");
    } else {
        client.publish(&publish(topic.as_str(), "kept").retained());
        client.must_subscribe(&topic, 0);
        client.expect_message("kept");
    }
}
