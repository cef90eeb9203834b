//! How a device of ours stands, asked and not changed: after an update over the air its key store may be empty, and it
//! would never come back by itself; and one that was set up by hand is proven by its coming.

use std::time::Duration;

use quoll_tasmota::Stored;

use super::error::{LifeError, living};
use crate::device::{Device, DeviceName, DeviceState, Mac, Rung};
use crate::enrol::{BrokerTarget, DeviceConsole, EnrolError, Patience, Probe, TlsAbility, lock, probe};
use crate::registry::Registry;
use crate::witness::Witness;

/// What a check found. The first that is wrong, in the order in which it matters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Finding {
    /// All is as it should be.
    Well,
    /// Another device answers at its address.
    OtherDevice {
        /// The MAC that answers.
        found: Mac,
    },
    /// Its key store is empty, or half so: an update, or a changed flash layout.
    KeysLost {
        /// What it reports.
        stored: Stored,
    },
    /// It holds another certificate than its own, by its length.
    OtherKeys {
        /// What it reports.
        stored: Stored,
        /// What it should report.
        expected: Stored,
    },
    /// Its firmware can no longer do what its rung needs: TLSKey is gone.
    FirmwareLost {
        /// Its version.
        firmware: String,
    },
    /// It is set to another broker, or checks it in another way.
    Elsewhere {
        /// Host and port that it is set to.
        found: String,
    },
}

impl Finding {
    /// A word for scripts.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::OtherDevice { .. } => "other-device",
            Self::KeysLost { .. } => "keys-lost",
            Self::OtherKeys { .. } => "other-keys",
            Self::FirmwareLost { .. } => "firmware-lost",
            Self::Elsewhere { .. } => "elsewhere",
        }
    }

    /// What is wrong, for a person; `None` where nothing is.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        Some(match self {
            Self::Well => return None,
            Self::OtherDevice { found } => format!("another device answers at its address: {found}"),
            Self::KeysLost { stored } => format!("its key store is not whole: {stored}"),
            Self::OtherKeys { stored, expected } => {
                format!("it stores {stored}, its own would be {expected}")
            }
            Self::FirmwareLost { firmware } => {
                format!("firmware {firmware} has no TLSKey: its certificate cannot be used")
            }
            Self::Elsewhere { found } => format!("it is set to {found}, or checks the broker in another way"),
        })
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self, device: &Device) -> Option<String> {
        let name = &device.name;
        Some(match self {
            Self::Well => return None,
            Self::OtherDevice { .. } => {
                format!(
                    "find its new address: quoll device find; then: quoll device repair {name} --at ADDRESS"
                )
            }
            Self::FirmwareLost { .. } => "install the image with your CA again: quoll firmware".into(),
            _ => format!("quoll device repair {name}"),
        })
    }
}

/// Asks the device. `expected` is what `TLSKey` should report, where the certificate is at hand; `logins` its user names
/// on the pinned rung.
///
/// # Errors
/// Where it cannot be asked.
pub async fn check(
    console: &dyn DeviceConsole,
    patience: Patience,
    device: &Device,
    broker: &BrokerTarget,
    expected: Option<Stored>,
    logins: &[&str],
) -> Result<(Probe, Finding), EnrolError> {
    let found = probe(console, patience).await?;
    let rung = rung_in_question(device, &found, !logins.is_empty());
    let device = Device { rung, ..device.clone() };
    let finding = judge(&found, &device, broker, expected, logins);
    Ok((found, finding))
}

/// The rung that a device is to be judged by: its own; or the one that it was made ready for and is not proven on yet, by
/// lines that somebody typed in.
#[must_use]
pub fn rung_in_question(device: &Device, found: &Probe, has_password: bool) -> Rung {
    let under_way =
        matches!(device.state, DeviceState::Known | DeviceState::KeyPushed | DeviceState::Switched);
    match (device.rung, device.serial.is_some()) {
        (Rung::Plain, has_serial) if under_way => {
            if has_password && (!has_serial || found.settings.fingerprint_mode) {
                Rung::Pinned
            } else if has_serial {
                Rung::Mutual
            } else {
                Rung::Plain
            }
        }
        (rung, _) => rung,
    }
}

/// Proves a device that [`check`] found as it should be on `rung`, and that is not proven yet: the broker sees it with its
/// certificate or one of its passwords. `None` where it does not.
///
/// # Errors
/// A registry that cannot be written, and an enrolment that is under way.
pub async fn prove(
    registry: &Registry,
    witness: &dyn Witness,
    name: &DeviceName,
    rung: Rung,
    within: Duration,
) -> Result<Option<Device>, LifeError> {
    let _lock = lock(registry, name)?;
    let device = living(registry.device(name)?, name)?;
    let ids: Vec<String> = match rung {
        Rung::Mutual => device.serial.iter().cloned().collect(),
        Rung::Pinned => registry.passwords_of(name)?.into_iter().map(|one| one.id).collect(),
        Rung::Plain => Vec::new(),
    };
    let each = within / u32::try_from(ids.len().max(1)).unwrap_or(u32::MAX);
    for id in ids {
        if witness.wait_for(&id, each).await.is_err() {
            continue;
        }
        if rung == Rung::Mutual && device.state == DeviceState::Known {
            registry.advance(name, DeviceState::KeyPushed, None)?;
        }
        registry.advance(name, DeviceState::Switched, None)?;
        if rung == Rung::Pinned {
            registry.settle_password(name, &id)?;
        }
        return Ok(Some(registry.advance(name, DeviceState::Proven, Some(rung))?));
    }
    Ok(None)
}

fn judge(
    found: &Probe,
    device: &Device,
    broker: &BrokerTarget,
    expected: Option<Stored>,
    logins: &[&str],
) -> Finding {
    if found.network.mac != device.mac {
        return Finding::OtherDevice { found: found.network.mac };
    }
    let elsewhere =
        || Finding::Elsewhere { found: format!("{}:{}", found.settings.host, found.settings.port) };
    match device.rung {
        Rung::Mutual => match found.tls {
            TlsAbility::None | TlsAbility::Server => {
                Finding::FirmwareLost { firmware: found.firmware.version.clone() }
            }
            TlsAbility::Client(stored) if stored.key.is_none() || stored.certificate.is_none() => {
                Finding::KeysLost { stored }
            }
            TlsAbility::Client(stored) => match expected.filter(|expected| *expected != stored) {
                Some(expected) => Finding::OtherKeys { stored, expected },
                None if !found.is_at(broker) => elsewhere(),
                None => Finding::Well,
            },
        },
        Rung::Pinned if !found.is_pinned_to(broker, logins) => elsewhere(),
        Rung::Pinned | Rung::Plain => Finding::Well,
    }
}
