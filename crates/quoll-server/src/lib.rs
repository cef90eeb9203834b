//! Gives the broker rules sockets, TLS, threads and a journal.
//!
//! | room | what is in it |
//! |---|---|
//! | [`server`] | start |
//! | `handle` | [`Handle`]: orders, questions, stop |
//! | [`config`], [`limits`] | what it is told, and the bounds with their reasons |
//! | `sessions` | what sessions there are, and what each may do from now on |
//! | [`doorkeeper`] | the one question it asks the outside |
//! | [`authentication`] | enhanced authentication: AUTH there and back, and again |
//! | [`events`] | what it tells those who watch |
//! | `control` | what clients publish to `$CONTROL/…` |
//! | `bind`, `listener`, `arrivals`, `handshake` | from bind to admitted, on tokio, at a lower priority |
//! | [`http`] | requests and answers of listeners that show a site in MQTT's place |
//! | [`proxy`], `upgrade`, `websocket` | what may stand between a socket and MQTT: codecs without sockets |
//! | [`terms`] | a listener's own terms for its clients: mount point, limits |
//! | `memory` | how much memory there is |
//! | `placement` | which client lives on which shard |
//! | [`shard_thread`] | the turn: sockets, rules, letters, journal gate, writes; a mio loop per shard |
//! | `connection`, `out` | one connection's state; what waits for its peer |
//! | [`post`] | letters between shards, and mail from other threads |
//! | [`tls`] | the live identity, ClientHello, peer facts, records |
//! | [`journal`] | what must survive a restart |
//! | [`client`] | an async client, for the command line, bridges and tests |
//! | [`bridge`] | this broker as a client of another one |
//! | [`sys_topics`] | `$SYS`: what Mosquitto tells about itself |
//! | [`systemd`] | sockets from, and word to, a service manager |
//! | [`log`] | which of Mosquitto's kinds a log line is |
//! | [`mosquitto`] | configuration, permission and password files of Mosquitto, read and understood |
//!
//! Knows no certificate authority and no devices. The rules are in `quoll-broker`, the packets in `quoll-mqtt`.

pub mod bridge;
pub mod client;
pub mod config;
pub mod doorkeeper;
pub mod events;
pub mod http;
pub mod journal;
pub mod limits;
pub mod log;
pub mod mosquitto;
pub mod post;
pub mod proxy;
pub mod server;
pub mod shard_thread;
pub mod sys_topics;
pub mod systemd;
pub mod terms;
pub mod tls;

mod arrivals;
pub mod authentication;
mod bind;
mod connection;
mod control;
mod direct;
mod handle;
mod handshake;
mod listener;
mod memory;
mod out;
mod placement;
mod reload;
mod sessions;
mod start_error;
mod upgrade;
mod websocket;

pub use authentication::{Authenticator, Dialogue, Step};
pub use bridge::{Bridge, Bridges};
pub use config::{Family, Limits, Listener, Place, Placement, Settings, Transport};
pub use control::ControlMessage;
pub use doorkeeper::{ConnectFacts, Doorkeeper, Verdict};
pub use events::{ConnectionInfo, Reached, ServerEvent, Snapshot, Stats};
pub use http::{HttpAnswer, HttpBody, HttpRequest, Site};
pub use journal::memory::MemoryJournal;
pub use journal::{Durability, SqliteJournal, StoreError};
pub use proxy::{Proxied, ProxiedTls, ProxyProtocol};
pub use reload::Reloaded;
pub use server::{Handle, StartError, start};
pub use sessions::{Subscriber, Wanted};
pub use sys_topics::SysTopics;
pub use systemd::Inherited;
#[cfg(unix)]
pub use systemd::Notifier;
pub use terms::{EmptyClientId, Terms, Versions};
pub use upgrade::WebSocketSettings;
