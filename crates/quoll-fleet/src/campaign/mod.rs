//! Many devices in one go: found, planned, enrolled a few at a time, reported.
//!
//! | room | what is in it |
//! |---|---|
//! | `candidate` | a device that was found, as the registry keeps it |
//! | `plan` | what would be done with each, and what is held back; pure |
//! | `verdict`, `doubles` | the reasons: of one device, and of several that share what each must have of its own |
//! | `run` | canaries first, then so many at a time; retries, time window, stop at a share of failures |
//! | `window` | the hours in which devices may be restarted |
//! | `record` | what became of each, in the registry, so that a run that was killed goes on |
//!
//! It does not know how a device is enrolled: that is [`Hand`]'s, which a caller makes of [`crate::enrol`].

mod candidate;
mod doubles;
mod plan;
mod record;
mod run;
mod verdict;
mod window;

pub use self::candidate::{Candidate, Found, Skill};
pub use self::plan::{Held, Hold, Item, Policy, Verdict, plan};
pub use self::record::{Campaign, Outcome, Record};
pub use self::run::{Done, Hand, News, Orders, Pace, Setback, Summary, Watcher, run};
pub use self::window::{Window, WindowError};
