//! WebSocket frames, the server's side (RFC 6455 §5 to §7): bytes in, payload and answers out. No socket in here.
//!
//! MQTT takes binary messages alone and pays no heed to where they begin and end [MQTT-6.0.0-1] [MQTT-6.0.0-2], so
//! payload is handed on as it comes: no frame is ever gathered, and a frame that claims 2^63 bytes costs nothing. What
//! is kept between two reads is at most a frame's head and a control frame's 125 bytes. The handshake is in `upgrade`.

use thiserror::Error;

/// Most bytes of a control frame's payload (§5.5).
const MAX_CONTROL: usize = 125;

/// Most bytes of a frame's head: two, eight of length, four of mask.
const MAX_HEAD: usize = 14;

/// The server's end of a WebSocket.
#[derive(Debug, Default)]
pub(crate) struct WebSocket {
    /// The head of a frame that has not come whole.
    head: [u8; MAX_HEAD],
    head_length: u8,
    /// The frame whose payload comes now.
    frame: Option<Frame>,
    /// Whether a message in fragments has begun and not ended.
    in_fragments: bool,
    /// Payload of a control frame that has not come whole.
    control: Vec<u8>,
    /// Whether our Close was said: after it nothing may be (§5.5.1).
    said_close: bool,
}

/// A frame under way.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: u8,
    /// Payload bytes that have not come.
    left: u64,
    /// The mask for the next four bytes.
    mask: [u8; 4],
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// How far [`WebSocket::read`] came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// More may come.
    Open,
    /// The peer said Close, and was answered: nothing more will come.
    Closed,
}

/// What a peer did wrong, with the status that our Close tells it (§7.4.1).
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("WebSocket: {what}")]
pub(crate) struct FrameError {
    what: &'static str,
    status: u16,
}

/// 1002, protocol error.
const fn against_protocol(what: &'static str) -> FrameError {
    FrameError { what, status: 1002 }
}

/// 1000: all is done.
pub(crate) const NORMAL: u16 = 1000;

