//! `quoll acl`: who may publish and subscribe what; learning what a client needs before its list is enforced.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use quoll_fleet::access_list::{
    Access, Act, Proposal, Reach, acl_file, client_access, device_access, proposals,
};
use quoll_fleet::device::Device;
use quoll_fleet::registry::Registry;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::{Common, confirm};
use crate::failure::{Exit, Failure, Outcome};
use crate::home::{Home, write_whole};
use crate::output::{Listing, print, print_facts};
use crate::{bell, dates, trouble};

/// Who may do what.
#[derive(Debug, Subcommand)]
pub(crate) enum Acl {
    /// Show what everybody may publish and subscribe
    #[command(after_help = "Example:\n  quoll acl show\n  quoll acl show kitchen-plug --output json")]
    Show(Show),
    /// Let clients do what their lists do not allow, and note it
    #[command(
        after_help = "Examples:\n  quoll acl learn kitchen-plug --hours 48\n  quoll acl learn --all\n\nWhat they do is let through and noted until the time is over or \
        `quoll acl enforce` is said; `quoll acl simulate` shows it. The server's own topics ($SYS) stay out of reach."
    )]
    Learn(Learn),
    /// Show what their lists would have refused, and did, with the filter that would allow it
    #[command(after_help = "Example:\n  quoll acl simulate\n  quoll acl simulate kitchen-plug --output csv")]
    Simulate(Show),
    /// Hold clients to their lists again; with --accept what was learned is added to them first
    #[command(
        after_help = "Examples:\n  quoll acl enforce kitchen-plug --accept\n  quoll acl enforce --all\n\n--accept adds filters that reach into nothing that is \
        another device's own. The others are listed; say `quoll acl allow` for those that you want."
    )]
    Enforce(Enforce),
    /// Allow a client filters beyond its template
    #[command(
        after_help = "Example:\n  quoll acl allow hall-switch --publish cmnd/hall-lamp/POWER\n  quoll acl allow kitchen-plug --subscribe 'weather/#'"
    )]
    Allow(Change),
    /// Take filters back that were allowed beyond the template
    #[command(after_help = "Example:\n  quoll acl withdraw hall-switch --publish cmnd/hall-lamp/POWER")]
    Withdraw(Change),
    /// Write the lists as a Mosquitto ACL file
    #[command(
        after_help = "Example:\n  quoll acl export --out /etc/mosquitto/acl\n\nMosquitto needs use_identity_as_username true and acl_file /etc/mosquitto/acl."
    )]
    Export(Export),
}

/// Arguments of `quoll acl show` and `simulate`.
#[derive(Args, Debug)]
pub(crate) struct Show {
    /// A device or client [default: all]
    name: Option<String>,
}

/// Whom it is about.
#[derive(Args, Debug)]
struct Whom {
    /// Devices and clients
    #[arg(required_unless_present = "all")]
    names: Vec<String>,
    /// All devices and clients
    #[arg(long, conflicts_with = "names")]
    all: bool,
}

/// Arguments of `quoll acl learn`.
#[derive(Args, Debug)]
pub(crate) struct Learn {
    #[command(flatten)]
    whom: Whom,
    /// For how long; then the lists are enforced again
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=24 * 60))]
    hours: u16,
}

/// Arguments of `quoll acl enforce`.
#[derive(Args, Debug)]
pub(crate) struct Enforce {
    #[command(flatten)]
    whom: Whom,
    /// Add what was learned to the lists first
    #[arg(long)]
    accept: bool,
    /// Do not ask where something that was seen will be refused
    #[arg(long)]
    yes: bool,
}

/// Arguments of `quoll acl allow` and `withdraw`.
#[derive(Args, Debug)]
pub(crate) struct Change {
    /// The device or client
    name: String,
    /// A filter of topics to publish to (may be repeated)
    #[arg(long, value_name = "FILTER", required_unless_present = "subscribe")]
    publish: Vec<String>,
    /// A filter to subscribe to (may be repeated)
    #[arg(long, value_name = "FILTER")]
    subscribe: Vec<String>,
}

