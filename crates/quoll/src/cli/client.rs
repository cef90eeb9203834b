//! `quoll client`: certificates for people, Home Assistant, scripts.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use quoll_fleet::client::{Client as Account, ClientName, Role};
use quoll_fleet::registry::{Owner, Registry};
use quoll_pki::{CertName, Certificate, IssueRequest, KeyStorage, PrivateKey, Profile};
use serde_json::json;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::client_files::{Bundle, ForArgs};
use super::{Common, ServerArgs, confirm};
use crate::config::Settings;
use crate::failure::{Exit, Failure, Outcome, io_failure};
use crate::home::{Home, write_whole};
use crate::output::{Format, Listing, print, print_facts};
use crate::revocation;
use crate::workshop::{self, Workshop};
use crate::{dates, trouble};

/// Certificates for people, Home Assistant, scripts.
#[derive(Debug, Subcommand)]
pub(crate) enum Client {
    /// Issue a certificate and write a folder with all that a client needs
    #[command(
        after_help = "Example:\n  quoll client add alice\n  quoll client add hass --role home-assistant --for home-assistant --out /etc/hass/mqtt\n  \
        quoll client add phone --for android"
    )]
    Add(Add),
    /// List the clients
    #[command(after_help = "Example:\n  quoll client list --output csv")]
    List,
    /// Take a client's certificate back; its connection ends at once
    #[command(after_help = "Example:\n  quoll client revoke alice --reason keyCompromise --yes")]
    Revoke(Revoke),
}

/// `quoll client add`.
#[derive(Args, Debug)]
pub(crate) struct Add {
    /// The client's name: letters, digits, and - _ . between them
    name: String,
    /// What it may do
    #[arg(long, value_enum, default_value_t = Word::Everything)]
    role: Word,
    /// The folder to write [default: HOME/clients/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    ready: ForArgs,
}

/// A role on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Word {
    /// Publish and subscribe everywhere
    Everything,
    /// Subscribe everywhere, publish nowhere
    Observer,
    /// What Home Assistant needs: commands to devices, what they say, discovery
    HomeAssistant,
    /// What flows need: as Home Assistant, and topics below the client's own name
    NodeRed,
    /// What the devices say, and nothing else
    Dashboard,
}

impl Word {
    pub(crate) fn role(self) -> Role {
        match self {
            Self::Everything => Role::Everything,
            Self::Observer => Role::Observer,
            Self::HomeAssistant => Role::HomeAssistant,
            Self::NodeRed => Role::NodeRed,
            Self::Dashboard => Role::Dashboard,
        }
    }
}

/// `quoll client revoke`.
#[derive(Args, Debug)]
pub(crate) struct Revoke {
    /// The client's name
    name: String,
    #[command(flatten)]
    how: super::device::RevokeArgs,
}

impl Client {
    pub(crate) async fn run(&self, common: &Common) -> Outcome {
        match self {
            Self::Add(add) => add.run(common).await,
            Self::List => list(common),
            Self::Revoke(revoke) => revoke.run(common).await,
        }
    }
}

impl Add {
    async fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let settings = common.settings(&home, &ServerArgs::default())?;
        let name = parse_name(&self.name)?;
        let folder = self.out.clone().unwrap_or_else(|| home.clients().join(name.as_str()));
        refuse_taken(&folder, &name)?;
        let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
        let mut workshop = Workshop::open(&workshop::issuing(&settings)?, common.passphrase(&home))?;
        // The CA is unlocked before anything is written: a wrong passphrase changes nothing.
        workshop.authority()?;
        let ready = self.ready.ask()?;

