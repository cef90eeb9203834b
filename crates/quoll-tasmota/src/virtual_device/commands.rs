//! The commands of a virtual device. What is not here answers `Unknown`. Facts §1.2, §1.4, §1.5, §7.5.

use serde_json::{Value, json};

use super::{Chip, Machine, Now, flash::Settings, line::Outcome, report::timestamp};
use crate::{
    fingerprint::Fingerprint,
    limits::{FINGERPRINT_CHARS, TEXT_CHARS},
    setting::SetOption,
};

impl Machine {
    /// `name` is lower case and without its index; `data` without outer blanks.
    pub(super) fn dispatch(&mut self, name: &str, index: Option<u32>, data: &str, now: Now) -> Outcome {
        let data = if data == "?" { "" } else { data };
        let has_mqtt = self.settings.option(SetOption::MQTT);
        if !has_mqtt
            && (name.starts_with("mqtt")
                || matches!(name, "tlskey" | "topic" | "fulltopic" | "grouptopic" | "prefix"))
        {
            return Outcome::Unknown;
        }
        if let Some(outcome) = self.text(name, index, data, now).or_else(|| self.number(name, data, now)) {
            return outcome;
        }
        match name {
            "status" => self.status(index, data, now),
            "state" => Outcome::Reply(self.state_json(now)),
            "setoption" => self.numbered_option(index, data, now),
            "mqtttls" if self.profile.has_tls() => self.option(SetOption::MQTT_TLS, "MqttTLS", data, now),
            "mqtttlsfingerprint" if self.profile.has_tls() => {
                self.option(SetOption::FINGERPRINT_MODE, "MqttTLSFingerprint", data, now)
            }
            "mqttnoretain" => self.option(SetOption::NO_RETAIN, "MqttNoRetain", data, now),
            "mqttfingerprint" if self.profile.has_tls() => self.fingerprint(index, data, now),
            "tlskey" if self.profile.has_tls_key() => self.tls_key(index, data, now),
            "mqttpassword" => self.mqtt_password(data, now),
            "webpassword" => self.web_password_command(data),
            "time" => self.time(data, now),
            "power" => self.power(data),
            "restart" => self.restart(data, now),
            "reset" => self.reset(data, now),
            "upgrade" => self.upgrade(data, now),
            _ => Outcome::Unknown,
        }
    }

    /// Settings that are a text: empty asks, `"` and 0 clear, 1 means default.
    fn text(&mut self, name: &str, index: Option<u32>, data: &str, now: Now) -> Option<Outcome> {
        let factory = Settings::factory(&self.profile);
        let settings = &mut self.settings;
        let (shown, field, default, clears, restarts): (_, &mut String, _, _, _) = match name {
            "mqtthost" => ("MqttHost", &mut settings.mqtt_host, String::new(), true, true),
            "mqttuser" => ("MqttUser", &mut settings.mqtt_user, factory.mqtt_user, true, true),
            "mqttclient" => ("MqttClient", &mut settings.mqtt_client, factory.mqtt_client, false, true),
            "topic" => ("Topic", &mut settings.topic, factory.topic, false, true),
            "fulltopic" => ("FullTopic", &mut settings.full_topic, factory.full_topic, false, true),
            "grouptopic" if index.unwrap_or(1) == 1 => {
                ("GroupTopic1", &mut settings.group_topic, factory.group_topic, false, true)
            }
            "grouptopic" | "prefix" => {
                const GROUPS: [&str; 3] = ["GroupTopic2", "GroupTopic3", "GroupTopic4"];
                const PREFIXES: [&str; 3] = ["Prefix1", "Prefix2", "Prefix3"];
                let at = index.unwrap_or(1) as usize;
                let (names, fields, defaults, first) = match name {
                    "prefix" => (PREFIXES, &mut settings.prefixes, factory.prefixes, 1),
                    _ => (GROUPS, &mut settings.more_groups, factory.more_groups, 2),
                };
                let Some(at) = at.checked_sub(first).filter(|at| *at < names.len()) else {
                    return Some(Outcome::Error);
                };
                (names[at], &mut fields[at], defaults[at].clone(), false, true)
            }
            "ntpserver" if index.unwrap_or(1) == 1 => {
                ("NtpServer1", &mut settings.ntp_server, factory.ntp_server, true, false)
            }
            "statetext" => {
                const NAMES: [&str; 2] = ["StateText1", "StateText2"];
                let at = index.unwrap_or(1) as usize;
                let Some(at) = at.checked_sub(1).filter(|at| *at < NAMES.len()) else {
                    return Some(Outcome::Error);
                };
                if !data.is_empty() {
                    settings.state_texts[at] = data.replace(' ', "_").chars().take(TEXT_CHARS).collect();
                }
                return Some(Outcome::Reply(json!({ NAMES[at]: settings.state_texts[at] })));
            }
            "devicename" => ("DeviceName", &mut settings.device_name, factory.device_name, true, false),
            _ => return None,
        };
        if !data.is_empty() {
            *field = match data {
                "0" | "\"" if clears => String::new(),
                "1" => default,
                _ => data.chars().take(TEXT_CHARS).collect(),
            };
            if name.ends_with("topic") || matches!(name, "mqttclient" | "prefix") {
                field.retain(|c| !matches!(c, '+' | '#' | ' '));
            }
        }
        let reply = json!({ shown: field.clone() });
        if !data.is_empty() && restarts {
            self.restart_for_setting(now);
        }
        Some(Outcome::Reply(reply))
    }

