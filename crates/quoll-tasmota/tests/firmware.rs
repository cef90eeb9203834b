//! The firmware kit: what is compiled in equals what `brssl ta` gives, compiles, and is refused where no device could use it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::{fs, path::Path, process::Command};

use common::{bytes, der, shared_text, vectors};
use quoll_tasmota::{
    Fingerprint,
    firmware::{
        AnchorError, AnchorKey, Chip, Comment, Kit, KitError, Release, Sources, Target, Trust, TrustAnchor,
        begins_a_section, is_our_header, lint, merge,
    },
};
use serde_json::Value;

const ROOTS: [&str; 5] = ["rsa2048", "rsa4096", "ec-p256", "ec-p256-longdn", "ec-p384"];

fn anchor(root: &str) -> TrustAnchor {
    TrustAnchor::from_certificate(&der(&shared_text(&format!("facts/vectors/root-{root}.pem")))).unwrap()
}

fn kit(chip: Chip, release: &str, roots: &[&str]) -> Kit {
    Kit {
        chip,
        release: release.parse().unwrap(),
        trust: Trust::Ca,
        anchors: roots.iter().map(|root| anchor(root)).collect(),
        fingerprints: Vec::new(),
        host: Some("192.0.2.7".into()),
        port: 8883,
        rsa_4096: false,
    }
}

fn fingerprint() -> Fingerprint {
    "08 5E 0A 11 22 33 44 55 66 77 88 99 AA BB CC DD EE FF 01 02".parse().unwrap()
}

/// Every kit that can be had.
fn all_kits() -> Vec<Kit> {
    let mut kits = Vec::new();
    for chip in [Chip::Esp8266, Chip::Esp32] {
        for release in ["10.1", "11.1", "12.5", "14.5", "14.6", "15.1", "15.2", "15.3", "15.5"] {
            for roots in [&[][..], &["rsa2048"], &["ec-p256"], &["rsa4096"], &["rsa2048", "ec-p256-longdn"]] {
                for trust in [Trust::Ca, Trust::Fingerprint] {
                    for rsa_4096 in [false, true] {
                        let fingerprints = match trust {
                            Trust::Ca => Vec::new(),
                            Trust::Fingerprint => vec![fingerprint()],
                        };
                        kits.push(Kit { trust, fingerprints, rsa_4096, ..kit(chip, release, roots) });
                    }
                }
            }
        }
    }
    kits
}

#[test]
fn an_anchor_is_what_brssl_makes_of_the_same_certificate() {
    for root in ROOTS {
        let vector = vectors(&format!("trust-anchor-{root}.json"));
        let anchor = anchor(root);
        let hex = |field: &str| bytes(vector[field].as_str().unwrap());
        assert_eq!(anchor.dn(), hex("dn_hex"), "{root}");
        match anchor.key() {
            AnchorKey::Rsa { n, e } => {
                assert_eq!(
                    (vector["key_type"].as_str(), n, e),
                    (Some("RSA"), &hex("rsa_n_hex"), &hex("rsa_e_hex"))
                );
            }
            AnchorKey::Ec { curve, q } => {
                assert_eq!(vector["key_type"], "EC");
                assert_eq!((vector["curve_symbol"].as_str().unwrap(), &hex("ec_q_hex")), (curve.symbol(), q));
            }
        }
    }
}

#[test]
fn what_is_no_ca_is_no_anchor() {
    let server = der(&shared_text("facts/vectors/server-rsa2048.pem"));
    assert!(matches!(TrustAnchor::from_certificate(&server), Err(AnchorError::NotACa { .. })));
    for junk in [&b""[..], b"junk", &server[..100], &[server.as_slice(), b"x"].concat()] {
        assert_eq!(TrustAnchor::from_certificate(junk), Err(AnchorError::NotACertificate));
    }
}

