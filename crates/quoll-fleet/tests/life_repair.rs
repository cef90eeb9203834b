//! A device brought back, and new hardware in an old one's place: on virtual devices, with a real CA, killed at every
//! moment that acts on the outside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a stage that does not stand is a failed test"
)]

mod theatre;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use quoll_fleet::device::{DeviceName, DeviceState};
use quoll_fleet::issuer::{DeviceCredential, IssueError, Issuer, Reissuer};
use quoll_fleet::life::{After, LifeError};
use quoll_fleet::registry::Registry;
use quoll_tasmota::virtual_device::Chip;
use theatre::living::{Act, Bench, Plug, Stage, mac, name};
use tokio::task::JoinSet;

/// What the registry says must not be better than what is: a device that cannot come is not proven without a word.
async fn says_so(stage: &Arc<Stage>, case: &str) {
    let device = stage.device("plug");
    match stage.plug.shows(&stage.target).await {
        Some(serial) => assert!(stage.valid("plug").0.contains(&serial), "{case}: {serial} is void"),
        None => {
            let said = device.state != DeviceState::Proven || device.problem.is_some();
            assert!(said, "{case}: nobody is told: {device:?}");
        }
    }
}

/// What an update over the air, or somebody at its console, may have done to it.
fn broken(stage: &Stage, how: usize) {
    let lines: &[&str] = match how % 4 {
        0 => &["TLSKey1 0"],
        1 => &["Backlog SetOption103 0; MqttHost elsewhere.lan; MqttPort 1883"],
        2 => &["TLSKey1 0", "Backlog MqttHost elsewhere.lan; SetOption132 1"],
        _ => &[],
    };
    for line in lines {
        let _ = stage.plug.memory.type_command(line);
        stage.plug.memory.wait(Duration::from_secs(5));
    }
    stage.plug.memory.power_cut();
    // As `device check` notes it.
    let problem = (!lines.is_empty()).then_some("it needs a hand");
    stage.registry.note_problem(&name("plug"), problem).unwrap();
}

/// Kills in one world; what is issued in it makes it slower.
const IN_A_WORLD: usize = 12;

