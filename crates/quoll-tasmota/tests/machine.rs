//! The pure device: retries, clock, Backlog, log, and a TLS client that is fed nonsense. No socket, no clock.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use proptest::prelude::*;
use quoll_tasmota::{
    Mac, SetOption,
    virtual_device::{
        Chip, ClockFault, Faults, Firmware, Flash, Machine, Now, VirtualProfile,
        session::{ConnectPlan, RC_CONNECT_FAILED},
        tls::{ClientAuth, MaxFragment, TlsClient, TlsFailure, TlsSettings, Trust, client::Summary},
    },
};

const TRUE_TIME: u64 = 1_795_359_210;

fn at(seconds: u64) -> Now {
    Now { up: Duration::from_secs(seconds), utc: TRUE_TIME + seconds }
}

fn profile() -> VirtualProfile {
    let mac = Mac([2, 0, 0, 0xA1, 0xB2, 0xC3]);
    VirtualProfile {
        broker: ("broker.test".into(), 8883),
        ..VirtualProfile::new(Chip::Esp32, Firmware::Stock, mac)
    }
}

fn boot(profile: &VirtualProfile, flash: Flash, now: Now) -> Machine {
    Machine::boot(profile.clone(), flash, "192.0.2.7:80".parse().unwrap(), now)
}

fn fresh(profile: &VirtualProfile) -> Machine {
    boot(profile, Flash::factory(profile), at(0))
}

/// A device whose settings were made by these commands and saved by a restart.
fn settled(profile: &VirtualProfile, commands: &[&str]) -> Machine {
    let mut machine = fresh(profile);
    for command in commands {
        machine.command(command, at(0));
    }
    assert!(!machine.tick(at(1)) && machine.tick(at(2)), "a restart comes after two seconds");
    let (profile, flash) = machine.parts();
    boot(&profile, flash, at(0))
}

/// Facts §3.5: retry × n, n growing until the wait reaches 120 s; success starts anew.
#[test]
fn retries_come_slower_up_to_two_minutes() {
    let mut machine = fresh(&profile());
    let (mut now, mut waits) = (0, Vec::new());
    for _ in 0..14 {
        assert!(machine.connect(at(now)).is_some());
        machine.connect_failed(RC_CONNECT_FAILED, at(now));
        assert!(machine.connect(at(now)).is_none(), "not before it is due");
        let due = machine.due().unwrap().as_secs();
        waits.push(due - now);
        now = due;
    }
    let expected: Vec<u64> = (1..=12).map(|n| n * 10).chain([120, 120]).collect();
    assert_eq!(waits, expected);
    assert!(machine.connect(at(now)).is_some());
    machine.connected(at(now));
    assert_eq!((machine.mqtt_count(), machine.last_return_code()), (1, None));
    machine.lost(None, at(now));
    assert_eq!(machine.due().unwrap().as_secs() - now, 10);
}

/// Facts §6.1.
#[test]
fn a_connect_carries_what_the_settings_say() {
    let plan = |commands: &[&str]| -> ConnectPlan { settled(&profile(), commands).connect(at(3)).unwrap() };
    let factory = plan(&["MqttHost hub"]);
    assert_eq!((factory.host.as_str(), factory.port, factory.client.as_str()), ("hub", 8883, "DVES_A1B2C3"));
    assert_eq!(factory.login, Some(("DVES_USER".into(), "DVES_PASS".into())));
    assert_eq!((factory.will_topic.as_str(), factory.will_retain), ("tele/tasmota_A1B2C3/LWT", true));
    assert!(factory.clean_session && factory.keep_alive == 30 && factory.tls.is_none());
    let changed = plan(&["MqttUser 0", "SetOption104 1", "SetOption140 1", "SetOption103 1"]);
    assert!(
        changed.login.is_none() && !changed.will_retain && !changed.clean_session && changed.tls.is_some()
    );
}

