//! `quoll ca issue`, `quoll ca profiles` and `quoll ca export`: certificates for anything, by a profile, and their way out.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use quoll_pki::fitness::Devices;
use quoll_pki::{
    AltNames, IfTaken, IssueRequest, KeyKind, KeySource, KeyStorage, Organisation, Passphrase, Pkcs12Form,
    Pki, Profile, Subject, Vars,
};
use serde_json::json;
use time::OffsetDateTime;

use super::ca_life::cert_name;
use super::{Common, ServerArgs};
use crate::audit::Audit;
use crate::failure::{Exit, Failure, Outcome};
use crate::home::write_whole;
use crate::output::{Listing, print_facts};
use crate::passphrase;
use crate::workshop::{self, Workshop};
use crate::{dates, trouble};

/// Arguments of `quoll ca issue`.
#[derive(Args, Debug)]
pub(crate) struct Issue {
    /// The common name, which is the file name, too
    name: String,
    /// What it is for: server, client, tasmota, subca, or one of your own (see `quoll ca profiles`)
    #[arg(long, value_name = "PROFILE")]
    profile: String,
    /// The kind of key: rsa-2048, rsa-3072, rsa-4096, ec-p256, ec-p384, ed25519 [default: vars', else the profile's]
    #[arg(long, value_name = "KIND", value_parser = parse_kind)]
    key: Option<KeyKind>,
    /// Life in days [default: vars', else the profile's]
    #[arg(long, value_name = "N")]
    days: Option<u32>,
    /// A further host name (may be repeated)
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// A further address (may be repeated)
    #[arg(long, value_name = "ADDRESS")]
    ip: Vec<IpAddr>,
    /// What the subject says besides the common name [default: as vars says, else nothing]
    #[arg(long, value_enum)]
    subject: Option<SubjectForm>,
    #[command(flatten)]
    organisation: OrganisationArgs,
    /// The devices that must be able to check a server's certificate: esp8266, esp32, fingerprint, ecdsa (all have
    /// SetOption165 1), none
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["esp8266", "esp32", "fingerprint"])]
    devices: Vec<DeviceWord>,
    /// What becomes of the key in pki/private/ [default: plain for a server, else encrypted with the CA's passphrase]
    #[arg(long, value_enum)]
    store: Option<Store>,
    /// Issue although the name has a valid certificate; that one is set aside, and valid until revoked
    #[arg(long)]
    supersede: bool,
}

/// The fields of an `org` subject; each overrules `vars`.
#[derive(Args, Clone, Debug, Default)]
struct OrganisationArgs {
    /// C, two capital letters
    #[arg(long, value_name = "XX")]
    country: Option<String>,
    /// ST
    #[arg(long, value_name = "TEXT")]
    province: Option<String>,
    /// L
    #[arg(long, value_name = "TEXT")]
    city: Option<String>,
    /// O
    #[arg(long, value_name = "TEXT")]
    organisation: Option<String>,
    /// OU
    #[arg(long, value_name = "TEXT")]
    unit: Option<String>,
    /// emailAddress
    #[arg(long, value_name = "TEXT")]
    email: Option<String>,
}

/// Easy-RSA's two forms of a subject.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum SubjectForm {
    /// CN and nothing else
    CnOnly,
    /// C, ST, L, O, OU, CN, emailAddress
    Org,
}

/// A word for devices that are there.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum DeviceWord {
    Esp8266,
    Esp32,
    Fingerprint,
    Ecdsa,
    None,
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Store {
    Encrypted,
    Plain,
}

/// Arguments of `quoll ca export`.
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// The certificate's name
    name: String,
    /// The form: p12 (AES), p12-legacy (3DES, for iOS and old phones), pem (key, certificate, CA in one file), crt
    /// (certificate and CA, no key)
    #[arg(long, value_enum, default_value_t = Form::P12)]
    form: Form,
    /// The file to write [default: NAME.p12 or NAME.pem here]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A file with the passphrase of the .p12 on its first line [default: it is asked for]
    #[arg(long, value_name = "FILE")]
    export_passphrase_file: Option<PathBuf>,
}

/// A form to hand out.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Form {
    P12,
    P12Legacy,
    Pem,
    Crt,
}

pub(super) fn parse_kind(word: &str) -> Result<KeyKind, String> {
    KeyKind::from_word(word)
        .ok_or_else(|| format!("there are {}", KeyKind::ALL.map(KeyKind::word).join(", ")))
}

