//! Chip × firmware × rung × fault at every step: each device ends proven in its new state or back in its old one, and
//! never in between without the registry saying so. Then the fault is gone, and the same command ends it well.
//!
//! What a run under a fault takes is not judged: on a busy machine it may fail for want of time, and must hold to the
//! same promise then.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a stage that does not stand is a failed test")]

mod theatre;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use quoll_fleet::device::{DeviceState, Rung};
use quoll_fleet::enrol::{DeviceConsole, EnrolError, Patience, WantedRung};
use quoll_fleet::registry::PasswordState;
use quoll_tasmota::virtual_device::{Chip, ClockFault, Faults, Firmware, VirtualProfile};
use quoll_tasmota::{Command, Console, ConsoleError, Reply};
use theatre::{MemoryConsole, OLD_HOST, Stage, profile};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Runs at a time: they mostly wait for each other's devices.
const AT_ONCE: usize = 12;

/// What goes wrong, from a question on that changes something or waits for something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    /// Power goes before the command is heard.
    CutBefore,
    /// Power goes right after the answer, and with it what was not saved.
    CutAfter,
    /// The answer is lost; the command was heard.
    AnswerLost,
    /// It is gone for good: no answer to anything any more.
    Gone,
    /// A page of HTML, once: somebody's captive portal.
    Html,
    /// An answer without sense, once.
    Lies,
    /// It refuses this one.
    Refuses,
    /// It restarts at this question and at each one after it.
    RestartsForEver,
    /// Its address belongs to another device from here on.
    Moved,
}

const FAULTS: [Fault; 9] = [
    Fault::CutBefore,
    Fault::CutAfter,
    Fault::AnswerLost,
    Fault::Gone,
    Fault::Html,
    Fault::Lies,
    Fault::Refuses,
    Fault::RestartsForEver,
    Fault::Moved,
];

/// A console on which something goes wrong at a question, counted from the first one after the probe.
struct Bad {
    console: MemoryConsole,
    fault: Fault,
    at: usize,
    /// Questions after the probe; `None` while it is under way.
    asked: AtomicUsize,
    probed: AtomicBool,
    healed: AtomicBool,
}

impl Bad {
    fn new(console: MemoryConsole, fault: Fault, at: usize) -> Self {
        let (probed, healed) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { console, fault, at, asked: AtomicUsize::new(0), probed, healed }
    }

    fn broken(&self, why: &str) -> ConsoleError {
        ConsoleError::Broken { address: self.console.address(), why: why.into() }
    }
}

