//! The table of a shard's connections. A place is reused; its generation tells the new tenant from the old.

use mio::Token;
use quoll_broker::vocabulary::ConnId;

use crate::connection::Connection;

#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    taken: usize,
}

struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

impl Table {
    /// The name that the next connection will have.
    pub(super) fn next(&self) -> ConnId {
        let index = self.free.last().copied().unwrap_or(self.slots.len() as u32);
        let generation = self.slots.get(index as usize).map_or(0, |slot| slot.generation);
        ConnId { index, generation }
    }

    /// Puts a connection in, under the name of [`Table::next`].
    pub(super) fn insert(&mut self, connection: Connection) -> ConnId {
        let conn = self.next();
        self.taken += 1;
        if self.free.pop().is_some() {
            self.slots[conn.index as usize].connection = Some(connection);
        } else {
            self.slots.push(Slot { generation: 0, connection: Some(connection) });
        }
        conn
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<&Connection> {
        let slot = self.slots.get(conn.index as usize)?;
        if slot.generation == conn.generation { slot.connection.as_ref() } else { None }
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(conn.index as usize)?;
        if slot.generation == conn.generation { slot.connection.as_mut() } else { None }
    }

    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Connection> {
        let slot = self.slots.get_mut(conn.index as usize)?;
        if slot.generation != conn.generation {
            return None;
        }
        let connection = slot.connection.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(conn.index);
        self.taken -= 1;
        Some(connection)
    }

    pub(super) fn clear(&mut self) {
        let all: Vec<ConnId> = self.ids().collect();
        for conn in all {
            self.remove(conn);
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.taken
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.taken == 0
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ConnId> {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.connection.is_some())
            .map(|(index, slot)| ConnId { index: index as u32, generation: slot.generation })
    }

    pub(super) fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter().filter_map(|slot| slot.connection.as_ref())
    }
}

/// A connection's name as mio carries it: the wake-up's token is a place that no table reaches.
pub(super) const fn to_token(conn: ConnId) -> Token {
    Token((conn.generation as usize) << 32 | conn.index as usize)
}

/// The name behind a token.
pub(super) const fn from_token(token: Token) -> ConnId {
    ConnId { index: token.0 as u32, generation: (token.0 >> 32) as u32 }
}
