//! A listener at work: its settings, which may be replaced, and how many connections it has. Binding is in `bind`.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use crate::config::{Listener, Place, Transport};
use crate::tls::LiveIdentity;

/// A listener at work, shared by its connections.
#[derive(Debug)]
pub(crate) struct ListenerState {
    name: Arc<str>,
    place: Place,
    /// Of its TCP sockets.
    addresses: Vec<SocketAddr>,
    settings: ArcSwap<Listener>,
    open: AtomicUsize,
}

impl ListenerState {
    pub(crate) fn new(settings: &Listener, addresses: Vec<SocketAddr>) -> Self {
        Self {
            name: settings.name.as_str().into(),
            place: settings.place.clone(),
            addresses,
            settings: ArcSwap::from_pointee(settings.clone()),
            open: AtomicUsize::new(0),
        }
    }

    pub(crate) const fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) const fn place(&self) -> &Place {
        &self.place
    }

    /// Addresses of its TCP sockets; none for a UNIX socket.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The port, 0 for a UNIX socket: what the log shows.
    pub(crate) fn port(&self) -> u16 {
        self.addresses.first().map_or(0, SocketAddr::port)
    }

    /// The settings in force.
    pub(crate) fn settings(&self) -> Arc<Listener> {
        self.settings.load_full()
    }

    /// Other settings for the same place, for those who come from now on.
    pub(crate) fn replace(&self, settings: Listener) {
        self.settings.store(Arc::new(settings));
    }

    /// Its identity, where it speaks TLS.
    pub(crate) fn live(&self) -> Option<LiveIdentity> {
        match &self.settings.load().transport {
            Transport::Tcp => None,
            Transport::Tls(live) => Some(live.clone()),
        }
    }

    /// A peer as Mosquitto's log names it: address and port without brackets, or the UNIX socket that it came to.
    pub(crate) fn shown(&self, peer: SocketAddr) -> Shown<'_> {
        Shown { place: &self.place, peer }
    }
}

/// See [`ListenerState::shown`].
#[derive(Clone, Copy)]
pub(crate) struct Shown<'a> {
    place: &'a Place,
    peer: SocketAddr,
}

impl Shown<'_> {
    /// Without the port.
    pub(crate) fn address(self) -> String {
        match self.place {
            Place::Unix(path) => path.display().to_string(),
            Place::Tcp(_) | Place::Host { .. } => self.peer.ip().to_string(),
        }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Unix(path) => write!(f, "{}:0", path.display()),
            Place::Tcp(_) | Place::Host { .. } => write!(f, "{}:{}", self.peer.ip(), self.peer.port()),
        }
    }
}

/// One of the connections that a listener, and all of them together, may have; free again when dropped.
pub(crate) struct Seat {
    listener: Arc<ListenerState>,
    house: Arc<AtomicUsize>,
}

impl Seat {
    /// Takes a seat, unless all are taken. `house` counts those of all listeners, of whom there may be `most`.
    pub(crate) fn take(listener: &Arc<ListenerState>, house: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let seat = Self { listener: Arc::clone(listener), house: Arc::clone(house) };
        // Counted first and given back where it was too many: two at a time cannot both get the last.
        let here = listener.open.fetch_add(1, Ordering::Relaxed);
        let everywhere = house.fetch_add(1, Ordering::Relaxed);
        let max = listener.settings.load().max_connections;
        let is_free = max.is_none_or(|max| here < max) && everywhere < most;
        is_free.then_some(seat)
    }

    pub(crate) const fn listener(&self) -> &Arc<ListenerState> {
        &self.listener
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.listener.open.fetch_sub(1, Ordering::Relaxed);
        self.house.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(max_connections: Option<usize>) -> Arc<ListenerState> {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = Listener { max_connections, ..Listener::new("small", address, Transport::Tcp) };
        Arc::new(ListenerState::new(&settings, vec![address]))
    }

    #[test]
    fn a_listener_gives_no_more_seats_than_it_has_nor_all_of_them_together() {
        let house = Arc::new(AtomicUsize::new(0));
        let (state, other) = (small(Some(2)), small(None));
        let take = |state| Seat::take(state, &house, 3);
        let first = take(&state);
        let second = take(&state);
        assert!(first.is_some() && second.is_some() && take(&state).is_none());
        let third = take(&other);
        assert!(third.is_some() && take(&other).is_none());
        drop(first);
        assert!(take(&state).is_some());
        assert!(take(&other).is_some());
    }

    #[test]
    fn peers_are_shown_as_mosquitto_shows_them() {
        let state = small(None);
        assert_eq!(state.shown("[::1]:1234".parse().unwrap()).to_string(), "::1:1234");
        assert_eq!(state.shown("192.0.2.7:5".parse().unwrap()).to_string(), "192.0.2.7:5");
        let settings = Listener::new("local", Place::Unix("/run/mqtt.sock".into()), Transport::Tcp);
        let shown = ListenerState::new(&settings, vec![]);
        assert_eq!(shown.shown(state.addresses()[0]).to_string(), "/run/mqtt.sock:0");
    }
}
