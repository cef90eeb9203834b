//! A pinned device gets a new password: killed at every question, before and after it, and at every report. At no moment is
//! the device without a password that opens the door.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a stage that does not stand is a failed test")]

mod theatre;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use quoll_fleet::device::{DeviceState, Rung};
use quoll_fleet::enrol::{EnrolRequest, WantedRung};
use quoll_tasmota::virtual_device::{Chip, Firmware, VirtualProfile};
use theatre::Guillotine;
use theatre::paper::{OnPaper, Paper, profile};

/// The way to the device, which counts, and ends everything at a number.
fn blade(stage: &Paper, at: usize) -> Arc<Guillotine<OnPaper>> {
    Guillotine::new(stage.console(), at)
}

/// The password that it has opens the door; which one, by its id.
fn comes_in(stage: &Paper, case: &str) -> String {
    stage.memory.wait(std::time::Duration::from_secs(5));
    let open = stage.registry.passwords_of(stage.name()).unwrap();
    let own = open.iter().find(|one| stage.shows(&one.id));
    own.unwrap_or_else(|| panic!("{case}: it has none of {open:?}")).id.clone()
}

/// `None` once the run was through before the moment.
async fn killed_at(stage: &Arc<Paper>, request: &EnrolRequest, at: usize) -> Option<()> {
    let (stage, request, blade) = (stage.clone(), request.clone(), blade(stage, at));
    let run = tokio::spawn(async move { stage.enrol_as(&request, &*blade, &*blade).await.map(drop) });
    match run.await {
        Ok(done) => {
            done.unwrap();
            None
        }
        Err(error) => {
            assert!(error.is_panic());
            Some(())
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_a_change_of_password_is_carried_through_by_the_same_command() {
    for (chip, firmware) in [(Chip::Esp32, Firmware::Stock), (Chip::Esp8266, Firmware::TlsOnly)] {
        let profile = VirtualProfile { chip, firmware, ..profile() };
        let stage = Arc::new(Paper::new(profile, WantedRung::Pinned));
        let safe = blade(&stage, usize::MAX);
        stage.enrol(&*safe).await.unwrap();
        let request = EnrolRequest { new_password: true, ..stage.request.clone() };
        for at in 0.. {
            let case = format!("{chip:?} killed at {at}");
            let before = comes_in(&stage, &case);
            let through = killed_at(&stage, &request, at).await.is_none();
            let between = comes_in(&stage, &case);
            let device = stage.in_registry().unwrap();
            // Proven with what it has, or on its way, and the registry says which.
            match device.state {
                DeviceState::Proven | DeviceState::Switched => {}
                other => panic!("{case}: {other}"),
            }
            assert_eq!(device.rung, Rung::Pinned, "{case}");
            if !through {
                stage
                    .enrol_as(&request, &*safe, &*safe)
                    .await
                    .unwrap_or_else(|error| panic!("{case}: {error}"));
            }
            let after = comes_in(&stage, &case);
            assert!(after != before && (through || after != between), "{case}: it is to be a new one");
            stage.holds_to_its_word(&Ok(()), &case);
            assert_eq!(stage.told("SerialLog"), r#"{"SerialLog":2}"#, "{case}");
            if through {
                assert!(at > 80, "only {at} moments");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_an_enrolment_ends_proven_by_the_same_command_or_back() {
    for sees in [true, false] {
        for at in 0.. {
            let case = format!("killed at {at}, then seen: {sees}");
            let profile = VirtualProfile { chip: Chip::Esp32, firmware: Firmware::Stock, ..profile() };
            let stage = Arc::new(Paper::new(profile, WantedRung::Pinned));
            if killed_at(&stage, &stage.request, at).await.is_none() {
                assert!(at > 80, "only {at} moments");
                break;
            }
            let was_proven = stage.in_registry().is_some_and(|device| device.state == DeviceState::Proven);
            stage.blind.store(!sees, Ordering::SeqCst);
            let result = stage.enrol(&*blade(&stage, usize::MAX)).await;
            match (sees, was_proven) {
                (true, _) => assert!(result.is_ok(), "{case}: {result:?}"),
                (false, _) => assert!(result.is_err(), "{case}"),
            }
            // One that had been proven is not taken back to where it was before it was ours.
            if sees || !was_proven {
                stage.holds_to_its_word(&result.as_ref().map(drop), &case);
            }
        }
    }
}
