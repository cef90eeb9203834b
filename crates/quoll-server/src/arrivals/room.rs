//! Room for arrivals: how many there may be at a time, who gives way when there are too many, and descriptors that nobody
//! who comes may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::limits::{ACCEPT_REPORT, PRESS_EVERY, RESERVED_FILES, UNHEARD_PATIENCE};

/// The room that all listeners have together.
pub(crate) struct Room {
    places: Arc<Semaphore>,
    /// Rung while somebody waits for a place.
    pressed: Notify,
    /// The first descriptor that is not for connections.
    first_reserved: Option<u64>,
}

impl Room {
    /// Room for this many arrivals in a process that may have so many open files.
    pub(crate) fn new(places: usize, most_files: Option<u64>) -> Self {
        // Where there are next to none, most are still for connections.
        let first_reserved = most_files.map(|most| most - RESERVED_FILES.min(most / 8));
        Self { places: Arc::new(Semaphore::new(places.max(1))), pressed: Notify::new(), first_reserved }
    }

    /// Waits for a place; while there is none, those who have said nothing give way. `None` at the end of the server.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(permit);
        }
        let place = Arc::clone(&self.places).acquire_owned();
        tokio::pin!(place);
        loop {
            match tokio::time::timeout(PRESS_EVERY, &mut place).await {
                Ok(permit) => return permit.ok(),
                Err(_) => self.press(),
            }
        }
    }

    /// Asks those who have said nothing to give way.
    pub(super) fn press(&self) {
        self.pressed.notify_waiters();
    }

    /// Waits until one who came at this time has to give way; never, once it was heard.
    pub(super) async fn give_way(&self, heard: &AtomicBool, since: Instant) {
        loop {
            self.pressed.notified().await;
            if !heard.load(Ordering::Relaxed) && since.elapsed() >= UNHEARD_PATIENCE {
                return;
            }
        }
    }

    /// Whether a connection has a descriptor that is for connections.
    pub(super) fn has_file_for(&self, socket: &TcpStream) -> bool {
        #[cfg(unix)]
        {
            use std::os::fd::AsRawFd as _;
            let own = u64::try_from(socket.as_raw_fd()).unwrap_or_default();
            self.first_reserved.is_none_or(|first| own < first)
        }
        #[cfg(not(unix))]
        {
            let _ = (socket, self.first_reserved);
            true
        }
    }
}

/// Says the same thing not too often.
#[derive(Default)]
pub(super) struct Complaint {
    next: Option<Instant>,
}

impl Complaint {
    /// Whether it is time to say it.
    pub(super) fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self.next.is_none_or(|next| next <= now);
        if is_due {
            self.next = Some(now + ACCEPT_REPORT);
        }
        is_due
    }
}

/// How long accepting rests after an error that will not go away by trying again at once.
pub(super) const ACCEPT_REST: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_was_not_heard_gives_way_to_who_waits_and_who_was_does_not() {
        let room = Arc::new(Room::new(2, None));
        let (heard, unheard) = (AtomicBool::new(true), AtomicBool::new(false));
        let long_ago = Instant::now().checked_sub(UNHEARD_PATIENCE).unwrap();
        let first = room.place().await;
        let second = room.place().await;
        assert!(first.is_some() && second.is_some());
        let waiting = tokio::spawn({
            let room = Arc::clone(&room);
            async move { room.place().await }
        });
        let stays = room.give_way(&heard, long_ago);
        let goes = room.give_way(&unheard, long_ago);
        tokio::select! {
            () = stays => panic!("who was heard had to go"),
            () = goes => drop(second),
        }
        assert!(waiting.await.unwrap().is_some());
    }

    #[tokio::test]
    async fn the_last_descriptors_are_not_for_connections() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(Room::new(1, None).has_file_for(&socket));
        assert!(Room::new(1, Some(100_000)).has_file_for(&socket));
        assert!(!Room::new(1, Some(1)).has_file_for(&socket));
    }

    #[test]
    fn a_complaint_is_made_once_in_a_while() {
        let mut complaint = Complaint::default();
        assert!(complaint.is_due() && !complaint.is_due());
    }
}
