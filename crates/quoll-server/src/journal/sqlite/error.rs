//! Why `broker.db` cannot be used, and what to do about it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use thiserror::Error;

/// Why the journal's file cannot be used. None of these has changed it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file cannot be opened or made: the operator's fault, or the disk's.
    #[error("cannot open {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another process has it: most likely a second broker.
    #[error("{path} is in use by another process")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged: the disk's fault.
    #[error("{path} is damaged: {detail}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        detail: String,
    },
    /// Some other program's database, Mosquitto's for one.
    #[error("{path} is a database, but not one of Quoll's broker")]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer version of this program.
    #[error("{path} has schema {found}, this program knows {known} and older ones")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// Our newest.
        known: u32,
    },
    /// A row has a form that this version does not know, while its checksum is right: a newer version wrote it.
    #[error("{path}: {place} was written by a newer version: {why}")]
    NewerRow {
        /// The file.
        path: PathBuf,
        /// Which row.
        place: String,
        /// What is unknown about it.
        why: String,
    },
    /// The disk is full.
    #[error("no room for {path}: {detail}")]
    Full {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        detail: String,
    },
    /// Anything else that SQLite says.
    #[error("cannot use {path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it says.
        #[source]
        source: rusqlite::Error,
    },
}

impl StoreError {
    pub(super) fn of(path: &Path, error: rusqlite::Error) -> Self {
        let path = path.to_owned();
        let detail = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged { path, detail },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::InUse { path },
            Some(ErrorCode::DiskFull) => Self::Full { path, detail },
            _ => Self::Sqlite { path, source: error },
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Open { path, source } => match source.kind() {
                ErrorKind::PermissionDenied => whose(path),
                ErrorKind::IsADirectory => format!("a file is wanted: move {} away", path.display()),
                ErrorKind::NotADirectory => format!("{} must be a folder", folder(path).display()),
                ErrorKind::NotFound if path.is_symlink() => {
                    format!("{} is a link to what is not there", path.display())
                }
                _ => format!("{} must exist and belong to the broker's user", folder(path).display()),
            },
            Self::InUse { path } => {
                format!(
                    "stop the other broker (`fuser {}` names it), or give this one a folder of its own",
                    path.display()
                )
            }
            Self::Damaged { path, .. } => {
                let path = path.display();
                format!(
                    "nothing was changed. Copy {path} and {path}-wal to a safe place; then either bring back what can be read \
                     (sqlite3 {path} .recover | sqlite3 new.db, and put new.db in its place), or restore a backup, or move both \
                     files away to begin without sessions, queued and retained messages. And look at the disk: dmesg, smartctl"
                )
            }
            Self::NotOurs { path } => format!("move {} away, or choose another folder", path.display()),
            Self::Newer { .. } | Self::NewerRow { .. } => {
                "run the version that wrote it, or a newer one; nothing was changed".into()
            }
            Self::Full { path, .. } => format!("make room on the disk of {}", path.display()),
            Self::Sqlite { path, source } if source.sqlite_error_code() == Some(ErrorCode::ReadOnly) => {
                whose(path)
            }
            Self::Sqlite { path, .. } => {
                format!(
                    "look whether {} and its folder belong to the broker's user, and at the disk: dmesg",
                    path.display()
                )
            }
        })
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Who may write to the file and its folder, and who wants to.
#[cfg(unix)]
fn whose(path: &Path) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let told = |path: &Path| {
        let owner =
            std::fs::metadata(path).map(|it| format!("of user {}, mode {:o}", it.uid(), it.mode() & 0o7777));
        format!("{} ({})", path.display(), owner.unwrap_or_else(|error| error.to_string()))
    };
    let own = rustix::process::geteuid().as_raw();
    format!(
        "the broker runs as user {own} and must be able to write to {} and to its folder {} (chown {own}, chmod u+rw)",
        told(path),
        told(folder(path))
    )
}

#[cfg(not(unix))]
fn whose(path: &Path) -> String {
    format!("the broker's user must be able to write to {} and to its folder", path.display())
}
