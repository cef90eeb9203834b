//! What is to be written: of each subject the last word, and nothing of what began and ended in between.
//!
//! It is the difference between the file and what shards said. It stays when a write fails and takes in what comes
//! then, so it never grows beyond the state itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use quoll_broker::Message;
use quoll_broker::change::{Change, Subject};
use quoll_broker::vocabulary::{Letter, ShardId};
use quoll_mqtt::{TopicFilter, TopicName};

use super::desk::Piece;
use crate::journal::transit::{LetterKey, Transit};

#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Forget all that the file has, first.
    pub(super) instead: bool,
    pub(super) clients: HashMap<Arc<str>, Client>,
    pub(super) retained: HashMap<TopicName, Option<Arc<Message>>>,
    pub(super) letters: HashMap<LetterKey, OnTheWay>,
    /// Place of the next letter among all that were ever sent.
    pub(super) next_letter: i64,
    /// Letters among them that are to be written.
    pub(super) open_letters: usize,
}

#[derive(Debug, Default)]
pub(super) struct Client {
    /// Forget all that the file has of it, first.
    pub(super) ended: bool,
    /// The shard that last told of the session.
    pub(super) home: Option<ShardId>,
    pub(super) rows: BTreeMap<Row, Entry>,
}

/// A subject of one client.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Row {
    Session,
    Subscription(TopicFilter),
    Delivery(u64),
    Incoming(u16),
    Will,
}

#[derive(Debug)]
pub(super) struct Entry {
    /// Whether the file has nothing of it.
    pub(super) fresh: bool,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) enum State {
    Put(Change),
    Delivery {
        /// The message, where it is not in the file.
        queued: Option<Change>,
        /// That it was sent, or received.
        mark: Option<Change>,
        /// Whether the message is not needed any more.
        received: bool,
    },
    End,
}

#[derive(Debug)]
pub(super) struct OnTheWay {
    pub(super) fresh: bool,
    /// With its place among all letters.
    pub(super) letter: Option<(i64, Letter)>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        !self.instead
            && self.retained.is_empty()
            && self.letters.is_empty()
            && self.clients.values().all(|client| !client.ended && client.rows.is_empty())
    }

    pub(super) fn clear(&mut self) {
        self.instead = false;
        self.clients.clear();
        self.retained.clear();
        self.letters.clear();
        self.open_letters = 0;
    }

    pub(super) fn take_in(&mut self, piece: Piece) {
        match piece {
            Piece::Change(shard, change) => self.change(shard, change),
            Piece::Transit(transit) => self.transit(transit),
            Piece::Instead(state) => {
                self.clear();
                self.instead = true;
                state.into_iter().for_each(|change| self.change(ShardId(0), change));
            }
        }
    }

    fn change(&mut self, shard: ShardId, change: Change) {
        let (client_id, row) = match change.subject() {
            Subject::Retained(topic) => {
                let message = match change {
                    Change::Retained { message } => Some(message),
                    _ => None,
                };
                self.retained.insert(topic, message);
                return;
            }
            Subject::Session(client_id) => (client_id, Row::Session),
            Subject::Subscription(client_id, filter) => (client_id, Row::Subscription(filter)),
            Subject::Delivery(client_id, place) => (client_id, Row::Delivery(place)),
            Subject::Incoming(client_id, packet_id) => (client_id, Row::Incoming(packet_id.get())),
            Subject::Will(client_id) => (client_id, Row::Will),
        };
        let instead = self.instead;
        let client = self.clients.entry(client_id).or_default();
        client.put(instead, shard, row, change);
    }

    fn transit(&mut self, transit: Transit) {
        match transit {
            Transit::Sent(key, letter) => {
                let way = self.letters.entry(key).or_insert(OnTheWay { fresh: true, letter: None });
                if way.letter.replace((self.next_letter, letter)).is_none() {
                    self.open_letters += 1;
                }
                self.next_letter += 1;
            }
            Transit::Taken(key) => match self.letters.get_mut(&key) {
                Some(way) => {
                    if way.letter.take().is_some() {
                        self.open_letters -= 1;
                    }
                    if way.fresh {
                        self.letters.remove(&key);
                    }
                }
                None => {
                    self.letters.insert(key, OnTheWay { fresh: false, letter: None });
                }
            },
        }
    }
}

impl Client {
    fn put(&mut self, instead: bool, shard: ShardId, row: Row, change: Change) {
        if row == Row::Session {
            if change.is_end() {
                self.rows.clear();
                self.ended = true;
                return;
            }
            self.home = Some(shard);
        }
        // What the shard just numbered cannot be in the file.
        let is_new = matches!(change, Change::Queued { .. } | Change::Incoming { .. } | Change::Held { .. });
        let fresh = instead || self.ended || is_new;
        if change.is_end() {
            let known = self.rows.get(&row).map_or(instead || self.ended, |entry| entry.fresh);
            if known {
                self.rows.remove(&row);
            } else {
                self.rows.insert(row, Entry { fresh: false, state: State::End });
            }
            return;
        }
        let is_delivery = matches!(row, Row::Delivery(_));
        let entry = self.rows.entry(row).or_insert(Entry { fresh, state: State::End });
        if !is_delivery {
            entry.state = State::Put(change);
            return;
        }
        if !matches!(entry.state, State::Delivery { .. }) {
            entry.state = State::Delivery { queued: None, mark: None, received: false };
        }
        let State::Delivery { queued, mark, received } = &mut entry.state else { return };
        match change {
            Change::Queued { .. } => *queued = Some(change),
            Change::Received { .. } => {
                *queued = None;
                *received = true;
                *mark = Some(change);
            }
            _ => *mark = Some(change),
        }
    }
}
