//! Every clause is tested or says why not, and every test cites clauses that exist.

use std::collections::HashSet;

use conformance::coverage::{VERSIONS, clauses, elsewhere, home, tests};
use conformance::difference::exchanges;
use conformance::rows::Rows;

#[test]
fn every_clause_to_test_is_cited_by_a_test() {
    let mut rows = Rows::default();
    for (version, _) in VERSIONS {
        let cited: HashSet<String> =
            tests(version).expect("tests are there").into_iter().flat_map(|it| it.clauses).collect();
        for clause in clauses(version).expect("clauses are listed") {
            let fine = clause.status != "test" || cited.contains(&clause.number);
            rows.check(version, fine, clause);
        }
    }
    rows.finish();
}

#[test]
fn every_cited_clause_is_listed_once() {
    let mut rows = Rows::default();
    for (version, _) in VERSIONS {
        let listed = clauses(version).expect("clauses are listed");
        let numbers: HashSet<&str> = listed.iter().map(|it| it.number.as_str()).collect();
        rows.equal(version, &numbers.len(), &listed.len());
        for test in tests(version).expect("tests are there") {
            for clause in &test.clauses {
                rows.check(&test.name, numbers.contains(clause.as_str()), clause);
            }
        }
    }
    rows.finish();
}

#[test]
fn every_status_is_known() {
    for (version, _) in VERSIONS {
        for clause in clauses(version).expect("clauses are listed") {
            let known = matches!(clause.status.as_str(), "test" | "client" | "unseen" | "transport");
            assert!(known, "{version} {clause:?}");
        }
    }
}

#[test]
fn what_is_not_tested_here_is_tested_elsewhere() {
    let elsewhere = elsewhere().expect("elsewhere.tsv is there");
    let mut rows = Rows::default();
    for (version, _) in VERSIONS {
        for clause in clauses(version).expect("clauses are listed") {
            let held = elsewhere.iter().any(|it| it.version == version && it.clause == clause.number);
            rows.check(version, clause.status == "test" || held, clause);
        }
    }
    rows.finish();
}

#[test]
fn every_test_elsewhere_is_there() {
    let mut rows = Rows::default();
    for it in elsewhere().expect("elsewhere.tsv is there") {
        let text = std::fs::read_to_string(home().join("..").join(&it.file)).unwrap_or_default();
        let place = text.find(&format!("fn {}(", it.test));
        let is_test = place.is_some_and(|place| {
            let before: String = text[..place].lines().rev().take(4).collect();
            before.contains("test]") || before.contains("test(")
        });
        rows.check(&it.clause, is_test, (it.file, it.test));
    }
    rows.finish();
}

#[test]
fn every_deliberate_difference_has_a_name_a_clause_and_a_reason() {
    let mut rows = Rows::default();
    let mut seen = HashSet::new();
    for rule in exchanges().expect("differences.toml can be read") {
        let fine = seen.insert(rule.id.clone()) && !rule.clause.is_empty() && rule.why.len() > 20;
        rows.check(&rule.id, fine && !rule.when.is_empty(), &rule);
    }
    rows.finish();
}
