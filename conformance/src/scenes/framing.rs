//! Packets and segments: the stream has no edges but those of packets.

use crate::client::PATIENCE;
use crate::prelude::*;

/// A conversation that touches most packets, and how many packets answer it.
fn conversation(v: Version, topic: &str) -> (Vec<u8>, Vec<u8>) {
    let said = [
        Connect::new(v, unique_id()).keep_alive(60).will(Will::new("w", "w")).bytes(),
        words::subscribe(v, 1, &[(topic, 2), ("other/+", 0)]),
        publish(format!("{topic}/x"), "zero").bytes(v),
        publish(format!("{topic}/x"), "one").qos(1, 2).bytes(v),
        publish(format!("{topic}/x"), "two").qos(2, 3).bytes(v),
        words::acknowledge(kind::PUBREL, 3),
        words::unsubscribe(v, 4, &[topic]),
        words::PINGREQ.to_vec(),
    ];
    let answered = vec![
        kind::CONNACK,
        kind::SUBACK,
        kind::PUBACK,
        kind::PUBREC,
        kind::PUBCOMP,
        kind::UNSUBACK,
        kind::PINGRESP,
    ];
    (said.concat(), answered)
}

fn expect_answers(client: &mut Client, answers: &[u8], row: &str) {
    for wanted in answers {
        match client.listen(PATIENCE) {
            Heard::Packet(packet) => assert_eq!(packet.kind, *wanted, "{row}: {packet:?}"),
            other => panic!("{row}: a packet of type {wanted} was due, heard: {other:?}"),
        }
    }
}

/// All packets in one segment.
pub fn several_packets_in_one_segment_are_all_served(v: Version) {
    let (said, answers) = conversation(v, &unique_topic());
    let mut client = Client::open(v);
    client.say(said);
    expect_answers(&mut client, &answers, "one segment");
}

/// One byte at a time.
pub fn dripped_bytes_are_served(v: Version) {
    let (said, answers) = conversation(v, &unique_topic());
    let mut client = Client::open(v);
    for byte in said {
        client.say([byte]);
        std::thread::sleep(Duration::from_millis(1));
    }
    expect_answers(&mut client, &answers, "dripped");
}

/// Two segments, cut at every place.
pub fn a_cut_at_every_byte_is_served(v: Version) {
    let (said, answers) = conversation(v, &unique_topic());
    for cut in 1..said.len() {
        let mut client = Client::open(v);
        client.say(&said[..cut]);
        std::thread::sleep(Duration::from_millis(3));
        client.say(&said[cut..]);
        expect_answers(&mut client, &answers, &format!("cut at {cut}"));
    }
}

/// A packet that never ends is not acted on, and does not hinder others.
pub fn half_a_packet_has_no_effect(v: Version) {
    let topic = unique_topic();
    let mut witness = Client::fresh(v);
    witness.must_subscribe(&topic, 1);
    let whole = publish(topic.as_str(), "half of it").qos(1, 1).bytes(v);
    let mut client = Client::fresh(v);
    client.say(&whole[..whole.len() - 1]);
    witness.expect_quiet();
    client.vanish();
    witness.expect_quiet();
    Client::fresh(v).publish(&publish(topic.as_str(), "whole").qos(1, 1));
    witness.expect_message("whole");
}
