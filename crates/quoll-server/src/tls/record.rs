//! Bytes of a socket to plaintext and back, through rustls' unbuffered API. No socket in here.
//!
//! The buffered API keeps a read buffer of 4 KiB per connection for ever; this one works in buffers of the thread's
//! (`coat.md` §6). What rustls has not consumed must be shown to it again, unchanged and at the front, at each call:
//! it keeps offsets into it.

use rustls::Error;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

/// Bytes that a record may have beside its plaintext: header 5, explicit nonce 8, tag 16, content type 1, rounded up.
const RECORD_OVERHEAD: usize = 32;

/// A byte buffer that grows and is never cleared to zero again: sealing writes into bytes that exist.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    bytes: Vec<u8>,
    filled: usize,
}

impl Scratch {
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    pub(crate) const fn clear(&mut self) {
        self.filled = 0;
    }

    fn room(&mut self, bytes: usize) -> &mut [u8] {
        if self.bytes.len() < self.filled + bytes {
            self.bytes.resize(self.filled + bytes, 0);
        }
        &mut self.bytes[self.filled..]
    }
}

/// The TLS side of a connection.
pub(crate) struct Tls {
    connection: UnbufferedServerConnection,
    /// Bytes read from the socket that make no whole record yet; exact, and empty between records.
    leftover: Vec<u8>,
    /// The largest plaintext of a record that the peer takes.
    fragment: u16,
    /// The peer broke TLS: the alert was the last word, and rustls must not be shown the same bytes again.
    broken: bool,
}

/// How far [`Tls::read`] came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// The handshake needs more bytes of the peer.
    Handshaking,
    /// Application data may flow.
    Open,
    /// The peer said close_notify: nothing more will come.
    PeerClosed,
}

impl Tls {
    pub(crate) fn new(connection: UnbufferedServerConnection, max_fragment_length: Option<u16>) -> Self {
        Self {
            connection,
            leftover: Vec::new(),
            fragment: max_fragment_length.unwrap_or(16_384),
            broken: false,
        }
    }

