//! `quoll device pending`, `accept`, `reject`: certificates of our CA that are in no registry, such as those of a home
//! whose certificates Easy-RSA issued.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use quoll_fleet::client::ClientName;
use quoll_fleet::device::{Address, DeviceName, DeviceState, Mac, Rung, Topics};
use quoll_fleet::enrol::{Patience, http_console, probe};
use quoll_fleet::life::{AdoptError, Adoption, adopt_client, adopt_device};
use quoll_fleet::registry::unlisted::Unlisted;
use quoll_fleet::registry::{NewDevice, Registry};
use quoll_fleet::witness::{Witness as _, WitnessError};
use quoll_pki::{Certificate, Pki, PkiError, RevocationReason, Serial};
use serde_json::json;
use time::OffsetDateTime;

use super::{Common, ServerArgs, client, confirm};
use crate::config::{Settings, Unlisted as Policy};
use crate::enrolment::{self, NodeWitness, device_name};
use crate::failure::{Exit, Failure, Outcome};
use crate::home::Home;
use crate::output::{Format, Listing, print_facts};
use crate::rollover::Folders;
use crate::{bell, dates, revocation, trouble};

/// A device that was refused comes again after 10 s, then 20 s, up to 120 s (facts §3.5).
const COMES_WITHIN: Duration = Duration::from_secs(150);

/// `quoll device accept`.
#[derive(Args, Debug)]
pub(crate) struct Accept {
    /// The certificate: its common name, or its serial number
    name: String,
    /// The name it gets [default: its common name]
    #[arg(long = "as", value_name = "NAME")]
    new_name: Option<String>,
    /// Where the device's web console is [default: where its connection came from]
    #[arg(long, value_name = "HOST[:PORT]")]
    at: Option<String>,
    /// Do not ask the device: its MAC
    #[arg(long, value_name = "MAC", requires = "topic")]
    mac: Option<Mac>,
    /// Do not ask the device: its topic
    #[arg(long, value_name = "TOPIC", requires = "mac")]
    topic: Option<String>,
    /// It is no device: make it a client with this role
    #[arg(long, value_enum, value_name = "ROLE", conflicts_with_all = ["at", "mac", "topic"])]
    client: Option<client::Word>,
    /// A file with the device's web password on its first line
    #[arg(long, value_name = "FILE")]
    web_password_file: Option<PathBuf>,
    /// Allow topics that overlap with another device's
    #[arg(long)]
    share_topics: bool,
    /// Do not wait until it comes
    #[arg(long)]
    no_wait: bool,
}

/// `quoll device reject`.
#[derive(Args, Debug)]
pub(crate) struct Reject {
    /// The certificate: its common name, or its serial number
    name: String,
    /// Revoke it, too: no other server is to let it in, and it cannot be accepted later
    #[arg(long)]
    revoke: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Everything that the verbs look at.
struct Bench {
    home: Home,
    settings: Settings,
    /// Of both CAs during a rollover.
    folders: Vec<Pki>,
    registry: Registry,
}

impl Bench {
    fn open(common: &Common) -> Outcome<Self> {
        let home = common.home()?;
        let settings = common.settings(&home, &ServerArgs::default())?;
        let folders = Folders::open(&settings)?.all().cloned().collect();
        let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
        Ok(Self { home, settings, folders, registry })
    }

    /// The certificate that is meant: one that came, or one that the folder has and nobody owns.
    fn find(&self, text: &str) -> Outcome<(Certificate, Option<Unlisted>)> {
        let is_meant = |serial: &str, name: &str| serial.eq_ignore_ascii_case(text) || name == text;
        let came = self.registry.unlisted().map_err(trouble::registry)?;
        let mut found: Vec<(String, Option<Unlisted>)> = came
            .into_iter()
            .filter(|one| is_meant(&one.serial, &one.name))
            .map(|one| (one.serial.clone(), Some(one)))
            .collect();
        let now = OffsetDateTime::now_utc();
        for folder in &self.folders {
            for entry in folder.entries().map_err(trouble::pki)? {
                let serial = entry.serial.to_string();
                let name = entry.common_name().unwrap_or_default();
                let new = entry.is_valid_at(now) && found.iter().all(|(known, _)| *known != serial);
                if new
                    && is_meant(&serial, &name)
                    && self.registry.certificate(&serial).map_err(trouble::registry)?.is_none()
                {
                    found.push((serial, None));
                }
            }
        }
        let (serial, came) = match (found.pop(), found.is_empty()) {
            (Some(one), true) => one,
            (Some(last), false) => {
                let serials: Vec<_> = found.into_iter().chain([last]).map(|(serial, _)| serial).collect();
                return Err(Failure::new(Exit::Usage, format!("{text} has several certificates"))
                    .why(serials.join(", "))
                    .hint("say the serial number of the one that you mean"));
            }
            (None, _) => {
                return Err(Failure::new(
                    Exit::NotFound,
                    format!("there is no certificate {text} that nobody has"),
                )
                .hint("`quoll device pending` shows them"));
            }
        };
        let number: Serial = serial.parse().map_err(|error| {
            Failure::new(Exit::Unusable, format!("{serial} is no serial number")).why(error)
        })?;
        for folder in &self.folders {
            if let Some(certificate) = folder.certificate_by_serial(&number).map_err(trouble::pki)? {
                return Ok((certificate, came));
            }
        }
        Err(Failure::new(Exit::Unusable, format!("the pki folder does not have certificate {serial}"))
            .hint("put it back into issued/, then run the same command again"))
    }

