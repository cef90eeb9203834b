//! What would be done with each device, and what is held back and why. Pure: asks nobody, changes nothing.

use quoll_tasmota::Mac;
use std::collections::{BTreeMap, BTreeSet};

use super::candidate::{Candidate, Found, Skill};
use crate::device::{Address, Device, DeviceName, DeviceState, Rung, words};
use crate::enrol::{BrokerTarget, CaKind, WantedRung};

/// Free heap in KiB that a handshake leaves nothing of (facts §3.5: 4.8 to 6.8 KiB for it, some 7 KiB while it lasts).
const HEAP_ESP8266: u64 = 14;
/// The same for an ESP32, whose buffers are larger.
const HEAP_ESP32: u64 = 40;
/// Wi-Fi quality in per cent below which commands of over a kilobyte get lost.
const RSSI: i64 = 20;
/// Seconds that a clock may be off.
const CLOCK: i64 = 60;
/// Flash in KiB on which an image with TLS cannot be put by a plain update over the air (facts §9).
const SMALL_FLASH: u64 = 1024;
/// User name of released images, whose password can be put back (facts §6.1).
const FACTORY_USER: &str = "DVES_USER";

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

fn verdict(
    candidate: &Candidate,
    device: Option<&Device>,
    broker: &BrokerTarget,
    policy: &Policy,
) -> Verdict {
    let found = &candidate.found;
    let mut held = Vec::new();
    let mut hold = |hold: Hold, why: String, next: &str| {
        if !(hold.can_be_forced() && policy.force.contains(&hold)) {
            held.push(Held { hold, why, next: next.to_owned() });
        }
    };
    if let Some(device) = device {
        if device.state == DeviceState::Revoked {
            hold(Hold::Out, "it is revoked".into(), "quoll device remove it, then scan again");
        } else if device.quarantine.is_some() {
            hold(Hold::Out, "it is in quarantine".into(), "quoll device release it first");
        }
    }
    let rung = match found.ability {
        None => {
            let why = found.problem.clone().unwrap_or_else(|| "it could not be asked".into());
            hold(
                Hold::Silent,
                why,
                "see to power, Wi-Fi, address or web password, then quoll fleet scan again",
            );
            None
        }
        Some(Skill::MqttOff) => {
            hold(Hold::MqttOff, "MQTT is switched off".into(), "on the device: SetOption3 1");
            None
        }
        Some(skill) => match rung(skill, device, broker, policy.rung) {
            Ok(rung) => Some(rung),
            Err((reason, why, next)) => {
                let small = found.flash.is_some_and(|flash| flash <= SMALL_FLASH) && reason == Hold::Firmware;
                let next = match small {
                    true => format!(
                        "{next}; with {SMALL_FLASH} KiB of flash put tasmota-minimal on it first, and use .bin.gz"
                    ),
                    false => next.to_owned(),
                };
                hold(reason, why, &next);
                None
            }
        },
    };
    if let (Some(rung), Some(device)) = (rung, device) {
        let is_there = device.state == DeviceState::Proven && device.rung >= rung;
        // An update over the air can lose the key; what a scan saw before the proof says nothing of that.
        let is_newer = device.last_seen.is_none_or(|seen| candidate.last_found > seen);
        let forgot = device.rung == Rung::Mutual && found.ability == Some(Skill::Key) && is_newer;
        if is_there && !forgot && held.is_empty() {
            return Verdict::Proven(device.rung);
        }
    }
    let mut hold = |hold: Hold, why: String, next: &str| {
        if !(hold.can_be_forced() && policy.force.contains(&hold)) {
            held.push(Held { hold, why, next: next.to_owned() });
        }
    };
    if found.ability.is_some() {
        if found.crashes_without_broker {
            let firmware = found.firmware.as_deref().unwrap_or("its firmware");
            let why = format!("{firmware} restarts over and over while its TLS broker is down");
            hold(Hold::KnownCrash, why, "update it to 15.4 or later, or --force known-crash");
        }
        if let Some(off) = found.clock_off.filter(|off| off.abs() > CLOCK && rung == Some(Rung::Mutual)) {
            let why = format!("its clock is off by {off} s");
            hold(
                Hold::WrongClock,
                why,
                "NtpServer1 on the device, or --force wrong-clock: it is set, but not kept",
            );
        }
        let is_esp32 = found.chip.as_deref().is_some_and(|chip| chip.starts_with("ESP32"));
        let least = if is_esp32 { HEAP_ESP32 } else { HEAP_ESP8266 };
        if let Some(heap) = found.heap.filter(|heap| *heap < least) {
            let why = format!("{heap} KiB of memory are free, and TLS wants {least}");
            hold(Hold::LowHeap, why, "a smaller image, or --force low-heap");
        }
        if let Some(rssi) = found.rssi.filter(|rssi| *rssi < RSSI) {
            let why = format!("its Wi-Fi has {rssi} %");
            hold(Hold::WeakWifi, why, "an access point nearer to it, or --force weak-wifi");
        }
    }
    let ours = device.is_some_and(|device| device.serial.is_some());
    if rung == Some(Rung::Mutual) && found.ability == Some(Skill::KeyTaken) && !ours && !policy.replace_key {
        let why = "it has a key that is not from us, and that cannot be read back".to_owned();
        hold(Hold::ForeignKey, why, "--replace-key if nobody needs it");
    }
    if rung == Some(Rung::Pinned) && !policy.old_password && would_lose_a_password(found, device, broker) {
        let user = found.user.as_deref().unwrap_or_default();
        let why = format!("it is {user:?} at its broker, with a password that nobody can read");
        hold(Hold::OldPassword, why, "--old-password-file FILE for the way back, or --lose-old-password");
    }
    match (rung, held.is_empty()) {
        (Some(rung), true) => Verdict::Enrol(rung),
        _ => Verdict::Held(held),
    }
}