impl WebSocket {
    /// Works through all of `input`. Payload is appended to `plain`, frames to be sent (Pong, Close) to `reply`.
    ///
    /// # Errors
    /// Where the peer breaks the protocol or sends text; our Close that says so is in `reply`.
    pub(crate) fn read(
        &mut self,
        input: &[u8],
        plain: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<Step, FrameError> {
        let step = self.read_frames(input, plain, reply);
        if let Err(error) = &step {
            self.say_close(error.status, reply);
        }
        step
    }

    fn read_frames(
        &mut self,
        mut input: &[u8],
        plain: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<Step, FrameError> {
        while let Some(mut frame) = self.next_frame(&mut input)? {
            let available = u64::try_from(input.len()).unwrap_or(u64::MAX).min(frame.left);
            let (payload, behind) = input.split_at(available as usize);
            input = behind;
            let is_control = frame.opcode >= CLOSE;
            let target = if is_control { &mut self.control } else { &mut *plain };
            let start = target.len();
            target.extend_from_slice(payload);
            unmask(&mut target[start..], frame.mask);
            frame.mask.rotate_left(payload.len() % 4);
            frame.left -= available;
            if frame.left > 0 {
                self.frame = Some(frame);
                return Ok(Step::Open);
            }
            if is_control && self.control_frame(frame.opcode, reply)? == Step::Closed {
                return Ok(Step::Closed);
            }
        }
        Ok(Step::Open)
    }

    /// The frame under way, or the next one, if its head has come whole.
    fn next_frame(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        if let Some(frame) = self.frame.take() {
            return Ok(Some(frame));
        }
        loop {
            let have = usize::from(self.head_length);
            let needed = head_length(&self.head[..have]);
            if have == needed {
                self.head_length = 0;
                return self.begin(needed).map(Some);
            }
            let Some((byte, rest)) = input.split_first() else { return Ok(None) };
            self.head[have] = *byte;
            self.head_length += 1;
            *input = rest;
            if have < 2 {
                // What is wrong is said at once, not only when a head has come that may never do.
                check_head(&self.head[..=have], self.in_fragments)?;
            }
        }
    }

    fn begin(&mut self, length: usize) -> Result<Frame, FrameError> {
        let head = &self.head[..length];
        let opcode = head[0] & 0x0F;
        let left = match head[1] & 0x7F {
            126 => u64::from(u16::from_be_bytes([head[2], head[3]])),
            127 => head[2..10].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            short => u64::from(short),
        };
        let is_minimal = match head[1] & 0x7F {
            126 => left > 125,
            127 => left > 0xFFFF && left >> 63 == 0,
            _ => true,
        };
        if !is_minimal {
            return Err(against_protocol("a length is not written as it has to be (§5.2)"));
        }
        if opcode < CLOSE {
            self.in_fragments = head[0] & 0x80 == 0;
        }
        let mut mask = [0; 4];
        mask.copy_from_slice(&head[length - 4..]);
        Ok(Frame { opcode, left, mask })
    }

    /// A control frame has come whole.
    fn control_frame(&mut self, opcode: u8, reply: &mut Vec<u8>) -> Result<Step, FrameError> {
        let payload = std::mem::take(&mut self.control);
        match opcode {
            PING if !self.said_close => {
                frame_head(PONG, payload.len(), reply);
                reply.extend_from_slice(&payload);
            }
            CLOSE => {
                let status = close_status(&payload)?;
                self.say_close(status, reply);
                return Ok(Step::Closed);
            }
            _ => {}
        }
        Ok(Step::Open)
    }

    /// Appends a Close frame, once.
    pub(crate) fn say_close(&mut self, status: u16, reply: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.said_close, true) {
            frame_head(CLOSE, 2, reply);
            reply.extend(status.to_be_bytes());
        }
    }
}

/// Appends the head of a binary frame of this many bytes, whole and unmasked (§5.1).
pub(crate) fn binary_head(length: usize, out: &mut Vec<u8>) {
    frame_head(BINARY, length, out);
}

fn frame_head(opcode: u8, length: usize, out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    if length < 126 {
        out.push(length as u8);
    } else if let Ok(length) = u16::try_from(length) {
        out.push(126);
        out.extend(length.to_be_bytes());
    } else {
        out.push(127);
        out.extend((length as u64).to_be_bytes());
    }
}

/// How long a head is, by as much of it as is there.
fn head_length(head: &[u8]) -> usize {
    match head.get(1).map(|second| second & 0x7F) {
        None => 2,
        Some(126) => 2 + 2 + 4,
        Some(127) => 2 + 8 + 4,
        Some(_) => 2 + 4,
    }
}

/// §5.2, §5.4, §5.5, as far as the first byte or both are there.
fn check_head(head: &[u8], in_fragments: bool) -> Result<(), FrameError> {
    let opcode = head[0] & 0x0F;
    let is_last = head[0] & 0x80 != 0;
    if head[0] & 0x70 != 0 {
        return Err(against_protocol("reserved bits are set (§5.2)"));
    }
    match opcode {
        TEXT => {
            return Err(FrameError {
                what: "text, where only binary data may be [MQTT-6.0.0-1]",
                status: 1003,
            });
        }
        CONTINUATION if !in_fragments => return Err(against_protocol("a fragment of no message (§5.4)")),
        BINARY if in_fragments => return Err(against_protocol("a message within another (§5.4)")),
        CONTINUATION | BINARY => {}
        CLOSE | PING | PONG if is_last => {}
        CLOSE | PING | PONG => return Err(against_protocol("a control frame in fragments (§5.5)")),
        _ => return Err(against_protocol("an unknown kind of frame (§5.2)")),
    }
    let Some(second) = head.get(1) else { return Ok(()) };
    if second & 0x80 == 0 {
        return Err(against_protocol("a client's frame without a mask (§5.1)"));
    }
    if opcode >= CLOSE && usize::from(second & 0x7F) > MAX_CONTROL {
        return Err(against_protocol("a control frame that is too long (§5.5)"));
    }
    Ok(())
}

/// The status to answer a Close with: the peer's own (§5.5.1).
fn close_status(payload: &[u8]) -> Result<u16, FrameError> {
    let Some((status, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(NORMAL)
        } else {
            Err(against_protocol("half a status (§5.5.1)"))
        };
    };
    let status = u16::from_be_bytes(*status);
    if !matches!(status, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(against_protocol("a status that may not be sent (§7.4)"));
    }
    match std::str::from_utf8(reason) {
        Ok(_) => Ok(status),
        Err(_) => Err(FrameError { what: "a reason that is no text (§8.1)", status: 1007 }),
    }
}

/// §5.3. Eight bytes at a time, since this is all the work there is.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame as a client sends it.
    fn client_frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame_head(0, payload.len(), &mut bytes);
        bytes[0] = first;
        bytes[1] |= 0x80;
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    fn read_all(pieces: &[&[u8]]) -> (Vec<u8>, Vec<u8>, Result<Step, FrameError>) {
        let mut web = WebSocket::default();
        let (mut plain, mut reply) = (Vec::new(), Vec::new());
        let mut step = Ok(Step::Open);
        for piece in pieces {
            step = web.read(piece, &mut plain, &mut reply);
            if step != Ok(Step::Open) {
                break;
            }
        }
        (plain, reply, step)
    }

