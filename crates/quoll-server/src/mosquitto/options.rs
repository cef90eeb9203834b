//! What an option is: its row in the table, and how a name finds it. The rows are in [`super::table`].

use super::table::OPTIONS;

/// One option of mosquitto.conf.
#[derive(Debug)]
pub struct Opt {
    /// Its name; one that ends in `*` stands for all names that begin so.
    pub name: &'static str,
    /// Where it may stand.
    pub scope: Scope,
    /// What its value looks like.
    pub kind: Kind,
    /// How much it matters to those who come from Mosquitto.
    pub relevance: Relevance,
    /// What a second one means.
    pub repeat: Repeat,
    /// What we do with it.
    pub answer: Answer,
    /// Its default, for people.
    pub default: &'static str,
    /// What it means, for people.
    pub meaning: &'static str,
}

/// Where an option may stand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// Anywhere; for the whole broker.
    Global,
    /// Anywhere, for the whole broker; with `per_listener_settings true` for the listener above it, which must be there.
    Security,
    /// Anywhere; for the default listener, which it opens.
    DefaultListener,
    /// For the listener above it; without one it opens the default listener.
    AnyListener,
    /// For the listener above it, which must be there.
    Listener,
    /// As the above, but not for the default listener.
    NamedListener,
    /// For the bridge above it, which must be there.
    Bridge,
    /// For the plugin above it, which must be there.
    Plugin,
}

impl Scope {
    /// For people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Global => "anywhere",
            Self::Security => "anywhere, or listener with `per_listener_settings`",
            Self::DefaultListener => "anywhere (default listener)",
            Self::AnyListener => "listener, or the default one",
            Self::Listener | Self::NamedListener => "listener",
            Self::Bridge => "connection",
            Self::Plugin => "plugin",
        }
    }
}

/// What a value looks like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// true, false, 1 or 0.
    Flag,
    /// A whole number, in C's notation (0x for hexadecimal, 0 for octal).
    Number {
        /// The lowest.
        min: i64,
        /// The highest.
        max: i64,
        /// What is lower.
        below: Below,
    },
    /// The rest of the line.
    Text {
        /// At most so many bytes.
        max: usize,
    },
    /// The rest of the line, not to be shown to anybody.
    Secret,
    /// One of these words.
    Word(&'static [&'static str]),
    /// One word.
    Name,
    /// A word and the rest of the line.
    NameAndPath,
    /// `PORT [ADDRESS or path of a UNIX socket]`.
    Listener,
    /// `HOST[:PORT] ...`.
    Addresses,
    /// `PATTERN [out|in|both [QOS [LOCAL-PREFIX [REMOTE-PREFIX]]]]`.
    Topic,
    /// A number with a unit: s, h, d, w, m (30 days), y (365 days).
    Period,
    /// `BASE [CAP [STABLE]]` in seconds.
    Restart,
    /// `IDLE INTERVAL COUNT`.
    TcpKeepalive,
    /// Numbers 3, 4, 5, set apart by commas or blanks.
    Versions,
    /// stderr, stdout, syslog, topic, none, or file PATH.
    LogDestination,
    /// Not looked at.
    Anything,
}

/// What becomes of a number below its range.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Below {
    /// Refused.
    Refused,
    /// The lowest counts, with a remark.
    Raised,
    /// A negative one means 0.
    Zero,
    /// A negative one means -1: no limit, as 0 does.
    Unlimited,
}

/// How much an option matters to those who come from Mosquitto (facts: mosquitto §1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Relevance {
    /// A drop-in must obey it.
    Must,
    /// It should.
    Should,
    /// It can wait.
    Later,
    /// It need not.
    No,
}

/// What a second value means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Repeat {
    /// It is refused.
    Once,
    /// It counts in place of the first; we say so.
    Last,
    /// It adds to the first.
    Many,
}

/// What we do with an option.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It is read, and has its place in [`super::Configuration`].
    Read,
    /// It is recognised and left aside, with a remark that says why.
    Ignored(&'static str),
    /// The same for this value; others ask for nothing.
    IgnoredIf(&'static str, &'static str),
    /// It is refused, because going on without it would be unsafe.
    Refused(&'static str),
    /// The same for this value; others ask for nothing.
    RefusedIf(&'static str, &'static str),
}

/// Names for the same thing: the other one, and the one that is used further on.
const ALIASES: &[(&str, &str)] = &[
    ("addresses", "address"),
    ("auth_plugin", "plugin"),
    ("clientid", "remote_clientid"),
    ("listener_allow_anonymous", "allow_anonymous"),
    ("listener_auto_id_prefix", "auto_id_prefix"),
    ("maximum_qos", "max_qos"),
    ("password", "remote_password"),
    ("retained_persistence", "persistence"),
    ("username", "remote_username"),
    ("websockets_headers_size", "packet_buffer_size"),
];

/// The name that [`super::said::Said`] knows an option by.
pub(super) fn canonical(name: &'static str) -> &'static str {
    ALIASES.iter().find(|(other, _)| *other == name).map_or(name, |(_, name)| name)
}

/// The row of a name, and for a name of the family `plugin_opt_*` what stands in the place of `*`.
#[must_use]
pub fn find(name: &str) -> Option<(&'static Opt, Option<&str>)> {
    // `auth_opt_` is the old spelling.
    if let Some(key) = name.strip_prefix("plugin_opt_").or_else(|| name.strip_prefix("auth_opt_")) {
        return OPTIONS.iter().find(|option| option.name == "plugin_opt_*").map(|option| (option, Some(key)));
    }
    OPTIONS.iter().find(|option| option.name == name).map(|option| (option, None))
}

/// The name with the fewest letters to change, where these are few enough to be a slip.
#[must_use]
pub fn nearest(name: &str) -> Option<&'static str> {
    // Longer ones are no slips, and the distance is quadratic.
    if name.len() > 64 {
        return None;
    }
    let lower = name.to_lowercase();
    let (distance, option) = OPTIONS
        .iter()
        .filter(|option| !option.name.ends_with('*'))
        .map(|option| (distance(&lower, option.name), option.name))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + name.len() / 5).then_some(option)
}

/// Letters to add, drop or change (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
