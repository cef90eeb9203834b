//! CONNECT: first and once, client identifiers, takeover.

use crate::prelude::*;

/// Anything but CONNECT as the first packet ends the connection without a word.
pub fn the_first_packet_must_be_connect(v: Version) {
    let topic = unique_topic();
    let mut witness = Client::fresh(v);
    witness.must_subscribe(&topic, 0);
    let mut rows = Rows::default();
    for (row, bytes) in [
        ("PUBLISH", publish(topic.as_str(), "early").bytes(v)),
        ("SUBSCRIBE", words::subscribe(v, 1, &[("a", 0)])),
        ("UNSUBSCRIBE", words::unsubscribe(v, 1, &["a"])),
        ("PUBACK", words::acknowledge(kind::PUBACK, 1)),
        ("PUBREL", words::acknowledge(kind::PUBREL, 1)),
        ("PINGREQ", words::PINGREQ.to_vec()),
        ("DISCONNECT", words::DISCONNECT.to_vec()),
        ("AUTH", words::auth(0x18, &[])),
        ("type 0", vec![0x00, 0x00]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
    ] {
        let mut client = Client::open(v);
        client.say(bytes);
        let ending = client.ending();
        rows.check(row, ending.closed && ending.others.is_empty() && ending.reason.is_none(), ending);
    }
    rows.finish();
    witness.expect_quiet();
}

/// A second CONNECT ends the connection, whether it is the same or another.
pub fn a_second_connect_ends_the_connection(v: Version) {
    for id in ["", "other"] {
        let first = Connect::new(v, unique_id());
        let mut client = Client::connect(&first);
        let second = if id.is_empty() { first } else { Connect::new(v, unique_id()) };
        client.say(second.bytes());
        let reason = client.expect_closed();
        assert!(matches!(reason, None | Some(0x82)), "reason {reason:02x?}");
    }
}

/// The lowest connect flag is reserved.
pub fn the_reserved_connect_flag_must_be_zero(v: Version) {
    let outcome = super::refusal::refusal(&Connect::new(v, unique_id()).flip(0x01).bytes(), v);
    assert!(outcome.closed && outcome.accepted.is_none(), "{outcome:?}");
    assert!(matches!(outcome.code, None | Some(0x81 | 0x82)), "{outcome:?}");
}

/// Identifiers of 1 to 23 letters and digits.
pub fn client_ids_of_letters_and_digits_are_allowed(v: Version) {
    let mut rows = Rows::default();
    for id in ["a", "Z", "0", "abcdefghijklmnopqrstuvw", "xyzABCDEFGHIJKLMNOPQRS", "TUVWXYZ0123456789"] {
        let (client, answer) = Client::try_connect(&Connect::new(v, id));
        rows.equal(id, &answer.code, &0);
        client.leave();
    }
    rows.finish();
}

/// Two clients with different identifiers have different state; one that only begins alike is another.
pub fn the_client_id_names_the_session(v: Version) {
    // Without its last letter it is nobody else's either.
    let id = unique_id() + "yz";
    let topic = unique_topic();
    let mut one = Client::connect(&Connect::lasting(v, id.clone()));
    one.must_subscribe(&topic, 1);
    one.leave();
    for other in [format!("{id}x"), id.to_uppercase(), id[..id.len() - 1].to_owned()] {
        let mut client = Client::connect(&Connect::lasting(v, other.clone()));
        client.publish(&publish(topic.as_str(), "for one").qos(1, 1));
        client.expect_quiet();
        client.leave();
    }
    let mut one = Client::connect(&Connect::lasting(v, id));
    for _ in 0..3 {
        one.expect_message("for one");
    }
}

/// The client identifier must be UTF-8.
pub fn an_ill_formed_client_id_ends_the_connection(v: Version) {
    let mut rows = Rows::default();
    for (row, id) in super::broken::ILL_FORMED {
        let outcome = super::refusal::refusal(&Connect::new(v, *id).bytes(), v);
        rows.check(row, outcome.closed && outcome.accepted.is_none(), outcome);
    }
    rows.finish();
}

/// Whoever connects with an identifier in use takes over; the earlier connection ends.
pub fn a_client_with_the_same_id_takes_over(v: Version) {
    let connect = Connect::new(v, unique_id());
    let mut first = Client::connect(&connect);
    let mut second = Client::connect(&connect);
    let reason = first.expect_closed();
    assert!(matches!(reason, None | Some(0x8E)), "reason {reason:02x?}");
    second.expect_alive();
}

/// Taking over with a lasting session keeps its subscriptions.
pub fn a_takeover_keeps_the_session(v: Version) {
    let connect = Connect::lasting(v, unique_id());
    let topic = unique_topic();
    let mut first = Client::connect(&connect);
    first.must_subscribe(&topic, 1);
    let (mut second, answer) = Client::try_connect(&connect);
    first.expect_closed();
    assert_eq!(answer.session_present, v != V31, "session present");
    second.publish(&publish(topic.as_str(), "still here").qos(1, 1));
    second.expect_message("still here");
}

/// CONNACK comes before anything else, also when the client did not wait for it.
pub fn packets_behind_connect_are_served_after_connack(v: Version) {
    let topic = unique_topic();
    let mut client = Client::open(v);
    let hurry = [
        Connect::new(v, unique_id()).bytes(),
        words::subscribe(v, 1, &[(&topic, 0)]),
        publish(topic.as_str(), "hurry").bytes(v),
        words::PINGREQ.to_vec(),
    ];
    client.say(hurry.concat());
    assert_eq!(client.hear().connack(v).code, 0);
    assert_eq!(client.hear().codes(kind::SUBACK, v).codes, [0]);
    let mut rest = [client.hear(), client.hear()];
    rest.sort_by_key(|it| it.kind);
    assert_eq!(rest[0].publish(v).text(), "hurry");
    assert_eq!(rest[1].kind, kind::PINGRESP);
    client.expect_quiet();
}

/// Nothing behind a CONNECT that is refused has an effect.
pub fn nothing_behind_a_refused_connect_is_processed(v: Version) {
    let topic = unique_topic();
    let mut witness = Client::fresh(v);
    witness.must_subscribe(&topic, 0);
    let mut level = Connect::new(v, unique_id());
    level.level = 77;
    let reserved = Connect::new(v, unique_id()).flip(1);
    for refused in [level, reserved] {
        let behind = publish(topic.as_str(), "behind").bytes(v);
        let mut client = Client::open(v);
        client.say([refused.bytes(), behind].concat());
        assert!(client.ending().closed, "the connection of a refused CONNECT ends");
    }
    witness.expect_quiet();
}

/// A clean session is answered without "session present".
pub fn a_clean_session_is_never_present(v: Version) {
    let mut connect = Connect::lasting(v, unique_id());
    Client::connect(&connect).leave();
    connect.clean = true;
    let (_client, answer) = Client::try_connect(&connect);
    assert_eq!((answer.code, answer.session_present), (0, false));
}

/// Session present says whether there was state.
pub fn session_present_tells_of_stored_state(v: Version) {
    let connect = Connect::lasting(v, unique_id());
    let (client, first) = Client::try_connect(&connect);
    assert!(!first.session_present, "no session was there before");
    client.leave();
    let (_client, second) = Client::try_connect(&connect);
    assert!(second.session_present, "the session was stored");
}

/// User name and password of any bytes get by an open door.
pub fn user_name_and_password_are_read_past(v: Version) {
    for (user, password) in [(Some("user"), None), (Some("user"), Some("secret")), (Some(""), Some(""))] {
        let mut connect = Connect::new(v, unique_id()).will(Will::new(unique_topic(), "w"));
        connect.user = user.map(Into::into);
        connect.password = password.map(Into::into);
        Client::connect(&connect).expect_alive();
    }
}