/// Facts §3.3: the larger of the clock and the last save.
#[test]
fn certificates_are_checked_against_the_last_save_when_the_clock_is_unset() {
    let now_of = |profile: &VirtualProfile, flash: Flash| {
        let mut machine = boot(profile, flash, at(0));
        machine.connect(at(3)).unwrap().tls.unwrap().now
    };
    let synchronised = settled(&profile(), &["SetOption103 1"]);
    let (mut profile, flash) = synchronised.parts();
    profile.faults = Faults { clock: ClockFault::Unset, ..Faults::default() };
    assert_eq!(now_of(&profile, flash), TRUE_TIME + 2, "saved two seconds after it was set");
    let never = settled(&profile, &["SetOption103 1"]);
    assert!(now_of(&profile, never.parts().1) < 60, "1970");
    let set = settled(&profile, &[&format!("Time {TRUE_TIME}"), "SetOption103 1"]);
    assert_eq!(now_of(&profile, set.parts().1), TRUE_TIME + 2);
}

/// Facts §3.3, §3.4.
#[test]
fn error_296_turns_setoption165_on_for_the_next_attempt() {
    let mut machine = settled(&profile(), &["SetOption103 1"]);
    assert!(!machine.connect(at(3)).unwrap().tls.unwrap().ecdsa);
    assert!(!machine.tls_failed(TlsFailure::Number(296), at(3)));
    assert!(machine.settings().option(SetOption::ECDSA));
    assert!(machine.connect(at(20)).unwrap().tls.unwrap().ecdsa);
    machine.tls_failed(TlsFailure::Number(62), at(20));
    assert_eq!(machine.last_tls_error(), Some(62));
    let log = machine.log(0);
    assert!(log.contains("MQT: TLS connection error: 296") && log.contains("Retry in 20 sec"), "{log}");
}

/// Facts §4.3.
#[test]
fn a_zero_slot_learns_once_and_the_other_stays_open() {
    let mut machine = settled(&profile(), &["MqttFingerprint2 0", "SetOption132 1", "SetOption103 1"]);
    machine.connect(at(3)).unwrap();
    let summary = Summary { fingerprint: Some([9; 20]), ..Summary::default() };
    machine.tls_opened(summary, Duration::from_millis(400), at(3));
    machine.connected(at(3));
    machine.lost(None, at(4));
    let plan = machine.connect(at(20)).unwrap();
    assert!(matches!(plan.tls.unwrap().trust, Trust::Fingerprints(slots) if slots == [[9; 20], [0; 20]]));
    machine.tls_opened(summary, Duration::from_millis(400), at(20));
    machine.connected(at(20));
    machine.lost(None, at(21));
    let plan = machine.connect(at(60)).unwrap();
    assert!(matches!(plan.tls.unwrap().trust, Trust::Fingerprints(slots) if slots == [[9; 20], [0; 20]]));
}

