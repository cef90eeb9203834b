//! UNSUBSCRIBE (§3.10).

use super::subscribe::read_filter;
use super::{AckProperties, PacketKind, UserProperty};
use crate::property::{self, Property, PropertySet, users};
use crate::reader::Reader;
use crate::{DecodeError, EncodeError, PacketId, ProtocolVersion, TopicFilter, writer};

/// UNSUBSCRIBE (§3.10).
#[derive(Clone, Debug, PartialEq)]
pub struct Unsubscribe {
    /// Packet identifier.
    pub packet_id: PacketId,
    /// At least one filter [MQTT-3.10.3-2].
    pub filters: Vec<TopicFilter>,
    /// User properties; empty below 5.0.
    pub user_properties: Vec<UserProperty>,
}

impl Unsubscribe {
    pub(crate) fn read(reader: &mut Reader<'_>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let mut user_properties = Vec::new();
        if version == ProtocolVersion::V5 {
            user_properties = AckProperties::read(reader, property::UNSUBSCRIBE)?.user_properties;
        }
        if reader.is_empty() {
            return Err(reader.malformed("no topic filter [MQTT-3.10.3-2]"));
        }
        let mut filters = Vec::with_capacity(1);
        while !reader.is_empty() {
            filters.push(read_filter(reader)?);
        }
        Ok(Self { packet_id, filters, user_properties })
    }

    pub(crate) fn write(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.filters.is_empty() {
            return Err(EncodeError::Value { field: "Topic Filter", what: "at least one [MQTT-3.10.3-2]" });
        }
        writer::frame(PacketKind::Unsubscribe.first_byte(), out, |out| {
            writer::u16(self.packet_id.get(), out);
            if version == ProtocolVersion::V5 {
                UserProperties(&self.user_properties).write(out)?;
            }
            self.filters.iter().try_for_each(|filter| writer::text("Topic Filter", filter.as_str(), out))
        })
    }
}

/// UNSUBSCRIBE has no properties but the user's (§3.10.2.1).
struct UserProperties<'p>(&'p [UserProperty]);

impl PropertySet for UserProperties<'_> {
    fn each<'a>(&'a self, mut visit: impl FnMut(Property<'a>)) {
        users(self.0, &mut visit);
    }
}
