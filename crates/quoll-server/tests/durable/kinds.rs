//! Every kind of state, and Mosquitto's clients.

use quoll_mqtt::packet::*;
use quoll_mqtt::{Delivery, PacketId, ProtocolVersion, QoS, TopicFilter, TopicName};

use crate::broker::Broker;
use crate::common::*;
use crate::{ack, chance, goodbye, lasting};

#[test]
fn every_kind_of_state_survives_a_stop_and_a_kill_alike() {
    for stop in [Broker::terminate as fn(Broker), Broker::kill] {
        let place = scratch(&format!("kinds-{}", chance())).join("broker.db");
        let broker = Broker::start(&place, 2, "power");
        let id = |number| PacketId::new(number).unwrap();
        let publish_now = |peer: &mut Peer, topic: &str, text: &str, number| {
            peer.send(&publish(topic, text, Delivery::AtLeastOnce(id(number))));
            assert!(matches!(peer.receive(), Some(Packet::PubAck(_))));
        };
        // One that waits for its PUBACK, one for its PUBREL, one that waits; a QoS 2 message from the client.
        let mut keeper = Peer::connect_as(dial(broker.address), lasting("keeper"));
        keeper.subscribe("a/#", QoS::ExactlyOnce);
        keeper.subscribe("not/any/more", QoS::ExactlyOnce);
        keeper.send(&Packet::Unsubscribe(Box::new(Unsubscribe {
            packet_id: id(9),
            filters: vec![TopicFilter::parse("not/any/more").unwrap()],
            user_properties: Vec::new(),
        })));
        assert!(matches!(keeper.receive(), Some(Packet::UnsubAck(_))));
        let mut publisher = Peer::connect(dial(broker.address), "publisher", ProtocolVersion::V5);
        publish_now(&mut publisher, "a/unacknowledged", "1", 1);
        let Delivery::AtLeastOnce(first) = keeper.receive_publish().delivery else { panic!() };
        publisher.send(&publish("a/received", "2", Delivery::ExactlyOnce(id(2))));
        assert!(matches!(publisher.receive(), Some(Packet::PubRec(_))));
        publisher.send(&Packet::PubRel(ack(id(2))));
        assert!(matches!(publisher.receive(), Some(Packet::PubComp(_))));
        let Delivery::ExactlyOnce(second) = keeper.receive_publish().delivery else { panic!() };
        keeper.send(&Packet::PubRec(ack(second)));
        assert!(matches!(keeper.receive(), Some(Packet::PubRel(rel)) if rel.packet_id == second));
        keeper.send(&publish("elsewhere", "3", Delivery::ExactlyOnce(id(33))));
        assert!(matches!(keeper.receive(), Some(Packet::PubRec(_))));
        // A will that waits for longer than this test takes, and below one that is due soon.
        let die = |name: &str, delay| {
            let mut dying = lasting(name);
            dying.will = Some(Will {
                topic: TopicName::parse(&format!("a/will/{name}")).unwrap(),
                payload: "gone".into(),
                qos: QoS::AtLeastOnce,
                retain: false,
                properties: WillProperties { will_delay_interval: Some(delay), ..WillProperties::default() },
            });
            drop(Peer::connect_as(dial(broker.address), dying));
        };
        die("late", 3000);
        let Packet::Publish(mut retained) = publish("state", "on", Delivery::AtLeastOnce(id(4))) else {
            panic!()
        };
        retained.retain = true;
        publisher.send(&Packet::Publish(retained.clone()));
        assert!(matches!(publisher.receive(), Some(Packet::PubAck(_))));
        retained.topic = Some(TopicName::parse("cleared").unwrap());
        for payload in ["x", ""] {
            retained.payload = payload.into();
            publisher.send(&Packet::Publish(retained.clone()));
            assert!(matches!(publisher.receive(), Some(Packet::PubAck(_))));
        }
        // Its connection is closed when its goodbye was heard.
        keeper.send(&goodbye());
        assert!(keeper.receive().is_none());
        publish_now(&mut publisher, "a/waiting", "5", 5);
        // However slow the machine is, it comes behind the one that waits.
        die("soon", 2);
        publish_now(&mut publisher, "not/any/more", "6", 6);
        stop(broker);

        let broker = Broker::start(&place, 1, "power");
        let mut keeper = Peer::over(dial(broker.address), ProtocolVersion::V5);
        keeper.send(&Packet::Connect(Box::new(lasting("keeper"))));
        assert!(matches!(keeper.receive(), Some(Packet::ConnAck(it)) if it.session_present));
        let again = keeper.receive_publish();
        assert!(again.dup && again.delivery == Delivery::AtLeastOnce(first), "{again:?}");
        assert!(matches!(keeper.receive(), Some(Packet::PubRel(rel)) if rel.packet_id == second));
        let waiting = keeper.receive_publish();
        assert_eq!((&waiting.payload[..], waiting.dup), (&b"5"[..], false));
        keeper.send(&Packet::PubComp(ack(second)));
        // Its own QoS 2 message is known: the repeat is answered, and it is routed once, when it is released.
        let mut watcher = Peer::connect(dial(broker.address), "watcher", ProtocolVersion::V5);
        for filter in ["elsewhere", "cleared", "state"] {
            watcher.subscribe(filter, QoS::AtMostOnce);
        }
        assert_eq!(&watcher.receive_publish().payload[..], b"on", "retained, and the cleared one is not");
        keeper.send(&publish("elsewhere", "3", Delivery::ExactlyOnce(id(33))));
        // Whenever it is due, among these.
        let next = [keeper.receive().unwrap(), keeper.receive().unwrap()];
        assert!(
            next.iter().any(|it| matches!(it, Packet::PubRec(ack) if ack.packet_id == id(33))),
            "{next:?}"
        );
        let is_will = |it: &Packet| matches!(it, Packet::Publish(it) if &it.payload[..] == b"gone");
        assert!(next.iter().any(is_will), "{next:?}");
        watcher.ping();
        keeper.send(&Packet::PubRel(ack(id(33))));
        assert!(matches!(keeper.receive(), Some(Packet::PubComp(_))));
        assert_eq!(&watcher.receive_publish().payload[..], b"3", "promised before the stop, routed after it");
        watcher.ping();
        drop(broker);
    }
}

