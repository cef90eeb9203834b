//! `quoll doctor`: why a device is not online, what that follows from, what to do; and the whole house.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use quoll_fleet::device::{Address, Device};
use quoll_fleet::doctor::{Evidence, Finding, Health, Repair, Verdict, diagnose};
use quoll_fleet::enrol::lock;
use quoll_fleet::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::doctor_fix::{Done, Surgery};
use super::{Common, ServerArgs};
use crate::doctor::house::{self, State};
use crate::doctor::{self, Practice};
use crate::enrolment::{self, device_name, read_password};
use crate::failure::{Exit, Failure, Outcome};
use crate::home::Home;
use crate::output::{Format, Listing, print, shown};
use crate::trouble;

/// Devices that are examined at the same time.
const AT_ONCE: usize = 32;
/// Devices whose clocks must agree against ours before ours is doubted.
const CLOCKS: usize = 3;
/// Seconds by which they may differ among themselves.
const AGREEMENT: i64 = 30;

/// What is left to do where nothing is found.
const LOOK_AT_IT: &str = "switch its power off and on, and look at its own console";

/// `quoll doctor`.
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// The device; without one, the whole house
    device: Option<String>,
    /// Do what is safe: one setting that can be set back, never a key
    #[arg(long, requires = "device")]
    fix: bool,
    /// Where the device's web console is now, if not where it was
    #[arg(long, value_name = "HOST[:PORT]", requires = "device")]
    at: Option<String>,
    /// A file with the web password on its first line
    #[arg(long, value_name = "FILE")]
    web_password_file: Option<PathBuf>,
    /// How long a device's console, or the server at its broker's address, may be silent before it counts as hanging
    #[arg(long, value_name = "SECONDS", default_value_t = doctor::SILENCE.as_secs(), value_parser = clap::value_parser!(u64).range(1..=60))]
    patience: u64,
}

impl Doctor {
    pub(crate) async fn run(&self, common: &Common) -> Outcome {
        if matches!(common.output, Format::Ics | Format::Prometheus) {
            return Err(
                Failure::new(Exit::Usage, "a verdict is no list of dates").hint("use table, json or csv")
            );
        }
        let home = common.home()?;
        let settings = common.settings(&home, &ServerArgs::default())?;
        let password = self.web_password_file.as_deref().map(read_password).transpose()?;
        let devices = devices(&home);
        let patience = Duration::from_secs(self.patience);
        match &self.device {
            Some(name) => {
                let practice = Practice::open(&home, &settings, devices?).await.patient_for(patience);
                self.one(common, &practice, name, password).await
            }
            None => {
                let (devices, unreadable) = match devices {
                    Ok(devices) => (devices, None),
                    // The house can still be looked at; fleet.db has a line of its own.
                    Err(failure) => (Vec::new(), Some(failure)),
                };
                let practice =
                    Arc::new(Practice::open(&home, &settings, devices).await.patient_for(patience));
                whole_house(common, practice, password, unreadable).await
            }
        }
    }

    async fn one(
        &self,
        common: &Common,
        practice: &Practice,
        name: &str,
        password: Option<Zeroizing<String>>,
    ) -> Outcome {
        let name = device_name(name)?;
        let mut device =
            practice.devices.iter().find(|device| device.name == name).cloned().ok_or_else(|| {
                Failure::new(Exit::NotFound, format!("there is no device {name}"))
                    .hint("`quoll device list` shows them; without a name: quoll doctor")
            })?;
        if let Some(at) = &self.at {
            device.address = Address::parse(at).map_err(|error| {
                Failure::new(Exit::Usage, format!("{at:?} cannot be a device's address"))
                    .why(&error)
                    .maybe_hint(error.hint())
            })?;
        }
        // Before the look at it: what is seen in the middle of somebody else's change is nothing to repair.
        let held = match self.fix {
            true => {
                let registry = Registry::open(&practice.home.fleet_db()).map_err(trouble::registry)?;
                let lock = lock(&registry, &device.name).map_err(enrolment::failure)?;
                Some((registry, lock))
            }
            false => None,
        };
        let console = practice.console(&device, password.as_deref().map(String::as_str));
        let mut evidence = practice.examine(&device, &console).await;
        let mut verdict = diagnose(&evidence);
        let mut done = Done::default();
        if let Some((registry, _lock)) = held {
            let surgery = Surgery { common, practice, registry, device: &device, console: &console };
            (evidence, verdict, done) = surgery.operate(evidence, verdict).await?;
        }
        show(common, &evidence, &verdict, &done)?;
        unwell(&evidence.name, &verdict)
    }
}

