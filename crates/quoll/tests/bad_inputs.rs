//! What goes wrong: one clear message with the next step, the stated exit code, and nothing half done that a second
//! run does not finish.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;

use quoll_tasmota::Mac;
use quoll_tasmota::virtual_device::{Chip, Faults, Firmware, RunningDevice, VirtualDevice, VirtualProfile};
use serde_json::json;
use support::{Home, Up};
use tokio::runtime::Runtime;

/// Every message has its three parts.
fn is_helpful(said: &str) {
    assert!(said.contains("quoll: error: "), "{said}");
    assert!(said.contains("quoll: hint:  "), "no next step: {said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_made() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = home.fails(6, &["up", "--listen", &address, "--web", "off"]);
    is_helpful(&said);
    assert!(said.contains(&address), "{said}");
    assert!(!home.path("pki").exists(), "no CA for a broker that cannot listen");
    let said = home.fails(6, &["up", "--listen", &format!("127.0.0.1:{}", home.port), "--web", &address]);
    is_helpful(&said);
    let said = home.fails(6, &["up", "--listen", "203.0.113.7:8883", "--web", "off"]);
    is_helpful(&said);
}

#[test]
fn a_second_node_on_the_same_folder_is_refused() {
    let home = Home::new();
    let up = home.up_and_listening(&[]);
    let said =
        home.fails(3, &["up", "--listen", &format!("127.0.0.1:{}", support::free_port()), "--web", "off"]);
    is_helpful(&said);
    assert!(said.contains("already running"), "{said}");
    assert_eq!(up.stop(), 0);
}

#[test]
fn a_host_that_devices_cannot_resolve_is_refused() {
    let home = Home::new();
    for verb in [&["up", "--web", "off"][..], &["ca", "init"]] {
        let words = [verb, &["--host", "broker.local"]].concat();
        let said = home.fails(3, &words);
        is_helpful(&said);
        assert!(said.contains("mDNS"), "{said}");
    }
    assert!(!home.path("pki").exists());
}

#[test]
fn a_wrong_passphrase_costs_nothing() {
    let home = Home::new();
    home.init();
    let before = fs::read(home.path("pki/index.txt")).unwrap();
    let wrong = home.path("wrong");
    let write = |text: &str, mode: u32| {
        fs::write(&wrong, text).unwrap();
        fs::set_permissions(&wrong, fs::Permissions::from_mode(mode)).unwrap();
    };
    let file = wrong.display().to_string();
    for (text, mode) in [("not it\n", 0o600), ("", 0o600), ("not it\n", 0o644)] {
        write(text, mode);
        for verb in [&["client", "add", "alice"][..], &["ca", "crl"], &["server", "renew"]] {
            let words = [verb, &["--passphrase-file", &file]].concat();
            let said = home.fails(5, &words);
            is_helpful(&said);
        }
    }
    assert_eq!(fs::read(home.path("pki/index.txt")).unwrap(), before);
    assert_eq!(home.json(&["client", "list"]), json!([]), "nobody is registered without a certificate");
    fs::remove_file(home.path("ca-passphrase")).unwrap();
    let said = home.fails(5, &["client", "add", "alice"]);
    is_helpful(&said);
    assert!(said.contains("--passphrase-file"), "{said}");
}

#[test]
fn a_damaged_folder_or_file_is_named_and_left_alone() {
    type Damage = fn(&Home);
    let cases: [(&str, Damage, &str); 7] = [
        ("no CA certificate", |home| fs::write(home.path("pki/ca.crt"), "").unwrap(), "ca.crt"),
        (
            "half an index line",
            |home| fs::write(home.path("pki/index.txt"), "V\t360101").unwrap(),
            "index.txt",
        ),
        (
            "no server key",
            |home| fs::remove_file(home.path("pki/private/localhost.key")).unwrap(),
            "quoll server rekey",
        ),
        (
            "half a server key",
            |home| {
                let path = home.path("pki/private/localhost.key");
                let text = fs::read_to_string(&path).unwrap();
                fs::write(path, &text[..text.len() / 2]).unwrap();
            },
            "private/localhost.key back from a backup",
        ),
        (
            "half a server certificate",
            |home| {
                let path = home.path("pki/issued/localhost.crt");
                let text = fs::read_to_string(&path).unwrap();
                fs::write(path, &text[..text.len() / 2]).unwrap();
            },
            "localhost.crt",
        ),
        (
            "a damaged registry",
            |home| fs::write(home.path("fleet.db"), "not a database, not at all, no").unwrap(),
            "fleet.db",
        ),
        (
            "a typing error",
            |home| fs::write(home.path("quoll.toml"), "[listen]\nmqqt = []\n").unwrap(),
            "line 2",
        ),
    ];
    for (what, damage, named) in cases {
        let home = Home::new();
        fs::write(
            home.path("quoll.toml"),
            "[server]\nnames = [\"localhost\"]\naddresses = [\"127.0.0.1\"]\nhost = \"127.0.0.1\"\n",
        )
        .unwrap();
        home.init();
        home.ok(&["device", "list"]);
        damage(&home);
        let said = home.fails(3, &["up", "--listen", &format!("127.0.0.1:{}", home.port), "--web", "off"]);
        is_helpful(&said);
        assert!(said.contains(named), "{what}: {said}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    // Root may write anywhere, so the folder is one that cannot exist.
    let home = Home::new();
    fs::write(home.path("file"), "").unwrap();
    let inside = home.path("file/home").display().to_string();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_quoll"))
        .args(["--home", &inside, "ca", "init"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&inside));
}

/// A node, and one device beside it that is not as it should be.
struct Stage {
    runtime: Runtime,
    home: Home,
    up: Up,
}

impl Stage {
    fn new() -> Self {
        let home = Home::new();
        home.init();
        let up = home.up_and_listening(&[]);
        Self { runtime: Runtime::new().unwrap(), home, up }
    }

    fn profile(&self, firmware: Firmware) -> VirtualProfile {
        let pki = quoll_pki::Pki::open(&self.home.path("pki")).unwrap();
        VirtualProfile {
            anchors: vec![pki.ca().der().to_vec()],
            pace: 0.05,
            tele_period: 10,
            topic: "lamp".into(),
            ..VirtualProfile::new(Chip::Esp32, firmware, Mac([2, 0, 0, 0, 0, 7]))
        }
    }

    fn start(&self, profile: VirtualProfile, at: SocketAddr) -> RunningDevice {
        self.runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind(at).await.unwrap();
            VirtualDevice::start(profile, listener).unwrap()
        })
    }

    fn device(&self, profile: VirtualProfile) -> RunningDevice {
        self.start(profile, "127.0.0.1:0".parse().unwrap())
    }

    fn add(&self, code: i32, at: &str, more: &[&str]) -> String {
        let words = [&["device", "add", "lamp", "--at", at], more].concat();
        let said = self.home.fails(code, &words);
        is_helpful(&said);
        said
    }

    fn issued(&self) -> usize {
        fs::read_dir(self.home.path("pki/issued")).unwrap().count()
    }
}

#[test]
fn a_device_that_wants_a_password_is_told_apart_and_taken_with_it() {
    let stage = Stage::new();
    let device =
        stage.device(VirtualProfile { web_password: "open".into(), ..stage.profile(Firmware::ClientCert) });
    let at = device.http_addr().to_string();
    assert!(stage.add(7, &at, &[]).contains("password"));
    let file = stage.home.path("web");
    fs::write(&file, "wrong\n").unwrap();
    assert!(stage.add(7, &at, &["--web-password-file", &file.display().to_string()]).contains("password"));
    assert_eq!(stage.issued(), 1, "no certificate for a device that did not let us in");
    fs::write(&file, "open\n").unwrap();
    stage.home.ok(&[
        "device",
        "add",
        "lamp",
        "--at",
        &at,
        "--web-password-file",
        &file.display().to_string(),
    ]);
    assert_eq!(stage.home.device("lamp")["online"], json!(true));
    assert_eq!(stage.up.stop(), 0);
}

#[test]
fn firmware_that_cannot_is_told_so_before_any_key_is_sent() {
    let stage = Stage::new();
    let old = stage.device(VirtualProfile { chip: Chip::Esp8266, ..stage.profile(Firmware::Stock) });
    assert!(stage.add(8, &old.http_addr().to_string(), &[]).contains("no TLS"));
    let stock =
        stage.device(VirtualProfile { mac: Mac([2, 0, 0, 0, 0, 8]), ..stage.profile(Firmware::Stock) });
    assert!(stage.add(8, &stock.http_addr().to_string(), &[]).contains("no TLSKey"));
    assert_eq!(stage.issued(), 1, "no certificate was made for them");
    assert_eq!(stage.up.stop(), 0);
}

#[test]
fn what_is_no_tasmota_is_asked_nothing_dangerous() {
    let stage = Stage::new();
    let faults = Faults { impostor: Some("nginx".into()), ..Faults::default() };
    let impostor = stage.device(VirtualProfile { faults, ..stage.profile(Firmware::ClientCert) });
    assert!(stage.add(7, &impostor.http_addr().to_string(), &[]).contains("not a Tasmota"));
    let nobody = support::free_port();
    assert!(stage.add(7, &format!("127.0.0.1:{nobody}"), &[]).contains("cannot be reached"));
    assert_eq!(stage.issued(), 1);
    assert_eq!(stage.up.stop(), 0);
}

#[test]
fn a_device_that_dies_between_the_two_keys_is_finished_by_a_second_run() {
    let stage = Stage::new();
    let faults = Faults { dies_after: Some("TLSKey1".into()), ..Faults::default() };
    let device = stage.device(VirtualProfile { faults, ..stage.profile(Firmware::ClientCert) });
    let at = device.http_addr().to_string();
    let first = stage.home.run(&["device", "add", "lamp", "--at", &at]);
    if !first.status.success() {
        is_helpful(&String::from_utf8_lossy(&first.stderr));
        stage.home.ok(&["device", "add", "lamp", "--at", &at]);
    }
    assert_eq!(stage.home.device("lamp")["online"], json!(true));
    assert_eq!(
        stage.issued(),
        2,
        "one certificate for the server, one for the lamp, however often it was tried"
    );
    assert_eq!(stage.up.stop(), 0);
}

#[test]
fn a_device_that_answers_an_error_shows_no_key_in_the_message() {
    let stage = Stage::new();
    let faults = Faults { refuses: Some("TLSKey1".into()), ..Faults::default() };
    let device = stage.device(VirtualProfile { faults, ..stage.profile(Firmware::ClientCert) });
    let said = stage.add(7, &device.http_addr().to_string(), &[]);
    let pki = quoll_pki::Pki::open(&stage.home.path("pki")).unwrap();
    let passphrase = quoll_pki::Passphrase::from_file(&stage.home.path("ca-passphrase")).unwrap();
    let key = pki.private_key(&quoll_pki::CertName::parse("lamp").unwrap(), &passphrase).unwrap();
    let line = quoll_tasmota::TlsKey1::new(&key.ec_scalar().unwrap()).unwrap();
    assert!(!said.contains(&line.base64()[..12]), "{said}");
    assert_eq!(stage.up.stop(), 0);
}

#[test]
fn without_a_node_a_device_is_not_switched() {
    let stage = Stage::new();
    let device = stage.device(stage.profile(Firmware::ClientCert));
    let at = device.http_addr().to_string();
    assert_eq!(stage.up.stop(), 0);
    let said = stage.home.fails(4, &["device", "add", "lamp", "--at", &at]);
    is_helpful(&said);
    assert!(said.contains("quoll up"), "{said}");
    assert!(!stage.runtime.block_on(async { device.state() }).connected);
}

#[test]
fn names_and_addresses_that_mean_nothing_are_usage_errors() {
    let home = Home::new();
    home.init();
    for words in [
        &["device", "add", "a/b", "--at", "127.0.0.1"][..],
        &["device", "add", "lamp", "--at", "http://127.0.0.1/"],
        &["client", "add", "ca"],
        &["device", "frobnicate"],
    ] {
        home.fails(2, words);
    }
    for words in [&["device", "show", "nobody"][..], &["device", "revoke", "nobody", "--yes"]] {
        is_helpful(&home.fails(9, words));
    }
}
