//! CONNECT: a client asks to be let in (§3.1).

use std::fmt;

use bytes::Bytes;

use super::publish::response_topic;
use super::{Hidden, PacketKind, SaidOrder, UserProperty};
use crate::property::{self, Property, PropertySet, some, users};
use crate::reader::Reader;
use crate::{DecodeError, EncodeError, ProtocolVersion, QoS, TopicName, writer};

/// CONNECT (§3.1). Its `Debug` does not show the password.
#[derive(Clone, PartialEq)]
pub struct Connect {
    /// The version that the protocol name and level ask for; all later packets of the connection are of it.
    pub version: ProtocolVersion,
    /// A bridge's mark: the top bit of the protocol level of 3.1 and 3.1.1, which mosquitto calls `try_private`.
    pub bridge: bool,
    /// Client identifier, empty where the broker is to choose one.
    pub client_id: String,
    /// Clean Start (5.0) or Clean Session (3.x).
    pub clean_start: bool,
    /// Keep alive in seconds, 0 for none.
    pub keep_alive: u16,
    /// The message to publish when the connection ends badly.
    pub will: Option<Will>,
    /// User name.
    pub username: Option<String>,
    /// Password: any bytes.
    pub password: Option<Bytes>,
    /// Properties, all-default below 5.0.
    pub properties: ConnectProperties,
}

/// Properties of CONNECT (§3.1.2.11). Their `Debug` does not show the authentication data.
#[derive(Clone, Default, PartialEq)]
pub struct ConnectProperties {
    /// Session Expiry Interval in seconds; absent means 0.
    pub session_expiry_interval: Option<u32>,
    /// Receive Maximum; absent means 65,535; never 0.
    pub receive_maximum: Option<u16>,
    /// Maximum Packet Size in bytes; never 0.
    pub maximum_packet_size: Option<u32>,
    /// Topic Alias Maximum; absent means 0.
    pub topic_alias_maximum: Option<u16>,
    /// Request Response Information.
    pub request_response_information: Option<bool>,
    /// Request Problem Information; absent means true.
    pub request_problem_information: Option<bool>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
    /// Authentication Method.
    pub authentication_method: Option<String>,
    /// Authentication Data.
    pub authentication_data: Option<Bytes>,
}

/// A will message (§3.1.2.5).
#[derive(Clone, Debug, PartialEq)]
pub struct Will {
    /// Topic.
    pub topic: TopicName,
    /// Payload.
    pub payload: Bytes,
    /// Level.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// Properties, all-default below 5.0.
    pub properties: WillProperties,
}

/// Properties of a will (§3.1.3.2).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WillProperties {
    /// Will Delay Interval in seconds; absent means 0.
    pub will_delay_interval: Option<u32>,
    /// Payload Format Indicator: true for UTF-8.
    pub payload_format_indicator: Option<bool>,
    /// Message Expiry Interval in seconds.
    pub message_expiry_interval: Option<u32>,
    /// Content Type.
    pub content_type: Option<String>,
    /// Response Topic.
    pub response_topic: Option<TopicName>,
    /// Correlation Data.
    pub correlation_data: Option<Bytes>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
    /// The order in which the client said what is passed on.
    pub order: SaidOrder,
}

/// Connect flags (§3.1.2.3).
mod flag {
    pub(super) const RESERVED: u8 = 1;
    pub(super) const CLEAN_START: u8 = 1 << 1;
    pub(super) const WILL: u8 = 1 << 2;
    pub(super) const WILL_QOS: u8 = 0b11 << 3;
    pub(super) const WILL_RETAIN: u8 = 1 << 5;
    pub(super) const PASSWORD: u8 = 1 << 6;
    pub(super) const USERNAME: u8 = 1 << 7;
}

/// The mark of a bridge in the protocol level.
const BRIDGE: u8 = 0x80;

