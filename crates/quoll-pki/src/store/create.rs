//! A new folder, laid out as `easyrsa init-pki` and `build-ca` would, so that Easy-RSA goes on working with it.

use std::path::Path;

use time::{Duration, OffsetDateTime};

use super::{
    Pki,
    files::{self, Mode},
    layout::{FOLDERS, Layout},
};
use crate::{
    builder::{self, Plan},
    error::PkiError,
    key::{KeyKind, PrivateKey},
    key_file,
    limits::{CA_BACKDATE, CA_DAYS, CLOCK_EARLIEST, DAYS_MAX},
    passphrase::Passphrase,
    serial::Serial,
    subject::{Organisation, Subject},
};

/// A CA wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCa {
    /// Its common name. It is in every certificate, so a short one leaves room (facts: device size limit).
    pub common_name: String,
    /// RSA-2048 unless every device has `SetOption165 1` (facts §5.3).
    pub key: KeyKind,
    /// Life in days from now.
    pub days: u32,
    /// Further subject fields, if wanted.
    pub organisation: Option<Organisation>,
}

impl NewCa {
    /// RSA-2048, 20 years, common name only.
    pub fn new(common_name: impl Into<String>) -> Self {
        Self { common_name: common_name.into(), key: KeyKind::Rsa2048, days: CA_DAYS, organisation: None }
    }
}

/// Present while a creation is under way; `ca.crt` is what completes it.
const MARKER: &str = ".quoll-creating";

/// What Easy-RSA needs of a folder that it did not make itself: its OpenSSL configuration, and the certificate types,
/// with the guide's `tasmota` among them.
pub(crate) const EASYRSA_FILES: [(&str, &str); 7] = [
    ("openssl-easyrsa.cnf", include_str!("easyrsa/openssl-easyrsa.cnf")),
    ("x509-types/COMMON", include_str!("easyrsa/x509-types/COMMON")),
    ("x509-types/ca", include_str!("easyrsa/x509-types/ca")),
    ("x509-types/client", include_str!("easyrsa/x509-types/client")),
    ("x509-types/server", include_str!("easyrsa/x509-types/server")),
    ("x509-types/serverClient", include_str!("easyrsa/x509-types/serverClient")),
    ("x509-types/tasmota", include_str!("easyrsa/x509-types/tasmota")),
];

/// Whether a creation in `dir` was interrupted, or is under way.
pub(crate) fn is_unfinished(dir: &Path) -> bool {
    dir.join(MARKER).exists()
}

pub(crate) fn create(
    dir: &Path,
    new: &NewCa,
    pass: &Passphrase,
    now: OffsetDateTime,
) -> Result<Pki, PkiError> {
    let refuse =
        |problem: &str| PkiError::BadRequest { name: new.common_name.clone(), problem: problem.to_owned() };
    if new.common_name.trim().is_empty() {
        return Err(refuse("a CA needs a common name"));
    }
    if !(1..=DAYS_MAX).contains(&new.days) {
        return Err(refuse(&format!("its life is 1 to {DAYS_MAX} days, not {}", new.days)));
    }
    if now.unix_timestamp() < CLOCK_EARLIEST {
        return Err(PkiError::ClockUnset { now });
    }
    pass.check_for_new_key()?;
    let subject = match &new.organisation {
        None => Subject::CnOnly,
        Some(org) => Subject::Org(org.clone()),
    };
    let subject = subject.to_name(&new.common_name)?;

    files::make_folder(dir)?;
    let _lock = files::lock(dir)?;
    let layout = Layout::new(dir);
    if layout.ca_certificate().exists() {
        return finish(dir, new, pass);
    }
    refuse_other_content(dir)?;
    files::write(&dir.join(MARKER), b"", Mode::Private)?;
    for folder in FOLDERS {
        files::make_folder(&dir.join(folder))?;
    }
    for (path, content) in EASYRSA_FILES {
        files::write(&dir.join(path), content.as_bytes(), Mode::Private)?;
    }
    files::write(&layout.index(), b"", Mode::Private)?;
    files::write(&layout.index_attributes(), b"unique_subject = no\n", Mode::Private)?;
    files::write(&layout.serial(), b"01\n", Mode::Private)?;
    files::write(&layout.crl_number(), b"01\n", Mode::Private)?;

    let key = PrivateKey::generate(new.key)?;
    let public_key_der = key.public_key_der();
    let plan = Plan {
        serial: &Serial::random()?,
        subject,
        public_key_der: &public_key_der,
        not_before: now.saturating_sub(CA_BACKDATE),
        not_after: now.saturating_add(Duration::days(new.days.into())),
        extensions: builder::ca_extensions(&public_key_der, None, None)?,
    };
    let ca = builder::self_signed(plan, &key)?;
    files::write(&layout.ca_key(), key_file::encrypt(&key, pass)?.as_bytes(), Mode::Private)?;
    files::write(&layout.ca_certificate(), ca.pem().as_bytes(), Mode::Public)?;
    files::remove(&dir.join(MARKER))?;
    Ok(Pki { layout, ca })
}

/// `ca.crt` is there. If the marker is too, a creation was killed after its last write: it is ours if passphrase and name
/// agree and nothing was issued yet.
fn finish(dir: &Path, new: &NewCa, pass: &Passphrase) -> Result<Pki, PkiError> {
    let taken = || PkiError::AlreadyACa { dir: dir.to_owned() };
    let marker = dir.join(MARKER);
    if !marker.exists() {
        return Err(taken());
    }
    let pki = Pki::open(dir)?;
    if !pki.entries()?.is_empty() || pki.ca().subject_cn() != Some(&new.common_name) {
        return Err(taken());
    }
    pki.unlock(pass)?;
    files::remove(&marker)?;
    Ok(pki)
}

/// Only an empty folder, or one that a creation of ours was killed in, may become a CA.
fn refuse_other_content(dir: &Path) -> Result<(), PkiError> {
    if dir.join(MARKER).exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(dir).map_err(files::io("listing", dir))? {
        let found = entry.map_err(files::io("listing", dir))?.file_name().to_string_lossy().into_owned();
        // `vars` is what somebody wants of the CA that is to be made.
        if !files::is_own_trace(&found) && found != "vars" {
            return Err(PkiError::NotEmpty { dir: dir.to_owned(), found });
        }
    }
    Ok(())
}
