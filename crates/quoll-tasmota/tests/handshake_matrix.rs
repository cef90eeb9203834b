//! The virtual device's TLS client against real servers: rows of facts/vectors/handshake-matrix.json, where the
//! firmware's own BearSSL was run against the same servers. Each row names the row of the matrix it stands for; the
//! matrix is asked for the expected number, so that the two cannot drift apart.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{
    certificates::{Identity, Key, Leaf, Office, text},
    servers::{OpenSsl, Rustls},
    vectors,
};
use quoll_tasmota::virtual_device::tls::{
    Anchor, ClientAuth, MaxFragment, TlsConnection, TlsFailure, TlsSettings, Trust, client::Summary,
};
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use tokio::net::TcpStream;
use zeroize::Zeroizing;

const SERVER: &str = "keyUsage=critical,digitalSignature,keyEncipherment;extendedKeyUsage=serverAuth;";
const DNS: &str = "subjectAltName=DNS:broker.test";
const HOST: &str = "broker.test";

/// What the device brings, with the defaults of an ESP8266 in CA mode.
struct Device {
    settings: TlsSettings,
}

impl Device {
    fn new(anchors: &[&Identity]) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 60;
        Self {
            settings: TlsSettings {
                host: HOST.into(),
                fragment: MaxFragment::Bytes1024,
                ecdsa: false,
                rsa_4096: false,
                trust: Trust::Anchors(
                    anchors.iter().map(|one| Anchor::from_der(&one.der()).unwrap()).collect(),
                ),
                now,
                client_auth: ClientAuth::NotCompiled,
            },
        }
    }

    fn with(mut self, change: impl FnOnce(&mut TlsSettings)) -> Self {
        change(&mut self.settings);
        self
    }

    fn ecdsa(self) -> Self {
        self.with(|settings| settings.ecdsa = true)
    }

    fn host(self, host: &str) -> Self {
        self.with(|settings| settings.host = host.into())
    }

    fn esp32(self) -> Self {
        self.with(|settings| {
            settings.rsa_4096 = true;
            settings.fragment = MaxFragment::Bytes2048;
        })
    }

    fn identity(self, certificate: &Identity, key: &Identity) -> Self {
        let (key, certificate) = (Zeroizing::new(key.scalar()), certificate.der());
        self.with(|settings| settings.client_auth = ClientAuth::Stored { key, certificate })
    }

    /// Connects and reads to the end.
    fn meets(self, address: std::net::SocketAddr, reads: bool) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = TcpStream::connect(address).await.unwrap();
            let opened = TlsConnection::open(socket, self.settings, Duration::from_secs(10)).await;
            let mut connection = match opened {
                Ok(connection) => connection,
                Err(failure) => return Outcome { summary: None, failure: Some(failure), received: 0 },
            };
            let mut outcome = Outcome { summary: Some(connection.summary()), failure: None, received: 0 };
            let mut more = reads;
            while more {
                match connection.read().await {
                    Ok(data) if data.is_empty() => more = false,
                    Ok(data) => outcome.received += data.len(),
                    Err(failure) => {
                        outcome.failure = Some(failure);
                        more = false;
                    }
                }
            }
            connection.close().await;
            outcome
        })
    }
}

#[derive(Debug)]
struct Outcome {
    summary: Option<Summary>,
    failure: Option<TlsFailure>,
    received: usize,
}

/// Compares outcomes with the matrix and counts the rows.
struct Matrix {
    rows: Vec<Value>,
    checked: usize,
}

impl Matrix {
    fn new() -> Self {
        Self { rows: vectors("handshake-matrix.json")["cases"].as_array().unwrap().clone(), checked: 0 }
    }

