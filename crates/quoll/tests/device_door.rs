//! Who is kept out although its certificate is valid: in quarantine, removed, rejected, not yet accepted.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::process::Output;

use quoll_fleet::registry::{Owner, Registry};
use serde_json::json;
use support::{Home, complaint, tool, until};

/// Publishes as the holder of a certificate that Quoll's own book knows nothing of.
fn publish(home: &Home, name: &str, topic: &str) -> Output {
    let file = |inside: String| home.path(&inside).display().to_string();
    let (ca, cert, key) = (
        file("pki/ca.crt".into()),
        file(format!("pki/issued/{name}.crt")),
        file(format!("pki/private/{name}.key")),
    );
    let port = home.port.to_string();
    tool(
        "mosquitto_pub",
        &[
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "--cafile",
            &ca,
            "--cert",
            &cert,
            "--key",
            &key,
            "-V",
            "mqttv5",
            "-q",
            "1",
            "-i",
            name,
            "-t",
            topic,
            "-m",
            "x",
        ],
    )
}

fn issue(home: &Home, name: &str) -> String {
    let issued =
        home.json(&["ca", "issue", name, "--profile", "client", "--key", "ec-p256", "--store", "plain"]);
    issued["serial"].as_str().unwrap().to_owned()
}

fn pending(home: &Home) -> serde_json::Value {
    home.json(&["device", "pending"])
}

#[test]
fn a_device_in_quarantine_is_cut_off_at_once_and_comes_back_when_released() {
    let home = Home::new();
    let mut up = home.up(&["--virtual", "2"]);
    up.wait_for(|line| line.starts_with("kitchen  online"));
    let kept = home.json(&["device", "quarantine", "kitchen", "--reason", "it blinks"]);
    assert_eq!(kept["connections_ended"], json!(1), "{kept}");
    assert_eq!(home.device("kitchen")["state"], json!("quarantined"));
    assert_eq!(home.device("kitchen")["online"], json!(false));
    // It tries again every two seconds, being virtual: the refusal is what the node says of it.
    up.wait_for(|line| line.contains("refused: it is in quarantine") && line.contains("kitchen"));
    assert_eq!(home.device("kitchen")["online"], json!(false), "it came back");
    assert_eq!(home.json(&["device", "quarantine", "kitchen"])["reason"], json!("it blinks"));
    home.ok(&["device", "release", "kitchen"]);
    until(|| home.device("kitchen")["online"].clone(), |online| *online == json!(true));
    assert_eq!(home.device("kitchen")["state"], json!("proven"));
    assert!(home.fails(9, &["device", "quarantine", "nobody"]).contains("device list"));
    let trail = home.ok(&["audit", "show"]);
    assert!(trail.contains("device.quarantined") && trail.contains("device.released"), "{trail}");
    assert_eq!(up.stop(), 0);
}

#[test]
fn a_removed_device_is_not_let_in_again_by_its_valid_certificate() {
    let home = Home::new();
    let mut up = home.up(&["--virtual", "1"]);
    up.wait_for(|line| line.starts_with("kitchen  online"));
    assert!(home.fails(10, &["device", "remove", "kitchen"]).contains("--yes"));
    let removed = home.json(&["device", "remove", "kitchen", "--yes"]);
    assert_eq!(removed["connections_ended"], json!(1), "{removed}");
    assert_eq!(removed["serials"].as_array().unwrap().len(), 1, "{removed}");
    assert_eq!(home.json(&["device", "list"]), json!([]));
    let index = std::fs::read_to_string(home.path("pki/index.txt")).unwrap();
    let line = index.lines().find(|line| line.contains("CN=kitchen")).unwrap();
    assert!(line.starts_with('R') && line.contains("cessationOfOperation"), "{line}");
    // Even where somebody puts an old index back, the registry remembers.
    std::fs::write(
        home.path("pki/index.txt"),
        index.replace(line, &{
            let mut fields: Vec<&str> = line.split('\t').collect();
            (fields[0], fields[2]) = ("V", "");
            fields.join("\t")
        }),
    )
    .unwrap();
    let status = home.json(&["device", "pending"]);
    assert_eq!(status, json!([]), "a removed device's certificate is not anybody's to accept");
    assert_eq!(up.stop(), 0);
    let up = home.up_and_listening(&[]);
    up.signal("-HUP");
    assert_eq!(home.json(&["device", "pending"]), json!([]));
    assert_eq!(up.stop(), 0);
}

