//! Enrolment: from a device on the network to one that our broker saw with its own certificate.
//!
//! Every run asks the device first and then does what is still missing, so a run that was killed at any point is
//! continued by the next one with the same name. The registry is told before the device is changed; what it says is
//! never better than what is.
//!
//! | room | what is in it |
//! |---|---|
//! | `target` | broker, request, patience, and the console an enrolment talks to |
//! | `probe` | what a device is; what forbids its enrolment |
//! | `ask` | one question, bounded in time |
//! | `key`, `pins`, `switch`, `proof` | what is done to the device; how a failure is explained |
//! | `run`, `pinned` | the steps of the mutual and of the pinned rung |
//! | `roll_back` | the way back |
//! | `error`, `cause` | every way to stop; why a device did not come |

mod ask;
mod cause;
mod error;
mod key;
mod pinned;
mod pins;
mod probe;
mod proof;
mod roll_back;
mod run;
mod switch;
mod target;

// For `life`, which talks to a device in the same way.
pub(crate) use self::ask::Asker;
pub use self::error::{Cause, EnrolError, Stands};
pub(crate) use self::key::{Bearer, Cargo, KEY_UNDER_WAY, PUSH_ROUNDS, push};
pub use self::pins::pinned_switch;
pub use self::probe::{Probe, TlsAbility, probe};
pub(crate) use self::switch::{Back, has_broker};
pub use self::target::{
    BrokerTarget, CaKind, DeviceConsole, EnrolRequest, OldPassword, Patience, WantedRung, http_console,
};
use crate::device::{Device, DeviceName};
use crate::issuer::Issuer;
use crate::registry::{EnrolmentLock, Registry};
use crate::step::Reporter;
use crate::witness::{Sighting, Witness};

/// Everything an enrolment works with, apart from the device.
#[derive(Clone, Copy)]
pub struct Enrolment<'a> {
    /// The registry.
    pub registry: &'a Registry,
    /// Where certificates come from.
    pub issuer: &'a dyn Issuer,
    /// The eye at the broker.
    pub witness: &'a dyn Witness,
    /// Who watches.
    pub reporter: &'a dyn Reporter,
    /// The broker the device is to use.
    pub broker: &'a BrokerTarget,
    /// How long to wait for what.
    pub patience: Patience,
}

/// A device that our broker saw with its certificate or its password.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Enrolled {
    /// As the registry has it now: Proven.
    pub device: Device,
    /// What the broker saw.
    pub sighting: Sighting,
    /// Whether everything was in place already and only the proof was taken again.
    pub already: bool,
    /// What a person should know: firmware that crashes without its broker, logs that stayed down.
    pub notes: Vec<String>,
}

impl Enrolment<'_> {
    /// Enrols a device on the rung that the request wants, or continues where an earlier run with this name stopped.
    ///
    /// # Errors
    /// See [`EnrolError`]; what is known of the problem is noted in the registry, with the device if it is registered.
    pub async fn run(
        &self,
        request: &EnrolRequest,
        console: &dyn DeviceConsole,
    ) -> Result<Enrolled, EnrolError> {
        let lock = lock(self.registry, &request.name)?;
        self.run_held(request, console, &lock).await
    }

    /// As [`Self::run`], for those who have the device for themselves already, and keep it for what follows.
    pub(crate) async fn run_held(
        &self,
        request: &EnrolRequest,
        console: &dyn DeviceConsole,
        _: &EnrolmentLock,
    ) -> Result<Enrolled, EnrolError> {
        let request = self.as_registered(request)?;
        run::Run::new(self, &request, console)?.finish().await
    }

    /// Gives a device its old settings back, also after the program that switched it was killed. A device that was
    /// proven has none: its old settings were dropped then.
    ///
    /// # Errors
    /// [`EnrolError::NotRolledBack`] where there are no old settings or the device does not take them, and whatever
    /// keeps us from asking it.
    pub async fn roll_back(
        &self,
        request: &EnrolRequest,
        console: &dyn DeviceConsole,
    ) -> Result<Device, EnrolError> {
        let _lock = lock(self.registry, &request.name)?;
        let request = self.as_registered(request)?;
        run::Run::new(self, &request, console)?.back_by_wish().await
    }

    /// A device that we have keeps the letters of its name: in others it would get a second certificate.
    fn as_registered(&self, request: &EnrolRequest) -> Result<EnrolRequest, EnrolError> {
        let known = self.registry.device(&request.name)?.filter(|device| device.state.is_present());
        let name = known.map_or_else(|| request.name.clone(), |device| device.name);
        Ok(EnrolRequest { name, ..request.clone() })
    }
}

/// The device for this run alone, until it is dropped.
///
/// # Errors
/// [`EnrolError::Busy`], and where the lock's file cannot be made.
pub fn lock(registry: &Registry, name: &DeviceName) -> Result<EnrolmentLock, EnrolError> {
    registry.lock_enrolment(name)?.ok_or_else(|| EnrolError::Busy { name: name.clone() })
}
