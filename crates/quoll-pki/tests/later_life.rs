//! Renewed, rekeyed, put on hold, let in again; the CA made to last longer. Judged by openssl and Easy-RSA.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod common;

use std::fs;

use common::*;
use quoll_pki::{
    AltNames, EntryState, IssueRequest, KeyKind, KeyStorage, NewCa, Pki, PkiError, Profile, Renewal,
    RevocationReason, fitness::Devices,
};
use time::{Duration, OffsetDateTime};

#[test]
fn what_easy_rsa_3_2_could_not_renew_is_renewed_with_its_key() {
    let (_dir, path, authority) = unlocked("easyrsa-pki-3.2");
    let pki = authority.pki();
    let device = name("tasmota_renewed");
    let old = pki.certificate(&device).unwrap().unwrap();
    let key = fs::read(path.join("private/tasmota_renewed.key")).unwrap();
    let renewed = authority.renew(&device, &Renewal::default(), NOW).unwrap();
    let new = &renewed.certificate;
    assert_eq!(renewed.previous, old.serial());
    assert_eq!((new.public_key_der(), new.subject_der()), (old.public_key_der(), old.subject_der()));
    assert!(new.not_after() > old.not_after());
    assert!(fs::read(path.join("private/tasmota_renewed.key")).unwrap() == key);
    let file = path.join("issued/tasmota_renewed.crt");
    let text = openssl_ok(&["x509", "-in", text_of(&file), "-noout", "-text"]);
    assert!(text.contains("X509v3 Key Usage: critical\n                Digital Signature\n"), "{text}");
    assert!(!text.contains("Extended Key Usage") && !text.contains("Alternative Name"));
    let (ok, said) = openssl_accepts(&path, &file, NOW, false);
    assert!(ok, "{said}");
    let kept = pki.certificate_by_serial(&old.serial()).unwrap().unwrap();
    assert_eq!(kept, old);
    make_easyrsa_3_1_work_on(&path);
    assert!(easyrsa(&path, &[], &["show-cert", "tasmota_renewed"]).contains("tasmota_renewed"));
}

#[test]
fn a_server_whose_key_is_encrypted_is_reissued_with_names_under_the_same_key() {
    let (_dir, path, authority) = unlocked("easyrsa-pki-3.2");
    let server = name("mqtt.myorg.com");
    let old = authority.pki().certificate(&server).unwrap().unwrap();
    let key = fs::read(path.join("private/mqtt.myorg.com.key")).unwrap();
    assert!(String::from_utf8_lossy(&key).contains("ENCRYPTED"));
    let names = AltNames { dns: vec!["mqtt.lan".into()], ip: vec!["192.168.1.10".parse().unwrap()] };
    let renewal = Renewal { alt_names: Some(names), ..Renewal::default() };
    let renewed = authority.renew(&server, &renewal, NOW).unwrap();
    assert_eq!(renewed.certificate.public_key_der(), old.public_key_der());
    assert_eq!(renewed.certificate.rsa_public_key(), old.rsa_public_key(), "and so the fingerprint");
    assert_eq!(renewed.certificate.dns_names(), ["mqtt.myorg.com", "mqtt.lan", "192.168.1.10"]);
    assert!(fs::read(path.join("private/mqtt.myorg.com.key")).unwrap() == key);
    let file = path.join("issued/mqtt.myorg.com.crt");
    for name in ["-verify_hostname mqtt.lan", "-verify_hostname mqtt.myorg.com", "-verify_ip 192.168.1.10"] {
        let at = NOW.unix_timestamp().to_string();
        let mut words = vec!["verify", "-purpose", "sslserver", "-attime", &at];
        words.extend(name.split(' '));
        let ca = path.join("ca.crt");
        words.extend(["-CAfile", text_of(&ca), text_of(&file)]);
        openssl_ok(&words);
    }
    // Its own names are kept by the next renewal.
    let again = authority.renew(&server, &Renewal::default(), NOW).unwrap();
    assert_eq!(again.certificate.dns_names(), renewed.certificate.dns_names());
}

