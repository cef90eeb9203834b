//! Bytes that a peer sends: see `quoll_fuzz::decode_and_again`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| quoll_fuzz::decode_and_again(data));
