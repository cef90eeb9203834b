//! A change of the CA under way: the folders of both CAs, who can do without the old one, and what was seen at the door.
//! The steps themselves are `quoll ca rollover`; how a folder takes the other's place is quoll-pki's.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use quoll_fleet::device::Rung;
use quoll_fleet::registry::anchors::{Evidence, PINS_THE_KEY};
use quoll_fleet::registry::{Owner, Registry};
use quoll_pki::{IndexEntry, Pki};
use time::OffsetDateTime;

use crate::config::Settings;
use crate::failure::Outcome;
use crate::{trouble, workshop};

/// A handshake that began before the server's certificate changed is over by then.
const HANDSHAKES_ARE_OVER: Duration = Duration::from_secs(30);

/// The folders in force.
#[derive(Debug)]
pub(crate) struct Folders {
    pub(crate) current: Pki,
    /// The next CA's, during a rollover.
    pub(crate) next: Option<Pki>,
    /// Whether the server shows a certificate of the next one.
    pub(crate) serves_next: bool,
}

impl Folders {
    /// Opens them.
    pub(crate) fn open(settings: &Settings) -> Outcome<Self> {
        let current = workshop::open_pki(settings)?;
        let next = workshop::next_pki(settings)?;
        let serves_next = next.is_some() && workshop::serving(settings)?.pki != settings.pki;
        Ok(Self { current, next, serves_next })
    }

    /// The one whose certificate the server shows.
    pub(crate) fn serving(&self) -> &Pki {
        match &self.next {
            Some(next) if self.serves_next => next,
            _ => &self.current,
        }
    }

    /// Both, the current one first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Pki> {
        std::iter::once(&self.current).chain(&self.next)
    }
}

/// Somebody that a rollover is about.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    /// The CA of its certificate; `None` without one.
    pub(crate) issuer: Option<String>,
    /// Why it trusts the new CA: `seen`, `said`, `pins the key`; `None` where nothing says so.
    pub(crate) trusts: Option<String>,
    /// Whether it can do without the old CA.
    pub(crate) is_ready: bool,
    /// The next act, where there is one.
    pub(crate) next: Option<String>,
}

/// Where everybody stands.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) rows: Vec<Row>,
}

impl Standing {
    /// Looks at both folders and the registry.
    pub(crate) fn read(
        settings: &Settings,
        folders: &Folders,
        next: &Pki,
        registry: &Registry,
    ) -> Outcome<Self> {
        let now = OffsetDateTime::now_utc();
        let valid = |pki: &Pki| -> Outcome<BTreeMap<String, IndexEntry>> {
            let entries = pki.entries().map_err(trouble::pki)?.into_iter();
            Ok(entries
                .filter(|entry| entry.is_valid_at(now))
                .map(|entry| (entry.serial.to_string(), entry))
                .collect())
        };
        let (old, new) = (valid(&folders.current)?, valid(next)?);
        let name_of = |pki: &Pki| pki.ca().subject_cn().unwrap_or("without a name").to_owned();
        let look = Look {
            old_name: name_of(&folders.current),
            new_name: name_of(next),
            trusts: trusting(registry, &next.ca().anchor_id())?,
            old: &old,
            new: &new,
        };
        let mut covered: HashSet<String> = HashSet::new();
        let mut rows = Vec::new();
        for device in
            registry.devices().map_err(trouble::registry)?.into_iter().filter(|it| it.state.admits())
        {
            covered.insert(device.name.as_str().to_ascii_lowercase());
            let owner = Owner::Device(device.name.clone());
            let pins = (device.rung == Rung::Pinned).then(|| "pins the key".to_owned());
            rows.push(look.row(&owner, device.serial.as_deref(), pins, |trusts| match trusts {
                false => format!("flash it (quoll firmware), then: quoll ca rollover knows {}", device.name),
                true => format!("quoll device add {} --at {} --replace-key", device.name, device.address),
            }));
        }
        for client in registry.clients().map_err(trouble::registry)?.into_iter().filter(|it| !it.revoked) {
            covered.insert(client.name.as_str().to_ascii_lowercase());
            let owner = Owner::Client(client.name.clone());
            rows.push(look.client(&owner, client.serial.as_deref()));
        }
        let server = workshop::server_name(settings)?.to_string();
        covered.insert(server.to_ascii_lowercase());
        let waits = rows.iter().any(|row| row.trusts.is_none());
        rows.insert(0, look.server(server, folders.serves_next, waits));
        // What is in no registry: Easy-RSA's, other servers, people's own.
        let names: HashSet<String> = new.values().filter_map(IndexEntry::common_name).collect();
        let mut others: Vec<_> = old.values().filter_map(IndexEntry::common_name).collect();
        others.sort_unstable();
        others.dedup();
        for name in others.into_iter().filter(|name| !covered.contains(&name.to_ascii_lowercase())) {
            let is_ready = names.contains(&name);
            rows.push(Row {
                kind: "certificate",
                issuer: Some(if is_ready { look.new_name.clone() } else { look.old_name.clone() }),
                trusts: None,
                is_ready,
                next: (!is_ready)
                    .then(|| format!("quoll ca rollover move {name}, or quoll ca revoke {name}")),
                name,
            });
        }
        Ok(Self { rows })
    }

