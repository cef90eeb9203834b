//! `quoll import`: an Easy-RSA folder and a Mosquitto, taken over as one home. All of it or nothing; what was there stays.

use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use quoll_fleet::access_list::Access;
use quoll_fleet::client::{ClientName, Role};
use quoll_fleet::life::{Adoption, adopt_client};
use quoll_fleet::registry::Registry;
use quoll_fleet::registry::unlisted::Visit;
use quoll_pki::{Certificate, Pki};
use serde_json::json;
use time::OffsetDateTime;

use super::{Common, ServerArgs};
use crate::config::{Settings, Unlisted};
use crate::failure::{Exit, Failure, Outcome, io_failure};
use crate::home::{Home, write_whole};
use crate::import::easyrsa::{self, Issued, ServerKey};
use crate::import::mosquitto::{self, Taken};
use crate::import::{Fate, rights};
use crate::output::{Listing, print};
use crate::trouble;

/// `quoll import`.
#[derive(Args, Debug)]
pub(crate) struct Import {
    /// The Easy-RSA folder: the pki, or the one that it is in
    #[arg(long, value_name = "DIR")]
    easyrsa: PathBuf,
    /// Mosquitto's folder or configuration file [default: none is read]
    #[arg(long, value_name = "PATH")]
    mosquitto: Option<PathBuf>,
    /// Work on the Easy-RSA folder where it is, instead of on a copy in the home folder
    #[arg(long)]
    in_place: bool,
    /// Show all that would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// A certificate that gets an owner.
struct Owned {
    name: ClientName,
    serial: String,
    not_after: OffsetDateTime,
    role: Role,
}

/// Everything that is known before anything is done.
struct Plan {
    home: Home,
    settings: Settings,
    pki: Pki,
    server_key: Option<zeroize::Zeroizing<String>>,
    server: String,
    clients: Vec<Owned>,
    devices: Vec<Issued>,
    fates: Vec<Fate>,
}

impl Import {
    pub(crate) fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        refuse_taken(&home)?;
        let plan = self.plan(common, home)?;
        if !self.dry_run {
            plan.carry_out(self.in_place)?;
        }
        plan.report(common, self.dry_run)
    }

    fn plan(&self, common: &Common, home: Home) -> Outcome<Plan> {
        let now = OffsetDateTime::now_utc();
        let pki = easyrsa::find(&self.easyrsa)?;
        let taken = match &self.mosquitto {
            Some(path) => mosquitto::look(path, &pki)?,
            None => Taken::default(),
        };
        let issued = easyrsa::issued(&pki, now)?;
        let server = server(&pki, &issued, &taken)?;
        let mut fates = Vec::new();
        let place = if self.in_place { pki.dir().to_owned() } else { home.default_pki() };
        let how = if self.in_place { "used where it is" } else { "a copy of it" };
        let from = pki.dir().display().to_string();
        fates.push(Fate::taken("pki folder", &from, format!("{how}: {}", place.display())));
        fates.push(match pki.dir().join("private/ca.key").exists() {
            true => {
                Fate::taken("CA key", &from, "stays encrypted as it is; nobody was asked for its passphrase")
            }
            false => {
                Fate::left("CA key", &from, "it is not here: quoll request, quoll ca sign, quoll accept")
            }
        });
        for note in pki.vars().map_err(trouble::pki)?.map(|vars| vars.notes).unwrap_or_default() {
            fates.push(Fate::left("vars", &from, note));
        }
        let server_key = self.server_key(&pki, &place, &server, &taken, &mut fates)?;
        let settings = settings(common, &home, place, &server, &taken)?;
        let (clients, devices) = owners(&issued, &server, &taken, &mut fates);
        let name = server.subject_cn().unwrap_or_default().to_owned();
        fates.extend(taken.fates);
        Ok(Plan { home, settings, pki, server_key, server: name, clients, devices, fates })
    }

