//! Reads a `user_config_override.h` and says what in it is obsolete, missing or contradictory for a version of Tasmota.
//!
//! It knows the lines about MQTT over TLS; everything else in the file is not its business. The rules are in `rules`, what
//! a file leaves defined in `reading`. Facts §1.1, §8.3, §10.

mod reading;
mod rules;

use std::fmt;

use super::{Chip, Release};

/// Most findings of one file: more help nobody.
pub const FINDINGS_MAX: usize = 500;

/// What a file is read for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Target {
    /// The chip; without it, what matters on one of them is said with its name.
    pub chip: Option<Chip>,
    /// The version.
    pub release: Release,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// Worth knowing.
    Note,
    /// It does not do what it seems to do, or leaves something to do on each device.
    Warning,
    /// It does not compile, devices with it do not connect, or they trust anybody.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// How bad it is.
    pub level: Level,
    /// The rule, a word: `structure`, `skipped`, `twice`, `redefined`, `obsolete`, `too-early`, `unknown`, `missing`,
    /// `contradiction`, `format`, `value`, `unsafe`, `build-flag`.
    pub rule: &'static str,
    /// The define that it is about; empty for the file's structure.
    pub name: String,
    /// What is wrong and what comes of it.
    pub what: String,
    /// What to write instead.
    pub instead: String,
}

/// Reads a file; findings in the order of its lines. Any bytes will do.
#[must_use]
pub fn lint(text: &[u8], target: Target) -> Vec<Finding> {
    let reading = reading::Reading::of(text, target);
    let mut findings = rules::all(&reading, target);
    findings.sort_by(|a, b| (a.line, a.column, a.rule, &a.name).cmp(&(b.line, b.column, b.rule, &b.name)));
    findings.truncate(FINDINGS_MAX);
    findings
}
