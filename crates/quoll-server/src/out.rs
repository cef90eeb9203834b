//! What waits for one peer, and the pool that the buffers come from and go back to.
//!
//! An idle connection has none of this. Small frames are copied into one buffer; large payloads are pointed to and
//! stand in line at a place of that buffer. A gate is a place beyond which nothing may be written until the journal has
//! made something durable.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Instant;

use bytes::{Buf, Bytes};

use crate::journal::Sequence;
use crate::limits::{POOLED_BUFFERS, POOLED_CAPACITY, SHARED_FOR_ONE};

/// Written bytes at the front from which on the buffer is moved up.
const MOVE_UP_FROM: usize = 256 * 1024;

/// Slices offered to one writev.
pub(crate) const SLICES: usize = 32;

/// What waits for one peer.
#[derive(Debug, Default)]
pub(crate) struct Out {
    bytes: Vec<u8>,
    /// How many of `bytes` are written.
    done: usize,
    /// Payloads that stand before the byte of `bytes` at this place.
    shared: VecDeque<(usize, Bytes)>,
    /// Bytes left in `shared`.
    shared_bytes: usize,
    /// How many were ever put into `shared`, and how many left it.
    shared_in: u64,
    shared_out: u64,
    gates: VecDeque<Gate>,
    /// Packets put in line since it was last empty.
    packets: u64,
    /// Sealed bytes that the socket refused: never sealed twice.
    pub(crate) cipher: Vec<u8>,
    /// How many of `cipher` are written.
    pub(crate) cipher_done: usize,
    /// Since when the peer takes nothing.
    pub(crate) stalled_since: Option<Instant>,
    /// Whether the rules were told that it is slow.
    pub(crate) congested: bool,
    /// Whether epoll is asked for writability.
    pub(crate) armed: bool,
}

/// Nothing from here on may be written before this is durable.
#[derive(Debug)]
struct Gate {
    place: usize,
    shared: u64,
    /// Whether what stands behind it may go though it never will be.
    waivable: bool,
    /// Known at the end of the turn.
    sequence: Option<Sequence>,
}

impl Out {
    /// The buffer to encode into.
    pub(crate) const fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Puts a payload in line without copying it.
    pub(crate) fn share(&mut self, payload: Bytes) {
        if !payload.is_empty() {
            self.shared_bytes += payload.len();
            self.shared_in += 1;
            self.shared.push_back((self.bytes.len(), payload));
        }
    }

    /// Bytes waiting, sealed ones included.
    pub(crate) fn waiting(&self) -> usize {
        self.bytes.len() - self.done + self.shared_bytes + self.cipher.len() - self.cipher_done
    }

    /// What waiting costs: its own bytes, and a part of those that it shares ([`SHARED_FOR_ONE`]).
    pub(crate) fn weight(&self) -> usize {
        self.waiting() - self.shared_bytes + self.shared_bytes / SHARED_FOR_ONE
    }

    /// A packet is put in line.
    pub(crate) const fn count(&mut self) {
        self.packets += 1;
    }

    /// Packets and bytes waiting. Packets are forgotten all at once, when the last byte of the last is written: while a
    /// slow peer is behind, those that it has got count too.
    pub(crate) fn queue(&self) -> (u64, u64) {
        let waiting = self.waiting() as u64;
        (if waiting == 0 { 0 } else { self.packets.max(1) }, waiting)
    }

    /// Holds back what is put in line from now on, until [`Out::settle`] and [`Out::release`] let it go; where it is
    /// `waivable`, [`Out::waive`] does too.
    pub(crate) fn gate(&mut self, waivable: bool) {
        let gate = Gate { place: self.bytes.len(), shared: self.shared_in, waivable, sequence: None };
        match self.gates.back() {
            Some(last) if last.sequence.is_none() && (waivable || !last.waivable) => {}
            _ => self.gates.push_back(gate),
        }
    }

    /// Names what this turn's gates wait for.
    pub(crate) fn settle(&mut self, sequence: Sequence) {
        for gate in self.gates.iter_mut().rev().take_while(|gate| gate.sequence.is_none()) {
            gate.sequence = Some(sequence);
        }
    }

    /// Opens the gates up to here.
    pub(crate) fn release(&mut self, durable: Sequence) {
        while self.gates.front().is_some_and(|gate| gate.sequence.is_some_and(|wanted| wanted <= durable)) {
            self.gates.pop_front();
        }
    }

    /// Opens the gates that may be opened though nothing will be durable. Answers whether none is left.
    pub(crate) fn waive(&mut self) -> bool {
        while self.gates.front().is_some_and(|gate| gate.waivable) {
            self.gates.pop_front();
        }
        self.gates.is_empty()
    }

