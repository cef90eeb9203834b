//! On the CA's machine: a request is read, looked at by a person, and signed as one batch.

use std::collections::{BTreeMap, HashMap, HashSet};

use time::OffsetDateTime;

use super::{
    archive::{self, Member, Unpacked},
    books::{self, Book, SignedCrl, SignedRecord},
    clock,
    error::BundleError,
    manifest::{Answer, CaMark, Content, IssuedMark, Kind, Manifest, Request, sha256_hex, stamp},
    phrase::Phrase,
    signing_request::SigningRequest,
};
use crate::{
    authority::Authority,
    batch::Wanted,
    certificate::Certificate,
    error::PkiError,
    limits::MAX_INDEX,
    request::IfTaken,
    revocation::RevocationReason,
    serial::Serial,
    store::{Pki, files, index::Index},
};

/// A request as read: every signing request in it was verified, and nothing else is in it.
#[derive(Debug, Clone)]
pub struct RequestBundle {
    pub(super) manifest: Manifest,
    pub(super) manifest_sha256: String,
    phrase: Phrase,
    ca: Option<CaMark>,
    pub(super) asked: Vec<Asked>,
    revoke: Vec<(Serial, RevocationReason)>,
}

/// A want with its signing request. What the profile's name means, the CA's folder says.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) request: SigningRequest,
    pub(super) profile: String,
    pub(super) renew: bool,
    days: Option<u32>,
}

/// What a person may decide against the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Decisions {
    /// Write the answer to a request that was signed already once more. Nothing is signed then.
    pub again: bool,
    /// The clock is right, although it is behind the CA's last act.
    pub clock_is_right: bool,
}

/// One thing that will be signed or revoked, for the listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A certificate.
    Certificate {
        /// The common name.
        name: String,
        /// The profile's name.
        profile: String,
        /// The key, in words.
        key: String,
        /// Host names and addresses.
        names: Vec<String>,
        /// Serial number of the certificate that it replaces.
        replaces: Option<String>,
        /// It replaces a certificate of another key: whoever pinned the old key is locked out.
        new_key: bool,
        /// Signed already, by a run that was interrupted or in an earlier answer.
        signed: bool,
    },
    /// A revocation.
    Revocation {
        /// The common name, as far as `index.txt` tells.
        name: Option<String>,
        /// The serial number.
        serial: String,
        /// The reason in Easy-RSA's spelling.
        reason: String,
    },
}

/// A request that will be signed, if its holder says so.
#[derive(Debug)]
pub struct Signing {
    bundle: RequestBundle,
    wanted: Vec<Wanted>,
    lines: Vec<Line>,
    decisions: Decisions,
    record: Option<SignedRecord>,
}

/// What was signed.
#[derive(Debug)]
pub struct Signed {
    /// The `.quollcert` file.
    pub bytes: Vec<u8>,
    /// Certificates signed now.
    pub signed: usize,
    /// Certificates in the answer that were signed before.
    pub kept: usize,
    /// Certificates revoked.
    pub revoked: usize,
    /// Things to tell the user, as sentences, each with the name it is about.
    pub warnings: Vec<(String, String)>,
    signing: Signing,
}

impl Signed {
    /// Writes down that the answer was written; from here on the request is refused unless it is asked for again.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub fn finish(&self, pki: &Pki, now: OffsetDateTime) -> Result<(), BundleError> {
        self.signing.finish(pki, now)
    }
}

impl RequestBundle {
    /// Reads a `.quollreq` file.
    ///
    /// # Errors
    /// What is wrong with the file, or the first want that cannot be understood.
    pub fn read(bytes: &[u8]) -> Result<Self, BundleError> {
        let mut unpacked = archive::unpack(bytes, Kind::Request)?;
        let manifest = unpacked.manifest.clone();
        let Content::Request(request) = &manifest.content else {
            return Err(BundleError::NotABundle { problem: "manifest.json: it is no request".into() });
        };
        if unpacked.signature.is_some() {
            let why = "a request is signed by its own keys only".to_owned();
            return Err(BundleError::Foreign { member: "manifest.sig".into(), why });
        }
        let asked = asked(&mut unpacked, request)?;
        let revoke = request
            .revoke
            .iter()
            .map(|mark| {
                let bad = |problem: String| BundleError::BadWant { name: mark.serial.clone(), problem };
                let serial =
                    mark.serial.parse().map_err(|error: crate::SerialError| bad(error.to_string()))?;
                let reason = mark.reason.parse();
                Ok((serial, reason.map_err(|error: crate::RevocationReasonError| bad(error.to_string()))?))
            })
            .collect::<Result<_, BundleError>>()?;
        let phrase = Phrase::of(&unpacked.manifest_bytes);
        let manifest_sha256 = sha256_hex(&unpacked.manifest_bytes);
        let ca = request.ca.clone();
        unpacked.end()?;
        Ok(Self { manifest, manifest_sha256, phrase, ca, asked, revoke })
    }

