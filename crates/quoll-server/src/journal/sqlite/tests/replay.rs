//! Random lives of sessions: what the file tells after any number of batches and restarts makes the same shard as all
//! facts from the beginning.

use std::collections::BTreeSet;

use proptest::prelude::*;
use quoll_broker::vocabulary::{Input, Outbox};
use quoll_broker::{Anchor, Shard, ShardSettings, Shared};

use super::*;

/// Something that happens; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Act {
    Begin(u8),
    End(u8),
    Subscribe(u8, u8),
    Unsubscribe(u8, u8),
    Queue(u8),
    SendNext(u8),
    Receive(u8, u8),
    Deliver(u8, u8),
    Incoming(u8, u8),
    Release(u8, u8),
    Will(u8),
    Settle(u8),
    Retain(u8),
    Clear(u8),
    /// The next facts are another batch.
    Commit,
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let n = || 0..4_u8;
    prop_oneof![
        2 => n().prop_map(Act::Begin),
        1 => n().prop_map(Act::End),
        2 => (n(), n()).prop_map(|(a, b)| Act::Subscribe(a, b)),
        1 => (n(), n()).prop_map(|(a, b)| Act::Unsubscribe(a, b)),
        6 => n().prop_map(Act::Queue),
        5 => n().prop_map(Act::SendNext),
        3 => (n(), n()).prop_map(|(a, b)| Act::Receive(a, b)),
        4 => (n(), n()).prop_map(|(a, b)| Act::Deliver(a, b)),
        2 => (n(), n()).prop_map(|(a, b)| Act::Incoming(a, b)),
        2 => (n(), n()).prop_map(|(a, b)| Act::Release(a, b)),
        1 => n().prop_map(Act::Will),
        1 => n().prop_map(Act::Settle),
        2 => n().prop_map(Act::Retain),
        1 => n().prop_map(Act::Clear),
        2 => Just(Act::Commit),
        1 => Just(Act::Restart),
    ]
}

/// One client as the rules would know it.
#[derive(Default)]
struct Life {
    exists: bool,
    next: u64,
    waiting: Vec<u64>,
    sent: Vec<u64>,
    received: Vec<u64>,
    incoming: BTreeSet<u16>,
    /// A will, without a session that outlives the connection.
    lodged: bool,
}

#[derive(Default)]
struct World {
    lives: [Life; 4],
    numbers: u64,
}

