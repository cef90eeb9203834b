//! The status pages of a device, as far as we rely on them: firmware, network, MQTT, clock, memory. Facts §7.2, §7.3.
//!
//! What it is not: answers to commands and settings, and what can be wrong with any answer ([`crate::reply`]).

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::{
    mac::Mac,
    reply::{Reply, ReplyError},
};

impl Reply {
    /// `Status 2`.
    ///
    /// # Errors
    /// Refused, or without a version.
    pub fn firmware(&self) -> Result<Firmware, ReplyError> {
        let page = self.page("StatusFWR")?;
        let version = page.text("Version")?;
        let numbers = version.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
        let mut parts = numbers.split('.').map(|part| part.parse::<u16>().ok());
        let mut part = || parts.next().flatten();
        let (Some(major), Some(minor), Some(patch)) = (part(), part(), part()) else {
            return Err(ReplyError::Shape { field: "Version", expected: "three numbers with dots" });
        };
        let hardware = page.text("Hardware").unwrap_or_default();
        Ok(Firmware {
            number: [major, minor, patch, part().unwrap_or(0)],
            build_time: page.text("BuildDateTime").unwrap_or_default(),
            version,
            hardware,
        })
    }

    /// `Status 4`: whether TLS is compiled in (bit 0x40 of the second feature word).
    ///
    /// # Errors
    /// Refused, or without a feature list.
    pub fn has_tls(&self) -> Result<bool, ReplyError> {
        let field = "Features";
        let page = self.page("StatusMEM")?;
        let word = page.value(field)?.get(1).and_then(Value::as_str);
        let word = word.and_then(|hex| u32::from_str_radix(hex.trim_start_matches("0x"), 16).ok());
        word.map(|bits| bits & 0x40 != 0).ok_or(ReplyError::Shape { field, expected: "a list of hex words" })
    }

    /// `Status 5`.
    ///
    /// # Errors
    /// Refused, or without host name or a readable MAC.
    pub fn network(&self) -> Result<Network, ReplyError> {
        let page = self.page("StatusNET")?;
        let address = |page: &Page<'_>| page.text("IPAddress").ok()?.parse().ok();
        let set = |ip: &IpAddr| !ip.is_unspecified();
        let ethernet = page.value("Ethernet").ok().and_then(Value::as_object).map(|fields| Page { fields });
        let wifi = page.text("Mac")?.parse::<Mac>();
        let wired = ethernet.as_ref().and_then(|page| page.text("Mac").ok()?.parse::<Mac>().ok());
        let mac = wifi.ok().or(wired).ok_or(ReplyError::Shape { field: "Mac", expected: "six hex bytes" })?;
        let ip = address(&page).filter(set).or_else(|| address(ethernet.as_ref()?).filter(set));
        Ok(Network { hostname: page.text("Hostname")?, ip, mac })
    }

    /// `Status 6`.
    ///
    /// # Errors
    /// Refused (it answers Error while MQTT is off), or without what we rely on.
    pub fn mqtt(&self) -> Result<Mqtt, ReplyError> {
        let page = self.page("StatusMQT")?;
        let port = u16::try_from(page.number("MqttPort")?);
        Ok(Mqtt {
            host: page.text("MqttHost")?,
            port: port.map_err(|_| ReplyError::Shape { field: "MqttPort", expected: "a port" })?,
            client: page.text("MqttClient")?,
            user: page.text("MqttUser").unwrap_or_default(),
            count: page.number("MqttCount")?,
            tls: page.number("MqttTLS").ok().map(|number| number != 0),
        })
    }

    /// `Status 7`: the device's clock in UTC seconds since 1970.
    ///
    /// # Errors
    /// Refused, or not a date.
    pub fn clock(&self) -> Result<u64, ReplyError> {
        let text = self.page("StatusTIM")?.text("UTC")?;
        seconds_of(&text)
            .ok_or(ReplyError::Shape { field: "UTC", expected: "a date like 2026-11-22T14:53:30" })
    }

    /// `Status 11`: how often MQTT has connected since the boot. The proof that new settings work.
    ///
    /// # Errors
    /// Refused, or without the count.
    pub fn mqtt_count(&self) -> Result<u64, ReplyError> {
        self.page("StatusSTS")?.number("MqttCount")
    }

    /// `Status 11`: heap and Wi-Fi, as far as they are there.
    #[must_use]
    pub fn vitals(&self) -> Vitals {
        let Ok(page) = self.page("StatusSTS") else { return Vitals::default() };
        let wifi = page.value("Wifi").ok().and_then(Value::as_object);
        Vitals {
            heap: page.number("Heap").ok(),
            rssi: wifi.and_then(|wifi| wifi.get("RSSI")).and_then(Value::as_i64),
        }
    }

    /// `Status 1`: how it came up last, as far as it says.
    #[must_use]
    pub fn last_boot(&self) -> LastBoot {
        let Ok(page) = self.page("StatusPRM") else { return LastBoot::default() };
        LastBoot { reason: page.text("RestartReason").ok(), boots: page.number("BootCount").ok() }
    }

    /// `Status 11`: seconds since it booted.
    #[must_use]
    pub fn uptime(&self) -> Option<u64> {
        self.page("StatusSTS").ok()?.number("UptimeSec").ok()
    }

    fn page(&self, name: &'static str) -> Result<Page<'_>, ReplyError> {
        let page = self.top(name)?.as_object();
        page.map(|fields| Page { fields }).ok_or(ReplyError::Shape { field: name, expected: "an object" })
    }
}

/// `Status 2`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Firmware {
    /// As the device writes it: `15.3.0(release-tasmota32)`.
    pub version: String,
    /// The numbers in it; a missing fourth is 0.
    pub number: [u16; 4],
    /// When it was built, as text.
    pub build_time: String,
    /// The chip, as text: `ESP8266EX`, `ESP32-D0WDQ6-v1.0`.
    pub hardware: String,
}

