//! Debian's Mosquitto, started on this machine alone, and what it makes of the same files.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use tempfile::TempDir;

use super::super::{Disk, Surroundings};
use super::told;

/// Long enough for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running Mosquitto; ended on drop.
pub(super) struct Mosquitto {
    child: Child,
    pub(super) port: u16,
    folder: TempDir,
}

impl Mosquitto {
    /// Starts it with these lines, in which PORT is its port, and with these files beside it.
    pub(super) fn start(lines: &str, files: &[(&str, &[u8])]) -> Result<Self, ExitStatus> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let port = free_port();
        let lines = lines.replace("PORT", &port.to_string());
        let path = folder.path().join("m.conf");
        fs::write(&path, lines).unwrap();
        let mut child = Command::new(program("/usr/sbin/mosquitto"))
            .args(["-c".as_ref(), path.as_os_str()])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto starts");
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = child.try_wait().unwrap() {
                return Err(status);
            }
            assert!(Instant::now() < end, "mosquitto neither listens nor ends");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Self { child, port, folder })
    }

    /// A file in the folder that it runs in.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `mosquitto_pub` or `mosquitto_sub` towards it.
    pub(super) fn client(&self, name: &str, user: Option<&str>, client_id: &str) -> Command {
        let mut command = Command::new(program(&format!("/usr/bin/{name}")));
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-i", client_id]);
        if let Some(user) = user {
            command.args(["-u", user]);
        }
        command.stderr(Stdio::null());
        command
    }
}