fn devices(home: &Home) -> Outcome<Vec<Device>> {
    if !home.fleet_db().exists() {
        return Ok(Vec::new());
    }
    let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
    registry.devices().map_err(trouble::registry)
}

/// What a person is told about one device.
fn show(common: &Common, evidence: &Evidence, verdict: &Verdict, done: &Done) -> Outcome {
    match common.output {
        Format::Json => {
            let all = json!({
                "device": evidence.name,
                "verdict": verdict,
                "repaired": done.repaired,
                "put_back": done.put_back,
                "not_put_back": done.not_put_back,
                "evidence": evidence,
            });
            print(&format!("{all:#}\n"))
        }
        Format::Csv => {
            let mut listing = listing();
            listing.row(row(evidence, verdict));
            listing.print(Format::Csv)
        }
        _ => print(&shown(&text(evidence, verdict, done))),
    }
}

fn text(evidence: &Evidence, verdict: &Verdict, done: &Done) -> String {
    let mut text = format!("{}: {}\n", evidence.name, words(verdict.health));
    let mut part = |heading: &str, lines: &[String]| {
        for (at, line) in lines.iter().enumerate() {
            let heading = if at == 0 { heading } else { "" };
            text.push_str(&format!("  {heading:<14}{line}\n"));
        }
    };
    if let Some(finding) = &verdict.cause {
        part("cause", &[format!("{} [{}]", finding.cause, finding.rule)]);
        part("evidence", &finding.evidence);
        part("fix", std::slice::from_ref(&finding.fix));
        let would = finding
            .repair
            .as_ref()
            .map(|repair| format!("quoll doctor {} --fix will {}", evidence.name, repair.words()));
        part("", would.as_slice());
    }
    let also: Vec<String> = verdict
        .also
        .iter()
        .map(|finding| format!("{} [{}]; {}", finding.cause, finding.rule, finding.fix))
        .collect();
    part("also", &also);
    part("not found out", &doctor::unknown(evidence));
    let words = |repairs: &[Repair]| repairs.iter().map(Repair::words).collect::<Vec<_>>();
    part("done", &words(&done.repaired));
    part("taken back", &words(&done.put_back));
    part("not taken back", &done.not_put_back);
    text
}

fn words(health: Health) -> &'static str {
    match health {
        Health::Well => "well: connected, and nothing found",
        Health::Warned => "connected, with a warning",
        Health::Ill => "not well",
        Health::Unexplained => "not connected, and nothing that is known explains it",
    }
}

fn word(health: Health) -> &'static str {
    match health {
        Health::Well => "well",
        Health::Warned => "warned",
        Health::Ill => "ill",
        Health::Unexplained => "unexplained",
    }
}

fn unwell(name: &str, verdict: &Verdict) -> Outcome {
    match (verdict.health, &verdict.cause) {
        (Health::Well | Health::Warned, _) => Ok(()),
        (Health::Ill, Some(finding)) => {
            Err(Failure::new(Exit::Unwell, format!("{name} is not well: {}", finding.cause))
                .hint(&finding.fix))
        }
        _ => Err(Failure::new(
            Exit::Unwell,
            format!("{name} is not connected, and nothing that is known explains it"),
        )
        .hint(LOOK_AT_IT)),
    }
}

fn listing() -> Listing {
    let columns = [
        ("part", "PART"),
        ("name", "NAME"),
        ("health", "HEALTH"),
        ("rule", "RULE"),
        ("finding", "FINDING"),
        ("fix", "FIX"),
    ];
    Listing::new(&columns, "there is nothing here yet")
}

fn row(evidence: &Evidence, verdict: &Verdict) -> Vec<Value> {
    let of = |read: fn(&Finding) -> &str| verdict.cause.as_ref().map(read).map(ToOwned::to_owned);
    let is_open = verdict.health == Health::Unexplained && verdict.cause.is_none();
    let open = |text: &str| is_open.then(|| text.to_owned());
    vec![
        json!("device"),
        json!(evidence.name),
        json!(word(verdict.health)),
        json!(of(|finding| finding.rule)),
        json!(of(|finding| &finding.cause).or_else(|| open(words(verdict.health)))),
        json!(of(|finding| &finding.fix).or_else(|| open(LOOK_AT_IT))),
    ]
}

