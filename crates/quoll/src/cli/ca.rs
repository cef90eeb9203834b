//! `quoll ca`: the certificate authority.

use clap::{Args, Subcommand, ValueEnum};
use quoll_pki::KeyKind;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{Common, ServerArgs};
use crate::audit::Audit;
use crate::failure::{Exit, Failure, Outcome};
use crate::home::{Home, write_whole};
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
        after_help = "Example:\n  quoll ca crl\n  quoll ca crl --export /srv/http/ca.crl\n\nQuoll's own broker does not need it: it refuses \
        a revoked certificate at once. A running node serves it: http://127.0.0.1:8880/ca.crl, and [ca] crl_listen of quoll.toml."
    )]
    Crl(Crl),
    /// Look at every certificate of the folder, and at what contradicts what; changes nothing
    #[command(
        after_help = "Example:\n  quoll --pki ~/easy-rsa/pki ca check\n\nDEVICES says which Tasmota devices could not live with a \
        certificate, and why. A locked CA is enough."
    )]
    Check(super::ca_check::Check),
    /// Encrypt the CA's key anew: AES-256, 600,000 rounds of PBKDF2
    #[command(
        after_help = "Example:\n  quoll ca reencrypt --ask-new\n\nThe old file stays until the new one is proven to open."
    )]
    Reencrypt(super::ca_check::Reencrypt),
    /// Issue a certificate by a profile
    #[command(
        after_help = "Example:\n  quoll ca issue grafana --profile client --days 365\n  quoll ca issue mqtt2.lan --profile server --ip \
        192.168.1.11\n  quoll ca issue web.lan --profile server --key ec-p384 --devices none"
    )]
    Issue(Box<super::ca_issue::Issue>),
    /// List the profiles, your own (pki/profiles/*.toml) included
    #[command(after_help = "Example:\n  quoll ca profiles")]
    Profiles,
    /// Renew a certificate with the key it has; without a name, make the CA itself last longer
    #[command(
        after_help = "Example:\n  quoll ca renew tasmota_kitchen\n  quoll ca renew\n\nThe CA keeps key and name: what it issued stays good, \
        and devices need nothing new."
    )]
    Renew(super::ca_life::Renew),
    /// Change to a new CA: start, status, knows, move, server, finish, abandon
    #[command(subcommand)]
    Rollover(super::ca_rollover::Rollover),
    /// Take a certificate back, for good or for a time
    #[command(
        after_help = "Example:\n  quoll ca revoke laptop --reason keyCompromise --yes\n  quoll ca revoke laptop --reason certificateHold\n\n\
        Devices and clients of the registry: quoll device revoke, quoll client revoke."
    )]
    Revoke(super::ca_life::Revoke),
    /// Let a certificate in again that was revoked with certificateHold
    #[command(after_help = "Example:\n  quoll ca unhold laptop")]
    Unhold(super::ca_life::Unhold),
    /// List what ends soon: certificates in use, the CA, the revocation list
    #[command(
        after_help = "Example:\n  quoll ca expiring --days 60\n  quoll ca expiring --output ics > quoll.ics\n  quoll ca expiring --output \
        prometheus > /var/lib/node_exporter/quoll.prom"
    )]
    Expiring(super::ca_expiring::Expiring),
    /// Write a certificate with its key for another program: PKCS#12 or PEM
    #[command(
        after_help = "Example:\n  quoll ca export alice --form p12 --out alice.p12\n  quoll ca export alice --form p12-legacy   for iOS"
    )]
    Export(super::ca_issue::Export),
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
    /// The kind of the CA's key; devices check EC only from Tasmota 15.2 on, with SetOption165 1 [default: as vars says, else rsa2048]
    #[arg(long, value_enum)]
    key: Option<Key>,
    /// Make the CA alone: the server is on another machine, and asks (quoll request)
    #[arg(long)]
    no_server: bool,
}

/// `quoll ca crl`.
#[derive(Args, Debug)]
pub(crate) struct Crl {
    /// Write the list there is to FILE instead, without the CA's key: PEM if FILE ends in .pem, else DER
    #[arg(long, value_name = "FILE")]
    export: Option<std::path::PathBuf>,
}

/// A kind of key.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Key {
    Rsa2048,
    EcP256,
}

