//! The pinned rung: released ESP32 images, a password of their own, the broker's key by its fingerprint.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a stage that does not stand is a failed test")]

mod theatre;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quoll_fleet::device::{DeviceState, Rung};
use quoll_fleet::enrol::{Cause, EnrolError, OldPassword, Stands, WantedRung};
use quoll_fleet::registry::PasswordState;
use quoll_fleet::step::Step;
use quoll_tasmota::virtual_device::{Firmware, VirtualProfile};
use quoll_tasmota::{Command, Reply, SetOption};
use theatre::{Guillotine, Meddler, OLD_HOST, Stage, profile};

/// A released ESP32 image.
fn stock() -> VirtualProfile {
    VirtualProfile { firmware: Firmware::Stock, ..profile() }
}

async fn stage(profile: VirtualProfile) -> Stage {
    let mut stage = Stage::new(profile).await;
    stage.broker.pinned_port = Some(10);
    stage.witness.broker.pinned_port = Some(10);
    stage
}

const PINNED: &str = "AB AB AB AB AB AB AB AB AB AB AB AB AB AB AB AB AB AB AB AB";

/// The device has its factory login, its old broker and its old slots, and no password of ours is open.
async fn is_as_before(stage: &Stage, case: &str) {
    stage.until("it is back", |state| state.running && !state.restarting).await;
    assert_eq!(stage.device.state().broker, (OLD_HOST.to_owned(), 1884), "{case}");
    let login = stage.device.login().unwrap();
    assert_eq!((login.0.as_str(), login.1.as_str()), ("DVES_USER", "DVES_PASS"), "{case}");
    assert!(stage.told("MqttFingerprint1").await.contains("00 00 00"), "{case}");
    for option in [SetOption::MQTT_TLS, SetOption::FINGERPRINT_MODE] {
        assert!(stage.told(&option.name()).await.contains("OFF"), "{case}: {}", option.name());
    }
    assert_eq!(stage.registry.passwords_of(&stage.request.name).unwrap(), [], "{case}");
    assert_eq!(stage.told("SerialLog").await, r#"{"SerialLog":2}"#, "{case}");
}

#[tokio::test]
async fn a_released_image_is_pinned_and_proven_by_its_password() {
    for over_http in [false, true] {
        let stage = stage(stock()).await;
        let enrolled = match over_http {
            true => stage.enrol_http(None).await,
            false => stage.enrol().await,
        };
        let enrolled = enrolled.unwrap();
        assert_eq!((enrolled.device.state, enrolled.device.rung), (DeviceState::Proven, Rung::Pinned));
        assert_eq!(enrolled.device.serial, None, "it has no certificate");
        assert_eq!(stage.issuer.issued.load(Ordering::SeqCst), 0);
        for slot in ["MqttFingerprint1", "MqttFingerprint2"] {
            assert!(stage.told(slot).await.contains(PINNED), "{slot}");
        }
        let (user, password) = stage.device.login().unwrap();
        assert_eq!((user.as_str(), password.len()), ("plug", 40));
        let open = stage.registry.passwords_of(&stage.request.name).unwrap();
        assert_eq!(open.len(), 1);
        assert!(open[0].state == PasswordState::Current && open[0].is(password.as_bytes()));
        assert!(!open[0].is(b"DVES_PASS"));
        assert_eq!(stage.told("SerialLog").await, r#"{"SerialLog":2}"#);

        // Not a word of it anywhere: neither in the journal nor in the audit trail, nor in the file at all.
        let file = std::fs::read(stage.registry.path()).unwrap();
        let wal = std::fs::read(stage.registry.path().with_extension("db-wal")).unwrap_or_default();
        let is_in = |bytes: &[u8]| bytes.windows(40).any(|window| window == password.as_bytes());
        assert!(!is_in(&file) && !is_in(&wal));

        // A second run takes the proof again and changes nothing.
        let again = stage.enrol().await.unwrap();
        assert!(again.already);
        assert_eq!(*stage.device.login().unwrap().1, *password);
    }
}

#[tokio::test]
async fn a_password_is_changed_by_wish_and_the_old_one_is_void_then() {
    let mut stage = stage(stock()).await;
    stage.enrol().await.unwrap();
    let old = stage.device.login().unwrap().1;
    stage.request.new_password = true;
    let enrolled = stage.enrol().await.unwrap();
    assert!(!enrolled.already);
    let new = stage.device.login().unwrap().1;
    assert_ne!(*old, *new);
    let open = stage.registry.passwords_of(&stage.request.name).unwrap();
    assert!(open.len() == 1 && open[0].is(new.as_bytes()) && !open[0].is(old.as_bytes()));

    // When the broker does not see the new one, both go on opening the door.
    stage.witness.blind.store(true, Ordering::SeqCst);
    let error = stage.enrol().await.unwrap_err();
    assert!(matches!(error, EnrolError::NotProven { stands: Stands::Switched { .. }, .. }), "{error:?}");
    assert_eq!(stage.registry.passwords_of(&stage.request.name).unwrap().len(), 2);
    assert_eq!(stage.in_registry().unwrap().state, DeviceState::Switched);
    // And the next run finds out which of them it has, without another.
    stage.witness.blind.store(false, Ordering::SeqCst);
    stage.request.new_password = false;
    let last = stage.device.login().unwrap().1;
    stage.enrol().await.unwrap();
    let open = stage.registry.passwords_of(&stage.request.name).unwrap();
    assert!(open.len() == 1 && open[0].is(last.as_bytes()));
}

#[tokio::test]
async fn without_proof_everything_goes_back_login_and_slots_too() {
    let mut stage = stage(stock()).await;
    stage.patience.proof = Duration::from_millis(200);
    stage.witness.blind.store(true, Ordering::SeqCst);
    let error = stage.enrol().await.unwrap_err();
    assert!(matches!(error, EnrolError::NotProven { stands: Stands::RolledBack, .. }), "{error:?}");
    assert_eq!(stage.in_registry().unwrap().state, DeviceState::RolledBack);
    is_as_before(&stage, "blind").await;
    stage.witness.blind.store(false, Ordering::SeqCst);
    stage.enrol().await.unwrap();
}

#[tokio::test]
async fn a_password_that_nobody_knows_is_not_overwritten_unasked() {
    let named = || async {
        let stage = stage(stock()).await;
        let boots = stage.device.state().boot_count;
        stage.told("Backlog0 MqttUser me; MqttPassword s3cret-old").await;
        stage.until("it restarted", |state| state.boot_count > boots && !state.restarting).await;
        stage
    };
    let mut stage = named().await;
    let error = stage.enrol().await.unwrap_err();
    assert!(matches!(&error, EnrolError::OldPassword { user, .. } if user == "me"), "{error:?}");
    assert!(error.hint().unwrap().contains("--old-password-file"));
    assert_eq!(stage.in_registry(), None);
    assert_eq!(stage.device.login().unwrap().0, "me");

    // Told, it is given back.
    stage.patience.proof = Duration::from_millis(200);
    stage.witness.blind.store(true, Ordering::SeqCst);
    stage.request.old_password = Some(OldPassword("s3cret-old".to_owned().into()));
    assert!(!format!("{:?}", stage.request).contains("s3cret"));
    let error = stage.enrol().await.unwrap_err();
    assert!(matches!(error, EnrolError::NotProven { stands: Stands::RolledBack, .. }), "{error:?}");
    stage.until("it is back", |state| state.running && !state.restarting).await;
    let login = stage.device.login().unwrap();
    assert_eq!((login.0.as_str(), login.1.as_str()), ("me", "s3cret-old"));

    // Lost by wish, ours is not left there either, and it is said.
    let mut stage = named().await;
    stage.patience.proof = Duration::from_millis(200);
    stage.witness.blind.store(true, Ordering::SeqCst);
    stage.request.lose_old_password = true;
    let error = stage.enrol().await.unwrap_err();
    assert!(matches!(error, EnrolError::NotProven { stands: Stands::WithoutPassword, .. }), "{error:?}");
    assert!(error.to_string().contains("by hand"), "{error}");
    stage.until("it is back", |state| state.running && !state.restarting).await;
    let login = stage.device.login().unwrap();
    assert_eq!((login.0.as_str(), login.1.as_str()), ("me", ""));
}

#[tokio::test]
async fn a_slot_that_reads_back_as_zeros_is_no_success() {
    let stage = stage(stock()).await;
    // The device answers with zeros once it is switched: what it would show after a damaged text (facts §1.5).
    let zeros = format!(r#"{{"MqttFingerprint2":"{}"}}"#, ["00"; 20].join(" "));
    let switched = AtomicUsize::new(0);
    let rule = |_: usize, command: &Command, answer| {
        let is_switch = command.keyword() == "Backlog" && command.is_secret();
        switched.fetch_add(usize::from(is_switch), Ordering::SeqCst);
        match command.text() {
            "MqttFingerprint2" if switched.load(Ordering::SeqCst) == 1 => {
                switched.store(2, Ordering::SeqCst);
                Ok(Reply::parse(zeros.as_bytes()).unwrap())
            }
            _ => answer,
        }
    };
    let console = Meddler { console: stage.console(), asked: AtomicUsize::new(0), rule };
    let error = stage.enrolment().run(&stage.request, &console).await.unwrap_err();
    let EnrolError::NotProven { cause: Cause::Pins(why), stands: Stands::RolledBack, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(why.contains("00 00"), "{why}");
    is_as_before(&stage, "zeros").await;
}

#[tokio::test]
async fn the_rung_is_the_highest_possible_and_never_lowered_unasked() {
    // A build with TLSKey gets a certificate, unless told otherwise.
    let mut custom = stage(profile()).await;
    assert_eq!(custom.enrol().await.unwrap().device.rung, Rung::Mutual);
    // The same device with a released image again: not lowered silently.
    let stock = stage(stock()).await;
    let enrolment = quoll_fleet::enrol::Enrolment { registry: &custom.registry, ..stock.enrolment() };
    let mut request =
        quoll_fleet::enrol::EnrolRequest { address: stock.request.address.clone(), ..custom.request.clone() };
    let error = enrolment.run(&request, &stock.console()).await.unwrap_err();
    assert!(matches!(error, EnrolError::WouldLower { .. }), "{error:?}");
    assert_eq!(stock.device.state().broker.0, OLD_HOST);
    request.rung = WantedRung::Mutual;
    let error = enrolment.run(&request, &stock.console()).await.unwrap_err();
    assert!(matches!(error, EnrolError::NoTlsKey { .. }), "{error:?}");

    // By word, a build with TLSKey is pinned, too, and comes to a certificate later without one.
    custom = stage(profile()).await;
    custom.request.rung = WantedRung::Pinned;
    assert_eq!(custom.enrol().await.unwrap().device.rung, Rung::Pinned);
    assert_eq!(custom.device.state().stored.key, None);
    custom.request.rung = WantedRung::Auto;
    let enrolled = custom.enrol().await.unwrap();
    assert_eq!((enrolled.device.rung, enrolled.device.serial.is_some()), (Rung::Mutual, true));
    assert_eq!(custom.registry.passwords_of(&custom.request.name).unwrap(), [], "its password is void");
}

#[tokio::test]
async fn where_the_broker_cannot_be_pinned_nothing_is_sent() {
    let mut stage = stage(stock()).await;
    stage.request.rung = WantedRung::Pinned;
    stage.broker.pinned_port = None;
    assert!(matches!(stage.enrol().await.unwrap_err(), EnrolError::NoPinnedDoor { .. }));
    stage.broker.pinned_port = Some(10);
    stage.broker.server_fingerprint = [0; 20];
    assert!(matches!(stage.enrol().await.unwrap_err(), EnrolError::NoPin { .. }));
    assert_eq!(stage.in_registry(), None);
    assert_eq!(stage.device.state().broker.0, OLD_HOST);
}

#[tokio::test]
async fn a_removed_or_revoked_device_has_no_password_any_more() {
    let stage = stage(stock()).await;
    stage.enrol().await.unwrap();
    let owner = quoll_fleet::registry::Owner::Device(stage.request.name.clone());
    stage.registry.shut_out(&owner, "keyCompromise").unwrap();
    assert_eq!(stage.registry.passwords_of(&stage.request.name).unwrap(), []);
}

/// Killed at every question, before and after, and at every report: the next run with the same name ends proven.
#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_the_same_command_goes_on() {
    let whole = {
        let stage = stage(stock()).await;
        let count = Guillotine { console: stage.console(), at: usize::MAX, moment: AtomicUsize::new(0) };
        stage.reported_to(&count).run(&stage.request, &count).await.unwrap();
        count.moment.load(Ordering::SeqCst)
    };
    assert!(whole > 60, "{whole} moments");
    for at in (0..whole).step_by(3) {
        let stage = Arc::new(stage(stock()).await);
        let dying = Arc::clone(&stage);
        let killed = tokio::spawn(async move {
            let blade = Guillotine { console: dying.console(), at, moment: AtomicUsize::new(0) };
            dying.reported_to(&blade).run(&dying.request, &blade).await.map(drop)
        });
        assert!(killed.await.unwrap_err().is_panic(), "moment {at}");
        let enrolled = stage.enrol().await.unwrap_or_else(|error| panic!("moment {at}: {error}"));
        assert_eq!((enrolled.device.state, enrolled.device.rung), (DeviceState::Proven, Rung::Pinned));
        let login = stage.device.login().unwrap();
        let open = stage.registry.passwords_of(&stage.request.name).unwrap();
        assert!(open.len() == 1 && open[0].is(login.1.as_bytes()), "moment {at}: {open:?}");
        let steps = stage.registry.steps(&stage.request.name, 200).unwrap();
        assert!(steps.iter().any(|entry| entry.step == Step::Commit), "moment {at}");
        assert_eq!(stage.told("SerialLog").await, r#"{"SerialLog":2}"#, "moment {at}");
    }
}

/// Said to be proven is only whose other passwords are void: a kill, or a full disk, in between leaves no open door.
#[tokio::test]
async fn a_device_is_not_called_proven_before_its_other_passwords_are_void() {
    let stage = stage(stock()).await;
    let raw = rusqlite::Connection::open(stage.registry.path()).unwrap();
    let full = "CREATE TRIGGER full BEFORE UPDATE ON passwords BEGIN SELECT RAISE(ABORT, 'disk full'); END";
    raw.execute_batch(full).unwrap();
    let error = stage.enrol().await.unwrap_err();
    assert!(error.to_string().contains("disk full"), "{error}");
    let hint = error.hint().unwrap();
    assert!(hint.contains("disk space") && hint.contains("run the same command again"), "{hint}");
    let device = stage.in_registry().unwrap();
    assert_eq!(device.state, DeviceState::Switched);
    raw.execute_batch("DROP TRIGGER full").unwrap();
    assert_eq!(stage.enrol().await.unwrap().device.state, DeviceState::Proven);
}
