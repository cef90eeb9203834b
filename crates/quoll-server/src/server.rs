//! Start, stop, and the handle between: orders, snapshots, the event stream.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::{Poll, Waker};
use quoll_broker::change::Change;
use quoll_broker::vocabulary::{Letter, Order, ShardId};
use quoll_broker::{Anchor, Grants, Message, Moment, Shard, Shared};
use quoll_mqtt::{ReasonCode, TopicFilter};
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::arrivals::{Counts, Hall, Room};
use crate::bind::{Bound, bind};
use crate::config::{Listener, MAX_SHARDS, Settings};
use crate::control::Desk;
use crate::doorkeeper::Doorkeeper;
use crate::events::{ServerEvent, Snapshot, Stats};
use crate::journal::transit::LetterKey;
use crate::journal::{Bell, Journal, Underway};
use crate::limits::{ARRIVAL_NICENESS, EVENT_BACKLOG, MAX_ARRIVAL_BYTES, MAX_VISITORS};
use crate::listener::ListenerState;
use crate::placement::Placement;
use crate::post::{Attachment, Inbox, Mail};
use crate::reload::OpenListener;
use crate::shard_thread::{Common, Keeping, ShardThread, WAKE, packet_limit};
pub use crate::start_error::StartError;
use crate::systemd::Inherited;
use crate::tls::TlsIdentity;

/// Starts a server: all listeners are bound, and everything of the journal is recalled, when it answers.
///
/// # Errors
/// Where the settings contradict themselves, an address cannot be had, or the journal cannot be read. Nothing runs then.
pub async fn start(
    settings: Settings,
    doorkeeper: Arc<dyn Doorkeeper>,
    journal: Box<dyn Journal>,
) -> Result<Handle, StartError> {
    if settings.shards == 0 || settings.shards > MAX_SHARDS {
        return Err(StartError::Shards { wanted: settings.shards });
    }
    check(&settings.listeners)?;
    let most_files = raise_file_limit();
    let listeners = bind_all(settings.listeners.clone(), settings.inherited.clone()).await?;
    // Opening a large journal takes its time, and is not for a runtime's thread.
    let (shards, journal) = (settings.shards, Mutex::new(journal));
    let policy = settings.placement;
    let prepared = tokio::task::spawn_blocking(move || prepare(shards, policy, journal));
    let prepared = prepared.await.map_err(|_| StartError::Interrupted)??;
    launch(settings, doorkeeper, listeners, prepared, most_files)
}

/// Whether these listeners can be together.
pub(crate) fn check(listeners: &[Listener]) -> Result<(), StartError> {
    if listeners.is_empty() {
        return Err(StartError::NoListener);
    }
    let mut names = HashSet::new();
    match listeners.iter().find(|listener| !names.insert(listener.name.as_str())) {
        Some(twin) => Err(StartError::ListenerTwice { name: twin.name.clone() }),
        None => Ok(()),
    }
}

/// A listener's sockets, and what its connections share.
pub(crate) type BoundListener = (Vec<Bound>, Arc<ListenerState>);

/// Binds all of them, or none. Names may have to be resolved, which blocks.
pub(crate) async fn bind_all(
    listeners: Vec<Listener>,
    inherited: Inherited,
) -> Result<Vec<BoundListener>, StartError> {
    let bound = tokio::task::spawn_blocking(move || {
        let bind_one = |listener: &Listener| {
            let bound = bind(listener, &inherited);
            bound.map_err(|source| StartError::Bind { place: listener.place.clone(), source })
        };
        listeners.iter().map(bind_one).collect()
    });
    bound.await.map_err(|_| StartError::Interrupted)?
}

/// A connection is an open file; systems give 1,024 at first and allow many more to those who ask. Answers how many there
/// may be; `None` for any number.
fn raise_file_limit() -> Option<u64> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        if limit.current != limit.maximum
            && let Err(error) =
                setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        {
            tracing::warn!(%error, current = limit.current, "the number of open files cannot be raised");
        }
        getrlimit(Resource::Nofile).current
    }
    #[cfg(not(unix))]
    None
}

