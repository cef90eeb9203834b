//! What we write we read: every packet, every version, both directions; and no bytes whatever harm the decoder.

mod support;

use proptest::prelude::*;
use quoll_mqtt::decode::frame_length;
use quoll_mqtt::encode::{SharedFrame, publish_flags, publish_frame, publish_head, publish_size};
use quoll_mqtt::{DecodeContext, Decoded, Packet, ProtocolVersion, QoS, Role, decode, encode};
use support::{any_packet, context};

fn bytes_of(packet: &Packet, version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(packet, version, &mut bytes).expect("made within the rules");
    bytes
}

proptest! {
    #![proptest_config(support::cases(2_000))]

    #[test]
    fn a_packet_decodes_to_itself((version, role, packet) in any_packet()) {
        let bytes = bytes_of(&packet, version);
        let context = context(&packet, version, role);
        prop_assert_eq!(frame_length(&bytes, &context), Ok(Some(bytes.len())));
        prop_assert_eq!(decode(&bytes, &context), Ok(Decoded::Packet(packet, bytes.len())));
    }

    #[test]
    fn a_packet_is_read_alike_whatever_follows_it(
        (version, role, packet) in any_packet(),
        rest in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut bytes = bytes_of(&packet, version);
        let length = bytes.len();
        bytes.extend(rest);
        let context = context(&packet, version, role);
        prop_assert_eq!(decode(&bytes, &context), Ok(Decoded::Packet(packet, length)));
    }

    #[test]
    fn encoding_appends_and_touches_nothing_before((version, _, packet) in any_packet()) {
        let mut bytes = b"before".to_vec();
        encode(&packet, version, &mut bytes).expect("made within the rules");
        prop_assert_eq!(&bytes[..6], b"before");
        prop_assert_eq!(&bytes[6..], bytes_of(&packet, version));
    }

    #[test]
    fn damaged_bytes_never_panic_and_what_decodes_encodes_again(
        (version, role, packet) in any_packet(),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = bytes_of(&packet, version);
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        settle(&bytes, &context(&packet, version, role))?;
    }

    #[test]
    fn random_bytes_never_panic_and_what_decodes_encodes_again(
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
        version in proptest::option::of(proptest::sample::select(&support::VERSIONS[..])),
        role in proptest::sample::select(&[Role::Server, Role::Client][..]),
    ) {
        settle(&bytes, &DecodeContext { version, maximum_packet_size: 1 << 20, role })?;
    }

    #[test]
    fn a_shared_frame_is_what_a_frame_of_its_own_would_be(
        is_5: bool,
        publish in support::publish(true, Role::Client),
        retain: bool,
        dup: bool,
        id in support::packet_id(),
    ) {
        let version = if is_5 { ProtocolVersion::V5 } else { ProtocolVersion::V311 };
        let topic = publish.topic.as_ref().map_or("a", |topic| topic.as_str());
        let (payload, properties) = (&publish.payload[..], publish.properties.as_deref());
        let frame = SharedFrame::new(topic, payload, properties, version).expect("fits");
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let with_id = qos != QoS::AtMostOnce;
            let dup = dup && with_id;
            let flags = publish_flags(dup, qos, retain);
            let mut wanted = b"x".to_vec();
            publish_frame(topic, payload, properties, version, flags, with_id.then_some(id), &mut wanted).expect("fits");
            let mut found = b"x".to_vec();
            if with_id {
                frame.append_with_id(dup, qos, retain, id, &mut found);
            } else {
                frame.append_qos0(retain, &mut found);
            }
            prop_assert_eq!(&found, &wanted);
            prop_assert_eq!(frame.size(with_id), wanted.len() - 1);
            prop_assert_eq!(publish_size(topic, payload, properties, version, with_id), wanted.len() - 1);
            let mut head = b"x".to_vec();
            publish_head(topic, payload.len(), properties, version, flags, with_id.then_some(id), &mut head).expect("fits");
            prop_assert_eq!([&head, payload].concat(), wanted);
        }
    }
}

proptest! {
    #![proptest_config(support::cases(300))]

    #[test]
    fn a_packet_cut_anywhere_is_incomplete((version, role, packet) in any_packet()) {
        let bytes = bytes_of(&packet, version);
        let context = context(&packet, version, role);
        let header = bytes.iter().skip(1).position(|byte| byte & 0x80 == 0).expect("a length ends") + 2;
        let cuts = (0..bytes.len().min(400)).chain([bytes.len() - 1]);
        for cut in cuts {
            let wanted = (cut >= header).then_some(bytes.len());
            prop_assert_eq!(decode(&bytes[..cut], &context), Ok(Decoded::Incomplete(wanted)), "cut at {}", cut);
        }
    }
}

/// Decoding ends in any of its three ways; a packet found encodes to bytes that decode to the same packet.
fn settle(bytes: &[u8], context: &DecodeContext) -> Result<(), TestCaseError> {
    match decode(bytes, context) {
        Ok(Decoded::Packet(packet, length)) => {
            prop_assert!(length <= bytes.len());
            let version = match &packet {
                Packet::Connect(connect) => connect.version,
                _ => context.version.expect("only CONNECT is read without a version"),
            };
            let again = bytes_of(&packet, version);
            prop_assert_eq!(decode(&again, context), Ok(Decoded::Packet(packet, again.len())));
        }
        Ok(Decoded::Incomplete(Some(total))) => prop_assert!(total > bytes.len()),
        Ok(Decoded::Incomplete(None)) => prop_assert!(bytes.len() < 5),
        Err(error) => prop_assert!(error.reason().is_failure()),
    }
    Ok(())
}
