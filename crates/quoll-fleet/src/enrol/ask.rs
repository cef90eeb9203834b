//! Asking a device: bounded in time, patient with a busy one, and each failure cut by what it means in this step. What
//! changes a device goes to the one that was asked first, and to no other that has come to its address since.

use std::sync::OnceLock;
use std::time::Duration;

use quoll_tasmota::{Command, ConsoleError, Mac, Refusal, Reply, ReplyError, SetOption, Setting, StatusPage};
use tokio::time::{sleep, timeout};

use super::error::EnrolError;
use super::target::{DeviceConsole, Patience};
use crate::step::Step;

/// A console with patience, and a memory for who answers there.
pub(crate) struct Asker<'a> {
    pub(crate) console: &'a dyn DeviceConsole,
    pub(crate) patience: Patience,
    /// Who answered the probe, or is to answer. Nothing is changed on anybody else.
    pub(super) who: OnceLock<Mac>,
}

impl<'a> Asker<'a> {
    /// One that takes whoever answers the probe.
    pub(crate) fn new(console: &'a dyn DeviceConsole, patience: Patience) -> Self {
        Self { console, patience, who: OnceLock::new() }
    }

    /// One for this device and no other.
    pub(crate) fn of(console: &'a dyn DeviceConsole, patience: Patience, mac: Mac) -> Self {
        Self { console, patience, who: OnceLock::from(mac) }
    }

    /// An address is lent: after a restart, or in the middle of a run, another device may answer there. Asked right before
    /// each change.
    ///
    /// # Errors
    /// [`EnrolError::Stranger`].
    pub(crate) async fn same_device(&self, step: Step) -> Result<(), EnrolError> {
        let Some(&registered) = self.who.get() else { return Ok(()) };
        let network = self.ask(step, &Command::status(StatusPage::Network)).await?;
        let found = network.network().map_err(|why| self.answer(step, why))?.mac;
        if found == registered {
            return Ok(());
        }
        Err(EnrolError::Stranger { address: self.address(), step, registered, found })
    }

    /// The same in one attempt: the stranger, where one answers.
    pub(crate) async fn stranger(&self) -> Option<Mac> {
        let registered = *self.who.get()?;
        let network = self.once(&Command::status(StatusPage::Network)).await.ok()?.network().ok()?;
        (network.mac != registered).then_some(network.mac)
    }

    /// As [`Self::tell`], to the device that was asked first and to no other.
    pub(crate) async fn change(&self, step: Step, command: &Command) -> Result<Reply, EnrolError> {
        self.same_device(step).await?;
        self.tell(step, command).await
    }

    /// One attempt. A console that never answers is a timeout, whatever it does by itself.
    pub(crate) async fn once(&self, command: &Command) -> Result<Reply, ConsoleError> {
        let silence = || ConsoleError::Timeout { address: self.address(), seconds: self.seconds() };
        timeout(self.patience.ask, self.console.ask(command)).await.unwrap_or_else(|_| Err(silence()))
    }

    /// Several attempts, with pauses that double. For commands that may be sent twice.
    pub(crate) async fn ask(&self, step: Step, command: &Command) -> Result<Reply, EnrolError> {
        let mut pauses = pauses(self.patience.pause, self.patience.pause * 16);
        let mut attempt = 1;
        loop {
            match self.once(command).await {
                Ok(reply) => return Ok(reply),
                Err(error) if attempt < self.patience.attempts && may_pass(step, &error) => {
                    attempt += 1;
                    sleep(pauses.next().unwrap_or(self.patience.pause)).await;
                }
                Err(error) => return Err(self.verdict(step, error)),
            }
        }
    }

    /// As [`Self::ask`]; the device must not refuse.
    pub(crate) async fn tell(&self, step: Step, command: &Command) -> Result<Reply, EnrolError> {
        let reply = self.ask(step, command).await?;
        match reply.refusal() {
            None => Ok(reply),
            Some(Refusal::Unknown | Refusal::Error) => Err(self.refused(step, command)),
        }
    }

    /// An option, by the device's own words for off and on where the answer has others than the factory's.
    pub(crate) async fn option(
        &self,
        step: Step,
        option: SetOption,
    ) -> Result<Result<bool, ReplyError>, EnrolError> {
        let reply = self.ask(step, &Command::ask_option(option)).await?;
        let told = reply.option(option);
        if !matches!(told, Err(ReplyError::Shape { .. })) {
            return Ok(told);
        }
        let mut words = [String::new(), String::new()];
        for (setting, word) in [Setting::StateText1, Setting::StateText2].into_iter().zip(&mut words) {
            match self.ask(step, &Command::ask(setting)).await?.setting(setting) {
                Ok(text) => *word = text,
                Err(_) => return Ok(told),
            }
        }
        Ok(reply.option_in(option, words.each_ref().map(String::as_str)))
    }

    pub(crate) fn refused(&self, step: Step, command: &Command) -> EnrolError {
        EnrolError::Refused { address: self.address(), step, command: command.to_string() }
    }

    pub(crate) fn answer(&self, step: Step, why: ReplyError) -> EnrolError {
        EnrolError::Answer { address: self.address(), step, why }
    }

    pub(crate) fn address(&self) -> String {
        self.console.address()
    }

    fn verdict(&self, step: Step, error: ConsoleError) -> EnrolError {
        match error {
            ConsoleError::Unauthorized { address, sent } => EnrolError::WebPassword { address, sent },
            ConsoleError::NotTasmota { address, seen } => EnrolError::NotTasmota { address, seen },
            error if step != Step::Probe && may_pass(step, &error) => {
                EnrolError::WentAway { address: self.address(), step, why: error.to_string() }
            }
            ConsoleError::Unreachable { address, why } | ConsoleError::Broken { address, why } => {
                EnrolError::Unreachable { address, why }
            }
            ConsoleError::Timeout { address, seconds } => EnrolError::Hangs { address, seconds },
            other => EnrolError::Console(other),
        }
    }

    fn seconds(&self) -> u64 {
        self.patience.ask.as_secs().max(1)
    }
}

/// A device that dies in the middle of an exchange closes without an answer, which looks like a Referer refused; at
/// the first question it is taken for what it says.
fn may_pass(step: Step, error: &ConsoleError) -> bool {
    error.may_pass() || (step != Step::Probe && matches!(error, ConsoleError::RefererDenied { .. }))
}

/// Pauses that double up to a limit.
pub(crate) fn pauses(first: Duration, most: Duration) -> impl Iterator<Item = Duration> + Send {
    std::iter::successors(Some(first), move |pause| Some((*pause * 2).min(most)))
}
