//! Why a server does not start, or takes no other listeners, and what to do about it.

use std::io;
use std::path::Path;

use thiserror::Error;

use crate::config::{MAX_SHARDS, Place};
use crate::journal::JournalError;

/// Why a server does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// No listener was named: the operator's fault.
    #[error("no listener is configured")]
    NoListener,
    /// Two listeners have one name: the operator's fault.
    #[error("two listeners are named {name:?}")]
    ListenerTwice {
        /// The name.
        name: String,
    },
    /// A number of shards that cannot be: the operator's fault.
    #[error("{wanted} shards, 1 to {MAX_SHARDS} are possible")]
    Shards {
        /// What was asked for.
        wanted: usize,
    },
    /// An address cannot be had.
    #[error("cannot listen on {place}: {source}")]
    Bind {
        /// The address.
        place: Place,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system refuses what is needed to wait for sockets: too many open files, most likely.
    #[error("cannot wait for sockets: {0}")]
    Wait(#[source] io::Error),
    /// The system refuses a thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    NoChance,
    /// The journal cannot be read: the disk's fault.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The runtime was shut down while starting.
    #[error("interrupted while starting")]
    Interrupted,
}

impl StartError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        if let Self::Journal(error) = self {
            return error.hint();
        }
        let Self::Bind { place, source } = self else { return None };
        let (port, address) = match place {
            Place::Tcp(address) => (address.port(), address.ip().to_string()),
            Place::Host { port, host, .. } => (*port, host.as_deref().unwrap_or("it").to_owned()),
            Place::Unix(path) => return unix_hint(path, source),
        };
        match source.kind() {
            io::ErrorKind::AddrInUse => Some(format!(
                "port {port} is in use: another broker may be running (see `ss -ltnp 'sport = :{port}'`); stop it or choose another port"
            )),
            io::ErrorKind::PermissionDenied => {
                Some(format!("ports below 1024 need root or CAP_NET_BIND_SERVICE; {port} is one of them"))
            }
            io::ErrorKind::AddrNotAvailable => {
                Some(format!("{address} is no address of this machine (see `ip address`)"))
            }
            _ => None,
        }
    }
}

fn unix_hint(path: &Path, source: &io::Error) -> Option<String> {
    let path = path.display();
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            Some(format!("a server listens there (see `ss -lxp src {path}`); stop it or choose another path"))
        }
        io::ErrorKind::AlreadyExists => {
            Some(format!("{path} is not overwritten: remove it, or choose another path"))
        }
        io::ErrorKind::PermissionDenied => {
            Some(format!("the folder of {path} has to be writable for the user that runs the broker"))
        }
        _ => None,
    }
}
