//! A link that breaks when as many messages of QoS 2 as fit are in the middle of their exchange. Debian's Mosquitto at the far end, with
//! `max_queued_messages 0`, takes no message at all beyond those that wait for their release: not the bridge's state either.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quoll_mqtt::QoS;

use crate::fake::PATIENCE;
use crate::kept::{Counted, count};
use crate::subject::{Mosquitto, Quoll, for_each, message, plain_client, runtime};

/// A link that withholds packets of one kind, in one direction.
struct Sieve {
    port: u16,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
    withholds: Arc<AtomicBool>,
    withheld: Arc<AtomicUsize>,
}

#[derive(Clone, Copy)]
struct Withheld {
    /// The first byte's upper half.
    kind: u8,
    from_bridge: bool,
}

const PUBREC: u8 = 5;
const PUBREL: u8 = 6;
const PUBCOMP: u8 = 7;

impl Sieve {
    fn to(target: u16, what: Withheld) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sieve = Self {
            port: listener.local_addr().unwrap().port(),
            sockets: Arc::default(),
            withholds: Arc::new(AtomicBool::new(true)),
            withheld: Arc::default(),
        };
        let (sockets, withholds) = (Arc::clone(&sieve.sockets), Arc::clone(&sieve.withholds));
        let withheld = Arc::clone(&sieve.withheld);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                for (from, to, is_bridge) in [
                    (near.try_clone().unwrap(), far.try_clone().unwrap(), true),
                    (far.try_clone().unwrap(), near.try_clone().unwrap(), false),
                ] {
                    let (withholds, withheld) = (Arc::clone(&withholds), Arc::clone(&withheld));
                    let sifts = is_bridge == what.from_bridge;
                    std::thread::spawn(move || {
                        pass_on(from, to, |first| {
                            let holds = sifts && first >> 4 == what.kind && withholds.load(Ordering::Relaxed);
                            withheld.fetch_add(usize::from(holds), Ordering::Relaxed);
                            !holds
                        });
                    });
                }
                sockets.lock().unwrap().extend([near, far]);
            }
        });
        sieve
    }

    fn cut(&self) {
        for socket in self.sockets.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Packet by packet, those that may.
fn pass_on(mut from: TcpStream, mut to: TcpStream, may: impl Fn(u8) -> bool) {
    let packet = |from: &mut TcpStream| -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; 2];
        from.read_exact(&mut bytes)?;
        let mut length = usize::from(bytes[1] & 0x7f);
        let mut shift = 7;
        while bytes[bytes.len() - 1] & 0x80 != 0 {
            let mut next = [0];
            from.read_exact(&mut next)?;
            bytes.push(next[0]);
            length |= usize::from(next[0] & 0x7f) << shift;
            shift += 7;
        }
        let head = bytes.len();
        bytes.resize(head + length, 0);
        from.read_exact(&mut bytes[head..])?;
        Ok(bytes)
    };
    while let Ok(bytes) = packet(&mut from) {
        if may(bytes[0]) && to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// A bridge that took 20 messages and was cut off goes on, with Mosquitto's default window at both ends.
#[test]
fn a_full_window_of_qos_2_survives_the_loss_of_the_link() {
    const MANY: usize = 30;
    let mut rows = Vec::new();
    for version in ["mqttv311", "mqttv50"] {
        for (direction, kind, from_bridge) in [
            ("out", PUBREL, true),
            ("out", PUBREC, false),
            ("out", PUBCOMP, false),
            ("in", PUBREC, true),
            ("in", PUBREL, false),
            ("in", PUBCOMP, true),
        ] {
            rows.push((version, direction, Withheld { kind, from_bridge }));
        }
    }
    for_each(&rows, |(version, direction, what)| {
        let name = format!("{version}, {direction}, packets of kind {}", what.kind);
        let mosquitto = Mosquitto::start("max_queued_messages 0\n");
        let sieve = Sieve::to(mosquitto.port, *what);
        runtime().block_on(async {
            // In 5.0 a session lasts as long as it was asked to.
            let more = if *version == "mqttv50" { "bridge_session_expiry_interval 1000\n" } else { "" };
            let block = format!(
                "connection full\naddress 127.0.0.1:{}\nbridge_protocol_version {version}\nrestart_timeout 1\n\
                 cleansession false\n{more}topic flow/# {direction} 2\n",
                sieve.port
            );
            let quoll = Quoll::start(&block).await;
            let (here, there) = (quoll.server.plain, mosquitto.address());
            let (from, to) = if *direction == "out" { (here, there) } else { (there, here) };
            // The bridge has subscribed where it has to.
            mosquitto.wait_for("PUBLISH from");
            let counted = count(to, "counts", "flow/#").await;
            if *direction == "in" {
                mosquitto.wait_for("flow/# (QoS 2)");
            }
            let mut publisher = plain_client(from, "publishes").await;
            for number in 0..MANY {
                let payload = number.to_string();
                publisher.publish(&message("flow/x", payload, QoS::ExactlyOnce)).await.unwrap();
            }
            let until = Instant::now() + PATIENCE;
            while sieve.withheld.load(Ordering::Relaxed) < 20 {
                assert!(Instant::now() < until, "{name}: {} are held up", sieve.withheld.load(Ordering::Relaxed));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            sieve.withholds.store(false, Ordering::Relaxed);
            sieve.cut();
            arrived(&counted, MANY, &name, &mosquitto).await;
            publisher.publish(&message("flow/x", "after", QoS::ExactlyOnce)).await.unwrap();
            arrived(&counted, MANY + 1, &name, &mosquitto).await;
            let twice: Vec<_> =
                counted.lock().unwrap().iter().filter(|it| *it.1 > 1).map(|it| it.0.clone()).collect();
            assert!(twice.is_empty(), "{name}: twice came {twice:?}");
            quoll.stop().await;
        });
    });
}

async fn arrived(counted: &Counted, many: usize, what: &str, mosquitto: &Mosquitto) {
    let until = Instant::now() + PATIENCE;
    while counted.lock().unwrap().len() < many {
        let found = counted.lock().unwrap().len();
        assert!(
            Instant::now() < until,
            "{what}: {found} of {many} came; Mosquitto said {:#?}",
            mosquitto.log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
