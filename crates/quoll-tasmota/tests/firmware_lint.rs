//! What `quoll firmware lint` says about overrides, the guide's own first.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use common::shared;
use proptest::prelude::*;
use quoll_tasmota::firmware::{Chip, Finding, Level, Target, lint};

fn target(chip: Option<Chip>, release: &str) -> Target {
    Target { chip, release: release.parse().unwrap() }
}

fn found(text: &str, chip: Option<Chip>, release: &str) -> Vec<(usize, &'static str, String)> {
    lint(text.as_bytes(), target(chip, release)).into_iter().map(|it| (it.line, it.rule, it.name)).collect()
}

/// The text of a section of the guide, from its first directive to the first line that is none.
fn guide(section: &str) -> String {
    let folder = shared("seed");
    let file = std::fs::read_dir(&folder).expect("the guide is needed").next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(file).unwrap();
    let from = text.find(section).unwrap_or_else(|| panic!("no {section} in the guide"));
    let lines = text[from..].lines().skip_while(|line| !line.starts_with('#'));
    let lines: Vec<_> = lines.take_while(|line| line.starts_with('#') || line.starts_with("//")).collect();
    assert!(lines.len() >= 5, "{lines:?}");
    lines.join("\n") + "\n"
}

type Expected<'a> = &'a [(usize, &'a str, &'a str)];

fn expect(case: &str, text: &str, chip: Option<Chip>, release: &str, expected: Expected<'_>) {
    let expected: Vec<_> =
        expected.iter().map(|(line, rule, name)| (*line, *rule, (*name).to_owned())).collect();
    assert_eq!(found(text, chip, release), expected, "{case}:\n{text}");
}

