//! A thousand certificates as a batch: what a kill leaves, at each write, is whole and not signed twice.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod common;

use std::{collections::HashSet, fs, path::Path};

use common::*;
use quoll_pki::{
    Authority, CHUNK, IfTaken, KeyKind, NewCa, Pki, PkiError, Profile, Wanted,
    bundle::{
        BundleError, SigningRequest,
        ask::{self, Wish},
        sign::{Decisions, RequestBundle, Signing},
    },
};
use tempfile::TempDir;

fn new_ca() -> (TempDir, Authority) {
    let dir = tempfile::tempdir().unwrap();
    let new = NewCa { key: KeyKind::EcP256, ..NewCa::new("CA") };
    let authority = Pki::create(dir.path(), &new, &test_pass(), NOW).unwrap().unlock(&test_pass()).unwrap();
    (dir, authority)
}

fn request(count: usize) -> (TempDir, Vec<u8>) {
    let home = tempfile::tempdir().unwrap();
    let wishes: Vec<_> =
        (0..count).map(|at| Wish::new(Profile::Tasmota, name(&format!("plug-{at:04}")))).collect();
    let asked = ask::ask(home.path(), "x", &wishes, &[], NOW, |_| {}).unwrap();
    assert_eq!(asked.keys_made, count);
    (home, asked.bytes)
}

fn wanted(home: &Path, at: usize) -> Wanted {
    let csr = fs::read(home.join(format!("reqs/plug-{at:04}.req"))).unwrap();
    let request = SigningRequest::from_pem(&csr).unwrap();
    Wanted { request, profile: Profile::Tasmota, days: None, if_taken: IfTaken::Refuse }
}

fn prepare(authority: &Authority, request: &[u8]) -> Signing {
    let bundle = RequestBundle::read(request).unwrap();
    Signing::prepare(authority.pki(), bundle, Decisions::default(), NOW).unwrap()
}

/// Each name once, each serial number once, each file as its line says.
fn is_whole(pki: &Pki, most: usize) -> usize {
    let entries = pki.entries().unwrap();
    let names: HashSet<_> = entries.iter().map(|entry| entry.common_name().unwrap()).collect();
    assert_eq!(names.len(), entries.len(), "nothing was signed twice");
    for entry in &entries {
        let named = pki.certificate(&name(&entry.common_name().unwrap())).unwrap().unwrap();
        assert_eq!(named.serial(), entry.serial);
        assert_eq!(pki.certificate_by_serial(&entry.serial).unwrap().unwrap(), named);
    }
    assert!(entries.len() <= most);
    entries.len()
}

#[test]
fn a_batch_is_what_single_issues_would_be() {
    let (dir, authority) = new_ca();
    let count = 2 * CHUNK + 5;
    let (home, _) = request(count);
    let all: Vec<_> = (0..count).map(|at| wanted(home.path(), at)).collect();
    let mut heard = Vec::new();
    let issued = authority.issue_batch(&all, NOW, |done| heard.push(done)).unwrap();
    assert_eq!(heard, [CHUNK, 2 * CHUNK, count]);
    assert_eq!(issued.len(), count);
    assert_eq!(is_whole(authority.pki(), count), count);
    let one = authority.issue(&device("single"), NOW).unwrap().certificate;
    let of_batch = &issued[count - 1].certificate;
    assert_eq!((of_batch.not_before(), of_batch.not_after()), (one.not_before(), one.not_after()));
    assert!(of_batch.der().len().abs_diff(one.der().len()) <= 8);
    let file = dir.path().join(format!("issued/plug-{:04}.crt", count - 1));
    let (ok, said) = openssl_verifies(dir.path(), &file, NOW, false);
    assert!(ok, "{said}");
    // No temporary and no note stays.
    assert!(!dir.path().join(".quoll-issuing").exists());
    for folder in ["issued", "reqs", "certs_by_serial"] {
        let traces = fs::read_dir(dir.path().join(folder)).unwrap();
        assert!(traces.into_iter().all(|file| !file.unwrap().file_name().to_string_lossy().starts_with('.')));
    }
}

