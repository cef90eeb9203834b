//! Shared subscriptions: one member of a group gets each message (§4.8.2).
//!
//! A group lives on one shard, which the group's filter names, and that shard alone chooses: exactly one receiver. Members are
//! chosen in turn, connected ones first. What a member never acknowledged goes to another one when its session ends.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use quoll_mqtt::{QoS, TopicFilter};
use slab::Slab;

use crate::change::Parcel;
use crate::deliver::Round;
use crate::limits;
use crate::message::Message;
use crate::shard::Shard;
use crate::vocabulary::{Effect, Letter, Outbox, ShardId};

/// The groups that live here.
#[derive(Debug)]
pub(crate) struct Groups {
    by_filter: HashMap<Arc<str>, u32, RandomState>,
    groups: Slab<Group>,
}

#[derive(Debug)]
struct Group {
    filter: TopicFilter,
    members: Vec<Member>,
    /// Who is asked first next time.
    turn: usize,
}

#[derive(Debug)]
struct Member {
    client_id: Arc<str>,
    shard: ShardId,
    connected: bool,
}

impl Groups {
    pub(crate) fn new(seed: u64) -> Self {
        let by_filter = HashMap::with_hasher(RandomState::with_seeds(seed, 21, !seed, 22));
        Self { by_filter, groups: Slab::new() }
    }
}

impl Group {
    /// The next member in turn: the first connected one, else the first.
    fn choose(&mut self) -> Option<&Member> {
        let count = self.members.len();
        let in_turn = (0..count).map(|step| (self.turn + step) % count);
        let at = in_turn.clone().find(|at| self.members[*at].connected).or_else(|| in_turn.clone().next())?;
        self.turn = (at + 1) % count;
        Some(&self.members[at])
    }
}

impl Shard {
    /// Tells a group, wherever it lives, that a client of this shard is a member, connected or not, or is none any more.
    pub(crate) fn tell_group(
        &mut self,
        filter: &TopicFilter,
        client_id: Arc<str>,
        connected: Option<bool>,
        out: &mut Outbox,
    ) {
        let home = self.shared.home_of_group(filter.as_str());
        let is_here = home == self.id;
        let name: Arc<str> = filter.as_str().into();
        match connected {
            Some(connected) if is_here => self.joined(self.id, &client_id, &name, connected),
            None if is_here => self.left(&client_id, &name),
            Some(connected) => {
                let letter = Letter::Joined { shard: self.id, client_id, filter: name, connected };
                out.push(Effect::Mail(home, letter));
            }
            None => out.push(Effect::Mail(home, Letter::Left { client_id, filter: name })),
        }
    }

    /// A member came, or its state changed.
    pub(crate) fn joined(
        &mut self,
        shard: ShardId,
        client_id: &Arc<str>,
        filter: &Arc<str>,
        connected: bool,
    ) {
        let Ok(parsed) = TopicFilter::parse(filter) else { return };
        let key = match self.groups.by_filter.get(filter) {
            Some(key) => *key,
            None => self.found_group(parsed),
        };
        let group = &mut self.groups.groups[key as usize];
        if let Some(member) = group.members.iter_mut().find(|member| member.client_id == *client_id) {
            member.shard = shard;
            member.connected = connected;
        } else if group.members.len() < limits::GROUP_MEMBERS {
            group.members.push(Member { client_id: client_id.clone(), shard, connected });
        }
    }

    fn found_group(&mut self, filter: TopicFilter) -> u32 {
        let name: Arc<str> = filter.as_str().into();
        let (id, is_first) = self.tree.insert(filter.unshared());
        if is_first {
            self.shared.interest.add(filter.unshared(), self.id);
        }
        let group = Group { filter, members: Vec::new(), turn: 0 };
        let key = u32::try_from(self.groups.groups.insert(group)).expect("fewer groups than subscriptions");
        self.tree.value_mut(id).groups.push(key);
        self.groups.by_filter.insert(name, key);
        key
    }

    /// A member left; the last one takes the group with it.
    pub(crate) fn left(&mut self, client_id: &Arc<str>, filter: &Arc<str>) {
        let Some(key) = self.groups.by_filter.get(filter).copied() else { return };
        let group = &mut self.groups.groups[key as usize];
        if let Some(at) = group.members.iter().position(|member| member.client_id == *client_id) {
            group.members.remove(at);
            if at < group.turn {
                group.turn -= 1;
            }
        }
        if !group.members.is_empty() {
            return;
        }
        let group = self.groups.groups.remove(key as usize);
        self.groups.by_filter.remove(filter);
        if let Some(id) = self.tree.find(group.filter.unshared()) {
            self.tree.value_mut(id).groups.retain(|other| *other != key);
        }
        self.drop_unwanted(group.filter.unshared());
    }