fn will(topic: &str, delay: Option<u32>) -> Will {
    Will {
        topic: TopicName::parse(topic).unwrap(),
        payload: "Offline".into(),
        qos: QoS::AtLeastOnce,
        retain: true,
        properties: WillProperties { will_delay_interval: delay, ..WillProperties::default() },
    }
}

/// A device that is gone since must not be called online for ever. A stop is no different: the wills are said then too.
#[test]
fn who_was_connected_when_the_broker_died_is_mourned_by_the_next_one() {
    for (round, stop) in [Broker::kill as fn(Broker), Broker::terminate].into_iter().enumerate() {
        let place = scratch(&format!("wills-{round}")).join("broker.db");
        let broker = Broker::start(&place, 2, "power");
        let mut keeper = Peer::connect_as(dial(broker.address), lasting("keeper"));
        keeper.subscribe("lwt/#", QoS::AtLeastOnce);
        keeper.send(&goodbye());
        assert!(keeper.receive().is_none());
        // As a device connects; the kill follows its CONNACK at once.
        let device = |name: &str, will: Will| {
            let mut connect = connect_packet(name, ProtocolVersion::V311);
            connect.clean_start = true;
            connect.will = Some(will);
            Peer::connect_as(dial(broker.address), connect)
        };
        let mut waits = lasting("waits");
        waits.will = Some(will("lwt/waits", Some(3000)));
        let waits = Peer::connect_as(dial(broker.address), waits);
        let mut left = device("left", will("lwt/left", None));
        left.send(&goodbye());
        assert!(left.receive().is_none());
        // Its end is written after it is seen; an acknowledgement of the same shard says that it is.
        let mut others: Vec<Peer> = (0..2)
            .map(|n| Peer::connect(dial(broker.address), &format!("other{n}"), ProtocolVersion::V5))
            .collect();
        let id = PacketId::new(1).unwrap();
        for other in &mut others {
            other.send(&publish("lwt/other", "1", Delivery::AtLeastOnce(id)));
            assert!(matches!(other.receive(), Some(Packet::PubAck(_))));
        }
        let devices: Vec<Peer> =
            (0..4).map(|n| device(&format!("plug{n}"), will(&format!("lwt/plug{n}"), None))).collect();
        stop(broker);
        drop((waits, devices, others));

        for start in 0..2 {
            let broker = Broker::start(&place, 2, "power");
            let mut keeper = Peer::connect_as(dial(broker.address), lasting("keeper"));
            let expected = if start == 0 { 6 } else { 0 };
            let mut heard: Vec<String> = (0..expected)
                .map(|_| {
                    let publish = keeper.receive_publish();
                    let Delivery::AtLeastOnce(id) = publish.delivery else { panic!("{publish:?}") };
                    keeper.send(&Packet::PubAck(ack(id)));
                    publish.topic.unwrap().to_string()
                })
                .collect();
            heard.sort_unstable();
            let all = ["lwt/other", "lwt/other", "lwt/plug0", "lwt/plug1", "lwt/plug2", "lwt/plug3"];
            assert_eq!(heard, all[..expected], "start {start}");
            // What it acknowledged is forgotten on the disk too once a later fact of the same shard is promised, as a
            // retained message is: a kill before that may bring it again, as QoS 1 allows.
            let Packet::Publish(mut fence) = publish("fence", "1", Delivery::AtLeastOnce(id)) else {
                panic!()
            };
            fence.retain = true;
            keeper.send(&Packet::Publish(fence));
            assert!(matches!(keeper.receive(), Some(Packet::PubAck(_))), "start {start}");
            let mut watcher = Peer::connect(dial(broker.address), "watcher", ProtocolVersion::V5);
            watcher.subscribe("lwt/plug1", QoS::AtMostOnce);
            assert_eq!(&watcher.receive_publish().payload[..], b"Offline", "it is retained");
            for mut peer in [keeper, watcher] {
                peer.send(&goodbye());
                assert!(peer.receive().is_none());
            }
            broker.kill();
        }
    }
}

