//! SUBACK and UNSUBACK (§3.9, §3.11).

use super::{AckProperties, PacketKind};
use crate::property::{self, PropertySet};
use crate::reader::Reader;
use crate::{DecodeError, EncodeError, PacketId, ProtocolVersion, ReasonCode, writer};

/// SUBACK (§3.9).
#[derive(Clone, Debug, PartialEq)]
pub struct SubAck {
    /// Packet identifier of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// One reason for each subscription, in order; the granted level where it was accepted. To a 3.x peer a
    /// failure is 0x80.
    pub reasons: Vec<ReasonCode>,
    /// Properties; empty below 5.0.
    pub properties: AckProperties,
}

/// UNSUBACK (§3.11). Below 5.0 it carries no reasons.
#[derive(Clone, Debug, PartialEq)]
pub struct UnsubAck {
    /// Packet identifier of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// One reason for each filter, in order.
    pub reasons: Vec<ReasonCode>,
    /// Properties; empty below 5.0.
    pub properties: AckProperties,
}

impl SubAck {
    pub(crate) fn read(reader: &mut Reader<'_>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let mut properties = AckProperties::default();
        if version == ProtocolVersion::V5 {
            properties = AckProperties::read(reader, property::SUBACK)?;
        }
        let reasons = read_reasons(reader, |reason| match version {
            ProtocolVersion::V5 => reason.is_allowed_in(PacketKind::SubAck),
            _ => matches!(reason.0, 0..=2 | 0x80), // 3.1.1 [MQTT-3.9.3-2]
        })?;
        Ok(Self { packet_id, reasons, properties })
    }

    pub(crate) fn write(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        writer::frame(PacketKind::SubAck.first_byte(), out, |out| {
            writer::u16(self.packet_id.get(), out);
            if version == ProtocolVersion::V5 {
                self.properties.write(out)?;
                out.extend(self.reasons.iter().map(|reason| reason.0));
            } else {
                out.extend(self.reasons.iter().map(|reason| reason.suback_return_code()));
            }
            Ok(())
        })
    }
}

impl UnsubAck {
    pub(crate) fn read(reader: &mut Reader<'_>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        if version != ProtocolVersion::V5 {
            return Ok(Self { packet_id, reasons: Vec::new(), properties: AckProperties::default() });
        }
        let properties = AckProperties::read(reader, property::UNSUBACK)?;
        let reasons = read_reasons(reader, |reason| reason.is_allowed_in(PacketKind::UnsubAck))?;
        Ok(Self { packet_id, reasons, properties })
    }

    pub(crate) fn write(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        writer::frame(PacketKind::UnsubAck.first_byte(), out, |out| {
            writer::u16(self.packet_id.get(), out);
            if version == ProtocolVersion::V5 {
                self.properties.write(out)?;
                out.extend(self.reasons.iter().map(|reason| reason.0));
            }
            Ok(())
        })
    }
}

/// One reason for each filter asked for, so at least one [MQTT-3.8.4-6] [MQTT-3.11.3-1].
fn read_reasons(
    reader: &mut Reader<'_>,
    allowed: impl Fn(ReasonCode) -> bool,
) -> Result<Vec<ReasonCode>, DecodeError> {
    let reasons: Vec<_> = reader.remainder().iter().copied().map(ReasonCode).collect();
    if reasons.is_empty() {
        return Err(reader.protocol("no reason code (§3.9.3)"));
    }
    if !reasons.iter().copied().all(allowed) {
        return Err(reader.protocol("reason code of another packet [MQTT-3.9.3-2] [MQTT-3.11.3-2]"));
    }
    Ok(reasons)
}
