//! What the fuzz targets hold, as plain functions: a panic is a find.

use quoll_mqtt::{
    DecodeContext, Decoded, Packet, ProtocolVersion, Role, TopicFilter, TopicName, decode, encode,
};

/// Decodes `data` in every version and for both sides.
///
/// # Panics
/// Where a packet that decodes does not encode, or decodes to another one; where a packet cut short is anything but
/// incomplete.
pub fn decode_and_again(data: &[u8]) {
    use ProtocolVersion::{V5, V31, V311};
    for version in [None, Some(V31), Some(V311), Some(V5)] {
        for role in [Role::Server, Role::Client] {
            settle(data, &DecodeContext { version, maximum_packet_size: 1 << 20, role });
        }
    }
}

fn settle(data: &[u8], context: &DecodeContext) {
    match decode(data, context) {
        Ok(Decoded::Packet(packet, length)) => {
            assert!(length <= data.len());
            for cut in (0..length).take(64).chain([length - 1]) {
                assert!(matches!(decode(&data[..cut], context), Ok(Decoded::Incomplete(_))), "cut at {cut}");
            }
            let version = match &packet {
                Packet::Connect(connect) => connect.version,
                _ => context.version.expect("only CONNECT is read without a version"),
            };
            let mut again = Vec::new();
            encode(&packet, version, &mut again).expect("what decodes encodes");
            assert_eq!(decode(&again, context), Ok(Decoded::Packet(packet, again.len())));
        }
        Ok(Decoded::Incomplete(Some(total))) => assert!(total > data.len()),
        Ok(Decoded::Incomplete(None)) => assert!(data.len() < 5),
        Err(error) => assert!(error.reason().is_failure()),
    }
}

/// Takes `data` as a filter, a line break and a topic, and matches them.
///
/// # Panics
/// Where matching disagrees with the plain rules.
pub fn match_topic(data: &[u8]) {
    let Some((filter, topic)) = str::from_utf8(data).ok().and_then(|text| text.split_once('\n')) else {
        return;
    };
    let (Ok(filter), Ok(topic)) = (TopicFilter::parse(filter), TopicName::parse(topic)) else { return };
    let wanted: Vec<_> = filter.unshared().split('/').collect();
    let levels: Vec<_> = topic.as_str().split('/').collect();
    let hidden = topic.is_dollar() && matches!(wanted[0], "+" | "#");
    assert_eq!(filter.matches(&topic), !hidden && plain(&wanted, &levels), "{filter} and {topic}");
}

/// MQTT 5.0 §4.7, as plainly as possible.
fn plain(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) | ([], []) => true,
        (["+", filter @ ..], [_, topic @ ..]) => plain(filter, topic),
        ([wanted, filter @ ..], [level, topic @ ..]) => wanted == level && plain(filter, topic),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDS: [&[u8]; 6] = [
        b"\x10\x0E\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01c",
        b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x00\x00\x01c",
        b"\x32\x08\x00\x03a/b\x00\x0A\x00",
        b"\x82\x0C\x00\x0A\x03\x0B\xC8\x01\x00\x03a/#\x2D",
        b"\x20\x0E\x00\x00\x0B\x22\x00\x0A\x27\x00\x1E\x84\x80\x21\x00\x14",
        b"\xF0\x0B\x18\x09\x15\x00\x01m\x16\x00\x02\x00\xFF",
    ];

    /// Every byte of every seed with every value: a fuzzer's first minute, on stable.
    #[test]
    fn seeds_with_one_byte_changed_hold() {
        for seed in SEEDS {
            for index in 0..seed.len() {
                for byte in 0..=255 {
                    let mut bytes = seed.to_vec();
                    bytes[index] = byte;
                    decode_and_again(&bytes);
                }
            }
        }
    }

    #[test]
    fn topics_and_filters_hold() {
        for text in ["a/+/#\na/b", "#\n$SYS", "$share/g/+\n/", "+/a\n$x/a", "a\n", "\0\n\0", "+\na"] {
            match_topic(text.as_bytes());
        }
    }
}
