//! Who may publish and subscribe what: a device from its topics, a client from its role, a certificate at the door.
//! What it is not: a check of a single PUBLISH; the broker compiles these filters once, when a session begins.

mod learned;
mod mosquitto;
mod roles;

use serde::{Deserialize, Serialize};

pub use self::learned::{Observation, Proposal, Reach, proposals};
pub use self::mosquitto::acl_file;
pub use self::roles::client_access;

use crate::device::{Device, Mac, Topics};
use crate::limits::{CLIENT_FILTERS_MAX, GROUP_TOPICS_MAX, TOPIC_MAX};
use crate::registry::{Owner, Registry, RegistryError};

/// Topic filters (MQTT 5.0 §4.7) that an identity may publish to and subscribe to; everything else is refused.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Access {
    /// A PUBLISH to a topic that matches one of these is allowed.
    pub publish: Vec<String>,
    /// A SUBSCRIBE whose filter lies within one of these is allowed.
    pub subscribe: Vec<String>,
}

/// Why a set of topics gives no access list.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// Empty where a level is needed, so that the device would own somebody else's topics.
    #[error("{setting} is empty")]
    Empty {
        /// The Tasmota setting, or `filter`.
        setting: &'static str,
    },
    /// A wildcard, a blank, a control character or a leading `$` in a part of a topic.
    #[error("{setting} has {found:?} in it, which no topic may have here")]
    Character {
        /// The Tasmota setting.
        setting: &'static str,
        /// The character.
        found: char,
    },
    /// Over [`TOPIC_MAX`] bytes.
    #[error("{setting} has {length} bytes, {TOPIC_MAX} at most")]
    TooLong {
        /// The Tasmota setting, or `filter`.
        setting: &'static str,
        /// Its bytes.
        length: usize,
    },
    /// FullTopic without `%topic%` or `%prefix%` (a device could name itself after others' topics), or with a word we
    /// cannot fill in.
    #[error(
        "FullTopic {full_topic:?} does not keep devices apart: it needs %prefix% and %topic%, and nothing else with %"
    )]
    FullTopic {
        /// The setting's value.
        full_topic: String,
    },
    /// More group topics than Tasmota has, or more filters than a client may have.
    #[error("{count} entries, {limit} at most")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A filter that MQTT does not allow (§4.7.1).
    #[error("{filter:?} is no topic filter: a wildcard fills its level, and # is the last")]
    Filter {
        /// The filter.
        filter: String,
    },
}

impl AccessError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::FullTopic { .. } => "on the device: FullTopic %prefix%/%topic%/".into(),
            Self::Empty { setting } | Self::Character { setting, .. } | Self::TooLong { setting, .. } => {
                format!("set {setting} to letters, digits, - and _")
            }
            _ => return None,
        })
    }
}

impl Topics {
    /// Refuses what would give a device access to topics that are not its own. A device's answers are not to be
    /// trusted: one whose `Topic` is `+` must not command its neighbours.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub fn check(&self) -> Result<(), AccessError> {
        level_set("Topic", &self.topic)?;
        level_set("Prefix1", &self.command)?;
        level_set("Prefix2", &self.status)?;
        level_set("Prefix3", &self.telemetry)?;
        level_set("MqttClient", &self.client_id)?;
        if self.groups.len() > GROUP_TOPICS_MAX {
            return Err(AccessError::TooMany { count: self.groups.len(), limit: GROUP_TOPICS_MAX });
        }
        self.groups.iter().try_for_each(|group| level_set("GroupTopic", group))?;
        let rest = self.full_topic.replace("%prefix%", "p").replace("%topic%", "t");
        level_set("FullTopic", &rest)?;
        let whole = self.full_topic.contains("%topic%") && self.full_topic.contains("%prefix%");
        if !whole || rest.contains('%') {
            return Err(AccessError::FullTopic { full_topic: self.full_topic.clone() });
        }
        Ok(())
    }

    /// FullTopic filled in, with one `/` at its end (the firmware adds it where it is missing).
    #[must_use]
    pub fn full(&self, prefix: &str, topic: &str) -> String {
        let filled = self.full_topic.replace("%prefix%", prefix).replace("%topic%", topic);
        format!("{}/", filled.trim_end_matches('/'))
    }
}

