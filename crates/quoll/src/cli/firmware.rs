//! `quoll firmware`: the files that a Tasmota is compiled with which trusts our CA, or our server's key.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use quoll_pki::Certificate;
use quoll_pki::bundle::BUNDLE_MAX;
use quoll_pki::bundle::anchors::AnchorsBundle;
use quoll_pki::bundle::manifest::ServerMark;
use quoll_tasmota::Fingerprint;
use quoll_tasmota::firmware::{
    Chip, Comment, Kit, KitError, Level, Release, Sources, Target, Trust, TrustAnchor, begins_a_section,
    is_our_header, lint, merge, source_version,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::firmware_lint::Lint;
use super::{Common, ServerArgs};
use crate::failure::{Exit, Failure, Outcome, io_failure};
use crate::home::write_whole;
use crate::output::print_facts;
use crate::{trouble, workshop};

/// Largest header or configuration that is read, in bytes: ten times Tasmota's own my_user_config.h.
const SOURCE_MAX: u64 = 1 << 20;

/// What is compiled where nobody says otherwise.
pub(super) const RELEASE: Release = Release::new([15, 3, 0, 0]);

/// Arguments of `quoll firmware`.
#[derive(Args, Debug)]
#[command(subcommand_negates_reqs = true)]
pub(crate) struct Firmware {
    #[command(subcommand)]
    act: Option<Act>,
    /// The chip to compile for
    #[arg(long = "for", value_enum, value_name = "CHIP", required = true)]
    chip: Option<ChipName>,
    /// The version of Tasmota [default: what --source says, else 15.3]
    #[arg(long, value_name = "VERSION")]
    tasmota: Option<Release>,
    /// How devices know the server
    #[arg(long, value_enum, default_value_t = TrustName::Ca)]
    trust: TrustName,
    /// A CA to trust: a certificate (PEM, DER) or a .quollanchors file; may be repeated [default: this home's CA, and the
    /// next one during a rollover]
    #[arg(long, value_name = "FILE")]
    ca: Vec<PathBuf>,
    /// The fingerprint of the server's key, as `quoll server show` prints it; may be said twice, for the next key
    /// [default: this home's server]
    #[arg(long, value_name = "BYTES")]
    fingerprint: Vec<Fingerprint>,
    /// What devices connect to [default: as the home or the .quollanchors file has it]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// The port of MQTT over TLS [default: as above, else 8883]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Build an ESP8266 with -DUSE_4K_RSA, for a CA with an RSA key over 2048 bits
    #[arg(long)]
    rsa_4096: bool,
    /// The folder to write into [default: quoll-firmware-CHIP]
    #[arg(long, value_name = "DIR", conflicts_with = "source")]
    out: Option<PathBuf>,
    /// Tasmota's source folder: the files go where they belong, and into those that are there goes a marked section
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// Write over files that quoll did not write
    #[arg(long)]
    force: bool,
}

/// What else there is to do.
#[derive(Debug, Subcommand)]
enum Act {
    /// Say what in a user_config_override.h is obsolete, missing or contradictory
    #[command(
        after_help = "Example:\n  quoll firmware lint tasmota/user_config_override.h --for esp8266 --tasmota 15.3\n\nEnds with 0 where there is \
        no error (with --strict: nor a warning), else with 3. Error: it does not compile, devices with it do not \
        connect, or they trust anybody. Warning: it does not do what it seems to do, or leaves something to do on each \
        device. Note: worth knowing."
    )]
    Lint(Lint),
}

/// A chip, as people write it.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ChipName {
    Esp8266,
    Esp32,
}

/// How devices know the server, as people write it.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum TrustName {
    /// By the CA that signed its certificate
    Ca,
    /// By the fingerprint of its RSA key, which must stay the same
    Fingerprint,
}

impl ChipName {
    pub(super) fn chip(self) -> Chip {
        match self {
            Self::Esp8266 => Chip::Esp8266,
            Self::Esp32 => Chip::Esp32,
        }
    }
}

/// What the command line, a bundle and the home say together.
struct Known {
    anchors: Vec<TrustAnchor>,
    /// What the server's certificate says, where it is known.
    server: Option<ServerMark>,
    /// The server is known, and its key is not RSA.
    has_other_key: bool,
    phrases: Vec<String>,
}

/// A file to write.
struct Planned {
    path: PathBuf,
    content: Vec<u8>,
    is_there: bool,
}

