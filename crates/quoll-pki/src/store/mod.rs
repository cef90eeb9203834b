//! The folder: an Easy-RSA `pki/` directory, opened in place. Its files are the only truth; nothing is remembered
//! between two calls but the CA certificate.
//!
//! * [`layout`]: which file lies where. [`index`]: `index.txt`. [`files`]: atomic writes, modes, the lock.
//! * [`create`]: a new folder. [`journal`]: what an interruption left. [`make_way`]: what stands where a new certificate goes. [`retire`]: revocation.

pub(crate) mod create;
pub(crate) mod files;
pub(crate) mod index;
pub(crate) mod journal;
#[cfg(test)]
mod killed;
pub(crate) mod layout;
pub(crate) mod make_way;
mod release;
mod retire;
pub(crate) mod together;

use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509CertificationRequest};
use zeroize::Zeroizing;

pub(crate) use self::create::EASYRSA_FILES;
pub use self::create::NewCa;
use self::{
    files::{Lock, Mode},
    index::{EntryState, Index, IndexEntry},
    layout::{Layout, Shelf},
};
use crate::{
    authority::Authority,
    certificate::Certificate,
    crl::{Crl, CrlStatus, PublishedCrl},
    error::PkiError,
    key::PrivateKey,
    key_file,
    limits::{CRL_AHEAD, CRL_WARN, MAX_FILE, MAX_INDEX},
    name::CertName,
    passphrase::Passphrase,
    pem,
    revocation::{RevocationReason, Revoked},
    serial::Serial,
    subject,
};

/// An opened folder. Any number of processes may use one at once: whoever writes takes its lock and reads the books anew.
/// Easy-RSA does not know the lock, so it should not sign or revoke in the same second.
#[derive(Debug, Clone)]
pub struct Pki {
    pub(crate) layout: Layout,
    pub(crate) ca: Certificate,
}

