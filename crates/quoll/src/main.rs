//! The program: verbs, configuration, wiring. No rules of its own.
//!
//! | room | what is in it |
//! |---|---|
//! | [`cli`] | the command line, a file for each verb |
//! | [`home`], [`config`], [`machine`], [`passphrase`] | where things live, what is set, what can be found out |
//! | [`workshop`], [`signer`], [`enrolment`], [`life`], [`serial_road`], [`printed`], [`revocation`] | acts on the CA and on devices; never in the broker's process |
//! | [`node`] | a running node: the one file where the two wings are joined; [`directory`], [`refusals`], [`denials`], [`unlisted`], [`absence`], [`telemetry`] |
//! | [`import`] | an Easy-RSA folder and a Mosquitto of somebody's, taken over |
//! | [`rollover`] | a change of the CA under way: who can do without the old one |
//! | [`audit`], [`expiry`] | acts on the CA written down; what ends when |
//! | [`announcements`], [`device_list`] | where devices are found: an existing broker, a CSV file |
//! | [`broker`] | a broker alone, set up by a mosquitto.conf |
//! | [`mosquitto`] | the Mosquitto that somebody has already, set up with our certificates |
//! | [`doctor`], [`encounters`] | what the doctor judges by; what the node saw at its door |
//! | [`control`], [`bell`] | the local socket between a node and the commands |
//! | [`live_table`], [`dashboard`], [`output`] | what a person sees |
//! | [`failure`], [`trouble`], [`dates`] | how a command ends badly; how dates are written |
//! | [`virtual_fleet`], [`simulation`] | devices to rehearse on, beside the broker or against any |

/// As the standard library's, but an act is not broken off because nobody reads what it says (`2>&1 | head`, a full disk).
macro_rules! eprintln {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        writeln!(std::io::stderr(), $($text)*).ok();
    }};
}

mod absence;
mod announcements;
mod audit;
mod bell;
mod broker;
mod cli;
mod config;
mod control;
mod dashboard;
mod dates;
mod denials;
mod device_list;
mod directory;
mod doctor;
mod encounters;
mod enrolment;
mod expiry;
mod failure;
mod home;
mod import;
mod life;
mod live_table;
mod machine;
mod mosquitto;
mod node;
mod output;
mod passphrase;
mod printed;
mod refusals;
mod revocation;
mod rollover;
mod serial_road;
mod signer;
mod simulation;
mod telemetry;
mod trouble;
mod unlisted;
mod virtual_fleet;
mod workshop;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Common, Verb};
use crate::failure::{Exit, Failure, Outcome};
use crate::live_table::LogSink;

fn main() -> ExitCode {
    no_core_dumps();
    let cli = Cli::parse();
    match &cli.verb {
        // It changes its account while there is one thread, and has a log of its own.
        Verb::Broker(verb) => match verb.prepare() {
            Ok(None) => ExitCode::SUCCESS,
            Ok(Some(broker)) => in_runtime(broker.run()),
            Err(failure) => failure.report(),
        },
        verb => {
            let sink = LogSink::default();
            log_to(&sink);
            in_runtime(run(&cli.common, verb, sink))
        }
    }
}

fn in_runtime(work: impl Future<Output = Outcome>) -> ExitCode {
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::System, "cannot start").why(error))
        .and_then(|runtime| runtime.block_on(work));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(common: &Common, verb: &Verb, sink: LogSink) -> Outcome {
    match verb {
        Verb::Up(up) => up.run(common, sink).await,
        // It never comes here: see `main`.
        Verb::Broker(_) => Ok(()),
        Verb::Passwd(passwd) => passwd.run(),
        Verb::Mosquitto(mosquitto) => mosquitto.run(common),
        Verb::Device(device) => device.run(common).await,
        Verb::Fleet(fleet) => fleet.run(common).await,
        Verb::Client(client) => client.run(common).await,
        Verb::Ca(ca) => ca.run(common).await,
        Verb::Server(server) => server.run(common).await,
        Verb::Request(request) => request.run(common),
        Verb::Accept(accept) => accept.run(common).await,
        Verb::Simulate(simulate) => simulate.run(common).await,
        Verb::Firmware(firmware) => firmware.run(common),
        Verb::Import(import) => import.run(common),
        Verb::Acl(acl) => acl.run(common).await,
        Verb::Doctor(doctor) => doctor.run(common).await,
        Verb::Audit(audit) => audit.run(common),
        Verb::Sign(sign) => signer::run(common, sign).await,
        Verb::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "quoll", &mut text);
            output::print(&String::from_utf8_lossy(&text))
        }
    }
}

/// Keys are in memory: a crash must not write them to a disk.
fn no_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).ok();
}

/// Log lines go to standard error, chosen by `QUOLL_LOG` (for example `info`, or `quoll_server=debug`).
fn log_to(sink: &LogSink) {
    let filter = EnvFilter::try_from_env("QUOLL_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let sink = sink.clone();
    let line = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_ansi(false);
    line.with_writer(move || sink.clone()).init();
}
