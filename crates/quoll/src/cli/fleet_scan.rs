//! `quoll fleet scan`: finds devices and keeps what was found.

use clap::Args;
use quoll_fleet::campaign::{Candidate, Found, Skill};
use quoll_fleet::registry::Registry;
use serde_json::json;
use time::OffsetDateTime;

use super::Common;
use super::find::Places;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Listing;
use crate::trouble;

/// `quoll fleet scan`.
#[derive(Args, Debug)]
pub(crate) struct Scan {
    #[command(flatten)]
    places: Places,
}

impl Scan {
    pub(crate) async fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let looked = self.places.look().await?;
        if !home.dir().exists() {
            return Err(Failure::new(Exit::Unusable, format!("there is no {}", home.dir().display()))
                .hint("quoll up makes it"));
        }
        let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
        let now = OffsetDateTime::now_utc();
        let mut candidates = Vec::new();
        for finding in &looked.found {
            let at = finding.address().unwrap_or_default();
            match Candidate::new(finding, looked.names.get(&at), now) {
                Some(candidate) => candidates.push(candidate),
                // Without its MAC it could be any device, known or not.
                None => eprintln!(
                    "quoll: note: {at} is not kept: {}",
                    finding.problem.as_deref().unwrap_or("it does not say its MAC")
                ),
            }
        }
        registry.keep_candidates(&candidates).map_err(trouble::registry)?;
        let mut listing = Listing::new(
            &[
                ("mac", "MAC"),
                ("address", "ADDRESS"),
                ("name", "NAME"),
                ("topic", "TOPIC"),
                ("firmware", "FIRMWARE"),
                ("chip", "CHIP"),
                ("heap_kib", "HEAP"),
                ("rssi_percent", "RSSI"),
                ("possible", "POSSIBLE"),
                ("problem", "PROBLEM"),
            ],
            "no devices found",
        );
        for Candidate { mac, found, .. } in &candidates {
            listing.row(vec![
                json!(mac.to_string()),
                json!(found.address),
                json!(found.name),
                json!(found.topic),
                json!(found.firmware),
                json!(found.chip),
                json!(found.heap),
                json!(found.rssi),
                json!(possible(found)),
                json!(found.problem),
            ]);
        }
        listing.print(common.output)?;
        if common.is_for_people() && !candidates.is_empty() {
            let all = registry.candidates().map_err(trouble::registry)?.len();
            eprintln!(
                "quoll: {} found, {all} known of; what would be done: quoll fleet plan",
                candidates.len()
            );
        }
        Ok(())
    }
}

/// The highest rung that its firmware can reach.
fn possible(found: &Found) -> Option<&'static str> {
    Some(match found.ability? {
        Skill::MqttOff => return None,
        Skill::None => "plain",
        Skill::Server => "pinned",
        Skill::Key | Skill::KeyTaken => "mutual",
    })
}
