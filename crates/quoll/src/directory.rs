//! Who may come in: every certificate that we know of, and what its holder may do. Read whole from the pki folder and
//! the registry, and swapped whole, so that the door never waits for a disk.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use quoll_broker::access::Grants;
use quoll_fleet::access_list::{Access, client_access, device_access};
use quoll_fleet::client::Client;
use quoll_fleet::device::Device;
use quoll_fleet::registry::{DevicePassword, Owner, Registry};
use quoll_mqtt::TopicFilter;
use quoll_pki::Serial;
use quoll_server::tls::credential;
use time::OffsetDateTime;

use crate::failure::Outcome;
use crate::rollover::Folders;
use crate::trouble;

/// A certificate's mark at the door: a digest of issuer and serial number.
pub(crate) type Credential = [u8; 32];

/// Somebody whose certificate we know.
#[derive(Debug)]
pub(crate) struct Holder {
    /// Its name in the registry.
    pub(crate) name: Arc<str>,
    /// The certificate's serial number, or the password's id.
    pub(crate) serial: String,
    /// What it may do.
    pub(crate) grants: Arc<Grants>,
}

/// What the registry says of access lists beyond the templates.
#[derive(Debug, Default)]
struct Lists {
    allowed: BTreeMap<String, Access>,
    learning: BTreeMap<String, OffsetDateTime>,
}

/// Why a certificate that is valid, and not revoked, stays out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Bar {
    /// Its device is in quarantine.
    Quarantine {
        /// The device.
        name: String,
        /// Its owner's words.
        reason: String,
    },
    /// It belongs to nobody, and was rejected.
    Rejected,
}

/// Everybody, at one moment.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    holders: HashMap<Credential, Holder>,
    /// Serial numbers of certificates that the folder has, whoever holds them.
    serials: HashMap<Credential, String>,
    pub(crate) revoked: HashSet<Credential>,
    barred: HashMap<Credential, Bar>,
    /// Passwords that are not void, by user name in lower case.
    passwords: HashMap<String, Vec<(DevicePassword, Credential)>>,
    /// The devices, by name.
    pub(crate) devices: Vec<Device>,
    /// The client ids that they have, or had when they were last asked.
    client_ids: HashSet<String>,
    /// Filters under which the devices' telemetry comes.
    pub(crate) telemetry: BTreeSet<String>,
    /// When the next one of those that are learned from is held to its list again.
    pub(crate) learning_ends: Option<OffsetDateTime>,
    lists: Lists,
}

impl Directory {
    /// Reads the folder's index and the registry.
    pub(crate) fn read(folders: &Folders, registry: &Registry) -> Outcome<Self> {
        let mut directory = Self::default();
        let mut issuers: HashMap<String, &[u8]> = HashMap::new();
        for pki in folders.all() {
            let issuer = pki.ca().subject_der();
            for entry in pki.entries().map_err(trouble::pki)? {
                let credential = credential(issuer, entry.serial.as_bytes());
                if entry.is_revoked() {
                    directory.revoked.insert(credential);
                }
                let serial = entry.serial.to_string();
                issuers.insert(serial.clone(), issuer);
                directory.serials.insert(credential, serial);
            }
        }
        // Of what no folder has, such as an index that was replaced, the CA there is is taken for the issuer.
        let mark = |serial: &Serial| {
            let issuer = issuers.get(&serial.to_string()).copied();
            credential(issuer.unwrap_or_else(|| folders.current.ca().subject_der()), serial.as_bytes())
        };
        directory.lists = Lists {
            allowed: registry.all_allowed().map_err(trouble::registry)?,
            learning: registry.learning().map_err(trouble::registry)?,
        };
        directory.learning_ends = directory.lists.learning.values().min().copied();
        let mut devices = HashMap::new();
        for device in registry.devices().map_err(trouble::registry)? {
            directory.telemetry.insert(telemetry_filter(&device));
            directory.client_ids.insert(device.topics.client_id.clone());
            devices.insert(device.name.as_str().to_ascii_lowercase(), directory.devices.len());
            directory.devices.push(device);
        }
        let clients = registry.clients().map_err(trouble::registry)?.into_iter();
        let clients: HashMap<_, _> =
            clients.map(|client| (client.name.as_str().to_ascii_lowercase(), client)).collect();
        // A device has two while its certificate is changed; what is void stays void, also after its owner is gone.
        for certificate in registry.certificates().map_err(trouble::registry)? {
            let Some(credential) = certificate.serial.parse().ok().map(|serial: Serial| mark(&serial)) else {
                continue;
            };
            let name = certificate.owner.name().to_ascii_lowercase();
            let device = devices.get(&name).map(|at| directory.devices[*at].clone());
            match &certificate.owner {
                _ if certificate.revoked => directory.void(credential),
                Owner::Device(_) => directory.device(credential, certificate.serial, device.as_ref()),
                Owner::Client(_) => directory.client(credential, certificate.serial, clients.get(&name)),
            }
        }
        for password in registry.passwords().map_err(trouble::registry)? {
            let credential = password_mark(&password.id);
            if !password.is_open() {
                directory.void(credential);
                continue;
            }
            let device = devices.get(&password.device.as_str().to_ascii_lowercase());
            let device = device.map(|at| directory.devices[*at].clone());
            directory.device(credential, password.id.clone(), device.as_ref());
            directory
                .passwords
                .entry(password.login.to_ascii_lowercase())
                .or_default()
                .push((password, credential));
        }
        for stranger in registry.unlisted().map_err(trouble::registry)? {
            if stranger.rejected.is_some()
                && let Ok(serial) = stranger.serial.parse::<Serial>()
            {
                directory.barred.insert(mark(&serial), Bar::Rejected);
            }
        }
        Ok(directory)
    }

