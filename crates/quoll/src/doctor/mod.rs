//! Collecting what the doctor judges by: the device is asked, the node is asked, the folder and the network are looked
//! at. Nothing is changed here but by [`repair`]; whoever is silent is noted as silent.
//!
//! | room | what is in it |
//! |---|---|
//! | [`ask`] | the device's console |
//! | [`rehearsal`] | a handshake from here, as the device does it |
//! | [`certificates`], [`wire`] | the folder; what the node saw |
//! | [`house`] | all but the devices: node, CA, disk, databases |

pub(crate) mod ask;
pub(crate) mod certificates;
pub(crate) mod house;
pub(crate) mod rehearsal;
pub(crate) mod wire;

use std::time::Duration;

use quoll_fleet::device::Device;
use quoll_fleet::doctor::evidence::{DeviceSide, Registered, Target};
use quoll_fleet::doctor::{Evidence, Repair};
use quoll_fleet::enrol::http_console;
use quoll_tasmota::{Command, Console as _, HttpConsole, Refusal, StatusPage};
use time::OffsetDateTime;

use crate::config::Settings;
use crate::failure::{Exit, Failure, Outcome};
use crate::home::Home;
use certificates::Folder;

/// Who has been silent for so long will not answer. A busy ESP8266 takes two seconds.
pub(crate) const SILENCE: Duration = Duration::from_secs(8);
/// How long a repaired device gets to come back, each time that it is repaired: a restart of 15 s and an attempt; then two
/// attempts with their pauses. Twice, since a device that was about to restart may have forgotten the first.
pub(crate) const RETURN_PATIENCE: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(120)];
/// Attempts of a repaired device that may fail before no more are waited for: the first may come too early,
/// and one more may meet a busy broker.
const ATTEMPTS: usize = 3;
/// How long a device that restarts is away from its console at most (facts §7.5).
const RESTART: Duration = Duration::from_secs(15);
/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Other devices that are named where they share something with this one.
const OTHERS: usize = 8;

/// What all examinations share.
pub(crate) struct Practice {
    pub(crate) home: Home,
    pub(crate) settings: Settings,
    pub(crate) folder: Folder,
    /// Every device, for telling apart those with one address.
    pub(crate) devices: Vec<Device>,
    pub(crate) node: wire::NodeFacts,
    /// For one answer of a device's, or of the server at its broker's address.
    pub(crate) patience: Duration,
}

impl Practice {
    /// Looks at what is the same for every device.
    pub(crate) async fn open(home: &Home, settings: &Settings, devices: Vec<Device>) -> Self {
        let folder = Folder::read(settings);
        let node = wire::NodeFacts::ask(home).await;
        let (home, settings) = (home.clone(), settings.clone());
        Self { home, settings, folder, devices, node, patience: SILENCE }
    }

