//! CAs that somebody made by hand, whose own certificates forbid what a CA is for: nobody would accept what they sign. That
//! is said before anything is signed, with the way out, and the way out is judged by openssl.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod common;

use std::{fs, path::Path};

use common::*;
use quoll_pki::{
    AltNames, Authority, IssueRequest, KeyKind, KeySource, KeyStorage, Pki, PkiError, Profile,
    RevocationReason,
};
use time::{Duration, OffsetDateTime};

/// A folder with a CA whose certificate has these extensions.
fn folder(dir: &Path, extensions: &str) -> Pki {
    for inside in ["private", "issued", "reqs", "certs_by_serial"] {
        fs::create_dir_all(dir.join(inside)).unwrap();
    }
    fs::write(dir.join("index.txt"), "").unwrap();
    let config = dir.join("ca.cnf");
    fs::write(
        &config,
        format!(
            "[req]\ndistinguished_name=dn\nx509_extensions=v3\n[dn]\n[v3]\nsubjectKeyIdentifier=hash\n{extensions}\n"
        ),
    )
    .unwrap();
    let (key, crt) = (dir.join("private/ca.key"), dir.join("ca.crt"));
    openssl_ok(&[
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-out",
        text_of(&key),
    ]);
    let mut words =
        vec!["req", "-x509", "-new", "-key", text_of(&key), "-days", "3000", "-subj", "/CN=Old CA"];
    words.extend(["-config", text_of(&config), "-out", text_of(&crt)]);
    openssl_ok(&words);
    Pki::open(dir).unwrap()
}

fn unlock(pki: &Pki) -> Authority {
    Pki::open(pki.dir()).unwrap().unlock(&test_pass()).unwrap()
}

fn request(profile: Profile, text: &str) -> IssueRequest {
    let mut request = IssueRequest::new(profile, name(text), KeyStorage::Plain);
    request.key = KeySource::Generate(KeyKind::EcP256);
    request.alt_names = AltNames::default();
    request
}

/// What `quoll ca check` says of the CA, but for its key, which is in the clear here.
fn told(pki: &Pki, now: OffsetDateTime) -> Vec<String> {
    let check = Pki::open(pki.dir()).unwrap().check(now).unwrap();
    let all = check.certificates[0].problems.iter().map(|problem| problem.what.clone());
    all.filter(|what| !what.contains("CA's key")).collect()
}

#[test]
fn a_ca_that_may_not_sign_is_told_before_it_does_and_a_renewal_lets_it() {
    for (extensions, may_issue, may_list) in [
        ("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign", true, true),
        ("basicConstraints=CA:TRUE", true, true),
        ("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign", true, false),
        ("basicConstraints=critical,CA:TRUE\nkeyUsage=digitalSignature,cRLSign", false, true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let pki = folder(dir.path(), extensions);
        // Not before the CA begins.
        let now = OffsetDateTime::now_utc();
        let authority = unlock(&pki);
        let issued = authority.issue(&request(Profile::Client, "alice"), now);
        assert_eq!(issued.is_ok(), may_issue, "{extensions}: {issued:?}");
        let published = authority.publish_crl(now);
        assert_eq!(published.is_ok(), may_list, "{extensions}: {published:?}");
        let problems = told(&pki, now);
        assert_eq!(problems.is_empty(), may_issue && may_list, "{extensions}: {problems:?}");
        for refused in [issued.map(drop), published].into_iter().filter_map(Result::err) {
            assert!(matches!(refused, PkiError::CaMayNot { .. }), "{extensions}: {refused:?}");
            assert!(refused.hint().unwrap().contains("quoll ca renew"), "{extensions}");
        }
        if !may_issue {
            assert_eq!(pki.entries().unwrap(), [], "{extensions}: nothing was changed");
        }

        // The same key and name, and it may.
        authority.extend_ca(None, now).unwrap();
        let authority = unlock(&pki);
        assert_eq!(told(&pki, now), [""; 0], "{extensions}");
        authority.issue(&request(Profile::Client, "bob"), now).unwrap();
        let eve = authority.issue(&request(Profile::Client, "eve"), now).unwrap();
        pki.revoke(&eve.certificate.serial(), RevocationReason::KeyCompromise, now).unwrap();
        authority.publish_crl(now).unwrap();
        let path = |inside: &str| dir.path().join(inside);
        let (ca, list, bob) = (path("ca.crt"), path("crl.pem"), path("issued/bob.crt"));
        let mut words = vec!["verify", "-x509_strict", "-purpose", "sslclient", "-crl_check"];
        words.extend(["-CRLfile", text_of(&list), "-CAfile", text_of(&ca)]);
        openssl_ok(&[&words[..], &[text_of(&bob)]].concat());
        let eve = path(&format!("revoked/certs_by_serial/{}.crt", eve.certificate.serial()));
        let (ok, said) = openssl(&[&words[..], &[text_of(&eve)]].concat());
        assert!(!ok && said.contains("certificate revoked"), "{said}");
    }
}

#[test]
fn limits_of_a_ca_are_kept_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let pki = folder(dir.path(), "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=keyCertSign,cRLSign");
    let now = OffsetDateTime::now_utc();
    let refused = unlock(&pki).issue(&request(Profile::SubCa, "below"), now).unwrap_err();
    assert!(refused.to_string().contains("pathlen:0"), "{refused}");
    unlock(&pki).extend_ca(None, now).unwrap();
    let text = openssl_ok(&["x509", "-in", text_of(&dir.path().join("ca.crt")), "-noout", "-text"]);
    assert!(text.contains("pathlen:0"), "{text}");

    for (extensions, word) in [
        ("basicConstraints=CA:TRUE\nextendedKeyUsage=serverAuth", Some("extendedKeyUsage")),
        ("basicConstraints=CA:TRUE\nnameConstraints=critical,permitted;DNS:home.example", None),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let pki = folder(dir.path(), extensions);
        let now = OffsetDateTime::now_utc();
        let problems = told(&pki, now);
        let told = problems.iter().all(|problem| word.is_some_and(|word| problem.contains(word)));
        assert!(told && problems.len() == usize::from(word.is_some()), "{extensions}: {problems:?}");
        let renewed = unlock(&pki).extend_ca(None, now);
        // Constraints were put there on purpose: a renewal does not take them away unasked.
        assert_eq!(renewed.is_ok(), word.is_some(), "{extensions}: {renewed:?}");
    }

    // One that is over comes back by a renewal, and the refusal says so.
    let authority = unlock(&pki);
    let late = authority.pki().ca().not_after() + Duration::days(1);
    let over = authority.issue(&request(Profile::Client, "late"), late).unwrap_err();
    assert!(over.hint().unwrap().contains("quoll ca renew"), "{over}");
}

