//! The inventory: devices, and their way through [`DeviceState`].

use quoll_tasmota::Mac;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde_json::json;
use time::OffsetDateTime;

use super::{Fault, Owner, Registry, RegistryError, access, certificates, maybe_seconds, passwords, seconds};
use crate::device::{Address, Device, DeviceName, DeviceState, Quarantine, Rung, Topics};
use crate::limits::PROBLEM_MAX;
use crate::saved::{LogLevels, SavedSettings};

const COLUMNS: &str = "name, address, mac, chip, firmware, topics, rung, state, serial, expires, first_seen, last_seen, \
                       problem, quarantined, quarantine_reason";

/// A device to be registered, as a probe found it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewDevice {
    /// Its name.
    pub name: DeviceName,
    /// Where its web console is.
    pub address: Address,
    /// Its hardware address.
    pub mac: Mac,
    /// Chip, may be empty.
    pub chip: String,
    /// Firmware version, may be empty.
    pub firmware: String,
    /// The names it publishes and subscribes under.
    pub topics: Topics,
}

impl Registry {
    /// Registers a device as Known, or brings address, firmware and topics of the same device (same name, same MAC)
    /// up to date. A removed name is used anew, as a new device.
    ///
    /// # Errors
    /// [`RegistryError::NameTaken`] by a client or by a device with another MAC, [`RegistryError::MacTaken`].
    pub fn register(&self, new: &NewDevice) -> Result<Device, RegistryError> {
        self.write(|tx| {
            self.refuse_client_name(tx, new.name.as_str())?;
            let sql = "SELECT name FROM devices WHERE mac = ?1 AND state <> 'removed' AND name <> ?2";
            let other: Option<String> = tx
                .query_row(sql, params![new.mac.to_string(), new.name.as_str()], |row| row.get(0))
                .optional()?;
            if let Some(other) = other {
                return Err(RegistryError::MacTaken { mac: new.mac, name: parse_name(&other)? }.into());
            }
            let topics = json_text(&new.topics)?;
            let old = find(tx, &new.name)?;
            match old {
                Some(old) if old.state.is_present() && old.mac != new.mac => {
                    return Err(RegistryError::NameTaken(Owner::Device(old.name)).into());
                }
                Some(old) if old.state.is_present() => {
                    tx.execute(
                        "UPDATE devices SET address = ?2, chip = ?3, firmware = ?4, topics = ?5 WHERE name = ?1",
                        params![new.name.as_str(), new.address.to_string(), new.chip, new.firmware, topics],
                    )?;
                    let was = (&old.address, &old.firmware, &old.topics);
                    if was != (&new.address, &new.firmware, &new.topics) {
                        let detail = json!({ "address": new.address.to_string(), "firmware": new.firmware });
                        self.append(tx, "device.updated", new.name.as_str(), &detail)?;
                    }
                }
                _ => {
                    tx.execute("DELETE FROM devices WHERE name = ?1", [new.name.as_str()])?;
                    forget_earlier(tx, &new.name)?;
                    tx.execute(
                        "INSERT INTO devices (name, address, mac, chip, firmware, topics, rung, state, first_seen, \
                         journal_from) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, \
                         (SELECT coalesce(max(seq), 0) FROM provisioning))",
                        params![
                            new.name.as_str(),
                            new.address.to_string(),
                            new.mac.to_string(),
                            new.chip,
                            new.firmware,
                            topics,
                            Rung::Plain.as_str(),
                            DeviceState::Known.as_str(),
                            seconds(OffsetDateTime::now_utc()),
                        ],
                    )?;
                    let detail = json!({
                        "address": new.address.to_string(), "mac": new.mac.to_string(), "firmware": new.firmware,
                    });
                    self.append(tx, "device.registered", new.name.as_str(), &detail)?;
                }
            }
            require(tx, &new.name)
        })
    }

