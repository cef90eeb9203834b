//! The PROXY protocol: what a load balancer says about the client whose connection it passes on. No socket in here.
//!
//! Versions 1 (text) and 2 (binary), by HAProxy's specification of 2020-03-05; § are its sections. Exactly one header, of
//! the version that was set, as the first bytes: anything else ends the connection, for otherwise a client could claim to
//! come from anywhere. Whoever turns it on has to see to it that only the balancer reaches the listener.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

use crate::limits::{MAX_PROXY_1, MAX_PROXY_2};

/// Begins version 2 (§2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Which header a listener's connections begin with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProxyProtocol {
    /// Version 1: addresses alone.
    V1,
    /// Version 2: addresses, and TLS facts where the balancer ends TLS.
    V2 {
        /// Connections whose client did not come by TLS are closed (`proxy_protocol_v2_require_tls`).
        require_tls: bool,
    },
}

/// What a balancer said about a client.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Proxied {
    /// Where the client came from; `None` where the balancer speaks for itself (LOCAL) or does not know.
    pub source: Option<SocketAddr>,
    /// How the client's TLS was, where it came by TLS.
    pub tls: Option<ProxiedTls>,
}

/// TLS between client and balancer (§2.2.6).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProxiedTls {
    /// As the balancer writes it, such as `TLSv1.3`.
    pub version: Option<String>,
    /// As the balancer writes it.
    pub cipher: Option<String>,
    /// Whether the client showed a certificate, in this connection or the session that it resumes.
    pub has_certificate: bool,
    /// Whether the balancer found that certificate good.
    pub is_verified: bool,
    /// The certificate's common name. Believe it where [`Self::is_verified`].
    pub common_name: Option<String>,
}

impl ProxiedTls {
    /// The name that a good certificate proved to the balancer.
    #[must_use]
    pub fn proven_name(&self) -> Option<&str> {
        let good = self.has_certificate && self.is_verified;
        self.common_name.as_deref().filter(|name| good && !name.is_empty())
    }
}

/// Why a connection does not begin as it has to. The balancer's fault, or of one who is none.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("PROXY protocol: {0}")]
pub(crate) struct ProxyError(pub(crate) &'static str);

/// Reads the header at the front of `input`. Answers with its length too; `None` where more bytes are needed.
///
/// # Errors
/// As soon as the bytes cannot become a header.
pub(crate) fn read(input: &[u8], expected: ProxyProtocol) -> Result<Option<(Proxied, usize)>, ProxyError> {
    match expected {
        ProxyProtocol::V1 => read_v1(input),
        ProxyProtocol::V2 { require_tls } => {
            let read = read_v2(input)?;
            match &read {
                Some((proxied, _)) if require_tls && proxied.tls.is_none() => {
                    Err(ProxyError("the client did not come by TLS, and has to"))
                }
                _ => Ok(read),
            }
        }
    }
}

/// `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n` (§2.1).
fn read_v1(input: &[u8]) -> Result<Option<(Proxied, usize)>, ProxyError> {
    const START: &[u8] = b"PROXY ";
    let known = input.len().min(START.len());
    if input[..known] != START[..known] {
        return Err(ProxyError("no header of version 1"));
    }
    let Some(end) = input.iter().take(MAX_PROXY_1).position(|byte| *byte == b'\n') else {
        let too_long = input.len() >= MAX_PROXY_1;
        return if too_long { Err(ProxyError("the header does not end")) } else { Ok(None) };
    };
    let line = input[..end].strip_suffix(b"\r").ok_or(ProxyError("the line ends without CR"))?;
    let line = std::str::from_utf8(line).map_err(|_| ProxyError("the header is no text"))?;
    let words: Vec<&str> = line.split(' ').skip(1).collect();
    let source = match words[..] {
        // Whatever else stands there is to be ignored.
        ["UNKNOWN", ..] => None,
        ["TCP4", source, to, port, to_port] => {
            let both = source.parse::<Ipv4Addr>().ok().zip(to.parse::<Ipv4Addr>().ok());
            Some(address(both.map(|(source, _)| source.into()), port, to_port)?)
        }
        ["TCP6", source, to, port, to_port] => {
            let both = source.parse::<Ipv6Addr>().ok().zip(to.parse::<Ipv6Addr>().ok());
            Some(address(both.map(|(source, _)| source.into()), port, to_port)?)
        }
        _ => return Err(ProxyError("the header has neither TCP4, TCP6 nor UNKNOWN and their parts")),
    };
    Ok(Some((Proxied { source, tls: None }, end + 1)))
}

fn address(address: Option<IpAddr>, port: &str, to_port: &str) -> Result<SocketAddr, ProxyError> {
    let number = |text: &str| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        text.parse::<u16>().ok().filter(|_| plain)
    };
    let address = address.ok_or(ProxyError("an address cannot be read"))?;
    match (number(port), number(to_port)) {
        (Some(port), Some(_)) => Ok((address, port).into()),
        _ => Err(ProxyError("a port cannot be read")),
    }
}

