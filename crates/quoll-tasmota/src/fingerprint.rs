//! The fingerprint of a server's public key, as `MqttFingerprint1` and `2` want it (version 2 of the algorithm).
//!
//! It is over the key alone, so renewing a certificate with the same key changes nothing. Only RSA keys have a usable
//! one: in fingerprint mode a device offers RSA suites only. Facts §4. Version 1 (before 8.4) is not offered.

use std::{fmt, str::FromStr};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use x509_parser::{certificate::X509Certificate, prelude::FromDer, public_key::PublicKey};

/// A public key's fingerprint that a device may be told to trust: never all 00 (the device would learn whoever comes
/// first) and never all FF (it would trust anyone). Facts §1.5, §4.3.
///
/// `Display` is the form devices show: `08 5E 0A …`.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Fingerprint([u8; 20]);

impl Fingerprint {
    /// SHA-1 of the empty string, the factory value of slot 2: matches no key. Good for closing an unused slot.
    pub const MATCHES_NOTHING: Self = Self([
        0xDA, 0x39, 0xA3, 0xEE, 0x5E, 0x6B, 0x4B, 0x0D, 0x32, 0x55, 0xBF, 0xEF, 0x95, 0x60, 0x18, 0x90, 0xAF,
        0xD8, 0x07, 0x09,
    ]);

    /// From the twenty bytes themselves.
    ///
    /// # Errors
    /// The two values with a special meaning to devices are refused.
    pub fn new(bytes: [u8; 20]) -> Result<Self, FingerprintError> {
        match bytes {
            [0x00, ..] if bytes == [0x00; 20] => Err(FingerprintError::LearnsAnyone),
            [0xFF, ..] if bytes == [0xFF; 20] => Err(FingerprintError::TrustsAnyone),
            _ => Ok(Self(bytes)),
        }
    }

    /// Of an RSA public key, modulus `n` and exponent `e` big-endian; leading zero bytes do not matter. Facts §4.1:
    /// SHA-1 over `u32(7) "ssh-rsa" u32(len e) e u32(len n) n`.
    ///
    /// # Errors
    /// A modulus below 1024 or above 8192 bits, or an empty exponent, is no key of a server.
    pub fn of_rsa(n: &[u8], e: &[u8]) -> Result<Self, FingerprintError> {
        let (n, e) = (without_leading_zeros(n), without_leading_zeros(e));
        if !(128..=1024).contains(&n.len()) || e.is_empty() || e.len() > n.len() {
            return Err(FingerprintError::NotAServerKey { modulus_bytes: n.len(), exponent_bytes: e.len() });
        }
        let mut preimage = Vec::with_capacity(32 + n.len());
        for field in [b"ssh-rsa".as_slice(), e, n] {
            preimage.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
            preimage.extend_from_slice(field);
        }
        let sum = digest(&SHA1_FOR_LEGACY_USE_ONLY, &preimage);
        Self::new(sum.as_ref().try_into().expect("SHA-1 has 20 bytes"))
    }

    /// Of the key in a DER certificate.
    ///
    /// # Errors
    /// Not a certificate, or not an RSA key.
    pub fn of_certificate(der: &[u8]) -> Result<Self, FingerprintError> {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|_| FingerprintError::NotACertificate { bytes: der.len() })?;
        match certificate.public_key().parsed() {
            Ok(PublicKey::RSA(key)) => Self::of_rsa(key.modulus, key.exponent),
            _ => Err(FingerprintError::NotRsa),
        }
    }

    /// The twenty bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; 20] {
        self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        spaced_hex(&self.0, f)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Twenty two-digit hex bytes, one blank between each, either case; nothing else. A device would read anything else
/// as zero bytes, which can silently mean "learn anyone" (facts §1.5), so we never pass such a text on.
impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        Self::new(parse_bytes(text)?)
    }
}

/// What a fingerprint slot of a device holds, as it reports it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Slot {
    /// All 00: accepts any server, and learns the first one. Facts §4.3.
    LearnsAnyone,
    /// All FF: accepts any server for ever.
    TrustsAnyone,
    /// Accepts this key.
    Pinned(Fingerprint),
}

impl Slot {
    /// From the device's answer, by the same strict grammar as [`Fingerprint`].
    ///
    /// # Errors
    /// Not twenty hex bytes.
    pub fn parse(text: &str) -> Result<Self, FingerprintError> {
        Ok(match Fingerprint::new(parse_bytes(text)?) {
            Ok(fingerprint) => Self::Pinned(fingerprint),
            Err(FingerprintError::TrustsAnyone) => Self::TrustsAnyone,
            Err(_) => Self::LearnsAnyone,
        })
    }

