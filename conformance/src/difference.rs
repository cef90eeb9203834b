//! Known differences from the standard: which tests a subject fails, and why. Read from `differences.toml`.
//!
//! A difference explains; it does not excuse: the test fails all the same. What is checked is that every failure is
//! explained and that no explanation is left over (see `src/bin/report.rs`).

use serde::Deserialize;

use crate::differential::compare::Rule;
use crate::wrong::record::Reason;

/// One reason for one or more failing tests of one subject.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// `quoll` or `mosquitto`.
    pub who: String,
    /// Tests as `version::section::name`.
    pub tests: Vec<String>,
    /// What the subject does instead, and what to think of it.
    pub why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    difference: Vec<Difference>,
    #[serde(default)]
    exchange: Vec<Rule>,
    #[serde(default)]
    packet: Vec<Reason>,
}

/// All of them, in the order of the file.
///
/// # Errors
/// A sentence on what is wrong with the file.
pub fn differences() -> Result<Vec<Difference>, String> {
    Ok(read()?.difference)
}

/// The deliberate differences of the differential fuzz, in the order of the file.
///
/// # Errors
/// A sentence on what is wrong with the file.
pub fn exchanges() -> Result<Vec<Rule>, String> {
    Ok(read()?.exchange)
}

/// Why the two answer wrong packets differently, in the order of the file.
///
/// # Errors
/// A sentence on what is wrong with the file.
pub fn packets() -> Result<Vec<Reason>, String> {
    Ok(read()?.packet)
}

fn read() -> Result<File, String> {
    let path = crate::coverage::home().join("differences.toml");
    let text =
        std::fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Place of the difference that explains this failure, counted from 1.
pub fn explained(differences: &[Difference], who: &str, test: &str) -> Option<usize> {
    differences
        .iter()
        .position(|it| it.who == who && it.tests.iter().any(|name| name == test))
        .map(|place| place + 1)
}
