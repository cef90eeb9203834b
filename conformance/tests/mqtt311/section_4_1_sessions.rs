//! 4.1 Storing state, 4.4 message delivery retry.
use super::*;

scenes! { V311,
    /// [MQTT-4.4.0-1]
    resume::they_come_again_until_acknowledged;
    /// [MQTT-4.4.0-1]
    resume::pubrel_comes_again_instead_of_the_message;
    /// [MQTT-4.4.0-1] [MQTT-4.6.0-6]
    resume::newer_messages_come_behind;
    /// [MQTT-4.4.0-1]
    resume::acknowledged_messages_do_not_come_again;
    /// [MQTT-4.3.1-1]
    resume::qos_0_does_not_come_again;
    /// [MQTT-4.1.0-1] [MQTT-4.3.3-2]
    session::an_open_qos_2_handshake_inwards_is_remembered;
    /// [MQTT-4.1.0-1]
    session::an_unsubscription_is_remembered;
    /// 4.4 Nothing is sent again but at reconnect.
    delivery::nothing_is_sent_again_on_the_same_connection;
}

/// [MQTT-4.1.0-2] The session lasts as long as its connection, also a clean one.
#[test]
fn a_session_lasts_as_long_as_its_connection() {
    let topic = unique_topic();
    let mut client = Client::fresh(V311);
    client.must_subscribe(&topic, 2);
    let mut publisher = Client::fresh(V311);
    publisher.publish(&publish(topic.as_str(), "open").qos(2, 1));
    let message = client.receive();
    client.expect_nothing(Duration::from_millis(1500));
    client.say(words::acknowledge(kind::PUBREC, message.id));
    client.expect_ack(kind::PUBREL, message.id);
    client.say(words::acknowledge(kind::PUBCOMP, message.id));
    publisher.publish(&publish(topic.as_str(), "still subscribed"));
    client.expect_message("still subscribed");
}

/// [MQTT-3.1.2-6] State of a clean session is not used by a lasting one that follows, nor the other way round.
#[test]
fn clean_and_lasting_sessions_do_not_mix() {
    let topic = unique_topic();
    let id = unique_id();
    let mut lasting = Client::connect(&Connect::lasting(V311, id.clone()));
    lasting.must_subscribe(&topic, 1);
    let mut clean = Client::connect(&Connect::new(V311, id.clone()));
    lasting.expect_closed();
    clean.publish(&publish(topic.as_str(), "m").qos(1, 1));
    clean.expect_quiet();
    let (mut lasting, answer) = Client::try_connect(&Connect::lasting(V311, id));
    assert!(!answer.session_present);
    lasting.expect_quiet();
}
