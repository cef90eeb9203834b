//! The TLS handshake of an arrival: from the first byte to an open connection and the peer's certificate.

use std::io;
use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::{AlertDescription, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::limits::MAX_ARRIVAL_BYTES;
use crate::tls::hello::{self, Hello};
use crate::tls::record::{Scratch, Step, Tls};
use crate::tls::{HelloFacts, LiveIdentity, PeerCertificate};

/// Room that is made for each read.
const READ: usize = 4 * 1024;

/// A handshake that succeeded.
pub(crate) struct Secured {
    pub(crate) tls: Box<Tls>,
    pub(crate) certificate: Option<PeerCertificate>,
    /// Application data that came with the peer's last flight.
    pub(crate) plain: Vec<u8>,
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

/// Does the server's side of a handshake. `input` is what came already. What the ClientHello said is left in `facts` also
/// where it fails.
pub(crate) async fn handshake(
    socket: &mut TcpStream,
    live: &LiveIdentity,
    mut input: Vec<u8>,
    facts: &mut Option<Arc<HelloFacts>>,
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
    *facts = hello.map(Arc::new);
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
        if !reply.filled().is_empty() {
            let sent = socket.write_all(reply.filled()).await;
            if step.is_ok() {
                sent?;
            }
        }
        match step {
            Ok(Step::Handshaking) => {}
            Ok(Step::Open) => break,
            Ok(Step::PeerClosed) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Err(error) => {
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
