//! The nouns on the pages; their serde form is the JSON API. Times are RFC 3339 text, absent when unknown.
//!
//! Holds no rule except the one of order: what needs the owner's eye comes first.

use serde::Serialize;

/// The node as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Overview {
    /// Name of the node, as configured; usually its host name.
    pub node: String,
    /// Version of Quoll, such as `0.1.0`.
    pub version: String,
    /// Seconds since the node started.
    pub uptime_seconds: u64,
    /// Sockets that accept devices.
    pub listeners: Vec<Listener>,
    /// The CA whose certificates are accepted; `None` before `quoll ca init`.
    pub authority: Option<Authority>,
    /// End of validity of the certificate the broker shows, RFC 3339; `None` without TLS.
    pub server_certificate_expires: Option<String>,
    /// Devices connected now.
    pub devices_online: u64,
    /// Devices in the registry.
    pub devices_total: u64,
    /// Devices with a [`DeviceView::problem`].
    pub devices_with_problems: u64,
    /// Messages received from clients per second, averaged over a few seconds.
    pub messages_per_second: f64,
    /// What the owner should look at, the most urgent first.
    pub warnings: Vec<Warning>,
}

/// A socket that accepts devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Listener {
    /// Address and port, such as `0.0.0.0:8883`.
    pub address: String,
    /// What is spoken and asked there, in words: `MQTT over TLS, certificate required`.
    pub speaks: String,
}

/// A certification authority.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Authority {
    /// Common name of its certificate.
    pub name: String,
    /// End of validity, RFC 3339.
    pub expires: Option<String>,
}

/// Something wrong or about to be, with what to do about it. Words between backticks are shown as commands.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Warning {
    /// What is the matter, and why.
    pub text: String,
    /// What to do next, if there is something to do.
    pub next_step: Option<String>,
}

impl Warning {
    /// A warning with a next step.
    pub fn new(text: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self { text: text.into(), next_step: Some(next_step.into()) }
    }
}

/// How well a device is secured (architecture, "Words").
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rung {
    /// It proves itself by a certificate, and checks the server's.
    Mutual,
    /// TLS with a pinned server key, and a password.
    Pinned,
    /// No TLS.
    Plain,
    /// Not known (yet); the empty text in JSON.
    #[default]
    #[serde(rename = "")]
    Unknown,
}

impl Rung {
    /// The rung of this name (`mutual`, `pinned`, `plain`); anything else is [`Rung::Unknown`].
    pub fn named(name: &str) -> Self {
        match name {
            "mutual" => Self::Mutual,
            "pinned" => Self::Pinned,
            "plain" => Self::Plain,
            _ => Self::Unknown,
        }
    }

    /// The rung in words for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Mutual => "Mutual TLS",
            Self::Pinned => "Pinned TLS",
            Self::Plain => "No TLS",
            Self::Unknown => "Unknown",
        }
    }
}

/// A device in one row.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DeviceView {
    /// Its name in the registry, unique.
    pub name: String,
    /// How well it is secured.
    pub rung: Rung,
    /// Where it is in its life, in the registry's word: `known`, `proven`, `revoked` …
    pub state: String,
    /// Whether it is connected now.
    pub online: bool,
    /// Where it was last seen, usually an IP address.
    pub address: Option<String>,
    /// Serial number of its certificate, hexadecimal.
    pub certificate_serial: Option<String>,
    /// End of validity of its certificate, RFC 3339.
    pub expires: Option<String>,
    /// When it was last seen to come or to go, RFC 3339.
    pub last_seen: Option<String>,
    /// The last it said.
    pub telemetry: Option<Telemetry>,
    /// What is wrong with it.
    pub problem: Option<Warning>,
}

/// A message in brief.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Telemetry {
    /// Topic it was published to.
    pub topic: String,
    /// Its payload in short, as text.
    pub text: String,
    /// When it came in, RFC 3339.
    pub at: Option<String>,
}

/// Everything known about one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DeviceDetail {
    /// What the row says.
    #[serde(flatten)]
    pub device: DeviceView,
    /// What it is, such as `Sonoff Basic R4`.
    pub hardware: Option<String>,
    /// Firmware and version, such as `Tasmota 15.1.0`.
    pub firmware: Option<String>,
    /// Hardware address of its network interface.
    pub mac: Option<String>,
    /// The MQTT client id it connects with.
    pub client_id: Option<String>,
    /// Its topic (Tasmota's `%topic%`).
    pub topic: Option<String>,
    /// Its certificate.
    pub certificate: Option<Certificate>,
    /// What it may do, one permission per line, such as `publish tele/lamp/#`.
    pub permissions: Vec<String>,
    /// Its latest messages, newest first.
    pub messages: Vec<Telemetry>,
    /// What was done to it, newest first.
    pub history: Vec<HistoryEntry>,
}

/// What the doctor says about a device.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Diagnosis {
    /// The device.
    pub device: String,
    /// How it is.
    pub health: Health,
    /// The cause first, then what else was found.
    pub findings: Vec<Finding>,
    /// What could not be found out, and why.
    pub unknown: Vec<String>,
}

/// How a device is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Connected, and nothing found.
    Well,
    /// Connected; something will become trouble.
    Warned,
    /// It does not work.
    Ill,
    /// It does not work, and nothing that is known explains it.
    #[default]
    Unexplained,
}

