//! `quoll up`: start the broker, making what is missing.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;

use super::{Common, ServerArgs};
use crate::config::Settings;
use crate::control;
use crate::failure::{Exit, Failure, Outcome, io_failure};
use crate::home::Home;
use crate::live_table::{self, LogSink};
use crate::node::{Node, Speaks};
use crate::output::print;
use crate::passphrase::a_person_is_there;
use crate::signer::{Said, Signer, must_prepare};
use crate::virtual_fleet::VirtualFleet;
use crate::{dashboard, workshop};

/// The dashboard's address unless another is given.
const WEB: &str = "127.0.0.1:8880";

/// `quoll up`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  quoll up --virtual 3                 rehearse: three virtual devices on this machine\n  \
    quoll up --host mqtt.home.example    tell devices a name instead of this machine's address\n\n\
    Ctrl-C or SIGTERM stops it. Everything it made stays under --home."
)]
pub(crate) struct Up {
    #[command(flatten)]
    server: ServerArgs,
    /// Add N virtual Tasmota devices on this machine, provisioned over HTTP like real ones
    #[arg(long = "virtual", value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=200))]
    virtual_devices: u16,
    /// Where the dashboard listens: an address of this machine's loopback, or "off"
    #[arg(long, value_name = "ADDRESS:PORT", default_value = WEB)]
    web: String,
    /// Lines instead of a table that redraws itself
    #[arg(long)]
    no_table: bool,
}

impl Up {
    pub(crate) async fn run(&self, common: &Common, sink: LogSink) -> Outcome {
        let home = common.home()?;
        home.ensure()?;
        let _only_one = lock(&home)?;
        // From here on a signal is a farewell: whoever reads "Listening" may send one.
        let mut stop = std::pin::pin!(stop_signal()?);
        let settings = common.settings(&home, &self.server)?;
        // Asked for before anything is made: a port in use leaves nothing behind.
        let web = self.bind_web().await?;
        let lists = bind_lists(&settings).await?;
        probe_listeners(&settings)?;

        let mut signer = self.prepare(common, &home, &settings).await?;
        settings.write_first(&home)?;
        let node = Node::start(&home, &settings).await?;
        let socket =
            control::listen(&home).map_err(|error| io_failure("listen on", &home.socket(), &error))?;
        let answering = tokio::spawn(control::serve(socket, Arc::clone(&node) as Arc<dyn control::Respond>));
        let _lists = dashboard::hand_out_lists(lists, &node)
            .map_err(|error| Failure::new(Exit::System, "cannot serve the revocation list").why(error))?;
        let dashboard = web
            .map(|listener| dashboard::start(listener, Arc::clone(&node)))
            .transpose()
            .map_err(|error| Failure::new(Exit::System, "cannot start the dashboard").why(error))?;
        let _rereading = AbortOnDrop(tokio::spawn(reread_on_hangup(Arc::clone(&node))?));
        self.greet(&settings, &node, dashboard.as_ref().map(|dashboard| dashboard.address))?;

        let fleet = tokio::select! {
            fleet = self.rehearse(&settings, &mut signer) => fleet,
            () = &mut stop => return leave(&home, &node, None, answering).await,
        };
        if let Some(signer) = signer.take() {
            signer.end().await;
        }
        let fleet = match fleet {
            Ok(fleet) => fleet,
            Err(failure) => {
                leave(&home, &node, None, answering).await?;
                return Err(failure);
            }
        };
        live_table::show(Arc::clone(&node), sink, self.no_table, self.virtual_devices > 0, stop).await;
        leave(&home, &node, fleet, answering).await
    }

