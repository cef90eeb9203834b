//! The doctor names the cause of what is provoked: virtual devices against real servers, judged in one look at the house.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use quoll_fleet::device::{Address, DeviceName, DeviceState, Rung, Topics};
use quoll_fleet::registry::{NewDevice, Registry};
use quoll_tasmota::Mac;
use quoll_tasmota::virtual_device::{
    Chip, ClockFault, Faults, Firmware, Flash, RunningDevice, VirtualDevice, VirtualProfile,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use support::{Home, until};
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

const HOST: &str = "127.0.0.1";
const SERVER: &str = "keyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage=serverAuth";
const NAMED: &str = "subjectAltName=DNS:127.0.0.1";

/// Certificates, made by openssl.
struct Office {
    dir: tempfile::TempDir,
}

impl Office {
    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn openssl(&self, words: &[&str]) -> Vec<u8> {
        let output = support::tool("openssl", words);
        assert!(output.status.success(), "{words:?}: {}", support::complaint(&output));
        output.stdout
    }

    fn key(&self, name: &str, kind: &str) {
        let (algorithm, options): (&str, Vec<String>) = match kind {
            "EC" => ("EC", vec!["ec_paramgen_curve:P-256".into()]),
            // More primes are found sooner.
            bits if bits.parse::<u32>().unwrap() > 4000 => {
                ("RSA", vec![format!("rsa_keygen_bits:{bits}"), "rsa_keygen_primes:4".into()])
            }
            bits => ("RSA", vec![format!("rsa_keygen_bits:{bits}")]),
        };
        let path = self.path(&format!("{name}.key"));
        let mut words = vec!["genpkey", "-out", &path, "-algorithm", algorithm];
        options.iter().for_each(|option| words.extend(["-pkeyopt", option]));
        self.openssl(&words);
    }

    fn root(&self, name: &str) {
        self.key(name, "2048");
        let (key, certificate) = (self.path(&format!("{name}.key")), self.path(&format!("{name}.crt")));
        let subject = format!("/CN={name}");
        let words = ["req", "-x509", "-new", "-sha256", "-days", "3650", "-subj", &subject, "-key", &key];
        let more = ["-out", &certificate, "-addext", "basicConstraints=critical,CA:TRUE"];
        self.openssl(&[&words[..], &more[..]].concat());
    }

    /// A certificate for a key that is there already.
    fn sign(&self, name: &str, key: &str, issuer: &str, extensions: &str, more: &[&str]) {
        let (request, ending) = (self.path(&format!("{name}.csr")), self.path(&format!("{name}.ext")));
        let (key, certificate) = (self.path(&format!("{key}.key")), self.path(&format!("{name}.crt")));
        let (ca, ca_key) = (self.path(&format!("{issuer}.crt")), self.path(&format!("{issuer}.key")));
        std::fs::write(&ending, extensions).unwrap();
        self.openssl(&["req", "-new", "-subj", &format!("/CN={name}"), "-key", &key, "-out", &request]);
        let words = ["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial"];
        let rest = ["-extfile", &ending, "-out", &certificate];
        let defaults = ["-days", "3650", "-sha256"];
        let kind = if more.is_empty() { &defaults[..] } else { more };
        self.openssl(&[&words[..], &rest[..], kind].concat());
    }

    fn der(&self, name: &str) -> Vec<u8> {
        CertificateDer::from_pem_file(self.path(&format!("{name}.crt"))).unwrap().to_vec()
    }

    /// TLSKey1 and TLSKey2 as they are typed.
    fn tls_key(&self, key: &str, certificate: &str) -> Vec<String> {
        let sec1 = self.openssl(&["ec", "-in", &self.path(&format!("{key}.key")), "-outform", "DER"]);
        // SEC1: SEQUENCE, INTEGER 1, OCTET STRING of 32 bytes.
        vec![
            format!("TLSKey1 {}", base64(&sec1[7..39])),
            format!("TLSKey2 {}", base64(&self.der(certificate))),
        ]
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number =
            three.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= three.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// `openssl s_server`, ended on drop.
struct OpenSsl(Child, u16);

impl OpenSsl {
    fn start(office: &Office, name: &str, key: &str, options: &[&str]) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0", "-cert", &office.path(&format!("{name}.crt"))]);
        command.args(["-key", &office.path(&format!("{key}.key"))]).args(options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("openssl is needed: scripts/setup installs it");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address =
            lines.find_map(|line| line.unwrap().strip_prefix("ACCEPT ")?.parse::<SocketAddr>().ok());
        thread::spawn(move || lines.for_each(drop));
        Self(child, address.expect("s_server says where it accepts").port())
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Serves every connection on a thread of its own, until the test ends.
fn serve(each: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let each = Arc::new(each);
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let each = Arc::clone(&each);
            thread::spawn(move || each(socket));
        }
    });
    port
}

/// Passes on what a real server says, changed.
fn between(server: u16, change: impl Fn(&mut Vec<u8>) -> bool + Send + Sync + 'static) -> u16 {
    serve(move |near| {
        let Ok(far) = TcpStream::connect((HOST, server)) else { return };
        let (mut up_from, mut up_to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut up_from, &mut up_to));
        let (mut from, mut to) = (far, near);
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let mut bytes = buffer[..read].to_vec();
            let goes_on = change(&mut bytes);
            if to.write_all(&bytes).is_err() || !goes_on {
                break;
            }
        }
        to.shutdown(Shutdown::Both).ok();
    })
}