/// Arguments of `quoll acl export`.
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Acl {
    pub(crate) async fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let house = House::open(&home)?;
        match self {
            Self::Show(show) => house.show(show, common),
            Self::Simulate(show) => house.simulate(show, common),
            Self::Export(export) => export.write(&house),
            Self::Learn(learn) => {
                let names = house.named(&learn.whom)?;
                let until = OffsetDateTime::now_utc() + Duration::hours(learn.hours.into());
                house.registry.learn(&names, until).map_err(trouble::registry)?;
                bell::ring(&home).await?;
                let facts =
                    [("learning", "Learning", json!(names)), ("until", "Until", json!(dates::stamp(until)))];
                print_facts(&facts, common.output)
            }
            Self::Enforce(enforce) => {
                house.enforce(enforce, common)?;
                bell::ring(&home).await.map(drop)
            }
            Self::Allow(change) => {
                let access = change.access()?;
                let name = house.find(&change.name)?.name.clone();
                house.registry.allow(&name, &access).map_err(trouble::registry)?;
                bell::ring(&home).await?;
                House::open(&home)?.show(&Show { name: Some(name) }, common)
            }
            Self::Withdraw(change) => {
                let access = change.access()?;
                let name = house.find(&change.name)?.name.clone();
                let taken = house.registry.disallow(&name, &access).map_err(trouble::registry)?;
                if taken == 0 {
                    return Err(Failure::new(
                        Exit::NotFound,
                        format!("{name} was not allowed that beyond its template"),
                    )
                    .hint(format!(
                        "`quoll acl show {name}` shows its list; the template's own cannot be taken away"
                    )));
                }
                bell::ring(&home).await?;
                House::open(&home)?.show(&Show { name: Some(name) }, common)
            }
        }
    }
}

impl Change {
    fn access(&self) -> Outcome<Access> {
        let access = Access { publish: self.publish.clone(), subscribe: self.subscribe.clone() };
        access.check().map_err(|error| {
            Failure::new(Exit::Usage, "nothing was changed").why(&error).maybe_hint(error.hint())
        })?;
        Ok(access)
    }
}

impl Export {
    fn write(&self, house: &House) -> Outcome {
        let sections: Vec<_> = house.everybody.iter().map(|one| (one.name.clone(), one.access())).collect();
        let text = acl_file(&sections);
        match &self.out {
            // Who may do what is nobody else's business; Mosquitto warns of a file that others can read.
            Some(path) => write_whole(path, text.as_bytes(), 0o600, true),
            None => print(&text),
        }
    }
}

/// A device or a client and its list.
struct Somebody {
    name: String,
    kind: &'static str,
    /// What its role gives it.
    template: Access,
    /// What its owner allowed it.
    beyond: Access,
    learning: Option<OffsetDateTime>,
}

impl Somebody {
    fn access(&self) -> Access {
        self.template.clone().and(&self.beyond)
    }
}

/// Everybody who may come in.
struct House {
    registry: Registry,
    devices: Vec<Device>,
    everybody: Vec<Somebody>,
}

impl House {
    fn open(home: &Home) -> Outcome<Self> {
        let path = home.fleet_db();
        if !path.exists() {
            return Err(Failure::new(Exit::NotFound, format!("there is no {}", path.display()))
                .hint("there are no devices and clients in this home yet; choose another one with --home"));
        }
        let registry = Registry::open(&path).map_err(trouble::registry)?;
        let allowed = registry.all_allowed().map_err(trouble::registry)?;
        let learning = registry.learning().map_err(trouble::registry)?;
        let devices = registry.devices().map_err(trouble::registry)?;
        let clients = registry.clients().map_err(trouble::registry)?;
        let somebody = |name: &str, kind, template: Access| {
            let key = name.to_ascii_lowercase();
            let beyond = allowed.get(&key).cloned().unwrap_or_default();
            Somebody { name: name.to_owned(), kind, template, beyond, learning: learning.get(&key).copied() }
        };
        let mut everybody = Vec::new();
        for device in devices.iter().filter(|device| device.state.admits()) {
            // One whose topics cannot be kept apart gets nothing: see the node's directory.
            everybody.push(somebody(
                device.name.as_str(),
                "device",
                device_access(device).unwrap_or_default(),
            ));
        }
        for client in clients.iter().filter(|client| !client.revoked) {
            let access = client_access(client, &devices).unwrap_or_default();
            everybody.push(somebody(client.name.as_str(), "client", access));
        }
        Ok(Self { registry, devices, everybody })
    }

