//! From files to a whole understood state, or all complaints. Changes nothing, opens no socket: `--test-config`, the start
//! and SIGHUP come through here alike.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quoll_broker::ShardSettings;
use quoll_server::mosquitto::listener::Protocol;
use quoll_server::mosquitto::{
    Complaint, Configuration, Disk, Door, Files, ListenerConfiguration, SettledDisk, Surroundings, read,
    tls_files,
};
use quoll_server::{Bridge, Listener, Site};
use serde_json::Value;

use super::doors::{DoorOf, Doors};
use super::site::{Board, StatusSite};
use super::{bridges, first_file, inventory, listeners, log};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::print;

/// In Mosquitto's words.
const LOCAL_ONLY: [&str; 2] = [
    "Starting in local only mode. Connections will only be possible from clients running on this machine.",
    "Create a configuration file which defines a listener to allow remote access.",
];

/// Where the configuration comes from: the command line.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) file: Option<PathBuf>,
    pub(crate) ports: Vec<u16>,
    pub(crate) verbose: bool,
    pub(crate) quiet: bool,
    /// Whether there is no terminal any more.
    pub(crate) detached: bool,
    /// What the sites of its listeners show.
    pub(crate) board: Board,
}

/// A configuration and all files that it names, understood.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) configuration: Configuration,
    /// The rules' settings: the global ones, and those of listeners where all have the same.
    pub(crate) rules: ShardSettings,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) doors: Doors,
    pub(crate) bridges: Vec<Bridge>,
    /// The listeners, as those are told who ask for them.
    pub(super) inventory: Vec<Value>,
    notes: Vec<String>,
}

impl Source {
    /// Reads the configuration alone.
    pub(crate) fn configuration(&self) -> Outcome<Configuration> {
        self.read(&Disk).map_err(|faults| self.refused(&faults))
    }

    /// Reads the files that it names.
    pub(crate) fn complete(&self, configuration: Configuration) -> Outcome<State> {
        self.make_and_understand(configuration, &Disk).map_err(|faults| self.refused(&faults))
    }

    /// Both, for a broker that runs; each fault a text.
    pub(crate) fn load_again(&self) -> Result<State, Vec<String>> {
        self.make_and_understand(self.read(&SettledDisk)?, &SettledDisk)
    }

    /// What the broker begins without is made, but not for a configuration that is refused all the same.
    fn make_and_understand(
        &self,
        configuration: Configuration,
        files: &dyn Files,
    ) -> Result<State, Vec<String>> {
        let state = self.understand(configuration.clone(), files)?;
        let said = first_file::make_missing(&configuration).map_err(|fault| vec![fault])?;
        if said.is_empty() {
            return Ok(state);
        }
        let mut state = self.understand(configuration, files)?;
        state.notes.extend(said);
        Ok(state)
    }

    /// `--test-config`.
    pub(crate) fn test(&self) -> Outcome {
        let state = self.read(&Disk).and_then(|configuration| self.understand(configuration, &Disk));
        let state = state.map_err(|faults| self.refused(&faults))?;
        for warning in state.warnings() {
            eprintln!("{warning}");
        }
        print("Configuration file is OK.\n")
    }

    fn read(&self, files: &dyn Files) -> Result<Configuration, Vec<String>> {
        let surroundings = Surroundings {
            host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            persistence_location: std::env::var_os("MOSQUITTO_PERSISTENCE_LOCATION").map(PathBuf::from),
        };
        let read = match &self.file {
            Some(file) => read(file, files, &surroundings),
            None => read(Path::new("(no file)"), &Nothing, &surroundings),
        };
        read.map_err(|complaints| complaints.iter().map(text).collect())
    }

