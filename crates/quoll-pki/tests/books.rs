//! Revocation, CRLs, interruptions and several writers at once: the books stay right.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod common;

use std::{fs, path::Path, thread};

use common::*;
use quoll_pki::{Certificate, IfTaken, IssueRequest, KeyStorage, Pki, PkiError, Profile, RevocationReason};

/// Makes the write of `file` fail, as an interruption just before it would: its temporary name is a folder.
fn block(path: &Path, file: &str) -> std::path::PathBuf {
    let file = path.join(file);
    let temporary = format!(".{}.quoll-new", file.file_name().unwrap().to_str().unwrap());
    let obstacle = file.with_file_name(temporary);
    fs::create_dir(&obstacle).unwrap();
    obstacle
}

#[test]
fn an_issue_interrupted_at_any_write_is_finished_by_the_next() {
    for supersede in [false, true] {
        let cn = if supersede { "tasmota_kitchen" } else { "tasmota_new" };
        let files = [format!("issued/{cn}.crt"), format!("reqs/{cn}.req"), format!("private/{cn}.key")];
        for (step, file) in files.iter().map(String::as_str).chain(["index.txt.old", "index.txt"]).enumerate()
        {
            let (_dir, path, authority) = unlocked("easyrsa-pki");
            let mut request = IssueRequest::new(Profile::Tasmota, name(cn), KeyStorage::Plain);
            request.if_taken = if supersede { IfTaken::Supersede } else { IfTaken::Refuse };
            let before = authority.pki().entries().unwrap();
            let obstacle = block(&path, file);
            let error = authority.issue(&request, NOW).unwrap_err();
            assert!(matches!(error, PkiError::Io { .. }), "{file}: {error}");
            assert_eq!(authority.pki().entries().unwrap(), before, "{file}: index.txt is written last");
            easyrsa(&path, &[], &["gen-crl"]);
            fs::remove_dir(obstacle).unwrap();

            let there = fs::read(path.join(format!("issued/{cn}.crt"))).ok();
            let orphan = there.map(|pem| Certificate::from_pem(&pem).unwrap());
            let orphan = orphan.filter(|there| before.iter().all(|entry| entry.serial != there.serial()));
            let told = authority.pki().certificate(&request.name).unwrap();
            assert!(told.is_none() || told != orphan, "{file}: nobody takes it for a certificate");
            assert_eq!(orphan.is_some(), step > 0, "{file}");
            let issued = authority.issue(&request, NOW).unwrap();
            let pki = authority.pki();
            assert_eq!(pki.certificate(&request.name).unwrap().unwrap(), issued.certificate, "{file}");
            let key = pki.private_key(&request.name, &test_pass()).unwrap();
            assert_eq!(key.ec_scalar(), issued.key.ec_scalar(), "{file}");
            // What lay around was signed, so a copy of it may exist: it is revoked, not forgotten.
            if let Some(orphan) = orphan {
                assert!(pki.revoked_serials().unwrap().contains(&orphan.serial()), "{file}");
                assert!(!path.join(format!("certs_by_serial/{}.pem", orphan.serial())).exists());
                assert_eq!(pki.certificate_by_serial(&orphan.serial()).unwrap().unwrap(), orphan);
            }
            if supersede {
                let old = serial("E674236461A717910E0AD7EFAC6A3C56");
                assert_eq!(pki.certificate_by_serial(&old).unwrap().unwrap().subject_cn(), Some(cn));
                let key = fs::read(path.join("renewed/private/tasmota_kitchen.key")).unwrap();
                let fixture = fixtures().join("easyrsa-pki/private/tasmota_kitchen.key");
                assert!(key == fs::read(fixture).unwrap(), "{file}: the old key is set aside");
            }
            assert!(!path.join(".quoll-issuing").exists());
            easyrsa(&path, &[], &["gen-crl"]);
        }
    }
}

#[test]
fn a_renewal_interrupted_at_any_write_never_leaves_the_server_without() {
    let server = name("mqtt.myorg.com");
    for file in
        ["renewed/issued/mqtt.myorg.com.crt", "issued/mqtt.myorg.com.crt", "index.txt.old", "index.txt"]
    {
        let (_dir, path, authority) = unlocked("easyrsa-pki");
        fs::create_dir_all(path.join("renewed/issued")).unwrap();
        let obstacle = block(&path, file);
        authority.renew_server(&server, None, NOW).unwrap_err();
        let usable = authority.pki().certificate(&server).unwrap().unwrap();
        fs::remove_dir(obstacle).unwrap();
        // Whatever writes next puts it in order; here a revocation of something else.
        let lost = serial("A56CD53990E670AC25CE4D3584C40BD7");
        authority.pki().revoke(&lost, RevocationReason::Unspecified, NOW).unwrap();
        let entries = authority.pki().entries().unwrap();
        assert!(
            entries.iter().any(|entry| entry.serial == usable.serial() && entry.is_valid_at(NOW)),
            "{file}"
        );
        let renewed = authority.renew_server(&server, None, NOW).unwrap();
        assert_eq!(renewed.previous, usable.serial());
        assert_eq!(authority.pki().certificate(&server).unwrap().unwrap(), renewed.certificate);
        easyrsa(&path, &[], &["gen-crl"]);
    }
}

