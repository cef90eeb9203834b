//! The authority at work: an opened folder together with its unlocked key. Issue, renew, publish the CRL.
//! What it is not: a policy on who gets a certificate; whoever holds the passphrase decides.

use time::{Duration, OffsetDateTime};
use x509_cert::{der::Decode, name::Name};

use crate::{
    builder::{self, Plan, failed},
    certificate::Certificate,
    crl,
    error::PkiError,
    key::{KeyKind, PrivateKey},
    key_file,
    limits::{MAX_FILE, SHORT_LIFE},
    name::CertName,
    pem,
    profile::{Profile, Rules},
    request::{AltNames, IssueRequest, Issued, KeySource, KeyStorage, Renewed},
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
}

impl Authority {
    pub(crate) fn new(pki: Pki, key: PrivateKey) -> Self {
        Self { pki, key }
    }

    /// The folder.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Issues a certificate and writes it down: `issued/`, `certs_by_serial/`, `reqs/`, `private/`, and last `index.txt`.
    /// If it is interrupted, the same call succeeds later.
    ///
    /// # Errors
    /// [`PkiError::BadRequest`], [`PkiError::NameTaken`], [`PkiError::InTheWay`], [`PkiError::TooLarge`],
    /// [`PkiError::CaExpired`], [`PkiError::ClockBeforeCa`], and those of the folder. Nothing was changed then.
    pub fn issue(&self, request: &IssueRequest, now: OffsetDateTime) -> Result<Issued, PkiError> {
        request.check()?;
        self.check_clock(now)?;
        let rules = request.profile.rules();
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
        if request.profile == Profile::Server {
            warnings.extend(key.kind().and_then(KeyKind::firmware_note).map(str::to_owned));
        }
        let public_key_der = key.public_key_der();
        let alt_names = match rules.alt_names {
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
            extensions: builder::leaf_extensions(rules, &public_key_der, self.pki.ca(), alt_names)?,
        };
        let certificate = builder::certificate(plan, self.pki.ca(), &self.key)?;
        check_size(rules, &request.name, &certificate, &mut warnings)?;
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

    /// Renews a server's certificate with the key it has, whatever that is and even if its file is encrypted
    /// (decision 13: fingerprints are over the key, so this cannot lock a device out). `alt_names` replaces the names;
    /// with `None` they are kept. The old certificate is kept in `renewed/` and stays valid until revoked or over.
    ///
    /// # Errors
    /// [`PkiError::UnknownName`], [`PkiError::BadRequest`] if it is not a server's, and as [`Authority::issue`].
    pub fn renew_server(
        &self,
        name: &CertName,
        alt_names: Option<&AltNames>,
        now: OffsetDateTime,
    ) -> Result<Renewed, PkiError> {
        self.check_clock(now)?;
        let rules = Profile::Server.rules();
        let mut warnings = Vec::new();
        let _lock = self.pki.lock()?;
        let mut index = self.pki.read_index()?;
        self.pki.recover(&mut index, now)?;
        let old = self.pki.certificate(name)?.ok_or_else(|| PkiError::UnknownName { name: name.clone() })?;
        self.check_renewable(name, &old, &index)?;
        let names = match alt_names {
            Some(names) => names.clone(),
            None => names_of(&old, &mut warnings),
        };
        names.check(name.as_str())?;
        let alt_names = Some(builder::alt_names(&names, name.as_str())?);
        let (not_before, not_after) = self.validity(rules, None, now, &mut warnings);
        let plan = Plan {
            serial: &fresh_serial(&index)?,
            subject: Name::from_der(old.subject_der())
                .map_err(failed("reading the old certificate's subject"))?,
            public_key_der: old.public_key_der(),
            not_before,
            not_after,
            extensions: builder::leaf_extensions(rules, old.public_key_der(), self.pki.ca(), alt_names)?,
        };
        let certificate = builder::certificate(plan, self.pki.ca(), &self.key)?;
        self.pki.set_aside(name, &old)?;
        self.pki.begin(name, &certificate.serial(), Unfinished::Keep)?;
        self.write_certificate(name, &certificate)?;
        self.pki.complete(&mut index, &certificate)?;
        Ok(Renewed { certificate, previous: old.serial(), warnings })
    }

    /// Writes `crl.pem` (and `crl.der` where Easy-RSA 3.2 keeps one): everything revoked, number one higher, `nextUpdate`
    /// 180 days ahead.
    ///
    /// # Errors
    /// [`PkiError::Index`], [`PkiError::Io`], [`PkiError::Crypto`].
    pub fn publish_crl(&self, now: OffsetDateTime) -> Result<(), PkiError> {
        let _lock = self.pki.lock()?;
        let index = self.pki.read_index()?;
        let number = self.next_crl_number()?;
        let der = crl::build(&index, number, self.pki.ca(), &self.key, now)?;
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

    fn check_clock(&self, now: OffsetDateTime) -> Result<(), PkiError> {
        let (not_before, not_after) = (self.pki.ca().not_before(), self.pki.ca().not_after());
        if now < not_before {
            return Err(PkiError::ClockBeforeCa { now, not_before });
        }
        if now >= not_after {
            return Err(PkiError::CaExpired { not_after });
        }
        Ok(())
    }

    fn validity(
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

    fn check_renewable(&self, name: &CertName, old: &Certificate, index: &Index) -> Result<(), PkiError> {
        let refuse =
            |problem: &str| Err(PkiError::BadRequest { name: name.to_string(), problem: problem.to_owned() });
        self.pki.refuse_foreign(name, old)?;
        match index.get(&old.serial()) {
            None => return refuse("index.txt does not know its certificate"),
            Some(entry) if entry.is_revoked() => return refuse("it is revoked; issue a new one"),
            Some(_) => {}
        }
        if !old.is_for_server() {
            return refuse("its certificate is not a server's (extendedKeyUsage lacks serverAuth)");
        }
        Ok(())
    }

    /// The named file first: a leftover is then found by its name.
    fn write_certificate(&self, name: &CertName, certificate: &Certificate) -> Result<(), PkiError> {
        let text = certificate.pem();
        files::write(&self.pki.layout.issued(name), text.as_bytes(), Mode::Public)?;
        files::write(&self.pki.layout.by_serial(&certificate.serial()), text.as_bytes(), Mode::Public)
    }
}

/// Never one that the index has, however unlikely.
fn fresh_serial(index: &Index) -> Result<Serial, PkiError> {
    loop {
        let serial = Serial::random()?;
        if index.get(&serial).is_none() {
            return Ok(serial);
        }
    }
}

fn check_size(
    rules: &Rules,
    name: &CertName,
    certificate: &Certificate,
    warnings: &mut Vec<String>,
) -> Result<(), PkiError> {
    let size = certificate.der().len();
    match rules.size {
        Some((_, most)) if size > most => Err(PkiError::TooLarge { name: name.clone(), size }),
        Some((many, most)) if size > many => {
            warnings.push(format!("it has {size} bytes; a device takes {most} at most"));
            Ok(())
        }
        _ => Ok(()),
    }
}

fn warn_of_others(index: &Index, name: &CertName, now: OffsetDateTime, warnings: &mut Vec<String>) {
    for entry in index.entries().filter(|entry| entry.is_valid_at(now)) {
        if entry.common_name().as_deref() == Some(name.as_str()) {
            warnings.push(format!(
                "an earlier certificate of {name} (serial {}) stays valid until revoked",
                entry.serial
            ));
        }
    }
}

/// The names of a server's certificate, brought to our form: a SAN with every address as text too.
fn names_of(old: &Certificate, warnings: &mut Vec<String>) -> AltNames {
    let is_address = |text: &&String| text.parse::<std::net::IpAddr>().is_ok();
    let mut ip = old.ip_addresses().to_vec();
    ip.extend(
        old.dns_names().iter().filter(is_address).filter_map(|text| text.parse::<std::net::IpAddr>().ok()),
    );
    let dns = old.dns_names().iter().filter(|text| !is_address(text)).cloned().collect();
    let names = AltNames { dns, ip };
    if names.is_empty() {
        warnings.push("the old certificate had no subjectAltName; the new one has its name there".into());
    }
    if old.other_alt_names() > 0 {
        warnings.push(format!(
            "{} alternative names that are neither host nor address were left out",
            old.other_alt_names()
        ));
    }
    names
}

/// Hex as OpenSSL reads it: an even number of digits.
fn even_hex(number: u128) -> String {
    let digits = format!("{number:X}");
    if digits.len() % 2 == 1 { format!("0{digits}") } else { digits }
}
