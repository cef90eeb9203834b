//! The bytes of facts and letters: a version, a kind, fields in order, a CRC-32 over all of it.
//!
//! Not MQTT's wire form: this one never meets a peer, and it must be readable by later versions of ourselves.
//! Integers are little-endian, texts and bytes have a four-byte length. The decoder is exact: what it accepts encodes
//! to the same bytes again, and every byte is used.

use std::sync::Arc;

use bytes::Bytes;
use quoll_mqtt::packet::{PublishProperties, RetainHandling, SaidOrder, SubscriptionOptions};
use quoll_mqtt::{QoS, TopicFilter, TopicName};
use thiserror::Error;

use crate::message::{Message, MessageParts};
use crate::moment::Moment;

/// The version of the encoding that this code writes, and the only one that it reads so far.
pub(crate) const VERSION: u8 = 1;

/// Why bytes are no fact or letter. The disk's fault or another version's, never a peer's.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum RecordError {
    /// Fewer bytes than the record says it has.
    #[error("the record ends {missing} bytes too early")]
    Truncated {
        /// Bytes that are missing at least.
        missing: usize,
    },
    /// The checksum is another: bytes were changed.
    #[error("the record's checksum is {found:08x}, its bytes give {computed:08x}")]
    Checksum {
        /// As written.
        found: u32,
        /// As computed.
        computed: u32,
    },
    /// Written by a version that this code does not know.
    #[error("the record has version {found}, this program reads {VERSION}")]
    Version {
        /// Its version.
        found: u8,
    },
    /// A kind that this version does not have.
    #[error("the record is of the unknown kind {found}")]
    Kind {
        /// Its kind.
        found: u8,
    },
    /// A field whose value cannot be.
    #[error("the record's field \"{field}\" has a value that cannot be")]
    Value {
        /// The field.
        field: &'static str,
    },
    /// Bytes after the last field.
    #[error("the record has {bytes} bytes after its last field")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