    /// The server's key must need no passphrase; Mosquitto has it so.
    fn server_key(
        &self,
        pki: &Pki,
        place: &Path,
        server: &Certificate,
        taken: &Taken,
        fates: &mut Vec<Fate>,
    ) -> Outcome<Option<zeroize::Zeroizing<String>>> {
        let name = server.subject_cn().unwrap_or_default();
        let from = format!("private/{name}.key");
        match easyrsa::server_key(pki, server, &taken.keys) {
            ServerKey::Plain => {
                fates.push(Fate::taken("server key", from, "as it is"));
                Ok(None)
            }
            ServerKey::Elsewhere(path, _) if self.in_place => {
                let what = format!(
                    "encrypted in the folder, which is left as it is; before `quoll up`: cp {} {}",
                    path.display(),
                    pki.dir().join(&from).display()
                );
                fates.push(Fate::left("server key", from, what));
                Ok(None)
            }
            ServerKey::Elsewhere(path, key) => {
                fates.push(Fate::taken(
                    "server key",
                    path.display().to_string(),
                    "in place of the encrypted one in the copy",
                ));
                Ok(Some(key))
            }
            ServerKey::Locked => {
                let key = place.join(&from);
                let what = match pki.dir().join(&from).exists() {
                    // Never in and out of one file: openssl empties it before it asks for the passphrase.
                    true => format!(
                        "it is encrypted; before `quoll up`: openssl pkey -in '{0}' -out '{0}.plain' && mv '{0}.plain' '{0}'",
                        key.display()
                    ),
                    false => format!(
                        "it is not there; before `quoll up`: put it into {}, without a passphrase",
                        key.display()
                    ),
                };
                fates.push(Fate::left("server key", from, what));
                Ok(None)
            }
        }
    }
}

/// Two imports at once would clear away what the other one makes. Held until dropped; it leaves nothing behind.
fn alone(parent: &Path) -> Outcome<fs::File> {
    let folder = fs::File::open(parent).map_err(|error| io_failure("open", parent, &error))?;
    match folder.try_lock() {
        // Where the file system knows no locks, nobody has one.
        Ok(()) | Err(fs::TryLockError::Error(_)) => Ok(folder),
        Err(fs::TryLockError::WouldBlock) => {
            Err(Failure::new(Exit::System, format!("another import into {} is under way", parent.display()))
                .hint("wait until it is over, then run the same command again"))
        }
    }
}

/// A home that has something in it already is not written over.
fn refuse_taken(home: &Home) -> Outcome {
    let Ok(mut listing) = fs::read_dir(home.dir()) else { return Ok(()) };
    if listing.next().is_none() {
        return Ok(());
    }
    Err(Failure::new(Exit::Unusable, format!("{} has files in it already", home.dir().display()))
        .why("an installation is taken over into a new home; nothing was changed")
        .hint("choose another folder: quoll --home DIR import …"))
}

/// The certificate that the server is to show: the one that Mosquitto shows, if it is of this CA, else the newest.
fn server(pki: &Pki, issued: &[Issued], taken: &Taken) -> Outcome<Certificate> {
    let servers: Vec<_> = issued.iter().filter(|one| one.profile == "server").collect();
    let of_mosquitto = taken.certificates.iter().find_map(|shown| {
        let serial = shown.serial().to_string();
        servers.iter().find(|one| one.serial == serial || Some(one.name.as_str()) == shown.subject_cn())
    });
    let chosen = of_mosquitto.or_else(|| servers.iter().max_by_key(|one| one.not_after));
    let none = || {
        Failure::new(Exit::Unusable, format!("{} has no valid certificate of a server", pki.dir().display()))
            .why("nothing was changed")
            .hint("renew or issue it there first: quoll --pki DIR ca renew NAME, or ca issue NAME --profile server")
    };
    let chosen = chosen.ok_or_else(none)?;
    easyrsa::certificate(pki, &chosen.name)?.ok_or_else(none)
}

