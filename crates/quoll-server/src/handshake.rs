//! The TLS handshake of an arrival: from the first byte to an open connection and the peer's certificate.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::server::UnbufferedServerConnection;
use rustls::{AlertDescription, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::events::Reached;
use crate::limits::MAX_ARRIVAL_BYTES;
use crate::tls::hello::{self, Hello};
use crate::tls::record::{Scratch, Step, Tls};
use crate::tls::{HelloFacts, LiveIdentity, PeerCertificate, PresentedCertificate, presented};

/// Room that is made for each read: a CONNECT or a flight of a handshake has some hundred bytes, and malloc has up to about a
/// thousand at hand without looking for them.
const READ: usize = 1_000;

/// The content type of a record with handshake messages (RFC 5246 §6.2.1).
const HANDSHAKE_RECORD: u8 = 22;

/// A handshake that succeeded.
pub(crate) struct Secured {
    pub(crate) tls: Box<Tls>,
    pub(crate) certificate: Option<PeerCertificate>,
    /// Application data that came with the peer's last flight.
    pub(crate) plain: Vec<u8>,
}

/// How far a handshake came, whether or not it succeeds.
pub(crate) struct Trace {
    /// What the ClientHello said.
    pub(crate) hello: Option<Arc<HelloFacts>>,
    pub(crate) reached: Reached,
    /// The certificate over which it failed.
    pub(crate) refused: Option<Arc<PresentedCertificate>>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { hello: None, reached: Reached::Socket, refused: None }
    }
}

impl Trace {
    /// Of bytes that may be a ClientHello, read where nobody expected one.
    pub(crate) fn of_hello(bytes: &[u8]) -> Self {
        match hello::read(bytes) {
            Hello::Whole(facts) => {
                Self { hello: Some(Arc::new(facts)), reached: Reached::Hello, refused: None }
            }
            _ => Self::default(),
        }
    }
}

/// Why there is no TLS connection.
#[derive(Debug)]
pub(crate) enum HandshakeError {
    /// The socket failed, or the peer closed it.
    Socket(io::Error),
    /// TLS was not agreed on; the alert was sent.
    Tls { error: Error, alert: Option<(bool, u8)> },
    /// The peer sends more than any handshake needs.
    TooLong,
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}

/// Does the server's side of a handshake. `input` is what came already. How far it came is left in `trace` also where it
/// fails; `heard` is set once a whole ClientHello came.
pub(crate) async fn handshake(
    socket: &mut TcpStream,
    live: &LiveIdentity,
    mut input: Vec<u8>,
    trace: &mut Trace,
    heard: &AtomicBool,
) -> Result<Secured, HandshakeError> {
    let hello = loop {
        if input.is_empty() {
            read_more(socket, &mut input).await?;
        }
        match hello::read(&input) {
            Hello::Incomplete => {
                read_more(socket, &mut input).await?;
            }
            Hello::Whole(facts) => break Some(facts),
            // rustls says what is wrong with it, and sends the alert.
            Hello::Foreign => break None,
            Hello::TooLong => return Err(HandshakeError::TooLong),
        }
    };
    let max_fragment_length = hello.as_ref().and_then(|hello| hello.max_fragment_length);
    if let Some(hello) = hello {
        trace.hello = Some(Arc::new(hello));
        trace.reached = Reached::Hello;
        heard.store(true, Ordering::Relaxed);
    }
    let config = live.current().config_for(max_fragment_length);
    let connection = UnbufferedServerConnection::new(config)
        .map_err(|error| HandshakeError::Tls { error, alert: None })?;
    let mut tls = Box::new(Tls::new(connection, max_fragment_length));
    let mut plain = Vec::new();
    let mut reply = Scratch::default();
    let mut total = input.len();
    loop {
        reply.clear();
        let step = tls.read(&mut input, &mut plain, &mut reply);
        trace.refused = presented::take().map(Arc::new);
        if !reply.filled().is_empty() {
            let sent = socket.write_all(reply.filled()).await;
            if step.is_ok() {
                sent?;
            }
        }
        match step {
            Ok(Step::Handshaking) => {
                if reply.filled().first() == Some(&HANDSHAKE_RECORD) {
                    trace.reached = Reached::Answered;
                }
            }
            Ok(Step::Open) => break,
            Ok(Step::PeerClosed) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Err(error) => {
                if trace.refused.is_some() || matches!(error, Error::NoCertificatesPresented) {
                    trace.reached = Reached::Certificate;
                }
                let alert = alert_of(&error, reply.filled());
                return Err(HandshakeError::Tls { error, alert });
            }
        }
        input = tls.take_leftover();
        total += read_more(socket, &mut input).await?;
        if total > MAX_ARRIVAL_BYTES {
            return Err(HandshakeError::TooLong);
        }
    }
    trace.reached = Reached::Secured;
    let certificate = match tls.peer_certificate() {
        Some(certificate) => match PeerCertificate::read(certificate) {
            Ok(certificate) => Some(certificate),
            // WebPKI read it a moment ago.
            Err(_) => {
                let error = Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
                return Err(HandshakeError::Tls { error, alert: None });
            }
        },
        None => None,
    };
    Ok(Secured { tls, certificate, plain })
}

/// Reads behind what is there. Answers how many bytes came; none is an error.
pub(crate) async fn read_more(socket: &mut TcpStream, input: &mut Vec<u8>) -> io::Result<usize> {
    input.reserve(READ);
    match socket.read_buf(input).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => Ok(read),
    }
}

/// The alert that went with an error: read from our own bytes while they are in the clear, by rustls' rules otherwise.
fn alert_of(error: &Error, reply: &[u8]) -> Option<(bool, u8)> {
    if let [.., 21, 3, _, 0, 2, 2, alert] = reply {
        return Some((true, *alert));
    }
    let sent = match error {
        Error::AlertReceived(alert) => return Some((false, u8::from(*alert))),
        Error::InvalidCertificate(error) => AlertDescription::from(error.clone()),
        Error::NoCertificatesPresented => AlertDescription::CertificateRequired,
        _ => return None,
    };
    Some((true, u8::from(sent)))
}
