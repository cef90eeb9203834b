//! One connection's state on its shard thread: socket, TLS, unfinished frame, what waits for the peer.
//!
//! Reads and writes bytes; knows neither rules nor packets (see `shard_thread`). Nothing of an idle connection points to
//! a buffer. Frames of WebSocket are in `web`.

mod web;

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use mio::net::TcpStream;
use quoll_broker::Message;
use quoll_broker::vocabulary::ShardId;
use quoll_mqtt::ProtocolVersion;
use tokio::sync::mpsc;

use crate::authentication::LiveMethod;
use crate::events::ConnectionInfo;
use crate::limits::{READ_BUFFER, READS_PER_TURN, SEAL_CHUNK};
use crate::listener::Seat;
use crate::out::{Out, SLICES};
use crate::terms::Terms;
use crate::tls::record::{Scratch, Step, Tls};
use crate::websocket::WebSocket;

/// A connection.
pub(crate) struct Connection {
    pub(crate) line: Line,
    /// What only some connections have between socket and rules.
    pub(crate) edge: Option<Box<Edge>>,
    /// The beginning of a frame whose end has not come yet; exact.
    pub(crate) partial: Vec<u8>,
    pub(crate) out: Option<Box<Out>>,
    pub(crate) who: Box<Who>,
    pub(crate) version: ProtocolVersion,
    pub(crate) phase: Phase,
    /// Whether it stands in the turn's list of those to write to.
    pub(crate) dirty: bool,
    /// Whether it is shown to those who watch: the rules said that it is connected, and not yet that it is gone.
    pub(crate) announced: bool,
    /// Whether it stands in the list of those that may not take for ever to leave.
    pub(crate) leaving: bool,
    /// Whether whole frames lie in `partial`, for which it had no time in its turn.
    pub(crate) has_frames: bool,
    /// Whether it stands in the list of those that are read in the next turn too, and whether its end was flagged.
    pub(crate) in_line: Option<bool>,
}

/// Whose connection it is. Kept small: there may be a hundred thousand of them.
pub(crate) struct Who {
    pub(crate) client_id: Arc<str>,
    pub(crate) identity: Arc<str>,
    pub(crate) credential: Option<Box<[u8; 32]>>,
    pub(crate) peer: SocketAddr,
    /// Its place among those that its listener allows; a local one has none.
    pub(crate) seat: Option<Seat>,
    /// Seconds since the Unix epoch.
    pub(crate) since: u64,
}

impl Who {
    pub(crate) fn listener(&self) -> Arc<str> {
        self.seat.as_ref().map_or_else(|| "".into(), |seat| Arc::clone(seat.listener().name()))
    }

    /// The same for those who watch.
    pub(crate) fn info(&self, version: ProtocolVersion, shard: ShardId) -> ConnectionInfo {
        ConnectionInfo {
            client_id: Arc::clone(&self.client_id),
            identity: Arc::clone(&self.identity),
            credential: self.credential.as_deref().copied(),
            peer: self.peer,
            listener: self.listener(),
            since: UNIX_EPOCH + Duration::from_secs(self.since),
            version,
            shard: shard.0,
        }
    }
}

/// What stands between some sockets and the rules; most connections have none of it.
pub(crate) struct Edge {
    /// MQTT is in frames of WebSocket.
    pub(crate) web: Option<WebSocket>,
    /// Its listener's terms, where packets have to be looked at for them.
    pub(crate) terms: Option<Arc<Terms>>,
    /// The method that it may authenticate by again.
    pub(crate) method: Option<LiveMethod>,
}

/// What a connection leads to.
pub(crate) enum Line {
    /// A peer.
    Socket { socket: TcpStream, tls: Option<Box<Tls>> },
    /// Somebody in this process.
    Local(mpsc::Sender<Arc<Message>>),
}

/// Where in its life a connection is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// Packets flow.
    Open,
    /// The rules closed it; what waits is still written. `words`: it ends with last words to the peer.
    Closing { words: bool },
    /// All is written and said; only the peer's remaining bytes are read, and dropped.
    Lingering,
}

/// Buffers that all connections of a thread use in turn.
pub(crate) struct Buffers {
    /// Bytes from a socket.
    pub(crate) read: Vec<u8>,
    /// Plaintext, where TLS is between.
    pub(crate) plain: Vec<u8>,
    /// Ciphertext on its way out.
    pub(crate) cipher: Scratch,
}

