//! What the verbs of a change of the server's key look at: the change, the devices that pin the key, the running node; and
//! work on many of those devices at once.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use quoll_fleet::device::{Device, DeviceName};
use quoll_fleet::enrol::{BrokerTarget, Patience};
use quoll_fleet::life::server_key::{Doorman, SlotError, Staging, pins_the_key};
use quoll_fleet::registry::Registry;
use quoll_fleet::registry::server_key::{KeyStage, ServerKeyChange, SlotChange, SlotStage};
use quoll_fleet::witness::{Sighting, Witness, WitnessError};
use quoll_pki::PrivateKey;
use quoll_tasmota::Fingerprint;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::exchange::fingerprint_of;
use crate::cli::{Common, ServerArgs};
use crate::config::Settings;
use crate::control::{self, Answer, Question};
use crate::enrolment::{self, NodeWitness, Wish, read_password};
use crate::failure::{Exit, Failure, Outcome};
use crate::home::Home;
use crate::life::{Road, RoadArgs};
use crate::{trouble, workshop};

/// Devices told at a time: each restarts.
pub(super) const AT_ONCE: usize = 8;
/// Devices that are waited for at a time, when the server has its new key.
pub(super) const PROOFS_AT_ONCE: usize = 64;
/// Devices named where some are not ready.
pub(super) const NAMED: usize = 20;

/// Everything that the verbs look at.
pub(super) struct Desk {
    pub(super) home: Home,
    pub(super) settings: Settings,
    pub(super) registry: Registry,
    target: BrokerTarget,
    door: NodeDoor,
}

impl Desk {
    pub(super) fn open(common: &Common) -> Outcome<Arc<Self>> {
        let home = common.home()?;
        let settings = workshop::serving(&common.settings(&home, &ServerArgs::default())?)?;
        let pki = workshop::open_pki(&settings)?;
        let target = enrolment::target(&settings, &pki, &Wish::default())?;
        let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
        let door = NodeDoor { home: home.clone() };
        Ok(Arc::new(Self { home, settings, registry, target, door }))
    }

    /// Where the new key waits: beside the CA's passphrase, its owner's alone.
    pub(super) fn key_file(&self) -> PathBuf {
        self.home.dir().join("server-key-next.pem")
    }

    /// The key that the server shows, as its certificate says now.
    pub(super) fn shown(&self) -> Outcome<Fingerprint> {
        let pki = workshop::open_pki(&self.settings)?;
        let certificate = workshop::server_certificate(&self.settings, &pki)?;
        Fingerprint::of_certificate(certificate.der()).map_err(|error| {
            Failure::new(Exit::Unusable, "the server's key is none that a device can pin")
                .why(error)
                .hint("where no device pins it, give it a new one in one go: quoll server rekey")
        })
    }

    pub(super) fn change(&self) -> Outcome<ServerKeyChange> {
        self.registry.server_key_change().map_err(trouble::registry)?.ok_or_else(|| {
            Failure::new(Exit::NotFound, "no new key of the server is under way")
                .hint("begin with: quoll server key stage")
        })
    }

    /// The change under way, held to what the server shows: a run that was killed while it gave the old key back may have
    /// left it "switched".
    pub(super) fn change_as_shown(&self) -> Outcome<ServerKeyChange> {
        let change = self.change()?;
        if change.stage == KeyStage::Switched && self.shown()?.to_string() != change.fingerprint {
            self.registry.advance_server_key(KeyStage::Switching).map_err(trouble::registry)?;
            return self.change();
        }
        Ok(change)
    }

    pub(super) fn new_key(&self, change: &ServerKeyChange) -> Outcome<PrivateKey> {
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
    pub(super) fn pinned(&self) -> Outcome<Vec<(Device, Option<SlotChange>)>> {
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

    /// One that is connected; `None` where none is.
    pub(super) async fn canary(&self, devices: Vec<Device>) -> Option<Device> {
        let Ok(Some(Answer::Status(status))) = control::ask(&self.home, &Question::Status).await else {
            return None;
        };
        devices
            .into_iter()
            .find(|device| status.connections.iter().any(|seen| seen.name == device.name.as_str()))
    }

    /// Whether a device is where the change as a whole is.
    pub(super) fn is_ready(&self, change: &ServerKeyChange, slot: Option<&SlotChange>) -> bool {
        match (change.stage, slot.map(|slot| slot.stage)) {
            (_, None | Some(SlotStage::Writing)) => false,
            (KeyStage::Staging | KeyStage::Switching, Some(_)) => true,
            (KeyStage::Switched, Some(stage)) => stage != SlotStage::Staged,
        }
    }

    /// Whether a device is still to be told of the new key.
    pub(super) fn is_untold(&self, slot: Option<&SlotChange>) -> bool {
        slot.is_none_or(|slot| slot.stage == SlotStage::Writing)
    }

    /// Does something with each of the devices, several at once; who failed, and why.
    pub(super) async fn each<W>(
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
    pub(super) fn partial(&self, what: &str, failed: &[(DeviceName, SlotError)], again: &str) -> Outcome {
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
pub(super) trait AsyncWork: Send + Sync + 'static {
    async fn on(&self, staging: &Staging<'_>, device: &Device, road: &Road) -> Result<(), SlotError>;
}

pub(super) struct Tell;
pub(super) struct Prove;
pub(super) struct TakeOld;
pub(super) struct TakeBack;

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

/// The running node: it sees who comes, and ends a connection so that its device comes anew.
pub(super) struct NodeDoor {
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
