//! `quoll server key`: a new key for the server, told to the devices that pin the old one before the server shows it.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use clap::{Args, Subcommand};
use quoll_fleet::device::{Device, DeviceName, Rung};
use quoll_fleet::enrol::{BrokerTarget, Patience};
use quoll_fleet::life::server_key::{Doorman, SlotError, Staging, pins_the_key};
use quoll_fleet::registry::Registry;
use quoll_fleet::registry::server_key::{KeyStage, ServerKeyChange, SlotChange, SlotStage};
use quoll_fleet::witness::{Sighting, Witness, WitnessError};
use quoll_pki::{KeyKind, Passphrase, PrivateKey};
use quoll_tasmota::Fingerprint;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Common, ServerArgs, confirm};
use crate::audit::Audit;
use crate::config::Settings;
use crate::control::{self, Answer, Question};
use crate::enrolment::{self, NodeWitness, Wish, read_password};
use crate::failure::{Exit, Failure, Outcome, io_failure};
use crate::home::{Home, write_whole};
use crate::life::{Road, RoadArgs};
use crate::output::{Listing, print_facts};
use crate::workshop::{self, Workshop};
use crate::{bell, trouble};

/// Devices told at a time: each restarts.
const AT_ONCE: usize = 8;
/// Devices that are waited for at a time, when the server has its new key.
const PROOFS_AT_ONCE: usize = 64;
/// Devices named where some are not ready.
const NAMED: usize = 20;

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

/// Everything that the verbs look at.
struct Desk {
    home: Home,
    settings: Settings,
    registry: Registry,
    target: BrokerTarget,
    door: NodeDoor,
}

impl Desk {
    fn open(common: &Common) -> Outcome<Arc<Self>> {
        let home = common.home()?;
        let settings = workshop::serving(&common.settings(&home, &ServerArgs::default())?)?;
        let pki = workshop::open_pki(&settings)?;
        let target = enrolment::target(&settings, &pki, &Wish::default())?;
        let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
        let door = NodeDoor { home: home.clone() };
        Ok(Arc::new(Self { home, settings, registry, target, door }))
    }

    /// Where the new key waits: beside the CA's passphrase, its owner's alone.
    fn key_file(&self) -> PathBuf {
        self.home.dir().join("server-key-next.pem")
    }

    /// The key that the server shows, as its certificate says now.
    fn shown(&self) -> Outcome<Fingerprint> {
        let pki = workshop::open_pki(&self.settings)?;
        let certificate = workshop::server_certificate(&self.settings, &pki)?;
        Fingerprint::of_certificate(certificate.der()).map_err(|error| {
            Failure::new(Exit::Unusable, "the server's key is none that a device can pin")
                .why(error)
                .hint("where no device pins it, give it a new one in one go: quoll server rekey")
        })
    }

    fn change(&self) -> Outcome<ServerKeyChange> {
        self.registry.server_key_change().map_err(trouble::registry)?.ok_or_else(|| {
            Failure::new(Exit::NotFound, "no new key of the server is under way")
                .hint("begin with: quoll server key stage")
        })
    }

    fn new_key(&self, change: &ServerKeyChange) -> Outcome<PrivateKey> {
        let path = self.key_file();
        let bad = |why: String| {
            Failure::new(Exit::Unusable, format!("the new key in {} cannot be used", path.display()))
                .why(why)
                .hint("put a copy of it back, or take it all back: quoll server key abort")
        };
        let key = PrivateKey::from_plain_file(&path).map_err(|error| bad(error.to_string()))?;
        let print = fingerprint_of(&key).map_err(bad)?;
        if print.to_string() != change.fingerprint {
            return Err(bad(format!(
                "its fingerprint is {print}, and the devices were told {}",
                change.fingerprint
            )));
        }
        Ok(key)
    }

    /// Those that pin the key, and what is known of their slots.
    fn pinned(&self) -> Outcome<Vec<(Device, Option<SlotChange>)>> {
        let mut slots = self.registry.slot_changes().map_err(trouble::registry)?;
        let devices = self.registry.devices().map_err(trouble::registry)?.into_iter();
        Ok(devices
            .filter(pins_the_key)
            .map(|device| {
                let at = slots.iter().position(|one| one.device == device.name);
                (device, at.map(|at| slots.swap_remove(at)))
            })
            .collect())
    }

