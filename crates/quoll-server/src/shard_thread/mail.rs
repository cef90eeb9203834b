//! What lies in the letter box: letters, newcomers, orders, questions, the end.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use mio::Interest;
use mio::net::TcpStream;
use quoll_broker::ShardSettings;
use quoll_broker::vocabulary::{Admission, Arrival, Identity, Input, Order};
use quoll_mqtt::packet::{
    Connect, ConnectProperties, Packet, Subscribe, SubscribeProperties, Subscription, SubscriptionOptions,
};
use quoll_mqtt::{PacketId, ProtocolVersion, ReasonCode};
use tokio::sync::oneshot;

use super::{ShardThread, table, tell::Greeting};
use crate::arrivals::NOWHERE;
use crate::authentication::LiveMethod;
use crate::connection::{Connection, Edge, Line, Phase, Who};
use crate::events::{ConnectionInfo, ServerEvent, Stats};
use crate::log::{CONNECTION, shown};
use crate::post::{Attachment, Inhabitant, Mail, Newcomer};
use crate::sessions::{Subscriber, Wanted};

impl ShardThread {
    pub(super) fn take_mail(&mut self) {
        let mut mail = std::mem::take(&mut self.mail);
        let common = Arc::clone(&self.common);
        common.boxes[usize::from(self.id.0)].take(&mut mail);
        for piece in mail.drain(..) {
            match piece {
                Mail::Letter(letter) => self.guarded(None, |thread| thread.input(Input::Letter(letter))),
                Mail::Kept(key, letter) => self.take_letter(key, letter),
                Mail::Newcomer(newcomer) => self.welcome(*newcomer),
                Mail::Inhabitant(inhabitant) => self.take_in(*inhabitant),
                Mail::Order(order, answer) => self.obey(order, answer),
                Mail::Snapshot(answer) => {
                    let _ = answer.send((self.connected(), self.stats()));
                }
                Mail::ClientsOf(wanted, answer) => {
                    let _ = answer.send(self.clients_of(&wanted));
                }
                Mail::Sessions(answer) => {
                    let _ = answer.send(self.subscribers());
                }
                Mail::Session(client_id, answer) => {
                    let session = self.shard.session(&client_id).map(|session| self.subscriber(session));
                    let _ = answer.send(session);
                }
                Mail::Stats(answer) => {
                    let _ = answer.send(self.stats());
                }
                Mail::Vet(answer) => self.vet(answer),
                Mail::Attach(attachment) => self.attach(*attachment),
                Mail::Hush(quiet) => {
                    self.hushed = true;
                    self.hushes.push(quiet);
                }
                Mail::Stop(until) => self.stop(until),
            }
            self.flush_brimming();
        }
        self.mail = mail;
    }

