//! The settings of a device that we ask for and set, as one table: name, kind of value, whether it restarts the device.
//!
//! Facts §1.4 (SetOptions), §6 (MQTT), §7.5 (which of them restart).

use crate::{command::CommandError, limits::TEXT_CHARS};

/// What values a setting takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Free text.
    Text,
    /// A topic or a part of one: no wildcards, blanks or quotes.
    Topic,
    /// A host name or address: no blanks.
    Host,
    /// Free text that nobody may see.
    Secret,
    /// A whole number.
    Number {
        /// Smallest.
        least: u64,
        /// Largest.
        most: u64,
    },
}

macro_rules! settings {
    ($( $(#[doc = $doc:literal])+ $setting:ident, $name:literal, $kind:expr, $restarts:literal; )*) => {
        /// A setting with a console command of its own.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Setting { $( $(#[doc = $doc])+ $setting, )* }

        impl Setting {
            /// All of them.
            pub const ALL: &'static [Self] = &[$( Self::$setting, )*];

            /// The command's name, as devices write it in their answers.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $( Self::$setting => $name, )* }
            }

            /// What values it takes.
            #[must_use]
            pub fn kind(self) -> Kind {
                match self { $( Self::$setting => $kind, )* }
            }

            /// Whether setting it makes the device restart.
            #[must_use]
            pub fn restarts(self) -> bool {
                match self { $( Self::$setting => $restarts, )* }
            }
        }
    };
}

const LEVEL: Kind = Kind::Number { least: 0, most: 4 };

settings! {
    /// The broker's host name or address; also the name the server's certificate is checked against.
    MqttHost, "MqttHost", Kind::Host, true;
    /// The broker's port. 1 would mean "default", so it starts at 2.
    MqttPort, "MqttPort", Kind::Number { least: 2, most: 65_535 }, true;
    /// MQTT user name.
    MqttUser, "MqttUser", Kind::Text, true;
    /// MQTT password.
    MqttPassword, "MqttPassword", Kind::Secret, true;
    /// MQTT client id.
    MqttClient, "MqttClient", Kind::Topic, true;
    /// The device's own part of its topics.
    Topic, "Topic", Kind::Topic, true;
    /// The shape of its topics, with `%prefix%` and `%topic%`.
    FullTopic, "FullTopic", Kind::Topic, true;
    /// Shared by a group of devices.
    GroupTopic, "GroupTopic1", Kind::Topic, true;
    /// As `GroupTopic1`; empty where none was set.
    GroupTopic2, "GroupTopic2", Kind::Topic, true;
    /// As `GroupTopic1`; empty where none was set.
    GroupTopic3, "GroupTopic3", Kind::Topic, true;
    /// As `GroupTopic1`; empty where none was set.
    GroupTopic4, "GroupTopic4", Kind::Topic, true;
    /// First level of commands, `cmnd` from the factory.
    Prefix1, "Prefix1", Kind::Topic, true;
    /// First level of answers, `stat` from the factory.
    Prefix2, "Prefix2", Kind::Topic, true;
    /// First level of reports, `tele` from the factory.
    Prefix3, "Prefix3", Kind::Topic, true;
    /// First NTP server.
    NtpServer1, "NtpServer1", Kind::Host, false;
    /// Seconds between tele messages; 0 for none. The device raises 2 to 9 to 10, and 1 means its default.
    TelePeriod, "TelePeriod", Kind::Number { least: 10, most: 3600 }, false;
    /// Seconds of MQTT keep alive.
    MqttKeepAlive, "MqttKeepAlive", Kind::Number { least: 1, most: 100 }, false;
    /// Seconds before the first retry of a lost MQTT connection.
    MqttRetry, "MqttRetry", Kind::Number { least: 10, most: 32_000 }, false;
    /// Log level on the serial port.
    SerialLog, "SerialLog", LEVEL, false;
    /// Log level to a syslog host.
    SysLog, "SysLog", LEVEL, false;
    /// Log level over MQTT.
    MqttLog, "MqttLog", LEVEL, false;
    /// Log level of the web console; 3 and above show command data.
    WebLog, "WebLog", LEVEL, false;
    /// Log level into a file (ESP32 only).
    FileLog, "FileLog", LEVEL, false;
    /// Password of the device's web interface and HTTP console.
    WebPassword, "WebPassword", Kind::Secret, false;
    /// The device's word for off, in its answers too: `OFF` from the factory. Asked where an answer has another one.
    StateText1, "StateText1", Kind::Text, false;
    /// Its word for on: `ON` from the factory.
    StateText2, "StateText2", Kind::Text, false;
    /// The name shown to people.
    DeviceName, "DeviceName", Kind::Text, false;
}

impl Setting {
    /// Refuses a value that the device would not take as it is written.
    ///
    /// # Errors
    /// See [`CommandError`]; the value is not in it.
    pub fn check(self, value: &str) -> Result<(), CommandError> {
        self.check_alone(value)?;
        match value.chars().position(|c| c == ';') {
            Some(at) => {
                let (name, why) = (self.name(), "a semicolon ends the command");
                Err(CommandError::Character { name, at: at + 1, why })
            }
            None => Ok(()),
        }
    }

    /// As [`Self::check`], for a line that is not part of a Backlog: there a semicolon is a character like any other.
    pub(crate) fn check_alone(self, value: &str) -> Result<(), CommandError> {
        let name = self.name();
        if value.is_empty() {
            return Err(CommandError::Empty { name });
        }
        if let Kind::Number { least, most } = self.kind() {
            if self == Self::TelePeriod && value == "0" {
                return Ok(());
            }
            let plain = value.bytes().all(|digit| digit.is_ascii_digit());
            let number = value.parse().ok().filter(|number| plain && (least..=most).contains(number));
            return number.map(drop).ok_or(CommandError::OutOfRange { name, least, most });
        }
        if value.len() > TEXT_CHARS {
            return Err(CommandError::TooLong { name, chars: value.len(), limit: TEXT_CHARS });
        }
        if value.starts_with(char::is_whitespace) || value.ends_with(char::is_whitespace) {
            return Err(CommandError::OuterBlank { name });
        }
        if matches!(value, "0" | "1" | "2" | "\"" | "?") {
            return Err(CommandError::SpecialMeaning { name });
        }
        match value.chars().enumerate().find_map(|(at, c)| Some((at, self.objection(c)?))) {
            Some((at, why)) => Err(CommandError::Character { name, at: at + 1, why }),
            None => Ok(()),
        }
    }

    /// The value that empties it or means the factory's own.
    pub(crate) fn clearing(self) -> &'static str {
        match (self, self.kind()) {
            (Self::StateText1, _) => "OFF",
            (Self::StateText2, _) => "ON",
            (_, Kind::Text | Kind::Host | Kind::Secret) => "0",
            (_, Kind::Topic) | (Self::MqttPort, _) => "1",
            (Self::TelePeriod, _) => "300",
            (Self::MqttKeepAlive, _) => "30",
            (Self::MqttRetry, _) => "10",
            (Self::SerialLog | Self::WebLog, _) => "2",
            (_, Kind::Number { .. }) => "0",
        }
    }

    fn objection(self, c: char) -> Option<&'static str> {
        match (self.kind(), c) {
            (Kind::Topic | Kind::Host, ';') => Some("a semicolon ends the command"),
            (_, c) if c.is_control() => Some("a control character"),
            (Kind::Topic | Kind::Host, c) if c.is_whitespace() => Some("a blank"),
            (Kind::Topic, '+' | '#') => Some("a wildcard"),
            (Kind::Topic | Kind::Host, '"' | '\\') => Some("a quote or backslash"),
            (Kind::Host, c) if !c.is_ascii() => Some("not ASCII"),
            _ => None,
        }
    }
}

