//! Warnings: the device works, and will not go on doing so, or not safely.

use crate::doctor::verdict::{Found, Repair, Rule};
use crate::limits::CLOCK_SLACK;

/// Wi-Fi quality in per cent below which devices drop out.
const WEAK: i64 = 25;
/// Heap in KiB below which a handshake may fail; a handshake takes 6 and the connection 7.
const LITTLE: u64 = 14;
/// An owner wants to know this long before a certificate ends, in seconds.
const EXPIRY_NOTICE: i64 = 30 * 86_400;

pub(super) const OPEN_SLOT: Rule = Rule {
    id: "open-fingerprint-slot",
    numbers: &[],
    looks_at: "SetOption132, MqttFingerprint1 and 2",
    cause: "a fingerprint slot is open: the device accepts any server with any key",
    fix: "set both slots to the broker's fingerprint",
    repairs: Some("MqttFingerprint1 and 2, where our own key is what the device is shown"),
    is_warning: true,
    judge: |it| {
        if it.device.fingerprint_mode != Some(true) || it.device.tls != Some(true) {
            return None;
        }
        let is_open = |slot: &[u8; 20]| *slot == [0; 20] || *slot == [0xFF; 20];
        let open = it.device.slots.iter().position(|slot| slot.as_ref().is_some_and(is_open))? + 1;
        let found = Found::because(format!("device: MqttFingerprint{open} is all zeros or all ones"));
        let ours = it
            .target
            .fingerprint
            .filter(|ours| it.served().and_then(|served| served.fingerprint) == Some(*ours));
        Some(match ours {
            Some(ours) => found.repair(Repair::Fingerprint(ours)),
            None => found,
        })
    },
};

pub(super) const EXPIRES: Rule = Rule {
    id: "expires-soon",
    numbers: &[],
    looks_at: "the end of the device's certificate",
    cause: "the device's certificate ends within 30 days",
    fix: "renew it: quoll device add, again",
    repairs: None,
    is_warning: true,
    judge: |it| {
        let end = it.pki.device.as_ref().map(|own| own.not_after).or(it.registered.expires)?;
        let left = end.saturating_sub(it.now);
        (left < EXPIRY_NOTICE).then(|| {
            Found::because(format!("pki: it ends in {} days", left / 86_400))
                .fix(format!("renew it: {}", it.add_command()))
        })
    },
};

pub(super) const CRL: Rule = Rule {
    id: "revocation-list",
    numbers: &[],
    looks_at: "pki/crl.pem",
    cause: "the revocation list is behind; Quoll's broker does not need it, others may refuse everybody",
    fix: "write it anew: quoll ca crl",
    repairs: None,
    is_warning: true,
    judge: |it| {
        // It concerns a device only where its broker is not ours.
        if it.uses_our_broker() != Some(false) || it.pki.crl.is_empty() {
            return None;
        }
        Some(Found::lines(it.pki.crl.iter().map(|problem| format!("pki: {problem}"))))
    },
};

pub(super) const KEY_LOST: Rule = Rule {
    id: "key-not-stored",
    numbers: &[],
    looks_at: "TLSKey's lengths, the length of its certificate",
    cause: "what is stored as TLSKey is not what was issued: the device will not come back after its next restart",
    fix: "store key and certificate again: quoll device add",
    repairs: None,
    is_warning: true,
    judge: |it| {
        if it.registered.rung != "mutual" || it.registered.state != "proven" {
            return None;
        }
        let (key, certificate) = it.device.stored?;
        let size = it.pki.device.as_ref().and_then(|own| i64::try_from(own.size).ok());
        let whole = key == 32 && certificate > 0 && size.is_none_or(|size| size == certificate);
        if whole {
            return None;
        }
        let found = Found::lines(it.stored_line());
        let found = found.and_all(size.map(|size| format!("pki: its certificate has {size} bytes")));
        Some(found.fix(format!("store key and certificate again: {}", it.add_command())))
    },
};

pub(super) const WIFI: Rule = Rule {
    id: "weak-wifi",
    numbers: &[],
    looks_at: "the Wi-Fi quality of Status 11",
    cause: "the device's Wi-Fi is weak",
    fix: "move it, the access point or an antenna; a repeater helps",
    repairs: None,
    is_warning: true,
    judge: |it| {
        let rssi = it.device.rssi.filter(|rssi| *rssi < WEAK)?;
        Some(Found::because(format!("device: its Wi-Fi has {rssi} %")))
    },
};

pub(super) const CLOCK: Rule = Rule {
    id: "clock-off",
    numbers: &[],
    looks_at: "Status 7 against our clock",
    cause: "the device's clock is wrong",
    fix: "give it a time server that it reaches (NtpServer1), or set the clock: Time",
    repairs: Some("Time"),
    is_warning: true,
    judge: |it| {
        let clock = it.device.clock?;
        (clock.abs_diff(it.now) > CLOCK_SLACK.as_secs()).then(|| {
            let off = clock.saturating_sub(it.now);
            Found::because(format!("device: its clock is {off} s off")).repair(Repair::Clock)
        })
    },
};

pub(super) const HEAP: Rule = Rule {
    id: "little-memory",
    numbers: &[],
    looks_at: "the heap of Status 11",
    cause: "the device has little memory left; its next TLS handshake may fail",
    fix: "switch features off",
    repairs: None,
    is_warning: true,
    judge: |it| {
        let heap = it.device.heap.filter(|heap| *heap < LITTLE && it.device.tls != Some(false))?;
        Some(Found::because(format!("device: {heap} KiB of heap are free")))
    },
};

pub(super) const CRASHES: Rule = Rule {
    id: "crashes-without-broker",
    numbers: &[],
    looks_at: "the firmware's release",
    cause: "this release restarts over and over while its TLS broker is stopped",
    fix: "update it to 15.4 or later",
    repairs: None,
    is_warning: true,
    judge: |it| {
        if !it.device.crashes_without_broker || it.device.tls == Some(false) {
            return None;
        }
        Some(Found::because(format!("device: firmware {}", it.device.firmware.as_deref()?)))
    },
};

pub(super) const CONSOLE: Rule = Rule {
    id: "console-silent",
    numbers: &[],
    looks_at: "the console's answers",
    cause: "the device is connected, and its console does not answer as one should",
    fix: "check its address and its web settings",
    repairs: None,
    is_warning: true,
    judge: |it| {
        let silence = it.device.silence.as_ref().filter(|_| it.is_connected())?;
        let found = Found::because(format!("device: {}", silence.why));
        Some(match &silence.hint {
            Some(hint) => found.fix(hint.clone()),
            None => found,
        })
    },
};
