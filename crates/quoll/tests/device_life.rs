//! The life of a device, each verb against a running node: a new key, a new name, keys lost in an update, new hardware.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use quoll_fleet::device::DeviceState;
use quoll_fleet::registry::Registry;
use quoll_tasmota::Mac;
use quoll_tasmota::virtual_device::{Chip, Firmware, RunningDevice, VirtualDevice, VirtualProfile};
use serde_json::{Value, json};
use support::{Home, Up, until};
use tokio::runtime::Runtime;

/// A home with a running node, and devices on this machine.
struct Site {
    home: Home,
    runtime: Runtime,
    up: Option<Up>,
}

impl Site {
    fn new() -> Self {
        let home = Home::new();
        home.init();
        let up = Some(home.up_and_listening(&[]));
        Self { home, runtime: Runtime::new().unwrap(), up }
    }

    /// A device as it leaves the factory, with an image that has our CA.
    fn device(&self, chip: Chip, last: u8, topic: &str) -> RunningDevice {
        let pem = std::fs::read(self.home.path("pki/ca.crt")).unwrap();
        let profile = VirtualProfile {
            topic: topic.into(),
            anchors: vec![quoll_pki::Certificate::from_pem(&pem).unwrap().der().to_vec()],
            pace: 0.05,
            tele_period: 0,
            crashes_without_key: false,
            ..VirtualProfile::new(chip, Firmware::ClientCert, Mac([0xA0, 0xB1, 0xC2, 0xD3, 0xE4, last]))
        };
        self.runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            VirtualDevice::start(profile, listener).unwrap()
        })
    }

    fn add(&self, name: &str, device: &RunningDevice) -> Value {
        self.home.json(&["device", "add", name, "--at", &device.http_addr().to_string()])
    }

    fn online(&self, name: &str) {
        until(|| self.home.device(name)["online"].clone(), |online| *online == json!(true));
    }

    /// What Easy-RSA's book says of a certificate.
    fn book(&self, serial: &Value) -> String {
        let index = std::fs::read_to_string(self.home.path("pki/index.txt")).unwrap();
        index.lines().find(|line| line.contains(serial.as_str().unwrap())).unwrap().to_owned()
    }

    fn stop(mut self) {
        assert_eq!(self.up.take().unwrap().stop(), 0);
    }
}

/// A command on a device's web console, as its owner would type it.
fn type_on(console: SocketAddr, command: &str) -> String {
    let mut stream = TcpStream::connect(console).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let command = command.replace(' ', "%20");
    write!(stream, "GET /cm?cmnd={command} HTTP/1.1\r\nHost: {console}\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn keys_are_rotated_one_by_one_and_all_together_and_the_old_ones_are_void() {
    let site = Site::new();
    let (kitchen, garage) = (site.device(Chip::Esp32, 1, "kitchen"), site.device(Chip::Esp8266, 2, "garage"));
    let first = site.add("kitchen", &kitchen)["certificate_serial"].clone();
    let garage_first = site.add("garage", &garage)["certificate_serial"].clone();

    let output = site.home.run(&["device", "rotate", "kitchen", "--output", "json"]);
    assert!(output.status.success(), "{}", support::complaint(&output));
    // What it does itself in the end is nothing to warn of.
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("void the old certificate") && !said.contains("stays valid"), "{said}");
    let rotated: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rotated["previous"], first, "{rotated}");
    assert_ne!(rotated["certificate_serial"], first, "{rotated}");
    let now = site.home.device("kitchen");
    // A run that failed left it in between, and it has come since: asked again, that is proven, and not just called well.
    let registry = Registry::open(&site.home.path("fleet.db")).unwrap();
    let kitchen_name = "kitchen".parse().unwrap();
    registry.advance(&kitchen_name, DeviceState::Switched, None).unwrap();
    registry.note_problem(&kitchen_name, Some("it did not come")).unwrap();
    let held = registry.lock_enrolment(&kitchen_name).unwrap();
    site.home.fails(4, &["device", "check", "kitchen"]);
    let meanwhile = site.home.device("kitchen");
    assert_eq!(
        (&meanwhile["state"], &meanwhile["problem"]),
        (&json!("switched"), &json!("it did not come")),
        "another process is at work on it"
    );
    drop(held);
    site.home.ok(&["device", "check", "kitchen"]);
    let again = site.home.device("kitchen");
    assert_eq!((&again["state"], &again["problem"]), (&now["state"], &now["problem"]), "it is proven again");
    assert_eq!((&now["certificate_serial"], &now["online"]), (&rotated["certificate_serial"], &json!(true)));
    assert!(now["problem"].is_null(), "{now}");
    let line = site.book(&first);
    assert!(line.starts_with('R') && line.contains("superseded"), "{line}");
    assert!(site.book(&rotated["certificate_serial"]).starts_with('V'));
    assert_eq!(site.home.device("garage")["certificate_serial"], garage_first, "the other one is left alone");

    assert_eq!(site.home.json(&["device", "rotate", "--expiring", "30"]), json!([]), "none ends so soon");
    let all = site.home.json(&["device", "rotate", "--all"]);
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all.iter().all(|one| one["rotated"] == json!(true)), "{all:?}");
    assert!(site.book(&garage_first).contains("superseded"));
    site.online("kitchen");
    site.online("garage");

    // One that is switched off at the wall: the others are done, and it keeps what it has.
    drop(garage);
    let serial = site.home.device("garage")["certificate_serial"].clone();
    let told = site.home.fails(4, &["device", "rotate", "--all"]);
    assert!(told.contains("1 of 2") && told.contains("same command"), "{told}");
    assert_eq!(site.home.device("garage")["certificate_serial"], serial);
    assert!(site.book(&serial).starts_with('V'), "its certificate stays valid");
    site.home.fails(9, &["device", "rotate", "nobody"]);
    site.stop();
}

