//! Nothing gets lost: links that break again and again between us and a real Mosquitto, and what waits while there is none.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quoll_mqtt::client::{ClientOptions, Event};
use quoll_mqtt::{ProtocolVersion, QoS, TopicFilter};
use quoll_server::client::Client;

use crate::fake::PATIENCE;
use crate::subject::{Mosquitto, Quoll, client, for_each, message, plain_client, runtime};

/// A link that can be cut.
pub(crate) struct Breaker {
    pub(crate) port: u16,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
    is_open: Arc<AtomicBool>,
}

impl Breaker {
    pub(crate) fn to(target: u16) -> Self {
        Self::at("127.0.0.1", target)
    }

    /// The same, at another address of this machine.
    pub(crate) fn at(host: &str, target: u16) -> Self {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let sockets: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let is_open = Arc::new(AtomicBool::new(true));
        let (shared, open) = (Arc::clone(&sockets), Arc::clone(&is_open));
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if !open.load(Ordering::Relaxed) {
                    continue;
                }
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                for (mut from, mut to) in [
                    (near.try_clone().unwrap(), far.try_clone().unwrap()),
                    (far.try_clone().unwrap(), near.try_clone().unwrap()),
                ] {
                    std::thread::spawn(move || {
                        let mut buffer = [0; 700];
                        while let Ok(read @ 1..) = from.read(&mut buffer) {
                            if to.write_all(&buffer[..read]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                shared.lock().unwrap().extend([near, far]);
            }
        });
        Self { port, sockets, is_open }
    }

    pub(crate) fn cut(&self) {
        for socket in self.sockets.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn set_open(&self, open: bool) {
        self.is_open.store(open, Ordering::Relaxed);
        if !open {
            self.cut();
        }
    }
}

/// How often each payload came.
pub(crate) type Counted = Arc<Mutex<BTreeMap<String, u32>>>;

/// Counts what a broker delivers under a filter, in a task of its own.
pub(crate) async fn count(address: SocketAddr, name: &str, filter: &str) -> Counted {
    let mut client = plain_client(address, name).await;
    client.subscribe_to(TopicFilter::parse(filter).unwrap(), QoS::ExactlyOnce).await.unwrap();
    let counted = Counted::default();
    let shared = Arc::clone(&counted);
    tokio::spawn(async move {
        while let Ok(event) = client.next().await {
            if let Event::Message(publish) = event {
                let payload = String::from_utf8_lossy(&publish.payload).into_owned();
                *shared.lock().unwrap().entry(payload).or_default() += 1;
            }
        }
    });
    counted
}

async fn publish_many(mut client: Client, topic: &str, many: u32, qos: QoS) {
    for number in 0..many {
        client.publish(&message(topic, format!("q{} {number}", qos as u8), qos)).await.unwrap();
        if number % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
}

pub(crate) async fn wait_for(counted: &Counted, many: usize, what: &str) {
    let until = Instant::now() + PATIENCE;
    while counted.lock().unwrap().len() < many {
        let found = counted.lock().unwrap().len();
        assert!(Instant::now() < until, "{what}: {found} of {many} came");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn nothing_twice(counted: &Counted, what: &str) {
    let twice: Vec<_> = counted
        .lock()
        .unwrap()
        .iter()
        .filter(|(payload, times)| payload.starts_with("q2") && **times > 1)
        .map(|(payload, times)| format!("{payload} {times} times"))
        .collect();
    assert!(twice.is_empty(), "{what}: {twice:?}");
}

/// QoS 1 and 2 both ways at once, over a link that is cut again and again: all of it arrives, QoS 2 once.
fn through_cuts(version: &str) {
    const MANY: u32 = 150;
    let runtime = runtime();
    let mosquitto = Mosquitto::start("max_queued_messages 5000\npersistent_client_expiration 1h\n");
    let breaker = Breaker::to(mosquitto.port);
    runtime.block_on(async {
        let block = format!(
            "connection kept\naddress 127.0.0.1:{}\nbridge_protocol_version {version}\nrestart_timeout 1\n\
             bridge_session_expiry_interval 3600\ntopic out/# out 2\ntopic in/# in 2\n",
            breaker.port
        );
        let quoll = Quoll::start(&block).await;
        let (near, far) = (quoll.server.plain, mosquitto.address());
        let out = count(far, "counts there", "out/#").await;
        let into = count(near, "counts here", "in/#").await;
        // The far end's session has to be there before anything is sent.
        publish_until_heard(far, "in/first", &into).await;
        let mut work = tokio::task::JoinSet::new();
        for (qos, name) in [(QoS::AtLeastOnce, "one"), (QoS::ExactlyOnce, "two")] {
            let here = plain_client(near, &format!("here {name}")).await;
            let there = plain_client(far, &format!("there {name}")).await;
            work.spawn(async move { publish_many(here, "out/x", MANY, qos).await });
            work.spawn(async move { publish_many(there, "in/x", MANY, qos).await });
        }
        for pause in [150, 1300, 1500, 1200] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            breaker.cut();
        }
        while let Some(done) = work.join_next().await {
            done.unwrap();
        }
        let all = 2 * MANY as usize;
        wait_for(&out, all, "to Mosquitto").await;
        wait_for(&into, all + 1, "from Mosquitto").await;
        nothing_twice(&out, "to Mosquitto");
        nothing_twice(&into, "from Mosquitto");
        quoll.stop().await;
    });
}

/// Publishes at QoS 0 until something arrives, then knows that the bridge has subscribed.
async fn publish_until_heard(from: SocketAddr, topic: &str, counted: &Counted) {
    let mut client = plain_client(from, "says that it begins").await;
    let until = Instant::now() + PATIENCE;
    while counted.lock().unwrap().is_empty() {
        assert!(Instant::now() < until, "the bridge does not come up");
        client.publish(&message(topic, "begin", QoS::AtMostOnce)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn qos_holds_through_a_link_that_breaks_3_1_1() {
    through_cuts("mqttv311");
}

#[test]
fn qos_holds_through_a_link_that_breaks_5_0() {
    through_cuts("mqttv50");
}

/// What is published while there is no link waits on both sides, unless the session at that side is clean.
#[test]
fn messages_wait_while_there_is_no_link_unless_the_session_is_clean() {
    let rows = [(false, false, true, true), (false, true, false, true), (true, false, true, false)];
    for_each(&rows, |row| {
        let (clean, local_clean, out_waits, in_waits) = *row;
        let runtime = runtime();
        let mosquitto = Mosquitto::start("");
        let breaker = Breaker::to(mosquitto.port);
        runtime.block_on(async {
            let block = format!(
                "connection kept\naddress 127.0.0.1:{}\nrestart_timeout 1\ncleansession {clean}\n\
                 local_cleansession {local_clean}\ntopic out/# out 2\ntopic in/# in 2\n",
                breaker.port
            );
            let quoll = Quoll::start(&block).await;
            let (near, far) = (quoll.server.plain, mosquitto.address());
            let out = count(far, "counts there", "out/#").await;
            let into = count(near, "counts here", "in/#").await;
            publish_until_heard(far, "in/first", &into).await;
            breaker.set_open(false);
            let id = format!("local.{}.kept", crate::subject::host_name());
            crate::common::eventually("the bridge notices", async || {
                let sessions = quoll.server.handle.sessions().await;
                sessions.iter().all(|it| *it.session.client_id != *id || it.session.conn.is_none())
            })
            .await;
            let mut here = plain_client(near, "here").await;
            let mut there = plain_client(far, "there").await;
            // Mosquitto has to notice too.
            mosquitto.wait_for(&format!("Client {}.kept closed its connection", crate::subject::host_name()));
            here.publish(&message("out/x", "while away", QoS::ExactlyOnce)).await.unwrap();
            there.publish(&message("in/x", "while away", QoS::ExactlyOnce)).await.unwrap();
            breaker.set_open(true);
            for (publisher, topic, counted) in [(&mut here, "out/x", &out), (&mut there, "in/x", &into)] {
                let until = Instant::now() + PATIENCE;
                while !counted.lock().unwrap().contains_key("again") {
                    assert!(Instant::now() < until, "{clean} {local_clean}: {topic} does not flow again");
                    publisher.publish(&message(topic, "again", QoS::AtLeastOnce)).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            let has = |counted: &Counted| counted.lock().unwrap().contains_key("while away");
            assert_eq!((has(&out), has(&into)), (out_waits, in_waits), "{clean} {local_clean}");
            quoll.stop().await;
        });
    });
}

/// Each message of a topic that goes both ways comes once, on both sides: it does not go round.
#[test]
fn what_goes_both_ways_does_not_go_round() {
    for_each(&["mqttv31", "mqttv311", "mqttv50"], |version| {
        let runtime = runtime();
        let mosquitto = Mosquitto::start("");
        runtime.block_on(async {
            let block = format!(
                "connection round\naddress 127.0.0.1:{}\nbridge_protocol_version {version}\nrestart_timeout 1\n\
                 topic both/# both 1\n",
                mosquitto.port
            );
            let quoll = Quoll::start(&block).await;
            let (near, far) = (quoll.server.plain, mosquitto.address());
            let there = count(far, "counts there", "both/#").await;
            let here = count(near, "counts here", "both/#").await;
            publish_until_heard(far, "both/first", &here).await;
            let mut one = plain_client(near, "one").await;
            let options = ClientOptions::new(ProtocolVersion::V311, "other");
            let mut other = client(far, options).await;
            one.publish(&message("both/a", "from here", QoS::AtLeastOnce)).await.unwrap();
            other.publish(&message("both/a", "from there", QoS::AtLeastOnce)).await.unwrap();
            one.publish(&message("both/a", "last here", QoS::AtLeastOnce)).await.unwrap();
            other.publish(&message("both/a", "last there", QoS::AtLeastOnce)).await.unwrap();
            for counted in [&there, &here] {
                wait_for(counted, 5, version).await;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
            for counted in [&there, &here] {
                let counted = counted.lock().unwrap();
                let others = counted.iter().filter(|(payload, _)| *payload != "begin");
                let twice: Vec<_> = others.filter(|(_, times)| **times != 1).collect();
                assert!(twice.is_empty(), "{version}: {twice:?}");
            }
            quoll.stop().await;
        });
    });
}
