//! Who is online: the broker's events, folded. Kept in memory; last-seen times go to the registry in batches.
//!
//! Knows certificates by serial number, not names: a certificate of nobody's is no error here.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::limits::{PRESENCE_FLUSH, PRESENCE_MAX, PRESENCE_PENDING_MAX};
use crate::registry::{Registry, RegistryError};
use crate::witness::{Sighting, Witness, WitnessError};

/// What is known of one certificate's presence.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Presence {
    /// Connections now.
    pub connections: usize,
    /// The newest sighting: client id, address, time.
    pub sighting: Sighting,
    /// When it was last known to be there.
    pub last_seen: OffsetDateTime,
}

impl Presence {
    /// Whether it is connected now.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.connections > 0
    }
}

/// The fold. Shared by reference or `Arc` between the event stream, the web pages and enrolments.
#[derive(Debug)]
pub struct PresenceBoard {
    inner: Mutex<Inner>,
    news: Notify,
}

#[derive(Debug)]
struct Inner {
    by_serial: HashMap<String, Presence>,
    /// Connection → serial number.
    connections: HashMap<u64, String>,
    pending: HashMap<String, OffsetDateTime>,
    flushed: Instant,
    overflow: u64,
}

impl Default for PresenceBoard {
    fn default() -> Self {
        let inner = Inner {
            by_serial: HashMap::new(),
            connections: HashMap::new(),
            pending: HashMap::new(),
            flushed: Instant::now(),
            overflow: 0,
        };
        Self { inner: Mutex::new(inner), news: Notify::new() }
    }
}

impl PresenceBoard {
    /// An empty board.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A connection with this certificate was admitted. `connection` is any number that is unique among the open ones.
    pub fn connected(&self, connection: u64, serial: &str, sighting: Sighting) {
        let serial = serial.to_ascii_uppercase();
        let mut inner = self.lock();
        if inner.by_serial.len() >= PRESENCE_MAX && !inner.by_serial.contains_key(&serial) {
            inner.overflow += 1;
            return;
        }
        // A number used again means that we missed the end of its first connection.
        inner.end(connection, sighting.at);
        inner.pending.insert(serial.clone(), sighting.at);
        inner.connections.insert(connection, serial.clone());
        let presence = inner.by_serial.entry(serial).or_insert_with(|| Presence {
            connections: 0,
            sighting: sighting.clone(),
            last_seen: sighting.at,
        });
        presence.connections += 1;
        presence.last_seen = presence.last_seen.max(sighting.at);
        presence.sighting = sighting;
        drop(inner);
        self.news.notify_waiters();
    }

    /// A connection ended. One that is not known is ignored.
    pub fn disconnected(&self, connection: u64, at: OffsetDateTime) {
        self.lock().end(connection, at);
    }

    /// What is known of a certificate, `None` if it was not seen since the start.
    #[must_use]
    pub fn of(&self, serial: &str) -> Option<Presence> {
        self.lock().by_serial.get(&serial.to_ascii_uppercase()).cloned()
    }

    /// Certificates that are connected now.
    #[must_use]
    pub fn online(&self) -> usize {
        self.lock().by_serial.values().filter(|presence| presence.is_online()).count()
    }

    /// How many certificates could not be kept because there were more than [`PRESENCE_MAX`].
    #[must_use]
    pub fn overflow(&self) -> u64 {
        self.lock().overflow
    }

