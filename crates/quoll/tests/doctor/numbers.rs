//! The numbers and return codes that a device logs (facts §7.4), each from a server that provokes it. No node runs.

use std::io::Write as _;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use quoll_fleet::device::Rung;
use quoll_tasmota::virtual_device::{ClockFault, Faults, Firmware, VirtualProfile};

use crate::house::Says::{Code, Nothing, Number};
use crate::house::{Case, House, case, is_whole};
use crate::office::{NAMED, Office, SERVER};
use crate::servers::{Mosquitto, OpenSsl, between, plain_broker, rustls_server, serve};
use crate::support::{Home, free_port};

/// What is provoked, and what the doctor is to say.
pub(crate) const CASES: &[Case] = &[
    case("a-usage", Number(28), "key-usage", "RSA-2048", "digitalSignature"),
    case("a-hash", Number(49), "certificate-hash", "sends a certificate", "SHA-256"),
    case("a-name", Number(56), "server-name", "MqttHost is \"127.0.0.1\"", "quoll server renew"),
    case("a-critical", Number(57), "critical-extension", "sends a certificate", "not critical"),
    case("a-algorithm", Number(26), "signature-algorithm", "sends a certificate", "rsa_pkcs1_sha256"),
    case("a-curve", Number(26), "signature-algorithm", "sends a certificate", "secp256r1"),
    case("b-4096", Number(27), "server-key-too-large", "RSA-4096", "RSA-2048"),
    case("b-4128", Number(23), "server-key-too-large", "RSA-4128", "RSA-2048"),
    case("b-4224", Number(50), "server-key-too-large", "RSA-4224", "RSA-2048"),
    case("b-768", Number(60), "server-key-too-large", "RSA-768", "RSA-2048"),
    case("c-order", Number(55), "chain-order", "sends a certificate", "each once"),
    case("c-signed", Number(52), "chain-signature", "sends a certificate", "the chain that belongs"),
    case("c-no-ca", Number(58), "intermediate", "sends a certificate", "CA:TRUE"),
    case("c-usage", Number(59), "intermediate", "sends a certificate", "keyCertSign"),
    case("c-ca", Number(62), "unknown-ca", "sends a certificate", "compile the CA"),
    case("c-ec", Number(62), "ecdsa-off", "SetOption165 is OFF", "SetOption165 1"),
    case("d-clock", Number(54), "clock", "its clock is", "NtpServer1"),
    case("d-dates", Number(54), "server-certificate-dates", "is valid from", "quoll server renew"),
    case("d-pin", Number(1), "another-server", "MqttFingerprint1 11 11", "who answers"),
    case("d-record", Number(6), "record-too-large", "up to 1320 bytes", "max_fragment_length"),
    case("e-suite", Number(296), "no-common-suite", "refuses this ClientHello", "RSA key"),
    case("e-none", Number(296), "no-client-certificate", "asks for a certificate", "USE_MQTT_CLIENT_CERT"),
    case(
        "e-none-rustls",
        Number(372),
        "no-client-certificate",
        "asks for a certificate",
        "USE_MQTT_CLIENT_CERT",
    ),
    case(
        "e-empty",
        Number(296),
        "no-client-certificate",
        "TLSKey1 -1, TLSKey2 -1",
        "quoll device add e-empty",
    ),
    case("e-once", Number(296), "handshake-failure", "error: 296", "TLSKey1 and TLSKey2"),
    case("f-foreign", Number(304), "foreign-certificate", "TLSKey1 32", "--replace-key"),
    case("f-key", Number(307), "key-mismatch", "TLSKey1 32", "quoll device add f-key"),
    case("f-expired", Number(301), "certificate-expired", "TLSKey1 32", "renew it"),
    case("g-42", Number(298), "bad-certificate", "TLSKey1 32", "bare +"),
    case("g-43", Number(299), "certificate-not-accepted", "TLSKey1 32", "clientAuth"),
    case("g-44", Number(300), "revoked", "error: 300", "quoll device remove"),
    case("g-46", Number(302), "certificate-not-accepted", "TLSKey1 32", "clientAuth"),
    case("g-49", Number(305), "access-denied", "TLSKey1 32", "broker's log"),
    case("g-version", Number(326), "tls-version", "error: 326", "TLS 1.2"),
    case("g-older", Number(3), "tls-version", "error: 3", "TLS 1.2"),
    case("g-damaged", Number(7), "tls-error", "error: 7", "changes traffic"),
    case("h-memory", Number(-1000), "no-memory", "4 KiB of heap", "more memory"),
    case("h-name", Number(-1001), "name-not-found", "quoll-test.invalid", "DNS"),
    case("h-port", Number(-1002), "other-broker", "registry: it was proven", "set MqttHost"),
    case("h-silent", Number(-1005), "handshake-timeout", "error: -1005", "what listens there"),
    case("h-plain", Number(0), "port-without-tls", "does not answer a ClientHello", "set MqttPort"),
    case("h-http", Number(9), "port-without-tls", "does not answer a ClientHello", "set MqttPort"),
    case("h-ssl2", Number(4), "port-without-tls", "does not answer a ClientHello", "set MqttPort"),
    case("h-cut", Number(0), "closed-without-a-word", "KiB of heap", "memory"),
    case("r-1", Code(1), "connect-refused", "rc 1", "3.1.1"),
    case("r-2", Code(2), "connect-refused", "rc 2", "MqttClient 1"),
    case("r-3", Code(3), "connect-refused", "rc 3", "look at the broker"),
    case("r-4", Code(4), "connect-refused", "rc 4", "MqttUser and MqttPassword"),
    case("r-5", Code(5), "connect-refused", "rc 5", "quoll device add r-5"),
    case("r-mute", Code(-4), "no-connack", "rc -4", "what listens there"),
    case("r-name", Code(-5), "name-not-found", "rc -5", "DNS"),
    case("r-crl", Nothing, "revocation-list", "pki: ", "quoll ca crl"),
];