    /// A device by name, removed ones too.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn device(&self, name: &DeviceName) -> Result<Option<Device>, RegistryError> {
        self.read(|tx| find(tx, name))
    }

    /// All devices by name, without the removed ones.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn devices(&self) -> Result<Vec<Device>, RegistryError> {
        self.read(|tx| {
            let sql = format!("SELECT {COLUMNS} FROM devices WHERE state <> 'removed' ORDER BY name");
            let mut statement = tx.prepare(&sql)?;
            let mut rows = statement.query([])?;
            let mut devices = Vec::new();
            while let Some(row) = rows.next()? {
                devices.push(read(row)?);
            }
            Ok(devices)
        })
    }

    /// The device with this hardware address, unless removed.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn device_by_mac(&self, mac: Mac) -> Result<Option<Device>, RegistryError> {
        self.read(|tx| {
            let sql = format!("SELECT {COLUMNS} FROM devices WHERE mac = ?1 AND state <> 'removed'");
            let mut statement = tx.prepare_cached(&sql)?;
            let mut rows = statement.query([mac.to_string()])?;
            rows.next()?.map(read).transpose()
        })
    }

    /// Moves a device on. A device that is Proven has no problem any more and reached `rung`; on the mutual one its
    /// passwords open nothing from the same moment on.
    ///
    /// # Errors
    /// [`RegistryError::Transition`] where its life has no such step, [`RegistryError::Unknown`].
    pub fn advance(
        &self,
        name: &DeviceName,
        to: DeviceState,
        rung: Option<Rung>,
    ) -> Result<Device, RegistryError> {
        self.write(|tx| {
            self.advance_in(tx, name, to)?;
            if let Some(rung) = rung {
                let sql = "UPDATE devices SET rung = ?2 WHERE name = ?1";
                tx.execute(sql, params![name.as_str(), rung.as_str()])?;
            }
            if to == DeviceState::Proven {
                let sql = "UPDATE devices SET problem = NULL, saved = NULL, last_seen = ?2 WHERE name = ?1";
                tx.execute(sql, params![name.as_str(), seconds(OffsetDateTime::now_utc())])?;
                if rung == Some(Rung::Mutual) {
                    passwords::void_all(tx, name)?;
                }
            }
            if to == DeviceState::RolledBack {
                tx.execute("UPDATE devices SET saved = NULL WHERE name = ?1", [name.as_str()])?;
            }
            require(tx, name)
        })
    }

    pub(super) fn advance_in(
        &self,
        tx: &Transaction<'_>,
        name: &DeviceName,
        to: DeviceState,
    ) -> Result<(), Fault> {
        let device = require(tx, name)?;
        if !device.state.may_become(to) {
            return Err(RegistryError::Transition { name: name.clone(), from: device.state, to }.into());
        }
        if device.state != to {
            tx.execute("UPDATE devices SET state = ?2 WHERE name = ?1", params![name.as_str(), to.as_str()])?;
            let detail = json!({ "from": device.state.as_str(), "to": to.as_str() });
            self.append(tx, "device.state", name.as_str(), &detail)?;
        }
        Ok(())
    }

    /// Takes a device out of the inventory and voids its certificates here (revoke it first if it may still hold a
    /// key: see [`crate::revoke`]). Its name may be used anew.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`].
    pub fn remove_device(&self, name: &DeviceName) -> Result<(), RegistryError> {
        self.write(|tx| {
            certificates::void_all(tx, name.as_str(), "removed")?;
            passwords::void_all(tx, name)?;
            access::forget_all(tx, name.as_str())?;
            forget_earlier(tx, name)?;
            self.advance_in(tx, name, DeviceState::Removed)?;
            let sql = "UPDATE devices SET serial = NULL, expires = NULL, saved = NULL, saved_logs = NULL WHERE name = ?1";
            tx.execute(sql, [name.as_str()])?;
            Ok(())
        })
    }

    /// Notes which certificate is meant for a device, from the moment it exists.
    ///
    /// # Errors
    /// [`RegistryError::SerialTaken`] by somebody else, [`RegistryError::Unknown`]; [`RegistryError::Transition`] where the
    /// device was revoked or removed meanwhile: it gets none any more.
    pub fn assign_certificate(
        &self,
        name: &DeviceName,
        serial: &str,
        expires: OffsetDateTime,
    ) -> Result<(), RegistryError> {
        self.write(|tx| {
            require_admitted(tx, name)?;
            let owner = Owner::Device(name.clone());
            if certificates::record(tx, serial, &owner, expires)? {
                let detail = json!({ "serial": serial });
                self.append(tx, "device.certificate", name.as_str(), &detail)?;
            }
            let sql = "UPDATE devices SET serial = ?2, expires = ?3 WHERE name = ?1";
            tx.execute(sql, params![name.as_str(), serial.to_ascii_uppercase(), seconds(expires)])?;
            Ok(())
        })
    }

    /// Notes what went wrong with a device, cut at [`PROBLEM_MAX`]; `None` when that is settled.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn note_problem(&self, name: &DeviceName, problem: Option<&str>) -> Result<(), RegistryError> {
        let problem = problem.map(|text| text.chars().take(PROBLEM_MAX).collect::<String>());
        self.write(|tx| {
            tx.execute("UPDATE devices SET problem = ?2 WHERE name = ?1", params![name.as_str(), problem])?;
            Ok(())
        })
    }

    /// Keeps the settings a device had before we changed anything. What is kept already stays: a second run must not
    /// take its own settings for the old ones.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn keep_settings(&self, name: &DeviceName, saved: &SavedSettings) -> Result<(), RegistryError> {
        self.keep(name, "saved", &json_text(saved)?)
    }

    /// As [`Self::keep_settings`], for the log levels.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn keep_log_levels(&self, name: &DeviceName, levels: &LogLevels) -> Result<(), RegistryError> {
        self.keep(name, "saved_logs", &json_text(levels)?)
    }

    /// The log levels are back: forget them.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn forget_log_levels(&self, name: &DeviceName) -> Result<(), RegistryError> {
        self.write(|tx| {
            tx.execute("UPDATE devices SET saved_logs = NULL WHERE name = ?1", [name.as_str()])?;
            Ok(())
        })
    }

    /// What [`Self::keep_settings`] and [`Self::keep_log_levels`] keep for a device.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn kept(
        &self,
        name: &DeviceName,
    ) -> Result<(Option<SavedSettings>, Option<LogLevels>), RegistryError> {
        self.read(|tx| {
            let sql = "SELECT saved, saved_logs FROM devices WHERE name = ?1";
            let row: Option<(Option<String>, Option<String>)> =
                tx.query_row(sql, [name.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            let (saved, levels) = row.unwrap_or_default();
            let bad = |error: serde_json::Error| RegistryError::Row {
                table: "devices",
                detail: format!("{name}: kept settings: {error}"),
            };
            let saved = saved.map(|text| serde_json::from_str(&text)).transpose().map_err(bad)?;
            let levels = levels.map(|text| serde_json::from_str(&text)).transpose().map_err(bad)?;
            Ok((saved, levels))
        })
    }

    /// Writes last-seen times of certificates' owners, one transaction for all. Times never go back.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn saw(&self, sightings: &[(String, OffsetDateTime)]) -> Result<(), RegistryError> {
        self.write(|tx| {
            for table in ["devices", "clients"] {
                let sql = format!(
                    "UPDATE {table} SET last_seen = max(coalesce(last_seen, 0), ?2) WHERE name = \
                     (SELECT owner FROM certificates WHERE serial = ?1 AND owner_kind = ?3)"
                );
                let mut statement = tx.prepare_cached(&sql)?;
                let kind = if table == "devices" { certificates::DEVICE } else { certificates::CLIENT };
                for (serial, at) in sightings {
                    statement.execute(params![serial, seconds(*at), kind])?;
                }
            }
            let mut statement = tx.prepare_cached(
                "UPDATE devices SET last_seen = max(coalesce(last_seen, 0), ?2) \
                 WHERE name = (SELECT device FROM passwords WHERE id = ?1)",
            )?;
            for (id, at) in sightings {
                statement.execute(params![id, seconds(*at)])?;
            }
            Ok(())
        })
    }

    fn keep(&self, name: &DeviceName, column: &str, text: &str) -> Result<(), RegistryError> {
        self.write(|tx| {
            let sql = format!("UPDATE devices SET {column} = coalesce({column}, ?2) WHERE name = ?1");
            tx.execute(&sql, params![name.as_str(), text])?;
            Ok(())
        })
    }
}