/// What shards need that no thread has yet.
struct Prepared {
    polls: Vec<Poll>,
    boxes: Arc<[Inbox]>,
    bells: Arc<[AtomicBool]>,
    placement: Arc<Placement>,
    recalled: Vec<Vec<Change>>,
    letters: Vec<(LetterKey, Letter)>,
    keeping: Keeping,
    journal: Arc<Mutex<Box<dyn Journal>>>,
}

fn prepare(
    shards: usize,
    policy: crate::config::Placement,
    journal: Mutex<Box<dyn Journal>>,
) -> Result<Prepared, StartError> {
    let mut polls = Vec::new();
    let mut boxes = Vec::new();
    for _ in 0..shards {
        let poll = Poll::new().map_err(StartError::Wait)?;
        boxes.push(Inbox::new(Waker::new(poll.registry(), WAKE).map_err(StartError::Wait)?));
        polls.push(poll);
    }
    let boxes: Arc<[Inbox]> = boxes.into();
    let bells: Arc<[AtomicBool]> = (0..shards).map(|_| AtomicBool::new(false)).collect();
    let placement = Arc::new(Placement::new(policy, shards));
    let mut recalled: Vec<Vec<Change>> = (0..shards).map(|_| Vec::new()).collect();
    let keeping = Keeping::new(shards);
    let letters = {
        let (bells, boxes) = (Arc::clone(&bells), Arc::clone(&boxes));
        let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.ring(Bell::new(move || {
            for (bell, inbox) in bells.iter().zip(boxes.iter()) {
                bell.store(true, Ordering::Release);
                inbox.wake();
            }
        }));
        let Underway { letters, homes } = journal.underway()?;
        let mut settled = Vec::new();
        journal.recall(&mut |change| {
            let home = |client_id| placement.recall(client_id, homes.get(client_id).copied());
            let shard = change.client_id().map_or(ShardId(0), home);
            if let Change::Session { client_id, .. } = &change {
                keeping.note(shard);
                if shards > 1 {
                    settled.push((Arc::clone(client_id), shard));
                }
            }
            recalled[usize::from(shard.0)].push(change);
        })?;
        if shards > 1 {
            journal.settle(&settled)?;
        }
        letters
    };
    Ok(Prepared { polls, boxes, bells, placement, recalled, letters, keeping, journal: Arc::new(journal) })
}