#[test]
fn the_guides_two_variants_yield_their_known_faults() {
    let easier = guide("2.1. Easier");
    let advanced = guide("2.2. Advanced");
    let cases: &[(&str, &str, Option<Chip>, &str, Expected<'_>)] = &[
        (
            "2.1 today",
            &easier,
            Some(Chip::Esp8266),
            "15.3",
            &[
                (1, "structure", ""),
                (2, "missing", "MQTT_HOST"),
                (2, "missing", "MQTT_PORT"),
                (2, "missing", "MQTT_TLS_ENABLED"),
                (4, "obsolete", "USE_MQTT_AWS_IOT"),
                (5, "obsolete", "USE_MQTT_TLS_FORCE_EC_CIPHER"),
                (6, "contradiction", "MQTT_TLS_FINGERPRINT"),
                (6, "redefined", "MQTT_FINGERPRINT1"),
                (6, "unsafe", "MQTT_FINGERPRINT1"),
                (6, "format", "MQTT_FINGERPRINT1"),
                (7, "redefined", "MQTT_FINGERPRINT2"),
                (7, "format", "MQTT_FINGERPRINT2"),
            ],
        ),
        (
            "2.1 when it was written",
            &easier,
            Some(Chip::Esp8266),
            "8.5",
            &[
                (1, "structure", ""),
                (2, "missing", "MQTT_HOST"),
                (2, "missing", "MQTT_PORT"),
                (2, "missing", "MQTT_TLS_ENABLED"),
                (6, "redefined", "MQTT_FINGERPRINT1"),
                (6, "unsafe", "MQTT_FINGERPRINT1"),
                (7, "redefined", "MQTT_FINGERPRINT2"),
            ],
        ),
        (
            "2.2 today",
            &advanced,
            Some(Chip::Esp32),
            "15.3",
            &[
                (1, "structure", ""),
                (2, "missing", "INCLUDE_LOCAL_CERT"),
                (2, "missing", "MQTT_HOST"),
                (2, "missing", "MQTT_PORT"),
                (2, "missing", "MQTT_TLS_ENABLED"),
                (3, "obsolete", "USE_MQTT_TLS_CA_CERT"),
                (4, "obsolete", "USE_MQTT_AWS_IOT"),
                (5, "obsolete", "USE_MQTT_TLS_FORCE_EC_CIPHER"),
            ],
        ),
        (
            "2.2 before the client certificate had its own name",
            &advanced,
            Some(Chip::Esp32),
            "14.5",
            &[
                (1, "structure", ""),
                (2, "missing", "INCLUDE_LOCAL_CERT"),
                (2, "missing", "MQTT_HOST"),
                (2, "missing", "MQTT_PORT"),
                (2, "missing", "MQTT_TLS_ENABLED"),
                (3, "obsolete", "USE_MQTT_TLS_CA_CERT"),
                (5, "obsolete", "USE_MQTT_TLS_FORCE_EC_CIPHER"),
            ],
        ),
        (
            "2.2 when the mode was compiled in",
            &advanced,
            Some(Chip::Esp8266),
            "9.5",
            &[
                (1, "structure", ""),
                (2, "missing", "MQTT_HOST"),
                (2, "missing", "MQTT_PORT"),
                (2, "missing", "MQTT_TLS_ENABLED"),
            ],
        ),
    ];
    for (case, text, chip, release, expected) in cases {
        expect(case, text, *chip, release, expected);
    }
}

#[test]
fn the_guides_strings_come_back_as_bytes_with_line_and_column() {
    let easier = guide("2.1. Easier");
    let findings = lint(easier.as_bytes(), target(Some(Chip::Esp8266), "15.3"));
    let format: Vec<&Finding> = findings.iter().filter(|it| it.rule == "format").collect();
    assert_eq!(format.len(), 2);
    let line = easier.lines().nth(6).unwrap();
    assert_eq!((format[1].line, format[1].column), (7, line.find('"').unwrap() + 1));
    assert_eq!(format[1].level, Level::Error);
    assert_eq!(
        format[1].instead,
        "#define MQTT_FINGERPRINT2 0xDA,0x39,0xA3,0xEE,0x5E,0x6B,0x4B,0x0D,0x32,0x55,0xBF,0xEF,0x95,0x60,0x18,0x90,0xAF,\
         0xD8,0x07,0x09"
    );
}

/// A good override for 15.3, to spoil one line at a time.
const GOOD: &str = "\
#undef USE_MQTT_TLS
#define USE_MQTT_TLS
#define USE_MQTT_CLIENT_CERT
#define INCLUDE_LOCAL_CERT
#define OMIT_LETS_ENCRYPT_CERT
#define OMIT_AWS_CERT
#undef MQTT_TLS_ENABLED
#define MQTT_TLS_ENABLED true
#undef MQTT_PORT
#define MQTT_PORT 8883
#undef MQTT_HOST
#define MQTT_HOST \"192.0.2.7\"
";

#[test]
fn each_fault_is_found_where_it_is() {
    expect("good", GOOD, Some(Chip::Esp8266), "15.3", &[]);
    let esp8266 = Some(Chip::Esp8266);
    let spoil = |from: &str, to: &str| {
        assert!(GOOD.contains(from), "{from}");
        GOOD.replacen(from, to, 1)
    };
    let add = |line: &str| format!("{GOOD}{line}\n");
    let zeros = "0x00,".repeat(19) + "0x00";
    let ones = "0xFF,".repeat(19) + "0xff";
    let by_print = |lines: &str| {
        add(&format!("#undef MQTT_TLS_FINGERPRINT\n#define MQTT_TLS_FINGERPRINT true\n{lines}"))
    };
    let slot = |number: u8, value: &str| {
        format!("#undef MQTT_FINGERPRINT{number}\n#define MQTT_FINGERPRINT{number} {value}")
    };
    let cases: Vec<(&str, String, Option<Chip>, &str, Expected<'_>)> = vec![
        ("empty", String::new(), esp8266, "15.3", &[(1, "missing", "USE_MQTT_TLS")]),
        ("empty, ESP32", String::new(), Some(Chip::Esp32), "15.3", &[]),
        (
            "TLS undefined",
            spoil("#define USE_MQTT_TLS\n", ""),
            Some(Chip::Esp32),
            "15.3",
            &[(1, "missing", "USE_MQTT_TLS")],
        ),
        (
            "no client certificate",
            spoil("#define USE_MQTT_CLIENT_CERT\n", ""),
            esp8266,
            "15.3",
            &[(2, "missing", "USE_MQTT_CLIENT_CERT")],
        ),
        ("new name, old version", GOOD.into(), esp8266, "14.5", &[(3, "too-early", "USE_MQTT_CLIENT_CERT")]),
        (
            "both names",
            add("#define USE_MQTT_AWS_IOT"),
            esp8266,
            "15.3",
            &[(13, "contradiction", "USE_MQTT_AWS_IOT")],
        ),
        (
            "old name",
            spoil("USE_MQTT_CLIENT_CERT", "USE_MQTT_AWS_IOT"),
            esp8266,
            "15.3",
            &[(3, "obsolete", "USE_MQTT_AWS_IOT")],
        ),
        (
            "old name, no password",
            spoil("USE_MQTT_CLIENT_CERT", "USE_MQTT_AWS_IOT") + "#undef MQTT_PASS\n#define MQTT_PASS \"\"\n",
            esp8266,
            "14.5",
            &[(14, "contradiction", "MQTT_PASS")],
        ),
        ("mDNS", add("#define USE_DISCOVERY"), esp8266, "15.3", &[(13, "contradiction", "USE_DISCOVERY")]),
        ("mDNS, ESP32", add("#define USE_DISCOVERY"), Some(Chip::Esp32), "15.3", &[]),
        (
            "no CA at all",
            spoil("#define INCLUDE_LOCAL_CERT\n", ""),
            esp8266,
            "15.3",
            &[(2, "missing", "INCLUDE_LOCAL_CERT"), (5, "contradiction", "OMIT_AWS_CERT")],
        ),
        (
            "earlier editions' slip",
            spoil("INCLUDE_LOCAL_CERT", "INCLUDE_LOCAL_CA_CERT"),
            esp8266,
            "15.3",
            &[(4, "unknown", "INCLUDE_LOCAL_CA_CERT"), (6, "contradiction", "OMIT_AWS_CERT")],
        ),
        (
            "public CAs stay",
            spoil("#define OMIT_AWS_CERT\n", ""),
            esp8266,
            "15.3",
            &[(2, "missing", "OMIT_LETS_ENCRYPT_CERT")],
        ),
        (
            "before one's own CA",
            GOOD.replace("USE_MQTT_CLIENT_CERT", "USE_MQTT_AWS_IOT"),
            esp8266,
            "11.0",
            &[
                (4, "too-early", "INCLUDE_LOCAL_CERT"),
                (5, "too-early", "OMIT_LETS_ENCRYPT_CERT"),
                (6, "too-early", "OMIT_AWS_CERT"),
            ],
        ),
        (
            "TLS off",
            spoil("ENABLED true", "ENABLED false"),
            esp8266,
            "15.3",
            &[(8, "contradiction", "MQTT_TLS_ENABLED")],
        ),
        (
            "neither",
            spoil("ENABLED true", "ENABLED yes"),
            esp8266,
            "15.3",
            &[(8, "value", "MQTT_TLS_ENABLED")],
        ),
        ("no #undef", spoil("#undef MQTT_PORT\n", ""), esp8266, "15.3", &[(9, "redefined", "MQTT_PORT")]),
        ("plain port", spoil("8883", "1883"), esp8266, "15.3", &[(10, "contradiction", "MQTT_PORT")]),
        ("no port", spoil("8883", "70000"), esp8266, "15.3", &[(10, "value", "MQTT_PORT")]),
        ("no quotes", spoil("\"192.0.2.7\"", "192.0.2.7"), esp8266, "15.3", &[(12, "value", "MQTT_HOST")]),
        ("mDNS name", spoil("192.0.2.7", "Broker.local"), esp8266, "15.3", &[(12, "value", "MQTT_HOST")]),
        (
            "a flag as a define",
            add("#define USE_4K_RSA"),
            esp8266,
            "15.3",
            &[(13, "build-flag", "USE_4K_RSA")],
        ),
        (
            "misspelt",
            spoil("OMIT_AWS_CERT", "OMIT_AWS_CERTS"),
            esp8266,
            "15.3",
            &[(2, "missing", "OMIT_LETS_ENCRYPT_CERT"), (6, "unknown", "OMIT_AWS_CERTS")],
        ),
        ("two values", add("#define MQTT_PORT 8884"), esp8266, "15.3", &[(13, "twice", "MQTT_PORT")]),
        (
            "two values, undefined between",
            add("#undef MQTT_PORT\n#define MQTT_PORT 8884"),
            esp8266,
            "15.3",
            &[],
        ),
        (
            "a guard that is met",
            spoil(
                "#undef USE_MQTT_TLS\n#define USE_MQTT_TLS\n",
                "#ifndef USE_MQTT_TLS\n#define USE_MQTT_TLS\n#endif\n",
            ),
            esp8266,
            "15.3",
            &[],
        ),
        (
            "a guard that is not",
            add("#ifndef USE_MQTT_TLS\n#define MQTT_TLS_FINGERPRINT true\n#endif"),
            esp8266,
            "15.3",
            &[(14, "skipped", "MQTT_TLS_FINGERPRINT")],
        ),
        (
            "the other chip's lines",
            add("#ifdef ESP32\n#define MQTT_TLS_FINGERPRINT maybe\n#endif"),
            esp8266,
            "15.3",
            &[(14, "skipped", "MQTT_TLS_FINGERPRINT")],
        ),
        ("in a comment", add("/* #define USE_4K_RSA */ // #define USE_4K_RSA"), esp8266, "15.3", &[]),
        (
            "a comment that goes on",
            add("// note \\\n#define USE_4K_RSA"),
            esp8266,
            "15.3",
            &[(13, "structure", "")],
        ),
        ("a comment that stays open", add("/* note"), esp8266, "15.3", &[(13, "structure", "")]),
        ("an #else alone", add("#else"), esp8266, "15.3", &[(13, "structure", "")]),
        (
            "EC before its time",
            add("#undef MQTT_TLS_ECDSA\n#define MQTT_TLS_ECDSA true"),
            esp8266,
            "15.0",
            &[(14, "too-early", "MQTT_TLS_ECDSA")],
        ),
        ("by fingerprint without one", by_print(""), esp8266, "15.3", &[(2, "missing", "MQTT_FINGERPRINT1")]),
        (
            "by fingerprint, and EC",
            by_print(&format!(
                "{}\n#undef MQTT_TLS_ECDSA\n#define MQTT_TLS_ECDSA 1",
                slot(1, &zeros.replace("0x00,0x00", "0x00,1"))
            )),
            esp8266,
            "15.3",
            &[(18, "contradiction", "MQTT_TLS_ECDSA")],
        ),
        (
            "by fingerprint, and by CA",
            by_print(&format!(
                "{}\n#define USE_MQTT_TLS_CA_CERT",
                slot(1, &zeros.replace("0x00,0x00", "0x00,1"))
            )),
            esp8266,
            "15.3",
            &[(17, "contradiction", "USE_MQTT_TLS_CA_CERT"), (17, "obsolete", "USE_MQTT_TLS_CA_CERT")],
        ),
        ("learns", by_print(&slot(1, &zeros)), esp8266, "15.3", &[(16, "unsafe", "MQTT_FINGERPRINT1")]),
        (
            "stays open",
            by_print(&format!("{}\n{}", slot(1, &zeros), slot(2, &zeros))),
            esp8266,
            "15.3",
            &[(16, "unsafe", "MQTT_FINGERPRINT1"), (18, "unsafe", "MQTT_FINGERPRINT2")],
        ),
        ("trusts anyone", by_print(&slot(1, &ones)), esp8266, "15.3", &[(16, "unsafe", "MQTT_FINGERPRINT1")]),
        (
            "nineteen bytes",
            by_print(&slot(1, &zeros[5..])),
            esp8266,
            "15.3",
            &[(16, "format", "MQTT_FINGERPRINT1")],
        ),
        ("no bytes", by_print(&slot(1, "SHA1")), esp8266, "15.3", &[(16, "format", "MQTT_FINGERPRINT1")]),
    ];
    for (case, text, chip, release, expected) in cases {
        expect(case, &text, chip, release, expected);
    }
}

#[test]
fn every_finding_says_what_to_write_instead_and_stands_in_the_file() {
    for section in ["2.1. Easier", "2.2. Advanced"] {
        let text = guide(section);
        for release in ["8.5", "9.5", "11.0", "14.5", "15.3"] {
            for chip in [None, Some(Chip::Esp8266), Some(Chip::Esp32)] {
                for it in lint(text.as_bytes(), target(chip, release)) {
                    assert!(!it.what.is_empty() && !it.instead.is_empty(), "{it:?}");
                    let line = text.lines().nth(it.line - 1).unwrap_or_else(|| panic!("{it:?}"));
                    assert!(it.column >= 1 && it.column <= line.chars().count() + 1, "{it:?}");
                }
            }
        }
    }
}

fn any_line() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec![
        "USE_MQTT_TLS",
        "USE_MQTT_AWS_IOT",
        "MQTT_FINGERPRINT1",
        "MQTT_FINGERPRINT2",
        "MQTT_TLS_FINGERPRINT",
        "MQTT_PORT",
        "MQTT_HOST",
        "OMIT_AWS_CERT",
        "INCLUDE_LOCAL_CERT",
        "X",
        "",
    ]);
    let words = prop::sample::select(vec![
        "#define ",
        "#undef ",
        "#ifdef ",
        "#ifndef ",
        "#if defined(",
        "#if !",
        "#elif ",
        "#else",
        "#endif",
        "# define\t",
        "//",
        "/*",
        "*/",
        "\\\n",
        "\\\r\n",
        "\"",
        "'",
        "#",
    ]);
    let values = prop::sample::select(vec![
        " true",
        " 0x00,0x01",
        " \"00 11\"",
        " 8883",
        ")",
        " && (",
        " \\",
        "\u{e9}\u{1F642}",
    ]);
    (words, names, values, any::<bool>())
        .prop_map(|(word, name, value, end)| format!("{word}{name}{value}{}", if end { "\n" } else { "" }))
}

proptest! {
    #[test]
    fn lint_never_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2_000), version in 0..5_usize) {
        let release = ["8.5", "9.5", "11.0", "14.5", "15.3"][version];
        for chip in [None, Some(Chip::Esp8266), Some(Chip::Esp32)] {
            prop_assert!(lint(&bytes, target(chip, release)).len() <= lint::FINDINGS_MAX);
        }
    }

    #[test]
    fn lint_never_panics_on_what_looks_like_a_header_and_says_the_same_twice(
        lines in prop::collection::vec(any_line(), 0..40),
        version in 0..5_usize,
    ) {
        let text = lines.concat();
        let target = target(None, ["8.5", "9.5", "11.0", "14.5", "15.3"][version]);
        let findings = lint(text.as_bytes(), target);
        prop_assert_eq!(&findings, &lint(text.as_bytes(), target));
        for it in findings {
            prop_assert!(it.line >= 1 && it.line <= text.split('\n').count() && it.column >= 1);
        }
    }
}
