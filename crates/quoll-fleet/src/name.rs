//! Names of devices and of clients: what may be a common name, a file name and a part of a topic at once.
//! What it is not: a display name; Tasmota's `DeviceName` can be anything.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use crate::limits::NAME_MAX;

/// Why a text cannot be a name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing there.
    #[error("a name cannot be empty")]
    Empty,
    /// Over [`NAME_MAX`] bytes.
    #[error("a name has at most {NAME_MAX} characters, this has {0}")]
    TooLong(usize),
    /// A character that a file name, a topic or a shell would trip over.
    #[error("character {at} of the name is {found:?}; ASCII letters, digits and - _ . are allowed")]
    Character {
        /// Its place, from 1.
        at: usize,
        /// The character.
        found: char,
    },
    /// Begins or ends with `-`, `_` or `.`, or has two dots in a row.
    #[error("a name begins and ends with a letter or a digit and has no two dots in a row")]
    Shape,
    /// A name with another meaning: the CA's own key file, or a device name of Windows.
    #[error("the name {0:?} is taken by the system: choose another")]
    Reserved(String),
}

impl NameError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some("use a name like kitchen-plug or tasmota_A1B2C3".into())
    }
}

/// File names that Windows reserves, whatever follows a dot, and Easy-RSA's own (`private/ca.key`).
const RESERVED: [&str; 5] = ["con", "prn", "aux", "nul", "ca"];

fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if let Some((at, found)) = text.chars().enumerate().find(|(_, c)| !fits(*c)) {
        return Err(NameError::Character { at: at + 1, found });
    }
    if text.len() > NAME_MAX {
        return Err(NameError::TooLong(text.len()));
    }
    let edge = |c: char| !c.is_ascii_alphanumeric();
    if text.starts_with(edge) || text.ends_with(edge) || text.contains("..") {
        return Err(NameError::Shape);
    }
    let stem = text.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let numbered = stem.len() == 4 && (stem.starts_with("com") || stem.starts_with("lpt"));
    if RESERVED.contains(&stem.as_str()) || (numbered && stem.ends_with(|c: char| c.is_ascii_digit())) {
        return Err(NameError::Reserved(text.to_owned()));
    }
    Ok(())
}

macro_rules! name {
    ($(#[doc = $doc:literal])+ $name:ident) => {
        $(#[doc = $doc])+
        ///
        /// 1 to 64 ASCII letters, digits, `-`, `_` and `.`; begins and ends with a letter or digit, no `..`, and not a
        /// name that Easy-RSA or Windows reserve. Two names that differ only in case are the same name, here and in the
        /// registry, because they are the same file on many systems.
        #[derive(Clone, Debug)]
        pub struct $name(String);

        impl $name {
            /// Reads a name.
            ///
            /// # Errors
            /// The first rule broken, see [`NameError`].
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check(text).map(|()| Self(text.to_owned()))
            }

            /// Its text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// What two names are compared by.
            fn letters(&self) -> impl Iterator<Item = u8> {
                self.0.bytes().map(|byte| byte.to_ascii_lowercase())
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.eq_ignore_ascii_case(&other.0)
            }
        }

        impl Eq for $name {}

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.letters().for_each(|letter| state.write_u8(letter));
                state.write_u8(0xff);
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                self.letters().cmp(other.letters())
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name! {
    /// The name of a device: the common name of its certificate, the name of its files in the pki folder.
    DeviceName
}

name! {
    /// The name of a client that is no device: a person, Home Assistant, a dashboard. Shares its space with
    /// [`DeviceName`]: a name belongs to one or the other.
    ClientName
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_people_give_are_taken() {
        for name in
            ["kitchen-plug", "tasmota_A1B2C3", "x", "7", "plug.kitchen.home", "DVES_001122", "com10", "cable"]
        {
            assert_eq!(DeviceName::parse(name).unwrap().as_str(), name);
        }
        assert!(DeviceName::parse(&"x".repeat(64)).is_ok());
    }

    #[test]
    fn names_with_a_second_meaning_are_refused() {
        let reserved = |text: &str| NameError::Reserved(text.into());
        for (name, error) in [
            ("", NameError::Empty),
            ("küche", NameError::Character { at: 2, found: 'ü' }),
            ("a/b", NameError::Character { at: 2, found: '/' }),
            ("a+b", NameError::Character { at: 2, found: '+' }),
            ("#", NameError::Character { at: 1, found: '#' }),
            ("a b", NameError::Character { at: 2, found: ' ' }),
            ("a\n", NameError::Character { at: 2, found: '\n' }),
            ("..", NameError::Shape),
            ("a..b", NameError::Shape),
            (".hidden", NameError::Shape),
            ("-rf", NameError::Shape),
            ("plug.", NameError::Shape),
            ("ca", reserved("ca")),
            ("CA", reserved("CA")),
            ("ca.key", reserved("ca.key")),
            ("nul", reserved("nul")),
            ("Com1", reserved("Com1")),
        ] {
            assert_eq!(DeviceName::parse(name), Err(error), "{name:?}");
        }
        assert_eq!(DeviceName::parse(&"x".repeat(65)), Err(NameError::TooLong(65)));
    }

    #[test]
    fn names_that_differ_in_case_alone_are_one_name() {
        let [lower, upper] = ["kitchen", "Kitchen"].map(|text| DeviceName::parse(text).unwrap());
        assert_eq!((lower.as_str(), upper.as_str()), ("kitchen", "Kitchen"), "each keeps its letters");
        assert!(lower == upper && lower.cmp(&upper) == Ordering::Equal);
        assert_eq!(std::collections::HashSet::from([lower, upper]).len(), 1);
    }

    proptest! {
        #[test]
        fn a_name_is_one_file_name_one_topic_level_and_a_certificate_name(text in "[ -~äß]{0,70}|[a-zA-Z0-9._-]{1,66}") {
            if let Ok(name) = DeviceName::parse(&text) {
                prop_assert_eq!(name.as_str(), text.as_str());
                let path = std::path::Path::new("folder").join(format!("{name}.crt"));
                prop_assert_eq!(path.parent(), Some(std::path::Path::new("folder")));
                prop_assert!(!text.contains(['/', '+', '#', '\0', '$', '\\', ' ', ';', '%']));
                prop_assert_eq!(&text.parse::<DeviceName>().unwrap(), &name);
            }
        }
    }
}