/// Tasmota includes the data at file scope and the descriptor within the braces of its array; so does this program,
/// and prints what it got.
const PROGRAM: &str = r#"
#include <stdio.h>
#include <bearssl.h>
#define PROGMEM
#include "local_ca_data.h"
const br_x509_trust_anchor PROGMEM Tasmota_TA[] = {
#include "local_ca_descriptor.h"
};
static void hex(const char *name, const unsigned char *data, size_t length) {
    printf("%s=", name);
    for (size_t i = 0; i < length; i++) printf("%02x", data[i]);
    printf("\n");
}
int main(void) {
    for (size_t i = 0; i < sizeof Tasmota_TA / sizeof Tasmota_TA[0]; i++) {
        const br_x509_trust_anchor *ta = &Tasmota_TA[i];
        printf("flags=%s\n", ta->flags == BR_X509_TA_CA ? "CA" : "");
        hex("dn_hex", ta->dn.data, ta->dn.len);
        if (ta->pkey.key_type == BR_KEYTYPE_RSA) {
            printf("key_type=RSA\n");
            hex("rsa_n_hex", ta->pkey.key.rsa.n, ta->pkey.key.rsa.nlen);
            hex("rsa_e_hex", ta->pkey.key.rsa.e, ta->pkey.key.rsa.elen);
        } else if (ta->pkey.key_type == BR_KEYTYPE_EC) {
            printf("key_type=EC\n");
            printf("curve_symbol=%s\n", ta->pkey.key.ec.curve == BR_EC_secp256r1 ? "BR_EC_secp256r1" : "?");
            hex("ec_q_hex", ta->pkey.key.ec.q, ta->pkey.key.ec.qlen);
        }
        printf("end\n");
    }
    return 0;
}
"#;

const COMPILERS: [(&str, &str, &str); 2] =
    [("gcc", "-std=gnu11", "main.c"), ("g++", "-std=gnu++17", "main.cpp")];

/// Compiles a file of the folder with all warnings as errors, and runs it; what it printed.
fn compile_and_run(folder: &Path, (compiler, standard, source): (&str, &str, &str)) -> String {
    let run = |command: &mut Command| {
        command.current_dir(folder).output().unwrap_or_else(|error| panic!("{compiler} is needed: {error}"))
    };
    let made =
        run(Command::new(compiler).args([standard, "-Wall", "-Wextra", "-Werror", "-o", "program", source]));
    assert!(
        made.status.success(),
        "{compiler} (Debian's packages {compiler} and libbearssl-dev are needed): {}",
        String::from_utf8_lossy(&made.stderr)
    );
    let ran = run(&mut Command::new(folder.join("program")));
    assert!(ran.status.success());
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn the_headers_compile_as_tasmota_includes_them_and_hold_the_same_bytes() {
    for roots in [
        &["rsa2048"][..],
        &["rsa4096"],
        &["ec-p256"],
        &["ec-p256-longdn"],
        &["rsa2048", "ec-p256"],
        &["ec-p256-longdn", "rsa4096", "ec-p256", "rsa2048"],
    ] {
        let sources = kit(Chip::Esp32, "15.3", roots).sources().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (data, descriptor) = (sources.data.unwrap(), sources.descriptor.unwrap());
        assert!(is_our_header(data.as_bytes()) && is_our_header(descriptor.as_bytes()));
        fs::write(folder.path().join("local_ca_data.h"), &data).unwrap();
        fs::write(folder.path().join("local_ca_descriptor.h"), &descriptor).unwrap();
        for compiler in COMPILERS {
            fs::write(folder.path().join(compiler.2), PROGRAM).unwrap();
            let printed = compile_and_run(folder.path(), compiler);
            let blocks: Vec<_> = printed.split_terminator("end\n").collect();
            assert_eq!(blocks.len(), roots.len(), "{compiler:?} {roots:?}");
            for (root, block) in roots.iter().zip(blocks) {
                let vector = vectors(&format!("trust-anchor-{root}.json"));
                let mut compared = 0;
                for line in block.lines() {
                    let (field, value) = line.split_once('=').unwrap();
                    assert_eq!(vector[field], Value::from(value), "{root}: {field}");
                    compared += 1;
                }
                assert_eq!(compared, 5, "{root}: {block}");
            }
        }
    }
}

/// What Tasmota has before it includes the override, in the order of its my_user_config.h, and what it makes of it.
fn user_config(kit: &Kit, more: &str) -> String {
    let chip = if kit.chip == Chip::Esp8266 { "ESP8266" } else { "ESP32" };
    let ecdsa = if kit.release >= Release::ECDSA { "#define MQTT_TLS_ECDSA false" } else { "" };
    format!(
        "#include <stdio.h>\n#include <string.h>\n#define {chip}\n#define MQTT_HOST \"\"\n#define MQTT_PORT 1883\n\
         #define MQTT_FINGERPRINT1 0x00,0x00\n#define MQTT_FINGERPRINT2 0xDA,0x39\n#define MQTT_TLS_ENABLED false\n\
         #define MQTT_TLS_FINGERPRINT false\n{ecdsa}\n{more}\n#include \"user_config_override.h\"\n\
         #if defined(USE_MQTT_AWS_IOT) && !defined(USE_MQTT_CLIENT_CERT)\n#define USE_MQTT_CLIENT_CERT\n#endif\n\
         #if defined(ESP8266) && defined(USE_DISCOVERY) && defined(USE_MQTT_CLIENT_CERT)\n#error both\n#endif\n\
         #if !defined(USE_MQTT_TLS) || !defined(USE_MQTT_CLIENT_CERT)\n#error neither\n#endif\n\
         #if defined(OMIT_LETS_ENCRYPT_CERT) && defined(OMIT_AWS_CERT) && !defined(INCLUDE_LOCAL_CERT)\n#error none\n#endif\n\
         #ifdef INCLUDE_LOCAL_CERT\n#define LOCAL 1\n#else\n#define LOCAL 0\n#endif\n\
         static const unsigned char one[] = {{ MQTT_FINGERPRINT1 }}, two[] = {{ MQTT_FINGERPRINT2 }};\n\
         int main(void) {{ printf(\"%s %d %d %d %d %02X%02X %02X%02X\", MQTT_HOST, MQTT_PORT, (int)MQTT_TLS_ENABLED, \
         (int)MQTT_TLS_FINGERPRINT, LOCAL, one[0], one[19], two[0], two[19]); \
         return sizeof one == 20 && sizeof two == 20 ? 0 : 1; }}\n"
    )
}

#[test]
fn the_override_compiles_without_a_warning_whatever_was_defined_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut compiled = 0;
    for kit in all_kits().into_iter().filter(|kit| !kit.rsa_4096) {
        let Ok(sources) = kit.clone().sources() else { continue };
        if kit.release < "14.5".parse().unwrap() && kit.anchors.len() != 1 {
            continue;
        }
        let section = merge(None, &sources.override_section, Comment::Slashes).unwrap();
        fs::write(folder.path().join("user_config_override.h"), section).unwrap();
        let before = "#define USE_DISCOVERY\n#define OMIT_AWS_CERT 1\n#define USE_MQTT_TLS 1";
        fs::write(folder.path().join("main.cpp"), user_config(&kit, before)).unwrap();
        let printed = compile_and_run(folder.path(), COMPILERS[1]);
        let pinned = kit.trust == Trust::Fingerprint;
        let slot = if pinned { "0802" } else { "DA09" };
        let local = u8::from(!kit.anchors.is_empty());
        assert_eq!(printed, format!("192.0.2.7 8883 1 {} {local} {slot} DA09", u8::from(pinned)), "{kit:?}");
        compiled += 1;
    }
    assert!(compiled >= 20, "{compiled}");
}

