//! A running node: the one place where the message wing and the device wing meet.
//!
//! The registry and the pki folder say who may come in; the broker says who is there. A bell on the local socket, or a
//! look at the files each second, tells the node that something changed; then the directory is read anew and swapped
//! whole, revoked connections are ended, and permissions follow.
//!
//! Here it starts, reads and stops; `rounds` is what it looks at by the clock, `sightings` what the broker tells of
//! connections; `door` says who comes in, `identity` what the listeners show of themselves and when
//! to look again, `rereading` who shares a look, `answers` what the commands are told.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use quoll_fleet::device::Device;
use quoll_fleet::presence::PresenceBoard;
use quoll_fleet::registry::Registry;
use quoll_mqtt::TopicFilter;
use quoll_server::tls::LiveIdentity;
use quoll_server::{Doorkeeper, Handle, Listener, Settings as ServerSettings, SqliteJournal, Transport};
use time::OffsetDateTime;

mod answers;
mod door;
mod identity;
mod rereading;
mod rounds;
mod sightings;

use self::door::Door;
use self::identity::{Stamps, identities};
use self::rereading::Rereading;
use crate::absence::OtherDoor;
use crate::config::Settings;
use crate::denials::Denials;
use crate::directory::{Credential, Directory};
use crate::encounters::Encounters;
use crate::failure::{Exit, Failure, Outcome};
use crate::home::Home;
use crate::refusals::Refusals;
use crate::rollover::{Folders, Witnessed};
use crate::telemetry::{LastWords, Said};
use crate::unlisted::Strangers;
use crate::{dates, trouble};

/// How often the files are looked at, for those who change them without ringing (Easy-RSA, an editor).
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Telemetry waiting to be looked at; what is more is dropped, since only the last counts.
const TELEMETRY_WAITING: usize = 1024;
/// How long connections get to take what is owed to them when the node stops.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// Begin of the names of listeners for pinned devices.
const PINNED: &str = "pinned ";

/// What is spoken at a listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Speaks {
    /// MQTT over TLS, certificate required.
    Mutual,
    /// MQTT over TLS, user and password.
    Pinned,
    /// MQTT in clear.
    Plain,
}

/// A running node.
pub(crate) struct Node {
    home: Home,
    settings: Settings,
    /// The CA's folder, and the next CA's during a rollover.
    folders: ArcSwap<Folders>,
    witnessed: Witnessed,
    registry: Registry,
    identity: LiveIdentity,
    /// The same server's at the door of pinned devices, which are asked for no certificate.
    pinned: LiveIdentity,
    directory: ArcSwap<Directory>,
    /// Who is kept out until the node stops, because nothing can be written.
    kept_out: Mutex<HashSet<Credential>>,
    /// When the directory was read last, and the files' stamps then.
    read: Mutex<(Instant, Stamps)>,
    reading: Rereading,
    server: std::sync::OnceLock<Handle>,
    presence: PresenceBoard,
    refusals: Refusals,
    encounters: Encounters,
    denials: Denials,
    strangers: Strangers,
    other_door: OtherDoor,
    last_words: LastWords,
    /// Messages received per second, as the bits of an `f64`.
    message_rate: AtomicU64,
}

/// A device as a person sees it in a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) rung: String,
    pub(crate) state: String,
    pub(crate) online: bool,
    /// Its console.
    pub(crate) address: String,
    /// Where its connection comes from, while it is online.
    pub(crate) client: Option<String>,
    pub(crate) serial: Option<String>,
    pub(crate) expires: Option<String>,
    pub(crate) expires_at: Option<OffsetDateTime>,
    pub(crate) last_seen: Option<OffsetDateTime>,
    pub(crate) problem: Option<String>,
    /// The last telemetry.
    pub(crate) telemetry: Option<Said>,
}

