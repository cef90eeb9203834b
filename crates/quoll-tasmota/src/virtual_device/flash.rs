//! What survives a restart of a virtual device: settings, key area, the time of the last save, the boot counter.

use std::time::Duration;

use zeroize::Zeroizing;

use super::{Machine, Now, VirtualProfile, key_store::KeyArea};
use crate::{fingerprint::Fingerprint, setting::SetOption};

/// The flash of a device.
#[derive(Clone)]
pub struct Flash {
    /// Settings as last saved.
    pub settings: Settings,
    /// The TLSKey area, written at once and not with the settings.
    pub keys: Option<KeyArea>,
    /// UTC seconds of the last save: the floor of the device's clock. Facts §3.3.
    pub saved_at: u64,
    /// Boots so far.
    pub boots: u32,
    /// Why it went down last, as `Status 1` says it.
    pub restart_reason: &'static str,
}

/// What `Status 1` says after the power was away.
pub(super) const POWER_ON: &str = "Power On";
/// After an orderly restart.
pub(super) const RESTARTED: &str = "Software/System restart";
/// After a crash.
pub(super) const EXCEPTION: &str = "Exception";

impl Flash {
    /// As it leaves the factory.
    #[must_use]
    pub fn factory(profile: &VirtualProfile) -> Self {
        Self {
            settings: Settings::factory(profile),
            keys: None,
            saved_at: 0,
            boots: 0,
            restart_reason: POWER_ON,
        }
    }

    /// As its owner left it who typed these console lines at the factory's, at this UTC time. How a load of thousands
    /// is made. A line that the device refuses changes nothing.
    #[must_use]
    pub fn typed(profile: &VirtualProfile, lines: &[Zeroizing<String>], utc: u64) -> Self {
        let now = Now { up: Duration::ZERO, utc };
        let mut machine =
            Machine::boot(profile.clone(), Self::factory(profile), ([127, 0, 0, 1], 80).into(), now);
        for line in lines {
            machine.command(line, now);
        }
        machine.save(now);
        Self { boots: 0, ..machine.parts().1 }
    }
}

/// The settings that the model knows.
#[derive(Clone, Eq, PartialEq)]
pub struct Settings {
    /// On/off options by number.
    options: [u64; 3],
    pub(super) mqtt_host: String,
    pub(super) mqtt_port: u16,
    pub(super) mqtt_user: String,
    pub(super) mqtt_password: String,
    pub(super) mqtt_client: String,
    pub(super) topic: String,
    pub(super) full_topic: String,
    pub(super) group_topic: String,
    /// `GroupTopic2` to `4`.
    pub(super) more_groups: [String; 3],
    /// `Prefix1` to `3`.
    pub(super) prefixes: [String; 3],
    pub(super) fingerprints: [[u8; 20]; 2],
    pub(super) ntp_server: String,
    pub(super) tele_period: u16,
    pub(super) keep_alive: u16,
    pub(super) retry: u16,
    pub(super) serial_log: u8,
    pub(super) sys_log: u8,
    pub(super) mqtt_log: u8,
    pub(super) web_log: u8,
    pub(super) file_log: u8,
    pub(super) web_password: String,
    /// 0 off, 1 user mode, 2 admin.
    pub(super) web_server: u8,
    pub(super) device_name: String,
    /// Its words for off and on: `StateText1`, `StateText2`.
    pub(super) state_texts: [String; 2],
    pub(super) power: bool,
}

impl Settings {
    /// Factory defaults. Facts §1.4, §1.5, §6.
    #[must_use]
    pub fn factory(profile: &VirtualProfile) -> Self {
        let tail = profile.mac.tail();
        let mut settings = Self {
            options: [0; 3],
            mqtt_host: profile.broker.0.clone(),
            mqtt_port: profile.broker.1,
            mqtt_user: "DVES_USER".into(),
            mqtt_password: "DVES_PASS".into(),
            mqtt_client: format!("DVES_{tail}"),
            topic: match profile.topic.as_str() {
                "" => format!("tasmota_{tail}"),
                topic => topic.into(),
            },
            full_topic: crate::topics::DEFAULT_FULL_TOPIC.into(),
            group_topic: "tasmotas".into(),
            more_groups: Default::default(),
            prefixes: ["cmnd", "stat", "tele"].map(Into::into),
            fingerprints: [[0; 20], Fingerprint::MATCHES_NOTHING.bytes()],
            ntp_server: "pool.ntp.org".into(),
            tele_period: profile.tele_period,
            keep_alive: 30,
            retry: 10,
            serial_log: 2,
            sys_log: 0,
            mqtt_log: 0,
            web_log: 2,
            file_log: 0,
            web_password: profile.web_password.clone(),
            web_server: 2,
            device_name: "Tasmota".into(),
            state_texts: ["OFF", "ON"].map(Into::into),
            power: false,
        };
        for option in [SetOption::MQTT, SetOption::HTTP_WITHOUT_REFERER] {
            settings.set_option(option, true);
        }
        settings
    }

    /// Whether an option is on.
    #[must_use]
    pub fn option(&self, option: SetOption) -> bool {
        self.options[usize::from(option.number() / 64)] >> (option.number() % 64) & 1 == 1
    }

    /// `MqttUser` and `MqttPassword`.
    #[must_use]
    pub fn login(&self) -> (&str, &str) {
        (&self.mqtt_user, &self.mqtt_password)
    }

    /// The owner's word for a state, which is in the answers to SetOptions, too.
    pub(super) fn state_text(&self, on: bool) -> &str {
        &self.state_texts[usize::from(on)]
    }

    pub(super) fn set_option(&mut self, option: SetOption, on: bool) {
        let bit = 1 << (option.number() % 64);
        let word = &mut self.options[usize::from(option.number() / 64)];
        *word = if on { *word | bit } else { *word & !bit };
    }
}