    fn show(self: &Arc<Self>, common: &Common) -> Outcome {
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

    /// Whether a device is where the change as a whole is.
    fn is_ready(&self, change: &ServerKeyChange, slot: Option<&SlotChange>) -> bool {
        match (change.stage, slot.map(|slot| slot.stage)) {
            (_, None | Some(SlotStage::Writing)) => false,
            (KeyStage::Staging | KeyStage::Switching, Some(_)) => true,
            (KeyStage::Switched, Some(stage)) => stage != SlotStage::Staged,
        }
    }

    /// Does something with each of the devices, several at once; who failed, and why.
    async fn each<W>(
        self: &Arc<Self>,
        devices: Vec<Device>,
        at_once: usize,
        password: Option<&PathBuf>,
        work: W,
    ) -> Outcome<Vec<(DeviceName, SlotError)>>
    where
        W: AsyncWork,
    {
        let password = password.map(|file| read_password(file)).transpose()?;
        let change = self.change()?;
        let print = |text: &str| {
            text.parse::<Fingerprint>().map_err(|error| {
                Failure::new(Exit::Unusable, "fleet.db has a fingerprint that makes no sense").why(error)
            })
        };
        let (old, new) = (print(&change.previous)?, print(&change.fingerprint)?);
        let (room, work) = (Arc::new(Semaphore::new(at_once)), Arc::new(work));
        let mut running = JoinSet::new();
        for device in devices {
            let (desk, room, work, password) =
                (Arc::clone(self), Arc::clone(&room), Arc::clone(&work), password.clone());
            running.spawn(async move {
                let _place = room.acquire_owned().await;
                let road = Road::with(Some(&device), &RoadArgs::default(), password.as_ref()).await;
                let staging = Staging {
                    registry: &desk.registry,
                    door: &desk.door,
                    broker: &desk.target,
                    old,
                    new,
                    patience: Patience::default(),
                };
                let done = match road {
                    Ok(road) => work.on(&staging, &device, &road).await.map_err(Ok),
                    Err(failure) => Err(Err(failure)),
                };
                (device.name, done)
            });
        }
        let mut failed = Vec::new();
        while let Some(one) = running.join_next().await {
            match one.map_err(|error| Failure::new(Exit::System, "the work was broken off").why(error))? {
                (name, Ok(())) => eprintln!("  ok  {name}"),
                (name, Err(Ok(error))) => {
                    eprintln!("  !!  {name}: {error}");
                    failed.push((name, error));
                }
                (_, Err(Err(failure))) => return Err(failure),
            }
        }
        failed.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(failed)
    }

    /// Says who is not where it should be.
    fn partial(&self, what: &str, failed: &[(DeviceName, SlotError)], again: &str) -> Outcome {
        let Some((name, error)) = failed.first() else { return Ok(()) };
        let hint = error.hint(name).unwrap_or_else(|| again.to_owned());
        Err(Failure::new(Exit::Partial, format!("{} devices {what}", failed.len()))
            .why(
                failed
                    .iter()
                    .take(NAMED)
                    .map(|(name, error)| format!("{name}: {error}"))
                    .collect::<Vec<_>>()
                    .join("; "),
            )
            .hint(hint))
    }
}

/// Something to do with one device.
#[async_trait]
trait AsyncWork: Send + Sync + 'static {
    async fn on(&self, staging: &Staging<'_>, device: &Device, road: &Road) -> Result<(), SlotError>;
}

struct Tell;
struct Prove;
struct TakeOld;
struct TakeBack;

#[async_trait]
impl AsyncWork for Tell {
    async fn on(&self, staging: &Staging<'_>, device: &Device, road: &Road) -> Result<(), SlotError> {
        staging.stage(&device.name, road.console()).await
    }
}

#[async_trait]
impl AsyncWork for Prove {
    async fn on(&self, staging: &Staging<'_>, device: &Device, _: &Road) -> Result<(), SlotError> {
        staging.prove(&device.name).await.map(drop)
    }
}

#[async_trait]
impl AsyncWork for TakeOld {
    async fn on(&self, staging: &Staging<'_>, device: &Device, road: &Road) -> Result<(), SlotError> {
        staging.finish(&device.name, road.console()).await
    }
}

#[async_trait]
impl AsyncWork for TakeBack {
    async fn on(&self, staging: &Staging<'_>, device: &Device, road: &Road) -> Result<(), SlotError> {
        let slots = staging.registry.slot_changes()?;
        match slots.into_iter().find(|slot| slot.device == device.name) {
            Some(slot) => staging.take_back(&device.name, &slot.before, road.console()).await,
            None => Ok(()),
        }
    }
}

impl Stage {
    async fn run(&self, common: &Common) -> Outcome {
        let desk = Desk::open(common)?;
        if desk.registry.server_key_change().map_err(trouble::registry)?.is_none() {
            self.begin(&desk)?;
        }
        let change = desk.change()?;
        if change.stage == KeyStage::Staging {
            desk.new_key(&change)?;
            let to_tell: Vec<_> = desk
                .pinned()?
                .into_iter()
                .filter(|(_, slot)| !desk.is_ready(&change, slot.as_ref()))
                .map(|(device, _)| device)
                .collect();
            let failed = desk.each(to_tell, AT_ONCE, self.web_password_file.as_ref(), Tell).await?;
            desk.show(common)?;
            return desk.partial("were not told of the new key", &failed, "run the same command again");
        }
        desk.show(common)
    }

