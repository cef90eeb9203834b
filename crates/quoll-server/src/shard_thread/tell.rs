//! What the rules tell, passed on to those who watch, and said in the log in the words of Mosquitto 2.0.11 (see
//! [`crate::log`]). Never payloads, never secrets.

use std::sync::Arc;

use quoll_broker::vocabulary::{Act, ConnId, Departure, Event, Identity};
use quoll_mqtt::packet::Connect;
use quoll_mqtt::{DecodeError, ProtocolVersion, ReasonCode};

use super::ShardThread;
use crate::connection::Line;
use crate::events::ServerEvent;
use crate::log::{CONNECTION, NOTICE, PACKETS, SUBSCRIBE, shown};

/// What the log says about a newcomer and the rules do not.
pub(super) struct Greeting {
    clean_start: bool,
    bridge: bool,
    username: Option<String>,
    /// The user name in force: a certificate's may stand in its place.
    user: Option<String>,
    /// Whether there is a will, and its level, retention, topic and size.
    will: Option<String>,
    /// The line about its CONNACK, which stands below the others.
    pub(super) answer: Option<String>,
}

impl Greeting {
    pub(super) fn of(connect: &Connect, identity: &Identity) -> Self {
        let named = Some(&*identity.name).filter(|name| !name.is_empty());
        let will = connect.will.as_ref().map(|will| {
            let (bytes, retain, qos) = (will.payload.len(), u8::from(will.retain), will.qos as u8);
            format!(
                "Will message specified ({bytes} bytes) (r{retain}, q{qos}).\n\t{}",
                shown(will.topic.as_str())
            )
        });
        Self {
            clean_start: connect.clean_start,
            bridge: connect.bridge,
            username: connect.username.clone(),
            user: named.map(str::to_owned).or_else(|| connect.username.clone()),
            will,
            answer: None,
        }
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
                let client = if client_id.is_empty() { "<unknown>" } else { &client_id };
                let how = because_of(reason);
                tracing::info!(target: CONNECTION, "Client {} {how}", shown(client));
                tracing::debug!(client, peer = %who.peer, %reason, "refused");
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
            Event::Expired { client_id } => {
                tracing::info!(target: NOTICE, "Expiring client {} due to timeout.", shown(&client_id));
            }
            Event::SessionEnded { client_id } => {
                self.common.placement.left(&client_id);
                self.announce(ServerEvent::SessionEnded { client_id });
            }
            Event::Subscribed { client_id, filter, reason } => {
                tracing::debug!(target: SUBSCRIBE, "{} {} {}", shown(&client_id), reason.0, shown(&filter));
                self.announce(ServerEvent::Subscribed { client_id, filter, reason });
            }
            Event::Denied { client_id, identity, act, topic, refused } => {
                if refused && act == Act::Publish {
                    let client = shown(&client_id);
                    // Of a will there was no PUBLISH.
                    let words = self.said_publish.take().unwrap_or_else(|| format!("'{}'", shown(&topic)));
                    tracing::debug!(target: PACKETS, "Denied PUBLISH from {client} ({words})");
                }
                self.announce(ServerEvent::Denied { client_id, identity, act, topic, refused });
            }
            Event::Dropped { client_id, count } => {
                let client = shown(&client_id);
                tracing::info!(target: NOTICE, "Outgoing messages are being dropped for client {client}.");
                self.announce(ServerEvent::Dropped { client_id, count });
            }
        }
    }

    fn connected_as(&mut self, conn: ConnId, client_id: &Arc<str>, keep_alive: u16) {
        let Some(connection) = self.table.get_mut(conn) else { return };
        if matches!(connection.line, Line::Local(_)) {
            return;
        }
        if connection.who.seat.is_none() {
            return self.common.placement.settled(client_id, self.id);
        }
        connection.announced = true;
        // The rules' own copy of the name, which may be one that they gave.
        connection.who.client_id = Arc::clone(client_id);
        let (who, version) = (&connection.who, connection.version);
        let seat = who.seat.as_ref().filter(|_| self.arriving.is_some());
        let peer = seat.map(|seat| seat.listener().shown(who.peer).to_string()).unwrap_or_default();
        if self.common.events.receiver_count() > 0 {
            let who = Arc::new(connection.who.info(version, self.id));
            self.announce(ServerEvent::Connected(who));
        }
        self.common.placement.settled(client_id, self.id);
        if let Some(Greeting { clean_start, bridge, user, will, answer, .. }) = &self.arriving {
            let protocol = match version {
                ProtocolVersion::V31 => 1,
                ProtocolVersion::V311 => 2,
                ProtocolVersion::V5 => 5,
            };
            let kind = if *bridge { "bridge" } else { "client" };
            let user = user.as_ref().map(|name| format!(", u'{}'", shown(name))).unwrap_or_default();
            let (client, clean) = (shown(client_id), u8::from(*clean_start));
            tracing::info!(
                target: CONNECTION,
                "New {kind} connected from {peer} as {client} (p{protocol}, c{clean}, k{keep_alive}{user}).",
            );
            if self.verbose {
                let will = will.as_deref().unwrap_or("No will message specified.");
                will.lines()
                    .chain(answer.as_deref())
                    .for_each(|line| tracing::debug!(target: PACKETS, "{line}"));
            }
        }
    }

    fn announce(&self, event: ServerEvent) {
        if self.common.events.receiver_count() > 0 {
            let _ = self.common.events.send(event);
        }
    }
}

fn log_departure(client_id: &str, how: &Departure) {
    let client = shown(client_id);
    let words = match how {
        Departure::Disconnect(_) => "disconnected.",
        Departure::Lost => "closed its connection.",
        Departure::KeepAlive => "has exceeded timeout, disconnecting.",
        Departure::TakenOver => {
            // Mosquitto finds this an error: two clients with one identifier throw each other out for ever.
            tracing::error!(target: CONNECTION, "Client {client} already connected, closing old connection.");
            return;
        }
        Departure::Error(error) => {
            if matches!(error, DecodeError::Protocol { packet: "CONNECT", .. }) {
                tracing::info!(target: NOTICE, "Bad client {client} sending multiple CONNECT messages.");
            }
            tracing::debug!(client = client_id, %error, "protocol error");
            match error {
                DecodeError::TooLarge { .. } => "disconnected due to oversize packet.",
                DecodeError::Malformed { .. } => "disconnected due to malformed packet.",
                _ => "disconnected due to protocol error.",
            }
        }
        // Mosquitto does not say that of each client.
        Departure::Closed(ReasonCode::SERVER_SHUTTING_DOWN) => return,
        Departure::Closed(reason) => because_of(*reason),
    };
    tracing::info!(target: CONNECTION, "Client {client} {words}");
}

/// Why we closed it, in Mosquitto's words.
const fn because_of(reason: ReasonCode) -> &'static str {
    match reason {
        ReasonCode::NOT_AUTHORIZED | ReasonCode::BAD_USER_NAME_OR_PASSWORD => "disconnected, not authorised.",
        ReasonCode::MALFORMED_PACKET => "disconnected due to malformed packet.",
        ReasonCode::PACKET_TOO_LARGE => "disconnected due to oversize packet.",
        ReasonCode::QOS_NOT_SUPPORTED | ReasonCode::RETAIN_NOT_SUPPORTED => {
            "disconnected due to QoS too high or retain not supported."
        }
        ReasonCode::ADMINISTRATIVE_ACTION => "been disconnected by administrative action.",
        _ => "disconnected due to protocol error.",
    }
}
