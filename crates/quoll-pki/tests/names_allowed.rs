//! CAs that may certify certain names only (nameConstraints): what is signed, refused and told is what `openssl verify` says
//! of the same names.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod common;

use std::{fs, path::Path};

use common::*;
use quoll_pki::{
    Authority, CHUNK, CertificateState, IfTaken, IssueRequest, KeyKind, KeySource, KeyStorage, Organisation,
    Pki, PkiError, Profile, Renewal, Subject, Wanted,
    bundle::{
        SigningRequest,
        ask::{self, Wish},
        sign::{Decisions, RequestBundle, Signing},
    },
};
use time::OffsetDateTime;

/// nameConstraints, as a line of an OpenSSL configuration.
const LIMITS: [&str; 14] = [
    "permitted;DNS:home.example",
    "critical,permitted;DNS:.home.example",
    "excluded;DNS:other.example",
    "critical,permitted;DNS:home.example,permitted;DNS:broker,permitted;IP:192.168.0.0/255.255.0.0",
    "critical,permitted;IP:192.168.1.0/255.255.255.0",
    "excluded;IP:192.168.1.8/255.255.255.252",
    "permitted;IP:fd00:0:0:0:0:0:0:0/ff00:0:0:0:0:0:0:0",
    "critical,permitted;email:myorg.com",
    "permitted;email:info@MyOrg.com",
    "permitted;email:.com",
    "excluded;email:myorg.com",
    "critical,permitted;dirName:uk",
    "excluded;dirName:uk",
    "permitted;URI:.home.example",
];

