//! MQTT 3.1.1, by chapter of the OASIS standard of 29 October 2014.

use conformance::prelude::*;
use conformance::scenes;

mod section_1_5_data;
mod section_2_2_fixed_header;
mod section_3_10_to_14;
mod section_3_1_connect;
mod section_3_1_will;
mod section_3_2_connack;
mod section_3_3_publish;
mod section_3_8_subscribe;
mod section_4_1_sessions;
mod section_4_3_delivery;
mod section_4_7_topics;
mod section_4_8_errors;
