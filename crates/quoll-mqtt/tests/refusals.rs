//! What breaks the standard is refused, with the reason and the clause: one row for each rule.

#![allow(clippy::unwrap_used, reason = "a row that cannot be built fails the test")]

use quoll_mqtt::ProtocolVersion::{V5, V31, V311};
use quoll_mqtt::{DecodeContext, DecodeError, Decoded, ProtocolVersion, ReasonCode, Role, decode};

/// Bytes, a part of the error's text, the reason.
type Row<'a> = (&'a [u8], &'a str, u8);

const MALFORMED: u8 = 0x81;
const PROTOCOL: u8 = 0x82;
const VERSION: u8 = 0x84;
const CLIENT_ID: u8 = 0x85;
const ALIAS: u8 = 0x94;

fn refused(version: Option<ProtocolVersion>, role: Role, rows: &[Row<'_>]) {
    let context = DecodeContext { version, maximum_packet_size: 1_000, role };
    for (bytes, clause, reason) in rows {
        match decode(bytes, &context) {
            Err(error) => {
                assert!(error.to_string().contains(clause), "{bytes:02x?}: {error}, wanted {clause}");
                assert_eq!(error.reason(), ReasonCode(*reason), "{bytes:02x?}: {error}");
            }
            other => panic!("{bytes:02x?} is not refused ({clause}): {other:?}"),
        }
    }
}

fn accepted(version: Option<ProtocolVersion>, role: Role, rows: &[&[u8]]) {
    let context = DecodeContext { version, maximum_packet_size: 1_000, role };
    for bytes in rows {
        let found = decode(bytes, &context);
        assert!(
            matches!(found, Ok(Decoded::Packet(_, length)) if length == bytes.len()),
            "{bytes:02x?}: {found:?}"
        );
    }
}

#[test]
fn a_first_byte_alone_is_enough_to_refuse() {
    refused(
        Some(V5),
        Role::Server,
        &[
            (&[0x00], "reserved packet type", PROTOCOL),
            (&[0x36], "MQTT-3.3.1-4", MALFORMED),
            (&[0x38], "MQTT-3.3.1-2", MALFORMED),
            (&[0x41], "MQTT-2.1.3-1", MALFORMED),
            (&[0x60], "MQTT-3.6.1-1", MALFORMED),
            (&[0x80], "MQTT-3.8.1-1", MALFORMED),
            (&[0xA0], "MQTT-3.10.1-1", MALFORMED),
            (&[0xC1], "MQTT-2.1.3-1", MALFORMED),
            (&[0xE8], "MQTT-2.1.3-1", MALFORMED),
            (&[0xF1], "MQTT-2.1.3-1", MALFORMED),
            (&[0x10], "MQTT-3.1.0-2", PROTOCOL),
            (&[0x20], "a client does not send it", PROTOCOL),
            (&[0x90], "a client does not send it", PROTOCOL),
            (&[0xB0], "a client does not send it", PROTOCOL),
            (&[0xD0], "a client does not send it", PROTOCOL),
        ],
    );
    refused(
        Some(V5),
        Role::Client,
        &[
            (&[0x10], "a server does not send it", PROTOCOL),
            (&[0x82], "a server does not send it", PROTOCOL),
            (&[0xA2], "a server does not send it", PROTOCOL),
            (&[0xC0], "a server does not send it", PROTOCOL),
        ],
    );
    refused(Some(V311), Role::Client, &[(&[0xE0], "a server does not send it", PROTOCOL)]);
    refused(Some(V311), Role::Server, &[(&[0xF0], "reserved packet type", PROTOCOL)]);
    refused(Some(V31), Role::Server, &[(&[0xF0], "reserved packet type", PROTOCOL)]);
    refused(
        None,
        Role::Server,
        &[
            (&[0x30], "MQTT-3.1.0-1", PROTOCOL),
            (&[0xC0], "MQTT-3.1.0-1", PROTOCOL),
            (b"\x12\x0D\x00\x04MQTT\x04\x02\x00\x00\x00\x01c", "MQTT-2.1.3-1", MALFORMED),
            (b"\x11\x0E\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01c", "MQTT-2.1.3-1", MALFORMED),
            (b"GET / HTTP/1.1", "MQTT-3.1.0-1", PROTOCOL),
            (b"\x16\x03\x01\x02", "MQTT-2.1.3-1", MALFORMED), // a TLS client on a plain port
        ],
    );
}

#[test]
fn flags_that_3_1_called_unused_are_ignored_there() {
    accepted(
        Some(V31),
        Role::Server,
        &[
            b"\x6A\x02\x00\x01",              // PUBREL, sent again
            b"\x8A\x06\x00\x01\x00\x01a\x00", // SUBSCRIBE, sent again
            b"\x48\x02\x00\x01",
            b"\xC1\x00",
        ],
    );
    // CONNECT at QoS 1, as clients of that time say it.
    accepted(None, Role::Server, &[b"\x12\x0F\x00\x06MQIsdp\x03\x02\x00\x00\x00\x01c"]);
}

#[test]
fn a_packet_too_large_is_refused_before_its_body_arrives() {
    let context =
        |maximum_packet_size| DecodeContext { version: Some(V311), maximum_packet_size, role: Role::Server };
    let too_large = Err(DecodeError::TooLarge { found: 1_003, allowed: 1_002 });
    assert_eq!(decode(&[0x30, 0xE8, 0x07], &context(1_002)), too_large);
    assert_eq!(decode(&[0x30, 0xE8, 0x07], &context(1_003)), Ok(Decoded::Incomplete(Some(1_003))));
    let huge = decode(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], &context(u32::MAX));
    assert_eq!(huge, Ok(Decoded::Incomplete(Some(268_435_460))));
}

