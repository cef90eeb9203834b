//! From accept to a shard: PROXY header, TLS handshake, WebSocket handshake, CONNECT, doorkeeper, placement.
//!
//! Runs on a small tokio runtime whose threads have a lower priority than the shards', so that a storm of handshakes is
//! not felt by those who are connected (`coat.md` §5). Everything here is bounded: arrivals at a time, bytes of each,
//! and one patience for the whole way, so that a peer that drips bytes gains nothing. Who does not come in: `turned`.

mod accept;
mod authenticate;
mod room;
mod turned;
mod visit;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use quoll_broker::vocabulary::Admission;
use quoll_mqtt::decode::Role;
use quoll_mqtt::packet::{Connect, Packet};
use quoll_mqtt::{DecodeContext, DecodeError, Decoded, ProtocolVersion, ReasonCode, decode};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::broadcast;

use crate::authentication::Agreed;
use crate::bind::tune_accepted;
use crate::config::{Listener, Transport};
use crate::doorkeeper::{ConnectFacts, Doorkeeper, Verdict};
use crate::events::ServerEvent;
use crate::handshake::{HandshakeError, Secured, Trace, handshake, read_more};
use crate::limits::MAX_ARRIVAL_BYTES;
use crate::listener::Seat;
use crate::log::{CONNECTION, WEBSOCKETS};
use crate::placement::Placement;
use crate::post::{Inbox, Mail, Newcomer};
use crate::proxy::{self, Proxied, ProxyProtocol};
use crate::server::LOCAL_CLIENTS;
use crate::terms::{EmptyClientId, Terms};
use crate::tls::PeerCertificate;
use crate::tls::record::{Scratch, Tls};
use crate::upgrade::{self, Upgrade, WebSocketSettings};
use crate::websocket::{Step, WebSocket};
pub(crate) use accept::{Door, accept};
pub(crate) use room::Room;
use turned::Turned;

/// Where peers seem to come from that have no address.
pub(crate) const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// What all arrivals need.
pub(crate) struct Hall {
    pub(crate) doorkeeper: Arc<dyn Doorkeeper>,
    pub(crate) placement: Arc<Placement>,
    pub(crate) boxes: Arc<[Inbox]>,
    pub(crate) events: broadcast::Sender<ServerEvent>,
    pub(crate) patience: Duration,
    /// Bytes of the largest CONNECT.
    pub(crate) max_connect: AtomicU32,
    pub(crate) room: Room,
    /// The same for those who come to a site.
    pub(crate) visitors: Room,
    /// Connections at a time, on all listeners, and how many there may be.
    pub(crate) open: Arc<AtomicUsize>,
    pub(crate) max_open: AtomicUsize,
    pub(crate) counts: Arc<Counts>,
}

/// What is counted before a shard can.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Sockets accepted.
    pub(crate) sockets: AtomicU64,
    /// CONNECT packets read.
    pub(crate) connects: AtomicU64,
}

/// One peer on its way.
struct Arriving {
    hall: Arc<Hall>,
    /// What held for its listener when it came.
    settings: Arc<Listener>,
    peer: SocketAddr,
    seat: Seat,
    proxied: Option<Proxied>,
    trace: Trace,
    certificate: Option<PeerCertificate>,
    tls: Option<Box<Tls>>,
    web: Option<Box<WebSocket>>,
}

/// A peer that may come in.
struct Admitted {
    connect: Connect,
    admission: Admission,
    /// What came behind CONNECT.
    plain: Vec<u8>,
    /// An identifier that the peer has to be told, since it gave none.
    assigned: bool,
    agreed: Option<Box<Agreed>>,
}

impl Arriving {
    fn new(hall: Arc<Hall>, peer: SocketAddr, seat: Seat) -> Self {
        let settings = seat.listener().settings();
        let (certificate, tls, web) = (None, None, None);
        Self { hall, settings, peer, seat, proxied: None, trace: Trace::default(), certificate, tls, web }
    }