/// rustls without max_fragment_length, or with a demand for certificates.
fn rustls_server(office: &Office, name: &str, demands: Option<&str>, sends: usize) -> u16 {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
    let builder = match demands {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from(office.der(ca))).unwrap();
            let verifier =
                rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::from_pem_file(office.path(&format!("{name}.key"))).unwrap();
    let config =
        Arc::new(builder.with_single_cert(vec![CertificateDer::from(office.der(name))], key).unwrap());
    serve(move |socket| {
        socket.set_read_timeout(Some(Duration::from_secs(20))).ok();
        let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            if stream.conn.complete_io(&mut stream.sock).is_err() {
                break;
            }
        }
        stream.write_all(&vec![0; sends]).and_then(|()| stream.flush()).ok();
        stream.sock.shutdown(Shutdown::Write).ok();
        stream.sock.read_to_end(&mut Vec::new()).ok();
    })
}

/// A house with devices.
struct House {
    home: Home,
    runtime: Runtime,
    registry: Registry,
    devices: Vec<(String, RunningDevice)>,
}

impl House {
    fn new(home: Home) -> Self {
        let runtime = Runtime::new().unwrap();
        let registry = Registry::open(&home.path("fleet.db")).unwrap();
        Self { home, runtime, registry, devices: Vec::new() }
    }

    fn profile(&self, office: &Office, port: u16) -> VirtualProfile {
        let number = u8::try_from(self.devices.len()).unwrap();
        VirtualProfile {
            broker: (HOST.into(), port),
            anchors: vec![office.der("root")],
            tele_period: 0,
            pace: 0.05,
            crashes_without_key: false,
            ..VirtualProfile::new(Chip::Esp8266, Firmware::TlsOnly, Mac([2, 0x51, 0, 0, 0, number]))
        }
    }

