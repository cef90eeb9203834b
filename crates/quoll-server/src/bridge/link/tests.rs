//! A link between two brokers by hand, with a clock by hand.

use std::path::PathBuf;

use bytes::Bytes;
use quoll_broker::Grants;
use quoll_mqtt::packet::{Ack, AckProperties, ConnAck, SubAck};
use quoll_mqtt::{Delivery, QoS};

use super::*;
use crate::mosquitto::{Files, Surroundings, read};

/// One file.
struct Text(String);

impl Files for Text {
    fn read(&self, _: &std::path::Path, _: usize) -> std::io::Result<Vec<u8>> {
        Ok(self.0.clone().into_bytes())
    }

    fn list(&self, _: &std::path::Path) -> std::io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

/// Both ends of a link, played by the test.
struct Ends {
    link: Link,
    now: Instant,
    remote: Vec<u8>,
    local: Vec<u8>,
}

impl Ends {
    /// A bridge of these lines that both brokers let in.
    fn connected(lines: &str, allows: ConnAckProperties, local: ConnAckProperties) -> Self {
        let text = format!("connection test\naddress 127.0.0.1\n{lines}topic # both 2\n");
        let files = Text(text);
        let surroundings = Surroundings { host_name: "here".into(), persistence_location: None };
        let read = read(std::path::Path::new("x"), &files, &surroundings).unwrap();
        let bridge = Bridge {
            configuration: read.bridges.into_iter().next().unwrap(),
            tls: None,
            grants: Arc::new(Grants::all()),
            window: 20,
            largest: 10_000,
        };
        let (now, mut remote) = (Instant::now(), Vec::new());
        let link = Link::begin(Arc::new(bridge), true, now, &mut remote);
        let mut ends = Self { link, now, remote, local: Vec::new() };
        assert!(!ends.link.is_in() && ends.link.next_deadline().is_none());
        assert_eq!(ends.said_remotely().len(), 1, "CONNECT");
        ends.remote_says(&connack(allows)).unwrap();
        assert!(ends.link.is_in());
        ends.local_says(&connack(local)).unwrap();
        ends.said_remotely();
        ends.said_locally();
        ends
    }

    fn version(&self) -> ProtocolVersion {
        self.link.bridge.configuration.version
    }

    fn remote_says(&mut self, packet: &Packet) -> Result<(), Ending> {
        let mut bytes = Vec::new();
        encode(packet, self.version(), &mut bytes).unwrap();
        let mut outs = Outs { remote: &mut self.remote, local: &mut self.local };
        self.link.remote_said(&bytes, self.now, &mut outs)
    }

    fn local_says(&mut self, packet: &Packet) -> Result<(), Ending> {
        let mut bytes = Vec::new();
        encode(packet, self.link.bridge.local_version(), &mut bytes).unwrap();
        let mut outs = Outs { remote: &mut self.remote, local: &mut self.local };
        self.link.local_said(&bytes, self.now, &mut outs)
    }

    fn wait(&mut self, seconds: u64) -> Result<(), Ending> {
        self.now += Duration::from_secs(seconds);
        self.link.tick(self.now, &mut self.remote)
    }

    fn said_remotely(&mut self) -> Vec<Packet> {
        let version = self.version();
        packets(&mut self.remote, version)
    }

    fn said_locally(&mut self) -> Vec<Packet> {
        let version = self.link.bridge.local_version();
        packets(&mut self.local, version)
    }
}

fn packets(bytes: &mut Vec<u8>, version: ProtocolVersion) -> Vec<Packet> {
    let mut all = Vec::new();
    // CONNECT says its version itself.
    let is_connect = bytes.first() == Some(&0x10);
    let context = DecodeContext {
        version: (!is_connect).then_some(version),
        maximum_packet_size: u32::MAX,
        role: Role::Server,
    };
    while let Decoded::Packet(packet, used) = decode(bytes, &context).unwrap() {
        bytes.drain(..used);
        all.push(packet);
    }
    all
}

fn connack(properties: ConnAckProperties) -> Packet {
    Packet::ConnAck(Box::new(ConnAck { session_present: false, reason: ReasonCode::SUCCESS, properties }))
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn ack(number: u16) -> Ack {
    Ack::new(id(number), ReasonCode::SUCCESS)
}

fn publish(delivery: Delivery) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        retain: false,
        delivery,
        topic: Some(TopicName::parse("a/b").unwrap()),
        payload: Bytes::from_static(b"x"),
        properties: None,
    })
}

