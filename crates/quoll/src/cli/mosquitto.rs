//! `quoll mosquitto`: the Mosquitto that you have already, with this CA's certificates.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use quoll_pki::{CertName, IssueRequest, KeyStorage, PkiError, Profile, RevocationReason, Serial};
use serde_json::json;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{Common, ServerArgs, confirm};
use crate::audit::Audit;
use crate::config::Settings;
use crate::failure::{Exit, Failure, Outcome, io_failure};
use crate::home::{Home, write_whole};
use crate::mosquitto::install::{install, set};
use crate::mosquitto::place::{Listen, Place};
use crate::mosquitto::plan::{Material, Plan};
use crate::mosquitto::proof::{self, Fleeting, Identity};
use crate::mosquitto::service::{Act, Service};
use crate::mosquitto::trial;
use crate::output::{Listing, print_facts};
use crate::workshop::{self, Workshop};
use crate::{dates, trouble};

const LIVE: &str = "Mosquitto looks at certificates when a client connects: a revoked one that is connected stays so \
    until its connection ends, at the latest with the next restart of Mosquitto";

/// The Mosquitto that you have already.
#[derive(Debug, Subcommand)]
pub(crate) enum Mosquitto {
    /// Give it a listener with mutual TLS: configuration, certificates, key, revocation list; tried out, proven, undone on failure
    #[command(
        after_help = "Example:\n  quoll mosquitto setup --dry-run\n  quoll mosquitto setup --yes\n  quoll mosquitto setup --client alice --reload-command \
        'service mosquitto restart'\n\nWithout --client it proves the door with a certificate of its own, which it revokes afterwards. \
        docs/mosquitto-setup.md says what is written where."
    )]
    Setup(Setup),
    /// Take renewed certificates and the revocation list there, and have it read them
    #[command(
        after_help = "Example:\n  quoll mosquitto refresh\n\nFit for a timer: it changes nothing where nothing is new. Mosquitto keeps the live \
        connections of revoked clients until they end."
    )]
    Refresh(Refresh),
}

