//! The tar itself: packed from things that are public by their types, unpacked strictly and in memory. Nothing is ever
//! extracted to a path that an archive names.

use std::{
    collections::BTreeMap,
    io::{Cursor, Read},
};

use signature::Signer;
use tar::{Archive, Builder, EntryType, Header};
use x509_cert::spki::SignatureBitStringEncoding;

use super::{
    BUNDLE_MAX, WANTS_MAX,
    error::{BundleError, tar_fault},
    manifest::{FileMark, Kind, Manifest, from_stamp, sha256_hex},
    signing_request::SigningRequest,
};
use crate::{
    certificate::Certificate,
    error::PkiError,
    key::{BuilderSigner, PrivateKey, SignatureOctets},
    store::index::Index,
};

const MANIFEST: &str = "manifest.json";
const SIGNATURE: &str = "manifest.sig";
/// A manifest of [`WANTS_MAX`] wants takes a third of it.
const MANIFEST_MAX: u64 = 16 << 20;
/// A request or certificate with 64 long names takes 20 kB.
const SMALL_MAX: u64 = 64 << 10;
/// A CRL or list of 200,000 revocations.
const LIST_MAX: u64 = 24 << 20;
/// The longest member name; what `ustar` holds without a prefix.
const PATH_MAX: usize = 100;

/// What can be in a bundle beside the manifest. None of it can hold a private key.
pub(super) enum Member<'a> {
    /// `requests/NAME.csr`
    Request(&'a SigningRequest),
    /// `certificates/NAME.crt`, `ca.crt`, `anchors/N.crt`
    Certificate(&'a Certificate),
    /// `crl.pem`; the bytes were signed by the CA, which only ever signs a parsed list.
    Crl(&'a super::books::SignedCrl),
    /// `revoked.txt`
    Revoked(&'a Index),
}

impl Member<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Request(request) => request.pem().into_bytes(),
            Self::Certificate(certificate) => certificate.pem().into_bytes(),
            Self::Crl(crl) => crl.pem().into_bytes(),
            Self::Revoked(index) => index.to_bytes(),
        }
    }
}

/// A bundle as read: every member is there, and is what the manifest says. Whether the manifest is to be believed is
/// the caller's question.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) manifest: Manifest,
    pub(super) manifest_bytes: Vec<u8>,
    pub(super) signature: Option<Vec<u8>>,
    members: BTreeMap<String, Vec<u8>>,
}

impl Unpacked {
    /// Takes a member out.
    pub(super) fn take(&mut self, path: &str) -> Result<Vec<u8>, BundleError> {
        self.members.remove(path).ok_or_else(|| BundleError::CutOff { missing: path.to_owned() })
    }

    /// What nobody took has no business there.
    pub(super) fn end(self) -> Result<(), BundleError> {
        match self.members.into_keys().next() {
            Some(member) => {
                Err(BundleError::Foreign { member, why: "nothing in the manifest refers to it".into() })
            }
            None => Ok(()),
        }
    }
}

