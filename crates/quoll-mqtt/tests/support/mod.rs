//! Packets for the tests, and a second implementation to hold ours against.

mod packets;

pub(crate) use packets::*;
