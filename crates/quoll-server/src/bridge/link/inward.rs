//! From the other broker to the local one.

use std::time::Instant;

use quoll_broker::limits::is_too_deep;
use quoll_mqtt::packet::{Ack, Packet, Publish};
use quoll_mqtt::{DecodeError, Delivery, PacketId, QoS, ReasonCode, TopicName, encode};

use super::{Ending, Link, Outs, Own, Stage, State};
use crate::limits::BRIDGE_HELD_BYTES;
use crate::log::{NOTICE, PACKETS, shown};

impl Link {
    pub(super) fn take_remote(
        &mut self,
        packet: Packet,
        now: Instant,
        outs: &mut Outs<'_>,
    ) -> Result<(), Ending> {
        if self.state == State::Answered {
            self.state = State::Past;
        }
        match (self.stage, packet) {
            (Stage::Connecting, Packet::ConnAck(answer)) => return self.take_connack(*answer, outs),
            (Stage::Connecting, other) => {
                return Err(broken(&other, "something else before CONNACK [MQTT-3.2.0-1]"));
            }
            (_, Packet::Publish(publish)) => {
                self.clock.used = now;
                self.take_remote_publish(publish, outs)?;
            }
            (_, Packet::PubRel(ack)) => {
                if self.ended_there.remove(&ack.packet_id) {
                    self.to_remote(
                        &Packet::PubComp(Ack::new(ack.packet_id, ReasonCode::SUCCESS)),
                        outs.remote,
                    );
                } else {
                    self.to_local(&Packet::PubRel(ack), outs.local);
                }
            }
            (_, Packet::PubAck(ack)) => self.take_puback(ack, outs),
            (_, Packet::PubRec(ack)) => {
                self.log_ack("PUBREC", &ack);
                if ack.reason.is_failure() {
                    self.is_over(ack.packet_id, outs);
                }
                self.to_local(&Packet::PubRec(ack), outs.local);
            }
            (_, Packet::PubComp(ack)) => {
                self.log_ack("PUBCOMP", &ack);
                self.is_over(ack.packet_id, outs);
                self.to_local(&Packet::PubComp(ack), outs.local);
            }
            (_, Packet::SubAck(answer)) => {
                self.take_suback(answer.packet_id, &answer.reasons);
                self.send_held(outs);
            }
            (_, Packet::UnsubAck(answer)) => {
                tracing::debug!(target: PACKETS, "Received UNSUBACK from {}", self.local_id());
                self.answers_own(answer.packet_id, |own| *own == Own::Unsubscribe);
                self.send_held(outs);
            }
            (_, Packet::PingResp) => {
                tracing::debug!(target: PACKETS, "Received PINGRESP from {}", self.local_id());
                self.clock.pinged = None;
            }
            (_, Packet::Disconnect(farewell)) => return Err(Ending::Disconnected(farewell.reason)),
            (_, other) => return Err(broken(&other, "a server does not send it here (§3.2, §4.12)")),
        }
        Ok(())
    }

    fn take_puback(&mut self, ack: Ack, outs: &mut Outs<'_>) {
        self.log_ack("PUBACK", &ack);
        let id = ack.packet_id;
        if self.answers_own(id, |own| *own == Own::State).is_some() {
            self.state = State::Answered;
            if ack.reason.is_failure() {
                let bridge = &self.bridge.configuration.name;
                tracing::warn!("Bridge {bridge} may not publish its state there: {}", ack.reason);
            }
            return self.send_held(outs);
        }
        if self.lowered.remove(&id) {
            self.end_here(Some(id), QoS::ExactlyOnce, outs);
        } else {
            self.to_local(&Packet::PubAck(ack), outs.local);
        }
        self.is_over(id, outs);
    }

    /// The other broker has no more to do with a message of ours.
    fn is_over(&mut self, id: PacketId, outs: &mut Outs<'_>) {
        self.out.remove(&id);
        self.send_held(outs);
    }

    fn take_remote_publish(&mut self, mut publish: Publish, outs: &mut Outs<'_>) -> Result<(), Ending> {
        self.resolve_alias(&mut publish)?;
        let Some(name) = publish.topic.take() else {
            return Err(broken(&Packet::Publish(publish), "no topic [MQTT-3.3.2-1]"));
        };
        if let Some(properties) = publish.properties.as_deref_mut() {
            properties.topic_alias = None;
            properties.subscription_identifiers = Vec::new();
        }
        let delivery = publish.delivery;
        let bytes = publish.payload.len();
        tracing::debug!(
            target: PACKETS,
            "Received PUBLISH from {} (d{}, q{}, r{}, m{}, '{}', ... ({} bytes))",
            self.local_id(),
            u8::from(publish.dup),
            delivery.qos() as u8,
            u8::from(publish.retain),
            delivery.packet_id().map_or(0, PacketId::get),
            shown(name.as_str()),
            bytes,
        );
        self.has_room_for(&publish)?;
        let why = match self.topics.inward(&name) {
            None => "no topic line takes it".to_owned(),
            Some(name) => match self.hand_in(publish, name, outs) {
                Ok(()) => return Ok(()),
                Err(why) => why,
            },
        };
        self.drop_theirs(delivery, &format!("{why}: '{}', {bytes} bytes", shown(name.as_str())), outs);
        Ok(())
    }

