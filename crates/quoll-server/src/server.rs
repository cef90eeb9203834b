//! Start: what is opened and checked before anything listens, and the threads.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use mio::{Poll, Waker};
use quoll_broker::change::Change;
use quoll_broker::limits::RETAINED_BYTES;
use quoll_broker::vocabulary::{Letter, ShardId};
use quoll_broker::{Anchor, Moment, Shard, Shared};
use tokio::runtime::Runtime;
use tokio::sync::broadcast;

use crate::arrivals::{Counts, Hall, Room};
use crate::bind::{Bound, bind};
use crate::config::{Listener, MAX_SHARDS, Settings};
use crate::control::Desk;
use crate::doorkeeper::Doorkeeper;
pub use crate::handle::Handle;
pub(crate) use crate::handle::{Inner, LOCAL_CLIENTS};
use crate::journal::transit::LetterKey;
use crate::journal::{Bell, Journal, Underway};
use crate::limits::{ARRIVAL_NICENESS, EVENT_BACKLOG, MAX_ARRIVAL_BYTES, MAX_VISITORS, RETAINED_PART};
use crate::listener::ListenerState;
use crate::memory;
use crate::placement::Placement;
use crate::post::{Inbox, Mail};
use crate::shard_thread::{Common, Keeping, ShardThread, WAKE, packet_limit};
pub use crate::start_error::StartError;
use crate::systemd::Inherited;

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
    shared.retained.set_max_bytes(retained_bytes(memory::available()));
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

/// Memory that retained messages may take, where there is so much.
fn retained_bytes(memory: Option<u64>) -> u64 {
    memory.map_or(RETAINED_BYTES, |memory| (memory / RETAINED_PART).min(RETAINED_BYTES))
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
pub(crate) fn seed() -> Result<u64, StartError> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| StartError::NoChance)?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retained_messages_leave_half_of_a_small_machine_free() {
        for (memory, bound) in [
            (Some(1 << 30), 512 << 20),
            (Some(4 << 30), 2 << 30),
            (Some(64 << 30), RETAINED_BYTES),
            (None, RETAINED_BYTES),
        ] {
            assert_eq!(retained_bytes(memory), bound, "{memory:?}");
        }
    }
}
