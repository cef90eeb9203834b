//! Addresses are lent. In the middle of a run, from any question on, another device answers where the right one was: one of
//! another broker, or one of ours. Nothing may be changed on it, the run may not be called a success unless the broker saw
//! the right device, and when that is found again the same command ends well.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a stage that does not stand is a failed test")]

mod theatre;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use quoll_fleet::device::{DeviceState, Mac, Rung};
use quoll_fleet::enrol::{DeviceConsole, EnrolError, EnrolRequest, WantedRung};
use quoll_fleet::step::Silent;
use quoll_tasmota::virtual_device::{Chip, Firmware, MemoryConsole, VirtualProfile};
use quoll_tasmota::{Command, Console, ConsoleError, Reply, TlsKey1};
use theatre::living;
use theatre::paper::{BETWEEN, Paper, profile};
use tokio::task::JoinSet;

/// An address that has another device from a question on. Between the look at a MAC and what follows at once nobody comes:
/// that moment cannot be made any shorter.
struct Lent {
    right: Arc<dyn DeviceConsole>,
    stranger: MemoryConsole,
    from: usize,
    asked: Mutex<Vec<String>>,
    /// What changes something, and came to the stranger.
    heard: Mutex<Vec<String>>,
    /// The right one is back at its address.
    back: AtomicBool,
}

impl Lent {
    fn new(right: Arc<dyn DeviceConsole>, stranger: MemoryConsole, from: usize) -> Self {
        let (asked, heard) = (Mutex::default(), Mutex::default());
        Self { right, stranger, from, asked, heard, back: AtomicBool::new(false) }
    }

    fn assert_unheard(&self, case: &str) {
        let (heard, asked) = (self.heard.lock().unwrap(), self.asked.lock().unwrap());
        assert_eq!(*heard, Vec::<String>::new(), "{case}: after {asked:?}");
    }
}

/// Another device, with a key and logs of its own; at our broker or at another.
fn stranger(right: &VirtualProfile, ours: bool) -> MemoryConsole {
    let mac = Mac([0xA0, 0xB1, 0xC2, 0x00, 0x00, 0x01]);
    let utc = u64::try_from(time::OffsetDateTime::now_utc().unix_timestamp()).unwrap();
    let profile = VirtualProfile { mac, topic: "other".into(), ..right.clone() };
    let device = MemoryConsole::new(profile, utc);
    let key = Command::tls_key1(&TlsKey1::new(&theatre::credential().scalar).unwrap());
    let settings = if ours {
        "Backlog MqttHost 127.0.0.1; MqttPort 9; SetOption103 1; SerialLog 1; SysLog 3"
    } else {
        "Backlog MqttHost third.lan; SerialLog 1; SysLog 3"
    };
    for line in [key.text(), settings] {
        let _ = device.type_command(line);
    }
    device.wait(std::time::Duration::from_secs(9));
    device
}

#[async_trait]
impl Console for Lent {
    async fn ask(&self, command: &Command) -> Result<Reply, ConsoleError> {
        let (now, looked) = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(command.to_string());
            (asked.len() - 1, asked.iter().rev().nth(1).is_some_and(|last| last == "Status 5"))
        };
        let question = command.keyword() == "Status" || !command.text().contains(' ');
        let moved = now > self.from || (now == self.from && (question || !looked));
        if !moved || self.back.load(Ordering::SeqCst) {
            return self.right.ask(command).await;
        }
        if !question {
            self.heard.lock().unwrap().push(command.to_string());
        }
        self.stranger.wait(BETWEEN);
        self.stranger.ask(command).await
    }

    fn address(&self) -> String {
        self.right.address()
    }
}

#[async_trait]
impl DeviceConsole for Lent {
    async fn log_lines(&self) -> Result<Vec<String>, ConsoleError> {
        Ok(vec!["00:00:07 MQT: TLS connection error: 62".into()])
    }
}