    /// `HANDSHAKE_OK suite=c02f mfln=1 err=0 recv=0`, `err=56 recv=0`, or a handshake that is fine and an error after it.
    fn check(&mut self, case: &str, outcome: &Outcome) {
        let row = self.rows.iter().find(|row| row["case"] == case);
        let expected = row.unwrap_or_else(|| panic!("no row {case:?}"))["result"].as_str().unwrap();
        let word = |key: &str| expected.split(' ').find_map(|word| word.strip_prefix(key)).unwrap_or("0");
        let number: i32 = word("err=").parse().unwrap();
        let failure = (number != 0).then_some(TlsFailure::Number(number));
        assert_eq!(outcome.failure, failure, "{case}: {outcome:?}");
        let handshake = outcome
            .summary
            .map(|summary| (format!("{:04x}", summary.suite), u8::from(summary.fragment_agreed).to_string()));
        let expected_handshake = expected
            .starts_with("HANDSHAKE_OK")
            .then(|| (word("suite=").to_owned(), word("mfln=").to_owned()));
        assert_eq!(handshake, expected_handshake, "{case}: {outcome:?}");
        assert_eq!(outcome.received.to_string(), word("recv="), "{case}: {outcome:?}");
        self.checked += 1;
    }
}

/// The authorities that most rows need.
struct World {
    office: Office,
    rsa: Identity,
    ec: Identity,
}

impl World {
    fn new() -> Self {
        let office = Office::new();
        let (rsa, ec) = (office.root("RSA root", Key::Rsa2048), office.root("EC root", Key::P256));
        Self { office, rsa, ec }
    }

    fn leaf(&self, name: &str, key: Key, issuer: &Identity, extensions: &str) -> Identity {
        self.office.leaf(&Leaf { name, key, issuer, extensions, digest: "sha256" })
    }

    fn server(&self) -> Identity {
        self.leaf(HOST, Key::Rsa2048, &self.rsa, &format!("{SERVER}{DNS}"))
    }
}

fn openssl(identity: &Identity, device: Device) -> Outcome {
    let server = OpenSsl::start(identity, None, &[]);
    device.meets(server.address, false)
}

#[test]
fn names_are_judged_as_on_a_device() {
    let world = World::new();
    let mut matrix = Matrix::new();
    let ip = "192.168.1.10";
    let rows = [
        ("RSA srv CN match, no SAN", HOST, "", HOST),
        ("RSA srv SAN dns match", "other", DNS, HOST),
        ("SAN match, SNI upper case", "other", DNS, "BROKER.TEST"),
        ("CN ok but SAN has only other", HOST, "subjectAltName=DNS:other.test", HOST),
        ("host=IP, CN=IP no SAN", ip, "", ip),
        ("host=IP, CN=IP + SAN iPAddress", ip, "subjectAltName=IP:192.168.1.10", ip),
        ("host=IP, SAN iPAddress only", "other", "subjectAltName=IP:192.168.1.10", ip),
        (
            "host=IP, SAN dNSName=IP + iPAddress",
            "other",
            "subjectAltName=DNS:192.168.1.10,IP:192.168.1.10",
            ip,
        ),
        ("wildcard SAN *.test", "other", "subjectAltName=DNS:*.test", HOST),
        ("no SNI (empty host) CA mode", "other", DNS, ""),
    ];
    for (case, name, san, host) in rows {
        let leaf = world.leaf(name, Key::Rsa2048, &world.rsa, &format!("{SERVER}{san}"));
        matrix.check(case, &openssl(&leaf, Device::new(&[&world.rsa]).host(host)));
    }
    assert_eq!(matrix.checked, 10);
}

