//! Why a bundle is refused. Everything here is said before anything is changed.

use std::{io, path::PathBuf};

use time::OffsetDateTime;

use super::phrase::Phrase;
use crate::{error::PkiError, name::CertName};

/// Why a bundle was not made, signed or accepted; [`BundleError::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    // The file.
    /// Not a bundle at all.
    #[error("it is no bundle of Quoll's: {problem}")]
    NotABundle {
        /// What is wrong.
        problem: String,
    },
    /// It ends too early.
    #[error("it is cut off: {missing} is missing or not whole")]
    CutOff {
        /// The first thing that is not there.
        missing: String,
    },
    /// A member is not what the manifest says.
    #[error("it is damaged: {member} is not what the manifest says")]
    Damaged {
        /// The member.
        member: String,
    },
    /// There is something in it that has no business there.
    #[error("there is something in it that does not belong there: {member:?} ({why})")]
    Foreign {
        /// The member's name as written.
        member: String,
        /// What is wrong with it.
        why: String,
    },
    /// A member or the whole is larger than any real one.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// The member, or the file.
        what: String,
        /// The most that is taken.
        limit: u64,
    },
    /// Made by a later version.
    #[error("it has format {found}; this Quoll knows up to {known}")]
    Newer {
        /// The format's number.
        found: u64,
        /// The highest we read.
        known: u64,
    },
    /// A bundle, but of another kind.
    #[error("it is {found}, not {expected}")]
    WrongKind {
        /// What it is.
        found: &'static str,
        /// What is wanted.
        expected: &'static str,
    },
    /// The manifest's signature is not the CA's.
    #[error("its signature was not made by the CA {ca:?} over this manifest")]
    BadSignature {
        /// The CA whose certificate is inside.
        ca: String,
    },

    // The two machines.
    /// It is meant for, or from, another CA.
    #[error("it belongs to another CA: {theirs}; the CA here is {ours}")]
    WrongCa {
        /// Name and phrase of ours.
        ours: String,
        /// Name and phrase of theirs.
        theirs: String,
    },
    /// The person has another phrase on the other screen.
    #[error("the comparison phrases differ: this file has {here}, you said {said}")]
    PhraseDiffers {
        /// Of this file.
        here: Phrase,
        /// As given.
        said: Phrase,
    },
    /// Replay at the CA.
    #[error("this request was signed already, on {}", at.date())]
    AlreadySigned {
        /// When.
        at: OffsetDateTime,
    },
    /// Two different requests under one id.
    #[error("a different request with the same id {id} was {what} here")]
    OtherRequest {
        /// The id.
        id: String,
        /// Signed or made.
        what: &'static str,
    },
    /// `again` was asked for, and there is nothing to say again.
    #[error("this request was never signed here")]
    NeverSigned,
    /// Replay at the server.
    #[error("this answer was accepted already, on {}", at.date())]
    AlreadyAccepted {
        /// When.
        at: OffsetDateTime,
    },
    /// An answer to somebody else.
    #[error("it answers a request ({id}) that was not made here")]
    NotAskedHere {
        /// The request's id.
        id: String,
    },
    /// The clock goes back.
    #[error("it is {} by the clock, before this CA's last act ({})", stamp(now), stamp(last))]
    ClockBehind {
        /// The time given.
        now: OffsetDateTime,
        /// The latest trace of an act.
        last: OffsetDateTime,
    },

    // What is asked for.
    /// A want that cannot be granted.
    #[error("{name}: {problem}")]
    BadWant {
        /// The name asked for.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A certificate in the answer that is not what was asked for.
    #[error("the certificate of {name} is not what was asked for: {problem}")]
    BadCertificate {
        /// The name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The key that was made for the request is not there any more.
    #[error("the key of {name} is not in {}: {problem}", path.display())]
    NoKey {
        /// The name.
        name: CertName,
        /// Where it should be.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Nothing is wanted.
    #[error("there is nothing to ask for")]
    NothingWanted,

    /// The folder.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

impl BundleError {
    /// What the person can do about it, if there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotABundle { .. } => "look which file it is: tar -tvf FILE".into(),
            Self::CutOff { .. } | Self::Damaged { .. } => {
                "copy it again, and take the medium out only when it is unmounted; nothing was changed".into()
            }
            Self::Foreign { .. } | Self::BadSignature { .. } => {
                "do not use it: it was changed on its way; nothing was changed here".into()
            }
            Self::TooLarge { .. } => "it is not a real one; nothing was changed".into(),
            Self::Newer { .. } => "use a newer Quoll on this machine".into(),
            Self::WrongKind { found, .. } if found.contains("request") => {
                "sign it on the CA's machine: quoll ca sign FILE".into()
            }
            Self::WrongKind { .. } => "accept an answer on the server: quoll accept FILE".into(),
            Self::WrongCa { .. } => "use --pki or --home to choose the right folder, or ask the right CA".into(),
            Self::PhraseDiffers { .. } => {
                "do not go on: it is another file than the one on the other screen, or it was changed".into()
            }
            Self::AlreadySigned { .. } => {
                "if the answer was lost, write the same one again with --again; nothing is signed then".into()
            }
            Self::NeverSigned => "sign it without --again".into(),
            Self::OtherRequest { .. } => "do not use it: two requests never have the same id by themselves".into(),
            Self::AlreadyAccepted { .. } => "its certificates are in the pki folder; nothing is left to do".into(),
            Self::NotAskedHere { .. } => "accept it on the machine (and with the --home) that made the request".into(),
            Self::ClockBehind { .. } => {
                "set the clock of this machine; if it is right and was wrong at the last act, say --clock-is-right".into()
            }
            Self::NothingWanted => "say what: --server, --client NAME, --device NAME, --devices FILE".into(),
            Self::NoKey { .. } => "restore it from a backup, or ask for a new certificate".into(),
            Self::BadWant { .. } | Self::BadCertificate { .. } => return None,
            Self::Pki(error) => return error.hint(),
        })
    }
}

fn stamp(at: &OffsetDateTime) -> String {
    format!("{} {:02}:{:02} UTC", at.date(), at.hour(), at.minute())
}

/// From reading a tar out of memory: whatever is wrong, the archive is.
pub(super) fn tar_fault(error: &io::Error) -> BundleError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        BundleError::CutOff { missing: "the end of the archive".into() }
    } else {
        BundleError::NotABundle { problem: format!("it cannot be read as tar ({error})") }
    }
}
