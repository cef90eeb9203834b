//! A new key and certificate for a device that lives, perhaps under a new name. Push, read back, restart, prove, and only
//! then is the old certificate void; where the proof does not come, the old key goes back.
//!
//! At no moment is there a device without a way on: both certificates open the door until the new one was seen, the old
//! key is kept until then, and a row in the registry tells from before the first step what may have happened.

use time::OffsetDateTime;

use super::error::{LifeError, NOT_RETIRED, living};
use super::replace::{retire_one, retire_superseded};
use crate::device::{Device, DeviceName, DeviceState, Rung};
use crate::enrol::{
    Asker, Bearer, BrokerTarget, Cargo, DeviceConsole, EnrolError, Patience, Probe, TlsAbility, lock,
};
use crate::issuer::{DeviceCredential, IssueError, Reissuer};
use crate::registry::changes::{Change, Stage};
use crate::registry::journal::Progress;
use crate::registry::{Owner, Registry, RegistryError};
use crate::step::{Reporter, Step, StepState};
use crate::witness::{Sighting, Witness, WitnessError};

/// Everything that a change works with, apart from the device.
#[derive(Clone, Copy)]
pub struct Life<'a> {
    /// The registry.
    pub registry: &'a Registry,
    /// Where certificates come from.
    pub issuer: &'a dyn Reissuer,
    /// The eye at the broker.
    pub witness: &'a dyn Witness,
    /// Who watches.
    pub reporter: &'a dyn Reporter,
    /// The broker that the device uses.
    pub broker: &'a BrokerTarget,
    /// How long to wait for what.
    pub patience: Patience,
}

/// A change that is done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Changed {
    /// The device as the registry has it now.
    pub device: Device,
    /// What the broker saw; `None` where it had been seen by an earlier run, and only the old certificate was left.
    pub sighting: Option<Sighting>,
    /// The certificate that is void now.
    pub old_serial: Option<String>,
    /// What a person should know.
    pub notes: Vec<String>,
}

impl Life<'_> {
    /// Gives a mutual device a new key and certificate, or goes on where an earlier run stopped.
    ///
    /// # Errors
    /// See [`LifeError`].
    pub async fn rotate(&self, name: &DeviceName, console: &dyn DeviceConsole) -> Result<Changed, LifeError> {
        self.change(name, None, console).await
    }

    /// Gives a mutual device another name: a certificate with that common name, and that topic where the old topic was
    /// the old name. What the registry knows of it stays its own.
    ///
    /// # Errors
    /// See [`LifeError`].
    pub async fn rename(
        &self,
        name: &DeviceName,
        to: &DeviceName,
        console: &dyn DeviceConsole,
    ) -> Result<Changed, LifeError> {
        self.change(name, Some(to), console).await
    }

    async fn change(
        &self,
        name: &DeviceName,
        to: Option<&DeviceName>,
        console: &dyn DeviceConsole,
    ) -> Result<Changed, LifeError> {
        let name = match (self.registry.device(name)?.filter(|device| device.state.is_present()), to) {
            // A run that stopped when it had the new name already.
            (None, Some(to)) if self.registry.change_of(to)?.is_some() => to,
            _ => name,
        };
        let _lock = lock(self.registry, name)?;
        let other = to.filter(|to| *to != name);
        let _other = other.map(|to| lock(self.registry, to)).transpose()?;
        let device = living(self.registry.device(name)?, name)?;
        if device.rung != Rung::Mutual {
            return Err(LifeError::OtherRung { name: device.name, rung: device.rung });
        }
        if device.state != DeviceState::Proven {
            return Err(LifeError::NotProvenBefore { name: device.name, state: device.state });
        }
        self.refuse_name(&device, to)?;
        let notes = self.put_off(&device.name, to).await?;
        let id = format!(
            "{}-{}",
            OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000,
            std::process::id()
        );
        let asker = Asker::of(console, self.patience, device.mac);
        let mut run = Run { with: self, device, to, asker, id, current: Step::Probe, notes };
        match run.steps().await {
            Ok(changed) => Ok(changed),
            Err(error) => {
                run.failed(&error);
                Err(error)
            }
        }
    }
}

