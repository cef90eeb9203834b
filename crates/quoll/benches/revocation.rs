//! How long a revoked device stays connected: from the start of `quoll device revoke NAME` to the end of its live
//! connection, as the device sees it. A hundred devices, one after the other.
//!
//!     cargo bench -p quoll --bench revocation

#![allow(clippy::unwrap_used, reason = "a bench may")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use quoll_mqtt::client::ClientOptions;
use quoll_mqtt::{ProtocolVersion, QoS, TopicFilter};
use quoll_pki::{CertName, Passphrase, Pki};
use quoll_server::client::{Client, ClientError, Target};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use support::Home;

const DEVICES: usize = 100;

fn main() {
    let home = Home::new();
    let count = (DEVICES + 1).to_string();
    let mut up = home.up(&["--virtual", &count]);
    let mut online = std::collections::BTreeSet::new();
    while online.len() <= DEVICES {
        let line = up.wait_for(|line| line.contains("  online  "));
        online.insert(line.split("  ").next().unwrap().to_owned());
    }
    let names: Vec<String> = online.into_iter().collect();
    let (bystander, devices) = names.split_first().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();

    let mut untouched = runtime.block_on(connect(&credentials(&home, bystander), bystander)).unwrap();
    let mut times = Vec::new();
    for name in devices {
        let target = credentials(&home, name);
        let mut client = runtime.block_on(connect(&target, name)).unwrap();
        let begun = Instant::now();
        let mut revoke = home
            .command(&["device", "revoke", name, "--yes", "--output", "json"])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        runtime.block_on(async { while client.next().await.is_ok() {} });
        times.push(begun.elapsed());
        assert!(revoke.wait().unwrap().success(), "{name}");
        assert!(runtime.block_on(connect(&target, name)).is_err(), "{name} came back");
    }
    let quiet = runtime.block_on(async {
        tokio::time::timeout(Duration::from_millis(200), untouched.next()).await.is_err()
    });
    assert!(quiet, "{bystander} noticed");
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    println!(
        "{} revocations: median {:.0} ms, worst {:.0} ms, from the start of the command to the end of the connection",
        times.len(),
        ms(times[times.len() / 2]),
        ms(*times.last().unwrap()),
    );
    assert_eq!(up.stop(), 0);
}

/// What a device shows at the door.
fn credentials(home: &Home, name: &str) -> Target {
    let pki = Pki::open(&home.path("pki")).unwrap();
    let passphrase = Passphrase::from_file(&home.path("ca-passphrase")).unwrap();
    let name = CertName::parse(name).unwrap();
    let key = pki.private_key(&name, &passphrase).unwrap();
    let certificate = pki.certificate(&name).unwrap().unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(pki.ca().der().to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from(certificate.der().to_vec())],
            PrivateKeyDer::from_pem_slice(key.pkcs8_pem().as_bytes()).unwrap(),
        )
        .unwrap();
    Target { host: "127.0.0.1".into(), port: home.port, tls: Some(Arc::new(config)) }
}

/// A connection under a device's own certificate, beside the device's.
async fn connect(target: &Target, name: &str) -> Result<Client, ClientError> {
    let options = ClientOptions::new(ProtocolVersion::V5, format!("beside-{name}"));
    let (mut client, _) = Client::connect(target, options).await?;
    client.subscribe_to(TopicFilter::parse(&format!("cmnd/{name}/#")).unwrap(), QoS::AtMostOnce).await?;
    Ok(client)
}
