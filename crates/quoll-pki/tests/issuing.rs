//! Certificates under the fixture CAs, judged by openssl: profiles, sizes, names, keys, renewal.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod common;

use std::{fs, net::IpAddr, path::Path};

use common::*;
use quoll_pki::{
    AltNames, IfTaken, IssueRequest, KeyKind, KeySource, KeyStorage, Organisation, Passphrase, Pki, PkiError,
    PrivateKey, Profile, RevocationReason, Subject,
};
use time::{Duration, OffsetDateTime, macros::datetime};

fn shown(path: &Path) -> String {
    openssl_ok(&["x509", "-in", text_of(path), "-noout", "-text", "-nameopt", "RFC2253"])
}

/// The lines below an extension's heading, and the heading itself.
fn extension<'a>(text: &'a str, heading: &str) -> Option<&'a str> {
    let start = text.find(heading)?;
    let rest = &text[start + heading.len()..];
    Some(
        rest[..rest
            .find("            X509v3")
            .or_else(|| rest.find("    Signature Algorithm"))
            .unwrap_or(rest.len())]
            .trim(),
    )
}

#[test]
fn a_device_certificate_has_the_guides_four_extensions_and_fits() {
    for (tree, most) in [("easyrsa-pki", 720), ("easyrsa-pki-3.2", 720)] {
        let (_dir, path, authority) = unlocked(tree);
        let issued = authority.issue(&device("tasmota_desk"), NOW).unwrap();
        assert_eq!(issued.warnings, [""; 0]);
        assert!(issued.certificate.der().len() <= most, "{}", issued.certificate.der().len());
        let file = path.join("issued/tasmota_desk.crt");
        let text = shown(&file);
        assert_eq!(text.matches("X509v3 ").count(), 5, "the heading and four extensions: {text}");
        assert_eq!(extension(&text, "X509v3 Basic Constraints: critical"), Some("CA:FALSE"));
        assert_eq!(extension(&text, "X509v3 Key Usage: critical"), Some("Digital Signature"));
        assert!(extension(&text, "X509v3 Subject Key Identifier:").is_some());
        let authority_id = extension(&text, "X509v3 Authority Key Identifier:").unwrap();
        assert!(!authority_id.contains("DirName"), "{authority_id}");
        assert!(text.contains("Subject: CN=tasmota_desk\n"), "{text}");
        assert!(text.contains("NIST CURVE: P-256"));
        let (ok, said) = openssl_verifies(&path, &file, NOW, false);
        // The CA of Easy-RSA does not mark basicConstraints critical, which -x509_strict wants; nothing else is wrong.
        assert!(ok || said.contains("Basic Constraints of CA cert not marked critical"), "{said}");
        let lenient = openssl_ok(&[
            "verify",
            "-CAfile",
            text_of(&path.join("ca.crt")),
            "-no_check_time",
            text_of(&file),
        ]);
        assert!(lenient.contains("OK"));
        // It is in the book, found by name and serial, and its request is there.
        let pki = authority.pki();
        assert_eq!(listing(pki).last().unwrap(), &('V', "tasmota_desk".to_owned()));
        assert_eq!(pki.certificate(&name("tasmota_desk")).unwrap().unwrap(), issued.certificate);
        assert_eq!(
            pki.certificate_by_serial(&issued.certificate.serial()).unwrap().unwrap(),
            issued.certificate
        );
        openssl_ok(&["req", "-in", text_of(&path.join("reqs/tasmota_desk.req")), "-noout", "-verify"]);
        assert!(!path.join("private/tasmota_desk.key").exists(), "the key was to be discarded");
        assert_eq!(
            issued.certificate.not_before(),
            NOW.max(pki.ca().not_before() + Duration::days(1)) - Duration::days(1)
        );
    }
}

