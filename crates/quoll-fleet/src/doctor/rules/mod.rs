//! The rules, by rank. The first that applies is the cause, so what explains others stands above them: a device whose
//! MQTT is switched off has no TLS error to speak of.

mod asked;
mod client;
mod identity;
mod mqtt;
mod network;
mod server;
mod settings;
mod worry;

use super::evidence::{Attribution, Encounter, Ending, Evidence, Step};
use super::verdict::Rule;

/// Every rule, by rank.
pub const RULES: &[Rule] = &[
    client::REVOKED,
    client::QUARANTINED,
    asked::STRANGER,
    settings::MQTT_OFF,
    settings::NO_BROKER,
    settings::NOT_SWITCHED,
    settings::RESTART_DUE,
    settings::TLS_OFF,
    server::CLOCK,
    network::NO_MEMORY,
    network::PLAIN_PORT,
    settings::OTHER_BROKER,
    network::NAME,
    network::BROKER_DOWN,
    network::BLOCKED,
    network::SLOW,
    server::FINGERPRINT,
    server::OTHER_SERVER,
    server::RECORD,
    server::DATES,
    server::NAME,
    server::HASH,
    server::KEY_USAGE,
    server::CRITICAL,
    server::KEY_TOO_LARGE,
    server::ALGORITHM,
    server::CHAIN_ORDER,
    server::CHAIN_SIGNATURE,
    server::INTERMEDIATE,
    server::ECDSA_OFF,
    server::CA_TOO_LARGE,
    server::UNKNOWN_CA,
    client::NO_SUITE,
    client::NO_CERTIFICATE,
    client::SIGNATURE_KIND,
    client::KEY_MISMATCH,
    client::FOREIGN_CA,
    client::BAD_CERTIFICATE,
    client::EXPIRED,
    client::NOT_ACCEPTED,
    client::DENIED,
    client::VERSION,
    identity::CLIENT_ID_TAKEN,
    mqtt::REFUSED,
    mqtt::NO_ANSWER,
    network::CLOSED,
    server::LEFT,
    mqtt::RESTARTS,
    mqtt::KEEP_ALIVE,
    server::UNKNOWN_NUMBER,
    asked::NO_NODE,
    asked::PASSWORD,
    asked::HANGS,
    asked::GONE,
    asked::NONSENSE,
    settings::ELSEWHERE,
    identity::TOPIC_SHARED,
    identity::TOPIC_CHANGED,
    worry::OPEN_SLOT,
    worry::EXPIRES,
    worry::CRL,
    worry::KEY_LOST,
    worry::WIFI,
    worry::CLOCK,
    worry::HEAP,
    worry::CRASHES,
    worry::CONSOLE,
];

/// The table of `docs/doctor.md`.
#[must_use]
pub fn table() -> String {
    let mut text =
        String::from("| rule | numbers | looks at | cause | fix | `--fix` |\n|---|---|---|---|---|---|\n");
    for rule in RULES {
        let numbers: Vec<String> = rule.numbers.iter().map(ToString::to_string).collect();
        let kind = if rule.is_warning { " (warning)" } else { "" };
        text.push_str(&format!(
            "| `{}`{kind} | {} | {} | {} | {} | {} |\n",
            rule.id,
            numbers.join(", "),
            rule.looks_at,
            rule.cause,
            rule.fix,
            rule.repairs.unwrap_or("")
        ));
    }
    text
}

