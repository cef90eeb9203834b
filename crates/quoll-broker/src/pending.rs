//! Answers to SUBSCRIBE that wait until the groups' shards know the new member (§3.8.4, §4.8.2).
//!
//! A member is told to its group by letter. Whoever has its SUBACK, or hears of it from who has, may publish at once and by
//! another shard: the group must have the member by then, or a message of QoS 1 or 2 goes to nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use quoll_mqtt::packet::{Packet, SubAck};
use quoll_mqtt::{ReasonCode, TopicFilter};

use crate::session::Own;
use crate::shard::Shard;
use crate::vocabulary::{ConnId, Effect, Letter, Outbox, ShardId};

/// Answers that wait at a time. Other shards answer within a turn; where one has failed and never does, no more than this piles
/// up, and what comes then is answered at once.
const WAITING: usize = 4096;

/// What waits, by the number that the other shards answer with.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    last: u64,
    waiting: BTreeMap<u64, (usize, Unanswered)>,
}

/// A SUBSCRIBE that is carried out here and not yet answered.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) conn: ConnId,
    pub(crate) client_id: Arc<str>,
    pub(crate) ack: SubAck,
    /// Subscriptions whose retained messages follow the answer.
    pub(crate) replays: Vec<Own>,
    /// Shared ones whose groups live elsewhere, each with its place in the answer. The journal does not have them yet: what promises a fact has to stand behind it
    /// in one outbox, so both wait.
    pub(crate) groups: Vec<(usize, TopicFilter)>,
}

impl Pending {
    /// A group has no place for a client: what it is told of that filter.
    pub(crate) fn refuse(&mut self, client_id: &Arc<str>, filter: &TopicFilter) {
        let of_client = self.waiting.values_mut().map(|(_, it)| it).filter(|it| it.client_id == *client_id);
        for unanswered in of_client {
            for (at, _) in unanswered.groups.iter().filter(|(_, other)| other == filter) {
                unanswered.ack.reasons[*at] = ReasonCode::QUOTA_EXCEEDED;
            }
        }
    }
}

impl Shard {
    /// Whether it is a shared subscription whose members another shard chooses.
    pub(crate) fn is_group_elsewhere(&self, filter: &TopicFilter) -> bool {
        filter.share().is_some() && self.shared.home_of_group(filter.as_str()) != self.id
    }

    /// Answers a SUBSCRIBE: at once where no other shard has a group of it. Else those shards are asked to say when they know
    /// the member; letters to a shard keep their order.
    pub(crate) fn answer_when_known(&mut self, unanswered: Unanswered, out: &mut Outbox) {
        if unanswered.groups.is_empty() || self.pending.waiting.len() >= WAITING {
            return self.answer(unanswered, out);
        }
        let home = |(_, filter): &(usize, TopicFilter)| self.shared.home_of_group(filter.as_str());
        let mut homes: Vec<ShardId> = unanswered.groups.iter().map(home).collect();
        homes.sort_unstable();
        homes.dedup();
        self.pending.last += 1;
        let ticket = self.pending.last;
        for shard in &homes {
            out.push(Effect::Mail(*shard, Letter::Asked { shard: self.id, ticket }));
        }
        self.pending.waiting.insert(ticket, (homes.len(), unanswered));
    }

    /// One of the shards knows the member; with the last of them SUBACK goes out, if the connection is still there.
    pub(crate) fn answered(&mut self, ticket: u64, out: &mut Outbox) {
        let Some((left, _)) = self.pending.waiting.get_mut(&ticket) else { return };
        *left -= 1;
        if *left > 0 {
            return;
        }
        if let Some((_, unanswered)) = self.pending.waiting.remove(&ticket) {
            self.answer(unanswered, out);
        }
    }

    fn answer(&mut self, unanswered: Unanswered, out: &mut Outbox) {
        let Unanswered { conn, client_id, ack, replays, groups } = unanswered;
        // What the session still has of it is a fact now, whether its client is still there to hear so or not.
        let known = self.by_client.get(&client_id).map(|key| &self.sessions[*key as usize]);
        let kept = known.into_iter().filter(|session| session.is_kept());
        let owned = kept
            .flat_map(|session| groups.iter().filter_map(|(_, filter)| session.subscriptions.find(filter)));
        for own in owned {
            out.push(Effect::Keep(own.fact(client_id.clone())));
        }
        let Some(key) = self.session_of(conn) else { return };
        out.push(Effect::Send(conn, Packet::SubAck(Box::new(ack))));
        for own in replays {
            self.replay(key, own, out);
        }
    }
}
