//! What the server tells those who watch: presence, logs, dashboard.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use quoll_broker::vocabulary::{Act, Departure};
use quoll_mqtt::{ProtocolVersion, ReasonCode};

use crate::tls::{HelloFacts, PresentedCertificate};

/// Something happened. A listener that lags more than [`crate::limits::EVENT_BACKLOG`] events loses the oldest.
#[derive(Clone, Debug)]
pub enum ServerEvent {
    /// A client is connected: its CONNECT was accepted.
    Connected(Arc<ConnectionInfo>),
    /// A client that was connected is gone.
    Disconnected {
        /// Who it was.
        who: Arc<ConnectionInfo>,
        /// How it ended.
        how: Departure,
    },
    /// A TLS handshake failed, or no CONNECT came in time.
    HandshakeFailed {
        /// Where it came from.
        peer: SocketAddr,
        /// Name of the listener.
        listener: Arc<str>,
        /// What went wrong, in words.
        reason: String,
        /// The TLS alert that was sent (`true`) or received (`false`), by its number (RFC 8446 §6): 44 for a revoked
        /// certificate, 116 for a missing one.
        alert: Option<(bool, u8)>,
        /// What the ClientHello said, where one was read.
        hello: Option<Arc<HelloFacts>>,
        /// Whether the listener speaks TLS.
        secure: bool,
        /// The last step that was done. On a listener without TLS [`Reached::Hello`] means that the peer spoke it.
        reached: Reached,
        /// The client certificate that it showed, where it came so far and showed one.
        certificate: Option<Arc<PresentedCertificate>>,
    },
    /// A CONNECT was refused, by the doorkeeper or by the rules.
    Refused {
        /// Where it came from.
        peer: SocketAddr,
        /// Name of the listener.
        listener: Arc<str>,
        /// The client identifier that it gave.
        client_id: Arc<str>,
        /// The user name that it gave.
        username: Option<String>,
        /// The credential that its certificate is known by.
        credential: Option<[u8; 32]>,
        /// Why.
        reason: ReasonCode,
    },
    /// A session ended: nothing of it is kept.
    SessionEnded {
        /// Client identifier.
        client_id: Arc<str>,
    },
    /// A client subscribed, or was refused to.
    Subscribed {
        /// Client identifier.
        client_id: Arc<str>,
        /// The filter.
        filter: Arc<str>,
        /// What it was granted, or why not.
        reason: ReasonCode,
    },
    /// A client did what its grants do not allow.
    Denied {
        /// Client identifier.
        client_id: Arc<str>,
        /// Name of its identity; empty for an anonymous one.
        identity: Arc<str>,
        /// What it did.
        act: Act,
        /// The topic, or of a SUBSCRIBE the filter.
        topic: Arc<str>,
        /// Whether it was refused; lenient grants let it through.
        refused: bool,
    },
    /// Messages to a client were dropped.
    Dropped {
        /// Client identifier.
        client_id: Arc<str>,
        /// How many since the last time this was told.
        count: u64,
    },
    /// A shard gave up: its rules panicked too often, its connections were closed, nobody is placed on it any more.
    ShardFailed {
        /// Which one, counted from 0.
        shard: u16,
    },
}

/// How far somebody came on the way in: the last step that was done.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reached {
    /// Connected; nothing that could be read as the beginning of TLS, or of MQTT without TLS.
    Socket,
    /// Its ClientHello was read.
    Hello,
    /// Our ServerHello, certificate and what belongs to them are sent.
    Answered,
    /// Its answer to the request for a certificate was read, with a certificate or without.
    Certificate,
    /// TLS is open.
    Secured,
}

/// A connected client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConnectionInfo {
    /// Client identifier.
    pub client_id: Arc<str>,
    /// Name of the identity that the doorkeeper gave it; empty for an anonymous one.
    pub identity: Arc<str>,
    /// The credential that proved it: see [`crate::tls::credential`].
    pub credential: Option<[u8; 32]>,
    /// Where it came from; 0.0.0.0:0 for a UNIX socket.
    pub peer: SocketAddr,
    /// Name of the listener.
    pub listener: Arc<str>,
    /// When it connected.
    pub since: SystemTime,
    /// Protocol version.
    pub version: ProtocolVersion,
    /// Its shard, counted from 0.
    pub shard: u16,
}

/// Who is connected, and how busy it is.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// All connected clients, by shard, in no order within one.
    pub connections: Vec<ConnectionInfo>,
    /// Counters since the start, all shards together.
    pub stats: Stats,
    /// Share of the last second that each shard worked, 0.0 to 1.0.
    pub busy: Vec<f32>,
}

/// Counters since the start, and what there is now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Those of the rules.
    pub rules: quoll_broker::Stats,
    /// Bytes read from sockets by shards, TLS included; handshakes and CONNECT are not.
    pub bytes_in: u64,
    /// Bytes written to sockets by shards, TLS included.
    pub bytes_out: u64,
    /// Packets sent by shards, PUBLISH included.
    pub packets_out: u64,
    /// Packets put in line for peers that have not taken all of their lines, now.
    pub packets_waiting: u64,
    /// Bytes that wait for peers now.
    pub bytes_waiting: u64,
    /// Subscribers of this process now: [`crate::Handle::attach`]. The rules count each as a connection and a session.
    pub attached: u64,
    /// Sockets accepted since the start.
    pub sockets: u64,
    /// CONNECT packets since the start, refused ones included.
    pub connect_packets: u64,
    /// Connections that were closed because a panic hit their handling.
    pub panics: u64,
}

impl std::ops::AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.rules += other.rules;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.packets_out += other.packets_out;
        self.packets_waiting += other.packets_waiting;
        self.bytes_waiting += other.bytes_waiting;
        self.attached += other.attached;
        self.sockets += other.sockets;
        self.connect_packets += other.connect_packets;
        self.panics += other.panics;
    }
}
