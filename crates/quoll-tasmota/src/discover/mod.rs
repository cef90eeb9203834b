//! Finding devices, and saying what each can become.
//!
//! | room | what is in it |
//! |---|---|
//! | [`range`] | a range of addresses that may be swept: private or loopback, 1024 at most |
//! | [`mod@sweep`] | asking every address of it, bounded in rate and number |
//! | [`mod@examine`] | the harmless questions to one device |
//! | [`retained`] | a device's own announcement under `tasmota/discovery/` |
//! | [`finding`] | what was found; the rungs that are possible and what each would take |
//!
//! Changes nothing on any device, sends no key, knows no registry and no MQTT connection.

pub mod examine;
pub mod finding;
pub mod range;
pub mod retained;
pub mod sweep;

pub use examine::examine;
pub use finding::{Ability, Finding, Rung};
pub use range::{Range, RangeError};
pub use retained::{AnnouncementError, announced};
pub use sweep::{Swept, Visit, sweep, visit};