impl Evidence {
    /// Whether the device has a connection: by the broker's word, else by its own.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        if self.wire.online.is_some() {
            return true;
        }
        // The broker that it is pointed at would know: what its log has lost does not make it connected.
        if self.wire.silence.is_none() && self.uses_our_broker() == Some(true) {
            return false;
        }
        let Some(log) = &self.device.log else { return false };
        // A quiet log says nothing; a count does, as long as nothing failed since.
        let counts = self.device.mqtt_count.is_some_and(|count| count > 0);
        let failed = self.encounter().is_some_and(|last| last.ending != Ending::Admitted);
        log.connected || counts && log.code.is_none() && log.number.is_none() && !failed
    }

    /// The newest encounter that was this device's. One from an address that several have counts only where the alert
    /// that the broker sent is the one that this device logs.
    fn encounter(&self) -> Option<&Encounter> {
        let said = self.device.log.as_ref().and_then(|log| log.number);
        self.wire.encounters.iter().rev().find(|encounter| {
            encounter.known_by > Attribution::SharedAddress || (said.is_some() && encounter.number() == said)
        })
    }

    /// The error number: by the device's word, else by the alert that the broker sent it last.
    #[must_use]
    pub fn number(&self) -> Option<i32> {
        let said = self.device.log.as_ref().and_then(|log| log.number);
        if said.is_some() || self.is_connected() {
            return said;
        }
        self.encounter().and_then(Encounter::number)
    }

    /// The return code of the device's last attempt, where TLS is not what failed.
    fn code(&self) -> Option<i32> {
        let log = self.device.log.as_ref().filter(|log| log.number.is_none() && !log.connected)?;
        log.code
    }

    /// Whether the number is one of these; the lines that tell it.
    fn shows(&self, numbers: &[i32]) -> Option<Vec<String>> {
        let number = self.number().filter(|number| numbers.contains(number))?;
        Some(self.number_lines(number))
    }

    fn number_lines(&self, number: i32) -> Vec<String> {
        let said = self.device.log.as_ref().and_then(|log| log.number);
        let mut lines = vec![match said {
            Some(_) => format!("device: its log says \"TLS connection error: {number}\""),
            None => format!("wire: the broker sent alert {}, which the device calls {number}", number - 256),
        }];
        lines.extend(self.wire_line());
        lines
    }

    /// What the broker saw last of it.
    fn wire_line(&self) -> Option<String> {
        let last = self.encounter()?;
        let mut line = match last.ending {
            Ending::Admitted => format!("wire: let in from {}", last.peer),
            _ => format!("wire: from {}, it came as far as {}", last.peer, last.reached.words()),
        };
        if let Some((sent, alert)) = last.alert {
            line.push_str(&format!(", alert {alert} {}", if sent { "sent to it" } else { "came from it" }));
        }
        if last.ending != Ending::Admitted {
            line.push_str(&format!(" ({})", last.reason));
        }
        if let Some(departure) = &last.departure {
            line.push_str(&format!(", then: {departure}"));
        }
        if !self.wire.shared_with.is_empty() && last.known_by <= Attribution::Address {
            line.push_str(&format!("; {} may have been it as well", self.wire.shared_with.join(", ")));
        }
        Some(line)
    }

    /// The ClientHello of the last encounter that had one.
    fn hello_line(&self) -> Option<String> {
        let hello = self.wire.encounters.iter().rev().find_map(|it| it.hello.as_ref())?;
        Some(format!("wire: its ClientHello: {}", hello.words()))
    }

    /// Whether host and port are those of our broker.
    fn uses_our_broker(&self) -> Option<bool> {
        let (host, port) = (self.device.host.as_deref()?, self.device.port?);
        let names = self.pki.server.iter().flat_map(|server| &server.names);
        let ours = host.eq_ignore_ascii_case(&self.target.host)
            || names.into_iter().any(|name| name.eq_ignore_ascii_case(host));
        Some(ours && port == self.target.port)
    }

    /// The broker of the device, for texts.
    fn broker(&self) -> String {
        let host = self.device.host.as_deref().unwrap_or(&self.network.host);
        format!("{host}:{}", self.device.port.unwrap_or(self.network.port))
    }

    /// The leaf that the device's broker sends.
    fn served(&self) -> Option<&super::evidence::CertificateFacts> {
        self.network.rehearsal.as_ref()?.chain.first()
    }

    /// What a rehearsal from here came to, in a line.
    fn rehearsal_line(&self) -> Option<String> {
        let tried = self.network.rehearsal.as_ref()?;
        let broker = self.broker();
        Some(match (tried.opened, tried.number) {
            (true, _) => format!("network: from here a device with these settings opens TLS at {broker}"),
            (false, Some(number)) => {
                format!("network: from here a device with these settings gets {number} at {broker}, too")
            }
            (false, None) => return None,
        })
    }

    /// What is stored as TLSKey, in words.
    fn stored_line(&self) -> Option<String> {
        let (key, certificate) = self.device.stored?;
        Some(format!("device: TLSKey1 {key}, TLSKey2 {certificate} bytes"))
    }

    /// The last encounter, where TLS did not come about.
    fn failed_at(&self) -> Option<(&Encounter, Step)> {
        let last = self.encounter().filter(|last| last.ending == Ending::Failed)?;
        Some((last, last.reached))
    }

    /// `quoll device add` for this device.
    fn add_command(&self) -> String {
        let at = if self.device.address.is_empty() { &self.registered.address } else { &self.device.address };
        format!("quoll device add {} --at {at}", self.name)
    }
}
