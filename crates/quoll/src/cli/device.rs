//! `quoll device`: the devices we own.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use quoll_fleet::access_list::device_access;
use quoll_fleet::device::{Device as Entry, DeviceName};
use quoll_fleet::enrol::WantedRung;
use quoll_fleet::registry::{Owner, Registry};
use quoll_pki::RevocationReason;
use quoll_tasmota::Mac;
use serde_json::{Value, json};

use super::{Common, ServerArgs, confirm};
use crate::control::{self, Answer, Question, Seen};
use crate::enrolment::{self, Desk, Wish, device_name};
use crate::failure::{Exit, Failure, Outcome};
use crate::home::Home;
use crate::output::{Format, Listing, print, print_facts};
use crate::workshop::Workshop;
use crate::{bell, dates, printed, revocation, trouble};

/// The devices we own.
#[derive(Debug, Subcommand)]
pub(crate) enum Device {
    /// Give a Tasmota device its own key and certificate, and point it at the broker
    #[command(after_help = "Examples:\n  quoll device add kitchen --at 192.168.1.40\n  \
        quoll device add kitchen --at 192.168.1.40 --dry-run\n  \
        quoll device add kitchen --serial /dev/ttyUSB0\n  \
        quoll device add stock-esp32 --at 192.168.1.41 --rung pinned\n  \
        quoll device add kitchen --print --reveal --mac A0:B1:C2:D3:E4:F5\n  \
        quoll device add porch --rung pinned --print --reveal --mac A0:B1:C2:D3:E4:F6\n\n\
        The broker must be running (quoll up). A run that was interrupted is continued by the same command.")]
    Add(Add),
    /// Find devices in a range of addresses, in a list, or on an existing broker, and say what each can become
    #[command(after_help = "Examples:\n  quoll device find --range 192.168.1.0/24\n  \
        quoll device find --csv devices.csv --output json\n  \
        quoll device find --mqtt 192.168.1.5:1883 --user me --password-file pw\n\n\
        Nothing is changed on any device. A range must be private; it is asked at 100 addresses a second.")]
    Find(super::find::Find),
    /// List the devices, and who of them is online
    #[command(after_help = "Example:\n  quoll device list --output json")]
    List,
    /// Show all that is known about a device
    #[command(after_help = "Example:\n  quoll device show kitchen")]
    Show {
        /// The device's name
        name: String,
    },
    /// Take a device's certificate back; its connection ends at once and it cannot come back
    #[command(after_help = "Example:\n  quoll device revoke kitchen --reason keyCompromise --yes")]
    Revoke(Revoke),
    /// Take a device out of the list; its certificate is revoked and does not come back
    #[command(
        after_help = "Example:\n  quoll device remove kitchen --yes\n\nIts name and its hardware may be used anew: \
        quoll device add. Only its certificate is gone for good."
    )]
    Remove(super::device_remove::Remove),
    /// Cut a device off and keep it out until it is released; its certificate stays valid
    #[command(after_help = "Example:\n  quoll device quarantine kitchen --reason \"talks to strangers\"")]
    Quarantine(super::device_quarantine::Quarantine),
    /// Let a device in again that was in quarantine
    #[command(
        after_help = "Example:\n  quoll device release kitchen\n\nIt comes by itself, within two minutes."
    )]
    Release(super::device_quarantine::Release),
    /// List the certificates of this CA that came to the broker and are in no registry
    #[command(
        after_help = "Example:\n  quoll device pending\n\nWhat the broker does with them is [broker] unlisted_certificates \
        in quoll.toml: admit, pending, refuse."
    )]
    Pending,
    /// Make a certificate that is in no registry a device's, or a client's
    #[command(
        after_help = "Examples:\n  quoll device accept kitchen\n  quoll device accept kitchen --at 192.168.1.40 --as kitchen-plug\n  \
        quoll device accept kitchen --mac A0:B1:C2:D3:E4:F5 --topic kitchen\n  \
        quoll device accept nodered --client everything\n\n\
        The device is asked for its topics, which it is admitted for; nothing on it is changed."
    )]
    Accept(super::device_pending::Accept),
    /// Keep a certificate out that is in no registry
    #[command(
        after_help = "Examples:\n  quoll device reject old-laptop\n  quoll device reject 4F1C22 --revoke --yes\n\n\
        Without --revoke it can be accepted later."
    )]
    Reject(super::device_pending::Reject),
    /// Give living devices a new key and certificate, or on the pinned rung a new password
    #[command(
        after_help = "Examples:\n  quoll device rotate kitchen\n  quoll device rotate --expiring 30\n  quoll device rotate --all --at-once 4\n\n\
        The old one goes on opening the door until the broker has seen the new one; then it is revoked. Without that proof the \
        old key goes back. A run that was interrupted is continued by the same command."
    )]
    Rotate(super::device_rotate::Rotate),
    /// Give a device another name: certificate, topic, and all that is known of it
    #[command(
        after_help = "Example:\n  quoll device rename kitchen kitchen-plug\n\nIts topic follows where it was its name. What switches it must \
        know the new topic."
    )]
    Rename(super::device_rename::Rename),
    /// Put new hardware in the place of a device that died, under its name and topic
    #[command(
        after_help = "Example:\n  quoll device replace kitchen --at 192.168.1.77 --yes\n\nThe new hardware is asked before the old \
        one's certificate is revoked."
    )]
    Replace(super::device_replace::Replace),
    /// Ask devices how they stand: keys lost in an update, another broker, other hardware
    #[command(
        after_help = "Examples:\n  quoll device check kitchen\n  quoll device check --all --output json\n\nNothing is changed. Ends with 4 \
        where a device needs a hand."
    )]
    Check(super::device_check::Check),
    /// Bring a device of ours back: its settings, its key and certificate, or new ones
    #[command(
        after_help = "Example:\n  quoll device repair kitchen\n\nAfter an update that lost its keys, or a change of its settings. It is \
        done when the broker has seen it."
    )]
    Repair(super::device_check::Repair),
}