    /// With another patience than [`SILENCE`].
    pub(crate) fn patient_for(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// A device's console.
    pub(crate) fn console(&self, device: &Device, password: Option<&str>) -> HttpConsole {
        http_console(&device.address, password).with_patience(ask::CONNECT, self.patience)
    }

    /// Collects all that can be found out about a device.
    pub(crate) async fn examine(&self, device: &Device, console: &HttpConsole) -> Evidence {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let target = self.target(device);
        let said = ask::ask(console).await;
        let pki = self.folder.of(device);
        let network = rehearsal::look(self, &said, &target).await;
        let wire = wire::of(self, device, &said).await;
        Evidence {
            name: device.name.to_string(),
            now,
            registered: self.registered(device, &said),
            target,
            device: said,
            wire,
            pki,
            network,
        }
    }

    /// What this device is told to connect to.
    fn target(&self, device: &Device) -> Target {
        let port = match device.rung {
            quoll_fleet::device::Rung::Pinned => self.settings.pinned_port(),
            _ => None,
        };
        Target {
            host: self.settings.host.clone(),
            port: port.unwrap_or_else(|| self.settings.device_port()),
            fingerprint: self.folder.fingerprint(),
            ec_ca: self.folder.has_ec_ca(),
            ec_server: self.folder.has_ec_server(),
        }
    }

    fn registered(&self, device: &Device, said: &DeviceSide) -> Registered {
        let others = |has: &dyn Fn(&Device) -> bool| -> Vec<String> {
            let others =
                self.devices.iter().filter(|other| other.name != device.name && other.state.is_present());
            others.filter(|other| has(other)).map(|other| other.name.to_string()).take(OTHERS).collect()
        };
        let (topic, client) = (said.topic.as_deref(), said.client.as_deref());
        let seconds = OffsetDateTime::unix_timestamp;
        Registered {
            rung: device.rung.to_string(),
            state: device.state.to_string(),
            quarantine: device.quarantine.as_ref().map(|it| it.reason.clone()),
            serial: device.serial.clone(),
            expires: device.expires.map(seconds),
            address: device.address.to_string(),
            mac: device.mac.to_string(),
            client_id: device.topics.client_id.clone(),
            last_seen: device.last_seen.map(seconds),
            topic: device.topics.topic.clone(),
            topic_of: others(&|other| {
                topic == Some(other.topics.topic.as_str())
                    && other.topics.full_topic == device.topics.full_topic
            }),
            client_id_of: others(&|other| client == Some(other.topics.client_id.as_str())),
        }
    }
}

/// What could not be found out.
pub(crate) fn unknown(evidence: &Evidence) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(
        evidence.device.silence.as_ref().map(|silence| format!("what the device says: {}", silence.why)),
    );
    lines.extend(evidence.device.missing.iter().cloned());
    lines.extend(evidence.wire.silence.as_ref().map(|why| format!("what the broker saw: {why}")));
    lines.extend(evidence.pki.silence.as_ref().map(|why| format!("the certificates: {why}")));
    lines.extend(
        evidence
            .network
            .unresolved
            .as_ref()
            .map(|why| format!("what listens at {}:{}: {why}", evidence.network.host, evidence.network.port)),
    );
    lines
}

/// Does what a verdict calls safe; whether the device restarts over it.
pub(crate) async fn repair(device: &Device, console: &HttpConsole, repair: &Repair) -> Outcome<bool> {
    let now = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or(0);
    let could_not = format!("could not {}", repair.words());
    let command = repair.command(now).ok_or_else(|| {
        Failure::new(Exit::Device, could_not.clone()).why("the value cannot be written on a console line")
    })?;
    obey(device, console, &command, could_not).await?;
    Ok(command.restarts())
}

/// Waits until the device has restarted, which it does two seconds after a setting that calls for it.
pub(crate) async fn wait_for_restart(console: &HttpConsole, patience: Duration) {
    let since = tokio::time::Instant::now();
    while since.elapsed() < patience {
        tokio::time::sleep(LOOK_EVERY).await;
        if ask::uptime(console).await.is_some_and(|uptime| uptime <= since.elapsed().as_secs()) {
            return;
        }
    }
}

/// Takes a repair back.
pub(crate) async fn put_back(
    device: &Device,
    console: &HttpConsole,
    repair: &Repair,
    command: &Command,
) -> Outcome {
    obey(device, console, command, format!("could not take back: {}", repair.words())).await
}

