//! What was seen: `wrong-packets.tsv` (version, packet, Quoll, Mosquitto), and the rules that explain where the two differ.

use std::collections::BTreeMap;
use std::{fs, io};

use serde::Deserialize;

use super::{all, connects, outcome, patience, properties};
use crate::coverage::home;
use crate::words::Version;

/// Places of the two in a line of the file.
pub const SUBJECTS: [&str; 2] = ["quoll", "mosquitto"];

/// Version and packet, and what each of [`SUBJECTS`] does; empty where it was not seen yet.
pub type Record = BTreeMap<(String, String), [String; 2]>;

/// A reason why the two differ in packets of a kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Its name in the document.
    pub id: String,
    /// Packets by `version: name`; a `*` stands for anything.
    pub packets: Vec<String>,
    /// What Quoll does in each of them, a `*` as above.
    pub quoll: String,
    /// What Mosquitto does.
    pub mosquitto: String,
    /// The clause that Quoll follows.
    pub clause: String,
    /// Why.
    pub why: String,
}

impl Reason {
    /// Does it explain this row?
    pub fn explains(&self, (version, packet): &(String, String), [quoll, mosquitto]: &[String; 2]) -> bool {
        let name = format!("{version}: {packet}");
        self.packets.iter().any(|it| fits(it, &name))
            && fits(&self.quoll, quoll)
            && fits(&self.mosquitto, mosquitto)
    }
}

/// Does the text have the form, in which each `*` is any text?
pub fn fits(form: &str, text: &str) -> bool {
    match form.split_once('*') {
        None => form == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| fits(rest, &text[at..]))
        }),
    }
}

/// Plays every row of every version against the subject.
pub fn play() -> BTreeMap<(String, String), String> {
    let mut seen = BTreeMap::new();
    for (name, v) in [("3.1", Version::V31), ("3.1.1", Version::V311), ("5.0", Version::V5)] {
        let (mut first, later) = all(v);
        if v == Version::V5 {
            first.extend(properties::of_connect());
        }
        for (rows, is_first) in [(first, true), (later, false)] {
            for (packet, bytes) in rows {
                let said = outcome(v, &bytes, is_first, patience(&packet));
                seen.insert((name.to_owned(), packet), said);
            }
        }
    }
    seen
}

/// How many rows are made of the same name, which would hide one of them: name and count.
pub fn doubles() -> Vec<String> {
    let mut found = Vec::new();
    for v in [Version::V31, Version::V311, Version::V5] {
        let (_, later) = all(v);
        let first = connects::all(v);
        for rows in [first, later] {
            let mut seen: BTreeMap<String, Vec<u8>> = BTreeMap::new();
            for (name, bytes) in rows {
                // The same packet may be reached by two tables; two packets may not have one name.
                if seen.insert(name.clone(), bytes.clone()).is_some_and(|known| known.len() != bytes.len()) {
                    found.push(format!("{v:?} {name}"));
                }
            }
        }
    }
    found
}

/// The file.
///
/// # Errors
/// When it cannot be read.
///
/// # Panics
/// When a line is not four fields.
pub fn read() -> io::Result<Record> {
    let text = fs::read_to_string(home().join("wrong-packets.tsv"))?;
    let lines = text.lines().filter(|it| !it.starts_with('#'));
    Ok(lines
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let &[version, packet, quoll, mosquitto] = fields.as_slice() else {
                panic!("wrong-packets.tsv: four fields are due: {line}");
            };
            ((version.into(), packet.into()), [quoll.into(), mosquitto.into()])
        })
        .collect())
}

/// Writes the file.
///
/// # Errors
/// When it cannot be written.
pub fn write(record: &Record) -> io::Result<()> {
    let mut text = String::from(
        "# version, packet, what Quoll does, what Mosquitto 2.0.11 does; written by QUOLL_BLESS=1 QUOLL_SUBJECT=… cargo test --test wrong_packets\n",
    );
    for ((version, packet), [quoll, mosquitto]) in record {
        text += &format!("{version}\t{packet}\t{quoll}\t{mosquitto}\n");
    }
    fs::write(home().join("wrong-packets.tsv"), text)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_star_is_any_text() {
        for (form, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("a*", "a", true),
            ("*b", "ab", true),
            ("*b", "ba", false),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("*", "", true),
        ] {
            assert_eq!(fits(form, text), expected, "{form} {text}");
        }
    }
}
