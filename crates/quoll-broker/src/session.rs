//! A session: what the broker knows of one client, from its first CONNECT until nothing of it is kept (§4.1).
//!
//! A noun: the verbs are in `connect`, `publish`, `subscribe` and `deliver`. What few sessions have is boxed, since there are many sessions.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use quoll_mqtt::packet::SubscriptionOptions;
use quoll_mqtt::{PacketId, ProtocolVersion, TopicFilter};

use crate::access::Grants;
use crate::alias::Extraordinary;
use crate::change::{Change, SessionRecord};
use crate::deadline::NEVER;
use crate::incoming::Incoming;
use crate::inflight::Inflight;
use crate::message::Message;
use crate::moment::Moment;
use crate::queue::Queue;
use crate::replay::Replay;
use crate::vocabulary::{Act, ConnId, Event, Identity};
use crate::will::LastWord;

/// Session Expiry Interval of a session that never expires (§3.1.2.11.2).
pub(crate) const NEVER_EXPIRES: u32 = u32::MAX;

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client_id: Arc<str>,
    pub(crate) identity: Identity,
    pub(crate) grants: Arc<Grants>,
    /// The connection that belongs to it now.
    pub(crate) conn: Option<ConnId>,
    pub(crate) version: ProtocolVersion,
    /// The peer takes bytes too slowly: QoS 0 is dropped.
    pub(crate) is_congested: bool,
    /// Another shard's group knows that it had no room for a message, and is to hear when it has.
    pub(crate) is_passed_over: bool,
    /// A bridge of 3.x (`try_private`): its subscriptions are No Local and Retain As Published.
    pub(crate) is_bridge: bool,
    /// Keep alive in force, in seconds; 0 for none.
    pub(crate) keep_alive: u16,
    /// Messages that may be under way to the client.
    pub(crate) window: u16,
    /// Payload bytes of them from which on no further one is sent.
    pub(crate) window_bytes: u32,
    /// Seconds to live without a connection.
    pub(crate) expiry: u32,
    /// When the last packet came; without a connection: since when there is none.
    pub(crate) heard: Moment,
    /// Its entry among the due dates.
    pub(crate) watched: Moment,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) inflight: Inflight,
    pub(crate) queue: Queue,
    /// Number of the next delivery.
    pub(crate) next_place: u64,
    /// QoS 2 messages that came and were not released.
    pub(crate) incoming: Incoming,
    pub(crate) last_word: Option<Box<LastWord>>,
    /// Whether the journal has its will.
    pub(crate) is_will_lodged: bool,
    pub(crate) extraordinary: Option<Box<Extraordinary>>,
    pub(crate) replay: Option<Box<Replay>>,
    /// Deliveries dropped since that was last told, and when it was.
    pub(crate) dropped: u32,
    pub(crate) dropped_told: Moment,
}

impl Session {
    pub(crate) fn new(client_id: Arc<str>, identity: Identity, grants: Arc<Grants>, now: Moment) -> Self {
        Self {
            client_id,
            identity,
            grants,
            conn: None,
            version: ProtocolVersion::V311,
            is_congested: false,
            is_passed_over: false,
            is_bridge: false,
            keep_alive: 0,
            window: 1,
            window_bytes: u32::MAX,
            expiry: 0,
            heard: now,
            watched: NEVER,
            subscriptions: Subscriptions::default(),
            inflight: Inflight::default(),
            queue: Queue::default(),
            next_place: 0,
            incoming: Incoming::default(),
            last_word: None,
            is_will_lodged: false,
            extraordinary: None,
            replay: None,
            dropped: 0,
            dropped_told: Moment(0),
        }
    }

    /// Whether it outlives its connection, so that the journal must know it.
    pub(crate) const fn is_kept(&self) -> bool {
        self.expiry > 0
    }

    /// Whether one more QoS 1 or 2 message may be under way.
    #[inline]
    pub(crate) const fn may_send(&self) -> bool {
        self.inflight.under_way() < self.window && self.inflight.bytes() < self.window_bytes as u64
    }

    /// Whether a QoS 1 or 2 message would be sent now, not queued.
    #[inline]
    pub(crate) fn sends_at_once(&self) -> bool {
        self.conn.is_some() && self.queue.is_empty() && !self.inflight.owes() && self.may_send()
    }

    /// Whether the same peer owns it: by name, so that a renewed certificate is the same peer; without a name, by
    /// what proved it, which for anonymous peers is nothing.
    pub(crate) fn belongs_to(&self, identity: &Identity) -> bool {
        self.identity.name == identity.name
            && (!identity.name.is_empty() || self.identity.credential == identity.credential)
    }

    /// What is told where it does what its grants do not allow.
    pub(crate) fn overstepped(&self, act: Act, topic: &str, refused: bool) -> Event {
        let (client_id, identity) = (self.client_id.clone(), self.identity.name.clone());
        Event::Denied { client_id, identity, act, topic: topic.into(), refused }
    }