/// `quoll device add`.
#[derive(Args, Debug)]
pub(crate) struct Add {
    /// The device's name: letters, digits, and - _ . between them; the common name of its certificate
    name: String,
    /// Where its web console is
    #[arg(long, value_name = "HOST[:PORT]", required_unless_present_any = ["serial", "print"])]
    at: Option<String>,
    /// Its serial port: the key goes over the cable and never over the air. With --at, too, what is no secret and does
    /// not fit the line goes over the web console
    #[arg(long, value_name = "/dev/TTY")]
    serial: Option<PathBuf>,
    /// Issue and register, and print the console lines to be pasted by hand
    #[arg(long, conflicts_with_all = ["serial", "dry_run", "replace_key"])]
    print: bool,
    /// Print the key, or the password, itself
    #[arg(long, requires = "print")]
    reveal: bool,
    /// The MAC of a new device whose lines are printed
    #[arg(long, value_name = "MAC", requires = "print")]
    mac: Option<Mac>,
    /// The topic of a device whose lines are printed [default: the factory's]
    #[arg(long, value_name = "TOPIC", requires = "print")]
    topic: Option<String>,
    /// A file with the device's web password on its first line
    #[arg(long, value_name = "FILE")]
    web_password_file: Option<PathBuf>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace a key on the device that is not from us
    #[arg(long)]
    replace_key: bool,
    /// Allow topics that overlap with another device's
    #[arg(long)]
    share_topics: bool,
    /// How well it is to be secured: pinned (TLS, the broker's key pinned, a password of its own: what released ESP32
    /// images can do), mutual (a certificate: needs an image of one's own), auto (the highest that its firmware can do;
    /// never lower than it was)
    #[arg(long, value_name = "RUNG", default_value = "auto", value_parser = rung)]
    rung: WantedRung,
    /// A file with its MQTT password at its old broker on its first line: to give it back where it is not proven
    #[arg(long, value_name = "FILE")]
    old_password_file: Option<PathBuf>,
    /// Do without that password: on the way back it is to be typed in by hand
    #[arg(long)]
    lose_old_password: bool,
}

pub(super) fn rung(text: &str) -> Result<WantedRung, String> {
    WantedRung::from_word(text).ok_or_else(|| "one of auto, pinned, mutual".to_owned())
}

