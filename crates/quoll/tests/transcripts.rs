//! The lines that README.md and docs/ca.md show are run, in the order of the page, each page in a home of its own.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::transcript::shape;
use support::{Home, complaint};

fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

/// Runs a line as a person would type it; what is said on both streams, with this home's folder as `HOME`.
fn shell(home: &Home, line: &str) -> String {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{line} 2>&1")]).current_dir(home.dir.path()).stdin(Stdio::null());
    let bin = Path::new(env!("CARGO_BIN_EXE_quoll")).parent().unwrap();
    shell.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    shell.env("COLUMNS", "120").env("QUOLL_HOME", home.dir.path());
    for name in ["QUOLL_PASSPHRASE_FILE", "QUOLL_LOG", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY"] {
        shell.env_remove(name);
    }
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{line}: {}", complaint(&output));
    let said =
        String::from_utf8(output.stdout).unwrap().replace(&home.dir.path().display().to_string(), "HOME");
    said.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The home's names and addresses are the page's, not this machine's.
fn home() -> Home {
    let home = Home::new();
    let names = "[server]\nnames = [\"mqtt.home.example\"]\naddresses = [\"192.168.1.10\"]\nhost = \"mqtt.home.example\"\n";
    std::fs::write(home.path("quoll.toml"), names).unwrap();
    home
}

#[test]
fn the_cas_page_shows_what_the_program_says() {
    let path = page("docs/ca.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let home = home();
    let (mut says, mut in_block) = (String::new(), false);
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = line == "```console";
        } else if in_block {
            let Some(command) = line.strip_prefix("$ ") else { continue };
            says.push_str(&format!("$ {command}\n{}", shell(&home, command)));
            continue;
        }
        says.push_str(line);
        says.push('\n');
    }
    if std::env::var_os("QUOLL_BLESS").is_some() {
        std::fs::write(&path, &says).unwrap();
        return;
    }
    for (ours, theirs) in shape(&says).lines().zip(shape(&text).lines()) {
        assert_eq!(ours, theirs, "docs/ca.md is not what the program says:\n{says}");
    }
    assert_eq!(says.lines().count(), text.lines().count());
}

#[test]
fn the_readmes_five_lines_do_what_they_say() {
    let text = std::fs::read_to_string(page("README.md")).unwrap();
    let section = text.split("## A CA in five lines").nth(1).expect("README.md has the section");
    let block = section.split("```console\n").nth(1).unwrap().split("```").next().unwrap();
    let home = home();
    let lines: Vec<_> = block.lines().map(|line| line.strip_prefix("$ ").unwrap()).collect();
    assert_eq!(lines.len(), 5);
    let before = |words: &[&str]| home.json(words);
    let mut fingerprint = None;
    for line in lines {
        let said = shell(&home, line);
        if line.contains("ca init") {
            fingerprint = Some(before(&["server", "show"])["mqtt_fingerprint"].clone());
        }
        if line.contains("ca revoke") {
            assert!(said.contains("Revocation list     written"), "{said}");
        }
        if line.contains("ca check") {
            // The renewal left one that is good until it is revoked, and the check says so.
            assert!(said.contains("1 problems:") && said.contains("a newer one of this name"), "{said}");
        }
    }
    assert_eq!(fingerprint, Some(home.json(&["server", "show"])["mqtt_fingerprint"].clone()));
}
