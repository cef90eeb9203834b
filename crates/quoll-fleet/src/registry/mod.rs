//! The registry: SQLite `fleet.db` with the inventory, the provisioning journal and the audit trail.
//!
//! Knows devices and clients by name, and which certificate serial number is whose. Never holds a private key or a
//! password (of a pinned device's, a salted hash). Several processes use it at once (a CLI beside a running node): each
//! verb is one transaction.
//!
//! | room | what is in it |
//! |---|---|
//! | `devices` | the inventory and a device's way through its states |
//! | `clients` | accounts of people and programs |
//! | `certificates` | serial number → owner, for the broker's door |
//! | [`anchors`] | which CAs a device or client is known to trust |
//! | `candidates`, `campaigns` | devices that were found; runs over many devices |
//! | `passwords` | the passwords of pinned devices, as hashes |
//! | [`unlisted`] | certificates of our CA that nobody has: pending, or rejected |
//! | [`changes`] | new keys and names under way |
//! | [`server_key`] | a new key of the server on its way to the devices that pin it |
//! | `quarantine` | devices that are kept out for a while |
//! | `access` | what is allowed beyond the templates, and what was seen |
//! | [`journal`] | each provisioning step, before and after |
//! | [`audit`] | who did what, hash-chained |
//! | `schema`, `error` | tables and migrations; what can be wrong |
//!
//! Calls block for as long as the disk takes, at worst [`crate::limits::BUSY_PATIENCE`].

mod access;
pub mod anchors;
pub mod audit;
mod campaigns;
mod candidates;
mod certificates;
pub mod changes;
mod clients;
mod devices;
mod error;
pub mod journal;
mod passwords;
mod quarantine;
mod schema;
pub mod server_key;
pub mod unlisted;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use time::OffsetDateTime;

pub use self::certificates::Certificate;
pub(crate) use self::certificates::NOT_IN_THE_FOLDER;
pub use self::devices::NewDevice;
pub use self::error::RegistryError;
pub use self::passwords::{DevicePassword, NewPassword, PasswordState};
use crate::client::ClientName;
use crate::device::DeviceName;
use crate::limits::{BUSY_PATIENCE, WAL_ATTEMPTS, WAL_PAUSE};

/// Who a name or a certificate belongs to.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Owner {
    /// A device.
    Device(DeviceName),
    /// A client account.
    Client(ClientName),
}

impl Owner {
    /// The name alone.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Device(name) => name.as_str(),
            Self::Client(name) => name.as_str(),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(name) => write!(f, "device {name}"),
            Self::Client(name) => write!(f, "client {name}"),
        }
    }
}

/// An open `fleet.db`. Shared between threads by reference or `Arc`.
pub struct Registry {
    path: PathBuf,
    actor: String,
    connection: Mutex<Connection>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("path", &self.path)
            .field("actor", &self.actor)
            .finish_non_exhaustive()
    }
}