#[test]
fn a_certificate_in_no_registry_waits_at_the_door_where_its_owner_wants_that() {
    let home = Home::new();
    home.init();
    let toml = std::fs::read_to_string(home.path("quoll.toml")).unwrap();
    let strict = toml.replace("unlisted_certificates = \"admit\"", "unlisted_certificates = \"pending\"");
    assert_ne!(strict, toml, "what nobody has said yet is said in the file");
    std::fs::write(home.path("quoll.toml"), strict).unwrap();
    let serial = issue(&home, "nodered");
    let mut up = home.up_and_listening(&[]);
    let refused = publish(&home, "nodered", "a/b");
    assert!(!refused.status.success(), "{}", complaint(&refused));
    up.wait_for(|line| line.contains("refused: it is in no registry") && line.contains("nodered"));
    let seen = until(|| pending(&home), |seen| seen.as_array().unwrap().len() == 1);
    assert_eq!((&seen[0]["name"], &seen[0]["state"]), (&json!("nodered"), &json!("pending")), "{seen}");
    assert_eq!(seen[0]["certificate_serial"], json!(serial));

    assert!(home.fails(9, &["device", "accept", "nobody"]).contains("device pending"));
    let accepted = home.json(&["device", "accept", "nodered", "--client", "home-assistant"]);
    assert_eq!(accepted["role"], json!("home-assistant"), "{accepted}");
    let published = publish(&home, "nodered", "cmnd/lamp/POWER");
    assert!(published.status.success(), "{}", complaint(&published));
    assert!(complaint(&publish(&home, "nodered", "a/b")).contains("Not authorized"));
    assert_eq!(pending(&home), json!([]));

    let serial = issue(&home, "old-laptop");
    let rejected = home.json(&["device", "reject", &serial]);
    assert_eq!(rejected["name"], json!("old-laptop"), "{rejected}");
    assert!(!publish(&home, "old-laptop", "a/b").status.success());
    assert_eq!(pending(&home)[0]["state"], json!("rejected"));
    assert!(home.fails(3, &["device", "reject", &serial_of_server(&home)]).contains("server"));
    assert_eq!(up.stop(), 0);
}

fn serial_of_server(home: &Home) -> String {
    home.json(&["server", "show"])["serial"].as_str().unwrap().to_owned()
}

#[test]
fn what_the_owners_ca_signed_comes_in_and_its_owner_hears_who_is_in_no_registry() {
    let home = Home::new();
    home.init();
    let serial = issue(&home, "lamp");
    let mut up = home.up_and_listening(&[]);
    let published = publish(&home, "lamp", "anything/at/all");
    assert!(published.status.success(), "{}", complaint(&published));
    up.wait_for(|line| line.contains("let in with all permissions") && line.contains("lamp"));
    let seen = until(|| pending(&home), |seen| seen.as_array().unwrap().len() == 1);
    assert_eq!(seen[0]["state"], json!("admitted"));

    // Its topics are asked for, or said; then it may do what a device may.
    let told = home.fails(7, &["device", "accept", "lamp", "--at", "127.0.0.1:9"]);
    assert!(told.contains("--mac"), "{told}");
    home.ok(&["device", "accept", "lamp", "--mac", "A0:B1:C2:D3:E4:F5", "--topic", "lamp", "--no-wait"]);
    assert!(publish(&home, "lamp", "tele/lamp/STATE").status.success());
    assert!(complaint(&publish(&home, "lamp", "anything/at/all")).contains("Not authorized"));
    assert_eq!(home.device("lamp")["certificate_serial"], json!(serial));
    assert_eq!(pending(&home), json!([]));
    assert_eq!(up.stop(), 0);
}

/// What a kill leaves after each write of `remove` and `reject --revoke`; `quarantine` and `release` are one write each.
#[test]
fn a_removal_or_rejection_that_was_killed_is_ended_by_the_same_command() {
    let home = Home::new();
    home.init();
    let index = |name: &str| {
        let index = std::fs::read_to_string(home.path("pki/index.txt")).unwrap();
        index.lines().find(|line| line.ends_with(&format!("CN={name}"))).unwrap().to_owned()
    };
    for (name, mac) in [("attic", "A0:B1:C2:D3:E4:01"), ("porch", "A0:B1:C2:D3:E4:02")] {
        home.ok(&["device", "add", name, "--print", "--mac", mac]);
    }
    let registry = Registry::open(&home.path("fleet.db")).unwrap();
    let out = |name: &str| {
        let owner = Owner::Device(name.parse().unwrap());
        registry.shut_out(&owner, "cessationOfOperation").unwrap()
    };
    // Shut out here, and not revoked in the folder yet.
    let serials = out("attic");
    assert!(index("attic").starts_with('V'));
    assert_eq!(home.device("attic")["state"], json!("revoked"), "the registry says where it stands");
    let removed = home.json(&["device", "remove", "attic", "--yes"]);
    assert_eq!(removed["serials"], json!(serials));
    assert!(index("attic").starts_with('R') && index("attic").contains("cessationOfOperation"));
    // Revoked in both, and still in the list.
    let serials = out("porch");
    home.ok(&["ca", "revoke", &serials[0], "--reason", "cessationOfOperation", "--yes"]);
    assert_eq!(home.device("porch")["state"], json!("revoked"));
    home.ok(&["device", "remove", "porch", "--yes"]);
    assert_eq!(home.json(&["device", "list"]), json!([]));
    home.fails(9, &["device", "remove", "porch", "--yes"]);
    // Rejected, and not revoked yet; and once more when all is done.
    let serial = issue(&home, "laptop");
    registry.reject_unlisted(&serial, "laptop").unwrap();
    assert!(index("laptop").starts_with('V'));
    for _ in 0..2 {
        assert_eq!(home.json(&["device", "reject", &serial, "--revoke", "--yes"])["revoked"], json!(true));
        assert!(index("laptop").starts_with('R'));
    }
}
