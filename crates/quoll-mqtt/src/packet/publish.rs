//! PUBLISH: a message on its way (§3.3).

use std::num::NonZeroU16;

use bytes::Bytes;

use super::said_order::{Kind, SaidOrder};
use super::{PacketKind, UserProperty};
use crate::decode::Role;
use crate::property::{self, Property, PropertySet, some, users};
use crate::reader::Reader;
use crate::topic::TopicError;
use crate::{DecodeError, Delivery, EncodeError, ProtocolVersion, TopicName, encode};

/// PUBLISH (§3.3).
#[derive(Clone, Debug, PartialEq)]
pub struct Publish {
    /// DUP: sent before, perhaps.
    pub dup: bool,
    /// RETAIN.
    pub retain: bool,
    /// Level and packet identifier.
    pub delivery: Delivery,
    /// Topic; absent where a 5.0 peer sends a topic alias in its place (§3.3.2.3.4).
    pub topic: Option<TopicName>,
    /// Payload.
    pub payload: Bytes,
    /// Properties; `None` below 5.0 and where there are none.
    pub properties: Option<Box<PublishProperties>>,
}

/// Properties of PUBLISH (§3.3.2.3).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PublishProperties {
    /// Payload Format Indicator: true for UTF-8.
    pub payload_format_indicator: Option<bool>,
    /// Message Expiry Interval in seconds.
    pub message_expiry_interval: Option<u32>,
    /// Topic Alias, never 0.
    pub topic_alias: Option<NonZeroU16>,
    /// Response Topic.
    pub response_topic: Option<TopicName>,
    /// Correlation Data.
    pub correlation_data: Option<Bytes>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
    /// Subscription Identifiers, 1 to 268,435,455; only a server sends them.
    pub subscription_identifiers: Vec<u32>,
    /// Content Type.
    pub content_type: Option<String>,
    /// The order in which the sender said what is passed on.
    pub order: SaidOrder,
}

impl Publish {
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        flags: u8,
        version: ProtocolVersion,
        role: Role,
    ) -> Result<Self, DecodeError> {
        let topic = read_topic(reader)?;
        let delivery = match flags >> 1 & 0b11 {
            0 => Delivery::AtMostOnce,
            1 => Delivery::AtLeastOnce(reader.packet_id()?),
            _ => Delivery::ExactlyOnce(reader.packet_id()?), // 3 was refused with the first byte
        };
        let properties = match version {
            ProtocolVersion::V5 => PublishProperties::read(reader, role)?,
            _ => None,
        };
        if topic.is_none() {
            check_absent_topic(reader, version, properties.as_deref())?;
        }
        let payload = Bytes::copy_from_slice(reader.remainder());
        Ok(Self { dup: flags & 0b1000 != 0, retain: flags & 1 != 0, delivery, topic, payload, properties })
    }

    pub(crate) fn write(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let topic = self.topic.as_ref().map_or("", TopicName::as_str);
        let flags = encode::publish_flags(self.dup, self.delivery.qos(), self.retain);
        let properties = self.properties.as_deref();
        encode::publish_frame(
            topic,
            &self.payload,
            properties,
            version,
            flags,
            self.delivery.packet_id(),
            out,
        )
    }
}

/// The topic, or `None` where it is empty and an alias must stand for it.
fn read_topic(reader: &mut Reader<'_>) -> Result<Option<TopicName>, DecodeError> {
    let text = reader.text()?;
    match TopicName::from_checked_text(text) {
        Ok(topic) => Ok(Some(topic)),
        Err(TopicError::Empty) => Ok(None),
        Err(_) => Err(reader.malformed("wildcard in the topic [MQTT-3.3.2-2]")),
    }
}

fn check_absent_topic(
    reader: &Reader<'_>,
    version: ProtocolVersion,
    properties: Option<&PublishProperties>,
) -> Result<(), DecodeError> {
    match (version, properties) {
        (ProtocolVersion::V5, Some(properties)) if properties.topic_alias.is_some() => Ok(()),
        (ProtocolVersion::V5, _) => Err(reader.protocol("neither topic nor topic alias (§3.3.2.1)")),
        _ => Err(reader.malformed("empty topic [MQTT-4.7.3-1]")),
    }
}

impl PublishProperties {
    fn read(reader: &mut Reader<'_>, role: Role) -> Result<Option<Box<Self>>, DecodeError> {
        let mut this: Option<Box<Self>> = None;
        let from_client = role == Role::Server;
        property::read(reader, property::PUBLISH, |property| this.get_or_insert_default().take(property))?;
        let Some(properties) = &mut this else { return Ok(None) };
        properties.order = properties.order.settled();
        if from_client && !properties.subscription_identifiers.is_empty() {
            return Err(reader.protocol("Subscription Identifier from a client [MQTT-3.3.4-6]"));
        }
        Ok(this)
    }

    fn take(&mut self, property: Property<'_>) -> Result<(), DecodeError> {
        self.order.note_property(&property);
        match property {
            Property::PayloadFormatIndicator(text) => self.payload_format_indicator = Some(text),
            Property::MessageExpiryInterval(seconds) => self.message_expiry_interval = Some(seconds),
            Property::TopicAlias(alias) => self.topic_alias = Some(alias),
            Property::ResponseTopic(text) => {
                self.response_topic = Some(response_topic(PacketKind::Publish, text)?)
            }
            Property::CorrelationData(data) => self.correlation_data = Some(Bytes::copy_from_slice(data)),
            Property::User((name, value)) => self.user_properties.push((name.to_owned(), value.to_owned())),
            Property::SubscriptionIdentifier(id) => self.subscription_identifiers.push(id),
            Property::ContentType(text) => self.content_type = Some(text.to_owned()),
            _ => {} // the table lets nothing else through
        }
        Ok(())
    }
}

impl PropertySet for PublishProperties {
    /// As Mosquitto writes them: first the server's word about the delivery, then the application's, then what is left of time.
    fn each<'a>(&'a self, mut visit: impl FnMut(Property<'a>)) {
        for &id in &self.subscription_identifiers {
            visit(Property::SubscriptionIdentifier(id));
        }
        for kind in self.order.kinds() {
            match kind {
                Kind::PayloadFormatIndicator => {
                    some(self.payload_format_indicator, Property::PayloadFormatIndicator, &mut visit);
                }
                Kind::ContentType => some(self.content_type.as_deref(), Property::ContentType, &mut visit),
                Kind::ResponseTopic => {
                    some(
                        self.response_topic.as_ref().map(TopicName::as_str),
                        Property::ResponseTopic,
                        &mut visit,
                    );
                }
                Kind::CorrelationData => {
                    some(self.correlation_data.as_deref(), Property::CorrelationData, &mut visit);
                }
                Kind::User => users(&self.user_properties, &mut visit),
            }
        }
        some(self.message_expiry_interval, Property::MessageExpiryInterval, &mut visit);
        some(self.topic_alias, Property::TopicAlias, &mut visit);
    }
}

/// A response topic, which is a topic name: without wildcards [MQTT-3.3.2-14], not empty.
pub(super) fn response_topic(kind: PacketKind, text: &str) -> Result<TopicName, DecodeError> {
    TopicName::from_checked_text(text).map_err(|_| DecodeError::Protocol {
        packet: kind.name(),
        what: "response topic that is empty or has a wildcard [MQTT-3.3.2-14]",
    })
}
