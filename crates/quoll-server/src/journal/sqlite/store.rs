//! The file: its rows, a batch as one transaction, reading back, and what to do about damage.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quoll_broker::change::Change;
use quoll_broker::vocabulary::{Letter, ShardId};
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSql, ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Row as SqlRow, Transaction, TransactionBehavior, params};

use super::pending::{Client, Pending, Row, State};
use super::schema::{Found, MIGRATIONS, migrate};
use super::{Durability, StoreError};
use crate::journal::Underway;
use crate::journal::transit::LetterKey;

/// How long a predecessor that is just closing the file is waited for.
const BUSY_PATIENCE: Duration = Duration::from_secs(3);

/// The write-ahead log is cut to this after it was worked in; it grows beyond for a batch that needs more.
const LOG_BYTES: i64 = 16 * 1024 * 1024;

/// Free pages of 4 KiB from which on the file is made smaller, and how many are given back at a time: a step takes
/// milliseconds, and nothing waits meanwhile.
const FREE_PAGES: i64 = 1024;
const GIVE_BACK: u32 = 256;

/// Damaged rows that are named in the log one by one; the rest is counted, and all of them lie in the table `damaged`.
const NAMED: usize = 20;

/// The open file.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
}

/// A row that cannot be read.
struct Damage {
    place: String,
    why: String,
    key: DamagedKey,
}

enum DamagedKey {
    Fact(String, i64, Value, i64),
    Retained(String),
    Letter(i64, i64, String, i64),
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
        let is_new = make(path).map_err(|source| StoreError::Open { path: path.into(), source })?;
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

    /// Tells all facts: retained messages, then each client's in the order that the rules want.
    pub(super) fn recall(&mut self, each: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
        let mut damaged = Vec::new();
        let read = read_facts(&self.connection, &self.path, &mut damaged, each);
        read?;
        self.set_aside(&damaged).map_err(|error| StoreError::of(&self.path, error))
    }

    /// The place of the next letter: behind all that are still on their way.
    pub(super) fn next_letter(&self) -> rusqlite::Result<i64> {
        self.connection.query_row("SELECT coalesce(max(place), 0) + 1 FROM letter", [], |row| row.get(0))
    }

    pub(super) fn underway(&mut self) -> Result<Underway, StoreError> {
        let mut damaged = Vec::new();
        let mut underway = Underway::default();
        self.read_letters(&mut damaged, &mut underway).map_err(|error| StoreError::of(&self.path, error))?;
        self.set_aside(&damaged).map_err(|error| StoreError::of(&self.path, error))?;
        Ok(underway)
    }

