//! What an enrolment is going to do, as a list for a person: `--dry-run` prints it. Pure: asks nobody.

use std::fmt;

use crate::device::{Device, DeviceState};
use crate::enrol::{BrokerTarget, CaKind, EnrolRequest, Probe, TlsAbility, WantedRung};
use crate::step::Step;

/// The steps of an enrolment, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// One line about the device.
    pub heading: String,
    /// The steps.
    pub steps: Vec<Planned>,
}

/// One step of a plan.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Planned {
    /// The step.
    pub step: Step,
    /// Its particulars, may be empty.
    pub detail: String,
}

impl Plan {
    /// The plan for a request, as far as it can be told: `known` is what the registry has under the name, `found` what
    /// a probe saw. A run decides anew, by what it finds then.
    #[must_use]
    pub fn new(
        request: &EnrolRequest,
        broker: &BrokerTarget,
        known: Option<&Device>,
        found: Option<&Probe>,
    ) -> Self {
        let known = known.filter(|device| device.state.is_present());
        let heading = match (known, found) {
            (Some(device), _) => {
                format!("{}  {} ({}), at {}", request.name, device.state, device.mac, request.address)
            }
            (None, Some(found)) => {
                format!("{}  new device {}, at {}", request.name, found.network.mac, request.address)
            }
            (None, None) => format!("{}  new device, at {}", request.name, request.address),
        };
        if pinned(request, broker, found) {
            return Self::of(heading, pinned_steps(request, broker, found));
        }
        let target = format!("{}:{}", broker.host, broker.port);
        let mut steps = vec![
            (
                Step::Probe,
                "Status 2, 5, 6, 7, MqttTLS, TLSKey; no key is sent before all are answered".to_owned(),
            ),
            (Step::Broker, target.clone()),
            (Step::Register, "with its present settings, for the way back".to_owned()),
        ];
        if let Some(stop) = found.and_then(|found| stop(found, broker)) {
            steps.truncate(1);
            steps.push((Step::Commit, stop));
            return Self::of(heading, steps);
        }
        let serial = known.and_then(|device| device.serial.as_deref());
        steps.push(match serial {
            Some(serial) => (Step::Certificate, format!("{serial}, issued before")),
            None => (Step::Certificate, format!("CN={}, EC P-256, profile tasmota", request.name)),
        });
        let on_device = known.is_some_and(|device| {
            matches!(device.state, DeviceState::KeyPushed | DeviceState::Switched | DeviceState::Proven)
        });
        if on_device && serial.is_some() {
            steps.push((Step::ReadBack, "stored before; sent again only if the lengths differ".to_owned()));
        } else {
            steps.push((Step::QuietLogs, "SerialLog, SysLog, MqttLog, FileLog 0, WebLog 2".to_owned()));
            steps.push((Step::PushKey, "32 bytes".to_owned()));
            steps.push((Step::PushCertificate, "DER".to_owned()));
            steps.push((Step::ReadBack, "32 and the exact length of the certificate".to_owned()));
        }
        if found.is_some_and(|found| found.is_at(broker)) && on_device {
            steps.push((Step::Switch, format!("uses {target} already")));
        } else {
            let ecdsa = u8::from(broker.ca_kind == CaKind::Ec);
            steps.push((Step::Clock, "within 60 s of ours, else set".to_owned()));
            steps.push((
                Step::Switch,
                format!(
                    "Backlog SetOption132 0; SetOption165 {ecdsa}; SetOption103 1; MqttHost {}; MqttPort {}",
                    broker.host, broker.port
                ),
            ));
            steps.push((Step::Return, String::new()));
        }
        steps.push((Step::Prove, "else the old settings go back".to_owned()));
        steps.push((Step::Commit, String::new()));
        steps.push((Step::RestoreLogs, String::new()));
        Self::of(heading, steps)
    }

    fn of(heading: String, steps: Vec<(Step, String)>) -> Self {
        Self { heading, steps: steps.into_iter().map(|(step, detail)| Planned { step, detail }).collect() }
    }
}

/// Whether the device goes to the pinned rung, as far as it can be told.
fn pinned(request: &EnrolRequest, broker: &BrokerTarget, found: Option<&Probe>) -> bool {
    match (request.rung, found.map(|found| found.tls)) {
        (WantedRung::Pinned, tls) => tls != Some(TlsAbility::None),
        (WantedRung::Auto, Some(TlsAbility::Server)) => broker.pinned_port.is_some(),
        _ => false,
    }
}

