//! Changes of a device's identity that are under way: a new key and certificate, perhaps a new name. A row from before
//! the first step until the old certificate is gone, so that a run that was killed is continued.

use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::json;
use time::OffsetDateTime;

use super::{Fault, Owner, Registry, RegistryError, certificates, devices, from_seconds, seconds};
use crate::device::{Device, DeviceName, DeviceState, Topics, words};

/// How far a change got. Noted before what it says is begun.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Stage {
    /// Wanted.
    Begun,
    /// The new certificate exists, and the door knows it.
    Issued,
    /// The new key is being stored on the device: it may have any of both, or a mixture.
    Pushing,
    /// Key and certificate are on the device, and their lengths match.
    Pushed,
    /// It has been told to restart, and to come with them.
    Restarting,
    /// The broker saw it with the new certificate. What is left is to void the old one.
    Proven,
}

words!(Stage {
    Begun = "begun",
    Issued = "issued",
    Pushing = "pushing",
    Pushed = "pushed",
    Restarting = "restarting",
    Proven = "proven",
});

/// A change under way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// The device, under the name it has in the registry.
    pub device: DeviceName,
    /// The name it is to have; `None` where it keeps its own.
    pub new_name: Option<DeviceName>,
    /// How far it got.
    pub stage: Stage,
    /// The certificate it had when it began; `None` where it had none of ours.
    pub old_serial: Option<String>,
    /// The certificate it is to have, from the moment it exists.
    pub new_serial: Option<String>,
    /// Its topics when it began, where they are changed, too.
    pub old_topics: Option<Topics>,
    /// When it began.
    pub began: OffsetDateTime,
}

const COLUMNS: &str = "device, new_name, stage, old_serial, new_serial, old_topics, began";

