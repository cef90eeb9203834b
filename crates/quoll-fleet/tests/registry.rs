//! The registry from outside: its rules, its damage, its neighbours.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a stage that does not stand is a failed test")]

use std::path::Path;
use std::process::Command;

use quoll_fleet::access_list::{Access, Act, Observation, Refusal, Verdict, admit};
use quoll_fleet::client::{ClientName, Role};
use quoll_fleet::device::{Device, DeviceName, DeviceState, Rung, Topics};
use quoll_fleet::limits::OBSERVATIONS_OF_ONE_MAX;
use quoll_fleet::registry::audit::AuditError;
use quoll_fleet::registry::journal::Progress;
use quoll_fleet::registry::{NewDevice, Owner, Registry, RegistryError};
use quoll_fleet::saved::{LogLevels, SavedSettings};
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

fn expires() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(2_000_000_000).unwrap()
}

fn with_device(folder: &Path) -> (Registry, Device) {
    let registry = Registry::open(&folder.join("fleet.db")).unwrap();
    let device = registry.register(&new_device("plug", 7)).unwrap();
    (registry, device)
}

#[test]
fn a_device_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, device) = with_device(folder.path());
    assert_eq!((device.state, device.rung, device.serial.clone()), (DeviceState::Known, Rung::Plain, None));
    drop(registry);
    let again = Registry::open(&folder.path().join("fleet.db")).unwrap();
    assert_eq!(again.device(&name("plug")).unwrap(), Some(device.clone()));
    assert_eq!(again.device(&name("PLUG")).unwrap(), Some(device.clone()), "names differ only in case");
    assert_eq!(again.device_by_mac(device.mac).unwrap(), Some(device.clone()));
    assert_eq!(again.devices().unwrap(), [device]);
}

#[test]
fn a_name_stands_for_one_device_or_one_client() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, device) = with_device(folder.path());
    let other_mac = NewDevice { mac: new_device("x", 8).mac, ..new_device("Plug", 7) };
    assert!(matches!(registry.register(&other_mac), Err(RegistryError::NameTaken(Owner::Device(_)))));
    let same_mac = new_device("lamp", 7);
    assert!(
        matches!(registry.register(&same_mac), Err(RegistryError::MacTaken { name, .. }) if name == device.name)
    );
    let client: ClientName = "plug".parse().unwrap();
    assert!(matches!(registry.add_client(&client, &Role::Everything), Err(RegistryError::NameTaken(_))));
    registry.add_client(&"alice".parse().unwrap(), &Role::Observer).unwrap();
    assert!(matches!(
        registry.register(&new_device("Alice", 9)),
        Err(RegistryError::NameTaken(Owner::Client(_)))
    ));
}

#[test]
fn a_life_has_no_short_cuts() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, device) = with_device(folder.path());
    let refused = registry.advance(&device.name, DeviceState::Proven, Some(Rung::Mutual));
    assert!(matches!(refused, Err(RegistryError::Transition { .. })), "{refused:?}");
    assert_eq!(registry.device(&device.name).unwrap().unwrap().rung, Rung::Plain);
    registry.note_problem(&device.name, Some("weak signal")).unwrap();
    for state in [DeviceState::KeyPushed, DeviceState::Switched] {
        registry.advance(&device.name, state, None).unwrap();
    }
    let proven = registry.advance(&device.name, DeviceState::Proven, Some(Rung::Mutual)).unwrap();
    assert_eq!((proven.rung, proven.problem), (Rung::Mutual, None));
    assert!(proven.last_seen.is_some());
}

#[test]
fn a_removed_name_is_used_anew_and_its_certificates_stay_void() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, device) = with_device(folder.path());
    registry.assign_certificate(&device.name, "0a1b", expires()).unwrap();
    assert!(!registry.certificate("0A1B").unwrap().unwrap().revoked);
    registry.remove_device(&device.name).unwrap();
    assert_eq!(registry.devices().unwrap(), []);
    assert!(registry.certificate("0A1B").unwrap().unwrap().revoked);
    let again =
        registry.register(&NewDevice { mac: new_device("x", 8).mac, ..new_device("plug", 7) }).unwrap();
    assert_eq!((again.state, again.serial), (DeviceState::Known, None));
    assert!(registry.certificate("0a1b").unwrap().unwrap().revoked);
    // The name is admitted again, the old certificate is not.
    let verdict = admit(&registry, "0a1b").unwrap();
    assert!(matches!(verdict, Verdict::Refuse(Refusal::Revoked(_))), "{verdict:?}");
    registry.assign_certificate(&device.name, "0C", expires()).unwrap();
    assert!(matches!(admit(&registry, "0C").unwrap(), Verdict::Admit { .. }));
    assert!(matches!(admit(&registry, "0D").unwrap(), Verdict::Refuse(Refusal::Unknown(_))));
}

