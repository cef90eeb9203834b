//! `quoll audit`: the trail of what was done, and what shows when somebody writes in it.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use rusqlite::Connection;
use support::Home;

/// A home in which a few things were done.
fn lived_in() -> Home {
    let home = Home::new();
    home.init();
    home.ok(&["client", "add", "alice"]);
    home.ok(&["client", "add", "bob"]);
    home.ok(&["client", "revoke", "alice", "--yes"]);
    home
}

#[test]
fn the_last_acts_are_shown_in_their_order() {
    let home = lived_in();
    let rows = home.json(&["audit", "show", "--last", "1000"]);
    let rows = rows.as_array().unwrap();
    assert!(rows.len() >= 3, "{rows:?}");
    for (at, row) in rows.iter().enumerate() {
        assert_eq!(row["seq"], at as u64 + 1);
        assert_eq!(row["hash"].as_str().unwrap().len(), 64);
        assert!(row["at"].as_str().unwrap().ends_with('Z'), "{row}");
    }
    assert!(
        rows.iter().any(|row| row["subject"] == "alice" && row["verb"].as_str().unwrap().contains("revoke")),
        "{rows:?}"
    );
    let last = home.json(&["audit", "show", "--last", "2"]);
    assert_eq!(last.as_array().unwrap(), &rows[rows.len() - 2..]);
    assert!(home.ok(&["audit", "show"]).contains("bob"));
    home.fails(2, &["audit", "show", "--last", "0"]);
}

#[test]
fn a_whole_trail_verifies_and_tells_its_head() {
    let home = lived_in();
    let rows = home.json(&["audit", "show", "--last", "1000"]);
    let last = rows.as_array().unwrap().last().unwrap().clone();
    let before = home.json(&["audit", "verify"]);
    assert_eq!(before["rows"], last["seq"]);
    assert_eq!(before["head"], last["hash"]);
    home.ok(&["client", "add", "carol"]);
    let noted = before["head"].as_str().unwrap();
    let after = home.json(&["audit", "verify", "--noted", noted]);
    assert_ne!(after["head"], before["head"]);
    let said = home.fails(3, &["audit", "verify", "--noted", &"0f".repeat(32)]);
    assert!(said.contains("never had the head"), "{said}");
    home.fails(2, &["audit", "verify", "--noted", "abc"]);
}

#[test]
fn whoever_writes_in_the_trail_is_found_out() {
    for (case, statement) in [
        ("a changed subject", "UPDATE audit SET subject = 'carol' WHERE seq = 2"),
        ("a row gone", "DELETE FROM audit WHERE seq = 2"),
        ("the end gone", "DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)"),
    ] {
        let home = lived_in();
        let db = Connection::open(home.path("fleet.db")).unwrap();
        db.execute_batch("DROP TRIGGER audit_is_written_once; DROP TRIGGER audit_is_kept").unwrap();
        db.execute_batch(statement).unwrap();
        drop(db);
        let said = home.fails(3, &["audit", "verify"]);
        assert!(said.contains("tampered") && said.contains("row"), "{case}: {said}");
        assert!(said.contains("quoll: hint:  "), "{case}: {said}");
    }
}

#[test]
fn looking_at_a_trail_makes_none() {
    let home = Home::new();
    for verb in ["show", "verify"] {
        home.fails(9, &["audit", verb]);
    }
    assert!(!home.path("fleet.db").exists());
}
