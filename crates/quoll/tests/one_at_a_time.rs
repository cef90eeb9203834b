//! Two processes and one device: who comes second is told so, and does nothing. The test holds the device as a run of
//! another process would.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::io::ErrorKind;
use std::net::TcpListener;

use quoll_fleet::campaign::{Candidate, Found, Skill};
use quoll_fleet::registry::Registry;
use serde_json::json;
use support::Home;
use time::OffsetDateTime;

const MAC: &str = "A0:B1:C2:D3:E4:07";

/// A home with a device that has a certificate, and no node.
fn home() -> Home {
    let home = Home::new();
    home.init();
    home.ok(&["device", "add", "porch", "--print", "--mac", MAC, "--at", "127.0.0.1:9"]);
    home
}

#[test]
fn nobody_works_on_a_device_that_another_process_is_at_work_on() {
    let home = home();
    let registry = Registry::open(&home.path("fleet.db")).unwrap();
    let console = TcpListener::bind("127.0.0.1:0").unwrap();
    console.set_nonblocking(true).unwrap();
    let at = console.local_addr().unwrap().to_string();
    let index = || std::fs::read_to_string(home.path("pki/index.txt")).unwrap();
    let (before, book) = (home.device("porch"), index());
    let held = registry.lock_enrolment(&"porch".parse().unwrap()).unwrap().unwrap();
    for words in [
        &["device", "remove", "porch", "--yes"][..],
        &["device", "remove", "PORCH", "--yes"],
        &["device", "replace", "porch", "--at", &at, "--yes"],
        &["device", "add", "porch", "--at", &at],
        &["device", "add", "porch", "--print", "--mac", MAC],
        &["device", "rotate", "porch", "--at", &at],
        &["device", "rename", "porch", "patio", "--at", &at],
        &["device", "repair", "porch", "--at", &at],
        &["doctor", "porch", "--at", &at, "--fix"],
    ] {
        let told = home.fails(4, words);
        assert!(told.contains("porch is being enrolled or changed by another process"), "{words:?}: {told}");
        assert!(told.contains("hint:") && told.contains("wait until it is done"), "{words:?}: {told}");
        let asked = console.accept().map(drop).map_err(|error| error.kind());
        assert_eq!(asked, Err(ErrorKind::WouldBlock), "{words:?}: the device was asked");
        assert_eq!((home.device("porch"), index()), (before.clone(), book.clone()), "{words:?}");
    }
    assert!(home.fails(4, &["device", "remove", "porch", "--yes"]).contains("quoll device revoke porch"));
    // To shut it out nobody waits.
    home.ok(&["device", "revoke", "porch", "--yes"]);
    drop(held);
    home.ok(&["device", "remove", "porch", "--yes"]);
    assert_eq!(home.json(&["device", "list"]), json!([]));
}

/// Two runs would take each other's devices for failures, and the second one's report would be the last.
#[test]
fn one_run_over_many_devices_at_a_time() {
    let home = Home::new();
    home.init();
    let registry = Registry::open(&home.path("fleet.db")).unwrap();
    let console = TcpListener::bind("127.0.0.1:0").unwrap();
    console.set_nonblocking(true).unwrap();
    let now = OffsetDateTime::now_utc();
    let found = Found {
        address: Some(console.local_addr().unwrap().to_string()),
        topic: Some("porch".into()),
        client: Some("DVES_D3E407".into()),
        chip: Some("ESP32".into()),
        ability: Some(Skill::Key),
        ..Found::default()
    };
    let porch = Candidate { mac: MAC.parse().unwrap(), found, first_found: now, last_found: now };
    registry.keep_candidates(&[porch]).unwrap();
    let held = registry.lock_campaigns().unwrap().unwrap();
    assert!(registry.lock_campaigns().unwrap().is_none());
    let told = home.fails(4, &["fleet", "provision"]);
    assert!(told.contains("another quoll fleet provision is at work"), "{told}");
    assert!(told.contains("quoll fleet report"), "{told}");
    assert_eq!(console.accept().map(drop).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
    assert_eq!(registry.campaign(None).unwrap(), None, "no run was noted");
    // What changes nothing need not wait.
    home.ok(&["fleet", "plan"]);
    home.ok(&["fleet", "report"]);
    drop(held);
    drop(console);
    let told = home.fails(4, &["fleet", "provision", "--attempts", "1"]);
    assert!(told.contains("not all devices are proven: 1 failed"), "{told}");
}
