//! QoS 2 messages that came from a client and wait for their PUBREL (§4.3.3).
//!
//! Found by their identifiers, in time that grows with the logarithm of their number: a client may have 65,535 of them open and
//! name them in any order. Boxed, since nearly all sessions have none.

use std::collections::BTreeMap;
use std::sync::Arc;

use quoll_mqtt::PacketId;

use crate::limits;
use crate::message::Message;

/// The unreleased messages of a session.
#[derive(Debug, Default)]
pub(crate) struct Incoming(Option<Box<Unreleased>>);

/// A message, to be routed at PUBREL; `None` when it was routed at once.
type Held = Option<Arc<Message>>;

#[derive(Debug, Default)]
struct Unreleased {
    /// By earlier connections: they do not count against Receive Maximum (§4.9).
    before: BTreeMap<PacketId, Held>,
    /// By this connection.
    now: BTreeMap<PacketId, Held>,
    /// Payload bytes of those that are held.
    bytes: usize,
}

impl Incoming {
    /// Whether a message with this identifier came and was not released.
    pub(crate) fn knows(&self, id: PacketId) -> bool {
        self.0.as_ref().is_some_and(|it| it.now.contains_key(&id) || it.before.contains_key(&id))
    }

    /// How many came by this connection.
    pub(crate) fn under_way(&self) -> usize {
        self.0.as_ref().map_or(0, |it| it.now.len())
    }

    /// Whether one more message may wait for its PUBREL.
    pub(crate) fn may_hold(&self, message: &Message) -> bool {
        let (count, bytes) = self.0.as_ref().map_or((0, 0), |it| (it.before.len() + it.now.len(), it.bytes));
        count < limits::HELD_MESSAGES && bytes + message.payload.len() <= limits::HELD_BYTES
    }

    /// Remembers one.
    pub(crate) fn put(&mut self, id: PacketId, held: Held) {
        let own = self.0.get_or_insert_default();
        own.bytes += payload(&held);
        let map = if own.before.contains_key(&id) { &mut own.before } else { &mut own.now };
        own.bytes -= map.insert(id, held).map_or(0, |old| payload(&old));
    }

    /// Forgets one; `None` where there is none.
    pub(crate) fn take(&mut self, id: PacketId) -> Option<Held> {
        let own = self.0.as_mut()?;
        let held = own.now.remove(&id).or_else(|| own.before.remove(&id))?;
        own.bytes -= payload(&held);
        if own.now.is_empty() && own.before.is_empty() {
            // An idle session keeps no room for them.
            self.0 = None;
        }
        Some(held)
    }

    /// A new connection begins.
    pub(crate) fn begin_connection(&mut self) {
        if let Some(own) = &mut self.0 {
            own.before.append(&mut own.now);
        }
    }

    /// All of them, by identifier.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PacketId, &Held)> {
        let both = self.0.iter().flat_map(|own| own.before.iter().chain(&own.now));
        both.map(|(id, held)| (*id, held)).collect::<BTreeMap<_, _>>().into_iter()
    }
}

fn payload(held: &Held) -> usize {
    held.as_ref().map_or(0, |message| message.payload.len())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quoll_mqtt::{QoS, TopicName};

    use super::*;
    use crate::message::MessageParts;

    fn id(number: u16) -> PacketId {
        PacketId::new(number).unwrap()
    }

    fn held(bytes: usize) -> Held {
        Some(Arc::new(Message::new(MessageParts {
            number: 1,
            publisher: "".into(),
            topic: TopicName::parse("t").unwrap(),
            payload: Bytes::from(vec![0; bytes]),
            qos: QoS::ExactlyOnce,
            retain: false,
            properties: None,
            expires: None,
        })))
    }

    /// Bytes and counts are kept beside the maps, so that nothing is summed for each message: they have to agree with them.
    #[test]
    fn what_is_counted_is_what_is_there() {
        let mut own = Incoming::default();
        let mut state = 7_u64;
        for step in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (number, bytes) = (1 + (state >> 33) as u16 % 300, (state >> 49) as usize % 9000);
            match (state >> 60) % 4 {
                0 => drop(own.take(id(number))),
                1 if step % 97 == 0 => own.begin_connection(),
                2 => own.put(id(number), None),
                _ => own.put(id(number), held(bytes)),
            }
            let (count, total) = own.iter().fold((0, 0), |(n, sum), (_, held)| (n + 1, sum + payload(held)));
            let probe = held(1).unwrap();
            let expected = count < limits::HELD_MESSAGES && total < limits::HELD_BYTES;
            assert_eq!(own.may_hold(&probe), expected, "{count} of {total} bytes");
            let ids: std::collections::BTreeSet<_> = own.iter().map(|(id, _)| id).collect();
            assert_eq!(ids.len(), count, "an identifier is there once");
            assert!(own.under_way() <= count && own.knows(id(number)) == ids.contains(&id(number)));
        }
        (1..=300).for_each(|number| drop(own.take(id(number))));
        assert!(own.0.is_none(), "nothing is left of a burst");
    }

    #[test]
    fn what_came_by_an_earlier_connection_is_known_and_does_not_count() {
        let mut own = Incoming::default();
        own.put(id(1), held(3));
        own.put(id(2), None);
        assert_eq!(own.under_way(), 2);
        own.begin_connection();
        own.put(id(2), None);
        own.put(id(3), None);
        assert_eq!((own.under_way(), own.knows(id(1)), own.knows(id(4))), (1, true, false));
        assert!(own.take(id(1)).is_some_and(|held| held.is_some()) && own.take(id(1)).is_none());
    }
}
