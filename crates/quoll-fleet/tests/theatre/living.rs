//! A device that lives: virtual, proven with a real CA's certificate, at a broker that sees what it really shows. Its time
//! passes when it is asked. Every run on it can be killed at any of its moments.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use quoll_fleet::access_list::{Verdict, admit};
use quoll_fleet::device::{Device, DeviceName, DeviceState, Mac, Rung};
use quoll_fleet::enrol::{
    BrokerTarget, CaKind, DeviceConsole, EnrolRequest, Enrolment, Patience, WantedRung,
};
use quoll_fleet::issuer::{DeviceCredential, IssueError, Issuer, PkiIssuer, Reissuer};
use quoll_fleet::life::{Changed, Life, LifeError};
use quoll_fleet::registry::{Owner, Registry};
use quoll_fleet::step::{Reporter, Silent, Step, StepState};
use quoll_fleet::witness::{Sighting, Witness, WitnessError};
use quoll_pki::{Authority, Certificate, KeyKind, KeyStorage, NewCa, Passphrase, Pki};
use quoll_tasmota::virtual_device::{Chip, Firmware, MemoryConsole, VirtualProfile};
use quoll_tasmota::{Command, Console, ConsoleError, Reply, Road, StatusPage, TlsKey1, TlsKey2};
use time::OffsetDateTime;

/// What everything counts on that touches the outside; at its number a run is killed.
#[derive(Default)]
pub struct Guillotine {
    pub at: Option<usize>,
    pub moment: AtomicUsize,
}

impl Guillotine {
    pub fn pass(&self) {
        if Some(self.moment.fetch_add(1, Ordering::SeqCst)) == self.at {
            panic!("killed");
        }
    }
}

/// The device: its console, and what goes wrong with it.
pub struct Plug {
    pub memory: MemoryConsole,
    /// Loses power after so many TLSKey1 more.
    pub power_cuts: AtomicUsize,
    /// Answers nothing any more.
    pub dead: AtomicBool,
}

