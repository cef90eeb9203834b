//! A certificate as read from a file or just issued: the few facts the rest of Quoll asks for, parsed once.
//! What it is not: it verifies no chain; the TLS library and `openssl verify` do that.

use std::{fmt, net::IpAddr};

use aws_lc_rs::{digest, signature as verify};
use time::OffsetDateTime;
use x509_parser::{
    der_parser::oid,
    extensions::{GeneralName, ParsedExtension},
    prelude::{FromDer, X509Certificate},
    public_key::PublicKey,
};

use crate::{dates, name_constraints, pem, serial::Serial};

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
    signature: SignatureKind,
    /// 1 or 3.
    version: u32,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    pub(crate) extensions: Extensions,
}

#[derive(Clone, PartialEq, Eq)]
enum Key {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Other(PublicKeyKind),
}

/// What kind of public key a certificate has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PublicKeyKind {
    /// RSA with this many bits.
    Rsa(usize),
    /// EC on the curve P-256 (`prime256v1`), the only one a device knows.
    EcP256,
    /// EC on the curve P-384 (`secp384r1`).
    EcP384,
    /// EC on another curve.
    OtherEc,
    /// Ed25519.
    Ed25519,
    /// Anything else.
    Unknown,
}

impl PublicKeyKind {
    /// The kind of key to make for one like it; `None` for kinds that are not made here.
    #[must_use]
    pub fn made(self) -> Option<crate::key::KeyKind> {
        crate::bundle::verify::made_kind(self)
    }
}

/// What a certificate was signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignatureKind {
    /// RSA PKCS#1 v1.5 with this hash.
    Rsa(&'static str),
    /// ECDSA with this hash.
    Ecdsa(&'static str),
    /// Ed25519.
    Ed25519,
    /// Anything else.
    Unknown,
}

#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Extensions {
    is_ca: bool,
    server_auth: bool,
    client_auth: bool,
    /// extendedKeyUsage is there at all, and whether it is critical.
    pub(crate) extended_usage: Option<bool>,
    /// keyUsage is there, and allows digitalSignature.
    pub(crate) digital_signature: Option<bool>,
    /// keyUsage is there, and allows the signing of certificates, and of revocation lists.
    pub(crate) may_sign: Option<(bool, bool)>,
    /// How many CAs may stand below this one, where it says so.
    pub(crate) path_length: Option<u32>,
    /// What it signs may only have certain names.
    pub(crate) constrains_names: bool,
    /// OIDs of critical extensions that a device's verifier does not know.
    pub(crate) foreign_critical: Vec<String>,
    pub(crate) subject_key_id: Option<Vec<u8>>,
    /// authorityKeyIdentifier names its issuer's certificate by serial number.
    pub(crate) names_issuer_serial: bool,
    pub(crate) has_alt_names: bool,
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
            signature: signature_kind(&parsed.signature_algorithm.algorithm.to_id_string()),
            version: parsed.version().0 + 1,
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
        let block = pem::find(text, is_certificate).map_err(CertificateError)?;
        Self::from_der(&block.der)
    }

    /// Every certificate of a PEM file that can be read, in its order.
    pub(crate) fn all_from_pem(text: &[u8]) -> Vec<Self> {
        let blocks = pem::all(text, is_certificate);
        blocks.iter().filter_map(|block| Self::from_der(&block.der).ok()).collect()
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
            Key::Other(_) => None,
        }
    }

    /// True for an elliptic-curve key.
    pub fn has_ec_key(&self) -> bool {
        matches!(self.key_kind(), PublicKeyKind::EcP256 | PublicKeyKind::EcP384 | PublicKeyKind::OtherEc)
    }

    /// Which kind of key it certifies.
    pub fn key_kind(&self) -> PublicKeyKind {
        match &self.public_key {
            Key::Rsa { n, .. } => PublicKeyKind::Rsa(bits(n)),
            Key::Other(kind) => *kind,
        }
    }

    /// What it was signed with.
    pub fn signature_kind(&self) -> SignatureKind {
        self.signature
    }

    /// Whether `issuer`'s key signed it. `None` for a signature that cannot be checked here.
    pub fn is_signed_by(&self, issuer: &Self) -> Option<bool> {
        let (_, parsed) = X509Certificate::from_der(&self.der).ok()?;
        let (_, issuing) = X509Certificate::from_der(&issuer.der).ok()?;
        let algorithm = verifier(self.signature, issuer.key_kind())?;
        let key = verify::UnparsedPublicKey::new(algorithm, &issuing.public_key().subject_public_key.data);
        Some(key.verify(parsed.tbs_certificate.as_ref(), &parsed.signature_value.data).is_ok())
    }

    /// X.509 version: 1 or 3.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// basicConstraints says CA:TRUE.
    pub fn is_ca(&self) -> bool {
        self.extensions.is_ca
    }

    /// extendedKeyUsage lists serverAuth.
    pub fn is_for_server(&self) -> bool {
        self.extensions.server_auth
    }

    /// extendedKeyUsage lists clientAuth.
    pub fn is_for_client(&self) -> bool {
        self.extensions.client_auth
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

impl fmt::Display for PublicKeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA-{bits}"),
            Self::EcP256 => f.write_str("EC P-256"),
            Self::EcP384 => f.write_str("EC P-384"),
            Self::OtherEc => f.write_str("EC on another curve"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Unknown => f.write_str("of an unknown kind"),
        }
    }
}

