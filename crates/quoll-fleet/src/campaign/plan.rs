//! What would be done with each device, and what is held back and why. Pure: asks nobody, changes nothing.

use quoll_tasmota::Mac;
use std::collections::{BTreeMap, BTreeSet};

use super::candidate::{Candidate, Found};
use super::doubles::hold_doubles;
use super::verdict::verdict;
use crate::device::{Address, Device, DeviceName, DeviceState, Rung, words};
use crate::enrol::{BrokerTarget, WantedRung};

/// What its owner allows and wants.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Policy {
    /// The rung that devices are to reach.
    pub rung: WantedRung,
    /// What does not hold a device back.
    pub force: BTreeSet<Hold>,
    /// Replace keys that are not from us.
    pub replace_key: bool,
    /// Accept two devices with one topic.
    pub share_topics: bool,
    /// The password at the old broker is known, or may be lost.
    pub old_password: bool,
}

/// Why a device may be held back.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Hold {
    /// A release that restarts over and over while its TLS broker is down (facts §9).
    KnownCrash,
    /// Its clock is wrong, so that it has no time server; certificates are checked against it.
    WrongClock,
    /// Too little free memory for TLS.
    LowHeap,
    /// Its Wi-Fi is so weak that it may not come back.
    WeakWifi,
    /// It could not be asked.
    Silent,
    /// MQTT is switched off.
    MqttOff,
    /// Its firmware cannot do what is wanted.
    Firmware,
    /// It was proven with a certificate, and its firmware has none any more.
    WouldLower,
    /// The broker has no door, or no key, for the pinned rung.
    NoPinnedDoor,
    /// It has a key that is not from us.
    ForeignKey,
    /// Its password at its old broker would be lost.
    OldPassword,
    /// Another device has its topic.
    SharedTopic,
    /// Another device has its MQTT client id.
    SharedClientId,
    /// Another device has, or would get, its name.
    SharedName,
    /// It is revoked, or in quarantine.
    Out,
}

words!(Hold {
    KnownCrash = "known-crash",
    WrongClock = "wrong-clock",
    LowHeap = "low-heap",
    WeakWifi = "weak-wifi",
    Silent = "silent",
    MqttOff = "mqtt-off",
    Firmware = "firmware",
    WouldLower = "would-lower",
    NoPinnedDoor = "no-pinned-door",
    ForeignKey = "foreign-key",
    OldPassword = "old-password",
    SharedTopic = "shared-topic",
    SharedClientId = "shared-client-id",
    SharedName = "shared-name",
    Out = "out",
});

impl Hold {
    /// Those that `--force` lets through: the device may come to no good, but others do not.
    #[must_use]
    pub fn can_be_forced(self) -> bool {
        matches!(self, Self::KnownCrash | Self::WrongClock | Self::LowHeap | Self::WeakWifi)
    }
}

/// One reason why a device is held back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Held {
    /// Which.
    pub hold: Hold,
    /// In words.
    pub why: String,
    /// What to do.
    pub next: String,
}

/// What would be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It would be enrolled on this rung.
    Enrol(Rung),
    /// It is proven on this rung already.
    Proven(Rung),
    /// It would not be touched.
    Held(Vec<Held>),
}

/// One device of a plan.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Item {
    /// Its hardware address.
    pub mac: Mac,
    /// The name it has, or would get.
    pub name: DeviceName,
    /// Where its web console is.
    pub address: Option<Address>,
    /// Chip and firmware, for people.
    pub kind: String,
    /// The rung it is proven on.
    pub now: Rung,
    /// Whether it is on its way: an earlier run did not end.
    pub is_under_way: bool,
    /// What would be done.
    pub verdict: Verdict,
    /// What a person should know, though it holds nothing back.
    pub notes: Vec<String>,
}

/// Plans for all that were found. `known` is the registry's, without removed ones.
#[must_use]
pub fn plan(found: &[Candidate], known: &[Device], broker: &BrokerTarget, policy: &Policy) -> Vec<Item> {
    let by_mac: BTreeMap<Mac, &Device> = known.iter().map(|device| (device.mac, device)).collect();
    let mut items: Vec<Item> = found
        .iter()
        .map(|candidate| {
            let device = by_mac.get(&candidate.mac).copied();
            let (name, notes) = name(candidate, device);
            Item {
                mac: candidate.mac,
                name,
                address: candidate.address().or_else(|| device.map(|device| device.address.clone())),
                kind: kind(&candidate.found),
                now: device.map_or(Rung::Plain, |device| device.rung),
                is_under_way: device.is_some_and(|device| {
                    matches!(device.state, DeviceState::KeyPushed | DeviceState::Switched)
                }),
                verdict: verdict(candidate, device, broker, policy),
                notes,
            }
        })
        .collect();
    hold_doubles(&mut items, found, known, policy);
    items
}