impl Plug {
    pub fn new(chip: Chip, last: u8, topic: &str) -> Arc<Self> {
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
    pub async fn shows(&self, broker: &BrokerTarget) -> Option<String> {
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

    pub fn boots(&self) -> i64 {
        i64::from(self.memory.with(|machine| machine.boots()))
    }

    pub fn topic(&self) -> String {
        self.memory.with(|machine| machine.topics().topic().to_owned())
    }
}

/// One run's way to the device.
pub struct Line {
    pub plug: Arc<Plug>,
    pub kill: Arc<Guillotine>,
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
pub struct Broker {
    pub plug: Arc<Plug>,
    pub registry: Registry,
    pub target: BrokerTarget,
    /// Certificates that never come through, whoever shows them; `*` for all.
    pub blind: Arc<Mutex<Vec<String>>>,
    /// All but this one, where one is set.
    pub sees_only: Arc<Mutex<Option<String>>>,
    pub kill: Arc<Guillotine>,
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
pub struct Bench {
    pub inner: PkiIssuer,
    /// So many more certificates cannot be voided in its folder.
    pub full: AtomicUsize,
    pub kill: Arc<Guillotine>,
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
        let less = |left: usize| left.checked_sub(1);
        if self.full.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            return Err(IssueError::Pki { name: name.clone(), why: "the disk is full".into(), hint: None });
        }
        self.kill.pass();
        let done = self.inner.retire(name, serial).await;
        self.kill.pass();
        done
    }
}

impl Reporter for Guillotine {
    fn step(&self, _: Step, state: StepState) {
        // Between the begin of a step and what it does first nothing happens.
        if state != StepState::Begun {
            self.pass();
        }
    }
}

pub struct Stage {
    _folder: Arc<tempfile::TempDir>,
    pub registry: Registry,
    pub authority: Arc<Authority>,
    pub plug: Arc<Plug>,
    pub target: BrokerTarget,
    pub blind: Arc<Mutex<Vec<String>>>,
    pub sees_only: Arc<Mutex<Option<String>>>,
    pub keep_keys: AtomicBool,
}

/// What is done to a device.
#[derive(Clone, Debug)]
pub enum Act {
    Rotate,
    Rename(DeviceName),
    Repair,
    /// By the hardware that is there.
    Replace,
}

pub fn mac(last: u8) -> Mac {
    Mac([0xA0, 0xB1, 0xC2, 0xD3, 0xE4, last])
}

pub fn name(text: &str) -> DeviceName {
    text.parse().unwrap()
}

pub fn patience() -> Patience {
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
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

impl Stage {
    /// A device `plug` that is proven on the mutual rung.
    pub async fn new(chip: Chip) -> Arc<Self> {
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
            _folder: Arc::new(folder),
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

    pub fn bench(&self, kill: &Arc<Guillotine>) -> Bench {
        let storage =
            if self.keep_keys.load(Ordering::SeqCst) { KeyStorage::Plain } else { KeyStorage::Discard };
        Bench {
            inner: PkiIssuer::new(self.authority.clone(), storage),
            full: AtomicUsize::new(0),
            kill: kill.clone(),
        }
    }

    pub fn broker(&self, kill: &Arc<Guillotine>) -> Broker {
        Broker {
            plug: self.plug.clone(),
            registry: Registry::open(self.registry.path()).unwrap(),
            target: self.target.clone(),
            blind: self.blind.clone(),
            sees_only: self.sees_only.clone(),
            kill: kill.clone(),
        }
    }

    pub fn line(&self, kill: &Arc<Guillotine>) -> Line {
        Line { plug: self.plug.clone(), kill: kill.clone() }
    }

    /// What is done to the device here, with nobody to be told.
    pub fn life<'a>(&'a self, issuer: &'a dyn Reissuer, witness: &'a dyn Witness) -> Life<'a> {
        Life {
            registry: &self.registry,
            issuer,
            witness,
            reporter: &Silent,
            broker: &self.target,
            patience: patience(),
        }
    }

    /// The same world with other hardware at the same address.
    pub fn with_hardware(&self, plug: Arc<Plug>) -> Arc<Self> {
        Arc::new(Self {
            _folder: self._folder.clone(),
            registry: Registry::open(self.registry.path()).unwrap(),
            authority: self.authority.clone(),
            plug,
            target: self.target.clone(),
            blind: self.blind.clone(),
            sees_only: self.sees_only.clone(),
            keep_keys: AtomicBool::new(self.keep_keys.load(Ordering::SeqCst)),
        })
    }

    /// A run of its own, as by another process, killed at a moment; `None` if it was.
    pub async fn run(
        self: &Arc<Self>,
        of: &str,
        to: Option<&str>,
        at: Option<usize>,
    ) -> Option<Result<Changed, LifeError>> {
        let act = to.map_or(Act::Rotate, |to| Act::Rename(name(to)));
        let done = self.act(of, act, at).await?;
        Some(done.map(|changed| changed.expect("a change was asked for")))
    }

    /// Any act, as [`Self::run`].
    pub async fn act(
        self: &Arc<Self>,
        of: &str,
        act: Act,
        at: Option<usize>,
    ) -> Option<Result<Option<Changed>, LifeError>> {
        let (stage, of) = (self.clone(), name(of));
        let run = tokio::spawn(async move {
            let kill = Arc::new(Guillotine { at, moment: AtomicUsize::new(0) });
            let registry = Registry::open(stage.registry.path()).unwrap();
            let (issuer, witness, line) = (stage.bench(&kill), stage.broker(&kill), stage.line(&kill));
            let life = Life { registry: &registry, reporter: &*kill, ..stage.life(&issuer, &witness) };
            let address = "192.0.2.7".parse().unwrap();
            match &act {
                Act::Rotate => life.rotate(&of, &line).await.map(Some),
                Act::Rename(to) => life.rename(&of, to, &line).await.map(Some),
                Act::Repair => life.repair(&of, &address, &line).await.map(|_| None),
                Act::Replace => life.replace(&of, &address, WantedRung::Auto, &line).await.map(|_| None),
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

    pub async fn rotate(self: &Arc<Self>) -> Result<Changed, LifeError> {
        self.run("plug", None, None).await.unwrap()
    }

    pub fn device(&self, of: &str) -> Device {
        self.registry.device(&name(of)).unwrap().unwrap()
    }

    /// The serial numbers that open the door, in the registry and in the folder.
    pub fn valid(&self, of: &str) -> (Vec<String>, Vec<String>) {
        let owned = self.registry.certificates_of(&Owner::Device(name(of))).unwrap();
        let here = owned.into_iter().filter(|one| !one.revoked).map(|one| one.serial).collect();
        let now = OffsetDateTime::now_utc();
        let entries = self.authority.pki().entries().unwrap();
        let there =
            entries.into_iter().filter(|entry| entry.is_valid_at(now)).map(|entry| entry.serial.to_string());
        (here, there.collect())
    }

    /// Whole and at rest: one certificate, on the device, in the registry and in the folder; nothing under way.
    pub async fn assert_settled(&self, of: &str, case: &str) {
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