pub(super) fn find(tx: &Transaction<'_>, name: &DeviceName) -> Result<Option<Device>, Fault> {
    let mut statement = tx.prepare_cached(&format!("SELECT {COLUMNS} FROM devices WHERE name = ?1"))?;
    let mut rows = statement.query([name.as_str()])?;
    rows.next()?.map(read).transpose()
}

pub(super) fn require(tx: &Transaction<'_>, name: &DeviceName) -> Result<Device, Fault> {
    find(tx, name)?.ok_or_else(|| RegistryError::Unknown(Owner::Device(name.clone())).into())
}

/// What was under way with a device, and what it was known to trust, ends with it: one that gets its name later, or its
/// place, must not go on with an earlier one's change, whose certificates are void.
pub(super) fn forget_earlier(tx: &Transaction<'_>, name: &DeviceName) -> Result<(), Fault> {
    tx.execute("DELETE FROM changes WHERE device = ?1", [name.as_str()])?;
    tx.execute("DELETE FROM server_key_slots WHERE device = ?1", [name.as_str()])?;
    let sql = "DELETE FROM anchors WHERE owner = ?1 AND owner_kind = 'device'";
    tx.execute(sql, [name.as_str()])?;
    Ok(())
}

/// As [`require`]; one that was revoked or removed meanwhile is on no way any more.
pub(super) fn require_admitted(tx: &Transaction<'_>, name: &DeviceName) -> Result<Device, Fault> {
    let device = require(tx, name)?;
    if device.state.admits() {
        return Ok(device);
    }
    let (from, to) = (device.state, DeviceState::KeyPushed);
    Err(RegistryError::Transition { name: device.name, from, to }.into())
}

