//! What each machine remembers of the requests that went through it: `pki/quoll/requests/` where they were made,
//! `pki/quoll/signed/` where they were answered. And the two lists that an answer carries.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use time::OffsetDateTime;

use super::{BUNDLE_MAX, error::BundleError, manifest, verify};
use crate::{
    certificate::Certificate,
    crl::Crl,
    error::PkiError,
    pem,
    store::{
        files::{self, Mode},
        index::{Index, IndexEntry},
        layout::Layout,
    },
};

/// Of a request that was signed here, or whose signing began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SignedRecord {
    pub(super) manifest_sha256: String,
    pub(super) begun: String,
    /// `None` while it is under way.
    pub(super) finished: Option<String>,
    /// Serial number of the certificate that each name had before, where it had one: what is in `issued/` instead was
    /// signed for this request.
    pub(super) before: BTreeMap<String, String>,
}

/// Of a request that was made here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AskedRecord {
    pub(super) manifest_sha256: String,
    pub(super) made: String,
    /// `None` until the answer is in force.
    pub(super) accepted: Option<String>,
    /// What the caller wants to know again when the answer comes, by name. It does not travel.
    pub(super) notes: BTreeMap<String, String>,
}

/// A record and where it lies.
pub(super) struct Book<'a> {
    layout: &'a Layout,
    kind: &'static str,
}

impl<'a> Book<'a> {
    pub(super) fn signed(layout: &'a Layout) -> Self {
        Self { layout, kind: "signed" }
    }

    pub(super) fn asked(layout: &'a Layout) -> Self {
        Self { layout, kind: "requests" }
    }

    pub(super) fn read<T: DeserializeOwned>(&self, id: &str) -> Result<Option<T>, BundleError> {
        let path = self.path(id, "json");
        let Some(bytes) = files::read_if_there(&path, BUNDLE_MAX)? else { return Ok(None) };
        let bad = |error: serde_json::Error| PkiError::BadFile { path, problem: error.to_string() };
        Ok(Some(serde_json::from_slice(&bytes).map_err(bad)?))
    }

    pub(super) fn write<T: Serialize>(&self, id: &str, record: &T) -> Result<(), BundleError> {
        let bytes = serde_json::to_vec_pretty(record)
            .map_err(|_| BundleError::from(PkiError::Crypto { act: "writing a record" }))?;
        Ok(files::write(&self.path(id, "json"), &bytes, Mode::Private)?)
    }

    /// The bundle itself, kept beside its record.
    pub(super) fn read_copy(&self, id: &str) -> Result<Option<Vec<u8>>, BundleError> {
        Ok(files::read_if_there(&self.path(id, "quollreq"), BUNDLE_MAX)?)
    }

    pub(super) fn write_copy(&self, id: &str, bundle: &[u8]) -> Result<(), BundleError> {
        Ok(files::write(&self.path(id, "quollreq"), bundle, Mode::Private)?)
    }

    /// The ids of all records.
    pub(super) fn ids(&self) -> Result<Vec<String>, BundleError> {
        let folder = self.layout.bundle_states(self.kind);
        let listing = match std::fs::read_dir(&folder) {
            Ok(listing) => listing,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(files::io("listing", &folder)(source).into()),
        };
        let mut out = Vec::new();
        for file in listing {
            let name = file.map_err(files::io("listing", &folder))?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".json"));
            out.extend(id.filter(|id| !id.starts_with('.')).map(str::to_owned));
        }
        out.sort_unstable();
        Ok(out)
    }

    fn path(&self, id: &str, ending: &str) -> PathBuf {
        self.layout.bundle_states(self.kind).join(format!("{id}.{ending}"))
    }
}

/// The time in a record; a record that somebody edited says "long ago".
pub(super) fn at(stamp: &str) -> OffsetDateTime {
    manifest::from_stamp(stamp).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// A CRL whose signature was checked.
#[derive(Debug, Clone)]
pub(super) struct SignedCrl {
    der: Vec<u8>,
    pub(super) number: Option<u128>,
}

impl SignedCrl {
    /// Reads a PEM file; `None` unless `ca` signed it.
    pub(super) fn read(text: &[u8], ca: &Certificate) -> Option<Self> {
        let number = Crl::from_pem(text).ok()?.number;
        let block = pem::find(text, |label| label == "X509 CRL").ok()?;
        verify::is_crl_of(&block.der, ca).then(|| Self { der: block.der.to_vec(), number })
    }

    pub(super) fn pem(&self) -> String {
        pem::encode("X509 CRL", &self.der).to_string()
    }

    pub(super) fn der(&self) -> &[u8] {
        &self.der
    }
}

/// The revoked lines of an index: the CRL says neither subject nor end of a certificate, and `index.txt` wants both.
pub(super) fn revoked_lines(index: &Index) -> Index {
    let mut out = Index::default();
    index.entries().filter(|entry| entry.is_revoked()).for_each(|entry| out.push(entry.clone()));
    out
}

/// Reads what [`revoked_lines`] made.
pub(super) fn read_revoked(content: &[u8]) -> Option<Vec<IndexEntry>> {
    let index = Index::parse(content).ok()?;
    let entries: Vec<_> = index.entries().cloned().collect();
    entries.iter().all(IndexEntry::is_revoked).then_some(entries)
}
