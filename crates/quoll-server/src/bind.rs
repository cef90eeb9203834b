//! Listening sockets: addresses, socket options, UNIX sockets, and those that a service manager opened for us.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::config::{Family, Listener, Place};
use crate::limits::LISTEN_BACKLOG;
use crate::listener::ListenerState;
use crate::systemd::Inherited;

/// Silence after which the kernel asks whether the peer is still there: devices lose power without a word, and a
/// client may have no keep alive.
const TCP_KEEPALIVE: Duration = Duration::from_secs(120);

/// Who may connect to a UNIX socket: owner and group, as in Mosquitto.
#[cfg(unix)]
const UNIX_MODE: u32 = 0o770;

/// A socket that listens.
#[derive(Debug)]
pub(crate) enum Bound {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixListener, Option<SocketFile>),
}

/// The file of a UNIX socket; goes when dropped.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have taken it away.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Binds and listens, with sockets of our own or those that were handed to us. Blocks where a name has to be resolved.
pub(crate) fn bind(
    settings: &Listener,
    inherited: &Inherited,
) -> io::Result<(Vec<Bound>, Arc<ListenerState>)> {
    let bound = match &settings.place {
        Place::Tcp(address) => vec![Bound::Tcp(bind_tcp(*address, None, false, inherited)?)],
        Place::Host { port, host, family, interface } => {
            bind_host(*port, host.as_deref(), *family, interface.as_deref(), inherited)?
        }
        Place::Unix(path) => vec![bind_unix(path, inherited)?],
    };
    let mut addresses = Vec::new();
    for socket in &bound {
        if let Bound::Tcp(listener) = socket {
            addresses.push(listener.local_addr()?);
        }
    }
    Ok((bound, Arc::new(ListenerState::new(settings, addresses))))
}

/// A socket for each address of the host, IPv4 first, all with the same port.
fn bind_host(
    mut port: u16,
    host: Option<&str>,
    family: Option<Family>,
    interface: Option<&str>,
    inherited: &Inherited,
) -> io::Result<Vec<Bound>> {
    let everywhere = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let mut addresses: Vec<SocketAddr> = match host {
        Some(host) => (host, port).to_socket_addrs()?.collect(),
        None => everywhere.map(|address| (address, port).into()).to_vec(),
    };
    addresses.retain(|address| match family {
        Some(Family::Ipv4) => address.is_ipv4(),
        Some(Family::Ipv6) => address.is_ipv6(),
        None => true,
    });
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    let mut bound = Vec::new();
    for mut address in addresses {
        address.set_port(port);
        match bind_tcp(address, interface, true, inherited) {
            Ok(listener) => {
                port = listener.local_addr()?.port();
                bound.push(Bound::Tcp(listener));
            }
            // Systems without IPv6 have no such sockets, or no address to bind them to.
            Err(error) if host.is_none() && address.is_ipv6() && !bound.is_empty() && is_without(&error) => {
                tracing::info!(%error, "there is no IPv6 here");
            }
            Err(error) => return Err(error),
        }
    }
    if bound.is_empty() {
        return Err(io::Error::new(ErrorKind::AddrNotAvailable, "the host has no address of this family"));
    }
    Ok(bound)
}

fn is_without(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::AddrNotAvailable)
        || error.raw_os_error() == Some(97 /* EAFNOSUPPORT */)
}