/// Whether the run was over before the address changed hands.
async fn played(firmware: Firmware, rung: Rung, ours: bool, new_password: bool, from: usize) -> bool {
    let case = format!("{firmware:?}, a stranger of ours {ours}, new password {new_password}, from {from}");
    let profile = VirtualProfile { chip: Chip::Esp32, firmware, ..profile() };
    let stage = Paper::new(profile.clone(), WantedRung::Auto);
    let lent = Lent::new(Arc::new(stage.console()), stranger(&profile, ours), from);
    if new_password {
        lent.back.store(true, Ordering::SeqCst);
        stage.enrol(&lent).await.unwrap();
        lent.back.store(false, Ordering::SeqCst);
        lent.asked.lock().unwrap().clear();
    }
    let request = EnrolRequest { new_password, ..stage.request.clone() };
    let result = stage.enrol_as(&request, &lent, &Silent).await.map(drop);
    let over = lent.asked.lock().unwrap().len() <= from;
    lent.assert_unheard(&case);
    let state = stage.in_registry().map(|device| device.state);
    if result.is_ok() {
        assert_eq!(state, Some(DeviceState::Proven), "{case}");
        assert!(stage.shows("a certificate") || rung == Rung::Pinned, "{case}: the broker saw another one");
    }
    if let Err(error) = &result {
        assert!(error.hint().is_some(), "{case}: {error}");
        let text = error.to_string();
        assert!(!text.contains("error 62"), "{case}: the stranger's log says nothing of this device: {text}");
    }
    // It is found again: the same command carries it through.
    lent.back.store(true, Ordering::SeqCst);
    let again = stage.enrol_as(&request, &lent, &Silent).await;
    let enrolled = again.unwrap_or_else(|error| panic!("{case}: {error}, after {result:?}"));
    assert_eq!((enrolled.device.rung, enrolled.device.problem), (rung, None), "{case}");
    stage.holds_to_its_word(&Ok(()), &case);
    assert_eq!(stage.told("SerialLog"), r#"{"SerialLog":2}"#, "{case}");
    over
}

/// The same while a device gets a new key.
async fn rotated(stage: &living::Stage, ours: bool, from: usize) -> bool {
    let case = format!("a rotation, a stranger of ours {ours}, from {from}");
    let kill = Arc::default();
    let (issuer, witness) = (stage.bench(&kill), stage.broker(&kill));
    let life = stage.life(&issuer, &witness);
    let profile = VirtualProfile { chip: Chip::Esp32, firmware: Firmware::ClientCert, ..profile() };
    let lent = Lent::new(Arc::new(stage.line(&kill)), stranger(&profile, ours), from);
    let result = life.rotate(&living::name("plug"), &lent).await.map(drop);
    let over = lent.asked.lock().unwrap().len() <= from;
    lent.assert_unheard(&case);
    lent.back.store(true, Ordering::SeqCst);
    let again = life.rotate(&living::name("plug"), &lent).await;
    again.unwrap_or_else(|error| panic!("{case}: {error}, after {result:?}"));
    stage.assert_settled("plug", &case).await;
    over
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_changed_on_a_device_that_took_the_address_in_the_middle_of_a_run() {
    let mut runs = JoinSet::new();
    for ours in [false, true] {
        for (firmware, rung, new_password) in [
            (Firmware::ClientCert, Rung::Mutual, false),
            (Firmware::Stock, Rung::Pinned, false),
            (Firmware::Stock, Rung::Pinned, true),
        ] {
            runs.spawn(async move {
                // Who answers the first two questions is who is meant.
                let mut from = 2;
                while !played(firmware, rung, ours, new_password, from).await {
                    from += 1;
                }
                from
            });
        }
        runs.spawn(async move {
            let stage = living::Stage::new(Chip::Esp32).await;
            let mut from = 0;
            while !rotated(&stage, ours, from).await {
                from += 1;
            }
            from
        });
    }
    while let Some(from) = runs.join_next().await {
        assert!(matches!(from, Ok(41..)), "{from:?} questions");
    }
}

#[tokio::test]
async fn a_stranger_is_called_one_with_what_to_do() {
    let profile = VirtualProfile { chip: Chip::Esp32, firmware: Firmware::ClientCert, ..profile() };
    let stage = Paper::new(profile.clone(), WantedRung::Auto);
    let asked = {
        let right = Arc::new(stage.console());
        let lent = Lent::new(right, stranger(&profile, false), usize::MAX);
        stage.enrol(&lent).await.unwrap();
        lent.asked.into_inner().unwrap()
    };
    let certificate = asked.iter().position(|line| line.starts_with("TLSKey2")).unwrap();
    let stage = Paper::new(profile.clone(), WantedRung::Auto);
    let right = Arc::new(stage.console());
    let lent = Lent::new(right, stranger(&profile, false), certificate - 1);
    let error = stage.enrol(&lent).await.unwrap_err();
    assert!(matches!(error, EnrolError::Stranger { .. }), "{error:?}");
    assert!(error.to_string().contains("A0:B1:C2:00:00:01 answers there"), "{error}");
    assert!(error.hint().unwrap().contains("A0:B1:C2:D3:E4:F5"), "{error:?}");
    let device = stage.in_registry().unwrap();
    assert_eq!((device.state, device.problem), (DeviceState::Known, Some(error.to_string())));
}

/// Its power goes while it is told something, and at the second attempt another one has its address.
struct DiesAt {
    right: theatre::paper::OnPaper,
    stranger: MemoryConsole,
    at: &'static str,
    gone: AtomicBool,
    heard: Mutex<Vec<String>>,
}

#[async_trait]
impl Console for DiesAt {
    async fn ask(&self, command: &Command) -> Result<Reply, ConsoleError> {
        if self.gone.load(Ordering::SeqCst) {
            if command.keyword() != "Status" && command.text().contains(' ') {
                self.heard.lock().unwrap().push(command.to_string());
            }
            self.stranger.wait(BETWEEN);
            return self.stranger.ask(command).await;
        }
        if command.to_string().starts_with(self.at) {
            self.gone.store(true, Ordering::SeqCst);
            return Err(ConsoleError::Broken { address: self.address(), why: "power cut".into() });
        }
        self.right.ask(command).await
    }

    fn address(&self) -> String {
        self.right.address()
    }
}

#[async_trait]
impl DeviceConsole for DiesAt {
    async fn log_lines(&self) -> Result<Vec<String>, ConsoleError> {
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn what_is_said_a_second_time_is_not_said_to_somebody_else() {
    for (firmware, at) in [
        (Firmware::ClientCert, "SerialLog 0"),
        (Firmware::ClientCert, "TLSKey1 "),
        (Firmware::ClientCert, "TLSKey2 "),
        (Firmware::ClientCert, "Backlog "),
        (Firmware::Stock, "Backlog "),
    ] {
        let profile = VirtualProfile { chip: Chip::Esp32, firmware, ..profile() };
        let stage = Paper::new(profile.clone(), WantedRung::Auto);
        let console = DiesAt {
            right: stage.console(),
            stranger: stranger(&profile, false),
            at,
            gone: AtomicBool::new(false),
            heard: Mutex::default(),
        };
        let error = stage.enrol(&console).await.unwrap_err();
        assert!(console.gone.load(Ordering::SeqCst), "{at} was never said: {error}");
        assert_eq!(*console.heard.lock().unwrap(), Vec::<String>::new(), "{firmware:?} at {at}: {error}");
        assert!(error.hint().is_some() && stage.in_registry().unwrap().problem.is_some(), "{at}: {error}");
    }
}
