//! Bridges: this broker as a client of another one, each with its `topic` lines, as Mosquitto has them.
//!
//! | room | what is in it |
//! |---|---|
//! | here | [`Bridge`], and [`Bridges`]: start, other bridges on SIGHUP, stop |
//! | `life` | one bridge from start to end: when it calls, whom, and what it says in the log |
//! | `link` | one connection as a machine without I/O: a relay between two brokers that each keep their half |
//! | `inside` | the local half: a session of this broker, through a pair of sockets in this process |
//! | `topics` | what goes over it, and under which name |
//! | `pace` | when it tries again |
//! | `dial`, `wire` | calling; a socket that never waits in the middle of something |
//! | [`tls`] | whom it trusts, what it shows |
//!
//! Bridges live on tokio, beside the shards. A hostile peer can take nothing but its own link: all that it sends is decoded
//! within the same limits as a client's, and comes in by a session with its own permissions.

pub mod tls;

mod dial;
mod inside;
mod life;
mod link;
mod news;
mod pace;
mod topics;
mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use quoll_broker::Grants;
use quoll_broker::vocabulary::Identity;
use quoll_mqtt::{ProtocolVersion, QoS, TopicFilter};
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::mosquitto::BridgeConfiguration;
use crate::mosquitto::bridge::{Reload, Start};
use crate::server::{Handle, Inner};
use life::Life;
use topics::Topics;

/// What proves that a session is a bridge's: no client can show it, so none can take a bridge's session over.
const CREDENTIAL: [u8; 32] = *b"quoll: the local half of bridges";

/// How long a bridge that ends gets to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// A bridge as the server wants it.
#[derive(Clone, Debug)]
pub struct Bridge {
    /// What the configuration says.
    pub configuration: BridgeConfiguration,
    /// TLS, read from its files by [`tls::client_config`]; `None`: in the clear.
    pub tls: Option<Arc<ClientConfig>>,
    /// What its local half may do: everything, or what `local_username` may.
    pub grants: Arc<Grants>,
    /// Messages under way at a time, 1 to 65,535 (`max_inflight_messages`).
    pub window: u16,
    /// Largest packet that this broker takes, in bytes.
    pub largest: u32,
}

impl PartialEq for Bridge {
    fn eq(&self, other: &Self) -> bool {
        let same_tls = match (&self.tls, &other.tls) {
            (None, None) => true,
            // Files may have changed behind the same names.
            _ => false,
        };
        self.is_configured_as(other) && same_tls && self.grants == other.grants
    }
}

impl Bridge {
    /// Who its local half is.
    pub(crate) fn identity(&self) -> Identity {
        let name = self.configuration.local.username.as_deref().unwrap_or_default();
        Identity { name: name.into(), credential: Some(CREDENTIAL) }
    }

    /// The version of the local half: the same rules for acknowledgements and properties at both ends.
    pub(crate) fn local_version(&self) -> ProtocolVersion {
        match self.configuration.version {
            ProtocolVersion::V5 => ProtocolVersion::V5,
            ProtocolVersion::V31 | ProtocolVersion::V311 => ProtocolVersion::V311,
        }
    }

    /// Whether the local session lives on without a connection. That of a lazy bridge always does: its waiting messages are
    /// what wakes it.
    fn is_kept_here(&self) -> bool {
        !self.configuration.local.clean_session || self.idle_after().is_some()
    }

    /// What it wants of this broker.
    fn wanted_here(&self) -> Vec<(TopicFilter, QoS)> {
        Topics::new(self.configuration.topics.clone()).wanted_here()
    }

    /// Silence that ends a lazy bridge's connection.
    fn idle_after(&self) -> Option<Duration> {
        match self.configuration.start {
            Start::Lazy { idle, .. } => Some(idle),
            Start::Automatic | Start::Once => None,
        }
    }

    /// Whether the block says the same; where it stands does not matter.
    fn is_configured_as(&self, other: &Self) -> bool {
        let own =
            BridgeConfiguration { place: other.configuration.place.clone(), ..self.configuration.clone() };
        own == other.configuration && (self.window, self.largest) == (other.window, other.largest)
    }
}

/// The bridges of a running server.
pub struct Bridges {
    server: Weak<Inner>,
    running: Mutex<HashMap<String, Running>>,
}

#[derive(Debug)]
struct Running {
    bridge: Arc<Bridge>,
    orders: mpsc::UnboundedSender<Told>,
    task: JoinHandle<()>,
}

/// What a bridge is told.
#[derive(Debug)]
enum Told {
    /// Be this from the next connection on, or at once.
    Become(Arc<Bridge>, Reload),
    /// End, and leave nothing behind.
    Vanish,
    /// End; the session stays for the next start.
    Stop,
}

impl Bridges {
    /// Starts bridges of a server, on the current tokio runtime. They end with the server, or with [`Bridges::stop`].
    #[must_use]
    pub fn start(server: &Handle, bridges: Vec<Bridge>) -> Self {
        let server = Arc::downgrade(&server.0);
        let running = bridges.into_iter().map(|bridge| {
            let bridge = Arc::new(bridge);
            (bridge.configuration.name.clone(), run(&server, bridge))
        });
        let running = Mutex::new(running.collect());
        Self { server, running }
    }

    /// Puts other bridges in the place of these: new ones start, those that are gone end with their local sessions, and
    /// changed ones follow at once or with their next connection (`bridge_reload_type`).
    pub async fn replace(&self, bridges: Vec<Bridge>) {
        let mut gone = Vec::new();
        {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let stays = |name: &String| bridges.iter().any(|bridge| bridge.configuration.name == *name);
            let names: Vec<String> = running.keys().filter(|name| !stays(name)).cloned().collect();
            gone.extend(names.iter().filter_map(|name| running.remove(name)));
            for bridge in &gone {
                // It may have ended by itself.
                let _ = bridge.orders.send(Told::Vanish);
            }
        }
        for bridge in gone {
            let _ = tokio::time::timeout(GOODBYE, bridge.task).await;
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for bridge in bridges {
            let bridge = Arc::new(bridge);
            let name = bridge.configuration.name.clone();
            match running.get_mut(&name) {
                Some(known) if *known.bridge == *bridge => {}
                Some(known) if !known.task.is_finished() => {
                    known.bridge = Arc::clone(&bridge);
                    let when = bridge.configuration.reload;
                    let _ = known.orders.send(Told::Become(bridge, when));
                }
                // New, or one that ended (`start_type once`) and is to be tried with what has changed.
                _ => drop(running.insert(name, run(&self.server, bridge))),
            }
        }
    }

    /// The client identifiers of the local halves.
    #[must_use]
    pub fn local_client_ids(&self) -> Vec<String> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.values().map(|it| it.bridge.configuration.local.client_id.clone()).collect()
    }

    /// Ends them all; their local sessions stay for the next start. Call it before the server stops.
    pub async fn stop(&self) {
        let ended: Vec<Running> = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.drain().map(|(_, bridge)| bridge).collect()
        };
        for bridge in &ended {
            let _ = bridge.orders.send(Told::Stop);
        }
        for bridge in ended {
            let _ = tokio::time::timeout(GOODBYE, bridge.task).await;
        }
    }
}

impl std::fmt::Debug for Bridges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bridges").field("local", &self.local_client_ids()).finish_non_exhaustive()
    }
}

fn run(server: &Weak<Inner>, bridge: Arc<Bridge>) -> Running {
    let (orders, told) = mpsc::unbounded_channel();
    let task = tokio::spawn(Life::new(server, Arc::clone(&bridge), told).run());
    Running { bridge, orders, task }
}
