//! Moving the files of a revoked certificate to `revoked/*_by_serial`, as `easyrsa revoke` does. May be repeated.

use time::OffsetDateTime;

use super::{Holder, Pki, files, layout::Shelf};
use crate::{
    error::PkiError,
    revocation::{RevocationReason, Revoked},
    serial::Serial,
};

impl Pki {
    /// [`Pki::revoke`] in the first of these folders that has it, of which there are two during a rollover; `None` where none
    /// has it.
    ///
    /// # Errors
    /// As [`Pki::revoke`], but for [`PkiError::UnknownSerial`].
    pub fn revoke_among<'a>(
        folders: impl IntoIterator<Item = &'a Self>,
        serial: &Serial,
        reason: RevocationReason,
        now: OffsetDateTime,
    ) -> Result<Option<Revoked>, PkiError> {
        for folder in folders {
            match folder.revoke(serial, reason, now) {
                Err(PkiError::UnknownSerial { .. }) => {}
                done => return done.map(Some),
            }
        }
        Ok(None)
    }

    /// Moves certificate, key, request and exports of `serial`; removes the copy in `certs_by_serial/` and inline files.
    /// The certificate goes last: until it has gone, a repetition finds its name again.
    pub(crate) fn retire(&self, serial: &Serial, common_name: Option<&str>) -> Result<(), PkiError> {
        let revoked = self.layout.revoked_certificate(serial);
        for holder in self.holders(serial, common_name)? {
            self.retire_companions(&holder, serial)?;
            files::relocate(&self.layout.certificate(holder.shelf, &holder.stem), &revoked)?;
        }
        for copy in [self.layout.by_serial(serial), self.layout.renewed_by_serial(serial)] {
            match (copy.exists(), revoked.exists()) {
                (true, true) => files::remove(&copy)?,
                (true, false) => files::replace(&copy, &revoked)?,
                (false, _) => {}
            }
        }
        Ok(())
    }

    fn retire_companions(&self, holder: &Holder, serial: &Serial) -> Result<(), PkiError> {
        let Holder { shelf, stem, certificate } = holder;
        let (key, request) = (self.layout.key_of(*shelf, stem), self.layout.request_of(*shelf, stem));
        // A renewed server keeps its key: it goes only with a certificate that its request is of.
        let requested = self.requested_key(&request)?;
        let owner = requested.as_deref().is_none_or(|requested| requested == certificate.public_key_der());
        // `easyrsa expire` leaves the key on the desk, where a newer certificate may have taken it over.
        let in_use = *shelf == Shelf::Expired && self.layout.certificate(Shelf::Issued, stem).exists();
        if !owner || in_use {
            return Ok(());
        }
        for (from, to) in
            [(key, self.layout.revoked_key(serial)), (request, self.layout.revoked_request(serial))]
        {
            if from.exists() {
                files::relocate(&from, &to)?;
            }
        }
        if *shelf == Shelf::Renewed {
            return Ok(());
        }
        for (from, to) in self.layout.exports(stem, serial) {
            if from.exists() {
                files::relocate(&from, &to)?;
            }
        }
        self.layout.inline(stem).iter().try_for_each(|inline| files::remove(inline))
    }
}
