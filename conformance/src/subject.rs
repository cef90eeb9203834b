//! Which broker is tested, and how it starts. The one file to change when the product starts differently.
//!
//! `QUOLL_SUBJECT` is `quoll` (default), `mosquitto` or `HOST:PORT` of a running broker. `QUOLL_BINARY` may name
//! another executable for `quoll`; it is called with `broker -q -p N`.
//!
//! A started broker ends with the tests, however they end: it is run by a shell that waits for the end of its input,
//! and the other end of that pipe is ours.

#[path = "../../crates/quoll-mqtt/tests/support/free_port.rs"]
mod free_port;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use free_port::free_port;

/// Time a broker may take from its start to its first accepted connection.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// Runs `"$@"` until standard input ends.
const KEEPER: &str = r#""$@" & broker=$!; cat > /dev/null; kill "$broker"; wait "$broker""#;

/// Address of the broker that all tests of this binary share; the first caller starts it.
pub fn address() -> SocketAddr {
    static SHARED: OnceLock<Broker> = OnceLock::new();
    SHARED.get_or_init(Broker::fresh).address
}

/// Is the subject a broker of this name? For words in messages only: no test may expect less of one subject.
pub fn name() -> String {
    std::env::var("QUOLL_SUBJECT").unwrap_or_else(|_| "quoll".into())
}

/// A broker with no state of earlier tests, unless it was started by somebody else.
#[derive(Debug)]
pub struct Broker {
    /// Where it listens for plain MQTT.
    pub address: SocketAddr,
    keeper: Option<Child>,
    settings: Option<PathBuf>,
}

/// How to start a broker.
struct Start {
    program: PathBuf,
    words: Vec<String>,
    /// File of settings, removed when the broker has read it.
    settings: Option<PathBuf>,
}

impl Broker {
    /// Starts the subject on a free port of the loopback interface.
    pub fn fresh() -> Self {
        let name = name();
        let how: fn(u16) -> Start = match name.as_str() {
            "quoll" => quoll,
            "mosquitto" => mosquitto,
            running => return Self::running(running),
        };
        Self::start(&name, how)
    }

    /// Starts this one on a free port of the loopback interface.
    fn start(name: &str, how: fn(u16) -> Start) -> Self {
        let port = free_port();
        let start = how(port);
        let keeper = keep(&start).unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let address = (Ipv4Addr::LOCALHOST, port).into();
        let broker = Self { address, keeper: Some(keeper), settings: start.settings };
        broker.wait_until_ready(name);
        broker.forget_settings();
        broker
    }

    fn running(address: &str) -> Self {
        let address =
            address.to_socket_addrs().ok().and_then(|mut found| found.next()).unwrap_or_else(|| {
                panic!("QUOLL_SUBJECT={address} is neither quoll, mosquitto nor HOST:PORT")
            });
        Self { address, keeper: None, settings: None }
    }

    fn wait_until_ready(&self, name: &str) {
        let begin = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            assert!(
                begin.elapsed() < START_PATIENCE,
                "{name} does not accept connections on {}",
                self.address
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Broker {
    fn forget_settings(&self) {
        if let Some(path) = &self.settings {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.forget_settings();
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }
}

/// Quoll and Mosquitto with one and the same settings, for the differential fuzz: what 2.1 announces is announced, and the
/// Nagle algorithm is off. Both on one processor, where Quoll is one shard: what a shared subscription's member gets from
/// another shard may come behind the fence.
pub fn twins() -> (Broker, Broker) {
    let quoll = Broker::start("quoll", |port| Start {
        program: "taskset".into(),
        words: [
            vec![
                "-c".into(),
                processor(port),
                quoll_binary().display().to_string(),
                "broker".into(),
                "-q".into(),
            ],
            settings_words(&twin_settings("quoll", port)),
        ]
        .concat(),
        settings: Some(twin_settings("quoll", port)),
    });
    let mosquitto = Broker::start("mosquitto", |port| Start {
        program: mosquitto_binary(),
        words: settings_words(&twin_settings("mosquitto", port)),
        settings: Some(twin_settings("mosquitto", port)),
    });
    (quoll, mosquitto)
}

/// One of those there are, as `taskset` names it.
fn processor(port: u16) -> String {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    (usize::from(port) % count).to_string()
}

fn settings_words(path: &Path) -> Vec<String> {
    vec!["-c".into(), path.display().to_string()]
}

/// Writes the settings of a twin and names the file.
fn twin_settings(name: &str, port: u16) -> PathBuf {
    let path = std::env::temp_dir().join(format!("quoll-twin-{name}-{}-{port}.conf", std::process::id()));
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nsys_interval 0\nset_tcp_nodelay true\n\
         max_packet_size 2000000\nlog_type none\nallow_duplicate_messages true\n"
    );
    std::fs::write(&path, text).expect("the folder for temporary files can be written");
    path
}

/// The product, as it comes: this machine only, everybody may come in, nothing is kept.
fn quoll(port: u16) -> Start {
    let words = vec!["broker".into(), "-q".into(), "-p".into(), port.to_string()];
    Start { program: quoll_binary(), words, settings: None }
}

fn quoll_binary() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/quoll");
    let program = std::env::var_os("QUOLL_BINARY").map_or(built, PathBuf::from);
    assert!(
        program.exists(),
        "{} is missing; build it in the root workspace: cargo build -p quoll",
        program.display()
    );
    program
}

/// Debian's Mosquitto with an open door, all else as it comes.
fn mosquitto(port: u16) -> Start {
    let program = mosquitto_binary();
    let settings = std::env::temp_dir().join(format!("quoll-conformance-{}-{port}.conf", std::process::id()));
    let text =
        format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nsys_interval 1\n");
    std::fs::write(&settings, text).expect("the folder for temporary files can be written");
    Start { program, words: vec!["-c".into(), settings.display().to_string()], settings: Some(settings) }
}

fn mosquitto_binary() -> PathBuf {
    let program = PathBuf::from("/usr/sbin/mosquitto");
    assert!(program.exists(), "{} is missing; install Debian's mosquitto", program.display());
    program
}

fn keep(start: &Start) -> io::Result<Child> {
    Command::new("sh")
        .args(["-c", KEEPER, "keeper"])
        .arg(&start.program)
        .args(&start.words)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