#[test]
fn the_issuer_is_the_ca_byte_for_byte_even_with_unusual_names() {
    // Two DC and two OU, a multi-valued RDN, a BMPString and a TeletexString: where other builders lose parts.
    let (_dir, path) = copy_of("easyrsa-pki");
    let config = path.join("ca.cnf");
    fs::write(
        &config,
        "[req]\ndistinguished_name=dn\nprompt=no\nx509_extensions=v3\nstring_mask=MASK:0x802\n\
         [dn]\n0.DC=org\n1.DC=home\n0.OU=A\n1.OU=B\n0.O=K\u{f6}ln\n+CN=Odd CA\n\
         [v3]\nbasicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=hash\nkeyUsage=keyCertSign,cRLSign\n",
    )
    .unwrap();
    let (key, certificate) = (path.join("private/ca.key"), path.join("ca.crt"));
    openssl_ok(&[
        "req",
        "-x509",
        "-utf8",
        "-config",
        text_of(&config),
        "-newkey",
        "rsa:2048",
        "-passout",
        "pass:test",
        "-keyout",
        text_of(&key),
        "-out",
        text_of(&certificate),
        "-days",
        "20000",
    ]);
    let now = OffsetDateTime::now_utc() + Duration::days(1);
    let pki = Pki::open(&path).unwrap();
    let issued = pki.unlock(&test_pass()).unwrap().issue(&device("tasmota_odd"), now).unwrap();
    assert_eq!(issued.certificate.issuer_der(), pki.ca().subject_der());
    let (ok, said) = openssl_verifies(&path, &path.join("issued/tasmota_odd.crt"), now, false);
    assert!(ok, "{said}");
}

#[test]
fn a_device_certificate_that_does_not_fit_is_refused_and_a_tight_one_warned_about() {
    let (_dir, path, authority) = unlocked("easyrsa-pki");
    let before = fs::read(path.join("index.txt")).unwrap();
    let mut request = device("tasmota_long");
    let org = |unit: usize| {
        Subject::Org(Organisation {
            country: "UK".into(),
            province: "London".into(),
            city: "London".into(),
            organisation: "myorg".into(),
            unit: "u".repeat(unit),
            email: "info@myorg.com".into(),
        })
    };
    request.subject = org(50);
    let issued = authority.issue(&request, NOW).unwrap();
    let size = issued.certificate.der().len();
    assert!((851..=891).contains(&size), "{size}");
    assert_eq!(issued.warnings, [format!("it has {size} bytes; a device takes 891 at most")]);

    request.name = name(&"t".repeat(64));
    request.subject = org(64);
    let Err(error @ PkiError::TooLarge { size, .. }) = authority.issue(&request, NOW) else {
        panic!("not refused")
    };
    assert!(size > 891 && error.hint().unwrap().contains("shorter name"), "{error}");
    let after = fs::read(path.join("index.txt")).unwrap();
    assert!(after.starts_with(&before) && after.iter().filter(|byte| **byte == b'\n').count() == 5);
    assert!(!path.join("issued").join(format!("{}.crt", "t".repeat(64))).exists());
}

#[test]
fn a_server_certificate_has_every_address_as_text_too() {
    let (_dir, path, authority) = unlocked("easyrsa-pki");
    let mut request = IssueRequest::new(Profile::Server, name("broker"), KeyStorage::Plain);
    request.alt_names.dns = vec!["broker.lan".into()];
    request.alt_names.ip = vec!["192.168.1.10".parse().unwrap(), "fd00::1".parse().unwrap()];
    let issued = authority.issue(&request, NOW).unwrap();
    let file = path.join("issued/broker.crt");
    let text = shown(&file);
    assert_eq!(
        extension(&text, "X509v3 Subject Alternative Name:"),
        Some(
            "DNS:broker, DNS:broker.lan, DNS:192.168.1.10, DNS:fd00::1, IP Address:192.168.1.10, IP Address:FD00:0:0:0:0:0:0:1"
        )
    );
    assert_eq!(extension(&text, "X509v3 Extended Key Usage:"), Some("TLS Web Server Authentication"));
    assert_eq!(extension(&text, "X509v3 Key Usage:"), Some("Digital Signature, Key Encipherment"));
    assert!(!text.contains("X509v3 Extended Key Usage: critical") && !text.contains("Name Constraints"));
    assert!(text.contains("Public-Key: (2048 bit)") && text.contains("sha256WithRSAEncryption"));
    assert_eq!(issued.certificate.not_before(), authority.pki().ca().not_before());
    assert_eq!(issued.certificate.not_after(), authority.pki().ca().not_after(), "capped by the CA's end");
    assert_eq!(issued.warnings, [""; 0]);
    request.name = name("broker2");
    request.days = Some(3700);
    let cut = authority.issue(&request, NOW).unwrap().warnings;
    assert_eq!(cut, ["it ends with the CA on 2036-11-19, earlier than its usual life"]);
    let ips: [IpAddr; 2] = ["192.168.1.10".parse().unwrap(), "fd00::1".parse().unwrap()];
    assert_eq!(issued.certificate.ip_addresses(), ips);

    // The key is plain, private to the owner, and the certificate's.
    let key = path.join("private/broker.key");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let public = openssl_ok(&["pkey", "-in", text_of(&key), "-pubout"]);
    assert_eq!(openssl_ok(&["x509", "-in", text_of(&file), "-noout", "-pubkey"]), public);
    let pem = authority.pki().server_key_pem(&name("broker")).unwrap();
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    let san = openssl_ok(&["req", "-in", text_of(&path.join("reqs/broker.req")), "-noout", "-text"]);
    assert!(san.contains("DNS:broker.lan"), "the request says the names too, for easyrsa sign-req");
}

