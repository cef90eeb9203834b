//! Clocks that are wrong: a machine without a battery, one that was years ahead. No list and no CA is made that shuts
//! everybody out once the clock is right.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod common;

use common::*;
use quoll_pki::{KeyKind, NewCa, Pki, PkiError};
use time::{Duration, OffsetDateTime, macros::datetime};

#[test]
fn no_ca_and_no_list_by_a_clock_that_is_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pki");
    let new = NewCa { key: KeyKind::EcP256, ..NewCa::new("CA") };
    for unset in [OffsetDateTime::UNIX_EPOCH, datetime!(2000-01-01 0:01 UTC), datetime!(2023-12-31 23:59 UTC)]
    {
        let refused = Pki::create(&path, &new, &test_pass(), unset).unwrap_err();
        assert!(matches!(refused, PkiError::ClockUnset { .. }), "{refused}");
        assert!(refused.hint().unwrap().contains("clock"));
        assert!(!path.exists(), "nothing was made");
    }
    let authority = Pki::create(&path, &new, &test_pass(), NOW).unwrap().unlock(&test_pass()).unwrap();
    authority.publish_crl(NOW).unwrap();
    let list = std::fs::read(path.join("crl.pem")).unwrap();
    let behind = NOW - Duration::days(3 * 365);
    let refused = authority.publish_crl(behind).unwrap_err();
    assert!(matches!(refused, PkiError::ClockBeforeCa { .. }), "{refused}");
    assert!(std::fs::read(path.join("crl.pem")).unwrap() == list, "the good list is there");
    let told = authority.pki().check(behind).unwrap();
    let what: Vec<_> = told.certificates[0].problems.iter().map(|problem| problem.what.as_str()).collect();
    assert!(what.iter().any(|what| what.contains("after the clock")), "{what:?}");
}

#[test]
fn a_list_of_a_clock_that_was_ahead_is_told_and_written_anew() {
    let (_dir, path, authority) = unlocked("easyrsa-pki-3.2");
    let pki = authority.pki();
    authority.publish_crl(NOW + Duration::hours(2)).unwrap();
    assert!(!pki.crl_is_behind(NOW).unwrap(), "two clocks may differ");
    authority.publish_crl(NOW + Duration::days(900)).unwrap();
    // OpenSSL takes it for what it is: not yet good for anybody.
    let at = NOW.unix_timestamp().to_string();
    let (ca, list, good) =
        (path.join("ca.crt"), path.join("crl.pem"), path.join("issued/mqtt.myorg.com.crt"));
    let mut words = vec!["verify", "-crl_check", "-attime", &at, "-CAfile", text_of(&ca)];
    words.extend(["-CRLfile", text_of(&list), text_of(&good)]);
    let (ok, said) = openssl(&words);
    assert!(!ok && said.contains("CRL is not yet valid"), "{said}");
    assert!(pki.crl_is_behind(NOW).unwrap());
    let problems = pki.crl_status(NOW).unwrap().unwrap().problems;
    assert!(problems.iter().any(|problem| problem.contains("clock that was ahead")), "{problems:?}");
    authority.publish_crl(NOW).unwrap();
    assert!(openssl(&words).0);
    assert!(!pki.crl_is_behind(NOW).unwrap());
}
