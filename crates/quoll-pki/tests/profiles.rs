//! Certificates by profile: the built-in ones, one of the user's own, every kind of key; and their way out as PKCS#12.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod common;

use std::{fs, path::Path};

use common::*;
use quoll_pki::{
    AltNames, Authority, IssueRequest, KeyKind, KeySource, KeyStorage, NewCa, Passphrase, Pkcs12Form, Pki,
    PkiError, Profile, Subject, fitness::Devices,
};
use time::{Duration, OffsetDateTime};

fn ca(dir: &Path, key: KeyKind) -> (std::path::PathBuf, Authority) {
    let path = dir.join(key.word());
    let new = NewCa { key, ..NewCa::new("CA") };
    let pki = Pki::create(&path, &new, &test_pass(), now()).unwrap();
    (path, pki.unlock(&test_pass()).unwrap())
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn request(profile: Profile, text: &str, kind: KeyKind) -> IssueRequest {
    IssueRequest {
        key: KeySource::Generate(kind),
        ..IssueRequest::new(profile, name(text), KeyStorage::Plain)
    }
}

#[test]
fn every_profile_with_every_kind_of_key_it_may_have_is_good_for_openssl() {
    let dir = tempfile::tempdir().unwrap();
    // One RSA key of each size is enough: making them takes seconds.
    for ca_kind in [KeyKind::Rsa2048, KeyKind::EcP256, KeyKind::EcP384] {
        let (path, authority) = ca(dir.path(), ca_kind);
        for profile in Profile::BUILT_IN {
            for &kind in profile.keys() {
                let slow = matches!(kind, KeyKind::Rsa3072 | KeyKind::Rsa4096);
                if slow && !(ca_kind == KeyKind::EcP256 && profile == Profile::Client) {
                    continue;
                }
                let text = format!("{profile}-{}", kind.word());
                let issued = authority.issue(&request(profile, &text, kind), now()).unwrap();
                let file = path.join(format!("issued/{text}.crt"));
                let purpose = match profile {
                    Profile::Server => "sslserver",
                    Profile::SubCa => "crlsign",
                    _ => "sslclient",
                };
                let at = (now() + Duration::minutes(1)).unix_timestamp().to_string();
                let ca = path.join("ca.crt");
                openssl_ok(&[
                    "verify",
                    "-x509_strict",
                    "-purpose",
                    purpose,
                    "-attime",
                    &at,
                    "-CAfile",
                    text_of(&ca),
                    text_of(&file),
                ]);
                assert_eq!(issued.certificate.is_signed_by(authority.pki().ca()), Some(true), "{text}");
                assert_eq!(issued.key.kind(), Some(kind));
                let key = path.join(format!("private/{text}.key"));
                let theirs = openssl_ok(&["pkey", "-in", text_of(&key), "-pubout"]);
                assert!(theirs.contains("PUBLIC KEY"), "{theirs}");
            }
        }
        let check = authority.pki().check(now()).unwrap();
        assert!(check.certificates.iter().all(|row| row.problems.is_empty()), "{check:#?}");
    }
}

#[test]
fn what_a_sub_ca_signs_chains_up_and_it_makes_no_further_ca() {
    let dir = tempfile::tempdir().unwrap();
    let (path, authority) = ca(dir.path(), KeyKind::EcP256);
    authority.issue(&request(Profile::SubCa, "branch", KeyKind::EcP256), now()).unwrap();
    let text = openssl_ok(&["x509", "-in", text_of(&path.join("issued/branch.crt")), "-noout", "-text"]);
    assert!(text.contains("CA:TRUE, pathlen:0") && text.contains("Certificate Sign, CRL Sign"), "{text}");
    let renewed = authority.renew(&name("branch"), &quoll_pki::Renewal::default(), now()).unwrap();
    assert!(renewed.certificate.is_ca());
}

#[test]
fn what_devices_could_not_check_is_refused_with_its_reason_unless_there_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let esp8266 = Devices { esp8266: true, esp32: false, fingerprint: false, ecdsa: false };
    let esp32 = Devices { esp8266: false, esp32: true, ..esp8266 };
    let pinned = Devices { esp8266: false, fingerprint: true, ..esp8266 };
    let ecdsa = Devices { ecdsa: true, esp32: true, ..esp8266 };
    let nobody = Devices { esp8266: false, ..esp8266 };
    let rsa = ca(dir.path(), KeyKind::Rsa2048).1;
    let ec = ca(dir.path(), KeyKind::EcP256).1;
    let p384 = ca(dir.path(), KeyKind::EcP384).1;
    for (number, (authority, kind, devices, expected)) in [
        (&rsa, KeyKind::Rsa2048, Devices::ANY, None),
        (&rsa, KeyKind::Rsa4096, esp8266, Some("RSA-4096, more than 2048 bits")),
        (&rsa, KeyKind::Rsa4096, esp32, None),
        (&rsa, KeyKind::EcP256, pinned, Some("fingerprints are of RSA keys")),
        (&rsa, KeyKind::EcP256, esp32, Some("SetOption165")),
        (&rsa, KeyKind::EcP256, ecdsa, None),
        (&rsa, KeyKind::EcP384, ecdsa, Some("EC P-384")),
        (&rsa, KeyKind::EcP384, nobody, None),
        (&ec, KeyKind::Rsa2048, esp8266, Some("signed with ECDSA")),
        (&ec, KeyKind::Rsa2048, pinned, None),
        (&p384, KeyKind::Rsa2048, ecdsa, Some("SHA-384")),
        (&p384, KeyKind::Rsa2048, pinned, None),
    ]
    .into_iter()
    .enumerate()
    {
        let server = IssueRequest {
            devices: Some(devices),
            ..request(Profile::Server, &format!("server-{number}"), kind)
        };
        let before = authority.pki().entries().unwrap().len();
        match (authority.issue(&server, now()), expected) {
            (Ok(_), None) => {}
            (Err(error), Some(expected)) => {
                assert!(matches!(error, PkiError::UnfitForDevices { .. }), "{number}: {error}");
                assert!(error.to_string().contains(expected), "{number}: {error}");
                assert!(error.hint().is_some());
                assert_eq!(authority.pki().entries().unwrap().len(), before);
                assert!(authority.pki().certificate(&server.name).unwrap().is_none());
            }
            (outcome, expected) => panic!("{number}: {outcome:?}, not {expected:?}"),
        }
    }
    // Without devices named, the same is told and done.
    let told = ec.issue(&request(Profile::Server, "told", KeyKind::EcP256), now()).unwrap();
    assert!(told.warnings.iter().any(|warning| warning.contains("SetOption165")), "{:?}", told.warnings);
}

