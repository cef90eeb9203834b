//! Who is asked to bridge: Quoll in this process, or Debian's Mosquitto, both by the same configuration.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quoll_broker::Grants;
use quoll_mqtt::ProtocolVersion;
use quoll_mqtt::client::{ClientOptions, Message};
use quoll_server::bridge::tls;
use quoll_server::client::{Client, Target};
use quoll_server::mosquitto::{Disk, Surroundings, read};
use quoll_server::{Bridge, Bridges, MemoryJournal};
use tokio::runtime::Runtime;

use crate::common::{Server, free_port, scratch, serve_with};
use crate::fake::PATIENCE;

/// Does something for each row, all at once: most of the time each waits. Panics where one did.
pub(crate) fn for_each<T: Sync>(rows: &[T], act: impl Fn(&T) + Sync) {
    std::thread::scope(|scope| {
        let act = &act;
        let workers: Vec<_> = rows.iter().map(|row| scope.spawn(move || act(row))).collect();
        for worker in workers {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

/// A runtime for one test.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A file of its own with this text.
pub(crate) fn configuration(text: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let folder = scratch("bridge");
    let path = folder.join(format!("{}.conf", NUMBER.fetch_add(1, Ordering::Relaxed)));
    std::fs::write(&path, text).unwrap();
    path
}

/// The bridges of a mosquitto.conf, as `quoll broker` would have them.
pub(crate) fn bridges(path: &Path) -> Vec<Bridge> {
    let surroundings = Surroundings { host_name: host_name(), persistence_location: None };
    let read = read(path, &Disk, &surroundings).unwrap_or_else(|faults| panic!("{faults:?}"));
    let bridge = |configuration: quoll_server::mosquitto::BridgeConfiguration| Bridge {
        tls: configuration.tls.as_ref().map(|tls| tls::client_config(tls, &Disk).unwrap()),
        configuration,
        grants: Arc::new(Grants::all()),
        window: 20,
        largest: 2_000_000,
    };
    read.bridges.into_iter().map(bridge).collect()
}

/// Quoll with the bridges of a configuration.
pub(crate) struct Quoll {
    pub(crate) server: Server,
    pub(crate) bridges: Bridges,
}

impl Quoll {
    /// `blocks`: the bridges' part of a mosquitto.conf.
    pub(crate) async fn start(blocks: &str) -> Self {
        let server = serve_with(Box::new(MemoryJournal::default()), |settings| {
            // Mosquitto 2.0's default; 2.1 has the other.
            settings.rules.overlapping = quoll_broker::settings::Overlapping::OneCopy;
        })
        .await;
        let bridges = Bridges::start(&server.handle, bridges(&configuration(blocks)));
        Self { server, bridges }
    }

    pub(crate) async fn stop(self) {
        self.bridges.stop().await;
        self.server.handle.stop(Duration::from_secs(2)).await;
    }
}

/// A running Mosquitto.
pub(crate) struct Mosquitto {
    child: Child,
    pub(crate) port: u16,
    log: Arc<Mutex<Vec<String>>>,
}

impl Mosquitto {
    /// `more` stands behind the listener's line.
    pub(crate) fn start(more: &str) -> Self {
        Self::start_at(free_port(), more)
    }

    pub(crate) fn start_at(port: u16, more: &str) -> Self {
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n{more}");
        let mut child = Command::new("/usr/sbin/mosquitto")
            .arg("-v")
            .arg("-c")
            .arg(configuration(&text))
            .stderr(Stdio::piped())
            .spawn()
            .expect("mosquitto is needed for this test (scripts/setup)");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, shared) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| shared.lock().unwrap().push(line));
        });
        let this = Self { child, port, log };
        this.wait_for(" running");
        this
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn wait_for(&self, part: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.log().iter().any(|line| line.contains(part)) {
            assert!(Instant::now() < until, "no {part:?} in {:#?}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A client of a broker at this address.
pub(crate) async fn client(address: SocketAddr, options: ClientOptions) -> Client {
    let target = Target { host: address.ip().to_string(), port: address.port(), tls: None };
    Client::connect(&target, options).await.unwrap_or_else(|error| panic!("{address}: {error}")).0
}

pub(crate) async fn plain_client(address: SocketAddr, client_id: &str) -> Client {
    client(address, ClientOptions::new(ProtocolVersion::V5, client_id)).await
}

pub(crate) fn message(topic: &str, payload: impl Into<bytes::Bytes>, qos: quoll_mqtt::QoS) -> Message {
    Message { qos, ..Message::new(quoll_mqtt::TopicName::parse(topic).unwrap(), payload) }
}
