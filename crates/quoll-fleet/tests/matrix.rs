//! Chip × firmware × rung × fault at every question × whether the broker sees the device: each ends proven in its new
//! state or back in its old one, and never in between without the registry saying so. Then the fault is gone, and the
//! same command ends it well.
//!
//! By default each fault comes at each question of each way (a certificate, a pinned key, a refusal), with chips, builds,
//! wishes and sight taking turns; `QUOLL_MATRIX=all` runs the whole product.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a stage that does not stand is a failed test")]

mod theatre;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use quoll_fleet::device::{DeviceState, Rung};
use quoll_fleet::enrol::{DeviceConsole, EnrolError, WantedRung};
use quoll_tasmota::virtual_device::{Chip, Firmware, MemoryConsole, VirtualProfile};
use quoll_tasmota::{Command, Console, ConsoleError, Reply};
use theatre::paper::{BETWEEN, Paper, profile};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Runs at a time: they wait a little for each other's disks.
const AT_ONCE: usize = 24;

/// What goes wrong, from a question on.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
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

impl Fault {
    /// Whether it is there as long as the run.
    fn lasts(self) -> bool {
        matches!(self, Self::Gone | Self::RestartsForEver | Self::Moved)
    }
}

/// A console on which something goes wrong at a question.
struct Bad {
    memory: Arc<MemoryConsole>,
    fault: Option<(Fault, usize)>,
    /// The first words of all questions so far.
    asked: Mutex<Vec<String>>,
    healed: AtomicBool,
}

impl Bad {
    fn new(memory: &Arc<MemoryConsole>, fault: Option<(Fault, usize)>) -> Self {
        let (asked, healed) = (Mutex::default(), AtomicBool::new(false));
        Self { memory: memory.clone(), fault, asked, healed }
    }

