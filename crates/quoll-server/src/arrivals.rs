//! From accept to a shard: TLS handshake, CONNECT, doorkeeper, placement.
//!
//! Runs on a small tokio runtime whose threads have a lower priority than the shards', so that a storm of handshakes is
//! not felt by those who are connected (`coat.md` §5). Everything here is bounded: arrivals at a time, bytes of each,
//! and one patience for the whole way, so that a peer that drips bytes gains nothing.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quoll_mqtt::decode::Role;
use quoll_mqtt::packet::{ConnAck, ConnAckProperties, Connect, Packet};
use quoll_mqtt::{DecodeContext, DecodeError, Decoded, ProtocolVersion, ReasonCode, decode, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, broadcast};

use crate::doorkeeper::{ConnectFacts, Doorkeeper, Verdict};
use crate::events::ServerEvent;
use crate::handshake::{HandshakeError, Secured, handshake, read_more};
use crate::limits::{MAX_ARRIVAL_BYTES, REFUSAL_DRAIN};
use crate::listener::{ListenerState, Seat, tune_accepted};
use crate::placement::Placement;
use crate::post::{Inbox, Mail, Newcomer};
use crate::tls::record::{Scratch, Tls};
use crate::tls::{HelloFacts, PeerCertificate};

/// How long accepting rests after an error that will not go away by trying again at once, such as too many open files.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// What all arrivals need.
pub(crate) struct Hall {
    pub(crate) doorkeeper: Arc<dyn Doorkeeper>,
    pub(crate) placement: Arc<Placement>,
    pub(crate) boxes: Arc<[Inbox]>,
    pub(crate) events: broadcast::Sender<ServerEvent>,
    pub(crate) patience: Duration,
    /// Bytes of the largest CONNECT.
    pub(crate) max_connect: u32,
    pub(crate) room: Arc<Semaphore>,
}

