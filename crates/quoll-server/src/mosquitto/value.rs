//! Values as typed: one type for each form that a row of the table names.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use quoll_mqtt::{QoS, TopicFilter, TopicName};
use zeroize::Zeroizing;

use super::bridge::{BridgeAddress, BridgeTopic, Direction, Restart};
use super::complaint::{Fault, Remark};
use super::line::{Word, Words};
use super::listener::Versions;
use super::log::LogDestination;
use super::options::{Below, Kind, Opt};

/// A value, checked by itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Flag(bool),
    Number(i64),
    Text(String),
    Secret(Secret),
    Word(&'static str),
    NameAndPath(String, PathBuf),
    Listener(u16, Option<String>),
    Addresses(Vec<BridgeAddress>),
    Topic(BridgeTopic),
    Period(Duration),
    Restart(Restart),
    TcpKeepalive([u32; 3]),
    Versions(Versions),
    /// `None` for a destination that there is not here.
    LogDestination(Option<LogDestination>),
    Nothing,
}

/// A text that is shown to nobody and wiped at the end.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Reads the value of an option off its line. A fault comes with its column.
pub(super) fn read(
    option: &'static Opt,
    written: &str,
    words: &mut Words<'_>,
    remarks: &mut Vec<(u32, Remark)>,
) -> Result<Value, (u32, Fault)> {
    let mut reader = Reader { option, written, words, remarks };
    let value = match option.kind {
        Kind::Anything => return Ok(Value::Nothing),
        Kind::Text { max } => return reader.text(max).map(|text| Value::Text(text.to_owned())),
        Kind::Secret => return reader.text(65_535).map(|text| Value::Secret(Secret(text.to_owned().into()))),
        Kind::NameAndPath => return reader.name_and_path(),
        Kind::Versions => return reader.versions(),
        Kind::LogDestination => return reader.log_destination(),
        Kind::Flag => reader.flag()?,
        Kind::Number { min, max, below } => reader.number(min, max, below)?,
        Kind::Word(choices) => Value::Word(reader.one_of(choices)?),
        Kind::Name => Value::Text(reader.word()?.text.to_owned()),
        Kind::Listener => reader.listener()?,
        Kind::Addresses => reader.addresses()?,
        Kind::Topic => reader.topic()?,
        Kind::Period => reader.period()?,
        Kind::Restart => reader.restart()?,
        Kind::TcpKeepalive => {
            let mut number = || reader.whole(1, i64::from(i32::MAX));
            Value::TcpKeepalive(
                [number()?, number()?, number()?].map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
            )
        }
    };
    reader.end();
    Ok(value)
}

struct Reader<'r, 'a> {
    option: &'static Opt,
    /// The name as written; differs from the option's for `plugin_opt_KEY`.
    written: &'r str,
    words: &'r mut Words<'a>,
    remarks: &'r mut Vec<(u32, Remark)>,
}

type Read<T> = Result<T, (u32, Fault)>;