#[test]
fn what_cannot_be_renewed_is_refused_before_anything_is_changed() {
    let (_dir, path, authority) = unlocked("easyrsa-pki");
    let before = fs::read(path.join("index.txt")).unwrap();
    let told = |name_text: &str, renewal: Renewal| {
        authority.renew(&name(name_text), &renewal, NOW).unwrap_err().to_string()
    };
    let names = Some(AltNames { dns: vec!["a.lan".into()], ip: Vec::new() });
    assert!(told("nobody", Renewal::default()).contains("no certificate named nobody"));
    assert!(told("tasmota_lost", Renewal::default()).contains("no certificate named tasmota_lost"));
    assert!(told("tasmota_kitchen", Renewal { days: Some(0), ..Renewal::default() }).contains("1 to 36525"));
    assert!(
        told("tasmota_kitchen", Renewal { alt_names: names, ..Renewal::default() })
            .contains("no alternative")
    );
    assert_eq!(fs::read(path.join("index.txt")).unwrap(), before);
}

#[test]
fn a_rekeyed_server_has_a_new_key_and_keeps_subject_and_names() {
    let (_dir, path, authority) = unlocked("easyrsa-pki");
    let server = name("mqtt.myorg.com");
    let old = authority.pki().certificate(&server).unwrap().unwrap();
    let refused =
        authority.rekey_server(&server, None, KeyKind::EcP256, Some(Devices::ANY), NOW).unwrap_err();
    assert!(matches!(refused, PkiError::UnfitForDevices { .. }), "{refused}");
    assert!(refused.to_string().contains("pinned fingerprint"), "{refused}");
    assert_eq!(authority.pki().certificate(&server).unwrap().unwrap(), old);

    let rekeyed = authority.rekey_server(&server, None, KeyKind::Rsa2048, Some(Devices::ANY), NOW).unwrap();
    let new = &rekeyed.certificate;
    assert_ne!(new.public_key_der(), old.public_key_der());
    assert_eq!((new.subject_der(), new.dns_names()), (old.subject_der(), old.dns_names()));
    let kept = fs::read(path.join("renewed/private/mqtt.myorg.com.key")).unwrap();
    assert!(kept == fs::read(fixtures().join("easyrsa-pki/private/mqtt.myorg.com.key")).unwrap());
    assert!(openssl_accepts(&path, &path.join("issued/mqtt.myorg.com.crt"), NOW, false).0);
    authority.pki().server_key_pem(&server).unwrap();
    let device = authority.rekey_server(&name("tasmota_kitchen"), None, KeyKind::Rsa2048, None, NOW);
    assert!(device.unwrap_err().to_string().contains("not a server's"));
}

#[test]
fn a_ca_lasts_longer_and_what_it_issued_chains_to_it() {
    for tree in ["easyrsa-pki", "easyrsa-pki-3.2"] {
        let (_dir, path, authority) = unlocked(tree);
        let old = authority.pki().ca().clone();
        let refused = authority.extend_ca(Some(30), NOW).unwrap_err();
        assert!(refused.to_string().contains("valid until 2036"), "{refused}");
        let extended = authority.extend_ca(None, NOW).unwrap();
        let pki = Pki::open(&path).unwrap();
        assert_eq!(pki.ca(), &extended.certificate);
        assert_eq!(pki.ca().public_key_der(), old.public_key_der());
        assert_eq!(pki.ca().subject_der(), old.subject_der());
        assert!(pki.ca().not_after() > NOW + Duration::days(7300));
        assert!(
            extended.same_serial,
            "{tree}: Easy-RSA wrote the serial number into its server's certificate"
        );
        assert_eq!(fs::read_to_string(&extended.kept).unwrap(), old.pem());
        assert!(openssl_verifies(&path, &path.join("ca.crt"), NOW, false).0);
        for entry in pki.entries().unwrap().iter().filter(|entry| !entry.is_revoked()) {
            let certificate = pki.certificate_by_serial(&entry.serial).unwrap().unwrap();
            let file = path.join("looked-at.pem");
            fs::write(&file, certificate.pem()).unwrap();
            let at = NOW.unix_timestamp().to_string();
            let ca = path.join("ca.crt");
            openssl_ok(&["verify", "-attime", &at, "-CAfile", text_of(&ca), text_of(&file)]);
            fs::remove_file(file).unwrap();
        }
        // Issuing goes on under the new one, for longer than the old one would have let it.
        let authority = pki.unlock(&test_pass()).unwrap();
        let issued = authority.issue(&device("tasmota_new"), NOW + Duration::days(3000)).unwrap();
        assert!(issued.certificate.not_after() > old.not_after());
        authority.publish_crl(NOW).unwrap();
        make_easyrsa_3_1_work_on(&path);
        assert!(easyrsa(&path, &[], &["show-ca"]).contains("Easy-RSA CA"));
        easyrsa(&path, &[], &["gen-crl"]);
    }
}