impl Life<'_> {
    /// A name that is somebody's, or its own already, is refused before the device is asked anything. A rename that is under
    /// way goes on.
    fn refuse_name(&self, device: &Device, to: Option<&DeviceName>) -> Result<(), LifeError> {
        let Some(to) = to.filter(|_| device.rung == Rung::Mutual) else { return Ok(()) };
        if self
            .registry
            .change_of(&device.name)?
            .is_some_and(|change| change.new_name.is_some_and(|name| name.as_str() == to.as_str()))
        {
            return Ok(());
        }
        // In other letters it is a change, if a small one.
        if device.name.as_str() == to.as_str() {
            return Err(LifeError::SameName { name: to.clone() });
        }
        Ok(self.registry.refuse_taken_name(to, &device.name)?)
    }

    /// Another name that the device was to have is given up where nothing of that has reached it yet: a rename that cannot
    /// be carried through must not be in the way for ever. What a person should know of that.
    ///
    /// # Errors
    /// [`LifeError::OtherChange`] where the device may have its new key already.
    pub(super) async fn put_off(
        &self,
        device: &DeviceName,
        to: Option<&DeviceName>,
    ) -> Result<Vec<String>, LifeError> {
        let mut notes = Vec::new();
        let Some(change) = self.registry.change_of(device)? else { return Ok(notes) };
        let Some(other) = change.new_name.filter(|other| to.is_none_or(|to| to.as_str() != other.as_str()))
        else {
            return Ok(notes);
        };
        if change.stage >= Stage::Pushing {
            return Err(LifeError::OtherChange { name: device.clone(), to: other });
        }
        notes.push(format!(
            "it was to be renamed {other}; nothing of that had reached it, and it is given up"
        ));
        // Made by a run that was killed before it could say so; or by somebody else, so it is not revoked unasked.
        let left = match self.issuer.existing(&other).await {
            Ok(found) => found.map(|found| found.serial),
            Err(IssueError::KeyMissing { serial, .. }) => Some(serial),
            Err(_) => None,
        };
        if let Some(serial) = left
            && self.registry.certificate(&serial)?.is_none()
        {
            notes
                .push(format!("certificate {serial} for {other} is nobody's here: quoll ca revoke {serial}"));
        }
        if let Some(serial) = self.registry.abandon_change(device)?
            && let Err(error) = retire_one(self.registry, self.issuer, &other, &serial).await
        {
            let why = match error {
                LifeError::NotRetired { why, .. } => why,
                other => other.to_string(),
            };
            notes.push(format!(
                "certificate {serial} is void, but not in the pki folder yet: {why}; the next run sees to that"
            ));
        }
        Ok(notes)
    }
}

pub(super) struct Run<'a> {
    pub(super) with: &'a Life<'a>,
    pub(super) device: Device,
    pub(super) to: Option<&'a DeviceName>,
    pub(super) asker: Asker<'a>,
    id: String,
    pub(super) current: Step,
    pub(super) notes: Vec<String>,
}

