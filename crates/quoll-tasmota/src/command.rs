//! Console commands as values: what can be written down here, a device understands as we mean it.
//!
//! A command is checked when it is made. What would break the console line, or mean something else to a device (`0`,
//! `1` and `2` clear or reset a text setting, `?` asks for it), is refused. The text of a command that carries a secret
//! is zeroised on drop and never shown: `Display` and `Debug` write `TLSKey1 ****`. Facts §1.2, §1.4, §2, §7.5.
//! Sending is [`crate::console`]'s business, understanding the answer [`crate::reply`]'s.

use std::fmt;

use zeroize::Zeroizing;

use crate::{
    fingerprint::{Fingerprint, Slot},
    limits::COMMAND_CHARS,
    setting::{Kind, SetOption, Setting},
    tls_key::{TlsKey1, TlsKey2},
};

/// One console line, ready to send.
#[derive(Clone, Eq, PartialEq)]
pub struct Command {
    text: Zeroizing<String>,
    shown: String,
    secret: bool,
    restarts: bool,
}

/// Pages of `Status` we read. Facts §7.2.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum StatusPage {
    /// `Status 1`: why it restarted, how often it booted.
    Parameters = 1,
    /// `Status 2`: version, build, hardware.
    Firmware = 2,
    /// `Status 4`: heap and compiled features.
    Memory = 4,
    /// `Status 5`: host name, addresses, MAC.
    Network = 5,
    /// `Status 6`: MQTT settings and connection count. Answers Error while MQTT is off.
    Mqtt = 6,
    /// `Status 7`: the clock.
    Time = 7,
    /// `Status 11`: the running state, as in tele/STATE.
    State = 11,
}

/// Which of the two fingerprint slots.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum FingerprintSlot {
    /// `MqttFingerprint1`.
    One = 1,
    /// `MqttFingerprint2`.
    Two = 2,
}

impl Command {
    /// `Status n`.
    #[must_use]
    pub fn status(page: StatusPage) -> Self {
        Self::plain(format!("Status {}", page as u8))
    }

    /// `TLSKey`: what is stored? Also the probe for the feature; to be asked before any key is sent (facts §0.4).
    #[must_use]
    pub fn tls_key() -> Self {
        Self::plain("TLSKey".into())
    }

    /// `TLSKey1 <base64>`: stores the private key. Secret.
    #[must_use]
    pub fn tls_key1(key: &TlsKey1) -> Self {
        let base64 = key.base64();
        Self {
            secret: true,
            ..Self::shown_as(Zeroizing::new(format!("TLSKey1 {}", *base64)), "TLSKey1 ****")
        }
    }

    /// `TLSKey2 <base64>`: stores the certificate. To be sent after TLSKey1.
    #[must_use]
    pub fn tls_key2(certificate: &TlsKey2) -> Self {
        let shown = format!("TLSKey2 (certificate, {} bytes)", certificate.der().len());
        Self::shown_as(Zeroizing::new(format!("TLSKey2 {}", certificate.base64())), &shown)
    }

    /// `TLSKey1 0`: erases key and certificate. On an ESP32 the RAM copy lives on until a restart (facts §1.3).
    #[must_use]
    pub fn erase_tls_key() -> Self {
        Self::plain("TLSKey1 0".into())
    }

    /// `MqttTLS`: exists only in firmware with TLS, so an answer of Unknown says there is none. Facts §7.3.
    #[must_use]
    pub fn mqtt_tls() -> Self {
        Self::plain("MqttTLS".into())
    }

    /// Asks for a setting. A secret one answers `****`.
    #[must_use]
    pub fn ask(setting: Setting) -> Self {
        Self::plain(setting.name().into())
    }

    /// Sets a setting.
    ///
    /// # Errors
    /// The value would not arrive as written, see [`CommandError`].
    pub fn set(setting: Setting, value: &str) -> Result<Self, CommandError> {
        setting.check(value)?;
        Ok(Self::setting_line(setting, value))
    }

    /// As [`Self::set`], for a line of its own, where a semicolon or a brace is a character like any other: a Backlog alone
    /// reads them otherwise (facts §2), and refuses this one then ([`Self::fits_a_backlog`]).
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn set_alone(setting: Setting, value: &str) -> Result<Self, CommandError> {
        setting.check_alone(value)?;
        Ok(Self::setting_line(setting, value))
    }

