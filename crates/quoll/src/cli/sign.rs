//! `quoll ca sign` and `quoll ca export-anchors`: on the CA's machine, which has no network.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use quoll_pki::bundle::manifest::ServerMark;
use quoll_pki::bundle::sign::{Decisions, Line, RequestBundle, Signing};
use quoll_pki::bundle::{BUNDLE_MAX, Phrase, anchors};
use quoll_tasmota::Fingerprint;
use serde_json::json;
use time::OffsetDateTime;

use super::request::refuse_there;
use super::{Common, ServerArgs, confirm};
use crate::audit::Audit;
use crate::failure::{Exit, Failure, Outcome, io_failure};
use crate::home::write_whole;
use crate::output::{Format, Listing, print, print_facts};
use crate::workshop::{self, Workshop};
use crate::{dates, trouble};

/// Lines of a long request that a person is shown; the rest is counted.
const LINES_SHOWN: usize = 30;

/// Arguments of `quoll ca sign`.
#[derive(Args, Debug)]
pub(crate) struct SignRequest {
    /// The request, a .quollreq file
    file: PathBuf,
    /// The answer to write [default: the request's name, ending in .quollcert]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    compared: Compared,
    /// Write the answer to a request that was signed before once more; nothing is signed then
    #[arg(long)]
    again: bool,
    /// Go on although the clock is behind this CA's last act
    #[arg(long)]
    clock_is_right: bool,
}

/// How a person says that two screens show the same.
#[derive(Args, Debug)]
pub(crate) struct Compared {
    /// The comparison phrase of the other screen; what differs is refused
    #[arg(long, value_name = "PHRASE")]
    phrase: Option<Phrase>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Arguments of `quoll ca export-anchors`.
#[derive(Args, Debug)]
pub(crate) struct ExportAnchors {
    /// The file to write, for example home.quollanchors
    file: PathBuf,
    /// The name or address that devices are told to connect to
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
}

impl Compared {
    /// Goes on only if the phrases are the same, or a person says so.
    pub(super) fn check(&self, here: Phrase, question: &str) -> Outcome {
        match self.phrase {
            Some(said) if said == here => Ok(()),
            Some(said) => Err(trouble::bundle(quoll_pki::bundle::BundleError::PhraseDiffers { here, said })),
            None => confirm(self.yes, question).map_err(|failure| {
                failure.hint("compare the phrase, and say it with --phrase, or say --yes if you mean it")
            }),
        }
    }
}

impl SignRequest {
    pub(crate) fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let settings = common.settings(&home, &ServerArgs::default())?;
        let out = self.out.clone().unwrap_or_else(|| self.file.with_extension("quollcert"));
        refuse_there(&out)?;
        let mut workshop = Workshop::open(&settings, common.passphrase(&home))?;
        let bytes = read(&self.file)?;
        let bad = |error| trouble::bundle_file(&self.file, error);
        let bundle = RequestBundle::read(&bytes).map_err(bad)?;
        let (from, created) = bundle.from();
        let asked =
            format!("Request {} from {}, made {}", bundle.id(), from.escape_debug(), created.escape_debug());
        let now = OffsetDateTime::now_utc();
        let decisions = Decisions { again: self.again, clock_is_right: self.clock_is_right };
        let signing = Signing::prepare(workshop.pki(), bundle, decisions, now).map_err(bad)?;

        let (lines, phrase, id) = (signing.lines().to_vec(), signing.phrase(), signing.id().to_owned());
        if common.is_for_people() {
            show(&asked, &lines, phrase)?;
        }
        let question = if self.again {
            "Write the same answer again?"
        } else {
            "Is the phrase the same there, and shall all this be signed?"
        };
        self.compared.check(phrase, question)?;
        let (authority, _) = workshop.authority()?;
        let count = certificates(&lines);
        let detail = json!({
            "certificates": count, "revocations": lines.len() - count, "phrase": phrase.to_string(),
        });
        let audit = Audit::begin(&home, "ca.sign", &id, &detail)?;
        let bar = progress(count, "certificates");
        let done = signing.sign(&authority, now, |count| bar.set_position(count as u64)).map_err(bad);
        bar.finish_and_clear();
        let done = done.and_then(|signed| {
            write_whole(&out, &signed.bytes, 0o644, false)?;
            signed.finish(workshop.pki(), now).map_err(bad)?;
            Ok(signed)
        });
        let signed = audit.end(done, |signed| {
            json!({ "signed": signed.signed, "signed_before": signed.kept, "revoked": signed.revoked })
        })?;
        for (name, warning) in &signed.warnings {
            eprintln!("quoll: note: {name}: {warning}");
        }
        let ca = workshop.pki().ca();
        let facts = [
            ("file", "Written", json!(out.display().to_string())),
            ("id", "Request", json!(id)),
            ("signed", "Signed", json!(signed.signed)),
            ("signed_before", "Signed before", json!(signed.kept)),
            ("revoked", "Revoked", json!(signed.revoked)),
            ("ca", "CA", json!(ca.subject_cn())),
            ("ca_phrase", "The CA's phrase", json!(Phrase::of(ca.der()).to_string())),
        ];
        print_facts(&facts, common.output)?;
        if common.is_for_people() {
            let file = out.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            print(&format!("\nCarry it back to the server:\n  quoll accept {file}\n"))?;
        }
        Ok(())
    }
}

