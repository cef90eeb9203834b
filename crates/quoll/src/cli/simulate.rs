//! `quoll simulate`: virtual Tasmota devices against any broker, to rehearse on and to load it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use quoll_pki::{Certificate, PublicKeyKind};
use quoll_tasmota::virtual_device::{Chip, ClockFault, Faults, Firmware};
use zeroize::Zeroizing;

use super::{Common, ServerArgs};
use crate::failure::{Exit, Failure, Outcome, io_failure};
use crate::passphrase::a_person_is_there;
use crate::signer::Signer;
use crate::simulation::{Credentials, Link, Plan, Simulation};
use crate::{enrolment, workshop};

/// Most devices of one run: the local ports towards one broker end at 28,000.
const DEVICES_MAX: u32 = 20_000;
/// Most devices with a serial line: a system has some thousand pseudo-terminals for everybody.
const SERIAL_MAX: u32 = 100;
/// Longest file of keys that is read.
const KEY_FILE_BYTES: u64 = 16 * 1024;

/// `quoll simulate`.
#[derive(Args, Debug)]
pub(crate) struct Simulate {
    /// How many devices
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(DEVICES_MAX)))]
    devices: u32,
    /// Their chips; mixed is one of each in turn
    #[arg(long, value_enum, default_value_t = ChipArg::Mixed)]
    chip: ChipArg,
    /// Their firmware: stock (a released image), tls (built with TLS), or a release number such as 15.3 for an image
    /// built with client certificates
    #[arg(long, value_name = "FIRMWARE", default_value = "15.3", value_parser = FirmwareArg::parse)]
    firmware: FirmwareArg,
    /// The broker's host name or address; with TLS the name that its certificate must prove
    #[arg(long, value_name = "HOST")]
    host: String,
    /// The broker's port [default: 8883 with TLS, else 1883]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// TLS, trusting this CA as if it were compiled in (PEM, may be repeated)
    #[arg(long, value_name = "FILE")]
    ca: Vec<PathBuf>,
    /// A CA that is compiled in and not used yet: for devices that talk plainly now and are enrolled later
    #[arg(long, value_name = "FILE", conflicts_with = "ca")]
    trust: Vec<PathBuf>,
    /// TLS, pinning the server's key at the first connection, as a released ESP32 image can
    #[arg(long, conflicts_with_all = ["ca", "tlskeys", "provision"])]
    pin: bool,
    /// A folder of files with a TLSKey1 and a TLSKey2 line each, for the devices in turn
    #[arg(long, value_name = "DIR", requires = "ca", conflicts_with = "provision")]
    tlskeys: Option<PathBuf>,
    /// Enrol them with the CA and the running node of --home, as if they were real; needs --serve-http
    #[arg(long, requires = "serve_http")]
    provision: bool,
    /// The MQTT user name that they send
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A file with the MQTT password on its first line
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// Serve their web consoles on this machine, each on a port of its own from this one on
    #[arg(long, value_name = "127.0.0.1:PORT")]
    serve_http: Option<SocketAddr>,
    /// Give each a serial line, a pseudo-terminal (100 devices at most)
    #[arg(long)]
    serial: bool,
    /// What is wrong with them: power-cut, ota-key-loss, wrong-clock[=SECONDS], weak-wifi[=SECONDS],
    /// crash-on-refusal, no-memory, leak, little-memory, hang, impostor, isolated, held-restart, no-pings,
    /// reboots[=SECONDS]
    #[arg(long, value_name = "FAULT,…", value_delimiter = ',')]
    faults: Vec<String>,
    /// How many of a hundred devices have the faults
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u8).range(0..=100))]
    faulty: u8,
    /// A factor for the pauses of the devices: 1 as real ones, 0.1 for ten times as fast
    #[arg(long, value_name = "F", default_value_t = 1.0, value_parser = parse_pace)]
    pace: f64,
    /// Seconds between telemetry messages; 0 for none
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u16).range(0..=3600))]
    tele_period: u16,
    /// Devices that are switched on in a second
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// The number of the first device, so that several runs can share a broker
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=16_000_000))]
    first: u32,
    /// Stop after so many seconds [default: when told to]
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum ChipArg {
    Esp8266,
    Esp32,
    Mixed,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct FirmwareArg {
    kind: Firmware,
    version: String,
}

impl FirmwareArg {
    fn parse(text: &str) -> Result<Self, String> {
        let release = |kind| Self { kind, version: "15.3.0".into() };
        match text {
            "stock" => return Ok(release(Firmware::Stock)),
            "tls" => return Ok(release(Firmware::TlsOnly)),
            _ => {}
        }
        let numbers: Vec<Option<u8>> = text.split('.').map(|part| part.parse().ok()).collect();
        match numbers.as_slice() {
            [Some(major), Some(minor)] => {
                Ok(Self { kind: Firmware::ClientCert, version: format!("{major}.{minor}.0") })
            }
            [Some(_), Some(_), Some(_)] | [Some(_), Some(_), Some(_), Some(_)] => {
                Ok(Self { kind: Firmware::ClientCert, version: text.into() })
            }
            _ => Err("stock, tls, or a release such as 15.3".into()),
        }
    }
}

fn parse_pace(text: &str) -> Result<f64, String> {
    let pace: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.001..=10.0).contains(&pace) { Ok(pace) } else { Err("from 0.001 to 10".into()) }
}

