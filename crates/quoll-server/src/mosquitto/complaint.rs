//! What there is to say about a configuration file: faults that refuse it, and remarks that do not.
//!
//! Each carries facts, and its text says what, on what, and where. Passwords are never among the facts.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

/// A place in a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The file, as it was opened.
    pub file: Arc<Path>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// A fault or a remark, with its place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Complaint {
    /// Where.
    pub place: Place,
    /// What.
    pub matter: Matter,
}

impl Complaint {
    /// Whether the configuration can be used all the same.
    #[must_use]
    pub const fn is_warning(&self) -> bool {
        matches!(self.matter, Matter::Remark(_))
    }

    /// What to do about it, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match &self.matter {
            Matter::Fault(fault) => fault.hint(),
            Matter::Remark(_) => None,
        }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.matter)
    }
}

/// What a complaint is about.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Matter {
    /// The configuration is refused.
    #[error("{0}")]
    Fault(Fault),
    /// It is not, but somebody should know.
    #[error("{0}")]
    Remark(Remark),
}

/// Why a configuration is refused. Where Mosquitto 2.1 refuses it too, nothing is said; the others say why we do.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// The file, or the folder of `include_dir`, cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Larger than any configuration; ours, against a wrong path.
    #[error("more than {limit} bytes")]
    TooLarge {
        /// The bound.
        limit: usize,
    },
    /// A line that is no UTF-8. Comments may be anything.
    #[error("this line is not UTF-8")]
    NotUtf8,
    /// A character that no value may have.
    #[error("'{}' has the control character {found:?} in it", option.escape_debug())]
    Control {
        /// The option.
        option: String,
        /// The character.
        found: char,
    },
    /// A name that is in no table of Mosquitto's.
    #[error("unknown option '{}'", name.escape_debug())]
    Unknown {
        /// As written.
        name: String,
        /// The nearest name there is.
        nearest: Option<&'static str>,
    },
    /// Needs an open listener block.
    #[error("'{option}' needs a listener before it")]
    NeedsListener {
        /// The option.
        option: &'static str,
    },
    /// Needs an open bridge block.
    #[error("'{option}' needs a connection before it")]
    NeedsBridge {
        /// The option.
        option: &'static str,
    },
    /// Needs a plugin.
    #[error("'{}' needs a plugin before it", option.escape_debug())]
    NeedsPlugin {
        /// The option.
        option: String,
    },
    /// No value.
    #[error("'{}' has no value", option.escape_debug())]
    Empty {
        /// The option.
        option: String,
    },
    /// A second value where one counts.
    #[error("'{option}' was given before, at {first}")]
    Duplicate {
        /// The option.
        option: &'static str,
        /// Where first.
        first: Place,
    },
    /// Neither true nor false.
    #[error("'{option}' is true or false, not {found:?}")]
    NotFlag {
        /// The option.
        option: &'static str,
        /// As written.
        found: String,
    },
    /// No number.
    #[error("'{option}' is a number, not {found:?}")]
    NotNumber {
        /// The option.
        option: &'static str,
        /// As written.
        found: String,
    },
    /// Out of its range.
    #[error("'{option}' is between {min} and {max}, not {found}")]
    OutOfRange {
        /// The option.
        option: &'static str,
        /// As written.
        found: i64,
        /// The lowest.
        min: i64,
        /// The highest.
        max: i64,
    },
    /// None of the words it may be.
    #[error("'{option}' is one of {}, not {found:?}", choices.join(", "))]
    NotOneOf {
        /// The option.
        option: &'static str,
        /// As written.
        found: String,
        /// What it may be.
        choices: &'static [&'static str],
    },
    /// A value in a form it does not have.
    #[error("'{option}' {rule}")]
    Form {
        /// The option.
        option: &'static str,
        /// What is wrong.
        rule: &'static str,
    },
    /// Longer than it may be.
    #[error("'{option}' has {length} bytes, {limit} at most")]
    TooLong {
        /// The option.
        option: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The bound.
        limit: usize,
    },
    /// A bridge, plugin or client id of the same name.
    #[error("{what} {name:?} is there already, at {first}")]
    NotUnique {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: String,
        /// Where first.
        first: Place,
    },
    /// Something that belongs to it is missing.
    #[error("{what} has no '{option}'")]
    Missing {
        /// What it is.
        what: String,
        /// What is missing.
        option: &'static str,
    },
    /// Two that exclude each other.
    #[error("'{option}' cannot be used with {other}")]
    Together {
        /// The one.
        option: &'static str,
        /// The other.
        other: &'static str,
    },
    /// `per_listener_settings true` after a security option.
    #[error("'per_listener_settings' must come before '{option}' at {first}")]
    PerListenerTooLate {
        /// The first security option.
        option: &'static str,
        /// Where it is.
        first: Place,
    },
    /// `include_dir` in an included file.
    #[error("'include_dir' may only stand in the main file")]
    NestedInclude,
    /// A plugin that we cannot load: we load none. Ours.
    #[error("plugin {name:?} is none that Quoll knows, and it cannot load any: {advice}")]
    ForeignPlugin {
        /// Its file name.
        name: String,
        /// What to do instead.
        advice: &'static str,
    },
    /// `plugin_use` of a name that no `plugin_load` gave.
    #[error("no 'plugin_load' before this gave the name {name:?}")]
    NoSuchPlugin {
        /// The name.
        name: String,
    },
    /// Known, and unsafe to go on without. Ours.
    #[error("'{option}' is not supported: {why}")]
    Refused {
        /// The option.
        option: &'static str,
        /// Why, and what to do instead.
        why: &'static str,
    },
    /// More complaints than anybody reads; the rest of the files was not looked at.
    #[error("{count} complaints; the rest was not looked at")]
    TooMany {
        /// How many there are.
        count: usize,
    },
}

