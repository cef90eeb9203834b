//! Many certificates for keys that are elsewhere, signed from their requests. One lock, one journal note, one sync and one
//! writing of `index.txt` for each chunk, where [`Authority::issue`] has all of them for each certificate.
//! What it is not: a maker of keys.

use std::collections::{HashMap, HashSet};

use time::OffsetDateTime;

use crate::{
    authority::{Authority, fresh_serial},
    builder::{self, Plan},
    bundle::{SigningRequest, made_kind},
    certificate::{Certificate, PublicKeyKind},
    error::PkiError,
    fitness::{self, Misfit},
    limits::{COMMON_NAME_MAX, DAYS_MAX},
    name_constraints,
    profile::{DeviceRole, Profile},
    request::IfTaken,
    store::{
        Pki,
        files::{self, Mode},
        index::{Index, IndexEntry},
        journal::Unfinished,
        make_way::Incoming,
        together::Together,
    },
};

/// Certificates written together. A kill loses the work of one chunk at most, which is signed again then; a larger one
/// would make the progress jumpy and save little.
pub const CHUNK: usize = 64;

/// A certificate wanted for a key that is elsewhere.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Subject, key and names.
    pub request: SigningRequest,
    /// Which profile applies.
    pub profile: Profile,
    /// Life in days from now; the profile's default when `None`.
    pub days: Option<u32>,
    /// What to do when the name has a valid certificate.
    pub if_taken: IfTaken,
}

/// A certificate of a batch.
#[derive(Debug, Clone)]
pub struct BatchIssued {
    /// The certificate.
    pub certificate: Certificate,
    /// Things to tell the user, as sentences.
    pub warnings: Vec<String>,
}

impl Pki {
    /// Refuses what [`Authority::issue_batch`] would refuse. Changes nothing.
    ///
    /// # Errors
    /// [`PkiError::BadRequest`], [`PkiError::NameTaken`], [`PkiError::InTheWay`].
    pub(crate) fn check_wanted(
        &self,
        index: &Index,
        wanted: &Wanted,
        now: OffsetDateTime,
    ) -> Result<(), PkiError> {
        let rules = wanted.profile.rules();
        let name = wanted.request.name();
        let refuse = |problem: String| Err(PkiError::BadRequest { name: name.to_string(), problem });
        if name.as_str().chars().count() > COMMON_NAME_MAX {
            return refuse(format!("a name has at most {COMMON_NAME_MAX} characters"));
        }
        let key = wanted.request.key();
        if let PublicKeyKind::Rsa(bits) = key
            && !(2048..=8192).contains(&bits)
        {
            return refuse(format!("an RSA key has 2048 to 8192 bits, not {bits}"));
        }
        if let Err(problem) = rules.check_key(made_kind(key)) {
            return refuse(format!("{problem}, not {key}"));
        }
        if !rules.takes_alt_names() && !wanted.request.alt_names().is_empty() {
            return refuse(format!("a {} certificate has no alternative names", rules.name));
        }
        wanted.request.alt_names().check(name.as_str())?;
        self.check_names(wanted)?;
        if let Some(days) = wanted.days
            && !(1..=DAYS_MAX).contains(&days)
        {
            return refuse(format!("its life is 1 to {DAYS_MAX} days, not {days}"));
        }
        let public_key_der = wanted.request.public_key_der();
        self.may_come(index, &Incoming { name, public_key_der, if_taken: wanted.if_taken }, now)
    }
}

impl Pki {
    /// Before anything of a batch is signed: a name that this CA, or one above it, may not certify.
    fn check_names(&self, wanted: &Wanted) -> Result<(), PkiError> {
        let request = &wanted.request;
        let alt_names = match wanted.profile.rules().wants_alt_names(request.alt_names()) {
            true => Some(builder::alt_names(request.alt_names(), request.name().as_str())?),
            false => None,
        };
        let alt_names = alt_names.as_ref().map(|names| names.extn_value.as_bytes());
        for ca in self.ca_chain()? {
            let names = name_constraints::would_be_outside(request.subject_der(), alt_names, &ca);
            if !names.is_empty() {
                return Err(PkiError::NamesNotAllowed { name: request.name().clone(), names });
            }
        }
        Ok(())
    }
}