fn pinned_steps(request: &EnrolRequest, broker: &BrokerTarget, found: Option<&Probe>) -> Vec<(Step, String)> {
    let probe =
        "Status 2, 5, 6, 7, 11, MqttTLS, TLSKey; no password is sent before all are answered".to_owned();
    let Some(port) = broker.pinned_port else {
        let stop = "stops: the broker has no listener for devices without a certificate".to_owned();
        return vec![(Step::Probe, probe), (Step::Commit, stop)];
    };
    let target = format!("{}:{port}", broker.host);
    if found.is_some_and(|found| found.is_pinned_to(broker, &[request.name.as_str()])) {
        return vec![
            (Step::Probe, probe),
            (Step::Broker, target.clone()),
            (Step::ProvePassword, "with the password it has".into()),
            (Step::Switch, format!("uses {target} already")),
            (Step::Commit, String::new()),
        ];
    }
    vec![
        (Step::Probe, probe),
        (Step::Broker, target),
        (Step::Register, "with its present settings, for the way back".into()),
        (Step::Password, "40 hex digits, kept here as a hash".into()),
        (Step::QuietLogs, "SerialLog, SysLog, MqttLog, FileLog 0, WebLog 2".into()),
        (Step::Clock, "within 60 s of ours, else set".into()),
        (
            Step::Switch,
            format!(
                "Backlog MqttFingerprint1 …; MqttFingerprint2 …; SetOption132 1; SetOption103 1; MqttHost {}; MqttPort \
                 {port}; MqttUser {}; MqttPassword ****",
                broker.host, request.name
            ),
        ),
        (Step::Return, String::new()),
        (Step::CheckPins, "the broker's key, and no slot that accepts anybody".into()),
        (Step::ProvePassword, "else the old settings go back".into()),
        (Step::Commit, String::new()),
        (Step::RestoreLogs, String::new()),
    ]
}

fn stop(found: &Probe, broker: &BrokerTarget) -> Option<String> {
    let firmware = &found.firmware.version;
    match found.tls {
        TlsAbility::None => Some(format!("stops: firmware {firmware} has no TLS")),
        TlsAbility::Server => {
            Some(format!("stops: firmware {firmware} has no client certificates (no TLSKey)"))
        }
        TlsAbility::Client(_) if broker.ca_kind == CaKind::Ec && found.settings.ecdsa.is_none() => {
            Some(format!("stops: firmware {firmware} cannot check an EC CA"))
        }
        TlsAbility::Client(_) => None,
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.heading)?;
        for (at, planned) in self.steps.iter().enumerate() {
            let line = format!("  {:>2} {:<42} {}", at + 1, planned.step.title(), planned.detail);
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> EnrolRequest {
        EnrolRequest::new("kitchen-plug".parse().unwrap(), "192.0.2.7".parse().unwrap())
    }

    fn broker() -> BrokerTarget {
        BrokerTarget {
            host: "hub.lan".into(),
            port: 8883,
            ca_kind: CaKind::Rsa,
            server_fingerprint: [7; 20],
            pinned_port: Some(8884),
        }
    }

    #[test]
    fn a_plan_for_the_pinned_rung_names_no_key_and_hides_the_password() {
        let request = EnrolRequest { rung: WantedRung::Pinned, ..request() };
        let text = Plan::new(&request, &broker(), None, None).to_string();
        assert!(text.contains("MqttPort 8884; MqttUser kitchen-plug; MqttPassword ****"), "{text}");
        assert!(!text.contains("TLSKey1"), "{text}");
        let closed = BrokerTarget { pinned_port: None, ..broker() };
        assert!(Plan::new(&request, &closed, None, None).to_string().contains("stops: the broker has no"));
    }

    #[test]
    fn a_plan_reads_as_a_list() {
        let text = Plan::new(&request(), &broker(), None, None).to_string();
        assert!(text.starts_with("kitchen-plug  new device, at 192.0.2.7\n   1 ask the device"), "{text}");
        assert!(text.contains("MqttHost hub.lan; MqttPort 8883"), "{text}");
        let order = ["TLSKey1", "TLSKey2", "check the stored lengths", "SetOption103 1", "broker saw"];
        let places: Vec<usize> = order.iter().map(|word| text.find(word).unwrap()).collect();
        assert!(places.is_sorted(), "{text}");
    }
}