/// A port for a program that is started with it. Not one of those that the system gives away by itself, which could be
/// another connection's before the program has it.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id() * 31;
    loop {
        let port = 10_000 + ((start + u32::from(NEXT.fetch_add(1, Ordering::Relaxed))) % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that these tests are nothing without.
pub(super) fn program(path: &str) -> PathBuf {
    assert!(Path::new(path).exists(), "{path} is missing: install mosquitto and mosquitto-clients (Debian)");
    path.into()
}

/// Whether we take these lines.
fn we_take(lines: &str) -> Result<(), Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.conf");
    fs::write(&path, lines.replace("PORT", "1883")).unwrap();
    super::super::read(&path, &Disk, &Surroundings::default())
        .map(|_| ())
        .map_err(|complaints| told(&complaints))
}

#[test]
fn what_mosquitto_2_0_refuses_is_refused_here_too() {
    let table = [
        "lstener 1\n",
        "  # indented\n",
        "listener\t1\n",
        "allow_anonymous yes\n",
        "allow_anonymous\n",
        "pid_file a\npid_file b\n",
        "max_packet_size 19\n",
        "max_keepalive 65536\n",
        "mount_point x\n",
        "topic #\n",
        "plugin_opt_x y\n",
        "log_type loud\n",
        "log_dest nowhere\n",
        "persistent_client_expiration 5x\n",
        "persistent_client_expiration 0d\n",
        "acl_file x\nper_listener_settings true\n",
        "connection a\n",
        "connection a\naddress x\n",
        "connection a\naddress 127.0.0.1:1\ntopic # sideways\n",
        "connection a\naddress 127.0.0.1:1\ntopic # out 3\n",
        "connection a\naddress 127.0.0.1:1\ntopic \"\" out 0\n",
        "connection a\naddress 127.0.0.1:1\ntopic #\nconnection a\n",
        "listener 1884 127.0.0.1\nmax_qos 3\n",
        "listener 1884 127.0.0.1\nmount_point a/#\n",
        "listener 1884 127.0.0.1\nprotocol mqttsn\n",
        "listener 70000\n",
    ];
    for lines in table {
        let ours = we_take(&format!("{lines}listener PORT 127.0.0.1\n"));
        assert!(ours.is_err(), "we take\n{lines}");
        let status = end_of(&format!("{lines}listener {} 127.0.0.1\n", free_port()));
        assert_ne!(status.code(), Some(0), "{lines}");
    }
}

/// How Mosquitto ends with these lines; it is not asked whether it listens, since somebody else may where it does not.
fn end_of(lines: &str) -> ExitStatus {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.conf");
    fs::write(&path, lines).unwrap();
    let mut child = Command::new(program("/usr/sbin/mosquitto"))
        .args(["-c".as_ref(), path.as_os_str()])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("mosquitto starts");
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > end {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("mosquitto takes\n{lines}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A line that Mosquitto 2.0.11 knows, in the ways a person may type it.
fn line(name: &'static str, value: impl Strategy<Value = String> + 'static) -> BoxedStrategy<String> {
    (value, 1usize..3, 0usize..2, any::<bool>())
        .prop_map(move |(value, gap, lead, windows)| {
            let end = if windows { "\r\n" } else { "\n" };
            format!("{}{name}{}{value}{end}", " ".repeat(lead), " ".repeat(gap))
        })
        .boxed()
}

fn flag() -> impl Strategy<Value = String> {
    prop_oneof![Just("true"), Just("false"), Just("1"), Just("0"), Just("true # why not")]
        .prop_map(String::from)
}

fn number(range: std::ops::RangeInclusive<i64>) -> impl Strategy<Value = String> {
    range.prop_map(|number| number.to_string())
}

fn global() -> BoxedStrategy<String> {
    proptest::strategy::Union::new([
        line("allow_anonymous", flag()),
        line("allow_duplicate_messages", flag()),
        line("allow_zero_length_clientid", flag()),
        line("autosave_interval", number(-1..=9)),
        line("autosave_on_changes", flag()),
        line("check_retain_source", flag()),
        line("connection_messages", flag()),
        line("log_timestamp", flag()),
        line("log_type", prop_oneof![Just("all"), Just("none"), Just("error")].prop_map(String::from)),
        line("max_inflight_bytes", number(-1..=99)),
        line("max_inflight_messages", number(0..=65_535)),
        line("max_keepalive", number(0..=65_535)),
        line("max_packet_size", number(20..=999_999)),
        line("max_queued_bytes", number(-1..=99)),
        line("max_queued_messages", number(-1..=99)),
        line("message_size_limit", number(0..=268_435_455)),
        line("persistent_client_expiration", "[1-9][hdwmy]"),
        line("queue_qos0_messages", flag()),
        line("retain_available", flag()),
        line("retry_interval", number(1..=9)),
        line("set_tcp_nodelay", flag()),
        line("sys_interval", number(0..=65_535)),
        line("upgrade_outgoing_qos", flag()),
    ])
    .boxed()
}

fn listener() -> BoxedStrategy<String> {
    proptest::strategy::Union::new([
        line("max_connections", number(-1..=9)),
        line("max_qos", number(0..=2)),
        line("max_topic_alias", number(0..=65_535)),
        line("mount_point", "[a-z]{1,3}/( x)?"),
        line("protocol", Just("mqtt".to_owned())),
        line("socket_domain", Just("ipv4".to_owned())),
        line("use_username_as_clientid", flag()),
    ])
    .boxed()
}

fn bridge() -> BoxedStrategy<String> {
    let topic = (
        prop_oneof![Just("#"), Just("a/+"), Just("x")],
        prop_oneof![Just(""), Just(" out"), Just(" IN 1"), Just(" both 2 l/ r/"), Just(" in 0 \"\" r/")],
    )
        .prop_map(|(pattern, rest)| format!("{pattern}{rest}"));
    let option = proptest::strategy::Union::new([
        line("topic", topic),
        line("cleansession", flag()),
        line("keepalive_interval", number(0..=99)),
        line("restart_timeout", prop_oneof![Just("5"), Just("5 9")].prop_map(String::from)),
        line("start_type", prop_oneof![Just("automatic"), Just("lazy"), Just("once")].prop_map(String::from)),
        line("try_private", flag()),
        line("notifications", flag()),
        // No blank too many: here 2.0 takes the rest of the line as it is.
        prop_oneof![Just("mqttv311"), Just("mqttv50")]
            .prop_map(|version| format!("bridge_protocol_version {version}\n"))
            .boxed(),
    ]);
    proptest::collection::vec(option, 0..6)
        .prop_map(|options| format!("connection b\naddress 127.0.0.1:1\ntopic first\n{}", options.concat()))
        .boxed()
}

#[test]
fn what_we_take_mosquitto_2_0_takes_too() {
    // A few are enough, each starts a broker; the same ones each time.
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let strategy = (
        proptest::collection::vec(global(), 0..12),
        proptest::collection::vec(listener(), 0..6),
        proptest::option::of(bridge()),
    );
    for _ in 0..16 {
        let (global, listener, bridge) = strategy.new_tree(&mut runner).unwrap().current();
        let bridge = bridge.unwrap_or_default();
        let lines = format!("{}listener PORT 127.0.0.1\n{}{bridge}", global.concat(), listener.concat());
        we_take(&lines).unwrap_or_else(|complaints| panic!("{lines}\n{complaints:?}"));
        if let Err(status) = Mosquitto::start(&format!("user root\n{lines}"), &[]) {
            panic!("mosquitto ends with {status} on\n{lines}");
        }
    }
}

/// The files that come with Debian's package; in the example all options stand behind a `#`, at least by name.
#[test]
fn debians_own_files_are_taken() {
    use super::super::acl_file::AclFile;
    use super::super::options::find;
    use super::super::password_file::PasswordFile;

    let text = |path: &str| fs::read(program(path)).unwrap();
    we_take(&String::from_utf8(text("/etc/mosquitto/mosquitto.conf")).unwrap())
        .unwrap_or_else(|complaints| panic!("{complaints:?}"));
    let folder = "/usr/share/doc/mosquitto/examples";
    let example = String::from_utf8(text(&format!("{folder}/mosquitto.conf"))).unwrap();
    we_take(&example).unwrap_or_else(|complaints| panic!("{complaints:?}"));
    let is_name =
        |word: &&str| word.contains('_') && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let options = example.lines().filter_map(|line| line.strip_prefix('#'));
    let names: Vec<&str> = options.filter_map(|line| line.split(' ').next()).filter(is_name).collect();
    assert!(names.len() > 50, "{names:?}");
    for name in names {
        assert!(find(name).is_some(), "{name}");
    }
    let acl = format!("{folder}/aclfile.example");
    AclFile::parse(Path::new(&acl), &text(&acl)).unwrap();
    assert_eq!(PasswordFile::parse(&text(&format!("{folder}/pwfile.example"))).unwrap().len(), 3);
}
