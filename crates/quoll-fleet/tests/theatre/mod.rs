//! The stage of the enrolment tests: a virtual device, consoles that fail on cue, a fake issuer and a fake witness.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part of the stage")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a stage that does not stand is a failed test")]

pub mod living;
pub mod paper;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use quoll_fleet::device::{DeviceName, Mac};
use quoll_fleet::enrol::{
    BrokerTarget, CaKind, DeviceConsole, EnrolError, EnrolRequest, Enrolled, Enrolment, Patience,
    http_console,
};
use quoll_fleet::issuer::{DeviceCredential, IssueError, Issuer};
use quoll_fleet::registry::{DevicePassword, Registry};
use quoll_fleet::step::{Reporter, Step, StepState};
use quoll_fleet::witness::{Sighting, Witness, WitnessError};
use quoll_pki::{Authority, IssueRequest, KeyKind, KeyStorage, NewCa, Passphrase, Pki, Profile};
use quoll_tasmota::virtual_device::{
    Chip, DeviceState, Firmware, RunningDevice, VirtualDevice, VirtualProfile,
};
use quoll_tasmota::{Command, Console, ConsoleError, Reply};
use time::OffsetDateTime;
use tokio::net::TcpListener;

pub const OLD_HOST: &str = "old.lan";

/// A real P-256 key and certificate, made once; fake issuers give it other serial numbers.
pub fn credential() -> DeviceCredential {
    static MADE: OnceLock<DeviceCredential> = OnceLock::new();
    let make = || {
        let folder = tempfile::tempdir().unwrap();
        let authority = authority(folder.path(), KeyKind::EcP256);
        let request = IssueRequest::new(Profile::Tasmota, "fixture".parse().unwrap(), KeyStorage::Discard);
        let issued = authority.issue(&request, OffsetDateTime::now_utc()).unwrap();
        DeviceCredential {
            scalar: issued.key.ec_scalar().unwrap(),
            certificate_der: issued.certificate.der().to_vec(),
            serial: issued.certificate.serial().to_string(),
            not_after: issued.certificate.not_after(),
        }
    };
    MADE.get_or_init(make).clone()
}

pub fn authority(folder: &std::path::Path, key: KeyKind) -> Authority {
    let pass = Passphrase::new("correct horse");
    let new = NewCa { key, ..NewCa::new("Test CA") };
    Pki::create(&folder.join("pki"), &new, &pass, OffsetDateTime::now_utc()).unwrap().unlock(&pass).unwrap()
}

/// Issues the same certificate under a new serial number each time, and remembers.
#[derive(Default)]
pub struct FakeIssuer {
    pub issued: AtomicU32,
    pub locked: AtomicBool,
    pub keyless: AtomicBool,
    known: Mutex<Vec<(DeviceName, DeviceCredential)>>,
}

#[async_trait]
impl Issuer for FakeIssuer {
    async fn issue(&self, name: &DeviceName) -> Result<DeviceCredential, IssueError> {
        if self.locked.load(Ordering::SeqCst) {
            return Err(IssueError::Locked);
        }
        let number = self.issued.fetch_add(1, Ordering::SeqCst) + 1;
        let made = DeviceCredential { serial: format!("AA{number:02X}"), ..credential() };
        self.known.lock().unwrap().push((name.clone(), made.clone()));
        Ok(made)
    }

    async fn existing(&self, name: &DeviceName) -> Result<Option<DeviceCredential>, IssueError> {
        let known = self.known.lock().unwrap();
        let found = known.iter().rev().find(|(known, _)| known == name).map(|(_, made)| made.clone());
        match found {
            Some(made) if self.keyless.load(Ordering::SeqCst) => Err(IssueError::KeyMissing {
                name: name.clone(),
                serial: made.serial,
                certificate_bytes: made.certificate_der.len(),
                not_after: made.not_after,
            }),
            found => Ok(found),
        }
    }
}

/// Sees a device as soon as it is set to our broker, holds a key and is not restarting; or nobody, ever.
pub struct FakeWitness {
    pub device: Arc<RunningDevice>,
    pub broker: BrokerTarget,
    pub blind: AtomicBool,
    /// The registry's file, for the passwords.
    pub registry: std::path::PathBuf,
}

impl FakeWitness {
    /// What a door would see: the certificate's, or the password's.
    fn sees(&self, serial: &str, state: &DeviceState) -> bool {
        let broker = &self.broker;
        if !serial.starts_with("pw-") {
            return state.broker == (broker.host.clone(), broker.port) && state.stored.key.is_some();
        }
        let Some((user, password)) = self.device.login() else { return false };
        let registry = Registry::open(&self.registry).unwrap();
        let fits =
            |one: &DevicePassword| one.id == serial && one.login == user && one.is(password.as_bytes());
        Some(state.broker.1) == broker.pinned_port
            && state.broker.0 == broker.host
            && registry.passwords().unwrap().iter().any(|one| one.is_open() && fits(one))
    }
}