impl Registry {
    /// Notes that a device is to change; the one under way, where there is one already.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`], [`RegistryError::NameTaken`] where the new name is somebody's.
    pub fn begin_change(
        &self,
        device: &DeviceName,
        new_name: Option<&DeviceName>,
    ) -> Result<Change, RegistryError> {
        self.write(|tx| {
            let known = devices::require_present(tx, device)?;
            if let Some(under_way) = find(tx, device)? {
                return Ok(under_way);
            }
            if let Some(name) = new_name {
                self.refuse_taken(tx, name, device)?;
            }
            let act = if new_name.is_some() { "rename" } else { "rotate" };
            tx.execute(
                "INSERT INTO changes (device, act, stage, new_name, old_serial, began) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    known.name.as_str(),
                    act,
                    Stage::Begun.as_str(),
                    new_name.map(DeviceName::as_str),
                    known.serial,
                    seconds(OffsetDateTime::now_utc()),
                ],
            )?;
            let detail = json!({ "to": new_name.map(DeviceName::as_str), "old": known.serial });
            self.append(tx, &format!("device.{act}.begun"), device.as_str(), &detail)?;
            require(tx, device)
        })
    }

    /// The change of a device that is under way.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn change_of(&self, device: &DeviceName) -> Result<Option<Change>, RegistryError> {
        self.read(|tx| find(tx, device))
    }

    /// All changes under way, by name.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn changes(&self) -> Result<Vec<Change>, RegistryError> {
        self.read(|tx| {
            let mut statement = tx.prepare("SELECT device FROM changes ORDER BY device")?;
            let names: Vec<String> =
                statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            let mut changes = Vec::new();
            for name in names {
                changes.extend(find(tx, &parse(&name)?)?);
            }
            Ok(changes)
        })
    }

    /// The new certificate exists: the door is to know it beside the old one. Doing it twice changes nothing.
    ///
    /// # Errors
    /// [`RegistryError::SerialTaken`], [`RegistryError::Unknown`]; [`RegistryError::Transition`] where the device was revoked
    /// or removed meanwhile: it gets none any more.
    pub fn change_certificate(
        &self,
        device: &DeviceName,
        serial: &str,
        expires: OffsetDateTime,
    ) -> Result<Change, RegistryError> {
        self.write(|tx| {
            let owner = Owner::Device(devices::require_admitted(tx, device)?.name);
            if certificates::record(tx, serial, &owner, expires)? {
                self.append(tx, "device.certificate", device.as_str(), &json!({ "serial": serial }))?;
            }
            tx.execute(
                "UPDATE changes SET new_serial = ?2, stage = CASE stage WHEN 'begun' THEN 'issued' ELSE stage END \
                 WHERE device = ?1",
                params![device.as_str(), serial.to_ascii_uppercase()],
            )?;
            require(tx, device)
        })
    }

    /// Notes how far a change got.
    ///
    /// # Errors
    /// [`RegistryError::Transition`] where the device was revoked or removed meanwhile, and a registry that cannot be
    /// written.
    pub fn advance_change(&self, device: &DeviceName, stage: Stage) -> Result<(), RegistryError> {
        self.write(|tx| {
            devices::require_admitted(tx, device)?;
            tx.execute(
                "UPDATE changes SET stage = ?2 WHERE device = ?1",
                params![device.as_str(), stage.as_str()],
            )?;
            Ok(())
        })
    }

    /// The topics that a device has from now on, so that it may use them when it comes; what it had is kept with the
    /// change.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn change_topics(&self, device: &DeviceName, topics: &Topics) -> Result<(), RegistryError> {
        self.write(|tx| {
            let known = devices::require_present(tx, device)?;
            let (old, new) = (devices::json_text(&known.topics)?, devices::json_text(topics)?);
            let sql = "UPDATE changes SET old_topics = coalesce(old_topics, ?2) WHERE device = ?1";
            tx.execute(sql, params![device.as_str(), old])?;
            tx.execute("UPDATE devices SET topics = ?2 WHERE name = ?1", params![device.as_str(), new])?;
            Ok(())
        })
    }

    /// The broker saw the device with the new certificate: that is its certificate now, under the new name where it was
    /// to have one.
    ///
    /// # Errors
    /// Where the registry cannot be written, or the new name was taken meanwhile.
    pub fn settle_change(&self, device: &DeviceName) -> Result<Device, RegistryError> {
        self.write(|tx| {
            let change = require(tx, device)?;
            let Some(serial) = &change.new_serial else {
                return Err(bad(device, "it has no new certificate").into());
            };
            let expires = certificates::find(tx, serial)?.map(|certificate| seconds(certificate.expires));
            tx.execute(
                "UPDATE devices SET serial = ?2, expires = ?3, problem = NULL, last_seen = ?4 WHERE name = ?1",
                params![device.as_str(), serial, expires, seconds(OffsetDateTime::now_utc())],
            )?;
            let known = devices::require(tx, device)?;
            // From wherever an earlier trouble left it: it was seen.
            for state in [DeviceState::Switched, DeviceState::Proven] {
                if known.state != DeviceState::Proven {
                    self.advance_in(tx, device, state)?;
                }
            }
            tx.execute(
                "UPDATE changes SET stage = ?2 WHERE device = ?1",
                params![device.as_str(), Stage::Proven.as_str()],
            )?;
            if let Some(name) = &change.new_name {
                self.rename_in(tx, device, name)?;
            }
            devices::require(tx, change.new_name.as_ref().unwrap_or(device))
        })
    }

    /// The old certificate is void: the change is done.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn end_change(&self, device: &DeviceName) -> Result<(), RegistryError> {
        self.write(|tx| {
            let Some(change) = find(tx, device)? else { return Ok(()) };
            tx.execute("DELETE FROM changes WHERE device = ?1", [device.as_str()])?;
            let verb = if change.new_name.is_some() { "device.renamed" } else { "device.rotated" };
            let detail = json!({ "old": change.old_serial, "new": change.new_serial });
            self.append(tx, verb, device.as_str(), &detail)
        })
    }

    /// The device has its old key back: the new certificate, which nobody is to use any more, is void here and waits for the
    /// folder, the topics are the old ones. The serial number of what is void now.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn abandon_change(&self, device: &DeviceName) -> Result<Option<String>, RegistryError> {
        self.write(|tx| {
            let Some(change) = find(tx, device)? else { return Ok(None) };
            tx.execute("DELETE FROM changes WHERE device = ?1", [device.as_str()])?;
            if let Some(topics) = &change.old_topics {
                let topics = devices::json_text(topics)?;
                tx.execute(
                    "UPDATE devices SET topics = ?2 WHERE name = ?1",
                    params![device.as_str(), topics],
                )?;
            }
            if let Some(serial) = &change.new_serial {
                certificates::void(tx, serial, certificates::NOT_IN_THE_FOLDER)?;
            }
            let verb = if change.new_name.is_some() { "device.rename" } else { "device.rotate" };
            let detail = json!({ "kept": change.old_serial, "void": change.new_serial });
            self.append(tx, &format!("{verb}.abandoned"), device.as_str(), &detail)?;
            Ok(change.new_serial)
        })
    }

    /// Gives a device's place, name and history to other hardware: its certificates are void, it is Known. Returns what is
    /// void now. Doing it twice changes nothing.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`], [`RegistryError::MacTaken`].
    pub fn replace_hardware(
        &self,
        device: &DeviceName,
        mac: crate::device::Mac,
        address: &crate::device::Address,
    ) -> Result<Vec<String>, RegistryError> {
        self.write(|tx| {
            let known = devices::require_present(tx, device)?;
            if known.mac == mac {
                return Ok(Vec::new());
            }
            let sql = "SELECT name FROM devices WHERE mac = ?1 AND state <> 'removed' AND name <> ?2";
            let other: Option<String> =
                tx.query_row(sql, params![mac.to_string(), device.as_str()], |row| row.get(0)).optional()?;
            if let Some(other) = other {
                return Err(RegistryError::MacTaken { mac, name: parse(&other)? }.into());
            }
            let void = certificates::void_all(tx, device.as_str(), "superseded")?;
            super::passwords::void_all(tx, device)?;
            devices::forget_earlier(tx, device)?;
            let client_id = format!("DVES_{}", mac.tail());
            let topics = devices::json_text(&Topics { client_id, ..known.topics.clone() })?;
            // Another device in the same place: what it reached and what was kept of it was the old one's.
            tx.execute(
                "UPDATE devices SET mac = ?2, address = ?3, state = ?4, rung = ?5, topics = ?6, serial = NULL, expires = NULL, \
                 saved = NULL, saved_logs = NULL, problem = NULL, first_seen = ?7, quarantined = NULL, \
                 quarantine_reason = NULL, journal_from = (SELECT coalesce(max(seq), 0) FROM provisioning) \
                 WHERE name = ?1",
                params![
                    device.as_str(),
                    mac.to_string(),
                    address.to_string(),
                    DeviceState::Known.as_str(),
                    crate::device::Rung::Plain.as_str(),
                    topics,
                    seconds(OffsetDateTime::now_utc()),
                ],
            )?;
            let detail = json!({ "old_mac": known.mac.to_string(), "new_mac": mac.to_string(), "void": void });
            self.append(tx, "device.replaced", device.as_str(), &detail)?;
            Ok(void)
        })
    }

    /// Whether this device may have that name: nobody else's, and no client's.
    ///
    /// # Errors
    /// [`RegistryError::NameTaken`].
    pub fn refuse_taken_name(&self, name: &DeviceName, by: &DeviceName) -> Result<(), RegistryError> {
        self.read(|tx| self.refuse_taken(tx, name, by))
    }

    fn refuse_taken(&self, tx: &Transaction<'_>, name: &DeviceName, by: &DeviceName) -> Result<(), Fault> {
        self.refuse_client_name(tx, name.as_str())?;
        match devices::find(tx, name)? {
            // The same name in other letters is the same name to the registry.
            Some(device) if device.name.as_str().eq_ignore_ascii_case(by.as_str()) => Ok(()),
            Some(device) if device.state.is_present() => {
                Err(RegistryError::NameTaken(Owner::Device(device.name)).into())
            }
            _ => Ok(()),
        }
    }

    fn rename_in(&self, tx: &Transaction<'_>, old: &DeviceName, new: &DeviceName) -> Result<(), Fault> {
        self.refuse_taken(tx, new, old)?;
        if !old.as_str().eq_ignore_ascii_case(new.as_str()) {
            // One that was removed lived under this name: its void certificates stay void, its place is free.
            tx.execute("DELETE FROM devices WHERE name = ?1", [new.as_str()])?;
        }
        for (table, column) in [
            ("devices", "name"),
            ("provisioning", "device"),
            ("passwords", "device"),
            ("changes", "device"),
            ("server_key_slots", "device"),
            ("access_allowed", "owner"),
            ("access_learning", "owner"),
            ("access_observed", "owner"),
        ] {
            let sql = format!("UPDATE OR REPLACE {table} SET {column} = ?2 WHERE {column} = ?1");
            tx.execute(&sql, params![old.as_str(), new.as_str()])?;
        }
        for table in ["certificates", "anchors"] {
            let sql = format!(
                "UPDATE OR REPLACE {table} SET owner = ?2 WHERE owner = ?1 AND owner_kind = 'device'"
            );
            tx.execute(&sql, params![old.as_str(), new.as_str()])?;
        }
        let detail = json!({ "from": old.as_str(), "to": new.as_str() });
        self.append(tx, "device.name", old.as_str(), &detail)?;
        self.append(tx, "device.name", new.as_str(), &detail)
    }
}