/// Signature, version and command, family, length, addresses, then type-length-values (§2.2).
fn read_v2(input: &[u8]) -> Result<Option<(Proxied, usize)>, ProxyError> {
    let known = input.len().min(SIGNATURE.len());
    if input[..known] != SIGNATURE[..known] {
        return Err(ProxyError("no header of version 2"));
    }
    let Some(&[version_command, family, high, low]) = input.get(12..16).and_then(<[u8]>::first_chunk) else {
        return Ok(None);
    };
    let end = 16 + usize::from(u16::from_be_bytes([high, low]));
    if end > MAX_PROXY_2 {
        return Err(ProxyError("the header is too long"));
    }
    let local = match version_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyError("version or command are unknown")),
    };
    let Some(rest) = input.get(16..end) else { return Ok(None) };
    if local {
        // The balancer asks for itself, mostly whether we live: its own address holds, the rest is skipped.
        return Ok(Some((Proxied::default(), end)));
    }
    let (source, values) = match family {
        0x11 => {
            let (block, values) = split::<12>(rest)?;
            let ip: [u8; 4] = part(block, 0);
            (Some(SocketAddr::from((ip, u16::from_be_bytes(part(block, 8))))), values)
        }
        0x21 => {
            let (block, values) = split::<36>(rest)?;
            let ip: [u8; 16] = part(block, 0);
            (Some(SocketAddr::from((ip, u16::from_be_bytes(part(block, 32))))), values)
        }
        // UNIX sockets at the balancer have no address that would mean anything here.
        0x31 => (None, split::<216>(rest)?.1),
        0x00 => (None, rest),
        _ => return Err(ProxyError("the client came neither by TCP nor by a UNIX socket")),
    };
    let mut proxied = Proxied { source, tls: None };
    each_value(values, |kind, value| {
        if kind == 0x20 {
            proxied.tls = read_tls(value)?;
        }
        Ok(())
    })?;
    Ok(Some((proxied, end)))
}

/// What is told of TLS: which of its parts took place, whether the certificate was good (0), and parts of its own
/// (§2.2.6).
fn read_tls(value: &[u8]) -> Result<Option<ProxiedTls>, ProxyError> {
    let (head, values) = split::<5>(value)?;
    let [client, verify @ ..] = *head;
    let came_by_tls = client & 1 != 0;
    if !came_by_tls {
        return Ok(None);
    }
    let mut tls = ProxiedTls {
        has_certificate: client & 0b110 != 0,
        is_verified: verify == [0; 4] && client & 0b110 != 0,
        ..ProxiedTls::default()
    };
    each_value(values, |kind, value| {
        let place = match kind {
            0x21 => &mut tls.version,
            0x22 => &mut tls.common_name,
            0x23 => &mut tls.cipher,
            _ => return Ok(()),
        };
        let text = std::str::from_utf8(value).map_err(|_| ProxyError("a name is no text"))?;
        if text.chars().any(char::is_control) {
            return Err(ProxyError("a name has control characters"));
        }
        // Two names would let a certificate be two clients.
        if place.replace(text.to_owned()).is_some() {
            return Err(ProxyError("a value stands there twice"));
        }
        Ok(())
    })?;
    Ok(Some(tls))
}

