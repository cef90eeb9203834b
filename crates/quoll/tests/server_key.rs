//! A new key for the server, told to the devices that pin the old one, against a running node.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use quoll_tasmota::virtual_device::{Firmware, RunningDevice};
use serde_json::json;
use support::pinned::{device, slots};
use support::{Home, until};
use tokio::runtime::Runtime;

#[test]
fn the_servers_key_is_changed_and_no_device_is_lost() {
    let home = Home::new();
    let up = support::pinned::up(&home);
    let runtime = Runtime::new().unwrap();
    let start = |firmware, last| device(&runtime, &home, firmware, last);
    let (porch, garage, attic) =
        (start(Firmware::Stock, 1), start(Firmware::ClientCert, 2), start(Firmware::Stock, 3));
    let add = |name: &str, device: &RunningDevice| {
        home.json(&["device", "add", name, "--at", &device.http_addr().to_string()])
    };
    assert_eq!(add("porch", &porch)["rung"], json!("pinned"));
    assert_eq!(add("garage", &garage)["rung"], json!("mutual"));
    let shown = || home.json(&["server", "show"])["mqtt_fingerprint"].as_str().unwrap().to_owned();
    let old = shown();
    for verb in ["status", "switch", "finish"] {
        assert!(home.fails(9, &["server", "key", verb]).contains("server key stage"), "{verb}");
    }

    let staged = home.json(&["server", "key", "stage"]);
    assert_eq!(
        (&staged["stage"], &staged["ready"], &staged["of"]),
        (&json!("staging"), &json!(1), &json!(1))
    );
    assert_eq!(staged["others"], json!(1), "the one that checks the CA needs nothing");
    let new = staged["new"].as_str().unwrap().to_owned();
    assert_eq!(slots(&porch), [old.clone(), new.clone()]);
    assert_eq!(shown(), old, "the server shows the old key still");

    // Taken back, and begun again.
    home.ok(&["server", "key", "abort", "--yes"]);
    assert_eq!(slots(&porch), [old.clone(), old.clone()]);
    assert!(!home.path("server-key-next.pem").exists());
    let staged = home.json(&["server", "key", "stage"]);
    let new_again = staged["new"].as_str().unwrap().to_owned();
    assert_ne!(new_again, new, "another key: the first one was thrown away");
    let new = new_again;

    // A device that came in between was not told.
    add("attic", &attic);
    let refused = home.fails(4, &["server", "key", "switch"]);
    assert!(refused.contains("attic") && refused.contains("server key stage"), "{refused}");
    assert_eq!(shown(), old);
    assert_eq!(home.json(&["server", "key", "stage"])["ready"], json!(2));

    let switched = home.json(&["server", "key", "switch"]);
    assert_eq!((&switched["stage"], &switched["ready"]), (&json!("switched"), &json!(2)), "{switched}");
    assert_eq!(shown(), new);
    for name in ["porch", "attic", "garage"] {
        until(|| home.device(name)["online"].clone(), |online| *online == json!(true));
    }
    let finished = home.json(&["server", "key", "finish"]);
    assert_eq!(finished["mqtt_fingerprint"], json!(new), "{finished}");
    assert_eq!(slots(&porch), [new.clone(), new.clone()]);
    assert_eq!(slots(&attic), [new.clone(), new.clone()]);
    assert!(!home.path("server-key-next.pem").exists());
    home.fails(9, &["server", "key", "status"]);

    // A pinned device's own identity is its password.
    let rotated = home.json(&["device", "rotate", "porch"]);
    assert_eq!((&rotated["rung"], &rotated["new"]), (&json!("pinned"), &json!("password")), "{rotated}");
    until(|| home.device("porch")["online"].clone(), |online| *online == json!(true));
    let trail = home.ok(&["audit", "show"]);
    for verb in ["server.key.staging", "server.key.aborted", "server.key.switched", "server.key.finished"] {
        assert!(trail.contains(verb), "{verb}: {trail}");
    }
    assert_eq!(up.stop(), 0);
}
