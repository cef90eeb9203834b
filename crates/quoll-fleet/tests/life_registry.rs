//! Devices kept out for a while, certificates that nobody has, and what void certificates remain.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a stage that does not stand is a failed test")]

use quoll_fleet::access_list::{Refusal, Verdict, admit};
use quoll_fleet::client::{ClientName, Role};
use quoll_fleet::device::{DeviceName, DeviceState, Rung, Topics};
use quoll_fleet::life::{AdoptError, Adoption, adopt_client, adopt_device};
use quoll_fleet::registry::anchors::Evidence;
use quoll_fleet::registry::changes::Stage;
use quoll_fleet::registry::journal::Progress;
use quoll_fleet::registry::unlisted::Visit;
use quoll_fleet::registry::{NewDevice, Owner, Registry, RegistryError};
use quoll_fleet::step::Step;
use time::OffsetDateTime;

fn new_device(name: &str, last: u8) -> NewDevice {
    NewDevice {
        name: name.parse().unwrap(),
        address: format!("192.0.2.{last}").parse().unwrap(),
        mac: format!("A0B1C2D3E4{last:02X}").parse().unwrap(),
        chip: "ESP32-C3".into(),
        firmware: "15.3.0(tasmota32)".into(),
        topics: Topics {
            topic: format!("tasmota_{last:02X}"),
            full_topic: "%prefix%/%topic%/".into(),
            command: "cmnd".into(),
            status: "stat".into(),
            telemetry: "tele".into(),
            groups: vec!["tasmotas".into()],
            client_id: format!("DVES_{last:02X}"),
        },
    }
}

fn name(text: &str) -> DeviceName {
    text.parse().unwrap()
}

fn at(second: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(2_000_000_000 + second).unwrap()
}

fn adoption(serial: &str) -> Adoption {
    Adoption { serial: serial.into(), expires: at(0) }
}

fn visit(serial: &str, name: &str, second: i64) -> Visit {
    Visit {
        serial: serial.into(),
        name: name.into(),
        client_id: "DVES_07".into(),
        address: "192.0.2.7:50000".into(),
        at: at(second),
        times: 2,
    }
}

fn registry() -> (tempfile::TempDir, Registry) {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(&folder.path().join("fleet.db")).unwrap();
    (folder, registry)
}

#[test]
fn a_device_in_quarantine_is_refused_until_it_is_released_and_keeps_its_certificate() {
    let (_folder, registry) = registry();
    adopt_device(&registry, &new_device("plug", 7), &adoption("0A"), false).unwrap();
    assert!(matches!(admit(&registry, "0a").unwrap(), Verdict::Admit { .. }));
    let kept = registry.quarantine(&name("plug"), "talks to strangers").unwrap();
    assert!(!kept.is_welcome() && kept.state == DeviceState::Switched);
    let again = registry.quarantine(&name("plug"), "another reason").unwrap();
    assert_eq!(again.quarantine, kept.quarantine, "the first reason stands");
    let refused = Verdict::Refuse(Refusal::Quarantined(Owner::Device(name("plug"))));
    assert_eq!(admit(&registry, "0A").unwrap(), refused);
    assert!(!registry.certificate("0A").unwrap().unwrap().revoked);
    assert!(registry.release(&name("plug")).unwrap().is_welcome());
    assert!(matches!(admit(&registry, "0A").unwrap(), Verdict::Admit { .. }));
    registry.remove_device(&name("plug")).unwrap();
    for outcome in [registry.quarantine(&name("plug"), ""), registry.release(&name("plug"))] {
        assert!(matches!(outcome, Err(RegistryError::Unknown(_))), "{outcome:?}");
    }
    let verbs: Vec<_> = registry.audit_tail(20).unwrap().into_iter().map(|row| row.verb).collect();
    assert_eq!(verbs.iter().filter(|verb| *verb == "device.quarantined").count(), 1, "{verbs:?}");
    assert_eq!(verbs.iter().filter(|verb| *verb == "device.released").count(), 1, "{verbs:?}");
}

