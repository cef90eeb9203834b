//! Orders: what the operator or the device wing wants of live sessions.

use std::sync::Arc;

use quoll_mqtt::ReasonCode;

use crate::access::Grants;
use crate::session::Session;
use crate::shard::Shard;
use crate::vocabulary::{Departure, Farewell, Order, Outbox};

impl Shard {
    pub(crate) fn order(&mut self, order: Order, out: &mut Outbox) {
        match order {
            Order::Expel { credential, reason } => self.expel(&credential, reason, out),
            Order::Disconnect { client_id, reason } => {
                if let Some(key) = self.by_client.get(&client_id).copied() {
                    self.close(key, Farewell::Disconnect(reason), Departure::Closed(reason), out);
                }
            }
            Order::Kick { identity, client_id, reason } => {
                self.kick(&identity, client_id.as_ref(), reason, out);
            }
            Order::Regrant { identity, grants } => self.regrant(&identity, &grants, out),
            Order::RegrantClient { client_id, identity, grants } => {
                if let Some(key) = self.by_client.get(&client_id).copied()
                    && self.sessions[key as usize].identity.name == identity
                {
                    self.sessions[key as usize].grants = grants;
                    self.vet(key);
                    self.lodge_last_word_again(key, out);
                }
            }
            Order::Settings(settings) => self.settings = *settings,
            Order::ShutDown => self.shut_down(out),
        }
    }

    /// Ends the connection and the session of a revoked credential. Its will is said if it has one: whoever
    /// watches the device is to know that it is gone.
    fn expel(&mut self, credential: &[u8; 32], reason: ReasonCode, out: &mut Outbox) {
        for key in self.keys(|session| session.identity.credential.as_ref() == Some(credential)) {
            self.close(key, Farewell::Disconnect(reason), Departure::Closed(reason), out);
            if self.sessions.contains(key as usize) {
                self.end_session(key, out);
            }
        }
    }

    fn kick(&mut self, identity: &Arc<str>, only: Option<&Arc<str>>, reason: ReasonCode, out: &mut Outbox) {
        let is_meant = |session: &Session| {
            let named = only.is_none_or(|client_id| *client_id == session.client_id);
            session.conn.is_some() && session.identity.name == *identity && named
        };
        for key in self.keys(is_meant) {
            self.sessions[key as usize].last_word = None;
            self.close(key, Farewell::Disconnect(reason), Departure::Closed(reason), out);
        }
    }

    fn regrant(&mut self, identity: &Arc<str>, grants: &Arc<Grants>, out: &mut Outbox) {
        for key in self.keys(|session| session.identity.name == *identity) {
            self.sessions[key as usize].grants = grants.clone();
            self.vet(key);
            self.lodge_last_word_again(key, out);
        }
    }

    fn shut_down(&mut self, out: &mut Outbox) {
        let reason = ReasonCode::SERVER_SHUTTING_DOWN;
        for key in self.keys(|session| session.conn.is_some()) {
            let session = &mut self.sessions[key as usize];
            session.last_word = None;
            // The journal keeps it: the server says it after its next start (§3.1.2.5).
            session.is_will_lodged = false;
            self.close(key, Farewell::Disconnect(reason), Departure::Closed(reason), out);
        }
    }

    /// Keys first, since what is done with them changes the sessions. Ending one session ends no other.
    fn keys(&self, wanted: impl Fn(&Session) -> bool) -> Vec<u32> {
        let wanted = self.sessions.iter().filter(|(_, session)| wanted(session));
        wanted.filter_map(|(key, _)| u32::try_from(key).ok()).collect()
    }
}
