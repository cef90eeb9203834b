//! One connection of a bridge as a machine without I/O: bytes of both brokers in, bytes for both out.
//!
//! Between the two it is a relay, not a second pair of sessions. A message keeps its packet identifier on the way, and an
//! acknowledgement goes back to whoever waits for it: the local session, which the journal keeps, and the remote one remember
//! what is under way, and nothing is acknowledged that the other side does not have. So QoS 1 and 2 hold through the loss of
//! the connection, and of this process. What is the bridge's own: CONNECT, its subscriptions, its state topic, keep alive,
//! names ([`Topics`]), and what one side sends and the other cannot take.

mod inward;
mod own;
pub(super) use own::subscribe_here;
mod outward;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quoll_mqtt::decode::Role;
use quoll_mqtt::packet::{ConnAckProperties, Packet, Publish};
use quoll_mqtt::{
    DecodeContext, DecodeError, Decoded, PacketId, ProtocolVersion, ReasonCode, TopicName, decode, encode,
};

use super::Bridge;
use super::topics::Topics;
use own::Own;

/// Largest packet of the other broker before it let us in: CONNACK with reason and user properties.
const MAX_CONNACK: u32 = 64 * 1024;

/// A connection of a bridge.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) bridge: Arc<Bridge>,
    pub(super) topics: Topics,
    stage: Stage,
    /// Whether CONNECT has the bridges' mark.
    marked: bool,
    from_remote: Unfinished,
    from_local: Unfinished,
    /// Whether the state topic is told at QoS 0: see [`Link::ended_over_state`].
    softly: bool,
    /// How far the other broker came with the state topic.
    state: State,
    /// What the other broker allows.
    allowed: ConnAckProperties,
    /// Our own requests that it has not answered.
    own: HashMap<PacketId, Own>,
    /// Messages under way to it, by packet identifier.
    out: HashSet<PacketId>,
    /// Those of them that went at a lower level than they came: what the local broker waits for is made here.
    lowered: HashSet<PacketId>,
    /// Messages that it cannot be sent yet.
    held: VecDeque<Publish>,
    /// QoS 2 messages of the local broker that end here; PUBREL of it is answered here.
    ended_here: HashSet<PacketId>,
    /// QoS 2 messages of the other broker that end here.
    ended_there: HashSet<PacketId>,
    /// QoS 2 messages that the local broker has and the other one has not released, how many of them the local broker takes,
    /// and those that it does not take yet: some brokers send more than they were told to.
    here: HashSet<PacketId>,
    here_at_most: usize,
    waits: VecDeque<Publish>,
    /// Topics behind the other broker's aliases; index 0 is alias 1.
    aliases: Vec<Option<TopicName>>,
    clock: Clock,
}

/// Where it stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// CONNECT is sent.
    Connecting,
    /// The other broker let us in; the local one has not answered yet.
    Half,
    /// Messages flow.
    Whole,
}

/// How far the other broker came with the state topic at QoS 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// It was not told, or at QoS 0.
    Untold,
    /// It was told.
    Told,
    /// It acknowledged it.
    Answered,
    /// It said something else since.
    Past,
}

/// When who was heard last.
#[derive(Debug)]
struct Clock {
    said: Instant,
    heard: Instant,
    /// When a message last went over it, for lazy bridges.
    used: Instant,
    /// Since when PINGRESP is waited for.
    pinged: Option<Instant>,
}

