//! The variable byte integer (§1.5.5): seven bits a byte, least significant first, four bytes at most.

use crate::limits::MAX_REMAINING_LENGTH;

/// What stands at the start of some bytes where a variable byte integer is expected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum VarInt {
    /// A value and how many bytes it took.
    Value {
        /// 0 to 268,435,455.
        value: u32,
        /// 1 to 4.
        length: usize,
        /// Whether fewer bytes would have done, which 5.0 forbids [MQTT-1.5.5-1] and 3.x does not.
        minimal: bool,
    },
    /// The bytes end before the integer does.
    Incomplete,
    /// The fourth byte still announces another.
    TooLong,
}

/// Reads a variable byte integer from the start of `input`.
pub(crate) fn read(input: &[u8]) -> VarInt {
    let mut value = 0;
    for (index, &byte) in input.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return VarInt::Value { value, length: index + 1, minimal: index == 0 || byte != 0 };
        }
    }
    if input.len() < 4 { VarInt::Incomplete } else { VarInt::TooLong }
}

/// How many bytes `value` takes.
pub(crate) const fn size(value: u32) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Writes `value`, which is at most [`MAX_REMAINING_LENGTH`].
pub(crate) fn write(mut value: u32, out: &mut Vec<u8>) {
    debug_assert!(value <= MAX_REMAINING_LENGTH);
    while value > 0x7F {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_borders_of_table_1_1_take_the_bytes_the_standard_says() {
        for (value, bytes) in [
            (0, &[0x00][..]),
            (127, &[0x7F]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
            (268_435_455, &[0xFF, 0xFF, 0xFF, 0x7F]),
        ] {
            let mut out = Vec::new();
            write(value, &mut out);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(size(value), bytes.len(), "{value}");
            assert_eq!(read(bytes), VarInt::Value { value, length: bytes.len(), minimal: true });
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut]), VarInt::Incomplete, "{value} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_fifth_byte_is_refused_and_padding_is_seen() {
        assert_eq!(read(&[0x80, 0x80, 0x80, 0x80]), VarInt::TooLong);
        assert_eq!(read(&[0xFF, 0xFF, 0xFF, 0xFF, 0x01]), VarInt::TooLong);
        assert_eq!(read(&[0x81, 0x00]), VarInt::Value { value: 1, length: 2, minimal: false });
    }
}
