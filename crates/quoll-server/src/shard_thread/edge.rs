//! A listener's own terms, applied to packets of connections that came by it. See [`crate::terms`].

use quoll_broker::vocabulary::{ConnId, Input, Order, Outgoing};
use quoll_mqtt::packet::{Ack, ConnAck, Packet};
use quoll_mqtt::{Delivery, ReasonCode, encode};

use super::ShardThread;
use crate::authentication::Agreed;
use crate::connection::{Connection, Phase};
use crate::terms::Terms;

impl ShardThread {
    /// Hands on a packet of a connection whose terms want to see it first, or of any while packets are logged.
    pub(super) fn packet_at_edge(&mut self, conn: ConnId, terms: Option<&Terms>, mut packet: Packet) {
        if self.verbose
            && let Some(connection) = self.table.get_mut(conn)
            && connection.who.seat.is_some()
        {
            let client = connection.who.client_id.clone();
            self.say_received(&client, &packet);
        }
        match terms.map_or(Ok(()), |terms| terms.apply_to(&mut packet)) {
            Ok(()) => self.packet(conn, packet),
            Err(reason) => {
                let Some(connection) = self.table.get_mut(conn) else { return };
                // The rules close it, with this reason, as if they had found the fault.
                let client_id = connection.who.client_id.clone();
                self.input(Input::Order(Order::Disconnect { client_id, reason }));
            }
        }
    }

    /// CONNACK as it has to be for this connection, where that is not what the rules say.
    pub(super) fn answer_at_edge(&mut self, conn: ConnId, answer: &ConnAck) -> Option<ConnAck> {
        let terms = self.table.get_mut(conn)?.edge.as_ref().and_then(|edge| edge.terms.clone());
        if answer.reason != ReasonCode::SUCCESS
            && let Some(terms) = &terms
        {
            let mut answer = answer.clone();
            terms.apply_to_refusal(&mut answer.properties);
            return Some(answer);
        }
        if answer.reason != ReasonCode::SUCCESS
            || (terms.is_none() && self.assigned.is_none() && self.agreed.is_none())
        {
            return None;
        }
        let mut answer = answer.clone();
        if let Some(client_id) = self.assigned.take() {
            answer.properties.assigned_client_identifier = Some(client_id.as_ref().into());
        }
        if let Some(agreed) = self.agreed.take() {
            let Agreed { method, data, .. } = *agreed;
            answer.properties.authentication_method = Some(method);
            answer.properties.authentication_data = (!data.is_empty()).then(|| data.into());
        }
        if let Some(terms) = terms
            && self.table.get_mut(conn)?.version == quoll_mqtt::ProtocolVersion::V5
        {
            terms.apply_to_answer(&mut answer.properties);
        }
        Some(answer)
    }

    /// Whether topics towards this connection lose a mount point.
    pub(super) fn is_mounted(&mut self, conn: ConnId) -> bool {
        self.table.get_mut(conn).is_some_and(|connection| terms_of(connection).is_some())
    }

    /// Writes a PUBLISH whose topic loses its mount point. One that is not below it is not shown to the client; the rules
    /// take it as acknowledged, so that it does not stand in the way of others.
    pub(super) fn deliver_unmounted(&mut self, conn: ConnId, outgoing: &Outgoing, once: bool) {
        let Some(connection) = self.table.get_mut(conn) else { return };
        let (version, is_open) = (connection.version, connection.phase == Phase::Open);
        let Some(terms) = terms_of(connection) else { return };
        let mut publish = outgoing.publish(version);
        let shown = publish.topic.as_ref().map(|topic| terms.unmounted(topic));
        match shown {
            Some(None) => {
                return if is_open {
                    self.acknowledge(conn, outgoing.delivery)
                };
            }
            Some(shown) => publish.topic = shown,
            // An alias says it all.
            None => {}
        }
        let Some((out, version)) = self.out(conn, once) else { return };
        let encoded = encode(&Packet::Publish(publish), version, out.bytes());
        self.packets_out += 1;
        if let Err(error) = encoded {
            self.cannot_encode(conn, &error);
        }
    }

    /// Acknowledges a delivery in the client's place.
    fn acknowledge(&mut self, conn: ConnId, delivery: Delivery) {
        let packet = match delivery {
            Delivery::AtMostOnce => return,
            Delivery::AtLeastOnce(id) => Packet::PubAck(Ack::new(id, ReasonCode::SUCCESS)),
            // A failure ends the exchange (§4.3.3): nothing more is sent for it.
            Delivery::ExactlyOnce(id) => Packet::PubRec(Ack::new(id, ReasonCode::NOT_AUTHORIZED)),
        };
        self.input(Input::Packet(conn, packet));
    }

    /// Leaves a peer whose last word was answered: the answer is written, then its end is waited for.
    pub(super) fn take_leave(&mut self, conn: ConnId) {
        if let Some(connection) = self.table.get_mut(conn) {
            connection.phase = Phase::Closing { words: true };
            self.mark_dirty(conn);
        }
    }
}

/// The terms of a connection with a mount point.
fn terms_of(connection: &Connection) -> Option<&Terms> {
    let terms = connection.edge.as_ref()?.terms.as_deref()?;
    terms.mount_point.is_some().then_some(terms)
}
