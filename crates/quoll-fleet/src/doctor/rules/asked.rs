//! Rules about a console that does not answer, and a broker that does not run.

use crate::doctor::evidence::SilenceKind;
use crate::doctor::verdict::{Found, Rule};

pub(super) const NO_NODE: Rule = Rule {
    id: "no-node",
    numbers: &[],
    looks_at: "the local socket, the broker's port",
    cause: "no broker runs in this home",
    fix: "start it: quoll up",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let why = it.wire.silence.as_ref().filter(|_| !it.is_connected())?;
        if it.network.open == Some(true) {
            return None;
        }
        let found = Found::because(format!("wire: {why}"));
        Some(match &it.network.closed {
            Some(closed) => found.and(format!("network: {}:{}: {closed}", it.network.host, it.network.port)),
            None => found,
        })
    },
};

pub(super) const STRANGER: Rule = Rule {
    id: "not-the-device",
    numbers: &[],
    looks_at: "who answers at the console's address, the MAC",
    cause: "somebody else answers at the device's address",
    fix: "find out its address (quoll device find --range …), then add it again with --at",
    repairs: None,
    is_warning: false,
    judge: |it| {
        if it.is_connected() {
            return None;
        }
        let strangers = [SilenceKind::NotTasmota, SilenceKind::OtherDevice];
        let silence = it.device.silence.as_ref().filter(|it| strangers.contains(&it.kind))?;
        let found = Found::because(format!("device: {}", silence.why)).and_all(it.wire_line());
        Some(match silence.kind {
            SilenceKind::OtherDevice => found.cause("another device answers at its address"),
            _ => found,
        })
    },
};

pub(super) const PASSWORD: Rule = Rule {
    id: "console-closed",
    numbers: &[],
    looks_at: "the console's answer",
    cause: "the device's console does not let us ask",
    fix: "give the web password with --web-password-file, or open the console (WebServer 2, SetOption128 1)",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let closed = [SilenceKind::Password, SilenceKind::Referer, SilenceKind::UserMode];
        let silence = it.device.silence.as_ref().filter(|it| closed.contains(&it.kind))?;
        if it.is_connected() {
            return None;
        }
        let found = Found::because(format!("device: {}", silence.why)).and_all(it.wire_line());
        Some(match &silence.hint {
            Some(hint) => found.fix(hint.clone()),
            None => found,
        })
    },
};

pub(super) const HANGS: Rule = Rule {
    id: "console-hangs",
    numbers: &[],
    looks_at: "the console's answer, the broker's door",
    cause: "the device accepts connections on its console and does not answer, nor does it come to the broker",
    fix: "take its power away for some seconds",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let silence = it.device.silence.as_ref().filter(|it| it.kind == SilenceKind::Hangs)?;
        if it.is_connected() {
            return None;
        }
        Some(Found::because(format!("device: {}", silence.why)).and_all(it.wire_line()))
    },
};

pub(super) const GONE: Rule = Rule {
    id: "not-there",
    numbers: &[],
    looks_at: "the console's address, the broker's door",
    cause: "nobody answers at the device's address, and the broker does not see it either",
    fix: "check its power, its Wi-Fi and its address (quoll device find --range …); one that restarts over and over answers \
          for some seconds after each start: try again then",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let silence = it.device.silence.as_ref().filter(|it| it.kind == SilenceKind::Unreachable)?;
        if it.is_connected() {
            return None;
        }
        let found = Found::because(format!("device: {}", silence.why));
        let seen = match (it.wire_line(), it.registered.last_seen) {
            (Some(line), _) => Some(line),
            (None, Some(at)) => {
                Some(format!("registry: last seen {} s ago", it.now.saturating_sub(at).max(0)))
            }
            (None, None) => None,
        };
        Some(found.and_all(seen))
    },
};

/// Answers that make no sense before it is the device, and not a question that its firmware does not know.
const SENSELESS: usize = 3;

pub(super) const NONSENSE: Rule = Rule {
    id: "console-senseless",
    numbers: &[],
    looks_at: "the console's answers",
    cause: "what answers at the device's address calls itself a Tasmota, and its answers make no sense",
    fix: "look at it in a browser; find out its address (quoll device find --range …), or update its firmware",
    repairs: None,
    is_warning: false,
    judge: |it| {
        if it.is_connected() {
            return None;
        }
        if let Some(silence) = it.device.silence.as_ref() {
            let senseless = silence.kind == SilenceKind::Senseless;
            return senseless.then(|| Found::because(format!("device: {}", silence.why)));
        }
        let missing = &it.device.missing;
        (it.device.firmware.is_none() && missing.len() >= SENSELESS).then(|| {
            Found::lines(missing.iter().take(SENSELESS).map(|what| format!("device: no sense in {what}")))
                .and_all(it.wire_line())
        })
    },
};
