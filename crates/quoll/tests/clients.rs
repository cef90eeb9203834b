//! A bundle from `quoll client add`, used by Debian's mosquitto clients.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use serde_json::json;
use support::{Home, complaint, tool};

/// The arguments that a mosquitto client needs to come in as `name`.
fn as_client(home: &Home, name: &str) -> Vec<String> {
    let folder = home.path("clients").join(name);
    let file = |file: String| folder.join(file).display().to_string();
    ["-h", "127.0.0.1", "-p", &home.port.to_string(), "--cafile", &file("ca.crt".into())]
        .into_iter()
        .map(str::to_owned)
        .chain(["--cert".into(), file(format!("{name}.crt")), "--key".into(), file(format!("{name}.key"))])
        .collect()
}

#[test]
fn a_message_passes_between_two_bundles_in_each_version_and_level() {
    let home = Home::new();
    home.init();
    let up = home.up_and_listening(&[]);
    home.ok(&["client", "add", "alice"]);
    home.ok(&["client", "add", "bob"]);
    for version in ["mqttv311", "mqttv5"] {
        for level in ["0", "1", "2"] {
            let topic = format!("test/{version}/{level}");
            let subscriber = Command::new("mosquitto_sub")
                .args(as_client(&home, "alice"))
                .args(["-V", version, "-q", level, "-t", &topic, "-C", "1", "-W", "30", "-F", "%q %p"])
                .args(["-i", &format!("alice-{version}-{level}")])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("mosquitto_sub is needed: scripts/setup installs it");
            // Retained, so that it does not matter who is first.
            let mut words: Vec<String> = as_client(&home, "bob");
            words.extend(["-V", version, "-q", level, "-t", &topic, "-m", "hello", "-r"].map(str::to_owned));
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let published = tool("mosquitto_pub", &words);
            assert!(published.status.success(), "{topic}: {}", complaint(&published));
            let received = subscriber.wait_with_output().unwrap();
            assert_eq!(
                String::from_utf8_lossy(&received.stdout).trim(),
                format!("{level} hello"),
                "{topic}: {}",
                complaint(&received)
            );
        }
    }
    assert_eq!(up.stop(), 0);
}

#[test]
fn a_bundle_is_its_owners_alone_and_openssl_agrees_with_it() {
    let home = Home::new();
    home.init();
    let added = home.json(&["client", "add", "alice", "--role", "observer"]);
    assert_eq!(added["role"], json!("observer"));
    let folder = home.path("clients/alice");
    let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("alice.key"), 0o600);
    assert_eq!(mode("."), 0o700);
    let text = |name: &str| folder.join(name).display().to_string();
    let verified =
        tool("openssl", &["verify", "-purpose", "sslclient", "-CAfile", &text("ca.crt"), &text("alice.crt")]);
    assert!(verified.status.success(), "{}", complaint(&verified));
    let refused = home.fails(3, &["client", "add", "alice"]);
    assert!(refused.contains("already") && refused.contains("hint:"), "{refused}");
}

#[test]
fn an_observer_hears_everything_and_moves_nothing() {
    let home = Home::new();
    home.init();
    let up = home.up_and_listening(&[]);
    home.ok(&["client", "add", "watcher", "--role", "observer"]);
    home.ok(&["client", "add", "owner"]);
    let publish = |name: &str, text: &str| {
        let mut words = as_client(&home, name);
        words.extend(
            ["-V", "mqttv5", "-q", "1", "-t", "cmnd/lamp/POWER", "-m", text, "-r"].map(str::to_owned),
        );
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        complaint(&tool("mosquitto_pub", &words))
    };
    let said = publish("watcher", "ON");
    assert!(said.contains("Not authorized"), "{said}");
    publish("owner", "OFF");
    let mut words = as_client(&home, "watcher");
    words.extend(["-t", "#", "-C", "1", "-W", "30"].map(str::to_owned));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let heard = tool("mosquitto_sub", &words);
    assert_eq!(String::from_utf8_lossy(&heard.stdout).trim(), "OFF", "{}", complaint(&heard));
    assert_eq!(up.stop(), 0);
}

