//! Devices that were found and may not be ours yet.

use quoll_tasmota::Mac;
use rusqlite::{Row, Transaction, params};

use super::{Fault, Registry, RegistryError, devices, from_seconds, seconds};
use crate::campaign::Candidate;

impl Registry {
    /// Keeps what a scan found, one transaction for all. What a newer look could not ask stays as it was known.
    ///
    /// # Errors
    /// Where the registry cannot be written; then nothing was kept.
    pub fn keep_candidates(&self, found: &[Candidate]) -> Result<(), RegistryError> {
        self.write(|tx| {
            for candidate in found {
                let kept = match find(tx, candidate.mac)? {
                    Some(mut old) => {
                        old.renew(candidate.clone());
                        old
                    }
                    None => candidate.clone(),
                };
                tx.execute(
                    "INSERT OR REPLACE INTO candidates (mac, found, first_found, last_found) VALUES (?1, ?2, ?3, ?4)",
                    params![
                        kept.mac.to_string(),
                        devices::json_text(&kept.found)?,
                        seconds(kept.first_found),
                        seconds(kept.last_found)
                    ],
                )?;
            }
            Ok(())
        })
    }

    /// All that were found, by MAC.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn candidates(&self) -> Result<Vec<Candidate>, RegistryError> {
        self.read(|tx| {
            let sql = "SELECT mac, found, first_found, last_found FROM candidates ORDER BY mac";
            let mut statement = tx.prepare(sql)?;
            let mut rows = statement.query([])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(read(row)?);
            }
            Ok(found)
        })
    }

    /// Forgets a candidate; whether there was one.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn forget_candidate(&self, mac: Mac) -> Result<bool, RegistryError> {
        self.write(|tx| Ok(tx.execute("DELETE FROM candidates WHERE mac = ?1", [mac.to_string()])? > 0))
    }
}

fn find(tx: &Transaction<'_>, mac: Mac) -> Result<Option<Candidate>, Fault> {
    let sql = "SELECT mac, found, first_found, last_found FROM candidates WHERE mac = ?1";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query([mac.to_string()])?;
    rows.next()?.map(read).transpose()
}

fn read(row: &Row<'_>) -> Result<Candidate, Fault> {
    let mac: String = row.get(0)?;
    let bad = |what: &str| RegistryError::Row { table: "candidates", detail: format!("{mac}: {what}") };
    Ok(Candidate {
        mac: mac.parse().map_err(|_| bad("mac"))?,
        found: serde_json::from_str(&row.get::<_, String>(1)?).map_err(|_| bad("what was found"))?,
        first_found: from_seconds("candidates", row.get(2)?)?,
        last_found: from_seconds("candidates", row.get(3)?)?,
    })
}
