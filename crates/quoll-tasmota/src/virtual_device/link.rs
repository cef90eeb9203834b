//! A virtual device's connection to its broker: TCP, perhaps TLS, then MQTT 3.1.1 as Tasmota's PubSubClient speaks it.
//!
//! One attempt from TCP to the end; the machine decides when there is another. QoS 0 out, QoS 0 and 1 in. It speaks
//! `quoll-mqtt` packets directly and not its client: PubSubClient has no session state, no flow control, and pings by
//! rules of its own. Facts §3.5, §6.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use quoll_mqtt::{
    DecodeContext, Decoded, Delivery, Packet, PacketId, ProtocolVersion, QoS, Role, TopicFilter, TopicName,
    decode, encode,
    packet::{Ack, Connect, Publish, Subscribe, Subscription, SubscriptionOptions, Will},
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    time::{Instant as Moment, sleep_until, timeout},
};

use super::{
    Machine, Now,
    run::Shared,
    session::{ConnectPlan, RC_CONNECT_FAILED, RC_DNS, RC_TIMEOUT},
    tls::{TlsConnection, TlsFailure},
};

/// TCP connect on an ESP32. Facts §3.5.
const TCP_PATIENCE: Duration = Duration::from_secs(3);
/// Handshake, since 14.5.0.3.
const TLS_PATIENCE: Duration = Duration::from_secs(10);
/// CONNACK: MqttTimeout.
const CONNACK_PATIENCE: Duration = Duration::from_secs(4);
/// Bytes of an unfinished packet. PubSubClient reads and drops larger packets; nothing sends more to a device.
const PACKET_BYTES: u32 = 64 * 1024;

/// Why a connection ended: a TLS failure, or just so.
type End = Option<TlsFailure>;

/// Runs one attempt, and the connection if it succeeds, to its end.
pub(super) async fn run(device: Arc<Shared>, plan: ConnectPlan) {
    let verdict = |deed: &mut dyn FnMut(&mut Machine, Now)| device.act(|machine, now| deed(machine, now));
    // A refusal of the client certificate in TLS 1.3 style, or a record too long, comes after the handshake.
    let mut wire = match enter(&device, &plan).await {
        Ok(wire) => wire,
        Err(failure) => {
            count(&device, &failure);
            match failure {
                Failure::Tls(failure) => verdict(&mut |machine, now| {
                    machine.tls_failed(failure, now);
                }),
                Failure::Code(code) => verdict(&mut |machine, now| machine.connect_failed(code, now)),
            };
            return;
        }
    };
    let online = device.count_online();
    verdict(&mut |machine, now| machine.connected(now));
    let end = wire.converse(&device, &plan).await;
    drop(online);
    if let Some(failure) = end {
        count(&device, &Failure::Tls(failure));
    }
    verdict(&mut |machine, now| machine.lost(end, now));
}

fn count(device: &Shared, failure: &Failure) {
    let Some(tally) = &device.tally else { return };
    match failure {
        Failure::Tls(TlsFailure::Number(number)) => tally.tls_error(*number),
        Failure::Tls(TlsFailure::Crash) => tally.crash(),
        Failure::Code(code) => tally.return_code(*code),
    }
}

/// From TCP to CONNACK.
async fn enter(device: &Shared, plan: &ConnectPlan) -> Result<Wire, Failure> {
    let mut wire = open(device, plan).await?;
    let admitted = timeout(CONNACK_PATIENCE, wire.introduce(plan)).await;
    admitted.unwrap_or(Err(Failure::Code(RC_TIMEOUT)))?;
    Ok(wire)
}

enum Failure {
    Tls(TlsFailure),
    Code(i32),
}

