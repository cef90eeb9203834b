//! The rules. A table where a name alone decides, a function where names have to agree.

mod fingerprints;
mod names;

use super::super::{Chip, Release, directive::Flaw};
use super::{
    Finding, Level, Target,
    reading::{Definition, Reading},
};

/// All that the rules say.
pub(super) fn all(reading: &Reading, target: Target) -> Vec<Finding> {
    let mut rules = Rules { reading, target, findings: Vec::new() };
    rules.structure();
    names::check(&mut rules);
    rules.transport();
    if rules.is_about_tls() {
        rules.client_certificate();
        let trust = rules.trust();
        rules.anchors(trust);
        rules.switches(trust);
        fingerprints::check(&mut rules, trust);
        rules.address();
    }
    rules.findings
}

/// How a device with this file knows the server, before anybody sets anything on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    Ca,
    Fingerprint,
    /// By CA, but the file has a fingerprint that is to be compared: the guide's own mistake.
    CaByMistake,
}

struct Rules<'a> {
    reading: &'a Reading,
    target: Target,
    findings: Vec<Finding>,
}

impl Rules<'_> {
    fn add(
        &mut self,
        place: (usize, usize),
        level: Level,
        rule: &'static str,
        name: &str,
        what: &str,
        instead: &str,
    ) {
        self.findings.push(Finding {
            line: place.0,
            column: place.1,
            level,
            rule,
            name: name.to_owned(),
            what: what.to_owned(),
            instead: instead.to_owned(),
        });
    }

    fn at(&mut self, it: &Definition, level: Level, rule: &'static str, what: &str, instead: &str) {
        self.add((it.line, it.column), level, rule, &it.name, what, instead);
    }

    /// Where what is missing belongs: at the switch for TLS, else at the top.
    fn missing(&mut self, level: Level, name: &str, what: &str, instead: &str) {
        let place = self.reading.get("USE_MQTT_TLS").map_or((1, 1), |tls| (tls.line, tls.column));
        self.add(place, level, "missing", name, what, instead);
    }

    fn is_esp8266(&self) -> bool {
        self.target.chip == Some(Chip::Esp8266)
    }

    fn has_client_certificate(&self) -> bool {
        self.reading.has("USE_MQTT_AWS_IOT")
            || (self.reading.has("USE_MQTT_CLIENT_CERT") && self.target.release >= Release::CLIENT_CERT)
    }

    fn is_about_tls(&self) -> bool {
        names::KNOWN.iter().any(|name| self.reading.has(name))
    }

    fn structure(&mut self) {
        for &(flaw, line, column) in &self.reading.flaws {
            let (level, instead) = match flaw {
                Flaw::OpenComment => (Level::Error, "*/"),
                Flaw::ContinuedComment => (Level::Warning, "take the backslash away"),
                Flaw::NothingToEnd => (Level::Error, "take the line away"),
                Flaw::NeverEnds => (Level::Error, "#endif"),
            };
            self.add((line, column), level, "structure", "", flaw.what(), instead);
        }
        for (first, second) in &self.reading.twice {
            let what = format!(
                "line {} gives it another value, {:?}; the last one counts",
                first.line, first.value.text
            );
            let instead = format!("one of them, or #undef {} before this line", second.name);
            self.at(second, Level::Warning, "twice", &what, &instead);
        }
        for it in self.reading.defined.values().filter(|it| it.over_default) {
            let what = "Tasmota's my_user_config.h defines it already, and the compiler complains";
            self.at(it, Level::Warning, "redefined", what, &format!("#undef {} before this line", it.name));
        }
        for (it, line) in &self.reading.skipped {
            if names::KNOWN.contains(&it.name.as_str()) {
                let what = format!("it does not count: the condition of line {line} leaves it out");
                self.at(it, Level::Warning, "skipped", &what, "move it out of the condition");
            }
        }
    }

    fn transport(&mut self) {
        if self.reading.has("USE_MQTT_TLS") {
            return;
        }
        let gone = self.reading.undefined.get("USE_MQTT_TLS").copied();
        let instead = "#undef USE_MQTT_TLS\n#define USE_MQTT_TLS";
        match (self.target.chip, gone) {
            (_, Some(place)) if self.is_about_tls() => {
                let what = "it is undefined here: there is no MQTT over TLS, and the other lines about it do nothing";
                self.add(place, Level::Error, "missing", "USE_MQTT_TLS", what, instead);
            }
            (Some(Chip::Esp32), _) => {}
            (Some(Chip::Esp8266), _) => {
                self.missing(
                    Level::Error,
                    "USE_MQTT_TLS",
                    "no ESP8266 has MQTT over TLS without it",
                    instead,
                );
            }
            (None, _) => {
                let what = "an ESP8266 has no MQTT over TLS without it; an ESP32 has it by itself";
                self.missing(Level::Warning, "USE_MQTT_TLS", what, instead);
            }
        }
    }

    fn client_certificate(&mut self) {
        let release = self.target.release;
        let (new, old) = (self.reading.get("USE_MQTT_CLIENT_CERT"), self.reading.get("USE_MQTT_AWS_IOT"));
        match (new, old) {
            (Some(_), Some(old)) if release >= Release::CLIENT_CERT => {
                let what = "it counts beside USE_MQTT_CLIENT_CERT: user and password are not sent once a key is loaded, \
                            and nothing connects while MqttPassword is empty";
                self.at(old, Level::Warning, "contradiction", what, "take the line away");
            }
            (None, Some(old)) if release >= Release::CLIENT_CERT => {
                let what = "deprecated since 14.5.0.1: user and password are not sent once a key is loaded, and nothing \
                            connects while MqttPassword is empty";
                self.at(old, Level::Warning, "obsolete", what, "#define USE_MQTT_CLIENT_CERT");
            }
            (Some(new), None) if release < Release::CLIENT_CERT => {
                let what = "this version does not know it, and has no TLSKey command then";
                self.at(new, Level::Error, "too-early", what, "#define USE_MQTT_AWS_IOT");
            }
            (None, None) => {
                let name =
                    if release < Release::CLIENT_CERT { "USE_MQTT_AWS_IOT" } else { "USE_MQTT_CLIENT_CERT" };
                let what = "without it there is no TLSKey command: devices have no certificate of their own";
                self.missing(Level::Warning, name, what, &format!("#define {name}"));
            }
            _ => {}
        }
        if let (Some(_), Some(password)) = (old, self.reading.get("MQTT_PASS"))
            && password.value.text == "\"\""
        {
            let what = "with USE_MQTT_AWS_IOT nothing connects while the password is empty";
            self.at(
                password,
                Level::Error,
                "contradiction",
                what,
                "#define USE_MQTT_CLIENT_CERT instead of USE_MQTT_AWS_IOT",
            );
        }
        if let Some(discovery) = self.reading.get("USE_DISCOVERY")
            && self.has_client_certificate()
            && self.target.chip != Some(Chip::Esp32)
        {
            let level = if self.is_esp8266() { Level::Error } else { Level::Warning };
            let what = "on an ESP8266 mDNS and client certificates do not compile together";
            self.at(discovery, level, "contradiction", what, "#undef USE_DISCOVERY");
        }
    }

    fn trust(&mut self) -> Mode {
        let ca_cert = self.reading.get("USE_MQTT_TLS_CA_CERT");
        if self.target.release < Release::RUNTIME_MODE {
            return if ca_cert.is_some() { Mode::Ca } else { Mode::Fingerprint };
        }
        let chosen = self.reading.get("MQTT_TLS_FINGERPRINT").and_then(|it| boolean(&it.value.text));
        match chosen {
            Some(true) => {
                if let Some(ca_cert) = ca_cert {
                    let what = "ignored since 10.0.0.4, and MQTT_TLS_FINGERPRINT says the opposite";
                    self.at(ca_cert, Level::Warning, "contradiction", what, "take the line away");
                }
                Mode::Fingerprint
            }
            Some(false) => Mode::Ca,
            None if ca_cert.is_none()
                && !self.reading.has("INCLUDE_LOCAL_CERT")
                && fingerprints::are_meant(self.reading) =>
            {
                Mode::CaByMistake
            }
            None => Mode::Ca,
        }
    }

    fn anchors(&mut self, mode: Mode) {
        let release = self.target.release;
        let local = self.reading.has("INCLUDE_LOCAL_CERT");
        let omitted = (self.reading.get("OMIT_LETS_ENCRYPT_CERT"), self.reading.get("OMIT_AWS_CERT"));
        if let (Some(_), Some(last), false, true) =
            (omitted.0, omitted.1, local, release >= Release::LOCAL_CERT)
        {
            let what = "with both public CAs left out and none of one's own, the table of CAs is empty and does not compile";
            self.at(last, Level::Error, "contradiction", what, "#define INCLUDE_LOCAL_CERT");
        }
        if mode != Mode::Ca || release < Release::LOCAL_CERT || self.reading.has("INCLUDE_LOCAL_CA_CERT") {
            return;
        }
        if !local {
            let what = "one's own CA is not compiled in: its server is refused with TLS error 62";
            let instead = "#define INCLUDE_LOCAL_CERT, with local_ca_data.h and local_ca_descriptor.h from quoll firmware";
            self.missing(Level::Warning, "INCLUDE_LOCAL_CERT", what, instead);
        } else if omitted.0.is_none() || omitted.1.is_none() {
            let what = "public CAs are trusted beside one's own, and take room";
            let instead = "#define OMIT_LETS_ENCRYPT_CERT\n#define OMIT_AWS_CERT";
            self.missing(Level::Note, "OMIT_LETS_ENCRYPT_CERT", what, instead);
        }
    }

    fn switches(&mut self, mode: Mode) {
        for name in ["MQTT_TLS_ENABLED", "MQTT_TLS_FINGERPRINT", "MQTT_TLS_ECDSA"] {
            if let Some(it) = self.reading.get(name)
                && boolean(&it.value.text).is_none()
            {
                let what = format!("{:?} is neither true nor false", it.value.text);
                self.at(it, Level::Error, "value", &what, &format!("#define {name} true"));
            }
        }
        let enabled = self.reading.get("MQTT_TLS_ENABLED");
        let instead = "#undef MQTT_TLS_ENABLED\n#define MQTT_TLS_ENABLED true";
        match enabled.map(|it| (it, boolean(&it.value.text))) {
            None => {
                let what = "TLS is compiled in but off: a new device speaks plain MQTT until SetOption103 1";
                self.missing(Level::Warning, "MQTT_TLS_ENABLED", what, instead);
            }
            Some((it, Some(false))) => {
                let what = "TLS is compiled in but off: a new device speaks plain MQTT until SetOption103 1";
                self.at(it, Level::Warning, "contradiction", what, instead);
            }
            _ => {}
        }
        if let Some(ecdsa) = self.reading.get("MQTT_TLS_ECDSA")
            && boolean(&ecdsa.value.text) == Some(true)
            && mode == Mode::Fingerprint
        {
            let what = "by fingerprint a device offers RSA alone: an EC server is refused with TLS error 296";
            self.at(ecdsa, Level::Warning, "contradiction", what, "#define MQTT_TLS_ECDSA false");
        }
    }

    fn address(&mut self) {
        let port_line = "#undef MQTT_PORT\n#define MQTT_PORT 8883";
        match self.reading.get("MQTT_PORT") {
            None => {
                let what =
                    "the default is 1883, plain MQTT: with TLS on, nothing connects until MqttPort is set";
                self.missing(Level::Warning, "MQTT_PORT", what, port_line);
            }
            Some(it) => match it.value.text.parse::<u16>() {
                Ok(1883) => {
                    let what = "1883 is plain MQTT: with TLS on, nothing connects";
                    self.at(it, Level::Warning, "contradiction", what, port_line);
                }
                Ok(port) if port != 0 => {}
                _ => {
                    let what = format!("{:?} is no port, a number from 1 to 65535", it.value.text);
                    self.at(it, Level::Error, "value", &what, port_line);
                }
            },
        }
        let host_line = "#undef MQTT_HOST\n#define MQTT_HOST \"mqtt.home.example\"";
        let Some(it) = self.reading.get("MQTT_HOST") else {
            let what = "devices do not know where to connect to until MqttHost is set on each";
            self.missing(Level::Note, "MQTT_HOST", what, host_line);
            return;
        };
        let text = it.value.text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        match text {
            None => {
                let what = format!("{:?} is no text in quotes", it.value.text);
                self.at(it, Level::Error, "value", &what, host_line);
            }
            Some(host) if host.to_ascii_lowercase().trim_end_matches('.').ends_with(".local") => {
                let what = "names under .local are mDNS names, which Tasmota does not resolve";
                self.at(it, Level::Error, "value", what, "an address, or a name that the router's DNS knows");
            }
            Some(_) => {}
        }
    }
}

/// What C++ reads as true or false.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}
