//! The authority at work: an opened folder together with its unlocked key. Issue, publish the CRL; `life` has renewals.
//! What it is not: a policy on who gets a certificate; whoever holds the passphrase decides.

use time::{Duration, OffsetDateTime};
use x509_cert::ext::Extension;

use crate::{
    builder::{self, Plan},
    certificate::Certificate,
    crl,
    error::PkiError,
    fitness::{self, Misfit},
    key::PrivateKey,
    key_file,
    limits::{MAX_FILE, SHORT_LIFE},
    name::CertName,
    name_constraints, pem,
    profile::{DeviceRole, Rules},
    request::{IssueRequest, Issued, KeySource, KeyStorage},
    serial::Serial,
    store::{
        Pki,
        files::{self, Mode},
        index::Index,
        journal::Unfinished,
        make_way::Incoming,
    },
};

/// Holds the CA's key; wiped on drop. The broker never has one (decision 14).
#[derive(Debug)]
pub struct Authority {
    pki: Pki,
    key: PrivateKey,
    crl_url: Option<String>,
}

impl Authority {
    pub(crate) fn new(pki: Pki, key: PrivateKey) -> Self {
        Self { pki, key, crl_url: None }
    }

    /// From here on certificates say where the revocation list is to be had (cRLDistributionPoints, RFC 5280 §4.2.1.13),
    /// except those of devices, which have no room for it and check no list.
    ///
    /// # Errors
    /// [`PkiError::BadRequest`] for what is no `http://` address: a list is signed, and whoever checks a certificate must
    /// not need one to fetch it.
    pub fn naming_crl(mut self, url: Option<String>) -> Result<Self, PkiError> {
        if let Some(url) = &url {
            builder::crl_points(url)?;
        }
        self.crl_url = url;
        Ok(self)
    }

    /// The extensions of a certificate of this profile.
    pub(crate) fn leaf_extensions(
        &self,
        rules: &Rules,
        public_key_der: &[u8],
        alt_names: Option<Extension>,
    ) -> Result<Vec<Extension>, PkiError> {
        let mut out = builder::leaf_extensions(rules, public_key_der, self.pki.ca(), alt_names)?;
        let url = rules.crl_url.as_ref().or(self.crl_url.as_ref());
        if let Some(url) = url.filter(|_| rules.device != DeviceRole::Identity) {
            out.push(builder::crl_points(url)?);
        }
        Ok(out)
    }

    /// The folder.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    pub(crate) fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Issues a certificate and writes it down: `issued/`, `certs_by_serial/`, `reqs/`, `private/`, and last `index.txt`.
    /// If it is interrupted, the same call succeeds later.
    ///
    /// # Errors
    /// [`PkiError::BadRequest`], [`PkiError::NameTaken`], [`PkiError::InTheWay`], [`PkiError::TooLarge`],
    /// [`PkiError::CaExpired`], [`PkiError::ClockBeforeCa`], and those of the folder. Nothing was changed then.
    pub fn issue(&self, request: &IssueRequest, now: OffsetDateTime) -> Result<Issued, PkiError> {
        request.check()?;
        self.check_may_sign(now)?;
        let rules = request.profile.rules();
        if rules.ca && self.pki.ca().extensions.path_length == Some(0) {
            let problem = "the CA's own certificate allows no CA below it (pathlen:0)".into();
            return Err(PkiError::BadRequest { name: request.name.to_string(), problem });
        }
        let mut warnings = Vec::new();
        let subject = request.subject.to_name(request.name.as_str())?;
        // Slow work (making and encrypting keys) is done before the lock is taken.
        let key = match &request.key {
            KeySource::Generate(kind) => PrivateKey::generate(*kind)?,
            KeySource::Existing(key) => key.clone(),
        };
        let key_text = match &request.store_key {
            KeyStorage::Encrypted(pass) => Some(key_file::encrypt(&key, pass)?),
            KeyStorage::Plain => Some(key.pkcs8_pem()),
            KeyStorage::Discard => None,
        };
        let public_key_der = key.public_key_der();
        let alt_names = match rules.wants_alt_names(&request.alt_names) {
            true => Some(builder::alt_names(&request.alt_names, request.name.as_str())?),
            false => None,
        };
        let signing_request = builder::request(subject.clone(), &key, alt_names.clone())?;
        let (not_before, not_after) = self.validity(rules, request.days, now, &mut warnings);

        let _lock = self.pki.lock()?;
        let mut index = self.pki.read_index()?;
        self.pki.recover(&mut index, now)?;
        let plan = Plan {
            serial: &fresh_serial(&index)?,
            subject,
            public_key_der: &public_key_der,
            not_before,
            not_after,
            extensions: self.leaf_extensions(rules, &public_key_der, alt_names)?,
        };
        let certificate = builder::certificate(plan, self.pki.ca(), &self.key)?;
        self.check_made(rules, &request.name, &certificate, &mut warnings)?;
        self.check_devices(request, &certificate, &mut warnings)?;
        let incoming =
            Incoming { name: &request.name, public_key_der: &public_key_der, if_taken: request.if_taken };
        let old_key_there = self.pki.make_way(&index, &incoming, now)?;
        warn_of_others(&index, &request.name, now, &mut warnings);

        self.pki.begin(&request.name, &certificate.serial(), Unfinished::Revoke)?;
        self.write_certificate(&request.name, &certificate)?;
        let key_path = self.pki.layout.key(&request.name);
        if old_key_there {
            // Set aside by now. Gone before the new request is there, so that request and key never contradict.
            files::remove(&key_path)?;
        }
        let signing_request = pem::encode("CERTIFICATE REQUEST", &signing_request);
        files::write(&self.pki.layout.request(&request.name), signing_request.as_bytes(), Mode::Private)?;
        if let Some(text) = key_text {
            files::write(&key_path, text.as_bytes(), Mode::Private)?;
        }
        self.pki.complete(&mut index, &certificate)?;
        Ok(Issued { certificate, key, warnings })
    }

