//! Serial number → owner: what the broker's door asks. The certificates themselves are in the pki folder.

use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::json;
use time::OffsetDateTime;

use super::{Fault, Owner, Registry, RegistryError, from_seconds, seconds};
use crate::client::ClientName;
use crate::device::DeviceName;

pub(super) const DEVICE: &str = "device";
pub(super) const CLIENT: &str = "client";

/// A certificate that we know whose it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    /// Serial number, upper-case hex.
    pub serial: String,
    /// Whose it is.
    pub owner: Owner,
    /// End of its validity.
    pub expires: OffsetDateTime,
    /// Whether it is void.
    pub revoked: bool,
    /// Why, in Easy-RSA's spelling, or `removed`.
    pub reason: Option<String>,
}

/// The reason of a certificate that gave way to another one and is void here alone: the folder could not be written. The
/// next act that looks after the device's certificates finishes that.
pub(crate) const NOT_IN_THE_FOLDER: &str = "superseded, not in the folder yet";

impl Registry {
    /// The certificate with this serial number (hex of either case), or `None` if it is not of ours.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn certificate(&self, serial: &str) -> Result<Option<Certificate>, RegistryError> {
        self.read(|tx| find(tx, serial))
    }

    /// Every certificate that was ever recorded, oldest first: what the door goes by. One that is void stays void, also
    /// after its owner was removed.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn certificates(&self) -> Result<Vec<Certificate>, RegistryError> {
        self.read(|tx| {
            let mut statement = tx.prepare("SELECT serial FROM certificates ORDER BY recorded, rowid")?;
            let serials: Vec<String> =
                statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            serials.iter().filter_map(|serial| find(tx, serial).transpose()).collect()
        })
    }

    /// Voids one certificate while its owner keeps the others: the door refuses it from then on. Whether it was not void
    /// before.
    ///
    /// # Errors
    /// Where the registry cannot be written.
    pub fn void_certificate(&self, serial: &str, reason: &str) -> Result<bool, RegistryError> {
        self.write(|tx| {
            let Some(known) = find(tx, serial)? else { return Ok(false) };
            let voided = void(tx, serial, reason)?;
            if voided {
                let detail =
                    json!({ "owner": known.owner.to_string(), "reason": reason, "serials": [known.serial] });
                self.append(tx, "certificate.revoked", known.owner.name(), &detail)?;
            }
            Ok(voided)
        })
    }

    /// All certificates recorded for an owner, oldest first.
    ///
    /// # Errors
    /// Where the registry cannot be read.
    pub fn certificates_of(&self, owner: &Owner) -> Result<Vec<Certificate>, RegistryError> {
        self.read(|tx| {
            let sql = "SELECT serial FROM certificates WHERE owner = ?1 AND owner_kind = ?2 ORDER BY recorded, rowid";
            let mut statement = tx.prepare(sql)?;
            let serials: Vec<String> = statement
                .query_map(params![owner.name(), kind(owner)], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            serials.iter().filter_map(|serial| find(tx, serial).transpose()).collect()
        })
    }
}

pub(super) fn find(tx: &Transaction<'_>, serial: &str) -> Result<Option<Certificate>, Fault> {
    let sql =
        "SELECT serial, owner_kind, owner, expires, revoked, reason FROM certificates WHERE serial = ?1";
    let mut statement = tx.prepare_cached(sql)?;
    let row = statement
        .query_row([serial], |row| {
            let kind: String = row.get(1)?;
            let owner: String = row.get(2)?;
            let revoked: Option<i64> = row.get(4)?;
            Ok((row.get::<_, String>(0)?, kind, owner, row.get::<_, i64>(3)?, revoked, row.get(5)?))
        })
        .optional()?;
    let Some((serial, kind, name, expires, revoked, reason)) = row else { return Ok(None) };
    let bad = || RegistryError::Row { table: "certificates", detail: format!("{serial}: {kind} {name:?}") };
    let owner = match kind.as_str() {
        DEVICE => Owner::Device(DeviceName::parse(&name).map_err(|_| bad())?),
        CLIENT => Owner::Client(ClientName::parse(&name).map_err(|_| bad())?),
        _ => return Err(bad().into()),
    };
    let expires = from_seconds("certificates", expires)?;
    Ok(Some(Certificate { serial, owner, expires, revoked: revoked.is_some(), reason }))
}

/// Records a certificate; false if it was recorded already.
pub(super) fn record(
    tx: &Transaction<'_>,
    serial: &str,
    owner: &Owner,
    expires: OffsetDateTime,
) -> Result<bool, Fault> {
    if let Some(known) = find(tx, serial)? {
        if &known.owner != owner {
            return Err(RegistryError::SerialTaken { serial: known.serial, owner: known.owner }.into());
        }
        return Ok(false);
    }
    let now = seconds(OffsetDateTime::now_utc());
    tx.execute(
        "INSERT INTO certificates (serial, owner_kind, owner, expires, recorded) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![serial.to_ascii_uppercase(), kind(owner), owner.name(), seconds(expires), now],
    )?;
    Ok(true)
}

/// Voids one certificate, if it is not void yet; whether it did.
/// Voids a certificate, or notes that the folder says so by now, too; whether that is news.
pub(super) fn void(tx: &Transaction<'_>, serial: &str, reason: &str) -> Result<bool, Fault> {
    let now = seconds(OffsetDateTime::now_utc());
    let sql = "UPDATE certificates SET revoked = coalesce(revoked, ?2), reason = ?3 WHERE serial = ?1 \
               AND (revoked IS NULL OR reason = ?4 AND reason <> ?3)";
    Ok(tx.execute(sql, params![serial, now, reason, NOT_IN_THE_FOLDER])? > 0)
}

/// Voids all live certificates of a name; their serial numbers.
pub(super) fn void_all(tx: &Transaction<'_>, name: &str, reason: &str) -> Result<Vec<String>, Fault> {
    let mut statement = tx.prepare(
        "UPDATE certificates SET revoked = ?2, reason = ?3 WHERE owner = ?1 AND revoked IS NULL RETURNING serial",
    )?;
    let now = seconds(OffsetDateTime::now_utc());
    let serials = statement.query_map(params![name, now, reason], |row| row.get(0))?;
    Ok(serials.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn kind(owner: &Owner) -> &'static str {
    match owner {
        Owner::Device(_) => DEVICE,
        Owner::Client(_) => CLIENT,
    }
}
