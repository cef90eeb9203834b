//! PEM blocks (RFC 7468): finding one in a file that may begin with a text dump, and writing one.
//! What it is not: it does not look inside the DER, and does not decrypt.

use std::str::Lines;

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::limits::MAX_PEM;

/// A SEQUENCE with a length of two octets, as every certificate and RSA key is.
const DER_BEGIN: [u8; 2] = [0x30, 0x82];

/// One block: its label and its decoded bytes (wiped on drop, they may be a key).
pub(crate) struct Block {
    pub(crate) label: String,
    pub(crate) der: Zeroizing<Vec<u8>>,
    /// True when the block has RFC 1421 headers such as `Proc-Type: 4,ENCRYPTED`.
    pub(crate) old_encryption: bool,
}

/// The first block whose label satisfies `wanted`. Text before and between blocks is skipped.
///
/// # Errors
/// A sentence saying what is wrong with the file.
pub(crate) fn find(text: &[u8], wanted: impl Fn(&str) -> bool) -> Result<Block, String> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err("the file is empty".into());
    }
    let is_der = text.starts_with(&DER_BEGIN);
    let text = Zeroizing::new(String::from_utf8_lossy(text).into_owned());
    let mut lines = text.lines();
    let mut seen = None;
    while let Some(line) = lines.next() {
        let Some(label) = marker(line, "BEGIN") else { continue };
        if !wanted(label) {
            seen.get_or_insert_with(|| label.to_owned());
            continue;
        }
        return body(label, &mut lines, text.len());
    }
    Err(match seen {
        Some(label) => format!("the file holds a {label:?} block instead"),
        None if is_der => {
            "it is DER, not PEM; openssl x509 or openssl pkey -inform DER -in FILE -out NEW converts it"
                .into()
        }
        None => "there is no PEM block in it".into(),
    })
}

/// Every block whose label satisfies `wanted`, as far as the file can be read.
pub(crate) fn all(text: &[u8], wanted: impl Fn(&str) -> bool) -> Vec<Block> {
    let text = Zeroizing::new(String::from_utf8_lossy(text).into_owned());
    let mut lines = text.lines();
    let mut out = Vec::new();
    while let Some(line) = lines.next() {
        let Some(label) = marker(line, "BEGIN").filter(|label| wanted(label)) else { continue };
        let Ok(block) = body(label, &mut lines, text.len()) else { break };
        out.push(block);
    }
    out
}

/// `der` as one PEM block, lines of 64 characters, closing newline.
pub(crate) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    let mut out = Zeroizing::new(String::with_capacity(base64.len() * 66 / 64 + 2 * label.len() + 40));
    out.push_str("-----BEGIN ");
    out.push_str(label);
    out.push_str("-----\n");
    for start in (0..base64.len()).step_by(64) {
        out.push_str(&base64[start..base64.len().min(start + 64)]);
        out.push('\n');
    }
    out.push_str("-----END ");
    out.push_str(label);
    out.push_str("-----\n");
    out
}

fn body(label: &str, lines: &mut Lines<'_>, room: usize) -> Result<Block, String> {
    // Room for all of it at once: growing would leave copies of a key behind.
    let mut base64 = Zeroizing::new(String::with_capacity(room));
    let mut old_encryption = false;
    for line in lines {
        if let Some(end) = marker(line, "END") {
            if end != label {
                return Err(format!("BEGIN {label} is closed by END {end}"));
            }
            // A body we cannot read is not looked at: the caller only names the command that converts it.
            let der = if old_encryption { Vec::new() } else { decode(label, &base64)? };
            return Ok(Block { label: label.to_owned(), der: Zeroizing::new(der), old_encryption });
        }
        if line.contains(':') {
            old_encryption |= line.starts_with("Proc-Type:") && line.contains("ENCRYPTED");
            continue;
        }
        if base64.len() + line.len() > MAX_PEM {
            return Err(format!("the {label} block is larger than {MAX_PEM} bytes"));
        }
        base64.push_str(line.trim());
    }
    Err(format!("the {label} block has no END line; the file is cut off"))
}

fn decode(label: &str, base64: &str) -> Result<Vec<u8>, String> {
    let der = STANDARD.decode(base64).map_err(|_| format!("the base64 of the {label} block is broken"))?;
    if der.is_empty() { Err(format!("the {label} block is empty")) } else { Ok(der) }
}

fn marker<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    line.trim_end().strip_prefix("-----")?.strip_prefix(word)?.strip_prefix(' ')?.strip_suffix("-----")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_dump_before_the_block_is_skipped() {
        let file = format!("Certificate:\n    Data: x\n{}", *encode("CERTIFICATE", b"abc"));
        let block = find(file.as_bytes(), |label| label == "CERTIFICATE").unwrap();
        assert_eq!((block.label.as_str(), block.der.as_slice()), ("CERTIFICATE", b"abc".as_slice()));
    }

    #[test]
    fn broken_files_are_told_apart() {
        for (text, expected) in [
            ("", "empty"),
            (" \n", "empty"),
            ("hello", "no PEM block"),
            ("-----BEGIN A-----\n-----END A-----\n", "\"A\" block instead"),
            ("-----BEGIN X-----\nYWJj\n", "cut off"),
            ("-----BEGIN X-----\nYW!j\n-----END X-----\n", "base64"),
            ("-----BEGIN X-----\nYWJj\n-----END Y-----\n", "closed by"),
            ("-----BEGIN X-----\n-----END X-----\n", "is empty"),
        ] {
            let told = find(text.as_bytes(), |label| label == "X").err().unwrap_or_default();
            assert!(told.contains(expected), "{text:?}: {told}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_found_again(der in proptest::collection::vec(any::<u8>(), 1..300)) {
            let text = encode("X", &der);
            prop_assert_eq!(&*find(text.as_bytes(), |_| true).unwrap().der, &der);
        }

        #[test]
        fn garbage_never_panics(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = find(&text, |_| true);
        }
    }
}
