//! A living device gets a new key, and a new name: on a virtual device, with a real CA, killed at every step.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a stage that does not stand is a failed test"
)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use quoll_fleet::access_list::{Verdict, admit};
use quoll_fleet::device::{Device, DeviceName, DeviceState, Mac, Rung};
use quoll_fleet::enrol::{
    BrokerTarget, CaKind, DeviceConsole, EnrolError, EnrolRequest, Enrolment, Patience,
};
use quoll_fleet::issuer::{DeviceCredential, IssueError, Issuer, PkiIssuer, Reissuer};
use quoll_fleet::life::{After, Changed, Life, LifeError};
use quoll_fleet::registry::{Owner, Registry, RegistryError};
use quoll_fleet::step::{Reporter, Silent, Step, StepState};
use quoll_fleet::witness::{Sighting, Witness, WitnessError};
use quoll_pki::{Authority, Certificate, KeyKind, KeyStorage, NewCa, Passphrase, Pki};
use quoll_tasmota::virtual_device::{Chip, Firmware, MemoryConsole, VirtualProfile};
use quoll_tasmota::{Command, Console, ConsoleError, Reply, Road, StatusPage, TlsKey1, TlsKey2};
use time::OffsetDateTime;

/// What everything counts on that touches the outside; at its number a run is killed.
#[derive(Default)]
struct Guillotine {
    at: Option<usize>,
    moment: AtomicUsize,
}

impl Guillotine {
    fn pass(&self) {
        if Some(self.moment.fetch_add(1, Ordering::SeqCst)) == self.at {
            panic!("killed");
        }
    }
}

/// The device: its console, and what goes wrong with it.
struct Plug {
    memory: MemoryConsole,
    /// Loses power after so many TLSKey1 more.
    power_cuts: AtomicUsize,
    /// Answers nothing any more.
    dead: AtomicBool,
}

impl Plug {
    fn new(chip: Chip, last: u8, topic: &str) -> Arc<Self> {
        let profile = VirtualProfile {
            topic: topic.into(),
            broker: ("old.lan".into(), 1884),
            pace: 0.01,
            tele_period: 0,
            ..VirtualProfile::new(chip, Firmware::ClientCert, mac(last))
        };
        let utc = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap();
        Arc::new(Self {
            memory: MemoryConsole::new(profile, utc),
            power_cuts: AtomicUsize::new(0),
            dead: AtomicBool::new(false),
        })
    }

    /// The serial number of the certificate that it would show now; `None` if it cannot come at all.
    async fn shows(&self, broker: &BrokerTarget) -> Option<String> {
        let mqtt = self.memory.ask(&Command::status(StatusPage::Mqtt)).await.ok()?.mqtt().ok()?;
        let there = mqtt.host == broker.host && mqtt.port == broker.port && mqtt.tls == Some(true);
        let (_, flash) = self.memory.with(|machine| machine.parts());
        let (key, certificate) = flash.keys?.credentials()?;
        let key = TlsKey1::new(&key).unwrap();
        let fits = TlsKey2::new(&certificate, Road::Http).unwrap().belongs_to(&key).is_ok();
        let restarting = self.memory.with(|machine| machine.is_restarting());
        (there && fits && !restarting)
            .then(|| Certificate::from_der(&certificate).unwrap().serial().to_string())
    }

    fn boots(&self) -> i64 {
        i64::from(self.memory.with(|machine| machine.boots()))
    }

    fn topic(&self) -> String {
        self.memory.with(|machine| machine.topics().topic().to_owned())
    }
}

/// One run's way to the device.
struct Line {
    plug: Arc<Plug>,
    kill: Arc<Guillotine>,
}

