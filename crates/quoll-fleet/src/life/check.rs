//! How a device of ours stands, asked and not changed: after an update over the air its key store may be empty, and it
//! would never come back by itself.

use quoll_tasmota::Stored;

use crate::device::{Device, Mac, Rung};
use crate::enrol::{BrokerTarget, DeviceConsole, EnrolError, Patience, Probe, TlsAbility, probe};

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
    let finding = judge(&found, device, broker, expected, logins);
    Ok((found, finding))
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