    /// The bytes of the slot.
    #[must_use]
    pub fn bytes(&self) -> [u8; 20] {
        match self {
            Self::LearnsAnyone => [0x00; 20],
            Self::TrustsAnyone => [0xFF; 20],
            Self::Pinned(fingerprint) => fingerprint.0,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        spaced_hex(&self.bytes(), f)
    }
}

/// Why something is not a fingerprint to configure.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FingerprintError {
    /// All 00.
    #[error("the all-zero fingerprint makes a device accept and learn any server")]
    LearnsAnyone,
    /// All FF.
    #[error("the all-FF fingerprint makes a device accept any server for ever")]
    TrustsAnyone,
    /// The text has another shape.
    #[error(
        "a fingerprint is 20 hex bytes with one blank between them (59 characters), this text has {chars} and stops making sense at character {at}"
    )]
    Shape {
        /// Length of the text.
        chars: usize,
        /// First character (from 1) that does not fit.
        at: usize,
    },
    /// An RSA key outside every sensible size.
    #[error("an RSA key of {modulus_bytes} modulus and {exponent_bytes} exponent bytes is no server key")]
    NotAServerKey {
        /// Modulus length without leading zeros.
        modulus_bytes: usize,
        /// Exponent length without leading zeros.
        exponent_bytes: usize,
    },
    /// The DER is something else.
    #[error("these {bytes} bytes are not a DER certificate")]
    NotACertificate {
        /// How many bytes were offered.
        bytes: usize,
    },
    /// An elliptic-curve or other key.
    #[error("only RSA keys have a fingerprint that devices can use")]
    NotRsa,
}

impl FingerprintError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::LearnsAnyone | Self::TrustsAnyone => "pin the broker's own key instead".into(),
            Self::Shape { .. } => "write it as 08 5E 0A … without colons".into(),
            Self::NotRsa => {
                "give the broker an RSA-2048 key; in fingerprint mode devices offer RSA suites only".into()
            }
            Self::NotAServerKey { .. } | Self::NotACertificate { .. } => return None,
        })
    }
}

fn spaced_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, byte) in bytes.iter().enumerate() {
        let blank = if index == 0 { "" } else { " " };
        write!(f, "{blank}{byte:02X}")?;
    }
    Ok(())
}

fn parse_bytes(text: &str) -> Result<[u8; 20], FingerprintError> {
    let chars = text.chars().count();
    let shape = |at: usize| FingerprintError::Shape { chars, at: at + 1 };
    let mut bytes = [0u8; 20];
    let given = text.as_bytes();
    for (index, byte) in bytes.iter_mut().enumerate() {
        let at = index * 3;
        let digit =
            |at: usize| given.get(at).and_then(|&c| char::from(c).to_digit(16)).ok_or_else(|| shape(at));
        *byte = u8::try_from(digit(at)? * 16 + digit(at + 1)?).expect("two hex digits make a byte");
        if index < 19 && given.get(at + 2) != Some(&b' ') {
            return Err(shape(at + 2));
        }
    }
    if given.len() == 59 { Ok(bytes) } else { Err(shape(59)) }
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    &number[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_text_is_read_strictly() {
        let good = "08 5E 0A BF A3 65 A8 D0 94 2B 23 27 5F 32 9E FA 99 C4 12 EB";
        assert_eq!(good.parse::<Fingerprint>().unwrap().to_string(), good);
        assert_eq!(good.to_lowercase().parse::<Fingerprint>().unwrap().to_string(), good);
        for (text, at) in [
            ("", 1),
            ("08:5E:0A:BF:A3:65:A8:D0:94:2B:23:27:5F:32:9E:FA:99:C4:12:EB", 3),
            ("085E0ABFA365A8D0942B23275F329EFA99C412EB", 3),
            ("08 5G 0A BF A3 65 A8 D0 94 2B 23 27 5F 32 9E FA 99 C4 12 EB", 5),
            ("08 5E 0A BF A3 65 A8 D0 94 2B 23 27 5F 32 9E FA 99 C4 12 EB ", 60),
            ("08 5E 0A BF A3 65 A8 D0 94 2B 23 27 5F 32 9E FA 99 C4 12", 57),
        ] {
            assert_eq!(
                text.parse::<Fingerprint>(),
                Err(FingerprintError::Shape { chars: text.chars().count(), at }),
                "{text}"
            );
        }
    }

    #[test]
    fn values_that_trust_anyone_can_be_read_but_never_configured() {
        let zeros = "00 ".repeat(20).trim_end().to_owned();
        let ones = "FF ".repeat(20).trim_end().to_owned();
        assert_eq!(zeros.parse::<Fingerprint>(), Err(FingerprintError::LearnsAnyone));
        assert_eq!(ones.parse::<Fingerprint>(), Err(FingerprintError::TrustsAnyone));
        assert_eq!(Slot::parse(&zeros), Ok(Slot::LearnsAnyone));
        assert_eq!(Slot::parse(&ones), Ok(Slot::TrustsAnyone));
        assert_eq!(Slot::parse(&zeros).unwrap().to_string(), zeros);
    }
}
