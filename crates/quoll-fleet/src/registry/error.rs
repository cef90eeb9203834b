//! What can be wrong with the registry: whose fault it is and what to do next.

use std::path::PathBuf;

use crate::device::{DeviceName, DeviceState, Mac};
use crate::registry::Owner;

/// Why the registry did not do what was asked. Nothing was changed then, unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The file, or its folder, cannot be opened or created.
    #[error("cannot open the registry {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is no longer a sound SQLite database.
    #[error("the registry {} is damaged: {detail}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite found first.
        detail: String,
    },
    /// A sound database of another program.
    #[error("{} is a database, but not a registry of quoll", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer quoll.
    #[error("the registry {} has schema {found}, this program knows up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Schema number in the file.
        found: u32,
        /// Highest schema number known here.
        known: u32,
    },
    /// Another process held its write lock for too long.
    #[error("the registry {} is busy: another process has been writing for over {} s", path.display(), crate::limits::BUSY_PATIENCE.as_secs())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// A row says something that no version of quoll writes.
    #[error("the registry's {table} has a row that makes no sense: {detail}")]
    Row {
        /// The table.
        table: &'static str,
        /// Which row, what is wrong with it.
        detail: String,
    },
    /// The name belongs to somebody else already.
    #[error("the name is in use by {0}")]
    NameTaken(Owner),
    /// The MAC address belongs to a device with another name.
    #[error("the device {mac} is registered already, as {name}")]
    MacTaken {
        /// The hardware address.
        mac: Mac,
        /// The name it has.
        name: DeviceName,
    },
    /// The serial number is recorded for somebody else.
    #[error("certificate {serial} is recorded for {owner}")]
    SerialTaken {
        /// The serial number.
        serial: String,
        /// Who has it.
        owner: Owner,
    },
    /// Nobody has this name.
    #[error("there is no {0}")]
    Unknown(Owner),
    /// A step that a device's life does not have.
    #[error("device {name} is {from} and cannot become {to}")]
    Transition {
        /// The device.
        name: DeviceName,
        /// Where it is.
        from: DeviceState,
        /// Where it was to go.
        to: DeviceState,
    },
    /// Anything else that SQLite says: disk full, read-only file system.
    #[error("the registry {} cannot be used: {source}", path.display())]
    Sql {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

impl RegistryError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Open { path, .. } => {
                let folder = path.parent().unwrap_or(path);
                format!("check that {} exists and belongs to you", folder.display())
            }
            Self::Damaged { path, .. } => {
                let shown = path.display();
                format!(
                    "stop quoll and keep a copy of {shown}; then restore a backup, or save what is left: \
                     sqlite3 {shown} .recover | sqlite3 {shown}.new (the certificates themselves are safe in the pki folder)"
                )
            }
            Self::NotOurs { .. } => "point quoll at another file name".into(),
            Self::Newer { .. } => "update quoll on this machine to the version that runs elsewhere".into(),
            Self::Busy { .. } => "try again; if it stays so, look for a quoll process that hangs".into(),
            Self::Row { .. } => "restore a backup, or report this as a bug of quoll".into(),
            Self::NameTaken(_) => "choose another name, or remove the old entry first".into(),
            Self::MacTaken { name, .. } => format!("go on under the name {name}, or remove {name} first"),
            Self::Unknown(Owner::Device(_)) => "see the names: quoll device list".into(),
            Self::Unknown(Owner::Client(_)) => "see the names: quoll client list".into(),
            Self::Transition { name, from: DeviceState::Removed, .. } => {
                format!(
                    "it was taken out of the list meanwhile; add it again: quoll device add {name} --at ADDRESS"
                )
            }
            Self::Transition { name, from: DeviceState::Revoked, .. } => {
                format!(
                    "it was revoked meanwhile; to have it back: quoll device remove {name}, then quoll device add"
                )
            }
            Self::Transition { name, .. } => {
                format!("bring it where it should be: quoll device repair {name}")
            }
            Self::SerialTaken { serial, .. } => {
                format!(
                    "a certificate has one owner; where that one needs it no more: quoll ca revoke {serial}"
                )
            }
            Self::Sql { path, .. } => {
                format!(
                    "check disk space and permissions of {}; then run the same command again",
                    path.display()
                )
            }
        })
    }
}
