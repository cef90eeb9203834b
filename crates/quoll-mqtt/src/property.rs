//! The properties of MQTT 5.0 (§2.2.2): one table of identifier, name, wire form and the packets that may carry it.
//!
//! Packets meet properties here only as [`Property`] values; which field each one fills is said in the packet's file.

use crate::property_form::{
    Binary, Flag, Form, FourBytes, LowQoS, Pair, PositiveFourBytes, PositiveTwoBytes, PositiveVarInt, Text,
    TopicAliasForm, TwoBytes,
};
use crate::reader::Reader;
use crate::writer::remaining_length;
use crate::{DecodeError, EncodeError, QoS, integer};

/// A set of places where properties stand, one bit for each.
type Places = u16;

pub(crate) const CONNECT: Places = 1;
/// The will's own properties inside CONNECT's payload (§3.1.3.2).
pub(crate) const WILL: Places = 1 << 1;
pub(crate) const CONNACK: Places = 1 << 2;
pub(crate) const PUBLISH: Places = 1 << 3;
/// PUBACK, PUBREC, PUBREL and PUBCOMP.
pub(crate) const ACK: Places = 1 << 4;
pub(crate) const SUBSCRIBE: Places = 1 << 5;
pub(crate) const SUBACK: Places = 1 << 6;
pub(crate) const UNSUBSCRIBE: Places = 1 << 7;
pub(crate) const UNSUBACK: Places = 1 << 8;
pub(crate) const DISCONNECT: Places = 1 << 9;
pub(crate) const AUTH: Places = 1 << 10;
const EVERYWHERE: Places = (1 << 11) - 1;

macro_rules! properties {
    ($($id:literal $variant:ident($value:ty) $form:ident $name:literal $places:expr;)*) => {
        /// One property with its value, borrowed from the packet it is read from or written into.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub(crate) enum Property<'a> {
            $(#[doc = $name] $variant($value),)*
        }

        /// One row of the table, without the value's type.
        struct Row {
            places: Places,
            twice: &'static str,
            misplaced: &'static str,
        }

        const fn row(id: u32) -> Option<Row> {
            match id {
                $($id => Some(Row {
                    places: $places,
                    twice: concat!($name, " more than once (§2.2.2.2)"),
                    misplaced: concat!($name, " is no property of this packet (§2.2.2.2)"),
                }),)*
                _ => None,
            }
        }

        impl<'a> Property<'a> {
            fn read(id: u32, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
                match id {
                    $($id => $form::read(reader).map(Self::$variant),)*
                    _ => Err(reader.malformed("unknown property (§2.2.2.2)")),
                }
            }

            fn size(self) -> usize {
                match self { $(Self::$variant(value) => 1 + $form::size(value),)* }
            }

            fn write(self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                match self {
                    $(Self::$variant(value) => {
                        out.push($id);
                        $form::write($name, value, out)
                    })*
                }
            }
        }
    };
}