#[test]
fn a_certificate_belongs_to_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, device) = with_device(folder.path());
    let lamp = registry.register(&new_device("lamp", 8)).unwrap();
    registry.assign_certificate(&device.name, "0A", expires()).unwrap();
    registry.assign_certificate(&device.name, "0A", expires()).unwrap();
    let taken = registry.assign_certificate(&lamp.name, "0a", expires());
    assert!(
        matches!(taken, Err(RegistryError::SerialTaken { owner: Owner::Device(of), .. }) if of == device.name)
    );
    registry.assign_certificate(&device.name, "0B", expires()).unwrap();
    let all = registry.certificates_of(&Owner::Device(device.name.clone())).unwrap();
    assert_eq!(all.iter().map(|one| one.serial.as_str()).collect::<Vec<_>>(), ["0A", "0B"]);
    assert_eq!(registry.device(&device.name).unwrap().unwrap().serial.as_deref(), Some("0B"));
}

#[test]
fn kept_settings_are_those_of_the_first_run() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, device) = with_device(folder.path());
    let old = SavedSettings {
        host: "old".into(),
        port: 1883,
        tls: false,
        fingerprint_mode: false,
        ecdsa: None,
        user: Some("DVES_USER".into()),
        fingerprints: None,
    };
    let levels = LogLevels { serial: Some(2), ..LogLevels::default() };
    registry.keep_settings(&device.name, &old).unwrap();
    registry.keep_log_levels(&device.name, &levels).unwrap();
    registry.keep_settings(&device.name, &SavedSettings { host: "new".into(), ..old.clone() }).unwrap();
    registry.keep_log_levels(&device.name, &LogLevels::default()).unwrap();
    assert_eq!(registry.kept(&device.name).unwrap(), (Some(old), Some(levels)));
    registry.forget_log_levels(&device.name).unwrap();
    assert_eq!(registry.kept(&device.name).unwrap().1, None);
}

#[test]
fn the_journal_tells_what_began() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, device) = with_device(folder.path());
    registry.note_step(&device.name, "run-1", Step::PushKey, Progress::Begun, "").unwrap();
    registry.note_step(&device.name, "run-1", Step::PushKey, Progress::Done, "32 bytes").unwrap();
    let steps = registry.steps(&device.name, 10).unwrap();
    assert_eq!(steps.len(), 2);
    assert_eq!(
        (steps[1].step, steps[1].progress, steps[1].detail.as_str()),
        (Step::PushKey, Progress::Done, "32 bytes")
    );
    assert_eq!(registry.steps(&device.name, 1).unwrap(), steps[1..]);
    assert!(registry.ever_began(&device.name, Step::PushKey).unwrap());
    assert!(!registry.ever_began(&device.name, Step::Switch).unwrap());
    assert!(!registry.ever_began(&name("lamp"), Step::PushKey).unwrap());
}

#[test]
fn an_audit_trail_verifies_and_names_the_actor() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(&folder.path().join("fleet.db")).unwrap().acting_as("cli:alice");
    registry.register(&new_device("plug", 7)).unwrap();
    registry.record("ca.created", "ca", &serde_json::json!({ "name": "Home CA" })).unwrap();
    let head = registry.verify_audit().unwrap();
    let tail = registry.audit_tail(10).unwrap();
    assert_eq!(
        tail.iter().map(|row| row.verb.as_str()).collect::<Vec<_>>(),
        ["device.registered", "ca.created"]
    );
    assert!(tail.iter().all(|row| row.actor == "cli:alice"));
    assert_eq!((head.seq, head.hash), (2, tail[1].hash));
    assert_eq!(registry.audit_tail(1).unwrap(), tail[1..]);
}

