//! `quoll broker`: a broker alone, set up by a mosquitto.conf, with Mosquitto's command line.

use std::path::PathBuf;

use clap::Args;

use crate::broker::{Broker as Running, Source};
use crate::failure::{Exit, Failure, Outcome};

#[derive(Args, Clone, Debug)]
#[command(after_help = "Example:\n  quoll broker -c /etc/mosquitto/mosquitto.conf --test-config\n  \
    quoll broker -c /etc/mosquitto/mosquitto.conf -v\n  quoll broker -p 1884       this machine only, everybody may come in\n\n\
    Signals: HUP reads configuration, certificates, revocation lists, passwords and permissions anew,\n\
    USR2 writes the subscriptions to the log, TERM and INT end it. Exit status 3 for a configuration\n\
    that cannot be used, 1 for most others. docs/mosquitto.md says how to move from Mosquitto.")]
pub(crate) struct Broker {
    /// A mosquitto.conf, read in place [default: none; port 1883 of this machine only, anonymous clients let in]
    #[arg(short = 'c', long = "config-file", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen on this port of this machine only (may be repeated); not with listeners in the file
    #[arg(short = 'p', long = "port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    ports: Vec<u16>,
    /// Log everything, whatever the file says
    #[arg(short = 'v', long)]
    verbose: bool,
    /// Log nothing, whatever the file and -v say
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Run in the background; what would be logged to the terminal goes to syslog
    #[arg(short = 'd', long = "daemon")]
    daemon: bool,
    /// Look whether configuration, certificates, passwords and permissions can be used; change nothing
    #[arg(long, requires = "config")]
    test_config: bool,
    /// Not there: a file with the keys of its TLS sessions opens all that is said to this broker
    #[arg(long, value_name = "FILE", hide = true)]
    tls_keylog: Option<PathBuf>,
    /// The background process of -d
    #[arg(long, hide = true, conflicts_with = "daemon")]
    detached: bool,
}

impl Broker {
    /// What has to happen while the process has one thread: see [`crate::broker::account`].
    pub(crate) fn prepare(&self) -> Outcome<Option<Running>> {
        if self.tls_keylog.is_some() {
            let what =
                "--tls-keylog is not there: whoever reads its file reads all that is said to this broker";
            let hint = "to look into one client's TLS, let the client write its keys";
            return Err(Failure::new(Exit::Unusable, what).hint(hint));
        }
        let source = Source {
            file: self.config.clone(),
            ports: self.ports.clone(),
            verbose: self.verbose,
            quiet: self.quiet,
            detached: self.detached,
            board: crate::broker::Board::default(),
        };
        if self.test_config {
            return source.test().map(|()| None);
        }
        if self.daemon {
            return source.detach().map(|()| None);
        }
        Running::prepare(source).map(Some)
    }
}