/// In memory where the system has a place there: hundreds of files are synced one by one.
fn quick_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// Makes `dir` a folder of a CA whose own certificate has these limits: the CA that is in `of`, or a new one. Its key is in the
/// clear, so that opening it takes no time.
fn folder(dir: &Path, of: Option<&Path>, limits: Option<&str>) {
    for inside in ["private", "issued", "reqs", "certs_by_serial"] {
        fs::create_dir_all(dir.join(inside)).unwrap();
    }
    fs::write(dir.join("index.txt"), "").unwrap();
    let (key, crt, config) = (dir.join("private/ca.key"), dir.join("ca.crt"), dir.join("ca.cnf"));
    match of {
        Some(of) => drop(fs::copy(of.join("private/ca.key"), &key).unwrap()),
        None => {
            let mut words = vec!["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
            words.extend(["-out", text_of(&key)]);
            openssl_ok(&words);
        }
    }
    let limits = limits.map(|limits| format!("nameConstraints={limits}")).unwrap_or_default();
    let text = format!(
        "[req]\ndistinguished_name=dn\nx509_extensions=v3\n[dn]\n[v3]\nbasicConstraints=critical,CA:TRUE\n\
         subjectKeyIdentifier=hash\nkeyUsage=critical,keyCertSign,cRLSign\n{limits}\n[uk]\nC=UK\nO=MYorg\n"
    );
    fs::write(&config, text).unwrap();
    let mut words = vec!["req", "-x509", "-new", "-key", text_of(&key), "-days", "9000", "-subj", "/CN=CA"];
    words.extend(["-config", text_of(&config), "-out", text_of(&crt)]);
    openssl_ok(&words);
}

fn unlock(dir: &Path) -> Authority {
    Pki::open(dir).unwrap().unlock(&test_pass()).unwrap()
}

fn wanted() -> Vec<IssueRequest> {
    let request = |profile: Profile, text: &str| {
        let mut request = IssueRequest::new(profile, name(text), KeyStorage::Plain);
        request.key = KeySource::Generate(KeyKind::EcP256);
        request
    };
    let mut all = vec![
        request(Profile::Server, "broker.home.example"),
        request(Profile::Server, "broker"),
        request(Profile::Client, "alice"),
        request(Profile::Client, "alice.other.example"),
        request(Profile::Client, "a_b.HOME.example"),
        request(Profile::Client, "küche.other.example"),
        request(Profile::Tasmota, "tasmota_kitchen"),
        request(Profile::Client, "org"),
    ];
    all[1].alt_names.dns = vec!["mqtt.home.example".into()];
    all[1].alt_names.ip = vec!["192.168.1.10".parse().unwrap()];
    all[7].subject = Subject::Org(Organisation {
        country: "UK".into(),
        organisation: "myorg".into(),
        email: "info@myorg.com".into(),
        ..Organisation::default()
    });
    all
}

#[test]
fn what_a_ca_may_not_certify_is_refused_as_openssl_would_refuse_it() {
    let dir = quick_folder();
    let free = dir.path().join("free");
    folder(&free, None, None);
    // Not before the CA begins.
    let now = OffsetDateTime::now_utc();
    let authority = unlock(&free);
    for request in wanted() {
        authority.issue(&request, now).unwrap();
    }
    let (mut granted, mut refused) = (0, 0);
    for (at, limits) in LIMITS.into_iter().enumerate() {
        let place = dir.path().join(format!("limited{at}"));
        folder(&place, Some(&free), Some(limits));
        let authority = unlock(&place);
        let now = OffsetDateTime::now_utc();
        let ca = place.join("ca.crt");
        let twins: Vec<_> = wanted().iter().map(|it| free.join(format!("issued/{}.crt", it.name))).collect();
        let mut words = vec!["verify", "-CAfile", text_of(&ca)];
        words.extend(twins.iter().map(|twin| text_of(twin)));
        let (_, said) = openssl(&words);
        for (request, twin) in wanted().into_iter().zip(&twins) {
            let accepted = said.contains(&format!("{}: OK", twin.display()));
            let issued = authority.issue(&request, now);
            let what = format!("{limits}: {}: {issued:?}; openssl: {said}", request.name);
            assert_eq!(issued.is_ok(), accepted, "{what}");
            let Err(error) = issued else {
                granted += 1;
                continue;
            };
            refused += 1;
            assert!(matches!(error, PkiError::NamesNotAllowed { .. }), "{what}");
            assert!(said.contains("subtree violation"), "{what}");
            assert!(error.hint().unwrap().contains("nameConstraints"), "{what}");
            assert!(
                !place.join(format!("issued/{}.crt", request.name)).exists(),
                "nothing was written: {what}"
            );
        }
    }
    assert!(granted > 60 && refused > 15, "the table has both: {granted} and {refused}");
}

#[test]
fn what_was_certified_in_spite_of_it_is_told_and_not_renewed() {
    let dir = quick_folder();
    let (free, place) = (dir.path().join("free"), dir.path().join("limited"));
    folder(&free, None, None);
    // Not before the CA begins.
    let now = OffsetDateTime::now_utc();
    let authority = unlock(&free);
    for request in wanted() {
        authority.issue(&request, now).unwrap();
    }
    folder(&place, Some(&free), Some("critical,permitted;DNS:home.example"));
    for inside in ["issued", "reqs", "certs_by_serial"] {
        copy_folder(&free.join(inside), &place.join(inside));
    }
    fs::copy(free.join("index.txt"), place.join("index.txt")).unwrap();
    let now = OffsetDateTime::now_utc();
    let authority = unlock(&place);
    let check = authority.pki().check(now).unwrap();
    let told = |wanted: &str| {
        let row = check.certificates.iter().find(|row| row.name.as_deref() == Some(wanted)).unwrap();
        assert_eq!(row.state, CertificateState::Valid);
        row.problems.iter().any(|problem| problem.what.contains("names that the CA may certify"))
    };
    assert!(told("broker") && told("alice.other.example"));
    assert!(!told("broker.home.example") && !told("tasmota_kitchen"));
    assert!(!check.certificates[0].problems.iter().any(|problem| problem.what.contains("names")));
    let before = fs::read(place.join("index.txt")).unwrap();
    let error = authority.renew(&name("broker"), &Renewal::default(), now).unwrap_err();
    assert!(matches!(error, PkiError::NamesNotAllowed { .. }), "{error}");
    assert!(error.to_string().contains("the address 192.168.1.10") || error.to_string().contains("broker"));
    assert_eq!(fs::read(place.join("index.txt")).unwrap(), before, "nothing was changed");
    authority.renew(&name("broker.home.example"), &Renewal::default(), now).unwrap();

    // One that limits subjects is refused by rustls as a whole.
    folder(&place, Some(&free), Some("permitted;dirName:uk"));
    let check = Pki::open(&place).unwrap().check(now).unwrap();
    let whole = &check.certificates[0].problems;
    assert!(whole.iter().any(|problem| problem.what.contains("Quoll's broker")), "{whole:?}");
}

#[test]
fn the_limits_of_a_ca_above_count_too() {
    let dir = quick_folder();
    let (free, above, below) = (dir.path().join("free"), dir.path().join("above"), dir.path().join("below"));
    folder(&free, None, None);
    folder(&above, Some(&free), Some("critical,permitted;DNS:home.example"));
    let now = OffsetDateTime::now_utc();
    let sub = IssueRequest::new(Profile::SubCa, name("Below"), KeyStorage::Plain);
    let sub = unlock(&above).issue(&sub, now).unwrap();
    folder(&below, Some(&free), Some("excluded;DNS:other.example"));
    fs::copy(above.join("private/Below.key"), below.join("private/ca.key")).unwrap();
    let root = fs::read_to_string(above.join("ca.crt")).unwrap();
    fs::write(below.join("ca.crt"), sub.certificate.pem() + &root).unwrap();
    let authority = unlock(&below);
    let request = |text: &str| {
        let mut request = IssueRequest::new(Profile::Server, name(text), KeyStorage::Plain);
        request.key = KeySource::Generate(KeyKind::EcP256);
        request
    };
    authority.issue(&request("broker.home.example"), now).unwrap();
    let error = authority.issue(&request("broker.third.example"), now).unwrap_err();
    assert!(matches!(error, PkiError::NamesNotAllowed { .. }), "{error}");
}

#[test]
fn a_batch_with_a_name_that_is_not_allowed_is_refused_before_anything_is_signed() {
    let dir = quick_folder();
    let (place, home) = (dir.path().join("limited"), dir.path().join("home"));
    folder(&place, None, Some("critical,permitted;DNS:home.example"));
    let now = OffsetDateTime::now_utc();
    let mut names: Vec<_> = (0..CHUNK).map(|at| format!("plug-{at}")).collect();
    names.push("last.other.example".into());
    let wishes: Vec<_> = names.iter().map(|text| Wish::new(Profile::Tasmota, name(text))).collect();
    let asked = ask::ask(&home, "x", &wishes, &[], now, |_| {}).unwrap();
    let bundle = RequestBundle::read(&asked.bytes).unwrap();
    let authority = unlock(&place);
    let refused = Signing::prepare(authority.pki(), bundle, Decisions::default(), now).err().unwrap();
    let told = refused.to_string();
    assert!(told.contains("last.other.example") && told.contains("may certify"), "{told}");
    assert_eq!(authority.pki().entries().unwrap(), [], "nothing was signed");

    // What is foretold of a request is what is said of the certificate.
    let wanted = |text: &str| {
        let request = fs::read(home.join(format!("reqs/{text}.req"))).unwrap();
        let request = SigningRequest::from_pem(&request).unwrap();
        Wanted { request, profile: Profile::Tasmota, days: None, if_taken: IfTaken::Refuse }
    };
    let error = authority.issue_batch(&[wanted("last.other.example")], now, |_| {}).unwrap_err();
    assert!(matches!(error, PkiError::NamesNotAllowed { .. }), "{error}");
    authority.issue_batch(&[wanted("plug-0")], now, |_| {}).unwrap();
}
