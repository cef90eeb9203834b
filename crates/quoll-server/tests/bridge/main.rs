//! Bridges: packet by packet beside Debian's Mosquitto, to a real one, through lost links, and with hostile peers.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod counterpart;
mod documented;
mod fake;
mod hostile;
mod kept;
mod lives;
mod reload;
mod secure;
mod subject;
mod window;