async fn open(device: &Shared, plan: &ConnectPlan) -> Result<Wire, Failure> {
    // TLS reports what happened below it in its own numbers, too. Facts §7.4.
    let failed = |number: i32, code: i32| match plan.tls {
        Some(_) => Failure::Tls(TlsFailure::Number(number)),
        None => Failure::Code(code),
    };
    let faults = device.with(|machine, _| machine.faults().clone()).unwrap_or_default();
    if plan.tls.is_some() && (faults.no_memory || faults.leaks_memory) {
        return Err(failed(-1000, RC_CONNECT_FAILED));
    }
    let resolved = tokio::net::lookup_host((plan.host.as_str(), plan.port)).await;
    let addresses: Vec<_> = resolved.map_err(|_| failed(-1001, RC_DNS))?.collect();
    if faults.isolated {
        return Err(failed(-1002, RC_CONNECT_FAILED));
    }
    let connecting = timeout(TCP_PATIENCE, reach(device.address(), &addresses));
    let socket = match connecting.await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) if plan.tls.is_some() && error.kind() == ErrorKind::ConnectionRefused => {
            return Err(match faults.crashes_on_refusal {
                true => Failure::Tls(TlsFailure::Crash),
                false => failed(-1002, RC_CONNECT_FAILED),
            });
        }
        _ => return Err(failed(-1002, RC_CONNECT_FAILED)),
    };
    let _ = socket.set_nodelay(true);
    let Some(settings) = plan.tls.clone() else {
        return Ok(Wire::new(Transport::Plain(socket)));
    };
    let began = Instant::now();
    let connection = TlsConnection::open(socket, settings, TLS_PATIENCE).await.map_err(Failure::Tls)?;
    device.act(|machine, now| machine.tls_opened(connection.summary(), began.elapsed(), now));
    Ok(Wire::new(Transport::Tls(Box::new(connection))))
}

/// From the device's own address, where a loopback test has given it one of its own.
async fn reach(own: IpAddr, addresses: &[SocketAddr]) -> std::io::Result<TcpStream> {
    let target = addresses.iter().find(|address| address.ip().is_loopback() && address.is_ipv4());
    match (own, target) {
        (IpAddr::V4(own), Some(target)) if own.is_loopback() && own != Ipv4Addr::LOCALHOST => {
            let socket = TcpSocket::new_v4()?;
            socket.bind((own, 0).into())?;
            socket.connect(*target).await
        }
        _ => TcpStream::connect(addresses).await,
    }
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsConnection>),
}

/// Packets over a transport.
struct Wire {
    transport: Transport,
    pending: Vec<u8>,
}

impl Wire {
    fn new(transport: Transport) -> Self {
        Self { transport, pending: Vec::new() }
    }

    /// CONNECT, CONNACK, SUBSCRIBE.
    async fn introduce(&mut self, plan: &ConnectPlan) -> Result<(), Failure> {
        let closed = |end: End| end.map_or(Failure::Code(RC_CONNECT_FAILED), Failure::Tls);
        let connect = connect(plan).ok_or(Failure::Code(RC_CONNECT_FAILED))?;
        self.send(&[connect]).await.map_err(closed)?;
        match self.receive().await.map_err(closed)? {
            Packet::ConnAck(connack) => match connack.reason.connect_return_code() {
                0 => Ok(()),
                code => Err(Failure::Code(code.into())),
            },
            _ => Err(Failure::Code(RC_CONNECT_FAILED)),
        }
    }

    /// Until the connection ends.
    async fn converse(&mut self, device: &Shared, plan: &ConnectPlan) -> End {
        let subscribes = plan.subscriptions.iter().zip(1..).filter_map(|(filter, id)| subscribe(filter, id));
        let mut packets: Vec<Packet> = subscribes.collect();
        let keep_alive = Duration::from_secs(plan.keep_alive.max(1).into());
        let mut quiet_until = Moment::now() + keep_alive;
        let mut ping_is_out = false;
        loop {
            let waiting = device.with(|machine, _| machine.take_publications()).unwrap_or_default();
            let publications = waiting.into_iter().filter_map(publish);
            // The LWT and the empty POWER go before the subscriptions, as a device does it. Facts §6.3.
            let subscriptions = std::mem::take(&mut packets);
            let mut out: Vec<Packet> = publications.collect();
            let first = out.len().min(2);
            out.splice(first..first, subscriptions);
            if !out.is_empty() {
                if let Err(end) = self.send(&out).await {
                    return end;
                }
                quiet_until = Moment::now() + keep_alive;
            }
            tokio::select! {
                packet = self.receive() => {
                    quiet_until = Moment::now() + keep_alive;
                    match packet {
                        Ok(Packet::Publish(message)) => packets.extend(heard(device, &message)),
                        Ok(Packet::PingResp) => ping_is_out = false,
                        Ok(Packet::Disconnect(_)) => return None,
                        Ok(_) => {}
                        Err(end) => return end,
                    }
                }
                () = device.mail.notified() => {}
                () = sleep_until(quiet_until) => {
                    if ping_is_out {
                        return None;
                    }
                    if device.with(|machine, _| machine.faults().sends_no_pings) != Some(true) {
                        packets.push(Packet::PingReq);
                        ping_is_out = true;
                    }
                    quiet_until = Moment::now() + keep_alive;
                }
            }
        }
    }