/// Each moment on one of the ways in which it is broken and one chip; `QUOLL_MATRIX=all` takes all of them at each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_a_repair_is_carried_through_by_the_same_command() {
    let all = std::env::var("QUOLL_MATRIX").as_deref() == Ok("all");
    let mut moments = 0;
    for (how, chip) in (0..4).flat_map(|how| [Chip::Esp8266, Chip::Esp32].map(|chip| (how, chip))) {
        let stage = Stage::new(chip).await;
        let turn = how * 2 + usize::from(chip == Chip::Esp32);
        let mine = (0..).filter(|at| all || at % 8 == turn);
        for at in mine {
            let case = format!("{chip:?} broken by {how}, killed at {at}");
            broken(&stage, how);
            let killed = stage.act("plug", Act::Repair, Some(at)).await;
            says_so(&stage, &case).await;
            let through = killed.is_some();
            match killed {
                Some(done) => drop(done.unwrap()),
                None => drop(stage.act("plug", Act::Repair, None).await.unwrap().unwrap()),
            }
            stage.assert_settled("plug", &case).await;
            if through {
                break;
            }
            moments += 1;
        }
    }
    assert!(moments > 16, "only {moments} moments");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_a_replacement_is_carried_through_by_the_same_command() {
    let mut worlds = JoinSet::new();
    for world in 0..WORLDS {
        worlds.spawn(replaced_again_and_again(world));
    }
    let mut through = 0;
    while let Some(done) = worlds.join_next().await {
        match done {
            Ok(done) => through += usize::from(done),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    assert!((1..WORLDS - 2).contains(&through), "{through} of {WORLDS} worlds were through");
}

/// Worlds in which moments are looked for; the last of them find none any more.
const WORLDS: usize = 14;

/// Whether the last moment lay before the end of this world.
async fn replaced_again_and_again(world: usize) -> bool {
    let first = Stage::new(Chip::Esp32).await;
    for at in world * IN_A_WORLD..(world + 1) * IN_A_WORLD {
        let case = format!("killed at {at}");
        let before = first.device("plug");
        // Each time yet other hardware, as it leaves the factory; its topic is not the old one's.
        let chip = if at % 2 == 0 { Chip::Esp8266 } else { Chip::Esp32 };
        let last = u8::try_from(at % 128).unwrap();
        let stage = first.with_hardware(Plug::new(chip, last, "tasmota_new"));
        let killed = stage.act("plug", Act::Replace, Some(at)).await;
        let between = stage.device("plug");
        if between.mac == before.mac {
            // Not begun: the old one is what it was.
            assert_eq!((&between.serial, between.state), (&before.serial, DeviceState::Proven), "{case}");
            assert_eq!(stage.valid("plug").0, before.serial.iter().cloned().collect::<Vec<_>>(), "{case}");
        } else {
            let old = stage.registry.certificate(before.serial.as_ref().unwrap()).unwrap().unwrap();
            assert!(old.revoked, "{case}: the old one's certificate opens the door");
            says_so(&stage, &case).await;
        }
        let through = killed.is_some();
        match killed {
            Some(done) => drop(done.unwrap()),
            None => drop(stage.act("plug", Act::Replace, None).await.unwrap().unwrap()),
        }
        stage.assert_settled("plug", &case).await;
        let now = stage.device("plug");
        assert_eq!(now.mac, mac(last), "{case}");
        assert_eq!((stage.plug.topic(), now.topics.topic), ("plug".to_owned(), "plug".to_owned()), "{case}");
        if through {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn hardware_that_cannot_be_asked_leaves_the_old_one_in_its_place() {
    let first = Stage::new(Chip::Esp32).await;
    let before = first.device("plug");
    let stage = first.with_hardware(Plug::new(Chip::Esp32, 0x77, "tasmota_new"));
    stage.plug.dead.store(true, Ordering::SeqCst);
    let error = stage.act("plug", Act::Replace, None).await.unwrap().unwrap_err();
    assert!(matches!(error, LifeError::Device(_)), "{error:?}");
    assert_eq!(stage.device("plug"), before);
    first.assert_settled("plug", "the old one").await;
}

/// Looks, while an old certificate is voided, whether another process could have the device.
struct Watched {
    bench: Bench,
    registry: Registry,
    asked: AtomicUsize,
}

#[async_trait]
impl Issuer for Watched {
    async fn issue(&self, of: &DeviceName) -> Result<DeviceCredential, IssueError> {
        self.bench.issue(of).await
    }

    async fn existing(&self, of: &DeviceName) -> Result<Option<DeviceCredential>, IssueError> {
        self.bench.existing(of).await
    }
}

#[async_trait]
impl Reissuer for Watched {
    async fn reissue(&self, of: &DeviceName) -> Result<DeviceCredential, IssueError> {
        self.bench.reissue(of).await
    }

    async fn held(&self, of: &DeviceName, serial: &str) -> Result<Option<DeviceCredential>, IssueError> {
        self.bench.held(of, serial).await
    }

    async fn retire(&self, of: &DeviceName, serial: &str) -> Result<(), IssueError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        assert!(self.registry.lock_enrolment(of).unwrap().is_none(), "anybody could be at work on it");
        self.bench.retire(of, serial).await
    }
}

/// What one process has just issued must not be taken for an old certificate by another.
#[tokio::test]
async fn a_device_is_one_process_until_its_old_certificates_are_void() {
    let stage = Stage::new(Chip::Esp32).await;
    let kill = Arc::default();
    let watched = Watched {
        bench: stage.bench(&kill),
        registry: Registry::open(stage.registry.path()).unwrap(),
        asked: AtomicUsize::new(0),
    };
    let (witness, line) = (stage.broker(&kill), stage.line(&kill));
    broken(&stage, 0);
    let key = stage.registry.path().with_file_name("pki").join("private/plug.key");
    std::fs::remove_file(key).unwrap();
    let life = stage.life(&watched, &witness);
    let at = "192.0.2.7".parse().unwrap();
    life.repair(&name("plug"), &at, &line).await.unwrap();
    assert_eq!(watched.asked.load(Ordering::SeqCst), 1, "the old certificate was voided");
    stage.assert_settled("plug", "repaired").await;
}

/// Void at our door is not void for a broker that reads the folder's list: the same command, run again, sees to that.
#[tokio::test]
async fn what_the_folder_could_not_note_the_next_run_notes() {
    let at = "192.0.2.7".parse().unwrap();
    let kill = Arc::default();
    for repairs in [false, true] {
        let stage = Stage::new(Chip::Esp32).await;
        let (bench, witness, line) = (stage.bench(&kill), stage.broker(&kill), stage.line(&kill));
        let life = stage.life(&bench, &witness);
        if repairs {
            broken(&stage, 0);
            let key = stage.registry.path().with_file_name("pki").join("private/plug.key");
            std::fs::remove_file(key).unwrap();
        }
        let plug = name("plug");
        for _ in 0..2 {
            bench.full.store(1, Ordering::SeqCst);
            let error = match repairs {
                true => life.repair(&plug, &at, &line).await.map(drop).unwrap_err(),
                false => life.rotate(&plug, &line).await.map(drop).unwrap_err(),
            };
            assert!(matches!(error, LifeError::NotRetired { .. }), "{error:?}");
            assert!(error.hint().unwrap().contains("same command again"), "{error:?}");
            let (here, there) = stage.valid("plug");
            assert_eq!((here.len(), there.len()), (1, 2), "repairs {repairs}: void at the door alone");
        }
        match repairs {
            true => life.repair(&plug, &at, &line).await.map(drop).unwrap(),
            false => life.rotate(&plug, &line).await.map(drop).unwrap(),
        }
        stage.assert_settled("plug", "the folder was mended").await;
    }
}

/// The same for a new certificate that is given up, since its device did not come with it.
#[tokio::test]
async fn what_was_given_up_and_not_noted_in_the_folder_the_next_run_notes() {
    let kill = Arc::default();
    for repairs in [false, true] {
        let stage = Stage::new(Chip::Esp32).await;
        let (bench, witness, line) = (stage.bench(&kill), stage.broker(&kill), stage.line(&kill));
        let life = stage.life(&bench, &witness);
        *stage.sees_only.lock().unwrap() = stage.device("plug").serial;
        bench.full.store(1, Ordering::SeqCst);
        let error = life.rotate(&name("plug"), &line).await.unwrap_err();
        assert!(matches!(&error, LifeError::NotProven { stands: After::Back, .. }), "{error:?}");
        let (here, there) = stage.valid("plug");
        assert_eq!((here.len(), there.len()), (1, 2), "void at the door alone");
        *stage.sees_only.lock().unwrap() = None;
        match repairs {
            true => drop(life.repair(&name("plug"), &"192.0.2.7".parse().unwrap(), &line).await.unwrap()),
            false => drop(life.rotate(&name("plug"), &line).await.unwrap()),
        }
        stage.assert_settled("plug", "the folder was mended").await;
    }
}
