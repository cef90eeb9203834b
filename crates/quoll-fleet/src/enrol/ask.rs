//! Asking a device: bounded in time, patient with a busy one, and each failure cut by what it means in this step.

use std::time::Duration;

use quoll_tasmota::{Command, ConsoleError, Refusal, Reply, ReplyError};
use tokio::time::{sleep, timeout};

use super::error::EnrolError;
use super::target::{DeviceConsole, Patience};
use crate::step::Step;

/// A console with patience.
pub(crate) struct Asker<'a> {
    pub(crate) console: &'a dyn DeviceConsole,
    pub(crate) patience: Patience,
}

impl Asker<'_> {
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
