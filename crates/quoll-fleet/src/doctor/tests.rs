//! The order of the rules, on evidence made by hand. What real devices and servers provoke is tested with the program.

use super::evidence::{
    Attribution, CertificateFacts, DeviceSide, Encounter, Ending, Evidence, Rehearsal, Shown, Silence,
    SilenceKind, Step, Target, TlsAbility,
};
use super::log::LogReading;
use super::rules::{RULES, table};
use super::{Health, Repair, diagnose};
use quoll_tasmota::tls_error::TABLE;

const NOW: i64 = 1_795_000_000;

/// A proven device that fails with a number, or with none.
fn failing(number: Option<i32>) -> Evidence {
    Evidence {
        name: "kitchen".into(),
        now: NOW,
        registered: super::evidence::Registered {
            rung: "mutual".into(),
            state: "proven".into(),
            address: "192.0.2.7".into(),
            ..Default::default()
        },
        target: Target {
            host: "hub.lan".into(),
            port: 8883,
            fingerprint: Some([7; 20]),
            ..Target::default()
        },
        device: DeviceSide {
            address: "192.0.2.7:80".into(),
            host: Some("hub.lan".into()),
            port: Some(8883),
            clock: Some(NOW),
            mqtt_on: Some(true),
            tls: Some(true),
            tls_at_boot: Some(true),
            ability: Some(TlsAbility::Client),
            stored: Some((32, 584)),
            log: Some(LogReading { number, code: number.map(|_| -2), ..LogReading::default() }),
            ..DeviceSide::default()
        },
        ..Evidence::default()
    }
}

fn encounter(reached: Step, alert: Option<u8>) -> Encounter {
    Encounter {
        at: NOW,
        peer: "192.0.2.7:50000".into(),
        listener: "tls".into(),
        secure: true,
        known_by: Attribution::Address,
        ending: Ending::Failed,
        reached,
        reason: "why".into(),
        alert: alert.map(|alert| (true, alert)),
        hello: Some(super::evidence::Hello { suites: vec![0xc02f], ..Default::default() }),
        certificate: None,
        client_id: None,
        username: None,
        code: None,
        departure: None,
    }
}

fn cause(evidence: &Evidence) -> &'static str {
    diagnose(evidence).cause.map_or("none", |finding| finding.rule)
}

#[test]
fn every_number_that_is_known_has_a_rule_that_names_a_cause_by_it() {
    for number in TABLE.iter().map(|row| row.number).chain([-1000, -1001, -1002, -1005]) {
        // 7 is a damaged record; it has the general rule.
        let verdict = diagnose(&failing(Some(number)));
        assert_eq!(verdict.health, Health::Ill, "{number}");
        let cause = verdict.cause.expect("ill means a cause");
        assert!(!cause.evidence.is_empty(), "{number}: {cause:?}");
        if number != 7 {
            assert_ne!(cause.rule, "tls-error", "{number} has a rule of its own");
        }
    }
}

#[test]
fn the_table_names_each_rule_once_and_says_something_in_every_column() {
    let mut ids: Vec<_> = RULES.iter().map(|rule| rule.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), RULES.len());
    for rule in RULES {
        for text in [rule.id, rule.looks_at, rule.cause, rule.fix] {
            assert!(!text.is_empty() && !text.contains(['|', '\n']), "{}: {text:?}", rule.id);
        }
    }
    assert_eq!(table().lines().count(), RULES.len() + 2);
}

#[test]
fn two_hundred_and_ninety_six_is_told_apart_by_what_the_broker_saw() {
    let mut none = failing(Some(296));
    none.device.stored = Some((-1, -1));
    none.wire.encounters = vec![encounter(Step::Certificate, Some(40))];
    assert_eq!(cause(&none), "no-client-certificate");
    let mut suites = failing(Some(296));
    suites.wire.encounters = vec![encounter(Step::Hello, Some(40))];
    suites.device.ecdsa = Some(false);
    let verdict = diagnose(&suites);
    let first = verdict.cause.unwrap();
    assert_eq!((first.rule, first.repair), ("no-common-suite", Some(Repair::Ecdsa)));
    assert!(first.evidence.iter().any(|line| line.contains("c02f")), "{:?}", first.evidence);
    // Nobody saw it: a handshake from here tells.
    let mut tried = failing(Some(296));
    tried.network.rehearsal =
        Some(Rehearsal { asks_certificate: true, suite: Some(0xc02f), ..Rehearsal::default() });
    assert_eq!(cause(&tried), "no-client-certificate");
    assert_eq!(cause(&failing(Some(296))), "handshake-failure", "where nothing tells, it says so");
}

