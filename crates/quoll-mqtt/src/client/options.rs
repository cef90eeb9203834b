//! What a client is told, and what it tells.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

use crate::limits::CLIENT_MAXIMUM_PACKET_SIZE;
use crate::packet::{
    Auth, ConnAck, Connect, ConnectProperties, Disconnect, Publish, PublishProperties, Will,
};
use crate::{EncodeError, PacketId, ProtocolVersion, QoS, ReasonCode, TopicName};

/// How a client connects. Its `Debug` does not show the password.
#[derive(Clone)]
pub struct ClientOptions {
    /// The version to speak.
    pub version: ProtocolVersion,
    /// Client identifier; empty where the server is to choose one, which 3.1 cannot.
    pub client_id: String,
    /// Clean Start (5.0) or Clean Session (3.x).
    pub clean_start: bool,
    /// Keep alive in seconds, 0 for none. A 5.0 server may set another (§3.2.2.3.14).
    pub keep_alive: u16,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Bytes>,
    /// The message to publish when the connection ends badly.
    pub will: Option<Will>,
    /// Properties, which do not travel below 5.0.
    pub properties: ConnectProperties,
    /// The largest packet accepted, in bytes; a smaller Maximum Packet Size among `properties` wins.
    pub maximum_packet_size: u32,
}

impl ClientOptions {
    /// A client of this version and name: clean start, a keep alive of 60 seconds, no login, no will.
    #[must_use]
    pub fn new(version: ProtocolVersion, client_id: impl Into<String>) -> Self {
        Self {
            version,
            client_id: client_id.into(),
            clean_start: true,
            keep_alive: 60,
            username: None,
            password: None,
            will: None,
            properties: ConnectProperties::default(),
            maximum_packet_size: CLIENT_MAXIMUM_PACKET_SIZE,
        }
    }

    pub(super) fn connect(&self) -> Connect {
        Connect {
            version: self.version,
            bridge: false,
            client_id: self.client_id.clone(),
            clean_start: self.clean_start,
            keep_alive: self.keep_alive,
            will: self.will.clone(),
            username: self.username.clone(),
            password: self.password.clone(),
            properties: self.properties.clone(),
        }
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions").field("connect", &self.connect()).finish_non_exhaustive()
    }
}

/// A message to be published.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Topic.
    pub topic: TopicName,
    /// Payload.
    pub payload: Bytes,
    /// Level.
    pub qos: QoS,
    /// Whether the server is to keep it for later subscribers.
    pub retain: bool,
    /// Properties, which do not travel below 5.0. A topic alias here is sent beside the topic.
    pub properties: Option<Box<PublishProperties>>,
}

impl Message {
    /// A message of QoS 0, not retained, without properties.
    #[must_use]
    pub fn new(topic: TopicName, payload: impl Into<Bytes>) -> Self {
        Self { topic, payload: payload.into(), qos: QoS::AtMostOnce, retain: false, properties: None }
    }
}

/// What a client has to tell its owner.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The server let us in.
    Connected {
        /// Its answer, with the session flag and what it allows.
        answer: Box<ConnAck>,
        /// Requests of an earlier connection that nobody will answer any more: all of them where the server had no
        /// session [MQTT-3.2.2-5]; else subscribes and unsubscribes, which are not sent again, and messages that this
        /// server does not take.
        lost: Vec<PacketId>,
    },
    /// The server refused us; the connection is over.
    Refused(Box<ConnAck>),
    /// A message for us. Its topic is always there; a topic alias is resolved. Already acknowledged.
    Message(Publish),
    /// The server has taken over a message of QoS 1 or 2, or refused it with a failure (5.0 alone).
    Published {
        /// Which one.
        id: PacketId,
        /// Success, no matching subscribers, or a failure.
        reason: ReasonCode,
    },
    /// The answer to a subscribe.
    Subscribed {
        /// Which one.
        id: PacketId,
        /// One for each filter: the granted level or a failure.
        reasons: Vec<ReasonCode>,
    },
    /// The answer to an unsubscribe.
    Unsubscribed {
        /// Which one.
        id: PacketId,
        /// One for each filter; none below 5.0.
        reasons: Vec<ReasonCode>,
    },
    /// The server answered a ping.
    Alive,
    /// A step of enhanced authentication (§4.12), to be answered by [`super::Client::authenticate`].
    Authenticate(Box<Auth>),
    /// The server ends the connection (5.0 alone).
    Disconnected(Box<Disconnect>),
    /// The server did not answer CONNECT or PINGREQ in time; the connection is over.
    Silent,
}

/// Why a client does not do what it is asked to.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum ClientError {
    /// There is no connection, or it has not been let in yet.
    #[error("not connected")]
    NotConnected,
    /// As many requests are under way as the server's Receive Maximum [MQTT-3.3.4-9] or our own bound allows.
    #[error("{limit} requests are under way, which is the limit")]
    Busy {
        /// How many are allowed.
        limit: usize,
    },
    /// The server takes no message of this level [MQTT-3.2.2-11].
    #[error("the server takes no messages above QoS {}", *maximum as u8)]
    QoS {
        /// The highest it takes.
        maximum: QoS,
    },
    /// The server keeps no messages [MQTT-3.2.2-14].
    #[error("the server takes no retained messages")]
    Retain,
    /// The topic alias is over the server's maximum [MQTT-3.3.2-9].
    #[error("topic alias {alias}, the server allows {maximum}")]
    TopicAlias {
        /// The alias.
        alias: u16,
        /// The server's Topic Alias Maximum.
        maximum: u16,
    },
    /// The packet cannot be written, or is larger than the server takes [MQTT-3.2.2-15].
    #[error(transparent)]
    Encode(#[from] EncodeError),
}
