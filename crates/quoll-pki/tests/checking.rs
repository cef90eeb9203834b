//! What a check says of the fixture trees, of folders that contradict themselves and of certificates that devices refuse;
//! and the CA's key encrypted anew.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod common;

use std::{fs, path::Path};

use common::*;
use quoll_pki::{
    CertificateState, Chain, CheckedCertificate, FolderCheck, KeyProtection, Passphrase, Pki, PkiError,
    RevocationReason, fitness::Who,
};
use time::Duration;

fn check(path: &Path) -> FolderCheck {
    Pki::open(path).unwrap().check(NOW).unwrap()
}

#[track_caller]
fn row<'a>(check: &'a FolderCheck, name: &str) -> &'a CheckedCertificate {
    let named = |row: &&CheckedCertificate| row.name.as_deref() == Some(name);
    check.certificates.iter().find(named).unwrap_or_else(|| panic!("no {name} in {check:#?}"))
}

#[track_caller]
fn says(row: &CheckedCertificate, what: &str, next: &str) {
    let found = row.problems.iter().any(|problem| {
        problem.what.contains(what) && problem.next.as_deref().is_some_and(|found| found.contains(next))
    });
    assert!(found, "{what} / {next}: {:#?}", row.problems);
}

#[test]
fn the_tree_of_3_1_is_sound_but_for_the_ca_key_under_3des() {
    let (_dir, path) = copy_of("easyrsa-pki");
    let check = check(&path);
    assert_eq!(check.certificates.len(), 5, "the CA and the four of index.txt");
    let ca = &check.certificates[0];
    assert_eq!((ca.profile, ca.chain, ca.file.as_deref()), (Some("ca"), Chain::Signed, Some("ca.crt")));
    says(ca, "3DES-CBC (CVE-2024-13454)", "quoll ca reencrypt");
    let encrypted =
        |cipher| KeyProtection::Encrypted { cipher, derivation: "PBKDF2-SHA256", rounds: Some(2048) };
    assert_eq!(ca.key, Some(encrypted("3DES-CBC")));
    let server = row(&check, "mqtt.myorg.com");
    assert_eq!((server.profile, server.state), (Some("server"), CertificateState::Valid));
    assert_eq!(server.misfits.as_deref(), Some(&[][..]));
    for name in ["mqtt.myorg.com", "tasmota_kitchen", "tasmota_garage"] {
        let row = row(&check, name);
        assert!(row.problems.is_empty(), "{row:#?}");
        assert_eq!(row.misfits.as_deref(), Some(&[][..]), "{name}");
        assert_eq!((row.key.clone(), row.chain), (Some(encrypted("3DES-CBC")), Chain::Signed), "{name}");
    }
    let lost = row(&check, "tasmota_lost");
    assert_eq!(lost.state, CertificateState::Revoked(RevocationReason::KeyCompromise));
    assert!(lost.file.as_deref().unwrap().starts_with("revoked/certs_by_serial/"));
    assert_eq!(lost.key, Some(encrypted("3DES-CBC")), "its key is put away with it");
    assert_eq!(check.problems, []);
}

#[test]
fn in_the_tree_of_3_2_what_was_expired_by_hand_and_the_missing_san_are_told() {
    let (_dir, path) = copy_of("easyrsa-pki-3.2");
    let check = check(&path);
    says(row(&check, "tasmota_old"), "index.txt says it is not over", "quoll ca revoke C00177AB");
    says(row(&check, "mqtt.myorg.com"), "no subjectAltName", "quoll ca renew mqtt.myorg.com");
    says(&check.certificates[0], "2048 rounds only", "quoll ca reencrypt");
    assert!(row(&check, "tasmota_renewed").problems.is_empty());
    assert_eq!(row(&check, "tasmota_old").file.as_deref(), Some("expired/tasmota_old.crt"));
}

