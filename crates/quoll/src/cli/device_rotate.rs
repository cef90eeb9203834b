//! `quoll device rotate`: a new key and certificate, or a new password, for devices that live.

use std::sync::Arc;

use clap::Args;
use quoll_fleet::device::{Device, DeviceState, Rung};
use serde_json::json;
use time::{Duration, OffsetDateTime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Common;
use crate::enrolment::{device_name, read_password};
use crate::failure::{Exit, Failure, Outcome};
use crate::life::{Bench, Road, RoadArgs, Rotated};
use crate::output::{Listing, print_facts};
use crate::{bell, dates};

/// Devices at a time: they mostly wait for their restarts.
const AT_ONCE: usize = 8;
/// Most devices at a time that may be asked for.
const AT_ONCE_MOST: usize = 64;

/// `quoll device rotate`.
#[derive(Args, Debug)]
pub(crate) struct Rotate {
    /// The device's name
    #[arg(required_unless_present_any = ["all", "expiring"], conflicts_with_all = ["all", "expiring"])]
    name: Option<String>,
    /// Every device that is proven
    #[arg(long, conflicts_with = "expiring")]
    all: bool,
    /// Every proven device whose certificate ends within so many days
    #[arg(long, value_name = "DAYS")]
    expiring: Option<u16>,
    /// Devices at a time, with --all and --expiring
    #[arg(long, value_name = "N", default_value_t = AT_ONCE)]
    at_once: usize,
    #[command(flatten)]
    road: RoadArgs,
}

impl Rotate {
    pub(super) async fn run(&self, common: &Common) -> Outcome {
        match &self.name {
            Some(name) => self.one(common, name).await,
            None => self.many(common).await,
        }
    }

    async fn one(&self, common: &Common, name: &str) -> Outcome {
        let name = device_name(name)?;
        let known = super::device::find(common, &name)?;
        let bench = Bench::open(common)?;
        let road = Road::to(Some(&known), &self.road).await?;
        let rotated = bench.rotate(&known, &road, |line| eprintln!("  {line}")).await;
        bell::ring(&bench.home).await?;
        let rotated = rotated?;
        bench.desk.tell_of_lists();
        for note in rotated.notes() {
            eprintln!("quoll: note: {note}");
        }
        let device = rotated.device();
        let sighting = match &rotated {
            Rotated::Key(changed) => changed.sighting.as_ref(),
            Rotated::Password(enrolled) => Some(&enrolled.sighting),
        };
        let facts = [
            ("name", "Device", json!(device.name.as_str())),
            ("rung", "Rung", json!(device.rung.as_str())),
            ("new", "New", json!(what(device))),
            ("certificate_serial", "Certificate", json!(device.serial)),
            ("previous", "Void now", json!(known.serial)),
            ("expires", "Valid until", json!(device.expires.map(dates::stamp))),
            ("connected_from", "Connected from", json!(sighting.map(|sighting| &sighting.address))),
        ];
        print_facts(&facts, common.output)
    }

    async fn many(&self, common: &Common) -> Outcome {
        if self.road.at.is_some() || self.road.serial.is_some() {
            return Err(Failure::new(Exit::Usage, "--at and --serial are of one device")
                .hint("each device is asked where it was last"));
        }
        let password = self.road.web_password_file.as_deref().map(read_password).transpose()?;
        let bench = Arc::new(Bench::open(common)?);
        let chosen = self.chosen(&bench)?;
        let at_once = Arc::new(Semaphore::new(self.at_once.clamp(1, AT_ONCE_MOST)));
        let mut work = JoinSet::new();
        for device in chosen {
            let (bench, at_once, password) = (Arc::clone(&bench), Arc::clone(&at_once), password.clone());
            work.spawn(async move {
                let _place = at_once.acquire_owned().await;
                let rotated = async {
                    let road = Road::with(Some(&device), &RoadArgs::default(), password.as_ref()).await?;
                    let quiet = |_: &str| {};
                    bench.rotate(&device, &road, quiet).await.map_err(Failure::from)
                };
                let outcome = rotated.await;
                (device, outcome)
            });
        }
        let mut done: Vec<(Device, Outcome<Rotated>)> = Vec::new();
        while let Some(one) = work.join_next().await {
            let (device, outcome) =
                one.map_err(|error| Failure::new(Exit::System, "the work was broken off").why(error))?;
            match &outcome {
                Ok(_) => eprintln!("  ok  {}", device.name),
                Err(failure) => eprintln!("  !!  {}: {}", device.name, failure.what),
            }
            done.push((device, outcome));
        }
        bell::ring(&bench.home).await?;
        bench.desk.tell_of_lists();
        done.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        let mut listing = Listing::new(
            &[
                ("name", "DEVICE"),
                ("rung", "RUNG"),
                ("rotated", "NEW"),
                ("certificate_serial", "CERTIFICATE"),
                ("expires", "EXPIRES"),
                ("problem", "PROBLEM"),
                ("next", "NEXT"),
            ],
            "there is no such device",
        );
        let failed = done.iter().filter(|(_, outcome)| outcome.is_err()).count();
        for (before, outcome) in &done {
            let after = outcome.as_ref().map_or(before, |rotated| rotated.device());
            let failure = outcome.as_ref().err();
            listing.row(vec![
                json!(before.name.as_str()),
                json!(before.rung.as_str()),
                json!(outcome.is_ok()),
                json!(after.serial),
                json!(after.expires.map(dates::day)),
                json!(failure.map(|failure| &failure.what)),
                json!(failure.and_then(|failure| failure.hint.as_ref())),
            ]);
        }
        listing.print(common.output)?;
        if failed == 0 {
            return Ok(());
        }
        Err(Failure::new(Exit::Partial, format!("{failed} of {} devices were not rotated", done.len()))
            .hint("the others are done; run the same command again for those, it goes on where it stopped"))
    }

    /// Who it is about, by name: of those that can be rotated at all.
    fn chosen(&self, bench: &Bench) -> Outcome<Vec<Device>> {
        let all = bench.registry().devices().map_err(crate::trouble::registry)?;
        let under_way = bench.registry().changes().map_err(crate::trouble::registry)?;
        let until = self.expiring.map(|days| OffsetDateTime::now_utc() + Duration::days(days.into()));
        let is_meant = |device: &Device| {
            let begun =
                under_way.iter().any(|change| change.device == device.name && change.new_name.is_none());
            let proven = device.state == DeviceState::Proven && device.is_welcome();
            let in_time = match until {
                Some(until) => device.rung == Rung::Mutual && device.expires.is_some_and(|at| at <= until),
                None => device.rung != Rung::Plain,
            };
            proven && (in_time || begun)
        };
        Ok(all.into_iter().filter(is_meant).collect())
    }
}

fn what(device: &Device) -> &'static str {
    if device.rung == Rung::Pinned { "password" } else { "key and certificate" }
}