    /// A device that is proven by the registry, and was set up like this.
    fn device(&mut self, name: &str, profile: VirtualProfile, lines: &[String]) {
        let typed: Vec<_> = [vec!["SetOption103 1".to_owned()], lines.to_vec()].concat();
        let typed: Vec<_> = typed.into_iter().map(Zeroizing::new).collect();
        let flash = Flash::typed(&profile, &typed, 0);
        let mac = profile.mac;
        let device = self.runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind((HOST, 0)).await.unwrap();
            VirtualDevice::start_from(profile, flash, listener).unwrap()
        });
        self.register(name, mac, &device.http_addr().to_string());
        self.devices.push((name.to_owned(), device));
    }

    fn register(&self, name: &str, mac: Mac, address: &str) {
        let name = DeviceName::parse(name).unwrap();
        let topics = Topics {
            topic: name.to_string(),
            full_topic: "%prefix%/%topic%/".into(),
            command: "cmnd".into(),
            status: "stat".into(),
            telemetry: "tele".into(),
            groups: Vec::new(),
            client_id: format!("DVES_{}", mac.tail()),
        };
        let address = Address::parse(address).unwrap();
        let (chip, firmware) = (String::new(), String::new());
        let new = NewDevice { name: name.clone(), address, mac, chip, firmware, topics };
        self.registry.register(&new).unwrap();
        for state in [DeviceState::KeyPushed, DeviceState::Switched, DeviceState::Proven] {
            self.registry.advance(&name, state, Some(Rung::Mutual)).unwrap();
        }
    }

    fn waits_for(&self, name: &str, number: i32) {
        let (_, device) = self.devices.iter().find(|(known, _)| known == name).unwrap();
        until(|| (name.to_owned(), device.state().last_error), |(_, error)| *error == Some(number));
    }

    /// Device by device: the rule that the doctor names.
    fn verdicts(&self) -> Vec<(String, Value)> {
        let output = self.home.run(&["doctor", "--output", "json"]);
        assert_eq!(output.status.code(), Some(11), "{}", support::complaint(&output));
        let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
        let devices = rows.as_array().unwrap().iter().filter(|row| row["part"] == "device");
        devices.map(|row| (row["name"].as_str().unwrap().to_owned(), row["rule"].clone())).collect()
    }
}

fn office() -> Office {
    let office = Office { dir: tempfile::tempdir().unwrap() };
    office.root("root");
    office.root("stranger");
    office.key("server", "2048");
    office.sign("server", "server", "root", &format!("{SERVER}\n{NAMED}"), &[]);
    office
}