#[test]
fn a_note_that_is_cut_off_or_done_with_is_forgotten() {
    let kitchen = "revoke E674236461A717910E0AD7EFAC6A3C56 tasmota_kitchen\n";
    for note in ["", "revoke", "revoke E6", "x y z\n", "revoke E6 ../../x\n", kitchen] {
        let (_dir, path, authority) = unlocked("easyrsa-pki");
        fs::write(path.join(".quoll-issuing"), note).unwrap();
        authority.issue(&device("tasmota_new"), NOW).unwrap();
        assert!(!path.join(".quoll-issuing").exists());
        assert_eq!(authority.pki().revoked_serials().unwrap().len(), 1, "{note}");
    }
}

#[test]
fn a_certificate_that_an_old_index_has_forgotten_is_not_thrown_away() {
    let (_dir, path, authority) = unlocked("easyrsa-pki");
    let index = fs::read_to_string(path.join("index.txt")).unwrap();
    let forgotten = index.lines().filter(|line| !line.contains("kitchen")).map(|line| format!("{line}\n"));
    fs::write(path.join("index.txt"), forgotten.collect::<String>()).unwrap();
    let error = authority.issue(&device("tasmota_kitchen"), NOW).unwrap_err();
    assert!(error.to_string().contains("that index.txt does not know"), "{error}");
    assert!(path.join("private/tasmota_kitchen.key").exists());
}

#[test]
fn every_certificate_of_easy_rsa_3_2_can_be_revoked() {
    let (_dir, path) = copy_of("easyrsa-pki-3.2");
    let pki = Pki::open(&path).unwrap();
    for entry in pki.entries().unwrap() {
        let cn = entry.common_name().unwrap();
        let revoked = pki.revoke(&entry.serial, RevocationReason::CessationOfOperation, NOW).unwrap();
        assert_eq!((revoked.common_name.as_ref(), revoked.already), (Some(&cn), cn == "tasmota_lost"));
        for (folder, ending) in [("certs", "crt"), ("private", "key"), ("reqs", "req")] {
            let file = path.join(format!("revoked/{folder}_by_serial/{}.{ending}", entry.serial));
            assert!(file.exists(), "{cn}: {}", file.display());
        }
    }
    for folder in ["issued", "expired", "reqs", "certs_by_serial", "inline/private"] {
        assert_eq!(fs::read_dir(path.join(folder)).unwrap().count(), 0, "{folder}");
    }
    let left = fs::read_dir(path.join("private")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["ca.key"]);
}

#[test]
fn a_revocation_killed_at_any_point_is_finished_by_the_next() {
    let kitchen = serial("E674236461A717910E0AD7EFAC6A3C56");
    let moves = ["private/tasmota_kitchen.key", "reqs/tasmota_kitchen.req", "issued/tasmota_kitchen.crt"];
    let targets = ["private_by_serial", "reqs_by_serial", "certs_by_serial"]
        .map(|folder| format!("revoked/{folder}/{kitchen}"));
    for done in 0..=3 {
        let (_dir, path) = copy_of("easyrsa-pki");
        let index = fs::read_to_string(path.join("index.txt")).unwrap();
        let line = "V\t311027123244Z\t\tE674";
        let revoked = index.replace(line, "R\t311027123244Z\t261130000000Z,keyCompromise\tE674");
        fs::write(path.join("index.txt"), revoked).unwrap();
        for step in 0..done {
            let ending = ["key", "req", "crt"][step];
            fs::rename(path.join(moves[step]), path.join(format!("{}.{ending}", targets[step]))).unwrap();
        }
        let pki = Pki::open(&path).unwrap();
        let told = pki.revoke(&kitchen, RevocationReason::Superseded, NOW).unwrap();
        assert!(told.already && told.reason == RevocationReason::KeyCompromise);
        for (target, ending) in targets.iter().zip(["key", "req", "crt"]) {
            assert!(path.join(format!("{target}.{ending}")).exists(), "{done} {target}");
        }
        assert!(moves.iter().all(|file| !path.join(file).exists()));
        assert!(!path.join(format!("certs_by_serial/{kitchen}.pem")).exists());
    }
}