    fn revoke(&self, serial: &Serial) -> Outcome {
        let now = OffsetDateTime::now_utc();
        let revoked = Pki::revoke_among(&self.folders, serial, RevocationReason::Unspecified, now);
        let unknown = || PkiError::UnknownSerial { serial: serial.clone() };
        revoked.and_then(|known| known.ok_or_else(unknown)).map(drop).map_err(trouble::pki)
    }
}

pub(super) fn pending(common: &Common) -> Outcome {
    let home = common.home()?;
    let settings = common.settings(&home, &ServerArgs::default())?;
    let mut listing = Listing::new(
        &[
            ("name", "COMMON NAME"),
            ("state", "STATE"),
            ("client_id", "CLIENT ID"),
            ("address", "CAME FROM"),
            ("times", "TIMES"),
            ("last_seen", "LAST"),
            ("certificate_serial", "CERTIFICATE"),
        ],
        "nobody came with a certificate of this CA that is in no registry",
    );
    if home.fleet_db().exists() {
        let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
        for one in registry.unlisted().map_err(trouble::registry)? {
            let state = match (one.rejected, settings.unlisted) {
                (Some(_), _) => "rejected",
                (None, Policy::Admit) => "admitted",
                (None, Policy::Pending) => "pending",
                (None, Policy::Refuse) => "refused",
            };
            let day = |at| if common.output == Format::Table { dates::day(at) } else { dates::stamp(at) };
            listing.row(vec![
                json!(one.name),
                json!(state),
                json!(one.client_id),
                json!(one.address),
                json!(one.times),
                json!(day(one.last_seen)),
                json!(one.serial),
            ]);
        }
    }
    listing.print(common.output)
}

impl Accept {
    pub(super) async fn run(&self, common: &Common) -> Outcome {
        let bench = Bench::open(common)?;
        let (certificate, came) = bench.find(&self.name)?;
        let serial = certificate.serial().to_string();
        let common_name = certificate.subject_cn().unwrap_or_default().to_owned();
        let name = self.new_name.clone().unwrap_or_else(|| common_name.clone());
        if certificate.is_for_server() || certificate.is_ca() {
            return Err(Failure::new(Exit::Unusable, format!("certificate {serial} is not a client's"))
                .why("it is for a server"));
        }
        let adoption = Adoption { serial: serial.clone(), expires: certificate.not_after() };
        if let Some(role) = self.client {
            let name = client::parse_name(&name)?;
            return self.accept_client(common, &bench, &name, role, &adoption).await;
        }
        let name = device_name(&name)?;
        let new = self.describe(&name, came.as_ref()).await?;
        let device = adopt_device(&bench.registry, &new, &adoption, self.share_topics).map_err(failure)?;
        bell::ring(&bench.home).await?;
        let seen = self.wait(&bench, &name, &serial, device.state).await?;
        let facts = [
            ("name", "Device", json!(name.as_str())),
            ("certificate_serial", "Certificate", json!(serial)),
            ("topic", "Topic", json!(new.topics.topic)),
            ("mac", "MAC", json!(new.mac.to_string())),
            ("firmware", "Firmware", json!(new.firmware)),
            ("seen", "Came in", json!(seen)),
        ];
        print_facts(&facts, common.output)
    }

    /// Waits until the broker has let it in, which proves it.
    async fn wait(
        &self,
        bench: &Bench,
        name: &DeviceName,
        serial: &str,
        state: DeviceState,
    ) -> Outcome<bool> {
        if state == DeviceState::Proven {
            return Ok(true);
        }
        if self.no_wait {
            return Ok(false);
        }
        eprintln!(
            "quoll: waiting until {name} comes: a device that was refused tries again within 2 minutes"
        );
        match (NodeWitness { home: &bench.home }).wait_for(serial, COMES_WITHIN).await {
            Ok(_) => {
                bench
                    .registry
                    .advance(name, DeviceState::Proven, Some(Rung::Mutual))
                    .map_err(trouble::registry)?;
                Ok(true)
            }
            Err(WitnessError::NoBroker { .. }) => Ok(false),
            Err(error) => {
                Err(Failure::new(Exit::Partial, format!("{name} is accepted, but has not come yet"))
                    .why(error)
                    .hint(format!("look whether it has power and what it says: quoll device show {name}")))
            }
        }
    }

