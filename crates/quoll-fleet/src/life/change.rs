//! A new key and certificate for a device that lives, perhaps under a new name. Push, read back, restart, prove, and only
//! then is the old certificate void; where the proof does not come, the old key goes back.
//!
//! At no moment is there a device without a way on: both certificates open the door until the new one was seen, the old
//! key is kept until then, and a row in the registry tells from before the first step what may have happened.

use quoll_tasmota::{Command, Setting, Stored};
use time::OffsetDateTime;

use super::error::{After, LifeError, living};
use crate::device::{Device, DeviceName, DeviceState, Rung, Topics};
use crate::enrol::{
    Asker, Back, BrokerTarget, Cargo, Cause, DeviceConsole, EnrolError, PUSH_ROUNDS, Patience, Probe,
    TlsAbility, has_broker,
};
use crate::issuer::{DeviceCredential, IssueError, Reissuer};
use crate::registry::changes::{Change, Stage};
use crate::registry::journal::Progress;
use crate::registry::{Owner, Registry, RegistryError};
use crate::step::{Reporter, Step, StepState};
use crate::witness::{self, Sighting, Witness, WitnessError};

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
        let busy = || EnrolError::Busy { name: name.clone() };
        let _lock = self.registry.lock_enrolment(name)?.ok_or_else(busy)?;
        let _other = match to.filter(|to| !to.as_str().eq_ignore_ascii_case(name.as_str())) {
            Some(to) => {
                Some(self.registry.lock_enrolment(to)?.ok_or_else(|| EnrolError::Busy { name: to.clone() })?)
            }
            None => None,
        };
        let device = living(self.registry.device(name)?, name)?;
        if device.rung != Rung::Mutual {
            return Err(LifeError::OtherRung { name: device.name, rung: device.rung });
        }
        if device.state != DeviceState::Proven {
            return Err(LifeError::NotProvenBefore { name: device.name, state: device.state });
        }
        let under_way = self.registry.change_of(&device.name)?;
        if let Some(other) = under_way.and_then(|change| change.new_name)
            && to.is_none_or(|to| *to != other)
        {
            return Err(LifeError::OtherChange { name: device.name, to: other });
        }
        let id = format!(
            "{}-{}",
            OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000,
            std::process::id()
        );
        let asker = Asker { console, patience: self.patience };
        let mut run = Run { with: self, device, to, asker, id, current: Step::Probe, notes: Vec::new() };
        match run.steps().await {
            Ok(changed) => Ok(changed),
            Err(error) => {
                run.failed(&error);
                Err(error)
            }
        }
    }
}

