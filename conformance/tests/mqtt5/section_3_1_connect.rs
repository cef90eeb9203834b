//! 3.1 CONNECT, without properties and will.
use super::*;
use conformance::scenes::refusal::refusal;

scenes! { V5,
    /// [MQTT-3.1.0-1] [MQTT-3.2.0-1] [MQTT-3.14.0-1]
    connect::the_first_packet_must_be_connect;
    /// [MQTT-3.1.0-2]
    connect::a_second_connect_ends_the_connection;
    /// [MQTT-3.1.2-3]
    connect::the_reserved_connect_flag_must_be_zero;
    /// [MQTT-3.1.2-4] [MQTT-3.1.4-4]
    session::a_clean_start_forgets_the_session;
    /// [MQTT-3.1.2-5]
    session::messages_wait_for_a_lasting_session;
    /// [MQTT-3.1.2-5] [MQTT-3.1.2-23] [MQTT-4.5.0-1]
    session::messages_wait_after_a_broken_connection;
    /// [MQTT-3.1.2-6]
    session::a_session_is_created_when_there_is_none;
    /// [MQTT-3.1.4-1] [MQTT-3.1.3-1] [MQTT-3.1.3-3] [MQTT-3.1.2-9] [MQTT-3.1.2-11] [MQTT-3.1.2-12] [MQTT-3.1.2-13] [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.3-11] [MQTT-3.1.3-12]
    refusal::a_connect_of_wrong_form_ends_the_connection;
    /// [MQTT-3.1.2-17] [MQTT-3.1.2-19]
    connect::user_name_and_password_are_read_past;
    /// [MQTT-3.1.2-22] [MQTT-3.2.2-22]
    keep_alive::silence_ends_the_connection_at_one_and_a_half_times;
    /// [MQTT-3.1.2-22]
    keep_alive::every_packet_of_the_client_starts_the_time_anew;
    /// [MQTT-3.1.2-22]
    keep_alive::messages_to_the_client_do_not_keep_it_alive;
    /// [MQTT-3.1.2-22]
    keep_alive::keep_alive_zero_never_ends_the_connection;
    /// [MQTT-3.1.2-22] [MQTT-3.1.2-8]
    keep_alive::a_client_lost_to_keep_alive_leaves_its_will;
    /// [MQTT-3.1.3-2]
    connect::the_client_id_names_the_session;
    /// [MQTT-3.1.3-5]
    connect::client_ids_of_letters_and_digits_are_allowed;
    /// [MQTT-3.1.4-3]
    connect::a_client_with_the_same_id_takes_over;
    /// [MQTT-3.1.4-3] [MQTT-3.1.2-5]
    connect::a_takeover_keeps_the_session;
    /// [MQTT-3.1.4-5] [MQTT-3.2.0-1]
    connect::packets_behind_connect_are_served_after_connack;
    /// [MQTT-3.1.4-6]
    connect::nothing_behind_a_refused_connect_is_processed;
}

/// [MQTT-3.1.2-1] A wrong protocol name ends the connection; if it is answered, by 0x84 (or 0x01 in the form of 3.1.1).
#[test]
fn a_wrong_protocol_name_is_not_accepted() {
    let mut rows = Rows::default();
    for name in ["", "mqtt", "MQtt", "MQTT ", "MQTTX", "HTTP", "\u{feff}MQTT"] {
        let mut connect = Connect::new(V5, unique_id());
        connect.name = name.into();
        let outcome = refusal(&connect.bytes(), V5);
        let code = matches!(outcome.code, None | Some(0x81 | 0x82 | 0x84 | 0x01));
        rows.check(name, outcome.closed && outcome.accepted.is_none() && code, outcome);
    }
    rows.finish();
}

/// [MQTT-3.1.2-2] A version the broker does not know ends the connection; if it is answered, by 0x84 (or 0x01 in the form
/// of 3.1.1, which a client of an unknown version may understand as well).
#[test]
fn an_unknown_version_is_not_accepted() {
    let mut rows = Rows::default();
    for level in [0, 1, 2, 6, 7, 42, 0x7F, 0xFF] {
        let mut connect = Connect::new(V5, unique_id());
        connect.level = level;
        let outcome = refusal(&connect.bytes(), V5);
        let code = matches!(outcome.code, None | Some(0x84 | 0x01));
        rows.check(&format!("level {level}"), outcome.closed && outcome.accepted.is_none() && code, outcome);
    }
    rows.finish();
}

/// [MQTT-3.1.4-3] 3.1.4 Whoever is taken over is told 0x8E.
#[test]
fn a_client_that_is_taken_over_is_told_so() {
    let connect = Connect::new(V5, unique_id());
    let mut first = Client::connect(&connect);
    let _second = Client::connect(&connect);
    assert_eq!(first.expect_closed(), Some(0x8E));
}

/// 3.1.2.10 Whoever was silent too long is told 0x8D.
#[test]
fn a_silent_client_is_told_so() {
    let mut client = Client::connect(&Connect::new(V5, unique_id()).keep_alive(1));
    let ending = client.ending_within(Duration::from_secs(15));
    assert!(ending.closed && ending.reason == Some(0x8D), "{ending:?}");
}

/// [MQTT-3.1.0-2] A second CONNECT is a protocol error by name: 0x82.
#[test]
fn a_second_connect_is_told_0x82() {
    let connect = Connect::new(V5, unique_id());
    let mut client = Client::connect(&connect);
    client.say(connect.bytes());
    assert_eq!(client.expect_closed(), Some(0x82));
}

/// 3.1.2.9 Unlike 3.1.1, 5.0 allows a password without user name.
#[test]
fn a_password_without_user_name_is_allowed() {
    let mut connect = Connect::new(V5, unique_id());
    connect.password = Some("secret".into());
    Client::connect(&connect).expect_alive();
}

/// [MQTT-3.1.3-5] [MQTT-3.1.3-8] Longer identifiers and other characters are the broker's choice: it accepts, or says 0x85.
#[test]
fn unusual_client_ids_are_accepted_or_rejected_by_code() {
    let mut rows = Rows::default();
    for id in ["a-b_c.d:e", "käse", "with space", "$SYS", "a/b", &"x".repeat(24), &"x".repeat(2000)] {
        let (mut client, answer) = Client::try_connect(&Connect::new(V5, id));
        let ended = answer.code == 0 || client.ending().closed;
        rows.check(id, matches!(answer.code, 0 | 0x85) && ended, answer);
    }
    rows.finish();
}

/// [MQTT-3.1.4-1] CONNECTs of wrong form that are answered are answered by 0x81 or 0x82 (wrong topics also by 0x90).
#[test]
fn a_connect_of_wrong_form_is_told_why() {
    let mut rows = Rows::default();
    for (row, bytes) in scenes::refusal::malformed_connects(V5) {
        let outcome = refusal(&bytes, V5);
        let good = match outcome.code {
            None | Some(0x81 | 0x82) => true,
            Some(0x90) => row.contains("topic"),
            Some(0x84) => row.contains("name"),
            Some(_) => false,
        };
        rows.check(row, good && outcome.accepted.is_none(), outcome);
    }
    rows.finish();
}
