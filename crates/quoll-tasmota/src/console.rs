//! The console of a device, by whatever road: one question, one answer.
//!
//! [`crate::http_console`] and [`crate::serial_console`] are the roads; the virtual device answers in memory, so that
//! enrolment can be tested without a socket. Errors are cut by what the one who asks can do about them.

use async_trait::async_trait;

use crate::{
    command::Command,
    reply::{Reply, ReplyError},
};

/// Somebody who answers console commands.
#[async_trait]
pub trait Console: Send + Sync {
    /// Sends one command and waits for its answer. `Ok` says that the device answered, not that it agreed: see
    /// [`Reply::refusal`].
    ///
    /// # Errors
    /// Nothing that can be read as a Tasmota's answer came back. Whether the command was carried out is then unknown
    /// for `Timeout`, `Broken` and `Malformed`.
    async fn ask(&self, command: &Command) -> Result<Reply, ConsoleError>;

    /// Where the device is, for messages: `192.0.2.7:80`.
    fn address(&self) -> String;
}

/// Why there is no answer. Holds no command text and no URL: they may carry a key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConsoleError {
    /// No name, no route, nobody on the port.
    #[error("{address} cannot be reached: {why}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// The operating system's word.
        why: String,
    },
    /// Connected or not, no complete answer in time.
    #[error("{address} did not answer within {seconds} s")]
    Timeout {
        /// Host and port.
        address: String,
        /// How long we waited.
        seconds: u64,
    },
    /// 401.
    #[error("{address} wants another web password")]
    Unauthorized {
        /// Host and port.
        address: String,
        /// Whether one was sent.
        sent: bool,
    },
    /// Closed without an HTTP answer: SetOption128 is 0 and our Referer did not satisfy it.
    #[error("{address} closed the connection without an answer")]
    RefererDenied {
        /// Host and port.
        address: String,
    },
    /// Something else listens there.
    #[error("{address} is not a Tasmota: {seen}")]
    NotTasmota {
        /// Host and port.
        address: String,
        /// What was seen instead: the Server header or the status.
        seen: String,
    },
    /// The HTML main page came instead of JSON: `WebServer 1`.
    #[error("{address} answers with its main page: its web server is in user mode")]
    UserMode {
        /// Host and port.
        address: String,
    },
    /// The command is longer than this console takes. Nothing was sent.
    #[error("the command has {chars} characters, the console takes {limit}")]
    TooLong {
        /// Its length.
        chars: usize,
        /// The limit.
        limit: usize,
    },
    /// A serial line carries ASCII only. Nothing was sent.
    #[error("the serial console of {address} takes plain ASCII only, and {keyword} has other characters")]
    NotAscii {
        /// The port.
        address: String,
        /// The command.
        keyword: String,
    },
    /// `{"WARNING":"Enter command cmnd="}`.
    #[error("{address} saw an empty command")]
    EmptyCommand {
        /// Host and port.
        address: String,
    },
    /// The connection broke in the middle of the answer.
    #[error("the connection to {address} broke: {why}")]
    Broken {
        /// Host and port.
        address: String,
        /// What broke.
        why: String,
    },
    /// The serial port cannot be opened: not there, not ours, in use, or no serial port.
    #[error("the serial port {path} cannot be used: {why}")]
    Port {
        /// Its path.
        path: String,
        /// The operating system's word.
        why: String,
    },
    /// An answer from a Tasmota that is no JSON object.
    #[error("the answer of {address} makes no sense: {why}")]
    Malformed {
        /// Host and port.
        address: String,
        /// Why not.
        why: ReplyError,
    },
}

impl ConsoleError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { .. } => {
                "check the address, that the device has power and Wi-Fi, and that its web server is on (WebServer 2)"
                    .into()
            }
            Self::Timeout { .. } => "try again; a device in the middle of a restart needs up to 15 s".into(),
            Self::Unauthorized { sent: false, .. } => {
                "give the device's web password (the one set with WebPassword)".into()
            }
            Self::Unauthorized { sent: true, .. } => "the web password is another one; the user is always admin".into(),
            Self::RefererDenied { .. } => {
                "use the device's own IP address or host name, or set SetOption128 1 on it".into()
            }
            Self::NotTasmota { .. } => "check the address; nothing was sent to it but a harmless question".into(),
            Self::UserMode { .. } => "set WebServer 2 on the device (over MQTT or its serial console)".into(),
            Self::NotAscii { .. } => "set it on the device's web page, or choose another value".into(),
            Self::TooLong { .. } => "send shorter values, or several commands".into(),
            Self::EmptyCommand { .. } | Self::Malformed { .. } => {
                "look at the device's own web console; its firmware may be very old".into()
            }
            Self::Port { .. } => {
                "check the path and that no other program has it open; your user must be in the group that owns it \
                 (often dialout)"
                    .into()
            }
            Self::Broken { .. } => "ask the device what it has stored, then try again".into(),
        })
    }

    /// Whether waiting and asking again may help: the device restarts, sleeps, or is busy.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Timeout { .. } | Self::Broken { .. })
    }
}
