//! A change of the CA as its owner goes through it (docs/ca.md, "Rolling over to a new CA"): nobody is cut off on the way,
//! and the old CA is cut off at its end.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::bearssl::{device, tls_keys};
use support::{Home, Up, complaint, tool, until};

/// A client's files as they were at one moment: what it has until somebody gives it others.
fn as_it_has_them(home: &Home, client: &str, to: &str) -> PathBuf {
    let (from, to) = (home.path("clients").join(client), home.path(to));
    fs::create_dir_all(&to).unwrap();
    for (file, name) in
        [("ca.crt", "ca.crt"), (&format!("{client}.crt"), "crt"), (&format!("{client}.key"), "key")]
    {
        fs::copy(from.join(file), to.join(name)).unwrap();
    }
    to
}

/// Whether mosquitto_pub gets a message through with these files.
fn gets_in(home: &Home, files: &Path) -> bool {
    let file = |name: &str| files.join(name).display().to_string();
    let port = home.port.to_string();
    let sent = tool(
        "mosquitto_pub",
        &[
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "--cafile",
            &file("ca.crt"),
            "--cert",
            &file("crt"),
            "--key",
            &file("key"),
            "-t",
            "test/here",
            "-m",
            "x",
            "-q",
            "1",
        ],
    );
    sent.status.success()
}

/// A device with the BearSSL library, this firmware's CAs, and these keys: its error, `None` if it got in.
fn bearssl(home: &Home, cas: &Path, keys: &Path) -> Option<String> {
    let output = Command::new(device())
        .args(["--profile", "esp8266", "--host", "127.0.0.1", "--port", &home.port.to_string()])
        .args(["--name", "127.0.0.1", "--client-id", "bearssl", "--timeout", "30", "--quiet"])
        .args(["--publish", "stat/kitchen/here=x", "--qos", "1"])
        .arg("--ca")
        .arg(cas)
        .arg("--tlskeys")
        .arg(keys)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (!output.status.success()).then(|| complaint(&output))
}

fn both_are_online(home: &Home, up: &mut Up) {
    up.wait_for(|line| line.starts_with("kitchen  online"));
    until(|| home.device("garage")["online"].clone(), |online| *online == json!(true));
}

fn status(home: &Home) -> Vec<Value> {
    home.json(&["ca", "rollover", "status"]).as_array().unwrap().clone()
}

fn row(home: &Home, name: &str) -> Value {
    let rows = status(home);
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}: {rows:?}")).clone()
}