        let known = registry.client(&name).map_err(trouble::registry)?;
        let role = self.role.role();
        if let Some(known) = &known {
            refuse_other(known, &role)?;
        }
        if known.is_none() {
            registry.add_client(&name, &role).map_err(trouble::registry)?;
        }
        let (certificate, key) = certificate(&mut workshop, &name, known.is_some())?;
        registry
            .assign_client_certificate(&name, &certificate.serial().to_string(), certificate.not_after())
            .map_err(trouble::registry)?;
        let cas = workshop::anchor_chains(&settings)?;
        let bundle = Bundle {
            folder: &folder,
            settings: &settings,
            name: &name,
            cas: &cas,
            certificate: &certificate,
            key: &key,
        };
        let written = ready.write(&bundle)?;
        write_bundle(&folder, &settings, &name, &certificate, &key)?;
        crate::bell::ring(&home).await?;

        let facts = [
            ("name", "Client", json!(name.as_str())),
            ("role", "Role", json!(role.as_str())),
            ("folder", "Folder", json!(folder.display().to_string())),
            ("certificate_serial", "Serial number", json!(certificate.serial().to_string())),
            ("expires", "Valid until", json!(dates::stamp(certificate.not_after()))),
            (
                "files",
                "Ready files",
                json!(written.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()),
            ),
        ];
        print_facts(&facts, common.output)?;
        if common.output == Format::Table {
            print(&format!("\nTry it:\n  {}\n", try_it(&folder, &settings, &name)))?;
        }
        Ok(())
    }
}

pub(super) fn parse_name(text: &str) -> Outcome<ClientName> {
    ClientName::parse(text).map_err(|error| {
        Failure::new(Exit::Usage, format!("{text:?} cannot be a client's name"))
            .why(&error)
            .maybe_hint(error.hint())
    })
}

/// A folder that has this client's files already is not written over.
fn refuse_taken(folder: &Path, name: &ClientName) -> Outcome {
    if folder.join(format!("{name}.key")).exists() {
        return Err(Failure::new(
            Exit::Unusable,
            format!("{} has the files of {name} already", folder.display()),
        )
        .hint(
            "use them, choose another folder with --out, or revoke the client and add it under another name",
        ));
    }
    Ok(())
}

pub(super) fn refuse_other(known: &Account, role: &Role) -> Outcome {
    if known.revoked {
        return Err(Failure::new(Exit::Unusable, format!("the client {} is revoked", known.name)).hint(
            "choose another name: what a revoked name did must stay tellable from what its successor does",
        ));
    }
    if known.role != *role {
        return Err(Failure::new(
            Exit::Unusable,
            format!("the client {} is there already, with the role {}", known.name, known.role.as_str()),
        )
        .hint("choose another name"));
    }
    Ok(())
}

/// The client's certificate and key: those issued before, where a run was interrupted, else new ones.
fn certificate(
    workshop: &mut Workshop,
    name: &ClientName,
    known: bool,
) -> Outcome<(Certificate, PrivateKey)> {
    let cert_name = CertName::parse(name.as_str())
        .map_err(|error| Failure::new(Exit::Usage, format!("{name} cannot be a common name")).why(error))?;
    if let Some(certificate) = workshop.pki().certificate(&cert_name).map_err(trouble::pki)? {
        if !known {
            return Err(Failure::new(Exit::Unusable, format!("the CA has a certificate for {name} already"))
                .why("and no client of that name is registered, so it is somebody else's")
                .hint("choose another name"));
        }
        if certificate.not_after() <= OffsetDateTime::now_utc() {
            let what = format!("the certificate of {name} ended on {}", dates::day(certificate.not_after()));
            return Err(Failure::new(Exit::Unusable, what)
                .hint(format!("quoll ca renew {name}, then the same command again")));
        }
        let pki = workshop.pki().clone();
        let (_, passphrase) = workshop.authority()?;
        let key = pki.private_key(&cert_name, passphrase).map_err(trouble::pki)?;
        return Ok((certificate, key));
    }
    let (authority, passphrase) = workshop.authority()?;
    let request = IssueRequest::new(Profile::Client, cert_name, KeyStorage::Encrypted(passphrase.clone()));
    let issued = authority.issue(&request, OffsetDateTime::now_utc()).map_err(trouble::pki)?;
    for warning in &issued.warnings {
        eprintln!("quoll: note: {warning}");
    }
    Ok((issued.certificate, issued.key))
}

