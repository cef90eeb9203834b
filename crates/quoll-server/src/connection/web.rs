//! Frames of WebSocket between a socket, or TLS, and MQTT. Not a hot path: an allocation for each read and write is fine.

use std::io::{self, ErrorKind, IoSlice, Read, Write};

use super::{Buffers, Connection, Flushed, Lender, Line, Received};
use crate::limits::{SEAL_CHUNK, UNREAD_PONGS};
use crate::log::WEBSOCKETS;
use crate::out::{Out, SLICES};
use crate::tls::record::{Scratch, Tls};
use crate::websocket::{NORMAL, Step, binary_head};

impl Connection {
    /// As [`Connection::receive`], out of frames.
    pub(super) fn receive_frames(&mut self, buffers: &mut Buffers) -> io::Result<Received> {
        let Line::Socket { socket, tls } = &mut self.line else {
            return Err(ErrorKind::WouldBlock.into());
        };
        let ahead = tls.as_ref().map_or(0, |tls| tls.leftover().len());
        let taken = loop {
            match socket.read(&mut buffers.read[ahead..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        let filled = ahead + taken;
        let full = filled == buffers.read.len();
        let mut last = taken == 0;
        let framed = match tls {
            Some(tls) => {
                buffers.read[..ahead].copy_from_slice(&tls.take_leftover());
                last |= !self.open_records(filled, buffers, false);
                &buffers.plain[..]
            }
            None => &buffers.read[..filled],
        };
        let Some(web) = self.edge.as_mut().and_then(|edge| edge.web.as_mut()) else {
            return Err(ErrorKind::WouldBlock.into());
        };
        let mut reply = Vec::new();
        let mut bytes = std::mem::take(&mut self.partial);
        let step = web.read(framed, &mut bytes, &mut reply);
        if let Err(error) = &step {
            tracing::debug!(target: WEBSOCKETS, client = %self.who.client_id, peer = %self.who.peer, %error);
        }
        let answered = step != Ok(Step::Open);
        let unread = self.out.as_ref().map_or(0, |out| out.cipher.len() - out.cipher_done);
        if !reply.is_empty() && (answered || unread < UNREAD_PONGS) {
            self.put_in_line(&reply, &mut buffers.cipher);
        }
        Ok(Received {
            filled: bytes.len(),
            bytes,
            lender: Lender::Partial,
            taken,
            full,
            last: last || answered,
            answered,
        })
    }

    /// Puts frames in line that are whole, before whatever is framed later; through TLS where it is.
    fn put_in_line(&mut self, frames: &[u8], cipher: &mut Scratch) {
        let Line::Socket { tls, .. } = &mut self.line else { return };
        let out = self.out.get_or_insert_default();
        match tls {
            None => out.cipher.extend_from_slice(frames),
            Some(tls) => {
                cipher.clear();
                if tls.seal(frames, cipher).is_ok() {
                    out.cipher.extend_from_slice(cipher.filled());
                }
            }
        }
    }

    /// As [`Connection::flush`], into frames: one for all that waits, since MQTT pays no heed to where they end
    /// [MQTT-6.0.0-2].
    pub(super) fn flush_frames(&mut self, cipher: &mut Scratch) -> (Flushed, usize) {
        let Line::Socket { socket, tls, .. } = &mut self.line else { return (Flushed::Empty, 0) };
        let Some(out) = self.out.as_deref_mut() else { return (Flushed::Empty, 0) };
        let mut total = 0;
        loop {
            while out.cipher_done < out.cipher.len() {
                match socket.write(&out.cipher[out.cipher_done..]) {
                    Ok(written) => {
                        total += written;
                        out.cipher_done += written;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return (Flushed::Blocked, total),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return (Flushed::Broken, total),
                }
            }
            out.cipher = Vec::new();
            out.cipher_done = 0;
            let Some(frame) = next_frame(out) else {
                return (if out.is_gated() { Flushed::Gated } else { Flushed::Empty }, total);
            };
            match wrap(frame, tls.as_deref_mut(), cipher) {
                Some(wrapped) => out.cipher = wrapped,
                None => return (Flushed::Broken, total),
            }
        }
    }

    /// Says Close where there are frames, unless it was said.
    pub(super) fn say_close(&mut self, cipher: &mut Scratch) {
        let Some(web) = self.edge.as_mut().and_then(|edge| edge.web.as_mut()) else { return };
        let mut close = Vec::new();
        web.say_close(NORMAL, &mut close);
        let Line::Socket { socket, tls, .. } = &mut self.line else { return };
        if let Some(bytes) = wrap(close, tls.as_deref_mut(), cipher) {
            // A few bytes behind an empty buffer; a socket that refuses them is not worth waiting for.
            let _ = socket.write(&bytes);
        }
    }
}

/// A frame of what may be written now, up to [`SEAL_CHUNK`].
fn next_frame(out: &mut Out) -> Option<Vec<u8>> {
    let mut slices = [IoSlice::new(&[]); SLICES];
    let count = out.gather(&mut slices);
    let length = slices[..count].iter().map(|slice| slice.len()).sum::<usize>().min(SEAL_CHUNK);
    if length == 0 {
        return None;
    }
    let mut frame = Vec::with_capacity(length + 10);
    binary_head(length, &mut frame);
    let end = frame.len() + length;
    for slice in &slices[..count] {
        frame.extend_from_slice(&slice[..slice.len().min(end - frame.len())]);
    }
    out.consume(length);
    Some(frame)
}

/// Seals where there is TLS; `None` where that fails.
fn wrap(frame: Vec<u8>, tls: Option<&mut Tls>, cipher: &mut Scratch) -> Option<Vec<u8>> {
    let Some(tls) = tls else { return Some(frame) };
    if frame.is_empty() {
        return Some(frame);
    }
    cipher.clear();
    tls.seal(&frame, cipher).ok()?;
    Some(cipher.filled().to_vec())
}
