//! What the rules tell, passed on to those who watch, and said in the log in Mosquitto's words. Never payloads, never
//! secrets.

use std::sync::Arc;

use quoll_broker::vocabulary::{ConnId, Departure, Event};
use quoll_mqtt::ProtocolVersion;
use quoll_mqtt::packet::Connect;

use super::ShardThread;
use crate::connection::Line;
use crate::events::ServerEvent;

/// What the log says about a newcomer and the rules do not.
pub(super) struct Greeting {
    clean_start: bool,
    username: Option<String>,
}

impl Greeting {
    pub(super) fn of(connect: &Connect) -> Self {
        Self { clean_start: connect.clean_start, username: connect.username.clone() }
    }
}

impl ShardThread {
    pub(super) fn tell(&mut self, event: Event) {
        match event {
            Event::Connected { conn, client_id, keep_alive, .. } => {
                self.connected_as(conn, &client_id, keep_alive)
            }
            Event::Refused { conn, client_id, reason } => {
                let Some(connection) = self.table.get_mut(conn) else { return };
                let who = &connection.who;
                tracing::info!("Client {} from {} refused: {reason}.", shown(&client_id), who.peer);
                let event = ServerEvent::Refused {
                    peer: who.peer,
                    listener: who.listener(),
                    client_id,
                    username: self.arriving.as_ref().and_then(|it| it.username.clone()),
                    credential: who.credential.as_deref().copied(),
                    reason,
                };
                self.announce(event);
            }
            Event::Disconnected { conn, client_id, how, .. } => {
                let Some(connection) = self.table.get_mut(conn) else { return };
                if std::mem::take(&mut connection.announced) {
                    log_departure(&client_id, &how);
                    if self.common.events.receiver_count() > 0 {
                        let who = Arc::new(connection.who.info(connection.version, self.id));
                        self.announce(ServerEvent::Disconnected { who, how });
                    }
                }
            }
            Event::SessionEnded { client_id } => {
                self.common.placement.left(&client_id);
                self.announce(ServerEvent::SessionEnded { client_id });
            }
            Event::Subscribed { client_id, filter, reason } => {
                tracing::debug!("{} subscribed to {}: {reason}", shown(&client_id), shown(&filter));
                self.announce(ServerEvent::Subscribed { client_id, filter, reason });
            }
            Event::Denied { client_id, topic } => {
                tracing::debug!("Denied PUBLISH from {} to {}.", shown(&client_id), shown(&topic));
                self.announce(ServerEvent::Denied { client_id, topic });
            }
            Event::Dropped { client_id, count } => {
                tracing::warn!(
                    "Outgoing messages are being dropped for client {}: {count}.",
                    shown(&client_id)
                );
                self.announce(ServerEvent::Dropped { client_id, count });
            }
        }
    }

    fn connected_as(&mut self, conn: ConnId, client_id: &Arc<str>, keep_alive: u16) {
        let Some(connection) = self.table.get_mut(conn) else { return };
        if matches!(connection.line, Line::Local(_)) {
            return;
        }
        connection.announced = true;
        // The rules' own copy of the name, which may be one that they gave.
        connection.who.client_id = Arc::clone(client_id);
        let (peer, version) = (connection.who.peer, connection.version);
        if self.common.events.receiver_count() > 0 {
            let who = Arc::new(connection.who.info(version, self.id));
            self.announce(ServerEvent::Connected(who));
        }
        self.common.placement.settled(client_id, self.id);
        if let Some(Greeting { clean_start, username }) = &self.arriving {
            let protocol = match version {
                ProtocolVersion::V31 => 1,
                ProtocolVersion::V311 => 2,
                ProtocolVersion::V5 => 5,
            };
            let user = username.as_ref().map(|name| format!(", u'{}'", shown(name))).unwrap_or_default();
            tracing::info!(
                "New client connected from {} as {} (p{protocol}, c{}, k{keep_alive}{user}).",
                peer,
                shown(client_id),
                u8::from(*clean_start),
            );
        }
    }

    fn announce(&self, event: ServerEvent) {
        if self.common.events.receiver_count() > 0 {
            let _ = self.common.events.send(event);
        }
    }
}

/// What a peer chose, with control characters made visible: a line of the log stays one.
fn shown(text: &str) -> std::str::EscapeDebug<'_> {
    text.escape_debug()
}

fn log_departure(client_id: &str, how: &Departure) {
    let client = shown(client_id);
    match how {
        Departure::Disconnect(_) => tracing::info!("Client {client} disconnected."),
        Departure::Lost => tracing::info!("Client {client} closed its connection."),
        Departure::KeepAlive => tracing::info!("Client {client} has exceeded timeout, disconnecting."),
        Departure::TakenOver => tracing::info!("Client {client} already connected, closing old connection."),
        Departure::Error(error) => {
            tracing::info!("Client {client} disconnected due to protocol error: {error}.")
        }
        Departure::Closed(reason) => tracing::info!("Client {client} disconnected: {reason}."),
    }
}
