//! `quoll import`: what somebody has built by hand with Easy-RSA and Mosquitto, taken over whole, or not at all.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::{Home, Up, complaint, free_port, shared, tool};

/// An Easy-RSA folder and an `/etc/mosquitto`, and a home that is not there yet.
struct Site {
    dir: tempfile::TempDir,
    port: u16,
    plain: u16,
}

impl Site {
    fn new(tree: &str, acl: bool) -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap(), port: free_port(), plain: free_port() };
        copy(&shared(&format!("fixtures/{tree}")), &site.path("easy-rsa/pki"));
        fs::create_dir_all(site.path("mosquitto/conf.d")).unwrap();
        // As the guide has it: a decrypted key beside Mosquitto.
        let key = site.path("easy-rsa/pki/private/mqtt.myorg.com.key").display().to_string();
        let plain = site.path("mosquitto/server.key").display().to_string();
        let done = tool("openssl", &["pkey", "-in", &key, "-passin", "pass:test", "-out", &plain]);
        assert!(done.status.success(), "{}", complaint(&done));
        let pki = site.path("easy-rsa/pki");
        let dir = site.path("mosquitto");
        let acl_line = match acl {
            true => format!("acl_file {}/acl\n", dir.display()),
            false => String::new(),
        };
        fs::write(dir.join("acl"), "user alice\ntopic read tele/#\ntopic write cmnd/alice/#\n").unwrap();
        fs::write(
            dir.join("mosquitto.conf"),
            format!("persistence true\npersistence_location {0}/\ninclude_dir {0}/conf.d\n", dir.display()),
        )
        .unwrap();
        fs::write(
            dir.join("conf.d/10-tls.conf"),
            format!(
                "listener {port} 127.0.0.1\ncafile {pki}/ca.crt\ncertfile {pki}/issued/mqtt.myorg.com.crt\nkeyfile {plain}\n\
                 require_certificate true\nuse_identity_as_username true\n{acl_line}",
                port = site.port,
                pki = pki.display(),
            ),
        )
        .unwrap();
        fs::write(
            dir.join("conf.d/20-plain.conf"),
            format!(
                "listener {} 127.0.0.1\nconnection upstairs\naddress 127.0.0.1:1\ntopic # both\n",
                site.plain
            ),
        )
        .unwrap();
        site
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join(inside)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quoll"));
        command.arg("--home").arg(self.path("home")).args(words).stdin(std::process::Stdio::null());
        for name in ["QUOLL_HOME", "QUOLL_PASSPHRASE_FILE", "QUOLL_LOG", "STATE_DIRECTORY"] {
            command.env_remove(name);
        }
        command
    }

    fn import(&self, more: &[&str]) -> std::process::Output {
        let (easyrsa, mosquitto) = (self.path("easy-rsa"), self.path("mosquitto"));
        let mut command = self.command(&["import"]);
        command.arg("--easyrsa").arg(easyrsa).arg("--mosquitto").arg(mosquitto).args(more).output().unwrap()
    }

    fn json(&self, more: &[&str]) -> Vec<Value> {
        let mut words = more.to_vec();
        words.extend(["--output", "json"]);
        let output = self.import(&words);
        assert!(output.status.success(), "{}", complaint(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap().as_array().unwrap().clone()
    }

    fn ok(&self, words: &[&str]) -> String {
        let output = self.command(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", complaint(&output));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => fs::write(&target, fs::read(entry.path()).unwrap()).unwrap(),
        }
    }
}

/// Everything below a folder: each file with its content, mode and date, each folder with its mode.
fn digest(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32, Option<std::time::SystemTime>)> {
    let mut out = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        if meta.is_dir() {
            out.extend(digest(&path));
            out.insert(path, (Vec::new(), meta.permissions().mode(), None));
        } else {
            out.insert(
                path.clone(),
                (fs::read(&path).unwrap(), meta.permissions().mode(), meta.modified().ok()),
            );
        }
    }
    out
}

fn fate<'a>(rows: &'a [Value], what: &str) -> &'a Value {
    rows.iter().find(|row| row["what"] == what).unwrap_or_else(|| panic!("{what}: {rows:#?}"))
}

