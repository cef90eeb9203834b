//! Background, account and pid file: what happens while the process has one thread.
//!
//! On Linux an account belongs to each thread, and a thread hands its own on to those that it starts. So the account is
//! changed before there is a second one, by the safe calls for one thread; that there is only one is looked up first.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::source::Source;
use crate::failure::{Exit, Failure, Outcome, io_failure};
use crate::output::print;

/// What the background process says when it listens.
const READY: &str = "ready\n";

/// The pid file, taken away again at the end.
#[derive(Debug)]
pub(crate) struct PidFile(PathBuf);

impl PidFile {
    pub(super) fn write(path: &Path) -> Outcome<Self> {
        fs::write(path, format!("{}\n", std::process::id())).map_err(|error| {
            Failure::new(Exit::System, format!("cannot write the pid file {}", path.display()))
                .why(error)
                .hint("the account that the broker runs as (option 'user') must be able to write there")
        })?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // The folder may be root's; a file left behind harms nobody.
        fs::remove_file(&self.0).ok();
    }
}

/// Our file in the place of Mosquitto's: `broker.db` for `mosquitto.db`.
pub(super) fn broker_db(mosquitto_db: &Path) -> PathBuf {
    let name = mosquitto_db.file_name().unwrap_or_default().to_string_lossy();
    let ours = if name == "mosquitto.db" { "broker.db".into() } else { format!("{name}.broker.db") };
    mosquitto_db.with_file_name(ours)
}

impl Source {
    /// `-d`: starts the same in the background and waits until it listens.
    pub(crate) fn detach(&self) -> Outcome {
        // Faults are told on this terminal, with their own status.
        self.configuration()?;
        let failed = |error: std::io::Error| {
            Failure::new(Exit::System, "cannot go into the background")
                .why(error)
                .hint("start it without -d, under systemd or with & of the shell")
        };
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.args(["broker", "--detached"]);
        if let Some(file) = &self.file {
            command.arg("-c").arg(file);
        }
        for port in &self.ports {
            command.arg("-p").arg(port.to_string());
        }
        for (is_set, option) in [(self.verbose, "-v"), (self.quiet, "-q")] {
            command.args(is_set.then_some(option));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let mut said = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut said).map_err(failed)?;
        }
        if said == READY {
            return Ok(());
        }
        let mut complaints = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_string(&mut complaints).map_err(failed)?;
        }
        eprint!("{complaints}");
        let code = child.wait().map_err(failed)?.code().and_then(|code| u8::try_from(code).ok());
        Err(Failure::new(Exit::from_code(code.unwrap_or(1)), "the process in the background did not start")
            .why("see above"))
    }
}

/// Leaves the terminal for good.
pub(super) fn leave_terminal() -> Outcome {
    rustix::process::setsid().map(drop).map_err(|error| {
        Failure::new(Exit::System, "cannot leave the terminal").why(error).hint("--detached is for -d alone")
    })
}

/// Tells the process that waits on the terminal.
pub(super) fn say_ready() {
    // It may have been killed.
    print(READY).ok();
}

/// Started as root: becomes another account, for good. Answers with what should be known about it.
pub(crate) fn change_to(user: &str) -> Outcome<Option<String>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    if user == "root" {
        return Ok(Some("A broker should not be run as root/administrator.".into()));
    }
    // Mosquitto's default account may not be there; then it takes nobody.
    let found = Account::find(user)?;
    let found = match found {
        None if user == "mosquitto" => Account::find("nobody")?,
        found => found,
    };
    let account = found.ok_or_else(|| {
        Failure::new(Exit::System, format!("there is no account {user:?} in /etc/passwd")).hint(
            "name another one with 'user' in the configuration, or start quoll as the account it is to have",
        )
    })?;
    account.become_it().map_err(|error| {
        Failure::new(Exit::System, format!("cannot change to the account {:?}", account.name))
            .why(error)
            .hint("start quoll as that account (User= of a systemd unit), or say 'user root'")
    })?;
    Ok(None)
}

/// A line of `/etc/passwd`, with the groups of `/etc/group`.
struct Account {
    name: String,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Account {
    fn find(name: &str) -> Outcome<Option<Self>> {
        let read = |path: &str| {
            fs::read_to_string(path).map_err(|error| io_failure("read", Path::new(path), &error))
        };
        Ok(Self::find_in(name, &read("/etc/passwd")?, &read("/etc/group").unwrap_or_default()))
    }

    fn find_in(name: &str, passwd: &str, group: &str) -> Option<Self> {
        let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let own = fields.into_iter().find(|fields| fields.first() == Some(&name))?;
        let (uid, gid) = (own.get(2)?.parse().ok()?, own.get(3)?.parse().ok()?);
        let mut groups = vec![gid];
        for line in group.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let is_member = fields.get(3).is_some_and(|members| members.split(',').any(|it| it == name));
            if let Some(id) = fields.get(2).and_then(|id| id.parse().ok()).filter(|_| is_member) {
                groups.push(id);
            }
        }
        groups.dedup();
        Some(Self { name: name.into(), uid, gid, groups })
    }

    #[cfg(target_os = "linux")]
    fn become_it(&self) -> std::io::Result<()> {
        use rustix::process::{Gid, Uid};
        use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
        if fs::read_dir("/proc/self/task")?.count() != 1 {
            return Err(std::io::Error::other("there is a second thread already, which would stay root"));
        }
        let groups: Vec<Gid> = self.groups.iter().map(|id| Gid::from_raw(*id)).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        set_thread_groups(&groups)?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn become_it(&self) -> std::io::Result<()> {
        let Self { uid: _, gid: _, groups: _, .. } = self;
        Err(std::io::Error::other("on this system quoll cannot change its account"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_its_own_group_and_those_that_name_it() {
        let passwd = "root:x:0:0::/root:/bin/sh\nmosquitto:x:107:112:,,,:/var:/bin/false\nbad:x:y\n";
        let group = "root:x:0:\nssl-cert:x:110:postgres,mosquitto\nmosquitto:x:112:\nmos:x:5:mosquitt\n";
        let account = Account::find_in("mosquitto", passwd, group).unwrap();
        assert_eq!((account.uid, account.gid, account.groups), (107, 112, vec![112, 110]));
        assert!(Account::find_in("bad", passwd, group).is_none());
        assert!(Account::find_in("mosquit", passwd, group).is_none());
    }

    #[test]
    fn our_file_never_is_mosquittos() {
        assert_eq!(
            broker_db(Path::new("/var/lib/mosquitto/mosquitto.db")),
            Path::new("/var/lib/mosquitto/broker.db")
        );
        assert_eq!(broker_db(Path::new("x/broker.db")), Path::new("x/broker.db.broker.db"));
    }
}