/// What both take.
#[derive(Args, Debug)]
pub(crate) struct Where {
    /// Mosquitto's folder, with mosquitto.conf in it
    #[arg(long, value_name = "DIR", default_value = "/etc/mosquitto")]
    dir: PathBuf,
    /// The account that Mosquitto runs as; it gets certificates and key
    #[arg(long, value_name = "NAME", default_value = "mosquitto")]
    user: String,
    /// Prove it with the files of this client (HOME/clients/NAME)
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// Run this in a shell to restart Mosquitto [default: systemctl, else SIGHUP to the process of its pid_file]
    #[arg(long, value_name = "CMD", conflicts_with = "no_reload")]
    reload_command: Option<String>,
    /// Leave the running Mosquitto alone
    #[arg(long)]
    no_reload: bool,
    /// Show all that would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// `quoll mosquitto setup`.
#[derive(Args, Debug)]
pub(crate) struct Setup {
    #[command(flatten)]
    at: Where,
    /// The port of the listener
    #[arg(long, value_name = "PORT", default_value_t = crate::config::MQTTS_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The one address to listen on [default: all]
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<IpAddr>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// `quoll mosquitto refresh`.
#[derive(Args, Debug)]
pub(crate) struct Refresh {
    #[command(flatten)]
    at: Where,
}

impl Mosquitto {
    pub(crate) fn run(&self, common: &Common) -> Outcome {
        match self {
            Self::Setup(setup) => setup.run(common),
            Self::Refresh(refresh) => refresh.run(common),
        }
    }
}

impl Setup {
    fn run(&self, common: &Common) -> Outcome {
        let place = Place::look(&self.at.dir, &self.at.user)?;
        let listen = Listen { port: self.port, address: self.bind };
        place.refuse_taken(listen)?;
        if let Some(path) = place.lets_everybody_in() {
            eprintln!(
                "quoll: note: {} has allow_anonymous true: your other listeners go on letting everybody in; ours demands a certificate",
                path.display()
            );
        }
        if place.is_local_only() {
            eprintln!(
                "quoll: note: this Mosquitto has no listener, so it lets programs of this machine in on localhost:1883, without a \
                 certificate; with a listener it no longer does. To keep that, write these two lines into {} first: \
                 `listener 1883 localhost` and `allow_anonymous true`",
                place.dir.join("conf.d/local.conf").display()
            );
        }
        let mut job = Job::new(common, &self.at, place, listen)?;
        if self.at.dry_run {
            return job.show(common, Act::Restart);
        }
        confirm(
            self.yes,
            &format!("Set up the Mosquitto of {} on port {}?", self.at.dir.display(), self.port),
        )?;
        let subject = job.place.dir.display().to_string();
        let audit = Audit::begin(&job.home, "mosquitto.setup", &subject, &json!({ "port": self.port }))?;
        let done = job.with_identity(&self.at, |job, identity| job.bring_in(Some(identity)));
        let done = audit.end(done, |done| json!({ "proven": done.proven }))?;
        job.report(common, &done)
    }
}

impl Refresh {
    fn run(&self, common: &Common) -> Outcome {
        let place = Place::look(&self.at.dir, &self.at.user)?;
        let listen = place.our_listener().ok_or_else(|| {
            Failure::new(Exit::NotFound, format!("{} has no listener of ours", place.our_conf().display()))
                .hint("quoll mosquitto setup makes it")
        })?;
        let mut job = Job::new(common, &self.at, place, listen)?;
        if self.at.dry_run {
            return job.show(common, Act::Reload);
        }
        if job.plan().is_done() {
            return print_facts(&[("changed", "Changed", json!(false))], common.output);
        }
        let identity = self.at.client.as_deref().map(|name| of_client(&job.home, name)).transpose()?;
        let subject = job.place.dir.display().to_string();
        let audit = Audit::begin(&job.home, "mosquitto.refresh", &subject, &json!({}))?;
        let done = audit.end(job.bring_in(identity.as_ref()), |done| json!({ "proven": done.proven }))?;
        job.report(common, &done)
    }
}

/// What the folders with a proof's key are called, and its certificates.
const PROOF_FOLDER: &str = ".mosquitto-proof-";
const PROOF_NAME: &str = "quoll-proof-";

/// Everything that is known before anything is done.
struct Job {
    home: Home,
    settings: Settings,
    workshop: Workshop,
    ca: PathBuf,
    place: Place,
    listen: Listen,
    material: Material,
    service: Service,
}

/// How it went.
struct Done {
    backup: Option<PathBuf>,
    /// Whether Mosquitto has read the files; false where a person must restart it first.
    read: bool,
    /// Whether a client with a certificate was let in at the real port.
    proven: bool,
}

impl Job {
    fn new(common: &Common, at: &Where, place: Place, listen: Listen) -> Outcome<Self> {
        let home = common.home()?;
        let settings = common.settings(&home, &ServerArgs::default())?;
        let mut workshop = Workshop::open(&settings, common.passphrase(&home))?;
        if !at.dry_run {
            sweep(&home, &settings, &place, &workshop)?;
        }
        let material = material(&settings, &mut workshop, !at.dry_run)?;
        let service = Service::find(&place, at.reload_command.as_deref(), at.no_reload);
        let ca = workshop::serving(&settings)?.pki.join("ca.crt");
        Ok(Self { home, settings, workshop, ca, place, listen, material, service })
    }

    fn plan(&self) -> Plan {
        let others_open = self.place.lets_everybody_in().is_some();
        Plan::new(&self.place.dir, &self.material, self.listen, self.place.owner, others_open)
    }

    /// The CA that vouches for the server.
    fn ca(&self) -> PathBuf {
        self.ca.clone()
    }

    fn address(&self) -> SocketAddr {
        proof::address_of(self.listen)
    }

    fn show(&self, common: &Common, act: Act) -> Outcome {
        let columns = [("act", "ACT"), ("what", "WHAT"), ("mode", "MODE")];
        let mut listing = Listing::new(&columns, "nothing to do");
        for (act, path, mode) in self.plan().acts() {
            listing.row(vec![json!(act), json!(path.display().to_string()), json!(mode)]);
        }
        let tried = format!("mosquitto with a copy of {} on loopback ports", self.place.dir.display());
        listing.row(vec![json!("try out"), json!(tried), json!(null)]);
        listing.row(vec![json!("restart or reload"), json!(self.service.says(act)), json!(null)]);
        listing.row(vec![
            json!("prove"),
            json!(format!("mosquitto_pub, or Quoll's own client, to {}", self.address())),
            json!(null),
        ]);
        listing.print(common.output)
    }

    /// Tries out, installs, restarts or reloads, proves; takes everything back where one of them fails.
    fn bring_in(&mut self, identity: Option<&Identity>) -> Outcome<Done> {
        trial::try_out(&self.place, &self.material, &self.ca(), identity)?;
        let installed = install(&self.plan(), &self.place.dir)?;
        let act = if installed.new_configuration { Act::Restart } else { Act::Reload };
        let acted = self.service.act(act).and_then(|acted| {
            if acted {
                proof::wait_for(self.address(), || Ok(()))?;
                proof::prove(self.address(), &self.ca(), identity)?;
            }
            Ok(acted)
        });
        match acted {
            Ok(read) => Ok(Done { backup: installed.backup, read, proven: read && identity.is_some() }),
            Err(failure) => {
                let failure = installed.roll_back_after(failure);
                let again = match self.service.act(act) {
                    Ok(true) => "and Mosquitto was told to read them again".to_owned(),
                    Ok(false) => "and Mosquitto is yours to restart".to_owned(),
                    Err(worse) => format!("but Mosquitto could not be restarted with them: {}", worse.what),
                };
                let why = failure.why.unwrap_or_default();
                Err(Failure { why: Some(format!("{why}, {again}")), ..failure })
            }
        }
    }

