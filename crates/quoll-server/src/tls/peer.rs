//! What we learned about the peer's certificate, as facts for the doorkeeper. Whether it is good was asked before.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

/// A verified client certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerCertificate {
    /// Its common name, if it has exactly one.
    pub common_name: Option<String>,
    /// Its whole subject in RFC 2253 order, as mosquitto's `use_subject_as_username` gives it.
    pub subject: String,
    /// Its serial number, big endian, without leading zeros.
    pub serial: Vec<u8>,
    /// Its issuer's name, DER.
    pub issuer_der: Vec<u8>,
    /// The mark by which it is revoked: [`credential`] of issuer and serial.
    pub credential: [u8; 32],
    /// First moment of its validity.
    pub not_before: SystemTime,
    /// Last moment of its validity.
    pub not_after: SystemTime,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
}

impl PeerCertificate {
    /// Reads a certificate.
    ///
    /// # Errors
    /// Where it is no X.509 certificate.
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, UnreadableCertificate> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| UnreadableCertificate)?;
        let validity = parsed.validity();
        let serial = without_leading_zeros(parsed.raw_serial());
        let issuer_der = parsed.issuer().as_raw();
        Ok(Self {
            common_name: only_common_name(parsed.subject()),
            subject: rfc2253(parsed.subject()),
            serial: serial.to_vec(),
            issuer_der: issuer_der.to_vec(),
            credential: credential(issuer_der, serial),
            not_before: moment(validity.not_before.timestamp()),
            not_after: moment(validity.not_after.timestamp()),
            fingerprint: sha256(certificate),
        })
    }
}

/// The bytes are no X.509 certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not an X.509 certificate")]
pub struct UnreadableCertificate;

/// The mark by which a certificate is known to the broker and revoked: SHA-256 over the issuer's DER name, led by its
/// length as four bytes big endian, and the serial number without leading zeros. RFC 5280 §4.1.2.2: issuer and serial
/// name a certificate uniquely.
#[must_use]
pub fn credential(issuer_der: &[u8], serial: &[u8]) -> [u8; 32] {
    let serial = without_leading_zeros(serial);
    let mut bytes = Vec::with_capacity(4 + issuer_der.len() + serial.len());
    bytes.extend((issuer_der.len() as u32).to_be_bytes());
    bytes.extend(issuer_der);
    bytes.extend(serial);
    sha256(&bytes)
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

pub(super) fn without_leading_zeros(serial: &[u8]) -> &[u8] {
    &serial[serial.iter().take_while(|byte| **byte == 0).count()..]
}

pub(super) fn moment(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let moment =
        if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    moment.unwrap_or(UNIX_EPOCH)
}

/// The CN if there is exactly one, and it is text: two would let a certificate be two devices.
fn only_common_name(subject: &X509Name<'_>) -> Option<String> {
    let mut names = subject.iter_common_name();
    let (first, second) = (names.next()?, names.next());
    let name = first.as_str().ok().filter(|name| !name.chars().any(char::is_control))?;
    second.is_none().then(|| name.to_owned())
}

/// RFC 2253: most specific first, unspaced, with the short names that OpenSSL uses.
pub(super) fn rfc2253(subject: &X509Name<'_>) -> String {
    let mut rdns: Vec<String> = subject
        .iter()
        .map(|rdn| {
            let parts: Vec<String> = rdn
                .iter()
                .map(|attribute| {
                    let oid = attribute.attr_type().to_id_string();
                    let name = SHORT_NAMES.iter().find(|(known, _)| *known == oid);
                    let name = name.map_or(oid.as_str(), |(_, short)| short);
                    format!("{name}={}", escaped(attribute.as_str().unwrap_or_default()))
                })
                .collect();
            parts.join("+")
        })
        .collect();
    rdns.reverse();
    rdns.join(",")
}

/// RFC 2253 §2.3, and emailAddress by the name OpenSSL gives it.
const SHORT_NAMES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.42", "GN"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// RFC 2253 §2.4.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (place, character) in value.chars().enumerate() {
        let edge_space = character == ' ' && (place == 0 || place == last);
        if matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';')
            || edge_space
            || (character == '#' && place == 0)
        {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject;

    fn kitchen() -> CertificateDer<'static> {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../shared/fixtures/easyrsa-pki/issued/tasmota_kitchen.crt"
        );
        CertificateDer::from_pem_file(path).expect("the fixture is there")
    }

    #[test]
    fn a_device_certificate_tells_who_it_is() {
        let peer = PeerCertificate::read(&kitchen()).unwrap();
        assert_eq!(peer.common_name.as_deref(), Some("tasmota_kitchen"));
        assert_eq!(
            peer.subject,
            "emailAddress=info@myorg.com,CN=tasmota_kitchen,OU=MQTT,O=myorg,L=London,ST=London,C=UK"
        );
        assert_eq!(peer.credential, credential(&peer.issuer_der, &peer.serial));
        assert!(peer.not_before < peer.not_after);
    }

    #[test]
    fn a_serial_is_the_same_with_and_without_leading_zeros() {
        assert_eq!(credential(b"issuer", &[0, 0xA5, 1]), credential(b"issuer", &[0xA5, 1]));
        assert_ne!(credential(b"issuer", &[0xA5, 1]), credential(b"issuer", &[0xA5, 0]));
        assert_ne!(credential(b"issue", b"r"), credential(b"issuer", b""), "the length is part of it");
    }

    #[test]
    fn bytes_that_are_no_certificate_are_refused() {
        assert_eq!(PeerCertificate::read(&CertificateDer::from(vec![1, 2, 3])), Err(UnreadableCertificate));
    }
}
