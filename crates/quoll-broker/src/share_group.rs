//! Shared subscriptions: one member of a group gets each message (§4.8.2).
//!
//! A group lives on one shard, which the group's filter names, and that shard alone chooses: exactly one receiver. Members are
//! chosen in turn, connected ones first, and who has no room is passed over while another may have some. Of members on its own
//! shard the group sees that; one on another shard is asked by the message itself: it sends it back, once, and says when it has
//! room again. So nobody pays for the question but those who are full. What a member never acknowledged goes to another one
//! when its session ends.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use quoll_mqtt::{QoS, TopicFilter};
use slab::Slab;

use crate::change::{Change, Parcel};
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
    /// On another shard, and had no room the last time.
    is_full: bool,
}

/// A message on its way to a member of a group.
#[derive(Clone, Copy)]
pub(crate) struct Offer<'a> {
    pub(crate) message: &'a Arc<Message>,
    /// How many members it was offered to.
    pub(crate) offers: u16,
}

/// Who is to have a message.
struct Choice {
    shard: ShardId,
    client_id: Arc<str>,
    offers: u16,
    may_pass: bool,
}

impl Groups {
    pub(crate) fn new(seed: u64) -> Self {
        let by_filter = HashMap::with_hasher(RandomState::with_seeds(seed, 21, !seed, 22));
        Self { by_filter, groups: Slab::new() }
    }
}

impl Group {
    /// Its members from this place on, once round: those that may have room, the connected ones first.
    fn in_turn(&self, from: usize) -> impl Iterator<Item = usize> {
        let round = (from..self.members.len()).chain(0..from.min(self.members.len()));
        let is = move |connected: bool| {
            move |at: &usize| !self.members[*at].is_full && self.members[*at].connected == connected
        };
        round.clone().filter(is(true)).chain(round.filter(is(false)))
    }

