//! What a device was set to before we touched it, for giving it back as it was found.

use serde::{Deserialize, Serialize};

/// The MQTT settings that a rung changes. The password is not among them: a device never shows it. The mutual rung leaves
/// user, password and fingerprints alone.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct SavedSettings {
    /// `MqttHost`; empty where none was set.
    pub host: String,
    /// `MqttPort`.
    pub port: u16,
    /// SetOption103: TLS.
    pub tls: bool,
    /// SetOption132: fingerprint mode.
    pub fingerprint_mode: bool,
    /// SetOption165: ECDSA; `None` where the firmware has no such option.
    pub ecdsa: Option<bool>,
    /// `MqttUser`; `None` in what an older quoll kept.
    #[serde(default)]
    pub user: Option<String>,
    /// `MqttFingerprint1` and `2` as the device shows them; `None` where the firmware has no TLS.
    #[serde(default)]
    pub fingerprints: Option<[String; 2]>,
}

/// Log levels, `None` where the firmware has no such log.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct LogLevels {
    /// `SerialLog`.
    pub serial: Option<u8>,
    /// `SysLog`.
    pub sys: Option<u8>,
    /// `MqttLog`.
    pub mqtt: Option<u8>,
    /// `FileLog`.
    pub file: Option<u8>,
    /// `WebLog`.
    pub web: Option<u8>,
}
