//! 3.15 AUTH, 4.12 enhanced authentication, as far as a broker without a method shows it.
use super::*;
use conformance::scenes::refusal::refusal;

/// [MQTT-4.12.0-1] [MQTT-4.12.0-4] A method the broker does not know: refused (0x8C or 0x87) and closed.
#[test]
fn an_unknown_method_is_refused() {
    for data in [None, Some("proof")] {
        let mut connect =
            Connect::new(V5, unique_id()).with(property::authentication_method("NO-SUCH-METHOD"));
        connect.properties.extend(data.map(property::authentication_data));
        let outcome = refusal(&connect.bytes(), V5);
        assert!(outcome.closed && outcome.accepted.is_none(), "{outcome:?}");
        assert!(matches!(outcome.code, None | Some(0x8C | 0x87)), "{outcome:?}");
    }
}

/// [MQTT-3.1.2-30] Whoever names a method and goes on without waiting is not served.
#[test]
fn nothing_is_served_before_authentication() {
    let topic = unique_topic();
    let mut witness = Client::fresh(V5);
    witness.must_subscribe(&topic, 0);
    let connect = Connect::new(V5, unique_id()).with(property::authentication_method("NO-SUCH-METHOD"));
    let mut client = Client::open(V5);
    client.say([connect.bytes(), publish(topic.as_str(), "m").bytes(V5)].concat());
    client.ending();
    witness.expect_quiet();
}

/// [MQTT-4.12.0-6] Without a method in CONNECT there is none in CONNACK, and no AUTH.
#[test]
fn without_a_method_there_is_no_auth() {
    let mut client = Client::open(V5);
    client.say(Connect::new(V5, unique_id()).bytes());
    let answer = client.hear().connack(V5);
    assert_eq!(property::text(&answer.properties, property::AUTHENTICATION_METHOD), None);
    assert_eq!(property::text(&answer.properties, property::AUTHENTICATION_DATA), None);
    client.expect_quiet();
}

/// [MQTT-4.12.0-7] [MQTT-3.15.1-1] [MQTT-3.15.2-1] AUTH from a client that named no method, or of wrong form, ends the connection.
#[test]
fn auth_without_a_method_ends_the_connection() {
    let method = property::authentication_method("x");
    let mut rows = Rows::default();
    for (row, bytes, codes) in [
        ("continue", words::auth(0x18, std::slice::from_ref(&method)), vec![0x82]),
        ("re-authenticate", words::auth(0x19, std::slice::from_ref(&method)), vec![0x82]),
        ("empty", vec![0xF0, 0], vec![0x82]),
        ("with flags", vec![0xF1, 0], vec![0x81]),
        ("with all flags", vec![0xFF, 0], vec![0x81]),
        ("unknown reason", words::auth(0x55, std::slice::from_ref(&method)), vec![0x81, 0x82]),
        ("method twice", words::auth(0x18, &[method.clone(), method]), vec![0x82]),
    ] {
        let mut client = Client::fresh(V5);
        client.say(bytes);
        let ending = client.fate();
        let told = ending.reason.is_none_or(|it| codes.contains(&it));
        rows.check(row, ending.closed && ending.others.is_empty() && told, ending);
    }
    rows.finish();
}