impl Simulate {
    pub(crate) async fn run(&self, common: &Common) -> Outcome {
        let mut plan = self.plan()?;
        if !self.provision {
            return Simulation::start(plan).await?.watch(common.output, self.limit()).await;
        }
        let home = common.home()?;
        let settings = common.settings(&home, &ServerArgs::default())?;
        if plan.port != settings.device_port() {
            let port = settings.device_port();
            return Err(Failure::new(
                Exit::Usage,
                format!("--port {}: devices of this home use {port}", plan.port),
            )
            .hint(format!("give --port {port}, or another --home")));
        }
        plan.anchors.extend(workshop::anchors(&settings)?.iter().map(|ca| ca.der().to_vec()));
        let mut simulation = Simulation::start(plan).await?;
        let mut signer =
            Signer::start(common, &home, &settings, &ServerArgs::default(), a_person_is_there())?;
        let enrolled = simulation.enrol(&mut signer).await;
        signer.end().await;
        enrolled?;
        simulation.watch(common.output, self.limit()).await
    }

    fn limit(&self) -> Option<Duration> {
        self.seconds.map(Duration::from_secs)
    }

    /// Everything checked and read, before any device is switched on.
    fn plan(&self) -> Outcome<Plan> {
        let link = self.link();
        self.check_abilities(link)?;
        if let Some(address) = self.serve_http {
            let last = u32::from(address.port()) + self.devices - 1;
            if !address.ip().is_loopback() {
                return Err(usage(format!("--serve-http {address}: that is not a loopback address"))
                    .why("these consoles have no password, so they are for this machine alone"));
            }
            if address.port() == 0 || last > u32::from(u16::MAX) {
                return Err(usage(format!(
                    "--serve-http {address}: {} consoles need ports up to {last}",
                    self.devices
                )));
            }
        }
        if self.serial && self.devices > SERIAL_MAX {
            return Err(usage(format!("--serial is for {SERIAL_MAX} devices at most")));
        }
        let port = self.port.unwrap_or(if link == Link::Plain && !self.provision { 1883 } else { 8883 });
        let mut anchors = Vec::new();
        let mut has_ec_root = false;
        for file in self.ca.iter().chain(&self.trust) {
            let certificate = read_ca(file)?;
            has_ec_root |= certificate.key_kind() == PublicKeyKind::EcP256;
            anchors.push(certificate.der().to_vec());
        }
        let password = self.password_file.as_deref().map(enrolment::read_password).transpose()?;
        Ok(Plan {
            devices: self.devices,
            first: self.first,
            chips: match self.chip {
                ChipArg::Esp8266 => vec![Chip::Esp8266],
                ChipArg::Esp32 => vec![Chip::Esp32],
                ChipArg::Mixed => vec![Chip::Esp32, Chip::Esp8266],
            },
            firmware: self.firmware.kind,
            version: self.firmware.version.clone(),
            host: self.host.clone(),
            port,
            link,
            anchors,
            has_ec_root,
            credentials: self.tlskeys.as_deref().map(read_keys).transpose()?.unwrap_or_default(),
            provision: self.provision,
            login: self.user.clone().map(|user| (user, password)),
            http: self.serve_http,
            serial: self.serial,
            faults: faults(&self.faults)?,
            faulty: self.faulty,
            pace: self.pace,
            tele_period: self.tele_period,
            rate: self.rate,
        })
    }

    fn link(&self) -> Link {
        match (self.pin, self.ca.is_empty()) {
            (true, _) => Link::Pinned,
            (false, false) => Link::Ca,
            (false, true) => Link::Plain,
        }
    }

    /// Refuses what no such firmware can do, instead of devices that quietly do something else.
    fn check_abilities(&self, link: Link) -> Outcome {
        let firmware =
            |what: &str, why: &str, hint: &str| Err(Failure::new(Exit::Firmware, what).why(why).hint(hint));
        if link != Link::Plain && self.firmware.kind == Firmware::Stock && self.chip != ChipArg::Esp32 {
            return firmware(
                "a released ESP8266 image cannot do TLS",
                "none of them is built with USE_MQTT_TLS",
                "use --chip esp32, --firmware tls, or a release such as --firmware 15.3",
            );
        }
        if link == Link::Ca && self.firmware.kind == Firmware::Stock {
            return firmware(
                "a released image cannot trust a CA of one's own",
                "trust anchors are compiled in",
                "use --pin, --firmware tls, or a release such as --firmware 15.3",
            );
        }
        if (self.tlskeys.is_some() || self.provision) && self.firmware.kind != Firmware::ClientCert {
            return firmware(
                "this firmware has no TLSKey",
                "only an image built with USE_MQTT_CLIENT_CERT has",
                "use a release such as --firmware 15.3",
            );
        }
        Ok(())
    }
}