#[test]
fn certificates_are_judged_as_on_a_device() {
    let world = World::new();
    let mut matrix = Matrix::new();
    let device = || Device::new(&[&world.rsa]);
    let with = |extensions: &str| world.leaf(HOST, Key::Rsa2048, &world.rsa, &format!("{extensions};{DNS}"));
    matrix.check("EKU critical", &openssl(&with("extendedKeyUsage=critical,serverAuth"), device()));
    matrix.check("keyUsage keyEncipherment only", &openssl(&with("keyUsage=keyEncipherment"), device()));
    matrix.check("keyUsage dig+keyEnc", &openssl(&world.server(), device()));
    let far = |settings: &mut TlsSettings| settings.now = 4_102_444_800;
    matrix.check("expired leaf", &openssl(&world.server(), device().with(far)));
    let unset = |settings: &mut TlsSettings| settings.now = 0;
    matrix.check("device time = epoch 0", &openssl(&world.server(), device().with(unset)));
    let leaf = Leaf {
        name: HOST,
        key: Key::Rsa2048,
        issuer: &world.rsa,
        extensions: &format!("{SERVER}{DNS}"),
        digest: "sha384",
    };
    matrix.check("leaf signed sha384", &openssl(&world.office.leaf(&leaf), device()));
    assert_eq!(matrix.checked, 6);
}

#[test]
fn chains_are_judged_as_on_a_device() {
    let world = World::new();
    let mut matrix = Matrix::new();
    let device = || Device::new(&[&world.rsa]);
    let ca = "basicConstraints=critical,CA:TRUE;keyUsage=critical,keyCertSign";
    let intermediate = world.leaf("Intermediate", Key::Rsa2048, &world.rsa, ca);
    let below = world.leaf(HOST, Key::Rsa2048, &intermediate, &format!("{SERVER}{DNS}"));
    let sent = OpenSsl::start(&below, Some(&intermediate.certificate), &[]);
    matrix.check("via intermediate, chain sent", &device().meets(sent.address, false));
    matrix.check("via intermediate, chain NOT sent", &openssl(&below, device()));
    let no_ca = world.leaf("No CA", Key::Rsa2048, &world.rsa, "subjectKeyIdentifier=hash");
    let below = world.leaf(HOST, Key::Rsa2048, &no_ca, &format!("{SERVER}{DNS}"));
    let sent = OpenSsl::start(&below, Some(&no_ca.certificate), &[]);
    matrix.check("intermediate without basicConstraints", &device().meets(sent.address, false));
    let root_too = OpenSsl::start(&world.server(), Some(&world.rsa.certificate), &[]);
    matrix.check("chain includes root", &device().meets(root_too.address, false));
    let leaf = world.server();
    let twice = OpenSsl::start(&leaf, Some(&leaf.certificate), &[]);
    let stranger = Device::new(&[&world.ec]).ecdsa().meets(twice.address, false);
    assert_eq!(stranger.failure, Some(TlsFailure::Number(55)), "leaf sent twice");
    assert_eq!(matrix.checked, 4);
}

#[test]
fn key_kinds_are_judged_as_on_a_device() {
    let world = World::new();
    let mut matrix = Matrix::new();
    let extensions = format!("{SERVER}{DNS}");
    let by_ec = world.leaf(HOST, Key::Rsa2048, &world.ec, &extensions);
    let device = |anchor| Device::new(&[anchor]);
    matrix.check("RSA leaf by EC CA, rsa_only", &openssl(&by_ec, device(&world.ec)));
    matrix.check("RSA leaf by EC CA, ecdsa on", &openssl(&by_ec, device(&world.ec).ecdsa()));
    let stranger = openssl(&world.server(), device(&world.ec).ecdsa());
    matrix.check("unrelated root (RSA leaf, EC root, ecdsa on)", &stranger);
    let ec_leaf = world.leaf(HOST, Key::P256, &world.rsa, &format!("keyUsage=digitalSignature;{DNS}"));
    matrix.check("EC leaf by RSA CA, rsa_only", &openssl(&ec_leaf, device(&world.rsa)));
    matrix.check("EC leaf by RSA CA, ecdsa on", &openssl(&ec_leaf, device(&world.rsa).ecdsa()));
    let ec_leaf = world.leaf(HOST, Key::P256, &world.ec, &format!("keyUsage=digitalSignature;{DNS}"));
    matrix.check("EC leaf by EC CA, ecdsa on", &openssl(&ec_leaf, device(&world.ec).ecdsa()));
    let p384 = world.office.root("P-384 root", Key::P384);
    let by_p384 = world.leaf(HOST, Key::Rsa2048, &p384, &extensions);
    matrix.check("leaf by P-384 CA, ecdsa on, 4k", &openssl(&by_p384, device(&p384).ecdsa().esp32()));
    let large = world.leaf(HOST, Key::Rsa4096, &world.rsa, &extensions);
    matrix.check("RSA4096 leaf, 2k build", &openssl(&large, device(&world.rsa)));
    matrix.check("RSA4096 leaf, 4k build", &openssl(&large, device(&world.rsa).esp32()));
    let root = world.office.root("RSA-4096 root", Key::Rsa4096);
    let below = world.leaf(HOST, Key::Rsa2048, &root, &extensions);
    matrix.check("leaf by RSA4096 CA, 2k build", &openssl(&below, device(&root)));
    matrix.check("leaf by RSA4096 CA, 4k build", &openssl(&below, device(&root).esp32()));
    assert_eq!(matrix.checked, 11);
}

