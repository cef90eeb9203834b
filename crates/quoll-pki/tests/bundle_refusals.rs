//! Requests and answers that are damaged, forged, of another machine or another time: every refusal, and that it changes
//! nothing.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod common;

use std::{collections::BTreeMap, fs, path::Path, path::PathBuf};

use common::{bundles::*, *};
use quoll_pki::{
    KeyKind, Pki, PkiError, PrivateKey, Profile,
    bundle::{
        BUNDLE_MAX, BundleError,
        accept::{Acceptance, AnswerBundle, CaChange},
        ask::{self, Wish},
        sign::{Decisions, RequestBundle, Signing},
    },
};
use time::{Duration, OffsetDateTime};

/// Every file with its content, but the lock.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut out = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(folder) = open.pop() {
        let Ok(listing) = fs::read_dir(&folder) else { continue };
        for entry in listing {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if !path.ends_with(".quoll.lock") {
                out.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    out
}

/// With another member at the end.
fn with(bytes: &[u8], header: impl FnOnce(&mut tar::Header), content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(bytes[..bytes.len() - 1024].to_vec());
    // The builder appends; what it was given is the beginning.
    let mut new = tar::Header::new_ustar();
    new.set_size(content.len() as u64);
    new.set_mode(0o644);
    header(&mut new);
    new.set_cksum();
    builder.append(&new, content).unwrap();
    builder.into_inner().unwrap()
}

/// The manifest changed by `change`, the members as they were.
fn forged(bytes: &[u8], change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    rewritten(bytes, |path, content| {
        if path != "manifest.json" {
            return Some(content);
        }
        let mut manifest = serde_json::from_slice(&content).unwrap();
        change(&mut manifest);
        Some(serde_json::to_vec(&manifest).unwrap())
    })
}

fn certificates(answer: &[u8]) -> Vec<Vec<u8>> {
    let (dir, list) = untar(answer);
    let files = list.iter().filter(|path| path.starts_with("certificates/"));
    files.map(|path| fs::read(dir.path().join(path)).unwrap()).collect()
}

#[test]
fn half_a_copy_is_refused_wherever_it_ends() {
    let (_dir, authority) = new_ca("CA");
    let home = tempfile::tempdir().unwrap();
    let asked = asked(home.path(), &[server()]);
    let answer = signed(&authority, &asked.bytes, NOW);
    // The last 1024 bytes are zeros that only mark the end.
    for cut in (0..asked.bytes.len() - 1024).step_by(127) {
        let error = RequestBundle::read(&asked.bytes[..cut]).unwrap_err();
        let fits = matches!(
            error,
            BundleError::CutOff { .. } | BundleError::NotABundle { .. } | BundleError::Damaged { .. }
        );
        assert!(fits, "{cut}: {error}");
    }
    for cut in (0..answer.bytes.len() - 1024 - 511).step_by(127) {
        AnswerBundle::read(&answer.bytes[..cut]).unwrap_err();
    }
    let half = AnswerBundle::read(&answer.bytes[..answer.bytes.len() / 2]).unwrap_err();
    assert!(matches!(half, BundleError::CutOff { .. }), "{half}");
    assert!(half.hint().unwrap().contains("copy it again"));
}

#[test]
fn a_changed_byte_is_refused_or_changes_nothing() {
    let (_dir, authority) = new_ca("CA");
    let home = tempfile::tempdir().unwrap();
    let asked = asked(home.path(), &[server()]);
    let answer = signed(&authority, &asked.bytes, NOW);
    for at in (0..asked.bytes.len()).step_by(3) {
        let mut changed = asked.bytes.clone();
        changed[at] ^= 0x10;
        // A request is not signed as a whole: a manifest changed so that it can still be read has another phrase.
        if let Ok(read) = RequestBundle::read(&changed)
            && read.phrase() == asked.phrase
        {
            assert_eq!(
                format!("{read:?}"),
                format!("{:?}", RequestBundle::read(&asked.bytes).unwrap()),
                "{at}"
            );
        }
    }
    let whole = AnswerBundle::read(&answer.bytes).unwrap();
    for at in (0..answer.bytes.len()).step_by(3) {
        let mut changed = answer.bytes.clone();
        changed[at] ^= 0x10;
        if let Ok(read) = AnswerBundle::read(&changed) {
            // Padding, or a header's owner: nothing that counts.
            assert_eq!(format!("{read:?}"), format!("{whole:?}"), "{at}");
        }
    }
}

#[test]
fn what_does_not_belong_in_it_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let asked = asked(home.path(), &[server()]);
    let bytes = &asked.bytes;
    let path = |header: &mut tar::Header, path: &str| {
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("traversal", with(bytes, |h| path(h, "../evil.csr"), b"x"), "leads elsewhere"),
        ("inside", with(bytes, |h| path(h, "requests/../../evil.csr"), b"x"), "leads elsewhere"),
        ("absolute", with(bytes, |h| path(h, "/etc/cron.d/x"), b"x"), "leads elsewhere"),
        ("backslash", with(bytes, |h| path(h, "requests\\x.csr"), b"x"), "not text"),
        ("foreign", with(bytes, |h| path(h, "autorun.inf"), b"x"), "no bundle has such a file"),
        ("a key", with(bytes, |h| path(h, "requests/ca.key"), b"x"), "no bundle has such a file"),
        ("unlisted", with(bytes, |h| path(h, "requests/x.csr"), b"x"), "does not list it"),
        ("twice", with(bytes, |h| path(h, "requests/broker.lan.csr"), b"x"), "there twice"),
        ("two manifests", with(bytes, |h| path(h, "manifest.json"), b"{}"), "there twice"),
        (
            "link",
            with(
                bytes,
                |h| {
                    path(h, "requests/x.csr");
                    h.set_entry_type(tar::EntryType::Symlink)
                },
                b"",
            ),
            "not a plain file",
        ),
        (
            "long name",
            with(
                bytes,
                |h| {
                    path(h, "././@LongLink");
                    h.set_entry_type(tar::EntryType::GNULongName)
                },
                b"x",
            ),
            "leads elsewhere",
        ),
        (
            "folder",
            with(
                bytes,
                |h| {
                    path(h, "requests");
                    h.set_entry_type(tar::EntryType::Directory)
                },
                b"",
            ),
            "not a plain file",
        ),
        (
            "huge member",
            with(bytes, |h| path(h, "requests/x.csr"), &vec![0; 70_000]),
            "larger than 65536 bytes",
        ),
        ("signed", with(bytes, |h| path(h, "manifest.sig"), b"x"), "its own keys only"),
        ("no manifest first", rewritten(bytes, |p, c| (p != "manifest.json").then_some(c)), "first member"),
        (
            "no request",
            rewritten(bytes, |p, c| (p == "manifest.json").then_some(c)),
            "requests/broker.lan.csr is missing",
        ),
        (
            "damaged",
            rewritten(bytes, |p, c| Some(if p == "manifest.json" { c } else { b"x".to_vec() })),
            "not what the manifest says",
        ),
        ("newer", forged(bytes, |m| m["format"] = 2.into()), "knows up to 1"),
        ("unknown field", forged(bytes, |m| m["extra"] = 2.into()), "extra"),
        ("kind", forged(bytes, |m| m["kind"] = "answer".into()), "disagree"),
        ("id", forged(bytes, |m| m["id"] = "../../x".into()), "32 hex digits"),
        (
            "name",
            forged(bytes, |m| m["content"]["request"]["wants"][0]["name"] = "other".into()),
            "another name",
        ),
        ("text", b"hello, this is no tar at all".repeat(40), "tar"),
        ("zeros", vec![0; 4096], "nothing in it"),
        ("empty", Vec::new(), "empty"),
        ("too large", vec![0; usize::try_from(BUNDLE_MAX).unwrap() + 1], "larger than"),
    ];
    for (what, bytes, told) in cases {
        let error = RequestBundle::read(&bytes).unwrap_err();
        assert!(error.to_string().contains(told), "{what}: {error}");
        assert!(error.hint().is_some() || matches!(error, BundleError::BadWant { .. }), "{what}: {error}");
    }
    let error = AnswerBundle::read(bytes).unwrap_err();
    assert!(matches!(error, BundleError::WrongKind { .. }), "{error}");
    assert!(error.hint().unwrap().contains("ca sign"));
    // A header that claims gigabytes is not believed.
    let mut claims = with(bytes, |h| path(h, "crl.pem"), b"x");
    let at = claims.len() - 1024 - 1024;
    let header = tar::Header::from_byte_slice(&claims[at..at + 512]).clone();
    let mut header = header;
    header.set_size(8 << 30);
    header.set_cksum();
    claims[at..at + 512].copy_from_slice(header.as_bytes());
    assert!(matches!(RequestBundle::read(&claims), Err(BundleError::TooLarge { .. })));
}

