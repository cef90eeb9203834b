//! `quoll device check` and `repair`: how devices stand after an update over the air, and what brings them back.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use quoll_fleet::device::{Device, DeviceState, Rung};
use quoll_fleet::enrol::{BrokerTarget, EnrolRequest, Patience, Probe};
use quoll_fleet::life::{Finding, check, prove, rung_in_question};
use quoll_fleet::registry::Registry;
use quoll_pki::{Pki, Serial};
use quoll_tasmota::Stored;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::{Common, ServerArgs};
use crate::enrolment::{self, NodeWitness, Wish, device_name, read_password};
use crate::failure::{Exit, Failure, Outcome};
use crate::home::Home;
use crate::life::{Bench, Road, RoadArgs};
use crate::output::{Listing, print_facts};
use crate::{bell, dates, trouble, workshop};

/// Devices asked at a time.
const AT_ONCE: usize = 16;

/// How long a device that was set up by hand is waited for: it tries again after 10 s and more.
const SEEN_WITHIN: Duration = Duration::from_secs(30);

/// `quoll device check`.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The device's name
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    name: Option<String>,
    /// Every device
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    road: RoadArgs,
}

/// `quoll device repair`.
#[derive(Args, Debug)]
pub(crate) struct Repair {
    /// The device's name
    name: String,
    #[command(flatten)]
    road: RoadArgs,
}

/// What is asked for and compared with; no key of the CA.
struct Desk {
    home: Home,
    registry: Registry,
    folders: Vec<Pki>,
    target: BrokerTarget,
    password: Option<Zeroizing<String>>,
}

/// How a device stands.
struct Standing {
    device: Device,
    word: &'static str,
    firmware: String,
    problem: Option<String>,
    next: Option<String>,
}

impl Check {
    pub(super) async fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let settings = common.settings(&home, &ServerArgs::default())?;
        let serving = workshop::open_pki(&workshop::serving(&settings)?)?;
        let target = enrolment::target(&settings, &serving, &Wish::default())?;
        let mut folders = vec![workshop::open_pki(&settings)?];
        folders.extend(workshop::next_pki(&settings)?);
        let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
        let password = self.road.web_password_file.as_deref().map(read_password).transpose()?;
        let devices = match &self.name {
            Some(name) => vec![super::device::find(common, &device_name(name)?)?],
            None => registry.devices().map_err(trouble::registry)?,
        };
        if self.all && (self.road.at.is_some() || self.road.serial.is_some()) {
            return Err(Failure::new(Exit::Usage, "--at and --serial are of one device"));
        }
        let desk = Arc::new(Desk { home: home.clone(), registry, folders, target, password });
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        let mut work = JoinSet::new();
        for device in devices.into_iter().filter(|device| device.state.admits()) {
            let (desk, at_once, road) = (Arc::clone(&desk), Arc::clone(&at_once), self.road.clone());
            work.spawn(async move {
                let _place = at_once.acquire_owned().await;
                desk.look(device, &road).await
            });
        }
        let mut found = Vec::new();
        while let Some(one) = work.join_next().await {
            found.push(
                one.map_err(|error| Failure::new(Exit::System, "the work was broken off").why(error))??,
            );
        }
        found.sort_by(|a, b| a.device.name.cmp(&b.device.name));
        let mut listing = Listing::new(
            &[
                ("name", "DEVICE"),
                ("rung", "RUNG"),
                ("finding", "FOUND"),
                ("firmware", "FIRMWARE"),
                ("problem", "PROBLEM"),
                ("next", "NEXT"),
            ],
            "no devices yet",
        );
        let bad = found.iter().filter(|one| one.problem.is_some()).count();
        for one in &found {
            listing.row(vec![
                json!(one.device.name.as_str()),
                json!(one.device.rung.as_str()),
                json!(one.word),
                json!(one.firmware),
                json!(one.problem),
                json!(one.next),
            ]);
        }
        listing.print(common.output)?;
        bell::ring(&home).await?;
        match bad {
            0 => Ok(()),
            _ => Err(Failure::new(Exit::Partial, format!("{bad} of {} devices need a hand", found.len()))
                .hint("the listing says what to do for each")),
        }
    }
}

