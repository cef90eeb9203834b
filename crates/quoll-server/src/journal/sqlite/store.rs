//! The file: opening it, its rows, a batch as one transaction. Reading back is [`super::recall`]'s.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quoll_broker::change::Change;
use quoll_broker::vocabulary::ShardId;
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSql, ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::pending::{Client, Pending, Row, State};
use super::schema::{Found, MIGRATIONS, migrate};
use super::wal::{self, Look};
use super::{Durability, StoreError};

/// How long a predecessor that is just closing the file is waited for.
const BUSY_PATIENCE: Duration = Duration::from_secs(3);

/// The write-ahead log is cut to this after it was worked in; it grows beyond for a batch that needs more.
const LOG_BYTES: i64 = 16 * 1024 * 1024;

/// Free pages of 4 KiB from which on the file is made smaller, and how many are given back at a time: a step takes
/// milliseconds, and nothing waits meanwhile.
const FREE_PAGES: i64 = 1024;
const GIVE_BACK: u32 = 256;

/// How Mosquitto's own file begins.
const MOSQUITTOS: &[u8; 15] = b"\0\xB5\0mosquitto db";

/// The open file.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
}

impl Store {
    pub(super) fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        Self::open_with(path, durability, MIGRATIONS)
    }

    pub(super) fn open_with(
        path: &Path,
        durability: Durability,
        migrations: &[&str],
    ) -> Result<Self, StoreError> {
        let open = |source| StoreError::Open { path: path.into(), source };
        let is_new = match before(path).map_err(open)? {
            Before::Full => false,
            Before::Mosquittos => return Err(StoreError::NotOurs { path: path.into() }),
            // SQLite would take the log for a stranger's, and delete it.
            empty if fs::metadata(wal::beside(path)).is_ok_and(|log| log.len() > 0) => {
                let how = if matches!(empty, Before::Missing) { "missing" } else { "empty" };
                let detail = format!("it is {how}, and its log {} is not", wal::beside(path).display());
                return Err(StoreError::Damaged { path: path.into(), detail });
            }
            Before::Missing => true,
            Before::Empty => {
                tracing::warn!(
                    "{} is empty: sessions, queued and retained messages begin anew. If it was not before, look at the disk \
                     (dmesg, smartctl), and restore a backup",
                    path.display()
                );
                true
            }
        };
        make(path).map_err(open)?;
        let fail = |error| StoreError::of(path, error);
        let mut connection = Connection::open(path).map_err(fail)?;
        connection.busy_timeout(BUSY_PATIENCE).map_err(fail)?;
        connection.pragma_update(None, "trusted_schema", false).map_err(fail)?;
        // A file that is refused keeps its log as it is.
        let no_checkpoint = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        connection.set_db_config(no_checkpoint, true).map_err(fail)?;
        if is_new {
            // Only before anything else is there.
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(fail)?;
        }
        let _: String =
            connection.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |row| row.get(0)).map_err(fail)?;
        let verdict: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(fail)?;
        if verdict != "ok" {
            return Err(StoreError::Damaged { path: path.into(), detail: verdict });
        }
        // Nobody else writes to it from here on.
        tell_what_the_log_lost(path).map_err(open)?;
        match migrate(&mut connection, migrations).map_err(fail)? {
            Found::Ours => {}
            Found::Foreign => return Err(StoreError::NotOurs { path: path.into() }),
            Found::Newer(found) => {
                let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
                return Err(StoreError::Newer { path: path.into(), found, known });
            }
        }
        let mode: String =
            connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(fail)?;
        if mode != "wal" {
            let source = io::Error::other("its file system cannot keep a write-ahead log");
            return Err(StoreError::Open { path: path.into(), source });
        }
        let synchronous = match durability {
            Durability::Power => "FULL",
            Durability::Process => "NORMAL",
            Durability::None => "OFF",
        };
        connection.pragma_update(None, "synchronous", synchronous).map_err(fail)?;
        let _: i64 = connection
            .query_row(&format!("PRAGMA journal_size_limit = {LOG_BYTES}"), [], |row| row.get(0))
            .map_err(fail)?;
        connection.set_db_config(no_checkpoint, false).map_err(fail)?;
        protect(path).map_err(|source| StoreError::Open { path: path.into(), source })?;
        Ok(Self { path: path.into(), connection })
    }

    /// Writes a batch: all of it, or nothing.
    pub(super) fn write(&mut self, pending: &Pending) -> rusqlite::Result<()> {
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if pending.instead {
            tx.execute_batch("DELETE FROM fact; DELETE FROM retained; DELETE FROM letter")?;
        }
        for (client_id, client) in &pending.clients {
            write_client(&tx, client_id, client)?;
        }
        for (topic, message) in &pending.retained {
            let topic = topic.as_str();
            if let Some(message) = message {
                let record = Change::Retained { message: Arc::clone(message) }.encode();
                tx.prepare_cached("INSERT OR REPLACE INTO retained VALUES (?1, ?2)")?
                    .execute(params![topic, record])?;
            } else {
                tx.prepare_cached("DELETE FROM retained WHERE topic = ?1")?.execute([topic])?;
            }
        }
        for (key, way) in &pending.letters {
            let (shard, number, returned) = (key.to.0, key.number as i64, key.returned);
            if let Some((place, letter)) = &way.letter {
                tx.prepare_cached(
                    "INSERT OR REPLACE INTO letter (shard, number, filter, returned, record, place) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![
                    shard,
                    number,
                    &*key.filter,
                    returned,
                    letter.encode(),
                    place
                ])?;
            } else {
                tx.prepare_cached(
                    "DELETE FROM letter WHERE shard = ?1 AND number = ?2 AND filter = ?3 AND returned = ?4",
                )?
                .execute(params![shard, number, &*key.filter, returned])?;
            }
        }
        tx.commit()
    }

    /// The place of the next letter: behind all that are still on their way.
    pub(super) fn next_letter(&self) -> rusqlite::Result<i64> {
        self.connection.query_row("SELECT coalesce(max(place), 0) + 1 FROM letter", [], |row| row.get(0))
    }

    pub(super) fn settle(&mut self, homes: &[(Arc<str>, ShardId)]) -> Result<(), StoreError> {
        let fail = |error| StoreError::of(&self.path, error);
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
        {
            let mut update = tx
                .prepare(
                    "UPDATE fact SET home = ?2 WHERE client = ?1 AND kind = 0 AND key = 0 AND part = 0 \
                     AND home IS NOT ?2",
                )
                .map_err(fail)?;
            for (client_id, shard) in homes {
                update.execute(params![&**client_id, shard.0]).map_err(fail)?;
            }
        }
        tx.commit().map_err(fail)
    }

    /// Gives free pages back to the file system, a bounded number. Answers whether there are more.
    pub(super) fn tidy(&self) -> rusqlite::Result<bool> {
        let free: i64 = self.connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        if free < FREE_PAGES {
            return Ok(false);
        }
        let mut step = self.connection.prepare(&format!("PRAGMA incremental_vacuum({GIVE_BACK})"))?;
        let mut rows = step.query([])?;
        while rows.next()?.is_some() {}
        Ok(true)
    }

    /// Works the log into the file, so that it stands alone.
    pub(super) fn close(self) -> rusqlite::Result<()> {
        let worked_in = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
            .map(drop);
        self.connection.close().map_err(|(_, error)| error)?;
        worked_in
    }
}

