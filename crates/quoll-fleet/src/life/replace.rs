//! New hardware under the name of a device that died: its certificates are void, its name, topics and history go on.
//!
//! What it is not: the enrolment of the new hardware, which follows ([`crate::enrol`]) and can be run again at any time.

use quoll_tasmota::{Command, Setting};
use tokio::time::{Instant, sleep};

use super::error::LifeError;
use crate::device::{Address, Device, DeviceName, Topics};
use crate::enrol::{Asker, DeviceConsole, EnrolError, Patience, TlsAbility};
use crate::issuer::{IssueError, Reissuer};
use crate::registry::{NOT_IN_THE_FOLDER, Owner, Registry};
use crate::step::Step;

/// Why a certificate that gave way to another one is void.
const SUPERSEDED: &str = "superseded";

/// What a replacement did before the enrolment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Replaced {
    /// The device, with its new hardware.
    pub device: Device,
    /// Certificates that are void now.
    pub void: Vec<String>,
    /// Whether the hardware had been replaced by an earlier run.
    pub already: bool,
}

/// Puts the hardware at `address` in the place of a device. The new one is asked first: nothing is done to the old one's
/// certificates before the new one answered and is nobody else. Doing it twice goes on where the first run stopped.
///
/// # Errors
/// See [`LifeError`]. [`LifeError::NotRetired`] where the old certificates are void at our door and the folder does not
/// say so yet.
pub async fn replace(
    registry: &Registry,
    issuer: &dyn Reissuer,
    name: &DeviceName,
    address: &Address,
    console: &dyn DeviceConsole,
    patience: Patience,
) -> Result<Replaced, LifeError> {
    let unknown = || LifeError::Unknown(Owner::Device(name.clone()));
    let known = registry.device(name)?.filter(|device| device.state.is_present()).ok_or_else(unknown)?;
    let asker = Asker::new(console, patience);
    let found = asker.probe().await?;
    if let TlsAbility::None = found.tls {
        let firmware = found.firmware.version.clone();
        return Err(EnrolError::NoTls { address: asker.address(), firmware }.into());
    }
    let already = known.mac == found.network.mac;
    let void = registry.replace_hardware(name, found.network.mac, address)?;
    for certificate in registry.certificates_of(&Owner::Device(name.clone()))? {
        let reason = certificate.reason.as_deref().filter(|_| certificate.revoked);
        if matches!(reason, Some(SUPERSEDED | NOT_IN_THE_FOLDER)) {
            retire(issuer, name, &certificate.serial).await?;
            registry.void_certificate(&certificate.serial, SUPERSEDED)?;
        }
    }
    let device = registry.device(name)?.ok_or_else(unknown)?;
    take_topics(&asker, &device.topics, found.topics).await?;
    Ok(Replaced { device, void, already })
}

/// Voids every certificate of a device but the one in use: in the folder, and at our door, there whatever becomes of the
/// folder. What the folder refused an earlier time is tried again.
///
/// # Errors
/// [`LifeError::NotRetired`], and a registry that cannot be written.
pub async fn retire_superseded(
    registry: &Registry,
    issuer: &dyn Reissuer,
    name: &DeviceName,
) -> Result<Vec<String>, LifeError> {
    let current = registry.device(name)?.and_then(|device| device.serial);
    let mut retired = Vec::new();
    for certificate in registry.certificates_of(&Owner::Device(name.clone()))? {
        let waits = certificate.reason.as_deref() == Some(NOT_IN_THE_FOLDER);
        if (certificate.revoked && !waits) || Some(&certificate.serial) == current.as_ref() {
            continue;
        }
        retire_one(registry, issuer, name, &certificate.serial).await?;
        retired.push(certificate.serial);
    }
    Ok(retired)
}

/// Voids in the folder what is void at our door alone. What the folder has valid would be given to the device again.
///
/// # Errors
/// As [`retire_superseded`].
pub(super) async fn retire_waiting(
    registry: &Registry,
    issuer: &dyn Reissuer,
    name: &DeviceName,
) -> Result<(), LifeError> {
    for certificate in registry.certificates_of(&Owner::Device(name.clone()))? {
        if certificate.reason.as_deref() == Some(NOT_IN_THE_FOLDER) {
            retire_one(registry, issuer, name, &certificate.serial).await?;
        }
    }
    Ok(())
}

/// One certificate: the folder first, since what is void here for good is not looked at again; then at our door.
///
/// # Errors
/// As [`retire_superseded`].
pub(super) async fn retire_one(
    registry: &Registry,
    issuer: &dyn Reissuer,
    name: &DeviceName,
    serial: &str,
) -> Result<(), LifeError> {
    let done = retire(issuer, name, serial).await;
    registry.void_certificate(serial, if done.is_ok() { SUPERSEDED } else { NOT_IN_THE_FOLDER })?;
    done
}

async fn retire(issuer: &dyn Reissuer, name: &DeviceName, serial: &str) -> Result<(), LifeError> {
    issuer.retire(name, serial).await.map_err(|error: IssueError| LifeError::NotRetired {
        name: name.clone(),
        serial: serial.to_owned(),
        why: error.to_string(),
    })
}

/// The old one's FullTopic and Topic: whatever switches the lamp goes on switching it.
async fn take_topics(asker: &Asker<'_>, wanted: &Topics, mut found: Topics) -> Result<(), LifeError> {
    for (setting, wanted, found) in [
        (Setting::FullTopic, &wanted.full_topic, &mut found.full_topic),
        (Setting::Topic, &wanted.topic, &mut found.topic),
    ] {
        if wanted == found {
            continue;
        }
        let command = Command::set(setting, wanted).map_err(EnrolError::Target)?;
        // It restarts by itself; two such changes in one Backlog would do, but each is asked back.
        asker.send_backlog(Step::Rename, &command).await?;
        let until = Instant::now() + asker.patience.back;
        loop {
            sleep(asker.patience.poll).await;
            let told = asker.once(&Command::ask(setting)).await;
            let text = told.ok().and_then(|reply| reply.setting(setting).ok());
            if text.as_ref() == Some(wanted) {
                break;
            }
            if Instant::now() >= until {
                let why = format!("it did not take {setting:?} {wanted:?}");
                let (address, step) = (asker.address(), Step::Rename);
                return Err(EnrolError::WentAway { address, step, why }.into());
            }
        }
    }
    Ok(())
}
