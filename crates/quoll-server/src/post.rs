//! Mail to shard threads: letters between shards, and everything that other threads want of one.
//!
//! A vector behind a mutex per shard, swapped whole. Letters are posted once per turn and target; the target is woken
//! only if it said that it sleeps (`coat.md` §8 rule 8).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use quoll_broker::vocabulary::{Admission, Letter, Order, ShardId};
use quoll_broker::{Grants, Message};
use quoll_mqtt::TopicFilter;
use quoll_mqtt::packet::Connect;
use tokio::sync::{mpsc, oneshot};

use crate::authentication::Agreed;
use crate::config::Listener;
use crate::events::{ConnectionInfo, Stats};
use crate::journal::transit::LetterKey;
use crate::limits::FULL_BOX;
use crate::listener::Seat;
use crate::sessions::{Subscriber, Wanted};
use crate::tls::record::Tls;
use crate::websocket::WebSocket;

/// Where a letter goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum To {
    /// One shard of this node.
    Shard(ShardId),
    /// Every other shard.
    Everyone,
}

/// Brings letters to shards. On one machine they are moved between threads; a cluster would write them to a stream.
pub trait Post {
    /// Puts a letter on its way. Letters of one sender to one shard arrive in order.
    fn send(&mut self, to: To, letter: Letter);
}

/// Something for a shard thread.
pub(crate) enum Mail {
    Letter(Letter),
    /// One that the journal knows of, until this shard's facts about it are kept.
    Kept(LetterKey, Letter),
    Newcomer(Box<Newcomer>),
    Inhabitant(Box<Inhabitant>),
    /// With how many connections it closed as the answer.
    Order(Order, Option<oneshot::Sender<usize>>),
    Snapshot(oneshot::Sender<(Vec<ConnectionInfo>, Stats)>),
    Sessions(oneshot::Sender<Vec<Subscriber>>),
    /// Whose sessions are wanted: client identifier and identity of each.
    ClientsOf(Wanted, oneshot::Sender<Vec<(Arc<str>, Arc<str>)>>),
    /// The session of this client.
    Session(Arc<str>, oneshot::Sender<Option<Subscriber>>),
    Stats(oneshot::Sender<Stats>),
    /// Ends those whose certificate their listener's identity says is revoked. With how many connections as the answer.
    Vet(oneshot::Sender<usize>),
    Attach(Box<Attachment>),
    /// Leave sockets unread until the end. Said back, by dropping it, once all letters of that turn are posted.
    Hush(std::sync::mpsc::Sender<()>),
    /// Finish: all clients are told and closed; what is left at this time is cut.
    Stop(Instant),
}

/// A client that was let in, on its way from the arrivals to its shard.
pub(crate) struct Newcomer {
    pub(crate) socket: std::net::TcpStream,
    pub(crate) tls: Option<Box<Tls>>,
    pub(crate) web: Option<Box<WebSocket>>,
    /// What holds for its listener's clients.
    pub(crate) settings: Arc<Listener>,
    /// Plaintext that came behind CONNECT.
    pub(crate) plain: Vec<u8>,
    pub(crate) connect: Connect,
    pub(crate) admission: Admission,
    /// Whether CONNACK has to tell the client identifier, since the client gave none [MQTT-3.2.2-16].
    pub(crate) assigned: bool,
    /// How it was authenticated, where that was a dialogue.
    pub(crate) agreed: Option<Box<Agreed>>,
    pub(crate) peer: SocketAddr,
    pub(crate) seat: Seat,
    /// What its certificate is revoked by.
    pub(crate) credential: Option<[u8; 32]>,
}

/// A client of this process with a session of its own, as a bridge's local half is: it came by no listener.
pub(crate) struct Inhabitant {
    pub(crate) socket: std::net::TcpStream,
    pub(crate) connect: Connect,
    pub(crate) admission: Admission,
}