#[test]
fn a_profile_of_the_users_own_is_read_from_the_folder() {
    let (_dir, path, authority) = unlocked("easyrsa-pki");
    let pki = authority.pki();
    let folder = path.join("profiles");
    fs::create_dir(&folder).unwrap();
    fs::write(
        folder.join("gate.toml"),
        "about = 'A gate: client and server in one'\nkey = 'ec-p256'\nkeys = ['ec-p256', 'rsa-2048']\n\
         extended-key-usage = ['serverAuth', 'clientAuth', '1.2.3.4']\nalt-names = 'optional'\ndays = 400\n",
    )
    .unwrap();
    let gate = pki.profile("gate").unwrap().unwrap();
    assert_eq!(pki.profiles().unwrap().last(), Some(&gate));
    assert_eq!((gate.to_string().as_str(), gate.days(), gate.takes_alt_names()), ("gate", 400, true));
    let mut wanted = IssueRequest::new(gate, name("gate1"), KeyStorage::Discard);
    authority.issue(&wanted, NOW).unwrap();
    let text = |file: &str| openssl_ok(&["x509", "-in", text_of(&path.join(file)), "-noout", "-text"]);
    let shown = text("issued/gate1.crt");
    assert!(
        shown.contains("TLS Web Server Authentication, TLS Web Client Authentication, 1.2.3.4"),
        "{shown}"
    );
    assert!(!shown.contains("Alternative Name"));
    wanted.name = name("gate2");
    wanted.alt_names = AltNames { dns: vec!["gate.lan".into()], ip: Vec::new() };
    authority.issue(&wanted, NOW).unwrap();
    assert!(text("issued/gate2.crt").contains("DNS:gate2, DNS:gate.lan"));
    wanted.key = KeySource::Generate(KeyKind::Ed25519);
    assert!(authority.issue(&wanted, NOW).unwrap_err().to_string().contains("EC P-256, RSA-2048"));

    for (file, expected) in [("server", "built-in"), ("bad", "`days` is 1 to")] {
        fs::write(folder.join(format!("{file}.toml")), "about = 'x'\ndays = 0\n").unwrap();
        match pki.profile(file) {
            Ok(Some(profile)) => assert_eq!(profile, Profile::Server, "{expected}"),
            Err(error) => assert!(error.to_string().contains(expected), "{error}"),
            Ok(None) => panic!("{file} is not found"),
        }
    }
    for text in ["", "nobody", "../server", "a/b", "..", "x y"] {
        assert_eq!(pki.profile(text).unwrap(), None, "{text:?}");
    }
}

