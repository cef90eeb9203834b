//! A certificate as read from a file or just issued: the few facts the rest of Quoll asks for, parsed once.
//! What it is not: it verifies no chain; the TLS library and `openssl verify` do that.

use std::{fmt, net::IpAddr};

use aws_lc_rs::digest;
use time::OffsetDateTime;
use x509_parser::{
    der_parser::oid,
    extensions::{GeneralName, ParsedExtension},
    prelude::{FromDer, X509Certificate},
    public_key::PublicKey,
};

use crate::{dates, pem, serial::Serial};

/// A parsed X.509 certificate with its DER bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    serial: Serial,
    subject_cn: Option<String>,
    subject_der: Vec<u8>,
    issuer_der: Vec<u8>,
    public_key_der: Vec<u8>,
    public_key: Key,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    extensions: Extensions,
}

#[derive(Clone, PartialEq, Eq)]
enum Key {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ec,
    Other,
}

#[derive(Clone, PartialEq, Eq, Default)]
struct Extensions {
    is_ca: bool,
    server_auth: bool,
    subject_key_id: Option<Vec<u8>>,
    dns_names: Vec<String>,
    ip_addresses: Vec<IpAddr>,
    other_names: usize,
}

/// Why bytes are not a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CertificateError(pub(crate) String);

impl Certificate {
    /// From DER (RFC 5280 §4.1). Trailing bytes are refused.
    ///
    /// # Errors
    /// What is wrong, as a phrase.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let bad = |problem: &str| CertificateError(problem.to_owned());
        let (rest, parsed) =
            X509Certificate::from_der(der).map_err(|_| bad("it is not an X.509 certificate"))?;
        if !rest.is_empty() {
            return Err(bad("there are bytes after the certificate"));
        }
        let date = |time: &x509_parser::time::ASN1Time| {
            dates::from_unix(time.timestamp()).ok_or_else(|| bad("its dates are out of range"))
        };
        Ok(Self {
            der: der.to_vec(),
            serial: Serial::from_der_integer(parsed.raw_serial()).map_err(|error| bad(&error.to_string()))?,
            subject_cn: single_common_name(&parsed),
            subject_der: parsed.subject().as_raw().to_vec(),
            issuer_der: parsed.issuer().as_raw().to_vec(),
            public_key_der: parsed.public_key().raw.to_vec(),
            public_key: key(&parsed),
            not_before: date(&parsed.validity().not_before)?,
            not_after: date(&parsed.validity().not_after)?,
            extensions: extensions(&parsed).map_err(|problem| bad(&problem))?,
        })
    }

    /// From a PEM file, which may begin with a text dump as Easy-RSA's do. The first certificate counts.
    ///
    /// # Errors
    /// What is wrong, as a phrase.
    pub fn from_pem(text: &[u8]) -> Result<Self, CertificateError> {
        let block = pem::find(text, |label| {
            matches!(label, "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE")
        })
        .map_err(CertificateError)?;
        Self::from_der(&block.der)
    }

    /// The DER bytes.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// One PEM block, without text dump.
    pub fn pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.der).to_string()
    }

    /// The common name, if there is exactly one.
    pub fn subject_cn(&self) -> Option<&str> {
        self.subject_cn.as_deref()
    }

    /// The subject Name as DER, byte for byte.
    pub fn subject_der(&self) -> &[u8] {
        &self.subject_der
    }

    /// The issuer Name as DER, byte for byte.
    pub fn issuer_der(&self) -> &[u8] {
        &self.issuer_der
    }

    /// The serial number.
    pub fn serial(&self) -> Serial {
        self.serial.clone()
    }

    /// Valid from this second on.
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// Valid up to and including this second.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// SHA-256 over the DER bytes.
    pub fn fingerprint_sha256(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, &self.der).as_ref());
        out
    }

    /// SubjectPublicKeyInfo DER.
    pub fn public_key_der(&self) -> &[u8] {
        &self.public_key_der
    }

    /// Modulus and exponent of an RSA key, big-endian without leading zeros: what a device's fingerprint is over.
    pub fn rsa_public_key(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        match &self.public_key {
            Key::Rsa { n, e } => Some((n.clone(), e.clone())),
            Key::Ec | Key::Other => None,
        }
    }

    /// True for an elliptic-curve key.
    pub fn has_ec_key(&self) -> bool {
        self.public_key == Key::Ec
    }

    /// basicConstraints says CA:TRUE.
    pub fn is_ca(&self) -> bool {
        self.extensions.is_ca
    }

    /// extendedKeyUsage lists serverAuth.
    pub fn is_for_server(&self) -> bool {
        self.extensions.server_auth
    }

    /// dNSName entries of the SAN, in order.
    pub fn dns_names(&self) -> &[String] {
        &self.extensions.dns_names
    }

    /// iPAddress entries of the SAN, in order.
    pub fn ip_addresses(&self) -> &[IpAddr] {
        &self.extensions.ip_addresses
    }

    /// How many SAN entries are neither dNSName nor iPAddress.
    pub(crate) fn other_alt_names(&self) -> usize {
        self.extensions.other_names
    }

    /// The subjectKeyIdentifier, if the certificate has one.
    pub(crate) fn subject_key_id(&self) -> Option<&[u8]> {
        self.extensions.subject_key_id.as_deref()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("serial", &self.serial)
            .field("subject_cn", &self.subject_cn)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

fn single_common_name(parsed: &X509Certificate<'_>) -> Option<String> {
    let mut names = parsed.subject().iter_common_name();
    match (names.next(), names.next()) {
        (Some(name), None) => name.as_str().ok().map(str::to_owned),
        _ => None,
    }
}

fn key(parsed: &X509Certificate<'_>) -> Key {
    let unsigned = |octets: &[u8]| octets.iter().copied().skip_while(|octet| *octet == 0).collect();
    match parsed.public_key().parsed() {
        Ok(PublicKey::RSA(rsa)) => Key::Rsa { n: unsigned(rsa.modulus), e: unsigned(rsa.exponent) },
        Ok(PublicKey::EC(_)) => Key::Ec,
        _ => Key::Other,
    }
}

fn extensions(parsed: &X509Certificate<'_>) -> Result<Extensions, String> {
    let mut out = Extensions::default();
    for extension in parsed.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(constraints) => out.is_ca = constraints.ca,
            ParsedExtension::ExtendedKeyUsage(usage) => out.server_auth = usage.server_auth,
            ParsedExtension::SubjectKeyIdentifier(id) => out.subject_key_id = Some(id.0.to_vec()),
            ParsedExtension::SubjectAlternativeName(names) => alt_names(&names.general_names, &mut out),
            ParsedExtension::ParseError { .. } if extension.oid == oid!(2.5.29.17) => {
                return Err("its subjectAltName is malformed".into());
            }
            _ => {}
        }
    }
    Ok(out)
}

fn alt_names(names: &[GeneralName<'_>], out: &mut Extensions) {
    for name in names {
        match name {
            GeneralName::DNSName(name) => out.dns_names.push((*name).to_owned()),
            GeneralName::IPAddress(octets) => match ip_address(octets) {
                Some(ip) => out.ip_addresses.push(ip),
                None => out.other_names += 1,
            },
            _ => out.other_names += 1,
        }
    }
}

fn ip_address(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn garbage_never_panics(der in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Certificate::from_der(&der);
            let _ = Certificate::from_pem(&der);
        }
    }
}
