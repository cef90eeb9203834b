//! A PUBLISH coming in: whether it is allowed, what it means, who acknowledges it (§3.3, §4.3).
//!
//! The receiver's half of QoS 1 and 2. Order rule: a retained message is stored before the message is routed, so that a subscriber
//! which subscribes before it looks misses nothing.

use std::sync::Arc;

use quoll_mqtt::packet::{Ack, Packet, Publish, PublishProperties};
use quoll_mqtt::{Delivery, PacketId, QoS, ReasonCode, TopicName};

use crate::access::Grants;
use crate::alias::Extraordinary;
use crate::change::Change;
use crate::limits;
use crate::message::{Message, MessageParts};
use crate::shard::Shard;
use crate::vocabulary::{Act, ConnId, Effect, Outbox};

/// A PUBLISH whose topic is known.
struct Named {
    topic: TopicName,
    publish: Publish,
}

impl Shard {
    /// Takes a PUBLISH.
    pub(crate) fn publish(&mut self, key: u32, conn: ConnId, mut publish: Publish, out: &mut Outbox) {
        self.stats.publishes_received += 1;
        self.stats.payload_received += publish.payload.len() as u64;
        let topic = match self.topic_of(key, &mut publish) {
            Ok(topic) => topic,
            Err(reason) => return self.fail(key, reason, out),
        };
        let delivery = publish.delivery;
        if let Err(reason) = self.against_what_was_told(&publish) {
            return self.fail(key, reason, out);
        }
        match delivery {
            Delivery::AtMostOnce => {
                self.judge(key, conn, Named { topic, publish }, out);
            }
            Delivery::AtLeastOnce(id) => {
                let reason = self.judge(key, conn, Named { topic, publish }, out);
                out.push(Effect::Send(conn, Packet::PubAck(self.ack(key, id, reason))));
            }
            Delivery::ExactlyOnce(id) => {
                self.publish_exactly_once(key, conn, id, Named { topic, publish }, out)
            }
        }
    }

    /// QoS 2: remembered until PUBREL and routed then, as Mosquitto does, so that a client that subscribes to its own
    /// messages sees the same order; a repeat is answered and nothing else [MQTT-4.3.3-10]. What would be too much to
    /// remember is routed at once, which the standard allows as well.
    fn publish_exactly_once(&mut self, key: u32, conn: ConnId, id: PacketId, named: Named, out: &mut Outbox) {
        let session = &self.sessions[key as usize];
        let reason = if session.incoming.knows(id) {
            ReasonCode::SUCCESS
        } else {
            let under_way = session.incoming.under_way();
            if self.speaks_5(key) && under_way >= usize::from(self.settings.window()) {
                return self.fail(key, ReasonCode::RECEIVE_MAXIMUM_EXCEEDED, out); // [MQTT-3.3.4-7]
            }
            // A failure ends the exchange: there will be no PUBREL (§4.3.3). 3.x hears none, and its PUBREL for an
            // unknown identifier is answered all the same.
            match self.allowed(key, conn, named, out) {
                Ok(message) => self.hold(key, id, message, out),
                Err(reason) => reason,
            }
        };
        out.push(Effect::Send(conn, Packet::PubRec(self.ack(key, id, reason))));
    }

    /// Remembers a message until its PUBREL; the reason for its PUBREC. `None` was dealt with at once.
    fn hold(
        &mut self,
        key: u32,
        id: PacketId,
        message: Option<Arc<Message>>,
        out: &mut Outbox,
    ) -> ReasonCode {
        let session = &self.sessions[key as usize];
        let (held, at_once) = match message {
            Some(message) if session.incoming.may_hold(&message) => (Some(message), None),
            other => (None, other),
        };
        if at_once.is_some_and(|message| !self.accept(message, out)) {
            return ReasonCode::QUOTA_EXCEEDED;
        }
        let session = &mut self.sessions[key as usize];
        if session.is_kept() {
            out.push(Effect::Keep(session.came(id, held.as_ref())));
        }
        session.incoming.put(id, held);
        ReasonCode::SUCCESS
    }