    /// Writes `crl.pem` (and `crl.der` where Easy-RSA 3.2 keeps one): everything revoked, number one higher, `nextUpdate`
    /// as far ahead as `EASYRSA_CRL_DAYS` of `vars` says, else 180 days.
    ///
    /// # Errors
    /// [`PkiError::CaMayNot`], [`PkiError::ClockBeforeCa`], [`PkiError::Index`], [`PkiError::Io`], [`PkiError::Crypto`].
    pub fn publish_crl(&self, now: OffsetDateTime) -> Result<(), PkiError> {
        self.check_may_list()?;
        // It would be over once the clock is right, and shut everybody out of servers that read it.
        self.check_begun(now)?;
        let _lock = self.pki.lock()?;
        let index = self.pki.read_index()?;
        let number = self.next_crl_number()?;
        let days = self.pki.vars()?.and_then(|vars| vars.crl_days);
        let der = crl::build(&index, number, self.pki.ca(), &self.key, days, now)?;
        // First the counter: if this is interrupted, a number is skipped, never used twice.
        let layout = &self.pki.layout;
        files::write(
            &layout.crl_number(),
            format!("{}\n", even_hex(number.saturating_add(1))).as_bytes(),
            Mode::Keep,
        )?;
        if layout.crl_der().exists() {
            files::write(&layout.crl_der(), &der, Mode::Public)?;
        }
        files::write(&layout.crl(), pem::encode("X509 CRL", &der).as_bytes(), Mode::Public)
    }

    /// OpenSSL's `crlnumber` holds the next number; Easy-RSA's own configuration writes CRLs without any.
    fn next_crl_number(&self) -> Result<u128, PkiError> {
        let counter = files::read_if_there(&self.pki.layout.crl_number(), MAX_FILE)?;
        let counter =
            counter.and_then(|text| u128::from_str_radix(std::str::from_utf8(&text).ok()?.trim(), 16).ok());
        let published = self.pki.read_crl()?.and_then(|crl| crl.number);
        Ok(counter.unwrap_or(1).max(published.map_or(1, |number| number.saturating_add(1))))
    }

    /// Whether what it signs now would be accepted.
    pub(crate) fn check_may_sign(&self, now: OffsetDateTime) -> Result<(), PkiError> {
        self.check_clock(now)?;
        match self.pki.ca().extensions.may_sign {
            Some((false, _)) => Err(PkiError::CaMayNot { what: "certificates" }),
            _ => Ok(()),
        }
    }

    /// Whether its revocation list would be accepted: whoever reads one that is not refuses everybody.
    pub(crate) fn check_may_list(&self) -> Result<(), PkiError> {
        match self.pki.ca().extensions.may_sign {
            Some((_, false)) => Err(PkiError::CaMayNot { what: "revocation lists" }),
            _ => Ok(()),
        }
    }

    fn check_clock(&self, now: OffsetDateTime) -> Result<(), PkiError> {
        self.check_begun(now)?;
        let not_after = self.pki.ca().not_after();
        if now >= not_after {
            return Err(PkiError::CaExpired { not_after });
        }
        Ok(())
    }

