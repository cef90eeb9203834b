//! Virtual devices against a broker that is not ours, finding them, and the roads that put no key on the air.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use support::{Home, PATIENCE, free_port, tool, until};

/// A Mosquitto that lets everybody in.
struct Mosquitto {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Mosquitto {
    fn start(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let file = dir.path().join("mosquitto.conf");
        std::fs::write(&file, format!("user root\nlistener {port} 127.0.0.1\n{more}\n")).unwrap();
        let child = Command::new("mosquitto")
            .arg("-c")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let broker =
            Self { child: child.expect("mosquitto is needed; scripts/setup installs it"), port, _dir: dir };
        until(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok(), |open| *open);
        broker
    }

    fn open() -> Self {
        Self::start("allow_anonymous true")
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A running `quoll simulate`.
struct Simulated {
    child: Child,
    lines: Receiver<String>,
    heard: Vec<String>,
}

impl Simulated {
    fn start(home: &Home, words: &[&str]) -> Self {
        let mut all = vec!["simulate"];
        all.extend(words);
        let mut child = home.command(&all).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (say, lines) = channel();
        for stream in [
            Box::new(child.stdout.take().unwrap()) as Box<dyn std::io::Read + Send>,
            Box::new(child.stderr.take().unwrap()),
        ] {
            let say = say.clone();
            std::thread::spawn(move || {
                BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| say.send(line))
            });
        }
        Self { child, lines, heard: Vec::new() }
    }

    fn wait_for(&mut self, part: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else { panic!("no {part:?} in {:#?}", self.heard) };
            self.heard.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Ctrl-C, and its exit code.
    fn stop(mut self) -> Option<i32> {
        tool("kill", &["-INT", &self.child.id().to_string()]);
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not stop; heard {:#?}", self.heard);
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Consecutive ports, free a moment ago; below those that the system gives to connections, which leave gaps of their own.
fn free_ports(count: u16) -> u16 {
    for attempt in 0..100 {
        let base = 20_000 + (free_port() % 1_000) * 10 + attempt * 10;
        let Some(last) = base.checked_add(count) else { continue };
        if (base..last).all(|port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return base;
        }
    }
    panic!("no {count} free ports in a row");
}

#[test]
fn devices_are_simulated_against_a_foreign_broker_and_found_there() {
    let (home, broker) = (Home::new(), Mosquitto::open());
    let (port, http) = (broker.port.to_string(), free_ports(4));
    let serve = format!("127.0.0.1:{http}");
    let mut devices = Simulated::start(
        &home,
        &["--devices", "4", "--host", "127.0.0.1", "--port", &port, "--serve-http", &serve, "--pace", "0.05"],
    );
    devices.wait_for("online 4");

    let mqtt = format!("127.0.0.1:{port}");
    let look = || home.json(&["device", "find", "--mqtt", &mqtt, "--announced-only"]);
    let announced = until(look, |found| found.as_array().unwrap().len() == 4);
    assert_eq!(announced[0]["mac"], "02:51:53:00:00:00");
    assert_eq!((announced[0]["rung"].as_str(), announced[0]["state"].as_str()), (None, Some("new")));

    // One of them over its console, and what each can become.
    let list = home.path("list.csv");
    std::fs::write(&list, format!("address,name\n127.0.0.1:{http},kitchen\n127.0.0.1:{},\n", http + 1))
        .unwrap();
    let found = home.json(&["device", "find", "--csv", list.to_str().unwrap()]);
    assert_eq!(found.as_array().unwrap().len(), 2);
    assert_eq!((found[0]["name"].as_str(), found[0]["rung"].as_str()), (Some("kitchen"), Some("mutual")));
    assert_eq!(found[0]["mqtt_host"], mqtt.as_str());
    assert_eq!(
        (found[0]["chip"].as_str(), found[0]["heap_kib"].as_u64()),
        (Some("ESP32-D0WD-V3 v3.1"), Some(180))
    );
    assert_eq!(found[1]["chip"], "ESP8266EX");
    let table = home.ok(&["device", "find", "--csv", list.to_str().unwrap()]);
    assert!(table.contains("RUNG") && table.contains("quoll device add NAME --at"), "{table}");
    assert_eq!(devices.stop(), Some(0));
}

#[test]
fn a_sweep_of_loopback_finds_what_listens_there() {
    let home = Home::new();
    let broker = Mosquitto::open();
    let (port, http) = (broker.port.to_string(), free_ports(1));
    let serve = format!("127.0.10.3:{http}");
    let words =
        ["--devices", "1", "--chip", "esp32", "--firmware", "stock", "--host", "127.0.0.1", "--port", &port];
    let mut device =
        Simulated::start(&home, &[&words[..], &["--serve-http", &serve, "--pace", "0.05"]].concat());
    device.wait_for("online 1");
    let http = http.to_string();
    let found = home.json(&["device", "find", "--range", "127.0.10.0/28", "--port", &http]);
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    assert_eq!(
        (found[0]["address"].as_str(), found[0]["rung"].as_str()),
        (Some(serve.as_str()), Some("pinned"))
    );
    assert!(found[0]["mutual_takes"].as_str().unwrap().contains("USE_MQTT_CLIENT_CERT"), "{found}");
    assert!(found[0]["pinned_takes"].as_str().unwrap().contains("fingerprint"), "{found}");
    assert_eq!(found[0]["restarts_without_broker"], true);
    assert_eq!(device.stop(), Some(0));
}

#[test]
fn nobody_elses_network_is_searched_and_no_bad_list_is_half_used() {
    let home = Home::new();
    for range in ["8.8.8.0/24", "10.0.0.0/16", "192.168.1.5/24", "lan"] {
        let said = home.fails(2, &["device", "find", "--range", range]);
        assert!(said.contains("hint:"), "{said}");
    }
    assert!(home.fails(2, &["device", "find"]).contains("nowhere to look"));
    let list = home.path("bad.csv");
    std::fs::write(&list, "address,name\n127.0.0.1:1,ok\n,x\nhttp://a,y\n127.0.0.1:1,z\n").unwrap();
    let said = home.fails(3, &["device", "find", "--csv", list.to_str().unwrap()]);
    for line in ["line 3", "line 4", "line 5", "nothing was done"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let said = home.fails(1, &["device", "find", "--mqtt", &format!("127.0.0.1:{}", free_port())]);
    assert!(said.contains("cannot be asked"), "{said}");
}

#[test]
fn a_broker_that_wants_a_login_gets_it_or_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let passwords = dir.path().join("passwords");
    tool("mosquitto_passwd", &["-b", "-c", passwords.to_str().unwrap(), "me", "secret"]);
    let broker = Mosquitto::start(&format!("password_file {}", passwords.display()));
    let (home, port) = (Home::new(), broker.port.to_string());
    let file = dir.path().join("pw");
    std::fs::write(&file, "secret\n").unwrap();
    let file = file.to_str().unwrap();
    let words = ["--devices", "2", "--host", "127.0.0.1", "--port", &port, "--pace", "0.05"];
    let mut devices =
        Simulated::start(&home, &[&words[..], &["--user", "me", "--password-file", file]].concat());
    devices.wait_for("online 2");
    let mqtt = format!("127.0.0.1:{port}");
    let find = ["device", "find", "--mqtt", &mqtt, "--announced-only"];
    assert!(home.fails(1, &find).contains("--password-file"));
    let look = || home.json(&[&find[..], &["--user", "me", "--password-file", file]].concat());
    until(look, |found| found.as_array().unwrap().len() == 2);
    assert_eq!(devices.stop(), Some(0));

    let output = home.run(&[&["simulate"], &words[..], &["--seconds", "3"]].concat());
    assert_eq!(output.status.code(), Some(4));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("0 of 2 devices") && said.contains("rc 5"), "{said}");
}

#[test]
fn faults_show_in_the_summary() {
    let (home, broker) = (Home::new(), Mosquitto::open());
    let port = broker.port.to_string();
    let words =
        ["--devices", "6", "--host", "127.0.0.1", "--port", &port, "--pace", "0.02", "--output", "json"];
    let mut devices =
        Simulated::start(&home, &[&words[..], &["--faults", "weak-wifi=20", "--faulty", "50"]].concat());
    let end = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < end, "no reconnects: {:#?}", devices.heard);
        let line: serde_json::Value = serde_json::from_str(&devices.wait_for("seconds")).unwrap();
        if line["reconnects"].as_u64().unwrap() >= 3 {
            break;
        }
    }
    devices.stop();

    // Nobody listens: TLS devices of the releases with the bug restart over and over.
    let nobody = free_port().to_string();
    let words = ["--devices", "2", "--chip", "esp32", "--firmware", "stock", "--pin", "--host", "127.0.0.1"];
    let more = ["--port", &nobody, "--pace", "0.02", "--faults", "crash-on-refusal", "--seconds", "3"];
    let output = home.run(&[&["simulate"], &words[..], &more[..]].concat());
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8(output.stdout).unwrap().contains("crashes "));
}

#[test]
fn what_cannot_be_simulated_is_refused() {
    let home = Home::new();
    let host = ["--host", "127.0.0.1"];
    for (code, words) in [
        (8, &["--devices", "1", "--firmware", "stock", "--pin"][..]),
        (8, &["--devices", "1", "--firmware", "tls", "--provision", "--serve-http", "127.0.0.1:9000"]),
        (2, &["--devices", "0"]),
        (2, &["--devices", "1", "--faults", "fire"]),
        (2, &["--devices", "1", "--pace", "0"]),
        (2, &["--devices", "1", "--serve-http", "192.0.2.1:80"]),
        (2, &["--devices", "10", "--serve-http", "127.0.0.1:65530"]),
        (3, &["--devices", "1", "--ca", "Cargo.toml"]),
        (1, &["--devices", "1", "--ca", "no-such-file"]),
        (2, &["--devices", "200", "--serial"]),
    ] {
        let said = home.fails(code, &[&["simulate"], &host[..], words].concat());
        assert!(said.contains("error"), "{words:?}: {said}");
    }
}

/// The path of the serial line that a simulated device got.
fn serial_line(devices: &mut Simulated) -> PathBuf {
    let line = devices.wait_for("serial line");
    PathBuf::from(line.rsplit_once(' ').unwrap().1)
}

#[test]
fn a_device_is_enrolled_over_its_serial_line() {
    let home = Home::new();
    // Certificates of an EC CA fit a serial line.
    home.ok(&[
        "ca",
        "init",
        "--key",
        "ec-p256",
        "--host",
        "127.0.0.1",
        "--listen",
        &format!("127.0.0.1:{}", home.port),
    ]);
    let _up = home.up_and_listening(&[]);
    let broker = Mosquitto::open();
    let ca = home.path("pki/ca.crt");
    let words = ["--devices", "1", "--chip", "esp8266", "--host", "127.0.0.1", "--port"];
    let more = ["--serial", "--pace", "0.05", "--tele-period", "10"];
    let port = broker.port.to_string();
    let mut devices = Simulated::start(
        &home,
        &[&words[..], &[&port], &["--trust", ca.to_str().unwrap()], &more[..]].concat(),
    );
    let line = serial_line(&mut devices);
    devices.wait_for("online 1");
    let line = line.to_str().unwrap();
    let plan = home.ok(&["device", "add", "kitchen", "--serial", line, "--dry-run"]);
    assert!(plan.contains("nothing was changed"), "{plan}");
    let added = home.json(&["device", "add", "kitchen", "--serial", line]);
    assert_eq!((added["name"].as_str(), added["rung"].as_str()), (Some("kitchen"), Some("mutual")));
    let device = home.device("kitchen");
    assert_eq!((device["state"].as_str(), device["online"].as_bool()), (Some("proven"), Some(true)));
    // Again: nothing to do.
    home.ok(&["device", "add", "kitchen", "--serial", line]);
}

/// A certificate of an RSA CA with this name does not fit a serial line.
const LONG: &str = "porch-behind-the-garden-shed";

#[test]
fn a_certificate_too_long_for_the_cable_goes_over_the_web_console() {
    let home = Home::new();
    home.init();
    let _up = home.up_and_listening(&[]);
    let broker = Mosquitto::open();
    let (ca, port, http) = (home.path("pki/ca.crt"), broker.port.to_string(), free_ports(1));
    let serve = format!("127.0.0.1:{http}");
    let words = ["--devices", "1", "--host", "127.0.0.1", "--port", &port, "--trust", ca.to_str().unwrap()];
    let more = ["--serial", "--serve-http", &serve, "--pace", "0.05"];
    let mut devices = Simulated::start(&home, &[&words[..], &more[..]].concat());
    let line = serial_line(&mut devices);
    devices.wait_for("online 1");
    let line = line.to_str().unwrap();
    let said = home.fails(3, &["device", "add", LONG, "--serial", line]);
    assert!(said.contains("591") && said.contains("--at"), "{said}");
    // Nothing was changed on it.
    let list = home.path("list.csv");
    std::fs::write(&list, format!("address\n{serve}\n")).unwrap();
    let found = home.json(&["device", "find", "--csv", list.to_str().unwrap()]);
    assert_eq!(found[0]["mutual_takes"], "a key and a certificate");
    assert_eq!(found[0]["mqtt_host"], format!("127.0.0.1:{port}"));

    let added = home.json(&["device", "add", LONG, "--serial", line, "--at", &serve]);
    assert_eq!(added["rung"], "mutual");
    let found = home.json(&["device", "find", "--csv", list.to_str().unwrap()]);
    assert_eq!((found[0]["state"].as_str(), found[0]["device"].as_str()), (Some("proven"), Some(LONG)));
}

#[test]
fn printed_lines_enrol_a_device_and_hide_the_key_unless_told() {
    let home = Home::new();
    home.init();
    let _up = home.up_and_listening(&[]);
    let said = home.fails(2, &["device", "add", "attic", "--print"]);
    assert!(said.contains("--mac"), "{said}");
    // The first device of a simulation.
    let mac = "02:51:53:00:00:00";
    let hidden = home.ok(&["device", "add", "attic", "--print", "--mac", mac]);
    assert!(hidden.contains("TLSKey1 ****") && hidden.contains("TLSKey2 MII"), "{hidden}");
    let shown = home.ok(&["device", "add", "attic", "--print", "--reveal"]);
    let key = shown.lines().find(|line| line.starts_with("TLSKey1 ")).unwrap();
    assert_eq!(key.len(), "TLSKey1 ".len() + 44);
    let certificate = |text: &str| text.lines().find(|line| line.starts_with("TLSKey2 ")).unwrap().to_owned();
    assert_eq!(certificate(&hidden), certificate(&shown), "the same certificate, not another one");
    let switch = format!("MqttHost 127.0.0.1; MqttPort {}", home.port);
    assert!(shown.lines().last().unwrap().contains(&switch), "{shown}");

    // A folder of such files is what a simulation starts from.
    let keys = home.path("keys");
    std::fs::create_dir(&keys).unwrap();
    std::fs::write(keys.join("attic.txt"), &shown).unwrap();
    let (ca, port) = (home.path("pki/ca.crt"), home.port.to_string());
    let words = ["--devices", "1", "--host", "127.0.0.1", "--port", &port, "--pace", "0.05"];
    let more = ["--ca", ca.to_str().unwrap(), "--tlskeys", keys.to_str().unwrap()];
    let mut devices = Simulated::start(&home, &[&words[..], &more[..]].concat());
    devices.wait_for("online 1");
    assert_eq!(home.device("attic")["online"], true);
    assert_eq!(devices.stop(), Some(0));
}

#[test]
fn a_fleet_is_provisioned_as_if_it_were_real() {
    let home = Home::new();
    home.init();
    let _up = home.up_and_listening(&[]);
    let (port, http) = (home.port.to_string(), free_ports(3));
    let serve = format!("127.0.0.1:{http}");
    let words =
        ["--devices", "3", "--host", "127.0.0.1", "--port", &port, "--provision", "--serve-http", &serve];
    let mut devices = Simulated::start(&home, &[&words[..], &["--pace", "0.05"]].concat());
    devices.wait_for("online 3");
    let list = home.json(&["device", "list"]);
    let proven = list.as_array().unwrap().iter().filter(|device| device["state"] == "proven").count();
    assert_eq!(proven, 3, "{list}");
    assert_eq!(devices.stop(), Some(0));
    let said = home.fails(
        2,
        &["simulate", "--devices", "1", "--host", "x", "--port", "1", "--provision", "--serve-http", &serve],
    );
    assert!(said.contains(&format!("--port {port}")), "{said}");
}