    async fn send(&mut self, packets: &[Packet]) -> Result<(), End> {
        // One write for each packet, as PubSubClient does: no two packets share a record.
        for packet in packets {
            let mut bytes = Vec::new();
            encode(packet, ProtocolVersion::V311, &mut bytes).map_err(|_| None)?;
            match &mut self.transport {
                Transport::Plain(socket) => socket.write_all(&bytes).await.map_err(|_| None)?,
                Transport::Tls(connection) => connection.write(&bytes).await.map_err(|_| None)?,
            }
        }
        Ok(())
    }

    /// The next packet. Safe to cancel: what was read stays in `pending`.
    async fn receive(&mut self) -> Result<Packet, End> {
        let context = DecodeContext {
            version: Some(ProtocolVersion::V311),
            maximum_packet_size: PACKET_BYTES,
            role: Role::Client,
        };
        loop {
            if let Decoded::Packet(packet, length) = decode(&self.pending, &context).map_err(|_| None)? {
                self.pending.drain(..length);
                return Ok(packet);
            }
            let read = match &mut self.transport {
                Transport::Plain(socket) => read_now(socket).await.map_err(|_| None)?,
                Transport::Tls(connection) => connection.read().await.map_err(Some)?,
            };
            if read.is_empty() {
                return Err(None);
            }
            self.pending.extend(read);
        }
    }
}

/// What has come; empty at the end. The buffer is not part of the waiting task: a fleet of thousands waits here.
async fn read_now(socket: &TcpStream) -> std::io::Result<Vec<u8>> {
    loop {
        socket.readable().await?;
        let mut buffer = [0; 4096];
        match socket.try_read(&mut buffer) {
            Ok(length) => return Ok(buffer[..length].to_vec()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Hands a message to the machine; a QoS 1 message is acknowledged.
fn heard(device: &Shared, message: &Publish) -> Option<Packet> {
    if let Some(topic) = &message.topic {
        device.act(|machine, now| machine.message(topic.as_str(), &message.payload, now));
    }
    match message.delivery {
        Delivery::AtLeastOnce(id) => Some(Packet::PubAck(Ack {
            packet_id: id,
            reason: quoll_mqtt::ReasonCode::SUCCESS,
            properties: None,
        })),
        _ => None,
    }
}

fn connect(plan: &ConnectPlan) -> Option<Packet> {
    let will = Will {
        topic: TopicName::parse(&plan.will_topic).ok()?,
        payload: "Offline".into(),
        qos: QoS::AtLeastOnce,
        retain: plan.will_retain,
        properties: Default::default(),
    };
    Some(Packet::Connect(Box::new(Connect {
        version: ProtocolVersion::V311,
        bridge: false,
        client_id: plan.client.clone(),
        clean_start: plan.clean_session,
        keep_alive: plan.keep_alive,
        will: Some(will),
        username: plan.login.as_ref().map(|(user, _)| user.clone()),
        password: plan.login.as_ref().map(|(_, password)| password.clone().into()),
        properties: Default::default(),
    })))
}

fn subscribe(filter: &str, id: u16) -> Option<Packet> {
    let options = SubscriptionOptions { qos: QoS::AtMostOnce, ..Default::default() };
    Some(Packet::Subscribe(Box::new(Subscribe {
        packet_id: PacketId::new(id)?,
        subscriptions: vec![Subscription { filter: TopicFilter::parse(filter).ok()?, options }],
        properties: Default::default(),
    })))
}

fn publish(publication: super::session::Publication) -> Option<Packet> {
    Some(Packet::Publish(Publish {
        dup: false,
        retain: publication.retain,
        delivery: Delivery::AtMostOnce,
        topic: Some(TopicName::parse(&publication.topic).ok()?),
        payload: publication.payload.into(),
        properties: None,
    }))
}
