//! Bridges over TLS: to a Mosquitto that wants a certificate, with the certificates of an Easy-RSA folder; and what is wrong
//! with others.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use quoll_mqtt::client::{ClientOptions, Event};
use quoll_mqtt::{ProtocolVersion, QoS, TopicFilter};
use quoll_server::bridge::tls;
use quoll_server::mosquitto::{Disk, Surroundings, read};
use tracing_subscriber::fmt::MakeWriter;

use crate::common::{free_port, pki, run_well, scratch};
use crate::fake::PATIENCE;
use crate::subject::{Mosquitto, Quoll, configuration, message, plain_client, runtime};

/// All that this process logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
        tracing::subscriber::set_global_default(subscriber).expect("nobody else logs here");
        log
    })
}

/// Waits for a line with both parts.
fn wait_for_line(one: &str, other: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let text = String::from_utf8_lossy(&log().0.lock().unwrap()).into_owned();
        if text.lines().any(|line| line.contains(one) && line.contains(other)) {
            return;
        }
        assert!(Instant::now() < until, "no line with {one:?} and {other:?} in {text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn fixture(inside: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures/easyrsa-pki")).join(inside)
}

/// A key of the fixture without its passphrase.
fn key(name: &str) -> String {
    let path = scratch("bridge-keys").join(format!("{name}.key"));
    let (from, to) = (fixture(&format!("private/{name}.key")), path.to_str().unwrap().to_owned());
    let arguments = ["pkey", "-in", from.to_str().unwrap(), "-passin", PASSPHRASE, "-out", &to];
    run_well("openssl", &arguments);
    to
}

const PASSPHRASE: &str = "pass:test";

/// A Mosquitto with TLS that wants certificates of this CA.
fn secure_mosquitto(ca: &str, certificate: &str, key: &str, more: &str) -> Mosquitto {
    Mosquitto::start(&format!(
        "listener {} 127.0.0.1\ncafile {ca}\ncertfile {certificate}\nkeyfile {key}\nrequire_certificate true\n\
         use_identity_as_username true\n{more}",
        free_port()
    ))
}

fn tls_port(mosquitto: &Mosquitto) -> u16 {
    let opened = mosquitto.log();
    let ports =
        opened.iter().filter_map(|line| line.split_once("listen socket on port ")?.1.strip_suffix('.'));
    ports.map(|port| port.parse().unwrap()).find(|port| *port != mosquitto.port).unwrap()
}

/// A message goes from here to there.
fn goes_over(block: &str, mosquitto: &Mosquitto) {
    let runtime = runtime();
    runtime.block_on(async {
        let quoll = Quoll::start(block).await;
        let mut there =
            crate::subject::client(mosquitto.address(), ClientOptions::new(ProtocolVersion::V311, "there"))
                .await;
        there.subscribe_to(TopicFilter::parse("out/#").unwrap(), QoS::AtLeastOnce).await.unwrap();
        let mut here = plain_client(quoll.server.plain, "here").await;
        let until = Instant::now() + PATIENCE;
        loop {
            here.publish(&message("out/x", "over TLS", QoS::AtMostOnce)).await.unwrap();
            let heard = tokio::time::timeout(Duration::from_millis(100), there.next()).await;
            if matches!(heard, Ok(Ok(Event::Message(_)))) {
                break;
            }
            assert!(Instant::now() < until, "nothing came: {:#?}", mosquitto.log());
        }
        // Large ones too, and many: records are cut and put together on the way.
        here.publish(&message("out/large", vec![b'x'; 300_000], QoS::AtLeastOnce)).await.unwrap();
        let large = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Event::Message(publish) = there.next().await.unwrap()
                    && publish.payload.len() == 300_000
                {
                    return;
                }
            }
        });
        large.await.expect("the large one comes");
        quoll.stop().await;
    });
}

#[test]
fn a_bridge_shows_its_certificate_and_believes_the_right_one() {
    log();
    let pki = pki();
    let path = |name: &str| pki.path(name);
    let mosquitto = secure_mosquitto(&path("ca.crt"), &path("server.crt"), &path("server.key"), "");
    let port = tls_port(&mosquitto);
    let own = format!("bridge_certfile {}\nbridge_keyfile {}\n", path("lamp.crt"), path("lamp.key"));
    for (host, more) in [
        ("localhost", String::new()),
        ("127.0.0.1", "bridge_tls_version tlsv1.3\n".to_owned()),
        ("127.0.0.1", "bridge_protocol_version mqttv50\nbridge_alpn mqtt\n".to_owned()),
    ] {
        let block = format!(
            "connection secure\naddress {host}:{port}\nbridge_cafile {}\n{own}{more}restart_timeout 1\ntopic out/# out 1\n",
            path("ca.crt")
        );
        goes_over(&block, &mosquitto);
    }
    mosquitto.wait_for("u'lamp'");
}

