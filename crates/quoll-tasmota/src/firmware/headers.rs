//! The two files that Tasmota's `tasmota_ca.ino` includes: `local_ca_data.h` at file scope, `local_ca_descriptor.h`
//! within the braces of its array of anchors. Facts §5.1, §5.2.

use std::fmt::Write as _;

use super::anchor::{AnchorKey, TrustAnchor};

/// First line of the headers we write; a file without it is somebody else's.
pub const HEADER_MARK: &str = "// Written by quoll firmware.";

/// Bytes on a line of an array.
const BYTES_A_LINE: usize = 12;

/// Whether a file's content is a header that we wrote.
#[must_use]
pub fn is_our_header(content: &[u8]) -> bool {
    content.starts_with(HEADER_MARK.as_bytes())
}

/// The arrays: name and key of each anchor.
pub(super) fn data(anchors: &[TrustAnchor]) -> String {
    let mut text = format!(
        "{HEADER_MARK} Do not edit: run it again when the CA's key changes.\n\
         // Name and public key of each CA that the device trusts (BearSSL trust anchors). Nothing here is secret.\n"
    );
    for (number, anchor) in anchors.iter().enumerate() {
        write!(text, "\n// TA{number}: {}, {}\n", anchor.name(), anchor.kind()).expect("a string takes all");
        array(&mut text, &format!("TA{number}_DN"), anchor.dn());
        match anchor.key() {
            AnchorKey::Rsa { n, e } => {
                array(&mut text, &format!("TA{number}_RSA_N"), n);
                array(&mut text, &format!("TA{number}_RSA_E"), e);
            }
            AnchorKey::Ec { q, .. } => array(&mut text, &format!("TA{number}_EC_Q"), q),
        }
    }
    text
}

/// The initialisers: separated by commas, none after the last, no array around them.
pub(super) fn descriptor(anchors: &[TrustAnchor]) -> String {
    let one = |(number, anchor): (usize, &TrustAnchor)| {
        let field = |name: &str| format!("(unsigned char *)TA{number}_{name}, sizeof TA{number}_{name}");
        let (kind, key) = match anchor.key() {
            AnchorKey::Rsa { .. } => ("RSA", format!(".rsa = {{ {}, {} }}", field("RSA_N"), field("RSA_E"))),
            AnchorKey::Ec { curve, .. } => {
                ("EC", format!(".ec = {{ {}, {} }}", curve.symbol(), field("EC_Q")))
            }
        };
        format!(
            "// TA{number}: {}, {}\n{{\n    {{ {} }},\n    BR_X509_TA_CA,\n    {{ BR_KEYTYPE_{kind}, {{ {key} }} }}\n}}",
            anchor.name(),
            anchor.kind(),
            field("DN"),
        )
    };
    let all: Vec<_> = anchors.iter().enumerate().map(one).collect();
    format!(
        "{HEADER_MARK} Do not edit: run it again when the CA's key changes.\n\
         // Included within the braces of Tasmota's array of trust anchors.\n{}\n",
        all.join(",\n")
    )
}

fn array(text: &mut String, name: &str, bytes: &[u8]) {
    let lines: Vec<_> = bytes
        .chunks(BYTES_A_LINE)
        .map(|line| line.iter().map(|byte| format!("0x{byte:02X}")).collect::<Vec<_>>().join(", "))
        .collect();
    writeln!(text, "static const unsigned char PROGMEM {name}[] = {{\n    {}\n}};", lines.join(",\n    "))
        .expect("a string takes all");
}