impl Firmware {
    pub(crate) fn run(&self, common: &Common) -> Outcome {
        if let Some(Act::Lint(lint)) = &self.act {
            return lint.run(common, self.chip, self.tasmota);
        }
        let chip = self.chip.map(ChipName::chip).expect("clap asks for it");
        let release = self.release()?;
        let known = self.known(common)?;
        let kit = self.kit(chip, release, &known)?;
        let sources = kit.clone().sources().map_err(kit_failure)?;
        let planned = self.plan(chip, &sources)?;
        let mut notes = sources.notes.clone();
        notes.extend(name_note(&kit, known.server.as_ref()));
        notes.extend(lint_notes(&planned, Target { chip: Some(chip), release }));
        let files = write(&planned)?;
        self.report(common, &kit, &sources, &known, &files, &notes)
    }

    /// `--tasmota`, and what the source folder says of itself; they must not differ.
    fn release(&self) -> Outcome<Release> {
        let Some(source) = &self.source else { return Ok(self.tasmota.unwrap_or(RELEASE)) };
        if !source.join("tasmota/my_user_config.h").is_file() {
            return Err(Failure::new(
                Exit::Unusable,
                format!("{} is not Tasmota's source folder", source.display()),
            )
            .why("it has no tasmota/my_user_config.h")
            .hint(
                "give the folder that git clone or the archive made; or write the files elsewhere with --out",
            ));
        }
        let mut found = None;
        for place in ["tasmota/include/tasmota_version.h", "tasmota/tasmota_version.h"] {
            let text = read_source(&source.join(place))?;
            found = found.or_else(|| source_version(&String::from_utf8_lossy(&text.unwrap_or_default())));
        }
        match (self.tasmota, found) {
            (Some(said), Some(found)) if !said.is_of_the_same_release(found) => {
                Err(Failure::new(Exit::Usage, format!("{} is Tasmota {found}, not {said}", source.display()))
                    .hint("leave --tasmota away, or check the other version out"))
            }
            (said, found) => Ok(found.or(said).unwrap_or(RELEASE)),
        }
    }

    fn known(&self, common: &Common) -> Outcome<Known> {
        let mut known =
            Known { anchors: Vec::new(), server: None, has_other_key: false, phrases: Vec::new() };
        for file in &self.ca {
            known.add(file)?;
        }
        let home = common.home()?;
        let settings = common.settings(&home, &ServerArgs::default())?;
        let needs_ca = self.ca.is_empty() && matches!(self.trust, TrustName::Ca);
        if !needs_ca && !workshop::is_made(&settings) {
            return Ok(known);
        }
        let pki = workshop::open_pki(&workshop::serving(&settings)?)?;
        if needs_ca {
            // Both during a rollover: devices with this firmware need no second flashing.
            for ca in workshop::anchors(&settings)? {
                known.anchors.push(anchor(ca.der(), &pki.dir().join("ca.crt"))?);
            }
        }
        if known.server.is_none() {
            let certificate = pki.certificate(&workshop::server_name(&settings)?).map_err(trouble::pki)?;
            let rsa = certificate.as_ref().and_then(Certificate::rsa_public_key);
            known.has_other_key = certificate.is_some() && rsa.is_none();
            known.server = Some(ServerMark {
                host: settings.host.clone(),
                port: settings.device_port(),
                names: certificate.as_ref().map(|it| it.dns_names().to_vec()).unwrap_or_default(),
                addresses: Vec::new(),
                mqtt_fingerprint: rsa
                    .and_then(|(n, e)| Fingerprint::of_rsa(&n, &e).ok())
                    .map(|print| print.to_string()),
            });
        }
        Ok(known)
    }

    fn kit(&self, chip: Chip, release: Release, known: &Known) -> Outcome<Kit> {
        let server = known.server.as_ref();
        let mut fingerprints = self.fingerprint.clone();
        let trust = match self.trust {
            TrustName::Ca => Trust::Ca,
            TrustName::Fingerprint => Trust::Fingerprint,
        };
        if trust == Trust::Fingerprint && fingerprints.is_empty() {
            if known.has_other_key {
                return Err(Failure::new(
                    Exit::Firmware,
                    "the server's key has no fingerprint that devices compare",
                )
                .why("it is not RSA, and by fingerprint a device offers RSA alone")
                .hint("use --trust ca, or give the server an RSA key"));
            }
            let print = server.and_then(|server| server.mqtt_fingerprint.as_deref());
            fingerprints.extend(print.and_then(|print| print.parse::<Fingerprint>().ok()));
        }
        Ok(Kit {
            chip,
            release,
            trust,
            anchors: known.anchors.clone(),
            fingerprints,
            host: self.host.clone().or_else(|| server.map(|server| server.host.clone())),
            port: self.port.or_else(|| server.map(|server| server.port)).unwrap_or(8883),
            rsa_4096: self.rsa_4096,
        })
    }

