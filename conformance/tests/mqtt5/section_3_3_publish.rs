//! 3.3 PUBLISH: fixed header, topic, actions.
use super::*;

scenes! { V5,
    /// [MQTT-3.3.1-1] [MQTT-4.4.0-1]
    resume::unacknowledged_messages_come_again_in_order_with_dup;
    /// [MQTT-3.3.1-2] [MQTT-4.3.1-1] [MQTT-4.3.2-2] [MQTT-4.3.3-2]
    delivery::a_first_delivery_has_no_dup;
    /// [MQTT-3.3.1-3]
    publish::dup_is_not_passed_on;
    /// [MQTT-3.3.2-3]
    topics::a_delivered_topic_matches_its_filter;
    /// [MQTT-3.3.4-1]
    publish::qos_0_is_delivered_without_an_answer;
    /// [MQTT-3.3.4-1] [MQTT-4.3.2-4] [MQTT-2.2.1-5]
    publish::qos_1_is_answered_by_puback;
    /// [MQTT-3.3.4-1] [MQTT-4.3.3-8] [MQTT-4.3.3-11] [MQTT-2.2.1-5]
    publish::qos_2_is_answered_by_pubrec_and_pubcomp;
    /// [MQTT-3.3.4-2]
    delivery::overlapping_subscriptions_respect_the_highest_qos;
    /// 3.3.3 The payload is the application's.
    publish::payloads_pass_unaltered;
    /// 3.3.4 Publishers may be subscribers.
    delivery::a_publisher_hears_itself;
    /// 3.3.4 Every subscriber is served.
    delivery::every_subscriber_is_served;
    /// 3.3 One broker, three versions.
    delivery::messages_cross_versions;
}

/// 3.3 Properties are left out towards 3.x and nothing else changes.
#[test]
fn properties_are_left_out_towards_older_versions() {
    for older in [V31, V311] {
        let topic = unique_topic();
        let mut subscriber = Client::fresh(older);
        subscriber.must_subscribe(&topic, 1);
        let message = publish(topic.as_str(), "m")
            .qos(1, 1)
            .with(property::content_type("x"))
            .with(property::user("a", "b"));
        Client::fresh(V5).publish(&message);
        assert_eq!(subscriber.expect_message("m").topic, topic);
        Client::fresh(V5).publish(&message.retained());
        subscriber.expect_message("m");
        let mut late = Client::fresh(older);
        late.must_subscribe(&topic, 0);
        assert!(late.expect_message("m").retain);
    }
}
