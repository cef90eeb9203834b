//! Certificates of our CA that no device and no client has: such as one that Easy-RSA issued, in a folder that was
//! adopted. They are pending until somebody accepts or rejects them.
//! What it is not: the door. Whether a pending one comes in is configured, and the program's business.

use rusqlite::{Row, params};
use serde_json::json;
use time::OffsetDateTime;

use super::{Fault, Registry, RegistryError, from_seconds, seconds};
use crate::limits::{ADDRESS_MAX, NAME_MAX, TOPIC_MAX, UNLISTED_MAX};

/// A certificate that nobody has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unlisted {
    /// Serial number, upper-case hex.
    pub serial: String,
    /// Its common name; may be empty, and is not checked for being a device's name.
    pub name: String,
    /// The MQTT client identifier it came with last.
    pub client_id: String,
    /// Where it came from last: address and port.
    pub address: String,
    /// When it came first.
    pub first_seen: OffsetDateTime,
    /// When it came last.
    pub last_seen: OffsetDateTime,
    /// How often it came.
    pub times: u64,
    /// When it was rejected; `None` while it is pending.
    pub rejected: Option<OffsetDateTime>,
}

/// One visit of such a certificate at the door.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Visit {
    /// Serial number, hex of either case.
    pub serial: String,
    /// Its common name.
    pub name: String,
    /// The MQTT client identifier it came with.
    pub client_id: String,
    /// Where it came from.
    pub address: String,
    /// When, the last time.
    pub at: OffsetDateTime,
    /// How often since the last report.
    pub times: u64,
}

const COLUMNS: &str = "serial, name, client_id, address, first_seen, last_seen, times, rejected";

impl Registry {
    /// Notes visits, one transaction for all. What is recorded for somebody is left out; above [`UNLISTED_MAX`] new ones
    /// are, too.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn note_unlisted(&self, visits: &[Visit]) -> Result<(), RegistryError> {
        if visits.is_empty() {
            return Ok(());
        }
        let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
        self.write(|tx| {
            let mut known = tx.prepare_cached("SELECT count(*) FROM certificates WHERE serial = ?1")?;
            let mut note = tx.prepare_cached(
                "INSERT INTO unlisted (serial, name, client_id, address, first_seen, last_seen, times) \
                 SELECT ?1, ?2, ?3, ?4, ?5, ?5, ?6 WHERE EXISTS (SELECT 1 FROM unlisted WHERE serial = ?1) \
                 OR (SELECT count(*) FROM unlisted) < ?7 \
                 ON CONFLICT (serial) DO UPDATE SET name = ?2, client_id = ?3, address = ?4, \
                 last_seen = max(last_seen, ?5), times = times + ?6",
            )?;
            for visit in visits {
                let listed: i64 = known.query_row([&visit.serial], |row| row.get(0))?;
                if listed == 0 {
                    note.execute(params![
                        visit.serial.to_ascii_uppercase(),
                        cut(&visit.name, NAME_MAX),
                        cut(&visit.client_id, TOPIC_MAX),
                        cut(&visit.address, ADDRESS_MAX),
                        seconds(visit.at),
                        i64::try_from(visit.times).unwrap_or(i64::MAX),
                        UNLISTED_MAX,
                    ])?;
                }
            }
            Ok(())
        })
    }

    /// All that came and belong to nobody, rejected ones too, by name and serial number.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn unlisted(&self) -> Result<Vec<Unlisted>, RegistryError> {
        self.read(|tx| {
            let mut statement = tx.prepare(&format!(
                "SELECT {COLUMNS} FROM unlisted WHERE serial NOT IN (SELECT serial FROM certificates) \
                 ORDER BY name, serial"
            ))?;
            let mut rows = statement.query([])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(read(row)?);
            }
            Ok(found)
        })
    }

    /// Keeps a certificate out that belongs to nobody, whether it came yet or not, until it is accepted. Doing it twice
    /// changes nothing.
    ///
    /// # Errors
    /// [`RegistryError::SerialTaken`] where it belongs to somebody: revoke that one.
    pub fn reject_unlisted(&self, serial: &str, name: &str) -> Result<(), RegistryError> {
        self.write(|tx| {
            if let Some(known) = super::certificates::find(tx, serial)? {
                return Err(RegistryError::SerialTaken { serial: known.serial, owner: known.owner }.into());
            }
            let now = seconds(OffsetDateTime::now_utc());
            let changed = tx.execute(
                "INSERT INTO unlisted (serial, name, client_id, address, first_seen, last_seen, times, rejected) \
                 VALUES (?1, ?2, '', '', ?3, ?3, 0, ?3) \
                 ON CONFLICT (serial) DO UPDATE SET rejected = ?3 WHERE rejected IS NULL",
                params![serial.to_ascii_uppercase(), name.chars().take(NAME_MAX).collect::<String>(), now],
            )?;
            if changed > 0 {
                self.append(tx, "certificate.rejected", name, &json!({ "serial": serial }))?;
            }
            Ok(())
        })
    }

    /// Forgets what was noted of a certificate, because it belongs to somebody now.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn forget_unlisted(&self, serial: &str) -> Result<(), RegistryError> {
        self.write(|tx| {
            tx.execute("DELETE FROM unlisted WHERE serial = ?1", [serial])?;
            Ok(())
        })
    }
}

fn read(row: &Row<'_>) -> Result<Unlisted, Fault> {
    let time = |at: usize| -> Result<OffsetDateTime, Fault> { Ok(from_seconds("unlisted", row.get(at)?)?) };
    Ok(Unlisted {
        serial: row.get(0)?,
        name: row.get(1)?,
        client_id: row.get(2)?,
        address: row.get(3)?,
        first_seen: time(4)?,
        last_seen: time(5)?,
        times: u64::try_from(row.get::<_, i64>(6)?).unwrap_or(0),
        rejected: super::maybe_seconds("unlisted", row.get(7)?)?,
    })
}
