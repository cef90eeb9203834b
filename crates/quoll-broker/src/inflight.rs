//! QoS 1 and 2 messages under way to a client: sent, not acknowledged (§4.3, §4.4, §4.9).
//!
//! In the order of their first PUBLISH, which is the order of any later one [MQTT-4.6.0-1]. After a new connection each slot is
//! *owed*: it is sent again when the window allows, PUBLISH with DUP or PUBREL [MQTT-4.4.0-1].

use std::collections::VecDeque;

use quoll_mqtt::{PacketId, QoS};

use crate::change::Parcel;

/// One message under way.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Number of the delivery in its session.
    pub(crate) place: u64,
    pub(crate) id: PacketId,
    /// `None` from PUBREC on: PUBREL is owed, the message is not.
    pub(crate) parcel: Option<Parcel>,
    /// Whether it is to be sent again on this connection.
    pub(crate) owed: bool,
}

impl Slot {
    /// The acknowledgement that ends it.
    pub(crate) fn qos(&self) -> QoS {
        self.parcel.as_ref().map_or(QoS::ExactlyOnce, |parcel| parcel.qos)
    }
}

/// Room that a session may keep for its next message.
const FEW: usize = 4;

/// The slots of a session.
#[derive(Debug, Default)]
pub(crate) struct Inflight {
    slots: VecDeque<Slot>,
    last_id: u16,
    /// Slots that are not owed: they fill the window.
    under_way: u16,
}

impl Inflight {
    pub(crate) const fn under_way(&self) -> u16 {
        self.under_way
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }

    /// Whether anything is to be sent again.
    pub(crate) fn owes(&self) -> bool {
        self.slots.len() > usize::from(self.under_way)
    }

    /// An identifier that is free, in turn [MQTT-2.2.1-2]. There is one: the window is below 65,536.
    pub(crate) fn free_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if let Some(id) = PacketId::new(self.last_id)
                && self.find(id).is_none()
            {
                return id;
            }
        }
    }

    pub(crate) fn push(&mut self, slot: Slot) {
        if !slot.owed {
            self.under_way += 1;
        }
        self.last_id = slot.id.get();
        self.slots.push_back(slot);
    }

    /// Where the identifier's slot is; the oldest first, which is nearly always the one asked for.
    pub(crate) fn find(&self, id: PacketId) -> Option<usize> {
        self.slots.iter().position(|slot| slot.id == id)
    }

    pub(crate) fn find_place(&self, place: u64) -> Option<usize> {
        self.slots.iter().position(|slot| slot.place == place)
    }

    pub(crate) fn slot(&mut self, at: usize) -> &mut Slot {
        &mut self.slots[at]
    }

    pub(crate) fn remove(&mut self, at: usize) -> Option<Slot> {
        let slot = self.slots.remove(at)?;
        if !slot.owed {
            self.under_way -= 1;
        }
        if self.slots.is_empty() && self.slots.capacity() > FEW {
            // A burst leaves no buffer behind in an idle session.
            self.slots = VecDeque::new();
        }
        Some(slot)
    }

    /// A connection ended: everything is owed again.
    pub(crate) fn owe_all(&mut self) {
        self.under_way = 0;
        self.slots.iter_mut().for_each(|slot| slot.owed = true);
    }

    /// The first slot that is owed, marked as sent.
    pub(crate) fn settle_next(&mut self) -> Option<&Slot> {
        let slot = self.slots.iter_mut().find(|slot| slot.owed)?;
        slot.owed = false;
        self.under_way += 1;
        Some(slot)
    }

    /// The peer got this slot's message: PUBREL is owed from now on, not the message.
    pub(crate) fn received(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        slot.parcel = None;
        if slot.owed {
            slot.owed = false;
            self.under_way += 1;
        }
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Slot> {
        self.under_way = 0;
        self.slots.drain(..)
    }
}
