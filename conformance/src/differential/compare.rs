//! Two answers side by side, and the rules that explain a difference.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::play::Heard;

/// What one broker did and the other did not, in words: `self` is the connection of the step, `other` the other one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Only Quoll.
    pub quoll: Vec<String>,
    /// Only Mosquitto.
    pub mosquitto: Vec<String>,
    /// Both closed the same connections, so that a scenario may go on.
    pub same_connections: bool,
}

/// Compares what both did on the connection of the step and on the other; `None` when they agree.
pub fn compare(quoll: &[Heard; 2], mosquitto: &[Heard; 2]) -> Option<Difference> {
    if quoll == mosquitto {
        return None;
    }
    let (mut only_quoll, mut only_mosquitto) = (words(quoll), words(mosquitto));
    only_quoll.retain(|word| {
        let place = only_mosquitto.iter().position(|it| it == word);
        place.inspect(|place| drop(only_mosquitto.remove(*place))).is_none()
    });
    if only_quoll.is_empty() && only_mosquitto.is_empty() {
        only_quoll.push("order".into());
    }
    let same = |place: usize| {
        quoll[place].closed == mosquitto[place].closed && quoll[place].silent == mosquitto[place].silent
    };
    let same_connections = same(0) && same(1);
    Some(Difference { quoll: only_quoll, mosquitto: only_mosquitto, same_connections })
}

fn words(heard: &[Heard; 2]) -> Vec<String> {
    let mut out = Vec::new();
    for (heard, who) in heard.iter().zip(["self", "other"]) {
        out.extend(heard.answers.iter().chain(&heard.messages).map(|it| format!("{who} {it}")));
        if heard.closed {
            out.push(format!("{who} closed"));
        }
        if heard.silent {
            out.push(format!("{who} silent"));
        }
    }
    out
}

/// A deliberate difference: when it is to be expected, and what each does. Patterns may end in `*`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name in the document and in the count.
    pub id: String,
    /// Any of these must have been found in the step (or, with `since:`, in an earlier one of the scenario); names may end in `*`.
    pub when: Vec<String>,
    /// One of these must have been found as well, where there are any.
    #[serde(default)]
    pub with: Vec<String>,
    /// What Quoll alone may do.
    #[serde(default)]
    pub quoll: Vec<String>,
    /// What Mosquitto alone may do.
    #[serde(default)]
    pub mosquitto: Vec<String>,
    /// Quoll ends the connection for what it was told, and Mosquitto may do what it likes; instead of the two above.
    #[serde(default)]
    pub refused: bool,
    /// The state of both differs afterwards even where the answers agree: the scenario ends here.
    #[serde(default)]
    pub ends: bool,
    /// State is the same on both sides afterwards: the scenario goes on.
    #[serde(default)]
    pub goes_on: bool,
    /// The clause that Quoll follows, or none where the standard leaves it open.
    pub clause: String,
    /// What both do and why Quoll does what it does.
    pub why: String,
}

/// What [`Rule::refused`] stands for.
const REFUSED: [&str; 5] =
    ["self closed", "self DISCONNECT 0x8*", "self DISCONNECT 0x9*", "self CONNACK 0 0x*", "other PUBLISH*"];

impl Rule {
    /// Is something of this kind in the step?
    pub fn concerns(&self, found: &BTreeSet<String>) -> bool {
        let any = |names: &[String]| names.iter().any(|name| found.iter().any(|it| fits(name, it)));
        any(&self.when) && (self.with.is_empty() || any(&self.with))
    }

    /// Does it explain this word of Quoll or of Mosquitto?
    fn covers(&self, word: &str, of_quoll: bool) -> bool {
        let own = if of_quoll { &self.quoll } else { &self.mosquitto };
        let refused: &[&str] = match (self.refused, of_quoll) {
            (false, _) => &[],
            (true, true) => &REFUSED,
            (true, false) => &["self*", "other PUBLISH*", "other closed"],
        };
        own.iter().any(|it| fits(it, word)) || refused.iter().any(|it| fits(it, word))
    }
}

/// The rules that together explain every word of a difference: one where one is enough. None, when a word is left over.
pub fn explanation<'a>(
    rules: &'a [Rule],
    difference: &Difference,
    found: &BTreeSet<String>,
) -> Option<Vec<&'a Rule>> {
    let words: Vec<(&str, bool)> = difference
        .quoll
        .iter()
        .map(|it| (it.as_str(), true))
        .chain(difference.mosquitto.iter().map(|it| (it.as_str(), false)))
        .collect();
    let covers = |rule: &Rule, word: &(&str, bool)| rule.covers(word.0, word.1);
    let concerned: Vec<&Rule> = rules.iter().filter(|it| it.concerns(found)).collect();
    if let Some(one) = concerned.iter().find(|rule| words.iter().all(|word| covers(rule, word))) {
        return Some(vec![one]);
    }
    let used: Vec<&Rule> =
        words.iter().map_while(|word| concerned.iter().find(|rule| covers(rule, word)).copied()).collect();
    (used.len() == words.len()).then_some(used)
}

fn fits(pattern: &str, word: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == word, |start| word.starts_with(start))
}

/// How often each rule explained a difference.
pub type Counts = BTreeMap<String, u64>;