#[test]
fn a_revoked_client_is_refused() {
    let home = Home::new();
    home.init();
    let up = home.up_and_listening(&[]);
    home.ok(&["client", "add", "alice"]);
    let mut words = as_client(&home, "alice");
    words.extend(["-t", "x", "-m", "y"].map(str::to_owned));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert!(tool("mosquitto_pub", &words).status.success());
    home.ok(&["client", "revoke", "alice", "--yes"]);
    let refused = tool("mosquitto_pub", &words);
    assert!(!refused.status.success(), "{}", complaint(&refused));
    let again =
        home.fails(3, &["client", "add", "alice", "--out", &home.path("other").display().to_string()]);
    assert!(again.contains("revoked"), "{again}");
    assert_eq!(up.stop(), 0);
}

#[test]
fn a_client_of_a_ca_below_another_one_gets_both() {
    let above = Home::new();
    above.ok(&["ca", "init", "--no-server"]);
    above.ok(&["ca", "issue", "Below", "--profile", "subca"]);
    let home = Home::new();
    fs::create_dir_all(home.path("pki/private")).unwrap();
    fs::write(home.path("pki/index.txt"), "").unwrap();
    fs::copy(above.path("ca-passphrase"), home.path("ca-passphrase")).unwrap();
    fs::copy(above.path("pki/private/Below.key"), home.path("pki/private/ca.key")).unwrap();
    let read = |path: &str| fs::read_to_string(above.path(path)).unwrap();
    fs::write(home.path("pki/ca.crt"), read("pki/issued/Below.crt") + &read("pki/ca.crt")).unwrap();
    home.ok(&["client", "add", "alice"]);
    let file = |inside: &str| home.path(&format!("clients/alice/{inside}")).display().to_string();
    let verified = tool(
        "openssl",
        &["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", &file("ca.crt"), &file("alice.crt")],
    );
    assert!(verified.status.success(), "{}", complaint(&verified));
    let out = home.path("chain.crt").display().to_string();
    home.ok(&["ca", "export", "alice", "--form", "crt", "--out", &out]);
    assert_eq!(fs::read_to_string(&out).unwrap().matches("BEGIN CERTIFICATE").count(), 3);
}

#[test]
fn an_ended_certificate_is_not_handed_out_again_but_renewed() {
    let home = Home::new();
    home.init();
    home.ok(&["client", "add", "alice"]);
    let folder = home.path("clients/alice");
    let was = fs::read(folder.join("alice.crt")).unwrap();
    // Files that are lost are written again, while the certificate is good.
    fs::remove_dir_all(&folder).unwrap();
    home.ok(&["client", "add", "alice"]);
    assert_eq!(fs::read(folder.join("alice.crt")).unwrap(), was);

    // As it would be in ten years: renewed for one day, ten days ago.
    let pass = quoll_pki::Passphrase::from_file(&home.path("ca-passphrase")).unwrap();
    let authority = quoll_pki::Pki::open(&home.path("pki")).unwrap().unlock(&pass).unwrap();
    let renewal = quoll_pki::Renewal { days: Some(1), ..quoll_pki::Renewal::default() };
    let then = time::OffsetDateTime::now_utc() - time::Duration::days(10);
    authority.renew(&"alice".parse().unwrap(), &renewal, then).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    let told = home.fails(3, &["client", "add", "alice"]);
    assert!(told.contains("ended on") && told.contains("quoll ca renew alice"), "{told}");
    assert!(!folder.exists(), "nothing is handed out");
    home.ok(&["ca", "renew", "alice"]);
    home.ok(&["client", "add", "alice"]);
    let is = folder.join("alice.crt").display().to_string();
    let nine_years = (9 * 365 * 86_400).to_string();
    let lives = tool("openssl", &["x509", "-in", &is, "-noout", "-checkend", &nine_years]);
    assert!(lives.status.success(), "{}", complaint(&lives));
}
