//! Accepting: sockets of a listener one after the other, as far as there is room for who comes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::net::TcpStream;

#[cfg(unix)]
use super::NOWHERE;
use super::room::{ACCEPT_REST, Complaint};
use super::{Arriving, Hall};
use crate::bind::Bound;
#[cfg(unix)]
use crate::bind::SocketFile;
use crate::listener::{ListenerState, Seat};
use crate::log::CONNECTION;

/// A socket that accepts.
pub(crate) enum Door {
    Tcp(tokio::net::TcpListener),
    #[cfg(unix)]
    Unix {
        listener: tokio::net::UnixListener,
        _file: Option<SocketFile>,
    },
}

impl Door {
    /// Has to be called within the arrivals' runtime.
    pub(crate) fn open(bound: Bound) -> io::Result<Self> {
        match bound {
            Bound::Tcp(listener) => tokio::net::TcpListener::from_std(listener).map(Self::Tcp),
            #[cfg(unix)]
            Bound::Unix(listener, file) => tokio::net::UnixListener::from_std(listener)
                .map(|listener| Self::Unix { listener, _file: file }),
        }
    }

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                // An IPv4 peer of a socket for both families.
                Ok((socket, SocketAddr::new(peer.ip().to_canonical(), peer.port())))
            }
            #[cfg(unix)]
            Self::Unix { listener, .. } => {
                let (socket, _) = listener.accept().await?;
                // One type for both from here on: reading, writing and closing are the same calls, and nothing that TCP
                // alone has is asked of an accepted socket on the systems that have UNIX sockets.
                let socket = std::net::TcpStream::from(std::os::fd::OwnedFd::from(socket.into_std()?));
                Ok((TcpStream::from_std(socket)?, NOWHERE))
            }
        }
    }
}

/// Accepts for ever.
pub(crate) async fn accept(hall: Arc<Hall>, door: Door, state: Arc<ListenerState>) {
    let mut complaint = Complaint::default();
    loop {
        // Visitors stay longer, and shall not keep clients waiting.
        let permit = match state.settings().site {
            Some(_) => hall.visitors.place().await,
            None => hall.room.place().await,
        };
        let Some(permit) = permit else { return };
        let (socket, peer) = match door.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_peer(&error) => continue,
            Err(error) => {
                if is_out_of_files(&error) {
                    say_out_of_files(&mut complaint);
                    hall.room.press();
                } else if complaint.is_due() {
                    tracing::error!(listener = %state.name(), %error, "Unable to accept new connection.");
                }
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        hall.counts.sockets.fetch_add(1, Ordering::Relaxed);
        if !hall.room.has_file_for(&socket) {
            say_out_of_files(&mut complaint);
            hall.room.press();
            continue;
        }
        let Some(seat) = Seat::take(&state, &hall.open, hall.max_open.load(Ordering::Relaxed)) else {
            let peer = state.shown(peer).address();
            tracing::info!(target: CONNECTION, "Client connection from {peer} denied: max_connections exceeded.");
            continue;
        };
        let hall = Arc::clone(&hall);
        tokio::spawn(async move {
            let arriving = Arriving::new(hall, peer, seat);
            match arriving.settings.site.clone() {
                Some(site) => arriving.visit(socket, site).await,
                None => arriving.run(socket).await,
            }
            drop(permit);
        });
    }
}

/// Errors of accept that speak of the connection that was to be accepted, not of the listener (accept(2)).
fn is_of_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Whether this process, or the system, has as many open files as it may have (accept(2)).
fn is_out_of_files(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        matches!(Errno::from_io_error(error), Some(Errno::NFILE | Errno::MFILE))
    }
    #[cfg(not(unix))]
    {
        let _ = error;
        false
    }
}

/// In Mosquitto's words.
fn say_out_of_files(complaint: &mut Complaint) {
    if complaint.is_due() {
        tracing::warn!(
            "Unable to accept new connection, system socket count has been exceeded. Try increasing \"ulimit -n\" or \
             equivalent."
        );
    }
}