#[test]
fn a_removed_devices_certificate_stays_void_also_when_its_name_is_used_anew() {
    let (_folder, registry) = registry();
    adopt_device(&registry, &new_device("plug", 7), &adoption("0A"), false).unwrap();
    registry.remove_device(&name("plug")).unwrap();
    let refused = Verdict::Refuse(Refusal::Revoked(Owner::Device(name("plug"))));
    assert_eq!(admit(&registry, "0A").unwrap(), refused);
    let refused = adopt_device(&registry, &new_device("plug", 7), &adoption("0A"), false);
    assert!(matches!(refused, Err(AdoptError::Listed { void: true, .. })), "{refused:?}");
    adopt_device(&registry, &new_device("plug", 8), &adoption("0B"), false).unwrap();
    assert!(matches!(admit(&registry, "0B").unwrap(), Verdict::Admit { .. }));
    assert!(matches!(admit(&registry, "0A").unwrap(), Verdict::Refuse(Refusal::Revoked(_))));
    let all = registry.certificates().unwrap();
    let all: Vec<_> = all.iter().map(|one| (one.serial.as_str(), one.revoked)).collect();
    assert_eq!(all, [("0A", true), ("0B", false)]);
}

#[test]
fn who_nobody_knows_is_pending_until_a_word_is_said() {
    let (_folder, registry) = registry();
    registry.note_unlisted(&[visit("0a", "lamp", 1), visit("0B", "old-laptop", 2)]).unwrap();
    registry.note_unlisted(&[visit("0A", "lamp", 9), visit("0A", "lamp", 5)]).unwrap();
    let all = registry.unlisted().unwrap();
    let seen: Vec<_> = all
        .iter()
        .map(|one| (one.serial.as_str(), one.times, one.first_seen, one.last_seen, one.rejected.is_some()))
        .collect();
    assert_eq!(seen, [("0A", 6, at(1), at(9), false), ("0B", 2, at(2), at(2), false)]);

    registry.reject_unlisted("0b", "old-laptop").unwrap();
    registry.reject_unlisted("0C", "never-came").unwrap();
    registry.reject_unlisted("0C", "never-came").unwrap();
    registry.note_unlisted(&[visit("0B", "old-laptop", 20)]).unwrap();
    let rejected: Vec<_> =
        registry.unlisted().unwrap().into_iter().map(|one| one.rejected.is_some()).collect();
    assert_eq!(rejected, [false, true, true], "a visit does not undo it");

    adopt_device(&registry, &new_device("lamp", 7), &adoption("0A"), false).unwrap();
    adopt_device(&registry, &new_device("lamp", 7), &adoption("0A"), false).unwrap();
    registry.note_unlisted(&[visit("0A", "lamp", 30)]).unwrap();
    let left: Vec<_> = registry.unlisted().unwrap().into_iter().map(|one| one.serial).collect();
    assert_eq!(left, ["0C", "0B"], "what is somebody's is not listed, and what is rejected stays so");
    let refused = registry.reject_unlisted("0A", "lamp");
    assert!(matches!(refused, Err(RegistryError::SerialTaken { .. })), "{refused:?}");

    let hass: ClientName = "hass".parse().unwrap();
    let client = adopt_client(&registry, &hass, &Role::HomeAssistant, &adoption("0B")).unwrap();
    assert_eq!((client.serial.as_deref(), registry.unlisted().unwrap().len()), (Some("0B"), 1));
    assert!(matches!(admit(&registry, "0B").unwrap(), Verdict::Admit { .. }), "accepted after all");
}

#[test]
fn nobody_becomes_somebody_else() {
    let (_folder, registry) = registry();
    adopt_device(&registry, &new_device("plug", 7), &adoption("0A"), false).unwrap();
    let hass: ClientName = "hass".parse().unwrap();
    adopt_client(&registry, &hass, &Role::Observer, &adoption("0B")).unwrap();
    type Expected = fn(&AdoptError) -> bool;
    let cases: [(&str, NewDevice, &str, Expected); 5] = [
        ("another's certificate", new_device("lamp", 8), "0A", |e| matches!(e, AdoptError::Listed { .. })),
        ("a known name, other hardware", new_device("plug", 8), "0C", |e| {
            matches!(e, AdoptError::NameInUse(_))
        }),
        ("a known device, another certificate", new_device("plug", 7), "0C", |e| {
            matches!(e, AdoptError::NameInUse(_))
        }),
        ("a client's name", new_device("hass", 9), "0C", |e| matches!(e, AdoptError::Registry(_))),
        (
            "another's topic",
            NewDevice { topics: new_device("plug", 7).topics, ..new_device("lamp", 8) },
            "0C",
            |e| matches!(e, AdoptError::SharedTopics { .. }),
        ),
    ];
    for (case, new, serial, expected) in cases {
        let error = adopt_device(&registry, &new, &adoption(serial), false).unwrap_err();
        assert!(expected(&error), "{case}: {error:?}");
        assert!(error.hint().is_some(), "{case}: {error}");
    }
    let mut open = new_device("lamp", 8);
    open.topics.topic = "+".into();
    let error = adopt_device(&registry, &open, &adoption("0C"), false).unwrap_err();
    assert!(matches!(error, AdoptError::Topics { .. }), "{error:?}");
    assert_eq!(registry.devices().unwrap().len(), 1, "none was half adopted");
    let taken = adopt_client(&registry, &hass, &Role::Observer, &adoption("0D"));
    assert!(matches!(taken, Err(AdoptError::NameInUse(_))), "{taken:?}");
}