#[async_trait]
impl Console for Line {
    async fn ask(&self, command: &Command) -> Result<Reply, ConsoleError> {
        self.plug.memory.wait(Duration::from_millis(100));
        if self.plug.dead.load(Ordering::SeqCst) {
            return Err(ConsoleError::Timeout { address: self.address(), seconds: 1 });
        }
        // A question changes nothing, so it does not matter whether one is killed before it or after.
        let acts = command.text().contains(' ') && !command.text().starts_with("Status");
        if acts {
            self.kill.pass();
        }
        let answer = self.plug.memory.ask(command).await;
        if command.keyword() == "TLSKey1" && self.plug.power_cuts.load(Ordering::SeqCst) > 0 {
            self.plug.power_cuts.fetch_sub(1, Ordering::SeqCst);
            self.plug.memory.power_cut();
            return Err(ConsoleError::Broken { address: self.address(), why: "power cut".into() });
        }
        if acts {
            self.kill.pass();
        }
        answer
    }

    fn address(&self) -> String {
        "192.0.2.7:80".into()
    }
}

#[async_trait]
impl DeviceConsole for Line {
    async fn log_lines(&self) -> Result<Vec<String>, ConsoleError> {
        Ok(Vec::new())
    }
}

/// The broker: sees what the device really shows, and lets in whom the registry admits.
struct Broker {
    plug: Arc<Plug>,
    registry: Registry,
    target: BrokerTarget,
    /// Certificates that never come through, whoever shows them; `*` for all.
    blind: Arc<Mutex<Vec<String>>>,
    /// All but this one, where one is set.
    sees_only: Arc<Mutex<Option<String>>>,
    kill: Arc<Guillotine>,
}

#[async_trait]
impl Witness for Broker {
    async fn wait_for(&self, serial: &str, within: Duration) -> Result<Sighting, WitnessError> {
        self.kill.pass();
        let mut waited = Duration::ZERO;
        loop {
            let shown = self.plug.shows(&self.target).await;
            let admitted = matches!(admit(&self.registry, serial), Ok(Verdict::Admit { .. }));
            let blind = self.blind.lock().unwrap().iter().any(|one| one == "*" || one == serial);
            let only = self.sees_only.lock().unwrap().as_deref().is_some_and(|only| only != serial);
            if shown.as_deref() == Some(serial) && admitted && !blind && !only {
                let at = OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(self.plug.boots());
                self.kill.pass();
                return Ok(Sighting {
                    client_id: "DVES_D3E4F5".into(),
                    address: "192.0.2.7:4711".into(),
                    at,
                });
            }
            if waited >= within {
                return Err(WitnessError::NotSeen { serial: serial.into(), within, refused: None });
            }
            waited += Duration::from_secs(1);
            self.plug.memory.wait(Duration::from_secs(1));
        }
    }
}

/// A real CA, which can be killed before and after it has signed.
struct Bench {
    inner: PkiIssuer,
    kill: Arc<Guillotine>,
}

#[async_trait]
impl Issuer for Bench {
    async fn issue(&self, name: &DeviceName) -> Result<DeviceCredential, IssueError> {
        self.inner.issue(name).await
    }

    async fn existing(&self, name: &DeviceName) -> Result<Option<DeviceCredential>, IssueError> {
        self.inner.existing(name).await
    }
}

#[async_trait]
impl Reissuer for Bench {
    async fn reissue(&self, name: &DeviceName) -> Result<DeviceCredential, IssueError> {
        self.kill.pass();
        let made = self.inner.reissue(name).await;
        self.kill.pass();
        made
    }

    async fn held(&self, name: &DeviceName, serial: &str) -> Result<Option<DeviceCredential>, IssueError> {
        self.inner.held(name, serial).await
    }

    async fn retire(&self, name: &DeviceName, serial: &str) -> Result<(), IssueError> {
        self.kill.pass();
        let done = self.inner.retire(name, serial).await;
        self.kill.pass();
        done
    }
}

impl Reporter for Guillotine {
    fn step(&self, _: Step, _: StepState) {
        self.pass();
    }
}

struct Stage {
    _folder: tempfile::TempDir,
    registry: Registry,
    authority: Arc<Authority>,
    plug: Arc<Plug>,
    target: BrokerTarget,
    blind: Arc<Mutex<Vec<String>>>,
    sees_only: Arc<Mutex<Option<String>>>,
    keep_keys: AtomicBool,
}

fn mac(last: u8) -> Mac {
    Mac([0xA0, 0xB1, 0xC2, 0xD3, 0xE4, last])
}

