//! 3.1 CONNECT, without the will.
use super::*;
use conformance::scenes::refusal::refusal;

scenes! { V311,
    /// [MQTT-3.1.0-1] [MQTT-3.2.0-1]
    connect::the_first_packet_must_be_connect;
    /// [MQTT-3.1.0-2]
    connect::a_second_connect_ends_the_connection;
    /// [MQTT-3.1.2-3]
    connect::the_reserved_connect_flag_must_be_zero;
    /// [MQTT-3.1.2-4]
    session::messages_wait_for_a_lasting_session;
    /// [MQTT-3.1.2-4]
    session::a_session_is_created_when_there_is_none;
    /// [MQTT-3.1.2-5] [MQTT-4.5.0-1]
    session::messages_wait_after_a_broken_connection;
    /// [MQTT-3.1.2-6] [MQTT-3.1.4-3]
    session::a_clean_start_forgets_the_session;
    /// [MQTT-3.1.2-6]
    session::a_clean_session_ends_with_its_connection;
    /// [MQTT-3.1.2-7]
    retained::a_retained_message_outlives_its_publishers_session;
    /// [MQTT-3.1.4-1] [MQTT-3.1.3-1] [MQTT-3.1.3-3] [MQTT-3.1.2-9] [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-14] [MQTT-3.1.2-15] [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.2-20] [MQTT-3.1.2-21] [MQTT-3.1.3-10] [MQTT-3.1.3-11]
    refusal::a_connect_of_wrong_form_ends_the_connection;
    /// [MQTT-3.1.2-19] [MQTT-3.1.2-21]
    connect::user_name_and_password_are_read_past;
    /// [MQTT-3.1.2-24]
    keep_alive::silence_ends_the_connection_at_one_and_a_half_times;
    /// [MQTT-3.1.2-24]
    keep_alive::every_packet_of_the_client_starts_the_time_anew;
    /// [MQTT-3.1.2-24]
    keep_alive::messages_to_the_client_do_not_keep_it_alive;
    /// [MQTT-3.1.2-24]
    keep_alive::keep_alive_zero_never_ends_the_connection;
    /// [MQTT-3.1.2-24] [MQTT-3.1.2-8]
    keep_alive::a_client_lost_to_keep_alive_leaves_its_will;
    /// [MQTT-3.1.3-2]
    connect::the_client_id_names_the_session;
    /// [MQTT-3.1.3-5]
    connect::client_ids_of_letters_and_digits_are_allowed;
    /// [MQTT-3.1.4-2]
    connect::a_client_with_the_same_id_takes_over;
    /// [MQTT-3.1.4-2] [MQTT-3.1.2-4]
    connect::a_takeover_keeps_the_session;
    /// [MQTT-3.1.4-4] [MQTT-3.2.0-1]
    connect::packets_behind_connect_are_served_after_connack;
    /// [MQTT-3.1.4-5]
    connect::nothing_behind_a_refused_connect_is_processed;
}

/// [MQTT-3.1.2-1] A wrong protocol name is not taken for MQTT.
#[test]
fn a_wrong_protocol_name_is_not_accepted() {
    let mut rows = Rows::default();
    for name in ["", "mqtt", "MQtt", "MQTT ", "MQTTX", "MQIsdp", "HTTP", "\u{feff}MQTT"] {
        let mut connect = Connect::new(V311, unique_id());
        connect.name = name.into();
        let outcome = refusal(&connect.bytes(), V311);
        rows.check(name, outcome.closed && outcome.accepted.is_none(), outcome);
    }
    rows.finish();
}

/// [MQTT-3.1.2-2] A level the broker does not know is answered by CONNACK 0x01 and the end.
#[test]
fn an_unknown_level_is_answered_by_return_code_1() {
    let mut rows = Rows::default();
    for level in [0, 1, 2, 6, 7, 42, 0x7F] {
        let mut connect = Connect::new(V311, unique_id());
        connect.level = level;
        let outcome = refusal(&connect.bytes(), V311);
        rows.check(&format!("level {level}"), outcome.closed && outcome.code == Some(1), outcome);
    }
    rows.finish();
}

/// [MQTT-3.1.2-22] No password without a user name.
#[test]
fn a_password_without_user_name_is_not_accepted() {
    let mut connect = Connect::new(V311, unique_id());
    connect.password = Some("secret".into());
    let outcome = refusal(&connect.bytes(), V311);
    assert!(outcome.closed && outcome.accepted.is_none(), "{outcome:?}");
}

/// [MQTT-3.1.3-6] [MQTT-3.1.3-7] An empty identifier with a clean session gets one of the broker's making.
#[test]
fn an_empty_client_id_is_unique() {
    let topic = unique_topic();
    let connect = Connect::new(V311, "");
    let mut one = Client::connect(&connect);
    let mut two = Client::connect(&connect);
    one.must_subscribe(&topic, 0);
    two.publish(&publish(topic.as_str(), "m"));
    one.expect_message("m");
    two.expect_quiet();
}

/// [MQTT-3.1.3-8] [MQTT-3.1.3-9] An empty identifier without clean session: return code 2 and the end.
#[test]
fn an_empty_client_id_without_clean_session_is_rejected() {
    let mut connect = Connect::new(V311, "");
    connect.clean = false;
    let outcome = refusal(&connect.bytes(), V311);
    assert!(outcome.closed && outcome.code == Some(2), "{outcome:?}");
}

/// [MQTT-3.1.4-1] A CONNECT of wrong form gets no CONNACK at all.
#[test]
fn a_connect_of_wrong_form_is_not_answered() {
    let mut rows = Rows::default();
    for (row, bytes) in scenes::refusal::malformed_connects(V311) {
        let outcome = refusal(&bytes, V311);
        rows.check(row, outcome.code.is_none() && outcome.accepted.is_none(), outcome);
    }
    rows.finish();
}

/// [MQTT-3.1.3-5] Longer identifiers and other characters are the broker's choice: it accepts, or says return code 2.
#[test]
fn unusual_client_ids_are_accepted_or_rejected_by_code() {
    let mut rows = Rows::default();
    for id in ["a-b_c.d:e", "käse", "with space", "$SYS", "a/b", &"x".repeat(24), &"x".repeat(200)] {
        let (_client, answer) = Client::try_connect(&Connect::new(V311, id));
        rows.check(id, matches!(answer.code, 0 | 2), answer);
    }
    rows.finish();
}
