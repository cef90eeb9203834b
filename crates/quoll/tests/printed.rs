//! Console lines that somebody pastes by hand, on either rung: typed into a virtual device, and proven by `device check`.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use quoll_tasmota::virtual_device::{Firmware, RunningDevice};
use serde_json::json;
use support::pinned::device;
use support::{Home, until};
use tokio::runtime::Runtime;

const MAC: &str = "A0:B1:C2:D3:E4:07";

/// Types a line once the device is up and does not restart any more.
fn typed(device: &RunningDevice, line: &str) -> String {
    until(|| device.state(), |state| state.running && !state.restarting);
    until(|| device.type_command(line), Option::is_some).unwrap()
}

/// As somebody who waits for the restart that the last Backlog brings.
fn paste(device: &RunningDevice, lines: &str) -> Vec<String> {
    let one = |line: &str| {
        let boots = device.state().boot_count;
        let answer = typed(device, line);
        if line.contains("MqttHost") {
            until(|| device.state(), |state| state.boot_count > boots);
        }
        answer
    };
    lines.lines().map(one).collect()
}

#[test]
fn pasted_lines_pin_a_device_and_a_check_proves_it() {
    let home = Home::new();
    let up = support::pinned::up(&home);
    let runtime = Runtime::new().unwrap();
    let porch = device(&runtime, &home, Firmware::Stock, 7);
    let at = porch.http_addr().to_string();

    // What is not to be shown is not made.
    let print = ["device", "add", "porch", "--rung", "pinned", "--print"];
    let hidden = home.ok(&[&print[..], &["--mac", MAC]].concat());
    assert!(hidden.contains("MqttUser porch; MqttPassword ****"), "{hidden}");
    assert!(!home.ok(&["audit", "show"]).contains("device.password"), "no password was made");
    let check = ["device", "check", "porch", "--at", &at];
    home.ok(&check);
    assert_eq!(home.device("porch")["state"], json!("known"), "nothing was pasted, so nothing is proven");

    let shown = home.ok(&[&print[..], &["--reveal"]].concat());
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!((lines[0], lines.len()), ("MqttTLS", 6), "{shown}");
    let secret = shown.split("MqttPassword ").nth(1).unwrap().lines().next().unwrap().trim();
    assert_eq!(secret.len(), 40, "{shown}");
    for file in ["fleet.db", "fleet.db-wal"] {
        let bytes = std::fs::read(home.path(file)).unwrap_or_default();
        assert!(!bytes.windows(40).any(|part| part == secret.as_bytes()), "the password is in {file}");
    }
    // Made ready, and not proven: it has no such settings yet.
    let said = home.fails(4, &check);
    assert!(said.contains("1 of 1 devices need a hand"), "{said}");

    let answers = paste(&porch, &shown);
    assert_eq!(answers[0], r#"{"MqttTLS":"OFF"}"#);
    let key = home.json(&["server", "show"])["mqtt_fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(answers[3], format!("{{\"MqttFingerprint1\":\"{key}\"}}"));
    assert_eq!(answers[4], format!("{{\"MqttFingerprint2\":\"{key}\"}}"));
    until(|| porch.state(), |state| state.connected);

    let found = home.json(&check);
    assert_eq!(found[0]["finding"], json!("well"), "{found}");
    let now = home.device("porch");
    assert_eq!(
        (&now["state"], &now["rung"], &now["online"], &now["address"]),
        (&json!("proven"), &json!("pinned"), &json!(true), &json!(at)),
        "{now}"
    );
    let rotated = home.json(&["device", "rotate", "porch"]);
    assert_eq!(rotated["rung"], json!("pinned"), "it is like any other: {rotated}");
    drop(up);
}

#[test]
fn pasted_lines_give_a_key_and_a_check_proves_it() {
    let home = Home::new();
    home.init();
    let _up = home.up_and_listening(&[]);
    let runtime = Runtime::new().unwrap();
    let attic = device(&runtime, &home, Firmware::ClientCert, 7);
    let at = attic.http_addr().to_string();
    let refused = home.fails(3, &["device", "add", "attic", "--rung", "pinned", "--print", "--mac", MAC]);
    assert!(refused.contains("[listen]"), "there is no door for pinned devices: {refused}");
    assert_eq!(home.json(&["device", "list"]), json!([]), "and nothing was noted");

    let shown = home.ok(&["device", "add", "attic", "--print", "--reveal", "--mac", MAC]);
    let said = home.fails(4, &["device", "check", "attic", "--at", &at]);
    assert!(said.contains("need a hand"), "its key store is empty: {said}");
    paste(&attic, &shown);
    until(|| attic.state(), |state| state.connected);
    let found = home.json(&["device", "check", "attic", "--at", &at]);
    assert_eq!(found[0]["finding"], json!("well"), "{found}");
    let now = home.device("attic");
    assert_eq!((&now["state"], &now["rung"]), (&json!("proven"), &json!("mutual")), "{now}");
}

#[test]
fn who_is_printed_is_refused_what_others_are_refused() {
    let home = Home::new();
    home.init();
    let print = ["--print", "--mac"];
    let add = |name: &'static str, mac: &'static str| [&["device", "add", name][..], &print, &[mac]].concat();
    home.ok(&add("attic", MAC));
    let one = home.device("attic");
    // In other letters it is the same device, with the same certificate.
    home.ok(&add("Attic", MAC));
    assert_eq!(home.device("attic"), one);
    let other = "A0:B1:C2:D3:E4:08";
    let topic = ["--topic", "tasmota_D3E407"];
    let refused = home.fails(3, &[&add("loft", other)[..], &topic].concat());
    assert!(refused.contains("those of attic") && refused.contains("--share-topics"), "{refused}");
    // A server's name is none for a device, and leaves nothing behind.
    home.ok(&["ca", "issue", "hub", "--profile", "server", "--dns", "hub"]);
    let refused = home.fails(3, &add("hub", other));
    assert!(refused.contains("not a device's"), "{refused}");
    let devices = home.json(&["device", "list"]);
    assert_eq!(devices.as_array().unwrap().len(), 1, "{devices}");
}

#[test]
fn a_device_is_pinned_over_its_cable_and_no_log_shows_its_password() {
    let home = Home::new();
    let _up = support::pinned::up(&home);
    let runtime = Runtime::new().unwrap();
    let mut porch = device(&runtime, &home, Firmware::Stock, 7);
    let line = {
        let _inside = runtime.enter();
        porch.attach_serial().unwrap()
    };
    let added = home.json(&["device", "add", "porch", "--serial", line.to_str().unwrap()]);
    assert_eq!((&added["rung"], &added["name"]), (&json!("pinned"), &json!("porch")), "{added}");
    let now = home.device("porch");
    assert_eq!((&now["state"], &now["online"]), (&json!("proven"), &json!(true)), "{now}");
    let (user, password) = until(|| porch.login(), Option::is_some).unwrap();
    assert_eq!((user.as_str(), password.len()), ("porch", 40));
    let log = runtime.block_on(async {
        use quoll_fleet::enrol::{DeviceConsole as _, http_console};
        let address = porch.http_addr().to_string().parse().unwrap();
        http_console(&address, None).log_lines().await.unwrap().join("\n")
    });
    assert!(!log.contains(password.as_str()), "the web log shows the password");
    assert_eq!(typed(&porch, "WebLog"), r#"{"WebLog":2}"#);
    // And a new password the same way.
    home.ok(&["device", "rotate", "porch", "--serial", line.to_str().unwrap()]);
    let (_, next) = until(|| porch.login(), Option::is_some).unwrap();
    assert_ne!(*next, *password);
}