fn level_set(setting: &'static str, text: &str) -> Result<(), AccessError> {
    if text.trim_matches('/').is_empty() {
        return Err(AccessError::Empty { setting });
    }
    if text.len() > TOPIC_MAX {
        return Err(AccessError::TooLong { setting, length: text.len() });
    }
    let bad = |c: char| matches!(c, '+' | '#' | '"' | '\\') || c.is_whitespace() || c.is_control();
    match text.chars().find(|c| bad(*c)).or_else(|| text.starts_with('$').then_some('$')) {
        Some(found) => Err(AccessError::Character { setting, found }),
        None => Ok(()),
    }
}

/// What a device may do (facts §6.2, §6.3): publish below its own status and telemetry, to its own `POWER` command
/// (each Tasmota does so when it starts) and its discovery; subscribe to commands for it, its groups and its fallback.
///
/// # Errors
/// Where its topics cannot be kept apart from others': see [`AccessError`].
pub fn device_access(device: &Device) -> Result<Access, AccessError> {
    let topics = &device.topics;
    topics.check()?;
    let own = |prefix: &str| topics.full(prefix, &topics.topic);
    let mut access = Access::default();
    for prefix in [&topics.status, &topics.telemetry] {
        push_new(&mut access.publish, format!("{}#", own(prefix)));
    }
    push_new(&mut access.publish, format!("{}POWER", own(&topics.command)));
    push_new(&mut access.publish, format!("tasmota/discovery/{}/#", device.mac.compact()));
    push_new(&mut access.subscribe, format!("{}#", own(&topics.command)));
    for group in &topics.groups {
        push_new(&mut access.subscribe, format!("{}#", topics.full(&topics.command, group)));
    }
    // Always the literal prefix cmnd, whatever Prefix1 says (facts §6.2).
    push_new(&mut access.subscribe, format!("cmnd/{}_fb/#", topics.client_id));
    Ok(access)
}

impl Access {
    /// Refuses what is no topic filter, and lists that are too long.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub fn check(&self) -> Result<(), AccessError> {
        let count = self.publish.len().max(self.subscribe.len());
        if count > CLIENT_FILTERS_MAX {
            return Err(AccessError::TooMany { count, limit: CLIENT_FILTERS_MAX });
        }
        self.publish.iter().chain(&self.subscribe).try_for_each(|filter| check_filter(filter))
    }
}

impl Access {
    /// These, and those of `more` that are not among them.
    #[must_use]
    pub fn and(mut self, more: &Self) -> Self {
        more.publish.iter().for_each(|filter| push_new(&mut self.publish, filter.clone()));
        more.subscribe.iter().for_each(|filter| push_new(&mut self.subscribe, filter.clone()));
        self
    }

    /// The filters of one direction.
    #[must_use]
    pub fn of(&self, act: Act) -> &[String] {
        match act {
            Act::Publish => &self.publish,
            Act::Subscribe => &self.subscribe,
        }
    }
}

/// A direction of [`Access`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Act {
    /// PUBLISH, or a will.
    Publish,
    /// SUBSCRIBE.
    Subscribe,
}

impl Act {
    /// The word in the registry and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Publish, Self::Subscribe].into_iter().find(|act| act.as_str() == word)
    }
}

/// MQTT 5.0 [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] [MQTT-4.7.3-2].
fn check_filter(filter: &str) -> Result<(), AccessError> {
    if filter.is_empty() {
        return Err(AccessError::Empty { setting: "filter" });
    }
    if filter.len() > TOPIC_MAX {
        return Err(AccessError::TooLong { setting: "filter", length: filter.len() });
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let fits = match level {
            "+" => true,
            "#" => levels.peek().is_none(),
            other => !other.contains(['+', '#', '\0']),
        };
        if !fits {
            return Err(AccessError::Filter { filter: filter.to_owned() });
        }
    }
    Ok(())
}