fn ids(packets: &[Packet]) -> Vec<u16> {
    let id = |packet: &Packet| match packet {
        Packet::Publish(publish) => publish.delivery.packet_id().map(PacketId::get),
        _ => None,
    };
    packets.iter().filter_map(id).collect()
}

const V5: &str = "bridge_protocol_version mqttv50\n";

/// The bridge's own requests that nobody has answered: state, one subscription.
const OWN: [u16; 2] = [65_535, 65_534];

#[test]
fn silence_for_the_keep_alive_is_asked_about_and_ends_the_link_after_another_one() {
    let mut ends = Ends::connected(
        "keepalive_interval 10\n",
        ConnAckProperties::default(),
        ConnAckProperties::default(),
    );
    assert_eq!(ends.link.next_deadline(), Some(ends.now + Duration::from_secs(10)));
    ends.wait(9).unwrap();
    assert_eq!(ends.said_remotely(), []);
    ends.wait(1).unwrap();
    assert_eq!(ends.said_remotely(), [Packet::PingReq]);
    ends.remote_says(&Packet::PingResp).unwrap();
    // We speak, it does not.
    for _ in 0..2 {
        ends.now += Duration::from_secs(5);
        ends.local_says(&publish(Delivery::AtMostOnce)).unwrap();
    }
    ends.wait(0).unwrap();
    assert!(ends.said_remotely().contains(&Packet::PingReq), "nothing was heard for the keep alive");
    ends.wait(9).unwrap();
    assert!(matches!(ends.wait(1), Err(Ending::Silent)));
}

#[test]
fn the_other_brokers_keep_alive_is_obeyed() {
    let allows = ConnAckProperties { server_keep_alive: Some(3), ..ConnAckProperties::default() };
    let ends = Ends::connected(V5, allows, ConnAckProperties::default());
    assert_eq!(ends.link.next_deadline(), Some(ends.now + Duration::from_secs(3)));
}

#[test]
fn a_lazy_link_is_idle_when_no_message_goes_over_it_whatever_else_does() {
    let lazy = "start_type lazy\nidle_timeout 30\nkeepalive_interval 10\n";
    let mut ends = Ends::connected(lazy, ConnAckProperties::default(), ConnAckProperties::default());
    for _ in 0..2 {
        ends.wait(10).unwrap();
        ends.remote_says(&Packet::PingResp).unwrap();
    }
    ends.remote_says(&publish(Delivery::AtMostOnce)).unwrap();
    ends.wait(29).unwrap();
    ends.remote_says(&Packet::PingResp).unwrap();
    assert!(matches!(ends.wait(1), Err(Ending::Idle)));
}

#[test]
fn no_more_messages_go_out_than_the_other_broker_takes_at_once() {
    let allows = ConnAckProperties { receive_maximum: Some(2), ..ConnAckProperties::default() };
    let mut ends = Ends::connected(V5, allows, ConnAckProperties::default());
    assert_eq!(ends.link.receive_maximum(), Some(2));
    for number in 1..=3 {
        ends.local_says(&publish(Delivery::AtLeastOnce(id(number)))).unwrap();
    }
    assert_eq!(ids(&ends.said_remotely()), [1], "the state topic counts too");
    ends.remote_says(&Packet::PubAck(ack(OWN[0]))).unwrap();
    assert_eq!(ids(&ends.said_remotely()), [2]);
    ends.remote_says(&Packet::PubAck(ack(1))).unwrap();
    assert_eq!(ids(&ends.said_remotely()), [3]);
    assert_eq!(
        ends.said_locally(),
        [Packet::PubAck(ack(1))],
        "our own acknowledgement is not the local broker's"
    );
}

#[test]
fn an_identifier_in_use_by_a_request_of_our_own_is_waited_for() {
    let mut ends = Ends::connected(V5, ConnAckProperties::default(), ConnAckProperties::default());
    ends.local_says(&publish(Delivery::AtLeastOnce(id(OWN[1])))).unwrap();
    ends.local_says(&publish(Delivery::AtMostOnce)).unwrap();
    assert_eq!(ends.said_remotely().len(), 1, "what has no identifier waits for nobody");
    let (reasons, properties) = (vec![ReasonCode::SUCCESS], AckProperties::default());
    let suback = SubAck { packet_id: id(OWN[1]), reasons, properties };
    ends.remote_says(&Packet::SubAck(Box::new(suback))).unwrap();
    assert_eq!(ids(&ends.said_remotely()), [OWN[1]]);
}

