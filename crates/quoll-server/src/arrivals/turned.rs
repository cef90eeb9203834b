//! Who does not come in: why, what the log and those who watch are told, and the last words to the peer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use quoll_mqtt::packet::{ConnAck, ConnAckProperties, Connect, Packet};
use quoll_mqtt::{DecodeError, ProtocolVersion, ReasonCode, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Arriving;
use crate::config::Transport;
use crate::events::ServerEvent;
use crate::handshake::HandshakeError;
use crate::limits::{MAX_ARRIVAL_BYTES, REFUSAL_DRAIN};
use crate::log::{CONNECTION, PACKETS, WEBSOCKETS, shown};
use crate::proxy::ProxyError;
use crate::terms::Terms;
use crate::tls::record::Scratch;
use crate::websocket::{FrameError, NORMAL, binary_head};

/// Why a peer does not come in.
pub(super) enum Turned {
    /// It left, or its socket broke.
    Left(io::Error),
    /// It did not say CONNECT in time.
    TooSlow(Duration),
    /// It had said nothing, and others wait.
    GaveWay,
    /// It does not begin with a PROXY header, and has to.
    NoProxy(ProxyError),
    /// No TLS connection came about.
    Tls(HandshakeError),
    /// Its request is not for MQTT over WebSocket.
    NoWebSocket { answer: Vec<u8>, why: String },
    /// Its frames break the protocol; it was told.
    Frames(FrameError),
    /// What it sent is no CONNECT.
    NoConnect(DecodeError),
    /// It sends more than any CONNECT needs.
    TooLong,
    /// The doorkeeper, or the listener's terms, refused it.
    Refused(Box<Connect>, ReasonCode),
}

impl Arriving {
    /// Says why not, in the log, to those who watch, and to the peer.
    pub(super) async fn turned(mut self, socket: &mut TcpStream, turned: Turned) {
        match turned {
            Turned::Left(error) => {
                let certificate = self.certificate.as_ref().and_then(|it| it.common_name.as_deref());
                tracing::info!(target: CONNECTION, "Client <unknown> closed its connection.");
                tracing::debug!(peer = %self.peer, certificate, %error, "left before CONNECT");
                if self.tls.is_some() {
                    self.announce_failure(format!("no CONNECT: {error}"), None);
                }
            }
            Turned::TooSlow(patience) => {
                tracing::info!(target: CONNECTION, "Client <unknown> has exceeded timeout, disconnecting.");
                self.announce_failure(format!("no CONNECT within {} s", patience.as_secs_f32()), None);
                self.turn_away(socket, &[]).await;
            }
            Turned::GaveWay => {
                tracing::info!(target: CONNECTION, "Client <unknown> has exceeded timeout, disconnecting.");
                self.announce_failure("nothing said, and others wait to come in".into(), None);
            }
            // To one who is no balancer nothing is said, not even how to be one.
            Turned::NoProxy(error) => self.failed(error.to_string(), None),
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
            Turned::NoWebSocket { answer, why } => {
                tracing::debug!(target: WEBSOCKETS, peer = %self.peer, why, "no WebSocket");
                self.failed(why, None);
                self.turn_away(socket, &answer).await;
            }
            Turned::Frames(error) => {
                self.failed(error.to_string(), None);
                self.turn_away(socket, &[]).await;
            }
            Turned::NoConnect(error) => self.no_connect(socket, error).await,
            Turned::Refused(connect, reason) => self.refused(socket, *connect, reason).await,
        }
    }

    async fn no_connect(&mut self, socket: &mut TcpStream, error: DecodeError) {
        let (how, answer): (&str, &[u8]) = match error {
            // The return codes of 3.1.1, which every client since 3.1 knows by its length (§3.1.2.2, §3.1.3.1).
            DecodeError::UnsupportedVersion { level } => {
                let peer = self.seat.listener().shown(self.peer).address();
                tracing::info!("Invalid protocol version {level} in CONNECT from {peer}.");
                ("protocol error", &[0x20, 2, 0, 1])
            }
            DecodeError::ClientIdentifier { .. } => ("protocol error", &[0x20, 2, 0, 2]),
            DecodeError::TooLarge { .. } => ("oversize packet", &[]),
            DecodeError::Malformed { .. } => ("malformed packet", &[]),
            _ => ("protocol error", &[]),
        };
        if let [.., code] = answer {
            let peer = self.seat.listener().shown(self.peer).address();
            tracing::debug!(target: PACKETS, "Sending CONNACK to {peer} (0, {code})");
        }
        tracing::info!(target: CONNECTION, "Client <unknown> disconnected due to {how}.");
        tracing::debug!(peer = %self.peer, %error, "no CONNECT");
        self.announce_failure(format!("no CONNECT: {error}"), None);
        self.say(socket, answer).await;
    }

    async fn refused(&mut self, socket: &mut TcpStream, connect: Connect, reason: ReasonCode) {
        let client = if connect.client_id.is_empty() { "<unknown>" } else { &connect.client_id };
        let how = match reason {
            ReasonCode::NOT_AUTHORIZED | ReasonCode::BAD_USER_NAME_OR_PASSWORD => ", not authorised",
            ReasonCode::QOS_NOT_SUPPORTED => " due to QoS too high or retain not supported",
            _ => " due to protocol error",
        };
        let code = match connect.version {
            ProtocolVersion::V5 => reason.0,
            ProtocolVersion::V31 | ProtocolVersion::V311 => reason.connect_return_code(),
        };
        // Of a will that a listener does not carry 3.x has no code to say so: as with Mosquitto it is told nothing.
        let is_answered = connect.version == ProtocolVersion::V5 || reason != ReasonCode::QOS_NOT_SUPPORTED;
        if is_answered {
            tracing::debug!(target: PACKETS, "Sending CONNACK to {} (0, {code})", shown(client));
        }
        tracing::info!(target: CONNECTION, "Client {} disconnected{how}.", shown(client));
        tracing::debug!(client, peer = %self.peer, %reason, "refused");
        let answer = match is_answered {
            true => refusal(connect.version, reason, &self.settings.terms),
            false => Vec::new(),
        };
        self.announce(ServerEvent::Refused {
            peer: self.peer,
            listener: Arc::clone(self.seat.listener().name()),
            client_id: connect.client_id.into(),
            username: connect.username,
            credential: self.certificate.as_ref().map(|certificate| certificate.credential),
            reason,
        });
        self.say(socket, &answer).await;
    }

    /// Says in Mosquitto's words that no connection came about.
    fn failed(&self, reason: String, alert: Option<(bool, u8)>) {
        let peer = self.seat.listener().shown(self.peer).address();
        let name = self.certificate.as_ref().and_then(|it| it.common_name.as_deref());
        let name = name.map(|name| format!(" ({})", shown(name))).unwrap_or_default();
        tracing::info!(target: CONNECTION, "Client connection from {peer}{name} failed: {reason}.");
        self.announce_failure(reason, alert);
    }

    fn announce_failure(&self, reason: String, alert: Option<(bool, u8)>) {
        self.announce(ServerEvent::HandshakeFailed {
            peer: self.peer,
            listener: Arc::clone(self.seat.listener().name()),
            reason,
            alert,
            hello: self.trace.hello.clone(),
            secure: matches!(self.settings.transport, Transport::Tls(_)),
            reached: self.trace.reached,
            certificate: self.trace.refused.clone(),
        });
    }

    fn announce(&self, event: ServerEvent) {
        // Nobody may be watching.
        let _ = self.hall.events.send(event);
    }

    /// Turns away with a packet, in a frame where there are frames.
    async fn say(&mut self, socket: &mut TcpStream, packet: &[u8]) {
        let mut words = Vec::new();
        if self.web.is_some() && !packet.is_empty() {
            binary_head(packet.len(), &mut words);
        }
        words.extend_from_slice(packet);
        self.turn_away(socket, &words).await;
    }

    /// Sends the last words and drains what the peer still sends, so that closing does not become a reset that eats
    /// them.
    pub(super) async fn turn_away(&mut self, socket: &mut TcpStream, words: &[u8]) {
        let mut words = words.to_vec();
        if let Some(web) = &mut self.web {
            web.say_close(NORMAL, &mut words);
        }
        let farewell = async {
            match &mut self.tls {
                Some(tls) => {
                    let mut sealed = Scratch::default();
                    if !words.is_empty() {
                        let _ = tls.seal(&words, &mut sealed);
                    }
                    let _ = tls.say_goodbye(&mut sealed);
                    let _ = socket.write_all(sealed.filled()).await;
                }
                None => {
                    let _ = socket.write_all(&words).await;
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
fn refusal(version: ProtocolVersion, reason: ReasonCode, terms: &Terms) -> Vec<u8> {
    let mut properties = ConnAckProperties::default();
    terms.apply_to_refusal(&mut properties);
    let packet = Packet::ConnAck(Box::new(ConnAck { session_present: false, reason, properties }));
    let mut bytes = Vec::new();
    // A CONNACK of so little always fits; were it not so, the peer would see the connection end.
    let _ = encode(&packet, version, &mut bytes);
    bytes
}
