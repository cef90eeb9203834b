//! 3.1.2.11 CONNECT properties.
use super::*;
use conformance::scenes::refusal::refusal;

fn leave_and_wait(connect: &Connect, topic: &str, away: Duration) -> bool {
    let mut client = Client::connect(connect);
    client.must_subscribe(topic, 1);
    client.leave();
    std::thread::sleep(away);
    let mut again = connect.clone();
    again.clean = false;
    let (mut client, answer) = Client::try_connect(&again);
    Client::fresh(V5).publish(&publish(topic, "m").qos(1, 1));
    if answer.session_present {
        client.expect_message("m");
    } else {
        client.expect_quiet();
    }
    answer.session_present
}

/// [MQTT-3.1.2-23] [MQTT-4.1.0-2] How long a session outlives its connection.
#[test]
fn a_session_lasts_as_long_as_its_expiry_says() {
    let ms = Duration::from_millis;
    for (clean, expiry, away, lasts) in [
        (true, None, ms(100), false),
        (false, None, ms(100), false),
        (true, Some(0), ms(100), false),
        (false, Some(0), ms(100), false),
        (true, Some(60), ms(100), true),
        (false, Some(60), ms(100), true),
        (true, Some(u32::MAX), ms(100), true),
        (true, Some(6), ms(800), true),
        (true, Some(1), ms(3500), false),
    ] {
        let mut connect = Connect::new(V5, unique_id());
        connect.clean = clean;
        connect.properties.extend(expiry.map(property::session_expiry));
        let lasted = leave_and_wait(&connect, &unique_topic(), away);
        assert_eq!(lasted, lasts, "clean {clean}, expiry {expiry:?}, away {away:?}");
    }
}

/// [MQTT-4.1.0-2] The expiry counts from the end of the connection, and reconnecting starts it anew.
#[test]
fn the_expiry_of_the_last_connection_holds() {
    let id = unique_id();
    let long = Connect::lasting(V5, id.clone());
    Client::connect(&long).leave();
    let mut short = Connect::new(V5, id);
    short.clean = false;
    let (client, answer) = Client::try_connect(&short);
    assert!(answer.session_present);
    client.leave();
    let (_client, answer) = Client::try_connect(&long);
    assert!(!answer.session_present, "the last CONNECT said no expiry, which is 0");
}

/// [MQTT-3.1.2-24] [MQTT-3.1.2-25] A message too large for its receiver is dropped as if it had been delivered; the next one passes.
#[test]
fn a_packet_too_large_for_the_client_is_not_sent() {
    for qos in 0..3 {
        let topic = unique_topic();
        let connect = Connect::lasting(V5, unique_id()).with(property::maximum_packet_size(200u32));
        let mut client = Client::connect(&connect);
        client.must_subscribe(&topic, qos);
        let mut publisher = Client::fresh(V5);
        let mut other = Client::fresh(V5);
        other.must_subscribe(&topic, qos);
        publisher.publish(&publish(topic.as_str(), "x".repeat(300)).qos(qos, 1));
        publisher.publish(&publish(topic.as_str(), "small").qos(qos, 2));
        assert_eq!(other.take().payload.len(), 300);
        client.expect_message("small");
        client.leave();
        Client::connect(&connect).expect_quiet();
    }
}

/// [MQTT-3.1.2-24] The limit holds to the byte.
#[test]
fn the_packet_size_limit_holds_to_the_byte() {
    let topic = unique_topic();
    for limit in [100u32, 127, 129, 130, 131, 200] {
        let mut client =
            Client::connect(&Connect::new(V5, unique_id()).with(property::maximum_packet_size(limit)));
        client.must_subscribe(&topic, 0);
        let mut publisher = Client::fresh(V5);
        let mut largest = 0;
        for length in 0..=limit as usize {
            let bytes = publish(topic.as_str(), "x".repeat(length)).bytes(V5);
            publisher.say(&bytes);
            if bytes.len() <= limit as usize {
                largest = length;
            }
        }
        let mut heard = 0;
        loop {
            let length = client.receive().payload.len();
            heard += 1;
            if length == largest {
                break;
            }
        }
        client.expect_quiet();
        assert!(heard > 50, "{heard} messages under {limit} bytes");
    }
}

