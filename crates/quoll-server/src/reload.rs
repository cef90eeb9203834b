//! Other listeners while the server runs (SIGHUP): first everything is checked and bound, then all of it changes, or
//! nothing does.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use quoll_broker::vocabulary::Order;
use quoll_broker::{Message, ShardSettings};

use tokio::task::AbortHandle;

use crate::arrivals::{Door, accept};
use crate::bind::Bound;
use crate::config::{Listener, Place, Transport};
use crate::limits::MAX_ARRIVAL_BYTES;
use crate::listener::ListenerState;
use crate::post::Mail;
use crate::server::{BoundListener, Handle, Inner, StartError, bind_all, check};
use crate::shard_thread::packet_limit;

/// A listener that accepts.
#[derive(Debug)]
pub(crate) struct OpenListener {
    pub(crate) state: Arc<ListenerState>,
    accepting: Vec<AbortHandle>,
}

/// What a reload changed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reloaded {
    /// Names of listeners that went on with the settings given for them.
    pub kept: Vec<String>,
    /// Names of listeners that are new, or moved to another place.
    pub opened: Vec<String>,
    /// Names of listeners that are gone, or left their old place. Their connections stay.
    pub closed: Vec<String>,
    /// Connections that were closed because their certificate is revoked by the new identity.
    pub expelled: usize,
}

impl Handle {
    /// Puts these listeners in the place of those there are. A listener with the same name and place goes on listening and
    /// uses its new settings, identity included, for those who come from now on; connections go on under the terms that
    /// they came under, unless the new identity revokes their certificate.
    ///
    /// # Errors
    /// Where the listeners cannot be together or one cannot be bound. Then nothing has changed.
    pub async fn reload(&self, listeners: Vec<Listener>) -> Result<Reloaded, StartError> {
        let _one_at_a_time = self.0.reloading.lock().await;
        check(&listeners)?;
        let stays = |listener: &Listener| {
            let open = self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            let same = |it: &&OpenListener| {
                **it.state.name() == *listener.name && it.state.place() == &listener.place
            };
            open.iter().any(|it| same(&it))
        };
        let (kept, fresh): (Vec<Listener>, Vec<Listener>) = listeners.iter().cloned().partition(stays);
        let bound = bind_all(fresh, self.0.inherited.clone()).await?;
        let mut opened = self.0.open(bound)?;
        let mut reloaded = Reloaded {
            kept: kept.iter().map(|it| it.name.clone()).collect(),
            opened: opened.iter().map(|it| it.state.name().to_string()).collect(),
            ..Reloaded::default()
        };
        {
            let mut open = self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            for settings in kept {
                if let Some(listener) = open.iter().find(|it| **it.state.name() == *settings.name) {
                    listener.state.replace(settings);
                }
            }
            let is_kept = |it: &OpenListener| reloaded.kept.iter().any(|name| **name == **it.state.name());
            let (mut all, closed): (Vec<_>, Vec<_>) = open.drain(..).partition(is_kept);
            for listener in closed {
                tracing::info!("Closing listener {} on {}.", listener.state.name(), listener.state.place());
                listener.accepting.iter().for_each(AbortHandle::abort);
                reloaded.closed.push(listener.state.name().to_string());
            }
            all.append(&mut opened);
            let place = |it: &OpenListener| listeners.iter().position(|one| *one.name == **it.state.name());
            all.sort_by_key(place);
            *open = all;
        }
        reloaded.expelled = self.expel_revoked().await;
        Ok(reloaded)
    }

    /// From now on these settings of the rules hold, and this bound of connections on all listeners together. What was
    /// agreed with a client at its CONNECT (window, keep alive, aliases) goes on until it connects again; sessions and
    /// queues that are beyond a new bound stay, and do not grow.
    pub fn set_rules(&self, rules: &ShardSettings, max_connections: Option<usize>) {
        let hall = &self.0.hall;
        hall.max_connect.store(packet_limit(rules).min(MAX_ARRIVAL_BYTES as u32), Ordering::Relaxed);
        hall.max_open.store(max_connections.unwrap_or(usize::MAX), Ordering::Relaxed);
        self.0.max_retained.store(rules.max_retained, Ordering::Relaxed);
        self.tell(&Order::Settings(Box::new(rules.clone())));
    }

    /// Asks of each retained message whether its publisher may still publish it (`check_retain_source`); see
    /// [`quoll_broker::Retained::judge`]. To be called after grants changed, and after the start.
    pub fn judge_retained(&self, may: impl FnMut(&Message) -> bool) {
        self.0.shared.retained.judge(may);
    }

    /// Ends the connections and sessions of all clients whose certificate their listener's identity now says is revoked.
    /// Answers how many connections were closed.
    pub async fn expel_revoked(&self) -> usize {
        self.ask(Mail::Vet).await.into_iter().sum()
    }
}

impl Inner {
    /// Accepts on bound sockets.
    pub(crate) fn open(&self, listeners: Vec<BoundListener>) -> Result<Vec<OpenListener>, StartError> {
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(runtime) = runtime.as_ref() else { return Err(StartError::Interrupted) };
        let _inside = runtime.enter();
        let mut opened = Vec::new();
        for (sockets, state) in listeners {
            let mut doors = Vec::new();
            for bound in sockets {
                say_opening(&bound, &state.settings());
                let door = Door::open(bound);
                doors.push(door.map_err(|source| StartError::Bind { place: state.place().clone(), source })?);
            }
            opened.push((doors, state));
        }
        let accepted = opened.into_iter().map(|(doors, state)| {
            let accepting = doors.into_iter().map(|door| {
                runtime.spawn(accept(Arc::clone(&self.hall), door, Arc::clone(&state))).abort_handle()
            });
            OpenListener { accepting: accepting.collect(), state: Arc::clone(&state) }
        });
        Ok(accepted.collect())
    }
}

/// In Mosquitto's words, where it has some.
fn say_opening(bound: &Bound, settings: &Listener) {
    match bound {
        Bound::Tcp(listener) => {
            let Ok(address) = listener.local_addr() else { return };
            let (port, family) = (address.port(), if address.is_ipv4() { "ipv4" } else { "ipv6" });
            match settings.websocket {
                _ if settings.site.is_some() => {
                    tracing::info!("Opening http api listen socket on port {port}.")
                }
                Some(_) => tracing::info!("Opening websockets listen socket on port {port}."),
                None => tracing::info!("Opening {family} listen socket on port {port}."),
            }
        }
        #[cfg(unix)]
        Bound::Unix(..) => {
            if let Place::Unix(path) = &settings.place {
                tracing::info!("Opening unix listen socket on path {}.", path.display());
            }
        }
    }
    let is_secure = matches!(settings.transport, Transport::Tls(_));
    tracing::debug!(listener = settings.name, place = %settings.place, is_secure, "listening");
}
