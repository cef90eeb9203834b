//! Bridges: `connection` blocks.

use std::path::PathBuf;
use std::time::Duration;

use quoll_mqtt::{ProtocolVersion, QoS, TopicFilter};

use super::Surroundings;
use super::complaint::{Complaint, Fault, Matter, Place, Remark};
use super::said::Said;
use super::tls::{MinimumVersion, Roots};
use super::value::{Secret, Value};

/// A bridge to another broker, as understood.
#[derive(Clone, Debug, PartialEq)]
pub struct BridgeConfiguration {
    /// Its `connection` line.
    pub place: Place,
    /// Its name, unique.
    pub name: String,
    /// Where the other broker is; at least one. Further ones are for the case that the first does not answer.
    pub addresses: Vec<BridgeAddress>,
    /// Whether the next address is taken after each failure, without going back to the first (`round_robin`).
    pub round_robin: bool,
    /// What is spoken (`bridge_protocol_version`).
    pub version: ProtocolVersion,
    /// What goes over it; at least one.
    pub topics: Vec<BridgeTopic>,
    /// Who we are on the other broker.
    pub remote: BridgeEnd,
    /// Who it is on this broker.
    pub local: BridgeEnd,
    /// Keep alive (`keepalive_interval`).
    pub keep_alive: Duration,
    /// When to try again (`restart_timeout`).
    pub restart: Restart,
    /// When it is up (`start_type`).
    pub start: Start,
    /// Retained messages 1 and 0 about its state; `None`: none (`notifications`).
    pub notifications: Option<Notifications>,
    /// Whether CONNECT says that this is a bridge, by a bit in the protocol's level, so that loops are seen (`try_private`).
    pub try_private: bool,
    /// Whether UNSUBSCRIBE is sent for topics that only go out (`bridge_attempt_unsubscribe`).
    pub attempt_unsubscribe: bool,
    /// Whether outgoing messages keep their retain flag (`bridge_outgoing_retain`).
    pub outgoing_retain: bool,
    /// The local address to connect from; `None`: any (`bridge_bind_address`).
    pub bind_address: Option<String>,
    /// Largest packet sent over it; `None`: no limit (`bridge_max_packet_size`).
    pub max_packet_size: Option<u32>,
    /// Topic aliases the other end may make, 5.0 (`bridge_max_topic_alias`).
    pub max_topic_alias: u16,
    /// Receive Maximum, 5.0; `None`: as `max_inflight_messages` (`bridge_receive_maximum`).
    pub receive_maximum: Option<u16>,
    /// Session expiry at the other end, 5.0 (`bridge_session_expiry_interval`).
    pub session_expiry: Duration,
    /// TCP keepalive; `None`: off (`bridge_tcp_keepalive`).
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// TCP_USER_TIMEOUT; `None`: the system's (`bridge_tcp_user_timeout`).
    pub tcp_user_timeout: Option<Duration>,
    /// When changes of this block take effect (`bridge_reload_type`).
    pub reload: Reload,
    /// TLS; `None`: plain TCP.
    pub tls: Option<BridgeTls>,
}

/// HOST:PORT of another broker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BridgeAddress {
    /// Name or address, not resolved.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// A `topic` line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BridgeTopic {
    /// The pattern; `None` for `""`, which maps one topic to another.
    pub pattern: Option<String>,
    /// Which way.
    pub direction: Direction,
    /// The highest level.
    pub qos: QoS,
    /// What local topics have in front of the pattern.
    pub local_prefix: Option<String>,
    /// What topics of the other broker have in front of the pattern.
    pub remote_prefix: Option<String>,
    /// Local prefix and pattern.
    pub local: TopicFilter,
    /// Remote prefix and pattern.
    pub remote: TopicFilter,
}

/// Which way messages go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From here to there.
    Out,
    /// From there to here.
    In,
    /// Both.
    Both,
}

/// A bridge as a client of one of the two brokers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BridgeEnd {
    /// Client id.
    pub client_id: String,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Whether each session begins empty.
    pub clean_session: bool,
}

/// How long to wait before the next try.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Restart {
    /// Always so long.
    Constant(Duration),
    /// Longer each time, by chance between these two.
    Backoff {
        /// The shortest.
        base: Duration,
        /// The longest.
        cap: Duration,
        /// A connection that lasted so long begins anew with the shortest.
        stable: Duration,
    },
}

