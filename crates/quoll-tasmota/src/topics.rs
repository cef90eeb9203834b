//! The topics of one device: what its FullTopic, topic and client id make of `cmnd`, `stat` and `tele`.
//!
//! Needed twice: to talk to a device, and to say what it may publish and subscribe. Facts §6.2, §6.3.

use quoll_mqtt::{TopicFilter, TopicName, topic::TopicError};

use crate::{limits::TOPIC_CHARS, mac::Mac};

/// Tasmota's own default.
pub const DEFAULT_FULL_TOPIC: &str = "%prefix%/%topic%/";

/// The names from which a device builds its topics.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Topics {
    full_topic: String,
    topic: String,
    client: String,
    group: String,
    /// `GroupTopic2` to `4`, those that are set.
    more_groups: Vec<String>,
    /// `Prefix1` to `3`.
    prefixes: [String; 3],
    mac: Mac,
}

/// The first level of most topics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Prefix {
    /// `cmnd`: to the device.
    Command,
    /// `stat`: its answers.
    Status,
    /// `tele`: what it reports by itself.
    Telemetry,
}

impl Prefix {
    /// The factory's word: `cmnd`, `stat` or `tele`. `Prefix1` to `3` rename them: [`Topics::renamed`].
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Command => "cmnd",
            Self::Status => "stat",
            Self::Telemetry => "tele",
        }
    }
}

impl Topics {
    /// The defaults of a device with this topic: FullTopic `%prefix%/%topic%/`, client id `DVES_XXXXXX`, group
    /// `tasmotas`.
    ///
    /// # Errors
    /// The topic has wildcards or blanks, is empty or too long.
    pub fn new(topic: &str, mac: Mac) -> Result<Self, TopicsError> {
        Self::with(DEFAULT_FULL_TOPIC, topic, &format!("DVES_{}", mac.tail()), "tasmotas", mac)
    }

    /// With everything given.
    ///
    /// # Errors
    /// A part has wildcards or blanks, is empty, or makes topics longer than a device builds.
    pub fn with(
        full_topic: &str,
        topic: &str,
        client: &str,
        group: &str,
        mac: Mac,
    ) -> Result<Self, TopicsError> {
        for (what, text) in [("FullTopic", full_topic), ("Topic", topic), ("client id", client)] {
            if text.is_empty() {
                return Err(TopicsError::Empty { what });
            }
        }
        let parts =
            [("FullTopic", full_topic), ("Topic", topic), ("client id", client), ("GroupTopic", group)];
        for (what, text) in parts {
            if text.contains(|c: char| matches!(c, '+' | '#' | ' ') || c.is_control()) {
                return Err(TopicsError::Character { what });
            }
        }
        let known = ["%prefix%", "%topic%", "%id%"]
            .iter()
            .fold(full_topic.to_owned(), |text, word| text.replace(word, ""));
        if known.contains('%') {
            return Err(TopicsError::Placeholder);
        }
        let topics = Self {
            full_topic: full_topic.trim_matches('/').into(),
            topic: topic.into(),
            client: client.into(),
            group: group.into(),
            more_groups: Vec::new(),
            prefixes: [Prefix::Command, Prefix::Status, Prefix::Telemetry].map(|one| one.word().into()),
            mac,
        };
        topics.measured()
    }

    /// With `Prefix1` to `3`, and `GroupTopic2` to `4` as far as they are set, as the device was told (facts §6.2).
    ///
    /// # Errors
    /// As [`Self::with`].
    pub fn renamed(mut self, prefixes: [&str; 3], more_groups: &[String]) -> Result<Self, TopicsError> {
        let bad = |text: &str| text.contains(|c: char| matches!(c, '+' | '#' | ' ') || c.is_control());
        for prefix in prefixes {
            if prefix.trim_matches('/').is_empty() {
                return Err(TopicsError::Empty { what: "Prefix" });
            }
            if bad(prefix) {
                return Err(TopicsError::Character { what: "Prefix" });
            }
        }
        if more_groups.iter().any(|group| bad(group)) {
            return Err(TopicsError::Character { what: "GroupTopic" });
        }
        self.prefixes = prefixes.map(|prefix| prefix.trim_matches('/').to_owned());
        self.more_groups = more_groups.iter().filter(|group| !group.is_empty()).cloned().collect();
        self.measured()
    }

    fn measured(self) -> Result<Self, TopicsError> {
        let longest = self.expand(Prefix::Telemetry, &self.topic, "MqttFingerprint1").len();
        if longest > TOPIC_CHARS {
            return Err(TopicsError::TooLong { chars: longest, limit: TOPIC_CHARS });
        }
        Ok(self)
    }

