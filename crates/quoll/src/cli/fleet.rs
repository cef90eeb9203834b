//! `quoll fleet`: many devices in one go.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use quoll_fleet::campaign::{Hold, Item, Policy, Verdict, plan};
use quoll_fleet::device::Rung;
use quoll_fleet::enrol::{BrokerTarget, WantedRung};
use quoll_fleet::registry::Registry;
use serde_json::json;

use super::{Common, ServerArgs};
use crate::config::Settings;
use crate::enrolment::{self, Wish};
use crate::failure::{Exit, Failure, Outcome};
use crate::home::Home;
use crate::output::{Format, Listing};
use crate::trouble;
use crate::workshop;

/// Many devices: scan, plan, provision, report.
#[derive(Debug, Subcommand)]
pub(crate) enum Fleet {
    /// Find devices and keep what was found: the list that plan and provision go by
    #[command(after_help = "Examples:\n  quoll fleet scan --range 192.168.1.0/24\n  \
        quoll fleet scan --csv devices.csv\n  \
        quoll fleet scan --mqtt 192.168.1.5:1883 --user me --password-file pw\n\n\
        Nothing is changed on any device. Devices are told apart by their MAC; what a later scan cannot ask stays as it \
        was known.")]
    Scan(super::fleet_scan::Scan),
    /// Say what would be done with each device that was found, and what is held back and why; nothing is changed
    #[command(
        after_help = "Examples:\n  quoll fleet plan\n  quoll fleet plan --rung pinned --output csv\n  \
        quoll fleet plan kitchen A0:B1:C2:D3:E4:F5"
    )]
    Plan(Plan),
    /// Enrol the devices of the plan: canaries first, then many at a time
    #[command(after_help = "Examples:\n  quoll fleet provision\n  \
        quoll fleet provision --canaries 3 --parallel 32 --window 22:00-05:00 --stop-at 10\n  \
        quoll fleet provision --force known-crash kitchen porch\n\n\
        The broker must be running (quoll up). Ctrl-C begins no further device and finishes those under way; a run that was \
        killed is gone on with by the same command. Ends with 0 if every device is proven, else with 4.")]
    Provision(super::fleet_provision::Provision),
    /// What became of each device, and what to do next
    #[command(after_help = "Examples:\n  quoll fleet report\n  quoll fleet report --html report.html\n  \
        quoll fleet report --run 3 --output csv")]
    Report(super::fleet_report::Report),
}

impl Fleet {
    pub(crate) async fn run(&self, common: &Common) -> Outcome {
        match self {
            Self::Scan(scan) => scan.run(common).await,
            Self::Plan(plan) => plan.run(common),
            Self::Provision(provision) => provision.run(common).await,
            Self::Report(report) => report.run(common),
        }
    }
}

/// Which devices, and what may be done with them.
#[derive(Args, Clone, Debug)]
pub(crate) struct Choice {
    /// Only these, by name or MAC [default: all that were found]
    #[arg(value_name = "DEVICE")]
    only: Vec<String>,
    /// How well they are to be secured: auto, pinned, mutual
    #[arg(long, value_name = "RUNG", default_value = "auto", value_parser = super::device::rung)]
    pub(super) rung: WantedRung,
    /// Do not hold back for these: known-crash, wrong-clock, low-heap, weak-wifi
    #[arg(long, value_name = "REASON,…", value_delimiter = ',', value_parser = forced)]
    force: Vec<Hold>,
    /// Replace keys on devices that are not from us
    #[arg(long)]
    pub(super) replace_key: bool,
    /// Allow topics that overlap with another device's
    #[arg(long)]
    pub(super) share_topics: bool,
    /// A file with the MQTT password that the devices have at their old broker, for the way back from the pinned rung
    #[arg(long, value_name = "FILE")]
    pub(super) old_password_file: Option<PathBuf>,
    /// Do without that password
    #[arg(long)]
    pub(super) lose_old_password: bool,
    /// What devices are told to connect to [default: what quoll.toml says]
    #[arg(long, value_name = "NAME")]
    pub(super) host: Option<String>,
}

fn forced(text: &str) -> Result<Hold, String> {
    let forcible: Vec<&str> =
        Hold::ALL.iter().filter(|hold| hold.can_be_forced()).map(|hold| hold.as_str()).collect();
    let hold = Hold::from_word(text).filter(|hold| hold.can_be_forced());
    hold.ok_or_else(|| format!("one of {}", forcible.join(", ")))
}

/// `quoll fleet plan`.
#[derive(Args, Debug)]
pub(crate) struct Plan {
    #[command(flatten)]
    choice: Choice,
}

/// Everything that a plan is made of.
pub(super) struct Drawn {
    pub(super) settings: Settings,
    pub(super) target: BrokerTarget,
    pub(super) items: Vec<Item>,
}

impl Choice {
    /// A wish that holds for every device.
    pub(super) fn wish(&self) -> Wish {
        Wish {
            host: self.host.clone(),
            replace_key: self.replace_key,
            share_topics: self.share_topics,
            rung: self.rung,
            old_password_file: self.old_password_file.clone(),
            lose_old_password: self.lose_old_password,
            ..Wish::default()
        }
    }

