//! The virtual device and a real BearSSL client, set up as the firmware sets it up, before the same servers: both come
//! in, or both fail with the same number. Rows that distribution's BearSSL cannot decide (its RSA limit, record sizes after
//! the handshake, a null key) are left to `handshake_matrix.rs`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use common::{
    certificates::{Identity, Key, Leaf, Office, text},
    servers::OpenSsl,
    shared,
};
use quoll_tasmota::virtual_device::tls::{
    Anchor, ClientAuth, MaxFragment, TlsConnection, TlsFailure, TlsSettings, Trust,
};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

const HOST: &str = "broker.test";
const DNS: &str = "subjectAltName=DNS:broker.test";
const USAGE: &str = "keyUsage=critical,digitalSignature,keyEncipherment";
const CA: &str = "basicConstraints=critical,CA:TRUE;keyUsage=critical,keyCertSign";
const DAY: u64 = 86_400;

/// Builds the client in a folder of its own.
fn build(folder: &Path) -> PathBuf {
    for name in ["Makefile", "bearssl-device.c"] {
        fs::copy(shared("tools/bearssl-device").join(name), folder.join(name)).unwrap();
    }
    let made = Command::new("make").arg("-C").arg(folder).output().expect("this test needs make");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "this test needs libbearssl-dev: {said}");
    folder.join("bearssl-device")
}

/// What both clients bring.
struct Client<'a> {
    anchor: &'a Identity,
    name: &'static str,
    ecdsa: bool,
    time: u64,
    identity: Option<(&'a Identity, &'a Identity)>,
}

impl Client<'_> {
    /// The number of the real client; none if it came in.
    fn real(&self, program: &Path, address: SocketAddr) -> Option<i32> {
        let mut command = Command::new(program);
        command.args(["--host", "127.0.0.1", "--port", &address.port().to_string(), "--name", self.name]);
        command.args([
            "--profile",
            if self.ecdsa { "any" } else { "esp8266" },
            "--tls-only",
            "--timeout",
            "20",
        ]);
        command.args(["--ca", text(&self.anchor.certificate), "--time", &self.time.to_string()]);
        if let Some((certificate, key)) = self.identity {
            command.args(["--cert", text(&certificate.certificate), "--key", text(&key.key)]);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        if said.lines().any(|line| line == "result=ok") {
            return None;
        }
        let number = said.lines().find_map(|line| {
            let (_, rest) = line.strip_prefix("result=tls_error")?.split_once("code=")?;
            rest.split(' ').next()?.parse().ok()
        });
        Some(number.unwrap_or_else(|| panic!("no number: {said}{}", String::from_utf8_lossy(&output.stderr))))
    }

    /// The number of the virtual device.
    fn modelled(&self, address: SocketAddr) -> Option<i32> {
        let settings = TlsSettings {
            host: self.name.into(),
            fragment: MaxFragment::Bytes1024,
            ecdsa: self.ecdsa,
            rsa_4096: false,
            trust: Trust::Anchors([Anchor::from_der(&self.anchor.der()).unwrap()].into_iter().collect()),
            now: self.time,
            client_auth: match self.identity {
                Some((certificate, key)) => {
                    ClientAuth::Stored { key: Zeroizing::new(key.scalar()), certificate: certificate.der() }
                }
                None => ClientAuth::NotCompiled,
            },
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = TcpStream::connect(address).await.unwrap();
            match TlsConnection::open(socket, settings, Duration::from_secs(10)).await {
                Ok(connection) => {
                    connection.close().await;
                    None
                }
                Err(TlsFailure::Number(number)) => Some(number),
                Err(TlsFailure::Crash) => panic!("nothing here crashes a device"),
            }
        })
    }
}

