//! Mosquitto's `acl_file`: topic permissions by user, for those without user name, and by pattern.
//!
//! Read as Mosquitto 2.1 reads it, decided as it decides: first the rules of the client's section, then the patterns; in
//! each, what is denied goes before what is allowed; nothing said is a no. To subscribe is always allowed, permissions are
//! asked when a message is published and again when it is delivered.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use quoll_broker::Grants;
use quoll_mqtt::{TopicFilter, TopicName};
use thiserror::Error;

use super::complaint::Place;
use super::line::{Word, Words, lines};

/// Bytes of a file: some 200,000 rules.
pub const MAX_FILE: usize = 16 << 20;
/// Faults told; more are read by nobody.
const MAX_FAULTS: usize = 100;

/// A file of permissions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AclFile {
    users: HashMap<String, Layer>,
    anonymous: Layer,
    patterns: Vec<Pattern>,
    /// What should be known about it.
    pub warnings: Vec<AclComplaint>,
}

/// What a client wants to do with a topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Publish to it.
    Write,
    /// Be sent a message of it.
    Read,
}

/// What a rule says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Access {
    Read,
    Write,
    ReadWrite,
    Deny,
}

/// Rules of one section, sorted by what they say: their order among each other changes nothing.
#[derive(Clone, Debug, Default, PartialEq)]
struct Layer {
    denied: Vec<TopicFilter>,
    read: Vec<TopicFilter>,
    write: Vec<TopicFilter>,
}

/// A `pattern` line, not yet filled in.
#[derive(Clone, Debug, PartialEq)]
struct Pattern {
    access: Access,
    text: String,
}

/// A fault or a remark about a line.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{place}: {fault}")]
pub struct AclComplaint {
    /// Where.
    pub place: Place,
    /// What.
    pub fault: AclFault,
}

/// What is wrong with a line.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum AclFault {
    /// Larger than any file of permissions; ours, against a wrong path.
    #[error("more than {MAX_FILE} bytes")]
    TooLarge,
    /// No UTF-8.
    #[error("this line is not UTF-8")]
    NotUtf8,
    /// Begins with none of the three words.
    #[error("a line begins with user, topic or pattern, not {found:?}")]
    Keyword {
        /// As written.
        found: String,
    },
    /// `user` without name.
    #[error("'user' has no name")]
    NoUser,
    /// `topic` or `pattern` without topic.
    #[error("'{keyword}' has no topic")]
    NoTopic {
        /// The word.
        keyword: &'static str,
    },
    /// Two words, the first of which is no access.
    #[error("access is read, write, readwrite or deny, not {found:?}")]
    Access {
        /// As written.
        found: String,
    },
    /// No topic filter.
    #[error("{topic:?} is no topic filter: {reason}")]
    Topic {
        /// As written.
        topic: String,
        /// Why not.
        reason: String,
    },
    /// A remark: a pattern that fits everybody.
    #[error("the pattern has neither %u nor %c, so it holds for everybody")]
    NothingToFillIn,
    /// A remark: %u or %c beside other text of its level.
    #[error("%u and %c are filled in only where they are a whole level; here they stand for themselves")]
    NotALevel,
    /// A remark: no message has such a topic.
    #[error(
        "a topic that begins with $share/ belongs to subscriptions, no message has it: the line changes nothing"
    )]
    Shared,
}

impl AclFile {
    /// Reads a file's content; `path` is for complaints.
    ///
    /// # Errors
    /// All faults. Mosquitto ends at the first.
    pub fn parse(path: &Path, content: &[u8]) -> Result<Self, Vec<AclComplaint>> {
        let file: Arc<Path> = path.into();
        let place = |line, column| Place { file: file.clone(), line, column };
        if content.len() > MAX_FILE {
            return Err(vec![AclComplaint { place: place(1, 1), fault: AclFault::TooLarge }]);
        }
        let mut acl = Self::default();
        let mut faults = Vec::new();
        let mut user = None;
        for (number, line) in lines(content) {
            if faults.len() >= MAX_FAULTS {
                break;
            }
            let mut remark = |column, fault| {
                acl.warnings.push(AclComplaint { place: place(number, column), fault });
            };
            let line =
                line.map_err(|_| (1, AclFault::NotUtf8)).and_then(|line| Line::parse(line, &mut remark));
            match line {
                Ok(Line::Nothing) => {}
                Ok(Line::User(name)) => user = Some(name),
                Ok(Line::Topic(access, filter)) => match &user {
                    Some(name) => acl.users.entry(name.clone()).or_default().add(access, filter),
                    None => acl.anonymous.add(access, filter),
                },
                Ok(Line::Pattern(pattern)) => acl.patterns.push(pattern),
                Err((column, fault)) => faults.push(AclComplaint { place: place(number, column), fault }),
            }
        }
        if faults.is_empty() { Ok(acl) } else { Err(faults) }
    }

    /// Whether a client may do this; the decision itself, rule by rule.
    #[must_use]
    pub fn allows(&self, username: Option<&str>, client_id: &str, action: Action, topic: &TopicName) -> bool {
        let own = self.section(username);
        let patterns = self.filled(username, client_id);
        for layer in own.into_iter().chain([&patterns]) {
            let any = |filters: &[TopicFilter]| filters.iter().any(|filter| filter.matches(topic));
            if any(&layer.denied) {
                return false;
            }
            if any(layer.allowed(action)) {
                return true;
            }
        }
        false
    }