    /// What a run is told by: the same words go on with one that was killed.
    pub(super) fn text(&self) -> String {
        let force: BTreeSet<&str> = self.force.iter().map(|hold| hold.as_str()).collect();
        let only: BTreeSet<String> = self.only.iter().map(|one| one.to_ascii_lowercase()).collect();
        json!({
            "only": only,
            "rung": self.rung.as_str(),
            "force": force,
            "replace_key": self.replace_key,
            "share_topics": self.share_topics,
            "host": self.host,
        })
        .to_string()
    }

    /// Reads what was found and what is known, and plans.
    pub(super) fn draw(&self, common: &Common, home: &Home) -> Outcome<Drawn> {
        let settings = common.settings(home, &ServerArgs::default())?;
        let pki = workshop::open_pki(&workshop::serving(&settings)?)?;
        let target = enrolment::target(&settings, &pki, &self.wish())?;
        if !home.fleet_db().exists() {
            return Err(nothing_found());
        }
        let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
        let found = registry.candidates().map_err(trouble::registry)?;
        if found.is_empty() {
            return Err(nothing_found());
        }
        let known = registry.devices().map_err(trouble::registry)?;
        let policy = Policy {
            rung: self.rung,
            force: self.force.iter().copied().collect(),
            replace_key: self.replace_key,
            share_topics: self.share_topics,
            old_password: self.old_password_file.is_some() || self.lose_old_password,
        };
        let mut items = plan(&found, &known, &target, &policy);
        self.pick(&mut items)?;
        items.sort_by_key(|item| item.name.as_str().to_ascii_lowercase());
        Ok(Drawn { settings, target, items })
    }

    fn pick(&self, items: &mut Vec<Item>) -> Outcome {
        if self.only.is_empty() {
            return Ok(());
        }
        let is = |item: &Item, text: &str| {
            item.name.as_str().eq_ignore_ascii_case(text) || text.parse().is_ok_and(|mac| item.mac == mac)
        };
        let unknown: Vec<&str> = self
            .only
            .iter()
            .filter(|text| !items.iter().any(|item| is(item, text)))
            .map(String::as_str)
            .collect();
        if !unknown.is_empty() {
            return Err(Failure::new(Exit::NotFound, format!("not found: {}", unknown.join(", ")))
                .hint("quoll fleet plan shows the names; quoll fleet scan finds devices"));
        }
        items.retain(|item| self.only.iter().any(|text| is(item, text)));
        Ok(())
    }
}

fn nothing_found() -> Failure {
    Failure::new(Exit::NotFound, "no devices were found yet")
        .hint("look for them: quoll fleet scan --range 192.168.1.0/24, --csv FILE or --mqtt HOST:PORT")
}

impl Plan {
    fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let drawn = self.choice.draw(common, &home)?;
        let mut listing = Listing::new(
            &[
                ("name", "DEVICE"),
                ("mac", "MAC"),
                ("address", "ADDRESS"),
                ("firmware", "CHIP AND FIRMWARE"),
                ("now", "NOW"),
                ("rung", "TO"),
                ("verdict", "VERDICT"),
                ("why", "WHY"),
                ("next", "NEXT"),
            ],
            "no devices",
        );
        for item in &drawn.items {
            let (rung, verdict, why, next) = said(item);
            listing.row(vec![
                json!(item.name.as_str()),
                json!(item.mac.to_string()),
                json!(item.address.as_ref().map(ToString::to_string)),
                json!(item.kind),
                json!(item.now.as_str()),
                json!(rung.map(Rung::as_str)),
                json!(verdict),
                json!(why),
                json!(next),
            ]);
        }
        listing.print(common.output)?;
        if common.output == Format::Table {
            eprintln!("quoll: {}; nothing was changed", counted(&drawn.items));
        }
        Ok(())
    }
}

/// Rung, verdict, why and what to do next, in words.
fn said(item: &Item) -> (Option<Rung>, &'static str, String, String) {
    match &item.verdict {
        Verdict::Enrol(rung) => {
            let how = if item.is_under_way { "go on" } else { "enrol" };
            (Some(*rung), how, item.notes.join("; "), String::new())
        }
        Verdict::Proven(rung) => (Some(*rung), "nothing", "proven".into(), String::new()),
        Verdict::Held(held) => {
            let whys: Vec<&str> = held.iter().map(|held| held.why.as_str()).collect();
            let nexts: Vec<&str> = held.iter().map(|held| held.next.as_str()).collect();
            (None, "held back", whys.join("; "), nexts.join("; "))
        }
    }
}

/// `3 to mutual, 2 to pinned, 1 held back`.
pub(super) fn counted(items: &[Item]) -> String {
    let count = |is: &dyn Fn(&Verdict) -> bool| items.iter().filter(|item| is(&item.verdict)).count();
    let parts = [
        (count(&|verdict| *verdict == Verdict::Enrol(Rung::Mutual)), "to mutual"),
        (count(&|verdict| *verdict == Verdict::Enrol(Rung::Pinned)), "to pinned"),
        (count(&|verdict| matches!(verdict, Verdict::Proven(_))), "proven already"),
        (count(&|verdict| matches!(verdict, Verdict::Held(_))), "held back"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if parts.is_empty() { "no devices".into() } else { parts.join(", ") }
}