    /// Settings that are a number within bounds; others are a query.
    fn number(&mut self, name: &str, data: &str, now: Now) -> Option<Outcome> {
        fn set<N: TryFrom<u32>>(field: &mut N, data: &str, least: u32, most: u32) {
            let number = data.parse().ok().filter(|number| (least..=most).contains(number));
            if let Some(number) = number.and_then(|number: u32| N::try_from(number).ok()) {
                *field = number;
            }
        }
        let settings = &mut self.settings;
        let reply = match name {
            "mqttport" => {
                let default = if self.profile.has_tls_key() { 8883 } else { 1883 };
                match data {
                    "1" => settings.mqtt_port = default,
                    _ => set(&mut settings.mqtt_port, data, 1, 65_535),
                }
                let reply = json!({"MqttPort": settings.mqtt_port});
                if !data.is_empty() {
                    self.restart_for_setting(now);
                }
                reply
            }
            "teleperiod" => {
                match data {
                    "0" => settings.tele_period = 0,
                    _ => set(&mut settings.tele_period, data, 10, 3600),
                }
                json!({"TelePeriod": settings.tele_period})
            }
            "mqttkeepalive" => {
                set(&mut settings.keep_alive, data, 1, 100);
                json!({"MqttKeepAlive": settings.keep_alive})
            }
            "mqttretry" => {
                set(&mut settings.retry, data, 10, 32_000);
                json!({"MqttRetry": settings.retry})
            }
            "webserver" => {
                set(&mut settings.web_server, data, 0, 2);
                let mode = ["Disabled", "Active for User", "Active for Admin"];
                json!({"WebServer": mode[usize::from(settings.web_server)]})
            }
            _ => {
                let (shown, field) = match name {
                    "seriallog" => ("SerialLog", &mut settings.serial_log),
                    "syslog" => ("SysLog", &mut settings.sys_log),
                    "mqttlog" => ("MqttLog", &mut settings.mqtt_log),
                    "weblog" => ("WebLog", &mut settings.web_log),
                    "filelog" if self.profile.chip == Chip::Esp32 => ("FileLog", &mut settings.file_log),
                    _ => return None,
                };
                set(field, data, 0, 4);
                json!({ shown: *field })
            }
        };
        Some(Outcome::Reply(reply))
    }

    /// Accepted by every firmware, with TLS or without. Facts §1.4.
    fn numbered_option(&mut self, index: Option<u32>, data: &str, now: Now) -> Outcome {
        let number = index.and_then(|index| u8::try_from(index).ok());
        match number.and_then(|number| SetOption::new(number).ok()) {
            Some(option) => self.option(option, &option.name(), data, now),
            None => Outcome::Error,
        }
    }

