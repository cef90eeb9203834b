//! A bridge's local half: a session of this broker like any other, reached through a pair of connected sockets in this
//! process. So queues, levels, retained messages, permissions, the journal's promises and the way slow readers are dealt with
//! are the same for it as for every client.

use std::io;
use std::time::Duration;

use quoll_broker::vocabulary::Admission;
use quoll_mqtt::decode::Role;
use quoll_mqtt::packet::{Connect, ConnectProperties, Packet, RetainHandling, Unsubscribe};
use quoll_mqtt::{DecodeContext, Decoded, PacketId, ProtocolVersion, QoS, TopicFilter, decode, encode};
use tokio::net::TcpStream;

use super::Bridge;
use super::link::subscribe_here;
use super::wire::Wire;
use crate::post::{Inhabitant, Mail};
use crate::server::Handle;
use crate::sessions::Subscriber;

/// How long this broker may take to answer its own bridge.
const PATIENCE: Duration = Duration::from_secs(10);

impl Handle {
    /// Connects the local half of a bridge; CONNECT is said. `receive_maximum`: messages at a time (5.0).
    pub(super) fn enter(
        &self,
        bridge: &Bridge,
        version: ProtocolVersion,
        clean: bool,
        receive_maximum: Option<u16>,
    ) -> io::Result<Wire> {
        let (ours, theirs) = pair()?;
        let is_5 = version == ProtocolVersion::V5;
        let properties = ConnectProperties {
            session_expiry_interval: (is_5 && bridge.is_kept_here()).then_some(u32::MAX),
            receive_maximum: receive_maximum.filter(|_| is_5),
            ..ConnectProperties::default()
        };
        let connect = Connect {
            version,
            bridge: !is_5,
            client_id: bridge.configuration.local.client_id.clone(),
            // In 3.x it also says whether the session is kept.
            clean_start: clean && (is_5 || !bridge.is_kept_here()),
            keep_alive: 0,
            will: None,
            username: bridge.configuration.local.username.clone(),
            password: None,
            properties,
        };
        let identity = bridge.identity();
        let client_id = connect.client_id.as_str().into();
        let shard = self.0.hall.placement.place(&client_id);
        let admission = Admission { identity, grants: bridge.grants.clone(), client_id: Some(client_id) };
        let inhabitant = Inhabitant { socket: theirs, connect, admission };
        self.0.hall.boxes[usize::from(shard.0)].put(Mail::Inhabitant(Box::new(inhabitant)));
        ours.set_nonblocking(true)?;
        Ok(Wire::new(TcpStream::from_std(ours)?, None))
    }

    /// The session of a client, if there is one.
    pub(super) async fn session(&self, client_id: &str) -> Option<Subscriber> {
        self.ask(|answer| Mail::Session(client_id.into(), answer)).await.into_iter().flatten().next()
    }

    /// Makes the local session if it is to wait for messages while the bridge is away, with the subscriptions that it has
    /// now and no others.
    pub(super) async fn settle(&self, bridge: &Bridge, clean: bool) -> Result<(), String> {
        let client_id = &bridge.configuration.local.client_id;
        let known = if clean { None } else { self.session(client_id).await };
        let wanted = bridge.wanted_here();
        let (mut missing, mut unwanted) = (wanted.clone(), Vec::new());
        if let Some(known) = known {
            let is_own = known.session.identity == bridge.identity();
            missing.retain(|(filter, qos)| {
                !known.subscriptions.iter().any(|(own, options)| own == filter && options.qos == *qos)
            });
            let has = |filter: &TopicFilter| wanted.iter().any(|(it, _)| it == filter);
            unwanted = known.subscriptions.into_iter().map(|(own, _)| own).filter(|own| !has(own)).collect();
            if is_own && missing.is_empty() && unwanted.is_empty() {
                let name = bridge.identity().name;
                self.regrant_client(&client_id.as_str().into(), &name, &bridge.grants);
                return Ok(());
            }
        }
        let changed = tokio::time::timeout(PATIENCE, self.change(bridge, clean, missing, unwanted)).await;
        changed.unwrap_or_else(|_| Err("it does not answer".into()))
    }

