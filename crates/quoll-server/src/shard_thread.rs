//! A shard's thread: the turn. It gives one shard of the rules sockets, a clock and a letter box.
//!
//! A turn: wait → read every ready socket once → handle its frames at once → take letters → carry out effects into the
//! connections' out buffers → journal gate → write each dirty connection once → post letters → wait. Nothing is written
//! while an input is handled; writability is asked for only after a socket refused; in the steady state epoll is not
//! told anything (`coat.md` §8).
//!
//! | room | what is in it |
//! |---|---|
//! | here | the turn, the table of connections |
//! | `read` | sockets and frames, who comes again |
//! | `effects` | what the rules want done: frames, farewells, letters, facts |
//! | `mail` | newcomers, orders, snapshots, the end |
//! | `keep` | journal gate, letters that must not get lost |
//! | `write` | writing, slow peers, closing |
//! | `edge` | listeners' own terms, where they differ |
//! | `tell`, `say` | events for those who watch, and log lines; packets in the log |
//!
//! **A panic** in the handling of one connection closes that connection and is logged. The rules' state may then be
//! inconsistent: a counter off, a subscription left over. It is still plain data (no lock held, no unsafe code), so the
//! shard goes on; but after [`limits::PANICS_PER_SHARD`] of them it is not trusted any more: it says so as an error and
//! as [`ServerEvent::ShardFailed`], closes all its connections, and nobody is placed on it.

mod edge;
mod effects;
mod keep;
mod mail;
mod read;
mod say;
mod table;
mod tell;
#[cfg(test)]
mod tests;
mod write;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use quoll_broker::Shard;
use quoll_broker::change::Change;
use quoll_broker::vocabulary::{ConnId, Input, Outbox, ShardId};
use quoll_mqtt::packet::Packet;
use tokio::sync::{broadcast, oneshot};

use crate::authentication::Agreed;
use crate::connection::{Buffers, Connection, Who};
use crate::control::Desk;
use crate::events::ServerEvent;
use crate::journal::Journal;
use crate::journal::transit::Transit;
use crate::limits;
use crate::out::Pool;
use crate::placement::Placement;
use crate::post::{Inbox, Mail, Outgoing};
pub(crate) use keep::Keeping;
pub(crate) use mail::packet_limit;
use table::Table;

/// What wakes the thread beside sockets.
pub(crate) const WAKE: Token = Token(usize::MAX);

/// What the threads of one server share.
pub(crate) struct Common {
    pub(crate) placement: Arc<Placement>,
    pub(crate) journal: Arc<Mutex<Box<dyn Journal>>>,
    /// Whether the journal's answer is always "durable", so that there is nothing to wait for.
    pub(crate) immediate: bool,
    pub(crate) keeping: Keeping,
    pub(crate) events: broadcast::Sender<ServerEvent>,
    pub(crate) boxes: Arc<[Inbox]>,
    pub(crate) limits: crate::config::Limits,
    /// At the start.
    pub(crate) max_packet_size: u32,
    pub(crate) desk: Arc<Desk>,
}

/// One shard and everything around it.
pub(crate) struct ShardThread {
    id: ShardId,
    shard: Shard,
    common: Arc<Common>,
    registry: mio::Registry,
    table: Table,
    buffers: Buffers,
    pool: Pool,
    post: Outgoing,
    now: Instant,
    /// Outboxes that are not in use; a routed message is handled in the middle of another input's effects.
    spare: Vec<Outbox>,
    /// Whether what is carried out now stands behind a fact of the same input.
    behind_fact: bool,
    /// Whether it stands behind the fact of a will.
    behind_will: bool,
    depth: u32,
    facts: Vec<Change>,
    /// What became of letters that must not get lost.
    transits: Vec<Transit>,
    /// Whether so much waits for the disk that sockets stay unread.
    crowded: bool,
    /// Connections to write to at the end of the turn.
    dirty: Vec<ConnId>,
    /// Those of them that have so much waiting that it is not.
    brimming: Vec<ConnId>,
    /// Connections that wait for the journal.
    gated: Vec<ConnId>,
    journal_moved: bool,
    /// Connections that were not read to the end: see [`Connection::in_line`].
    unread: Vec<ConnId>,
    /// Connections whose peers take nothing.
    stalled: Vec<ConnId>,
    /// Connections whose last words wait, and until when they may.
    closing: VecDeque<(Instant, ConnId)>,
    /// Connections that are closed on our side, and until when the peer's side is read.
    lingering: VecDeque<(Instant, ConnId)>,
    /// Local connections that nobody listens to any more.
    deserted: Vec<ConnId>,
    /// Who is being let in at the moment, for the log.
    arriving: Option<tell::Greeting>,
    /// The last PUBLISH as the log shows it, while it shows packets.
    said_publish: Option<String>,
    /// The identifier that CONNACK has to tell the one who is being let in.
    assigned: Option<Arc<str>>,
    /// How the one who is being let in was authenticated; CONNACK tells.
    agreed: Option<Box<Agreed>>,
    mail: Vec<Mail>,
    /// Orders to answer once their effects are written.
    answers: Vec<(oneshot::Sender<usize>, usize)>,
    closed_by_order: usize,
    /// Whether other shards, or the disk, are so far behind that sockets stay unread.
    throttled: bool,
    stopping: Option<Instant>,
    /// Whether the end is near: sockets stay unread while letters find their way.
    hushed: bool,
    /// Those who wait until this shard's letters are posted.
    hushes: Vec<std::sync::mpsc::Sender<()>>,
    failed: bool,
    next_look: Instant,
    worked: Duration,
    bytes_in: u64,
    bytes_out: u64,
    packets_out: u64,
    /// Whether some client came by a listener with a mount point.
    has_mounts: bool,
    panics: u64,
    /// The largest packet that is read.
    max_packet_size: u32,
    log: bool,
    /// Whether each packet is logged.
    verbose: bool,
}