impl Authority {
    /// Issues certificates for requests, [`CHUNK`] at a time; `done` hears how many are written down after each chunk.
    /// What a kill leaves is whole: the certificates of finished chunks are in the folder and in `index.txt`, and those
    /// of the chunk under way are entered by whoever opens the folder next.
    ///
    /// # Errors
    /// [`PkiError::ClockBeforeCa`], [`PkiError::CaExpired`], [`PkiError::TooLarge`] and those of
    /// [`PkiError::BadRequest`], [`PkiError::NameTaken`], [`PkiError::InTheWay`], before the chunk they are in is written.
    pub fn issue_batch(
        &self,
        wanted: &[Wanted],
        now: OffsetDateTime,
        mut done: impl FnMut(usize),
    ) -> Result<Vec<BatchIssued>, PkiError> {
        self.check_may_sign(now)?;
        let mut names = HashSet::new();
        if let Some(twice) = wanted.iter().find(|one| !names.insert(one.request.name().as_str())) {
            let name = twice.request.name().to_string();
            return Err(PkiError::BadRequest { name, problem: "it is wanted twice".into() });
        }
        let mut out = Vec::with_capacity(wanted.len());
        for chunk in wanted.chunks(CHUNK) {
            self.issue_chunk(chunk, now, &mut out)?;
            done(out.len());
        }
        Ok(out)
    }

    fn issue_chunk(
        &self,
        chunk: &[Wanted],
        now: OffsetDateTime,
        out: &mut Vec<BatchIssued>,
    ) -> Result<(), PkiError> {
        let pki = self.pki();
        let _lock = pki.lock()?;
        let mut index = pki.read_index()?;
        pki.recover(&mut index, now)?;
        let mut signed = Vec::with_capacity(chunk.len());
        for wanted in chunk {
            pki.check_wanted(&index, wanted, now)?;
            signed.push(self.sign(wanted, &index, now)?);
        }
        warn_of_others(&index, now, &mut signed);
        let mut old_keys = Vec::new();
        for wanted in chunk {
            let (name, public_key_der) = (wanted.request.name(), wanted.request.public_key_der());
            if pki.make_way(&index, &Incoming { name, public_key_der, if_taken: wanted.if_taken }, now)? {
                old_keys.push(pki.layout.key(name));
            }
        }
        let serials: Vec<_> = signed.iter().map(|issued| issued.certificate.serial()).collect();
        pki.begin_all(chunk.iter().map(|one| one.request.name()).zip(&serials), Unfinished::Keep)?;
        // Set aside by now; a key elsewhere takes its place.
        old_keys.iter().try_for_each(|key| files::remove(key))?;
        let mut together = Together::default();
        for (wanted, issued) in chunk.iter().zip(&signed) {
            let (name, text) = (wanted.request.name(), issued.certificate.pem());
            together.write(&pki.layout.request(name), wanted.request.pem().as_bytes(), Mode::Private)?;
            together.write(&pki.layout.issued(name), text.as_bytes(), Mode::Public)?;
            together.write(
                &pki.layout.by_serial(&issued.certificate.serial()),
                text.as_bytes(),
                Mode::Public,
            )?;
        }
        together.finish()?;
        let certificates: Vec<_> = signed.iter().map(|issued| &issued.certificate).collect();
        pki.complete_all(&mut index, &certificates)?;
        out.append(&mut signed);
        Ok(())
    }

    fn sign(&self, wanted: &Wanted, index: &Index, now: OffsetDateTime) -> Result<BatchIssued, PkiError> {
        let rules = wanted.profile.rules();
        let request = &wanted.request;
        let mut warnings = Vec::new();
        let alt_names = match rules.wants_alt_names(request.alt_names()) {
            true => Some(builder::alt_names(request.alt_names(), request.name().as_str())?),
            false => None,
        };
        let (not_before, not_after) = self.validity(rules, wanted.days, now, &mut warnings);
        let ca = self.pki().ca();
        let plan = Plan {
            serial: &fresh_serial(index)?,
            subject: request.subject()?,
            public_key_der: request.public_key_der(),
            not_before,
            not_after,
            extensions: self.leaf_extensions(rules, request.public_key_der(), alt_names)?,
        };
        let certificate = builder::certificate(plan, ca, self.key())?;
        self.check_made(rules, request.name(), &certificate, &mut warnings)?;
        if rules.device == DeviceRole::Server {
            warnings.extend(fitness::as_server(&certificate, ca).iter().map(Misfit::to_string));
        }
        Ok(BatchIssued { certificate, warnings })
    }
}

/// As a single issue does, with one look at the index for all.
fn warn_of_others(index: &Index, now: OffsetDateTime, signed: &mut [BatchIssued]) {
    let mut others: HashMap<String, Vec<&IndexEntry>> = HashMap::new();
    for entry in index.entries().filter(|entry| entry.is_valid_at(now)) {
        if let Some(name) = entry.common_name() {
            others.entry(name).or_default().push(entry);
        }
    }
    for issued in signed {
        let Some(name) = issued.certificate.subject_cn() else { continue };
        for other in others.get(name).into_iter().flatten() {
            let serial = &other.serial;
            issued.warnings.push(format!(
                "an earlier certificate of {name} (serial {serial}) stays valid until revoked"
            ));
        }
    }
}
