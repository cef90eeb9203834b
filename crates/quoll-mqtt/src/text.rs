//! UTF-8 strings as the standard wants them (§1.5.4).
//!
//! Ill-formed UTF-8, surrogates among it, and NUL must be refused [MQTT-1.5.4-1] [MQTT-1.5.4-2]. Control characters and
//! non-characters may be; we follow Mosquitto and refuse them: a topic with a line break in it only ever harms.

/// The bytes as text, or what is wrong with them, with the clause.
#[inline]
pub(crate) fn validate(bytes: &[u8]) -> Result<&str, &'static str> {
    // Nearly every text is printable ASCII. The fold has no early exit, so that the compiler may use wide registers.
    let printable = bytes.iter().fold(true, |all, &byte| all & (byte.wrapping_sub(0x20) < 0x5F));
    let text = str::from_utf8(bytes).map_err(|_| "text is not UTF-8 [MQTT-1.5.4-1]")?;
    if printable { Ok(text) } else { check_characters(text) }
}

fn check_characters(text: &str) -> Result<&str, &'static str> {
    for character in text.chars() {
        match character {
            '\0' => return Err("NUL in text [MQTT-1.5.4-2]"),
            c if c.is_control() => return Err("control character in text (§1.5.4)"),
            c if is_non_character(c) => return Err("non-character in text (§1.5.4)"),
            _ => {}
        }
    }
    Ok(text)
}

/// The 66 code points that Unicode never assigns: U+FDD0 to U+FDEF, and the last two of each plane.
const fn is_non_character(character: char) -> bool {
    let code = character as u32;
    matches!(code, 0xFDD0..=0xFDEF) || code & 0xFFFE == 0xFFFE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_passes() {
        for text in ["", "a", "stat/plug/POWER", "Küche/Lampe", "温度", "😀", "\u{FEFF}bom", "~ ", "\u{A0}"]
        {
            assert_eq!(validate(text.as_bytes()), Ok(text));
        }
    }

    #[test]
    fn what_the_standard_or_mosquitto_refuses_is_refused() {
        for (bytes, clause) in [
            (&b"a\0b"[..], "1.5.4-2"),
            (b"\xC3\x28", "1.5.4-1"),
            (b"\xED\xA0\x80", "1.5.4-1"),     // U+D800, a surrogate
            (b"\xC0\x80", "1.5.4-1"),         // NUL, overlong
            (b"\xF4\x90\x80\x80", "1.5.4-1"), // U+110000
            (b"abc\xE2\x82", "1.5.4-1"),      // cut off
            (b"\x01", "control"),
            (b"line\nbreak", "control"),
            (b"\x1F", "control"),
            (b"\x7F", "control"),
            ("\u{80}".as_bytes(), "control"),
            ("\u{9F}".as_bytes(), "control"),
            ("\u{FDD0}".as_bytes(), "non-character"),
            ("\u{FDEF}".as_bytes(), "non-character"),
            ("\u{FFFE}".as_bytes(), "non-character"),
            ("\u{FFFF}".as_bytes(), "non-character"),
            ("\u{10FFFF}".as_bytes(), "non-character"),
        ] {
            let refusal = validate(bytes).expect_err("must be refused");
            assert!(refusal.contains(clause), "{bytes:x?}: {refusal}");
        }
    }
}
