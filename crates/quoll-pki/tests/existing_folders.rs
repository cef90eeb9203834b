//! Opening what Easy-RSA made: both fixture trees, their keys, and folders that are half there.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod common;

use std::fs;

use common::*;
use quoll_pki::{
    EntryState, IssueRequest, KeyKind, KeyStorage, Passphrase, Pki, PkiError, Profile, RevocationReason,
};
use time::macros::datetime;

#[test]
fn the_tree_of_easy_rsa_3_1_is_read_as_its_readme_says() {
    let pki = Pki::open(&fixtures().join("easyrsa-pki")).unwrap();
    assert_eq!(pki.ca().subject_cn(), Some("Easy-RSA CA"));
    assert_eq!(pki.ca().der().len(), 1184);
    assert!(pki.ca().is_ca());
    let expected =
        [('V', "mqtt.myorg.com"), ('V', "tasmota_kitchen"), ('V', "tasmota_garage"), ('R', "tasmota_lost")];
    assert_eq!(listing(&pki), expected.map(|(state, name)| (state, name.to_owned())));

    let lost = serial("A56CD53990E670AC25CE4D3584C40BD7");
    assert_eq!(pki.revoked_serials().unwrap(), std::slice::from_ref(&lost));
    let entries = pki.entries().unwrap();
    let (at, reason) = (datetime!(2026-11-22 12:32:45 UTC), RevocationReason::KeyCompromise);
    assert_eq!(entries[3].state, EntryState::Revoked { at, reason });
    assert!(pki.certificate(&name("tasmota_lost")).unwrap().is_none());
    assert_eq!(pki.certificate_by_serial(&lost).unwrap().unwrap().subject_cn(), Some("tasmota_lost"));
    assert!(pki.certificate_by_serial(&serial("01")).unwrap().is_none());

    for (cn, size) in [("mqtt.myorg.com", 1228), ("tasmota_kitchen", 816), ("tasmota_garage", 814)] {
        let certificate = pki.certificate(&name(cn)).unwrap().unwrap();
        assert_eq!(certificate.subject_cn(), Some(cn));
        assert_eq!(certificate.der().len(), size, "{cn}");
        assert_eq!(certificate.issuer_der(), pki.ca().subject_der());
        let entry = entries.iter().find(|entry| entry.serial == certificate.serial()).unwrap();
        assert_eq!(entry.not_after, certificate.not_after());
        assert_eq!(pki.certificate_by_serial(&entry.serial).unwrap().unwrap(), certificate);
    }
    assert!(!pki.crl_is_behind(NOW).unwrap());
    assert!(pki.crl_is_behind(datetime!(2027-05-21 13:00 UTC)).unwrap(), "nextUpdate is past");
}

#[test]
fn the_tree_of_easy_rsa_3_2_is_read_as_its_readme_says() {
    let pki = Pki::open(&fixtures().join("easyrsa-pki-3.2")).unwrap();
    let listing = listing(&pki);
    assert_eq!(listing.len(), 6);
    for (state, cn) in &listing {
        assert_eq!(*state, if cn == "tasmota_lost" { 'R' } else { 'V' }, "{cn}");
    }
    let old = name("tasmota_old");
    assert!(pki.certificate(&old).unwrap().is_none(), "its file is in expired/");
    let entries = pki.entries().unwrap();
    let entry = entries.iter().find(|entry| entry.common_name().as_deref() == Some("tasmota_old")).unwrap();
    assert_eq!(entry.state, EntryState::Valid);
    assert_eq!(pki.certificate_by_serial(&entry.serial).unwrap().unwrap().subject_cn(), Some("tasmota_old"));
    let server = pki.certificate(&name("mqtt.myorg.com")).unwrap().unwrap();
    assert!(server.is_for_server() && server.dns_names().is_empty());
}

#[test]
fn a_certificate_shows_what_openssl_shows() {
    let tree = fixtures().join("easyrsa-pki");
    let file = tree.join("issued/mqtt.myorg.com.crt");
    let server = Pki::open(&tree).unwrap().certificate(&name("mqtt.myorg.com")).unwrap().unwrap();
    let told = openssl_ok(&[
        "x509",
        "-in",
        text_of(&file),
        "-noout",
        "-serial",
        "-fingerprint",
        "-sha256",
        "-modulus",
    ]);
    let hex = |octets: &[u8], between: &str| {
        octets.iter().map(|octet| format!("{octet:02X}")).collect::<Vec<_>>().join(between)
    };
    let (n, e) = server.rsa_public_key().unwrap();
    assert!(told.contains(&format!("serial={}\n", server.serial())), "{told}");
    assert!(told.contains(&format!("Fingerprint={}\n", hex(&server.fingerprint_sha256(), ":"))), "{told}");
    assert!(told.contains(&format!("Modulus={}\n", hex(&n, ""))), "{told}");
    assert_eq!(e, [1, 0, 1]);
    assert_eq!(server.dns_names(), ["mqtt.myorg.com"]);
    assert_eq!(server.not_after(), datetime!(2031-10-27 12:32:44 UTC));
    // The PEM we write is the block Easy-RSA wrote after its text dump.
    assert!(fs::read_to_string(&file).unwrap().ends_with(&server.pem()));
}

