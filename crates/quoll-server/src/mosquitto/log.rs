//! Where Mosquitto's log goes, and what of it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::said::Said;
use super::value::Value;

/// The log, as understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Log {
    /// Where it goes; nowhere if empty (`log_dest`).
    pub destinations: Vec<LogDestination>,
    /// What is logged (`log_type`).
    pub types: BTreeSet<LogType>,
    /// The facility local0 to local7 of syslog; `None` for daemon (`log_facility`).
    pub facility: Option<u8>,
    /// Whether lines begin with a time (`log_timestamp`).
    pub timestamp: bool,
    /// Its form for strftime; `None` for seconds since 1970 (`log_timestamp_format`).
    pub timestamp_format: Option<String>,
    /// Whether connects and disconnects are logged (`connection_messages`).
    pub connection_messages: bool,
}

/// A place for log lines.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LogDestination {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// The system's log.
    Syslog,
    /// `$SYS/broker/log/LETTER`.
    Topic,
    /// A file.
    File(PathBuf),
    /// Nowhere: takes back what stood before it. Never in [`Log::destinations`].
    None,
}

/// A kind of log line.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[expect(missing_docs, reason = "the names say all")]
pub enum LogType {
    Debug,
    Error,
    Warning,
    Notice,
    Information,
    Subscribe,
    Unsubscribe,
    Websockets,
    Internal,
}

impl LogType {
    const ALL: [Self; 9] = [
        Self::Debug,
        Self::Error,
        Self::Warning,
        Self::Notice,
        Self::Information,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Websockets,
        Self::Internal,
    ];

    fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| format!("{kind:?}").eq_ignore_ascii_case(word))
    }
}

impl Log {
    pub(super) fn understand(said: &Said) -> Self {
        let mut types = BTreeSet::new();
        for statement in said.all("log_type") {
            match &statement.value {
                Value::Word("none") => types.clear(),
                Value::Word("all") => types.extend(LogType::ALL),
                Value::Word(word) => types.extend(LogType::named(word)),
                _ => {}
            }
        }
        if said.value("log_type").is_none() {
            types.extend([LogType::Error, LogType::Warning, LogType::Notice, LogType::Information]);
        }
        let mut destinations = Vec::new();
        for statement in said.all("log_dest") {
            match &statement.value {
                Value::LogDestination(Some(LogDestination::None)) => destinations.clear(),
                Value::LogDestination(Some(destination)) if !destinations.contains(destination) => {
                    destinations.push(destination.clone());
                }
                _ => {}
            }
        }
        if said.value("log_dest").is_none() {
            destinations.push(LogDestination::Stderr);
        }
        Self {
            destinations,
            types,
            facility: said.number("log_facility"),
            timestamp: said.flag("log_timestamp").unwrap_or(true),
            timestamp_format: said.text("log_timestamp_format").map(str::to_owned),
            connection_messages: said.flag("connection_messages").unwrap_or(true),
        }
    }
}