    /// An acknowledgement; a 3.x peer is always told success, for lack of anything else.
    fn ack(&self, key: u32, id: PacketId, reason: ReasonCode) -> Ack {
        Ack::new(id, if self.speaks_5(key) { reason } else { ReasonCode::SUCCESS })
    }

    /// The topic, by its text or by the client's alias (§3.3.2.3.4). One that is too deep costs the connection, with the
    /// reason that Mosquitto gives.
    fn topic_of(&mut self, key: u32, publish: &mut Publish) -> Result<TopicName, ReasonCode> {
        let topic = publish.topic.take();
        if topic.as_ref().is_some_and(|topic| limits::is_too_deep(topic.as_str())) {
            return Err(ReasonCode::PROTOCOL_ERROR);
        }
        let Some(alias) = publish.properties.as_ref().and_then(|properties| properties.topic_alias) else {
            return topic.ok_or(ReasonCode::PROTOCOL_ERROR);
        };
        if alias.get() > self.settings.max_topic_alias {
            return Err(ReasonCode::TOPIC_ALIAS_INVALID); // [MQTT-3.3.2-9]
        }
        let session = &mut self.sessions[key as usize];
        match topic {
            Some(topic) => {
                let own = session.extraordinary.get_or_insert_with(|| Box::new(Extraordinary::new(None, 0)));
                own.learn(alias, topic.clone());
                Ok(topic)
            }
            None => session
                .extraordinary
                .as_ref()
                .and_then(|own| own.meant(alias))
                .ok_or(ReasonCode::PROTOCOL_ERROR),
        }
    }

    /// What CONNACK excluded and what no client may send: faults that end the connection.
    fn against_what_was_told(&self, publish: &Publish) -> Result<(), ReasonCode> {
        if publish.delivery.qos() > self.settings.max_qos {
            return Err(ReasonCode::QOS_NOT_SUPPORTED); // [MQTT-3.2.2-11]
        }
        if publish.retain && !self.settings.retain_available {
            return Err(ReasonCode::RETAIN_NOT_SUPPORTED); // [MQTT-3.2.2-14]
        }
        let carries_identifiers =
            |properties: &PublishProperties| !properties.subscription_identifiers.is_empty();
        if publish.properties.as_deref().is_some_and(carries_identifiers) {
            return Err(ReasonCode::PROTOCOL_ERROR); // [MQTT-3.3.4-6]
        }
        Ok(())
    }

    /// Accepts the message or does not; the reason for its acknowledgement.
    fn judge(&mut self, key: u32, conn: ConnId, named: Named, out: &mut Outbox) -> ReasonCode {
        let message = match self.allowed(key, conn, named, out) {
            Ok(Some(message)) => message,
            Ok(None) => return ReasonCode::SUCCESS,
            Err(reason) => return reason,
        };
        // Only a 5.0 publisher at QoS 1 is told that nobody listens, so nobody else pays for the question.
        let is_heard = message.qos == QoS::AtMostOnce || !self.speaks_5(key) || self.somebody_wants(&message);
        if !self.accept(message, out) {
            return ReasonCode::QUOTA_EXCEEDED;
        }
        if is_heard { ReasonCode::SUCCESS } else { ReasonCode::NO_MATCHING_SUBSCRIBERS }
    }

