//! Every certificate file of the folder, by serial number. What it is not: a judgement.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::Problem;
use crate::{
    certificate::Certificate,
    error::PkiError,
    serial::Serial,
    store::{
        Pki, files,
        index::Index,
        layout::{Layout, Shelf},
        read_certificate,
    },
};

/// A file with a certificate in it.
#[derive(Debug)]
pub(super) struct Found {
    /// Relative to the folder.
    pub(super) path: String,
    /// Its name without ending, where it is kept by name.
    pub(super) stem: Option<String>,
    place: Place,
    pub(super) certificate: Certificate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Named(Shelf),
    Revoked,
    Copy,
}

/// Where certificates lie, in the order in which a certificate's own file is looked for.
const FOLDERS: [(&str, &str, Place); 6] = [
    ("issued", "crt", Place::Named(Shelf::Issued)),
    ("renewed/issued", "crt", Place::Named(Shelf::Renewed)),
    ("expired", "crt", Place::Named(Shelf::Expired)),
    ("revoked/certs_by_serial", "crt", Place::Revoked),
    ("certs_by_serial", "pem", Place::Copy),
    ("renewed/certs_by_serial", "crt", Place::Copy),
];

impl Found {
    /// Key and request files that may be this certificate's.
    pub(super) fn keys(&self, layout: &Layout) -> Vec<(PathBuf, PathBuf)> {
        let serial = self.certificate.serial();
        match (self.place, self.stem.as_deref()) {
            // A renewed server keeps its key, so that of the certificate set aside is still in use.
            (Place::Named(Shelf::Renewed), Some(stem)) => [Shelf::Renewed, Shelf::Issued]
                .map(|shelf| (layout.key_of(shelf, stem), layout.request_of(shelf, stem)))
                .to_vec(),
            (Place::Named(shelf), Some(stem)) => {
                vec![(layout.key_of(shelf, stem), layout.request_of(shelf, stem))]
            }
            (Place::Revoked, _) => vec![(layout.revoked_key(&serial), layout.revoked_request(&serial))],
            _ => Vec::new(),
        }
    }

    pub(super) fn in_use(&self) -> bool {
        self.place == Place::Named(Shelf::Issued)
    }
}

/// All of them.
pub(super) struct Shelves {
    found: BTreeMap<Serial, Vec<Found>>,
    /// Files that cannot be read as certificates.
    pub(super) problems: Vec<Problem>,
    /// The first of them that could not be read at all: who needs every certificate cannot go on.
    unread: Option<PkiError>,
}

impl Shelves {
    pub(super) fn read(pki: &Pki) -> Result<Self, PkiError> {
        let mut out = Self { found: BTreeMap::new(), problems: Vec::new(), unread: None };
        for (folder, ending, place) in FOLDERS {
            for path in listing(&pki.dir().join(folder), ending)? {
                out.add(pki.dir(), path, place);
            }
        }
        Ok(out)
    }

    /// The files of that serial number, the certificate's own first.
    pub(super) fn of(&self, serial: &Serial) -> &[Found] {
        self.found.get(serial).map_or(&[], Vec::as_slice)
    }

    /// What the index does not have.
    pub(super) fn unlisted(&self, index: &Index) -> impl Iterator<Item = (&Serial, &[Found])> {
        let listed = |serial: &Serial| index.get(serial).is_some();
        self.found
            .iter()
            .filter(move |(serial, _)| !listed(serial))
            .map(|(serial, found)| (serial, found.as_slice()))
    }

    /// One certificate for each serial number.
    ///
    /// # Errors
    /// A file could not be read.
    pub(super) fn into_certificates(self) -> Result<Vec<Certificate>, PkiError> {
        if let Some(error) = self.unread {
            return Err(error);
        }
        let first = |found: Vec<Found>| found.into_iter().next().map(|found| found.certificate);
        Ok(self.found.into_values().filter_map(first).collect())
    }

    fn add(&mut self, dir: &Path, path: PathBuf, place: Place) {
        let relative = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
        match read_certificate(&path) {
            Ok(None) => {}
            Ok(Some(certificate)) => {
                let named = matches!(place, Place::Named(_));
                let stem = path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
                let found = Found { path: relative, stem: stem.filter(|_| named), place, certificate };
                self.found.entry(found.certificate.serial()).or_default().push(found);
            }
            Err(PkiError::BadFile { problem, .. }) => self.problems.push(Problem {
                what: format!("{relative} cannot be read: {problem}"),
                next: Some("restore it from a backup, or from certs_by_serial/".into()),
            }),
            Err(error) => {
                self.problems.push(Problem {
                    what: format!("{relative} cannot be read: {}", error.cause()),
                    next: Some("look at it: it is no certificate, or not yours to read".into()),
                });
                self.unread.get_or_insert(error);
            }
        }
    }
}

fn listing(folder: &Path, ending: &str) -> Result<Vec<PathBuf>, PkiError> {
    let listing = match std::fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(files::io("listing", folder)(source)),
    };
    let mut out = Vec::new();
    for file in listing {
        let path = file.map_err(files::io("listing", folder))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|found| found == ending) {
            out.push(path);
        }
    }
    out.sort_unstable();
    Ok(out)
}