    /// Runs with the files of a client: those of `--client`, or of a certificate for one day, revoked afterwards
    /// however it went.
    fn with_identity(
        &mut self,
        at: &Where,
        work: impl FnOnce(&mut Self, &Identity) -> Outcome<Done>,
    ) -> Outcome<Done> {
        if let Some(name) = &at.client {
            let identity = of_client(&self.home, name)?;
            return work(self, &identity);
        }
        if !workshop::has_ca_key(&self.settings) {
            return Err(Failure::new(Exit::Usage, "there is no client to prove it with")
                .why("the CA's key is not on this machine, so no certificate can be made for it")
                .hint("name one that was accepted here: --client NAME"));
        }
        let folder = Fleeting::new(self.home.dir().join(format!("{PROOF_FOLDER}{}", std::process::id())))?;
        let (identity, serial) = self.throwaway(&folder.0)?;
        let done = work(self, &identity);
        let retired = self.retire(&serial, done.as_ref().ok(), &identity);
        let done = done?;
        retired?;
        Ok(done)
    }

    /// A client certificate for one day, its key in a folder that goes.
    fn throwaway(&mut self, folder: &Path) -> Outcome<(Identity, Serial)> {
        let now = OffsetDateTime::now_utc();
        let text = format!("{PROOF_NAME}{}", now.unix_timestamp());
        let name = CertName::parse(&text)
            .map_err(|error| Failure::new(Exit::System, "cannot name the client of the proof").why(error))?;
        let (authority, passphrase) = self.workshop.authority()?;
        let store = KeyStorage::Encrypted(passphrase.clone());
        let mut request = IssueRequest::new(Profile::Client, name, store);
        request.days = Some(1);
        let issued = authority.issue(&request, now).map_err(trouble::pki)?;
        let identity = Identity { certificate: folder.join("client.crt"), key: folder.join("client.key") };
        write_whole(&identity.certificate, issued.certificate.pem().as_bytes(), 0o600, true)?;
        write_whole(&identity.key, issued.key.pkcs8_pem().as_bytes(), 0o600, true)?;
        Ok((identity, issued.certificate.serial()))
    }

