//! Enrolling one device, as `device add` and the signing process do it: the CA of the workshop, the device's console
//! over HTTP or over a serial line, the running node as the witness.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use quoll_fleet::device::{Address, DeviceName};
use quoll_fleet::enrol::{
    BrokerTarget, CaKind, DeviceConsole, EnrolError, EnrolRequest, Enrolled, Enrolment, OldPassword,
    Patience, WantedRung, http_console,
};
use quoll_fleet::issuer::{Issuer, OtherCa, PkiIssuer};
use quoll_fleet::plan::Plan;
use quoll_fleet::registry::Registry;
use quoll_fleet::step::{Reporter, Step, StepState};
use quoll_fleet::witness::{Sighting, Witness, WitnessError};
use quoll_pki::{KeyStorage, Pki};
use quoll_tasmota::{Fingerprint, Mac};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::config::Settings;
use crate::control::{self, Answer, Question};
use crate::failure::{Exit, Failure, Outcome, io_failure};
use crate::home::Home;
use crate::output::shown;
use crate::serial_road::SerialRoad;
use crate::trouble;
use crate::workshop::{self, Workshop};

/// A device to enrol, as it was asked for.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Wish {
    pub(crate) name: String,
    /// Its web console: host or address, with a port where it is not 80. May be empty with a serial line.
    pub(crate) at: String,
    /// Its serial line, for the way that puts no key on the air.
    pub(crate) serial: Option<PathBuf>,
    /// Its topic, where it cannot be asked and is not the factory's.
    pub(crate) topic: Option<String>,
    /// A file with the device's web password on its first line.
    pub(crate) web_password_file: Option<PathBuf>,
    /// What the device is told to connect to, where it is not what the settings say.
    pub(crate) host: Option<String>,
    pub(crate) replace_key: bool,
    pub(crate) share_topics: bool,
    /// The rung it is to reach.
    pub(crate) rung: WantedRung,
    /// A file with the device's password at its old broker on its first line.
    pub(crate) old_password_file: Option<PathBuf>,
    /// Do without that password.
    pub(crate) lose_old_password: bool,
}

/// Everything that enrolments share: the unlocked CA, the registry, what devices are told.
pub(crate) struct Desk {
    home: Home,
    settings: Settings,
    pki: Pki,
    registry: Registry,
    issuer: PkiIssuer,
}