#[test]
fn tampering_with_the_audit_trail_shows() {
    type Expected = fn(&AuditError) -> bool;
    let changed: Expected = |error| matches!(error, AuditError::Changed { seq: 2 });
    let cases: [(&str, &str, Expected); 6] = [
        ("a changed detail", "UPDATE audit SET detail = '{}' WHERE seq = 2", changed),
        ("a changed actor", "UPDATE audit SET actor = 'nobody' WHERE seq = 2", changed),
        ("a moved time", "UPDATE audit SET at = at + 1 WHERE seq = 2", changed),
        ("a row gone from the middle", "DELETE FROM audit WHERE seq = 2", |error| {
            matches!(error, AuditError::Gap { expected: 2, found: 3 })
        }),
        ("a row gone from the end", "DELETE FROM audit WHERE seq = 3", |error| {
            matches!(error, AuditError::End { expected: 3, found: 2 })
        }),
        (
            "two rows swapped",
            "UPDATE audit SET seq = -2 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 3; \
             UPDATE audit SET seq = 3 WHERE seq = -2",
            changed,
        ),
    ];
    for (case, sql, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.db");
        let registry = Registry::open(&path).unwrap();
        for verb in ["one", "two", "three"] {
            registry.record(verb, "x", &serde_json::json!({ "verb": verb })).unwrap();
        }
        assert_eq!(registry.verify_audit().unwrap().seq, 3, "{case}");
        let foreign = rusqlite::Connection::open(&path).unwrap();
        assert!(foreign.execute_batch(sql).is_err(), "{case}: the triggers are no obstacle");
        foreign.execute_batch("DROP TRIGGER audit_is_written_once; DROP TRIGGER audit_is_kept").unwrap();
        foreign.execute_batch(sql).unwrap();
        let error = registry.verify_audit().unwrap_err();
        assert!(expected(&error), "{case}: {error:?}");
        assert!(error.hint().is_some());
    }
}

#[test]
fn a_damaged_file_is_refused_with_a_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.db");
    let registry = Registry::open(&path).unwrap();
    for last in 0..100 {
        registry.register(&new_device(&format!("plug-{last}"), last)).unwrap();
    }
    let copy = folder.path().join("copy.db");
    registry.back_up(&copy).unwrap();
    let sound = std::fs::read(&copy).unwrap();
    let mut scribbled = sound.clone();
    scribbled[4096 * 2..4096 * 4].fill(0xA5);
    let cases: [(&str, Vec<u8>); 3] = [
        ("no database", b"this is a text file and not a database, and it is long enough to tell".repeat(20)),
        ("scribbled over", scribbled),
        ("cut", sound[..sound.len() / 2].to_vec()),
    ];
    for (case, content) in cases {
        let path = folder.path().join("bad.db");
        std::fs::write(&path, &content).unwrap();
        let error = Registry::open(&path).unwrap_err();
        assert!(matches!(error, RegistryError::Damaged { .. }), "{case}: {error:?}");
        assert!(error.hint().unwrap().contains(".recover"), "{case}");
        assert_eq!(std::fs::read(&path).unwrap(), content, "{case}: the file was changed");
    }
    assert_eq!(Registry::open(&copy).unwrap().devices().unwrap().len(), 100);
}

#[test]
fn files_of_others_and_of_the_future_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("theirs.db");
    rusqlite::Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let before = std::fs::read(&foreign).unwrap();
    assert!(matches!(Registry::open(&foreign), Err(RegistryError::NotOurs { .. })));
    assert_eq!(std::fs::read(&foreign).unwrap(), before);

    let newer = folder.path().join("fleet.db");
    drop(Registry::open(&newer).unwrap());
    rusqlite::Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Registry::open(&newer), Err(RegistryError::Newer { found: 99, .. })));

    let nowhere = folder.path().join("no/such/folder/fleet.db");
    let error = Registry::open(&nowhere).unwrap_err();
    assert!(matches!(error, RegistryError::Open { .. }) && error.hint().is_some(), "{error:?}");
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_the_registry() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.db");
    std::fs::write(&path, b"").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let registry = Registry::open(&path).unwrap();
    registry.register(&new_device("plug", 7)).unwrap();
    let _lock = registry.lock_enrolment(&name("plug")).unwrap().unwrap();
    registry.back_up(&folder.path().join("copy.db")).unwrap();
    let mut seen = 0;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        let (mode, folder) = (file.metadata().unwrap().permissions().mode() & 0o777, file.path().is_dir());
        assert_eq!(mode, if folder { 0o700 } else { 0o600 }, "{:?}", file.path());
        seen += 1;
    }
    assert!(seen >= 3, "{seen} files");
}

#[test]
fn an_enrolment_lock_is_held_once_and_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.db");
    let (one, other) = (Registry::open(&path).unwrap(), Registry::open(&path).unwrap());
    let held = one.lock_enrolment(&name("plug")).unwrap().unwrap();
    assert!(other.lock_enrolment(&name("Plug")).unwrap().is_none());
    assert!(other.lock_enrolment(&name("lamp")).unwrap().is_some());
    drop(held);
    assert!(other.lock_enrolment(&name("plug")).unwrap().is_some());
}

