//! A shard from its facts, and its facts from a shard (see `change`).
//!
//! What a fact names that is not there is ignored: a journal that was cut or is repeated leaves less, never something wrong.

use std::sync::Arc;

use crate::access::Grants;
use crate::change::{Change, Parcel, SessionRecord};
use crate::inflight::{Inflight, Slot};
use crate::message::Message;
use crate::queue::Queue;
use crate::session::{Own, Session};
use crate::shard::Shard;
use crate::vocabulary::{Effect, Identity, Outbox};
use crate::will::LastWord;

impl Shard {
    /// Takes a fact of the journal. Its sessions have no connection; until one comes they may receive everything they
    /// subscribed to, and what waits is checked against the grants of the one that comes.
    pub(crate) fn recall(&mut self, change: Change, out: &mut Outbox) {
        match change {
            Change::Session { client_id, record } => return self.recall_session(client_id, record),
            Change::Retained { message } => {
                self.shared.retained.restore(message);
                return;
            }
            Change::RetainedCleared { topic } => {
                self.shared.retained.clear(&topic);
                return;
            }
            _ => {}
        }
        let known = change.client_id().and_then(|client_id| self.by_client.get(client_id)).copied();
        let key = match (known, &change) {
            (Some(key), _) => key,
            // Its session ended with its connection, which the end of the last run cut: the will is due.
            (None, Change::WillLodged { client_id, identity, .. }) => {
                let grants = Arc::new(Grants::all());
                self.admit(Session::new(client_id.clone(), Identity::clone(identity), grants, self.now))
            }
            (None, _) => return,
        };
        let session = &mut self.sessions[key as usize];
        match change {
            Change::SessionEnded { .. } => {
                // Quietly: it ended, with its will, when the fact was written.
                session.last_word = None;
                session.expiry = 0;
                session.queue = Queue::default();
                session.inflight = Inflight::default();
                session.is_will_lodged = false;
                self.end_quietly(key, out);
            }
            Change::Subscribed { filter, options, identifier, .. } => {
                self.plant(key, Own { filter, options, identifier }, false, out);
            }
            Change::Unsubscribed { client_id, filter } => {
                if let Some(own) = session.subscriptions.take(&filter) {
                    self.unplant(key, &client_id, &own, out);
                }
            }
            Change::Queued { place, parcel, .. } => {
                let parcel = self.once_in_memory(parcel);
                let session = &mut self.sessions[key as usize];
                session.next_place = session.next_place.max(place + 1);
                session.queue.push(place, parcel);
            }
            Change::Sent { place, packet_id, .. } => {
                if let Some(parcel) = session.queue.take(place) {
                    session.inflight.push(Slot { place, id: packet_id, parcel: Some(parcel), owed: true });
                }
            }
            Change::Received { place, packet_id, .. } => {
                session.next_place = session.next_place.max(place + 1);
                session.queue.take(place);
                match session.inflight.find_place(place) {
                    Some(at) => session.inflight.slot(at).parcel = None,
                    None => session.inflight.push(Slot { place, id: packet_id, parcel: None, owed: true }),
                }
            }
            Change::Delivered { place, .. } => {
                if session.queue.take(place).is_none()
                    && let Some(at) = session.inflight.find_place(place)
                {
                    session.inflight.remove(at);
                }
            }
            Change::Incoming { packet_id, .. } => session.incoming.put(packet_id, None),
            Change::Held { packet_id, message, .. } => session.incoming.put(packet_id, Some(message)),
            Change::Released { packet_id, .. } => drop(session.incoming.take(packet_id)),
            Change::WillLodged { message, expiry, delay, .. } => {
                // Counted from the end of the connection, which for one that had not ended is this start.
                let due = Some(session.heard.after_seconds(delay));
                session.last_word = Some(Box::new(LastWord { message, expiry, delay, due }));
                session.is_will_lodged = true;
                self.deadlines.watch(key, session);
            }
            Change::WillPending { message, expiry, due, .. } => {
                session.last_word = Some(Box::new(LastWord { message, expiry, delay: 0, due: Some(due) }));
                session.is_will_lodged = true;
                self.deadlines.watch(key, session);
            }
            Change::WillSettled { .. } => {
                session.last_word = None;
                session.is_will_lodged = false;
                if !session.is_kept() {
                    self.end_quietly(key, out);
                }
            }
            Change::Session { .. } | Change::Retained { .. } | Change::RetainedCleared { .. } => {}
        }
    }

