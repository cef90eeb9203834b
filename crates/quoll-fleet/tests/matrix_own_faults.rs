//! The faults of devices themselves (facts §9), in their own time and over memory: each device ends proven in its new state
//! or back in its old one, and never in between without the registry saying so.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a stage that does not stand is a failed test")]

mod theatre;

use std::time::Duration;

use quoll_fleet::device::{DeviceState, Rung};
use quoll_fleet::enrol::{EnrolError, Patience, WantedRung};
use quoll_fleet::registry::PasswordState;
use quoll_tasmota::virtual_device::{Chip, ClockFault, Faults, Firmware, VirtualProfile};
use theatre::{OLD_HOST, Stage, profile};
use tokio::task::JoinSet;

/// A chip, a build, and a wish.
#[derive(Clone, Copy, Debug)]
struct Way(Chip, Firmware, WantedRung);

/// A certificate on either chip, and a pinned key.
const WAYS: [Way; 3] = [
    Way(Chip::Esp8266, Firmware::ClientCert, WantedRung::Auto),
    Way(Chip::Esp32, Firmware::Stock, WantedRung::Auto),
    Way(Chip::Esp32, Firmware::ClientCert, WantedRung::Auto),
];

impl Way {
    async fn stage(self, faults: Faults) -> Stage {
        let profile = VirtualProfile {
            chip: self.0,
            firmware: self.1,
            crashes_without_key: false,
            faults,
            ..profile()
        };
        let mut stage = Stage::new(profile).await;
        stage.broker.pinned_port = Some(10);
        stage.witness.broker.pinned_port = Some(10);
        stage.request.rung = self.2;
        stage
    }
}

/// Where the registry says it is, the device is.
async fn holds_to_its_word(stage: &Stage, result: &Result<(), EnrolError>, case: &str) {
    // A Backlog that waits, or a restart that is due, is still to come.
    stage.until("it rests", |state| state.running && !state.restarting).await;
    let (device, state) = (stage.in_registry(), stage.device.state());
    let at_old = state.broker == (OLD_HOST.to_owned(), 1884);
    let Some(device) = device else {
        assert!(result.is_err() && at_old, "{case}: nothing is registered, and it is at {:?}", state.broker);
        return;
    };
    match device.state {
        DeviceState::Proven => {
            assert!(result.is_ok(), "{case}: {result:?}");
            let port = if device.rung == Rung::Pinned { 10 } else { 9 };
            assert_eq!(state.broker, ("127.0.0.1".to_owned(), port), "{case}");
            let open = stage.registry.passwords_of(&stage.request.name).unwrap();
            if device.rung == Rung::Pinned {
                let (user, password) = stage.device.login().unwrap();
                assert!(user == "plug" && open.len() == 1 && open[0].is(password.as_bytes()), "{case}");
                assert_eq!(open[0].state, PasswordState::Current, "{case}");
            } else {
                assert!(state.stored.key.is_some() && open.is_empty(), "{case}: {open:?}");
            }
        }
        // In between, and said so: the registry, with why.
        DeviceState::Switched => {
            assert!(result.is_err() && device.problem.is_some(), "{case}: {device:?}");
        }
        DeviceState::Known | DeviceState::KeyPushed | DeviceState::RolledBack => {
            assert!(result.is_err() && device.problem.is_some(), "{case}: {device:?}");
            assert!(at_old, "{case}: {} and at {:?}", device.state, state.broker);
            let (user, password) = stage.device.login().unwrap();
            assert_eq!((user.as_str(), password.as_str()), ("DVES_USER", "DVES_PASS"), "{case}");
            assert!(stage.told("SetOption103").await.contains("OFF"), "{case}");
        }
        other => panic!("{case}: {other}"),
    }
}

/// The faults of the devices themselves (facts §9).
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_device_with_a_fault_of_its_own_ends_proven_or_back() {
    let cut = |after: &str| Faults { dies_after: Some(after.into()), ..Faults::default() };
    let refuses = |what: &str| Faults { refuses: Some(what.into()), ..Faults::default() };
    let mut faults = vec![
        Faults { clock: ClockFault::Unset, ..Faults::default() },
        Faults { clock: ClockFault::Wrong(-86_400), ..Faults::default() },
        Faults { crashes_on_refusal: true, ..Faults::default() },
        Faults { weak_wifi: Some(Duration::from_secs(20)), ..Faults::default() },
    ];
    faults.extend(
        ["TLSKey1", "TLSKey2", "MqttHost", "SetOption103", "MqttPassword", "MqttFingerprint1"].map(cut),
    );
    faults.extend(["TLSKey2", "SetOption132", "MqttPassword", "MqttFingerprint2", "MqttHost"].map(refuses));
    let mut runs = JoinSet::new();
    for way in WAYS {
        for fault in faults.clone() {
            runs.spawn(async move {
                let case = format!("{way:?} {fault:?}");
                let mut stage = way.stage(fault.clone()).await;
                let s = Duration::from_secs;
                stage.patience = Patience { attempts: 5, back: s(5), proof: s(5), ..theatre::patience() };
                let mut result = Ok(());
                // Nobody listens at the port of this stage: one that crashes on that goes on crashing.
                let lasts = fault.refuses.is_some() || fault.crashes_on_refusal || fault.weak_wifi.is_some();
                // What lasts ends back in the old state, each time; what passes ends proven.
                for _ in 0..if lasts { 2 } else { 3 } {
                    result = stage.enrol().await.map(drop);
                    holds_to_its_word(&stage, &result, &case).await;
                    if result.is_ok() {
                        break;
                    }
                }
                assert!(result.is_ok() || lasts, "{case}: {result:?}");
            });
        }
    }
    while let Some(run) = runs.join_next().await {
        if let Err(error) = run {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}
