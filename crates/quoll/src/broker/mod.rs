//! A broker alone, set up by a mosquitto.conf: what `quoll broker` runs.
//!
//! | room | what is in it |
//! |---|---|
//! | [`source`] | from files to a whole understood state, or all complaints; changes nothing |
//! | [`listeners`] | listeners as the server wants them; what it cannot do yet is refused |
//! | [`doors`] | the doorkeeper: names, passwords, permissions |
//! | [`bridges`] | bridges as the server wants them |
//! | [`scram`] | SCRAM-SHA-256, with accounts of the password files |
//! | [`reload`] | SIGHUP: a new state in place of the old, and what becomes of who is in |
//! | [`control`] | `$CONTROL`: the commands of dynamic security |
//! | [`inventory`] | listeners and plugins, as `$CONTROL/broker/v1` and the site tell of them |
//! | [`site`] | `protocol http_api`: figures, listeners and version as JSON, and files |
//! | [`first_file`] | the file of dynamic security where there is none yet |
//! | [`log`] | Mosquitto's log: kinds, places, times |
//! | [`account`] | background, account, pid file: before there are threads |
//! | [`subscriptions`] | SIGUSR2 |
//!
//! Knows no CA and no devices: that is `quoll up`.

pub(crate) mod account;
mod bridges;
mod control;
mod doors;
mod first_file;
mod inventory;
mod listeners;
mod log;
mod reload;
mod scram;
mod site;
mod source;
mod subscriptions;

use std::sync::Arc;
use std::time::Duration;

