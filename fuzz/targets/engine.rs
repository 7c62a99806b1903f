//! `cargo +nightly fuzz run engine`: the property of src/engine.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringroad_fuzz::engine::check(data));