impl ShardThread {
    pub(crate) fn new(id: ShardId, shard: Shard, common: Arc<Common>, registry: mio::Registry) -> Self {
        let post = Outgoing::new(id, Arc::clone(&common.boxes));
        let now = Instant::now();
        let max_packet_size = common.max_packet_size;
        Self {
            id,
            shard,
            common,
            registry,
            table: Table::default(),
            buffers: Buffers::new(),
            pool: Pool::default(),
            post,
            now,
            spare: Vec::new(),
            behind_fact: false,
            behind_will: false,
            depth: 0,
            facts: Vec::new(),
            transits: Vec::new(),
            crowded: false,
            dirty: Vec::new(),
            brimming: Vec::new(),
            gated: Vec::new(),
            journal_moved: false,
            unread: Vec::new(),
            stalled: Vec::new(),
            closing: VecDeque::new(),
            lingering: VecDeque::new(),
            deserted: Vec::new(),
            arriving: None,
            said_publish: None,
            assigned: None,
            agreed: None,
            mail: Vec::new(),
            answers: Vec::new(),
            closed_by_order: 0,
            throttled: false,
            stopping: None,
            hushed: false,
            hushes: Vec::new(),
            failed: false,
            next_look: now + LOOK_EVERY,
            worked: Duration::ZERO,
            bytes_in: 0,
            bytes_out: 0,
            packets_out: 0,
            has_mounts: false,
            panics: 0,
            max_packet_size,
            log: true,
            verbose: say::is_wanted(),
        }
    }

    pub(crate) fn who(&mut self, conn: ConnId) -> Option<&Who> {
        self.table.get_mut(conn).map(|connection| &*connection.who)
    }

    pub(crate) fn desk(&self) -> Arc<Desk> {
        Arc::clone(&self.common.desk)
    }

    /// Takes the facts of the journal.
    pub(crate) fn recall(&mut self, recalled: Vec<Change>) {
        self.guarded(None, |thread| {
            recalled.into_iter().for_each(|change| thread.input(Input::Recall(change)));
        });
        self.end_of_turn();
    }

