//! Runs over many devices, and what became of each.

use quoll_tasmota::Mac;
use rusqlite::{OptionalExtension, Row, params};
use serde_json::json;
use time::OffsetDateTime;

use super::{Fault, Registry, RegistryError, from_seconds, maybe_seconds, seconds};
use crate::campaign::{Campaign, Outcome, Record};
use crate::limits::PROBLEM_MAX;

impl Registry {
    /// The run with these orders that has not ended, else a new one. Whether it goes on with an old one.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn begin_campaign(&self, orders: &str) -> Result<(Campaign, bool), RegistryError> {
        self.write(|tx| {
            let sql = "SELECT id, orders, began, ended, why FROM campaigns ORDER BY id DESC LIMIT 1";
            let mut statement = tx.prepare(sql)?;
            let last = statement.query_row([], |row| Ok(read(row))).optional()?.transpose()?;
            if let Some(last) = last.filter(|last| last.ended.is_none() && last.orders == orders) {
                return Ok((last, true));
            }
            let began = OffsetDateTime::now_utc();
            tx.execute(
                "INSERT INTO campaigns (orders, began) VALUES (?1, ?2)",
                params![orders, seconds(began)],
            )?;
            let id = tx.last_insert_rowid();
            self.append(tx, "fleet.begun", &id.to_string(), &json!({ "orders": orders }))?;
            Ok((Campaign { id, orders: orders.to_owned(), began, ended: None, why: None }, false))
        })
    }

    /// A run has ended; why, if before all were done.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn end_campaign(&self, id: i64, why: Option<&str>) -> Result<(), RegistryError> {
        self.write(|tx| {
            let now = seconds(OffsetDateTime::now_utc());
            tx.execute("UPDATE campaigns SET ended = ?2, why = ?3 WHERE id = ?1", params![id, now, why])?;
            self.append(tx, "fleet.ended", &id.to_string(), &json!({ "why": why }))
        })
    }

    /// Notes what became of devices in a run, one transaction for all.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn record_outcomes(&self, campaign: i64, records: &[Record]) -> Result<(), RegistryError> {
        let short = |text: &str| text.chars().take(PROBLEM_MAX).collect::<String>();
        self.write(|tx| {
            let mut statement = tx.prepare_cached(
                "INSERT OR REPLACE INTO campaign_devices \
                 (campaign, mac, name, address, rung, outcome, attempts, what, next, at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?;
            for record in records {
                statement.execute(params![
                    campaign,
                    record.mac.to_string(),
                    record.name,
                    record.address,
                    record.rung,
                    record.outcome.as_str(),
                    record.attempts,
                    short(&record.what),
                    short(&record.next),
                    seconds(record.at),
                ])?;
            }
            Ok(())
        })
    }

    /// A run by its number, or the last one; with its devices by name.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn campaign(&self, id: Option<i64>) -> Result<Option<(Campaign, Vec<Record>)>, RegistryError> {
        self.read(|tx| {
            let sql = "SELECT id, orders, began, ended, why FROM campaigns WHERE id = coalesce(?1, id) \
                       ORDER BY id DESC LIMIT 1";
            let mut statement = tx.prepare(sql)?;
            let Some(campaign) = statement.query_row([id], |row| Ok(read(row))).optional()?.transpose()? else {
                return Ok(None);
            };
            let sql = "SELECT mac, name, address, rung, outcome, attempts, what, next, at FROM campaign_devices \
                       WHERE campaign = ?1 ORDER BY name COLLATE NOCASE, mac";
            let mut statement = tx.prepare(sql)?;
            let mut rows = statement.query([campaign.id])?;
            let mut records = Vec::new();
            while let Some(row) = rows.next()? {
                records.push(read_record(row)?);
            }
            Ok(Some((campaign, records)))
        })
    }
}

fn read(row: &Row<'_>) -> Result<Campaign, Fault> {
    Ok(Campaign {
        id: row.get(0)?,
        orders: row.get(1)?,
        began: from_seconds("campaigns", row.get(2)?)?,
        ended: maybe_seconds("campaigns", row.get(3)?)?,
        why: row.get(4)?,
    })
}

fn read_record(row: &Row<'_>) -> Result<Record, Fault> {
    let (mac, outcome): (String, String) = (row.get(0)?, row.get(4)?);
    let bad = |what: &str| RegistryError::Row { table: "campaign_devices", detail: format!("{mac}: {what}") };
    Ok(Record {
        mac: mac.parse::<Mac>().map_err(|_| bad("mac"))?,
        name: row.get(1)?,
        address: row.get(2)?,
        rung: row.get(3)?,
        outcome: Outcome::from_word(&outcome).ok_or_else(|| bad("outcome"))?,
        attempts: row.get(5)?,
        what: row.get(6)?,
        next: row.get(7)?,
        at: from_seconds("campaign_devices", row.get(8)?)?,
    })
}