#[test]
fn a_virtual_device_and_bearssl_judge_alike() {
    let office = Office::new();
    let program = build(office.path());
    let (rsa, ec) = (office.root("RSA root", Key::Rsa2048), office.root("EC root", Key::P256));
    let leaf = |name: &'static str, key: Key, issuer: &Identity, extensions: &str, digest: &str| {
        office.leaf(&Leaf { name, key, issuer, extensions, digest })
    };
    let by_rsa = |name, extensions: &str| leaf(name, Key::Rsa2048, &rsa, extensions, "sha256");
    let good = by_rsa(HOST, &format!("{USAGE};{DNS}"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 60;
    let client = |anchor| Client { anchor, name: HOST, ecdsa: false, time: now, identity: None };
    let mut agreed = 0;
    let mut row = |case: &str, server: &OpenSsl, client: &Client<'_>, expected: Option<i32>| {
        let (real, modelled) = (client.real(&program, server.address), client.modelled(server.address));
        assert_eq!((real, modelled), (expected, expected), "{case}: (BearSSL, virtual device)");
        agreed += 1;
    };

    for (case, server, name, expected) in [
        ("SAN dns match", good.clone(), HOST, None),
        ("SAN match, upper case", good.clone(), "BROKER.TEST", None),
        ("CN match, no SAN", by_rsa(HOST, USAGE), HOST, None),
        ("CN ok but SAN has only other", by_rsa(HOST, "subjectAltName=DNS:other.test"), HOST, Some(56)),
        ("host=IP, CN=IP no SAN", by_rsa("127.0.0.1", USAGE), "127.0.0.1", None),
        ("host=IP, SAN iPAddress only", by_rsa("x", "subjectAltName=IP:127.0.0.1"), "127.0.0.1", Some(56)),
        (
            "host=IP, SAN dNSName=IP + iPAddress",
            by_rsa("x", "subjectAltName=DNS:127.0.0.1,IP:127.0.0.1"),
            "127.0.0.1",
            None,
        ),
        ("wildcard", by_rsa("x", "subjectAltName=DNS:*.test"), HOST, None),
        (
            "EKU critical",
            by_rsa(HOST, &format!("extendedKeyUsage=critical,serverAuth;{DNS}")),
            HOST,
            Some(57),
        ),
        ("EKU", by_rsa(HOST, &format!("extendedKeyUsage=serverAuth;{DNS}")), HOST, None),
        ("keyEncipherment only", by_rsa(HOST, &format!("keyUsage=keyEncipherment;{DNS}")), HOST, Some(28)),
        ("sha384", leaf(HOST, Key::Rsa2048, &rsa, DNS, "sha384"), HOST, Some(49)),
        ("EC leaf, RSA suites only", leaf(HOST, Key::P256, &rsa, DNS, "sha256"), HOST, Some(296)),
    ] {
        let started = OpenSsl::start(&server, None, &[]);
        row(case, &started, &Client { name, ..client(&rsa) }, expected);
    }

    let server = OpenSsl::start(&good, None, &[]);
    row("expired", &server, &Client { time: now + 40_000 * DAY, ..client(&rsa) }, Some(54));
    row("not yet valid", &server, &Client { time: now - 400 * DAY, ..client(&rsa) }, Some(54));
    row("clock unset", &server, &Client { time: 1, ..client(&rsa) }, Some(54));
    row("unrelated root", &server, &client(&ec), Some(62));

    let under_ec = leaf(HOST, Key::Rsa2048, &ec, DNS, "sha256");
    let server = OpenSsl::start(&under_ec, None, &[]);
    row("RSA leaf by EC CA, ecdsa on", &server, &Client { ecdsa: true, ..client(&ec) }, None);
    row("RSA leaf by EC CA, rsa only", &server, &client(&ec), Some(62));
    let all_ec = leaf(HOST, Key::P256, &ec, DNS, "sha256");
    let server = OpenSsl::start(&all_ec, None, &[]);
    row("EC leaf by EC CA, ecdsa on", &server, &Client { ecdsa: true, ..client(&ec) }, None);

    let between = leaf("Between", Key::Rsa2048, &rsa, CA, "sha256");
    let below = leaf(HOST, Key::Rsa2048, &between, DNS, "sha256");
    row("chain sent", &OpenSsl::start(&below, Some(&between.certificate), &[]), &client(&rsa), None);
    row("chain not sent", &OpenSsl::start(&below, None, &[]), &client(&rsa), Some(62));
    let no_ca = leaf("No CA", Key::Rsa2048, &rsa, "subjectKeyIdentifier=hash", "sha256");
    let below = leaf(HOST, Key::Rsa2048, &no_ca, DNS, "sha256");
    let server = OpenSsl::start(&below, Some(&no_ca.certificate), &[]);
    row("intermediate that is no CA", &server, &client(&rsa), Some(58));
    row("root sent too", &OpenSsl::start(&good, Some(&rsa.certificate), &[]), &client(&rsa), None);

    let demands = ["-Verify", "1", "-verify_return_error", "-CAfile", text(&ec.certificate)];
    let server = OpenSsl::start(&good, None, &demands);
    let (mine, other) = (office.device("lamp", &ec), office.device("other", &ec));
    let foreign = office.device("foreign", &rsa);
    let with = |certificate, key| Client { identity: Some((certificate, key)), ..client(&rsa) };
    row("client certificate", &server, &with(&mine, &mine), None);
    row("no client certificate", &server, &client(&rsa), Some(296));
    row("client certificate of another CA", &server, &with(&foreign, &foreign), Some(304));
    row("client certificate with another key", &server, &with(&mine, &other), Some(307));
    assert_eq!(agreed, 28);
}