/// When a bridge is up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Start {
    /// Always.
    Automatic,
    /// While there is something to send.
    Lazy {
        /// Silence that ends it (`idle_timeout`).
        idle: Duration,
        /// Waiting messages that begin it (`threshold`).
        threshold: u32,
    },
    /// Until it first breaks.
    Once,
}

/// Messages about a bridge's state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notifications {
    /// Their topic (`notification_topic`).
    pub topic: String,
    /// Whether only this broker gets them (`notifications_local_only`).
    pub local_only: bool,
}

/// TCP keepalive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TcpKeepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Probes without answer that end the connection.
    pub count: u32,
}

/// When a changed block takes effect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reload {
    /// When the bridge next connects.
    Lazy,
    /// At once.
    Immediate,
}

/// TLS of a bridge.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BridgeTls {
    /// Who vouches for the other broker (`bridge_cafile`, `bridge_capath`).
    pub roots: Roots,
    /// Whether the system's roots do too (`bridge_tls_use_os_certs`).
    pub system_roots: bool,
    /// Certificate and key of the bridge (`bridge_certfile`, `bridge_keyfile`).
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whether the other broker's name is left unchecked (`bridge_insecure`).
    pub insecure: bool,
    /// The protocol to ask for by ALPN (`bridge_alpn`).
    pub alpn: Option<String>,
    /// The lowest version (`bridge_tls_version`).
    pub minimum: MinimumVersion,
}

/// A block as read.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) place: Place,
    pub(super) name: String,
    pub(super) said: Said,
}

impl Draft {
    /// The block as understood; `None` after a fault.
    pub(super) fn understand(
        &self,
        surroundings: &Surroundings,
        complaints: &mut Vec<Complaint>,
    ) -> Option<BridgeConfiguration> {
        let said = &self.said;
        let addresses = match said.value("address") {
            Some(Value::Addresses(addresses)) => Some(addresses.clone()),
            _ => self.missing("address", complaints),
        };
        let topics = self.topics(complaints);
        if topics.is_empty() {
            self.missing::<()>("topic", complaints);
        }
        let tls = self.tls(complaints)?;
        let remote_id = said
            .text("remote_clientid")
            .map_or_else(|| format!("{}.{}", surroundings.host_name, self.name), str::to_owned);
        let clean = said.flag("cleansession").unwrap_or(false);
        let seconds = |name, usual| Duration::from_secs(said.number(name).unwrap_or(usual));
        Some(BridgeConfiguration {
            place: self.place.clone(),
            name: self.name.clone(),
            addresses: addresses?,
            round_robin: said.flag("round_robin").unwrap_or(false),
            version: match said.text("bridge_protocol_version") {
                Some("mqttv31") => ProtocolVersion::V31,
                Some("mqttv50") => ProtocolVersion::V5,
                _ => ProtocolVersion::V311,
            },
            topics: Some(topics).filter(|topics| !topics.is_empty())?,
            local: BridgeEnd {
                client_id: said
                    .text("local_clientid")
                    .map_or_else(|| format!("local.{remote_id}"), str::to_owned),
                username: said.text("local_username").map(str::to_owned),
                password: said.secret("local_password"),
                clean_session: said.flag("local_cleansession").unwrap_or(clean),
            },
            notifications: said.flag("notifications").unwrap_or(true).then(|| Notifications {
                topic: said
                    .text("notification_topic")
                    .map_or_else(|| format!("$SYS/broker/connection/{remote_id}/state"), str::to_owned),
                local_only: said.flag("notifications_local_only").unwrap_or(false),
            }),
            remote: BridgeEnd {
                client_id: remote_id,
                username: said.text("remote_username").map(str::to_owned),
                password: said.secret("remote_password"),
                clean_session: clean,
            },
            keep_alive: seconds("keepalive_interval", 60),
            restart: match said.value("restart_timeout") {
                Some(Value::Restart(restart)) => *restart,
                _ => Restart::Backoff {
                    base: Duration::from_secs(5),
                    cap: Duration::from_secs(30),
                    stable: Duration::ZERO,
                },
            },
            start: match said.text("start_type") {
                Some("lazy") => Start::Lazy {
                    idle: seconds("idle_timeout", 60),
                    threshold: said.number("threshold").unwrap_or(10),
                },
                Some("once") => Start::Once,
                _ => Start::Automatic,
            },
            try_private: said.flag("try_private").unwrap_or(true),
            attempt_unsubscribe: said.flag("bridge_attempt_unsubscribe").unwrap_or(true),
            outgoing_retain: said.flag("bridge_outgoing_retain").unwrap_or(true),
            bind_address: said.text("bridge_bind_address").map(str::to_owned),
            max_packet_size: said.limit("bridge_max_packet_size"),
            max_topic_alias: said.number("bridge_max_topic_alias").unwrap_or(10),
            receive_maximum: said.number("bridge_receive_maximum"),
            session_expiry: seconds("bridge_session_expiry_interval", 0),
            tcp_keepalive: match said.value("bridge_tcp_keepalive") {
                Some(Value::TcpKeepalive([idle, interval, count])) => Some(TcpKeepalive {
                    idle: Duration::from_secs((*idle).into()),
                    interval: Duration::from_secs((*interval).into()),
                    count: *count,
                }),
                _ => None,
            },
            tcp_user_timeout: said.number("bridge_tcp_user_timeout").map(Duration::from_millis),
            reload: match said.text("bridge_reload_type") {
                Some("immediate") => Reload::Immediate,
                _ => Reload::Lazy,
            },
            tls,
        })
    }