    /// Whether it is time for [`Self::flush`]: a minute passed, or many devices have news.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let inner = self.lock();
        !inner.pending.is_empty()
            && (inner.pending.len() >= PRESENCE_PENDING_MAX || inner.flushed.elapsed() >= PRESENCE_FLUSH)
    }

    /// Writes the last-seen times that are new, in one transaction; returns how many. Those who are online count as
    /// seen when their connection began or ended. Blocks for the disk.
    ///
    /// # Errors
    /// Where the registry cannot be written; the times are kept for the next attempt.
    pub fn flush(&self, registry: &Registry) -> Result<usize, RegistryError> {
        let pending: Vec<(String, OffsetDateTime)> = {
            let mut inner = self.lock();
            inner.flushed = Instant::now();
            inner.pending.drain().collect()
        };
        if pending.is_empty() {
            return Ok(0);
        }
        match registry.saw(&pending) {
            Ok(()) => Ok(pending.len()),
            Err(error) => {
                let mut inner = self.lock();
                for (serial, at) in pending {
                    inner.note(serial, at);
                }
                Err(error)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn end(&mut self, connection: u64, at: OffsetDateTime) {
        let Some(serial) = self.connections.remove(&connection) else { return };
        if let Some(presence) = self.by_serial.get_mut(&serial) {
            presence.connections = presence.connections.saturating_sub(1);
            presence.last_seen = presence.last_seen.max(at);
        }
        self.note(serial, at);
    }

    fn note(&mut self, serial: String, at: OffsetDateTime) {
        let noted = self.pending.entry(serial).or_insert(at);
        *noted = at.max(*noted);
    }
}

#[async_trait]
impl Witness for PresenceBoard {
    async fn wait_for(&self, certificate_serial: &str, within: Duration) -> Result<Sighting, WitnessError> {
        let until = Instant::now() + within;
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            // Registered before looking, so that nothing is missed in between.
            news.as_mut().enable();
            if let Some(presence) = self.of(certificate_serial).filter(Presence::is_online) {
                return Ok(presence.sighting);
            }
            if timeout_at(until, news).await.is_err() {
                let serial = certificate_serial.to_owned();
                return Err(WitnessError::NotSeen { serial, within, refused: None });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(client_id: &str, second: i64) -> Sighting {
        Sighting { client_id: client_id.into(), address: "127.0.0.1:9".into(), at: at(second) }
    }

    fn at(second: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn a_takeover_keeps_a_device_online() {
        let board = PresenceBoard::new();
        board.connected(1, "0A", sighting("DVES_1", 0));
        board.connected(2, "0a", sighting("DVES_1", 5));
        board.disconnected(1, at(6));
        assert!(board.of("0A").unwrap().is_online());
        board.disconnected(2, at(9));
        board.disconnected(2, at(10));
        let presence = board.of("0A").unwrap();
        assert_eq!((presence.connections, presence.last_seen), (0, at(9)));
        assert_eq!(board.online(), 0);
    }

    #[test]
    fn a_connection_number_used_again_does_not_count_twice() {
        let board = PresenceBoard::new();
        board.connected(7, "0A", sighting("one", 0));
        board.connected(7, "0B", sighting("two", 1));
        assert_eq!((board.of("0A").unwrap().connections, board.of("0B").unwrap().connections), (0, 1));
    }

    #[tokio::test]
    async fn a_witness_sees_who_is_there_and_who_comes() {
        let board = PresenceBoard::new();
        board.connected(1, "0A", sighting("here", 0));
        let patience = Duration::from_secs(20);
        assert_eq!(board.wait_for("0A", patience).await.unwrap().client_id, "here");
        let waiting = board.wait_for("0B", patience);
        let coming = async {
            tokio::task::yield_now().await;
            board.connected(2, "0C", sighting("other", 1));
            tokio::task::yield_now().await;
            board.connected(3, "0B", sighting("comes", 2));
        };
        let (seen, ()) = tokio::join!(waiting, coming);
        assert_eq!(seen.unwrap().client_id, "comes");
    }

    #[tokio::test]
    async fn who_left_again_is_not_seen() {
        let board = PresenceBoard::new();
        board.connected(1, "0A", sighting("here", 0));
        board.disconnected(1, at(1));
        let seen = board.wait_for("0A", Duration::from_millis(20)).await;
        assert!(matches!(seen, Err(WitnessError::NotSeen { .. })), "{seen:?}");
    }
}