#[test]
fn a_dry_run_says_all_and_changes_nothing_whatever() {
    for (tree, devices) in [("easyrsa-pki", 2), ("easyrsa-pki-3.2", 3)] {
        let site = Site::new(tree, false);
        let before = digest(site.dir.path());
        let rows = site.json(&["--dry-run"]);
        assert!(digest(site.dir.path()) == before, "{tree}");
        assert_eq!(fate(&rows, &format!("listener {} (TLS)", site.port))["taken"], json!(true));
        let plain = fate(&rows, &format!("listener {} (plain)", site.plain));
        assert_eq!(plain["taken"], json!(false), "nobody was let in without a password: {plain}");
        assert!(fate(&rows, "bridge upstairs")["becomes"].as_str().unwrap().contains("quoll broker -c"));
        assert!(fate(&rows, "persistence")["from"].as_str().unwrap().ends_with("mosquitto.db"));
        let found =
            rows.iter().filter(|row| row["becomes"].as_str().unwrap().starts_with("a device")).count();
        assert!(found >= devices, "{tree}: {rows:#?}");
        let table = site.import(&["--dry-run"]);
        let table = String::from_utf8(table.stdout).unwrap();
        assert!(table.contains("Nothing was changed") && !site.path("home").exists(), "{table}");
    }
}

#[test]
fn an_installation_is_taken_over_and_its_devices_come_in_as_before() {
    let site = Site::new("easyrsa-pki", false);
    let before = digest(&site.path("easy-rsa"));
    let before_mosquitto = digest(&site.path("mosquitto"));
    let said = site.import(&[]);
    assert!(said.status.success(), "{}", complaint(&said));
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("systemctl stop mosquitto") && said.contains("up\n"), "{said}");
    assert!(digest(&site.path("easy-rsa")) == before && digest(&site.path("mosquitto")) == before_mosquitto);
    let mode = |inside: &str| site.path(inside).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("home"), 0o700);
    assert_eq!(mode("home/pki/private/mqtt.myorg.com.key"), 0o600);
    let shown: Value = serde_json::from_str(&site.ok(&["server", "show", "--output", "json"])).unwrap();
    assert_eq!(shown["name"], json!("mqtt.myorg.com"));

    // The broker, with a device's own certificate and key.
    let mut up = Up::of(site.command(&["up", "--web", "off"]));
    up.wait_for(|line| line.starts_with(&format!("Listening on 127.0.0.1:{}", site.port)));
    let pki = site.path("easy-rsa/pki");
    let key = site.path("device.key").display().to_string();
    let locked = pki.join("private/tasmota_garage.key").display().to_string();
    let opened = tool("openssl", &["pkey", "-in", &locked, "-passin", "pass:test", "-out", &key]);
    assert!(opened.status.success(), "{}", complaint(&opened));
    let (ca, certificate) = (pki.join("ca.crt"), pki.join("issued/tasmota_garage.crt"));
    let port = site.port.to_string();
    let sent = tool(
        "mosquitto_pub",
        &[
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "--insecure",
            "--cafile",
            ca.to_str().unwrap(),
            "--cert",
            certificate.to_str().unwrap(),
            "--key",
            &key,
            "-t",
            "tele/garage/LWT",
            "-m",
            "Online",
            "-q",
            "1",
        ],
    );
    assert!(sent.status.success(), "{}", complaint(&sent));
    assert!(site.ok(&["device", "pending"]).contains("tasmota_garage"));
    assert_eq!(up.stop(), 0);
    let again = site.import(&[]);
    assert_eq!(again.status.code(), Some(3), "{}", complaint(&again));
    assert!(complaint(&again).contains("has files in it already"));
    site.ok(&["audit", "verify"]);
}

#[test]
fn with_an_acl_nobody_gets_more_than_he_had() {
    let site = Site::new("easyrsa-pki", true);
    let pass = site.path("pass").display().to_string();
    fs::write(&pass, "test\n").unwrap();
    fs::set_permissions(&pass, fs::Permissions::from_mode(0o600)).unwrap();
    let pki = site.path("easy-rsa/pki").display().to_string();
    for name in ["alice", "bob"] {
        site.ok(&["--pki", &pki, "--passphrase-file", &pass, "ca", "issue", name, "--profile", "client"]);
    }
    fs::remove_dir_all(site.path("home")).unwrap();
    let rows = site.json(&[]);
    let alice = fate(&rows, "certificate alice")["becomes"].as_str().unwrap().to_owned();
    assert_eq!(alice, "a client: publish to cmnd/alice/#, read tele/#");
    assert!(
        fate(&rows, "certificate bob")["becomes"]
            .as_str()
            .unwrap()
            .contains("publish to nothing, read nothing")
    );
    assert!(fate(&rows, "certificate tasmota_garage")["becomes"].as_str().unwrap().contains("refused until"));
    let config = fs::read_to_string(site.path("home/quoll.toml")).unwrap();
    assert!(config.contains("unlisted_certificates = \"pending\""), "{config}");
    let clients: Value = serde_json::from_str(&site.ok(&["client", "list", "--output", "json"])).unwrap();
    assert_eq!(clients.as_array().unwrap().len(), 2);
    assert_eq!(clients[0]["role"], json!("custom"));
}