impl Node {
    /// Opens what is in the home folder and starts the listeners.
    pub(crate) async fn start(home: &Home, settings: &Settings) -> Outcome<Arc<Self>> {
        let folders = Folders::open(settings)?;
        let registry = Registry::open(&home.fleet_db()).map_err(trouble::registry)?.acting_as("node");
        let directory = Directory::read(&folders, &registry)?;
        let [identity, pinned] = identities(settings, &folders, &directory.revoked)?.map(LiveIdentity::new);
        let witnessed = Witnessed::default();
        witnessed.shows(&folders, true);
        let stamps = Stamps::take(settings, &registry);
        let node = Arc::new(Self {
            home: home.clone(),
            settings: settings.clone(),
            folders: ArcSwap::from_pointee(folders),
            witnessed,
            registry,
            identity,
            pinned,
            directory: ArcSwap::from_pointee(directory),
            kept_out: Mutex::default(),
            read: Mutex::new((Instant::now(), stamps)),
            reading: Rereading::default(),
            server: std::sync::OnceLock::new(),
            presence: PresenceBoard::new(),
            refusals: Refusals::default(),
            encounters: Encounters::default(),
            denials: Denials::default(),
            strangers: Strangers::default(),
            other_door: OtherDoor::default(),
            last_words: LastWords::default(),
            message_rate: AtomicU64::new(0),
        });
        let mut server = ServerSettings::new(node.listeners());
        if settings.shards > 0 {
            server.shards = settings.shards;
        }
        let door: Arc<dyn Doorkeeper> = Arc::new(Door(Arc::downgrade(&node)));
        let journal = open_journal(home, settings).await?;
        let handle = quoll_server::start(server, door, Box::new(journal)).await.map_err(trouble::start)?;
        let events = handle.events();
        assert!(node.server.set(handle).is_ok(), "a node starts once");
        tokio::spawn(Arc::clone(&node).end_sessions_of_revoked());
        tokio::spawn(Arc::clone(&node).watch_events(events));
        tokio::spawn(Arc::clone(&node).watch_files());
        tokio::spawn(Arc::clone(&node).listen_to_telemetry());
        Ok(node)
    }

    /// What was revoked while no node ran may have left a session, which nobody can come back to.
    async fn end_sessions_of_revoked(self: Arc<Self>) {
        for credential in &self.directory().revoked {
            self.server().expel(*credential).await;
        }
    }

    fn listeners(&self) -> Vec<Listener> {
        let listener =
            |address: SocketAddr, transport| Listener::new(address.to_string(), address, transport);
        let secure = self
            .settings
            .mqtts
            .iter()
            .map(|address| listener(*address, Transport::Tls(self.identity.clone())));
        let pinned = self.settings.pinned.iter().map(|address| {
            Listener::new(format!("{PINNED}{address}"), *address, Transport::Tls(self.pinned.clone()))
        });
        let plain = self.settings.mqtt.iter().map(|address| listener(*address, Transport::Tcp));
        secure.chain(pinned).chain(plain).collect()
    }

    /// The broker.
    pub(crate) fn server(&self) -> &Handle {
        self.server.get().expect("it is set before the node is given to anybody")
    }

