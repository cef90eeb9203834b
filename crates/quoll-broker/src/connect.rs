//! CONNECT: a client comes, and finds its session or a new one (§3.1, §4.1).
//!
//! Who it is was settled at the door: the admission says it. Here it is settled whether the identifier is its to use, what
//! becomes of an older connection and an older session, and what both sides agree on.

use std::sync::Arc;

use quoll_mqtt::packet::{ConnAck, ConnAckProperties, Connect, Packet, Will};
use quoll_mqtt::{ProtocolVersion, QoS, ReasonCode};

use crate::alias::Extraordinary;
use crate::change::Change;
use crate::deliver::pump;
use crate::limits;
use crate::session::{NEVER_EXPIRES, Session};
use crate::shard::{Line, NOBODY, Shard};
use crate::vocabulary::{Arrival, ConnId, Departure, Effect, Event, Farewell, Outbox};
use crate::will::LastWord;

impl Shard {
    /// Takes a client in or refuses it. Nothing comes before CONNACK [MQTT-3.2.0-1]: what an older connection leaves behind, its
    /// will, may be for the one that comes, so it is routed last.
    pub(crate) fn connect(&mut self, arrival: Arrival, out: &mut Outbox) {
        let begun = out.len();
        self.take_in(arrival, out);
        out[begun..].sort_by_key(|effect| matches!(effect, Effect::Route(_)));
    }

    fn take_in(&mut self, arrival: Arrival, out: &mut Outbox) {
        let Arrival { conn, connect, admission } = arrival;
        self.clear_line(conn, out);
        self.recalled.clear();
        let (client_id, assigned) = match self.client_id(&connect, admission.client_id) {
            Ok(named) => named,
            Err(reason) => return self.refuse(conn, connect.version, connect.client_id.into(), reason, out),
        };
        let known = self.by_client.get(&client_id).copied();
        // Another's session is never resumed, read or ended by its identifier: our choice, since the standard
        // leaves it to "the Client" whose identifier it is, and identifiers are guessable.
        let stranger = known.is_some_and(|key| !self.sessions[key as usize].belongs_to(&admission.identity));
        let verdict =
            if stranger { Err(ReasonCode::NOT_AUTHORIZED) } else { self.acceptable(&connect, known) };
        if let Err(reason) = verdict {
            return self.refuse(conn, connect.version, client_id, reason, out);
        }

        let kept = known.and_then(|key| self.take_over(key, connect.clean_start, out));
        let key = kept.unwrap_or_else(|| {
            let identity = admission.identity.clone();
            self.admit(Session::new(client_id.clone(), identity, admission.grants.clone(), self.now))
        });
        let answer = self.agree(key, &connect, assigned);
        let was_kept = kept.is_some() && self.sessions[key as usize].is_kept();
        let session = &mut self.sessions[key as usize];
        session.identity = admission.identity;
        session.grants = admission.grants;
        session.version = connect.version;
        session.is_bridge = connect.bridge;
        session.expiry = self.settings.session_expiry(&connect);
        session.last_word = connect.will.map(|will| {
            let number = self.dice.roll();
            let source = self.settings.check_retain_source.then(|| session.identity.name.clone());
            Box::new(LastWord::new(will, session.client_id.clone(), source, number))
        });
        session.conn = Some(conn);
        session.incoming.begin_connection();
        session.heard = self.now;
        self.lines[conn.index as usize].session = key;
        self.stats.connections += 1;
        self.stats.connects += 1;
        match (was_kept, session.is_kept()) {
            (_, true) => out.push(Effect::Keep(session.fact())),
            (true, false) => {
                let client_id = session.client_id.clone();
                out.push(Effect::Keep(Change::SessionEnded { client_id }));
            }
            (false, false) => {}
        }
        self.lodge_last_word(key, out);
        let session = &mut self.sessions[key as usize];
        let ack =
            ConnAck { session_present: kept.is_some(), reason: ReasonCode::SUCCESS, properties: answer };
        let ack = Packet::ConnAck(Box::new(ack));
        let is_welcome = fits(&ack, connect.version, connect.properties.maximum_packet_size);
        if is_welcome {
            out.push(Effect::Send(conn, ack));
        }
        out.push(Effect::Tell(Event::Connected {
            conn,
            client_id: session.client_id.clone(),
            identity: session.identity.clone(),
            version: session.version,
            keep_alive: session.keep_alive,
            session_present: kept.is_some(),
        }));
        self.deadlines.watch(key, session);
        if !is_welcome {
            // Without the limits in CONNACK it would believe others; so it gets no answer at all.
            return self.close(key, Farewell::Silent, Departure::Closed(ReasonCode::PACKET_TOO_LARGE), out);
        }
        if kept.is_some() {
            self.vet(key);
            self.tell_groups(key, true, out);
            pump(&mut self.sessions[key as usize], &mut self.stats, self.now, out);
        }
    }

