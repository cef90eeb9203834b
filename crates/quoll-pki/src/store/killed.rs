//! Every act, killed before each of its changes of the disk: the folder must then be good for Quoll and for Easy-RSA, and
//! the same act must succeed afterwards.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use time::{Duration, OffsetDateTime};

use super::{Pki, files::death};
use crate::{
    Authority, CertName, IfTaken, IssueRequest, KeyKind, KeySource, KeyStorage, NewCa, Passphrase, PkiError,
    Profile, Renewal, RevocationReason,
};

/// An act on a folder; it may open the folder anew, as another process would.
type Act = fn(&Path, OffsetDateTime) -> Result<(), PkiError>;

/// More changes than any act makes; one that never ends is a fault.
const CHANGES_MAX: usize = 200;

fn name(text: &str) -> CertName {
    text.parse().unwrap()
}

fn pass() -> Passphrase {
    Passphrase::new("test")
}

fn authority(path: &Path) -> Result<Authority, PkiError> {
    Pki::open(path)?.unlock(&pass())
}

fn request(profile: Profile, text: &str) -> IssueRequest {
    let mut request = IssueRequest::new(profile, name(text), KeyStorage::Plain);
    request.key = KeySource::Generate(KeyKind::EcP256);
    request
}

fn revoke(path: &Path, text: &str, reason: RevocationReason, now: OffsetDateTime) -> Result<(), PkiError> {
    let pki = Pki::open(path)?;
    let entries = pki.entries()?;
    let entry = entries.iter().rev().find(|entry| entry.common_name().as_deref() == Some(text)).unwrap();
    pki.revoke(&entry.serial, reason, now).map(drop)
}

const ACTS: [(&str, Act); 11] = [
    ("issue", |path, now| {
        let authority = authority(path)?;
        match authority.issue(&request(Profile::Tasmota, "fresh"), now) {
            // All was written before the kill; only the last word was not heard.
            Err(PkiError::NameTaken { name, .. }) => {
                let certificate = authority.pki().certificate(&name)?.unwrap();
                let key = authority.pki().private_key(&name, &pass())?;
                assert_eq!(key.public_key_der(), certificate.public_key_der());
                Ok(())
            }
            other => other.map(drop),
        }
    }),
    ("issue over a valid one", |path, now| {
        let request = IssueRequest { if_taken: IfTaken::Supersede, ..request(Profile::Tasmota, "lamp") };
        authority(path)?.issue(&request, now).map(drop)
    }),
    ("renew", |path, now| authority(path)?.renew(&name("lamp"), &Renewal::default(), now).map(drop)),
    ("renew a server", |path, now| authority(path)?.renew_server(&name("hub"), None, now).map(drop)),
    ("rekey a server", |path, now| {
        authority(path)?.rekey_server(&name("hub"), None, KeyKind::EcP256, None, now).map(drop)
    }),
    ("extend the CA", |path, now| match authority(path)?.extend_ca(None, now) {
        // Done before the kill, though the kill was in it.
        Err(PkiError::BadRequest { problem, .. }) if problem.contains("already") => Ok(()),
        other => other.map(drop),
    }),
    ("reencrypt the CA's key", |path, _| Pki::open(path)?.reencrypt_ca_key(&pass(), &pass()).map(drop)),
    ("revoke", |path, now| revoke(path, "lamp", RevocationReason::KeyCompromise, now)),
    ("hold", |path, now| revoke(path, "lamp", RevocationReason::CertificateHold, now)),
    ("release", |path, now| {
        let pki = Pki::open(path)?;
        let held = pki.entries()?.into_iter().find(|entry| entry.common_name().as_deref() == Some("held"));
        pki.release(&held.unwrap().serial, now).map(drop)
    }),
    ("publish the CRL", |path, now| authority(path)?.publish_crl(now)),
];