#[test]
fn the_keys_of_both_trees_open_with_their_passphrase_only() {
    for tree in ["easyrsa-pki", "easyrsa-pki-3.2"] {
        let pki = Pki::open(&fixtures().join(tree)).unwrap();
        pki.unlock(&test_pass()).unwrap();
        for wrong in ["Test", "test ", "", "x"] {
            let error = pki.unlock(&Passphrase::new(wrong)).unwrap_err();
            assert!(matches!(error, PkiError::WrongPassphrase { .. }), "{tree} {wrong:?}: {error}");
        }
        for cn in ["mqtt.myorg.com", "tasmota_kitchen"] {
            let key = pki.private_key(&name(cn), &test_pass()).unwrap();
            let certificate = pki.certificate(&name(cn)).unwrap().unwrap();
            assert_eq!(key.public_key_der(), certificate.public_key_der(), "{tree} {cn}");
        }
        let error = pki.server_key_pem(&name("mqtt.myorg.com")).unwrap_err();
        assert!(matches!(error, PkiError::Encrypted { .. }));
        assert!(error.hint().unwrap().contains("openssl pkey"));
    }
}

#[test]
fn many_wrong_passphrases_are_all_just_wrong() {
    // About one in 256 leaves valid padding and garbage behind it.
    let pki = Pki::open(&fixtures().join("easyrsa-pki")).unwrap();
    for number in 0..600 {
        let error = pki
            .private_key(&name("tasmota_kitchen"), &Passphrase::new(format!("wrong {number}")))
            .unwrap_err();
        assert!(matches!(error, PkiError::WrongPassphrase { .. }), "{number}: {error}");
    }
}

