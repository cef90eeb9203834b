//! A living device gets a new key, and a new name: on a virtual device, with a real CA, killed at every step.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a stage that does not stand is a failed test"
)]

mod theatre;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use quoll_fleet::device::{DeviceName, DeviceState};
use quoll_fleet::enrol::{BrokerTarget, EnrolError};
use quoll_fleet::issuer::{DeviceCredential, IssueError, Issuer, Reissuer};
use quoll_fleet::life::{After, Changed, Life, LifeError};
use quoll_fleet::registry::{Owner, RegistryError};
use quoll_fleet::revoke::revoke;
use quoll_fleet::step::Step;
use quoll_pki::RevocationReason;
use quoll_tasmota::Command;
use quoll_tasmota::Console as _;
use quoll_tasmota::virtual_device::Chip;
use theatre::living::{Act, Bench, Guillotine, Line, Plug, Stage, name};
use time::OffsetDateTime;

#[tokio::test]
async fn a_rotated_device_has_a_new_key_and_the_old_certificate_is_void() {
    for chip in [Chip::Esp32, Chip::Esp8266] {
        let stage = Stage::new(chip).await;
        stage.assert_settled("plug", "enrolled").await;
        let before = stage.device("plug");
        let changed = stage.rotate().await.unwrap();
        assert_eq!(changed.old_serial, before.serial);
        assert_ne!(changed.device.serial, before.serial);
        assert!(changed.sighting.is_some() && changed.notes.is_empty(), "{:?}", changed.notes);
        stage.assert_settled("plug", "rotated").await;
        let old = stage.registry.certificate(&before.serial.unwrap()).unwrap().unwrap();
        assert_eq!((old.revoked, old.reason.as_deref()), (true, Some("superseded")));
        assert!(!stage.authority.pki().crl_is_behind(OffsetDateTime::now_utc()).unwrap(), "the list has it");
        assert_eq!(stage.device("plug").first_seen, before.first_seen, "it is the same device");
        stage.rotate().await.unwrap();
        stage.assert_settled("plug", "rotated twice").await;
    }
}

#[tokio::test]
async fn a_renamed_device_keeps_its_history_and_speaks_under_its_new_topic() {
    let stage = Stage::new(Chip::Esp32).await;
    let before = stage.device("plug");
    let changed = stage.run("plug", Some("lamp"), None).await.unwrap().unwrap();
    assert_eq!((changed.device.name.as_str(), changed.device.mac), ("lamp", before.mac));
    assert_eq!(stage.plug.topic(), "lamp", "its topic was its name, and follows");
    assert_eq!(changed.device.topics.topic, "lamp");
    stage.assert_settled("lamp", "renamed").await;
    assert_eq!(stage.registry.device(&name("plug")).unwrap(), None);
    assert!(stage.registry.steps(&name("lamp"), 200).unwrap().len() > 30, "with the steps of its enrolment");
    let pki = stage.authority.pki();
    assert!(pki.certificate(&"lamp".parse().unwrap()).unwrap().is_some(), "its common name is the new one");

    // A topic that is not its name is its owner's own choice.
    stage.plug.memory.ask(&Command::set(quoll_tasmota::Setting::Topic, "ceiling").unwrap()).await.unwrap();
    stage.plug.memory.wait(Duration::from_secs(5));
    stage.run("lamp", Some("Lamp"), None).await.unwrap().unwrap();
    assert_eq!(stage.plug.topic(), "ceiling");
    stage.assert_settled("Lamp", "only the case is new").await;
    assert_eq!(stage.device("lamp").name.as_str(), "Lamp");
}

