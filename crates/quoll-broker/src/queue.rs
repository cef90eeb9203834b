//! Messages that wait for a client: it is absent, or its window is full. Bounded in number and bytes; a message that finds it
//! full is dropped, as Mosquitto does it.

use std::collections::VecDeque;

use crate::change::Parcel;
use crate::settings::ShardSettings;

/// The waiting messages of a session, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: VecDeque<(u64, Parcel)>,
    /// Payload bytes of them.
    bytes: u64,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(u64, Parcel)> {
        self.waiting.iter()
    }

    /// Whether one more message still fits. As with Mosquitto payloads alone count, and the last one may go beyond the limit,
    /// so that none is too large ever.
    pub(crate) fn has_room(&self, settings: &ShardSettings) -> bool {
        let (messages, bytes) = (settings.max_queued_messages as usize, settings.max_queued_bytes);
        (messages == 0 || self.waiting.len() < messages) && (bytes == 0 || self.bytes < bytes)
    }

    pub(crate) fn push(&mut self, place: u64, parcel: Parcel) {
        self.bytes += payload(&parcel);
        self.waiting.push_back((place, parcel));
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, Parcel)> {
        let (place, parcel) = self.waiting.pop_front()?;
        self.bytes -= payload(&parcel);
        if self.waiting.is_empty() {
            // An idle session keeps no buffer.
            self.waiting = VecDeque::new();
        }
        Some((place, parcel))
    }

    /// Takes one out by its number; the first in nearly every case.
    pub(crate) fn take(&mut self, place: u64) -> Option<Parcel> {
        let at = self.waiting.iter().position(|(number, _)| *number == place)?;
        let (_, parcel) = self.waiting.remove(at)?;
        self.bytes -= payload(&parcel);
        Some(parcel)
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (u64, Parcel)> {
        self.bytes = 0;
        self.waiting.drain(..)
    }
}

fn payload(parcel: &Parcel) -> u64 {
    parcel.message.payload.len() as u64
}