    /// The coat gives numbers away again: whoever had this one is gone.
    fn clear_line(&mut self, conn: ConnId, out: &mut Outbox) {
        let at = conn.index as usize;
        if self.lines.len() <= at {
            self.lines.resize(at + 1, Line { generation: 0, session: NOBODY });
        }
        let old = self.lines[at].session;
        if old != NOBODY {
            self.depart(old, Departure::Lost, out);
        }
        self.lines[at] = Line { generation: conn.generation, session: NOBODY };
    }

    fn refuse(
        &mut self,
        conn: ConnId,
        version: ProtocolVersion,
        client_id: Arc<str>,
        reason: ReasonCode,
        out: &mut Outbox,
    ) {
        self.stats.refusals += 1;
        // As with Mosquitto: a will too deep is no CONNECT, and of a will that this server cannot carry 3.x has no code to say so.
        let is_answered = match reason {
            ReasonCode::TOPIC_NAME_INVALID => false,
            ReasonCode::QOS_NOT_SUPPORTED | ReasonCode::RETAIN_NOT_SUPPORTED => {
                version == ProtocolVersion::V5
            }
            _ => true,
        };
        let farewell = if is_answered { Farewell::Refuse(reason) } else { Farewell::Silent };
        out.push(Effect::Close(conn, farewell));
        out.push(Effect::Tell(Event::Refused { conn, client_id, reason }));
    }