    /// To be compared with what the server's screen shows.
    #[must_use]
    pub fn phrase(&self) -> Phrase {
        self.phrase
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.manifest.id
    }

    /// Who asks, and when.
    #[must_use]
    pub fn from(&self) -> (&str, &str) {
        (&self.manifest.name, &self.manifest.created)
    }
}

impl Signing {
    /// Checks a request against the folder. Nothing is changed but what an interrupted act left, which is put in order;
    /// no key is needed.
    ///
    /// # Errors
    /// [`BundleError::WrongCa`], [`BundleError::AlreadySigned`], [`BundleError::OtherRequest`],
    /// [`BundleError::ClockBehind`], and what is wrong with a want.
    pub fn prepare(
        pki: &Pki,
        bundle: RequestBundle,
        decisions: Decisions,
        now: OffsetDateTime,
    ) -> Result<Self, BundleError> {
        if let Some(asked) = &bundle.ca
            && !asked.is(pki.ca())
        {
            let ours = CaMark::of(pki.ca()).words();
            return Err(BundleError::WrongCa { ours, theirs: asked.words() });
        }
        let record = Book::signed(&pki.layout).read::<SignedRecord>(bundle.id())?;
        check_record(&bundle, record.as_ref(), decisions)?;
        check_clock(pki, &pki.read_index()?, decisions, now)?;
        let index = recovered(pki, now)?;
        let wanted = bundle.asked.iter().map(|one| wanted(pki, one)).collect::<Result<_, _>>()?;
        let mut signing = Self { bundle, wanted, lines: Vec::new(), decisions, record };
        for wanted in &signing.wanted {
            let there = pki.certificate(wanted.request.name())?;
            let signed = signing.is_signed(wanted, there.as_ref(), &index);
            if !signed && decisions.again {
                let name = wanted.request.name().to_string();
                let problem = "its certificate of then is not in the folder any more".to_owned();
                return Err(BundleError::BadWant { name, problem });
            }
            if !signed {
                pki.check_wanted(&index, wanted, now)?;
            }
            let names = wanted.request.alt_names();
            signing.lines.push(Line::Certificate {
                name: wanted.request.name().to_string(),
                profile: wanted.profile.to_string(),
                key: wanted.request.key_words(),
                names: names.dns.iter().cloned().chain(names.ip.iter().map(ToString::to_string)).collect(),
                new_key: there.as_ref().is_some_and(|there| {
                    !signed && there.public_key_der() != wanted.request.public_key_der()
                }),
                replaces: there.filter(|_| !signed).map(|there| there.serial().to_string()),
                signed,
            });
        }
        for (serial, reason) in &signing.bundle.revoke {
            let Some(entry) = index.get(serial) else {
                return Err(PkiError::UnknownSerial { serial: serial.clone() }.into());
            };
            signing.lines.push(Line::Revocation {
                name: entry.common_name(),
                serial: serial.to_string(),
                reason: reason.to_string(),
            });
        }
        Ok(signing)
    }

    /// What will be signed and revoked.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// To be compared with what the server's screen shows.
    #[must_use]
    pub fn phrase(&self) -> Phrase {
        self.bundle.phrase
    }

