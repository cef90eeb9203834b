//! 4.7 Topic names and topic filters.
use super::*;

scenes! { V5,
    /// [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1]
    topics::filters_of_wrong_form_are_refused;
    /// [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-4]
    topics::filters_match_as_the_table_says;
    /// [MQTT-4.7.2-1]
    topics::a_leading_wildcard_does_not_match_dollar_topics;
    /// 4.7.2 What names the `$` level matches.
    topics::a_filter_that_names_the_dollar_level_matches;
    /// [MQTT-4.7.3-3]
    topics::a_topic_of_65535_bytes_passes;
}