/// As [`require`]; one that is removed is unknown.
pub(super) fn require_present(tx: &Transaction<'_>, name: &DeviceName) -> Result<Device, Fault> {
    let found = find(tx, name)?.filter(|device| device.state.is_present());
    found.ok_or_else(|| RegistryError::Unknown(Owner::Device(name.clone())).into())
}

fn read(row: &Row<'_>) -> Result<Device, Fault> {
    let name: String = row.get(0)?;
    let bad =
        |what: &str| Fault::from(RegistryError::Row { table: "devices", detail: format!("{name}: {what}") });
    let text = |at: usize| row.get::<_, String>(at);
    let reason: Option<String> = row.get(14)?;
    Ok(Device {
        name: parse_name(&name)?,
        address: Address::parse(&text(1)?).map_err(|_| bad("address"))?,
        mac: text(2)?.parse().map_err(|_| bad("mac"))?,
        chip: text(3)?,
        firmware: text(4)?,
        topics: serde_json::from_str(&text(5)?).map_err(|_| bad("topics"))?,
        rung: Rung::from_word(&text(6)?).ok_or_else(|| bad("rung"))?,
        state: DeviceState::from_word(&text(7)?).ok_or_else(|| bad("state"))?,
        serial: row.get(8)?,
        expires: maybe_seconds("devices", row.get(9)?)?,
        first_seen: super::from_seconds("devices", row.get(10)?)?,
        last_seen: maybe_seconds("devices", row.get(11)?)?,
        problem: row.get(12)?,
        quarantine: maybe_seconds("devices", row.get(13)?)?
            .map(|since| Quarantine { since, reason: reason.unwrap_or_default() }),
    })
}

fn parse_name(text: &str) -> Result<DeviceName, RegistryError> {
    DeviceName::parse(text)
        .map_err(|error| RegistryError::Row { table: "devices", detail: format!("{text:?}: {error}") })
}

pub(super) fn json_text<T: serde::Serialize>(value: &T) -> Result<String, RegistryError> {
    serde_json::to_string(value).map_err(|error| RegistryError::Row {
        table: "devices",
        detail: format!("cannot be written: {error}"),
    })
}
