//! A device's later life: what can happen to one that is ours already, and how one becomes ours that we did not enrol.
//!
//! | room | what is in it |
//! |---|---|
//! | `adopt` | a certificate of our CA that nobody has becomes a device's or a client's |
//!
//! What it is not: enrolment of a bare device ([`crate::enrol`]), and revocation ([`crate::revoke`]).

mod adopt;

pub use self::adopt::{AdoptError, Adoption, adopt_client, adopt_device};
