//! Socket activation: a server in a process of its own, whose listening sockets were opened before it was started.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use common::*;
use quoll_mqtt::ProtocolVersion;
use quoll_server::{Inherited, Listener, MemoryJournal, Place, Settings, Transport, start};

/// Tells the process that it is the server of the test below.
const ROLE: &str = "QUOLL_TEST_SERVER";

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may be gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves the addresses of its role for as long as the test may take.
async fn be_the_server(role: &str) {
    let inherited = Inherited::from_environment();
    assert_eq!(inherited.addresses().count(), 1);
    let (address, path) = role.split_once(' ').unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let listeners = vec![
        Listener::new("tcp", address, Transport::Tcp),
        Listener::new("unix", Place::Unix(path.into()), Transport::Tcp),
    ];
    let settings = Settings { inherited, ..Settings::new(listeners) };
    let door = Arc::new(Door { bolt: Arc::new(tokio::sync::Semaphore::new(0)) });
    let handle = start(settings, door, Box::new(MemoryJournal::default())).await.unwrap();
    tokio::time::sleep(3 * LONG).await;
    handle.stop(LONG).await;
}

/// The sockets stay open here too, so that nobody else could bind their addresses: who answers has them from us.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_that_were_opened_before_the_server_are_served_by_it() {
    if let Ok(role) = std::env::var(ROLE) {
        return be_the_server(&role).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mqtt.sock");
    let (tcp, unix) = (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap());
    let address = tcp.local_addr().unwrap();
    // As a service manager does: from descriptor 3 on, and the number of the process they are meant for.
    let script = "LISTEN_PID=$$ LISTEN_FDS=2 exec \"$0\" \"$@\" 3<&0 4<&1 </dev/null >/dev/null";
    let own = std::env::current_exe().unwrap();
    let server = Command::new("sh")
        .args(["-c", script])
        .arg(own)
        .args(["--exact", "sockets_that_were_opened_before_the_server_are_served_by_it", "--nocapture"])
        .env(ROLE, format!("{address} {}", path.display()))
        .stdin(Stdio::from(OwnedFd::from(tcp.try_clone().unwrap())))
        .stdout(Stdio::from(OwnedFd::from(unix.try_clone().unwrap())))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _server = Running(server);
    let talk = move || {
        Peer::connect(dial(address), "by-tcp", ProtocolVersion::V5).ping();
        let local = UnixStream::connect(&path).unwrap();
        local.set_read_timeout(Some(LONG)).unwrap();
        Peer::connect(local, "by-unix", ProtocolVersion::V5).ping();
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    drop((tcp, unix));
}
