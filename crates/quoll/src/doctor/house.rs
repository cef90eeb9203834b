//! The whole house but its devices: node, listener, CA, certificates, revocation list, disk, databases.

use quoll_fleet::doctor::evidence::{DeviceSide, Target};
use quoll_fleet::registry::Registry;
use quoll_fleet::registry::audit::AuditError;
use serde::Serialize;
use time::{Duration, OffsetDateTime};

use super::{Practice, rehearsal};
use crate::{dates, workshop};

/// An owner wants to know this long before the CA ends: its successor has to be compiled into firmware.
const CA_NOTICE: Duration = Duration::days(180);
/// And this long before the server's certificate does.
const SERVER_NOTICE: Duration = Duration::days(30);
/// Free bytes of the disk below which it is said, and below which SQLite soon stops.
const LITTLE_DISK: u64 = 512 << 20;
const NO_DISK: u64 = 32 << 20;

/// How a part of the house is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    Well,
    Warned,
    Ill,
}

impl State {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Warned => "warned",
            Self::Ill => "ill",
        }
    }
}

/// One part of the house.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) part: &'static str,
    pub(crate) state: State,
    pub(crate) finding: String,
    pub(crate) fix: Option<String>,
}

impl Check {
    fn new(part: &'static str, state: State, finding: impl Into<String>) -> Self {
        Self { part, state, finding: finding.into(), fix: None }
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// Looks at everything.
pub(crate) async fn check(practice: &Practice) -> Vec<Check> {
    let now = OffsetDateTime::now_utc();
    let mut checks = vec![node(practice), listener(practice).await];
    checks.extend(ca(practice, now));
    checks.extend(server(practice, now));
    checks.push(crl(practice));
    checks.push(disk(practice));
    checks.push(fleet(practice));
    checks.push(broker_store(practice));
    checks
}

fn node(practice: &Practice) -> Check {
    match &practice.node.silence {
        Some(why) => Check::new("node", State::Ill, why.clone()).fix("quoll up"),
        None => {
            let connected = practice.node.connections.len();
            let found = format!("quoll {}, {connected} connected", practice.node.version);
            let own = env!("CARGO_PKG_VERSION");
            if practice.node.version == own {
                Check::new("node", State::Well, found)
            } else {
                Check::new("node", State::Warned, format!("{found}; this is quoll {own}"))
                    .fix("restart the node")
            }
        }
    }
}

/// The address that devices are told, as one of them would use it.
async fn listener(practice: &Practice) -> Check {
    let (host, port) = (practice.settings.host.clone(), practice.settings.device_port());
    let target =
        Target { host: host.clone(), port, ec_server: practice.folder.has_ec_server(), ..Target::default() };
    let side = rehearsal::look(practice, &DeviceSide::default(), &target).await;
    let at = format!("{host}:{port}");
    if let Some(why) = side.unresolved {
        return Check::new("listener", State::Ill, format!("{host} cannot be resolved here: {why}"))
            .fix("choose another [server] host in quoll.toml, or enter the name in your DNS server");
    }
    if let Some(why) = side.closed {
        return Check::new("listener", State::Ill, format!("{at}: {why}"))
            .fix("start the broker (quoll up), and check [listen] and the firewall");
    }
    let Some(tried) = side.rehearsal else {
        return Check::new("listener", State::Ill, format!("{at} could not be tried"));
    };
    let own = practice.folder.server.as_ref().map(|server| server.serial().to_string());
    match (tried.is_tls, tried.chain.first()) {
        (Some(true), Some(leaf)) if own.as_ref() != Some(&leaf.serial) => Check::new(
            "listener",
            State::Ill,
            format!("{at} shows another certificate than pki/'s: {}", leaf.subject),
        )
        .fix("find out who listens there; a node that was just renewed takes a second"),
        (Some(true), Some(_)) => match tried.number {
            Some(number) => {
                let row = quoll_tasmota::tls_error::explain(number);
                let cause = row.map_or("", |row| row.cause);
                Check::new("listener", State::Ill, format!("{at}: an ESP8266 gets {number}: {cause}"))
                    .fix(row.map_or("quoll server show", |row| row.fix))
            }
            None => Check::new("listener", State::Well, format!("{at} answers as a device needs it")),
        },
        _ => Check::new("listener", State::Ill, format!("{at} does not answer with TLS"))
            .fix("find out who listens there"),
    }
}

fn ca(practice: &Practice, now: OffsetDateTime) -> Vec<Check> {
    let Some(ca) = practice.folder.ca() else {
        let why = practice.folder.silence.clone().unwrap_or_default();
        return vec![
            Check::new("ca", State::Ill, why).fix("make one with quoll ca init, or point at one with --pki"),
        ];
    };
    let until = dates::day(ca.not_after());
    let name = ca.subject_cn().unwrap_or_default();
    let found = format!("{name}, {}, until {until}", ca.key_kind());
    vec![if ca.not_after() < now {
        Check::new("ca", State::Ill, format!("{name} ended on {until}")).fix("quoll ca rollover")
    } else if ca.not_after() < now + CA_NOTICE {
        Check::new("ca", State::Warned, found).fix("begin its succession: quoll ca rollover")
    } else {
        Check::new("ca", State::Well, found)
    }]
}

fn server(practice: &Practice, now: OffsetDateTime) -> Option<Check> {
    practice.folder.ca()?;
    let Some(server) = &practice.folder.server else {
        return Some(
            Check::new("server", State::Ill, "there is no certificate for the server")
                .fix("quoll up makes one"),
        );
    };
    let facts = practice.folder.served(server);
    let until = dates::day(server.not_after());
    let found = format!("{}, {}, until {until}", facts.names.join(" "), facts.key);
    let host = &practice.settings.host;
    let named = facts.names.iter().any(|name| name.eq_ignore_ascii_case(host));
    Some(if server.not_after() < now {
        Check::new("server", State::Ill, format!("its certificate ended on {until}"))
            .fix("quoll server renew")
    } else if !named {
        Check::new(
            "server",
            State::Ill,
            format!("its certificate does not name {host} (names: {})", facts.names.join(", ")),
        )
        .fix("put the name into [server] of quoll.toml, then: quoll server renew")
    } else if server.not_after() < now + SERVER_NOTICE {
        Check::new("server", State::Warned, found).fix("quoll server renew")
    } else if let Some(misfit) = facts.misfits.first() {
        Check::new("server", State::Warned, format!("{found}; {misfit}")).fix("quoll server show")
    } else {
        Check::new("server", State::Well, found)
    })
}

fn crl(practice: &Practice) -> Check {
    match practice.folder.crl.first() {
        _ if practice.folder.ca().is_none() => Check::new("crl", State::Ill, "there is no CA"),
        None => Check::new("crl", State::Well, "up to date"),
        Some(problem) => Check::new("crl", State::Warned, problem.clone()).fix("quoll ca crl"),
    }
}

fn disk(practice: &Practice) -> Check {
    let free = match rustix::fs::statvfs(practice.home.dir()) {
        Ok(fs) => fs.f_bavail.saturating_mul(fs.f_frsize),
        Err(error) => return Check::new("disk", State::Ill, format!("cannot be asked: {error}")),
    };
    let found = format!("{} MiB free", free >> 20);
    if free < NO_DISK {
        Check::new("disk", State::Ill, found).fix("make room; without it nothing can be kept")
    } else if free < LITTLE_DISK {
        Check::new("disk", State::Warned, found).fix("make room")
    } else {
        Check::new("disk", State::Well, found)
    }
}

fn fleet(practice: &Practice) -> Check {
    let path = practice.home.fleet_db();
    if !path.exists() {
        return Check::new("fleet.db", State::Well, "none yet: no device was added");
    }
    let opened = Registry::open(&path).map_err(AuditError::Registry);
    match opened.and_then(|registry| registry.verify_audit()) {
        Ok(head) => {
            let devices = practice.devices.len();
            Check::new("fleet.db", State::Well, format!("{devices} devices; {} audit rows, intact", head.seq))
        }
        Err(AuditError::Registry(error)) => {
            let check = Check::new("fleet.db", State::Ill, error.to_string());
            match error.hint() {
                Some(hint) => check.fix(hint),
                None => check.fix("put it back from a backup"),
            }
        }
        Err(error) => {
            Check::new("fleet.db", State::Ill, format!("somebody tampered with the audit trail: {error}"))
                .fix("quoll audit verify")
        }
    }
}

/// A running node has it open; its size is what can be seen from outside.
fn broker_store(practice: &Practice) -> Check {
    let path = practice.home.broker_db();
    match path.metadata() {
        Ok(meta) => Check::new("broker.db", State::Well, format!("{} KiB", meta.len() >> 10)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Check::new("broker.db", State::Well, "none yet: no node has run here")
        }
        Err(error) => Check::new("broker.db", State::Ill, error.to_string()).fix("check who owns it"),
    }
}

/// Whether there is a house at all.
pub(crate) fn is_empty(practice: &Practice) -> bool {
    !workshop::is_made(&practice.settings) && !practice.home.fleet_db().exists()
}
