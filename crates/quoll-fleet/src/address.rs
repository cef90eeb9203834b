//! Where a device is on the network.
//! What it is not: a resolver; a host name is only checked for its spelling.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::limits::ADDRESS_MAX;

/// `host[:port]` of a device's web console: an IPv4 address, a host name, or an IPv6 address in brackets.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Address {
    host: String,
    port: Option<u16>,
}

/// Why a text is no address.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Nothing there, or nothing before the port.
    #[error("an address needs a host")]
    Empty,
    /// Over [`ADDRESS_MAX`] bytes.
    #[error("an address has at most {ADDRESS_MAX} characters, this has {0}")]
    TooLong(usize),
    /// A URL, or a URL's parts: scheme, path, user.
    #[error("an address is host or host:port, not a URL")]
    Url,
    /// Not a host name, an IPv4 address or an IPv6 address in brackets.
    #[error("{0:?} is neither a host name nor an IP address")]
    Host(String),
    /// Not a number from 1 to 65535.
    #[error("{0:?} is no port: a number from 1 to 65535")]
    Port(String),
}

impl AddressError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Url => {
                "leave out http:// and everything after the port; give a web password separately".into()
            }
            _ => "write 192.0.2.7, plug.lan, 192.0.2.7:8080 or [2001:db8::7]".into(),
        })
    }
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.len() > ADDRESS_MAX {
            return Err(AddressError::TooLong(text.len()));
        }
        if text.contains(['/', '@', '?', '#']) {
            return Err(AddressError::Url);
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, tail) = rest.split_once(']').ok_or_else(|| AddressError::Host(text.into()))?;
                host.parse::<Ipv6Addr>().map_err(|_| AddressError::Host(host.into()))?;
                let port = match tail.strip_prefix(':') {
                    Some(port) => Some(port),
                    None if tail.is_empty() => None,
                    None => return Err(AddressError::Host(text.into())),
                };
                (format!("[{host}]"), port)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host.to_owned(), Some(port)),
                None => (text.to_owned(), None),
            },
        };
        if host.is_empty() {
            return Err(AddressError::Empty);
        }
        if !host.starts_with('[') && !is_host_name(&host) {
            return Err(AddressError::Host(host));
        }
        let port = port.map(parse_port).transpose()?;
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }

    /// The host, an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port where one was given; 80 is meant otherwise.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

fn parse_port(text: &str) -> Result<u16, AddressError> {
    let plain = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    match text.parse() {
        Ok(port) if plain && port > 0 => Ok(port),
        _ => Err(AddressError::Port(text.into())),
    }
}

/// RFC 1123 §2.1 labels, underscores tolerated (Tasmota's default host names may have them).
fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_read_and_shown_alike() {
        for (text, host, port) in [
            ("192.0.2.7", "192.0.2.7", None),
            ("192.0.2.7:8080", "192.0.2.7", Some(8080)),
            ("Plug.lan", "plug.lan", None),
            ("tasmota_A1-1234:80", "tasmota_a1-1234", Some(80)),
            ("[2001:db8::7]", "[2001:db8::7]", None),
            ("[::1]:81", "[::1]", Some(81)),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
            assert_eq!(Address::parse(&address.to_string()).unwrap(), address);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            ":80",
            "http://a",
            "a/b",
            "admin:pw@a",
            "a b",
            "a:0",
            "a:65536",
            "a:+80",
            "a:",
            "[::1",
            "[x]",
            "[::1]x",
            "2001:db8::7",
            "-a",
            "a..b",
        ] {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            if let Ok(address) = Address::parse(&text) {
                prop_assert_eq!(Address::parse(&address.to_string()).unwrap(), address);
            }
        }
    }
}
