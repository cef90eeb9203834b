//! What the folder says: CA, server, each device's certificate, the revocation list.

use quoll_fleet::device::Device;
use quoll_fleet::doctor::evidence::{CertificateFacts, PkiSide};
use quoll_pki::{CertName, Certificate, Pki, PublicKeyKind, fitness};
use quoll_tasmota::Fingerprint;
use time::OffsetDateTime;

use crate::config::Settings;
use crate::workshop;

/// The folder, read once for all devices.
#[derive(Default)]
pub(crate) struct Folder {
    pki: Option<Pki>,
    pub(crate) silence: Option<String>,
    pub(crate) server: Option<Certificate>,
    revoked: Vec<String>,
    pub(crate) crl: Vec<String>,
}

impl Folder {
    pub(crate) fn read(settings: &Settings) -> Self {
        let opened =
            workshop::serving(settings).and_then(|settings| Ok((workshop::open_pki(&settings)?, settings)));
        let (pki, settings) = match opened {
            Ok(opened) => opened,
            Err(failure) => return Self { silence: Some(failure.what), ..Self::default() },
        };
        let now = OffsetDateTime::now_utc();
        let crl = match pki.crl_status(now) {
            Ok(Some(status)) => status.problems,
            Ok(None) => vec!["there is no revocation list".into()],
            Err(error) => vec![error.to_string()],
        };
        let revoked = pki.revoked_serials().unwrap_or_default();
        Self {
            silence: None,
            server: workshop::server_certificate(&settings, &pki).ok(),
            revoked: revoked.iter().map(ToString::to_string).collect(),
            crl,
            pki: Some(pki),
        }
    }

    pub(crate) fn ca(&self) -> Option<&Certificate> {
        self.pki.as_ref().map(Pki::ca)
    }

    pub(crate) fn has_ec_ca(&self) -> bool {
        self.ca().is_some_and(Certificate::has_ec_key)
    }

    pub(crate) fn has_ec_server(&self) -> bool {
        self.server.as_ref().is_some_and(Certificate::has_ec_key)
    }

    /// Of the server's key.
    pub(crate) fn fingerprint(&self) -> Option<[u8; 20]> {
        self.server.as_ref().and_then(fingerprint)
    }

    /// What concerns one device.
    pub(crate) fn of(&self, device: &Device) -> PkiSide {
        let name = CertName::parse(device.name.as_str()).ok();
        let own = self.pki.as_ref().zip(device.serial.as_deref()).and_then(|(pki, serial)| {
            let by_serial = serial.parse().ok().and_then(|serial| pki.certificate_by_serial(&serial).ok()?);
            by_serial.or_else(|| pki.certificate(&name?).ok()?)
        });
        let is_revoked = device
            .serial
            .as_ref()
            .is_some_and(|serial| self.revoked.iter().any(|revoked| revoked.eq_ignore_ascii_case(serial)));
        PkiSide {
            silence: self.silence.clone(),
            ca: self.ca().map(|ca| facts(ca, None)),
            server: self.server.as_ref().map(|server| self.served(server)),
            device: own.as_ref().map(|own| facts(own, None)),
            revoked: is_revoked,
            crl: self.crl.clone(),
        }
    }

    /// A server's certificate, with what devices stumble over.
    pub(crate) fn served(&self, certificate: &Certificate) -> CertificateFacts {
        facts(certificate, self.ca())
    }
}

fn fingerprint(certificate: &Certificate) -> Option<[u8; 20]> {
    let (n, e) = certificate.rsa_public_key()?;
    Fingerprint::of_rsa(&n, &e).ok().map(|fingerprint| fingerprint.bytes())
}

/// `ca` is the one against which a server's certificate is held.
fn facts(certificate: &Certificate, ca: Option<&Certificate>) -> CertificateFacts {
    let ours = ca.filter(|ca| certificate.is_signed_by(ca) == Some(true));
    let misfits = ca.map(|ca| fitness::as_server(certificate, ca)).unwrap_or_default();
    CertificateFacts {
        subject: certificate.subject_cn().unwrap_or_default().to_owned(),
        issuer: ours.and_then(Certificate::subject_cn).map(ToOwned::to_owned).unwrap_or_default(),
        serial: certificate.serial().to_string(),
        not_before: certificate.not_before().unix_timestamp(),
        not_after: certificate.not_after().unix_timestamp(),
        size: certificate.der().len(),
        key: certificate.key_kind().to_string(),
        rsa_bits: match certificate.key_kind() {
            PublicKeyKind::Rsa(bits) => Some(bits),
            _ => None,
        },
        signature: certificate.signature_kind().to_string(),
        names: certificate.dns_names().to_vec(),
        fingerprint: fingerprint(certificate),
        misfits: misfits.iter().map(ToString::to_string).collect(),
    }
}