#[test]
fn client_certificates_meet_openssl_as_on_a_device() {
    let world = World::new();
    let mut matrix = Matrix::new();
    let server = world.server();
    let ec_server = world.leaf(HOST, Key::P256, &world.rsa, &format!("keyUsage=digitalSignature;{DNS}"));
    let (by_ec, by_rsa) = (world.office.device("plug", &world.ec), world.office.device("plug", &world.rsa));
    let device = || Device::new(&[&world.rsa]);
    let demand = |server: &Identity, ca: &Identity, more: &[&str]| {
        let demand = ["-Verify", "4", "-verify_return_error", "-CAfile", text(&ca.certificate)];
        OpenSsl::start(server, None, &[&demand, more].concat())
    };
    let running = demand(&server, &world.ec, &[]);
    let case = "mTLS EC-CA client, usages FFFF issuer 0";
    matrix.check(case, &device().identity(&by_ec, &by_ec).meets(running.address, false));
    let case = "mTLS required, no cert, vtable not set";
    matrix.check(case, &device().meets(running.address, false));
    let missing =
        |crashes| move |settings: &mut TlsSettings| settings.client_auth = ClientAuth::Missing { crashes };
    let case = "mTLS required, vtable set, key NULL, usages 0";
    matrix.check(case, &device().with(missing(false)).meets(running.address, false));
    let crash = device().with(missing(true)).meets(running.address, false);
    assert_eq!(crash.failure, Some(TlsFailure::Crash), "mTLS required, vtable set, key NULL, usages FFFF");
    let case = "mTLS client cert wrong CA";
    matrix.check(case, &device().identity(&by_rsa, &by_rsa).meets(running.address, false));
    let case = "mTLS mismatched key";
    matrix.check(case, &device().identity(&by_ec, &by_rsa).meets(running.address, false));
    let case = "mTLS RSA-CA client, usages FFFF issuer 0";
    let running = demand(&server, &world.rsa, &[]);
    matrix.check(case, &device().identity(&by_rsa, &by_rsa).meets(running.address, false));
    let case = "mTLS EC server, RSA-CA client";
    let running = demand(&ec_server, &world.rsa, &[]);
    matrix.check(case, &device().ecdsa().identity(&by_rsa, &by_rsa).meets(running.address, false));
    let case = "mTLS EC server, EC-CA client, issuer 0";
    let running = demand(&ec_server, &world.ec, &[]);
    matrix.check(case, &device().ecdsa().identity(&by_ec, &by_ec).meets(running.address, false));
    let case = "mTLS server only offers rsa sigalgs";
    let running = demand(&server, &world.rsa, &["-client_sigalgs", "RSA+SHA256"]);
    matrix.check(case, &device().identity(&by_rsa, &by_rsa).meets(running.address, false));
    let case = "server does NOT request cert, key NULL";
    matrix.check(case, &openssl(&server, device().with(missing(true))));
    let ca = "basicConstraints=critical,CA:TRUE;keyUsage=critical,keyCertSign";
    let issuing = world.leaf("Issuing", Key::P256, &world.ec, ca);
    let below = world.office.device("plug", &issuing);
    let running = demand(&server, &world.ec, &[]);
    let case = "client cert by intermediate, broker trusts root only";
    matrix.check(case, &device().identity(&below, &below).meets(running.address, false));
    assert_eq!(matrix.checked, 11);
}

