//! What can be seen of sessions from outside: for the command line, the dashboard and `$SYS`. Copies, taken when asked for.

use std::sync::Arc;

use quoll_mqtt::packet::SubscriptionOptions;
use quoll_mqtt::{ProtocolVersion, TopicFilter};

use crate::moment::Moment;
use crate::session::Session;
use crate::shard::Shard;
use crate::vocabulary::{ConnId, Identity};

/// A session as seen from outside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionView {
    /// Client identifier.
    pub client_id: Arc<str>,
    /// Whose it is.
    pub identity: Identity,
    /// Its connection, if it has one.
    pub conn: Option<ConnId>,
    /// Version of its connection, or of the last one.
    pub version: ProtocolVersion,
    /// When the last packet came; without a connection: since when there is none.
    pub heard: Moment,
    /// Keep alive in force, in seconds; 0 for none.
    pub keep_alive: u16,
    /// Seconds it lives without a connection; `u32::MAX`: for ever.
    pub expiry: u32,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Messages waiting.
    pub queued: usize,
    /// Messages under way, not acknowledged.
    pub inflight: usize,
}

impl Shard {
    /// The sessions of this shard, in no order.
    pub fn sessions(&self) -> impl Iterator<Item = SessionView> {
        self.sessions.iter().map(|(_, session)| view(session))
    }

    /// The session of a client.
    #[must_use]
    pub fn session(&self, client_id: &str) -> Option<SessionView> {
        self.by_client.get(client_id).map(|key| view(&self.sessions[*key as usize]))
    }

    /// What a client is subscribed to; empty for one that is not here.
    #[must_use]
    pub fn subscriptions(&self, client_id: &str) -> Vec<(TopicFilter, SubscriptionOptions)> {
        let Some(key) = self.by_client.get(client_id) else { return Vec::new() };
        let own = self.sessions[*key as usize].subscriptions.iter();
        own.map(|own| (own.filter.clone(), own.options)).collect()
    }
}

fn view(session: &Session) -> SessionView {
    SessionView {
        client_id: session.client_id.clone(),
        identity: session.identity.clone(),
        conn: session.conn,
        version: session.version,
        heard: session.heard,
        keep_alive: session.keep_alive,
        expiry: session.expiry,
        subscriptions: session.subscriptions.len(),
        queued: session.queue.len(),
        inflight: session.inflight.len(),
    }
}
