//! On the server's machine again: the answer is held against the request that was made here, and put where it belongs.
//!
//! The folder becomes one that Quoll and OpenSSL can use for everything but signing: `ca.crt`, `index.txt` with what was
//! accepted and all that the CA revoked, `issued/`, `certs_by_serial/`, `crl.pem`. The CA's key is not in it.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};

use time::OffsetDateTime;

use super::{
    archive,
    books::{self, AskedRecord, Book, SignedCrl},
    error::BundleError,
    manifest::{Answer, CaMark, Content, Kind, Manifest, stamp},
    phrase::Phrase,
    sign::{Asked, RequestBundle},
    verify,
};
use crate::{
    certificate::Certificate,
    error::{Obstacle, PkiError},
    key_file,
    limits::MAX_INDEX,
    name::CertName,
    profile::Profile,
    request::{AltNames, IfTaken},
    serial::Serial,
    store::{
        EASYRSA_FILES, Pki,
        files::{self, Mode},
        index::{EntryState, IndexEntry},
        journal::Unfinished,
        layout::{FOLDERS, Layout},
        make_way::Incoming,
        read_certificate,
        together::Together,
    },
};

/// An answer as read: the CA whose certificate is inside signed the manifest, every certificate and the CRL. Whether it
/// is our CA is [`Acceptance::prepare`]'s question.
#[derive(Debug)]
pub struct AnswerBundle {
    manifest: Manifest,
    ca: Certificate,
    certificates: BTreeMap<String, Certificate>,
    crl: SignedCrl,
    revoked: Vec<IndexEntry>,
}

/// An answer that fits, and what will be done with it.
#[derive(Debug)]
pub struct Acceptance {
    dir: PathBuf,
    answer: AnswerBundle,
    asked: Vec<Asked>,
    record: AskedRecord,
    id: String,
    ca: CaChange,
}

/// What becomes of `ca.crt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaChange {
    /// There was none: a person has to say that this is the right CA.
    First,
    /// It stays as it is.
    Same,
    /// The same name and key with another end: it is replaced, the old one is kept in `renewed/`.
    Extended,
}

/// A certificate that came.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Its common name.
    pub name: CertName,
    /// The name of its profile.
    pub profile: String,
    /// The certificate.
    pub certificate: Certificate,
    /// Serial number of the one it replaces.
    pub replaces: Option<Serial>,
    /// What was noted when it was asked for.
    pub note: Option<String>,
}

/// What was done.
#[derive(Debug)]
pub struct Outcome {
    /// The folder.
    pub pki: Pki,
    /// The certificates, in the order they were asked for.
    pub accepted: Vec<Accepted>,
    /// Serial numbers that are revoked here now and were not before.
    pub revoked: Vec<Serial>,
    /// Whether `crl.pem` was replaced; false if the one there is newer.
    pub crl_is_new: bool,
}

impl AnswerBundle {
    /// Reads a `.quollcert` file.
    ///
    /// # Errors
    /// What is wrong with the file; [`BundleError::BadSignature`].
    pub fn read(bytes: &[u8]) -> Result<Self, BundleError> {
        let mut unpacked = archive::unpack(bytes, Kind::Answer)?;
        let damaged = |member: &str| BundleError::Damaged { member: member.to_owned() };
        let ca = Certificate::from_pem(&unpacked.take("ca.crt")?).map_err(|_| damaged("ca.crt"))?;
        let ca_name = ca.subject_cn().unwrap_or_default().to_owned();
        let signature = unpacked.signature.take().unwrap_or_default();
        if !ca.is_ca() || !verify::detached_holds(ca.public_key_der(), &unpacked.manifest_bytes, &signature) {
            return Err(BundleError::BadSignature { ca: ca_name });
        }
        // From here on the manifest is the CA's word; what follows guards against a CA that errs.
        let manifest = unpacked.manifest.clone();
        let Content::Answer(answer) = &manifest.content else {
            return Err(BundleError::NotABundle { problem: "manifest.json: it is no answer".into() });
        };
        let mut certificates = BTreeMap::new();
        for mark in &answer.certificates {
            let bad = |problem: &str| BundleError::BadCertificate {
                name: mark.name.clone(),
                problem: problem.into(),
            };
            let certificate = Certificate::from_pem(&unpacked.take(&mark.file)?)
                .map_err(|error| bad(&error.to_string()))?;
            if !verify::is_issued_by(&certificate, &ca) {
                return Err(bad("the CA did not sign it"));
            }
            if certificate.subject_cn() != Some(&mark.name) || certificate.serial().to_string() != mark.serial
            {
                return Err(bad("the manifest says another name or serial number"));
            }
            if certificates.insert(mark.name.clone(), certificate).is_some() {
                return Err(bad("it is there twice"));
            }
        }
        let crl = SignedCrl::read(&unpacked.take("crl.pem")?, &ca).ok_or_else(|| damaged("crl.pem"))?;
        let revoked =
            books::read_revoked(&unpacked.take("revoked.txt")?).ok_or_else(|| damaged("revoked.txt"))?;
        unpacked.end()?;
        Ok(Self { manifest, ca, certificates, crl, revoked })
    }