/// Changes the ServerKeyExchange on its way: the curve, or the algorithm of its signature.
fn rewritten(server: u16, curve: bool) -> u16 {
    between(server, move |bytes| {
        // ServerKeyExchange: named curve secp256r1, a point of 65 bytes, then the algorithm. RFC 8422 §5.4.
        if let Some(at) = bytes.windows(4).position(|four| four == [3, 0, 0x17, 65]) {
            match curve {
                true => bytes[at + 2] = 0x18,
                false => bytes[at + 4 + 65] = 6,
            }
        }
        true
    })
}

/// Whatever needs a certificate of its own.
fn certificates(office: &Office, house: &mut House, running: &mut Vec<OpenSsl>) {
    let mut server = |name: &str, key: &str, options: &[&str]| {
        running.push(OpenSsl::start(office, name, key, &[&["-tls1_2"], options].concat()));
        running.last().unwrap().1
    };
    let named = |extensions: &str| format!("{extensions}\n{NAMED}");
    let rows: &[(&str, String, &[&str])] = &[
        ("a-usage", named("keyUsage=keyEncipherment"), &[]),
        ("a-hash", named(SERVER), &["-days", "3650", "-sha384"]),
        ("a-name", format!("{SERVER}\nsubjectAltName=DNS:other.lan"), &[]),
        ("a-critical", named("extendedKeyUsage=critical,serverAuth"), &[]),
        ("d-dates", named(SERVER), &["-days", "0", "-sha256"]),
    ];
    for (name, extensions, more) in rows {
        office.sign(name, "server", "root", extensions, more);
        let profile = house.profile(name, server(name, "server", &[]));
        house.device(name, profile, &[]);
    }
    for (name, bits) in [("b-4096", "4096"), ("b-4128", "4128"), ("b-4224", "4224"), ("b-768", "768")] {
        office.key(name, bits);
        office.sign(name, name, "root", &named(SERVER), &[]);
        let profile = house.profile(name, server(name, name, &["-cipher", "DEFAULT:@SECLEVEL=0"]));
        house.device(name, profile, &[]);
    }
    let twice = office.path("server.crt");
    let profile = VirtualProfile {
        anchors: vec![office.der("stranger")],
        ..house.profile("c-order", server("server", "server", &["-cert_chain", &twice]))
    };
    house.device("c-order", profile, &[]);
    for (name, extensions) in [
        ("c-no-ca", "subjectKeyIdentifier=hash"),
        ("c-usage", "basicConstraints=critical,CA:TRUE\nkeyUsage=digitalSignature"),
    ] {
        let below = format!("{name}-leaf");
        office.key(name, "2048");
        office.sign(name, name, "root", extensions, &[]);
        office.sign(&below, "server", name, &named(SERVER), &[]);
        let chain = office.path(&format!("{name}.crt"));
        let profile = house.profile(name, server(&below, "server", &["-cert_chain", &chain]));
        house.device(name, profile, &[]);
    }
    // Two issuers of one name: the chain has the other's certificate.
    for name in ["middle", "middle-2"] {
        office.key(name, "2048");
        office.sign_as(name, "middle", name, "root", "basicConstraints=critical,CA:TRUE", &[]);
    }
    office.sign("c-signed", "server", "middle", &named(SERVER), &[]);
    let chain = office.path("middle-2.crt");
    let profile = house.profile("c-signed", server("c-signed", "server", &["-cert_chain", &chain]));
    house.device("c-signed", profile, &[]);
    office.root("ec-root", "EC");
    office.sign("c-ec", "server", "ec-root", &named(SERVER), &[]);
    let profile = VirtualProfile {
        anchors: vec![office.der("ec-root")],
        ..house.profile("c-ec", server("c-ec", "server", &[]))
    };
    house.device("c-ec", profile, &[]);
    office.key("ec", "EC");
    office.sign("ec", "ec", "root", &named("keyUsage=digitalSignature"), &[]);
    let profile = house.profile("e-suite", server("ec", "ec", &[]));
    house.device("e-suite", profile, &pinned());
}