/// Builds a record.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(kind: u8) -> Self {
        Self(vec![VERSION, kind])
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let sum = crc32(&self.0);
        self.0.extend_from_slice(&sum.to_le_bytes());
        self.0
    }

    pub(crate) fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn flag(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    pub(crate) fn short(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn word(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn long(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn array(&mut self, value: &[u8; 32]) {
        self.0.extend_from_slice(value);
    }

    /// Nothing on the wire of ours is longer than an MQTT packet, so the length fits.
    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.word(u32::try_from(value.len()).expect("no field is longer than an MQTT packet"));
        self.0.extend_from_slice(value);
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(crate) fn moment(&mut self, value: Moment) {
        self.long(value.0);
    }

    pub(crate) fn options(&mut self, value: SubscriptionOptions) {
        self.byte(
            value.qos as u8
                | u8::from(value.no_local) << 2
                | u8::from(value.retain_as_published) << 3
                | (value.retain_handling as u8) << 4,
        );
    }

    pub(crate) fn message(&mut self, message: &Message) {
        self.long(message.number);
        self.text(&message.publisher);
        self.text(message.topic.as_str());
        self.bytes(&message.payload);
        let order = message.properties.as_ref().map_or(0, |properties| properties.order.number());
        self.byte(
            message.qos as u8
                | u8::from(message.retain) << 2
                | if message.source().is_some() { HAS_SOURCE } else { 0 }
                | if order > 0 { HAS_ORDER } else { 0 },
        );
        self.option(message.expires, Self::moment);
        self.option(message.properties.as_deref(), |to, properties| {
            to.option(properties.payload_format_indicator, Self::flag);
            to.option(properties.response_topic.as_ref(), |to, topic| to.text(topic.as_str()));
            to.option(properties.correlation_data.as_ref(), |to, data| to.bytes(data));
            to.option(properties.content_type.as_ref(), |to, text| to.text(text));
            to.word(u32::try_from(properties.user_properties.len()).expect("fewer than bytes of a packet"));
            for (name, value) in &properties.user_properties {
                to.text(name);
                to.text(value);
            }
            if order > 0 {
                to.short(order);
            }
        });
        if let Some(source) = message.source() {
            self.text(source);
        }
    }
}

/// A message's source follows it; files from before there were sources have none.
const HAS_SOURCE: u8 = 8;

/// The order of its properties follows them: most have the usual one, and those in older files.
const HAS_ORDER: u8 = 16;

/// Takes a record apart.
pub(crate) struct Reader<'a>(&'a [u8]);

type Read<T> = Result<T, RecordError>;

impl<'a> Reader<'a> {
    /// Checks version and checksum; returns the record's kind and its fields.
    pub(crate) fn open(record: &'a [u8]) -> Read<(u8, Self)> {
        let Some((body, sum)) = record.split_last_chunk::<4>().filter(|(body, _)| body.len() >= 2) else {
            return Err(RecordError::Truncated { missing: 6_usize.saturating_sub(record.len()) });
        };
        if body[0] != VERSION {
            return Err(RecordError::Version { found: body[0] });
        }
        let (found, computed) = (u32::from_le_bytes(*sum), crc32(body));
        if found != computed {
            return Err(RecordError::Checksum { found, computed });
        }
        Ok((body[1], Self(&body[2..])))
    }

    pub(crate) fn close(self) -> Read<()> {
        if self.0.is_empty() { Ok(()) } else { Err(RecordError::Trailing { bytes: self.0.len() }) }
    }

    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let Some((taken, rest)) = self.0.split_at_checked(count) else {
            return Err(RecordError::Truncated { missing: count - self.0.len() });
        };
        self.0 = rest;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Read<[u8; N]> {
        let mut chunk = [0; N];
        chunk.copy_from_slice(self.take(N)?);
        Ok(chunk)
    }

    pub(crate) fn byte(&mut self) -> Read<u8> {
        Ok(self.chunk::<1>()?[0])
    }

    pub(crate) fn flag(&mut self, field: &'static str) -> Read<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RecordError::Value { field }),
        }
    }

    pub(crate) fn short(&mut self) -> Read<u16> {
        Ok(u16::from_le_bytes(self.chunk()?))
    }

    pub(crate) fn word(&mut self) -> Read<u32> {
        Ok(u32::from_le_bytes(self.chunk()?))
    }

    pub(crate) fn long(&mut self) -> Read<u64> {
        Ok(u64::from_le_bytes(self.chunk()?))
    }

    pub(crate) fn array(&mut self) -> Read<[u8; 32]> {
        self.chunk()
    }

    pub(crate) fn bytes(&mut self) -> Read<&'a [u8]> {
        let count = self.word()?;
        self.take(count as usize)
    }

    pub(crate) fn str(&mut self, field: &'static str) -> Read<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| RecordError::Value { field })
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Read<Arc<str>> {
        self.str(field).map(Arc::from)
    }

    pub(crate) fn topic(&mut self, field: &'static str) -> Read<TopicName> {
        TopicName::parse(self.str(field)?).map_err(|_| RecordError::Value { field })
    }

    pub(crate) fn filter(&mut self) -> Read<TopicFilter> {
        TopicFilter::parse(self.str("filter")?).map_err(|_| RecordError::Value { field: "filter" })
    }

    pub(crate) fn option<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self) -> Read<T>,
    ) -> Read<Option<T>> {
        if self.flag(field)? { read(self).map(Some) } else { Ok(None) }
    }

    pub(crate) fn moment(&mut self) -> Read<Moment> {
        self.long().map(Moment)
    }

    pub(crate) fn qos(&mut self) -> Read<QoS> {
        QoS::from_bits(self.byte()?).ok_or(RecordError::Value { field: "qos" })
    }

    pub(crate) fn options(&mut self) -> Read<SubscriptionOptions> {
        let bits = self.byte()?;
        let wrong = RecordError::Value { field: "options" };
        let retain_handling = match bits >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(wrong),
        };
        Ok(SubscriptionOptions {
            qos: QoS::from_bits(bits & 3).ok_or(wrong)?,
            no_local: bits & 4 != 0,
            retain_as_published: bits & 8 != 0,
            retain_handling,
        })
    }

    pub(crate) fn message(&mut self) -> Read<Arc<Message>> {
        let number = self.long()?;
        let publisher = self.text("publisher")?;
        let topic = self.topic("topic")?;
        let payload = Bytes::copy_from_slice(self.bytes()?);
        let bits = self.byte()?;
        let qos =
            QoS::from_bits(bits & 3).filter(|_| bits < 32).ok_or(RecordError::Value { field: "qos" })?;
        let expires = self.option("expires", Self::moment)?;
        let mut properties = self.option("properties", Self::properties)?;
        if bits & HAS_ORDER != 0 {
            let order = SaidOrder::numbered(self.short()?).filter(|order| order.number() > 0);
            let (Some(properties), Some(order)) = (properties.as_deref_mut(), order) else {
                return Err(RecordError::Value { field: "order of properties" });
            };
            properties.order = order;
        }
        let retain = bits & 4 != 0;
        let had = properties.is_some();
        let message = Message::new(MessageParts {
            number,
            publisher,
            topic,
            payload,
            qos,
            retain,
            properties,
            expires,
        });
        if had && message.properties.is_none() {
            return Err(RecordError::Value { field: "properties" });
        }
        if bits & HAS_SOURCE != 0 {
            return Ok(Arc::new(message.of_source(self.text("source")?)));
        }
        Ok(Arc::new(message))
    }

    fn properties(&mut self) -> Read<Box<PublishProperties>> {
        let mut properties = PublishProperties {
            payload_format_indicator: self.option("payload format", |from| from.flag("payload format"))?,
            response_topic: self.option("response topic", |from| from.topic("response topic"))?,
            correlation_data: self
                .option("correlation data", |from| from.bytes().map(Bytes::copy_from_slice))?,
            content_type: self.option("content type", |from| from.str("content type").map(str::to_owned))?,
            ..PublishProperties::default()
        };
        for _ in 0..self.word()? {
            let name = self.str("user property")?.to_owned();
            properties.user_properties.push((name, self.str("user property")?.to_owned()));
        }
        Ok(Box::new(properties))
    }
}

/// CRC-32 of IEEE 802.3, the one of zip and Ethernet.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| CRC_TABLE[usize::from((sum as u8) ^ byte)] ^ (sum >> 8))
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { 0xEDB8_8320 ^ (sum >> 1) } else { sum >> 1 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_crc_32() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }
}