    /// The CA that answers.
    #[must_use]
    pub fn ca(&self) -> &Certificate {
        &self.ca
    }

    /// The CA's comparison phrase: the beginning of its certificate's SHA-256, as `openssl x509 -fingerprint -sha256`
    /// shows it.
    #[must_use]
    pub fn ca_phrase(&self) -> Phrase {
        Phrase::of(self.ca.der())
    }

    fn answer(&self) -> &Answer {
        match &self.manifest.content {
            Content::Answer(answer) => answer,
            Content::Request(_) | Content::Anchors(_) => unreachable!("read() took only an answer"),
        }
    }
}

impl Acceptance {
    /// Holds the answer against the request that was made in the folder at `dir`. Nothing is changed.
    ///
    /// # Errors
    /// [`BundleError::NotAskedHere`], [`BundleError::AlreadyAccepted`], [`BundleError::WrongCa`],
    /// [`BundleError::BadCertificate`], [`BundleError::NoKey`], [`PkiError::InTheWay`].
    pub fn prepare(dir: &Path, answer: AnswerBundle, now: OffsetDateTime) -> Result<Self, BundleError> {
        let layout = Layout::new(dir);
        let id = answer.answer().request.clone();
        let book = Book::asked(&layout);
        let not_here = || BundleError::NotAskedHere { id: id.clone() };
        // The id becomes a file name; one of another form was never ours.
        let ours = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let record =
            ours.then(|| book.read::<AskedRecord>(&id)).transpose()?.flatten().ok_or_else(not_here)?;
        if record.manifest_sha256 != answer.answer().request_sha256 {
            return Err(BundleError::OtherRequest { id, what: "made" });
        }
        let ca = ca_change(&layout, &answer.ca)?;
        if let Some(at) = &record.accepted {
            return Err(BundleError::AlreadyAccepted { at: books::at(at) });
        }
        let request = RequestBundle::read(&book.read_copy(&id)?.ok_or_else(not_here)?)?;
        if let Some((name, _)) = answer
            .certificates
            .iter()
            .find(|(name, _)| !request.asked.iter().any(|wanted| wanted.request.name().as_str() == *name))
        {
            let problem = "nobody asked for it".to_owned();
            return Err(BundleError::BadCertificate { name: name.clone(), problem });
        }
        let pki = if ca == CaChange::First { None } else { Some(Pki::open(dir)?) };
        for wanted in &request.asked {
            let name = wanted.request.name();
            let Some(certificate) = answer.certificates.get(name.as_str()) else {
                let problem = "it is missing".to_owned();
                return Err(BundleError::BadCertificate { name: name.to_string(), problem });
            };
            check_certificate(wanted, certificate, now)?;
            if let Some(pki) = &pki
                && wanted.renew
                && pki.certificate(name)?.is_none()
                && was_revoked(pki, name)?
            {
                let problem = "it was revoked here after the request was made".to_owned();
                return Err(BundleError::BadCertificate { name: name.to_string(), problem });
            }
            check_key(&layout, name, certificate)?;
            check_way(&layout, pki.as_ref(), wanted, certificate, now)?;
        }
        Ok(Self { dir: dir.to_owned(), answer, asked: request.asked, record, id, ca })
    }