    fn topics(&self, complaints: &mut Vec<Complaint>) -> Vec<BridgeTopic> {
        let mut topics: Vec<BridgeTopic> = Vec::new();
        for statement in self.said.all("topic") {
            let Value::Topic(topic) = &statement.value else { continue };
            if topics.contains(topic) {
                let matter = Matter::Remark(Remark::Note("this topic line is there already"));
                complaints.push(Complaint { place: statement.place.clone(), matter });
            } else {
                topics.push(topic.clone());
            }
        }
        topics
    }

    fn tls(&self, complaints: &mut Vec<Complaint>) -> Option<Option<BridgeTls>> {
        let said = &self.said;
        for (one, other) in [("bridge_certfile", "bridge_keyfile"), ("bridge_keyfile", "bridge_certfile")] {
            if said.value(one).is_some() && said.value(other).is_none() {
                return self.missing(other, complaints);
            }
        }
        let roots = Roots { file: said.path("bridge_cafile"), folder: said.path("bridge_capath") };
        let system_roots = said.flag("bridge_tls_use_os_certs").unwrap_or(false);
        if roots.file.is_none() && roots.folder.is_none() && !system_roots {
            // Mosquitto says nothing here, and connects in the clear.
            for name in ["bridge_certfile", "bridge_insecure", "bridge_alpn", "bridge_tls_version"] {
                if let Some(place) = said.place(name) {
                    let option = name.to_owned();
                    let why = "the bridge has no TLS without bridge_cafile, bridge_capath or bridge_tls_use_os_certs";
                    let matter = Matter::Remark(Remark::Ignored { option, why });
                    complaints.push(Complaint { place: place.clone(), matter });
                }
            }
            return Some(None);
        }
        for name in ["bridge_ciphers", "bridge_ciphers_tls1.3"] {
            if let Some(place) = said.place(name) {
                let why = "a bridge offers all suites there are here, which are modern ones";
                let matter = Matter::Remark(Remark::Ignored { option: name.to_owned(), why });
                complaints.push(Complaint { place: place.clone(), matter });
            }
        }
        let minimum = MinimumVersion::understand(said, "bridge_tls_version", complaints);
        let identity = said.path("bridge_certfile").zip(said.path("bridge_keyfile"));
        let insecure = said.flag("bridge_insecure").unwrap_or(false);
        if let Some(place) = said.place("bridge_insecure").filter(|_| insecure) {
            let note = "the other broker's name is not checked: anybody with a certificate of these CAs can pose as it";
            complaints.push(Complaint { place: place.clone(), matter: Matter::Remark(Remark::Note(note)) });
        }
        let alpn = said.text("bridge_alpn").map(str::to_owned);
        Some(Some(BridgeTls { roots, system_roots, identity, insecure, alpn, minimum }))
    }

    fn missing<T>(&self, option: &'static str, complaints: &mut Vec<Complaint>) -> Option<T> {
        let what = format!("connection {:?}", self.name);
        let matter = Matter::Fault(Fault::Missing { what, option });
        complaints.push(Complaint { place: self.place.clone(), matter });
        None
    }
}
