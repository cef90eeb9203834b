//! The handle of a running server: orders, snapshots, the event stream, the stop.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quoll_broker::vocabulary::{Letter, Order};
use quoll_broker::{Grants, Message, Shared};
use quoll_mqtt::{ReasonCode, TopicFilter};
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::arrivals::{Counts, Hall};
use crate::control::Desk;
use crate::events::{ServerEvent, Snapshot, Stats};
use crate::placement::Placement;
use crate::post::{Attachment, Inbox, Mail};
use crate::reload::OpenListener;
use crate::server::seed;
use crate::systemd::Inherited;
use crate::tls::TlsIdentity;

/// A running server. Clones share it; it ends with [`Handle::stop`], or abruptly with the last clone.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) boxes: Arc<[Inbox]>,
    pub(crate) placement: Arc<Placement>,
    pub(crate) events: broadcast::Sender<ServerEvent>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) max_retained: AtomicUsize,
    pub(crate) inherited: Inherited,
    pub(crate) hall: Arc<Hall>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) listeners: Mutex<Vec<OpenListener>>,
    /// One reload at a time.
    pub(crate) reloading: tokio::sync::Mutex<()>,
    pub(crate) threads: Mutex<Vec<JoinHandle<()>>>,
    pub(crate) runtime: Mutex<Option<Runtime>>,
    pub(crate) attached: AtomicU64,
    pub(crate) desk: Arc<Desk>,
}

