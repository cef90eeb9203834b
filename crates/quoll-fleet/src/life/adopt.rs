//! A certificate of our CA that is in no registry gets an owner: a device that somebody else set up, or a client.

use time::OffsetDateTime;

use crate::access_list::{self, AccessError};
use crate::client::{Client, ClientName, Role};
use crate::device::{Device, DeviceName, DeviceState};
use crate::registry::{NewDevice, Owner, Registry, RegistryError};

/// The certificate that gets an owner. The caller has looked at it: it is valid, and for a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Adoption {
    /// Serial number, hex of either case.
    pub serial: String,
    /// End of its validity.
    pub expires: OffsetDateTime,
}

/// Why a certificate gets no owner. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// It has one.
    #[error("certificate {serial} belongs to {owner} already")]
    Listed {
        /// The certificate.
        serial: String,
        /// Whose it is.
        owner: Owner,
        /// Whether it is void.
        void: bool,
    },
    /// The name is another device's, one that is there and has a certificate, or a client's.
    #[error("the name is in use by {0}")]
    NameInUse(Owner),
    /// Its topics give no safe permissions.
    #[error("the topics of {name} cannot be used: {why}")]
    Topics {
        /// The device.
        name: DeviceName,
        /// What is wrong.
        why: AccessError,
    },
    /// Its topics overlap with another device's, so that one could speak for the other.
    #[error("{name} uses topic {topic:?}, which overlaps with those of {other}")]
    SharedTopics {
        /// The device.
        name: DeviceName,
        /// Its topic.
        topic: String,
        /// The other device.
        other: DeviceName,
    },
    /// The registry cannot be read or written.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl AdoptError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Listed { void: true, owner: Owner::Device(name), .. } => {
                format!(
                    "it is void and stays so; give the device a new one: quoll device add {name} --at ADDRESS --replace-key"
                )
            }
            Self::Listed { .. } => "there is nothing to do".into(),
            Self::NameInUse(_) => "give it another name with --as".into(),
            Self::Topics { why, .. } => return why.hint(),
            Self::SharedTopics { .. } => {
                "give it a topic of its own (on the device: Topic …), or say --share-topics".into()
            }
            Self::Registry(error) => return error.hint(),
        })
    }
}

/// Makes the certificate the device's. It is Switched then: Proven when the broker has let it in with it. Doing it twice
/// changes nothing.
///
/// # Errors
/// See [`AdoptError`].
pub fn adopt_device(
    registry: &Registry,
    new: &NewDevice,
    adoption: &Adoption,
    share_topics: bool,
) -> Result<Device, AdoptError> {
    let owner = Owner::Device(new.name.clone());
    let again = unowned(registry, &adoption.serial, &owner)?;
    if let Some(known) = registry.device(&new.name)?.filter(|device| device.state.is_present()) {
        let other_certificate =
            known.serial.as_deref().is_some_and(|serial| !serial.eq_ignore_ascii_case(&adoption.serial));
        if known.mac != new.mac || other_certificate || known.state == DeviceState::Revoked {
            return Err(AdoptError::NameInUse(owner));
        }
        if again && matches!(known.state, DeviceState::Switched | DeviceState::Proven) {
            return Ok(known);
        }
    }
    new.topics.check().map_err(|why| AdoptError::Topics { name: new.name.clone(), why })?;
    if !share_topics && let Some(other) = access_list::sharing(registry.devices()?, new.mac, &new.topics) {
        let topic = new.topics.topic.clone();
        return Err(AdoptError::SharedTopics { name: new.name.clone(), topic, other: other.name });
    }
    registry.register(new)?;
    registry.assign_certificate(&new.name, &adoption.serial, adoption.expires)?;
    registry.forget_unlisted(&adoption.serial)?;
    registry.advance(&new.name, DeviceState::KeyPushed, None)?;
    Ok(registry.advance(&new.name, DeviceState::Switched, None)?)
}

/// Makes the certificate a client's. Doing it twice changes nothing.
///
/// # Errors
/// See [`AdoptError`].
pub fn adopt_client(
    registry: &Registry,
    name: &ClientName,
    role: &Role,
    adoption: &Adoption,
) -> Result<Client, AdoptError> {
    unowned(registry, &adoption.serial, &Owner::Client(name.clone()))?;
    let client = match registry.client(name)? {
        Some(known)
            if known.serial.as_deref().is_none_or(|serial| serial.eq_ignore_ascii_case(&adoption.serial)) =>
        {
            known
        }
        Some(known) => return Err(AdoptError::NameInUse(Owner::Client(known.name))),
        None => registry.add_client(name, role)?,
    };
    registry.assign_client_certificate(&client.name, &adoption.serial, adoption.expires)?;
    registry.forget_unlisted(&adoption.serial)?;
    Ok(registry.client(name)?.unwrap_or(client))
}

/// Whether the certificate is this owner's already; an error if it is somebody else's, or void.
fn unowned(registry: &Registry, serial: &str, owner: &Owner) -> Result<bool, AdoptError> {
    match registry.certificate(serial)? {
        None => Ok(false),
        Some(known) if known.owner == *owner && !known.revoked => Ok(true),
        Some(known) => {
            Err(AdoptError::Listed { serial: known.serial, owner: known.owner, void: known.revoked })
        }
    }
}
