//! A client's requests that wait for an answer, in the order in which they were sent [MQTT-4.6.0-1].

use std::collections::VecDeque;

use super::Message;
use crate::PacketId;

/// What an answer is awaited to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Request {
    /// A message of QoS 1 or 2: PUBACK or PUBREC.
    Publish(Message),
    /// A PUBREL: PUBCOMP.
    Release,
    /// A SUBSCRIBE: SUBACK.
    Subscribe,
    /// An UNSUBSCRIBE: UNSUBACK.
    Unsubscribe,
}

/// The requests under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    requests: VecDeque<(PacketId, Request)>,
    last_id: u16,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    /// How many count against the server's Receive Maximum (§4.9).
    pub(super) fn messages(&self) -> usize {
        let counts = |request: &Request| matches!(request, Request::Publish(_) | Request::Release);
        self.requests.iter().filter(|(_, request)| counts(request)).count()
    }

    /// A packet identifier not in use [MQTT-2.2.1-3]. There is one: far fewer requests are allowed than identifiers.
    pub(super) fn free_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if let Some(id) = PacketId::new(self.last_id)
                && self.get(id).is_none()
            {
                return id;
            }
        }
    }

    pub(super) fn push(&mut self, id: PacketId, request: Request) {
        self.requests.push_back((id, request));
    }

    pub(super) fn get(&self, id: PacketId) -> Option<&Request> {
        self.requests.iter().find(|(its, _)| *its == id).map(|(_, request)| request)
    }

    pub(super) fn remove(&mut self, id: PacketId) {
        self.requests.retain(|(its, _)| *its != id);
    }

    /// A message of QoS 2 goes from its first half to its second.
    pub(super) fn release(&mut self, id: PacketId) {
        if let Some((_, request)) = self.requests.iter_mut().find(|(its, _)| *its == id) {
            *request = Request::Release;
        }
    }

    /// Takes out what is not sent again after a reconnect, and returns its identifiers: everything, unless `resumed`.
    pub(super) fn forget(&mut self, resumed: bool) -> Vec<PacketId> {
        let stays = |request: &Request| resumed && matches!(request, Request::Publish(_) | Request::Release);
        let mut lost = Vec::new();
        self.requests.retain(|(id, request)| {
            let stays = stays(request);
            if !stays {
                lost.push(*id);
            }
            stays
        });
        lost
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(PacketId, Request)> {
        self.requests.iter()
    }
}
