//! Passwords of pinned devices: made here, kept as a salted hash, each with an id of its own, by which a broker says
//! which of them it saw.
//!
//! A device gets a new password while the old one still opens the door: which of the two it has is only known when the
//! broker has seen one. Then the others are void. The password itself is nowhere but on the device.

use std::fmt;

use aws_lc_rs::{constant_time, digest, rand};
use rusqlite::{Row, Transaction, params};
use serde_json::json;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{Fault, Registry, RegistryError, devices, seconds};
use crate::device::{DeviceName, words};
use crate::limits::PASSWORDS_OPEN;

/// Random bytes of a password, written as twice as many hex digits: 160 bits that nobody guesses, so one round of
/// SHA-256 keeps them as well as a thousand would, and 20,000 devices can come back within a minute of a power cut.
const SECRET_BYTES: usize = 20;
const SALT_BYTES: usize = 16;

/// Where a password stands.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum PasswordState {
    /// Made for a device; it may have it or not.
    Pending,
    /// The broker saw the device with it.
    Current,
    /// Opens nothing any more.
    Void,
}

words!(PasswordState { Pending = "pending", Current = "current", Void = "void" });

/// A device's password, as far as we know it: enough to recognise it.
#[derive(Clone, Eq, PartialEq)]
pub struct DevicePassword {
    /// What a broker names it by: `pw-` and 16 hex digits.
    pub id: String,
    /// Whose it is.
    pub device: DeviceName,
    /// The MQTT user name that goes with it; the device's name when it was made.
    pub login: String,
    /// Where it stands.
    pub state: PasswordState,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

/// A password on its way to its device.
pub struct NewPassword {
    /// Its id.
    pub id: String,
    /// The MQTT user name that goes with it.
    pub login: String,
    /// The password.
    pub secret: Zeroizing<String>,
}

impl fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewPassword({}, ****)", self.id)
    }
}

impl fmt::Debug for DevicePassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DevicePassword({}, {}, {})", self.id, self.device, self.state)
    }
}

impl DevicePassword {
    /// Whether this is the password. Takes as long for a wrong one.
    #[must_use]
    pub fn is(&self, password: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&hash(&self.salt, password), &self.hash).is_ok()
    }

    /// Whether it opens the door, as far as the password goes.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state != PasswordState::Void
    }
}

fn hash(salt: &[u8], password: &[u8]) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(salt);
    context.update(password);
    context.finish().as_ref().to_vec()
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, RegistryError> {
    let mut bytes = Zeroizing::new([0; N]);
    rand::fill(&mut *bytes).map_err(|_| RegistryError::Row {
        table: "passwords",
        detail: "the system gives no random numbers".into(),
    })?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

impl Registry {
    /// Makes a password for a device: pending, beside those it has. The oldest pending ones beyond
    /// [`PASSWORDS_OPEN`] are void.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`]; nothing was made then.
    pub fn propose_password(&self, device: &DeviceName) -> Result<NewPassword, RegistryError> {
        let (secret, salt, id) =
            (random::<SECRET_BYTES>()?, random::<SALT_BYTES>()?, random::<8>().map(|id| hex(&*id))?);
        let secret = Zeroizing::new(hex(&*secret).to_ascii_lowercase());
        let id = format!("pw-{id}");
        let login = self.write(|tx| {
            let login = devices::require_admitted(tx, device)?.name.as_str().to_owned();
            tx.execute(
                "INSERT INTO passwords (id, device, login, salt, hash, state, created) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    id,
                    device.as_str(),
                    login,
                    salt.as_slice(),
                    hash(salt.as_slice(), secret.as_bytes()),
                    PasswordState::Pending.as_str(),
                    seconds(OffsetDateTime::now_utc()),
                ],
            )?;
            let sql = "UPDATE passwords SET state = 'void' WHERE device = ?1 AND state = 'pending' AND rowid NOT IN \
                       (SELECT rowid FROM passwords WHERE device = ?1 AND state = 'pending' ORDER BY rowid DESC LIMIT ?2)";
            tx.execute(sql, params![device.as_str(), PASSWORDS_OPEN])?;
            self.append(tx, "device.password", device.as_str(), &json!({ "id": id }))?;
            Ok(login)
        })?;
        Ok(NewPassword { id, login, secret })
    }

    /// The broker saw the device with this password: it is the one, all others are void.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn settle_password(&self, device: &DeviceName, id: &str) -> Result<(), RegistryError> {
        self.write(|tx| {
            let sql = "UPDATE passwords SET state = CASE WHEN id = ?2 THEN 'current' ELSE 'void' END \
                       WHERE device = ?1 AND state <> 'void'";
            let changed = tx.execute(sql, params![device.as_str(), id])?;
            // With a password both fingerprint slots were written: what a change of the server's key had put there is gone.
            if changed > 0 {
                super::server_key::forget(tx, device)?;
            }
            Ok(())
        })
    }

    /// Those of its passwords that were never seen at the door are void: the device has its old settings back.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn drop_pending_passwords(&self, device: &DeviceName) -> Result<(), RegistryError> {
        self.write(|tx| {
            let sql = "UPDATE passwords SET state = 'void' WHERE device = ?1 AND state = 'pending'";
            tx.execute(sql, [device.as_str()])?;
            Ok(())
        })
    }

    /// All of a device's passwords are void: it has a certificate now, or is out.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn void_passwords(&self, device: &DeviceName) -> Result<(), RegistryError> {
        self.write(|tx| void_all(tx, device))
    }

    /// A device's passwords that are not void, the newest first.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn passwords_of(&self, device: &DeviceName) -> Result<Vec<DevicePassword>, RegistryError> {
        let of = device.as_str().to_ascii_lowercase();
        let mut all = self.passwords()?;
        all.retain(|one| one.is_open() && one.device.as_str().eq_ignore_ascii_case(&of));
        all.reverse();
        Ok(all)
    }

    /// Every password that was ever made, oldest first, void ones too: what the door goes by.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn passwords(&self) -> Result<Vec<DevicePassword>, RegistryError> {
        self.read(read_all)
    }
}

pub(super) fn void_all(tx: &Transaction<'_>, device: &DeviceName) -> Result<(), Fault> {
    tx.execute("UPDATE passwords SET state = 'void' WHERE device = ?1", [device.as_str()])?;
    Ok(())
}

fn read_all(tx: &Transaction<'_>) -> Result<Vec<DevicePassword>, Fault> {
    let mut statement =
        tx.prepare_cached("SELECT id, device, login, salt, hash, state FROM passwords ORDER BY rowid")?;
    let mut rows = statement.query([])?;
    let mut passwords = Vec::new();
    while let Some(row) = rows.next()? {
        passwords.push(read(row)?);
    }
    Ok(passwords)
}

fn read(row: &Row<'_>) -> Result<DevicePassword, Fault> {
    let id: String = row.get(0)?;
    let bad = |what: &str| RegistryError::Row { table: "passwords", detail: format!("{id}: {what}") };
    let (device, state): (String, String) = (row.get(1)?, row.get(5)?);
    Ok(DevicePassword {
        device: DeviceName::parse(&device).map_err(|_| bad("device"))?,
        login: row.get(2)?,
        salt: row.get(3)?,
        hash: row.get(4)?,
        state: PasswordState::from_word(&state).ok_or_else(|| bad("state"))?,
        id,
    })
}
