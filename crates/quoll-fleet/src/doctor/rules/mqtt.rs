//! Rules about MQTT itself: TLS is open, and the device still does not stay.

use crate::doctor::evidence::{Encounter, Ending, Evidence};
use crate::doctor::verdict::{Found, Rule};

/// Connections that were lost for want of a sign of life before it is called a pattern.
const OFTEN: usize = 2;

pub(super) const REFUSED: Rule = Rule {
    id: "connect-refused",
    numbers: &[],
    looks_at: "the return code in the log (rc 1 to 5), the CONNECT as the broker saw it",
    cause: "the broker refuses the device's CONNECT",
    fix: "look at the certificate and the user name that it comes with",
    repairs: None,
    is_warning: false,
    judge: |it| {
        if it.is_connected() || it.number().is_some() {
            return None;
        }
        let refused = it.encounter().filter(|last| last.ending == Ending::Refused);
        let code = it
            .code()
            .filter(|code| (1..=5).contains(code))
            .or_else(|| refused.and_then(|it| it.code.map(i32::from)))?;
        let mut found = match it.code() {
            Some(code) => Found::because(format!("device: its log says rc {code}")),
            None => Found::lines([]),
        };
        found = found.and_all(it.wire_line());
        if let Some(last) = refused {
            let user = last
                .username
                .as_deref()
                .map_or_else(|| "no user name".into(), |user| format!("user {user:?}"));
            let client = last.client_id.as_deref().unwrap_or("no client id");
            found = found.and(format!("wire: it came as {client} with {user}"));
            if let Some(shown) = &last.certificate {
                found = found
                    .and(format!("wire: with the certificate {}, serial {}", shown.subject, shown.serial));
            }
        }
        let expected =
            it.registered.serial.as_ref().map(|serial| format!("registry: its certificate is {serial}"));
        let found = found.and_all(expected);
        let add = it.add_command();
        Some(match code {
            1 => found
                .cause("the broker does not take the protocol version of this device (rc 1)")
                .fix("a Tasmota speaks MQTT 3.1.1; allow it at the broker"),
            2 => found
                .cause("the broker refuses the device's client id (rc 2)")
                .fix("put it back to the factory's: MqttClient 1"),
            3 => found
                .cause("the broker cannot take anybody now (rc 3)")
                .fix("look at the broker: quoll doctor without a device"),
            4 => found
                .cause("user name or password are wrong (rc 4)")
                .fix("set MqttUser and MqttPassword again; an empty MqttUser sends no password either"),
            _ if it.registered.rung == "pinned" => found
                .cause("user name or password are not those that this device was given (rc 5)")
                .fix(format!("give it new ones: {add}")),
            _ if refused.is_some_and(|last| last.certificate.is_none()) => found
                .cause("the broker lets nobody in without a certificate here, and the device came without (rc 5)")
                .fix("point it at the TLS port, or set up users for this listener"),
            _ => found
                .cause("the broker does not know the device's certificate, or lets it in no more (rc 5)")
                .fix(format!("register and enrol it: {add}")),
        })
    },
};

pub(super) const NO_ANSWER: Rule = Rule {
    id: "no-connack",
    numbers: &[],
    looks_at: "the return code in the log (rc -4), a handshake from here",
    cause: "the device reaches the port and gets no answer to its CONNECT",
    fix: "look what listens there: it may be no MQTT broker, or one for TLS",
    repairs: None,
    is_warning: false,
    judge: |it| {
        if it.number().is_some() || it.code() != Some(-4) || it.was_refused() {
            return None;
        }
        let found =
            Found::because("device: its log says rc -4").and_all(it.wire_line()).and_all(it.rehearsal_line());
        let is_tls = it.network.rehearsal.as_ref().and_then(|tried| tried.is_tls);
        Some(found.and_all((is_tls == Some(true)).then(|| format!("network: {} speaks TLS", it.broker()))))
    },
};

/// Words of a departure after which a device did not say goodbye.
const BROKEN: [&str; 3] = ["broke", "taken over", "keep-alive"];
/// What a device gives as the reason of a restart that nobody asked for: ESP8266 and ESP32 name them alike.
const CRASHES: [&str; 4] = ["exception", "watchdog", "panic", "brownout"];
/// Connections that a boot ended before it is called over and over.
const BOOTS: usize = 3;
/// How far back they count, and how fresh a crash must be, in seconds.
const LATELY: i64 = 900;

pub(super) const RESTARTS: Rule = Rule {
    id: "restarts",
    numbers: &[],
    looks_at: "RestartReason and BootCount (Status 1), the uptime, how its connections ended at the broker",
    cause: "the device restarts over and over",
    fix: "look at its power supply first, then at its firmware: a build that is too large, a rule or a driver that crashes it",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let uptime = it.device.uptime?;
        let boot = it.now.saturating_sub(uptime);
        let broken = |encounter: &&Encounter| {
            let how = encounter.departure.as_deref().unwrap_or_default();
            (boot.saturating_sub(LATELY)..boot).contains(&encounter.at)
                && BROKEN.iter().any(|it| how.contains(it))
        };
        let times = it.wire.encounters.iter().filter(broken).count();
        let reason = it.device.restart_reason.as_deref().unwrap_or_default();
        let crashed = CRASHES.iter().any(|word| reason.to_ascii_lowercase().contains(word));
        let just_now = crashed && uptime < LATELY && !it.is_connected() && it.number().is_none();
        if times < BOOTS && !just_now {
            return None;
        }
        let boots = it.device.boots.map(|boots| format!(", boot {boots}")).unwrap_or_default();
        let found = Found::because(format!("device: up for {uptime} s{boots}, restarted by {reason:?}"));
        Some(if times > 0 {
            found.and(format!("wire: {times} of its last connections broke off before that boot"))
        } else {
            found
        })
    },
};

fn departures(it: &Evidence, how: &str) -> usize {
    let gone = it.wire.encounters.iter().filter_map(|encounter| encounter.departure.as_deref());
    gone.filter(|departure| departure.contains(how)).count()
}

pub(super) const KEEP_ALIVE: Rule = Rule {
    id: "keep-alive",
    numbers: &[],
    looks_at: "how its connections ended at the broker, Wi-Fi",
    cause: "the device goes silent again and again: the broker ends its connections for want of a sign of life",
    fix: "look at its Wi-Fi and power supply; MqttKeepAlive 60 forgives longer gaps",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let times = departures(it, "keep-alive");
        (times >= OFTEN).then(|| {
            Found::because(format!("wire: {times} of its last connections ended in silence"))
                .and_all(it.device.rssi.map(|rssi| format!("device: its Wi-Fi has {rssi} %")))
        })
    },
};
