//! Names that decide by themselves: gone, not there yet, misspelt, or out of place.

use super::super::super::Release;
use super::{Level, Rules};

/// The defines of MQTT over TLS that any version knows or knew.
pub(super) const KNOWN: &[&str] = &[
    "USE_MQTT_TLS",
    "USE_MQTT_TLS_CA_CERT",
    "USE_MQTT_TLS_FORCE_EC_CIPHER",
    "USE_MQTT_TLS_DROP_OLD_FINGERPRINT",
    "USE_MQTT_TLS_ECDSA",
    "USE_MQTT_AWS_IOT",
    "USE_MQTT_AWS_IOT_LIGHT",
    "USE_MQTT_CLIENT_CERT",
    "INCLUDE_LOCAL_CERT",
    "INCLUDE_LOCAL_CA_CERT",
    "OMIT_LETS_ENCRYPT_CERT",
    "OMIT_AWS_CERT",
    "MQTT_TLS_ENABLED",
    "MQTT_TLS_FINGERPRINT",
    "MQTT_TLS_ECDSA",
    "MQTT_FINGERPRINT1",
    "MQTT_FINGERPRINT2",
    "USE_4K_RSA",
];

/// How the names begin that are looked at for spelling; others are not about TLS.
const BEGINNINGS: &[&str] = &[
    "USE_MQTT_TLS",
    "USE_MQTT_CLIENT",
    "USE_MQTT_AWS",
    "MQTT_TLS",
    "MQTT_FINGER",
    "INCLUDE_LOCAL",
    "OMIT_",
    "USE_4K",
];

struct Row {
    name: &'static str,
    /// It holds from this version on, or, with `before`, below it.
    release: Release,
    before: bool,
    level: Level,
    rule: &'static str,
    what: &'static str,
    instead: &'static str,
}

const EVER: Release = Release::new([0; 4]);

const ROWS: &[Row] = &[
    Row {
        name: "USE_MQTT_TLS_CA_CERT",
        release: Release::RUNTIME_MODE,
        before: false,
        level: Level::Warning,
        rule: "obsolete",
        what: "ignored since 10.0.0.4: SetOption132 chooses, and by CA is its default",
        instead: "#undef MQTT_TLS_FINGERPRINT\n#define MQTT_TLS_FINGERPRINT false",
    },
    Row {
        name: "USE_MQTT_TLS_FORCE_EC_CIPHER",
        release: Release::RUNTIME_MODE,
        before: false,
        level: Level::Warning,
        rule: "obsolete",
        what: "it no longer exists: ECDHE is always used",
        instead: "take the line away",
    },
    Row {
        name: "USE_MQTT_TLS_DROP_OLD_FINGERPRINT",
        release: Release::NEW_FINGERPRINT_ONLY,
        before: false,
        level: Level::Warning,
        rule: "obsolete",
        what: "it no longer exists: old fingerprints are no longer accepted",
        instead: "take the line away",
    },
    Row {
        name: "INCLUDE_LOCAL_CA_CERT",
        release: EVER,
        before: false,
        level: Level::Error,
        rule: "unknown",
        what: "a slip in earlier editions of the guide: no version knows it, so one's own CA is not compiled in",
        instead: "#define INCLUDE_LOCAL_CERT",
    },
    Row {
        name: "USE_4K_RSA",
        release: EVER,
        before: false,
        level: Level::Warning,
        rule: "build-flag",
        what: "a define in this file does not reach the TLS library",
        instead: "-DUSE_4K_RSA in build_flags of platformio_override.ini; an ESP32 has it by itself",
    },
    Row {
        name: "MQTT_TLS_FINGERPRINT",
        release: Release::RUNTIME_MODE,
        before: true,
        level: Level::Warning,
        rule: "too-early",
        what: "this version does not know it: by fingerprint is the default",
        instead: "#define USE_MQTT_TLS_CA_CERT for the CA, nothing for the fingerprint",
    },
    Row {
        name: "INCLUDE_LOCAL_CERT",
        release: Release::LOCAL_CERT,
        before: true,
        level: Level::Error,
        rule: "too-early",
        what: "this version does not know it (it came with 11.1): one's own CA is not compiled in",
        instead: "a later version; or the CA's arrays in tasmota_ca.ino by hand",
    },
    Row {
        name: "OMIT_LETS_ENCRYPT_CERT",
        release: Release::LOCAL_CERT,
        before: true,
        level: Level::Warning,
        rule: "too-early",
        what: "this version does not know it (it came with 11.1)",
        instead: "take the line away",
    },
    Row {
        name: "OMIT_AWS_CERT",
        release: Release::LOCAL_CERT,
        before: true,
        level: Level::Warning,
        rule: "too-early",
        what: "this version does not know it (it came with 11.1)",
        instead: "take the line away",
    },
    Row {
        name: "MQTT_TLS_ECDSA",
        release: Release::ECDSA,
        before: true,
        level: Level::Warning,
        rule: "too-early",
        what: "this version does not know it (it came with 15.1.0.1): EC CAs are refused with TLS error 62",
        instead: "a later version, or a CA with an RSA key of 2048 bits",
    },
];

pub(super) fn check(rules: &mut Rules<'_>) {
    let release = rules.target.release;
    for row in ROWS {
        if let Some(it) = rules.reading.get(row.name)
            && (release < row.release) == row.before
        {
            rules.at(it, row.level, row.rule, row.what, row.instead);
        }
    }
    for it in rules.reading.defined.values() {
        let name = it.name.as_str();
        if KNOWN.contains(&name) || !BEGINNINGS.iter().any(|start| name.starts_with(start)) {
            continue;
        }
        if let Some(meant) = KNOWN.iter().find(|known| is_near(name, known)) {
            let what = format!("no version knows it; {meant} is meant?");
            rules.at(it, Level::Warning, "unknown", &what, &format!("#define {meant}"));
        }
    }
}

/// At most two characters apart.
fn is_near(a: &str, b: &str) -> bool {
    const FAR: usize = 3;
    if a.len().abs_diff(b.len()) >= FAR {
        return false;
    }
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (row, x) in a.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, y) in b.iter().enumerate() {
            let change = above[column] + usize::from(x != y);
            line.push(change.min(above[column + 1] + 1).min(line[column] + 1));
        }
        above = line;
    }
    above[b.len()] < FAR
}