fn name(text: &str) -> DeviceName {
    text.parse().unwrap()
}

fn patience() -> Patience {
    Patience {
        ask: Duration::from_secs(20),
        attempts: 2,
        pause: Duration::from_millis(1),
        back: Duration::from_millis(100),
        poll: Duration::from_millis(1),
        poll_max: Duration::from_millis(2),
        proof: Duration::from_secs(10),
        broker: None,
    }
}

/// Memory where there is some: the disk's patience is not what is tested.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

impl Stage {
    /// A device `plug` that is proven on the mutual rung.
    async fn new(chip: Chip) -> Arc<Self> {
        let folder = folder();
        let registry = Registry::open(&folder.path().join("fleet.db")).unwrap();
        let pass = Passphrase::new("correct horse");
        let new = NewCa { key: KeyKind::EcP256, ..NewCa::new("Test CA") };
        let pki = Pki::create(&folder.path().join("pki"), &new, &pass, OffsetDateTime::now_utc()).unwrap();
        let stage = Arc::new(Self {
            registry,
            authority: Arc::new(pki.unlock(&pass).unwrap()),
            plug: Plug::new(chip, 0xF5, "plug"),
            target: BrokerTarget {
                host: "127.0.0.1".into(),
                port: 8883,
                ca_kind: CaKind::Ec,
                server_fingerprint: [0xAB; 20],
                pinned_port: None,
            },
            blind: Arc::default(),
            sees_only: Arc::default(),
            keep_keys: AtomicBool::new(true),
            _folder: folder,
        });
        let kill = Arc::new(Guillotine::default());
        let (issuer, witness) = (stage.bench(&kill), stage.broker(&kill));
        let enrolment = Enrolment {
            registry: &stage.registry,
            issuer: &issuer,
            witness: &witness,
            reporter: &Silent,
            broker: &stage.target,
            patience: patience(),
        };
        let request = EnrolRequest::new(name("plug"), "192.0.2.7".parse().unwrap());
        enrolment.run(&request, &stage.line(&kill)).await.unwrap();
        stage
    }

    fn bench(&self, kill: &Arc<Guillotine>) -> Bench {
        let storage =
            if self.keep_keys.load(Ordering::SeqCst) { KeyStorage::Plain } else { KeyStorage::Discard };
        Bench { inner: PkiIssuer::new(self.authority.clone(), storage), kill: kill.clone() }
    }

    fn broker(&self, kill: &Arc<Guillotine>) -> Broker {
        Broker {
            plug: self.plug.clone(),
            registry: Registry::open(self.registry.path()).unwrap(),
            target: self.target.clone(),
            blind: self.blind.clone(),
            sees_only: self.sees_only.clone(),
            kill: kill.clone(),
        }
    }

    fn line(&self, kill: &Arc<Guillotine>) -> Line {
        Line { plug: self.plug.clone(), kill: kill.clone() }
    }

    /// A run of its own, as by another process, killed at a moment; `None` if it was.
    async fn run(
        self: &Arc<Self>,
        of: &str,
        to: Option<&str>,
        at: Option<usize>,
    ) -> Option<Result<Changed, LifeError>> {
        let stage = self.clone();
        let (of, to) = (name(of), to.map(name));
        let run = tokio::spawn(async move {
            let kill = Arc::new(Guillotine { at, moment: AtomicUsize::new(0) });
            let registry = Registry::open(stage.registry.path()).unwrap();
            let (issuer, witness, line) = (stage.bench(&kill), stage.broker(&kill), stage.line(&kill));
            let life = Life {
                registry: &registry,
                issuer: &issuer,
                witness: &witness,
                reporter: &*kill,
                broker: &stage.target,
                patience: patience(),
            };
            match &to {
                Some(to) => life.rename(&of, to, &line).await,
                None => life.rotate(&of, &line).await,
            }
        });
        match run.await {
            Ok(done) => Some(done),
            Err(error) => {
                assert!(error.is_panic());
                None
            }
        }
    }

