//! On the server's machine: keys are made, stay there, and their signing requests go into a `.quollreq` file.
//!
//! Keys and requests lie where `easyrsa gen-req` puts them (`private/NAME.key`, `reqs/NAME.req`), in a folder that need
//! not have a CA yet. If it is interrupted, the same again uses the keys that are there.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use time::OffsetDateTime;
use x509_cert::{der::Decode, name::Name};

use super::{
    WANTS_MAX,
    archive::{self, Member},
    books::{AskedRecord, Book},
    error::BundleError,
    manifest::{CaMark, Content, Manifest, Request, RevokeMark, Want, sha256_hex, stamp},
    phrase::Phrase,
    signing_request::SigningRequest,
};
use crate::{
    builder::failed,
    certificate::Certificate,
    error::{Obstacle, PkiError},
    key::{KeyKind, PrivateKey},
    key_file,
    limits::MAX_FILE,
    name::CertName,
    profile::Profile,
    request::AltNames,
    revocation::RevocationReason,
    serial::Serial,
    store::{
        Pki,
        files::{self, Mode},
        index::EntryState,
        layout::Layout,
        read_certificate,
        together::Together,
    },
    subject::Subject,
};

/// A certificate to ask for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// What kind of certificate.
    pub profile: Profile,
    /// Common name and file name.
    pub name: CertName,
    /// Host names and addresses; only for a server.
    pub alt_names: AltNames,
    /// What the subject says besides the common name. A renewal keeps the subject it has.
    pub subject: Subject,
    /// The kind of key to make where there is none.
    pub key: KeyKind,
    /// Life in days; the profile's where there is none.
    pub days: Option<u32>,
    /// Renew, with the key that is there, where there is a certificate.
    pub renew: bool,
    /// Something to be told again when the answer comes. It stays on this machine.
    pub note: Option<String>,
}

impl Wish {
    /// With the profile's key, common name only, refusing a taken name.
    #[must_use]
    pub fn new(profile: Profile, name: CertName) -> Self {
        let (alt_names, subject, key) = (AltNames::default(), Subject::CnOnly, profile.default_key());
        Self { profile, name, alt_names, subject, key, days: None, renew: false, note: None }
    }
}

/// What was asked.
#[derive(Debug)]
pub struct Asked {
    /// The `.quollreq` file.
    pub bytes: Vec<u8>,
    /// To be compared with what the CA's screen will show.
    pub phrase: Phrase,
    /// The request's id.
    pub id: String,
    /// Keys made now; the others were there.
    pub keys_made: usize,
    /// Revocations that it carries.
    pub revoke: Vec<(Serial, RevocationReason)>,
}

/// Makes the keys that are missing, and a request. `server` is a word for people: who asks. Revocations that the folder
/// knows and its CRL does not yet go along.
///
/// # Errors
/// [`BundleError::NothingWanted`], [`BundleError::BadWant`], [`BundleError::NoKey`], [`PkiError::NameTaken`],
/// [`PkiError::InTheWay`]. Nothing was changed then.
pub fn ask(
    dir: &Path,
    server: &str,
    wishes: &[Wish],
    revoke: &[(Serial, RevocationReason)],
    now: OffsetDateTime,
    mut done: impl FnMut(usize),
) -> Result<Asked, BundleError> {
    check(wishes)?;
    files::make_folder(dir)?;
    let _lock = files::lock(dir)?;
    let layout = Layout::new(dir);
    let pki = if layout.ca_certificate().exists() { Some(Pki::open(dir)?) } else { None };
    let revoke = revocations(pki.as_ref(), revoke)?;
    if wishes.is_empty() && revoke.is_empty() && pki.is_none() {
        return Err(BundleError::NothingWanted);
    }
    let there = wishes.iter().map(|wish| look(&layout, wish, now)).collect::<Result<Vec<_>, _>>()?;

    let mut together = Together::default();
    let mut requests = Vec::with_capacity(wishes.len());
    let mut keys_made = 0;
    for (wish, there) in wishes.iter().zip(there) {
        let (key, subject) = match there {
            There::Nothing => {
                let key = PrivateKey::generate(wish.key)?;
                together.write(&layout.key(&wish.name), key.pkcs8_pem().as_bytes(), Mode::Private)?;
                keys_made += 1;
                (key, None)
            }
            There::Key(key) => (key, None),
            There::Certificate(key, certificate) => (key, Some(certificate)),
        };
        let subject = match subject {
            Some(certificate) => Name::from_der(certificate.subject_der())
                .map_err(failed("reading the old certificate's subject"))?,
            None => wish.subject.to_name(wish.name.as_str())?,
        };
        let alt_names =
            wish.profile.rules().wants_alt_names(&wish.alt_names).then_some((&wish.alt_names, &wish.name));
        let request = SigningRequest::build(subject, &key, alt_names)?;
        together.write(&layout.request(&wish.name), request.pem().as_bytes(), Mode::Private)?;
        requests.push(request);
        done(requests.len());
    }

    let ca = pki.as_ref().map(|pki| CaMark::of(pki.ca()));
    let wants = wishes.iter().map(want).collect();
    let marks = revoke
        .iter()
        .map(|(serial, reason)| RevokeMark { serial: serial.to_string(), reason: reason.to_string() });
    let content = Content::Request(Request { ca, wants, revoke: marks.collect() });
    let manifest = Manifest::new(server, content, now)?;
    let id = manifest.id.clone();
    let member =
        |request| (format!("requests/{}.csr", SigningRequest::name(request)), Member::Request(request));
    let members: Vec<_> = requests.iter().map(member).collect();
    let (bytes, manifest_bytes) = archive::pack(manifest, &members, None)?;

    together.finish()?;
    let notes = wishes.iter().filter_map(|wish| Some((wish.name.to_string(), wish.note.clone()?)));
    let record = AskedRecord {
        manifest_sha256: sha256_hex(&manifest_bytes),
        made: stamp(now)?,
        accepted: None,
        notes: notes.collect::<BTreeMap<_, _>>(),
    };
    let book = Book::asked(&layout);
    book.write_copy(&id, &bytes)?;
    book.write(&id, &record)?;
    Ok(Asked { bytes, phrase: Phrase::of(&manifest_bytes), id, keys_made, revoke })
}