#[test]
fn several_at_once_wait_for_each_other() {
    let (_dir, path, authority) = unlocked("easyrsa-pki");
    let authority = &authority;
    // Half of them through a folder opened separately, as another process would.
    let second = Pki::open(&path).unwrap().unlock(&test_pass()).unwrap();
    thread::scope(|scope| {
        for worker in 0..6 {
            let authority = if worker % 2 == 0 { authority } else { &second };
            scope.spawn(move || {
                for number in 0..4 {
                    let issued = authority.issue(&device(&format!("t{worker}-{number}")), NOW).unwrap();
                    if number % 2 == 0 {
                        authority
                            .pki()
                            .revoke(&issued.certificate.serial(), RevocationReason::Superseded, NOW)
                            .unwrap();
                    }
                    authority.publish_crl(NOW).unwrap();
                }
            });
        }
    });
    let pki = authority.pki();
    assert_eq!(pki.entries().unwrap().len(), 4 + 24);
    assert_eq!(pki.revoked_serials().unwrap().len(), 1 + 12);
    assert!(!pki.crl_is_behind(NOW).unwrap());
    let text = openssl_ok(&["crl", "-in", text_of(&path.join("crl.pem")), "-noout", "-text"]);
    assert!(text.contains("X509v3 CRL Number: \n                24\n"), "{text}");
    assert_eq!(text.matches("Serial Number:").count(), 13);
}

#[test]
fn a_crl_says_what_openssl_would_say() {
    let (_dir, path, authority) = unlocked("easyrsa-pki-3.2");
    let pki = authority.pki();
    assert!(!pki.crl_is_behind(NOW).unwrap());
    for (cn, reason) in
        [("tasmota_kitchen", RevocationReason::Superseded), ("tasmota_garage", RevocationReason::Unspecified)]
    {
        let serial = pki.certificate(&name(cn)).unwrap().unwrap().serial();
        pki.revoke(&serial, reason, NOW).unwrap();
        assert!(pki.crl_is_behind(NOW).unwrap());
    }
    let kitchen_inline = path.join("inline/private/tasmota_kitchen.inline");
    assert!(!kitchen_inline.exists(), "it held certificate and key");
    authority.publish_crl(NOW).unwrap();
    assert!(!pki.crl_is_behind(NOW).unwrap());
    let entries = |text: &str| {
        let text = &text[text.find("Revoked Certificates").unwrap()
            ..text.find("Signature Algorithm: sha256WithRSAEncryption\n    Signature V").unwrap()];
        text.to_owned()
    };
    let show = || openssl_ok(&["crl", "-in", text_of(&path.join("crl.pem")), "-noout", "-text"]);
    let ours = show();
    assert!(ours.contains("Next Update: May 30 12:00:00 2027 GMT"), "{ours}");
    let ca = path.join("ca.crt");
    let verified =
        openssl_ok(&["crl", "-in", text_of(&path.join("crl.pem")), "-noout", "-CAfile", text_of(&ca)]);
    assert!(verified.contains("verify OK"), "{verified}");
    let der =
        openssl_ok(&["crl", "-inform", "DER", "-in", text_of(&path.join("crl.der")), "-noout", "-text"]);
    assert_eq!(der, ours, "crl.der follows");
    fs::copy(fixtures().join("easyrsa-pki/openssl-easyrsa.cnf"), path.join("openssl-easyrsa.cnf")).unwrap();
    easyrsa(&path, &[], &["gen-crl"]);
    // OpenSSL says "unspecified" where RFC 5280 wants silence.
    let theirs = show().replace("            CRL entry extensions:\n            X509v3 CRL Reason Code: \n                Unspecified\n", "");
    let silent = |text: &str| {
        text.lines()
            .filter(|line| !line.contains("entry extensions"))
            .map(str::trim)
            .collect::<Vec<_>>()
            .join("\n")
            .replace("X509v3 CRL Reason Code:\nUnspecified\n", "")
    };
    assert_eq!(silent(&entries(&ours)), silent(&entries(&theirs)));
    fs::write(path.join("crl.pem"), "garbage").unwrap();
    assert!(pki.crl_is_behind(NOW).unwrap());
    fs::remove_file(path.join("crl.pem")).unwrap();
    assert!(pki.crl_is_behind(NOW).unwrap());
}
