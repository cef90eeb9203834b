//! The server's certificates as a device looks at them: BearSSL's minimal engine, with its numbers. Facts §3.3, §4.3.
//!
//! It walks from the leaf up and stops at the first certificate that a compiled anchor signed. An anchor that has the
//! right name but a signature the device cannot check is passed over, which is why such a chain ends as "not trusted".

use aws_lc_rs::{
    rsa::PublicKeyComponents,
    signature::{ECDSA_P256_SHA256_ASN1, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, UnparsedPublicKey},
};
use x509_parser::{
    asn1_rs::Oid,
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    oid_registry::{
        OID_PKCS1_SHA256WITHRSA, OID_SIG_ECDSA_WITH_SHA256, OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER,
        OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_CRL_DISTRIBUTION_POINTS, OID_X509_EXT_ISSUER_ALT_NAME,
        OID_X509_EXT_KEY_USAGE, OID_X509_EXT_SUBJECT_ALT_NAME, OID_X509_EXT_SUBJECT_KEY_IDENTIFIER,
    },
    prelude::FromDer,
    public_key::PublicKey,
    x509::SubjectPublicKeyInfo,
};

use super::{TlsFailure, TlsSettings, Trust, number};
use crate::fingerprint::Fingerprint;

/// A CA compiled into the firmware: its name and key, nothing else. Facts §5.2.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Anchor {
    name: Vec<u8>,
    key: ServerKey,
    is_ca: bool,
}

impl Anchor {
    /// From the CA's DER certificate. None if it is not one or has a key of an unknown kind.
    #[must_use]
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(Self {
            name: certificate.subject().as_raw().to_vec(),
            key: ServerKey::read(certificate.public_key())?,
            is_ca: certificate.is_ca(),
        })
    }
}

/// A public key of a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ServerKey {
    /// Modulus and exponent without leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// An uncompressed point; only 65 bytes (P-256) can be computed with.
    Ec(Vec<u8>),
}

impl ServerKey {
    fn read(key: &SubjectPublicKeyInfo<'_>) -> Option<Self> {
        let trimmed = |number: &[u8]| number.iter().copied().skip_while(|&byte| byte == 0).collect();
        match key.parsed().ok()? {
            PublicKey::RSA(key) => Some(Self::Rsa { n: trimmed(key.modulus), e: trimmed(key.exponent) }),
            PublicKey::EC(point) => Some(Self::Ec(point.data().to_vec())),
            _ => None,
        }
    }

    /// Checks an RSA PKCS#1 or ECDSA signature with SHA-256, within what the device can compute.
    pub(super) fn verify(&self, settings: &TlsSettings, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa { n, .. } if n.len() > 256 && !settings.rsa_4096 => false,
            Self::Rsa { n, e } => PublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, message, signature)
                .is_ok(),
            Self::Ec(point) if point.len() == 65 => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message, signature).is_ok()
            }
            Self::Ec(_) => false,
        }
    }
}

/// BearSSL's room for modulus and exponent together (`BR_X509_BUFSIZE_KEY`).
const KEY_BYTES: usize = 520;

/// What the handshake goes on with.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) key: ServerKey,
    /// In fingerprint mode: what the device computed, to be learned after a successful CONNECT.
    pub(super) fingerprint: Option<[u8; 20]>,
}

/// Judges the certificates of a handshake.
pub(super) fn check(chain: &[&[u8]], settings: &TlsSettings) -> Result<Server, TlsFailure> {
    let leaf = parse(chain.first().ok_or(number::X509_EMPTY_CHAIN)?)?;
    match &settings.trust {
        Trust::Fingerprints(slots) => check_fingerprint(&leaf, slots),
        Trust::Anchors(anchors) => {
            check_chain(chain, anchors, settings)?;
            let key = ServerKey::read(leaf.public_key()).ok_or(number::X509_UNSUPPORTED)?;
            if key_usage(&leaf).is_some_and(|bits| bits & (DIGITAL_SIGNATURE | NON_REPUDIATION) == 0) {
                return Err(number::WRONG_KEY_USAGE);
            }
            Ok(Server { key, fingerprint: None })
        }
    }
}

/// No chain, no name, no date: only the key.
fn check_fingerprint(leaf: &X509Certificate<'_>, slots: &[[u8; 20]; 2]) -> Result<Server, TlsFailure> {
    let key = ServerKey::read(leaf.public_key()).ok_or(number::X509_UNSUPPORTED)?;
    let ServerKey::Rsa { n, e } = &key else {
        return Err(number::X509_UNSUPPORTED);
    };
    let fingerprint = Fingerprint::of_rsa(n, e).map_err(|_| number::X509_UNSUPPORTED)?.bytes();
    let accepts = |slot: &[u8; 20]| *slot == fingerprint || *slot == [0x00; 20] || *slot == [0xFF; 20];
    if !slots.iter().any(accepts) {
        return Err(number::FINGERPRINT_MISMATCH);
    }
    Ok(Server { key, fingerprint: Some(fingerprint) })
}

