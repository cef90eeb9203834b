//! Which clause is tested by which test: read from `clauses/*.tsv` and from the doc comments of `tests/`.
//!
//! A test cites a clause of its version by `[MQTT-3.1.2-3]` (3.1: `[3.1 §3.1 will]`) in the lines above it. Nothing else
//! has to be kept in step.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// The versions, as folders of tests and names of clause files, with their title.
pub const VERSIONS: [(&str, &str); 3] =
    [("mqtt5", "MQTT 5.0"), ("mqtt311", "MQTT 3.1.1"), ("mqtt31", "MQTT 3.1")];

/// One normative statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Number without its brackets and prefix.
    pub number: String,
    /// `test`, `client`, `unseen`, `transport`; see `clauses/README.md`.
    pub status: String,
    /// What it asks, in a few words of our own.
    pub words: String,
}

/// One test and the clauses it cites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cited {
    /// `section::name`, as the test runner prints it.
    pub name: String,
    /// Numbers in its doc comment.
    pub clauses: Vec<String>,
}

/// Folder of this suite.
pub fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Clauses of a version, in the order of the standard.
///
/// # Errors
/// When the file cannot be read.
///
/// # Panics
/// When a line is not three fields.
pub fn clauses(version: &str) -> io::Result<Vec<Clause>> {
    let text = fs::read_to_string(home().join(format!("clauses/{version}.tsv")))?;
    Ok(text
        .lines()
        .map(|line| {
            let mut fields = line.split('\t').map(str::to_owned);
            let clause =
                (|| Some(Clause { number: fields.next()?, status: fields.next()?, words: fields.next()? }))();
            clause.unwrap_or_else(|| panic!("{version}.tsv: three fields are due: {line}"))
        })
        .collect())
}

/// A test outside of this suite that holds a clause, or something beyond the standards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// Version as in [`VERSIONS`], or `beyond`.
    pub version: String,
    /// The clause's number, or words.
    pub clause: String,
    /// File, from the root workspace.
    pub file: String,
    /// Name of the test.
    pub test: String,
}

/// What is held outside of this suite: transports, access, persistence, the duties of clients.
///
/// # Errors
/// When the file cannot be read.
///
/// # Panics
/// When a line is not four fields.
pub fn elsewhere() -> io::Result<Vec<Elsewhere>> {
    let text = fs::read_to_string(home().join("clauses/elsewhere.tsv"))?;
    Ok(text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let &[version, clause, file, test] = fields.as_slice() else {
                panic!("elsewhere.tsv: four fields are due: {line}");
            };
            let [version, clause, file, test] = [version, clause, file, test].map(str::to_owned);
            Elsewhere { version, clause, file, test }
        })
        .collect())
}

/// Tests of a version with what they cite, by file and place.
///
/// # Errors
/// When a file cannot be read.
pub fn tests(version: &str) -> io::Result<Vec<Cited>> {
    let folder = home().join("tests").join(version);
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|it| it.map(|it| it.path())).collect::<Result<_, _>>()?;
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let section = file.file_stem().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
        found.extend(tests_in(&section, &fs::read_to_string(&file)?));
    }
    Ok(found)
}

fn tests_in(section: &str, text: &str) -> Vec<Cited> {
    let mut found = Vec::new();
    let mut clauses = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if let Some(doc) = line.strip_prefix("///") {
            clauses.extend(citations(doc));
        } else if line == "#[test]" {
            is_test = true;
        } else if let Some(name) = name_of(line, is_test) {
            found.push(Cited { name: format!("{section}::{name}"), clauses: std::mem::take(&mut clauses) });
            is_test = false;
        } else if !line.starts_with("#[") {
            clauses.clear();
        }
    }
    found
}

/// `fn name() {` after `#[test]`, or `room::name;` in `scenes!`.
fn name_of(line: &str, is_test: bool) -> Option<&str> {
    if is_test {
        return line.strip_prefix("fn ")?.split('(').next();
    }
    let (room, name) = line.strip_suffix(';')?.split_once("::")?;
    let plain =
        |it: &str| it.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    (plain(room) && plain(name)).then_some(name)
}

fn citations(doc: &str) -> Vec<String> {
    doc.split('[')
        .skip(1)
        .filter_map(|rest| rest.split(']').next())
        .filter_map(|it| it.strip_prefix("MQTT-").or_else(|| it.strip_prefix("3.1 ")))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_scenes_are_found_with_their_clauses() {
        let text = "scenes! { V5,\n    /// [MQTT-1.2.3-4] words\n    /// [MQTT-5-6]\n    will::of_a_scene;\n}\n\
                    /// no clause\nfn not_a_test() {\n}\n/// [3.1 §3.1 will] x\n#[test]\nfn a_test() {\n";
        let found = tests_in("s", text);
        let expected = |name: &str, clauses: &[&str]| Cited {
            name: name.into(),
            clauses: clauses.iter().map(|it| (*it).to_owned()).collect(),
        };
        assert_eq!(
            found,
            [expected("s::of_a_scene", &["1.2.3-4", "5-6"]), expected("s::a_test", &["§3.1 will"])]
        );
    }
}
