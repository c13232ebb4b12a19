//! Compressed messages against flate2.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| soloist_fuzz::ws_deflate(data));
