//! An installation that somebody has built by hand, taken over: an Easy-RSA folder and a Mosquitto, read and understood.
//! The files that were there stay as they are; the acts are in `cli/import.rs`.
//!
//! | room | what is in it |
//! |---|---|
//! | `easyrsa` | where the folder is, what goes along with it, whose certificates are in it |
//! | `mosquitto` | what of a mosquitto.conf Quoll's node takes over, and what not |
//! | `rights` | what an `acl_file` allows a user, as a list of our own |

pub(crate) mod easyrsa;
pub(crate) mod mosquitto;
pub(crate) mod rights;

/// One thing that is there, and what becomes of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Fate {
    /// What it is: `listener 8883`.
    pub(crate) what: String,
    /// Where it stands.
    pub(crate) from: String,
    /// Whether Quoll takes it over.
    pub(crate) is_taken: bool,
    /// What it becomes, or why not and what to do instead.
    pub(crate) becomes: String,
}

impl Fate {
    pub(crate) fn taken(
        what: impl Into<String>,
        from: impl Into<String>,
        becomes: impl Into<String>,
    ) -> Self {
        Self { what: what.into(), from: from.into(), is_taken: true, becomes: becomes.into() }
    }

    pub(crate) fn left(what: impl Into<String>, from: impl Into<String>, becomes: impl Into<String>) -> Self {
        Self { is_taken: false, ..Self::taken(what, from, becomes) }
    }
}