    /// The request's id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.bundle.id()
    }

    /// Revokes, signs, publishes the CRL, and packs the answer. If it is killed, the same again goes on where it was:
    /// what is signed is not signed twice. `done` hears how many certificates there are, after each chunk.
    ///
    /// # Errors
    /// Those of [`Authority::issue_batch`], [`Pki::revoke`] and [`Authority::publish_crl`].
    pub fn sign(
        self,
        authority: &Authority,
        now: OffsetDateTime,
        mut done: impl FnMut(usize),
    ) -> Result<Signed, BundleError> {
        let pki = authority.pki();
        authority.check_may_sign(now)?;
        authority.check_may_list()?;
        let signing = self.begin(pki, now)?;
        let index = pki.read_index()?;
        let mut certificates: HashMap<String, Certificate> = HashMap::new();
        let mut open = Vec::new();
        for wanted in &signing.wanted {
            match pki.certificate(wanted.request.name())? {
                Some(there) if signing.is_signed(wanted, Some(&there), &index) => {
                    certificates.insert(wanted.request.name().to_string(), there);
                }
                _ => open.push(wanted.clone()),
            }
        }
        let kept = certificates.len();
        done(kept);
        let mut revoked = 0;
        for (serial, reason) in &signing.bundle.revoke {
            revoked += usize::from(!pki.revoke(serial, *reason, now)?.already);
        }
        let issued = authority.issue_batch(&open, now, |count| done(kept + count))?;
        let mut warnings = Vec::new();
        for (wanted, issued) in open.iter().zip(issued) {
            let name = wanted.request.name().to_string();
            warnings.extend(issued.warnings.into_iter().map(|warning| (name.clone(), warning)));
            certificates.insert(name, issued.certificate);
        }
        if !signing.decisions.again {
            authority.publish_crl(now)?;
        }
        let bytes = signing.answer(authority, &certificates, now)?;
        Ok(Signed { bytes, signed: open.len(), kept, revoked, warnings, signing })
    }

    /// Writes down that the request is being signed, before anything is.
    fn begin(mut self, pki: &Pki, now: OffsetDateTime) -> Result<Self, BundleError> {
        let _lock = pki.lock()?;
        let mut index = pki.read_index()?;
        // What an interrupted chunk left is entered first, so that it counts as signed.
        pki.recover(&mut index, now)?;
        let book = Book::signed(&pki.layout);
        let record = book.read::<SignedRecord>(self.id())?;
        // Somebody else may have signed it while the person was thinking.
        check_record(&self.bundle, record.as_ref(), self.decisions)?;
        let record = match record {
            Some(record) => record,
            None => {
                let mut before = BTreeMap::new();
                for wanted in &self.wanted {
                    let name = wanted.request.name();
                    if let Some(there) = pki.certificate(name)? {
                        before.insert(name.to_string(), there.serial().to_string());
                    }
                }
                let manifest_sha256 = self.bundle.manifest_sha256.clone();
                let record = SignedRecord { manifest_sha256, begun: stamp(now)?, finished: None, before };
                book.write(self.id(), &record)?;
                record
            }
        };
        self.record = Some(record);
        Ok(self)
    }

    fn finish(&self, pki: &Pki, now: OffsetDateTime) -> Result<(), BundleError> {
        let Some(record) = &self.record else { return Ok(()) };
        let finished = record.finished.clone().map_or_else(|| stamp(now), Ok)?;
        Book::signed(&pki.layout)
            .write(self.id(), &SignedRecord { finished: Some(finished), ..record.clone() })
    }

    /// Whether the certificate that is there was signed for this request.
    fn is_signed(&self, wanted: &Wanted, there: Option<&Certificate>, index: &Index) -> bool {
        let (Some(record), Some(there)) = (&self.record, there) else { return false };
        let serial = there.serial();
        record.before.get(wanted.request.name().as_str()) != Some(&serial.to_string())
            && wanted.request.is_for(there)
            && index.get(&serial).is_some_and(|entry| !entry.is_revoked())
    }

    fn answer(
        &self,
        authority: &Authority,
        certificates: &HashMap<String, Certificate>,
        now: OffsetDateTime,
    ) -> Result<Vec<u8>, BundleError> {
        let pki = authority.pki();
        let _lock = pki.lock()?;
        let path = pki.layout.crl();
        let crl = SignedCrl::read(&files::read(&path, MAX_INDEX)?, pki.ca())
            .ok_or_else(|| PkiError::BadFile { path, problem: "it is not a CRL of this CA".into() })?;
        let revoked = books::revoked_lines(&pki.read_index()?);
        let mut members = vec![
            ("ca.crt".to_owned(), Member::Certificate(pki.ca())),
            ("crl.pem".to_owned(), Member::Crl(&crl)),
            ("revoked.txt".to_owned(), Member::Revoked(&revoked)),
        ];
        let mut marks = Vec::with_capacity(self.wanted.len());
        for wanted in &self.wanted {
            let name = wanted.request.name().to_string();
            let certificate = certificates
                .get(&name)
                .ok_or(PkiError::Crypto { act: "finding a certificate that was just signed" })?;
            let file = format!("certificates/{name}.crt");
            members.push((file.clone(), Member::Certificate(certificate)));
            marks.push(IssuedMark { name, serial: certificate.serial().to_string(), file });
        }
        let content = Content::Answer(Answer {
            request: self.id().to_owned(),
            request_sha256: self.bundle.manifest_sha256.clone(),
            ca: CaMark::of(pki.ca()),
            certificates: marks,
        });
        let manifest = Manifest::new(pki.ca().subject_cn().unwrap_or_default(), content, now)?;
        Ok(archive::pack(manifest, &members, Some(authority.key()))?.0)
    }
}

