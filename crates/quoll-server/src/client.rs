//! An async client: sockets and a clock around [`quoll_mqtt::client`], for the command line, bridges and tests.
//!
//! One connection for one value; who wants to come back makes another. Messages that arrive while an answer is waited
//! for are kept, up to [`KEPT_EVENTS`], and come with the next [`Client::next`].

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quoll_mqtt::client::{Client as Machine, ClientError as RuleError, ClientOptions, Event, Message};
use quoll_mqtt::packet::{ConnAck, SubscribeProperties, Subscription};
use quoll_mqtt::{DecodeError, PacketId, QoS, ReasonCode, TopicFilter};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use thiserror::Error;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::direct::Direct;

/// Events kept while an answer is waited for; beyond, the socket is left unread and the server slows down.
pub const KEPT_EVENTS: usize = 10_000;

/// Time to connect, TLS and CONNACK included.
pub const CONNECT_PATIENCE: Duration = Duration::from_secs(15);

/// Where to connect to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Host name or address. With TLS it is also the name that the server must prove.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS, with whom to trust and what to show; `None` for plain TCP.
    pub tls: Option<Arc<ClientConfig>>,
}

/// A client that is connected.
pub struct Client {
    machine: Machine,
    line: Line,
    events: VecDeque<Event>,
    fresh: Vec<Event>,
    out: Vec<u8>,
}

impl Client {
    /// Connects and waits until the server has let us in.
    ///
    /// # Errors
    /// Where the server cannot be reached, does not prove its name, or refuses us.
    pub async fn connect(
        target: &Target,
        options: ClientOptions,
    ) -> Result<(Self, Box<ConnAck>), ClientError> {
        let connected = tokio::time::timeout(CONNECT_PATIENCE, Self::connect_now(target, options));
        connected.await.unwrap_or(Err(ClientError::Silent))
    }

    async fn connect_now(
        target: &Target,
        options: ClientOptions,
    ) -> Result<(Self, Box<ConnAck>), ClientError> {
        let line = Line::open(target).await?;
        let machine = Machine::new(options);
        let mut client = Self { machine, line, events: VecDeque::new(), fresh: Vec::new(), out: Vec::new() };
        client.machine.connect(Instant::now(), &mut client.out)?;
        match client.next().await? {
            Event::Connected { answer, .. } => Ok((client, answer)),
            Event::Refused(answer) => Err(ClientError::Refused(answer.reason)),
            Event::Disconnected(farewell) => Err(ClientError::Refused(farewell.reason)),
            _ => Err(ClientError::Silent),
        }
    }

