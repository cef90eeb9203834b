//! The wire forms of properties (§2.2.2.2): how a value of each kind is read and written, and what it may not be.

use std::num::NonZeroU16;

use crate::limits::MAX_REMAINING_LENGTH;
use crate::reader::Reader;
use crate::{DecodeError, EncodeError, QoS, integer, writer};

/// One wire form.
pub(crate) trait Form<'a> {
    /// What it carries.
    type Value;

    fn read(reader: &mut Reader<'a>) -> Result<Self::Value, DecodeError>;

    /// Bytes that the value takes, its own length included.
    fn size(value: Self::Value) -> usize;

    fn write(field: &'static str, value: Self::Value, out: &mut Vec<u8>) -> Result<(), EncodeError>;
}

/// A byte that is 0 or 1.
pub(crate) struct Flag;
/// A byte that is 0 or 1, and says a quality of service (§3.2.2.3.4).
pub(crate) struct LowQoS;
/// Two bytes.
pub(crate) struct TwoBytes;
/// Two bytes, not 0.
pub(crate) struct PositiveTwoBytes;
/// Two bytes, not 0 [MQTT-3.3.2-8]; a 0 has a reason code of its own.
pub(crate) struct TopicAliasForm;
/// Four bytes.
pub(crate) struct FourBytes;
/// Four bytes, not 0.
pub(crate) struct PositiveFourBytes;
/// A variable byte integer, not 0.
pub(crate) struct PositiveVarInt;
/// A UTF-8 string.
pub(crate) struct Text;
/// Binary data.
pub(crate) struct Binary;
/// Two UTF-8 strings.
pub(crate) struct Pair;

impl<'a> Form<'a> for Flag {
    type Value = bool;

    fn read(reader: &mut Reader<'a>) -> Result<bool, DecodeError> {
        match reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(reader.protocol("a property that is 0 or 1 has another value (§2.2.2.2)")),
        }
    }

    fn size(_: bool) -> usize {
        1
    }

    fn write(_: &'static str, value: bool, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(u8::from(value));
        Ok(())
    }
}

impl<'a> Form<'a> for LowQoS {
    type Value = QoS;

    fn read(reader: &mut Reader<'a>) -> Result<QoS, DecodeError> {
        match reader.u8()? {
            0 => Ok(QoS::AtMostOnce),
            1 => Ok(QoS::AtLeastOnce),
            _ => Err(reader.protocol("Maximum QoS is neither 0 nor 1 (§3.2.2.3.4)")),
        }
    }

    fn size(_: QoS) -> usize {
        1
    }

    fn write(field: &'static str, value: QoS, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if value == QoS::ExactlyOnce {
            return Err(EncodeError::Value { field, what: "2 is said by leaving it out (§3.2.2.3.4)" });
        }
        out.push(value as u8);
        Ok(())
    }
}

impl<'a> Form<'a> for TwoBytes {
    type Value = u16;

    fn read(reader: &mut Reader<'a>) -> Result<u16, DecodeError> {
        reader.u16()
    }

    fn size(_: u16) -> usize {
        2
    }

    fn write(_: &'static str, value: u16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        writer::u16(value, out);
        Ok(())
    }
}

impl<'a> Form<'a> for PositiveTwoBytes {
    type Value = u16;

    fn read(reader: &mut Reader<'a>) -> Result<u16, DecodeError> {
        match reader.u16()? {
            0 => Err(reader.protocol("Receive Maximum 0 (§3.1.2.11.3)")),
            value => Ok(value),
        }
    }

    fn size(_: u16) -> usize {
        2
    }

    fn write(field: &'static str, value: u16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        positive(field, u32::from(value))?;
        writer::u16(value, out);
        Ok(())
    }
}

impl<'a> Form<'a> for TopicAliasForm {
    type Value = NonZeroU16;

    fn read(reader: &mut Reader<'a>) -> Result<NonZeroU16, DecodeError> {
        NonZeroU16::new(reader.u16()?).ok_or(DecodeError::TopicAlias { alias: 0, maximum: u16::MAX })
    }

    fn size(_: NonZeroU16) -> usize {
        2
    }

    fn write(_: &'static str, value: NonZeroU16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        writer::u16(value.get(), out);
        Ok(())
    }
}

impl<'a> Form<'a> for FourBytes {
    type Value = u32;

    fn read(reader: &mut Reader<'a>) -> Result<u32, DecodeError> {
        reader.u32()
    }

    fn size(_: u32) -> usize {
        4
    }

    fn write(_: &'static str, value: u32, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }
}

impl<'a> Form<'a> for PositiveFourBytes {
    type Value = u32;

    fn read(reader: &mut Reader<'a>) -> Result<u32, DecodeError> {
        match reader.u32()? {
            0 => Err(reader.protocol("Maximum Packet Size 0 (§3.1.2.11.4)")),
            value => Ok(value),
        }
    }

    fn size(_: u32) -> usize {
        4
    }

    fn write(field: &'static str, value: u32, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        positive(field, value)?;
        FourBytes::write(field, value, out)
    }
}

impl<'a> Form<'a> for PositiveVarInt {
    type Value = u32;

    fn read(reader: &mut Reader<'a>) -> Result<u32, DecodeError> {
        match reader.var_int()? {
            0 => Err(reader.malformed("Subscription Identifier 0 (§3.8.2.1.2)")),
            value => Ok(value),
        }
    }

    fn size(value: u32) -> usize {
        integer::size(value)
    }

    fn write(field: &'static str, value: u32, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        positive(field, value)?;
        if value > MAX_REMAINING_LENGTH {
            return Err(EncodeError::Value { field, what: "over 268,435,455 (§1.5.5)" });
        }
        integer::write(value, out);
        Ok(())
    }
}

impl<'a> Form<'a> for Text {
    type Value = &'a str;

    fn read(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
        reader.text()
    }

    fn size(value: &'a str) -> usize {
        2 + value.len()
    }

    fn write(field: &'static str, value: &'a str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        writer::text(field, value, out)
    }
}

impl<'a> Form<'a> for Binary {
    type Value = &'a [u8];

    fn read(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
        reader.binary()
    }

    fn size(value: &'a [u8]) -> usize {
        2 + value.len()
    }

    fn write(field: &'static str, value: &'a [u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        writer::binary(field, value, out)
    }
}

impl<'a> Form<'a> for Pair {
    type Value = (&'a str, &'a str);

    fn read(reader: &mut Reader<'a>) -> Result<(&'a str, &'a str), DecodeError> {
        Ok((reader.text()?, reader.text()?))
    }

    fn size((name, value): (&'a str, &'a str)) -> usize {
        4 + name.len() + value.len()
    }

    fn write(
        field: &'static str,
        (name, value): (&'a str, &'a str),
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        writer::text(field, name, out)?;
        writer::text(field, value, out)
    }
}

fn positive(field: &'static str, value: u32) -> Result<(), EncodeError> {
    if value == 0 { Err(EncodeError::Value { field, what: "0 is not allowed" }) } else { Ok(()) }
}
