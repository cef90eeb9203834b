//! Enrolment of a healthy device: to the proof, back again, and once more after being killed anywhere.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a stage that does not stand is a failed test")]

mod theatre;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quoll_fleet::device::{DeviceState, Rung};
use quoll_fleet::enrol::{Cause, EnrolError, Enrolment, Patience, Stands};
use quoll_fleet::registry::Registry;
use quoll_fleet::step::{Step, StepState};
use quoll_fleet::witness::{Sighting, Witness, WitnessError};
use theatre::{Guillotine, OLD_HOST, Stage, credential, profile};

fn broker_pair(stage: &Stage) -> (String, u16) {
    (stage.broker.host.clone(), stage.broker.port)
}

#[tokio::test]
async fn a_device_is_enrolled_in_memory_and_over_http() {
    for over_http in [false, true] {
        let stage = Stage::new(profile()).await;
        let enrolled = match over_http {
            true => stage.enrol_http(None).await,
            false => stage.enrol().await,
        };
        let enrolled = enrolled.unwrap();
        assert_eq!((enrolled.device.state, enrolled.device.rung), (DeviceState::Proven, Rung::Mutual));
        assert_eq!((enrolled.device.serial.as_deref(), enrolled.already), (Some("AA01"), false));
        assert_eq!(stage.in_registry(), Some(enrolled.device));
        let state = stage.device.state();
        assert_eq!(state.broker, broker_pair(&stage));
        assert_eq!(state.stored.certificate, Some(credential().certificate_der.len()));
        let order = [
            Step::Probe,
            Step::Broker,
            Step::Register,
            Step::Certificate,
            Step::QuietLogs,
            Step::PushKey,
            Step::PushCertificate,
            Step::ReadBack,
            Step::Clock,
            Step::Switch,
            Step::Return,
            Step::Prove,
            Step::Commit,
            Step::RestoreLogs,
        ];
        assert_eq!(stage.notes.done(), order);
        assert_eq!(stage.told("SerialLog").await, r#"{"SerialLog":2}"#, "logs are up again");
        assert_eq!(
            stage.registry.kept(&stage.request.name).unwrap(),
            (None, None),
            "nothing is left to restore"
        );
        assert!(stage.registry.verify_audit().unwrap().seq >= 4);
    }
}

#[tokio::test]
async fn no_key_is_in_the_registry() {
    let stage = Stage::new(profile()).await;
    stage.enrol().await.unwrap();
    let scalar = credential().scalar;
    let base64 = quoll_tasmota::TlsKey1::new(&scalar).unwrap().base64();
    for name in ["fleet.db", "fleet.db-wal"] {
        let content = std::fs::read(stage.folder.path().join(name)).unwrap();
        let holds = |needle: &[u8]| content.windows(needle.len()).any(|window| window == needle);
        assert!(!holds(&scalar[..]) && !holds(base64.as_bytes()));
    }
}

#[tokio::test]
async fn a_second_enrolment_only_takes_the_proof_again() {
    let stage = Stage::new(profile()).await;
    stage.enrol().await.unwrap();
    let boots = stage.device.state().boot_count;
    let again = stage.enrol().await.unwrap();
    assert!(again.already);
    assert_eq!(stage.issuer.issued.load(Ordering::SeqCst), 1);
    assert_eq!(stage.device.state().boot_count, boots, "it was not restarted");
}

#[tokio::test]
async fn a_device_that_does_not_come_gets_its_settings_back() {
    let stage = Stage::new(profile()).await;
    stage.witness.blind.store(true, Ordering::SeqCst);
    let error = stage.enrol().await.unwrap_err();
    let EnrolError::NotProven { cause, stands, .. } = &error else { panic!("{error:?}") };
    // Nobody listens on the broker's port: the device's own log says so.
    assert!(matches!(cause, Cause::Tls { .. } | Cause::Mqtt(-2) | Cause::Unknown(_)), "{cause:?}");
    assert_eq!(stands, &Stands::RolledBack);
    assert!(error.hint().is_some());
    let device = stage.in_registry().unwrap();
    assert_eq!((device.state, device.rung), (DeviceState::RolledBack, Rung::Plain));
    assert!(device.problem.is_some());
    assert_eq!(stage.device.state().broker, (OLD_HOST.to_owned(), 1884));
    assert_eq!(stage.told("SetOption103").await, r#"{"SetOption103":"OFF"}"#);
    assert_eq!(stage.told("SerialLog").await, r#"{"SerialLog":2}"#);

    stage.witness.blind.store(false, Ordering::SeqCst);
    let enrolled = stage.enrol().await.unwrap();
    assert_eq!((enrolled.device.state, enrolled.device.problem), (DeviceState::Proven, None));
    assert_eq!(stage.issuer.issued.load(Ordering::SeqCst), 1, "the certificate of the first attempt is used");
}

#[tokio::test]
async fn a_device_without_a_broker_before_has_none_after_a_rollback() {
    let mut factory = profile();
    factory.broker = (String::new(), 1883);
    let stage = Stage::new(factory).await;
    stage.witness.blind.store(true, Ordering::SeqCst);
    let error = stage.enrol().await.unwrap_err();
    assert!(matches!(error, EnrolError::NotProven { stands: Stands::RolledBack, .. }), "{error:?}");
    assert_eq!(stage.device.state().broker.0, "");
}

#[tokio::test]
async fn settings_are_given_back_by_wish_after_a_kill() {
    let stage = Arc::new(Stage::new(profile()).await);
    // Killed when the switch is reported as done.
    let watcher = Arc::new(DiesAt(Step::Switch));
    let (s, w) = (stage.clone(), watcher.clone());
    let run = tokio::spawn(async move { s.reported_to(&*w).run(&s.request, &s.console()).await });
    assert!(run.await.unwrap_err().is_panic());
    assert_eq!(stage.in_registry().unwrap().state, DeviceState::Switched);
    let ours = broker_pair(&stage);
    stage.until("it was switched", |state| state.running && !state.restarting && state.broker == ours).await;
    let device = stage.enrolment().roll_back(&stage.request, &stage.console()).await.unwrap();
    assert_eq!(device.state, DeviceState::RolledBack);
    assert_eq!(stage.device.state().broker.0, OLD_HOST);
    assert_eq!(stage.told("SerialLog").await, r#"{"SerialLog":2}"#);
}

/// Still connected from before, and coming again when the device has the broker's new address and is up.
struct Lingering<'a>(&'a Stage, Sighting);

#[async_trait::async_trait]
impl Witness for Lingering<'_> {
    async fn wait_for(&self, serial: &str, _: Duration) -> Result<Sighting, WitnessError> {
        Ok(self.0.witness.wait_for(serial, Duration::ZERO).await.unwrap_or_else(|_| self.1.clone()))
    }
}

#[tokio::test]
async fn a_connection_from_before_the_switch_proves_nothing() {
    let stage = Stage::new(profile()).await;
    let (client_id, address) = ("DVES_D3E4F5".to_owned(), "127.0.0.1:1".to_owned());
    let before = Sighting { client_id, address, at: time::OffsetDateTime::UNIX_EPOCH };
    let witness = Lingering(&stage, before.clone());
    let enrolment = Enrolment { witness: &witness, ..stage.enrolment() };
    let enrolled = enrolment.run(&stage.request, &stage.console()).await.unwrap();
    assert_ne!(enrolled.sighting, before);

    stage.witness.blind.store(true, Ordering::SeqCst);
    let mut moved = stage.broker.clone();
    moved.host = "127.0.0.2".into();
    let patience = Patience { proof: Duration::from_millis(300), ..stage.patience };
    let enrolment = Enrolment { broker: &moved, patience, ..enrolment };
    let error = enrolment.run(&stage.request, &stage.console()).await.unwrap_err();
    assert!(matches!(error, EnrolError::NotProven { stands: Stands::RolledBack, .. }), "{error:?}");
    assert_eq!(
        stage.device.state().broker,
        broker_pair(&stage),
        "it is back at the broker it had been proven at"
    );
}

struct DiesAt(Step);

impl quoll_fleet::step::Reporter for DiesAt {
    fn step(&self, step: Step, state: StepState) {
        assert!(step != self.0 || !matches!(state, StepState::Done(_)), "killed");
    }
}

/// Kills one run at moment `at`; false if it was through before.
async fn killed_at(stage: &Arc<Stage>, at: usize) -> bool {
    let guillotine = Arc::new(Guillotine { console: stage.console(), at, moment: AtomicUsize::new(0) });
    let stage = stage.clone();
    let run = tokio::spawn(async move {
        let registry = Registry::open(stage.registry.path()).unwrap();
        let enrolment = Enrolment { registry: &registry, ..stage.reported_to(&*guillotine) };
        enrolment.run(&stage.request, &*guillotine).await
    });
    match run.await {
        Ok(result) => {
            result.unwrap();
            false
        }
        Err(error) => {
            assert!(error.is_panic());
            true
        }
    }
}

/// What the registry says must never be better than what is.
fn check_between(stage: &Stage, at: usize) -> Option<DeviceState> {
    let device = stage.device.state();
    let known = stage.in_registry().map(|device| device.state);
    if device.broker.0 != OLD_HOST {
        assert!(matches!(known, Some(DeviceState::Switched | DeviceState::Proven)), "{at}: {known:?}");
    }
    if device.stored.key.is_some() {
        assert!(stage.registry.ever_began(&stage.request.name, Step::PushKey).unwrap(), "{at}");
    }
    if matches!(known, Some(DeviceState::KeyPushed | DeviceState::Switched | DeviceState::Proven)) {
        assert_eq!(device.stored.certificate, Some(credential().certificate_der.len()), "{at}");
    }
    known
}

/// Kill at every moment: each question (before it, after it) and each report. Then run again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_anywhere_the_next_run_ends_proven_or_rolled_back() {
    let mut at = 0;
    let mut through = false;
    while !through {
        let batch: Vec<_> = (at..at + 16).map(|at| tokio::spawn(kill_and_continue(at))).collect();
        at += batch.len();
        for one in batch {
            through |= !one.await.unwrap();
        }
        assert!(at < 1000, "a run with over 1000 moments");
    }
    assert!(at > 80, "only {at} moments");
}

async fn kill_and_continue(at: usize) -> bool {
    let mut killed = false;
    for blind in [false, true] {
        let stage = Arc::new(Stage::new(profile()).await);
        killed = killed_at(&stage, at).await;
        if !killed {
            break;
        }
        if !blind {
            // The device finishes what it was told; the other half goes on in the middle of that.
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        let before = check_between(&stage, at);
        stage.witness.blind.store(blind, Ordering::SeqCst);
        let result = stage.enrol().await;
        let after = stage.in_registry().unwrap().state;
        match (blind, result) {
            (false, result) => {
                result.unwrap_or_else(|error| panic!("{at}: {error}"));
                assert_eq!(after, DeviceState::Proven, "{at}");
                assert_eq!(stage.device.state().broker, broker_pair(&stage), "{at}");
            }
            (true, Err(EnrolError::NotProven { stands, .. })) if before != Some(DeviceState::Proven) => {
                assert_eq!((stands, after), (Stands::RolledBack, DeviceState::RolledBack), "{at}");
                assert_eq!(stage.device.state().broker.0, OLD_HOST, "{at}");
            }
            // It had been proven before the kill: there is nothing older to go back to, and the registry says why.
            (true, Err(EnrolError::NotProven { .. })) => {
                assert_eq!(after, DeviceState::Proven, "{at}");
                assert!(stage.in_registry().unwrap().problem.is_some(), "{at}");
            }
            (true, other) => panic!("{at}: {other:?}"),
        }
        assert_eq!(stage.issuer.issued.load(Ordering::SeqCst), 1, "{at}: never two certificates");
        assert_eq!(stage.told("SerialLog").await, r#"{"SerialLog":2}"#, "{at}");
        assert_eq!(stage.registry.kept(&stage.request.name).unwrap().1, None, "{at}");
        stage.registry.verify_audit().unwrap();
    }
    killed
}

#[tokio::test]
async fn renamed_prefixes_and_all_group_topics_reach_the_registry() {
    let stage = Stage::new(profile()).await;
    let boots = stage.device.state().boot_count;
    stage.told("Backlog0 Prefix1 do; Prefix2 is; Prefix3 says; GroupTopic2 floor; GroupTopic4 house").await;
    stage.until("it restarted with them", |state| state.boot_count > boots && !state.restarting).await;
    let topics = stage.enrol().await.unwrap().device.topics;
    assert_eq!([&*topics.command, &*topics.status, &*topics.telemetry], ["do", "is", "says"]);
    assert_eq!(topics.groups, ["tasmotas", "floor", "house"]);
}