#[test]
fn a_request_that_is_not_its_keys_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let asked = asked(home.path(), &[server(), devices(1).remove(0)]);
    // The device's signing request under the server's name, the manifest put right: another phrase, and refused all the same.
    let device = fs::read(home.path().join("reqs/plug-0000.req")).unwrap();
    let swapped = rewritten(&asked.bytes, |path, content| match path {
        "manifest.json" => {
            let mut manifest: serde_json::Value = serde_json::from_slice(&content).unwrap();
            manifest["files"][0]["sha256"] = manifest["files"][1]["sha256"].clone();
            manifest["files"][0]["bytes"] = manifest["files"][1]["bytes"].clone();
            Some(serde_json::to_vec(&manifest).unwrap())
        }
        "requests/broker.lan.csr" => Some(device.clone()),
        _ => Some(content),
    });
    let error = RequestBundle::read(&swapped).unwrap_err().to_string();
    assert!(error.contains("its signing request is for plug-0000"), "{error}");
}

#[test]
fn the_ca_refuses_before_it_changes_anything() {
    let (dir, authority) = new_ca("CA");
    let (_other_dir, other) = new_ca("Other CA");
    let pki = authority.pki();
    authority.issue(&device("taken"), NOW).unwrap();

    let home = tempfile::tempdir().unwrap();
    let first = asked(home.path(), &[server()]);
    let before = tree(dir.path());
    let refused = |request: &[u8], now: OffsetDateTime| {
        let error = prepared(pki, request, now).map(|_| ()).unwrap_err();
        assert_eq!(tree(dir.path()), before, "{error}");
        error
    };
    let error = refused(&first.bytes, pki.ca().not_before() - Duration::days(1));
    assert!(matches!(error, BundleError::Pki(PkiError::ClockBeforeCa { .. })), "{error}");
    let error = refused(&first.bytes, pki.ca().not_after() + Duration::days(1));
    assert!(matches!(error, BundleError::Pki(PkiError::CaExpired { .. })), "{error}");
    // The CRL of a moment ago is the last act.
    let error = refused(&first.bytes, NOW - Duration::seconds(1));
    assert!(matches!(error, BundleError::ClockBehind { .. }), "{error}");
    let decisions = Decisions { clock_is_right: true, ..Decisions::default() };
    let request = RequestBundle::read(&first.bytes).unwrap();
    Signing::prepare(pki, request.clone(), decisions, NOW - Duration::seconds(1)).unwrap();
    let again = Decisions { again: true, ..Decisions::default() };
    let error = Signing::prepare(pki, request, again, NOW).map(|_| ()).unwrap_err();
    assert!(matches!(error, BundleError::NeverSigned), "{error}");

    let elsewhere = tempfile::tempdir().unwrap();
    let taken = asked(elsewhere.path(), &[Wish::new(Profile::Tasmota, name("taken"))]);
    let error = refused(&taken.bytes, NOW);
    assert!(matches!(error, BundleError::Pki(PkiError::NameTaken { .. })), "{error}");
    let profile = forged(&first.bytes, |m| m["content"]["request"]["wants"][0]["profile"] = "tasmota".into());
    assert!(refused(&profile, NOW).to_string().contains("no alternative names"));
    let profile = forged(&first.bytes, |m| m["content"]["request"]["wants"][0]["profile"] = "root".into());
    assert!(refused(&profile, NOW).to_string().contains("no profile \"root\""));
    let days = forged(&first.bytes, |m| m["content"]["request"]["wants"][0]["days"] = 0.into());
    assert!(refused(&days, NOW).to_string().contains("1 to 36525 days"));
    let revoke = serde_json::json!([{ "serial": "01", "reason": "superseded" }]);
    let revoke = forged(&first.bytes, |m| m["content"]["request"]["revoke"] = revoke.clone());
    let error = refused(&revoke, NOW);
    assert!(matches!(error, BundleError::Pki(PkiError::UnknownSerial { .. })), "{error}");

    // Signed by this CA once; then it is a replay, and another one with the same id a forgery.
    let answer = signed(&authority, &first.bytes, NOW);
    let before = tree(dir.path());
    for (request, now) in [(&first.bytes, NOW), (&first.bytes, NOW + Duration::days(9))] {
        let error = prepared(pki, request, now).map(|_| ()).unwrap_err();
        assert!(matches!(error, BundleError::AlreadySigned { .. }), "{error}");
        assert!(error.hint().unwrap().contains("--again"));
    }
    let error =
        prepared(pki, &forged(&first.bytes, |m| m["name"] = "x".into()), NOW).map(|_| ()).unwrap_err();
    assert!(matches!(error, BundleError::OtherRequest { .. }), "{error}");
    assert_eq!(tree(dir.path()), before);
    let repeated = Signing::prepare(pki, RequestBundle::read(&first.bytes).unwrap(), again, NOW).unwrap();
    let repeated = repeated.sign(&authority, NOW, |_| {}).unwrap();
    assert_eq!((repeated.signed, repeated.kept), (0, 1));
    assert_eq!(certificates(&repeated.bytes), certificates(&answer.bytes));

    // The server knows its CA by now, and asks no other.
    accepted(home.path(), &answer.bytes, NOW);
    let renewal = asked(home.path(), &[server()]);
    let error = prepared(other.pki(), &renewal.bytes, NOW).map(|_| ()).unwrap_err();
    assert!(matches!(error, BundleError::WrongCa { .. }), "{error}");
}