fn would_lose_a_password(found: &Found, device: Option<&Device>, broker: &BrokerTarget) -> bool {
    let user = found.user.as_deref().unwrap_or_default();
    let has_broker = found.broker.as_ref().is_some_and(|(host, _)| !host.is_empty());
    let at_ours = found.broker.as_ref().is_some_and(|(host, port)| {
        host.eq_ignore_ascii_case(&broker.host) && Some(*port) == broker.pinned_port
    });
    let ours = at_ours || device.is_some_and(|device| device.name.as_str() == user);
    has_broker && !user.is_empty() && user != FACTORY_USER && !ours
}

type Refused = (Hold, String, &'static str);

/// The rung it would reach, or why none.
fn rung(
    skill: Skill,
    device: Option<&Device>,
    broker: &BrokerTarget,
    wanted: WantedRung,
) -> Result<Rung, Refused> {
    const BUILD: &str = "an image of one's own: quoll firmware";
    let has_key = matches!(skill, Skill::Key | Skill::KeyTaken);
    match wanted {
        WantedRung::Auto | WantedRung::Mutual if has_key => return Ok(Rung::Mutual),
        WantedRung::Mutual => {
            return Err((Hold::Firmware, "its firmware has no client certificates".into(), BUILD));
        }
        WantedRung::Auto if device.is_some_and(|device| device.rung == Rung::Mutual) => {
            let why = "it was proven with a certificate, and its firmware has none any more".into();
            return Err((
                Hold::WouldLower,
                why,
                "flash an image with client certificates again, or --rung pinned",
            ));
        }
        _ => {}
    }
    if skill == Skill::None {
        return Err((Hold::Firmware, "its firmware has no TLS".into(), BUILD));
    }
    if broker.pinned_port.is_none() {
        let why = "it can only be pinned, and the broker has no listener for that".into();
        return Err((Hold::NoPinnedDoor, why, "pinned = [\"0.0.0.0:8884\"] under [listen] of quoll.toml"));
    }
    if broker.server_fingerprint == [0; 20] {
        debug_assert!(broker.ca_kind == CaKind::Ec || broker.ca_kind == CaKind::Rsa);
        let why = "it can only pin an RSA key, and the broker's is none".into();
        return Err((Hold::NoPinnedDoor, why, "give the server an RSA key, or build an image of one's own"));
    }
    Ok(Rung::Pinned)
}

/// Two devices with one topic speak for each other, two with one client id throw each other out of the broker, and two
/// with one name are one.
fn hold_doubles(items: &mut [Item], found: &[Candidate], known: &[Device], policy: &Policy) {
    let mut topics: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut clients = topics.clone();
    let mut names = topics.clone();
    let macs: BTreeSet<Mac> = items.iter().map(|item| item.mac).collect();
    let mut note = |map: usize, key: &str, who: String| {
        let map = [&mut topics, &mut clients, &mut names].into_iter().nth(map).expect("one of three");
        map.entry(key.to_owned()).or_default().insert(who);
    };
    for (item, candidate) in items.iter().zip(found) {
        let who = format!("{} ({})", item.name, item.mac);
        if let Some(topic) = &candidate.found.topic {
            note(0, topic, who.clone());
        }
        if let Some(client) = &candidate.found.client {
            note(1, client, who.clone());
        }
        note(2, &item.name.as_str().to_ascii_lowercase(), who);
    }
    for device in known.iter().filter(|device| !macs.contains(&device.mac)) {
        let who = format!("{} ({})", device.name, device.mac);
        if device.state != DeviceState::Revoked {
            note(0, &device.topics.topic, who.clone());
            note(1, &device.topics.client_id, who.clone());
        }
        note(2, &device.name.as_str().to_ascii_lowercase(), who);
    }
    for (item, candidate) in items.iter_mut().zip(found) {
        let me = format!("{} ({})", item.name, item.mac);
        let others = |map: &BTreeMap<String, BTreeSet<String>>, key: &str| -> Option<String> {
            let others: Vec<&str> =
                map.get(key)?.iter().filter(|who| **who != me).map(String::as_str).collect();
            (!others.is_empty()).then(|| others.join(", "))
        };
        let mut held = Vec::new();
        if let Some(topic) = candidate.found.topic.as_deref().filter(|_| !policy.share_topics)
            && let Some(others) = others(&topics, topic)
        {
            let why = format!("it has the topic {topic:?}, and so has {others}");
            let next = "Topic NAME on one of them, then quoll fleet scan again; or --share-topics".to_owned();
            held.push(Held { hold: Hold::SharedTopic, why, next });
        }
        if let Some(client) = &candidate.found.client
            && let Some(others) = others(&clients, client)
        {
            let why = format!("it has the MQTT client id {client:?}, and so has {others}");
            let next =
                "MqttClient 1 on one of them (the factory's: made of its MAC), then quoll fleet scan again";
            held.push(Held { hold: Hold::SharedClientId, why, next: next.into() });
        }
        if let Some(others) = others(&names, &item.name.as_str().to_ascii_lowercase()) {
            let why = format!("it would be called {}, as {others}", item.name);
            let next = "name them in a list: quoll fleet scan --csv FILE".to_owned();
            held.push(Held { hold: Hold::SharedName, why, next });
        }
        match (&mut item.verdict, held.is_empty()) {
            (_, true) | (Verdict::Proven(_), _) => {}
            (Verdict::Held(all), false) => all.extend(held),
            (verdict @ Verdict::Enrol(_), false) => *verdict = Verdict::Held(held),
        }
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

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