#[test]
fn a_ca_certificate_in_another_form_or_order_is_told_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let pki = folder(dir.path(), "basicConstraints=CA:TRUE");
    let ca = dir.path().join("ca.crt");
    let right = fs::read(&ca).unwrap();
    fs::write(&ca, pki.ca().der()).unwrap();
    let refused = Pki::open(dir.path()).unwrap_err();
    assert!(refused.to_string().contains("-inform DER"), "{refused}");

    let elsewhere = tempfile::tempdir().unwrap();
    let other = folder(elsewhere.path(), "basicConstraints=CA:TRUE");
    for (first, second, opens) in
        [(&right[..], other.ca().pem(), true), (other.ca().pem().as_bytes(), pki.ca().pem(), false)]
    {
        fs::write(&ca, [first, second.as_bytes()].concat()).unwrap();
        let unlocked = Pki::open(dir.path()).unwrap().unlock(&test_pass());
        assert_eq!(unlocked.is_ok(), opens);
        if let Err(error) = unlocked {
            assert!(error.hint().unwrap().contains("must be the first"), "{error}");
        }
    }
}

#[test]
fn what_stands_above_a_ca_goes_along_with_it() {
    let (above, below) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root =
        folder(above.path(), "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign");
    let now = OffsetDateTime::now_utc();
    let mut wanted = IssueRequest::new(Profile::SubCa, name("Below"), KeyStorage::Encrypted(test_pass()));
    wanted.alt_names = AltNames::default();
    let signed = unlock(&root).issue(&wanted, now).unwrap();
    for inside in ["private", "issued"] {
        fs::create_dir_all(below.path().join(inside)).unwrap();
    }
    fs::write(below.path().join("index.txt"), "").unwrap();
    fs::copy(above.path().join("private/Below.key"), below.path().join("private/ca.key")).unwrap();
    let told = |chain: &[&str]| {
        fs::write(below.path().join("ca.crt"), chain.concat()).unwrap();
        let pki = Pki::open(below.path()).unwrap();
        let problems = pki.check(now).unwrap().certificates[0].problems.clone();
        (pki, problems.iter().any(|problem| problem.what.contains("another CA signed this one")))
    };
    let (sub, root) = (signed.certificate.pem(), root.ca().pem());
    let (pki, lacking) = told(&[&sub]);
    assert!(lacking && pki.ca_chain().unwrap().len() == 1);
    // Others in the file do not matter, nor that one is cut off.
    let stranger = tempfile::tempdir().unwrap();
    let stranger = folder(stranger.path(), "basicConstraints=CA:TRUE").ca().pem();
    let (pki, lacking) = told(&[&sub, &stranger, &root, "-----BEGIN CERTIFICATE-----\nAAAA"]);
    let chain = pki.ca_chain().unwrap();
    assert!(!lacking && chain.len() == 2, "{chain:?}");
    assert_eq!(chain[1].pem(), root);
    let client = unlock(&pki).issue(&request(Profile::Client, "alice"), now).unwrap();
    let (anchors, alice) = (below.path().join("chain.crt"), below.path().join("issued/alice.crt"));
    fs::write(&anchors, chain.iter().map(quoll_pki::Certificate::pem).collect::<String>()).unwrap();
    openssl_ok(&[
        "verify",
        "-x509_strict",
        "-purpose",
        "sslclient",
        "-CAfile",
        text_of(&anchors),
        text_of(&alice),
    ]);
    assert!(!client.certificate.is_ca());
}