fn check_chain(chain: &[&[u8]], anchors: &[Anchor], settings: &TlsSettings) -> Result<(), TlsFailure> {
    let mut below: Option<X509Certificate<'_>> = None;
    for der in chain {
        let certificate = parse(der)?;
        check_dates(&certificate, settings.now)?;
        if below.as_ref().is_some_and(|below| below.issuer().as_raw() != certificate.subject().as_raw()) {
            return Err(number::X509_DN_MISMATCH);
        }
        let key = ServerKey::read(certificate.public_key()).ok_or(number::X509_UNSUPPORTED)?;
        if matches!(&key, ServerKey::Rsa { n, e } if n.len() + e.len() > KEY_BYTES) {
            return Err(number::X509_LIMIT_EXCEEDED);
        }
        if matches!(&key, ServerKey::Rsa { n, .. } if n.len() < 128) {
            return Err(number::X509_WEAK_PUBLIC_KEY);
        }
        if certificate.extensions().iter().any(|extension| extension.critical && !is_known(&extension.oid)) {
            return Err(number::X509_CRITICAL_EXTENSION);
        }
        match &below {
            None => check_name(&certificate, &settings.host)?,
            Some(_) => check_issuer(&certificate)?,
        }
        check_algorithm(&certificate)?;
        if below.as_ref().is_some_and(|below| !is_signed_by(below, &key, settings)) {
            return Err(number::X509_BAD_SIGNATURE);
        }
        let is_trusted = |anchor: &Anchor| match anchor.is_ca {
            true => {
                anchor.name == certificate.issuer().as_raw()
                    && is_signed_by(&certificate, &anchor.key, settings)
            }
            false => below.is_none() && anchor.name == certificate.subject().as_raw() && anchor.key == key,
        };
        if anchors.iter().any(is_trusted) {
            return Ok(());
        }
        below = Some(certificate);
    }
    Err(number::X509_NOT_TRUSTED)
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, TlsFailure> {
    X509Certificate::from_der(der).map(|(_, certificate)| certificate).map_err(|_| number::X509_INVALID_VALUE)
}

fn check_dates(certificate: &X509Certificate<'_>, now: u64) -> Result<(), TlsFailure> {
    let validity = certificate.validity();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let valid = (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now);
    if valid { Ok(()) } else { Err(number::X509_EXPIRED) }
}

/// dNSName entries if there is a SAN at all, the common name only if there is none; iPAddress is never looked at.
fn check_name(certificate: &X509Certificate<'_>, host: &str) -> Result<(), TlsFailure> {
    let san = certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(san) => Some(san),
        _ => None,
    });
    let matches = match san {
        _ if host.is_empty() => true,
        Some(san) => san.general_names.iter().any(|name| match name {
            GeneralName::DNSName(name) => is_name_of(name, host),
            _ => false,
        }),
        None => {
            let mut names = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
            names.any(|name| is_name_of(name, host))
        }
    };
    if matches { Ok(()) } else { Err(number::X509_BAD_SERVER_NAME) }
}

fn is_name_of(name: &str, host: &str) -> bool {
    let wildcard = || {
        let (domain, (_, rest)) = (name.strip_prefix("*.")?, host.split_once('.')?);
        Some(domain.eq_ignore_ascii_case(rest))
    };
    name.eq_ignore_ascii_case(host) || wildcard().unwrap_or(false)
}

fn check_issuer(certificate: &X509Certificate<'_>) -> Result<(), TlsFailure> {
    if !certificate.is_ca() {
        return Err(number::X509_NOT_CA);
    }
    match key_usage(certificate) {
        Some(bits) if bits & KEY_CERT_SIGN == 0 => Err(number::X509_FORBIDDEN_KEY_USAGE),
        _ => Ok(()),
    }
}

/// SHA-256 is the only hash compiled in.
fn check_algorithm(certificate: &X509Certificate<'_>) -> Result<(), TlsFailure> {
    let algorithm = &certificate.signature_algorithm.algorithm;
    if *algorithm == OID_PKCS1_SHA256WITHRSA || *algorithm == OID_SIG_ECDSA_WITH_SHA256 {
        Ok(())
    } else {
        Err(number::X509_UNSUPPORTED)
    }
}

fn is_signed_by(certificate: &X509Certificate<'_>, key: &ServerKey, settings: &TlsSettings) -> bool {
    let is_ecdsa = certificate.signature_algorithm.algorithm == OID_SIG_ECDSA_WITH_SHA256;
    let fits = matches!(key, ServerKey::Ec(_)) == is_ecdsa && (!is_ecdsa || settings.ecdsa);
    fits && key.verify(settings, certificate.tbs_certificate.as_ref(), &certificate.signature_value.data)
}

const DIGITAL_SIGNATURE: u16 = 1;
const NON_REPUDIATION: u16 = 1 << 1;
const KEY_CERT_SIGN: u16 = 1 << 5;

fn key_usage(certificate: &X509Certificate<'_>) -> Option<u16> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::KeyUsage(usage) => Some(usage.flags),
        _ => None,
    })
}

/// Extensions that may be critical. extendedKeyUsage is not among them. Facts §3.3.
fn is_known(oid: &Oid<'_>) -> bool {
    [
        OID_X509_EXT_BASIC_CONSTRAINTS,
        OID_X509_EXT_KEY_USAGE,
        OID_X509_EXT_SUBJECT_ALT_NAME,
        OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER,
        OID_X509_EXT_SUBJECT_KEY_IDENTIFIER,
        OID_X509_EXT_ISSUER_ALT_NAME,
        OID_X509_EXT_CRL_DISTRIBUTION_POINTS,
    ]
    .contains(oid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_text_without_case_and_with_one_wildcard() {
        for (name, host, expected) in [
            ("broker.test", "BROKER.test", true),
            ("*.test", "broker.test", true),
            ("*.test", "a.broker.test", false),
            ("*.test", "test", false),
            ("192.168.1.10", "192.168.1.10", true),
            ("other.test", "broker.test", false),
            ("*", "broker", false),
        ] {
            assert_eq!(is_name_of(name, host), expected, "{name} for {host}");
        }
    }
}