impl World {
    /// The facts of an act; none where the rules would do nothing.
    fn facts(&mut self, act: &Act) -> Option<Change> {
        let name = |who: u8| -> Arc<str> { format!("client {who}").into() };
        let pick = |from: &mut Vec<u64>, which: u8| {
            (!from.is_empty()).then(|| from.remove(usize::from(which) % from.len()))
        };
        self.numbers += 1;
        let number = self.numbers;
        let who = match act {
            Act::Retain(topic) => {
                let message = message(number, &format!("retained/{topic}"), QoS::AtLeastOnce);
                return Some(Change::Retained { message });
            }
            Act::Clear(topic) => {
                let topic = TopicName::parse(&format!("retained/{topic}")).unwrap();
                return Some(Change::RetainedCleared { topic });
            }
            Act::Commit | Act::Restart => return None,
            Act::Begin(who) | Act::End(who) | Act::Subscribe(who, _) | Act::Unsubscribe(who, _) => *who,
            Act::Queue(who) | Act::SendNext(who) | Act::Receive(who, _) | Act::Deliver(who, _) => *who,
            Act::Incoming(who, _) | Act::Release(who, _) | Act::Will(who) | Act::Settle(who) => *who,
        };
        let client_id = name(who);
        let life = &mut self.lives[usize::from(who)];
        match act {
            // The rules settle a will before the client comes again.
            Act::Begin(_) if life.lodged => return None,
            Act::Will(_) if !life.exists => {
                life.lodged = true;
                return Some(lodged(&client_id, number));
            }
            Act::Settle(_) if std::mem::take(&mut life.lodged) => {
                return Some(Change::WillSettled { client_id });
            }
            _ => {}
        }
        if let Act::Begin(_) = act {
            life.exists = true;
            return Some(session(&client_id));
        }
        if !life.exists {
            return None;
        }
        let packet = |which: u8| id(u16::from(which) + 1);
        Some(match act {
            Act::End(_) => {
                *life = Life::default();
                Change::SessionEnded { client_id }
            }
            Act::Subscribe(_, filter) => subscribed(&client_id, &format!("filter/{filter}")),
            Act::Unsubscribe(_, filter) => {
                let filter = TopicFilter::parse(&format!("filter/{filter}")).unwrap();
                Change::Unsubscribed { client_id, filter }
            }
            Act::Queue(_) => {
                let place = life.next;
                life.next += 1;
                life.waiting.push(place);
                queued(&client_id, place, number)
            }
            Act::SendNext(_) => {
                let place = (!life.waiting.is_empty()).then(|| life.waiting.remove(0))?;
                life.sent.push(place);
                sent(&client_id, place)
            }
            Act::Receive(_, which) => {
                let place = pick(&mut life.sent, *which)?;
                life.received.push(place);
                Change::Received { client_id, place, packet_id: id(place as u16 % 100 + 1) }
            }
            Act::Deliver(_, which) => {
                let from = [&mut life.received, &mut life.sent, &mut life.waiting];
                let place = from.into_iter().find_map(|from| pick(from, *which))?;
                Change::Delivered { client_id, place }
            }
            Act::Incoming(_, which) => {
                let packet_id = packet(*which);
                life.incoming.insert(packet_id.get()).then_some(Change::Incoming { client_id, packet_id })?
            }
            Act::Release(_, which) => {
                let packet_id = packet(*which);
                life.incoming.remove(&packet_id.get()).then_some(Change::Released { client_id, packet_id })?
            }
            Act::Will(_) => Change::WillPending {
                client_id,
                message: message(number, "will", QoS::AtLeastOnce),
                expiry: None,
                due: Moment(1_900_000_000_000),
            },
            _ => Change::WillSettled { client_id },
        })
    }

    /// After a restart, the rules number on from what they were told.
    fn restart(&mut self) {
        for life in &mut self.lives {
            let known = [&life.waiting, &life.sent, &life.received];
            life.next = known.into_iter().flatten().max().map_or(0, |place| place + 1);
        }
    }
}

