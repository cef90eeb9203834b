//! Who may come in: every certificate that we know of, and what its holder may do. Read whole from the pki folder and
//! the registry, and swapped whole, so that the door never waits for a disk.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use quoll_broker::access::Grants;
use quoll_fleet::access_list::{Access, client_access, device_access};
use quoll_fleet::device::Device;
use quoll_fleet::registry::Registry;
use quoll_mqtt::TopicFilter;
use quoll_pki::{Pki, Serial};
use quoll_server::tls::credential;

use crate::failure::Outcome;
use crate::trouble;

/// A certificate's mark at the door: a digest of issuer and serial number.
pub(crate) type Credential = [u8; 32];

/// Somebody whose certificate we know.
#[derive(Debug)]
pub(crate) struct Holder {
    /// Its name in the registry.
    pub(crate) name: Arc<str>,
    /// The certificate's serial number.
    pub(crate) serial: String,
    /// What it may do.
    pub(crate) grants: Arc<Grants>,
    access: Access,
}

/// Everybody, at one moment.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    holders: HashMap<Credential, Holder>,
    /// Serial numbers of certificates that the folder has, whoever holds them.
    serials: HashMap<Credential, String>,
    pub(crate) revoked: HashSet<Credential>,
    /// The devices, by name.
    pub(crate) devices: Vec<Device>,
    /// Filters under which the devices' telemetry comes.
    pub(crate) telemetry: BTreeSet<String>,
}

impl Directory {
    /// Reads the folder's index and the registry.
    pub(crate) fn read(pki: &Pki, registry: &Registry) -> Outcome<Self> {
        let issuer = pki.ca().subject_der().to_vec();
        let mark = |serial: &Serial| credential(&issuer, serial.as_bytes());
        let mut directory = Self::default();
        for entry in pki.entries().map_err(trouble::pki)? {
            let credential = mark(&entry.serial);
            if entry.is_revoked() {
                directory.revoked.insert(credential);
            }
            directory.serials.insert(credential, entry.serial.to_string());
        }
        for device in registry.devices().map_err(trouble::registry)? {
            let credential = device.serial.as_deref().and_then(parse_serial).map(|serial| mark(&serial));
            if let (Some(credential), Some(serial)) = (credential, device.serial.clone()) {
                if device.state.admits() {
                    directory.hold(credential, device.name.as_str(), serial, device_access(&device).ok());
                } else {
                    directory.revoked.insert(credential);
                }
            }
            directory.telemetry.insert(telemetry_filter(&device));
            directory.devices.push(device);
        }
        for client in registry.clients().map_err(trouble::registry)? {
            let Some(serial) = client.serial.clone() else { continue };
            let Some(credential) = parse_serial(&serial).map(|serial| mark(&serial)) else { continue };
            if client.revoked {
                directory.revoked.insert(credential);
            } else {
                directory.hold(credential, client.name.as_str(), serial, client_access(&client).ok());
            }
        }
        Ok(directory)
    }

    fn hold(&mut self, credential: Credential, name: &str, serial: String, access: Option<Access>) {
        // Topics that cannot be kept apart from others' give no access at all, rather than too much.
        let access = access.unwrap_or_default();
        let grants = Arc::new(compile(&access));
        self.holders.insert(credential, Holder { name: name.into(), serial, grants, access });
    }

    /// Whose certificate this is.
    pub(crate) fn holder(&self, credential: &Credential) -> Option<&Holder> {
        self.holders.get(credential)
    }

    /// The serial number behind a mark, where the folder knows it.
    pub(crate) fn serial(&self, credential: &Credential) -> Option<&str> {
        self.serials.get(credential).map(String::as_str)
    }

    /// Who is revoked here and was not there.
    pub(crate) fn newly_revoked(&self, before: &Self) -> Vec<Credential> {
        self.revoked.difference(&before.revoked).copied().collect()
    }

    /// Whose permissions are other than they were.
    pub(crate) fn regranted(&self, before: &Self) -> Vec<(Arc<str>, Arc<Grants>)> {
        let changed = self.holders.iter().filter(|(credential, holder)| {
            before.holders.get(*credential).is_some_and(|old| old.access != holder.access)
        });
        changed.map(|(_, holder)| (Arc::clone(&holder.name), Arc::clone(&holder.grants))).collect()
    }
}

fn parse_serial(text: &str) -> Option<Serial> {
    text.parse().ok()
}

/// All of a device's telemetry; one filter for all that keep Tasmota's default form.
fn telemetry_filter(device: &Device) -> String {
    let topics = &device.topics;
    let own = topics.full(&topics.telemetry, &topics.topic);
    if own == format!("tele/{}/", topics.topic) { "tele/#".into() } else { format!("{own}#") }
}

fn compile(access: &Access) -> Grants {
    let filters = |texts: &[String]| -> Vec<TopicFilter> {
        // What is no filter grants nothing.
        texts.iter().filter_map(|text| TopicFilter::parse(text).ok()).collect()
    };
    Grants::new(&filters(&access.publish), &filters(&access.subscribe))
}