    /// Drops what stands behind the first gate: it will never be true. Answers the first byte of it.
    pub(crate) fn cut(&mut self) -> Option<u8> {
        let gate = self.gates.front()?;
        let (place, shared) = (gate.place, gate.shared);
        let first = self.bytes.get(place).copied();
        self.bytes.truncate(place);
        let kept = (shared - self.shared_out) as usize;
        self.shared_bytes -= self.shared.drain(kept..).map(|(_, payload)| payload.len()).sum::<usize>();
        self.shared_in = shared;
        self.gates.clear();
        first
    }

    pub(crate) fn is_gated(&self) -> bool {
        !self.gates.is_empty()
    }

    /// What may be written now, in order. Answers how many slices were filled.
    pub(crate) fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let (limit, allowed) = match self.gates.front() {
            Some(gate) => (gate.place, (gate.shared - self.shared_out) as usize),
            None => (self.bytes.len(), usize::MAX),
        };
        let mut count = 0;
        let mut at = self.done;
        let mut put = |slice: &'a [u8]| {
            if !slice.is_empty() && count < SLICES {
                slices[count] = IoSlice::new(slice);
                count += 1;
            }
        };
        for (place, payload) in self.shared.iter().take(allowed.min(SLICES)) {
            put(&self.bytes[at..*place]);
            put(payload);
            at = *place;
        }
        // With more payloads in line than were looked at, the bytes behind them are not next.
        if self.shared.len().min(allowed) <= SLICES {
            put(&self.bytes[at..limit.max(at)]);
        }
        count
    }

    /// Counts these bytes of [`Out::gather`]'s slices as written.
    pub(crate) fn consume(&mut self, mut written: usize) {
        while written > 0 {
            match self.shared.front_mut() {
                Some((place, payload)) if *place == self.done => {
                    let taken = written.min(payload.len());
                    payload.advance(taken);
                    self.shared_bytes -= taken;
                    written -= taken;
                    if payload.is_empty() {
                        self.shared.pop_front();
                        self.shared_out += 1;
                    }
                }
                next => {
                    let end = next.map_or(self.bytes.len(), |(place, _)| *place);
                    let taken = written.min(end - self.done);
                    debug_assert!(taken > 0, "more was written than was there");
                    self.done += taken;
                    written -= taken;
                }
            }
        }
        if self.done == self.bytes.len() && self.shared.is_empty() && self.gates.is_empty() {
            self.bytes.clear();
            self.done = 0;
            self.packets = 0;
        } else if self.done >= MOVE_UP_FROM {
            self.bytes.drain(..self.done);
            self.shared.iter_mut().for_each(|(place, _)| *place -= self.done);
            self.gates.iter_mut().for_each(|gate| gate.place -= self.done);
            self.done = 0;
        }
    }

    /// Drops everything that was not written: nobody will read it.
    pub(crate) fn forget(&mut self) {
        *self = Self { armed: self.armed, ..Self::default() };
    }

    fn is_pristine(&self) -> bool {
        self.waiting() == 0 && self.gates.is_empty()
    }
}

/// Buffers of a shard thread that wait for their next use.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    // The box is what goes in and out of a connection: a pointer there.
    #[expect(clippy::vec_box, reason = "the boxes are handed out, not their contents")]
    free: Vec<Box<Out>>,
}

impl Pool {
    pub(crate) fn take(&mut self) -> Box<Out> {
        self.free.pop().unwrap_or_default()
    }