/// Packs: manifest first, its signature where there is a key, then the members. The file and the manifest's bytes.
pub(super) fn pack(
    mut manifest: Manifest,
    members: &[(String, Member<'_>)],
    key: Option<&PrivateKey>,
) -> Result<(Vec<u8>, Vec<u8>), BundleError> {
    let contents: Vec<(&str, Vec<u8>)> =
        members.iter().map(|(path, member)| (path.as_str(), member.bytes())).collect();
    manifest.files = contents
        .iter()
        .map(|(path, bytes)| FileMark {
            path: (*path).to_owned(),
            bytes: bytes.len() as u64,
            sha256: sha256_hex(bytes),
        })
        .collect();
    let manifest_bytes = manifest.to_bytes()?;
    let made =
        from_stamp(&manifest.created).and_then(|at| u64::try_from(at.unix_timestamp()).ok()).unwrap_or(0);
    let mut builder = Builder::new(Vec::new());
    append(&mut builder, MANIFEST, &manifest_bytes, made)?;
    if let Some(key) = key {
        append(&mut builder, SIGNATURE, &sign(key, &manifest_bytes)?, made)?;
    }
    for (path, bytes) in &contents {
        append(&mut builder, path, bytes, made)?;
    }
    let out = builder.into_inner().map_err(|error| tar_fault(&error))?;
    if out.len() as u64 > BUNDLE_MAX {
        return Err(BundleError::TooLarge { what: "the bundle".into(), limit: BUNDLE_MAX });
    }
    Ok((out, manifest_bytes))
}

/// Unpacks a bundle of the kind `expected`.
///
/// # Errors
/// Everything that can be wrong with the file itself: see the first group of [`BundleError`].
pub(super) fn unpack(bytes: &[u8], expected: Kind) -> Result<Unpacked, BundleError> {
    if bytes.len() as u64 > BUNDLE_MAX {
        return Err(BundleError::TooLarge { what: "the file".into(), limit: BUNDLE_MAX });
    }
    if bytes.is_empty() {
        return Err(BundleError::CutOff { missing: "everything (the file is empty)".into() });
    }
    let mut manifest: Option<(Manifest, Vec<u8>)> = None;
    let mut signature = None;
    let mut members = BTreeMap::new();
    let mut archive = Archive::new(Cursor::new(bytes));
    // Raw: long names and other extensions are shown as what they are, and refused.
    for entry in archive.entries().map_err(|error| tar_fault(&error))?.raw(true) {
        let mut entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                return Err(broken(&error, manifest.as_ref().map(|(one, _)| one), &members, bytes.len()));
            }
        };
        let path = path_of(&entry.path_bytes())?;
        let foreign = |why: &str| BundleError::Foreign { member: path.clone(), why: why.to_owned() };
        if entry.header().entry_type() != EntryType::Regular {
            return Err(foreign("it is not a plain file"));
        }
        let limit = limit_of(&path).ok_or_else(|| foreign("no bundle has such a file"))?;
        let size = entry.header().size().map_err(|error| tar_fault(&error))?;
        if size > limit {
            return Err(BundleError::TooLarge { what: path, limit });
        }
        let mut content = Vec::new();
        let read = entry.by_ref().take(limit + 1).read_to_end(&mut content);
        if read.is_err() || content.len() as u64 != size {
            return Err(BundleError::CutOff { missing: path });
        }
        match (path.as_str(), &manifest) {
            (MANIFEST, None) => {
                let parsed = Manifest::parse(&content)?;
                if parsed.kind != expected {
                    return Err(BundleError::WrongKind {
                        found: parsed.kind.words(),
                        expected: expected.words(),
                    });
                }
                manifest = Some((parsed, content));
            }
            (_, None) => {
                return Err(BundleError::NotABundle {
                    problem: "its first member is not manifest.json".into(),
                });
            }
            (MANIFEST, Some(_)) => return Err(foreign("it is there twice")),
            (SIGNATURE, Some(_)) if signature.is_none() => signature = Some(content),
            (SIGNATURE, Some(_)) => return Err(foreign("it is there twice")),
            (_, Some(_)) if members.len() > WANTS_MAX + 8 => return Err(foreign("there are too many files")),
            (_, Some(_)) => {
                if members.insert(path.clone(), content).is_some() {
                    return Err(foreign("it is there twice"));
                }
            }
        }
    }
    let Some((manifest, manifest_bytes)) = manifest else {
        return Err(BundleError::NotABundle { problem: "there is nothing in it".into() });
    };
    check_members(&manifest, &members)?;
    Ok(Unpacked { manifest, manifest_bytes, signature, members })
}

