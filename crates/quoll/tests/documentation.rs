//! The documentation says what the program does.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::process::Command;

fn docs(name: &str) -> String {
    let path = format!("{}/../../docs/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn help(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_quoll"))
        .args(words)
        .arg("--help")
        .env("COLUMNS", "100")
        .env_remove("QUOLL_HOME")
        .env_remove("QUOLL_PASSPHRASE_FILE")
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Every verb that a person can see, in the order of the help.
const VERBS: &[&[&str]] = &[
    &[],
    &["up"],
    &["broker"],
    &["passwd"],
    &["mosquitto"],
    &["mosquitto", "setup"],
    &["mosquitto", "refresh"],
    &["device"],
    &["device", "add"],
    &["device", "find"],
    &["device", "list"],
    &["device", "show"],
    &["device", "revoke"],
    &["device", "remove"],
    &["device", "quarantine"],
    &["device", "release"],
    &["device", "pending"],
    &["device", "accept"],
    &["device", "reject"],
    &["client"],
    &["client", "add"],
    &["client", "list"],
    &["client", "revoke"],
    &["ca"],
    &["ca", "init"],
    &["ca", "show"],
    &["ca", "crl"],
    &["ca", "check"],
    &["ca", "reencrypt"],
    &["ca", "issue"],
    &["ca", "profiles"],
    &["ca", "renew"],
    &["ca", "revoke"],
    &["ca", "unhold"],
    &["ca", "expiring"],
    &["ca", "export"],
    &["ca", "sign"],
    &["ca", "export-anchors"],
    &["server"],
    &["server", "show"],
    &["server", "renew"],
    &["server", "rekey"],
    &["request"],
    &["accept"],
    &["simulate"],
    &["firmware"],
    &["firmware", "lint"],
    &["audit"],
    &["audit", "show"],
    &["audit", "verify"],
    &["completions"],
];

fn commands() -> String {
    let mut text = String::from(
        "# Commands\n\nThe help texts of the program; a test holds this page and the program together \
         (`QUOLL_BLESS=1 cargo test -p quoll --test documentation` writes it anew).\n",
    );
    for words in VERBS {
        let name = std::iter::once("quoll").chain(words.iter().copied()).collect::<Vec<_>>().join(" ");
        text.push_str(&format!("\n## {name}\n\n```text\n{}\n```\n", help(words).trim_end()));
    }
    text
}

#[test]
fn the_page_of_commands_is_what_the_program_says() {
    let path = format!("{}/../../docs/commands.md", env!("CARGO_MANIFEST_DIR"));
    let says = commands();
    if std::env::var_os("QUOLL_BLESS").is_some() {
        std::fs::write(&path, &says).unwrap();
    }
    assert!(docs("commands.md") == says, "docs/commands.md is not what the program says");
}

#[test]
fn every_verb_of_the_help_is_on_the_page_and_has_an_example() {
    for words in VERBS.iter().filter(|words| words.len() > 1 || **words == ["up"]) {
        assert!(help(words).contains("Example"), "{words:?} shows no example");
    }
}
