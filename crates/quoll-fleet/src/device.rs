//! A device and its life, from Known to Revoked.
//! What it is not: a connection. Whether a device is online at this moment is [`crate::presence`]'s to say.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub use quoll_tasmota::Mac;

pub use crate::address::{Address, AddressError};
pub use crate::name::{DeviceName, NameError};

/// A device of ours, as the registry has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Device {
    /// Its name: the certificate's common name.
    pub name: DeviceName,
    /// Where its web console was last.
    pub address: Address,
    /// Its hardware address, which no other device here has.
    pub mac: Mac,
    /// Chip as the firmware says it, e.g. `ESP32-C3`; empty if it did not.
    pub chip: String,
    /// Firmware version as the device says it, e.g. `15.3.0.3(tasmota32)`; empty if it did not.
    pub firmware: String,
    /// The names it publishes and subscribes under.
    pub topics: Topics,
    /// How well its link to the broker is secured, as far as it was proven.
    pub rung: Rung,
    /// Where in its life it is.
    pub state: DeviceState,
    /// Serial number of the certificate meant for it, upper-case hex as in Easy-RSA's `index.txt`.
    pub serial: Option<String>,
    /// End of that certificate's validity.
    pub expires: Option<OffsetDateTime>,
    /// When it was registered.
    pub first_seen: OffsetDateTime,
    /// When the broker or an enrolment last saw it.
    pub last_seen: Option<OffsetDateTime>,
    /// What went wrong last, if that is not settled.
    pub problem: Option<String>,
    /// Set while its owner keeps it out without taking its certificate back.
    pub quarantine: Option<Quarantine>,
}

/// A device that is kept out until it is released; its certificate stays valid.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Quarantine {
    /// Since when.
    pub since: OffsetDateTime,
    /// Why, in its owner's words; may be empty.
    pub reason: String,
}

impl Device {
    /// Whether the broker lets it in, by certificate or by password: neither revoked, removed nor in quarantine.
    #[must_use]
    pub fn is_welcome(&self) -> bool {
        self.state.admits() && self.quarantine.is_none()
    }
}

/// The settings that make up a device's topics (facts §6.2).
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Topics {
    /// `Topic`, e.g. `tasmota_A1B2C3`.
    pub topic: String,
    /// `FullTopic`, e.g. `%prefix%/%topic%/`.
    pub full_topic: String,
    /// `Prefix1`: commands.
    pub command: String,
    /// `Prefix2`: status.
    pub status: String,
    /// `Prefix3`: telemetry.
    pub telemetry: String,
    /// `GroupTopic1` to `4`, those that are set.
    pub groups: Vec<String>,
    /// `MqttClient`, e.g. `DVES_A1B2C3`.
    pub client_id: String,
}

/// How well a device's link to the broker is secured.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Rung {
    /// MQTT in clear.
    Plain,
    /// TLS with a pinned server key and a password: what released ESP32 binaries can do.
    Pinned,
    /// TLS with a certificate on both sides: needs a firmware build with `TLSKey`.
    Mutual,
}

/// Where in its life a device is. [`DeviceState::may_become`] has the arrows.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum DeviceState {
    /// Registered. Nothing on the device has been changed for good.
    Known,
    /// Key and certificate are stored on the device and their lengths match; it still talks to its old broker.
    KeyPushed,
    /// It has been, or may have been, told to use our broker; not yet seen there.
    Switched,
    /// Our broker saw its very certificate.
    Proven,
    /// It did not come to our broker and has its old settings back.
    RolledBack,
    /// Its certificate is void and it is admitted nowhere.
    Revoked,
    /// Out of the inventory; kept for the records. Its name may be used anew.
    Removed,
}

macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// The word that the registry and the command line use.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Reads that word; `None` for any other.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }

            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
        }

        impl ::std::fmt::Display for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words!(Rung { Plain = "plain", Pinned = "pinned", Mutual = "mutual" });
words!(DeviceState {
    Known = "known",
    KeyPushed = "key-pushed",
    Switched = "switched",
    Proven = "proven",
    RolledBack = "rolled-back",
    Revoked = "revoked",
    Removed = "removed",
});

impl DeviceState {
    /// Whether a device may go from here to `next`. Staying is always allowed.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use DeviceState::{KeyPushed, Known, Proven, Removed, Revoked, RolledBack, Switched};
        self == next
            || match next {
                Known => self == Removed || self == KeyPushed,
                KeyPushed => matches!(self, Known | Switched | Proven | RolledBack),
                // From Known and RolledBack: on the pinned rung there is no key to push first.
                Switched => matches!(self, Known | KeyPushed | Proven | RolledBack),
                Proven => self == Switched,
                RolledBack => matches!(self, KeyPushed | Switched),
                Revoked => self != Removed,
                Removed => true,
            }
    }

    /// Whether its certificate opens the broker's door. From the moment the certificate exists: the device connects
    /// before we know that it did.
    #[must_use]
    pub fn admits(self) -> bool {
        !matches!(self, Self::Revoked | Self::Removed)
    }

    /// Whether it is part of the inventory.
    #[must_use]
    pub fn is_present(self) -> bool {
        self != Self::Removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back() {
        for state in DeviceState::ALL {
            assert_eq!(DeviceState::from_word(state.as_str()), Some(*state));
        }
        for rung in Rung::ALL {
            assert_eq!(Rung::from_word(rung.as_str()), Some(*rung));
        }
        assert_eq!(DeviceState::from_word("online"), None);
    }

    #[test]
    fn nothing_comes_back_from_revoked_but_by_removal() {
        for state in DeviceState::ALL {
            let allowed = matches!(state, DeviceState::Revoked | DeviceState::Removed);
            assert_eq!(DeviceState::Revoked.may_become(*state), allowed, "{state}");
        }
    }

    #[test]
    fn only_a_switched_device_is_ever_proven() {
        for state in DeviceState::ALL {
            let allowed = matches!(state, DeviceState::Switched | DeviceState::Proven);
            assert_eq!(state.may_become(DeviceState::Proven), allowed, "{state}");
        }
    }
}
