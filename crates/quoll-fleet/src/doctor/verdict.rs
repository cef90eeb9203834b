//! What a rule is, what it finds, and the verdict on a device.

use quoll_tasmota::{Command, Fingerprint, FingerprintSlot, SetOption, Setting};
use serde::Serialize;

use super::evidence::{DeviceSide, Evidence, Silence, SilenceKind};
use super::rules::RULES;

/// One rule: what it looks at, what it then takes for the cause, what to do. The order of [`RULES`] is their rank.
pub struct Rule {
    /// A short name that scripts can rely on.
    pub id: &'static str,
    /// Error numbers of a device's log that it explains; empty for a rule that goes by something else.
    pub numbers: &'static [i32],
    /// What it looks at.
    pub looks_at: &'static str,
    /// The cause, for the documentation and where the rule has nothing more exact to say.
    pub cause: &'static str,
    /// The fix, likewise.
    pub fix: &'static str,
    /// What `--fix` does about it; none where that would not be safe.
    pub repairs: Option<&'static str>,
    /// Whether the device works nevertheless.
    pub is_warning: bool,
    /// Looks.
    pub judge: fn(&Evidence) -> Option<Found>,
}

/// What a rule found in a case.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    pub(super) cause: Option<String>,
    pub(super) evidence: Vec<String>,
    pub(super) fix: Option<String>,
    pub(super) repair: Option<Repair>,
}

impl Found {
    pub(super) fn because(line: impl Into<String>) -> Self {
        Self { evidence: vec![line.into()], ..Self::default() }
    }

    pub(super) fn lines(lines: impl IntoIterator<Item = String>) -> Self {
        Self { evidence: lines.into_iter().collect(), ..Self::default() }
    }

    pub(super) fn and(mut self, line: impl Into<String>) -> Self {
        self.evidence.push(line.into());
        self
    }

    pub(super) fn and_all(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(lines);
        self
    }

    pub(super) fn cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    pub(super) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    pub(super) fn repair(mut self, repair: Repair) -> Self {
        self.repair = Some(repair);
        self
    }
}

/// What `--fix` does to a device. Each is one setting that can be set back; none touches a key.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repair {
    /// SetOption3 1.
    MqttOn,
    /// MqttHost and MqttPort to our broker.
    Broker {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// SetOption103 1.
    TlsOn,
    /// SetOption165 1, and a restart, which it needs.
    Ecdsa,
    /// MqttFingerprint1 and 2 to our server's key.
    Fingerprint([u8; 20]),
    /// The clock to ours.
    Clock,
    /// A restart.
    Restart,
    /// MqttClient to the one of the registry.
    ClientId(String),
    /// Topic to the one of the registry.
    Topic(String),
}

impl Repair {
    /// In words, after "will".
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::MqttOn => "switch MQTT on (SetOption3 1)".into(),
            Self::Broker { host, port } => {
                format!("set the broker again (MqttHost {host}, MqttPort {port})")
            }
            Self::TlsOn => "switch TLS on (SetOption103 1)".into(),
            Self::Ecdsa => "allow ECDSA (SetOption165 1) and restart".into(),
            Self::Fingerprint(bytes) => {
                let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
                format!("pin the broker's key in both slots (MqttFingerprint1, 2: {})", bytes.join(" "))
            }
            Self::Clock => "set the clock (Time; NTP is off until `Time 0`)".into(),
            Self::Restart => "restart the device (Restart 1)".into(),
            Self::ClientId(id) => format!("give it its client id again (MqttClient {id})"),
            Self::Topic(topic) => format!("give it its topic again (Topic {topic})"),
        }
    }

    /// The command that takes it back, from what the device said before; none where there is nothing to take back, or
    /// nothing is known of before. A fingerprint slot that was open is not opened again.
    #[must_use]
    pub fn undo(&self, before: &DeviceSide) -> Option<Command> {
        let backlog = |commands: &[Command]| Command::backlog(commands).ok();
        match self {
            Self::MqttOn => Some(Command::set_option(SetOption::MQTT, false)),
            Self::Broker { .. } => {
                let host = match before.host.as_deref()? {
                    "" => Command::clear(Setting::MqttHost),
                    host => Command::set(Setting::MqttHost, host).ok()?,
                };
                backlog(&[host, Command::set(Setting::MqttPort, &before.port?.to_string()).ok()?])
            }
            Self::TlsOn => Some(Command::set_option(SetOption::MQTT_TLS, false)),
            Self::Ecdsa if before.ecdsa == Some(false) => {
                backlog(&[Command::set_option(SetOption::ECDSA, false), Command::restart()])
            }
            Self::Fingerprint(_) => {
                let slot = |which, bytes: Option<[u8; 20]>| {
                    Some(Command::set_fingerprint(which, &Fingerprint::new(bytes?).ok()?))
                };
                let slots = [
                    slot(FingerprintSlot::One, before.slots[0]),
                    slot(FingerprintSlot::Two, before.slots[1]),
                ];
                let slots: Vec<Command> = slots.into_iter().flatten().collect();
                if slots.is_empty() { None } else { backlog(&slots) }
            }
            Self::Clock => Some(Command::time_by_ntp()),
            Self::ClientId(_) => Command::set(Setting::MqttClient, before.client.as_deref()?).ok(),
            Self::Topic(_) => Command::set(Setting::Topic, before.topic.as_deref()?).ok(),
            Self::Ecdsa | Self::Restart => None,
        }
    }

    /// The command that does it; none for a value that cannot be written on a console line. `now` is the time, in
    /// seconds since 1970.
    #[must_use]
    pub fn command(&self, now: u64) -> Option<Command> {
        let backlog = |commands: &[Command]| Command::backlog(commands).ok();
        Some(match self {
            Self::MqttOn => Command::set_option(SetOption::MQTT, true),
            Self::Broker { host, port } => backlog(&[
                Command::set(Setting::MqttHost, host).ok()?,
                Command::set(Setting::MqttPort, &port.to_string()).ok()?,
            ])?,
            Self::TlsOn => Command::set_option(SetOption::MQTT_TLS, true),
            Self::Ecdsa => backlog(&[Command::set_option(SetOption::ECDSA, true), Command::restart()])?,
            Self::Fingerprint(bytes) => {
                let fingerprint = Fingerprint::new(*bytes).ok()?;
                backlog(&[
                    Command::set_fingerprint(FingerprintSlot::One, &fingerprint),
                    Command::set_fingerprint(FingerprintSlot::Two, &fingerprint),
                ])?
            }
            Self::Clock => Command::time(now).ok()?,
            Self::Restart => Command::restart(),
            Self::ClientId(id) => Command::set(Setting::MqttClient, id).ok()?,
            Self::Topic(topic) => Command::set(Setting::Topic, topic).ok()?,
        })
    }
}

