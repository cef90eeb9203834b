//! Life under systemd: sockets that it opened for us, and word to it that we are ready, well, and leaving.
//!
//! Protocols of sd_listen_fds(3) and sd_notify(3). Without systemd all of this does nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

/// Listening sockets that were opened before we were started (`LISTEN_FDS`). Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Inherited {
    pub(crate) tcp: Arc<[TcpListener]>,
    #[cfg(unix)]
    pub(crate) unix: Arc<[std::os::unix::net::UnixListener]>,
}

impl Inherited {
    /// Takes what the environment names, once, before threads are started. What is neither a listening TCP nor a UNIX stream
    /// socket is left alone.
    #[must_use]
    pub fn from_environment() -> Self {
        let mut given = listenfd::ListenFd::from_env();
        let mut tcp = Vec::new();
        #[cfg(unix)]
        let mut unix = Vec::new();
        for index in 0..given.len() {
            if let Ok(Some(listener)) = given.take_tcp_listener(index) {
                tcp.push(listener);
                continue;
            }
            #[cfg(unix)]
            match given.take_unix_listener(index) {
                Ok(Some(listener)) => unix.push(listener),
                _ => tracing::warn!("Socket {index} of those handed to us is no listening stream socket."),
            }
        }
        Self {
            tcp: tcp.into(),
            #[cfg(unix)]
            unix: unix.into(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        #[cfg(unix)]
        if !self.unix.is_empty() {
            return false;
        }
        self.tcp.is_empty()
    }

    /// Local addresses of the TCP sockets.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.tcp.iter().filter_map(|listener| listener.local_addr().ok())
    }
}

/// A line to the service manager (`NOTIFY_SOCKET`).
#[cfg(unix)]
#[derive(Debug)]
pub struct Notifier {
    socket: std::os::unix::net::UnixDatagram,
    watchdog: Option<Duration>,
}

#[cfg(unix)]
impl Notifier {
    /// The one that the environment names; `None` where nobody listens.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        let variable = |name: &str| std::env::var(name).ok();
        let address = variable("NOTIFY_SOCKET")?;
        let mine = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let period = variable("WATCHDOG_USEC").filter(|_| mine).and_then(|text| text.parse().ok());
        match Self::to(&address, period.map(Duration::from_micros)) {
            Ok(notifier) => Some(notifier),
            Err(error) => {
                tracing::warn!(%error, address, "the service manager cannot be told anything");
                None
            }
        }
    }

    /// A line to this socket: a path, or `@name` for an abstract one. `watchdog`: how often it wants to hear from us.
    ///
    /// # Errors
    /// Where there is no such socket.
    pub fn to(address: &str, watchdog: Option<Duration>) -> io::Result<Self> {
        use std::os::unix::net::{SocketAddr, UnixDatagram};
        let address = match address.strip_prefix('@') {
            #[cfg(target_os = "linux")]
            Some(name) => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(address)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        // Its buffer may be full; we have better things to do than to wait.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, watchdog })
    }

    /// Half the time within which the service manager wants to hear [`Self::well`]; `None` where it has no watchdog.
    #[must_use]
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.filter(|period| !period.is_zero()).map(|period| period / 2)
    }

    /// We are up: all listeners are bound.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// We are alive.
    pub fn well(&self) {
        self.tell("WATCHDOG=1");
    }

    /// We are on our way out.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Says that we are alive, for as long as the server is: all its shards answer within a watchdog's interval. Ends with
    /// the server; returns at once where there is no watchdog.
    pub async fn watch(&self, server: &crate::Handle) {
        let Some(interval) = self.watchdog_interval() else { return };
        loop {
            match server.is_well(interval).await {
                Some(true) => self.well(),
                Some(false) => {
                    tracing::error!("a shard does not answer; the service manager's watchdog is not fed")
                }
                None => return,
            }
            tokio::time::sleep(interval).await;
        }
    }

    fn tell(&self, word: &str) {
        if let Err(error) = self.socket.send(word.as_bytes()) {
            tracing::warn!(%error, word, "the service manager did not hear it");
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).expect("a word comes");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn the_service_manager_hears_what_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::to(path.to_str().unwrap(), Some(Duration::from_secs(30))).unwrap();
        assert_eq!(notifier.watchdog_interval(), Some(Duration::from_secs(15)));
        notifier.ready();
        notifier.well();
        notifier.stopping();
        for word in ["READY=1", "WATCHDOG=1", "STOPPING=1"] {
            assert_eq!(heard(&manager), word);
        }
        assert!(Notifier::to(folder.path().join("nobody").to_str().unwrap(), None).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_socket_is_written_with_an_at_sign() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("quoll-notify-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        Notifier::to(&format!("@{name}"), None).unwrap().ready();
        assert_eq!(heard(&manager), "READY=1");
    }
}