    /// Those that need the old CA.
    pub(crate) fn dependent(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.is_ready)
    }

    /// Devices and clients that are not known to trust the new CA.
    pub(crate) fn ignorant(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| matches!(row.kind, "device" | "client") && row.trusts.is_none())
    }

    /// `37 of 40 can do without the old CA`.
    pub(crate) fn count(&self) -> String {
        let ready = self.rows.iter().filter(|row| row.is_ready).count();
        format!("{ready} of {} can do without the old CA", self.rows.len())
    }
}

/// What a row is made from.
struct Look<'a> {
    old_name: String,
    new_name: String,
    trusts: BTreeMap<String, String>,
    old: &'a BTreeMap<String, IndexEntry>,
    new: &'a BTreeMap<String, IndexEntry>,
}

impl Look<'_> {
    fn row(
        &self,
        owner: &Owner,
        serial: Option<&str>,
        pins: Option<String>,
        act: impl Fn(bool) -> String,
    ) -> Row {
        let serial = serial.map(str::to_ascii_uppercase);
        let has =
            |there: &BTreeMap<String, IndexEntry>| serial.as_ref().is_some_and(|it| there.contains_key(it));
        let issuer = if has(self.new) {
            Some(self.new_name.clone())
        } else {
            has(self.old).then(|| self.old_name.clone())
        };
        let trusts = self.trusts.get(&key(owner)).cloned().or(pins);
        let needs_old_certificate = issuer.as_ref() == Some(&self.old_name);
        let is_ready = trusts.is_some() && !needs_old_certificate;
        let kind = match owner {
            Owner::Device(_) => "device",
            Owner::Client(_) => "client",
        };
        let next = (!is_ready).then(|| act(trusts.is_some()));
        Row { kind, name: owner.name().to_owned(), issuer, trusts, is_ready, next }
    }

    fn client(&self, owner: &Owner, serial: Option<&str>) -> Row {
        let name = owner.name();
        let mut row = self.row(owner, serial, None, |_| {
            format!("give it the files of clients/{name}, then: quoll ca rollover knows {name}")
        });
        if row.issuer.as_ref() == Some(&self.old_name) {
            row.next = Some(format!("quoll ca rollover move {name}"));
        }
        row
    }

    fn server(&self, name: String, serves_next: bool, waits: bool) -> Row {
        let next = match (serves_next, waits) {
            (true, _) => None,
            (false, true) => Some("wait for those who do not trust the new CA".to_owned()),
            (false, false) => Some("quoll ca rollover server".to_owned()),
        };
        let issuer = if serves_next { &self.new_name } else { &self.old_name };
        Row { kind: "server", name, issuer: Some(issuer.clone()), trusts: None, is_ready: serves_next, next }
    }
}

/// Who trusts this CA, and how that is known.
fn trusting(registry: &Registry, anchor: &str) -> Outcome<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    for known in registry.anchors().map_err(trouble::registry)? {
        if known.anchor == anchor {
            out.insert(key(&known.owner), known.evidence.to_string());
        } else if known.anchor == PINS_THE_KEY {
            out.entry(key(&known.owner)).or_insert_with(|| "pins the key".to_owned());
        }
    }
    Ok(out)
}

fn key(owner: &Owner) -> String {
    owner.to_string().to_ascii_lowercase()
}

/// Who came while the server showed a certificate of the next CA: whoever did trusts it, or does not look.
#[derive(Debug, Default)]
pub(crate) struct Witnessed {
    /// The next CA's mark, and since when the server shows its certificate.
    shown: Mutex<Option<(String, SystemTime)>>,
    waiting: Mutex<HashSet<Owner>>,
    noted: Mutex<HashSet<Owner>>,
}

impl Witnessed {
    /// Takes notice of what the server shows from now on; `from_the_start` if no connection is older.
    pub(crate) fn shows(&self, folders: &Folders, from_the_start: bool) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = folders.next.as_ref().filter(|_| folders.serves_next).map(|next| next.ca().anchor_id());
        match mark {
            None => *shown = None,
            Some(mark) if shown.as_ref().is_some_and(|(there, _)| *there == mark) => {}
            Some(mark) => {
                // A connection knows its second only, which may have begun before this node.
                let from = match from_the_start {
                    true => SystemTime::UNIX_EPOCH,
                    false => SystemTime::now() + HANDSHAKES_ARE_OVER,
                };
                *shown = Some((mark, from));
                self.noted.lock().unwrap_or_else(PoisonError::into_inner).clear();
            }
        }
    }

    /// Somebody has connected.
    pub(crate) fn came(&self, owner: impl FnOnce() -> Option<Owner>, since: SystemTime) {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if shown.is_none_or(|(_, from)| since < from) {
            return;
        }
        let Some(owner) = owner() else { return };
        if !self.noted.lock().unwrap_or_else(PoisonError::into_inner).contains(&owner) {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(owner);
        }
    }

    /// Writes down who came since the last time.
    pub(crate) fn keep(&self, registry: &Registry) {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some((mark, _)) = shown else { return };
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for owner in waiting {
            match registry.note_anchor(&owner, &mark, Evidence::Seen) {
                Ok(_) => drop(self.noted.lock().unwrap_or_else(PoisonError::into_inner).insert(owner)),
                Err(error) => tracing::warn!(%owner, %error, "that it trusts the new CA could not be noted"),
            }
        }
    }
}
