//! The verbs of `quoll ca` and the ready files of clients, from the command line: adopted folders, two processes at once,
//! the audit trail, and real consumers of what is written.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use support::{Home, complaint, shared, tool};

/// A home around a copy of a fixture tree, whose passphrase lies in the usual place.
fn adopted(tree: &str) -> Home {
    let home = Home::new();
    copy(&shared(&format!("fixtures/{tree}")), &home.path("pki"));
    passphrase(&home.path("ca-passphrase"), "test");
    home
}

fn passphrase(path: &Path, text: &str) {
    fs::write(path, format!("{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
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

/// A revocation list of today: the tree's own is over one day. No other trace is left.
fn fresh_list(home: &Home) {
    home.ok(&["ca", "crl"]);
    fs::remove_file(home.path("fleet.db")).unwrap();
}

/// The rows of the audit trail, as `verb subject`.
fn audited(home: &Home) -> Vec<String> {
    let registry = quoll_fleet::registry::Registry::open(&home.path("fleet.db")).unwrap();
    registry.verify_audit().unwrap();
    let rows = registry.audit_tail(100).unwrap();
    rows.into_iter().map(|row| format!("{} {}", row.verb, row.subject)).collect()
}

#[test]
fn a_check_names_each_problem_with_its_next_step_and_needs_no_passphrase() {
    let home = adopted("easyrsa-pki");
    fresh_list(&home);
    fs::remove_file(home.path("ca-passphrase")).unwrap();
    let table = home.ok(&["ca", "check"]);
    for expected in
        ["tasmota_kitchen", "revoked (keyCompromise)", "CVE-2024-13454", "next: quoll ca reencrypt"]
    {
        assert!(table.contains(expected), "{expected}: {table}");
    }
    let rows = home.json(&["ca", "check"]);
    let of = |name: &str| rows.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap();
    assert_eq!(of("tasmota_kitchen")["fit"], json!("all"));
    assert_eq!(of("tasmota_kitchen")["key"], json!("3DES-CBC, PBKDF2-SHA256, 2048 rounds"));
    assert_eq!(of("Easy-RSA CA")["problems"].as_array().unwrap().len(), 1);
    let csv = home.ok(&["ca", "check", "--output", "csv"]);
    assert!(csv.starts_with("name,serial,state,expires,key,profile,fit,chain,file,problems\n"), "{csv}");
    assert!(home.fails(3, &["ca", "check", "--strict"]).contains("1 problems"));
    assert!(!home.path("fleet.db").exists(), "looking leaves no trace");
}

#[test]
fn the_ca_key_is_encrypted_anew_once_the_passphrase_is_right() {
    let home = adopted("easyrsa-pki");
    let before = fs::read(home.path("pki/private/ca.key")).unwrap();
    passphrase(&home.path("wrong"), "wrong");
    let wrong = home.path("wrong").display().to_string();
    home.fails(5, &["--passphrase-file", &wrong, "ca", "reencrypt"]);
    assert!(fs::read(home.path("pki/private/ca.key")).unwrap() == before);
    assert!(!home.path("fleet.db").exists(), "a wrong passphrase is no act");
    passphrase(&home.path("new"), "a $ecret, wörd");
    let new = home.path("new").display().to_string();
    let done = home.json(&["ca", "reencrypt", "--new-passphrase-file", &new]);
    assert_eq!(done["now"], json!("AES-256-CBC, PBKDF2-SHA256, 600000 rounds"));
    home.fails(5, &["ca", "crl"]);
    home.ok(&["--passphrase-file", &new, "ca", "crl"]);
    let key = home.path("pki/private/ca.key").display().to_string();
    let opened = tool("openssl", &["pkey", "-in", &key, "-passin", "pass:a $ecret, wörd", "-noout"]);
    assert!(opened.status.success(), "{}", complaint(&opened));
    assert_eq!(
        audited(&home),
        [
            "ca.reencrypt.begun Easy-RSA CA",
            "ca.reencrypt.done Easy-RSA CA",
            "ca.crl.begun crl.pem",
            "ca.crl.done crl.pem"
        ]
    );
}

#[test]
fn on_the_tree_of_3_2_a_device_and_the_server_are_renewed_under_their_keys() {
    let home = adopted("easyrsa-pki-3.2");
    let renewed = home.json(&["ca", "renew", "tasmota_renewed"]);
    assert_eq!(renewed["previous"], json!("3A23CC52CF2BB4342F1FAB706F0BFC8F"));
    home.ok(&["ca", "renew", "mqtt.myorg.com", "--dns", "mqtt.lan", "--ip", "192.168.1.10"]);
    for file in ["tasmota_renewed", "mqtt.myorg.com"] {
        let (ca, file) = (home.path("pki/ca.crt"), home.path(&format!("pki/issued/{file}.crt")));
        let at = time::OffsetDateTime::now_utc().unix_timestamp().to_string();
        let words = ["verify", "-attime", &at, "-CAfile", ca.to_str().unwrap(), file.to_str().unwrap()];
        let verified = tool("openssl", &words);
        assert!(verified.status.success(), "{}", complaint(&verified));
    }
    let extended = home.json(&["ca", "renew"]);
    assert_eq!(extended["same_serial"], json!(true));
    assert!(home.fails(3, &["ca", "renew", "--days", "30"]).contains("already"));
    home.fails(3, &["ca", "renew", "nobody"]);
}

#[test]
fn a_held_certificate_is_let_in_again_and_a_name_or_a_serial_number_will_do() {
    let home = adopted("easyrsa-pki");
    home.fails(9, &["ca", "revoke", "nobody", "--yes"]);
    home.fails(10, &["ca", "revoke", "tasmota_garage"]);
    let held = home.json(&["ca", "revoke", "tasmota_garage", "--reason", "certificateHold"]);
    assert_eq!((held["reason"].clone(), held["crl"].clone()), (json!("certificateHold"), json!("written")));
    let serial = held["serial"].as_str().unwrap().to_owned();
    assert!(home.ok(&["ca", "check"]).contains("on hold"));
    home.ok(&["ca", "unhold", &serial]);
    assert_eq!(home.json(&["ca", "unhold", "tasmota_garage"])["already"], json!(true));
    home.ok(&["ca", "revoke", &serial.to_lowercase(), "--reason", "keyCompromise", "--yes"]);
    assert!(home.fails(3, &["ca", "unhold", &serial]).contains("revoked for good"));
}

#[test]
fn what_ends_soon_is_told_to_people_scripts_calendars_and_monitors() {
    let home = adopted("easyrsa-pki");
    fresh_list(&home);
    // Of all dates only the revocation list's is near.
    let rows = home.json(&["ca", "expiring", "--days", "400"]);
    let kinds: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["kind"].clone()).collect();
    assert_eq!(kinds, [json!("crl")]);
    assert_eq!(home.ok(&["ca", "expiring", "--days", "1"]), "nothing ends in that time\n");
    let calendar = home.ok(&["ca", "expiring", "--output", "ics"]);
    assert_eq!(calendar.matches("BEGIN:VEVENT\r\n").count(), 5, "CA, list, server, two devices");
    let metrics = home.ok(&["ca", "expiring", "--output", "prometheus"]);
    assert_eq!(metrics.lines().filter(|line| line.starts_with("quoll_expiry_seconds{")).count(), 5);
    assert!(metrics.contains("kind=\"server\",name=\"mqtt.myorg.com\""), "{metrics}");
    assert!(home.fails(2, &["ca", "show", "--output", "ics"]).contains("ca expiring"));
}

#[test]
fn certificates_by_profile_follow_vars_and_are_refused_where_a_device_could_not() {
    let home = adopted("easyrsa-pki");
    fs::copy(shared("fixtures/easyrsa-pki/vars.used"), home.path("pki/vars")).unwrap();
    let issued = home.json(&["ca", "issue", "grafana", "--profile", "client"]);
    assert_eq!(issued["key_kind"], json!("EC P-256"));
    let subject = |name: &str| {
        let file = home.path(&format!("pki/issued/{name}.crt")).display().to_string();
        let shown = tool("openssl", &["x509", "-in", &file, "-noout", "-subject"]);
        String::from_utf8(shown.stdout).unwrap()
    };
    assert!(subject("grafana").contains("O = myorg, OU = MQTT, CN = grafana"), "{}", subject("grafana"));
    home.ok(&["ca", "issue", "small", "--profile", "tasmota", "--subject", "cn-only"]);
    assert_eq!(subject("small").trim(), "subject=CN = small");
    home.ok(&[
        "ca",
        "issue",
        "other",
        "--profile",
        "client",
        "--organisation",
        "Küche & Söhne",
        "--key",
        "ed25519",
    ]);
    assert!(subject("other").contains("O = K\\C3\\BCche"), "{}", subject("other"));
    for (words, expected) in [
        (&["--profile", "server", "--key", "ec-p256"][..], "pinned fingerprint"),
        (&["--profile", "server", "--key", "rsa-4096", "--devices", "esp8266"], "RSA-4096"),
        (&["--profile", "tasmota", "--key", "rsa-2048"], "EC P-256"),
        (&["--profile", "tasmota", "--dns", "x.lan"], "no alternative names"),
        (&["--profile", "server", "--days", "0"], "1 to 36525 days"),
    ] {
        let mut all = vec!["ca", "issue", "refused.lan"];
        all.extend(words);
        let told = home.fails(3, &all);
        assert!(told.contains(expected), "{words:?}: {told}");
        assert!(!home.path("pki/issued/refused.lan.crt").exists());
    }
    home.ok(&["ca", "issue", "web.lan", "--profile", "server", "--key", "ec-p384", "--devices", "none"]);
    let long = "a".repeat(64);
    let told = home.fails(3, &["ca", "issue", &long, "--profile", "tasmota", "--city", &"b".repeat(100)]);
    assert!(told.contains("891 at most"), "{told}");

    fs::create_dir(home.path("pki/profiles")).unwrap();
    fs::write(home.path("pki/profiles/gate.toml"), "about = 'A gate'\ndays = 90\n").unwrap();
    let profiles = home.json(&["ca", "profiles"]);
    assert_eq!(profiles.as_array().unwrap().last().unwrap()["name"], json!("gate"));
    home.ok(&["ca", "issue", "gate1", "--profile", "gate"]);
    home.fails(9, &["ca", "issue", "gate2", "--profile", "nothing"]);
    fs::write(home.path("pki/profiles/bad.toml"), "about = 'x'\nmood = 'good'\n").unwrap();
    let told = home.fails(3, &["ca", "issue", "x1", "--profile", "bad"]);
    assert!(told.contains("bad.toml") && told.contains("line 2"), "{told}");
}

#[test]
fn a_rekeyed_server_says_both_fingerprints_and_asks_first() {
    let home = Home::new();
    home.init();
    let before = home.json(&["server", "show"]);
    home.fails(10, &["server", "rekey"]);
    assert_eq!(home.json(&["server", "show"])["serial"], before["serial"]);
    assert!(home.fails(3, &["server", "rekey", "--yes", "--key", "ec-p256"]).contains("fingerprint"));
    let listen = format!("127.0.0.1:{}", home.port);
    let done = home.json(&["server", "rekey", "--yes", "--listen", &listen]);
    assert_eq!(done["old_fingerprint"], before["mqtt_fingerprint"]);
    assert_ne!(done["mqtt_fingerprint"], before["mqtt_fingerprint"]);
    assert_eq!(home.json(&["server", "show"])["mqtt_fingerprint"], done["mqtt_fingerprint"]);
    let up = home.up_and_listening(&[]);
    assert_eq!(up.stop(), 0, "it starts with the new pair");
}

#[test]
fn many_processes_at_once_take_turns() {
    let home = adopted("easyrsa-pki");
    let names: Vec<String> = (0..6).map(|number| format!("client{number}")).collect();
    let mut running = Vec::new();
    for name in &names {
        let mut command = home.command(&["ca", "issue", name, "--profile", "client", "--store", "plain"]);
        running.push(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    }
    // Somebody revokes and lists in between.
    home.ok(&["ca", "revoke", "tasmota_garage", "--yes"]);
    for child in running {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", complaint(&output));
    }
    home.ok(&["ca", "crl"]);
    let rows = home.json(&["ca", "check"]);
    let rows = rows.as_array().unwrap();
    for name in &names {
        let row = rows.iter().find(|row| row["name"] == name.as_str()).unwrap();
        assert_eq!(
            (row["state"].clone(), row["chain"].clone(), row["problems"].clone()),
            (json!("valid"), json!("ok"), json!([]))
        );
    }
    assert_eq!(rows.len(), 1 + 4 + names.len());
    // Two that want the same name: one gets it.
    let twins: Vec<_> = (0..2)
        .map(|_| {
            let mut command =
                home.command(&["ca", "issue", "twin", "--profile", "client", "--store", "plain"]);
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let codes: Vec<_> =
        twins.into_iter().map(|twin| twin.wait_with_output().unwrap().status.code()).collect();
    assert!(codes.contains(&Some(0)) && codes.contains(&Some(3)), "{codes:?}");
}

#[test]
fn where_the_audit_trail_cannot_be_written_the_ca_does_nothing() {
    let home = adopted("easyrsa-pki");
    fs::create_dir(home.path("fleet.db")).unwrap();
    let index = fs::read(home.path("pki/index.txt")).unwrap();
    let ca = fs::read(home.path("pki/private/ca.key")).unwrap();
    for words in [
        &["ca", "issue", "x", "--profile", "client"][..],
        &["ca", "renew", "tasmota_kitchen"],
        &["ca", "renew"],
        &["ca", "revoke", "tasmota_kitchen", "--yes"],
        &["ca", "reencrypt"],
        &["ca", "crl"],
        &["client", "add", "alice"],
    ] {
        let output = home.run(words);
        assert!(!output.status.success(), "{words:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("fleet.db"), "{words:?}: {said}");
        assert!(fs::read(home.path("pki/index.txt")).unwrap() == index, "{words:?}");
        assert!(fs::read(home.path("pki/private/ca.key")).unwrap() == ca, "{words:?}");
    }
    home.ok(&["ca", "check"]);
}

#[test]
fn ready_files_are_read_by_their_programs() {
    let home = Home::new();
    home.init();
    passphrase(&home.path("p12"), "für's $phone");
    let p12 = home.path("p12").display().to_string();
    home.fails(5, &["client", "add", "phone", "--for", "android"]);
    let added = home.json(&[
        "client",
        "add",
        "phone",
        "--for",
        "mosquitto,home-assistant,node-red",
        "--for",
        "android",
        "--for",
        "ios",
        "--export-passphrase-file",
        &p12,
    ]);
    assert_eq!(added["files"].as_array().unwrap().len(), 3 + 1 + 1 + 2 + 2);
    let folder = home.path("clients/phone");
    for (file, legacy) in [("phone-android.p12", &[][..]), ("phone-ios.p12", &["-legacy"])] {
        let path = folder.join(file).display().to_string();
        let mut words = vec!["pkcs12", "-in", &path, "-passin", "pass:für's $phone", "-nodes"];
        words.extend(legacy);
        let read = tool("openssl", &words);
        let text = String::from_utf8_lossy(&read.stdout);
        assert!(read.status.success() && text.contains("PRIVATE KEY"), "{}", complaint(&read));
        assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 2);
        assert_eq!(fs::metadata(folder.join(file)).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let flow: Value = serde_json::from_slice(&fs::read(folder.join("node-red.json")).unwrap()).unwrap();
    let tls = flow.as_array().unwrap().iter().find(|node| node["type"] == "tls-config").unwrap();
    for file in ["ca", "cert", "key"] {
        assert!(Path::new(tls[file].as_str().unwrap()).is_file(), "{tls}");
    }
    assert!(fs::read_to_string(folder.join("home-assistant.txt")).unwrap().contains("phone.crt"));

    let up = home.up_and_listening(&[]);
    let said = std::process::Command::new("mosquitto_pub")
        .env("XDG_CONFIG_HOME", folder.join("mosquitto"))
        .args(["-t", "test/ready", "-m", "hello", "-r", "-q", "1"])
        .output()
        .expect("mosquitto_pub is needed: scripts/setup installs it");
    assert!(said.status.success(), "{}", complaint(&said));
    let heard = std::process::Command::new("mosquitto_sub")
        .env("XDG_CONFIG_HOME", folder.join("mosquitto"))
        .args(["-t", "test/ready", "-C", "1", "-W", "30"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&heard.stdout).trim(), "hello", "{}", complaint(&heard));
    assert_eq!(up.stop(), 0);

    let out = home.path("out.pem").display().to_string();
    home.ok(&["ca", "export", "phone", "--form", "pem", "--out", &out]);
    let pem = fs::read_to_string(&out).unwrap();
    assert!(pem.contains("BEGIN PRIVATE KEY") && pem.matches("BEGIN CERTIFICATE").count() == 2);
    home.fails(3, &["ca", "export", "phone", "--form", "pem", "--out", &out]);
}

fn easyrsa(pki: &Path, words: &[&str]) {
    let output = std::process::Command::new("/usr/share/easy-rsa/easyrsa")
        .arg(format!("--pki-dir={}", pki.display()))
        .arg("--batch")
        .args(words)
        .current_dir(pki.parent().unwrap())
        .output()
        .expect("easy-rsa is needed: scripts/setup installs it");
    assert!(output.status.success(), "{words:?}: {}", complaint(&output));
}

#[test]
fn a_new_ca_follows_vars_as_easy_rsa_does() {
    const VARS: &str = "set_var EASYRSA_DN \"org\"\nset_var EASYRSA_REQ_COUNTRY \"UK\"\nset_var EASYRSA_REQ_PROVINCE \"Kent\"\n\
        set_var EASYRSA_REQ_CITY \"Dover\"\nset_var EASYRSA_REQ_ORG \"my org\"\nset_var EASYRSA_REQ_EMAIL \"a@b.example\"\n\
        set_var EASYRSA_REQ_OU \"MQTT\"\nset_var EASYRSA_REQ_CN \"Home CA\"\nset_var EASYRSA_ALGO ec\n\
        set_var EASYRSA_CURVE prime256v1\nset_var EASYRSA_CA_EXPIRE 3000\nset_var EASYRSA_CERT_EXPIRE 400\n\
        set_var EASYRSA_CRL_DAYS 33\n";
    let theirs = tempfile::tempdir().unwrap();
    let their_pki = theirs.path().join("pki");
    easyrsa(&their_pki, &["init-pki"]);
    fs::write(their_pki.join("vars"), VARS).unwrap();
    easyrsa(&their_pki, &["build-ca", "nopass"]);
    // A name in vars is the CA's alone: Easy-RSA refuses it for anything else.
    let rest: String =
        VARS.lines().filter(|line| !line.contains("REQ_CN")).map(|line| format!("{line}\n")).collect();
    fs::write(their_pki.join("vars"), rest).unwrap();
    easyrsa(&their_pki, &["build-client-full", "grafana", "nopass"]);
    easyrsa(&their_pki, &["gen-crl"]);

    let home = Home::new();
    fs::create_dir(home.path("pki")).unwrap();
    fs::write(home.path("pki/vars"), VARS).unwrap();
    let made = home.json(&["ca", "init", "--host", "mqtt.lan", "--no-server"]);
    assert_eq!(made["ca"], json!("Home CA"));
    home.ok(&["ca", "issue", "grafana", "--profile", "client"]);
    home.ok(&["ca", "crl"]);

    let said = |pki: &Path, words: &[&str]| {
        let output = std::process::Command::new("openssl").args(words).current_dir(pki).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", complaint(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let days = |pki: &Path, words: &[&str]| {
        let text = said(pki, words);
        let at = text.trim().split('=').nth(1).unwrap().to_owned();
        let seconds = tool("date", &["-u", "-d", &at, "+%s"]);
        let seconds: i64 = String::from_utf8(seconds.stdout).unwrap().trim().parse().unwrap();
        (seconds - time::OffsetDateTime::now_utc().unix_timestamp() + 43_200) / 86_400
    };
    let (their_pki, our_pki) = (their_pki.as_path(), home.path("pki"));
    for file in ["ca.crt", "issued/grafana.crt"] {
        let subject = ["x509", "-in", file, "-noout", "-subject", "-nameopt", "RFC2253"];
        assert_eq!(said(&our_pki, &subject), said(their_pki, &subject), "{file}");
        let key = |pki: &Path| {
            let text = said(pki, &["x509", "-in", file, "-noout", "-text"]);
            text.lines().find(|line| line.contains("NIST CURVE")).unwrap().trim().to_owned()
        };
        assert_eq!(key(&our_pki), key(their_pki), "{file}");
        let end = ["x509", "-in", file, "-noout", "-enddate"];
        assert_eq!(days(&our_pki, &end), days(their_pki, &end), "{file}");
    }
    let next = ["crl", "-in", "crl.pem", "-noout", "-nextupdate"];
    assert_eq!((days(&our_pki, &next), days(their_pki, &next)), (33, 33));

    // What a device could not check is said, and not followed; the command line goes before it.
    let home = Home::new();
    fs::write(home.path("vars"), "set_var EASYRSA_ALGO rsa\nset_var EASYRSA_KEY_SIZE 4096\n").unwrap();
    let output = home.run(&["ca", "init", "--no-server"]);
    assert!(complaint(&output).contains("which not every device checks"), "{}", complaint(&output));
    assert_eq!(home.json(&["ca", "show"])["key"], json!("RSA-2048"));
}

#[test]
fn the_key_of_an_easy_rsa_2_folder_is_found_by_its_owner() {
    let home = adopted("easyrsa-pki");
    fs::rename(home.path("pki/private/ca.key"), home.path("pki/ca.key")).unwrap();
    let said = home.fails(3, &["ca", "crl"]);
    assert!(said.contains("Easy-RSA 2") && said.contains("mv "), "{said}");
}