    /// The client identifier, which the server may have chosen.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.machine.options().client_id
    }

    /// The next thing that happens. Keeps the connection alive while it waits; cancelling it loses nothing.
    ///
    /// # Errors
    /// Where the connection is over. A server's DISCONNECT is [`Event::Disconnected`] first.
    pub async fn next(&mut self) -> Result<Event, ClientError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            self.pump().await?;
        }
    }

    /// Publishes a message; at QoS 1 and 2 waits until the server has taken it over. Answers with its reason, success at
    /// QoS 0.
    ///
    /// # Errors
    /// Where the server takes no such message, or the connection is over.
    pub async fn publish(&mut self, message: &Message) -> Result<ReasonCode, ClientError> {
        let id = self.machine.publish(message, Instant::now(), &mut self.out)?;
        self.write().await?;
        let Some(id) = id else { return Ok(ReasonCode::SUCCESS) };
        self.answer(|event| match event {
            Event::Published { id: answered, reason } if *answered == id => Some(*reason),
            _ => None,
        })
        .await
    }

    /// Sends a message without waiting for its acknowledgement, which is a later [`Event::Published`] of this identifier;
    /// none at QoS 0.
    ///
    /// # Errors
    /// As [`Client::publish`]; also where too many are under way.
    pub async fn post(&mut self, message: &Message) -> Result<Option<PacketId>, ClientError> {
        let id = self.machine.publish(message, Instant::now(), &mut self.out)?;
        self.write().await?;
        Ok(id)
    }

    /// Subscribes and waits for the answer: a granted level or a failure for each.
    ///
    /// # Errors
    /// Where the connection is over.
    pub async fn subscribe(
        &mut self,
        subscriptions: Vec<Subscription>,
    ) -> Result<Vec<ReasonCode>, ClientError> {
        let properties = SubscribeProperties::default();
        let id = self.machine.subscribe(subscriptions, properties, Instant::now(), &mut self.out)?;
        self.answer(|event| match event {
            Event::Subscribed { id: answered, reasons } if *answered == id => Some(reasons.clone()),
            _ => None,
        })
        .await
    }

    /// Subscribes to one filter at this level.
    ///
    /// # Errors
    /// Where the server refuses the subscription, or the connection is over.
    pub async fn subscribe_to(&mut self, filter: TopicFilter, qos: QoS) -> Result<ReasonCode, ClientError> {
        let options = quoll_mqtt::packet::SubscriptionOptions { qos, ..Default::default() };
        let reasons = self.subscribe(vec![Subscription { filter, options }]).await?;
        match reasons.first() {
            Some(reason) if !reason.is_failure() => Ok(*reason),
            Some(reason) => Err(ClientError::Refused(*reason)),
            None => Err(ClientError::Refused(ReasonCode::UNSPECIFIED_ERROR)),
        }
    }

    /// Unsubscribes and waits for the answer.
    ///
    /// # Errors
    /// Where the connection is over.
    pub async fn unsubscribe(&mut self, filters: Vec<TopicFilter>) -> Result<Vec<ReasonCode>, ClientError> {
        let id = self.machine.unsubscribe(filters, Instant::now(), &mut self.out)?;
        self.answer(|event| match event {
            Event::Unsubscribed { id: answered, reasons } if *answered == id => Some(reasons.clone()),
            _ => None,
        })
        .await
    }

    /// Says DISCONNECT and closes. With [`ReasonCode::DISCONNECT_WITH_WILL`] the server publishes the will (5.0).
    ///
    /// # Errors
    /// Where it could not be said, so that the server will take us for lost.
    pub async fn disconnect(mut self, reason: ReasonCode) -> Result<(), ClientError> {
        self.machine.disconnect(reason, &mut self.out);
        self.write().await?;
        Ok(self.line.close().await?)
    }

    /// Waits for one kind of event and keeps the others.
    async fn answer<T>(&mut self, mut is_it: impl FnMut(&Event) -> Option<T>) -> Result<T, ClientError> {
        let mut looked_at = 0;
        loop {
            while let Some(event) = self.events.get(looked_at) {
                if let Some(answer) = is_it(event) {
                    self.events.remove(looked_at);
                    return Ok(answer);
                }
                if let Event::Disconnected(farewell) = event {
                    return Err(ClientError::Refused(farewell.reason));
                }
                looked_at += 1;
            }
            if self.events.len() >= KEPT_EVENTS {
                return Err(ClientError::TooManyEvents);
            }
            self.pump().await?;
        }
    }

    /// Writes what waits, then reads once, or does what is due.
    async fn pump(&mut self) -> Result<(), ClientError> {
        self.write().await?;
        let due = self.machine.next_deadline();
        let tick = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            read = self.line.read() => {
                let bytes = read?;
                if bytes.is_empty() {
                    self.machine.connection_lost();
                    return Err(ClientError::Closed);
                }
                let result = self.machine.receive(bytes, Instant::now(), &mut self.fresh, &mut self.out);
                self.line.clear();
                self.events.extend(self.fresh.drain(..));
                if let Err(error) = result {
                    // The farewell tells the server why; that it may not arrive changes nothing.
                    let _ = self.write().await;
                    return Err(ClientError::Protocol(error));
                }
            }
            () = tick => {
                if let Some(Event::Silent) = self.machine.tick(Instant::now(), &mut self.out) {
                    return Err(ClientError::Silent);
                }
            }
        }
        self.write().await
    }

    async fn write(&mut self) -> Result<(), ClientError> {
        self.line.write(&mut self.out).await?;
        Ok(())
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("client_id", &self.client_id()).finish_non_exhaustive()
    }
}

/// A socket, perhaps with TLS, and the plaintext read from it.
struct Line {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    plain: Vec<u8>,
}

/// Plaintext read at a time.
const READ: usize = 16 * 1024;