    /// RFC 6455 §5.7.
    #[test]
    fn the_examples_of_the_rfc_are_read_and_written() {
        let masked_hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        let mut binary = masked_hello;
        binary[0] = 0x82;
        assert_eq!(read_all(&[&binary]), (b"Hello".to_vec(), vec![], Ok(Step::Open)));
        let (_, reply, step) = read_all(&[&masked_hello]);
        assert_eq!((reply, step.unwrap_err().status), (vec![0x88, 2, 0x03, 0xEB], 1003));
        let mut ping = masked_hello;
        ping[0] = 0x89;
        assert_eq!(read_all(&[&ping]).1, [0x8A, 0x05, 0x48, 0x65, 0x6C, 0x6C, 0x6F]);
        for (length, head) in [
            (256, &[0x82, 0x7E, 1, 0][..]),
            (65_536, &[0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]),
            (125, &[0x82, 125]),
        ] {
            let mut bytes = Vec::new();
            binary_head(length, &mut bytes);
            assert_eq!(bytes, head);
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_told_by_its_status() {
        let frame = |first, payload: &[u8]| client_frame(first, payload, [1, 2, 3, 4]);
        let unmasked = [0x82, 1, 0];
        let fragment_in_fragment = [frame(0x02, b"a"), frame(0x82, b"b")].concat();
        let not_minimal = [0x82, 0xFE, 0, 5, 0, 0, 0, 0];
        let endless = [0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
        let table: [(&str, Vec<u8>, u16); 13] = [
            ("no mask", unmasked.to_vec(), 1002),
            ("reserved bit", frame(0xC2, b""), 1002),
            ("text", frame(0x81, b"a"), 1003),
            ("text in fragments", frame(0x01, b"a"), 1003),
            ("unknown data", frame(0x83, b""), 1002),
            ("unknown control", frame(0x8B, b""), 1002),
            ("fragment of nothing", frame(0x80, b""), 1002),
            ("message in message", fragment_in_fragment, 1002),
            ("control in fragments", frame(0x09, b""), 1002),
            ("long ping", frame(0x89, &[0; 126]), 1002),
            ("length in too many bytes", not_minimal.to_vec(), 1002),
            ("length of 2^63", endless.to_vec(), 1002),
            ("close with half a status", frame(0x88, b"\x03"), 1002),
        ];
        for (what, bytes, status) in table {
            let (_, reply, step) = read_all(&[&bytes]);
            assert_eq!(step.unwrap_err().status, status, "{what}");
            assert_eq!(reply[reply.len() - 4..], [&[0x88, 2][..], &status.to_be_bytes()].concat(), "{what}");
        }
    }

    #[test]
    fn a_close_is_answered_with_its_own_status_and_nothing_behind_it_is_read() {
        for (payload, status) in
            [(&b""[..], 1000_u16), (b"\x03\xE8", 1000), (b"\x03\xE9bye", 1001), (b"\x0F\xA0", 4000)]
        {
            let bytes = [client_frame(0x88, payload, [9; 4]), client_frame(0x82, b"late", [0; 4])].concat();
            let (plain, reply, step) = read_all(&[&bytes]);
            assert_eq!((plain, step), (vec![], Ok(Step::Closed)));
            assert_eq!(reply, [&[0x88, 2][..], &status.to_be_bytes()].concat());
        }
        for (payload, status) in [(&b"\x03\xED"[..], 1002), (b"\0\0", 1002), (b"\x03\xE8\xFF", 1007)] {
            assert_eq!(read_all(&[&client_frame(0x88, payload, [0; 4])]).2.unwrap_err().status, status);
        }
    }

    #[test]
    fn our_close_is_said_once_and_no_ping_is_answered_behind_it() {
        let mut web = WebSocket::default();
        let (mut plain, mut reply) = (Vec::new(), Vec::new());
        web.say_close(NORMAL, &mut reply);
        web.say_close(1001, &mut reply);
        let bytes = [client_frame(0x89, b"?", [0; 4]), client_frame(0x88, b"", [0; 4])].concat();
        assert_eq!(web.read(&bytes, &mut plain, &mut reply), Ok(Step::Closed));
        assert_eq!(reply, [0x88, 2, 0x03, 0xE8]);
    }

    /// A message in frames, with control frames between.
    fn message() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, Vec<u8>)> {
        let part = (prop::collection::vec(any::<u8>(), 0..300), any::<[u8; 4]>(), any::<Option<u8>>());
        prop::collection::vec(part, 1..6).prop_map(|parts| {
            let (mut bytes, mut payload, mut pongs) = (Vec::new(), Vec::new(), Vec::new());
            let last = parts.len() - 1;
            for (place, (part, mask, control)) in parts.into_iter().enumerate() {
                let opcode = if place == 0 { BINARY } else { CONTINUATION };
                let fin = if place == last { 0x80 } else { 0 };
                bytes.extend(client_frame(fin | opcode, &part, mask));
                payload.extend(part);
                if let Some(control) = control {
                    let is_ping = control % 2 == 0;
                    let text = vec![control; usize::from(control) % 126];
                    bytes.extend(client_frame(if is_ping { 0x89 } else { 0x8A }, &text, mask));
                    if is_ping {
                        frame_head(PONG, text.len(), &mut pongs);
                        pongs.extend(text);
                    }
                }
            }
            (bytes, payload, pongs)
        })
    }

    proptest! {
        #[test]
        fn payload_and_pongs_are_the_same_wherever_the_bytes_are_cut(
            messages in prop::collection::vec(message(), 1..4),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let bytes: Vec<u8> = messages.iter().flat_map(|it| it.0.clone()).collect();
            let payload: Vec<u8> = messages.iter().flat_map(|it| it.1.clone()).collect();
            let pongs: Vec<u8> = messages.iter().flat_map(|it| it.2.clone()).collect();
            let mut places: Vec<usize> = cuts.iter().map(|it| it.index(bytes.len() + 1)).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let pieces: Vec<&[u8]> = places.windows(2).map(|it| &bytes[it[0]..it[1]]).collect();
            prop_assert_eq!(read_all(&pieces), (payload, pongs, Ok(Step::Open)));
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(read_all(&single), read_all(&[&bytes]));
        }

        #[test]
        fn any_bytes_give_no_more_than_they_are_and_a_close_after_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..500),
        ) {
            let (plain, reply, step) = read_all(&[&bytes]);
            prop_assert!(plain.len() <= bytes.len());
            prop_assert!(reply.len() <= bytes.len() + 4);
            if step != Ok(Step::Open) {
                prop_assert!(reply.len() >= 4 && reply[reply.len() - 4] == 0x88);
            }
        }
    }
}