#[test]
fn index_and_files_that_contradict_each_other_are_told_apart() {
    let (_dir, path) = copy_of("easyrsa-pki");
    let kitchen = "E674236461A717910E0AD7EFAC6A3C56";
    let garage = fs::read_dir(path.join("certs_by_serial")).unwrap().count();
    assert_eq!(garage, 3);
    let index = || fs::read_to_string(path.join("index.txt")).unwrap();
    let original = index();
    let with = |change: &dyn Fn()| {
        change();
        let check = check(&path);
        fs::write(path.join("index.txt"), &original).unwrap();
        check
    };
    let rewrite = |from: &str, to: &str| {
        let changed = index().replace(from, to);
        assert_ne!(changed, original);
        fs::write(path.join("index.txt"), changed).unwrap();
    };
    let line = original.lines().find(|line| line.contains(kitchen)).unwrap().to_owned();

    let found = with(&|| rewrite(&format!("{line}\n"), ""));
    let kitchen_row = row(&found, "tasmota_kitchen");
    assert_eq!(kitchen_row.state, CertificateState::Unlisted);
    says(kitchen_row, "index.txt does not know it", &line);

    let revoked = line.replace("V\t", "R\t").replace("\t\t", "\t261201000000Z,superseded\t");
    let found = with(&|| rewrite(&line, &revoked));
    says(row(&found, "tasmota_kitchen"), "revoked, but issued/tasmota_kitchen.crt is still there", kitchen);

    let found = with(&|| rewrite(&line, &line.replace("V\t31", "V\t32")));
    says(row(&found, "tasmota_kitchen"), "it ends on 2032", "correct the line");

    let found = with(&|| rewrite(&line, &line.replace("O=myorg", "O=other")));
    says(row(&found, "tasmota_kitchen"), "its file says otherwise", "correct the line");

    let found = with(&|| {
        fs::remove_file(path.join("issued/tasmota_garage.crt")).unwrap();
        fs::write(path.join("issued/broken.crt"), "hello").unwrap();
    });
    let garage = row(&found, "tasmota_garage");
    assert!(garage.file.as_deref().unwrap().starts_with("certs_by_serial/"), "its copy is found");
    assert!(found.problems.iter().any(|problem| problem.what.contains("issued/broken.crt cannot be read")));
    fs::remove_file(path.join(garage.file.as_ref().unwrap())).unwrap();
    let found = check(&path);
    assert_eq!(row(&found, "tasmota_garage").chain, Chain::NoFile);
    says(row(&found, "tasmota_garage"), "there is no file of it", "certs_by_serial/");

    fs::copy(fixtures().join("easyrsa-pki-3.2/issued/tasmota_garage.crt"), path.join("issued/stray.crt"))
        .unwrap();
    fs::copy(path.join("private/tasmota_kitchen.key"), path.join("private/mqtt.myorg.com.key")).unwrap();
    let decrypted = path.join("private/tasmota_kitchen.key");
    let plain = fixtures().join("tlskeys/tasmota_garage.key.pem");
    fs::copy(plain, &decrypted).unwrap();
    let found = check(&path);
    let stray =
        found.certificates.iter().find(|row| row.file.as_deref() == Some("issued/stray.crt")).unwrap();
    assert_eq!(stray.chain, Chain::BadSignature, "the same name, another key");
    says(row(&found, "tasmota_kitchen"), "private/tasmota_kitchen.key is not its key", "backup");
}

#[test]
fn names_and_keys_that_are_there_twice_are_told() {
    let (_dir, path, authority) = unlocked("easyrsa-pki");
    let first = row(&check(&path), "tasmota_kitchen").serial.clone();
    authority.renew(&name("tasmota_kitchen"), &quoll_pki::Renewal::default(), NOW).unwrap();
    let key = authority.pki().private_key(&name("tasmota_kitchen"), &test_pass()).unwrap();
    let mut twin = device("tasmota_twin");
    twin.key = quoll_pki::KeySource::Existing(key);
    authority.issue(&twin, NOW).unwrap();
    let found = check(&path);
    let old = found.certificates.iter().find(|row| row.serial == first).unwrap();
    says(old, "a newer one of this name", &format!("quoll ca revoke {first} --reason superseded"));
    assert!(old.key.is_some(), "the key that both have is found");
    says(row(&found, "tasmota_twin"), "the same key as tasmota_kitchen", "keys of their own");
}

