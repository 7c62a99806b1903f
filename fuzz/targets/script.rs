//! `cargo +nightly fuzz run script`: the property of src/script.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringroad_fuzz::script::check(data));
