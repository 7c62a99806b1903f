//! `cargo +nightly fuzz run options`: the property of src/options.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringroad_fuzz::options::check(data));