async fn whole_house(
    common: &Common,
    practice: Arc<Practice>,
    password: Option<Zeroizing<String>>,
    unreadable: Option<Failure>,
) -> Outcome {
    if house::is_empty(&practice) {
        return Err(Failure::new(
            Exit::NotFound,
            format!("nothing is in {} yet", practice.home.dir().display()),
        )
        .hint("begin with: quoll up; or choose another home with --home"));
    }
    let checks = house::check(&practice).await;
    let examined = examine_all(&practice, password).await;
    let mut listing = listing();
    for check in &checks {
        let name = json!(null);
        let (state, rule) = (json!(check.state.word()), json!(null));
        listing.row(vec![json!(check.part), name, state, rule, json!(check.finding), json!(check.fix)]);
    }
    if let Some((clocks, off)) = our_clock(&examined) {
        let finding = format!("{clocks} devices agree that this machine's clock is {} s off", -off);
        let fix = "set this machine's clock (timedatectl set-ntp true)";
        listing.row(vec![
            json!("clock"),
            json!(null),
            json!("warned"),
            json!(null),
            json!(finding),
            json!(fix),
        ]);
    }
    for (evidence, verdict) in &examined {
        listing.row(row(evidence, verdict));
    }
    listing.print(common.output)?;
    if let Some(failure) = unreadable {
        return Err(failure);
    }
    let parts = checks.iter().filter(|check| check.state == State::Ill).count();
    let ill = |verdict: &Verdict| matches!(verdict.health, Health::Ill | Health::Unexplained);
    let sick = examined.iter().filter(|(_, verdict)| ill(verdict)).count();
    if parts + sick == 0 {
        return Ok(());
    }
    Err(Failure::new(Exit::Unwell, unwell_house(parts, sick, examined.len()))
        .hint("begin with the first line that is ill or unexplained; for a device: quoll doctor NAME"))
}

fn unwell_house(parts: usize, sick: usize, all: usize) -> String {
    let parts_of_it = match parts {
        0 => None,
        1 => Some("1 part of the house".to_owned()),
        many => Some(format!("{many} parts of the house")),
    };
    let devices = (sick > 0).then(|| format!("{sick} of {all} devices"));
    let is = if parts + sick == 1 { "is" } else { "are" };
    let who: Vec<String> = parts_of_it.into_iter().chain(devices).collect();
    format!("{} {is} not well", who.join(" and "))
}

/// All devices, so many at a time, in the order of the registry.
async fn examine_all(
    practice: &Arc<Practice>,
    password: Option<Zeroizing<String>>,
) -> Vec<(Evidence, Verdict)> {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut work = JoinSet::new();
    for (place, device) in practice.devices.iter().cloned().enumerate() {
        let (practice, room, password) = (Arc::clone(practice), Arc::clone(&room), password.clone());
        work.spawn(async move {
            let _permit = room.acquire_owned().await;
            let console = practice.console(&device, password.as_deref().map(String::as_str));
            let evidence = practice.examine(&device, &console).await;
            let verdict = diagnose(&evidence);
            (place, evidence, verdict)
        });
    }
    let mut examined = Vec::new();
    while let Some(done) = work.join_next().await {
        examined.extend(done);
    }
    examined.sort_by_key(|(place, ..)| *place);
    examined.into_iter().map(|(_, evidence, verdict)| (evidence, verdict)).collect()
}

/// Where several devices agree with each other against us, it is we who are wrong: how many, and by how many seconds.
fn our_clock(examined: &[(Evidence, Verdict)]) -> Option<(usize, i64)> {
    let mut off: Vec<i64> =
        examined.iter().filter_map(|(it, _)| Some(it.device.clock?.saturating_sub(it.now))).collect();
    if off.len() < CLOCKS {
        return None;
    }
    off.sort_unstable();
    let middle = off[off.len() / 2];
    let agreeing = off.iter().filter(|one| one.abs_diff(middle) <= AGREEMENT.unsigned_abs()).count();
    (middle.abs() > 2 * AGREEMENT && agreeing >= CLOCKS && 2 * agreeing > off.len())
        .then_some((agreeing, middle))
}
