//! 3.4 PUBACK, 3.5 PUBREC, 3.6 PUBREL, 3.7 PUBCOMP.
use super::*;

/// [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.7.2-1] Reasons the broker gives are those of the tables, whether somebody subscribes or not.
#[test]
fn reasons_are_those_of_the_tables() {
    let topic = unique_topic();
    let mut publisher = Client::fresh(V5);
    let mut subscriber = Client::fresh(V5);
    for round in 0..2 {
        publisher.say(publish(topic.as_str(), "m").qos(1, 1).bytes(V5));
        let puback = publisher.hear().ack(kind::PUBACK, V5);
        assert!(matches!(puback.reason, 0x00 | 0x10), "round {round}: {puback:?}");
        publisher.say(publish(topic.as_str(), "m").qos(2, 2).bytes(V5));
        let pubrec = publisher.hear().ack(kind::PUBREC, V5);
        assert!(matches!(pubrec.reason, 0x00 | 0x10), "round {round}: {pubrec:?}");
        if round == 1 {
            assert_eq!((puback.reason, pubrec.reason), (0, 0), "there is a subscriber");
        }
        publisher.say(words::acknowledge(kind::PUBREL, 2));
        let pubcomp = publisher.hear().ack(kind::PUBCOMP, V5);
        assert_eq!(pubcomp.reason, 0);
        subscriber.must_subscribe(&topic, 1);
    }
}

/// [MQTT-4.3.3-11] 3.7.2 PUBREL for an identifier that is not in use: PUBCOMP says 0x92, or that all is well, since a
/// PUBCOMP that was lost with its connection is no fault of anybody.
#[test]
fn pubrel_for_nothing_is_answered() {
    let mut client = Client::fresh(V5);
    client.say(words::acknowledge(kind::PUBREL, 4242));
    let ack = client.hear().ack(kind::PUBCOMP, V5);
    assert!(ack.id == 4242 && matches!(ack.reason, 0 | 0x92), "{ack:?}");
}

/// 3.6.2 PUBREC for an identifier that is not in use: PUBREL says 0x92, or that all is well.
#[test]
fn pubrec_for_nothing_is_answered() {
    let mut client = Client::fresh(V5);
    client.say(words::acknowledge(kind::PUBREC, 4242));
    let ack = client.hear().ack(kind::PUBREL, V5);
    assert!(ack.id == 4242 && matches!(ack.reason, 0 | 0x92), "{ack:?}");
}

/// [MQTT-3.6.2-1] PUBREL of an ordinary handshake says 0x00.
#[test]
fn pubrel_says_success() {
    let topic = unique_topic();
    let mut client = Client::fresh(V5);
    client.must_subscribe(&topic, 2);
    Client::fresh(V5).publish(&publish(topic.as_str(), "m").qos(2, 1));
    let id = client.receive().id;
    client.say(words::acknowledge_with(kind::PUBREC, id, 0x00));
    let ack = client.hear().ack(kind::PUBREL, V5);
    assert_eq!((ack.id, ack.reason), (id, 0));
}

/// 3.4.2 to 3.7.2 All lengths of an acknowledgement are understood: bare, with reason, with properties.
#[test]
fn all_forms_of_acknowledgements_are_understood() {
    let topic = unique_topic();
    let mut client = Client::fresh(V5);
    client.must_subscribe(&topic, 2);
    let mut publisher = Client::fresh(V5);
    let tail = property::field(&[
        property::reason_string("fine"),
        property::user("a", "b"),
        property::user("a", "b"),
    ]);
    let forms: [&[u8]; 4] = [&[], &[0x00], &[0x00, 0x00], &[&[0x00], tail.as_slice()].concat()];
    for (place, form) in forms.iter().enumerate() {
        let say = |first: u8, id: u16| words::packet(first, &[id.to_be_bytes().as_slice(), form].concat());
        publisher.publish(&publish(topic.as_str(), "one").qos(1, 1));
        let id = client.receive().id;
        client.say(say(0x40, id));
        publisher.publish(&publish(topic.as_str(), "two").qos(2, 1));
        let id = client.receive().id;
        client.say(say(0x50, id));
        client.expect_ack(kind::PUBREL, id);
        client.say(say(0x70, id));
        client.say(publish("other", "three").qos(2, 9).bytes(V5));
        client.expect_ack(kind::PUBREC, 9);
        client.say(say(0x62, 9));
        client.expect_ack(kind::PUBCOMP, 9);
        client.expect_alive();
        assert!(place < 4);
    }
}

/// [MQTT-4.4.0-2] 4.3 A message refused by PUBACK or PUBREC of 0x80 or more is done: no PUBREL, no repetition.
#[test]
fn a_refused_message_is_done() {
    for (qos, kind_of) in [(1, kind::PUBACK), (2, kind::PUBREC)] {
        for reason in [0x80, 0x83, 0x87, 0x90, 0x97, 0x99] {
            let topic = unique_topic();
            let connect = Connect::lasting(V5, unique_id());
            let mut client = Client::connect(&connect);
            client.must_subscribe(&topic, 2);
            let mut publisher = Client::fresh(V5);
            publisher.publish(&publish(topic.as_str(), "unwanted").qos(qos, 1));
            let id = client.receive().id;
            client.say(words::acknowledge_with(kind_of, id, reason));
            client.expect_alive();
            client.vanish();
            let mut client = Client::connect(&connect);
            publisher.publish(&publish(topic.as_str(), "next").qos(qos, 1));
            assert_eq!(client.take().text(), "next", "QoS {qos}, reason {reason:#x}");
        }
    }
}

/// 3.4.2.1, 3.5.2.1 A reason of 0x10 is no refusal.
#[test]
fn no_matching_subscribers_is_no_refusal() {
    let topic = unique_topic();
    let mut client = Client::fresh(V5);
    client.must_subscribe(&topic, 2);
    Client::fresh(V5).publish(&publish(topic.as_str(), "m").qos(2, 1));
    let id = client.receive().id;
    client.say(words::acknowledge_with(kind::PUBREC, id, 0x10));
    client.expect_ack(kind::PUBREL, id);
}

/// [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3] [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1] [MQTT-3.11.2-2] Reason strings
/// and user properties of answers keep to the client's packet size.
#[test]
fn answers_keep_to_the_packet_size() {
    let limit = 20;
    let mut client =
        Client::connect(&Connect::new(V5, unique_id()).with(property::maximum_packet_size(limit as u32)));
    for (say, wanted) in [
        (publish("nobody", "x").qos(1, 1).bytes(V5), kind::PUBACK),
        (publish("nobody", "x").qos(2, 2).bytes(V5), kind::PUBREC),
        (words::acknowledge(kind::PUBREL, 4242), kind::PUBCOMP),
        (words::acknowledge(kind::PUBREC, 4242), kind::PUBREL),
        (words::subscribe(V5, 4, &[("$share/x", 0)]), kind::SUBACK),
        (words::unsubscribe(V5, 5, &["never/was"]), kind::UNSUBACK),
    ] {
        client.say(say);
        match client.listen(Duration::from_secs(5)) {
            Heard::Packet(packet) => {
                assert!(packet.body.len() + 2 <= limit, "{packet:?}");
                if packet.kind == kind::DISCONNECT {
                    client = Client::connect(
                        &Connect::new(V5, unique_id()).with(property::maximum_packet_size(limit as u32)),
                    );
                } else {
                    assert_eq!(packet.kind, wanted);
                }
            }
            Heard::Closed => client = Client::fresh(V5),
            Heard::Nothing => panic!("no answer of type {wanted}"),
        }
    }
}