    fn find(&self, name: &str) -> Outcome<&Somebody> {
        self.everybody.iter().find(|one| one.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            Failure::new(Exit::NotFound, format!("no device and no client that may come in is called {name}"))
                .hint("`quoll acl show` lists them")
        })
    }

    fn named(&self, whom: &Whom) -> Outcome<Vec<String>> {
        if whom.all {
            return Ok(self.everybody.iter().map(|one| one.name.clone()).collect());
        }
        whom.names.iter().map(|name| Ok(self.find(name)?.name.clone())).collect()
    }

    fn wanted(&self, show: &Show) -> Outcome<Vec<&Somebody>> {
        match &show.name {
            Some(name) => Ok(vec![self.find(name)?]),
            None => Ok(self.everybody.iter().collect()),
        }
    }

    fn show(&self, show: &Show, common: &Common) -> Outcome {
        let columns = [
            ("name", "NAME"),
            ("kind", "KIND"),
            ("act", "ACT"),
            ("filter", "FILTER"),
            ("from", "FROM"),
            ("learning_until", "LEARNING UNTIL"),
        ];
        let mut listing = Listing::new(&columns, "nobody may come in yet; add a device or a client");
        for one in self.wanted(show)? {
            for (from, list) in [("template", &one.template), ("allowed", &one.beyond)] {
                for act in [Act::Publish, Act::Subscribe] {
                    for filter in list.of(act) {
                        listing.row(vec![
                            json!(one.name),
                            json!(one.kind),
                            json!(act.as_str()),
                            json!(filter),
                            json!(from),
                            json!(one.learning.map(dates::stamp)),
                        ]);
                    }
                }
            }
        }
        listing.print(common.output)
    }

    fn simulate(&self, show: &Show, common: &Common) -> Outcome {
        let seen = self.registry.observations().map_err(trouble::registry)?;
        let columns = [
            ("name", "NAME"),
            ("act", "ACT"),
            ("topic", "TOPIC"),
            ("outcome", "OUTCOME"),
            ("times", "TIMES"),
            ("last", "LAST"),
            ("filter", "FILTER THAT WOULD ALLOW IT"),
            ("reach", "WHICH REACHES INTO"),
        ];
        let empty = "nobody did anything that its list does not allow; `quoll acl learn` lets clients try";
        let mut listing = Listing::new(&columns, empty);
        for one in self.wanted(show)? {
            let offers = proposals(&one.name, &one.access(), &seen, &self.devices);
            for act in seen.iter().filter(|act| act.name.eq_ignore_ascii_case(&one.name)) {
                // What was allowed since is no news.
                let Some(offer) = offers.iter().find(|offer| offer.allows(act)) else { continue };
                listing.row(vec![
                    json!(one.name),
                    json!(act.act.as_str()),
                    json!(act.topic),
                    json!(if act.refused { "refused" } else { "would be refused" }),
                    json!(act.times),
                    json!(dates::stamp(act.last)),
                    json!(offer.filter),
                    reach(&offer.reach),
                ]);
            }
        }
        listing.print(common.output)
    }

    fn enforce(&self, enforce: &Enforce, common: &Common) -> Outcome {
        let names = self.named(&enforce.whom)?;
        let seen = self.registry.observations().map_err(trouble::registry)?;
        let mut added: Vec<(&str, Proposal)> = Vec::new();
        let mut left: Vec<(&str, Proposal)> = Vec::new();
        for name in &names {
            let one = self.find(name)?;
            for offer in proposals(&one.name, &one.access(), &seen, &self.devices) {
                let list = if enforce.accept && offer.reach == Reach::Own { &mut added } else { &mut left };
                list.push((&one.name, offer));
            }
        }
        if !left.is_empty() {
            for (name, offer) in &left {
                eprintln!("quoll: will be refused: {name} {} {}", offer.act.as_str(), offer.filter);
            }
            confirm(enforce.yes, &format!("Enforce the lists all the same ({} refused)?", left.len()))?;
        }
        for (name, offer) in &added {
            let mut more = Access::default();
            match offer.act {
                Act::Publish => more.publish.push(offer.filter.clone()),
                Act::Subscribe => more.subscribe.push(offer.filter.clone()),
            }
            self.registry.allow(name, &more).map_err(trouble::registry)?;
        }
        let ended = self.registry.enforce(&names).map_err(trouble::registry)?;
        for name in &names {
            self.registry.forget_observations(name).map_err(trouble::registry)?;
        }
        let lines = |list: &[(&str, Proposal)]| -> Vec<String> {
            list.iter()
                .map(|(name, offer)| format!("{name} {} {}", offer.act.as_str(), offer.filter))
                .collect()
        };
        let facts = [
            ("enforced", "Enforced", json!(names)),
            ("learning_ended", "Of them learned from", json!(ended)),
            ("allowed", "Allowed from now on", json!(lines(&added))),
            ("refused", "Refused from now on", json!(lines(&left))),
        ];
        print_facts(&facts, common.output)
    }
}

fn reach(reach: &Reach) -> Value {
    match reach {
        Reach::Own => Value::Null,
        Reach::Device(name) => json!(format!("device {name}")),
        Reach::Wide => json!("many devices"),
    }
}