/// A rule that applies.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The rule.
    pub rule: &'static str,
    /// The cause, in a sentence.
    pub cause: String,
    /// What it follows from.
    pub evidence: Vec<String>,
    /// What to do.
    pub fix: String,
    /// What `--fix` would do; none where that would not be safe.
    pub repair: Option<Repair>,
}

/// How a device is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Connected, and nothing to say.
    Well,
    /// Connected; something will become trouble.
    Warned,
    /// It does not work.
    Ill,
    /// It does not work, and nothing that is known explains it.
    Unexplained,
}

/// The verdict on a device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// How it is.
    pub health: Health,
    /// The cause that ranks first.
    pub cause: Option<Finding>,
    /// What else was found, by rank.
    pub also: Vec<Finding>,
}

/// What another device says is no evidence about this one: without it, where one answers.
fn without_strangers_words(evidence: &Evidence) -> Option<Evidence> {
    let (said, registered) = (&evidence.device, &evidence.registered.mac);
    let other = said.mac.as_ref().filter(|mac| !mac.eq_ignore_ascii_case(registered));
    let mac = other.filter(|_| !registered.is_empty())?;
    let why = format!("{} answers with the MAC {mac}, registered is {registered}", said.address);
    let mut own = evidence.clone();
    own.device = DeviceSide {
        address: said.address.clone(),
        silence: Some(Silence { kind: SilenceKind::OtherDevice, why, hint: None }),
        ..DeviceSide::default()
    };
    own.network.rehearsal = None;
    Some(own)
}

/// Judges. The first rule that applies is the cause; what else applies is told beside it.
#[must_use]
pub fn diagnose(evidence: &Evidence) -> Verdict {
    let own = without_strangers_words(evidence);
    let evidence = own.as_ref().unwrap_or(evidence);
    let mut found = Vec::new();
    let mut warnings = Vec::new();
    for rule in RULES {
        let Some(case) = (rule.judge)(evidence) else { continue };
        let finding = Finding {
            rule: rule.id,
            cause: case.cause.unwrap_or_else(|| rule.cause.into()),
            evidence: case.evidence,
            fix: case.fix.unwrap_or_else(|| rule.fix.into()),
            repair: case.repair,
        };
        if rule.is_warning { warnings.push(finding) } else { found.push(finding) }
    }
    let connected = evidence.is_connected();
    let health = match (found.is_empty(), connected, warnings.is_empty()) {
        (false, ..) => Health::Ill,
        (true, true, true) => Health::Well,
        (true, true, false) => Health::Warned,
        (true, false, _) => Health::Unexplained,
    };
    let mut all = found.into_iter().chain(warnings);
    let cause = if health == Health::Unexplained { None } else { all.next() };
    Verdict { health, cause, also: all.collect() }
}