impl Firmware {
    /// Whether the chip is of the ESP32 family.
    #[must_use]
    pub fn is_esp32(&self) -> bool {
        self.hardware.starts_with("ESP32") || self.version.contains("tasmota32")
    }

    /// Releases where TLS to a broker that is down can make the device crash and restart (15.1.0.1 to 15.3). Facts §9.
    #[must_use]
    pub fn crashes_without_broker(&self) -> bool {
        (([15, 1, 0, 1])..[15, 4, 0, 0]).contains(&self.number)
    }
}

/// How a device came up last.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LastBoot {
    /// RestartReason, as it writes it: `Power On`, `Software/System restart`, `Exception` …
    pub reason: Option<String>,
    /// Boots so far.
    pub boots: Option<u64>,
}

/// Of `Status 11`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Vitals {
    /// Free heap, in KiB.
    pub heap: Option<u64>,
    /// Quality of the Wi-Fi link, in per cent. An Ethernet device has none.
    pub rssi: Option<i64>,
}

/// `Status 5`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Network {
    /// The device's host name.
    pub hostname: String,
    /// Its address; the wired one if Wi-Fi has none.
    pub ip: Option<IpAddr>,
    /// Its MAC.
    pub mac: Mac,
}

/// `Status 6`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mqtt {
    /// The broker's host.
    pub host: String,
    /// The broker's port.
    pub port: u16,
    /// MQTT client id.
    pub client: String,
    /// MQTT user name.
    pub user: String,
    /// Connections since boot.
    pub count: u64,
    /// Whether TLS was on at boot; unknown before 14.4.1.4.
    pub tls: Option<bool>,
}

struct Page<'a> {
    fields: &'a Map<String, Value>,
}

impl<'a> Page<'a> {
    fn value(&self, field: &'static str) -> Result<&'a Value, ReplyError> {
        self.fields.get(field).ok_or(ReplyError::Missing { field })
    }

    fn text(&self, field: &'static str) -> Result<String, ReplyError> {
        let text = self.value(field)?.as_str().map(str::to_owned);
        text.ok_or(ReplyError::Shape { field, expected: "a text" })
    }

    fn number(&self, field: &'static str) -> Result<u64, ReplyError> {
        self.value(field)?.as_u64().ok_or(ReplyError::Shape { field, expected: "a whole number" })
    }
}

/// `2026-11-22T14:53:30`, with or without a Z, to seconds since 1970.
fn seconds_of(text: &str) -> Option<u64> {
    let (date, time) = text.trim_end_matches('Z').split_once('T')?;
    let three = |text: &str, by: char| -> Option<[i64; 3]> {
        let numbers: Vec<i64> = text.split(by).map(|part| part.parse().ok()).collect::<Option<_>>()?;
        numbers.try_into().ok()
    };
    let ([year, month, day], [hour, minute, second]) = (three(date, '-')?, three(time, ':')?);
    let plausible = (1970..=2200).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !plausible || !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..61).contains(&second) {
        return None;
    }
    // Days of the civil calendar, March first (Howard Hinnant's days_from_civil).
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, of_era) = (year / 400, year % 400);
    let days =
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1 - 719_468;
    u64::try_from(days * 86_400 + hour * 3600 + minute * 60 + second).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reply(json: &str) -> Reply {
        Reply::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn a_status_page_gives_what_we_rely_on() {
        let firmware = reply(
            r#"{"StatusFWR":{"Version":"15.3.0.3(tasmota32)-3_3_5","BuildDateTime":"x","Hardware":"ESP32-C3"}}"#,
        );
        let firmware = firmware.firmware().unwrap();
        assert_eq!(firmware.number, [15, 3, 0, 3]);
        assert!(firmware.is_esp32() && firmware.crashes_without_broker());
        let network = reply(
            r#"{"StatusNET":{"Hostname":"plug","IPAddress":"0.0.0.0","Mac":"A0:B1:C2:D3:E4:F5","Ethernet":{"IPAddress":"192.0.2.7"}}}"#,
        );
        let network = network.network().unwrap();
        assert_eq!(network.ip, Some("192.0.2.7".parse().unwrap()));
        assert_eq!(network.mac.compact(), "A0B1C2D3E4F5");
        let mqtt = reply(
            r#"{"StatusMQT":{"MqttHost":"hub","MqttPort":8883,"MqttClient":"DVES_1","MqttCount":2,"MqttTLS":1,"New":[]}}"#,
        );
        assert_eq!(mqtt.mqtt().unwrap().tls, Some(true));
        assert_eq!(reply(r#"{"StatusTIM":{"UTC":"2026-11-22T14:53:30Z"}}"#).clock(), Ok(1_795_359_210));
        assert_eq!(reply(r#"{"StatusTIM":{"UTC":"1970-01-01T00:00:07"}}"#).clock(), Ok(7));
        assert_eq!(reply(r#"{"StatusMEM":{"Features":["0809","0x00000040"]}}"#).has_tls(), Ok(true));
        assert_eq!(reply(r#"{"StatusMEM":{"Features":["0809","8F9A9787"]}}"#).has_tls(), Ok(false));
    }

    proptest! {
        #[test]
        fn any_text_as_a_clock_is_read_or_refused(text in "[0-9TZ:.-]{0,24}") {
            let _ = seconds_of(&text);
        }
    }
}
