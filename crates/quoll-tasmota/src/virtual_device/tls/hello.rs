//! ClientHello as Tasmota's BearSSL writes it, byte for byte, and what it accepts of a ServerHello. Facts §3.1.

use super::{
    MaxFragment, TlsFailure, number,
    wire::{Reader, message, put_vector},
};

pub(super) const ECDHE_RSA_AES128_GCM: u16 = 0xC02F;
pub(super) const ECDHE_ECDSA_AES128_GCM: u16 = 0xC02B;
pub(super) const CLIENT_HELLO: u8 = 1;

const SERVER_NAME: usize = 0;
const MAX_FRAGMENT_LENGTH: usize = 1;
const SUPPORTED_GROUPS: usize = 10;
const EC_POINT_FORMATS: usize = 11;
const SIGNATURE_ALGORITHMS: usize = 13;
const RENEGOTIATION_INFO: usize = 0xFF01;

/// The whole handshake message.
pub(super) fn client_hello(random: &[u8; 32], host: &str, fragment: MaxFragment, ecdsa: bool) -> Vec<u8> {
    let suites: &[u16] =
        if ecdsa { &[ECDHE_RSA_AES128_GCM, ECDHE_ECDSA_AES128_GCM] } else { &[ECDHE_RSA_AES128_GCM] };
    let suites: Vec<u8> = suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();

    let mut extensions = Vec::new();
    let mut extension = |kind: usize, data: &[u8]| {
        extensions.extend_from_slice(&kind.to_be_bytes()[size_of::<usize>() - 2..]);
        put_vector(&mut extensions, 2, data);
    };
    extension(RENEGOTIATION_INFO, &[0]);
    if !host.is_empty() {
        let mut name = vec![0];
        put_vector(&mut name, 2, host.as_bytes());
        let mut list = Vec::new();
        put_vector(&mut list, 2, &name);
        extension(SERVER_NAME, &list);
    }
    extension(MAX_FRAGMENT_LENGTH, &[fragment as u8]);
    // ecdsa_sha256, rsa_pkcs1_sha256; secp256r1; uncompressed.
    extension(SIGNATURE_ALGORITHMS, &[0x00, 0x04, 0x04, 0x03, 0x04, 0x01]);
    extension(SUPPORTED_GROUPS, &[0x00, 0x02, 0x00, 0x17]);
    extension(EC_POINT_FORMATS, &[0x01, 0x00]);

    let mut body = vec![0x03, 0x03];
    body.extend_from_slice(random);
    put_vector(&mut body, 1, &[]);
    put_vector(&mut body, 2, &suites);
    put_vector(&mut body, 1, &[0]);
    put_vector(&mut body, 2, &extensions);
    message(CLIENT_HELLO, &body)
}

/// What matters of a ServerHello.
pub(super) struct ServerHello {
    pub(super) random: [u8; 32],
    pub(super) suite: u16,
    pub(super) fragment_agreed: bool,
}

/// Checks it against what was offered.
pub(super) fn server_hello(
    body: &[u8],
    fragment: MaxFragment,
    ecdsa: bool,
) -> Result<ServerHello, TlsFailure> {
    let mut reader = Reader(body);
    if reader.number(2)? != 0x0303 {
        return Err(number::UNSUPPORTED_VERSION);
    }
    let random = reader.take(32)?.try_into().expect("32 bytes were taken");
    if reader.vector(1)?.len() > 32 {
        return Err(number::OVERSIZED_ID);
    }
    let suite = u16::try_from(reader.number(2)?).expect("two bytes");
    if suite != ECDHE_RSA_AES128_GCM && !(ecdsa && suite == ECDHE_ECDSA_AES128_GCM) {
        return Err(number::BAD_CIPHER_SUITE);
    }
    if reader.number(1)? != 0 {
        return Err(number::BAD_COMPRESSION);
    }
    let mut fragment_agreed = false;
    if !reader.is_empty() {
        let mut extensions = Reader(reader.vector(2)?);
        while !extensions.is_empty() {
            let (kind, data) = (extensions.number(2)?, extensions.vector(2)?);
            match kind {
                SERVER_NAME if !data.is_empty() => return Err(number::BAD_SNI),
                RENEGOTIATION_INFO if data != [0] => return Err(number::BAD_SECRENEG),
                MAX_FRAGMENT_LENGTH if data != [fragment as u8] => return Err(number::BAD_FRAGLEN),
                MAX_FRAGMENT_LENGTH => fragment_agreed = true,
                SERVER_NAME | RENEGOTIATION_INFO | EC_POINT_FORMATS | SUPPORTED_GROUPS => {}
                _ => return Err(number::EXTRA_EXTENSION),
            }
        }
    }
    reader.end()?;
    Ok(ServerHello { random, suite, fragment_agreed })
}
