//! The JSON a virtual device writes about itself: Status pages, STATE, INFO, discovery. Facts §6.3, §7.2.

use serde_json::{Value, json};

use super::{Chip, Machine, Now};
use crate::setting::SetOption;

impl Machine {
    /// The `stat` name and content of `Status n`; 99 stands for `Status` without a number.
    pub(super) fn status_page(&self, number: u32, now: Now) -> Option<(String, Value)> {
        let settings = self.settings();
        let page = match number {
            99 => json!({"Status": {
                "Module": 1,
                "DeviceName": settings.device_name,
                "FriendlyName": [settings.device_name],
                "Topic": settings.topic,
                "ButtonTopic": "0",
                "Power": if settings.power { "1" } else { "0" },
                "PowerOnState": 3,
                "LedState": 1,
                "SaveData": 1,
            }}),
            1 => json!({"StatusPRM": {
                "Baudrate": 115_200,
                "GroupTopic": settings.group_topic,
                "RestartReason": self.restart_reason,
                "Uptime": self.uptime(now),
                "BootCount": self.boots(),
            }}),
            2 => json!({"StatusFWR": {
                "Version": self.version_text(),
                "BuildDateTime": "2026-03-28T12:00:00",
                "Core": if self.is_esp32() { "3_1_3" } else { "2_7_8" },
                "CpuFrequency": if self.is_esp32() { 160 } else { 80 },
                "Hardware": if self.is_esp32() { "ESP32-D0WD-V3 v3.1" } else { "ESP8266EX" },
            }}),
            3 => json!({"StatusLOG": {
                "SerialLog": settings.serial_log,
                "WebLog": settings.web_log,
                "MqttLog": settings.mqtt_log,
                "SysLog": settings.sys_log,
                "SSId": ["home", ""],
                "TelePeriod": settings.tele_period,
            }}),
            4 => {
                let tls_bit = if self.profile.has_tls() { 0x40 } else { 0 };
                json!({"StatusMEM": {
                    "Heap": self.heap(),
                    "Features": ["0809", format!("{:08X}", 0x8F9A_9700u32 | tls_bit)],
                }})
            }
            5 => json!({"StatusNET": {
                "Hostname": self.hostname(),
                "IPAddress": self.ip_text(),
                "Gateway": "0.0.0.0",
                "Subnetmask": "255.255.255.0",
                "Mac": self.profile.mac.to_string(),
                "Webserver": settings.web_server,
                "HTTP_API": u8::from(settings.option(SetOption::HTTP_WITHOUT_REFERER)),
                "WifiConfig": 4,
            }}),
            6 if !settings.option(SetOption::MQTT) => return None,
            6 => {
                let mut page = json!({
                    "MqttHost": settings.mqtt_host,
                    "MqttPort": settings.mqtt_port,
                    "MqttClientMask": "DVES_%06X",
                    "MqttClient": settings.mqtt_client,
                    "MqttUser": settings.mqtt_user,
                    "MqttCount": self.session.count(),
                });
                if self.profile.has_tls() {
                    page["MqttTLS"] = json!(u8::from(self.tls_on));
                }
                page["MAX_PACKET_SIZE"] = json!(1200);
                page["KEEPALIVE"] = json!(settings.keep_alive);
                page["SOCKET_TIMEOUT"] = json!(4);
                json!({ "StatusMQT": page })
            }
            7 => json!({"StatusTIM": {
                "UTC": timestamp(self.clock(now)),
                "Local": timestamp(self.clock(now)),
                "Timezone": "+00:00",
            }}),
            11 => json!({"StatusSTS": self.state_json(now)}),
            _ => return None,
        };
        let name = if number == 99 { "STATUS".into() } else { format!("STATUS{number}") };
        Some((name, page))
    }

    /// tele/…/STATE.
    pub(super) fn state_json(&self, now: Now) -> Value {
        json!({
            "Time": timestamp(self.clock(now)),
            "Uptime": self.uptime(now),
            "UptimeSec": self.uptime_seconds(now),
            "Heap": self.heap(),
            "SleepMode": "Dynamic",
            "Sleep": 50,
            "LoadAvg": 19,
            "MqttCount": self.session.count(),
            "POWER": self.settings().state_text(self.settings().power),
            "Wifi": {
                "AP": 1, "SSId": "home", "BSSId": "02:00:00:00:00:01", "Channel": 6, "Mode": "HT20",
                "RSSI": if self.has_weak_wifi() { 14 } else { 78 }, "Signal": if self.has_weak_wifi() { -93 } else { -61 }, "LinkCount": 1, "Downtime": "0T00:00:03",
            },
            "Hostname": self.hostname(),
            "IPAddress": self.ip_text(),
        })
    }