/// How it ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// The other broker refused us.
    Refused(ReasonCode),
    /// It closed the connection, or that broke.
    Closed(String),
    /// It said DISCONNECT (5.0).
    Disconnected(ReasonCode),
    /// It broke the protocol.
    Broken(DecodeError),
    /// It does not answer a ping.
    Silent,
    /// Nothing went over a lazy bridge for long enough.
    Idle,
    /// This broker refused the bridge.
    RefusedHere(ReasonCode),
    /// This broker ended the local half.
    ClosedHere(String),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => write!(f, "the other broker refused the bridge: {reason}"),
            Self::Closed(why) => write!(f, "the other broker is gone: {why}"),
            Self::Disconnected(reason) => write!(f, "the other broker ended it: {reason}"),
            Self::Broken(error) => write!(f, "the other broker broke the protocol: {error}"),
            Self::Silent => write!(f, "the other broker does not answer"),
            Self::Idle => write!(f, "nothing to do"),
            Self::RefusedHere(reason) => write!(f, "this broker refused the bridge's local half: {reason}"),
            Self::ClosedHere(why) => write!(f, "this broker ended the bridge's local half: {why}"),
        }
    }
}

/// Bytes to be written.
pub(super) struct Outs<'a> {
    pub(super) remote: &'a mut Vec<u8>,
    pub(super) local: &'a mut Vec<u8>,
}

impl Link {
    /// Begins: CONNECT is put into `remote`. `marked`: with the bridges' mark in the protocol's level (3.x).
    pub(super) fn begin(bridge: Arc<Bridge>, marked: bool, now: Instant, remote: &mut Vec<u8>) -> Self {
        let marked = marked && bridge.configuration.version != ProtocolVersion::V5;
        let link = Self {
            topics: Topics::new(bridge.configuration.topics.clone()),
            bridge,
            stage: Stage::Connecting,
            marked,
            softly: false,
            state: State::Untold,
            from_remote: Unfinished::default(),
            from_local: Unfinished::default(),
            allowed: ConnAckProperties::default(),
            own: HashMap::new(),
            out: HashSet::new(),
            lowered: HashSet::new(),
            held: VecDeque::new(),
            ended_here: HashSet::new(),
            ended_there: HashSet::new(),
            here: HashSet::new(),
            here_at_most: usize::MAX,
            waits: VecDeque::new(),
            aliases: Vec::new(),
            clock: Clock { said: now, heard: now, used: now, pinged: None },
        };
        link.say_connect(remote);
        link
    }

    /// The same, but the state topic is told at QoS 0.
    pub(super) const fn softly(mut self, softly: bool) -> Self {
        self.softly = softly;
        self
    }

    /// Whether the state topic is the last that the other broker heard of us, as far as it said. Mosquitto 2.0 ends a resumed
    /// session over it where as many messages of QoS 2 as it takes at once wait for their release, which would repeat itself for
    /// ever; with `max_queued_messages 0` it acknowledges it first.
    pub(super) fn ended_over_state(&self) -> bool {
        matches!(self.state, State::Told | State::Answered)
    }

    /// Whether the other broker let us in.
    pub(super) fn is_in(&self) -> bool {
        self.stage != Stage::Connecting
    }

    /// Takes bytes of the other broker. After the first that [`Link::is_in`] the local half has to be opened.
    pub(super) fn remote_said(
        &mut self,
        bytes: &[u8],
        now: Instant,
        outs: &mut Outs<'_>,
    ) -> Result<(), Ending> {
        self.clock.heard = now;
        let mut unfinished = std::mem::take(&mut self.from_remote);
        unfinished.0.extend_from_slice(bytes);
        let mut used = 0;
        while let Decoded::Packet(packet, length) =
            decode(&unfinished.0[used..], &self.remote_context()).map_err(Ending::Broken)?
        {
            used += length;
            self.take_remote(packet, now, outs)?;
        }
        unfinished.0.drain(..used);
        self.from_remote = unfinished;
        self.note_what_was_said(now, outs);
        Ok(())
    }

