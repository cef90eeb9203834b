//! The tables of `fleet.db` and how an older file becomes a newer one.
//!
//! A migration is never edited once released: a change is one more entry at the end.

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// `PRAGMA application_id` of our files: "QUOL".
pub(super) const APPLICATION_ID: i32 = 0x51_55_4F_4C;

/// Entry n brings a file from schema n to n + 1 (`PRAGMA user_version`).
pub(super) const MIGRATIONS: &[&str] = &[V1, V_LIFE, V_ACCESS, V_FLEET, V_ANCHORS, V_JOURNAL];

/// Times are seconds since 1970 in UTC, those of the audit trail milliseconds.
const V1: &str = "
CREATE TABLE devices (
    name        TEXT PRIMARY KEY COLLATE NOCASE,
    address     TEXT NOT NULL,
    mac         TEXT NOT NULL,
    chip        TEXT NOT NULL,
    firmware    TEXT NOT NULL,
    topics      TEXT NOT NULL,
    rung        TEXT NOT NULL,
    state       TEXT NOT NULL,
    serial      TEXT,
    expires     INTEGER,
    first_seen  INTEGER NOT NULL,
    last_seen   INTEGER,
    problem     TEXT,
    saved       TEXT,
    saved_logs  TEXT
) STRICT;
CREATE UNIQUE INDEX devices_mac ON devices (mac) WHERE state <> 'removed';

CREATE TABLE clients (
    name        TEXT PRIMARY KEY COLLATE NOCASE,
    role        TEXT NOT NULL,
    serial      TEXT,
    expires     INTEGER,
    state       TEXT NOT NULL,
    created     INTEGER NOT NULL,
    last_seen   INTEGER
) STRICT;

CREATE TABLE certificates (
    serial      TEXT PRIMARY KEY COLLATE NOCASE,
    owner_kind  TEXT NOT NULL,
    owner       TEXT NOT NULL COLLATE NOCASE,
    expires     INTEGER NOT NULL,
    recorded    INTEGER NOT NULL,
    revoked     INTEGER,
    reason      TEXT
) STRICT;
CREATE INDEX certificates_owner ON certificates (owner);

CREATE TABLE provisioning (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    device      TEXT NOT NULL COLLATE NOCASE,
    run         TEXT NOT NULL,
    step        TEXT NOT NULL,
    state       TEXT NOT NULL,
    at          INTEGER NOT NULL,
    detail      TEXT NOT NULL
) STRICT;
CREATE INDEX provisioning_device ON provisioning (device, seq);

CREATE TABLE audit (
    seq         INTEGER PRIMARY KEY,
    at          INTEGER NOT NULL,
    actor       TEXT NOT NULL,
    verb        TEXT NOT NULL,
    subject     TEXT NOT NULL,
    detail      TEXT NOT NULL,
    previous    BLOB NOT NULL,
    hash        BLOB NOT NULL
) STRICT;
CREATE TABLE audit_head (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    seq         INTEGER NOT NULL,
    hash        BLOB NOT NULL
) STRICT;
INSERT INTO audit_head VALUES (1, 0, zeroblob(32));
CREATE TRIGGER audit_is_written_once BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit trail is never changed'); END;
CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit trail is never shortened'); END;
";

/// A device's later life: quarantine, certificates that nobody has, changes of identity under way, a new server key on
/// its way to the devices that pin it.
const V_LIFE: &str = "
ALTER TABLE devices ADD COLUMN quarantined INTEGER;
ALTER TABLE devices ADD COLUMN quarantine_reason TEXT;

CREATE TABLE unlisted (
    serial      TEXT PRIMARY KEY COLLATE NOCASE,
    name        TEXT NOT NULL,
    client_id   TEXT NOT NULL,
    address     TEXT NOT NULL,
    first_seen  INTEGER NOT NULL,
    last_seen   INTEGER NOT NULL,
    times       INTEGER NOT NULL,
    rejected    INTEGER
) STRICT;

CREATE TABLE changes (
    device      TEXT PRIMARY KEY COLLATE NOCASE,
    act         TEXT NOT NULL,
    stage       TEXT NOT NULL,
    new_name    TEXT COLLATE NOCASE,
    old_serial  TEXT,
    new_serial  TEXT,
    old_topics  TEXT,
    began       INTEGER NOT NULL
) STRICT;

CREATE TABLE server_key (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    stage       TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    previous    TEXT NOT NULL,
    began       INTEGER NOT NULL,
    switched    INTEGER
) STRICT;
CREATE TABLE server_key_slots (
    device      TEXT PRIMARY KEY COLLATE NOCASE,
    slot1       TEXT NOT NULL,
    slot2       TEXT NOT NULL,
    stage       TEXT NOT NULL,
    at          INTEGER NOT NULL,
    problem     TEXT
) STRICT;
";

/// Access lists beyond the templates: what is allowed besides, who is learned from, what was seen. Owners are names of
/// devices and clients, which are never the same.
const V_ACCESS: &str = "
CREATE TABLE access_allowed (
    owner       TEXT NOT NULL COLLATE NOCASE,
    act         TEXT NOT NULL,
    filter      TEXT NOT NULL,
    added       INTEGER NOT NULL,
    PRIMARY KEY (owner, act, filter)
) STRICT;
CREATE TABLE access_learning (
    owner       TEXT PRIMARY KEY COLLATE NOCASE,
    until       INTEGER NOT NULL
) STRICT;
CREATE TABLE access_observed (
    owner       TEXT NOT NULL COLLATE NOCASE,
    act         TEXT NOT NULL,
    topic       TEXT NOT NULL,
    refused     INTEGER NOT NULL,
    times       INTEGER NOT NULL,
    first       INTEGER NOT NULL,
    last        INTEGER NOT NULL,
    PRIMARY KEY (owner, act, topic)
) STRICT;
";