    /// Makes the key. The file comes before the row: a row without its key would tell devices of nothing.
    fn begin(&self, desk: &Desk) -> Outcome {
        let old = desk.shown()?;
        let path = desk.key_file();
        // Where it is there already, a run stopped before its first row.
        let key = if path.exists() {
            PrivateKey::from_plain_file(&path).map_err(trouble::pki)?
        } else {
            let key = PrivateKey::generate(KeyKind::Rsa2048).map_err(trouble::pki)?;
            write_whole(&path, key.pkcs8_pem().as_bytes(), 0o600, false)?;
            key
        };
        let new = fingerprint_of(&key)
            .map_err(|why| Failure::new(Exit::Unusable, "the new key has no fingerprint").why(why))?;
        desk.registry.begin_server_key(&new.to_string(), &old.to_string()).map_err(trouble::registry)?;
        Ok(())
    }
}

impl Switch {
    async fn run(&self, common: &Common) -> Outcome {
        let desk = Desk::open(common)?;
        let change = desk.change()?;
        if change.stage != KeyStage::Switched {
            self.refuse_lost(&desk, &change)?;
            self.give(common, &desk, &change).await?;
        }
        let change = desk.change()?;
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

    /// Key and certificate, in the folder and live.
    async fn give(&self, common: &Common, desk: &Desk, change: &ServerKeyChange) -> Outcome {
        if desk.shown()?.to_string() != change.fingerprint {
            let key = desk.new_key(change)?;
            desk.registry.advance_server_key(KeyStage::Switching).map_err(trouble::registry)?;
            exchange(common, desk, key)?;
        }
        bell::ring(&desk.home).await?;
        desk.registry.advance_server_key(KeyStage::Switched).map_err(trouble::registry)
    }
}

/// The server gets this key, and a certificate for it.
fn exchange(common: &Common, desk: &Desk, key: PrivateKey) -> Outcome {
    let mut workshop = Workshop::open(&desk.settings, common.passphrase(&desk.home))?;
    let name = workshop::server_name(&desk.settings)?;
    let names = workshop::alt_names(&desk.settings);
    let (authority, _) = workshop.authority()?;
    let audit = Audit::begin(&desk.home, "server.rekey", name.as_str(), &json!({ "staged": true }))?;
    let done = authority
        .rekey_server_with(
            &name,
            Some(&names),
            key,
            Some(quoll_pki::fitness::Devices::ANY),
            OffsetDateTime::now_utc(),
        )
        .map_err(trouble::pki);
    let rekeyed = audit.end(done, |rekeyed| json!({ "serial": rekeyed.certificate.serial().to_string() }))?;
    for warning in &rekeyed.warnings {
        eprintln!("quoll: note: {warning}");
    }
    Ok(())
}

impl Desk {
    /// One that is connected; `None` where none is.
    async fn canary(&self, devices: Vec<Device>) -> Option<Device> {
        let Ok(Some(Answer::Status(status))) = control::ask(&self.home, &Question::Status).await else {
            return None;
        };
        devices
            .into_iter()
            .find(|device| status.connections.iter().any(|seen| seen.name == device.name.as_str()))
    }

