//! Quoll and Debian's Easy-RSA 3.1 on one folder, in turns. After each turn both must see the same truth.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::*;
use quoll_pki::{
    IssueRequest, KeyKind, KeySource, KeyStorage, NewCa, Organisation, Passphrase, Pki, PkiError, Profile,
    RevocationReason, Serial, Subject,
};
use time::{Duration, OffsetDateTime};

const EC: [(&str, &str); 2] = [("EASYRSA_ALGO", "ec"), ("EASYRSA_CURVE", "prime256v1")];

/// Easy-RSA asks the clock of the machine, so here Quoll must have the same one.
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn created(dir: &Path, key: KeyKind) -> (PathBuf, Pki) {
    let path = dir.join("pki");
    let new = NewCa { key, ..NewCa::new("Quoll CA") };
    let pki = Pki::create(&path, &new, &test_pass(), now()).unwrap();
    (path, pki)
}

fn request(profile: Profile, text: &str) -> IssueRequest {
    IssueRequest::new(profile, name(text), KeyStorage::Plain)
}

#[test]
fn a_new_ca_is_what_openssl_and_easy_rsa_expect() {
    for (key, size) in [(KeyKind::Rsa2048, 740..840), (KeyKind::EcP256, 380..440)] {
        let dir = tempfile::tempdir().unwrap();
        let (path, pki) = created(dir.path(), key);
        assert!(size.contains(&pki.ca().der().len()), "{}", pki.ca().der().len());
        let ca = path.join("ca.crt");
        let text = openssl_ok(&["x509", "-in", text_of(&ca), "-noout", "-text"]);
        for expected in [
            "Basic Constraints: critical\n                CA:TRUE\n",
            "Key Usage: critical\n                Certificate Sign, CRL Sign\n",
            "X509v3 Subject Key Identifier:",
            "X509v3 Authority Key Identifier:",
            "Subject: CN = Quoll CA\n",
            "Issuer: CN = Quoll CA\n",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert!(openssl_verifies(&path, &ca, now(), false).0);
        assert!(
            pki.ca().not_before() < now() - Duration::days(364),
            "backdated for devices with an old clock"
        );
        assert!(pki.ca().not_after() > now() + Duration::days(20 * 365));
        let encrypted = fs::read_to_string(path.join("private/ca.key")).unwrap();
        assert!(encrypted.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));

        assert!(easyrsa(&path, &[], &["show-ca"]).contains("Quoll CA"));
        easyrsa(&path, &EC, &["build-client-full", "phone"]);
        assert!(
            openssl_verifies(&path, &path.join("issued/phone.crt"), now() + Duration::minutes(1), false).0
        );
        assert_eq!(listing(&pki), [('V', "phone".to_owned())]);
        // A device fits under either CA; under the EC one it is some 190 bytes smaller.
        let authority = pki.unlock(&test_pass()).unwrap();
        let issued = authority.issue(&request(Profile::Tasmota, "tasmota_kitchen"), now()).unwrap();
        let most = if key == KeyKind::Rsa2048 { 620 } else { 430 };
        assert!((257..=most).contains(&issued.certificate.der().len()), "{}", issued.certificate.der().len());
    }
}

#[test]
fn a_new_ca_needs_a_folder_of_its_own_and_an_interrupted_creation_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pki");
    let new = NewCa { key: KeyKind::EcP256, ..NewCa::new("Quoll CA") };
    let create = || Pki::create(&path, &new, &test_pass(), now());
    for (pass, cn, days) in
        [("abc", "x", 1), ("test", " ", 1), ("test", "x", 0), ("test", &"x".repeat(65), 1)]
    {
        let wrong = NewCa { days, ..NewCa::new(cn) };
        assert!(Pki::create(&path, &wrong, &Passphrase::new(pass), now()).is_err());
        assert!(!path.exists(), "refused before anything is changed");
    }
    fs::create_dir(&path).unwrap();
    fs::write(path.join("holiday.jpg"), "").unwrap();
    let error = create().unwrap_err();
    assert!(matches!(&error, PkiError::NotEmpty { found, .. } if found == "holiday.jpg"), "{error}");
    fs::remove_file(path.join("holiday.jpg")).unwrap();

    let ca = create().unwrap().ca().clone();
    assert!(matches!(create(), Err(PkiError::AlreadyACa { .. })));
    // Killed before its last write: begun again, with a new key.
    fs::rename(path.join("ca.crt"), dir.path().join("ca.saved")).unwrap();
    assert!(matches!(Pki::open(&path), Err(PkiError::NotAPki { missing, .. }) if missing == "ca.crt"));
    assert!(
        matches!(create(), Err(PkiError::NotEmpty { .. })),
        "only a creation under way may be begun again"
    );
    fs::write(path.join(".quoll-creating"), "").unwrap();
    let again = create().unwrap();
    assert_ne!(again.ca(), &ca);
    again.unlock(&test_pass()).unwrap();
    // Killed right after it: the same CA is taken, but not by a stranger.
    fs::write(path.join(".quoll-creating"), "").unwrap();
    let stranger = Pki::create(&path, &new, &Passphrase::new("wrong one"), now()).unwrap_err();
    assert!(matches!(stranger, PkiError::WrongPassphrase { .. }));
    assert_eq!(create().unwrap().ca(), again.ca());
    assert!(!path.join(".quoll-creating").exists());
    easyrsa(&path, &[], &["gen-crl"]);
}

