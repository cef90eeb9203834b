//! The client certificate of a handshake that failed over it.
//!
//! rustls keeps a peer's certificate only where its verifier said yes. For those who have to find out why a device does
//! not come in, the one that was refused matters more. The verifier leaves it here, on the thread that reads, and the
//! handshake takes it as soon as reading returns; nothing waits in between.

use std::cell::RefCell;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::peer::{moment, rfc2253, without_leading_zeros};

/// What a client certificate says, whether or not it was accepted. Texts are bounded and without control characters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PresentedCertificate {
    /// Its subject in RFC 2253 order; empty where the bytes are no certificate.
    pub subject: String,
    /// Its issuer, likewise.
    pub issuer: String,
    /// Its serial number as upper-case hex, without leading zeros.
    pub serial: String,
    /// First moment of its validity.
    pub not_before: SystemTime,
    /// Last moment of its validity.
    pub not_after: SystemTime,
    /// Bytes of its DER.
    pub size: usize,
}

/// Longest subject or issuer that is kept, in characters.
const LONGEST_NAME: usize = 200;

thread_local! {
    static REFUSED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Leaves a certificate that was refused.
pub(super) fn leave(certificate: &CertificateDer<'_>) {
    REFUSED.set(Some(certificate.to_vec()));
}

/// Takes what was left since the last time.
pub(crate) fn take() -> Option<PresentedCertificate> {
    REFUSED.take().map(|der| PresentedCertificate::read(&der))
}

impl PresentedCertificate {
    /// Reads a certificate; what cannot be read is empty.
    #[must_use]
    pub fn read(der: &[u8]) -> Self {
        let shown = |text: String| -> String {
            text.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect()
        };
        let Ok((_, parsed)) = X509Certificate::from_der(der) else {
            let (subject, issuer, serial) = Default::default();
            let never = SystemTime::UNIX_EPOCH;
            return Self { subject, issuer, serial, not_before: never, not_after: never, size: der.len() };
        };
        let serial = without_leading_zeros(parsed.raw_serial());
        Self {
            subject: shown(rfc2253(parsed.subject())),
            issuer: shown(rfc2253(parsed.issuer())),
            serial: serial.iter().take(32).map(|byte| format!("{byte:02X}")).collect(),
            not_before: moment(parsed.validity().not_before.timestamp()),
            not_after: moment(parsed.validity().not_after.timestamp()),
            size: der.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject;

    #[test]
    fn what_was_left_is_taken_once() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../shared/fixtures/easyrsa-pki/issued/tasmota_kitchen.crt"
        );
        let kitchen = CertificateDer::from_pem_file(path).expect("the fixture is there");
        leave(&kitchen);
        let taken = take().expect("it was left");
        assert!(taken.subject.contains("CN=tasmota_kitchen"), "{taken:?}");
        assert!(!taken.issuer.is_empty() && taken.serial.len() > 8, "{taken:?}");
        assert_eq!(taken.size, kitchen.len());
        assert_eq!(take(), None);
    }

    #[test]
    fn what_is_no_certificate_is_told_by_its_size() {
        let read = PresentedCertificate::read(&[1, 2, 3]);
        assert_eq!((read.subject.as_str(), read.size), ("", 3));
    }
}
