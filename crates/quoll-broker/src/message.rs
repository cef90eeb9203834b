//! An accepted PUBLISH, shared by everybody it goes to.
//!
//! Immutable but for its encoded frames, which whoever needs one first makes, one for each family of versions.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use quoll_mqtt::packet::{Publish, PublishProperties};
use quoll_mqtt::{EncodeError, ProtocolVersion, QoS, SharedFrame, TopicName};

use crate::moment::Moment;
use crate::vocabulary::{Outgoing, OutgoingExtras};

/// A message.
pub struct Message {
    /// A number that no other message of this node has, but for an accident of one in 2^64: facts and letters about
    /// the same message say so by it.
    pub number: u64,
    /// Client identifier of the publisher, for No Local (§3.8.3.1) and for logs; empty for the server itself.
    pub publisher: Arc<str>,
    /// Topic.
    pub topic: TopicName,
    /// Payload.
    pub payload: Bytes,
    /// The level it was published at.
    pub qos: QoS,
    /// RETAIN as published.
    pub retain: bool,
    /// What is forwarded unaltered (§3.3.2.3): payload format, content type, response topic, correlation data, user
    /// properties. Alias, subscription identifiers and expiry belong to a delivery and are empty here.
    pub properties: Option<Box<PublishProperties>>,
    /// When it is too old to be delivered (§3.3.2.3.3).
    pub expires: Option<Moment>,
    /// See [`Message::source`]. A thin pointer, since few have one.
    source: Option<Box<Arc<str>>>,
    /// Boxed, since few are for many.
    frames: [OnceLock<Box<SharedFrame>>; 2],
}

impl Message {
    /// A message of these parts. Of `properties` what belongs to one delivery (alias, subscription identifiers,
    /// expiry) is left out; `expires` says the expiry.
    #[inline]
    #[must_use]
    pub fn new(parts: MessageParts) -> Self {
        let MessageParts { number, publisher, topic, payload, qos, retain, mut properties, expires } = parts;
        if let Some(own) = properties.as_deref_mut() {
            own.topic_alias = None;
            own.message_expiry_interval = None;
            own.subscription_identifiers = Vec::new();
            if *own == PublishProperties::default() {
                properties = None;
            }
        }
        let frames = [OnceLock::new(), OnceLock::new()];
        Self { number, publisher, topic, payload, qos, retain, properties, expires, source: None, frames }
    }

    /// The encoded frame for peers of this version, made if nobody asked before. Versions 3.1 and 3.1.1 share one.
    ///
    /// # Errors
    /// Where no frame can hold it.
    pub fn frame(&self, version: ProtocolVersion) -> Result<&SharedFrame, EncodeError> {
        let place = &self.frames[usize::from(version == ProtocolVersion::V5)];
        if let Some(frame) = place.get() {
            return Ok(frame);
        }
        let frame =
            SharedFrame::new(self.topic.as_str(), &self.payload, self.properties.as_deref(), version)?;
        Ok(place.get_or_init(|| Box::new(frame)))
    }

    /// The same message, of a publisher with this identity.
    #[must_use]
    pub fn of_source(mut self, identity: Arc<str>) -> Self {
        self.source = Some(Box::new(identity));
        self
    }

    /// The identity's name of the publisher, of a retained message whose publisher's permission is asked again later
    /// (`check_retain_source`); empty for an anonymous one.
    #[must_use]
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref().map(|source| &**source)
    }

    /// The same message, too old to be delivered from `due` on at the latest.
    #[must_use]
    pub fn expiring_by(&self, due: Moment) -> Self {
        let source = self.source.clone();
        let same = Self::new(MessageParts {
            number: self.number,
            publisher: self.publisher.clone(),
            topic: self.topic.clone(),
            payload: self.payload.clone(),
            qos: self.qos,
            retain: self.retain,
            properties: self.properties.clone(),
            expires: Some(self.expires.map_or(due, |own| own.min(due))),
        });
        Self { source, ..same }
    }

    /// Whether it is too old to be delivered.
    #[must_use]
    pub fn is_expired(&self, now: Moment) -> bool {
        self.expires.is_some_and(|due| due <= now)
    }

    /// What it counts against the bound of retained messages' bytes: topic, payload and properties.
    #[must_use]
    pub fn size(&self) -> u64 {
        let properties = properties_len(self.properties.as_deref());
        (self.topic.as_str().len() + self.payload.len() + properties) as u64
    }
}

