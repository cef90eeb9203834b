//! What holds for the whole broker.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quoll_broker::ShardSettings;
use quoll_broker::settings::Overlapping;

use super::Surroundings;
use super::log::Log;
use super::said::Said;
use super::value::Value;

/// Settings of the whole broker, as understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Global {
    /// Settings of the rules. Of what a listener may set itself, these are the values of a listener that does not; the
    /// listeners' own are in [`super::ListenerConfiguration`].
    pub rules: ShardSettings,
    /// Whether each listener has its own [`super::Security`] (`per_listener_settings`).
    pub per_listener_settings: bool,
    /// What client ids have to begin with (`clientid_prefixes`); those that are made here too, as in Mosquitto.
    pub client_id_prefix: Option<String>,
    /// Whether `$CONTROL/broker/v1` is answered (`enable_control_api`).
    pub control_api: bool,
    /// Connections on all listeners together; `None`: no limit (`global_max_connections`).
    pub max_connections: Option<u32>,
    /// Whether Nagle's algorithm is off (`set_tcp_nodelay`); `None`: nothing is said. Mosquitto has it on then, Quoll off.
    pub tcp_nodelay: Option<bool>,
    /// Time between two updates of `$SYS`; `None`: there is none (`sys_interval`).
    pub sys_interval: Option<Duration>,
    /// What survives a restart; `None`: nothing (`persistence`).
    pub persistence: Option<Persistence>,
    /// The log.
    pub log: Log,
    /// Where to write the process id (`pid_file`).
    pub pid_file: Option<PathBuf>,
    /// The account to change to when started as root (`user`); Mosquitto takes nobody if `mosquitto` does not exist.
    pub user: String,
}

/// What survives a restart, in Mosquitto's terms. Quoll's journal writes each change; folder and intervals are for it
/// to use or to leave.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Persistence {
    /// Mosquitto's file (`persistence_location` and `persistence_file`).
    pub file: PathBuf,
    /// When Mosquitto writes it.
    pub autosave: Autosave,
}

/// When Mosquitto writes its file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Autosave {
    /// At its end and when told to.
    AtEnd,
    /// Each time this has gone by (`autosave_interval`).
    Every(Duration),
    /// After so many changes (`autosave_on_changes`).
    Changes(u32),
}

impl Global {
    pub(super) fn understand(said: &Said, per_listener_settings: bool, surroundings: &Surroundings) -> Self {
        let sys_interval = said.number("sys_interval").unwrap_or(10);
        Self {
            rules: rules(said),
            per_listener_settings,
            client_id_prefix: said.text("clientid_prefixes").map(str::to_owned),
            control_api: said.flag("enable_control_api").unwrap_or(false),
            max_connections: said.limit("global_max_connections"),
            tcp_nodelay: said.flag("set_tcp_nodelay"),
            sys_interval: (sys_interval > 0).then(|| Duration::from_secs(sys_interval)),
            persistence: persistence(said, surroundings),
            log: Log::understand(said),
            pid_file: said.path("pid_file"),
            user: said.text("user").unwrap_or("mosquitto").to_owned(),
        }
    }
}

fn rules(said: &Said) -> ShardSettings {
    let usual = ShardSettings::default();
    // The option counts minutes, up to 19 years.
    let retain_minutes = said.number::<u32>("retain_expiry_interval").unwrap_or(0).min(10_000_000);
    ShardSettings {
        max_inflight_messages: said.number("max_inflight_messages").unwrap_or(usual.max_inflight_messages),
        max_inflight_bytes: said.number("max_inflight_bytes").unwrap_or(usual.max_inflight_bytes),
        max_queued_messages: said.number("max_queued_messages").unwrap_or(usual.max_queued_messages),
        max_queued_bytes: said.number("max_queued_bytes").unwrap_or(usual.max_queued_bytes),
        queue_qos0_messages: said.flag("queue_qos0_messages").unwrap_or(usual.queue_qos0_messages),
        upgrade_outgoing_qos: said.flag("upgrade_outgoing_qos").unwrap_or(usual.upgrade_outgoing_qos),
        check_retain_source: said.flag("check_retain_source").unwrap_or(usual.check_retain_source),
        message_size_limit: said.number("message_size_limit").unwrap_or(usual.message_size_limit),
        max_packet_size: said.number("max_packet_size").unwrap_or(usual.max_packet_size),
        max_keepalive: said.number("max_keepalive").unwrap_or(usual.max_keepalive),
        persistent_client_expiration: match said.value("persistent_client_expiration") {
            Some(Value::Period(period)) => Some(*period),
            _ => None,
        },
        allow_zero_length_clientid: said.flag("allow_zero_length_clientid").unwrap_or(true),
        auto_id_prefix: said.text("auto_id_prefix").map_or(usual.auto_id_prefix, Arc::from),
        retain_available: said.flag("retain_available").unwrap_or(usual.retain_available),
        retain_expiry_interval: retain_minutes * 60,
        overlapping: match said.flag("allow_duplicate_messages") {
            Some(false) => Overlapping::OneCopy,
            _ => Overlapping::EachSubscription,
        },
        max_sessions: said.limit("global_max_clients").unwrap_or(usual.max_sessions),
        ..ShardSettings::default()
    }
}

fn persistence(said: &Said, surroundings: &Surroundings) -> Option<Persistence> {
    if !said.flag("persistence").unwrap_or(false) {
        return None;
    }
    // The environment goes before the file.
    let folder = surroundings.persistence_location.clone().or_else(|| said.path("persistence_location"));
    let file = said.text("persistence_file").unwrap_or("mosquitto.db");
    let interval = said.number::<u32>("autosave_interval").unwrap_or(1800);
    let autosave = match said.flag("autosave_on_changes") {
        _ if interval == 0 => Autosave::AtEnd,
        Some(true) => Autosave::Changes(interval),
        _ => Autosave::Every(Duration::from_secs(interval.into())),
    };
    Some(Persistence { file: folder.unwrap_or_default().join(file), autosave })
}