    /// The request's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What becomes of `ca.crt`.
    #[must_use]
    pub fn ca_change(&self) -> CaChange {
        self.ca
    }

    /// The CA's comparison phrase.
    #[must_use]
    pub fn ca_phrase(&self) -> Phrase {
        self.answer.ca_phrase()
    }

    /// The CA that answers.
    #[must_use]
    pub fn ca(&self) -> &Certificate {
        &self.answer.ca
    }

    /// Names and profiles of what will come, and what was noted when it was asked for.
    pub fn coming(&self) -> impl Iterator<Item = (&CertName, &str, Option<&str>)> {
        self.asked.iter().map(|wanted| {
            let name = wanted.request.name();
            (name, wanted.profile.as_str(), self.record.notes.get(name.as_str()).map(String::as_str))
        })
    }

    /// Puts all in its place. If it is killed, the same again does the rest; [`Acceptance::finish`] ends it.
    ///
    /// # Errors
    /// [`PkiError::Io`], [`PkiError::Index`].
    pub fn carry_out(&self, now: OffsetDateTime) -> Result<Outcome, BundleError> {
        let layout = Layout::new(&self.dir);
        let lock = files::lock(&self.dir)?;
        self.lay_out(&layout)?;
        let pki = Pki::open(&self.dir)?;
        let mut index = pki.read_index()?;
        pki.recover(&mut index, now)?;

        let mut accepted = Vec::with_capacity(self.asked.len());
        let mut fresh: Vec<(&CertName, &Certificate)> = Vec::new();
        for wanted in &self.asked {
            let name = wanted.request.name();
            let certificate = &self.answer.certificates[name.as_str()];
            let there = pki.certificate(name)?.filter(|there| there != certificate);
            if index.get(&certificate.serial()).is_none() {
                if let Some(there) = &there {
                    pki.set_aside(name, there)?;
                }
                fresh.push((name, certificate));
            }
            accepted.push(Accepted {
                name: name.clone(),
                profile: wanted.profile.clone(),
                certificate: certificate.clone(),
                replaces: there.map(|there| there.serial()),
                note: self.record.notes.get(name.as_str()).cloned(),
            });
        }
        let serials: Vec<_> = fresh.iter().map(|(_, certificate)| certificate.serial()).collect();
        pki.begin_all(fresh.iter().map(|(name, _)| *name).zip(&serials), Unfinished::Keep)?;
        let mut together = Together::default();
        for (name, certificate) in &fresh {
            let text = certificate.pem();
            together.write(&layout.issued(name), text.as_bytes(), Mode::Public)?;
            together.write(&layout.by_serial(&certificate.serial()), text.as_bytes(), Mode::Public)?;
        }
        together.finish()?;
        let certificates: Vec<_> = fresh.iter().map(|(_, certificate)| *certificate).collect();
        pki.complete_all(&mut index, &certificates)?;
        drop(index);
        let revoked = self.take_revocations(&pki)?;
        let lifted = self.lifted_holds(&pki)?;
        drop(lock);
        for serial in lifted {
            pki.release(&serial, now)?;
        }
        let _lock = files::lock(&self.dir)?;
        let crl_is_new = self.take_crl(&pki)?;
        Ok(Outcome { pki, accepted, revoked, crl_is_new })
    }