    /// What goes where. Nothing is written yet, so that one file that cannot be leaves all as they are.
    fn plan(&self, chip: Chip, sources: &Sources) -> Outcome<Vec<Planned>> {
        let (headers, config, ini) = match &self.source {
            Some(source) => {
                let tasmota = source.join("tasmota");
                // Before 12.1 the headers lay beside the sources.
                let include = tasmota.join("include");
                (if include.is_dir() { include } else { tasmota.clone() }, tasmota, source.clone())
            }
            None => {
                let name = match chip {
                    Chip::Esp8266 => "quoll-firmware-esp8266",
                    Chip::Esp32 => "quoll-firmware-esp32",
                };
                let out = self.out.clone().unwrap_or_else(|| PathBuf::from(name));
                (out.clone(), out.clone(), out)
            }
        };
        let mut planned = Vec::new();
        for (name, text) in
            [("local_ca_data.h", &sources.data), ("local_ca_descriptor.h", &sources.descriptor)]
        {
            let Some(text) = text else { continue };
            let path = headers.join(name);
            let there = read_source(&path)?;
            if there.as_deref().is_some_and(|there| !is_our_header(there)) && !self.force {
                return Err(foreign(&path));
            }
            planned.push(Planned::new(path, text.clone().into_bytes(), there.as_deref()));
        }
        for (path, section, comment) in [
            (config.join("user_config_override.h"), &sources.override_section, Comment::Slashes),
            (ini.join("platformio_override.ini"), &sources.platformio_section, Comment::Semicolon),
        ] {
            // A symbolic link stays one: the file it leads to is written.
            let path = fs::canonicalize(&path).unwrap_or(path);
            let there = read_source(&path)?;
            let is_foreign = there.as_deref().is_some_and(|there| !begins_a_section(there, comment));
            let base = match (is_foreign && self.source.is_none(), self.force) {
                (true, false) => return Err(foreign(&path)),
                (true, true) => None,
                (false, _) => there.as_deref(),
            };
            let content = merge(base, section, comment).map_err(|error| {
                let hint = error.hint();
                Failure::new(Exit::Unusable, format!("{} cannot take quoll's section", path.display()))
                    .why(error)
                    .maybe_hint(hint)
            })?;
            planned.push(Planned::new(path, content, there.as_deref()));
        }
        Ok(planned)
    }

    fn report(
        &self,
        common: &Common,
        kit: &Kit,
        sources: &Sources,
        known: &Known,
        files: &[(String, &str)],
        notes: &[String],
    ) -> Outcome {
        let names: Vec<_> = kit.anchors.iter().map(|it| format!("{}, {}", it.name(), it.kind())).collect();
        let prints: Vec<_> = kit.fingerprints.iter().map(ToString::to_string).collect();
        let files: Vec<_> = files.iter().map(|(path, what)| format!("{path} ({what})")).collect();
        let chip = if kit.chip == Chip::Esp8266 { "esp8266" } else { "esp32" };
        let trust = if kit.trust == Trust::Ca { "ca" } else { "fingerprint" };
        let facts = [
            ("chip", "Chip", json!(chip)),
            ("tasmota", "Tasmota", json!(kit.release.to_string())),
            ("trust", "Trust by", json!(trust)),
            ("anchors", "CAs", json!(names)),
            ("phrases", "Comparison phrase", json!(known.phrases)),
            ("fingerprints", "Fingerprints", json!(prints)),
            ("host", "Devices connect to", json!(kit.host)),
            ("port", "Port", json!(kit.port)),
            ("files", "Files", json!(files)),
            ("compile", "Compile with", json!(format!("pio run -e {}", sources.environment))),
            ("notes", "Notes", json!(notes)),
        ];
        let is_empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
        let facts: Vec<_> =
            facts.into_iter().filter(|fact| !(common.is_for_people() && is_empty(&fact.2))).collect();
        print_facts(&facts, common.output)
    }
}

