//! Is this client certificate good? WebPKI is asked first, then the live set of revoked credentials.
//!
//! CRLs in rustls' own verifier are fixed when it is built; our set is part of the identity, which is swapped whole.
//! Certificates that passed WebPKI are remembered by digest until the identity is swapped or they expire: about 40 us of
//! each reconnect. Possession of the key is proved anew each time, and the revoked set is asked each time.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::peer::credential;
use super::presented;
use crate::limits::REMEMBERED_CERTIFICATES;

/// Wraps rustls' WebPKI verifier.
pub(super) struct RevocationAware {
    inner: Arc<dyn ClientCertVerifier>,
    revoked: Arc<HashSet<[u8; 32]>>,
    /// Whether certificates are looked at as if it were a day on which they are valid.
    ignores_dates: bool,
    passed: Mutex<HashMap<[u8; 32], Passed>>,
}

/// A chain that passed: within these Unix seconds it would pass again.
#[derive(Clone, Copy)]
struct Passed {
    from: u64,
    until: u64,
    credential: [u8; 32],
}

impl RevocationAware {
    pub(super) fn new(
        inner: Arc<dyn ClientCertVerifier>,
        revoked: Arc<HashSet<[u8; 32]>>,
        ignores_dates: bool,
    ) -> Self {
        Self { inner, revoked, ignores_dates, passed: Mutex::default() }
    }