#[test]
fn mosquittos_clients_find_their_sessions_after_a_kill() {
    let place = scratch("mosquitto-clients").join("broker.db");
    let broker = Broker::start(&place, 1, "power");
    let port = |broker: &Broker| broker.address.port().to_string();
    let listen = |broker: &Broker, more: &[&str]| {
        let port = port(broker);
        let mut words = vec!["-h", "127.0.0.1", "-p", &port, "-i", "mosq", "-c", "-q", "2", "-t", "news/#"];
        words.extend(more);
        run("mosquitto_sub", &words)
    };
    listen(&broker, &["-E"]);
    for n in 0..5 {
        let (port, n) = (port(&broker), n.to_string());
        run_well("mosquitto_pub", &["-h", "127.0.0.1", "-p", &port, "-q", "2", "-t", "news/x", "-m", &n]);
        run_well("mosquitto_pub", &["-h", "127.0.0.1", "-p", &port, "-q", "1", "-r", "-t", "kept", "-m", &n]);
    }
    broker.kill();
    let broker = Broker::start(&place, 1, "power");
    let output = listen(&broker, &["-C", "5", "-W", "10"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n1\n2\n3\n4\n");
    let port = port(&broker);
    let kept = run_well(
        "mosquitto_sub",
        &["-h", "127.0.0.1", "-p", &port, "-t", "kept", "-C", "1", "-W", "10", "-F", "%r %p"],
    );
    assert_eq!(kept, "1 4\n");
    broker.terminate();
}