    /// Ends a session that had ended before: other shards hear of it, and nobody else.
    fn end_quietly(&mut self, key: u32, out: &mut Outbox) {
        let mut unheard = Outbox::new();
        self.end_session(key, &mut unheard);
        out.extend(unheard.into_iter().filter(|effect| matches!(effect, Effect::Mail(..))));
    }

    fn recall_session(&mut self, client_id: Arc<str>, record: SessionRecord) {
        let SessionRecord { identity, expiry, absent_since } = record;
        let key = self.by_client.get(&client_id).copied().unwrap_or_else(|| {
            // Its grants come with its next CONNECT, or by an order.
            self.admit(Session::new(client_id, identity.clone(), Arc::new(Grants::all()), self.now))
        });
        let session = &mut self.sessions[key as usize];
        session.identity = identity;
        session.expiry = expiry;
        // One that was connected when the node ended is absent since the node is back.
        session.heard = absent_since.unwrap_or(self.now);
        self.deadlines.watch(key, session);
    }

    /// The same message in many queues was written many times and is held once.
    fn once_in_memory(&mut self, mut parcel: Parcel) -> Parcel {
        let known = self.recalled.get(&parcel.message.number).and_then(std::sync::Weak::upgrade);
        match known.filter(|known: &Arc<Message>| **known == *parcel.message) {
            Some(known) => parcel.message = known,
            None => {
                self.recalled.insert(parcel.message.number, Arc::downgrade(&parcel.message));
            }
        }
        parcel
    }

    /// Everything that a new shard must be told by [`crate::vocabulary::Input::Recall`], in this order, to be equal to
    /// this one; what compaction keeps. Retained messages are the node's: see [`crate::Retained::all`].
    #[must_use]
    pub fn facts(&self) -> Vec<Change> {
        let mut facts = Vec::new();
        for (_, session) in &self.sessions {
            if session.is_kept() {
                tell(session, &mut facts);
            } else if session.is_will_lodged
                && let Some(word) = session.last_word.as_deref()
            {
                facts.push(session.lodged(word));
            }
        }
        facts
    }
}

fn tell(session: &Session, facts: &mut Vec<Change>) {
    let client_id = || session.client_id.clone();
    facts.push(session.fact());
    facts.extend(session.subscriptions.iter().map(|own| own.fact(client_id())));
    for slot in session.inflight.iter() {
        let (place, packet_id) = (slot.place, slot.id);
        if let Some(parcel) = slot.parcel.clone() {
            facts.push(Change::Queued { client_id: client_id(), place, parcel });
            facts.push(Change::Sent { client_id: client_id(), place, packet_id });
        } else {
            facts.push(Change::Received { client_id: client_id(), place, packet_id });
        }
    }
    facts.extend(session.queue.iter().map(|(place, parcel)| Change::Queued {
        client_id: client_id(),
        place: *place,
        parcel: parcel.clone(),
    }));
    facts.extend(session.incoming.iter().map(|(id, held)| session.came(id, held.as_ref())));
    let lodged = session.last_word.as_ref().filter(|_| session.is_will_lodged);
    facts.extend(lodged.map(|word| match word.due {
        None => session.lodged(word),
        Some(due) => Change::WillPending {
            client_id: client_id(),
            message: word.message.clone(),
            expiry: word.expiry,
            due,
        },
    }));
}