#[test]
fn lint_finds_nothing_in_what_the_kit_writes() {
    let mut seen = 0;
    for kit in all_kits() {
        let Ok(sources) = kit.clone().sources() else { continue };
        let file = merge(None, &sources.override_section, Comment::Slashes).unwrap();
        for chip in [Some(kit.chip), None] {
            let findings = lint(&file, Target { chip, release: kit.release });
            assert!(findings.is_empty(), "{kit:?}: {findings:#?}\n{}", sources.override_section);
        }
        seen += 1;
    }
    assert!(seen > 60, "{seen}");
}

#[test]
fn what_no_device_could_use_is_refused_with_a_reason_and_a_next_step() {
    let esp8266 = |release: &str, roots: &[&str]| kit(Chip::Esp8266, release, roots);
    let esp32 = |release: &str, roots: &[&str]| kit(Chip::Esp32, release, roots);
    let pinned = |kit: Kit, count: usize| Kit {
        trust: Trust::Fingerprint,
        fingerprints: vec![fingerprint(); count],
        ..kit
    };
    let host = |host: &str| Kit { host: Some(host.into()), ..esp32("15.3", &["rsa2048"]) };
    type Is = fn(&KitError) -> bool;
    let cases: Vec<(&str, Kit, Is)> = vec![
        ("P-384", esp32("15.3", &["ec-p384"]), |e| matches!(e, KitError::Curve { curve: "P-384", .. })),
        ("RSA 4096, small", esp8266("15.3", &["rsa4096"]), |e| {
            matches!(e, KitError::NeedsFourK { bits: 4096, .. })
        }),
        ("EC, old, small", esp8266("14.6", &["ec-p256"]), |e| matches!(e, KitError::EcTooEarly { .. })),
        ("EC, 15.1.0", esp8266("15.1", &["ec-p256"]), |e| matches!(e, KitError::EcTooEarly { .. })),
        ("EC, old, large", esp32("14.6", &["ec-p256"]), |e| matches!(e, KitError::EcTooEarly { .. })),
        ("second is EC", esp32("12.0", &["rsa2048", "ec-p256"]), |e| {
            matches!(e, KitError::EcTooEarly { .. })
        }),
        ("before 11.1", esp32("11.0", &["rsa2048"]), |e| matches!(e, KitError::NoLocalCert { .. })),
        ("very old", esp8266("9.1", &["rsa2048"]), |e| matches!(e, KitError::NoLocalCert { .. })),
        ("old, pinned", pinned(esp8266("9.5", &[]), 1), |e| matches!(e, KitError::NoFingerprintMode { .. })),
        ("no CA", esp32("15.3", &[]), |e| matches!(e, KitError::NoAnchor)),
        ("no fingerprint", pinned(esp32("15.3", &[]), 0), |e| matches!(e, KitError::NoFingerprint)),
        ("three fingerprints", pinned(esp32("15.3", &[]), 3), |e| {
            matches!(e, KitError::TooManyFingerprints { .. })
        }),
        ("nine CAs", esp32("15.3", &["rsa2048"; 9]), |e| matches!(e, KitError::TooManyAnchors { count: 9 })),
        ("mDNS", host("broker.local"), |e| matches!(e, KitError::Host { .. })),
        ("ends the string", host("a\"; #include \"x"), |e| matches!(e, KitError::Host { .. })),
        ("a line end", host("a\nb"), |e| matches!(e, KitError::Host { .. })),
        ("no host", host(""), |e| matches!(e, KitError::Host { .. })),
        ("port 0", Kit { port: 0, ..esp32("15.3", &["rsa2048"]) }, |e| matches!(e, KitError::Port)),
    ];
    for (case, kit, expected) in cases {
        let error = kit.sources().unwrap_err();
        assert!(expected(&error), "{case}: {error:?}");
        assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{case}: no next step");
    }
}