#[test]
fn an_owner_goes_from_one_ca_to_the_next_and_nobody_is_cut_off_but_the_old_ca() {
    let home = Home::new();
    let mut up = home.up(&["--virtual", "2"]);
    both_are_online(&home, &mut up);
    home.ok(&["client", "add", "owner"]);
    let before = as_it_has_them(&home, "owner", "before");
    let old_ca = home.path("old-ca.crt");
    fs::copy(home.path("pki/ca.crt"), &old_ca).unwrap();
    let old_keys = tls_keys(&home, "pki", "kitchen");
    assert!(gets_in(&home, &before));
    assert!(home.fails(9, &["ca", "rollover", "status"]).contains("no change of the CA"));

    // 1. The next CA, beside the one there is.
    let started = home.json(&["ca", "rollover", "start"]);
    assert_eq!((started["made"].clone(), started["ca"].clone()), (json!(true), json!("Quoll CA 2")));
    assert_eq!(home.json(&["ca", "rollover", "start"])["made"], json!(false), "once is enough");
    assert!(home.fails(3, &["ca", "rollover", "start", "--name", "Another"]).contains("pki-next"));
    assert_eq!(row(&home, "kitchen")["issuer"], json!("Quoll CA"));
    assert!(row(&home, "kitchen")["next"].as_str().unwrap().contains("flash it"));
    let table = home.ok(&["ca", "rollover", "status"]);
    assert!(table.contains("From Quoll CA to Quoll CA 2: 0 of 4 can do without the old CA"), "{table}");
    assert!(gets_in(&home, &before), "nothing has changed for who is there");

    // New ones come from the next CA, and get in at once, beside those of the old one.
    home.ok(&["client", "add", "late"]);
    let late = as_it_has_them(&home, "late", "late");
    assert_eq!(fs::read_to_string(late.join("ca.crt")).unwrap().matches("BEGIN CERTIFICATE").count(), 2);
    assert_eq!(row(&home, "late")["issuer"], json!("Quoll CA 2"));
    assert!(gets_in(&home, &late));

    // 2. Firmware with both.
    let kit = home.path("kit").display().to_string();
    home.ok(&["firmware", "--for", "esp8266", "--out", &kit]);
    let descriptor = fs::read_to_string(home.path("kit/local_ca_descriptor.h")).unwrap();
    assert!(descriptor.contains("TA0_") && descriptor.contains("TA1_"), "{descriptor}");
    let both = home.path("both.crt");
    fs::copy(late.join("ca.crt"), &both).unwrap();
    assert_eq!(bearssl(&home, &both, &old_keys), None, "new firmware, old certificate, old server");

    // Too early for the server: somebody would lose it.
    let told = home.fails(3, &["ca", "rollover", "server"]);
    for name in ["kitchen", "garage", "owner", "late"] {
        assert!(told.contains(name), "{told}");
    }
    assert!(home.fails(3, &["ca", "rollover", "finish", "--yes"]).contains("need Quoll CA still"));

    // 3. Flashed: the virtual devices begin anew, with both CAs, and get certificates of the next one.
    assert_eq!(up.stop(), 0);
    let mut up = home.up(&["--virtual", "2"]);
    both_are_online(&home, &mut up);
    assert_eq!(row(&home, "kitchen")["issuer"], json!("Quoll CA 2"));
    home.ok(&["ca", "rollover", "knows", "--all-devices"]);
    assert_eq!(row(&home, "kitchen")["trusts_new"], json!("said"));
    assert_eq!(row(&home, "kitchen")["ready"], json!(true));
    home.ok(&["ca", "rollover", "knows", "garage", "--not"]);
    assert!(home.fails(3, &["ca", "rollover", "server"]).contains("garage"));
    home.ok(&["ca", "rollover", "knows", "garage", "late"]);

    // 4. Clients: the same key, a certificate of the next CA.
    assert!(home.fails(2, &["ca", "rollover", "move", "kitchen"]).contains("device add"));
    home.ok(&["ca", "rollover", "move", "--clients"]);
    let moved = as_it_has_them(&home, "owner", "moved");
    assert_eq!(fs::read(moved.join("key")).unwrap(), fs::read(before.join("key")).unwrap());
    assert!(gets_in(&home, &moved) && gets_in(&home, &before), "both of its certificates are good");
    home.ok(&["ca", "rollover", "knows", "owner"]);

    // 5. The server, for the same key; there and back.
    let fingerprint = home.json(&["server", "show"])["mqtt_fingerprint"].clone();
    home.ok(&["ca", "rollover", "server"]);
    assert_eq!(
        home.json(&["server", "show"])["mqtt_fingerprint"],
        fingerprint,
        "who pins the key does not notice"
    );
    until(|| gets_in(&home, &before), |in_| !in_);
    assert!(gets_in(&home, &moved));
    let new_keys = tls_keys(&home, "pki-next", "kitchen");
    assert!(bearssl(&home, &old_ca, &new_keys).is_some_and(|said| said.contains("62")), "old firmware alone");
    assert_eq!(bearssl(&home, &both, &new_keys), None);
    assert_eq!(bearssl(&home, &both, &old_keys), None, "its old certificate is good still");
    home.ok(&["ca", "rollover", "server", "--back"]);
    until(|| gets_in(&home, &before), |in_| *in_);
    home.ok(&["ca", "rollover", "server"]);
    until(|| gets_in(&home, &before), |in_| !in_);

    // 6. Nobody needs the old one. Whoever is connected stays so.
    let table = home.ok(&["ca", "rollover", "status"]);
    assert!(table.contains("5 of 5 can do without the old CA"), "{table}");
    home.fails(10, &["ca", "rollover", "finish"]);
    assert!(home.fails(3, &["ca", "rollover", "abandon", "--yes"]).contains("kitchen"));
    let connected = home.json(&["device", "show", "kitchen"])["connected_from"].clone();
    let finished = home.json(&["ca", "rollover", "finish", "--yes"]);
    assert_eq!(finished["lost"], json!([]));
    assert_eq!(home.json(&["device", "show", "kitchen"])["connected_from"], connected);
    assert_eq!(home.json(&["ca", "show"])["name"], json!("Quoll CA 2"));
    assert!(!home.path("pki-next").exists());
    assert!(Path::new(finished["archive"].as_str().unwrap()).join("private/ca.key").exists());

    // The old CA is cut off; the new one is all there is, for Quoll, OpenSSL and Easy-RSA.
    let with_new_ca = home.path("with-new-ca");
    fs::create_dir(&with_new_ca).unwrap();
    for file in ["crt", "key"] {
        fs::copy(before.join(file), with_new_ca.join(file)).unwrap();
    }
    fs::copy(home.path("pki/ca.crt"), with_new_ca.join("ca.crt")).unwrap();
    until(|| gets_in(&home, &with_new_ca), |in_| !in_);
    assert!(gets_in(&home, &moved));
    assert!(bearssl(&home, &both, &old_keys).is_some(), "a certificate of the old CA");
    assert_eq!(
        bearssl(&home, &home.path("pki/ca.crt"), &new_keys),
        None,
        "the next firmware needs the new CA alone"
    );
    home.ok(&["client", "add", "later"]);
    let later = as_it_has_them(&home, "later", "later");
    assert_eq!(fs::read_to_string(later.join("ca.crt")).unwrap().matches("BEGIN CERTIFICATE").count(), 1);
    assert!(gets_in(&home, &later));
    let revoked = home.json(&["client", "revoke", "later", "--yes"]);
    assert_eq!(revoked["crl"], json!("written"));
    let ca = home.path("pki/ca.crt").display().to_string();
    let issued = home.path("pki/issued/kitchen.crt").display().to_string();
    assert!(tool("openssl", &["verify", "-CAfile", &ca, &issued]).status.success());
    easyrsa(&home, "pki", &["show-expire"]);
    easyrsa(&home, "pki", &["gen-crl"]);
    home.ok(&["audit", "verify"]);
    assert_eq!(up.stop(), 0);
}