    /// Revokes it here and, where the setup is done, there: the proof that revocation works. What was put back is not
    /// touched again.
    fn retire(&mut self, serial: &Serial, done: Option<&Done>, identity: &Identity) -> Outcome {
        let now = OffsetDateTime::now_utc();
        let reason = RevocationReason::CessationOfOperation;
        self.workshop.pki().revoke(serial, reason, now).map_err(trouble::pki)?;
        self.workshop.publish_crl()?;
        self.material.crl = read_crl(&self.settings)?;
        let Some(done) = done else { return Ok(()) };
        let plan = self.plan();
        let list = plan.files.iter().find(|file| file.path.ends_with("quoll-crl.pem"));
        let list = list.expect("a plan has the revocation list");
        write_whole(&list.path, &list.bytes, list.mode, true)?;
        set(&list.path, list.mode, list.owner)?;
        if !done.read {
            return Ok(());
        }
        self.service.act(Act::Reload)?;
        // A reload is done at some time after it was asked for.
        for _ in 0..20 {
            proof::wait_for(self.address(), || Ok(()))?;
            if proof::visit(self.address(), &self.ca(), Some(identity))?.is_some() {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        Err(Failure::new(Exit::Partial, "Mosquitto is set up, but lets a revoked certificate in")
            .why("its new revocation list was not read at the reload")
            .hint("restart Mosquitto"))
    }

    fn report(&self, common: &Common, done: &Done) -> Outcome {
        let next = self.workshop.pki().crl_status(OffsetDateTime::now_utc()).map_err(trouble::pki)?;
        let next = next.and_then(|list| list.next_update).map(dates::day);
        let facts = [
            ("changed", "Changed", json!(true)),
            ("folder", "Mosquitto", json!(self.place.dir.display().to_string())),
            ("address", "Listens on", json!(self.address().to_string())),
            ("proven", "Proven with a client", json!(done.proven)),
            ("backup", "Replaced files", json!(done.backup.as_ref().map(|path| path.display().to_string()))),
            ("crl_next_update", "Revocation list good until", json!(next)),
        ];
        print_facts(&facts, common.output)?;
        if common.is_for_people() {
            eprintln!("quoll: note: {LIVE}");
        }
        if done.read {
            return Ok(());
        }
        Err(Failure::new(Exit::Partial, "the files are there, but Mosquitto has not read them")
            .why("nobody here can restart it")
            .hint("restart Mosquitto; --reload-command CMD would do it, and prove it"))
    }
}

/// A run that was killed may have left a trial, and a certificate whose key it had made for the proof.
fn sweep(home: &Home, settings: &Settings, place: &Place, workshop: &Workshop) -> Outcome {
    let trials = proof::sweep(&place.dir, trial::FOLDER)?;
    let proofs = proof::sweep(home.dir(), PROOF_FOLDER)?;
    if trials.removed + proofs.removed > 0 {
        eprintln!("quoll: note: removed what an interrupted run had left in {}", place.dir.display());
    }
    if proofs.alive || !workshop::has_ca_key(settings) {
        return Ok(());
    }
    let now = OffsetDateTime::now_utc();
    for entry in workshop.pki().entries().map_err(trouble::pki)? {
        let name = entry.common_name().filter(|name| name.starts_with(PROOF_NAME) && entry.is_valid_at(now));
        let Some(name) = name else { continue };
        let audit = Audit::begin(home, "ca.revoke", &name, &json!({ "serial": entry.serial.to_string() }))?;
        let reason = RevocationReason::CessationOfOperation;
        let done = workshop.pki().revoke(&entry.serial, reason, now).map_err(trouble::pki);
        audit.end(done, |_| json!({ "left_by": "an interrupted setup" }))?;
    }
    Ok(())
}

/// The files of a client that was added here.
fn of_client(home: &Home, name: &str) -> Outcome<Identity> {
    let name = super::client::parse_name(name)?;
    let folder = home.clients().join(name.as_str());
    let identity =
        Identity { certificate: folder.join(format!("{name}.crt")), key: folder.join(format!("{name}.key")) };
    if !identity.key.exists() {
        return Err(Failure::new(Exit::NotFound, format!("there is no {}", identity.key.display()))
            .hint("add the client first: quoll client add NAME"));
    }
    Ok(identity)
}

/// What the CA's folder has for Mosquitto; a revocation list that is behind is written first, where that can be. During a
/// rollover both CAs and both lists go along: Mosquitto wants a list of each CA that it trusts.
fn material(settings: &Settings, workshop: &mut Workshop, may_write: bool) -> Outcome<Material> {
    let now = OffsetDateTime::now_utc();
    let serving = workshop::serving(settings)?;
    let mut server = workshop.at(&serving)?;
    let certificate = workshop::server_certificate(&serving, server.pki())?;
    let name = workshop::server_name(settings)?;
    let key = match server.pki().server_key_pem(&name) {
        Err(PkiError::Encrypted { .. }) if workshop::has_ca_key(&serving) => {
            let pki = server.pki().clone();
            let (_, passphrase) = server.authority()?;
            Zeroizing::new(
                pki.private_key(&name, passphrase).map_err(trouble::pki)?.pkcs8_pem().as_str().to_owned(),
            )
        }
        key => key.map_err(trouble::pki)?,
    };
    for folder in folders(settings)? {
        let mut bench = workshop.at(&folder)?;
        if may_write && bench.pki().crl_is_behind(now).map_err(trouble::pki)? {
            bench.publish_crl().map_err(|failure| Failure {
                why: Some(
                    "the revocation list is behind, and Mosquitto lets nobody in with one that has ended"
                        .into(),
                ),
                ..failure
            })?;
        }
    }
    Ok(Material {
        name: name.to_string(),
        ca: workshop::anchors_pem(settings)?,
        certificate: certificate.pem(),
        key,
        crl: read_crl(settings)?,
    })
}

/// The settings with each of the folders in force.
fn folders(settings: &Settings) -> Outcome<Vec<Settings>> {
    let issuing = workshop::issuing(settings)?;
    Ok(if issuing.pki == settings.pki { vec![issuing] } else { vec![settings.clone(), issuing] })
}

fn read_crl(settings: &Settings) -> Outcome<Vec<u8>> {
    let mut lists = Vec::new();
    for folder in folders(settings)? {
        let path = folder.pki.join("crl.pem");
        lists.extend(
            fs::read(&path)
                .map_err(|error| io_failure("read", &path, &error).hint("quoll ca crl writes it"))?,
        );
    }
    Ok(lists)
}