fn bind_tcp(
    address: SocketAddr,
    interface: Option<&str>,
    only_v6: bool,
    inherited: &Inherited,
) -> io::Result<TcpListener> {
    if let Some(listener) = inherited.tcp.iter().find(|listener| is_for(listener, address)) {
        let listener = listener.try_clone()?;
        listener.set_nonblocking(true)?;
        tune(SockRef::from(&listener))?;
        return Ok(listener);
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the last connections' TIME_WAIT. On Windows the option means something else.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6 || !address.ip().is_unspecified())?;
    }
    if let Some(interface) = interface {
        bind_to_interface(&socket, interface)?;
    }
    socket.set_nonblocking(true)?;
    tune(SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Whether a socket that was handed to us stands in for this address: the same, or for the same port of all addresses.
fn is_for(listener: &TcpListener, address: SocketAddr) -> bool {
    listener.local_addr().is_ok_and(|own| {
        let covers = own.ip() == address.ip() || own.ip().is_unspecified();
        let both = own.is_ipv6() && SockRef::from(listener).only_v6().is_ok_and(|only| !only);
        own.port() == address.port() && covers && (own.is_ipv4() == address.is_ipv4() || both)
    })
}

#[cfg(target_os = "linux")]
fn bind_to_interface(socket: &Socket, interface: &str) -> io::Result<()> {
    socket.bind_device(Some(interface.as_bytes()))
}

#[cfg(not(target_os = "linux"))]
fn bind_to_interface(_: &Socket, _: &str) -> io::Result<()> {
    Err(io::Error::new(ErrorKind::Unsupported, "binding to an interface is possible on Linux alone"))
}

#[cfg(unix)]
fn bind_unix(path: &Path, inherited: &Inherited) -> io::Result<Bound> {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
    use std::os::unix::net::{UnixListener, UnixStream};
    let is_for = |listener: &&UnixListener| {
        listener.local_addr().is_ok_and(|address| address.as_pathname() == Some(path))
    };
    if let Some(listener) = inherited.unix.iter().find(is_for) {
        let listener = listener.try_clone()?;
        listener.set_nonblocking(true)?;
        return Ok(Bound::Unix(listener, None));
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) => match UnixStream::connect(path) {
            // Left behind by one who was killed.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Ok(_) => return Err(ErrorKind::AddrInUse.into()),
            Err(error) => return Err(error),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    let file = SocketFile(path.to_owned());
    // Before it listens nobody can connect, so nobody slips in with other rights.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(UNIX_MODE))?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(Bound::Unix(socket.into(), Some(file)))
}

#[cfg(not(unix))]
fn bind_unix(_: &Path, _: &Inherited) -> io::Result<Bound> {
    Err(io::Error::new(ErrorKind::Unsupported, "there are no UNIX sockets here"))
}

/// Options of a connection's socket. Without NODELAY an echo in records of 1024 bytes takes 45 ms (`layout.md` §6). Linux
/// hands a listening socket's options on to those that it accepts (tcp(7)), which saves three system calls for each.
fn tune(socket: SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE))
}

/// Options of an accepted socket, where it has not inherited them. `nagle`: see [`Listener::nagle`].
pub(crate) fn tune_accepted(socket: &tokio::net::TcpStream, nagle: bool) -> io::Result<()> {
    if !cfg!(target_os = "linux") {
        tune(SockRef::from(socket))?;
    }
    if nagle { socket.set_nodelay(false) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Transport;

    fn place(family: Option<Family>, interface: Option<&str>) -> Place {
        let interface = interface.map(str::to_owned);
        Place::Host { port: 0, host: None, family, interface }
    }

    fn bound(place: Place, inherited: &Inherited) -> io::Result<(Vec<Bound>, Arc<ListenerState>)> {
        bind(&Listener::new("any", place, Transport::Tcp), inherited)
    }

    #[tokio::test]
    async fn an_accepted_socket_sends_at_once_and_is_watched_for_silence() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let (mut sockets, state) = bound(address.into(), &Inherited::default()).unwrap();
        let _client = std::net::TcpStream::connect(state.addresses()[0]).unwrap();
        let Some(Bound::Tcp(listener)) = sockets.pop() else { panic!("no TCP socket") };
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        tune_accepted(&socket, false).unwrap();
        let options = SockRef::from(&socket);
        assert!(options.tcp_nodelay().unwrap() && options.keepalive().unwrap());
        tune_accepted(&socket, true).unwrap();
        assert!(!options.tcp_nodelay().unwrap() && options.keepalive().unwrap());
    }

    #[test]
    fn without_a_host_each_family_has_a_socket_with_the_same_port() {
        let families = |family| {
            let (_sockets, state) = bound(place(family, None), &Inherited::default()).unwrap();
            let ports: Vec<u16> = state.addresses().iter().map(SocketAddr::port).collect();
            assert!(ports.windows(2).all(|it| it[0] == it[1]), "{ports:?}");
            state.addresses().iter().map(SocketAddr::is_ipv4).collect::<Vec<_>>()
        };
        assert_eq!(families(None), [true, false]);
        assert_eq!(families(Some(Family::Ipv4)), [true]);
        assert_eq!(families(Some(Family::Ipv6)), [false]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_interface_has_to_be_there() {
        let error = bound(place(None, Some("no-such-if")), &Inherited::default()).unwrap_err();
        assert!(error.raw_os_error().is_some(), "{error}");
        // Old kernels leave this to root.
        match bound(place(Some(Family::Ipv4), Some("lo")), &Inherited::default()) {
            Ok((_sockets, state)) => {
                std::net::TcpStream::connect(("127.0.0.1", state.port())).unwrap();
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_dead_socket_is_replaced_and_nothing_else_is() {
        use std::os::unix::fs::PermissionsExt as _;
        use std::os::unix::net::UnixListener;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mqtt.sock");
        let bind = || bound(Place::Unix(path.clone()), &Inherited::default()).map(|it| it.0);
        drop(UnixListener::bind(&path).unwrap());
        let sockets = bind().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, UNIX_MODE);
        assert_eq!(bind().unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(sockets);
        assert!(!path.exists());
        std::fs::write(&path, "mine").unwrap();
        assert_eq!(bind().unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn a_socket_that_was_handed_to_us_is_used_in_place_of_a_new_one() {
        let given = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = given.local_addr().unwrap();
        let inherited = Inherited { tcp: vec![given].into(), ..Inherited::default() };
        // Two binds of one address would fail.
        let (_first, state) = bound(address.into(), &inherited).unwrap();
        assert_eq!(state.addresses(), [address]);
        let other = SocketAddr::from(([127, 0, 0, 1], 0));
        let (_second, state) = bound(other.into(), &inherited).unwrap();
        assert_ne!(state.addresses(), [address]);
    }
}