impl Line {
    async fn open(target: &Target) -> Result<Self, ClientError> {
        let unreachable =
            |source| ClientError::Unreachable { host: target.host.clone(), port: target.port, source };
        let socket = TcpStream::connect((target.host.as_str(), target.port)).await.map_err(unreachable)?;
        socket.set_nodelay(true)?;
        let tls = match &target.tls {
            None => None,
            Some(config) => {
                let name = ServerName::try_from(target.host.clone())
                    .map_err(|_| ClientError::HostName { host: target.host.clone() })?;
                Some(Box::new(ClientConnection::new(Arc::clone(config), name).map_err(ClientError::Tls)?))
            }
        };
        let mut line = Self { socket, tls, plain: Vec::new() };
        while line.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            line.flush_tls().await?;
            if line.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) && line.read_tls().await? == 0 {
                return Err(ClientError::Closed);
            }
        }
        line.flush_tls().await?;
        Ok(line)
    }

    /// Plaintext that came and was not [`Line::clear`]ed, after reading where there is none; empty at the end.
    async fn read(&mut self) -> Result<&[u8], ClientError> {
        while self.plain.is_empty() {
            if self.tls.is_none() {
                self.socket.readable().await?;
                let start = self.plain.len();
                self.plain.resize(start + READ, 0);
                let read = self.socket.try_read(&mut self.plain[start..]);
                self.plain.truncate(start + read.as_ref().map_or(0, |read| *read));
                match read {
                    Ok(_) => break,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            let Some(tls) = &mut self.tls else { continue };
            let mut buffer = [0; 4096];
            match tls.reader().read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => self.plain.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.flush_tls().await?;
                    if self.read_tls().await? == 0 {
                        break;
                    }
                }
                // The peer left without close_notify; MQTT has its own end of things.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(&self.plain)
    }

    fn clear(&mut self) {
        self.plain.clear();
    }

    /// Writes and empties `out`. What was not written when it is cancelled stays in `out`, or in the TLS object.
    async fn write(&mut self, out: &mut Vec<u8>) -> Result<(), ClientError> {
        while !out.is_empty() {
            let written = match &mut self.tls {
                Some(tls) => tls.writer().write(out)?,
                None => {
                    self.socket.writable().await?;
                    match self.socket.try_write(out) {
                        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                        written => written?,
                    }
                }
            };
            out.drain(..written);
            self.flush_tls().await?;
        }
        Ok(())
    }

    async fn close(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            // The server may have closed already, having read our DISCONNECT.
            let _ = self.flush_tls().await;
        }
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut self.socket).await;
        Ok(())
    }

    /// Reads the socket once into the TLS object. Answers how many bytes came.
    async fn read_tls(&mut self) -> Result<usize, ClientError> {
        let Some(tls) = &mut self.tls else { return Ok(0) };
        let read = loop {
            self.socket.readable().await?;
            let socket = &self.socket;
            let read = socket.try_io(Interest::READABLE, || tls.read_tls(&mut Direct(socket)));
            match read {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => break read?,
            }
        };
        if let Err(error) = tls.process_new_packets() {
            let _ = self.flush_tls().await;
            return Err(ClientError::Tls(error));
        }
        Ok(read)
    }

    async fn flush_tls(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            self.socket.writable().await?;
            let socket = &self.socket;
            match socket.try_io(Interest::WRITABLE, || tls.write_tls(&mut Direct(socket))) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                written => drop(written?),
            }
        }
        Ok(())
    }
}

/// Why a client does not get what it wants.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection to the server.
    #[error("cannot connect to {host}:{port}: {source}")]
    Unreachable {
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host is no name that a certificate can prove.
    #[error("{host:?} is no host name")]
    HostName {
        /// As given.
        host: String,
    },
    /// TLS was not agreed on, or broke.
    #[error("TLS: {0}")]
    Tls(#[source] rustls::Error),
    /// The socket broke.
    #[error("connection broke: {0}")]
    Socket(#[from] io::Error),
    /// The server closed the connection without a word.
    #[error("the server closed the connection")]
    Closed,
    /// The server refused us, or ended the connection, for this reason.
    #[error("the server refused: {0}")]
    Refused(ReasonCode),
    /// The server did not answer in time.
    #[error("the server does not answer")]
    Silent,
    /// The server broke the protocol.
    #[error("the server broke the protocol: {0}")]
    Protocol(#[source] DecodeError),
    /// What was asked for cannot be asked of this server.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// More than [`KEPT_EVENTS`] events came while an answer was waited for.
    #[error("too many messages came while the server's answer was waited for")]
    TooManyEvents,
}

impl ClientError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { source, port, .. } if source.kind() == ErrorKind::ConnectionRefused => {
                Some(format!("nothing listens on port {port} there: is the broker running?"))
            }
            Self::Closed => {
                Some("a plain connection to a TLS port ends this way, and the other way round".into())
            }
            Self::Refused(ReasonCode::NOT_AUTHORIZED | ReasonCode::BAD_USER_NAME_OR_PASSWORD) => {
                Some("check user name, password or certificate".into())
            }
            _ => None,
        }
    }
}
