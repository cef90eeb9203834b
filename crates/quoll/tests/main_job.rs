//! The main job: a CA, a broker, devices that are each themselves, and one of them thrown out.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::{Home, until};

#[test]
fn three_virtual_devices_come_online_under_their_own_names_and_are_heard() {
    let home = Home::new();
    let mut up = home.up(&["--virtual", "3"]);
    for name in ["kitchen", "garage", "porch"] {
        up.wait_for(|line| line.starts_with(&format!("{name}  tele/{name}/")));
    }
    let devices = home.json(&["device", "list"]);
    let devices = devices.as_array().unwrap();
    assert_eq!(devices.len(), 3);
    for device in devices {
        assert_eq!(device["online"], json!(true), "{device}");
        assert_eq!(device["rung"], json!("mutual"), "{device}");
        assert!(device["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{device}");
        assert!(device["certificate_serial"].as_str().unwrap().len() >= 30, "{device}");
        assert!(device["expires"].as_str().unwrap().ends_with('Z'), "{device}");
    }
    assert_eq!(up.stop(), 0, "SIGTERM is a good end");
    assert!(!home.path("quoll.sock").exists(), "nothing is left lying");
}

#[test]
fn a_revoked_device_is_cut_off_at_once_for_good_and_the_others_do_not_notice() {
    let home = Home::new();
    let mut up = home.up(&["--virtual", "3"]);
    up.wait_for(|line| line.starts_with("porch  online"));
    let client = |name: &str| {
        let shown = home.json(&["device", "show", name]);
        (shown["online"].clone(), shown["connected_from"].clone())
    };
    let (garage, porch) = (client("garage"), client("porch"));

    let begun = Instant::now();
    let revoked = home.json(&["device", "revoke", "kitchen", "--reason", "keyCompromise", "--yes"]);
    assert_eq!(revoked["connections_ended"], json!(1), "{revoked}");
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(home.device("kitchen")["online"], json!(false));
    assert_eq!(home.device("kitchen")["state"], json!("revoked"));

    // It tries again every two seconds, being virtual.
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(home.device("kitchen")["online"], json!(false), "it came back");
    assert_eq!((client("garage"), client("porch")), (garage, porch), "the others' connections are the same");
    assert_eq!(up.stop(), 0);

    let mut up = home.up(&["--virtual", "3"]);
    up.wait_for(|line| line.starts_with("porch  online"));
    assert_eq!(home.device("kitchen")["online"], json!(false), "it came back after a restart");
    assert_eq!(home.device("garage")["online"], json!(true));
    assert_eq!(up.stop(), 0);
}

#[test]
fn what_easy_rsa_revokes_is_cut_off_without_a_bell() {
    let home = Home::new();
    let mut up = home.up(&["--virtual", "1"]);
    up.wait_for(|line| line.starts_with("kitchen  online"));
    let passphrase = std::fs::read_to_string(home.path("ca-passphrase")).unwrap();
    let output = std::process::Command::new("/usr/share/easy-rsa/easyrsa")
        .arg(format!("--pki-dir={}", home.path("pki").display()))
        .args(["--batch", "revoke", "kitchen", "superseded"])
        .env("EASYRSA_PASSIN", format!("pass:{}", passphrase.trim()))
        .current_dir(home.dir.path())
        .output()
        .expect("easy-rsa is needed: scripts/setup installs it");
    assert!(output.status.success(), "{}", support::complaint(&output));
    until(|| home.device("kitchen")["online"].clone(), |online| *online == json!(false));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(home.device("kitchen")["online"], json!(false), "it came back");
    assert_eq!(up.stop(), 0);
}

#[test]
fn a_killed_node_leaves_nothing_that_stops_the_next_one() {
    let home = Home::new();
    let mut up = home.up(&["--virtual", "1"]);
    up.wait_for(|line| line.starts_with("kitchen  online"));
    up.kill();
    assert_eq!(home.device("kitchen")["online"], json!(false), "without a node nobody is online");
    let mut up = home.up(&["--virtual", "1"]);
    up.wait_for(|line| line.starts_with("kitchen  online"));
    assert_eq!(up.stop(), 0);
}

#[test]
fn a_node_killed_while_it_enrols_goes_on_where_it_stopped() {
    for marks in ["register the device", "issue a certificate", "(TLSKey1)", "(TLSKey2)", "point the device"]
    {
        let home = Home::new();
        let mut up = home.up(&["--virtual", "1"]);
        up.wait_for(|line| line.contains(marks));
        up.kill();
        let mut up = home.up(&["--virtual", "1"]);
        up.wait_for(|line| line.starts_with("kitchen  online"));
        let issued = std::fs::read_dir(home.path("pki/issued")).unwrap().count();
        assert_eq!(issued, 2, "{marks}: one certificate for the server, one for the device");
        assert_eq!(up.stop(), 0);
    }
}
