//! MQTT 5.0, by chapter of the OASIS standard of 7 March 2019.

use conformance::prelude::*;
use conformance::scenes;

mod section_1_5_data;
mod section_2_format;
mod section_3_10_unsubscribe;
mod section_3_14_disconnect;
mod section_3_15_auth;
mod section_3_1_connect;
mod section_3_1_properties;
mod section_3_1_will;
mod section_3_2_connack;
mod section_3_3_properties;
mod section_3_3_publish;
mod section_3_3_retain;
mod section_3_3_subscription_ids;
mod section_3_3_topic_alias;
mod section_3_4_acknowledgements;
mod section_3_8_subscribe;
mod section_4_13_errors;
mod section_4_1_sessions;
mod section_4_3_delivery;
mod section_4_7_topics;
mod section_4_8_shared;
mod section_4_9_flow_control;
