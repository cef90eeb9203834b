//! Mosquitto's configuration, read and understood: what makes Quoll a drop-in.
//!
//! | room | what is in it |
//! |---|---|
//! | [`options`], [`table`] | what an option is, and all that Mosquitto 2.1 has, one row each |
//! | [`mod@documentation`] | the page about them, made from the rows |
//! | `line`, `value`, `said`, `read` | lines, words, values as typed, and which block they belong to |
//! | [`global`], [`listener`], [`tls`], [`bridge`], [`plugins`], [`log`] | the configuration as understood |
//! | [`complaint`] | faults and remarks, each with its place |
//! | [`acl_file`] | `acl_file`: permissions by user and pattern, compiled to grants |
//! | [`door`] | who comes in to a listener, and with what grants: the files below, put together |
//! | [`tls_files`] | certificates, keys and revocation lists of a listener, made an identity |
//! | [`dynamic_security`] | the plugin's clients, groups and roles, compiled to grants, and its commands |
//! | [`control_request`] | messages to `$CONTROL/…`: commands and answers, whatever they are |
//! | [`scram`] | SCRAM-SHA-256 over a file beside `password_file` |
//! | `replace_file` | how files of secrets are written |
//! | [`password_file`], [`password_hash`] | `password_file`: checked, and written for `quoll passwd` |
//!
//! Starts nothing and opens no socket: whoever wires a broker takes a [`Configuration`] and does so. Paths are as typed.

pub mod acl_file;
pub mod bridge;
pub mod complaint;
pub mod control_request;
pub mod documentation;
pub mod door;
pub mod dynamic_security;
pub mod global;
pub mod listener;
pub mod log;
pub mod options;
pub mod password_file;
pub mod password_hash;
pub mod plugins;
pub mod scram;
pub mod table;
pub mod tls;
pub mod tls_files;

mod files;
mod line;
mod read;
mod replace_file;
mod said;
mod value;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use bridge::BridgeConfiguration;
pub use complaint::{Complaint, Fault, Matter, Place, Remark};
pub use documentation::documentation;
pub use door::{Door, DoorError, Visitor};
pub use files::{Disk, Files, SettledDisk};
pub use global::Global;
pub use listener::{ListenerConfiguration, Security};
pub use plugins::Plugin;
pub use replace_file::replace_file;
pub use value::Secret;

/// Everything that a mosquitto.conf says, as understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// What holds for the whole broker.
    pub global: Global,
    /// Where it listens; at least one.
    pub listeners: Vec<ListenerConfiguration>,
    /// Bridges to other brokers.
    pub bridges: Vec<BridgeConfiguration>,
    /// Plugins that are known here; what they mean is already in the listeners' [`Security`].
    pub plugins: Vec<Plugin>,
    /// What should be known about it, in the order of reading.
    pub warnings: Vec<Complaint>,
}

/// What a configuration depends on besides its files.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Surroundings {
    /// This machine's name; bridges without `remote_clientid` have it in theirs.
    pub host_name: String,
    /// The environment's `MOSQUITTO_PERSISTENCE_LOCATION`, which goes before `persistence_location`.
    pub persistence_location: Option<PathBuf>,
}

/// Reads a mosquitto.conf and what it includes.
///
/// # Errors
/// All complaints, remarks included, if one of them is a fault: first those of lines, then those of whole blocks. Mosquitto
/// ends at the first fault, with exit status 3.
pub fn read(
    path: &Path,
    files: &dyn Files,
    surroundings: &Surroundings,
) -> Result<Configuration, Vec<Complaint>> {
    understand(read::Draft::read(path, files), surroundings)
}

fn understand(draft: read::Draft, surroundings: &Surroundings) -> Result<Configuration, Vec<Complaint>> {
    let read::Draft { global, listeners, bridges, plugins, per_listener, public, mut complaints, .. } = draft;
    let plugins: Vec<Plugin> =
        plugins.iter().filter_map(|plugin| plugin.understand(&mut complaints)).collect();
    let surrounding = listener::Surrounding { global: &global, per_listener, plugins: &plugins };
    let listeners = if public {
        let each = listeners.iter().enumerate();
        each.map(|(index, listener)| listener.understand(index, &surrounding, &mut complaints)).collect()
    } else {
        if let Some(discarded) = listeners.first() {
            let matter = Matter::Remark(Remark::LocalOnly);
            complaints.push(Complaint { place: discarded.place.clone(), matter });
        }
        listener::local_only(&surrounding)
    };
    let bridges: Vec<BridgeConfiguration> =
        bridges.iter().filter_map(|bridge| bridge.understand(surroundings, &mut complaints)).collect();
    unique_client_ids(&bridges, &mut complaints);
    let global = Global::understand(&global, per_listener, surroundings);
    if complaints.iter().any(|complaint| !complaint.is_warning()) {
        return Err(complaints);
    }
    Ok(Configuration { global, listeners, bridges, plugins, warnings: complaints })
}

/// Two bridges with one client id would take over each other's session for ever.
fn unique_client_ids(bridges: &[BridgeConfiguration], complaints: &mut Vec<Complaint>) {
    for (index, bridge) in bridges.iter().enumerate() {
        let same = |other: &&BridgeConfiguration| other.local.client_id == bridge.local.client_id;
        if let Some(first) = bridges[..index].iter().find(same) {
            let (name, first) = (bridge.local.client_id.clone(), first.place.clone());
            let fault = Fault::NotUnique { what: "local_clientid", name, first };
            complaints.push(Complaint { place: bridge.place.clone(), matter: Matter::Fault(fault) });
        }
    }
}
