//! Everything that can happen to a shard, and everything that it can want done. Read this first.
//!
//! A shard is a pure state machine: [`Input`] in, [`Effect`]s out, in order. The coat around it (`quoll-server`) owns
//! sockets, clocks, disks and threads, and does what the effects say. After each input the effects are carried out
//! completely before the next goes in.

use std::num::NonZeroU16;
use std::sync::Arc;

use quoll_mqtt::packet::{Connect, Packet};
use quoll_mqtt::{DecodeError, Delivery, ProtocolVersion, ReasonCode};

use crate::access::Grants;
use crate::change::{Change, Parcel};
use crate::message::Message;
use crate::settings::ShardSettings;

/// A connection on this shard's thread. The coat chooses the number, small and dense; the generation tells a reused
/// number from its predecessor.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnId {
    /// Place in the coat's table.
    pub index: u32,
    /// How often the place has been given away.
    pub generation: u32,
}

/// A shard, counted from 0.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ShardId(pub u16);

/// What a certificate or a password proved about a peer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The name that permissions and logs use; empty for an anonymous peer.
    pub name: Arc<str>,
    /// What proved it, as an opaque mark to expel by: for a certificate the digest of issuer and serial number.
    pub credential: Option<[u8; 32]>,
}

/// What the doorkeeper granted a CONNECT.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Who it is.
    pub identity: Identity,
    /// What it may do.
    pub grants: Arc<Grants>,
    /// A client identifier to use in place of the one in CONNECT (`use_username_as_clientid`).
    pub client_id: Option<Arc<str>>,
}

/// A CONNECT that was let in.
#[derive(Debug)]
pub struct Arrival {
    /// Its connection.
    pub conn: ConnId,
    /// The packet.
    pub connect: Connect,
    /// What the doorkeeper said.
    pub admission: Admission,
}

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// A CONNECT was let in; the connection is on this thread from now on.
    Connect(Box<Arrival>),
    /// A packet came; never CONNECT as the first one, which is [`Input::Connect`].
    Packet(ConnId, Packet),
    /// Bytes came that are no packet. The connection is closed with the error's reason.
    Malformed(ConnId, DecodeError),
    /// The socket is closed, whoever closed it. Also after [`Effect::Close`] was carried out.
    Gone(ConnId),
    /// The peer takes bytes more slowly than we have them (`true`), or has caught up (`false`). While it lasts, QoS 0
    /// messages to it are dropped and counted.
    Congested(ConnId, bool),
    /// Mail from a shard, this one included: see [`Effect::Route`].
    Letter(Letter),
    /// A fact from the journal, at start.
    Recall(Change),
    /// The operator, or the device wing, wants something.
    Order(Order),
}

/// Something to do.
#[derive(Debug)]
pub enum Effect {
    /// Write a packet; PUBLISH comes as [`Effect::Deliver`].
    Send(ConnId, Packet),
    /// Write a PUBLISH.
    Deliver(ConnId, Outgoing),
    /// Write what is owed, tell a 5.0 peer why, close. [`Input::Gone`] follows.
    Close(ConnId, Farewell),
    /// Bring the message to every shard whose sessions may want it. This shard is one addressee among others: on one
    /// machine it receives it back at once, as [`Letter::Message`].
    Route(Arc<Message>),
    /// Bring a letter to one shard.
    Mail(ShardId, Letter),
    /// A client may and does publish to `$CONTROL/…`: words for the server itself, which no other client gets and nothing
    /// keeps.
    Control(ConnId, Arc<Message>),
    /// A fact that must survive a restart. What follows it in the outbox may promise it to a peer, so it waits until
    /// the fact is as durable as the settings ask.
    Keep(Change),
    /// Tell whoever listens: logs, `$SYS`, presence, dashboard.
    Tell(Event),
}

/// A PUBLISH to write.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The message.
    pub message: Arc<Message>,
    /// Level and packet identifier of this delivery.
    pub delivery: Delivery,
    /// DUP.
    pub dup: bool,
    /// RETAIN as this subscriber sees it (§3.3.1.3).
    pub retain: bool,
    /// What only a 5.0 peer gets, and only some.
    pub extras: Option<Box<OutgoingExtras>>,
}

/// 5.0 properties of one delivery.
#[derive(Clone, Debug, Default)]
pub struct OutgoingExtras {
    /// Identifiers of the subscriptions that match (§3.3.2.3.8).
    pub subscription_identifiers: Vec<u32>,
    /// A topic alias to use; `true` where the peer knows it already, so that the topic stays empty.
    pub alias: Option<(NonZeroU16, bool)>,
    /// Message Expiry Interval left, in seconds (§3.3.2.3.3).
    pub expiry: Option<u32>,
}

/// How a connection ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Farewell {
    /// Close without a word: the peer said DISCONNECT, or speaks 3.x.
    Silent,
    /// DISCONNECT with this reason, to a 5.0 peer (§3.14); 3.x: close.
    Disconnect(ReasonCode),
    /// CONNACK with this reason, then close (§3.2.2.2).
    Refuse(ReasonCode),
}

