//! A virtual device's side of MQTT, pure: when to connect and with what, what to say after CONNACK, what to answer, when
//! to try again. Facts §3.5, §4.3, §6.

use std::time::Duration;

use super::{
    Chip, Machine, Now,
    tls::{ClientAuth, MaxFragment, TlsFailure, TlsSettings, Trust, client::Summary},
};
use crate::{limits::MQTT_PACKET_BYTES, setting::SetOption};

/// A message the device publishes, at QoS 0.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Publication {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
    /// Whether the broker keeps it.
    pub retain: bool,
}

/// Everything needed for one attempt to connect. Facts §6.1.
#[derive(Clone)]
pub struct ConnectPlan {
    /// MqttHost.
    pub host: String,
    /// MqttPort.
    pub port: u16,
    /// TLS, if SetOption103 was on at boot.
    pub tls: Option<TlsSettings>,
    /// MqttClient.
    pub client: String,
    /// MqttUser and MqttPassword; a password never goes without a user.
    pub login: Option<(String, String)>,
    /// Topic of the will: tele/…/LWT, payload `Offline`, QoS 1.
    pub will_topic: String,
    /// Whether the will is retained (not with SetOption104).
    pub will_retain: bool,
    /// Not with SetOption140.
    pub clean_session: bool,
    /// Seconds.
    pub keep_alive: u16,
    /// Filters to subscribe after CONNACK, at QoS 0.
    pub subscriptions: Vec<String>,
}

/// Where the connection stands.
pub(super) struct Session {
    phase: Phase,
    count: u64,
    retry_step: u32,
    last_error: Option<i32>,
    last_return_code: Option<i32>,
    fingerprint: Option<[u8; 20]>,
    telemetry_due: Option<Duration>,
    discovery_due: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Waiting { until: Duration },
    Connecting,
    Connected,
}

impl Session {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            phase: Phase::Waiting { until: now },
            count: 0,
            retry_step: 1,
            last_error: None,
            last_return_code: None,
            fingerprint: None,
            telemetry_due: None,
            discovery_due: None,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.phase == Phase::Connected
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

/// Return code of a TCP connection that failed. Facts §7.4.
pub const RC_CONNECT_FAILED: i32 = -2;
/// Return code when the broker does not answer CONNECT in time.
pub const RC_TIMEOUT: i32 = -4;
/// Return code when the host name has no address.
pub const RC_DNS: i32 = -5;

impl Machine {
    /// What to connect with, if it is time to; the machine then waits for one of the three verdicts below.
    pub fn connect(&mut self, now: Now) -> Option<ConnectPlan> {
        let settings = &self.settings;
        let wanted =
            settings.option(SetOption::MQTT) && !settings.mqtt_host.is_empty() && !self.is_restarting();
        match self.session.phase {
            Phase::Waiting { until } if wanted && until <= now.up => {}
            _ => return None,
        }
        let plan = ConnectPlan {
            host: settings.mqtt_host.clone(),
            port: settings.mqtt_port,
            tls: self.tls_on.then(|| self.tls_settings(now)),
            client: settings.mqtt_client.clone(),
            login: (!settings.mqtt_user.is_empty())
                .then(|| (settings.mqtt_user.clone(), settings.mqtt_password.clone())),
            will_topic: self.topics().last_will().as_str().into(),
            will_retain: self.retains(),
            clean_session: !settings.option(SetOption::PERSISTENT_SESSION),
            keep_alive: settings.keep_alive,
            subscriptions: self
                .topics()
                .subscriptions()
                .iter()
                .map(|filter| filter.as_str().into())
                .collect(),
        };
        self.session.phase = Phase::Connecting;
        self.session.fingerprint = None;
        self.note(2, now, "MQT: Attempting connection...");
        if plan.tls.is_none() && matches!(plan.port, 443 | 8443 | 8883) {
            self.note(2, now, &format!("MQT: Warning non-TLS connection on TLS port {}", plan.port));
        }
        Some(plan)
    }

    /// The handshake is through.
    pub fn tls_opened(&mut self, summary: Summary, took: Duration, now: Now) {
        self.note(2, now, &format!("MQT: TLS connected in {} ms", took.as_millis()));
        if !summary.fragment_agreed {
            self.note(2, now, "MQT: MFLN not supported by TLS server");
        }
        if let Some(fingerprint) = summary.fingerprint {
            self.note(3, now, &format!("MQT: Server fingerprint: {}", spaced(&fingerprint)));
        }
        self.session.fingerprint = summary.fingerprint;
    }