    /// Takes back an empty one; large ones are dropped.
    pub(crate) fn give(&mut self, mut out: Box<Out>) {
        if self.free.len() >= POOLED_BUFFERS || out.bytes.capacity() > POOLED_CAPACITY || !out.is_pristine() {
            return;
        }
        out.bytes.clear();
        out.done = 0;
        out.packets = 0;
        out.cipher = Vec::new();
        out.cipher_done = 0;
        out.stalled_since = None;
        out.congested = false;
        out.armed = false;
        self.free.push(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that may be written, `step` bytes at a time.
    fn drain(out: &mut Out, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = out.gather(&mut slices);
            let next: Vec<u8> = slices[..count].iter().flat_map(|s| s.iter().copied()).take(step).collect();
            if next.is_empty() {
                return all;
            }
            out.consume(next.len());
            all.extend(next);
        }
    }

    #[test]
    fn copied_and_shared_bytes_leave_in_the_order_they_came() {
        for step in [1, 2, 3, 7, 1000] {
            let mut out = Out::default();
            let mut expected = Vec::new();
            for n in 0..100u8 {
                out.bytes().extend([n, n]);
                expected.extend([n, n]);
                if n % 3 != 0 {
                    out.share(Bytes::from(vec![200 + n % 50; 5]));
                    expected.extend([200 + n % 50; 5]);
                }
                if n % 10 == 1 {
                    out.share(Bytes::from_static(b"second in a row"));
                    expected.extend(b"second in a row");
                }
            }
            assert_eq!(out.waiting(), expected.len());
            assert_eq!(drain(&mut out, step), expected, "{step} bytes at a time");
            assert!(out.is_pristine());
        }
    }

    #[test]
    fn nothing_passes_a_gate_before_its_sequence_is_durable() {
        let mut out = Out::default();
        out.bytes().extend(b"free ");
        out.gate(false);
        out.bytes().extend(b"one ");
        out.share(Bytes::from_static(b"shared one "));
        out.settle(Sequence(5));
        out.gate(false);
        out.share(Bytes::from_static(b"two"));
        out.settle(Sequence(6));
        assert_eq!(drain(&mut out, 2), b"free ");
        out.release(Sequence(4));
        assert_eq!(drain(&mut out, 2), b"");
        out.release(Sequence(5));
        assert_eq!(drain(&mut out, 2), b"one shared one ");
        assert!(out.is_gated());
        out.release(Sequence(6));
        assert_eq!(drain(&mut out, 2), b"two");
        assert!(out.is_pristine());
    }

    #[test]
    fn what_stands_behind_a_gate_can_be_taken_back_and_nothing_else() {
        let mut out = Out::default();
        out.bytes().extend(b"before ");
        out.share(Bytes::from_static(b"shared "));
        assert_eq!(drain(&mut out, 3), b"before shared ");
        out.bytes().extend(b"more ");
        out.share(Bytes::from_static(b"of it "));
        out.gate(false);
        out.bytes().extend(b"promise");
        out.share(Bytes::from_static(b"large promise"));
        out.settle(Sequence(5));
        out.gate(false);
        out.bytes().extend(b"another");
        assert_eq!(out.cut(), Some(b'p'));
        assert!(!out.is_gated());
        out.bytes().extend(b"goodbye");
        assert_eq!(out.waiting(), b"more of it goodbye".len());
        assert_eq!(drain(&mut out, 3), b"more of it goodbye");
        assert!(out.is_pristine());
        assert_eq!(out.cut(), None);
    }

    #[test]
    fn what_waits_for_a_will_alone_goes_where_the_disk_refuses_and_nothing_else_does() {
        let mut out = Out::default();
        out.gate(true);
        out.bytes().extend(b"welcome ");
        out.settle(Sequence(1));
        assert_eq!(drain(&mut out, 3), b"");
        assert!(out.waive());
        assert_eq!(drain(&mut out, 3), b"welcome ");
        out.gate(true);
        out.bytes().extend(b"welcome ");
        out.gate(false);
        out.bytes().extend(b"promise");
        out.settle(Sequence(2));
        assert!(!out.waive());
        assert_eq!(out.cut(), Some(b'p'));
        assert_eq!(drain(&mut out, 3), b"welcome ");
        assert!(out.is_pristine());
    }

    #[test]
    fn a_long_line_is_moved_up_without_losing_a_byte() {
        let mut out = Out::default();
        let chunk: Vec<u8> = (0..=255).collect();
        let mut expected = Vec::new();
        for _ in 0..4096 {
            out.bytes().extend(&chunk);
            out.share(Bytes::from_static(b"-"));
            expected.extend(&chunk);
            expected.push(b'-');
        }
        assert_eq!(drain(&mut out, 100_000), expected);
    }

    #[test]
    fn packets_count_until_the_line_is_empty() {
        let mut out = Out::default();
        assert_eq!(out.queue(), (0, 0));
        for _ in 0..2 {
            out.bytes().extend_from_slice(b"abc");
            out.count();
        }
        assert_eq!(out.queue(), (2, 6));
        out.consume(4);
        assert_eq!(out.queue(), (2, 2), "the first is gone, which nobody looks up");
        out.consume(2);
        assert_eq!(out.queue(), (0, 0));
        out.bytes().extend_from_slice(b"abc");
        out.count();
        assert_eq!(out.queue(), (1, 3));
    }

    #[test]
    fn the_pool_keeps_neither_large_nor_full_buffers() {
        let mut pool = Pool::default();
        let mut large = pool.take();
        large.bytes().reserve(POOLED_CAPACITY + 1);
        pool.give(large);
        let mut full = pool.take();
        full.bytes().push(1);
        pool.give(full);
        assert!(pool.free.is_empty());
        let out = pool.take();
        pool.give(out);
        assert_eq!(pool.free.len(), 1);
    }
}