/// Accepts for ever.
pub(crate) async fn accept(hall: Arc<Hall>, listener: TcpListener, state: Arc<ListenerState>) {
    loop {
        let Ok(permit) = Arc::clone(&hall.room).acquire_owned().await else { return };
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_peer(&error) => continue,
            Err(error) => {
                tracing::error!(address = %state.address(), %error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let Some(seat) = Seat::take(&state) else {
            tracing::info!(
                "Client connection from {peer} denied: max_connections of listener {}.",
                state.name()
            );
            continue;
        };
        tracing::info!("New connection from {peer} on port {}.", state.address().port());
        let hall = Arc::clone(&hall);
        tokio::spawn(async move {
            Arriving { hall, peer, seat, hello: None, certificate: None, tls: None }.run(socket).await;
            drop(permit);
        });
    }
}

/// Errors of accept that speak of the connection that was to be accepted, not of the listener (accept(2)).
fn is_of_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// One peer on its way.
struct Arriving {
    hall: Arc<Hall>,
    peer: SocketAddr,
    seat: Seat,
    hello: Option<Arc<HelloFacts>>,
    certificate: Option<PeerCertificate>,
    tls: Option<Box<Tls>>,
}

/// Why a peer does not come in.
enum Turned {
    /// It left, or its socket broke.
    Left(io::Error),
    /// No TLS connection came about.
    Tls(HandshakeError),
    /// What it sent is no CONNECT.
    NoConnect(DecodeError),
    /// It sends more than any CONNECT needs.
    TooLong,
    /// The doorkeeper refused it.
    Refused(Box<Connect>, ReasonCode),
}

impl Arriving {
    async fn run(mut self, mut socket: TcpStream) {
        if let Err(error) = tune_accepted(&socket) {
            tracing::debug!(peer = %self.peer, %error, "socket options");
        }
        let patience = self.hall.patience;
        match tokio::time::timeout(patience, self.come_in(&mut socket)).await {
            Err(_) => {
                self.failed(format!("no CONNECT within {} s", patience.as_secs_f32()), None);
                self.turn_away(&mut socket, &[]).await;
            }
            Ok(Err(turned)) => self.turned(&mut socket, turned).await,
            Ok(Ok(admitted)) => self.hand_over(socket, admitted),
        }
    }

    /// Talks to the peer until it is let in.
    async fn come_in(
        &mut self,
        socket: &mut TcpStream,
    ) -> Result<(Connect, quoll_broker::vocabulary::Admission, Vec<u8>), Turned> {
        let mut plain = Vec::new();
        let listener = Arc::clone(self.seat.listener());
        if let Some(live) = listener.live() {
            let secured = handshake(socket, live, &mut self.hello).await.map_err(Turned::Tls)?;
            let Secured { tls, certificate, plain: first } = secured;
            self.tls = Some(tls);
            self.certificate = certificate;
            plain = first;
        }
        let connect = self.read_connect(socket, &mut plain).await?;
        let facts = ConnectFacts {
            listener: listener.name(),
            peer: self.peer,
            certificate: self.certificate.as_ref(),
            hello: self.hello.as_deref(),
            connect: &connect,
        };
        match self.hall.doorkeeper.admit(&facts).await {
            Verdict::Admit(admission) => Ok((*connect, admission, plain)),
            Verdict::Refuse(reason) => Err(Turned::Refused(connect, reason)),
        }
    }

    /// Reads until CONNECT is whole; what came behind it stays in `plain`.
    async fn read_connect(
        &mut self,
        socket: &mut TcpStream,
        plain: &mut Vec<u8>,
    ) -> Result<Box<Connect>, Turned> {
        let maximum_packet_size = self.hall.max_connect;
        let context = DecodeContext { version: None, maximum_packet_size, role: Role::Server };
        let mut total = 0;
        loop {
            match decode(plain, &context).map_err(Turned::NoConnect)? {
                Decoded::Packet(Packet::Connect(connect), used) => {
                    plain.drain(..used);
                    return Ok(connect);
                }
                Decoded::Packet(..) => {
                    let what = "the first packet must be CONNECT [MQTT-3.1.0-1]";
                    return Err(Turned::NoConnect(DecodeError::Protocol { packet: "packet", what }));
                }
                Decoded::Incomplete(_) => {}
            }
            total += self.read_plain(socket, plain).await?;
            if total > MAX_ARRIVAL_BYTES + self.hall.max_connect as usize {
                return Err(Turned::TooLong);
            }
        }
    }

    async fn read_plain(&mut self, socket: &mut TcpStream, plain: &mut Vec<u8>) -> Result<usize, Turned> {
        let Some(tls) = &mut self.tls else { return read_more(socket, plain).await.map_err(Turned::Left) };
        let mut input = tls.take_leftover();
        let read = read_more(socket, &mut input).await.map_err(Turned::Left)?;
        let mut reply = Scratch::default();
        let step = tls.read(&mut input, plain, &mut reply);
        if !reply.filled().is_empty() {
            socket.write_all(reply.filled()).await.map_err(Turned::Left)?;
        }
        match step {
            Ok(_) => Ok(read),
            Err(error) => {
                let alert = match error {
                    rustls::Error::AlertReceived(alert) => Some((false, u8::from(alert))),
                    _ => None,
                };
                Err(Turned::Tls(HandshakeError::Tls { error, alert }))
            }
        }
    }

    /// Gives socket, TLS and the bytes already read to the client's shard.
    fn hand_over(
        self,
        socket: TcpStream,
        (connect, admission, plain): (Connect, quoll_broker::vocabulary::Admission, Vec<u8>),
    ) {
        let Self { hall, peer, seat, certificate, tls, .. } = self;
        let socket = match socket.into_std() {
            Ok(socket) => socket,
            Err(error) => return tracing::error!(%peer, %error, "a socket cannot be handed over"),
        };
        let client_id = admission.client_id.as_deref().unwrap_or(&connect.client_id);
        let shard = hall.placement.place(client_id);
        let credential = certificate.map(|certificate| certificate.credential);
        let newcomer = Newcomer { socket, tls, plain, connect, admission, peer, seat, credential };
        hall.boxes[usize::from(shard.0)].put(Mail::Newcomer(Box::new(newcomer)));
    }

    /// Says why not, in the log, to those who watch, and to the peer.
    async fn turned(mut self, socket: &mut TcpStream, turned: Turned) {
        match turned {
            Turned::Left(error) => {
                let certificate = self.certificate.as_ref().and_then(|it| it.common_name.as_deref());
                tracing::debug!(peer = %self.peer, certificate, %error, "left before CONNECT");
                if self.tls.is_some() {
                    self.failed(format!("no CONNECT: {error}"), None);
                }
            }
            Turned::Tls(HandshakeError::Socket(error)) => {
                self.failed(format!("the peer left in the middle of it: {error}"), None);
            }
            Turned::Tls(HandshakeError::TooLong) | Turned::TooLong => {
                self.failed("the peer sent too many bytes".into(), None);
                self.turn_away(socket, &[]).await;
            }
            Turned::Tls(HandshakeError::Tls { error, alert }) => {
                self.failed(error.to_string(), alert);
                self.turn_away(socket, &[]).await;
            }
            Turned::NoConnect(error) => {
                self.failed(format!("no CONNECT: {error}"), None);
                let answer = match error {
                    // The return codes of 3.1.1, which every client since 3.1 knows by its length (§3.1.2.2, §3.1.3.1).
                    DecodeError::UnsupportedVersion { .. } => &[0x20, 2, 0, 1][..],
                    DecodeError::ClientIdentifier { .. } => &[0x20, 2, 0, 2],
                    _ => &[],
                };
                self.turn_away(socket, answer).await;
            }
            Turned::Refused(connect, reason) => {
                tracing::info!(
                    "Client {} from {} refused: {reason}.",
                    connect.client_id.escape_debug(),
                    self.peer
                );
                let answer = refusal(connect.version, reason);
                self.announce(ServerEvent::Refused {
                    peer: self.peer,
                    listener: Arc::clone(self.seat.listener().name()),
                    client_id: connect.client_id.into(),
                    username: connect.username,
                    credential: self.certificate.as_ref().map(|certificate| certificate.credential),
                    reason,
                });
                self.turn_away(socket, &answer).await;
            }
        }
    }

    fn failed(&self, reason: String, alert: Option<(bool, u8)>) {
        let listener = self.seat.listener();
        let name = self.certificate.as_ref().and_then(|it| it.common_name.as_deref());
        let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
        tracing::info!(
            "Connection from {}{name} on port {} failed: {reason}.",
            self.peer,
            listener.address().port()
        );
        self.announce(ServerEvent::HandshakeFailed {
            peer: self.peer,
            listener: Arc::clone(listener.name()),
            reason,
            alert,
            hello: self.hello.clone(),
        });
    }

    fn announce(&self, event: ServerEvent) {
        // Nobody may be watching.
        let _ = self.hall.events.send(event);
    }

    /// Sends the last words and drains what the peer still sends, so that closing does not become a reset that eats
    /// them.
    async fn turn_away(&mut self, socket: &mut TcpStream, words: &[u8]) {
        let farewell = async {
            match &mut self.tls {
                Some(tls) => {
                    let mut sealed = Scratch::default();
                    if !words.is_empty() {
                        let _ = tls.seal(words, &mut sealed);
                    }
                    let _ = tls.say_goodbye(&mut sealed);
                    let _ = socket.write_all(sealed.filled()).await;
                }
                None => {
                    let _ = socket.write_all(words).await;
                }
            }
            let _ = socket.shutdown().await;
            let mut drained = 0;
            let mut bytes = [0; 1024];
            while let Ok(read @ 1..) = socket.read(&mut bytes).await {
                drained += read;
                if drained > MAX_ARRIVAL_BYTES {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(REFUSAL_DRAIN, farewell).await;
    }
}

/// CONNACK with this reason (§3.2.2.2).
fn refusal(version: ProtocolVersion, reason: ReasonCode) -> Vec<u8> {
    let properties = ConnAckProperties::default();
    let packet = Packet::ConnAck(Box::new(ConnAck { session_present: false, reason, properties }));
    let mut bytes = Vec::new();
    // A CONNACK without properties always fits; were it not so, the peer would see the connection end.
    let _ = encode(&packet, version, &mut bytes);
    bytes
}