use quoll_server::journal::Journal;
use quoll_server::{
    Bridges, Durability, Inherited, MemoryJournal, Notifier, Settings, SqliteJournal, SysTopics,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use self::account::PidFile;
use self::control::SecondLook;
use self::doors::Keeper;
pub(crate) use self::site::Board;
pub(crate) use self::source::Source;
use self::source::State;
use crate::failure::{Exit, Failure, Outcome};

/// How long connections get to take what is owed to them at the end.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// The version of Mosquitto whose words and topics these are.
const MOSQUITTO: &str = "2.1.2";
/// glibc's SIGRTMIN: Mosquitto opens its log anew, for log rotation.
const REOPEN_LOG: i32 = 34;

/// A broker that is about to run.
#[derive(Debug)]
pub(crate) struct Broker {
    source: Source,
    state: State,
    log: log::Log,
    inherited: Inherited,
    notifier: Option<Notifier>,
}

impl Broker {
    /// Reads everything, changes to the account, begins the log. Called while the process has one thread.
    pub(crate) fn prepare(source: Source) -> Outcome<Self> {
        if source.detached {
            account::leave_terminal()?;
        }
        let configuration = source.configuration()?;
        let account = account::change_to(&configuration.global.user)?;
        // As Mosquitto since 2.0: all other files must be readable for the account that it runs as.
        let state = source.complete(configuration)?;
        let log = log::Log::start(&state.configuration.global.log, &source)?;
        tracing::info!("quoll version {} starting", env!("CARGO_PKG_VERSION"));
        match &source.file {
            Some(file) => tracing::info!("Config loaded from {}.", file.display()),
            None => tracing::info!("Using default config."),
        }
        if let Some(warning) = account {
            tracing::warn!("{warning}");
        }
        // Both are taken from the environment, which has to be read before there are threads.
        let (inherited, notifier) = (Inherited::from_environment(), Notifier::from_environment());
        Ok(Self { source, state, log, inherited, notifier })
    }

    /// Runs until it is told to end. What ends it otherwise stands in its log as well.
    pub(crate) async fn run(self) -> Outcome {
        let log = self.log.clone();
        let ended = self.serve().await;
        if let Err(failure) = &ended
            && !log.is_on_terminal()
        {
            tracing::error!("{}", failure.in_a_line());
        }
        ended
    }

    async fn serve(self) -> Outcome {
        let Self { source, state, log, inherited, notifier } = self;
        let mut signals = Signals::listen()?;
        for warning in state.warnings() {
            tracing::warn!("{warning}");
        }
        let global = &state.configuration.global;
        let mut settings = Settings::new(state.listeners.clone());
        settings.rules = state.rules.clone();
        settings.limits.max_connections = global.max_connections.map(|most| most as usize);
        settings.inherited = inherited;
        let journal = journal(&state)?;
        let keeper = Arc::new(Keeper::new(&state));
        let handle = quoll_server::start(settings, Arc::clone(&keeper) as _, journal).await;
        // Mosquitto's status: only a configuration has one of its own.
        let handle = handle.map_err(|error| Failure::new(Exit::System, &error).maybe_hint(error.hint()))?;
        reload::withhold(&handle, &state.doors);
        // Not before the ports are ours: a second broker would write over the first one's.
        let pid_file = global.pid_file.as_deref().map(PidFile::write).transpose()?;
        let (sys_interval, interval) = watch::channel(global.sys_interval);
        let version = format!("mosquitto version {MOSQUITTO} (quoll {})", env!("CARGO_PKG_VERSION"));
        tokio::spawn(SysTopics::new(&handle, interval, &version).run());
        source.board.put_up(state.inventory.clone());
        source.board.run(&handle, &keeper);
        tokio::spawn(log.clone().publish(handle.clone()));
        tracing::info!("quoll version {} running", env!("CARGO_PKG_VERSION"));
        let notifier = notifier.map(Arc::new);
        if let Some(notifier) = notifier.clone() {
            notifier.ready();
            let server = handle.clone();
            tokio::spawn(async move { notifier.watch(&server).await });
        }
        if source.detached {
            account::say_ready();
        }
        let bridges = Bridges::start(&handle, state.bridges.clone());
        let second_look = SecondLook::default();
        let mut live = reload::Live {
            source,
            state,
            keeper,
            handle: handle.clone(),
            log,
            bridges,
            second_look,
            sys_interval,
        };
        live.serve(&mut signals).await;
        tracing::info!("quoll version {} terminating", env!("CARGO_PKG_VERSION"));
        if let Some(notifier) = notifier {
            notifier.stopping();
        }
        live.bridges.stop().await;
        handle.stop(STOP_GRACE).await;
        drop(pid_file);
        Ok(())
    }
}

/// What survives a restart: Mosquitto's folder, our file.
fn journal(state: &State) -> Outcome<Box<dyn Journal>> {
    let Some(persistence) = &state.configuration.global.persistence else {
        return Ok(Box::new(MemoryJournal::default()));
    };
    let path = account::broker_db(&persistence.file);
    if persistence.file.exists() && !path.exists() {
        tracing::warn!(
            "{} is Mosquitto's own and is not read: retained messages and sessions begin anew in {}",
            persistence.file.display(),
            path.display()
        );
    }
    let opened = SqliteJournal::open(&path, Durability::Power);
    let opened = opened.map_err(|error| Failure::new(Exit::System, &error).maybe_hint(error.hint()))?;
    Ok(Box::new(opened))
}

/// What the operator says to a running broker.
struct Signals {
    end: [Signal; 2],
    reload: Signal,
    save: Signal,
    subscriptions: Signal,
    reopen: Option<Signal>,
}

enum Told {
    End,
    Reload,
    Save,
    Subscriptions,
    Reopen,
}

impl Signals {
    fn listen() -> Outcome<Self> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::new(Exit::System, "cannot listen for signals").why(error))
        };
        Ok(Self {
            end: [listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?],
            reload: listen(SignalKind::hangup())?,
            save: listen(SignalKind::user_defined1())?,
            subscriptions: listen(SignalKind::user_defined2())?,
            reopen: listen(SignalKind::from_raw(REOPEN_LOG)).ok(),
        })
    }

    async fn next(&mut self) -> Told {
        let Self { end: [terminate, interrupt], reload, save, subscriptions, reopen } = self;
        let reopened = async {
            match reopen {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => Told::End,
            _ = interrupt.recv() => Told::End,
            _ = reload.recv() => Told::Reload,
            _ = save.recv() => Told::Save,
            _ = subscriptions.recv() => Told::Subscriptions,
            _ = reopened => Told::Reopen,
        }
    }
}

impl reload::Live {
    async fn serve(&mut self, signals: &mut Signals) {
        let mut control = self.handle.control();
        loop {
            let words = async {
                match &mut control {
                    Some(control) => control.recv().await,
                    None => std::future::pending().await,
                }
            };
            let told = tokio::select! {
                told = signals.next() => told,
                Some(words) = words => {
                    self.obey(words).await;
                    continue;
                }
            };
            match told {
                Told::End => return,
                Told::Reload => self.reload().await,
                Told::Save => {
                    tracing::info!("Told to save: nothing to do, each change is kept when it is made.");
                }
                Told::Subscriptions => subscriptions::print(&self.handle).await,
                Told::Reopen => self.reopen_log(),
            }
        }
    }
}