#[test]
fn in_place_the_folder_stays_where_it_is_and_bad_input_leaves_nothing() {
    let site = Site::new("easyrsa-pki-3.2", false);
    let before = digest(&site.path("easy-rsa"));
    let rows = site.json(&["--in-place"]);
    assert!(fate(&rows, "pki folder")["becomes"].as_str().unwrap().starts_with("used where it is"));
    assert!(digest(&site.path("easy-rsa")) == before);
    assert!(!site.path("home/pki").exists());
    let shown: Value = serde_json::from_str(&site.ok(&["ca", "show", "--output", "json"])).unwrap();
    assert_eq!(shown["folder"], json!(site.path("easy-rsa/pki").display().to_string()));

    let site = Site::new("easyrsa-pki", false);
    fs::write(site.path("mosquitto/conf.d/30-bad.conf"), "listener 1\nno_such_option 7\n").unwrap();
    let before = digest(site.dir.path());
    let told = site.import(&[]);
    assert_eq!(told.status.code(), Some(3));
    assert!(complaint(&told).contains("30-bad.conf:2"), "{}", complaint(&told));
    assert!(digest(site.dir.path()) == before);
    let home = Home::new();
    assert!(home.fails(9, &["import", "--easyrsa", "/nonexistent"]).contains("no Easy-RSA folder"));
}

#[test]
fn a_listener_on_all_addresses_stays_one_on_addresses_of_both_kinds() {
    let site = Site::new("easyrsa-pki", false);
    let conf = site.path("mosquitto/conf.d/10-tls.conf");
    let text = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, text.replacen(" 127.0.0.1", "", 1)).unwrap();
    site.json(&[]);
    let mut up = Up::of(site.command(&["up", "--web", "off"]));
    up.wait_for(|line| line.starts_with("Listening on"));
    let port = site.port;
    std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    // Where the machine has the other kind at all.
    if std::net::TcpListener::bind(("::1", 0)).is_ok() {
        std::net::TcpStream::connect(("::1", port)).unwrap();
    }
    assert_eq!(up.stop(), 0);
}

/// Run as it stands, but for the passphrase that a person would type: openssl that reads and writes one file empties it.
#[test]
fn the_command_that_opens_the_servers_key_does_open_it() {
    for in_place in [false, true] {
        let site = Site::new("easyrsa-pki", false);
        // Mosquitto has been moved away, and its copy of the key with it.
        let easyrsa = site.path("easy-rsa");
        let mut words = vec!["import", "--output", "json", "--easyrsa", easyrsa.to_str().unwrap()];
        words.extend(in_place.then_some("--in-place"));
        let rows: Vec<Value> = serde_json::from_str(&site.ok(&words)).unwrap();
        let told = fate(&rows, "server key")["becomes"].as_str().unwrap().to_owned();
        let command = told.split_once("`quoll up`: ").unwrap().1;
        assert!(command.starts_with("openssl pkey"), "{told}");
        let command = command.replace("openssl pkey", "openssl pkey -passin pass:test");
        // From anywhere.
        let mut shell = Command::new("sh");
        let done = shell.args(["-c", &command]).current_dir("/").output().unwrap();
        assert!(done.status.success(), "{command}: {}", complaint(&done));
        let folder = if in_place { site.path("easy-rsa/pki") } else { site.path("home/pki") };
        let key = folder.join("private/mqtt.myorg.com.key");
        let opened = quoll_pki::PrivateKey::from_plain_file(&key).unwrap();
        let certificate = fs::read(folder.join("issued/mqtt.myorg.com.crt")).unwrap();
        let certificate = quoll_pki::Certificate::from_pem(&certificate).unwrap();
        assert_eq!(opened.public_key_der(), certificate.public_key_der());
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn without_the_ca_key_everything_but_signing_is_taken_over() {
    let site = Site::new("easyrsa-pki", false);
    fs::remove_file(site.path("easy-rsa/pki/private/ca.key")).unwrap();
    let rows = site.json(&[]);
    assert_eq!(fate(&rows, "CA key")["taken"], json!(false));
    let up = {
        let mut up = Up::of(site.command(&["up", "--web", "off"]));
        up.wait_for(|line| line.starts_with("Listening on"));
        up
    };
    assert_eq!(up.stop(), 0);
}