#[test]
fn a_long_rsa_key_is_for_an_esp32_or_for_a_build_with_the_flag() {
    kit(Chip::Esp32, "15.3", &["rsa4096"]).sources().unwrap();
    let with_flag = Kit { rsa_4096: true, ..kit(Chip::Esp8266, "15.3", &["rsa4096"]) };
    let Sources { platformio_section, override_section, .. } = with_flag.sources().unwrap();
    assert!(platformio_section.contains("-DUSE_4K_RSA"), "{platformio_section}");
    assert!(!override_section.contains("USE_4K_RSA"), "it is a build flag");
}

#[test]
fn a_version_gets_the_name_that_it_knows_for_client_certificates() {
    for (release, name, not) in [
        ("14.5", "#define USE_MQTT_AWS_IOT", "#define USE_MQTT_CLIENT_CERT"),
        ("14.6", "#define USE_MQTT_CLIENT_CERT", "#define USE_MQTT_AWS_IOT"),
        ("15.3", "#define USE_MQTT_CLIENT_CERT", "#define USE_MQTT_AWS_IOT"),
    ] {
        let section = kit(Chip::Esp8266, release, &["rsa2048"]).sources().unwrap().override_section;
        assert!(section.contains(name) && !section.contains(not), "{release}: {section}");
        assert!(section.lines().filter(|line| line.starts_with('#')).count() > 10);
    }
    let ec = kit(Chip::Esp8266, "15.3", &["ec-p256"]).sources().unwrap();
    assert!(ec.override_section.contains("#define MQTT_TLS_ECDSA         true"), "{}", ec.override_section);
    assert!(ec.notes.iter().any(|note| note.contains("SetOption165")));
}

#[test]
fn a_ca_that_was_extended_is_compiled_in_once() {
    let once = kit(Chip::Esp32, "15.3", &["rsa2048"]).sources().unwrap();
    let twice = kit(Chip::Esp32, "15.3", &["rsa2048", "rsa2048"]).sources().unwrap();
    assert_eq!(once.data, twice.data);
    assert_eq!(once.descriptor, twice.descriptor);
}

