//! `quoll device quarantine` and `release`: a device is kept out for a while, its certificate stays valid.

use clap::Args;
use quoll_fleet::registry::Registry;
use serde_json::json;

use super::Common;
use crate::enrolment::device_name;
use crate::failure::Outcome;
use crate::output::print_facts;
use crate::{bell, dates, trouble};

/// `quoll device quarantine`.
#[derive(Args, Debug)]
pub(crate) struct Quarantine {
    /// The device's name
    name: String,
    /// Why, for the records
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// `quoll device release`.
#[derive(Args, Debug)]
pub(crate) struct Release {
    /// The device's name
    name: String,
}

impl Quarantine {
    pub(super) async fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let name = super::device::find(common, &device_name(&self.name)?)?.name;
        let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
        let device = registry.quarantine(&name, &self.reason).map_err(trouble::registry)?;
        let ended = bell::ring(&home).await?;
        let live = match ended {
            None => json!("no node is running; it will be refused when one starts"),
            Some(count) => json!(count),
        };
        let facts = [
            ("name", "Device", json!(name.as_str())),
            ("since", "Kept out since", json!(device.quarantine.as_ref().map(|it| dates::stamp(it.since)))),
            ("reason", "Reason", json!(device.quarantine.as_ref().map(|it| &it.reason))),
            (
                "connections_ended",
                "Connections ended",
                if common.is_for_people() { live } else { json!(ended) },
            ),
        ];
        print_facts(&facts, common.output)
    }
}

impl Release {
    pub(super) async fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let name = super::device::find(common, &device_name(&self.name)?)?.name;
        let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
        let device = registry.release(&name).map_err(trouble::registry)?;
        bell::ring(&home).await?;
        let facts = [
            ("name", "Device", json!(name.as_str())),
            ("state", "State", json!(device.state.as_str())),
            ("let_in", "Let in", json!(device.is_welcome())),
        ];
        print_facts(&facts, common.output)
    }
}