fn kind(found: &Found) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{} {}", part(&found.chip), part(&found.firmware)).trim().to_owned()
}

/// The name it has; else the one from a list; else its topic, which must differ between devices anyway.
fn name(candidate: &Candidate, device: Option<&Device>) -> (DeviceName, Vec<String>) {
    let wanted = candidate.found.name.as_deref().and_then(|name| DeviceName::parse(name).ok());
    if let Some(device) = device {
        let other = wanted.filter(|wanted| !wanted.as_str().eq_ignore_ascii_case(device.name.as_str()));
        let note = other.map(|other| format!("a list calls it {other}; it stays {}", device.name));
        return (device.name.clone(), note.into_iter().collect());
    }
    let topic = candidate.found.topic.as_deref().map(sanitised);
    let by_topic = topic.and_then(|topic| DeviceName::parse(&topic).ok());
    let by_mac = || {
        let name = format!("tasmota-{}", candidate.mac.tail());
        DeviceName::parse(&name).expect("hex digits and a fixed word")
    };
    (wanted.or(by_topic).unwrap_or_else(by_mac), Vec::new())
}

fn sanitised(topic: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let text: String = topic.chars().map(|c| if fits(c) { c } else { '-' }).take(64).collect();
    text.trim_matches(['-', '_', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::super::candidate::Skill;
    use super::*;
    use crate::enrol::CaKind;

    fn broker() -> BrokerTarget {
        let (host, ca_kind) = ("hub.lan".to_owned(), CaKind::Rsa);
        BrokerTarget { host, port: 8883, ca_kind, server_fingerprint: [7; 20], pinned_port: Some(8884) }
    }

    fn candidate(last: u8, change: impl FnOnce(&mut Found)) -> Candidate {
        let mac = Mac([0xA0, 0xB1, 0xC2, 0xD3, 0xE4, last]);
        let mut found = Found {
            address: Some(format!("192.0.2.{last}")),
            firmware: Some("15.5.0(release-tasmota)".into()),
            chip: Some("ESP8266EX".into()),
            heap: Some(25),
            rssi: Some(80),
            broker: Some(("old.lan".into(), 1883)),
            user: Some("DVES_USER".into()),
            topic: Some(format!("tasmota_{last:02X}")),
            client: Some(format!("DVES_{last:02X}")),
            clock_off: Some(0),
            ability: Some(Skill::Key),
            ..Found::default()
        };
        change(&mut found);
        let now = OffsetDateTime::UNIX_EPOCH;
        Candidate { mac, found, first_found: now, last_found: now }
    }

    fn holds(item: &Item) -> Vec<Hold> {
        match &item.verdict {
            Verdict::Held(held) => held.iter().map(|held| held.hold).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn each_reason_holds_back_and_only_some_can_be_forced() {
        type Change = fn(&mut Found);
        let cases: [(Hold, Change); 10] = [
            (Hold::KnownCrash, |found| found.crashes_without_broker = true),
            (Hold::WrongClock, |found| found.clock_off = Some(-1_700_000_000)),
            (Hold::LowHeap, |found| found.heap = Some(9)),
            (Hold::WeakWifi, |found| found.rssi = Some(8)),
            (Hold::Silent, |found| (found.ability, found.problem) = (None, Some("no answer".into()))),
            (Hold::MqttOff, |found| found.ability = Some(Skill::MqttOff)),
            (Hold::Firmware, |found| found.ability = Some(Skill::None)),
            (Hold::ForeignKey, |found| found.ability = Some(Skill::KeyTaken)),
            (Hold::OldPassword, |found| {
                (found.ability, found.user) = (Some(Skill::Server), Some("me".into()))
            }),
            (Hold::LowHeap, |found| (found.chip, found.heap) = (Some("ESP32-C3".into()), Some(30))),
        ];
        let force: BTreeSet<Hold> = Hold::ALL.iter().copied().collect();
        for (hold, change) in cases {
            let found = [candidate(1, change)];
            let items = plan(&found, &[], &broker(), &Policy::default());
            assert_eq!(holds(&items[0]), [hold]);
            let Verdict::Held(held) = &items[0].verdict else { panic!("{items:?}") };
            assert!(!held[0].why.is_empty() && !held[0].next.is_empty(), "{hold}");
            let forced = plan(&found, &[], &broker(), &Policy { force: force.clone(), ..Policy::default() });
            assert_eq!(holds(&forced[0]).is_empty(), hold.can_be_forced(), "{hold}");
        }
        let allowed = Policy { replace_key: true, old_password: true, ..Policy::default() };
        let found = [
            candidate(1, |found| found.ability = Some(Skill::KeyTaken)),
            candidate(2, |found| (found.ability, found.user) = (Some(Skill::Server), Some("me".into()))),
        ];
        let rungs: Vec<_> =
            plan(&found, &[], &broker(), &allowed).into_iter().map(|item| item.verdict).collect();
        assert_eq!(rungs, [Verdict::Enrol(Rung::Mutual), Verdict::Enrol(Rung::Pinned)]);
    }

    #[test]
    fn the_rung_is_the_highest_unless_said_otherwise() {
        for (wanted, skill, expected) in [
            (WantedRung::Auto, Skill::Key, Ok(Rung::Mutual)),
            (WantedRung::Auto, Skill::Server, Ok(Rung::Pinned)),
            (WantedRung::Auto, Skill::None, Err(Hold::Firmware)),
            (WantedRung::Mutual, Skill::Server, Err(Hold::Firmware)),
            (WantedRung::Pinned, Skill::Key, Ok(Rung::Pinned)),
        ] {
            let found = [candidate(1, |found| found.ability = Some(skill))];
            let policy = Policy { rung: wanted, ..Policy::default() };
            let items = plan(&found, &[], &broker(), &policy);
            match expected {
                Ok(rung) => assert_eq!(items[0].verdict, Verdict::Enrol(rung), "{wanted} {skill:?}"),
                Err(hold) => assert_eq!(holds(&items[0]), [hold], "{wanted} {skill:?}"),
            }
        }
        let closed = BrokerTarget { pinned_port: None, ..broker() };
        let found = [candidate(1, |found| found.ability = Some(Skill::Server))];
        assert_eq!(holds(&plan(&found, &[], &closed, &Policy::default())[0]), [Hold::NoPinnedDoor]);
    }

    #[test]
    fn two_with_one_topic_one_client_id_or_one_name_are_both_held() {
        let found = [
            candidate(1, |found| found.topic = Some("lamp".into())),
            candidate(2, |found| found.topic = Some("lamp".into())),
            candidate(3, |found| found.client = Some("me".into())),
            candidate(4, |found| found.client = Some("me".into())),
            candidate(5, |found| found.name = Some("Porch".into())),
            candidate(6, |found| found.name = Some("porch".into())),
            candidate(7, |_| {}),
        ];
        let items = plan(&found, &[], &broker(), &Policy::default());
        let all: Vec<_> = items.iter().map(holds).collect();
        for two in [0, 1] {
            assert_eq!(all[two], [Hold::SharedTopic, Hold::SharedName], "named after their topic");
        }
        assert_eq!((&all[2], &all[3]), (&vec![Hold::SharedClientId], &vec![Hold::SharedClientId]));
        assert_eq!((&all[4], &all[5]), (&vec![Hold::SharedName], &vec![Hold::SharedName]));
        assert_eq!(items[6].verdict, Verdict::Enrol(Rung::Mutual));
        let Verdict::Held(held) = &items[2].verdict else { panic!("{items:?}") };
        assert!(held[0].why.contains("tasmota_04") && held[0].next.contains("MqttClient 1"), "{held:?}");
    }

    #[test]
    fn a_topic_that_cannot_be_a_name_gives_one_that_can() {
        for (topic, name) in [("küche licht", "k-che-licht"), ("a/b", "a-b"), ("---", "tasmota-D3E401")] {
            let found = [candidate(1, |found| found.topic = Some(topic.into()))];
            assert_eq!(plan(&found, &[], &broker(), &Policy::default())[0].name.as_str(), name);
        }
    }
}
