//! `quoll device rename`: another name, with the certificate and the topic that go with it.

use clap::Args;
use serde_json::json;

use super::Common;
use crate::control::{self, Question};
use crate::enrolment::device_name;
use crate::failure::{Failure, Outcome};
use crate::life::{Bench, Road, RoadArgs};
use crate::output::print_facts;
use crate::{bell, dates, trouble};

/// `quoll device rename`.
#[derive(Args, Debug)]
pub(crate) struct Rename {
    /// The device's name
    old: String,
    /// The name it is to have
    new: String,
    #[command(flatten)]
    road: RoadArgs,
}

impl Rename {
    pub(super) async fn run(&self, common: &Common) -> Outcome {
        let (old, new) = (device_name(&self.old)?, device_name(&self.new)?);
        let bench = Bench::open(common)?;
        let known = match bench.device(&old) {
            Ok(known) => known,
            // A run that stopped when it had its new name already.
            Err(failure) => match bench.registry().change_of(&new).map_err(trouble::registry)? {
                Some(_) => bench.device(&new)?,
                None => return Err(failure),
            },
        };
        let road = Road::to(Some(&known), &self.road).await?;
        let renamed = bench.rename(&old, &new, &road, |line| eprintln!("  {line}")).await;
        bell::ring(&bench.home).await?;
        let renamed = renamed.map_err(Failure::from)?;
        bench.desk.tell_of_lists();
        for note in &renamed.notes {
            eprintln!("quoll: note: {note}");
        }
        let device = &renamed.device;
        // The broker let it in under its old name: what it may do follows its name, so it is to come anew.
        if let Some(serial) = device.serial.clone()
            && let Err(error) = control::ask(&bench.home, &Question::Part { serial }).await
        {
            eprintln!("quoll: note: it is known by its old name until it connects again: {error}");
        }
        let facts = [
            ("name", "Device", json!(device.name.as_str())),
            ("was", "Was", json!(old.as_str())),
            ("topic", "Topic", json!(device.topics.topic)),
            ("certificate_serial", "Certificate", json!(device.serial)),
            ("previous", "Void now", json!(renamed.old_serial)),
            ("expires", "Valid until", json!(device.expires.map(dates::stamp))),
        ];
        print_facts(&facts, common.output)
    }
}