impl Pki {
    /// Opens the folder at `dir`: an Easy-RSA 3 `pki/` directory. Nothing is changed. The CA's key need not be there.
    ///
    /// # Errors
    /// [`PkiError::NotAPki`] for a folder without `ca.crt` or `index.txt`, [`PkiError::BadFile`] for a broken `ca.crt`,
    /// [`PkiError::Index`] with line and column for a broken `index.txt`, [`PkiError::Io`].
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        let layout = Layout::new(dir);
        let missing = |missing: &str| {
            let nearby = dir.join("pki");
            let nearby = nearby.join("ca.crt").exists().then_some(nearby);
            PkiError::NotAPki { dir: dir.to_owned(), missing: missing.to_owned(), nearby }
        };
        let ca = read_certificate(&layout.ca_certificate())?.ok_or_else(|| missing("ca.crt"))?;
        if !ca.is_ca() {
            let problem = "it is not a CA certificate (basicConstraints does not say CA:TRUE)".to_owned();
            return Err(PkiError::BadFile { path: layout.ca_certificate(), problem });
        }
        if !layout.index().exists() {
            return Err(missing("index.txt"));
        }
        let pki = Self { layout, ca };
        pki.read_index()?;
        Ok(pki)
    }

    /// A new CA in an empty or new folder. If an earlier creation was interrupted, it is finished or begun again.
    ///
    /// # Errors
    /// [`PkiError::NotEmpty`], [`PkiError::AlreadyACa`], [`PkiError::BadRequest`], [`PkiError::UnusablePassphrase`].
    pub fn create(dir: &Path, new: &NewCa, pass: &Passphrase, now: OffsetDateTime) -> Result<Self, PkiError> {
        create::create(dir, new, pass, now)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        self.layout.dir()
    }

    /// The CA's certificate, as it was when the folder was opened.
    pub fn ca(&self) -> &Certificate {
        &self.ca
    }

    /// The CA's certificate and, where another CA signed it, those that vouch for it, as far as `ca.crt` has them: OpenSSL's
    /// clients accept a CA below another one only with the one that signed itself.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub fn ca_chain(&self) -> Result<Vec<Certificate>, PkiError> {
        let there = Certificate::all_from_pem(&files::read(&self.layout.ca_certificate(), MAX_FILE)?);
        let mut chain = vec![self.ca.clone()];
        while let Some(last) = chain.last().filter(|last| last.issuer_der() != last.subject_der()) {
            let vouches = |it: &&Certificate| {
                it.subject_der() == last.issuer_der()
                    && last.is_signed_by(it) == Some(true)
                    && !chain.contains(it)
            };
            let Some(next) = there.iter().find(vouches).cloned() else { break };
            chain.push(next);
        }
        Ok(chain)
    }

    /// Every certificate in `index.txt`, read fresh, in its order.
    ///
    /// # Errors
    /// [`PkiError::Index`], [`PkiError::Io`].
    pub fn entries(&self) -> Result<Vec<IndexEntry>, PkiError> {
        Ok(self.read_index()?.entries().cloned().collect())
    }

    /// `issued/NAME.crt`, or `None` if there is none. What an interrupted issue has left there, which nobody was given and
    /// whose key may be missing, is none: the next act that writes clears it away.
    ///
    /// # Errors
    /// [`PkiError::BadFile`], [`PkiError::Index`], [`PkiError::Io`].
    pub fn certificate(&self, name: &CertName) -> Result<Option<Certificate>, PkiError> {
        let Some(there) = self.issued(name)? else { return Ok(None) };
        Ok(if self.is_leftover(&there.serial())? { None } else { Some(there) })
    }

    /// `issued/NAME.crt`, whatever it is.
    pub(crate) fn issued(&self, name: &CertName) -> Result<Option<Certificate>, PkiError> {
        read_certificate(&self.layout.issued(name))
    }

    /// The certificate with that serial number, wherever Easy-RSA moved it: in use, renewed, expired or revoked.
    ///
    /// # Errors
    /// [`PkiError::BadFile`], [`PkiError::Index`], [`PkiError::Io`].
    pub fn certificate_by_serial(&self, serial: &Serial) -> Result<Option<Certificate>, PkiError> {
        let layout = &self.layout;
        for path in
            [layout.by_serial(serial), layout.revoked_certificate(serial), layout.renewed_by_serial(serial)]
        {
            if let Some(certificate) = read_certificate(&path)? {
                return Ok(Some(certificate));
            }
        }
        let common_name = self.read_index()?.get(serial).and_then(IndexEntry::common_name);
        Ok(self.holders(serial, common_name.as_deref())?.into_iter().next().map(|holder| holder.certificate))
    }

    /// The key of a server as plain PKCS#8 PEM, for a broker that starts unattended.
    ///
    /// # Errors
    /// [`PkiError::Encrypted`] with a hint, [`PkiError::BadKey`], [`PkiError::Io`].
    pub fn server_key_pem(&self, name: &CertName) -> Result<Zeroizing<String>, PkiError> {
        match self.waiting_key(name)? {
            Some(key) => Ok(key.pkcs8_pem()),
            None => Ok(key_file::read(&self.layout.key(name), None)?.pkcs8_pem()),
        }
    }

    /// The key in `private/NAME.key`; `pass` is used only if it is encrypted.
    ///
    /// # Errors
    /// [`PkiError::WrongPassphrase`], [`PkiError::UnsupportedKey`], [`PkiError::BadKey`], [`PkiError::Io`].
    pub fn private_key(&self, name: &CertName, pass: &Passphrase) -> Result<PrivateKey, PkiError> {
        match self.waiting_key(name)? {
            Some(key) => Ok(key),
            None => key_file::read(&self.layout.key(name), Some(pass)),
        }
    }

    /// The key that `private/NAME.key` was before its last change, from `renewed/`; `pass` is used only if it is encrypted.
    ///
    /// # Errors
    /// As [`Pki::private_key`].
    pub fn superseded_key(&self, name: &CertName, pass: &Passphrase) -> Result<PrivateKey, PkiError> {
        key_file::read(&self.layout.key_of(Shelf::Renewed, name.as_str()), Some(pass))
    }

    /// Opens the CA's key. A wrong passphrase changes nothing and may be followed by another try.
    ///
    /// # Errors
    /// [`PkiError::WrongPassphrase`], [`PkiError::UnsupportedKey`], [`PkiError::BadKey`], [`PkiError::KeyMismatch`].
    pub fn unlock(&self, pass: &Passphrase) -> Result<Authority, PkiError> {
        let path = self.layout.ca_key();
        let key = key_file::read(&path, Some(pass))?;
        if key.public_key_der() != self.ca.public_key_der() {
            return Err(PkiError::KeyMismatch { key: path, certificate: self.layout.ca_certificate() });
        }
        Ok(Authority::new(self.clone(), key))
    }

    /// Revokes a certificate in `index.txt` and moves its files to `revoked/`, as `easyrsa revoke` does. Needs no CA key;
    /// the CRL is published separately. A second call finishes what a first one left, and changes neither date nor reason,
    /// except that a hold may become final.
    ///
    /// # Errors
    /// [`PkiError::UnknownSerial`], [`PkiError::Index`], [`PkiError::Io`].
    pub fn revoke(
        &self,
        serial: &Serial,
        reason: RevocationReason,
        now: OffsetDateTime,
    ) -> Result<Revoked, PkiError> {
        let _lock = self.lock()?;
        let mut index = self.read_index()?;
        self.recover(&mut index, now)?;
        let unknown = || PkiError::UnknownSerial { serial: serial.clone() };
        let on_hold = EntryState::is_on_hold;
        let state = &index.get(serial).ok_or_else(unknown)?.state;
        // From hold it may go on to a final reason; no other reason is ever changed.
        let already = matches!(state, EntryState::Revoked { .. })
            && (!on_hold(state) || reason == RevocationReason::CertificateHold);
        if !already {
            index.revoke(serial, now.replace_nanosecond(0).unwrap_or(now), reason);
            // First the book, then the files: from here on the certificate is revoked, whatever happens.
            self.write_index(&mut index)?;
        }
        let entry = index.get(serial).ok_or_else(unknown)?;
        let EntryState::Revoked { at, reason } = entry.state else { return Err(unknown()) };
        let common_name = entry.common_name();
        self.retire(serial, common_name.as_deref())?;
        Ok(Revoked { serial: serial.clone(), common_name, at, reason, already })
    }

    /// Serial numbers of all revoked certificates, in the order of `index.txt`.
    ///
    /// # Errors
    /// [`PkiError::Index`], [`PkiError::Io`].
    pub fn revoked_serials(&self) -> Result<Vec<Serial>, PkiError> {
        let index = self.read_index()?;
        Ok(index.entries().filter(|entry| entry.is_revoked()).map(|entry| entry.serial.clone()).collect())
    }

    /// True when `crl.pem` is missing, unreadable, not this CA's, past its `nextUpdate`, of a clock that was ahead, or does not have exactly what is
    /// revoked.
    ///
    /// # Errors
    /// [`PkiError::Index`], [`PkiError::Io`].
    pub fn crl_is_behind(&self, now: OffsetDateTime) -> Result<bool, PkiError> {
        let Some(crl) = self.read_crl()? else { return Ok(true) };
        let ours = crl.issuer_der == self.ca.subject_der();
        let begun = crl.this_update.is_none_or(|this| this - now < CRL_AHEAD);
        let fresh = begun && crl.next_update.is_some_and(|next| now < next);
        let index = self.read_index()?;
        let revoked = index.revoked();
        // Also one that has been released from hold must leave the list.
        Ok(!ours
            || !fresh
            || revoked.len() != crl.serials.len()
            || revoked.iter().any(|serial| !crl.serials.contains(serial)))
    }

    /// How `crl.pem` stands; `None` where there is none. Whoever reads no CRL, as Quoll's own broker, need not care.
    ///
    /// # Errors
    /// [`PkiError::Index`], [`PkiError::Io`].
    pub fn crl_status(&self, now: OffsetDateTime) -> Result<Option<CrlStatus>, PkiError> {
        let path = self.layout.crl();
        if !path.exists() {
            return Ok(None);
        }
        let Some(crl) = self.read_crl()? else {
            let problems = vec![format!("{} is not a CRL", path.display())];
            let status =
                CrlStatus { number: None, this_update: None, next_update: None, revoked: 0, problems };
            return Ok(Some(status));
        };
        let mut problems = Vec::new();
        if crl.issuer_der != self.ca.subject_der() {
            problems.push("the revocation list is another CA's".to_owned());
        }
        if let Some(this) = crl.this_update.filter(|this| *this - now >= CRL_AHEAD) {
            problems.push(format!(
                "the revocation list begins on {} only, by a clock that was ahead: until then, servers that read it refuse \
                 everybody",
                this.date()
            ));
        }
        match crl.next_update {
            None => problems.push("the revocation list does not say until when it is good".into()),
            Some(next) if next <= now => problems.push(format!(
                "the revocation list is over since {}: servers that read it refuse everybody",
                next.date()
            )),
            Some(next) if next - now < CRL_WARN => problems.push(format!(
                "the revocation list is good until {} only; after that, servers that read it refuse everybody",
                next.date()
            )),
            Some(_) => {}
        }
        let index = self.read_index()?;
        let revoked = index.revoked();
        let missing = revoked.iter().filter(|serial| !crl.serials.contains(serial)).count();
        if missing > 0 {
            problems.push(format!("the revocation list lacks {missing} revoked certificates"));
        }
        let released = crl.serials.iter().filter(|serial| !revoked.contains(serial)).count();
        if released > 0 {
            problems.push(format!("the revocation list has {released} certificates that are not revoked"));
        }
        Ok(Some(CrlStatus {
            number: crl.number,
            this_update: crl.this_update,
            next_update: crl.next_update,
            revoked: crl.serials.len(),
            problems,
        }))
    }

    /// The revocation list in `crl.pem`, to be handed out. `None` where there is none.
    ///
    /// # Errors
    /// [`PkiError::BadFile`] for what is no list of this CA's, [`PkiError::Io`].
    pub fn published_crl(&self) -> Result<Option<PublishedCrl>, PkiError> {
        let path = self.layout.crl();
        let Some(content) = files::read_if_there(&path, MAX_INDEX)? else { return Ok(None) };
        let bad = |problem: String| PkiError::BadFile { path: path.clone(), problem };
        let der = pem::find(&content, |label| label == "X509 CRL").map_err(bad)?.der.to_vec();
        let crl = Crl::from_pem(&content).map_err(bad)?;
        if crl.issuer_der != self.ca.subject_der() {
            return Err(bad("it is another CA's".into()));
        }
        Ok(Some(PublishedCrl { der, this_update: crl.this_update, next_update: crl.next_update }))
    }

    pub(crate) fn lock(&self) -> Result<Lock, PkiError> {
        files::lock(self.dir())
    }

    pub(crate) fn read_index(&self) -> Result<Index, PkiError> {
        let path = self.layout.index();
        let content = files::read(&path, MAX_INDEX)?;
        Index::parse(&content).map_err(|error| PkiError::Index {
            path,
            line: error.line,
            column: error.column,
            problem: error.problem,
        })
    }

    /// Writes `index.txt`, keeping the old one as `index.txt.old` as OpenSSL does. Easy-RSA does not know our lock: if it
    /// wrote in the meantime, its line is not overwritten.
    pub(crate) fn write_index(&self, index: &mut Index) -> Result<(), PkiError> {
        self.allow_repeated_subjects()?;
        let (path, content) = (self.layout.index(), index.to_bytes());
        let old = files::read(&path, MAX_INDEX)?;
        if !index.is_still(&old) {
            return Err(PkiError::ChangedMeanwhile { path });
        }
        files::write(&self.layout.index_old(), &old, Mode::Keep)?;
        files::write(&path, &content, Mode::Keep)?;
        index.note_written(content);
        Ok(())
    }

    /// `crl.pem` if there is one that can be read as a CRL.
    pub(crate) fn read_crl(&self) -> Result<Option<Crl>, PkiError> {
        let content = files::read_if_there(&self.layout.crl(), MAX_INDEX)?;
        Ok(content.and_then(|content| Crl::from_pem(&content).ok()))
    }

    /// The public key in a request file; `None` if there is no such file or no request in it.
    pub(crate) fn requested_key(&self, path: &Path) -> Result<Option<Vec<u8>>, PkiError> {
        let Some(content) = files::read_if_there(path, MAX_FILE)? else { return Ok(None) };
        let Ok(block) = pem::find(&content, |label| label.ends_with("CERTIFICATE REQUEST")) else {
            return Ok(None);
        };
        let parsed = X509CertificationRequest::from_der(&block.der);
        Ok(parsed.ok().map(|(_, request)| request.certification_request_info.subject_pki.raw.to_vec()))
    }

    /// What `index.txt` says of a certificate in the state `state`.
    pub(crate) fn entry_of(certificate: &Certificate, state: EntryState) -> Result<IndexEntry, PkiError> {
        Ok(IndexEntry {
            state,
            not_after: certificate.not_after(),
            serial: certificate.serial(),
            subject: subject::one_line(certificate.subject_der())?,
        })
    }

    /// A renewed certificate has its predecessor's subject, which OpenSSL forbids unless told; so does Easy-RSA's upgrade.
    fn allow_repeated_subjects(&self) -> Result<(), PkiError> {
        let path = self.layout.index_attributes();
        let content = files::read_if_there(&path, MAX_FILE)?;
        let told = content.as_deref().is_some_and(|content| {
            let text = String::from_utf8_lossy(content).replace([' ', '\t'], "");
            text.lines().any(|line| line.trim_end() == "unique_subject=no")
        });
        if told { Ok(()) } else { files::write(&path, b"unique_subject = no\n", Mode::Keep) }
    }

    /// Every named file that holds the certificate with this serial number; where the common name points is looked at
    /// first, then everywhere.
    pub(crate) fn holders(
        &self,
        serial: &Serial,
        common_name: Option<&str>,
    ) -> Result<Vec<Holder>, PkiError> {
        let named = common_name.filter(|name| CertName::parse(name).is_ok());
        let mut out = Vec::new();
        for shelf in Shelf::ALL {
            let guess = named.map(str::to_owned);
            if let Some(holder) = guess.and_then(|stem| self.holder(shelf, stem, serial)) {
                out.push(holder);
            }
        }
        if !out.is_empty() {
            return Ok(out);
        }
        for shelf in Shelf::ALL {
            let stems = stems(&self.layout.shelf(shelf))?;
            out.extend(stems.into_iter().filter_map(|stem| self.holder(shelf, stem, serial)));
        }
        Ok(out)
    }

    /// A file that cannot be read as a certificate holds none; it is not this search's business to complain.
    fn holder(&self, shelf: Shelf, stem: String, serial: &Serial) -> Option<Holder> {
        let certificate = read_certificate(&self.layout.certificate(shelf, &stem)).ok()??;
        (certificate.serial() == *serial).then_some(Holder { shelf, stem, certificate })
    }
}