/// A numbered on/off option.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SetOption(u8);

impl SetOption {
    /// MQTT at all. Default on.
    pub const MQTT: Self = Self(3);
    /// No discovery messages.
    pub const DISCOVERY_OFF: Self = Self(19);
    /// Suppresses answers that are not JSON.
    pub const JSON_ONLY: Self = Self(90);
    /// MQTT over TLS. Accepted even by firmware without TLS.
    pub const MQTT_TLS: Self = Self(103);
    /// Never sets retain.
    pub const NO_RETAIN: Self = Self(104);
    /// The HTTP console without a Referer check. Default on.
    pub const HTTP_WITHOUT_REFERER: Self = Self(128);
    /// Off: the server's chain is checked against compiled anchors. On: its key against the two fingerprints.
    pub const FINGERPRINT_MODE: Self = Self(132);
    /// A persistent MQTT session.
    pub const PERSISTENT_SESSION: Self = Self(140);
    /// Also ECDSA, in suites and chains (15.1.0.1 and later). No restart of its own, read at boot.
    pub const ECDSA: Self = Self(165);

    /// Any of them.
    ///
    /// # Errors
    /// Numbers above 182 and from 32 to 49 are no on/off options.
    pub fn new(number: u8) -> Result<Self, CommandError> {
        match number {
            0..=31 | 50..=182 => Ok(Self(number)),
            _ => Err(CommandError::OutOfRange { name: "SetOption", least: 0, most: 182 }),
        }
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// `SetOption103`.
    #[must_use]
    pub fn name(self) -> String {
        format!("SetOption{}", self.0)
    }

    /// Whether setting it makes the device restart. Facts §1.4.
    #[must_use]
    pub fn restarts(self) -> bool {
        matches!(self.0, 3 | 75 | 103 | 104 | 132)
    }
}
