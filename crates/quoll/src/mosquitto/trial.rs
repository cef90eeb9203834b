//! The whole configuration tried out before anything is changed: a copy, its listeners on loopback ports, its memory and
//! its bridges left out, run by the real `mosquitto` (2.0 has no option that only tests).

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::install::{install, set};
use super::place::{Listen, Place, confs_in, options, read};
use super::plan::{Material, Plan};
use super::proof::{Fleeting, Identity, prove, wait_for};
use crate::failure::{Exit, Failure, Outcome, io_failure};
use crate::home::write_whole;

/// What the folders of trials are called, before the number of their process.
pub(crate) const FOLDER: &str = ".quoll-trial-";
/// Lines of Mosquitto's log that a failure repeats.
const LAST_LINES: usize = 6;

/// Options that would touch what the running broker has: its database, its log, its pid file, its addresses.
const LEFT_OUT: &[&str] = &[
    "autosave_interval",
    "autosave_on_changes",
    "bind_address",
    "bind_interface",
    "log_dest",
    "persistence",
    "persistence_file",
    "persistence_location",
    "persistent_client_expiration",
    "pid_file",
    "socket_domain",
];

/// Options of bridges: a second one of the same name would throw the running one out.
const OF_BRIDGES: &[&str] = &[
    "address",
    "addresses",
    "cleansession",
    "clientid",
    "connection",
    "idle_timeout",
    "keepalive_interval",
    "local_cleansession",
    "local_clientid",
    "local_password",
    "local_username",
    "notification_topic",
    "notifications",
    "notifications_local_only",
    "password",
    "remote_clientid",
    "remote_password",
    "remote_username",
    "restart_timeout",
    "round_robin",
    "start_type",
    "threshold",
    "topic",
    "try_private",
    "username",
];

/// Tries the configuration that `place` would have; nothing of it stays.
pub(crate) fn try_out(place: &Place, material: &Material, ca: &Path, identity: Option<&Identity>) -> Outcome {
    let folder = Fleeting::new(place.dir.join(format!("{FOLDER}{}", std::process::id())))?;
    set(&folder.0, 0o700, place.owner)?;
    let listen = Listen { port: free_port()?, address: Some(Ipv4Addr::LOCALHOST.into()) };
    let plan = Plan::new(&folder.0, material, listen, place.owner, place.lets_everybody_in().is_some());
    install(&plan, &folder.0)?;
    let main = folder.0.join("mosquitto.conf");
    let mut text = String::from("log_dest stderr\n");
    for (path, content) in &place.files {
        text += &defused(content, path, place)?;
    }
    text += &format!("include_dir {}\n", folder.0.join("conf.d").display());
    write_whole(&main, text.as_bytes(), 0o400, true)?;
    set(&main, 0o400, place.owner)?;
    let log = folder.0.join("log");
    let mut broker = Broker::start(&main, &log)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, listen.port));
    let tried = wait_for(address, || broker.alive()).and_then(|()| prove(address, ca, identity));
    tried.map_err(|failure| {
        let log = last_lines(&log);
        let why = failure.why.unwrap_or_default();
        Failure { why: Some(format!("{why}; mosquitto's log: {log}; nothing was changed")), ..failure }
    })
}

/// A configuration file with its listeners on free loopback ports, and without what belongs to the running broker. Other
/// folders that it includes are read into it; ours comes by itself.
fn defused(content: &str, path: &Path, place: &Place) -> Outcome<String> {
    let conf_d = fs::canonicalize(place.dir.join("conf.d")).ok();
    let mut text = format!("# {}\n", path.display());
    for (name, value) in options(content) {
        match name {
            "listener" | "port" => text += &format!("listener {} 127.0.0.1\n", free_port()?),
            "include_dir" if fs::canonicalize(value).ok() == conf_d => {}
            "include_dir" => {
                for path in confs_in(Path::new(value))? {
                    text += &defused(&read(&path)?, &path, place)?;
                }
            }
            _ if LEFT_OUT.contains(&name) || OF_BRIDGES.contains(&name) || name.starts_with("bridge_") => {}
            _ => text += &format!("{name} {value}\n"),
        }
    }
    Ok(text)
}

fn free_port() -> Outcome<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| Failure::new(Exit::Address, "there is no free port to try it on").why(error))
}

/// The broker of the trial; ends with the value.
struct Broker(Child);

impl Broker {
    fn start(main: &Path, log: &Path) -> Outcome<Self> {
        let failed = |error: &std::io::Error| io_failure("write", log, error);
        let out = fs::File::create(log).map_err(|error| failed(&error))?;
        let again = out.try_clone().map_err(|error| failed(&error))?;
        let mut command = Command::new(program());
        command.arg("-c").arg(main).stdin(Stdio::null()).stdout(again).stderr(out);
        let child = command.spawn().map_err(|error| {
            Failure::new(Exit::System, "mosquitto cannot be run")
                .why(format!("{error}; nothing was changed"))
                .hint("install it: apt-get install mosquitto")
        })?;
        Ok(Self(child))
    }

    fn alive(&mut self) -> Outcome {
        match self.0.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                Err(Failure::new(Exit::Unusable, "mosquitto does not start with it").why(status).hint(
                    "put right what it names; lines of your own files are meant where it is not quoll.conf",
                ))
            }
            Err(error) => Err(Failure::new(Exit::System, "mosquitto cannot be watched").why(error)),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Debian keeps it where only root's PATH looks.
fn program() -> PathBuf {
    let usual = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/local/bin/mosquitto"];
    let found = usual.into_iter().map(PathBuf::from).find(|path| path.exists());
    found.unwrap_or_else(|| "mosquitto".into())
}

fn last_lines(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join(" | ")
}