impl Known {
    /// Takes a CA, or a bundle of them.
    fn add(&mut self, file: &Path) -> Outcome {
        let bytes = read(file, BUNDLE_MAX)?.ok_or_else(|| {
            Failure::new(Exit::NotFound, format!("there is no file {}", file.display()))
                .hint("give a CA's certificate, such as pki/ca.crt, or what quoll ca export-anchors wrote")
        })?;
        if bytes.first() == Some(&0x30) {
            self.anchors.push(anchor(&bytes, file)?);
            return Ok(());
        }
        let is_pem = bytes.windows(11).any(|window| window == b"-----BEGIN ");
        if is_pem && !bytes.contains(&0) {
            let before = self.anchors.len();
            for block in CertificateDer::pem_slice_iter(&bytes) {
                let der = block.map_err(|error| unusable(file, &format!("its PEM is damaged: {error:?}")))?;
                self.anchors.push(anchor(&der, file)?);
            }
            let none = self.anchors.len() == before;
            return if none { Err(unusable(file, "there is no certificate in it")) } else { Ok(()) };
        }
        let bundle = AnchorsBundle::read(&bytes).map_err(|error| trouble::bundle_file(file, error))?;
        for ca in &bundle.anchors {
            self.anchors.push(anchor(ca.der(), file)?);
        }
        self.phrases.push(bundle.phrase.to_string());
        self.has_other_key |= bundle.server.as_ref().is_some_and(|it| it.mqtt_fingerprint.is_none());
        self.server = self.server.take().or(bundle.server);
        Ok(())
    }
}

impl Planned {
    fn new(path: PathBuf, content: Vec<u8>, there: Option<&[u8]>) -> Self {
        let is_there = there == Some(content.as_slice());
        Self { path, content, is_there }
    }
}

fn write(planned: &[Planned]) -> Outcome<Vec<(String, &'static str)>> {
    let mut files = Vec::new();
    for file in planned {
        let what = if file.is_there { "unchanged" } else { "written" };
        if !file.is_there {
            if let Some(folder) = file.path.parent() {
                fs::create_dir_all(folder).map_err(|error| io_failure("make the folder", folder, &error))?;
            }
            write_whole(&file.path, &file.content, 0o644, true)?;
        }
        files.push((file.path.display().to_string(), what));
    }
    Ok(files)
}

/// In CA mode a device compares the host, as text, with the DNS names of the server's certificate. Facts §3.3.
fn name_note(kit: &Kit, server: Option<&ServerMark>) -> Option<String> {
    let (host, names) = (kit.host.as_ref()?, &server?.names);
    let fits = names.is_empty() || names.iter().any(|name| name.eq_ignore_ascii_case(host));
    (kit.trust == Trust::Ca && !fits).then(|| {
        format!(
            "the server's certificate does not have {host} as a DNS name, and devices will refuse it (TLS error 56): \
             add it to [server] of quoll.toml, then: quoll server renew"
        )
    })
}

/// What is wrong in the rest of an override that was there.
fn lint_notes(planned: &[Planned], target: Target) -> Vec<String> {
    let Some(file) = planned.iter().find(|file| file.path.ends_with("user_config_override.h")) else {
        return Vec::new();
    };
    let findings = lint(&file.content, target);
    findings
        .iter()
        .filter(|it| it.level > Level::Note)
        .map(|it| format!("{} line {}: {}: {}", file.path.display(), it.line, it.name, it.what))
        .collect()
}

fn anchor(der: &[u8], file: &Path) -> Outcome<TrustAnchor> {
    TrustAnchor::from_certificate(der).map_err(|error| {
        let hint = error.hint();
        unusable(file, &error.to_string()).maybe_hint(hint)
    })
}

fn kit_failure(error: KitError) -> Failure {
    let exit = match &error {
        KitError::NoAnchor
        | KitError::NoFingerprint
        | KitError::TooManyAnchors { .. }
        | KitError::TooManyFingerprints { .. }
        | KitError::Host { .. }
        | KitError::Port => Exit::Usage,
        _ => Exit::Firmware,
    };
    let hint = error.hint();
    Failure::new(exit, "no firmware was prepared").why(error).maybe_hint(hint)
}

fn unusable(file: &Path, why: &str) -> Failure {
    Failure::new(Exit::Unusable, format!("{} is no CA that devices could trust", file.display()))
        .why(why)
        .hint("give a CA's certificate, such as pki/ca.crt, or what quoll ca export-anchors wrote")
}

fn foreign(path: &Path) -> Failure {
    Failure::new(Exit::Unusable, format!("{} is there already, and quoll did not write it", path.display()))
        .why("nothing was written")
        .hint("move it away, choose another folder with --out, or say --force to write over it")
}

/// A text of somebody's source tree; `None` where there is none.
pub(super) fn read_source(path: &Path) -> Outcome<Option<Vec<u8>>> {
    read(path, SOURCE_MAX)
}

fn read(path: &Path, most: u64) -> Outcome<Option<Vec<u8>>> {
    let fail = |error: &std::io::Error| io_failure("read", path, error);
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(&error)),
    };
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| fail(&error))?;
    if bytes.len() as u64 > most {
        return Err(Failure::new(Exit::Unusable, format!("{} has over {most} bytes", path.display()))
            .hint("is it the right file?"));
    }
    Ok(Some(bytes))
}
