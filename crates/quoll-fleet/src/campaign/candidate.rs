//! A device that was found and may not be ours yet.

use quoll_tasmota::Mac;
use quoll_tasmota::discover::{Ability, Finding};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::device::{Address, DeviceName};

/// A device as a scan found it, told by its MAC whoever found it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// Its hardware address.
    pub mac: Mac,
    /// What was found.
    pub found: Found,
    /// When it was found first.
    pub first_found: OffsetDateTime,
    /// When it was found last.
    pub last_found: OffsetDateTime,
}

/// What a scan found out. Fields are empty where the device did not say.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Found {
    /// Where its web console is, as the command line takes it.
    pub address: Option<String>,
    /// The name that its owner wants, from a list.
    pub name: Option<String>,
    /// Firmware as it writes it.
    pub firmware: Option<String>,
    /// Chip as it writes it.
    pub chip: Option<String>,
    /// Free heap in KiB.
    pub heap: Option<u64>,
    /// Flash in KiB.
    pub flash: Option<u64>,
    /// Wi-Fi quality in per cent.
    pub rssi: Option<i64>,
    /// The broker it has: host (empty for none) and port.
    pub broker: Option<(String, u16)>,
    /// Its MQTT user name there.
    pub user: Option<String>,
    /// Topic.
    pub topic: Option<String>,
    /// MQTT client id.
    pub client: Option<String>,
    /// How far its clock is off, in seconds.
    pub clock_off: Option<i64>,
    /// What its TLS can do; `None` where it could not be asked.
    pub ability: Option<Skill>,
    /// Whether it is of the releases that restart while their TLS broker is down (facts §9).
    pub crashes_without_broker: bool,
    /// Why it could not be asked all.
    pub problem: Option<String>,
}

/// What a firmware's TLS can do (facts §7.3).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Skill {
    /// MQTT is switched off, which hides the rest.
    MqttOff,
    /// No TLS.
    None,
    /// TLS without client certificates.
    Server,
    /// TLSKey is there and empty.
    Key,
    /// TLSKey is there and holds something.
    KeyTaken,
}

impl From<Ability> for Skill {
    fn from(ability: Ability) -> Self {
        match ability {
            Ability::MqttOff => Self::MqttOff,
            Ability::NoTls => Self::None,
            Ability::Server => Self::Server,
            Ability::ClientCert(stored) if stored == quoll_tasmota::Stored::default() => Self::Key,
            Ability::ClientCert(_) => Self::KeyTaken,
        }
    }
}

impl Candidate {
    /// From what a scan found; `None` without a MAC, by which devices are told apart. `name` is what a list calls it.
    #[must_use]
    pub fn new(finding: &Finding, name: Option<&DeviceName>, now: OffsetDateTime) -> Option<Self> {
        let found = Found {
            address: finding.address().filter(|text| Address::parse(text).is_ok()),
            name: name.map(ToString::to_string),
            firmware: finding.firmware.clone(),
            chip: finding.chip.clone(),
            heap: finding.heap,
            flash: finding.flash,
            rssi: finding.rssi,
            broker: finding.broker.clone(),
            user: finding.user.clone(),
            topic: finding.topic.clone(),
            client: finding.client.clone(),
            clock_off: finding.clock_off,
            ability: finding.ability.map(Into::into),
            crashes_without_broker: finding.crashes_without_broker,
            problem: finding.problem.clone(),
        };
        Some(Self { mac: finding.mac?, found, first_found: now, last_found: now })
    }

    /// Its address, read.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        self.found.address.as_deref().and_then(|text| Address::parse(text).ok())
    }

    /// Takes over what a newer look found; what that one could not ask stays as it was known.
    pub(crate) fn renew(&mut self, newer: Self) {
        fn take<T>(mine: &mut Option<T>, theirs: Option<T>) {
            if theirs.is_some() {
                *mine = theirs;
            }
        }
        let (mine, theirs) = (&mut self.found, newer.found);
        take(&mut mine.address, theirs.address);
        take(&mut mine.name, theirs.name);
        take(&mut mine.firmware, theirs.firmware);
        take(&mut mine.chip, theirs.chip);
        take(&mut mine.heap, theirs.heap);
        take(&mut mine.flash, theirs.flash);
        take(&mut mine.rssi, theirs.rssi);
        take(&mut mine.broker, theirs.broker);
        take(&mut mine.user, theirs.user);
        take(&mut mine.topic, theirs.topic);
        take(&mut mine.client, theirs.client);
        take(&mut mine.clock_off, theirs.clock_off);
        take(&mut mine.ability, theirs.ability);
        mine.crashes_without_broker = theirs.crashes_without_broker;
        // It answers now, or it does not: that is no matter of what was known before.
        mine.problem = theirs.problem;
        self.last_found = newer.last_found;
    }
}
