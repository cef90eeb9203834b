//! A server with a new key: an act of its own, because every device that pinned the old key refuses the new one
//! (decision 13). What it is not: a rollover; staging the new fingerprint on the devices comes before it.

use time::OffsetDateTime;

use crate::{
    authority::{Authority, fresh_serial, warn_of_others},
    builder::{self, Plan},
    certificate::Certificate,
    error::PkiError,
    fitness::Devices,
    key::{KeyKind, PrivateKey},
    key_file,
    name::CertName,
    pem,
    profile::Profile,
    request::{AltNames, IfTaken, IssueRequest, KeySource, KeyStorage},
    serial::Serial,
    store::{
        Pki,
        files::{self, Mode},
        journal::Unfinished,
    },
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
    /// kept in `renewed/`. `alt_names` replaces the names; with `None` they are kept. The new key waits in a file of its
    /// own until its certificate is there: at every moment [`Pki::server_key_pem`] gives the key of the certificate in
    /// use, and what an interruption left is finished by the next act.
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
        self.check_may_sign(now)?;
        self.to_be_rekeyed(name, now)?;
        // Slow, so before the lock.
        self.rekey_server_with(name, alt_names, PrivateKey::generate(kind)?, devices, now)
    }

    /// [`Authority::rekey_server`] with a key that exists: one that devices were told of before.
    ///
    /// # Errors
    /// As [`Authority::rekey_server`].
    pub fn rekey_server_with(
        &self,
        name: &CertName,
        alt_names: Option<&AltNames>,
        key: PrivateKey,
        devices: Option<Devices>,
        now: OffsetDateTime,
    ) -> Result<Rekeyed, PkiError> {
        self.check_may_sign(now)?;
        let old = self.to_be_rekeyed(name, now)?;
        let mut warnings = Vec::new();
        let names = match alt_names {
            Some(names) => names.clone(),
            None => super::names_of(&old, true, &mut warnings),
        };
        let request = IssueRequest {
            alt_names: names,
            subject: crate::subject::Subject::SameAs(old.subject_der().to_vec()),
            key: KeySource::Existing(key.clone()),
            if_taken: IfTaken::Supersede,
            devices,
            ..IssueRequest::new(Profile::Server, name.clone(), KeyStorage::Plain)
        };
        request.check()?;
        let certificate = self.exchange_pair(&request, &key, &old, now, &mut warnings)?;
        Ok(Rekeyed { certificate, key, previous: old.serial(), warnings })
    }

    fn exchange_pair(
        &self,
        request: &IssueRequest,
        key: &PrivateKey,
        old: &Certificate,
        now: OffsetDateTime,
        warnings: &mut Vec<String>,
    ) -> Result<Certificate, PkiError> {
        let (pki, name, rules) = (self.pki(), &request.name, request.profile.rules());
        let subject = request.subject.to_name(name.as_str())?;
        let public_key_der = key.public_key_der();
        let alt_names = Some(builder::alt_names(&request.alt_names, name.as_str())?);
        let signing_request = builder::request(subject.clone(), key, alt_names.clone())?;
        let (not_before, not_after) = self.validity(rules, request.days, now, warnings);

        let _lock = pki.lock()?;
        let mut index = pki.read_index()?;
        pki.recover(&mut index, now)?;
        let there = pki.renewable(name, &index)?;
        if there.serial() != old.serial() {
            return Err(PkiError::ChangedMeanwhile { path: pki.layout.issued(name) });
        }
        let plan = Plan {
            serial: &fresh_serial(&index)?,
            subject,
            public_key_der: &public_key_der,
            not_before,
            not_after,
            extensions: self.leaf_extensions(rules, &public_key_der, alt_names)?,
        };
        let certificate = builder::certificate(plan, pki.ca(), self.key())?;
        self.check_made(rules, name, &certificate, warnings)?;
        self.check_devices(request, &certificate, warnings)?;
        warn_of_others(&index, name, now, warnings);

        pki.set_aside(name, old)?;
        pki.set_aside_key(name)?;
        pki.begin(name, &certificate.serial(), Unfinished::Keep)?;
        files::write(&pki.layout.waiting_key(name), key.pkcs8_pem().as_bytes(), Mode::Private)?;
        self.write_certificate(name, &certificate)?;
        let signing_request = pem::encode("CERTIFICATE REQUEST", &signing_request);
        files::write(&pki.layout.request(name), signing_request.as_bytes(), Mode::Private)?;
        pki.settle_key(name)?;
        pki.complete(&mut index, &certificate)?;
        Ok(certificate)
    }

    /// The certificate whose names and subject the new one takes over; what was half done is put in order first.
    fn to_be_rekeyed(&self, name: &CertName, now: OffsetDateTime) -> Result<Certificate, PkiError> {
        let pki = self.pki();
        let _lock = pki.lock()?;
        let mut index = pki.read_index()?;
        pki.recover(&mut index, now)?;
        self.check_is_server(name)?;
        pki.renewable(name, &index)
    }
}

impl Pki {
    /// Puts a key that waited for its certificate in its place, or throws it away where its certificate never came.
    pub(crate) fn settle_key(&self, name: &CertName) -> Result<(), PkiError> {
        let waiting = self.layout.waiting_key(name);
        if !waiting.exists() {
            return Ok(());
        }
        match self.waiting_key(name)? {
            Some(_) => files::replace(&waiting, &self.layout.key(name)),
            None => files::remove(&waiting),
        }
    }

    /// The key that waits, if it is the key of the certificate in use.
    pub(crate) fn waiting_key(&self, name: &CertName) -> Result<Option<PrivateKey>, PkiError> {
        let waiting = self.layout.waiting_key(name);
        if !waiting.exists() {
            return Ok(None);
        }
        // One that cannot be read was never written whole.
        let Ok(key) = key_file::read(&waiting, None) else { return Ok(None) };
        let certificate = self.issued(name)?;
        Ok(certificate.filter(|it| it.public_key_der() == key.public_key_der()).map(|_| key))
    }
}