impl Desk {
    /// Unlocks the CA and opens the registry.
    pub(crate) fn open(home: &Home, settings: &Settings, workshop: &mut Workshop) -> Outcome<Self> {
        let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
        // During a rollover the next CA issues, while the server may still show a certificate of the old one.
        let issuing = workshop::issuing(settings)?;
        let mut next = (issuing.pki != settings.pki).then(|| workshop.at(&issuing)).transpose()?;
        let (authority, passphrase) = next.as_mut().unwrap_or(workshop).authority()?;
        let mut older = Vec::new();
        if issuing.pki != settings.pki {
            let authority = workshop::opened_by(settings, passphrase)?;
            older.push(OtherCa { pki: workshop::open_pki(settings)?, authority });
        }
        let issuer = PkiIssuer::new(authority, KeyStorage::Encrypted(passphrase.clone())).also_from(older);
        let pki = workshop::open_pki(&workshop::serving(settings)?)?;
        Ok(Self { home: home.clone(), settings: settings.clone(), pki, registry, issuer })
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn issuer(&self) -> &PkiIssuer {
        &self.issuer
    }

    /// Says which revocation lists have to be written: what was voided is in them only then.
    pub(crate) fn tell_of_lists(&self) {
        crate::revocation::tell_of_lists(&self.settings);
    }

    /// What the device is told to connect to.
    pub(crate) fn target(&self, wish: &Wish) -> Outcome<BrokerTarget> {
        target(&self.settings, &self.pki, wish)
    }
}

/// Enrols; `say` hears a line for each step.
pub(crate) async fn enrol(desk: &Desk, wish: &Wish, say: impl Fn(&str) + Send + Sync) -> Outcome<Enrolled> {
    let password = wish.web_password_file.as_deref().map(read_password).transpose()?;
    let password = password.as_ref().map(|text| text.as_str());
    let target = desk.target(wish)?;
    let Some(port) = &wish.serial else {
        let request = request(wish)?;
        let console = http_console(&request.address, password);
        return over(desk, enrol_over(desk, &request, &console, &desk.issuer, &target, say).await).await;
    };
    let web = match wish.at.as_str() {
        "" => None,
        _ => Some(http_console(&request(wish)?.address, password)),
    };
    let road = SerialRoad::open(port, web).await?;
    let at = if wish.at.is_empty() { road.network_address().await? } else { wish.at.clone() };
    let request = request(&Wish { at, ..wish.clone() })?;
    over(desk, enrol_over(desk, &request, &road, &road.fitting(&desk.issuer), &target, say).await).await
}

async fn over(desk: &Desk, enrolled: Result<Enrolled, EnrolError>) -> Outcome<Enrolled> {
    let enrolled = enrolled.map_err(failure)?;
    crate::bell::ring(&desk.home).await?;
    Ok(enrolled)
}

/// One of many devices, over its web console. Nobody is told by a bell: the running node was asked for the proof.
pub(crate) async fn enrol_one_of_many(
    desk: &Desk,
    wish: &Wish,
    mac: Mac,
    password: Option<&str>,
    target: &BrokerTarget,
    say: impl Fn(&str) + Send + Sync,
) -> Outcome<Result<Enrolled, EnrolError>> {
    // It was looked at some time ago: who answers there now may be another.
    let request = EnrolRequest { mac: Some(mac), ..request(wish)? };
    let console = http_console(&request.address, password);
    Ok(enrol_over(desk, &request, &console, &desk.issuer, target, say).await)
}

pub(crate) async fn enrol_over(
    desk: &Desk,
    request: &EnrolRequest,
    console: &dyn DeviceConsole,
    issuer: &dyn Issuer,
    target: &BrokerTarget,
    say: impl Fn(&str) + Send + Sync,
) -> Result<Enrolled, EnrolError> {
    let Desk { home, registry, .. } = desk;
    let witness = NodeWitness { home };
    let reporter = Lines { say };
    let enrolment = Enrolment {
        registry,
        issuer,
        witness: &witness,
        reporter: &reporter,
        broker: target,
        patience: Patience::default(),
    };
    enrolment.run(request, console).await
}

/// The plan, for `--dry-run`. Nothing is asked of the device.
pub(crate) fn plan(home: &Home, settings: &Settings, workshop: &Workshop, wish: &Wish) -> Outcome<Plan> {
    // Nothing is asked of a device on a cable either, so the plan names the cable.
    let cable = wish.serial.as_ref().filter(|_| wish.at.is_empty()).and_then(|path| path.file_name());
    let at = cable.map_or_else(|| wish.at.clone(), |name| name.to_string_lossy().into_owned());
    let request = request(&Wish { at, ..wish.clone() })?;
    let pki = workshop.at(&workshop::serving(settings)?)?;
    let target = target(settings, pki.pki(), wish)?;
    let known = if home.fleet_db().exists() {
        let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
        registry.device(&request.name).map_err(trouble::registry)?
    } else {
        None
    };
    Ok(Plan::new(&request, &target, known.as_ref(), None))
}

/// Reads a device's name from the command line.
pub(crate) fn device_name(text: &str) -> Outcome<DeviceName> {
    DeviceName::parse(text).map_err(|error| {
        Failure::new(Exit::Usage, format!("{text:?} cannot be a device's name"))
            .why(&error)
            .maybe_hint(error.hint())
    })
}

fn request(wish: &Wish) -> Outcome<EnrolRequest> {
    let address = Address::parse(&wish.at).map_err(|error| {
        Failure::new(Exit::Usage, format!("{:?} cannot be a device's address", wish.at))
            .why(&error)
            .maybe_hint(error.hint())
    })?;
    let mut request = EnrolRequest::new(device_name(&wish.name)?, address);
    request.replace_key = wish.replace_key;
    request.share_topics = wish.share_topics;
    request.rung = wish.rung;
    request.old_password = wish.old_password_file.as_deref().map(read_password).transpose()?.map(OldPassword);
    request.lose_old_password = wish.lose_old_password;
    Ok(request)
}

/// The first line of a file with a password.
pub(crate) fn read_password(file: &std::path::Path) -> Outcome<Zeroizing<String>> {
    let text = std::fs::read_to_string(file)
        .map(Zeroizing::new)
        .map_err(|error| io_failure("read", file, &error))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(Failure::new(
            Exit::Unusable,
            format!("{} has no password on its first line", file.display()),
        ));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

pub(crate) fn target(settings: &Settings, pki: &Pki, wish: &Wish) -> Outcome<BrokerTarget> {
    let host = wish.host.clone().unwrap_or_else(|| settings.host.clone());
    let certificate = workshop::server_certificate(settings, pki)?;
    // The device compares its MqttHost with the certificate's dNSName entries as text (facts §3.3): one that is not
    // there would send it away for good.
    let named = certificate.dns_names().iter().any(|name| name.eq_ignore_ascii_case(&host));
    if !named {
        return Err(Failure::new(Exit::Unusable, format!("the server's certificate does not name {host}"))
            .why(format!("it names {}", certificate.dns_names().join(", ")))
            .hint("put the name into [server] of quoll.toml, then: quoll server renew"));
    }
    let fingerprint = match certificate.rsa_public_key() {
        Some((n, e)) => Fingerprint::of_rsa(&n, &e)
            .map_err(|error| Failure::new(Exit::Unusable, "the server's key has no fingerprint").why(error))?
            .bytes(),
        None => [0; 20],
    };
    let ca_kind = if pki.ca().has_ec_key() { CaKind::Ec } else { CaKind::Rsa };
    Ok(BrokerTarget {
        host,
        port: settings.device_port(),
        ca_kind,
        server_fingerprint: fingerprint,
        pinned_port: settings.pinned_port(),
    })
}

pub(crate) fn failure(error: EnrolError) -> Failure {
    let exit = match &error {
        EnrolError::NoTls { .. }
        | EnrolError::NoTlsKey { .. }
        | EnrolError::NoEcdsa { .. }
        | EnrolError::WouldLower { .. } => Exit::Firmware,
        EnrolError::NameInUse(_)
        | EnrolError::Revoked { .. }
        | EnrolError::OtherName { .. }
        | EnrolError::SharedTopics { .. }
        | EnrolError::SharedClientId { .. }
        | EnrolError::NoPinnedDoor { .. }
        | EnrolError::NoPin { .. }
        | EnrolError::OldPassword { .. }
        | EnrolError::Target(_)
        | EnrolError::Credential(_) => Exit::Unusable,
        EnrolError::Issue(_) => Exit::Unusable,
        EnrolError::Registry(_) => Exit::Unusable,
        EnrolError::NotProven { .. } | EnrolError::Busy { .. } | EnrolError::BrokerNotReady { .. } => {
            Exit::Partial
        }
        _ => Exit::Device,
    };
    Failure::new(exit, &error).maybe_hint(error.hint())
}

/// The running node, asked over the local socket.
pub(crate) struct NodeWitness<'a> {
    pub(crate) home: &'a Home,
}

#[async_trait]
impl Witness for NodeWitness<'_> {
    async fn wait_for(&self, serial: &str, within: Duration) -> Result<Sighting, WitnessError> {
        let no_broker = |why: String| WitnessError::NoBroker { why };
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let question = Question::WaitFor { serial: serial.to_owned(), within_ms };
        match control::ask(self.home, &question).await {
            Ok(Some(Answer::Seen(seen))) => {
                let at = i128::from(seen.since_ms) * 1_000_000;
                let at = OffsetDateTime::from_unix_timestamp_nanos(at).unwrap_or(OffsetDateTime::UNIX_EPOCH);
                Ok(Sighting { client_id: seen.client_id, address: seen.address, at })
            }
            Ok(Some(Answer::NotSeen { failed })) => Err(WitnessError::NotSeen {
                serial: serial.to_owned(),
                within,
                refused: failed.last().cloned(),
            }),
            Ok(Some(Answer::Failed { why })) => Err(no_broker(why)),
            Ok(Some(_)) => Err(no_broker("it answered another question".into())),
            Ok(None) => Err(no_broker("none is running on this folder".into())),
            Err(error) => Err(no_broker(error.to_string())),
        }
    }

    async fn ready(&self) -> Result<(), WitnessError> {
        // Asked before a device is changed: the node must know the new certificate when the device comes.
        match control::ask(self.home, &Question::Changed).await {
            Ok(Some(Answer::InForce { .. })) => Ok(()),
            Ok(Some(Answer::Failed { why })) => Err(WitnessError::NoBroker { why }),
            Ok(Some(_)) => Err(WitnessError::NoBroker { why: "it answered another question".into() }),
            Ok(None) => Err(WitnessError::NoBroker { why: "none is running on this folder".into() }),
            Err(error) => Err(WitnessError::NoBroker { why: error.to_string() }),
        }
    }
}

/// One line for each step that is over.
pub(crate) struct Lines<F> {
    pub(crate) say: F,
}

impl<F: Fn(&str) + Send + Sync> Reporter for Lines<F> {
    fn step(&self, step: Step, state: StepState) {
        let (mark, text) = match &state {
            StepState::Begun => return,
            StepState::Done(text) => ("ok", text),
            StepState::Skipped(text) => ("--", text),
            StepState::Failed(text) => ("!!", text),
        };
        (self.say)(format!("{mark}  {:<42} {}", step.title(), shown(text)).trim_end());
    }
}
