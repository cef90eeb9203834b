//! `quoll device replace`: new hardware under the name of a device that died.

use std::path::PathBuf;

use clap::Args;
use quoll_fleet::enrol::WantedRung;
use serde_json::json;

use super::{Common, confirm};
use crate::enrolment::device_name;
use crate::failure::{Failure, Outcome};
use crate::life::{Bench, Road, RoadArgs, address};
use crate::output::print_facts;
use crate::{bell, dates};

/// `quoll device replace`.
#[derive(Args, Debug)]
pub(crate) struct Replace {
    /// The device's name
    name: String,
    /// Where the new hardware's web console is
    #[arg(long, visible_alias = "address", value_name = "HOST[:PORT]")]
    at: String,
    /// Its serial port: the key goes over the cable and never over the air
    #[arg(long, value_name = "/dev/TTY")]
    serial: Option<PathBuf>,
    /// A file with the device's web password on its first line
    #[arg(long, value_name = "FILE")]
    web_password_file: Option<PathBuf>,
    /// How well it is to be secured: auto, pinned, mutual
    #[arg(long, value_name = "RUNG", default_value = "auto", value_parser = super::device::rung)]
    rung: WantedRung,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Replace {
    pub(super) async fn run(&self, common: &Common) -> Outcome {
        let name = device_name(&self.name)?;
        let known = super::device::find(common, &name)?;
        let at = address(&self.at)?;
        confirm(
            self.yes,
            &format!(
                "Put the device at {at} in the place of {name} ({})? The old one's certificate is revoked; this cannot be undone.",
                known.mac
            ),
        )?;
        let bench = Bench::open(common)?;
        let road = RoadArgs {
            at: Some(self.at.clone()),
            serial: self.serial.clone(),
            web_password_file: self.web_password_file.clone(),
        };
        let road = Road::to(None, &road).await?;
        let replaced = bench.replace(&name, &at, &road, self.rung, |line| eprintln!("  {line}")).await;
        bell::ring(&bench.home).await?;
        let (replaced, enrolled) = replaced.map_err(Failure::from)?;
        bench.desk.tell_of_lists();
        for note in &enrolled.notes {
            eprintln!("quoll: note: {note}");
        }
        let device = &enrolled.device;
        let facts = [
            ("name", "Device", json!(device.name.as_str())),
            ("mac", "MAC", json!(device.mac.to_string())),
            ("was", "Was", json!(known.mac.to_string())),
            ("address", "Console", json!(device.address.to_string())),
            ("rung", "Rung", json!(device.rung.as_str())),
            ("topic", "Topic", json!(device.topics.topic)),
            ("certificate_serial", "Certificate", json!(device.serial)),
            ("void", "Void now", json!(replaced.void)),
            ("expires", "Valid until", json!(device.expires.map(dates::stamp))),
        ];
        print_facts(&facts, common.output)
    }
}