    /// The server's old key again: every device still takes it.
    async fn give_back(&self, common: &Common, change: &ServerKeyChange) -> Outcome {
        if self.shown()?.to_string() != change.previous {
            let name = workshop::server_name(&self.settings)?;
            let pki = workshop::open_pki(&self.settings)?;
            let key = pki.superseded_key(&name, &Passphrase::new("")).map_err(trouble::pki)?;
            let print = fingerprint_of(&key)
                .map_err(|why| Failure::new(Exit::Unusable, "the old key has no fingerprint").why(why))?;
            if print.to_string() != change.previous {
                return Err(Failure::new(
                    Exit::Unusable,
                    "the server's old key is not in the pki folder any more",
                )
                .why(format!("renewed/private has {print}"))
                .hint("go on instead: quoll server key switch"));
            }
            exchange(common, self, key)?;
        }
        bell::ring(&self.home).await?;
        for (device, slot) in self.pinned()? {
            if slot.is_some_and(|slot| slot.stage == SlotStage::Proven) {
                self.registry.advance_slots(&device.name, SlotStage::Staged).map_err(trouble::registry)?;
            }
        }
        self.registry.advance_server_key(KeyStage::Staging).map_err(trouble::registry)
    }
}

impl Finish {
    async fn run(&self, common: &Common) -> Outcome {
        let desk = Desk::open(common)?;
        let change = desk.change()?;
        if change.stage != KeyStage::Switched {
            return Err(Failure::new(Exit::Partial, "the server shows its old key still").hint(next(
                &change,
                desk.pinned()?.iter().all(|(_, slot)| desk.is_ready(&change, slot.as_ref())),
            )));
        }
        let (back, away): (Vec<_>, Vec<_>) =
            desk.pinned()?.into_iter().partition(|(_, slot)| desk.is_ready(&change, slot.as_ref()));
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
            .filter(|(_, slot)| slot.as_ref().is_some_and(|slot| slot.stage == SlotStage::Finished))
            .map(|(device, _)| device.name.to_string())
            .collect();
        if !finished.is_empty() {
            return Err(Failure::new(Exit::Unusable, "it cannot be taken back any more")
                .why(format!("the new key alone is on {}", finished.join(", ")))
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

impl Desk {
    fn end(&self, word: &str) -> Outcome {
        self.registry.end_server_key(word).map_err(trouble::registry)?;
        let path = self.key_file();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(io_failure("remove", &path, &error))
            }
            _ => Ok(()),
        }
    }
}

fn next(change: &ServerKeyChange, all: bool) -> &'static str {
    match (change.stage, all) {
        (KeyStage::Staging, false) => "quoll server key stage",
        (KeyStage::Staging | KeyStage::Switching, _) | (KeyStage::Switched, false) => {
            "quoll server key switch"
        }
        (KeyStage::Switched, true) => "quoll server key finish",
    }
}

fn fingerprint_of(key: &PrivateKey) -> Result<Fingerprint, String> {
    let (n, e) = key.rsa_public_key().ok_or("it is no RSA key, and a device can pin no other")?;
    Fingerprint::of_rsa(&n, &e).map_err(|error| error.to_string())
}

/// The running node: it sees who comes, and ends a connection so that its device comes anew.
struct NodeDoor {
    home: Home,
}

#[async_trait]
impl Witness for NodeDoor {
    async fn wait_for(&self, id: &str, within: std::time::Duration) -> Result<Sighting, WitnessError> {
        (NodeWitness { home: &self.home }).wait_for(id, within).await
    }

    async fn ready(&self) -> Result<(), WitnessError> {
        (NodeWitness { home: &self.home }).ready().await
    }
}

#[async_trait]
impl Doorman for NodeDoor {
    async fn part(&self, id: &str) -> Result<(), WitnessError> {
        match control::ask(&self.home, &Question::Part { serial: id.to_owned() }).await {
            Ok(Some(Answer::InForce { .. })) => Ok(()),
            Ok(Some(other)) => Err(WitnessError::NoBroker { why: format!("it answered {other:?}") }),
            Ok(None) => Err(WitnessError::NoBroker { why: "none is running on this folder".into() }),
            Err(error) => Err(WitnessError::NoBroker { why: error.to_string() }),
        }
    }
}