properties! {
    // id variant(value)                     wire form          name                           may appear in
    0x01 PayloadFormatIndicator(bool)        Flag               "Payload Format Indicator"          PUBLISH | WILL;
    0x02 MessageExpiryInterval(u32)          FourBytes          "Message Expiry Interval"           PUBLISH | WILL;
    0x03 ContentType(&'a str)                Text               "Content Type"                      PUBLISH | WILL;
    0x08 ResponseTopic(&'a str)              Text               "Response Topic"                    PUBLISH | WILL;
    0x09 CorrelationData(&'a [u8])           Binary             "Correlation Data"                  PUBLISH | WILL;
    0x0B SubscriptionIdentifier(u32)         PositiveVarInt     "Subscription Identifier"           PUBLISH | SUBSCRIBE;
    0x11 SessionExpiryInterval(u32)          FourBytes          "Session Expiry Interval"           CONNECT | CONNACK | DISCONNECT;
    0x12 AssignedClientIdentifier(&'a str)   Text               "Assigned Client Identifier"        CONNACK;
    0x13 ServerKeepAlive(u16)                TwoBytes           "Server Keep Alive"                 CONNACK;
    0x15 AuthenticationMethod(&'a str)       Text               "Authentication Method"             CONNECT | CONNACK | AUTH;
    0x16 AuthenticationData(&'a [u8])        Binary             "Authentication Data"               CONNECT | CONNACK | AUTH;
    0x17 RequestProblemInformation(bool)     Flag               "Request Problem Information"       CONNECT;
    0x18 WillDelayInterval(u32)              FourBytes          "Will Delay Interval"               WILL;
    0x19 RequestResponseInformation(bool)    Flag               "Request Response Information"      CONNECT;
    0x1A ResponseInformation(&'a str)        Text               "Response Information"              CONNACK;
    0x1C ServerReference(&'a str)            Text               "Server Reference"                  CONNACK | DISCONNECT;
    0x1F ReasonString(&'a str)               Text               "Reason String"                     CONNACK | ACK | SUBACK | UNSUBACK | DISCONNECT | AUTH;
    0x21 ReceiveMaximum(u16)                 PositiveTwoBytes   "Receive Maximum"                   CONNECT | CONNACK;
    0x22 TopicAliasMaximum(u16)              TwoBytes           "Topic Alias Maximum"               CONNECT | CONNACK;
    0x23 TopicAlias(std::num::NonZeroU16)    TopicAliasForm     "Topic Alias"                       PUBLISH;
    0x24 MaximumQoS(QoS)                     LowQoS             "Maximum QoS"                       CONNACK;
    0x25 RetainAvailable(bool)               Flag               "Retain Available"                  CONNACK;
    0x26 User((&'a str, &'a str))            Pair               "User Property"                     EVERYWHERE;
    0x27 MaximumPacketSize(u32)              PositiveFourBytes  "Maximum Packet Size"               CONNECT | CONNACK;
    0x28 WildcardSubscriptionAvailable(bool) Flag               "Wildcard Subscription Available"   CONNACK;
    0x29 SubscriptionIdentifiersAvailable(bool) Flag            "Subscription Identifier Available" CONNACK;
    0x2A SharedSubscriptionAvailable(bool)   Flag               "Shared Subscription Available"     CONNACK;
}

/// Reads a property length and the properties, handing each to `take` (§2.2.2).
///
/// Refused before `take` sees it: an unknown one (malformed), one that does not belong here, or a second one of a kind
/// that may stand once (protocol errors, as Mosquitto has it).
pub(crate) fn read<'a>(
    reader: &mut Reader<'a>,
    place: Places,
    mut take: impl FnMut(Property<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let length = reader.var_int()?;
    if length == 0 {
        return Ok(());
    }
    let mut part = reader.part(length as usize)?;
    let mut seen = 0_u64;
    while !part.is_empty() {
        let id = part.var_int()?;
        let row = row(id).ok_or_else(|| part.malformed("unknown property (§2.2.2.2)"))?;
        if row.places & place == 0 {
            return Err(part.malformed(row.misplaced));
        }
        if seen & (1 << id) != 0 && !may_repeat(id, place) {
            return Err(part.protocol(row.twice));
        }
        seen |= 1 << id;
        take(Property::read(id, &mut part)?)?;
    }
    Ok(())
}

/// User properties may repeat everywhere, subscription identifiers in PUBLISH (§3.3.2.3.8).
const fn may_repeat(id: u32, place: Places) -> bool {
    id == 0x26 || (id == 0x0B && place == PUBLISH)
}

/// The properties of one packet, for writing.
pub(crate) trait PropertySet {
    /// Hands each property that is present to `visit`, in the order in which they are written.
    fn each<'a>(&'a self, visit: impl FnMut(Property<'a>));

    /// Bytes of all properties, without their length in front.
    fn size(&self) -> usize {
        let mut size = 0;
        self.each(|property| size += property.size());
        size
    }

    /// Appends the length and the properties.
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        integer::write(remaining_length(self.size())?, out);
        let mut result = Ok(());
        self.each(|property| {
            if result.is_ok() {
                result = property.write(out);
            }
        });
        result
    }
}

/// Hands `property(value)` to `visit` where there is a value.
pub(crate) fn some<'a, T>(
    value: Option<T>,
    property: impl FnOnce(T) -> Property<'a>,
    visit: &mut impl FnMut(Property<'a>),
) {
    if let Some(value) = value {
        visit(property(value));
    }
}

/// Hands user properties to `visit`, in their order [MQTT-3.3.2-18].
pub(crate) fn users<'a>(properties: &'a [(String, String)], visit: &mut impl FnMut(Property<'a>)) {
    for (name, value) in properties {
        visit(Property::User((name, value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Table 2-4 read the other way round: what each place may carry, user properties aside.
    #[test]
    fn each_place_has_the_properties_of_table_2_4() {
        for (name, place, wanted) in [
            ("CONNECT", CONNECT, &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x27][..]),
            ("will", WILL, &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18]),
            (
                "CONNACK",
                CONNACK,
                &[
                    0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x27, 0x28, 0x29,
                    0x2A,
                ],
            ),
            ("PUBLISH", PUBLISH, &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23]),
            ("PUBACK and its like", ACK, &[0x1F]),
            ("SUBSCRIBE", SUBSCRIBE, &[0x0B]),
            ("SUBACK", SUBACK, &[0x1F]),
            ("UNSUBSCRIBE", UNSUBSCRIBE, &[]),
            ("UNSUBACK", UNSUBACK, &[0x1F]),
            ("DISCONNECT", DISCONNECT, &[0x11, 0x1C, 0x1F]),
            ("AUTH", AUTH, &[0x15, 0x16, 0x1F]),
        ] {
            let may_stand = |id: &u32| row(*id).is_some_and(|row| row.places & place != 0);
            let found: Vec<_> = (0..=255).filter(may_stand).filter(|id| *id != 0x26).collect();
            assert_eq!(found, wanted, "{name}");
            assert!(may_stand(&0x26), "{name}");
        }
        assert_eq!((0..=255).filter(|id| row(*id).is_some()).count(), 27);
    }
}