    /// The fact about the session itself.
    pub(crate) fn fact(&self) -> Change {
        let record = SessionRecord {
            identity: self.identity.clone(),
            expiry: self.expiry,
            absent_since: if self.conn.is_some() { None } else { Some(self.heard) },
        };
        Change::Session { client_id: self.client_id.clone(), record }
    }

    /// The fact about a QoS 2 message that came and was not released.
    pub(crate) fn came(&self, packet_id: PacketId, held: Option<&Arc<Message>>) -> Change {
        let client_id = self.client_id.clone();
        match held.cloned() {
            Some(message) => Change::Held { client_id, packet_id, message },
            None => Change::Incoming { client_id, packet_id },
        }
    }

    /// When something of it is due: 1.5 keep alives of silence [MQTT-3.1.2-22], more of a replay; the will, the end.
    pub(crate) fn next_due(&self) -> Moment {
        if self.conn.is_some() {
            return self.silent_too_long_at().min(self.replay_goes_on_at());
        }
        let will = self.last_word.as_ref().and_then(|word| word.due).unwrap_or(NEVER);
        will.min(self.ends_at())
    }

    /// When its client has been silent for 1.5 times its keep alive.
    pub(crate) const fn silent_too_long_at(&self) -> Moment {
        match self.keep_alive {
            0 => NEVER,
            seconds => self.heard.after_millis(seconds as u64 * 1500),
        }
    }

    /// When it expires, if no connection comes.
    pub(crate) const fn ends_at(&self) -> Moment {
        if self.expiry == NEVER_EXPIRES { NEVER } else { self.heard.after_seconds(self.expiry) }
    }
}

/// One subscription, as the session remembers it.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) filter: TopicFilter,
    pub(crate) options: SubscriptionOptions,
    /// Subscription identifier; 0 for none.
    pub(crate) identifier: u32,
}

impl Own {
    /// The fact that a client has it.
    pub(crate) fn fact(&self, client_id: Arc<str>) -> Change {
        let Self { filter, options, identifier } = self.clone();
        Change::Subscribed { client_id, filter, options, identifier }
    }
}

/// The subscriptions of a session: a list, with an index once looking through it would show.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    list: Vec<Own>,
    index: Option<Box<Index>>,
}

/// What is worth its room once there are more than a few.
#[derive(Debug)]
struct Index {
    /// Filter → place in the list.
    places: HashMap<TopicFilter, u32, RandomState>,
    /// Bytes of all filters.
    bytes: usize,
}

/// From here on an index pays. Devices have two or three.
const FEW: usize = 16;

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Own> {
        self.list.iter()
    }

    pub(crate) fn find(&self, filter: &TopicFilter) -> Option<&Own> {
        self.place(filter).map(|at| &self.list[at])
    }

    /// Bytes of all filters.
    pub(crate) fn bytes(&self) -> usize {
        match &self.index {
            Some(index) => index.bytes,
            None => self.list.iter().map(|own| own.filter.as_str().len()).sum(),
        }
    }

    /// Adds it or replaces the one with the same filter; whether it is new [MQTT-3.8.4-3].
    /// The index hashes by `seed`, since the filters are the peer's choice.
    pub(crate) fn put(&mut self, own: Own, seed: u64) -> bool {
        if let Some(at) = self.place(&own.filter) {
            self.list[at] = own;
            return false;
        }
        let at = u32::try_from(self.list.len()).expect("bounded by the settings");
        if let Some(index) = &mut self.index {
            index.bytes += own.filter.as_str().len();
            index.places.insert(own.filter.clone(), at);
        }
        self.list.push(own);
        if self.index.is_none() && self.list.len() > FEW {
            let state = RandomState::with_seeds(seed, 5, !seed, 6);
            let mut places = HashMap::with_hasher(state);
            places.extend(self.list.iter().zip(0..).map(|(own, at)| (own.filter.clone(), at)));
            self.index = Some(Box::new(Index { places, bytes: self.bytes() }));
        }
        true
    }

    pub(crate) fn take(&mut self, filter: &TopicFilter) -> Option<Own> {
        let at = self.place(filter)?;
        let own = self.list.swap_remove(at);
        if let Some(index) = &mut self.index {
            index.bytes -= filter.as_str().len();
            index.places.remove(filter);
            if let Some(moved) = self.list.get(at) {
                index
                    .places
                    .insert(moved.filter.clone(), u32::try_from(at).expect("bounded by the settings"));
            }
        }
        Some(own)
    }

    fn place(&self, filter: &TopicFilter) -> Option<usize> {
        match &self.index {
            Some(index) => index.places.get(filter).map(|at| *at as usize),
            None => self.list.iter().position(|own| own.filter == *filter),
        }
    }
}