#[test]
fn the_defaults_of_vars_are_found_in_and_beside_the_folder() {
    let (dir, path, authority) = unlocked("easyrsa-pki");
    let pki = authority.pki();
    assert_eq!(pki.vars().unwrap(), None);
    fs::copy(fixtures().join("easyrsa-pki/vars.used"), dir.path().join("vars")).unwrap();
    let vars = pki.vars().unwrap().unwrap();
    assert_eq!((vars.key, vars.days, vars.ca_days), (Some(KeyKind::EcP256), Some(1800), Some(3650)));
    let wanted = IssueRequest { subject: vars.subject(), days: vars.days, ..device("tasmota_new") };
    let issued = authority.issue(&wanted, NOW).unwrap().certificate;
    // What Easy-RSA issued with these vars has the same subject but for the name, and the same life.
    let theirs = pki.certificate(&name("tasmota_garage")).unwrap().unwrap();
    assert_eq!(issued.subject_der().len(), theirs.subject_der().len() - "garage".len() + "new".len());
    assert_eq!((issued.not_after() - NOW).whole_days(), 1800);
    fs::write(path.join("vars"), "set_var EASYRSA_DN cn_only\n").unwrap();
    assert_eq!(pki.vars().unwrap().unwrap().subject(), Subject::CnOnly, "the folder's own goes first");
}