    /// Takes over a client from the arrivals, and reads it once: an edge may have been missed.
    fn welcome(&mut self, newcomer: Newcomer) {
        let Newcomer { socket, tls, web, settings, plain, connect, admission, assigned, agreed, .. } =
            newcomer;
        let Newcomer { peer, seat, credential, .. } = newcomer;
        let named = admission.client_id.clone().unwrap_or_else(|| connect.client_id.as_str().into());
        // Between the handshake and now its certificate may have been revoked: the order to expel it found nobody then.
        let revoked =
            credential.is_some_and(|it| seat.listener().live().is_some_and(|live| live.is_revoked(&it)));
        if revoked {
            let _ = self.common.events.send(ServerEvent::Refused {
                peer,
                listener: Arc::clone(seat.listener().name()),
                client_id: Arc::clone(&named),
                username: connect.username.clone(),
                credential,
                reason: ReasonCode::NOT_AUTHORIZED,
            });
            tracing::info!(target: CONNECTION, "Client {} disconnected, not authorised.", shown(&named));
        }
        if revoked || self.failed || self.hushed || self.stopping.is_some() {
            return self.common.placement.arrived(&named);
        }
        let mut socket = TcpStream::from_std(socket);
        let conn = self.table.next();
        if let Err(error) = self.registry.register(&mut socket, table::to_token(conn), Interest::READABLE) {
            tracing::error!(%peer, %error, "a socket cannot be waited for");
            return self.common.placement.arrived(&named);
        }
        self.arriving = self.log.then(|| Greeting::of(&connect, &admission.identity));
        self.assigned = assigned.then(|| Arc::clone(&named));
        let who = Box::new(Who {
            client_id: Arc::clone(&named),
            identity: Arc::clone(&admission.identity.name),
            credential: admission.identity.credential.map(Box::new),
            peer,
            seat: Some(seat),
            since: unix_seconds(),
        });
        let version = connect.version;
        let terms = settings.terms.concern_packets().then(|| Arc::new(settings.terms.clone()));
        self.has_mounts |= settings.terms.mount_point.is_some();
        let method = agreed.as_deref().map(LiveMethod::of);
        let has_edge = web.is_some() || terms.is_some() || method.is_some();
        let is_bare = tls.is_none() && !has_edge;
        let edge = has_edge.then(|| Box::new(Edge { web: web.map(|web| *web), terms, method }));
        self.agreed = agreed;
        self.table.insert(connection(Line::Socket { socket, tls }, edge, who, version));
        self.guarded(Some(conn), |thread| {
            thread.input(Input::Connect(Box::new(Arrival { conn, connect, admission })));
            let used = thread.frames(conn, &plain, true);
            thread.keep_rest(conn, &plain, used);
            // The next poll tells what lies in the socket since before it was registered; what lies in TLS or in frames of
            // WebSocket, nothing tells.
            if !is_bare || thread.has_frames(conn) {
                thread.read_now(conn, false);
            }
        });
        self.arriving = None;
        self.assigned = None;
        self.agreed = None;
        self.common.placement.arrived(&named);
    }

    /// Takes in a client of this process. Nobody announces it, and its packets are logged by whoever speaks for it.
    fn take_in(&mut self, inhabitant: Inhabitant) {
        let Inhabitant { socket, connect, admission } = inhabitant;
        let client_id: Arc<str> = connect.client_id.as_str().into();
        if !self.failed && self.stopping.is_none() {
            let mut socket = TcpStream::from_std(socket);
            let conn = self.table.next();
            match self.registry.register(&mut socket, table::to_token(conn), Interest::READABLE) {
                Err(error) => tracing::error!(%client_id, %error, "a socket cannot be waited for"),
                Ok(()) => {
                    let who = Box::new(Who {
                        client_id: Arc::clone(&client_id),
                        identity: Arc::clone(&admission.identity.name),
                        credential: None,
                        peer: NOWHERE,
                        seat: None,
                        since: unix_seconds(),
                    });
                    let line = Line::Socket { socket, tls: None };
                    self.table.insert(connection(line, None, who, connect.version));
                    self.guarded(Some(conn), |thread| {
                        thread.input(Input::Connect(Box::new(Arrival { conn, connect, admission })));
                        thread.read_now(conn, false);
                    });
                }
            }
        }
        self.common.placement.arrived(&client_id);
    }

    fn obey(&mut self, order: Order, answer: Option<oneshot::Sender<usize>>) {
        self.closed_by_order = 0;
        if let Order::Settings(settings) = &order {
            self.max_packet_size = packet_limit(settings);
        }
        self.guarded(None, |thread| thread.input(Input::Order(order)));
        if let Some(answer) = answer {
            self.answers.push((answer, self.closed_by_order));
        }
    }

    fn clients_of(&self, wanted: &Wanted) -> Vec<(Arc<str>, Arc<str>)> {
        let wanted = self.shard.sessions().filter(|session| wanted(&session.identity.name));
        wanted.map(|session| (session.client_id, session.identity.name)).collect()
    }

    fn subscribers(&self) -> Vec<Subscriber> {
        self.shard.sessions().map(|session| self.subscriber(session)).collect()
    }

    fn subscriber(&self, session: quoll_broker::SessionView) -> Subscriber {
        let subscriptions = self.shard.subscriptions(&session.client_id);
        Subscriber { session, subscriptions }
    }