impl Connect {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (version, bridge) = read_version(reader)?;
        let flags = read_flags(reader, version)?;
        let keep_alive = reader.u16()?;
        let mut properties = ConnectProperties::default();
        if version == ProtocolVersion::V5 {
            properties = ConnectProperties::read(reader)?;
        }
        let clean_start = flags & flag::CLEAN_START != 0;
        let client_id = read_client_id(reader, version, clean_start)?;
        let will = if flags & flag::WILL != 0 { Some(Will::read(reader, version, flags)?) } else { None };
        let username = match is_there(reader, version, flags & flag::USERNAME) {
            true => Some(reader.text()?.to_owned()),
            false => None,
        };
        let password = match is_there(reader, version, flags & flag::PASSWORD) {
            true => Some(Bytes::copy_from_slice(reader.binary()?)),
            false => None,
        };
        Ok(Self { version, bridge, client_id, clean_start, keep_alive, will, username, password, properties })
    }

    /// Written in the packet's own version.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.check_before_writing()?;
        writer::frame(PacketKind::Connect.first_byte(), out, |out| {
            let name = if self.version == ProtocolVersion::V31 { "MQIsdp" } else { "MQTT" };
            writer::text("Protocol Name", name, out)?;
            out.push(self.version as u8 | if self.bridge { BRIDGE } else { 0 });
            out.push(self.flags());
            writer::u16(self.keep_alive, out);
            if self.version == ProtocolVersion::V5 {
                self.properties.write(out)?;
            }
            writer::text("Client Identifier", &self.client_id, out)?;
            if let Some(will) = &self.will {
                will.write(self.version, out)?;
            }
            if let Some(username) = &self.username {
                writer::text("User Name", username, out)?;
            }
            if let Some(password) = &self.password {
                writer::binary("Password", password, out)?;
            }
            Ok(())
        })
    }

    const fn check_before_writing(&self) -> Result<(), EncodeError> {
        let is_5 = matches!(self.version, ProtocolVersion::V5);
        if self.bridge && is_5 {
            return Err(EncodeError::Value { field: "Protocol Level", what: "5.0 has no mark for bridges" });
        }
        if self.password.is_some() && self.username.is_none() && !is_5 {
            return Err(EncodeError::Value {
                field: "Password",
                what: "no user name [MQTT-3.1.2-22 of 3.1.1]",
            });
        }
        Ok(())
    }

    fn flags(&self) -> u8 {
        let bit = |yes: bool, flag: u8| if yes { flag } else { 0 };
        let mut flags = bit(self.clean_start, flag::CLEAN_START)
            | bit(self.username.is_some(), flag::USERNAME)
            | bit(self.password.is_some(), flag::PASSWORD);
        if let Some(will) = &self.will {
            flags |= flag::WILL | (will.qos as u8) << 3 | bit(will.retain, flag::WILL_RETAIN);
        }
        flags
    }
}

/// Protocol name and level (§3.1.2.1, §3.1.2.2). A name that we do not know is not MQTT's; a level that we do not
/// know may be, and its sender can be told [MQTT-3.1.2-2].
fn read_version(reader: &mut Reader<'_>) -> Result<(ProtocolVersion, bool), DecodeError> {
    let name = reader.binary()?;
    if !matches!(name, b"MQTT" | b"MQIsdp") {
        return Err(reader.malformed("protocol name other than MQTT or MQIsdp [MQTT-3.1.2-1]"));
    }
    let level = reader.u8()?;
    match (name, level) {
        (b"MQIsdp", 3 | 0x83) => Ok((ProtocolVersion::V31, level & BRIDGE != 0)),
        (b"MQTT", 4 | 0x84) => Ok((ProtocolVersion::V311, level & BRIDGE != 0)),
        (b"MQTT", 5) => Ok((ProtocolVersion::V5, false)),
        _ => Err(DecodeError::UnsupportedVersion { level }),
    }
}

