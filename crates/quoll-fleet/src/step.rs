//! The steps of an enrolment, and how a caller watches them.

use crate::device::words;
use crate::registry::journal::Progress;

/// One step of an enrolment, in the order in which they are taken.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Step {
    /// Ask the device what it is and what it can do. Changes nothing.
    Probe,
    /// Check that the broker listens, before a device is pointed at it.
    Broker,
    /// Write the device into the registry, with its present settings.
    Register,
    /// Issue the certificate, or find the one issued before.
    Certificate,
    /// Make a password, for the pinned rung.
    Password,
    /// Turn the device's logs down, since they would show the key.
    QuietLogs,
    /// TLSKey1: the private key.
    PushKey,
    /// TLSKey2: the certificate.
    PushCertificate,
    /// Ask for the stored lengths.
    ReadBack,
    /// Check the device's clock, set it if it is wrong.
    Clock,
    /// One Backlog: TLS on, our broker's host and port.
    Switch,
    /// Wait until the device is back from its restart.
    Return,
    /// Read the pinned fingerprints back: a device refuses nothing, and a slot of zeros accepts any server.
    CheckPins,
    /// Wait until the broker saw this very certificate.
    Prove,
    /// Wait until the broker saw this very password.
    ProvePassword,
    /// Give the device its old settings back.
    RollBack,
    /// Turn the logs up again.
    RestoreLogs,
    /// Note the result.
    Commit,
    /// Restart the device, so that it comes with its new key.
    Restart,
    /// Give the device its new topic, and with that a restart.
    Rename,
    /// Give the device its old key back.
    PutBack,
    /// Void the old certificate.
    Retire,
}

words!(Step {
    Probe = "probe",
    Broker = "broker",
    Register = "register",
    Certificate = "certificate",
    Password = "password",
    QuietLogs = "quiet-logs",
    PushKey = "push-key",
    PushCertificate = "push-certificate",
    ReadBack = "read-back",
    Clock = "clock",
    Switch = "switch",
    Return = "return",
    CheckPins = "check-pins",
    Prove = "prove",
    ProvePassword = "prove-password",
    RollBack = "roll-back",
    RestoreLogs = "restore-logs",
    Commit = "commit",
    Restart = "restart",
    Rename = "rename",
    PutBack = "put-back",
    Retire = "retire",
});

impl Step {
    /// What it does, in a few words for a person.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Probe => "ask the device what it can do",
            Self::Broker => "check that the broker listens",
            Self::Register => "register the device",
            Self::Certificate => "issue a certificate",
            Self::Password => "make a password",
            Self::QuietLogs => "turn the device's logs down",
            Self::PushKey => "store the key (TLSKey1)",
            Self::PushCertificate => "store the certificate (TLSKey2)",
            Self::ReadBack => "check the stored lengths",
            Self::Clock => "check the device's clock",
            Self::Switch => "point the device at the broker",
            Self::Return => "wait for its restart",
            Self::CheckPins => "check the pinned key and the options",
            Self::Prove => "wait until the broker saw the certificate",
            Self::ProvePassword => "wait until the broker saw the password",
            Self::RollBack => "give the old settings back",
            Self::RestoreLogs => "turn the logs up again",
            Self::Commit => "note the result",
            Self::Restart => "restart it with its new key",
            Self::Rename => "give it its new topic",
            Self::PutBack => "give the old key back",
            Self::Retire => "void the old certificate",
        }
    }
}

/// What is happening with a step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StepState {
    /// It begins.
    Begun,
    /// It is done; particulars, or empty.
    Done(String),
    /// It is not needed; why.
    Skipped(String),
    /// It failed; why. The error that ends the enrolment says more.
    Failed(String),
}

impl StepState {
    /// What the journal notes, as those who watch hear it.
    pub(crate) fn of(progress: Progress, detail: &str) -> Self {
        let detail = detail.to_owned();
        match progress {
            Progress::Begun => Self::Begun,
            Progress::Done => Self::Done(detail),
            Progress::Skipped => Self::Skipped(detail),
            Progress::Failed => Self::Failed(detail),
        }
    }
}

/// Somebody who watches an enrolment: the command line prints one line per step, the web page sends an event.
pub trait Reporter: Send + Sync {
    /// A step changed. Called from the enrolment's task: must not block.
    fn step(&self, step: Step, state: StepState);
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn step(&self, _: Step, _: StepState) {}
}