/// Facts §7.4: the numbers that a device logs, each from a real server that provokes it.
#[test]
fn the_doctor_names_the_cause_of_every_number() {
    let office = office();
    let home = Home::new();
    let port = home.port;
    home.ok(&["ca", "init", "--host", "quoll-test.invalid", "--listen", &format!("127.0.0.1:{port}")]);
    let mut house = House::new(home);
    let mut expected: Vec<(&str, i32, &str)> = Vec::new();
    let mut running = Vec::new();
    let mut server = |name: &str, key: &str, options: &[&str]| {
        running.push(OpenSsl::start(&office, name, key, &[&["-tls1_2"], options].concat()));
        running.last().unwrap().1
    };
    let good = server("server", "server", &[]);

    // The broker's certificate.
    let named = |extensions: &str| format!("{extensions}\n{NAMED}");
    let rows: &[(&str, i32, &str, String, &[&str])] = &[
        ("a-usage", 28, "key-usage", named("keyUsage=keyEncipherment"), &[]),
        ("a-hash", 49, "certificate-hash", named(SERVER), &["-days", "3650", "-sha384"]),
        ("a-name", 56, "server-name", format!("{SERVER}\nsubjectAltName=DNS:other.lan"), &[]),
        ("a-critical", 57, "critical-extension", named("extendedKeyUsage=critical,serverAuth"), &[]),
    ];
    for (name, number, rule, extensions, more) in rows {
        office.sign(name, "server", "root", extensions, more);
        let profile = house.profile(&office, server(name, "server", &[]));
        house.device(name, profile, &[]);
        expected.push((name, *number, rule));
    }
    for (name, bits, number) in [("b-4096", "4096", 27), ("b-4128", "4128", 23), ("b-4224", "4224", 50)] {
        office.key(name, bits);
        office.sign(name, name, "root", &named(SERVER), &[]);
        let profile = house.profile(&office, server(name, name, &[]));
        house.device(name, profile, &[]);
        expected.push((name, number, "server-key-too-large"));
    }
    let twice = office.path("server.crt");
    let profile = VirtualProfile {
        anchors: vec![office.der("stranger")],
        ..house.profile(&office, server("server", "server", &["-cert_chain", &twice]))
    };
    house.device("c-order", profile, &[]);
    expected.push(("c-order", 55, "chain-order"));
    for (name, number, extensions) in [
        ("c-no-ca", 58, "subjectKeyIdentifier=hash"),
        ("c-usage", 59, "basicConstraints=critical,CA:TRUE\nkeyUsage=digitalSignature"),
    ] {
        let below = format!("{name}-leaf");
        office.key(name, "2048");
        office.sign(name, name, "root", extensions, &[]);
        office.sign(&below, "server", name, &named(SERVER), &[]);
        let chain = office.path(&format!("{name}.crt"));
        let profile = house.profile(&office, server(&below, "server", &["-cert_chain", &chain]));
        house.device(name, profile, &[]);
        expected.push((name, number, "intermediate"));
    }
    let profile = VirtualProfile { anchors: vec![office.der("stranger")], ..house.profile(&office, good) };
    house.device("c-ca", profile, &[]);
    expected.push(("c-ca", 62, "unknown-ca"));
    let faults = Faults { clock: ClockFault::Unset, ..Faults::default() };
    house.device("d-clock", VirtualProfile { faults, ..house.profile(&office, good) }, &[]);
    expected.push(("d-clock", 54, "clock"));
    office.sign("d-dates", "server", "root", &named(SERVER), &["-days", "0", "-sha256"]);
    let profile = house.profile(&office, server("d-dates", "server", &[]));
    house.device("d-dates", profile, &[]);
    expected.push(("d-dates", 54, "server-certificate-dates"));
    let pinned = ["SetOption132 1".to_owned(), format!("MqttFingerprint1{}", " 11".repeat(20))];
    house.device("d-pin", house.profile(&office, good), &pinned);
    expected.push(("d-pin", 1, "another-server"));
    let profile = house.profile(&office, rustls_server(&office, "server", None, 5000));
    house.device("d-record", profile, &[]);
    expected.push(("d-record", 6, "record-too-large"));

    // What the broker says to the device.
    office.key("ec", "EC");
    office.sign("ec", "ec", "root", &named("keyUsage=digitalSignature"), &[]);
    let profile = house.profile(&office, server("ec", "ec", &[]));
    house.device("e-suite", profile, &pinned);
    expected.push(("e-suite", 296, "no-common-suite"));
    let ca = office.path("root.crt");
    let demands = ["-Verify", "4", "-verify_return_error", "-CAfile", &ca];
    let demanding = server("server", "server", &demands);
    let profile = house.profile(&office, server("server", "server", &demands));
    house.device("e-none", profile, &[]);
    expected.push(("e-none", 296, "no-client-certificate"));
    let profile = house.profile(&office, rustls_server(&office, "server", Some("root"), 0));
    house.device("e-none-rustls", profile, &[]);
    expected.push(("e-none-rustls", 372, "no-client-certificate"));
    for (name, issuer) in [("plug", "root"), ("foreign", "stranger")] {
        office.key(name, "EC");
        office.sign(name, name, issuer, "keyUsage=critical,digitalSignature", &[]);
    }
    let client = |house: &House, port| VirtualProfile {
        firmware: Firmware::ClientCert,
        ..house.profile(&office, port)
    };
    house.device("f-foreign", client(&house, demanding), &office.tls_key("foreign", "foreign"));
    expected.push(("f-foreign", 304, "foreign-certificate"));
    house.device("f-key", client(&house, demanding), &office.tls_key("foreign", "plug"));
    expected.push(("f-key", 307, "key-mismatch"));
    // A real refusal, in the words of another server.
    for (name, alert, rule) in [
        ("g-42", 42, "bad-certificate"),
        ("g-44", 44, "revoked"),
        ("g-45", 45, "certificate-expired"),
        ("g-46", 46, "certificate-not-accepted"),
        ("g-49", 49, "access-denied"),
    ] {
        let port = between(demanding, move |bytes| {
            if let [21, 3, 3, 0, 2, 2, word, ..] = bytes.as_mut_slice() {
                *word = alert;
            }
            true
        });
        house.device(name, client(&house, port), &office.tls_key("foreign", "foreign"));
        expected.push((name, 256 + i32::from(alert), rule));
    }
    let modern = OpenSsl::start(&office, "server", "server", &["-tls1_3"]);
    house.device("g-version", house.profile(&office, modern.1), &[]);
    expected.push(("g-version", 326, "tls-version"));

    // The way there.
    let faults = Faults { no_memory: true, ..Faults::default() };
    house.device("h-memory", VirtualProfile { faults, ..house.profile(&office, good) }, &[]);
    expected.push(("h-memory", -1000, "no-memory"));
    let profile = VirtualProfile { broker: ("quoll-test.invalid".into(), port), ..house.profile(&office, 0) };
    house.device("h-name", profile, &[]);
    expected.push(("h-name", -1001, "name-not-found"));
    house.device("h-port", house.profile(&office, support::free_port()), &[]);
    expected.push(("h-port", -1002, "other-broker"));
    let profile = house.profile(&office, serve(|_socket| thread::sleep(Duration::from_secs(60))));
    house.device("h-silent", profile, &[]);
    expected.push(("h-silent", -1005, "handshake-timeout"));
    let profile = house.profile(&office, serve(drop));
    house.device("h-plain", profile, &[]);
    expected.push(("h-plain", 0, "port-without-tls"));
    let cut = between(good, |bytes| {
        bytes.truncate(40);
        false
    });
    house.device("h-cut", house.profile(&office, cut), &[]);
    expected.push(("h-cut", 0, "closed-without-a-word"));

    for (name, number, _) in &expected {
        house.waits_for(name, *number);
    }
    let verdicts = house.verdicts();
    let wrong: Vec<_> = expected
        .iter()
        .filter(|(name, _, rule)| !verdicts.iter().any(|(known, said)| known == name && said == rule))
        .map(|(name, number, rule)| (name, number, rule, verdicts.iter().find(|(known, _)| known == name)))
        .collect();
    assert!(wrong.is_empty(), "expected and said: {wrong:#?}");
    let numbers: std::collections::BTreeSet<i32> = expected.iter().map(|(_, number, _)| *number).collect();
    for number in [
        -1000, -1001, -1002, -1005, 0, 1, 6, 23, 27, 28, 49, 50, 54, 55, 56, 57, 58, 62, 296, 298, 304, 307,
        326, 372,
    ] {
        assert!(numbers.contains(&number), "{number} of facts §7.4 is not provoked");
    }
}