    async fn rotate(self: &Arc<Self>) -> Result<Changed, LifeError> {
        self.run("plug", None, None).await.unwrap()
    }

    fn device(&self, of: &str) -> Device {
        self.registry.device(&name(of)).unwrap().unwrap()
    }

    /// The serial numbers that open the door, in the registry and in the folder.
    fn valid(&self, of: &str) -> (Vec<String>, Vec<String>) {
        let owned = self.registry.certificates_of(&Owner::Device(name(of))).unwrap();
        let here = owned.into_iter().filter(|one| !one.revoked).map(|one| one.serial).collect();
        let now = OffsetDateTime::now_utc();
        let entries = self.authority.pki().entries().unwrap();
        let there =
            entries.into_iter().filter(|entry| entry.is_valid_at(now)).map(|entry| entry.serial.to_string());
        (here, there.collect())
    }

    /// Whole and at rest: one certificate, on the device, in the registry and in the folder; nothing under way.
    async fn assert_settled(&self, of: &str, case: &str) {
        let device = self.device(of);
        let serial = device.serial.clone().unwrap();
        assert_eq!(self.plug.shows(&self.target).await.as_deref(), Some(serial.as_str()), "{case}");
        assert_eq!(self.valid(of), (vec![serial.clone()], vec![serial]), "{case}");
        assert_eq!(
            (device.state, device.rung, device.problem),
            (DeviceState::Proven, Rung::Mutual, None),
            "{case}"
        );
        assert_eq!(self.registry.changes().unwrap(), [], "{case}");
        assert_eq!(self.registry.kept(&name(of)).unwrap().1, None, "{case}: logs are up again");
    }
}

#[tokio::test]
async fn a_rotated_device_has_a_new_key_and_the_old_certificate_is_void() {
    for chip in [Chip::Esp32, Chip::Esp8266] {
        let stage = Stage::new(chip).await;
        stage.assert_settled("plug", "enrolled").await;
        let before = stage.device("plug");
        let changed = stage.rotate().await.unwrap();
        assert_eq!(changed.old_serial, before.serial);
        assert_ne!(changed.device.serial, before.serial);
        assert!(changed.sighting.is_some() && changed.notes.is_empty(), "{:?}", changed.notes);
        stage.assert_settled("plug", "rotated").await;
        let old = stage.registry.certificate(&before.serial.unwrap()).unwrap().unwrap();
        assert_eq!((old.revoked, old.reason.as_deref()), (true, Some("superseded")));
        assert!(!stage.authority.pki().crl_is_behind(OffsetDateTime::now_utc()).unwrap(), "the list has it");
        assert_eq!(stage.device("plug").first_seen, before.first_seen, "it is the same device");
        stage.rotate().await.unwrap();
        stage.assert_settled("plug", "rotated twice").await;
    }
}

#[tokio::test]
async fn a_renamed_device_keeps_its_history_and_speaks_under_its_new_topic() {
    let stage = Stage::new(Chip::Esp32).await;
    let before = stage.device("plug");
    let changed = stage.run("plug", Some("lamp"), None).await.unwrap().unwrap();
    assert_eq!((changed.device.name.as_str(), changed.device.mac), ("lamp", before.mac));
    assert_eq!(stage.plug.topic(), "lamp", "its topic was its name, and follows");
    assert_eq!(changed.device.topics.topic, "lamp");
    stage.assert_settled("lamp", "renamed").await;
    assert_eq!(stage.registry.device(&name("plug")).unwrap(), None);
    assert!(stage.registry.steps(&name("lamp"), 200).unwrap().len() > 30, "with the steps of its enrolment");
    let pki = stage.authority.pki();
    assert!(pki.certificate(&"lamp".parse().unwrap()).unwrap().is_some(), "its common name is the new one");

    // A topic that is not its name is its owner's own choice.
    stage.plug.memory.ask(&Command::set(quoll_tasmota::Setting::Topic, "ceiling").unwrap()).await.unwrap();
    stage.plug.memory.wait(Duration::from_secs(5));
    stage.run("lamp", Some("Lamp"), None).await.unwrap().unwrap();
    assert_eq!(stage.plug.topic(), "ceiling");
    stage.assert_settled("Lamp", "only the case is new").await;
    assert_eq!(stage.device("lamp").name.as_str(), "Lamp");
}