impl<'a> Reader<'_, 'a> {
    fn word(&mut self) -> Read<Word<'a>> {
        self.words.word().ok_or_else(|| self.empty())
    }

    fn empty(&self) -> (u32, Fault) {
        (self.words.column(), Fault::Empty { option: self.written.to_owned() })
    }

    fn form(&self, column: u32, rule: &'static str) -> (u32, Fault) {
        (column, Fault::Form { option: self.option.name, rule })
    }

    /// Mosquitto does not look behind a complete value; a comment there is common.
    fn end(&mut self) {
        let rest = self.words.rest();
        if !rest.text.is_empty() && !rest.text.starts_with('#') {
            let found = rest.text.to_owned();
            self.remarks.push((rest.column, Remark::Trailing { option: self.option.name, found }));
        }
    }

    fn text(&mut self, max: usize) -> Read<&'a str> {
        let Word { text, column } = self.words.rest();
        if text.is_empty() {
            return Err((column, Fault::Empty { option: self.written.to_owned() }));
        }
        if let Some(found) = text.chars().find(|c| c.is_control()) {
            return Err((column, Fault::Control { option: self.written.to_owned(), found }));
        }
        if text.len() > max {
            return Err((
                column,
                Fault::TooLong { option: self.option.name, length: text.len(), limit: max },
            ));
        }
        if self.option.kind != Kind::Secret && text.contains(" #") {
            self.remarks.push((column, Remark::HashInValue { option: self.option.name }));
        }
        Ok(text)
    }

    fn flag(&mut self) -> Read<Value> {
        let word = self.word()?;
        match word.text {
            "true" | "1" => Ok(Value::Flag(true)),
            "false" | "0" => Ok(Value::Flag(false)),
            found => Err((word.column, Fault::NotFlag { option: self.option.name, found: found.to_owned() })),
        }
    }

    fn number(&mut self, min: i64, max: i64, below: Below) -> Read<Value> {
        let (column, found) = self.any_number()?;
        let taken = match below {
            Below::Raised if found < min => {
                self.remarks.push((column, Remark::Adjusted { option: self.option.name, found, taken: min }));
                min
            }
            Below::Zero => found.max(0),
            Below::Unlimited if found < 0 => return Ok(Value::Number(-1)),
            _ => found,
        };
        self.in_range(column, taken, min, max).map(Value::Number)
    }

    fn whole(&mut self, min: i64, max: i64) -> Read<i64> {
        let (column, found) = self.any_number()?;
        self.in_range(column, found, min, max)
    }

    fn any_number(&mut self) -> Read<(u32, i64)> {
        let word = self.word()?;
        match c_number(word.text) {
            Some(number) => Ok((word.column, number)),
            None => {
                Err((word.column, Fault::NotNumber { option: self.option.name, found: word.text.to_owned() }))
            }
        }
    }

    fn in_range(&self, column: u32, found: i64, min: i64, max: i64) -> Read<i64> {
        if (min..=max).contains(&found) {
            return Ok(found);
        }
        Err((column, Fault::OutOfRange { option: self.option.name, found, min, max }))
    }

    fn one_of(&mut self, choices: &'static [&'static str]) -> Read<&'static str> {
        let word = self.word()?;
        choices.iter().find(|choice| **choice == word.text).copied().ok_or_else(|| {
            let found = word.text.to_owned();
            (word.column, Fault::NotOneOf { option: self.option.name, found, choices })
        })
    }

    fn name_and_path(&mut self) -> Read<Value> {
        let name = self.word()?.text.to_owned();
        Ok(Value::NameAndPath(name, self.text(65_535)?.into()))
    }

    fn listener(&mut self) -> Read<Value> {
        let column = self.words.column();
        let port = self.whole(0, 65_535)?;
        let port = u16::try_from(port).unwrap_or(0);
        let mut ahead = self.words.clone();
        let host = ahead.word().filter(|word| !word.text.starts_with('#')).map(|word| word.text.to_owned());
        if host.is_some() {
            *self.words = ahead;
        }
        if port == 0 && host.is_none() {
            return Err(self.form(column, "with port 0 needs the path of a UNIX socket"));
        }
        Ok(Value::Listener(port, host))
    }

    fn addresses(&mut self) -> Read<Value> {
        let mut addresses = Vec::new();
        while let Some(word) = self.words.word() {
            if word.text.starts_with('#') {
                self.words.rest();
                break;
            }
            // From behind: an IPv6 address has colons of its own, and so needs a port.
            let (host, port) = match word.text.rsplit_once(':') {
                Some((host, port)) => (host, c_number(port).and_then(|port| u16::try_from(port).ok())),
                None => (word.text, Some(1883)),
            };
            let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            let Some(port) = port.filter(|port| *port > 0 && !host.is_empty()) else {
                return Err(self.form(word.column, "is HOST or HOST:PORT, with a port from 1 to 65535"));
            };
            addresses.push(BridgeAddress { host: host.to_owned(), port });
        }
        if addresses.is_empty() { Err(self.empty()) } else { Ok(Value::Addresses(addresses)) }
    }

    /// PATTERN [DIRECTION [QOS [LOCAL [REMOTE]]]]; the pattern may be in quotes, `""` stands for nothing.
    fn topic(&mut self) -> Read<Value> {
        let (pattern, column) = match self.words.quoted() {
            Some(Ok(word)) => (word.text, word.column),
            Some(Err(column)) => return Err(self.form(column, "has no closing quote")),
            None => self.word().map(|word| (word.text, word.column))?,
        };
        let direction = match self.optional() {
            None => Direction::Out,
            Some(word) => match word.text.to_ascii_lowercase().as_str() {
                "out" => Direction::Out,
                "in" => Direction::In,
                "both" => Direction::Both,
                _ => {
                    let (option, found) = (self.option.name, word.text.to_owned());
                    return Err((
                        word.column,
                        Fault::NotOneOf { option, found, choices: &["out", "in", "both"] },
                    ));
                }
            },
        };
        let qos = match self.optional() {
            None => QoS::AtMostOnce,
            Some(word) => match word.text {
                "0" => QoS::AtMostOnce,
                "1" => QoS::AtLeastOnce,
                "2" => QoS::ExactlyOnce,
                found => {
                    let (option, found) = (self.option.name, found.to_owned());
                    return Err((word.column, Fault::NotOneOf { option, found, choices: &["0", "1", "2"] }));
                }
            },
        };
        let local_prefix = self.prefix()?;
        let remote_prefix = self.prefix()?;
        let pattern = Some(pattern).filter(|pattern| *pattern != "\"\"");
        if pattern.is_none() && (local_prefix.is_none() || remote_prefix.is_none()) {
            return Err(self.form(column, "without a pattern needs both prefixes"));
        }
        let join = |prefix: &Option<String>| {
            let text = format!("{}{}", prefix.as_deref().unwrap_or_default(), pattern.unwrap_or_default());
            TopicFilter::parse(&text).map_err(|_| self.form(column, "is no topic filter, with its prefixes"))
        };
        let (local, remote) = (join(&local_prefix)?, join(&remote_prefix)?);
        let pattern = pattern.map(str::to_owned);
        Ok(Value::Topic(BridgeTopic { pattern, direction, qos, local_prefix, remote_prefix, local, remote }))
    }

    /// The next word; none where a comment begins.
    fn optional(&mut self) -> Option<Word<'a>> {
        let mut ahead = self.words.clone();
        let word = ahead.word().filter(|word| !word.text.starts_with('#'))?;
        *self.words = ahead;
        Some(word)
    }

    fn prefix(&mut self) -> Read<Option<String>> {
        let Some(word) = self.optional().filter(|word| word.text != "\"\"") else { return Ok(None) };
        match TopicName::parse(word.text) {
            Ok(_) => Ok(Some(word.text.to_owned())),
            Err(_) => Err(self.form(word.column, "has a prefix that is no topic")),
        }
    }

    fn period(&mut self) -> Read<Value> {
        let word = self.word()?;
        let fault = || self.form(word.column, "is a number above 0 with one of the units s, h, d, w, m, y");
        let unit = word.text.chars().next_back().ok_or_else(fault)?;
        let seconds: u64 = match unit {
            's' => 1,
            'h' => 3600,
            'd' => 86_400,
            'w' => 7 * 86_400,
            'm' => 30 * 86_400,
            'y' => 365 * 86_400,
            _ => return Err(fault()),
        };
        let count: u32 = word.text[..word.text.len() - 1].parse().map_err(|_| fault())?;
        if count == 0 {
            return Err(fault());
        }
        Ok(Value::Period(Duration::from_secs(u64::from(count) * seconds)))
    }

    fn restart(&mut self) -> Read<Value> {
        let seconds = |number: i64| Duration::from_secs(u64::try_from(number).unwrap_or(0));
        let (column, base) = self.any_number()?;
        let base = self.adjusted(column, base, 1, 3600);
        if self.optional_ahead().is_none() {
            return Ok(Value::Restart(Restart::Constant(seconds(base))));
        }
        let (column, cap) = self.any_number()?;
        if cap < base {
            return Err(self.form(column, "has a cap below its base"));
        }
        let cap = self.adjusted(column, cap, 1, 7200);
        let stable = match self.optional_ahead() {
            Some(_) => self.whole(0, i64::from(i32::MAX))?,
            None => 0,
        };
        Ok(Value::Restart(Restart::Backoff {
            base: seconds(base),
            cap: seconds(cap),
            stable: seconds(stable),
        }))
    }

    fn optional_ahead(&self) -> Option<()> {
        self.words.clone().word().filter(|word| !word.text.starts_with('#')).map(|_| ())
    }

    fn adjusted(&mut self, column: u32, found: i64, min: i64, max: i64) -> i64 {
        let taken = found.clamp(min, max);
        if taken != found {
            self.remarks.push((column, Remark::Adjusted { option: self.option.name, found, taken }));
        }
        taken
    }

    fn versions(&mut self) -> Read<Value> {
        let rest = self.words.rest();
        let mut versions = Versions { v31: false, v311: false, v5: false };
        let mut any = false;
        for word in rest.text.split([',', ' ', '\t']).filter(|word| !word.is_empty()) {
            any = true;
            match word {
                "3" => versions.v31 = true,
                "4" => versions.v311 = true,
                "5" => versions.v5 = true,
                found => {
                    let (option, found) = (self.option.name, found.to_owned());
                    return Err((rest.column, Fault::NotOneOf { option, found, choices: &["3", "4", "5"] }));
                }
            }
        }
        if any { Ok(Value::Versions(versions)) } else { Err(self.empty()) }
    }

    fn log_destination(&mut self) -> Read<Value> {
        const CHOICES: &[&str] = &["stderr", "stdout", "syslog", "topic", "none", "file", "dlt", "android"];
        let destination = match self.one_of(CHOICES)? {
            "file" => Some(LogDestination::File(self.text(65_535)?.into())),
            "stdout" => {
                // `unbuffered` may follow; ours never is buffered.
                self.words.rest();
                Some(LogDestination::Stdout)
            }
            "stderr" => Some(LogDestination::Stderr),
            "syslog" => Some(LogDestination::Syslog),
            "topic" => Some(LogDestination::Topic),
            "none" => Some(LogDestination::None),
            _ => None,
        };
        self.end();
        Ok(Value::LogDestination(destination))
    }
}

/// A number as C's `strtol` with base 0 reads it: 0x for hexadecimal, 0 for octal, a sign. Beyond 64 bits: the nearest.
fn c_number(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        None => (digits, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let number = i64::from_str_radix(digits, radix).unwrap_or(i64::MAX);
    Some(if negative { -number } else { number })
}