#[test]
fn client_certificates_meet_rustls_as_on_a_device() {
    let world = World::new();
    let mut matrix = Matrix::new();
    let server = world.server();
    let ec_server = world.leaf(HOST, Key::P256, &world.rsa, &format!("keyUsage=digitalSignature;{DNS}"));
    let (by_ec, by_rsa) = (world.office.device("plug", &world.ec), world.office.device("plug", &world.rsa));
    let device = || Device::new(&[&world.rsa]);
    let demand = |server: &Identity, ca: &Identity| {
        let rustls =
            Rustls { client_ca: Some(CertificateDer::from(ca.der())), send: 100, ..Rustls::default() };
        rustls.start(&server.certificate, &server.key)
    };
    let mut row = |case, device: Device, server: &Identity, ca: &Identity| {
        matrix.check(case, &device.meets(demand(server, ca), true));
    };
    row("rustls mTLS EC-CA client", device().identity(&by_ec, &by_ec), &server, &world.ec);
    row("rustls mTLS RSA-CA client", device().identity(&by_rsa, &by_rsa), &server, &world.rsa);
    let device_ec = device().ecdsa().identity(&by_ec, &by_ec);
    row("rustls mTLS, EC server, EC client", device_ec, &ec_server, &world.ec);
    row("rustls mTLS required, client w/o cert (stock)", device(), &server, &world.ec);
    row("rustls mTLS wrong CA", device().identity(&by_rsa, &by_rsa), &server, &world.ec);
    row("rustls mTLS key mismatch", device().identity(&by_ec, &by_rsa), &server, &world.ec);
    let plain = Rustls::default().start(&ec_server.certificate, &ec_server.key);
    matrix.check("rustls EC server, rsa_only client", &device().meets(plain, true));
    assert_eq!(matrix.checked, 7);
}

#[test]
fn records_longer_than_the_buffer_are_dropped_as_on_a_device() {
    let world = World::new();
    let mut matrix = Matrix::new();
    let server = world.server();
    let chain = world.office.bundle(&[&server, &world.rsa]);
    let rows = [
        ("rustls default, small cert, 500B app", None, 500, false),
        ("rustls default, 1320B app record, buf1024", None, 1320, false),
        ("rustls default, 1321B app record, buf1024", None, 1321, false),
        ("rustls default, 2344B app record, buf2048", None, 2344, true),
        ("rustls default, 2345B app record, buf2048", None, 2345, true),
        ("rustls frag=1024, 5000B app, buf1024", Some(1024), 5000, false),
        ("rustls frag=1029, 5000B app, buf1024", Some(1029), 5000, false),
        ("rustls default, leaf+root chain, buf1024", None, 0, false),
    ];
    for (case, max_fragment_size, send, esp32) in rows {
        let rustls = Rustls { max_fragment_size, send, ..Rustls::default() };
        let certificates = if case.contains("chain") { &chain } else { &server.certificate };
        let device = Device::new(&[&world.rsa]);
        let device = if esp32 { device.esp32() } else { device };
        matrix.check(case, &device.meets(rustls.start(certificates, &server.key), true));
    }
    assert_eq!(matrix.checked, rows.len());
}

