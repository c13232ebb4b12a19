//! Heads against a naive parser.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| soloist_fuzz::head(data));
