//! A range of addresses that may be swept. Somebody must have named it, and it must be somebody's own: private
//! (RFC 1918) or loopback.

use std::{fmt, net::Ipv4Addr, str::FromStr};

/// Shortest prefix: 1024 addresses, about ten seconds of asking.
pub const SHORTEST_PREFIX: u8 = 22;

/// IPv4 addresses of one network.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Range {
    first: u32,
    prefix: u8,
}

/// Why a text is no range that we sweep.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// Not an address and a prefix length.
    #[error("{0:?} is no range of IPv4 addresses")]
    Syntax(String),
    /// Somebody else's network.
    #[error("{0} is not a private range; only one's own network is searched")]
    NotPrivate(Range),
    /// Too many addresses.
    #[error("/{0} has too many addresses: /{SHORTEST_PREFIX} at most")]
    TooWide(u8),
    /// `192.168.1.7/24`: which of the two is meant?
    #[error("{given} is not the first address of a /{prefix}, that is {first}")]
    NotFirst {
        /// What was written.
        given: Ipv4Addr,
        /// The prefix length.
        prefix: u8,
        /// Where that network begins.
        first: Ipv4Addr,
    },
}

impl RangeError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Syntax(_) => "write it like 192.168.1.0/24, or one address".into(),
            Self::NotPrivate(_) => {
                "10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 and 127.0.0.0/8 are private".into()
            }
            Self::TooWide(_) => "give several smaller ranges".into(),
            Self::NotFirst { first, prefix, .. } => format!("write {first}/{prefix}"),
        })
    }
}

impl Range {
    /// The addresses of hosts: without the network's own and the broadcast address where there are such.
    pub fn hosts(self) -> impl Iterator<Item = Ipv4Addr> + Send {
        let size = 1u32 << (32 - self.prefix);
        let (skipped, end) = if size > 2 { (1, size - 1) } else { (0, size) };
        (skipped..end).map(move |offset| Ipv4Addr::from_bits(self.first + offset))
    }
}

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let syntax = || RangeError::Syntax(text.chars().take(60).collect());
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let given: Ipv4Addr = address.parse().map_err(|_| syntax())?;
        let is_number = !prefix.is_empty() && prefix.bytes().all(|digit| digit.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|prefix| is_number && *prefix <= 32).ok_or_else(syntax)?;
        if prefix < SHORTEST_PREFIX {
            return Err(RangeError::TooWide(prefix));
        }
        let first = given.to_bits() & (u32::MAX << (32 - u32::from(prefix)));
        if first != given.to_bits() {
            return Err(RangeError::NotFirst { given, prefix, first: Ipv4Addr::from_bits(first) });
        }
        let range = Self { first, prefix };
        if given.is_private() || given.is_loopback() { Ok(range) } else { Err(RangeError::NotPrivate(range)) }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from_bits(self.first), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_private_range_has_its_hosts() {
        for (text, first, last, count) in [
            ("192.168.1.0/24", "192.168.1.1", "192.168.1.254", 254),
            ("10.1.0.0/22", "10.1.0.1", "10.1.3.254", 1022),
            ("127.0.10.0/28", "127.0.10.1", "127.0.10.14", 14),
            ("172.16.5.6", "172.16.5.6", "172.16.5.6", 1),
            ("172.16.5.6/31", "172.16.5.6", "172.16.5.7", 2),
        ] {
            let range: Range = text.parse().unwrap();
            let hosts: Vec<String> = range.hosts().map(|host| host.to_string()).collect();
            assert_eq!((hosts[0].as_str(), hosts[hosts.len() - 1].as_str()), (first, last), "{text}");
            assert_eq!(hosts.len(), count, "{text}");
        }
    }

    #[test]
    fn other_peoples_networks_and_wide_ranges_are_refused() {
        for text in
            ["8.8.8.0/24", "172.32.0.0/24", "169.254.0.0/24", "0.0.0.0/24", "100.64.0.0/24", "224.0.0.0/24"]
        {
            assert!(matches!(text.parse::<Range>(), Err(RangeError::NotPrivate(_))), "{text}");
        }
        for text in ["10.0.0.0/21", "10.0.0.0/8", "0.0.0.0/0"] {
            assert!(matches!(text.parse::<Range>(), Err(RangeError::TooWide(_))), "{text}");
        }
        for text in
            ["", "192.168.1.0/", "192.168.1.0/33", "192.168.1/24", "::1/128", "192.168.1.0/+24", "lan"]
        {
            assert!(matches!(text.parse::<Range>(), Err(RangeError::Syntax(_))), "{text}");
        }
        let error = "192.168.1.7/24".parse::<Range>().unwrap_err();
        assert_eq!(error.hint().as_deref(), Some("write 192.168.1.0/24"));
    }

    proptest! {
        #[test]
        fn no_range_leaves_private_space(a in any::<u32>(), prefix in 0u8..=40) {
            let text = format!("{}/{prefix}", Ipv4Addr::from_bits(a));
            if let Ok(range) = text.parse::<Range>() {
                let hosts: Vec<_> = range.hosts().collect();
                prop_assert!(!hosts.is_empty() && hosts.len() <= 1024);
                prop_assert!(hosts.iter().all(|host| host.is_private() || host.is_loopback()));
            }
        }
    }
}