/// Sent at QoS 1, though the local broker holds it at 2: its side of the exchange is played here.
#[test]
fn a_broker_of_a_lower_level_gets_it_lowered_and_the_local_one_does_not_notice() {
    let allows = ConnAckProperties { maximum_qos: Some(QoS::AtLeastOnce), ..ConnAckProperties::default() };
    let mut ends = Ends::connected(V5, allows, ConnAckProperties::default());
    ends.local_says(&publish(Delivery::ExactlyOnce(id(1)))).unwrap();
    assert_eq!(ends.said_remotely(), [publish(Delivery::AtLeastOnce(id(1)))]);
    assert_eq!(ends.said_locally(), [], "not acknowledged before the other broker has it");
    ends.remote_says(&Packet::PubAck(ack(1))).unwrap();
    assert_eq!(ends.said_locally(), [Packet::PubRec(ack(1))]);
    ends.local_says(&Packet::PubRel(ack(1))).unwrap();
    assert_eq!((ends.said_remotely(), ends.said_locally()), (vec![], vec![Packet::PubComp(ack(1))]));
    let allows = ConnAckProperties { maximum_qos: Some(QoS::AtMostOnce), ..ConnAckProperties::default() };
    let mut ends = Ends::connected(V5, allows, ConnAckProperties::default());
    ends.local_says(&publish(Delivery::AtLeastOnce(id(1)))).unwrap();
    assert_eq!(ends.said_remotely(), [publish(Delivery::AtMostOnce)]);
    assert_eq!(ends.said_locally(), [Packet::PubAck(ack(1))]);
}

/// A broker that sends more at QoS 2 than our Receive Maximum, as Mosquitto 2.0 does after a reconnect, loses nothing by it.
#[test]
fn what_the_local_broker_does_not_take_yet_waits() {
    let local = ConnAckProperties { receive_maximum: Some(2), ..ConnAckProperties::default() };
    let mut ends = Ends::connected(V5, ConnAckProperties::default(), local);
    for number in [1, 2, 3, 4, 3] {
        ends.remote_says(&publish(Delivery::ExactlyOnce(id(number)))).unwrap();
    }
    assert_eq!(ids(&ends.said_locally()), [1, 2]);
    ends.local_says(&Packet::PubRec(ack(1))).unwrap();
    ends.remote_says(&Packet::PubRel(ack(1))).unwrap();
    ends.local_says(&Packet::PubComp(ack(1))).unwrap();
    assert_eq!(ends.said_locally(), [Packet::PubRel(ack(1)), publish(Delivery::ExactlyOnce(id(3)))]);
    ends.local_says(&Packet::PubRec(Ack::new(id(2), ReasonCode::NOT_AUTHORIZED))).unwrap();
    assert_eq!(ids(&ends.said_locally()), [4], "a refusal makes room as well");
    assert_eq!(
        ends.said_remotely(),
        [
            Packet::PubRec(ack(1)),
            Packet::PubComp(ack(1)),
            Packet::PubRec(Ack::new(id(2), ReasonCode::NOT_AUTHORIZED))
        ]
    );
}

/// Too large under its name here: acknowledged, dropped, and the rest goes on.
#[test]
fn a_message_that_this_broker_does_not_take_is_dropped_and_the_rest_goes_on() {
    let mut ends = Ends::connected("", ConnAckProperties::default(), ConnAckProperties::default());
    ends.link.topics = Topics::new(
        ends.link
            .topics
            .lines()
            .iter()
            .map(|line| {
                let local_prefix = Some("p".repeat(9_990));
                crate::mosquitto::bridge::BridgeTopic { local_prefix, ..line.clone() }
            })
            .collect(),
    );
    for delivery in [Delivery::AtLeastOnce(id(1)), Delivery::ExactlyOnce(id(2))] {
        ends.remote_says(&publish(delivery)).unwrap();
    }
    assert_eq!(ends.said_remotely(), [Packet::PubAck(ack(1)), Packet::PubRec(ack(2))]);
    ends.remote_says(&Packet::PubRel(ack(2))).unwrap();
    assert_eq!(ends.said_remotely(), [Packet::PubComp(ack(2))]);
    assert_eq!(ends.said_locally(), []);
}