/// All that a shard made of these facts would have to be told again.
fn state(changes: &[Change]) -> BTreeSet<Vec<u8>> {
    let anchor = Anchor { instant: Instant::now(), moment: Moment(1_800_000_001_000) };
    let shared = Arc::new(Shared::new(anchor, 1));
    let mut shard = Shard::new(ShardSettings::default(), ShardId(0), Arc::clone(&shared), 7);
    for change in changes {
        shard.handle(Input::Recall(change.clone()), anchor.instant, &mut Outbox::new());
    }
    let retained = shared.retained.all().into_iter().map(|message| Change::Retained { message });
    shard.facts().into_iter().chain(retained).map(|fact| fact.encode()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn the_file_tells_the_same_state_as_all_facts_from_the_beginning(
        acts in proptest::collection::vec(act(), 1..250)
    ) {
        let place = Place::new();
        let (mut world, mut all) = (World::default(), Vec::new());
        let mut journal = place.journal();
        for act in &acts {
            match act {
                Act::Commit => {
                    let sequence = journal.append(&[]).unwrap();
                    wait_until_durable(&journal, sequence);
                }
                Act::Restart => {
                    drop(journal);
                    journal = place.journal();
                    prop_assert_eq!(state(&recall(&mut journal).unwrap()), state(&all));
                    world.restart();
                }
                act => {
                    let facts: Vec<Change> = world.facts(act).into_iter().collect();
                    journal.append(&facts).unwrap();
                    all.extend(facts);
                }
            }
        }
        drop(journal);
        let mut journal = place.journal();
        let told = recall(&mut journal).unwrap();
        prop_assert_eq!(state(&told), state(&all));
        // And it is no longer than the state: what is over left no row.
        prop_assert_eq!(told.len(), state(&all).len());
        drop(journal);
        prop_assert_eq!(place.count("damaged"), 0);
    }
}

#[test]
fn what_is_kept_and_over_in_one_batch_is_never_written() {
    let place = Place::holding(&[session("c")]);
    let mut pending = pending::Pending::default();
    let mut take_in = |change| pending.take_in(Piece::Change(ShardId(0), change));
    for number in 0..1000 {
        take_in(queued("c", number, number));
        take_in(sent("c", number));
        take_in(Change::Incoming { client_id: "c".into(), packet_id: id(5) });
        take_in(Change::Released { client_id: "c".into(), packet_id: id(5) });
        take_in(Change::Delivered { client_id: "c".into(), place: number });
    }
    assert!(pending.is_empty(), "{pending:?}");
    // One that the file knows must be struck out there.
    pending.take_in(Piece::Change(ShardId(0), Change::Delivered { client_id: "c".into(), place: 1 }));
    assert!(!pending.is_empty());
    assert_eq!(place.count("fact"), 1);
}

#[test]
fn compaction_makes_the_given_state_the_only_one() {
    let place = Place::holding(&[session("old"), queued("old", 0, 1)]);
    let mut journal = place.journal();
    let state = [session("new"), subscribed("new", "a/#"), queued("new", 3, 9), sent("new", 3)];
    journal.compact(&mut state.iter().cloned()).unwrap();
    journal.append(&[Change::Delivered { client_id: "new".into(), place: 3 }]).unwrap();
    drop(journal);
    assert_eq!(recall(&mut place.journal()).unwrap(), state[..2]);
}

#[test]
fn a_file_that_held_much_gives_its_room_back() {
    let place = Place::holding(&[session("c")]);
    let mut journal = place.journal();
    let many: Vec<Change> = (0..40_000).map(|n| queued("c", n, n)).collect();
    let sequence = journal.append(&many).unwrap();
    wait_until_durable(&journal, sequence);
    let over: Vec<Change> =
        (0..40_000).map(|n| Change::Delivered { client_id: "c".into(), place: n }).collect();
    let sequence = journal.append(&over).unwrap();
    wait_until_durable(&journal, sequence);
    // Tidying begins after a second without work, and is seen in the file once SQLite works its log into it.
    let begun = Instant::now();
    let mut number = 40_000;
    loop {
        std::thread::sleep(Duration::from_millis(1500));
        drop(journal);
        let size = std::fs::metadata(place.path()).unwrap().len();
        if size < 5_000_000 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{size} bytes for one session");
        journal = place.journal();
        number += 1;
        let sequence = journal.append(&[queued("c", number, number)]).unwrap();
        wait_until_durable(&journal, sequence);
    }
}

#[test]
fn shards_are_told_to_wait_while_too_much_lies_on_the_desk_and_nothing_is_dropped() {
    let desk = Desk::new();
    assert!(!desk.is_crowded());
    let many = (0..MAX_WAITING_FACTS as u64).map(|n| Piece::Change(ShardId(0), queued("c", n, n)));
    desk.lay(many).unwrap();
    assert!(desk.is_crowded());
    desk.lay(std::iter::once(Piece::Change(ShardId(0), session("c")))).unwrap();
    let mut taken = Vec::new();
    desk.take(&mut taken, None);
    assert_eq!(taken.len(), MAX_WAITING_FACTS + 1);
    assert!(!desk.is_crowded());

    let mut large = message(1, "t", QoS::AtLeastOnce);
    let parts = Arc::get_mut(&mut large).unwrap();
    parts.payload = Bytes::from(vec![0; MAX_WAITING_BYTES]);
    desk.lay(std::iter::once(Piece::Change(ShardId(0), Change::Retained { message: large }))).unwrap();
    assert!(desk.is_crowded());
}