#[test]
fn the_server_refuses_before_it_changes_anything() {
    let (_dir, authority) = new_ca("CA");
    let (_other_dir, other) = new_ca("CA");
    let home = tempfile::tempdir().unwrap();
    let pki = home.path().join("pki");
    let first = asked(&pki, &[server()]);
    let answer = signed(&authority, &first.bytes, NOW);
    let before = tree(&pki);
    let refused = |answer: &[u8], now: OffsetDateTime| {
        let error =
            AnswerBundle::read(answer).and_then(|answer| Acceptance::prepare(&pki, answer, now).map(|_| ()));
        let error = error.unwrap_err();
        assert_eq!(tree(&pki), before, "{error}");
        error
    };
    let unsigned = rewritten(&answer.bytes, |path, content| (path != "manifest.sig").then_some(content));
    assert!(matches!(refused(&unsigned, NOW), BundleError::BadSignature { .. }));
    let changed = forged(&answer.bytes, |manifest| manifest["name"] = "x".into());
    assert!(matches!(refused(&changed, NOW), BundleError::BadSignature { .. }));
    let late = refused(&answer.bytes, authority.pki().ca().not_after() + Duration::days(1));
    assert!(late.to_string().contains("over by the clock"), "{late}");
    let early = refused(&answer.bytes, authority.pki().ca().not_before() - Duration::days(1));
    assert!(early.to_string().contains("not valid yet"), "{early}");

    // Somebody else's answer: to a request that was made in another folder.
    let elsewhere = tempfile::tempdir().unwrap();
    let theirs = asked(elsewhere.path(), &[server()]);
    let theirs = signed(&other, &theirs.bytes, NOW);
    assert!(matches!(refused(&theirs.bytes, NOW), BundleError::NotAskedHere { .. }));

    // The key is gone, or another one.
    let key = pki.join("private/broker.lan.key");
    let content = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    let error =
        Acceptance::prepare(&pki, AnswerBundle::read(&answer.bytes).unwrap(), NOW).map(|_| ()).unwrap_err();
    assert!(matches!(error, BundleError::NoKey { .. }), "{error}");
    fs::write(&key, PrivateKey::generate(KeyKind::EcP256).unwrap().pkcs8_pem().as_bytes()).unwrap();
    let error =
        Acceptance::prepare(&pki, AnswerBundle::read(&answer.bytes).unwrap(), NOW).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("another one"), "{error}");
    fs::write(&key, content).unwrap();

    // A certificate that stands where this one goes is not replaced silently.
    fs::create_dir_all(pki.join("issued")).unwrap();
    let stranger = other.pki().certificate(&name("broker.lan")).unwrap().unwrap();
    fs::write(pki.join("issued/broker.lan.crt"), stranger.pem()).unwrap();
    let error =
        Acceptance::prepare(&pki, AnswerBundle::read(&answer.bytes).unwrap(), NOW).map(|_| ()).unwrap_err();
    assert!(matches!(error, BundleError::Pki(PkiError::InTheWay { .. })), "{error}");
    fs::remove_dir_all(pki.join("issued")).unwrap();

    let acceptance = Acceptance::prepare(&pki, AnswerBundle::read(&answer.bytes).unwrap(), NOW).unwrap();
    assert_eq!(acceptance.ca_change(), CaChange::First);
    // Killed between the two: the same again does the rest.
    acceptance.carry_out(NOW).unwrap();
    let once = tree(&pki);
    let outcome = accepted(&pki, &answer.bytes, NOW);
    assert_eq!(outcome.accepted[0].replaces, None);
    assert_eq!(once.keys().collect::<Vec<_>>(), tree(&pki).keys().collect::<Vec<_>>());
    assert_eq!(Pki::open(&pki).unwrap().entries().unwrap().len(), 1);

    let error =
        Acceptance::prepare(&pki, AnswerBundle::read(&answer.bytes).unwrap(), NOW).map(|_| ()).unwrap_err();
    assert!(matches!(error, BundleError::AlreadyAccepted { .. }), "{error}");
    // Another CA of the same name answers our request.
    let renewal = asked(&pki, &[server()]);
    let before = tree(&pki);
    let stripped = forged(&renewal.bytes, |m| m["content"]["request"]["ca"] = serde_json::Value::Null);
    let theirs = signed(&other, &stripped, NOW);
    let error =
        Acceptance::prepare(&pki, AnswerBundle::read(&theirs.bytes).unwrap(), NOW).map(|_| ()).unwrap_err();
    assert!(matches!(error, BundleError::OtherRequest { .. } | BundleError::WrongCa { .. }), "{error}");
    assert_eq!(tree(&pki), before);
}

