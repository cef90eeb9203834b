//! A console line in, answers out: of the console, a Backlog or the serial line; to the log, the broker, or both. Facts
//! §0.4, §2, §7.1.
//!
//! What it is not: the commands themselves (`commands`).

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{Machine, Now, machine::Answer, session::Publication};
use crate::{
    limits::{ECHO_CHARS, SERIAL_COMMAND_CHARS},
    setting::SetOption,
};

/// Commands waiting in a Backlog. The device has no fixed count, but a finite heap.
const BACKLOG: usize = 100;

/// A line of a Backlog that waits for its turn.
pub(super) struct Queued {
    pub(super) line: Zeroizing<String>,
    pub(super) silent: bool,
    pub(super) delayed: bool,
}

/// What a command came to.
pub(super) enum Outcome {
    /// One reply, on RESULT.
    Reply(Value),
    /// Replies on topics of their own.
    Pages(Vec<(String, Value)>),
    /// No such command in this firmware.
    Unknown,
    /// Refused.
    Error,
}

impl Machine {
    /// Runs one console line, or queues a Backlog (which answers nothing).
    pub fn command(&mut self, line: &str, now: Now) -> Vec<Answer> {
        let before = self.settings.clone();
        let answers = self.run(line, now, false);
        if self.settings != before && self.changed.is_none() {
            self.changed = Some(now.up);
        }
        self.flash.keys = self.keys.flash();
        answers
    }

    /// A whole line came over the serial line. It is logged in full before it runs, whoever reads the logs, and the
    /// serial line shows the answers even if SerialLog is 0.
    pub fn serial_line(&mut self, line: &str, now: Now) {
        if let Some(printer) = &mut self.printer {
            printer.level = self.settings.serial_log.max(2);
        }
        if line.len() > SERIAL_COMMAND_CHARS {
            self.note(2, now, "CMD: Serial buffer overrun");
            return;
        }
        self.note(2, now, &Zeroizing::new(format!("CMD: {line}")));
        self.command(line, now);
    }

    pub(super) fn command_from_backlog(&mut self, queued: &Queued, now: Now) {
        let before = self.settings.clone();
        self.run(&queued.line, now, queued.silent);
        if self.settings != before && self.changed.is_none() {
            self.changed = Some(now.up);
        }
        self.flash.keys = self.keys.flash();
    }

    fn run(&mut self, line: &str, now: Now, silent: bool) -> Vec<Answer> {
        let line = line.trim();
        let (word, data) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let (word, hushed) = word.strip_prefix('_').map_or((word, false), |word| (word, true));
        let name = word.trim_end_matches(|c: char| c.is_ascii_digit()).to_ascii_lowercase();
        let index = word[name.len()..].parse::<u32>().ok();
        if self.settings.web_log >= 3 {
            self.note(3, now, &format!("CMD: {line}"));
        }
        if name == "backlog" {
            self.queue(index.unwrap_or(1), data, now);
            return Vec::new();
        }
        let refused =
            self.profile.faults.refuses.as_deref().is_some_and(|bad| bad.eq_ignore_ascii_case(word));
        let outcome = match word.len() {
            _ if refused => Outcome::Error,
            0 | 24.. => Outcome::Unknown,
            _ => self.dispatch(&name, index, data.trim(), now),
        };
        if name == "seriallog"
            && !data.is_empty()
            && let Some(printer) = &mut self.printer
        {
            printer.level = self.settings.serial_log;
        }
        if self.profile.faults.dies_after.as_deref().is_some_and(|last| last.eq_ignore_ascii_case(word)) {
            self.profile.faults.dies_after = None;
            self.drop_dead(now);
        }
        let failed = matches!(outcome, Outcome::Unknown | Outcome::Error);
        let pages = match outcome {
            Outcome::Reply(reply) => vec![(self.result_name(&name), reply)],
            Outcome::Pages(pages) => pages,
            Outcome::Unknown => vec![("RESULT".into(), echo("Unknown", &name, index, data))],
            Outcome::Error => vec![("RESULT".into(), echo("Error", &name, index, data))],
        };
        if (silent || hushed) && !failed {
            return Vec::new();
        }
        let answers: Vec<_> =
            pages.into_iter().map(|(name, value)| Answer { name, json: value.to_string() }).collect();
        for answer in &answers {
            self.tell(answer, now);
        }
        answers
    }

    /// An answer goes to the log and to the broker.
    fn tell(&mut self, answer: &Answer, now: Now) {
        let Ok(topic) = self.topics().status(&answer.name) else { return };
        let line = match self.session.is_connected() {
            true => format!("MQT: {} = {}", topic.as_str(), answer.json),
            false => format!("RSL: {} = {}", answer.name, answer.json),
        };
        self.note(2, now, &line);
        self.publish(Publication {
            topic: topic.as_str().into(),
            payload: answer.json.clone().into_bytes(),
            retain: false,
        });
    }

    /// SetOption4 puts replies under the command's name.
    fn result_name(&self, name: &str) -> String {
        const RESPONSE_BY_NAME: u8 = 4;
        let by_name = SetOption::new(RESPONSE_BY_NAME).is_ok_and(|option| self.settings.option(option));
        if by_name { name.to_ascii_uppercase() } else { "RESULT".into() }
    }

    /// Splits at semicolons outside braces, drops Reset and nested Backlog words. Facts §2.
    fn queue(&mut self, mode: u32, data: &str, now: Now) {
        if data.trim().is_empty() {
            self.backlog.clear();
            return;
        }
        let (mut depth, mut line) = (0u32, Zeroizing::new(String::new()));
        let mut lines = Vec::new();
        for c in data.chars().chain([';']) {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                ';' if depth == 0 => {
                    lines.push(std::mem::take(&mut line));
                    continue;
                }
                _ => {}
            }
            line.push(c);
        }
        if depth > 0 {
            lines.push(line);
        }
        if self.backlog.is_empty() {
            self.backlog_due = now.up;
        }
        for line in lines {
            let lower = line.trim().to_ascii_lowercase();
            let line = Zeroizing::new(match lower.strip_prefix("backlog") {
                Some(_) => line.trim()["backlog".len()..].trim().to_owned(),
                None => line.trim().to_owned(),
            });
            if !line.is_empty() && !lower.starts_with("reset") && self.backlog.len() < BACKLOG {
                self.backlog.push_back(Queued {
                    line,
                    silent: matches!(mode, 2 | 3),
                    delayed: !matches!(mode, 0 | 2),
                });
            }
        }
    }
}

/// Several answers as the one object of an HTTP reply. Facts §7.1.
#[must_use]
pub fn merged(answers: &[Answer]) -> String {
    let mut all = Map::new();
    for answer in answers {
        if let Ok(Value::Object(fields)) = serde_json::from_str(&answer.json) {
            all.extend(fields);
        }
    }
    Value::Object(all).to_string()
}

/// `{"Command":"Unknown","Input":"TLSKEY1 …"}`: up to 63 characters of the command come back. Facts §0.4.
fn echo(verdict: &str, name: &str, index: Option<u32>, data: &str) -> Value {
    let index = index.filter(|index| *index != 1).map(|index| index.to_string()).unwrap_or_default();
    let blank = if data.is_empty() { "" } else { " " };
    let input: String =
        format!("{}{index}{blank}{data}", name.to_ascii_uppercase()).chars().take(ECHO_CHARS).collect();
    json!({"Command": verdict, "Input": input})
}