#[test]
fn a_pkcs12_file_is_read_by_openssl_whatever_the_passphrase() {
    let dir = tempfile::tempdir().unwrap();
    let (_path, authority) = ca(dir.path(), KeyKind::EcP256);
    let ca_certificate = authority.pki().ca().clone();
    for (kind, form, pass) in [
        (KeyKind::EcP256, Pkcs12Form::Aes256, "a $ecret, two  words"),
        (KeyKind::Rsa2048, Pkcs12Form::Aes256, "schlüßel-ключ"),
        (KeyKind::EcP256, Pkcs12Form::TripleDes, "schlüßel"),
        (KeyKind::Ed25519, Pkcs12Form::Aes256, "it's \"quoted\" \\ 100%"),
        (KeyKind::Rsa2048, Pkcs12Form::TripleDes, "x y z 1"),
    ] {
        let text = format!("phone-{}-{form:?}", kind.word());
        let issued = authority.issue(&request(Profile::Client, &text, kind), now()).unwrap();
        let p12 = issued
            .key
            .to_pkcs12(
                "My phone: küche",
                &issued.certificate,
                &[&ca_certificate],
                &Passphrase::new(pass),
                form,
            )
            .unwrap();
        let file = dir.path().join("x.p12");
        fs::write(&file, &p12).unwrap();
        let legacy = if form == Pkcs12Form::TripleDes { &["-legacy"][..] } else { &[] };
        let read = |more: &[&str]| {
            let pass = format!("pass:{pass}");
            openssl(&[&["pkcs12", "-in", text_of(&file), "-passin", &pass, "-nodes"], legacy, more].concat())
        };
        let (ok, all) = read(&[]);
        assert!(ok, "{text}: {all}");
        assert_eq!(all.matches("BEGIN CERTIFICATE").count(), 2, "{text}: {all}");
        assert!(all.contains("friendlyName: My phone") && all.contains("localKeyID"), "{text}: {all}");
        let block =
            all.split("-----BEGIN PRIVATE KEY-----").nth(1).unwrap().split("-----END").next().unwrap();
        let theirs = format!("-----BEGIN PRIVATE KEY-----{block}-----END PRIVATE KEY-----\n");
        let public = |pem: &str| {
            let file = dir.path().join("key.pem");
            fs::write(&file, pem).unwrap();
            openssl_ok(&["pkey", "-in", text_of(&file), "-pubout"])
        };
        assert_eq!(public(&issued.key.pkcs8_pem()), public(&theirs), "{text}");
        let info = read(&["-info", "-noout"]).1;
        let expected = if legacy.is_empty() { "AES-256-CBC" } else { "3-KeyTripleDES" };
        assert!(info.contains(expected), "{info}");
        let wrong = openssl(
            &[&["pkcs12", "-in", text_of(&file), "-passin", "pass:wrong", "-noout"], legacy].concat(),
        );
        assert!(!wrong.0);
    }
    let key = quoll_pki::PrivateKey::generate(KeyKind::EcP256).unwrap();
    let short = key.to_pkcs12("x", &ca_certificate, &[], &Passphrase::new("abc"), Pkcs12Form::Aes256);
    assert!(matches!(short, Err(PkiError::UnusablePassphrase)));
}

#[test]
fn where_the_list_is_to_be_had_stands_in_certificates_that_have_room_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (path, authority) = ca(dir.path(), KeyKind::EcP256);
    for bad in ["https://x/ca.crl", "http://", "http:///ca.crl", "http://x/a b", "ldap://x"] {
        let (_, refused) = ca(tempfile::tempdir().unwrap().path(), KeyKind::EcP256);
        assert!(matches!(refused.naming_crl(Some(bad.into())), Err(PkiError::BadRequest { .. })), "{bad}");
        let profile = Profile::from_toml("own", &format!("about = 'x'\ncrl-url = '{bad}'\n"));
        assert!(profile.unwrap_err().contains("http://"), "{bad}");
    }
    let device = Profile::from_toml("own", "about = 'x'\ndevice = 'identity'\ncrl-url = 'http://x/ca.crl'\n");
    assert!(device.unwrap_err().contains("no room"));
    fs::create_dir(path.join("profiles")).unwrap();
    fs::write(path.join("profiles/gate.toml"), "about = 'A gate'\ncrl-url = 'http://gate.lan/ca.crl'\n")
        .unwrap();
    let gate = authority.pki().profile("gate").unwrap().unwrap();
    let authority = authority.naming_crl(Some("http://mqtt.lan:8881/ca.crl".into())).unwrap();
    for (profile, text, expected) in [
        (Profile::Client, "wall", Some("http://mqtt.lan:8881/ca.crl")),
        (Profile::Tasmota, "lamp", None),
        (gate, "gate", Some("http://gate.lan/ca.crl")),
    ] {
        authority.issue(&request(profile, text, KeyKind::EcP256), now()).unwrap();
        let file = path.join(format!("issued/{text}.crt"));
        let shown = openssl_ok(&["x509", "-in", text_of(&file), "-noout", "-text"]);
        let url = shown.split("URI:").nth(1).and_then(|rest| rest.split_whitespace().next());
        assert_eq!(url, expected, "{shown}");
    }
}