#[test]
fn a_section_goes_into_a_file_and_leaves_the_rest_byte_for_byte() {
    let one = kit(Chip::Esp8266, "15.3", &["rsa2048"]).sources().unwrap().override_section;
    let two = kit(Chip::Esp32, "14.5", &["rsa2048"]).sources().unwrap().override_section;
    let guarded = "#ifndef _USER_CONFIG_OVERRIDE_H_\n#define _USER_CONFIG_OVERRIDE_H_\n#define A 1 // \u{e9}\n\n#endif  // x\n";
    for (case, before, after) in [
        ("no guard", "#define A 1\n", ""),
        ("no line end at the end", "#define A 1", ""),
        (
            "a guard",
            "#ifndef _USER_CONFIG_OVERRIDE_H_\n#define _USER_CONFIG_OVERRIDE_H_\n#define A 1 // \u{e9}\n\n",
            "#endif  // x\n",
        ),
        ("a condition, no guard", "#ifdef B\n#define A 1\n#endif\n", ""),
        ("line ends of Windows", "#define A 1\r\n#define B 2\r\n", ""),
        ("comments alone", "/* #endif */ // nothing\n", ""),
    ] {
        let file = format!("{before}{after}");
        let merged = merge(Some(file.as_bytes()), &one, Comment::Slashes).unwrap();
        assert!(merged.starts_with(before.as_bytes()), "{case}");
        assert!(merged.ends_with(after.as_bytes()), "{case}");
        assert!(
            begins_a_section(&merged, Comment::Slashes)
                && !begins_a_section(file.as_bytes(), Comment::Slashes)
        );
        if case.contains("Windows") {
            let text = String::from_utf8(merged.clone()).unwrap();
            assert_eq!(text.matches('\n').count(), text.matches("\r\n").count(), "{case}");
        }
        let again = merge(Some(&merged), &one, Comment::Slashes).unwrap();
        assert_eq!(again, merged, "{case}: a second time nothing changes");
        let other = merge(Some(&merged), &two, Comment::Slashes).unwrap();
        assert_ne!(other, merged);
        let back = merge(Some(&other), &one, Comment::Slashes).unwrap();
        assert_eq!(back, merged, "{case}: there and back");
    }
    // Bytes that are no UTF-8 stay, too; so does what follows the section.
    let merged = merge(Some(guarded.as_bytes()), &one, Comment::Slashes).unwrap();
    let odd = [b"// \xff\xfe\n".as_slice(), &merged, b"// \xe9 after\n"].concat();
    let again = merge(Some(&odd), &two, Comment::Slashes).unwrap();
    assert!(again.starts_with(b"// \xff\xfe\n") && again.ends_with(b"// \xe9 after\n"));

    let ini = kit(Chip::Esp32, "15.3", &["rsa2048"]).sources().unwrap().platformio_section;
    let merged = merge(Some(b"[env:mine]\nboard = x\n"), &ini, Comment::Semicolon).unwrap();
    assert!(merged.starts_with(b"[env:mine]\nboard = x\n"));
    assert_eq!(merge(Some(&merged), &ini, Comment::Semicolon).unwrap(), merged);
}

#[test]
fn a_file_in_which_the_section_would_not_count_is_refused_with_the_line() {
    let section = kit(Chip::Esp8266, "15.3", &["rsa2048"]).sources().unwrap().override_section;
    let marked =
        String::from_utf8(merge(Some(b"#define A 1\n"), &section, Comment::Slashes).unwrap()).unwrap();
    let begin = marked.lines().nth(1).unwrap().to_owned();
    let end = marked.lines().last().unwrap().to_owned();
    for (case, file, line) in [
        (
            "the guide's own text, which lost its #endif",
            "#ifndef USE_MQTT_TLS\n#define USE_MQTT_TLS\n".to_owned(),
            1,
        ),
        ("an #endif too many", "#define A\n#endif\n".to_owned(), 2),
        ("an open comment", "#define A\n/* begins\n".to_owned(), 2),
        ("inside a condition", format!("\n#ifdef NEVER\n{}#endif\n", &marked[12..]), 2),
        ("inside a comment", format!("/*\n{}*/\n", &marked[12..]), 2),
        ("no end", format!("{begin}\n#define A\n"), 1),
        ("no begin", format!("#define A\n{end}\n"), 2),
        ("two begins", format!("{begin}\n{begin}\n{end}\n"), 2),
        ("two sections", format!("{marked}{begin}\n{end}\n"), marked.lines().count() + 1),
    ] {
        let error = merge(Some(file.as_bytes()), &section, Comment::Slashes).unwrap_err();
        assert!(error.to_string().contains(&format!("line {line}:")), "{case}: {error}");
        assert!(error.hint().is_some());
    }
}