    fn option(&mut self, option: SetOption, shown: &str, data: &str, now: Now) -> Outcome {
        let wanted = match data.to_ascii_lowercase().as_str() {
            "1" | "on" => Some(true),
            "0" | "off" => Some(false),
            _ => None,
        };
        if let Some(on) = wanted {
            self.settings.set_option(option, on);
            if option.restarts() {
                self.restart_for_setting(now);
            }
        }
        Outcome::Reply(json!({ shown: self.settings.state_text(self.settings.option(option)) }))
    }

    fn tls_key(&mut self, index: Option<u32>, data: &str, now: Now) -> Outcome {
        let value = (!data.is_empty()).then_some(data);
        match self.keys.command(index.unwrap_or(1), value) {
            Ok(stored) => {
                let length = |bytes: Option<usize>| bytes.map_or_else(|| json!(-1), |bytes| json!(bytes));
                Outcome::Reply(json!({"TLSKey1": length(stored.key), "TLSKey2": length(stored.certificate)}))
            }
            Err(line) => {
                self.note(2, now, &line);
                Outcome::Error
            }
        }
    }

    /// Never refuses anything: what is not hex becomes zero bytes. Facts §1.5.
    fn fingerprint(&mut self, index: Option<u32>, data: &str, now: Now) -> Outcome {
        let index = index.unwrap_or(1);
        let Some(slot) =
            index.checked_sub(1).and_then(|slot| self.settings.fingerprints.get_mut(slot as usize))
        else {
            return Outcome::Error;
        };
        let set = !data.is_empty() && data.len() <= FINGERPRINT_CHARS;
        if set {
            *slot = match data {
                "1" if index == 1 => [0; 20],
                "1" => Fingerprint::MATCHES_NOTHING.bytes(),
                "0" | "\"" => [0; 20],
                _ => lenient_fingerprint(data),
            };
        }
        let text = slot.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(" ");
        if set {
            self.restart_for_setting(now);
        }
        Outcome::Reply(json!({ format!("MqttFingerprint{index}"): text }))
    }

    fn mqtt_password(&mut self, data: &str, now: Now) -> Outcome {
        if !data.is_empty() {
            self.settings.mqtt_password = match data {
                "0" | "\"" => String::new(),
                "1" => "DVES_PASS".into(),
                _ => data.chars().take(TEXT_CHARS).collect(),
            };
            self.restart_for_setting(now);
        }
        Outcome::Reply(json!({"MqttPassword": "****"}))
    }

    fn web_password_command(&mut self, data: &str) -> Outcome {
        if !data.is_empty() {
            self.settings.web_password = match data {
                "0" | "\"" => String::new(),
                _ => data.chars().take(TEXT_CHARS).collect(),
            };
        }
        Outcome::Reply(json!({"WebPassword": "****"}))
    }

    /// `Time <epoch>` sets the clock and stops NTP, `Time 0` starts it again. Facts §3.3.
    fn time(&mut self, data: &str, now: Now) -> Outcome {
        match data.parse::<u64>() {
            Ok(0) => self.set_clock = None,
            Ok(seconds) if u32::try_from(seconds).is_ok() => self.set_clock = Some((seconds, now.up)),
            _ => {}
        }
        Outcome::Reply(json!({"Time": timestamp(self.clock(now))}))
    }

    fn power(&mut self, data: &str) -> Outcome {
        match data.to_ascii_lowercase().as_str() {
            "1" | "on" => self.settings.power = true,
            "0" | "off" => self.settings.power = false,
            "2" | "toggle" => self.settings.power = !self.settings.power,
            _ => {}
        }
        let power = self.settings.state_text(self.settings.power).to_owned();
        let topic = self.topics().status("POWER").map(|topic| topic.as_str().to_owned());
        if let Ok(topic) = topic {
            self.publish(super::session::Publication { topic, payload: power.clone().into(), retain: false });
        }
        Outcome::Reply(json!({"POWER": power}))
    }

