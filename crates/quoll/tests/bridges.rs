//! `quoll broker` as a bridge to Debian's Mosquitto: killed in the middle of it, and told of other bridges while it runs.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::folder::Folder;
use support::{PATIENCE, Up, complaint, free_port};

/// A slow link that can be cut.
struct Link {
    port: u16,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
    is_open: Arc<AtomicBool>,
}

impl Link {
    fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sockets, is_open) = (Arc::<Mutex<Vec<TcpStream>>>::default(), Arc::new(AtomicBool::new(false)));
        let (shared, open) = (Arc::clone(&sockets), Arc::clone(&is_open));
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if !open.load(Ordering::Relaxed) {
                    continue;
                }
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let mut buffer = [0; 200];
                        while let Ok(read @ 1..) = from.read(&mut buffer) {
                            std::thread::sleep(Duration::from_millis(2));
                            if to.write_all(&buffer[..read]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Both);
                        let _ = from.shutdown(Shutdown::Both);
                    });
                }
                shared.lock().unwrap().extend([near, far]);
            }
        });
        Self { port, sockets, is_open }
    }

    fn set_open(&self, open: bool) {
        self.is_open.store(open, Ordering::Relaxed);
        if !open {
            for socket in self.sockets.lock().unwrap().drain(..) {
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
    }
}

fn mosquitto(folder: &Folder, port: u16) -> Up {
    folder.write(
        "far.conf",
        format!("listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nmax_queued_messages 5000\n"),
    );
    let mut command = Command::new("/usr/sbin/mosquitto");
    command.args(["-v", "-c"]).arg(folder.path("far.conf")).stdin(Stdio::null());
    let mut up = Up::of(command);
    up.wait_for(|line| line.ends_with(" running"));
    up
}

/// A client that counts what comes, at QoS 2 and with a session that lasts, and comes back by itself.
fn counts(port: u16, filter: &str) -> Up {
    // Into a pipe it would say nothing before it has said much.
    let mut command = Command::new("stdbuf");
    command.args(["-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", &port.to_string()]);
    command.args(["-i", "counts", "-c", "-q", "2", "-t", filter]);
    command.args(["-d"]).stdin(Stdio::null());
    let mut up = Up::of(command);
    up.wait_for(|line| line.starts_with("Subscribed"));
    up
}

fn publish_many(port: u16, topic: &str, many: u32) {
    let mut client = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", topic, "-q", "2", "-l"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: String = (0..many).map(|number| format!("message {number}\n")).collect();
    client.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(client.wait().unwrap().success());
}

/// Waits until all have come, then says which came more than once.
fn all_once(mut counts: Up, many: usize, what: &str) {
    let seen = std::cell::RefCell::new(BTreeMap::<String, u32>::new());
    let note = |line: &str| {
        if line.starts_with("message ") {
            *seen.borrow_mut().entry(line.to_owned()).or_default() += 1;
        }
        seen.borrow().len() == many
    };
    let heard = std::mem::take(&mut counts.heard);
    if !heard.iter().map(|line| note(line)).fold(false, |_, all| all) {
        counts.wait_for(note);
    }
    let twice: Vec<_> =
        seen.borrow().iter().filter(|(_, times)| **times > 1).map(|it| format!("{it:?}")).collect();
    assert!(twice.is_empty(), "{what}: {twice:?}");
}

/// Messages of QoS 2 go both ways while the broker is killed again and again: each comes, once.
#[test]
fn a_bridge_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    const MANY: u32 = 200;
    let folder = Folder::new();
    let far = free_port();
    let _mosquitto = mosquitto(&folder, far);
    let link = Link::to(far);
    folder.configure(&format!(
        "allow_anonymous true\npersistence true\npersistence_location {}/\nmax_queued_messages 0\n\
         connection kept\naddress 127.0.0.1:{}\nrestart_timeout 1\ntopic out/# out 2\ntopic in/# in 2\n",
        folder.dir.path().display(),
        link.port
    ));
    let mut quoll = folder.start();
    let there = counts(far, "out/#");
    let here = counts(folder.port, "in/#");
    // The far end's session has to know what is wanted.
    link.set_open(true);
    quoll.wait_for(|line| line.contains("Received SUBACK from local."));
    link.set_open(false);
    publish_many(folder.port, "out/x", MANY);
    publish_many(far, "in/x", MANY);
    link.set_open(true);
    for pause in [1500, 400, 1300, 700, 1600] {
        // The bridge is up, and somewhere in the middle.
        quoll.wait_for(|line| line.contains("Received CONNACK on connection local."));
        std::thread::sleep(Duration::from_millis(pause / 4));
        quoll.kill();
        quoll = folder.start();
    }
    all_once(there, MANY as usize, "to Mosquitto");
    all_once(here, MANY as usize, "from Mosquitto");
    assert_eq!(quoll.stop(), 0);
}

