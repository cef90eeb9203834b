//! Enrolling over a cable: the key goes over the serial line and never over the air. What is no secret and does not fit
//! the line, such as a long certificate, may go over the web console of the same device.

use std::path::Path;

use async_trait::async_trait;
use quoll_fleet::device::DeviceName;
use quoll_fleet::enrol::DeviceConsole;
use quoll_fleet::issuer::{DeviceCredential, IssueError, Issuer};
use quoll_tasmota::limits::{CERTIFICATE_MAX_SERIAL, SERIAL_COMMAND_CHARS};
use quoll_tasmota::{
    Command, Console, ConsoleError, HttpConsole, Mac, Reply, SerialConsole, Setting, StatusPage,
};

use crate::failure::{Exit, Failure, Outcome};

/// Level of the web log while a key is typed: the echo of a typed line is logged at level 2.
const QUIET: u8 = 1;

/// The serial console of a device, and its web console where one was given.
pub(crate) struct SerialRoad {
    cable: SerialConsole,
    web: Option<HttpConsole>,
}

impl SerialRoad {
    /// Opens the port, and makes sure that the same device is at the end of both roads.
    pub(crate) async fn open(path: &Path, web: Option<HttpConsole>) -> Outcome<Self> {
        let road = Self { cable: SerialConsole::open(path).map_err(failure)?, web };
        if let Some(web) = &road.web {
            let (here, there) = (mac(&road.cable).await?, mac(web).await?);
            if here != there {
                return Err(Failure::new(Exit::Device, "the cable and the web console are two devices")
                    .why(format!("{} is at {}, {there} at {}", here, path.display(), web.address()))
                    .hint("check --serial and --at; nothing was changed"));
            }
        }
        Ok(road)
    }

    /// Its address on the network, as it says over the cable.
    pub(crate) async fn network_address(&self) -> Outcome<String> {
        let reply = self.cable.ask(&Command::status(StatusPage::Network)).await.map_err(failure)?;
        match reply.network().ok().and_then(|network| network.ip) {
            Some(ip) if ip.is_ipv6() => Ok(format!("[{ip}]")),
            Some(ip) => Ok(ip.to_string()),
            None => Err(Failure::new(Exit::Device, "the device has no network address")
                .why("without a network it cannot come to the broker")
                .hint(
                    "give it its Wi-Fi on its serial console first: Backlog SSId1 NAME; Password1 PASSWORD",
                )),
        }
    }

    /// Most bytes of a certificate that this road carries.
    pub(crate) fn certificate_limit(&self) -> Option<usize> {
        self.web.is_none().then_some(CERTIFICATE_MAX_SERIAL)
    }

    /// The issuer, which refuses a certificate that would not fit before anything is changed on the device.
    pub(crate) fn fitting<'a>(&self, inner: &'a dyn Issuer) -> FittingIssuer<'a> {
        FittingIssuer { inner, limit: self.certificate_limit() }
    }

    /// A typed line is echoed into every log of level 2 and more; the others are down already.
    async fn ask_quietly(&self, command: &Command) -> Result<Reply, ConsoleError> {
        let asked = self.cable.ask(&Command::ask(Setting::WebLog)).await?.setting(Setting::WebLog);
        let before: u8 = asked.ok().and_then(|level| level.parse().ok()).unwrap_or(2);
        if before <= QUIET {
            return self.cable.ask(command).await;
        }
        let level =
            |level: u8| Command::set(Setting::WebLog, &level.to_string()).expect("a level from 0 to 4");
        let hushed = self.cable.ask(&level(QUIET)).await?;
        if hushed.setting(Setting::WebLog).ok().as_deref() != Some("1") {
            let why = "its web log cannot be turned down, and would show the key".into();
            return Err(ConsoleError::Broken { address: self.address(), why });
        }
        let reply = self.cable.ask(command).await;
        // The old level comes back even if the answer did not.
        let restored = self.cable.ask(&level(before.min(4))).await;
        let reply = reply?;
        restored.map(|_| reply)
    }
}

async fn mac(console: &dyn Console) -> Outcome<Mac> {
    let reply = console.ask(&Command::status(StatusPage::Network)).await.map_err(failure)?;
    let network = reply.network().map_err(|error| {
        Failure::new(Exit::Device, format!("{} does not say its MAC", console.address())).why(error)
    })?;
    Ok(network.mac)
}

fn failure(error: ConsoleError) -> Failure {
    let exit = if matches!(error, ConsoleError::Port { .. }) { Exit::System } else { Exit::Device };
    Failure::new(exit, &error).maybe_hint(error.hint())
}

#[async_trait]
impl Console for SerialRoad {
    async fn ask(&self, command: &Command) -> Result<Reply, ConsoleError> {
        // SerialLog silences the very line we read; as a command that is not there it is left alone.
        if command.keyword() == Setting::SerialLog.name() {
            return Ok(Reply::unknown());
        }
        if command.is_secret() {
            return self.ask_quietly(command).await;
        }
        match &self.web {
            Some(web) if command.text().len() > SERIAL_COMMAND_CHARS => web.ask(command).await,
            _ => self.cable.ask(command).await,
        }
    }

    fn address(&self) -> String {
        self.cable.address()
    }
}

#[async_trait]
impl DeviceConsole for SerialRoad {
    async fn log_lines(&self) -> Result<Vec<String>, ConsoleError> {
        self.cable.log_lines().await
    }
}

/// An issuer that looks at the size of what it hands on.
pub(crate) struct FittingIssuer<'a> {
    inner: &'a dyn Issuer,
    limit: Option<usize>,
}

impl FittingIssuer<'_> {
    fn check(&self, name: &DeviceName, credential: &DeviceCredential) -> Result<(), IssueError> {
        let bytes = credential.certificate_der.len();
        match self.limit {
            Some(limit) if bytes > limit => Err(IssueError::Pki {
                name: name.clone(),
                why: format!(
                    "its certificate has {bytes} bytes, and a serial console takes {limit}; nothing was changed on the device"
                ),
                hint: Some(
                    "add --at ADDRESS: the key stays on the cable, the certificate, which is no secret, goes over the web \
                     console; or choose a shorter name, which is in the certificate"
                        .into(),
                ),
            }),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Issuer for FittingIssuer<'_> {
    async fn issue(&self, name: &DeviceName) -> Result<DeviceCredential, IssueError> {
        let credential = self.inner.issue(name).await?;
        self.check(name, &credential).map(|()| credential)
    }

    async fn existing(&self, name: &DeviceName) -> Result<Option<DeviceCredential>, IssueError> {
        let credential = self.inner.existing(name).await?;
        if let Some(credential) = &credential {
            self.check(name, credential)?;
        }
        Ok(credential)
    }
}
