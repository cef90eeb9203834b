//! What a device was set to before we touched it, for giving it back as it was found.

use serde::{Deserialize, Serialize};

/// The MQTT settings that the mutual rung changes. The password is not among them: a device never shows it, and the
/// mutual rung leaves it alone.
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