    /// Who has to take a message for which nobody is known to have room: the first connected one, else the first.
    fn scapegoat(&self, from: usize) -> Option<usize> {
        let count = self.members.len();
        let round = (0..count).map(|step| (from + step) % count);
        round.clone().find(|at| self.members[*at].connected).or_else(|| round.clone().next())
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
            // One that the group has no place for was refused before; see `is_group_full`.
            Some(connected) if is_here => drop(self.joined(self.id, &client_id, &name, connected)),
            None if is_here => self.left(&client_id, &name),
            Some(connected) => {
                let letter = Letter::Joined { shard: self.id, client_id, filter: name, connected };
                out.push(Effect::Mail(home, letter));
            }
            None => out.push(Effect::Mail(home, Letter::Left { client_id, filter: name })),
        }
    }

    /// Whether a shared subscription of this shard has no place for one more client.
    pub(crate) fn is_group_full(&self, filter: &TopicFilter) -> bool {
        let group = self.groups.by_filter.get(filter.as_str()).map(|key| &self.groups.groups[*key as usize]);
        group.is_some_and(|group| group.members.len() >= self.settings.max_group_members)
    }

    /// A group on another shard has no place for a client of this one: it is no subscription, and is answered so.
    pub(crate) fn not_a_member(&mut self, client_id: &Arc<str>, filter: &Arc<str>, out: &mut Outbox) {
        let Ok(parsed) = TopicFilter::parse(filter) else { return };
        let Some(key) = self.by_client.get(client_id).copied() else { return };
        let session = &mut self.sessions[key as usize];
        if session.subscriptions.take(&parsed).is_none() {
            return;
        }
        self.stats.subscriptions -= 1;
        self.stats.shared_subscriptions -= 1;
        if session.is_kept() {
            out.push(Effect::Keep(Change::Unsubscribed {
                client_id: client_id.clone(),
                filter: parsed.clone(),
            }));
        }
        self.pending.refuse(client_id, &parsed);
    }

    /// A member came, or its state changed; whether there was a place for it.
    pub(crate) fn joined(
        &mut self,
        shard: ShardId,
        client_id: &Arc<str>,
        filter: &Arc<str>,
        connected: bool,
    ) -> bool {
        let Ok(parsed) = TopicFilter::parse(filter) else { return true };
        let key = match self.groups.by_filter.get(filter) {
            Some(key) => *key,
            None => self.found_group(parsed),
        };
        let group = &mut self.groups.groups[key as usize];
        if let Some(member) = group.members.iter_mut().find(|member| member.client_id == *client_id) {
            (member.shard, member.connected, member.is_full) = (shard, connected, false);
        } else if group.members.len() < self.settings.max_group_members {
            group.members.push(Member { client_id: client_id.clone(), shard, connected, is_full: false });
        } else {
            return false;
        }
        true
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
        let Some(from) = self.groups.groups.get(group as usize).map(|group| group.turn) else { return };
        let offer = Offer { message, offers: 0 };
        let Some(at) = self.offer(group, from, offer, out) else { return };
        if let Some(group) = self.groups.groups.get_mut(group as usize) {
            group.turn = (at + 1) % group.members.len().max(1);
        }
    }

    /// Offers a message to the members from this place on; who was chosen.
    fn offer(&mut self, group: u32, from: usize, offer: Offer<'_>, out: &mut Outbox) -> Option<usize> {
        let (at, choice) = self.choose(group, from, offer)?;
        let filter = self.groups.groups[group as usize].filter.clone();
        let Choice { shard, client_id, offers, may_pass } = choice;
        if shard == self.id {
            self.give(&client_id, &filter, offer.message, out);
        } else {
            let (filter, message) = (filter.as_str().into(), offer.message.clone());
            out.push(Effect::Mail(shard, Letter::Chosen { client_id, filter, message, offers, may_pass }));
        }
        Some(at)
    }

    fn choose(&self, group: u32, from: usize, offer: Offer<'_>) -> Option<(usize, Choice)> {
        let group = self.groups.groups.get(group as usize)?;
        let most = limits::MEMBERS_TRIED.min(group.members.len());
        let choice = |at: usize, offers: u16, may_pass: bool| {
            let member = &group.members[at];
            (at, Choice { shard: member.shard, client_id: member.client_id.clone(), offers, may_pass })
        };
        let mut offers = offer.offers;
        for at in group.in_turn(from) {
            if usize::from(offers) >= most {
                break;
            }
            offers += 1;
            let member = &group.members[at];
            if member.shard != self.id {
                return Some(choice(at, offers, usize::from(offers) < most));
            }
            if self.can_take(&member.client_id, &group.filter, offer.message) {
                return Some(choice(at, offers, false));
            }
        }
        Some(choice(group.scapegoat(from)?, offers, false))
    }

    /// A member on another shard passed a message over.
    pub(crate) fn passed(
        &mut self,
        client_id: &Arc<str>,
        filter: &Arc<str>,
        offer: Offer<'_>,
        is_full: bool,
        out: &mut Outbox,
    ) {
        let Some(key) = self.groups.by_filter.get(filter).copied() else { return };
        let group = &mut self.groups.groups[key as usize];
        // Who left meanwhile passed it over all the same; then it is anybody's turn.
        let at = group.members.iter().position(|member| member.client_id == *client_id);
        if let Some(at) = at {
            group.members[at].is_full |= is_full;
        }
        let from = at.map_or(group.turn, |at| at + 1);
        if !offer.message.is_expired(self.now) {
            self.offer(key, from, offer, out);
        }
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
            _ => session.sends_at_once() || session.queue.has_room(&self.settings),
        }
    }

    /// The group's shard chose a client of ours.
    pub(crate) fn chosen(
        &mut self,
        client_id: &Arc<str>,
        filter: &Arc<str>,
        offer: Offer<'_>,
        may_pass: bool,
        out: &mut Outbox,
    ) {
        let Ok(parsed) = TopicFilter::parse(filter) else { return };
        if !may_pass || self.can_take(client_id, &parsed, offer.message) {
            return self.give(client_id, &parsed, offer.message, out);
        }
        let Some(key) = self.by_client.get(client_id).copied() else { return };
        let session = &mut self.sessions[key as usize];
        let is_full = session.grants.may_receive(&offer.message.topic);
        session.is_passed_over |= is_full;
        let Offer { message, offers } = offer;
        let (client_id, filter, message) = (client_id.clone(), filter.clone(), message.clone());
        let home = self.shared.home_of_group(&filter);
        out.push(Effect::Mail(home, Letter::Passed { client_id, filter, message, offers, is_full }));
    }

    /// Tells the groups that passed a session over that it has room again, if it has.
    pub(crate) fn tell_of_room(&mut self, key: u32, out: &mut Outbox) {
        let session = &mut self.sessions[key as usize];
        if session.is_passed_over && !session.is_congested && session.queue.has_room(&self.settings) {
            let connected = session.conn.is_some();
            self.tell_groups(key, connected, out);
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
