//! PUBACK, PUBREC, PUBREL and PUBCOMP: one shape (§3.4 to §3.7).

use super::{PacketKind, UserProperty};
use crate::property::{self, Property, PropertySet, some, users};
use crate::reader::Reader;
use crate::{DecodeError, EncodeError, PacketId, ProtocolVersion, ReasonCode, writer};

/// The body of PUBACK, PUBREC, PUBREL and PUBCOMP.
#[derive(Clone, Debug, PartialEq)]
pub struct Ack {
    /// Which PUBLISH it is about.
    pub packet_id: PacketId,
    /// The reason; does not travel to a 3.x peer.
    pub reason: ReasonCode,
    /// Properties; `None` below 5.0 and where there are none.
    pub properties: Option<Box<AckProperties>>,
}

impl Ack {
    /// An acknowledgement without properties.
    #[must_use]
    pub const fn new(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self { packet_id, reason, properties: None }
    }
}

/// Properties of the four acknowledgements, of SUBACK and of UNSUBACK.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AckProperties {
    /// Reason String.
    pub reason_string: Option<String>,
    /// User properties.
    pub user_properties: Vec<UserProperty>,
}

impl Ack {
    pub(crate) fn read(
        kind: PacketKind,
        reader: &mut Reader<'_>,
        version: ProtocolVersion,
    ) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        if version != ProtocolVersion::V5 || reader.is_empty() {
            return Ok(Self::new(packet_id, ReasonCode::SUCCESS)); // §3.4.2.1
        }
        let reason = ReasonCode(reader.u8()?);
        if !reason.is_allowed_in(kind) {
            return Err(reader.protocol("reason code of another packet [MQTT-3.4.2-1]"));
        }
        if reader.is_empty() {
            return Ok(Self::new(packet_id, reason)); // §3.4.2.2.1
        }
        let properties = AckProperties::read(reader, property::ACK)?;
        let none = properties == AckProperties::default();
        Ok(Self { packet_id, reason, properties: (!none).then(|| Box::new(properties)) })
    }

    /// Reason and properties stay out where the reason is success and there are none (§3.4.2.1).
    pub(crate) fn write(
        &self,
        kind: PacketKind,
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        writer::frame(kind.first_byte(), out, |out| {
            writer::u16(self.packet_id.get(), out);
            let properties = self.properties.as_deref().filter(|properties| properties.size() > 0);
            match (version, properties) {
                (ProtocolVersion::V5, Some(properties)) => {
                    out.push(self.reason.0);
                    properties.write(out)
                }
                (ProtocolVersion::V5, None) if self.reason != ReasonCode::SUCCESS => {
                    out.push(self.reason.0);
                    Ok(())
                }
                _ => Ok(()),
            }
        })
    }
}

impl AckProperties {
    pub(crate) fn read(reader: &mut Reader<'_>, place: u16) -> Result<Self, DecodeError> {
        let mut this = Self::default();
        property::read(reader, place, |property| {
            match property {
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

impl PropertySet for AckProperties {
    fn each<'a>(&'a self, mut visit: impl FnMut(Property<'a>)) {
        some(self.reason_string.as_deref(), Property::ReasonString, &mut visit);
        users(&self.user_properties, &mut visit);
    }
}