    fn read_letters(&self, damaged: &mut Vec<Damage>, underway: &mut Underway) -> rusqlite::Result<()> {
        let letters = "SELECT shard, number, filter, returned, record FROM letter ORDER BY place, number";
        let mut letters = self.connection.prepare(letters)?;
        let mut rows = letters.query([])?;
        while let Some(row) = rows.next()? {
            let (shard, number, filter, returned): (u16, i64, String, i64) =
                (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            let key = LetterKey {
                to: ShardId(shard),
                number: number as u64,
                filter: filter.as_str().into(),
                returned: returned != 0,
            };
            let record = row.get_ref(4)?.as_blob()?;
            match Letter::decode(record) {
                Ok(letter) if LetterKey::of(key.to, &letter).as_ref() == Some(&key) => {
                    underway.letters.push((key, letter));
                }
                unreadable => damaged.push(Damage {
                    place: format!("a letter to shard {shard}"),
                    why: unreadable.err().map_or_else(|| OUT_OF_PLACE.into(), |error| error.to_string()),
                    key: DamagedKey::Letter(i64::from(shard), number, filter, returned),
                }),
            }
        }
        if !underway.letters.is_empty() {
            let homes = "SELECT client, home FROM fact WHERE kind = 0 AND home IS NOT NULL";
            let mut homes = self.connection.prepare(homes)?;
            let homes = homes
                .query_map([], |row| Ok((row.get::<_, String>(0)?.as_str().into(), ShardId(row.get(1)?))))?;
            underway.homes = homes.collect::<rusqlite::Result<HashMap<_, _>>>()?;
        }
        Ok(())
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

    /// Puts rows that cannot be read where nobody reads them, and says so.
    fn set_aside(&mut self, damaged: &[Damage]) -> rusqlite::Result<()> {
        if damaged.is_empty() {
            return Ok(());
        }
        let found = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for Damage { place, why, key } in damaged {
            let (table, condition) = match key {
                DamagedKey::Fact(..) => ("fact", "client = ?4 AND kind = ?5 AND key = ?6 AND part = ?7"),
                DamagedKey::Retained(_) => ("retained", "topic = ?4"),
                DamagedKey::Letter(..) => {
                    ("letter", "shard = ?4 AND number = ?5 AND filter = ?6 AND returned = ?7")
                }
            };
            let own: Vec<&dyn ToSql> = match key {
                DamagedKey::Fact(client, kind, key, part) => vec![client, kind, key, part],
                DamagedKey::Retained(topic) => vec![topic],
                DamagedKey::Letter(shard, number, filter, returned) => vec![shard, number, filter, returned],
            };
            let mut all: Vec<&dyn ToSql> = vec![&found, place, why];
            all.extend(&own);
            tx.execute(
                &format!("INSERT INTO damaged SELECT ?1, ?2, ?3, record FROM {table} WHERE {condition}"),
                &all[..],
            )?;
            let condition = condition.replace("?4", "?1").replace("?5", "?2");
            let condition = condition.replace("?6", "?3").replace("?7", "?4");
            tx.execute(&format!("DELETE FROM {table} WHERE {condition}"), &own[..])?;
        }
        tx.commit()?;
        let path = self.path.display();
        for Damage { place, why, .. } in damaged.iter().take(NAMED) {
            tracing::error!("{path}: {place} cannot be read and is lost: {why}");
        }
        tracing::error!(
            "{path}: {} damaged rows were set aside (table \"damaged\"); all others are in force. Look at the disk (dmesg, smartctl), \
             and let devices publish their states again",
            damaged.len()
        );
        Ok(())
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

const OUT_OF_PLACE: &str = "it stands in another's place";

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

fn read_facts(
    connection: &Connection,
    path: &Path,
    damaged: &mut Vec<Damage>,
    each: &mut dyn FnMut(Change),
) -> Result<(), StoreError> {
    let fail = |error| StoreError::of(path, error);
    let mut retained =
        connection.prepare("SELECT topic, record FROM retained ORDER BY topic").map_err(fail)?;
    let mut rows = retained.query([]).map_err(fail)?;
    while let Some(row) = rows.next().map_err(fail)? {
        let topic: String = row.get(0).map_err(fail)?;
        let place = format!("the retained message of {topic:?}");
        match read(row, 1, path, &place)? {
            Ok(Change::Retained { message }) if message.topic.as_str() == topic => {
                each(Change::Retained { message });
            }
            unreadable => damaged.push(Damage {
                place,
                why: unreadable.err().unwrap_or_else(|| OUT_OF_PLACE.into()),
                key: DamagedKey::Retained(topic),
            }),
        }
    }
    let mut facts = connection
        .prepare("SELECT client, kind, key, part, record FROM fact ORDER BY client, kind, key, part")
        .map_err(fail)?;
    let mut rows = facts.query([]).map_err(fail)?;
    // Whose session was told, and which message of it last.
    let (mut told, mut message) = (String::new(), None);
    let mut any = false;
    while let Some(row) = rows.next().map_err(fail)? {
        let client: String = row.get(0).map_err(fail)?;
        let kind: i64 = row.get(1).map_err(fail)?;
        let number: Value = row.get(2).map_err(fail)?;
        let part: i64 = row.get(3).map_err(fail)?;
        let place = place_of(&client, kind, &number, part);
        let why = match read(row, 4, path, &place)? {
            Err(why) => why,
            Ok(change) if !stands_at(&change, &client, kind, &number, part) => OUT_OF_PLACE.into(),
            Ok(will @ Change::WillLodged { .. }) => {
                // Its session may be one that ends with its connection, and not be here.
                each(will);
                continue;
            }
            Ok(change) if kind != 0 && !(any && told == client) => {
                drop(change);
                "its session cannot be read".into()
            }
            Ok(Change::Sent { place, .. }) if message != Some(place) => "its message cannot be read".into(),
            Ok(change) => {
                match &change {
                    Change::Session { .. } => {
                        told.clone_from(&client);
                        any = true;
                        message = None;
                    }
                    Change::Queued { place, .. } => message = Some(*place),
                    _ => {}
                }
                each(change);
                continue;
            }
        };
        damaged.push(Damage { place, why, key: DamagedKey::Fact(client, kind, number, part) });
    }
    Ok(())
}

fn place_of(client: &str, kind: i64, key: &Value, part: i64) -> String {
    match (kind, key) {
        (0, _) => format!("the session of {client:?}"),
        (1, Value::Text(filter)) => format!("the subscription of {client:?} to {filter:?}"),
        (2, Value::Integer(number)) if part == 0 => format!("message {number} for {client:?}"),
        (2, Value::Integer(number)) => format!("the state of message {number} for {client:?}"),
        (3, Value::Integer(id)) => format!("the state of packet {id} of {client:?}"),
        (4, _) => format!("the will of {client:?}"),
        _ => format!("a row of {client:?}"),
    }
}

/// Whether a fact stands where it would be written to.
fn stands_at(change: &Change, client: &str, kind: i64, key: &Value, part: i64) -> bool {
    let own = match change {
        Change::Session { .. } => (0, Value::Integer(0), 0),
        Change::Subscribed { filter, .. } => (1, Value::Text(filter.as_str().into()), 0),
        Change::Queued { place, .. } => (2, Value::Integer(*place as i64), 0),
        Change::Sent { place, .. } | Change::Received { place, .. } => (2, Value::Integer(*place as i64), 1),
        Change::Incoming { packet_id, .. } | Change::Held { packet_id, .. } => {
            (3, Value::Integer(i64::from(packet_id.get())), 0)
        }
        Change::WillLodged { .. } | Change::WillPending { .. } => (4, Value::Integer(0), 0),
        _ => return false,
    };
    change.client_id().is_some_and(|id| **id == *client) && own == (kind, key.clone(), part)
}

/// A record of a row; in the inner error, why it is damaged. A record whose checksum is right and which is not
/// understood was written by a newer version: then nothing is told at all.
fn read(
    row: &SqlRow<'_>,
    column: usize,
    path: &Path,
    place: &str,
) -> Result<Result<Change, String>, StoreError> {
    let fail = |error: rusqlite::Error| StoreError::of(path, error);
    let record = row.get_ref(column).map_err(fail)?.as_blob().map_err(|error| fail(error.into()))?;
    match Change::decode(record) {
        Ok(change) => Ok(Ok(change)),
        Err(error) if is_whole(record) => {
            Err(StoreError::NewerRow { path: path.into(), place: place.into(), why: error.to_string() })
        }
        Err(error) => Ok(Err(error.to_string())),
    }
}

/// Whether the CRC-32 at a record's end is right, which it is in every version.
fn is_whole(record: &[u8]) -> bool {
    let Some((body, sum)) = record.split_last_chunk::<4>() else { return false };
    let crc =
        body.iter().fold(!0_u32, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
                if sum & 1 == 1 { (sum >> 1) ^ 0xEDB8_8320 } else { sum >> 1 }
            })
        });
    !body.is_empty() && !crc == u32::from_le_bytes(*sum)
}

/// Makes the file where there is none, for its owner alone. Answers whether it is empty.
fn make(path: &Path) -> io::Result<bool> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    Ok(options.open(path)?.metadata()?.len() == 0)
}

/// Takes others' rights to the file away. Its log gets the same from SQLite.
fn protect(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if path.metadata()?.permissions().mode() & 0o077 != 0 {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        }
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