struct Run<'a> {
    with: &'a Life<'a>,
    device: Device,
    to: Option<&'a DeviceName>,
    asker: Asker<'a>,
    id: String,
    current: Step,
    notes: Vec<String>,
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
    async fn ready(&self) -> Result<(), LifeError> {
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
        let change =
            registry.change_certificate(&self.device.name, &credential.serial, credential.not_after)?;
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

    /// From the key to the broker's word.
    async fn push_and_prove(
        &mut self,
        found: &Probe,
        change: &Change,
        new: &DeviceCredential,
        old: Option<&DeviceCredential>,
    ) -> Result<Sighting, LifeError> {
        let registry = self.with.registry;
        let cargo = Cargo::new(new)?;
        let stored = match found.tls {
            TlsAbility::Client(stored) => stored,
            TlsAbility::None | TlsAbility::Server => Stored { key: None, certificate: None },
        };
        let pushed = change.stage >= Stage::Pushed && stored == cargo.expected();
        if !pushed {
            registry.note_problem(&self.device.name, Some(UNDER_WAY))?;
            registry.advance_change(&self.device.name, Stage::Pushing)?;
            self.quiet_logs(found).await?;
            self.push(&cargo, found).await?;
            registry.advance_change(&self.device.name, Stage::Pushed)?;
        }
        self.begin(Step::Clock)?;
        let detail = self.asker.set_clock().await?;
        self.done(Step::Clock, &detail)?;
        let topic = self.new_topic(found);
        registry.advance_change(&self.device.name, Stage::Restarting)?;
        let cause = match self.restart_and_prove(&cargo, new, topic.as_ref()).await? {
            Ok(sighting) => return Ok(sighting),
            Err(cause) => cause,
        };
        registry.note_problem(&self.device.name, Some(&cause.to_string()))?;
        self.report(self.current, Progress::Failed, &cause.to_string())?;
        let stands = self.put_back(found, old, topic.is_some()).await?;
        Err(LifeError::NotProven { name: self.device.name.clone(), cause, stands })
    }

    /// The topics that it is to have, where its topic was its name and is to follow.
    fn new_topic(&self, found: &Probe) -> Option<Topics> {
        let to = self.to?;
        let was = self.device.name.as_str();
        let topics = &found.topics;
        let follows = topics.topic.eq_ignore_ascii_case(was) || topics.topic == to.as_str();
        follows.then(|| Topics { topic: to.as_str().to_owned(), ..topics.clone() })
    }

    async fn push(&mut self, cargo: &Cargo, found: &Probe) -> Result<(), LifeError> {
        let mut round = 1;
        loop {
            match self.push_once(cargo, found).await {
                Ok(()) => return Ok(()),
                Err(
                    LifeError::Device(EnrolError::LengthMismatch { .. })
                    | LifeError::Device(EnrolError::Refused { step: Step::PushCertificate, .. }),
                ) if round < PUSH_ROUNDS => {
                    self.report(self.current, Progress::Failed, "once more")?;
                    round += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn push_once(&mut self, cargo: &Cargo, found: &Probe) -> Result<(), LifeError> {
        self.begin(Step::PushKey)?;
        self.asker.push_key(cargo, found.network.mac).await?;
        self.done(Step::PushKey, "32 bytes")?;
        self.begin(Step::PushCertificate)?;
        self.asker.push_certificate(cargo).await?;
        self.done(Step::PushCertificate, "")?;
        self.begin(Step::ReadBack)?;
        self.read_back(cargo).await
    }

    async fn read_back(&mut self, cargo: &Cargo) -> Result<(), LifeError> {
        let (stored, expected) = (self.asker.stored(Step::ReadBack).await?, cargo.expected());
        if stored != expected {
            return Err(EnrolError::LengthMismatch { address: self.asker.address(), stored, expected }.into());
        }
        self.done(Step::ReadBack, &stored.to_string())
    }

    /// A restart shows at once what a power cut would show one day: whether the device kept what it was given.
    async fn restart_and_prove(
        &mut self,
        cargo: &Cargo,
        credential: &DeviceCredential,
        topics: Option<&Topics>,
    ) -> Result<Result<Sighting, Cause>, LifeError> {
        let stale = witness::seen_now(self.with.witness, self.with.patience, &credential.serial).await;
        match topics {
            Some(topics) => {
                self.begin(Step::Rename)?;
                // The door first: when the device comes it speaks under its new topic.
                self.with.registry.change_topics(&self.device.name, topics)?;
                self.ready().await?;
                let command = Command::set(Setting::Topic, &topics.topic).map_err(EnrolError::Target)?;
                let backlog = Command::backlog(&[command, Command::restart()]).map_err(EnrolError::Target)?;
                self.asker.send_backlog(Step::Rename, &backlog).await?;
                self.done(Step::Rename, &topics.topic)?;
            }
            None => {
                self.begin(Step::Restart)?;
                self.asker.send_backlog(Step::Restart, &Command::restart()).await?;
                self.done(Step::Restart, "")?;
            }
        }
        let broker = self.with.broker;
        self.begin(Step::Return)?;
        let mut gone = false;
        match self.asker.wait_back(|mqtt| has_broker(mqtt, &broker.host, broker.port, true)).await {
            Back::With => self.done(Step::Return, "")?,
            Back::Without => return Ok(Err(Cause::NotSwitched)),
            Back::Silent => {
                gone = true;
                self.report(Step::Return, Progress::Failed, "its console does not answer")?;
            }
        }
        self.begin(Step::Prove)?;
        let error =
            match witness::see(self.with.witness, self.with.patience, &credential.serial, stale.as_ref())
                .await
            {
                Ok(sighting) => {
                    self.done(Step::Prove, &format!("{} from {}", sighting.client_id, sighting.address))?;
                    self.begin(Step::Commit)?;
                    self.device = self.with.registry.settle_change(&self.device.name)?;
                    self.done(Step::Commit, &format!("certificate {}", credential.serial))?;
                    return Ok(Ok(sighting));
                }
                Err(error) => error,
            };
        if !gone
            && let Ok(stored) = self.asker.stored(Step::ReadBack).await
            && stored != cargo.expected()
        {
            return Ok(Err(Cause::Forgot(stored)));
        }
        Ok(Err(match self.asker.cause(broker, error).await {
            Cause::Unknown(_) if gone => Cause::Gone,
            cause => cause,
        }))
    }

    /// The old key back onto the device, and the broker's word that it came with it.
    async fn put_back(
        &mut self,
        found: &Probe,
        old: Option<&DeviceCredential>,
        topic_changed: bool,
    ) -> Result<After, LifeError> {
        self.begin(Step::PutBack)?;
        let Some(old) = old else {
            let why = "the old key is not at hand".to_owned();
            self.report(Step::PutBack, Progress::Failed, &why)?;
            return Ok(After::Ahead { why });
        };
        let after = match self.try_put_back(found, old, topic_changed).await {
            Ok(after) => after,
            Err(error @ (LifeError::Registry(_) | LifeError::Issue(_))) => return Err(error),
            Err(error) => {
                let why = error.to_string();
                self.report(Step::PutBack, Progress::Failed, &why)?;
                return Ok(After::Ahead { why });
            }
        };
        // It has the old key: nobody is to use the new one.
        if let Some(serial) = self.with.registry.abandon_change(&self.device.name)? {
            if let Err(error) = self.with.issuer.retire(self.to.unwrap_or(&self.device.name), &serial).await {
                self.notes.push(format!(
                    "certificate {serial} is void, but not revoked in the pki folder: {error}"
                ));
            }
            self.with.witness.ready().await.ok();
        }
        self.done(Step::PutBack, &old.serial)?;
        Ok(after)
    }

    async fn try_put_back(
        &mut self,
        found: &Probe,
        old: &DeviceCredential,
        topic_changed: bool,
    ) -> Result<After, LifeError> {
        let cargo = Cargo::new(old)?;
        let mut round = 1;
        loop {
            self.asker.push_key(&cargo, found.network.mac).await?;
            self.asker.push_certificate(&cargo).await?;
            let (stored, expected) = (self.asker.stored(Step::PutBack).await?, cargo.expected());
            if stored == expected {
                break;
            }
            if round == PUSH_ROUNDS {
                return Err(
                    EnrolError::LengthMismatch { address: self.asker.address(), stored, expected }.into()
                );
            }
            round += 1;
        }
        let stale = witness::seen_now(self.with.witness, self.with.patience, &old.serial).await;
        let restart = if topic_changed {
            self.with.registry.change_topics(&self.device.name, &self.device.topics)?;
            self.with.witness.ready().await.ok();
            let command =
                Command::set(Setting::Topic, &self.device.topics.topic).map_err(EnrolError::Target)?;
            Command::backlog(&[command, Command::restart()]).map_err(EnrolError::Target)?
        } else {
            Command::restart()
        };
        self.asker.send_backlog(Step::PutBack, &restart).await?;
        let broker = self.with.broker;
        self.asker.wait_back(|mqtt| has_broker(mqtt, &broker.host, broker.port, true)).await;
        Ok(match witness::see(self.with.witness, self.with.patience, &old.serial, stale.as_ref()).await {
            Ok(_) => After::Back,
            Err(_) => After::BackUnseen,
        })
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
        let current = self.device.serial.clone();
        for certificate in registry.certificates_of(&Owner::Device(name.clone()))? {
            if certificate.revoked || Some(&certificate.serial) == current.as_ref() {
                continue;
            }
            let serial = certificate.serial;
            // The folder first: what is void here is not looked at again.
            if let Err(error) = self.with.issuer.retire(&name, &serial).await {
                registry.void_certificate(&serial, "superseded")?;
                return Err(LifeError::NotRetired { name, serial, why: error.to_string() });
            }
            registry.void_certificate(&serial, "superseded")?;
        }
        registry.end_change(&name)?;
        self.with.witness.ready().await.ok();
        self.done(Step::Retire, change.old_serial.as_deref().unwrap_or("there was none"))?;
        let notes = std::mem::take(&mut self.notes);
        Ok(Changed { device: self.device.clone(), sighting, old_serial: change.old_serial, notes })
    }

    async fn quiet_logs(&mut self, found: &Probe) -> Result<(), LifeError> {
        self.begin(Step::QuietLogs)?;
        self.with.registry.keep_log_levels(&self.device.name, &found.logs)?;
        self.asker.quiet_logs(&found.logs).await?;
        self.done(Step::QuietLogs, "")
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
        let restored = self.asker.set_logs(Step::RestoreLogs, &levels).await;
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

    fn begin(&mut self, step: Step) -> Result<(), LifeError> {
        self.current = step;
        self.report(step, Progress::Begun, "")
    }

    fn done(&self, step: Step, detail: &str) -> Result<(), LifeError> {
        self.report(step, Progress::Done, detail)
    }

    /// The journal first, then whoever watches.
    fn report(&self, step: Step, progress: Progress, detail: &str) -> Result<(), LifeError> {
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

/// What stands with a device while its key is being changed.
const UNDER_WAY: &str = "its key is being changed; if that stopped, run the same command again: it goes on";
