//! AUTH (§3.15), 5.0 alone.

use std::fmt;

use bytes::Bytes;

use super::{Hidden, PacketKind, UserProperty};
use crate::decode::Role;
use crate::property::{self, Property, PropertySet, some, users};
use crate::reader::Reader;
use crate::{DecodeError, EncodeError, ProtocolVersion, ReasonCode, writer};

/// AUTH (§3.15).
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    /// Success, continue authentication or re-authenticate.
    pub reason: ReasonCode,
    /// Properties.
    pub properties: AuthProperties,
}

/// Properties of AUTH (§3.15.2.2). Their `Debug` does not show the authentication data.
#[derive(Clone, Default, PartialEq)]
pub struct AuthProperties {
    /// Authentication Method.
    pub authentication_method: Option<String>,
    /// Authentication Data.
    pub authentication_data: Option<Bytes>,
    /// Reason String.
    pub reason_string: Option<String>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
}

impl Auth {
    pub(crate) fn read(reader: &mut Reader<'_>, role: Role) -> Result<Self, DecodeError> {
        if reader.is_empty() && role == Role::Client {
            return Ok(Self { reason: ReasonCode::SUCCESS, properties: AuthProperties::default() }); // §3.15.2.1
        }
        let reason = if reader.is_empty() { ReasonCode::SUCCESS } else { ReasonCode(reader.u8()?) };
        if !is_sent_to(reason, role) {
            return Err(reader.protocol("reason code of another packet or of the other side [MQTT-3.15.2-1]"));
        }
        let properties = AuthProperties::read(reader)?;
        if properties.authentication_method.is_none() {
            return Err(reader.protocol("no Authentication Method (§3.15.2.2.2)"));
        }
        Ok(Self { reason, properties })
    }

    /// Nothing but the fixed header where the reason is success and there are no properties (§3.15.2.1).
    pub(crate) fn write(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if version != ProtocolVersion::V5 {
            return Err(EncodeError::NotInVersion { packet: PacketKind::Auth.name() });
        }
        writer::frame(PacketKind::Auth.first_byte(), out, |out| {
            if self.reason == ReasonCode::SUCCESS && self.properties.size() == 0 {
                return Ok(());
            }
            out.push(self.reason.0);
            self.properties.write(out)
        })
    }
}

/// Success is the server's word, re-authenticate the client's, continue both sides' (table 3-11).
fn is_sent_to(reason: ReasonCode, role: Role) -> bool {
    match reason {
        ReasonCode::SUCCESS => role == Role::Client,
        ReasonCode::REAUTHENTICATE => role == Role::Server,
        reason => reason == ReasonCode::CONTINUE_AUTHENTICATION,
    }
}

impl AuthProperties {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut this = Self::default();
        property::read(reader, property::AUTH, |property| {
            match property {
                Property::AuthenticationMethod(text) => this.authentication_method = Some(text.to_owned()),
                Property::AuthenticationData(data) => {
                    this.authentication_data = Some(Bytes::copy_from_slice(data))
                }
                Property::ReasonString(text) => this.reason_string = Some(text.to_owned()),
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

impl PropertySet for AuthProperties {
    fn each<'a>(&'a self, mut visit: impl FnMut(Property<'a>)) {
        some(self.authentication_method.as_deref(), Property::AuthenticationMethod, &mut visit);
        some(self.authentication_data.as_deref(), Property::AuthenticationData, &mut visit);
        some(self.reason_string.as_deref(), Property::ReasonString, &mut visit);
        users(&self.user_properties, &mut visit);
    }
}

impl fmt::Debug for AuthProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthProperties")
            .field("authentication_method", &self.authentication_method)
            .field("authentication_data", &self.authentication_data.as_deref().map(Hidden::new))
            .field("reason_string", &self.reason_string)
            .field("user_properties", &self.user_properties)
            .finish()
    }
}
