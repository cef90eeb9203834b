//! A line for each certificate that is being written down, so that what an interruption leaves is told apart from
//! what a person put there. What it is not: a log; it is gone when the work is done.

use time::OffsetDateTime;

use super::{
    Pki,
    files::{self, Mode},
    index::{EntryState, Index},
};
use crate::{
    certificate::Certificate, error::PkiError, limits::MAX_FILE, name::CertName,
    revocation::RevocationReason, serial::Serial,
};

/// What becomes of a certificate whose work was interrupted after it was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfinished {
    /// It is entered as revoked: nobody was given it, and its key may be missing.
    Revoke,
    /// It is entered as valid: a renewal has its key, and a broker may be using it.
    Keep,
}

impl Unfinished {
    fn word(self) -> &'static str {
        match self {
            Self::Revoke => "revoke",
            Self::Keep => "keep",
        }
    }
}

impl Pki {
    /// Notes that `certificate` is about to be written under `name`. Before anything of it is.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub(crate) fn begin(&self, name: &CertName, serial: &Serial, then: Unfinished) -> Result<(), PkiError> {
        self.begin_all([(name, serial)], then)
    }

    /// As [`Pki::begin`], for certificates that are written together.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub(crate) fn begin_all<'a>(
        &self,
        certificates: impl IntoIterator<Item = (&'a CertName, &'a Serial)>,
        then: Unfinished,
    ) -> Result<(), PkiError> {
        let line = |(name, serial): (&CertName, &Serial)| format!("{} {serial} {name}\n", then.word());
        let note: String = certificates.into_iter().map(line).collect();
        files::write(&self.layout.journal(), note.as_bytes(), Mode::Private)
    }

    /// Enters `certificate` in `index.txt`: from here on it exists for Quoll and for Easy-RSA. Then forgets the note.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub(crate) fn complete(&self, index: &mut Index, certificate: &Certificate) -> Result<(), PkiError> {
        self.complete_all(index, &[certificate])
    }

    /// As [`Pki::complete`], for certificates that were written together.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub(crate) fn complete_all(
        &self,
        index: &mut Index,
        certificates: &[&Certificate],
    ) -> Result<(), PkiError> {
        for certificate in certificates {
            index.push(Self::entry_of(certificate, EntryState::Valid)?);
        }
        self.write_index(index)?;
        files::remove(&self.layout.journal())
    }

    /// Whether an interrupted issue left this, to be thrown away by [`Pki::recover`].
    ///
    /// # Errors
    /// [`PkiError::Index`], [`PkiError::Io`].
    pub(crate) fn is_leftover(&self, serial: &Serial) -> Result<bool, PkiError> {
        let Some(note) = files::read_if_there(&self.layout.journal(), MAX_FILE)? else { return Ok(false) };
        let unwanted = |(then, noted, _): &(Unfinished, Serial, CertName)| {
            *then == Unfinished::Revoke && noted == serial
        };
        // The line of one that is done may be there before its note is gone.
        Ok(parse(&note).unwrap_or_default().iter().any(unwanted) && self.read_index()?.get(serial).is_none())
    }

    /// Whether its work was interrupted, or goes on: the next act that writes puts it in order.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub(crate) fn is_unfinished(&self, serial: &Serial) -> Result<bool, PkiError> {
        let note = files::read_if_there(&self.layout.journal(), MAX_FILE)?.unwrap_or_default();
        Ok(parse(&note).unwrap_or_default().iter().any(|(_, noted, _)| noted == serial))
    }

    /// Puts in order what an interruption left. The first thing every writing act does, under the lock.
    ///
    /// # Errors
    /// [`PkiError::Io`], [`PkiError::BadFile`].
    pub(crate) fn recover(&self, index: &mut Index, now: OffsetDateTime) -> Result<(), PkiError> {
        let path = self.layout.journal();
        let Some(note) = files::read_if_there(&path, MAX_FILE)? else { return Ok(()) };
        let mut unwanted = Vec::new();
        let mut found = false;
        // A note that cannot be read was never whole, so nothing was written after it.
        for (then, serial, name) in parse(&note).unwrap_or_default() {
            self.settle_key(&name)?;
            let Some(there) = self.issued(&name)?.filter(|there| there.serial() == serial) else {
                continue;
            };
            if index.get(&serial).is_some() {
                continue;
            }
            let state = match then {
                Unfinished::Keep => EntryState::Valid,
                Unfinished::Revoke => EntryState::Revoked { at: now, reason: RevocationReason::Superseded },
            };
            index.push(Self::entry_of(&there, state)?);
            found = true;
            match then {
                Unfinished::Keep => self.keep_by_serial(&there)?,
                Unfinished::Revoke => unwanted.push(there),
            }
        }
        if found {
            self.write_index(index)?;
        }
        for certificate in unwanted {
            self.retire(&certificate.serial(), certificate.subject_cn())?;
        }
        files::remove(&path)
    }
}

fn parse(note: &[u8]) -> Option<Vec<(Unfinished, Serial, CertName)>> {
    let lines = std::str::from_utf8(note).ok()?.strip_suffix('\n')?.split('\n');
    lines.map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<(Unfinished, Serial, CertName)> {
    let mut words = line.split(' ');
    let then = words.next()?;
    let then = [Unfinished::Revoke, Unfinished::Keep].into_iter().find(|known| known.word() == then)?;
    Some((then, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}