    fn groups(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.group).filter(|group| !group.is_empty()).chain(&self.more_groups)
    }

    /// `cmnd/plug/<command>`: where to send a command.
    ///
    /// # Errors
    /// The command is no topic level.
    pub fn command(&self, command: &str) -> Result<TopicName, TopicError> {
        TopicName::parse(&self.expand(Prefix::Command, &self.topic, command))
    }

    /// `stat/plug/<name>`, e.g. `RESULT`, `STATUS6`, `POWER`.
    ///
    /// # Errors
    /// The name is no topic level.
    pub fn status(&self, name: &str) -> Result<TopicName, TopicError> {
        TopicName::parse(&self.expand(Prefix::Status, &self.topic, name))
    }

    /// `tele/plug/<name>`, e.g. `LWT`, `STATE`, `SENSOR`, `INFO1`.
    ///
    /// # Errors
    /// The name is no topic level.
    pub fn telemetry(&self, name: &str) -> Result<TopicName, TopicError> {
        TopicName::parse(&self.expand(Prefix::Telemetry, &self.topic, name))
    }

    /// `tele/plug/LWT`, where `Online` and `Offline` appear, retained.
    #[must_use]
    pub fn last_will(&self) -> TopicName {
        self.telemetry("LWT").expect("the parts were checked when they were put together")
    }

    /// `tasmota/discovery/<MAC>/config`, retained.
    #[must_use]
    pub fn discovery_config(&self) -> TopicName {
        self.discovery("config")
    }

    /// `tasmota/discovery/<MAC>/sensors`, retained.
    #[must_use]
    pub fn discovery_sensors(&self) -> TopicName {
        self.discovery("sensors")
    }

    /// `cmnd/<client id>_fb/`: the topic a device hears whatever its topic is set to. None without `%topic%`.
    #[must_use]
    pub fn fallback(&self) -> Option<String> {
        self.full_topic.contains("%topic%").then(|| format!("cmnd/{}_fb/", self.client))
    }

    /// What the device subscribes, in its order: its own commands, its group's, its fallback. Facts §6.3.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<TopicFilter> {
        let mut filters = vec![self.expand(Prefix::Command, &self.topic, "#")];
        if let Some(fallback) = self.fallback() {
            filters.extend(self.groups().map(|group| self.expand(Prefix::Command, group, "#")));
            filters.push(format!("{fallback}#"));
        }
        let parse = |text: &String| TopicFilter::parse(text).expect("the parts were checked");
        filters.iter().map(parse).collect()
    }

    /// What the device publishes: answers, reports, discovery, and an empty message to its own `cmnd/…/POWER` after
    /// each connect, which permissions must allow. Facts §6.3.
    #[must_use]
    pub fn publications(&self) -> Vec<TopicFilter> {
        let mut filters = vec![
            self.expand(Prefix::Status, &self.topic, "#"),
            self.expand(Prefix::Telemetry, &self.topic, "#"),
            self.expand(Prefix::Command, &self.topic, "POWER"),
            format!("tasmota/discovery/{}/config", self.mac.compact()),
            format!("tasmota/discovery/{}/sensors", self.mac.compact()),
        ];
        filters.dedup();
        let parse = |text: &String| TopicFilter::parse(text).expect("the parts were checked");
        filters.iter().map(parse).collect()
    }

    /// `DVES_XXXXXX` or what was set.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.client
    }

    /// The device's own part.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The device's MAC.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// The command name in a received `cmnd/…/<Command>` topic, if the topic is one of this device's.
    #[must_use]
    pub fn command_of<'t>(&self, topic: &'t str) -> Option<&'t str> {
        let own = self.expand(Prefix::Command, &self.topic, "");
        let groups = self.groups().map(|group| self.expand(Prefix::Command, group, ""));
        let mut bases = std::iter::once(own).chain(groups).chain(self.fallback());
        let command = bases.find_map(|base| topic.strip_prefix(base.as_str()))?;
        (!command.is_empty() && !command.contains('/')).then_some(command)
    }

    fn expand(&self, prefix: Prefix, topic: &str, last: &str) -> String {
        let mut text = self.full_topic.clone();
        // A FullTopic without %prefix% gets it in front, as devices do.
        if !text.contains("%prefix%") {
            text = format!("%prefix%/{text}");
        }
        let text = text
            .replace("%prefix%", &self.prefixes[prefix as usize])
            .replace("%topic%", topic)
            .replace("%id%", &self.mac.compact());
        format!("{text}/{last}")
    }

    fn discovery(&self, last: &str) -> TopicName {
        let text = format!("tasmota/discovery/{}/{last}", self.mac.compact());
        TopicName::parse(&text).expect("made of fixed words and hex digits")
    }
}

