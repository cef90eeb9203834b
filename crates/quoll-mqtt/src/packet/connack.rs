//! CONNACK: the answer to CONNECT (§3.2).

use bytes::Bytes;

use super::{PacketKind, UserProperty};
use crate::property::{self, Property, PropertySet, some, users};
use crate::reader::Reader;
use crate::{DecodeError, EncodeError, ProtocolVersion, QoS, ReasonCode, writer};

/// CONNACK (§3.2). To a 3.x peer only the session flag and the return code travel.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnAck {
    /// Whether the broker kept a session of this client.
    pub session_present: bool,
    /// The reason; a 3.x peer is told the nearest return code.
    pub reason: ReasonCode,
    /// Properties, empty below 5.0.
    pub properties: ConnAckProperties,
}

/// Properties of CONNACK (§3.2.2.3).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnAckProperties {
    /// Session Expiry Interval in seconds, where the server's differs from what was asked.
    pub session_expiry_interval: Option<u32>,
    /// Receive Maximum.
    pub receive_maximum: Option<u16>,
    /// Maximum QoS, 0 or 1; absent means 2.
    pub maximum_qos: Option<QoS>,
    /// Retain Available; absent means true.
    pub retain_available: Option<bool>,
    /// Maximum Packet Size in bytes.
    pub maximum_packet_size: Option<u32>,
    /// Assigned Client Identifier.
    pub assigned_client_identifier: Option<String>,
    /// Topic Alias Maximum.
    pub topic_alias_maximum: Option<u16>,
    /// Reason String.
    pub reason_string: Option<String>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
    /// Wildcard Subscription Available; absent means true.
    pub wildcard_subscription_available: Option<bool>,
    /// Subscription Identifiers Available; absent means true.
    pub subscription_identifiers_available: Option<bool>,
    /// Shared Subscription Available; absent means true.
    pub shared_subscription_available: Option<bool>,
    /// Server Keep Alive in seconds.
    pub server_keep_alive: Option<u16>,
    /// Response Information.
    pub response_information: Option<String>,
    /// Server Reference.
    pub server_reference: Option<String>,
    /// Authentication Method.
    pub authentication_method: Option<String>,
    /// Authentication Data.
    pub authentication_data: Option<Bytes>,
}

impl ConnAck {
    pub(crate) fn read(reader: &mut Reader<'_>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let flags = reader.u8()?;
        // 3.1 called the byte reserved and gave it no meaning.
        if flags > 1 && version != ProtocolVersion::V31 {
            return Err(reader.malformed("reserved flags are set [MQTT-3.2.2-1]"));
        }
        let session_present = flags == 1 && version != ProtocolVersion::V31;
        let code = reader.u8()?;
        let reason = match version {
            ProtocolVersion::V5 => {
                Some(ReasonCode(code)).filter(|reason| reason.is_allowed_in(PacketKind::ConnAck))
            }
            _ => ReasonCode::from_connect_return_code(code),
        };
        let reason =
            reason.ok_or_else(|| reader.protocol("reserved reason or return code [MQTT-3.2.2-8]"))?;
        if session_present && reason.is_failure() {
            return Err(reader.protocol("session present in a refusal [MQTT-3.2.2-6]"));
        }
        let mut properties = ConnAckProperties::default();
        if version == ProtocolVersion::V5 {
            properties = ConnAckProperties::read(reader)?;
        }
        Ok(Self { session_present, reason, properties })
    }

    /// A refusal, and any answer to a 3.1 peer, has no session flag [MQTT-3.2.2-6].
    pub(crate) fn write(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        writer::frame(PacketKind::ConnAck.first_byte(), out, |out| {
            let session_present =
                self.session_present && !self.reason.is_failure() && version != ProtocolVersion::V31;
            out.push(u8::from(session_present));
            if version != ProtocolVersion::V5 {
                out.push(self.reason.connect_return_code());
                return Ok(());
            }
            out.push(self.reason.0);
            self.properties.write(out)
        })
    }
}

