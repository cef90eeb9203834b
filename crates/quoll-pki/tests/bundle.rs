//! Requests and answers between a server's folder and a CA's: the walk, judged by openssl and tar; every refusal, and that
//! it changes nothing.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::*;
use quoll_pki::{
    AltNames, Authority, KeyKind, NewCa, Pki, PkiError, PrivateKey, Profile, RevocationReason,
    bundle::{
        BUNDLE_MAX, BundleError, Phrase,
        accept::{Acceptance, AnswerBundle, CaChange, Outcome},
        anchors::{self, AnchorsBundle},
        ask::{self, Asked, Wish},
        sign::{Decisions, Line, RequestBundle, Signed, Signing},
    },
};
use tempfile::TempDir;
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

fn new_ca(name: &str) -> (TempDir, Authority) {
    let dir = tempfile::tempdir().unwrap();
    let new = NewCa { key: KeyKind::EcP256, ..NewCa::new(name) };
    let pki = Pki::create(dir.path(), &new, &test_pass(), NOW).unwrap();
    let authority = pki.unlock(&test_pass()).unwrap();
    authority.publish_crl(NOW).unwrap();
    (dir, authority)
}

fn server() -> Wish {
    let mut wish = Wish::new(Profile::Server, name("broker.lan"));
    wish.key = KeyKind::EcP256;
    wish.alt_names = AltNames { dns: vec!["mqtt.lan".into()], ip: vec!["10.0.0.1".parse().unwrap()] };
    wish.renew = true;
    wish
}

fn devices(count: usize) -> Vec<Wish> {
    (0..count).map(|at| Wish::new(Profile::Tasmota, name(&format!("plug-{at:04}")))).collect()
}

fn asked(dir: &Path, wishes: &[Wish]) -> Asked {
    ask::ask(dir, "broker.lan", wishes, &[], NOW, |_| {}).unwrap()
}

fn prepared(pki: &Pki, request: &[u8], now: OffsetDateTime) -> Result<Signing, BundleError> {
    Signing::prepare(pki, RequestBundle::read(request)?, Decisions::default(), now)
}

fn signed(authority: &Authority, request: &[u8], now: OffsetDateTime) -> Signed {
    let signed = prepared(authority.pki(), request, now).unwrap().sign(authority, now, |_| {}).unwrap();
    signed.finish(authority.pki(), now).unwrap();
    signed
}

fn accepted(dir: &Path, answer: &[u8], now: OffsetDateTime) -> Outcome {
    let acceptance = Acceptance::prepare(dir, AnswerBundle::read(answer).unwrap(), now).unwrap();
    let outcome = acceptance.carry_out(now).unwrap();
    acceptance.finish(now).unwrap();
    outcome
}

