//! Accounts of people and programs.

use rusqlite::{Row, Transaction, params};
use serde_json::json;
use time::OffsetDateTime;

use super::{
    Fault, Owner, Registry, RegistryError, access, certificates, devices, from_seconds, maybe_seconds,
    passwords, seconds,
};
use crate::client::{Client, ClientName, Role};
use crate::device::DeviceName;

const COLUMNS: &str = "name, role, serial, expires, state, created, last_seen";
const ACTIVE: &str = "active";
const REVOKED: &str = "revoked";
const REMOVED: &str = "removed";

impl Registry {
    /// Adds a client; certificate and serial number follow with [`Self::assign_client_certificate`]. Adding the same
    /// name with the same role again, before it has a certificate, changes nothing. A removed name is used anew.
    ///
    /// # Errors
    /// [`RegistryError::NameTaken`] by a device or another client. A role's list must be checked by the caller
    /// ([`crate::access_list::Access::check`]).
    pub fn add_client(&self, name: &ClientName, role: &Role) -> Result<Client, RegistryError> {
        self.write(|tx| {
            self.refuse_device_name(tx, name.as_str())?;
            match find(tx, name)? {
                Some((old, _)) if old.role == *role && old.serial.is_none() && !old.revoked => {
                    return Ok(old);
                }
                Some((old, true)) => return Err(RegistryError::NameTaken(Owner::Client(old.name)).into()),
                _ => {}
            }
            tx.execute("DELETE FROM clients WHERE name = ?1", [name.as_str()])?;
            let now = seconds(OffsetDateTime::now_utc());
            let values = params![name.as_str(), devices::json_text(role)?, ACTIVE, now];
            tx.execute("INSERT INTO clients (name, role, state, created) VALUES (?1, ?2, ?3, ?4)", values)?;
            self.append(tx, "client.added", name.as_str(), &json!({ "role": role.as_str() }))?;
            require(tx, name)
        })
    }

