//! DISCONNECT (§3.14).

use super::{PacketKind, UserProperty};
use crate::decode::Role;
use crate::property::{self, Property, PropertySet, some, users};
use crate::reader::Reader;
use crate::{DecodeError, EncodeError, ProtocolVersion, ReasonCode, writer};

/// DISCONNECT (§3.14). Below 5.0 only a client sends it, with nothing in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Disconnect {
    /// The reason; `NORMAL_DISCONNECTION` below 5.0.
    pub reason: ReasonCode,
    /// Properties, all-default below 5.0.
    pub properties: DisconnectProperties,
}

/// Properties of DISCONNECT (§3.14.2.2).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DisconnectProperties {
    /// Session Expiry Interval in seconds; only a client sends it.
    pub session_expiry_interval: Option<u32>,
    /// Reason String.
    pub reason_string: Option<String>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
    /// Server Reference.
    pub server_reference: Option<String>,
}

impl Disconnect {
    /// A DISCONNECT with this reason alone.
    #[must_use]
    pub fn new(reason: ReasonCode) -> Self {
        Self { reason, properties: DisconnectProperties::default() }
    }

    pub(crate) fn read(
        reader: &mut Reader<'_>,
        version: ProtocolVersion,
        role: Role,
    ) -> Result<Self, DecodeError> {
        if version != ProtocolVersion::V5 || reader.is_empty() {
            return Ok(Self::new(ReasonCode::SUCCESS)); // §3.14.2.1
        }
        let reason = ReasonCode(reader.u8()?);
        if !reason.is_allowed_in(PacketKind::Disconnect) {
            return Err(reader.protocol("reason code of another packet [MQTT-3.14.2-1]"));
        }
        if reader.is_empty() {
            return Ok(Self::new(reason)); // §3.14.2.2.1
        }
        let properties = DisconnectProperties::read(reader)?;
        if role == Role::Client && properties.session_expiry_interval.is_some() {
            return Err(reader.protocol("Session Expiry Interval from a server [MQTT-3.14.2-2]"));
        }
        Ok(Self { reason, properties })
    }

    /// Reason and properties stay out where the reason is 0 and there are none (§3.14.2.1).
    pub(crate) fn write(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        writer::frame(PacketKind::Disconnect.first_byte(), out, |out| {
            let has_properties = self.properties.size() > 0;
            if version != ProtocolVersion::V5 || (self.reason == ReasonCode::SUCCESS && !has_properties) {
                return Ok(());
            }
            out.push(self.reason.0);
            if has_properties { self.properties.write(out) } else { Ok(()) }
        })
    }
}

impl DisconnectProperties {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut this = Self::default();
        property::read(reader, property::DISCONNECT, |property| {
            match property {
                Property::SessionExpiryInterval(seconds) => this.session_expiry_interval = Some(seconds),
                Property::ReasonString(text) => this.reason_string = Some(text.to_owned()),
                Property::User((name, value)) => {
                    this.user_properties.push((name.to_owned(), value.to_owned()))
                }
                Property::ServerReference(text) => this.server_reference = Some(text.to_owned()),
                _ => {} // the table lets nothing else through
            }
            Ok(())
        })?;
        Ok(this)
    }
}

impl PropertySet for DisconnectProperties {
    fn each<'a>(&'a self, mut visit: impl FnMut(Property<'a>)) {
        some(self.session_expiry_interval, Property::SessionExpiryInterval, &mut visit);
        some(self.reason_string.as_deref(), Property::ReasonString, &mut visit);
        users(&self.user_properties, &mut visit);
        some(self.server_reference.as_deref(), Property::ServerReference, &mut visit);
    }
}