impl fmt::Display for SignatureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(hash) => write!(f, "RSA with {hash}"),
            Self::Ecdsa(hash) => write!(f, "ECDSA with {hash}"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Unknown => f.write_str("an unknown algorithm"),
        }
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

fn is_certificate(label: &str) -> bool {
    matches!(label, "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE")
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
        _ => Key::Other(other_key(parsed)),
    }
}

fn other_key(parsed: &X509Certificate<'_>) -> PublicKeyKind {
    let algorithm = &parsed.public_key().algorithm;
    match algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.10045.2.1" => {
            let curve = algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
            match curve.map(|curve| curve.to_id_string()).as_deref() {
                Some("1.2.840.10045.3.1.7") => PublicKeyKind::EcP256,
                Some("1.3.132.0.34") => PublicKeyKind::EcP384,
                _ => PublicKeyKind::OtherEc,
            }
        }
        "1.3.101.112" => PublicKeyKind::Ed25519,
        _ => PublicKeyKind::Unknown,
    }
}

fn bits(modulus: &[u8]) -> usize {
    let leading = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    (modulus.len() * 8).saturating_sub(leading)
}

fn signature_kind(oid: &str) -> SignatureKind {
    match oid {
        "1.2.840.113549.1.1.5" => SignatureKind::Rsa("SHA-1"),
        "1.2.840.113549.1.1.11" => SignatureKind::Rsa("SHA-256"),
        "1.2.840.113549.1.1.12" => SignatureKind::Rsa("SHA-384"),
        "1.2.840.113549.1.1.13" => SignatureKind::Rsa("SHA-512"),
        "1.2.840.10045.4.1" => SignatureKind::Ecdsa("SHA-1"),
        "1.2.840.10045.4.3.2" => SignatureKind::Ecdsa("SHA-256"),
        "1.2.840.10045.4.3.3" => SignatureKind::Ecdsa("SHA-384"),
        "1.2.840.10045.4.3.4" => SignatureKind::Ecdsa("SHA-512"),
        "1.3.101.112" => SignatureKind::Ed25519,
        _ => SignatureKind::Unknown,
    }
}

/// The algorithm for a signature of this kind by a key of that kind; weak ones too, because an adopted folder may have them.
fn verifier(
    signature: SignatureKind,
    key: PublicKeyKind,
) -> Option<&'static dyn verify::VerificationAlgorithm> {
    use {PublicKeyKind as K, SignatureKind as S};
    Some(match (signature, key) {
        (S::Rsa("SHA-1"), K::Rsa(_)) => &verify::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
        (S::Rsa("SHA-256"), K::Rsa(_)) => &verify::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        (S::Rsa("SHA-384"), K::Rsa(_)) => &verify::RSA_PKCS1_2048_8192_SHA384,
        (S::Rsa("SHA-512"), K::Rsa(_)) => &verify::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        (S::Ecdsa("SHA-1"), K::EcP256) => &verify::ECDSA_P256_SHA1_ASN1,
        (S::Ecdsa("SHA-256"), K::EcP256) => &verify::ECDSA_P256_SHA256_ASN1,
        (S::Ecdsa("SHA-384"), K::EcP256) => &verify::ECDSA_P256_SHA384_ASN1,
        (S::Ecdsa("SHA-512"), K::EcP256) => &verify::ECDSA_P256_SHA512_ASN1,
        (S::Ecdsa("SHA-256"), K::EcP384) => &verify::ECDSA_P384_SHA256_ASN1,
        (S::Ecdsa("SHA-384"), K::EcP384) => &verify::ECDSA_P384_SHA384_ASN1,
        (S::Ecdsa("SHA-512"), K::EcP384) => &verify::ECDSA_P384_SHA512_ASN1,
        (S::Ed25519, K::Ed25519) => &verify::ED25519,
        _ => return None,
    })
}

fn extensions(parsed: &X509Certificate<'_>) -> Result<Extensions, String> {
    let mut out = Extensions::default();
    for extension in parsed.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(constraints) => {
                (out.is_ca, out.path_length) = (constraints.ca, constraints.path_len_constraint);
            }
            ParsedExtension::KeyUsage(usage) => {
                out.digital_signature = Some(usage.digital_signature());
                out.may_sign = Some((usage.key_cert_sign(), usage.crl_sign()));
            }
            // One that cannot be read limits, too.
            _ if name_constraints::is_constraint(extension) => out.constrains_names = true,
            ParsedExtension::ExtendedKeyUsage(usage) => {
                out.server_auth = usage.server_auth;
                out.client_auth = usage.client_auth;
                out.extended_usage = Some(extension.critical);
            }
            ParsedExtension::SubjectKeyIdentifier(id) => out.subject_key_id = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                out.names_issuer_serial = id.authority_cert_serial.is_some();
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                out.has_alt_names = true;
                alt_names(&names.general_names, &mut out);
            }
            ParsedExtension::ParseError { .. } if extension.oid == oid!(2.5.29.17) => {
                return Err("its subjectAltName is malformed".into());
            }
            _ if extension.critical => {
                out.foreign_critical.push(extension.oid.to_id_string());
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

pub(crate) fn ip_address(octets: &[u8]) -> Option<IpAddr> {
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