fn easyrsa(home: &Home, folder: &str, words: &[&str]) {
    let passphrase = fs::read_to_string(home.path("ca-passphrase")).unwrap();
    let output = Command::new("/usr/share/easy-rsa/easyrsa")
        .arg(format!("--pki-dir={}", home.path(folder).display()))
        .arg("--batch")
        .args(words)
        .env("EASYRSA_PASSIN", format!("pass:{}", passphrase.trim()))
        .current_dir(home.dir.path())
        .output()
        .expect("easy-rsa is needed: scripts/setup installs it");
    assert!(output.status.success(), "{words:?}: {}", complaint(&output));
}

#[test]
fn whoever_comes_after_the_server_changed_has_proven_it_and_the_rest_is_named() {
    let home = Home::new();
    home.init();
    home.ok(&["client", "add", "hass"]);
    home.ok(&["client", "add", "wall"]);
    home.ok(&["ca", "issue", "grafana", "--profile", "client"]);
    home.ok(&["ca", "rollover", "start", "--name", "Home CA", "--key", "ec-p256"]);
    easyrsa(&home, "pki-next", &["gen-crl"]);
    home.ok(&["ca", "rollover", "move", "--clients"]);
    home.ok(&["ca", "rollover", "server", "--force"]);
    let up = home.up_and_listening(&[]);
    let hass = as_it_has_them(&home, "hass", "hass");
    assert!(gets_in(&home, &hass));
    until(|| row(&home, "hass")["trusts_new"].clone(), |known| *known == json!("seen"));
    let told = home.fails(3, &["ca", "rollover", "finish", "--yes"]);
    assert!(
        told.contains("client wall") && told.contains("certificate grafana") && !told.contains("hass"),
        "{told}"
    );
    // What was revoked with the next CA is revoked, and in its list.
    let revoked = home.json(&["client", "revoke", "wall", "--yes"]);
    assert_eq!((revoked["serials"].as_array().unwrap().len(), revoked["crl"].clone()), (2, json!("written")));
    let crl = home.path("pki-next/crl.pem").display().to_string();
    let listed = tool("openssl", &["crl", "-in", &crl, "-noout", "-text"]);
    let serial = &revoked["serials"][1];
    assert!(
        String::from_utf8_lossy(&listed.stdout).contains(serial.as_str().unwrap()),
        "{}",
        complaint(&listed)
    );
    home.ok(&["ca", "rollover", "move", "grafana"]);
    let expiring = home.json(&["ca", "expiring", "--days", "36500"]);
    assert_eq!(expiring.as_array().unwrap().iter().filter(|row| row["kind"] == "ca").count(), 2);
    home.ok(&["ca", "rollover", "finish", "--yes"]);
    assert!(gets_in(&home, &hass));
    assert_eq!(up.stop(), 0);
}