    fn check_begun(&self, now: OffsetDateTime) -> Result<(), PkiError> {
        let not_before = self.pki.ca().not_before();
        if now < not_before {
            return Err(PkiError::ClockBeforeCa { now, not_before });
        }
        Ok(())
    }

    pub(crate) fn validity(
        &self,
        rules: &Rules,
        days: Option<u32>,
        now: OffsetDateTime,
        warnings: &mut Vec<String>,
    ) -> (OffsetDateTime, OffsetDateTime) {
        let ca = self.pki.ca();
        let not_before = rules
            .backdate
            .map_or_else(|| ca.not_before(), |back| now.saturating_sub(back).max(ca.not_before()));
        let wanted = now.checked_add(Duration::days(days.unwrap_or(rules.days).into()));
        let not_after = wanted.map_or_else(|| ca.not_after(), |wanted| wanted.min(ca.not_after()));
        let cut = wanted.is_none_or(|wanted| wanted > not_after);
        // The usual life is often cut in the CA's later years; it matters when one was asked for, or when little is left.
        if cut && (days.is_some() || not_after - now < SHORT_LIFE) {
            warnings
                .push(format!("it ends with the CA on {}, earlier than its usual life", not_after.date()));
        }
        (not_before, not_after)
    }

    /// What a certificate just signed, and not yet written, must not be: larger than a device takes, or for a name that this
    /// CA or one above it may not certify.
    pub(crate) fn check_made(
        &self,
        rules: &Rules,
        name: &CertName,
        certificate: &Certificate,
        warnings: &mut Vec<String>,
    ) -> Result<(), PkiError> {
        for ca in self.pki.ca_chain()? {
            let names = name_constraints::outside(certificate, &ca);
            if !names.is_empty() {
                return Err(PkiError::NamesNotAllowed { name: name.clone(), names });
            }
        }
        let size = certificate.der().len();
        match rules.size {
            Some((_, most)) if size > most => return Err(PkiError::TooLarge { name: name.clone(), size }),
            Some((many, most)) if size > many => {
                warnings.push(format!("it has {size} bytes; a device takes {most} at most"));
            }
            _ => {}
        }
        Ok(())
    }

    /// What the devices could not check is refused if the request names them, else told.
    pub(crate) fn check_devices(
        &self,
        request: &IssueRequest,
        certificate: &Certificate,
        warnings: &mut Vec<String>,
    ) -> Result<(), PkiError> {
        if request.profile.rules().device != DeviceRole::Server {
            return Ok(());
        }
        let misfits = fitness::as_server(certificate, self.pki.ca());
        let Some(devices) = request.devices else {
            warnings.extend(misfits.iter().map(Misfit::to_string));
            return Ok(());
        };
        let (bad, other): (Vec<_>, Vec<_>) =
            misfits.into_iter().partition(|misfit| devices.include(misfit.who));
        warnings.extend(other.iter().map(Misfit::to_string));
        if bad.is_empty() {
            return Ok(());
        }
        let misfits = bad.iter().map(Misfit::to_string).collect();
        Err(PkiError::UnfitForDevices { name: request.name.clone(), misfits })
    }

    /// The named file first: a leftover is then found by its name.
    pub(crate) fn write_certificate(
        &self,
        name: &CertName,
        certificate: &Certificate,
    ) -> Result<(), PkiError> {
        let text = certificate.pem();
        files::write(&self.pki.layout.issued(name), text.as_bytes(), Mode::Public)?;
        files::write(&self.pki.layout.by_serial(&certificate.serial()), text.as_bytes(), Mode::Public)
    }
}

/// Never one that the index has, however unlikely.
pub(crate) fn fresh_serial(index: &Index) -> Result<Serial, PkiError> {
    loop {
        let serial = Serial::random()?;
        if index.get(&serial).is_none() {
            return Ok(serial);
        }
    }
}

pub(crate) fn warn_of_others(
    index: &Index,
    name: &CertName,
    now: OffsetDateTime,
    warnings: &mut Vec<String>,
) {
    for entry in index.entries().filter(|entry| entry.is_valid_at(now)) {
        if entry.common_name().as_deref() == Some(name.as_str()) {
            warnings.push(format!(
                "an earlier certificate of {name} (serial {}) stays valid until revoked",
                entry.serial
            ));
        }
    }
}

/// Hex as OpenSSL reads it: an even number of digits.
fn even_hex(number: u128) -> String {
    let digits = format!("{number:X}");
    if digits.len() % 2 == 1 { format!("0{digits}") } else { digits }
}
