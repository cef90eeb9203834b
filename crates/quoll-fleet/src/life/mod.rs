//! A device's later life: what can happen to one that is ours already, and how one becomes ours that we did not enrol.
//!
//! | room | what is in it |
//! |---|---|
//! | `adopt` | a certificate of our CA that nobody has becomes a device's or a client's |
//! | `change` | a new key and certificate, and perhaps a new name: the order of it, and its journal |
//! | `exchange` | what that does on the device, and the old key back |
//! | `check` | how a device stands, asked and not changed; the proof of one that was set up by hand |
//! | `repair` | a device brought back, and new hardware enrolled under an old name |
//! | `replace` | what comes before that: the old one out, its topics onto the new one |
//! | [`server_key`] | a new key of the server, told to the devices that pin it |
//! | `error` | why a change stopped, and where that leaves the device |
//!
//! What it is not: enrolment of a bare device ([`crate::enrol`]), and revocation ([`crate::revoke`]).

mod adopt;
mod change;
mod check;
mod error;
mod exchange;
mod repair;
mod replace;
pub mod server_key;

pub use self::adopt::{AdoptError, Adoption, adopt_client, adopt_device};
pub use self::change::{Changed, Life};
pub use self::check::{Finding, check, prove, rung_in_question};
pub use self::error::{After, LifeError};
pub use self::replace::{Replaced, replace, retire_superseded};