#[tokio::test]
async fn without_proof_the_old_key_goes_back() {
    for (case, to) in [("rotate", None), ("rename", Some("lamp"))] {
        let stage = Stage::new(Chip::Esp32).await;
        let before = stage.device("plug");
        *stage.sees_only.lock().unwrap() = before.serial.clone();
        let error = stage.run("plug", to, None).await.unwrap().unwrap_err();
        assert!(matches!(&error, LifeError::NotProven { stands: After::Back, .. }), "{case}: {error:?}");
        assert!(error.hint().is_some());
        let after = stage.device("plug");
        assert_eq!(
            (after.serial.as_ref(), &after.topics),
            (before.serial.as_ref(), &before.topics),
            "{case}"
        );
        assert_eq!(stage.plug.topic(), "plug", "{case}");
        assert!(after.problem.is_some(), "{case}: its owner is told");
        let serial = before.serial.unwrap();
        assert_eq!(stage.plug.shows(&stage.target).await.as_deref(), Some(serial.as_str()), "{case}");
        assert_eq!(stage.valid("plug").0, [serial], "{case}: the new one is void");
        assert_eq!(stage.registry.changes().unwrap(), [], "{case}");
        *stage.sees_only.lock().unwrap() = None;
        stage.run("plug", to, None).await.unwrap().unwrap();
        stage.assert_settled(to.unwrap_or("plug"), case).await;
    }
}

#[tokio::test]
async fn without_the_old_key_it_keeps_the_new_one_and_both_certificates_stay_valid() {
    let stage = Stage::new(Chip::Esp32).await;
    // As with a device that was adopted: its key was never in our folder.
    std::fs::remove_file(stage.authority.pki().dir().join("private/plug.key")).unwrap();
    stage.blind.lock().unwrap().push("*".into());
    let error = stage.rotate().await.unwrap_err();
    assert!(matches!(&error, LifeError::NotProven { stands: After::Ahead { .. }, .. }), "{error:?}");
    assert_eq!(stage.valid("plug").0.len(), 2, "whichever it has, it may come");
    stage.blind.lock().unwrap().clear();
    let changed = stage.rotate().await.unwrap();
    assert!(changed.notes.iter().any(|note| note.contains("not at hand")), "{:?}", changed.notes);
    stage.assert_settled("plug", "the second run goes on with the same certificate").await;
}

#[tokio::test]
async fn a_power_cut_between_key_and_certificate_is_mended_by_the_next_run() {
    for chip in [Chip::Esp32, Chip::Esp8266] {
        let stage = Stage::new(chip).await;
        stage.plug.power_cuts.store(1, Ordering::SeqCst);
        // The same run goes on, since the console answers again.
        stage.rotate().await.unwrap();
        stage.assert_settled("plug", "mended in the same run").await;

        stage.plug.power_cuts.store(9, Ordering::SeqCst);
        let error = stage.rotate().await.unwrap_err();
        assert!(matches!(error, LifeError::Device(EnrolError::WentAway { .. })), "{error:?}");
        let problem = stage.device("plug").problem.unwrap_or_default();
        assert!(problem.contains("went away"), "{problem}");
        assert_eq!(stage.valid("plug").0.len(), 2);
        stage.plug.power_cuts.store(0, Ordering::SeqCst);
        stage.rotate().await.unwrap();
        stage.assert_settled("plug", "mended by the next run").await;
    }
}