impl Health {
    /// In words for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Well => "well: connected, and nothing found",
            Self::Warned => "connected, with a warning",
            Self::Ill => "not well",
            Self::Unexplained => "not connected, and nothing that is known explains it",
        }
    }
}

/// A cause that the doctor found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Finding {
    /// Its rule's name, for scripts.
    pub rule: String,
    /// The cause, in a sentence.
    pub cause: String,
    /// What it follows from.
    pub evidence: Vec<String>,
    /// What to do.
    pub next_step: String,
    /// What the command line would do about it, where that is safe. Words between backticks are shown as commands.
    pub repair: Option<String>,
}

/// A certificate's face.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Certificate {
    /// Subject, as RFC 4514 text.
    pub subject: String,
    /// Issuer, as RFC 4514 text.
    pub issuer: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Start of validity, RFC 3339.
    pub not_before: Option<String>,
    /// End of validity, RFC 3339.
    pub not_after: Option<String>,
    /// SHA-256 of the certificate's DER, hexadecimal.
    pub fingerprint: Option<String>,
    /// Its key in words, such as `EC P-256`.
    pub key: Option<String>,
}

/// A line of the audit trail that concerns a device.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HistoryEntry {
    /// When, RFC 3339.
    pub at: String,
    /// What was done, and by whom if known.
    pub text: String,
}

/// How much a device wants the owner's eye; the order of the table.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Standing {
    OfflineWithProblem,
    Problem,
    Offline,
    Online,
    /// Revoked or retired: it is meant to be away.
    Dismissed,
}

impl DeviceView {
    /// Where the device stands.
    pub(crate) fn standing(&self) -> Standing {
        match (&self.problem, self.online) {
            (Some(_), false) => Standing::OfflineWithProblem,
            (Some(_), true) => Standing::Problem,
            (None, true) => Standing::Online,
            (None, false) if matches!(self.state.as_str(), "revoked" | "retired") => Standing::Dismissed,
            (None, false) => Standing::Offline,
        }
    }

    /// A text whose order is the table's: the standing, then the name with numbers in counting order, so that
    /// `lamp-2` precedes `lamp-10`. Page script compares the same text.
    pub(crate) fn sort_key(&self) -> String {
        let mut key = format!("{} ", self.standing() as u8);
        let mut digits = String::new();
        for c in self.name.chars().flat_map(char::to_lowercase).chain([' ']) {
            if c.is_ascii_digit() {
                digits.push(c);
                continue;
            }
            if !digits.is_empty() {
                key.push_str(&format!("{digits:0>10}"));
                digits.clear();
            }
            key.push(c);
        }
        key + &self.name
    }

    /// Whether every word of the search text occurs in what the row says, upper and lower case alike.
    pub(crate) fn matches(&self, search: &str) -> bool {
        let mut row = vec![self.name.as_str(), self.state.as_str(), self.rung.words(), self.status()];
        row.extend(self.address.as_deref());
        row.extend(self.certificate_serial.as_deref());
        row.extend(self.telemetry.as_ref().map(|t| t.topic.as_str()));
        if let Some(problem) = &self.problem {
            row.extend(["problem", problem.text.as_str()]);
        }
        let row = row.join("\n").to_lowercase();
        search.to_lowercase().split_whitespace().all(|word| row.contains(word))
    }

    /// Connected or not, in a word.
    pub(crate) fn status(&self) -> &'static str {
        if self.online { "Online" } else { "Offline" }
    }
}

/// What needs the owner's eye first, then by name.
pub(crate) fn sort(devices: &mut [DeviceView]) {
    devices.sort_by_cached_key(DeviceView::sort_key);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, online: bool, problem: bool) -> DeviceView {
        DeviceView {
            name: name.into(),
            online,
            problem: problem.then(|| Warning::new("fell", "lift")),
            ..DeviceView::default()
        }
    }

    #[test]
    fn what_needs_an_eye_comes_first_and_numbers_count() {
        let mut devices = [
            device("lamp-10", true, false),
            device("Lamp-2", true, false),
            device("zeta", false, false),
            device("beta", true, true),
            device("alpha", false, true),
            DeviceView { state: "revoked".into(), ..device("away", false, false) },
        ];
        sort(&mut devices);
        let names: Vec<_> = devices.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["alpha", "beta", "zeta", "Lamp-2", "lamp-10", "away"]);
    }

    #[test]
    fn a_search_wants_every_word_somewhere_in_the_row() {
        let lamp = DeviceView {
            address: Some("192.0.2.7".into()),
            rung: Rung::Mutual,
            ..device("Hall-Lamp", false, true)
        };
        for (search, expected) in [
            ("", true),
            ("hall", true),
            ("LAMP 192.0.2.7", true),
            ("problem offline", true),
            ("mutual", true),
            ("hall online", false),
            ("kitchen", false),
        ] {
            assert_eq!(lamp.matches(search), expected, "{search:?}");
        }
    }

    #[test]
    fn a_rung_says_its_name_in_json() {
        for (rung, name) in
            [(Rung::Mutual, "mutual"), (Rung::Pinned, "pinned"), (Rung::Plain, "plain"), (Rung::Unknown, "")]
        {
            assert_eq!(serde_json::to_value(rung).unwrap(), name);
            assert_eq!(Rung::named(name), rung);
        }
    }
}