/// One that lies, hangs, is somebody else, or is not there: what can be found out is said, and what cannot.
#[test]
fn a_device_that_gives_no_honest_answer_is_still_examined() {
    let office = office();
    let home = Home::new();
    home.init();
    let mut house = House::new(home);
    let hangs = Faults { hangs: true, ..Faults::default() };
    let profile = VirtualProfile { faults: hangs, ..house.profile(&office, house.home.port) };
    house.device("hangs", profile, &[]);
    let impostor = Faults { impostor: Some("lighttpd/1.4".into()), ..Faults::default() };
    let profile = VirtualProfile { faults: impostor, ..house.profile(&office, house.home.port) };
    house.device("impostor", profile, &[]);
    let lies = serve(|mut socket| {
        let mut request = [0; 2048];
        let _ = socket.read(&mut request);
        let body = r#"{"StatusFWR":{"Version":7},"StatusMQT":[],"TLSKey1":"yes"}"#;
        let head = "HTTP/1.1 200 OK\r\nServer: Tasmota/15.3.0 (ESP8266EX)\r\nConnection: close\r\n";
        let _ = socket.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    });
    house.register("liar", Mac([2, 0x51, 0, 0, 1, 1]), &format!("127.0.0.1:{lies}"));
    house.register("gone", Mac([2, 0x51, 0, 0, 1, 2]), &format!("127.0.0.1:{}", support::free_port()));
    let verdicts = house.verdicts();
    // No node runs, so that is the cause of all; what is silent besides is told with it.
    assert_eq!(verdicts.len(), 4, "{verdicts:?}");
    for (name, also, silent) in [
        ("hangs", "console-hangs", true),
        ("impostor", "not-the-device", true),
        ("gone", "not-there", true),
        ("liar", "no-node", false),
    ] {
        let output = house.home.run(&["doctor", name, "--output", "json"]);
        assert_eq!(output.status.code(), Some(11), "{name}: {}", support::complaint(&output));
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        let verdict = &said["verdict"];
        let found: Vec<&Value> = std::iter::once(&verdict["cause"]["rule"])
            .chain(verdict["also"].as_array().unwrap().iter().map(|finding| &finding["rule"]))
            .collect();
        assert!(found.iter().any(|rule| *rule == also), "{name}: {found:?}");
        assert_eq!(said["evidence"]["device"]["silence"].is_object(), silent, "{name}");
        if name == "liar" {
            assert!(!said["evidence"]["device"]["missing"].as_array().unwrap().is_empty(), "{said:#}");
        }
    }
}