/// Certificates that openssl makes under the fixture's CA, and who stumbles over each (facts §3.3, §3.4).
#[test]
fn a_serial_number_that_openssl_could_not_read_or_find_is_told() {
    for (change, told, openssl_says) in [
        (
            &|serial: &str| serial.to_ascii_lowercase() as String,
            "Easy-RSA does not find it",
            "Adding Entry with serial number",
        ),
        (&|serial: &str| format!("0{serial}"), "bad serial number length", "bad serial number length"),
    ] as [(&dyn Fn(&str) -> String, &str, &str); 2]
    {
        let (_dir, path) = copy_of("easyrsa-pki");
        let index = path.join("index.txt");
        let text = fs::read_to_string(&index).unwrap();
        let certificate = openssl_ok(&[
            "x509",
            "-noout",
            "-serial",
            "-in",
            text_of(&path.join("issued/tasmota_kitchen.crt")),
        ]);
        let serial = certificate.trim().strip_prefix("serial=").unwrap();
        assert!(serial.bytes().any(|octet| octet.is_ascii_alphabetic()) && text.contains(serial));
        fs::write(&index, text.replace(serial, &change(serial))).unwrap();
        let found = check(&path);
        let row = found.certificates.iter().find(|row| row.serial.to_string() == serial).unwrap();
        says(row, told, &format!("write {serial} in that line"));
        // Quoll revokes it all the same, and leaves the spelling alone.
        let pki = Pki::open(&path).unwrap();
        pki.revoke(&row.serial, RevocationReason::KeyCompromise, NOW).unwrap();
        assert!(fs::read_to_string(&index).unwrap().contains(&change(serial)));

        // So it is for Easy-RSA: all acts refused, or a second line for the same certificate.
        let (_dir, path) = copy_of("easyrsa-pki");
        fs::write(path.join("index.txt"), text.replace(serial, &change(serial))).unwrap();
        let (_, said) = easyrsa_with(&path, "test", &[], &["revoke", "tasmota_kitchen"]);
        assert!(said.contains(openssl_says), "{said}");
    }
    // Leading zeros in pairs are the same to OpenSSL.
    let (_dir, path) = copy_of("easyrsa-pki");
    let index = path.join("index.txt");
    let text = fs::read_to_string(&index).unwrap();
    let serial = text.split('\t').nth(3).unwrap().to_owned();
    fs::write(&index, text.replacen(&serial, &format!("00{serial}"), 1)).unwrap();
    assert!(!check(&path).all_problems().any(|(_, problem)| problem.what.contains("its serial number")));
}