    /// Ends the local session: nothing waits for the bridge any more.
    pub(super) async fn forget(&self, bridge: &Bridge) -> Result<(), String> {
        let mut gone = bridge.clone();
        gone.configuration.local.clean_session = true;
        gone.configuration.start = crate::mosquitto::bridge::Start::Automatic;
        let changed = self.change(&gone, true, Vec::new(), Vec::new());
        tokio::time::timeout(PATIENCE, changed).await.unwrap_or_else(|_| Err("it does not answer".into()))
    }

    async fn change(
        &self,
        bridge: &Bridge,
        clean: bool,
        missing: Vec<(TopicFilter, QoS)>,
        unwanted: Vec<TopicFilter>,
    ) -> Result<(), String> {
        // One message at a time, which is left for the bridge's own connection.
        let wire = self.enter(bridge, ProtocolVersion::V5, clean, Some(1));
        let mut wire = wire.map_err(|error| error.to_string())?;
        let mut packets = Vec::new();
        let mut awaited = 1;
        if !missing.is_empty() {
            let subscribe = subscribe_here(missing, QoS::ExactlyOnce, RetainHandling::DoNotSend);
            packets.push(Packet::Subscribe(Box::new(subscribe)));
        }
        if !unwanted.is_empty() {
            let packet_id = PacketId::new(1).expect("not 0");
            let unsubscribe = Unsubscribe { packet_id, filters: unwanted, user_properties: Vec::new() };
            packets.push(Packet::Unsubscribe(Box::new(unsubscribe)));
        }
        for packet in &packets {
            awaited += 1;
            encode(packet, ProtocolVersion::V5, wire.out()).map_err(|error| error.to_string())?;
        }
        let context = DecodeContext {
            version: Some(ProtocolVersion::V5),
            maximum_packet_size: u32::MAX,
            role: Role::Client,
        };
        let mut unfinished = Vec::new();
        while awaited > 0 {
            wire.ready(true).await.map_err(|error| error.to_string())?;
            wire.write().map_err(|error| error.to_string())?;
            let is_open = wire.read(&mut unfinished).map_err(|error| error.to_string())?;
            let mut used = 0;
            while let Decoded::Packet(packet, length) =
                decode(&unfinished[used..], &context).map_err(|error| error.to_string())?
            {
                used += length;
                match packet {
                    Packet::ConnAck(answer) if answer.reason.is_failure() => {
                        return Err(answer.reason.to_string());
                    }
                    Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) => awaited -= 1,
                    Packet::Disconnect(farewell) => return Err(farewell.reason.to_string()),
                    _ => {}
                }
            }
            unfinished.drain(..used);
            if !is_open && awaited > 0 {
                return Err("it closed the connection".into());
            }
        }
        Ok(())
    }
}

/// Two sockets, connected to each other and to nobody else.
#[cfg(unix)]
fn pair() -> io::Result<(std::net::TcpStream, std::net::TcpStream)> {
    use std::os::fd::OwnedFd;
    // The type is TCP's and the sockets are not: what is asked of them, both have. See `arrivals`.
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    theirs.set_nonblocking(true)?;
    Ok((OwnedFd::from(ours).into(), OwnedFd::from(theirs).into()))
}

#[cfg(not(unix))]
fn pair() -> io::Result<(std::net::TcpStream, std::net::TcpStream)> {
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    let ours = std::net::TcpStream::connect(listener.local_addr()?)?;
    loop {
        let (theirs, peer) = listener.accept()?;
        if peer == ours.local_addr()? {
            theirs.set_nonblocking(true)?;
            theirs.set_nodelay(true)?;
            ours.set_nodelay(true)?;
            return Ok((ours, theirs));
        }
    }
}