impl Fault {
    /// What to do about it, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { name, .. } if name.starts_with('#') => {
                Some("a comment's # must be the first character of its line".into())
            }
            Self::Unknown { name, .. } if name.contains('\t') => {
                Some("names and values are set apart by blanks, not by tabs".into())
            }
            Self::Unknown { nearest: Some(nearest), .. } => Some(format!("did you mean '{nearest}'?")),
            Self::NeedsListener { option } => {
                Some(format!("put '{option}' below a line such as: listener 8883"))
            }
            Self::NeedsBridge { option } => {
                Some(format!("put '{option}' below a line such as: connection NAME"))
            }
            Self::PerListenerTooLate { .. } => Some("make it the first line of the main file".into()),
            _ => None,
        }
    }
}

/// What should be known about a configuration that is used.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum Remark {
    /// Recognised, and without effect here.
    #[error("'{}' has no effect: {why}", option.escape_debug())]
    Ignored {
        /// The option.
        option: String,
        /// Why.
        why: &'static str,
    },
    /// Given twice; Mosquitto takes the later one without a word.
    #[error("'{option}' was given before, at {first}; this one counts")]
    Again {
        /// The option.
        option: &'static str,
        /// Where first.
        first: Place,
    },
    /// Words after a complete value, which Mosquitto does not read.
    #[error("{found:?} after the value of '{option}' is not read")]
    Trailing {
        /// The option.
        option: &'static str,
        /// The words.
        found: String,
    },
    /// A `#` in a value that goes on to the end of the line.
    #[error("the value of '{option}' goes on to the end of the line, # included")]
    HashInValue {
        /// The option.
        option: &'static str,
    },
    /// Below or above what it may be, and taken as the nearest that may.
    #[error("'{option}' {found} is taken as {taken}")]
    Adjusted {
        /// The option.
        option: &'static str,
        /// As written.
        found: i64,
        /// What counts.
        taken: i64,
    },
    /// An option that opened a listener nobody wrote.
    #[error("'{option}' before any listener opens one on port 1883 of all addresses, as Mosquitto does")]
    DefaultListener {
        /// The option.
        option: &'static str,
    },
    /// No listener: this host only.
    #[error("no listener is configured: only this machine is listened to, port 1883")]
    LocalOnly,
    /// Something else worth a look.
    #[error("{0}")]
    Note(&'static str),
    /// Cipher names without equivalent.
    #[error("'{option}': {names} has no equivalent here and is left out")]
    Ciphers {
        /// The option.
        option: &'static str,
        /// The names.
        names: String,
    },
}
