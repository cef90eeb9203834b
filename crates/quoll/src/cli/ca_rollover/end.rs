//! The end of a rollover: the next CA in the old one's place, or put aside.

use quoll_pki::rollover;
use serde_json::json;
use time::OffsetDateTime;

use super::super::{Common, ServerArgs, confirm};
use super::{End, Site, name_of, named};
use crate::audit::Audit;
use crate::config::Settings;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::print_facts;
use crate::{bell, dates, trouble, workshop};

impl End {
    pub(super) async fn finish(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let settings = common.settings(&home, &ServerArgs::default())?;
        let archive = format!("{}-old-{}", folder_name(&settings), dates::day(OffsetDateTime::now_utc()));
        let mut lost = Vec::new();
        if !rollover::is_half_done(&settings.pki) {
            let site = Site::open(common, &ServerArgs::default())?;
            let (old, new) = (name_of(&site.folders.current).to_owned(), name_of(site.next()?).to_owned());
            let standing = site.standing()?;
            lost = standing.dependent().map(|row| format!("{} {}", row.kind, row.name)).collect();
            if !lost.is_empty() && !self.force {
                return Err(Failure::new(Exit::Unusable, format!("{} need {old} still", named(&lost)))
                    .why(format!("{}; nothing was changed", standing.count()))
                    .hint("quoll ca rollover status says what each needs; --force leaves them behind"));
            }
            let what = match lost.is_empty() {
                true => format!("Put {new} in the place of {old}?"),
                false => {
                    format!("Put {new} in the place of {old}? {} will not get in any more.", named(&lost))
                }
            };
            confirm(self.yes, &what)?;
        }
        let subject = settings.pki.display().to_string();
        let audit = Audit::begin(&home, "ca.rollover.finish", &subject, &json!({ "lost": lost }))?;
        let done = rollover::succeed(&settings.pki, &archive).map_err(trouble::pki);
        let archive = audit.end(done, |archive| json!({ "archive": archive.display().to_string() }))?;
        let ended = bell::ring(&home).await?;
        let pki = workshop::open_pki(&settings)?;
        let facts = [
            ("ca", "CA", json!(name_of(&pki))),
            ("folder", "Folder", json!(pki.dir().display().to_string())),
            ("archive", "The old folder", json!(archive.display().to_string())),
            ("lost", "Left behind", json!(lost)),
            ("connections_ended", "Connections ended", json!(ended)),
        ];
        print_facts(&facts, common.output)?;
        if common.is_for_people() {
            eprintln!(
                "quoll: note: other servers trust the old CA until they are told: quoll mosquitto refresh. Keep the old folder \
                 as long as its certificates could turn up"
            );
        }
        Ok(())
    }

    pub(super) async fn abandon(&self, common: &Common) -> Outcome {
        let site = Site::open(common, &ServerArgs::default())?;
        let next = site.next()?;
        let new = name_of(next).to_owned();
        let now = OffsetDateTime::now_utc();
        let entries = next.entries().map_err(trouble::pki)?;
        let lost: Vec<_> = entries
            .iter()
            .filter(|entry| entry.is_valid_at(now))
            .map(|entry| entry.common_name().unwrap_or_else(|| entry.serial.to_string()))
            .collect();
        if !lost.is_empty() && !self.force {
            return Err(Failure::new(
                Exit::Unusable,
                format!("{} have certificates of {new}", named(&lost)),
            )
            .why("without that CA they do not get in; nothing was changed")
            .hint("give them certificates of the old CA first (the server: quoll ca rollover server --back); or --force"));
        }
        confirm(self.yes, &format!("Stay with {}, and put {new} aside?", name_of(&site.folders.current)))?;
        let archive =
            format!("{}-abandoned-{}", folder_name(&site.settings), dates::day(OffsetDateTime::now_utc()));
        let audit = Audit::begin(&site.home, "ca.rollover.abandon", &new, &json!({ "lost": lost }))?;
        let done = rollover::abandon(&site.settings.pki, &archive).map_err(trouble::pki);
        let archive = audit.end(done, |archive| json!({ "archive": archive.display().to_string() }))?;
        let ended = bell::ring(&site.home).await?;
        let facts = [
            ("ca", "CA", json!(name_of(&site.folders.current))),
            ("archive", "The other folder", json!(archive.display().to_string())),
            ("lost", "Left behind", json!(lost)),
            ("connections_ended", "Connections ended", json!(ended)),
        ];
        print_facts(&facts, common.output)
    }
}

fn folder_name(settings: &Settings) -> String {
    settings.pki.file_name().map_or_else(|| "pki".into(), |name| name.to_string_lossy().into_owned())
}
