//! One run of an enrolment on the mutual rung, and what both rungs share: which steps, in which order, and what the registry is told about each.

use quoll_pki::limits::{DEVICE_DER_MAX, DEVICE_DER_WARN};
use quoll_tasmota::{Command, Stored};
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ask::Asker;
use super::error::{Cause, EnrolError};
use super::key::{Bearer, Cargo, KEY_UNDER_WAY, push};
use super::probe::{Probe, Way};
use super::switch::{Back, has_broker, switch_commands};
use super::target::{DeviceConsole, EnrolRequest};
use super::{Enrolled, Enrolment};
use crate::device::{Device, DeviceState, Rung};
use crate::issuer::{DeviceCredential, IssueError};
use crate::registry::journal::Progress;
use crate::registry::{Owner, RegistryError};
use crate::step::{Step, StepState};
use crate::witness::{self, Sighting};

pub(super) struct Run<'a> {
    pub(super) with: &'a Enrolment<'a>,
    pub(super) request: &'a EnrolRequest,
    pub(super) asker: Asker<'a>,
    pub(super) known: Option<Device>,
    id: String,
    pub(super) current: Step,
    pub(super) notes: Vec<String>,
}

/// The certificate a device is to show: with its key, or already on the device while the key is nowhere else.
enum Certificate {
    WithKey(DeviceCredential),
    OnDevice(String),
}

impl<'a> Run<'a> {
    pub(super) fn new(
        with: &'a Enrolment<'a>,
        request: &'a EnrolRequest,
        console: &'a dyn DeviceConsole,
    ) -> Result<Self, EnrolError> {
        let known = with.registry.device(&request.name)?.filter(|device| device.state.is_present());
        if let Some(device) = known.as_ref().filter(|device| device.state == DeviceState::Revoked) {
            return Err(EnrolError::Revoked { name: device.name.clone() });
        }
        if let Ok(name) = request.name.as_str().parse()
            && let Some(client) = with.registry.client(&name)?
        {
            return Err(EnrolError::NameInUse(Owner::Client(client.name)));
        }
        let id = format!(
            "{}-{}",
            OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000,
            std::process::id()
        );
        let asker = Asker::new(console, with.patience);
        Ok(Self { with, request, asker, known, id, current: Step::Probe, notes: Vec::new() })
    }

    pub(super) async fn finish(mut self) -> Result<Enrolled, EnrolError> {
        match self.steps().await {
            Ok(enrolled) => Ok(enrolled),
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        }
    }

    async fn steps(&mut self) -> Result<Enrolled, EnrolError> {
        // A broker's address that no device takes is refused before any is asked.
        switch_commands(self.with.broker, true).map(drop).map_err(EnrolError::Target)?;
        self.begin(Step::Probe)?;
        let found = self.asker.probe().await?;
        let known = self.known.as_ref();
        let way =
            found.refuse(self.with.registry, self.request, known, self.with.broker, &self.asker.address())?;
        self.done(Step::Probe, &format!("{}, {}", found.firmware.version, found.network.mac))?;
        self.broker_listens(&found, way.port(self.with.broker)).await?;
        self.refuse_name(way).await?;
        self.register(&found, way)?;

        let result = match way {
            Way::Mutual(stored) => self.provision(&found, stored).await,
            Way::Pinned(pins) => self.provision_pinned(&found, pins).await,
        };
        let restored = self.restore_logs().await;
        match (result, restored) {
            (Ok((device, sighting, already)), restored) => {
                if let Err(error) = restored {
                    self.notes.push(format!("the device's logs are still turned down: {error}"));
                }
                Ok(Enrolled { device, sighting, already, notes: std::mem::take(&mut self.notes) })
            }
            (Err(error), _) => Err(error),
        }
    }