/// The profile of that name, which must be there.
pub(super) fn profile(pki: &Pki, word: &str) -> Outcome<Profile> {
    pki.profile(word).map_err(trouble::pki)?.ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("there is no profile {word}"))
            .hint("quoll ca profiles lists them; your own are files pki/profiles/NAME.toml")
    })
}

/// The devices that words stand for.
pub(super) fn devices(words: &[DeviceWord]) -> Devices {
    let said = |word| words.contains(&word);
    Devices {
        esp8266: said(DeviceWord::Esp8266),
        esp32: said(DeviceWord::Esp32),
        fingerprint: said(DeviceWord::Fingerprint),
        ecdsa: said(DeviceWord::Ecdsa),
    }
}

impl Issue {
    pub(crate) async fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let settings = common.settings(&home, &ServerArgs::default())?;
        let name = cert_name(&self.name)?;
        let mut workshop = Workshop::open(&settings, common.passphrase(&home))?;
        let vars = workshop.pki().vars().map_err(trouble::pki)?.unwrap_or_default();
        for note in &vars.notes {
            eprintln!("quoll: note: {}: {note}", vars.path.display());
        }
        let profile = profile(workshop.pki(), &self.profile)?;
        let (authority, passphrase) = workshop.authority()?;
        let storage = match self.store.unwrap_or(if profile == Profile::Server {
            Store::Plain
        } else {
            Store::Encrypted
        }) {
            Store::Encrypted => KeyStorage::Encrypted(passphrase.clone()),
            Store::Plain => KeyStorage::Plain,
        };
        let mut request = IssueRequest::new(profile, name.clone(), storage);
        request.key = KeySource::Generate(self.key_kind(profile, &vars));
        request.days = self.days.or(vars.days);
        request.alt_names = AltNames { dns: self.dns.clone(), ip: self.ip.clone() };
        request.subject = self.subject(&vars);
        request.devices = Some(devices(&self.devices));
        if self.supersede {
            request.if_taken = IfTaken::Supersede;
        }
        let audit = Audit::begin(&home, "ca.issue", name.as_str(), &json!({ "profile": self.profile }))?;
        let done = authority.issue(&request, OffsetDateTime::now_utc()).map_err(trouble::pki);
        let issued =
            audit.end(done, |issued| json!({ "serial": issued.certificate.serial().to_string() }))?;
        for warning in &issued.warnings {
            eprintln!("quoll: note: {warning}");
        }
        crate::bell::ring(&home).await?;
        let certificate = &issued.certificate;
        let folder = authority.pki().dir();
        let facts = [
            ("name", "Name", json!(name.as_str())),
            ("profile", "Profile", json!(profile.to_string())),
            ("key_kind", "Key", json!(certificate.key_kind().to_string())),
            ("serial", "Serial number", json!(certificate.serial().to_string())),
            ("not_after", "Valid until", json!(dates::day(certificate.not_after()))),
            ("bytes", "Bytes", json!(certificate.der().len())),
            (
                "certificate",
                "Certificate",
                json!(folder.join(format!("issued/{name}.crt")).display().to_string()),
            ),
            ("key", "Key file", json!(folder.join(format!("private/{name}.key")).display().to_string())),
        ];
        print_facts(&facts, common.output)
    }

    /// `vars` speaks of the keys that Easy-RSA makes for everything; where a profile cannot have it, its own default
    /// stands, and so it does for a server, which devices must be able to check.
    fn key_kind(&self, profile: Profile, vars: &Vars) -> KeyKind {
        let from_vars = vars.key.filter(|kind| profile != Profile::Server && profile.keys().contains(kind));
        self.key.or(from_vars).unwrap_or_else(|| profile.default_key())
    }

    fn subject(&self, vars: &Vars) -> Subject {
        let said = &self.organisation;
        let fields = [&said.country, &said.province, &said.city, &said.organisation, &said.unit, &said.email];
        let form = self.subject.unwrap_or_else(|| {
            let org = vars.organisation.is_some() || fields.iter().any(|field| field.is_some());
            if org { SubjectForm::Org } else { SubjectForm::CnOnly }
        });
        if form == SubjectForm::CnOnly {
            return Subject::CnOnly;
        }
        let from = vars.organisation.clone().unwrap_or_default();
        Subject::Org(Organisation {
            country: said.country.clone().unwrap_or(from.country),
            province: said.province.clone().unwrap_or(from.province),
            city: said.city.clone().unwrap_or(from.city),
            organisation: said.organisation.clone().unwrap_or(from.organisation),
            unit: said.unit.clone().unwrap_or(from.unit),
            email: said.email.clone().unwrap_or(from.email),
        })
    }
}

