//! 4.1 Session state, 4.4 message delivery retry.
use super::*;

scenes! { V5,
    /// [MQTT-4.4.0-1]
    resume::they_come_again_until_acknowledged;
    /// [MQTT-4.4.0-1] [MQTT-4.3.3-6] [MQTT-4.3.3-5]
    resume::pubrel_comes_again_instead_of_the_message;
    /// [MQTT-4.4.0-1] [MQTT-4.6.0-5]
    resume::newer_messages_come_behind;
    /// [MQTT-4.4.0-1]
    resume::acknowledged_messages_do_not_come_again;
    /// [MQTT-4.3.1-1]
    resume::qos_0_does_not_come_again;
    /// [MQTT-4.3.3-10] 4.1 Part of the session.
    session::an_open_qos_2_handshake_inwards_is_remembered;
    /// 4.1 Part of the session.
    session::an_unsubscription_is_remembered;
    /// [MQTT-4.4.0-1] Nothing is sent again but at reconnect.
    delivery::nothing_is_sent_again_on_the_same_connection;
}

/// [MQTT-4.1.0-1] The session lasts while its connection does, also beyond its expiry.
#[test]
fn a_session_lasts_as_long_as_its_connection() {
    let topic = unique_topic();
    let connect = Connect::new(V5, unique_id()).with(property::session_expiry(4u32));
    let mut client = Client::connect(&connect);
    client.must_subscribe(&topic, 2);
    let mut publisher = Client::fresh(V5);
    publisher.publish(&publish(topic.as_str(), "open").qos(2, 1));
    let message = client.receive();
    client.expect_nothing(Duration::from_millis(5500));
    client.say(words::acknowledge(kind::PUBREC, message.id));
    client.expect_ack(kind::PUBREL, message.id);
    client.say(words::acknowledge(kind::PUBCOMP, message.id));
    publisher.publish(&publish(topic.as_str(), "still subscribed"));
    client.expect_message("still subscribed");
    client.leave();
    let mut again = connect;
    again.clean = false;
    let (_client, answer) = Client::try_connect(&again);
    assert!(answer.session_present, "the second starts at the end of the connection");
}

/// 4.1 A session made by one version can be resumed by another.
#[test]
fn a_session_can_be_resumed_by_another_version() {
    for (first, second) in [(V311, V5), (V5, V311), (V31, V5)] {
        let (id, topic) = (unique_id(), unique_topic());
        let mut client = Client::connect(&Connect::lasting(first, id.clone()));
        client.must_subscribe(&topic, 1);
        client.leave();
        Client::fresh(V5)
            .publish(&publish(topic.as_str(), "waited").qos(1, 1).with(property::user("a", "b")));
        Client::connect(&Connect::lasting(second, id)).expect_message("waited");
    }
}

/// [MQTT-3.1.2-5] Subscription options are part of the session.
#[test]
fn subscription_options_are_part_of_the_session() {
    let topic = unique_topic();
    let connect = Connect::lasting(V5, unique_id());
    let mut client = Client::connect(&connect);
    client.must_subscribe(&topic, 1 | 0x04 | 0x08);
    client.leave();
    let mut client = Client::connect(&connect);
    client.publish(&publish(topic.as_str(), "mine").qos(1, 1));
    client.expect_quiet();
    Client::fresh(V5).publish(&publish(topic.as_str(), "kept").qos(1, 1).retained());
    assert!(client.expect_message("kept").retain);
}