#[test]
fn asking_refuses_before_it_makes_a_key() {
    let home = tempfile::tempdir().unwrap();
    let told = |wishes: &[Wish]| {
        let error = ask::ask(home.path(), "x", wishes, &[], NOW, |_| {}).unwrap_err();
        assert!(tree(home.path()).is_empty(), "{error}");
        error.to_string()
    };
    let mut rsa = devices(1);
    rsa[0].key = KeyKind::Rsa2048;
    assert!(told(&rsa).contains("EC P-256"));
    let mut twice = devices(1);
    twice.push(Wish::new(Profile::Client, name("PLUG-0000")));
    assert!(told(&twice).contains("twice"));
    let mut names = devices(1);
    names[0].alt_names.dns.push("x".into());
    assert!(told(&names).contains("no alternative names"));
    assert!(told(&[]).contains("nothing to ask for"));
    assert!(told(&devices(10_001)).contains("larger"));

    // A person's own key is not taken for ours.
    let key = PrivateKey::generate(KeyKind::EcP256).unwrap();
    fs::create_dir_all(home.path().join("private")).unwrap();
    fs::create_dir_all(home.path().join("reqs")).unwrap();
    fs::write(home.path().join("private/broker.lan.key"), key.pkcs8_pem().as_bytes()).unwrap();
    fs::write(home.path().join("reqs/broker.lan.req"), "not of this key").unwrap();
    let error = ask::ask(home.path(), "x", &[server()], &[], NOW, |_| {}).unwrap_err();
    assert!(matches!(error, BundleError::Pki(PkiError::InTheWay { .. })), "{error}");
}
