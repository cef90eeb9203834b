//! Words on the wire: turns bytes into MQTT packets and back, for 3.1, 3.1.1 and 5.0.
//!
//! | room | what is in it |
//! |---|---|
//! | [`packet`] | one type for each packet of the standard, the same for all versions |
//! | [`mod@decode`] | incremental: bytes in, one packet out, never allocating beyond its limit |
//! | [`mod@encode`] | packets to bytes, appended to a buffer of the caller's |
//! | [`client`] | the client's side of the protocol, as a machine without I/O |
//! | [`topic`] | topic names and filters: parsing and matching (§4.7, §4.8.2) |
//! | [`reason`] | reason codes, and what of them a 3.x peer is told |
//! | [`limits`], [`error`] | the bounds, and what can be wrong with bytes |
//!
//! Knows no socket, no clock, no session. A version is an argument of decoding and encoding: what 3.1.1 lacks is
//! empty, not absent.

pub mod client;
pub mod decode;
pub mod encode;
pub mod error;
pub mod limits;
pub mod packet;
pub mod reason;
pub mod topic;

mod integer;
mod packet_id;
mod property;
mod property_form;
mod qos;
mod reader;
mod text;
mod version;
mod writer;

pub use decode::{DecodeContext, Decoded, Role, decode};
pub use encode::{SharedFrame, encode};
pub use error::{DecodeError, EncodeError};
pub use packet::{Packet, PacketKind};
pub use packet_id::PacketId;
pub use qos::{Delivery, QoS};
pub use reason::ReasonCode;
pub use topic::{ShareFilter, TopicFilter, TopicName};
pub use version::ProtocolVersion;
