//! `quoll server key`: a new key for the server, told to the devices that pin the old one before the server shows it.
//!
//! | room | what is in it |
//! |---|---|
//! | here | the verbs, in the order in which they are used |
//! | `desk` | what they look at, and work on many devices at once |
//! | `exchange` | the server's own part: its new key made, given to it, taken back |
//! | `show` | how far it is, and what comes next |

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use quoll_fleet::device::Device;
use quoll_fleet::registry::server_key::{KeyStage, ServerKeyChange, SlotChange, SlotStage};
use serde_json::json;

mod desk;
mod exchange;
mod show;

use self::desk::{AT_ONCE, Desk, NAMED, PROOFS_AT_ONCE, Prove, TakeBack, TakeOld, Tell};
use self::show::next;
use super::{Common, confirm};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::print_facts;
use crate::trouble;

/// A new key for the server, in steps that lose no device.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make the new key, and tell it to every device that pins the old one; both open the door then
    #[command(
        after_help = "Example:\n  quoll server key stage\n\nDevices that check the CA need nothing. Run it again until all have it; \
        status shows who."
    )]
    Stage(Stage),
    /// Show how far it is, device by device
    #[command(after_help = "Example:\n  quoll server key status --output json")]
    Status,
    /// Give the server its new key, and see every device come back
    #[command(
        after_help = "Example:\n  quoll server key switch\n\nRefused while a device that pins the key was not told of the new one. The \
        first device to come is a canary: where it does not, the old key is back. Nothing is lost before: every device takes both."
    )]
    Switch(Switch),
    /// Take the old key from the devices
    #[command(after_help = "Example:\n  quoll server key finish\n\nUntil then an abort is possible.")]
    Finish(Finish),
    /// Take it all back: the server's old key, and what the devices held before
    #[command(after_help = "Example:\n  quoll server key abort --yes")]
    Abort(Abort),
}

/// Arguments of `quoll server key stage`.
#[derive(Args, Debug)]
pub(crate) struct Stage {
    /// A file with the devices' web password on its first line
    #[arg(long, value_name = "FILE")]
    web_password_file: Option<PathBuf>,
}

/// Arguments of `quoll server key switch`.
#[derive(Args, Debug)]
pub(crate) struct Switch {
    /// Also where devices were not told: they will refuse the server, and are named
    #[arg(long)]
    force: bool,
    /// Do not ask, with --force
    #[arg(long)]
    yes: bool,
}

/// Arguments of `quoll server key finish`.
#[derive(Args, Debug)]
pub(crate) struct Finish {
    /// A file with the devices' web password on its first line
    #[arg(long, value_name = "FILE")]
    web_password_file: Option<PathBuf>,
    /// Also where devices did not come back: they are left as they are, and are named
    #[arg(long)]
    force: bool,
}

/// Arguments of `quoll server key abort`.
#[derive(Args, Debug)]
pub(crate) struct Abort {
    /// A file with the devices' web password on its first line
    #[arg(long, value_name = "FILE")]
    web_password_file: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Key {
    pub(super) async fn run(&self, common: &Common) -> Outcome {
        match self {
            Self::Stage(stage) => stage.run(common).await,
            Self::Status => Desk::open(common)?.show(common),
            Self::Switch(switch) => switch.run(common).await,
            Self::Finish(finish) => finish.run(common).await,
            Self::Abort(abort) => abort.run(common).await,
        }
    }
}

impl Stage {
    async fn run(&self, common: &Common) -> Outcome {
        let desk = Desk::open(common)?;
        if desk.registry.server_key_change().map_err(trouble::registry)?.is_none() {
            desk.begin()?;
        }
        let change = desk.change()?;
        if change.stage == KeyStage::Staging {
            desk.new_key(&change)?;
        }
        let to_tell = desk.pinned()?.into_iter().filter(|(_, slot)| desk.is_untold(slot.as_ref()));
        let to_tell = to_tell.map(|(device, _)| device).collect();
        let failed = desk.each(to_tell, AT_ONCE, self.web_password_file.as_ref(), Tell).await?;
        desk.show(common)?;
        desk.partial("were not told of the new key", &failed, "run the same command again")
    }
}

impl Switch {
    async fn run(&self, common: &Common) -> Outcome {
        let desk = Desk::open(common)?;
        let change = desk.change_as_shown()?;
        if change.stage != KeyStage::Switched {
            self.refuse_lost(&desk, &change)?;
            desk.give(common, &change).await?;
        }
        let change = desk.change()?;
        if !self.force {
            // Those that came since: they hold the new key already, or are told of it now.
            let since = desk.pinned()?.into_iter().filter(|(_, slot)| slot.is_none());
            let failed = desk.each(since.map(|(device, _)| device).collect(), AT_ONCE, None, Tell).await?;
            desk.partial("were not told of the new key", &failed, "quoll server key stage")?;
        }
        let to_prove = |desk: &Arc<Desk>| -> Outcome<Vec<Device>> {
            let all = desk.pinned()?.into_iter();
            let staged =
                |slot: &Option<SlotChange>| slot.as_ref().is_some_and(|slot| slot.stage == SlotStage::Staged);
            Ok(all.filter(|(_, slot)| staged(slot)).map(|(device, _)| device).collect())
        };
        // The canary: one that is there now, so that its coming back says something.
        let proven_before = desk.pinned()?.iter().any(|(_, slot)| {
            slot.as_ref().is_some_and(|slot| matches!(slot.stage, SlotStage::Proven | SlotStage::Finished))
        });
        if !proven_before && let Some(canary) = desk.canary(to_prove(&desk)?).await {
            let failed = desk.each(vec![canary], 1, None, Prove).await?;
            if let Some((name, error)) = failed.first()
                && !self.force
            {
                desk.give_back(common, &change).await?;
                return Err(Failure::new(
                    Exit::Partial,
                    format!("the server has its old key back: {name} did not come with the new one"),
                )
                .why(error)
                .hint(format!("look at it: quoll device check {name}; then: quoll server key switch")));
            }
        }
        let failed = desk.each(to_prove(&desk)?, PROOFS_AT_ONCE, None, Prove).await?;
        desk.show(common)?;
        desk.partial("did not come back yet", &failed, "they may be switched off: run the same command again")
    }

