//! The same stage on paper: a device whose time passes only when it is asked, and a broker that sees what the device
//! would show. Nothing waits, so thousands of runs are a matter of seconds, and a busy machine changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use quoll_fleet::device::{Device, DeviceName, DeviceState, Rung};
use quoll_fleet::enrol::{
    BrokerTarget, DeviceConsole, EnrolError, EnrolRequest, Enrolled, Enrolment, Patience, WantedRung,
};
use quoll_fleet::registry::{PasswordState, Registry};
use quoll_fleet::step::{Reporter, Silent};
use quoll_fleet::witness::{Sighting, Witness, WitnessError};
use quoll_tasmota::virtual_device::{MemoryConsole, VirtualProfile};
use quoll_tasmota::{Command, Console, ConsoleError, Reply};
use time::OffsetDateTime;

use super::{FakeIssuer, broker, credential};

/// The port for devices without a certificate.
pub const PINNED: u16 = 10;
/// What passes on the device from one question to the next: enough for a restart at the pace of a [`profile`].
pub const BETWEEN: Duration = Duration::from_millis(100);

/// A device on paper is a hundred times as fast as a real one.
pub fn profile() -> VirtualProfile {
    VirtualProfile { pace: 0.01, ..super::profile() }
}

/// Long enough to be asked a few times: the device needs no time, only questions.
pub fn patience() -> Patience {
    let ms = Duration::from_millis;
    Patience {
        ask: Duration::from_secs(20),
        attempts: 2,
        pause: ms(1),
        back: ms(8),
        poll: ms(1),
        poll_max: ms(2),
        proof: ms(3),
        broker: None,
    }
}

/// Everything that an enrolment changes on a device, as the device tells it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Standing {
    /// Replies to questions about the broker and how it is checked.
    told: Vec<String>,
    /// User and password that it would send.
    login: (String, String),
}

/// One device, one registry, one issuer, one broker.
pub struct Paper {
    pub memory: Arc<MemoryConsole>,
    pub registry: Registry,
    pub issuer: FakeIssuer,
    pub broker: BrokerTarget,
    pub request: EnrolRequest,
    /// The broker sees nobody.
    pub blind: AtomicBool,
    /// How the device stood before anything was done.
    pub old: Standing,
    _folder: tempfile::TempDir,
}

/// The way to a device on paper: its time passes when it is asked.
pub struct OnPaper(pub Arc<MemoryConsole>);

#[async_trait]
impl Console for OnPaper {
    async fn ask(&self, command: &Command) -> Result<Reply, ConsoleError> {
        self.0.wait(BETWEEN);
        self.0.ask(command).await
    }

    fn address(&self) -> String {
        self.0.address()
    }
}

#[async_trait]
impl DeviceConsole for OnPaper {
    async fn log_lines(&self) -> Result<Vec<String>, ConsoleError> {
        Ok(Vec::new())
    }
}

impl Paper {
    pub fn console(&self) -> OnPaper {
        OnPaper(self.memory.clone())
    }

    pub fn new(profile: VirtualProfile, wanted: WantedRung) -> Self {
        let folder = super::living::folder();
        let utc = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap();
        let memory = Arc::new(MemoryConsole::new(profile, utc));
        let mut request = EnrolRequest::new("plug".parse().unwrap(), "192.0.2.7".parse().unwrap());
        request.rung = wanted;
        Self {
            registry: Registry::open(&folder.path().join("fleet.db")).unwrap(),
            old: standing(&memory),
            memory,
            issuer: FakeIssuer::default(),
            broker: BrokerTarget { pinned_port: Some(PINNED), ..broker() },
            request,
            blind: AtomicBool::new(false),
            _folder: folder,
        }
    }

    pub fn name(&self) -> &DeviceName {
        &self.request.name
    }

    pub async fn enrol(&self, console: &dyn DeviceConsole) -> Result<Enrolled, EnrolError> {
        self.enrol_as(&self.request, console, &Silent).await
    }

    /// With another request, and somebody who watches.
    pub async fn enrol_as(
        &self,
        request: &EnrolRequest,
        console: &dyn DeviceConsole,
        reporter: &dyn Reporter,
    ) -> Result<Enrolled, EnrolError> {
        let enrolment = Enrolment {
            registry: &self.registry,
            issuer: &self.issuer,
            witness: self,
            reporter,
            broker: &self.broker,
            patience: patience(),
        };
        enrolment.run(request, console).await
    }

    pub fn in_registry(&self) -> Option<Device> {
        self.registry.device(self.name()).unwrap()
    }

