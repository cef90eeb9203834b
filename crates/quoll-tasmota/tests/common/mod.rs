//! What several test files need: the shared vectors, certificates made by openssl, and servers to talk to.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses its own part; a test that cannot go on panics"
)]

pub(crate) mod certificates;
#[path = "../../../quoll-mqtt/tests/support/free_port.rs"]
pub(crate) mod free_port;
pub(crate) mod servers;

use std::{fs, path::PathBuf};

use serde_json::Value;

/// A file of the project's shared facts and fixtures.
pub(crate) fn shared(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")).join(path)
}

/// Its text; a missing file is a failure, not a skip.
pub(crate) fn shared_text(path: &str) -> String {
    let path = shared(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{} is needed: {error}", path.display()))
}

/// A vector file.
pub(crate) fn vectors(name: &str) -> Value {
    serde_json::from_str(&shared_text(&format!("facts/vectors/{name}"))).expect("vectors are JSON")
}

/// The DER in a PEM text (the first block).
pub(crate) fn der(pem: &str) -> Vec<u8> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("a PEM block");
    pem.contents
}

/// The bytes of a hex text.
pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}