/// [MQTT-3.1.2-24] Answers respect the limit as well.
#[test]
fn answers_respect_the_packet_size_limit() {
    let limit = 24;
    let mut client =
        Client::connect(&Connect::new(V5, unique_id()).with(property::maximum_packet_size(limit as u32)));
    client.say(words::acknowledge(kind::PUBREL, 4242));
    client.say(publish("nobody/there", "x").qos(1, 1).bytes(V5));
    client.say(words::unsubscribe(V5, 7, &["never/was"]));
    client.say(words::PINGREQ);
    for _ in 0..4 {
        let packet = client.hear();
        assert!(packet.body.len() + 2 <= limit, "{packet:?}");
    }
    client.say([0x36, 0]);
    if let Heard::Packet(packet) = client.listen(Duration::from_secs(5)) {
        assert!(packet.body.len() + 2 <= limit, "{packet:?}");
    }
}

/// [MQTT-3.1.2-27] Without a Topic Alias Maximum, or with 0, there are no aliases.
#[test]
fn no_alias_is_sent_to_a_client_that_allows_none() {
    for maximum in [None, Some(0u16)] {
        let mut connect = Connect::new(V5, unique_id());
        connect.properties.extend(maximum.map(property::topic_alias_maximum));
        let topic = unique_topic();
        let mut client = Client::connect(&connect);
        client.must_subscribe(&topic, 0);
        let mut publisher = Client::fresh(V5);
        for _ in 0..20 {
            publisher.publish(&publish(topic.as_str(), "m"));
            let message = client.expect_message("m");
            assert_eq!(
                (property::number(&message.properties, property::TOPIC_ALIAS), message.topic),
                (None, topic.clone())
            );
        }
    }
}

/// [MQTT-3.1.2-26] [MQTT-3.3.2-8] [MQTT-3.3.2-11] Aliases towards the client keep to its maximum, are not 0, and mean what was said.
#[test]
fn aliases_towards_the_client_keep_to_its_maximum() {
    let base = unique_topic();
    let mut client =
        Client::connect(&Connect::new(V5, unique_id()).with(property::topic_alias_maximum(3u16)));
    client.must_subscribe(&format!("{base}/#"), 1);
    let mut publisher = Client::fresh(V5);
    let mut known = std::collections::HashMap::new();
    for round in 0..5 {
        for name in 0..6 {
            let topic = format!("{base}/{name}");
            publisher.publish(&publish(topic.as_str(), "m").qos(round % 2, 1));
            let message = client.expect_message("m");
            let alias = property::number(&message.properties, property::TOPIC_ALIAS);
            assert!(alias.is_none_or(|it| (1..=3).contains(&it)), "{message:?}");
            let meant = match (message.topic.as_str(), alias) {
                ("", Some(alias)) => known[&alias],
                (_, Some(alias)) => {
                    known.insert(alias, name);
                    message.topic.rsplit('/').next().map_or(99, |it| it.parse().unwrap_or(99))
                }
                (said, None) => said.rsplit('/').next().map_or(99, |it| it.parse().unwrap_or(99)),
            };
            assert_eq!(meant, name, "{message:?}");
        }
    }
}

/// [MQTT-3.1.2-28] Response information only for who asks.
#[test]
fn response_information_is_for_who_asks() {
    for asked in [None, Some(0u8)] {
        let mut connect = Connect::new(V5, unique_id());
        connect.properties.extend(asked.map(property::request_response_information));
        let (_client, answer) = Client::try_connect(&connect);
        assert_eq!(property::text(&answer.properties, property::RESPONSE_INFORMATION), None);
    }
    Client::connect(&Connect::new(V5, unique_id()).with(property::request_response_information(1)))
        .expect_alive();
}

/// [MQTT-3.1.2-29] Without problem information, answers have no reason string and no user properties.
#[test]
fn without_problem_information_answers_are_bare() {
    let mut client =
        Client::connect(&Connect::new(V5, unique_id()).with(property::request_problem_information(0)));
    client.say(words::acknowledge(kind::PUBREL, 4242));
    assert_eq!(client.hear_kind(kind::PUBCOMP).ack(kind::PUBCOMP, V5).properties, []);
    client.say(words::unsubscribe(V5, 7, &["never/was"]));
    assert_eq!(client.hear_kind(kind::UNSUBACK).codes(kind::UNSUBACK, V5).properties, []);
    client.say(words::subscribe(V5, 8, &[("$share/g/", 0)]));
    if let Heard::Packet(packet) = client.listen(Duration::from_secs(5))
        && packet.kind == kind::SUBACK
    {
        assert_eq!(packet.codes(kind::SUBACK, V5).properties, []);
    }
}