    /// The permissions of a client, to be carried by its session: the same as [`Self::allows`] says for each topic.
    #[must_use]
    pub fn grants(&self, username: Option<&str>, client_id: &str) -> Grants {
        let layer = |layer: &Layer| {
            let allowed = Grants::new(layer.allowed(Action::Write), layer.allowed(Action::Read));
            allowed.denying(&layer.denied, &layer.denied)
        };
        let own = self.section(username).map_or_else(Grants::none, layer);
        own.over(layer(&self.filled(username, client_id))).with_wide_subscriptions()
    }

    /// The rules of a user, or of those without user name.
    fn section(&self, username: Option<&str>) -> Option<&Layer> {
        match username {
            Some(name) => self.users.get(name),
            None => Some(&self.anonymous),
        }
    }

    /// The patterns, filled in for a client.
    fn filled(&self, username: Option<&str>, client_id: &str) -> Layer {
        let mut layer = Layer::default();
        // Such a name could widen a pattern (CVE-2017-7650): no pattern allows its bearer anything, and what patterns deny is
        // denied with all the rest.
        let wild = |name: &str| name.contains(['+', '#']);
        if username.is_some_and(wild) || wild(client_id) {
            return layer;
        }
        for pattern in &self.patterns {
            if let Some(filter) = fill(&pattern.text, username, client_id) {
                layer.add(pattern.access, filter);
            }
        }
        layer
    }
}

impl Layer {
    fn add(&mut self, access: Access, filter: TopicFilter) {
        match access {
            Access::Deny => self.denied.push(filter),
            Access::Read => self.read.push(filter),
            Access::Write => self.write.push(filter),
            Access::ReadWrite => {
                self.read.push(filter.clone());
                self.write.push(filter);
            }
        }
    }

    fn allowed(&self, action: Action) -> &[TopicFilter] {
        match action {
            Action::Read => &self.read,
            Action::Write => &self.write,
        }
    }
}

/// The filter of a pattern for a client, with `%u` and `%c` in place where they are whole levels; `None` where it matches
/// nothing. Names that look like wildcards are the caller's to keep away.
pub(super) fn fill(pattern: &str, username: Option<&str>, client_id: &str) -> Option<TopicFilter> {
    if pattern.contains("%u") && username.is_none() {
        return None;
    }
    let mut levels = Vec::new();
    for level in pattern.split('/') {
        let name = match level {
            "%u" => username.unwrap_or_default(),
            "%c" => client_id,
            _ => {
                levels.push(level);
                continue;
            }
        };
        // A name with a slash is no level, and an empty one is nobody.
        if name.is_empty() || name.contains('/') {
            return None;
        }
        levels.push(name);
    }
    // A pattern that begins with a name is not about `$` topics, whatever the name is.
    if pattern.starts_with('%') && levels.first().is_some_and(|level| level.starts_with('$')) {
        return None;
    }
    TopicFilter::parse(&levels.join("/")).ok()
}

/// A line, understood.
enum Line {
    Nothing,
    User(String),
    Topic(Access, TopicFilter),
    Pattern(Pattern),
}

impl Line {
    fn parse(line: &str, remark: &mut dyn FnMut(u32, AclFault)) -> Result<Self, (u32, AclFault)> {
        let mut words = Words::new(line.trim_end_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b'));
        let Some(first) = words.word() else { return Ok(Self::Nothing) };
        match first.text {
            "user" => match words.rest() {
                Word { text: "", column } => Err((column, AclFault::NoUser)),
                name => Ok(Self::User(name.text.to_owned())),
            },
            "topic" => {
                let (access, topic) = access_and_topic(&mut words, "topic")?;
                let filter = filter(topic)?;
                if topic.text.starts_with("$share/") {
                    remark(topic.column, AclFault::Shared);
                    return Ok(Self::Nothing);
                }
                Ok(Self::Topic(access, filter))
            }
            "pattern" => {
                let (access, topic) = access_and_topic(&mut words, "pattern")?;
                filter(topic)?;
                let text = topic.text;
                if text.starts_with("$share/") {
                    remark(topic.column, AclFault::Shared);
                    return Ok(Self::Nothing);
                }
                if !text.contains("%u") && !text.contains("%c") {
                    remark(topic.column, AclFault::NothingToFillIn);
                }
                let part = |level: &str| level.len() > 2 && (level.contains("%u") || level.contains("%c"));
                if text.split('/').any(part) {
                    remark(topic.column, AclFault::NotALevel);
                }
                Ok(Self::Pattern(Pattern { access, text: text.to_owned() }))
            }
            found => Err((first.column, AclFault::Keyword { found: found.to_owned() })),
        }
    }
}

/// `[ACCESS] TOPIC`. A single word is a topic, even if it is the name of an access.
fn access_and_topic<'a>(
    words: &mut Words<'a>,
    keyword: &'static str,
) -> Result<(Access, Word<'a>), (u32, AclFault)> {
    let first = words.word().ok_or_else(|| (words.column(), AclFault::NoTopic { keyword }))?;
    let topic = words.rest();
    if topic.text.is_empty() {
        return Ok((Access::ReadWrite, first));
    }
    let access = match first.text {
        "read" => Access::Read,
        "write" => Access::Write,
        "readwrite" => Access::ReadWrite,
        "deny" => Access::Deny,
        found => return Err((first.column, AclFault::Access { found: found.to_owned() })),
    };
    Ok((access, topic))
}

fn filter(topic: Word<'_>) -> Result<TopicFilter, (u32, AclFault)> {
    // One that nobody subscribes with is a filter all the same, and never matches.
    let text = if topic.text.starts_with("$share/") { "$share/x/x" } else { topic.text };
    TopicFilter::parse(text).map_err(|reason| {
        let fault = AclFault::Topic { topic: topic.text.to_owned(), reason: reason.to_string() };
        (topic.column, fault)
    })
}