#[test]
fn without_the_devices_word_the_brokers_alert_counts() {
    let mut silent = failing(None);
    silent.device = DeviceSide {
        silence: Some(Silence { kind: SilenceKind::Unreachable, why: "no route".into(), hint: None }),
        ..DeviceSide::default()
    };
    assert_eq!(cause(&silent), "not-there");
    let mut foreign = encounter(Step::Certificate, Some(48));
    foreign.certificate = Some(Shown { subject: "CN=kitchen".into(), ..Shown::default() });
    silent.wire.encounters = vec![foreign];
    assert_eq!(cause(&silent), "foreign-certificate");
    silent.wire.encounters = vec![encounter(Step::Answered, None)];
    assert_eq!(cause(&silent), "left-at-our-certificate");
    // It lives, then: a build without its key looks like this while it restarts over and over.
    let found = diagnose(&silent).cause.expect("ill means a cause");
    assert!(found.cause.contains("restarts over and over"), "{found:?}");
    assert!(found.fix.contains("--replace-key") && found.fix.contains("GPIO"), "{found:?}");
    assert!(found.evidence.iter().any(|line| line.contains("no route")), "{found:?}");
}

#[test]
fn what_came_from_an_address_of_several_is_nobodys_unless_the_numbers_agree() {
    let mut one = failing(Some(372));
    let shared = |alert| Encounter {
        known_by: Attribution::SharedAddress,
        ..encounter(Step::Certificate, Some(alert))
    };
    one.wire.encounters = vec![shared(116), shared(48)];
    let lines = diagnose(&one).cause.unwrap().evidence;
    assert!(lines.iter().any(|line| line.contains("alert 116 sent")), "{lines:?}");
    one.device.log = Some(LogReading::default());
    assert_eq!(
        diagnose(&one).health,
        Health::Unexplained,
        "without a word of its own it may have been any of them"
    );
}

#[test]
fn a_wrong_clock_is_blamed_only_where_the_certificate_is_good() {
    let dates =
        |not_before, not_after| CertificateFacts { not_before, not_after, ..CertificateFacts::default() };
    let mut wrong = failing(Some(54));
    wrong.device.clock = Some(100);
    wrong.pki.server = Some(dates(NOW - 1000, NOW + 1000));
    let first = diagnose(&wrong).cause.unwrap();
    assert_eq!((first.rule, first.repair), ("clock", Some(Repair::Clock)));
    wrong.pki.server = Some(dates(NOW - 1000, NOW - 500));
    assert_eq!(cause(&wrong), "server-certificate-dates");
    wrong.device.clock = Some(NOW);
    assert_eq!(cause(&wrong), "server-certificate-dates");
}

#[test]
fn a_fingerprint_is_restored_only_where_the_key_that_is_shown_is_ours() {
    let mut pinned = failing(Some(1));
    pinned.device.fingerprint_mode = Some(true);
    pinned.device.slots = [Some([1; 20]), Some([2; 20])];
    let shown = |fingerprint| {
        let leaf = CertificateFacts { fingerprint, ..CertificateFacts::default() };
        Some(Rehearsal { chain: vec![leaf], ..Rehearsal::default() })
    };
    pinned.network.rehearsal = shown(Some([7; 20]));
    let first = diagnose(&pinned).cause.unwrap();
    assert_eq!((first.rule, first.repair), ("fingerprint", Some(Repair::Fingerprint([7; 20]))));
    pinned.network.rehearsal = shown(Some([9; 20]));
    let first = diagnose(&pinned).cause.unwrap();
    assert_eq!((first.rule, first.repair), ("another-server", None));
    pinned.network.rehearsal = None;
    assert_eq!(diagnose(&pinned).cause.unwrap().repair, None);
}