#[test]
fn the_remaining_length_has_four_bytes_and_in_5_0_no_more_than_needed() {
    let five = &[0x30, 0xFF, 0xFF, 0xFF, 0xFF][..];
    refused(
        Some(V5),
        Role::Server,
        &[(five, "four bytes", MALFORMED), (&[0xC0, 0x80, 0], "1.5.5-1", MALFORMED)],
    );
    refused(Some(V311), Role::Server, &[(five, "four bytes", MALFORMED)]);
    accepted(Some(V311), Role::Server, &[b"\xC0\x80\x00", b"\x30\x84\x80\x80\x00\x00\x01ab"]);
    refused(
        None,
        Role::Server,
        &[(b"\x10\x8E\x00\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01c", "1.5.5-1", MALFORMED)],
    );
    accepted(None, Role::Server, &[b"\x10\x8D\x00\x00\x04MQTT\x04\x02\x00\x00\x00\x01c"]);
}

#[test]
fn connect_is_held_to_its_rules() {
    refused(
        None,
        Role::Server,
        &[
            (b"\x10\x0D\x00\x04MQTX\x04\x02\x00\x00\x00\x01c", "MQTT-3.1.2-1", MALFORMED),
            (b"\x10\x0D\x00\x04MQTT\x03\x02\x00\x00\x00\x01c", "version 3", VERSION),
            (b"\x10\x0D\x00\x04MQTT\x06\x02\x00\x00\x00\x01c", "version 6", VERSION),
            (b"\x10\x0D\x00\x04MQTT\x85\x02\x00\x00\x00\x01c", "version 133", VERSION),
            (b"\x10\x0F\x00\x06MQIsdp\x04\x02\x00\x00\x00\x01c", "version 4", VERSION),
            (b"\x10\x0D\x00\x04MQTT\x04\x03\x00\x00\x00\x01c", "MQTT-3.1.2-3", MALFORMED),
            (b"\x10\x0D\x00\x04MQTT\x04\x0A\x00\x00\x00\x01c", "MQTT-3.1.2-11", MALFORMED),
            (b"\x10\x0D\x00\x04MQTT\x04\x22\x00\x00\x00\x01c", "MQTT-3.1.2-13", MALFORMED),
            (b"\x10\x13\x00\x04MQTT\x04\x1E\x00\x00\x00\x01c\x00\x01w\x00\x01p", "MQTT-3.1.2-12", MALFORMED),
            (b"\x10\x10\x00\x04MQTT\x04\x42\x00\x00\x00\x01c\x00\x01p", "MQTT-3.1.2-22", PROTOCOL),
            (b"\x10\x0C\x00\x04MQTT\x04\x00\x00\x00\x00\x00", "MQTT-3.1.3-8", CLIENT_ID),
            (b"\x10\x0E\x00\x06MQIsdp\x03\x02\x00\x00\x00\x00", "3.1", CLIENT_ID),
            (b"\x10\x0E\x00\x04MQTT\x04\x02\x00\x00\x00\x01c!", "behind the last field", MALFORMED),
            (b"\x10\x0D\x00\x04MQTT\x04\x82\x00\x00\x00\x01c", "ends inside", MALFORMED),
            (b"\x10\x0C\x00\x04MQTT\x04\x02\x00\x00\x00\x01", "ends inside", MALFORMED),
            (b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x00\x00\x01\xFF", "1.5.4-1", MALFORMED),
            (b"\x10\x12\x00\x04MQTT\x04\x06\x00\x00\x00\x01c\x00\x01#\x00\x00", "MQTT-3.1.3-11", MALFORMED),
            (b"\x10\x11\x00\x04MQTT\x04\x06\x00\x00\x00\x01c\x00\x00\x00\x00", "MQTT-3.1.3-11", MALFORMED),
        ],
    );
    accepted(
        None,
        Role::Server,
        &[
            b"\x10\x0C\x00\x04MQTT\x04\x02\x00\x00\x00\x00", // empty client id, clean session
            b"\x10\x0D\x00\x04MQTT\x05\x00\x00\x00\x00\x00\x00", // empty client id, 5.0
            b"\x10\x0F\x00\x06MQIsdp\x03\xC2\x00\x00\x00\x01c", // 3.1: flags without their fields
            b"\x10\x11\x00\x04MQTT\x05\x42\x00\x00\x00\x00\x01c\x00\x01p", // 5.0: a mere password
            b"\x10\x2E\x00\x06MQIsdp\x03\x02\x00\x00\x00\x20twenty-three-is-not-the-limit-..", // 3.1: a long client id
        ],
    );
}

/// A CONNECT of 5.0 with these properties in front of client id "c".
fn connect_with(properties: &[u8]) -> Vec<u8> {
    let length = u8::try_from(properties.len()).unwrap();
    [&[0x10, 14 + length][..], b"\x00\x04MQTT\x05\x02\x00\x00", &[length], properties, b"\x00\x01c"].concat()
}

/// A PUBLISH of 5.0 to "t" with these properties.
fn publish_with(properties: &[u8]) -> Vec<u8> {
    let length = u8::try_from(properties.len()).unwrap();
    [&[0x30, 4 + length][..], b"\x00\x01t", &[length], properties].concat()
}

#[test]
fn properties_are_held_to_their_rules() {
    let rows: [(&[u8], &str, u8); 19] = [
        (b"\x11\x00\x00\x00\x01\x11\x00\x00\x00\x01", "Session Expiry Interval more than once", PROTOCOL),
        (b"\x21\x00\x01\x21\x00\x01", "Receive Maximum more than once", PROTOCOL),
        (b"\x21\x00\x00", "Receive Maximum 0", PROTOCOL),
        (b"\x27\x00\x00\x00\x00", "Maximum Packet Size 0", PROTOCOL),
        (b"\x17\x02", "0 or 1", PROTOCOL),
        (b"\x19\x02", "0 or 1", PROTOCOL),
        (b"\x23\x00\x01", "Topic Alias is no property of this packet", MALFORMED),
        (b"\x18\x00\x00\x00\x01", "Will Delay Interval is no property", MALFORMED),
        (b"\x01\x00", "Payload Format Indicator is no property", MALFORMED),
        (b"\x16\x00\x01x", "without Authentication Method", PROTOCOL),
        (b"\x00", "unknown property", MALFORMED),
        (b"\x04\x00", "unknown property", MALFORMED),
        (b"\x2B\x00", "unknown property", MALFORMED),
        (b"\x7F", "unknown property", MALFORMED),
        (b"\xFF\x7F", "unknown property", MALFORMED),
        (b"\x91\x00\x00\x00\x00\x01", "1.5.5-1", MALFORMED),
        (b"\x11\x00\x00", "ends inside", MALFORMED),
        (b"\x26\x00\x01a\x00", "ends inside", MALFORMED),
        (b"\x26\x00\x01\x00\x00\x01b", "1.5.4-2", MALFORMED),
    ];
    for (properties, what, reason) in rows {
        refused(None, Role::Server, &[(&connect_with(properties), what, reason)]);
    }
    refused(
        None,
        Role::Server,
        &[
            // a property length beyond the packet, and one of five bytes
            (b"\x10\x0E\x00\x04MQTT\x05\x02\x00\x00\x7F\x00\x01c", "ends inside", MALFORMED),
            (b"\x10\x12\x00\x04MQTT\x05\x02\x00\x00\xFF\xFF\xFF\xFF\x01\x00\x01c", "four bytes", MALFORMED),
        ],
    );
    accepted(None, Role::Server, &[&connect_with(b"\x26\x00\x01a\x00\x01b\x26\x00\x01a\x00\x01b")]);
}

#[test]
fn publish_is_held_to_its_rules() {
    refused(
        Some(V5),
        Role::Server,
        &[
            (&publish_with(b"\x23\x00\x00"), "MQTT-3.3.2-8", ALIAS),
            (&publish_with(b"\x0B\x01"), "MQTT-3.3.4-6", PROTOCOL),
            (&publish_with(b"\x08\x00\x01#"), "MQTT-3.3.2-14", PROTOCOL),
            (&publish_with(b"\x08\x00\x00"), "MQTT-3.3.2-14", PROTOCOL),
            (&publish_with(b"\x01\x02"), "0 or 1", PROTOCOL),
            (&publish_with(b"\x21\x00\x01"), "Receive Maximum is no property", MALFORMED),
            (&publish_with(b"\x23\x00\x01\x23\x00\x01"), "Topic Alias more than once", PROTOCOL),
            (b"\x30\x03\x00\x00\x00", "neither topic nor topic alias", PROTOCOL),
            (b"\x30\x04\x00\x01+\x00", "MQTT-3.3.2-2", MALFORMED),
            (b"\x30\x06\x00\x03a/#\x00", "MQTT-3.3.2-2", MALFORMED),
            (b"\x30\x04\x00\x01\x00\x00", "1.5.4-2", MALFORMED),
            (b"\x32\x06\x00\x01t\x00\x00\x00", "MQTT-2.2.1-3", PROTOCOL),
            (b"\x32\x04\x00\x01t\x00", "ends inside", MALFORMED),
            (b"\x30\x01\x00", "ends inside", MALFORMED),
            (b"\x30\x00", "ends inside", MALFORMED),
        ],
    );
    refused(Some(V5), Role::Client, &[(&publish_with(b"\x0B\x00"), "Subscription Identifier 0", MALFORMED)]);
    refused(
        Some(V311),
        Role::Server,
        &[
            (b"\x30\x02\x00\x00", "MQTT-4.7.3-1", MALFORMED),
            (b"\x30\x05\x00\x03a\nb", "control character", MALFORMED),
        ],
    );
    accepted(Some(V5), Role::Client, &[&publish_with(b"\x0B\x01\x0B\x01")]);
}

#[test]
fn acknowledgements_are_held_to_their_rules() {
    refused(
        Some(V5),
        Role::Server,
        &[
            (b"\x40\x02\x00\x00", "MQTT-2.2.1-3", PROTOCOL),
            (b"\x40\x01\x00", "ends inside", MALFORMED),
            (b"\x40\x03\x00\x01\x92", "reason code", PROTOCOL),
            (b"\x50\x03\x00\x01\x92", "reason code", PROTOCOL),
            (b"\x62\x03\x00\x01\x10", "reason code", PROTOCOL),
            (b"\x70\x03\x00\x01\x80", "reason code", PROTOCOL),
            (b"\x40\x05\x00\x01\x00\x00!", "behind the last field", MALFORMED),
            (b"\x40\x06\x00\x01\x00\x02\x17\x00", "is no property", MALFORMED),
        ],
    );
    refused(Some(V311), Role::Server, &[(b"\x40\x03\x00\x01\x00", "behind the last field", MALFORMED)]);
    accepted(Some(V5), Role::Server, &[b"\x40\x04\x00\x01\x00\x00", b"\x40\x03\x00\x01\x00"]);
}

#[test]
fn subscribe_and_unsubscribe_are_held_to_their_rules() {
    refused(
        Some(V5),
        Role::Server,
        &[
            (b"\x82\x03\x00\x01\x00", "MQTT-3.8.3-2", MALFORMED),
            (b"\x82\x07\x00\x00\x00\x00\x01a\x00", "MQTT-2.2.1-3", MALFORMED),
            (b"\x82\x07\x00\x01\x00\x00\x01a\x03", "QoS 3", MALFORMED),
            (b"\x82\x07\x00\x01\x00\x00\x01a\x30", "Retain Handling 3", MALFORMED),
            (b"\x82\x07\x00\x01\x00\x00\x01a\x40", "MQTT-3.8.3-5", MALFORMED),
            (b"\x82\x07\x00\x01\x00\x00\x01a\x80", "MQTT-3.8.3-5", MALFORMED),
            (b"\x82\x06\x00\x01\x00\x00\x01a", "ends inside", MALFORMED),
            (b"\x82\x06\x00\x01\x00\x00\x00\x00", "MQTT-4.7.3-1", MALFORMED),
            (b"\x82\x09\x00\x01\x00\x00\x04a/b#", "MQTT-4.7.1-1", MALFORMED),
            (b"\x82\x08\x00\x01\x00\x00\x02a+\x00", "MQTT-4.7.1-1", MALFORMED),
            (b"\x82\x09\x00\x01\x00\x00\x03#/a\x00", "MQTT-4.7.1-1", MALFORMED),
            (b"\x82\x0F\x00\x01\x00\x00\x09$share/g/\x00", "MQTT-4.8.2-1", PROTOCOL),
            (b"\x82\x10\x00\x01\x00\x00\x0A$share/g/a\x04", "MQTT-3.8.3-4", PROTOCOL),
            (b"\x82\x09\x00\x01\x02\x0B\x00\x00\x01a\x00", "Subscription Identifier 0", MALFORMED),
            (b"\x82\x0B\x00\x01\x04\x0B\x01\x0B\x02\x00\x01a\x00", "more than once", PROTOCOL),
            (b"\xA2\x03\x00\x01\x00", "MQTT-3.10.3-2", MALFORMED),
            (b"\xA2\x06\x00\x00\x00\x00\x01a", "MQTT-2.2.1-3", MALFORMED),
            (b"\xA2\x08\x00\x01\x00\x00\x03a#b", "MQTT-4.7.1-1", MALFORMED),
        ],
    );
    refused(
        Some(V311),
        Role::Server,
        &[
            (b"\x82\x06\x00\x01\x00\x01a\x04", "reserved bits", MALFORMED),
            (b"\x82\x06\x00\x01\x00\x01a\x03", "QoS 3", MALFORMED),
            (b"\x82\x02\x00\x01", "MQTT-3.8.3-2", MALFORMED),
        ],
    );
}

#[test]
fn a_servers_packets_are_held_to_their_rules() {
    refused(
        Some(V5),
        Role::Client,
        &[
            (b"\x20\x03\x02\x00\x00", "MQTT-3.2.2-1", MALFORMED),
            (b"\x20\x03\x00\x01\x00", "MQTT-3.2.2-8", PROTOCOL),
            (b"\x20\x03\x01\x87\x00", "MQTT-3.2.2-6", PROTOCOL),
            (b"\x20\x05\x00\x00\x02\x24\x02", "Maximum QoS", PROTOCOL),
            (b"\x20\x05\x00\x00\x02\x25\x02", "0 or 1", PROTOCOL),
            (b"\x20\x02\x00\x00", "variable byte integer", MALFORMED),
            (b"\x90\x03\x00\x01\x00", "no reason code", PROTOCOL),
            (b"\x90\x04\x00\x01\x00\x03", "MQTT-3.9.3-2", PROTOCOL),
            (b"\xB0\x04\x00\x01\x00\x01", "MQTT-3.11.3-2", PROTOCOL),
            (b"\xD0\x01\x00", "behind the last field", MALFORMED),
            (b"\xE0\x07\x00\x05\x11\x00\x00\x00\x01", "MQTT-3.14.2-2", PROTOCOL),
        ],
    );
    refused(
        Some(V311),
        Role::Client,
        &[
            (b"\x20\x02\x00\x06", "MQTT-3.2.2-8", PROTOCOL),
            (b"\x90\x03\x00\x01\x03", "MQTT-3.9.3-2", PROTOCOL),
            (b"\xB0\x03\x00\x01\x00", "behind the last field", MALFORMED),
        ],
    );
}

#[test]
fn disconnect_and_auth_are_held_to_their_rules() {
    refused(
        Some(V5),
        Role::Server,
        &[
            (b"\xE0\x01\x01", "MQTT-3.14.2-1", PROTOCOL),
            (b"\xE0\x03\x00\x00!", "behind the last field", MALFORMED),
            (b"\xE0\x04\x00\x02\x17\x00", "is no property", MALFORMED),
            (b"\xF0\x00", "MQTT-3.15.2-1", PROTOCOL), // success is the server's word
            (b"\xF0\x02\x18\x00", "no Authentication Method", PROTOCOL),
            (b"\xF0\x02\x17\x00", "MQTT-3.15.2-1", PROTOCOL),
            (b"\xF0\x01\x18", "variable byte integer", MALFORMED),
        ],
    );
    refused(
        Some(V311),
        Role::Server,
        &[
            (b"\xE0\x01\x00", "behind the last field", MALFORMED),
            (b"\xC0\x01\x00", "behind the last field", MALFORMED),
        ],
    );
}