    async fn run(mut self, mut socket: TcpStream) {
        if let Err(error) = tune_accepted(&socket, self.settings.nagle) {
            tracing::debug!(peer = %self.peer, %error, "socket options");
        }
        let (hall, patience, since) = (Arc::clone(&self.hall), self.hall.patience, Instant::now());
        let heard = AtomicBool::new(false);
        let came = tokio::select! {
            biased;
            came = tokio::time::timeout(patience, self.come_in(&mut socket, &heard)) => {
                came.unwrap_or(Err(Turned::TooSlow(patience)))
            }
            () = hall.room.give_way(&heard, since) => Err(Turned::GaveWay),
        };
        match came {
            // Rare, and large: it must not make the task large that each connection is.
            Err(turned) => Box::pin(self.turned(&mut socket, turned)).await,
            Ok(admitted) => self.hand_over(socket, admitted),
        }
    }

    /// Talks to the peer until it is let in.
    async fn come_in(&mut self, socket: &mut TcpStream, heard: &AtomicBool) -> Result<Admitted, Turned> {
        let settings = Arc::clone(&self.settings);
        let mut plain = Vec::new();
        self.secure(socket, &mut plain, heard).await?;
        if let Some(web) = &settings.websocket {
            Box::pin(self.upgrade(socket, web, &mut plain)).await?;
        }
        let connect = self.read_connect(socket, &mut plain).await?;
        heard.store(true, Ordering::Relaxed);
        self.hall.counts.connects.fetch_add(1, Ordering::Relaxed);
        self.ask(socket, connect, plain).await
    }

    /// Does what stands between the socket and what is spoken here: PROXY header and TLS, where they are.
    async fn secure(
        &mut self,
        socket: &mut TcpStream,
        plain: &mut Vec<u8>,
        heard: &AtomicBool,
    ) -> Result<(), Turned> {
        let settings = Arc::clone(&self.settings);
        if let Some(expected) = settings.proxy {
            self.read_proxy(socket, expected, plain).await?;
        }
        // Behind a balancer the client is who counts, so it is told as late as its address is known.
        let listener = self.seat.listener();
        let (peer, port) = (listener.shown(self.peer), listener.port());
        if settings.site.is_none() {
            tracing::info!(target: CONNECTION, "New connection from {peer} on port {port}.");
        }
        if let Transport::Tls(live) = &settings.transport {
            let input = std::mem::take(plain);
            let handshake = Box::pin(handshake(socket, live, input, &mut self.trace, heard));
            let secured = handshake.await.map_err(Turned::Tls)?;
            let Secured { tls, certificate, plain: first } = secured;
            self.tls = Some(tls);
            self.certificate = certificate;
            *plain = first;
        }
        Ok(())
    }

    async fn read_proxy(
        &mut self,
        socket: &mut TcpStream,
        expected: ProxyProtocol,
        input: &mut Vec<u8>,
    ) -> Result<(), Turned> {
        loop {
            read_more(socket, input).await.map_err(Turned::Left)?;
            if let Some((proxied, used)) = proxy::read(input, expected).map_err(Turned::NoProxy)? {
                input.drain(..used);
                self.peer = proxied.source.unwrap_or(self.peer);
                self.proxied = Some(proxied);
                return Ok(());
            }
        }
    }

    /// Does the WebSocket handshake; what came behind it, out of its frames, is left in `plain`.
    async fn upgrade(
        &mut self,
        socket: &mut TcpStream,
        settings: &WebSocketSettings,
        plain: &mut Vec<u8>,
    ) -> Result<(), Turned> {
        loop {
            match upgrade::read(plain, settings) {
                Upgrade::Incomplete => {
                    self.read_plain(socket, plain).await?;
                }
                Upgrade::Refused { answer, why } => return Err(Turned::NoWebSocket { answer, why }),
                Upgrade::Granted { answer, used, forwarded } => {
                    // A proxy beside us says for whom it asks; from afar anybody could say anything.
                    if let Some(source) = forwarded.filter(|_| self.peer.ip().is_loopback()) {
                        self.peer = SocketAddr::new(source, self.peer.port());
                    }
                    self.write_plain(socket, &answer).await?;
                    tracing::debug!(target: WEBSOCKETS, peer = %self.peer, "WebSocket is open");
                    let framed = plain.split_off(used);
                    plain.clear();
                    self.web = Some(Box::default());
                    return self.unframe(socket, &framed, plain).await;
                }
            }
        }
    }