fn read_flags(reader: &mut Reader<'_>, version: ProtocolVersion) -> Result<u8, DecodeError> {
    let flags = reader.u8()?;
    // 3.1 called the bit unused, and Mosquitto does not look at it there.
    if flags & flag::RESERVED != 0 && version != ProtocolVersion::V31 {
        return Err(reader.malformed("reserved connect flag is set [MQTT-3.1.2-3]"));
    }
    let has_will = flags & flag::WILL != 0;
    if !has_will && version == ProtocolVersion::V31 {
        // "Otherwise its value is disregarded" (3.1 §3.1).
        return credentials(reader, version, flags);
    }
    if !has_will && flags & (flag::WILL_QOS | flag::WILL_RETAIN) != 0 {
        return Err(reader.malformed("will flags without a will [MQTT-3.1.2-11] [MQTT-3.1.2-13]"));
    }
    if flags & flag::WILL_QOS == flag::WILL_QOS {
        return Err(reader.malformed("will of QoS 3 [MQTT-3.1.2-12]"));
    }
    credentials(reader, version, flags)
}

fn credentials(reader: &Reader<'_>, version: ProtocolVersion, flags: u8) -> Result<u8, DecodeError> {
    if version != ProtocolVersion::V5 && flags & flag::USERNAME == 0 && flags & flag::PASSWORD != 0 {
        return Err(reader.protocol("password without user name [MQTT-3.1.2-22 of 3.1.1]"));
    }
    Ok(flags)
}

/// 3.1 wanted 1 to 23 characters; longer ones are accepted, as by Mosquitto. 3.1.1 allows none at all only with a clean
/// session [MQTT-3.1.3-8 of 3.1.1], 5.0 always [MQTT-3.1.3-6].
fn read_client_id(
    reader: &mut Reader<'_>,
    version: ProtocolVersion,
    clean_start: bool,
) -> Result<String, DecodeError> {
    let client_id = reader.text()?;
    let what = match (version, client_id, clean_start) {
        (ProtocolVersion::V31, "", _) => "empty, which 3.1 does not know (3.1 §3.1)",
        (ProtocolVersion::V311, "", false) => "empty without clean session [MQTT-3.1.3-8 of 3.1.1]",
        _ => return Ok(client_id.to_owned()),
    };
    Err(DecodeError::ClientIdentifier { what })
}

/// Whether the field of a flag follows. A 3.1 client may set the flag and end the packet: then the flag is ignored, as
/// 3.1 §3.1 says.
const fn is_there(reader: &Reader<'_>, version: ProtocolVersion, flag: u8) -> bool {
    flag != 0 && !(matches!(version, ProtocolVersion::V31) && reader.is_empty())
}

impl Will {
    fn read(reader: &mut Reader<'_>, version: ProtocolVersion, flags: u8) -> Result<Self, DecodeError> {
        let mut properties = WillProperties::default();
        if version == ProtocolVersion::V5 {
            properties = WillProperties::read(reader)?;
        }
        let topic = TopicName::from_checked_text(reader.text()?)
            .map_err(|_| reader.malformed("will topic that is empty or has a wildcard [MQTT-3.1.3-11]"))?;
        let payload = Bytes::copy_from_slice(reader.binary()?);
        let qos = QoS::from_bits((flags & flag::WILL_QOS) >> 3)
            .ok_or_else(|| reader.malformed("will of QoS 3 [MQTT-3.1.2-12]"))?;
        Ok(Self { topic, payload, qos, retain: flags & flag::WILL_RETAIN != 0, properties })
    }

    fn write(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if version == ProtocolVersion::V5 {
            self.properties.write(out)?;
        }
        writer::text("Will Topic", self.topic.as_str(), out)?;
        writer::binary("Will Payload", &self.payload, out)
    }
}

impl ConnectProperties {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut this = Self::default();
        property::read(reader, property::CONNECT, |property| {
            this.take(property);
            Ok(())
        })?;
        if this.authentication_data.is_some() && this.authentication_method.is_none() {
            return Err(reader.protocol("Authentication Data without Authentication Method (§3.1.2.11.10)"));
        }
        Ok(this)
    }

    fn take(&mut self, property: Property<'_>) {
        match property {
            Property::SessionExpiryInterval(seconds) => self.session_expiry_interval = Some(seconds),
            Property::ReceiveMaximum(count) => self.receive_maximum = Some(count),
            Property::MaximumPacketSize(bytes) => self.maximum_packet_size = Some(bytes),
            Property::TopicAliasMaximum(count) => self.topic_alias_maximum = Some(count),
            Property::RequestResponseInformation(yes) => self.request_response_information = Some(yes),
            Property::RequestProblemInformation(yes) => self.request_problem_information = Some(yes),
            Property::User((name, value)) => self.user_properties.push((name.to_owned(), value.to_owned())),
            Property::AuthenticationMethod(text) => self.authentication_method = Some(text.to_owned()),
            Property::AuthenticationData(data) => {
                self.authentication_data = Some(Bytes::copy_from_slice(data))
            }
            _ => {} // the table lets nothing else through
        }
    }
}