/// Why names make no topics.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicsError {
    /// Nothing there.
    #[error("the {what} is empty")]
    Empty {
        /// Which part.
        what: &'static str,
    },
    /// The device would replace or drop it.
    #[error("the {what} has a wildcard, a blank or a control character")]
    Character {
        /// Which part.
        what: &'static str,
    },
    /// `%hostname%` or another one: only the device knows what it stands for.
    #[error("the FullTopic has a placeholder other than %prefix%, %topic% and %id%")]
    Placeholder,
    /// Longer than a device builds.
    #[error("topics of {chars} characters, devices build {limit} at most")]
    TooLong {
        /// The longest of them.
        chars: usize,
        /// The limit.
        limit: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plug() -> Topics {
        Topics::new("plug", Mac([0xA0, 0xB1, 0xC2, 0xD3, 0xE4, 0xF5])).unwrap()
    }

    #[test]
    fn the_default_full_topic_gives_the_documented_topics() {
        let plug = plug();
        assert_eq!(plug.command("TLSKey").unwrap().as_str(), "cmnd/plug/TLSKey");
        assert_eq!(plug.last_will().as_str(), "tele/plug/LWT");
        assert_eq!(plug.status("RESULT").unwrap().as_str(), "stat/plug/RESULT");
        assert_eq!(plug.discovery_config().as_str(), "tasmota/discovery/A0B1C2D3E4F5/config");
        assert_eq!(plug.fallback().unwrap(), "cmnd/DVES_D3E4F5_fb/");
        let subscriptions: Vec<_> =
            plug.subscriptions().iter().map(|filter| filter.as_str().to_owned()).collect();
        assert_eq!(subscriptions, ["cmnd/plug/#", "cmnd/tasmotas/#", "cmnd/DVES_D3E4F5_fb/#"]);
    }

    #[test]
    fn another_full_topic_moves_the_prefix() {
        let topics = Topics::with("home/%topic%/%prefix%/", "plug", "DVES_1", "all", plug().mac()).unwrap();
        assert_eq!(topics.command("Power").unwrap().as_str(), "home/plug/cmnd/Power");
        assert_eq!(topics.command_of("home/plug/cmnd/Power"), Some("Power"));
        assert_eq!(topics.command_of("home/all/cmnd/Power"), Some("Power"));
        assert_eq!(topics.command_of("cmnd/DVES_1_fb/Power"), Some("Power"));
        assert_eq!(topics.command_of("home/other/cmnd/Power"), None);
        assert_eq!(topics.command_of("home/plug/cmnd/"), None);
    }

    #[test]
    fn renamed_prefixes_and_more_groups_are_the_devices_own() {
        let topics = plug().renamed(["do", "is", "says"], &["floor".into(), String::new()]).unwrap();
        assert_eq!(topics.status("RESULT").unwrap().as_str(), "is/plug/RESULT");
        let subscriptions: Vec<_> =
            topics.subscriptions().iter().map(|filter| filter.as_str().to_owned()).collect();
        // The fallback keeps the literal cmnd whatever Prefix1 is (facts §6.2).
        assert_eq!(subscriptions, ["do/plug/#", "do/tasmotas/#", "do/floor/#", "cmnd/DVES_D3E4F5_fb/#"]);
        assert_eq!(topics.command_of("do/floor/Power"), Some("Power"));
        assert_eq!(topics.command_of("cmnd/plug/Power"), None);
        for bad in [["", "b", "c"], ["a", "b+", "c"]] {
            assert!(plug().renamed(bad, &[]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn illegal_parts_are_refused() {
        let mac = plug().mac();
        assert_eq!(Topics::new("a+b", mac), Err(TopicsError::Character { what: "Topic" }));
        let hostname = Topics::with("%hostname%/%prefix%", "plug", "DVES_1", "all", mac);
        assert_eq!(hostname, Err(TopicsError::Placeholder));
        assert_eq!(Topics::new("", mac), Err(TopicsError::Empty { what: "Topic" }));
        assert!(matches!(Topics::new(&"x".repeat(140), mac), Err(TopicsError::TooLong { .. })));
    }
}
