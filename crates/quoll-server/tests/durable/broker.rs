//! A broker in a process of its own: this test program once more.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Where the broker in a process of its own keeps its state; its shards; what an acknowledgement waits for.
pub(crate) const JOURNAL: &str = "QUOLL_TEST_JOURNAL";
pub(crate) const SHARDS: &str = "QUOLL_TEST_SHARDS";
pub(crate) const DURABILITY: &str = "QUOLL_TEST_DURABILITY";

/// That process.
pub(crate) struct Broker {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    _output: BufReader<ChildStdout>,
}

impl Broker {
    pub(crate) fn start(journal: &Path, shards: usize, durability: &str) -> Self {
        Self::start_by(Command::new(std::env::current_exe().unwrap()), journal, shards, durability)
    }

    pub(crate) fn start_by(mut command: Command, journal: &Path, shards: usize, durability: &str) -> Self {
        let mut child = command
            .args(["--exact", "a_broker_for_the_other_tests_to_kill", "--nocapture"])
            .env(JOURNAL, journal)
            .env(SHARDS, shards.to_string())
            .env(DURABILITY, durability)
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "the broker did not start");
            if let Some((_, address)) = line.split_once("listening on ") {
                break address.trim().parse().unwrap();
            }
        };
        Self { child, address, _output: output }
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn terminate(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success(), "SIGTERM is a good end");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