#[test]
fn a_rollover_given_up_leaves_everything_as_it_was() {
    let home = Home::new();
    home.init();
    let ca = fs::read(home.path("pki/ca.crt")).unwrap();
    home.fails(9, &["ca", "rollover", "abandon", "--yes"]);
    home.ok(&["ca", "rollover", "start"]);
    let server = home.json(&["server", "show"]);
    home.ok(&["ca", "rollover", "server"]);
    let told = home.fails(3, &["ca", "rollover", "abandon", "--yes"]);
    assert!(told.contains(server["name"].as_str().unwrap()), "{told}");
    home.ok(&["ca", "rollover", "server", "--back"]);
    assert_eq!(home.json(&["server", "show"])["serial"], server["serial"]);
    home.fails(10, &["ca", "rollover", "abandon"]);
    let abandoned = home.json(&["ca", "rollover", "abandon", "--yes"]);
    assert!(Path::new(abandoned["archive"].as_str().unwrap()).join("ca.crt").exists());
    assert_eq!(fs::read(home.path("pki/ca.crt")).unwrap(), ca);
    assert!(!home.path("pki-next").exists());
    home.ok(&["client", "add", "me"]);
    let files = as_it_has_them(&home, "me", "me");
    let up = home.up_and_listening(&[]);
    assert!(gets_in(&home, &files));
    assert_eq!(up.stop(), 0);
}

#[test]
fn where_the_end_was_interrupted_no_other_ca_is_made_and_it_goes_on() {
    let home = Home::new();
    home.init();
    home.ok(&["ca", "rollover", "start"]);
    home.ok(&["ca", "rollover", "server"]);
    // As a system without an exchange of folders leaves it, cut off between its two renames.
    fs::write(home.path("pki-next/.quoll-succeeding"), "pki-old").unwrap();
    fs::rename(home.path("pki"), home.path("pki-old")).unwrap();
    for words in [&["ca", "show"][..], &["ca", "init"], &["up", "--web", "off"]] {
        let told = home.fails(3, words);
        assert!(told.contains("quoll ca rollover finish"), "{words:?}: {told}");
    }
    home.ok(&["ca", "rollover", "finish", "--yes"]);
    assert_eq!(home.json(&["ca", "show"])["name"], json!("Quoll CA 2"));
    assert!(home.path("pki-old/ca.crt").exists());
    let up = home.up_and_listening(&[]);
    assert_eq!(up.stop(), 0);
}

#[test]
fn what_is_voided_during_a_rollover_is_on_the_list_of_its_own_ca_at_once() {
    let home = Home::new();
    let mut up = home.up(&["--virtual", "2"]);
    both_are_online(&home, &mut up);
    home.ok(&["ca", "rollover", "start"]);
    let listed = |folder: &str| {
        let list = home.path(&format!("{folder}/crl.pem")).display().to_string();
        String::from_utf8(tool("openssl", &["crl", "-noout", "-text", "-in", &list]).stdout).unwrap()
    };
    let rotated = home.json(&["device", "rotate", "kitchen"]);
    let text = |key: &str| rotated[key].as_str().unwrap().to_owned();
    assert!(listed("pki").contains(&text("previous")), "its old certificate is the old CA's");
    assert_eq!(row(&home, "kitchen")["issuer"], json!("Quoll CA 2"));

    // Taken out of the list, with a certificate that only the next CA's folder knows.
    let removed = home.json(&["device", "remove", "kitchen", "--yes"]);
    assert_eq!(removed["crl"], json!("written"), "{removed}");
    assert!(listed("pki-next").contains(&text("certificate_serial")));

    // The server there and back.
    home.ok(&["ca", "rollover", "server", "--force"]);
    let serial = home.json(&["--pki", &home.path("pki-next").display().to_string(), "server", "show"]);
    let back = home.json(&["ca", "rollover", "server", "--back"]);
    assert_eq!((&back["changed"], &back["crl"]), (&json!(true), &json!("written")), "{back}");
    assert!(listed("pki-next").contains(serial["serial"].as_str().unwrap()), "{serial}");

    // The old CA under a passphrase of its own: the act is done, and what is left to do is said.
    fs::write(home.path("other"), "another one\n").unwrap();
    fs::set_permissions(home.path("other"), fs::Permissions::from_mode(0o600)).unwrap();
    let other = home.path("other").display().to_string();
    home.ok(&["ca", "reencrypt", "--new-passphrase-file", &other]);
    let output = home.run(&["device", "rotate", "garage"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("the revocation list of Quoll CA is behind") && said.contains("quoll ca crl"),
        "{said}"
    );
    // One list is written though the other cannot be.
    assert!(home.fails(5, &["ca", "crl"]).contains("passphrase"));
    let old = home.path("pki").display().to_string();
    home.ok(&["--pki", &old, "--passphrase-file", &other, "ca", "crl"]);
    assert!(listed("pki").matches("Serial Number").count() >= 2);
    assert_eq!(up.stop(), 0);
}
