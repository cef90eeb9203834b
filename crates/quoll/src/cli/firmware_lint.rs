//! `quoll firmware lint`: what is wrong in a `user_config_override.h`.

use std::path::PathBuf;

use clap::Args;
use quoll_tasmota::firmware::{Finding, Level, Release, Target, lint};
use serde_json::json;

use super::Common;
use super::firmware::{ChipName, RELEASE, read_source};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Listing;

/// Arguments of `quoll firmware lint`.
#[derive(Args, Debug)]
pub(crate) struct Lint {
    /// The user_config_override.h to look at
    file: PathBuf,
    /// The chip it is for [default: both]
    #[arg(long = "for", value_enum, value_name = "CHIP")]
    chip: Option<ChipName>,
    /// The version of Tasmota it is for [default: 15.3]
    #[arg(long, value_name = "VERSION")]
    tasmota: Option<Release>,
    /// Warnings count as errors do
    #[arg(long)]
    strict: bool,
}

impl Lint {
    /// `chip` and `tasmota` are what was said before the word `lint`.
    pub(super) fn run(&self, common: &Common, chip: Option<ChipName>, tasmota: Option<Release>) -> Outcome {
        let text = read_source(&self.file)?.ok_or_else(|| {
            Failure::new(Exit::NotFound, format!("there is no file {}", self.file.display()))
                .hint("it is in Tasmota's source folder: tasmota/user_config_override.h")
        })?;
        let release = self.tasmota.or(tasmota).unwrap_or(RELEASE);
        let target = Target { chip: self.chip.or(chip).map(ChipName::chip), release };
        let findings = lint(&text, target);
        listing(&findings).print(common.output)?;
        let count = |level| findings.iter().filter(|it| it.level == level).count();
        let (errors, warnings) = (count(Level::Error), count(Level::Warning));
        if errors == 0 && (warnings == 0 || !self.strict) {
            return Ok(());
        }
        let file = self.file.display();
        Err(Failure::new(
            Exit::Unusable,
            format!(
                "{file} is not good for Tasmota {release}: {}, {}",
                counted(errors, "error"),
                counted(warnings, "warning")
            ),
        )
        .hint("write what INSTEAD says; or let quoll firmware --source DIR write the section"))
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn listing(findings: &[Finding]) -> Listing {
    let columns = [
        ("line", "LINE"),
        ("column", "COLUMN"),
        ("level", "LEVEL"),
        ("rule", "RULE"),
        ("name", "DEFINE"),
        ("what", "WHAT"),
        ("instead", "INSTEAD"),
    ];
    let mut listing = Listing::new(&columns, "nothing is wrong with it");
    for it in findings {
        listing.row(vec![
            json!(it.line),
            json!(it.column),
            json!(it.level.to_string()),
            json!(it.rule),
            json!(it.name),
            json!(it.what),
            json!(it.instead),
        ]);
    }
    listing
}
