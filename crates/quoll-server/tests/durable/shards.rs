//! Letters between shards, and what no journal should ever hear of.

use std::sync::{Arc, Mutex};

use quoll_broker::change::{Change, SessionRecord};
use quoll_broker::message::MessageParts;
use quoll_broker::vocabulary::{Identity, Letter, ShardId};
use quoll_broker::{Message, Moment};
use quoll_mqtt::packet::*;
use quoll_mqtt::{Delivery, PacketId, QoS, TopicFilter, TopicName};
use quoll_server::journal::transit::{LetterKey, Transit};
use quoll_server::journal::{Bell, Durable, Journal, JournalError, Sequence, Turn};
use quoll_server::{Durability, SqliteJournal};

use crate::common::*;
use crate::{ack, lasting};

/// A crash between two shards: the letter is there, what should have come of it is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_that_a_crash_stopped_reaches_the_sessions_of_its_shard_and_no_others() {
    let place = scratch("letter").join("broker.db");
    let session = |client: &str| {
        let identity = Identity { name: "".into(), credential: None };
        let record = SessionRecord { identity, expiry: 3600, absent_since: Some(Moment(u64::MAX / 4)) };
        let options = SubscriptionOptions { qos: QoS::ExactlyOnce, ..SubscriptionOptions::default() };
        let filter = TopicFilter::parse("news").unwrap();
        let client_id: Arc<str> = client.into();
        let subscribed =
            Change::Subscribed { client_id: Arc::clone(&client_id), filter, options, identifier: 0 };
        vec![Change::Session { client_id, record }, subscribed]
    };
    let message = Arc::new(Message::new(MessageParts {
        number: 77,
        publisher: "p".into(),
        topic: TopicName::parse("news").unwrap(),
        payload: "once".into(),
        qos: QoS::ExactlyOnce,
        retain: false,
        properties: None,
        expires: None,
    }));
    let letter = Letter::Message(message);
    let key = LetterKey::of(ShardId(1), &letter).unwrap();
    let mut journal = SqliteJournal::open(&place, Durability::Power).unwrap();
    for (shard, client, mut transits) in
        [(1, "far", Vec::new()), (0, "near", vec![Transit::Sent(key, letter)])]
    {
        let (mut changes, shard) = (session(client), ShardId(shard));
        journal.append_turn(Turn { shard, changes: &mut changes, transits: &mut transits }).unwrap();
    }
    drop(journal);

    for round in 0..2 {
        let journal = SqliteJournal::open(&place, Durability::Power).unwrap();
        let server = serve_with(Box::new(journal), two_shards).await;
        let mut near = Peer::connect_as(dial(server.plain), lasting("near"));
        near.ping();
        let mut far = Peer::connect_as(dial(server.plain), lasting("far"));
        if round == 0 {
            let told = far.receive_publish();
            assert_eq!(&told.payload[..], b"once");
            let Delivery::ExactlyOnce(id) = told.delivery else { panic!("{told:?}") };
            far.send(&Packet::PubRec(ack(id)));
            assert!(matches!(far.receive(), Some(Packet::PubRel(_))));
            far.send(&Packet::PubComp(ack(id)));
        }
        far.ping();
        near.ping();
        drop((near, far));
        server.handle.stop(LONG).await;
    }
}

/// Who does not need the disk does not hear of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qos_0_and_passing_sessions_write_nothing() {
    struct Counting(Arc<Mutex<Vec<Change>>>, u64);
    impl Journal for Counting {
        fn ring(&mut self, _: Bell) {}
        fn append(&mut self, changes: &[Change]) -> Result<Sequence, JournalError> {
            self.0.lock().unwrap().extend_from_slice(changes);
            self.1 += 1;
            Ok(Sequence(self.1))
        }
        fn append_turn(&mut self, turn: Turn<'_>) -> Result<Sequence, JournalError> {
            assert!(turn.transits.is_empty(), "{turn:?}");
            self.append(turn.changes)
        }
        fn durable(&self) -> Durable {
            Durable::UpTo(Sequence(0))
        }
        fn recall(&mut self, _: &mut dyn FnMut(Change)) -> Result<(), JournalError> {
            Ok(())
        }
        fn compact(&mut self, _: &mut dyn Iterator<Item = Change>) -> Result<(), JournalError> {
            Ok(())
        }
    }
    let written = Arc::new(Mutex::new(Vec::new()));
    let server = serve_with(Box::new(Counting(Arc::clone(&written), 0)), two_shards).await;
    let mut peers: Vec<Peer> = (0..4).map(|n| Peer::plain(&server, &format!("passing{n}"))).collect();
    for peer in &mut peers {
        peer.subscribe("t/#", QoS::ExactlyOnce);
        peer.subscribe("$share/group/s", QoS::AtLeastOnce);
    }
    let id = PacketId::new(5).unwrap();
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce(id), Delivery::ExactlyOnce(id)] {
        for topic in ["t/x", "s"] {
            peers[0].send(&publish(topic, "x", delivery));
            peers[1].ping_among_others();
        }
    }
    peers[0].ping_among_others();
    assert_eq!(*written.lock().unwrap(), []);
    drop(peers);
    server.handle.stop(LONG).await;
}

trait AmongOthers {
    fn ping_among_others(&mut self);
}

impl AmongOthers for Peer {
    /// Still there; what comes meanwhile is not looked at.
    fn ping_among_others(&mut self) {
        self.send(&Packet::PingReq);
        while !matches!(self.receive().expect("it is still connected"), Packet::PingResp) {}
    }
}
