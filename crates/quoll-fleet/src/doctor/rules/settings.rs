//! Rules about the device's settings.

use crate::doctor::evidence::TlsAbility;
use crate::doctor::verdict::{Found, Repair, Rule};

pub(super) const MQTT_OFF: Rule = Rule {
    id: "mqtt-off",
    numbers: &[],
    looks_at: "SetOption3, Status 6",
    cause: "MQTT is switched off on the device",
    fix: "switch it on: SetOption3 1",
    repairs: Some("SetOption3 1"),
    is_warning: false,
    judge: |it| {
        (it.device.mqtt_on == Some(false)).then(|| {
            Found::because("device: SetOption3 is 0, so Status 6 answers Error").repair(Repair::MqttOn)
        })
    },
};

pub(super) const NO_BROKER: Rule = Rule {
    id: "no-broker",
    numbers: &[],
    looks_at: "MqttHost",
    cause: "the device has no broker to connect to",
    fix: "set MqttHost and MqttPort",
    repairs: Some("MqttHost, MqttPort, where the device was proven before"),
    is_warning: false,
    judge: |it| {
        let empty = it.device.host.as_ref().is_some_and(String::is_empty);
        if !empty || it.registered.state == "known" || it.registered.state == "key-pushed" {
            return None;
        }
        let found = Found::because("device: MqttHost is empty");
        let (host, port) = (it.target.host.clone(), it.target.port);
        let found = found.fix(format!("set MqttHost {host} and MqttPort {port}"));
        Some(if it.registered.state == "proven" {
            found.repair(Repair::Broker { host, port })
        } else {
            found
        })
    },
};

pub(super) const NOT_SWITCHED: Rule = Rule {
    id: "not-switched",
    numbers: &[],
    looks_at: "the registry, MqttHost",
    cause: "the device's enrolment is not finished: it was never pointed at this broker, or has its old settings back",
    fix: "finish it: quoll device add again; it goes on where it stopped",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let unfinished = matches!(it.registered.state.as_str(), "known" | "key-pushed" | "rolled-back");
        if !unfinished || it.wire.online.is_some() || it.uses_our_broker() == Some(true) {
            return None;
        }
        let found = Found::because(format!("registry: its state is {}", it.registered.state));
        let found = found.and_all(it.stored_line()).fix(format!("finish it: {}", it.add_command()));
        Some(match &it.device.host {
            Some(host) if host.is_empty() => found.and("device: MqttHost is empty"),
            Some(_) => found.and(format!("device: its broker is {}", it.broker())),
            None => found,
        })
    },
};

pub(super) const RESTART_DUE: Rule = Rule {
    id: "restart-due",
    numbers: &[],
    looks_at: "SetOption103 against Status 6",
    cause: "TLS was switched on or off and the device has not restarted since",
    fix: "restart it: Restart 1",
    repairs: Some("Restart 1"),
    is_warning: false,
    judge: |it| {
        let (wanted, at_boot) = (it.device.tls?, it.device.tls_at_boot?);
        if wanted == at_boot || it.is_connected() {
            return None;
        }
        let say = |on: bool| if on { "on" } else { "off" };
        let line = format!("device: SetOption103 is {}, Status 6 says TLS {}", say(wanted), say(at_boot));
        Some(Found::because(line).repair(Repair::Restart))
    },
};

pub(super) const TLS_OFF: Rule = Rule {
    id: "tls-off",
    numbers: &[],
    looks_at: "SetOption103, Status 6, the log's warning, the first bytes at the broker",
    cause: "the device talks without TLS to a port that wants it",
    fix: "switch TLS on: SetOption103 1",
    repairs: Some("SetOption103 1, where key and certificate are stored"),
    is_warning: false,
    judge: |it| {
        if it.device.tls != Some(false) || it.is_connected() {
            return None;
        }
        let warned = it.device.log.as_ref().is_some_and(|log| log.plain_on_tls_port);
        let at_the_door = it.failed_at().is_some_and(|(last, _)| last.secure && last.hello.is_none());
        let wants_tls = it.network.rehearsal.as_ref().is_some_and(|tried| tried.is_tls == Some(true));
        let ours = it.uses_our_broker() == Some(true) && it.registered.rung != "plain";
        if !(warned || at_the_door || wants_tls || ours) {
            return None;
        }
        let mut found = Found::because("device: SetOption103 is OFF");
        if warned {
            found = found.and("device: its log warns of a connection without TLS on a port for TLS");
        }
        if wants_tls {
            found = found.and(format!("network: {} speaks TLS", it.broker()));
        }
        found = found.and_all(it.wire_line()).and_all(it.stored_line());
        if it.device.ability == Some(TlsAbility::None) {
            return Some(
                found
                    .cause("the device's firmware has no TLS, and its broker's port wants it")
                    .fix("use an image with TLS, or a listener without it"),
            );
        }
        let has_key = it.device.stored.is_some_and(|(key, certificate)| key == 32 && certificate > 0);
        let pinned = it.device.fingerprint_mode == Some(true);
        Some(if has_key || pinned { found.repair(Repair::TlsOn) } else { found })
    },
};

pub(super) const OTHER_BROKER: Rule = Rule {
    id: "other-broker",
    numbers: &[-1001, -1002],
    looks_at: "MqttHost and MqttPort against ours, the log",
    cause: "the device was pointed at another broker, and has no connection there",
    fix: "set MqttHost and MqttPort to this broker's",
    repairs: Some("MqttHost, MqttPort, where the device was proven before"),
    is_warning: false,
    judge: |it| {
        if it.registered.state != "proven" && it.registered.state != "switched" || it.is_connected() {
            return None;
        }
        if it.uses_our_broker()? || it.device.host.as_deref() == Some("") {
            return None;
        }
        // A TLS error of another broker's certificate has a rule of its own.
        // So has what another broker says to its CONNECT.
        let unreached = match (it.number(), it.code()) {
            (Some(number), _) => [-1001, -1002].contains(&number),
            (None, Some(code)) => [-2, -5].contains(&code),
            (None, None) => true,
        };
        if !unreached {
            return None;
        }
        let (host, port) = (it.target.host.clone(), it.target.port);
        let found = Found::because(format!("device: its broker is {}", it.broker()))
            .and(format!("registry: it was proven at {host}:{port}"))
            .and_all(
                it.number().map(|number| format!("device: its log says \"TLS connection error: {number}\"")),
            )
            .and_all(it.network.closed.as_ref().map(|why| format!("network: {}: {why}", it.broker())))
            .fix(format!("set MqttHost {host} and MqttPort {port}"));
        // Not where our own broker is down: it would be there no better off.
        Some(if it.wire.silence.is_none() { found.repair(Repair::Broker { host, port }) } else { found })
    },
};

pub(super) const ELSEWHERE: Rule = Rule {
    id: "elsewhere",
    numbers: &[],
    looks_at: "MqttHost and MqttPort, MqttCount, the broker's connections",
    cause: "the device is connected, but to another broker",
    fix: "set MqttHost and MqttPort to this broker's, if it should be here",
    repairs: None,
    is_warning: false,
    judge: |it| {
        if it.wire.online.is_some() || !it.is_connected() || it.wire.silence.is_some() {
            return None;
        }
        if it.uses_our_broker()? {
            return None;
        }
        let line = format!("device: it says that it is connected to {}", it.broker());
        let (host, port) = (&it.target.host, it.target.port);
        Some(
            Found::because(line)
                .and("wire: this broker has no connection of it")
                .fix(format!("if it should be here: MqttHost {host} and MqttPort {port}")),
        )
    },
};
