//! A server with a new key: an act of its own, because every device that pinned the old key refuses the new one
//! (decision 13). What it is not: a rollover; staging the new fingerprint on the devices comes before it.

use time::OffsetDateTime;

use crate::{
    authority::Authority,
    certificate::Certificate,
    error::PkiError,
    fitness::Devices,
    key::{KeyKind, PrivateKey},
    name::CertName,
    profile::Profile,
    request::{AltNames, IfTaken, IssueRequest, KeySource, KeyStorage},
    serial::Serial,
    store::{layout::Shelf, read_certificate},
};

/// A server that has a new key.
#[derive(Debug, Clone)]
pub struct Rekeyed {
    /// The new certificate.
    pub certificate: Certificate,
    /// The new key.
    pub key: PrivateKey,
    /// Serial number of the certificate it replaces; that one stays valid until its end or its revocation.
    pub previous: Serial,
    /// Things to tell the user, as sentences.
    pub warnings: Vec<String>,
}

impl Authority {
    /// Gives a server a new key and a certificate for it, under the same subject. Old certificate, key and request are
    /// kept in `renewed/`. `alt_names` replaces the names; with `None` they are kept. Two files change, so if it is
    /// interrupted the server may be without its pair until the same call has been made again.
    ///
    /// # Errors
    /// [`PkiError::UnknownName`], [`PkiError::BadRequest`] if it is not a server's, [`PkiError::UnfitForDevices`], and as
    /// [`Authority::issue`].
    pub fn rekey_server(
        &self,
        name: &CertName,
        alt_names: Option<&AltNames>,
        kind: KeyKind,
        devices: Option<Devices>,
        now: OffsetDateTime,
    ) -> Result<Rekeyed, PkiError> {
        let old = self.to_be_rekeyed(name, now)?;
        let mut warnings = Vec::new();
        let names = match alt_names {
            Some(names) => names.clone(),
            None => super::names_of(&old, true, &mut warnings),
        };
        let request = IssueRequest {
            alt_names: names,
            subject: crate::subject::Subject::SameAs(old.subject_der().to_vec()),
            key: KeySource::Generate(kind),
            if_taken: IfTaken::Supersede,
            devices,
            ..IssueRequest::new(Profile::Server, name.clone(), KeyStorage::Plain)
        };
        let issued = self.issue(&request, now)?;
        warnings.extend(issued.warnings);
        Ok(Rekeyed { certificate: issued.certificate, key: issued.key, previous: old.serial(), warnings })
    }

    /// The certificate whose names and subject the new one takes over. After an interrupted rekeying that is the one set
    /// aside: what was half done is put in order first, and the name is free then.
    fn to_be_rekeyed(&self, name: &CertName, now: OffsetDateTime) -> Result<Certificate, PkiError> {
        let pki = self.pki();
        let _lock = pki.lock()?;
        let mut index = pki.read_index()?;
        pki.recover(&mut index, now)?;
        if pki.certificate(name)?.is_none() {
            let set_aside = read_certificate(&pki.layout.certificate(Shelf::Renewed, name.as_str()))?;
            let good = |old: &Certificate| {
                old.is_for_server() && index.get(&old.serial()).is_some_and(|entry| !entry.is_revoked())
            };
            if let Some(old) = set_aside.filter(good) {
                return Ok(old);
            }
        }
        self.check_is_server(name)?;
        self.renewable(name, &index)
    }
}
