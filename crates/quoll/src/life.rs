//! Work on devices that live: what `device rotate`, `rename`, `replace`, `check` and `repair` share. The CA of the
//! workshop, the device's console over HTTP or a cable, the running node as the witness.

use std::path::PathBuf;

use async_trait::async_trait;
use quoll_fleet::device::{Address, Device, DeviceName, Rung};
use quoll_fleet::enrol::{
    BrokerTarget, DeviceConsole, EnrolRequest, Enrolled, Patience, WantedRung, http_console,
};
use quoll_fleet::issuer::{DeviceCredential, IssueError, Issuer, Reissuer};
use quoll_fleet::life::{Changed, Life, LifeError, Replaced};
use quoll_fleet::registry::{Registry, RegistryError};
use zeroize::Zeroizing;

use crate::cli::Common;
use crate::cli::ServerArgs;
use crate::enrolment::{self, Desk, Lines, NodeWitness, Wish};
use crate::failure::{Exit, Failure, Outcome};
use crate::home::Home;
use crate::serial_road::SerialRoad;
use crate::trouble;
use crate::workshop::Workshop;

/// How a device is reached.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct RoadArgs {
    /// Where its web console is [default: where it was last]
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) at: Option<String>,
    /// Its serial port: the key goes over the cable and never over the air
    #[arg(long, value_name = "/dev/TTY")]
    pub(crate) serial: Option<PathBuf>,
    /// A file with the device's web password on its first line
    #[arg(long, value_name = "FILE")]
    pub(crate) web_password_file: Option<PathBuf>,
}

/// Everything that work on living devices needs.
pub(crate) struct Bench {
    pub(crate) home: Home,
    pub(crate) desk: Desk,
    pub(crate) target: BrokerTarget,
}

impl Bench {
    /// Unlocks the CA.
    pub(crate) fn open(common: &Common) -> Outcome<Self> {
        let home = common.home()?;
        let settings = common.settings(&home, &ServerArgs::default())?;
        let mut workshop = Workshop::open(&settings, common.passphrase(&home))?;
        let desk = Desk::open(&home, &settings, &mut workshop)?;
        let target = desk.target(&Wish::default())?;
        Ok(Self { home, desk, target })
    }

    pub(crate) fn registry(&self) -> &Registry {
        self.desk.registry()
    }

    /// A device that is in the list.
    pub(crate) fn device(&self, name: &DeviceName) -> Outcome<Device> {
        let known = self.registry().device(name).map_err(trouble::registry)?;
        known.filter(|device| device.state.is_present()).ok_or_else(|| {
            Failure::new(Exit::NotFound, format!("there is no device {name}"))
                .hint("`quoll device list` shows them")
        })
    }

    /// A new identity for a device: a key and a certificate, or a password.
    pub(crate) async fn rotate(
        &self,
        device: &Device,
        road: &Road,
        say: impl Fn(&str) + Send + Sync,
    ) -> Result<Rotated, LifeFailure> {
        match device.rung {
            Rung::Pinned => {
                let mut request = EnrolRequest::new(device.name.clone(), road.address(device));
                (request.rung, request.new_password) = (WantedRung::Pinned, true);
                let enrolled = enrolment::enrol_over(
                    &self.desk,
                    &request,
                    road.console(),
                    self.desk.issuer(),
                    &self.target,
                    say,
                )
                .await
                .map_err(LifeError::from)?;
                Ok(Rotated::Password(enrolled))
            }
            Rung::Mutual | Rung::Plain => {
                let (witness, reporter) = (NodeWitness { home: &self.home }, Lines { say });
                let issuer = road.fitting(self.desk.issuer());
                let life = self.life(&issuer, &witness, &reporter);
                Ok(Rotated::Key(life.rotate(&device.name, road.console()).await?))
            }
        }
    }

