//! A listener's door as Mosquitto keeps it: who comes in, and with what permissions.
//!
//! Holds the files that [`Security`] names, read once; to read them anew is to build a new door and swap it in. The caller
//! brings what is known of a client, and spares its threads the milliseconds of [`Door::admits`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quoll_broker::Grants;
use thiserror::Error;

use super::acl_file::{self, AclComplaint, AclFile};
use super::dynamic_security::{self, DynamicSecurity, DynamicSecurityError};
use super::password_file::{self, Answer, PasswordFault, PasswordFile};
use super::password_hash::PasswordHash;
use super::plugins::DynamicSecurityFile;
use super::scram::{self, ScramFile, ScramFileError, ScramRecord};
use super::{Files, Security};

/// The files of a listener's security, read.
#[derive(Clone, Debug)]
pub struct Door {
    allow_anonymous: bool,
    passwords: Vec<Arc<PasswordFile>>,
    /// What is beside each of them.
    scram: Vec<Arc<ScramFile>>,
    permissions: Permissions,
    dynamic: Vec<(PathBuf, Arc<DynamicSecurity>)>,
    /// What should be known about the files.
    pub warnings: Vec<String>,
}

/// Where permissions come from. Where there are several files Mosquitto asks them in turn, and the first file of
/// permissions has an answer to everything.
#[derive(Clone, Debug)]
enum Permissions {
    /// No file: everything is allowed.
    All,
    File(Arc<AclFile>),
    /// The first file of dynamic security.
    Dynamic,
}

/// What is known of a client that asks to be let in.
#[derive(Clone, Copy, Debug)]
pub struct Visitor<'a> {
    /// The user name: of its certificate, where the listener takes it from there, else of its CONNECT.
    pub username: Option<&'a str>,
    /// Its client id.
    pub client_id: &'a str,
    /// The password of its CONNECT.
    pub password: Option<&'a [u8]>,
    /// Whether the user name is of its certificate; it is then believed.
    pub certified: bool,
}

/// Why a file cannot be used. Mosquitto ends then.
#[derive(Debug, Error)]
#[error("cannot use {}: {}", path.display(), reason)]
pub struct DoorError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub reason: DoorReason,
}

