//! The other end of a delivery: PUBACK, PUBREC, PUBREL and PUBCOMP (§3.4 to §3.7, §4.3).

use quoll_mqtt::packet::{Ack, Packet};
use quoll_mqtt::{QoS, ReasonCode};

use crate::change::Change;
use crate::deliver::{pump, settle};
use crate::shard::Shard;
use crate::vocabulary::{ConnId, Effect, Outbox};

impl Shard {
    /// A QoS 1 delivery is over, whatever the reason says (§4.3.2).
    pub(crate) fn puback(&mut self, key: u32, ack: &Ack, out: &mut Outbox) {
        self.finish(key, ack, QoS::AtLeastOnce, out);
    }

    /// The peer has a QoS 2 message, or does not want it [MQTT-4.3.3-4]. PUBREC of an unknown identifier is answered
    /// as any other: it may have crossed a new beginning, and Mosquitto's clients know no other answer.
    pub(crate) fn pubrec(&mut self, key: u32, conn: ConnId, ack: &Ack, out: &mut Outbox) {
        let session = &mut self.sessions[key as usize];
        let Some(at) = session.inflight.find(ack.packet_id) else {
            if ack.reason.is_failure() {
                return;
            }
            return out
                .push(Effect::Send(conn, Packet::PubRel(Ack::new(ack.packet_id, ReasonCode::SUCCESS))));
        };
        let slot = session.inflight.slot(at);
        if slot.qos() != QoS::ExactlyOnce {
            return self.fail(key, ReasonCode::PROTOCOL_ERROR, out);
        }
        if ack.reason.is_failure() {
            return self.finish(key, ack, QoS::ExactlyOnce, out);
        }
        let place = slot.place;
        let is_first = slot.parcel.is_some();
        session.inflight.received(at);
        if is_first && session.is_kept() {
            let client_id = session.client_id.clone();
            out.push(Effect::Keep(Change::Received { client_id, place, packet_id: ack.packet_id }));
        }
        out.push(Effect::Send(conn, Packet::PubRel(Ack::new(ack.packet_id, ReasonCode::SUCCESS))));
    }

    /// A QoS 2 delivery is over. One that was never received is not: PUBCOMP answers PUBREL alone.
    pub(crate) fn pubcomp(&mut self, key: u32, ack: &Ack, out: &mut Outbox) {
        let session = &mut self.sessions[key as usize];
        if let Some(at) = session.inflight.find(ack.packet_id)
            && session.inflight.slot(at).parcel.is_some()
        {
            return self.fail(key, ReasonCode::PROTOCOL_ERROR, out);
        }
        self.finish(key, ack, QoS::ExactlyOnce, out);
    }

    /// The peer releases a QoS 2 message that it sent [MQTT-4.3.3-11]: now it is routed. Of an unknown identifier it is
    /// told success too: most likely the PUBCOMP was lost with the last connection, and Mosquitto says so as well.
    pub(crate) fn pubrel(&mut self, key: u32, conn: ConnId, ack: &Ack, out: &mut Outbox) {
        let session = &mut self.sessions[key as usize];
        if let Some(held) = session.incoming.take(ack.packet_id) {
            let is_kept = session.is_kept();
            let client_id = session.client_id.clone();
            if let Some(message) = held {
                // Should there be no room to retain it, PUBCOMP has no word for that.
                self.accept(message, out);
            }
            if is_kept {
                out.push(Effect::Keep(Change::Released { client_id, packet_id: ack.packet_id }));
            }
        }
        out.push(Effect::Send(conn, Packet::PubComp(Ack::new(ack.packet_id, ReasonCode::SUCCESS))));
    }

    /// Ends a delivery and sends what it held up. An identifier that nobody knows is no fault: the acknowledgement may
    /// have crossed a new beginning.
    fn finish(&mut self, key: u32, ack: &Ack, qos: QoS, out: &mut Outbox) {
        let session = &mut self.sessions[key as usize];
        let Some(at) = session.inflight.find(ack.packet_id) else { return };
        if session.inflight.slot(at).qos() != qos {
            return self.fail(key, ReasonCode::PROTOCOL_ERROR, out);
        }
        if let Some(slot) = session.inflight.remove(at) {
            settle(session, slot.place, out);
        }
        pump(session, &mut self.stats, self.now, out);
        let (replays, was_full) = (session.replay.is_some(), session.is_passed_over);
        if replays {
            self.go_on_replaying(key, out);
        }
        if was_full {
            self.tell_of_room(key, out);
        }
    }
}
