//! The way back: a device that was not proven gets its old settings, and what is not so is not said.

use quoll_tasmota::Command;

use super::error::{EnrolError, Stands};
use super::pins::OldLogin;
use super::run::Run;
use super::switch::{Back, has_broker, rollback_commands};
use crate::device::{Device, DeviceState};
use crate::registry::journal::Progress;
use crate::registry::{PasswordState, RegistryError};
use crate::saved::SavedSettings;
use crate::step::Step;

/// Times that the old settings are sent: once more where the first Backlog was lost, or fell into a restart.
const ROLL_BACK_ROUNDS: u32 = 2;

impl Run<'_> {
    /// Gives the old settings back, and says where the device stands then.
    pub(super) async fn roll_back(&mut self) -> Result<Stands, EnrolError> {
        self.begin(Step::RollBack)?;
        match self.try_roll_back().await? {
            Ok(stands) => {
                self.advance(DeviceState::RolledBack, None)?;
                let detail = if stands == Stands::WithoutPassword { "without its MQTT password" } else { "" };
                self.done(Step::RollBack, detail)?;
                Ok(stands)
            }
            Err(why) => {
                self.report(Step::RollBack, Progress::Failed, &why)?;
                Ok(Stands::Switched { why })
            }
        }
    }

    async fn try_roll_back(&self) -> Result<Result<Stands, String>, EnrolError> {
        let name = &self.request.name;
        let Some(old) = self.with.registry.kept(name)?.0 else {
            return Ok(Err("it has no older settings that are known".into()));
        };
        let passwords = self.with.registry.passwords_of(name)?;
        // A password that was made and never seen may be on the device.
        let login = passwords.iter().any(|one| one.state == PasswordState::Pending).then(|| {
            let ours: Vec<&str> = passwords.iter().map(|one| one.login.as_str()).collect();
            OldLogin::of(&old, &ours, self.request.old_password.as_ref())
        });
        let lines = match rollback_commands(&old, login.as_ref()) {
            Ok(lines) => lines,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let mut round = 1;
        while let Err(why) = self.send_back(&lines, &old, login.as_ref()).await {
            if round == ROLL_BACK_ROUNDS {
                return Ok(Err(why));
            }
            round += 1;
        }
        Ok(Ok(match login {
            None => Stands::RolledBack,
            Some(OldLogin::Ours) => Stands::RolledBack,
            Some(login) => {
                self.with.registry.drop_pending_passwords(name)?;
                let lost = matches!(login, OldLogin::Lost);
                if lost { Stands::WithoutPassword } else { Stands::RolledBack }
            }
        }))
    }

    /// Sends the old settings, and waits until the device is back with them; else says why not.
    async fn send_back(
        &self,
        (alone, backlog): &(Vec<Command>, Command),
        old: &SavedSettings,
        login: Option<&OldLogin>,
    ) -> Result<(), String> {
        for line in alone {
            self.asker.change(Step::RollBack, line).await.map_err(|error| error.to_string())?;
        }
        self.asker.send_backlog(Step::RollBack, backlog).await.map_err(|error| error.to_string())?;
        let old_port = |port| if old.port > 1 { port == old.port } else { true };
        let old_user = |user: &str| login.is_none() || old.user.as_deref().is_none_or(|old| old == user);
        let back = self.asker.wait_back(|mqtt| {
            old_port(mqtt.port) && old_user(&mqtt.user) && has_broker(mqtt, &old.host, mqtt.port, old.tls)
        });
        match back.await {
            Back::With => Ok(()),
            Back::Without => Err("it did not take the old settings".into()),
            Back::Away(stranger) => Err(Back::away(stranger)),
        }
    }

    pub(super) async fn back_by_wish(mut self) -> Result<Device, EnrolError> {
        let found = self.asker.probe().await?;
        found.refuse_stranger(self.with.registry, self.request, self.known.as_ref())?;
        let device = self.device()?;
        if !device.state.may_become(DeviceState::RolledBack) {
            let (from, to) = (device.state, DeviceState::RolledBack);
            return Err(RegistryError::Transition { name: device.name, from, to }.into());
        }
        let stands = self.roll_back().await?;
        self.restore_logs().await?;
        match stands {
            Stands::RolledBack | Stands::WithoutPassword => self.device(),
            Stands::Switched { why } => Err(EnrolError::NotRolledBack { address: self.asker.address(), why }),
        }
    }
}