    fn restart(&mut self, data: &str, now: Now) -> Outcome {
        let text = match data {
            "1" => {
                self.schedule_restart(now);
                "Restarting"
            }
            "99" => {
                self.drop_dead(now);
                "Restarting"
            }
            _ => "1 to restart",
        };
        Outcome::Reply(json!({"Restart": text}))
    }

    /// 1: settings only. 2 and 5: the whole flash, which on an ESP8266 holds the keys. Facts §1.3.
    fn reset(&mut self, data: &str, now: Now) -> Outcome {
        match data {
            "1" | "2" | "5" => {
                self.settings = Settings::factory(&self.profile);
                if data != "1" && self.profile.chip == Chip::Esp8266 {
                    self.erase_keys();
                }
                self.schedule_restart(now);
                Outcome::Reply(json!({"Reset": "Reset and Restarting"}))
            }
            _ => Outcome::Reply(json!({"Reset": "1 to reset"})),
        }
    }

    /// An update over the air, to the same release.
    fn upgrade(&mut self, data: &str, now: Now) -> Outcome {
        if data != "1" {
            return Outcome::Reply(json!({"Upgrade": "1 or >=version to upgrade or reset"}));
        }
        if self.profile.faults.forgets_keys_on_upgrade {
            self.erase_keys();
        }
        self.schedule_restart(now);
        Outcome::Reply(json!({"Upgrade": format!("Version {} from ota.tasmota.com", self.profile.version)}))
    }

    fn status(&self, index: Option<u32>, data: &str, now: Now) -> Outcome {
        let pages = |numbers: &[u32]| -> Vec<(String, Value)> {
            numbers.iter().filter_map(|&number| self.status_page(number, now)).collect()
        };
        let all: &[u32] = &[99, 1, 2, 3, 4, 5, 6, 7, 11];
        // "Status0" is one combined message, "Status 0" one for each page.
        if index == Some(0) {
            let mut one = serde_json::Map::new();
            for (_, page) in pages(all) {
                one.extend(page.as_object().cloned().unwrap_or_default());
            }
            return Outcome::Pages(vec![("STATUS0".into(), Value::Object(one))]);
        }
        let found = match data {
            "" => pages(&[99]),
            "0" => pages(all),
            number => pages(&[number.parse().unwrap_or(u32::MAX)]),
        };
        if found.is_empty() { Outcome::Error } else { Outcome::Pages(found) }
    }
}

/// Twenty times C's `strtol(…, 16)` on a 32-bit machine, each cut to a byte.
fn lenient_fingerprint(text: &str) -> [u8; 20] {
    let mut rest = text;
    std::array::from_fn(|_| {
        let trimmed = rest.trim_start();
        let (negative, digits) = match trimmed.strip_prefix(['-', '+']) {
            Some(digits) => (trimmed.starts_with('-'), digits),
            None => (false, trimmed),
        };
        let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
        if end == 0 {
            return 0;
        }
        rest = &digits[end..];
        let number = i64::from_str_radix(&digits[..end.min(15)], 16).unwrap_or(i64::MAX);
        let number = if negative { -number } else { number };
        number.clamp(i64::from(i32::MIN), i64::from(i32::MAX)).to_le_bytes()[0]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_with_a_typo_turns_into_zeros_or_garbage() {
        let good = "08 5E 0A BF A3 65 A8 D0 94 2B 23 27 5F 32 9E FA 99 C4 12 EB";
        let bytes: Fingerprint = good.parse().unwrap();
        assert_eq!(lenient_fingerprint(good), bytes.bytes());
        assert_eq!(lenient_fingerprint("hello"), [0; 20]);
        let mut first = [0; 20];
        first[0] = 8;
        assert_eq!(lenient_fingerprint("08:5E:0A"), first);
        first[0] = 0xFF;
        assert_eq!(lenient_fingerprint("085E0ABFA365A8D0942B23275F329EFA99C412EB"), first);
    }
}
