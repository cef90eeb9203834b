//! What 3.1 has in common with its successors.
use super::*;

scenes! { V31,
    /// [3.1 §3.1 first]
    connect::the_first_packet_must_be_connect;
    /// [3.1 §3.1 once]
    connect::a_second_connect_ends_the_connection;
    /// [3.1 §3.1 client-id]
    connect::client_ids_of_letters_and_digits_are_allowed;
    /// [3.1 §3.1 client-id]
    connect::the_client_id_names_the_session;
    /// [3.1 §3.1 takeover]
    connect::a_client_with_the_same_id_takes_over;
    /// [3.1 §3.1 takeover]
    connect::a_takeover_keeps_the_session;
    /// [3.1 §3.2 connack]
    connect::packets_behind_connect_are_served_after_connack;
    /// [3.1 §3.1 clean]
    session::a_clean_start_forgets_the_session;
    /// [3.1 §3.1 clean]
    session::messages_wait_for_a_lasting_session;
    /// [3.1 §3.1 clean]
    session::a_clean_session_ends_with_its_connection;
    /// [3.1 §3.1 keep-alive]
    keep_alive::silence_ends_the_connection_at_one_and_a_half_times;
    /// [3.1 §3.1 keep-alive]
    keep_alive::keep_alive_zero_never_ends_the_connection;
    /// [3.1 §3.1 will]
    will::a_broken_connection_publishes_the_will_once;
    /// [3.1 §3.1 will] [3.1 §3.14 disconnect]
    will::disconnect_forgets_the_will;
    /// [3.1 §3.1 will]
    will::the_will_has_its_own_qos;
    /// [3.1 §3.1 will]
    will::a_will_with_retain_is_kept;
    /// [3.1 §3.1 will]
    will::a_will_without_retain_is_not_kept;
    /// [3.1 §2.1 retain]
    retained::a_retained_message_is_kept_with_its_qos;
    /// [3.1 §2.1 retain]
    retained::an_established_subscription_gets_it_without_retain;
    /// [3.1 §2.1 retain]
    retained::an_empty_payload_removes_the_retained_message;
    /// [3.1 §2.1 retain]
    retained::a_newer_retained_message_replaces_it;
    /// [3.1 §3.3 publish]
    publish::qos_0_is_delivered_without_an_answer;
    /// [3.1 §4.1 qos]
    publish::qos_1_is_answered_by_puback;
    /// [3.1 §4.1 qos]
    publish::qos_2_is_answered_by_pubrec_and_pubcomp;
    /// [3.1 §4.1 qos]
    publish::a_repeated_qos_2_message_is_delivered_once;
    /// [3.1 §4.1 qos]
    publish::dup_is_not_passed_on;
    /// [3.1 §3.3 publish]
    publish::payloads_pass_unaltered;
    /// [3.1 §2.1 length]
    publish::lengths_at_the_edges_of_the_length_field_pass;
    /// [3.1 §3.8 subscribe]
    delivery::the_lower_qos_of_publication_and_subscription_holds;
    /// [3.1 §3.8 subscribe]
    subscribe::suback_has_a_code_for_each_filter_in_order;
    /// [3.1 §3.8 subscribe]
    subscribe::subscribing_again_replaces_the_subscription;
    /// [3.1 §3.10 unsubscribe]
    subscribe::unsuback_answers_every_unsubscribe;
    /// [3.1 §3.10 unsubscribe]
    subscribe::after_unsubscribing_nothing_new_comes;
    /// [3.1 §3.12 ping]
    subscribe::pingreq_is_answered_by_pingresp;
    /// [3.1 §4.2 retry]
    resume::unacknowledged_messages_come_again_in_order_with_dup;
    /// [3.1 §4.2 retry]
    resume::pubrel_comes_again_instead_of_the_message;
    /// [3.1 §4.3 order]
    delivery::messages_arrive_in_order;
    /// [3.1 §A wildcards]
    topics::filters_match_as_the_table_says;
    /// [3.1 §A wildcards]
    topics::filters_of_wrong_form_are_refused;
    /// [3.1 §2.1 length]
    framing::several_packets_in_one_segment_are_all_served;
    /// [3.1 §2.1 length]
    framing::a_cut_at_every_byte_is_served;
    /// [3.1 §3.3 publish]
    delivery::messages_cross_versions;
}