impl PropertySet for ConnectProperties {
    fn each<'a>(&'a self, mut visit: impl FnMut(Property<'a>)) {
        some(self.session_expiry_interval, Property::SessionExpiryInterval, &mut visit);
        some(self.receive_maximum, Property::ReceiveMaximum, &mut visit);
        some(self.maximum_packet_size, Property::MaximumPacketSize, &mut visit);
        some(self.topic_alias_maximum, Property::TopicAliasMaximum, &mut visit);
        some(self.request_response_information, Property::RequestResponseInformation, &mut visit);
        some(self.request_problem_information, Property::RequestProblemInformation, &mut visit);
        users(&self.user_properties, &mut visit);
        some(self.authentication_method.as_deref(), Property::AuthenticationMethod, &mut visit);
        some(self.authentication_data.as_deref(), Property::AuthenticationData, &mut visit);
    }
}

impl WillProperties {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut this = Self::default();
        property::read(reader, property::WILL, |property| this.take(property))?;
        this.order = this.order.settled();
        Ok(this)
    }

    fn take(&mut self, property: Property<'_>) -> Result<(), DecodeError> {
        self.order.note_property(&property);
        match property {
            Property::WillDelayInterval(seconds) => self.will_delay_interval = Some(seconds),
            Property::PayloadFormatIndicator(text) => self.payload_format_indicator = Some(text),
            Property::MessageExpiryInterval(seconds) => self.message_expiry_interval = Some(seconds),
            Property::ContentType(text) => self.content_type = Some(text.to_owned()),
            Property::ResponseTopic(text) => {
                self.response_topic = Some(response_topic(PacketKind::Connect, text)?)
            }
            Property::CorrelationData(data) => self.correlation_data = Some(Bytes::copy_from_slice(data)),
            Property::User((name, value)) => self.user_properties.push((name.to_owned(), value.to_owned())),
            _ => {} // the table lets nothing else through
        }
        Ok(())
    }
}

impl PropertySet for WillProperties {
    fn each<'a>(&'a self, mut visit: impl FnMut(Property<'a>)) {
        some(self.will_delay_interval, Property::WillDelayInterval, &mut visit);
        some(self.payload_format_indicator, Property::PayloadFormatIndicator, &mut visit);
        some(self.message_expiry_interval, Property::MessageExpiryInterval, &mut visit);
        some(self.content_type.as_deref(), Property::ContentType, &mut visit);
        some(self.response_topic.as_ref().map(TopicName::as_str), Property::ResponseTopic, &mut visit);
        some(self.correlation_data.as_deref(), Property::CorrelationData, &mut visit);
        users(&self.user_properties, &mut visit);
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("bridge", &self.bridge)
            .field("client_id", &self.client_id)
            .field("clean_start", &self.clean_start)
            .field("keep_alive", &self.keep_alive)
            .field("will", &self.will)
            .field("username", &self.username)
            .field("password", &self.password.as_deref().map(Hidden::new))
            .field("properties", &self.properties)
            .finish()
    }
}

impl fmt::Debug for ConnectProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectProperties")
            .field("session_expiry_interval", &self.session_expiry_interval)
            .field("receive_maximum", &self.receive_maximum)
            .field("maximum_packet_size", &self.maximum_packet_size)
            .field("topic_alias_maximum", &self.topic_alias_maximum)
            .field("request_response_information", &self.request_response_information)
            .field("request_problem_information", &self.request_problem_information)
            .field("user_properties", &self.user_properties)
            .field("authentication_method", &self.authentication_method)
            .field("authentication_data", &self.authentication_data.as_deref().map(Hidden::new))
            .finish()
    }
}