    fn broken(&self, why: &str) -> ConsoleError {
        ConsoleError::Broken { address: self.address(), why: why.into() }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl Console for Bad {
    async fn ask(&self, command: &Command) -> Result<Reply, ConsoleError> {
        self.memory.wait(BETWEEN);
        let now = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(command.keyword().to_owned());
            asked.len() - 1
        };
        let (fault, at) = match self.fault {
            Some((fault, at)) if !self.healed.load(Ordering::SeqCst) && now >= at => (fault, at),
            _ => return self.memory.ask(command).await,
        };
        match (fault, now == at) {
            (Fault::Gone, _) => Err(self.broken("it is gone")),
            (Fault::RestartsForEver, _) => {
                let answer = self.memory.ask(command).await;
                self.memory.power_cut();
                answer.and(Err(self.broken("it restarts")))
            }
            (Fault::Moved, _) => match command.text() {
                "Status 5" => Ok(Reply::parse(
                    br#"{"StatusNET":{"Hostname":"x","IPAddress":"192.0.2.9","Mac":"A0:B1:C2:00:00:01"}}"#,
                )
                .unwrap()),
                // Another device's settings are its own, and it does not know ours.
                _ => Err(ConsoleError::Unauthorized { address: self.address(), sent: false }),
            },
            (_, false) => self.memory.ask(command).await,
            (Fault::CutBefore, true) => {
                self.memory.power_cut();
                Err(self.broken("no power"))
            }
            (Fault::CutAfter, true) => {
                let answer = self.memory.ask(command).await;
                self.memory.power_cut();
                answer
            }
            (Fault::AnswerLost, true) => {
                let _ = self.memory.ask(command).await;
                Err(self.broken("the answer is lost"))
            }
            (Fault::Html, true) => {
                Err(ConsoleError::NotTasmota { address: self.address(), seen: "a page of HTML".into() })
            }
            (Fault::Lies, true) => Ok(Reply::parse(br#"{"Moon":"cheese"}"#).unwrap()),
            (Fault::Refuses, true) => Ok(Reply::parse(br#"{"Command":"Error","Input":"X"}"#).unwrap()),
        }
    }

    fn address(&self) -> String {
        self.memory.address()
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
    fn stage(self) -> Paper {
        let profile = VirtualProfile { chip: self.chip, firmware: self.firmware, ..profile() };
        Paper::new(profile, self.wanted)
    }

    /// Those that take turns: the same questions are asked of them, or nearly.
    fn way(self) -> &'static str {
        match self.ends {
            None => "refused",
            Some(Rung::Mutual) => "mutual",
            Some(_) => "pinned",
        }
    }
}

/// One run under a fault, and one without it.
#[derive(Clone, Debug)]
struct Case {
    kind: Kind,
    /// Whether the broker sees the device in the first run; where it does not, the old settings go back.
    seen: bool,
    fault: Fault,
    at: usize,
    /// The first word of that question.
    question: String,
}

/// What the registry said between the two runs; `None` where the fault did not come to pass.
async fn played(case: &Case) -> Option<String> {
    let Case { kind, seen, fault, at, .. } = *case;
    let text = format!("{case:?}");
    let stage = kind.stage();
    let console = Bad::new(&stage.memory, Some((fault, at)));
    stage.blind.store(!seen, Ordering::SeqCst);
    let result = stage.enrol(&console).await.map(drop);
    let came_to_pass = console.asked().len() > at;
    stage.holds_to_its_word(&result.as_ref().map(drop), &text);
    let between = stage.in_registry().map_or("nothing", |device| device.state.as_str());
    // The fault is gone; the same command ends it well, or refuses with good reason.
    console.healed.store(true, Ordering::SeqCst);
    stage.blind.store(false, Ordering::SeqCst);
    let ended = stage.enrol(&console).await.map(|enrolled| enrolled.device.rung);
    match kind.ends {
        Some(rung) => {
            assert_eq!(ended.as_ref().ok(), Some(&rung), "{text}: {ended:?}, after {result:?}");
            stage.holds_to_its_word(&Ok(()), &text);
        }
        None => {
            refused_with_a_reason(&ended, &text);
            assert_eq!(stage.in_registry(), None, "{text}");
        }
    }
    // Turned down logs are up again, but for what it had said yes to and not saved when its power went.
    if fault != Fault::CutAfter {
        assert_eq!(stage.told("SerialLog"), r#"{"SerialLog":2}"#, "{text}");
    }
    came_to_pass.then(|| between.to_owned())
}

fn refused_with_a_reason(ended: &Result<Rung, EnrolError>, text: &str) {
    match ended {
        Err(error @ (EnrolError::NoTls { .. } | EnrolError::NoTlsKey { .. })) => {
            assert!(error.hint().is_some(), "{text}");
        }
        other => panic!("{text}: {other:?}"),
    }
}

/// The questions of a run where nothing goes wrong, but that the broker may see nobody.
async fn questions(kind: Kind, seen: bool) -> Vec<String> {
    let stage = kind.stage();
    let console = Bad::new(&stage.memory, None);
    stage.blind.store(!seen, Ordering::SeqCst);
    let result = stage.enrol(&console).await;
    assert_eq!(result.is_ok(), seen && kind.ends.is_some(), "{kind:?} seen {seen}: {result:?}");
    stage.holds_to_its_word(&result.as_ref().map(drop), &format!("{kind:?} seen {seen}"));
    match (kind.ends, seen) {
        (Some(rung), true) => assert_eq!(stage.in_registry().unwrap().rung, rung, "{kind:?}"),
        (Some(_), false) => {
            assert_eq!(stage.in_registry().unwrap().state, DeviceState::RolledBack, "{kind:?}")
        }
        (None, _) => {
            refused_with_a_reason(&result.map(|enrolled| enrolled.device.rung), &format!("{kind:?}"));
            assert_eq!(stage.in_registry(), None, "{kind:?}");
        }
    }
    console.asked()
}

/// Every case there is.
async fn product() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in KINDS {
        // Nobody is looked for where a device is refused.
        let sights: &[bool] = if kind.ends.is_some() { &[true, false] } else { &[true] };
        for &seen in sights {
            for (at, question) in questions(kind, seen).await.into_iter().enumerate() {
                let one = |fault| Case { kind, seen, fault, at, question: question.clone() };
                cases.extend(FAULTS.map(one));
            }
        }
    }
    cases
}

/// Of the cases that differ in chip, build, wish and sight alone, one each; another one from question to question.
fn in_turns(all: Vec<Case>) -> Vec<Case> {
    let mut like: BTreeMap<_, Vec<Case>> = BTreeMap::new();
    for case in all {
        let key = (case.kind.way(), case.fault, case.at, case.question.clone());
        like.entry(key).or_default().push(case);
    }
    let turns = like.into_values().enumerate();
    turns.map(|(number, mut cases)| cases.swap_remove(number % cases.len())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_fault_at_each_question_ends_proven_or_back_or_said() {
    let began = std::time::Instant::now();
    let mut cases = product().await;
    if std::env::var("QUOLL_MATRIX").as_deref() != Ok("all") {
        cases = in_turns(cases);
    }
    let count = cases.len();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut runs = JoinSet::new();
    for case in cases {
        let places = Arc::clone(&places);
        runs.spawn(async move {
            let _place = places.acquire_owned().await.unwrap();
            let said = played(&case).await;
            (case, said)
        });
    }
    let (mut came, mut broken, mut between) = (0, 0, BTreeMap::<_, usize>::new());
    while let Some(run) = runs.join_next().await {
        match run {
            Ok((case, said)) => {
                came += usize::from(said.is_some());
                if said.as_deref() == Some("switched") && !case.fault.lasts() {
                    println!("in between, and said: {case:?}");
                }
                *between.entry((case.fault, said)).or_default() += 1;
            }
            // It has said why.
            Err(_) => broken += 1,
        }
    }
    println!("{came} of {count} faults came to pass, in {:.1} s", began.elapsed().as_secs_f64());
    for ((fault, said), count) in &between {
        println!("{fault:?}: {} {count}", said.as_deref().unwrap_or("did not come to pass"));
    }
    assert_eq!(broken, 0, "of {count}");
    assert!(came * 100 > count * 95, "{came} of {count} faults came to pass");
}
