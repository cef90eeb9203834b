//! Packet identifiers (§2.2.1).

use std::num::NonZeroU16;

/// A packet identifier: 1 to 65,535, never 0 [MQTT-2.2.1-3].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// The identifier with this number, or `None` for 0.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}