    pub(crate) fn peer_certificate(&self) -> Option<&rustls::pki_types::CertificateDer<'static>> {
        self.connection.peer_certificates().and_then(<[_]>::first)
    }

    /// What [`Tls::take_leftover`] would give.
    pub(crate) fn leftover(&self) -> &[u8] {
        &self.leftover
    }

    /// The bytes to put in front of what is read next; afterwards the caller owns them, until [`Tls::read`].
    pub(crate) fn take_leftover(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.leftover)
    }

    /// Works through `input`, which starts with what [`Tls::take_leftover`] gave. Plaintext is appended to `plain`, what
    /// must be sent (handshake, alerts, key updates) to `reply`, in order and before anything sealed later.
    ///
    /// # Errors
    /// Where the peer breaks TLS or its certificate is refused; the alert is in `reply`.
    pub(crate) fn read(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        reply: &mut Scratch,
    ) -> Result<Step, Error> {
        let mut used = 0;
        let mut peer_closed = false;
        let result = loop {
            let UnbufferedStatus { mut discard, state, .. } =
                self.connection.process_tls_records(&mut input[used..]);
            let done = match state {
                Err(error) => Some(Err(error)),
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    let mut failed = None;
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => {
                                discard += record.discard;
                                plain.extend_from_slice(record.payload);
                            }
                            Err(error) => failed = Some(Err(error)),
                        }
                    }
                    failed
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode_into(reply, |room| match data.encode(room) {
                        Ok(written) => Ok(written),
                        Err(EncodeError::InsufficientSize(size)) => Err(size.required_size),
                        Err(EncodeError::AlreadyEncoded) => Ok(0),
                    });
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    // It is in `reply`, which goes out before anything else does.
                    data.done();
                    None
                }
                Ok(ConnectionState::PeerClosed) => {
                    peer_closed = true;
                    None
                }
                Ok(ConnectionState::Closed) => Some(Ok(Step::PeerClosed)),
                Ok(ConnectionState::WriteTraffic(_)) => Some(Ok(Step::Open)),
                Ok(ConnectionState::BlockedHandshake) => Some(Ok(Step::Handshaking)),
                // Early data is never accepted, and new states would be new features.
                Ok(_) => Some(Err(Error::General("unexpected TLS state".into()))),
            };
            used += discard;
            if let Some(done) = done {
                break done;
            }
        };
        if result.is_err() {
            self.broken = true;
            self.collect_alert(&mut input[used..], reply);
        }
        self.leftover = input[used..].to_vec();
        match result {
            Ok(_) if peer_closed => Ok(Step::PeerClosed),
            other => other,
        }
    }

    /// After an error rustls holds the alert that belongs to it. It is the last that is said: asked once more, rustls
    /// would read the bytes that broke it again.
    fn collect_alert(&mut self, rest: &mut [u8], reply: &mut Scratch) {
        let mut begin = reply.filled;
        while !is_alert(&reply.filled()[begin..])
            && let UnbufferedStatus { state: Ok(ConnectionState::EncodeTlsData(mut data)), .. } =
                self.connection.process_tls_records(rest)
        {
            begin = reply.filled;
            encode_into(reply, |room| match data.encode(room) {
                Ok(written) => Ok(written),
                Err(EncodeError::InsufficientSize(size)) => Err(size.required_size),
                Err(EncodeError::AlreadyEncoded) => Ok(0),
            });
        }
    }

    /// Appends `plain`, sealed in records that the peer can take, to `out`.
    ///
    /// # Errors
    /// Where the keys are used up, or the connection is not open.
    pub(crate) fn seal(&mut self, plain: &[u8], out: &mut Scratch) -> Result<(), Error> {
        let records = plain.len().div_ceil(usize::from(self.fragment));
        let estimate = plain.len() + records * RECORD_OVERHEAD + 64;
        self.write(out, estimate, |traffic, room| traffic.encrypt(plain, room))
    }

    /// Appends a close_notify to `out` (RFC 8446 §6.1).
    ///
    /// # Errors
    /// As [`Tls::seal`].
    pub(crate) fn say_goodbye(&mut self, out: &mut Scratch) -> Result<(), Error> {
        self.write(out, 64, |traffic, room| traffic.queue_close_notify(room))
    }

    fn write(
        &mut self,
        out: &mut Scratch,
        estimate: usize,
        mut act: impl FnMut(
            &mut rustls::unbuffered::WriteTraffic<'_, rustls::server::ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> Result<(), Error> {
        if self.broken {
            return Err(Error::EncryptError);
        }
        let mut leftover = std::mem::take(&mut self.leftover);
        let mut used = 0;
        let result = loop {
            let UnbufferedStatus { discard, state, .. } =
                self.connection.process_tls_records(&mut leftover[used..]);
            let done = match state {
                Err(error) => Some(Err(error)),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let room = out.room(estimate);
                    let written = match act(&mut traffic, room) {
                        Err(EncryptError::InsufficientSize(size)) => {
                            act(&mut traffic, out.room(size.required_size))
                        }
                        other => other,
                    };
                    Some(match written {
                        Ok(written) => {
                            out.filled += written;
                            Ok(())
                        }
                        Err(_) => Err(Error::EncryptError),
                    })
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode_into(out, |room| match data.encode(room) {
                        Ok(written) => Ok(written),
                        Err(EncodeError::InsufficientSize(size)) => Err(size.required_size),
                        Err(EncodeError::AlreadyEncoded) => Ok(0),
                    });
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::PeerClosed) => None,
                Ok(_) => Some(Err(Error::HandshakeNotComplete)),
            };
            used += discard;
            if let Some(done) = done {
                break done;
            }
        };
        leftover.drain(..used);
        self.leftover = leftover;
        result
    }
}

/// Whether this record is an alert: by its type in the clear and in TLS 1.2, by its length where TLS 1.3 hides the type.
const fn is_alert(record: &[u8]) -> bool {
    const ALERT: u8 = 21;
    const APPLICATION_DATA: u8 = 23;
    /// Header, level, description, content type, tag.
    const HIDDEN_ALERT: usize = 5 + 2 + 1 + 16;
    matches!(record, [ALERT, ..]) || matches!(record, [APPLICATION_DATA, ..] if record.len() == HIDDEN_ALERT)
}

/// Runs an encoder on growing room until it fits; it answers with what it wrote or with what it needs.
fn encode_into(out: &mut Scratch, mut encode: impl FnMut(&mut [u8]) -> Result<usize, usize>) {
    let mut room = 512;
    loop {
        match encode(out.room(room)) {
            Ok(written) => {
                out.filled += written;
                return;
            }
            Err(needed) => room = needed.max(room + 1),
        }
    }
}