pub(super) fn write_bundle(
    folder: &Path,
    settings: &Settings,
    name: &ClientName,
    certificate: &Certificate,
    key: &PrivateKey,
) -> Outcome {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| io_failure("make the folder", folder, &error))?;
    let readme = format!(
        "The client {name} of the MQTT server {host}, port {port} (MQTT over mutual TLS).\n\
         \n\
         ca.crt       the authority that vouches for the server\n\
         {name}.crt   the client's certificate\n\
         {name}.key   its private key: whoever has it is {name}\n\
         \n\
         mosquitto clients:\n\
         \n\
         {line}\n\
         \n\
         Home Assistant (MQTT integration, advanced options): broker {host}, port {port}, broker certificate\n\
         validation \"custom\" with ca.crt, client certificate {name}.crt, private key {name}.key.\n",
        host = settings.host,
        port = settings.device_port(),
        line = try_it(folder, settings, name),
    );
    write_whole(&folder.join("ca.crt"), workshop::anchors_pem(settings)?.as_bytes(), 0o644, true)?;
    write_whole(&folder.join(format!("{name}.crt")), certificate.pem().as_bytes(), 0o644, true)?;
    write_whole(&folder.join("README.txt"), readme.as_bytes(), 0o644, true)?;
    let key_path = folder.join(format!("{name}.key"));
    // A renewal keeps the key.
    if fs::read(&key_path)
        .map(Zeroizing::new)
        .is_ok_and(|there| there.as_slice() == key.pkcs8_pem().as_bytes())
    {
        return Ok(());
    }
    // The key last: where it is, the folder is whole.
    write_whole(&key_path, key.pkcs8_pem().as_bytes(), 0o600, false)
}

/// Writes a client's new certificate, for the key it has, and the CAs to trust into its folder. `None` where the folder is
/// not here: its owner has moved it.
pub(super) fn refresh_files(
    home: &Home,
    settings: &Settings,
    name: &ClientName,
    certificate: &Certificate,
) -> Outcome<Option<PathBuf>> {
    let folder = home.clients().join(name.as_str());
    if !folder.join(format!("{name}.crt")).exists() {
        return Ok(None);
    }
    write_whole(&folder.join("ca.crt"), workshop::anchors_pem(settings)?.as_bytes(), 0o644, true)?;
    write_whole(&folder.join(format!("{name}.crt")), certificate.pem().as_bytes(), 0o644, true)?;
    Ok(Some(folder))
}

/// A command line that shows all telemetry.
fn try_it(folder: &Path, settings: &Settings, name: &ClientName) -> String {
    let folder = folder.display();
    format!(
        "mosquitto_sub -h {host} -p {port} --cafile {folder}/ca.crt --cert {folder}/{name}.crt --key {folder}/{name}.key -t 'tele/#' -v",
        host = settings.host,
        port = settings.device_port(),
    )
}

fn list(common: &Common) -> Outcome {
    let home = common.home()?;
    let mut listing = Listing::new(
        &[
            ("name", "CLIENT"),
            ("role", "ROLE"),
            ("revoked", "REVOKED"),
            ("certificate_serial", "CERTIFICATE"),
            ("expires", "EXPIRES"),
        ],
        "no clients yet; add one with: quoll client add NAME",
    );
    if home.fleet_db().exists() {
        let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
        for client in registry.clients().map_err(trouble::registry)? {
            listing.row(vec![
                json!(client.name.as_str()),
                json!(client.role.as_str()),
                json!(client.revoked),
                json!(client.serial),
                json!(client.expires.map(dates::stamp)),
            ]);
        }
    }
    listing.print(common.output)
}

impl Revoke {
    async fn run(&self, common: &Common) -> Outcome {
        let name = parse_name(&self.name)?;
        confirm(self.how.yes, &format!("Revoke the client {name}? This cannot be undone."))?;
        revocation::revoke(common, &Owner::Client(name), &self.how).await
    }
}
