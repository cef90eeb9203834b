//! A client on the BearSSL library, set up as Tasmota sets it up, with the key and certificate that Quoll issued.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::process::{Command, Stdio};

use support::bearssl::{device, tls_keys};
use support::{Home, complaint, tool};

#[test]
fn a_device_receives_every_size_by_ca_and_by_fingerprint_by_name_and_by_address() {
    let home = Home::new();
    let mut up = home.up(&["--virtual", "1"]);
    up.wait_for(|line| line.starts_with("kitchen  online"));
    let keys = tls_keys(&home, "pki", "kitchen");
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
    let keys = tls_keys(&home, "pki", "kitchen");
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
