//! A new key of the server on its way to a device that pins the old one: on a virtual device, killed at every step. At no
//! moment may the device be without the key that the server shows, and never may a slot accept anybody.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a stage that does not stand is a failed test"
)]

mod theatre;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use quoll_fleet::device::{DeviceName, Rung};
use quoll_fleet::enrol::{BrokerTarget, CaKind, DeviceConsole, EnrolRequest, Enrolment};
use quoll_fleet::issuer::{DeviceCredential, IssueError, Issuer};
use quoll_fleet::life::LifeError;
use quoll_fleet::life::server_key::{Doorman, SlotError, Staging, pins_the_key};
use quoll_fleet::registry::Registry;
use quoll_fleet::registry::server_key::{KeyStage, SlotStage};
use quoll_fleet::step::Silent;
use quoll_fleet::witness::{Sighting, Witness, WitnessError};
use quoll_tasmota::virtual_device::{Chip, Firmware, MemoryConsole, VirtualProfile};
use quoll_tasmota::{Command, Console, ConsoleError, Fingerprint, FingerprintSlot, Reply, Slot, StatusPage};
use theatre::living::{Guillotine, folder, mac, patience};
use time::OffsetDateTime;

/// The device, and the server that it talks to.
struct World {
    _folder: tempfile::TempDir,
    registry: Registry,
    memory: MemoryConsole,
    target: BrokerTarget,
    /// The key that the server shows.
    shows: Mutex<Fingerprint>,
    /// Connections that were ended at the door.
    parted: AtomicI64,
    blind: AtomicBool,
}

struct Way {
    world: Arc<World>,
    kill: Arc<Guillotine>,
}

fn old() -> Fingerprint {
    Fingerprint::new([0x11; 20]).unwrap()
}

fn new() -> Fingerprint {
    Fingerprint::new([0x22; 20]).unwrap()
}

fn plug() -> DeviceName {
    "plug".parse().unwrap()
}

impl World {
    async fn new() -> Arc<Self> {
        let folder = folder();
        let profile = VirtualProfile {
            topic: "plug".into(),
            pace: 0.01,
            tele_period: 0,
            ..VirtualProfile::new(Chip::Esp32, Firmware::Stock, mac(0xF5))
        };
        let utc = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap();
        let world = Arc::new(Self {
            registry: Registry::open(&folder.path().join("fleet.db")).unwrap(),
            _folder: folder,
            memory: MemoryConsole::new(profile, utc),
            target: BrokerTarget {
                host: "127.0.0.1".into(),
                port: 8883,
                ca_kind: CaKind::Rsa,
                server_fingerprint: old().bytes(),
                pinned_port: Some(8884),
            },
            shows: Mutex::new(old()),
            parted: AtomicI64::new(0),
            blind: AtomicBool::new(false),
        });
        let way = Way { world: world.clone(), kill: Arc::default() };
        let enrolment = Enrolment {
            registry: &world.registry,
            issuer: &Nobody,
            witness: &way,
            reporter: &Silent,
            broker: &world.target,
            patience: patience(),
        };
        let request = EnrolRequest::new(plug(), "192.0.2.7".parse().unwrap());
        let enrolled = enrolment.run(&request, &way).await.unwrap();
        assert_eq!(enrolled.device.rung, Rung::Pinned);
        assert!(pins_the_key(&enrolled.device));
        world.registry.begin_server_key(&new().to_string(), &old().to_string()).unwrap();
        world
    }

    async fn slots(&self) -> [Slot; 2] {
        self.memory.wait(Duration::from_secs(1));
        let mut held = Vec::new();
        for slot in [FingerprintSlot::One, FingerprintSlot::Two] {
            held.push(
                self.memory.ask(&Command::ask_fingerprint(slot)).await.unwrap().fingerprint(slot).unwrap(),
            );
        }
        [held[0], held[1]]
    }

    async fn holds(&self, one: Fingerprint, two: Fingerprint) -> bool {
        self.slots().await == [Slot::Pinned(one), Slot::Pinned(two)]
    }

    /// Whether it would let the server in that there is, and no other.
    async fn assert_safe(&self, case: &str) {
        let slots = self.slots().await;
        let shows = *self.shows.lock().unwrap();
        assert!(slots.contains(&Slot::Pinned(shows)), "{case}: it refuses the server: {slots:?}");
        assert!(
            slots.iter().all(|slot| matches!(slot, Slot::Pinned(_))),
            "{case}: it accepts anybody: {slots:?}"
        );
    }

    fn stage(&self) -> Option<SlotStage> {
        self.registry.slot_changes().unwrap().first().map(|slot| slot.stage)
    }

