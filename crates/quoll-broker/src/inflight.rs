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
    /// Payload bytes that may have to be sent again.
    fn bytes(&self) -> u64 {
        self.parcel.as_ref().map_or(0, |parcel| parcel.message.payload.len() as u64)
    }

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
    /// Each with the turn at which its identifier was drawn; 0 for one that was recalled.
    slots: VecDeque<(u64, Slot)>,
    last_id: u16,
    /// Identifiers drawn so far.
    turns: u64,
    /// Slots that are not owed: they fill the window.
    under_way: u16,
    /// No slot before this one is owed: else a new connection would look through all for each that it sends again.
    first_owed: u32,
    /// Payload bytes of these.
    bytes: u64,
}

impl Inflight {
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) const fn under_way(&self) -> u16 {
        self.under_way
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().map(|(_, slot)| slot)
    }

    /// Whether anything is to be sent again.
    pub(crate) fn owes(&self) -> bool {
        self.slots.len() > usize::from(self.under_way)
    }

    /// An identifier that is free, in turn [MQTT-2.2.1-2]. There is one: the window is below 65,536.
    ///
    /// They are drawn in a circle, so one can be taken only where the oldest slot is a whole round old; a look at all
    /// slots for each message would be dear where the window is wide.
    pub(crate) fn free_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            self.turns += 1;
            let Some(id) = PacketId::new(self.last_id) else { continue };
            let oldest = self.slots.front().map_or(self.turns, |(turn, _)| *turn);
            let is_young = oldest > 0 && self.turns - oldest < u64::from(u16::MAX);
            if is_young || self.find(id).is_none() {
                return id;
            }
        }
    }

    pub(crate) fn push(&mut self, slot: Slot) {
        if !slot.owed {
            self.under_way += 1;
            self.bytes += slot.bytes();
        }
        let was_drawn = self.turns > 0 && self.last_id == slot.id.get();
        self.last_id = slot.id.get();
        self.slots.push_back((if was_drawn { self.turns } else { 0 }, slot));
    }

    /// Where the identifier's slot is. The oldest is nearly always the one asked for; but who acknowledges 65,535 from the
    /// newest to the oldest must not make us look through all of them each time.
    pub(crate) fn find(&self, id: PacketId) -> Option<usize> {
        let (oldest, slot) = self.slots.front()?;
        if slot.id == id {
            return Some(0);
        }
        // Identifiers are drawn one by one, so the distance to the last one is that of their turns.
        let back = u64::from(self.last_id.wrapping_sub(id.get()));
        let drawn = self.turns.checked_sub(back).filter(|turn| *turn > 0);
        if let Some(turn) = drawn
            && let Ok(at) = self.slots.binary_search_by_key(&turn, |(turn, _)| *turn)
            && self.slots[at].1.id == id
        {
            return Some(at);
        }
        // Left are those that were recalled, and those that are a whole round old.
        let is_old = |turn: u64| turn == 0 || self.turns - turn > u64::from(u16::MAX);
        let old = if is_old(*oldest) { self.slots.partition_point(|(turn, _)| is_old(*turn)) } else { 0 };
        self.slots.iter().take(old).position(|(_, slot)| slot.id == id)
    }

    /// Where the delivery's slot is: for a recall, which tells of the newest.
    pub(crate) fn find_place(&self, place: u64) -> Option<usize> {
        self.slots.iter().rposition(|(_, slot)| slot.place == place)
    }

    pub(crate) fn slot(&mut self, at: usize) -> &mut Slot {
        &mut self.slots[at].1
    }

    pub(crate) fn remove(&mut self, at: usize) -> Option<Slot> {
        let (_, slot) = self.slots.remove(at)?;
        self.first_owed -= u32::from(at < self.first_owed as usize);
        if !slot.owed {
            self.under_way -= 1;
            self.bytes -= slot.bytes();
        }
        if self.slots.is_empty() && self.slots.capacity() > FEW {
            // A burst leaves no buffer behind in an idle session.
            self.slots = VecDeque::new();
        }
        Some(slot)
    }

    /// A connection ended: everything is owed again.
    pub(crate) fn owe_all(&mut self) {
        (self.under_way, self.bytes, self.first_owed) = (0, 0, 0);
        self.slots.iter_mut().for_each(|(_, slot)| slot.owed = true);
    }

    /// The first slot that is owed, marked as sent.
    pub(crate) fn settle_next(&mut self) -> Option<&Slot> {
        let start = self.first_owed as usize;
        let at = start + self.slots.range(start..).position(|(_, slot)| slot.owed)?;
        self.first_owed = u32::try_from(at + 1).expect("slots are fewer than identifiers");
        let (_, slot) = &mut self.slots[at];
        slot.owed = false;
        self.under_way += 1;
        self.bytes += slot.bytes();
        Some(slot)
    }

    /// The peer got this slot's message: PUBREL is owed from now on, not the message.
    pub(crate) fn received(&mut self, at: usize) {
        let (_, slot) = &mut self.slots[at];
        if !slot.owed {
            self.bytes -= slot.bytes();
        }
        slot.parcel = None;
        if slot.owed {
            slot.owed = false;
            self.under_way += 1;
        }
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Slot> {
        (self.under_way, self.bytes, self.first_owed) = (0, 0, 0);
        self.slots.drain(..).map(|(_, slot)| slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(id: PacketId) -> Slot {
        Slot { place: u64::from(id.get()), id, parcel: None, owed: false }
    }

    #[test]
    fn an_identifier_under_way_is_never_given_twice_however_often_the_circle_closes() {
        let mut inflight = Inflight::default();
        let recalled = PacketId::new(7).unwrap();
        inflight.push(slot(recalled));
        let stays = inflight.free_id();
        inflight.push(slot(stays));
        for _ in 0..3 * usize::from(u16::MAX) {
            let id = inflight.free_id();
            assert!(id != recalled && id != stays, "{id:?} is under way");
            inflight.push(slot(id));
            inflight.remove(inflight.len() - 1);
        }
        inflight.remove(0);
        inflight.remove(0);
        let seen: std::collections::BTreeSet<_> = (0..u16::MAX).map(|_| inflight.free_id()).collect();
        assert_eq!(seen.len(), usize::from(u16::MAX), "then all are free again");
    }

    /// Whatever is drawn, acknowledged, owed again and recalled, in whatever order: against looking through all.
    #[test]
    fn a_slot_is_found_by_its_identifier_and_the_first_owed_one_is_next() {
        for seed in 0..40_u64 {
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let mut roll = |bound: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % bound
            };
            let mut inflight = Inflight::default();
            // What a restart found, with identifiers near the end of the circle for some seeds.
            let base = if seed % 2 == 0 { 1 } else { 65_500 };
            for number in 0..seed % 7 {
                let id = PacketId::new(base + u16::try_from(number * 3).unwrap()).unwrap();
                inflight.push(Slot { owed: true, ..slot(id) });
            }
            for _ in 0..600 {
                match roll(10) {
                    0..=4 => {
                        let id = inflight.free_id();
                        inflight.push(slot(id));
                    }
                    5..=7 if inflight.len() > 0 => {
                        let at = roll(inflight.len() as u64) as usize;
                        let id = inflight.slot(at).id;
                        assert_eq!(inflight.find(id), Some(at));
                        if roll(3) == 0 {
                            inflight.received(at);
                        } else {
                            inflight.remove(at);
                        }
                    }
                    8 if roll(9) == 0 => inflight.owe_all(),
                    _ => {
                        let expected = inflight.iter().find(|slot| slot.owed).map(|slot| slot.id);
                        assert_eq!(inflight.settle_next().map(|slot| slot.id), expected);
                    }
                }
                let stranger = PacketId::new(1 + u16::try_from(roll(65_535)).unwrap()).unwrap();
                let expected = inflight.iter().position(|slot| slot.id == stranger);
                assert_eq!(inflight.find(stranger), expected, "{stranger:?}");
                let owed = inflight.iter().filter(|slot| slot.owed).count();
                assert_eq!(usize::from(inflight.under_way()) + owed, inflight.len());
            }
        }
    }

    #[test]
    fn a_full_circle_of_identifiers_is_under_way_without_a_repeat() {
        let mut inflight = Inflight::default();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..u16::MAX {
            let id = inflight.free_id();
            assert!(seen.insert(id), "{id:?} was given twice");
            inflight.push(slot(id));
        }
    }
}