impl Handle {
    /// Name and address of each TCP socket, in the order of the settings: none for a UNIX socket, two for a listener of
    /// both families.
    #[must_use]
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        let listeners = self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let each = listeners.iter().flat_map(|listener| {
            let state = &listener.state;
            state.addresses().iter().map(|address| (state.name().to_string(), *address))
        });
        each.collect()
    }

    /// What happens from now on. A receiver that lags more than [`crate::limits::EVENT_BACKLOG`] events behind loses the oldest and is
    /// told how many.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<ServerEvent> {
        self.0.events.subscribe()
    }

    /// Who is connected, and the counters. Each shard answers between two turns.
    pub async fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot { busy: self.0.placement.loads(), ..Snapshot::default() };
        for (connections, stats) in self.ask(Mail::Snapshot).await {
            snapshot.connections.extend(connections);
            snapshot.stats += stats;
        }
        self.count_arrivals(&mut snapshot.stats);
        snapshot
    }

    /// The counters alone: cheaper than a snapshot by a copy of every connection.
    pub async fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for of_shard in self.ask(Mail::Stats).await {
            stats += of_shard;
        }
        self.count_arrivals(&mut stats);
        stats
    }

    fn count_arrivals(&self, stats: &mut Stats) {
        stats.sockets = self.0.counts.sockets.load(Ordering::Relaxed);
        stats.connect_packets = self.0.counts.connects.load(Ordering::Relaxed);
    }

    /// Whether all shards answer within this time; `None` once the server was stopped.
    pub async fn is_well(&self, within: Duration) -> Option<bool> {
        if self.is_stopped() {
            return None;
        }
        let answers = tokio::time::timeout(within, self.ask(Mail::Stats)).await;
        let all = answers.is_ok_and(|answers| answers.len() == self.0.boxes.len());
        if self.is_stopped() { None } else { Some(all) }
    }

    /// Whether [`Handle::stop`] was called.
    pub(crate) fn is_stopped(&self) -> bool {
        self.0.runtime.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Publishes a message of the server's own, past all permissions, to those who subscribed; a retained one is kept in
    /// memory, not in the journal. `false` where there are as many retained messages as there may be.
    pub fn publish(&self, message: Arc<Message>) -> bool {
        let stored = match (message.retain, message.payload.is_empty()) {
            (false, _) => true,
            (true, true) => {
                self.0.shared.retained.clear(&message.topic);
                true
            }
            (true, false) => {
                let most = self.0.max_retained.load(Ordering::Relaxed);
                self.0.shared.retained.store(Arc::clone(&message), most)
            }
        };
        for shard in self.0.shared.shards_for(message.topic.as_str()).iter() {
            self.0.boxes[usize::from(shard.0)].put(Mail::Letter(Letter::Message(Arc::clone(&message))));
        }
        stored
    }

    /// Gives a TLS listener another identity, for handshakes from now on. `false` where no TLS listener has this name.
    /// Call it before [`Handle::expel`]: then a revoked client can neither stay nor come back.
    pub fn replace_identity(&self, listener: &str, identity: TlsIdentity) -> bool {
        let listeners = self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let found = listeners.iter().find(|open| &**open.state.name() == listener);
        let Some(live) = found.and_then(|open| open.state.live()) else { return false };
        live.replace(identity);
        true
    }

    /// Ends the connections and sessions of a credential (see [`crate::tls::credential`]); 5.0 peers are told `Not
    /// authorized`. Answers how many connections were closed, when they are.
    pub async fn expel(&self, credential: [u8; 32]) -> usize {
        self.order(Order::Expel { credential, reason: ReasonCode::NOT_AUTHORIZED }).await
    }

    /// Ends the connection of a client; its session stays. Answers how many connections were closed: 0 or 1.
    pub async fn disconnect(&self, client_id: &str, reason: ReasonCode) -> usize {
        self.order(Order::Disconnect { client_id: client_id.into(), reason }).await
    }

    /// From now on sessions of this identity may do this.
    pub fn regrant(&self, identity: &str, grants: &Arc<Grants>) {
        self.tell(&Order::Regrant { identity: identity.into(), grants: Arc::clone(grants) });
    }

    pub(crate) fn tell(&self, order: &Order) {
        for inbox in self.0.boxes.iter() {
            inbox.put(Mail::Order(order.clone(), None));
        }
    }

    /// Subscribes somebody of this process, at QoS 0, retained messages included. `capacity` messages wait at most,
    /// further ones are dropped; the subscription ends with the receiver.
    #[must_use]
    pub fn attach(&self, filters: Vec<TopicFilter>, capacity: usize) -> mpsc::Receiver<Arc<Message>> {
        let (messages, receiver) = mpsc::channel(capacity.max(1));
        let number = self.0.attached.fetch_add(1, Ordering::Relaxed);
        // No peer can guess the name, so none can take the session over.
        let client_id = format!("{LOCAL_CLIENTS}{number}/{:016x}", seed().unwrap_or_default()).into();
        let attachment = Attachment { client_id, grants: Arc::new(Grants::all()), filters, messages };
        self.0.boxes[0].put(Mail::Attach(Box::new(attachment)));
        receiver
    }

    /// Stops: listeners are closed, what clients said reaches those whom other shards serve, 5.0 peers are told `Server shutting down`, what waits is written, for at most
    /// `grace`; then sockets are cut and threads joined.
    pub async fn stop(self, grace: Duration) {
        let runtime = self.0.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        let threads = std::mem::take(&mut *self.0.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let boxes = Arc::clone(&self.0.boxes);
        let ended = tokio::task::spawn_blocking(move || {
            // The listeners go with the runtime; who is in the middle of arriving is cut.
            if let Some(runtime) = runtime {
                runtime.shutdown_timeout(Duration::from_millis(100));
            }
            let until = Instant::now() + grace;
            hush(&boxes, until);
            boxes.iter().for_each(|inbox| inbox.put(Mail::Stop(until)));
            threads.into_iter().map(JoinHandle::join).all(|joined| joined.is_ok())
        });
        if !matches!(ended.await, Ok(true)) {
            tracing::error!("a shard's thread ended with a panic");
        }
    }

    async fn order(&self, order: Order) -> usize {
        let answers = self.ask(|answer| Mail::Order(order.clone(), Some(answer))).await;
        answers.into_iter().sum()
    }

    /// Asks all shards and gathers their answers; a shard that has ended gives none.
    pub(crate) async fn ask<T>(&self, question: impl Fn(oneshot::Sender<T>) -> Mail) -> Vec<T> {
        let mut pending = Vec::new();
        for inbox in self.0.boxes.iter() {
            let (answer, pend) = oneshot::channel();
            inbox.put(question(answer));
            pending.push(pend);
        }
        let mut answers = Vec::new();
        for pend in pending {
            answers.extend(tokio::time::timeout(ANSWER_PATIENCE, pend).await.ok().and_then(Result::ok));
        }
        answers
    }
}

/// Lets shards hear nothing more, and waits until all that they had to say to each other is said: a letter that a
/// shard's end overtakes would find nobody.
fn hush(boxes: &[Inbox], until: Instant) {
    if boxes.len() == 1 {
        return;
    }
    // A message may go to the shard of a group, from there to a member's, come back, and go to another member's.
    for _ in 0..4 {
        let (quiet, all_quiet) = std::sync::mpsc::channel::<()>();
        boxes.iter().for_each(|inbox| inbox.put(Mail::Hush(quiet.clone())));
        drop(quiet);
        // Nothing is ever sent: this ends with the last sender.
        let _ = all_quiet.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

/// What the client identifiers of this process's own subscribers begin with.
pub(crate) const LOCAL_CLIENTS: &str = "$local/";

/// How long a shard may take to answer; one that has ended never does.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
        for inbox in self.boxes.iter() {
            inbox.put(Mail::Stop(Instant::now()));
        }
    }
}