    async fn bind_web(&self) -> Outcome<Option<tokio::net::TcpListener>> {
        if self.web == "off" {
            return Ok(None);
        }
        let address: SocketAddr = self.web.parse().map_err(|error| {
            Failure::new(Exit::Usage, format!("--web {}: {error}", self.web))
                .hint(format!("for example --web {WEB}"))
        })?;
        if !address.ip().is_loopback() {
            return Err(Failure::new(
                Exit::Usage,
                format!("--web {address}: that is not a loopback address"),
            )
            .why("the dashboard has no sign-in yet, so it is for this machine alone")
            .hint(format!("--web {WEB}, and an SSH tunnel from elsewhere: ssh -L 8880:{WEB} THIS-MACHINE")));
        }
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => Ok(Some(listener)),
            // Nobody asked for this very port, so a broker is not stopped by it.
            Err(error) if self.web == WEB => {
                eprintln!(
                    "quoll: note: no dashboard: {WEB}: {error}; choose another place with --web 127.0.0.1:PORT"
                );
                Ok(None)
            }
            Err(error) => Err(address_failure(address, &error, "--web")),
        }
    }

    /// Makes CA and server certificate where they are missing. The signing process stays where virtual devices need it.
    async fn prepare(&self, common: &Common, home: &Home, settings: &Settings) -> Outcome<Option<Signer>> {
        let missing = must_prepare(settings)?;
        if !missing && self.virtual_devices == 0 {
            return Ok(None);
        }
        let mut signer = Signer::start(common, home, settings, &self.server, a_person_is_there())?;
        if missing && let Said::Prepared { ca_made, server_made, passphrase_in } = signer.prepare().await? {
            if ca_made {
                print(&format!("Made a CA in {}\n", settings.pki.display()))?;
            }
            if let Some(file) = passphrase_in {
                print(&format!(
                    "Made its passphrase, which lies in {}: keep a copy elsewhere\n",
                    file.display()
                ))?;
            }
            if server_made {
                print(&format!("Made a certificate for the server {}\n", workshop::server_name(settings)?))?;
            }
        }
        Ok(Some(signer))
    }

    fn greet(&self, settings: &Settings, node: &Node, web: Option<SocketAddr>) -> Outcome {
        for (speaks, address) in node.doors() {
            let what = match speaks {
                Speaks::Mutual => "MQTT over mutual TLS",
                Speaks::Pinned => "MQTT over TLS with a password, for pinned devices",
                Speaks::Plain => "plain MQTT",
            };
            print(&format!("Listening on {address}  {what}\n"))?;
        }
        if !settings.mqtts.is_empty() {
            print(&format!("Devices connect to {}:{}\n", settings.host, node.device_port()))?;
        }
        if let Some(web) = web {
            print(&format!("Dashboard on http://{web}/\n"))?;
        }
        for address in &settings.crl_listen {
            print(&format!("Revocation list on http://{address}/ca.crl\n"))?;
        }
        Ok(())
    }

    /// Starts the virtual devices and enrols them as if they were real.
    async fn rehearse(
        &self,
        settings: &Settings,
        signer: &mut Option<Signer>,
    ) -> Outcome<Option<VirtualFleet>> {
        let Some(signer) = signer.as_mut().filter(|_| self.virtual_devices > 0) else { return Ok(None) };
        let fleet = VirtualFleet::start(self.virtual_devices, settings).await?;
        fleet.enrol(signer).await?;
        Ok(Some(fleet))
    }
}

async fn leave(
    home: &Home,
    node: &Arc<Node>,
    fleet: Option<VirtualFleet>,
    answering: tokio::task::JoinHandle<()>,
) -> Outcome {
    if let Some(fleet) = fleet {
        fleet.stop().await;
    }
    answering.abort();
    fs::remove_file(home.socket()).ok();
    node.stop().await;
    print("Stopped.\n")
}

async fn bind_lists(settings: &Settings) -> Outcome<Vec<tokio::net::TcpListener>> {
    let mut listeners = Vec::new();
    for address in &settings.crl_listen {
        let bound = tokio::net::TcpListener::bind(address).await;
        listeners
            .push(bound.map_err(|error| address_failure(*address, &error, "[ca] crl_listen in quoll.toml"))?);
    }
    Ok(listeners)
}

/// One node a home: the lock is given back by the system when the process ends, however it ends.
fn lock(home: &Home) -> Outcome<File> {
    let path = home.node_lock();
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| io_failure("open", &path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Failure::new(
            Exit::Unusable,
            format!("a node is already running on {}", home.dir().display()),
        )
        .hint("use it (quoll device list), stop it, or choose another folder with --home")),
        Err(fs::TryLockError::Error(error)) => Err(io_failure("lock", &path, &error)),
    }
}

/// Finds out whether the ports are free before a CA is made for nothing.
fn probe_listeners(settings: &Settings) -> Outcome {
    let doors = [
        (&settings.mqtts, "--listen, or [listen] mqtts in quoll.toml"),
        (&settings.pinned, "--pinned, or [listen] pinned in quoll.toml (`pinned = []` for none)"),
        (&settings.mqtt, "--plain, or [listen] mqtt in quoll.toml"),
    ];
    for (addresses, chosen_with) in doors {
        for address in addresses.iter().filter(|address| address.port() != 0) {
            // std sets SO_REUSEADDR, as the real listener does: an address just left by a predecessor is free.
            if let Err(error) = std::net::TcpListener::bind(address) {
                return Err(address_failure(*address, &error, chosen_with));
            }
        }
    }
    Ok(())
}

fn address_failure(address: SocketAddr, error: &std::io::Error, chosen_with: &str) -> Failure {
    let failure = Failure::new(Exit::Address, format!("cannot listen on {address}")).why(error);
    match error.kind() {
        std::io::ErrorKind::AddrInUse => failure.hint(format!(
            "another program has port {port}: stop it (`ss -ltnp 'sport = :{port}'` names it), or choose another one with {chosen_with}",
            port = address.port()
        )),
        std::io::ErrorKind::AddrNotAvailable => failure.hint("that address is none of this machine's: `ip address` lists them"),
        std::io::ErrorKind::PermissionDenied => failure.hint(format!("ports below 1024 need a right: choose a higher one with {chosen_with}")),
        _ => failure.hint(format!("choose another address with {chosen_with}")),
    }
}

/// SIGHUP: look at folder and registry again, as other servers do.
fn reread_on_hangup(node: Arc<Node>) -> Outcome<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup())
        .map_err(|error| Failure::new(Exit::System, "cannot listen for signals").why(error))?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            if let Err(failure) = node.reread().await {
                tracing::error!("SIGHUP: the change could not be taken over: {}", failure.what);
            }
        }
    })
}

/// A task that ends with its owner.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Ends with the first SIGINT or SIGTERM.
fn stop_signal() -> Outcome<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error: std::io::Error| Failure::new(Exit::System, "cannot listen for signals").why(error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
