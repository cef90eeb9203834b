//! `quoll import`, killed before any of its changes: the home is whole or not there, what is taken over is untouched, and
//! the same command makes it whole. Two at once do not meet.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::power_cut::{Blow, strike};
use support::{Home, complaint, tool};

/// More changes than an import of a few certificates makes; one that never ends is a fault.
const CHANGES_MAX: usize = 2_000;
/// Not every change: each run takes its time.
const STEP: usize = 17;

/// Content, mode and date of everything below a folder.
fn digest(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32, i64, i64)> {
    let mut out = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        let content = if meta.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
        if meta.is_dir() {
            out.extend(digest(&path));
        }
        out.insert(path, (content, meta.mode(), meta.mtime(), meta.mtime_nsec()));
    }
    out
}

/// An Easy-RSA folder with a server, a client and a device; its home is to be `home`.
fn site() -> Home {
    let made = Home::new();
    made.init();
    let pki = made.path("pki").display().to_string();
    for (name, profile) in [("alice", "client"), ("kitchen", "tasmota")] {
        made.ok(&["--pki", &pki, "ca", "issue", name, "--profile", profile]);
    }
    let site = Home::new();
    fs::create_dir(site.path("easy-rsa")).unwrap();
    let there = site.path("easy-rsa").display().to_string();
    assert!(tool("cp", &["-r", &pki, &there]).status.success());
    fs::write(site.path("easy-rsa/vars"), "set_var EASYRSA_REQ_CN \"Home CA\"\n").unwrap();
    site
}

/// The program in the home that is to be.
fn quoll(site: &Home, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quoll"));
    command.arg("--home").arg(site.path("home")).args(words).stdin(Stdio::null());
    for name in ["QUOLL_HOME", "QUOLL_PASSPHRASE_FILE", "QUOLL_LOG", "STATE_DIRECTORY"] {
        command.env_remove(name);
    }
    command
}

fn import(site: &Home) -> Command {
    let mut command = quoll(site, &["import", "--easyrsa"]);
    command.arg(site.path("easy-rsa"));
    command
}

/// All of it is there, and good.
#[track_caller]
fn is_whole(site: &Home, what: &str) {
    let ran = |words: &[&str]| {
        let output = quoll(site, words).output().unwrap();
        assert!(output.status.success(), "{what}: {words:?}: {}", complaint(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    ran(&["ca", "check", "--strict"]);
    assert!(ran(&["client", "list"]).contains("alice"), "{what}");
    assert!(ran(&["device", "pending"]).contains("kitchen"), "{what}");
    ran(&["audit", "verify"]);
    for file in ["pki/vars", "pki/private/ca.key", "quoll.toml"] {
        assert!(site.path("home").join(file).exists(), "{what}: {file}");
    }
}

#[test]
fn an_import_struck_before_any_change_makes_a_whole_home_or_none() {
    let site = site();
    let before = digest(&site.path("easy-rsa"));
    for (blow, offset) in [(Blow::PowerCut, 0), (Blow::DiskFull, 3)] {
        for at in (offset..CHANGES_MAX).step_by(STEP) {
            let what = format!("{blow:?} at {at}");
            let output = strike(import(&site), blow, at);
            assert!(digest(&site.path("easy-rsa")) == before, "{what}: the folder that is taken over");
            let (done, there) = (output.status.success(), site.path("home").exists());
            if matches!(blow, Blow::DiskFull) && !done {
                let said = complaint(&output);
                assert!(said.contains("No space left") || said.contains("disk"), "{what}: {said}");
                assert!(!site.path(".home.importing").exists(), "{what}: something is left");
                // Its last act is to make sure that the home stays in its place.
                assert!(!there || said.contains("sync"), "{what}: {said}");
            } else {
                // Killed between its last two acts it is there, and below it is found whole.
                assert!(there || !done, "{what}: {}", complaint(&output));
            }
            // What is left does not depend on where it stopped: once in a while is enough.
            if there || at % (STEP * 8) == offset {
                let again = import(&site).output().unwrap();
                assert_eq!(again.status.success(), !there, "{what}, again: {}", complaint(&again));
                is_whole(&site, &what);
                assert!(!site.path(".home.importing").exists(), "{what}: something is left");
                fs::remove_dir_all(site.path("home")).unwrap();
            }
            if done {
                assert!(at > 10 * STEP, "{blow:?}: only {at} changes");
                break;
            }
        }
    }
}

#[test]
fn two_at_once_do_not_meet_and_a_link_to_the_home_is_followed() {
    let site = site();
    let parent = fs::File::open(site.dir.path()).unwrap();
    parent.lock().unwrap();
    let refused = import(&site).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", complaint(&refused));
    assert!(complaint(&refused).contains("another import"), "{}", complaint(&refused));
    parent.unlock().unwrap();
    fs::create_dir(site.path("disk")).unwrap();
    std::os::unix::fs::symlink(site.path("disk"), site.path("home")).unwrap();
    let output = import(&site).output().unwrap();
    assert!(output.status.success(), "{}", complaint(&output));
    is_whole(&site, "through a link");
    assert!(site.path("home").is_symlink());
}
