//! When a bridge is up, and to whom: lazy and once, several addresses, state topics, its own address, keep alive.

use std::time::{Duration, Instant};

use quoll_mqtt::QoS;
use quoll_mqtt::client::Event;
use quoll_mqtt::packet::Packet;
use quoll_mqtt::{ReasonCode, TopicFilter};
use quoll_server::client::Client;

use crate::common::{eventually, free_port};
use crate::fake::{Fake, Manners, PATIENCE};
use crate::subject::{Mosquitto, Quoll, client, for_each, host_name, message, plain_client, runtime};

fn payloads(heard: &[Packet], topic: &str) -> Vec<String> {
    let of = |packet: &Packet| match packet {
        Packet::Publish(it) if it.topic.as_ref().is_some_and(|name| name.as_str() == topic) => {
            Some(String::from_utf8_lossy(&it.payload).into_owned())
        }
        _ => None,
    };
    heard.iter().filter_map(of).collect()
}

#[test]
fn a_lazy_bridge_comes_up_for_enough_messages_and_goes_when_idle() {
    for_each(&[false, true], |clean| {
        let (far, runtime) = (Fake::start(Manners::default()), runtime());
        runtime.block_on(async {
            let block = format!(
                "connection lazy\naddress 127.0.0.1:{}\nstart_type lazy\nthreshold 3\nidle_timeout 2\n\
                 cleansession {clean}\ntopic out/# out 1\n",
                far.port
            );
            let quoll = Quoll::start(&block).await;
            let mut here = plain_client(quoll.server.plain, "here").await;
            let id = format!("local.{}.lazy", host_name());
            eventually("the local session is there", async || {
                let sessions = quoll.server.handle.sessions().await;
                sessions.iter().any(|it| *it.session.client_id == *id && !it.subscriptions.is_empty())
            })
            .await;
            for payload in ["1", "2"] {
                here.publish(&message("out/x", payload, QoS::AtLeastOnce)).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(1500)).await;
            assert!(far.heard().is_empty(), "two are not enough: {:?}", far.heard());
            here.publish(&message("out/x", "3", QoS::AtLeastOnce)).await.unwrap();
            let heard = far.wait("three messages", |heard| {
                heard.first().is_some_and(|it| payloads(it, "out/x").len() == 3)
            });
            assert_eq!(payloads(&heard[0], "out/x"), ["1", "2", "3"]);
            let dup = |it: &Packet| matches!(it, Packet::Publish(it) if it.dup);
            assert!(!heard[0].iter().any(dup), "none of them was sent before: {heard:?}");
            // It goes, and nothing brings it back but more to do.
            eventually("it is idle", async || {
                let sessions = quoll.server.handle.sessions().await;
                sessions.iter().any(|it| *it.session.client_id == *id && it.session.conn.is_none())
            })
            .await;
            for payload in ["4", "5", "6"] {
                here.publish(&message("out/x", payload, QoS::AtLeastOnce)).await.unwrap();
            }
            let heard = far
                .wait("three more", |heard| heard.get(1).is_some_and(|it| payloads(it, "out/x").len() == 3));
            assert_eq!(payloads(&heard[1], "out/x"), ["4", "5", "6"]);
            quoll.stop().await;
        });
    });
}

#[test]
fn a_bridge_that_starts_once_does_not_come_again() {
    let runtime = runtime();
    let (once, again) = (Fake::start(Manners::default()), Fake::start(Manners::default()));
    runtime.block_on(async {
        let block = |name: &str, port: u16, start: &str| {
            format!("connection {name}\naddress 127.0.0.1:{port}\nstart_type {start}\nrestart_timeout 1\ntopic a\n")
        };
        let both = block("once", once.port, "once") + &block("again", again.port, "automatic");
        let quoll = Quoll::start(&both).await;
        for far in [&once, &again] {
            far.connection(0, 3);
            far.cut();
        }
        again.connection(1, 3);
        again.cut();
        again.connection(2, 3);
        assert_eq!(once.heard().len(), 1);
        quoll.stop().await;
    });
}