#[test]
fn the_walk_from_creation_to_mutual_revocation() {
    let dir = tempfile::tempdir().unwrap();
    let (path, pki) = created(dir.path(), KeyKind::Rsa2048);
    let authority = pki.unlock(&test_pass()).unwrap();
    let issued = |cn: &str| path.join(format!("issued/{cn}.crt"));
    let soon = || now() + Duration::minutes(1);

    // Easy-RSA issues, also by the guide's own device type, which the new folder brings along.
    easyrsa(&path, &[("EASYRSA_REQ_CN", "theirs.lan")], &["gen-req", "theirs.lan", "nopass"]);
    easyrsa(&path, &[], &["sign-req", "server", "theirs.lan"]);
    let env = [&EC[..], &[("EASYRSA_REQ_CN", "tasmota_theirs")]].concat();
    easyrsa(&path, &env, &["gen-req", "tasmota_theirs"]);
    easyrsa(&path, &[], &["sign-req", "tasmota", "tasmota_theirs"]);
    let theirs = pki.certificate(&name("tasmota_theirs")).unwrap().unwrap();
    assert!(theirs.der().len() < 620, "{}", theirs.der().len());
    assert_eq!(
        pki.private_key(&name("tasmota_theirs"), &test_pass()).unwrap().public_key_der(),
        theirs.public_key_der()
    );
    pki.server_key_pem(&name("theirs.lan")).unwrap();

    // Quoll lists and issues.
    let expected = [('V', "theirs.lan".to_owned()), ('V', "tasmota_theirs".to_owned())];
    assert_eq!(listing(&pki), expected);
    authority.issue(&request(Profile::Server, "ours.lan"), now()).unwrap();
    let ours = authority.issue(&request(Profile::Tasmota, "tasmota_ours"), now()).unwrap().certificate;
    for cn in ["theirs.lan", "tasmota_theirs", "ours.lan", "tasmota_ours"] {
        let (ok, said) = openssl_verifies(&path, &issued(cn), soon(), false);
        assert!(ok, "{cn}: {said}");
    }
    assert!(easyrsa(&path, &[], &["show-expire"]).contains("Showing certificates"));
    assert!(easyrsa(&path, &[], &["show-cert", "tasmota_ours"]).contains("tasmota_ours"));

    // Easy-RSA revokes ours, Quoll revokes theirs.
    easyrsa(&path, &[], &["revoke", "tasmota_ours", "superseded"]);
    assert_eq!(pki.revoked_serials().unwrap(), [ours.serial()]);
    assert_eq!(pki.certificate_by_serial(&ours.serial()).unwrap().unwrap(), ours);
    pki.revoke(&theirs.serial(), RevocationReason::KeyCompromise, now()).unwrap();
    assert!(easyrsa(&path, &[], &["show-revoke"]).contains("tasmota_theirs"));
    assert!(
        !easyrsa_with(&path, "test", &[], &["revoke", "tasmota_theirs"]).0,
        "it is gone for Easy-RSA as well"
    );

    // Either's CRL says the same.
    for by_quoll in [true, false, true] {
        match by_quoll {
            true => authority.publish_crl(now()).unwrap(),
            false => drop(easyrsa(&path, &[], &["gen-crl"])),
        }
        assert!(!pki.crl_is_behind(now()).unwrap());
        for cn in ["theirs.lan", "ours.lan"] {
            let (ok, said) = openssl_verifies(&path, &issued(cn), soon(), true);
            assert!(ok, "{cn}: {said}");
        }
        for serial in [ours.serial(), theirs.serial()] {
            let file = path.join(format!("revoked/certs_by_serial/{serial}.crt"));
            let (ok, said) = openssl_verifies(&path, &file, soon(), true);
            assert!(!ok && said.contains("certificate revoked"), "{said}");
        }
    }
    let crl = openssl_ok(&["crl", "-in", text_of(&path.join("crl.pem")), "-noout", "-crlnumber"]);
    assert_eq!(crl.trim(), "crlNumber=0x03", "both count in the same file");

    // Names are free again on both sides.
    easyrsa(&path, &EC, &["build-client-full", "tasmota_ours"]);
    authority.issue(&request(Profile::Tasmota, "tasmota_theirs"), now()).unwrap();
}

