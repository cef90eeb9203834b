//! The bounds of this crate, each with its reason.

use std::time::Duration;

/// The largest Remaining Length that four bytes can say (§1.5.5, §2.1.4).
pub const MAX_REMAINING_LENGTH: u32 = 268_435_455;

/// The largest packet a [`crate::client::Client`] accepts unless told otherwise, in bytes: Mosquitto's own default for
/// a broker, so that whatever it passes on can be read.
pub const CLIENT_MAXIMUM_PACKET_SIZE: u32 = 2_000_000;

/// How long a client waits for CONNACK and PINGRESP, which the standard leaves open ("a reasonable amount of time",
/// §3.1.2.10). Longer than a slow device's whole TLS handshake.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(20);

/// Requests (publishes of QoS 1 and 2, subscribes, unsubscribes) that a client has under way at most, whatever the
/// server's Receive Maximum: each is kept until it is answered.
pub const CLIENT_REQUESTS: usize = 1_000;