    /// tele/…/SENSOR: a plug that measures. The power is made up from the MAC, so that every device differs.
    pub(super) fn sensor_json(&self, now: Now) -> Value {
        let watts = if self.settings().power { 5 + u32::from(self.profile.mac.0[5]) } else { 0 };
        json!({
            "Time": timestamp(self.clock(now)),
            "ENERGY": {"Total": 1.25, "Power": watts, "Voltage": 230, "Current": f64::from(watts) / 230.0},
        })
    }

    /// tele/…/INFO1 to INFO3, at the first connection after a boot.
    pub(super) fn info_json(&self) -> [Value; 3] {
        let group = self.topics().command(&self.settings().group_topic);
        let group = group.map(|topic| topic.as_str().to_owned()).unwrap_or_default();
        [
            json!({"Info1": {
                "Module": "Generic",
                "Version": self.version_text(),
                "FallbackTopic": self.topics().fallback().unwrap_or_default(),
                "GroupTopic": group,
            }}),
            json!({"Info2": {
                "WebServerMode": "Admin",
                "Hostname": self.hostname(),
                "IPAddress": self.ip_text(),
            }}),
            json!({"Info3": {"RestartReason": self.restart_reason, "BootCount": self.boots()}}),
        ]
    }

    /// tasmota/discovery/…/config, in the firmware's order.
    pub(super) fn discovery_json(&self) -> Value {
        let settings = self.settings();
        let mut names = vec![Value::Null; 8];
        names[0] = json!(settings.device_name);
        let mut relays = vec![0; 32];
        relays[0] = 1;
        json!({
            "ip": self.ip_text(),
            "dn": settings.device_name,
            "fn": names,
            "hn": self.hostname(),
            "mac": self.profile.mac.compact(),
            "md": "Generic",
            "ty": 0,
            "if": 0,
            "ofln": "Offline",
            "onln": "Online",
            "state": [self.settings().state_text(false), self.settings().state_text(true), "TOGGLE", "HOLD"],
            "sw": self.profile.version,
            "t": settings.topic,
            "ft": settings.full_topic,
            "tp": settings.prefixes,
            "rl": relays,
            "swc": vec![-1; 32],
            "swn": vec![Value::Null; 32],
            "btn": vec![0; 32],
            "so": {"4": 0, "11": 0, "13": 0, "17": 0, "20": 0, "30": 0, "68": 0, "73": 0, "82": 0, "114": 0, "117": 0},
            "lk": 0,
            "lt_st": 0,
            "bat": 0,
            "dslp": 0,
            "sho": [],
            "sht": [],
            "ver": 1,
        })
    }

    pub(super) fn version_text(&self) -> String {
        let variant = if self.is_esp32() { "tasmota32" } else { "tasmota" };
        let variant = if self.profile.has_tls_key() { "tasmota-custom" } else { variant };
        format!("{}(release-{variant})", self.profile.version)
    }

    pub(super) fn hostname(&self) -> String {
        let [.., high, low] = self.profile.mac.0;
        format!("{}-{:04}", self.settings().topic.replace('/', "-"), u16::from_be_bytes([high, low]) & 0x1FFF)
    }

    pub(super) fn ip_text(&self) -> String {
        self.address.ip().to_string()
    }

    fn is_esp32(&self) -> bool {
        self.profile.chip == Chip::Esp32
    }

    fn has_weak_wifi(&self) -> bool {
        self.faults().weak_wifi.is_some()
    }

    fn heap(&self) -> u32 {
        if self.faults().no_memory || self.faults().leaks_memory {
            return 4;
        }
        if self.faults().little_memory {
            return 11;
        }
        if self.is_esp32() { 180 } else { 25 }
    }

    fn uptime_seconds(&self, now: Now) -> u64 {
        now.up.saturating_sub(self.booted).as_secs()
    }

    /// `0T00:14:05`.
    fn uptime(&self, now: Now) -> String {
        let seconds = self.uptime_seconds(now);
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        format!("{days}T{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
    }
}

/// `2026-11-22T14:53:30` of UTC seconds.
pub(super) fn timestamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil date from days since 1970 (Howard Hinnant's civil_from_days), years counted from March.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_the_civil_date() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_827_696, "2000-02-29T12:34:56"),
            (1_795_359_210, "2026-11-22T14:53:30"),
            (4_102_444_799, "2099-12-31T23:59:59"),
        ] {
            assert_eq!(timestamp(seconds), text);
        }
    }
}
