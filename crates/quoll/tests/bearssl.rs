//! A client on the BearSSL library, set up as Tasmota sets it up, with the key and certificate that Quoll issued.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use quoll_pki::{CertName, Passphrase, Pki};
use quoll_tasmota::{Road, TlsKey1, TlsKey2};
use support::{Home, complaint, shared, tool};

/// Builds the device once.
fn device() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bearssl-device");
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["Makefile", "bearssl-device.c"] {
            std::fs::copy(shared("tools/bearssl-device").join(name), folder.join(name)).unwrap();
        }
        let made = tool("make", &["-C", &folder.display().to_string()]);
        assert!(made.status.success(), "libbearssl-dev is needed (scripts/setup): {}", complaint(&made));
        folder.join("bearssl-device")
    })
}

/// The two console lines of a virtual device's credentials, as a person would paste them.
fn tls_keys(home: &Home, name: &str) -> PathBuf {
    let pki = Pki::open(&home.path("pki")).unwrap();
    let passphrase = Passphrase::from_file(&home.path("ca-passphrase")).unwrap();
    let name = CertName::parse(name).unwrap();
    let key = pki.private_key(&name, &passphrase).unwrap();
    let certificate = pki.certificate(&name).unwrap().unwrap();
    let scalar = key.ec_scalar().unwrap();
    let key = TlsKey1::new(&scalar).unwrap();
    let certificate = TlsKey2::new(certificate.der(), Road::Http).unwrap();
    let path = home.path(&format!("{name}.tlskeys"));
    std::fs::write(&path, format!("TLSKey1 {}\nTLSKey2 {}\n", key.base64().as_str(), certificate.base64()))
        .unwrap();
    path
}

#[test]
fn a_device_receives_every_size_by_ca_and_by_fingerprint_by_name_and_by_address() {
    let home = Home::new();
    let mut up = home.up(&["--virtual", "1"]);
    up.wait_for(|line| line.starts_with("kitchen  online"));
    let keys = tls_keys(&home, "kitchen");
    let server = home.json(&["server", "show"]);
    let fingerprint = server["mqtt_fingerprint"].as_str().unwrap().to_owned();
    home.ok(&["client", "add", "owner"]);
    let bundle = home.path("clients/owner");
    let ca = home.path("pki/ca.crt").display().to_string();

    for profile in ["esp8266", "esp32"] {
        for host in ["127.0.0.1", "localhost"] {
            for pinned in [false, true] {
                let label = format!("{profile} at {host}, {}", if pinned { "fingerprint" } else { "CA" });
                let topic = format!("cmnd/kitchen/{profile}-{host}-{pinned}");
                let sizes = [100, 1_000, 4_096, 20_000];
                for size in sizes {
                    let mut words =
                        vec!["-h".to_owned(), "127.0.0.1".into(), "-p".into(), home.port.to_string()];
                    let file = |name: &str| bundle.join(name).display().to_string();
                    words.extend(["--cafile".into(), file("ca.crt"), "--cert".into(), file("owner.crt")]);
                    words.extend(["--key".into(), file("owner.key"), "-t".into(), format!("{topic}/{size}")]);
                    words.extend(["-r".into(), "-q".into(), "1".into(), "-m".into(), "x".repeat(size)]);
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    let sent = tool("mosquitto_pub", &words);
                    assert!(sent.status.success(), "{label}: {}", complaint(&sent));
                }
                let trust = if pinned { ["--fingerprint", &fingerprint] } else { ["--ca", &ca] };
                let output = Command::new(device())
                    .args(["--profile", profile, "--host", "127.0.0.1", "--port", &home.port.to_string()])
                    .args(["--name", host, "--tlskeys"])
                    .arg(&keys)
                    .args(trust)
                    .args(["--topic", &format!("{topic}/#"), "--count", "4", "--timeout", "30"])
                    .args(["--client-id", &format!("bearssl-{profile}")])
                    .stdin(Stdio::null())
                    .output()
                    .unwrap();
                assert!(output.status.success(), "{label}: {}", complaint(&output));
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                for size in sizes {
                    assert!(said.contains(&format!("payload_bytes={size}")), "{label}: {said}");
                }
                let fragment =
                    said.split("max_app_fragment_in=").nth(1).unwrap().split_whitespace().next().unwrap();
                let limit = if profile == "esp8266" { 1024 } else { 2048 };
                assert!(fragment.parse::<u32>().unwrap() <= limit, "{label}: a record of {fragment} bytes");
            }
        }
    }
    assert_eq!(up.stop(), 0);
}

#[test]
fn a_revoked_devices_keys_open_nothing() {
    let home = Home::new();
    let mut up = home.up(&["--virtual", "1"]);
    up.wait_for(|line| line.starts_with("kitchen  online"));
    let keys = tls_keys(&home, "kitchen");
    home.ok(&["device", "revoke", "kitchen", "--yes"]);
    let output = Command::new(device())
        .args([
            "--host",
            "127.0.0.1",
            "--port",
            &home.port.to_string(),
            "--name",
            "127.0.0.1",
            "--timeout",
            "20",
        ])
        .arg("--ca")
        .arg(home.path("pki/ca.crt"))
        .arg("--tlskeys")
        .arg(keys)
        .args(["--topic", "cmnd/kitchen/#"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", complaint(&output));
    assert!(complaint(&output).to_lowercase().contains("revoked"), "{}", complaint(&output));
    assert_eq!(up.stop(), 0);
}
