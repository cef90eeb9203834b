//! Every clause is tested or says why not, and every test cites clauses that exist.

use std::collections::HashSet;

use conformance::coverage::{VERSIONS, clauses, tests};
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