#[test]
fn a_ca_of_our_own_gets_a_new_serial_number_and_an_ended_one_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pki");
    let now = OffsetDateTime::now_utc();
    let new = NewCa { key: KeyKind::EcP256, days: 10, ..NewCa::new("CA") };
    let pki = Pki::create(&path, &new, &test_pass(), now).unwrap();
    let authority = pki.unlock(&test_pass()).unwrap();
    authority.issue(&device("lamp"), now).unwrap();
    let late = now + Duration::days(20);
    assert!(matches!(authority.issue(&device("late"), late), Err(PkiError::CaExpired { .. })));
    let extended = authority.extend_ca(None, late).unwrap();
    assert!(!extended.same_serial);
    assert_ne!(extended.certificate.serial(), pki.ca().serial());
    let authority = Pki::open(&path).unwrap().unlock(&test_pass()).unwrap();
    authority.issue(&device("late"), late).unwrap();
    assert!(openssl_verifies(&path, &path.join("issued/late.crt"), late + Duration::minutes(1), false).0);
    assert!(openssl_verifies(&path, &path.join("issued/lamp.crt"), now + Duration::minutes(1), false).0);
}

#[test]
fn a_hold_is_lifted_and_every_other_revocation_is_for_good() {
    let (_dir, path, authority) = unlocked("easyrsa-pki");
    let pki = authority.pki();
    let kitchen = pki.certificate(&name("tasmota_kitchen")).unwrap().unwrap();
    let serial = kitchen.serial();
    let index = fs::read_to_string(path.join("index.txt")).unwrap();
    pki.revoke(&serial, RevocationReason::CertificateHold, NOW).unwrap();
    authority.publish_crl(NOW).unwrap();
    let list = openssl_ok(&["crl", "-in", text_of(&path.join("crl.pem")), "-noout", "-text"]);
    assert!(list.contains("Certificate Hold"), "{list}");
    let put_away = path.join(format!("revoked/certs_by_serial/{serial}.crt"));
    assert!(!openssl_accepts(&path, &put_away, NOW, true).0);
    assert!(easyrsa(&path, &[], &["show-revoke"]).contains("tasmota_kitchen"));

    let released = pki.release(&serial, NOW).unwrap();
    assert!(!released.already);
    assert_eq!(fs::read_to_string(path.join("index.txt")).unwrap(), index, "byte for byte as before");
    assert_eq!(pki.certificate(&name("tasmota_kitchen")).unwrap().unwrap(), kitchen);
    pki.private_key(&name("tasmota_kitchen"), &test_pass()).unwrap();
    assert!(path.join("reqs/tasmota_kitchen.req").exists() && !put_away.exists());
    assert!(pki.crl_is_behind(NOW).unwrap(), "it is still on the list");
    authority.publish_crl(NOW).unwrap();
    assert!(openssl_accepts(&path, &path.join("issued/tasmota_kitchen.crt"), NOW, true).0);
    assert!(pki.release(&serial, NOW).unwrap().already);
    easyrsa(&path, &[], &["revoke", "tasmota_kitchen", "keyCompromise"]);
    let error = pki.release(&serial, NOW).unwrap_err();
    assert!(error.to_string().contains("revoked for good"), "{error}");

    // A hold of Easy-RSA's is lifted, too; and one may become final.
    let garage = pki.certificate(&name("tasmota_garage")).unwrap().unwrap().serial();
    easyrsa(&path, &[], &["revoke", "tasmota_garage", "certificateHold"]);
    pki.release(&garage, NOW).unwrap();
    pki.revoke(&garage, RevocationReason::CertificateHold, NOW).unwrap();
    let later = NOW + Duration::days(1);
    let revoked = pki.revoke(&garage, RevocationReason::KeyCompromise, later).unwrap();
    assert_eq!((revoked.already, revoked.at), (false, later));
    let again = pki.revoke(&garage, RevocationReason::CertificateHold, later).unwrap();
    assert_eq!((again.already, again.reason), (true, RevocationReason::KeyCompromise));
    assert!(pki.release(&garage, NOW).is_err());
}