    /// From the certificate to the proof.
    async fn provision(
        &mut self,
        found: &Probe,
        stored: Stored,
    ) -> Result<(Device, Sighting, bool), EnrolError> {
        let certificate = self.certificate(stored).await?;
        let (serial, pushed) = match certificate {
            Certificate::WithKey(credential) => {
                let cargo = Cargo::new(&credential)?;
                let pushed = !self.is_on_device(&credential.serial, stored, cargo.expected());
                if pushed {
                    self.push(&cargo, found).await?;
                }
                (credential.serial, pushed)
            }
            Certificate::OnDevice(serial) => (serial, false),
        };
        let switched = pushed || !found.is_at(self.with.broker);
        let already = !switched && self.device()?.state == DeviceState::Proven;
        let stale = match switched {
            true => witness::seen_now(self.with.witness, self.with.patience, &serial).await,
            false => None,
        };
        if switched {
            self.switch(found).await?;
        } else {
            self.skipped(Step::Switch, "it has the broker's settings already")?;
        }
        if !already {
            self.advance(DeviceState::Switched, None)?;
        }
        match self.prove(&serial, switched, stale.as_ref()).await? {
            Ok(sighting) => {
                if sighting.client_id != found.topics.client_id {
                    let (seen, own) = (&sighting.client_id, &found.topics.client_id);
                    self.notes.push(format!("the broker saw client id {seen:?}, the device says {own:?}"));
                }
                self.begin(Step::Commit)?;
                let device = self.advance(DeviceState::Proven, Some(Rung::Mutual))?;
                self.done(Step::Commit, &format!("certificate {serial}"))?;
                Ok((device, sighting, already))
            }
            Err(cause) => {
                self.with.registry.note_problem(&self.request.name, Some(&cause.to_string()))?;
                self.report(self.current, Progress::Failed, &cause.to_string())?;
                let stands = self.roll_back().await?;
                Err(EnrolError::NotProven { address: self.asker.address(), cause, stands })
            }
        }
    }

    /// A new name that stands for a server or a CA in the pki folder is refused before the device has it.
    async fn refuse_name(&mut self, way: Way) -> Result<(), EnrolError> {
        if self.known.is_some() || matches!(way, Way::Pinned(_)) {
            return Ok(());
        }
        match self.with.issuer.existing(&self.request.name).await {
            Err(error @ IssueError::NameInUse { .. }) => {
                self.current = Step::Certificate;
                Err(error.into())
            }
            _ => Ok(()),
        }
    }

