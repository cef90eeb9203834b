//! 3.1.2 Will flag, will QoS, will retain.
use super::*;

scenes! { V311,
    /// [MQTT-3.1.2-8] [MQTT-3.1.2-10]
    will::a_broken_connection_publishes_the_will_once;
    /// [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.14.4-3]
    will::disconnect_forgets_the_will;
    /// [MQTT-3.1.2-8]
    will::a_protocol_error_publishes_the_will;
    /// [MQTT-3.1.2-8]
    will::a_takeover_publishes_the_will_of_the_earlier_connection;
    /// [MQTT-3.1.2-12]
    will::without_a_will_nothing_is_published;
    /// [MQTT-3.1.2-14]
    will::the_will_has_its_own_qos;
    /// [MQTT-3.1.2-16]
    will::a_will_without_retain_is_not_kept;
    /// [MQTT-3.1.2-17]
    will::a_will_with_retain_is_kept;
    /// [MQTT-3.1.2-9] Zero bytes are a will too.
    will::a_will_may_be_empty;
    /// [MQTT-3.1.2-8] [MQTT-3.1.2-5]
    will::a_will_waits_for_its_own_client;
}