    /// Writes down that the answer is in force everywhere; from here on it is refused.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub fn finish(self, now: OffsetDateTime) -> Result<(), BundleError> {
        let record = AskedRecord { accepted: Some(stamp(now)?), ..self.record };
        Book::asked(&Layout::new(&self.dir)).write(&self.id, &record)
    }

    /// Makes a folder of what the request left, `ca.crt` last: it is what makes it one.
    fn lay_out(&self, layout: &Layout) -> Result<(), BundleError> {
        for folder in FOLDERS {
            files::make_folder(&self.dir.join(folder))?;
        }
        for (file, content) in EASYRSA_FILES {
            let path = self.dir.join(file);
            if !path.exists() {
                files::write(&path, content.as_bytes(), Mode::Private)?;
            }
        }
        if !layout.index().exists() {
            files::write(&layout.index(), b"", Mode::Private)?;
            files::write(&layout.index_attributes(), b"unique_subject = no\n", Mode::Private)?;
            files::write(&layout.serial(), b"01\n", Mode::Private)?;
        }
        if self.ca == CaChange::Extended
            && let Some(old) = read_certificate(&layout.ca_certificate())?
        {
            let kept = self.dir.join("renewed").join(format!("ca-{}.crt", old.serial()));
            files::write(&kept, old.pem().as_bytes(), Mode::Public)?;
        }
        if self.ca != CaChange::Same {
            files::write(&layout.ca_certificate(), self.answer.ca.pem().as_bytes(), Mode::Public)?;
        }
        Ok(())
    }

    /// Everything that the CA revoked is revoked here, whoever held it.
    fn take_revocations(&self, pki: &Pki) -> Result<Vec<Serial>, BundleError> {
        let mut index = pki.read_index()?;
        let is_old = pki.read_crl()?.is_some_and(|ours| ours.number > self.answer.crl.number);
        let mut news = Vec::new();
        for entry in &self.answer.revoked {
            let EntryState::Revoked { at, reason } = entry.state else { continue };
            // A hold may have been lifted since; a revocation never is.
            if is_old && entry.state.is_on_hold() {
                continue;
            }
            match index.get(&entry.serial) {
                Some(known) if known.is_revoked() => continue,
                Some(_) => {
                    index.revoke(&entry.serial, at, reason);
                }
                None => index.push(entry.clone()),
            }
            news.push(entry.serial.clone());
        }
        if !news.is_empty() {
            pki.write_index(&mut index)?;
        }
        let theirs: HashSet<_> = self.answer.revoked.iter().map(|entry| &entry.serial).collect();
        // Also those that an interruption left between index and files.
        for entry in index.entries().filter(|entry| entry.is_revoked()) {
            if theirs.contains(&entry.serial) && pki.layout.by_serial(&entry.serial).exists() {
                pki.retire(&entry.serial, entry.common_name().as_deref())?;
            }
        }
        Ok(news)
    }

    /// Holds that our CRL has and the new one has not. One that was put on here and has not travelled yet is in neither.
    fn lifted_holds(&self, pki: &Pki) -> Result<Vec<Serial>, BundleError> {
        let Some(old) = pki.read_crl()?.filter(|old| old.number < self.answer.crl.number) else {
            return Ok(Vec::new());
        };
        let held = pki.entries()?.into_iter().filter(|entry| entry.state.is_on_hold());
        let revoked = |serial: &Serial| self.answer.revoked.iter().any(|entry| entry.serial == *serial);
        let lifted = held.filter(|entry| old.serials.contains(&entry.serial) && !revoked(&entry.serial));
        Ok(lifted.map(|entry| entry.serial).collect())
    }

    /// Unless the one there is newer: answers may be accepted in another order than they were made.
    fn take_crl(&self, pki: &Pki) -> Result<bool, BundleError> {
        let layout = &pki.layout;
        let there = files::read_if_there(&layout.crl(), MAX_INDEX)?;
        let there = there.and_then(|text| SignedCrl::read(&text, &self.answer.ca));
        if there.is_some_and(|there| there.number >= self.answer.crl.number) {
            return Ok(false);
        }
        if layout.crl_der().exists() {
            files::write(&layout.crl_der(), self.answer.crl.der(), Mode::Public)?;
        }
        files::write(&layout.crl(), self.answer.crl.pem().as_bytes(), Mode::Public)?;
        Ok(true)
    }
}