/// The members of a tar, unpacked by tar itself.
fn untar(bytes: &[u8]) -> (TempDir, Vec<String>) {
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

/// The tar written anew, each member as `change` wants it.
fn rewritten(bytes: &[u8], mut change: impl FnMut(&str, Vec<u8>) -> Option<Vec<u8>>) -> Vec<u8> {
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

fn append(builder: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append(&header, content).unwrap();
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

#[test]
fn the_walk_is_right_for_openssl_and_tar() {
    for (tree_name, ca_type) in [("easyrsa-pki", "RSA"), ("easyrsa-pki-3.2", "RSA"), ("", "EC")] {
        let (_ca_dir, authority) = if tree_name.is_empty() {
            new_ca("Quoll CA")
        } else {
            let (dir, _, authority) = unlocked(tree_name);
            (dir, authority)
        };
        let ca = authority.pki().dir().to_owned();
        let home = tempfile::tempdir().unwrap();
        let pki = home.path().join("pki");
        let mut wishes = vec![
            server(),
            Wish::new(Profile::Client, name("hass")),
            Wish::new(Profile::Tasmota, name("plug")),
        ];
        wishes[1].note = Some("observer".into());
        let asked = asked(&pki, &wishes);
        assert_eq!(asked.keys_made, 3);

        let (request, list) = untar(&asked.bytes);
        assert_eq!(
            list,
            ["manifest.json", "requests/broker.lan.csr", "requests/hass.csr", "requests/plug.csr"]
        );
        for csr in &list[1..] {
            openssl_ok(&["req", "-in", text_of(&request.path().join(csr)), "-noout", "-verify"]);
        }
        let hash = openssl_ok(&["dgst", "-sha256", "-r", text_of(&request.path().join("manifest.json"))]);
        assert_eq!(hash[..20].parse::<Phrase>().unwrap(), asked.phrase);
        assert_eq!(RequestBundle::read(&asked.bytes).unwrap().phrase(), asked.phrase);

        let signing = prepared(authority.pki(), &asked.bytes, NOW).unwrap();
        let Line::Certificate { name: first, profile, key, names, replaces, signed: before, .. } =
            &signing.lines()[0]
        else {
            panic!("{:?}", signing.lines())
        };
        assert_eq!((first.as_str(), profile.as_str(), key.as_str()), ("broker.lan", "server", "EC P-256"));
        assert_eq!(names, &["broker.lan", "mqtt.lan", "10.0.0.1"]);
        assert_eq!((replaces, before), (&None, &false));
        let answer = signed(&authority, &asked.bytes, NOW);
        assert_eq!((answer.signed, answer.kept, answer.revoked), (3, 0, 0));

        let (opened, list) = untar(&answer.bytes);
        assert_eq!(
            list[..5],
            ["manifest.json", "manifest.sig", "ca.crt", "crl.pem", "revoked.txt"],
            "{ca_type}"
        );
        let at = |file: &str| opened.path().join(file).display().to_string();
        let public = at("ca.pub");
        fs::write(&public, openssl_ok(&["x509", "-in", &at("ca.crt"), "-noout", "-pubkey"])).unwrap();
        openssl_ok(&[
            "dgst",
            "-sha256",
            "-verify",
            &public,
            "-signature",
            &at("manifest.sig"),
            &at("manifest.json"),
        ]);
        openssl_ok(&["crl", "-in", &at("crl.pem"), "-CAfile", &at("ca.crt"), "-noout"]);

        let outcome = accepted(&pki, &answer.bytes, NOW);
        assert_eq!(outcome.accepted.len(), 3);
        assert_eq!(outcome.accepted[1].note.as_deref(), Some("observer"));
        for one in &outcome.accepted {
            let file = pki.join("issued").join(format!("{}.crt", one.name));
            let (ok, said) = openssl_verifies(&pki, &file, NOW, true);
            assert!(ok || said.contains("Basic Constraints of CA cert not marked critical"), "{said}");
            let key = pki.join("private").join(format!("{}.key", one.name));
            let public = openssl_ok(&["pkey", "-in", text_of(&key), "-pubout"]);
            assert_eq!(openssl_ok(&["x509", "-in", text_of(&file), "-noout", "-pubkey"]), public);
            assert_eq!(
                fs::read(&file).unwrap(),
                fs::read(ca.join("issued").join(file.file_name().unwrap())).unwrap()
            );
        }
        assert!(!pki.join("private/ca.key").exists());
        // The folder is one like any other, but for signing.
        let opened = Pki::open(&pki).unwrap();
        let valid = listing(&opened).iter().filter(|(state, _)| *state == 'V').count();
        assert_eq!(valid, 3);
        let theirs = authority.pki().revoked_serials().unwrap();
        assert_eq!(opened.revoked_serials().unwrap().len(), theirs.len(), "the CA's revocations came along");
        assert!(!opened.crl_is_behind(NOW).unwrap());
        opened.server_key_pem(&name("broker.lan")).unwrap();
        assert!(matches!(opened.unlock(&test_pass()), Err(PkiError::Io { .. })));
    }
}

#[test]
fn no_private_key_is_in_any_bundle() {
    let (ca_dir, authority) = new_ca("CA");
    let home = tempfile::tempdir().unwrap();
    let asked = asked(home.path(), &[server(), devices(1).remove(0)]);
    let answer = signed(&authority, &asked.bytes, NOW);
    let (anchors, _) = anchors::export(&[authority.pki().ca()], None, NOW).unwrap();
    let keys = ["broker.lan", "plug-0000"].map(|key| {
        let text = fs::read_to_string(home.path().join(format!("private/{key}.key"))).unwrap();
        assert!(text.contains("PRIVATE KEY"));
        PrivateKey::from_pkcs8_der(&pem_body(&text)).unwrap()
    });
    let ca_key = fs::read_to_string(ca_dir.path().join("private/ca.key")).unwrap();
    for bundle in [&asked.bytes, &answer.bytes, &anchors] {
        assert!(!holds(bundle, b"PRIVATE KEY"));
        assert!(!holds(bundle, ca_key.lines().nth(2).unwrap().as_bytes()));
        for key in &keys {
            let scalar = key.ec_scalar().unwrap();
            // As it is, in hex, and in whatever a member's PEM decodes to.
            let hex: String = scalar.iter().map(|octet| format!("{octet:02x}")).collect();
            assert!(!holds(bundle, &scalar[..]) && !holds(bundle, hex.as_bytes()));
            for member in members(bundle) {
                assert!(!holds(&member, &scalar[..]), "in the DER of a member");
            }
        }
    }
}

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// The decoded PEM blocks of all members.
fn members(bundle: &[u8]) -> Vec<Vec<u8>> {
    let (dir, list) = untar(bundle);
    let texts = list.iter().map(|path| fs::read(dir.path().join(path)).unwrap());
    let pems = texts.filter(|text| text.starts_with(b"-----BEGIN"));
    let out: Vec<_> = pems.map(|text| pem_body(std::str::from_utf8(&text).unwrap())).collect();
    assert!(!out.is_empty());
    out
}

fn pem_body(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(body).unwrap()
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

fn certificates(answer: &[u8]) -> Vec<Vec<u8>> {
    let (dir, list) = untar(answer);
    let files = list.iter().filter(|path| path.starts_with("certificates/"));
    files.map(|path| fs::read(dir.path().join(path)).unwrap()).collect()
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
fn a_renewal_keeps_key_and_subject_and_keeps_the_old_certificate() {
    let (dir, authority) = new_ca("CA");
    let home = tempfile::tempdir().unwrap();
    let first =
        accepted(home.path(), &signed(&authority, &asked(home.path(), &[server()]).bytes, NOW).bytes, NOW);
    let old = &first.accepted[0].certificate;
    let later = NOW + Duration::days(100);
    let mut wish = server();
    wish.alt_names.dns.push("new.lan".into());
    let asked = ask::ask(home.path(), "broker.lan", &[wish], &[], later, |_| {}).unwrap();
    assert_eq!(asked.keys_made, 0);
    let signing = prepared(authority.pki(), &asked.bytes, later).unwrap();
    assert!(
        matches!(&signing.lines()[0], Line::Certificate { replaces: Some(serial), .. } if *serial == old.serial().to_string())
    );
    let answer = signed(&authority, &asked.bytes, later);
    assert!(
        answer.warnings.iter().any(|(_, warning)| warning.contains("stays valid until revoked")),
        "{:?}",
        answer.warnings
    );
    let second = accepted(home.path(), &answer.bytes, later);
    let new = &second.accepted[0];
    assert_eq!(new.replaces, Some(old.serial()));
    assert_eq!(new.certificate.public_key_der(), old.public_key_der());
    assert!(new.certificate.dns_names().contains(&"new.lan".to_owned()));
    for pki in [home.path(), dir.path()] {
        let kept = fs::read(pki.join("renewed/issued/broker.lan.crt")).unwrap();
        assert_eq!(kept, old.pem().into_bytes());
        assert!(pki.join("certs_by_serial").join(format!("{}.pem", new.certificate.serial())).exists());
    }
}

#[test]
fn revocations_travel_both_ways_and_an_older_list_never_wins() {
    let (_dir, authority) = new_ca("CA");
    let home = tempfile::tempdir().unwrap();
    let answer = signed(&authority, &asked(home.path(), &devices(3)).bytes, NOW);
    let here = accepted(home.path(), &answer.bytes, NOW).pki;
    let serial_of =
        |at: usize| here.certificate(&name(&format!("plug-{at:04}"))).unwrap().map(|one| one.serial());
    let (lost, sold, held) = (serial_of(0).unwrap(), serial_of(1).unwrap(), serial_of(2).unwrap());

    // One is revoked at the server: it goes along by itself. Another at the CA: it comes back. A third is on hold.
    here.revoke(&lost, RevocationReason::KeyCompromise, NOW + Duration::days(1)).unwrap();
    authority.pki().revoke(&sold, RevocationReason::AffiliationChanged, NOW + Duration::days(1)).unwrap();
    authority.pki().revoke(&held, RevocationReason::CertificateHold, NOW + Duration::days(1)).unwrap();
    let later = NOW + Duration::days(2);
    let older = ask::ask(home.path(), "broker.lan", &[], &[], later, |_| {}).unwrap();
    assert_eq!(older.revoke, [(lost.clone(), RevocationReason::KeyCompromise)]);
    let signing = prepared(authority.pki(), &older.bytes, later).unwrap();
    assert!(matches!(&signing.lines()[0], Line::Revocation { reason, .. } if reason == "keyCompromise"));
    let older = signed(&authority, &older.bytes, later);
    assert_eq!(older.revoked, 1);
    let outcome = accepted(home.path(), &older.bytes, later);
    assert_eq!(outcome.revoked, [sold.clone(), held.clone()]);
    assert!(outcome.crl_is_new);
    assert!(!outcome.pki.crl_is_behind(later).unwrap());
    assert!(
        home.path().join("revoked/certs_by_serial").join(format!("{sold}.pem")).exists()
            || home.path().join("revoked/certs_by_serial").join(format!("{sold}.crt")).exists()
    );
    let again = ask::ask(home.path(), "broker.lan", &[], &[], later, |_| {}).unwrap();
    assert!(again.revoke.is_empty(), "the CRL has it");

    // Two answers, accepted the other way round: the newer list stays.
    let first = ask::ask(home.path(), "broker.lan", &[], &[], later, |_| {}).unwrap();
    let first = signed(&authority, &first.bytes, later);
    authority.pki().release(&held, later).unwrap();
    let second = ask::ask(home.path(), "broker.lan", &[], &[], later, |_| {}).unwrap();
    let second = signed(&authority, &second.bytes, later + Duration::days(1));
    let end = later + Duration::days(1);
    assert!(accepted(home.path(), &second.bytes, end).crl_is_new);
    let held_now =
        || here.entries().unwrap().into_iter().find(|entry| entry.serial == held).unwrap().is_revoked();
    assert!(!held_now(), "the hold was lifted at the CA");
    assert!(serial_of(2).is_some(), "and its certificate is back");
    let newest = fs::read(home.path().join("crl.pem")).unwrap();
    let outcome = accepted(home.path(), &first.bytes, end);
    assert!(!outcome.crl_is_new);
    assert_eq!(fs::read(home.path().join("crl.pem")).unwrap(), newest);
    assert!(!held_now(), "an older answer does not bring the hold back");
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

#[test]
fn asking_twice_uses_the_same_keys() {
    let (_dir, authority) = new_ca("CA");
    let home = tempfile::tempdir().unwrap();
    let first = asked(home.path(), &devices(3));
    let key = fs::read(home.path().join("private/plug-0001.key")).unwrap();
    let second = asked(home.path(), &devices(4));
    assert_eq!((first.keys_made, second.keys_made), (3, 1));
    assert_ne!(first.id, second.id);
    assert_eq!(fs::read(home.path().join("private/plug-0001.key")).unwrap(), key);
    // Either may be answered; what both wanted is signed once.
    let answer = signed(&authority, &second.bytes, NOW);
    accepted(home.path(), &answer.bytes, NOW);
    let error = prepared(authority.pki(), &first.bytes, NOW).map(|_| ()).unwrap_err();
    assert!(matches!(error, BundleError::Pki(PkiError::NameTaken { .. })), "{error}");
    let error = ask::ask(home.path(), "x", &devices(1), &[], NOW, |_| {}).unwrap_err();
    assert!(matches!(error, BundleError::Pki(PkiError::NameTaken { .. })), "{error}");
}

#[test]
fn easy_rsa_goes_on_in_the_cas_folder() {
    let (_dir, ca, authority) = unlocked("easyrsa-pki");
    let home = tempfile::tempdir().unwrap();
    let pki = home.path().join("pki");
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap();
    let request = ask::ask(&pki, "x", &[server(), devices(1).remove(0)], &[], now, |_| {}).unwrap();
    let answer = signed(&authority, &request.bytes, now);
    accepted(&pki, &answer.bytes, now);
    assert!(easyrsa(&ca, &[], &["show-cert", "plug-0000"]).contains("plug-0000"));
    // The server's folder lacks the CA's key, and that is all that Easy-RSA finds missing.
    let (ok, said) = easyrsa_with(&pki, "test", &[], &["show-cert", "broker.lan"]);
    assert!(!ok && said.contains("Missing expected CA file: private/ca.key"), "{said}");
    easyrsa(&ca, &[], &["revoke", "plug-0000", "superseded"]);
    assert_eq!(
        listing(authority.pki()).iter().filter(|(_, name)| name == "plug-0000").collect::<Vec<_>>(),
        [&('R', "plug-0000".to_owned())]
    );
}

#[test]
fn anchors_are_public_and_whole() {
    let (_dir, authority) = new_ca("Home CA");
    let ca = authority.pki().ca();
    let (bytes, phrase) = anchors::export(&[ca], None, NOW).unwrap();
    let (dir, list) = untar(&bytes);
    assert_eq!(list, ["manifest.json", "anchors/1.crt"]);
    let fingerprint = openssl_ok(&[
        "x509",
        "-in",
        text_of(&dir.path().join("anchors/1.crt")),
        "-noout",
        "-fingerprint",
        "-sha256",
    ]);
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.path().join("manifest.json")).unwrap()).unwrap();
    let sha256 = manifest["content"]["anchors"]["anchors"][0]["sha256"].as_str().unwrap().to_uppercase();
    assert!(fingerprint.replace(':', "").contains(&sha256), "{fingerprint}");
    let read = AnchorsBundle::read(&bytes).unwrap();
    assert_eq!((read.anchors.len(), read.phrase), (1, phrase));
    assert_eq!(&read.anchors[0], ca);
    let changed = rewritten(&bytes, |path, content| {
        Some(if path == "manifest.json" { content } else { b"x".to_vec() })
    });
    assert!(matches!(AnchorsBundle::read(&changed), Err(BundleError::Damaged { .. })));
    assert!(matches!(anchors::export(&[], None, NOW), Err(BundleError::NothingWanted)));
}
