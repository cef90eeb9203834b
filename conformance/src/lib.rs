//! Conformance from outside: tests that know a broker by its address and MQTT by its bytes.
//!
//! Deliberately does not use `quoll-mqtt`: a mistake made there must not be repeated here. Nothing in this crate is
//! fit for use as a client; it is built to say wrong things on purpose.
//!
//! | file | is for |
//! |---|---|
//! | [`subject`] | which broker is tested and how it starts |
//! | [`words`] | bytes of each packet, also of wrong ones |
//! | [`property`] | properties of MQTT 5.0 |
//! | [`heard`] | reading what the broker says |
//! | [`client`] | the blocking client with the verbs of the tests |
//! | [`rows`] | table-driven checks that report every wrong row |
//! | [`scenes`] | behaviour that all three versions share, once |
//! | [`coverage`] | which clause is tested where (`docs/conformance.md`) |
//! | [`difference`] | why a subject fails a test |
//! | [`differential`] | two clients, two brokers, the same bytes |
//! | [`wrong`] | every wrong packet, and what each broker does about it |
//!
//! Tests are in `tests/mqtt5`, `tests/mqtt311` and `tests/mqtt31`, one file per chapter of the standard.

pub mod client;
pub mod coverage;
pub mod difference;
pub mod differential;
pub mod heard;
pub mod property;
pub mod rows;
pub mod scenes;
pub mod subject;
pub mod words;
pub mod wrong;

/// What nearly every test needs.
pub mod prelude {
    pub use crate::client::{Client, Ending, Heard, unique_id, unique_topic};
    pub use crate::heard::{Packet, kind};
    pub use crate::property::{self, Property};
    pub use crate::rows::Rows;
    pub use crate::words::{self, Connect, Publish, Version, Version::*, Will, publish};
    pub use std::time::{Duration, Instant};
}