/// The second address while the first does not answer; back to the first when it does, unless they are taken in turn.
#[test]
fn addresses_are_tried_in_order_and_the_first_is_gone_back_to() {
    let runtime = runtime();
    let first = free_port();
    let second = Fake::start(Manners::default());
    runtime.block_on(async {
        let block = format!(
            "connection two\naddresses 127.0.0.1:{first} 127.0.0.1:{}\nrestart_timeout 1\ntopic out/# out 1\n",
            second.port
        );
        let quoll = Quoll::start(&block).await;
        second.connection(0, 3);
        let mosquitto = Mosquitto::start_at(first, "");
        mosquitto.wait_for(&format!("as {}.two ", host_name()));
        quoll.stop().await;
    });
}

#[test]
fn addresses_in_turn_are_not_gone_back_to() {
    let runtime = runtime();
    let (first, second) = (Fake::start(Manners::default()), Fake::start(Manners::default()));
    runtime.block_on(async {
        let refused = vec![ReasonCode::NOT_AUTHORIZED];
        first.change(|manners| manners.refusals = refused);
        let block = format!(
            "connection two\naddresses 127.0.0.1:{} 127.0.0.1:{}\nround_robin true\nrestart_timeout 1\n\
             topic out/# out 1\n",
            first.port, second.port
        );
        let quoll = Quoll::start(&block).await;
        second.connection(0, 3);
        // The first one would answer now; Mosquitto's time to look is five seconds.
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!((first.heard().len(), second.heard().len()), (1, 1));
        quoll.stop().await;
    });
}

/// The next retained state of the bridge that a client is told.
async fn state(client: &mut Client) -> (String, String) {
    let heard = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Event::Message(publish) = client.next().await.unwrap() {
                let payload = String::from_utf8_lossy(&publish.payload).into_owned();
                return (publish.topic.unwrap().as_str().to_owned(), payload);
            }
        }
    });
    heard.await.expect("the state is told")
}

#[test]
fn both_brokers_are_told_whether_the_bridge_is_connected() {
    let runtime = runtime();
    let mosquitto = Mosquitto::start("");
    let breaker = crate::kept::Breaker::to(mosquitto.port);
    runtime.block_on(async {
        let block =
            format!("connection told\naddress 127.0.0.1:{}\nrestart_timeout 1\ntopic a\n", breaker.port);
        let topic = format!("$SYS/broker/connection/{}.told/state", host_name());
        let quoll = Quoll::start(&block).await;
        let filter = TopicFilter::parse("$SYS/broker/connection/#").unwrap();
        for address in [quoll.server.plain, mosquitto.address()] {
            let options =
                quoll_mqtt::client::ClientOptions::new(quoll_mqtt::ProtocolVersion::V311, "watches");
            let mut watcher = client(address, options).await;
            watcher.subscribe_to(filter.clone(), QoS::AtLeastOnce).await.unwrap();
            // What is retained in the moment of a subscription may come twice: as retained, and as it is passed on.
            for told in ["1", "0", "1"] {
                if told == "0" {
                    breaker.cut();
                }
                let until = Instant::now() + PATIENCE;
                while state(&mut watcher).await != (topic.clone(), told.into()) {
                    assert!(Instant::now() < until, "{address}: {told} is not told");
                }
            }
        }
        quoll.stop().await;
    });
}

/// Nobody can come in under the local half's name, not even while it is away.
#[test]
fn no_client_takes_the_local_session_over() {
    let runtime = runtime();
    let far = Fake::start(Manners::default());
    runtime.block_on(async {
        let block = format!("connection mine\naddress 127.0.0.1:{}\ntopic out/# out 1\n", far.port);
        let quoll = Quoll::start(&block).await;
        far.connection(0, 3);
        let id = format!("local.{}.mine", host_name());
        let target = quoll_server::client::Target {
            host: quoll.server.plain.ip().to_string(),
            port: quoll.server.plain.port(),
            tls: None,
        };
        let options = quoll_mqtt::client::ClientOptions::new(quoll_mqtt::ProtocolVersion::V5, &id);
        let refused = Client::connect(&target, options).await;
        assert!(
            matches!(refused, Err(quoll_server::client::ClientError::Refused(ReasonCode::NOT_AUTHORIZED))),
            "{refused:?}"
        );
        assert_eq!(far.heard().len(), 1, "the bridge does not notice");
        quoll.stop().await;
    });
}