#[test]
fn a_device_is_renamed_with_certificate_topic_and_history() {
    let site = Site::new();
    let device = site.device(Chip::Esp32, 1, "kitchen");
    let first = site.add("kitchen", &device)["certificate_serial"].clone();
    site.home.ok(&["client", "add", "hass"]);
    assert!(site.home.fails(3, &["device", "rename", "kitchen", "hass"]).contains("hass"));
    let renamed = site.home.json(&["device", "rename", "kitchen", "ceiling"]);
    assert_eq!((&renamed["name"], &renamed["topic"]), (&json!("ceiling"), &json!("ceiling")), "{renamed}");
    assert_eq!(device.state().topic, "ceiling");
    site.online("ceiling");
    let shown = site.home.json(&["device", "show", "ceiling"]);
    assert!(shown["publish"].as_array().unwrap().contains(&json!("tele/ceiling/#")), "{shown}");
    assert!(shown["first_seen"].is_string());
    site.home.fails(9, &["device", "show", "kitchen"]);
    assert!(site.book(&first).contains("superseded"));
    assert!(site.book(&renamed["certificate_serial"]).contains("CN=ceiling"));
    let trail = site.home.ok(&["audit", "show"]);
    assert!(trail.contains("device.renamed") && trail.contains("device.name"), "{trail}");
    site.home.ok(&["audit", "verify"]);
    site.stop();
}

#[test]
fn keys_lost_in_an_update_are_noticed_and_given_again() {
    let site = Site::new();
    let device = site.device(Chip::Esp8266, 1, "kitchen");
    let first = site.add("kitchen", &device)["certificate_serial"].clone();
    let checked = site.home.json(&["device", "check", "--all"]);
    assert_eq!(checked[0]["finding"], json!("well"), "{checked}");

    // What a changed flash layout does.
    assert!(type_on(device.http_addr(), "TLSKey1 0").contains("-1"));
    type_on(device.http_addr(), "Restart 1");
    until(|| site.home.device("kitchen")["online"].clone(), |online| *online == json!(false));
    let output = until(
        || site.home.run(&["device", "check", "kitchen", "--output", "json"]),
        |output| String::from_utf8_lossy(&output.stdout).contains("keys-lost"),
    );
    assert_eq!(output.status.code(), Some(4));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found[0]["next"], json!("quoll device repair kitchen"), "{found}");
    assert!(site.home.device("kitchen")["problem"].as_str().unwrap().contains("key store"));

    let repaired = site.home.json(&["device", "repair", "kitchen"]);
    assert_eq!(repaired["repaired"], json!(true), "{repaired}");
    assert_eq!(repaired["certificate_serial"], first, "its key was at hand, so its certificate is the same");
    site.online("kitchen");
    assert_eq!(site.home.json(&["device", "check", "kitchen"])[0]["finding"], json!("well"));
    assert!(site.home.device("kitchen")["problem"].is_null());

    // Without its key in the folder it gets a new one.
    std::fs::remove_file(site.home.path("pki/private/kitchen.key")).unwrap();
    type_on(device.http_addr(), "TLSKey1 0");
    type_on(device.http_addr(), "Restart 1");
    until(|| site.home.device("kitchen")["online"].clone(), |online| *online == json!(false));
    let repaired = site.home.json(&["device", "repair", "kitchen"]);
    assert_ne!(repaired["certificate_serial"], first, "{repaired}");
    site.online("kitchen");
    assert!(site.book(&first).contains("superseded"), "{}", site.book(&first));
    site.stop();
}

#[test]
fn a_dead_device_is_replaced_under_its_name_and_topic() {
    let site = Site::new();
    let old = site.device(Chip::Esp32, 1, "kitchen");
    let other = site.device(Chip::Esp32, 3, "porch");
    let first = site.add("kitchen", &old)["certificate_serial"].clone();
    site.add("porch", &other);
    drop(old);
    let new = site.device(Chip::Esp32, 2, "");
    let at = new.http_addr().to_string();
    assert!(site.home.fails(10, &["device", "replace", "kitchen", "--at", &at]).contains("--yes"));
    let told = site
        .home
        .fails(3, &["device", "replace", "kitchen", "--at", &other.http_addr().to_string(), "--yes"]);
    assert!(told.contains("porch"), "another device of ours is not taken: {told}");
    assert!(site.book(&first).starts_with('V'), "nothing was done to the old one");

    let replaced = site.home.json(&["device", "replace", "kitchen", "--at", &at, "--yes"]);
    assert_eq!(replaced["mac"], json!("A0:B1:C2:D3:E4:02"), "{replaced}");
    assert_eq!(replaced["void"], json!([first]), "{replaced}");
    assert_eq!(replaced["topic"], json!("kitchen"), "{replaced}");
    assert_eq!(new.state().topic, "kitchen");
    site.online("kitchen");
    assert!(site.book(&first).contains("superseded"));
    assert_eq!(site.home.device("porch")["online"], json!(true));
    assert!(site.home.ok(&["audit", "show"]).contains("device.replaced"));
    site.stop();
}
