//! Rules about reaching the broker at all.

use crate::doctor::verdict::{Found, Rule};

pub(super) const NO_MEMORY: Rule = Rule {
    id: "no-memory",
    numbers: &[-1000],
    looks_at: "the log, the heap",
    cause: "the device has no memory left for a TLS connection",
    fix: "switch features off, or use a device with more memory; a restart helps for a while",
    repairs: Some("Restart 1"),
    is_warning: false,
    judge: |it| {
        let found = Found::lines(it.shows(&[-1000])?);
        let heap = it.device.heap.map(|heap| {
            format!("device: {heap} KiB of heap are free; a handshake takes about 6, a connection 7")
        });
        Some(found.and_all(heap).repair(super::super::verdict::Repair::Restart))
    },
};

pub(super) const NAME: Rule = Rule {
    id: "name-not-found",
    numbers: &[-1001],
    looks_at: "the log, MqttHost, the name as resolved here",
    cause: "the device finds no address for the broker's name",
    fix: "use a name that the device's DNS server knows, or the broker's IP address, which must be in its certificate as a \
          dNSName",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let found = match (it.shows(&[-1001]), it.code()) {
            (Some(lines), _) => Found::lines(lines),
            (None, Some(-5)) => Found::because("device: its log says rc -5"),
            _ => return None,
        };
        let host = it.device.host.as_deref().unwrap_or(&it.network.host);
        let here = match &it.network.unresolved {
            Some(why) => format!("network: {host} cannot be resolved here either: {why}"),
            None => {
                let all: Vec<String> = it.network.addresses.iter().map(ToString::to_string).collect();
                format!("network: here {host} is {}; the device asks another DNS server", all.join(", "))
            }
        };
        let found = found.and(format!("device: MqttHost is {host}")).and(here);
        Some(if host.ends_with(".local") {
            found.cause("the device cannot look up .local names, which are multicast DNS")
        } else {
            found
        })
    },
};

pub(super) const BROKER_DOWN: Rule = Rule {
    id: "broker-down",
    numbers: &[-1002],
    looks_at: "the log, the broker's port from here",
    cause: "nothing accepts connections on the broker's port",
    fix: "start the broker (quoll up), or correct MqttPort",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let found = match (it.shows(&[-1002]), it.code()) {
            (Some(lines), _) => Found::lines(lines),
            (None, Some(-2)) => Found::because("device: its log says rc -2"),
            // A device that crashes over it has nothing in its log.
            _ if it.device.crashes_without_broker
                && it.device.log.is_some()
                && it.device.tls == Some(true)
                && !it.is_connected() =>
            {
                Found::because("device: its log says nothing: it may restart over and over")
            }
            _ => return None,
        };
        if it.network.open == Some(true) {
            return None;
        }
        let closed = it.network.closed.as_ref().map(|closed| format!("network: {}: {closed}", it.broker()));
        let found = found.and_all(closed);
        let found = found.and_all(it.wire.silence.as_ref().map(|why| format!("wire: {why}")));
        Some(if it.device.crashes_without_broker {
            found.and(format!(
                "device: firmware {} restarts over and over while its TLS broker refuses connections",
                it.device.firmware.as_deref().unwrap_or("of this release")
            ))
        } else {
            found
        })
    },
};

pub(super) const BLOCKED: Rule = Rule {
    id: "blocked",
    numbers: &[-1002],
    looks_at: "the log, the broker's port from here, the broker's door",
    cause: "the broker's port is open from here, but the device's connection does not come through",
    fix: "look for a firewall, for client isolation on the access point, for a guest network; where the host name means \
          another address to the device, use the IP address",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let found = match (it.shows(&[-1002]), it.code()) {
            (Some(lines), _) => Found::lines(lines),
            (None, Some(-2)) if it.encounter().is_none() => Found::because("device: its log says rc -2"),
            _ => return None,
        };
        if it.network.open != Some(true) {
            return None;
        }
        Some(found.and(format!("network: {} accepts connections from here", it.broker())))
    },
};

pub(super) const PLAIN_PORT: Rule = Rule {
    id: "port-without-tls",
    numbers: &[0, -1005, 4, 9],
    looks_at: "the log, the first bytes at the broker, a handshake from here",
    cause: "the device speaks TLS to a port that does not",
    fix: "set MqttPort to the broker's TLS port",
    repairs: Some("MqttHost, MqttPort, where the device was proven before"),
    is_warning: false,
    judge: |it| {
        if it.is_connected() {
            return None;
        }
        let at_the_door = it.failed_at().is_some_and(|(last, _)| !last.secure && last.hello.is_some());
        let answer = it.network.rehearsal.as_ref().and_then(|tried| tried.is_tls);
        let said = it.shows(&[0, -1005, 4, 9]);
        if !at_the_door && (said.is_none() || answer != Some(false)) {
            return None;
        }
        let mut found = Found::lines(said.unwrap_or_else(|| it.wire_line().into_iter().collect()));
        if answer == Some(false) {
            found = found.and(format!("network: {} does not answer a ClientHello with TLS", it.broker()));
        }
        let (host, port) = (it.target.host.clone(), it.target.port);
        let found = found.fix(format!("set MqttPort {port}, the TLS port of {host}"));
        let safe = it.registered.state == "proven" && it.wire.silence.is_none();
        let repair = super::super::verdict::Repair::Broker { host, port };
        Some(if safe { found.repair(repair) } else { found })
    },
};

pub(super) const SLOW: Rule = Rule {
    id: "handshake-timeout",
    numbers: &[-1005],
    looks_at: "the log, how far the broker saw it come, Wi-Fi, a handshake from here",
    cause: "the handshake was not through after 10 s",
    fix: "look at the Wi-Fi, at what lies between device and broker, and at the broker's load",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let found = Found::lines(it.shows(&[-1005])?);
        let wifi = it.device.rssi.map(|rssi| format!("device: its Wi-Fi has {rssi} %"));
        let tried = it.network.rehearsal.as_ref();
        let found = found.and_all(wifi).and_all(it.rehearsal_line());
        Some(if tried.is_some_and(|tried| tried.is_tls.is_none() && !tried.opened) {
            found.cause(format!("{} accepts connections and then says nothing", it.broker())).fix(
                "look what listens there: a broker that hangs, a port forwarding into nothing, or a plain MQTT port",
            )
        } else {
            found
        })
    },
};

pub(super) const CLOSED: Rule = Rule {
    id: "closed-without-a-word",
    numbers: &[0],
    looks_at: "the log, how far the broker saw it come, the heap, a handshake from here",
    cause: "the connection was closed during the handshake without an alert",
    fix: "check that the port is the broker's TLS port, the broker's own log, and the device's memory",
    repairs: None,
    is_warning: false,
    judge: |it| {
        let lines = it.shows(&[0])?;
        let heap = it.device.heap.map(|heap| format!("device: {heap} KiB of heap are free"));
        Some(Found::lines(lines).and_all(it.rehearsal_line()).and_all(heap))
    },
};