#[test]
fn a_client_certificate_is_for_clients() {
    let (_dir, path, authority) = unlocked("easyrsa-pki");
    authority
        .issue(&IssueRequest::new(Profile::Client, name("home-assistant"), KeyStorage::Discard), NOW)
        .unwrap();
    let text = shown(&path.join("issued/home-assistant.crt"));
    assert_eq!(extension(&text, "X509v3 Extended Key Usage:"), Some("TLS Web Client Authentication"));
    assert!(!text.contains("Alternative Name") && text.contains("NIST CURVE: P-256"));
}

#[test]
fn a_stored_device_key_opens_in_openssl_whatever_the_passphrase() {
    let (_dir, path, authority) = unlocked("easyrsa-pki");
    for (number, pass) in
        ["test", "a b  c", "$HOME `x` \"q\" 'p' \\", "пароль-ключ ✓", "%s%n"].into_iter().enumerate()
    {
        let name = name(&format!("tasmota_{number}"));
        let mut request = device(name.as_str());
        request.store_key = KeyStorage::Encrypted(Passphrase::new(pass));
        let issued = authority.issue(&request, NOW).unwrap();
        let key = path.join(format!("private/{name}.key"));
        let passin = format!("pass:{pass}");
        let text = openssl_ok(&["pkey", "-in", text_of(&key), "-passin", &passin, "-noout", "-text"]);
        let scalar = issued.key.ec_scalar().unwrap();
        let hex: Vec<String> = scalar[..4].iter().map(|octet| format!("{octet:02x}")).collect();
        assert!(text.contains(&hex.join(":")), "{text}");
        assert!(!openssl(&["pkey", "-in", text_of(&key), "-passin", "pass:wrong", "-noout"]).0);
        let again = authority.pki().private_key(&name, &Passphrase::new(pass)).unwrap();
        assert_eq!(again.ec_scalar(), issued.key.ec_scalar());
        let parameters = openssl_ok(&["asn1parse", "-in", text_of(&key)]);
        for expected in ["PBKDF2", "hmacWithSHA256", "aes-256-cbc", "INTEGER           :0927C0"] {
            assert!(parameters.contains(expected), "{expected}: {parameters}");
        }
        // And the other way: what openssl encrypts with it, we open.
        let plain = path.join("plain.pem");
        fs::write(&plain, &*issued.key.pkcs8_pem()).unwrap();
        let args = ["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-in", text_of(&plain), "-out", text_of(&key)];
        openssl_ok(&[&args[..], &["-passout", &passin]].concat());
        let again = authority.pki().private_key(&name, &Passphrase::new(pass)).unwrap();
        assert_eq!(again.ec_scalar(), issued.key.ec_scalar());
    }
}

