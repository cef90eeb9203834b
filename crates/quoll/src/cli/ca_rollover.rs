//! `quoll ca rollover`: from one CA to the next, with both in force until nobody needs the old one.

use clap::{Args, Subcommand};
use quoll_fleet::client::ClientName;
use quoll_fleet::device::DeviceName;
use quoll_fleet::registry::anchors::{Evidence, PINS_THE_KEY};
use quoll_fleet::registry::{Owner, Registry};
use quoll_pki::{KeyKind, NewCa, Pki, rollover};
use serde_json::json;
use time::OffsetDateTime;

use super::{Common, ServerArgs};
use crate::audit::Audit;
use crate::config::Settings;
use crate::failure::{Exit, Failure, Outcome};
use crate::home::Home;
use crate::output::{Listing, print, print_facts};
use crate::rollover::{Folders, Standing};
use crate::workshop::{self, Workshop};
use crate::{bell, dates, trouble};

mod end;
mod moving;

/// Names that a refusal lists; there may be thousands.
const NAMED: usize = 12;

/// A change of the CA, step by step.
#[derive(Debug, Subcommand)]
pub(crate) enum Rollover {
    /// Make the next CA beside the one there is; from now on certificates of both are let in
    #[command(
        after_help = "Example:\n  quoll ca rollover start\n  quoll ca rollover start --name \"Home CA 2026\"\n\nThe next CA lies in pki-next, an \
        Easy-RSA folder of its own. Devices and clients get their certificates from it from now on."
    )]
    Start(Start),
    /// Who can do without the old CA, and what is to be done next
    #[command(after_help = "Example:\n  quoll ca rollover status\n  quoll ca rollover status --output json")]
    Status,
    /// Note that devices or clients trust the next CA: flashed with it, or given its file
    #[command(
        after_help = "Example:\n  quoll ca rollover knows kitchen garage\n  quoll ca rollover knows --all-devices\n  quoll ca rollover knows \
        porch --pins-the-key\n\nWhoever connects after `quoll ca rollover server` is noted without this."
    )]
    Knows(Knows),
    /// Issue what the old CA issued by the next one, for the same key: clients, other servers
    #[command(
        after_help = "Example:\n  quoll ca rollover move hass grafana\n  quoll ca rollover move --clients\n\nA client's files in clients/NAME are \
        written anew, with both CAs. Devices: quoll device add NAME --at ADDRESS --replace-key."
    )]
    Move(Move),
    /// Let the server show a certificate of the next CA, for the same key
    #[command(
        after_help = "Example:\n  quoll ca rollover server\n  quoll ca rollover server --back\n\nRefused while a device or client is not known to \
        trust the next CA. Devices that pin the server's key do not notice."
    )]
    Server(Server),
    /// Put the next CA in the old one's place; the old folder is kept
    #[command(
        after_help = "Example:\n  quoll ca rollover finish --yes\n\nRefused while anybody needs the old CA. Where it is interrupted, the same \
        command finishes it."
    )]
    Finish(End),
    /// Stay with the old CA; the next one's folder is kept
    #[command(
        after_help = "Example:\n  quoll ca rollover abandon --yes\n\nRefused while anybody has a certificate of the next CA."
    )]
    Abandon(End),
}

/// Arguments of `quoll ca rollover start`.
#[derive(Args, Debug)]
pub(crate) struct Start {
    /// The next CA's name [default: the name there is, with a number]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The kind of its key: rsa-2048, ec-p256 and so on [default: as the CA's there is]
    #[arg(long, value_name = "KIND", value_parser = super::ca_issue::parse_kind)]
    key: Option<KeyKind>,
    /// Its life in days [default: 20 years]
    #[arg(long, value_name = "N")]
    days: Option<u32>,
}

/// Arguments of `quoll ca rollover knows`.
#[derive(Args, Debug)]
pub(crate) struct Knows {
    /// Devices or clients
    #[arg(required_unless_present_any = ["all_devices", "all_clients"])]
    names: Vec<String>,
    /// Every device
    #[arg(long)]
    all_devices: bool,
    /// Every client
    #[arg(long)]
    all_clients: bool,
    /// They compare the server's key and look at no CA (SetOption132 1)
    #[arg(long)]
    pins_the_key: bool,
    /// Take it back
    #[arg(long)]
    not: bool,
}