#[test]
fn a_released_certificate_whose_name_has_gone_to_another_is_set_aside_with_its_key() {
    let (_dir, path, authority) = unlocked("easyrsa-pki");
    let pki = authority.pki();
    let kitchen = pki.certificate(&name("tasmota_kitchen")).unwrap().unwrap();
    pki.revoke(&kitchen.serial(), RevocationReason::CertificateHold, NOW).unwrap();
    let request = IssueRequest::new(Profile::Tasmota, name("tasmota_kitchen"), KeyStorage::Plain);
    let newer = authority.issue(&request, NOW).unwrap().certificate;
    pki.release(&kitchen.serial(), NOW).unwrap();
    assert_eq!(pki.certificate(&name("tasmota_kitchen")).unwrap().unwrap(), newer);
    assert_eq!(pki.certificate_by_serial(&kitchen.serial()).unwrap().unwrap(), kitchen);
    assert!(path.join("renewed/issued/tasmota_kitchen.crt").exists());
    assert!(path.join("renewed/private/tasmota_kitchen.key").exists());
    let entries = pki.entries().unwrap();
    let entry = entries.iter().find(|entry| entry.serial == kitchen.serial()).unwrap();
    assert_eq!(entry.state, EntryState::Valid);
    easyrsa(&path, &[], &["revoke-renewed", "tasmota_kitchen", "superseded"]);
    assert_eq!(
        pki.private_key(&name("tasmota_kitchen"), &test_pass()).unwrap().public_key_der(),
        newer.public_key_der()
    );
}

#[test]
fn the_revocation_list_says_until_when_it_is_good() {
    let (_dir, path, authority) = unlocked("easyrsa-pki");
    let pki = authority.pki();
    authority.publish_crl(NOW).unwrap();
    let status = pki.crl_status(NOW).unwrap().unwrap();
    assert_eq!((status.number, status.revoked, status.problems.len()), (Some(1), 1, 0));
    assert_eq!(status.next_update, Some(NOW + Duration::days(180)));
    for (days, expected) in [(149, ""), (151, "is good until"), (181, "is over since")] {
        let problems = pki.crl_status(NOW + Duration::days(days)).unwrap().unwrap().problems;
        assert_eq!(problems.is_empty(), expected.is_empty(), "{days}");
        assert!(problems.iter().all(|problem| problem.contains(expected)), "{problems:?}");
    }
    pki.revoke(
        &pki.certificate(&name("tasmota_garage")).unwrap().unwrap().serial(),
        RevocationReason::Superseded,
        NOW,
    )
    .unwrap();
    let problems = pki.crl_status(NOW).unwrap().unwrap().problems;
    assert!(problems[0].contains("lacks 1 revoked"), "{problems:?}");
    fs::remove_file(path.join("crl.pem")).unwrap();
    assert_eq!(pki.crl_status(NOW).unwrap(), None);
}