fn pinned() -> [String; 2] {
    ["SetOption132 1".to_owned(), format!("MqttFingerprint1{}", " 11".repeat(20))]
}

/// What the broker says to the device, and about its certificate.
fn refusals(office: &Office, house: &mut House, good: u16, demanding: u16) {
    house.device("e-none", house.profile("e-none", demanding), &[]);
    let demands = rustls_server(office, "server", Some("root"), 0);
    house.device("e-none-rustls", house.profile("e-none-rustls", demands), &[]);
    let client = |house: &House, name: &str, port| VirtualProfile {
        firmware: Firmware::ClientCert,
        ..house.profile(name, port)
    };
    house.device("e-empty", client(house, "e-empty", demanding), &[]);
    for (name, issuer, days) in
        [("plug", "root", "3650"), ("foreign", "stranger", "3650"), ("old", "root", "0")]
    {
        office.key(name, "EC");
        let life = ["-days", days, "-sha256"];
        office.sign(name, name, issuer, "keyUsage=critical,digitalSignature", &life);
    }
    house.device("f-foreign", client(house, "f-foreign", demanding), &office.tls_key("foreign", "foreign"));
    house.device("f-key", client(house, "f-key", demanding), &office.tls_key("foreign", "plug"));
    house.device("f-expired", client(house, "f-expired", demanding), &office.tls_key("old", "old"));
    // A real refusal, in the words of another server.
    for (name, alert) in [("g-42", 42), ("g-43", 43), ("g-44", 44), ("g-46", 46), ("g-49", 49)] {
        let port = between(demanding, move |bytes| {
            if let [21, 3, 3, 0, 2, 2, word, ..] = bytes.as_mut_slice() {
                *word = alert;
            }
            true
        });
        house.device(name, client(house, name, port), &office.tls_key("foreign", "foreign"));
    }
    // Refused once, and then let in: nothing tells any more why. It does not try again by itself.
    let refused = AtomicBool::new(false);
    let port = between(good, move |bytes| {
        let first = !refused.swap(true, Ordering::Relaxed);
        if first {
            *bytes = vec![21, 3, 3, 0, 2, 2, 40];
        }
        !first
    });
    house.device("e-once", house.profile("e-once", port), &["MqttRetry 32000".to_owned()]);
    let older = between(good, |bytes| {
        // ServerHello: record, message, version. RFC 5246 §7.4.1.3.
        if let [22, 3, 3, _, _, 2, _, _, _, 3, version, ..] = bytes.as_mut_slice() {
            *version = 2;
        }
        true
    });
    house.device("g-older", house.profile("g-older", older), &[]);
    let damaged = between(good, |bytes| {
        if let [20, 3, 3, 0, 1, 1, 22, .., last] = bytes.as_mut_slice() {
            *last ^= 1;
        }
        true
    });
    house.device("g-damaged", house.profile("g-damaged", damaged), &[]);
}

