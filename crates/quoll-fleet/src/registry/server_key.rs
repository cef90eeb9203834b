//! A new key of the server on its way to the devices that pin it: which key, how far, and what each device's slots held
//! before. Never a key itself, only its fingerprint.

use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::json;
use time::OffsetDateTime;

use super::{Fault, Registry, RegistryError, devices, from_seconds, maybe_seconds, seconds};
use crate::device::{DeviceName, words};
use crate::limits::PROBLEM_MAX;

/// How far a change of the server's key got.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum KeyStage {
    /// The devices are being told of the new key; the server shows the old one.
    Staging,
    /// The server is being given the new key; it shows the old one, or the new one.
    Switching,
    /// The server shows the new key.
    Switched,
}

words!(KeyStage { Staging = "staging", Switching = "switching", Switched = "switched" });

/// How far a device got.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum SlotStage {
    /// Its slots are about to be changed, or were changed and not read back: they may hold any of it.
    Writing,
    /// It holds both keys, and was seen with the old one since.
    Staged,
    /// It was seen since the server shows the new key.
    Proven,
    /// It holds the new key alone.
    Finished,
}

words!(SlotStage { Writing = "writing", Staged = "staged", Proven = "proven", Finished = "finished" });

/// A change of the server's key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerKeyChange {
    /// How far it got.
    pub stage: KeyStage,
    /// The new key's fingerprint, as devices show it.
    pub fingerprint: String,
    /// The old key's.
    pub previous: String,
    /// When it began.
    pub began: OffsetDateTime,
    /// Since when the server shows the new key.
    pub switched: Option<OffsetDateTime>,
}

/// A device in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SlotChange {
    /// The device.
    pub device: DeviceName,
    /// What its slots held before, as it showed them.
    pub before: [String; 2],
    /// How far it got.
    pub stage: SlotStage,
    /// Since when.
    pub at: OffsetDateTime,
    /// What went wrong last.
    pub problem: Option<String>,
}

impl ServerKeyChange {
    /// Whether this device may hold the new key alone: its old one was taken from it, or was about to be.
    #[must_use]
    pub fn is_past_return(&self, slot: &SlotChange) -> bool {
        let since = self.switched.is_some_and(|switched| slot.at >= switched);
        slot.stage == SlotStage::Finished || (slot.stage == SlotStage::Writing && since)
    }
}