    /// Another name.
    pub(crate) async fn rename(
        &self,
        name: &DeviceName,
        to: &DeviceName,
        road: &Road,
        say: impl Fn(&str) + Send + Sync,
    ) -> Result<Changed, LifeFailure> {
        let (witness, reporter) = (NodeWitness { home: &self.home }, Lines { say });
        let issuer = road.fitting(self.desk.issuer());
        Ok(self.life(&issuer, &witness, &reporter).rename(name, to, road.console()).await?)
    }

    /// Other hardware in its place, and its enrolment.
    pub(crate) async fn replace(
        &self,
        name: &DeviceName,
        address: &Address,
        road: &Road,
        rung: WantedRung,
        say: impl Fn(&str) + Send + Sync,
    ) -> Result<(Replaced, Enrolled), LifeFailure> {
        let (witness, reporter) = (NodeWitness { home: &self.home }, Lines { say });
        let issuer = road.fitting(self.desk.issuer());
        let life = self.life(&issuer, &witness, &reporter);
        Ok(life.replace(name, address, rung, road.console()).await?)
    }

    /// Brings a device of ours back: settings, and its certificate, or a new one where its key is not at hand.
    pub(crate) async fn repair(
        &self,
        device: &Device,
        road: &Road,
        say: impl Fn(&str) + Send + Sync,
    ) -> Result<Enrolled, LifeFailure> {
        let (witness, reporter) = (NodeWitness { home: &self.home }, Lines { say });
        let issuer = road.fitting(self.desk.issuer());
        let life = self.life(&issuer, &witness, &reporter);
        Ok(life.repair(&device.name, &road.address(device), road.console()).await?)
    }

    fn life<'a>(
        &'a self,
        issuer: &'a dyn Reissuer,
        witness: &'a NodeWitness<'_>,
        reporter: &'a dyn quoll_fleet::step::Reporter,
    ) -> Life<'a> {
        Life {
            registry: self.registry(),
            issuer,
            witness,
            reporter,
            broker: &self.target,
            patience: Patience::default(),
        }
    }
}

/// What a device got.
pub(crate) enum Rotated {
    Key(Changed),
    Password(Enrolled),
}

impl Rotated {
    pub(crate) fn device(&self) -> &Device {
        match self {
            Self::Key(changed) => &changed.device,
            Self::Password(enrolled) => &enrolled.device,
        }
    }

    pub(crate) fn notes(&self) -> &[String] {
        match self {
            Self::Key(changed) => &changed.notes,
            Self::Password(enrolled) => &enrolled.notes,
        }
    }
}

/// A failure on the way, as the library says it or as the command line does.
pub(crate) enum LifeFailure {
    Life(Box<LifeError>),
    Other(Failure),
}

impl From<LifeError> for LifeFailure {
    fn from(error: LifeError) -> Self {
        Self::Life(Box::new(error))
    }
}

impl From<Failure> for LifeFailure {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl From<LifeFailure> for Failure {
    fn from(failure: LifeFailure) -> Self {
        match failure {
            LifeFailure::Life(error) => life(*error),
            LifeFailure::Other(failure) => failure,
        }
    }
}

fn life(error: LifeError) -> Failure {
    let exit = match &error {
        LifeError::Unknown(_) | LifeError::Registry(RegistryError::Unknown(_)) => Exit::NotFound,
        LifeError::NotProven { .. } | LifeError::NotRetired { .. } | LifeError::OtherChange { .. } => {
            Exit::Partial
        }
        LifeError::Elsewhere { .. } => Exit::Device,
        LifeError::Device(_) => {
            let LifeError::Device(error) = error else { unreachable!("it was just looked at") };
            return enrolment::failure(error);
        }
        _ => Exit::Unusable,
    };
    Failure::new(exit, &error).maybe_hint(error.hint())
}

/// The way to a device's console.
pub(crate) enum Road {
    Web(quoll_tasmota::HttpConsole, Address),
    Cable(Box<SerialRoad>, Option<Address>),
}

impl Road {
    /// Over the cable where one is given, else over its web console where it was last.
    pub(crate) async fn to(device: Option<&Device>, args: &RoadArgs) -> Outcome<Self> {
        let password = args.web_password_file.as_deref().map(enrolment::read_password).transpose()?;
        Self::with(device, args, password.as_ref()).await
    }