fn find(tx: &Transaction<'_>, device: &DeviceName) -> Result<Option<Change>, Fault> {
    let mut statement = tx.prepare_cached(&format!("SELECT {COLUMNS} FROM changes WHERE device = ?1"))?;
    let mut rows = statement.query([device.as_str()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (stage, new_name, topics): (String, Option<String>, Option<String>) =
        (row.get(2)?, row.get(1)?, row.get(5)?);
    Ok(Some(Change {
        device: parse(&row.get::<_, String>(0)?)?,
        new_name: new_name.map(|name| parse(&name)).transpose()?,
        stage: Stage::from_word(&stage).ok_or_else(|| bad(device, "stage"))?,
        old_serial: row.get(3)?,
        new_serial: row.get(4)?,
        old_topics: topics
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|_| bad(device, "topics"))?,
        began: from_seconds("changes", row.get(6)?)?,
    }))
}

fn require(tx: &Transaction<'_>, device: &DeviceName) -> Result<Change, Fault> {
    find(tx, device)?.ok_or_else(|| bad(device, "no change is under way").into())
}

fn parse(name: &str) -> Result<DeviceName, RegistryError> {
    DeviceName::parse(name)
        .map_err(|error| RegistryError::Row { table: "changes", detail: format!("{name:?}: {error}") })
}

fn bad(device: &DeviceName, what: &str) -> RegistryError {
    RegistryError::Row { table: "changes", detail: format!("{device}: {what}") }
}
