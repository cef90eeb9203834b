//! A disk that is full for a while.

use std::process::Command;
use std::time::{Duration, Instant};

use quoll_mqtt::packet::*;
use quoll_mqtt::{Delivery, PacketId, ProtocolVersion, QoS, ReasonCode};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::broker::Broker;
use crate::common::*;
use crate::lasting;

#[test]
fn while_the_disk_is_full_nothing_is_promised_and_when_there_is_room_nothing_is_missing() {
    let place = scratch("full").join("broker.db");
    // The system then answers "file too large" instead of ending the process.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
    let broker = Broker::start_by(command, &place, 1, "power");
    let mut keeper = Peer::connect_as(dial(broker.address), lasting("keeper"));
    keeper.subscribe("kept", QoS::AtLeastOnce);
    let mut publisher = Peer::connect(dial(broker.address), "publisher", ProtocolVersion::V5);
    let mut other = Peer::connect(dial(broker.address), "other", ProtocolVersion::V5);
    other.subscribe("live", QoS::AtMostOnce);
    drop(keeper);
    let id = |number| PacketId::new(number).unwrap();
    publisher.send(&publish("kept", "before", Delivery::AtLeastOnce(id(1))));
    assert!(matches!(publisher.receive(), Some(Packet::PubAck(_))));

    let limit = |bytes: Option<u64>| {
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(Pid::from_child(&broker.child)), Resource::Fsize, limit).unwrap();
    };
    limit(Some(8192));
    let full = Instant::now();
    publisher.send(&publish("kept", "into the full disk", Delivery::AtLeastOnce(id(2))));
    // What needs no disk goes on.
    other.send(&publish("live", "1", Delivery::AtMostOnce));
    assert_eq!(&other.receive_publish().payload[..], b"1");
    // No acknowledgement, but after a while a reason.
    let told = publisher.receive();
    assert!(
        matches!(&told, Some(Packet::Disconnect(it)) if it.reason == ReasonCode::QUOTA_EXCEEDED),
        "{told:?}"
    );
    assert!(full.elapsed() > Duration::from_secs(4), "it was waited for: {:?}", full.elapsed());
    assert!(publisher.receive().is_none());
    // A lasting session cannot be promised either; 3.1.1 has a code for that too.
    for version in [ProtocolVersion::V5, ProtocolVersion::V311] {
        let mut connect = lasting("another");
        connect.version = version;
        if version == ProtocolVersion::V311 {
            connect.properties = ConnectProperties::default();
        }
        let mut refused = Peer::over(dial(broker.address), version);
        refused.send(&Packet::Connect(Box::new(connect)));
        let answer = refused.receive();
        assert!(
            matches!(&answer, Some(Packet::ConnAck(it)) if it.reason.is_failure() && !it.session_present),
            "{answer:?}"
        );
        assert!(refused.receive().is_none());
    }
    // But one that has no more than a will to lose is let in.
    let mut lamp = connect_packet("lamp", ProtocolVersion::V5);
    lamp.will = Some(Will {
        topic: quoll_mqtt::TopicName::parse("lwt/lamp").unwrap(),
        payload: "Offline".into(),
        qos: QoS::AtMostOnce,
        retain: true,
        properties: WillProperties::default(),
    });
    Peer::connect_as(dial(broker.address), lamp).ping();
    other.ping();

    limit(None);
    let mut publisher = Peer::connect(dial(broker.address), "publisher", ProtocolVersion::V5);
    let until = Instant::now() + LONG;
    loop {
        publisher.send(&publish("kept", "after", Delivery::AtLeastOnce(id(3))));
        match publisher.receive() {
            Some(Packet::PubAck(_)) => break,
            _ => {
                assert!(Instant::now() < until, "it is not noticed that there is room");
                std::thread::sleep(Duration::from_millis(100));
                publisher = Peer::connect(dial(broker.address), "publisher", ProtocolVersion::V5);
            }
        }
    }
    broker.kill();
    let broker = Broker::start(&place, 1, "power");
    let mut keeper = Peer::connect_as(dial(broker.address), lasting("keeper"));
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last| last != "after") {
        heard.push(String::from_utf8(keeper.receive_publish().payload.to_vec()).unwrap());
    }
    assert_eq!(heard[..2], ["before", "into the full disk"], "memory had it, so the file got it");
}