#[test]
fn every_refusal_of_a_device_is_foretold() {
    let (dir, path) = copy_of("easyrsa-pki");
    let at = |file: &str| dir.path().join(file);
    let ca_key = at("ca.plain");
    openssl_ok(&[
        "pkey",
        "-in",
        text_of(&path.join("private/ca.key")),
        "-passin",
        "pass:test",
        "-out",
        text_of(&ca_key),
    ]);
    let rsa = |bits: &str| vec!["rsa".to_owned(), "-pkeyopt".into(), format!("rsa_keygen_bits:{bits}")];
    let ec = |curve: &str| vec!["ec".to_owned(), "-pkeyopt".into(), format!("ec_paramgen_curve:{curve}")];
    const SERVER: &str = "extendedKeyUsage=serverAuth\nkeyUsage=digitalSignature\n";
    let cases = [
        (
            "good",
            rsa("2048"),
            "sha256",
            format!("{SERVER}subjectAltName=DNS:x,DNS:10.0.0.1,IP:10.0.0.1"),
            vec![],
        ),
        ("no SAN", rsa("2048"), "sha256", SERVER.to_owned(), vec![]),
        ("large", rsa("3072"), "sha256", SERVER.to_owned(), vec![(Who::Esp8266, "RSA-3072")]),
        (
            "ec",
            ec("P-256"),
            "sha256",
            SERVER.to_owned(),
            vec![(Who::WithoutEcdsa, "EC"), (Who::Fingerprint, "EC")],
        ),
        ("p384", ec("P-384"), "sha256", SERVER.to_owned(), vec![(Who::EveryDevice, "P-384")]),
        ("sha384", rsa("2048"), "sha384", SERVER.to_owned(), vec![(Who::CaMode, "SHA-384")]),
        (
            "critical",
            rsa("2048"),
            "sha256",
            "extendedKeyUsage=critical,serverAuth".to_owned(),
            vec![(Who::CaMode, "error 57")],
        ),
        (
            "foreign",
            rsa("2048"),
            "sha256",
            format!("{SERVER}1.2.3.4=critical,DER:0500"),
            vec![(Who::CaMode, "1.2.3.4 is critical")],
        ),
        (
            "no signing",
            rsa("2048"),
            "sha256",
            "extendedKeyUsage=serverAuth\nkeyUsage=keyEncipherment".to_owned(),
            vec![(Who::CaMode, "error 28")],
        ),
        (
            "ip",
            rsa("2048"),
            "sha256",
            format!("{SERVER}subjectAltName=DNS:x,IP:10.0.0.1"),
            vec![(Who::CaMode, "10.0.0.1 is an iPAddress and no dNSName (error 56)")],
        ),
        ("device", ec("P-256"), "sha256", "keyUsage=digitalSignature".to_owned(), vec![]),
        (
            "rsa device",
            rsa("2048"),
            "sha256",
            String::new(),
            vec![(Who::EveryDevice, "a device holds EC P-256")],
        ),
        (
            "large device",
            ec("P-256"),
            "sha256",
            format!("nsComment={}", "x".repeat(600)),
            vec![(Who::EveryDevice, "891 at most")],
        ),
        (
            "mute device",
            ec("P-256"),
            "sha256",
            "keyUsage=keyAgreement".to_owned(),
            vec![(Who::Brokers, "digitalSignature")],
        ),
    ];
    for (number, (cn, key, hash, extensions, _)) in cases.iter().enumerate() {
        let (key_file, request, out, config) = (at("k"), at("r"), at("c"), at("e"));
        let mut make = vec!["genpkey", "-out", text_of(&key_file), "-algorithm"];
        make.extend(key.iter().map(String::as_str));
        openssl_ok(&make);
        openssl_ok(&[
            "req",
            "-new",
            "-key",
            text_of(&key_file),
            "-out",
            text_of(&request),
            "-subj",
            &format!("/CN={cn}"),
        ]);
        // An empty section would make openssl write a certificate of version 1.
        fs::write(&config, format!("basicConstraints=CA:FALSE\n{extensions}\n")).unwrap();
        let serial = format!("0x{:02X}", number + 16);
        openssl_ok(&[
            "x509",
            "-req",
            "-in",
            text_of(&request),
            "-CA",
            text_of(&path.join("ca.crt")),
            "-CAkey",
            text_of(&ca_key),
            &format!("-{hash}"),
            "-set_serial",
            &serial,
            "-days",
            "900",
            "-extfile",
            text_of(&config),
            "-out",
            text_of(&out),
        ]);
        fs::copy(out, path.join(format!("issued/{}.crt", cn.replace(' ', "_")))).unwrap();
    }
    let found = Pki::open(&path).unwrap().check(NOW + Duration::days(1)).unwrap();
    for (cn, _, _, _, expected) in cases {
        let row = row(&found, cn);
        assert_eq!(row.chain, Chain::Signed, "{cn}");
        let misfits = row.misfits.clone().unwrap();
        assert_eq!(misfits.len(), expected.len(), "{cn}: {misfits:?}");
        for (who, why) in expected {
            assert!(
                misfits.iter().any(|misfit| misfit.who == who && misfit.why.contains(why)),
                "{cn}: {misfits:?}"
            );
        }
    }
}