/// What a message is made of; see [`Message`] for the fields.
#[derive(Debug)]
pub struct MessageParts {
    /// See [`Message::number`].
    pub number: u64,
    /// See [`Message::publisher`].
    pub publisher: Arc<str>,
    /// See [`Message::topic`].
    pub topic: TopicName,
    /// See [`Message::payload`].
    pub payload: Bytes,
    /// See [`Message::qos`].
    pub qos: QoS,
    /// See [`Message::retain`].
    pub retain: bool,
    /// See [`Message::properties`].
    pub properties: Option<Box<PublishProperties>>,
    /// See [`Message::expires`].
    pub expires: Option<Moment>,
}

impl fmt::Debug for Message {
    /// Says what it is about, not what is in it: payloads do not belong in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("number", &self.number)
            .field("publisher", &self.publisher)
            .field("topic", &self.topic.as_str())
            .field("bytes", &self.payload.len())
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Message {
    /// Equal in everything a peer or the journal could see.
    fn eq(&self, other: &Self) -> bool {
        let facts = |m: &Self| (m.number, m.qos, m.retain, m.expires);
        facts(self) == facts(other)
            && self.publisher == other.publisher
            && self.topic == other.topic
            && self.payload == other.payload
            && self.properties == other.properties
            && self.source == other.source
    }
}

impl Outgoing {
    /// The packet in full, for a peer whose copy is not the shared frame.
    #[must_use]
    pub fn publish(&self, version: ProtocolVersion) -> Publish {
        let message = &*self.message;
        let mut topic = Some(message.topic.clone());
        let mut properties = if version == ProtocolVersion::V5 { message.properties.clone() } else { None };
        if version == ProtocolVersion::V5
            && let Some(extras) = self.extras.as_deref()
        {
            let own = properties.get_or_insert_default();
            own.message_expiry_interval = extras.expiry;
            own.subscription_identifiers.clone_from(&extras.subscription_identifiers);
            if let Some((alias, known)) = extras.alias {
                own.topic_alias = Some(alias);
                if known {
                    topic = None;
                }
            }
        }
        Publish {
            dup: self.dup,
            retain: self.retain,
            delivery: self.delivery,
            topic,
            payload: message.payload.clone(),
            properties,
        }
    }

    /// Bytes of the packet towards a peer of this version, fixed header included, for [MQTT-3.1.2-24].
    #[must_use]
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        encoded_len(&self.message, self.delivery.qos(), self.extras.as_deref(), version)
    }
}

/// Bytes of a PUBLISH of this message, fixed header included.
pub(crate) fn encoded_len(
    message: &Message,
    qos: QoS,
    extras: Option<&OutgoingExtras>,
    version: ProtocolVersion,
) -> usize {
    let known = extras.and_then(|extras| extras.alias).is_some_and(|(_, known)| known);
    let topic = if known { 0 } else { message.topic.as_str().len() };
    let mut rest = 2 + topic + message.payload.len() + if qos == QoS::AtMostOnce { 0 } else { 2 };
    if version == ProtocolVersion::V5 {
        let properties = properties_len(message.properties.as_deref()) + extras.map_or(0, extras_len);
        rest += integer_len(properties) + properties;
    }
    1 + integer_len(rest) + rest
}

/// One byte of identifier before each property (§2.2.2.2), two of length before texts and binary data.
fn properties_len(properties: Option<&PublishProperties>) -> usize {
    let Some(own) = properties else { return 0 };
    let text = |len: Option<usize>| len.map_or(0, |len| 3 + len);
    let pairs: usize = own.user_properties.iter().map(|(name, value)| 5 + name.len() + value.len()).sum();
    own.payload_format_indicator.map_or(0, |_| 2)
        + text(own.response_topic.as_ref().map(|topic| topic.as_str().len()))
        + text(own.correlation_data.as_ref().map(Bytes::len))
        + text(own.content_type.as_ref().map(String::len))
        + pairs
}

fn extras_len(extras: &OutgoingExtras) -> usize {
    let identifiers: usize =
        extras.subscription_identifiers.iter().map(|id| 1 + integer_len(*id as usize)).sum();
    extras.alias.map_or(0, |_| 3) + extras.expiry.map_or(0, |_| 5) + identifiers
}

/// Bytes of a variable byte integer (§1.5.5).
const fn integer_len(value: usize) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}
