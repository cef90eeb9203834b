//! Why an enrolment stopped: what, on which device, whose turn it is, and where that leaves the device.

use quoll_tasmota::{CommandError, ConsoleError, Mac, ReplyError, Stored, TlsKeyError};
use time::Duration;

pub use super::cause::{Cause, Stands};
use crate::access_list::AccessError;
use crate::device::{Address, DeviceName};
use crate::issuer::IssueError;
use crate::registry::{Owner, RegistryError};
use crate::step::Step;

/// Why an enrolment stopped. Unless a variant says otherwise, nothing was changed on the device, or only its logs were
/// turned down and up again; the same command continues where this one stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolError {
    /// No route, nobody on the port, no power.
    #[error("{address} cannot be reached: {why}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// The operating system's word.
        why: String,
    },
    /// Connected, or not even that, and then silence.
    #[error("{address} does not answer (waited {seconds} s, several times)")]
    Hangs {
        /// Host and port.
        address: String,
        /// How long each time.
        seconds: u64,
    },
    /// HTTP 401.
    #[error("{address} wants {} web password", if *.sent { "another" } else { "a" })]
    WebPassword {
        /// Host and port.
        address: String,
        /// Whether one was sent.
        sent: bool,
    },
    /// Something else listens there. It was only asked a harmless question.
    #[error("{address} is not a Tasmota: {seen}")]
    NotTasmota {
        /// Host and port.
        address: String,
        /// What was seen instead.
        seen: String,
    },
    /// The console is closed in another way: Referer check, user mode, senseless answers.
    #[error(transparent)]
    Console(ConsoleError),
    /// An answer that a Tasmota should give otherwise.
    #[error("{address}: {step}: {why}")]
    Answer {
        /// Host and port.
        address: String,
        /// During which step.
        step: Step,
        /// What is wrong with it.
        why: ReplyError,
    },
    /// MQTT is turned off on the device; then it has no TLSKey either.
    #[error("{address} has MQTT turned off")]
    MqttOff {
        /// Host and port.
        address: String,
    },
    /// Firmware without TLS. No key was sent.
    #[error("{address} runs firmware {firmware}, which has no TLS")]
    NoTls {
        /// Host and port.
        address: String,
        /// Its version.
        firmware: String,
    },
    /// Firmware with TLS but without client certificates, as all released ESP32 binaries. No key was sent.
    #[error("{address} runs firmware {firmware}, which has TLS but no client certificates (no TLSKey)")]
    NoTlsKey {
        /// Host and port.
        address: String,
        /// Its version.
        firmware: String,
        /// The console line that would pin the broker's key instead; user and password are still to be added.
        pinned: String,
    },
    /// It was proven with a certificate, and its firmware can no longer have one. Nothing was changed.
    #[error(
        "{name} was proven with a certificate, and the firmware {firmware} at {address} has no client certificates"
    )]
    WouldLower {
        /// The name.
        name: DeviceName,
        /// Host and port.
        address: String,
        /// Its version.
        firmware: String,
    },
    /// It could pin the server's key, but the broker has no door for devices without a certificate.
    #[error(
        "{address} can pin the broker's key, but the broker has no listener for devices without a certificate"
    )]
    NoPinnedDoor {
        /// Host and port.
        address: String,
    },
    /// Devices pin RSA keys alone (facts §4.2).
    #[error("{address} can only pin an RSA key, and the broker's key is none")]
    NoPin {
        /// Host and port.
        address: String,
    },
    /// Its password at its old broker would be lost: it can be overwritten, but not read.
    #[error(
        "{address} is {user:?} at its broker {host}, with a password that nobody can read; there would be no way back"
    )]
    OldPassword {
        /// Host and port.
        address: String,
        /// `MqttUser`.
        user: String,
        /// `MqttHost`.
        host: String,
    },
    /// What it is set to now could not be given back to it.
    #[error("there would be no way back to its old broker: {0}")]
    NoWayBack(CommandError),
    /// An EC CA, and firmware that cannot check its signatures.
    #[error("{address} runs firmware {firmware}, which does not know SetOption165 and cannot check an EC CA")]
    NoEcdsa {
        /// Host and port.
        address: String,
        /// Its version.
        firmware: String,
    },
    /// The name is another device's. Says so when address and MAC both differ from the registered ones.
    #[error("{name} is another device: registered as {registered}, this one is {found}")]
    OtherDevice {
        /// The name.
        name: DeviceName,
        /// MAC in the registry.
        registered: Mac,
        /// MAC of the device asked.
        found: Mac,
    },
    /// The address now belongs to another device than the one registered with it.
    #[error(
        "{address} belongs to another device now: {name} is {registered}, at this address answers {found}"
    )]
    AddressMoved {
        /// The name.
        name: DeviceName,
        /// The address.
        address: Address,
        /// MAC in the registry.
        registered: Mac,
        /// MAC of the device that answers.
        found: Mac,
    },
    /// The device is registered already, under another name.
    #[error("the device {mac} is registered already, as {name}")]
    OtherName {
        /// Its MAC.
        mac: Mac,
        /// Its name.
        name: DeviceName,
    },
    /// The name belongs to a client account.
    #[error("the name is in use by {0}")]
    NameInUse(Owner),
    /// The device was revoked under this name.
    #[error("{name} is revoked")]
    Revoked {
        /// The name.
        name: DeviceName,
    },
    /// Another process is at work on it.
    #[error("{name} is being enrolled or changed by another process")]
    Busy {
        /// The name.
        name: DeviceName,
    },
    /// The device holds a key that we did not put there.
    #[error("{address} has a key already that is not from us: {stored}")]
    ForeignKey {
        /// Host and port.
        address: String,
        /// What it reports.
        stored: Stored,
    },
    /// Its topics give no safe permissions.
    #[error("{address}: {why}")]
    Topics {
        /// Host and port.
        address: String,
        /// What is wrong.
        why: AccessError,
    },
    /// Its topics overlap with another device's, so that one could speak for the other.
    #[error("{address} uses topic {topic:?}, which overlaps with those of {other}")]
    SharedTopics {
        /// Host and port.
        address: String,
        /// Its topic.
        topic: String,
        /// The other device.
        other: DeviceName,
    },
    /// Another device has its MQTT client id: they would throw each other out of the broker, again and again.
    #[error("{address} has the MQTT client id {client_id:?}, and so has {other}")]
    SharedClientId {
        /// Host and port.
        address: String,
        /// The client id.
        client_id: String,
        /// The other device.
        other: DeviceName,
    },
    /// The broker does not listen; a device pointed at it could crash (facts §9).
    #[error("the broker {host}:{port} is not ready: {why}")]
    BrokerNotReady {
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
        /// What was tried.
        why: String,
    },
    /// The broker's host or port cannot be written as a console command.
    #[error("the broker's address cannot be given to a device: {0}")]
    Target(CommandError),
    /// No certificate.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// A certificate or key that no device can store. Nothing was sent.
    #[error("the certificate cannot go to a device: {0}")]
    Credential(TlsKeyError),
    /// The device refused a command that its firmware knows.
    #[error("{address} refused {command} ({step})")]
    Refused {
        /// Host and port.
        address: String,
        /// During which step.
        step: Step,
        /// The command, without secrets.
        command: String,
    },
    /// The device went away in the middle: power cut, Wi-Fi, crash.
    #[error("{address} went away during {step}: {why}")]
    WentAway {
        /// Host and port.
        address: String,
        /// During which step.
        step: Step,
        /// The last attempt's error.
        why: String,
    },
    /// Another device answers at the address since the run began: addresses are lent, and devices are exchanged. From
    /// there on nothing was sent.
    #[error("{address} belongs to another device since {step}: {found} answers there, and not {registered}")]
    Stranger {
        /// Host and port.
        address: String,
        /// The step that was not taken.
        step: Step,
        /// MAC of the device that was asked first.
        registered: Mac,
        /// MAC of the device that answers now.
        found: Mac,
    },
    /// What the device stored is not what we sent.
    #[error("{address} stored {stored}, but {expected} was sent")]
    LengthMismatch {
        /// Host and port.
        address: String,
        /// What it reports.
        stored: Stored,
        /// What it should report.
        expected: Stored,
    },
    /// The device's clock is wrong and does not take the time.
    #[error("the clock of {address} is off by {} s and cannot be set", .off.whole_seconds())]
    Clock {
        /// Host and port.
        address: String,
        /// Device minus ours.
        off: Duration,
    },
    /// The device was switched and the broker did not see its certificate.
    #[error("{address} did not come to the broker: {cause}; {stands}")]
    NotProven {
        /// Host and port.
        address: String,
        /// Why, as far as it is known.
        cause: Cause,
        /// Where the device stands now.
        stands: Stands,
    },
    /// Old settings cannot be given back, by wish ([`crate::enrol::Enrolment::roll_back`]).
    #[error("{address} does not have its old settings back: {why}")]
    NotRolledBack {
        /// Host and port.
        address: String,
        /// Why.
        why: String,
    },
    /// The registry cannot be read or written.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl EnrolError {
    /// Whether another attempt may do better without anybody's doing.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Hangs { .. }
            | Self::WentAway { .. }
            | Self::Answer { .. }
            | Self::LengthMismatch { .. }
            | Self::Busy { .. }
            | Self::BrokerNotReady { .. } => true,
            Self::Console(error) => error.may_pass(),
            Self::Registry(RegistryError::Busy { .. }) => true,
            Self::NotProven { cause, .. } => match cause {
                Cause::NotSwitched
                | Cause::Gone
                | Cause::Unknown(_)
                | Cause::Pins(_)
                | Cause::NoBroker(_) => true,
                Cause::Mqtt(code) => *code < 0,
                Cause::Tls { number, .. } => *number <= 0,
                _ => false,
            },
            _ => false,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { .. } => "check the address, power, Wi-Fi, and that its web server is on (WebServer 2)".into(),
            Self::Hangs { .. } => "restart the device, then run the same command again".into(),
            Self::WebPassword { sent: false, .. } => {
                "give the device's web password (the one set with WebPassword): --web-password-file FILE".into()
            }
            Self::WebPassword { sent: true, .. } => "the web password is another one; the user is always admin".into(),
            Self::NotTasmota { .. } => "check the address; it was only asked a harmless question".into(),
            Self::Console(error) => return error.hint(),
            Self::Answer { why: ReplyError::Shape { field: "SetOption", .. }, .. } => {
                "give it two words for off and on: StateText1 OFF, StateText2 ON; then run the same command again".into()
            }
            Self::Answer { .. } => "look at the device's own web console; its firmware may be very old".into(),
            Self::MqttOff { .. } => "on the device: SetOption3 1; it restarts, then run the same command again".into(),
            Self::NoTls { .. } => "no key was sent. ESP32: install a current release, which can pin the broker's key; for \
                client certificates, and on an ESP8266, build Tasmota with USE_MQTT_TLS and USE_MQTT_CLIENT_CERT and \
                your CA: quoll firmware"
                .into(),
            Self::NoTlsKey { pinned, .. } => format!(
                "no key was sent. For client certificates build Tasmota with USE_MQTT_CLIENT_CERT and your CA: quoll \
                 firmware. Until then it can pin the broker's key and use a password: --rung pinned, for which the \
                 broker needs pinned = [\"0.0.0.0:8884\"] under [listen] in quoll.toml. By hand: {pinned}; MqttUser …; \
                 MqttPassword …"
            ),
            Self::WouldLower { .. } => "flash an image with client certificates again (quoll firmware), or say --rung pinned".into(),
            Self::NoPinnedDoor { .. } => {
                "add pinned = [\"0.0.0.0:8884\"] under [listen] in quoll.toml and start quoll up again".into()
            }
            Self::NoPin { .. } => "give the server an RSA key (quoll server), or build an image with client certificates".into(),
            Self::OldPassword { .. } => {
                "give it: --old-password-file FILE; or do without: --lose-old-password".into()
            }
            Self::NoWayBack(_) => {
                "give it another value on its own console first (and its old broker the same); a password that no device \
                 takes is not its password: --lose-old-password does without"
                    .into()
            }
            Self::NoEcdsa { .. } => "update to 15.1.0.1 or later, or use an RSA CA".into(),
            Self::OtherDevice { name, .. } => format!(
                "check the address (quoll device find); for a device of its own choose another name; for new hardware in \
                 the place of {name}: quoll device replace {name} --at ADDRESS"
            ),
            Self::AddressMoved { name, .. } => format!(
                "find the new address of {name} (quoll device find, quoll fleet scan) and give that; nothing was sent"
            ),
            Self::OtherName { name, .. } => format!("go on under the name {name}, or quoll device remove {name} first"),
            Self::NameInUse(_) => "choose another name".into(),
            Self::Revoked { name } => format!("choose another name, or quoll device remove {name} first"),
            Self::Busy { .. } => "wait until it is done".into(),
            Self::ForeignKey { .. } => "a key cannot be read back: if nobody needs it, run again with --replace-key".into(),
            Self::Topics { why, .. } => return why.hint(),
            Self::SharedTopics { .. } => "give it a topic of its own (Topic …), or run again with --share-topics".into(),
            Self::SharedClientId { .. } => {
                "give one of them the factory's, which is made of its MAC: MqttClient 1; then run the same command again".into()
            }
            Self::BrokerNotReady { .. } => "start it first (quoll up); some firmware restarts for ever without it".into(),
            Self::Target(error) => return error.hint(),
            Self::Issue(error) => return error.hint(),
            Self::Credential(error) => return error.hint(),
            Self::Refused { .. } => "look at the device's own web console for its log, then run the same command again".into(),
            Self::WentAway { .. } => "give it power and Wi-Fi, then run the same command again: it continues".into(),
            Self::Stranger { registered, .. } => format!(
                "find the address that {registered} has now (quoll device find, or your router's list) and run the same \
                 command with that: it continues"
            ),
            Self::LengthMismatch { .. } => "it still uses its old broker; run the same command again, nearer to the access \
                point if it happens twice"
                .into(),
            Self::Clock { .. } => "set NtpServer1 on the device to a time server it can reach".into(),
            Self::NotProven { cause, stands, .. } => {
                let fix = match cause {
                    Cause::Tls { fix, .. } => Some((*fix).to_owned()),
                    Cause::NoBroker(error) | Cause::Unknown(error) => error.hint(),
                    Cause::Mqtt(4 | 5) => Some("look at the broker's log for the reason".into()),
                    _ => None,
                };
                let again = match stands {
                    Stands::RolledBack => "then run the same command again",
                    Stands::WithoutPassword => {
                        "set MqttPassword on the device for its old broker, or run the same command again"
                    }
                    Stands::Switched { .. } => "once its console answers, run the same command again: it continues",
                };
                fix.map_or_else(|| again.to_owned(), |fix| format!("{fix}; {again}"))
            }
            Self::NotRolledBack { .. } => "once its console answers, try again".into(),
            Self::Registry(error) => return error.hint(),
        })
    }
}