impl ExportAnchors {
    pub(crate) fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let server = ServerArgs { host: self.host.clone(), ..ServerArgs::default() };
        let settings = common.settings(&home, &server)?;
        refuse_there(&self.file)?;
        let pki = workshop::open_pki(&workshop::serving(&settings)?)?;
        let cas = workshop::anchors(&settings)?;
        let certificate = pki.certificate(&workshop::server_name(&settings)?).map_err(trouble::pki)?;
        let fingerprint = certificate.as_ref().and_then(|certificate| certificate.rsa_public_key());
        let fingerprint = fingerprint.and_then(|(n, e)| Fingerprint::of_rsa(&n, &e).ok());
        let mark = certificate.map(|certificate| ServerMark {
            host: settings.host.clone(),
            port: settings.device_port(),
            names: certificate.dns_names().to_vec(),
            addresses: certificate.ip_addresses().iter().map(ToString::to_string).collect(),
            mqtt_fingerprint: fingerprint.map(|print| print.to_string()),
        });
        let host = mark.as_ref().map(|mark| format!("{}:{}", mark.host, mark.port));
        let (bytes, phrase) =
            anchors::export(&cas.iter().collect::<Vec<_>>(), mark, OffsetDateTime::now_utc())
                .map_err(trouble::bundle)?;
        write_whole(&self.file, &bytes, 0o644, false)?;
        let facts = [
            ("file", "Written", json!(self.file.display().to_string())),
            ("ca", "CA", json!(pki.ca().subject_cn())),
            ("sha256", "SHA-256", json!(super::ca::hex(&pki.ca().fingerprint_sha256()))),
            ("not_after", "Valid until", json!(dates::day(pki.ca().not_after()))),
            ("device_host", "Devices connect to", json!(host)),
            ("phrase", "Comparison phrase", json!(phrase.to_string())),
        ];
        for ca in &cas[1..] {
            let name = ca.subject_cn().unwrap_or_default();
            eprintln!("quoll: note: a rollover is under way, so the CA {name} is in it, too");
        }
        print_facts(&facts, common.output)
    }
}

/// A bar on standard error, where a person looks on; it says nothing to a file or a pipe.
pub(super) fn progress(length: usize, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(length as u64).with_message(what);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg} {eta}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Reads a bundle, and no more than one can be.
pub(super) fn read(file: &Path) -> Outcome<Vec<u8>> {
    let fail = |error: std::io::Error| io_failure("read", file, &error);
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::new(Exit::NotFound, format!("there is no file {}", file.display()))
                .hint("is the medium mounted?")
        }
        _ => fail(error),
    })?;
    opened.take(BUNDLE_MAX + 1).read_to_end(&mut bytes).map_err(fail)?;
    Ok(bytes)
}

fn certificates(lines: &[Line]) -> usize {
    lines.iter().filter(|line| matches!(line, Line::Certificate { .. })).count()
}

/// What will be signed, for a person.
fn show(asked: &str, lines: &[Line], phrase: Phrase) -> Outcome {
    let columns = [
        ("act", "ACT"),
        ("name", "NAME"),
        ("profile", "PROFILE"),
        ("key", "KEY"),
        ("names", "NAMES OR REASON"),
    ];
    let mut listing = Listing::new(&columns, "no certificates, no revocations: only a fresh revocation list");
    for line in lines.iter().take(LINES_SHOWN) {
        listing.row(match line {
            Line::Certificate { name, profile, key, names, replaces, new_key, signed } => {
                let act = match (signed, replaces) {
                    (true, _) => "signed before",
                    (false, Some(_)) if *new_key => "NEW KEY",
                    (false, Some(_)) => "renew",
                    (false, None) => "sign",
                };
                vec![json!(act), json!(name), json!(profile), json!(key), json!(names)]
            }
            Line::Revocation { name, serial, reason } => {
                let name = name.as_deref().unwrap_or("?");
                vec![json!("REVOKE"), json!(name), json!(""), json!(serial), json!(reason)]
            }
        });
    }
    print(&format!("{asked}\n\n{}", listing.render(Format::Table)?))?;
    if lines.len() > LINES_SHOWN {
        let hidden = &lines[LINES_SHOWN..];
        let mut counts: Vec<(String, usize)> = Vec::new();
        for line in hidden {
            let word = match line {
                Line::Certificate { profile, .. } => format!("{profile} certificates"),
                Line::Revocation { .. } => "revocations".into(),
            };
            match counts.iter_mut().find(|(known, _)| *known == word) {
                Some((_, count)) => *count += 1,
                None => counts.push((word, 1)),
            }
        }
        let counts: Vec<_> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
        print(&format!("... and {} more; all of them: tar -xOf FILE manifest.json\n", counts.join(", ")))?;
    }
    print(&format!("\nComparison phrase: {phrase}\n\n"))
}
