//! The client's side of the protocol as a machine without I/O: bridges, the command line, the virtual device and tests
//! drive it.
//!
//! Whoever owns it opens a connection, calls [`Client::connect`], sends what is in `out` after each call, hands all bytes
//! that arrive to [`Client::receive`], and calls [`Client::tick`] at [`Client::next_deadline`]. Messages are acknowledged as
//! they arrive; those of ours that wait for an answer are sent again after a reconnect (§4.4).
//!
//! It knows no socket and no clock: `now` is an argument.

mod options;
mod pending;
mod receive;

use std::collections::HashSet;
use std::time::{Duration, Instant};

pub use options::{ClientError, ClientOptions, Event, Message};
use pending::{Pending, Request};

use crate::encode::{encode, publish_flags, publish_frame};
use crate::limits::{ANSWER_PATIENCE, CLIENT_REQUESTS};
use crate::packet::{
    Auth, ConnAckProperties, Disconnect, PacketKind, Subscribe, SubscribeProperties, Subscription,
    Unsubscribe,
};
use crate::{
    DecodeError, EncodeError, Packet, PacketId, ProtocolVersion, QoS, ReasonCode, TopicFilter, TopicName,
};

/// One client, over as many connections as it takes.
#[derive(Debug)]
pub struct Client {
    options: ClientOptions,
    stage: Stage,
    /// The start of a packet whose rest has not arrived; at most one packet.
    unfinished: Vec<u8>,
    pending: Pending,
    /// Packet identifiers of messages of QoS 2 that the server has not released yet.
    received: HashSet<PacketId>,
    /// Topics behind the server's aliases; index 0 is alias 1.
    aliases: Vec<Option<TopicName>>,
    /// What the server allows.
    allowed: ConnAckProperties,
    last_sent: Option<Instant>,
    /// When an answer to CONNECT or PINGREQ is overdue.
    answer_due: Option<Instant>,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// None, or over.
    Closed,
    /// CONNECT is sent.
    Connecting,
    /// CONNACK let us in.
    Connected,
}

impl Client {
    /// A client that is not connected.
    #[must_use]
    pub fn new(options: ClientOptions) -> Self {
        Self {
            options,
            stage: Stage::Closed,
            unfinished: Vec::new(),
            pending: Pending::default(),
            received: HashSet::new(),
            aliases: Vec::new(),
            allowed: ConnAckProperties::default(),
            last_sent: None,
            answer_due: None,
        }
    }