#[test]
fn a_ca_key_is_encrypted_anew_and_opens_in_easy_rsa() {
    for new in ["test", "two  words", "$HOME & `id`", "schlüßel-ключ", "it's \"quoted\" \\ 100%"] {
        let (_dir, path) = copy_of("easyrsa-pki");
        let pki = Pki::open(&path).unwrap();
        let before = fs::read(path.join("private/ca.key")).unwrap();
        let error = pki.reencrypt_ca_key(&Passphrase::new("wrong"), &Passphrase::new(new)).unwrap_err();
        assert!(matches!(error, PkiError::WrongPassphrase { .. }), "{error}");
        assert!(matches!(
            pki.reencrypt_ca_key(&test_pass(), &Passphrase::new("abc")),
            Err(PkiError::UnusablePassphrase)
        ));
        assert!(fs::read(path.join("private/ca.key")).unwrap() == before, "nothing was changed");
        let was = pki.reencrypt_ca_key(&test_pass(), &Passphrase::new(new)).unwrap();
        assert!(was.to_string().starts_with("3DES-CBC"), "{was}");
        let is = pki.ca_key_protection().unwrap().unwrap();
        assert_eq!(is.to_string(), "AES-256-CBC, PBKDF2-SHA256, 600000 rounds");
        assert_eq!(is.weakness(), None);
        let (ok, said) = easyrsa_with(&path, new, &[], &["gen-crl"]);
        assert!(ok, "{new}: {said}");
        pki.unlock(&Passphrase::new(new)).unwrap();
        assert!(!path.join("private/ca.key.quoll-proof").exists());
    }
}

#[test]
fn key_formats_that_are_not_read_are_named_with_the_command_that_converts_them() {
    let (_dir, path) = copy_of("easyrsa-pki");
    let key = path.join("private/ca.key");
    let plain = path.join("plain");
    openssl_ok(&["pkey", "-in", text_of(&key), "-passin", "pass:test", "-out", text_of(&plain)]);
    openssl_ok(&[
        "rsa",
        "-traditional",
        "-aes256",
        "-in",
        text_of(&plain),
        "-passout",
        "pass:test",
        "-out",
        text_of(&key),
    ]);
    let found = check(&path);
    let problem = &found.certificates[0].problems[0];
    assert!(problem.what.contains("Proc-Type: 4,ENCRYPTED"), "{problem:?}");
    let command = problem.next.clone().unwrap();
    assert!(command.starts_with("openssl pkcs8 -topk8"), "{command}");
    // The command named does convert it.
    let words: Vec<_> = command.split(" (").next().unwrap().split(' ').skip(1).collect();
    openssl_ok(&[&words[..], &["-passin", "pass:test", "-passout", "pass:test"]].concat());
    fs::rename(path.join("private/ca.key.new"), &key).unwrap();
    Pki::open(&path).unwrap().unlock(&test_pass()).unwrap();

    fs::copy(&plain, &key).unwrap();
    says(&check(&path).certificates[0], "not encrypted", "quoll ca reencrypt");
    Pki::open(&path).unwrap().reencrypt_ca_key(&Passphrase::new("unused"), &test_pass()).unwrap();
    Pki::open(&path).unwrap().unlock(&test_pass()).unwrap();
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_the_rest_is_looked_at() {
    let (_dir, path) = copy_of("easyrsa-pki");
    let count = Pki::open(&path).unwrap().check(NOW).unwrap().certificates.len();
    fs::create_dir(path.join("issued/folder.crt")).unwrap();
    fs::File::create(path.join("issued/huge.crt")).unwrap().set_len(3 << 30).unwrap();
    let pipe = path.join("issued/pipe.crt");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let pki = Pki::open(&path).unwrap();
    let check = pki.check(NOW).unwrap();
    assert_eq!(check.certificates.len(), count);
    for file in ["issued/folder.crt", "issued/huge.crt", "issued/pipe.crt"] {
        let told = check.problems.iter().find(|problem| problem.what.contains(file));
        assert!(told.is_some_and(|told| told.next.is_some()), "{file}: {:?}", check.problems);
    }
    // A renewal of the CA must have seen every certificate.
    let authority = pki.unlock(&test_pass()).unwrap();
    assert!(authority.extend_ca(None, NOW).is_err());
    for file in ["issued/huge.crt", "issued/pipe.crt"] {
        fs::remove_file(path.join(file)).unwrap();
    }
    fs::remove_dir(path.join("issued/folder.crt")).unwrap();
    authority.extend_ca(None, NOW).unwrap();
}
