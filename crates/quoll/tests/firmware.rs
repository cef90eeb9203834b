//! `quoll firmware` writes what a Tasmota is compiled from, where it belongs, and nothing else; `lint` reads it.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{Home, complaint, shared, tool};

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A folder that looks like Tasmota's sources.
fn tasmota_sources(at: &Path, version: &str) -> String {
    fs::create_dir_all(at.join("tasmota/include")).unwrap();
    fs::write(at.join("tasmota/my_user_config.h"), "// theirs\n").unwrap();
    let header = format!("const uint32_t TASMOTA_VERSION = {version};\n");
    fs::write(at.join("tasmota/include/tasmota_version.h"), header).unwrap();
    at.display().to_string()
}

fn vector(root: &str) -> String {
    shared(&format!("facts/vectors/root-{root}.pem")).display().to_string()
}

#[test]
fn a_kit_for_this_homes_ca_compiles_and_says_what_devices_need() {
    let home = Home::new();
    home.init();
    let out = home.path("kit");
    let said = home.json(&[
        "firmware",
        "--for",
        "esp8266",
        "--tasmota",
        "15.3",
        "--out",
        &out.display().to_string(),
    ]);
    assert_eq!(said["host"], "127.0.0.1");
    assert_eq!(said["port"], home.port);
    assert_eq!(said["anchors"], serde_json::json!(["Quoll CA, RSA 2048"]));
    assert_eq!(said["compile"], "pio run -e tasmota-quoll");
    let config = text(&out.join("user_config_override.h"));
    for line in [
        "#define USE_MQTT_TLS",
        "#define USE_MQTT_CLIENT_CERT",
        "#define INCLUDE_LOCAL_CERT",
        "#define MQTT_HOST              \"127.0.0.1\"",
        &format!("#define MQTT_PORT              {}", home.port),
    ] {
        assert!(config.lines().any(|it| it.starts_with(line)), "{line}: {config}");
    }
    assert!(text(&out.join("platformio_override.ini")).contains("[env:tasmota-quoll]"));
    // What was compiled in is the key of the CA: `brssl`'s job, checked with OpenSSL.
    let modulus = tool(
        "openssl",
        &["x509", "-in", &home.path("pki/ca.crt").display().to_string(), "-noout", "-modulus"],
    );
    let modulus = String::from_utf8(modulus.stdout).unwrap().trim().trim_start_matches("Modulus=").to_owned();
    let data = text(&out.join("local_ca_data.h"));
    let array = data.split("TA0_RSA_N[] = {").nth(1).unwrap().split('}').next().unwrap();
    let written: String = array.split(',').map(|byte| byte.trim().trim_start_matches("0x")).collect();
    assert_eq!(written, modulus);
    let main = out.join("main.cpp");
    fs::write(
        &main,
        "#include <bearssl.h>\n#define PROGMEM\n#include \"local_ca_data.h\"\nextern const br_x509_trust_anchor Tasmota_TA[];\n\
         const br_x509_trust_anchor PROGMEM Tasmota_TA[] = {\n#include \"local_ca_descriptor.h\"\n};\n",
    )
    .unwrap();
    let made = tool(
        "g++",
        &[
            "-std=gnu++17",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-c",
            "-o",
            "/dev/null",
            &main.display().to_string(),
        ],
    );
    assert!(made.status.success(), "g++ and libbearssl-dev are needed: {}", complaint(&made));

    let file = out.join("user_config_override.h").display().to_string();
    let found = home.json(&["firmware", "lint", &file, "--for", "esp8266", "--strict"]);
    assert_eq!(found, serde_json::json!([]));
    let again = home.json(&["firmware", "--for", "esp8266", "--out", &out.display().to_string()]);
    assert!(
        again["files"].as_array().unwrap().iter().all(|it| it.as_str().unwrap().ends_with("(unchanged)")),
        "{again}"
    );
}

#[test]
fn a_fingerprint_kit_pins_the_servers_key_and_needs_no_ca_compiled_in() {
    let home = Home::new();
    home.init();
    let out = home.path("kit");
    let said = home.json(&[
        "firmware",
        "--for",
        "esp32",
        "--trust",
        "fingerprint",
        "--out",
        &out.display().to_string(),
    ]);
    let server = home.json(&["server", "show"]);
    assert_eq!(said["fingerprints"][0], server["mqtt_fingerprint"]);
    let bytes = server["mqtt_fingerprint"]
        .as_str()
        .unwrap()
        .split(' ')
        .map(|byte| format!("0x{byte}"))
        .collect::<Vec<_>>();
    let config = text(&out.join("user_config_override.h"));
    assert!(config.contains(&format!("#define MQTT_FINGERPRINT1      {}\n", bytes.join(","))), "{config}");
    assert!(config.contains("#define MQTT_TLS_FINGERPRINT   true"));
    assert!(!out.join("local_ca_data.h").exists());
}

