//! What the tests share: copies of the fixture trees, and the real counterparts `openssl` and `easyrsa`.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part; tests may unwrap")]

pub(crate) mod bundles;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use quoll_pki::{Authority, CertName, IssueRequest, KeyStorage, Passphrase, Pki, Profile, Serial};
use tempfile::TempDir;
use time::{OffsetDateTime, macros::datetime};

/// A time inside the validity of both fixture trees.
pub(crate) const NOW: OffsetDateTime = datetime!(2026-12-01 12:00 UTC);

pub(crate) fn fixtures() -> PathBuf {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures"));
    assert!(path.is_dir(), "the fixtures are missing: {}", path.display());
    path
}

/// A private copy of a fixture tree, writable.
pub(crate) fn copy_of(tree: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki");
    copy_folder(&fixtures().join(tree), &pki);
    (dir, pki)
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::write(&target, fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

pub(crate) fn test_pass() -> Passphrase {
    Passphrase::new("test")
}

pub(crate) fn name(text: &str) -> CertName {
    text.parse().unwrap()
}

pub(crate) fn serial(text: &str) -> Serial {
    text.parse().unwrap()
}

/// An unlocked copy of a fixture tree.
pub(crate) fn unlocked(tree: &str) -> (TempDir, PathBuf, Authority) {
    let (dir, path) = copy_of(tree);
    let authority = Pki::open(&path).unwrap().unlock(&test_pass()).unwrap();
    (dir, path, authority)
}

/// A small certificate without key file.
pub(crate) fn device(text: &str) -> IssueRequest {
    IssueRequest::new(Profile::Tasmota, name(text), KeyStorage::Discard)
}

/// State letter and common name of each line.
pub(crate) fn listing(pki: &Pki) -> Vec<(char, String)> {
    let state = |entry: &quoll_pki::IndexEntry| if entry.is_revoked() { 'R' } else { 'V' };
    pki.entries().unwrap().iter().map(|entry| (state(entry), entry.common_name().unwrap())).collect()
}

/// Runs `openssl`; whether it succeeded, and all it said.
pub(crate) fn openssl(args: &[&str]) -> (bool, String) {
    said(Command::new("openssl").args(args).output().expect("the program `openssl` is needed for this test"))
}

/// Runs `openssl`, which must succeed.
#[track_caller]
pub(crate) fn openssl_ok(args: &[&str]) -> String {
    let (ok, text) = openssl(args);
    assert!(ok, "openssl {args:?} failed: {text}");
    text
}

pub(crate) fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// `openssl verify` at a time, with the folder's CRL if `crl` says so.
pub(crate) fn openssl_verifies(
    pki: &Path,
    certificate: &Path,
    at: OffsetDateTime,
    crl: bool,
) -> (bool, String) {
    let at = at.unix_timestamp().to_string();
    let (ca, list) = (pki.join("ca.crt"), pki.join("crl.pem"));
    let mut args = vec!["verify", "-x509_strict", "-attime", &at, "-CAfile", text_of(&ca)];
    if crl {
        args.extend(["-crl_check", "-CRLfile", text_of(&list)]);
    }
    args.push(text_of(certificate));
    openssl(&args)
}

/// As [`openssl_verifies`], but forgiving: the CAs of Easy-RSA 3.1 are no strict ones.
pub(crate) fn openssl_accepts(
    pki: &Path,
    certificate: &Path,
    at: OffsetDateTime,
    crl: bool,
) -> (bool, String) {
    let at = at.unix_timestamp().to_string();
    let (ca, list) = (pki.join("ca.crt"), pki.join("crl.pem"));
    let mut args = vec!["verify", "-attime", &at, "-CAfile", text_of(&ca)];
    if crl {
        args.extend(["-crl_check", "-CRLfile", text_of(&list)]);
    }
    args.push(text_of(certificate));
    openssl(&args)
}

/// The tree of 3.2 lacks what 3.1 needs to work on it; 3.2 brings it along itself.
pub(crate) fn make_easyrsa_3_1_work_on(pki: &Path) {
    let file = pki.join("openssl-easyrsa.cnf");
    if !file.exists() {
        fs::copy("/usr/share/easy-rsa/openssl-easyrsa.cnf", file).unwrap();
    }
}

const EASYRSA: &str = "/usr/share/easy-rsa/easyrsa";

/// Runs Debian's Easy-RSA on a folder, without questions; the passphrase of every key is `pass`.
pub(crate) fn easyrsa_with(pki: &Path, pass: &str, env: &[(&str, &str)], args: &[&str]) -> (bool, String) {
    assert!(Path::new(EASYRSA).exists(), "{EASYRSA} is needed for this test (package easy-rsa)");
    let output = Command::new(EASYRSA)
        // Its own folder: Easy-RSA looks for `vars` where it is run.
        .current_dir(pki.parent().unwrap())
        .env("EASYRSA_BATCH", "1")
        .env("EASYRSA_PKI", pki)
        .env("EASYRSA_PASSIN", format!("pass:{pass}"))
        .env("EASYRSA_PASSOUT", format!("pass:{pass}"))
        .envs(env.iter().copied())
        .args(args)
        .output()
        .unwrap();
    said(output)
}

/// Runs Easy-RSA with the passphrase `test`; it must succeed.
#[track_caller]
pub(crate) fn easyrsa(pki: &Path, env: &[(&str, &str)], args: &[&str]) -> String {
    let (ok, text) = easyrsa_with(pki, "test", env, args);
    assert!(ok, "easyrsa {args:?} failed: {text}");
    text
}

fn said(output: Output) -> (bool, String) {
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}
