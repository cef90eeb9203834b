//! The will: what a client wants said if its connection ends badly (§3.1.2.5, §3.1.3.2.2).

use std::sync::Arc;

use quoll_mqtt::packet::{PublishProperties, Will};

use crate::access::Grants;
use crate::change::Change;
use crate::message::{Message, MessageParts};
use crate::moment::Moment;
use crate::publish::is_the_servers;
use crate::session::Session;
use crate::shard::Shard;
use crate::vocabulary::{Act, Effect, Event, Identity, Outbox};

/// A will, ready to be said.
#[derive(Clone, Debug)]
pub(crate) struct LastWord {
    pub(crate) message: Arc<Message>,
    /// Message Expiry Interval in seconds, counted from when it is said.
    pub(crate) expiry: Option<u32>,
    /// Will Delay Interval in seconds.
    pub(crate) delay: u32,
    /// When it is said, once the client is gone.
    pub(crate) due: Option<Moment>,
}

impl LastWord {
    /// `source`: see [`Message::source`].
    pub(crate) fn new(will: Will, publisher: Arc<str>, source: Option<Arc<str>>, number: u64) -> Self {
        let Will { topic, payload, qos, retain, properties } = will;
        let forwarded = PublishProperties {
            payload_format_indicator: properties.payload_format_indicator,
            content_type: properties.content_type,
            response_topic: properties.response_topic,
            correlation_data: properties.correlation_data,
            user_properties: properties.user_properties,
            order: properties.order,
            ..PublishProperties::default()
        };
        let mut message = Message::new(MessageParts {
            number,
            publisher,
            topic,
            payload,
            qos,
            retain,
            properties: Some(Box::new(forwarded)),
            expires: None,
        });
        if let Some(source) = source.filter(|_| retain) {
            message = message.of_source(source);
        }
        Self {
            message: Arc::new(message),
            expiry: properties.message_expiry_interval,
            delay: properties.will_delay_interval.unwrap_or(0),
            due: None,
        }
    }

    /// The message as it is said now.
    fn said(self, now: Moment) -> Arc<Message> {
        match self.expiry {
            None => self.message,
            Some(seconds) => Arc::new(self.message.expiring_by(now.after_seconds(seconds))),
        }
    }
}

impl Session {
    /// The fact that a will of this session is with the journal.
    pub(crate) fn lodged(&self, word: &LastWord) -> Change {
        Change::WillLodged {
            client_id: self.client_id.clone(),
            identity: Box::new(self.identity.clone()),
            message: word.message.clone(),
            expiry: word.expiry,
            delay: word.delay,
        }
    }

    /// The journal may forget the will.
    pub(crate) fn settle_will(&mut self, out: &mut Outbox) {
        if std::mem::take(&mut self.is_will_lodged) {
            out.push(Effect::Keep(Change::WillSettled { client_id: self.client_id.clone() }));
        }
    }
}

impl Shard {
    /// Lets the journal know the will of a client that has come, so that it is said though the node may die first. Not
    /// one that the client may not publish: nobody could ask after the next start.
    pub(crate) fn lodge_last_word(&mut self, key: u32, out: &mut Outbox) {
        let session = &self.sessions[key as usize];
        let Some(word) = session.last_word.as_deref() else { return };
        if !self.may_say(&session.grants, word) {
            return;
        }
        out.push(Effect::Keep(session.lodged(word)));
        self.sessions[key as usize].is_will_lodged = true;
    }

    /// As [`Self::lodge_last_word`], where grants changed since.
    pub(crate) fn lodge_last_word_again(&mut self, key: u32, out: &mut Outbox) {
        let session = &self.sessions[key as usize];
        let Some(word) = session.last_word.as_deref().filter(|word| word.due.is_none()) else { return };
        let (may, is_lodged) = (self.may_say(&session.grants, word), session.is_will_lodged);
        if may && !is_lodged {
            self.lodge_last_word(key, out);
        } else if !may {
            self.sessions[key as usize].settle_will(out);
        }
    }

    fn may_say(&self, grants: &Grants, word: &LastWord) -> bool {
        let topic = &word.message.topic;
        self.may_publish(grants, topic) || (grants.is_lenient() && !is_the_servers(topic))
    }

    /// The client of a kept session is gone: its will is said, or waits for its delay.
    pub(crate) fn lay_last_word(&mut self, key: u32, out: &mut Outbox) {
        let session = &mut self.sessions[key as usize];
        let Some(word) = session.last_word.as_deref_mut() else { return };
        if word.delay == 0 {
            return self.say_last_word(key, out);
        }
        let due = self.now.after_seconds(word.delay);
        word.due = Some(due);
        // One that it may not publish is not in the journal, and does not come there now.
        if session.is_will_lodged {
            out.push(Effect::Keep(Change::WillPending {
                client_id: session.client_id.clone(),
                message: word.message.clone(),
                expiry: word.expiry,
                due,
            }));
        }
    }

    /// Says the session's will, if it has one.
    pub(crate) fn say_last_word(&mut self, key: u32, out: &mut Outbox) {
        let session = &mut self.sessions[key as usize];
        let Some(word) = session.last_word.take() else { return };
        let (grants, identity) = (session.grants.clone(), session.identity.clone());
        session.settle_will(out);
        self.say(*word, &grants, &identity, out);
    }

    /// Publishes a will, if its client may publish to the topic now.
    pub(crate) fn say(&mut self, word: LastWord, grants: &Grants, identity: &Identity, out: &mut Outbox) {
        let message = word.said(self.now);
        if !self.may_publish(grants, &message.topic) {
            let refused = !grants.is_lenient() || is_the_servers(&message.topic);
            self.stats.denied += u64::from(refused);
            out.push(Effect::Tell(Event::Denied {
                client_id: message.publisher.clone(),
                identity: identity.name.clone(),
                act: Act::Publish,
                topic: message.topic.as_str().into(),
                refused,
            }));
            if refused {
                return;
            }
        }
        self.accept(message, out);
    }
}