fn launch(
    settings: Settings,
    doorkeeper: Arc<dyn Doorkeeper>,
    listeners: Vec<BoundListener>,
    prepared: Prepared,
    most_files: Option<u64>,
) -> Result<Handle, StartError> {
    let Prepared { polls, boxes, bells, placement, recalled, letters, keeping, journal } = prepared;
    let (events, _) = broadcast::channel(EVENT_BACKLOG);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let moment = Moment(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX));
    let shared = Arc::new(Shared::new(Anchor { instant: Instant::now(), moment }, polls.len() as u16));
    let immediate = journal.lock().unwrap_or_else(PoisonError::into_inner).is_immediate();
    let max_packet_size = packet_limit(&settings.rules);
    let desk = Arc::new(Desk::default());
    let common = Arc::new(Common {
        placement: Arc::clone(&placement),
        journal,
        immediate,
        keeping,
        events: events.clone(),
        boxes: Arc::clone(&boxes),
        limits: settings.limits.clone(),
        max_packet_size,
        desk: Arc::clone(&desk),
    });
    let runtime = arrivals_runtime(settings.limits.arrival_threads).map_err(StartError::Thread)?;
    let counts = Arc::new(Counts::default());
    let hall = Arc::new(Hall {
        doorkeeper,
        placement: Arc::clone(&placement),
        boxes: Arc::clone(&boxes),
        events: events.clone(),
        patience: settings.limits.connect_patience,
        max_connect: AtomicU32::new(max_packet_size.min(MAX_ARRIVAL_BYTES as u32)),
        room: Room::new(settings.limits.max_arrivals, most_files),
        visitors: Room::new(MAX_VISITORS, None),
        open: Arc::new(AtomicUsize::new(0)),
        max_open: AtomicUsize::new(settings.limits.max_connections.unwrap_or(usize::MAX)),
        counts: Arc::clone(&counts),
    });
    // From here on something runs; the inner handle's drop ends it.
    let mut inner = Inner {
        boxes: Arc::clone(&boxes),
        placement: Arc::clone(&placement),
        events,
        shared: Arc::clone(&shared),
        max_retained: AtomicUsize::new(settings.rules.max_retained),
        inherited: settings.inherited.clone(),
        hall,
        counts,
        listeners: Mutex::default(),
        reloading: tokio::sync::Mutex::default(),
        threads: Mutex::default(),
        runtime: Mutex::new(Some(runtime)),
        attached: AtomicU64::new(0),
        desk,
    };
    let (has_recalled, all_recalled) = std::sync::mpsc::channel::<()>();
    // Dropped when all shards know who wants what: a will that is due may be for another's sessions.
    let mut begins = Vec::new();
    for (index, (poll, recalled)) in polls.into_iter().zip(recalled).enumerate() {
        let id = ShardId(index as u16);
        let shard = Shard::new(settings.rules.clone(), id, Arc::clone(&shared), seed()?);
        let registry = poll.registry().try_clone().map_err(StartError::Wait)?;
        let (common, bells) = (Arc::clone(&common), Arc::clone(&bells));
        let has_recalled = has_recalled.clone();
        let (begin, may_begin) = std::sync::mpsc::channel::<()>();
        begins.push(begin);
        let thread = std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
            let mut thread = ShardThread::new(id, shard, common, registry);
            thread.recall(recalled);
            drop(has_recalled);
            let _ = may_begin.recv();
            thread.run(poll, &bells[index]);
        });
        let thread = thread.map_err(StartError::Thread)?;
        inner.threads.get_mut().unwrap_or_else(PoisonError::into_inner).push(thread);
    }
    drop(has_recalled);
    // Nothing is ever sent: this ends with the last sender.
    let _ = all_recalled.recv();
    post_again(letters, &shared, &placement, &boxes);
    drop(begins);
    let opened = inner.open(listeners)?;
    *inner.listeners.get_mut().unwrap_or_else(PoisonError::into_inner) = opened;
    Ok(Handle(Arc::new(inner)))
}

/// Posts letters that a crash stopped on their way, behind all that shards tell each other about what they recalled.
fn post_again(letters: Vec<(LetterKey, Letter)>, shared: &Shared, placement: &Placement, boxes: &[Inbox]) {
    if letters.is_empty() {
        return;
    }
    tracing::info!("Posting {} letters again that were on their way between shards.", letters.len());
    for (key, letter) in letters {
        let to = match &letter {
            Letter::Chosen { client_id, .. } => {
                let shard = placement.place(client_id);
                placement.arrived(client_id);
                shard
            }
            _ if key.filter.is_empty() => key.to,
            _ => shared.home_of_group(&key.filter),
        };
        boxes[usize::from(to.0) % boxes.len()].put(Mail::Kept(key, letter));
    }
}

fn arrivals_runtime(threads: usize) -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .thread_name("arrivals")
        .on_thread_start(be_nice)
        .enable_io()
        .enable_time()
        .build()
}

/// Lowers the priority of this thread alone; Linux takes a thread for a process here.
fn be_nice() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), ARRIVAL_NICENESS)
    {
        tracing::warn!(%error, "arrivals keep their priority");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = ARRIVAL_NICENESS;
}

/// Chance for one shard's generated names and hashes.
fn seed() -> Result<u64, StartError> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| StartError::NoChance)?;
    Ok(u64::from_le_bytes(bytes))
}

/// A running server. Clones share it; it ends with [`Handle::stop`], or abruptly with the last clone.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    boxes: Arc<[Inbox]>,
    placement: Arc<Placement>,
    events: broadcast::Sender<ServerEvent>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) max_retained: AtomicUsize,
    pub(crate) inherited: Inherited,
    pub(crate) hall: Arc<Hall>,
    counts: Arc<Counts>,
    pub(crate) listeners: Mutex<Vec<OpenListener>>,
    /// One reload at a time.
    pub(crate) reloading: tokio::sync::Mutex<()>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    pub(crate) runtime: Mutex<Option<Runtime>>,
    attached: AtomicU64,
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

    /// What happens from now on. A receiver that lags more than [`EVENT_BACKLOG`] events behind loses the oldest and is
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
