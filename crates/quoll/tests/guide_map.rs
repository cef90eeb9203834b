//! docs/guide-map.md names commands that exist, and every step of the guide.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::process::Command;

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide-map.md");
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn help(words: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_quoll")).args(words).arg("--help").output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The commands in code spans: words up to the first that is no verb, and the options.
fn commands(page: &str) -> Vec<(Vec<&str>, Vec<&str>)> {
    let spans = page.split('`').skip(1).step_by(2).filter_map(|span| span.strip_prefix("quoll "));
    spans
        .map(|span| {
            let words: Vec<&str> = span.split_whitespace().collect();
            let is_verb = |word: &&&str| {
                word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') && !word.starts_with('-')
            };
            let verbs: Vec<&str> = words.iter().take_while(is_verb).copied().take(2).collect();
            (verbs, words.into_iter().filter(|word| word.starts_with("--")).collect())
        })
        .collect()
}

#[test]
fn every_command_of_the_page_exists_with_its_options() {
    let page = page();
    let commands = commands(&page);
    assert!(commands.len() > 30, "{commands:?}");
    for (verbs, options) in commands {
        // The second word may be a name, such as that of a device.
        let (found, text) = help(&verbs);
        assert!(found, "quoll {verbs:?} does not exist");
        for option in options {
            assert!(text.contains(option), "quoll {verbs:?} has no {option}");
        }
    }
}

#[test]
fn every_step_of_the_guide_is_on_the_page() {
    let page = page();
    for step in [
        "1.1", "1.2", "1.3", "1.4", "1.5", "1.6", "2.1", "2.2", "3", "4", "5.1", "5.3", "6.1", "6.2", "6.3",
        "6.4",
    ] {
        let rows: Vec<_> = page.lines().filter(|line| line.starts_with(&format!("| {step} |"))).collect();
        assert!(!rows.is_empty(), "step {step} is missing");
        for row in rows {
            let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
            assert_eq!(cells.len(), 4, "{row}");
            let command = cells[2];
            assert!(command.contains("`quoll ") || command.starts_with("none: "), "{row}");
        }
    }
}