    fn setting_line(setting: Setting, value: &str) -> Self {
        let name = setting.name();
        let text = Zeroizing::new(format!("{name} {value}"));
        let secret = setting.kind() == Kind::Secret;
        let shown = if secret { format!("{name} ****") } else { text.to_string() };
        Self { secret, restarts: setting.restarts(), ..Self::shown_as(text, &shown) }
    }

    /// Empties a host, user, password or name (`MqttUser 0`); puts a topic, client id or number back to the factory's
    /// value (`Topic 1`, `MqttPort 1`, `WebLog 2`).
    #[must_use]
    pub fn clear(setting: Setting) -> Self {
        let text = format!("{} {}", setting.name(), setting.clearing());
        Self { restarts: setting.restarts(), ..Self::plain(text) }
    }

    /// `MqttPassword 1`: the password that is compiled in, `DVES_PASS` from the factory.
    #[must_use]
    pub fn factory_password() -> Self {
        Self { restarts: true, ..Self::plain("MqttPassword 1".into()) }
    }

    /// `SetOptionN`: asks.
    #[must_use]
    pub fn ask_option(option: SetOption) -> Self {
        Self::plain(option.name())
    }

    /// `SetOptionN 0|1`.
    #[must_use]
    pub fn set_option(option: SetOption, on: bool) -> Self {
        Self { restarts: option.restarts(), ..Self::plain(format!("{} {}", option.name(), u8::from(on))) }
    }

    /// `MqttFingerprintN`: asks.
    #[must_use]
    pub fn ask_fingerprint(slot: FingerprintSlot) -> Self {
        Self::plain(format!("MqttFingerprint{}", slot as u8))
    }

    /// `MqttFingerprintN <20 bytes>`: pins a server key.
    #[must_use]
    pub fn set_fingerprint(slot: FingerprintSlot, fingerprint: &Fingerprint) -> Self {
        Self { restarts: true, ..Self::plain(format!("MqttFingerprint{} {fingerprint}", slot as u8)) }
    }

    /// `MqttFingerprintN <20 bytes>` with what the slot held before, whatever that was. For giving a device back as it
    /// was found, and for nothing else: a slot of zeros accepts any server.
    #[must_use]
    pub fn restore_fingerprint(slot: FingerprintSlot, held: &Slot) -> Self {
        Self { restarts: true, ..Self::plain(format!("MqttFingerprint{} {held}", slot as u8)) }
    }

    /// `Time <seconds>`: sets the clock (UTC seconds since 1970) and stops NTP until [`Self::time_by_ntp`]. Facts §3.3.
    ///
    /// # Errors
    /// Before 2016 the device takes no time as valid; beyond 32 bits it has no number.
    pub fn time(utc_seconds: u64) -> Result<Self, CommandError> {
        const YEAR_2016: u64 = 1_451_606_400;
        if !(YEAR_2016..=u64::from(u32::MAX)).contains(&utc_seconds) {
            return Err(CommandError::OutOfRange {
                name: "Time",
                least: YEAR_2016,
                most: u64::from(u32::MAX),
            });
        }
        Ok(Self::plain(format!("Time {utc_seconds}")))
    }

    /// `Time 0`: the clock follows NTP again.
    #[must_use]
    pub fn time_by_ntp() -> Self {
        Self::plain("Time 0".into())
    }

    /// `Restart 1`: saves the settings and restarts after about two seconds.
    #[must_use]
    pub fn restart() -> Self {
        Self { restarts: true, ..Self::plain("Restart 1".into()) }
    }

    /// `Backlog a; b; c`: runs them one after the other and restarts at most once, after the last. Over HTTP the
    /// answer is `{}`, the commands' own answers are not in it. Facts §2.
    ///
    /// # Errors
    /// None at all, one inside another, longer than a console line, or a brace or semicolon in a value (a semicolon ends
    /// the command, a brace hides the semicolons after it from the device).
    pub fn backlog(commands: &[Self]) -> Result<Self, CommandError> {
        if commands.is_empty() {
            return Err(CommandError::EmptyBacklog);
        }
        let mut text = Zeroizing::new(String::with_capacity(COMMAND_CHARS));
        text.push_str("Backlog ");
        for (index, command) in commands.iter().enumerate() {
            if command.keyword() == "Backlog" {
                return Err(CommandError::NestedBacklog);
            }
            if !command.fits_a_backlog() {
                return Err(CommandError::BraceInBacklog { keyword: command.keyword().into() });
            }
            let separator = if index == 0 { "" } else { "; " };
            let chars = text.len() + separator.len() + command.text.len();
            if chars > COMMAND_CHARS {
                return Err(CommandError::LongBacklog { chars, limit: COMMAND_CHARS });
            }
            text.push_str(separator);
            text.push_str(&command.text);
        }
        let shown: Vec<&str> = commands.iter().map(|command| command.shown.as_str()).collect();
        Ok(Self {
            secret: commands.iter().any(|command| command.secret),
            restarts: commands.iter().any(|command| command.restarts),
            ..Self::shown_as(text, &format!("Backlog {}", shown.join("; ")))
        })
    }

