//! `$CONTROL/…`: what clients say to the server itself. The rules have looked whether they may; others never get it.
//!
//! Somebody of this process takes the words ([`Handle::control`]), does as they say and answers with
//! [`Handle::answer`]. While nobody takes them they are dropped.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use quoll_broker::Message;
use quoll_broker::message::MessageParts;
use quoll_broker::vocabulary::{ConnId, Order};
use quoll_mqtt::{QoS, ReasonCode, TopicName};
use tokio::sync::mpsc;

use crate::limits::CONTROL_BACKLOG;
use crate::server::Handle;
use crate::shard_thread::ShardThread;

/// A message to `$CONTROL/…`.
#[derive(Clone, Debug)]
pub struct ControlMessage {
    /// Name of the listener that its client came to.
    pub listener: Arc<str>,
    /// Client identifier.
    pub client_id: Arc<str>,
    /// Name of the client's identity; empty for an anonymous one.
    pub identity: Arc<str>,
    /// Where the client came from.
    pub peer: SocketAddr,
    /// Topic and payload.
    pub message: Arc<Message>,
}

/// Where such messages are handed in.
#[derive(Debug, Default)]
pub(crate) struct Desk(OnceLock<mpsc::Sender<ControlMessage>>);

impl Handle {
    /// What clients publish to `$CONTROL/…` from now on; `None` where somebody takes it already. Of messages that are not
    /// taken at most [`CONTROL_BACKLOG`] wait, further ones are dropped and the log says so.
    #[must_use]
    pub fn control(&self) -> Option<mpsc::Receiver<ControlMessage>> {
        let (sender, receiver) = mpsc::channel(CONTROL_BACKLOG);
        self.0.desk.0.set(sender).ok().map(|()| receiver)
    }

    /// Ends the connections of an identity without their wills, of one client alone where it is named; the sessions stay.
    /// 5.0 peers are told `Administrative action`. Behind all that was published before.
    pub fn kick(&self, identity: &Arc<str>, client_id: Option<&Arc<str>>) {
        let (identity, client_id) = (Arc::clone(identity), client_id.cloned());
        self.tell(&Order::Kick { identity, client_id, reason: ReasonCode::ADMINISTRATIVE_ACTION });
    }

    /// Publishes an answer, at QoS 0 and not retained, to those who subscribed to its topic and may have it.
    pub fn answer(&self, topic: TopicName, payload: Vec<u8>) {
        let message = MessageParts {
            // It tells messages apart in facts, and these are never kept.
            number: 0,
            publisher: "".into(),
            topic,
            payload: payload.into(),
            qos: QoS::AtMostOnce,
            retain: false,
            properties: None,
            expires: None,
        };
        self.publish(Arc::new(Message::new(message)));
    }
}

impl ShardThread {
    /// Hands a client's words to who takes them.
    pub(crate) fn hand_in(&mut self, conn: ConnId, message: Arc<Message>) {
        let desk = self.desk();
        let Some(who) = self.who(conn) else { return };
        let Some(desk) = desk.0.get() else {
            return tracing::debug!("Nobody takes what is published to {}.", message.topic.as_str());
        };
        let words = ControlMessage {
            listener: who.listener(),
            client_id: Arc::clone(&who.client_id),
            identity: Arc::clone(&who.identity),
            peer: who.peer,
            message,
        };
        if desk.try_send(words).is_err() {
            tracing::warn!("A message of {} to $CONTROL was dropped: too many wait.", who.client_id);
        }
    }
}