/// An address of its own, and keep alive: PINGREQ after the time of silence.
#[test]
fn it_calls_from_the_address_it_is_given_and_pings() {
    let runtime = runtime();
    let mosquitto = Mosquitto::start("");
    runtime.block_on(async {
        let block = format!(
            "connection own\naddress 127.0.0.1:{}\nbridge_bind_address 127.0.0.3\nbridge_tcp_keepalive 10 5 3\n\
             bridge_tcp_user_timeout 20000\nkeepalive_interval 5\ntopic a in\n",
            mosquitto.port
        );
        let quoll = Quoll::start(&block).await;
        mosquitto.wait_for("New connection from 127.0.0.3:");
        mosquitto.wait_for("Received PINGREQ from ");
        quoll.stop().await;
    });
}

/// The other way round: a Mosquitto that bridges to Quoll, with its mark, its state topic and its will.
#[test]
fn a_mosquitto_that_bridges_to_us_finds_what_it_needs() {
    for_each(&["mqttv31", "mqttv311", "mqttv50"], |version| {
        let runtime = runtime();
        runtime.block_on(async {
            let quoll = Quoll::start("").await;
            let near = quoll.server.plain;
            let mut watcher = plain_client(near, "watches").await;
            for filter in ["$SYS/broker/connection/#", "both/#"] {
                watcher.subscribe_to(TopicFilter::parse(filter).unwrap(), QoS::AtLeastOnce).await.unwrap();
            }
            let mut mosquitto = Mosquitto::start(&format!(
                "connection back\naddress 127.0.0.1:{}\nbridge_protocol_version {version}\nrestart_timeout 1\n\
                 topic both/# both 1\n",
                near.port()
            ));
            let topic = format!("$SYS/broker/connection/{}.back/state", host_name());
            while state(&mut watcher).await != (topic.clone(), "1".into()) {}
            let mut there = plain_client(mosquitto.address(), "there").await;
            there.publish(&message("both/x", "from there", QoS::AtLeastOnce)).await.unwrap();
            watcher.publish(&message("both/x", "from here", QoS::AtLeastOnce)).await.unwrap();
            let mut heard = vec![state(&mut watcher).await.1, state(&mut watcher).await.1];
            heard.sort();
            assert_eq!(heard, ["from here", "from there"], "{version}");
            mosquitto.kill();
            // Nothing came back of it, and the next word is the will.
            assert_eq!(state(&mut watcher).await, (topic, "0".into()), "{version}");
            quoll.stop().await;
        });
    });
}

/// A message that the far end refuses by its `message_size_limit` (0x95 in PUBACK and PUBREC) is that message's end, not the link's.
#[test]
fn a_message_above_the_far_ends_limit_does_not_end_the_link() {
    const BRIDGED: &str = ".limited (p";
    for_each(&["mqttv311", "mqttv50"], |version| {
        let runtime = runtime();
        let mosquitto = Mosquitto::start("message_size_limit 10\n");
        runtime.block_on(async {
            let block = format!(
                "connection limited\naddress 127.0.0.1:{}\nbridge_protocol_version {version}\nrestart_timeout 1\n\
                 topic out/# out 2\n",
                mosquitto.port
            );
            let quoll = Quoll::start(&block).await;
            mosquitto.wait_for(BRIDGED);
            let mut there = plain_client(mosquitto.address(), "there").await;
            there.subscribe_to(TopicFilter::parse("out/#").unwrap(), QoS::ExactlyOnce).await.unwrap();
            let mut here = plain_client(quoll.server.plain, "here").await;
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                here.publish(&message("out/x", "far too large", qos)).await.unwrap();
                here.publish(&message("out/x", "fits", qos)).await.unwrap();
                assert_eq!(state(&mut there).await, ("out/x".into(), "fits".into()), "{version}, {qos:?}");
            }
            quoll.stop().await;
        });
        let log = mosquitto.log();
        assert_eq!(log.iter().filter(|line| line.contains(BRIDGED)).count(), 1, "{version}: {log:#?}");
    });
}