    /// The time by which a chain is looked at: now, or where dates do not count, the nearest at which all of it is valid.
    fn time(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> UnixTime {
        let Some(valid) = self.ignores_dates.then(|| window(end_entity, intermediates)).flatten() else {
            return now;
        };
        if valid.from > valid.until {
            return now;
        }
        let seconds = now.as_secs().clamp(valid.from, valid.until);
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
    }

    fn remembered(&self, digest: &[u8; 32], now: u64) -> Option<[u8; 32]> {
        let passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = passed.get(digest)?;
        (entry.from..=entry.until).contains(&now).then_some(entry.credential)
    }

    fn remember(&self, digest: [u8; 32], entry: Passed) {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        if passed.len() >= REMEMBERED_CERTIFICATES {
            passed.clear();
        }
        passed.insert(digest, entry);
    }
}

impl ClientCertVerifier for RevocationAware {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let now = self.time(end_entity, intermediates, now);
        let digest = chain_digest(end_entity, intermediates);
        let credential = match self.remembered(&digest, now.as_secs()) {
            Some(credential) => credential,
            None => {
                let verified = self.inner.verify_client_cert(end_entity, intermediates, now);
                verified.inspect_err(|_| presented::leave(end_entity))?;
                let entry = window(end_entity, intermediates).ok_or(CertificateError::BadEncoding)?;
                self.remember(digest, entry);
                entry.credential
            }
        };
        if self.revoked.contains(&credential) {
            presented::leave(end_entity);
            return Err(CertificateError::Revoked.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = self.inner.verify_tls12_signature(message, cert, dss);
        verified.inspect_err(|_| presented::leave(cert))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = self.inner.verify_tls13_signature(message, cert, dss);
        verified.inspect_err(|_| presented::leave(cert))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl fmt::Debug for RevocationAware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationAware").field("revoked", &self.revoked.len()).finish_non_exhaustive()
    }
}

/// Digest of the whole chain as sent, each certificate led by its length.
fn chain_digest(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for certificate in std::iter::once(end_entity).chain(intermediates) {
        context.update(&(certificate.len() as u64).to_be_bytes());
        context.update(certificate);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// The time in which all certificates of the chain are valid, and the credential of the first. `None` where one cannot
/// be read, which after WebPKI's blessing would be strange.
fn window(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Option<Passed> {
    let (_, leaf) = X509Certificate::from_der(end_entity).ok()?;
    let credential = credential(leaf.issuer().as_raw(), leaf.raw_serial());
    let mut passed = Passed { from: 0, until: u64::MAX, credential };
    for certificate in std::iter::once(end_entity).chain(intermediates) {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let validity = parsed.validity();
        passed.from = passed.from.max(u64::try_from(validity.not_before.timestamp()).unwrap_or(0));
        passed.until = passed.until.min(u64::try_from(validity.not_after.timestamp()).unwrap_or(0));
    }
    Some(passed)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use rustls::pki_types::pem::PemObject;

    use super::*;

    /// Says yes to everything, and counts how often it is asked.
    #[derive(Debug, Default)]
    struct Yes(AtomicUsize);

    impl ClientCertVerifier for Yes {
        fn root_hint_subjects(&self) -> &[DistinguishedName] {
            &[]
        }
        fn verify_client_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: UnixTime,
        ) -> Result<ClientCertVerified, Error> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(ClientCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            Vec::new()
        }
    }

    fn certificate(name: &str) -> CertificateDer<'static> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures/easyrsa-pki/issued/");
        CertificateDer::from_pem_file(format!("{folder}{name}.crt")).expect("the fixture is there")
    }

    const DECEMBER_2026: u64 = 1_796_083_200;
    const YEAR_2040: u64 = 2_208_988_800;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn a_chain_that_passed_is_remembered_within_its_validity_alone() {
        let inner = Arc::new(Yes::default());
        let verifier = RevocationAware::new(inner.clone(), Arc::default(), false);
        let asked = |expected: usize, seconds, name| {
            verifier.verify_client_cert(&certificate(name), &[], at(seconds)).unwrap();
            assert_eq!(inner.0.load(Ordering::Relaxed), expected, "{name} at {seconds}");
        };
        asked(1, DECEMBER_2026, "tasmota_kitchen");
        asked(1, DECEMBER_2026, "tasmota_kitchen");
        asked(2, DECEMBER_2026, "tasmota_garage");
        asked(3, YEAR_2040, "tasmota_kitchen");
        asked(4, 0, "tasmota_kitchen");
    }

    #[test]
    fn where_dates_do_not_count_everything_else_does() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures/");
        let verifier = |root: &str, ignores: bool| {
            let mut roots = rustls::RootCertStore::empty();
            let root = CertificateDer::from_pem_file(format!("{folder}{root}/ca.crt"));
            roots.add(root.expect("the fixture is there")).unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let inner =
                rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            RevocationAware::new(inner.build().unwrap(), Arc::default(), ignores)
        };
        let kitchen = certificate("tasmota_kitchen");
        for (seconds, strictly) in [(0, false), (DECEMBER_2026, true), (YEAR_2040, false)] {
            let strict = verifier("easyrsa-pki", false).verify_client_cert(&kitchen, &[], at(seconds));
            assert_eq!(strict.is_ok(), strictly, "{seconds}: {strict:?}");
            let lenient = verifier("easyrsa-pki", true).verify_client_cert(&kitchen, &[], at(seconds));
            assert!(lenient.is_ok(), "{seconds}: {lenient:?}");
            let stranger = verifier("easyrsa-pki-3.2", true).verify_client_cert(&kitchen, &[], at(seconds));
            assert!(stranger.is_err(), "{seconds}: another CA's");
        }
    }

    #[test]
    fn a_revoked_credential_is_refused_also_when_remembered() {
        let kitchen = certificate("tasmota_kitchen");
        let revoked = window(&kitchen, &[]).expect("readable").credential;
        let verifier =
            RevocationAware::new(Arc::new(Yes::default()), Arc::new(HashSet::from([revoked])), false);
        for _ in 0..2 {
            let answer = verifier.verify_client_cert(&kitchen, &[], at(DECEMBER_2026));
            assert_eq!(answer.unwrap_err(), Error::InvalidCertificate(CertificateError::Revoked));
        }
        assert!(verifier.verify_client_cert(&certificate("tasmota_garage"), &[], at(DECEMBER_2026)).is_ok());
    }
}