#[test]
fn last_seen_times_never_go_back() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, device) = with_device(folder.path());
    registry.assign_certificate(&device.name, "0A", expires()).unwrap();
    let (early, late) = (expires() - time::Duration::HOUR, expires());
    for at in [late, early] {
        registry.saw(&[("0a".into(), at), ("unknown".into(), at)]).unwrap();
        assert_eq!(registry.device(&device.name).unwrap().unwrap().last_seen, Some(late));
    }
}

const CHILD: &str = "QUOLL_TEST_REGISTRY";
const EACH: u32 = 40;

/// Run by `several_processes_write_at_once` in processes of its own; by itself it has no registry to write to.
#[test]
#[ignore = "a process of several_processes_write_at_once"]
fn one_of_several_processes() {
    let path = std::env::var_os(CHILD).expect("started by several_processes_write_at_once");
    let registry = Registry::open(Path::new(&path)).unwrap().acting_as(&std::process::id().to_string());
    for number in 0..EACH {
        registry.record("test", "row", &serde_json::json!(number)).unwrap();
        registry.note_step(&name("plug"), "run", Step::Probe, Progress::Begun, "").unwrap();
    }
}

#[test]
fn several_processes_write_at_once() {
    const PROCESSES: u32 = 4;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.db");
    let start = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "one_of_several_processes"])
            .env(CHILD, &path)
            .output()
            .unwrap()
    };
    // They also create the file at once: nobody opened it before.
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..PROCESSES).map(|_| scope.spawn(start)).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for output in outputs {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let registry = Registry::open(&path).unwrap();
    assert_eq!(registry.verify_audit().unwrap().seq, u64::from(PROCESSES * EACH));
    assert_eq!(registry.steps(&name("plug"), 10_000).unwrap().len(), (PROCESSES * EACH) as usize);
}

#[test]
fn what_is_allowed_beyond_a_template_ends_with_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, _) = with_device(folder.path());
    let more = Access { publish: vec!["a/+".into()], subscribe: vec!["b/#".into()] };
    registry.allow("plug", &more).unwrap();
    registry.allow("PLUG", &more).unwrap();
    assert_eq!(registry.allowed("Plug").unwrap(), more, "twice is once, and names differ only in case");
    assert_eq!(registry.allowed("other").unwrap(), Access::default());
    let less = Access { publish: vec!["a/+".into(), "never".into()], subscribe: vec![] };
    assert_eq!(registry.disallow("plug", &less).unwrap(), 1);
    let trail = registry.audit_tail(3).unwrap();
    assert!(trail.iter().any(|entry| entry.verb == "access.withdrawn"), "{trail:?}");

    registry.learn(&["plug".into()], OffsetDateTime::now_utc() + time::Duration::hours(1)).unwrap();
    registry.learn(&["gone".into()], OffsetDateTime::now_utc() - time::Duration::hours(1)).unwrap();
    assert_eq!(
        registry.learning().unwrap().into_keys().collect::<Vec<_>>(),
        ["plug"],
        "the other's time is over"
    );
    registry.remove_device(&name("plug")).unwrap();
    assert!(registry.learning().unwrap().is_empty());
    assert_eq!(
        registry.allowed("plug").unwrap(),
        Access::default(),
        "whoever has the name later is somebody else"
    );
}

#[test]
fn what_is_seen_is_counted_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, _) = with_device(folder.path());
    let at = OffsetDateTime::from_unix_timestamp(2_000_000_000).unwrap();
    let seen = |topic: String, refused| Observation {
        name: "plug".into(),
        act: Act::Publish,
        topic,
        refused,
        times: 3,
        first: at,
        last: at,
    };
    registry.observe(&[seen("a".into(), true)]).unwrap();
    registry.observe(&[seen("a".into(), false)]).unwrap();
    assert_eq!(registry.observations().unwrap(), [Observation { times: 6, ..seen("a".into(), false) }]);
    let flood: Vec<_> = (0..2 * OBSERVATIONS_OF_ONE_MAX).map(|n| seen(n.to_string(), true)).collect();
    registry.observe(&flood).unwrap();
    assert_eq!(registry.observations().unwrap().len(), OBSERVATIONS_OF_ONE_MAX as usize);
    registry.forget_observations("plug").unwrap();
    assert!(registry.observations().unwrap().is_empty());
}
