//! docs/doctor.md says what the rules are.

#![allow(clippy::unwrap_used, reason = "a test may")]

use quoll_fleet::doctor::rules;

const BEGIN: &str = "<!-- rules: written by QUOLL_BLESS=1 cargo test -p quoll-fleet --test doctor_page -->\n";
const END: &str = "<!-- end of rules -->\n";

#[test]
fn the_table_of_the_page_is_that_of_the_rules() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/doctor.md");
    let page = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (before, rest) = page.split_once(BEGIN).expect("the page has the mark before its table");
    let (_, after) = rest.split_once(END).expect("the page has the mark after its table");
    let says = format!("{before}{BEGIN}\n{}\n{END}{after}", rules::table());
    if std::env::var_os("QUOLL_BLESS").is_some() {
        std::fs::write(path, &says).unwrap();
    }
    assert!(std::fs::read_to_string(path).unwrap() == says, "docs/doctor.md is not what the rules say");
}

#[test]
fn every_number_of_the_page_is_one_that_devices_log() {
    for rule in rules::RULES {
        for number in rule.numbers {
            let known = quoll_tasmota::tls_error::explain(*number).is_some();
            // BearSSL's own for what is no TLS, and an alert that no broker we know sends.
            assert!(known || [3, 4, 9, 299].contains(number), "{}: {number}", rule.id);
        }
    }
}