/// What is wrong with a file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DoorReason {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    /// Its permissions.
    #[error("{}", lines(_0))]
    Acl(Vec<AclComplaint>),
    /// Its passwords.
    #[error("{}", lines(_0))]
    Passwords(Vec<PasswordFault>),
    /// Its records for SCRAM.
    #[error(transparent)]
    Scram(#[from] ScramFileError),
    /// Its clients, groups and roles.
    #[error(transparent)]
    Dynamic(#[from] DynamicSecurityError),
}

impl DoorError {
    fn is_missing(&self) -> bool {
        matches!(&self.reason, DoorReason::Unreadable(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// What a file of dynamic security means that is not there: nobody comes in by it.
fn none_yet() -> DynamicSecurity {
    let warning = "it is not there; when the broker starts it is made, with an administrator and usual roles";
    let mut none = DynamicSecurity::default();
    none.warnings.push(warning.to_owned());
    none
}

fn lines<T: ToString>(faults: &[T]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl Door {
    /// Reads the files of a listener.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn open(security: &Security, files: &dyn Files) -> Result<Self, DoorError> {
        let mut warnings = Vec::new();
        let (mut passwords, mut scrams) = (Vec::new(), Vec::new());
        for path in &security.password_files {
            let file = read(path, files, password_file::MAX_FILE, |content| {
                PasswordFile::parse(content).map_err(DoorReason::Passwords)
            })?;
            let over = file.passed_over.iter();
            warnings.extend(
                over.map(|line| format!("{}: line {line} has no colon and is left out", path.display())),
            );
            passwords.push(Arc::new(file));
            let beside =
                read(&scram::beside(path), files, scram::MAX_FILE, |content| Ok(ScramFile::parse(content)?));
            let none =
                |error: DoorError| if error.is_missing() { Ok(ScramFile::default()) } else { Err(error) };
            scrams.push(Arc::new(beside.or_else(none)?));
        }
        let mut dynamic = Vec::new();
        for DynamicSecurityFile { path, .. } in &security.dynamic_security {
            let file =
                read(path, files, dynamic_security::MAX_FILE, |content| Ok(DynamicSecurity::parse(content)?));
            let file = file.or_else(|error| if error.is_missing() { Ok(none_yet()) } else { Err(error) })?;
            warnings.extend(file.warnings.iter().map(|text| format!("{}: {text}", path.display())));
            dynamic.push((path.clone(), Arc::new(file)));
        }
        let mut acl = None;
        for path in &security.acl_files {
            let file = read(path, files, acl_file::MAX_FILE, |content| {
                AclFile::parse(path, content).map_err(DoorReason::Acl)
            })?;
            warnings.extend(file.warnings.iter().map(ToString::to_string));
            if acl.is_some() {
                warnings
                    .push(format!("{} is never asked: the file before it has all answers", path.display()));
            }
            acl.get_or_insert_with(|| Arc::new(file));
        }
        let permissions = match acl {
            Some(file) => Permissions::File(file),
            None if dynamic.is_empty() => Permissions::All,
            None => Permissions::Dynamic,
        };
        let allow_anonymous = security.allow_anonymous;
        Ok(Self { allow_anonymous, passwords, scram: scrams, permissions, dynamic, warnings })
    }

    /// Whether a client comes in. Blocks for milliseconds on purpose.
    #[must_use]
    pub fn admits(&self, visitor: &Visitor<'_>) -> bool {
        if visitor.certified {
            return visitor.username.is_some();
        }
        if self.passwords.is_empty() && self.dynamic.is_empty() {
            return self.allow_anonymous;
        }
        let Some(username) = visitor.username else { return self.allow_anonymous };
        // A user name without a password proves nothing.
        let Some(password) = visitor.password else { return false };
        let files = self.passwords.iter().map(|file| file.verify(username, password));
        let clients = self.dynamic.iter().map(|(_, file)| file.verify(username, visitor.client_id, password));
        files.chain(clients).find(|answer| *answer != Answer::Unknown) == Some(Answer::Right)
    }

    /// Whether a client that this door's predecessor let in would be let in by this one: what proved who it is must be
    /// what proves it now. Somebody whose password was changed has to come in again.
    #[must_use]
    pub fn still_admits(&self, before: &Self, username: Option<&str>, certified: bool) -> bool {
        if certified {
            return username.is_some();
        }
        if self.passwords.is_empty() && self.dynamic.is_empty() {
            return self.allow_anonymous;
        }
        let Some(username) = username else { return self.allow_anonymous };
        let proof = self.proof(username);
        proof.is_some() && proof == before.proof(username)
    }

    fn proof(&self, username: &str) -> Option<(&PasswordHash, Option<&str>)> {
        let hash = self.passwords.iter().find_map(|file| file.proof(username));
        let hash = hash.map(|hash| (hash, None));
        hash.or_else(|| self.dynamic.iter().find_map(|(_, file)| file.proof(username)))
    }

    /// Whether there are passwords to be asked for.
    #[must_use]
    pub const fn asks_for_passwords(&self) -> bool {
        !self.passwords.is_empty() || !self.dynamic.is_empty()
    }

    /// Whether some account can be proven by SCRAM-SHA-256.
    #[must_use]
    pub fn has_scram(&self) -> bool {
        self.scram.iter().any(|file| !file.is_empty())
    }

    /// The record of an account for that; `None` where there is none, or its password was changed since.
    #[must_use]
    pub fn scram_record(&self, username: &str) -> Option<&ScramRecord> {
        // As with passwords the first file that knows the user decides.
        let (file, beside) =
            self.passwords.iter().zip(&self.scram).find(|(file, _)| file.proof(username).is_some())?;
        beside.record(username, file.proof(username)?)
    }

    /// The first file of dynamic security, the one that commands are for.
    #[must_use]
    pub fn dynamic_security(&self) -> Option<(&Path, &Arc<DynamicSecurity>)> {
        self.dynamic.first().map(|(path, security)| (path.as_path(), security))
    }

    /// The same door with other clients, groups and roles in this file's place; `None` where it has not got the file.
    #[must_use]
    pub fn with_dynamic_security(&self, path: &Path, security: &Arc<DynamicSecurity>) -> Option<Self> {
        let mut door = self.clone();
        let (_, place) = door.dynamic.iter_mut().find(|(own, _)| own == path)?;
        *place = Arc::clone(security);
        Some(door)
    }

    /// Whether what a client may do hangs on a file of dynamic security.
    #[must_use]
    pub const fn is_dynamic(&self) -> bool {
        matches!(self.permissions, Permissions::Dynamic)
    }

    /// The permissions of a client that was let in.
    #[must_use]
    pub fn grants(&self, username: Option<&str>, client_id: &str) -> Arc<Grants> {
        match &self.permissions {
            Permissions::All => Grants::everything(),
            Permissions::File(acl) => Arc::new(acl.grants(username, client_id)),
            Permissions::Dynamic => {
                let file = self.dynamic.first();
                Arc::new(file.map_or_else(Grants::none, |(_, file)| file.grants(username, client_id)))
            }
        }
    }
}

fn read<T>(
    path: &Path,
    files: &dyn Files,
    most: usize,
    parse: impl FnOnce(&[u8]) -> Result<T, DoorReason>,
) -> Result<T, DoorError> {
    let content = files.read(path, most).map_err(DoorReason::from);
    let content = content.map(zeroize::Zeroizing::new);
    content.and_then(|content| parse(&content)).map_err(|reason| DoorError { path: path.to_owned(), reason })
}
