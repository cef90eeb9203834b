//! What an identity may do beyond its template, who is being learned from, and what was seen.

use std::collections::BTreeMap;

use rusqlite::{Row, Transaction, params};
use serde_json::json;
use time::OffsetDateTime;

use super::{Fault, Registry, RegistryError, from_seconds, seconds};
use crate::access_list::{Access, Act, Observation};
use crate::limits::{OBSERVATIONS_MAX, OBSERVATIONS_OF_ONE_MAX};

impl Registry {
    /// Filters that `name` has beyond its template. Of a name that has none, none.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn allowed(&self, name: &str) -> Result<Access, RegistryError> {
        Ok(self.all_allowed()?.remove(&name.to_ascii_lowercase()).unwrap_or_default())
    }

    /// The same for everybody, by name in lower case.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn all_allowed(&self) -> Result<BTreeMap<String, Access>, RegistryError> {
        self.read(|tx| {
            let mut statement =
                tx.prepare_cached("SELECT owner, act, filter FROM access_allowed ORDER BY rowid")?;
            let mut rows = statement.query([])?;
            let mut lists: BTreeMap<String, Access> = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let name: String = row.get(0)?;
                let list = lists.entry(name.to_ascii_lowercase()).or_default();
                match act("access_allowed", row, 1)? {
                    Act::Publish => list.publish.push(row.get(2)?),
                    Act::Subscribe => list.subscribe.push(row.get(2)?),
                }
            }
            Ok(lists)
        })
    }

    /// Adds filters to what `name` may do. Those that it has already change nothing. They must have been checked
    /// ([`Access::check`]).
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn allow(&self, name: &str, more: &Access) -> Result<(), RegistryError> {
        self.write(|tx| {
            let now = seconds(OffsetDateTime::now_utc());
            for (act, filter) in both(more) {
                let sql = "INSERT OR IGNORE INTO access_allowed (owner, act, filter, added) VALUES (?1, ?2, ?3, ?4)";
                if tx.execute(sql, params![name, act.as_str(), filter, now])? == 1 {
                    let detail = json!({ "act": act.as_str(), "filter": filter });
                    self.append(tx, "access.allowed", name, &detail)?;
                }
            }
            Ok(())
        })
    }

    /// Takes filters back that were added; says how many there were.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn disallow(&self, name: &str, less: &Access) -> Result<usize, RegistryError> {
        self.write(|tx| {
            let mut taken = 0;
            for (act, filter) in both(less) {
                let sql = "DELETE FROM access_allowed WHERE owner = ?1 AND act = ?2 AND filter = ?3";
                if tx.execute(sql, params![name, act.as_str(), filter])? == 1 {
                    taken += 1;
                    let detail = json!({ "act": act.as_str(), "filter": filter });
                    self.append(tx, "access.withdrawn", name, &detail)?;
                }
            }
            Ok(taken)
        })
    }

    /// Lets these do what their lists do not allow, and has it noted, until then.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn learn(&self, names: &[String], until: OffsetDateTime) -> Result<(), RegistryError> {
        self.write(|tx| {
            for name in names {
                let sql = "INSERT OR REPLACE INTO access_learning (owner, until) VALUES (?1, ?2)";
                tx.execute(sql, params![name, seconds(until)])?;
                self.append(tx, "access.learning", name, &json!({ "until": seconds(until) }))?;
            }
            Ok(())
        })
    }

    /// Enforces the lists of these again; what was seen of them stays. Says of how many it was learned.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn enforce(&self, names: &[String]) -> Result<usize, RegistryError> {
        self.write(|tx| {
            let mut ended = 0;
            for name in names {
                if tx.execute("DELETE FROM access_learning WHERE owner = ?1", [name])? == 1 {
                    ended += 1;
                    self.append(tx, "access.enforced", name, &json!({}))?;
                }
            }
            Ok(ended)
        })
    }

    /// Who is learned from, by name in lower case, and until when. Those whose time is over are not among them.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn learning(&self) -> Result<BTreeMap<String, OffsetDateTime>, RegistryError> {
        self.read(|tx| {
            let mut statement =
                tx.prepare_cached("SELECT owner, until FROM access_learning WHERE until > ?1")?;
            let mut rows = statement.query([seconds(OffsetDateTime::now_utc())])?;
            let mut learning = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let name: String = row.get(0)?;
                learning.insert(name.to_ascii_lowercase(), from_seconds("access_learning", row.get(1)?)?);
            }
            Ok(learning)
        })
    }

    /// Notes what was done beyond the lists. Above [`OBSERVATIONS_OF_ONE_MAX`] topics of one identity, or
    /// [`OBSERVATIONS_MAX`] in all, only those that are known already are counted: a client that tries everything fills
    /// no disk.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn observe(&self, seen: &[Observation]) -> Result<(), RegistryError> {
        self.write(|tx| {
            for one in seen {
                let known = "UPDATE access_observed SET times = times + ?4, last = ?5, refused = ?6 \
                    WHERE owner = ?1 AND act = ?2 AND topic = ?3";
                let times = i64::try_from(one.times).unwrap_or(i64::MAX);
                let (act, last) = (one.act.as_str(), seconds(one.last));
                if tx.execute(known, params![one.name, act, one.topic, times, last, one.refused])? == 1 {
                    continue;
                }
                let count = "SELECT count(*) FILTER (WHERE owner = ?1), count(*) FROM access_observed";
                let (own, all): (u32, u32) =
                    tx.query_row(count, [&one.name], |row| Ok((row.get(0)?, row.get(1)?)))?;
                if own < OBSERVATIONS_OF_ONE_MAX && all < OBSERVATIONS_MAX {
                    let sql = "INSERT INTO access_observed (owner, act, topic, refused, times, first, last) \
                        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
                    let first = seconds(one.first);
                    tx.execute(sql, params![one.name, act, one.topic, one.refused, times, first, last])?;
                }
            }
            Ok(())
        })
    }

    /// What was done beyond the lists, by name and topic.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn observations(&self) -> Result<Vec<Observation>, RegistryError> {
        self.read(|tx| {
            let sql = "SELECT owner, act, topic, refused, times, first, last FROM access_observed \
                ORDER BY owner, act, topic";
            let mut statement = tx.prepare_cached(sql)?;
            let mut rows = statement.query([])?;
            let mut seen = Vec::new();
            while let Some(row) = rows.next()? {
                seen.push(Observation {
                    name: row.get(0)?,
                    act: act("access_observed", row, 1)?,
                    topic: row.get(2)?,
                    refused: row.get(3)?,
                    times: u64::try_from(row.get::<_, i64>(4)?).unwrap_or_default(),
                    first: from_seconds("access_observed", row.get(5)?)?,
                    last: from_seconds("access_observed", row.get(6)?)?,
                });
            }
            Ok(seen)
        })
    }

    /// Forgets what was seen of `name`.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn forget_observations(&self, name: &str) -> Result<(), RegistryError> {
        self.write(|tx| {
            tx.execute("DELETE FROM access_observed WHERE owner = ?1", [name])?;
            Ok(())
        })
    }
}

/// Whoever has this name later is somebody else.
pub(super) fn forget_all(tx: &Transaction<'_>, name: &str) -> Result<(), Fault> {
    for table in ["access_allowed", "access_learning", "access_observed"] {
        tx.execute(&format!("DELETE FROM {table} WHERE owner = ?1"), [name])?;
    }
    Ok(())
}

fn both(access: &Access) -> impl Iterator<Item = (Act, &String)> {
    let publish = access.publish.iter().map(|filter| (Act::Publish, filter));
    publish.chain(access.subscribe.iter().map(|filter| (Act::Subscribe, filter)))
}

fn act(table: &'static str, row: &Row<'_>, column: usize) -> Result<Act, Fault> {
    let word: String = row.get(column)?;
    Act::from_word(&word).ok_or_else(|| RegistryError::Row { table, detail: format!("act {word:?}") }.into())
}