    /// Whether it can be one of a Backlog's commands: without a brace or a semicolon.
    #[must_use]
    pub fn fits_a_backlog(&self) -> bool {
        !self.text.contains(['{', '}', ';'])
    }

    /// The console line. Handle with care if [`Self::is_secret`].
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The first word: `TLSKey1`, `MqttHost`, `Backlog`.
    #[must_use]
    pub fn keyword(&self) -> &str {
        self.text.split(' ').next().unwrap_or_default()
    }

    /// Whether the line carries a private key or a password.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.secret
    }

    /// Whether the device restarts about two seconds after it. Facts §7.5.
    #[must_use]
    pub fn restarts(&self) -> bool {
        self.restarts
    }

    fn plain(text: String) -> Self {
        let shown = text.clone();
        Self::shown_as(Zeroizing::new(text), &shown)
    }

    fn shown_as(text: Zeroizing<String>, shown: &str) -> Self {
        Self { text, shown: shown.into(), secret: false, restarts: false }
    }
}

/// The line with its secrets replaced by `****`.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({})", self.shown)
    }
}

/// Why a command cannot be written down. Never shows the value: it may be a password.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Nothing, which would ask instead of set.
    #[error("{name}: the value is empty, which asks for the setting instead of setting it")]
    Empty {
        /// Name of the setting.
        name: &'static str,
    },
    /// Longer than the device keeps.
    #[error("{name}: the value has {chars} bytes, {limit} at most")]
    TooLong {
        /// Name of the setting.
        name: &'static str,
        /// Bytes of the value.
        chars: usize,
        /// Most bytes.
        limit: usize,
    },
    /// A character that ends the line, the command or the topic.
    #[error("{name}: character {at} of the value ({why}) would not arrive as written")]
    Character {
        /// Name of the setting.
        name: &'static str,
        /// Its place, from 1.
        at: usize,
        /// What kind of character it is.
        why: &'static str,
    },
    /// The device trims blanks.
    #[error("{name}: the value begins or ends with a blank, which the device drops")]
    OuterBlank {
        /// Name of the setting.
        name: &'static str,
    },
    /// `0`, `1`, `2`, `"` and `?` are orders, not values.
    #[error("{name}: a value of this one character means clear, default or query to the device")]
    SpecialMeaning {
        /// Name of the setting.
        name: &'static str,
    },
    /// Not a number, or too small or large.
    #[error("{name}: not a number from {least} to {most}")]
    OutOfRange {
        /// Name of the setting.
        name: &'static str,
        /// Smallest.
        least: u64,
        /// Largest.
        most: u64,
    },
    /// Only asking makes sense, or a command of its own exists.
    #[error("{name}: cannot be set as a text")]
    ReadOnly {
        /// Name of the setting.
        name: &'static str,
    },
    /// `Backlog` with nothing empties the device's queue.
    #[error("a Backlog needs at least one command")]
    EmptyBacklog,
    /// The device would strip the inner word.
    #[error("a Backlog cannot hold another one")]
    NestedBacklog,
    /// `{` hides the following `;`, which ends a command.
    #[error("{keyword}: a brace or semicolon in a value cannot go into a Backlog")]
    BraceInBacklog {
        /// The command with that value.
        keyword: String,
    },
    /// Longer than a console line.
    #[error("the Backlog has {chars} characters, the console takes {limit}")]
    LongBacklog {
        /// Characters up to the command that did not fit.
        chars: usize,
        /// Most characters.
        limit: usize,
    },
}

impl CommandError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Character { .. } | Self::OuterBlank { .. } => {
                "use letters, digits and plain punctuation; no ';', no control characters".into()
            }
            Self::SpecialMeaning { .. } => "choose a value of two characters or more".into(),
            Self::LongBacklog { .. } => "shorten host, user or password, or split the Backlog".into(),
            Self::BraceInBacklog { .. } => "choose a value without '{', '}' and ';'".into(),
            _ => return None,
        })
    }
}
