//! 3.3 PUBLISH.
use super::*;

scenes! { V311,
    /// [MQTT-3.3.1-1] [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-2.3.1-3]
    resume::unacknowledged_messages_come_again_in_order_with_dup;
    /// [MQTT-3.3.1-2] [MQTT-4.3.1-1]
    delivery::a_first_delivery_has_no_dup;
    /// [MQTT-3.3.1-3]
    publish::dup_is_not_passed_on;
    /// [MQTT-3.3.1-5]
    retained::a_retained_message_is_kept_with_its_qos;
    /// [MQTT-3.3.1-5] [MQTT-3.3.1-7]
    retained::a_newer_retained_message_replaces_it;
    /// [MQTT-3.3.1-6] [MQTT-3.3.1-8]
    retained::a_wildcard_subscription_gets_each_matching_one;
    /// [MQTT-3.3.1-6]
    retained::resuming_a_session_sends_no_retained_message;
    /// [MQTT-3.3.1-6]
    retained::its_qos_is_lowered_to_the_granted_one;
    /// [MQTT-3.3.1-9]
    retained::an_established_subscription_gets_it_without_retain;
    /// [MQTT-3.3.1-10]
    retained::an_empty_payload_removes_the_retained_message;
    /// [MQTT-3.3.1-11]
    retained::an_empty_retained_message_is_not_kept;
    /// [MQTT-3.3.1-12]
    retained::a_message_without_retain_changes_nothing;
    /// [MQTT-3.3.1-12]
    retained::a_message_without_retain_is_not_kept;
    /// [MQTT-3.3.2-3]
    topics::a_delivered_topic_matches_its_filter;
    /// [MQTT-3.3.4-1] [MQTT-3.3.5-2]
    publish::qos_0_is_delivered_without_an_answer;
    /// [MQTT-3.3.4-1] [MQTT-4.3.2-2] [MQTT-2.3.1-6]
    publish::qos_1_is_answered_by_puback;
    /// [MQTT-3.3.4-1] [MQTT-4.3.3-2] [MQTT-2.3.1-6]
    publish::qos_2_is_answered_by_pubrec_and_pubcomp;
    /// [MQTT-3.3.5-1]
    delivery::overlapping_subscriptions_respect_the_highest_qos;
    /// 3.3.3 The payload is the application's.
    publish::payloads_pass_unaltered;
    /// 3.3.5 Publishers may be subscribers.
    delivery::a_publisher_hears_itself;
    /// 3.3.5 Every subscriber is served.
    delivery::every_subscriber_is_served;
    /// 3.3 One broker, three versions.
    delivery::messages_cross_versions;
}