#[async_trait]
impl Console for Bad {
    async fn ask(&self, command: &Command) -> Result<Reply, ConsoleError> {
        // The last question of a probe is the page of vitals; what is changed comes after it.
        if !self.probed.load(Ordering::SeqCst) {
            let answer = self.console.ask(command).await;
            self.probed.fetch_or(command.text() == "Status 11", Ordering::SeqCst);
            return answer;
        }
        let now = self.asked.fetch_add(1, Ordering::SeqCst);
        if self.healed.load(Ordering::SeqCst) || now < self.at {
            return self.console.ask(command).await;
        }
        let device = &self.console.0;
        match (self.fault, now == self.at) {
            (Fault::Gone, _) => Err(self.broken("it is gone")),
            (Fault::RestartsForEver, _) => {
                let answer = self.console.ask(command).await;
                device.power_cut();
                answer.and(Err(self.broken("it restarts")))
            }
            (Fault::Moved, _) => match command.text() {
                "Status 5" => Ok(Reply::parse(
                    br#"{"StatusNET":{"Hostname":"x","IPAddress":"192.0.2.9","Mac":"A0:B1:C2:00:00:01"}}"#,
                )
                .unwrap()),
                // Another device's settings are its own, and it does not know ours.
                _ => Err(ConsoleError::Unauthorized { address: self.console.address(), sent: false }),
            },
            (_, false) => self.console.ask(command).await,
            (Fault::CutBefore, true) => {
                device.power_cut();
                Err(self.broken("no power"))
            }
            (Fault::CutAfter, true) => {
                let answer = self.console.ask(command).await;
                device.power_cut();
                answer
            }
            (Fault::AnswerLost, true) => {
                let _ = self.console.ask(command).await;
                Err(self.broken("the answer is lost"))
            }
            (Fault::Html, true) => Err(ConsoleError::NotTasmota {
                address: self.console.address(),
                seen: "a page of HTML".into(),
            }),
            (Fault::Lies, true) => Ok(Reply::parse(br#"{"Moon":"cheese"}"#).unwrap()),
            (Fault::Refuses, true) => Ok(Reply::parse(br#"{"Command":"Error","Input":"X"}"#).unwrap()),
        }
    }

    fn address(&self) -> String {
        self.console.address()
    }
}

#[async_trait]
impl DeviceConsole for Bad {
    async fn log_lines(&self) -> Result<Vec<String>, ConsoleError> {
        Ok(Vec::new())
    }
}

/// A chip, a build, a wish, and where that ends where nothing is wrong.
#[derive(Clone, Copy, Debug)]
struct Kind {
    chip: Chip,
    firmware: Firmware,
    wanted: WantedRung,
    ends: Option<Rung>,
}

const fn kind(chip: Chip, firmware: Firmware, wanted: WantedRung, ends: Option<Rung>) -> Kind {
    Kind { chip, firmware, wanted, ends }
}

/// All chips, builds and wishes.
const KINDS: [Kind; 18] = {
    use Chip::{Esp32, Esp8266};
    use Firmware::{ClientCert, Stock, TlsOnly};
    use Rung::{Mutual as M, Pinned as P};
    use WantedRung::{Auto, Mutual, Pinned};
    [
        kind(Esp8266, Stock, Auto, None),
        kind(Esp8266, Stock, Pinned, None),
        kind(Esp8266, Stock, Mutual, None),
        kind(Esp8266, TlsOnly, Auto, Some(P)),
        kind(Esp8266, TlsOnly, Pinned, Some(P)),
        kind(Esp8266, TlsOnly, Mutual, None),
        kind(Esp8266, ClientCert, Auto, Some(M)),
        kind(Esp8266, ClientCert, Pinned, Some(P)),
        kind(Esp8266, ClientCert, Mutual, Some(M)),
        kind(Esp32, Stock, Auto, Some(P)),
        kind(Esp32, Stock, Pinned, Some(P)),
        kind(Esp32, Stock, Mutual, None),
        kind(Esp32, TlsOnly, Auto, Some(P)),
        kind(Esp32, TlsOnly, Pinned, Some(P)),
        kind(Esp32, TlsOnly, Mutual, None),
        kind(Esp32, ClientCert, Auto, Some(M)),
        kind(Esp32, ClientCert, Pinned, Some(P)),
        kind(Esp32, ClientCert, Mutual, Some(M)),
    ]
};

impl Kind {
    fn profile(self) -> VirtualProfile {
        VirtualProfile { chip: self.chip, firmware: self.firmware, crashes_without_key: false, ..profile() }
    }

    async fn stage(self, faults: Faults) -> Stage {
        let mut stage = Stage::new(VirtualProfile { faults, ..self.profile() }).await;
        stage.broker.pinned_port = Some(10);
        stage.witness.broker.pinned_port = Some(10);
        stage.request.rung = self.wanted;
        stage
    }
}

/// Short: a run under a fault may as well fail for want of time.
fn hasty() -> Patience {
    let ms = Duration::from_millis;
    Patience {
        ask: ms(500),
        attempts: 2,
        pause: ms(5),
        back: ms(250),
        poll: ms(5),
        poll_max: ms(20),
        proof: ms(250),
        broker: None,
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

async fn played(kind: Kind, fault: Fault, at: usize) -> bool {
    let case = format!("{kind:?} {fault:?} at {at}");
    let mut stage = kind.stage(Faults::default()).await;
    stage.patience = hasty();
    let console = Bad::new(stage.console(), fault, at);
    let result = stage.enrolment().run(&stage.request, &console).await.map(drop);
    let came_to_pass = console.asked.load(Ordering::SeqCst) > at;
    holds_to_its_word(&stage, &result, &case).await;
    // The fault is gone; the same command ends it well.
    console.healed.store(true, Ordering::SeqCst);
    stage.patience = theatre::patience();
    let enrolled = stage.enrolment().run(&stage.request, &console).await;
    let enrolled = enrolled.unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(Some(enrolled.device.rung), kind.ends, "{case}");
    holds_to_its_word(&stage, &Ok(()), &case).await;
    // Turned down logs are up again, but for what it had said yes to and not saved when its power went.
    if fault != Fault::CutAfter {
        assert_eq!(stage.told("SerialLog").await, r#"{"SerialLog":2}"#, "{case}");
    }
    came_to_pass
}

async fn all(cases: Vec<(Kind, Fault, usize)>) -> usize {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut runs = JoinSet::new();
    for (kind, fault, at) in cases {
        let places = Arc::clone(&places);
        runs.spawn(async move {
            let _place = places.acquire_owned().await.unwrap();
            played(kind, fault, at).await
        });
    }
    let mut came = 0;
    while let Some(run) = runs.join_next().await {
        match run {
            Ok(came_to_pass) => came += usize::from(came_to_pass),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    came
}

/// Each fault at each question, on the three ways that differ: a certificate on either chip, and a pinned key.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_fault_at_each_step_ends_proven_or_back_or_said() {
    // Each fault on each way, at every fourth question, others on each way.
    let ways = [KINDS[6], KINDS[9], KINDS[15]];
    let mut cases = Vec::new();
    for (number, way) in ways.into_iter().enumerate() {
        for (offset, fault) in FAULTS.into_iter().enumerate() {
            for at in 0..24 {
                if (at + offset + number) % 4 == 0 {
                    cases.push((way, fault, at));
                }
            }
        }
    }
    let (count, came) = (cases.len(), all(cases).await);
    assert!(came * 2 > count, "{came} of {count} faults came to pass");
}

/// Every chip, build and wish, without a fault and with one of each.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_chip_build_and_wish_ends_where_it_is_to() {
    for kind in KINDS {
        let stage = kind.stage(Faults::default()).await;
        let result = stage.enrol().await;
        match kind.ends {
            Some(rung) => {
                let enrolled = result.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
                assert_eq!(
                    (enrolled.device.rung, enrolled.device.state),
                    (rung, DeviceState::Proven),
                    "{kind:?}"
                );
            }
            None => {
                let error = result.map(drop).unwrap_err();
                let refused = matches!(error, EnrolError::NoTls { .. } | EnrolError::NoTlsKey { .. });
                assert!(refused && error.hint().is_some(), "{kind:?}: {error:?}");
                assert_eq!(stage.in_registry(), None, "{kind:?}");
            }
        }
        holds_to_its_word(&stage, &stage.in_registry().map(drop).ok_or_else(no_error), &format!("{kind:?}"))
            .await;
    }
    let works = KINDS.into_iter().filter(|kind| kind.ends.is_some());
    let cases = works.zip(FAULTS.into_iter().cycle()).map(|(kind, fault)| (kind, fault, 7)).collect();
    all(cases).await;
}

fn no_error() -> EnrolError {
    EnrolError::MqttOff { address: String::new() }
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
    for way in [KINDS[6], KINDS[9], KINDS[15]] {
        for fault in faults.clone() {
            runs.spawn(async move {
                let case = format!("{way:?} {fault:?}");
                let mut stage = way.stage(fault.clone()).await;
                let s = Duration::from_secs;
                stage.patience = Patience { attempts: 5, ask: s(5), back: s(5), proof: s(5), ..hasty() };
                let mut result = Ok(());
                // What lasts ends back in the old state, each time; what passes ends proven.
                for _ in 0..3 {
                    result = stage.enrol().await.map(drop);
                    holds_to_its_word(&stage, &result, &case).await;
                    if result.is_ok() {
                        break;
                    }
                }
                // Nobody listens at the port of this stage: one that crashes on that goes on crashing.
                let lasts = fault.refuses.is_some() || fault.crashes_on_refusal || fault.weak_wifi.is_some();
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