    async fn accept_client(
        &self,
        common: &Common,
        bench: &Bench,
        name: &ClientName,
        role: client::Word,
        adoption: &Adoption,
    ) -> Outcome {
        let client = adopt_client(&bench.registry, name, &role.role(), adoption).map_err(failure)?;
        bell::ring(&bench.home).await?;
        let facts = [
            ("name", "Client", json!(client.name.as_str())),
            ("role", "Role", json!(client.role.as_str())),
            ("certificate_serial", "Certificate", json!(client.serial)),
        ];
        print_facts(&facts, common.output)
    }

    /// What the registry is to know of the device: asked from it, or said by its owner.
    async fn describe(&self, name: &DeviceName, came: Option<&Unlisted>) -> Outcome<NewDevice> {
        let peer = came.and_then(|one| one.address.parse::<std::net::SocketAddr>().ok());
        let bracketed = |ip: std::net::IpAddr| if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
        let text = self.at.clone().or_else(|| peer.map(|peer| bracketed(peer.ip())));
        let text = text.or_else(|| self.mac.map(|_| "0.0.0.0".into())).ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                format!("where the console of {name} is, is not known: it has not come yet"),
            )
            .hint("say --at ADDRESS, or --mac and --topic")
        })?;
        let address = Address::parse(&text).map_err(|error| {
            Failure::new(Exit::Usage, format!("{text:?} cannot be a device's address"))
                .why(&error)
                .maybe_hint(error.hint())
        })?;
        if let (Some(mac), Some(topic)) = (self.mac, self.topic.clone()) {
            let client_id = came.map(|one| one.client_id.clone()).filter(|id| !id.is_empty());
            let topics = Topics {
                topic,
                full_topic: "%prefix%/%topic%/".into(),
                command: "cmnd".into(),
                status: "stat".into(),
                telemetry: "tele".into(),
                groups: vec!["tasmotas".into()],
                client_id: client_id.unwrap_or_else(|| format!("DVES_{}", mac.tail())),
            };
            let (chip, firmware) = (String::new(), String::new());
            return Ok(NewDevice { name: name.clone(), address, mac, chip, firmware, topics });
        }
        let password = self.web_password_file.as_deref().map(enrolment::read_password).transpose()?;
        let console = http_console(&address, password.as_ref().map(|text| text.as_str()));
        let found = probe(&console, Patience::default()).await.map_err(|error| {
            Failure::new(Exit::Device, format!("{name} cannot be asked for its topics: {error}"))
                .maybe_hint(error.hint())
                .hint("say --at ADDRESS where its console is, or what it would say: --mac AA:BB:CC:DD:EE:FF --topic TOPIC")
        })?;
        Ok(NewDevice {
            name: name.clone(),
            address,
            mac: found.network.mac,
            chip: found.firmware.hardware.clone(),
            firmware: found.firmware.version.clone(),
            topics: found.topics,
        })
    }
}

impl Reject {
    pub(super) async fn run(&self, common: &Common) -> Outcome {
        let bench = Bench::open(common)?;
        let (certificate, _) = bench.find(&self.name)?;
        let (serial, name) = (certificate.serial(), certificate.subject_cn().unwrap_or_default().to_owned());
        if certificate.is_for_server() || certificate.is_ca() {
            return Err(Failure::new(Exit::Unusable, format!("certificate {serial} is not a client's"))
                .why("it is for a server"));
        }
        if self.revoke {
            confirm(self.yes, &format!("Revoke certificate {serial} of {name}? This cannot be undone."))?;
        }
        if let Err(error) = bench.registry.reject_unlisted(&serial.to_string(), &name) {
            let failure = trouble::registry(error);
            return Err(revocation::kept_out(&bench.home, &serial.to_string(), failure).await);
        }
        if self.revoke {
            bench.revoke(&serial)?;
            let detail = json!({ "serials": [serial.to_string()], "reason": "unspecified" });
            bench.registry.record("certificate.revoked", &name, &detail).map_err(trouble::registry)?;
        }
        let ended = bell::ring(&bench.home).await?;
        let crl = self.revoke.then(|| revocation::write_lists(common, &bench.settings, &bench.registry));
        let facts = [
            ("name", "Rejected", json!(name)),
            ("certificate_serial", "Certificate", json!(serial.to_string())),
            ("revoked", "Revoked", json!(self.revoke)),
            ("connections_ended", "Connections ended", json!(ended)),
            ("crl", "Revocation list", json!(crl.transpose()?)),
        ];
        print_facts(&facts, common.output)
    }
}

fn failure(error: AdoptError) -> Failure {
    Failure::new(Exit::Unusable, &error).maybe_hint(error.hint())
}
