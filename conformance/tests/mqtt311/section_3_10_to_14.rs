//! 3.10 UNSUBSCRIBE, 3.11 UNSUBACK, 3.12 PINGREQ, 3.13 PINGRESP, 3.14 DISCONNECT.
use super::*;

scenes! { V311,
    /// [MQTT-3.10.4-1]
    subscribe::unsubscribing_compares_character_by_character;
    /// [MQTT-3.10.4-1] [MQTT-3.10.4-2]
    subscribe::after_unsubscribing_nothing_new_comes;
    /// [MQTT-3.10.4-1]
    subscribe::unsubscribing_leaves_overlapping_subscriptions;
    /// [MQTT-3.10.4-3]
    resume::unsubscribing_ends_no_delivery_under_way;
    /// [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-2.3.1-7]
    subscribe::unsuback_answers_every_unsubscribe;
    /// [MQTT-3.10.4-6]
    subscribe::several_filters_are_unsubscribed_at_once;
    /// [MQTT-3.12.4-1]
    subscribe::pingreq_is_answered_by_pingresp;
    /// 3.14.4 The broker lets go.
    subscribe::nothing_behind_disconnect_is_processed;
    /// [MQTT-3.14.1-1]
    broken::a_broken_disconnect_does_not_forget_the_will;
}