#[test]
fn renewals_of_either_can_be_revoked_by_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let (path, pki) = created(dir.path(), KeyKind::EcP256);
    let authority = pki.unlock(&test_pass()).unwrap();
    for cn in ["one", "two"] {
        authority.issue(&request(Profile::Server, cn), now()).unwrap();
    }
    let first = authority.renew_server(&name("one"), None, now()).unwrap();
    easyrsa(&path, &[], &["revoke-renewed", "one", "superseded"]);
    assert_eq!(pki.revoked_serials().unwrap(), [first.previous]);
    let key = pki.server_key_pem(&name("one")).unwrap();

    let second = pki.certificate(&name("two")).unwrap().unwrap();
    // Easy-RSA renews only what ends within so many days.
    let env = [&EC[..], &[("EASYRSA_CERT_RENEW", "9999")]].concat();
    easyrsa(&path, &env, &["renew", "two", "nopass"]);
    assert_ne!(pki.certificate(&name("two")).unwrap().unwrap().serial(), second.serial());
    assert_eq!(pki.certificate_by_serial(&second.serial()).unwrap().unwrap(), second);
    pki.revoke(&second.serial(), RevocationReason::Superseded, now()).unwrap();
    assert!(path.join(format!("revoked/certs_by_serial/{}.crt", second.serial())).exists());
    assert!(path.join(format!("revoked/private_by_serial/{}.key", second.serial())).exists());
    // The new ones stand, keys included.
    for cn in ["one", "two"] {
        let certificate = pki.certificate(&name(cn)).unwrap().unwrap();
        assert_eq!(
            pki.private_key(&name(cn), &test_pass()).unwrap().public_key_der(),
            certificate.public_key_der()
        );
    }
    assert_eq!(*pki.server_key_pem(&name("one")).unwrap(), *key);
    authority.publish_crl(now()).unwrap();
    assert!(openssl_verifies(&path, &path.join("issued/two.crt"), now() + Duration::minutes(1), true).0);
}

#[test]
fn a_subject_is_written_in_the_index_as_openssl_writes_it() {
    let dir = tempfile::tempdir().unwrap();
    let (path, pki) = created(dir.path(), KeyKind::EcP256);
    let authority = pki.unlock(&test_pass()).unwrap();
    for (cn, organisation) in
        [("a1", "K\u{f6}lner & S\u{f6}hne"), ("b1", "a+b/c=d, \\e \"f\""), ("c1", "\u{43f}\u{1f600}")]
    {
        let env = [("EASYRSA_DN", "org"), ("EASYRSA_REQ_ORG", organisation)];
        easyrsa(&path, &[&EC[..], &env].concat(), &["build-server-full", cn, "nopass"]);
        let renewed = authority.renew_server(&name(cn), None, now()).unwrap();
        let entries = pki.entries().unwrap();
        let subject =
            |serial: &Serial| &entries.iter().find(|entry| entry.serial == *serial).unwrap().subject;
        assert_eq!(subject(&renewed.certificate.serial()), subject(&renewed.previous));
        assert!(entries.iter().all(|entry| entry.common_name().is_some()));
        // The same fields from Quoll give the same subject.
        let mut request = request(Profile::Server, &cn.replace('1', "2"));
        request.key = KeySource::Generate(KeyKind::EcP256);
        request.subject = Subject::Org(Organisation {
            country: "US".into(),
            province: "California".into(),
            city: "San Francisco".into(),
            organisation: organisation.into(),
            unit: "My Organizational Unit".into(),
            email: "me@example.net".into(),
        });
        let ours = authority.issue(&request, now()).unwrap().certificate;
        let theirs = pki.certificate(&name(cn)).unwrap().unwrap();
        let without_cn =
            |der: &[u8]| der.iter().copied().filter(|octet| !b"12".contains(octet)).collect::<Vec<_>>();
        assert_eq!(without_cn(ours.subject_der()), without_cn(theirs.subject_der()), "{organisation}");
    }
}

#[test]
fn passphrases_with_odd_characters_open_the_ca_in_easy_rsa_too() {
    for pass in ["two  words", "$HOME & `id`", "schlüßel-ключ", "it's \"quoted\" \\ 100%"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pki");
        let new = NewCa { key: KeyKind::EcP256, ..NewCa::new("Quoll CA") };
        let pki = Pki::create(&path, &new, &Passphrase::new(pass), now()).unwrap();
        let (ok, said) = easyrsa_with(&path, pass, &[], &["gen-crl"]);
        assert!(ok, "{pass}: {said}");
        assert!(!easyrsa_with(&path, "wrong", &[], &["gen-crl"]).0);
        assert!(matches!(pki.unlock(&Passphrase::new("wrong")), Err(PkiError::WrongPassphrase { .. })));
    }
}