impl Run<'_> {
    async fn steps(&mut self) -> Result<Changed, LifeError> {
        if let Some(change) = self.with.registry.change_of(&self.device.name)?
            && change.stage == Stage::Proven
        {
            self.try_restore_logs().await;
            return self.retire(change, None).await;
        }
        self.begin(Step::Probe)?;
        let found = self.asker.probe().await?;
        self.refuse(&found)?;
        self.done(Step::Probe, &format!("{}, {}", found.firmware.version, found.network.mac))?;
        self.begin(Step::Broker)?;
        self.ready().await?;
        self.done(Step::Broker, "")?;

        let change = self.with.registry.begin_change(&self.device.name, self.to)?;
        // The way back, looked for before anything new is made.
        let old = match &change.old_serial {
            Some(serial) => self.with.issuer.held(&self.device.name, serial).await?,
            None => None,
        };
        if old.is_none() {
            self.notes.push(
                "the old key is not at hand: had the proof not come, the device would have kept the new one"
                    .into(),
            );
        }
        let (change, new) = self.certificate(change).await?;
        let result = self.push_and_prove(&found, &change, &new, old.as_ref()).await;
        self.try_restore_logs().await;
        let sighting = result?;
        let change = self.with.registry.change_of(&self.device.name)?.unwrap_or(change);
        self.retire(change, Some(sighting)).await
    }

    fn refuse(&self, found: &Probe) -> Result<(), LifeError> {
        let (name, address) = (self.device.name.clone(), self.asker.address());
        if found.network.mac != self.device.mac {
            let (registered, found) = (self.device.mac, found.network.mac);
            return Err(EnrolError::OtherDevice { name, registered, found }.into());
        }
        let firmware = found.firmware.version.clone();
        match found.tls {
            TlsAbility::Client(_) => {}
            TlsAbility::None => return Err(EnrolError::NoTls { address, firmware }.into()),
            TlsAbility::Server => {
                return Err(EnrolError::NoTlsKey { address, firmware, pinned: String::new() }.into());
            }
        }
        if !found.is_at(self.with.broker) {
            let found = format!("{}:{}", found.settings.host, found.settings.port);
            return Err(LifeError::Elsewhere { name, found });
        }
        Ok(())
    }

    /// The broker must know of what is new before the device shows it.
    pub(super) async fn ready(&self) -> Result<(), LifeError> {
        let (host, port) = (self.with.broker.host.clone(), self.with.broker.port);
        let not_ready =
            |error: WitnessError| EnrolError::BrokerNotReady { host, port, why: error.to_string() };
        Ok(self.with.witness.ready().await.map_err(not_ready)?)
    }

    /// The new certificate: made by an earlier run that stopped, or now.
    async fn certificate(&mut self, change: Change) -> Result<(Change, DeviceCredential), LifeError> {
        self.begin(Step::Certificate)?;
        let (registry, issuer) = (self.with.registry, self.with.issuer);
        let name = self.to.unwrap_or(&self.device.name).clone();
        let mut credential = match &change.new_serial {
            Some(serial) => issuer.held(&name, serial).await?,
            None => None,
        };
        let detail = if credential.is_some() { "issued before" } else { "new" };
        if credential.is_none() {
            credential = self.left_over(&name, &change).await?;
        }
        let credential = match credential {
            Some(credential) => credential,
            None => issuer.reissue(&name).await?,
        };
        let cargo = Cargo::new(&credential)?;
        let noted = registry.change_certificate(&self.device.name, &credential.serial, credential.not_after);
        if let Err(RegistryError::Transition { .. }) = noted {
            // It was revoked while its certificate was made: nobody is to have that.
            issuer.retire(&name, &credential.serial).await?;
        }
        let change = noted?;
        self.ready().await?;
        let bytes = cargo.expected().certificate.unwrap_or(0);
        self.done(Step::Certificate, &format!("{}, {bytes} bytes, {detail}", credential.serial))?;
        Ok((change, credential))
    }

    /// A certificate of that name that a run made which was killed before it could say so.
    async fn left_over(
        &self,
        name: &DeviceName,
        change: &Change,
    ) -> Result<Option<DeviceCredential>, LifeError> {
        let found = match self.with.issuer.existing(name).await {
            Ok(Some(found)) => found,
            Ok(None) | Err(IssueError::KeyMissing { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if found.not_after <= OffsetDateTime::now_utc() {
            return Ok(None);
        }
        match self.with.registry.certificate(&found.serial)? {
            // It is recorded for nobody: nobody ever had it.
            None => Ok(Some(found)),
            Some(known) => {
                let mine = known.owner == Owner::Device(self.device.name.clone());
                let old = change.old_serial.as_deref() == Some(known.serial.as_str());
                if !mine {
                    return Err(
                        RegistryError::SerialTaken { serial: known.serial, owner: known.owner }.into()
                    );
                }
                Ok((!known.revoked && !old).then_some(found))
            }
        }
    }

    /// The old certificate is void: at our door, then in the folder.
    async fn retire(&mut self, change: Change, sighting: Option<Sighting>) -> Result<Changed, LifeError> {
        self.begin(Step::Retire)?;
        let registry = self.with.registry;
        // Under its new name, if it got one.
        let name = change.device.clone();
        self.device =
            registry.device(&name)?.ok_or_else(|| LifeError::Unknown(Owner::Device(name.clone())))?;
        // The old one, and whatever runs that stopped half-way had made.
        retire_superseded(registry, self.with.issuer, &name).await?;
        // What an earlier run noted when the folder could not be written.
        if self.device.problem.as_ref().is_some_and(|problem| problem.contains(NOT_RETIRED)) {
            registry.note_problem(&name, None)?;
            self.device.problem = None;
        }
        registry.end_change(&name)?;
        self.with.witness.ready().await.ok();
        self.done(Step::Retire, change.old_serial.as_deref().unwrap_or("there was none"))?;
        let notes = std::mem::take(&mut self.notes);
        Ok(Changed { device: self.device.clone(), sighting, old_serial: change.old_serial, notes })
    }

    async fn try_restore_logs(&mut self) {
        if let Err(error) = self.restore_logs().await {
            self.notes.push(format!("the device's logs are still turned down: {error}"));
        }
    }

    async fn restore_logs(&mut self) -> Result<(), LifeError> {
        let Some(levels) = self.with.registry.kept(&self.device.name)?.1 else { return Ok(()) };
        let failed_at = self.current;
        self.begin(Step::RestoreLogs)?;
        let restored = self.asker.restore_logs(&levels).await;
        match &restored {
            Ok(()) => {
                self.with.registry.forget_log_levels(&self.device.name)?;
                self.done(Step::RestoreLogs, "")?;
            }
            Err(error) => self.report(Step::RestoreLogs, Progress::Failed, &error.to_string())?,
        }
        self.current = failed_at;
        Ok(restored?)
    }

    pub(super) fn begin(&mut self, step: Step) -> Result<(), LifeError> {
        self.current = step;
        self.report(step, Progress::Begun, "")
    }

    pub(super) fn done(&self, step: Step, detail: &str) -> Result<(), LifeError> {
        self.report(step, Progress::Done, detail)
    }

    /// The journal first, then whoever watches.
    pub(super) fn report(&self, step: Step, progress: Progress, detail: &str) -> Result<(), LifeError> {
        self.with.registry.note_step(&self.device.name, &self.id, step, progress, detail)?;
        self.with.reporter.step(step, StepState::of(progress, detail));
        Ok(())
    }

    fn failed(&self, error: &LifeError) {
        if matches!(error, LifeError::NotProven { .. }) {
            return;
        }
        let text = error.to_string();
        let noted = self.report(self.current, Progress::Failed, &text).and_then(|()| {
            // Before the first push nothing is wrong with the device.
            match self.with.registry.change_of(&self.device.name)? {
                Some(change) if change.stage >= Stage::Pushing => {
                    Ok(self.with.registry.note_problem(&self.device.name, Some(&text))?)
                }
                _ => Ok(()),
            }
        });
        if let Err(second) = noted {
            tracing::warn!(device = %self.device.name, error = %second, "the problem could not be noted");
        }
    }
}

impl Bearer for Run<'_> {
    fn asker(&self) -> &Asker<'_> {
        &self.asker
    }

    fn note(&mut self, step: Step, progress: Progress, detail: &str) -> Result<(), EnrolError> {
        self.current = step;
        self.with.registry.note_step(&self.device.name, &self.id, step, progress, detail)?;
        self.with.reporter.step(step, StepState::of(progress, detail));
        Ok(())
    }
}
