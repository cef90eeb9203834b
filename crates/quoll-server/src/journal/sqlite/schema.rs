//! The tables of `broker.db`, and how an older file becomes a newer one.
//!
//! A migration is never edited once released: a change is one more entry at the end.

use rusqlite::{Connection, TransactionBehavior};

/// `PRAGMA application_id` of our files: "QUOJ".
pub(super) const APPLICATION_ID: i32 = 0x51_55_4F_4A;

/// Entry n brings a file from schema n to n + 1 (`PRAGMA user_version`).
pub(super) const MIGRATIONS: &[&str] = &[V1, V2];

/// A row holds one fact in its own encoding, which names its subject once more and has a version and a CRC-32. Rows of
/// a client lie in the order in which a recall wants them.
const V1: &str = "
CREATE TABLE fact (
    client  TEXT NOT NULL,
    kind    INTEGER NOT NULL, -- 0 session, 1 subscription, 2 delivery, 3 incoming QoS 2, 4 will
    key     ANY NOT NULL,     -- filter, number of the delivery, packet identifier; else 0
    part    INTEGER NOT NULL, -- of a delivery: 0 the message, 1 sent or received
    home    INTEGER,          -- of a session: its shard
    record  BLOB NOT NULL,
    PRIMARY KEY (client, kind, key, part)
) STRICT, WITHOUT ROWID;

CREATE TABLE retained (
    topic   TEXT PRIMARY KEY,
    record  BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- On the way between two shards.
CREATE TABLE letter (
    shard    INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    filter   TEXT NOT NULL,
    returned INTEGER NOT NULL,
    record   BLOB NOT NULL,
    PRIMARY KEY (shard, number, filter, returned)
) STRICT, WITHOUT ROWID;

-- Rows that could not be read, with all that they held; nobody reads them again.
CREATE TABLE damaged (
    found   INTEGER NOT NULL, -- seconds since 1970
    place   TEXT NOT NULL,
    why     TEXT NOT NULL,
    record  BLOB
) STRICT;
";

/// Letters come back in the order in which they were sent: their numbers are chance. Those of an older file stand first.
const V2: &str = "
ALTER TABLE letter ADD COLUMN place INTEGER NOT NULL DEFAULT 0;
";

/// Whose file it is.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Found {
    /// Ours, and now of the newest schema.
    Ours,
    /// Something else's.
    Foreign,
    /// Ours, of a schema that this program does not know.
    Newer(u32),
}

/// Brings a file to the newest schema, or says why not; then it is not changed.
pub(super) fn migrate(connection: &mut Connection, migrations: &[&str]) -> rusqlite::Result<Found> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let number = |name: &str| tx.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    let tables: u32 = tx.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let is_new = application == 0 && version == 0 && tables == 0;
    if !is_new && application != APPLICATION_ID {
        return Ok(Found::Foreign);
    }
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if done > migrations.len() {
        return Ok(Found::Newer(u32::try_from(done).unwrap_or(u32::MAX)));
    }
    for (step, script) in migrations.iter().enumerate().skip(done) {
        tx.execute_batch(script)?;
        tx.pragma_update(None, "user_version", i32::try_from(step + 1).unwrap_or(i32::MAX))?;
    }
    if is_new {
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    tx.commit()?;
    Ok(Found::Ours)
}