    /// Who would refuse the server.
    fn refuse_lost(&self, desk: &Desk, change: &ServerKeyChange) -> Outcome {
        let lost: Vec<String> = desk
            .pinned()?
            .iter()
            .filter(|(_, slot)| !desk.is_ready(change, slot.as_ref()))
            .map(|(device, _)| device.name.to_string())
            .collect();
        if lost.is_empty() {
            return Ok(());
        }
        let mut names = lost.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        if lost.len() > NAMED {
            names.push_str(&format!(" and {} more", lost.len() - NAMED));
        }
        if !self.force {
            return Err(Failure::new(
                Exit::Partial,
                format!("{} devices were not told of the new key, and would refuse the server", lost.len()),
            )
            .why(names)
            .hint("quoll server key stage tells them; or leave them behind with --force"));
        }
        confirm(self.yes, &format!("{names} will refuse the server until they are repaired by hand. Go on?"))
    }
}

impl Finish {
    async fn run(&self, common: &Common) -> Outcome {
        let desk = Desk::open(common)?;
        let change = desk.change_as_shown()?;
        if change.stage != KeyStage::Switched {
            return Err(Failure::new(Exit::Partial, "the server shows its old key still").hint(next(
                &change,
                desk.pinned()?.iter().all(|(_, slot)| desk.is_ready(&change, slot.as_ref())),
            )));
        }
        // One whose slots were being written when a run was killed is gone on with.
        let is_back = |slot: Option<&SlotChange>| {
            let half =
                slot.is_some_and(|slot| change.is_past_return(slot) && slot.stage == SlotStage::Writing);
            desk.is_ready(&change, slot) || half
        };
        let (back, away): (Vec<_>, Vec<_>) =
            desk.pinned()?.into_iter().partition(|(_, slot)| is_back(slot.as_ref()));
        if !away.is_empty() {
            let names: Vec<_> = away.iter().take(NAMED).map(|(device, _)| device.name.to_string()).collect();
            let names = names.join(", ");
            if !self.force {
                return Err(Failure::new(
                    Exit::Partial,
                    format!("{} devices did not come back yet", away.len()),
                )
                .why(names)
                .hint(
                    "quoll server key switch waits for them again; or leave them as they are with --force",
                ));
            }
            eprintln!("quoll: note: left as they are: {names}");
        }
        let to_do = back
            .into_iter()
            .filter(|(_, slot)| slot.as_ref().is_none_or(|slot| slot.stage != SlotStage::Finished));
        let to_do = to_do.map(|(device, _)| device).collect();
        let failed = desk.each(to_do, AT_ONCE, self.web_password_file.as_ref(), TakeOld).await?;
        if failed.is_empty() {
            desk.end("finished")?;
            let facts = [
                ("finished", "Finished", json!(true)),
                ("mqtt_fingerprint", "MqttFingerprint", json!(change.fingerprint)),
            ];
            return print_facts(&facts, common.output);
        }
        desk.show(common)?;
        desk.partial("hold the old key still", &failed, "run the same command again")
    }
}

impl Abort {
    async fn run(&self, common: &Common) -> Outcome {
        let desk = Desk::open(common)?;
        let change = desk.change()?;
        let finished: Vec<_> = desk
            .pinned()?
            .into_iter()
            .filter(|(_, slot)| slot.as_ref().is_some_and(|slot| change.is_past_return(slot)))
            .map(|(device, _)| device.name.to_string())
            .collect();
        if !finished.is_empty() {
            return Err(Failure::new(Exit::Unusable, "it cannot be taken back any more")
                .why(format!("the new key alone is, or may be, on {}", finished.join(", ")))
                .hint("go on: quoll server key finish"));
        }
        confirm(self.yes, "Take the new key of the server back, and give every device what it held before?")?;
        desk.give_back(common, &change).await?;
        let told: Vec<_> =
            desk.pinned()?.into_iter().filter(|(_, slot)| slot.is_some()).map(|(device, _)| device).collect();
        let failed = desk.each(told, AT_ONCE, self.web_password_file.as_ref(), TakeBack).await?;
        if failed.is_empty() {
            desk.end("aborted")?;
            let facts = [
                ("aborted", "Taken back", json!(true)),
                ("mqtt_fingerprint", "MqttFingerprint", json!(change.previous)),
            ];
            return print_facts(&facts, common.output);
        }
        desk.show(common)?;
        desk.partial("hold the new key beside the old one still", &failed, "run the same command again")
    }
}