/// Type, two bytes of length, value; again and again, to the very end.
fn each_value(
    mut rest: &[u8],
    mut act: impl FnMut(u8, &[u8]) -> Result<(), ProxyError>,
) -> Result<(), ProxyError> {
    while !rest.is_empty() {
        let (&[kind, high, low], behind) = split::<3>(rest)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let value = behind.get(..length).ok_or(ProxyError("a value is longer than its header"))?;
        act(kind, value)?;
        rest = &behind[length..];
    }
    Ok(())
}

fn split<const N: usize>(bytes: &[u8]) -> Result<(&[u8; N], &[u8]), ProxyError> {
    bytes.split_first_chunk().ok_or(ProxyError("the header is too short for what it says"))
}

fn part<const N: usize, const M: usize>(block: &[u8; M], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&block[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V2: ProxyProtocol = ProxyProtocol::V2 { require_tls: false };

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([0x20 | command, family]);
        header.extend((body.len() as u16).to_be_bytes());
        header.extend(body);
        header
    }

    fn value(kind: u8, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend((value.len() as u16).to_be_bytes());
        bytes.extend(value);
        bytes
    }

    fn ipv4(values: &[u8]) -> Vec<u8> {
        let mut body = vec![192, 0, 2, 7, 192, 0, 2, 1, 0xDC, 0x04, 0x07, 0x5B];
        body.extend(values);
        v2(1, 0x11, &body)
    }

    fn tls(client: u8, verify: u32, names: &[(u8, &str)]) -> Vec<u8> {
        let mut body = vec![client];
        body.extend(verify.to_be_bytes());
        for (kind, name) in names {
            body.extend(value(*kind, name.as_bytes()));
        }
        value(0x20, &body)
    }

    #[test]
    fn version_1_tells_where_the_client_came_from() {
        let table: [(&str, Option<&str>); 5] = [
            ("PROXY TCP4 192.0.2.7 192.0.2.1 56324 1883\r\n", Some("192.0.2.7:56324")),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 56324 8883\r\n", Some("[2001:db8::7]:56324")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN 1 2 3 whatever\r\n", None),
            ("PROXY TCP4 0.0.0.0 0.0.0.0 0 65535\r\n", Some("0.0.0.0:0")),
        ];
        for (header, source) in table {
            let bytes = format!("{header}\x10\x0c");
            for cut in 0..header.len() {
                assert_eq!(
                    read(&bytes.as_bytes()[..cut], ProxyProtocol::V1),
                    Ok(None),
                    "{header:?} at {cut}"
                );
            }
            let (proxied, used) = read(bytes.as_bytes(), ProxyProtocol::V1).unwrap().unwrap();
            assert_eq!((proxied.source, used), (source.map(|it| it.parse().unwrap()), header.len()));
        }
    }

    #[test]
    fn what_is_no_header_of_version_1_is_refused() {
        for bytes in [
            "\x10\x0c",
            "PROXX",
            "GET / HTTP/1.1\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 56324 1883\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 56324\r\n",
            "PROXY TCP4 192.0.2.7  192.0.2.1 56324 1883\r\n",
            "PROXY TCP4 2001:db8::7 192.0.2.1 56324 1883\r\n",
            "PROXY TCP6 192.0.2.7 192.0.2.1 56324 1883\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 65536 1883\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 +1 1883\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 01 1883\r\n",
            "PROXY UDP4 192.0.2.7 192.0.2.1 1 1883\r\n",
            "PROXY \r\n",
            &format!("PROXY UNKNOWN {}\r\n", "x".repeat(100)),
        ] {
            assert!(read(bytes.as_bytes(), ProxyProtocol::V1).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn version_2_tells_address_and_certificate() {
        let names = [(0x21, "TLSv1.3"), (0x22, "lamp"), (0x23, "TLS_AES_128_GCM_SHA256"), (0x25, "RSA2048")];
        let mut values = value(0x01, b"mqtt");
        values.extend(tls(0b011, 0, &names));
        let header = ipv4(&values);
        for cut in 0..header.len() {
            assert_eq!(read(&header[..cut], V2), Ok(None), "cut at {cut}");
        }
        let mut bytes = header.clone();
        bytes.extend(b"rest");
        let (proxied, used) = read(&bytes, ProxyProtocol::V2 { require_tls: true }).unwrap().unwrap();
        assert_eq!((proxied.source, used), (Some("192.0.2.7:56324".parse().unwrap()), header.len()));
        let told = proxied.tls.unwrap();
        assert_eq!((told.version.as_deref(), told.proven_name()), (Some("TLSv1.3"), Some("lamp")));
        let mut body = [[0; 16], [1; 16]].concat();
        body.extend([1, 2, 3, 4]);
        let (proxied, _) = read(&v2(1, 0x21, &body), V2).unwrap().unwrap();
        assert_eq!(proxied.source, Some("[::]:258".parse().unwrap()));
    }

    #[test]
    fn a_name_counts_only_where_the_balancer_verified_the_certificate() {
        let name = [(0x22, "lamp")];
        for (client, verify, proven) in [
            (0b011, 0, Some("lamp")),
            (0b101, 0, Some("lamp")),
            (0b001, 0, None),
            (0b011, 1, None),
            (0b010, 0, None),
        ] {
            let (proxied, _) = read(&ipv4(&tls(client, verify, &name)), V2).unwrap().unwrap();
            let told = proxied.tls.as_ref().and_then(ProxiedTls::proven_name);
            assert_eq!(told, proven, "{client:#b} {verify}");
        }
    }

    #[test]
    fn a_balancer_that_asks_for_itself_and_unknown_addresses_are_taken() {
        for header in [v2(0, 0, b""), v2(0, 0x11, b"whatever it is"), v2(1, 0, b""), v2(1, 0x31, &[0; 216])] {
            assert_eq!(read(&header, V2), Ok(Some((Proxied::default(), header.len()))));
        }
    }

    #[test]
    fn what_is_no_header_of_version_2_is_refused() {
        let required = ProxyProtocol::V2 { require_tls: true };
        for (what, bytes, expected) in [
            ("MQTT", b"\x10\x0c".to_vec(), V2),
            ("version 1", b"PROXY UNKNOWN\r\n".to_vec(), V2),
            ("a version of the future", [&SIGNATURE[..], &[0x31, 0x11, 0, 0]].concat(), V2),
            ("an unknown command", v2(2, 0x11, &[0; 12]), V2),
            ("UDP", v2(1, 0x12, &[0; 12]), V2),
            ("too few bytes of addresses", v2(1, 0x11, &[0; 11]), V2),
            ("more than any header needs", [&SIGNATURE[..], &[0x21, 0x11, 0xFF, 0xFF]].concat(), V2),
            ("a value that goes on behind the end", ipv4(&[0x22, 0, 9, 1]), V2),
            ("half a value", ipv4(&[0x22, 0]), V2),
            ("a name that is no text", ipv4(&tls(3, 0, &[(0x22, "a\nb")])), V2),
            ("two names", ipv4(&tls(3, 0, &[(0x22, "a"), (0x22, "b")])), V2),
            ("no TLS where it has to be", ipv4(&[]), required),
            ("a health check where TLS has to be", v2(0, 0, b""), required),
            ("no client TLS where it has to be", ipv4(&tls(0, 0, &[])), required),
        ] {
            assert!(read(&bytes, expected).is_err(), "{what}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), signed: bool, version_2: bool) {
            let head = match (signed, version_2) {
                (false, _) => Vec::new(),
                (true, true) => SIGNATURE.to_vec(),
                (true, false) => b"PROXY ".to_vec(),
            };
            let bytes = [head, bytes].concat();
            let expected = if version_2 { V2 } else { ProxyProtocol::V1 };
            if let Ok(Some((_, used))) = read(&bytes, expected) {
                prop_assert!(used <= bytes.len());
                prop_assert_eq!(read(&bytes[..used], expected), read(&bytes, expected));
            }
        }
    }
}
