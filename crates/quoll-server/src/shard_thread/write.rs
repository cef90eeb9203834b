//! Writing: one write per connection and turn, slow peers, and how connections end.

use std::time::Instant;

use mio::Interest;
use quoll_broker::vocabulary::{ConnId, Input};

use super::{ShardThread, table};
use crate::connection::{Connection, Flushed, Line, Phase};
use crate::limits::{FAREWELL_PATIENCE, LINGER};

impl ShardThread {
    /// Writes each dirty connection once.
    pub(super) fn flush_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for conn in dirty.drain(..) {
            self.flush(conn);
        }
        if self.dirty.is_empty() {
            self.dirty = dirty;
        }
    }

    /// Writes those whose buffers are so full that waiting for the end of the turn would cost memory.
    pub(super) fn flush_brimming(&mut self) {
        if self.brimming.is_empty() {
            return;
        }
        for conn in std::mem::take(&mut self.brimming) {
            self.flush_early(conn);
        }
    }

    /// Writes before the end of the turn.
    pub(super) fn flush_early(&mut self, conn: ConnId) {
        let dirty = self.table.get_mut(conn).is_some_and(|it| it.dirty);
        self.flush(conn);
        // It still stands in the turn's list.
        if let Some(connection) = self.table.get_mut(conn) {
            connection.dirty = dirty;
        }
    }

    fn flush(&mut self, conn: ConnId) {
        let Some(connection) = self.table.get_mut(conn) else { return };
        connection.dirty = false;
        let (flushed, written) = connection.flush(&mut self.buffers.cipher);
        self.bytes_out += written as u64;
        let closing = matches!(connection.phase, Phase::Closing { .. });
        match flushed {
            Flushed::Empty => {
                if let Some(out) = connection.out.take() {
                    let (armed, congested) = (out.armed, out.congested);
                    self.pool.give(out);
                    if armed {
                        self.listen_for(conn, Interest::READABLE);
                    }
                    if congested {
                        self.input(Input::Congested(conn, false));
                    }
                }
                if closing {
                    self.finish(conn);
                }
            }
            Flushed::Gated => self.not_for_ever(conn),
            Flushed::Blocked => {
                self.blocked(conn, written);
                self.not_for_ever(conn);
            }
            Flushed::Broken => self.lose(conn),
        }
    }

    /// The peer takes no more for now.
    fn blocked(&mut self, conn: ConnId, written: usize) {
        let now = self.now;
        let (congested_from, max_waiting) =
            (self.common.limits.congested_from, self.common.limits.max_waiting);
        let Some(connection) = self.table.get_mut(conn) else { return };
        let Some(out) = connection.out.as_deref_mut() else { return };
        if written > 0 || out.stalled_since.is_none() {
            if out.stalled_since.is_none() {
                self.stalled.push(conn);
            }
            out.stalled_since = Some(now);
        }
        let arm = !std::mem::replace(&mut out.armed, true);
        let waiting = out.waiting();
        let told = match (out.congested, out.weight()) {
            (false, weight) if weight > congested_from => Some(true),
            (true, weight) if weight < congested_from / 2 => Some(false),
            _ => None,
        };
        if let Some(congested) = told {
            out.congested = congested;
        }
        if waiting > max_waiting {
            let (client, peer) = (&connection.who.client_id, connection.who.peer);
            tracing::warn!(%client, %peer, waiting, "the peer takes too little of what is sent to it; it is closed");
            return self.lose(conn);
        }
        let open = connection.phase == Phase::Open;
        if arm {
            self.listen_for(conn, Interest::READABLE | Interest::WRITABLE);
        }
        if let Some(congested) = told
            && open
        {
            self.input(Input::Congested(conn, congested));
        }
    }

    fn listen_for(&mut self, conn: ConnId, interest: Interest) {
        let Some(connection) = self.table.get_mut(conn) else { return };
        if let Line::Socket { socket, .. } = &mut connection.line
            && self.registry.reregister(socket, table::to_token(conn), interest).is_err()
        {
            self.lose(conn);
        }
    }

    /// A connection on its way out may not wait for its peer, or the journal, for ever.
    fn not_for_ever(&mut self, conn: ConnId) {
        if let Some(connection) = self.table.get_mut(conn)
            && connection.phase != Phase::Open
            && !std::mem::replace(&mut connection.leaving, true)
        {
            self.closing.push_back((self.now + FAREWELL_PATIENCE, conn));
        }
    }

    /// Closes peers that left everything untouched for too long.
    pub(super) fn close_stalled(&mut self, now: Instant) {
        let patience = self.common.limits.stall_patience;
        let mut stalled = std::mem::take(&mut self.stalled);
        stalled.retain(|conn| {
            let Some(connection) = self.table.get_mut(*conn) else { return false };
            let Some(since) = connection.out.as_ref().and_then(|out| out.stalled_since) else { return false };
            if now.saturating_duration_since(since) < patience {
                return true;
            }
            tracing::warn!(client = %connection.who.client_id, peer = %connection.who.peer, "the peer reads nothing; it is closed");
            self.lose(*conn);
            false
        });
        stalled.append(&mut self.stalled);
        self.stalled = stalled;
    }

    /// All is written to a connection that the rules closed.
    fn finish(&mut self, conn: ConnId) {
        let Some(connection) = self.table.get_mut(conn) else { return };
        connection.say_goodbye(&mut self.buffers.cipher);
        // A WebSocket's end is agreed on (RFC 6455 §7.1.1), so its answer is waited for too.
        let web = connection.edge.as_ref().is_some_and(|edge| edge.web.is_some());
        let words = connection.phase == Phase::Closing { words: true } || web;
        connection.phase = Phase::Lingering;
        self.input(Input::Gone(conn));
        if words {
            self.lingering.push_back((self.now + LINGER, conn));
        } else {
            self.table.remove(conn);
        }
    }

    /// Lets go those whose time to leave is over, and local ones that nobody listens to.
    pub(super) fn see_off(&mut self) {
        let now = self.now;
        while let Some((due, conn)) = self.closing.front().copied()
            && due <= now
        {
            self.closing.pop_front();
            self.lose(conn);
        }
        while let Some((due, conn)) = self.lingering.front().copied()
            && due <= now
        {
            self.lingering.pop_front();
            self.table.remove(conn);
        }
        for conn in std::mem::take(&mut self.deserted) {
            self.lose(conn);
        }
    }

    /// The connection is gone, by whatever way: the rules are told, unless they were, and the socket is dropped.
    pub(super) fn lose(&mut self, conn: ConnId) {
        let Some(connection) = self.table.get_mut(conn) else { return };
        if std::mem::replace(&mut connection.phase, Phase::Lingering) != Phase::Lingering {
            self.input(Input::Gone(conn));
        }
        if let Some(Connection { out: Some(mut out), .. }) = self.table.remove(conn) {
            out.forget();
            self.pool.give(out);
        }
    }
}
