//! How far a change of the server's key is, device by device, and what comes next.

use std::sync::Arc;

use quoll_fleet::device::Rung;
use quoll_fleet::registry::server_key::{KeyStage, ServerKeyChange};
use serde_json::{Value, json};

use super::desk::Desk;
use crate::cli::Common;
use crate::failure::Outcome;
use crate::output::{Listing, print_facts};
use crate::trouble;

impl Desk {
    pub(super) fn show(self: &Arc<Self>, common: &Common) -> Outcome {
        let change = self.change()?;
        let pinned = self.pinned()?;
        let wanted = if change.stage == KeyStage::Switched { "back" } else { "told" };
        let ready = pinned.iter().filter(|(_, slot)| self.is_ready(&change, slot.as_ref())).count();
        let others = self.registry.devices().map_err(trouble::registry)?;
        let others =
            others.iter().filter(|device| device.rung == Rung::Mutual && device.state.admits()).count();
        let mut listing = Listing::new(
            &[
                ("name", "DEVICE"),
                ("slots", "SLOTS"),
                ("ready", "READY"),
                ("address", "ADDRESS"),
                ("problem", "PROBLEM"),
            ],
            "no device pins the server's key",
        );
        for (device, slot) in &pinned {
            listing.row(vec![
                json!(device.name.as_str()),
                json!(slot.as_ref().map_or("not told", |slot| slot.stage.as_str())),
                json!(self.is_ready(&change, slot.as_ref())),
                json!(device.address.to_string()),
                json!(slot.as_ref().and_then(|slot| slot.problem.clone())),
            ]);
        }
        if common.is_for_people() {
            let facts = [
                ("stage", "Stage", json!(change.stage.as_str())),
                ("new", "New key", json!(change.fingerprint)),
                ("old", "Old key", json!(change.previous)),
                ("ready", "Devices", json!(format!("{ready} of {} {wanted}", pinned.len()))),
                ("others", "Need nothing", json!(format!("{others} that check the CA"))),
                ("next", "Next", json!(next(&change, ready == pinned.len()))),
            ];
            print_facts(&facts, common.output)?;
            return listing.print(common.output);
        }
        if common.output == crate::output::Format::Json {
            let devices: Value = serde_json::from_str(&listing.render(common.output)?).unwrap_or_default();
            let facts = [
                ("stage", "", json!(change.stage.as_str())),
                ("new", "", json!(change.fingerprint)),
                ("old", "", json!(change.previous)),
                ("ready", "", json!(ready)),
                ("of", "", json!(pinned.len())),
                ("others", "", json!(others)),
                ("devices", "", devices),
            ];
            return print_facts(&facts, common.output);
        }
        listing.print(common.output)
    }
}

pub(super) fn next(change: &ServerKeyChange, all: bool) -> &'static str {
    match (change.stage, all) {
        (KeyStage::Staging, false) => "quoll server key stage",
        (KeyStage::Staging | KeyStage::Switching, _) | (KeyStage::Switched, false) => {
            "quoll server key switch"
        }
        (KeyStage::Switched, true) => "quoll server key finish",
    }
}
