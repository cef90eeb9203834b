//! A broker under attack: its process, two clients that go on talking, and what it may have cost when all is over.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quoll_mqtt::packet::{Ack, Packet, Publish};
use quoll_mqtt::{Delivery, PacketId, ProtocolVersion, QoS, ReasonCode};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::common::*;

/// Where the broker finds certificates, and what holds for it beside its defaults.
pub(crate) const PKI: &str = "QUOLL_TEST_PKI";
pub(crate) const TERMS: &str = "QUOLL_TEST_TERMS";

/// Memory that an attack may leave behind, in bytes: what the allocator keeps for the next time, buffers that are kept for
/// reuse.
pub(crate) const LEFT_BEHIND: u64 = 48 << 20;

/// Memory that an attack may leave behind when it comes again. What it left the first time is used again.
const LEFT_BEHIND_AGAIN: u64 = 16 << 20;

/// Descriptors that may be left: threads that came late, no connection.
const FILES_LEFT: usize = 3;

pub(crate) struct Siege {
    child: Child,
    addresses: HashMap<String, SocketAddr>,
    _output: BufReader<ChildStdout>,
    witness: Option<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    files: usize,
    memory: u64,
}

impl Siege {
    /// A broker with these terms (see `main`), and its witnesses.
    pub(crate) fn begin(terms: &str) -> Self {
        Self::begin_by(Command::new(std::env::current_exe().unwrap()), terms)
    }

    /// The same, with few descriptors.
    pub(crate) fn begin_with_files(files: u32, terms: &str) -> Self {
        let mut shell = Command::new("sh");
        let program = std::env::current_exe().unwrap();
        shell.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")]).arg(program);
        Self::begin_by(shell, terms)
    }

    fn begin_by(mut command: Command, terms: &str) -> Self {
        raise_own_limit();
        let mut child = command
            .args(["--exact", "a_broker_for_the_other_tests_to_attack", "--nocapture"])
            .env(PKI, &pki().folder)
            .env(TERMS, terms)
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut addresses = HashMap::new();
        loop {
            let mut line = String::new();
            assert!(output.read_line(&mut line).unwrap() > 0, "the broker did not start");
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                [.., "listening", name, address] => {
                    addresses.insert(name.to_owned(), address.parse().unwrap());
                }
                ["ready"] => break,
                _ => {}
            }
        }
        let mut siege = Self {
            child,
            addresses,
            _output: output,
            witness: None,
            is_over: Arc::default(),
            rounds: Arc::default(),
            files: 0,
            memory: 0,
        };
        siege.post_witness();
        // What each thread and listener needs once is there when each was used once.
        for name in ["tls", "web", "wss"] {
            siege.knock(name);
        }
        (siege.files, siege.memory) = (siege.settled_files(), siege.memory());
        siege
    }

    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        self.addresses[name]
    }

    pub(crate) fn dial(&self, name: &str) -> TcpStream {
        dial(self.address(name))
    }

    /// A connected client of the plain listener.
    pub(crate) fn client(&self, client_id: &str) -> Peer {
        Peer::connect(self.dial("plain"), client_id, ProtocolVersion::V5)
    }

    /// A stranger comes in and hears itself, over this listener.
    pub(crate) fn knock(&self, name: &str) {
        let client_id = format!("stranger {name} {:?}", std::thread::current().id());
        let (address, version) = (self.address(name), ProtocolVersion::V5);
        let mut peer = match name {
            "web" => Peer::connect(web::Web::open(dial(address)), &client_id, version),
            "wss" => Peer::connect(web::Web::open(tls_to(address)), &client_id, version),
            "tls" => Peer::connect(tls_to(address), &client_id, version),
            _ => Peer::connect(dial(address), &client_id, version),
        };
        peer.subscribe(&client_id, QoS::AtLeastOnce);
        peer.send(&publish(&client_id, "here", Delivery::AtLeastOnce(PacketId::new(1).unwrap())));
        loop {
            match peer.receive() {
                Some(Packet::Publish(publish)) => break assert_eq!(publish.payload, "here"),
                Some(_) => {}
                None => panic!("a stranger was thrown out"),
            }
        }
    }

    /// Two clients that send each other a message after the other, at QoS 1, until the end.
    fn post_witness(&mut self) {
        let mut ping = self.client("witness");
        let mut pong = self.client("other witness");
        ping.subscribe("witness/pong", QoS::AtLeastOnce);
        pong.subscribe("witness/ping", QoS::AtLeastOnce);
        let (is_over, rounds) = (Arc::clone(&self.is_over), Arc::clone(&self.rounds));
        self.witness = Some(std::thread::spawn(move || {
            let one = PacketId::new(1).unwrap();
            while !is_over.load(Ordering::Relaxed) {
                ping.send(&publish("witness/ping", "well", Delivery::AtLeastOnce(one)));
                hear(&mut pong);
                pong.send(&publish("witness/pong", "well", Delivery::AtLeastOnce(one)));
                hear(&mut ping);
                rounds.fetch_add(1, Ordering::Relaxed);
                // They witness, they do not compete.
                std::thread::sleep(Duration::from_millis(5));
            }
        }));
    }

    /// The witnesses say this much to each other while an attack goes on.
    pub(crate) fn has_rounds(&self, many: u64) {
        let before = self.rounds.load(Ordering::Relaxed);
        self.until("witnesses talk", || self.rounds.load(Ordering::Relaxed) >= before + many);
    }

    /// The witnesses go on talking, and strangers come in.
    pub(crate) fn is_well(&self, what: &str) {
        let before = self.rounds.load(Ordering::Relaxed);
        self.until(what, || self.rounds.load(Ordering::Relaxed) > before + 1);
        self.knock("plain");
    }

    /// Waits until it is so.
    pub(crate) fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < LONG, "{what}: not within {LONG:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).expect("Linux is needed");
        text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    /// Memory before the attack.
    pub(crate) const fn began_with(&self) -> u64 {
        self.memory
    }

    /// The most memory that it ever had, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says it");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    pub(crate) fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// How many descriptors there are when those who left are gone.
    fn settled_files(&self) -> usize {
        let mut last = self.files();
        let (mut since, start) = (Instant::now(), Instant::now());
        while since.elapsed() < Duration::from_millis(300) && start.elapsed() < LONG {
            std::thread::sleep(Duration::from_millis(20));
            let now = self.files();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        last
    }

    /// Processor time that the broker used until now.
    pub(crate) fn worked(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let words: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = words[11].parse::<u64>().unwrap() + words[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    /// An attack on memory comes twice: the second time it has what the first left behind, and no more.
    pub(crate) fn twice(self, what: &str, attack: impl Fn(&Self)) {
        attack(&self);
        self.has_passed(what);
        let once = self.memory();
        attack(&self);
        self.has_passed(what);
        self.has_at_most(once + LEFT_BEHIND_AGAIN, what);
        self.well_done(what);
    }

    /// The attack is over: all are well, and it left nothing behind but [`LEFT_BEHIND`].
    pub(crate) fn end(self, what: &str) {
        self.has_passed(what);
        self.has_at_most(self.memory + LEFT_BEHIND, what);
        self.well_done(what);
    }

    /// All are well, and the attacker's connections are gone.
    fn has_passed(&self, what: &str) {
        self.is_well(what);
        let words = format!("{what}: {} descriptors, before {}", self.files(), self.files);
        self.until(&words, || self.files() <= self.files + FILES_LEFT);
    }

    fn has_at_most(&self, limit: u64, what: &str) {
        let words = format!("{what}: {} bytes of memory, {limit} at most", self.memory());
        self.until(&words, || self.memory() <= limit);
    }

    fn well_done(mut self, what: &str) {
        self.is_over.store(true, Ordering::Relaxed);
        let witnessed = self.witness.take().unwrap().join();
        assert!(witnessed.is_ok(), "{what}: a witness did not hear what it should");
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success(), "{what}: the broker ended badly");
    }
}

impl Drop for Siege {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a message of QoS 1, and acknowledges it.
pub(crate) fn hear(peer: &mut Peer) -> Publish {
    loop {
        match peer.receive() {
            Some(Packet::Publish(publish)) => {
                let id = publish.delivery.packet_id().expect("QoS 1");
                peer.send(&Packet::PubAck(Ack::new(id, ReasonCode::SUCCESS)));
                return publish;
            }
            Some(_) => {}
            None => panic!("one who does no harm was thrown out"),
        }
    }
}

/// Attackers need descriptors too.
fn raise_own_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    }
}

