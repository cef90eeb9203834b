//! Whoever runs Mosquitto, asked to restart it or to read its files anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::place::Place;
use super::proof::ended;
use crate::failure::{Exit, Failure, Outcome};

/// A restart may wait for connections to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who runs it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Service {
    /// A command that somebody gave, for the shell.
    Given(String),
    /// systemd's unit `mosquitto`.
    Systemd,
    /// Nobody that we know; its process, by its `pid_file`.
    Process(i32),
    /// Nobody.
    Nobody,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Act {
    /// Certificates, key and revocation list read anew; connections stay.
    Reload,
    /// A listener opened, too.
    Restart,
}

impl Service {
    /// Finds out. Only `/etc/mosquitto` is what systemd's unit reads.
    pub(crate) fn find(place: &Place, command: Option<&str>, none: bool) -> Self {
        if none {
            return Self::Nobody;
        }
        if let Some(command) = command {
            return Self::Given(command.to_owned());
        }
        let systemd = Path::new("/run/systemd/system").is_dir() && place.dir == Path::new("/etc/mosquitto");
        if systemd
            && Command::new("systemctl")
                .args(["cat", "mosquitto.service"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        {
            return Self::Systemd;
        }
        place.option("pid_file").and_then(process_of).map_or(Self::Nobody, Self::Process)
    }

    /// What it would do, for a person.
    pub(crate) fn says(&self, act: Act) -> String {
        match (self, act) {
            (Self::Given(command), _) => format!("run: {command}"),
            (Self::Systemd, Act::Reload) => "systemctl reload mosquitto".into(),
            (Self::Systemd, Act::Restart) => "systemctl restart mosquitto".into(),
            (Self::Process(pid), Act::Reload) => format!("SIGHUP to process {pid}"),
            (Self::Process(_), Act::Restart) => {
                "nothing: a new listener needs a restart, and nobody here can do it".into()
            }
            (Self::Nobody, _) => "nothing: it is yours to restart".into(),
        }
    }

    /// Does it. Answers with false where it cannot, and a person must.
    pub(crate) fn act(&self, act: Act) -> Outcome<bool> {
        match (self, act) {
            (Self::Given(command), _) => run("sh", &["-c", command]).map(|()| true),
            (Self::Systemd, Act::Reload) => run("systemctl", &["reload", "mosquitto"]).map(|()| true),
            (Self::Systemd, Act::Restart) => run("systemctl", &["restart", "mosquitto"]).map(|()| true),
            (Self::Process(pid), Act::Reload) => {
                let failed =
                    |why: String| Failure::new(Exit::System, format!("cannot signal process {pid}")).why(why);
                let pid = Pid::from_raw(*pid).ok_or_else(|| failed("it is no process".into()))?;
                kill_process(pid, Signal::HUP).map_err(|error| failed(error.to_string()))?;
                Ok(true)
            }
            (Self::Process(_), Act::Restart) | (Self::Nobody, _) => Ok(false),
        }
    }
}

/// The process of a `pid_file`, if it is a Mosquitto: numbers are used again.
fn process_of(pid_file: &str) -> Option<i32> {
    let pid: i32 = fs::read_to_string(pid_file).ok()?.trim().parse().ok().filter(|pid| *pid > 1)?;
    let name = fs::read_to_string(PathBuf::from(format!("/proc/{pid}/comm"))).ok()?;
    (name.trim() == "mosquitto").then_some(pid)
}

fn run(program: &str, words: &[&str]) -> Outcome {
    let said = format!("{program} {}", words.join(" "));
    let failed = |why: String| Failure::new(Exit::System, format!("{said} failed")).why(why);
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    match ended(&mut child, PATIENCE).map_err(|error| failed(error.to_string()))? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(failed(status.to_string())),
        None => Err(failed(format!("it did not end within {} s", PATIENCE.as_secs()))),
    }
}