impl Registry {
    /// Begins a change to this key; the one under way, where there is one.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn begin_server_key(&self, new: &str, old: &str) -> Result<ServerKeyChange, RegistryError> {
        self.write(|tx| {
            if let Some(under_way) = find(tx)? {
                return Ok(under_way);
            }
            tx.execute(
                "INSERT INTO server_key (only, stage, fingerprint, previous, began) VALUES (1, ?1, ?2, ?3, ?4)",
                params![KeyStage::Staging.as_str(), new, old, seconds(OffsetDateTime::now_utc())],
            )?;
            self.append(tx, "server.key.staging", "server", &json!({ "new": new, "old": old }))?;
            find(tx)?.ok_or_else(|| bad("the row is missing").into())
        })
    }

    /// The change under way.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn server_key_change(&self) -> Result<Option<ServerKeyChange>, RegistryError> {
        self.read(find)
    }

    /// Notes how far the change got.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn advance_server_key(&self, stage: KeyStage) -> Result<(), RegistryError> {
        self.write(|tx| {
            let now = (stage == KeyStage::Switched).then(|| seconds(OffsetDateTime::now_utc()));
            tx.execute("UPDATE server_key SET stage = ?1, switched = ?2", params![stage.as_str(), now])?;
            self.append(tx, &format!("server.key.{stage}"), "server", &json!({}))
        })
    }

    /// The change is over: carried through, or taken back.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn end_server_key(&self, word: &str) -> Result<(), RegistryError> {
        self.write(|tx| {
            let Some(change) = find(tx)? else { return Ok(()) };
            tx.execute("DELETE FROM server_key", [])?;
            tx.execute("DELETE FROM server_key_slots", [])?;
            let detail = json!({ "new": change.fingerprint, "old": change.previous });
            self.append(tx, &format!("server.key.{word}"), "server", &detail)
        })
    }

    /// What is known of the devices' slots, by name.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn slot_changes(&self) -> Result<Vec<SlotChange>, RegistryError> {
        self.read(|tx| {
            let sql = "SELECT device, slot1, slot2, stage, at, problem FROM server_key_slots ORDER BY device";
            let mut statement = tx.prepare(sql)?;
            let mut rows = statement.query([])?;
            let mut slots = Vec::new();
            while let Some(row) = rows.next()? {
                let (name, stage): (String, String) = (row.get(0)?, row.get(3)?);
                slots.push(SlotChange {
                    device: DeviceName::parse(&name).map_err(|_| bad(&name))?,
                    before: [row.get(1)?, row.get(2)?],
                    stage: SlotStage::from_word(&stage).ok_or_else(|| bad(&stage))?,
                    at: from_seconds("server_key_slots", row.get(4)?)?,
                    problem: row.get(5)?,
                });
            }
            Ok(slots)
        })
    }

    /// A device's slots are about to be changed: what they held before is kept, from the first time on.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`].
    pub fn begin_slots(&self, device: &DeviceName, before: &[String; 2]) -> Result<(), RegistryError> {
        self.write(|tx| {
            let name = devices::require_present(tx, device)?.name;
            tx.execute(
                "INSERT INTO server_key_slots (device, slot1, slot2, stage, at) VALUES (?1, ?2, ?3, ?4, ?5) \
                 ON CONFLICT (device) DO UPDATE SET stage = ?4, at = ?5",
                params![
                    name.as_str(),
                    before[0],
                    before[1],
                    SlotStage::Writing.as_str(),
                    seconds(OffsetDateTime::now_utc()),
                ],
            )?;
            Ok(())
        })
    }

    /// Notes how far a device got; that settles what went wrong before.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn advance_slots(&self, device: &DeviceName, stage: SlotStage) -> Result<(), RegistryError> {
        self.write(|tx| {
            tx.execute(
                "UPDATE server_key_slots SET stage = ?2, at = ?3, problem = NULL WHERE device = ?1",
                params![device.as_str(), stage.as_str(), seconds(OffsetDateTime::now_utc())],
            )?;
            Ok(())
        })
    }

    /// Notes what went wrong with a device.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn note_slots(&self, device: &DeviceName, problem: &str) -> Result<(), RegistryError> {
        let problem: String = problem.chars().take(PROBLEM_MAX).collect();
        self.write(|tx| {
            let sql = "UPDATE server_key_slots SET problem = ?2 WHERE device = ?1";
            tx.execute(sql, params![device.as_str(), problem])?;
            Ok(())
        })
    }

    /// A device's slots are as they were before.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn forget_slots(&self, device: &DeviceName) -> Result<(), RegistryError> {
        self.write(|tx| forget(tx, device))
    }
}

/// Whoever writes both slots of a device otherwise, such as a new password, makes what was noted of them void.
pub(super) fn forget(tx: &Transaction<'_>, device: &DeviceName) -> Result<(), Fault> {
    tx.execute("DELETE FROM server_key_slots WHERE device = ?1", [device.as_str()])?;
    Ok(())
}

fn find(tx: &Transaction<'_>) -> Result<Option<ServerKeyChange>, Fault> {
    let sql = "SELECT stage, fingerprint, previous, began, switched FROM server_key";
    let row = tx
        .query_row(sql, [], |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })
        .optional()?;
    let Some((stage, fingerprint, previous, began, switched)) = row else { return Ok(None) };
    Ok(Some(ServerKeyChange {
        stage: KeyStage::from_word(&stage).ok_or_else(|| bad(&stage))?,
        fingerprint,
        previous,
        began: from_seconds("server_key", began)?,
        switched: maybe_seconds("server_key", switched)?,
    }))
}

fn bad(what: &str) -> RegistryError {
    RegistryError::Row { table: "server_key", detail: what.to_owned() }
}