/// Settings of an enrolled device that somebody changed, found at a running node and put back.
#[test]
fn what_is_safe_is_repaired_and_the_device_comes_back() {
    let home = Home::new();
    let mut up = home.up(&["--virtual", "1"]);
    up.wait_for(|line| line.starts_with("kitchen  online"));
    assert_eq!(home.json(&["doctor", "kitchen"])["evidence"]["wire"]["online"].as_array().unwrap().len(), 2);
    let console = home.device("kitchen")["address"].as_str().unwrap().to_owned();
    let type_command = |command: &str| {
        let answer = until(
            || {
                let mut socket = TcpStream::connect(&console).ok()?;
                let request = format!(
                    "GET /cm?cmnd={command} HTTP/1.1\r\nHost: {console}\r\nConnection: close\r\n\r\n"
                );
                socket.write_all(request.as_bytes()).ok()?;
                let mut answer = String::new();
                socket.read_to_string(&mut answer).ok()?;
                answer.contains("200").then_some(answer)
            },
            Option::is_some,
        );
        assert!(!answer.unwrap().contains("Error"), "{command}");
    };
    let cause = || {
        let output = home.run(&["doctor", "kitchen", "--output", "json"]);
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        said["verdict"]["cause"]["rule"].as_str().unwrap_or_default().to_owned()
    };
    let elsewhere = format!("MqttPort%20{}", support::free_port());
    for (command, rule) in [
        (elsewhere.as_str(), "other-broker"),
        ("SetOption103%200", "tls-off"),
        ("SetOption3%200", "mqtt-off"),
    ] {
        type_command(command);
        until(cause, |seen| seen == rule);
        let repaired = home.run(&["doctor", "kitchen", "--fix", "--output", "json"]);
        assert!(repaired.status.success(), "{rule}: {}", support::complaint(&repaired));
        let said: Value = serde_json::from_slice(&repaired.stdout).unwrap();
        assert_eq!(said["repaired"].as_array().unwrap().len(), 1, "{said:#}");
        assert!(said["evidence"]["wire"]["online"].is_array(), "{said:#}");
    }
    home.ok(&["device", "revoke", "kitchen", "--yes"]);
    until(cause, |seen| seen == "revoked");
    let wire = home.run(&["doctor", "kitchen", "--output", "json"]);
    let said: Value = serde_json::from_slice(&wire.stdout).unwrap();
    let encounters = said["evidence"]["wire"]["encounters"].as_array().unwrap();
    assert!(
        encounters.iter().any(|it| it["ending"] == "admitted" && it["hello"]["suites"][0] == 0xc02f),
        "{said:#}"
    );
    assert_eq!(up.stop(), 0);
    home.fails(11, &["doctor"]);
    assert_eq!(home.fails(9, &["doctor", "nobody"]).lines().count(), 2);
}
