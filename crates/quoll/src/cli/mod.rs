//! The command line: what may be said. Each verb has its file; what all verbs share is here.

pub(crate) mod accept;
pub(crate) mod acl;
pub(crate) mod audit;
pub(crate) mod broker;
pub(crate) mod ca;
pub(crate) mod ca_check;
pub(crate) mod ca_expiring;
pub(crate) mod ca_issue;
pub(crate) mod ca_life;
pub(crate) mod ca_rollover;
pub(crate) mod client;
pub(crate) mod client_files;
pub(crate) mod device;
pub(crate) mod device_check;
pub(crate) mod device_pending;
pub(crate) mod device_quarantine;
pub(crate) mod device_remove;
pub(crate) mod device_rename;
pub(crate) mod device_replace;
pub(crate) mod device_rotate;
pub(crate) mod doctor;
mod doctor_fix;
pub(crate) mod find;
pub(crate) mod firmware;
pub(crate) mod firmware_lint;
pub(crate) mod fleet;
pub(crate) mod fleet_provision;
pub(crate) mod fleet_report;
pub(crate) mod fleet_scan;
pub(crate) mod import;
pub(crate) mod mosquitto;
pub(crate) mod passwd;
pub(crate) mod request;
pub(crate) mod server;
pub(crate) mod server_key;
pub(crate) mod sign;
pub(crate) mod simulate;
pub(crate) mod up;

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{Overrides, Settings};
use crate::failure::{Exit, Failure, Outcome};
use crate::home::Home;
use crate::output::Format;
use crate::passphrase::PassphraseSource;

/// Your own MQTT server for Tasmota devices: CA, broker and devices in one program.
#[derive(Debug, Parser)]
#[command(name = "quoll", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Example:\n  quoll up --virtual 3      a CA, a broker and three virtual devices, all on this machine\n\n\
    Exit codes: 0 done, 1 system, 2 usage, 3 unusable file, 4 partial, 5 passphrase, 6 address,\n\
    7 device, 8 firmware, 9 not found, 10 unconfirmed, 11 unwell. More in docs/exit-codes.md."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What every verb understands.
#[derive(Args, Clone, Debug)]
pub(crate) struct Common {
    /// The folder that everything lives in [default: the XDG data folder's quoll/, or systemd's state folder]
    #[arg(long, value_name = "DIR", env = "QUOLL_HOME", global = true)]
    home: Option<PathBuf>,
    /// The Easy-RSA folder to work on [default: HOME/pki, or what quoll.toml says]
    #[arg(long, value_name = "DIR", global = true)]
    pki: Option<PathBuf>,
    /// A file with the CA's passphrase on its first line, readable by its owner alone
    #[arg(long, value_name = "FILE", env = "QUOLL_PASSPHRASE_FILE", global = true)]
    passphrase_file: Option<PathBuf>,
    /// How listings are written
    #[arg(long, value_enum, default_value_t = Format::Table, global = true)]
    pub(crate) output: Format,
}

/// A verb.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Start the broker; makes CA and server certificate where there are none
    Up(up::Up),
    /// Run a broker set up by a mosquitto.conf
    Broker(broker::Broker),
    /// Password files for a broker set up by a mosquitto.conf
    Passwd(passwd::Passwd),
    /// The Mosquitto that you have: setup, refresh
    #[command(subcommand)]
    Mosquitto(mosquitto::Mosquitto),
    /// Devices: add, list, show, keep out, change, revoke
    #[command(subcommand)]
    Device(device::Device),
    /// Many devices in one go: scan, plan, provision, report
    #[command(subcommand)]
    Fleet(Box<fleet::Fleet>),
    /// Certificates for people, Home Assistant, scripts: add, list, revoke
    #[command(subcommand)]
    Client(client::Client),
    /// The certificate authority: init, show, crl
    #[command(subcommand)]
    Ca(ca::Ca),
    /// The server's certificate, key and address: show, renew, key
    #[command(subcommand)]
    Server(server::Server),
    /// Ask a CA on another machine for certificates: keys are made here and stay here
    #[command(
        after_help = "Example:\n  quoll request --server --client hass --devices names.txt --out home.quollreq\n\nOn the CA's \
        machine: quoll ca sign home.quollreq; here again: quoll accept home.quollcert."
    )]
    Request(request::Request),
    /// Take in what the CA on another machine answered
    #[command(after_help = "Example:\n  quoll accept home.quollcert")]
    Accept(accept::Accept),
    /// Virtual Tasmota devices against any broker, to rehearse on and to load it
    #[command(
        after_help = "Examples:\n  quoll simulate --devices 3 --host 127.0.0.1 --serve-http 127.0.0.1:8101\n  \
        quoll simulate --devices 10000 --host 127.0.0.1 --rate 500 --seconds 60\n  \
        quoll simulate --devices 10 --host broker.lan --ca ca.crt --tlskeys keys/ --faults weak-wifi=30\n\n\
        Ends with 0 if every device was online at the end, else with 4. docs/virtual-devices.md has a rehearsal."
    )]
    Simulate(simulate::Simulate),
    /// What a Tasmota with your CA is compiled from: headers, override, environment; lint of an override
    #[command(
        after_help = "Examples:\n  quoll firmware --for esp8266 --tasmota 15.3\n  quoll firmware --for esp32 --source ~/Tasmota --ca \
        pki/ca.crt --ca new-ca.crt\n  quoll firmware --for esp32 --ca home.quollanchors --out kit\n  quoll firmware --for esp8266 \
        --trust fingerprint\n\nExit code 8 where no device with it would connect, with the reason; nothing is written then."
    )]
    Firmware(Box<firmware::Firmware>),
    /// Who may do what: show, learn, simulate, enforce, allow, withdraw, export
    #[command(subcommand)]
    Acl(acl::Acl),
    /// Take over an installation built by hand: its Easy-RSA folder, and its Mosquitto
    #[command(
        after_help = "Examples:\n  quoll --home /var/lib/quoll import --easyrsa ~/easy-rsa --mosquitto /etc/mosquitto --dry-run\n  \
        quoll --home /var/lib/quoll import --easyrsa ~/easy-rsa --mosquitto /etc/mosquitto\n\nAll of it or nothing; the files that are \
        there stay as they are. No passphrase is asked for."
    )]
    Import(import::Import),
    /// Why a device is not online, and what to do; without a device, the whole house
    #[command(
        after_help = "Examples:\n  quoll doctor kitchen\n  quoll doctor kitchen --fix\n  quoll doctor --output json\n\nExit code 11 \
        where something is not well. docs/doctor.md has all causes."
    )]
    Doctor(doctor::Doctor),
    /// Who did what to whom: show, verify
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Write completions for a shell to standard output
    #[command(after_help = "Example:\n  quoll completions bash > /etc/bash_completion.d/quoll")]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// The signing process that `up` starts; speaks JSON lines on standard input and output
    #[command(hide = true, name = "sign")]
    Sign(crate::signer::Sign),
}