/// A detached signature over the manifest, as `openssl dgst -sha256 -sign` makes it.
fn sign(key: &PrivateKey, manifest: &[u8]) -> Result<Vec<u8>, BundleError> {
    let failed = || BundleError::from(PkiError::Crypto { act: "signing the manifest" });
    let signature: SignatureOctets = BuilderSigner(key).try_sign(manifest).map_err(|_| failed())?;
    Ok(signature.to_bitstring().map_err(|_| failed())?.raw_bytes().to_vec())
}

fn append(builder: &mut Builder<Vec<u8>>, path: &str, bytes: &[u8], made: u64) -> Result<(), BundleError> {
    let too_long = || BundleError::BadWant {
        name: path.to_owned(),
        problem: "the name is too long for an archive; use a shorter one".into(),
    };
    if path.len() > PATH_MAX {
        return Err(too_long());
    }
    let mut header = Header::new_ustar();
    header.set_path(path).map_err(|_| too_long())?;
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(made);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    builder.append(&header, bytes).map_err(|error| tar_fault(&error))
}

/// Every file of the manifest is there and as it says, and no other.
fn check_members(manifest: &Manifest, members: &BTreeMap<String, Vec<u8>>) -> Result<(), BundleError> {
    let mut listed = std::collections::BTreeSet::new();
    for mark in &manifest.files {
        if !listed.insert(mark.path.as_str()) {
            return Err(BundleError::Foreign {
                member: mark.path.clone(),
                why: "the manifest lists it twice".into(),
            });
        }
        let Some(content) = members.get(&mark.path) else {
            return Err(BundleError::CutOff { missing: mark.path.clone() });
        };
        if content.len() as u64 != mark.bytes || sha256_hex(content) != mark.sha256 {
            return Err(BundleError::Damaged { member: mark.path.clone() });
        }
    }
    match members.keys().find(|path| !listed.contains(path.as_str())) {
        Some(path) => {
            Err(BundleError::Foreign { member: path.clone(), why: "the manifest does not list it".into() })
        }
        None => Ok(()),
    }
}

/// A header that cannot be read, in words: the copy ended there, or it was damaged.
fn broken(
    error: &std::io::Error,
    manifest: Option<&Manifest>,
    members: &BTreeMap<String, Vec<u8>>,
    length: usize,
) -> BundleError {
    let Some(manifest) = manifest else { return tar_fault(error) };
    let next = manifest.files.iter().find(|mark| !members.contains_key(&mark.path));
    match next {
        // A whole archive is a multiple of 512 bytes.
        Some(next) if error.kind() == std::io::ErrorKind::UnexpectedEof || !length.is_multiple_of(512) => {
            BundleError::CutOff { missing: next.path.clone() }
        }
        Some(next) => BundleError::Damaged { member: next.path.clone() },
        None => BundleError::Damaged { member: "the end of the archive".into() },
    }
}

fn path_of(bytes: &[u8]) -> Result<String, BundleError> {
    let member = String::from_utf8_lossy(bytes).into_owned();
    let refuse = |why: &str| BundleError::Foreign { member: member.clone(), why: why.to_owned() };
    if std::str::from_utf8(bytes).is_err() || member.chars().any(|c| c.is_control() || c == '\\') {
        return Err(refuse("its name is not text"));
    }
    if member.starts_with('/') || member.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(refuse("its name leads elsewhere"));
    }
    Ok(member)
}

/// How large a member of that name may be; `None` if no bundle has one.
fn limit_of(path: &str) -> Option<u64> {
    match path {
        MANIFEST => Some(MANIFEST_MAX),
        SIGNATURE | "ca.crt" => Some(SMALL_MAX),
        "crl.pem" | "revoked.txt" => Some(LIST_MAX),
        _ => {
            let (folder, file) = path.split_once('/')?;
            let known = match folder {
                "requests" => file.ends_with(".csr"),
                "certificates" | "anchors" => file.ends_with(".crt"),
                _ => false,
            };
            (known && !file.contains('/')).then_some(SMALL_MAX)
        }
    }
}
