//! A device's MAC address: six bytes, two ways to write them.

use std::{fmt, str::FromStr};

/// Six bytes. `Display` writes `A0:B1:C2:D3:E4:F5`.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Twelve hex digits without separators, as in discovery topics: `A0B1C2D3E4F5`.
    #[must_use]
    pub fn compact(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02X}")).collect()
    }

    /// The last three bytes as six hex digits, as in default topics and client ids: `D3E4F5`.
    #[must_use]
    pub fn tail(&self) -> String {
        self.compact().split_off(6)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mac({self})")
    }
}

/// Not a MAC address.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a MAC address is six hex bytes, with or without colons between them")]
pub struct MacError;

/// With colons or dashes between the bytes, or twelve digits; either case.
impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let given = text.as_bytes();
        let step = match given.len() {
            12 => 2,
            17 => 3,
            _ => return Err(MacError),
        };
        let mut bytes = [0; 6];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let digit = |at: usize| char::from(given[index * step + at]).to_digit(16).ok_or(MacError);
            *byte = u8::try_from(digit(0)? * 16 + digit(1)?).map_err(|_| MacError)?;
            if step == 3 && index < 5 && !matches!(given[index * 3 + 2], b':' | b'-') {
                return Err(MacError);
            }
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_read_in_three_writings() {
        for text in ["A0:B1:C2:D3:E4:F5", "a0-b1-c2-d3-e4-f5", "A0B1C2D3E4F5"] {
            assert_eq!(text.parse::<Mac>().unwrap().to_string(), "A0:B1:C2:D3:E4:F5", "{text}");
        }
        for text in ["", "A0:B1:C2:D3:E4", "A0:B1:C2:D3:E4:FG", "A0.B1.C2.D3.E4.F5", "€€€€", "éééééé"]
        {
            assert_eq!(text.parse::<Mac>(), Err(MacError), "{text}");
        }
    }
}