    /// Takes bytes of the local broker.
    pub(super) fn local_said(
        &mut self,
        bytes: &[u8],
        now: Instant,
        outs: &mut Outs<'_>,
    ) -> Result<(), Ending> {
        let mut unfinished = std::mem::take(&mut self.from_local);
        unfinished.0.extend_from_slice(bytes);
        let mut used = 0;
        let version = self.bridge.local_version();
        let context =
            DecodeContext { version: Some(version), maximum_packet_size: u32::MAX, role: Role::Client };
        loop {
            let decoded = decode(&unfinished.0[used..], &context);
            // Our own broker's: a fault here is a fault of ours.
            match decoded.map_err(|error| Ending::ClosedHere(error.to_string()))? {
                Decoded::Packet(packet, length) => {
                    used += length;
                    self.take_local(packet, now, outs)?;
                }
                Decoded::Incomplete(_) => break,
            }
        }
        unfinished.0.drain(..used);
        self.from_local = unfinished;
        self.note_what_was_said(now, outs);
        Ok(())
    }

    /// When [`Link::tick`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if !self.is_in() {
            return None;
        }
        let keep_alive = self.keep_alive();
        let ping = match self.clock.pinged {
            Some(pinged) => Some(pinged + keep_alive),
            None => Some(self.clock.said.min(self.clock.heard) + keep_alive),
        };
        let ping = ping.filter(|_| !keep_alive.is_zero());
        let idle = self.bridge.idle_after().map(|idle| self.clock.used + idle);
        ping.into_iter().chain(idle).min()
    }

    /// Does what is due: PINGREQ when one side was silent for the keep alive, as Mosquitto does it; the end where that stays
    /// without an answer for as long, and of a lazy bridge that nobody uses.
    pub(super) fn tick(&mut self, now: Instant, remote: &mut Vec<u8>) -> Result<(), Ending> {
        if !self.is_in() {
            return Ok(());
        }
        if self.bridge.idle_after().is_some_and(|idle| now >= self.clock.used + idle) {
            return Err(Ending::Idle);
        }
        let keep_alive = self.keep_alive();
        if keep_alive.is_zero() {
            return Ok(());
        }
        match self.clock.pinged {
            Some(pinged) if now >= pinged + keep_alive => Err(Ending::Silent),
            None if now >= self.clock.said.min(self.clock.heard) + keep_alive => {
                self.log_sending("PINGREQ");
                self.to_remote(&Packet::PingReq, remote);
                self.clock.said = now;
                self.clock.pinged = Some(now);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What the other broker takes at once (§3.2.2.3.3).
    pub(super) fn receive_maximum(&self) -> Option<u16> {
        self.allowed.receive_maximum
    }

    fn keep_alive(&self) -> Duration {
        let told = self.allowed.server_keep_alive.map(|seconds| Duration::from_secs(seconds.into()));
        told.unwrap_or(self.bridge.configuration.keep_alive)
    }

    fn remote_context(&self) -> DecodeContext {
        let largest = if self.is_in() { self.bridge.largest } else { self.bridge.largest.min(MAX_CONNACK) };
        DecodeContext {
            version: Some(self.bridge.configuration.version),
            maximum_packet_size: largest,
            role: Role::Client,
        }
    }

    fn note_what_was_said(&mut self, now: Instant, outs: &Outs<'_>) {
        if !outs.remote.is_empty() {
            self.clock.said = now;
        }
    }

    fn to_remote(&self, packet: &Packet, remote: &mut Vec<u8>) {
        if let Err(error) = encode(packet, self.bridge.configuration.version, remote) {
            let (bridge, packet) = (&self.bridge.configuration.name, packet.kind().name());
            tracing::error!(bridge, packet, %error, "a packet of a bridge cannot be written");
        }
    }

    fn to_local(&self, packet: &Packet, local: &mut Vec<u8>) {
        if let Err(error) = encode(packet, self.bridge.local_version(), local) {
            let (bridge, packet) = (&self.bridge.configuration.name, packet.kind().name());
            tracing::error!(bridge, packet, %error, "a packet of a bridge cannot be written");
        }
    }
}

/// The start of a packet whose rest has not come; at most one packet's.
#[derive(Default)]
struct Unfinished(Vec<u8>);

impl fmt::Debug for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}