/// The first of these devices that shares topics with the one of this MAC: one could speak for the other. One that is out
/// speaks for nobody.
#[must_use]
pub fn sharing(devices: Vec<Device>, mac: Mac, topics: &Topics) -> Option<Device> {
    devices.into_iter().find(|other| {
        other.mac != mac && other.state.admits() && overlap((mac, topics), (other.mac, &other.topics))
    })
}

/// Whether two devices' topics overlap so that one could speak for the other or listen to its commands. A group or a
/// fallback topic in common is none: that is what groups are for. A device's MAC stands in some of its topics.
pub(crate) fn overlap(a: (Mac, &Topics), b: (Mac, &Topics)) -> bool {
    let (own_a, groups_a) = areas(a.0, a.1);
    let (own_b, groups_b) = areas(b.0, b.1);
    let any = |left: &[String], right: &[String]| {
        left.iter().any(|one| right.iter().any(|other| one.starts_with(other) || other.starts_with(one)))
    };
    any(&own_a, &own_b) || any(&own_a, &groups_b) || any(&groups_a, &own_b)
}

/// What is a device's own, and what it shares: beginnings of topics, each with its last `/`.
fn areas(mac: Mac, topics: &Topics) -> (Vec<String>, Vec<String>) {
    let prefixes = [&topics.command, &topics.status, &topics.telemetry];
    let mut own: Vec<String> = prefixes.map(|prefix| topics.full(prefix, &topics.topic)).to_vec();
    own.push(format!("tasmota/discovery/{}/", mac.compact()));
    own.push(format!("cmnd/{}_fb/", topics.client_id));
    let groups = topics.groups.iter().map(|group| topics.full(&topics.command, group)).collect();
    (own, groups)
}

fn push_new(list: &mut Vec<String>, filter: String) {
    if !list.contains(&filter) {
        list.push(filter);
    }
}

/// What the registry says about a certificate at the broker's door.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Let it in.
    Admit {
        /// Whose certificate it is.
        owner: Owner,
        /// What it may do.
        access: Access,
    },
    /// Keep it out.
    Refuse(Refusal),
}

/// Why a certificate is kept out.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No device and no client has a certificate of this serial number.
    #[error("no device or client has the certificate {0}")]
    Unknown(String),
    /// It, or its owner, is revoked or removed.
    #[error("{0} is revoked")]
    Revoked(Owner),
    /// Its device is kept out until it is released.
    #[error("{0} is in quarantine")]
    Quarantined(Owner),
    /// Its owner's topics give no safe access list.
    #[error("{owner}: {why}")]
    Topics {
        /// Whose certificate it is.
        owner: Owner,
        /// What is wrong.
        why: AccessError,
    },
}

/// Answers the doorkeeper: may the holder of this certificate come in, and what may it do?
///
/// # Errors
/// Where the registry cannot be read; then nobody should be let in.
pub fn admit(registry: &Registry, serial: &str) -> Result<Verdict, RegistryError> {
    let Some(certificate) = registry.certificate(serial)? else {
        return Ok(Verdict::Refuse(Refusal::Unknown(serial.to_owned())));
    };
    let owner = certificate.owner;
    let revoked = |owner: Owner| Ok(Verdict::Refuse(Refusal::Revoked(owner)));
    if certificate.revoked {
        return revoked(owner);
    }
    let access = match &owner {
        Owner::Device(name) => match registry.device(name)? {
            Some(device) if device.state.admits() && device.quarantine.is_some() => {
                return Ok(Verdict::Refuse(Refusal::Quarantined(owner)));
            }
            Some(device) if device.state.admits() => device_access(&device),
            _ => return revoked(owner),
        },
        Owner::Client(name) => match registry.client(name)? {
            Some(client) if !client.revoked => client_access(&client, &registry.devices()?),
            _ => return revoked(owner),
        },
    };
    let more = registry.allowed(owner.name())?;
    Ok(match access {
        Ok(access) => Verdict::Admit { owner, access: access.and(&more) },
        Err(why) => Verdict::Refuse(Refusal::Topics { owner, why }),
    })
}

#[cfg(test)]
mod tests;