/// [MQTT-3.1.4-1] 3.1.2.11 Properties with a wrong value, said twice, or of another packet, with the reason.
#[test]
fn wrong_connect_properties_are_refused() {
    let with = |properties: &[Property]| {
        let mut connect = Connect::new(V5, unique_id());
        connect.properties = properties.to_vec();
        connect.bytes()
    };
    let raw = |field: &[u8]| {
        let head =
            [words::counted("MQTT").as_slice(), &[5, 2, 0, 0], field, &words::counted(unique_id())].concat();
        words::packet(0x10, &head)
    };
    let twice = |it: Property| with(&[it.clone(), it]);
    let mut rows = Rows::default();
    for (row, bytes, code) in [
        ("receive maximum 0", with(&[property::receive_maximum(0u16)]), 0x82),
        ("maximum packet size 0", with(&[property::maximum_packet_size(0u32)]), 0x82),
        ("request problem information 2", with(&[property::request_problem_information(2)]), 0x82),
        ("request response information 2", with(&[property::request_response_information(2)]), 0x82),
        ("authentication data without method", with(&[property::authentication_data("x")]), 0x82),
        ("session expiry twice", twice(property::session_expiry(1u32)), 0x82),
        ("receive maximum twice", twice(property::receive_maximum(1u16)), 0x82),
        ("maximum packet size twice", twice(property::maximum_packet_size(100u32)), 0x82),
        ("topic alias maximum twice", twice(property::topic_alias_maximum(1u16)), 0x82),
        ("request problem information twice", twice(property::request_problem_information(1)), 0x82),
        ("request response information twice", twice(property::request_response_information(1)), 0x82),
        ("authentication method twice", twice(property::authentication_method("x")), 0x82),
        ("topic alias", with(&[property::topic_alias(1u16)]), 0x81),
        ("will delay outside the will", with(&[property::will_delay(1u32)]), 0x81),
        ("assigned client identifier", with(&[property::assigned_client_id("x")]), 0x81),
        ("server keep alive", with(&[property::server_keep_alive(1u16)]), 0x81),
        ("reason string", with(&[property::reason_string("x")]), 0x81),
        ("subscription identifier", with(&[property::subscription_id(1u32)]), 0x81),
        ("unknown identifier 0x7F", raw(&[2, 0x7F, 0]), 0x81),
        ("identifier 0", raw(&[2, 0, 0]), 0x81),
        ("a property cut short", raw(&[3, 0x11, 0, 0]), 0x81),
        ("a property length beyond the packet", raw(&[0x7F]), 0x81),
    ] {
        let outcome = refusal(&bytes, V5);
        let told = outcome.code.is_none_or(|it| it == code);
        rows.check(
            row,
            outcome.closed && outcome.accepted.is_none() && told,
            format!("{outcome:?}, due {code:#x}"),
        );
    }
    rows.finish();
}

/// 3.1.2.11.8 User properties may be said often, also with the same name.
#[test]
fn user_properties_may_repeat() {
    let connect = Connect::new(V5, unique_id()).with(property::user("a", "1")).with(property::user("a", "1"));
    Client::connect(&connect.with(property::user("", ""))).expect_alive();
}

/// [MQTT-3.1.2-26] 3.3.2.3.4 Aliases of the broker end with their connection: what comes again says its topic again.
#[test]
fn aliases_towards_the_client_end_with_the_connection() {
    let topic = unique_topic();
    let connect = Connect::lasting(V5, unique_id()).with(property::topic_alias_maximum(5u16));
    let mut client = Client::connect(&connect);
    client.must_subscribe(&format!("{topic}/+"), 1);
    let mut publisher = Client::fresh(V5);
    for (id, level) in (1..).zip(["a", "b", "a", "b", "a"]) {
        publisher.publish(&publish(format!("{topic}/{level}"), level).qos(1, id));
    }
    for _ in 0..3 {
        let mut known: Vec<(u32, String)> = Vec::new();
        for due in ["a", "b", "a", "b", "a"] {
            let message = client.receive();
            let alias = property::number(&message.properties, property::TOPIC_ALIAS);
            let said = match (message.topic.as_str(), alias) {
                ("", Some(alias)) => known.iter().find(|it| it.0 == alias).map(|it| it.1.clone()),
                (text, Some(alias)) => {
                    assert!((1..=5).contains(&alias), "alias {alias}");
                    known.push((alias, text.to_owned()));
                    Some(text.to_owned())
                }
                (text, None) => Some(text.to_owned()),
            };
            assert_eq!((said, message.text()), (Some(format!("{topic}/{due}")), due.to_owned()));
        }
        client.vanish();
        client = Client::connect(&connect);
    }
}
