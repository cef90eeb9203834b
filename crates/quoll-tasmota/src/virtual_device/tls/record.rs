//! TLS records: framing, AES-128-GCM, and the limits of a device's buffers. RFC 5246 §6.2, RFC 5288, facts §3.2.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::{MaxFragment, TlsFailure, number, schedule::DirectionKey, wire::put_number};

pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;

/// Longest record before encryption begins; these are streamed, so the buffer does not limit them.
const PLAIN_MAX: usize = 16_384;
const EXPLICIT_NONCE: usize = 8;
const TAG: usize = 16;

/// One direction's cipher and its sequence number.
struct Direction {
    key: LessSafeKey,
    salt: [u8; 4],
    sequence: u64,
}

impl Direction {
    fn new(key: &DirectionKey) -> Self {
        let unbound = UnboundKey::new(&AES_128_GCM, &*key.key).expect("sixteen bytes are an AES-128 key");
        Self { key: LessSafeKey::new(unbound), salt: key.salt, sequence: 0 }
    }

    fn nonce(&self, explicit: &[u8]) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.salt);
        nonce[4..].copy_from_slice(explicit);
        Nonce::assume_unique_for_key(nonce)
    }

    fn additional_data(&self, kind: u8, length: usize) -> Aad<[u8; 13]> {
        let mut data = Vec::with_capacity(13);
        data.extend_from_slice(&self.sequence.to_be_bytes());
        data.extend_from_slice(&[kind, 0x03, 0x03]);
        put_number(&mut data, 2, length);
        Aad::from(data.try_into().expect("8 + 3 + 2 bytes"))
    }
}

/// Incoming bytes, cut into records and opened.
pub(super) struct RecordReader {
    pending: Vec<u8>,
    limit: usize,
    cipher: Option<Direction>,
}

impl RecordReader {
    pub(super) fn new(fragment: MaxFragment) -> Self {
        Self { pending: Vec::new(), limit: fragment.longest_payload(), cipher: None }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// From the next record on, records are encrypted.
    pub(super) fn encrypt(&mut self, key: &DirectionKey) {
        self.cipher = Some(Direction::new(key));
    }

    /// The next whole record: its type and content. The length is judged as soon as the header is there.
    pub(super) fn next(&mut self) -> Result<Option<(u8, Vec<u8>)>, TlsFailure> {
        let Some(header) = self.pending.first_chunk::<5>() else {
            return Ok(None);
        };
        let (kind, length) = (header[0], usize::from(u16::from_be_bytes([header[3], header[4]])));
        if !(CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&kind) {
            return Err(number::UNKNOWN_TYPE);
        }
        if header[1] != 3 {
            return Err(number::BAD_VERSION);
        }
        let overhead = EXPLICIT_NONCE + TAG;
        match &self.cipher {
            None if length > PLAIN_MAX => return Err(number::BAD_LENGTH),
            Some(_) if !(overhead..=overhead + PLAIN_MAX).contains(&length) => {
                return Err(number::BAD_LENGTH);
            }
            Some(_) if length > self.limit => return Err(number::TOO_LARGE),
            _ => {}
        }
        if self.pending.len() < 5 + length {
            return Ok(None);
        }
        let rest = self.pending.split_off(5 + length);
        let mut payload = std::mem::replace(&mut self.pending, rest).split_off(5);
        let Some(cipher) = &mut self.cipher else {
            return Ok(Some((kind, payload)));
        };
        let mut sealed = payload.split_off(EXPLICIT_NONCE);
        let aad = cipher.additional_data(kind, sealed.len() - TAG);
        let text = cipher
            .key
            .open_in_place(cipher.nonce(&payload), aad, &mut sealed)
            .map_err(|_| number::BAD_MAC)?;
        let length = text.len();
        cipher.sequence += 1;
        sealed.truncate(length);
        Ok(Some((kind, sealed)))
    }
}

/// Outgoing records.
pub(super) struct RecordWriter {
    out: Vec<u8>,
    fragment: usize,
    cipher: Option<Direction>,
}

impl RecordWriter {
    pub(super) fn new(fragment: MaxFragment) -> Self {
        Self { out: Vec::new(), fragment: fragment.bytes(), cipher: None }
    }

    pub(super) fn encrypt(&mut self, key: &DirectionKey) {
        self.cipher = Some(Direction::new(key));
    }

    /// Writes content as records no longer than the device's own buffer.
    pub(super) fn write(&mut self, kind: u8, content: &[u8]) {
        for part in content.chunks(self.fragment) {
            self.out.extend_from_slice(&[kind, 0x03, 0x03]);
            let Some(cipher) = &mut self.cipher else {
                put_number(&mut self.out, 2, part.len());
                self.out.extend_from_slice(part);
                continue;
            };
            let explicit = cipher.sequence.to_be_bytes();
            let aad = cipher.additional_data(kind, part.len());
            let mut sealed = part.to_vec();
            cipher
                .key
                .seal_in_place_append_tag(cipher.nonce(&explicit), aad, &mut sealed)
                .expect("a record is far below the limits of GCM");
            cipher.sequence += 1;
            put_number(&mut self.out, 2, EXPLICIT_NONCE + sealed.len());
            self.out.extend_from_slice(&explicit);
            self.out.extend_from_slice(&sealed);
        }
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
}
