//! Plays the suite against Quoll and Mosquitto and writes `docs/conformance.md`.
//!
//! ```text
//! cargo run --manifest-path conformance/Cargo.toml --bin report            plays and writes
//! cargo run --manifest-path conformance/Cargo.toml --bin report -- --check plays and compares, writes nothing
//! ```
//!
//! Ends with 1 when a failure is not explained in `differences.toml`, when an explanation is left over, or when
//! `--check` finds the document out of date. Needs Debian's mosquitto and a root workspace that builds.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use conformance::coverage::{Cited, Elsewhere, VERSIONS, clauses, elsewhere, home, tests};
use conformance::difference::{Difference, differences, exchanges, explained, packets};
use conformance::wrong::record;

/// Name in `QUOLL_SUBJECT` and in the document.
const SUBJECTS: [(&str, &str); 2] = [("quoll", "Quoll"), ("mosquitto", "Mosquitto 2.0.11")];

/// Tests at a time: they wait more than they work.
const THREADS: &str = "16";

const HEAD: &str = "\
# MQTT conformance

Written by `cargo run --manifest-path conformance/Cargo.toml --bin report`; do not edit. The suite speaks only bytes over TCP
and shares no code with Quoll, so it runs against any broker: `QUOLL_SUBJECT=HOST:PORT cargo test --manifest-path
conformance/Cargo.toml`. The words in the tables are ours; the clauses are in the OASIS standards for
[5.0](https://docs.oasis-open.org/mqtt/mqtt/v5.0/mqtt-v5.0.html) and
[3.1.1](https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/mqtt-v3.1.1.html). MQTT 3.1 numbers no clauses; `§` and a word stand for
its sections.

Read the results with care: a test can cite several clauses and checks many rows, so *differs* says that something within the
test is not as the standard has it, and the number leads to what it is. Mosquitto 2.0.11 is the version in Debian 11 and 12;
later releases may do better. Both brokers run with an open door and otherwise their defaults. A row with the name of a file is
held by a test of Quoll's workspace, which `scripts/test` runs; that the test is there is a test itself.
";

type Failure = Box<dyn std::error::Error>;

/// Outcome by `version::section::name`, for each subject.
type Outcomes = BTreeMap<&'static str, BTreeMap<String, bool>>;

fn main() -> ExitCode {
    match run(std::env::args().any(|it| it == "--check")) {
        Ok(complaints) if complaints.is_empty() => ExitCode::SUCCESS,
        Ok(complaints) => {
            eprintln!("{}", complaints.join("\n"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("report: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(check: bool) -> Result<Vec<String>, Failure> {
    let differences = differences()?;
    build_subject()?;
    let mut outcomes = Outcomes::new();
    for (subject, _) in SUBJECTS {
        for (version, _) in VERSIONS {
            outcomes.entry(subject).or_default().extend(play(subject, version)?);
        }
    }
    let mut complaints = complaints(&outcomes, &differences);
    for (subject, name) in SUBJECTS {
        if !answers_wrong_packets_as_written(subject)? {
            complaints.push(format!("{name} answers wrong packets otherwise than wrong-packets.tsv says"));
        }
    }
    let text = document(&outcomes, &differences)?;
    let path = document_path();
    if !check {
        std::fs::write(&path, text)?;
    } else if std::fs::read_to_string(&path).unwrap_or_default() != text {
        complaints.push(format!("{} is out of date", path.display()));
    }
    Ok(complaints)
}

fn document_path() -> PathBuf {
    home().join("../docs/conformance.md")
}

/// The product is built first, so that no old binary is tested.
fn build_subject() -> Result<(), Failure> {
    if std::env::var_os("QUOLL_BINARY").is_some() {
        return Ok(());
    }
    let done = Command::new("cargo")
        .args(["build", "--quiet", "-p", "quoll"])
        .current_dir(home().join(".."))
        .status()?;
    if done.success() { Ok(()) } else { Err("the root workspace does not build".into()) }
}

/// Runs the tests of one version against one subject.
fn play(subject: &str, version: &str) -> Result<BTreeMap<String, bool>, Failure> {
    eprintln!("playing {version} against {subject}");
    let output = Command::new("cargo")
        .args(["test", "--test", version, "--", "--test-threads", THREADS])
        .current_dir(home())
        .env("QUOLL_SUBJECT", subject)
        .env("RUST_BACKTRACE", "0")
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found: BTreeMap<String, bool> = text
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "))
        .map(|(name, result)| (format!("{version}::{name}"), result.trim() == "ok"))
        .collect();
    let expected = tests(version)?.len();
    if found.len() == expected {
        return Ok(found);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{version} against {subject}: {} of {expected} tests reported\n{said}", found.len()).into())
}

/// Whether `tests/wrong_packets.rs` holds for this subject.
fn answers_wrong_packets_as_written(subject: &str) -> Result<bool, Failure> {
    eprintln!("playing wrong packets against {subject}");
    let mut command = Command::new("cargo");
    command
        .args(["test", "--quiet", "--test", "wrong_packets"])
        .current_dir(home())
        .env("QUOLL_SUBJECT", subject);
    Ok(command.output()?.status.success())
}

/// Failures without an explanation and explanations without a failure.
fn complaints(outcomes: &Outcomes, differences: &[Difference]) -> Vec<String> {
    let mut found = Vec::new();
    for (subject, tests) in outcomes {
        for (test, _) in tests.iter().filter(|(_, passed)| !**passed) {
            if explained(differences, subject, test).is_none() {
                found.push(format!("{subject} fails {test}; differences.toml does not say why"));
            }
        }
    }
    for difference in differences {
        for test in &difference.tests {
            match outcomes.get(difference.who.as_str()).and_then(|tests| tests.get(test)) {
                Some(false) => {}
                Some(true) => {
                    found.push(format!("{} passes {test}; take it out of differences.toml", difference.who))
                }
                None => found.push(format!(
                    "differences.toml names {} and {test}; there is no such test",
                    difference.who
                )),
            }
        }
    }
    found
}

fn document(outcomes: &Outcomes, differences: &[Difference]) -> Result<String, Failure> {
    let mut out = HEAD.to_owned();
    summary(&mut out, outcomes)?;
    for (version, title) in VERSIONS {
        clause_table(&mut out, version, title, outcomes, differences)?;
    }
    beyond_table(&mut out)?;
    differences_table(&mut out, differences)?;
    packets_table(&mut out)?;
    exchanges_table(&mut out)?;
    Ok(out)
}

fn summary(out: &mut String, outcomes: &Outcomes) -> Result<(), Failure> {
    let names: Vec<&str> = SUBJECTS.iter().map(|(_, name)| *name).collect();
    writeln!(
        out,
        "\n| version | clauses | tested | client side | not observable | tests | {} |",
        names.join(" | ")
    )?;
    writeln!(out, "|---|---|---|---|---|---|{}", "---|".repeat(SUBJECTS.len()))?;
    for (version, title) in VERSIONS {
        let clauses = clauses(version)?;
        let count =
            |status: &[&str]| clauses.iter().filter(|it| status.contains(&it.status.as_str())).count();
        let total = tests(version)?.len();
        let (tested, client, unseen) =
            (count(&["test"]), count(&["client"]), count(&["unseen", "transport"]));
        write!(out, "| {title} | {} | {tested} | {client} | {unseen} | {total} |", clauses.len())?;
        for (subject, _) in SUBJECTS {
            let of_version = format!("{version}::");
            let passed = outcomes[subject]
                .iter()
                .filter(|(name, passed)| **passed && name.starts_with(&of_version))
                .count();
            write!(out, " {passed} pass |")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn clause_table(
    out: &mut String,
    version: &str,
    title: &str,
    outcomes: &Outcomes,
    differences: &[Difference],
) -> Result<(), Failure> {
    let tests = tests(version)?;
    let elsewhere = elsewhere()?;
    let names: Vec<&str> = SUBJECTS.iter().map(|(_, name)| *name).collect();
    writeln!(out, "\n## {title}\n\n| clause | asks | tests | {} |", names.join(" | "))?;
    writeln!(out, "|---|---|---|{}", "---|".repeat(SUBJECTS.len()))?;
    for clause in clauses(version)? {
        let cited: Vec<&Cited> = tests.iter().filter(|it| it.clauses.contains(&clause.number)).collect();
        let mark = match clause.status.as_str() {
            "client" => " *(client side)*",
            "unseen" => " *(not observable)*",
            "transport" => " *(WebSocket)*",
            _ => "",
        };
        let others: Vec<&Elsewhere> =
            elsewhere.iter().filter(|it| it.version == version && it.clause == clause.number).collect();
        if cited.is_empty() && !others.is_empty() {
            writeln!(
                out,
                "| {} | {}{mark} | {} | passes | – |",
                clause.number,
                clause.words,
                list_elsewhere(&others)
            )?;
            continue;
        }
        write!(out, "| {} | {}{mark} | {} |", clause.number, clause.words, list(&cited))?;
        results(out, version, &cited, outcomes, differences)?;
    }
    let beyond: Vec<&Cited> = tests.iter().filter(|it| it.clauses.is_empty()).collect();
    if !beyond.is_empty() {
        write!(out, "| | beyond numbered clauses | {} |", list(&beyond))?;
        results(out, version, &beyond, outcomes, differences)?;
    }
    Ok(())
}

fn list(tests: &[&Cited]) -> String {
    let names: Vec<String> =
        tests.iter().map(|it| it.name.rsplit("::").next().unwrap_or_default().replace('_', " ")).collect();
    names.join("; ")
}

fn list_elsewhere(tests: &[&Elsewhere]) -> String {
    let names: Vec<String> =
        tests.iter().map(|it| format!("{} (`{}`)", it.test.replace('_', " "), it.file)).collect();
    names.join("; ")
}

/// What no clause asks for: transports, access, persistence, other people's clients.
fn beyond_table(out: &mut String) -> Result<(), Failure> {
    writeln!(out, "\n## Beyond the standards\n\n| what | tests |\n|---|---|")?;
    let mut rows: Vec<(String, Vec<Elsewhere>)> = Vec::new();
    for it in elsewhere()?.into_iter().filter(|it| it.version == "beyond") {
        match rows.last_mut().filter(|(clause, _)| *clause == it.clause) {
            Some((_, tests)) => tests.push(it),
            None => rows.push((it.clause.clone(), vec![it])),
        }
    }
    for (what, tests) in &rows {
        writeln!(out, "| {what} | {} |", list_elsewhere(&tests.iter().collect::<Vec<_>>()))?;
    }
    Ok(())
}

/// Where the two answer wrong packets differently.
fn packets_table(out: &mut String) -> Result<(), Failure> {
    let record = record::read()?;
    let reasons = packets()?;
    let mut counts = vec![0; reasons.len()];
    for (key, both) in record.iter().filter(|(_, both)| both[0] != both[1]) {
        if let Some(place) = reasons.iter().position(|it| it.explains(key, both)) {
            counts[place] += 1;
        }
    }
    let differing: usize = counts.iter().sum();
    writeln!(
        out,
        "\n## Wrong packets\n\n\
         Every kind of malformed or wrong packet in every version, {} rows, and what each broker does about it, is written down in \
         [wrong-packets.tsv](../conformance/wrong-packets.tsv), which a test holds both brokers to. 3.x connections are closed \
         without a word, as their standards have it; so is a malformed CONNECT of any version, by both. In {} rows the two answer \
         alike, in {differing} for one of these reasons not.\n\n\
         | name | clause | rows | Quoll | Mosquitto 2.0.11 | why |\n|---|---|---|---|---|---|",
        record.len(),
        record.len() - differing,
    )?;
    for (reason, count) in reasons.iter().zip(counts) {
        let shown = |text: &str| text.replace('*', "…");
        writeln!(
            out,
            "| {} | {} | {count} | {} | {} | {} |",
            reason.id,
            reason.clause,
            shown(&reason.quoll),
            shown(&reason.mosquitto),
            reason.why.trim()
        )?;
    }
    Ok(())
}

/// What the differential fuzz takes for a deliberate difference.
fn exchanges_table(out: &mut String) -> Result<(), Failure> {
    writeln!(
        out,
        "\n## Exchanges in which the two differ on purpose\n\n\
         `cargo run --release --manifest-path conformance/Cargo.toml --bin differential` drives two clients against both brokers \
         in lock-step, a million exchanges by default: valid, odd and malformed packets of all three versions. Each difference \
         is one of these, by its rule in `differences.toml`, or a fault; the run counts both. How it went: \
         [measurements/differential](measurements/differential.md).\n\n\
         | name | clause | what and why |\n|---|---|---|"
    )?;
    for rule in exchanges()? {
        writeln!(out, "| {} | {} | {} |", rule.id, rule.clause, rule.why.trim())?;
    }
    Ok(())
}

/// One cell for each subject, and the end of the line.
fn results(
    out: &mut String,
    version: &str,
    cited: &[&Cited],
    outcomes: &Outcomes,
    differences: &[Difference],
) -> Result<(), Failure> {
    for (subject, _) in SUBJECTS {
        let failed: Vec<String> = cited
            .iter()
            .map(|it| format!("{version}::{}", it.name))
            .filter(|name| outcomes[subject].get(name) == Some(&false))
            .collect();
        let mut reasons: Vec<Option<usize>> =
            failed.iter().map(|name| explained(differences, subject, name)).collect();
        reasons.sort_unstable();
        reasons.dedup();
        let links: Vec<String> = reasons
            .iter()
            .map(|it| it.map_or("?".into(), |place| format!("[{place}](#difference-{place})")))
            .collect();
        let cell = match (cited.is_empty(), failed.is_empty()) {
            (true, _) => "–".to_owned(),
            (false, true) => "passes".to_owned(),
            (false, false) => format!("differs {}", links.join(" ")),
        };
        write!(out, " {cell} |")?;
    }
    writeln!(out)?;
    Ok(())
}

fn differences_table(out: &mut String, differences: &[Difference]) -> Result<(), Failure> {
    writeln!(out, "\n## Differences, explained\n\n| | who | what and why | tests |\n|---|---|---|---|")?;
    for (place, difference) in differences.iter().enumerate() {
        let place = place + 1;
        let who =
            SUBJECTS.iter().find(|(subject, _)| *subject == difference.who).map_or("?", |(_, name)| *name);
        let tests: Vec<String> =
            difference.tests.iter().map(|it| it.replace('_', " ").replace("::", ", ")).collect();
        let anchor = format!("<a id=\"difference-{place}\"></a>{place}");
        writeln!(out, "| {anchor} | {who} | {} | {} |", difference.why.trim(), tests.join("; "))?;
    }
    Ok(())
}
