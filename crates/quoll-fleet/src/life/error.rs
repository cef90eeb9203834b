//! Why a change of a living device stopped, and where that leaves it.

use crate::device::{Device, DeviceName, DeviceState, Rung};
use crate::enrol::{Cause, EnrolError};
use crate::issuer::IssueError;
use crate::registry::{Owner, RegistryError};

/// What is said of a certificate that is void at our door alone.
pub(super) const NOT_RETIRED: &str = "could not be revoked in the pki folder";

/// Why a change stopped. Unless a variant says otherwise the device works as before, and the same command goes on where
/// this one stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LifeError {
    /// What keeps an enrolment from going on, too.
    #[error(transparent)]
    Device(#[from] EnrolError),
    /// No certificate.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The registry cannot be read or written.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// It is not in the list, or out of it.
    #[error("there is no {0}")]
    Unknown(Owner),
    /// It is kept out, so nothing could be proven.
    #[error("{name} is in quarantine")]
    Quarantined {
        /// The device.
        name: DeviceName,
    },
    /// It was never proven, or is revoked.
    #[error("{name} is {state}, not proven")]
    NotProvenBefore {
        /// The device.
        name: DeviceName,
        /// Where it is.
        state: DeviceState,
    },
    /// It has no certificate: another rung.
    #[error("{name} is on the {rung} rung, and has no certificate to change")]
    OtherRung {
        /// The device.
        name: DeviceName,
        /// Its rung.
        rung: Rung,
    },
    /// It is set to another broker, or another way of checking it.
    #[error("{name} does not use this broker: it is set to {found}")]
    Elsewhere {
        /// The device.
        name: DeviceName,
        /// Host and port.
        found: String,
    },
    /// It is to be given the name that it has.
    #[error("{name} is its name already")]
    SameName {
        /// The device.
        name: DeviceName,
    },
    /// Another change of it is under way.
    #[error("{name} is being given the name {to}")]
    OtherChange {
        /// The device.
        name: DeviceName,
        /// The name that it is to have.
        to: DeviceName,
    },
    /// The new certificate did not come to the broker.
    #[error("{name} did not come with its new certificate: {cause}; {stands}")]
    NotProven {
        /// The device.
        name: DeviceName,
        /// Why, as far as it is known.
        cause: Cause,
        /// Where it stands now.
        stands: After,
    },
    /// Done, but for the old certificate, which the pki folder still has valid. The broker refuses it.
    #[error("{name} has its new certificate; the old one, {serial}, {NOT_RETIRED}: {why}")]
    NotRetired {
        /// The device.
        name: DeviceName,
        /// The old certificate.
        serial: String,
        /// What the folder says.
        why: String,
    },
}

/// Where a device stands after a change that was not proven.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum After {
    /// It has its old key and certificate, and the broker saw it with them.
    Back,
    /// It has its old key and certificate, as far as can be told; the broker did not see it yet.
    BackUnseen,
    /// It has the new ones: the old key is not at hand any more, or did not go back. Both certificates are valid.
    Ahead {
        /// Why.
        why: String,
    },
}

impl std::fmt::Display for After {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Back => f.write_str("it is back with its old one"),
            Self::BackUnseen => f.write_str("it has its old one back, and was not seen with it yet"),
            Self::Ahead { why } => write!(f, "it still has the new one ({why}); both are valid"),
        }
    }
}

impl LifeError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Device(error) => return error.hint(),
            Self::Issue(error) => return error.hint(),
            Self::Registry(error) => return error.hint(),
            Self::Unknown(_) => "see the names: quoll device list".into(),
            Self::Quarantined { name } => format!("first: quoll device release {name}"),
            Self::NotProvenBefore { name, .. } => format!("finish it first: quoll device repair {name}"),
            Self::OtherRung { name, .. } => {
                format!("with firmware that has TLSKey: quoll device add {name} --at ADDRESS --rung mutual")
            }
            Self::Elsewhere { name, .. } => format!("bring it back first: quoll device repair {name}"),
            Self::SameName { name } => format!("for a new key and certificate: quoll device rotate {name}"),
            Self::OtherChange { name, to } => format!("finish that first: quoll device rename {name} {to}"),
            Self::NotProven { cause, stands, .. } => {
                let fix = match cause {
                    Cause::Tls { fix, .. } => Some((*fix).to_owned()),
                    Cause::NoBroker(error) | Cause::Unknown(error) => error.hint(),
                    _ => None,
                };
                let again = match stands {
                    After::Back | After::BackUnseen => "then run the same command again: it makes a new one",
                    After::Ahead { .. } => {
                        "once its console answers, run the same command again: it goes on where it stopped"
                    }
                };
                fix.map_or_else(|| again.to_owned(), |fix| format!("{fix}; {again}"))
            }
            Self::NotRetired { .. } => "mend the folder, then run the same command again".into(),
        })
    }
}

/// The device, if it may be changed.
pub(super) fn living(known: Option<Device>, name: &DeviceName) -> Result<Device, LifeError> {
    let device = known
        .filter(|device| device.state.is_present())
        .ok_or_else(|| LifeError::Unknown(Owner::Device(name.clone())))?;
    if device.state == DeviceState::Revoked {
        return Err(LifeError::NotProvenBefore { name: device.name, state: device.state });
    }
    if device.quarantine.is_some() {
        return Err(LifeError::Quarantined { name: device.name });
    }
    Ok(device)
}
