//! A change of the server's key that stopped between its steps: the same command ends it well, or an abort takes it back.
//! What a kill leaves is put into the registry and the home folder here, as each step leaves it.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use quoll_fleet::registry::Registry;
use quoll_fleet::registry::server_key::{KeyStage, SlotStage};
use quoll_tasmota::virtual_device::Firmware;
use serde_json::{Value, json};
use support::pinned::{device, slots};
use support::{Home, until};
use tokio::runtime::Runtime;

#[test]
fn a_change_that_was_killed_between_its_steps_is_ended_or_taken_back() {
    let home = Home::new();
    let up = support::pinned::up(&home);
    let runtime = Runtime::new().unwrap();
    let porch = device(&runtime, &home, Firmware::Stock, 1);
    home.ok(&["device", "add", "porch", "--at", &porch.http_addr().to_string()]);
    let registry = Registry::open(&home.path("fleet.db")).unwrap();
    let name = "porch".parse().unwrap();
    let shown = || home.json(&["server", "show"])["mqtt_fingerprint"].as_str().unwrap().to_owned();
    let key = |words: &[&str]| home.json(&[&["server", "key"], words].concat());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let stage = || registry.server_key_change().unwrap().map(|change| change.stage);
    let back = |why: &str| {
        until(|| home.device("porch")["online"].clone(), |online| *online == json!(true));
        assert!(porch.state().connected, "{why}");
    };
    let old = shown();

    // The key was made, and no device told: the same one is used.
    let new = text(&key(&["stage"])["new"]);
    registry.end_server_key("killed").unwrap();
    let again = key(&["stage"]);
    assert_eq!((text(&again["new"]), &again["ready"]), (new.clone(), &json!(1)));

    // About to be given to the server.
    registry.advance_server_key(KeyStage::Switching).unwrap();
    assert_eq!(text(&key(&["abort", "--yes"])["mqtt_fingerprint"]), old);
    assert_eq!((slots(&porch), stage(), shown()), ([old.clone(), old.clone()], None, old.clone()));
    let new = text(&key(&["stage"])["new"]);
    registry.advance_server_key(KeyStage::Switching).unwrap();
    assert_eq!(key(&["status"])["stage"], json!("switching"));
    assert_eq!(key(&["switch"])["ready"], json!(1));
    assert_eq!((shown(), stage()), (new.clone(), Some(KeyStage::Switched)));

    // Given to the server, and that was not noted: the switch goes on, and an abort still takes it back.
    registry.advance_server_key(KeyStage::Switching).unwrap();
    registry.advance_slots(&name, SlotStage::Staged).unwrap();
    assert_eq!(key(&["switch"])["ready"], json!(1));
    registry.advance_server_key(KeyStage::Switching).unwrap();
    assert_eq!(text(&key(&["abort", "--yes"])["mqtt_fingerprint"]), old);
    assert_eq!((slots(&porch), shown()), ([old.clone(), old.clone()], old.clone()));
    back("after the abort");

    // The old key was given back, and that was not noted: nobody's old key is taken while the server shows it.
    let new = text(&key(&["stage"])["new"]);
    registry.advance_server_key(KeyStage::Switched).unwrap();
    registry.advance_slots(&name, SlotStage::Proven).unwrap();
    home.fails(4, &["server", "key", "finish"]);
    assert_eq!(slots(&porch), [old.clone(), new.clone()]);
    assert_eq!(key(&["switch"])["stage"], json!("switched"));
    assert_eq!(shown(), new);

    // A device that was added since then pins the new key alone.
    let attic = device(&runtime, &home, Firmware::Stock, 2);
    home.ok(&["device", "add", "attic", "--at", &attic.http_addr().to_string()]);
    assert_eq!(slots(&attic), [new.clone(), new.clone()]);
    assert_eq!(key(&["switch"])["ready"], json!(2));

    // The old key was about to be taken from a device, or was: then there is no way back, and the same command goes on.
    registry.begin_slots(&name, &slots(&porch)).unwrap();
    let said = home.fails(3, &["server", "key", "abort", "--yes"]);
    assert!(said.contains("porch") && said.contains("server key finish"), "{said}");
    assert_eq!(key(&["finish"])["finished"], json!(true));
    assert_eq!((slots(&porch), stage()), ([new.clone(), new.clone()], None));
    back("at the end");

    // Its row was ended, and its file was not removed, as an older release may have left it: that is no new key.
    let pki = home.path("pki/private");
    let server = std::fs::read_dir(pki).unwrap().map(|entry| entry.unwrap().path());
    let server = server.filter(|path| !path.ends_with("ca.key"));
    let plain = server
        .filter(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains("BEGIN PRIVATE KEY")));
    let plain: Vec<_> = plain.collect();
    assert_eq!(plain.len(), 1, "the server's: {plain:?}");
    std::fs::copy(&plain[0], home.path("server-key-next.pem")).unwrap();
    let staged = key(&["stage"]);
    assert_ne!(text(&staged["new"]), new, "the key that the server shows is no new one");
    assert_eq!(text(&staged["old"]), new);
    key(&["abort", "--yes"]);
    drop(up);
}
