//! Secrets of a TLS 1.2 session with SHA-256: PRF (RFC 5246 §5), master secret (§8.1), keys (§6.3), Finished (§7.4.9).

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

/// `PRF(secret, label, seed)`, as many bytes as wanted.
fn prf(secret: &[u8], label: &str, seed: &[&[u8]], bytes: usize) -> Zeroizing<Vec<u8>> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let sign = |parts: &[&[u8]]| {
        let mut context = hmac::Context::with_key(&key);
        parts.iter().for_each(|part| context.update(part));
        context.sign()
    };
    let seed = [&[label.as_bytes()], seed].concat().concat();
    let mut out = Zeroizing::new(Vec::with_capacity(bytes + 32));
    let mut a = sign(&[&seed]);
    while out.len() < bytes {
        out.extend_from_slice(sign(&[a.as_ref(), &seed]).as_ref());
        a = sign(&[a.as_ref()]);
    }
    out.truncate(bytes);
    out
}

/// The master secret and what follows from it.
pub(super) struct Secrets {
    master: Zeroizing<Vec<u8>>,
    client_random: [u8; 32],
    server_random: [u8; 32],
}

/// One direction's key and the fixed part of its nonces. RFC 5288 §3.
pub(super) struct DirectionKey {
    pub(super) key: Zeroizing<[u8; 16]>,
    pub(super) salt: [u8; 4],
}

impl Secrets {
    pub(super) fn new(premaster: &[u8], client_random: [u8; 32], server_random: [u8; 32]) -> Self {
        let master = prf(premaster, "master secret", &[&client_random, &server_random], 48);
        Self { master, client_random, server_random }
    }

    /// (client writes, server writes).
    pub(super) fn keys(&self) -> (DirectionKey, DirectionKey) {
        let block = prf(&self.master, "key expansion", &[&self.server_random, &self.client_random], 40);
        let direction = |key: usize, salt: usize| DirectionKey {
            key: Zeroizing::new(block[key..key + 16].try_into().expect("sixteen of forty bytes")),
            salt: block[salt..salt + 4].try_into().expect("four of forty bytes"),
        };
        (direction(0, 32), direction(16, 36))
    }

    /// The twelve bytes of a Finished message over the transcript's hash.
    pub(super) fn finished(&self, label: &str, transcript_hash: &[u8]) -> Zeroizing<Vec<u8>> {
        prf(&self.master, label, &[transcript_hash], 12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test vector of the TLS 1.2 PRF with SHA-256 that circulates since the IETF list's "TLS 1.2 test vectors".
    #[test]
    fn the_prf_gives_the_published_vector() {
        let secret =
            [0x9b, 0xbe, 0x43, 0x6b, 0xa9, 0x40, 0xf0, 0x17, 0xb1, 0x76, 0x52, 0x84, 0x9a, 0x71, 0xdb, 0x35];
        let seed =
            [0xa0, 0xba, 0x9f, 0x93, 0x6c, 0xda, 0x31, 0x18, 0x27, 0xa6, 0xf7, 0x96, 0xff, 0xd5, 0x19, 0x8c];
        let expected = [0xe3, 0xf2, 0x29, 0xba, 0x72, 0x7b, 0xe1, 0x7b, 0x8d, 0x12, 0x26, 0x20];
        assert_eq!(prf(&secret, "test label", &[&seed], 12)[..], expected);
    }
}
