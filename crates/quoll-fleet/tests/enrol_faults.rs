//! Enrolment of everything that is not a healthy device: one error of its own for each, a hint, and nothing broken.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a stage that does not stand is a failed test")]

mod theatre;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quoll_fleet::client::Role;
use quoll_fleet::device::DeviceState;
use quoll_fleet::enrol::{CaKind, EnrolError, EnrolRequest, Patience, Stands};
use quoll_fleet::issuer::IssueError;
use quoll_fleet::registry::Owner;
use quoll_fleet::step::Step;
use quoll_tasmota::virtual_device::{Chip, ClockFault, Faults, Firmware, VirtualProfile};
use quoll_tasmota::{Command, ConsoleError, Reply};
use theatre::{Meddler, OLD_HOST, Stage, mac, patience, profile};

fn with(change: impl FnOnce(&mut VirtualProfile)) -> VirtualProfile {
    let mut profile = profile();
    change(&mut profile);
    profile
}

/// Nothing was stored, switched, issued; the logs are as they were.
async fn untouched(stage: &Stage, case: &str) {
    assert_eq!(stage.device.state().stored.key, None, "{case}");
    assert_eq!(stage.device.state().broker.0, OLD_HOST, "{case}");
    assert_eq!(stage.issuer.issued.load(Ordering::SeqCst), 0, "{case}");
    assert_eq!(stage.told("SerialLog").await, r#"{"SerialLog":2}"#, "{case}");
}

#[tokio::test]
async fn a_device_that_cannot_be_enrolled_is_left_alone() {
    type Expected = fn(&EnrolError) -> bool;
    let faults = |change: fn(&mut Faults)| with(|profile| change(&mut profile.faults));
    let cases: [(&str, VirtualProfile, Option<&str>, Expected); 9] = [
        ("no web password", with(|p| p.web_password = "s3cret".into()), None, |error| {
            matches!(error, EnrolError::WebPassword { sent: false, .. })
        }),
        ("wrong web password", with(|p| p.web_password = "s3cret".into()), Some("guess"), |error| {
            matches!(error, EnrolError::WebPassword { sent: true, .. })
        }),
        ("no TLS", with(|p| (p.chip, p.firmware) = (Chip::Esp8266, Firmware::Stock)), None, |error| {
            matches!(error, EnrolError::NoTls { .. })
        }),
        (
            "TLS without TLSKey",
            with(|p| p.firmware = Firmware::Stock),
            None,
            |error| matches!(error, EnrolError::NoTlsKey { pinned, .. } if pinned.contains("MqttFingerprint1 AB AB")),
        ),
        ("TLS build without TLSKey", with(|p| p.firmware = Firmware::TlsOnly), None, |error| {
            matches!(error, EnrolError::NoTlsKey { .. })
        }),
        ("no Tasmota", faults(|f| f.impostor = Some("lighttpd".into())), None, |error| {
            matches!(error, EnrolError::NotTasmota { .. })
        }),
        ("hangs", faults(|f| f.hangs = true), None, |error| matches!(error, EnrolError::Hangs { .. })),
        ("refuses its own status", faults(|f| f.refuses = Some("Status".into())), None, |error| {
            matches!(error, EnrolError::Answer { .. } | EnrolError::MqttOff { .. })
        }),
        ("a bad topic", with(|p| p.topic = "a/$b/ c".into()), None, |error| {
            matches!(error, EnrolError::Topics { .. })
        }),
    ];
    for (case, profile, password, expected) in cases {
        let mut stage = Stage::new(profile).await;
        stage.patience.ask = Duration::from_millis(300);
        let error = stage.enrol_http(password).await.unwrap_err();
        assert!(expected(&error), "{case}: {error:?}");
        assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{case}");
        assert!(!error.to_string().contains("s3cret") && !error.to_string().contains("guess"), "{case}");
        assert_eq!(stage.in_registry(), None, "{case}: it was registered");
        untouched(&stage, case).await;
    }
}

#[tokio::test]
async fn a_web_password_opens_the_console() {
    let stage = Stage::new(with(|profile| profile.web_password = "s3cret".into())).await;
    assert_eq!(stage.enrol_http(Some("s3cret")).await.unwrap().device.state, DeviceState::Proven);
}

#[tokio::test]
async fn an_address_where_nobody_is_is_unreachable() {
    let mut stage = Stage::new(profile()).await;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    stage.request.address = closed.local_addr().unwrap().to_string().parse().unwrap();
    drop(closed);
    let error = stage.enrol_http(None).await.unwrap_err();
    assert!(matches!(error, EnrolError::Unreachable { .. }), "{error:?}");
    assert_eq!(stage.in_registry(), None);
}

#[tokio::test]
async fn mqtt_turned_off_is_said_and_not_taken_for_missing_tls() {
    let stage = Stage::new(profile()).await;
    stage.told("SetOption3 0").await;
    stage.until("it restarted", |state| state.running && state.boot_count == 2).await;
    let error = stage.enrol().await.unwrap_err();
    assert!(matches!(error, EnrolError::MqttOff { .. }), "{error:?}");
}

#[tokio::test]
async fn a_power_cut_between_key_and_certificate_is_survived_or_continued() {
    // Back in time: the run itself goes on.
    let dies = |faults: &mut Faults| faults.dies_after = Some("TLSKey1".into());
    let stage = Stage::new(with(|profile| dies(&mut profile.faults))).await;
    assert_eq!(stage.enrol().await.unwrap().device.state, DeviceState::Proven);

    // Away for longer than the run waits: the next one goes on.
    let slow = with(|profile| (profile.pace, profile.faults.dies_after) = (0.1, Some("TLSKey1".into())));
    let mut stage = Stage::new(slow).await;
    stage.patience = Patience { attempts: 2, ..patience() };
    let error = stage.enrol().await.unwrap_err();
    assert!(matches!(error, EnrolError::WentAway { step: Step::PushCertificate, .. }), "{error:?}");
    let device = stage.in_registry().unwrap();
    assert_eq!((device.state, device.serial.as_deref()), (DeviceState::Known, Some("AA01")));
    assert!(device.problem.unwrap().contains("push-certificate"));
    stage.until("it is back", |state| state.running).await;
    assert_eq!(stage.enrol().await.unwrap().device.state, DeviceState::Proven);
    assert_eq!(stage.issuer.issued.load(Ordering::SeqCst), 1);
    assert_eq!(stage.told("SerialLog").await, r#"{"SerialLog":2}"#);
}

#[tokio::test]
async fn a_refused_key_is_not_called_stored() {
    for (refused, step) in [("TLSKey1", Step::PushKey), ("TLSKey2", Step::PushCertificate)] {
        let stage = Stage::new(profile()).await;
        let rule = move |_, command: &Command, answer: Result<Reply, ConsoleError>| match command.keyword() {
            keyword if keyword == refused => {
                Ok(Reply::parse(br#"{"Command":"Error","Input":"TLSKEY1 c2VjcmV0"}"#).unwrap())
            }
            _ => answer,
        };
        let console = Meddler { console: stage.console(), asked: AtomicUsize::new(0), rule };
        let error = stage.enrolment().run(&stage.request, &console).await.unwrap_err();
        assert!(
            matches!(&error, EnrolError::Refused { step: at, .. } if *at == step),
            "{refused}: {error:?}"
        );
        assert!(!format!("{error} {error:?}").contains("c2VjcmV0"), "{refused}: the echo is shown");
        assert_eq!(stage.in_registry().unwrap().state, DeviceState::Known, "{refused}");
        assert_eq!(stage.device.state().broker.0, OLD_HOST, "{refused}");
        assert_eq!(stage.told("SerialLog").await, r#"{"SerialLog":2}"#, "{refused}");
    }
}

#[tokio::test]
async fn a_damaged_certificate_is_sent_once_more_and_then_given_up() {
    // The device says one byte less than was sent, `times` times.
    let damaged = |times: usize| {
        let left = AtomicUsize::new(times);
        move |_: usize, command: &Command, answer: Result<Reply, ConsoleError>| {
            let reply = answer?;
            let stored = reply.tls_key().ok().and_then(|stored| stored.certificate);
            match stored {
                Some(bytes) if command.keyword() == "TLSKey" && left.load(Ordering::SeqCst) > 0 => {
                    left.fetch_sub(1, Ordering::SeqCst);
                    let json = format!(r#"{{"TLSKey1":32,"TLSKey2":{}}}"#, bytes - 1);
                    Ok(Reply::parse(json.as_bytes()).unwrap())
                }
                _ => Ok(reply),
            }
        }
    };
    for (times, proven) in [(1, true), (usize::MAX, false)] {
        let stage = Stage::new(profile()).await;
        let console = Meddler { console: stage.console(), asked: AtomicUsize::new(0), rule: damaged(times) };
        let result = stage.enrolment().run(&stage.request, &console).await;
        let state = stage.in_registry().unwrap().state;
        if proven {
            result.unwrap();
            assert_eq!(state, DeviceState::Proven);
        } else {
            let error = result.unwrap_err();
            assert!(matches!(error, EnrolError::LengthMismatch { .. }), "{error:?}");
            assert_eq!((state, stage.device.state().broker.0.as_str()), (DeviceState::Known, OLD_HOST));
        }
    }
}

#[tokio::test]
async fn a_switch_that_does_not_arrive_is_no_success() {
    let mut stage = Stage::new(profile()).await;
    stage.patience.back = Duration::from_millis(300);
    let console = Deaf { console: stage.console(), hears: AtomicUsize::new(0) };
    let error = stage.enrolment().run(&stage.request, &console).await.unwrap_err();
    let EnrolError::NotProven { cause, .. } = &error else { panic!("{error:?}") };
    assert_eq!(cause, &quoll_fleet::enrol::Cause::NotSwitched);
    assert_eq!(stage.in_registry().unwrap().state, DeviceState::RolledBack);
    assert_eq!(stage.device.state().broker.0, OLD_HOST);
}

#[tokio::test]
async fn a_device_that_keeps_the_new_settings_is_not_called_rolled_back() {
    let mut stage = Stage::new(profile()).await;
    stage.witness.blind.store(true, Ordering::SeqCst);
    stage.patience.back = Duration::from_secs(1);
    let console = Deaf { console: stage.console(), hears: AtomicUsize::new(1) };
    let error = stage.enrolment().run(&stage.request, &console).await.unwrap_err();
    assert!(matches!(error, EnrolError::NotProven { stands: Stands::Switched { .. }, .. }), "{error:?}");
    let device = stage.in_registry().unwrap();
    assert_eq!((device.state, device.problem.is_some()), (DeviceState::Switched, true));
    let back = stage.enrolment().roll_back(&stage.request, &console).await;
    assert!(matches!(back, Err(EnrolError::NotRolledBack { .. })), "{back:?}");
    let back = stage.enrolment().roll_back(&stage.request, &stage.console()).await.unwrap();
    assert_eq!((back.state, stage.device.state().broker.0.as_str()), (DeviceState::RolledBack, OLD_HOST));
}

/// Says yes to every Backlog, and after the first few does nothing.
struct Deaf {
    console: theatre::MemoryConsole,
    hears: AtomicUsize,
}

#[async_trait::async_trait]
impl quoll_tasmota::Console for Deaf {
    async fn ask(&self, command: &Command) -> Result<Reply, ConsoleError> {
        let spent = |left: usize| left.checked_sub(1);
        let deaf = || self.hears.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spent).is_err();
        match command.keyword() {
            "Backlog" if deaf() => Ok(Reply::parse(b"{}").unwrap()),
            _ => self.console.ask(command).await,
        }
    }

    fn address(&self) -> String {
        self.console.address()
    }
}

#[async_trait::async_trait]
impl quoll_fleet::enrol::DeviceConsole for Deaf {
    async fn log_lines(&self) -> Result<Vec<String>, ConsoleError> {
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn a_wrong_clock_is_set() {
    for clock in [ClockFault::Unset, ClockFault::Wrong(-86_400), ClockFault::Wrong(7200)] {
        let stage = Stage::new(with(|profile| profile.faults.clock = clock)).await;
        stage.enrol().await.unwrap_or_else(|error| panic!("{clock:?}: {error}"));
        let steps = stage.registry.steps(&stage.request.name, 100).unwrap();
        let set = steps.iter().any(|entry| entry.step == Step::Clock && entry.detail.contains("set"));
        assert!(set, "{clock:?}: {steps:?}");
    }
}

#[tokio::test]
async fn one_name_is_one_device() {
    let mut stage = Stage::new(profile()).await;
    stage.enrol().await.unwrap();

    // Another device under the same name: elsewhere, and at the same address.
    let other = theatre::start(with(|profile| profile.mac = mac(0x01))).await;
    let elsewhere =
        EnrolRequest::new("plug".parse().unwrap(), other.http_addr().to_string().parse().unwrap());
    let console = theatre::MemoryConsole(other.clone());
    let error = stage.enrolment().run(&elsewhere, &console).await.unwrap_err();
    assert!(matches!(error, EnrolError::OtherDevice { .. }), "{error:?}");
    let error = stage.enrolment().run(&stage.request, &console).await.unwrap_err();
    assert!(matches!(error, EnrolError::AddressMoved { .. }), "{error:?}");
    assert_eq!(other.state().stored.key, None, "a key was sent to a stranger");

    // The same device under another name.
    let again = EnrolRequest { name: "lamp".parse().unwrap(), ..stage.request.clone() };
    let error = stage.enrolment().run(&again, &stage.console()).await.unwrap_err();
    assert!(matches!(&error, EnrolError::OtherName { name, .. } if name.as_str() == "plug"), "{error:?}");

    // A client's name, and a revoked one.
    stage.registry.add_client(&"alice".parse().unwrap(), &Role::Everything).unwrap();
    let taken = EnrolRequest { name: "alice".parse().unwrap(), ..elsewhere };
    let error = stage.enrolment().run(&taken, &console).await.unwrap_err();
    assert!(matches!(error, EnrolError::NameInUse(Owner::Client(_))), "{error:?}");
    stage.registry.shut_out(&Owner::Device("plug".parse().unwrap()), "keyCompromise").unwrap();
    stage.request.replace_key = true;
    let error = stage.enrol().await.unwrap_err();
    assert!(matches!(error, EnrolError::Revoked { .. }), "{error:?}");
}

#[tokio::test]
async fn two_enrolments_of_one_device_do_not_meet() {
    let stage = Stage::new(profile()).await;
    let held = stage.registry.lock_enrolment(&stage.request.name).unwrap();
    let error = stage.enrol().await.unwrap_err();
    assert!(matches!(error, EnrolError::Busy { .. }), "{error:?}");
    drop(held);
    stage.enrol().await.unwrap();
}

#[tokio::test]
async fn a_key_of_somebody_else_is_not_replaced_unasked() {
    let mut stage = Stage::new(profile()).await;
    let key = quoll_tasmota::TlsKey1::new(&theatre::credential().scalar).unwrap();
    stage.told(Command::tls_key1(&key).text()).await;
    let error = stage.enrol().await.unwrap_err();
    assert!(matches!(error, EnrolError::ForeignKey { .. }), "{error:?}");
    assert_eq!(stage.in_registry(), None);
    stage.request.replace_key = true;
    stage.enrol().await.unwrap();
}

#[tokio::test]
async fn topics_are_not_shared_unasked() {
    let stage = Stage::new(profile()).await;
    stage.enrol().await.unwrap();
    let topic = stage.device.state().topic;
    let twin = Stage::new(with(|profile| (profile.mac, profile.topic) = (mac(0x02), topic))).await;
    let mut request = EnrolRequest { name: "twin".parse().unwrap(), ..twin.request.clone() };
    let enrolment = quoll_fleet::enrol::Enrolment { registry: &stage.registry, ..twin.enrolment() };
    let error = enrolment.run(&request, &twin.console()).await.unwrap_err();
    assert!(
        matches!(&error, EnrolError::SharedTopics { other, .. } if other.as_str() == "plug"),
        "{error:?}"
    );
    request.share_topics = true;
    // The fake issuer of the second stage begins to count anew.
    twin.issuer.issued.store(7, Ordering::SeqCst);
    enrolment.run(&request, &twin.console()).await.unwrap();
}

#[tokio::test]
async fn two_devices_with_one_client_id_are_not_both_let_in() {
    let stage = Stage::new(profile()).await;
    stage.enrol().await.unwrap();
    let twin = Stage::new(with(|profile| profile.mac = mac(0x02))).await;
    twin.told("MqttClient DVES_D3E4F5").await;
    twin.until("it restarted with it", |state| state.running && state.boot_count == 2).await;
    let request = EnrolRequest { name: "twin".parse().unwrap(), ..twin.request.clone() };
    let enrolment = quoll_fleet::enrol::Enrolment { registry: &stage.registry, ..twin.enrolment() };
    // Whatever else may be shared.
    let shared = EnrolRequest { share_topics: true, ..request.clone() };
    let error = enrolment.run(&shared, &twin.console()).await.unwrap_err();
    assert!(
        matches!(&error, EnrolError::SharedClientId { other, .. } if other.as_str() == "plug"),
        "{error:?}"
    );
    assert!(error.hint().unwrap().contains("MqttClient 1"));
    assert_eq!(stage.registry.device(&request.name).unwrap(), None);
    untouched(&twin, "one client id").await;
    twin.told("MqttClient 1").await;
    twin.until("it restarted with its own", |state| state.running && state.boot_count == 3).await;
    twin.issuer.issued.store(7, Ordering::SeqCst);
    enrolment.run(&request, &twin.console()).await.unwrap();
}

/// Facts §9: devices that forget what they said yes to, boot for ever, store nothing, refuse a Referer.
#[tokio::test]
async fn known_pains_are_told_apart() {
    // TLSKey says yes and stores nothing, as on some flash layouts.
    let stage = Stage::new(profile()).await;
    let rule = |_, command: &Command, answer: Result<Reply, ConsoleError>| match command.keyword() {
        "TLSKey" | "TLSKey1" | "TLSKey2" => Ok(Reply::parse(br#"{"TLSKey1":-1,"TLSKey2":-1}"#).unwrap()),
        _ => answer,
    };
    let console = Meddler { console: stage.console(), asked: AtomicUsize::new(0), rule };
    let error = stage.enrolment().run(&stage.request, &console).await.unwrap_err();
    assert!(matches!(error, EnrolError::LengthMismatch { .. }), "{error:?}");
    assert_eq!(stage.device.state().broker.0, OLD_HOST);

    // HTTP API off for those without a Referer (SetOption128 0): over HTTP Quoll sends one.
    let stage = Stage::new(profile()).await;
    stage.told("SetOption128 0").await;
    assert_eq!(stage.enrol_http(None).await.unwrap().device.state, DeviceState::Proven);

    // The web server in user mode answers with a page.
    let stage = Stage::new(profile()).await;
    stage.told("WebServer 1").await;
    let error = stage.enrol_http(None).await.unwrap_err();
    assert!(matches!(error, EnrolError::Console(ConsoleError::UserMode { .. })), "{error:?}");
    assert!(error.hint().is_some());
    assert_eq!(stage.in_registry(), None);

    // It restarts while it is asked what it is, over and over.
    let stage = Stage::new(profile()).await;
    let rule = |number: usize, _: &Command, answer: Result<Reply, ConsoleError>| match number % 3 {
        2 => Err(ConsoleError::Broken { address: "it".into(), why: "it restarts".into() }),
        _ => answer,
    };
    let console = Meddler { console: stage.console(), asked: AtomicUsize::new(0), rule };
    let enrolled = stage.enrolment().run(&stage.request, &console).await;
    assert!(enrolled.is_ok(), "one lost answer in three is lived with: {enrolled:?}");
}

#[tokio::test]
async fn without_a_broker_no_device_is_switched() {
    let mut stage = Stage::new(profile()).await;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    stage.broker.port = closed.local_addr().unwrap().port();
    drop(closed);
    stage.patience.broker = Some(Duration::from_secs(2));
    let error = stage.enrol().await.unwrap_err();
    assert!(matches!(error, EnrolError::BrokerNotReady { .. }), "{error:?}");
    untouched(&stage, "closed port").await;

    let mut stage = Stage::new(profile()).await;
    stage.broker.host = "hub lan; Reset 1".into();
    let error = stage.enrol().await.unwrap_err();
    assert!(matches!(error, EnrolError::Target(_)), "{error:?}");
    untouched(&stage, "a host that is a command").await;
}

#[tokio::test]
async fn without_the_ca_no_key_is_sent() {
    let stage = Stage::new(profile()).await;
    stage.issuer.locked.store(true, Ordering::SeqCst);
    let error = stage.enrol().await.unwrap_err();
    assert!(matches!(error, EnrolError::Issue(IssueError::Locked)), "{error:?}");
    assert_eq!(stage.in_registry().unwrap().state, DeviceState::Known);
    untouched(&stage, "locked").await;
}

#[tokio::test]
async fn a_key_that_is_only_on_the_device_is_enough_to_go_on() {
    let stage = Stage::new(profile()).await;
    stage.enrol().await.unwrap();
    stage.issuer.keyless.store(true, Ordering::SeqCst);
    assert!(stage.enrol().await.unwrap().already);
    stage.told("TLSKey1 0").await;
    stage.device.power_cut();
    let mut request = stage.request.clone();
    request.replace_key = true;
    let error = stage.enrolment().run(&request, &stage.console()).await.unwrap_err();
    assert!(matches!(error, EnrolError::Issue(IssueError::KeyMissing { .. })), "{error:?}");
    // Which gives it a new key, and takes nothing from it before.
    assert!(error.hint().unwrap().starts_with("quoll device repair plug"), "{error:?}");
}

#[tokio::test]
async fn a_certificate_that_was_voided_is_not_used_again() {
    let mut stage = Stage::new(profile()).await;
    stage.enrol().await.unwrap();
    stage.registry.remove_device(&stage.request.name).unwrap();
    stage.request.replace_key = true;
    let error = stage.enrol().await.unwrap_err();
    assert!(
        matches!(&error, EnrolError::Issue(IssueError::Void { serial, .. }) if serial == "AA01"),
        "{error:?}"
    );
    assert!(error.hint().unwrap().contains("AA01"));
}

#[tokio::test]
async fn an_ec_authority_sets_the_option_it_needs() {
    let mut stage = Stage::new(profile()).await;
    stage.broker.ca_kind = CaKind::Ec;
    stage.enrol().await.unwrap();
    assert_eq!(stage.told("SetOption165").await, r#"{"SetOption165":"ON"}"#);
}
