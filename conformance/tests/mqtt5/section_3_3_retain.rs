//! 3.3.1.3 RETAIN, with the subscription options it depends on.
use super::*;

/// Retain Handling 1 and 2, Retain As Published, as option bits.
const IF_NEW: u8 = 0x10;
const NEVER: u8 = 0x20;
const AS_PUBLISHED: u8 = 0x08;

scenes! { V5,
    /// [MQTT-3.3.1-5]
    retained::a_retained_message_is_kept_with_its_qos;
    /// [MQTT-3.3.1-5]
    retained::a_newer_retained_message_replaces_it;
    /// [MQTT-3.3.1-6]
    retained::an_empty_payload_removes_the_retained_message;
    /// [MQTT-3.3.1-7]
    retained::an_empty_retained_message_is_not_kept;
    /// [MQTT-3.3.1-8]
    retained::a_message_without_retain_changes_nothing;
    /// [MQTT-3.3.1-8]
    retained::a_message_without_retain_is_not_kept;
    /// [MQTT-3.3.1-9]
    retained::a_wildcard_subscription_gets_each_matching_one;
    /// [MQTT-3.3.1-9] [MQTT-3.8.4-4]
    retained::subscribing_again_sends_it_again;
    /// [MQTT-3.3.1-12]
    retained::an_established_subscription_gets_it_without_retain;
    /// 4.1 Retained messages are no session state.
    retained::a_retained_message_outlives_its_publishers_session;
    /// 3.3.1.3 Resuming is no new subscription.
    retained::resuming_a_session_sends_no_retained_message;
    /// [MQTT-3.8.4-8]
    retained::its_qos_is_lowered_to_the_granted_one;
}

fn keep(topic: &str, payload: &str) {
    Client::fresh(V5).publish(&publish(topic, payload).qos(1, 1).retained());
}

/// [MQTT-3.3.1-10] Retain Handling 1: for a new subscription only; after unsubscribing it is new once more.
#[test]
fn retain_handling_1_sends_to_new_subscriptions_only() {
    let topic = unique_topic();
    keep(&topic, "kept");
    let mut client = Client::fresh(V5);
    client.must_subscribe(&topic, 1 | IF_NEW);
    assert!(client.expect_message("kept").retain);
    client.must_subscribe(&topic, IF_NEW);
    client.expect_quiet();
    client.unsubscribe(&topic);
    client.must_subscribe(&topic, 1 | IF_NEW);
    client.expect_message("kept");
}

/// [MQTT-3.3.1-10] A subscription of an earlier connection of the session is not new.
#[test]
fn retain_handling_1_knows_subscriptions_of_earlier_connections() {
    let topic = unique_topic();
    let connect = Connect::lasting(V5, unique_id());
    let mut client = Client::connect(&connect);
    client.must_subscribe(&topic, 0);
    client.leave();
    keep(&topic, "kept");
    let mut client = Client::connect(&connect);
    client.hear_nothing_retained();
    client.must_subscribe(&topic, IF_NEW);
    client.hear_nothing_retained();
}

trait Retained {
    fn hear_nothing_retained(&mut self);
}

impl Retained for Client {
    fn hear_nothing_retained(&mut self) {
        while let Heard::Packet(packet) = self.listen(Duration::from_millis(150)) {
            assert!(!packet.publish(V5).retain, "{packet:?}");
        }
    }
}

/// [MQTT-3.3.1-11] Retain Handling 2: never at subscribing; live messages come.
#[test]
fn retain_handling_2_sends_nothing_at_subscribing() {
    let topic = unique_topic();
    keep(&topic, "kept");
    let mut client = Client::fresh(V5);
    client.must_subscribe(&topic, NEVER);
    client.must_subscribe(&topic, NEVER);
    client.expect_quiet();
    keep(&topic, "live");
    client.expect_message("live");
}

/// [MQTT-3.3.1-13] [MQTT-3.3.1-12] Retain As Published says whether RETAIN of a live message is passed on.
#[test]
fn retain_as_published_decides_about_live_messages() {
    for (option, retain, expected) in
        [(0, false, false), (0, true, false), (AS_PUBLISHED, false, false), (AS_PUBLISHED, true, true)]
    {
        let topic = unique_topic();
        let mut client = Client::fresh(V5);
        client.must_subscribe(&topic, option);
        let mut message = publish(topic.as_str(), "live");
        message.retain = retain;
        Client::fresh(V5).publish(&message);
        assert_eq!(client.expect_message("live").retain, expected, "option {option}, published {retain}");
    }
}

/// [MQTT-3.3.1-13] The option holds for messages that waited, too.
#[test]
fn retain_as_published_holds_for_messages_that_waited() {
    let topic = unique_topic();
    let connect = Connect::lasting(V5, unique_id());
    let mut client = Client::connect(&connect);
    client.must_subscribe(&topic, 1 | AS_PUBLISHED);
    client.leave();
    keep(&topic, "kept");
    Client::fresh(V5).publish(&publish(topic.as_str(), "passing").qos(1, 1));
    let mut client = Client::connect(&connect);
    assert!(client.expect_message("kept").retain);
    assert!(!client.expect_message("passing").retain);
}

/// [MQTT-3.3.1-9] With Retain As Published or without, a retained message at subscribing has RETAIN.
#[test]
fn a_retained_message_at_subscribing_has_retain() {
    for option in [0, AS_PUBLISHED, IF_NEW, AS_PUBLISHED | IF_NEW] {
        let topic = unique_topic();
        keep(&topic, "kept");
        let mut client = Client::fresh(V5);
        client.must_subscribe(&topic, option);
        assert!(client.expect_message("kept").retain, "option {option:#x}");
    }
}

/// [MQTT-3.3.1-13] [MQTT-3.3.1-7] The message that removes a retained one is a message like others, with RETAIN where that is asked.
#[test]
fn the_removal_of_a_retained_message_is_passed_on() {
    let topic = unique_topic();
    keep(&topic, "kept");
    let (mut as_published, mut plain) = (Client::fresh(V5), Client::fresh(V5));
    as_published.must_subscribe(&topic, AS_PUBLISHED | NEVER);
    plain.must_subscribe(&topic, NEVER);
    keep(&topic, "");
    assert!(as_published.expect_message("").retain);
    assert!(!plain.expect_message("").retain);
    let mut late = Client::fresh(V5);
    late.must_subscribe(&topic, 0);
    late.expect_quiet();
}

/// [MQTT-3.1.2-15] [MQTT-3.3.1-6] A will with RETAIN and without a payload removes what is retained.
#[test]
fn a_will_can_remove_a_retained_message() {
    let topic = unique_topic();
    keep(&topic, "online");
    let mut will = Will::new(topic.as_str(), "");
    will.retain = true;
    let mut witness = Client::fresh(V5);
    witness.must_subscribe(&topic, NEVER);
    Client::connect(&Connect::new(V5, unique_id()).will(will)).vanish();
    witness.expect_message("");
    let mut late = Client::fresh(V5);
    late.must_subscribe(&topic, 0);
    late.expect_quiet();
}
