//! For the machine that compiles firmware: the CA's certificate, its fingerprint, and what devices connect to. All of it
//! is public. It is not signed: whoever could not trust the CA yet could not trust its signature either. The phrase is
//! what is compared.

use time::OffsetDateTime;

use super::{
    archive::{self, Member},
    error::BundleError,
    manifest::{AnchorMark, Anchors, Content, Kind, Manifest, ServerMark, hex},
    phrase::Phrase,
};
use crate::certificate::Certificate;

/// Anchors as read.
#[derive(Debug, Clone)]
pub struct AnchorsBundle {
    /// The CAs, in the order they were given.
    pub anchors: Vec<Certificate>,
    /// What devices connect to.
    pub server: Option<ServerMark>,
    /// To be compared with the other screen.
    pub phrase: Phrase,
}

/// Packs a `.quollanchors` file; the file and its phrase.
///
/// # Errors
/// [`BundleError::NothingWanted`] without a CA.
pub fn export(
    anchors: &[&Certificate],
    server: Option<ServerMark>,
    now: OffsetDateTime,
) -> Result<(Vec<u8>, Phrase), BundleError> {
    let first = anchors.first().ok_or(BundleError::NothingWanted)?;
    let name = first.subject_cn().unwrap_or_default().to_owned();
    let file = |place: usize| format!("anchors/{}.crt", place + 1);
    let marks = anchors.iter().enumerate().map(|(place, ca)| AnchorMark {
        name: ca.subject_cn().unwrap_or_default().to_owned(),
        sha256: hex(&ca.fingerprint_sha256()),
        file: file(place),
    });
    let content = Content::Anchors(Anchors { anchors: marks.collect(), server });
    let members: Vec<_> =
        anchors.iter().enumerate().map(|(place, ca)| (file(place), Member::Certificate(ca))).collect();
    let (bytes, manifest) = archive::pack(Manifest::new(&name, content, now)?, &members, None)?;
    Ok((bytes, Phrase::of(&manifest)))
}

impl AnchorsBundle {
    /// Reads a `.quollanchors` file.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn read(bytes: &[u8]) -> Result<Self, BundleError> {
        let mut unpacked = archive::unpack(bytes, Kind::Anchors)?;
        let phrase = Phrase::of(&unpacked.manifest_bytes);
        let Content::Anchors(content) = unpacked.manifest.content.clone() else {
            return Err(BundleError::NotABundle { problem: "manifest.json: it holds no anchors".into() });
        };
        let mut anchors = Vec::with_capacity(content.anchors.len());
        for mark in &content.anchors {
            let damaged = || BundleError::Damaged { member: mark.file.clone() };
            let ca = Certificate::from_pem(&unpacked.take(&mark.file)?).map_err(|_| damaged())?;
            if !ca.is_ca() || hex(&ca.fingerprint_sha256()) != mark.sha256 {
                return Err(damaged());
            }
            anchors.push(ca);
        }
        if anchors.is_empty() {
            return Err(BundleError::NothingWanted);
        }
        unpacked.end()?;
        Ok(Self { anchors, server: content.server, phrase })
    }
}