fn settings(
    common: &Common,
    home: &Home,
    pki: PathBuf,
    server: &Certificate,
    taken: &Taken,
) -> Outcome<Settings> {
    // What the machine says of itself is not asked: the certificate says what devices were told.
    let found = common.settings(home, &ServerArgs::default())?;
    let is_address = |name: &&String| name.parse::<IpAddr>().is_ok();
    let name = server.subject_cn().unwrap_or_default().to_owned();
    let mut addresses: Vec<IpAddr> = server.ip_addresses().to_vec();
    let texts = server.dns_names().iter().filter(is_address).filter_map(|text| text.parse().ok());
    texts.for_each(|ip| {
        if !addresses.contains(&ip) {
            addresses.push(ip)
        }
    });
    let mut names: Vec<String> =
        server.dns_names().iter().filter(|text| !is_address(text)).cloned().collect();
    if let Ok(address) = name.parse::<IpAddr>() {
        addresses.retain(|there| *there != address);
        addresses.insert(0, address);
        names.clear();
    } else {
        names.retain(|there| *there != name);
        names.insert(0, name.clone());
    }
    let mut mqtts = taken.mqtts.clone();
    mqtts.dedup();
    if mqtts.is_empty() {
        mqtts.push("0.0.0.0:8883".parse().expect("it is an address"));
    }
    Ok(Settings {
        pki,
        names,
        addresses,
        host: name,
        mqtts,
        pinned: Vec::new(),
        mqtt: taken.mqtt.clone(),
        allow_anonymous: !taken.mqtt.is_empty(),
        // With an ACL, whoever is in no registry would get more than he had.
        unlisted: if taken.acl.is_some() { Unlisted::Pending } else { Unlisted::Admit },
        ..found
    })
}

/// Whose certificates become clients of the registry, and which are devices'.
fn owners(
    issued: &[Issued],
    server: &Certificate,
    taken: &Taken,
    fates: &mut Vec<Fate>,
) -> (Vec<Owned>, Vec<Issued>) {
    let (mut clients, mut devices) = (Vec::new(), Vec::new());
    for one in issued {
        let from = format!("serial {}", one.serial);
        match one.profile {
            "tasmota" => {
                let becomes = match taken.acl.is_some() {
                    true => format!("a device; refused until: quoll device accept {}", one.name),
                    false => {
                        format!("a device, let in as before; to manage it: quoll device accept {}", one.name)
                    }
                };
                fates.push(Fate::taken(format!("certificate {}", one.name), from, becomes));
                devices.push(one.clone());
            }
            "client" => match ClientName::parse(&one.name) {
                Ok(name) => {
                    let (role, what) = role(taken.acl.as_deref(), &one.name);
                    fates.push(Fate::taken(format!("certificate {}", one.name), from, what));
                    let (serial, not_after) = (one.serial.clone(), one.not_after);
                    clients.push(Owned { name, serial, not_after, role });
                }
                Err(error) => {
                    let why = format!("valid, but in no registry: {error}");
                    fates.push(Fate::left(format!("certificate {}", one.name), from, why));
                }
            },
            "server" if Some(one.name.as_str()) == server.subject_cn() => {
                fates.push(Fate::taken(format!("certificate {}", one.name), from, "the server's"));
            }
            profile => {
                let why = format!("stays valid; nothing is done with it ({profile})");
                fates.push(Fate::left(format!("certificate {}", one.name), from, why));
            }
        }
    }
    (clients, devices)
}

fn role(acl: Option<&str>, name: &str) -> (Role, String) {
    let Some(text) = acl else {
        return (Role::Everything, "a client that may do everything, as Mosquitto lets it".to_owned());
    };
    let rights = rights::of(text, name).careful();
    let checked = rights.access.check().is_ok();
    let access = if checked { rights.access } else { Access::default() };
    let mut what =
        format!("a client: publish to {}, read {}", list(&access.publish), list(&access.subscribe));
    if !checked {
        what.push_str("; its rules are no lists of ours: quoll acl allow");
    }
    if !rights.dropped.is_empty() {
        what.push_str(&format!("; left out: {}", rights.dropped.join(", ")));
    }
    (Role::Custom(access), what)
}

fn list(filters: &[String]) -> String {
    if filters.is_empty() { "nothing".into() } else { filters.join(" ") }
}

