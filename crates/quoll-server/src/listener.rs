//! Listening sockets: bind, socket options, how many connections each may have.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::config::{Listener, Transport};
use crate::limits::LISTEN_BACKLOG;
use crate::tls::LiveIdentity;

/// Silence after which the kernel asks whether the peer is still there: devices lose power without a word, and a
/// client may have no keep alive.
const TCP_KEEPALIVE: Duration = Duration::from_secs(120);

/// A listener at work, shared by its connections.
#[derive(Debug)]
pub(crate) struct ListenerState {
    name: Arc<str>,
    address: SocketAddr,
    live: Option<LiveIdentity>,
    open: AtomicUsize,
    max: usize,
}

impl ListenerState {
    pub(crate) const fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its identity, where it speaks TLS.
    pub(crate) const fn live(&self) -> Option<&LiveIdentity> {
        self.live.as_ref()
    }
}

/// One of the connections that a listener may have; free again when dropped.
pub(crate) struct Seat(Arc<ListenerState>);

impl Seat {
    /// Takes a seat, unless all are taken.
    pub(crate) fn take(listener: &Arc<ListenerState>) -> Option<Self> {
        let seat = Self(Arc::clone(listener));
        // Counted first and given back where it was too many: two at a time cannot both get the last.
        (listener.open.fetch_add(1, Ordering::Relaxed) < listener.max).then_some(seat)
    }

    pub(crate) const fn listener(&self) -> &Arc<ListenerState> {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Binds and listens.
pub(crate) fn bind(settings: &Listener) -> io::Result<(TcpListener, Arc<ListenerState>)> {
    let socket = Socket::new(Domain::for_address(settings.address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the last connections' TIME_WAIT. On Windows the option means something else.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if settings.address.is_ipv6() {
        socket.set_only_v6(!settings.address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    tune(SockRef::from(&socket))?;
    socket.bind(&settings.address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    let listener = TcpListener::from(socket);
    let state = ListenerState {
        name: settings.name.as_str().into(),
        address: listener.local_addr()?,
        live: match &settings.transport {
            Transport::Tcp => None,
            Transport::Tls(live) => Some(live.clone()),
        },
        open: AtomicUsize::new(0),
        max: settings.max_connections.unwrap_or(usize::MAX),
    };
    Ok((listener, Arc::new(state)))
}

/// Options of a connection's socket. Without NODELAY an echo in records of 1024 bytes takes 45 ms (`layout.md` §6). Linux
/// hands a listening socket's options on to those that it accepts (tcp(7)), which saves three system calls for each.
fn tune(socket: SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE))
}

/// Options of an accepted socket, where it has not inherited them.
pub(crate) fn tune_accepted(socket: &tokio::net::TcpStream) -> io::Result<()> {
    if cfg!(target_os = "linux") { Ok(()) } else { tune(SockRef::from(socket)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_accepted_socket_sends_at_once_and_is_watched_for_silence() {
        let settings = Listener {
            name: "any".into(),
            address: ([127, 0, 0, 1], 0).into(),
            transport: Transport::Tcp,
            max_connections: None,
        };
        let (listener, state) = bind(&settings).unwrap();
        let _client = std::net::TcpStream::connect(state.address()).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        tune_accepted(&socket).unwrap();
        let options = SockRef::from(&socket);
        assert!(options.tcp_nodelay().unwrap() && options.keepalive().unwrap());
    }

    #[test]
    fn a_listener_gives_no_more_seats_than_it_has() {
        let settings = Listener {
            name: "small".into(),
            address: ([127, 0, 0, 1], 0).into(),
            transport: Transport::Tcp,
            max_connections: Some(2),
        };
        let (_socket, state) = bind(&settings).unwrap();
        let first = Seat::take(&state);
        let second = Seat::take(&state);
        assert!(first.is_some() && second.is_some() && Seat::take(&state).is_none());
        drop(first);
        assert!(Seat::take(&state).is_some());
    }
}
