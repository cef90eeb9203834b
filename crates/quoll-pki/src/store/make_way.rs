//! What stands where a new certificate has to go: a valid one, an old one, the leftover of an interruption, or a request
//! of Easy-RSA's that waits for its signature. Decides which may be replaced, and sets aside what must be kept.

use std::path::Path;

use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{
    Pki,
    files::{self, Mode},
    index::{EntryState, Index},
    layout::Shelf,
    read_certificate,
};
use crate::{
    certificate::Certificate,
    error::{Obstacle, PkiError},
    key_file,
    limits::MAX_FILE,
    name::CertName,
    request::IfTaken,
};

/// What is to be put down.
pub(crate) struct Incoming<'a> {
    pub(crate) name: &'a CertName,
    pub(crate) public_key_der: &'a [u8],
    pub(crate) if_taken: IfTaken,
}

impl Pki {
    /// Clears `issued/NAME.crt`, `private/NAME.key` and `reqs/NAME.req`, or says what is in the way. True if a key that is
    /// not the new one's is still at `private/NAME.key`; a copy of it is in `renewed/` then.
    ///
    /// # Errors
    /// [`PkiError::NameTaken`], [`PkiError::InTheWay`]; nothing was changed then.
    pub(crate) fn make_way(
        &self,
        index: &Index,
        incoming: &Incoming<'_>,
        now: OffsetDateTime,
    ) -> Result<bool, PkiError> {
        let name = incoming.name;
        let Some(there) = self.issued(name)? else {
            self.check_key_and_request(incoming, None)?;
            let same_key = self
                .requested_key(&self.layout.request(name))?
                .is_none_or(|requested| requested == incoming.public_key_der);
            if !same_key {
                self.set_aside_key(name)?;
            }
            return Ok(!same_key);
        };
        self.refuse_foreign(name, &there)?;
        let serial = there.serial();
        match index.get(&serial).map(|entry| entry.state.clone()) {
            // An interrupted issue was put in order before; this is something else, perhaps an old index.txt restored.
            None => Err(PkiError::InTheWay { path: self.layout.issued(name), what: Obstacle::Unlisted }),
            // Killed between revoking it and moving its files.
            Some(EntryState::Revoked { .. }) => {
                self.check_key_and_request(incoming, Some(&there))?;
                self.retire(&serial, there.subject_cn())?;
                Ok(false)
            }
            Some(_) if now <= there.not_after() && incoming.if_taken == IfTaken::Refuse => {
                Err(PkiError::NameTaken { name: name.clone(), serial, not_after: there.not_after() })
            }
            Some(_) => {
                self.set_aside(name, &there)?;
                let same_key = there.public_key_der() == incoming.public_key_der;
                if !same_key {
                    self.set_aside_key(name)?;
                }
                Ok(!same_key)
            }
        }
    }

    /// Whether [`Pki::make_way`] would succeed. Changes nothing.
    ///
    /// # Errors
    /// As [`Pki::make_way`].
    pub(crate) fn may_come(
        &self,
        index: &Index,
        incoming: &Incoming<'_>,
        now: OffsetDateTime,
    ) -> Result<(), PkiError> {
        let name = incoming.name;
        let Some(there) = self.issued(name)? else { return self.check_key_and_request(incoming, None) };
        self.refuse_foreign(name, &there)?;
        let serial = there.serial();
        match index.get(&serial).map(|entry| &entry.state) {
            None => Err(PkiError::InTheWay { path: self.layout.issued(name), what: Obstacle::Unlisted }),
            Some(EntryState::Revoked { .. }) => self.check_key_and_request(incoming, Some(&there)),
            Some(_) if now <= there.not_after() && incoming.if_taken == IfTaken::Refuse => {
                Err(PkiError::NameTaken { name: name.clone(), serial, not_after: there.not_after() })
            }
            Some(_) => Ok(()),
        }
    }

    /// Copies the certificate of `name` to `renewed/`, where `easyrsa revoke-renewed` finds it. The original stays until
    /// the new one is renamed over it: a broker that starts in between still finds its certificate.
    pub(crate) fn set_aside(&self, name: &CertName, there: &Certificate) -> Result<(), PkiError> {
        let layout = &self.layout;
        let target = layout.certificate(Shelf::Renewed, name.as_str());
        if let Some(earlier) = read_certificate(&target)? {
            self.keep_by_serial(&earlier)?;
        }
        self.keep_by_serial(there)?;
        self.copy(&layout.issued(name), &target, Mode::Public)
    }

    pub(crate) fn set_aside_key(&self, name: &CertName) -> Result<(), PkiError> {
        let layout = &self.layout;
        self.copy(&layout.key(name), &layout.key_of(Shelf::Renewed, name.as_str()), Mode::Private)?;
        self.copy(&layout.request(name), &layout.request_of(Shelf::Renewed, name.as_str()), Mode::Private)
    }

    fn copy(&self, from: &Path, to: &Path, mode: Mode) -> Result<(), PkiError> {
        match files::read_if_there(from, MAX_FILE)?.map(Zeroizing::new) {
            Some(content) => files::write(to, &content, mode),
            None => Ok(()),
        }
    }

    /// A certificate of another CA in `issued/` is a person's doing, not ours to replace.
    pub(crate) fn refuse_foreign(&self, name: &CertName, there: &Certificate) -> Result<(), PkiError> {
        if there.issuer_der() == self.ca.subject_der() {
            return Ok(());
        }
        Err(PkiError::InTheWay { path: self.layout.issued(name), what: Obstacle::Foreign })
    }

    /// A key or request without a certificate is one of Easy-RSA's `gen-req` or `import-req`, waiting to be signed;
    /// unless it is the new one's own, or belongs to a certificate that is known.
    fn check_key_and_request(
        &self,
        incoming: &Incoming<'_>,
        there: Option<&Certificate>,
    ) -> Result<(), PkiError> {
        let name = incoming.name.as_str();
        let mut owners = vec![incoming.public_key_der.to_vec()];
        owners.extend(there.map(|certificate| certificate.public_key_der().to_vec()));
        for shelf in [Shelf::Renewed, Shelf::Expired] {
            let certificate = read_certificate(&self.layout.certificate(shelf, name))?;
            owners.extend(certificate.map(|certificate| certificate.public_key_der().to_vec()));
        }
        let (key, request) = (self.layout.key(incoming.name), self.layout.request(incoming.name));
        let known =
            |public_key: Option<Vec<u8>>| public_key.is_some_and(|public_key| owners.contains(&public_key));
        if request.exists() {
            if known(self.requested_key(&request)?) {
                return Ok(());
            }
            return Err(PkiError::InTheWay { path: request, what: Obstacle::Request });
        }
        if key.exists() && !known(key_file::read(&key, None).ok().map(|key| key.public_key_der())) {
            return Err(PkiError::InTheWay { path: key, what: Obstacle::Key });
        }
        Ok(())
    }

    /// So that a certificate without a name of its own can still be found and revoked.
    pub(crate) fn keep_by_serial(&self, certificate: &Certificate) -> Result<(), PkiError> {
        let path = self.layout.by_serial(&certificate.serial());
        if path.exists() || self.layout.revoked_certificate(&certificate.serial()).exists() {
            return Ok(());
        }
        files::write(&path, certificate.pem().as_bytes(), Mode::Public)
    }
}