fn write_client(tx: &Transaction<'_>, client_id: &str, client: &Client) -> rusqlite::Result<()> {
    if client.ended {
        tx.prepare_cached("DELETE FROM fact WHERE client = ?1")?.execute([client_id])?;
    }
    for (row, entry) in &client.rows {
        let (kind, key) = key(row);
        let put = |part: i64, record: &Change| {
            let home = client.home.filter(|_| *row == Row::Session).map(|home| home.0);
            tx.prepare_cached("INSERT OR REPLACE INTO fact VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
                .execute(params![client_id, kind, key, part, home, record.encode()])
                .map(drop)
        };
        match &entry.state {
            State::Put(change) => put(0, change)?,
            State::Delivery { queued, mark, received } => {
                if *received && !entry.fresh {
                    tx.prepare_cached(
                        "DELETE FROM fact WHERE client = ?1 AND kind = ?2 AND key = ?3 AND part = 0",
                    )?
                    .execute(params![client_id, kind, key])?;
                }
                if let Some(queued) = queued {
                    put(0, queued)?;
                }
                if let Some(mark) = mark {
                    put(1, mark)?;
                }
            }
            State::End => {
                tx.prepare_cached("DELETE FROM fact WHERE client = ?1 AND kind = ?2 AND key = ?3")?
                    .execute(params![client_id, kind, key])?;
            }
        }
    }
    Ok(())
}

/// What a row is found by.
enum Key<'a> {
    Number(i64),
    Text(&'a str),
}

impl ToSql for Key<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Number(number) => ToSqlOutput::Owned(Value::Integer(*number)),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        })
    }
}

fn key(row: &Row) -> (i64, Key<'_>) {
    match row {
        Row::Session => (0, Key::Number(0)),
        Row::Subscription(filter) => (1, Key::Text(filter.as_str())),
        Row::Delivery(place) => (2, Key::Number(*place as i64)),
        Row::Incoming(packet_id) => (3, Key::Number(i64::from(*packet_id))),
        Row::Will => (4, Key::Number(0)),
    }
}

/// What is at the file's place.
enum Before {
    Missing,
    Empty,
    Full,
    /// With `persistence_file broker.db`.
    Mosquittos,
}

fn before(path: &Path) -> io::Result<Before> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Before::Missing),
        Err(error) => return Err(error),
    };
    let mut first = [0; MOSQUITTOS.len()];
    Ok(match file.read(&mut first)? {
        0 => Before::Empty,
        _ if first == *MOSQUITTOS => Before::Mosquittos,
        _ => Before::Full,
    })
}

/// Makes the file where there is none, for its owner alone, and looks whether it can be written.
fn make(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// What SQLite ignores of its log is said, and kept for who can read it.
fn tell_what_the_log_lost(path: &Path) -> io::Result<()> {
    let log = wal::beside(path);
    let name = log.display();
    match wal::look(&log)? {
        Look::Nothing | Look::Whole => {}
        Look::Unfinished { at } => tracing::warn!(
            "{name}: the last change, at byte {at}, was not written to its end and is left out. Nobody was promised it, unless \
             the disk lost what it had"
        ),
        Look::Damaged { at, lost } => {
            let (kept, many) = (set_log_aside(&log), if lost == 0 { "all".into() } else { lost.to_string() });
            tracing::error!(
                "{name} is damaged at byte {at}: {many} changes from there on cannot be read and are lost, acknowledged ones too; \
                 what was written before is in force. {kept} Look at the disk (dmesg, smartctl), and let devices publish their \
                 states again"
            );
        }
    }
    Ok(())
}

fn set_log_aside(log: &Path) -> String {
    let mut copy = log.as_os_str().to_owned();
    copy.push(".damaged");
    let copy = PathBuf::from(copy);
    match fs::copy(log, &copy) {
        Ok(_) => format!("A copy is {}.", copy.display()),
        Err(error) => format!("No copy of it could be made ({}: {error}).", copy.display()),
    }
}

/// Takes others' rights to the file away. Its log gets the same from SQLite.
fn protect(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if path.metadata()?.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        }
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
