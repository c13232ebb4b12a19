//! What a handshake agrees on, against a list of all offers.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| soloist_fuzz::ws_offers(data));
