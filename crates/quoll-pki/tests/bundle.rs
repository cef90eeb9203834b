//! Requests and answers between a server's folder and a CA's: the walk, judged by openssl and tar. What is refused is in
//! bundle_refusals.rs.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod common;

use std::fs;

use common::{bundles::*, *};
use quoll_pki::{
    Pki, PkiError, PrivateKey, Profile, RevocationReason,
    bundle::{
        BundleError, Phrase,
        anchors::{self, AnchorsBundle},
        ask::{self, Wish},
        sign::{Line, RequestBundle},
    },
};
use time::{Duration, OffsetDateTime};

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
