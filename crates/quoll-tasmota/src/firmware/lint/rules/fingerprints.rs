//! `MQTT_FINGERPRINT1` and `2`: their form, and whom they let in. Facts §1.5, §4.3, §10.

use super::super::super::{Release, section::byte_list};
use super::super::reading::{Definition, Reading};
use super::{Level, Mode, Rules};
use crate::Fingerprint;

const SLOTS: [&str; 2] = ["MQTT_FINGERPRINT1", "MQTT_FINGERPRINT2"];

/// A fingerprint as it is written.
enum Written {
    Text(Option<[u8; 20]>),
    List([u8; 20]),
    Neither(String),
}

/// Whether the file has a fingerprint that is to be compared or learned.
pub(super) fn are_meant(reading: &Reading) -> bool {
    SLOTS.iter().filter_map(|slot| reading.get(slot)).any(|it| match read(&it.value.text) {
        Written::Text(Some(bytes)) | Written::List(bytes) => bytes != Fingerprint::MATCHES_NOTHING.bytes(),
        _ => true,
    })
}

pub(super) fn check(rules: &mut Rules<'_>, mode: Mode) {
    let reading = rules.reading;
    let slots = SLOTS.map(|slot| reading.get(slot));
    for it in slots.into_iter().flatten() {
        form(rules, it);
    }
    if mode == Mode::CaByMistake {
        let first =
            slots.into_iter().flatten().min_by_key(|it| it.line).map_or((1, 1), |it| (it.line, it.column));
        let what = "fingerprints are given, yet the server is known by its CA, the default since 10.0.0.4: they are not \
                    compared, and a server of one's own is refused with TLS error 62";
        let instead = "#undef MQTT_TLS_FINGERPRINT\n#define MQTT_TLS_FINGERPRINT true";
        rules.add(first, Level::Error, "contradiction", "MQTT_TLS_FINGERPRINT", what, instead);
    }
    if mode == Mode::Ca {
        return;
    }
    openness(rules, slots);
}

/// Whom the slots let in.
fn openness(rules: &mut Rules<'_>, slots: [Option<&Definition>; 2]) {
    let bytes = slots.map(|it| {
        it.and_then(|it| match read(&it.value.text) {
            Written::Text(bytes) => bytes,
            Written::List(bytes) => Some(bytes),
            Written::Neither(_) => None,
        })
    });
    let closed = format!("#define {} {}", SLOTS[1], byte_list(&Fingerprint::MATCHES_NOTHING.bytes()));
    let pinned = "the server's own fingerprint: quoll server show prints it, quoll firmware --trust fingerprint writes it";
    for (it, bytes) in slots.into_iter().zip(bytes) {
        let Some(it) = it else { continue };
        match bytes {
            Some(bytes) if bytes == [0xFF; 20] => {
                let what = "all FF accepts any server, for ever";
                rules.at(it, Level::Error, "unsafe", what, pinned);
            }
            Some(bytes) if bytes == [0; 20] && it.name == SLOTS[0] => {
                let what = "all 00 accepts any server, and keeps the key of the first one that comes";
                rules.at(it, Level::Warning, "unsafe", what, pinned);
            }
            Some(bytes) if bytes == [0; 20] => {
                let what = "all 00 accepts any server; where slot 1 learns, slot 2 stays open for ever";
                rules.at(it, Level::Error, "unsafe", what, &closed);
            }
            _ => {}
        }
    }
    if slots[0].is_none() {
        let what = "by fingerprint, slot 1 is all 00 unless set: it accepts any server, and keeps the first one's key";
        rules.missing(Level::Warning, SLOTS[0], what, pinned);
    }
}

fn form(rules: &mut Rules<'_>, it: &Definition) {
    let place = (it.value.line.max(it.line), it.value.column.max(1));
    let wants_list = rules.target.release >= Release::FINGERPRINT_BYTES;
    let (what, instead) = match (read(&it.value.text), wants_list) {
        (Written::List(_), true) | (Written::Text(Some(_)), false) => return,
        (Written::Text(Some(bytes)), true) => (
            "text in quotes is not understood since 9.0.0.2, at best its letters count as bytes: it is a list of twenty"
                .to_owned(),
            format!("#define {} {}", it.name, byte_list(&bytes)),
        ),
        (Written::List(bytes), false) => (
            "this version wants text in quotes".to_owned(),
            format!("#define {} \"{}\"", it.name, spaced(&bytes)),
        ),
        (Written::Text(None), _) => {
            ("it is no text of twenty bytes in hex".to_owned(), example(&it.name, wants_list))
        }
        (Written::Neither(why), _) => (why, example(&it.name, wants_list)),
    };
    rules.add(place, Level::Error, "format", &it.name, &what, &instead);
}

fn example(name: &str, wants_list: bool) -> String {
    let bytes = Fingerprint::MATCHES_NOTHING.bytes();
    let value = if wants_list { byte_list(&bytes) } else { format!("\"{}\"", spaced(&bytes)) };
    format!("such as: #define {name} {value}")
}

fn spaced(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(" ")
}

fn read(value: &str) -> Written {
    if let Some(text) = value.strip_prefix('"') {
        let text = text.strip_suffix('"').unwrap_or(text);
        let bytes: Option<Vec<u8>> = text.split([' ', ':']).map(hex_pair).collect();
        return Written::Text(bytes.and_then(|bytes| bytes.try_into().ok()));
    }
    let bytes: Option<Vec<u8>> = value.split(',').map(|part| number(part.trim())).collect();
    match bytes.map(<[u8; 20]>::try_from) {
        Some(Ok(bytes)) => Written::List(bytes),
        Some(Err(bytes)) => Written::Neither(format!("{} bytes, a fingerprint has twenty", bytes.len())),
        None => Written::Neither("it is no list of bytes such as 0x0A, with commas between".to_owned()),
    }
}

fn hex_pair(text: &str) -> Option<u8> {
    (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .then(|| u8::from_str_radix(text, 16).ok())
        .flatten()
}

fn number(text: &str) -> Option<u8> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if !hex.starts_with('+') => u8::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}