impl Ca {
    pub(crate) async fn run(&self, common: &Common) -> Outcome {
        match self {
            Self::Init(init) => init.run(common),
            Self::Show => show(common),
            Self::Crl(list) => list.run(common),
            Self::Check(check) => check.run(common),
            Self::Reencrypt(reencrypt) => reencrypt.run(common),
            Self::Issue(issue) => issue.run(common).await,
            Self::Profiles => super::ca_issue::profiles(common),
            Self::Renew(renew) => renew.run(common).await,
            Self::Rollover(rollover) => rollover.run(common).await,
            Self::Revoke(revoke) => revoke.run(common).await,
            Self::Unhold(unhold) => unhold.run(common).await,
            Self::Expiring(expiring) => expiring.run(common),
            Self::Export(export) => export.run(common),
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
        let kind = self.key.map(|key| match key {
            Key::Rsa2048 => KeyKind::Rsa2048,
            Key::EcP256 => KeyKind::EcP256,
        });
        let subject = settings.pki.display().to_string();
        let audit = Audit::begin(&home, "ca.init", &subject, &json!({ "key": kind.map(KeyKind::word) }))?;
        let done = Workshop::open_or_create(&settings, common.passphrase(&home), kind).and_then(
            |(mut workshop, made)| {
                let server = !self.no_server && workshop.ensure_server()?;
                Ok((workshop, made, server))
            },
        );
        let (workshop, made, server_made) =
            audit.end(done, |(_, made, server)| json!({ "ca_made": made.ca, "server_made": server }))?;
        settings.write_first(&home)?;
        if let Some(file) = &made.passphrase_in {
            eprintln!(
                "quoll: the CA's passphrase was made, and lies in {}: keep a copy elsewhere",
                file.display()
            );
        }
        let pki = workshop.pki();
        let server =
            if self.no_server { Value::Null } else { json!(workshop::server_name(&settings)?.as_str()) };
        let facts = [
            ("ca_made", "CA made", json!(made.ca)),
            ("server_made", "Server certificate made", json!(server_made)),
            ("ca", "CA", json!(pki.ca().subject_cn())),
            ("server", "Server", server),
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
    let list = pki.crl_status(now).map_err(trouble::pki)?;
    for problem in list.iter().flat_map(|list| &list.problems) {
        eprintln!("quoll: note: {problem}; `quoll ca crl` writes it anew");
    }
    let number = list.as_ref().and_then(|list| list.number).map(|number| number.to_string());
    let next = list.as_ref().and_then(|list| list.next_update).map(dates::day);
    let facts = [
        ("name", "Name", json!(ca.subject_cn())),
        ("folder", "Folder", json!(pki.dir().display().to_string())),
        ("key", "Key", json!(ca.key_kind().to_string())),
        ("serial", "Serial number", json!(ca.serial().to_string())),
        ("not_before", "Valid from", json!(dates::day(ca.not_before()))),
        ("not_after", "Valid until", json!(dates::day(ca.not_after()))),
        ("sha256", "SHA-256", json!(hex(&ca.fingerprint_sha256()))),
        ("valid", "Valid certificates", json!(valid)),
        ("revoked", "Revoked certificates", json!(revoked)),
        ("crl_is_behind", "Revocation list behind", Value::Bool(behind)),
        ("crl_number", "Revocation list number", json!(number)),
        ("crl_next_update", "Revocation list good until", json!(next)),
    ];
    print_facts(&facts, common.output)
}

impl Crl {
    fn run(&self, common: &Common) -> Outcome {
        match &self.export {
            Some(file) => export_crl(common, file),
            None => crl(common),
        }
    }
}

fn export_crl(common: &Common, file: &std::path::Path) -> Outcome {
    let home = common.home()?;
    let settings = common.settings(&home, &ServerArgs::default())?;
    let pki = workshop::open_pki(&settings)?;
    let list = pki.published_crl().map_err(trouble::pki)?.ok_or_else(|| {
        Failure::new(Exit::NotFound, "there is no revocation list yet").hint("write it first: quoll ca crl")
    })?;
    if pki.crl_is_behind(OffsetDateTime::now_utc()).map_err(trouble::pki)? {
        eprintln!("quoll: note: the revocation list is behind; `quoll ca crl` writes it anew");
    }
    let is_pem = file.extension().is_some_and(|end| end.eq_ignore_ascii_case("pem"));
    let content = if is_pem { list.pem().into_bytes() } else { list.der };
    write_whole(file, &content, 0o644, true)?;
    let facts = [
        ("file", "Written", json!(file.display().to_string())),
        ("form", "Form", json!(if is_pem { "PEM" } else { "DER" })),
        ("crl_next_update", "Good until", json!(list.next_update.map(dates::day))),
    ];
    print_facts(&facts, common.output)
}

/// The list of the folder named, else of every CA in force.
fn crl(common: &Common) -> Outcome {
    let home = common.home()?;
    let settings = common.settings(&home, &ServerArgs::default())?;
    let mut bench = Workshop::open(&settings, common.passphrase(&home))?;
    let issuing = workshop::issuing(&settings)?;
    let next =
        (!common.names_folder() && issuing.pki != settings.pki).then(|| bench.at(&issuing)).transpose()?;
    let first = write_crl(&home, &mut bench);
    // Where one cannot be opened, the other's is written all the same.
    let second = next.map(|mut next| write_crl(&home, &mut next));
    let (written, failed): (Vec<_>, Vec<_>) = std::iter::once(first).chain(second).partition(Result::is_ok);
    let written: Vec<_> = written.into_iter().flatten().collect();
    let keys = [("crl", "Written"), ("next_crl", "And")];
    let facts: Vec<_> =
        keys.iter().zip(&written).map(|((key, title), path)| (*key, *title, json!(path))).collect();
    match failed.into_iter().find_map(Result::err) {
        None => print_facts(&facts, common.output),
        Some(failure) if written.is_empty() => Err(failure),
        Some(failure) => {
            print_facts(&facts, common.output)?;
            Err(failure)
        }
    }
}

fn write_crl(home: &Home, bench: &mut Workshop) -> Outcome<String> {
    bench.authority()?;
    let path = bench.pki().dir().join("crl.pem").display().to_string();
    let audit = Audit::begin(home, "ca.crl", "crl.pem", &json!({}))?;
    audit.end(bench.publish_crl(), |()| json!({}))?;
    Ok(path)
}

/// Bytes as upper-case hex with colons, the way OpenSSL shows a fingerprint.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}