fn ca_change(layout: &Layout, theirs: &Certificate) -> Result<CaChange, BundleError> {
    let Some(ours) = read_certificate(&layout.ca_certificate())? else { return Ok(CaChange::First) };
    if ours == *theirs {
        return Ok(CaChange::Same);
    }
    let same = ours.subject_der() == theirs.subject_der() && ours.public_key_der() == theirs.public_key_der();
    if !same {
        let (ours, theirs) = (CaMark::of(&ours).words(), CaMark::of(theirs).words());
        return Err(BundleError::WrongCa { ours, theirs });
    }
    Ok(if theirs.not_after() > ours.not_after() { CaChange::Extended } else { CaChange::Same })
}

fn check_certificate(
    wanted: &Asked,
    certificate: &Certificate,
    now: OffsetDateTime,
) -> Result<(), BundleError> {
    let bad = |problem: &str| {
        let name = wanted.request.name().to_string();
        Err(BundleError::BadCertificate { name, problem: problem.to_owned() })
    };
    if !wanted.request.is_for(certificate) {
        return bad("it is for another key or subject than the request made here");
    }
    // What a profile of the user's own is, the CA's folder knows.
    if let Some(rules) =
        Profile::BUILT_IN.into_iter().map(Profile::rules).find(|rules| rules.name == wanted.profile)
    {
        if certificate.is_ca() != rules.ca {
            return bad("its basicConstraints are not the profile's");
        }
        if certificate.is_for_server() != (wanted.profile == Profile::Server.to_string()) {
            return bad("its extendedKeyUsage is not the profile's");
        }
    }
    let names = AltNames { dns: certificate.dns_names().to_vec(), ip: certificate.ip_addresses().to_vec() };
    let asked = wanted.request.alt_names();
    let lacks = asked.dns.iter().any(|dns| !names.dns.contains(dns))
        || asked.ip.iter().any(|ip| !names.ip.contains(ip));
    if lacks || (asked.is_empty() && !names.is_empty()) {
        return bad("its names are not those asked for");
    }
    if now > certificate.not_after() {
        return bad("it is over by the clock of this machine");
    }
    if now < certificate.not_before() {
        return bad("it is not valid yet by the clock of this machine");
    }
    Ok(())
}

fn was_revoked(pki: &Pki, name: &CertName) -> Result<bool, BundleError> {
    let named = |entry: &IndexEntry| entry.common_name().as_deref() == Some(name.as_str());
    Ok(pki.entries()?.iter().rfind(|entry| named(entry)).is_some_and(IndexEntry::is_revoked))
}

fn check_key(layout: &Layout, name: &CertName, certificate: &Certificate) -> Result<(), BundleError> {
    let path = layout.key(name);
    let no_key =
        |problem: String| Err(BundleError::NoKey { name: name.clone(), path: path.clone(), problem });
    match key_file::read(&path, None) {
        Ok(key) if key.public_key_der() == certificate.public_key_der() => Ok(()),
        Ok(_) => no_key("the key there is another one".into()),
        Err(error) => no_key(error.to_string()),
    }
}

/// Replaces nothing silently: what is there is this certificate, or one whose renewal was asked for.
fn check_way(
    layout: &Layout,
    pki: Option<&Pki>,
    wanted: &Asked,
    certificate: &Certificate,
    now: OffsetDateTime,
) -> Result<(), BundleError> {
    let name = wanted.request.name();
    let Some(there) = read_certificate(&layout.issued(name))? else { return Ok(()) };
    if there == *certificate {
        return Ok(());
    }
    let path = layout.issued(name);
    let Some(pki) = pki else { return Err(PkiError::InTheWay { path, what: Obstacle::Foreign }.into()) };
    pki.refuse_foreign(name, &there)?;
    if !wanted.renew && now <= there.not_after() {
        let (serial, not_after) = (there.serial(), there.not_after());
        return Err(PkiError::NameTaken { name: name.clone(), serial, not_after }.into());
    }
    let public_key_der = certificate.public_key_der();
    let incoming = Incoming { name, public_key_der, if_taken: IfTaken::Supersede };
    Ok(pki.may_come(&pki.read_index()?, &incoming, now)?)
}