    /// One act, as by another process; `None` if it was killed.
    async fn act(self: &Arc<Self>, act: Act, at: Option<usize>) -> Option<Result<(), SlotError>> {
        let world = self.clone();
        let run = tokio::spawn(async move {
            let way =
                Way { world: world.clone(), kill: Arc::new(Guillotine { at, moment: AtomicUsize::new(0) }) };
            let registry = Registry::open(world.registry.path()).unwrap();
            let staging = Staging {
                registry: &registry,
                door: &way,
                broker: &world.target,
                old: old(),
                new: new(),
                patience: patience(),
            };
            match act {
                Act::Stage => staging.stage(&plug(), &way).await,
                Act::Prove => staging.prove(&plug()).await.map(drop),
                Act::Finish => staging.finish(&plug(), &way).await,
                Act::TakeBack => {
                    let before = [old().to_string(), old().to_string()];
                    let slots = registry.slot_changes().unwrap();
                    let before = slots.first().map_or(before, |slot| slot.before.clone());
                    staging.take_back(&plug(), &before, &way).await
                }
            }
        });
        run.await.map_err(|error| assert!(error.is_panic())).ok()
    }

    async fn done(self: &Arc<Self>, act: Act) -> Result<(), SlotError> {
        self.act(act, None).await.unwrap()
    }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Stage,
    Prove,
    Finish,
    TakeBack,
}

/// No certificate is ever wanted here.
struct Nobody;

#[async_trait]
impl Issuer for Nobody {
    async fn issue(&self, _: &DeviceName) -> Result<DeviceCredential, IssueError> {
        Err(IssueError::Locked)
    }

    async fn existing(&self, _: &DeviceName) -> Result<Option<DeviceCredential>, IssueError> {
        Ok(None)
    }
}

#[async_trait]
impl Console for Way {
    async fn ask(&self, command: &Command) -> Result<Reply, ConsoleError> {
        self.world.memory.wait(Duration::from_millis(100));
        let acts = command.text().starts_with("MqttFingerprint") && command.text().contains(' ');
        if acts {
            self.kill.pass();
        }
        let answer = self.world.memory.ask(command).await;
        if acts {
            self.kill.pass();
        }
        answer
    }

    fn address(&self) -> String {
        "192.0.2.7:80".into()
    }
}