/// Tells a device something, once it is sure that it is this one: after a restart another may answer at its address.
async fn obey(device: &Device, console: &HttpConsole, command: &Command, could_not: String) -> Outcome {
    let failed = |why: &dyn std::fmt::Display| Failure::new(Exit::Device, could_not.clone()).why(why);
    let end = tokio::time::Instant::now() + RESTART;
    let network = loop {
        match console.ask(&Command::status(StatusPage::Network)).await {
            Err(error) if error.may_pass() && tokio::time::Instant::now() < end => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Err(error) => return Err(failed(&error).maybe_hint(error.hint())),
            Ok(reply) => break reply.network().map_err(|why| failed(&why))?,
        }
    };
    if network.mac != device.mac {
        let why =
            format!("the device {} answers at {} now, and not {}", network.mac, device.address, device.mac);
        return Err(failed(&why).hint("find its new address: quoll device find"));
    }
    match console.ask(command).await {
        Ok(reply) => match reply.refusal() {
            None => Ok(()),
            Some(Refusal::Unknown) => Err(failed(&"its firmware has no such command")),
            Some(Refusal::Error) => Err(failed(&"it refuses the value")),
        },
        // It may be gone because it obeys.
        Err(error) if error.may_pass() && command.restarts() => Ok(()),
        Err(error) => Err(failed(&error).maybe_hint(error.hint())),
    }
}

/// Waits until the node, or where none runs the device itself, says that it is connected; not longer than until it has
/// tried in vain. `before` are the failed attempts that its log had before the repair.
pub(crate) async fn wait_until_back(
    practice: &Practice,
    device: &Device,
    console: &HttpConsole,
    before: &[String],
    patience: Duration,
) -> bool {
    let end = tokio::time::Instant::now() + patience;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(LOOK_EVERY).await;
        let failed = ask::failed_attempts(console).await.unwrap_or_default();
        if failed.iter().filter(|line| !before.contains(line)).count() >= ATTEMPTS {
            return false;
        }
        if practice.node.silence.is_none() {
            let node = wire::NodeFacts::ask(&practice.home).await;
            if node.connection_of(device).is_some() {
                return true;
            }
        } else if ask::is_connected(console).await {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use quoll_fleet::device::{Mac, Topics};
    use quoll_fleet::registry::{NewDevice, Registry};
    use quoll_tasmota::virtual_device::{Chip, Firmware, VirtualDevice, VirtualProfile};

    use super::*;

    #[tokio::test]
    async fn a_repair_is_for_the_device_that_was_examined_and_for_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::open(&folder.path().join("fleet.db")).unwrap();
        let [own, other] = [1, 2].map(|last| Mac([0xA0, 0xB1, 0xC2, 0xD3, 0xE4, last]));
        let profile = VirtualProfile {
            pace: 0.01,
            broker: ("old.lan".into(), 1884),
            ..VirtualProfile::new(Chip::Esp32, Firmware::ClientCert, own)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = VirtualDevice::start(profile, listener).unwrap();
        let address = there.http_addr().to_string().parse().unwrap();
        let topics = Topics {
            topic: "plug".into(),
            full_topic: "%prefix%/%topic%/".into(),
            command: "cmnd".into(),
            status: "stat".into(),
            telemetry: "tele".into(),
            groups: Vec::new(),
            client_id: "DVES_D3E401".into(),
        };
        let (chip, firmware) = (String::new(), String::new());
        let new = NewDevice { name: "plug".parse().unwrap(), address, mac: own, chip, firmware, topics };
        let device = registry.register(&new).unwrap();
        let console = http_console(&device.address, None);
        let wrong = Repair::Broker { host: "hub.lan".into(), port: 8883 };

        let stranger = Device { mac: other, ..device.clone() };
        let failure = repair(&stranger, &console, &wrong).await.unwrap_err();
        assert!(failure.why.as_ref().unwrap().contains("answers at"), "{failure:?}");
        let undo = Command::set(quoll_tasmota::Setting::MqttHost, "third.lan").unwrap();
        assert!(put_back(&stranger, &console, &wrong, &undo).await.is_err());
        assert_eq!(there.state().broker, ("old.lan".to_owned(), 1884), "nothing was told to it");

        assert!(repair(&device, &console, &wrong).await.unwrap(), "it restarts over it");
        let until = tokio::time::Instant::now() + Duration::from_secs(30);
        while there.state().broker.0 != "hub.lan" {
            assert!(tokio::time::Instant::now() < until, "{:?}", there.state().broker);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