/// SIGHUP: a bridge comes, and goes. The configuration is tried without a connection being made.
#[test]
fn bridges_follow_the_configuration() {
    let folder = Folder::new();
    let far = TcpListener::bind("127.0.0.1:0").unwrap();
    far.set_nonblocking(true).unwrap();
    let port = far.local_addr().unwrap().port();
    let bridge = |name: &str| {
        format!("connection {name}\naddress 127.0.0.1:{port}\nrestart_timeout 1\ntopic out/# out 1\n")
    };
    folder.configure(&format!("allow_anonymous true\n{}", bridge("first")));
    let tested = folder.run(&["broker", "-c", "mosquitto.conf", "--test-config"]);
    assert!(tested.status.success(), "{}", complaint(&tested));
    assert!(far.accept().is_err(), "nothing is opened to try a configuration");

    let mut quoll = folder.start();
    quoll.wait_for(|line| line.contains(&format!("Connecting bridge (step 1) first (127.0.0.1:{port})")));
    let until = Instant::now() + PATIENCE;
    while far.accept().is_err() {
        assert!(Instant::now() < until, "it does not call");
        std::thread::sleep(Duration::from_millis(20));
    }
    folder.configure(&format!("allow_anonymous true\n{}", bridge("second")));
    quoll.signal("-HUP");
    quoll.wait_for(|line| line.contains("Bridge first is gone."));
    quoll.wait_for(|line| line.contains("Connecting bridge (step 1) second"));
    folder.configure("allow_anonymous true\nconnection third\n");
    quoll.signal("-HUP");
    quoll.wait_for(|line| line.contains("the old one stays in force"));
    assert_eq!(quoll.stop(), 0);
}

/// A bridge that comes in by a user name has that name's permissions, and must know its password if it says one.
#[test]
fn a_local_user_name_has_its_permissions() {
    let folder = Folder::new();
    let far = free_port();
    let mut mosquitto = mosquitto(&folder, far);
    folder.password("bridge", "right");
    folder.write("access", "user bridge\ntopic read out/allowed/#\n");
    let configure = |password: &str| {
        folder.configure(&format!(
            "allow_anonymous true\npassword_file passwords\nacl_file access\nconnection named\n\
             address 127.0.0.1:{far}\nrestart_timeout 1\nlocal_username bridge\nlocal_password {password}\n\
             topic out/# out 1\n"
        ));
    };
    configure("wrong");
    let refused = folder.run(&["broker", "-c", "mosquitto.conf"]);
    assert_eq!(refused.status.code(), Some(3), "{}", complaint(&refused));
    assert!(complaint(&refused).contains("mosquitto.conf:6:1: connection \"named\": local_username"));
    configure("right");
    folder.write("access", "topic readwrite #\nuser bridge\ntopic read out/allowed/#\n");
    let quoll = folder.start();
    mosquitto.wait_for(|line| line.contains("named 1 out/#") || line.contains(".named out/#"));
    let until = Instant::now() + PATIENCE;
    loop {
        assert!(folder.publishes(&["-t", "out/denied/x", "-m", "1", "-q", "1"]));
        assert!(folder.publishes(&["-t", "out/allowed/x", "-m", "1", "-q", "1"]));
        std::thread::sleep(Duration::from_millis(100));
        mosquitto.signal("-0");
        // What was said so far is in the log by now, whoever reads it.
        mosquitto.wait_for(|line| line.contains("Received PUBLISH") || line.contains("Sending PINGRESP"));
        if mosquitto.heard.iter().any(|line| line.contains("'out/allowed/x'")) {
            break;
        }
        assert!(Instant::now() < until, "{:?}", mosquitto.heard);
    }
    assert!(!mosquitto.heard.iter().any(|line| line.contains("out/denied")), "{:?}", mosquitto.heard);
    assert_eq!(quoll.stop(), 0);
}
