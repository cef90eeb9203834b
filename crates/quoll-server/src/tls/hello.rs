//! What a ClientHello says (RFC 8446 §4.1.2, RFC 5246 §7.4.1.2), read from the raw bytes before rustls sees them.
//!
//! rustls neither negotiates nor shows `max_fragment_length` (RFC 6066 §4), yet a device drops a record larger than its
//! buffer: 1320 bytes of plaintext pass an ESP8266, 1321 do not (facts: §3.2). So we look ourselves. Nothing is refused
//! here: what cannot be read counts as not said, and rustls finds the right alert.

use crate::limits::MAX_CLIENT_HELLO;

/// What the peer's ClientHello said. All-default where it could not be read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HelloFacts {
    /// The largest record plaintext in bytes that the peer asks for: 512, 1024, 2048 or 4096 (RFC 6066 §4).
    pub max_fragment_length: Option<u16>,
    /// Server name (RFC 6066 §3). Devices put the configured host here, also an IP address.
    pub server_name: Option<String>,
    /// Protocol versions offered, best first as sent: `0x0303` is TLS 1.2, `0x0304` is 1.3.
    pub versions: Vec<u16>,
    /// Cipher suites offered, in order.
    pub cipher_suites: Vec<u16>,
    /// Signature schemes offered, in order (RFC 8446 §4.2.3).
    pub signature_schemes: Vec<u16>,
}

/// How far the hello has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Hello {
    /// More bytes are needed.
    Incomplete,
    /// It is whole.
    Whole(HelloFacts),
    /// These bytes are no ClientHello. rustls knows the right answer to them.
    Foreign,
    /// It is longer than [`MAX_CLIENT_HELLO`].
    TooLong,
}

const RECORD_HEADER: usize = 5;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

/// Reads the ClientHello at the start of a connection's bytes; it may be spread over several records.
#[must_use]
pub fn read(bytes: &[u8]) -> Hello {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        if let Some(length) = message.get(1..4) {
            if message[0] != CLIENT_HELLO {
                return Hello::Foreign;
            }
            let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
            if length > MAX_CLIENT_HELLO {
                return Hello::TooLong;
            }
            if let Some(body) = message.get(4..4 + length) {
                return Hello::Whole(facts(body).unwrap_or_default());
            }
        }
        if bytes.len() > MAX_CLIENT_HELLO {
            return Hello::TooLong;
        }
        let Some((header, after)) = rest.split_at_checked(RECORD_HEADER) else {
            return match rest.first() {
                Some(&first) if first != HANDSHAKE => Hello::Foreign,
                _ => Hello::Incomplete,
            };
        };
        if header[0] != HANDSHAKE || header[1] != 3 {
            return Hello::Foreign;
        }
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 {
            return Hello::Foreign;
        }
        let Some((fragment, after)) = after.split_at_checked(length) else { return Hello::Incomplete };
        message.extend_from_slice(fragment);
        rest = after;
    }
}

/// Reads the body of a ClientHello; `None` where it breaks its own form.
fn facts(body: &[u8]) -> Option<HelloFacts> {
    let mut body = Reader(body);
    let legacy_version = body.u16()?;
    body.take(32)?; // random
    body.short_vector()?; // session id
    let cipher_suites = body.long_vector()?.u16s();
    body.short_vector()?; // compression methods
    let mut facts = HelloFacts { versions: vec![legacy_version], cipher_suites, ..HelloFacts::default() };
    if body.0.is_empty() {
        return Some(facts);
    }
    let mut extensions = body.long_vector()?;
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let mut data = extensions.long_vector()?;
        match kind {
            0 => facts.server_name = server_name(data),
            1 => facts.max_fragment_length = fragment_length(data.0),
            13 => facts.signature_schemes = data.long_vector()?.u16s(),
            43 => facts.versions = data.short_vector()?.u16s(),
            _ => {}
        }
    }
    Some(facts)
}

/// RFC 6066 §4: 1 to 4 mean 2^9 to 2^12. Anything else counts as not said.
const fn fragment_length(data: &[u8]) -> Option<u16> {
    match data {
        [code @ 1..=4] => Some(256 << *code),
        _ => None,
    }
}

/// The first host name of the list (RFC 6066 §3).
fn server_name(mut data: Reader<'_>) -> Option<String> {
    let mut list = data.long_vector()?;
    let kind = list.take(1)?[0];
    let name = list.long_vector()?;
    if kind != 0 {
        return None;
    }
    let name = std::str::from_utf8(name.0).ok()?;
    (!name.chars().any(char::is_control)).then(|| name.to_owned())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|two| u16::from_be_bytes([two[0], two[1]]))
    }

    fn short_vector(&mut self) -> Option<Self> {
        let length = usize::from(self.take(1)?[0]);
        self.take(length).map(Self)
    }

    fn long_vector(&mut self) -> Option<Self> {
        let length = usize::from(self.u16()?);
        self.take(length).map(Self)
    }

    fn u16s(self) -> Vec<u16> {
        self.0.chunks_exact(2).map(|two| u16::from_be_bytes([two[0], two[1]])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hello with one extension, as a record for each chunk of `split` bytes.
    fn hello(extension: u16, data: &[u8], split: usize) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend([0, 2, 0xc0, 0x2f, 1, 0]);
        let mut extensions = extension.to_be_bytes().to_vec();
        extensions.extend((data.len() as u16).to_be_bytes());
        extensions.extend(data);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let mut message = vec![1, 0];
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(body);
        let mut records = Vec::new();
        for chunk in message.chunks(split) {
            records.extend([22, 3, 1]);
            records.extend((chunk.len() as u16).to_be_bytes());
            records.extend(chunk);
        }
        records
    }

    #[test]
    fn the_four_fragment_lengths_are_understood_and_nothing_else() {
        let table = [
            (vec![1], Some(512)),
            (vec![2], Some(1024)),
            (vec![3], Some(2048)),
            (vec![4], Some(4096)),
            (vec![0], None),
            (vec![5], None),
            (vec![], None),
            (vec![2, 2], None),
        ];
        for (data, expected) in table {
            let Hello::Whole(facts) = read(&hello(1, &data, 1000)) else { panic!("{data:?} is a hello") };
            assert_eq!(facts.max_fragment_length, expected, "extension data {data:?}");
        }
    }

    #[test]
    fn a_hello_in_many_records_is_read_when_its_last_byte_came() {
        let bytes = hello(1, &[3], 9);
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), Hello::Incomplete, "cut at {cut}");
        }
        assert!(matches!(read(&bytes), Hello::Whole(facts) if facts.max_fragment_length == Some(2048)));
    }

    #[test]
    fn bytes_that_are_no_hello_are_foreign() {
        for bytes in
            [&b"\x10\x0c\x00\x04MQTT"[..], b"GET / HTTP/1.1", b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"]
        {
            assert_eq!(read(bytes), Hello::Foreign, "{bytes:?}");
        }
    }

    #[test]
    fn a_hello_that_claims_too_much_is_not_waited_for() {
        assert_eq!(read(b"\x16\x03\x01\x00\x04\x01\xff\xff\xff"), Hello::TooLong);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>, cut in 0usize..200) {
            let _ = read(&bytes);
            let mut whole = hello(1, &[2], 50);
            whole.truncate(cut.min(whole.len()));
            whole.extend(bytes);
            let _ = read(&whole);
        }
    }
}
