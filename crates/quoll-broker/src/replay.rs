//! Retained messages for a new subscription, a stretch at a time (§3.3.1.3, §3.8.4).
//!
//! A filter such as `#` may match millions, and a client takes them at its own speed: what does not go at once waits as a list of
//! topics, outside the queue and its limits, and goes on when there is room. Each message is looked up when its
//! turn comes, so that an old value never follows a newer one.

use std::collections::VecDeque;

use quoll_mqtt::{QoS, TopicName};

use crate::deadline::NEVER;
use crate::deliver::Round;
use crate::limits;
use crate::moment::Moment;
use crate::session::{Own, Session};
use crate::shard::Shard;
use crate::vocabulary::Outbox;

/// Topics whose retained messages a session is still to get.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    stretches: VecDeque<(Own, VecDeque<TopicName>)>,
    /// When the next stretch is due: after others had their turn.
    due: Moment,
}

impl Session {
    /// When a waiting replay goes on; never while the peer has no room for it.
    pub(crate) fn replay_goes_on_at(&self) -> Moment {
        self.replay.as_ref().filter(|_| self.can_take()).map_or(NEVER, |replay| replay.due)
    }

    fn can_take(&self) -> bool {
        let next = self.replay.as_ref().and_then(|replay| replay.stretches.front());
        let is_promised = next.is_some_and(|(own, _)| own.options.qos > QoS::AtMostOnce);
        // What goes at QoS 0 does not wait for acknowledgements (§4.9).
        let has_room = !is_promised || (self.queue.is_empty() && self.may_send());
        self.conn.is_some() && !self.is_congested && has_room
    }
}

impl Shard {
    /// Begins to send what is retained for a filter.
    pub(crate) fn replay(&mut self, key: u32, own: Own, out: &mut Outbox) {
        let topics: VecDeque<TopicName> =
            self.shared.retained.matching(&own.filter).iter().map(|message| message.topic.clone()).collect();
        if topics.is_empty() {
            return;
        }
        let session = &mut self.sessions[key as usize];
        session.replay.get_or_insert_default().stretches.push_back((own, topics));
        self.go_on_replaying(key, out);
    }

    /// Sends the next stretch; the rest is due as soon as there is room.
    pub(crate) fn go_on_replaying(&mut self, key: u32, out: &mut Outbox) {
        for _ in 0..limits::REPLAY_STRETCH {
            if !self.sessions[key as usize].can_take() {
                break;
            }
            let Some((own, topic)) = self.next_replayed(key) else { break };
            self.replay_one(key, &own, &topic, out);
        }
        let session = &mut self.sessions[key as usize];
        if let Some(replay) = &mut session.replay {
            replay.due = self.now.after_millis(1);
        }
        self.deadlines.watch(key, session);
    }

    /// The connection ends: what a kept session still is to get, and would not lose, goes to its queue.
    pub(crate) fn end_replay(&mut self, key: u32, out: &mut Outbox) {
        while let Some((own, topic)) = self.next_replayed(key) {
            let session = &self.sessions[key as usize];
            if session.is_kept() && own.options.qos > QoS::AtMostOnce {
                self.replay_one(key, &own, &topic, out);
            }
        }
    }

    fn next_replayed(&mut self, key: u32) -> Option<(Own, TopicName)> {
        let session = &mut self.sessions[key as usize];
        let stretches = &mut session.replay.as_deref_mut()?.stretches;
        let (own, topics) = stretches.front_mut()?;
        let next = topics.pop_front().map(|topic| (own.clone(), topic));
        if topics.is_empty() {
            stretches.pop_front();
        }
        if stretches.is_empty() {
            session.replay = None;
        }
        next
    }

    /// Sends one, with RETAIN set [MQTT-3.3.1-8], if it is still there and still wanted.
    fn replay_one(&mut self, key: u32, own: &Own, topic: &TopicName, out: &mut Outbox) {
        let Some(message) = self.shared.retained.to_deliver(topic.as_str()) else { return };
        let session = &self.sessions[key as usize];
        let is_own = own.options.no_local && session.client_id == message.publisher;
        let is_subscribed = session.subscriptions.find(&own.filter).is_some();
        if is_own || !is_subscribed || message.is_expired(self.now) || !session.grants.may_receive(topic) {
            return;
        }
        let identifiers = if own.identifier == 0 { &[][..] } else { std::slice::from_ref(&own.identifier) };
        Round::new(self, &message, out).leave(key, own.options.qos, true, identifiers, None);
    }
}