    fn understand(&self, configuration: Configuration, files: &dyn Files) -> Result<State, Vec<String>> {
        let mut faults: Vec<String> = log::fault(&configuration.global.log).into_iter().collect();
        let mut notes = Vec::new();
        if configuration.listeners.iter().all(|listener| listener.place.is_none()) {
            notes.extend(LOCAL_ONLY.map(str::to_owned));
        } else if !self.ports.is_empty() {
            notes.push("-p has no effect: the file has listeners of its own".into());
        }
        let rules = listeners::rules(&configuration);
        let (mut all, mut doors, mut first) = (Vec::new(), Doors::new(), None);
        let mut inventory = Vec::new();
        for listener in &configuration.listeners {
            let place = listener.place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
            let tls = listener.tls.as_ref().map(|tls| tls_files::open(tls, files)).transpose();
            let tls = tls.map_err(|error| {
                let hint = error.hint().map(|hint| format!("\n  {hint}")).unwrap_or_default();
                faults.push(format!("{place}this listener's TLS: {error}{hint}"));
            });
            let door = Door::open(&listener.security, files);
            let door = door.map_err(|error| faults.push(format!("{place}{error}")));
            let (Ok(tls), Ok(door)) = (tls, door) else { continue };
            notes.extend(door.warnings.iter().cloned());
            notes.extend(tls.iter().flat_map(|tls| tls.warnings.iter().cloned()));
            let prefix = configuration.global.client_id_prefix.as_deref();
            let door = Arc::new(DoorOf::new(listener, prefix, door, tls));
            notes.extend(listeners::open_site(listener));
            first.get_or_insert_with(|| Arc::clone(&door));
            for place in listeners::places(listener, &self.ports) {
                let mut name = place.to_string();
                while doors.contains_key(&name) {
                    name.push('+');
                }
                inventory.push(inventory::listener(listener, &place));
                all.push(self.listener(
                    &configuration,
                    listener,
                    listeners::listener(&name, place, listener, &door, &rules),
                ));
                doors.insert(name, Arc::clone(&door));
            }
        }
        let bridges = bridges::bridges(&configuration, &rules, first.as_ref(), files, &mut faults);
        if !faults.is_empty() {
            return Err(once(faults));
        }
        Ok(State { configuration, rules, listeners: all, doors, bridges, inventory, notes: once(notes) })
    }

    /// A listener with what the whole broker has to say about it.
    fn listener(
        &self,
        configuration: &Configuration,
        of: &ListenerConfiguration,
        listener: Listener,
    ) -> Listener {
        let site = (of.protocol == Protocol::HttpApi).then(|| {
            Arc::new(StatusSite::new(&listener.name, of.http_dir.clone(), &self.board)) as Arc<dyn Site>
        });
        Listener { site, nagle: configuration.global.tcp_nodelay == Some(false), ..listener }
    }

    fn refused(&self, faults: &[String]) -> Failure {
        for fault in faults {
            eprintln!("{fault}");
        }
        let what = match &self.file {
            Some(file) => format!("{} cannot be used", file.display()),
            None => "the configuration cannot be used".into(),
        };
        let count = if faults.len() == 1 { "1 fault".into() } else { format!("{} faults", faults.len()) };
        Failure::new(Exit::Unusable, what).why(format!("{count}, see above; nothing was started"))
    }
}

impl State {
    /// What should be known about it.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        self.configuration.warnings.iter().map(text).chain(self.notes.iter().cloned())
    }
}

/// Several listeners may have one file; its faults are told once.
fn once(texts: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    texts.into_iter().filter(|text| seen.insert(text.clone())).collect()
}

fn text(complaint: &Complaint) -> String {
    let kind = if complaint.is_warning() { "warning: " } else { "" };
    let hint = complaint.hint().map(|hint| format!("\n  {hint}")).unwrap_or_default();
    let (place, matter) = (&complaint.place, &complaint.matter);
    format!("{place}: {kind}{matter}{hint}")
}

/// No file at all: Mosquitto's defaults.
struct Nothing;

impl Files for Nothing {
    fn read(&self, _path: &Path, _most: usize) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn list(&self, _folder: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}
