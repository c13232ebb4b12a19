//! multipart/form-data against a naive decoder.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| soloist_fuzz::multipart(data));