fn asked(unpacked: &mut Unpacked, request: &Request) -> Result<Vec<Asked>, BundleError> {
    let mut names = HashSet::new();
    let mut out = Vec::with_capacity(request.wants.len());
    for want in &request.wants {
        let bad = |problem: String| BundleError::BadWant { name: want.name.clone(), problem };
        if want.file != format!("requests/{}.csr", want.name) {
            return Err(bad("its file has another name".into()));
        }
        let signing_request = SigningRequest::from_pem(&unpacked.take(&want.file)?).map_err(bad)?;
        if signing_request.name().as_str() != want.name {
            return Err(bad(format!("its signing request is for {}", signing_request.name())));
        }
        // Two names that differ in case are one file on many systems.
        if !names.insert(want.name.to_lowercase()) {
            return Err(bad("it is wanted twice".into()));
        }
        let (profile, renew, days) = (want.profile.clone(), want.renew, want.days);
        out.push(Asked { request: signing_request, profile, renew, days });
    }
    Ok(out)
}

fn wanted(pki: &Pki, asked: &Asked) -> Result<Wanted, BundleError> {
    let profile = pki.profile(&asked.profile)?.ok_or_else(|| BundleError::BadWant {
        name: asked.request.name().to_string(),
        problem: format!("this CA has no profile {:?}", asked.profile),
    })?;
    let if_taken = if asked.renew { IfTaken::Supersede } else { IfTaken::Refuse };
    Ok(Wanted { request: asked.request.clone(), profile, days: asked.days, if_taken })
}

/// The index, once what an interrupted chunk left is entered in it.
fn recovered(pki: &Pki, now: OffsetDateTime) -> Result<Index, BundleError> {
    let _lock = pki.lock()?;
    let mut index = pki.read_index()?;
    pki.recover(&mut index, now)?;
    Ok(index)
}

fn check_record(
    bundle: &RequestBundle,
    record: Option<&SignedRecord>,
    decisions: Decisions,
) -> Result<(), BundleError> {
    match record {
        Some(record) if record.manifest_sha256 != bundle.manifest_sha256 => {
            Err(BundleError::OtherRequest { id: bundle.id().to_owned(), what: "signed" })
        }
        Some(SignedRecord { finished: Some(at), .. }) if !decisions.again => {
            Err(BundleError::AlreadySigned { at: books::at(at) })
        }
        Some(SignedRecord { finished: None, .. }) | None if decisions.again => Err(BundleError::NeverSigned),
        _ => Ok(()),
    }
}

fn check_clock(
    pki: &Pki,
    index: &Index,
    decisions: Decisions,
    now: OffsetDateTime,
) -> Result<(), BundleError> {
    let not_before = pki.ca().not_before();
    if now < not_before {
        return Err(PkiError::ClockBeforeCa { now, not_before }.into());
    }
    if now >= pki.ca().not_after() {
        return Err(PkiError::CaExpired { not_after: pki.ca().not_after() }.into());
    }
    match clock::last_act(pki, index)? {
        Some(last) if now < last && !decisions.clock_is_right => Err(BundleError::ClockBehind { now, last }),
        _ => Ok(()),
    }
}
