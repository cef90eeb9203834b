//! Commands that make certificates, struck by a power cut or a full disk before any of their changes: the same command
//! makes it whole. quoll-pki's own tests do the same to the acts on the folder; here are the books of the home, too.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::process::Command;

use support::power_cut::{Blow, strike};
use support::{Home, complaint, tool};

/// More changes than any of them makes.
const CHANGES_MAX: usize = 600;
/// Not every change: each run encrypts a key well.
const STEP: usize = 27;

/// Strikes a command in a copy of the home at one change after the other, until it is done before the blow comes.
fn struck_everywhere(made: &Home, words: &[&str], blow: Blow, good: impl Fn(&Home, &str)) {
    for at in (0..CHANGES_MAX).step_by(STEP) {
        let home = Home { dir: tempfile::tempdir().unwrap(), port: made.port };
        let from = made.path(".").display().to_string();
        assert!(tool("cp", &["-a", &from, &home.path(".").display().to_string()]).status.success());
        let what = format!("{words:?}, {blow:?} at {at}");
        let first = strike(home.command(words), blow, at);
        let said = complaint(&first);
        assert!(!said.contains("panicked"), "{what}: {said}");
        if first.status.success() {
            assert!(at > 2 * STEP, "{what}: it was done");
            return good(&home, &what);
        }
        if matches!(blow, Blow::DiskFull) {
            let told = said.contains("No space left") || said.contains("disk");
            assert!(told && said.contains("hint"), "{what}: {said}");
        }
        let again = home.run(words);
        // Where only the last word was not written, it says that there is nothing to do any more.
        let done = complaint(&again).contains("already");
        assert!(again.status.success() || done, "{what}: {said}\nagain: {}", complaint(&again));
        good(&home, &what);
    }
    panic!("{words:?} does not end");
}

/// Key and certificate are a pair, the CA signed it, and the folder has nothing to complain of.
fn is_pair(home: &Home, crt: &str, key: &str, what: &str) {
    let (ca, crt, key) = (home.path("pki/ca.crt"), home.path(crt), home.path(key));
    let openssl = |words: &[&str]| {
        let output = Command::new("openssl").args(words).output().unwrap();
        assert!(output.status.success(), "{what}: openssl {words:?}: {}", complaint(&output));
        output.stdout
    };
    let (ca, crt, key) = (ca.display().to_string(), crt.display().to_string(), key.display().to_string());
    openssl(&["verify", "-x509_strict", "-CAfile", &ca, &crt]);
    let of_certificate = openssl(&["x509", "-in", &crt, "-noout", "-pubkey"]);
    assert!(of_certificate == openssl(&["pkey", "-in", &key, "-pubout"]), "{what}: no pair");
    // What an interrupted try made is revoked.
    home.ok(&["ca", "crl"]);
    let checked = home.run(&["ca", "check", "--strict"]);
    assert!(checked.status.success(), "{what}: {}", complaint(&checked));
}

#[test]
fn a_client_is_added_and_a_server_made_whatever_struck_the_first_try() {
    let home = Home::new();
    home.ok(&["ca", "init", "--no-server"]);
    // Few rounds, so that opening the CA some dozen times costs nothing.
    let (key, easy) = (home.path("pki/private/ca.key"), home.path("easy.key"));
    let pass = std::fs::read_to_string(home.path("ca-passphrase")).unwrap();
    let (key, easy, pass) =
        (key.display().to_string(), easy.display().to_string(), format!("pass:{}", pass.trim()));
    let words = ["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-iter", "100000", "-in", &key, "-out", &easy];
    let eased = tool("openssl", &[&words[..], &["-passin", &pass, "-passout", &pass]].concat());
    assert!(eased.status.success(), "{}", complaint(&eased));
    std::fs::rename(easy, key).unwrap();
    let init = ["ca", "init", "--host", "mqtt.home.example"];
    let name = "mqtt.home.example";
    struck_everywhere(&home, &init, Blow::PowerCut, |home, what| {
        is_pair(home, &format!("pki/issued/{name}.crt"), &format!("pki/private/{name}.key"), what);
    });
    home.ok(&init);
    struck_everywhere(&home, &["client", "add", "bob"], Blow::DiskFull, |home, what| {
        is_pair(home, "clients/bob/bob.crt", "clients/bob/bob.key", what);
    });
}

#[test]
fn an_act_goes_on_where_nobody_reads_what_it_says() {
    let home = Home::new();
    // It says where the passphrase lies; /dev/full takes nothing.
    let mut init = home.command(&["ca", "init", "--no-server"]);
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(init.stderr(full()).status().unwrap().code(), Some(0));
    let mut refused = home.command(&["ca", "revoke", "nobody", "--yes"]);
    assert_eq!(refused.stderr(full()).status().unwrap().code(), Some(9));
}
