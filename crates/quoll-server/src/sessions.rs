//! What sessions there are, and what they are subscribed to: asked by signals and commands, never on the hot path.

use std::sync::Arc;

use quoll_broker::vocabulary::Order;
use quoll_broker::{Grants, SessionView};
use quoll_mqtt::TopicFilter;
use quoll_mqtt::packet::SubscriptionOptions;

use crate::post::Mail;
use crate::server::{Handle, LOCAL_CLIENTS};

/// A session, whether its client is there or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscriber {
    /// The session.
    pub session: SessionView,
    /// What it is subscribed to.
    pub subscriptions: Vec<(TopicFilter, SubscriptionOptions)>,
}

/// Says of which identities something is wanted.
pub type Wanted = Arc<dyn Fn(&str) -> bool + Send + Sync>;

impl Handle {
    /// All sessions of clients, in no order. Each shard answers between two turns.
    pub async fn sessions(&self) -> Vec<Subscriber> {
        let all = self.ask(Mail::Sessions).await.into_iter().flatten();
        all.filter(|it: &Subscriber| !it.session.client_id.starts_with(LOCAL_CLIENTS)).collect()
    }

    /// Client identifier and name of the identity of all sessions whose identity is wanted, in no order. An anonymous
    /// one's is empty.
    pub async fn clients_of(&self, wanted: Wanted) -> Vec<(Arc<str>, Arc<str>)> {
        let all = self.ask(|answer| Mail::ClientsOf(Arc::clone(&wanted), answer)).await.into_iter().flatten();
        all.filter(|(client_id, _): &(Arc<str>, Arc<str>)| !client_id.starts_with(LOCAL_CLIENTS)).collect()
    }

    /// From now on the session of this client may do this, if it belongs to this identity.
    pub fn regrant_client(&self, client_id: &Arc<str>, identity: &Arc<str>, grants: &Arc<Grants>) {
        let (client_id, identity, grants) = (Arc::clone(client_id), Arc::clone(identity), Arc::clone(grants));
        self.tell(&Order::RegrantClient { client_id, identity, grants });
    }
}