fn usage(what: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Usage, what)
}

fn read_ca(file: &Path) -> Outcome<Certificate> {
    let text = std::fs::read(file).map_err(|error| io_failure("read", file, &error))?;
    Certificate::from_pem(&text).map_err(|error| {
        Failure::new(Exit::Unusable, format!("{} has no certificate", file.display())).why(error)
    })
}

/// Every file of the folder that has both lines, in the order of their names.
fn read_keys(folder: &Path) -> Outcome<Vec<Credentials>> {
    let failed = |error| io_failure("read", folder, &error);
    let files: BTreeSet<PathBuf> = std::fs::read_dir(folder)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    let mut credentials = Vec::new();
    for file in files {
        let meta = std::fs::metadata(&file).map_err(|error| io_failure("read", &file, &error))?;
        if !meta.is_file() || meta.len() > KEY_FILE_BYTES {
            continue;
        }
        let text =
            std::fs::read(&file).map(Zeroizing::new).map_err(|error| io_failure("read", &file, &error))?;
        let Ok(text) = std::str::from_utf8(&text) else { continue };
        let line = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.trim().split_once(' '));
            let value = lines.find(|(word, _)| word.eq_ignore_ascii_case(name))?.1.trim();
            (value.len() >= 40).then(|| Zeroizing::new(value.to_owned()))
        };
        if let (Some(key), Some(certificate)) = (line("TLSKey1"), line("TLSKey2")) {
            credentials.push(Credentials { key, certificate });
        }
    }
    if credentials.is_empty() {
        return Err(Failure::new(Exit::Unusable, format!("{} has no keys", folder.display()))
            .why("no file in it has both a line TLSKey1 … and a line TLSKey2 …")
            .hint("quoll device add NAME --mac MAC --print --reveal > FOLDER/NAME.txt writes such a file"));
    }
    Ok(credentials)
}

fn faults(words: &[String]) -> Outcome<Faults> {
    let mut faults = Faults::default();
    for word in words {
        let (name, value) =
            word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
        let bad = || {
            usage(format!("--faults {word}: there is no such fault")).hint(
                "power-cut, ota-key-loss, wrong-clock[=SECONDS], weak-wifi[=SECONDS], crash-on-refusal, \
                 no-memory, leak, little-memory, hang, impostor, isolated, held-restart, no-pings, reboots[=SECONDS]",
            )
        };
        match (name, value) {
            ("power-cut", None) => faults.dies_after = Some("TLSKey1".into()),
            ("ota-key-loss", None) => faults.forgets_keys_on_upgrade = true,
            ("wrong-clock", None) => faults.clock = ClockFault::Unset,
            ("wrong-clock", Some(by)) => faults.clock = ClockFault::Wrong(by.parse().map_err(|_| bad())?),
            ("weak-wifi", by) => {
                let seconds: u32 = by.unwrap_or("60").parse().ok().filter(|by| *by > 0).ok_or_else(bad)?;
                faults.weak_wifi = Some(Duration::from_secs(seconds.into()));
            }
            ("crash-on-refusal", None) => faults.crashes_on_refusal = true,
            ("no-memory", None) => faults.no_memory = true,
            ("leak", None) => faults.leaks_memory = true,
            ("little-memory", None) => faults.little_memory = true,
            ("isolated", None) => faults.isolated = true,
            ("held-restart", None) => faults.holds_restarts = true,
            ("no-pings", None) => faults.sends_no_pings = true,
            ("reboots", after) => {
                let seconds: u32 = after.unwrap_or("60").parse().ok().filter(|it| *it > 0).ok_or_else(bad)?;
                faults.reboots = Some(Duration::from_secs(seconds.into()));
            }
            ("hang", None) => faults.hangs = true,
            ("impostor", None) => faults.impostor = Some("lighttpd/1.4".into()),
            _ => return Err(bad()),
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_firmware_is_a_kind_or_a_release() {
        for (text, kind, version) in [
            ("stock", Firmware::Stock, "15.3.0"),
            ("tls", Firmware::TlsOnly, "15.3.0"),
            ("15.3", Firmware::ClientCert, "15.3.0"),
            ("14.4.1.4", Firmware::ClientCert, "14.4.1.4"),
        ] {
            assert_eq!(FirmwareArg::parse(text).unwrap(), FirmwareArg { kind, version: version.into() });
        }
        for text in ["", "15", "15.x", "1.2.3.4.5", "TLS"] {
            assert!(FirmwareArg::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn faults_are_read_or_named() {
        let read = |text: &str| faults(&text.split(',').map(str::to_owned).collect::<Vec<_>>());
        let both = read("power-cut,weak-wifi=5,wrong-clock=-90").unwrap();
        assert_eq!(both.dies_after.as_deref(), Some("TLSKey1"));
        assert_eq!(both.weak_wifi, Some(Duration::from_secs(5)));
        assert_eq!(both.clock, ClockFault::Wrong(-90));
        for text in ["fire", "power-cut=1", "weak-wifi=0", "wrong-clock=soon", ""] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }
}
