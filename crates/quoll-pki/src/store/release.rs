//! Lifting a hold: the one revocation that can be taken back (RFC 5280 §5.3.1 certificateHold). May be repeated.

use time::OffsetDateTime;

use super::{
    Pki,
    files::{self, Mode},
    index::IndexEntry,
    layout::Shelf,
    read_certificate,
};
use crate::{
    certificate::Certificate, error::PkiError, name::CertName, revocation::Released, serial::Serial,
};

impl Pki {
    /// Lifts a hold: the files go back to where they were, then `index.txt` says valid again. The CRL has to be
    /// published; until then servers that read it go on refusing.
    ///
    /// # Errors
    /// [`PkiError::UnknownSerial`]; [`PkiError::BadRequest`] for a certificate that is revoked for good;
    /// [`PkiError::NameTaken`] if two others have its name by now; those of the folder.
    pub fn release(&self, serial: &Serial, now: OffsetDateTime) -> Result<Released, PkiError> {
        let _lock = self.lock()?;
        let mut index = self.read_index()?;
        self.recover(&mut index, now)?;
        let unknown = || PkiError::UnknownSerial { serial: serial.clone() };
        let entry = index.get(serial).ok_or_else(unknown)?;
        let common_name = entry.common_name();
        let released = Released { serial: serial.clone(), common_name, already: !entry.is_revoked() };
        if released.already {
            return Ok(released);
        }
        if !entry.state.is_on_hold() {
            let name = released.common_name.unwrap_or_else(|| serial.to_string());
            let problem = "it is revoked for good; only a hold can be lifted".to_owned();
            return Err(PkiError::BadRequest { name, problem });
        }
        self.bring_back(serial, entry)?;
        // Last the book: until here the certificate is refused, whatever happens.
        index.release(serial);
        self.write_index(&mut index)?;
        Ok(released)
    }

    /// The certificate first: where its name is taken, nothing else has moved.
    fn bring_back(&self, serial: &Serial, entry: &IndexEntry) -> Result<(), PkiError> {
        let layout = &self.layout;
        let revoked = layout.revoked_certificate(serial);
        let Some(name) = entry.common_name().and_then(|name| CertName::parse(&name).ok()) else {
            // It had no named file; its copy is all there is.
            return match read_certificate(&revoked)? {
                Some(certificate) => self.copy_by_serial(&certificate),
                None => Ok(()),
            };
        };
        let shelf = self.free_shelf(&name, serial)?;
        let target = layout.certificate(shelf, name.as_str());
        if let Some(certificate) = read_certificate(&revoked)? {
            self.copy_by_serial(&certificate)?;
            files::relocate(&revoked, &target)?;
        }
        for (from, to) in [
            (layout.revoked_key(serial), layout.key_of(shelf, name.as_str())),
            (layout.revoked_request(serial), layout.request_of(shelf, name.as_str())),
        ] {
            if from.exists() && !to.exists() {
                files::relocate(&from, &to)?;
            }
        }
        if shelf == Shelf::Issued {
            for (place, put_away) in layout.exports(name.as_str(), serial) {
                if put_away.exists() && !place.exists() {
                    files::relocate(&put_away, &place)?;
                }
            }
        }
        Ok(())
    }

    /// `issued/`, or `renewed/` if the name has been given to a newer certificate meanwhile.
    fn free_shelf(&self, name: &CertName, serial: &Serial) -> Result<Shelf, PkiError> {
        let mut last = None;
        for shelf in [Shelf::Issued, Shelf::Renewed] {
            match read_certificate(&self.layout.certificate(shelf, name.as_str()))? {
                None => return Ok(shelf),
                Some(there) if there.serial() == *serial => return Ok(shelf),
                Some(there) => last = Some(there),
            }
        }
        let there = last.expect("both shelves are taken");
        Err(PkiError::NameTaken { name: name.clone(), serial: there.serial(), not_after: there.not_after() })
    }

    fn copy_by_serial(&self, certificate: &Certificate) -> Result<(), PkiError> {
        files::write(
            &self.layout.by_serial(&certificate.serial()),
            certificate.pem().as_bytes(),
            Mode::Public,
        )
    }
}