/// A named file with a certificate in it.
pub(crate) struct Holder {
    pub(crate) shelf: Shelf,
    pub(crate) stem: String,
    pub(crate) certificate: Certificate,
}

/// The certificate in a file, `None` if there is no file.
pub(crate) fn read_certificate(path: &Path) -> Result<Option<Certificate>, PkiError> {
    // A named pipe would keep its reader waiting for ever.
    if path.metadata().is_ok_and(|about| !about.is_file() && !about.is_dir()) {
        return Err(PkiError::BadFile { path: path.to_owned(), problem: "it is no file".into() });
    }
    let Some(content) = files::read_if_there(path, MAX_FILE)? else { return Ok(None) };
    match Certificate::from_pem(&content) {
        Ok(certificate) => Ok(Some(certificate)),
        Err(error) => Err(PkiError::BadFile { path: path.to_owned(), problem: error.to_string() }),
    }
}

/// Names of the `.crt` files in a folder, without the ending; none if there is no folder.
fn stems(folder: &Path) -> Result<Vec<String>, PkiError> {
    let listing = match std::fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(files::io("listing", folder)(source)),
    };
    let mut out = Vec::new();
    for file in listing {
        let name = PathBuf::from(file.map_err(files::io("listing", folder))?.file_name());
        if name.extension().is_some_and(|ending| ending == "crt")
            && let Some(stem) = name.file_stem().and_then(|stem| stem.to_str())
        {
            out.push(stem.to_owned());
        }
    }
    out.sort_unstable();
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyKind, Passphrase};

    #[test]
    fn a_line_that_easy_rsa_wrote_meanwhile_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let new = NewCa { key: KeyKind::EcP256, ..NewCa::new("CA") };
        let now = OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000);
        let pki = Pki::create(dir.path(), &new, &Passphrase::new("test"), now).unwrap();
        let mut index = pki.read_index().unwrap();
        let theirs = b"V\t311027123244Z\t\tE674\tunknown\t/CN=theirs\n";
        std::fs::write(pki.layout.index(), theirs).unwrap();
        index.push(Pki::entry_of(pki.ca(), EntryState::Valid).unwrap());
        let error = pki.write_index(&mut index).unwrap_err();
        assert!(matches!(error, PkiError::ChangedMeanwhile { .. }), "{error}");
        assert_eq!(std::fs::read(pki.layout.index()).unwrap(), theirs);

        let mut index = pki.read_index().unwrap();
        index.push(Pki::entry_of(pki.ca(), EntryState::Valid).unwrap());
        pki.write_index(&mut index).unwrap();
        pki.write_index(&mut index).unwrap();
        assert_eq!(pki.entries().unwrap().len(), 2);
    }
}
