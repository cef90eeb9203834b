//! 1.5 Data representation.
use super::*;

scenes! { V5,
    /// [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-3.1.3-4]
    connect::an_ill_formed_client_id_ends_the_connection;
}

/// [MQTT-1.5.4-3] U+FEFF is a character like any other, also at the start of a string.
#[test]
fn a_byte_order_mark_is_not_stripped() {
    let topic = format!("\u{feff}{}", unique_topic());
    let mut client = Client::fresh(V5);
    client.must_subscribe(&topic, 0);
    let mut plain = Client::fresh(V5);
    plain.must_subscribe(&topic[3..], 0);
    let message = publish(topic.as_str(), "bom").with(property::content_type("\u{feff}text"));
    client.publish(&message);
    assert_eq!(client.expect_message("bom"), message);
    plain.expect_quiet();
}

/// [MQTT-1.5.5-1] A length that is not in its shortest form is malformed: in properties, in the fixed header.
#[test]
fn a_variable_byte_integer_in_a_long_form_is_malformed() {
    let topic = unique_topic();
    let mut rows = Rows::default();
    for (row, bytes) in [
        (
            "property length 80 00",
            words::packet(0x30, &[words::counted(&topic).as_slice(), &[0x80, 0x00, b'x']].concat()),
        ),
        ("subscription identifier 81 00", words::packet(0x82, b"\x00\x01\x03\x0B\x81\x00\x00\x01a\x00")),
        ("property length of five bytes", words::packet(0x30, b"\x00\x01a\x80\x80\x80\x80\x00")),
        ("remaining length 80 00", vec![0xC0, 0x80, 0x00]),
    ] {
        let mut client = Client::fresh(V5);
        client.say(bytes);
        let ending = client.fate();
        rows.check(row, ending.closed && matches!(ending.reason, None | Some(0x81)), ending);
    }
    rows.finish();
}

/// [MQTT-1.5.7-1] Both strings of a user property must be UTF-8.
#[test]
fn user_properties_must_be_utf_8() {
    let topic = unique_topic();
    let mut witness = Client::fresh(V5);
    witness.must_subscribe(&topic, 0);
    let mut rows = Rows::default();
    for (row, text) in scenes::broken::ILL_FORMED {
        for pair in [[words::counted(text), words::counted("v")], [words::counted("n"), words::counted(text)]]
        {
            let property = [&[property::USER], pair.concat().as_slice()].concat();
            let body = [words::counted(&topic), words::variable_counted(&property), b"x".to_vec()].concat();
            let mut client = Client::fresh(V5);
            client.say(words::packet(0x30, &body));
            let ending = client.fate();
            rows.check(row, ending.closed && matches!(ending.reason, None | Some(0x81)), ending);
        }
    }
    rows.finish();
    witness.expect_quiet();
}
