//! When this CA acted last, by its own traces: a clock that is behind that is wrong, and what it signs would be too.

use time::OffsetDateTime;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::{
    books::{self, Book, SignedRecord},
    error::BundleError,
};
use crate::{
    dates,
    limits::MAX_INDEX,
    pem,
    store::{
        Pki, files,
        index::{EntryState, Index},
    },
};

/// The latest of: the CRL's thisUpdate, the revocations, the requests signed, and the last writing of `index.txt`, which
/// Easy-RSA does at each of its acts too.
///
/// # Errors
/// A file cannot be read.
pub(super) fn last_act(pki: &Pki, index: &Index) -> Result<Option<OffsetDateTime>, BundleError> {
    let mut traces = Vec::new();
    if let Some(text) = files::read_if_there(&pki.layout.crl(), MAX_INDEX)?
        && let Ok(block) = pem::find(&text, |label| label == "X509 CRL")
        && let Ok((_, crl)) = CertificateRevocationList::from_der(&block.der)
    {
        traces.extend(dates::from_unix(crl.last_update().timestamp()));
    }
    for entry in index.entries() {
        if let EntryState::Revoked { at, .. } = entry.state {
            traces.push(at);
        }
    }
    let book = Book::signed(&pki.layout);
    for id in book.ids()? {
        if let Some(record) = book.read::<SignedRecord>(&id)? {
            traces.push(books::at(&record.begun));
            traces.extend(record.finished.as_deref().map(books::at));
        }
    }
    let path = pki.layout.index();
    let written =
        std::fs::metadata(&path).and_then(|meta| meta.modified()).map_err(files::io("reading", &path))?;
    traces.push(OffsetDateTime::from(written).replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH));
    Ok(traces.into_iter().max())
}
