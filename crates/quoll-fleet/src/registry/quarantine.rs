//! Devices that are kept out for a while: their certificates stay valid, the broker lets nobody in with them.

use rusqlite::params;
use serde_json::json;
use time::OffsetDateTime;

use super::{Registry, RegistryError, devices, seconds};
use crate::device::{Device, DeviceName};
use crate::limits::PROBLEM_MAX;

impl Registry {
    /// Keeps a device out until [`Self::release`]. A second time changes nothing: the first reason and time stand.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`], also for one that is removed.
    pub fn quarantine(&self, name: &DeviceName, reason: &str) -> Result<Device, RegistryError> {
        let reason: String = reason.chars().take(PROBLEM_MAX).collect();
        self.write(|tx| {
            let device = devices::require_present(tx, name)?;
            if device.quarantine.is_none() {
                let now = seconds(OffsetDateTime::now_utc());
                let sql = "UPDATE devices SET quarantined = ?2, quarantine_reason = ?3 WHERE name = ?1";
                tx.execute(sql, params![name.as_str(), now, reason])?;
                self.append(tx, "device.quarantined", name.as_str(), &json!({ "reason": reason }))?;
            }
            devices::require(tx, name)
        })
    }

    /// Lets a device in again. One that is not kept out stays as it is.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`], also for one that is removed.
    pub fn release(&self, name: &DeviceName) -> Result<Device, RegistryError> {
        self.write(|tx| {
            let device = devices::require_present(tx, name)?;
            if device.quarantine.is_some() {
                let sql = "UPDATE devices SET quarantined = NULL, quarantine_reason = NULL WHERE name = ?1";
                tx.execute(sql, [name.as_str()])?;
                self.append(tx, "device.released", name.as_str(), &json!({}))?;
            }
            devices::require(tx, name)
        })
    }
}