#[test]
fn large_certificates_are_no_problem_before_encryption_begins() {
    let world = World::new();
    let mut matrix = Matrix::new();
    let padded = |names: usize| {
        let many: String =
            (0..names).map(|n| format!(",DNS:name-{n:04}.some-long-domain-name.example.org")).collect();
        world.leaf(HOST, Key::Rsa2048, &world.rsa, &format!("{SERVER}{DNS}{many}"))
    };
    let (two, six) = (padded(30), padded(130));
    assert!(two.der().len() > 1900 && six.der().len() > 5800);
    let device = || Device::new(&[&world.rsa]);
    matrix.check("cert ~2KB, MFLN server", &openssl(&two, device()));
    matrix.check("cert ~6KB, MFLN server", &openssl(&six, device()));
    for (case, max_fragment_size, leaf) in [
        ("rustls default, 2KB cert, buf1024", None, &two),
        ("rustls frag=1024, 2KB cert, buf1024", Some(1024), &two),
        ("rustls frag=512, 6KB cert, buf1024", Some(512), &six),
    ] {
        let rustls = Rustls { max_fragment_size, ..Rustls::default() };
        matrix.check(case, &device().meets(rustls.start(&leaf.certificate, &leaf.key), true));
    }
    let ip =
        world.leaf("other", Key::Rsa2048, &world.rsa, &format!("{SERVER}subjectAltName=DNS:192.168.1.10"));
    let rustls = Rustls::default().start(&ip.certificate, &ip.key);
    matrix.check("rustls SNI = IP literal", &device().host("192.168.1.10").meets(rustls, true));
    assert_eq!(matrix.checked, 6);
}

#[test]
fn fingerprint_mode_looks_at_the_key_alone() {
    let world = World::new();
    let server = world.server();
    let own = quoll_tasmota::Fingerprint::of_certificate(&server.der()).unwrap().bytes();
    let other = [7; 20];
    let cases = [
        ("slot 1", [own, other], None),
        ("slot 2", [other, own], None),
        ("neither", [other, other], Some(1)),
        ("a zero slot", [other, [0; 20]], None),
        ("an FF slot", [[0xFF; 20], other], None),
    ];
    for (name, slots, error) in cases {
        // No anchors, a wrong name, an impossible date: none of it matters.
        let device = Device::new(&[]).host("anything").with(|settings| {
            settings.now = 0;
            settings.trust = Trust::Fingerprints(slots);
        });
        let outcome = openssl(&server, device);
        assert_eq!(outcome.failure, error.map(TlsFailure::Number), "{name}");
        let seen = outcome.summary.and_then(|summary| summary.fingerprint);
        assert_eq!(seen, error.is_none().then_some(own), "{name}");
    }
    let ec = world.leaf(HOST, Key::P256, &world.rsa, &format!("keyUsage=digitalSignature;{DNS}"));
    let device = Device::new(&[]).ecdsa().with(|settings| settings.trust = Trust::Fingerprints([[0; 20]; 2]));
    assert_eq!(openssl(&ec, device).failure, Some(TlsFailure::Number(296)), "an EC server key");
}

/// Facts §3.5, §7.4.
#[tokio::test]
async fn a_server_that_is_silent_or_leaves_has_a_number_too() {
    let settings = || Device::new(&[]).settings;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let socket = TcpStream::connect(address).await.unwrap();
    let silent = TlsConnection::open(socket, settings(), Duration::from_millis(200)).await;
    assert_eq!(silent.err(), Some(TlsFailure::Number(-1005)));
    drop(listener.accept().await.unwrap());
    let socket = TcpStream::connect(address).await.unwrap();
    drop(listener.accept().await.unwrap());
    let gone = TlsConnection::open(socket, settings(), Duration::from_secs(10)).await;
    assert_eq!(gone.err(), Some(TlsFailure::Number(0)));
}

/// A null key with usages 0x20 is the same crash as with 0xFFFF: the model has one switch for both.
const SAME_AS_ANOTHER: &str = "mTLS required, vtable set, key NULL, usages 0x20";

#[test]
fn no_row_of_the_matrix_is_left_out() {
    let tests = include_str!("handshake_matrix.rs");
    let left_out: Vec<String> = vectors("handshake-matrix.json")["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["case"].as_str().unwrap().to_owned())
        .filter(|case| case != SAME_AS_ANOTHER && !tests.contains(&format!("\"{case}\"")))
        .collect();
    assert!(left_out.is_empty(), "{left_out:#?}");
}