    /// As [`Self::to`], with the password read.
    pub(crate) async fn with(
        device: Option<&Device>,
        args: &RoadArgs,
        password: Option<&Zeroizing<String>>,
    ) -> Outcome<Self> {
        let said = args.at.as_deref().map(address).transpose()?;
        let password = password.map(|text| text.as_str());
        if let Some(port) = &args.serial {
            let web = said.as_ref().map(|address| http_console(address, password));
            return Ok(Self::Cable(Box::new(SerialRoad::open(port, web).await?), said));
        }
        let address = said.or_else(|| device.map(|device| device.address.clone())).ok_or_else(|| {
            Failure::new(Exit::Usage, "where its console is, is not known").hint("say --at ADDRESS")
        })?;
        Ok(Self::Web(http_console(&address, password), address))
    }

    pub(crate) fn console(&self) -> &dyn DeviceConsole {
        match self {
            Self::Web(console, _) => console,
            Self::Cable(road, _) => &**road,
        }
    }

    /// Where its web console is, as far as it was said or is known.
    pub(crate) fn address(&self, device: &Device) -> Address {
        match self {
            Self::Web(_, address) | Self::Cable(_, Some(address)) => address.clone(),
            Self::Cable(_, None) => device.address.clone(),
        }
    }

    fn fitting<'a>(&self, inner: &'a dyn Reissuer) -> Fitting<'a> {
        let limit = match self {
            Self::Web(..) => None,
            Self::Cable(road, _) => road.certificate_limit(),
        };
        Fitting { inner, limit }
    }
}

/// Reads a device's address from the command line.
pub(crate) fn address(text: &str) -> Outcome<Address> {
    Address::parse(text).map_err(|error| {
        Failure::new(Exit::Usage, format!("{text:?} cannot be a device's address"))
            .why(&error)
            .maybe_hint(error.hint())
    })
}

/// An issuer that looks at the size of what it hands on: what does not fit the road is said before the device is touched.
struct Fitting<'a> {
    inner: &'a dyn Reissuer,
    limit: Option<usize>,
}

impl Fitting<'_> {
    fn check(&self, name: &DeviceName, credential: &DeviceCredential) -> Result<(), IssueError> {
        let bytes = credential.certificate_der.len();
        match self.limit {
            Some(limit) if bytes > limit => Err(IssueError::Pki {
                name: name.clone(),
                why: format!("its certificate has {bytes} bytes, and a serial console takes {limit}"),
                hint: Some(
                    "add --at ADDRESS: the key stays on the cable, the certificate goes over the web console"
                        .into(),
                ),
            }),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Issuer for Fitting<'_> {
    async fn issue(&self, name: &DeviceName) -> Result<DeviceCredential, IssueError> {
        let made = self.inner.issue(name).await?;
        self.check(name, &made).map(|()| made)
    }

    async fn existing(&self, name: &DeviceName) -> Result<Option<DeviceCredential>, IssueError> {
        let found = self.inner.existing(name).await?;
        found.as_ref().map_or(Ok(()), |found| self.check(name, found)).map(|()| found)
    }
}

#[async_trait]
impl Reissuer for Fitting<'_> {
    async fn reissue(&self, name: &DeviceName) -> Result<DeviceCredential, IssueError> {
        let made = self.inner.reissue(name).await?;
        self.check(name, &made).map(|()| made)
    }

    async fn held(&self, name: &DeviceName, serial: &str) -> Result<Option<DeviceCredential>, IssueError> {
        self.inner.held(name, serial).await
    }

    async fn retire(&self, name: &DeviceName, serial: &str) -> Result<(), IssueError> {
        self.inner.retire(name, serial).await
    }
}
