//! A socket of a bridge, perhaps with TLS, that never waits in the middle of something: whoever owns it waits for it and for
//! others at once, then reads and writes what is possible. So two brokers that bridge to each other cannot both wait for the
//! other to read.

use std::io::{self, ErrorKind, Read, Write};

use rustls::ClientConnection;
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;

use crate::direct::Direct;

/// Bytes read at a time.
const READ: usize = 16 * 1024;

/// Reads of one socket before others have their turn.
const READS: usize = 8;

/// Buffers above this size are not kept.
const KEPT: usize = 64 * 1024;

/// A connected socket and what waits to be written to it.
pub(super) struct Wire {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// Plaintext to be written; the part before `done` was.
    out: Vec<u8>,
    done: usize,
}

impl Wire {
    pub(super) const fn new(socket: TcpStream, tls: Option<Box<ClientConnection>>) -> Self {
        Self { socket, tls, out: Vec::new(), done: 0 }
    }

    /// Where packets for the peer are put.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Bytes that wait for the peer.
    pub(super) fn waiting(&self) -> usize {
        self.out.len() - self.done
    }

    /// Waits until there is something to read, if that is `wanted`, or room to write what waits.
    pub(super) async fn ready(&self, wanted: bool) -> io::Result<Ready> {
        let writes = self.waiting() > 0 || self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        match (wanted, writes) {
            (true, true) => self.socket.ready(Interest::READABLE | Interest::WRITABLE).await,
            (true, false) => self.socket.ready(Interest::READABLE).await,
            (false, true) => self.socket.ready(Interest::WRITABLE).await,
            (false, false) => std::future::pending().await,
        }
    }

    /// Reads what is there, up to a measure. `false` at the end: nothing more comes.
    pub(super) fn read(&mut self, plain: &mut Vec<u8>) -> io::Result<bool> {
        for _ in 0..READS {
            let read = match &mut self.tls {
                None => read_plain(&self.socket, plain),
                Some(tls) => read_sealed(&self.socket, tls, plain),
            };
            match read {
                Ok(true) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                other => return other,
            }
        }
        Ok(true)
    }

    /// What came in the same breath as the end of the TLS handshake.
    pub(super) fn left_over(&mut self, plain: &mut Vec<u8>) -> io::Result<bool> {
        self.tls.as_mut().map_or(Ok(true), |tls| open(tls, plain))
    }

    /// Writes what the socket takes.
    pub(super) fn write(&mut self) -> io::Result<()> {
        loop {
            if let Some(tls) = &mut self.tls {
                while tls.wants_write() {
                    match tls.write_tls(&mut Direct(&self.socket)) {
                        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                        written => drop(written?),
                    }
                }
            }
            if self.waiting() == 0 {
                self.done = 0;
                self.out.clear();
                if self.out.capacity() > KEPT {
                    self.out = Vec::new();
                }
                return Ok(());
            }
            let written = match &mut self.tls {
                Some(tls) => tls.writer().write(&self.out[self.done..])?,
                None => match self.socket.try_write(&self.out[self.done..]) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                    written => written?,
                },
            };
            self.done += written;
            if self.done > KEPT && self.done > self.out.len() / 2 {
                self.out.drain(..std::mem::take(&mut self.done));
            }
        }
    }

    /// Does the client's side of the TLS handshake.
    ///
    /// # Errors
    /// Where TLS is not agreed on (`Ok(Err)` has rustls' reason), or the socket breaks.
    pub(super) async fn handshake(&mut self) -> io::Result<Result<(), rustls::Error>> {
        while let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                self.socket.writable().await?;
                match tls.write_tls(&mut Direct(&self.socket)) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    written => drop(written?),
                }
            }
            if !tls.is_handshaking() {
                break;
            }
            self.socket.readable().await?;
            match tls.read_tls(&mut Direct(&self.socket)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                read => drop(read?),
            }
            if let Err(error) = tls.process_new_packets() {
                // The alert tells the peer why; that it may not arrive changes nothing.
                let _ = tls.write_tls(&mut Direct(&self.socket));
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }
}

fn read_plain(socket: &TcpStream, plain: &mut Vec<u8>) -> io::Result<bool> {
    let start = plain.len();
    plain.resize(start + READ, 0);
    let read = socket.try_read(&mut plain[start..]);
    plain.truncate(start + read.as_ref().map_or(0, |read| *read));
    Ok(read? > 0)
}

/// Reads records once and opens them all, so that nothing stays behind for which the socket would not wake anybody.
fn read_sealed(socket: &TcpStream, tls: &mut ClientConnection, plain: &mut Vec<u8>) -> io::Result<bool> {
    let read = tls.read_tls(&mut Direct(socket))?;
    if let Err(error) = tls.process_new_packets() {
        return Err(io::Error::new(ErrorKind::InvalidData, error));
    }
    Ok(open(tls, plain)? && read > 0)
}

/// Takes out the plaintext that is there. `false` after the peer's close_notify.
fn open(tls: &mut ClientConnection, plain: &mut Vec<u8>) -> io::Result<bool> {
    match tls.reader().read_to_end(plain) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
        // The peer left without close_notify; MQTT has its own end of things.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