    fn void(&mut self, credential: Credential) {
        self.revoked.insert(credential);
    }

    fn device(&mut self, credential: Credential, serial: String, device: Option<&Device>) {
        let Some(device) = device.filter(|device| device.state.admits()) else {
            return self.void(credential);
        };
        if let Some(quarantine) = &device.quarantine {
            let (name, reason) = (device.name.to_string(), quarantine.reason.clone());
            self.barred.insert(credential, Bar::Quarantine { name, reason });
        }
        self.hold(credential, device.name.as_str(), serial, device_access(device).ok());
    }

    fn client(&mut self, credential: Credential, serial: String, client: Option<&Client>) {
        match client {
            Some(client) if !client.revoked => {
                let access = client_access(client, &self.devices).ok();
                self.hold(credential, client.name.as_str(), serial, access);
            }
            _ => self.void(credential),
        }
    }

    fn hold(&mut self, credential: Credential, name: &str, serial: String, access: Option<Access>) {
        let key = name.to_ascii_lowercase();
        // Topics that cannot be kept apart from others' give no access at all, rather than too much.
        let mut access = access.unwrap_or_default();
        if let Some(more) = self.lists.allowed.get(&key) {
            access = access.and(more);
        }
        let grants = compile(&access);
        let is_learned_from = self.lists.learning.contains_key(&key);
        let grants = Arc::new(if is_learned_from { grants.leniently() } else { grants });
        self.holders.insert(credential, Holder { name: name.into(), serial, grants });
    }

    /// Whose certificate this is.
    pub(crate) fn holder(&self, credential: &Credential) -> Option<&Holder> {
        self.holders.get(credential)
    }

    /// The mark of the password that this is, where it is one of this user's.
    pub(crate) fn password(&self, user: &str, password: &[u8]) -> Option<Credential> {
        let known = self.passwords.get(&user.to_ascii_lowercase())?;
        known.iter().find(|(one, _)| one.is(password)).map(|(_, credential)| *credential)
    }

    /// The ids of a device's passwords.
    pub(crate) fn password_ids<'a>(&'a self, device: &'a Device) -> impl Iterator<Item = &'a str> {
        let all = self.passwords.values().flatten();
        all.filter(|(one, _)| one.device == device.name).map(|(one, _)| one.id.as_str())
    }

    /// Whether a device has this client id.
    pub(crate) fn is_client_id(&self, client_id: &str) -> bool {
        self.client_ids.contains(client_id)
    }

    /// Why this certificate is to stay out, where it is.
    pub(crate) fn bar(&self, credential: &Credential) -> Option<&Bar> {
        self.barred.get(credential)
    }

    /// The serial number behind a mark, where the folder knows it.
    pub(crate) fn serial(&self, credential: &Credential) -> Option<&str> {
        self.serials.get(credential).map(String::as_str)
    }

    /// The marks of everybody of this name, or of the certificate with this serial number.
    pub(crate) fn meant_by(&self, who: &str) -> Vec<Credential> {
        let is_meant = |text: &str| text.eq_ignore_ascii_case(who);
        let held =
            self.holders.iter().filter(|(_, holder)| is_meant(&holder.name) || is_meant(&holder.serial));
        let listed = self.serials.iter().filter(|(_, serial)| is_meant(serial));
        held.map(|(mark, _)| mark).chain(listed.map(|(mark, _)| mark)).copied().collect()
    }

    /// Who is to be out here and was not there: revoked, in quarantine, rejected.
    pub(crate) fn newly_out(&self, before: &Self) -> Vec<Credential> {
        let barred = self.barred.keys().filter(|credential| !before.barred.contains_key(*credential));
        self.revoked.difference(&before.revoked).chain(barred).copied().collect()
    }

    /// Certificates that a folder had then, and none has now.
    pub(crate) fn gone(&self, before: &Self) -> Vec<Credential> {
        before.serials.keys().filter(|credential| !self.serials.contains_key(*credential)).copied().collect()
    }

    /// Whose permissions are other than they were.
    pub(crate) fn regranted(&self, before: &Self) -> Vec<(Arc<str>, Arc<Grants>)> {
        let changed = self.holders.iter().filter(|(credential, holder)| {
            before.holders.get(*credential).is_some_and(|old| old.grants != holder.grants)
        });
        changed.map(|(_, holder)| (Arc::clone(&holder.name), Arc::clone(&holder.grants))).collect()
    }
}

/// A password's mark at the door: made of its id, like a certificate's of its serial number.
fn password_mark(id: &str) -> Credential {
    credential(b"password of a pinned device", id.as_bytes())
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
