//! A filter and a topic: see `quoll_fuzz::match_topic`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| quoll_fuzz::match_topic(data));