#[test]
fn settings_rank_above_what_follows_from_them() {
    let mut off = failing(Some(56));
    off.device.mqtt_on = Some(false);
    assert_eq!(cause(&off), "mqtt-off");
    let mut revoked = failing(Some(300));
    revoked.registered.state = "revoked".into();
    assert_eq!(cause(&revoked), "revoked");
    let mut elsewhere = failing(Some(-1002));
    elsewhere.device.port = Some(1883);
    let first = diagnose(&elsewhere).cause.unwrap();
    let back = Repair::Broker { host: "hub.lan".into(), port: 8883 };
    assert_eq!((first.rule, first.repair), ("other-broker", Some(back)));
    let mut plain = failing(None);
    plain.device.tls = Some(false);
    plain.device.tls_at_boot = Some(false);
    let first = diagnose(&plain).cause.unwrap();
    assert_eq!((first.rule, first.repair), ("tls-off", Some(Repair::TlsOn)));
    plain.device.stored = Some((-1, -1));
    assert_eq!(diagnose(&plain).cause.unwrap().repair, None, "without a key TLS would make it crash");
}

#[test]
fn a_connected_device_is_well_or_warned_and_an_unexplained_one_is_said_to_be() {
    let mut well = failing(None);
    well.wire.online = Some(("DVES_1".into(), "192.0.2.7:5".into()));
    assert_eq!(diagnose(&well).health, Health::Well);
    well.device.rssi = Some(12);
    let verdict = diagnose(&well);
    assert_eq!((verdict.health, verdict.cause.unwrap().rule), (Health::Warned, "weak-wifi"));
    well.wire.encounters = vec![
        Encounter { departure: Some("taken over by another".into()), ..encounter(Step::Connect, None) },
        Encounter { departure: Some("taken over by another".into()), ..encounter(Step::Connect, None) },
    ];
    assert_eq!(cause(&well), "client-id-taken");
    let verdict = diagnose(&failing(None));
    assert_eq!((verdict.health, verdict.cause), (Health::Unexplained, None));
}

#[test]
fn the_commands_of_repairs_touch_no_key() {
    let repairs = [
        Repair::MqttOn,
        Repair::Broker { host: "hub.lan".into(), port: 8883 },
        Repair::TlsOn,
        Repair::Ecdsa,
        Repair::Fingerprint([7; 20]),
        Repair::Clock,
        Repair::Restart,
        Repair::ClientId("DVES_1".into()),
        Repair::Topic("kitchen".into()),
    ];
    let before = DeviceSide {
        host: Some("old.lan".into()),
        port: Some(1883),
        client: Some("x".into()),
        topic: Some("y".into()),
        ecdsa: Some(false),
        slots: [Some([1; 20]), Some([0; 20])],
        ..DeviceSide::default()
    };
    for repair in repairs {
        let command = repair.command(1_795_000_000).expect("it can be written");
        let undo = repair.undo(&before);
        assert_eq!(undo.is_none(), repair == Repair::Restart, "{command}");
        for command in [Some(command), undo].into_iter().flatten() {
            assert!(!command.text().contains("TLSKey") && !command.is_secret(), "{command}");
            assert!(!command.text().contains("00 00 00"), "never a zero slot: {command}");
        }
    }
    assert!(Repair::Fingerprint([0; 20]).command(0).is_none(), "never a zero slot");
    assert!(Repair::Broker { host: "a b".into(), port: 1 }.command(0).is_none());
}

#[test]
fn a_log_that_has_lost_the_failure_does_not_make_a_device_connected() {
    let mut revoked = failing(None);
    revoked.registered.state = "revoked".into();
    revoked.pki.revoked = true;
    revoked.device.mqtt_count = Some(1);
    assert_eq!(cause(&revoked), "revoked", "the node would know of a connection");
    revoked.device.log = Some(LogReading { connected: true, ..LogReading::default() });
    assert_eq!(cause(&revoked), "revoked", "what its log says is of before");
    // Elsewhere its own word has to do, unless it failed here since.
    let mut elsewhere = failing(None);
    elsewhere.device.host = Some("other.lan".into());
    elsewhere.device.mqtt_count = Some(1);
    assert!(elsewhere.is_connected());
    let known_by = Attribution::Certificate;
    elsewhere.wire.encounters = vec![Encounter { known_by, ..encounter(Step::Certificate, Some(44)) }];
    assert!(!elsewhere.is_connected());
}
