//! Rules about MQTT itself: TLS is open, and the device still does not stay.

use crate::doctor::evidence::Ending;
use crate::doctor::verdict::{Found, Rule};

/// Connections that were taken over or lost before it is called a fight, or a pattern.
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

fn departures(it: &crate::doctor::evidence::Evidence, how: &str) -> usize {
    let gone = it.wire.encounters.iter().filter_map(|encounter| encounter.departure.as_deref());
    gone.filter(|departure| departure.contains(how)).count()
}

pub(super) const ID_TAKEN: Rule = Rule {
    id: "client-id-taken",
    numbers: &[],
    looks_at: "how its connections ended at the broker",
    cause: "two clients with the same client id throw each other out",
    fix: "give one of them another: MqttClient DVES_%06X",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let times = departures(it, "taken over");
        (times >= OFTEN).then(|| {
            let id = it.device.client.as_deref().unwrap_or(&it.registered.client_id);
            let peers: std::collections::BTreeSet<&str> = it
                .wire
                .encounters
                .iter()
                .map(|it| it.peer.rsplit_once(':').map_or(it.peer.as_str(), |it| it.0))
                .collect();
            Found::because(format!(
                "wire: {times} of its last connections were taken over by another with the id {id}"
            ))
            .and(format!("wire: they came from {}", peers.into_iter().collect::<Vec<_>>().join(", ")))
        })
    },
};

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
