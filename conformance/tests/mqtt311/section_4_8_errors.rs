//! 4.8 Handling errors, with the forms of 2.2, 3.3, 3.6, 3.8, 3.10.
use super::*;

scenes! { V311,
    /// [MQTT-4.8.0-1] [MQTT-2.3.1-1] [MQTT-3.3.1-4] [MQTT-3.3.2-2] [MQTT-4.7.1-1] [MQTT-4.7.3-1]
    broken::a_broken_publish_ends_the_connection;
    /// [MQTT-3.3.1-2]
    broken::dup_on_qos_0_ends_the_connection;
    /// [MQTT-2.2.2-2]
    broken::a_broken_acknowledgement_ends_the_connection;
    /// [MQTT-3.6.1-1]
    broken::a_broken_pubrel_ends_the_connection;
    /// [MQTT-2.3.1-1] [MQTT-3.8.1-1] [MQTT-3.8.3-3] [MQTT-3.8.3-4]
    broken::a_broken_subscribe_ends_the_connection;
    /// [MQTT-2.3.1-1] [MQTT-3.10.1-1] [MQTT-3.10.3-2]
    broken::a_broken_unsubscribe_ends_the_connection;
    /// [MQTT-2.2.2-2]
    broken::a_broken_ping_or_disconnect_ends_the_connection;
    /// [MQTT-4.8.0-1]
    broken::a_foreign_packet_ends_the_connection;
    /// [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-3.3.2-1] [MQTT-3.8.3-1] [MQTT-3.10.3-1] [MQTT-4.7.3-2]
    broken::an_ill_formed_text_ends_the_connection;
    /// [MQTT-4.8.0-1]
    broken::no_broken_packet_has_another_effect;
    /// [MQTT-4.8.0-1]
    broken::nothing_behind_a_broken_packet_is_processed;
}