/// `quoll ca profiles`.
pub(crate) fn profiles(common: &Common) -> Outcome {
    let home = common.home()?;
    let settings = common.settings(&home, &ServerArgs::default())?;
    let profiles = match workshop::is_made(&settings) {
        true => workshop::open_pki(&settings)?.profiles().map_err(trouble::pki)?,
        false => Profile::BUILT_IN.to_vec(),
    };
    let mut listing = Listing::new(
        &[
            ("name", "PROFILE"),
            ("key", "KEY"),
            ("keys", "OR"),
            ("days", "DAYS"),
            ("own", "YOUR OWN"),
            ("about", "FOR"),
        ],
        "no profiles",
    );
    for profile in profiles {
        let others: Vec<_> = profile
            .keys()
            .iter()
            .filter(|kind| **kind != profile.default_key())
            .map(|kind| kind.word())
            .collect();
        listing.row(vec![
            json!(profile.to_string()),
            json!(profile.default_key().word()),
            json!(others),
            json!(profile.days()),
            json!(matches!(profile, Profile::User(_))),
            json!(profile.about()),
        ]);
    }
    listing.print(common.output)
}

impl Export {
    pub(crate) fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let settings = common.settings(&home, &ServerArgs::default())?;
        let pki = workshop::open_pki(&settings)?;
        let name = cert_name(&self.name)?;
        let certificate = pki.certificate(&name).map_err(trouble::pki)?.ok_or_else(|| {
            Failure::new(Exit::NotFound, format!("there is no certificate named {name}"))
                .hint("quoll ca check lists them all")
        })?;
        let out = self.out.clone().unwrap_or_else(|| match self.form {
            Form::P12 | Form::P12Legacy => format!("{name}.p12").into(),
            Form::Pem => format!("{name}.pem").into(),
            Form::Crt => format!("{name}-chain.crt").into(),
        });
        let cas = pki.ca_chain().map_err(trouble::pki)?;
        let chain =
            std::iter::once(&certificate).chain(&cas).map(quoll_pki::Certificate::pem).collect::<String>();
        if self.form == Form::Crt {
            write_whole(&out, chain.as_bytes(), 0o644, false)?;
        } else {
            let key = self.key(common, &pki, &name)?;
            let content = match self.form {
                Form::Pem => zeroize::Zeroizing::new([key.pkcs8_pem().as_bytes(), chain.as_bytes()].concat()),
                _ => {
                    let form =
                        if self.form == Form::P12 { Pkcs12Form::Aes256 } else { Pkcs12Form::TripleDes };
                    let pass = export_passphrase(self.export_passphrase_file.as_ref())?;
                    let cas: Vec<_> = cas.iter().collect();
                    let p12 = key.to_pkcs12(name.as_str(), &certificate, &cas, &pass, form);
                    zeroize::Zeroizing::new(p12.map_err(trouble::pki)?)
                }
            };
            let audit = Audit::begin(
                &home,
                "ca.export",
                name.as_str(),
                &json!({ "form": format!("{:?}", self.form) }),
            )?;
            audit.end(write_whole(&out, &content, 0o600, false), |()| json!({}))?;
        }
        let facts = [
            ("name", "Name", json!(name.as_str())),
            ("serial", "Serial number", json!(certificate.serial().to_string())),
            ("file", "Written", json!(out.display().to_string())),
        ];
        print_facts(&facts, common.output)
    }

    /// The key, asking for a passphrase only if the file is encrypted.
    fn key(&self, common: &Common, pki: &Pki, name: &quoll_pki::CertName) -> Outcome<quoll_pki::PrivateKey> {
        match pki.server_key_pem(name) {
            Err(quoll_pki::PkiError::Encrypted { .. }) => {}
            // Plain: no passphrase is looked at.
            Ok(_) => return pki.private_key(name, &Passphrase::new("")).map_err(trouble::pki),
            Err(other) => return Err(trouble::pki(other)),
        }
        let home = common.home()?;
        let ca = pki.ca().subject_cn().unwrap_or("without a name");
        let passphrase = common.passphrase(&home).of_existing(ca)?;
        pki.private_key(name, &passphrase).map_err(trouble::pki)
    }
}

/// The passphrase of a file that is handed out: from a file, or asked twice.
pub(super) fn export_passphrase(file: Option<&PathBuf>) -> Outcome<Passphrase> {
    match file {
        Some(file) => passphrase::read(file),
        None => passphrase::ask_twice("Passphrase of the .p12 file: "),
    }
}