/// The way to the broker.
fn ways(office: &Office, house: &mut House, good: u16) {
    let with =
        |house: &House, name: &str, faults: Faults| VirtualProfile { faults, ..house.profile(name, good) };
    let faults = Faults { clock: ClockFault::Unset, ..Faults::default() };
    house.device("d-clock", with(house, "d-clock", faults), &[]);
    let faults = Faults { no_memory: true, ..Faults::default() };
    house.device("h-memory", with(house, "h-memory", faults), &[]);
    house.device("d-pin", house.profile("d-pin", good), &pinned());
    let profile = VirtualProfile { anchors: vec![office.der("stranger")], ..house.profile("c-ca", good) };
    house.device("c-ca", profile, &[]);
    house.device("d-record", house.profile("d-record", rustls_server(office, "server", None, 5000)), &[]);
    let nowhere = |house: &House, name: &str| VirtualProfile {
        broker: ("quoll-test.invalid".into(), house.home.port),
        ..house.profile(name, 0)
    };
    house.device("h-name", nowhere(house, "h-name"), &[]);
    house.device("h-port", house.profile("h-port", free_port()), &[]);
    house.device("h-plain", house.profile("h-plain", serve(drop)), &[]);
    for (name, answer) in
        [("h-http", &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]), ("h-ssl2", &[22, 2, 0, 0, 2, 1, 0][..])]
    {
        let port = serve(move |mut socket| {
            use std::io::Read as _;
            let _ = socket.read(&mut [0; 512]);
            socket.write_all(answer).ok();
            socket.shutdown(Shutdown::Write).ok();
            let _ = socket.read(&mut [0; 512]);
        });
        house.device(name, house.profile(name, port), &[]);
    }
    let cut = between(good, |bytes| {
        bytes.truncate(40);
        false
    });
    house.device("h-cut", house.profile("h-cut", cut), &[]);
    house.device("a-algorithm", house.profile("a-algorithm", rewritten(good, false)), &[]);
    house.device("a-curve", house.profile("a-curve", rewritten(good, true)), &[]);
}

/// MQTT in clear: what the return codes say.
fn return_codes(house: &mut House, closed: u16, open: u16) {
    for (name, port) in [
        ("r-1", plain_broker(Some(1))),
        ("r-2", plain_broker(Some(2))),
        ("r-3", plain_broker(Some(3))),
        ("r-4", plain_broker(Some(4))),
        ("r-5", closed),
        ("r-mute", plain_broker(None)),
        ("r-crl", open),
    ] {
        house.proven(name, Rung::Plain, house.profile(name, port), &[]);
    }
    let profile = VirtualProfile {
        broker: ("quoll-test.invalid".into(), house.home.port),
        ..house.profile("r-name", 0)
    };
    house.proven("r-name", Rung::Plain, profile, &[]);
}

pub(crate) fn the_doctor_names_the_cause_of_every_number_and_return_code() {
    let office = Office::open();
    let home = Home::new();
    let port = home.port;
    home.ok(&["ca", "init", "--host", "quoll-test.invalid", "--listen", &format!("127.0.0.1:{port}")]);
    std::fs::remove_file(home.path("pki/crl.pem")).unwrap();
    let mut house = House::new(home, vec![office.der("root")], 1);
    // First, since it takes ten seconds.
    let silent = serve(|_socket| thread::sleep(Duration::from_secs(60)));
    house.device("h-silent", house.profile("h-silent", silent), &[]);

    let good = OpenSsl::start(&office, "server", "server", &["-tls1_2"]);
    let ca = office.path("root.crt");
    let demands = ["-tls1_2", "-Verify", "4", "-verify_return_error", "-CAfile", &ca];
    let demanding = OpenSsl::start(&office, "server", "server", &demands);
    let modern = OpenSsl::start(&office, "server", "server", &["-tls1_3"]);
    let closed = Mosquitto::start(&office, "closed.conf", "allow_anonymous false");
    let open = Mosquitto::start(&office, "open.conf", "allow_anonymous true");
    let mut running = Vec::new();
    return_codes(&mut house, closed.1, open.1);
    ways(&office, &mut house, good.1);
    refusals(&office, &mut house, good.1, demanding.1);
    house.device("g-version", house.profile("g-version", modern.1), &[]);
    certificates(&office, &mut house, &mut running);

    let slow = |case: &&Case| ["h-silent", "r-mute"].contains(&case.name);
    is_whole(CASES, &house.names());
    house.waits("r-crl", |state| state.connected);
    let (late, soon): (Vec<Case>, Vec<Case>) = CASES.iter().partition(slow);
    house.waits_for(&soon);
    house.judges(&soon);
    house.waits_for(&late);
    house.judges_impatiently(&late, &["h-silent", "r-mute"]);
}