/// Mail between shards. A new kind or field needs a new version in its encoding.
#[derive(Clone, Debug)]
pub enum Letter {
    /// A message for the sessions here whose subscriptions match.
    Message(Arc<Message>),
    /// A message for one member of a shared subscription, chosen by the shard of the group's name (§4.8.2).
    Chosen {
        /// Client identifier of the member.
        client_id: Arc<str>,
        /// The group's filter, `$share/…` included.
        filter: Arc<str>,
        /// The message.
        message: Arc<Message>,
        /// How many members it was offered to, this one included.
        offers: u16,
        /// Whether this member may pass it over: another one may have room. Else it takes it, or it is lost.
        may_pass: bool,
    },
    /// A member chosen on another shard has no room for the message, or may not receive it: another one is to have it.
    Passed {
        /// Client identifier of the member.
        client_id: Arc<str>,
        /// The group's filter, `$share/…` included.
        filter: Arc<str>,
        /// The message.
        message: Arc<Message>,
        /// As in [`Letter::Chosen`].
        offers: u16,
        /// Whether it has no room: it says [`Letter::Joined`] once more when it has.
        is_full: bool,
    },
    /// A member of a shared subscription joined on another shard, came back, went away with its session left, or has room again.
    Joined {
        /// The member's shard.
        shard: ShardId,
        /// Client identifier of the member.
        client_id: Arc<str>,
        /// The group's filter, `$share/…` included.
        filter: Arc<str>,
        /// Whether a connection belongs to its session: such members are chosen first.
        connected: bool,
    },
    /// A member left; or, from the group's shard, there is no place for it.
    Left {
        /// Client identifier of the member.
        client_id: Arc<str>,
        /// The group's filter, `$share/…` included.
        filter: Arc<str>,
    },
    /// Whoever sent letters of members wants to hear when they are dealt with, to answer its SUBSCRIBE not before.
    Asked {
        /// The shard that wants to hear.
        shard: ShardId,
        /// Its number for what it waits with.
        ticket: u64,
    },
    /// All letters before the one with this number are dealt with.
    Answered {
        /// The number.
        ticket: u64,
    },
    /// A message that a member of a shared subscription never acknowledged; its session is over and another member is
    /// to have it (§4.8.2).
    Returned {
        /// The delivery; its `shared` names the group.
        parcel: Box<Parcel>,
    },
}

/// What the operator or the device wing wants.
#[derive(Clone, Debug)]
pub enum Order {
    /// End the connections and sessions of this credential: it is revoked. The will is published by the usual rule.
    Expel {
        /// The credential, as in [`Identity::credential`].
        credential: [u8; 32],
        /// What a 5.0 peer is told.
        reason: ReasonCode,
    },
    /// End the connection of a client; its session stays.
    Disconnect {
        /// Client identifier.
        client_id: Arc<str>,
        /// What a 5.0 peer is told.
        reason: ReasonCode,
    },
    /// End the connections of an identity without their wills; the sessions stay. What Mosquitto's dynamic security does
    /// to those whose permissions change.
    Kick {
        /// The identity's name; empty for anonymous clients.
        identity: Arc<str>,
        /// Of its clients this one alone.
        client_id: Option<Arc<str>>,
        /// What a 5.0 peer is told.
        reason: ReasonCode,
    },
    /// From now on these settings hold. What was agreed with those who are connected goes on until they connect again.
    Settings(Box<ShardSettings>),
    /// From now on sessions of this identity may do this.
    Regrant {
        /// The identity's name.
        identity: Arc<str>,
        /// What it may do.
        grants: Arc<Grants>,
    },
    /// From now on the session of this client may do this, if it is still this identity's: permissions that depend on
    /// the client identifier (`%c` of Mosquitto's access list).
    RegrantClient {
        /// Client identifier.
        client_id: Arc<str>,
        /// The identity's name.
        identity: Arc<str>,
        /// What it may do.
        grants: Arc<Grants>,
    },
    /// Tell all 5.0 peers `Server shutting down` and close; no wills.
    ShutDown,
}

/// What happened, for those who watch.
#[derive(Clone, Debug)]
pub enum Event {
    /// A client is connected.
    Connected {
        /// Connection.
        conn: ConnId,
        /// Client identifier.
        client_id: Arc<str>,
        /// Who it is.
        identity: Identity,
        /// Protocol version.
        version: ProtocolVersion,
        /// Keep alive in force, in seconds.
        keep_alive: u16,
        /// Whether an old session went on.
        session_present: bool,
    },
    /// A CONNECT was refused by the rules.
    Refused {
        /// Connection.
        conn: ConnId,
        /// Client identifier.
        client_id: Arc<str>,
        /// Why.
        reason: ReasonCode,
    },
    /// A client is gone.
    Disconnected {
        /// Connection.
        conn: ConnId,
        /// Client identifier.
        client_id: Arc<str>,
        /// Who it was.
        identity: Identity,
        /// How it ended.
        how: Departure,
    },
    /// The time of a session without a connection is over: it ends.
    Expired {
        /// Client identifier.
        client_id: Arc<str>,
    },
    /// A session ended: nothing of it is kept.
    SessionEnded {
        /// Client identifier.
        client_id: Arc<str>,
    },
    /// A client subscribed.
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
        /// Name of its identity.
        identity: Arc<str>,
        /// What it did.
        act: Act,
        /// The topic, or of a SUBSCRIBE the filter.
        topic: Arc<str>,
        /// Whether it was refused; lenient grants let it through.
        refused: bool,
    },
    /// Messages to a client were dropped: its queue is full, it is too slow, or the packet is too large for it.
    Dropped {
        /// Client identifier.
        client_id: Arc<str>,
        /// How many since the last time this was told.
        count: u64,
    },
}

/// What grants are about.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Act {
    /// PUBLISH, or a will.
    Publish,
    /// SUBSCRIBE.
    Subscribe,
}

/// How a connection ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Departure {
    /// The client said DISCONNECT.
    Disconnect(ReasonCode),
    /// The socket closed without one.
    Lost,
    /// The client was silent for 1.5 times its keep alive [MQTT-3.1.2-22].
    KeepAlive,
    /// Another connection took over the session [MQTT-3.1.4-3].
    TakenOver,
    /// The client broke the protocol.
    Error(DecodeError),
    /// We closed it: an order, a rule, the end of the server.
    Closed(ReasonCode),
}

/// Effects, in the order in which they are to be done.
pub type Outbox = Vec<Effect>;