/// What the server is to be reached by; `up`, `ca init` and `server` understand it.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ServerArgs {
    /// The name or address that devices are told to connect to
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// Listen for MQTT over mutual TLS here (may be repeated) [default: 0.0.0.0:8883]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Vec<SocketAddr>,
    /// Listen here for devices that cannot have a certificate: TLS, user and password (may be repeated) [default:
    /// 0.0.0.0:8884, or nowhere where --listen or quoll.toml say otherwise]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) pinned: Vec<SocketAddr>,
    /// Listen for plain MQTT here, too (may be repeated) [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) plain: Vec<SocketAddr>,
    /// Let anybody in on the plain listeners
    #[arg(long)]
    pub(crate) allow_anonymous: bool,
    /// Shard threads [default: one a core; the second opens under load]
    #[arg(long, value_name = "N")]
    pub(crate) shards: Option<usize>,
}

impl Common {
    /// The home folder.
    pub(crate) fn home(&self) -> Outcome<Home> {
        Home::choose(self.home.clone())
    }

    /// The settings in force.
    pub(crate) fn settings(&self, home: &Home, server: &ServerArgs) -> Outcome<Settings> {
        let overrides = Overrides {
            pki: self.pki.as_ref().map(std::path::absolute).transpose().map_err(|error| {
                Failure::new(Exit::Usage, "the folder of --pki cannot be found").why(error)
            })?,
            host: server.host.clone(),
            mqtts: server.listen.clone(),
            pinned: server.pinned.clone(),
            mqtt: server.plain.clone(),
            allow_anonymous: server.allow_anonymous,
            shards: server.shards,
        };
        Settings::load(home, &overrides)
    }

    /// Whether `--pki` says which folder is meant.
    pub(crate) fn names_folder(&self) -> bool {
        self.pki.is_some()
    }

    /// `--passphrase-file`.
    pub(crate) fn passphrase_file(&self) -> Option<&Path> {
        self.passphrase_file.as_deref()
    }

    /// Whether a person reads what is printed.
    pub(crate) fn is_for_people(&self) -> bool {
        self.output == Format::Table
    }

    /// Where the CA's passphrase comes from.
    pub(crate) fn passphrase(&self, home: &Home) -> PassphraseSource {
        PassphraseSource::new(self.passphrase_file.clone(), home)
    }
}

/// Asks before an act that cannot be undone; without a terminal `--yes` must have been said.
pub(crate) fn confirm(yes: bool, question: &str) -> Outcome {
    if yes {
        return Ok(());
    }
    let refused = |why: &str| {
        Err(Failure::new(Exit::Unconfirmed, "nothing was done").why(why).hint("say --yes if you mean it"))
    };
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return refused("this cannot be undone, and there is no terminal to ask on");
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    match (read, answer.trim().to_ascii_lowercase().as_str()) {
        (Ok(_), "y" | "yes") => Ok(()),
        _ => refused("the answer was no"),
    }
}

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Table, Self::Json, Self::Csv, Self::Ics, Self::Prometheus]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        use clap::builder::PossibleValue;
        Some(match self {
            Self::Table => PossibleValue::new("table"),
            Self::Json => PossibleValue::new("json"),
            Self::Csv => PossibleValue::new("csv"),
            // `ca expiring` alone knows these, and its help says so.
            Self::Ics => PossibleValue::new("ics").hide(true),
            Self::Prometheus => PossibleValue::new("prometheus").hide(true),
        })
    }
}