#[tokio::test]
async fn without_proof_the_old_key_goes_back() {
    for (case, to) in [("rotate", None), ("rename", Some("lamp"))] {
        let stage = Stage::new(Chip::Esp32).await;
        let before = stage.device("plug");
        *stage.sees_only.lock().unwrap() = before.serial.clone();
        let error = stage.run("plug", to, None).await.unwrap().unwrap_err();
        assert!(matches!(&error, LifeError::NotProven { stands: After::Back, .. }), "{case}: {error:?}");
        assert!(error.hint().is_some());
        let after = stage.device("plug");
        assert_eq!(
            (after.serial.as_ref(), &after.topics),
            (before.serial.as_ref(), &before.topics),
            "{case}"
        );
        assert_eq!(stage.plug.topic(), "plug", "{case}");
        assert!(after.problem.is_some(), "{case}: its owner is told");
        let serial = before.serial.unwrap();
        assert_eq!(stage.plug.shows(&stage.target).await.as_deref(), Some(serial.as_str()), "{case}");
        assert_eq!(stage.valid("plug").0, [serial], "{case}: the new one is void");
        assert_eq!(stage.registry.changes().unwrap(), [], "{case}");
        *stage.sees_only.lock().unwrap() = None;
        stage.run("plug", to, None).await.unwrap().unwrap();
        stage.assert_settled(to.unwrap_or("plug"), case).await;
    }
}

#[tokio::test]
async fn without_the_old_key_it_keeps_the_new_one_and_both_certificates_stay_valid() {
    let stage = Stage::new(Chip::Esp32).await;
    // As with a device that was adopted: its key was never in our folder.
    std::fs::remove_file(stage.authority.pki().dir().join("private/plug.key")).unwrap();
    stage.blind.lock().unwrap().push("*".into());
    let error = stage.rotate().await.unwrap_err();
    assert!(matches!(&error, LifeError::NotProven { stands: After::Ahead { .. }, .. }), "{error:?}");
    assert_eq!(stage.valid("plug").0.len(), 2, "whichever it has, it may come");
    stage.blind.lock().unwrap().clear();
    let changed = stage.rotate().await.unwrap();
    assert!(changed.notes.iter().any(|note| note.contains("not at hand")), "{:?}", changed.notes);
    stage.assert_settled("plug", "the second run goes on with the same certificate").await;
}

#[tokio::test]
async fn a_power_cut_between_key_and_certificate_is_mended_by_the_next_run() {
    for chip in [Chip::Esp32, Chip::Esp8266] {
        let stage = Stage::new(chip).await;
        stage.plug.power_cuts.store(1, Ordering::SeqCst);
        // The same run goes on, since the console answers again.
        stage.rotate().await.unwrap();
        stage.assert_settled("plug", "mended in the same run").await;

        stage.plug.power_cuts.store(9, Ordering::SeqCst);
        let error = stage.rotate().await.unwrap_err();
        assert!(matches!(error, LifeError::Device(EnrolError::WentAway { .. })), "{error:?}");
        let problem = stage.device("plug").problem.unwrap_or_default();
        assert!(problem.contains("went away"), "{problem}");
        assert_eq!(stage.valid("plug").0.len(), 2);
        stage.plug.power_cuts.store(0, Ordering::SeqCst);
        stage.rotate().await.unwrap();
        stage.assert_settled("plug", "mended by the next run").await;
    }
}

