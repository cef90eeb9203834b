//! Mosquitto's `password_file`: read by the broker, and written for `quoll passwd`, the counterpart of mosquitto_passwd.
//!
//! [`PasswordFile`] answers questions; [`PasswordText`] changes a file and keeps all lines that it has nothing to do with.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

use super::password_hash::{HashError, PasswordHash, Scheme};
use super::replace_file;

/// Bytes of a file: some 100,000 users.
pub const MAX_FILE: usize = 16 << 20;
/// Faults told; more are read by nobody.
const MAX_FAULTS: usize = 100;

/// Users and their passwords' hashes.
#[derive(Clone, Debug)]
pub struct PasswordFile {
    users: HashMap<String, PasswordHash>,
    /// Checked in place of the hash of a user that there is not, so that an answer takes as long.
    nobody: Option<PasswordHash>,
    /// Lines without colon, which are passed over as Mosquitto does.
    pub passed_over: Vec<usize>,
}

/// What a file of passwords says of a user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It is this user.
    Right,
    /// The password is another.
    Wrong,
    /// No such user is in the file; another file may have it.
    Unknown,
}

/// A damaged line.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("line {line}: {fault}")]
pub struct PasswordFault {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong.
    pub fault: LineFault,
}

/// What is wrong with a line.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum LineFault {
    /// Larger than any file of passwords; ours, against a wrong path.
    #[error("more than {MAX_FILE} bytes")]
    TooLarge,
    /// No UTF-8.
    #[error("this line is not UTF-8")]
    NotUtf8,
    /// Nothing before the colon.
    #[error("no user name")]
    NoUser,
    /// The name is there already.
    #[error("user {name:?} is there already, in line {first}")]
    Twice {
        /// The name.
        name: String,
        /// The line.
        first: usize,
    },
    /// No hash behind the colon.
    #[error("user {name:?}: {reason}")]
    Hash {
        /// The name.
        name: String,
        /// Why not.
        reason: HashError,
    },
}

impl PasswordFile {
    /// Reads a file's content.
    ///
    /// # Errors
    /// All damaged lines. Mosquitto 2.0 passes over them in the log, 2.1 ends.
    pub fn parse(content: &[u8]) -> Result<Self, Vec<PasswordFault>> {
        if content.len() > MAX_FILE {
            return Err(vec![PasswordFault { line: 1, fault: LineFault::TooLarge }]);
        }
        let (mut users, mut lines) = (HashMap::new(), HashMap::new());
        let (mut passed_over, mut faults) = (Vec::new(), Vec::new());
        for (line, text) in content.split(|&byte| byte == b'\n').zip(1..).map(|(text, line)| (line, text)) {
            if text.first() == Some(&b'#') || text.trim_ascii().is_empty() {
                continue;
            }
            let mut fault = |fault| {
                if faults.len() < MAX_FAULTS {
                    faults.push(PasswordFault { line, fault });
                }
            };
            let Ok(text) = std::str::from_utf8(text) else {
                fault(LineFault::NotUtf8);
                continue;
            };
            let Some((name, hash)) = parts(text) else {
                passed_over.push(line);
                continue;
            };
            let name = name.to_owned();
            if name.is_empty() {
                fault(LineFault::NoUser);
            } else if let Some(&first) = lines.get(&name) {
                fault(LineFault::Twice { name, first });
            } else {
                lines.insert(name.clone(), line);
                match PasswordHash::parse(hash) {
                    Ok(hash) => _ = users.insert(name, hash),
                    Err(reason) => fault(LineFault::Hash { name, reason }),
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        // The costliest one, so that waiting tells nothing.
        let nobody = users.values().max_by_key(|hash| cost(hash)).cloned();
        Ok(Self { users, nobody, passed_over })
    }

    /// Asks for a user. Takes milliseconds on purpose, whether there is such a user or not: call it where that blocks
    /// nobody.
    #[must_use]
    pub fn verify(&self, name: &str, password: &[u8]) -> Answer {
        match self.users.get(name) {
            Some(hash) if hash.verify(password) => Answer::Right,
            Some(_) => Answer::Wrong,
            None => {
                // The answer does not matter, only the time.
                let _ = self.nobody.as_ref().map(|hash| hash.verify(password));
                Answer::Unknown
            }
        }
    }

    /// What proves that somebody is this user.
    pub(super) fn proof(&self, name: &str) -> Option<&PasswordHash> {
        self.users.get(name)
    }

    /// How many users there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

/// Name and hash of a line; `None` without colon. Whatever follows a second colon is not looked at, as in Mosquitto.
fn parts(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.split_once(':')?;
    Some((name.trim(), rest.split(':').next().unwrap_or_default().trim()))
}

fn cost(hash: &PasswordHash) -> (u8, u32) {
    match hash {
        PasswordHash::Sha512 { .. } => (0, 0),
        PasswordHash::Pbkdf2 { iterations, .. } => (1, iterations.get()),
        PasswordHash::Argon2id { params, .. } => (2, params.m_cost()),
    }
}

/// A file of passwords to be changed.
#[derive(Clone, Debug, Default)]
pub struct PasswordText {
    lines: Vec<Zeroizing<String>>,
}

/// Why a file of passwords was not changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// The file cannot be read or written.
    #[error("cannot {doing} {}: {reason}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
    /// A name that no line can have.
    #[error(
        "a user name is not empty, has no colon, no control character, no blank at either end, and does not begin with #"
    )]
    Name,
    /// No hash could be made.
    #[error(transparent)]
    Hash(#[from] HashError),
}

impl PasswordError {
    /// What to do about it, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File { reason, .. } if reason.kind() == io::ErrorKind::NotFound => {
                Some("to begin a new file, ask for it (-c)".into())
            }
            _ => None,
        }
    }
}