    /// The message, where this client may say it; `None` where it was an order to the broker and is dealt with.
    fn allowed(
        &mut self,
        key: u32,
        conn: ConnId,
        named: Named,
        out: &mut Outbox,
    ) -> Result<Option<Arc<Message>>, ReasonCode> {
        let Named { topic, publish } = named;
        let Publish { retain, delivery, payload, properties, .. } = publish;
        let session = &self.sessions[key as usize];
        let size_limit = self.settings.message_size_limit as usize;
        if size_limit > 0 && payload.len() > size_limit {
            // As Mosquitto says it, although §3.4.2.1 does not list it: a person reads "packet too large" and knows.
            return Err(ReasonCode::PACKET_TOO_LARGE);
        }
        let too_many = |own: &PublishProperties| own.user_properties.len() > limits::USER_PROPERTIES;
        if properties.as_deref().is_some_and(too_many) {
            return Err(ReasonCode::QUOTA_EXCEEDED);
        }
        if !self.may_publish(&session.grants, &topic) {
            let refused = !session.grants.is_lenient() || is_the_servers(&topic);
            self.stats.denied += u64::from(refused);
            out.push(Effect::Tell(session.overstepped(Act::Publish, topic.as_str(), refused)));
            if refused {
                return Err(ReasonCode::NOT_AUTHORIZED);
            }
        }
        let expiry = properties.as_ref().and_then(|properties| properties.message_expiry_interval);
        let mut message = Message::new(MessageParts {
            number: self.dice.roll(),
            publisher: session.client_id.clone(),
            topic,
            payload,
            qos: delivery.qos(),
            retain,
            properties,
            expires: expiry.map(|seconds| self.now.after_seconds(seconds)),
        });
        if retain && self.settings.check_retain_source {
            message = message.of_source(session.identity.name.clone());
        }
        let message = Arc::new(message);
        if message.topic.as_str().starts_with("$CONTROL/") {
            out.push(Effect::Control(conn, message));
            return Ok(None);
        }
        Ok(Some(message))
    }

    /// Whether a client with these grants may publish there.
    pub(crate) fn may_publish(&self, grants: &Grants, topic: &TopicName) -> bool {
        !is_the_servers(topic) && grants.may_publish(topic)
    }

    fn somebody_wants(&mut self, message: &Message) -> bool {
        let topic = message.topic.as_str();
        self.matched.clear();
        self.tree.matching(topic, &mut self.matched);
        !self.matched.is_empty() || self.shared.interest.is_wanted_elsewhere(topic, self.id)
    }

    /// Retains and routes a message; whether it could be retained if that was asked.
    pub(crate) fn accept(&mut self, message: Arc<Message>, out: &mut Outbox) -> bool {
        let retained = !message.retain || self.retain(&message, out);
        out.push(Effect::Route(message));
        retained
    }

    /// Keeps a message for its topic, or with an empty payload takes the kept one away [MQTT-3.3.1-6].
    fn retain(&mut self, message: &Arc<Message>, out: &mut Outbox) -> bool {
        if !self.settings.retain_available {
            return true;
        }
        let retained = &self.shared.retained;
        if message.payload.is_empty() {
            if retained.clear(&message.topic) {
                out.push(Effect::Keep(Change::RetainedCleared { topic: message.topic.clone() }));
            }
            return true;
        }
        let message = match self.settings.retain_expiry_interval {
            0 => message.clone(),
            seconds => Arc::new(message.expiring_by(self.now.after_seconds(seconds))),
        };
        let is_stored = retained.store(message.clone(), self.settings.max_retained);
        if is_stored {
            out.push(Effect::Keep(Change::Retained { message }));
        }
        is_stored
    }
}

/// `$SYS` is the server's own, but for the state of bridges to it, which Mosquitto's tell and have as their will; and `$share` is no
/// topic.
pub(crate) fn is_the_servers(topic: &TopicName) -> bool {
    let text = topic.as_str();
    let of_bridge = text.strip_prefix("$SYS/broker/connection/").and_then(|rest| rest.strip_suffix("/state"));
    if of_bridge.is_some_and(|name| !name.contains('/')) {
        return false;
    }
    let reserved =
        |head: &str| text.strip_prefix(head).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    text.starts_with('$') && (reserved("$SYS") || reserved("$share"))
}
