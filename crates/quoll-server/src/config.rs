//! What a server is told at its start, as understood values: nothing here is optional in the sense of "default".

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::http::Site;
use crate::limits;
use crate::proxy::ProxyProtocol;
use crate::systemd::Inherited;
use crate::terms::Terms;
use crate::tls::LiveIdentity;
use crate::upgrade::WebSocketSettings;

/// Everything a server needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens. At least one.
    pub listeners: Vec<Listener>,
    /// Shard threads, 1 to 64. One is a complete broker.
    pub shards: usize,
    /// Which shard a new client goes to.
    pub placement: Placement,
    /// Settings of the rules, the same for each shard. The decoder obeys their `max_packet_size`.
    pub rules: quoll_broker::ShardSettings,
    /// Bounds of the coat.
    pub limits: Limits,
    /// Listening sockets opened for us by a service manager: a listener takes those of its address and port, or path, in
    /// place of binding its own.
    pub inherited: Inherited,
}

impl Settings {
    /// Defaults with these listeners: a shard per core, the next one opened under load.
    #[must_use]
    pub fn new(listeners: Vec<Listener>) -> Self {
        Self {
            listeners,
            shards: std::thread::available_parallelism().map_or(1, usize::from).min(MAX_SHARDS),
            placement: Placement::default(),
            rules: quoll_broker::ShardSettings::default(),
            limits: Limits::default(),
            inherited: Inherited::default(),
        }
    }
}

/// More shards than this are refused: letters grow with the square of their number.
pub const MAX_SHARDS: usize = 64;

/// Where clients come in, and on what terms.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its name in events and for the doorkeeper, unique among the listeners.
    pub name: String,
    /// Where it listens.
    pub place: Place,
    /// What is spoken below MQTT.
    pub transport: Transport,
    /// MQTT over WebSocket with these settings; `None`: MQTT at once.
    pub websocket: Option<WebSocketSettings>,
    /// What is shown over HTTP in MQTT's place (`protocol http_api`); `None`: MQTT.
    pub site: Option<Arc<dyn Site>>,
    /// Whether what is to be sent waits for the acknowledgement of what was sent (Nagle's algorithm, RFC 896): fewer, larger
    /// packets, and 40 ms more for many an answer (`set_tcp_nodelay false`).
    pub nagle: bool,
    /// The PROXY protocol in front of everything else; `None`: peers come by themselves.
    pub proxy: Option<ProxyProtocol>,
    /// Connections at a time; further ones are closed at once. `None` for as many as the system allows.
    pub max_connections: Option<usize>,
    /// Its own terms for its clients.
    pub terms: Terms,
}

impl Listener {
    /// MQTT at this place, on everybody's terms.
    #[must_use]
    pub fn new(name: impl Into<String>, place: impl Into<Place>, transport: Transport) -> Self {
        Self {
            name: name.into(),
            place: place.into(),
            transport,
            websocket: None,
            site: None,
            nagle: false,
            proxy: None,
            max_connections: None,
            terms: Terms::default(),
        }
    }
}

/// Where a listener listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// TCP at this address; port 0 lets the system choose, see [`crate::Handle::addresses`]. `[::]` takes both families.
    Tcp(SocketAddr),
    /// TCP as `listener PORT [HOST]` says: all addresses that the host has when it is bound, each family with a socket of
    /// its own.
    Host {
        /// Port; 0 lets the system choose one, the same for all addresses.
        port: u16,
        /// Address or name; `None`: all addresses of this machine.
        host: Option<String>,
        /// This family alone (`socket_domain`).
        family: Option<Family>,
        /// This network interface alone (`bind_interface`); Linux.
        interface: Option<String>,
    },
    /// A UNIX stream socket at this path (`listener 0 PATH`), for the owner and his group. One that nobody listens at any
    /// more is replaced, anything else there is left alone.
    Unix(PathBuf),
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Host { port, host, interface, .. } => {
                write!(f, "port {port}")?;
                host.as_ref().map_or(Ok(()), |host| write!(f, " of {host}"))?;
                interface.as_ref().map_or(Ok(()), |interface| write!(f, " on interface {interface}"))
            }
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// What carries MQTT.
#[derive(Clone, Debug)]
pub enum Transport {
    /// Plain TCP.
    Tcp,
    /// TLS 1.2 or 1.3 with this identity, which may be replaced at any time.
    Tls(LiveIdentity),
}

/// Which shard a client goes to that has no session yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Placement {
    /// Fill the first shard; open the next when the busiest one works more than this share of a second (0.0 to 1.0).
    /// A second active thread doubles the cost of a trickle (`coat.md` §4).
    FillFirst {
        /// The share.
        threshold: f32,
    },
    /// Deal them out in turn.
    RoundRobin,
}

impl Default for Placement {
    fn default() -> Self {
        Self::FillFirst { threshold: limits::OPEN_NEXT_SHARD }
    }
}

/// Bounds of the coat; the reasons stand at the constants in [`crate::limits`].
#[derive(Clone, Debug)]
pub struct Limits {
    /// Time from accept to a complete CONNECT.
    pub connect_patience: Duration,
    /// Connections at a time on all listeners together (`global_max_connections`); `None`: as many as the system allows.
    pub max_connections: Option<usize>,
    /// Connections between accept and their shard.
    pub max_arrivals: usize,
    /// Bytes waiting for one peer from which on QoS 0 messages to it are dropped; shared payloads weigh less
    /// ([`limits::SHARED_FOR_ONE`]).
    pub congested_from: usize,
    /// Bytes waiting for one peer that close its connection: QoS 1 and 2 messages, and the replay of retained ones,
    /// may pile up beyond the above.
    pub max_waiting: usize,
    /// How long a peer may leave what was sent to it untouched.
    pub stall_patience: Duration,
    /// Threads of the arrivals.
    pub arrival_threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_patience: limits::CONNECT_PATIENCE,
            max_connections: None,
            max_arrivals: limits::MAX_ARRIVALS,
            congested_from: limits::CONGESTED_FROM,
            max_waiting: limits::MAX_WAITING,
            stall_patience: limits::STALL_PATIENCE,
            arrival_threads: limits::ARRIVAL_THREADS,
        }
    }
}
