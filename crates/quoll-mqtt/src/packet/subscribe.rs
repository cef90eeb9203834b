//! SUBSCRIBE (§3.8).

use super::{PacketKind, UserProperty};
use crate::property::{self, Property, PropertySet, some, users};
use crate::reader::Reader;
use crate::topic::TopicError;
use crate::{DecodeError, EncodeError, PacketId, ProtocolVersion, QoS, TopicFilter, writer};

/// SUBSCRIBE (§3.8).
#[derive(Clone, Debug, PartialEq)]
pub struct Subscribe {
    /// Packet identifier.
    pub packet_id: PacketId,
    /// At least one subscription [MQTT-3.8.3-2].
    pub subscriptions: Vec<Subscription>,
    /// Properties, all-default below 5.0.
    pub properties: SubscribeProperties,
}

/// One topic filter of a SUBSCRIBE with its options.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// The filter; a `$share/…` one is told apart by [`TopicFilter::share`].
    pub filter: TopicFilter,
    /// Its options.
    pub options: SubscriptionOptions,
}

/// Subscription options (§3.8.3.1).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SubscriptionOptions {
    /// The highest level at which the subscriber wants messages.
    pub qos: QoS,
    /// No Local: not the subscriber's own messages.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Retain Handling.
    pub retain_handling: RetainHandling,
}

/// When retained messages are sent at SUBSCRIBE (§3.8.3.1).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub enum RetainHandling {
    /// 0: at each subscribe.
    #[default]
    Send = 0,
    /// 1: only if the subscription did not exist.
    SendIfNew = 1,
    /// 2: never.
    DoNotSend = 2,
}

/// Properties of SUBSCRIBE (§3.8.2.1).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscribeProperties {
    /// Subscription Identifier, 1 to 268,435,455.
    pub subscription_identifier: Option<u32>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
}

impl Subscribe {
    pub(crate) fn read(reader: &mut Reader<'_>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let mut properties = SubscribeProperties::default();
        if version == ProtocolVersion::V5 {
            properties = SubscribeProperties::read(reader)?;
        }
        if reader.is_empty() {
            return Err(reader.malformed("no topic filter [MQTT-3.8.3-2]"));
        }
        let mut subscriptions = Vec::with_capacity(1);
        while !reader.is_empty() {
            subscriptions.push(Subscription::read(reader, version)?);
        }
        Ok(Self { packet_id, subscriptions, properties })
    }

    pub(crate) fn write(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.subscriptions.is_empty() {
            return Err(EncodeError::Value { field: "Topic Filter", what: "at least one [MQTT-3.8.3-2]" });
        }
        writer::frame(PacketKind::Subscribe.first_byte(), out, |out| {
            writer::u16(self.packet_id.get(), out);
            if version == ProtocolVersion::V5 {
                self.properties.write(out)?;
            }
            for subscription in &self.subscriptions {
                writer::text("Topic Filter", subscription.filter.as_str(), out)?;
                out.push(subscription.options.to_byte(version));
            }
            Ok(())
        })
    }
}

impl Subscription {
    fn read(reader: &mut Reader<'_>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let filter = read_filter(reader)?;
        let options = SubscriptionOptions::read(reader, version)?;
        if options.no_local && filter.share().is_some() {
            return Err(reader.protocol("No Local on a shared subscription [MQTT-3.8.3-4]"));
        }
        Ok(Self { filter, options })
    }
}

impl SubscriptionOptions {
    /// ```text
    ///   7 6  reserved | 5 4  retain handling | 3  retain as published | 2  no local | 1 0  QoS
    /// ```
    /// Below 5.0 the upper six bits are reserved [MQTT-3.8.3-4 of 3.1.1].
    fn read(reader: &mut Reader<'_>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let byte = reader.u8()?;
        let reserved = if version == ProtocolVersion::V5 { 0b1100_0000 } else { 0b1111_1100 };
        if byte & reserved != 0 {
            return Err(reader.malformed("reserved bits of the subscription options [MQTT-3.8.3-5]"));
        }
        let qos = QoS::from_bits(byte & 0b11).ok_or_else(|| reader.malformed("QoS 3 (§3.8.3.1)"))?;
        let retain_handling = match byte >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(reader.malformed("Retain Handling 3 (§3.8.3.1)")),
        };
        Ok(Self { qos, no_local: byte & 4 != 0, retain_as_published: byte & 8 != 0, retain_handling })
    }

    const fn to_byte(self, version: ProtocolVersion) -> u8 {
        match version {
            ProtocolVersion::V5 => {
                self.qos as u8
                    | (self.no_local as u8) << 2
                    | (self.retain_as_published as u8) << 3
                    | (self.retain_handling as u8) << 4
            }
            _ => self.qos as u8,
        }
    }
}

impl SubscribeProperties {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut this = Self::default();
        property::read(reader, property::SUBSCRIBE, |property| {
            match property {
                Property::SubscriptionIdentifier(id) => this.subscription_identifier = Some(id),
                Property::User((name, value)) => {
                    this.user_properties.push((name.to_owned(), value.to_owned()))
                }
                _ => {} // the table lets nothing else through
            }
            Ok(())
        })?;
        Ok(this)
    }
}

impl PropertySet for SubscribeProperties {
    fn each<'a>(&'a self, mut visit: impl FnMut(Property<'a>)) {
        some(self.subscription_identifier, Property::SubscriptionIdentifier, &mut visit);
        users(&self.user_properties, &mut visit);
    }
}

/// A topic filter of SUBSCRIBE or UNSUBSCRIBE (§4.7, §4.8.2).
pub(super) fn read_filter(reader: &mut Reader<'_>) -> Result<TopicFilter, DecodeError> {
    let text = reader.text()?;
    TopicFilter::parse(text).map_err(|error| match error {
        TopicError::Empty => reader.malformed("empty topic filter [MQTT-4.7.3-1]"),
        TopicError::Share => reader.protocol("$share without name or filter [MQTT-4.8.2-1] [MQTT-4.8.2-2]"),
        _ => reader.malformed("wildcard that does not fill its level [MQTT-4.7.1-1] [MQTT-4.7.1-2]"),
    })
}
