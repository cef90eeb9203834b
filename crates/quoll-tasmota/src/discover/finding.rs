//! What was found, and what it can become.

use std::fmt;

use crate::{mac::Mac, tls_key::Stored};

/// A device somewhere, as far as it said or somebody said of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Finding {
    /// Address of its console: a host, without a port.
    pub host: Option<String>,
    /// The console's port.
    pub port: u16,
    /// Its MAC, by which it is the same device whoever found it.
    pub mac: Option<Mac>,
    /// DeviceName.
    pub name: Option<String>,
    /// Firmware as it writes it.
    pub firmware: Option<String>,
    /// Chip as it writes it.
    pub chip: Option<String>,
    /// Free heap in KiB.
    pub heap: Option<u64>,
    /// Wi-Fi quality in per cent, as devices report it.
    pub rssi: Option<i64>,
    /// The broker it has now: host and port. Empty for none.
    pub broker: Option<(String, u16)>,
    /// The MQTT user name it has there.
    pub user: Option<String>,
    /// Flash in KiB.
    pub flash: Option<u64>,
    /// Topic.
    pub topic: Option<String>,
    /// MQTT client id.
    pub client: Option<String>,
    /// How far its clock is off, in seconds.
    pub clock_off: Option<i64>,
    /// What its TLS can do; none where it could not be asked.
    pub ability: Option<Ability>,
    /// Whether it is of the releases that restart while their TLS broker is down. Facts §9.
    pub crashes_without_broker: bool,
    /// Why it could not be asked all.
    pub problem: Option<String>,
}

/// What a firmware's TLS can do. Facts §1.1, §7.3.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ability {
    /// MQTT is switched off (SetOption3 0), which hides the rest.
    MqttOff,
    /// No TLS: every released ESP8266 image.
    NoTls,
    /// TLS without client certificates: every released ESP32 image.
    Server,
    /// TLSKey is there, with what it holds.
    ClientCert(Stored),
}

/// How well a link to the broker can be secured.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Rung {
    /// MQTT in clear.
    Plain,
    /// TLS with the server's key pinned, and a password.
    Pinned,
    /// TLS with a certificate on both sides.
    Mutual,
}

impl Rung {
    /// All, the lowest first.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Pinned, Self::Mutual];
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Plain => "plain",
            Self::Pinned => "pinned",
            Self::Mutual => "mutual",
        })
    }
}

impl Finding {
    /// The highest rung that its firmware reaches as it is; none where that is not known.
    #[must_use]
    pub fn rung(&self) -> Option<Rung> {
        match self.ability? {
            Ability::MqttOff => None,
            Ability::NoTls => Some(Rung::Plain),
            Ability::Server => Some(Rung::Pinned),
            Ability::ClientCert(_) => Some(Rung::Mutual),
        }
    }

    /// What it would take to bring it to a rung, in a sentence; empty where nothing more is needed than to point it at a
    /// broker.
    #[must_use]
    pub fn takes(&self, rung: Rung) -> String {
        let is_esp32 = self.chip.as_ref().is_some_and(|chip| chip.starts_with("ESP32"));
        match (self.ability, rung) {
            (None, _) => "ask it first: its console could not be read".into(),
            (Some(Ability::MqttOff), _) => "switch MQTT on first: SetOption3 1".into(),
            (Some(_), Rung::Plain) => String::new(),
            (Some(Ability::NoTls), Rung::Pinned) if is_esp32 => {
                "any released ESP32 image: this one was built without TLS".into()
            }
            (Some(Ability::NoTls), Rung::Pinned) => {
                "an image of one's own, built with USE_MQTT_TLS: no released ESP8266 image has TLS".into()
            }
            (Some(Ability::NoTls | Ability::Server), Rung::Mutual) => {
                "an image of one's own, built with USE_MQTT_CLIENT_CERT and the CA compiled in".into()
            }
            (Some(Ability::Server | Ability::ClientCert(_)), Rung::Pinned) => {
                "the fingerprint of the broker's RSA key, and a password of its own".into()
            }
            (Some(Ability::ClientCert(stored)), Rung::Mutual) if stored != Stored::default() => {
                "to replace the key that it has".into()
            }
            (Some(Ability::ClientCert(_)), Rung::Mutual) => "a key and a certificate".into(),
        }
    }

    /// The address as the command line takes it.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        let host = self.host.as_ref()?;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        Some(if self.port == 80 { host } else { format!("{host}:{}", self.port) })
    }

    /// Takes over what another source knows and this one does not. What was asked for beats what was announced.
    pub fn fill_from(&mut self, other: Self) {
        fn fill<T>(mine: &mut Option<T>, theirs: Option<T>) {
            if mine.is_none() {
                *mine = theirs;
            }
        }
        if self.host.is_none() {
            self.port = other.port;
        }
        fill(&mut self.host, other.host);
        fill(&mut self.mac, other.mac);
        fill(&mut self.name, other.name);
        fill(&mut self.firmware, other.firmware);
        fill(&mut self.chip, other.chip);
        fill(&mut self.heap, other.heap);
        fill(&mut self.rssi, other.rssi);
        fill(&mut self.broker, other.broker);
        fill(&mut self.user, other.user);
        fill(&mut self.flash, other.flash);
        fill(&mut self.topic, other.topic);
        fill(&mut self.client, other.client);
        fill(&mut self.clock_off, other.clock_off);
        fill(&mut self.ability, other.ability);
        self.crashes_without_broker |= other.crashes_without_broker;
        // A device that one source could ask has no problem, whatever the other met.
        self.problem = if self.ability.is_some() { None } else { self.problem.take().or(other.problem) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_firmware_has_its_highest_rung() {
        for (ability, chip, rung, mutual) in [
            (Some(Ability::NoTls), "ESP8266EX", Some(Rung::Plain), "USE_MQTT_CLIENT_CERT"),
            (Some(Ability::Server), "ESP32-C3", Some(Rung::Pinned), "USE_MQTT_CLIENT_CERT"),
            (
                Some(Ability::ClientCert(Stored::default())),
                "ESP32",
                Some(Rung::Mutual),
                "a key and a certificate",
            ),
            (Some(Ability::MqttOff), "ESP32", None, "SetOption3 1"),
            (None, "", None, "ask it first"),
        ] {
            let finding = Finding { ability, chip: Some(chip.into()), ..Finding::default() };
            assert_eq!(finding.rung(), rung, "{ability:?}");
            assert!(finding.takes(Rung::Mutual).contains(mutual), "{ability:?}");
        }
    }

    #[test]
    fn what_was_asked_beats_what_was_announced() {
        let mut asked = Finding {
            host: Some("127.0.0.1".into()),
            port: 8080,
            firmware: Some("15.3.0(custom)".into()),
            ability: Some(Ability::Server),
            ..Finding::default()
        };
        let announced = Finding {
            host: Some("127.0.0.9".into()),
            port: 80,
            firmware: Some("15.3.0".into()),
            topic: Some("lamp".into()),
            problem: Some("not asked".into()),
            ..Finding::default()
        };
        asked.fill_from(announced);
        assert_eq!(asked.address().as_deref(), Some("127.0.0.1:8080"));
        assert_eq!(asked.firmware.as_deref(), Some("15.3.0(custom)"));
        assert_eq!(asked.topic.as_deref(), Some("lamp"));
        assert_eq!(asked.problem, None);
    }
}
