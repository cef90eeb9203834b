//! A virtual device's whole life with a real broker, mosquitto: plain, with a pinned key, with mutual TLS; what it says
//! after CONNACK, what it answers, what it does when things go wrong.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command as Process, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use common::certificates::{Identity, Key, Leaf, Office, text};
use common::free_port::free_port;
use quoll_tasmota::{
    Command, Console, Fingerprint, FingerprintSlot, HttpConsole, Mac, Road, SetOption, Setting, Slot,
    StatusPage, TlsKey1, TlsKey2, tls_error,
    virtual_device::{
        Chip, DeviceState, Faults, Firmware, Machine, MemoryConsole, RunningDevice, VirtualDevice,
        VirtualProfile,
    },
};
use tokio::{net::TcpListener, time::sleep};

const MAC: Mac = Mac([2, 0, 0, 0xA1, 0xB2, 0xC3]);

/// A running mosquitto with two listeners: plain for the test's own clients, and one for the device.
struct Mosquitto {
    child: Child,
    plain: u16,
    device: u16,
}

impl Mosquitto {
    /// `tls` is the configuration of the device's listener; empty for a plain one.
    fn start(office: &Office, tls: &str) -> Self {
        Self::start_on(office, tls, free_port(), free_port())
    }

    fn start_on(office: &Office, tls: &str, plain: u16, device: u16) -> Self {
        let path = office.path().join(format!("mosquitto-{plain}.conf"));
        let text = format!(
            "user root\nper_listener_settings false\nallow_anonymous true\nlistener {plain} 127.0.0.1\n\
             listener {device} 127.0.0.1\n{tls}\n"
        );
        fs::write(&path, text).unwrap();
        let child = Process::new("mosquitto")
            .arg("-c")
            .arg(&path)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let broker = Self { child: child.expect("these tests need mosquitto"), plain, device };
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", device)).is_ok() {
                return broker;
            }
            thread::sleep(Duration::from_millis(25));
        }
        panic!("mosquitto did not come up");
    }

    /// What arrives from now on, as `topic payload` lines.
    fn listen(&self) -> Ears {
        let port = self.plain.to_string();
        let mut child = Process::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-p", &port, "-t", "#", "-F", "%r %t %p"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("these tests need mosquitto_sub");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ears { child, receiver, heard: Vec::new() }
    }

    fn publish(&self, topic: &str, payload: &str) {
        self.publish_with(&["-t", topic, "-m", payload]);
    }

    fn publish_with(&self, arguments: &[&str]) {
        let port = self.plain.to_string();
        let status = Process::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port, "-q", "1"])
            .args(arguments)
            .status();
        assert!(status.expect("these tests need mosquitto_pub").success());
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Ears {
    child: Child,
    receiver: mpsc::Receiver<String>,
    heard: Vec<String>,
}

impl Ears {
    /// Waits for a line that begins so.
    fn wait_for(&mut self, beginning: &str) -> String {
        self.wait_for_any(&[beginning])
    }

    fn wait_for_any(&mut self, beginnings: &[&str]) -> String {
        let fits = |line: &str| beginnings.iter().any(|beginning| line.starts_with(beginning));
        if let Some(line) = self.heard.iter().find(|line| fits(line)) {
            return line.clone();
        }
        loop {
            let line = self.receiver.recv_timeout(Duration::from_secs(20));
            let line = line.unwrap_or_else(|_| panic!("{beginnings:?} did not come: {:#?}", self.heard));
            self.heard.push(line.clone());
            if fits(&line) {
                return line;
            }
        }
    }
}

impl Drop for Ears {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn profile(chip: Chip, firmware: Firmware) -> VirtualProfile {
    VirtualProfile { pace: 0.02, topic: "plug".into(), ..VirtualProfile::new(chip, firmware, MAC) }
}

async fn start(profile: VirtualProfile) -> (RunningDevice, HttpConsole) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let device = VirtualDevice::start(profile, listener).unwrap();
    let console = HttpConsole::new("127.0.0.1", device.http_addr().port());
    (device, console)
}