#[test]
fn a_taken_name_is_refused_superseded_or_free_again_after_revocation() {
    let (_dir, path, authority) = unlocked("easyrsa-pki");
    let kitchen = name("tasmota_kitchen");
    let old = authority.pki().certificate(&kitchen).unwrap().unwrap();
    let before = fs::read(path.join("index.txt")).unwrap();
    let mut request = device("tasmota_kitchen");
    let error = authority.issue(&request, NOW).unwrap_err();
    assert!(matches!(&error, PkiError::NameTaken { serial, .. } if *serial == old.serial()), "{error}");
    assert_eq!(fs::read(path.join("index.txt")).unwrap(), before);

    request.if_taken = IfTaken::Supersede;
    let new = authority.issue(&request, NOW).unwrap();
    assert!(new.warnings[0].contains(&old.serial().to_string()), "{:?}", new.warnings);
    assert!(
        path.join("renewed/issued/tasmota_kitchen.crt").exists()
            && path.join("renewed/private/tasmota_kitchen.key").exists()
    );
    assert!(
        !path.join("private/tasmota_kitchen.key").exists(),
        "the new key was to be discarded, the old one is set aside"
    );
    // Old and new are both valid until the old one is revoked by its number; that leaves the new one alone.
    let revoked = authority.pki().revoke(&old.serial(), RevocationReason::Superseded, NOW).unwrap();
    assert_eq!((revoked.common_name.as_deref(), revoked.already), (Some("tasmota_kitchen"), false));
    assert_eq!(authority.pki().certificate(&kitchen).unwrap().unwrap(), new.certificate);
    assert!(!path.join("renewed/issued/tasmota_kitchen.crt").exists());
    assert!(path.join(format!("revoked/certs_by_serial/{}.crt", old.serial())).exists());
    assert!(path.join(format!("revoked/private_by_serial/{}.key", old.serial())).exists());

    let again = authority
        .pki()
        .revoke(&old.serial(), RevocationReason::KeyCompromise, NOW + Duration::days(1))
        .unwrap();
    assert_eq!((again.reason, again.at, again.already), (RevocationReason::Superseded, NOW, true));

    authority.pki().revoke(&new.certificate.serial(), RevocationReason::KeyCompromise, NOW).unwrap();
    assert!(authority.pki().certificate(&kitchen).unwrap().is_none());
    request.if_taken = IfTaken::Refuse;
    authority.issue(&request, NOW).unwrap();
    let unknown = authority.pki().revoke(&serial("0A"), RevocationReason::Unspecified, NOW).unwrap_err();
    assert!(matches!(unknown, PkiError::UnknownSerial { .. }));
}

#[test]
fn a_key_that_exists_can_be_certified_again() {
    let (_dir, path, authority) = unlocked("easyrsa-pki");
    let mut request = device("tasmota_kitchen");
    let key = authority.pki().private_key(&request.name, &test_pass()).unwrap();
    request.key = KeySource::Existing(key.clone());
    request.if_taken = IfTaken::Supersede;
    let issued = authority.issue(&request, NOW).unwrap();
    assert_eq!(issued.certificate.public_key_der(), key.public_key_der());
    assert_eq!(
        authority.pki().private_key(&request.name, &test_pass()).unwrap().ec_scalar(),
        key.ec_scalar()
    );
    assert!(!path.join("renewed/private/tasmota_kitchen.key").exists(), "the key is still in use");

    // An old expired one in Easy-RSA 3.2's expired/ does not block its name either.
    let (_dir, _path, authority) = unlocked("easyrsa-pki-3.2");
    authority.issue(&device("tasmota_old"), NOW).unwrap();
}

#[test]
fn renewing_a_server_keeps_its_key_even_an_encrypted_one() {
    for tree in ["easyrsa-pki", "easyrsa-pki-3.2"] {
        let (_dir, path, authority) = unlocked(tree);
        let server = name("mqtt.myorg.com");
        let old = authority.pki().certificate(&server).unwrap().unwrap();
        let key_before = fs::read(path.join("private/mqtt.myorg.com.key")).unwrap();
        let now = datetime!(2031-10-01 0:00 UTC);
        let renewed = authority.renew_server(&server, None, now).unwrap();
        assert_eq!(renewed.previous, old.serial());
        assert_eq!(renewed.certificate.public_key_der(), old.public_key_der());
        assert_eq!(renewed.certificate.subject_der(), old.subject_der());
        assert_eq!(renewed.certificate.dns_names(), ["mqtt.myorg.com"]);
        assert!(renewed.certificate.not_after() > old.not_after());
        assert_eq!(fs::read(path.join("private/mqtt.myorg.com.key")).unwrap(), key_before);
        let (file, ca) = (path.join("issued/mqtt.myorg.com.crt"), path.join("ca.crt"));
        openssl_ok(&[
            "verify",
            "-attime",
            "1900000000",
            "-purpose",
            "sslserver",
            "-CAfile",
            text_of(&ca),
            text_of(&file),
        ]);

        let names = AltNames { dns: vec!["mqtt.lan".into()], ip: vec!["10.0.0.2".parse().unwrap()] };
        let again = authority.renew_server(&server, Some(&names), now).unwrap();
        assert_eq!(again.certificate.dns_names(), ["mqtt.myorg.com", "mqtt.lan", "10.0.0.2"]);
        let same = authority.renew_server(&server, None, now).unwrap();
        assert_eq!(same.certificate.dns_names(), again.certificate.dns_names());
        assert_eq!(same.certificate.ip_addresses(), again.certificate.ip_addresses());
        // Every generation can still be found and revoked.
        for serial in [&renewed.previous, &again.previous, &same.previous] {
            assert!(authority.pki().certificate_by_serial(serial).unwrap().is_some());
            authority.pki().revoke(serial, RevocationReason::Superseded, now).unwrap();
        }
        assert_eq!(authority.pki().certificate(&server).unwrap().unwrap(), same.certificate);
        assert!(path.join("private/mqtt.myorg.com.key").exists());
        let device = authority.renew_server(&name("tasmota_kitchen"), None, now).unwrap_err();
        assert!(device.to_string().contains("not a server's"), "{device}");
        assert!(matches!(
            authority.renew_server(&name("nobody"), None, now),
            Err(PkiError::UnknownName { .. })
        ));
    }
}