    /// Takes payload out of frames, and answers those that want it.
    async fn unframe(
        &mut self,
        socket: &mut TcpStream,
        framed: &[u8],
        plain: &mut Vec<u8>,
    ) -> Result<(), Turned> {
        let Some(web) = &mut self.web else { return Ok(()) };
        let mut reply = Vec::new();
        let step = web.read(framed, plain, &mut reply);
        if !reply.is_empty() {
            self.write_plain(socket, &reply).await?;
        }
        match step {
            Ok(Step::Open) => Ok(()),
            Ok(Step::Closed) => Err(Turned::Left(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(Turned::Frames(error)),
        }
    }

    /// Reads until CONNECT is whole; what came behind it stays in `plain`.
    async fn read_connect(
        &mut self,
        socket: &mut TcpStream,
        plain: &mut Vec<u8>,
    ) -> Result<Box<Connect>, Turned> {
        let own = self.settings.terms.max_packet_size.unwrap_or(u32::MAX);
        let maximum_packet_size = self.hall.max_connect.load(Ordering::Relaxed).min(own);
        let context = DecodeContext { version: None, maximum_packet_size, role: Role::Server };
        let mut total = 0;
        loop {
            match decode(plain, &context).map_err(|error| self.no_packet(plain, error))? {
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
            if total > MAX_ARRIVAL_BYTES + maximum_packet_size as usize {
                return Err(Turned::TooLong);
            }
        }
    }

    /// What came is no packet. On a listener without TLS it may be somebody who takes it for one that has.
    fn no_packet(&mut self, plain: &[u8], error: DecodeError) -> Turned {
        if self.tls.is_none() && self.web.is_none() {
            self.trace = Trace::of_hello(plain);
        }
        Turned::NoConnect(error)
    }

    /// Reads once, through TLS and frames where they are; answers how many bytes the socket gave.
    async fn read_plain(&mut self, socket: &mut TcpStream, plain: &mut Vec<u8>) -> Result<usize, Turned> {
        if self.web.is_none() {
            return self.read_open(socket, plain).await;
        }
        let mut framed = Vec::new();
        let read = self.read_open(socket, &mut framed).await?;
        self.unframe(socket, &framed, plain).await?;
        Ok(read)
    }

    /// Reads once, through TLS where it is.
    async fn read_open(&mut self, socket: &mut TcpStream, plain: &mut Vec<u8>) -> Result<usize, Turned> {
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

    /// Writes, through TLS where it is, past frames.
    async fn write_plain(&mut self, socket: &mut TcpStream, bytes: &[u8]) -> Result<(), Turned> {
        let Some(tls) = &mut self.tls else { return socket.write_all(bytes).await.map_err(Turned::Left) };
        let mut sealed = Scratch::default();
        tls.seal(bytes, &mut sealed)
            .map_err(|error| Turned::Tls(HandshakeError::Tls { error, alert: None }))?;
        socket.write_all(sealed.filled()).await.map_err(Turned::Left)
    }

    /// Asks the doorkeeper, and applies the listener's terms to who is let in.
    async fn ask(
        &mut self,
        socket: &mut TcpStream,
        mut connect: Box<Connect>,
        mut plain: Vec<u8>,
    ) -> Result<Admitted, Turned> {
        let settings = Arc::clone(&self.settings);
        let terms = &settings.terms;
        if let Err(reason) = terms.acceptable(&connect) {
            return Err(Turned::Refused(connect, reason));
        }
        let facts = ConnectFacts {
            listener: self.seat.listener().name(),
            terms,
            peer: self.peer,
            proxied: self.proxied.as_ref(),
            certificate: self.certificate.as_ref(),
            hello: self.trace.hello.as_deref(),
            connect: &connect,
        };
        let doorkeeper = &self.hall.doorkeeper;
        let (verdict, agreed) = match connect.properties.authentication_method.clone() {
            None => (doorkeeper.admit(&facts).await, None),
            Some(method) => {
                let Some(again) = doorkeeper.begin(&facts, &method) else {
                    return Err(Turned::Refused(connect, ReasonCode::BAD_AUTHENTICATION_METHOD));
                };
                let talk = Box::pin(self.authenticate(socket, &connect, method, again, &mut plain)).await?;
                (talk.0, Some(Box::new(talk.1)))
            }
        };
        // The rules know no methods: what had to be said with it is said.
        connect.properties.authentication_method = None;
        connect.properties.authentication_data = None;
        let mut admission = match verdict {
            Verdict::Admit(admission) => admission,
            Verdict::Refuse(reason) => return Err(Turned::Refused(connect, reason)),
        };
        if connect.client_id.starts_with(LOCAL_CLIENTS) {
            return Err(Turned::Refused(connect, ReasonCode::CLIENT_IDENTIFIER_NOT_VALID));
        }
        let named = name(terms, &connect, &mut admission).and_then(|()| terms.apply_to_connect(&mut connect));
        if let Err(reason) = named {
            return Err(Turned::Refused(connect, reason));
        }
        let is_told = connect.version == ProtocolVersion::V5 && connect.client_id.is_empty();
        let assigned = is_told && admission.client_id.is_some();
        Ok(Admitted { connect: *connect, admission, plain, assigned, agreed })
    }

    /// Gives socket, TLS and the bytes already read to the client's shard.
    fn hand_over(self, socket: TcpStream, admitted: Admitted) {
        let Self { hall, settings, peer, seat, certificate, tls, web, .. } = self;
        let socket = match socket.into_std() {
            Ok(socket) => socket,
            Err(error) => return tracing::error!(%peer, %error, "a socket cannot be handed over"),
        };
        let Admitted { connect, mut admission, plain, assigned, agreed } = admitted;
        // One copy of it for placement, rules and connection; one that is empty the rules choose.
        let client_id = admission.client_id.take().unwrap_or_else(|| connect.client_id.as_str().into());
        let shard = hall.placement.place(&client_id);
        admission.client_id = Some(client_id).filter(|name| !name.is_empty());
        let credential = certificate.map(|certificate| certificate.credential);
        let newcomer = Newcomer {
            socket,
            tls,
            web,
            settings,
            plain,
            connect,
            admission,
            assigned,
            agreed,
            peer,
            seat,
            credential,
        };
        hall.boxes[usize::from(shard.0)].put(Mail::Newcomer(Box::new(newcomer)));
    }
}

/// The client identifier that the listener's terms give, where they do.
fn name(terms: &Terms, connect: &Connect, admission: &mut Admission) -> Result<(), ReasonCode> {
    if admission.client_id.is_some() {
        return Ok(());
    }
    if terms.username_as_client_id {
        if admission.identity.name.is_empty() {
            return Err(ReasonCode::NOT_AUTHORIZED);
        }
        admission.client_id = Some(Arc::clone(&admission.identity.name));
        return Ok(());
    }
    // 3.1 knows no empty identifier, 3.1.1 only with a clean session [MQTT-3.1.3-7 of 3.1.1]: the rules refuse those.
    let may_be_empty = match connect.version {
        ProtocolVersion::V31 => false,
        ProtocolVersion::V311 => connect.clean_start,
        ProtocolVersion::V5 => true,
    };
    match &terms.empty_client_id {
        Some(_) if !connect.client_id.is_empty() || !may_be_empty => Ok(()),
        // What Mosquitto says to each of them.
        Some(EmptyClientId::Refused) if connect.version == ProtocolVersion::V5 => {
            Err(ReasonCode::UNSPECIFIED_ERROR)
        }
        Some(EmptyClientId::Refused) => Err(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID),
        Some(EmptyClientId::Given(prefix)) => {
            admission.client_id = Some(invented(prefix)?.into());
            Ok(())
        }
        None => Ok(()),
    }
}

/// An identifier that nobody can guess, in the form that the rules' own have: a UUID of version 4 behind a prefix.
fn invented(prefix: &str) -> Result<String, ReasonCode> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| ReasonCode::SERVER_UNAVAILABLE)?;
    let number = u128::from_be_bytes(bytes);
    Ok(format!(
        "{prefix}{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        number >> 96,
        number >> 80 & 0xFFFF,
        number >> 64 & 0xFFF,
        number >> 48 & 0x3FFF | 0x8000,
        number & 0xFFFF_FFFF_FFFF,
    ))
}