    /// A client by name; `None` for removed ones.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn client(&self, name: &ClientName) -> Result<Option<Client>, RegistryError> {
        self.read(|tx| Ok(find(tx, name)?.and_then(|(client, present)| present.then_some(client))))
    }

    /// All clients by name, without the removed ones.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn clients(&self) -> Result<Vec<Client>, RegistryError> {
        self.read(|tx| {
            let mut statement =
                tx.prepare(&format!("SELECT {COLUMNS} FROM clients WHERE state <> 'removed' ORDER BY name"))?;
            let mut rows = statement.query([])?;
            let mut clients = Vec::new();
            while let Some(row) = rows.next()? {
                clients.push(read(row)?.0);
            }
            Ok(clients)
        })
    }

    /// Gives a client another role.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`].
    pub fn set_role(&self, name: &ClientName, role: &Role) -> Result<Client, RegistryError> {
        self.write(|tx| {
            require(tx, name)?;
            let role_text = devices::json_text(role)?;
            tx.execute("UPDATE clients SET role = ?2 WHERE name = ?1", params![name.as_str(), role_text])?;
            self.append(tx, "client.role", name.as_str(), &json!({ "role": role.as_str() }))?;
            require(tx, name)
        })
    }

    /// Notes a client's certificate.
    ///
    /// # Errors
    /// [`RegistryError::SerialTaken`] by somebody else, [`RegistryError::Unknown`].
    pub fn assign_client_certificate(
        &self,
        name: &ClientName,
        serial: &str,
        expires: OffsetDateTime,
    ) -> Result<(), RegistryError> {
        self.write(|tx| {
            require(tx, name)?;
            if certificates::record(tx, serial, &Owner::Client(name.clone()), expires)? {
                self.append(tx, "client.certificate", name.as_str(), &json!({ "serial": serial }))?;
            }
            let sql = "UPDATE clients SET serial = ?2, expires = ?3 WHERE name = ?1";
            tx.execute(sql, params![name.as_str(), serial.to_ascii_uppercase(), seconds(expires)])?;
            Ok(())
        })
    }

    /// Takes a client out of the registry and voids its certificates here. Its name may be used anew.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`].
    pub fn remove_client(&self, name: &ClientName) -> Result<(), RegistryError> {
        self.write(|tx| {
            require(tx, name)?;
            certificates::void_all(tx, name.as_str(), REMOVED)?;
            access::forget_all(tx, name.as_str())?;
            let sql = "UPDATE clients SET state = ?2, serial = NULL, expires = NULL WHERE name = ?1";
            tx.execute(sql, params![name.as_str(), REMOVED])?;
            self.append(tx, "client.removed", name.as_str(), &json!({}))
        })
    }

    /// Shuts the door for an owner, whatever else follows: state Revoked, all its certificates void. Doing it twice
    /// changes nothing. Returns the serial numbers that are void now, oldest first.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`], and [`RegistryError::Transition`] for a removed device.
    pub fn shut_out(&self, owner: &Owner, reason: &str) -> Result<Vec<String>, RegistryError> {
        self.write(|tx| {
            match owner {
                Owner::Device(name) => {
                    self.advance_in(tx, name, crate::device::DeviceState::Revoked)?;
                    passwords::void_all(tx, name)?;
                }
                Owner::Client(name) => {
                    require(tx, name)?;
                    let sql = "UPDATE clients SET state = ?2 WHERE name = ?1";
                    tx.execute(sql, params![name.as_str(), REVOKED])?;
                }
            }
            let voided = certificates::void_all(tx, owner.name(), reason)?;
            if !voided.is_empty() {
                let detail = json!({ "owner": owner.to_string(), "reason": reason, "serials": voided });
                self.append(tx, "certificate.revoked", owner.name(), &detail)?;
            }
            Ok(())
        })?;
        let all = self.certificates_of(owner)?;
        Ok(all.into_iter().filter(|one| one.revoked).map(|one| one.serial).collect())
    }

    pub(super) fn refuse_client_name(&self, tx: &Transaction<'_>, name: &str) -> Result<(), Fault> {
        match ClientName::parse(name).ok().map(|name| find(tx, &name)).transpose()?.flatten() {
            Some((client, true)) => Err(RegistryError::NameTaken(Owner::Client(client.name)).into()),
            _ => Ok(()),
        }
    }

    fn refuse_device_name(&self, tx: &Transaction<'_>, name: &str) -> Result<(), Fault> {
        match DeviceName::parse(name).ok().map(|name| devices::find(tx, &name)).transpose()?.flatten() {
            Some(device) if device.state.is_present() => {
                Err(RegistryError::NameTaken(Owner::Device(device.name)).into())
            }
            _ => Ok(()),
        }
    }
}

/// The client and whether it is still there.
fn find(tx: &Transaction<'_>, name: &ClientName) -> Result<Option<(Client, bool)>, Fault> {
    let mut statement = tx.prepare_cached(&format!("SELECT {COLUMNS} FROM clients WHERE name = ?1"))?;
    let mut rows = statement.query([name.as_str()])?;
    rows.next()?.map(read).transpose()
}

fn require(tx: &Transaction<'_>, name: &ClientName) -> Result<Client, Fault> {
    match find(tx, name)? {
        Some((client, true)) => Ok(client),
        _ => Err(RegistryError::Unknown(Owner::Client(name.clone())).into()),
    }
}

fn read(row: &Row<'_>) -> Result<(Client, bool), Fault> {
    let name: String = row.get(0)?;
    let bad = |what: &str| RegistryError::Row { table: "clients", detail: format!("{name}: {what}") };
    let state: String = row.get(4)?;
    let client = Client {
        name: ClientName::parse(&name).map_err(|_| bad("name"))?,
        role: serde_json::from_str(&row.get::<_, String>(1)?).map_err(|_| bad("role"))?,
        serial: row.get(2)?,
        expires: maybe_seconds("clients", row.get(3)?)?,
        revoked: state == REVOKED,
        created: from_seconds("clients", row.get(5)?)?,
        last_seen: maybe_seconds("clients", row.get(6)?)?,
    };
    Ok((client, state != REMOVED))
}
