//! The other end of CONNECT: a connection goes, and perhaps its session with it (§3.14, §4.1).

use quoll_mqtt::packet::Disconnect;
use quoll_mqtt::{ProtocolVersion, QoS, ReasonCode};

use crate::change::Change;
use crate::deadline::NEVER;
use crate::session::Own;
use crate::shard::{NOBODY, Shard};
use crate::vocabulary::{Departure, Effect, Event, Farewell, Outbox};

impl Shard {
    /// The client says goodbye (§3.14).
    pub(crate) fn disconnect(&mut self, key: u32, disconnect: &Disconnect, out: &mut Outbox) {
        let session = &mut self.sessions[key as usize];
        if session.version == ProtocolVersion::V5
            && let Some(expiry) = disconnect.properties.session_expiry_interval
        {
            // What was not to outlive the connection cannot be made to by its last packet (§3.14.2.2.2).
            if session.expiry == 0 && expiry > 0 {
                return self.fail(key, ReasonCode::PROTOCOL_ERROR, out);
            }
            let was_kept = session.is_kept();
            session.expiry = self.settings.cap_expiry(expiry);
            if was_kept && !session.is_kept() {
                let client_id = session.client_id.clone();
                out.push(Effect::Keep(Change::SessionEnded { client_id }));
                // With all that the journal had of it.
                session.is_will_lodged = false;
            }
        }
        // Without a will only after 0x00 [MQTT-3.14.4-3]; 3.x has no other.
        if disconnect.reason == ReasonCode::SUCCESS {
            session.last_word = None;
        }
        self.close(key, Farewell::Silent, Departure::Disconnect(disconnect.reason), out);
    }

    /// The connection is gone or is closing: nothing more comes from it.
    pub(crate) fn depart(&mut self, key: u32, how: Departure, out: &mut Outbox) {
        let session = &mut self.sessions[key as usize];
        let Some(conn) = session.conn.take() else { return };
        self.lines[conn.index as usize].session = NOBODY;
        self.stats.connections -= 1;
        session.heard = self.now;
        session.is_congested = false;
        session.extraordinary = None;
        session.inflight.owe_all();
        self.end_replay(key, out);
        let session = &mut self.sessions[key as usize];
        if session.dropped > 0 {
            let (client_id, count) = (session.client_id.clone(), u64::from(session.dropped));
            session.dropped = 0;
            out.push(Effect::Tell(Event::Dropped { client_id, count }));
        }
        out.push(Effect::Tell(Event::Disconnected {
            conn,
            client_id: session.client_id.clone(),
            identity: session.identity.clone(),
            how,
        }));
        if session.last_word.is_none() {
            session.settle_will(out);
        }
        if !session.is_kept() {
            return self.end_session(key, out);
        }
        out.push(Effect::Keep(session.fact()));
        self.tell_groups(key, false, out);
        self.lay_last_word(key, out);
        let session = &mut self.sessions[key as usize];
        self.deadlines.watch(key, session);
    }

    /// Forgets a session without a connection and all that hangs on it. A will that waits is said now (§3.1.3.2.2).
    pub(crate) fn end_session(&mut self, key: u32, out: &mut Outbox) {
        let mut session = self.sessions.remove(key as usize);
        self.by_client.remove(&session.client_id);
        self.deadlines.forget(key, &mut session);
        if session.is_kept() {
            out.push(Effect::Keep(Change::SessionEnded { client_id: session.client_id.clone() }));
        }
        let subscriptions: Vec<Own> = session.subscriptions.iter().cloned().collect();
        for own in &subscriptions {
            self.unplant(key, &session.client_id, own, out);
        }
        if !session.is_kept() {
            session.settle_will(out);
        }
        if let Some(word) = session.last_word.take() {
            self.say(*word, &session.grants, &session.identity, out);
        }
        // What it had by a shared subscription and never acknowledged goes to another member, oldest first (§4.8.2);
        // not what was on its way at QoS 2, which it may have [MQTT-4.8.2-5].
        let sent = session.inflight.drain().filter_map(|slot| slot.parcel);
        let unacknowledged = sent.filter(|parcel| parcel.qos != QoS::ExactlyOnce);
        let parcels: Vec<_> = unacknowledged.chain(session.queue.drain().map(|(_, parcel)| parcel)).collect();
        for parcel in parcels {
            self.give_back(parcel, out);
        }
        out.push(Effect::Tell(Event::SessionEnded { client_id: session.client_id }));
    }

    /// A due date of the session has come, or had come before it moved.
    pub(crate) fn session_is_due(&mut self, key: u32, out: &mut Outbox) {
        let session = &mut self.sessions[key as usize];
        session.watched = NEVER;
        if session.next_due() > self.now {
            return self.deadlines.watch(key, session);
        }
        if session.conn.is_some() && session.silent_too_long_at() > self.now {
            return self.go_on_replaying(key, out);
        }
        if session.conn.is_some() {
            let farewell = Farewell::Disconnect(ReasonCode::KEEP_ALIVE_TIMEOUT);
            return self.close(key, farewell, Departure::KeepAlive, out);
        }
        if session.ends_at() <= self.now {
            // One that a restart found with nothing but its will ended with its connection.
            if session.is_kept() {
                self.stats.expired_sessions += 1;
                out.push(Effect::Tell(Event::Expired { client_id: session.client_id.clone() }));
            }
            return self.end_session(key, out);
        }
        self.say_last_word(key, out);
        let session = &mut self.sessions[key as usize];
        self.deadlines.watch(key, session);
    }
}