async fn until(device: &RunningDevice, what: &str, reached: impl Fn(&DeviceState) -> bool) {
    for _ in 0..2000 {
        if reached(&device.state()) {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("not reached: {what}: {:?}", device.state());
}

fn server(office: &Office, ca: &Identity) -> Identity {
    let extensions = "keyUsage=critical,digitalSignature,keyEncipherment;extendedKeyUsage=serverAuth;\
                      subjectAltName=DNS:localhost,DNS:127.0.0.1,IP:127.0.0.1";
    office.leaf(&Leaf { name: "localhost", key: Key::Rsa2048, issuer: ca, extensions, digest: "sha256" })
}

fn tls(server: &Identity, ca: &Identity, mutual: bool) -> String {
    let files = format!(
        "certfile {}\nkeyfile {}\ncafile {}\n",
        text(&server.certificate),
        text(&server.key),
        text(&ca.certificate)
    );
    if mutual { files + "require_certificate true\nuse_identity_as_username true\n" } else { files }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_device_says_and_answers_what_a_tasmota_does() {
    let office = Office::new();
    let broker = Mosquitto::start(&office, "");
    let mut ears = broker.listen();
    broker.publish_with(&["-r", "-t", "test/ready", "-m", "yes"]);
    ears.wait_for_any(&["0 test/ready", "1 test/ready"]);
    let settings = ("127.0.0.1".into(), broker.device);
    let plain =
        VirtualProfile { broker: settings, tele_period: 1, ..profile(Chip::Esp8266, Firmware::Stock) };
    let (device, _) = start(plain).await;
    for beginning in [
        "0 tele/plug/LWT Online",
        "0 cmnd/plug/POWER ",
        r#"0 tele/plug/INFO1 {"Info1":"#,
        r#"0 tele/plug/INFO3 {"Info3":"#,
        r#"0 stat/plug/RESULT {"POWER":"OFF"}"#,
        "0 stat/plug/POWER OFF",
        r#"0 tele/plug/STATE {"Time":"#,
        r#"0 tele/plug/SENSOR {"Time":"#,
        r#"0 tasmota/discovery/020000A1B2C3/config {"ip":"127.0.0.1""#,
        r#"0 tasmota/discovery/020000A1B2C3/sensors {"sn":"#,
    ] {
        ears.wait_for(beginning);
    }
    broker.publish("cmnd/plug/Power", "TOGGLE");
    ears.wait_for(r#"0 stat/plug/RESULT {"POWER":"ON"}"#);
    ears.wait_for("0 stat/plug/POWER ON");
    broker.publish("cmnd/DVES_A1B2C3_fb/Status", "6");
    assert!(ears.wait_for("0 stat/plug/STATUS6 ").contains(r#""MqttCount":1"#));
    broker.publish("cmnd/tasmotas/TelePeriod", "30");
    ears.wait_for(r#"0 stat/plug/RESULT {"TelePeriod":30}"#);
    let mut late = broker.listen();
    late.wait_for("1 tasmota/discovery/020000A1B2C3/config");
    device.power_cut();
    ears.wait_for("0 tele/plug/LWT Offline");
    until(&device, "connected again", |state| state.connected && state.boot_count == 2).await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_custom_build_gets_its_identity_over_http_and_proves_it_to_the_broker() {
    let office = Office::new();
    let (ca, device_ca) = (office.root("Broker root", Key::Rsa2048), office.root("Device root", Key::P256));
    let broker = Mosquitto::start(&office, &tls(&server(&office, &ca), &device_ca, true));
    for chip in [Chip::Esp8266, Chip::Esp32] {
        let custom = VirtualProfile { anchors: vec![ca.der()], ..profile(chip, Firmware::ClientCert) };
        let (device, console) = start(custom).await;
        let identity = office.device("plug", &device_ca);
        let key = TlsKey1::new(&identity.scalar()).unwrap();
        let certificate = TlsKey2::new(&identity.der(), Road::Http).unwrap();
        console.ask(&Command::tls_key1(&key)).await.unwrap();
        let stored = console.ask(&Command::tls_key2(&certificate)).await.unwrap().tls_key();
        assert_eq!(stored, Ok(certificate.expected()));
        let switch = Command::backlog(&[
            Command::set_option(SetOption::FINGERPRINT_MODE, false),
            Command::set_option(SetOption::MQTT_TLS, true),
            Command::set(Setting::MqttHost, "127.0.0.1").unwrap(),
            Command::set(Setting::MqttPort, &broker.device.to_string()).unwrap(),
        ]);
        console.ask(&switch.unwrap()).await.unwrap();
        until(&device, "connected", |state| state.connected && state.boot_count == 2).await;
        let mqtt = console.ask(&Command::status(StatusPage::Mqtt)).await.unwrap().mqtt().unwrap();
        assert_eq!((mqtt.count, mqtt.tls), (1, Some(true)));
        let log = console.log(0).await.unwrap();
        assert!(log.lines.iter().any(|line| line.contains("MQT: TLS connected in")), "{:#?}", log.lines);
        assert!(!log.lines.iter().any(|line| line.contains("MFLN not supported")), "mosquitto negotiates it");
        assert!(console.log(log.next).await.unwrap().lines.is_empty());
        device.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_esp32_is_pinned_learns_and_refuses_another_key() {
    let office = Office::new();
    let ca = office.root("Root", Key::Rsa2048);
    let (first, second) = (server(&office, &ca), server(&office, &ca));
    let brokers = [
        Mosquitto::start(&office, &tls(&first, &ca, false)),
        Mosquitto::start(&office, &tls(&second, &ca, false)),
    ];
    let fingerprint = Fingerprint::of_certificate(&first.der()).unwrap();
    let switch = |port: u16| {
        Command::backlog(&[
            Command::set_option(SetOption::FINGERPRINT_MODE, true),
            Command::set_option(SetOption::MQTT_TLS, true),
            Command::set(Setting::MqttHost, "127.0.0.1").unwrap(),
            Command::set(Setting::MqttPort, &port.to_string()).unwrap(),
        ])
        .unwrap()
    };
    // Slot 1 is all zeros in the factory: the first server is learned.
    let (device, console) = start(profile(Chip::Esp32, Firmware::Stock)).await;
    console.ask(&switch(brokers[0].device)).await.unwrap();
    until(&device, "connected and learned", |state| state.connected).await;
    let slot = console.ask(&Command::ask_fingerprint(FingerprintSlot::One)).await.unwrap();
    assert_eq!(slot.fingerprint(FingerprintSlot::One), Ok(Slot::Pinned(fingerprint)));
    console.ask(&switch(brokers[1].device)).await.unwrap();
    until(&device, "error 1", |state| state.last_error == Some(1)).await;
    let log = console.log(0).await.unwrap();
    assert!(log.lines.iter().any(|line| tls_error::number_in(line) == Some(1)), "{:#?}", log.lines);
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_show_their_number_and_are_tried_again() {
    let office = Office::new();
    let (ca, other) = (office.root("Root", Key::Rsa2048), office.root("Other", Key::Rsa2048));
    let broker = Mosquitto::start(&office, &tls(&server(&office, &ca), &ca, true));
    let switch = |port: u16| {
        Command::backlog(&[
            Command::set_option(SetOption::MQTT_TLS, true),
            Command::set(Setting::MqttHost, "127.0.0.1").unwrap(),
            Command::set(Setting::MqttPort, &port.to_string()).unwrap(),
        ])
        .unwrap()
    };
    // No client certificate compiled in: 296 from OpenSSL, and SetOption165 turns itself on.
    let only_tls = VirtualProfile { anchors: vec![ca.der()], ..profile(Chip::Esp8266, Firmware::TlsOnly) };
    let (device, console) = start(only_tls).await;
    console.ask(&switch(broker.device)).await.unwrap();
    until(&device, "296", |state| state.last_error == Some(296)).await;
    let ecdsa = console.ask(&Command::ask_option(SetOption::ECDSA)).await.unwrap();
    assert_eq!(ecdsa.option(SetOption::ECDSA), Ok(true));
    let lines = console.log(0).await.unwrap().lines;
    assert!(lines.iter().any(|line| line.contains("Connect failed to 127.0.0.1")), "{lines:#?}");
    // Nobody there.
    console.ask(&switch(free_port())).await.unwrap();
    until(&device, "-1002", |state| state.last_error == Some(-1002)).await;
    device.stop().await;
    // An unknown CA.
    let stranger =
        VirtualProfile { anchors: vec![other.der()], ..profile(Chip::Esp8266, Firmware::ClientCert) };
    let (device, console) = start(stranger).await;
    console.ask(&switch(broker.device)).await.unwrap();
    until(&device, "62", |state| state.last_error == Some(62)).await;
    // A clock that never was set.
    let faults = Faults { clock: quoll_tasmota::virtual_device::ClockFault::Unset, ..Faults::default() };
    let anchors = vec![ca.der()];
    device.stop().await;
    let late = VirtualProfile { anchors, faults, ..profile(Chip::Esp8266, Firmware::ClientCert) };
    let (device, console) = start(late).await;
    console.ask(&switch(broker.device)).await.unwrap();
    until(&device, "54", |state| state.last_error == Some(54)).await;
    device.stop().await;
}

/// Facts §0.10: load keys before switching to the mTLS port.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_custom_build_without_keys_crashes_at_a_broker_that_demands_them() {
    let office = Office::new();
    let ca = office.root("Root", Key::Rsa2048);
    let broker =
        Mosquitto::start(&office, &tls(&server(&office, &ca), &office.root("Devices", Key::P256), true));
    let custom = VirtualProfile { anchors: vec![ca.der()], ..profile(Chip::Esp8266, Firmware::ClientCert) };
    let (device, console) = start(custom).await;
    let switch = Command::backlog(&[
        Command::set_option(SetOption::MQTT_TLS, true),
        Command::set(Setting::MqttHost, "127.0.0.1").unwrap(),
        Command::set(Setting::MqttPort, &broker.device.to_string()).unwrap(),
    ]);
    console.ask(&switch.unwrap()).await.unwrap();
    until(&device, "a boot loop", |state| state.boot_count >= 4).await;
    device.stop().await;
}

/// How a load of devices is made: provisioned in memory, then switched on from that flash.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_provisioned_devices_come_back_after_the_broker_was_away() {
    let office = Office::new();
    let (ca, device_ca) = (office.root("Root", Key::Rsa2048), office.root("Devices", Key::P256));
    let tls = tls(&server(&office, &ca), &device_ca, true);
    let broker = Mosquitto::start(&office, &tls);
    let identity = office.device("load", &device_ca);
    let key = TlsKey1::new(&identity.scalar()).unwrap();
    let certificate = TlsKey2::new(&identity.der(), Road::Http).unwrap();
    let mut devices = Vec::new();
    for number in 0..30 {
        let profile = VirtualProfile {
            anchors: vec![ca.der()],
            mac: Mac([2, 0, 0, 0, 0, number]),
            topic: format!("load-{number}"),
            ..profile(Chip::Esp8266, Firmware::ClientCert)
        };
        let console = MemoryConsole::new(profile.clone(), 1_795_359_210);
        for command in [
            Command::tls_key1(&key),
            Command::tls_key2(&certificate),
            Command::set_option(SetOption::MQTT_TLS, true),
            Command::set(Setting::MqttHost, "127.0.0.1").unwrap(),
            Command::set(Setting::MqttPort, &broker.device.to_string()).unwrap(),
        ] {
            assert_eq!(console.ask(&command).await.unwrap().refusal(), None, "{command}");
        }
        console.wait(Duration::from_secs(10));
        let (_, flash) = console.with(Machine::parts);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        devices.push(VirtualDevice::start_from(profile, flash, listener).unwrap());
    }
    for device in &devices {
        until(device, "connected", |state| state.connected).await;
    }
    let (plain, port) = (broker.plain, broker.device);
    drop(broker);
    for device in &devices {
        until(device, "lost", |state| !state.connected && state.last_error == Some(-1002)).await;
    }
    let _broker = Mosquitto::start_on(&office, &tls, plain, port);
    for device in &devices {
        until(device, "connected again", |state| state.connected && state.mqtt_count == 2).await;
    }
    for device in devices {
        device.stop().await;
    }
}
