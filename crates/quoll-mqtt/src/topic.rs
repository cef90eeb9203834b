//! Topic names and topic filters: parsing and matching (§4.7, §4.8.2).

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// A topic that a message is published to: at least one character, no wildcard, no NUL.
/// MQTT 5.0 §4.7 [MQTT-4.7.0-1] [MQTT-4.7.3-1] [MQTT-4.7.3-2].
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TopicName(Arc<str>);

/// A filter that a client subscribes to: levels, `+` for one level, a last `#` for all below (§4.7.1).
/// May be shared: `$share/NAME/FILTER` (§4.8.2).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TopicFilter(Arc<str>);

/// The two parts of a shared subscription's filter (§4.8.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ShareFilter<'a> {
    /// The share name.
    pub name: &'a str,
    /// The filter behind it.
    pub filter: &'a str,
}

/// Why a text is no topic name or no topic filter.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum TopicError {
    /// No character at all [MQTT-4.7.3-1].
    #[error("a topic must have at least one character")]
    Empty,
    /// A wildcard in a name [MQTT-3.3.2-2], or one that does not fill its level in a filter [MQTT-4.7.1-1].
    #[error("a wildcard stands where none may")]
    Wildcard,
    /// NUL [MQTT-4.7.3-2].
    #[error("a topic must not contain NUL")]
    Nul,
    /// Over 65,535 bytes [MQTT-4.7.3-3].
    #[error("a topic has at most 65,535 bytes")]
    TooLong,
    /// `$share` without a name, with a wildcard in the name, or without a filter [MQTT-4.8.2-1] [MQTT-4.8.2-2].
    #[error("a shared subscription is $share/NAME/FILTER with no wildcard in NAME")]
    Share,
}

impl TopicName {
    /// Reads a topic name.
    ///
    /// # Errors
    /// Where the text is empty, over 65,535 bytes, or has a wildcard or NUL.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check_length(text)?;
        for byte in text.bytes() {
            match byte {
                b'+' | b'#' => return Err(TopicError::Wildcard),
                0 => return Err(TopicError::Nul),
                _ => {}
            }
        }
        Ok(Self(text.into()))
    }

    /// As [`Self::parse`], of a text that came through [`crate::text`] with its two bytes of length: no NUL in it, and
    /// never too long.
    pub(crate) fn from_checked_text(text: &str) -> Result<Self, TopicError> {
        if text.is_empty() {
            return Err(TopicError::Empty);
        }
        let wildcard = text.bytes().fold(false, |any, byte| any | (byte == b'+') | (byte == b'#'));
        if wildcard { Err(TopicError::Wildcard) } else { Ok(Self(text.into())) }
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its levels, from the left (§4.7.1.1); an empty one counts [MQTT-4.7.3-1].
    pub fn levels(&self) -> std::str::Split<'_, char> {
        self.0.split('/')
    }

    /// Whether it begins with `$`, so that a wildcard in the first level does not match it [MQTT-4.7.2-1].
    #[must_use]
    pub fn is_dollar(&self) -> bool {
        self.0.starts_with('$')
    }
}

impl TopicFilter {
    /// Reads a topic filter.
    ///
    /// # Errors
    /// Where the text breaks a rule of [`TopicError`].
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check_length(text)?;
        if text.as_bytes().contains(&0) {
            return Err(TopicError::Nul);
        }
        // The whole of a shared one too: a name with a wildcard that does not even fill its level is no filter at all.
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            let ok = match level {
                "+" => true,
                "#" => levels.peek().is_none(),
                other => !other.contains(['+', '#']),
            };
            if !ok {
                return Err(TopicError::Wildcard);
            }
        }
        split_share(text)?;
        Ok(Self(text.into()))
    }

    /// Its text, `$share/NAME/` included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts of a shared one, or `None`.
    #[must_use]
    pub fn share(&self) -> Option<ShareFilter<'_>> {
        split_share(&self.0).ok().flatten()
    }

    /// The filter to match with: behind `$share/NAME/` where it is shared, else the whole.
    #[must_use]
    pub fn unshared(&self) -> &str {
        self.share().map_or(&self.0, |share| share.filter)
    }

    /// The levels to match with, from the left (§4.7.1), without `$share/NAME`.
    pub fn levels(&self) -> std::str::Split<'_, char> {
        self.unshared().split('/')
    }

    /// Whether it has a wildcard.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.unshared().contains(['+', '#'])
    }

    /// Whether a message to this topic is wanted (§4.7).
    #[must_use]
    pub fn matches(&self, topic: &TopicName) -> bool {
        matches(self.unshared(), topic.as_str())
    }
}

/// Whether `filter` (valid, without `$share`) matches `topic` (valid): [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.2-1].
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    let (filter, topic) = (filter.as_bytes(), topic.as_bytes());
    if topic.first() == Some(&b'$') && matches!(filter.first(), Some(b'+' | b'#')) {
        return false;
    }
    // Both move in step, so that a wildcard, which fills its level, always meets the start of one.
    let (mut wanted, mut found) = (0, 0);
    loop {
        match filter.get(wanted) {
            Some(b'#') => return true,
            Some(b'+') => {
                wanted += 1;
                found += topic[found..].iter().position(|&byte| byte == b'/').unwrap_or(topic.len() - found);
            }
            Some(byte) if topic.get(found) == Some(byte) => {
                wanted += 1;
                found += 1;
            }
            // `a/#` also wants `a` itself.
            Some(_) => return found == topic.len() && &filter[wanted..] == b"/#",
            None => return found == topic.len(),
        }
    }
}

/// Whether every topic that `inner` matches is matched by `outer` too; both valid, without `$share`. A topic is a filter
/// that matches itself alone.
#[must_use]
pub fn covers(outer: &str, inner: &str) -> bool {
    // The first level's wildcards do not speak for `$` topics, on either side [MQTT-4.7.2-1].
    if inner.starts_with('$') && outer.starts_with(['+', '#']) {
        return false;
    }
    let mut outer = outer.split('/');
    let mut inner = with_its_levels(inner).split('/');
    loop {
        match (outer.next(), inner.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

/// Whether some topic is matched by both filters; both valid, without `$share`.
#[must_use]
pub fn overlap(one: &str, other: &str) -> bool {
    let dollar = |filter: &str| filter.starts_with('$');
    let wild = |filter: &str| filter.starts_with(['+', '#']);
    if (dollar(one) && wild(other)) || (wild(one) && dollar(other)) {
        return false;
    }
    let mut one = with_its_levels(one).split('/');
    let mut other = with_its_levels(other).split('/');
    loop {
        match (one.next(), other.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// The same filter with each level that its topics have: none is empty, so none of them ends before the `#`.
fn with_its_levels(filter: &str) -> &str {
    match filter {
        "#" => "+/#",
        "/#" => "/+/#",
        other => other,
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check_length(text: &str) -> Result<(), TopicError> {
    match text.len() {
        0 => Err(TopicError::Empty),
        1..=65_535 => Ok(()),
        _ => Err(TopicError::TooLong),
    }
}

fn split_share(text: &str) -> Result<Option<ShareFilter<'_>>, TopicError> {
    // Mosquitto refuses it too, and nobody can publish there.
    if text == "$share" {
        return Err(TopicError::Share);
    }
    let Some(rest) = text.strip_prefix("$share/") else { return Ok(None) };
    match rest.split_once('/') {
        Some((name, filter)) if !name.is_empty() && !filter.is_empty() && !name.contains(['+', '#']) => {
            Ok(Some(ShareFilter { name, filter }))
        }
        _ => Err(TopicError::Share),
    }
}