/// Arguments of `quoll ca rollover move`.
#[derive(Args, Debug)]
pub(crate) struct Move {
    /// Certificates, by name
    #[arg(required_unless_present = "clients")]
    names: Vec<String>,
    /// Every client
    #[arg(long)]
    clients: bool,
}

/// Arguments of `quoll ca rollover server`.
#[derive(Args, Debug)]
pub(crate) struct Server {
    #[command(flatten)]
    server: ServerArgs,
    /// Show the old CA's certificate again
    #[arg(long)]
    back: bool,
    /// Although some are not known to trust the next CA: they lose the server
    #[arg(long)]
    force: bool,
}

/// Arguments of `finish` and `abandon`.
#[derive(Args, Debug)]
pub(crate) struct End {
    /// Although some lose the server by it
    #[arg(long)]
    force: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// A rollover as it is found.
struct Site {
    home: Home,
    settings: Settings,
    folders: Folders,
    registry: Registry,
}

impl Rollover {
    pub(crate) async fn run(&self, common: &Common) -> Outcome {
        match self {
            Self::Start(start) => start.run(common).await,
            Self::Status => status(common),
            Self::Knows(knows) => knows.run(common).await,
            Self::Move(to_move) => to_move.run(common).await,
            Self::Server(server) => server.run(common).await,
            Self::Finish(end) => end.finish(common).await,
            Self::Abandon(end) => end.abandon(common).await,
        }
    }
}

impl Site {
    fn open(common: &Common, server: &ServerArgs) -> Outcome<Self> {
        let home = common.home()?;
        let settings = common.settings(&home, server)?;
        let folders = Folders::open(&settings)?;
        let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
        Ok(Self { home, settings, folders, registry })
    }

    fn next(&self) -> Outcome<&Pki> {
        self.folders.next.as_ref().ok_or_else(|| {
            let what = if rollover::is_half_done(&self.settings.pki) {
                return Failure::new(Exit::Partial, "the change to the new CA was interrupted")
                    .hint("finish it: quoll ca rollover finish");
            } else {
                "no change of the CA is under way"
            };
            Failure::new(Exit::NotFound, what).hint("quoll ca rollover start begins one")
        })
    }

    fn standing(&self) -> Outcome<Standing> {
        Standing::read(&self.settings, &self.folders, self.next()?, &self.registry)
    }

    /// The device or client of this name.
    fn owner(&self, name: &str) -> Outcome<Owner> {
        if let Ok(name) = DeviceName::parse(name)
            && self.registry.device(&name).map_err(trouble::registry)?.is_some_and(|it| it.state.is_present())
        {
            return Ok(Owner::Device(name));
        }
        if let Ok(name) = ClientName::parse(name)
            && self.registry.client(&name).map_err(trouble::registry)?.is_some()
        {
            return Ok(Owner::Client(name));
        }
        Err(Failure::new(Exit::NotFound, format!("there is no device and no client {name}"))
            .hint("quoll ca rollover status lists them"))
    }
}

fn name_of(pki: &Pki) -> &str {
    pki.ca().subject_cn().unwrap_or("without a name")
}

impl Start {
    async fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let settings = common.settings(&home, &ServerArgs::default())?;
        if rollover::is_half_done(&settings.pki) {
            return Err(Failure::new(Exit::Partial, "the change to the last new CA was interrupted")
                .hint("finish it: quoll ca rollover finish"));
        }
        let mut workshop = Workshop::open(&settings, common.passphrase(&home))?;
        let there = workshop::next_pki(&settings)?;
        let current = workshop.pki().clone();
        let name = self
            .name
            .clone()
            .or_else(|| there.as_ref().map(|next| name_of(next).to_owned()))
            .unwrap_or_else(|| rollover::next_name(current.ca().subject_cn().unwrap_or("CA")));
        let mut new = NewCa::new(name);
        let vars = current.vars().map_err(trouble::pki)?.unwrap_or_default();
        new.key = self.key.or_else(|| current.ca().key_kind().made()).unwrap_or(new.key);
        new.organisation = vars.organisation;
        new.days = self.days.or(vars.ca_days).unwrap_or(new.days);
        // The same passphrase opens both: whoever signs has one key ring, not two.
        let (_, passphrase) = workshop.authority()?;
        let passphrase = passphrase.clone();
        let detail = json!({ "key": new.key.word() });
        let audit = Audit::begin(&home, "ca.rollover.start", &new.common_name, &detail)?;
        let now = OffsetDateTime::now_utc();
        let done = rollover::begin(&current, &new, &passphrase, now).map_err(trouble::pki);
        let next = audit.end(done, |next| json!({ "anchor": next.pki().ca().anchor_id() }))?;
        bell::ring(&home).await?;
        if next.pki().ca().has_ec_key() && !current.ca().has_ec_key() {
            eprintln!(
                "quoll: note: devices check a CA with an EC key only with SetOption165 1, and from Tasmota 15.2 on"
            );
        }
        let facts = [
            ("made", "CA made", json!(there.is_none())),
            ("ca", "Next CA", json!(name_of(next.pki()))),
            ("key", "Key", json!(next.pki().ca().key_kind().to_string())),
            ("not_after", "Valid until", json!(dates::day(next.pki().ca().not_after()))),
            ("sha256", "SHA-256", json!(super::ca::hex(&next.pki().ca().fingerprint_sha256()))),
            ("folder", "Folder", json!(next.pki().dir().display().to_string())),
            ("current", "In force until then", json!(name_of(&current))),
        ];
        print_facts(&facts, common.output)?;
        if common.is_for_people() {
            print(
                "\nBoth CAs are let in from now on. Next:\n  quoll firmware --for esp8266   writes both CAs, for devices that check them\n  \
                 quoll ca rollover status      says who needs what\n",
            )?;
        }
        Ok(())
    }
}