    /// CONNACK with code 0 came.
    pub fn connected(&mut self, now: Now) {
        let first = self.session.count == 0;
        self.session.phase = Phase::Connected;
        self.session.count += 1;
        self.session.retry_step = 1;
        self.session.last_error = None;
        self.session.last_return_code = None;
        self.note(2, now, "MQT: Connected");
        self.learn(now);
        self.outbox.clear();
        let topics = self.topics();
        let retain = self.retains();
        self.publish_text(topics.last_will().as_str(), b"Online", retain);
        if !self.settings.option(SetOption::JSON_ONLY) {
            self.publish_at(topics.command("POWER"), Vec::new());
        }
        if first {
            for (index, info) in self.info_json().iter().enumerate() {
                self.publish_at(topics.telemetry(&format!("INFO{}", index + 1)), info.to_string().into());
            }
        }
        let power = self.settings.state_text(self.settings.power).to_owned();
        self.publish_at(topics.status("RESULT"), format!(r#"{{"POWER":"{power}"}}"#).into());
        self.publish_at(topics.status("POWER"), power.into());
        self.session.telemetry_due = Some(now.up + self.scaled(5.0));
        self.session.discovery_due = Some(now.up + self.scaled(if first { 10.0 } else { 1.0 }));
    }

    /// TLS failed: logs the number, and turns SetOption165 on after 296. True if the device crashed over it.
    pub fn tls_failed(&mut self, failure: TlsFailure, now: Now) -> bool {
        match failure {
            TlsFailure::Crash => {
                self.crash(now);
                true
            }
            TlsFailure::Number(number) => {
                self.note(2, now, &format!("MQT: TLS connection error: {number}"));
                self.session.last_error = Some(number);
                if number == 296 {
                    self.settings.set_option(SetOption::ECDSA, true);
                    self.ecdsa_on = true;
                    self.save(now);
                }
                self.connect_failed(RC_CONNECT_FAILED, now);
                false
            }
        }
    }

    /// No connection: a negative code of the device's own, or the broker's refusal.
    pub fn connect_failed(&mut self, code: i32, now: Now) {
        self.session.last_return_code = Some(code);
        let (retry, longest) = (f64::from(self.settings.retry), 120.0);
        let wait = retry * f64::from(self.session.retry_step);
        if wait < longest {
            self.session.retry_step += 1;
        }
        self.session.phase = Phase::Waiting { until: now.up + self.scaled(wait) };
        let (host, port) = (&self.settings.mqtt_host, self.settings.mqtt_port);
        let text = format!("MQT: Connect failed to {host}:{port}, rc {code}. Retry in {wait} sec");
        self.note(2, now, &text);
    }

    /// The connection was there and is gone, with a TLS error or without.
    pub fn lost(&mut self, failure: Option<TlsFailure>, now: Now) {
        if let Some(TlsFailure::Number(number)) = failure {
            self.note(2, now, &format!("MQT: TLS connection error: {number}"));
            self.session.last_error = Some(number);
        }
        self.note(2, now, "MQT: Disconnected");
        self.session.phase = Phase::Waiting { until: now.up + self.scaled(f64::from(self.settings.retry)) };
        self.session.telemetry_due = None;
        self.session.discovery_due = None;
        self.outbox.clear();
    }

    /// The Wi-Fi went away under it.
    pub fn wifi_lost(&mut self, now: Now) {
        self.note(2, now, "WIF: Connect failed as AP cannot be reached");
        if !matches!(self.session.phase, Phase::Waiting { .. }) {
            self.lost(None, now);
        }
    }

    /// A message for the device. Too large ones are dropped silently, as is what is no command. Facts §6.4.
    pub fn message(&mut self, topic: &str, payload: &[u8], now: Now) {
        if 5 + topic.len() + payload.len() > MQTT_PACKET_BYTES {
            return;
        }
        let Some(command) = self.topics().command_of(topic).map(str::to_owned) else { return };
        let payload = String::from_utf8_lossy(payload);
        self.command(&format!("{command} {payload}"), now);
    }

    /// Whether MQTT is up.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.session.is_connected()
    }

    /// Successful connections since boot.
    #[must_use]
    pub fn mqtt_count(&self) -> u64 {
        self.session.count
    }

    /// Number of the last TLS failure since the last success.
    #[must_use]
    pub fn last_tls_error(&self) -> Option<i32> {
        self.session.last_error
    }

    /// Return code of the last failed attempt since the last success.
    #[must_use]
    pub fn last_return_code(&self) -> Option<i32> {
        self.session.last_return_code
    }

    /// Takes the messages that wait for the broker.
    pub fn take_publications(&mut self) -> Vec<Publication> {
        self.outbox.drain(..).collect()
    }

    pub(super) fn session_due(&self) -> Option<Duration> {
        match self.session.phase {
            Phase::Connecting => None,
            Phase::Waiting { .. } if self.is_restarting() || self.settings.mqtt_host.is_empty() => None,
            Phase::Waiting { until } => Some(until),
            Phase::Connected => {
                [self.session.telemetry_due, self.session.discovery_due].into_iter().flatten().min()
            }
        }
    }

    pub(super) fn session_tick(&mut self, now: Now) {
        if !self.session.is_connected() {
            return;
        }
        let topics = self.topics();
        if self.session.telemetry_due.is_some_and(|due| due <= now.up) {
            let period = self.settings.tele_period;
            self.session.telemetry_due = (period > 0).then(|| now.up + Duration::from_secs(period.into()));
            self.publish_at(topics.telemetry("STATE"), self.state_json(now).to_string().into());
            self.publish_at(topics.telemetry("SENSOR"), self.sensor_json(now).to_string().into());
        }
        if self.session.discovery_due.is_some_and(|due| due <= now.up) {
            self.session.discovery_due = None;
            let off = self.settings.option(SetOption::DISCOVERY_OFF);
            let config = if off { String::new() } else { self.discovery_json().to_string() };
            let sensors = if off { "" } else { r#"{"sn":{"Time":"","ENERGY":{"Power":0}},"ver":1}"# };
            self.publish_text(topics.discovery_config().as_str(), config.as_bytes(), true);
            self.publish_text(topics.discovery_sensors().as_str(), sensors.as_bytes(), true);
        }
    }

    fn tls_settings(&self, now: Now) -> TlsSettings {
        let fingerprint_mode = self.settings.option(SetOption::FINGERPRINT_MODE);
        let client_auth = match self.keys.loaded().credentials() {
            _ if !self.profile.has_tls_key() => ClientAuth::NotCompiled,
            Some((key, certificate)) => ClientAuth::Stored { key, certificate },
            None => ClientAuth::Missing { crashes: self.profile.crashes_without_key },
        };
        let is_esp32 = self.profile.chip == Chip::Esp32;
        TlsSettings {
            host: self.settings.mqtt_host.clone(),
            fragment: if is_esp32 { MaxFragment::Bytes2048 } else { MaxFragment::Bytes1024 },
            ecdsa: self.ecdsa_on,
            rsa_4096: is_esp32,
            trust: match fingerprint_mode {
                true => Trust::Fingerprints(self.settings.fingerprints),
                false => Trust::Anchors(self.anchors.clone()),
            },
            now: self.certificate_clock(now),
            client_auth,
        }
    }

    /// A zero slot takes the received value unless the other has it already. Facts §4.3.
    fn learn(&mut self, now: Now) {
        let Some(received) = self.session.fingerprint else { return };
        let [first, second] = &mut self.settings.fingerprints;
        let learns = if *first == [0; 20] && *second != received {
            *first = received;
            true
        } else if *second == [0; 20] && *first != received {
            *second = received;
            true
        } else {
            false
        };
        if learns {
            self.save(now);
            self.note(2, now, &format!("MQT: Fingerprint learned: {}", spaced(&received)));
        }
    }

    fn retains(&self) -> bool {
        !self.settings.option(SetOption::NO_RETAIN)
    }

    fn publish_at(
        &mut self,
        topic: Result<quoll_mqtt::TopicName, quoll_mqtt::topic::TopicError>,
        payload: Vec<u8>,
    ) {
        if let Ok(topic) = topic {
            self.publish_text(topic.as_str(), &payload, false);
        }
    }

    fn publish_text(&mut self, topic: &str, payload: &[u8], retain: bool) {
        let retain = retain && self.retains();
        self.publish(Publication { topic: topic.into(), payload: payload.into(), retain });
    }
}

fn spaced(bytes: &[u8; 20]) -> String {
    bytes.map(|byte| format!("{byte:02X}")).join(" ")
}
