//! A home folder of its own, the program run in it, and real counterparts beside it. Loopback only.

#![allow(dead_code, unused_imports, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test may")]

pub(crate) mod bearssl;
pub(crate) mod folder;
#[path = "../../../quoll-mqtt/tests/support/free_port.rs"]
mod free_port;
pub(crate) mod pinned;
pub(crate) mod power_cut;
pub(crate) mod transcript;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

pub(crate) use free_port::free_port;
use serde_json::Value;

/// Long enough for a loaded machine; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A home folder, gone with the test.
pub(crate) struct Home {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) port: u16,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), port: free_port() }
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join(inside)
    }

    /// The program, in this home.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quoll"));
        command.arg("--home").arg(self.dir.path()).args(words);
        for name in
            ["QUOLL_HOME", "QUOLL_PASSPHRASE_FILE", "QUOLL_LOG", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY"]
        {
            command.env_remove(name);
        }
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs, and expects success; its standard output.
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", complaint(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs, and expects this exit code; its standard error.
    pub(crate) fn fails(&self, code: i32, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", complaint(&output));
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let mut all = words.to_vec();
        all.extend(["--output", "json"]);
        serde_json::from_str(&self.ok(&all)).unwrap()
    }

    /// A CA and a server certificate for this home's loopback port, without a node.
    pub(crate) fn init(&self) {
        self.ok(&["ca", "init", "--host", "127.0.0.1", "--listen", &format!("127.0.0.1:{}", self.port)]);
    }

    /// Starts `quoll up` on this home's port.
    pub(crate) fn up(&self, more: &[&str]) -> Up {
        let listen = format!("127.0.0.1:{}", self.port);
        let mut words = vec!["up", "--listen", &listen, "--web", "off"];
        words.extend(more);
        Up::of(self.command(&words))
    }

    /// Starts `quoll up` and waits until it listens.
    pub(crate) fn up_and_listening(&self, more: &[&str]) -> Up {
        let mut up = self.up(more);
        up.wait_for(|line| line.starts_with("Listening on"));
        up
    }

    /// The device of this name in `device list`.
    pub(crate) fn device(&self, name: &str) -> Value {
        let list = self.json(&["device", "list"]);
        let found = list.as_array().unwrap().iter().find(|device| device["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {list}")).clone()
    }
}

/// A running node, or another program that goes on.
pub(crate) struct Up {
    child: Child,
    lines: Receiver<String>,
    pub(crate) heard: Vec<String>,
}

impl Up {
    /// Starts it, and listens to what it says.
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (said, lines) = channel();
        for stream in [
            Box::new(child.stdout.take().unwrap()) as Box<dyn std::io::Read + Send>,
            Box::new(child.stderr.take().unwrap()),
        ] {
            let said = said.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if said.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Self { child, lines, heard: Vec::new() }
    }

    /// Waits for a line; panics with all that was heard where it does not come.
    pub(crate) fn wait_for(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.heard.push(line.clone());
                    if wanted(&line) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("it did not come; heard:\n{}", self.heard.join("\n"))
                }
                Err(RecvTimeoutError::Disconnected) => panic!("it ended; heard:\n{}", self.heard.join("\n")),
            }
        }
    }

    /// What it said and nobody waited for, until it ends.
    pub(crate) fn rest(&mut self) -> Vec<String> {
        let mut rest = Vec::new();
        let until = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            rest.push(line);
        }
        rest
    }

    /// SIGTERM, and its exit code.
    pub(crate) fn stop(mut self) -> i32 {
        self.signal("-TERM");
        self.exit_code()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: no farewell of any kind.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn exit_code(&mut self) -> i32 {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it did not end; heard:\n{}", self.heard.join("\n"));
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) fn complaint(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Tries until it holds; panics with the last answer where it does not.
pub(crate) fn until<T: std::fmt::Debug>(mut look: impl FnMut() -> T, good: impl Fn(&T) -> bool) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        let seen = look();
        if good(&seen) {
            return seen;
        }
        assert!(Instant::now() < end, "it stayed {seen:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs a program that must be installed (`scripts/setup`).
pub(crate) fn tool(program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed: {error}; scripts/setup installs it"))
}

/// What lies beside the project: fixtures, vectors, tools.
pub(crate) fn shared(inside: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(inside);
    assert!(path.exists(), "{} is needed", path.display());
    path
}