    /// The identifier in force, and whether we chose it (§3.1.3.1).
    fn client_id(
        &mut self,
        connect: &Connect,
        imposed: Option<Arc<str>>,
    ) -> Result<(Arc<str>, bool), ReasonCode> {
        if let Some(imposed) = imposed {
            return Ok((imposed, false));
        }
        if connect.client_id.len() > limits::CLIENT_ID {
            return Err(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
        }
        if !connect.client_id.is_empty() {
            return Ok((connect.client_id.as_str().into(), false));
        }
        // 3.1 knows no empty identifier, 3.1.1 only with a clean session [MQTT-3.1.3-7 of 3.1.1].
        let allowed = match connect.version {
            ProtocolVersion::V31 => false,
            ProtocolVersion::V311 => connect.clean_start,
            ProtocolVersion::V5 => true,
        };
        if !allowed || !self.settings.allow_zero_length_clientid {
            return Err(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
        }
        loop {
            let name = self.dice.client_id(&self.settings.auto_id_prefix);
            if !self.by_client.contains_key(name.as_str()) {
                return Ok((name.into(), true));
            }
        }
    }

    /// What is asked for, against what there is.
    fn acceptable(&self, connect: &Connect, known: Option<u32>) -> Result<(), ReasonCode> {
        // No enhanced authentication is set up: any method is unknown [MQTT-4.12.0-1].
        if connect.properties.authentication_method.is_some() {
            return Err(ReasonCode::BAD_AUTHENTICATION_METHOD);
        }
        let cap = self.settings.max_keepalive;
        let too_long = cap > 0 && (connect.keep_alive == 0 || connect.keep_alive > cap);
        if too_long && connect.version != ProtocolVersion::V5 {
            // A 3.x client cannot be told another one; Mosquitto refuses with return code 2 too.
            return Err(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
        }
        if let Some(will) = &connect.will {
            self.acceptable_will(will)?;
        }
        if known.is_none() && self.sessions.len() >= self.settings.max_sessions as usize {
            return Err(ReasonCode::SERVER_BUSY);
        }
        Ok(())
    }

    fn acceptable_will(&self, will: &Will) -> Result<(), ReasonCode> {
        let limit = self.settings.message_size_limit as usize;
        if will.qos > self.settings.max_qos {
            return Err(ReasonCode::QOS_NOT_SUPPORTED); // [MQTT-3.2.2-12]
        }
        if will.retain && !self.settings.retain_available {
            return Err(ReasonCode::RETAIN_NOT_SUPPORTED); // [MQTT-3.2.2-13]
        }
        if limit > 0 && will.payload.len() > limit {
            return Err(ReasonCode::PACKET_TOO_LARGE);
        }
        if limits::is_too_deep(will.topic.as_str()) {
            return Err(ReasonCode::TOPIC_NAME_INVALID);
        }
        if will.properties.user_properties.len() > limits::USER_PROPERTIES {
            return Err(ReasonCode::QUOTA_EXCEEDED);
        }
        Ok(())
    }

    /// Ends the older connection of a client that connects again [MQTT-3.1.4-3], and its session if that is wanted or
    /// was not to outlive the connection [MQTT-3.1.2-4]. Returns the session to go on with.
    fn take_over(&mut self, key: u32, clean_start: bool, out: &mut Outbox) -> Option<u32> {
        let reason = ReasonCode::SESSION_TAKEN_OVER;
        self.close(key, Farewell::Disconnect(reason), Departure::TakenOver, out);
        let alive = self.sessions.get(key as usize)?;
        if clean_start || alive.ends_at() <= self.now {
            self.end_session(key, out);
            return None;
        }
        let session = &mut self.sessions[key as usize];
        // Back before it was due: the will is not said (§3.1.3.2.2).
        session.last_word = None;
        session.settle_will(out);
        Some(key)
    }

    pub(crate) fn admit(&mut self, session: Session) -> u32 {
        let client_id = session.client_id.clone();
        let key = u32::try_from(self.sessions.insert(session)).expect("sessions are bounded by the settings");
        self.by_client.insert(client_id, key);
        key
    }

    /// Limits in force on this connection, and what a 5.0 client is told of them (§3.2.2.3).
    fn agree(&mut self, key: u32, connect: &Connect, assigned: bool) -> ConnAckProperties {
        let settings = &self.settings;
        let session = &mut self.sessions[key as usize];
        let asked = &connect.properties;
        let cap = settings.max_keepalive;
        let capped = cap > 0 && (connect.keep_alive == 0 || connect.keep_alive > cap);
        session.keep_alive = if capped { cap } else { connect.keep_alive };
        session.window = settings.window().min(asked.receive_maximum.unwrap_or(u16::MAX)).max(1);
        session.window_bytes =
            if settings.max_inflight_bytes == 0 { u32::MAX } else { settings.max_inflight_bytes };
        session.is_congested = false;
        session.extraordinary = None;
        if connect.version != ProtocolVersion::V5 {
            return ConnAckProperties::default();
        }
        let aliases = asked.topic_alias_maximum.unwrap_or(0).min(settings.max_topic_alias_broker);
        if aliases > 0 || asked.maximum_packet_size.is_some() {
            session.extraordinary = Some(Box::new(Extraordinary::new(asked.maximum_packet_size, aliases)));
        }
        let expiry = settings.session_expiry(connect);
        let some_if = |condition: bool, value: u32| condition.then_some(value);
        ConnAckProperties {
            session_expiry_interval: some_if(expiry != asked.session_expiry_interval.unwrap_or(0), expiry),
            receive_maximum: Some(settings.window()).filter(|window| *window < u16::MAX),
            maximum_qos: Some(settings.max_qos).filter(|qos| *qos < QoS::ExactlyOnce),
            retain_available: (!settings.retain_available).then_some(false),
            maximum_packet_size: some_if(settings.max_packet_size > 0, settings.max_packet_size),
            assigned_client_identifier: assigned.then(|| session.client_id.to_string()),
            topic_alias_maximum: Some(settings.max_topic_alias).filter(|aliases| *aliases > 0),
            server_keep_alive: capped.then_some(cap),
            ..ConnAckProperties::default()
        }
    }
}

impl crate::settings::ShardSettings {
    /// Seconds that the session of this CONNECT may live without a connection.
    fn session_expiry(&self, connect: &Connect) -> u32 {
        let asked = match (connect.version, connect.clean_start) {
            (ProtocolVersion::V5, _) => connect.properties.session_expiry_interval.unwrap_or(0),
            (_, true) => 0,
            (_, false) => NEVER_EXPIRES,
        };
        self.cap_expiry(asked)
    }

    /// Below `persistent_client_expiration` where that is set.
    pub(crate) fn cap_expiry(&self, asked: u32) -> u32 {
        match self.persistent_client_expiration {
            Some(cap) => asked.min(u32::try_from(cap.as_secs()).unwrap_or(NEVER_EXPIRES)),
            None => asked,
        }
    }
}

/// Whether a packet is no larger than the client takes [MQTT-3.1.2-24].
fn fits(packet: &Packet, version: ProtocolVersion, limit: Option<u32>) -> bool {
    let Some(limit) = limit else { return true };
    let mut bytes = Vec::new();
    quoll_mqtt::encode(packet, version, &mut bytes).is_ok() && bytes.len() <= limit as usize
}
