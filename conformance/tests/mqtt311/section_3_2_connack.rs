//! 3.2 CONNACK.
use super::*;
use conformance::scenes::refusal::refusal;

scenes! { V311,
    /// [MQTT-3.2.2-1]
    connect::a_clean_session_is_never_present;
    /// [MQTT-3.2.2-2] [MQTT-3.2.2-3]
    connect::session_present_tells_of_stored_state;
}

/// [MQTT-3.2.2-4] [MQTT-3.2.2-5] A refusal has session present 0 and ends the connection, also where a session is stored.
#[test]
fn a_refusal_has_no_session_present() {
    let connect = Connect::lasting(V311, unique_id());
    Client::connect(&connect).leave();
    let mut wrong = connect;
    wrong.level = 9;
    let mut client = Client::open(V311);
    client.say(wrong.bytes());
    client.expect_bytes(&[0x20, 2, 0, 1]);
    client.expect_closed();
}

/// [MQTT-3.2.2-6] What fits no return code is closed without CONNACK.
#[test]
fn what_fits_no_return_code_is_closed_silently() {
    let outcome = refusal(&Connect::new(V311, unique_id()).flip(0x01).bytes(), V311);
    assert!(outcome.closed && outcome.code.is_none() && outcome.accepted.is_none(), "{outcome:?}");
}

/// [MQTT-3.2.0-1] CONNACK comes once, in four bytes.
#[test]
fn connack_comes_once() {
    let mut client = Client::open(V311);
    client.say(Connect::new(V311, unique_id()).bytes());
    client.expect_bytes(&[0x20, 2, 0, 0]);
    client.expect_quiet();
}