/// A subscriber inside this process.
pub(crate) struct Attachment {
    pub(crate) client_id: Arc<str>,
    pub(crate) grants: Arc<Grants>,
    pub(crate) filters: Vec<TopicFilter>,
    pub(crate) messages: mpsc::Sender<Arc<Message>>,
}

/// A shard's letter box.
pub(crate) struct Inbox {
    mail: Mutex<Vec<Mail>>,
    sleeping: AtomicBool,
    waker: mio::Waker,
}

impl Inbox {
    pub(crate) fn new(waker: mio::Waker) -> Self {
        Self { mail: Mutex::default(), sleeping: AtomicBool::new(false), waker }
    }

    /// Puts in one piece.
    pub(crate) fn put(&self, mail: Mail) {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner).push(mail);
        self.wake();
    }

    /// Puts in many, and answers how many lie there now.
    fn put_all(&self, batch: &mut Vec<Mail>) -> usize {
        let lying = {
            let mut mail = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
            mail.append(batch);
            mail.len()
        };
        self.wake();
        lying
    }

    /// Swaps the content for an empty vector.
    pub(crate) fn take(&self, into: &mut Vec<Mail>) {
        std::mem::swap(&mut *self.mail.lock().unwrap_or_else(PoisonError::into_inner), into);
    }

    fn len(&self) -> usize {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Wakes the shard if it sleeps.
    pub(crate) fn wake(&self) {
        if self.sleeping.swap(false, Ordering::SeqCst)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "a shard cannot be woken");
        }
    }

    /// Says that the shard goes to sleep; `false` where there is mail, so that it must not.
    pub(crate) fn may_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::SeqCst);
        let empty = self.len() == 0;
        if !empty {
            self.sleeping.store(false, Ordering::SeqCst);
        }
        empty
    }

    /// Says that the shard is awake.
    pub(crate) fn awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }
}

/// One shard's outgoing letters, gathered until the end of its turn.
pub(crate) struct Outgoing {
    own: ShardId,
    boxes: Arc<[Inbox]>,
    batches: Vec<Vec<Mail>>,
    waiting: bool,
}

impl Outgoing {
    pub(crate) fn new(own: ShardId, boxes: Arc<[Inbox]>) -> Self {
        let batches = boxes.iter().map(|_| Vec::new()).collect();
        Self { own, boxes, batches, waiting: false }
    }

    /// As [`Post::send`], of a letter that the journal knows of.
    pub(crate) fn send_kept(&mut self, key: LetterKey, letter: Letter) {
        if let Some(batch) = self.batches.get_mut(usize::from(key.to.0)) {
            self.waiting = true;
            batch.push(Mail::Kept(key, letter));
        }
    }

    /// Posts what was gathered. Answers whether some box is full, so that this shard should read less.
    pub(crate) fn post(&mut self) -> bool {
        if !std::mem::take(&mut self.waiting) {
            return false;
        }
        let mut full = false;
        for (inbox, batch) in self.boxes.iter().zip(&mut self.batches) {
            if !batch.is_empty() {
                full |= inbox.put_all(batch) > FULL_BOX;
            }
        }
        full
    }

    /// Whether some box is full.
    pub(crate) fn is_full(&self) -> bool {
        let own = usize::from(self.own.0);
        self.boxes.iter().enumerate().any(|(shard, inbox)| shard != own && inbox.len() > FULL_BOX)
    }
}

impl Post for Outgoing {
    fn send(&mut self, to: To, letter: Letter) {
        self.waiting = true;
        match to {
            To::Shard(shard) => {
                if let Some(batch) = self.batches.get_mut(usize::from(shard.0)) {
                    batch.push(Mail::Letter(letter));
                }
            }
            To::Everyone => {
                for (shard, batch) in self.batches.iter_mut().enumerate() {
                    if shard != usize::from(self.own.0) {
                        batch.push(Mail::Letter(letter.clone()));
                    }
                }
            }
        }
    }
}
