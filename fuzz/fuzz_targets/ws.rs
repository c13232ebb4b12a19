//! Frames of clients against tungstenite, and against what was put into them.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| soloist_fuzz::ws(data));
