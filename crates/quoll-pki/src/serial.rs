//! A certificate's serial number (RFC 5280 §4.1.2.2), spelled as Easy-RSA and OpenSSL spell it in `index.txt` and file names.
//! What it is not: a counter. Easy-RSA's `serial` file holds a random value, and so do ours.

use std::{fmt, str::FromStr};

use crate::{error::PkiError, limits::SERIAL_MAX, random};

/// A positive integer of up to 20 octets, without leading zero octets.
///
/// `Display` is upper-case hex with an even number of digits: the file name in `certs_by_serial/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(Vec<u8>);

/// Why a text or an integer is not a serial number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    /// Nothing there.
    #[error("a serial number cannot be empty")]
    Empty,
    /// A character that is not a hex digit, at this byte (from 0).
    #[error("a serial number is written in hex; the character at position {0} is not a hex digit")]
    NotHex(usize),
    /// More than [`SERIAL_MAX`] octets.
    #[error("a serial number has at most {SERIAL_MAX} octets (RFC 5280 4.1.2.2)")]
    TooLong,
    /// The DER integer is negative, which RFC 5280 forbids.
    #[error("the serial number is negative (RFC 5280 4.1.2.2)")]
    Negative,
}

impl Serial {
    /// From the content octets of the DER INTEGER; the sign octet `00` is stripped.
    ///
    /// # Errors
    /// Empty, negative or longer than 20 octets.
    pub fn from_der_integer(octets: &[u8]) -> Result<Self, SerialError> {
        match octets.first() {
            None => Err(SerialError::Empty),
            Some(first) if first & 0x80 != 0 => Err(SerialError::Negative),
            Some(_) => Self::from_be_bytes(octets),
        }
    }

    /// From unsigned big-endian octets; leading zero octets are stripped.
    ///
    /// # Errors
    /// Empty or longer than 20 octets.
    pub fn from_be_bytes(octets: &[u8]) -> Result<Self, SerialError> {
        if octets.is_empty() {
            return Err(SerialError::Empty);
        }
        let zeros = octets.iter().take_while(|octet| **octet == 0).count();
        let octets = &octets[zeros.min(octets.len() - 1)..];
        if octets.len() > SERIAL_MAX { Err(SerialError::TooLong) } else { Ok(Self(octets.to_vec())) }
    }

    /// Unsigned big-endian octets without leading zeros (a single `00` for zero).
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// 16 random octets, top bit cleared (never negative, never a 17th octet), second bit set (always 16 octets).
    pub(crate) fn random() -> Result<Self, PkiError> {
        let mut octets = [0; 16];
        random::fill(&mut octets)?;
        octets[0] = octets[0] & 0x7f | 0x40;
        Ok(Self(octets.to_vec()))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02X}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    /// Hex digits of either case; an odd count is padded at the left.
    fn from_str(text: &str) -> Result<Self, SerialError> {
        // Bounded before anything is allocated by its length; leading zeros cost nothing.
        let digits = text.trim_start_matches('0');
        if let Some(position) = text.bytes().position(|byte| !byte.is_ascii_hexdigit()) {
            return Err(SerialError::NotHex(position));
        }
        match (text.is_empty(), digits.len()) {
            (true, _) => return Err(SerialError::Empty),
            (false, 0) => return Ok(Self(vec![0])),
            (_, length) if length > 2 * SERIAL_MAX => return Err(SerialError::TooLong),
            _ => {}
        }
        let mut octets = Vec::with_capacity(SERIAL_MAX);
        let (odd, pairs) = digits.as_bytes().split_at(digits.len() % 2);
        octets.extend(odd.iter().map(|digit| nibble(*digit)));
        octets.extend(pairs.chunks_exact(2).map(|pair| nibble(pair[0]) << 4 | nibble(pair[1])));
        Ok(Self(octets))
    }
}

fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spelling_follows_easy_rsa() {
        for (text, shown) in [
            ("E674236461A717910E0AD7EFAC6A3C56", "E674236461A717910E0AD7EFAC6A3C56"),
            ("e6", "E6"),
            ("1", "01"),
            ("abc", "0ABC"),
            ("00", "00"),
            ("0001", "01"),
        ] {
            assert_eq!(text.parse::<Serial>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_not_a_serial_number_is_refused() {
        assert_eq!("".parse::<Serial>(), Err(SerialError::Empty));
        assert_eq!("12 4".parse::<Serial>(), Err(SerialError::NotHex(2)));
        assert_eq!("É".parse::<Serial>(), Err(SerialError::NotHex(0)));
        assert_eq!("1".repeat(41).parse::<Serial>(), Err(SerialError::TooLong));
        assert_eq!(Serial::from_der_integer(&[0x80]), Err(SerialError::Negative));
        assert_eq!(Serial::from_der_integer(&[]), Err(SerialError::Empty));
    }

    #[test]
    fn the_sign_octet_of_der_is_not_part_of_it() {
        let from_der = Serial::from_der_integer(&[0, 0xe6, 0x74]).unwrap();
        assert_eq!(from_der, "E674".parse().unwrap());
    }

    #[test]
    fn random_serials_are_sixteen_octets_and_positive() {
        for _ in 0..100 {
            let serial = Serial::random().unwrap();
            assert_eq!(serial.as_bytes().len(), 16);
            assert_eq!(serial.as_bytes()[0] & 0xc0, 0x40);
        }
    }

    proptest! {
        #[test]
        fn shown_and_read_again_it_is_the_same(octets in proptest::collection::vec(any::<u8>(), 1..=20)) {
            let serial = Serial::from_be_bytes(&octets).unwrap();
            prop_assert_eq!(serial.to_string().parse::<Serial>().unwrap(), serial);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}") {
            let _ = text.parse::<Serial>();
        }
    }
}