/// Plaintext that came, on loan: see [`Connection::receive`].
pub(crate) struct Received {
    bytes: Vec<u8>,
    filled: usize,
    lender: Lender,
    /// Bytes taken from the socket.
    pub(crate) taken: usize,
    /// Whether the buffer was filled, so that there may be more.
    pub(crate) full: bool,
    /// Whether this is the last that comes.
    pub(crate) last: bool,
    /// Whether it is the last because of what the peer said, so that our answer is to be written before we leave.
    pub(crate) answered: bool,
}

/// Whose buffer it is.
#[derive(Clone, Copy)]
enum Lender {
    Read,
    Plain,
    Partial,
}

impl Received {
    /// The bytes, an unfinished frame of before in front.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

/// How a write went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Flushed {
    /// Nothing is left.
    Empty,
    /// The rest waits for the journal.
    Gated,
    /// The socket takes no more for now.
    Blocked,
    /// The connection is broken.
    Broken,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Self { read: vec![0; READ_BUFFER], plain: Vec::new(), cipher: Scratch::default() }
    }
}

impl Connection {
    /// Reads the socket once and opens what came. The bytes are lent to the caller, who works through them and gives them
    /// back with [`Connection::give_back`], whether this connection still lives or not.
    ///
    /// # Errors
    /// `WouldBlock` where nothing is there, anything else where the connection is broken.
    pub(crate) fn receive(&mut self, buffers: &mut Buffers) -> io::Result<Received> {
        if self.edge.as_ref().is_some_and(|edge| edge.web.is_some()) {
            return self.receive_frames(buffers);
        }
        let Line::Socket { socket, tls, .. } = &mut self.line else {
            return Err(ErrorKind::WouldBlock.into());
        };
        let small = self.partial.len() < buffers.read.len() / 4;
        // In front stands what was left over: of a record with TLS, of a small frame without.
        let ahead = match tls {
            Some(tls) => tls.leftover().len(),
            None if small => self.partial.len(),
            None => 0,
        };
        let taken = loop {
            match socket.read(&mut buffers.read[ahead..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        let filled = ahead + taken;
        let full = filled == buffers.read.len();
        let last = taken == 0;
        match tls {
            Some(tls) => {
                buffers.read[..ahead].copy_from_slice(&tls.take_leftover());
                let last = !self.open_records(filled, buffers, small) || last;
                let (bytes, lender) = if small {
                    (std::mem::take(&mut buffers.plain), Lender::Plain)
                } else {
                    self.partial.append(&mut buffers.plain);
                    (std::mem::take(&mut self.partial), Lender::Partial)
                };
                Ok(Received { filled: bytes.len(), bytes, lender, taken, full, last, answered: false })
            }
            None if small => {
                buffers.read[..ahead].copy_from_slice(&std::mem::take(&mut self.partial));
                let bytes = std::mem::take(&mut buffers.read);
                Ok(Received { bytes, filled, lender: Lender::Read, taken, full, last, answered: false })
            }
            // A large frame gathers where it lies; the vector's doubling keeps the copying linear.
            None => {
                self.partial.extend_from_slice(&buffers.read[..filled]);
                let bytes = std::mem::take(&mut self.partial);
                Ok(Received {
                    filled: bytes.len(),
                    bytes,
                    lender: Lender::Partial,
                    taken,
                    full,
                    last,
                    answered: false,
                })
            }
        }
    }

    /// Opens the records at the front of the read buffer into `buffers.plain`, behind a small unfinished frame. `false`
    /// where nothing more will come.
    fn open_records(&mut self, filled: usize, buffers: &mut Buffers, small: bool) -> bool {
        let Line::Socket { tls: Some(tls), .. } = &mut self.line else { return false };
        let Buffers { read, plain, cipher } = buffers;
        plain.clear();
        if small {
            plain.append(&mut self.partial);
        }
        cipher.clear();
        let step = tls.read(&mut read[..filled], plain, cipher);
        if !cipher.filled().is_empty() {
            self.out.get_or_insert_default().cipher.extend_from_slice(cipher.filled());
        }
        if let Err(error) = &step {
            tracing::info!(client = %self.who.client_id, peer = %self.who.peer, %error, "TLS error");
        }
        matches!(step, Ok(Step::Open))
    }

    /// Keeps what was not used of received bytes, exactly, and gives the buffer back to its owner. `used: None` where the
    /// connection is not read any more.
    pub(crate) fn give_back(
        connection: Option<&mut Self>,
        received: Received,
        used: Option<usize>,
        buffers: &mut Buffers,
    ) {
        let Received { bytes, filled, lender, .. } = received;
        let unused = used.map_or(filled..filled, |used| used..filled);
        if let Some(connection) = connection
            && !unused.is_empty()
        {
            if matches!(lender, Lender::Partial) && unused.start == 0 {
                connection.partial = bytes;
                return;
            }
            connection.partial = bytes[unused].to_vec();
        }
        match lender {
            Lender::Read => buffers.read = bytes,
            Lender::Plain if bytes.capacity() <= 4 * READ_BUFFER => buffers.plain = bytes,
            Lender::Plain | Lender::Partial => {}
        }
    }

    /// Writes what may be written. Answers also how many bytes the socket took.
    pub(crate) fn flush(&mut self, cipher: &mut Scratch) -> (Flushed, usize) {
        if let Some(edge) = self.edge.as_deref()
            && edge.web.is_some()
        {
            return self.flush_frames(cipher);
        }
        let Line::Socket { socket, tls, .. } = &mut self.line else { return (Flushed::Empty, 0) };
        let Some(out) = self.out.as_deref_mut() else { return (Flushed::Empty, 0) };
        match tls {
            None => flush_plain(socket, out),
            Some(tls) => flush_sealed(socket, tls, out, cipher),
        }
    }

    /// Says close_notify where there is TLS, and that nothing more will come.
    pub(crate) fn say_goodbye(&mut self, cipher: &mut Scratch) {
        self.say_close(cipher);
        let Line::Socket { socket, tls, .. } = &mut self.line else { return };
        if let Some(tls) = tls {
            cipher.clear();
            if tls.say_goodbye(cipher).is_ok() {
                // Thirty bytes behind an empty buffer; a socket that refuses them is not worth waiting for.
                let _ = socket.write(cipher.filled());
            }
        }
        let _ = socket.shutdown(Shutdown::Write);
    }

    /// Reads and drops what the peer still sends. `true` once it has closed its side.
    pub(crate) fn read_to_end(&mut self, buffers: &mut Buffers) -> bool {
        let Line::Socket { socket, .. } = &mut self.line else { return true };
        for _ in 0..READS_PER_TURN {
            match socket.read(&mut buffers.read) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() != ErrorKind::WouldBlock,
            }
        }
        false
    }
}

fn flush_plain(socket: &mut TcpStream, out: &mut Out) -> (Flushed, usize) {
    let mut total = 0;
    // Alerts and the like never get here without TLS, so `cipher` is empty.
    loop {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = out.gather(&mut slices);
        if count == 0 {
            return (if out.is_gated() { Flushed::Gated } else { Flushed::Empty }, total);
        }
        let offered: usize = slices[..count].iter().map(|slice| slice.len()).sum();
        let result =
            if count == 1 { socket.write(&slices[0]) } else { socket.write_vectored(&slices[..count]) };
        match result {
            Ok(written) => {
                out.consume(written);
                total += written;
                if written < offered {
                    return (Flushed::Blocked, total);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return (Flushed::Blocked, total),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return (Flushed::Broken, total),
        }
    }
}

fn flush_sealed(
    socket: &mut TcpStream,
    tls: &mut Tls,
    out: &mut Out,
    cipher: &mut Scratch,
) -> (Flushed, usize) {
    let mut total = 0;
    loop {
        if out.cipher_done < out.cipher.len() {
            match socket.write(&out.cipher[out.cipher_done..]) {
                Ok(written) => {
                    total += written;
                    out.cipher_done += written;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return (Flushed::Blocked, total),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return (Flushed::Broken, total),
            }
            continue;
        }
        out.cipher = Vec::new();
        out.cipher_done = 0;
        cipher.clear();
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = out.gather(&mut slices);
        if count == 0 {
            return (if out.is_gated() { Flushed::Gated } else { Flushed::Empty }, total);
        }
        let mut sealed = 0;
        for slice in &slices[..count] {
            let part = &slice[..slice.len().min(SEAL_CHUNK - sealed)];
            if tls.seal(part, cipher).is_err() {
                return (Flushed::Broken, total);
            }
            sealed += part.len();
            if sealed == SEAL_CHUNK {
                break;
            }
        }
        out.consume(sealed);
        match socket.write(cipher.filled()) {
            Ok(written) => {
                total += written;
                if written < cipher.filled().len() {
                    out.cipher = cipher.filled()[written..].to_vec();
                    return (Flushed::Blocked, total);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                out.cipher = cipher.filled().to_vec();
                if error.kind() == ErrorKind::WouldBlock {
                    return (Flushed::Blocked, total);
                }
            }
            Err(_) => return (Flushed::Broken, total),
        }
    }
}
