//! Fields appended to a buffer. A failed packet is cut off again by [`frame`], so writers may stop anywhere.

use crate::limits::MAX_REMAINING_LENGTH;
use crate::{EncodeError, integer};

/// Appends a packet: its first byte, the Remaining Length, and what `body` writes. On an error `out` is as it was.
///
/// The length is written when it is known: one byte is kept free for it, and only a body of 128 bytes and more is
/// moved to make room. PUBLISH, where bodies are large, computes its size beforehand instead.
pub(crate) fn frame(
    first_byte: u8,
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.extend([first_byte, 0]);
    let written = body(out).and_then(|()| set_length(start + 1, out));
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// Puts the length of all behind the byte at `position` into it, making room for up to three more bytes.
fn set_length(position: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let length = remaining_length(out.len() - position - 1)?;
    let mut bytes = Vec::with_capacity(4);
    integer::write(length, &mut bytes);
    out.splice(position..=position, bytes);
    Ok(())
}

/// `length` as a Remaining Length, if four bytes can say it.
pub(crate) fn remaining_length(length: usize) -> Result<u32, EncodeError> {
    match u32::try_from(length) {
        Ok(length) if length <= MAX_REMAINING_LENGTH => Ok(length),
        _ => Err(EncodeError::TooLarge {
            found: length.saturating_add(5),
            allowed: MAX_REMAINING_LENGTH as usize + 5,
        }),
    }
}

/// Appends two bytes of length and the bytes (§1.5.6).
pub(crate) fn binary(field: &'static str, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let Ok(length) = u16::try_from(bytes.len()) else {
        return Err(EncodeError::FieldTooLong { field, found: bytes.len() });
    };
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// Appends a UTF-8 string (§1.5.4).
pub(crate) fn text(field: &'static str, text: &str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    binary(field, text.as_bytes(), out)
}

/// Appends a two byte integer (§1.5.2).
pub(crate) fn u16(number: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_be_bytes());
}
