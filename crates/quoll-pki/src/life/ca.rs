//! The CA itself: its certificate made to last longer, its key encrypted anew.
//! What it is not: a new CA. Key and name stay, so what it issued stays good and devices need nothing new (facts §5.2:
//! of an anchor, only name and key are compiled in).

use time::{Duration, OffsetDateTime};
use x509_cert::{der::Decode, name::Name};

use crate::{
    authority::Authority,
    builder::{self, Plan, failed},
    certificate::Certificate,
    check,
    error::PkiError,
    key_file::{self, KeyProtection},
    limits::{CA_DAYS, DAYS_MAX},
    passphrase::Passphrase,
    serial::Serial,
    store::{
        Pki,
        files::{self, Mode},
    },
};

/// A CA whose certificate lasts longer now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtendedCa {
    /// The new certificate, which is `ca.crt` now. Open the folder again to issue under it.
    pub certificate: Certificate,
    /// When the old one ends.
    pub previous_end: OffsetDateTime,
    /// Where the old one is kept.
    pub kept: std::path::PathBuf,
    /// Whether the serial number had to stay, because issued certificates name it (Easy-RSA writes it into servers' and
    /// clients' authorityKeyIdentifier).
    pub same_serial: bool,
}

impl Authority {
    /// Writes a `ca.crt` with the same key and name that is valid for `days` from now (20 years when `None`). Everything
    /// issued before chains to it, and devices that have the anchor compiled in need nothing new. The old one is kept in
    /// `renewed/ca/`. A CA that has ended already can be extended, too.
    ///
    /// # Errors
    /// [`PkiError::BadRequest`] if it would not last longer or if another CA signed this one, [`PkiError::ClockBeforeCa`],
    /// and those of the folder. Nothing was changed then.
    pub fn extend_ca(&self, days: Option<u32>, now: OffsetDateTime) -> Result<ExtendedCa, PkiError> {
        let pki = self.pki();
        let _lock = pki.lock()?;
        // Somebody else may have extended it since the folder was opened.
        let old = Pki::open(pki.dir())?.ca().clone();
        let refuse = |problem: String| PkiError::BadRequest {
            name: old.subject_cn().unwrap_or("the CA").to_owned(),
            problem,
        };
        if old.issuer_der() != old.subject_der() {
            return Err(refuse("another CA signed it; that one has to renew it".into()));
        }
        if old.public_key_der() != self.key().public_key_der() {
            return Err(PkiError::KeyMismatch {
                key: pki.layout.ca_key(),
                certificate: pki.layout.ca_certificate(),
            });
        }
        if old.extensions.constrains_names {
            return Err(refuse(
                "it has name constraints, which would be lost; openssl x509 -x509toreq -copy_extensions copy keeps them".into(),
            ));
        }
        if now < old.not_before() {
            return Err(PkiError::ClockBeforeCa { now, not_before: old.not_before() });
        }
        let days = days.unwrap_or(CA_DAYS);
        if !(1..=DAYS_MAX).contains(&days) {
            return Err(refuse(format!("its life is 1 to {DAYS_MAX} days, not {days}")));
        }
        let not_after = now.saturating_add(Duration::days(days.into()));
        if not_after <= old.not_after() {
            let end = old.not_after().date();
            return Err(refuse(format!(
                "it is valid until {end} already, which is later than {days} days from now"
            )));
        }
        let same_serial = pki.somebody_names_the_ca_serial()?;
        let serial = if same_serial { old.serial() } else { Serial::random()? };
        let subject = Name::from_der(old.subject_der()).map_err(failed("reading the CA's name"))?;
        let key_id = old.extensions.subject_key_id.as_deref();
        let extensions = builder::ca_extensions(old.public_key_der(), key_id, old.extensions.path_length)?;
        let plan = Plan {
            serial: &serial,
            subject,
            public_key_der: old.public_key_der(),
            not_before: old.not_before(),
            not_after,
            extensions,
        };
        let certificate = builder::self_signed(plan, self.key())?;
        if certificate.subject_der() != old.subject_der() {
            return Err(PkiError::Crypto { act: "copying the CA's name byte for byte" });
        }
        let kept = pki.layout.earlier_ca(&earlier_name(&old));
        files::write(&kept, old.pem().as_bytes(), Mode::Public)?;
        files::write(&pki.layout.ca_certificate(), certificate.pem().as_bytes(), Mode::Public)?;
        Ok(ExtendedCa { certificate, previous_end: old.not_after(), kept, same_serial })
    }
}

impl Pki {
    /// Encrypts the CA's key anew: AES-256-CBC, PBKDF2 with [`crate::limits::KDF_ITERATIONS`] rounds, under `new`. The old
    /// file stays in its place until the new one has been read back from the disk, opened and found to be the same key.
    /// Says how it was protected before. A key that was plain is encrypted; `old` is not looked at then.
    ///
    /// # Errors
    /// [`PkiError::WrongPassphrase`], [`PkiError::UnsupportedKey`] with the converting command, [`PkiError::KeyMismatch`],
    /// [`PkiError::UnusablePassphrase`]; nothing was changed then.
    pub fn reencrypt_ca_key(&self, old: &Passphrase, new: &Passphrase) -> Result<KeyProtection, PkiError> {
        new.check_for_new_key()?;
        let _lock = self.lock()?;
        let path = self.layout.ca_key();
        let missing = || PkiError::NotAPki {
            dir: self.dir().to_owned(),
            missing: "private/ca.key".into(),
            nearby: None,
        };
        let before = key_file::look(&path)?.ok_or_else(missing)?.protection;
        let key = key_file::read(&path, Some(old))?;
        if key.public_key_der() != self.ca().public_key_der() {
            return Err(PkiError::KeyMismatch { key: path, certificate: self.layout.ca_certificate() });
        }
        let proof = self.layout.ca_key_proof();
        files::write(&proof, key_file::encrypt(&key, new)?.as_bytes(), Mode::Private)?;
        let again = key_file::read(&proof, Some(new))?;
        if *again.pkcs8_der() != *key.pkcs8_der() {
            files::remove(&proof)?;
            return Err(PkiError::Crypto { act: "reading back the key just encrypted" });
        }
        files::replace(&proof, &path)?;
        Ok(before)
    }

    /// How the CA's key file is protected; `None` if the key is not here.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub fn ca_key_protection(&self) -> Result<Option<KeyProtection>, PkiError> {
        Ok(key_file::look(&self.layout.ca_key())?.map(|look| look.protection))
    }

    fn somebody_names_the_ca_serial(&self) -> Result<bool, PkiError> {
        let check = check::certificates(self)?;
        Ok(check.into_iter().any(|certificate| {
            certificate.extensions.names_issuer_serial && certificate.issuer_der() == self.ca().subject_der()
        }))
    }
}

/// Dates first, so that a listing is in order; then what tells two of the same end apart.
fn earlier_name(old: &Certificate) -> String {
    let print: String = old.fingerprint_sha256()[..4].iter().map(|octet| format!("{octet:02x}")).collect();
    format!("until-{}-{print}", old.not_after().date())
}