    /// Its options; the client identifier is the assigned one, once a server has assigned one (§3.2.2.3.7).
    #[must_use]
    pub const fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// Whether the server has let us in and the connection is not over.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.stage == Stage::Connected
    }

    /// How many requests wait for an answer.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.pending.len()
    }

    /// Begins a connection: CONNECT (§3.1). May be called again whenever an earlier connection is over.
    ///
    /// # Errors
    /// Where the options cannot be written; the client is then as it was.
    pub fn connect(&mut self, now: Instant, out: &mut Vec<u8>) -> Result<(), ClientError> {
        encode(&Packet::Connect(Box::new(self.options.connect())), self.options.version, out)?;
        self.stage = Stage::Connecting;
        self.unfinished.clear();
        self.aliases.clear();
        self.allowed = ConnAckProperties::default();
        self.last_sent = Some(now);
        self.answer_due = Some(now + ANSWER_PATIENCE);
        Ok(())
    }

    /// Takes bytes from the server; adds what happened to `events` and what is to be sent to `out`. Bytes after the end of
    /// a connection are ignored.
    ///
    /// # Errors
    /// Where the server breaks the standard. The connection is then over; `events` has what came before, and in 5.0 `out`
    /// ends with a DISCONNECT that tells why (§4.13).
    pub fn receive(
        &mut self,
        bytes: &[u8],
        now: Instant,
        events: &mut Vec<Event>,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        let before = out.len();
        let result = self.receive_all(bytes, events, out);
        if let Err(error) = &result
            && self.stage != Stage::Closed
        {
            self.farewell(error.reason(), out);
        }
        if out.len() > before {
            self.last_sent = Some(now);
        }
        result
    }

    /// Publishes a message (§3.3). The answer is for QoS 1 and 2 a later [`Event::Published`] with the packet identifier
    /// returned here; QoS 0 has neither.
    ///
    /// # Errors
    /// Where there is no connection, where the server does not take such a message, or too many are under way.
    pub fn publish(
        &mut self,
        message: &Message,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<Option<PacketId>, ClientError> {
        self.check_connected()?;
        self.check_message(message)?;
        if message.qos == QoS::AtMostOnce {
            self.write_message(message, None, false, out)?;
            self.last_sent = Some(now);
            return Ok(None);
        }
        self.check_room()?;
        let limit = self.receive_maximum();
        if self.pending.messages() >= limit {
            return Err(ClientError::Busy { limit });
        }
        let id = self.pending.free_id();
        self.write_message(message, Some(id), false, out)?;
        self.pending.push(id, Request::Publish(message.clone()));
        self.last_sent = Some(now);
        Ok(Some(id))
    }

    /// Subscribes (§3.8); the answer is an [`Event::Subscribed`].
    ///
    /// # Errors
    /// Where there is no connection, no subscription, or too many requests are under way.
    pub fn subscribe(
        &mut self,
        subscriptions: Vec<Subscription>,
        properties: SubscribeProperties,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<PacketId, ClientError> {
        self.check_connected()?;
        self.check_room()?;
        let packet_id = self.pending.free_id();
        let packet = Subscribe { packet_id, subscriptions, properties };
        self.write(&Packet::Subscribe(Box::new(packet)), now, out)?;
        self.pending.push(packet_id, Request::Subscribe);
        Ok(packet_id)
    }

    /// Unsubscribes (§3.10); the answer is an [`Event::Unsubscribed`].
    ///
    /// # Errors
    /// Where there is no connection, no filter, or too many requests are under way.
    pub fn unsubscribe(
        &mut self,
        filters: Vec<TopicFilter>,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<PacketId, ClientError> {
        self.check_connected()?;
        self.check_room()?;
        let packet_id = self.pending.free_id();
        let packet = Unsubscribe { packet_id, filters, user_properties: Vec::new() };
        self.write(&Packet::Unsubscribe(Box::new(packet)), now, out)?;
        self.pending.push(packet_id, Request::Unsubscribe);
        Ok(packet_id)
    }

    /// Sends a step of enhanced authentication (§4.12), while connecting or later.
    ///
    /// # Errors
    /// Where there is no connection, or below 5.0.
    pub fn authenticate(&mut self, auth: Auth, now: Instant, out: &mut Vec<u8>) -> Result<(), ClientError> {
        if self.stage == Stage::Closed {
            return Err(ClientError::NotConnected);
        }
        self.write(&Packet::Auth(Box::new(auth)), now, out)
    }

    /// Ends the connection: DISCONNECT (§3.14). Below 5.0 the reason does not travel. Nothing happens where there is no
    /// connection.
    pub fn disconnect(&mut self, reason: ReasonCode, out: &mut Vec<u8>) {
        if self.stage == Stage::Closed {
            return;
        }
        // A bare DISCONNECT has no field that could be too long.
        let _ = encode(&Packet::Disconnect(Box::new(Disconnect::new(reason))), self.options.version, out);
        self.connection_lost();
    }

    /// Takes note that the connection is over without a word. What waits for an answer stays, for the next one.
    pub fn connection_lost(&mut self) {
        self.stage = Stage::Closed;
        self.unfinished = Vec::new();
        self.last_sent = None;
        self.answer_due = None;
    }

    /// When [`Self::tick`] has something to do, if ever.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.answer_due {
            Some(due) => Some(due),
            None => self.ping_due(),
        }
    }

    /// Does what is due: PINGREQ when nothing has been sent for three quarters of the keep alive, so that it is kept even
    /// over a slow line [MQTT-3.1.2-20]; the end of the connection when an answer is overdue.
    #[must_use]
    pub fn tick(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Event> {
        if self.answer_due.is_some_and(|due| now >= due) {
            self.connection_lost();
            return Some(Event::Silent);
        }
        if self.answer_due.is_none() && self.ping_due().is_some_and(|due| now >= due) {
            self.ping(now, out);
        }
        None
    }

    /// Sends a PINGREQ now (§3.12), answered by [`Event::Alive`]. Nothing happens where there is no connection.
    pub fn ping(&mut self, now: Instant, out: &mut Vec<u8>) {
        if self.stage != Stage::Connected {
            return;
        }
        out.extend_from_slice(&[PacketKind::PingReq.first_byte(), 0]);
        self.last_sent = Some(now);
        self.answer_due.get_or_insert(now + ANSWER_PATIENCE);
    }

    fn ping_due(&self) -> Option<Instant> {
        let seconds = self.allowed.server_keep_alive.unwrap_or(self.options.keep_alive);
        match (self.stage, self.last_sent) {
            (Stage::Connected, Some(sent)) if seconds > 0 => {
                Some(sent + Duration::from_millis(u64::from(seconds) * 750))
            }
            _ => None,
        }
    }

    /// How many messages of QoS 1 and 2 the server takes at once (§3.2.2.3.3).
    fn receive_maximum(&self) -> usize {
        usize::from(self.allowed.receive_maximum.unwrap_or(u16::MAX))
    }

    fn check_connected(&self) -> Result<(), ClientError> {
        if self.stage == Stage::Connected { Ok(()) } else { Err(ClientError::NotConnected) }
    }

    fn check_room(&self) -> Result<(), ClientError> {
        if self.pending.len() < CLIENT_REQUESTS {
            Ok(())
        } else {
            Err(ClientError::Busy { limit: CLIENT_REQUESTS })
        }
    }

    fn check_message(&self, message: &Message) -> Result<(), ClientError> {
        let maximum = self.allowed.maximum_qos.unwrap_or(QoS::ExactlyOnce);
        if message.qos > maximum {
            return Err(ClientError::QoS { maximum });
        }
        if message.retain && self.allowed.retain_available == Some(false) {
            return Err(ClientError::Retain);
        }
        let alias = message.properties.as_ref().and_then(|properties| properties.topic_alias);
        let maximum = self.allowed.topic_alias_maximum.unwrap_or(0);
        match alias {
            Some(alias) if alias.get() > maximum && self.options.version == ProtocolVersion::V5 => {
                Err(ClientError::TopicAlias { alias: alias.get(), maximum })
            }
            _ => Ok(()),
        }
    }

    fn write_message(
        &self,
        message: &Message,
        id: Option<PacketId>,
        dup: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), ClientError> {
        let start = out.len();
        let flags = publish_flags(dup, message.qos, message.retain);
        let properties = message.properties.as_deref();
        publish_frame(
            message.topic.as_str(),
            &message.payload,
            properties,
            self.options.version,
            flags,
            id,
            out,
        )?;
        self.check_size(start, out)
    }

    fn write(&mut self, packet: &Packet, now: Instant, out: &mut Vec<u8>) -> Result<(), ClientError> {
        let start = out.len();
        encode(packet, self.options.version, out)?;
        self.check_size(start, out)?;
        self.last_sent = Some(now);
        Ok(())
    }

    /// Takes the packet at the end of `out` back where the server does not take its size [MQTT-3.2.2-15].
    fn check_size(&self, start: usize, out: &mut Vec<u8>) -> Result<(), ClientError> {
        let found = out.len() - start;
        let allowed = self.allowed.maximum_packet_size.map_or(usize::MAX, |size| size as usize);
        if found <= allowed {
            return Ok(());
        }
        out.truncate(start);
        Err(EncodeError::TooLarge { found, allowed }.into())
    }
}
