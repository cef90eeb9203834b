//! Reading and writing the vectors of RFC 5246 §4. Everything that does not fit is a bad handshake message.

use super::{TlsFailure, number};

/// Reads from the front of a message.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], TlsFailure> {
        let (head, tail) = self.0.split_at_checked(bytes).ok_or(number::BAD_HANDSHAKE)?;
        self.0 = tail;
        Ok(head)
    }

    /// A big-endian number of one to three bytes.
    pub(super) fn number(&mut self, bytes: usize) -> Result<usize, TlsFailure> {
        Ok(self.take(bytes)?.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)))
    }

    /// A vector whose length takes `bytes` bytes.
    pub(super) fn vector(&mut self, bytes: usize) -> Result<&'a [u8], TlsFailure> {
        let length = self.number(bytes)?;
        self.take(length)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn end(&self) -> Result<(), TlsFailure> {
        if self.is_empty() { Ok(()) } else { Err(number::BAD_HANDSHAKE) }
    }
}

/// Appends a vector with a length of `bytes` bytes.
pub(super) fn put_vector(into: &mut Vec<u8>, bytes: usize, content: &[u8]) {
    put_number(into, bytes, content.len());
    into.extend_from_slice(content);
}

/// Appends a big-endian number of `bytes` bytes.
pub(super) fn put_number(into: &mut Vec<u8>, bytes: usize, number: usize) {
    let all = number.to_be_bytes();
    into.extend_from_slice(&all[all.len() - bytes..]);
}

/// A handshake message: type, three bytes of length, body. RFC 5246 §7.4.
pub(super) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    put_vector(&mut message, 3, body);
    message
}
