//! A cursor over the body of one packet. Never reads past it and never allocates; the caller copies what it keeps.

use crate::integer::{self, VarInt};
use crate::packet::PacketKind;
use crate::{DecodeError, PacketId, text};

/// What is left of one packet's body.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    kind: PacketKind,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(kind: PacketKind, body: &'a [u8]) -> Self {
        Self { rest: body, kind }
    }

    /// The body breaks its form: reason 0x81.
    #[cold]
    pub(crate) const fn malformed(&self, what: &'static str) -> DecodeError {
        DecodeError::Malformed { packet: self.kind.name(), what }
    }

    /// The body says what the protocol forbids: reason 0x82.
    #[cold]
    pub(crate) const fn protocol(&self, what: &'static str) -> DecodeError {
        DecodeError::Protocol { packet: self.kind.name(), what }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that is left.
    pub(crate) const fn remainder(&mut self) -> &'a [u8] {
        let rest = self.rest;
        self.rest = &[];
        rest
    }

    /// Refuses bytes behind the packet's last field.
    pub(crate) const fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.malformed("bytes behind the last field (§2.1.4)"))
        }
    }

    #[inline(always)]
    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(length) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.malformed("the packet ends inside a field (§2.1.4)")),
        }
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.rest.split_first_chunk() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(self.malformed("the packet ends inside a field (§2.1.4)")),
        }
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline(always)]
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A variable byte integer inside a packet, which only 5.0 has: minimal, therefore [MQTT-1.5.5-1].
    pub(crate) fn var_int(&mut self) -> Result<u32, DecodeError> {
        match integer::read(self.rest) {
            VarInt::Value { value, length, minimal: true } => {
                self.rest = &self.rest[length..];
                Ok(value)
            }
            VarInt::Value { .. } => {
                Err(self.malformed("variable byte integer longer than needed [MQTT-1.5.5-1]"))
            }
            VarInt::Incomplete => {
                Err(self.malformed("the packet ends inside a variable byte integer (§1.5.5)"))
            }
            VarInt::TooLong => Err(self.malformed("variable byte integer of more than four bytes (§1.5.5)")),
        }
    }

    /// Binary data: two bytes of length, then as many bytes (§1.5.6).
    #[inline(always)]
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u16()?;
        self.bytes(usize::from(length))
    }

    /// A UTF-8 string (§1.5.4).
    #[inline(always)]
    pub(crate) fn text(&mut self) -> Result<&'a str, DecodeError> {
        let bytes = self.binary()?;
        text::validate(bytes).map_err(|what| self.malformed(what))
    }

    /// A packet identifier. For 0 Mosquitto's reasons are followed: malformed in SUBSCRIBE and UNSUBSCRIBE, a
    /// protocol error in the packets of a delivery.
    #[inline]
    pub(crate) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        const WHAT: &str = "packet identifier 0 [MQTT-2.2.1-3] [MQTT-2.2.1-4]";
        let number = self.u16()?;
        PacketId::new(number).ok_or_else(|| match self.kind {
            PacketKind::Subscribe | PacketKind::Unsubscribe => self.malformed(WHAT),
            _ => self.protocol(WHAT),
        })
    }

    /// A reader of the next `length` bytes alone.
    pub(crate) fn part(&mut self, length: usize) -> Result<Self, DecodeError> {
        let body = self.bytes(length)?;
        Ok(Self { rest: body, kind: self.kind })
    }
}