impl ConnAckProperties {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut this = Self::default();
        property::read(reader, property::CONNACK, |property| {
            this.take(property);
            Ok(())
        })?;
        if this.authentication_data.is_some() && this.authentication_method.is_none() {
            return Err(reader.protocol("Authentication Data without Authentication Method (§3.2.2.3.18)"));
        }
        Ok(this)
    }

    fn take(&mut self, property: Property<'_>) {
        match property {
            Property::SessionExpiryInterval(seconds) => self.session_expiry_interval = Some(seconds),
            Property::ReceiveMaximum(count) => self.receive_maximum = Some(count),
            Property::MaximumQoS(qos) => self.maximum_qos = Some(qos),
            Property::RetainAvailable(yes) => self.retain_available = Some(yes),
            Property::MaximumPacketSize(bytes) => self.maximum_packet_size = Some(bytes),
            Property::AssignedClientIdentifier(text) => {
                self.assigned_client_identifier = Some(text.to_owned())
            }
            Property::TopicAliasMaximum(count) => self.topic_alias_maximum = Some(count),
            Property::ReasonString(text) => self.reason_string = Some(text.to_owned()),
            Property::User((name, value)) => self.user_properties.push((name.to_owned(), value.to_owned())),
            Property::WildcardSubscriptionAvailable(yes) => self.wildcard_subscription_available = Some(yes),
            Property::SubscriptionIdentifiersAvailable(yes) => {
                self.subscription_identifiers_available = Some(yes)
            }
            Property::SharedSubscriptionAvailable(yes) => self.shared_subscription_available = Some(yes),
            Property::ServerKeepAlive(seconds) => self.server_keep_alive = Some(seconds),
            Property::ResponseInformation(text) => self.response_information = Some(text.to_owned()),
            Property::ServerReference(text) => self.server_reference = Some(text.to_owned()),
            Property::AuthenticationMethod(text) => self.authentication_method = Some(text.to_owned()),
            Property::AuthenticationData(data) => {
                self.authentication_data = Some(Bytes::copy_from_slice(data))
            }
            _ => {} // the table lets nothing else through
        }
    }
}

impl PropertySet for ConnAckProperties {
    /// The standard leaves the order open. Ours is Mosquitto's where it has one, so that its test suite, which compares
    /// bytes, accepts a plain answer: Topic Alias Maximum, Server Keep Alive, Assigned Client Identifier, Retain Available,
    /// Maximum Packet Size, Receive Maximum, Maximum QoS.
    fn each<'a>(&'a self, mut visit: impl FnMut(Property<'a>)) {
        some(self.topic_alias_maximum, Property::TopicAliasMaximum, &mut visit);
        some(self.server_keep_alive, Property::ServerKeepAlive, &mut visit);
        some(self.assigned_client_identifier.as_deref(), Property::AssignedClientIdentifier, &mut visit);
        some(self.authentication_method.as_deref(), Property::AuthenticationMethod, &mut visit);
        some(self.authentication_data.as_deref(), Property::AuthenticationData, &mut visit);
        some(self.retain_available, Property::RetainAvailable, &mut visit);
        some(self.maximum_packet_size, Property::MaximumPacketSize, &mut visit);
        some(self.receive_maximum, Property::ReceiveMaximum, &mut visit);
        some(self.maximum_qos, Property::MaximumQoS, &mut visit);
        some(self.session_expiry_interval, Property::SessionExpiryInterval, &mut visit);
        some(self.wildcard_subscription_available, Property::WildcardSubscriptionAvailable, &mut visit);
        some(self.subscription_identifiers_available, Property::SubscriptionIdentifiersAvailable, &mut visit);
        some(self.shared_subscription_available, Property::SharedSubscriptionAvailable, &mut visit);
        some(self.response_information.as_deref(), Property::ResponseInformation, &mut visit);
        some(self.server_reference.as_deref(), Property::ServerReference, &mut visit);
        some(self.reason_string.as_deref(), Property::ReasonString, &mut visit);
        users(&self.user_properties, &mut visit);
    }
}
