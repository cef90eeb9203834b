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

/// Every verb that a person can see, in the order of the help, with its help text.
fn verbs() -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    let mut waiting: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(words) = waiting.pop() {
        let text = help(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let listed = text.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
        let lines = listed.lines().take_while(|line| !line.is_empty());
        // A line that goes on with a description is indented deeper than a name.
        let names =
            lines.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
        let deeper = names.filter(|name| *name != "help").map(|name| {
            let mut deeper = words.clone();
            deeper.push(name.to_owned());
            deeper
        });
        let deeper: Vec<_> = deeper.collect();
        waiting.extend(deeper.into_iter().rev());
        found.push((words, text));
    }
    found
}

fn commands() -> String {
    let mut text = String::from(
        "# Commands\n\nThe help texts of the program; a test holds this page and the program together \
         (`QUOLL_BLESS=1 cargo test -p quoll --test documentation` writes it anew).\n",
    );
    for (words, help) in verbs() {
        let name =
            std::iter::once("quoll").chain(words.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
        text.push_str(&format!("\n## {name}\n\n```text\n{}\n```\n", help.trim_end()));
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
fn every_verb_of_the_help_has_an_example() {
    let verbs = verbs();
    assert!(verbs.len() > 50, "the list of commands was not understood: {verbs:?}");
    for (words, help) in &verbs {
        let leads_on = help.contains("\nCommands:\n");
        assert!(leads_on || help.contains("Example"), "{words:?} shows no example");
    }
}