/// Passwords of pinned devices; devices found and not yet ours; runs over many devices.
const V_FLEET: &str = "
CREATE TABLE passwords (
    id          TEXT PRIMARY KEY,
    device      TEXT NOT NULL COLLATE NOCASE,
    login       TEXT NOT NULL,
    salt        BLOB NOT NULL,
    hash        BLOB NOT NULL,
    state       TEXT NOT NULL,
    created     INTEGER NOT NULL
) STRICT;
CREATE INDEX passwords_device ON passwords (device);

CREATE TABLE candidates (
    mac         TEXT PRIMARY KEY,
    found       TEXT NOT NULL,
    first_found INTEGER NOT NULL,
    last_found  INTEGER NOT NULL
) STRICT;

CREATE TABLE campaigns (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    orders      TEXT NOT NULL,
    began       INTEGER NOT NULL,
    ended       INTEGER,
    why         TEXT
) STRICT;
CREATE TABLE campaign_devices (
    campaign    INTEGER NOT NULL REFERENCES campaigns (id),
    mac         TEXT NOT NULL,
    name        TEXT NOT NULL,
    address     TEXT NOT NULL,
    rung        TEXT NOT NULL,
    outcome     TEXT NOT NULL,
    attempts    INTEGER NOT NULL,
    what        TEXT NOT NULL,
    next        TEXT NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (campaign, mac)
) STRICT;
";

/// Which CAs a device or client is known to trust.
const V_ANCHORS: &str = "
CREATE TABLE anchors (
    owner_kind  TEXT NOT NULL,
    owner       TEXT NOT NULL COLLATE NOCASE,
    anchor      TEXT NOT NULL,
    evidence    TEXT NOT NULL,
    since       INTEGER NOT NULL,
    PRIMARY KEY (owner_kind, owner, anchor)
) STRICT;
";

/// From which row on the provisioning journal is this device's own, and not that of an earlier one of its name: clocks jump,
/// numbers do not. NULL in what an older quoll registered: there the time tells.
const V_JOURNAL: &str = "
ALTER TABLE devices ADD COLUMN journal_from INTEGER;
";

/// What a file is, before anything is done to it.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Found {
    /// Empty, or ours with this schema (after the migrations: the newest).
    Ours,
    /// Has tables of another program.
    Foreign,
    /// A schema number that is not known here.
    Newer(u32),
}

/// Brings the file to the newest schema, in one transaction per step; several processes may try at once.
pub(super) fn migrate(connection: &mut Connection, migrations: &[&str]) -> rusqlite::Result<Found> {
    loop {
        let tx = Transaction::new(connection, TransactionBehavior::Immediate)?;
        let version: u32 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let application: i32 = tx.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let tables: i64 = tx.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if application != APPLICATION_ID && (application != 0 || version != 0 || tables != 0) {
            return Ok(Found::Foreign);
        }
        let next = match usize::try_from(version).ok().map(|version| (version, migrations.get(version))) {
            Some((_, Some(next))) => next,
            Some((version, None)) if version == migrations.len() => return Ok(Found::Ours),
            _ => return Ok(Found::Newer(version)),
        };
        tx.execute_batch(next)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", version + 1)?;
        tx.commit()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_file_is_brought_forward_and_keeps_its_rows() {
        let mut connection = Connection::open_in_memory().unwrap();
        let (first, second) = ("CREATE TABLE a (x INTEGER)", "ALTER TABLE a ADD COLUMN y INTEGER DEFAULT 7");
        assert_eq!(migrate(&mut connection, &[first]).unwrap(), Found::Ours);
        connection.execute("INSERT INTO a VALUES (1)", []).unwrap();
        assert_eq!(migrate(&mut connection, &[first, second]).unwrap(), Found::Ours);
        let row: (i64, i64) =
            connection.query_row("SELECT x, y FROM a", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(row, (1, 7));
    }

    #[test]
    fn a_step_that_fails_leaves_the_file_as_it_was() {
        let mut connection = Connection::open_in_memory().unwrap();
        let first = "CREATE TABLE a (x INTEGER)";
        migrate(&mut connection, &[first]).unwrap();
        assert!(migrate(&mut connection, &[first, "CREATE TABLE b (x INTEGER); nonsense"]).is_err());
        let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, 1);
        assert!(connection.query_row("SELECT count(*) FROM b", [], |row| row.get::<_, i64>(0)).is_err());
    }

    #[test]
    fn a_newer_or_foreign_file_is_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &["CREATE TABLE a (x INTEGER)", "CREATE TABLE b (x INTEGER)"]).unwrap();
        assert_eq!(migrate(&mut connection, &["CREATE TABLE a (x INTEGER)"]).unwrap(), Found::Newer(2));

        let mut foreign = Connection::open_in_memory().unwrap();
        foreign.execute_batch("CREATE TABLE theirs (x INTEGER)").unwrap();
        assert_eq!(migrate(&mut foreign, MIGRATIONS).unwrap(), Found::Foreign);
    }
}
