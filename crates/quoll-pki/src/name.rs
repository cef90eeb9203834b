//! The name of a certificate: common name and file name in one, safe as both.
//! What it is not: a subject. Organisation and the rest are in [`crate::Subject`].

use std::{fmt, str::FromStr};

use crate::limits::COMMON_NAME_MAX;

/// A common name that Easy-RSA can use as a file name: `issued/NAME.crt`, `private/NAME.key`.
///
/// Letters and digits of any script, and `-` `_` `.` `@` `+`; 1 to 64 characters; it neither begins with `-` or `.`
/// nor contains `..`, and it is not `ca` (that would be the CA's own key file).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertName(String);

/// Why a text cannot be the name of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertNameError {
    /// Nothing there.
    #[error("a certificate name cannot be empty")]
    Empty,
    /// Longer than X.520 allows.
    #[error("a certificate name has at most {COMMON_NAME_MAX} characters, this has {0}")]
    TooLong(usize),
    /// A character that is unsafe in file names, shells or `index.txt`.
    #[error("the character {0:?} cannot be in a certificate name; letters, digits and - _ . @ + can")]
    Character(char),
    /// Begins with `-` or `.`, or contains `..`.
    #[error("a certificate name begins with a letter or digit and has no two dots in a row")]
    Dots,
    /// `ca` is the authority's own key.
    #[error("the name \"ca\" belongs to the authority itself")]
    Reserved,
}

impl CertName {
    /// Checks `text` and takes it.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn parse(text: &str) -> Result<Self, CertNameError> {
        let length = text.chars().count();
        if length == 0 {
            return Err(CertNameError::Empty);
        }
        if length > COMMON_NAME_MAX {
            return Err(CertNameError::TooLong(length));
        }
        if let Some(bad) = text.chars().find(|c| !c.is_alphanumeric() && !"-_.@+".contains(*c)) {
            return Err(CertNameError::Character(bad));
        }
        if text.starts_with(['-', '.']) || text.contains("..") {
            return Err(CertNameError::Dots);
        }
        if text.eq_ignore_ascii_case("ca") {
            return Err(CertNameError::Reserved);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CertName {
    type Err = CertNameError;

    fn from_str(text: &str) -> Result<Self, CertNameError> {
        Self::parse(text)
    }
}

impl fmt::Display for CertName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CertName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertName({:?})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices_and_hosts_are_taken() {
        for name in ["tasmota_kitchen", "mqtt.myorg.com", "192.168.1.10", "küche", "alice@home", "x", "a-b+c"]
        {
            assert_eq!(name.parse::<CertName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn what_would_leave_the_folder_or_confuse_a_tool_is_refused() {
        for (name, error) in [
            ("", CertNameError::Empty),
            ("a/b", CertNameError::Character('/')),
            ("a\\b", CertNameError::Character('\\')),
            ("a b", CertNameError::Character(' ')),
            ("a\nb", CertNameError::Character('\n')),
            ("a\0", CertNameError::Character('\0')),
            ("$HOME", CertNameError::Character('$')),
            ("..", CertNameError::Dots),
            ("a..b", CertNameError::Dots),
            (".hidden", CertNameError::Dots),
            ("-rf", CertNameError::Dots),
            ("ca", CertNameError::Reserved),
            ("CA", CertNameError::Reserved),
        ] {
            assert_eq!(CertName::parse(name), Err(error), "{name:?}");
        }
        assert_eq!(CertName::parse(&"ü".repeat(64)).unwrap().as_str().chars().count(), 64);
        assert_eq!(CertName::parse(&"x".repeat(65)), Err(CertNameError::TooLong(65)));
    }
}