impl PasswordText {
    /// A file without lines.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Where it cannot be read, or is no text.
    pub fn load(path: &Path) -> Result<Self, PasswordError> {
        let text = fs::read_to_string(path).map_err(|reason| file_error("read", path, reason))?;
        let text = Zeroizing::new(text);
        Ok(Self { lines: text.lines().map(|line| line.to_owned().into()).collect() })
    }

    /// Gives a user a password; true if the user is new.
    ///
    /// # Errors
    /// Where the name cannot be one, or no hash can be made.
    pub fn set(&mut self, name: &str, password: &[u8], scheme: Scheme) -> Result<bool, PasswordError> {
        let ends = name.trim() != name;
        if name.is_empty()
            || ends
            || name.starts_with('#')
            || name.contains(|c: char| c == ':' || c.is_control())
        {
            return Err(PasswordError::Name);
        }
        let line = Zeroizing::new(format!("{name}:{}", PasswordHash::new(scheme, password)?));
        let old = self.lines.iter_mut().find(|line| named(line, name));
        let new = old.is_none();
        match old {
            Some(old) => *old = line,
            None => self.lines.push(line),
        }
        Ok(new)
    }

    /// A user's hash; `None` for one that is not there, and for a password in the clear.
    #[must_use]
    pub fn hash_of(&self, name: &str) -> Option<PasswordHash> {
        let line = self.lines.iter().find(|line| named(line, name))?;
        parts(line).and_then(|(_, hash)| PasswordHash::parse(hash).ok())
    }

    /// Takes a user out; false if there was none.
    pub fn delete(&mut self, name: &str) -> bool {
        let before = self.lines.len();
        self.lines.retain(|line| !named(line, name));
        self.lines.len() < before
    }

    /// Hashes the passwords that are still in the clear, and says how many there were. Unlike mosquitto_passwd -U it leaves
    /// alone what is a hash already.
    ///
    /// # Errors
    /// Where no hash can be made; nothing is changed then.
    pub fn upgrade(&mut self, scheme: Scheme) -> Result<usize, PasswordError> {
        let mut lines = self.lines.clone();
        let mut count = 0;
        for line in lines.iter_mut().filter(|line| !line.starts_with('#')) {
            // A password in the clear may have colons.
            let Some((name, password)) = line.split_once(':') else { continue };
            let password = password.trim_end_matches('\r');
            if password.is_empty() || password.starts_with("$6$") || password.starts_with("$7$") {
                continue;
            }
            if PasswordHash::parse(password).is_ok() {
                continue;
            }
            let hashed = format!("{}:{}", name.trim(), PasswordHash::new(scheme, password.as_bytes())?);
            *line = hashed.into();
            count += 1;
        }
        self.lines = lines;
        Ok(count)
    }

    /// Writes the file: to a temporary one beside it, which then takes its place. Readable by its owner alone; an existing
    /// file keeps owner, group and the group's right to read, so that a broker that runs as another account still can.
    ///
    /// # Errors
    /// Where it cannot be written; the file is then as it was.
    pub fn save(&self, path: &Path) -> Result<(), PasswordError> {
        let mut text = Zeroizing::new(String::new());
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        replace_file(path, text.as_bytes()).map_err(|reason| file_error("write", path, reason))
    }
}

fn named(line: &str, name: &str) -> bool {
    !line.starts_with('#') && parts(line).is_some_and(|(found, _)| found == name)
}

fn file_error(doing: &'static str, path: &Path, reason: io::Error) -> PasswordError {
    PasswordError::File { doing, path: path.to_owned(), reason }
}