    /// Where the listeners are, secure ones first.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.server().addresses().into_iter().map(|(_, address)| address).collect()
    }

    /// The port that devices are told: the one in force where the settings left it to the system.
    pub(crate) fn device_port(&self) -> u16 {
        self.addresses().first().map_or_else(|| self.settings.device_port(), SocketAddr::port)
    }

    /// The listeners with what is spoken there.
    pub(crate) fn doors(&self) -> Vec<(Speaks, SocketAddr)> {
        let plain: HashSet<String> = self.settings.mqtt.iter().map(ToString::to_string).collect();
        let speaks = |name: &str| match name {
            name if name.starts_with(PINNED) => Speaks::Pinned,
            name if plain.contains(name) => Speaks::Plain,
            _ => Speaks::Mutual,
        };
        let all = self.server().addresses().into_iter();
        all.map(|(name, address)| (speaks(&name), address)).collect()
    }

    /// Everybody we know.
    pub(crate) fn directory(&self) -> Arc<Directory> {
        self.directory.load_full()
    }

    /// Reads folder and registry anew and puts what changed into force: revoked ones first. Says how many connections
    /// it ended. What was changed before the call is in force then.
    pub(crate) async fn reread(&self) -> Outcome<usize> {
        self.reading.after_now(|| self.read_anew()).await
    }

    /// Shuts out whoever has this name or certificate, without writing anything. How many connections that ended.
    pub(crate) async fn keep_out(&self, who: &str) -> Outcome<usize> {
        let meant = self.directory().meant_by(who);
        if meant.is_empty() {
            return Err(Failure::new(Exit::NotFound, format!("the running node knows nobody called {who}")));
        }
        tracing::warn!(who, "kept out until this node stops: its revocation could not be written");
        self.kept_out.lock().unwrap_or_else(PoisonError::into_inner).extend(&meant);
        // The door knows it from here on; the folder may be what is broken.
        let mut ended = 0;
        for credential in meant {
            ended += self.server().expel(credential).await;
        }
        match self.reread().await {
            Ok(more) => ended += more,
            Err(failure) => tracing::warn!("folder and registry could not be read: {}", failure.what),
        }
        Ok(ended)
    }

    /// Whether it is kept out until this node stops.
    fn is_kept_out(&self, credential: &Credential) -> bool {
        self.kept_out.lock().unwrap_or_else(PoisonError::into_inner).contains(credential)
    }

    async fn read_anew(&self) -> Outcome<usize> {
        let stamps = Stamps::take(&self.settings, &self.registry);
        let folders = Folders::open(&self.settings)?;
        let mut fresh = Directory::read(&folders, &self.registry)?;
        fresh.revoked.extend(self.kept_out.lock().unwrap_or_else(PoisonError::into_inner).iter());
        let before = self.directory();
        let mut out = fresh.newly_out(&before);
        if folders.all().count() < self.folders.load().all().count() {
            // A rollover has ended: who still has a certificate of the CA that went is out.
            out.extend(fresh.gone(&before));
        }
        let regranted = fresh.regranted(&before);
        let server_changed = {
            let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            read.1.server != stamps.server
        };
        let set_changed = fresh.revoked != before.revoked;
        let parts = (server_changed || set_changed)
            .then(|| identities(&self.settings, &folders, &fresh.revoked))
            .transpose()?;
        self.directory.store(Arc::new(fresh));
        if let Some([identity, pinned]) = parts {
            self.identity.replace(identity);
            self.pinned.replace(pinned);
        }
        self.witnessed.shows(&folders, false);
        self.folders.store(Arc::new(folders));
        let mut ended = 0;
        // The first client may be at the door before the node itself has the broker's handle; then nobody is in yet.
        if let Some(server) = self.server.get() {
            for credential in out {
                ended += server.expel(credential).await;
            }
            // Who came in as a stranger and is somebody now comes again, with what that one may do.
            let directory = self.directory();
            for credential in self.strangers.no_more(|credential| directory.holder(credential).is_none()) {
                server.expel(credential).await;
            }
            for (identity, grants) in regranted {
                server.regrant(&identity, &grants);
            }
        }
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), stamps);
        Ok(ended)
    }

    /// Hears what the devices say; subscribes anew when there are devices with other topics.
    async fn listen_to_telemetry(self: Arc<Self>) {
        loop {
            let wanted = self.directory().telemetry.clone();
            let filters = wanted.iter().filter_map(|filter| TopicFilter::parse(filter).ok()).collect();
            let mut messages = self.server().attach(filters, TELEMETRY_WAITING);
            loop {
                match tokio::time::timeout(LOOK_EVERY, messages.recv()).await {
                    Ok(Some(message)) => self.last_words.note(&message),
                    Ok(None) => return,
                    Err(_) if self.directory().telemetry != wanted => break,
                    Err(_) => {}
                }
            }
        }
    }

    /// The devices as a person sees them, those in trouble or offline with the others, by name.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let directory = self.directory();
        let row = |device: &Device| {
            let known = directory.password_ids(device).chain(device.serial.as_deref());
            let presence = known
                .filter_map(|known| self.presence.of(known))
                .max_by_key(|seen| (seen.is_online(), seen.last_seen));
            let online = presence.as_ref().filter(|presence| presence.is_online());
            Row {
                name: device.name.to_string(),
                rung: device.rung.to_string(),
                state: if device.quarantine.is_some() && device.state.admits() {
                    "quarantined".into()
                } else {
                    device.state.to_string()
                },
                online: online.is_some(),
                address: device.address.to_string(),
                client: online.map(|presence| presence.sighting.address.clone()),
                serial: device.serial.clone(),
                expires: device.expires.map(dates::day),
                expires_at: device.expires,
                last_seen: presence.as_ref().map(|presence| presence.last_seen).or(device.last_seen),
                problem: device.problem.clone(),
                telemetry: self
                    .last_words
                    .of(&device.topics.full(&device.topics.telemetry, &device.topics.topic)),
            }
        };
        directory.devices.iter().map(row).collect()
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn folders(&self) -> Arc<Folders> {
        self.folders.load_full()
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Stops: listeners, connections, threads.
    pub(crate) async fn stop(&self) {
        self.server().clone().stop(STOP_GRACE).await;
        self.keep_presence();
    }
}

/// What the broker keeps; looking for damage takes time in proportion to the file.
async fn open_journal(home: &Home, settings: &Settings) -> Outcome<SqliteJournal> {
    let (path, durability) = (home.broker_db(), settings.durability.into());
    let opened = tokio::task::spawn_blocking(move || SqliteJournal::open(&path, durability)).await;
    opened.map_err(|_| Failure::new(Exit::System, "interrupted while starting"))?.map_err(trouble::journal)
}