/// Facts §2.
#[test]
fn a_backlog_runs_in_its_own_time_and_drops_what_it_must() {
    let mut machine = fresh(&profile());
    let answers = machine
        .command("Backlog DeviceName a;b; TelePeriod 20; Reset 1; Backlog WebLog 3; NoSuch {x;y}", at(0));
    assert!(answers.is_empty());
    for step in 0..20 {
        machine.tick(Now { up: Duration::from_millis(200 * step), utc: TRUE_TIME });
    }
    let ask = |machine: &mut Machine, line: &str| machine.command(line, at(5)).remove(0).json;
    assert_eq!(ask(&mut machine, "DeviceName"), r#"{"DeviceName":"a"}"#);
    assert_eq!(ask(&mut machine, "TelePeriod"), r#"{"TelePeriod":20}"#);
    assert_eq!(ask(&mut machine, "WebLog"), r#"{"WebLog":3}"#);
    assert!(machine.log(0).contains(r#""Input":"NOSUCH {x;y}""#), "{}", machine.log(0));
    assert_eq!(machine.boots(), 1);
}

#[test]
fn aliases_need_tls_and_numbers_do_not() {
    let plain = VirtualProfile { chip: Chip::Esp8266, ..profile() };
    for (line, expected) in [
        ("SetOption103", r#"{"SetOption103":"OFF"}"#),
        ("setoption132 1", r#"{"SetOption132":"ON"}"#),
        ("SetOption165 on", r#"{"SetOption165":"ON"}"#),
        ("MqttTLS", r#"{"Command":"Unknown","Input":"MQTTTLS"}"#),
        ("MqttFingerprint1", r#"{"Command":"Unknown","Input":"MQTTFINGERPRINT"}"#),
        ("SetOption40", r#"{"Command":"Error","Input":"SETOPTION40"}"#),
    ] {
        assert_eq!(fresh(&plain).command(line, at(0))[0].json, expected, "{line}");
    }
    let mut off = settled(&profile(), &["SetOption3 0"]);
    assert!(off.command("MqttHost", at(3))[0].json.contains("Unknown"), "MQTT commands go with MQTT");
    assert!(off.command("Status 6", at(3))[0].json.contains("Error"));
    assert!(off.connect(at(3)).is_none());
}

fn tls_client() -> TlsClient {
    let settings = TlsSettings {
        host: "broker.test".into(),
        fragment: MaxFragment::Bytes1024,
        ecdsa: true,
        rsa_4096: true,
        trust: Trust::Fingerprints([[0; 20]; 2]),
        now: TRUE_TIME,
        client_auth: ClientAuth::NotCompiled,
    };
    TlsClient::new(settings, [7; 32])
}

proptest! {
    #[test]
    fn nonsense_from_a_server_is_an_error_and_never_a_panic(
        kind in 20u8..24,
        first in any::<u8>(),
        content in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut client = tls_client();
        let _ = client.input(&content);
        // The same as a well-formed record, and as a well-formed handshake message in one.
        let record = |kind: u8, content: &[u8]| {
            let length = u16::try_from(content.len()).unwrap().to_be_bytes();
            [&[kind, 3, 3], &length[..], content].concat()
        };
        let _ = tls_client().input(&record(kind, &content));
        let length = u8::try_from(content.len()).unwrap();
        let message = [&[first % 24, 0, 0, length], content.as_slice()].concat();
        let _ = tls_client().input(&record(22, &message));
    }
}

/// A ServerHello that claims what was not offered, piece by piece.
#[test]
fn a_server_hello_outside_of_the_offer_has_its_own_numbers() {
    let hello = |version: u8, suite: [u8; 2], compression: u8, extensions: &[u8]| {
        let mut body = vec![3, version];
        body.extend([1; 32]);
        body.push(0);
        body.extend(suite);
        body.push(compression);
        body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend(extensions);
        let length = u8::try_from(body.len()).unwrap();
        let message = [&[2, 0, 0, length], body.as_slice()].concat();
        [&[22, 3, 3, 0, length + 4], message.as_slice()].concat()
    };
    let ok = [0xC0, 0x2F];
    for (name, record, expected) in [
        ("fine", hello(3, ok, 0, &[0xFF, 1, 0, 1, 0]), Ok(())),
        ("TLS 1.1", hello(2, ok, 0, &[]), Err(3)),
        // Fingerprint mode offers RSA alone.
        ("an ECDSA suite", hello(3, [0xC0, 0x2B], 0, &[]), Err(16)),
        ("compression", hello(3, ok, 1, &[]), Err(17)),
        ("another fragment length", hello(3, ok, 0, &[0, 1, 0, 1, 4]), Err(18)),
        ("renegotiation data", hello(3, ok, 0, &[0xFF, 1, 0, 2, 1, 9]), Err(19)),
        ("extended master secret", hello(3, ok, 0, &[0, 23, 0, 0]), Err(20)),
    ] {
        assert_eq!(tls_client().input(&record), expected.map_err(TlsFailure::Number), "{name}");
    }
}