#[async_trait]
impl Witness for FakeWitness {
    async fn wait_for(&self, serial: &str, within: Duration) -> Result<Sighting, WitnessError> {
        let not_seen = || WitnessError::NotSeen { serial: serial.into(), within, refused: None };
        if self.blind.load(Ordering::SeqCst) {
            tokio::time::sleep(within.min(Duration::from_millis(50))).await;
            return Err(not_seen());
        }
        let until = tokio::time::Instant::now() + within;
        loop {
            let state = self.device.state();
            let there = state.running && !state.restarting && self.sees(serial, &state);
            if there && !self.blind.load(Ordering::SeqCst) {
                let (client_id, address) = ("DVES_D3E4F5".to_owned(), "127.0.0.1:4711".to_owned());
                return Ok(Sighting { client_id, address, at: OffsetDateTime::now_utc() });
            }
            if tokio::time::Instant::now() >= until {
                return Err(not_seen());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The device's console without a socket.
pub struct MemoryConsole(pub Arc<RunningDevice>);

#[async_trait]
impl Console for MemoryConsole {
    async fn ask(&self, command: &Command) -> Result<Reply, ConsoleError> {
        // The device lives on the same runtime: let it do what is due.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let Some(json) = self.0.type_command(command.text()) else {
            return Err(ConsoleError::Unreachable { address: self.address(), why: "it boots".into() });
        };
        Reply::parse(json.as_bytes()).map_err(|why| ConsoleError::Malformed { address: self.address(), why })
    }

    fn address(&self) -> String {
        self.0.http_addr().to_string()
    }
}

#[async_trait]
impl DeviceConsole for MemoryConsole {
    async fn log_lines(&self) -> Result<Vec<String>, ConsoleError> {
        let address = self.0.http_addr().to_string().parse().unwrap();
        http_console(&address, None).log_lines().await
    }
}

/// Counts everything an enrolment does to the outside, and dies at a number: before or after a question, at a report.
pub struct Guillotine<C> {
    pub console: C,
    pub at: usize,
    pub moment: AtomicUsize,
}

impl<C> Guillotine<C> {
    pub fn new(console: C, at: usize) -> Arc<Self> {
        Arc::new(Self { console, at, moment: AtomicUsize::new(0) })
    }

    fn pass(&self) {
        if self.moment.fetch_add(1, Ordering::SeqCst) == self.at {
            panic!("killed");
        }
    }
}

#[async_trait]
impl<C: Console> Console for Guillotine<C> {
    async fn ask(&self, command: &Command) -> Result<Reply, ConsoleError> {
        self.pass();
        let answer = self.console.ask(command).await;
        self.pass();
        answer
    }

    fn address(&self) -> String {
        self.console.address()
    }
}

#[async_trait]
impl<C: DeviceConsole> DeviceConsole for Guillotine<C> {
    async fn log_lines(&self) -> Result<Vec<String>, ConsoleError> {
        self.console.log_lines().await
    }
}

impl<C: Send + Sync> Reporter for Guillotine<C> {
    fn step(&self, _: Step, _: StepState) {
        self.pass();
    }
}

/// A console that changes or withholds answers by a rule: the number of the question, the command, its answer.
pub struct Meddler<F> {
    pub console: MemoryConsole,
    pub asked: AtomicUsize,
    pub rule: F,
}

#[async_trait]
impl<F> Console for Meddler<F>
where
    F: Fn(usize, &Command, Result<Reply, ConsoleError>) -> Result<Reply, ConsoleError> + Send + Sync,
{
    async fn ask(&self, command: &Command) -> Result<Reply, ConsoleError> {
        let answer = self.console.ask(command).await;
        (self.rule)(self.asked.fetch_add(1, Ordering::SeqCst), command, answer)
    }

    fn address(&self) -> String {
        self.console.address()
    }
}

#[async_trait]
impl<F> DeviceConsole for Meddler<F>
where
    F: Fn(usize, &Command, Result<Reply, ConsoleError>) -> Result<Reply, ConsoleError> + Send + Sync,
{
    async fn log_lines(&self) -> Result<Vec<String>, ConsoleError> {
        self.console.log_lines().await
    }
}

/// Remembers what was reported.
#[derive(Default)]
pub struct Notes(pub Mutex<Vec<(Step, StepState)>>);

impl Reporter for Notes {
    fn step(&self, step: Step, state: StepState) {
        self.0.lock().unwrap().push((step, state));
    }
}

impl Notes {
    pub fn done(&self) -> Vec<Step> {
        let done = |(step, state): &(Step, StepState)| matches!(state, StepState::Done(_)).then_some(*step);
        self.0.lock().unwrap().iter().filter_map(done).collect()
    }
}

/// One device, one registry, one issuer, one witness.
pub struct Stage {
    pub folder: tempfile::TempDir,
    pub registry: Registry,
    pub issuer: FakeIssuer,
    pub device: Arc<RunningDevice>,
    pub witness: FakeWitness,
    pub broker: BrokerTarget,
    pub patience: Patience,
    pub request: EnrolRequest,
    pub notes: Notes,
}

pub fn mac(last: u8) -> Mac {
    Mac([0xA0, 0xB1, 0xC2, 0xD3, 0xE4, last])
}

/// A build that has TLSKey, hundreds of times faster than a real one, at a broker that is not ours.
pub fn profile() -> VirtualProfile {
    VirtualProfile {
        pace: 0.002,
        broker: (OLD_HOST.into(), 1884),
        tele_period: 0,
        ..VirtualProfile::new(Chip::Esp32, Firmware::ClientCert, mac(0xF5))
    }
}

pub fn broker() -> BrokerTarget {
    let (host, ca_kind) = ("127.0.0.1".into(), CaKind::Rsa);
    BrokerTarget { host, port: 9, ca_kind, server_fingerprint: [0xAB; 20], pinned_port: None }
}

/// Quick to ask again, and patient enough for a machine that is busy with other things.
pub fn patience() -> Patience {
    Patience {
        ask: Duration::from_secs(5),
        attempts: 3,
        pause: Duration::from_millis(10),
        back: Duration::from_secs(10),
        poll: Duration::from_millis(5),
        poll_max: Duration::from_millis(20),
        proof: Duration::from_secs(10),
        broker: None,
    }
}

pub async fn start(profile: VirtualProfile) -> Arc<RunningDevice> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Arc::new(VirtualDevice::start(profile, listener).unwrap())
}

impl Stage {
    pub async fn new(profile: VirtualProfile) -> Self {
        // In memory where there is such a folder: these tests are about devices, not about disks.
        let memory = std::path::Path::new("/dev/shm");
        let folder =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let file = folder.path().join("fleet.db");
        let registry = Registry::open(&file).unwrap();
        let device = start(profile).await;
        let address = device.http_addr().to_string().parse().unwrap();
        let witness = FakeWitness {
            device: device.clone(),
            broker: broker(),
            blind: AtomicBool::new(false),
            registry: file,
        };
        Self {
            folder,
            registry,
            issuer: FakeIssuer::default(),
            witness,
            broker: broker(),
            patience: patience(),
            request: EnrolRequest::new("plug".parse().unwrap(), address),
            device,
            notes: Notes::default(),
        }
    }

    pub fn enrolment(&self) -> Enrolment<'_> {
        self.reported_to(&self.notes)
    }

    pub fn reported_to<'a>(&'a self, reporter: &'a dyn Reporter) -> Enrolment<'a> {
        Enrolment {
            registry: &self.registry,
            issuer: &self.issuer,
            witness: &self.witness,
            reporter,
            broker: &self.broker,
            patience: self.patience,
        }
    }

    pub fn console(&self) -> MemoryConsole {
        MemoryConsole(self.device.clone())
    }

    /// Over memory.
    pub async fn enrol(&self) -> Result<Enrolled, EnrolError> {
        self.enrolment().run(&self.request, &self.console()).await
    }

    /// Over HTTP.
    pub async fn enrol_http(&self, password: Option<&str>) -> Result<Enrolled, EnrolError> {
        self.enrolment().run(&self.request, &http_console(&self.request.address, password)).await
    }

    pub fn in_registry(&self) -> Option<quoll_fleet::device::Device> {
        self.registry.device(&self.request.name).unwrap()
    }

    /// Waits for something that the device does in its own time.
    pub async fn until(&self, what: &str, is: impl Fn(&DeviceState) -> bool) {
        let until = tokio::time::Instant::now() + Duration::from_secs(20);
        while !is(&self.device.state()) {
            assert!(
                tokio::time::Instant::now() < until,
                "waited in vain until {what}: {:?}",
                self.device.state()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// A setting as the device itself tells it, once it is up.
    pub async fn told(&self, command: &str) -> String {
        loop {
            match self.device.type_command(command) {
                Some(json) => return json,
                None => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    }
}
