//! Reading back: facts and letters in the order that the rules want, and what to do about rows that cannot be read.

use std::collections::HashMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use quoll_broker::change::Change;
use quoll_broker::vocabulary::{Letter, ShardId};
use rusqlite::types::{ToSql, Value};
use rusqlite::{Connection, Row as SqlRow, TransactionBehavior};

use super::StoreError;
use super::store::Store;
use crate::journal::Underway;
use crate::journal::transit::LetterKey;

/// Damaged rows that are named in the log one by one; the rest is counted, and all of them lie in the table `damaged`.
const NAMED: usize = 20;

const OUT_OF_PLACE: &str = "it stands in another's place";

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
    /// Tells all facts: retained messages, then each client's in the order that the rules want.
    pub(super) fn recall(&mut self, each: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
        let mut damaged = Vec::new();
        let read = read_facts(&self.connection, &self.path, &mut damaged, each);
        read?;
        self.set_aside(&damaged).map_err(|error| StoreError::of(&self.path, error))
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
            "{path}: {} damaged row{} set aside (table \"damaged\"); all others are in force. Look at the disk (dmesg, smartctl), \
             and let devices publish their states again",
            damaged.len(),
            if damaged.len() == 1 { " was" } else { "s were" }
        );
        Ok(())
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