#[async_trait]
impl DeviceConsole for Way {
    async fn log_lines(&self) -> Result<Vec<String>, ConsoleError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Witness for Way {
    async fn wait_for(&self, id: &str, within: Duration) -> Result<Sighting, WitnessError> {
        self.kill.pass();
        let world = &self.world;
        let mut waited = Duration::ZERO;
        loop {
            let mqtt = world.memory.ask(&Command::status(StatusPage::Mqtt)).await.unwrap().mqtt().unwrap();
            let there = mqtt.host == world.target.host
                && Some(mqtt.port) == world.target.pinned_port
                && mqtt.tls == Some(true)
                && !world.memory.with(|machine| machine.is_restarting());
            let password = world.memory.with(|machine| machine.settings().login().1.to_owned());
            let known = world.registry.passwords().unwrap();
            let known = known.iter().any(|one| one.id == id && one.is_open() && one.is(password.as_bytes()));
            let shows = *world.shows.lock().unwrap();
            let accepts = world.slots().await.contains(&Slot::Pinned(shows));
            if there && known && accepts && !world.blind.load(Ordering::SeqCst) {
                let boots = i64::from(world.memory.with(|machine| machine.boots()));
                let at = boots * 1000 + world.parted.load(Ordering::SeqCst);
                let at = OffsetDateTime::from_unix_timestamp(at).unwrap();
                return Ok(Sighting {
                    client_id: "DVES_D3E4F5".into(),
                    address: "192.0.2.7:4711".into(),
                    at,
                });
            }
            if waited >= within {
                return Err(WitnessError::NotSeen { serial: id.into(), within, refused: None });
            }
            waited += Duration::from_secs(1);
        }
    }
}

#[async_trait]
impl Doorman for Way {
    async fn part(&self, _: &str) -> Result<(), WitnessError> {
        self.kill.pass();
        self.world.parted.fetch_add(1, Ordering::SeqCst);
        self.kill.pass();
        Ok(())
    }
}

#[tokio::test]
async fn the_new_key_stands_beside_the_old_one_until_the_device_came_with_it() {
    let world = World::new().await;
    assert!(world.holds(old(), old()).await);
    world.done(Act::Stage).await.unwrap();
    assert!(world.holds(old(), new()).await);
    assert_eq!(world.stage(), Some(SlotStage::Staged));
    world.done(Act::Stage).await.unwrap();
    assert!(world.holds(old(), new()).await, "a second time nothing is written");

    *world.shows.lock().unwrap() = new();
    world.registry.advance_server_key(KeyStage::Switched).unwrap();
    world.done(Act::Prove).await.unwrap();
    assert_eq!(world.stage(), Some(SlotStage::Proven));
    world.done(Act::Finish).await.unwrap();
    assert!(world.holds(new(), new()).await, "the old key is gone");
    assert_eq!(world.stage(), Some(SlotStage::Finished));
    world.registry.end_server_key("finished").unwrap();
    assert_eq!((world.registry.server_key_change().unwrap(), world.stage()), (None, None));
}

#[tokio::test]
async fn a_change_that_is_taken_back_leaves_what_was_there() {
    let world = World::new().await;
    world.done(Act::Stage).await.unwrap();
    world.done(Act::TakeBack).await.unwrap();
    assert!(world.holds(old(), old()).await);
    assert_eq!(world.stage(), None);
}

#[tokio::test]
async fn a_device_that_does_not_come_back_gets_its_slot_back() {
    let world = World::new().await;
    world.blind.store(true, Ordering::SeqCst);
    let error = world.done(Act::Stage).await.unwrap_err();
    assert!(matches!(error, SlotError::NotBack(_)), "{error:?}");
    assert!(world.holds(old(), old()).await);
    let slot = &world.registry.slot_changes().unwrap()[0];
    assert!(slot.problem.is_some() && slot.stage == SlotStage::Writing, "{slot:?}");
    world.blind.store(false, Ordering::SeqCst);
    world.done(Act::Stage).await.unwrap();
    assert!(world.holds(old(), new()).await);

    // The server has the new key, and the device does not come: it is not taken for proven.
    *world.shows.lock().unwrap() = new();
    world.blind.store(true, Ordering::SeqCst);
    let error = world.done(Act::Prove).await.unwrap_err();
    assert!(matches!(error, SlotError::NotBack(_)), "{error:?}");
    assert_eq!(world.stage(), Some(SlotStage::Staged));
}

#[tokio::test]
async fn a_slot_that_accepts_anybody_is_not_built_upon() {
    let world = World::new().await;
    for line in ["MqttFingerprint1 0", "MqttFingerprint2 0"] {
        world.memory.with(|_| ());
        world.memory.wait(Duration::from_secs(1));
        let before = world.slots().await;
        let slot = if line.contains('1') { FingerprintSlot::One } else { FingerprintSlot::Two };
        world.memory.ask(&Command::restore_fingerprint(slot, &Slot::LearnsAnyone)).await.unwrap();
        let error = world.done(Act::Stage).await.unwrap_err();
        assert!(matches!(error, SlotError::Slots(..)), "{line}: {error:?}");
        assert!(error.hint(&plug()).unwrap().contains("repair"), "{line}");
        let index = usize::from(slot as u8) - 1;
        world.memory.ask(&Command::restore_fingerprint(slot, &before[index])).await.unwrap();
    }
    world.registry.quarantine(&plug(), "").unwrap();
    let error = world.done(Act::Stage).await.unwrap_err();
    let quarantined = |error: &SlotError| matches!(error, SlotError::Life(life) if matches!(**life, LifeError::Quarantined { .. }));
    assert!(quarantined(&error), "{error:?}");
    world.registry.release(&plug()).unwrap();
    world.done(Act::Stage).await.unwrap();
}

#[tokio::test]
async fn a_new_password_makes_the_staged_slot_unknown() {
    let world = World::new().await;
    world.done(Act::Stage).await.unwrap();
    let way = Way { world: world.clone(), kill: Arc::default() };
    let enrolment = Enrolment {
        registry: &world.registry,
        issuer: &Nobody,
        witness: &way,
        reporter: &Silent,
        broker: &world.target,
        patience: patience(),
    };
    let mut request = EnrolRequest::new(plug(), "192.0.2.7".parse().unwrap());
    request.new_password = true;
    enrolment.run(&request, &way).await.unwrap();
    assert_eq!(world.stage(), None, "it must be told again: both slots were written");
    world.done(Act::Stage).await.unwrap();
    assert!(world.holds(old(), new()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_the_device_goes_on_and_the_same_act_ends_well() {
    let world = World::new().await;
    let mut moments = 0;
    for (act, shows) in
        [(Act::Stage, old()), (Act::TakeBack, old()), (Act::Finish, new()), (Act::Prove, new())]
    {
        let mut at = 0;
        loop {
            // From the beginning of this act.
            *world.shows.lock().unwrap() = old();
            world.done(Act::TakeBack).await.unwrap();
            if !matches!(act, Act::Stage) {
                world.done(Act::Stage).await.unwrap();
            }
            *world.shows.lock().unwrap() = shows;
            let killed = world.act(act, Some(at)).await;
            world.assert_safe(&format!("{act:?} killed at {at}")).await;
            if let Some(done) = killed {
                done.unwrap();
                break;
            }
            world.done(act).await.unwrap_or_else(|error| panic!("{act:?} after {at}: {error}"));
            world.assert_safe(&format!("{act:?} after {at}")).await;
            let expected = match act {
                Act::Stage => world.holds(old(), new()).await,
                Act::TakeBack => world.holds(old(), old()).await,
                Act::Finish => world.holds(new(), new()).await,
                Act::Prove => world.stage() == Some(SlotStage::Proven),
            };
            assert!(expected, "{act:?} after {at}");
            at += 1;
            moments += 1;
            if matches!(act, Act::Finish) {
                // Back to where it can begin again: the server shows the new key alone.
                world.memory.ask(&Command::set_fingerprint(FingerprintSlot::One, &old())).await.unwrap();
                world.memory.wait(Duration::from_secs(2));
            }
        }
    }
    assert!(moments >= 12, "only {moments} moments");
}