/// Keeps other processes from enrolling the same device, or from a run over many, at the same time. Given back when dropped, and by the system
/// when the process dies.
#[derive(Debug)]
pub struct EnrolmentLock(#[expect(dead_code, reason = "the lock lives as long as the open file")] File);

impl Registry {
    /// Opens the file, or creates it with mode 0600 (its folder must exist); brings it to the newest schema; looks
    /// for damage.
    ///
    /// # Errors
    /// [`RegistryError::Open`], [`RegistryError::Damaged`], [`RegistryError::NotOurs`], [`RegistryError::Newer`],
    /// [`RegistryError::Busy`]. The file is not changed then.
    pub fn open(path: &Path) -> Result<Self, RegistryError> {
        private_file(path).map_err(|source| RegistryError::Open { path: path.into(), source })?;
        let fail = |source| failure(path, source);
        let mut connection = Connection::open(path).map_err(fail)?;
        connection.busy_timeout(BUSY_PATIENCE).map_err(fail)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(fail)?;
        connection.pragma_update(None, "trusted_schema", false).map_err(fail)?;
        let verdict: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(fail)?;
        if verdict != "ok" {
            return Err(RegistryError::Damaged { path: path.into(), detail: verdict });
        }
        match schema::migrate(&mut connection, schema::MIGRATIONS).map_err(fail)? {
            schema::Found::Ours => {}
            schema::Found::Foreign => return Err(RegistryError::NotOurs { path: path.into() }),
            schema::Found::Newer(found) => {
                let known = u32::try_from(schema::MIGRATIONS.len()).unwrap_or(u32::MAX);
                return Err(RegistryError::Newer { path: path.into(), found, known });
            }
        }
        write_ahead(&connection).map_err(fail)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(fail)?;
        Ok(Self { path: path.into(), actor: "quoll".into(), connection: Mutex::new(connection) })
    }

    /// Names who acts, for the audit trail: `cli:alice`, `web:admin`, `node`.
    #[must_use]
    pub fn acting_as(mut self, actor: &str) -> Self {
        self.actor = actor.to_owned();
        self
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A number that changes when another process, or another connection, has changed the file (SQLite's
    /// `data_version`). What is written through this connection does not change it.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn data_version(&self) -> Result<i64, RegistryError> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let version = connection.query_row("PRAGMA data_version", [], |row| row.get(0));
        version.map_err(|source| failure(&self.path, source))
    }

    /// Writes a consistent copy, also while others write.
    ///
    /// # Errors
    /// Where `target` exists already or cannot be written.
    pub fn back_up(&self, target: &Path) -> Result<(), RegistryError> {
        let file = OpenOptions::new().write(true).create_new(true).open(target);
        drop(file.map_err(|source| RegistryError::Open { path: target.into(), source })?);
        private_file(target).map_err(|source| RegistryError::Open { path: target.into(), source })?;
        let sql = "VACUUM INTO ?1";
        self.lock().execute(sql, [target.to_string_lossy()]).map_err(|error| self.fail(error)).map(drop)
    }

    /// Takes the right to work on this device, or `None` if another process (or task) has it.
    ///
    /// # Errors
    /// Where the lock file, in the folder `fleet.locks` beside the registry, cannot be made.
    pub fn lock_enrolment(&self, name: &DeviceName) -> Result<Option<EnrolmentLock>, RegistryError> {
        self.lock_file(&format!("{}.lock", name.as_str().to_ascii_lowercase()))
    }

    /// Takes the right to run over many devices, or `None` if another process (or task) has it.
    ///
    /// # Errors
    /// As [`Self::lock_enrolment`].
    pub fn lock_campaigns(&self) -> Result<Option<EnrolmentLock>, RegistryError> {
        // No device's name begins like this.
        self.lock_file("_fleet.lock")
    }

    fn lock_file(&self, name: &str) -> Result<Option<EnrolmentLock>, RegistryError> {
        let folder = self.path.with_extension("locks");
        let path = folder.join(name);
        let open = || -> std::io::Result<Option<File>> {
            private_folder(&folder)?;
            private_file(&path)?;
            let file = File::open(&path)?;
            match file.try_lock() {
                Ok(()) => Ok(Some(file)),
                Err(fs::TryLockError::WouldBlock) => Ok(None),
                Err(fs::TryLockError::Error(error)) => Err(error),
            }
        };
        match open() {
            Ok(file) => Ok(file.map(EnrolmentLock)),
            Err(source) => Err(RegistryError::Open { path, source }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic in the middle of a transaction has rolled it back: the connection is sound.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, source: rusqlite::Error) -> RegistryError {
        failure(&self.path, source)
    }

    /// Runs `verb` in one read transaction: what it sees belongs together.
    fn read<T>(&self, verb: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>) -> Result<T, RegistryError> {
        self.transaction(TransactionBehavior::Deferred, verb)
    }

    /// Runs `verb` in one write transaction: all of it, or nothing on error.
    fn write<T>(&self, verb: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>) -> Result<T, RegistryError> {
        self.transaction(TransactionBehavior::Immediate, verb)
    }

    fn transaction<T>(
        &self,
        behavior: TransactionBehavior,
        verb: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, RegistryError> {
        let mut connection = self.lock();
        let run = || -> Result<T, Fault> {
            let tx = Transaction::new(&mut connection, behavior)?;
            let answer = verb(&tx)?;
            tx.commit()?;
            Ok(answer)
        };
        run().map_err(|fault| match fault {
            Fault::Sql(error) => self.fail(error),
            Fault::Said(error) => *error,
        })
    }
}

/// What ends a verb inside a transaction.
enum Fault {
    Sql(rusqlite::Error),
    Said(Box<RegistryError>),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<RegistryError> for Fault {
    fn from(error: RegistryError) -> Self {
        Self::Said(Box::new(error))
    }
}

fn failure(path: &Path, source: rusqlite::Error) -> RegistryError {
    let path = path.to_path_buf();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            RegistryError::Damaged { path, detail: source.to_string() }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => RegistryError::Busy { path },
        _ => RegistryError::Sql { path, source },
    }
}

/// SQLite does not wait for other openers of a new file here, so we do.
fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let mut attempt = 1;
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && attempt < WAL_ATTEMPTS =>
            {
                attempt += 1;
                std::thread::sleep(WAL_PAUSE);
            }
            other => return other,
        }
    }
}

/// Makes sure that the file exists and that nobody else may read it. SQLite gives its `-wal` and `-shm` the same mode.
fn private_file(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        let file = options.mode(0o600).open(path)?;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
        }
    }
    #[cfg(not(unix))]
    options.open(path)?;
    Ok(())
}

fn private_folder(path: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

fn seconds(time: OffsetDateTime) -> i64 {
    time.unix_timestamp()
}

fn from_seconds(table: &'static str, seconds: i64) -> Result<OffsetDateTime, RegistryError> {
    OffsetDateTime::from_unix_timestamp(seconds)
        .map_err(|_| RegistryError::Row { table, detail: format!("time {seconds} is out of range") })
}

fn maybe_seconds(table: &'static str, value: Option<i64>) -> Result<Option<OffsetDateTime>, RegistryError> {
    value.map(|value| from_seconds(table, value)).transpose()
}
