//! What an enrolment aims at, and how long it waits.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use quoll_tasmota::{Console, ConsoleError, HttpConsole, Mac};
use serde::{Deserialize, Serialize};

use zeroize::Zeroizing;

use crate::device::{Address, DeviceName};
use crate::limits;

/// The broker a device is to use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BrokerTarget {
    /// Host name or IP address, as the device is to know it: a SAN dNSName of the server's certificate (facts §3.3).
    pub host: String,
    /// Its port for mutual TLS.
    pub port: u16,
    /// Kind of the CA's and the server's keys.
    pub ca_kind: CaKind,
    /// Fingerprint of the server's key, for devices that can only pin it (facts §4.1). All zero where the server's key
    /// is none that a device can pin (EC): then no device is pinned.
    pub server_fingerprint: [u8; 20],
    /// Its port for pinned devices: TLS, no client certificate asked for, user and password. `None`: it has none.
    pub pinned_port: Option<u16>,
}

/// Which rung is wanted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WantedRung {
    /// The highest that the firmware can do; never lower than the device was proven on.
    #[default]
    Auto,
    /// TLS with a pinned server key and a password, also where a certificate would be possible.
    Pinned,
    /// TLS with a certificate on both sides, or nothing.
    Mutual,
}

crate::device::words!(WantedRung { Auto = "auto", Pinned = "pinned", Mutual = "mutual" });

/// The password that a device has at its old broker. A device shows it to nobody, so it can only be given back by whoever
/// knows it.
#[derive(Clone, Eq, PartialEq)]
pub struct OldPassword(pub Zeroizing<String>);

impl fmt::Debug for OldPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OldPassword(****)")
    }
}

/// What a device needs for checking the broker's chain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CaKind {
    /// RSA: `SetOption165 0`.
    Rsa,
    /// EC P-256: `SetOption165 1`, firmware 15.1.0.1 or later.
    Ec,
}

/// What is to be enrolled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EnrolRequest {
    /// The name it gets.
    pub name: DeviceName,
    /// Where its web console is.
    pub address: Address,
    /// Replace a key on the device that is not from us. It cannot be read back, so it is lost.
    pub replace_key: bool,
    /// Accept topics that overlap with another device's; each can then speak for the other.
    pub share_topics: bool,
    /// The rung it is to reach.
    pub rung: WantedRung,
    /// On the pinned rung: give it a new password even if it has one that works.
    pub new_password: bool,
    /// On the pinned rung: its password at its old broker, for the way back.
    pub old_password: Option<OldPassword>,
    /// On the pinned rung: do without that password; on the way back it is then to be typed in by hand.
    pub lose_old_password: bool,
    /// The device that is meant, where that is known: whoever else answers at the address is refused.
    pub mac: Option<Mac>,
}

impl EnrolRequest {
    /// With the careful answer to every question.
    #[must_use]
    pub fn new(name: DeviceName, address: Address) -> Self {
        Self {
            name,
            address,
            replace_key: false,
            share_topics: false,
            rung: WantedRung::Auto,
            new_password: false,
            old_password: None,
            lose_old_password: false,
            mac: None,
        }
    }
}

/// How long an enrolment waits for what. The defaults are those of [`crate::limits`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Patience {
    /// For one answer of the console.
    pub ask: Duration,
    /// Attempts at a question that is not answered.
    pub attempts: u32,
    /// First pause between them, doubled each time.
    pub pause: Duration,
    /// For the device's return after a restart.
    pub back: Duration,
    /// First pause while waiting for it, doubled up to `poll_max`.
    pub poll: Duration,
    /// Longest pause while waiting for it.
    pub poll_max: Duration,
    /// For the broker to see the certificate.
    pub proof: Duration,
    /// For the broker's port to answer; `None`: do not look.
    pub broker: Option<Duration>,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            ask: limits::ASK_PATIENCE,
            attempts: limits::ASK_ATTEMPTS,
            pause: limits::ASK_PAUSE,
            back: limits::RETURN_PATIENCE,
            poll: limits::RETURN_PAUSE,
            poll_max: limits::RETURN_PAUSE_MAX,
            proof: limits::PROOF_PATIENCE,
            broker: Some(limits::BROKER_PATIENCE),
        }
    }
}

/// A console that also shows its log: what an enrolment talks to.
#[async_trait]
pub trait DeviceConsole: Console {
    /// The lines the device's web log still has, oldest first.
    ///
    /// # Errors
    /// As [`Console::ask`].
    async fn log_lines(&self) -> Result<Vec<String>, ConsoleError>;
}

#[async_trait]
impl DeviceConsole for HttpConsole {
    async fn log_lines(&self) -> Result<Vec<String>, ConsoleError> {
        Ok(self.log(0).await?.lines)
    }
}

/// The HTTP console at an address.
#[must_use]
pub fn http_console(address: &Address, web_password: Option<&str>) -> HttpConsole {
    let host = address.host().trim_matches(['[', ']']);
    let console = HttpConsole::new(host, address.port().unwrap_or(80));
    match web_password {
        Some(password) => console.with_password(password),
        None => console,
    }
}