pub(crate) fn tls_to(address: SocketAddr) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    dial_tls(address, None, &rustls::version::TLS13)
}

/// Reads until the end, whatever its form; what came, and whether it was the end and not mere silence for [`LONG`].
pub(crate) fn read_to_end(stream: &mut impl std::io::Read) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return all,
            Ok(read) => all.extend_from_slice(&buffer[..read]),
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                panic!("the connection is still open after {LONG:?}")
            }
            Err(_) => return all,
        }
    }
}

/// A whole CONNECT of 3.1.1.
pub(crate) fn connect_bytes(client_id: &str) -> Vec<u8> {
    let version = ProtocolVersion::V311;
    bytes_of(&Packet::Connect(Box::new(connect_packet(client_id, version))), version)
}

/// Does these at the same time, each in a thread of its own; says which failed.
pub(crate) fn all_at_once<T: Sync>(rows: &[(&str, T)], act: impl Fn(&str, &T) + Sync) {
    std::thread::scope(|scope| {
        let threads: Vec<_> = rows.iter().map(|(what, row)| (what, scope.spawn(|| act(what, row)))).collect();
        let failed: Vec<_> =
            threads.into_iter().filter_map(|(what, thread)| thread.join().is_err().then_some(what)).collect();
        assert!(failed.is_empty(), "{failed:?}");
    });
}

/// Sends what the other side takes, and does not mind that it closes.
pub(crate) fn shove(socket: &mut TcpStream, bytes: &[u8]) {
    let _ = socket.write_all(bytes);
}

/// Closes with a reset in place of an end.
pub(crate) fn reset(socket: TcpStream) {
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
    drop(socket);
}

/// Whether nothing more comes and the other side has closed, without waiting.
pub(crate) fn is_closed(socket: &TcpStream) -> bool {
    socket.set_nonblocking(true).unwrap();
    let closed = loop {
        match (&*socket).read(&mut [0; 4096]) {
            Ok(0) => break true,
            Ok(_) => {}
            Err(error) => break error.kind() != std::io::ErrorKind::WouldBlock,
        }
    };
    socket.set_nonblocking(false).unwrap();
    closed
}