#[tokio::test]
async fn who_must_not_be_changed_is_left_alone() {
    let stage = Stage::new(Chip::Esp32).await;
    let shown = stage.plug.shows(&stage.target).await;
    type Expected = fn(&LifeError) -> bool;
    let refused = |case: &'static str, done: Result<Changed, LifeError>, expected: Expected| {
        let error = done.unwrap_err();
        assert!(expected(&error), "{case}: {error:?}");
        assert!(error.hint().is_some(), "{case}: {error}");
        assert_eq!(stage.registry.changes().unwrap(), [], "{case}: nothing is under way");
    };
    let run = |of: &'static str, to: Option<&'static str>| stage.run(of, to, None);
    refused("nobody", run("nobody", None).await.unwrap(), |e| matches!(e, LifeError::Unknown(_)));
    stage.registry.quarantine(&name("plug"), "").unwrap();
    refused("in quarantine", stage.rotate().await, |e| matches!(e, LifeError::Quarantined { .. }));
    stage.registry.release(&name("plug")).unwrap();
    stage.registry.add_client(&"hass".parse().unwrap(), &quoll_fleet::client::Role::Observer).unwrap();
    refused("a taken name", run("plug", Some("hass")).await.unwrap(), |e| {
        matches!(e, LifeError::Registry(RegistryError::NameTaken(_)))
    });
    refused("its own name", run("plug", Some("plug")).await.unwrap(), |e| {
        matches!(e, LifeError::SameName { .. })
    });
    let steps = stage.registry.steps(&name("plug"), 1).unwrap();
    assert_eq!(steps[0].step, Step::RestoreLogs, "it was asked nothing for a name that it cannot have");
    let elsewhere = BrokerTarget { port: 8884, ..stage.target.clone() };
    let kill = Arc::new(Guillotine::default());
    let (issuer, witness, line) = (stage.bench(&kill), stage.broker(&kill), stage.line(&kill));
    let life = Life { broker: &elsewhere, ..stage.life(&issuer, &witness) };
    refused("another broker", life.rotate(&name("plug"), &line).await, |e| {
        matches!(e, LifeError::Elsewhere { .. })
    });
    let other = Plug::new(Chip::Esp32, 0x77, "other");
    let line = Line { plug: other.clone(), kill: kill.clone() };
    let life = Life { broker: &stage.target, ..life };
    refused("another device at its address", life.rotate(&name("plug"), &line).await, |e| {
        matches!(e, LifeError::Device(EnrolError::OtherDevice { .. }))
    });
    assert_eq!(other.memory.with(|machine| machine.stored()).key, None, "no key goes to a stranger");
    stage.plug.dead.store(true, Ordering::SeqCst);
    refused("a silent console", stage.rotate().await, |e| {
        matches!(e, LifeError::Device(EnrolError::Hangs { .. }))
    });
    stage.plug.dead.store(false, Ordering::SeqCst);
    assert_eq!(stage.plug.shows(&stage.target).await, shown);
    stage.assert_settled("plug", "nothing was changed").await;
}

/// Each moment that acts on the outside: before and after. Then the same command again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_a_change_is_carried_through_by_the_same_command() {
    let stage = Stage::new(Chip::Esp8266).await;
    let mut at = 0;
    // A rotation, and then a rename with a new topic, each killed at each of its moments.
    for rename in [false, true] {
        at = 0;
        loop {
            let (of, to) = match (rename, at % 2 == 0) {
                (false, _) => ("plug", None),
                (true, true) => ("plug", Some("lamp")),
                (true, false) => ("lamp", Some("plug")),
            };
            let was = stage.device(of).serial;
            match stage.run(of, to, Some(at)).await {
                None => {}
                Some(done) => {
                    done.unwrap();
                    break;
                }
            }
            // Between the two: the device can come with what it has, or has a mixture that the registry tells of.
            let under = stage.registry.device(&name(of)).unwrap().filter(|device| device.state.is_present());
            let now = under.as_ref().map_or_else(|| to.unwrap(), |_| of);
            let shown = stage.plug.shows(&stage.target).await;
            match &shown {
                Some(serial) => assert!(stage.valid(now).0.contains(serial), "{at}: {serial} is void"),
                None => assert!(stage.device(now).problem.is_some(), "{at}: nobody is told"),
            }
            match stage.run(of, to, None).await.unwrap() {
                Ok(_) => {}
                // It had been through already, but for a last word.
                Err(LifeError::Unknown(_)) if to.is_some() => {}
                Err(error) => panic!("{at}: {error}"),
            }
            let now = to.unwrap_or(of);
            stage.assert_settled(now, &format!("killed at {at}")).await;
            assert_ne!(stage.device(now).serial, was, "{at}");
            at += 1;
        }
        assert!(at > 30, "only {at} moments");
    }
    assert!(at > 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_of_which_nothing_reached_the_device_is_in_nobodys_way() {
    let stage = Stage::new(Chip::Esp32).await;
    let (mut now, mut given_up, mut kept) = ("plug".to_owned(), 0, 0);
    for at in 0.. {
        let [first, second] = ["first", "second"].map(|text| format!("{text}-{at}"));
        if stage.run(&now, Some(&first), Some(at)).await.is_some() {
            break;
        }
        let case = format!("killed at {at}");
        // A run that stopped when it had the new name already is only to be finished.
        let renamed = stage.registry.device(&name(&first)).unwrap().is_some();
        let act = match at % 3 {
            0 => Act::Rename(name(&second)),
            1 => Act::Repair,
            _ => Act::Rotate,
        };
        let of = if renamed { &first } else { &now };
        match stage.act(of, act.clone(), None).await.unwrap() {
            Ok(changed) => {
                given_up += usize::from(!renamed);
                now = if at % 3 == 0 { second } else { of.clone() };
                // One that a killed run had made and not noted is nobody's: its number is told.
                let (here, there) = stage.valid(&now);
                for serial in there.iter().filter(|serial| !here.contains(serial)) {
                    let told = |changed: Changed| changed.notes.iter().any(|note| note.contains(serial));
                    assert!(changed.clone().is_none_or(told), "{case}");
                    let serial = serial.parse().unwrap();
                    let reason = RevocationReason::Superseded;
                    stage.authority.pki().revoke(&serial, reason, OffsetDateTime::now_utc()).unwrap();
                }
            }
            Err(LifeError::OtherChange { to, .. }) => {
                assert_eq!(to, name(&first), "{case}: {act:?}");
                kept += 1;
                stage.run(of, Some(&first), None).await.unwrap().unwrap();
                now = first;
            }
            Err(error) => panic!("{case}: {act:?}: {error}"),
        }
        stage.assert_settled(&now, &case).await;
    }
    assert!(given_up > 3 && kept > 3, "{given_up} given up, {kept} kept");
}

/// A CA at which somebody revokes the device while its new certificate is made.
struct Meanwhile<'a> {
    bench: Bench,
    stage: &'a Stage,
}

