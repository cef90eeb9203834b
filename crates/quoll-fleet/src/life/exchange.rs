//! What a change does on the device: key and certificate onto it, a restart, the broker's word; and the old key back where
//! that word does not come.
//!
//! What it is not: the order of a change, its certificates and its journal (`change`).

use quoll_tasmota::{Command, Setting, Stored};

use super::change::Run;
use super::error::{After, LifeError};
use super::replace::retire_one;
use crate::device::Topics;
use crate::enrol::{
    Back, Cargo, Cause, EnrolError, KEY_UNDER_WAY, PUSH_ROUNDS, Probe, TlsAbility, has_broker, push,
};
use crate::issuer::DeviceCredential;
use crate::registry::changes::{Change, Stage};
use crate::registry::journal::Progress;
use crate::step::Step;
use crate::witness::{self, Sighting};

impl Run<'_> {
    /// From the key to the broker's word.
    pub(super) async fn push_and_prove(
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
            registry.note_problem(&self.device.name, Some(KEY_UNDER_WAY))?;
            registry.advance_change(&self.device.name, Stage::Pushing)?;
            self.quiet_logs(found).await?;
            push(self, &cargo).await?;
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
        let stands = self.put_back(old, topic.is_some()).await?;
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
                self.asker.send_backlog(Step::Rename, &restart_under(topics)?).await?;
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
            Back::Away(stranger) => {
                gone = true;
                self.report(Step::Return, Progress::Failed, &Back::away(stranger))?;
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
        old: Option<&DeviceCredential>,
        topic_changed: bool,
    ) -> Result<After, LifeError> {
        self.begin(Step::PutBack)?;
        let Some(old) = old else {
            let why = "the old key is not at hand".to_owned();
            self.report(Step::PutBack, Progress::Failed, &why)?;
            return Ok(After::Ahead { why });
        };
        let after = match self.try_put_back(old, topic_changed).await {
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
            let name = self.to.unwrap_or(&self.device.name);
            if let Err(error) = retire_one(self.with.registry, self.with.issuer, name, &serial).await {
                tracing::warn!(device = %self.device.name, %error, "the next run sees to that");
            }
            self.with.witness.ready().await.ok();
        }
        self.done(Step::PutBack, &old.serial)?;
        Ok(after)
    }

    async fn try_put_back(
        &mut self,
        old: &DeviceCredential,
        topic_changed: bool,
    ) -> Result<After, LifeError> {
        let cargo = Cargo::new(old)?;
        let mut round = 1;
        loop {
            self.asker.push_key(&cargo).await?;
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
            restart_under(&self.device.topics)?
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

    async fn quiet_logs(&mut self, found: &Probe) -> Result<(), LifeError> {
        self.begin(Step::QuietLogs)?;
        self.with.registry.keep_log_levels(&self.device.name, &found.logs)?;
        self.asker.quiet_logs(&found.logs).await?;
        self.done(Step::QuietLogs, "")
    }
}

/// A restart under this topic.
fn restart_under(topics: &Topics) -> Result<Command, EnrolError> {
    let topic = Command::set(Setting::Topic, &topics.topic).map_err(EnrolError::Target)?;
    Command::backlog(&[topic, Command::restart()]).map_err(EnrolError::Target)
}