#[test]
fn an_easy_rsa_folder_serves_both_ends() {
    log();
    let ca = fixture("ca.crt");
    let mosquitto = secure_mosquitto(
        ca.to_str().unwrap(),
        fixture("issued/mqtt.myorg.com.crt").to_str().unwrap(),
        &key("mqtt.myorg.com"),
        "",
    );
    let block = format!(
        "connection easy\naddress 127.0.0.1:{}\nbridge_cafile {}\nbridge_insecure true\nbridge_certfile {}\n\
         bridge_keyfile {}\nrestart_timeout 1\ntopic out/# out 1\n",
        tls_port(&mosquitto),
        ca.display(),
        fixture("issued/tasmota_garage.crt").display(),
        key("tasmota_garage"),
    );
    goes_over(&block, &mosquitto);
    mosquitto.wait_for("u'tasmota_garage'");
}

/// Each says why in the log, with what to do, and the bridge tries again.
#[test]
fn what_is_wrong_with_certificates_is_said() {
    log();
    let pki = pki();
    let path = |name: &str| pki.path(name);
    let mosquitto = secure_mosquitto(&path("ca.crt"), &path("server.crt"), &path("server.key"), "");
    let (port, plain) = (tls_port(&mosquitto), mosquitto.port);
    let own = format!("bridge_certfile {}\nbridge_keyfile {}\n", path("lamp.crt"), path("lamp.key"));
    let (ca, other) = (path("ca.crt"), fixture("ca.crt").display().to_string());
    let rows = [
        ("strange", "127.0.0.1", port, other, own.clone(), "none of the CAs in bridge_cafile"),
        ("naked", "127.0.0.1", port, ca.clone(), String::new(), ""),
        ("misnamed", "127.0.0.2", port, ca.clone(), own.clone(), "for another name"),
        ("clear", "127.0.0.1", plain, ca, own, "no TLS at that port"),
    ];
    let runtime = runtime();
    let mut block = String::new();
    for (name, host, port, ca, own, _) in &rows {
        block += &format!(
            "connection {name}\naddress {host}:{port}\nbridge_cafile {ca}\n{own}restart_timeout 1\ntopic out/# out 1\n"
        );
    }
    // 127.0.0.2 needs a listener of its own.
    let proxy = crate::kept::Breaker::at("127.0.0.2", port);
    let block = block.replace(&format!("127.0.0.2:{port}"), &format!("127.0.0.2:{}", proxy.port));
    runtime.block_on(async {
        let quoll = Quoll::start(&block).await;
        for (name, .., said) in &rows {
            if said.is_empty() {
                // TLS 1.3 hears of it with the first bytes after the handshake.
                wait_for_line(&format!("{name} closed its connection"), "Client local.");
            } else {
                wait_for_line(&format!("Error creating bridge: {name}:"), said);
            }
        }
        // And again.
        mosquitto.wait_for("peer did not return a certificate");
        quoll.stop().await;
    });
}

/// Before anything starts: files that are not there, not what they should be, or do not fit.
#[test]
fn files_that_cannot_be_used_are_refused_at_the_start() {
    let pki = pki();
    let path = |name: &str| pki.path(name);
    let (ca, nowhere) = (path("ca.crt"), path("nowhere"));
    let rows = [
        (format!("bridge_cafile {nowhere}\n"), "cannot read"),
        (format!("bridge_cafile {}\n", path("lamp.key")), "no certificate in it"),
        (
            format!(
                "bridge_cafile {ca}\nbridge_certfile {}\nbridge_keyfile {}\n",
                path("lamp.crt"),
                path("plug.key")
            ),
            "does not go with",
        ),
        (
            format!("bridge_cafile {ca}\nbridge_certfile {}\nbridge_keyfile {ca}\n", path("lamp.crt")),
            "no private key in it",
        ),
    ];
    for (lines, said) in rows {
        let file = configuration(&format!("connection a\naddress 127.0.0.1\n{lines}topic a\n"));
        let read = read(&file, &Disk, &Surroundings::default()).unwrap();
        let error = tls::client_config(read.bridges[0].tls.as_ref().unwrap(), &Disk).unwrap_err();
        assert!(error.to_string().contains(said), "{lines}: {error}");
    }
}