fn status(common: &Common) -> Outcome {
    let site = Site::open(common, &ServerArgs::default())?;
    let standing = site.standing()?;
    let mut listing = Listing::new(
        &[
            ("name", "NAME"),
            ("kind", "KIND"),
            ("issuer", "CERTIFICATE BY"),
            ("trusts_new", "TRUSTS THE NEW CA"),
            ("ready", "READY"),
            ("next", "NEXT"),
        ],
        "nobody has a certificate",
    );
    for row in &standing.rows {
        listing.row(vec![
            json!(row.name),
            json!(row.kind),
            json!(row.issuer),
            json!(row.trusts),
            json!(row.is_ready),
            json!(row.next),
        ]);
    }
    listing.print(common.output)?;
    if common.is_for_people() {
        let (old, new) = (name_of(&site.folders.current), name_of(site.next()?));
        let next = match (standing.dependent().count(), site.folders.serves_next) {
            (0, _) => "quoll ca rollover finish",
            _ => "the acts under NEXT; devices keep working meanwhile",
        };
        print(&format!("\nFrom {old} to {new}: {}. Next: {next}\n", standing.count()))?;
    }
    Ok(())
}

impl Knows {
    async fn run(&self, common: &Common) -> Outcome {
        let site = Site::open(common, &ServerArgs::default())?;
        let anchor = match self.pins_the_key {
            true => PINS_THE_KEY.to_owned(),
            false => site.next()?.ca().anchor_id(),
        };
        let mut owners = self.names.iter().map(|name| site.owner(name)).collect::<Outcome<Vec<_>>>()?;
        if self.all_devices {
            let devices = site.registry.devices().map_err(trouble::registry)?.into_iter();
            owners.extend(devices.filter(|it| it.state.admits()).map(|it| Owner::Device(it.name)));
        }
        if self.all_clients {
            let clients = site.registry.clients().map_err(trouble::registry)?.into_iter();
            owners.extend(clients.filter(|it| !it.revoked).map(|it| Owner::Client(it.name)));
        }
        let mut changed = 0;
        for owner in &owners {
            let news = match self.not {
                true => site.registry.forget_anchor(owner, &anchor),
                false => site.registry.note_anchor(owner, &anchor, Evidence::Said),
            };
            changed += usize::from(news.map_err(trouble::registry)?);
        }
        let standing = match site.folders.next {
            Some(_) => site.standing()?.count(),
            None => "no change of the CA is under way".to_owned(),
        };
        let facts = [("changed", "Noted", json!(changed)), ("standing", "Standing", json!(standing))];
        print_facts(&facts, common.output)
    }
}

/// The first names, and how many more there are.
fn named<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<_> = names.iter().take(NAMED).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