    fn vet(&mut self, answer: oneshot::Sender<usize>) {
        let is_revoked = |who: &Who| {
            let credential = who.credential.as_deref()?;
            let live = who.seat.as_ref()?.listener().live()?;
            live.is_revoked(credential).then_some(*credential)
        };
        let revoked: HashSet<[u8; 32]> =
            self.table.connections().filter_map(|connection| is_revoked(&connection.who)).collect();
        self.closed_by_order = 0;
        for credential in revoked {
            let order = Order::Expel { credential, reason: ReasonCode::NOT_AUTHORIZED };
            self.guarded(None, |thread| thread.input(Input::Order(order)));
        }
        self.answers.push((answer, self.closed_by_order));
    }

    fn connected(&self) -> Vec<ConnectionInfo> {
        let announced = self.table.connections().filter(|it| it.announced);
        announced.map(|it| it.who.info(it.version, self.id)).collect()
    }

    fn stats(&self) -> Stats {
        // Whoever has a line stands in one of these lists: no walk over all connections, each second.
        let mut behind = [&self.dirty[..], &self.gated, &self.stalled].concat();
        behind.sort_unstable();
        behind.dedup();
        let lines = behind.into_iter().filter_map(|conn| self.table.get(conn)?.out.as_ref());
        let lines = lines.map(|out| out.queue());
        let (packets_waiting, bytes_waiting) =
            lines.fold((0, 0), |(packets, bytes), (more, size)| (packets + more, bytes + size));
        Stats {
            rules: self.shard.stats(),
            packets_waiting,
            bytes_waiting,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            packets_out: self.packets_out,
            attached: self.table.connections().filter(|it| matches!(it.line, Line::Local(_))).count() as u64,
            panics: self.panics,
            ..Stats::default()
        }
    }

    /// Lets somebody of this process subscribe: a client without a socket.
    fn attach(&mut self, attachment: Attachment) {
        let Attachment { client_id, grants, filters, messages } = attachment;
        let who = Box::new(Who {
            client_id: Arc::clone(&client_id),
            identity: "".into(),
            credential: None,
            peer: NOWHERE,
            seat: None,
            since: unix_seconds(),
        });
        let conn = self.table.insert(connection(Line::Local(messages), None, who, ProtocolVersion::V5));
        let connect = Connect {
            version: ProtocolVersion::V5,
            bridge: false,
            client_id: client_id.as_ref().into(),
            clean_start: true,
            keep_alive: 0,
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties::default(),
        };
        let identity = Identity { name: "".into(), credential: None };
        let admission = Admission { identity, grants, client_id: None };
        let subscribe = Subscribe {
            packet_id: PacketId::new(1).expect("1 is not 0"),
            subscriptions: filters
                .into_iter()
                .map(|filter| Subscription { filter, options: SubscriptionOptions::default() })
                .collect(),
            properties: SubscribeProperties::default(),
        };
        self.guarded(Some(conn), |thread| {
            thread.input(Input::Connect(Box::new(Arrival { conn, connect, admission })));
            thread.input(Input::Packet(conn, Packet::Subscribe(Box::new(subscribe))));
        });
    }

    fn stop(&mut self, until: Instant) {
        self.stopping = Some(until);
        // What is read from now on is but looked through for the peers' ends.
        self.hushed = false;
        self.guarded(None, |thread| thread.input(Input::Order(Order::ShutDown)));
    }
}

/// The largest packet that is read.
pub(crate) const fn packet_limit(settings: &ShardSettings) -> u32 {
    if settings.max_packet_size == 0 { u32::MAX } else { settings.max_packet_size }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

const fn connection(
    line: Line,
    edge: Option<Box<Edge>>,
    who: Box<Who>,
    version: ProtocolVersion,
) -> Connection {
    Connection {
        line,
        edge,
        partial: Vec::new(),
        out: None,
        who,
        version,
        phase: Phase::Open,
        dirty: false,
        announced: false,
        leaving: false,
        has_frames: false,
        in_line: None,
    }
}