    /// Turns until told to stop.
    pub(crate) fn run(mut self, mut poll: Poll, bell: &AtomicBool) {
        let mut events = Events::with_capacity(1024);
        loop {
            let timeout = self.timeout();
            if let Err(error) = poll.poll(&mut events, timeout)
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                tracing::error!(shard = self.id.0, %error, "cannot wait for sockets");
                std::thread::sleep(Duration::from_millis(10));
            }
            self.common.boxes[usize::from(self.id.0)].awake();
            self.now = Instant::now();
            self.journal_moved |= bell.swap(false, Ordering::AcqRel);
            let unread = std::mem::take(&mut self.unread);
            for event in &events {
                self.ready(event);
            }
            self.read_on(unread);
            self.take_mail();
            if self.shard.next_deadline().is_some_and(|due| due <= self.now) {
                self.guarded(None, Self::expire);
            }
            self.end_of_turn();
            if self.stopping.is_some_and(|until| until <= self.now || self.table.is_empty()) {
                break;
            }
        }
        // Whoever came too late is not left waiting until the process ends.
        self.common.boxes[usize::from(self.id.0)].take(&mut self.mail);
    }

    /// How long to wait. Says that we sleep, if we may.
    fn timeout(&self) -> Option<Duration> {
        let reads = !self.throttled && !self.hushed;
        let busy = (!self.unread.is_empty() && reads) || !self.dirty.is_empty() || !self.facts.is_empty();
        if busy || !self.common.boxes[usize::from(self.id.0)].may_sleep() {
            return Some(Duration::ZERO);
        }
        if self.throttled {
            return Some(Duration::from_millis(1));
        }
        let front = |list: &VecDeque<(Instant, ConnId)>| list.front().map(|(due, _)| *due);
        let due = [self.shard.next_deadline(), self.stopping, front(&self.closing), front(&self.lingering)];
        let due = due.into_iter().flatten().min();
        let look = (self.worked > Duration::ZERO || !self.stalled.is_empty()).then_some(self.next_look);
        let next = match (due, look) {
            (Some(due), Some(look)) => Some(due.min(look)),
            (due, look) => due.or(look),
        };
        next.map(|next| next.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn hand_on(&mut self, input: Input) {
        self.input(input);
    }

    pub(crate) fn answer(&mut self, conn: ConnId, packet: &Packet) {
        self.send_now(conn, packet);
    }

    pub(crate) fn connection(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.table.get_mut(conn)
    }

    fn expire(&mut self) {
        let mut outbox = self.spare.pop().unwrap_or_default();
        self.shard.expire(self.now, &mut outbox);
        self.carry_out(&mut outbox);
        self.spare.push(outbox);
        self.forget_facts();
    }

    /// What comes next stands behind nothing.
    const fn forget_facts(&mut self) {
        (self.behind_fact, self.behind_will) = (false, false);
    }

    /// Hands an input to the rules and does what they say, completely.
    fn input(&mut self, input: Input) {
        let mut outbox = self.spare.pop().unwrap_or_default();
        self.depth += 1;
        self.shard.handle(input, self.now, &mut outbox);
        self.carry_out(&mut outbox);
        self.depth -= 1;
        if self.depth == 0 {
            self.forget_facts();
        }
        self.spare.push(outbox);
    }

    /// Does something that may panic on behalf of a connection. See the head of this file.
    fn guarded(&mut self, conn: Option<ConnId>, act: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| act(self))).is_ok() {
            return;
        }
        self.panics += 1;
        self.depth = 0;
        self.forget_facts();
        if self.buffers.read.is_empty() {
            self.buffers = Buffers::new();
        }
        let client = conn.and_then(|conn| self.table.get_mut(conn)).map(|it| Arc::clone(&it.who.client_id));
        tracing::error!(
            shard = self.id.0,
            client = client.as_deref().unwrap_or(""),
            "a panic hit this connection's handling; it is closed, the shard goes on. This is a bug: please report it"
        );
        if let Some(conn) = conn {
            let cleaned = catch_unwind(AssertUnwindSafe(|| self.lose(conn)));
            if cleaned.is_err() {
                self.depth = 0;
                self.panics += 1;
                self.table.remove(conn);
            }
        }
        if self.panics >= u64::from(limits::PANICS_PER_SHARD) {
            self.give_up();
        }
    }

    /// The shard's state is not trusted any more.
    fn give_up(&mut self) {
        if std::mem::replace(&mut self.failed, true) {
            return;
        }
        tracing::error!(
            shard = self.id.0,
            panics = self.panics,
            connections = self.table.len(),
            "this shard panicked too often: all its connections are closed and nobody is placed on it; restart the server"
        );
        self.common.placement.fail(self.id);
        let _ = self.common.events.send(ServerEvent::ShardFailed { shard: self.id.0 });
        self.table.clear();
        self.dirty.clear();
        self.gated.clear();
    }

    /// Gate, write, post, and once a second a look around.
    fn end_of_turn(&mut self) {
        // Closing a connection is an input too, whose effects want to be written.
        for _ in 0..SETTLING_ROUNDS {
            self.journal_gate();
            self.flush_dirty();
            self.see_off();
            if self.dirty.is_empty() && self.facts.is_empty() {
                break;
            }
        }
        // No letter leaves before the journal has it.
        self.journal_gate();
        for (answer, closed) in self.answers.drain(..) {
            // Nobody may be waiting any more.
            let _ = answer.send(closed);
        }
        self.throttled = self.post.post() || self.crowded || (self.throttled && self.post.is_full());
        self.hushes.clear();
        let end = Instant::now();
        self.worked += end.saturating_duration_since(self.now);
        if end >= self.next_look {
            self.look_around(end);
        }
    }

    /// Once a second while there is something to look at.
    fn look_around(&mut self, now: Instant) {
        let second = now.saturating_duration_since(self.next_look) + LOOK_EVERY;
        let thousandths = self.worked.as_micros() * 1000 / second.as_micros().max(1);
        self.next_look = now + LOOK_EVERY;
        self.common.placement.report(self.id, u32::try_from(thousandths).unwrap_or(1000).min(1000));
        self.worked = Duration::ZERO;
        self.log = tracing::enabled!(target: crate::log::CONNECTION, tracing::Level::INFO);
        self.verbose = say::is_wanted();
        self.close_stalled(now);
    }
}

/// How often load is told and slow peers are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Closing connections may make others dirty, which closes more; what is left after this many rounds has the next turn.
const SETTLING_ROUNDS: u32 = 8;