#[test]
fn every_openssl_key_format_is_read_or_named() {
    let (_dir, tree) = copy_of("easyrsa-pki");
    let plain = fixtures().join("tlskeys/tasmota_kitchen.key.pem");
    let plain = text_of(&plain);
    let pki = Pki::open(&tree).unwrap();
    let (kitchen, path) = (name("tasmota_kitchen"), tree.join("private/tasmota_kitchen.key"));
    let out = text_of(&path);
    let pkcs8 = |options: &[&str]| {
        openssl_ok(
            &[&["pkcs8", "-topk8", "-in", plain, "-out", out, "-passout", "pass:test"], options].concat(),
        );
    };
    let expected = pki.private_key(&kitchen, &test_pass()).unwrap().ec_scalar();
    for options in [
        &["-v2", "aes-256-cbc"][..],
        &["-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512"],
        &["-v2", "des3", "-v2prf", "hmacWithSHA256"],
        &["-scrypt"],
        &["-nocrypt"],
    ] {
        pkcs8(options);
        assert_eq!(pki.private_key(&kitchen, &test_pass()).unwrap().ec_scalar(), expected, "{options:?}");
    }
    fs::copy(plain, &path).unwrap();
    assert_eq!(pki.private_key(&kitchen, &test_pass()).unwrap().ec_scalar(), expected, "SEC1");

    let refused = |told: &str| {
        let error = pki.private_key(&kitchen, &test_pass()).unwrap_err();
        assert!(matches!(error, PkiError::UnsupportedKey { .. }), "{error}");
        assert!(error.to_string().contains(told), "{error}");
        assert!(error.hint().unwrap().contains("openssl pkcs8 -topk8 -v2 aes-256-cbc"));
    };
    pkcs8(&["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA1"]);
    refused("HMAC-SHA1");
    pkcs8(&["-v1", "PBE-SHA1-3DES"]);
    refused("older than PBES2");
    openssl_ok(&["ec", "-in", plain, "-out", out, "-aes256", "-passout", "pass:test"]);
    refused("Proc-Type");
    for (kind, options) in [
        (KeyKind::Ed25519, &["-algorithm", "ed25519"][..]),
        (KeyKind::EcP384, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
        (KeyKind::Rsa3072, &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"]),
    ] {
        openssl_ok(&[&["genpkey", "-out", out], options].concat());
        assert_eq!(pki.private_key(&kitchen, &test_pass()).unwrap().kind(), Some(kind));
    }
}

#[test]
fn a_good_key_of_another_kind_is_named_with_the_way_out() {
    let (_dir, tree) = copy_of("easyrsa-pki");
    let pki = Pki::open(&tree).unwrap();
    let (kitchen, path) = (name("tasmota_kitchen"), tree.join("private/tasmota_kitchen.key"));
    let (out, plain) = (text_of(&path), tree.join("plain.pem"));
    let ec = |curve: &'static str| vec!["-algorithm", "EC", "-pkeyopt", curve];
    let bits = |algorithm: &'static str| vec!["-algorithm", algorithm, "-pkeyopt", "rsa_keygen_bits:1024"];
    for (words, kind, traditional) in [
        (ec("ec_paramgen_curve:P-521"), "an EC key on P-521", true),
        (ec("ec_paramgen_curve:secp256k1"), "an EC key on secp256k1", true),
        (ec("ec_paramgen_curve:brainpoolP256r1"), "on the curve 1.3.36.3.3.2.8.1.1.7", true),
        (vec!["-algorithm", "ed448"], "an Ed448 key", false),
        (bits("RSA-PSS"), "an RSA-PSS key", false),
        (bits("RSA"), "an RSA key of 1024 bits", true),
    ] {
        openssl_ok(&[&["genpkey", "-out", text_of(&plain)][..], &words].concat());
        let encrypted = ["-aes256", "-passout", "pass:test"];
        for form in [&[][..], &encrypted, &["-traditional"]] {
            if form == ["-traditional"] && !traditional {
                continue;
            }
            openssl_ok(&[&["pkey", "-in", text_of(&plain), "-out", out][..], form].concat());
            let error = pki.private_key(&kitchen, &test_pass()).unwrap_err();
            assert!(matches!(error, PkiError::OtherKind { .. }), "{kind} {form:?}: {error}");
            assert!(error.to_string().contains(kind), "{kind} {form:?}: {error}");
            assert!(error.hint().unwrap().contains("quoll server rekey"), "{kind}: {error}");
        }
        fs::copy(&plain, tree.join("private/ca.key")).unwrap();
        let error = pki.unlock(&test_pass()).unwrap_err();
        assert!(error.hint().unwrap().contains("ca init"), "{kind}: {error}");
        let check = pki.check(NOW).unwrap();
        let told = check.certificates[0].problems.iter().find(|problem| problem.what.contains(kind));
        assert!(told.unwrap().next.as_ref().unwrap().contains("ca init"), "{kind}: {told:?}");
    }
    // One that is damaged is no key of another kind.
    fs::write(&path, "-----BEGIN PRIVATE KEY-----\nMAMCAQA=\n-----END PRIVATE KEY-----\n").unwrap();
    assert!(matches!(pki.private_key(&kitchen, &test_pass()), Err(PkiError::BadKey { .. })));
}

#[test]
fn what_root_writes_in_somebodys_folder_is_theirs() {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let (dir, tree) = copy_of("easyrsa-pki-3.2");
    // Who is not root can only be themselves.
    let own = fs::metadata(dir.path()).unwrap().uid();
    let somebody = if own == 0 { 12_345 } else { own };
    let walk = |visit: &mut dyn FnMut(&std::path::Path)| {
        let mut folders = vec![tree.clone()];
        while let Some(folder) = folders.pop() {
            visit(&folder);
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { visit(&path) }
            }
        }
    };
    walk(&mut |path| chown(path, Some(somebody), None).unwrap());
    let pki = Pki::open(&tree).unwrap();
    let authority = pki.unlock(&test_pass()).unwrap();
    let request = IssueRequest::new(Profile::Client, name("alice"), KeyStorage::Plain);
    let issued = authority.issue(&request, NOW).unwrap();
    authority.renew(&name("tasmota_renewed"), &quoll_pki::Renewal::default(), NOW).unwrap();
    pki.revoke(&issued.certificate.serial(), RevocationReason::Superseded, NOW).unwrap();
    authority.publish_crl(NOW).unwrap();
    let mut count = 0;
    walk(&mut |path| {
        count += 1;
        assert_eq!(fs::metadata(path).unwrap().uid(), somebody, "{}", path.display());
    });
    assert!(count > 40 && tree.join("renewed/issued").is_dir(), "{count}");
}

#[test]
fn a_scalar_that_begins_with_zero_keeps_its_width() {
    let (_dir, tree) = copy_of("easyrsa-pki");
    let pki = Pki::open(&tree).unwrap();
    let zero = fixtures().join("tlskeys/tasmota_zero.key.encrypted.pem");
    fs::copy(zero, tree.join("private/tasmota_zero.key")).unwrap();
    let key = pki.private_key(&name("tasmota_zero"), &test_pass()).unwrap();
    assert_eq!(key.kind(), Some(KeyKind::EcP256));
    assert_eq!(key.ec_scalar().unwrap()[..2], [0x00, 0xad]);
}

#[test]
fn half_written_folders_are_told_exactly() {
    let opened = |change: &dyn Fn(&std::path::Path)| {
        let (_dir, tree) = copy_of("easyrsa-pki");
        change(&tree);
        let error = Pki::open(&tree).and_then(|pki| pki.unlock(&test_pass())).unwrap_err();
        (error.to_string().replace(text_of(&tree), "PKI"), error.hint())
    };
    let index = |change: fn(String) -> String| {
        move |tree: &std::path::Path| {
            let path = tree.join("index.txt");
            fs::write(&path, change(fs::read_to_string(&path).unwrap())).unwrap();
        }
    };
    for (change, told) in [
        (
            &(|tree: &std::path::Path| fs::remove_file(tree.join("ca.crt")).unwrap())
                as &dyn Fn(&std::path::Path),
            "PKI is not a complete PKI folder: ca.crt is missing",
        ),
        (&|tree| fs::write(tree.join("ca.crt"), "").unwrap(), "PKI/ca.crt cannot be used: the file is empty"),
        (
            &|tree| fs::remove_file(tree.join("index.txt")).unwrap(),
            "PKI is not a complete PKI folder: index.txt is missing",
        ),
        (
            &index(|text| text[..text.len() - 9].to_owned()),
            "PKI/index.txt, line 4, column 162: the line is cut off: it has no line end, and OpenSSL ignores such a line",
        ),
        (
            &index(|text| text.replacen("E674", "E6X4", 1)),
            "PKI/index.txt, line 2, column 18: a serial number is written in hex; the character at position 2 is not a hex digit",
        ),
        (
            &|tree| fs::write(tree.join("private/ca.key"), "").unwrap(),
            "the key PKI/private/ca.key cannot be used: the file is empty",
        ),
        (
            &|tree| {
                fs::write(tree.join("private/ca.key"), "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIF").unwrap()
            },
            "the key PKI/private/ca.key cannot be used: the ENCRYPTED PRIVATE KEY block has no END line; the file is cut off",
        ),
        (
            &|tree| {
                fs::copy(tree.join("private/mqtt.myorg.com.key"), tree.join("private/ca.key")).unwrap();
            },
            "the key PKI/private/ca.key does not belong to the certificate PKI/ca.crt",
        ),
        (
            &|tree| {
                fs::copy(tree.join("issued/mqtt.myorg.com.crt"), tree.join("ca.crt")).unwrap();
            },
            "PKI/ca.crt cannot be used: it is not a CA certificate (basicConstraints does not say CA:TRUE)",
        ),
        (
            &|tree| fs::remove_file(tree.join("private/ca.key")).unwrap(),
            "reading PKI/private/ca.key failed: No such file or directory (os error 2)",
        ),
    ] {
        assert_eq!(opened(change).0, told);
    }
    let (_dir, tree) = copy_of("easyrsa-pki");
    let hint = Pki::open(tree.parent().unwrap()).unwrap_err().hint().unwrap();
    assert_eq!(hint, format!("did you mean {}?", tree.display()));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(40))]
    #[test]
    fn a_damaged_folder_is_refused_or_used_but_never_panics(
        file in 0usize..6, at in 0usize..4000, octets in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..4)
    ) {
        let (_dir, tree) = copy_of("easyrsa-pki");
        let files = ["ca.crt", "index.txt", "crl.pem", "issued/tasmota_kitchen.crt", "reqs/tasmota_kitchen.req",
            "private/tasmota_kitchen.key"];
        let path = tree.join(files[file]);
        let mut content = fs::read(&path).unwrap();
        let at = at % content.len();
        content.splice(at..(at + 1).min(content.len()), octets);
        fs::write(&path, content).unwrap();
        if let Ok(pki) = Pki::open(&tree) {
            let kitchen = name("tasmota_kitchen");
            let _ = (pki.crl_is_behind(NOW), pki.certificate(&kitchen), pki.private_key(&kitchen, &test_pass()));
            for entry in pki.entries().unwrap() {
                let _ = pki.certificate_by_serial(&entry.serial);
                let _ = pki.revoke(&entry.serial, RevocationReason::Unspecified, NOW);
            }
            if let Ok(authority) = pki.unlock(&test_pass()) {
                let _ = authority.issue(&device("tasmota_kitchen"), NOW);
                let _ = authority.publish_crl(NOW);
            }
        }
    }
}