#[test]
fn the_compiling_machine_needs_no_ca_of_its_own() {
    let (ours, theirs) = (Home::new(), Home::new());
    ours.init();
    let bundle = ours.path("home.quollanchors").display().to_string();
    let exported = ours.json(&["ca", "export-anchors", &bundle]);
    let out = theirs.path("kit").display().to_string();
    let said = theirs.json(&[
        "firmware",
        "--for",
        "esp32",
        "--ca",
        &bundle,
        "--ca",
        &vector("ec-p256"),
        "--out",
        &out,
    ]);
    assert_eq!(said["phrases"], serde_json::json!([exported["phrase"]]));
    assert_eq!(said["anchors"].as_array().unwrap().len(), 2);
    assert_eq!(said["port"], ours.port, "the bundle's: {said}");
    let descriptor = text(&theirs.path("kit/local_ca_descriptor.h"));
    assert!(descriptor.contains("TA0_RSA_N") && descriptor.contains("TA1_EC_Q"), "{descriptor}");
    assert!(!theirs.path("pki").exists(), "nothing is made");
}

#[test]
fn a_source_folder_keeps_every_byte_that_is_not_ours() {
    let home = Home::new();
    let source = tasmota_sources(&home.path("Tasmota"), "0x0F030003");
    let config = home.path("Tasmota/tasmota/user_config_override.h");
    let before = "#ifndef _USER_CONFIG_OVERRIDE_H_\r\n#define _USER_CONFIG_OVERRIDE_H_\r\n#define STA_SSID1 \"x\"  // mine\r\n\r\n";
    fs::write(&config, format!("{before}#endif\r\n")).unwrap();
    let ini = home.path("Tasmota/platformio_override.ini");
    fs::write(&ini, "[platformio]\ndefault_envs = tasmota\n").unwrap();
    let words = [
        "firmware",
        "--for",
        "esp8266",
        "--source",
        &source,
        "--ca",
        &vector("rsa2048"),
        "--host",
        "192.0.2.7",
    ];
    let said = home.json(&words);
    assert_eq!(said["tasmota"], "15.3.0.3", "the folder says it");
    let once = text(&config);
    assert!(once.starts_with(before) && once.ends_with("#endif\r\n"), "{once}");
    assert!(once.contains("#define INCLUDE_LOCAL_CERT"));
    assert!(text(&ini).starts_with("[platformio]\ndefault_envs = tasmota\n"));
    assert!(text(&home.path("Tasmota/tasmota/include/local_ca_data.h")).contains("TA0_DN"));
    home.ok(&words);
    assert_eq!(text(&config), once, "a second time nothing changes");

    // A line of theirs that contradicts ours is named.
    fs::write(&config, once.replace("// mine\r\n", "// mine\r\n#define USE_4K_RSA\r\n")).unwrap();
    let said = home.json(&words);
    assert!(said["notes"].to_string().contains("line 4: USE_4K_RSA"), "{said}");
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_written() {
    let home = Home::new();
    let out = home.path("kit").display().to_string();
    let source = tasmota_sources(&home.path("Tasmota"), "0x0E050000");
    let (rsa, long, p256, p384) =
        (vector("rsa2048"), vector("rsa4096"), vector("ec-p256"), vector("ec-p384"));
    let server = shared("facts/vectors/server-rsa2048.pem").display().to_string();
    let junk = home.path("junk");
    fs::write(&junk, "no certificate").unwrap();
    let junk = junk.display().to_string();
    let cases: &[(i32, &[&str], &str)] = &[
        (8, &["--for", "esp32", "--ca", &p384], "P-384"),
        (8, &["--for", "esp8266", "--ca", &long], "USE_4K_RSA"),
        (8, &["--for", "esp8266", "--ca", &p256, "--tasmota", "14.6"], "15.1.0.1"),
        (8, &["--for", "esp32", "--ca", &rsa, "--tasmota", "10.1"], "INCLUDE_LOCAL_CERT"),
        (2, &["--for", "esp32", "--ca", &rsa, "--host", "broker.local"], "mDNS"),
        (2, &["--for", "esp32", "--ca", &rsa, "--tasmota", "latest"], "version"),
        (2, &["--for", "esp32", "--trust", "fingerprint", "--fingerprint", "00 11"], "fingerprint"),
        (2, &["--for", "esp32", "--trust", "fingerprint"], "no fingerprint"),
        (2, &["--ca", &rsa], "--for"),
        (3, &["--for", "esp32"], "there is no CA"),
        (3, &["--for", "esp32", "--ca", &server], "not a CA"),
        (3, &["--for", "esp32", "--ca", &junk], "junk"),
        (9, &["--for", "esp32", "--ca", "/nowhere/ca.crt"], "/nowhere/ca.crt"),
    ];
    for (code, words, said) in cases {
        let complaint = home.fails(*code, &[&["firmware", "--out", &out], *words].concat());
        assert!(complaint.contains(said), "{words:?}: {complaint}");
        assert!(!home.path("kit").exists(), "{words:?} wrote something");
    }
    let said = home
        .fails(2, &["firmware", "--for", "esp32", "--ca", &rsa, "--source", &source, "--tasmota", "15.3"]);
    assert!(said.contains("14.5"), "{said}");
    let said = home.fails(
        3,
        &["firmware", "--for", "esp32", "--ca", &rsa, "--source", &home.dir.path().display().to_string()],
    );
    assert!(said.contains("my_user_config.h"), "{said}");
}

#[test]
fn foreign_files_stay_without_force() {
    let home = Home::new();
    let rsa = vector("rsa2048");
    for name in
        ["local_ca_data.h", "local_ca_descriptor.h", "user_config_override.h", "platformio_override.ini"]
    {
        let folder = home.path(&format!("kit-{name}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(name), "// theirs\n").unwrap();
        let out = folder.display().to_string();
        let words = ["firmware", "--for", "esp32", "--ca", &rsa, "--out", &out];
        let said = home.fails(3, &words);
        assert!(said.contains(name) && said.contains("--force"), "{said}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "{name}: something was written");
        assert_eq!(text(&folder.join(name)), "// theirs\n");
        home.ok(&[&words[..], &["--force"]].concat());
        assert!(!text(&folder.join(name)).contains("theirs"), "{name}");
    }
    // In a source folder a header of theirs stays, too, and so does an override that nobody can read.
    let source = tasmota_sources(&home.path("Tasmota"), "0x0F030000");
    let words = ["firmware", "--for", "esp32", "--ca", &rsa, "--source", &source];
    let config = home.path("Tasmota/tasmota/user_config_override.h");
    fs::write(&config, "#ifndef USE_MQTT_TLS\n#define USE_MQTT_TLS\n").unwrap();
    let said = home.fails(3, &words);
    assert!(said.contains("line 1"), "{said}");
    assert!(!home.path("Tasmota/tasmota/include/local_ca_data.h").exists(), "nothing is written");
}

#[test]
fn lint_ends_with_three_where_there_is_an_error_in_every_form_of_output() {
    let home = Home::new();
    let file = home.path("user_config_override.h");
    fs::write(
        &file,
        "#undef USE_MQTT_TLS\n#define USE_MQTT_TLS\n#define USE_MQTT_AWS_IOT\n#define INCLUDE_LOCAL_CERT\n\
         #define MQTT_FINGERPRINT2 \"DA 39 A3 EE 5E 6B 4B 0D 32 55 BF EF 95 60 18 90 AF D8 07 09\"\n",
    )
    .unwrap();
    let path = file.display().to_string();
    for (form, sign) in
        [("table", "LINE"), ("json", "\"column\": 27"), ("csv", "5,27,error,format,MQTT_FINGERPRINT2")]
    {
        let output = home.run(&["firmware", "lint", &path, "--output", form]);
        assert_eq!(output.status.code(), Some(3), "{}", complaint(&output));
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(sign), "{form}: {said}");
        if form == "json" {
            let rows: Vec<Value> = serde_json::from_str(&said).unwrap();
            assert!(rows.iter().any(|row| row["rule"] == "obsolete" && row["line"] == 3), "{said}");
        }
    }
    fs::write(&file, text(&file).lines().take(4).collect::<Vec<_>>().join("\n")).unwrap();
    home.ok(&["firmware", "lint", &path]);
    home.ok(&["firmware", "--for", "esp8266", "--output", "csv", "lint", &path]);
    home.fails(3, &["firmware", "lint", &path, "--strict"]);
    home.fails(9, &["firmware", "lint", &home.path("nowhere").display().to_string()]);
    home.fails(2, &["firmware", "lint"]);
}