/// What is there for a wish.
enum There {
    Nothing,
    Key(PrivateKey),
    Certificate(PrivateKey, Box<Certificate>),
}

/// Everything that can be refused without looking at the folder.
fn check(wishes: &[Wish]) -> Result<(), BundleError> {
    if wishes.len() > WANTS_MAX {
        let what = format!("a request for {} certificates", wishes.len());
        return Err(BundleError::TooLarge { what, limit: WANTS_MAX as u64 });
    }
    let mut names = HashSet::new();
    for wish in wishes {
        let bad = |problem: String| Err(BundleError::BadWant { name: wish.name.to_string(), problem });
        let rules = wish.profile.rules();
        if !names.insert(wish.name.as_str().to_lowercase()) {
            return bad("it is wanted twice".into());
        }
        if let Err(problem) = rules.check_key(Some(wish.key)) {
            return bad(problem);
        }
        if !rules.takes_alt_names() && !wish.alt_names.is_empty() {
            return bad(format!("a {} certificate has no alternative names", rules.name));
        }
        wish.alt_names.check(wish.name.as_str())?;
        wish.subject.to_name(wish.name.as_str())?;
    }
    Ok(())
}

fn look(layout: &Layout, wish: &Wish, now: OffsetDateTime) -> Result<There, BundleError> {
    let name = &wish.name;
    let path = layout.key(name);
    let there = read_certificate(&layout.issued(name))?;
    let key = if path.exists() { Some(key_file::read(&path, None)) } else { None };
    let Some(certificate) = there else {
        return Ok(match key {
            None => There::Nothing,
            // Of an earlier request: asked again, not made anew.
            Some(Ok(key)) if asked_with(layout, name, &key)? && key.kind() == Some(wish.key) => {
                There::Key(key)
            }
            Some(_) => return Err(PkiError::InTheWay { path, what: Obstacle::Key }.into()),
        });
    };
    if !wish.renew {
        let (serial, not_after) = (certificate.serial(), certificate.not_after());
        if now <= not_after {
            return Err(PkiError::NameTaken { name: name.clone(), serial, not_after }.into());
        }
    }
    let no_key = |problem: String| BundleError::NoKey { name: name.clone(), path: path.clone(), problem };
    match key {
        None => Err(no_key("there is no such file".into())),
        Some(Err(error)) => Err(no_key(error.to_string())),
        Some(Ok(key)) if key.public_key_der() != certificate.public_key_der() => {
            Err(no_key("it is another certificate's key".into()))
        }
        Some(Ok(key)) => Ok(There::Certificate(key, Box::new(certificate))),
    }
}

/// Whether the request beside a key is that key's, or was not written yet.
fn asked_with(layout: &Layout, name: &CertName, key: &PrivateKey) -> Result<bool, BundleError> {
    let request = files::read_if_there(&layout.request(name), MAX_FILE)?;
    Ok(request.is_none_or(|text| {
        SigningRequest::from_pem(&text).is_ok_and(|request| request.public_key_der() == key.public_key_der())
    }))
}

/// Those asked for, and those that the CRL does not have yet.
fn revocations(
    pki: Option<&Pki>,
    revoke: &[(Serial, RevocationReason)],
) -> Result<Vec<(Serial, RevocationReason)>, BundleError> {
    let mut out: Vec<(Serial, RevocationReason)> = Vec::new();
    for (serial, reason) in revoke {
        if !out.iter().any(|(known, _)| known == serial) {
            out.push((serial.clone(), *reason));
        }
    }
    let Some(pki) = pki else { return Ok(out) };
    let published = pki.read_crl()?.map(|crl| crl.serials).unwrap_or_default();
    for entry in pki.entries()? {
        if let EntryState::Revoked { reason, .. } = entry.state
            && !published.contains(&entry.serial)
            && !out.iter().any(|(known, _)| *known == entry.serial)
        {
            out.push((entry.serial, reason));
        }
    }
    Ok(out)
}

fn want(wish: &Wish) -> Want {
    let name = wish.name.to_string();
    let file = format!("requests/{name}.csr");
    Want { name, profile: wish.profile.to_string(), file, days: wish.days, renew: wish.renew }
}