/// The row of a change that was under way would give the next device of this name, or the next hardware, a certificate
/// that is void.
#[test]
fn what_was_under_way_with_a_device_ends_with_it() {
    type Ends = fn(&Registry);
    let how: [(&str, Ends); 2] = [
        ("removed", |registry| {
            registry.remove_device(&name("plug")).unwrap();
            adopt_device(registry, &new_device("plug", 8), &adoption("0C"), false).unwrap();
        }),
        ("replaced", |registry| {
            let new = new_device("plug", 8);
            registry.replace_hardware(&name("plug"), new.mac, &new.address).unwrap();
        }),
    ];
    for (case, ends) in how {
        let (_folder, registry) = registry();
        adopt_device(&registry, &new_device("plug", 7), &adoption("0A"), false).unwrap();
        registry.begin_change(&name("plug"), None).unwrap();
        registry.change_certificate(&name("plug"), "0B", at(0)).unwrap();
        registry.advance_change(&name("plug"), Stage::Restarting).unwrap();
        registry.begin_slots(&name("plug"), &["AA".into(), "BB".into()]).unwrap();
        let owner = Owner::Device(name("plug"));
        registry.note_anchor(&owner, "CA", Evidence::Seen).unwrap();
        ends(&registry);
        assert_eq!(registry.change_of(&name("plug")).unwrap(), None, "{case}");
        assert!(registry.slot_changes().unwrap().is_empty(), "{case}: what another device's slots held");
        assert!(registry.anchors().unwrap().is_empty(), "{case}: nobody knows what this one trusts");
    }
}

/// Clocks jump, back too: a board without a battery starts in the past. A resumed run must still know its own key, and
/// nobody's key may be replaced for a journal of the name's earlier owner.
#[test]
fn a_clock_that_jumps_makes_no_journal_somebody_elses() {
    let (folder, registry) = registry();
    let turn = |hours: i64| {
        let raw = rusqlite::Connection::open(folder.path().join("fleet.db")).unwrap();
        raw.execute("UPDATE provisioning SET at = at + ?1", [hours * 3600]).unwrap();
    };
    let began = |registry: &Registry| registry.ever_began(&name("plug"), Step::PushKey).unwrap();
    registry.register(&new_device("plug", 7)).unwrap();
    registry.note_step(&name("plug"), "run-1", Step::PushKey, Progress::Begun, "").unwrap();
    turn(-2);
    assert!(began(&registry), "the clock went back after it was registered");
    turn(4);
    registry.remove_device(&name("plug")).unwrap();
    registry.register(&new_device("plug", 8)).unwrap();
    assert!(!began(&registry), "the clock went back before the name was used anew");
    registry.note_step(&name("plug"), "run-2", Step::PushKey, Progress::Begun, "").unwrap();
    assert!(began(&registry));
    let new = new_device("plug", 9);
    registry.replace_hardware(&name("plug"), new.mac, &new.address).unwrap();
    assert!(!began(&registry), "other hardware in its place");
}

/// A kill between the two would leave an old password that opens the door of a device with a certificate.
#[test]
fn from_the_moment_of_a_proof_by_certificate_no_password_opens() {
    let (_folder, registry) = registry();
    adopt_device(&registry, &new_device("plug", 7), &adoption("0A"), false).unwrap();
    registry.propose_password(&name("plug")).unwrap();
    registry.advance(&name("plug"), DeviceState::Proven, Some(Rung::Mutual)).unwrap();
    assert_eq!(registry.passwords_of(&name("plug")).unwrap(), []);
}

#[test]
fn who_owns_a_certificate_is_said_with_what_to_do() {
    let (_folder, registry) = registry();
    adopt_device(&registry, &new_device("plug", 7), &adoption("0A"), false).unwrap();
    registry.register(&new_device("lamp", 8)).unwrap();
    let taken = registry.assign_certificate(&name("lamp"), "0a", at(0)).unwrap_err();
    assert_eq!(taken.to_string(), "certificate 0A is recorded for device plug");
    assert!(taken.hint().unwrap().contains("quoll ca revoke 0A"), "{:?}", taken.hint());
}
