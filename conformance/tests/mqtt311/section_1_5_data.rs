//! 1.5 Data representations.
use super::*;

scenes! { V311,
    /// [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-3.1.3-4]
    connect::an_ill_formed_client_id_ends_the_connection;
}

/// [MQTT-1.5.3-3] U+FEFF is a character like any other, also at the start of a string.
#[test]
fn a_byte_order_mark_is_not_stripped() {
    let id = unique_id();
    let topic = format!("\u{feff}{}", unique_topic());
    let mut client = Client::connect(&Connect::lasting(V311, format!("\u{feff}{id}")));
    client.must_subscribe(&topic, 0);
    let mut plain = Client::fresh(V311);
    plain.must_subscribe(&topic[3..], 0);
    client.publish(&publish(topic.as_str(), "bom"));
    assert_eq!(client.expect_message("bom").topic, topic);
    plain.expect_quiet();
    let (_other, answer) = Client::try_connect(&Connect::lasting(V311, id));
    assert!(!answer.session_present, "the mark makes another client identifier");
    client.expect_alive();
}

/// [MQTT-1.5.3-1] Private, unassigned and four-byte characters are well-formed. (Noncharacters such as U+10FFFF are left
/// out: a receiver may refuse them, 1.5.3.)
#[test]
fn unusual_characters_are_well_formed() {
    let mut client = Client::fresh(V311);
    for name in ["\u{10fffd}", "\u{e000}", "\u{378}", "\u{1f9c0}", "e\u{301}"] {
        let topic = format!("{}/{name}", unique_topic());
        client.must_subscribe(&topic, 0);
        client.publish(&publish(topic.as_str(), "m"));
        assert_eq!(client.expect_message("m").topic, topic);
    }
}