#[tokio::test]
async fn who_must_not_be_changed_is_left_alone() {
    let stage = Stage::new(Chip::Esp32).await;
    let shown = stage.plug.shows(&stage.target).await;
    type Expected = fn(&LifeError) -> bool;
    let refused = |case: &'static str, done: Result<Changed, LifeError>, expected: Expected| {
        let error = done.unwrap_err();
        assert!(expected(&error), "{case}: {error:?}");
        assert!(error.hint().is_some(), "{case}: {error}");
        assert_eq!(stage.registry.changes().unwrap(), [], "{case}: nothing is under way");
    };
    let run = |of: &'static str, to: Option<&'static str>| stage.run(of, to, None);
    refused("nobody", run("nobody", None).await.unwrap(), |e| matches!(e, LifeError::Unknown(_)));
    stage.registry.quarantine(&name("plug"), "").unwrap();
    refused("in quarantine", stage.rotate().await, |e| matches!(e, LifeError::Quarantined { .. }));
    stage.registry.release(&name("plug")).unwrap();
    stage.registry.add_client(&"hass".parse().unwrap(), &quoll_fleet::client::Role::Observer).unwrap();
    refused("a taken name", run("plug", Some("hass")).await.unwrap(), |e| {
        matches!(e, LifeError::Registry(RegistryError::NameTaken(_)))
    });
    let elsewhere = BrokerTarget { port: 8884, ..stage.target.clone() };
    let kill = Arc::new(Guillotine::default());
    let (issuer, witness, line) = (stage.bench(&kill), stage.broker(&kill), stage.line(&kill));
    let life = Life {
        registry: &stage.registry,
        issuer: &issuer,
        witness: &witness,
        reporter: &Silent,
        broker: &elsewhere,
        patience: patience(),
    };
    refused("another broker", life.rotate(&name("plug"), &line).await, |e| {
        matches!(e, LifeError::Elsewhere { .. })
    });
    let other = Plug::new(Chip::Esp32, 0x77, "other");
    let line = Line { plug: other.clone(), kill: kill.clone() };
    let life = Life { broker: &stage.target, ..life };
    refused("another device at its address", life.rotate(&name("plug"), &line).await, |e| {
        matches!(e, LifeError::Device(EnrolError::OtherDevice { .. }))
    });
    assert_eq!(other.memory.with(|machine| machine.stored()).key, None, "no key goes to a stranger");
    stage.plug.dead.store(true, Ordering::SeqCst);
    refused("a silent console", stage.rotate().await, |e| {
        matches!(e, LifeError::Device(EnrolError::Hangs { .. }))
    });
    stage.plug.dead.store(false, Ordering::SeqCst);
    assert_eq!(stage.plug.shows(&stage.target).await, shown);
    stage.assert_settled("plug", "nothing was changed").await;
}

/// Each moment that acts on the outside: before and after. Then the same command again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_a_change_is_carried_through_by_the_same_command() {
    let stage = Stage::new(Chip::Esp8266).await;
    let mut at = 0;
    // A rotation, and then a rename with a new topic, each killed at each of its moments.
    for rename in [false, true] {
        at = 0;
        loop {
            let (of, to) = match (rename, at % 2 == 0) {
                (false, _) => ("plug", None),
                (true, true) => ("plug", Some("lamp")),
                (true, false) => ("lamp", Some("plug")),
            };
            let was = stage.device(of).serial;
            match stage.run(of, to, Some(at)).await {
                None => {}
                Some(done) => {
                    done.unwrap();
                    break;
                }
            }
            // Between the two: the device can come with what it has, or has a mixture that the registry tells of.
            let under = stage.registry.device(&name(of)).unwrap().filter(|device| device.state.is_present());
            let now = under.as_ref().map_or_else(|| to.unwrap(), |_| of);
            let shown = stage.plug.shows(&stage.target).await;
            match &shown {
                Some(serial) => assert!(stage.valid(now).0.contains(serial), "{at}: {serial} is void"),
                None => assert!(stage.device(now).problem.is_some(), "{at}: nobody is told"),
            }
            match stage.run(of, to, None).await.unwrap() {
                Ok(_) => {}
                // It had been through already, but for a last word.
                Err(LifeError::Unknown(_)) if to.is_some() => {}
                Err(error) => panic!("{at}: {error}"),
            }
            let now = to.unwrap_or(of);
            stage.assert_settled(now, &format!("killed at {at}")).await;
            assert_ne!(stage.device(now).serial, was, "{at}");
            at += 1;
        }
        assert!(at > 40, "only {at} moments");
    }
    assert!(at > 40);
}
