//! Targets of log lines: which of Mosquitto's kinds a line is, where tracing's levels do not say it.
//!
//! Lines that Mosquitto's users, scripts and log watchers rely on are said in the words of 2.0.11. Who writes the log maps
//! them to `log_type` by level and target:
//!
//! | tracing | target | `log_type` | also obeys |
//! |---|---|---|---|
//! | ERROR, WARN | any | `error`, `warning` | [`CONNECTION`]: `connection_messages` |
//! | INFO | [`CONNECTION`] | `notice` | `connection_messages` |
//! | INFO | [`NOTICE`] | `notice` | |
//! | INFO | any other | `information` | |
//! | DEBUG | [`SUBSCRIBE`], [`UNSUBSCRIBE`] | `subscribe`, `unsubscribe` | |
//! | DEBUG | [`WEBSOCKETS`] | `websockets` | |
//! | DEBUG | [`PACKETS`], any other | `debug` | |
//!
//! Texts that a peer chose have their control characters made visible, so that a line stays one. Never payloads, never
//! secrets.

use std::str::EscapeDebug;

/// Who comes and goes (`connection_messages`).
pub const CONNECTION: &str = "mosquitto::connection";

/// Notices that are not about coming and going.
pub const NOTICE: &str = "mosquitto::notice";

/// `ID QOS FILTER` for each subscription.
pub const SUBSCRIBE: &str = "mosquitto::subscribe";

/// `ID FILTER` for each one that ends.
pub const UNSUBSCRIBE: &str = "mosquitto::unsubscribe";

/// WebSocket handshakes and frames.
pub const WEBSOCKETS: &str = "mosquitto::websockets";

/// `Received … from ID`, `Sending … to ID`.
pub const PACKETS: &str = "mosquitto::packets";

/// What a peer chose, fit for a line of the log.
pub(crate) fn shown(text: &str) -> EscapeDebug<'_> {
    text.escape_debug()
}
