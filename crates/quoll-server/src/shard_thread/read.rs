//! Reading: each ready socket once a turn, frames at once, and who has to come again in the next turn.

use std::time::Instant;

use quoll_broker::vocabulary::{ConnId, Input};
use quoll_mqtt::decode::Role;
use quoll_mqtt::packet::Packet;
use quoll_mqtt::{DecodeContext, Decoded, decode};

use super::{ShardThread, WAKE, table};
use crate::connection::{Connection, Phase};
use crate::limits;

impl ShardThread {
    /// A socket is ready.
    pub(super) fn ready(&mut self, event: &mio::event::Event) {
        if event.token() == WAKE {
            return;
        }
        let conn = table::from_token(event.token());
        if event.is_writable()
            && let Some(connection) = self.table.get_mut(conn)
            && connection.out.is_some()
        {
            self.mark_dirty(conn);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(conn, event.is_read_closed() || event.is_error());
        }
    }

    /// Goes on with those that were not read to the end; no edge will come for what already lies there.
    pub(super) fn read_on(&mut self, unread: Vec<ConnId>) {
        for conn in unread {
            if let Some(read_on) = self.table.get_mut(conn).and_then(|connection| connection.in_line.take()) {
                self.read(conn, read_on);
            }
        }
    }

    /// Puts a connection in line for the next turn, once. `read_on`: see [`ShardThread::read`].
    fn come_again(&mut self, conn: ConnId, read_on: bool) {
        let Some(connection) = self.table.get_mut(conn) else { return };
        match &mut connection.in_line {
            Some(known) => *known |= read_on,
            None => {
                connection.in_line = Some(read_on);
                self.unread.push(conn);
            }
        }
    }

    /// Reads a connection, up to [`limits::READS_PER_TURN`] full buffers, and handles its frames. `read_on`: the end was
    /// flagged beside data, so a short read does not mean that nothing is left.
    pub(super) fn read(&mut self, conn: ConnId, read_on: bool) {
        if self.throttled || self.hushed {
            return self.come_again(conn, read_on);
        }
        self.guarded(Some(conn), |thread| thread.read_now(conn, read_on));
        self.flush_brimming();
    }

    pub(super) fn read_now(&mut self, conn: ConnId, read_on: bool) {
        let mut reads = 0;
        loop {
            let Some(connection) = self.table.get_mut(conn) else { return };
            if connection.phase != Phase::Open {
                if connection.read_to_end(&mut self.buffers) {
                    self.lose(conn);
                }
                return;
            }
            if connection.has_frames {
                let bytes = std::mem::take(&mut connection.partial);
                let used = self.frames(conn, &bytes, true);
                self.keep_rest(conn, &bytes, used);
                if self.has_frames(conn) {
                    return self.come_again(conn, read_on);
                }
                continue;
            }
            let received = match connection.receive(&mut self.buffers) {
                Ok(received) => received,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => return self.lose(conn),
            };
            if connection.out.is_some() {
                self.mark_dirty(conn);
            }
            self.bytes_in += received.taken as u64;
            let (full, last, answered) = (received.full, received.last, received.answered);
            let used = self.frames(conn, received.bytes(), !last);
            Connection::give_back(self.table.get_mut(conn), received, used, &mut self.buffers);
            if last {
                return if answered { self.take_leave(conn) } else { self.lose(conn) };
            }
            if self.has_frames(conn) {
                return self.come_again(conn, read_on);
            }
            reads += 1;
            if !full && !read_on {
                return;
            }
            if reads >= limits::READS_PER_TURN {
                return self.come_again(conn, read_on);
            }
        }
    }

    /// Whether whole frames of it wait for the next turn.
    pub(super) fn has_frames(&mut self, conn: ConnId) -> bool {
        self.table.get_mut(conn).is_some_and(|connection| connection.has_frames)
    }

    /// Keeps what was not used of bytes that are no buffer's.
    pub(super) fn keep_rest(&mut self, conn: ConnId, bytes: &[u8], used: Option<usize>) {
        if let Some(connection) = self.table.get_mut(conn)
            && let Some(used) = used
            && used < bytes.len()
        {
            connection.partial = bytes[used..].to_vec();
        }
    }

    /// Handles the whole frames at the front of these bytes. Answers how many bytes they were, or `None` where the
    /// connection is not read any more. Where they take too long, and it `may_pause`, some are left.
    pub(super) fn frames(&mut self, conn: ConnId, bytes: &[u8], may_pause: bool) -> Option<usize> {
        let connection = self.table.get_mut(conn)?;
        let terms = connection.edge.as_ref().and_then(|edge| edge.terms.clone());
        let own = terms.as_ref().and_then(|terms| terms.max_packet_size).unwrap_or(u32::MAX);
        let context = DecodeContext {
            version: Some(connection.version),
            maximum_packet_size: self.max_packet_size.min(own),
            role: Role::Server,
        };
        connection.has_frames = false;
        let (mut used, mut handled) = (0, 0_u32);
        let mut since = None;
        while used < bytes.len() {
            handled += 1;
            if may_pause && handled.is_multiple_of(limits::FRAMES_PER_LOOK) {
                let since = *since.get_or_insert_with(Instant::now);
                if since.elapsed() > limits::SHARE_OF_TURN {
                    self.table.get_mut(conn)?.has_frames = true;
                    break;
                }
            }
            match decode(&bytes[used..], &context) {
                Ok(Decoded::Packet(packet, length)) => {
                    used += length;
                    if self.verbose || terms.is_some() {
                        self.packet_at_edge(conn, terms.as_deref(), packet);
                    } else {
                        self.packet(conn, packet);
                    }
                }
                Ok(Decoded::Incomplete(_)) => break,
                Err(error) => {
                    self.input(Input::Malformed(conn, error));
                    return None;
                }
            }
            if self.table.get_mut(conn)?.phase != Phase::Open {
                return None;
            }
        }
        Some(used)
    }

    /// Hands a packet on; AUTH is for who authenticates.
    pub(super) fn packet(&mut self, conn: ConnId, packet: Packet) {
        match packet {
            Packet::Auth(auth) => self.authenticate_again(conn, *auth),
            packet => self.input(Input::Packet(conn, packet)),
        }
    }
}
