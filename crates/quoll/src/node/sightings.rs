//! What the broker tells of connections, put on the boards: who is there, who was refused and why, who trusts the next CA.

use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use quoll_fleet::witness::Sighting;
use quoll_server::{ConnectionInfo, ServerEvent};
use time::OffsetDateTime;
use tokio::sync::broadcast;

use super::Node;
use crate::directory::Credential;

/// How soon a connection is known to the presence board at the latest.
const EVENTS_AT_MOST_EVERY: Duration = Duration::from_millis(20);

impl Node {
    pub(super) async fn watch_events(self: Arc<Self>, mut events: broadcast::Receiver<ServerEvent>) {
        loop {
            match events.recv().await {
                Ok(event) => {
                    self.note(&event);
                    while let Ok(event) = events.try_recv() {
                        self.note(&event);
                    }
                    // Not woken for each of many: that would cost the shards more than the connections themselves.
                    tokio::time::sleep(EVENTS_AT_MOST_EVERY).await;
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "presence fell behind; looking at all connections");
                    self.recount().await;
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    fn note(&self, event: &ServerEvent) {
        self.encounters.note(event);
        match event {
            ServerEvent::Connected(who) => self.arrived(who),
            ServerEvent::Disconnected { who, .. } => {
                self.presence.disconnected(number(who), OffsetDateTime::now_utc());
            }
            ServerEvent::HandshakeFailed { peer, reason, .. } => self.refusals.note(peer, reason),
            ServerEvent::Refused { peer, reason, .. } => self.refusals.note(peer, reason),
            ServerEvent::Denied { identity, act, topic, refused, .. } => {
                self.denials.note(identity, *act, topic, *refused);
            }
            _ => {}
        }
    }

    fn arrived(&self, who: &ConnectionInfo) {
        if who.credential.is_none() {
            self.other_door.came(&who.client_id, who.peer);
        }
        if let Some(serial) = who.credential.and_then(|credential| self.serial_of(&credential)) {
            let sighting = Sighting {
                client_id: who.client_id.to_string(),
                address: who.peer.to_string(),
                at: who.since.into(),
            };
            self.presence.connected(number(who), &serial, sighting);
            self.witnessed
                .came(|| self.registry.certificate(&serial).ok()?.map(|known| known.owner), who.since);
        }
    }

    async fn recount(&self) {
        for who in &self.server().snapshot().await.connections {
            self.arrived(who);
        }
    }

    pub(super) fn serial_of(&self, credential: &Credential) -> Option<String> {
        let directory = self.directory.load();
        let holder = directory.holder(credential).map(|holder| holder.serial.as_str());
        holder.or_else(|| directory.serial(credential)).map(ToOwned::to_owned)
    }
}

/// A connection's number for the presence board: what no two connections share.
fn number(who: &ConnectionInfo) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    (&who.client_id, who.peer, who.since, who.shard).hash(&mut hasher);
    hasher.finish()
}