/// How something is revoked.
#[derive(Args, Debug)]
pub(crate) struct RevokeArgs {
    /// The reason, in Easy-RSA's words: unspecified, keyCompromise, affiliationChanged, superseded,
    /// cessationOfOperation
    #[arg(long, default_value = "unspecified", value_parser = parse_reason)]
    pub(crate) reason: RevocationReason,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `quoll device revoke`.
#[derive(Args, Debug)]
pub(crate) struct Revoke {
    /// The device's name
    name: String,
    #[command(flatten)]
    how: RevokeArgs,
}

pub(super) fn parse_reason(text: &str) -> Result<RevocationReason, String> {
    text.parse().map_err(|error: quoll_pki::RevocationReasonError| error.to_string())
}

impl Device {
    pub(crate) async fn run(&self, common: &Common) -> Outcome {
        match self {
            Self::Add(add) => add.run(common).await,
            Self::Find(find) => find.run(common).await,
            Self::List => list(common).await,
            Self::Show { name } => show(common, name).await,
            Self::Revoke(revoke) => {
                let name = device_name(&revoke.name)?;
                find(common, &name)?;
                confirm(
                    revoke.how.yes,
                    &format!("Revoke {name}? It will be cut off at once, and this cannot be undone."),
                )?;
                revocation::revoke(common, &Owner::Device(name), &revoke.how).await
            }
            Self::Remove(remove) => remove.run(common).await,
            Self::Quarantine(quarantine) => quarantine.run(common).await,
            Self::Release(release) => release.run(common).await,
            Self::Pending => super::device_pending::pending(common),
            Self::Accept(accept) => accept.run(common).await,
            Self::Reject(reject) => reject.run(common).await,
            Self::Rotate(rotate) => rotate.run(common).await,
            Self::Rename(rename) => rename.run(common).await,
            Self::Replace(replace) => replace.run(common).await,
            Self::Check(check) => check.run(common).await,
            Self::Repair(repair) => repair.run(common).await,
        }
    }
}

impl Add {
    async fn run(&self, common: &Common) -> Outcome {
        let home = common.home()?;
        let settings = common.settings(&home, &ServerArgs::default())?;
        let wish = Wish {
            name: self.name.clone(),
            at: self.at.clone().unwrap_or_default(),
            serial: self.serial.clone(),
            topic: self.topic.clone(),
            web_password_file: self.web_password_file.clone(),
            host: None,
            replace_key: self.replace_key,
            share_topics: self.share_topics,
            rung: self.rung,
            old_password_file: self.old_password_file.clone(),
            lose_old_password: self.lose_old_password,
        };
        let mut workshop = Workshop::open(&settings, common.passphrase(&home))?;
        if self.dry_run {
            let plan = enrolment::plan(&home, &settings, &workshop, &wish)?;
            return print(&format!("{plan}nothing was changed (--dry-run)\n"));
        }
        let desk = Desk::open(&home, &settings, &mut workshop)?;
        if self.print {
            return self.print_lines(&home, &desk, &wish).await;
        }
        let enrolled = enrolment::enrol(&desk, &wish, |line| eprintln!("  {line}")).await?;
        for note in &enrolled.notes {
            eprintln!("quoll: note: {note}");
        }
        let device = &enrolled.device;
        let facts = [
            ("name", "Device", json!(device.name.as_str())),
            ("rung", "Rung", json!(device.rung.as_str())),
            ("client_id", "Client id", json!(enrolled.sighting.client_id)),
            ("connected_from", "Connected from", json!(enrolled.sighting.address)),
            ("certificate_serial", "Certificate", json!(device.serial)),
            ("expires", "Valid until", json!(device.expires.map(dates::stamp))),
        ];
        // A pinned device has no certificate to speak of.
        let shown = if device.serial.is_some() || common.output != Format::Table { 6 } else { 4 };
        print_facts(&facts[..shown], common.output)
    }
}

impl Add {
    async fn print_lines(&self, home: &Home, desk: &Desk, wish: &Wish) -> Outcome {
        let printed = printed::print(desk, wish, self.mac, self.reveal).await?;
        bell::ring(home).await?;
        for note in &printed.notes {
            eprintln!("quoll: note: {note}");
        }
        printed.lines.iter().try_for_each(|line| {
            print(line)?;
            print("\n")
        })
    }
}

/// The devices of a home; none where there is no registry yet.
fn devices(home: &Home) -> Outcome<Vec<Entry>> {
    if !home.fleet_db().exists() {
        return Ok(Vec::new());
    }
    let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?;
    registry.devices().map_err(trouble::registry)
}

/// Who is connected, if a node runs.
async fn connections(home: &Home) -> Vec<Seen> {
    match control::ask(home, &Question::Status).await {
        Ok(Some(Answer::Status(status))) => status.connections,
        Ok(None) => Vec::new(),
        other => {
            eprintln!("quoll: note: the running node does not say who is online: {other:?}");
            Vec::new()
        }
    }
}

fn connection<'a>(device: &Entry, connections: &'a [Seen]) -> Option<&'a Seen> {
    let serial = device.serial.as_deref();
    // A pinned device is known at the door by its name.
    let by_name = |seen: &&Seen| seen.name == device.name.as_str() && seen.serial.is_some();
    let by_serial = connections.iter().find(|seen| serial.is_some() && seen.serial.as_deref() == serial);
    by_serial.or_else(|| connections.iter().find(by_name))
}

