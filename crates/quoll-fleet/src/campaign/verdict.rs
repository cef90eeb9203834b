//! What would be done with one device, by what a scan found and what the registry knows: the rung it would reach, and each
//! reason to hold it back.

use super::candidate::{Candidate, Found, Skill};
use super::plan::{Held, Hold, Policy, Verdict};
use crate::device::{Device, DeviceState, Rung};
use crate::enrol::{BrokerTarget, WantedRung};

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

pub(super) fn verdict(
    candidate: &Candidate,
    device: Option<&Device>,
    broker: &BrokerTarget,
    policy: &Policy,
) -> Verdict {
    let found = &candidate.found;
    let mut held = Vec::new();
    let hold = |held: &mut Vec<Held>, hold: Hold, why: String, next: &str| {
        if !(hold.can_be_forced() && policy.force.contains(&hold)) {
            held.push(Held { hold, why, next: next.to_owned() });
        }
    };
    if let Some(device) = device {
        if device.state == DeviceState::Revoked {
            hold(&mut held, Hold::Out, "it is revoked".into(), "quoll device remove it, then scan again");
        } else if device.quarantine.is_some() {
            hold(&mut held, Hold::Out, "it is in quarantine".into(), "quoll device release it first");
        }
    }
    let rung = match found.ability {
        None => {
            let why = found.problem.clone().unwrap_or_else(|| "it could not be asked".into());
            hold(
                &mut held,
                Hold::Silent,
                why,
                "see to power, Wi-Fi, address or web password, then quoll fleet scan again",
            );
            None
        }
        Some(Skill::MqttOff) => {
            hold(&mut held, Hold::MqttOff, "MQTT is switched off".into(), "on the device: SetOption3 1");
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
                hold(&mut held, reason, why, &next);
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
    if found.ability.is_some() {
        if found.crashes_without_broker {
            let firmware = found.firmware.as_deref().unwrap_or("its firmware");
            let why = format!("{firmware} restarts over and over while its TLS broker is down");
            hold(&mut held, Hold::KnownCrash, why, "update it to 15.4 or later, or --force known-crash");
        }
        if let Some(off) = found.clock_off.filter(|off| off.abs() > CLOCK && rung == Some(Rung::Mutual)) {
            let why = format!("its clock is off by {off} s");
            hold(
                &mut held,
                Hold::WrongClock,
                why,
                "NtpServer1 on the device, or --force wrong-clock: it is set, but not kept",
            );
        }
        let is_esp32 = found.chip.as_deref().is_some_and(|chip| chip.starts_with("ESP32"));
        let least = if is_esp32 { HEAP_ESP32 } else { HEAP_ESP8266 };
        if let Some(heap) = found.heap.filter(|heap| *heap < least) {
            let why = format!("{heap} KiB of memory are free, and TLS wants {least}");
            hold(&mut held, Hold::LowHeap, why, "a smaller image, or --force low-heap");
        }
        if let Some(rssi) = found.rssi.filter(|rssi| *rssi < RSSI) {
            let why = format!("its Wi-Fi has {rssi} %");
            hold(&mut held, Hold::WeakWifi, why, "an access point nearer to it, or --force weak-wifi");
        }
    }
    let ours = device.is_some_and(|device| device.serial.is_some());
    if rung == Some(Rung::Mutual) && found.ability == Some(Skill::KeyTaken) && !ours && !policy.replace_key {
        let why = "it has a key that is not from us, and that cannot be read back".to_owned();
        hold(&mut held, Hold::ForeignKey, why, "--replace-key if nobody needs it");
    }
    if rung == Some(Rung::Pinned) && !policy.old_password && would_lose_a_password(found, device, broker) {
        let user = found.user.as_deref().unwrap_or_default();
        let why = format!("it is {user:?} at its broker, with a password that nobody can read");
        hold(
            &mut held,
            Hold::OldPassword,
            why,
            "--old-password-file FILE for the way back, or --lose-old-password",
        );
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
        let why = "it can only pin an RSA key, and the broker's is none".into();
        return Err((Hold::NoPinnedDoor, why, "give the server an RSA key, or build an image of one's own"));
    }
    Ok(Rung::Pinned)
}
