//! Requests and answers between two folders, as the tests make, carry and damage them.

use std::{fs, path::Path, process::Command};

use super::*;
use quoll_pki::{
    AltNames, Authority, KeyKind, NewCa, Pki, Profile,
    bundle::{
        BundleError,
        accept::{Acceptance, AnswerBundle, Outcome},
        ask::{self, Asked, Wish},
        sign::{Decisions, RequestBundle, Signed, Signing},
    },
};
use tempfile::TempDir;
use time::OffsetDateTime;

pub(crate) fn new_ca(name: &str) -> (TempDir, Authority) {
    let dir = tempfile::tempdir().unwrap();
    let new = NewCa { key: KeyKind::EcP256, ..NewCa::new(name) };
    let pki = Pki::create(dir.path(), &new, &test_pass(), NOW).unwrap();
    let authority = pki.unlock(&test_pass()).unwrap();
    authority.publish_crl(NOW).unwrap();
    (dir, authority)
}

pub(crate) fn server() -> Wish {
    let mut wish = Wish::new(Profile::Server, name("broker.lan"));
    wish.key = KeyKind::EcP256;
    wish.alt_names = AltNames { dns: vec!["mqtt.lan".into()], ip: vec!["10.0.0.1".parse().unwrap()] };
    wish.renew = true;
    wish
}

pub(crate) fn devices(count: usize) -> Vec<Wish> {
    (0..count).map(|at| Wish::new(Profile::Tasmota, name(&format!("plug-{at:04}")))).collect()
}

pub(crate) fn asked(dir: &Path, wishes: &[Wish]) -> Asked {
    ask::ask(dir, "broker.lan", wishes, &[], NOW, |_| {}).unwrap()
}

pub(crate) fn prepared(pki: &Pki, request: &[u8], now: OffsetDateTime) -> Result<Signing, BundleError> {
    Signing::prepare(pki, RequestBundle::read(request)?, Decisions::default(), now)
}

pub(crate) fn signed(authority: &Authority, request: &[u8], now: OffsetDateTime) -> Signed {
    let signed = prepared(authority.pki(), request, now).unwrap().sign(authority, now, |_| {}).unwrap();
    signed.finish(authority.pki(), now).unwrap();
    signed
}

pub(crate) fn accepted(dir: &Path, answer: &[u8], now: OffsetDateTime) -> Outcome {
    let acceptance = Acceptance::prepare(dir, AnswerBundle::read(answer).unwrap(), now).unwrap();
    let outcome = acceptance.carry_out(now).unwrap();
    acceptance.finish(now).unwrap();
    outcome
}

/// The tar written anew, each member as `change` wants it.
pub(crate) fn rewritten(bytes: &[u8], mut change: impl FnMut(&str, Vec<u8>) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(bytes).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        if let Some(content) = change(&path, content) {
            append(&mut builder, &path, &content);
        }
    }
    builder.into_inner().unwrap()
}

pub(crate) fn append(builder: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append(&header, content).unwrap();
}

/// The members of a tar, unpacked by tar itself.
pub(crate) fn untar(bytes: &[u8]) -> (TempDir, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bundle.tar");
    fs::write(&file, bytes).unwrap();
    let tar = |args: &[&str]| {
        let output =
            Command::new("tar").args(args).output().expect("the program `tar` is needed for this test");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let list = tar(&["-tf", text_of(&file)]);
    tar(&["-xf", text_of(&file), "-C", text_of(dir.path())]);
    (dir, list.lines().map(str::to_owned).collect())
}
