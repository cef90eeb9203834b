//! Versions of Tasmota, and those in which something that we write or read changed.

use std::{fmt, str::FromStr};

/// A version: up to four numbers, what is left out is 0. `15.3` is the release 15.3.0; `15.3.0.3` the development
/// version three steps after it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Release([u8; 4]);

impl Release {
    /// The one whose source the facts were read from.
    pub const READ: Self = Self([15, 3, 0, 3]);
    /// The newest one that anything is known about; later ones are taken to be the same. Facts §11.
    pub const NEWEST_KNOWN: Self = Self([15, 5, 0, 2]);

    /// `MQTT_FINGERPRINTn` are comma-separated bytes from here on, quoted text before. Facts §10 (#9570).
    pub const FINGERPRINT_BYTES: Self = Self([9, 0, 0, 2]);
    /// `MQTT_TLS_FINGERPRINT` (SetOption132) chooses the mode from here on, `USE_MQTT_TLS_CA_CERT` did before. Facts §1.1.
    pub const RUNTIME_MODE: Self = Self([10, 0, 0, 4]);
    /// `INCLUDE_LOCAL_CERT`, `OMIT_LETS_ENCRYPT_CERT` and `OMIT_AWS_CERT` exist from here on. Facts §9 (#15332).
    pub const LOCAL_CERT: Self = Self([11, 1, 0, 0]);
    /// `USE_MQTT_TLS_DROP_OLD_FINGERPRINT` means nothing from here on. Facts §4.1 (#20842).
    pub const NEW_FINGERPRINT_ONLY: Self = Self([13, 4, 0, 2]);
    /// `USE_MQTT_CLIENT_CERT` exists from here on, `USE_MQTT_AWS_IOT` was it before. Facts §1.1 (#22998).
    pub const CLIENT_CERT: Self = Self([14, 5, 0, 1]);
    /// `MQTT_TLS_ECDSA` (SetOption165) exists from here on, and with it EC CAs. Facts §1.4, §3.1 (#24000).
    pub const ECDSA: Self = Self([15, 1, 0, 1]);

    /// From its numbers.
    #[must_use]
    pub const fn new(numbers: [u8; 4]) -> Self {
        Self(numbers)
    }

    /// Whether two versions are steps of one release: 15.3 and 15.3.0.3 are.
    #[must_use]
    pub fn is_of_the_same_release(self, other: Self) -> bool {
        self.0[..3] == other.0[..3]
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([major, minor, patch, step]) = self;
        match (patch, step) {
            (0, 0) => write!(f, "{major}.{minor}"),
            (_, 0) => write!(f, "{major}.{minor}.{patch}"),
            _ => write!(f, "{major}.{minor}.{patch}.{step}"),
        }
    }
}

/// A text that names no version.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is no version of Tasmota: it is two to four numbers with dots, such as 15.3 or 15.3.0.3")]
pub struct ReleaseError(String);

/// `15.3`, `v15.3.0`, or what a device says: `15.3.0.3(tasmota32)`.
impl FromStr for Release {
    type Err = ReleaseError;

    fn from_str(text: &str) -> Result<Self, ReleaseError> {
        let bad = || ReleaseError(text.chars().take(40).collect());
        let bare = text.trim().trim_start_matches(['v', 'V']);
        let bare = bare.split('(').next().unwrap_or(bare);
        let mut numbers = [0; 4];
        let mut count = 0;
        for part in bare.split('.') {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let number = part.parse().ok().filter(|_| digits).ok_or_else(bad)?;
            *numbers.get_mut(count).ok_or_else(bad)? = number;
            count += 1;
        }
        if count < 2 || numbers[0] == 0 { Err(bad()) } else { Ok(Self(numbers)) }
    }
}

/// The version that a Tasmota source folder says it is, from the text of its `tasmota_version.h`:
/// `const uint32_t TASMOTA_VERSION = 0x0F030003;` (older ones: `VERSION`).
#[must_use]
pub fn source_version(header: &str) -> Option<Release> {
    header.lines().find_map(|line| {
        let (left, right) = line.split_once('=')?;
        let name = left.split_whitespace().last()?;
        if name != "TASMOTA_VERSION" && name != "VERSION" {
            return None;
        }
        let hex = right.split(';').next()?.trim().strip_prefix("0x")?;
        let number = u32::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 8)?;
        Some(Release(number.to_be_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_compared_and_written() {
        for (text, numbers, shown) in [
            ("15.3", [15, 3, 0, 0], "15.3"),
            ("v15.3.0", [15, 3, 0, 0], "15.3"),
            ("14.5.0.1", [14, 5, 0, 1], "14.5.0.1"),
            ("15.3.0.3(tasmota32)", [15, 3, 0, 3], "15.3.0.3"),
            (" 9.5.1 ", [9, 5, 1, 0], "9.5.1"),
        ] {
            let release: Release = text.parse().unwrap();
            assert_eq!(release, Release::new(numbers), "{text}");
            assert_eq!(release.to_string(), shown);
        }
        for text in ["", "15", "15.", "15.3.0.3.1", "15.x", "0.1", "15.-3", "15.+3", "256.1", "latest"] {
            assert!(text.parse::<Release>().is_err(), "{text}");
        }
        let (before, after): (Release, Release) = ("14.5".parse().unwrap(), "14.6".parse().unwrap());
        assert!(before < Release::CLIENT_CERT && Release::CLIENT_CERT < after);
        assert!(before.is_of_the_same_release(Release::CLIENT_CERT) && !before.is_of_the_same_release(after));
    }

    #[test]
    fn a_source_folder_says_its_version() {
        for (header, release) in [
            ("const uint32_t TASMOTA_VERSION = 0x0F030003;   // 15.3.0.3", Some([15, 3, 0, 3])),
            ("// x\nconst uint32_t VERSION = 0x09020000;\n", Some([9, 2, 0, 0])),
            ("#define VERSION = 1", None),
            ("const uint32_t OTHER_VERSION = 0x09020000;", None),
            ("", None),
        ] {
            assert_eq!(source_version(header), release.map(Release::new), "{header}");
        }
    }
}
