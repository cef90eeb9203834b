//! `quoll ca`: the certificate authority.

use clap::{Args, Subcommand, ValueEnum};
use quoll_pki::KeyKind;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{Common, ServerArgs};
use crate::failure::Outcome;
use crate::output::print_facts;
use crate::workshop::{self, Workshop};
use crate::{dates, trouble};

/// The certificate authority.
#[derive(Debug, Subcommand)]
pub(crate) enum Ca {
    /// Make a CA and the server's certificate; does nothing where they are there
    #[command(
        after_help = "Example:\n  quoll ca init --host mqtt.home.example --passphrase-file ca-passphrase"
    )]
    Init(Init),
    /// Show the CA: name, key, dates, what it has issued
    #[command(after_help = "Example:\n  quoll ca show --output json")]
    Show,
    /// Write the revocation list (pki/crl.pem) anew, for servers that read it
    #[command(
        after_help = "Example:\n  quoll ca crl\n\nQuoll's own broker does not need it: it refuses a revoked \
        certificate at once."
    )]
    Crl,
    /// Sign a request from another machine, and write the answer
    #[command(
        after_help = "Example:\n  quoll ca sign home.quollreq --phrase \"3f9a 11c0 77de 90b2 5e41\"\n\nIf it is interrupted, the \
        same command goes on: what is signed is not signed twice."
    )]
    Sign(super::sign::SignRequest),
    /// Write what a machine that compiles firmware needs: CA certificate, fingerprint, names; nothing secret
    #[command(after_help = "Example:\n  quoll ca export-anchors home.quollanchors")]
    ExportAnchors(super::sign::ExportAnchors),
}

/// `quoll ca init`.
#[derive(Args, Debug)]
pub(crate) struct Init {
    #[command(flatten)]
    server: ServerArgs,
    /// The kind of the CA's key; devices check EC only from Tasmota 15.1 on, with SetOption165 1
    #[arg(long, value_enum, default_value_t = Key::Rsa2048)]
    key: Key,
}

/// A kind of key.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Key {
    Rsa2048,
    EcP256,
}

impl Ca {
    pub(crate) fn run(&self, common: &Common) -> Outcome {
        match self {
            Self::Init(init) => init.run(common),
            Self::Show => show(common),
            Self::Crl => crl(common),
            Self::Sign(sign) => sign.run(common),
            Self::ExportAnchors(export) => export.run(common),
        }
    }
}

impl Init {
    fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        home.ensure()?;
        let settings = common.settings(&home, &self.server)?;
        let kind = match self.key {
            Key::Rsa2048 => KeyKind::Rsa2048,
            Key::EcP256 => KeyKind::EcP256,
        };
        let (mut workshop, made) = Workshop::open_or_create(&settings, common.passphrase(&home), kind)?;
        let server_made = workshop.ensure_server()?;
        settings.write_first(&home)?;
        if let Some(file) = &made.passphrase_in {
            eprintln!(
                "quoll: the CA's passphrase was made, and lies in {}: keep a copy elsewhere",
                file.display()
            );
        }
        let pki = workshop.pki();
        let facts = [
            ("ca_made", "CA made", json!(made.ca)),
            ("server_made", "Server certificate made", json!(server_made)),
            ("ca", "CA", json!(pki.ca().subject_cn())),
            ("server", "Server", json!(workshop::server_name(&settings)?.as_str())),
            ("folder", "Folder", json!(settings.pki.display().to_string())),
        ];
        print_facts(&facts, common.output)
    }
}

fn show(common: &Common) -> Outcome {
    let home = common.home()?;
    let settings = common.settings(&home, &ServerArgs::default())?;
    let pki = workshop::open_pki(&settings)?;
    let entries = pki.entries().map_err(trouble::pki)?;
    let now = OffsetDateTime::now_utc();
    let revoked = entries.iter().filter(|entry| entry.is_revoked()).count();
    let valid = entries.iter().filter(|entry| entry.is_valid_at(now)).count();
    let behind = pki.crl_is_behind(now).map_err(trouble::pki)?;
    let ca = pki.ca();
    let key = if ca.has_ec_key() { "EC" } else { "RSA" };
    let facts = [
        ("name", "Name", json!(ca.subject_cn())),
        ("folder", "Folder", json!(pki.dir().display().to_string())),
        ("key", "Key", json!(key)),
        ("serial", "Serial number", json!(ca.serial().to_string())),
        ("not_before", "Valid from", json!(dates::day(ca.not_before()))),
        ("not_after", "Valid until", json!(dates::day(ca.not_after()))),
        ("sha256", "SHA-256", json!(hex(&ca.fingerprint_sha256()))),
        ("valid", "Valid certificates", json!(valid)),
        ("revoked", "Revoked certificates", json!(revoked)),
        ("crl_is_behind", "Revocation list behind", Value::Bool(behind)),
    ];
    print_facts(&facts, common.output)
}

fn crl(common: &Common) -> Outcome {
    let home = common.home()?;
    let settings = common.settings(&home, &ServerArgs::default())?;
    let mut workshop = Workshop::open(&settings, common.passphrase(&home))?;
    workshop.publish_crl()?;
    let path = workshop.pki().dir().join("crl.pem");
    print_facts(&[("crl", "Written", json!(path.display().to_string()))], common.output)
}

/// Bytes as upper-case hex with colons, the way OpenSSL shows a fingerprint.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}