impl Plan {
    /// In a folder beside the home, which becomes the home in one step.
    fn carry_out(&self, in_place: bool) -> Outcome {
        // A link is to another place, where the home is to be.
        let dir = self.home.dir().canonicalize().unwrap_or_else(|_| self.home.dir().to_owned());
        let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let parent = dir.parent().unwrap_or_else(|| Path::new("/"));
        fs::create_dir_all(parent).map_err(|error| io_failure("make the folder", parent, &error))?;
        let _alone = alone(parent)?;
        let building = parent.join(format!(".{name}.importing"));
        // What an interrupted import left is of no use.
        if building.exists() {
            fs::remove_dir_all(&building).map_err(|error| io_failure("clear", &building, &error))?;
        }
        let elsewhere = |act: &str, path: &Path, error: &std::io::Error| {
            let failure = io_failure(act, path, error);
            match error.kind() {
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::ResourceBusy => failure
                    .hint(format!(
                        "the home is made beside its place and put there in one step, which a mount point or somebody else's \
                         folder does not let; choose one in it: quoll --home {} import …",
                        dir.join("home").display()
                    )),
                _ => failure,
            }
        };
        let made = fs::DirBuilder::new().mode(0o700).create(&building);
        made.map_err(|error| elsewhere("make", &building, &error))?;
        let done = self.build(&building, in_place).and_then(|()| {
            fs::rename(&building, &dir).map_err(|error| elsewhere("put in place", &dir, &error))?;
            let synced = fs::File::open(parent).and_then(|parent| parent.sync_all());
            synced.map_err(|error| io_failure("sync", parent, &error))
        });
        if done.is_err() {
            fs::remove_dir_all(&building).ok();
        }
        done
    }

    fn build(&self, dir: &Path, in_place: bool) -> Outcome {
        let home = Home::choose(Some(dir.to_owned()))?;
        if !in_place {
            easyrsa::copy(&self.pki, &home.default_pki())?;
            if let Some(key) = &self.server_key {
                let path = home.default_pki().join(format!("private/{}.key", self.server));
                write_whole(&path, key.as_bytes(), 0o600, true)?;
            }
        }
        self.settings.write_for(&self.home, &home.config())?;
        let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
        let detail = json!({ "easyrsa": self.pki.dir().display().to_string(), "in_place": in_place });
        registry
            .record("import", &self.home.dir().display().to_string(), &detail)
            .map_err(trouble::registry)?;
        for client in &self.clients {
            let adoption = Adoption { serial: client.serial.clone(), expires: client.not_after };
            adopt_client(&registry, &client.name, &client.role, &adoption).map_err(|error| {
                Failure::new(Exit::Unusable, format!("the client {} cannot be taken over", client.name))
                    .why(&error)
                    .maybe_hint(error.hint())
            })?;
        }
        // Pending devices are listed from the first day, not only when they have come.
        let now = OffsetDateTime::now_utc();
        let visits = self.devices.iter().map(|device| Visit {
            serial: device.serial.clone(),
            name: device.name.clone(),
            client_id: String::new(),
            address: String::new(),
            at: now,
            times: 0,
        });
        registry.note_unlisted(&visits.collect::<Vec<_>>()).map_err(trouble::registry)
    }

    fn report(&self, common: &Common, dry_run: bool) -> Outcome {
        let columns = [("what", "WHAT"), ("from", "FROM"), ("taken", "TAKEN OVER"), ("becomes", "BECOMES")];
        let mut listing = Listing::new(&columns, "nothing found");
        for fate in &self.fates {
            listing.row(vec![json!(fate.what), json!(fate.from), json!(fate.is_taken), json!(fate.becomes)]);
        }
        listing.print(common.output)?;
        if !common.is_for_people() {
            return Ok(());
        }
        let home = self.home.dir().display();
        if dry_run {
            return print(&format!("\nNothing was changed. Without --dry-run this makes {home}.\n"));
        }
        let revocations = self.pki.revoked_serials().map_err(trouble::pki)?.len();
        print(&format!(
            "\nMade {home}: {} clients, {} devices, {revocations} revoked. The files that were there are as they were.\nNext:\n  \
             systemctl stop mosquitto\n  quoll --home {home} up\n",
            self.clients.len(),
            self.devices.len(),
        ))
    }
}