#[test]
fn a_bad_want_stops_its_chunk_before_it_is_written() {
    let (dir, authority) = new_ca();
    let (home, _) = request(3);
    authority.issue(&device("plug-0002"), NOW).unwrap();
    let all: Vec<_> = (0..3).map(|at| wanted(home.path(), at)).collect();
    let error = authority.issue_batch(&all, NOW, |_| {}).unwrap_err();
    assert!(matches!(error, PkiError::NameTaken { .. }), "{error}");
    assert_eq!(authority.pki().entries().unwrap().len(), 1);
    assert!(!dir.path().join("issued/plug-0000.crt").exists());
    let error = authority.issue_batch(&[wanted(home.path(), 0), wanted(home.path(), 0)], NOW, |_| {});
    assert!(error.unwrap_err().to_string().contains("wanted twice"));
}

/// The process is killed while the second chunk is under way, in each of the states that its files can be in.
#[test]
fn what_a_kill_left_is_taken_up_and_nothing_is_signed_twice() {
    let count = CHUNK + 4;
    for left in ["note", "requests", "named", "both", "half"] {
        let (dir, authority) = new_ca();
        let (_home, bytes) = request(count);
        let signing = prepare(&authority, &bytes);
        let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            signing.sign(&authority, NOW, |done| assert!(done < count, "the plug is pulled")).map(|_| ())
        }));
        assert!(stopped.is_err());
        // All chunks are in the folder; the last is taken back to the state it had in the middle.
        let index = dir.path().join("index.txt");
        let lines = fs::read_to_string(&index).unwrap();
        let lines: Vec<_> = lines.lines().collect();
        let (done, open) = lines.split_at(CHUNK);
        fs::write(&index, done.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        let mut note = String::new();
        for (place, line) in open.iter().enumerate() {
            let fields: Vec<_> = line.split('\t').collect();
            let (serial, who) = (fields[3], fields[5].trim_start_matches("/CN="));
            note.push_str(&format!("keep {serial} {who}\n"));
            let remove = |path: String| fs::remove_file(dir.path().join(path)).unwrap();
            let half = left == "half" && place % 2 == 0;
            if matches!(left, "note" | "requests") || half {
                remove(format!("issued/{who}.crt"));
            }
            if matches!(left, "note" | "requests" | "named") || half {
                remove(format!("certs_by_serial/{serial}.pem"));
            }
            if left == "note" || half {
                remove(format!("reqs/{who}.req"));
            }
        }
        fs::write(dir.path().join(".quoll-issuing"), note).unwrap();

        let signing = prepare(&authority, &bytes);
        let signed = signing.sign(&authority, NOW, |_| {}).unwrap();
        let expected = match left {
            "note" | "requests" => 4,
            "half" => 2,
            _ => 0,
        };
        assert_eq!((signed.signed, signed.kept), (expected, count - expected), "{left}");
        signed.finish(authority.pki(), NOW).unwrap();
        assert_eq!(is_whole(authority.pki(), count), count, "{left}");
        let again = RequestBundle::read(&bytes).unwrap();
        let error =
            Signing::prepare(authority.pki(), again, Decisions::default(), NOW).map(|_| ()).unwrap_err();
        assert!(matches!(error, BundleError::AlreadySigned { .. }), "{left}: {error}");
    }
}

#[test]
fn two_batches_at_once_serialise() {
    let (_dir, authority) = new_ca();
    let (first, _) = request(CHUNK + 3);
    let other = tempfile::tempdir().unwrap();
    let wishes: Vec<_> =
        (0..CHUNK + 3).map(|at| Wish::new(Profile::Tasmota, name(&format!("lamp-{at}")))).collect();
    ask::ask(other.path(), "x", &wishes, &[], NOW, |_| {}).unwrap();
    let plugs: Vec<_> = (0..CHUNK + 3).map(|at| wanted(first.path(), at)).collect();
    let lamps: Vec<_> = (0..CHUNK + 3)
        .map(|at| {
            let csr = fs::read(other.path().join(format!("reqs/lamp-{at}.req"))).unwrap();
            let request = SigningRequest::from_pem(&csr).unwrap();
            Wanted { request, profile: Profile::Tasmota, days: None, if_taken: IfTaken::Refuse }
        })
        .collect();
    std::thread::scope(|scope| {
        for batch in [&plugs, &lamps] {
            let authority = &authority;
            scope.spawn(move || authority.issue_batch(batch, NOW, |_| {}).unwrap());
        }
    });
    assert_eq!(is_whole(authority.pki(), 2 * (CHUNK + 3)), 2 * (CHUNK + 3));
}