    /// What it answers on its serial line.
    pub fn told(&self, line: &str) -> String {
        self.memory.type_command(line)
    }

    /// What a door would see: the certificate, or the password.
    pub fn shows(&self, id: &str) -> bool {
        let (there, login, keys) = self.memory.with(|machine| {
            let (user, password) = machine.settings().login();
            let login = (user.to_owned(), password.to_owned());
            (!machine.is_restarting(), login, machine.parts().1.keys)
        });
        if !there {
            return false;
        }
        if id.starts_with("pw-") {
            let open = self.registry.passwords_of(self.name()).unwrap();
            return open.iter().any(|one| one.id == id && one.login == login.0 && one.is(login.1.as_bytes()));
        }
        let own = credential();
        let stored = keys.and_then(|keys| keys.credentials());
        stored.is_some_and(|(key, certificate)| *key == *own.scalar && *certificate == *own.certificate_der)
    }

    /// Proven in its new state, proven back in its old one, or in between: and then the registry says so, with why.
    pub fn holds_to_its_word(&self, result: &Result<(), &EnrolError>, case: &str) {
        self.memory.wait(Duration::from_secs(5));
        let now = standing(&self.memory);
        let Some(device) = self.in_registry() else {
            assert!(result.is_err() && now == self.old, "{case}: nothing is registered, and it has {now:?}");
            return;
        };
        match device.state {
            DeviceState::Proven => {
                assert!(result.is_ok(), "{case}: {result:?}");
                self.is_proven(&device, case);
            }
            DeviceState::Switched => {
                assert!(result.is_err() && device.problem.is_some(), "{case}: {device:?}");
            }
            DeviceState::Known | DeviceState::KeyPushed | DeviceState::RolledBack => {
                assert!(result.is_err() && device.problem.is_some(), "{case}: {device:?}");
                assert_eq!(now, self.old, "{case}: {}", device.state);
            }
            other => panic!("{case}: {other}"),
        }
    }

    fn is_proven(&self, device: &Device, case: &str) {
        let port = if device.rung == Rung::Pinned { PINNED } else { self.broker.port };
        let told = (self.told("MqttHost"), self.told("MqttPort"));
        let ours = (r#"{"MqttHost":"127.0.0.1"}"#.to_owned(), format!(r#"{{"MqttPort":{port}}}"#));
        assert_eq!(told, ours, "{case}");
        let open = self.registry.passwords_of(self.name()).unwrap();
        if device.rung == Rung::Pinned {
            assert!(open.len() == 1 && self.shows(&open[0].id), "{case}");
            assert_eq!(open[0].state, PasswordState::Current, "{case}");
        } else {
            assert!(self.shows("a certificate") && open.is_empty(), "{case}: {open:?}");
        }
    }
}

fn standing(memory: &MemoryConsole) -> Standing {
    let mut answers = Vec::new();
    for line in [
        "MqttHost",
        "MqttPort",
        "SetOption103",
        "SetOption132",
        "SetOption165",
        "MqttFingerprint1",
        "MqttFingerprint2",
        "Topic",
    ] {
        answers.push(memory.type_command(line));
    }
    let login = memory.with(|machine| {
        let (user, password) = machine.settings().login();
        (user.to_owned(), password.to_owned())
    });
    Standing { told: answers, login }
}

#[async_trait]
impl Witness for Paper {
    async fn wait_for(&self, id: &str, within: Duration) -> Result<Sighting, WitnessError> {
        let mut waited = false;
        loop {
            let told = (self.told("MqttHost"), self.told("Status 6"));
            let port = if id.starts_with("pw-") { PINNED } else { self.broker.port };
            let there = told.0.contains("127.0.0.1")
                && told.1.contains(&format!("\"MqttPort\":{port},"))
                && told.1.contains("\"MqttTLS\":1");
            if there && self.shows(id) && !self.blind.load(Ordering::SeqCst) {
                let boots = i64::from(self.memory.with(|machine| machine.boots()));
                let at = OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(boots);
                let (client_id, address) = ("DVES_D3E4F5".to_owned(), "192.0.2.7:4711".to_owned());
                return Ok(Sighting { client_id, address, at });
            }
            if waited || within == Duration::ZERO {
                // A real broker would take its time here.
                tokio::time::sleep(within).await;
                return Err(WitnessError::NotSeen { serial: id.into(), within, refused: None });
            }
            self.memory.wait(Duration::from_secs(1));
            waited = true;
        }
    }
}