/// Where it is in its life, unless it is kept out.
fn state(device: &Entry) -> &'static str {
    if device.quarantine.is_some() && device.state.admits() { "quarantined" } else { device.state.as_str() }
}

async fn list(common: &Common) -> Outcome {
    let home = common.home()?;
    let devices = devices(&home)?;
    let connections = if devices.is_empty() { Vec::new() } else { connections(&home).await };
    let mut listing = Listing::new(
        &[
            ("name", "DEVICE"),
            ("rung", "RUNG"),
            ("state", "STATE"),
            ("online", "ONLINE"),
            ("address", "ADDRESS"),
            ("certificate_serial", "CERTIFICATE"),
            ("expires", "EXPIRES"),
            ("problem", "PROBLEM"),
        ],
        "no devices yet; add one with: quoll device add NAME --at ADDRESS",
    );
    for device in devices {
        let day = |at| if common.output == Format::Table { dates::day(at) } else { dates::stamp(at) };
        listing.row(vec![
            json!(device.name.as_str()),
            json!(device.rung.as_str()),
            json!(state(&device)),
            json!(connection(&device, &connections).is_some()),
            json!(device.address.to_string()),
            json!(device.serial),
            json!(device.expires.map(day)),
            json!(device.problem),
        ]);
    }
    listing.print(common.output)
}

pub(super) fn find(common: &Common, name: &DeviceName) -> Outcome<Entry> {
    let known = devices(&common.home()?)?.into_iter().find(|device| device.name == *name);
    known.ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("there is no device {name}"))
            .hint("`quoll device list` shows them")
    })
}

async fn show(common: &Common, name: &str) -> Outcome {
    let home = common.home()?;
    let device = find(common, &device_name(name)?)?;
    let connections = connections(&home).await;
    let seen = connection(&device, &connections);
    let access = device_access(&device).map_err(|error| {
        Failure::new(Exit::Unusable, format!("the topics of {name} cannot be used"))
            .why(&error)
            .maybe_hint(error.hint())
    })?;
    let facts = [
        ("name", "Device", json!(device.name.as_str())),
        ("rung", "Rung", json!(device.rung.as_str())),
        ("state", "State", json!(state(&device))),
        ("online", "Online", json!(seen.is_some())),
        ("connected_from", "Connected from", json!(seen.map(|seen| &seen.address))),
        ("address", "Console", json!(device.address.to_string())),
        ("mac", "MAC", json!(device.mac.to_string())),
        ("chip", "Chip", json!(device.chip)),
        ("firmware", "Firmware", json!(device.firmware)),
        ("topic", "Topic", json!(device.topics.topic)),
        ("client_id", "Client id", json!(device.topics.client_id)),
        ("certificate_serial", "Certificate", json!(device.serial)),
        ("expires", "Valid until", json!(device.expires.map(dates::stamp))),
        ("first_seen", "First seen", json!(dates::stamp(device.first_seen))),
        ("last_seen", "Last seen", json!(device.last_seen.map(dates::stamp))),
        ("publish", "May publish", json!(access.publish)),
        ("subscribe", "May subscribe", json!(access.subscribe)),
        ("problem", "Problem", device.problem.as_ref().map_or(Value::Null, |problem| json!(problem))),
    ];
    print_facts(&facts, common.output)
}