    /// What the local broker does not take yet may wait, but not without bound [MQTT-3.3.4-7].
    fn has_room_for(&self, publish: &Publish) -> Result<(), Ending> {
        let waiting: usize = self.waits.iter().map(|it| it.payload.len()).sum();
        if self.waits.is_empty() || waiting + publish.payload.len() <= BRIDGE_HELD_BYTES {
            return Ok(());
        }
        Err(broken_as("PUBLISH", "more messages of QoS 2 than were asked for [MQTT-3.3.4-7]"))
    }

    /// A message of the other broker goes no further; that is told that it arrived, or it would come again for ever.
    fn drop_theirs(&mut self, delivery: Delivery, why: &str, outs: &mut Outs<'_>) {
        let bridge = &self.bridge.configuration.name;
        tracing::info!(target: NOTICE, "Bridge {bridge}: a message of the other broker is dropped: {why}");
        match delivery {
            Delivery::AtMostOnce => {}
            Delivery::AtLeastOnce(id) => {
                self.to_remote(&Packet::PubAck(Ack::new(id, ReasonCode::SUCCESS)), outs.remote);
            }
            Delivery::ExactlyOnce(id) => {
                self.ended_there.insert(id);
                self.to_remote(&Packet::PubRec(Ack::new(id, ReasonCode::SUCCESS)), outs.remote);
            }
        }
    }

    /// Gives a message to the local broker, if that takes it.
    fn hand_in(&mut self, mut publish: Publish, name: TopicName, outs: &mut Outs<'_>) -> Result<(), String> {
        if is_too_deep(name.as_str()) {
            // It would cost the local half its connection, and come again.
            return Err("too many levels".to_owned());
        }
        publish.topic = Some(name);
        if let Delivery::ExactlyOnce(id) = publish.delivery {
            if self.here.len() >= self.here_at_most && !self.here.contains(&id) {
                if !self.waits.iter().any(|it| it.delivery == publish.delivery) {
                    self.waits.push_back(publish);
                }
                return Ok(());
            }
            self.here.insert(id);
        }
        let start = outs.local.len();
        let (id, version) = (publish.delivery.packet_id(), self.bridge.local_version());
        let written =
            encode(&Packet::Publish(publish), version, outs.local).map_err(|error| error.to_string());
        let (size, most) = (outs.local.len() - start, self.bridge.largest as usize);
        let taken = written.and_then(|()| match size <= most {
            true => Ok(()),
            false => Err(format!("{size} bytes under its name here, this broker takes {most}")),
        });
        if taken.is_err() {
            outs.local.truncate(start);
            id.map(|id| self.here.remove(&id));
        }
        taken
    }

    /// The local broker has no more to do with a QoS 2 message: the next one that waited has its place.
    pub(super) fn is_over_here(&mut self, id: PacketId, outs: &mut Outs<'_>) {
        self.here.remove(&id);
        while self.here.len() < self.here_at_most
            && let Some(mut publish) = self.waits.pop_front()
        {
            let Some(name) = publish.topic.take() else { continue };
            let delivery = publish.delivery;
            if let Err(why) = self.hand_in(publish, name, outs) {
                self.drop_theirs(delivery, &why, outs);
            }
        }
    }

    /// Notes or looks up the topic behind an alias (§3.3.2.3.4).
    fn resolve_alias(&mut self, publish: &mut Publish) -> Result<(), Ending> {
        let alias = publish.properties.as_ref().and_then(|properties| properties.topic_alias);
        let Some(alias) = alias else { return Ok(()) };
        let maximum = self.bridge.configuration.max_topic_alias;
        if alias.get() > maximum {
            return Err(Ending::Broken(DecodeError::TopicAlias { alias: alias.get(), maximum }));
        }
        let index = usize::from(alias.get()) - 1;
        if self.aliases.len() <= index {
            self.aliases.resize(index + 1, None);
        }
        match &publish.topic {
            Some(topic) => self.aliases[index] = Some(topic.clone()),
            None => publish.topic = self.aliases[index].clone(),
        }
        Ok(())
    }

    fn log_ack(&self, name: &str, ack: &Ack) {
        let (from, id, reason) = (self.local_id(), ack.packet_id.get(), ack.reason.0);
        match name {
            "PUBREC" => tracing::debug!(target: PACKETS, "Received {name} from {from} (Mid: {id})"),
            _ => tracing::debug!(target: PACKETS, "Received {name} from {from} (Mid: {id}, RC:{reason})"),
        }
    }

    pub(super) fn log_sending(&self, name: &str) {
        tracing::debug!(target: PACKETS, "Sending {name} to {}", self.local_id());
    }
}

fn broken(packet: &Packet, what: &'static str) -> Ending {
    broken_as(packet.kind().name(), what)
}

const fn broken_as(packet: &'static str, what: &'static str) -> Ending {
    Ending::Broken(DecodeError::Protocol { packet, what })
}