/// Made once: a CA with a server, a device, one on hold and one revoked.
fn folder(dir: &Path, now: OffsetDateTime) -> PathBuf {
    let path = dir.join("pki");
    let new = NewCa { key: KeyKind::EcP256, days: 3000, ..NewCa::new("CA") };
    Pki::create(&path, &new, &pass(), now).unwrap();
    // Few rounds, so that opening the CA some hundred times costs nothing.
    let key = path.join("private/ca.key");
    let easy = dir.join("easy.key");
    let arguments = ["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-iter", "1000", "-passin", "pass:test"];
    let files = ["-passout", "pass:test", "-in", key.to_str().unwrap(), "-out", easy.to_str().unwrap()];
    assert!(Command::new("openssl").args(arguments).args(files).status().unwrap().success());
    fs::rename(easy, key).unwrap();
    let authority = authority(&path).unwrap();
    for (profile, name) in [
        (Profile::Server, "hub"),
        (Profile::Tasmota, "lamp"),
        (Profile::Tasmota, "held"),
        (Profile::Tasmota, "lost"),
    ] {
        authority.issue(&request(profile, name), now).unwrap();
    }
    revoke(&path, "held", RevocationReason::CertificateHold, now).unwrap();
    revoke(&path, "lost", RevocationReason::KeyCompromise, now).unwrap();
    authority.publish_crl(now).unwrap();
    path
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Both programs can go on, and nothing that was good before is lost.
#[track_caller]
fn is_good(path: &Path, what: &str, now: OffsetDateTime) {
    let pki = Pki::open(path).unwrap_or_else(|error| panic!("{what}: {error}"));
    pki.unlock(&pass()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let check = pki.check(now).unwrap();
    for row in &check.certificates {
        assert!(row.file.is_some(), "{what}: no file of {row:?}");
        assert!(row.chain == crate::Chain::Signed, "{what}: {row:?}");
    }
    let unreadable = check.problems.iter().find(|problem| problem.what.contains("cannot be read"));
    assert_eq!(unreadable, None, "{what}");
    // What it says there is can be used.
    if let Some(fresh) = pki.certificate(&name("fresh")).unwrap() {
        let key = pki.private_key(&name("fresh"), &pass()).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(key.public_key_der(), fresh.public_key_der(), "{what}");
    }
    for row in &check.certificates {
        let told = row.problems.iter().find(|problem| problem.what.contains("does not know it"));
        assert_eq!(told, None, "{what}: advice that is for what a person put there");
    }
    // The server still starts: its certificate and its key are there, and a pair.
    let hub = pki.certificate(&name("hub")).unwrap().unwrap_or_else(|| panic!("{what}: no server"));
    let there = pki.private_key(&name("hub"), &pass());
    let key = there.map(|key| key.public_key_der()).unwrap_or_default();
    assert!(key == hub.public_key_der(), "{what}: the server's key is not its own");
}

#[track_caller]
fn easyrsa_goes_on(path: &Path, what: &str) {
    let output = Command::new("/usr/share/easy-rsa/easyrsa")
        .current_dir(path.parent().unwrap())
        .env("EASYRSA_BATCH", "1")
        .env("EASYRSA_PKI", path)
        .env("EASYRSA_PASSIN", "pass:test")
        .arg("gen-crl")
        .output()
        .expect("easy-rsa is needed for this test");
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_act_killed_at_any_change_leaves_a_good_folder_and_can_be_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let now = OffsetDateTime::now_utc();
    let good = folder(dir.path(), now);
    let later = now + Duration::seconds(1);
    for (act_name, act) in ACTS {
        let mut killed_at = 0;
        loop {
            let what = format!("{act_name}, killed at change {killed_at}");
            let path = dir.path().join("killed/pki");
            copy(&good, &path);
            death::comes_after(killed_at);
            let outcome = act(&path, later);
            death::is_over();
            is_good(&path, &what, later);
            // Easy-RSA takes its time; every sixth is enough to go round all the acts' stages.
            if killed_at % 6 == 0 {
                easyrsa_goes_on(&path, &what);
            }
            let survived = outcome.is_ok();
            if !survived {
                act(&path, later).unwrap_or_else(|error| panic!("{what}, again: {error}"));
                is_good(&path, &what, later);
                let left: Vec<_> = left_over(&path);
                assert!(left.is_empty(), "{what}: {left:?} is left");
            }
            fs::remove_dir_all(path.parent().unwrap()).unwrap();
            if survived {
                break;
            }
            killed_at += 1;
            assert!(killed_at < CHANGES_MAX, "{act_name} does not end");
        }
        assert!(killed_at > 3, "{act_name} changed the disk {killed_at} times only");
    }
}

/// Notes and half-written files. Temporary ones of another file's interrupted write may stay: the next write of that
/// file takes them away.
fn left_over(path: &Path) -> Vec<PathBuf> {
    [".quoll-issuing", "private/ca.key.quoll-proof", "private/hub.key.quoll-waiting"]
        .iter()
        .map(|file| path.join(file))
        .filter(|file| file.exists())
        .collect()
}

#[test]
fn a_creation_killed_at_any_change_can_be_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let now = OffsetDateTime::now_utc();
    let new = NewCa { key: KeyKind::EcP256, ..NewCa::new("CA") };
    let path = dir.path().join("pki");
    // Every third change: encrypting a key well takes its time.
    for killed_at in (0..CHANGES_MAX).step_by(3) {
        death::comes_after(killed_at);
        let outcome = Pki::create(&path, &new, &pass(), now);
        death::is_over();
        let survived = outcome.is_ok();
        let pki = Pki::create(&path, &new, &pass(), now);
        assert_eq!(pki.is_ok(), !survived, "at {killed_at}: it is made, or it can be made");
        Pki::open(&path).unwrap().unlock(&pass()).unwrap();
        if survived {
            easyrsa_goes_on(&path, "create");
            return;
        }
        fs::remove_dir_all(&path).unwrap();
    }
    panic!("creation does not end");
}
