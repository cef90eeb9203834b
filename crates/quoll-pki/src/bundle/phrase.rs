//! The comparison phrase: what two people read to each other, or one person on two screens.
//! What it is not: a secret, or a signature.

use std::{fmt, str::FromStr};

use aws_lc_rs::digest;

/// The first 80 bits of a SHA-256 as five groups of four hex digits: `3f9a 11c0 77de 90b2 5e41`. Enough that nobody makes
/// another file with the same phrase, few enough to be read aloud. Without Quoll:
/// `tar -xOf FILE manifest.json | sha256sum | cut -c1-20`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phrase([u8; OCTETS]);

const OCTETS: usize = 10;

/// A text that is no phrase.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no comparison phrase: it has 20 hex digits, such as 3f9a 11c0 77de 90b2 5e41")]
pub struct PhraseError(String);

impl Phrase {
    /// The phrase of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::of_sha256(digest::digest(&digest::SHA256, bytes).as_ref())
    }

    /// The phrase of what has this SHA-256.
    fn of_sha256(hash: &[u8]) -> Self {
        let mut out = [0; OCTETS];
        out.copy_from_slice(&hash[..OCTETS]);
        Self(out)
    }
}

impl fmt::Display for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, pair) in self.0.chunks(2).enumerate() {
            let space = if place == 0 { "" } else { " " };
            write!(f, "{space}{:02x}{:02x}", pair[0], pair[1])?;
        }
        Ok(())
    }
}

impl FromStr for Phrase {
    type Err = PhraseError;

    /// Spaces, hyphens and colons between digits do not count, nor does their case.
    fn from_str(text: &str) -> Result<Self, PhraseError> {
        let bad = || PhraseError(text.to_owned());
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| !matches!(c, ' ' | '-' | ':'))
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or_else(bad))
            .collect::<Result<_, _>>()?;
        if digits.len() != 2 * OCTETS {
            return Err(bad());
        }
        let mut out = [0; OCTETS];
        for (octet, pair) in out.iter_mut().zip(digits.chunks(2)) {
            *octet = pair[0] << 4 | pair[1];
        }
        Ok(Self(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phrase_is_the_beginning_of_sha256() {
        let phrase = Phrase::of(b"abc");
        assert_eq!(phrase.to_string(), "ba78 16bf 8f01 cfea 4141");
        for text in ["ba78 16bf 8f01 cfea 4141", "BA7816BF8F01CFEA4141", "ba78-16bf-8f01-cfea-4141"] {
            assert_eq!(text.parse(), Ok(phrase), "{text}");
        }
        for text in
            ["", "ba78", "ba78 16bf 8f01 cfea 414", "ba78 16bf 8f01 cfea 414g", "ba78 16bf 8f01 cfea 4141 00"]
        {
            assert!(text.parse::<Phrase>().is_err(), "{text}");
        }
    }
}