    /// Gives a message to a member of a group that lives here.
    pub(crate) fn hand_to_group(&mut self, group: u32, message: &Arc<Message>, out: &mut Outbox) {
        let Some((shard, client_id)) = self.member_for(group, message) else { return };
        let group = &self.groups.groups[group as usize];
        if shard == self.id {
            let filter = group.filter.clone();
            return self.give(&client_id, &filter, message, out);
        }
        let filter = group.filter.as_str().into();
        out.push(Effect::Mail(shard, Letter::Chosen { client_id, filter, message: message.clone() }));
    }

    /// The member in turn, and past those of this shard that would have to drop the message. Where all would, the first.
    fn member_for(&mut self, group: u32, message: &Message) -> Option<(ShardId, Arc<str>)> {
        let mut first = None;
        for _ in 0..limits::MEMBERS_TRIED {
            let group = self.groups.groups.get_mut(group as usize)?;
            let filter = group.filter.clone();
            let member = group.choose()?;
            let chosen = (member.shard, member.client_id.clone());
            if first.as_ref() == Some(&chosen) {
                break; // once round
            }
            if chosen.0 != self.id || self.can_take(&chosen.1, &filter, message) {
                return Some(chosen);
            }
            first.get_or_insert(chosen);
        }
        first
    }

    /// Whether a message left at this member would be sent or queued. Who has left the group meanwhile is not asked.
    fn can_take(&self, client_id: &Arc<str>, filter: &TopicFilter, message: &Message) -> bool {
        let Some(session) = self.by_client.get(client_id).map(|key| &self.sessions[*key as usize]) else {
            return true;
        };
        let Some(own) = session.subscriptions.find(filter) else { return true };
        if !session.grants.may_receive(&message.topic) {
            return false;
        }
        match self.settings.level(message.qos, own.options.qos) {
            QoS::AtMostOnce => session.conn.is_none() || !session.is_congested,
            _ => session.sends_at_once() || session.queue.has_room(message.weight(), &self.settings),
        }
    }

    /// The group's shard chose a client of ours.
    pub(crate) fn chosen(
        &mut self,
        client_id: &Arc<str>,
        filter: &Arc<str>,
        message: &Arc<Message>,
        out: &mut Outbox,
    ) {
        if let Ok(filter) = TopicFilter::parse(filter) {
            self.give(client_id, &filter, message, out);
        }
    }

    fn give(&mut self, client_id: &Arc<str>, filter: &TopicFilter, message: &Arc<Message>, out: &mut Outbox) {
        let key = self.by_client.get(client_id).copied();
        let own = key.and_then(|key| self.sessions[key as usize].subscriptions.find(filter));
        let (Some(key), Some(own)) = (key, own) else {
            // It left while the message was on its way; the group has heard of that before it hears this.
            let (message, qos, shared) = (message.clone(), message.qos, Some(filter.clone()));
            return self.give_back(Parcel { message, qos, retain: false, identifiers: None, shared }, out);
        };
        if !self.sessions[key as usize].grants.may_receive(&message.topic) {
            return;
        }
        let (options, identifier) = (own.options, own.identifier);
        let identifiers = if identifier == 0 { &[][..] } else { std::slice::from_ref(&identifier) };
        let retain = options.retain_as_published && message.retain;
        Round::new(self, message, out).leave(key, options.qos, retain, identifiers, Some(filter));
    }

    /// Sends a parcel that its member will never acknowledge back to the group.
    pub(crate) fn give_back(&mut self, parcel: Parcel, out: &mut Outbox) {
        let Some(filter) = &parcel.shared else { return };
        if parcel.message.qos == QoS::AtMostOnce || parcel.message.is_expired(self.now) {
            return;
        }
        let home = self.shared.home_of_group(filter.as_str());
        if home == self.id {
            self.returned(parcel, out);
        } else {
            out.push(Effect::Mail(home, Letter::Returned { parcel: Box::new(parcel) }));
        }
    }

    /// A parcel came back: another member gets it, if there is one.
    pub(crate) fn returned(&mut self, parcel: Parcel, out: &mut Outbox) {
        let Some(filter) = &parcel.shared else { return };
        if let Some(group) = self.groups.by_filter.get(filter.as_str()).copied() {
            self.hand_to_group(group, &parcel.message, out);
        }
    }
}