#[test]
fn a_wrong_clock_is_noticed() {
    let (_dir, _path, authority) = unlocked("easyrsa-pki");
    let early = authority.issue(&device("x"), datetime!(1970-01-01 0:00 UTC)).unwrap_err();
    assert!(matches!(early, PkiError::ClockBeforeCa { .. }), "{early}");
    let late = authority.issue(&device("x"), datetime!(2037-01-01 0:00 UTC)).unwrap_err();
    assert!(matches!(late, PkiError::CaExpired { .. }), "{late}");
}

#[test]
fn what_waits_for_easy_rsa_is_not_overwritten() {
    let (_dir, path, authority) = unlocked("easyrsa-pki");
    fs::rename(path.join("issued/tasmota_garage.crt"), path.join("garage.saved")).unwrap();
    let error = authority.issue(&device("tasmota_garage"), NOW).unwrap_err();
    assert!(
        matches!(error, PkiError::InTheWay { .. }) && error.to_string().contains("reqs/tasmota_garage.req"),
        "{error}"
    );
    fs::remove_file(path.join("reqs/tasmota_garage.req")).unwrap();
    let error = authority.issue(&device("tasmota_garage"), NOW).unwrap_err();
    assert!(error.to_string().contains("private/tasmota_garage.key"), "{error}");
    // Both fixture CAs have the same name, so this looks like one of ours that the index lost.
    let other = fixtures().join("easyrsa-pki-3.2/issued/tasmota_garage.crt");
    fs::copy(other, path.join("issued/tasmota_garage.crt")).unwrap();
    let error = authority.issue(&device("tasmota_garage"), NOW).unwrap_err();
    assert!(error.to_string().contains("index.txt does not know"), "{error}");
    // And this one is of another CA.
    let foreign = path.join("issued/tasmota_garage.crt");
    openssl_ok(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-noenc",
        "-subj",
        "/CN=other",
        "-out",
        text_of(&foreign),
        "-keyout",
        text_of(&path.join("other.key")),
    ]);
    let error = authority.issue(&device("tasmota_garage"), NOW).unwrap_err();
    assert!(error.to_string().contains("a certificate of another CA"), "{error}");
}

#[test]
fn an_rsa_key_of_another_size_is_certified_but_a_device_must_have_ec() {
    let (_dir, path, authority) = unlocked("easyrsa-pki");
    let file = path.join("big.pem");
    openssl_ok(&["genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2560", "-out", text_of(&file)]);
    let der = path.join("big.der");
    openssl_ok(&[
        "pkcs8",
        "-topk8",
        "-nocrypt",
        "-in",
        text_of(&file),
        "-outform",
        "DER",
        "-out",
        text_of(&der),
    ]);
    let key = PrivateKey::from_pkcs8_der(&fs::read(&der).unwrap()).unwrap();
    assert_eq!(key.kind(), None);
    let mut request = IssueRequest::new(Profile::Client, name("big"), KeyStorage::Discard);
    request.key = KeySource::Existing(key);
    authority.issue(&request, NOW).unwrap();
    request.profile = Profile::Tasmota;
    request.name = name("big2");
    assert!(matches!(authority.issue(&request, NOW), Err(PkiError::BadRequest { .. })));
    request.key = KeySource::Generate(KeyKind::EcP256);
    authority.issue(&request, NOW).unwrap();
}