    /// A device pointed at a closed port may restart for ever (facts §9), so the broker is tried first.
    async fn broker_listens(&mut self, found: &Probe, port: u16) -> Result<(), EnrolError> {
        let broker = self.with.broker;
        if found.firmware.crashes_without_broker() {
            let version = &found.firmware.version;
            self.notes.push(format!(
                "firmware {version} restarts over and over while its TLS broker is stopped: update it"
            ));
        }
        self.begin(Step::Broker)?;
        let not_ready = |why: String| EnrolError::BrokerNotReady { host: broker.host.clone(), port, why };
        if let Some(patience) = self.with.patience.broker {
            match timeout(patience, TcpStream::connect((broker.host.as_str(), port))).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(not_ready(error.to_string())),
                Err(_) => return Err(not_ready(format!("no answer within {} s", patience.as_secs()))),
            }
        }
        self.with.witness.ready().await.map_err(|error| not_ready(error.to_string()))?;
        self.done(Step::Broker, "")
    }

    fn register(&mut self, found: &Probe, way: Way) -> Result<(), EnrolError> {
        let device =
            self.with.registry.register(&found.device(self.request)).map_err(|error| match error {
                RegistryError::NameTaken(owner @ Owner::Client(_)) => EnrolError::NameInUse(owner),
                RegistryError::MacTaken { mac, name } => EnrolError::OtherName { mac, name },
                other => EnrolError::Registry(other),
            })?;
        self.known = Some(device);
        self.begin(Step::Register)?;
        let name = &self.request.name;
        // On a device that has our settings already there is nothing older to go back to.
        let is_there = match way {
            Way::Mutual(_) => found.is_at(self.with.broker),
            Way::Pinned(_) => self.is_pinned(found)?,
        };
        if !is_there {
            self.with.registry.keep_settings(name, &found.settings)?;
        }
        // What is wrong with a proven device stands until it is proven again.
        if self.device()?.state != DeviceState::Proven {
            self.with.registry.note_problem(name, None)?;
        }
        self.done(Step::Register, "")
    }

    async fn certificate(&mut self, stored: Stored) -> Result<Certificate, EnrolError> {
        self.begin(Step::Certificate)?;
        let name = &self.request.name;
        let now = OffsetDateTime::now_utc();
        let (credential, detail) = match self.with.issuer.existing(name).await {
            Ok(Some(credential)) if credential.not_after > now => (credential, "issued before"),
            Ok(_) => (self.with.issuer.issue(name).await?, "new"),
            Err(IssueError::KeyMissing { serial, certificate_bytes, not_after, name }) => {
                let expected = Stored { key: Some(32), certificate: Some(certificate_bytes) };
                if !self.is_on_device(&serial, stored, expected) {
                    return Err(IssueError::KeyMissing { serial, certificate_bytes, not_after, name }.into());
                }
                self.done(Step::Certificate, &format!("{serial}, on the device already"))?;
                return Ok(Certificate::OnDevice(serial));
            }
            Err(error) => return Err(error.into()),
        };
        let serial = &credential.serial;
        if self.with.registry.certificate(serial)?.is_some_and(|certificate| certificate.revoked) {
            return Err(IssueError::Void { name: name.clone(), serial: serial.clone() }.into());
        }
        self.with.registry.assign_certificate(name, serial, credential.not_after)?;
        let bytes = credential.certificate_der.len();
        if bytes > DEVICE_DER_WARN {
            self.notes.push(format!(
                "the certificate has {bytes} bytes, close to the {DEVICE_DER_MAX} that HTTP can carry"
            ));
        }
        let detail = format!("{serial}, {bytes} bytes, {detail}");
        self.done(Step::Certificate, &detail)?;
        Ok(Certificate::WithKey(credential))
    }

    /// Whether the device holds this certificate: an earlier run read its lengths back, and they still match.
    fn is_on_device(&self, serial: &str, stored: Stored, expected: Stored) -> bool {
        let pushed = |device: &Device| {
            let state =
                matches!(device.state, DeviceState::KeyPushed | DeviceState::Switched | DeviceState::Proven);
            state && device.serial.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(serial))
        };
        stored == expected && self.known.as_ref().is_some_and(pushed)
    }

    async fn push(&mut self, cargo: &Cargo, found: &Probe) -> Result<(), EnrolError> {
        if self.device()?.state == DeviceState::Proven {
            self.with.registry.note_problem(&self.request.name, Some(KEY_UNDER_WAY))?;
        }
        self.quiet_logs(found).await?;
        push(self, cargo).await?;
        self.advance(DeviceState::KeyPushed, None).map(drop)
    }

    pub(super) async fn quiet_logs(&mut self, found: &Probe) -> Result<(), EnrolError> {
        self.begin(Step::QuietLogs)?;
        self.with.registry.keep_log_levels(&self.request.name, &found.logs)?;
        self.asker.quiet_logs(&found.logs).await?;
        self.done(Step::QuietLogs, "")
    }

    async fn switch(&mut self, found: &Probe) -> Result<(), EnrolError> {
        self.begin(Step::Clock)?;
        let detail = self.asker.set_clock().await?;
        self.done(Step::Clock, &detail)?;
        self.begin(Step::Switch)?;
        let backlog =
            switch_commands(self.with.broker, found.settings.ecdsa.is_some()).map_err(EnrolError::Target)?;
        self.asker.same_device(Step::Switch).await?;
        // Before it is sent: from now on the device may be anywhere.
        self.advance(DeviceState::Switched, None)?;
        self.send_switch(&backlog, true).await
    }

    /// Sends the Backlog of either rung. One that was answered with nonsense may have been heard or not: the old settings
    /// go back, where there are some to go back to.
    pub(super) async fn send_switch(&mut self, backlog: &Command, goes_back: bool) -> Result<(), EnrolError> {
        let Err(error) = self.asker.hand_over(Step::Switch, backlog).await else {
            return self.done(Step::Switch, "");
        };
        self.report(Step::Switch, Progress::Failed, &error.to_string())?;
        if goes_back {
            self.roll_back().await?;
        }
        Err(error)
    }

    /// Waits for the device and for the broker's word. `stale` is what the broker had seen before the switch.
    async fn prove(
        &mut self,
        serial: &str,
        switched: bool,
        stale: Option<&Sighting>,
    ) -> Result<Result<Sighting, Cause>, EnrolError> {
        let broker = self.with.broker;
        let mut gone = false;
        if switched {
            self.begin(Step::Return)?;
            match self.asker.wait_back(|mqtt| has_broker(mqtt, &broker.host, broker.port, true)).await {
                Back::With => self.done(Step::Return, "")?,
                Back::Without => return Ok(Err(Cause::NotSwitched)),
                Back::Away(stranger) => {
                    gone = true;
                    self.report(Step::Return, Progress::Failed, &Back::away(stranger))?;
                }
            }
        }
        self.begin(Step::Prove)?;
        let error = match witness::see(self.with.witness, self.with.patience, serial, stale).await {
            Ok(sighting) => {
                self.done(Step::Prove, &format!("{} from {}", sighting.client_id, sighting.address))?;
                if gone {
                    self.notes.push(format!(
                        "its console did not answer at {} any more; the broker saw it come from {}: if its address has \
                         changed, quoll device repair {} --at ADDRESS",
                        self.asker.address(),
                        sighting.address,
                        self.request.name
                    ));
                }
                return Ok(Ok(sighting));
            }
            Err(error) => error,
        };
        Ok(Err(match self.asker.cause(broker, error).await {
            Cause::Unknown(_) if gone => Cause::Gone,
            cause => cause,
        }))
    }

    /// Turns the logs up again to what they were before the first run that turned them down.
    pub(super) async fn restore_logs(&mut self) -> Result<(), EnrolError> {
        let Some(levels) = self.with.registry.kept(&self.request.name)?.1 else { return Ok(()) };
        let failed_at = self.current;
        self.begin(Step::RestoreLogs)?;
        let restored = self.asker.restore_logs(&levels).await;
        if let Err(error) = &restored {
            self.report(Step::RestoreLogs, Progress::Failed, &error.to_string())?;
        } else {
            self.with.registry.forget_log_levels(&self.request.name)?;
            self.done(Step::RestoreLogs, "")?;
        }
        self.current = failed_at;
        restored
    }

    pub(super) fn device(&self) -> Result<Device, EnrolError> {
        let unknown = || RegistryError::Unknown(Owner::Device(self.request.name.clone()));
        self.known.clone().ok_or_else(|| unknown().into())
    }

    pub(super) fn advance(&mut self, to: DeviceState, rung: Option<Rung>) -> Result<Device, EnrolError> {
        let device = self.with.registry.advance(&self.request.name, to, rung)?;
        self.known = Some(device.clone());
        Ok(device)
    }

    pub(super) fn begin(&mut self, step: Step) -> Result<(), EnrolError> {
        self.current = step;
        self.report(step, Progress::Begun, "")
    }

    pub(super) fn done(&self, step: Step, detail: &str) -> Result<(), EnrolError> {
        self.report(step, Progress::Done, detail)
    }

    pub(super) fn skipped(&self, step: Step, why: &str) -> Result<(), EnrolError> {
        self.report(step, Progress::Skipped, why)
    }

    /// The journal first, then whoever watches. A device that is not registered has no journal: a mistyped address
    /// leaves no trace.
    pub(super) fn report(&self, step: Step, progress: Progress, detail: &str) -> Result<(), EnrolError> {
        if self.known.is_some() {
            self.with.registry.note_step(&self.request.name, &self.id, step, progress, detail)?;
        }
        self.with.reporter.step(step, StepState::of(progress, detail));
        Ok(())
    }

    fn failed(&self, error: &EnrolError) {
        if matches!(error, EnrolError::NotProven { .. }) {
            return;
        }
        let text = error.to_string();
        // A mistyped address says nothing of the device that was meant.
        let elsewhere = matches!(error, EnrolError::OtherDevice { .. });
        let known = self.known.as_ref().filter(|_| !elsewhere);
        let noted = self.report(self.current, Progress::Failed, &text).and_then(|()| match known {
            Some(device) => {
                self.with.registry.note_problem(&device.name, Some(&text)).map_err(EnrolError::from)
            }
            None => Ok(()),
        });
        if let Err(second) = noted {
            tracing::warn!(device = %self.request.name, error = %second, "the problem could not be noted");
        }
    }
}

impl Bearer for Run<'_> {
    fn asker(&self) -> &Asker<'_> {
        &self.asker
    }

    fn note(&mut self, step: Step, progress: Progress, detail: &str) -> Result<(), EnrolError> {
        self.current = step;
        self.report(step, progress, detail)
    }
}
