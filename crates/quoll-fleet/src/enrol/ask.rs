//! Asking a device: bounded in time, patient with a busy one, and each failure cut by what it means in this step. What
//! changes a device goes to the one that was asked first, and to no other that has come to its address since.

use std::sync::OnceLock;
use std::time::Duration;

use quoll_tasmota::{Command, ConsoleError, Mac, Refusal, Reply, ReplyError, SetOption, Setting, StatusPage};
use tokio::time::{sleep, timeout};

use super::error::EnrolError;
use super::target::{DeviceConsole, Patience};
use crate::step::Step;

/// The factory's word for on. A device whose word for off it is has exchanged the two.
const FACTORY_ON: &str = "ON";

/// A console with patience, and a memory for who answers there.
pub(crate) struct Asker<'a> {
    pub(crate) console: &'a dyn DeviceConsole,
    pub(crate) patience: Patience,
    /// Who answered the probe, or is to answer. Nothing is changed on anybody else.
    pub(super) who: OnceLock<Mac>,
    /// Its word for off, once it was asked; `None` where it has no such setting.
    off: OnceLock<Option<String>>,
}

impl<'a> Asker<'a> {
    /// One that takes whoever answers the probe.
    pub(crate) fn new(console: &'a dyn DeviceConsole, patience: Patience) -> Self {
        Self { console, patience, who: OnceLock::new(), off: OnceLock::new() }
    }

    /// One for this device and no other.
    pub(crate) fn of(console: &'a dyn DeviceConsole, patience: Patience, mac: Mac) -> Self {
        Self { console, patience, who: OnceLock::from(mac), off: OnceLock::new() }
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
        self.hand(step, command).await
    }

    /// As [`Self::tell`], for what changes a device, by those who have just looked who is there. Before another attempt it
    /// is looked again: a device that went away in the middle may have left its address to somebody else.
    pub(super) async fn hand(&self, step: Step, command: &Command) -> Result<Reply, EnrolError> {
        self.heard(step, command, self.attempt(step, command, true).await?)
    }

    /// One attempt. A console that never answers is a timeout, whatever it does by itself.
    pub(crate) async fn once(&self, command: &Command) -> Result<Reply, ConsoleError> {
        let silence = || ConsoleError::Timeout { address: self.address(), seconds: self.seconds() };
        timeout(self.patience.ask, self.console.ask(command)).await.unwrap_or_else(|_| Err(silence()))
    }

    /// Several attempts, with pauses that double. For commands that may be sent twice.
    pub(crate) async fn ask(&self, step: Step, command: &Command) -> Result<Reply, EnrolError> {
        self.attempt(step, command, false).await
    }

    async fn attempt(&self, step: Step, command: &Command, changes: bool) -> Result<Reply, EnrolError> {
        let mut pauses = pauses(self.patience.pause, self.patience.pause * 16);
        let mut attempt = 1;
        loop {
            match self.once(command).await {
                Ok(reply) => return Ok(reply),
                Err(error) if attempt < self.patience.attempts && may_pass(step, &error) => {
                    attempt += 1;
                    sleep(pauses.next().unwrap_or(self.patience.pause)).await;
                    if changes {
                        Box::pin(self.same_device(step)).await?;
                    }
                }
                Err(error) => return Err(self.verdict(step, error)),
            }
        }
    }

    /// As [`Self::ask`]; the device must not refuse.
    pub(crate) async fn tell(&self, step: Step, command: &Command) -> Result<Reply, EnrolError> {
        self.heard(step, command, self.ask(step, command).await?)
    }

    fn heard(&self, step: Step, command: &Command, reply: Reply) -> Result<Reply, EnrolError> {
        match reply.refusal() {
            None => Ok(reply),
            Some(Refusal::Unknown | Refusal::Error) => Err(self.refused(step, command)),
        }
    }

    /// An option, by the device's own words for off and on where the answer has others than the factory's, or where those
    /// were exchanged: then ON is off.
    pub(crate) async fn option(
        &self,
        step: Step,
        option: SetOption,
    ) -> Result<Result<bool, ReplyError>, EnrolError> {
        let reply = self.ask(step, &Command::ask_option(option)).await?;
        let told = reply.option(option);
        if !matches!(told, Ok(_) | Err(ReplyError::Shape { .. })) {
            return Ok(told);
        }
        let Some(off) = self.off(step).await? else { return Ok(told) };
        if told.is_ok() && off != FACTORY_ON {
            return Ok(told);
        }
        match self.ask(step, &Command::ask(Setting::StateText2)).await?.setting(Setting::StateText2) {
            Ok(on) => Ok(reply.option_in(option, [&off, &on])),
            Err(_) => Ok(told),
        }
    }

    /// Its word for off, asked once; `None` where it has none of its own.
    async fn off(&self, step: Step) -> Result<Option<String>, EnrolError> {
        if let Some(known) = self.off.get() {
            return Ok(known.clone());
        }
        let word = self.ask(step, &Command::ask(Setting::StateText1)).await?.setting(Setting::StateText1);
        Ok(self.off.get_or_init(|| word.ok()).clone())
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