#[async_trait]
impl Issuer for Meanwhile<'_> {
    async fn issue(&self, name: &DeviceName) -> Result<DeviceCredential, IssueError> {
        self.bench.issue(name).await
    }

    async fn existing(&self, name: &DeviceName) -> Result<Option<DeviceCredential>, IssueError> {
        self.bench.existing(name).await
    }
}

#[async_trait]
impl Reissuer for Meanwhile<'_> {
    async fn reissue(&self, name: &DeviceName) -> Result<DeviceCredential, IssueError> {
        let made = self.bench.reissue(name).await;
        let (pki, owner) = (self.stage.authority.pki(), Owner::Device(name.clone()));
        let (reason, now) = (RevocationReason::KeyCompromise, OffsetDateTime::now_utc());
        revoke(&self.stage.registry, pki, &owner, reason, now).unwrap();
        made
    }

    async fn held(&self, name: &DeviceName, serial: &str) -> Result<Option<DeviceCredential>, IssueError> {
        self.bench.held(name, serial).await
    }

    async fn retire(&self, name: &DeviceName, serial: &str) -> Result<(), IssueError> {
        self.bench.retire(name, serial).await
    }
}

#[tokio::test]
async fn who_is_revoked_in_the_middle_of_a_change_gets_no_new_certificate() {
    let stage = Stage::new(Chip::Esp32).await;
    let before = stage.plug.shows(&stage.target).await;
    let kill = Arc::default();
    let (witness, line) = (stage.broker(&kill), stage.line(&kill));
    let issuer = Meanwhile { bench: stage.bench(&kill), stage: &stage };
    let life = stage.life(&issuer, &witness);
    let error = life.rotate(&name("plug"), &line).await.unwrap_err();
    assert!(matches!(error, LifeError::Registry(RegistryError::Transition { .. })), "{error:?}");
    assert!(error.hint().unwrap().contains("revoked meanwhile"), "{error:?}");
    assert_eq!(stage.valid("plug"), (Vec::new(), Vec::new()), "neither at our door nor in the folder");
    assert_eq!(stage.plug.shows(&stage.target).await, before, "nothing was sent to it");
    assert_eq!(stage.device("plug").state, DeviceState::Revoked);
}