impl Desk {
    /// Asks one, and notes what is wrong with it, or that nothing is.
    async fn look(&self, device: Device, road: &RoadArgs) -> Outcome<Standing> {
        let road = Road::with(Some(&device), road, self.password.as_ref()).await?;
        let passwords = self.registry.passwords_of(&device.name).map_err(trouble::registry)?;
        let logins: Vec<&str> = passwords.iter().map(|one| one.login.as_str()).collect();
        let expected = self.expected(&device)?;
        let looked =
            check(road.console(), Patience::default(), &device, &self.target, expected, &logins).await;
        let mut device = device;
        let (word, firmware, problem, next) = match looked {
            Ok((probe, Finding::Well)) => {
                let rung = rung_in_question(&device, &probe, !logins.is_empty());
                let (word, problem, next) = self.proven(&mut device, rung, &probe, &road).await?;
                (word, probe.firmware.version, problem, next)
            }
            Ok((probe, finding)) => {
                (finding.word(), probe.firmware.version, finding.problem(), finding.hint(&device))
            }
            Err(error) => ("silent", String::new(), Some(error.to_string()), error.hint()),
        };
        // A silent console is no fault of the device's: many are switched off at the wall.
        let changes = self.registry.change_of(&device.name).map_err(trouble::registry)?.is_some();
        // Whoever is at work on it notes what becomes of that.
        let held = self.registry.lock_enrolment(&device.name).map_err(trouble::registry)?;
        if word != "silent" && !changes && held.is_some() {
            let well = word == Finding::Well.word();
            let text = problem.as_deref().filter(|_| !well);
            self.registry.note_problem(&device.name, text).map_err(trouble::registry)?;
        }
        Ok(Standing { device, word, firmware, problem, next })
    }

    /// One that is as it should be, and was never seen on that rung, or not since a run that failed: does the broker see it?
    async fn proven(
        &self,
        device: &mut Device,
        rung: Rung,
        found: &Probe,
        road: &Road,
    ) -> Outcome<(&'static str, Option<String>, Option<String>)> {
        let well = (Finding::Well.word(), None, None);
        if rung == device.rung && (device.state == DeviceState::Proven || rung == Rung::Plain) {
            return Ok(well);
        }
        // Printed lines know neither its address nor its firmware.
        let request = EnrolRequest::new(device.name.clone(), road.address(device));
        self.registry.register(&found.device(&request)).map_err(trouble::registry)?;
        let witness = NodeWitness { home: &self.home };
        match prove(&self.registry, &witness, &device.name, rung, SEEN_WITHIN).await {
            Ok(Some(proven)) => {
                *device = proven;
                Ok(well)
            }
            Ok(None) => {
                let problem = "it has our settings, and the broker has not seen it with them".to_owned();
                let next = format!("is it connected? then again: quoll device check {}", device.name);
                Ok(("unseen", Some(problem), Some(next)))
            }
            Err(error) => Ok(("unseen", Some(error.to_string()), error.hint())),
        }
    }

    /// The lengths that `TLSKey` should report.
    fn expected(&self, device: &Device) -> Outcome<Option<Stored>> {
        let serial = device.serial.as_deref().filter(|_| device.rung != Rung::Pinned);
        let Some(serial) = serial.and_then(|text| text.parse::<Serial>().ok()) else { return Ok(None) };
        for folder in &self.folders {
            if let Some(certificate) = folder.certificate_by_serial(&serial).map_err(trouble::pki)? {
                return Ok(Some(Stored { key: Some(32), certificate: Some(certificate.der().len()) }));
            }
        }
        Ok(None)
    }
}

impl Repair {
    pub(super) async fn run(&self, common: &Common) -> Outcome {
        let known = super::device::find(common, &device_name(&self.name)?)?;
        let bench = Bench::open(common)?;
        let road = Road::to(Some(&known), &self.road).await?;
        let repaired = bench.repair(&known, &road, |line| eprintln!("  {line}")).await;
        bell::ring(&bench.home).await?;
        let enrolled = repaired.map_err(Failure::from)?;
        bench.desk.tell_of_lists();
        for note in &enrolled.notes {
            eprintln!("quoll: note: {note}");
        }
        let device = &enrolled.device;
        let facts = [
            ("name", "Device", json!(device.name.as_str())),
            ("rung", "Rung", json!(device.rung.as_str())),
            ("repaired", "Repaired", json!(!enrolled.already)),
            ("certificate_serial", "Certificate", json!(device.serial)),
            ("expires", "Valid until", json!(device.expires.map(dates::stamp))),
            ("connected_from", "Connected from", json!(enrolled.sighting.address)),
        ];
        print_facts(&facts, common.output)
    }
}
