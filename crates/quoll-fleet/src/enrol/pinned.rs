//! The steps of the pinned rung: a password of its own, one Backlog, the slots read back, and the broker's word that it
//! saw that very password.

use quoll_tasmota::Command;
use tokio::time::{Instant, timeout};

use super::error::{Cause, EnrolError, Stands};
use super::pins::Pins;
use super::probe::Probe;
use super::run::Run;
use super::switch::{Back, has_broker};
use crate::device::{Device, DeviceState, Rung};
use crate::registry::NewPassword;
use crate::registry::journal::Progress;
use crate::step::Step;
use crate::witness::{self, Sighting};

impl Run<'_> {
    /// Whether the device has the settings of the pinned rung, under a user name of ours.
    pub(super) fn is_pinned(&self, found: &Probe) -> Result<bool, EnrolError> {
        let passwords = self.with.registry.passwords_of(&self.request.name)?;
        let logins: Vec<&str> = passwords.iter().map(|one| one.login.as_str()).collect();
        Ok(found.is_pinned_to(self.with.broker, &logins))
    }

    /// From the password to the proof.
    pub(super) async fn provision_pinned(
        &mut self,
        found: &Probe,
        pins: Pins,
    ) -> Result<(Device, Sighting, bool), EnrolError> {
        // Passwords alone are new then: on the way nothing is lost, both open the door until one is seen.
        let is_there = self.is_pinned(found)?;
        if is_there && !self.request.new_password {
            let device = self.device()?;
            let already = device.state == DeviceState::Proven && device.rung == Rung::Pinned;
            if let Some((id, sighting)) = self.see_any().await? {
                self.skipped(Step::Switch, "it has the broker's settings already")?;
                if device.state != DeviceState::Proven {
                    self.advance(DeviceState::Switched, None)?;
                }
                return self.commit_pinned(found, &id, sighting, already);
            }
            self.notes
                .push("the broker did not see it with any password it was given: it got a new one".into());
        }
        self.begin(Step::Password)?;
        let new = self.with.registry.propose_password(&self.request.name)?;
        // The broker must know it before the device does.
        if let Err(error) = self.with.witness.ready().await {
            let (host, port) = (self.with.broker.host.clone(), self.with.broker.pinned_port.unwrap_or(0));
            return Err(EnrolError::BrokerNotReady { host, port, why: error.to_string() });
        }
        self.done(Step::Password, &new.id)?;
        self.quiet_logs(found).await?;
        self.switch_pinned(pins, &new, !is_there).await?;
        let cause = match self.prove_pinned(pins, &new).await? {
            Ok(sighting) => return self.commit_pinned(found, &new.id, sighting, false),
            Err(cause) => cause,
        };
        self.with.registry.note_problem(&self.request.name, Some(&cause.to_string()))?;
        self.report(self.current, Progress::Failed, &cause.to_string())?;
        let stands = if is_there {
            Stands::Switched { why: "the old and the new password both open the door".into() }
        } else {
            self.roll_back().await?
        };
        Err(EnrolError::NotProven { address: self.asker.address(), cause, stands })
    }

    async fn switch_pinned(
        &mut self,
        pins: Pins,
        new: &NewPassword,
        goes_back: bool,
    ) -> Result<(), EnrolError> {
        self.begin(Step::Clock)?;
        let detail = self.asker.set_clock().await?;
        self.done(Step::Clock, &detail)?;
        self.begin(Step::Switch)?;
        let backlog: Command = pins.switch(self.with.broker, new).map_err(EnrolError::Target)?;
        self.asker.same_device(Step::Switch).await?;
        // Before it is sent: from now on the device may be anywhere.
        self.advance(DeviceState::Switched, None)?;
        self.send_switch(&backlog, goes_back).await
    }

    async fn prove_pinned(
        &mut self,
        pins: Pins,
        new: &NewPassword,
    ) -> Result<Result<Sighting, Cause>, EnrolError> {
        let broker = self.with.broker;
        let port = broker.pinned_port.unwrap_or(broker.port);
        self.begin(Step::Return)?;
        let mut gone = false;
        let back =
            self.asker.wait_back(|mqtt| mqtt.user == new.login && has_broker(mqtt, &broker.host, port, true));
        match back.await {
            Back::With => self.done(Step::Return, "")?,
            Back::Without => return Ok(Err(Cause::NotSwitched)),
            Back::Away(stranger) => {
                gone = true;
                self.report(Step::Return, Progress::Failed, &Back::away(stranger))?;
            }
        }
        if !gone {
            self.begin(Step::CheckPins)?;
            match self.asker.pins_wrong(pins).await {
                Ok(None) => self.done(Step::CheckPins, "")?,
                Ok(Some(why)) => return Ok(Err(Cause::Pins(why))),
                // It went away again. Without a look at the slots it is not proven.
                Err(error) => return Ok(Err(Cause::Pins(error.to_string()))),
            }
        }
        self.begin(Step::ProvePassword)?;
        match witness::see(self.with.witness, self.with.patience, &new.id, None).await {
            Ok(_) if gone => {
                let why =
                    "the broker saw it, but its console does not answer: its slots could not be read back";
                Ok(Err(Cause::Pins(why.into())))
            }
            Ok(sighting) => {
                self.done(Step::ProvePassword, &format!("{} from {}", sighting.client_id, sighting.address))?;
                Ok(Ok(sighting))
            }
            Err(error) => Ok(Err(match self.asker.cause(broker, error).await {
                Cause::Unknown(_) if gone => Cause::Gone,
                cause => cause,
            })),
        }
    }

    fn commit_pinned(
        &mut self,
        found: &Probe,
        id: &str,
        sighting: Sighting,
        already: bool,
    ) -> Result<(Device, Sighting, bool), EnrolError> {
        if sighting.client_id != found.topics.client_id {
            let (seen, own) = (&sighting.client_id, &found.topics.client_id);
            self.notes.push(format!("the broker saw client id {seen:?}, the device says {own:?}"));
        }
        self.begin(Step::Commit)?;
        // The others first: a kill in between leaves a device that is not proven yet, and no old password that opens.
        self.with.registry.settle_password(&self.request.name, id)?;
        let device = self.advance(DeviceState::Proven, Some(Rung::Pinned))?;
        self.done(Step::Commit, &format!("password {id}"))?;
        Ok((device, sighting, already))
    }

    /// Whether the broker sees the device with any of the passwords that it may have. A third of the time for a proof:
    /// it has not been restarted just now.
    async fn see_any(&mut self) -> Result<Option<(String, Sighting)>, EnrolError> {
        let (within, slice) = (self.with.patience.proof / 3, self.with.patience.poll_max);
        let passwords = self.with.registry.passwords_of(&self.request.name)?;
        self.begin(Step::ProvePassword)?;
        let until = Instant::now() + within;
        loop {
            for password in &passwords {
                let left = slice.min(until.saturating_duration_since(Instant::now()));
                let waiting = timeout(left + slice, self.with.witness.wait_for(&password.id, left));
                if let Ok(Ok(sighting)) = waiting.await {
                    let seen = format!("{} from {}", sighting.client_id, sighting.address);
                    self.done(Step::ProvePassword, &seen)?;
                    return Ok(Some((password.id.clone(), sighting)));
                }
            }
            if passwords.is_empty() || Instant::now() >= until {
                self.skipped(Step::ProvePassword, "not seen with an older password")?;
                return Ok(None);
            }
        }
    }
}
