//! A shard's thread without the thread: panics, and ends that were flagged early.

use std::io::Write as _;
use std::sync::Mutex;

use quoll_broker::{Anchor, Grants, Moment, ShardSettings, Shared};
use quoll_mqtt::TopicFilter;
use tokio::sync::mpsc;

use super::*;
use crate::connection::Line;
use crate::journal::memory::MemoryJournal;
use crate::post::Attachment;

fn shard_thread(poll: &Poll) -> ShardThread {
    let anchor = Anchor { instant: Instant::now(), moment: Moment(1_800_000_000_000) };
    let shared = Arc::new(Shared::new(anchor, 1));
    let waker = mio::Waker::new(poll.registry(), WAKE).unwrap();
    let common = Common {
        placement: Arc::new(Placement::new(crate::config::Placement::default(), 1)),
        journal: Arc::new(Mutex::new(Box::new(MemoryJournal::default()))),
        immediate: true,
        keeping: Keeping::new(1),
        events: broadcast::channel(16).0,
        boxes: Arc::new([Inbox::new(waker)]),
        limits: crate::config::Limits::default(),
        max_packet_size: 1000,
        desk: Arc::default(),
    };
    let shard = Shard::new(ShardSettings::default(), ShardId(0), shared, 7);
    ShardThread::new(ShardId(0), shard, Arc::new(common), poll.registry().try_clone().unwrap())
}

/// A client without a socket; its receiver stays open.
fn attach(thread: &mut ShardThread, name: &str) -> (ConnId, mpsc::Receiver<Arc<quoll_broker::Message>>) {
    let (messages, receiver) = mpsc::channel(8);
    let conn = thread.table.next();
    let mail = Mail::Attach(Box::new(Attachment {
        client_id: name.into(),
        grants: Arc::new(Grants::all()),
        filters: vec![TopicFilter::parse("#").unwrap()],
        messages,
    }));
    thread.common.boxes[0].put(mail);
    thread.take_mail();
    assert!(thread.table.get_mut(conn).is_some());
    (conn, receiver)
}

#[test]
fn a_panic_closes_the_connection_it_hit_and_too_many_end_the_shard_aloud() {
    let poll = Poll::new().unwrap();
    let mut thread = shard_thread(&poll);
    let mut events = thread.common.events.subscribe();
    let (good, _heard) = attach(&mut thread, "good");
    for round in 1..limits::PANICS_PER_SHARD {
        let (bad, _) = attach(&mut thread, "bad");
        thread.guarded(Some(bad), |_| panic!("a bug, on purpose"));
        thread.end_of_turn();
        assert!(thread.table.get_mut(bad).is_none(), "round {round}");
        assert!(thread.table.get_mut(good).is_some(), "round {round}: others go on");
        assert_eq!((thread.shard.stats().connections, thread.failed), (1, false));
    }
    thread.guarded(None, |_| panic!("one too many, on purpose"));
    assert!(thread.failed && thread.table.is_empty());
    assert!(thread.common.placement.has_failed(ShardId(0)));
    let told = std::iter::from_fn(|| events.try_recv().ok());
    assert!(told.into_iter().any(|event| matches!(event, ServerEvent::ShardFailed { shard: 0 })));
}
/// A peer that sends much and closes: one edge tells both, and the end must be found turns later.
#[test]
fn an_end_that_was_flagged_beside_more_than_a_turn_reads_is_not_forgotten() {
    let poll = Poll::new().unwrap();
    let mut thread = shard_thread(&poll);
    thread.buffers.read = vec![0; 1024];
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, address) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    let (conn, _) = attach(&mut thread, "bursting");
    let connection = thread.table.get_mut(conn).unwrap();
    connection.line = Line::Socket { socket: mio::net::TcpStream::from_std(socket), tls: None };
    connection.who.peer = address;
    // PINGREQs: more than four buffers of 1024, and the last buffer is not full.
    peer.write_all(&[0xC0, 0].repeat(4000)).unwrap();
    peer.shutdown(std::net::Shutdown::Both).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    thread.read(conn, true);
    assert!(thread.table.get_mut(conn).is_some(), "others have their turn first");
    for _ in 0..3 {
        let unread = std::mem::take(&mut thread.unread);
        thread.read_on(unread);
    }
    assert!(thread.table.get_mut(conn).is_none());
    assert_eq!(thread.shard.stats().packets_received, 4001, "one SUBSCRIBE and all of the burst");
}
